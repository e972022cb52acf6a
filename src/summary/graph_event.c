/* A graph in an event file, for TensorBoard to draw. */
#include "base/error.h"
#include "base/log.h"
#include "graph/graph_def.h"
#include "graph/serialize.h"
#include "summary/writer.h"
#include "summary/writer_impl.h"

/* By the graph itself: its bytes come out in another order each time (they hold maps), and belay
 * adds ops of its own while it trains. */
static int is_there(belay_summary_writer *writer, const belay_graph *graph) {
    bly_mutex_lock(&writer->lock);
    int same = writer->graph_id == graph->id;
    bly_mutex_unlock(&writer->lock);
    return same;
}

static void remember(belay_summary_writer *writer, const belay_graph *graph) {
    bly_mutex_lock(&writer->lock);
    writer->graph_id = graph->id;
    bly_mutex_unlock(&writer->lock);
}

belay_code belay_summary_writer_add_graph_once(belay_summary_writer *writer,
                                               const belay_graph *graph, belay_error *err) {
    if (!writer)
        return bly_no_writer(err);
    if (!graph)
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "the graph is NULL");
    if (is_there(writer, graph))
        return BELAY_OK;
    bly_buf def = BLY_BUF_INIT, meta = BLY_BUF_INIT;
    BLY_LOCAL_ERROR(mine);
    if (bly_graph_def(graph, &def, &mine) == BELAY_OK &&
        bly_graph_serialize_around(graph, &def, NULL, &meta, &mine) == BELAY_OK &&
        belay_summary_writer_add_graph(writer, def.data, def.len, 0, &mine) == BELAY_OK &&
        belay_summary_writer_add_meta_graph(writer, meta.data, meta.len, 0, &mine) == BELAY_OK)
        remember(writer, graph);
    bly_buf_free(&def);
    bly_buf_free(&meta);
    if (mine.code == BELAY_INVALID_ARGUMENT) {
        bly_warn("TensorBoard will not show the graph: %s", mine.message);
        return BELAY_OK;
    }
    if (mine.code != BELAY_OK)
        bly_error_copy(err, &mine);
    return mine.code;
}
