/* The bytes of a bundle's tensors: read, checked and put together. */
#include "checkpoint/bundle_impl.h"

#include "base/crc32c.h"
#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define READ_PIECE                                                                                 \
    ((size_t)1 << 20) /* the checksum then works on bytes that are still in the cache */
#define VERIFY_PIECE ((size_t)4 << 20)
#define VARINT_MAX   10

typedef int (*stop_function)(void *self);

static const struct bly_shard *shard_of(const bly_bundle *bundle, const struct bly_piece *piece) {
    return piece->shard == BLY_NO_SHARD ? NULL : &bundle->shards[piece->shard];
}

/* Every report of damage names tensor, file and place. */
static belay_code damaged(const bly_bundle *bundle, const struct bly_piece *piece, const char *what,
                          belay_error *err) {
    const struct bly_shard *shard = shard_of(bundle, piece);
    return bly_fail(err, BELAY_DATA_LOSS, "%s'%s' is damaged: %s (%s, %llu bytes at offset %llu)",
                    piece->is_slice ? "a slice of tensor " : "tensor ",
                    piece->name ? piece->name : "(unknown)", what,
                    shard ? shard->path : bundle->index_path, (unsigned long long)piece->size,
                    (unsigned long long)piece->offset);
}

static belay_code check_crc(const bly_bundle *bundle, const struct bly_piece *piece, uint32_t crc,
                            belay_error *err) {
    if (crc == piece->crc)
        return BELAY_OK;
    char what[80];
    snprintf(what, sizeof what, "its checksum is %08x, recorded is %08x", (unsigned)crc,
             (unsigned)piece->crc);
    return damaged(bundle, piece, what, err);
}

/* The file stays open until the bundle is freed. Threads that come at once may open it twice; one
 * wins. */
static belay_code shard_file(const struct bly_shard *shard, int *out, belay_error *err) {
    atomic_int *slot = (atomic_int *)&shard->fd;
    *out = atomic_load(slot);
    if (*out >= 0)
        return BELAY_OK;
    int fd = open(shard->path, O_RDONLY | O_CLOEXEC), none = -1;
    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
        return bly_fail(err, BELAY_DATA_LOSS, "%s is missing", shard->path);
    if (fd < 0)
        return bly_fail_errno(err, errno, "cannot read %s", shard->path);
    if (!atomic_compare_exchange_strong(slot, &none, fd)) {
        close(fd);
        fd = none;
    }
    *out = fd;
    return BELAY_OK;
}

/* Reads bytes of a piece; `at` counts from its start. */
static belay_code read_at(const bly_bundle *bundle, const struct bly_piece *piece, uint64_t at,
                          void *buffer, size_t size, belay_error *err) {
    int fd;
    if (size == 0)
        return BELAY_OK;
    const struct bly_shard *shard = shard_of(bundle, piece);
    belay_code code = shard_file(shard, &fd, err);
    char *to = buffer;
    off_t from = (off_t)(piece->offset + at);
    while (code == BELAY_OK && size > 0) {
        ssize_t got = pread(fd, to, size, from);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return bly_fail_errno(err, errno, "cannot read tensor '%s' from %s at offset %lld",
                                  piece->name ? piece->name : "(unknown)", shard->path,
                                  (long long)from);
        if (got == 0)
            return damaged(bundle, piece, "the file has become shorter", err);
        to += got;
        from += got;
        size -= (size_t)got;
    }
    return code;
}

/* --- Types with a fixed size
 * ------------------------------------------------------------------------------------- */

static belay_code read_plain(const bly_bundle *bundle, const struct bly_piece *piece, char *to,
                             belay_error *err) {
    uint32_t crc = 0;
    for (uint64_t at = 0; at < piece->size;) {
        size_t some = piece->size - at < READ_PIECE ? (size_t)(piece->size - at) : READ_PIECE;
        belay_code code = read_at(bundle, piece, at, to + at, some, err);
        if (code != BELAY_OK)
            return code;
        crc = bly_crc32c(crc, to + at, some);
        at += some;
    }
    return check_crc(bundle, piece, crc, err);
}

