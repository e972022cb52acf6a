/* Checkpoints that are damaged, cut off or made up to harm: every one is refused, by name, and none
 * is believed. */
#include "base/buf.h"
#include "base/crc32c.h"
#include "base/error.h"
#include "base/mem.h"
#include "checkpoint/bundle.h"
#include "checkpoint/slice.h"
#include "checkpoint/table.h"
#include "scratch.h"
#include "wire/checkpoint.pb-c.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* --- Bytes that change in good files
 * ----------------------------------------------------------------------------- */

/* A refusal that sends the user to the file. UNIMPLEMENTED would be fine too, but no flip that a
 * checksum covers may get so far. */
static void assert_refused(const char *prefix, const char *what, size_t at) {
    char index[4200];
    BLY_LOCAL_ERROR(err);
    bly_bundle *bundle = bly_bundle_load(prefix, &err);
    if (bundle)
        fail_msg("%s %zu was not noticed", what, at);
    if (err.code != BELAY_DATA_LOSS)
        fail_msg("%s %zu: %s", what, at, err.message);
    snprintf(index, sizeof index, "%s.index", prefix);
    assert_non_null(strstr(err.message, index));
}

static void flip_every_byte(void **state, const char *name) {
    static const uint8_t masks[] = {0x01, 0x80, 0xff};
    const char *prefix = scratch_bundle(state, name);
    char index[4200];
    size_t size;
    snprintf(index, sizeof index, "%s.index", prefix);
    uint8_t *bytes = scratch_read(index, &size);
    for (size_t i = 0; i < size; i++)
        for (size_t j = 0; j < sizeof masks; j++) {
            bytes[i] ^= masks[j];
            scratch_write(index, bytes, size);
            assert_refused(prefix, "a changed byte at", i);
            bytes[i] ^= masks[j];
        }
    free(bytes);
}

static void test_bundle_load__notices_every_changed_byte_of_the_index(void **state) {
    flip_every_byte(state, "plain");
    flip_every_byte(state, "partitioned");
}

static void test_bundle_load__notices_every_length_the_index_is_cut_to(void **state) {
    const char *prefix = scratch_bundle(state, "partitioned");
    char index[4200];
    size_t size;
    snprintf(index, sizeof index, "%s.index", prefix);
    uint8_t *bytes = scratch_read(index, &size);
    for (size_t i = 0; i < size; i++) {
        scratch_write(index, bytes, i);
        assert_refused(prefix, "an index cut at", i);
    }
    free(bytes);
}

/* Where the tensors lie in the data file, found by which of them a changed byte spoils. */
static void test_bundle_verify__names_the_tensor_that_a_changed_data_byte_belongs_to(void **state) {
    const char *prefix = scratch_bundle(state, "plain");
    const char *data = scratch_path(state, "plain.data-00000-of-00001");
    char named[300];
    size_t size;
    uint8_t *bytes = scratch_read(data, &size), room[400];
    for (size_t i = 0; i < size; i++) {
        BLY_LOCAL_ERROR(err);
        bly_bundle_strings strings;
        size_t spoiled = 0;
        bytes[i] ^= 0x10;
        scratch_write(data, bytes, size);
        bytes[i] ^= 0x10;
        bly_bundle *bundle = bly_bundle_load(prefix, NULL);
        assert_non_null(bundle);
        assert_int_equal(bly_bundle_verify(bundle, NULL, NULL, &err), BELAY_DATA_LOSS);
        assert_non_null(strstr(err.message, data));
        assert_non_null(strstr(err.message, "offset "));
        for (size_t j = 0; j < bly_bundle_count(bundle); j++) {
            const bly_bundle_tensor *tensor = bly_bundle_at(bundle, j);
            belay_code code = BELAY_OK;
            snprintf(named, sizeof named, "tensor '%s'", tensor->name);
            if (tensor->dtype == BELAY_STRING) {
                code = bly_bundle_read_strings(bundle, tensor, &strings, NULL);
                bly_bundle_strings_free(&strings);
            } else if (tensor->dtype != BELAY_VARIANT) {
                assert_true(tensor->size_bytes <= sizeof room);
                code = bly_bundle_read(bundle, tensor, room, tensor->size_bytes, NULL);
            } else if (strstr(err.message, named)) {
                code = BELAY_DATA_LOSS; /* only verify reads variants */
            }
            if (code != BELAY_OK) {
                spoiled++;
                assert_int_equal(code, BELAY_DATA_LOSS);
                assert_non_null(strstr(err.message, named));
            }
        }
        assert_int_equal(spoiled, 1);
        bly_bundle_free(bundle);
    }
    free(bytes);
}

