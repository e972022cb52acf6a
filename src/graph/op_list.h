#ifndef BLY_GRAPH_OP_LIST_H
#define BLY_GRAPH_OP_LIST_H

#include "base/buf.h"
#include "graph/graph.h"

/* Appends `known`, a serialised OpList, and the definitions of those op types of the graph that it
 * lacks, sorted by name (MG-02): an importer that is older or newer tells by them which attributes
 * are defaults. Types that TensorFlow does not list are left out. */
belay_code bly_op_list_complete(const belay_graph *graph, const ProtobufCBinaryData *known,
                                bly_buf *out, belay_error *err);

#endif
