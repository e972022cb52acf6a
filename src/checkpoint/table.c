#include "checkpoint/table.h"

#include "base/buf.h"
#include "base/crc32c.h"
#include "base/error.h"

#include <string.h>

#define MAGIC        UINT64_C(0xdb4775248b80fb57)
#define FOOTER_SIZE  48 /* two handles, zeros, magic */
#define TRAILER_SIZE 5  /* after each block: kind of compression, checksum */
#define VARINT_MAX   10
#define KEY_MAX                                                                                    \
    65536 /* names are a few hundred bytes; this bounds what sharing prefixes can blow up to */

/* A piece of the file that is being taken apart. */
struct cursor {
    const uint8_t *at;
    const uint8_t *end;
};

struct handle {
    uint64_t offset;
    uint64_t size;
};

struct walk {
    const char *file;
    const uint8_t *data;
    uint64_t size; /* of what precedes the footer */
    bly_table_each each;
    void *self;
    bly_buf last; /* the last data key, to check their order across blocks */
    int seen;
    uint64_t used; /* where the last data block ended: blocks do not overlap */
};

static uint32_t get_fixed32(const uint8_t *at) {
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static uint64_t get_fixed64(const uint8_t *at) {
    return (uint64_t)get_fixed32(at) | (uint64_t)get_fixed32(at + 4) << 32;
}

static int get_varint(struct cursor *in, uint64_t *out) {
    uint64_t value = 0;
    for (int i = 0; i < VARINT_MAX && in->at < in->end; i++) {
        uint8_t byte = *in->at++;
        if (i == VARINT_MAX - 1 && byte > 1)
            return 0; /* more than 64 bits */
        if (i > 0 && byte == 0)
            return 0; /* longer than needed: nobody writes that, so something changed it */
        value |= (uint64_t)(byte & 0x7f) << (7 * i);
        if (byte < 0x80) {
            *out = value;
            return 1;
        }
    }
    return 0;
}

static int get_handle(struct cursor *in, struct handle *out) {
    return get_varint(in, &out->offset) && get_varint(in, &out->size);
}

static belay_code damaged(const struct walk *walk, uint64_t offset, const char *what,
                          belay_error *err) {
    return bly_fail(err, BELAY_DATA_LOSS, "%s is damaged at offset %llu: %s", walk->file,
                    (unsigned long long)offset, what);
}

/* Where in the file a pointer is, for messages. */
static uint64_t offset_of(const struct walk *walk, const uint8_t *at) {
    return (uint64_t)(at - walk->data);
}

/* Checks a block's place and checksum. `out` is its content without the trailer. */
static belay_code open_block(const struct walk *walk, struct handle handle, struct cursor *out,
                             belay_error *err) {
    if (handle.offset > walk->size || handle.size > walk->size - handle.offset ||
        walk->size - handle.offset - handle.size < TRAILER_SIZE)
        return damaged(walk, handle.offset, "a block reaches past the end", err);
    const uint8_t *start = walk->data + handle.offset;
    size_t size = (size_t)handle.size;
    uint32_t stored = bly_crc32c_unmask(get_fixed32(start + size + 1));
    uint32_t actual = bly_crc32c(0, start, size + 1);
    if (stored != actual)
        return bly_fail(err, BELAY_DATA_LOSS,
                        "%s is damaged: the block at offset %llu (%zu bytes) has checksum %08x, "
                        "recorded is %08x",
                        walk->file, (unsigned long long)handle.offset, size, (unsigned)actual,
                        (unsigned)stored);
    if (start[size] != 0)
        return bly_fail(err, BELAY_UNIMPLEMENTED,
                        "%s has compressed blocks (kind %d), which TensorFlow does not write and "
                        "belay does not read",
                        walk->file, start[size]);
    *out = (struct cursor){start, start + size};
    return BELAY_OK;
}

/* Cuts the list of restart points off a block; they only serve to search in it. */
static belay_code cut_restarts(const struct walk *walk, struct cursor *block, belay_error *err) {
    size_t size = (size_t)(block->end - block->at);
    if (size < 4)
        return damaged(walk, offset_of(walk, block->at), "a block is too short", err);
    uint64_t restarts = get_fixed32(block->end - 4);
    if (restarts > (size - 4) / 4)
        return damaged(walk, offset_of(walk, block->at), "a block has impossible restart points",
                       err);
    block->end -= 4 + 4 * restarts;
    return BELAY_OK;
}

/* Reads the next entry of a block; `key` holds the one before it, which this one may share the
 * start of. */
static belay_code next_entry(const struct walk *walk, struct cursor *in, bly_buf *key,
                             const uint8_t **value, size_t *value_len, belay_error *err) {
    const uint8_t *start = in->at;
    uint64_t shared, own, len;
    if (!get_varint(in, &shared) || !get_varint(in, &own) || !get_varint(in, &len))
        return damaged(walk, offset_of(walk, start), "an entry is cut off", err);
    uint64_t left = (uint64_t)(in->end - in->at);
    if (shared > key->len || own > left || len > left - own)
        return damaged(walk, offset_of(walk, start), "an entry has impossible lengths", err);
    if (shared + own > KEY_MAX)
        return damaged(walk, offset_of(walk, start), "a key is absurdly long", err);
    key->len = (size_t)shared;
    bly_buf_append(key, in->at, (size_t)own);
    if (key->failed)
        return bly_fail_memory(err);
    *value = in->at + own;
    *value_len = (size_t)len;
    in->at = *value + len;
    return BELAY_OK;
}

static int key_follows(const bly_buf *last, const bly_buf *key) {
    size_t least = last->len < key->len ? last->len : key->len;
    int order = least > 0 ? memcmp(last->data, key->data, least) : 0;
    return order < 0 || (order == 0 && last->len < key->len);
}

static belay_code walk_data(struct walk *walk, struct cursor block, bly_buf *key,
                            belay_error *err) {
    bly_buf_clear(key);
    while (block.at < block.end) {
        const uint8_t *start = block.at, *value;
        size_t value_len;
        belay_code code = next_entry(walk, &block, key, &value, &value_len, err);
        if (code != BELAY_OK)
            return code;
        if (walk->seen && !key_follows(&walk->last, key))
            return damaged(walk, offset_of(walk, start), "keys are not in order", err);
        walk->seen = 1;
        bly_buf_clear(&walk->last);
        bly_buf_append(&walk->last, key->len ? key->data : "", key->len);
        if (walk->last.failed)
            return bly_fail_memory(err);
        code = walk->each(walk->self, (const uint8_t *)(key->len ? key->data : ""), key->len, value,
                          value_len, err);
        if (code != BELAY_OK)
            return code;
    }
    return BELAY_OK;
}

/* Every entry of the index block holds the place of a data block. */
static belay_code walk_index(struct walk *walk, struct cursor index, belay_error *err) {
    bly_buf separator = BLY_BUF_INIT, key = BLY_BUF_INIT;
    belay_code code = cut_restarts(walk, &index, err);
    while (code == BELAY_OK && index.at < index.end) {
        const uint8_t *start = index.at, *value;
        size_t value_len;
        struct handle handle;
        struct cursor block;
        code = next_entry(walk, &index, &separator, &value, &value_len, err);
        if (code != BELAY_OK)
            break;
        struct cursor in = {value, value + value_len};
        if (!get_handle(&in, &handle) || handle.offset < walk->used) {
            code = damaged(walk, offset_of(walk, start), "a block's place is impossible", err);
            break;
        }
        code = open_block(walk, handle, &block, err);
        if (code == BELAY_OK)
            code = cut_restarts(walk, &block, err);
        if (code != BELAY_OK)
            break;
        walk->used = handle.offset + handle.size + TRAILER_SIZE;
        code = walk_data(walk, block, &key, err);
    }
    bly_buf_free(&separator);
    bly_buf_free(&key);
    return code;
}

belay_code bly_table_walk(const char *file, const void *data, size_t size, bly_table_each each,
                          void *self, belay_error *err) {
    struct walk walk = {.file = file, .data = data, .each = each, .self = self};
    if (size < FOOTER_SIZE)
        return bly_fail(err, BELAY_DATA_LOSS, "%s is truncated: %zu bytes are no checkpoint index",
                        file, size);
    walk.size = size - FOOTER_SIZE;
    const uint8_t *footer = walk.data + walk.size;
    if (get_fixed64(footer + FOOTER_SIZE - 8) != MAGIC)
        return bly_fail(err, BELAY_DATA_LOSS,
                        "%s is truncated or no checkpoint index: its last 8 bytes are wrong", file);
    struct cursor in = {footer, footer + FOOTER_SIZE - 8}, block;
    struct handle meta, index;
    if (!get_handle(&in, &meta) || !get_handle(&in, &index))
        return damaged(&walk, walk.size, "the footer is malformed", err);
    while (in.at < in.end)
        if (*in.at++ != 0)
            return damaged(&walk, walk.size, "the footer is malformed", err);
    /* The meta block is empty in TensorFlow's tables; it is only checked for damage. */
    belay_code code = open_block(&walk, meta, &block, err);
    if (code == BELAY_OK)
        code = open_block(&walk, index, &block, err);
    if (code == BELAY_OK)
        code = walk_index(&walk, block, err);
    bly_buf_free(&walk.last);
    return code;
}