static void test_bundle_verify__names_a_damaged_slice(void **state) {
    const char *prefix = scratch_bundle(state, "partitioned");
    const char *data = scratch_path(state, "partitioned.data-00000-of-00001");
    int8_t far[18000];
    size_t size;
    BLY_LOCAL_ERROR(err);
    uint8_t *bytes = scratch_read(data, &size);
    bytes[size / 2] ^= 1; /* "far" is nearly all of it */
    scratch_write(data, bytes, size);
    free(bytes);
    bly_bundle *bundle = bly_bundle_load(prefix, &err);
    assert_int_equal(bly_bundle_verify(bundle, NULL, NULL, &err), BELAY_DATA_LOSS);
    assert_non_null(strstr(err.message, "a slice of tensor 'far'"));
    assert_int_equal(bly_bundle_read(bundle, bly_bundle_find(bundle, "far"), far, sizeof far, &err),
                     BELAY_DATA_LOSS);
    assert_non_null(strstr(err.message, data));
    bly_bundle_free(bundle);
}

/* --- Indexes that are made up: every checksum is right
 * ----------------------------------------------------------- */

static void put_varint(bly_buf *out, uint64_t value) {
    for (; value >= 0x80; value >>= 7)
        bly_buf_putc(out, (char)(uint8_t)(value | 0x80));
    bly_buf_putc(out, (char)(uint8_t)value);
}

static void put_fixed32(bly_buf *out, uint32_t value) {
    for (int i = 0; i < 4; i++)
        bly_buf_putc(out, (char)(uint8_t)(value >> (8 * i)));
}

static void put_entry(bly_buf *block, const void *key, size_t key_len, const void *value,
                      size_t value_len) {
    put_varint(block, 0);
    put_varint(block, key_len);
    put_varint(block, value_len);
    bly_buf_append(block, key, key_len);
    bly_buf_append(block, value, value_len);
}

/* Adds a block with its trailer to the file, and its place to `handle`. */
static void put_block(bly_buf *file, const bly_buf *content, uint8_t kind, bly_buf *handle) {
    char type = (char)kind;
    size_t start = file->len;
    bly_buf_append(file, bly_buf_text(content), content->len);
    bly_buf_putc(file, type);
    put_varint(handle, start);
    put_varint(handle, content->len);
    put_fixed32(file, bly_crc32c_mask(bly_crc32c(0, file->data + start, content->len + 1)));
}

/* A bundle in the making: entries must be added in order of their keys. */
struct made {
    bly_buf block;
    bly_buf data; /* becomes PREFIX.data-00000-of-00001 */
    uint8_t kind;
};

static void add_header(struct made *made, Bly__BundleHeaderProto header) {
    uint8_t packed[200];
    size_t len = bly__bundle_header_proto__pack(&header, packed);
    put_entry(&made->block, "", 0, packed, len);
}

static struct made begin(void) {
    struct made made = {BLY_BUF_INIT, BLY_BUF_INIT, 0};
    Bly__BundleHeaderProto header = BLY__BUNDLE_HEADER_PROTO__INIT;
    header.num_shards = 1;
    add_header(&made, header);
    return made;
}

static void add_packed(struct made *made, const void *key, size_t key_len,
                       const Bly__BundleEntryProto *entry) {
    uint8_t packed[2000];
    assert_true(bly__bundle_entry_proto__get_packed_size(entry) <= sizeof packed);
    size_t len = bly__bundle_entry_proto__pack(entry, packed);
    put_entry(&made->block, key, key_len, packed, len);
}

