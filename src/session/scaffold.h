/* A scaffold as the session layer sees it: its pieces resolved. */
#ifndef BLY_SESSION_SCAFFOLD_H
#define BLY_SESSION_SCAFFOLD_H

#include "graph/graph.h"

#include <belay/scaffold.h>

#include <stdatomic.h>

/* Tensors to feed to an op, copied from a pair of lists. The tensors themselves are borrowed. */
typedef struct bly_feed_list {
    char **names; /* ends in NULL; NULL: none */
    belay_tensor **inputs;
} bly_feed_list;

struct belay_scaffold {
    atomic_int references;
    belay_graph *graph;
    int finalized;
    char *init_op;
    char *ready_op;
    char *ready_for_local_init_op;
    char *local_init_op;
    char *summary_op;
    bly_feed_list init_feeds;
    bly_feed_list local_init_feeds;
    belay_init_fn init_fn;
    void *init_self;
    belay_saver *saver;
};

belay_scaffold *bly_scaffold_ref(belay_scaffold *scaffold);

#endif
