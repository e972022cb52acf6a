#ifndef BLY_CLUSTER_SERVER_H
#define BLY_CLUSTER_SERVER_H

#include "base/buf.h"

#include <belay/server.h>

/* The cluster of a server that serves in this process, found by its target; NULL where there is
 * none such. It is never freed. */
const belay_cluster_spec *bly_server_cluster(const char *target);

/* What a server is made of. */
typedef struct bly_server_plan {
    belay_cluster_spec *cluster;
    char *job_name;
    int32_t task_index;
    int port;    /* 0: the system chooses */
    bly_buf def; /* the ServerDef */
} bly_server_plan;

/* Reads the options, and finds everything that is wrong with them without TensorFlow, which aborts
 * the process over some of it. The caller cleans up, after an error too. */
belay_code bly_server_plan_make(bly_server_plan *plan, const belay_server_options *options,
                                belay_error *err);
void bly_server_plan_clean_up(bly_server_plan *plan);

#endif
