#include "checkpoint/bundle.h"

#include "base/buf.h"
#include "base/crc32c.h"
#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/text.h"
#include "checkpoint/bundle_impl.h"
#include "checkpoint/slice.h"
#include "checkpoint/table.h"
#include "wire/checkpoint.pb-c.h"
#include "wire/unpack.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define INDEX_MAX    ((size_t)512 << 20) /* a million tensors take some 100 MiB */
#define RANK_MAX     254                 /* TensorFlow's */
#define PARTS_MAX    8192                /* checked pair by pair */
#define OUR_VERSION  1                   /* of the format; what TensorFlow 2.21 writes and reads */
#define BLOCK_SIZE   ((size_t)64 << 10)
#define SHARD_FORMAT "%s.data-%05d-of-%05d"

struct bly_block {
    struct bly_block *next;
    size_t used, size;
    max_align_t data[];
};

void *bly_bundle_keep(bly_bundle *bundle, size_t size) {
    struct bly_block *block = bundle->blocks;
    size = (size + sizeof(max_align_t) - 1) / sizeof(max_align_t) * sizeof(max_align_t);
    if (!block || block->size - block->used < size) {
        size_t room = size > BLOCK_SIZE ? size : BLOCK_SIZE;
        block = bly_malloc(sizeof *block + room);
        if (!block)
            return NULL;
        *block = (struct bly_block){.next = bundle->blocks, .size = room};
        bundle->blocks = block;
    }
    void *p = (char *)block->data + block->used;
    block->used += size;
    return p;
}

static belay_code damaged(const bly_bundle *bundle, const char *name, const char *what,
                          belay_error *err) {
    return bly_fail(err, BELAY_DATA_LOSS, "%s is damaged: tensor '%s' %s", bundle->index_path, name,
                    what);
}

/* ---- The entries ---- */

static belay_code read_header(bly_bundle *bundle, const uint8_t *value, size_t len,
                              belay_error *err) {
    belay_code code;
    Bly__BundleHeaderProto *header =
        bly_wire_unpack(&bly__bundle_header_proto__descriptor, value, len, &code);
    if (code == BELAY_RESOURCE_EXHAUSTED)
        return bly_fail_memory(err);
    if (!header)
        return bly_fail(err, BELAY_DATA_LOSS, "%s is damaged: its header cannot be read",
                        bundle->index_path);
    const Bly__BundleVersionDef *version = header->version;
    int refused = version && version->min_consumer > OUR_VERSION;
    for (size_t i = 0; version && i < version->n_bad_consumers; i++)
        refused = refused || version->bad_consumers[i] == OUR_VERSION;
    bundle->num_shards = header->num_shards;
    if (header->num_shards < 1)
        code = bly_fail(err, BELAY_DATA_LOSS, "%s is damaged: it has %d data files",
                        bundle->index_path, (int)header->num_shards);
    else if (header->endianness != BLY__BUNDLE_HEADER_PROTO__ENDIANNESS__LITTLE)
        code = bly_fail(err, BELAY_UNIMPLEMENTED,
                        "%s was written on a big-endian machine, which belay does not read",
                        bundle->index_path);
    else if (refused)
        code =
            bly_fail(err, BELAY_UNIMPLEMENTED,
                     "%s is of a newer version of the format than belay reads", bundle->index_path);
    bly_wire_free(header);
    return code;
}

/* Copies a shape and counts its elements; 0 where it is impossible, -1 when memory is out. */
int bly_bundle_take_shape(bly_bundle *bundle, const Bly__TensorShapeProto *shape, int32_t *rank,
                          const int64_t **dims, int64_t *elements) {
    size_t count = shape ? shape->n_dim : 0;
    *rank = (int32_t)count;
    *dims = NULL;
    *elements = 1;
    if (count == 0)
        return !(shape && shape->unknown_rank);
    if (count > RANK_MAX || shape->unknown_rank)
        return 0;
    int64_t *copy = bly_bundle_keep(bundle, count * sizeof *copy);
    if (!copy)
        return -1;
    for (size_t i = 0; i < count; i++) {
        copy[i] = shape->dim[i]->size;
        if (copy[i] < 0 || __builtin_mul_overflow(*elements, copy[i], elements))
            return 0;
    }
    *dims = copy;
    return 1;
}

