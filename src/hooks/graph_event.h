/* The graph in an event file, for TensorBoard to draw. */
#ifndef BLY_HOOKS_GRAPH_EVENT_H
#define BLY_HOOKS_GRAPH_EVENT_H

#include <belay/graph.h>
#include <belay/summary.h>

/* Adds the graph and its meta graph, unless the writer's file has them already (BUG-51). A graph
 * that is too large to be one event is left out with a warning: it is only a picture. */
belay_code bly_add_graph_event(belay_summary_writer *writer, const belay_graph *graph,
                               belay_error *err);

#endif
