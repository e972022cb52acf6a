/* Clusters, fuzzed: the first byte says what the rest is meant to be. Whatever is read must say
 * itself in a form that is read as the same again.
 *
 * With clang: -fsanitize=fuzzer,address. Without, replay.c gives it
 * tests/fuzz/corpus/cluster. */
#include "cluster/server.h"
#include "target.h"

#include <belay/cluster.h>

#include <stdlib.h>
#include <string.h>

/* What a program puts together may have empty or odd names, which no person can write. */
static void check_text(belay_cluster_spec *spec) {
    const char *text = belay_cluster_spec_text(spec, NULL);
    belay_cluster_spec *again = belay_cluster_spec_parse(text, NULL);
    if (belay_cluster_spec_job_count(spec) > 0 && !belay_cluster_spec_equal(spec, again))
        abort();
    belay_cluster_spec_free(again);
}

static void check_def(belay_cluster_spec *spec) {
    size_t size;
    const void *def = belay_cluster_spec_def(spec, &size, NULL);
    belay_cluster_spec *again = belay_cluster_spec_from_def(def, size, NULL);
    if (!belay_cluster_spec_equal(spec, again))
        abort();
    belay_cluster_spec_free(again);
}

static void run_spec(const char *text) {
    belay_cluster_spec *spec = belay_cluster_spec_parse(text, NULL);
    if (spec) {
        check_text(spec);
        check_def(spec);
    }
    belay_cluster_spec_free(spec);
}

static void run_tf_config(const char *text) {
    belay_tf_config *config = belay_tf_config_load(text, NULL);
    belay_tf_config_master(config, NULL, BELAY_NO_TASK, NULL, NULL);
    if (config) {
        belay_cluster_spec *spec = belay_cluster_spec_copy(belay_tf_config_cluster(config), NULL);
        check_text(spec);
        belay_cluster_spec_free(spec);
    }
    belay_tf_config_free(config);
}

static void run_server_def(const uint8_t *data, size_t size) {
    belay_server_options options = BELAY_SERVER_OPTIONS_INIT;
    bly_server_plan plan;
    options.server_def = data;
    options.server_def_size = size;
    if (bly_server_plan_make(&plan, &options, NULL) == BELAY_OK)
        check_text(plan.cluster);
    bly_server_plan_clean_up(&plan);
    belay_cluster_spec *spec = belay_cluster_spec_from_def(data, size, NULL);
    if (spec)
        check_def(spec);
    belay_cluster_spec_free(spec);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0)
        return 0;
    char *text = malloc(size);
    if (!text)
        return 0;
    memcpy(text, data + 1, size - 1);
    text[size - 1] = '\0';
    if (data[0] == 's')
        run_spec(text);
    else if (data[0] == 't')
        run_tf_config(text);
    else
        run_server_def(data + 1, size - 1);
    free(text);
    return 0;
}