/* What an entry says of its bytes must fit its type and shape. NULL, or what is wrong. */
static const char *check_bytes(const bly_bundle *bundle, const Bly__BundleEntryProto *entry,
                               const struct bly_piece *piece) {
    size_t width = belay_dtype_size(piece->dtype);
    int64_t wanted;
    if (entry->shard_id < 0 || entry->shard_id >= bundle->num_shards)
        return "lies in a data file that does not exist";
    if (entry->offset < 0 || entry->size < 0 || entry->offset > INT64_MAX - entry->size)
        return "lies at an impossible place";
    if (width > 0 &&
        (__builtin_mul_overflow(piece->elements, (int64_t)width, &wanted) || wanted != entry->size))
        return "has another size than its shape and type ask for";
    /* Of strings each has a length of at least a byte, and a checksum of them follows. */
    if (piece->dtype == BELAY_STRING && piece->elements > 0 &&
        (entry->size < 5 || piece->elements > entry->size - 4))
        return "has more elements than bytes";
    return NULL;
}

static belay_code add_piece(bly_bundle *bundle, struct bly_piece piece,
                            const Bly__BundleEntryProto *entry, belay_error *err) {
    const char *wrong = check_bytes(bundle, entry, &piece);
    if (wrong)
        return damaged(bundle, piece.name ? piece.name : "(a slice)", wrong, err);
    piece.shard_id = entry->shard_id;
    piece.shard = BLY_NO_SHARD;
    piece.offset = (uint64_t)entry->offset;
    piece.size = (uint64_t)entry->size;
    piece.crc = bly_crc32c_unmask(entry->crc32c);
    if (!bly_grow(&bundle->pieces, bundle->piece_count, &bundle->piece_capacity,
                  sizeof *bundle->pieces))
        return bly_fail_memory(err);
    bundle->pieces[bundle->piece_count++] = piece;
    return BELAY_OK;
}

/* Slices' own entries sort before every name, so all are there when the tensor they belong to
 * comes. */
static size_t find_piece(const bly_bundle *bundle, const char *key, size_t len) {
    size_t low = 0, high = bundle->piece_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct bly_piece *piece = &bundle->pieces[middle];
        size_t least = piece->key_len < len ? piece->key_len : len;
        int order = memcmp(piece->key, key, least);
        if (order == 0 && piece->key_len == len)
            return middle;
        if (order < 0 || (order == 0 && piece->key_len < len))
            low = middle + 1;
        else
            high = middle;
    }
    return SIZE_MAX;
}

/* Two slices of equal rank have an element in common. */
static int overlap(const bly_bundle *bundle, const struct bly_part *a, const struct bly_part *b) {
    const struct bly_piece *x = &bundle->pieces[a->piece], *y = &bundle->pieces[b->piece];
    for (int32_t i = 0; i < x->rank; i++)
        if (a->start[i] + x->dims[i] <= b->start[i] || b->start[i] + y->dims[i] <= a->start[i])
            return 0;
    return x->elements > 0 && y->elements > 0;
}

/* Finds the entry of one slice and checks that it fits into the whole. */
static belay_code take_part(bly_bundle *bundle, const struct bly_tensor *tensor,
                            const Bly__TensorSliceProto *slice, struct bly_part *out,
                            belay_error *err) {
    const bly_bundle_tensor *face = &tensor->face;
    int64_t length[RANK_MAX];
    if (slice->n_extent != (size_t)face->rank || face->rank == 0)
        return damaged(bundle, face->name, "has a slice of another rank", err);
    int64_t *start = bly_bundle_keep(bundle, slice->n_extent * sizeof *start);
    if (!start)
        return bly_fail_memory(err);
    for (size_t i = 0; i < slice->n_extent; i++) {
        const Bly__TensorSliceProto__Extent *extent = slice->extent[i];
        start[i] = extent->start;
        length[i] = extent->has_length_case == BLY__TENSOR_SLICE_PROTO__EXTENT__HAS_LENGTH_LENGTH
                        ? extent->length
                        : BLY_SLICE_FULL;
    }
    bly_buf key = BLY_BUF_INIT;
    bly_slice_key(&key, face->name, slice->n_extent, start, length);
    if (key.failed) {
        bly_buf_free(&key);
        return bly_fail_memory(err);
    }
    *out = (struct bly_part){find_piece(bundle, key.data, key.len), start};
    bly_buf_free(&key);
    if (out->piece == SIZE_MAX)
        return damaged(bundle, face->name, "lacks one of its slices", err);
    struct bly_piece *piece = &bundle->pieces[out->piece];
    if (piece->dtype != face->dtype || piece->rank != face->rank)
        return damaged(bundle, face->name, "has a slice of another type or rank", err);
    for (int32_t i = 0; i < face->rank; i++) {
        int64_t extent = length[i] == BLY_SLICE_FULL ? face->dims[i] : length[i];
        if (piece->dims[i] != extent || start[i] < 0 || extent > face->dims[i] ||
            start[i] > face->dims[i] - extent)
            return damaged(bundle, face->name, "has a slice that does not fit into it", err);
    }
    piece->name = face->name;
    return BELAY_OK;
}

