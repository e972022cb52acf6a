/* What one run asks for, resolved from names once: feeds, fetches and targets as the runtime takes
 * them. */
#ifndef BLY_SESSION_REQUEST_H
#define BLY_SESSION_REQUEST_H

#include "graph/graph.h"

#include <belay/tensor.h>

/* What a feed must look like (SE-27). */
typedef struct bly_feed {
    char *name;
    belay_dtype dtype;
    int rank; /* -1: unknown */
    int64_t *dims;
} bly_feed;

typedef struct bly_request {
    const belay_graph *graph;
    size_t feed_count;
    bly_feed *feeds;
    TF_Output *inputs; /* feed_count */
    size_t fetch_count;
    /* Where the value of fetch i comes from: source[i] >= 0: outputs[source[i]]; else it is fed
     * itself, as feed number -1 - source[i] (SE-21). */
    int32_t *source;
    TF_Output *outputs; /* output_count: each once, none that is fed (SE-19) */
    size_t output_count;
    const TF_Operation **targets;
    size_t target_count;
} bly_request;

/* Any of the name lists may be NULL; each ends in NULL. On error the request is left empty. */
belay_code bly_request_make(bly_request *request, const belay_graph *graph,
                            const char *const *feeds, const char *const *fetches,
                            const char *const *targets, belay_error *err);
void bly_request_clean_up(bly_request *request);

/* Compares what is about to be fed with what the graph declares. */
belay_code bly_request_check_inputs(const bly_request *request, belay_tensor *const *inputs,
                                    belay_error *err);

/* Makes fetched values independent of the graph, where some may be the live buffers of reference
 * variables (BUG-73): before anything else runs, hooks included. */
belay_code bly_detach_values(const belay_graph *graph, TF_Tensor **values, size_t count,
                             belay_error *err);

/* Hands the fetched values out: those of `values` (output_count of them) that are become NULL, and
 * the caller deletes the others. `inputs` is needed for fetches that are fed. */
belay_code bly_request_deliver(const bly_request *request, belay_tensor *const *inputs,
                               TF_Tensor **values, belay_tensor **outputs, belay_error *err);

int bly_same_output(TF_Output a, TF_Output b);

#endif
