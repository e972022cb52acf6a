#include "input/npy.h"

#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "input/npy_header.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Up to this size the kernel is asked for the whole file at once. */
#define LARGE_BYTES ((size_t)256 << 20)

struct belay_npy {
    char *path;
    int fd; /* stays open: whether the file still has its size is asked before each use */
    struct timespec written;
    unsigned char *map; /* NULL where there are no elements */
    size_t map_bytes;
    struct bly_npy_header header;
    atomic_int references;
    atomic_flag warned;
};

/* ---- Loading ---- */

static belay_code read_beginning(int fd, const char *path, unsigned char *out, size_t *out_len,
                                 belay_error *err) {
    size_t len = 0;
    while (len < BLY_NPY_BEGINNING) {
        ssize_t got = pread(fd, out + len, BLY_NPY_BEGINNING - len, (off_t)len);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return bly_fail_errno(err, errno, "cannot read %s", path);
        if (got == 0)
            break;
        len += (size_t)got;
    }
    *out_len = len;
    return BELAY_OK;
}

static belay_code check_size(const struct bly_npy_header *header, size_t file_bytes,
                             const char *path, belay_error *err) {
    char shape[128];
    size_t there = file_bytes > header->data_offset ? file_bytes - header->data_offset : 0;
    if (there == header->data_bytes)
        return BELAY_OK;
    bly_npy_print_shape(header, shape, sizeof shape);
    if (there < header->data_bytes)
        return bly_fail(err, BELAY_DATA_LOSS,
                        "%s is cut short: shape %s of %s takes %zu bytes of data, and %zu are "
                        "there: copy it again, or save it again with numpy.save()",
                        path, shape, belay_dtype_name(header->dtype), header->data_bytes, there);
    return bly_fail(err, BELAY_DATA_LOSS,
                    "%s is too long: shape %s of %s takes %zu bytes of data, and %zu are there: "
                    "save one array in each file, with numpy.save()",
                    path, shape, belay_dtype_name(header->dtype), header->data_bytes, there);
}

