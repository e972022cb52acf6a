/* A graph's GraphDef as it is now. */
#ifndef BLY_GRAPH_GRAPH_DEF_H
#define BLY_GRAPH_GRAPH_DEF_H

#include "base/buf.h"
#include "graph/graph.h"

/* Appends the serialised GraphDef with each node's inferred shapes in its attribute
 * `_output_shapes` (MG-03), as Python exports it. TensorFlow's importer takes them out again, and
 * infers anew. */
belay_code bly_graph_def(const belay_graph *graph, bly_buf *out, belay_error *err);

/* Appends a GraphDef with the device of every node left out (MG-28). What is broken in it is
 * TensorFlow's to find. */
void bly_graph_def_clear_devices(const uint8_t *data, size_t len, bly_buf *out);

#endif
