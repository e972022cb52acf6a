/* Tables (checkpoint/table.h) made around the content of a block, with checksums that are right. */
#ifndef BLY_TESTS_TABLE_FILE_H
#define BLY_TESTS_TABLE_FILE_H

#include "base/buf.h"
#include "base/crc32c.h"

#include <stddef.h>
#include <stdint.h>

static inline void put_fixed32(bly_buf *out, uint32_t value) {
    for (int i = 0; i < 4; i++)
        bly_buf_putc(out, (char)(uint8_t)(value >> (8 * i)));
}

static inline void put_varint(bly_buf *out, uint64_t value) {
    for (; value >= 0x80; value >>= 7)
        bly_buf_putc(out, (char)(uint8_t)(value | 0x80));
    bly_buf_putc(out, (char)(uint8_t)value);
}

static inline void put_block(bly_buf *file, const void *content, size_t size, bly_buf *handle) {
    size_t start = file->len;
    put_varint(handle, start);
    put_varint(handle, size);
    bly_buf_append(file, content, size);
    bly_buf_putc(file, '\0');
    put_fixed32(file, bly_crc32c_mask(bly_crc32c(0, file->data + start, size + 1)));
}

/* A whole table of this one block: the caller frees it. */
static inline bly_buf table_file_of(const void *block, size_t size) {
    bly_buf file = BLY_BUF_INIT, place = BLY_BUF_INIT, index = BLY_BUF_INIT, footer = BLY_BUF_INIT;
    put_block(&file, block, size, &place);
    put_block(&file, "\0\0\0\0", 4, &footer);
    put_varint(&index, 0);
    put_varint(&index, 1);
    put_varint(&index, place.len);
    bly_buf_putc(&index, '\xff');
    bly_buf_append(&index, place.data, place.len);
    put_fixed32(&index, 0);
    put_fixed32(&index, 1);
    put_block(&file, index.data, index.len, &footer);
    while (footer.len < 40)
        bly_buf_putc(&footer, '\0');
    put_fixed32(&footer, UINT32_C(0x8b80fb57));
    put_fixed32(&footer, UINT32_C(0xdb477524));
    bly_buf_append(&file, footer.data, footer.len);
    bly_buf_free(&place);
    bly_buf_free(&index);
    bly_buf_free(&footer);
    return file;
}

/* An entry of a block's content, without what it might share with the one before. */
static inline void table_put_entry(bly_buf *block, const void *key, size_t key_len,
                                   const void *value, size_t value_len) {
    put_varint(block, 0);
    put_varint(block, key_len);
    put_varint(block, value_len);
    bly_buf_append(block, key, key_len);
    bly_buf_append(block, value, value_len);
}

/* One restart point, at the first entry. */
static inline void table_end_block(bly_buf *block) {
    put_fixed32(block, 0);
    put_fixed32(block, 1);
}

#endif
