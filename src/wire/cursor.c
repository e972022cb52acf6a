#include "wire/cursor.h"

bly_cursor bly_cursor_over(const void *data, size_t len) {
    const uint8_t *at = data;
    return (bly_cursor){at, at + len, 0};
}

static int read_varint(bly_cursor *cursor, uint64_t *out) {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64 && cursor->at < cursor->end; shift += 7) {
        uint8_t byte = *cursor->at++;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80)) {
            *out = value;
            return 1;
        }
    }
    return 0;
}

static int read_content(bly_cursor *cursor, bly_field *field) {
    uint64_t size;
    switch (field->type) {
    case 0:
        return read_varint(cursor, &field->value);
    case 1:
        size = 8;
        break;
    case 2:
        if (!read_varint(cursor, &size))
            return 0;
        break;
    case 5:
        size = 4;
        break;
    default: /* groups: nothing that we read has them */
        return 0;
    }
    if (size > (uint64_t)(cursor->end - cursor->at))
        return 0;
    field->data = cursor->at;
    field->size = (size_t)size;
    cursor->at += size;
    return 1;
}

int bly_cursor_next(bly_cursor *cursor, bly_field *field) {
    uint64_t tag;
    if (cursor->broken || cursor->at == cursor->end)
        return 0;
    *field = (bly_field){0};
    field->from = cursor->at;
    if (read_varint(cursor, &tag) && tag >> 3 != 0 && tag >> 3 <= UINT32_MAX) {
        field->number = (uint32_t)(tag >> 3);
        field->type = (uint32_t)(tag & 7);
        if (read_content(cursor, field)) {
            field->len = (size_t)(cursor->at - field->from);
            return 1;
        }
    }
    cursor->broken = 1;
    return 0;
}
