#ifndef BLY_GRAPH_EXPORT_META_H
#define BLY_GRAPH_EXPORT_META_H

#include "graph/graph.h"

/* belay_graph_export_meta_graph(), with the saver that the file is to name; NULL: the graph's own.
 */
belay_code bly_graph_export_meta(const belay_graph *graph, const Bly__SaverDef *saver,
                                 const char *path, const belay_meta_graph_options *options,
                                 belay_error *err);

#endif
