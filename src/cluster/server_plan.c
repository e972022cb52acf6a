/* From options to a ServerDef (CL-07 to CL-09). */
#include "base/error.h"
#include "base/mem.h"
#include "base/options.h"
#include "cluster/address.h"
#include "cluster/server.h"
#include "cluster/spec.h"
#include "wire/cluster.pb-c.h"
#include "wire/unpack.h"

#include <string.h>

_Static_assert(sizeof(belay_server_options) ==
                   offsetof(belay_server_options, config_size) + sizeof(size_t),
               "no tail padding");

#define PORT_MOST 65535

void bly_server_plan_clean_up(bly_server_plan *plan) {
    belay_cluster_spec_free(plan->cluster);
    bly_free(plan->job_name);
    bly_buf_free(&plan->def);
    memset(plan, 0, sizeof *plan);
}

/* CL-11 */
static belay_cluster_spec *local_cluster(belay_error *err) {
    static const char *const addresses[] = {"localhost:0", NULL};
    belay_cluster_spec *cluster = belay_cluster_spec_new();
    if (!cluster) {
        bly_fail_memory(err);
        return NULL;
    }
    if (belay_cluster_spec_add_job(cluster, "localhost", addresses, err) == BELAY_OK)
        return cluster;
    belay_cluster_spec_free(cluster);
    return NULL;
}

/* "Must specify an explicit `job_name`.", and what there is (CL-09). */
static belay_code must_specify(const char *what, const belay_cluster_spec *cluster,
                               belay_error *err) {
    bly_buf jobs = BLY_BUF_INIT;
    bly_cluster_put_jobs(cluster, &jobs);
    bly_fail(err, BELAY_INVALID_ARGUMENT, "Must specify an explicit `%s`; the cluster has %s", what,
             bly_buf_text(&jobs));
    bly_buf_free(&jobs);
    return BELAY_INVALID_ARGUMENT;
}

static belay_code choose_from_cluster(bly_server_plan *plan, const belay_server_options *options,
                                      belay_error *err) {
    const belay_cluster_spec *cluster = plan->cluster;
    const char *job_name = options->job_name;
    if (!job_name) {
        if (cluster->count != 1)
            return must_specify("job_name", cluster, err);
        job_name = cluster->jobs[0].name;
    }
    plan->job_name = bly_strdup(job_name);
    if (!plan->job_name)
        return bly_fail_memory(err);
    const struct bly_job *job = bly_cluster_job(cluster, job_name);
    if (options->task_index)
        plan->task_index = *options->task_index;
    else if (job && job->count != 1)
        return must_specify("task_index", cluster, err);
    else if (job)
        plan->task_index = job->tasks[0].index;
    return BELAY_OK;
}

/* CL-08: what is given wins over the ServerDef. */
static belay_code choose_from_def(bly_server_plan *plan, const belay_server_options *options,
                                  const Bly__ServerDef *def, belay_error *err) {
    BLY_LOCAL_ERROR(mine);
    plan->cluster = belay_cluster_spec_from_def(def->cluster.data, def->cluster.len, &mine);
    if (!plan->cluster) {
        bly_error_copy(err, &mine);
        return mine.code;
    }
    plan->job_name = bly_strdup(options->job_name ? options->job_name : def->job_name);
    plan->task_index = options->task_index ? *options->task_index : def->task_index;
    return plan->job_name ? BELAY_OK : bly_fail_memory(err);
}

static belay_code check(bly_server_plan *plan, const Bly__ServerDef *def, belay_error *err) {
    belay_code code = bly_cluster_check(plan->cluster, err);
    if (code != BELAY_OK)
        return code;
    const char *address =
        belay_cluster_spec_task_address(plan->cluster, plan->job_name, plan->task_index, err);
    if (!address)
        return BELAY_INVALID_ARGUMENT;
    if (def->replica < 0 || def->port < 0 || def->port > PORT_MOST)
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "server_def: its %s is %d",
                        def->replica < 0 ? "replica" : "port",
                        (int)(def->replica < 0 ? def->replica : def->port));
    bly_address_split(address, NULL, 0, &plan->port);
    if (def->port != 0)
        plan->port = def->port;
    return BELAY_OK;
}

/* `def` with what was chosen in place of what it had. Its own strings stay its own. */
static belay_code pack(bly_server_plan *plan, const belay_server_options *options,
                       const Bly__ServerDef *given, belay_error *err) {
    Bly__ServerDef def = *given;
    bly_buf config = BLY_BUF_INIT;
    belay_code code = BELAY_OK;
    const void *cluster = belay_cluster_spec_def(plan->cluster, &def.cluster.len, err);
    if (!cluster)
        return BELAY_RESOURCE_EXHAUSTED;
    def.cluster.data = (uint8_t *)(uintptr_t)cluster;
    def.job_name = plan->job_name;
    def.task_index = plan->task_index;
    if (options->protocol || !*def.protocol)
        def.protocol = (char *)(uintptr_t)(options->protocol ? options->protocol : "grpc");
    /* One message after another is both merged. */
    bly_buf_append(&config, def.default_session_config.data, def.default_session_config.len);
    bly_buf_append(&config, options->config, options->config_size);
    def.default_session_config = (ProtobufCBinaryData){config.len, (uint8_t *)config.data};
    size_t size = bly__server_def__get_packed_size(&def);
    char *to = config.failed ? NULL : bly_buf_reserve(&plan->def, size);
    if (to)
        plan->def.len = bly__server_def__pack(&def, (uint8_t *)to);
    else
        code = bly_fail_memory(err);
    bly_buf_free(&config);
    return code;
}

static belay_code make_from_def(bly_server_plan *plan, const belay_server_options *options,
                                belay_error *err) {
    belay_code code;
    Bly__ServerDef *def = bly_wire_unpack(&bly__server_def__descriptor, options->server_def,
                                          options->server_def_size, &code);
    if (!def)
        return code == BELAY_RESOURCE_EXHAUSTED
                   ? bly_fail_memory(err)
                   : bly_fail(err, BELAY_INVALID_ARGUMENT, "server_def is no ServerDef");
    code = choose_from_def(plan, options, def, err);
    if (code == BELAY_OK)
        code = check(plan, def, err);
    if (code == BELAY_OK)
        code = pack(plan, options, def, err);
    bly_wire_free(def);
    return code;
}

belay_code bly_server_plan_make(bly_server_plan *plan, const belay_server_options *given,
                                belay_error *err) {
    belay_server_options options;
    Bly__ServerDef def = BLY__SERVER_DEF__INIT;
    memset(plan, 0, sizeof *plan);
    belay_code code =
        bly_options_read(&options, sizeof options, given, "belay_server_options", err);
    if (code != BELAY_OK)
        return code;
    if (options.cluster && options.server_def)
        return bly_fail(err, BELAY_INVALID_ARGUMENT,
                        "cluster and server_def are both given; a ServerDef has a cluster in it");
    if (options.server_def)
        return make_from_def(plan, &options, err);
    plan->cluster =
        options.cluster ? belay_cluster_spec_copy(options.cluster, err) : local_cluster(err);
    if (!plan->cluster)
        return BELAY_RESOURCE_EXHAUSTED;
    code = choose_from_cluster(plan, &options, err);
    if (code == BELAY_OK)
        code = check(plan, &def, err);
    return code == BELAY_OK ? pack(plan, &options, &def, err) : code;
}

belay_code belay_server_check(const belay_server_options *options, belay_error *err) {
    bly_server_plan plan;
    belay_code code = bly_server_plan_make(&plan, options, err);
    bly_server_plan_clean_up(&plan);
    return code;
}