#define DIMS_MAX 4

/* An entry that can be spoiled before it is added. */
struct item {
    Bly__BundleEntryProto entry;
    Bly__TensorShapeProto shape;
    Bly__TensorShapeProto__Dim dims[DIMS_MAX], *dim_pointers[DIMS_MAX];
};

static void make_item(struct item *item, int32_t dtype, size_t rank, const int64_t *dims) {
    bly__bundle_entry_proto__init(&item->entry);
    bly__tensor_shape_proto__init(&item->shape);
    for (size_t i = 0; i < rank; i++) {
        bly__tensor_shape_proto__dim__init(&item->dims[i]);
        item->dims[i].size = dims[i];
        item->dim_pointers[i] = &item->dims[i];
    }
    item->shape.n_dim = rank;
    item->shape.dim = item->dim_pointers;
    item->entry.dtype = dtype;
    item->entry.shape = &item->shape;
}

static void give_bytes(struct made *made, struct item *item, const void *bytes, size_t size) {
    item->entry.offset = (int64_t)made->data.len;
    item->entry.size = (int64_t)size;
    item->entry.crc32c = bly_crc32c_mask(bly_crc32c(0, bytes, size));
    bly_buf_append(&made->data, bytes, size);
}

/* Writes the files; the block's restart list has one entry. */
static const char *finish(void **state, struct made *made) {
    bly_buf file = BLY_BUF_INIT, index = BLY_BUF_INIT, meta = BLY_BUF_INIT;
    bly_buf handle = BLY_BUF_INIT, footer = BLY_BUF_INIT;
    put_fixed32(&made->block, 0);
    put_fixed32(&made->block, 1);
    put_fixed32(&meta, 0);
    put_block(&file, &made->block, made->kind, &handle);
    put_entry(&index, "\xff", 1, bly_buf_text(&handle), handle.len);
    put_fixed32(&index, 0);
    put_fixed32(&index, 1);
    put_block(&file, &meta, 0, &footer);
    put_block(&file, &index, 0, &footer);
    while (footer.len < 40)
        bly_buf_putc(&footer, '\0');
    put_fixed32(&footer, 0x8b80fb57);
    put_fixed32(&footer, 0xdb477524);
    bly_buf_append(&file, bly_buf_text(&footer), footer.len);
    scratch_write(scratch_path(state, "m.index"), file.data, file.len);
    scratch_write(scratch_path(state, "m.data-00000-of-00001"), bly_buf_text(&made->data),
                  made->data.len);
    bly_buf_free(&file);
    bly_buf_free(&index);
    bly_buf_free(&meta);
    bly_buf_free(&handle);
    bly_buf_free(&footer);
    bly_buf_free(&made->block);
    bly_buf_free(&made->data);
    return scratch_path(state, "m");
}

static void assert_load_fails(const char *prefix, belay_code code, const char *why) {
    BLY_LOCAL_ERROR(err);
    bly_bundle *bundle = bly_bundle_load(prefix, &err);
    if (bundle)
        fail_msg("loaded, although %s", why);
    if (err.code != code || !strstr(err.message, why))
        fail_msg("%d: %s", (int)err.code, err.message);
}

static void test_bundle_load__refuses_what_it_cannot_read(void **state) {
    Bly__BundleVersionDef version = BLY__BUNDLE_VERSION_DEF__INIT;
    Bly__BundleHeaderProto header = BLY__BUNDLE_HEADER_PROTO__INIT;
    struct made made = begin();
    made.kind = 1;
    assert_load_fails(finish(state, &made), BELAY_UNIMPLEMENTED, "compressed");

    header.num_shards = 1;
    header.endianness = BLY__BUNDLE_HEADER_PROTO__ENDIANNESS__BIG;
    made = (struct made){BLY_BUF_INIT, BLY_BUF_INIT, 0};
    add_header(&made, header);
    assert_load_fails(finish(state, &made), BELAY_UNIMPLEMENTED, "big-endian");

    header.endianness = BLY__BUNDLE_HEADER_PROTO__ENDIANNESS__LITTLE;
    header.version = &version;
    version.min_consumer = 2;
    made = (struct made){BLY_BUF_INIT, BLY_BUF_INIT, 0};
    add_header(&made, header);
    assert_load_fails(finish(state, &made), BELAY_UNIMPLEMENTED, "newer version");

    version.min_consumer = 1;
    version.n_bad_consumers = 1;
    version.bad_consumers = (int32_t[]){1};
    made = (struct made){BLY_BUF_INIT, BLY_BUF_INIT, 0};
    add_header(&made, header);
    assert_load_fails(finish(state, &made), BELAY_UNIMPLEMENTED, "newer version");
}