static belay_code take_parts(bly_bundle *bundle, struct bly_tensor *tensor,
                             const Bly__BundleEntryProto *entry, belay_error *err) {
    int64_t covered = 0;
    uint64_t bytes = 0;
    if (entry->n_slices > PARTS_MAX)
        return bly_fail(err, BELAY_UNIMPLEMENTED,
                        "tensor '%s' in %s has %zu slices; belay reads up to %d", tensor->face.name,
                        bundle->index_path, entry->n_slices, PARTS_MAX);
    tensor->parts = bly_bundle_keep(bundle, entry->n_slices * sizeof *tensor->parts);
    if (!tensor->parts)
        return bly_fail_memory(err);
    for (size_t i = 0; i < entry->n_slices; i++) {
        struct bly_part *part = &tensor->parts[i];
        belay_code code = take_part(bundle, tensor, entry->slices[i], part, err);
        if (code != BELAY_OK)
            return code;
        for (size_t j = 0; j < i; j++)
            if (overlap(bundle, part, &tensor->parts[j]))
                return damaged(bundle, tensor->face.name, "has slices that overlap", err);
        covered += bundle->pieces[part->piece].elements; /* cannot exceed the whole */
        bytes += bundle->pieces[part->piece].size;
    }
    tensor->face.parts = entry->n_slices;
    tensor->face.size_bytes = bytes;
    tensor->partial = covered != tensor->face.elements;
    return BELAY_OK;
}

static belay_code add_tensor(bly_bundle *bundle, struct bly_piece piece,
                             const Bly__BundleEntryProto *entry, belay_error *err) {
    struct bly_tensor tensor = {
        .face = {piece.name, piece.dtype, piece.rank, piece.dims, piece.elements,
                 entry->size > 0 ? (uint64_t)entry->size : 0, 0,
                 entry->n_slices > 0 ? 0 : bly_crc32c_unmask(entry->crc32c)},
        .piece = bundle->piece_count,
    };
    belay_code code = entry->n_slices > 0 ? take_parts(bundle, &tensor, entry, err)
                                          : add_piece(bundle, piece, entry, err);
    if (code != BELAY_OK)
        return code;
    if (!bly_grow(&bundle->tensors, bundle->tensor_count, &bundle->tensor_capacity,
                  sizeof *bundle->tensors))
        return bly_fail_memory(err);
    bundle->tensors[bundle->tensor_count++] = tensor;
    return BELAY_OK;
}

static belay_code read_entry(bly_bundle *bundle, struct bly_piece piece,
                             const Bly__BundleEntryProto *entry, belay_error *err) {
    const char *name = piece.is_slice ? "(a slice)" : piece.name;
    int fits =
        bly_bundle_take_shape(bundle, entry->shape, &piece.rank, &piece.dims, &piece.elements);
    if (fits < 0)
        return bly_fail_memory(err);
    if (!fits)
        return damaged(bundle, name, "has an impossible shape", err);
    if (entry->dtype <= 0)
        return damaged(bundle, name, "has no type", err);
    piece.dtype = entry->dtype;
    if (!piece.is_slice)
        return add_tensor(bundle, piece, entry, err);
    if (entry->n_slices > 0)
        return damaged(bundle, name, "has slices itself", err);
    return add_piece(bundle, piece, entry, err);
}

