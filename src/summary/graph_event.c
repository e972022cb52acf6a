/* A graph in an event file, for TensorBoard to draw. */
#include "base/error.h"
#include "base/log.h"
#include "graph/graph_def.h"
#include "graph/serialize.h"
#include "summary/writer.h"
#include "summary/writer_impl.h"

belay_code belay_summary_writer_add_graph_once(belay_summary_writer *writer,
                                               const belay_graph *graph, belay_error *err) {
    if (!writer)
        return bly_no_writer(err);
    if (!graph)
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "the graph is NULL");
    bly_buf def = BLY_BUF_INIT, meta = BLY_BUF_INIT;
    BLY_LOCAL_ERROR(mine);
    if (bly_graph_def(graph, &def, &mine) == BELAY_OK &&
        bly_graph_serialize_around(graph, &def, NULL, &meta, &mine) == BELAY_OK)
        bly_writer_add_graph_once(writer, def.data, def.len, meta.data, meta.len, 0, &mine);
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
