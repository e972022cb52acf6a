#include "graph/text_form.h"

#include "base/error.h"
#include "wire/full_graph.pb-c.h"
#include "wire/text.h"
#include "wire/unpack.h"

#include <stdint.h>

static const struct {
    const ProtobufCMessageDescriptor *type;
    const char *name;
} messages[] = {
    [BLY_GRAPH_DEF] = {&bly__full__graph_def__descriptor, "GraphDef"},
    [BLY_META_GRAPH_DEF] = {&bly__full__meta_graph_def__descriptor, "MetaGraphDef"},
    [BLY_SAVED_MODEL] = {&bly__full__saved_model__descriptor, "SavedModel"},
};

belay_code bly_graph_from_text(bly_graph_message kind, const char *path, const char *text,
                               size_t len, bly_buf *out, belay_error *err) {
    BLY_LOCAL_ERROR(mine);
    ProtobufCMessage *message = bly_text_read(messages[kind].type, text, len, path, &mine);
    if (!message) {
        /* The caller gave no wrong argument: the file is wrong (ER-33). */
        belay_code code = mine.code == BELAY_INVALID_ARGUMENT ? BELAY_DATA_LOSS : mine.code;
        return bly_fail(err, code, "%s", mine.message);
    }
    size_t size = protobuf_c_message_get_packed_size(message);
    char *to = bly_buf_reserve(out, size);
    if (to)
        out->len += protobuf_c_message_pack(message, (uint8_t *)to);
    bly_wire_free(message);
    return to ? BELAY_OK : bly_fail_memory(err);
}

belay_code bly_graph_to_text(bly_graph_message kind, const char *path, const void *data, size_t len,
                             bly_buf *out, belay_error *err) {
    belay_code code;
    void *message = bly_wire_unpack_nested(messages[kind].type, data, len, &code);
    if (!message && code == BELAY_DATA_LOSS)
        return bly_fail(err, code, "%s cannot be written as text: it is damaged, or no %s", path,
                        messages[kind].name);
    if (message)
        bly_text_print(message, out);
    bly_wire_free(message);
    return message && !out->failed ? BELAY_OK : bly_fail_memory(err);
}
