/* Servers of the scripted runtime, and the calls that it only has so that the table is whole. */
#include "scripted_impl.h"

#include "wire/cluster.pb-c.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct TF_Server {
    char target[300];
};

/* The address of the server's own task; 0 where the cluster has none. */
static int own_address(const Bly__ServerDef *def, char *out, size_t room) {
    Bly__ClusterDef *cluster = bly__cluster_def__unpack(NULL, def->cluster.len, def->cluster.data);
    int found = 0;
    for (size_t i = 0; cluster && i < cluster->n_job; i++) {
        const Bly__JobDef *job = cluster->job[i];
        for (size_t t = 0; strcmp(job->name, def->job_name) == 0 && t < job->n_tasks; t++)
            if (job->tasks[t]->key == def->task_index)
                found = snprintf(out, room, "grpc://%s", job->tasks[t]->value) > 0;
    }
    if (cluster)
        bly__cluster_def__free_unpacked(cluster, NULL);
    return found;
}

TF_Server *scripted_NewServer(const void *proto, size_t len, TF_Status *status) {
    struct scripted_run run = {.deadline_us = INT64_MAX};
    Bly__ServerDef *def = bly__server_def__unpack(NULL, len, proto);
    TF_Server *server = scripted_zalloc(sizeof *server);
    bly_mutex_lock(&scripted_lock);
    if (!def)
        scripted_fail_run(&run, BELAY_INVALID_ARGUMENT,
                          "Could not parse provided bytes into a ServerDef protocol buffer");
    else if (!own_address(def, server->target, sizeof server->target))
        scripted_fail_run(&run, BELAY_INTERNAL, "Task %d was not defined in job \"%s\"",
                          def->task_index, def->job_name);
    else
        scripted_rules_locked(&run, "TF_NewServer", NULL, NULL);
    bly_mutex_unlock(&scripted_lock);
    if (def)
        bly__server_def__free_unpacked(def, NULL);
    scripted_SetStatus(status, (TF_Code)run.code, run.message);
    if (run.code == BELAY_OK)
        return server;
    free(server);
    return NULL;
}

void scripted_ServerStart(TF_Server *server, TF_Status *status) {
    struct scripted_run run = {.deadline_us = INT64_MAX};
    (void)server;
    bly_mutex_lock(&scripted_lock);
    scripted_rules_locked(&run, "TF_ServerStart", NULL, NULL);
    bly_mutex_unlock(&scripted_lock);
    scripted_SetStatus(status, (TF_Code)run.code, run.message);
}

const char *scripted_ServerTarget(TF_Server *server) {
    return server->target;
}

void scripted_DeleteServer(TF_Server *server) {
    scripted_called("TF_DeleteServer");
    free(server);
}

/* ---- only there ---- */

static void unimplemented(const char *what, TF_Status *status) {
    scripted_called(what);
    scripted_SetStatus(status, TF_UNIMPLEMENTED, "the scripted runtime has no such call");
}

void scripted_SessionPRunSetup(TF_Session *session, const TF_Output *inputs, int ninputs,
                               const TF_Output *outputs, int noutputs,
                               const TF_Operation *const *targets, int ntargets,
                               const char **handle, TF_Status *status) {
    (void)session, (void)inputs, (void)ninputs, (void)outputs, (void)noutputs;
    (void)targets, (void)ntargets;
    *handle = NULL;
    unimplemented("TF_SessionPRunSetup", status);
}

void scripted_SessionPRun(TF_Session *session, const char *handle, const TF_Output *inputs,
                          TF_Tensor *const *values, int ninputs, const TF_Output *outputs,
                          TF_Tensor **output_values, int noutputs,
                          const TF_Operation *const *targets, int ntargets, TF_Status *status) {
    (void)session, (void)handle, (void)inputs, (void)values, (void)ninputs, (void)outputs;
    (void)output_values, (void)noutputs, (void)targets, (void)ntargets;
    unimplemented("TF_SessionPRun", status);
}

void scripted_DeletePRunHandle(const char *handle) {
    (void)handle;
    scripted_called("TF_DeletePRunHandle");
}

void scripted_Reset(const TF_SessionOptions *options, const char **containers, int count,
                    TF_Status *status) {
    (void)options, (void)containers, (void)count;
    unimplemented("TF_Reset", status);
}

const char *scripted_DeviceListType(const TF_DeviceList *list, int index, TF_Status *status) {
    (void)list;
    scripted_SetStatus(status, index == 0 ? TF_OK : TF_INVALID_ARGUMENT, "");
    return index == 0 ? "CPU" : NULL;
}

int64_t scripted_DeviceListMemoryBytes(const TF_DeviceList *list, int index, TF_Status *status) {
    (void)list;
    scripted_SetStatus(status, index == 0 ? TF_OK : TF_INVALID_ARGUMENT, "");
    return index == 0 ? INT64_C(1) << 28 : -1;
}

uint64_t scripted_DeviceListIncarnation(const TF_DeviceList *list, int index, TF_Status *status) {
    (void)list;
    scripted_SetStatus(status, index == 0 ? TF_OK : TF_INVALID_ARGUMENT, "");
    return index == 0 ? 1 : 0;
}
