/* TF_CONFIG, as TensorFlow, Kubeflow and others write it. */
#include "base/error.h"
#include "base/locale.h"
#include "base/mem.h"
#include "cluster/spec.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

struct belay_tf_config {
    belay_cluster_spec *cluster;
    char *task_type; /* these may be NULL */
    int32_t task_index;
    char *rpc_layer;
    char *environment;
    char *session_master;
    bly_buf master; /* what belay_tf_config_master() gave */
};

void belay_tf_config_free(belay_tf_config *config) {
    if (!config)
        return;
    belay_cluster_spec_free(config->cluster);
    bly_free(config->task_type);
    bly_free(config->rpc_layer);
    bly_free(config->environment);
    bly_free(config->session_master);
    bly_buf_free(&config->master);
    bly_free(config);
}

/* A member that is a string; absent or null: *out stays NULL. */
static belay_code read_text(const json_t *object, const char *key, const char *what, char **out,
                            belay_error *err) {
    const json_t *value = json_object_get(object, key);
    if (!value || json_is_null(value))
        return BELAY_OK;
    if (!json_is_string(value))
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "%s is not a string", what);
    *out = bly_strdup(json_string_value(value));
    return *out ? BELAY_OK : bly_fail_memory(err);
}

/* A number, or a string of digits. */
static belay_code read_index(const json_t *task, int32_t *out, belay_error *err) {
    const json_t *value = json_object_get(task, "index");
    const char *text = json_string_value(value);
    json_int_t index = -1;
    char *end = NULL;
    if (!value || json_is_null(value))
        return BELAY_OK;
    if (json_is_integer(value))
        index = json_integer_value(value);
    else if (text && *text >= '0' && *text <= '9')
        index = strtoll(text, &end, 10);
    if (index < 0 || index > INT32_MAX || (end && *end))
        return bly_fail(err, BELAY_INVALID_ARGUMENT,
                        "the index of the task is not a whole number, 0 or more");
    *out = (int32_t)index;
    return BELAY_OK;
}

static belay_code read_task(belay_tf_config *config, const json_t *object, belay_error *err) {
    const json_t *task = json_object_get(object, "task");
    if (!task || json_is_null(task))
        return BELAY_OK;
    if (!json_is_object(task))
        return bly_fail(err, BELAY_INVALID_ARGUMENT,
                        "\"task\" is not an object with \"type\" and \"index\"");
    belay_code code = read_text(task, "type", "the type of the task", &config->task_type, err);
    return code == BELAY_OK ? read_index(task, &config->task_index, err) : code;
}

static size_t count_tasks(const belay_cluster_spec *cluster, const char *job) {
    const struct bly_job *found = bly_cluster_job(cluster, job);
    return found ? found->count : 0;
}

/* One of a kind: TensorFlow's rule for its task types. */
static belay_code check_roles(const belay_cluster_spec *cluster, belay_error *err) {
    size_t chiefs = count_tasks(cluster, "chief"), masters = count_tasks(cluster, "master");
    if (chiefs && masters)
        return bly_fail(err, BELAY_INVALID_ARGUMENT,
                        "the cluster has a chief and a master, which are two words for one task");
    if (chiefs + masters > 1)
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "the cluster has %zu chiefs, and can have one",
                        chiefs + masters);
    if (count_tasks(cluster, "evaluator") > 1)
        return bly_fail(err, BELAY_INVALID_ARGUMENT,
                        "the cluster has %zu evaluators, and can have "
                        "one",
                        count_tasks(cluster, "evaluator"));
    return BELAY_OK;
}

/* An evaluator stands outside the cluster. */
static belay_code check_task(const belay_tf_config *config, belay_error *err) {
    const char *type = config->task_type;
    if (!type || config->cluster->count == 0)
        return BELAY_OK;
    if (!bly_cluster_job(config->cluster, type) && strcmp(type, "evaluator") == 0)
        return BELAY_OK;
    BLY_LOCAL_ERROR(mine);
    size_t count;
    belay_code code = belay_cluster_spec_num_tasks(config->cluster, type, &count, &mine);
    if (code == BELAY_OK && config->task_index != BELAY_NO_TASK &&
        !belay_cluster_spec_task_address(config->cluster, type, config->task_index, &mine))
        code = mine.code;
    if (code != BELAY_OK)
        bly_fail(err, code, "the task is not in the cluster: %s", mine.message);
    return code;
}