static belay_code open_file(belay_npy *npy, struct stat *info, belay_error *err) {
    /* A pipe would block the open; on a file the flag means nothing. */
    npy->fd = open(npy->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (npy->fd < 0 || fstat(npy->fd, info) != 0)
        return bly_fail_errno(err, errno, "cannot read %s", npy->path);
    if (!S_ISREG(info->st_mode))
        return bly_fail(err, BELAY_INVALID_ARGUMENT,
                        "%s is %s, and not a .npy file: name a file that numpy.save() wrote",
                        npy->path, S_ISDIR(info->st_mode) ? "a folder" : "a pipe or a device");
    npy->written = info->st_mtim;
    return BELAY_OK;
}

static belay_code load(belay_npy *npy, unsigned char *beginning, belay_error *err) {
    struct stat info;
    size_t len = 0;
    belay_code code = open_file(npy, &info, err);
    if (code == BELAY_OK)
        code = read_beginning(npy->fd, npy->path, beginning, &len, err);
    if (code == BELAY_OK)
        code = bly_npy_parse_header(beginning, len, npy->path, &npy->header, err);
    if (code == BELAY_OK)
        code = check_size(&npy->header, (size_t)info.st_size, npy->path, err);
    if (code != BELAY_OK || npy->header.data_bytes == 0)
        return code;
    npy->map_bytes = (size_t)info.st_size;
    void *map = mmap(NULL, npy->map_bytes, PROT_READ, MAP_SHARED, npy->fd, 0);
    if (map == MAP_FAILED)
        return bly_fail_errno(err, errno, "cannot map %s into memory", npy->path);
    npy->map = map;
    return BELAY_OK;
}

belay_npy *belay_npy_load(const char *path, belay_error *err) {
    if (!path) {
        bly_fail(err, BELAY_INVALID_ARGUMENT, "the path of the .npy file is NULL");
        return NULL;
    }
    belay_npy *npy = bly_calloc(1, sizeof *npy);
    unsigned char *beginning = bly_malloc(BLY_NPY_BEGINNING);
    char *copy = bly_strdup(path);
    if (!npy || !beginning || !copy) {
        bly_fail_memory(err);
        bly_free(npy);
        bly_free(copy);
        npy = NULL;
        goto out;
    }
    npy->path = copy;
    npy->fd = -1;
    atomic_init(&npy->references, 1);
    atomic_flag_clear(&npy->warned);
    if (load(npy, beginning, err) != BELAY_OK) {
        belay_npy_free(npy);
        npy = NULL;
    }
out:
    bly_free(beginning);
    return npy;
}

belay_npy *bly_npy_ref(belay_npy *npy) {
    atomic_fetch_add(&npy->references, 1);
    return npy;
}

void belay_npy_free(belay_npy *npy) {
    if (!npy || atomic_fetch_sub(&npy->references, 1) != 1)
        return;
    if (npy->map)
        munmap(npy->map, npy->map_bytes);
    if (npy->fd >= 0)
        close(npy->fd);
    bly_free(npy->path);
    bly_free(npy);
}

/* ---- What it is ---- */

const char *belay_npy_path(const belay_npy *npy) {
    return npy ? npy->path : "";
}

belay_dtype belay_npy_dtype(const belay_npy *npy) {
    return npy ? npy->header.dtype : BELAY_INVALID_DTYPE;
}

uint32_t belay_npy_rank(const belay_npy *npy) {
    return npy ? npy->header.rank : 0;
}

int64_t belay_npy_dim(const belay_npy *npy, uint32_t index) {
    return npy && index < npy->header.rank ? npy->header.dims[index] : -1;
}

int64_t belay_npy_rows(const belay_npy *npy) {
    return npy ? npy->header.dims[0] : 0;
}

int64_t belay_npy_row_elements(const belay_npy *npy) {
    return npy ? (int64_t)npy->header.row_elements : 0;
}

size_t belay_npy_row_bytes(const belay_npy *npy) {
    if (!npy || npy->header.dtype == BELAY_STRING)
        return 0;
    return npy->header.row_elements * npy->header.item_bytes;
}

belay_code bly_npy_check(const belay_npy *npy, belay_error *err) {
    struct stat info;
    if (fstat(npy->fd, &info) != 0)
        return bly_fail_errno(err, errno, "cannot read %s", npy->path);
    if ((size_t)info.st_size < npy->map_bytes)
        return bly_fail(err, BELAY_DATA_LOSS,
                        "%s was cut short while it was in use: it had %zu bytes and has %zu: "
                        "restore it, and replace files by renaming, not by writing into them",
                        npy->path, npy->map_bytes, (size_t)info.st_size);
    if ((info.st_mtim.tv_sec != npy->written.tv_sec ||
         info.st_mtim.tv_nsec != npy->written.tv_nsec) &&
        !atomic_flag_test_and_set(&((belay_npy *)(uintptr_t)npy)->warned))
        bly_warn("%s was written to while it is in use: rows may be of the old or the new content",
                 npy->path);
    return BELAY_OK;
}

/* ---- Taking rows out ---- */

static size_t row_at(const struct bly_npy_rows *rows, int64_t i) {
    return rows->rows ? rows->rows[i] : (size_t)(rows->first + i);
}

/* Whether the elements of a row lie together, in C order. */
static int rows_are_whole(const struct bly_npy_header *header) {
    return !header->fortran || header->rank == 1;
}

/* In Fortran order: where element `e` (in C order) of row 0 is. Row r has it r elements further on.
 */
static size_t fortran_place(const struct bly_npy_header *header, size_t e) {
    size_t place = 0;
    for (uint32_t d = header->rank; d-- > 1;) {
        size_t size = (size_t)header->dims[d];
        size_t below = 1; /* the stride of dimension d */
        for (uint32_t k = 0; k < d; k++)
            below *= (size_t)header->dims[k];
        place += e % size * below;
        e /= size;
    }
    return place;
}

static void copy_item(unsigned char *to, const unsigned char *from, size_t bytes) {
    switch (bytes) { /* constant sizes are single instructions */
    case 1:
        *to = *from;
        break;
    case 2:
        memcpy(to, from, 2);
        break;
    case 4:
        memcpy(to, from, 4);
        break;
    case 8:
        memcpy(to, from, 8);
        break;
    default:
        memcpy(to, from, bytes);
    }
}

static void gather_fortran(const belay_npy *npy, const struct bly_npy_rows *rows,
                           unsigned char *to) {
    const struct bly_npy_header *header = &npy->header;
    const unsigned char *data = npy->map + header->data_offset;
    size_t item = header->item_bytes;
    size_t row_bytes = header->row_elements * item;
    for (size_t e = 0; e < header->row_elements; e++) {
        const unsigned char *column = data + fortran_place(header, e) * item;
        for (int64_t i = 0; i < rows->count; i++)
            copy_item(to + (size_t)i * row_bytes + e * item, column + row_at(rows, i) * item, item);
    }
}

static void gather_whole(const belay_npy *npy, const struct bly_npy_rows *rows, unsigned char *to) {
    const unsigned char *data = npy->map + npy->header.data_offset;
    size_t row_bytes = npy->header.row_elements * npy->header.item_bytes;
    if (!rows->rows) {
        memcpy(to, data + (size_t)rows->first * row_bytes, (size_t)rows->count * row_bytes);
        return;
    }
    for (int64_t i = 0; i < rows->count; i++)
        memcpy(to + (size_t)i * row_bytes, data + rows->rows[i] * row_bytes, row_bytes);
}

static void swap_all(unsigned char *at, size_t bytes, size_t unit) {
    for (unsigned char *end = at + bytes; at < end; at += unit)
        for (size_t i = 0; i < unit / 2; i++) {
            unsigned char one = at[i];
            at[i] = at[unit - 1 - i];
            at[unit - 1 - i] = one;
        }
}

void bly_npy_gather(const belay_npy *npy, const struct bly_npy_rows *rows, void *destination) {
    const struct bly_npy_header *header = &npy->header;
    unsigned char *to = destination;
    size_t bytes = (size_t)rows->count * header->row_elements * header->item_bytes;
    if (bytes == 0)
        return;
    if (rows_are_whole(header))
        gather_whole(npy, rows, to);
    else
        gather_fortran(npy, rows, to);
    if (header->swap && header->item_bytes > 1)
        swap_all(to, bytes, header->kind == 'c' ? header->item_bytes / 2 : header->item_bytes);
    /* Whatever tool wrote it: for TensorFlow a bool is 0 or 1. */
    for (size_t i = 0; header->kind == 'b' && i < bytes; i++)
        to[i] = to[i] != 0;
}

belay_code belay_npy_read(const belay_npy *npy, int64_t first, int64_t count, void *destination,
                          belay_error *err) {
    if (!npy || (!destination && count > 0))
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "%s is NULL", npy ? "destination" : "npy");
    if (npy->header.dtype == BELAY_STRING)
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "%s holds strings: use belay_batches for them",
                        npy->path);
    if (first < 0 || count < 0 || first > npy->header.dims[0] ||
        count > npy->header.dims[0] - first)
        return bly_fail(err, BELAY_OUT_OF_RANGE,
                        "%s has %lld rows, and %lld from row %lld on were asked for", npy->path,
                        (long long)npy->header.dims[0], (long long)count, (long long)first);
    belay_code code = bly_npy_check(npy, err);
    if (code == BELAY_OK)
        bly_npy_gather(npy, &(struct bly_npy_rows){NULL, first, count}, destination);
    return code;
}

