/* Names of the slices of a partitioned variable in a bundle's index. */
#ifndef BLY_CHECKPOINT_SLICE_H
#define BLY_CHECKPOINT_SLICE_H

#include "base/buf.h"

#include <stddef.h>
#include <stdint.h>

#define BLY_SLICE_FULL ((int64_t)-1) /* as a length: the whole of the dimension */

/* Appends the key under which the slice of `name` that starts at start[] and is length[] long lies
 * in the index. Keys are in "ordered code": their bytes sort as the tuples (0, name, rank, start,
 * length, ...) do. */
void bly_slice_key(bly_buf *out, const char *name, size_t rank, const int64_t *start,
                   const int64_t *length);

#endif
