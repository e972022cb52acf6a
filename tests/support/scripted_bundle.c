/* Writes checkpoints that belay's reader (and TensorFlow's) accepts: one data file, one block of
 * entries. */
#include "scripted_impl.h"

#include "base/crc32c.h"
#include "base/error.h"
#include "checkpoint/bundle.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAGIC UINT64_C(0xdb4775248b80fb57)

static void put_fixed32(struct scripted_bytes *out, uint32_t value) {
    scripted_put(out, &value, sizeof value); /* little-endian, like the machines this runs on */
}

/* ---- the table ---- */

struct handle {
    uint64_t offset, size;
};

static void put_key(struct scripted_bytes *block, const char *key, size_t len, const void *value,
                    size_t value_len) {
    scripted_put_varint(block, 0); /* shares nothing with the key before it */
    scripted_put_varint(block, len);
    scripted_put_varint(block, value_len);
    scripted_put(block, key, len);
    scripted_put(block, value, value_len);
}

/* Ends a block (one restart point, at its start), and adds it to the file. */
static struct handle put_block(struct scripted_bytes *file, struct scripted_bytes *block) {
    put_fixed32(block, 0);
    put_fixed32(block, 1);
    struct handle h = {file->len, block->len};
    scripted_put(block, "\0", 1); /* not compressed */
    scripted_put(file, block->data, block->len);
    put_fixed32(file, bly_crc32c_mask(bly_crc32c(0, block->data, block->len)));
    free(block->data);
    *block = (struct scripted_bytes){NULL, 0, 0};
    return h;
}

static void put_handle(struct scripted_bytes *out, struct handle h) {
    scripted_put_varint(out, h.offset);
    scripted_put_varint(out, h.size);
}

static void put_table(struct scripted_bytes *file, struct scripted_bytes *entries) {
    struct scripted_bytes index = {NULL, 0, 0}, meta = {NULL, 0, 0}, value = {NULL, 0, 0},
                          footer = {NULL, 0, 0};
    struct handle data = put_block(file, entries);
    struct handle empty = put_block(file, &meta);
    put_handle(&value, data);
    put_key(&index, "\xff", 1, value.data, value.len);
    struct handle where = put_block(file, &index);
    put_handle(&footer, empty);
    put_handle(&footer, where);
    while (footer.len < 40)
        scripted_put(&footer, "\0", 1);
    uint64_t magic = MAGIC;
    scripted_put(&footer, &magic, sizeof magic);
    scripted_put(file, footer.data, footer.len);
    free(footer.data);
    free(value.data);
}

/* ---- tensors ---- */

/* Strings lie there as their lengths, a checksum of those, and their bytes. The checksum of the
 * whole goes over the lengths as 32-bit numbers, the checksum and the bytes. */
static uint32_t put_strings(struct scripted_bytes *out, const struct scripted_array *a) {
    uint32_t crc = 0;
    size_t len;
    for (int64_t i = 0; i < scripted_array_count(a); i++) {
        scripted_array_text(a, i, &len);
        uint32_t narrow = (uint32_t)len;
        scripted_put_varint(out, len);
        crc = bly_crc32c(crc, &narrow, sizeof narrow);
    }
    uint32_t masked = bly_crc32c_mask(crc);
    put_fixed32(out, masked);
    crc = bly_crc32c(crc, &masked, sizeof masked);
    for (int64_t i = 0; i < scripted_array_count(a); i++) {
        const char *text = scripted_array_text(a, i, &len);
        scripted_put(out, text, len);
        crc = bly_crc32c(crc, text, len);
    }
    return crc;
}

static void put_tensor(struct scripted_bytes *data, struct scripted_bytes *entries,
                       const struct scripted_saved *t) {
    struct scripted_bytes entry = {NULL, 0, 0}, shape = {NULL, 0, 0};
    size_t offset = data->len;
    uint32_t crc;
    for (int i = 0; i < t->value->rank; i++) {
        struct scripted_bytes dim = {NULL, 0, 0};
        scripted_put_number(&dim, 1, (uint64_t)t->value->dims[i]);
        scripted_put_message(&shape, 2, &dim);
    }
    if (t->value->dtype == TF_STRING) {
        crc = put_strings(data, t->value);
    } else {
        scripted_put(data, t->value->buffer->data, t->value->buffer->len);
        crc = bly_crc32c(0, t->value->buffer->data, t->value->buffer->len);
    }
    scripted_put_number(&entry, 1, (uint64_t)t->value->dtype);
    scripted_put_message(&entry, 2, &shape);
    if (offset > 0)
        scripted_put_number(&entry, 4, offset);
    scripted_put_number(&entry, 5, data->len - offset);
    scripted_put_varint(&entry, 6 << 3 | 5);
    put_fixed32(&entry, bly_crc32c_mask(crc));
    put_key(entries, t->name, strlen(t->name), entry.data, entry.len);
    free(entry.data);
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const struct scripted_saved *)a)->name,
                  ((const struct scripted_saved *)b)->name);
}

