#include "cluster/server.h"

#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/thread.h"
#include "cluster/address.h"
#include "cluster/spec.h"
#include "runtime/runtime.h"

#include <string.h>

struct belay_server {
    belay_server *next;
    const bly_runtime *rt;
    TF_Server *tf;
    bly_server_plan plan;
    char *target;
    int serving; /* guarded by lock */
};

static bly_mutex lock = PTHREAD_MUTEX_INITIALIZER;
static belay_server *servers; /* those that serve, for ever; guarded by lock */

const belay_cluster_spec *bly_server_cluster(const char *target) {
    bly_mutex_lock(&lock);
    const belay_server *server = servers;
    while (server && strcmp(server->target, target) != 0)
        server = server->next;
    bly_mutex_unlock(&lock);
    return server ? server->plan.cluster : NULL;
}

/* TensorFlow only says that these bytes are no ServerDef. */
static belay_code check_config(const bly_runtime *rt, const belay_server_options *options,
                               belay_error *err) {
    TF_SessionOptions *holder = rt->NewSessionOptions();
    TF_Status *status = rt->NewStatus();
    rt->SetConfig(holder, options->config, options->config_size, status);
    belay_code code = bly_runtime_finish(rt, status, err);
    if (code != BELAY_OK)
        bly_error_prefix(err, "config: ");
    rt->DeleteSessionOptions(holder);
    return code;
}

static belay_code port_of(const bly_server_plan *plan, belay_error *err) {
    belay_code code = bly_port_check(plan->port, err);
    if (code != BELAY_OK)
        bly_error_prefix(err, "job %s task %d: ", plan->job_name, (int)plan->task_index);
    return code;
}

static belay_code make(belay_server *server, const belay_server_options *options,
                       belay_error *err) {
    const bly_runtime *rt = server->rt;
    bly_server_plan *plan = &server->plan;
    /* Looked at first, since gRPC complains at length on standard error; and again where that was
     * too early. */
    belay_code code = port_of(plan, err);
    if (code == BELAY_OK && options && options->config)
        code = check_config(rt, options, err);
    if (code != BELAY_OK)
        return code;
    TF_Status *status = rt->NewStatus();
    server->tf = rt->NewServer(plan->def.data, plan->def.len, status);
    code = bly_runtime_finish(rt, status, err);
    if (code == BELAY_UNKNOWN && port_of(plan, NULL) != BELAY_OK)
        return port_of(plan, err);
    if (code != BELAY_OK)
        return code;
    server->target = bly_strdup(rt->ServerTarget(server->tf));
    return server->target ? BELAY_OK : bly_fail_memory(err);
}

belay_server *belay_server_prepare(const belay_server_options *options, belay_error *err) {
    belay_server *server = bly_calloc(1, sizeof *server);
    if (!server) {
        bly_fail_memory(err);
        return NULL;
    }
    belay_code code = bly_server_plan_make(&server->plan, options, err);
    if (code == BELAY_OK) {
        server->rt = bly_runtime_get(err);
        code = server->rt ? make(server, options, err) : BELAY_NOT_FOUND;
    }
    if (code == BELAY_OK)
        return server;
    belay_server_free(server);
    return NULL;
}

belay_code belay_server_begin(belay_server *server, belay_error *err) {
    if (!server)
        return belay_error_code(err) ? belay_error_code(err)
                                     : bly_fail(err, BELAY_INVALID_ARGUMENT, "server is NULL");
    bly_mutex_lock(&lock);
    int serving = server->serving;
    server->serving = 1;
    bly_mutex_unlock(&lock);
    if (serving)
        return BELAY_OK;
    TF_Status *status = server->rt->NewStatus();
    server->rt->ServerStart(server->tf, status);
    belay_code code = bly_runtime_finish(server->rt, status, err);
    bly_mutex_lock(&lock);
    server->serving = code == BELAY_OK;
    if (code == BELAY_OK) {
        server->next = servers;
        servers = server;
    }
    bly_mutex_unlock(&lock);
    return code;
}

belay_server *belay_server_start(const belay_server_options *options, belay_error *err) {
    belay_server *server = belay_server_prepare(options, err);
    if (!server || belay_server_begin(server, err) == BELAY_OK)
        return server;
    belay_server_free(server);
    return NULL;
}

const char *belay_server_target(const belay_server *server) {
    return server ? server->target : "";
}

const char *belay_server_job_name(const belay_server *server) {
    return server ? server->plan.job_name : "";
}

int32_t belay_server_task_index(const belay_server *server) {
    return server ? server->plan.task_index : BELAY_NO_TASK;
}

const void *belay_server_def(const belay_server *server, size_t *out_size) {
    if (out_size)
        *out_size = server ? server->plan.def.len : 0;
    return server ? server->plan.def.data : NULL;
}

/* TF_DeleteServer aborts the process where the server serves: "Clean shutdown is not currently
 * implemented" (2.21). So that one stays. */
void belay_server_free(belay_server *server) {
    if (!server)
        return;
    bly_mutex_lock(&lock);
    int serving = server->serving;
    bly_mutex_unlock(&lock);
    if (serving)
        return;
    if (server->tf)
        server->rt->DeleteServer(server->tf);
    bly_server_plan_clean_up(&server->plan);
    bly_free(server->target);
    bly_free(server);
}
