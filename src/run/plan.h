/* Which part of a graph is the step, or the evaluation: what is run, what is fetched, what is fed.
 */
#ifndef BLY_RUN_PLAN_H
#define BLY_RUN_PLAN_H

#include "base/buf.h"
#include "graph/graph.h"
#include "run/names.h"

/* What somebody asked for. Everything may be NULL. */
typedef struct bly_plan_request {
    const char *signature;
    const char *default_signature; /* used where the graph has it and `signature` is NULL */
    const char *train_op;
    const char *loss;
    const char *const *fetches;
    const char *const *feeds;
    int trains;    /* a step is wanted: train op or signature, and a loss */
    int summaries; /* the graph's summaries are fetched now and then: what they need must be fed too
                    */
} bly_plan_request;

/* Something that is fed, as the graph declares it. */
typedef struct bly_plan_feed {
    char *tensor; /* "x:0" */
    belay_dtype dtype;
    int32_t rank; /* -1: unknown */
    int64_t *dims;
} bly_plan_feed;

typedef struct bly_plan {
    char *signature;   /* NULL: none */
    bly_names targets; /* ops to run beside what is fetched */
    bly_names names;   /* what is fetched, by the name it was asked for */
    bly_names tensors; /* the same as tensors of the graph */
    bly_names after;   /* ops that a step must have run to count */
    size_t loss;       /* index in `names`, or BLY_NAMES_NONE */
    bly_names feed_names;
    bly_plan_feed *feeds; /* one for each of feed_names */
} bly_plan;

#define BLY_PLAN_INIT                                                                              \
    {                                                                                              \
        NULL, BLY_NAMES_INIT, BLY_NAMES_INIT, BLY_NAMES_INIT, BLY_NAMES_INIT, BLY_NAMES_NONE,      \
            BLY_NAMES_INIT, NULL                                                                   \
    }

/* Resolves a request against a graph. The caller frees `out` after an error as well.
 *   NOT_FOUND            no such signature, op or tensor; the nearest is named
 *   INVALID_ARGUMENT     something that is needed is not fed; fed twice; a loss that is no scalar
 *   FAILED_PRECONDITION  the graph does not say what a step is */
belay_code bly_plan_make(belay_graph *graph, const bly_plan_request *request, bly_plan *out,
                         belay_error *err);
void bly_plan_free(bly_plan *plan);

/* "float32 [?,64]" into text. */
void bly_describe_tensor(belay_dtype dtype, int32_t rank, const int64_t *dims, bly_buf *out);

/* The graph of a run. To TensorFlow an empty file is an empty graph; nobody wants to train one. */
belay_graph *bly_run_load(const char *path, belay_error *err);

#endif