static belay_code each_entry(void *self, const uint8_t *key, size_t key_len, const uint8_t *value,
                             size_t value_len, belay_error *err) {
    bly_bundle *bundle = self;
    if (key_len == 0)
        return read_header(bundle, value, value_len, err);
    if (bundle->num_shards == 0) /* the header's key sorts before all others */
        return bly_fail(err, BELAY_DATA_LOSS, "%s is damaged: it has no header",
                        bundle->index_path);
    char *copy = bly_bundle_keep(bundle, key_len + 1);
    if (!copy)
        return bly_fail_memory(err);
    memcpy(copy, key, key_len);
    copy[key_len] = '\0';
    struct bly_piece piece = {.key = copy, .key_len = key_len, .is_slice = key[0] == 0};
    piece.name = piece.is_slice ? NULL : copy;
    if (!piece.is_slice && strlen(copy) != key_len)
        return damaged(bundle, copy, "has a zero byte in its name", err);
    belay_code code;
    Bly__BundleEntryProto *entry =
        bly_wire_unpack(&bly__bundle_entry_proto__descriptor, value, value_len, &code);
    if (code == BELAY_RESOURCE_EXHAUSTED)
        return bly_fail_memory(err);
    if (!entry)
        return damaged(bundle, piece.is_slice ? "(a slice)" : copy, "has an unreadable entry", err);
    code = read_entry(bundle, piece, entry, err);
    bly_wire_free(entry);
    return code;
}

/* --- The data files
 * ---------------------------------------------------------------------------------------------- */

