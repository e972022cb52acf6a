#include "graph/serialize.h"

#include "base/error.h"
#include "graph/graph_def.h"
#include "graph/op_list.h"

#define MOST ((size_t)INT32_MAX) /* what a protobuf parser takes */

static belay_code pack(const belay_graph *graph, const Bly__MetaGraphDef *meta, bly_buf *out,
                       belay_error *err) {
    size_t len = bly__meta_graph_def__get_packed_size(meta);
    if (len > MOST)
        return bly_fail(err, BELAY_INVALID_ARGUMENT,
                        "%s takes %zu bytes: a meta graph cannot be larger than 2 GB", graph->path,
                        len);
    char *to = bly_buf_reserve(out, len);
    if (!to)
        return bly_fail_memory(err);
    out->len += bly__meta_graph_def__pack(meta, (uint8_t *)to);
    return BELAY_OK;
}

belay_code bly_graph_pack_meta(const belay_graph *graph, const Bly__MetaGraphDef *given,
                               const bly_buf *graph_def, bly_buf *out, belay_error *err) {
    Bly__MetaGraphDef meta = *given;
    Bly__MetaGraphDef__MetaInfoDef info = BLY__META_GRAPH_DEF__META_INFO_DEF__INIT;
    bly_buf ops = BLY_BUF_INIT;
    if (meta.meta_info_def)
        info = *meta.meta_info_def;
    belay_code code = bly_op_list_complete(graph, &info.stripped_op_list, &ops, err);
    if (code == BELAY_OK) {
        info.stripped_op_list = (ProtobufCBinaryData){ops.len, (uint8_t *)ops.data};
        meta.meta_info_def = &info;
        meta.graph_def = (ProtobufCBinaryData){graph_def->len, (uint8_t *)graph_def->data};
        code = pack(graph, &meta, out, err);
    }
    bly_buf_free(&ops);
    return code;
}

belay_code bly_graph_serialize_around(const belay_graph *graph, const bly_buf *graph_def,
                                      const Bly__SaverDef *saver, bly_buf *out, belay_error *err) {
    Bly__MetaGraphDef meta = *graph->meta; /* shallow: the parts stay the graph's */
    if (saver)
        meta.saver_def = (Bly__SaverDef *)(uintptr_t)saver;
    return bly_graph_pack_meta(graph, &meta, graph_def, out, err);
}

belay_code bly_graph_serialize(const belay_graph *graph, const Bly__SaverDef *saver, bly_buf *out,
                               belay_error *err) {
    bly_buf graph_def = BLY_BUF_INIT;
    belay_code code = bly_graph_def(graph, &graph_def, err);
    if (code == BELAY_OK)
        code = bly_graph_serialize_around(graph, &graph_def, saver, out, err);
    bly_buf_free(&graph_def);
    return code;
}