/* How a slice lies in the whole: runs of bytes that follow one another in both. */
struct layout {
    const bly_bundle_tensor *whole;
    const struct bly_part *part;
    const struct bly_piece *piece;
    int32_t outer; /* how many leading dimensions are walked; the rest is one run */
    uint64_t run;  /* bytes */
    size_t width;
};

static struct layout lay_out(const bly_bundle_tensor *whole, const struct bly_part *part,
                             const struct bly_piece *piece) {
    struct layout layout = {whole, part, piece, whole->rank, 0, belay_dtype_size(whole->dtype)};
    layout.run = layout.width;
    while (layout.outer > 0) {
        int32_t last = layout.outer - 1;
        int full = piece->dims[last] == whole->dims[last];
        layout.run *= (uint64_t)piece->dims[last];
        layout.outer = last;
        if (!full)
            break; /* what follows after this dimension is no longer one run */
    }
    return layout;
}

/* Where in the whole the run number `run` of the slice begins. */
static uint64_t run_start(const struct layout *layout, uint64_t run) {
    const int64_t *dims = layout->whole->dims, *extent = layout->piece->dims;
    const int64_t *start = layout->part->start;
    uint64_t stride = layout->width, place = 0;
    for (int32_t i = layout->whole->rank - 1; i >= 0; i--) {
        uint64_t index = (uint64_t)start[i];
        if (i < layout->outer) {
            index += run % (uint64_t)extent[i];
            run /= (uint64_t)extent[i];
        }
        place += index * stride;
        stride *= (uint64_t)dims[i];
    }
    return place;
}

static void scatter(const struct layout *layout, uint64_t at, const char *from, size_t size,
                    char *to) {
    while (size > 0) {
        uint64_t within = at % layout->run, left = layout->run - within;
        size_t some = left < size ? (size_t)left : size;
        memcpy(to + run_start(layout, at / layout->run) + within, from, some);
        at += some;
        from += some;
        size -= some;
    }
}

static belay_code read_part(const bly_bundle *bundle, const struct bly_tensor *tensor,
                            const struct bly_part *part, char *to, belay_error *err) {
    const struct bly_piece *piece = &bundle->pieces[part->piece];
    if (piece->size == 0)
        return check_crc(bundle, piece, 0, err);
    struct layout layout = lay_out(&tensor->face, part, piece);
    if (layout.run == piece->size)
        return read_plain(bundle, piece, to + run_start(&layout, 0), err);
    char *bounce = bly_malloc(READ_PIECE);
    if (!bounce)
        return bly_fail_memory(err);
    belay_code code = BELAY_OK;
    uint32_t crc = 0;
    for (uint64_t at = 0; at < piece->size && code == BELAY_OK;) {
        size_t some = piece->size - at < READ_PIECE ? (size_t)(piece->size - at) : READ_PIECE;
        code = read_at(bundle, piece, at, bounce, some, err);
        if (code != BELAY_OK)
            break;
        crc = bly_crc32c(crc, bounce, some);
        scatter(&layout, at, bounce, some, to);
        at += some;
    }
    bly_free(bounce);
    return code == BELAY_OK ? check_crc(bundle, piece, crc, err) : code;
}