static void test_bundle_load__refuses_a_bad_header(void **state) {
    Bly__BundleHeaderProto header = BLY__BUNDLE_HEADER_PROTO__INIT;
    struct item item;
    struct made made = {BLY_BUF_INIT, BLY_BUF_INIT, 0};
    assert_load_fails(finish(state, &made), BELAY_DATA_LOSS, "no header");

    made = (struct made){BLY_BUF_INIT, BLY_BUF_INIT, 0};
    make_item(&item, BELAY_FLOAT, 0, NULL);
    give_bytes(&made, &item, "four", 4);
    add_packed(&made, "w", 1, &item.entry);
    assert_load_fails(finish(state, &made), BELAY_DATA_LOSS, "no header");

    header.num_shards = -1;
    made = (struct made){BLY_BUF_INIT, BLY_BUF_INIT, 0};
    add_header(&made, header);
    assert_load_fails(finish(state, &made), BELAY_DATA_LOSS, "-1 data files");

    made = (struct made){BLY_BUF_INIT, BLY_BUF_INIT, 0};
    put_entry(&made.block, "", 0, "\xff\xff", 2);
    assert_load_fails(finish(state, &made), BELAY_DATA_LOSS, "header cannot be read");
}

/* Spoils one member of a good entry. */
static void assert_entry_fails(void **state, void (*spoil)(Bly__BundleEntryProto *entry),
                               const char *why) {
    static const int64_t dims[] = {2, 3};
    struct item item;
    struct made made = begin();
    make_item(&item, BELAY_FLOAT, 2, dims);
    give_bytes(&made, &item, "twenty-four bytes of data", 24);
    if (spoil)
        spoil(&item.entry);
    add_packed(&made, "w", 1, &item.entry);
    const char *prefix = finish(state, &made);
    if (spoil) {
        assert_load_fails(prefix, BELAY_DATA_LOSS, why);
        assert_load_fails(prefix, BELAY_DATA_LOSS, "'w'");
    } else {
        bly_bundle *bundle = bly_bundle_load(prefix, NULL);
        assert_non_null(bundle);
        assert_int_equal(bly_bundle_verify(bundle, NULL, NULL, NULL), BELAY_OK);
        bly_bundle_free(bundle);
    }
}

static void no_type(Bly__BundleEntryProto *entry) {
    entry->dtype = 0;
}
static void negative_type(Bly__BundleEntryProto *entry) {
    entry->dtype = -1;
}
static void negative_dim(Bly__BundleEntryProto *entry) {
    entry->shape->dim[0]->size = -2;
}
static void huge_dims(Bly__BundleEntryProto *entry) {
    entry->shape->dim[0]->size = entry->shape->dim[1]->size = INT64_C(1) << 40;
}
static void huge_bytes(Bly__BundleEntryProto *entry) {
    entry->shape->dim[0]->size = INT64_MAX / 3;
}
static void unknown_rank(Bly__BundleEntryProto *entry) {
    entry->shape->unknown_rank = 1;
}
static void other_size(Bly__BundleEntryProto *entry) {
    entry->size = 20;
}
static void negative_size(Bly__BundleEntryProto *entry) {
    entry->size = -24;
}
static void negative_offset(Bly__BundleEntryProto *entry) {
    entry->offset = -1;
}
static void huge_offset(Bly__BundleEntryProto *entry) {
    entry->offset = INT64_MAX;
}
static void offset_past_the_end(Bly__BundleEntryProto *entry) {
    entry->offset = 1;
}
static void wrong_shard(Bly__BundleEntryProto *entry) {
    entry->shard_id = 1;
}
static void negative_shard(Bly__BundleEntryProto *entry) {
    entry->shard_id = -1;
}
static void more_strings_than_bytes(Bly__BundleEntryProto *entry) {
    entry->dtype = BELAY_STRING;
    entry->shape->dim[0]->size = INT64_C(1) << 40;
}

