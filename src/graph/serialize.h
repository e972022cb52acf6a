#ifndef BLY_GRAPH_SERIALIZE_H
#define BLY_GRAPH_SERIALIZE_H

#include "base/buf.h"
#include "graph/graph.h"

/* The graph as it is now, ops that belay added included, as a serialised MetaGraphDef that
 * TensorFlow imports (MG-01). `saver` becomes its saver_def; NULL: the one that it was loaded with.
 * Fields that belay does not know are kept. */
belay_code bly_graph_serialize(const belay_graph *graph, const Bly__SaverDef *saver, bly_buf *out,
                               belay_error *err);

#endif