static belay_code read_object(belay_tf_config *config, const json_t *object, belay_error *err) {
    if (!json_is_object(object))
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "it is not a JSON object");
    belay_code code = BELAY_OK;
    const json_t *cluster = json_object_get(object, "cluster");
    if (cluster)
        code = bly_cluster_add_json(config->cluster, cluster, "\"cluster\"", err);
    if (code == BELAY_OK)
        code = bly_cluster_check(config->cluster, err);
    if (code == BELAY_OK)
        code = check_roles(config->cluster, err);
    if (code == BELAY_OK)
        code = read_task(config, object, err);
    if (code == BELAY_OK)
        code = read_text(object, "rpc_layer", "\"rpc_layer\"", &config->rpc_layer, err);
    if (code == BELAY_OK)
        code = read_text(object, "environment", "\"environment\"", &config->environment, err);
    if (code == BELAY_OK)
        code =
            read_text(object, "session_master", "\"session_master\"", &config->session_master, err);
    return code == BELAY_OK ? check_task(config, err) : code;
}

static belay_code parse(belay_tf_config *config, const char *text, belay_error *err) {
    json_error_t wrong;
    if (text[strspn(text, " \t\r\n")] == '\0')
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "it is set, and empty");
    bly_locale was = bly_locale_plain();
    json_t *object = json_loads(text, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &wrong);
    bly_locale_restore(was);
    if (!object && json_error_code(&wrong) == json_error_out_of_memory)
        return bly_fail_memory(err);
    if (!object)
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "it is not JSON: line %d, column %d: %s",
                        wrong.line, wrong.column, wrong.text);
    belay_code code = read_object(config, object, err);
    json_decref(object);
    return code;
}

belay_tf_config *belay_tf_config_load(const char *text, belay_error *err) {
    const char *given = text ? text : getenv("TF_CONFIG");
    belay_tf_config *config = bly_calloc(1, sizeof *config);
    if (config) {
        config->task_index = BELAY_NO_TASK;
        config->cluster = belay_cluster_spec_new();
    }
    if (!config || !config->cluster) {
        bly_fail_memory(err);
        belay_tf_config_free(config);
        return NULL;
    }
    belay_code code = parse(config, given ? given : "{}", err);
    if (code == BELAY_OK)
        return config;
    if (code != BELAY_RESOURCE_EXHAUSTED)
        bly_error_prefix(err, "TF_CONFIG: ");
    belay_tf_config_free(config);
    return NULL;
}

const belay_cluster_spec *belay_tf_config_cluster(const belay_tf_config *config) {
    return config ? config->cluster : NULL;
}

const char *belay_tf_config_task_type(const belay_tf_config *config) {
    return config ? config->task_type : NULL;
}

int32_t belay_tf_config_task_index(const belay_tf_config *config) {
    return config ? config->task_index : BELAY_NO_TASK;
}

const char *belay_tf_config_rpc_layer(const belay_tf_config *config) {
    return config ? config->rpc_layer : NULL;
}

const char *belay_tf_config_environment(const belay_tf_config *config) {
    return config ? config->environment : NULL;
}

const char *belay_tf_config_session_master(const belay_tf_config *config) {
    return config ? config->session_master : NULL;
}

/* One task alone, and its index is 0: a map that names one task of several stands for a cluster. */
static int is_alone(const belay_cluster_spec *cluster) {
    return cluster->count == 0 || (cluster->count == 1 && cluster->jobs[0].count == 1 &&
                                   cluster->jobs[0].tasks[0].index == 0);
}

const char *belay_tf_config_master(belay_tf_config *config, const char *task_type,
                                   int32_t task_index, const char *rpc_layer, belay_error *err) {
    if (!config) {
        if (belay_error_code(err) == BELAY_OK)
            bly_fail(err, BELAY_INVALID_ARGUMENT, "config is NULL");
        return NULL;
    }
    if (config->session_master)
        return config->session_master;
    if (is_alone(config->cluster))
        return "";
    const char *type = task_type ? task_type : config->task_type;
    int32_t index = task_index != BELAY_NO_TASK ? task_index : config->task_index;
    const char *layer = rpc_layer ? rpc_layer : config->rpc_layer;
    if (!type || index == BELAY_NO_TASK) {
        bly_fail(err, BELAY_INVALID_ARGUMENT, "TF_CONFIG: the %s of the task is not given",
                 type ? "index" : "type");
        return NULL;
    }
    const char *address = belay_cluster_spec_task_address(config->cluster, type, index, err);
    if (!address)
        return NULL;
    bly_buf_free(&config->master);
    bly_buf_printf(&config->master, "%s%s%s", layer ? layer : "", layer && *layer ? "://" : "",
                   address);
    if (!config->master.failed)
        return config->master.data;
    bly_fail_memory(err);
    return NULL;
}
