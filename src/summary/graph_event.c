/* A graph in an event file, for TensorBoard to draw. */
#include "base/error.h"
#include "base/log.h"
#include "graph/serialize.h"
#include "runtime/runtime.h"
#include "summary/writer.h"
#include "summary/writer_impl.h"

belay_code belay_summary_writer_add_graph_once(belay_summary_writer *writer,
                                               const belay_graph *graph, belay_error *err) {
    if (!writer)
        return bly_no_writer(err);
    if (!graph)
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "the graph is NULL");
    const bly_runtime *rt = graph->rt;
    bly_buf meta = BLY_BUF_INIT;
    TF_Buffer *def = rt->NewBuffer();
    TF_Status *status = rt->NewStatus();
    BLY_LOCAL_ERROR(mine);
    rt->GraphToGraphDef(graph->tf, def, status);
    if (bly_runtime_finish(rt, status, &mine) == BELAY_OK &&
        bly_graph_serialize(graph, NULL, &meta, &mine) == BELAY_OK)
        bly_writer_add_graph_once(writer, def->data, def->length, meta.data, meta.len, 0, &mine);
    rt->DeleteBuffer(def);
    bly_buf_free(&meta);
    if (mine.code == BELAY_INVALID_ARGUMENT) {
        bly_warn("TensorBoard will not show the graph: %s", mine.message);
        return BELAY_OK;
    }
    if (mine.code != BELAY_OK)
        bly_error_copy(err, &mine);
    return mine.code;
}