belay_code bly_bundle_read(const bly_bundle *bundle, const bly_bundle_tensor *face, void *buffer,
                           uint64_t size, belay_error *err) {
    const struct bly_tensor *tensor = (const struct bly_tensor *)(const void *)face;
    if (belay_dtype_size(face->dtype) == 0)
        return bly_fail(err, BELAY_INVALID_ARGUMENT,
                        "tensor '%s' in %s is of type %s (%d), whose elements have no fixed size",
                        face->name, bundle->prefix, belay_dtype_name(face->dtype),
                        (int)face->dtype);
    if (tensor->partial)
        return bly_fail(err, BELAY_INVALID_ARGUMENT,
                        "%s does not have sufficient slices for partitioned tensor '%s'",
                        bundle->prefix, face->name);
    if (size != face->size_bytes)
        return bly_fail(err, BELAY_INVALID_ARGUMENT,
                        "tensor '%s' in %s has %llu bytes, the buffer has %llu", face->name,
                        bundle->prefix, (unsigned long long)face->size_bytes,
                        (unsigned long long)size);
    if (face->parts == 0)
        return read_plain(bundle, &bundle->pieces[tensor->piece], buffer, err);
    belay_code code = BELAY_OK;
    for (size_t i = 0; i < face->parts && code == BELAY_OK; i++)
        code = read_part(bundle, tensor, &tensor->parts[i], buffer, err);
    return code;
}

belay_code bly_bundle_read_int(const bly_bundle *bundle, const char *name, int64_t *out,
                               belay_error *err) {
    const bly_bundle_tensor *face = bly_bundle_find(bundle, name);
    int32_t narrow = 0;
    *out = 0;
    if (!face)
        return bly_fail(err, BELAY_NOT_FOUND, "%s has no tensor '%s'", bundle->prefix, name);
    if (face->elements != 1 || (face->dtype != BELAY_INT64 && face->dtype != BELAY_INT32))
        return bly_fail(err, BELAY_INVALID_ARGUMENT,
                        "tensor '%s' in %s is no integer: %lld elements of type %s", name,
                        bundle->prefix, (long long)face->elements, belay_dtype_name(face->dtype));
    if (face->dtype == BELAY_INT64)
        return bly_bundle_read(bundle, face, out, sizeof *out, err);
    belay_code code = bly_bundle_read(bundle, face, &narrow, sizeof narrow, err);
    *out = narrow;
    return code;
}

/* --- Strings and variants
 * ---------------------------------------------------------------------------------------- */

/* Reads a piece from start to end through a small buffer. */
struct stream {
    const bly_bundle *bundle;
    const struct bly_piece *piece;
    stop_function stop;
    void *stop_self;
    char *buffer; /* of `capacity` */
    size_t capacity;
    size_t used, have; /* in the buffer */
    uint64_t next;     /* what of the piece is to be read next */
    uint32_t crc;
};

static uint64_t stream_left(const struct stream *in) {
    return in->piece->size - in->next + (in->have - in->used);
}

static belay_code stream_fill(struct stream *in, belay_error *err) {
    uint64_t left = in->piece->size - in->next;
    size_t some = left < in->capacity ? (size_t)left : in->capacity;
    if (in->used < in->have)
        return BELAY_OK;
    if (some == 0)
        return damaged(in->bundle, in->piece, "its lengths reach past its end", err);
    if (in->stop && in->stop(in->stop_self))
        return bly_fail(err, BELAY_CANCELLED, "stopped");
    belay_code code = read_at(in->bundle, in->piece, in->next, in->buffer, some, err);
    in->next += some;
    in->used = 0;
    in->have = some;
    return code;
}

/* Takes bytes and adds them to the checksum; `to` may be NULL. */
static belay_code stream_take(struct stream *in, char *to, uint64_t size, belay_error *err) {
    while (size > 0) {
        belay_code code = stream_fill(in, err);
        if (code != BELAY_OK)
            return code;
        size_t some = in->have - in->used;
        if (some > size)
            some = (size_t)size;
        in->crc = bly_crc32c(in->crc, in->buffer + in->used, some);
        if (to) {
            memcpy(to, in->buffer + in->used, some);
            to += some;
        }
        in->used += some;
        size -= some;
    }
    return BELAY_OK;
}