static void test_bundle_load__refuses_impossible_entries(void **state) {
    assert_entry_fails(state, NULL, NULL);
    assert_entry_fails(state, no_type, "no type");
    assert_entry_fails(state, negative_type, "no type");
    assert_entry_fails(state, negative_dim, "impossible shape");
    assert_entry_fails(state, huge_dims, "impossible shape");
    assert_entry_fails(state, huge_bytes, "another size");
    assert_entry_fails(state, unknown_rank, "impossible shape");
    assert_entry_fails(state, other_size, "another size");
    assert_entry_fails(state, negative_size, "impossible place");
    assert_entry_fails(state, negative_offset, "impossible place");
    assert_entry_fails(state, huge_offset, "impossible place");
    assert_entry_fails(state, offset_past_the_end, "truncated");
    assert_entry_fails(state, wrong_shard, "does not exist");
    assert_entry_fails(state, negative_shard, "does not exist");
    assert_entry_fails(state, more_strings_than_bytes, "more elements than bytes");
}

static void test_bundle_load__refuses_keys_that_are_no_names(void **state) {
    struct item item;
    struct made made = begin();
    make_item(&item, BELAY_FLOAT, 0, NULL);
    give_bytes(&made, &item, "four", 4);
    add_packed(&made, "w\0x", 3, &item.entry);
    assert_load_fails(finish(state, &made), BELAY_DATA_LOSS, "zero byte");

    made = begin();
    give_bytes(&made, &item, "four", 4);
    add_packed(&made, "w", 1, &item.entry);
    add_packed(&made, "v", 1, &item.entry);
    assert_load_fails(finish(state, &made), BELAY_DATA_LOSS, "not in order");

    made = begin();
    give_bytes(&made, &item, "four", 4);
    add_packed(&made, "w", 1, &item.entry);
    add_packed(&made, "w", 1, &item.entry);
    assert_load_fails(finish(state, &made), BELAY_DATA_LOSS, "not in order");

    made = begin();
    put_entry(&made.block, "w", 1, "\xff\xff\xff", 3);
    assert_load_fails(finish(state, &made), BELAY_DATA_LOSS, "unreadable entry");

    made = begin();
    put_varint(&made.block, 1); /* shares a byte with the empty key before it */
    put_varint(&made.block, 0);
    put_varint(&made.block, 0);
    assert_load_fails(finish(state, &made), BELAY_DATA_LOSS, "impossible lengths");

    char *name = calloc(1, 70000);
    assert_non_null(name);
    memset(name, 'n', 69999);
    made = begin();
    put_entry(&made.block, name, 69999, "", 0);
    free(name);
    assert_load_fails(finish(state, &made), BELAY_DATA_LOSS, "absurdly long");
}

/* A type of a newer TensorFlow: its bytes can be checked, though not read. */
static void test_bundle__checks_types_that_it_does_not_know(void **state) {
    static const int64_t dims[] = {100};
    char room[4];
    struct item item;
    struct made made = begin();
    make_item(&item, 99, 1, dims);
    give_bytes(&made, &item, "four", 4);
    add_packed(&made, "w", 1, &item.entry);
    bly_bundle *bundle = bly_bundle_load(finish(state, &made), NULL);
    assert_non_null(bundle);
    const bly_bundle_tensor *tensor = bly_bundle_find(bundle, "w");
    assert_int_equal(tensor->size_bytes, 4);
    assert_int_equal(bly_bundle_verify(bundle, NULL, NULL, NULL), BELAY_OK);
    assert_int_equal(bly_bundle_read(bundle, tensor, room, 4, NULL), BELAY_INVALID_ARGUMENT);
    bly_bundle_free(bundle);
}

