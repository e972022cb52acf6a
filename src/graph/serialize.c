#include "graph/serialize.h"

#include "base/error.h"

#define MOST ((size_t)INT32_MAX) /* what a protobuf parser takes */

belay_code bly_graph_serialize(const belay_graph *graph, const Bly__SaverDef *saver, bly_buf *out,
                               belay_error *err) {
    const bly_runtime *rt = graph->rt;
    TF_Buffer *graph_def = rt->NewBuffer();
    TF_Status *status = rt->NewStatus();
    rt->GraphToGraphDef(graph->tf, graph_def, status);
    belay_code code = bly_runtime_finish(rt, status, err);
    if (code == BELAY_OK) {
        /* A shallow copy: the parts stay the graph's, only two of them are others. */
        Bly__MetaGraphDef meta = *graph->meta;
        meta.graph_def.data = (uint8_t *)(uintptr_t)graph_def->data;
        meta.graph_def.len = graph_def->length;
        if (saver)
            meta.saver_def = (Bly__SaverDef *)(uintptr_t)saver;
        size_t len = bly__meta_graph_def__get_packed_size(&meta);
        char *to = len <= MOST ? bly_buf_reserve(out, len) : NULL;
        if (len > MOST) /* MG-30 */
            code = bly_fail(err, BELAY_INVALID_ARGUMENT,
                            "%s takes %zu bytes: a meta graph cannot be larger than 2 GB",
                            graph->path, len);
        else if (to)
            out->len += bly__meta_graph_def__pack(&meta, (uint8_t *)to);
        else
            code = bly_fail_memory(err);
    }
    rt->DeleteBuffer(graph_def);
    return code;
}
