/* The one file here that looks behind the public headers: those do not give a graph's bytes. */
#include "hooks/graph_event.h"

#include "base/error.h"
#include "base/log.h"
#include "graph/serialize.h"
#include "runtime/runtime.h"
#include "summary/writer.h"

belay_code bly_add_graph_event(belay_summary_writer *writer, const belay_graph *graph,
                               belay_error *err) {
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
