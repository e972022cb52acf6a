/* The name scopes of savers that a meta graph is written without (MG-29). */
#ifndef BLY_GRAPH_SAVER_SCOPES_H
#define BLY_GRAPH_SAVER_SCOPES_H

#include "base/buf.h"
#include "graph/graph.h"

typedef struct bly_saver_scopes {
    char **names; /* each with its last slash */
    size_t count;
    size_t capacity;
} bly_saver_scopes;

#define BLY_SAVER_SCOPES_INIT                                                                      \
    { NULL, 0, 0 }

/* Scopes in which a GraphDef has ops that save or restore, but for those of `kept` (NULL: none is
 * kept). */
belay_code bly_saver_scopes_find(const bly_buf *graph_def, const Bly__SaverDef *kept,
                                 bly_saver_scopes *out, belay_error *err);
void bly_saver_scopes_free(bly_saver_scopes *scopes);

/* 1 where an op or tensor of this name is in one of the scopes. */
int bly_saver_scopes_have(const bly_saver_scopes *scopes, const char *name, size_t len);

/* Appends the GraphDef without the nodes in them. */
void bly_saver_scopes_drop(const bly_saver_scopes *scopes, const bly_buf *graph_def, bly_buf *out);

#endif
