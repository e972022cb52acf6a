/* A scalar local variable that a hook keeps beside the model: how many evaluations are done, how
 * many steps a run does (HK-EVAL-03, HK-MSTOP-02). */
#ifndef BLY_GRAPH_COUNTER_H
#define BLY_GRAPH_COUNTER_H

#include "graph/graph.h"

/* Names of ops, which belong to the graph. */
typedef struct bly_counter {
    const char *init;  /* sets it to its first value; NULL: the graph has it, and initialises it */
    const char *value; /* to be fed with what `assign` sets it to */
    const char *assign;
    const char *next; /* adds one, and gives what it is then */
} bly_counter;

/* The only member of a collection, or a variable `name` where it has none. Several: `several_code`.
 * FAILED_PRECONDITION on a finalised graph. */
belay_code bly_graph_counter(belay_graph *graph, const char *collection, const char *name,
                             belay_dtype dtype, int64_t first, belay_code several_code,
                             bly_counter *out, belay_error *err);

#endif
