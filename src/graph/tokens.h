/* The tokens that replicas of one model take in turns (HK-SYNC). */
#ifndef BLY_GRAPH_TOKENS_H
#define BLY_GRAPH_TOKENS_H

#include "graph/graph.h"

/* Adds an op that puts `count` tokens into `queue`, the name of its op; each is the global step as
 * it is when the op runs. *out_op belongs to the graph. FAILED_PRECONDITION on a finalised graph,
 * and on one without a global step. */
belay_code bly_graph_add_tokens(belay_graph *graph, const char *queue, int64_t count,
                                const char **out_op, belay_error *err);

#endif