static belay_code write_file(const char *prefix, const char *suffix,
                             const struct scripted_bytes *bytes, belay_error *err) {
    char path[4096];
    snprintf(path, sizeof path, "%s%s", prefix, suffix);
    FILE *file = fopen(path, "wb");
    if (!file)
        return bly_fail(err, BELAY_NOT_FOUND, "%s; No such file or directory", path);
    size_t written = bytes->len ? fwrite(bytes->data, 1, bytes->len, file) : 0;
    if (fclose(file) != 0 || written != bytes->len)
        return bly_fail(err, BELAY_RESOURCE_EXHAUSTED, "%s; No space left on device", path);
    return BELAY_OK;
}

belay_code scripted_bundle_write(const char *prefix, struct scripted_saved *tensors, size_t count,
                                 belay_error *err) {
    struct scripted_bytes data = {NULL, 0, 0}, entries = {NULL, 0, 0}, index = {NULL, 0, 0},
                          header = {NULL, 0, 0}, version = {NULL, 0, 0};
    scripted_put_number(&header, 1, 1); /* one data file */
    scripted_put_number(&version, 1, 1);
    scripted_put_message(&header, 3, &version);
    put_key(&entries, "", 0, header.data, header.len);
    free(header.data);
    if (count > 0)
        qsort(tensors, count, sizeof *tensors, by_name);
    for (size_t i = 0; i < count; i++)
        put_tensor(&data, &entries, &tensors[i]);
    put_table(&index, &entries);
    belay_code code = write_file(prefix, ".data-00000-of-00001", &data, err);
    if (code == BELAY_OK)
        code = write_file(prefix, ".index", &index, err);
    free(data.data);
    free(index.data);
    return code;
}

static struct scripted_array *read_tensor(const bly_bundle *bundle, const bly_bundle_tensor *t,
                                          belay_error *err) {
    struct scripted_array *a = scripted_array_new((TF_DataType)t->dtype, t->dims, (int)t->rank);
    bly_bundle_strings strings;
    belay_code code;
    if (t->dtype == BELAY_STRING) {
        code = bly_bundle_read_strings(bundle, t, &strings, err);
        for (size_t i = 0; code == BELAY_OK && i < strings.count; i++)
            scripted_array_set_text(a, (int64_t)i, strings.data + strings.offsets[i],
                                    strings.offsets[i + 1] - strings.offsets[i]);
        bly_bundle_strings_free(&strings);
    } else {
        code = bly_bundle_read(bundle, t, a->buffer->data, a->buffer->len, err);
    }
    if (code == BELAY_OK)
        return a;
    scripted_array_unref(a);
    return NULL;
}

struct scripted_array *scripted_bundle_read(const char *prefix, const char *name,
                                            belay_error *err) {
    bly_bundle *bundle = bly_bundle_load(prefix, err);
    if (!bundle)
        return NULL;
    const bly_bundle_tensor *t = bly_bundle_find(bundle, name);
    struct scripted_array *a = NULL;
    if (t)
        a = read_tensor(bundle, t, err);
    else
        bly_fail(err, BELAY_NOT_FOUND, "Key %s not found in checkpoint", name);
    bly_bundle_free(bundle);
    return a;
}

belay_code scripted_bundle_merge(const char *const *prefixes, size_t count, const char *destination,
                                 int delete_inputs, belay_error *err) {
    bly_bundle **bundles = scripted_zalloc(count * sizeof *bundles);
    struct scripted_saved *all = NULL;
    size_t total = 0;
    belay_code code = BELAY_OK;
    for (size_t i = 0; code == BELAY_OK && i < count; i++) {
        bundles[i] = bly_bundle_load(prefixes[i], err);
        if (!bundles[i])
            code = belay_error_code(err);
        for (size_t n = 0; code == BELAY_OK && n < bly_bundle_count(bundles[i]); n++) {
            const bly_bundle_tensor *t = bly_bundle_at(bundles[i], n);
            struct scripted_array *value = read_tensor(bundles[i], t, err);
            if (!value) {
                code = belay_error_code(err);
                break;
            }
            all = scripted_realloc(all, (total + 1) * sizeof *all);
            all[total++] = (struct scripted_saved){t->name, value};
        }
    }
    if (code == BELAY_OK)
        code = scripted_bundle_write(destination, all, total, err);
    for (size_t i = 0; i < total; i++)
        scripted_array_unref(all[i].value);
    for (size_t i = 0; i < count; i++)
        bly_bundle_free(bundles[i]);
    for (size_t i = 0; code == BELAY_OK && delete_inputs && i < count; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s.index", prefixes[i]);
        remove(path);
        snprintf(path, sizeof path, "%s.data-00000-of-00001", prefixes[i]);
        remove(path);
    }
    free(all);
    free(bundles);
    return code;
}
