/* Walking a graph backwards: what a run executes. */
#ifndef BLY_GRAPH_WALK_H
#define BLY_GRAPH_WALK_H

#include "graph/graph.h"

/* A set of operations. Start from BLY_OP_SET_INIT. */
typedef struct bly_op_set {
    TF_Operation **slots;
    size_t count;
    size_t capacity; /* a power of two, or 0 */
} bly_op_set;

#define BLY_OP_SET_INIT                                                                            \
    { NULL, 0, 0 }

int bly_op_set_has(const bly_op_set *set, const TF_Operation *op);
/* 1 where `op` is new, 0 where it was there, -1 when memory is out. */
int bly_op_set_add(bly_op_set *set, TF_Operation *op);
void bly_op_set_free(bly_op_set *set);

/* Adds `roots` and all that they need, directly or not, to `out`. What only a fed tensor needs is
 * left out. `stop` (NULL: never) says which ops are added without going on to what they need. */
belay_code bly_graph_walk_back(const belay_graph *graph, TF_Operation *const *roots, size_t count,
                               const TF_Output *feeds, size_t feed_count,
                               int (*stop)(const belay_graph *graph, const TF_Operation *op),
                               bly_op_set *out, belay_error *err);

#endif