static belay_code stream_varint(struct stream *in, uint64_t *out, belay_error *err) {
    *out = 0;
    for (int i = 0; i < VARINT_MAX; i++) {
        belay_code code = stream_fill(in, err);
        if (code != BELAY_OK)
            return code;
        uint8_t byte = (uint8_t)in->buffer[in->used++];
        *out |= (uint64_t)(byte & 0x7f) << (7 * i);
        if (byte < 0x80)
            return BELAY_OK;
    }
    return damaged(in->bundle, in->piece, "a length is malformed", err);
}

static void add_number(struct stream *in, uint64_t value, size_t bytes) {
    uint8_t little[8];
    for (size_t i = 0; i < bytes; i++)
        little[i] = (uint8_t)(value >> (8 * i));
    in->crc = bly_crc32c(in->crc, little, bytes);
}

/* A checksum of all that came before lies in the middle of the bytes, and counts itself in what
 * follows. */
static belay_code stream_checksum(struct stream *in, belay_error *err) {
    uint8_t raw[4];
    uint32_t crc = in->crc;
    belay_code code = stream_take(in, (char *)raw, sizeof raw, err);
    if (code != BELAY_OK)
        return code;
    uint32_t stored =
        (uint32_t)raw[0] | (uint32_t)raw[1] << 8 | (uint32_t)raw[2] << 16 | (uint32_t)raw[3] << 24;
    if (bly_crc32c_unmask(stored) != crc)
        return damaged(in->bundle, in->piece, "the checksum of its lengths is wrong", err);
    return BELAY_OK;
}

/* The lengths of all strings, each as a varint; then their checksum, in which a length counts as a
 * number of four bytes, or eight where it needs them. `offsets` may be NULL. */
static belay_code read_lengths(struct stream *in, uint64_t *offsets, uint64_t *out_total,
                               belay_error *err) {
    uint64_t total = 0, len;
    for (int64_t i = 0; i < in->piece->elements; i++) {
        if (offsets)
            offsets[i] = total;
        belay_code code = stream_varint(in, &len, err);
        if (code != BELAY_OK)
            return code;
        if (len > in->piece->size - total)
            return damaged(in->bundle, in->piece, "its lengths reach past its end", err);
        add_number(in, len, len <= UINT32_MAX ? 4 : 8);
        total += len;
    }
    if (offsets)
        offsets[in->piece->elements] = total;
    *out_total = total;
    belay_code code = stream_checksum(in, err);
    if (code == BELAY_OK && total != stream_left(in))
        code = damaged(in->bundle, in->piece, "its lengths do not add up to its size", err);
    return code;
}

static belay_code check_strings(struct stream *in, belay_error *err) {
    uint64_t total;
    belay_code code = read_lengths(in, NULL, &total, err);
    return code == BELAY_OK ? stream_take(in, NULL, total, err) : code;
}

/* Variants: each is its length, its bytes, and a checksum of everything so far. */
static belay_code check_variants(struct stream *in, belay_error *err) {
    belay_code code = BELAY_OK;
    for (int64_t i = 0; i < in->piece->elements && code == BELAY_OK; i++) {
        uint64_t len;
        code = stream_varint(in, &len, err);
        if (code != BELAY_OK)
            break;
        add_number(in, len, 8);
        code = stream_take(in, NULL, len, err);
        if (code == BELAY_OK)
            code = stream_checksum(in, err);
    }
    if (code == BELAY_OK && stream_left(in) > 0)
        code = damaged(in->bundle, in->piece, "its lengths do not add up to its size", err);
    return code;
}

static belay_code read_strings(struct stream *in, bly_bundle_strings *out, belay_error *err) {
    uint64_t total = 0;
    const struct bly_piece *piece = in->piece;
    out->count = (size_t)piece->elements;
    out->offsets = bly_calloc(out->count + 1, sizeof *out->offsets);
    if (!out->offsets)
        return bly_fail_memory(err);
    if (piece->size > 0) {
        belay_code code = read_lengths(in, out->offsets, &total, err);
        if (code != BELAY_OK)
            return code;
    }
    out->data = bly_malloc((size_t)total);
    if (!out->data)
        return bly_fail_memory(err);
    belay_code code = stream_take(in, out->data, total, err);
    return code == BELAY_OK ? check_crc(in->bundle, piece, in->crc, err) : code;
}

