#ifndef BLY_GRAPH_SERIALIZE_H
#define BLY_GRAPH_SERIALIZE_H

#include "base/buf.h"
#include "graph/graph.h"

/* The graph as it is now, ops that belay added included, as a serialised MetaGraphDef that
 * TensorFlow imports (MG-01). `saver` becomes its saver_def; NULL: the one that it was loaded with.
 * Fields that belay does not know are kept. */
belay_code bly_graph_serialize(const belay_graph *graph, const Bly__SaverDef *saver, bly_buf *out,
                               belay_error *err);

/* Packs a meta graph around a GraphDef: in `meta` only that is missing. INVALID_ARGUMENT beyond 2
 * GB (MG-30). */
belay_code bly_graph_pack_meta(const belay_graph *graph, const Bly__MetaGraphDef *meta,
                               const bly_buf *graph_def, bly_buf *out, belay_error *err);

/* The same as bly_graph_serialize() around a GraphDef that was made before (bly_graph_def()). */
belay_code bly_graph_serialize_around(const belay_graph *graph, const bly_buf *graph_def,
                                      const Bly__SaverDef *saver, bly_buf *out, belay_error *err);

#endif