/* Slices [start, start + length) of a vector of 4 floats; what the whole claims may differ from
 * what is stored. */
static const char *make_sliced(void **state, size_t count, const int64_t (*places)[2],
                               size_t stored, int64_t stored_length) {
    static const int64_t whole[] = {4};
    Bly__TensorSliceProto slices[4], *slice_pointers[4];
    Bly__TensorSliceProto__Extent extents[4], *extent_pointers[4];
    struct item item;
    struct made made = begin();
    for (size_t i = 0; i < stored; i++) {
        bly_buf key = BLY_BUF_INIT;
        int64_t length = stored_length ? stored_length : places[i][1];
        bly_slice_key(&key, "v", 1, &places[i][0], &places[i][1]);
        make_item(&item, BELAY_FLOAT, 1, &length);
        give_bytes(&made, &item, "sixteen bytes ok", (size_t)(4 * length));
        add_packed(&made, key.data, key.len, &item.entry);
        bly_buf_free(&key);
    }
    make_item(&item, BELAY_FLOAT, 1, whole);
    for (size_t i = 0; i < count; i++) {
        bly__tensor_slice_proto__init(&slices[i]);
        bly__tensor_slice_proto__extent__init(&extents[i]);
        extents[i].start = places[i][0];
        extents[i].has_length_case = BLY__TENSOR_SLICE_PROTO__EXTENT__HAS_LENGTH_LENGTH;
        extents[i].length = places[i][1];
        extent_pointers[i] = &extents[i];
        slices[i].n_extent = 1;
        slices[i].extent = &extent_pointers[i];
        slice_pointers[i] = &slices[i];
    }
    item.entry.n_slices = count;
    item.entry.slices = slice_pointers;
    add_packed(&made, "v", 1, &item.entry);
    return finish(state, &made);
}

static void test_bundle_load__refuses_slices_that_do_not_fit_together(void **state) {
    static const int64_t good[][2] = {{0, 2}, {2, 2}}, across[][2] = {{0, 3}, {2, 2}};
    static const int64_t outside[][2] = {{0, 2}, {3, 2}}, negative[][2] = {{-1, 2}, {1, 3}};
    static const int64_t twice[][2] = {{0, 2}, {0, 2}};
    BLY_LOCAL_ERROR(err);
    float room[4];
    bly_bundle *bundle = bly_bundle_load(make_sliced(state, 2, good, 2, 0), &err);
    if (!bundle)
        fail_msg("%s", err.message);
    assert_int_equal(bly_bundle_read(bundle, bly_bundle_find(bundle, "v"), room, sizeof room, NULL),
                     BELAY_OK);
    assert_memory_equal(room, "sixteen sixteen ", 16);
    bly_bundle_free(bundle);
    assert_load_fails(make_sliced(state, 2, across, 2, 0), BELAY_DATA_LOSS, "overlap");
    assert_load_fails(make_sliced(state, 2, outside, 2, 0), BELAY_DATA_LOSS, "does not fit");
    assert_load_fails(make_sliced(state, 2, negative, 2, 0), BELAY_DATA_LOSS, "does not fit");
    assert_load_fails(make_sliced(state, 2, good, 2, 3), BELAY_DATA_LOSS, "does not fit");
    assert_load_fails(make_sliced(state, 2, good, 1, 0), BELAY_DATA_LOSS,
                      "lacks one of its slices");
    assert_load_fails(make_sliced(state, 2, twice, 1, 0), BELAY_DATA_LOSS, "overlap");
}

/* --- Made-up strings: lengths that lie, under checksums that are right
 * ------------------------------------------- */