/* ---- Strings ---- */

static uint32_t code_point(const unsigned char *from, int swap) {
    uint32_t value;
    memcpy(&value, from, sizeof value);
    return swap ? __builtin_bswap32(value) : value;
}

static size_t put_utf8(char *to, uint32_t c) {
    if (c < 0x80) {
        to[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        to[0] = (char)(0xc0 | c >> 6);
        to[1] = (char)(0x80 | (c & 0x3f));
        return 2;
    }
    if (c < 0x10000) {
        to[0] = (char)(0xe0 | c >> 12);
        to[1] = (char)(0x80 | (c >> 6 & 0x3f));
        to[2] = (char)(0x80 | (c & 0x3f));
        return 3;
    }
    to[0] = (char)(0xf0 | c >> 18);
    to[1] = (char)(0x80 | (c >> 12 & 0x3f));
    to[2] = (char)(0x80 | (c >> 6 & 0x3f));
    to[3] = (char)(0x80 | (c & 0x3f));
    return 4;
}

/* Appends one string, and a NUL behind it. Trailing NULs in the file are padding. */
static belay_code put_string(const belay_npy *npy, size_t row, const unsigned char *item,
                             bly_buf *out, belay_error *err) {
    const struct bly_npy_header *header = &npy->header;
    size_t unit = header->kind == 'U' ? 4 : 1;
    size_t len = header->item_bytes / unit;
    while (len > 0 && (unit == 4 ? code_point(item + 4 * (len - 1), 0) : item[len - 1]) == 0)
        len--;
    char *to = bly_buf_reserve(out, len * unit + 1);
    if (!to)
        return bly_fail_memory(err);
    size_t used = len;
    if (unit == 1) {
        memcpy(to, item, len);
    } else {
        used = 0;
        for (size_t i = 0; i < len; i++) {
            uint32_t c = code_point(item + 4 * i, header->swap);
            if (c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
                return bly_fail(err, BELAY_INVALID_ARGUMENT,
                                "%s: a string in row %zu holds U+%04X, which is no character: "
                                "save it as bytes (dtype S), or correct it",
                                npy->path, row, (unsigned)c);
            used += put_utf8(to + used, c);
        }
    }
    to[used] = '\0';
    out->len += used + 1;
    return BELAY_OK;
}

static const unsigned char *item_at(const belay_npy *npy, size_t row, size_t e) {
    const struct bly_npy_header *header = &npy->header;
    size_t place =
        rows_are_whole(header) ? row * header->row_elements + e : row + fortran_place(header, e);
    /* Strings of no bytes at all: nothing is mapped, and nothing is read. */
    return npy->map ? npy->map + header->data_offset + place * header->item_bytes
                    : (const unsigned char *)"";
}

static belay_code make_room(struct bly_npy_strings *out, size_t count, belay_error *err) {
    if (count <= out->capacity)
        return BELAY_OK;
    if (count > SIZE_MAX / sizeof *out->strings)
        return bly_fail_memory(err);
    const char **strings = bly_malloc(count * sizeof *strings);
    size_t *lengths = bly_malloc(count * sizeof *lengths);
    if (!strings || !lengths) {
        bly_free(strings);
        bly_free(lengths);
        return bly_fail_memory(err);
    }
    bly_free(out->strings);
    bly_free(out->lengths);
    out->strings = strings;
    out->lengths = lengths;
    out->capacity = count;
    return BELAY_OK;
}

belay_code bly_npy_gather_strings(const belay_npy *npy, const struct bly_npy_rows *rows,
                                  struct bly_npy_strings *out, belay_error *err) {
    size_t per_row = npy->header.row_elements;
    size_t count = 0;
    out->count = 0;
    bly_buf_clear(&out->bytes);
    if (__builtin_mul_overflow((size_t)rows->count, per_row, &count))
        return bly_fail_memory(err);
    belay_code code = make_room(out, count, err);
    for (size_t i = 0; i < count && code == BELAY_OK; i++) {
        size_t before = out->bytes.len;
        size_t row = row_at(rows, (int64_t)(i / per_row));
        code = put_string(npy, row, item_at(npy, row, i % per_row), &out->bytes, err);
        out->lengths[i] = code == BELAY_OK ? out->bytes.len - before - 1 : 0;
    }
    if (code != BELAY_OK)
        return code;
    /* Only now the bytes stay where they are. */
    const char *at = bly_buf_text(&out->bytes);
    for (size_t i = 0; i < count; i++) {
        out->strings[i] = at;
        at += out->lengths[i] + 1;
    }
    out->count = count;
    return BELAY_OK;
}

void bly_npy_strings_free(struct bly_npy_strings *strings) {
    bly_buf_free(&strings->bytes);
    bly_free(strings->strings);
    bly_free(strings->lengths);
    memset(strings, 0, sizeof *strings);
}

/* ---- Reading ahead ---- */

int bly_npy_is_large(const belay_npy *npy) {
    return npy->map_bytes > LARGE_BYTES;
}

/* Asks for whole pages around a range. What the kernel makes of it is its own affair: errors do not
 * matter. */
static void ask(const belay_npy *npy, size_t begin, size_t bytes) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t from = begin / page * page;
    posix_madvise(npy->map + from, begin + bytes - from, POSIX_MADV_WILLNEED);
}

void bly_npy_will_need_all(const belay_npy *npy) {
    if (npy->map)
        ask(npy, 0, npy->map_bytes);
}

void bly_npy_will_need(const belay_npy *npy, const struct bly_npy_rows *rows) {
    size_t row_bytes = npy->header.row_elements * npy->header.item_bytes;
    if (!npy->map || row_bytes == 0 || rows->count == 0 || !rows_are_whole(&npy->header))
        return;
    if (!rows->rows) {
        ask(npy, npy->header.data_offset + (size_t)rows->first * row_bytes,
            (size_t)rows->count * row_bytes);
        return;
    }
    for (int64_t i = 0; i < rows->count; i++)
        ask(npy, npy->header.data_offset + rows->rows[i] * row_bytes, row_bytes);
}
