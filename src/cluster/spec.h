/* A cluster specification within the library. */
#ifndef BLY_CLUSTER_SPEC_H
#define BLY_CLUSTER_SPEC_H

#include "base/buf.h"

#include <belay/cluster.h>

#include <stddef.h>
#include <stdint.h>

struct bly_task {
    int32_t index;
    char *address;
};

struct bly_job {
    char *name;
    struct bly_task *tasks; /* by index */
    size_t count, capacity;
};

struct belay_cluster_spec {
    struct bly_job *jobs; /* by name */
    size_t count, capacity;
    bly_buf text; /* what belay_cluster_spec_text() gave; empty: not made yet */
    bly_buf def;  /* the same of belay_cluster_spec_def() */
    int has_def;  /* an empty specification has an empty ClusterDef */
};

/* NULL where there is none. */
const struct bly_job *bly_cluster_job(const belay_cluster_spec *spec, const char *name);
const struct bly_task *bly_job_task(const struct bly_job *job, int32_t index);

/* How a job's tasks are told to a person: "tasks 0 to 2", "tasks 1, 3", "no tasks". */
void bly_job_put_tasks(const struct bly_job *job, bly_buf *out);
/* The same of the whole cluster: "ps with task 0, worker with tasks 0 to 2". */
void bly_cluster_put_jobs(const belay_cluster_spec *spec, bly_buf *out);

/* BELAY_OK, or INVALID_ARGUMENT: a name that no device can carry, an address that is no HOST:PORT,
 * or one that two tasks have. TensorFlow aborts the process over the first. */
belay_code bly_cluster_check(const belay_cluster_spec *spec, belay_error *err);

/* Adds the jobs of a JSON object (a json_t of jansson); `what` names it in messages. */
belay_code bly_cluster_add_json(belay_cluster_spec *spec, const void *object, const char *what,
                                belay_error *err);

#endif