static uint32_t put_lengths(bly_buf *out, const uint64_t *lengths, size_t count) {
    uint32_t crc = 0;
    for (size_t i = 0; i < count; i++) {
        bly_buf number = BLY_BUF_INIT;
        put_varint(out, lengths[i]);
        put_fixed32(&number, (uint32_t)lengths[i]);
        if (lengths[i] > UINT32_MAX)
            put_fixed32(&number, (uint32_t)(lengths[i] >> 32));
        crc = bly_crc32c(crc, number.data, number.len);
        bly_buf_free(&number);
    }
    size_t at = out->len;
    put_fixed32(out, bly_crc32c_mask(crc));
    return bly_crc32c(crc, out->data + at, 4);
}

static belay_code read_made_strings(void **state, const uint64_t *lengths, size_t count,
                                    const char *bytes, belay_error *err) {
    int64_t dims[] = {(int64_t)count};
    bly_bundle_strings strings;
    bly_buf content = BLY_BUF_INIT;
    struct item item;
    struct made made = begin();
    uint32_t crc = put_lengths(&content, lengths, count);
    crc = bly_crc32c(crc, bytes, strlen(bytes));
    bly_buf_puts(&content, bytes);
    make_item(&item, BELAY_STRING, 1, dims);
    give_bytes(&made, &item, content.data, content.len);
    item.entry.crc32c = bly_crc32c_mask(crc);
    add_packed(&made, "s", 1, &item.entry);
    bly_buf_free(&content);
    bly_bundle *bundle = bly_bundle_load(finish(state, &made), err);
    assert_non_null(bundle);
    const bly_bundle_tensor *tensor = bly_bundle_find(bundle, "s");
    belay_code code = bly_bundle_read_strings(bundle, tensor, &strings, err);
    assert_int_equal(code, bly_bundle_verify(bundle, NULL, NULL, NULL));
    bly_bundle_strings_free(&strings);
    bly_bundle_free(bundle);
    return code;
}

static void test_bundle_read_strings__does_not_believe_lengths(void **state) {
    static const uint64_t good[] = {3, 0, 2}, more[] = {3, 0, 3}, less[] = {3, 0, 1};
    static const uint64_t huge[] = {UINT64_MAX, 2, 4}, large[] = {INT64_C(1) << 33, 0, 0};
    BLY_LOCAL_ERROR(err);
    assert_int_equal(read_made_strings(state, good, 3, "abcde", &err), BELAY_OK);
    assert_int_equal(read_made_strings(state, more, 3, "abcde", &err), BELAY_DATA_LOSS);
    assert_int_equal(read_made_strings(state, less, 3, "abcde", &err), BELAY_DATA_LOSS);
    assert_int_equal(read_made_strings(state, huge, 3, "abcde", &err), BELAY_DATA_LOSS);
    assert_int_equal(read_made_strings(state, large, 3, "abcde", &err), BELAY_DATA_LOSS);
    assert_non_null(strstr(err.message, "tensor 's'"));
}

/* --- Any byte, with the checksums put right
 * ---------------------------------------------------------------------- */

static int quiet(void *self) {
    (void)self;
    return 0;
}

/* Whatever the index says, everything it leads to can be tried without a crash. */
static void try_everything(const char *prefix) {
    bly_bundle_strings strings;
    bly_bundle *bundle = bly_bundle_load(prefix, NULL);
    if (!bundle)
        return;
    for (size_t i = 0; i < bly_bundle_count(bundle); i++) {
        const bly_bundle_tensor *tensor = bly_bundle_at(bundle, i);
        assert_true(tensor->size_bytes <= 1 << 20);
        void *room = malloc(tensor->size_bytes + 1);
        assert_non_null(room);
        bly_bundle_read(bundle, tensor, room, tensor->size_bytes, NULL);
        bly_bundle_read_strings(bundle, tensor, &strings, NULL);
        bly_bundle_strings_free(&strings);
        free(room);
    }
    bly_bundle_verify(bundle, quiet, NULL, NULL);
    bly_bundle_free(bundle);
}

static void put_right(uint8_t *bytes, size_t at, size_t size) {
    uint32_t crc = bly_crc32c_mask(bly_crc32c(0, bytes + at, size + 1));
    for (int i = 0; i < 4; i++)
        bytes[at + size + 1 + (size_t)i] = (uint8_t)(crc >> (8 * i));
}

