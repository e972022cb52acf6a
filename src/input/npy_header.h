/* The header of a .npy file: magic, version, length, and a Python dict with 'descr',
 * 'fortran_order' and 'shape'. */
#ifndef BLY_INPUT_NPY_HEADER_H
#define BLY_INPUT_NPY_HEADER_H

#include <belay/dtype.h>
#include <belay/error.h>

#include <stddef.h>
#include <stdint.h>

#define BLY_NPY_RANK_MOST 64 /* NumPy's own limit */

/* NumPy itself refuses to read longer headers than 10000 bytes, and only structured types need one.
 */
#define BLY_NPY_HEADER_MOST ((size_t)65535)
/* As much of a file's beginning as bly_npy_parse_header() ever looks at. */
#define BLY_NPY_BEGINNING (BLY_NPY_HEADER_MOST + 12)

struct bly_npy_header {
    belay_dtype dtype;
    char kind;         /* NumPy's letter: b i u f c S U */
    size_t item_bytes; /* of an element in the file */
    int swap;          /* the file's byte order is not this machine's */
    int fortran;
    uint32_t rank; /* 1 or more */
    int64_t dims[BLY_NPY_RANK_MOST];
    size_t row_elements; /* product of dims[1..] */
    size_t data_bytes;   /* what the shape takes */
    size_t data_offset;  /* where the elements begin */
};

/* Reads the header in the first `len` bytes of a file (all of it, or BLY_NPY_BEGINNING). `path` is
 * for messages. */
belay_code bly_npy_parse_header(const unsigned char *data, size_t len, const char *path,
                                struct bly_npy_header *out, belay_error *err);

/* The shape as Python prints it, for messages; cut where it is long. */
void bly_npy_print_shape(const struct bly_npy_header *header, char *out, size_t size);

#endif
