#include "wire/unpack.h"

#include "base/mem.h"
#include "wire/cursor.h"

static void *take(void *failed, size_t size) {
    void *p = bly_malloc(size);
    if (!p)
        *(int *)failed = 1;
    return p;
}

static void give(void *failed, void *p) {
    (void)failed;
    bly_free(p);
}

void *bly_wire_unpack(const ProtobufCMessageDescriptor *type, const void *data, size_t len,
                      belay_code *code) {
    int failed = 0;
    ProtobufCAllocator allocator = {take, give, &failed};
    void *message = protobuf_c_message_unpack(type, &allocator, len, data);
    *code = message ? BELAY_OK : failed ? BELAY_RESOURCE_EXHAUSTED : BELAY_DATA_LOSS;
    return message;
}

/* Fields that the schema does not know are not looked into: nothing unpacks them. */
static int nests_within(const ProtobufCMessageDescriptor *type, const void *data, size_t len,
                        int levels) {
    bly_cursor cursor = bly_cursor_over(data, len);
    bly_field field;
    while (bly_cursor_next(&cursor, &field)) {
        const ProtobufCFieldDescriptor *known =
            field.type == 2 ? protobuf_c_message_descriptor_get_field(type, field.number) : NULL;
        if (!known || known->type != PROTOBUF_C_TYPE_MESSAGE)
            continue;
        if (levels == 0 || !nests_within(known->descriptor, field.data, field.size, levels - 1))
            return 0;
    }
    return !cursor.broken;
}

void *bly_wire_unpack_nested(const ProtobufCMessageDescriptor *type, const void *data, size_t len,
                             belay_code *code) {
    if (nests_within(type, data, len, BLY_WIRE_NESTING))
        return bly_wire_unpack(type, data, len, code);
    *code = BELAY_DATA_LOSS;
    return NULL;
}

void bly_wire_free(void *message) {
    int failed = 0;
    ProtobufCAllocator allocator = {take, give, &failed};
    if (message)
        protobuf_c_message_free_unpacked(message, &allocator);
}

size_t bly_wire_size_of(ProtobufCType type) {
    switch (type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_FLOAT:
    case PROTOBUF_C_TYPE_ENUM:
        return 4;
    case PROTOBUF_C_TYPE_BOOL:
        return sizeof(protobuf_c_boolean);
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_MESSAGE:
        return sizeof(void *);
    case PROTOBUF_C_TYPE_BYTES:
        return sizeof(ProtobufCBinaryData);
    default:
        return 8;
    }
}