static int compare_ids(const void *a, const void *b) {
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

static belay_code open_shard(const bly_bundle *bundle, int32_t id, struct bly_shard *shard,
                             belay_error *err) {
    struct stat info;
    bly_buf path = BLY_BUF_INIT;
    bly_buf_printf(&path, SHARD_FORMAT, bundle->prefix, (int)id, (int)bundle->num_shards);
    shard->path = bly_buf_take(&path);
    if (!shard->path)
        return bly_fail_memory(err);
    shard->id = id;
    if (stat(shard->path, &info) != 0) {
        if (errno == ENOENT || errno == ENOTDIR)
            return bly_fail(err, BELAY_DATA_LOSS, "%s is missing", shard->path);
        return bly_fail_errno(err, errno, "cannot read %s", shard->path);
    }
    if (!S_ISREG(info.st_mode))
        return bly_fail(err, BELAY_DATA_LOSS, "%s is not a file", shard->path);
    shard->size = (uint64_t)info.st_size;
    return BELAY_OK;
}

/* Opens nothing yet, but makes sure that what the index promises is there. Only files that hold
 * bytes are looked at: TensorFlow's own reader does not open the others. */
static belay_code find_shards(bly_bundle *bundle, belay_error *err) {
    belay_code code = BELAY_OK;
    int32_t *ids = bly_malloc(bundle->piece_count * sizeof *ids);
    size_t used = 0, count = 0;
    if (!ids)
        return bly_fail_memory(err);
    for (size_t i = 0; i < bundle->piece_count; i++)
        if (bundle->pieces[i].size > 0)
            ids[used++] = bundle->pieces[i].shard_id;
    qsort(ids, used, sizeof *ids, compare_ids);
    for (size_t i = 0; i < used; i++)
        if (count == 0 || ids[count - 1] != ids[i])
            ids[count++] = ids[i];
    bundle->shards = bly_calloc(count, sizeof *bundle->shards);
    if (!bundle->shards) {
        code = bly_fail_memory(err);
        goto out;
    }
    for (size_t i = 0; i < count; i++)
        atomic_init(&bundle->shards[i].fd, -1);
    bundle->shard_count = count;
    for (size_t i = 0; i < count && code == BELAY_OK; i++)
        code = open_shard(bundle, ids[i], &bundle->shards[i], err);
    for (size_t i = 0; i < bundle->piece_count && code == BELAY_OK; i++) {
        struct bly_piece *piece = &bundle->pieces[i];
        if (piece->size == 0)
            continue;
        const int32_t *at = bsearch(&piece->shard_id, ids, count, sizeof *ids, compare_ids);
        piece->shard = (size_t)(at - ids);
        const struct bly_shard *shard = &bundle->shards[piece->shard];
        if (piece->offset + piece->size > shard->size)
            code = bly_fail(err, BELAY_DATA_LOSS,
                            "%s is truncated: it has %llu bytes, tensor '%s' ends at %llu",
                            shard->path, (unsigned long long)shard->size,
                            piece->name ? piece->name : "(a slice)",
                            (unsigned long long)(piece->offset + piece->size));
    }
out:
    bly_free(ids);
    return code;
}

/* ---- The bundle ---- */

static belay_code read_index(bly_bundle *bundle, belay_error *err) {
    bly_buf index = BLY_BUF_INIT;
    belay_code code = bly_file_read(bundle->index_path, INDEX_MAX, &index, err);
    if (code == BELAY_INVALID_ARGUMENT && bly_file_exists(bundle->index_path))
        code =
            bly_fail(err, BELAY_DATA_LOSS, "%s is no checkpoint index: it is larger than %zu MiB",
                     bundle->index_path, INDEX_MAX >> 20);
    if (code == BELAY_OK)
        code = bly_table_walk(bundle->index_path, bly_buf_text(&index), index.len, each_entry,
                              bundle, err);
    if (code == BELAY_OK && bundle->num_shards == 0)
        code =
            bly_fail(err, BELAY_DATA_LOSS, "%s is damaged: it has no header", bundle->index_path);
    bundle->index_bytes = index.len;
    bly_buf_free(&index);
    return code;
}

bly_bundle *bly_bundle_load(const char *prefix, belay_error *err) {
    bly_bundle *bundle = bly_calloc(1, sizeof *bundle);
    bly_buf path = BLY_BUF_INIT;
    if (!bundle) {
        bly_fail_memory(err);
        return NULL;
    }
    bly_buf_printf(&path, "%s.index", prefix);
    bundle->index_path = bly_buf_take(&path);
    bundle->prefix = bly_strdup(prefix);
    belay_code code = BELAY_OK;
    if (!bundle->index_path || !bundle->prefix)
        code = bly_fail_memory(err);
    if (code == BELAY_OK)
        code = read_index(bundle, err);
    if (code == BELAY_OK)
        code = find_shards(bundle, err);
    if (code != BELAY_OK) {
        bly_bundle_free(bundle);
        return NULL;
    }
    return bundle;
}

void bly_bundle_free(bly_bundle *bundle) {
    if (!bundle)
        return;
    for (size_t i = 0; i < bundle->shard_count; i++) {
        int fd = atomic_load(&bundle->shards[i].fd);
        if (fd >= 0)
            close(fd);
        bly_free(bundle->shards[i].path);
    }
    for (struct bly_block *block = bundle->blocks, *next; block; block = next) {
        next = block->next;
        bly_free(block);
    }
    bly_free(bundle->shards);
    bly_free(bundle->tensors);
    bly_free(bundle->pieces);
    bly_free(bundle->index_path);
    bly_free(bundle->prefix);
    bly_free(bundle);
}

const char *bly_bundle_prefix(const bly_bundle *bundle) {
    return bundle->prefix;
}

size_t bly_bundle_count(const bly_bundle *bundle) {
    return bundle->tensor_count;
}

const bly_bundle_tensor *bly_bundle_at(const bly_bundle *bundle, size_t index) {
    return index < bundle->tensor_count ? &bundle->tensors[index].face : NULL;
}

const bly_bundle_tensor *bly_bundle_find(const bly_bundle *bundle, const char *name) {
    size_t low = 0, high = bundle->tensor_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(bundle->tensors[middle].face.name, name);
        if (order == 0)
            return &bundle->tensors[middle].face;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

size_t bly_bundle_index(const bly_bundle *bundle, const bly_bundle_tensor *tensor) {
    return (size_t)((const struct bly_tensor *)(const void *)tensor - bundle->tensors);
}

const char *bly_bundle_nearest(const bly_bundle *bundle, const char *name) {
    const char **names = bly_malloc(bundle->tensor_count * sizeof *names);
    if (!names)
        return NULL;
    for (size_t i = 0; i < bundle->tensor_count; i++)
        names[i] = bundle->tensors[i].face.name;
    const char *nearest = bly_nearest(name, names, bundle->tensor_count);
    bly_free(names);
    return nearest;
}

uint64_t bly_bundle_data_bytes(const bly_bundle *bundle) {
    uint64_t total = 0;
    for (size_t i = 0; i < bundle->piece_count; i++)
        total += bundle->pieces[i].size;
    return total;
}

uint64_t bly_bundle_file_bytes(const bly_bundle *bundle) {
    uint64_t total = bundle->index_bytes;
    for (size_t i = 0; i < bundle->shard_count; i++)
        total += bundle->shards[i].size;
    return total;
}