static void try_every_byte(void **state, const char *name) {
    static const uint8_t masks[] = {0x01, 0x02, 0x08, 0x40, 0x80, 0xff};
    const char *prefix = scratch_bundle(state, name);
    char index[4200];
    size_t size;
    snprintf(index, sizeof index, "%s.index", prefix);
    uint8_t *bytes = scratch_read(index, &size);
    /* One data block at 0, an empty one, the index block: each followed by 5 bytes. Their sizes
     * follow from the end. */
    const uint8_t *footer = bytes + size - 48;
    size_t meta_at = footer[0] < 0x80 ? footer[0] : (footer[0] & 0x7fu) | (size_t)footer[1] << 7;
    size_t data_size = meta_at - 5, index_at = meta_at + 8 + 5,
           index_size = size - 48 - 5 - index_at;
    for (size_t i = 0; i < size - 48; i++)
        for (size_t j = 0; j < sizeof masks; j++) {
            uint8_t was = bytes[i];
            bytes[i] ^= masks[j];
            if (i < data_size + 1)
                put_right(bytes, 0, data_size);
            else if (i >= index_at && i < index_at + index_size + 1)
                put_right(bytes, index_at, index_size);
            scratch_write(index, bytes, size);
            try_everything(prefix);
            bytes[i] = was;
        }
    free(bytes);
}

static void test_bundle__survives_any_byte_under_a_right_checksum(void **state) {
    try_every_byte(state, "plain");
    try_every_byte(state, "partitioned");
    try_every_byte(state, "sharded");
}

static void test_table__refuses_blocks_that_lie_anywhere_else(void **state) {
    (void)state;
    uint8_t zeros[64] = {0};
    BLY_LOCAL_ERROR(err);
    assert_int_equal(bly_table_walk("f", zeros, 0, NULL, NULL, &err), BELAY_DATA_LOSS);
    assert_int_equal(bly_table_walk("f", zeros, 64, NULL, NULL, &err), BELAY_DATA_LOSS);
    static const uint8_t magic[] = {0x57, 0xfb, 0x80, 0x8b, 0x24, 0x75, 0x47, 0xdb};
    memcpy(zeros + 56, magic, 8);
    assert_int_equal(bly_table_walk("f", zeros, 64, NULL, NULL, &err), BELAY_DATA_LOSS);
    memset(zeros + 16, 0xff, 9); /* a block at 2^63 and so on */
    zeros[25] = 1;
    assert_int_equal(bly_table_walk("f", zeros, 64, NULL, NULL, &err), BELAY_DATA_LOSS);
    memset(zeros + 16, 0xff, 40);
    assert_int_equal(bly_table_walk("f", zeros, 64, NULL, NULL, &err), BELAY_DATA_LOSS);
    assert_non_null(strstr(err.message, "footer"));
}

#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, scratch_set_up, scratch_tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        IN_FOLDER(test_bundle_load__notices_every_changed_byte_of_the_index),
        IN_FOLDER(test_bundle_load__notices_every_length_the_index_is_cut_to),
        IN_FOLDER(test_bundle_verify__names_the_tensor_that_a_changed_data_byte_belongs_to),
        IN_FOLDER(test_bundle_verify__names_a_damaged_slice),
        IN_FOLDER(test_bundle_load__refuses_what_it_cannot_read),
        IN_FOLDER(test_bundle_load__refuses_a_bad_header),
        IN_FOLDER(test_bundle_load__refuses_impossible_entries),
        IN_FOLDER(test_bundle_load__refuses_keys_that_are_no_names),
        IN_FOLDER(test_bundle__checks_types_that_it_does_not_know),
        IN_FOLDER(test_bundle_load__refuses_slices_that_do_not_fit_together),
        IN_FOLDER(test_bundle_read_strings__does_not_believe_lengths),
        IN_FOLDER(test_bundle__survives_any_byte_under_a_right_checksum),
        cmocka_unit_test(test_table__refuses_blocks_that_lie_anywhere_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
