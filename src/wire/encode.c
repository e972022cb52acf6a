#include "wire/encode.h"

void bly_put_varint(bly_buf *out, uint64_t value) {
    for (; value >= 0x80; value >>= 7)
        bly_buf_putc(out, (char)(value | 0x80));
    bly_buf_putc(out, (char)value);
}

void bly_put_number(bly_buf *out, uint32_t field, uint64_t value) {
    bly_put_varint(out, field << 3);
    bly_put_varint(out, value);
}

void bly_put_bytes(bly_buf *out, uint32_t field, const void *data, size_t len) {
    bly_put_varint(out, field << 3 | 2);
    bly_put_varint(out, len);
    bly_buf_append(out, data, len);
}