belay_code bly_bundle_read_strings(const bly_bundle *bundle, const bly_bundle_tensor *face,
                                   bly_bundle_strings *out, belay_error *err) {
    const struct bly_tensor *tensor = (const struct bly_tensor *)(const void *)face;
    *out = (bly_bundle_strings){NULL, NULL, 0};
    if (face->dtype != BELAY_STRING)
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "tensor '%s' in %s is of type %s, not string",
                        face->name, bundle->prefix, belay_dtype_name(face->dtype));
    if (face->parts > 0) /* nor does TensorFlow put them together */
        return bly_fail(err, BELAY_UNIMPLEMENTED,
                        "tensor '%s' in %s is a partitioned string variable", face->name,
                        bundle->prefix);
    struct stream in = {.bundle = bundle, .piece = &bundle->pieces[tensor->piece]};
    in.capacity = in.piece->size < READ_PIECE ? (size_t)in.piece->size : READ_PIECE;
    in.buffer = bly_malloc(in.capacity);
    belay_code code = in.buffer ? read_strings(&in, out, err) : bly_fail_memory(err);
    bly_free(in.buffer);
    if (code != BELAY_OK)
        bly_bundle_strings_free(out);
    return code;
}

void bly_bundle_strings_free(bly_bundle_strings *strings) {
    bly_free(strings->data);
    bly_free(strings->offsets);
    *strings = (bly_bundle_strings){NULL, NULL, 0};
}

/* ---- All of it ---- */

static int compare_places(const void *a, const void *b) {
    const struct bly_piece *x = *(const struct bly_piece *const *)a;
    const struct bly_piece *y = *(const struct bly_piece *const *)b;
    if (x->shard != y->shard)
        return (x->shard > y->shard) - (x->shard < y->shard);
    return (x->offset > y->offset) - (x->offset < y->offset);
}

static belay_code verify_piece(struct stream *in, belay_error *err) {
    belay_code code;
    in->used = in->have = 0;
    in->next = 0;
    in->crc = 0;
    if (in->piece->size > 0 && in->piece->dtype == BELAY_STRING)
        code = check_strings(in, err);
    else if (in->piece->size > 0 && in->piece->dtype == BELAY_VARIANT)
        code = check_variants(in, err);
    else
        code = stream_take(in, NULL, in->piece->size, err);
    return code == BELAY_OK ? check_crc(in->bundle, in->piece, in->crc, err) : code;
}

belay_code bly_bundle_verify(const bly_bundle *bundle, int (*stop)(void *self), void *self,
                             belay_error *err) {
    belay_code code = BELAY_OK;
    struct stream in = {.bundle = bundle, .stop = stop, .stop_self = self};
    const struct bly_piece **order = bly_malloc(bundle->piece_count * sizeof *order);
    for (size_t i = 0; i < bundle->piece_count; i++)
        if (bundle->pieces[i].size > in.capacity)
            in.capacity = bundle->pieces[i].size < VERIFY_PIECE ? (size_t)bundle->pieces[i].size
                                                                : VERIFY_PIECE;
    in.buffer = bly_malloc(in.capacity);
    if (!order || !in.buffer) {
        code = bly_fail_memory(err);
        goto out;
    }
    for (size_t i = 0; i < bundle->piece_count; i++)
        order[i] = &bundle->pieces[i];
    qsort(order, bundle->piece_count, sizeof *order, compare_places);
    for (size_t i = 0; i < bundle->piece_count && code == BELAY_OK; i++) {
        in.piece = order[i];
        code = verify_piece(&in, err);
    }
out:
    bly_free(order);
    bly_free(in.buffer);
    return code;
}
