/* A scaffold as the session layer sees it: its pieces resolved. */
#ifndef BLY_SESSION_SCAFFOLD_H
#define BLY_SESSION_SCAFFOLD_H

#include "graph/graph.h"
#include "session/feed_list.h"

#include <belay/scaffold.h>

#include <stdatomic.h>

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
