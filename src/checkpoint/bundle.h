/* TensorFlow's V2 checkpoints ("tensor bundles"), read without TensorFlow: PREFIX.index, a sorted
 * table of entries, and PREFIX.data-SSSSS-of-NNNNN, the bytes. Nothing in the files is trusted:
 * whatever they hold, the answer is a tensor whose checksum is right, or BELAY_DATA_LOSS with the
 * file's name.
 *
 * Once loaded a bundle does not change; reading and verifying may go on in several threads at once.
 */
#ifndef BLY_CHECKPOINT_BUNDLE_H
#define BLY_CHECKPOINT_BUNDLE_H

#include <belay/dtype.h>
#include <belay/error.h>

#include <stddef.h>
#include <stdint.h>

typedef struct bly_bundle bly_bundle;

/* One tensor, as its user sees it: a partitioned variable is one tensor of its full shape. Belongs
 * to the bundle. */
typedef struct bly_bundle_tensor {
    const char *name; /* the checkpoint key */
    belay_dtype dtype;
    int32_t rank;
    const int64_t *dims; /* NULL where rank is 0 */
    int64_t elements;    /* product of dims; 1 for a scalar */
    /* In memory: elements * element size, and never more than the data files really hold, so it can
     * be allocated. For strings, and whatever else has no fixed element size, and where slices are
     * missing: the bytes on disk. */
    uint64_t size_bytes;
    size_t parts; /* 0: stored whole; else the number of slices of a partitioned variable */
    uint32_t crc; /* of its bytes on disk; 0 where it has slices */
} bly_bundle_tensor;

/* Elements of a string tensor. Element i: data + offsets[i], of offsets[i + 1] - offsets[i] bytes
 * (not terminated). */
typedef struct bly_bundle_strings {
    char *data;
    uint64_t *offsets; /* count + 1 of them */
    size_t count;
} bly_bundle_strings;

/* Reads the index and compares the data files' sizes with it: what is returned is complete, but its
 * bytes are not yet checked. NULL with err:
 * - BELAY_NOT_FOUND: there is no PREFIX.index;
 * - BELAY_DATA_LOSS: damaged, truncated, or a data file is missing or short;
 * - BELAY_UNIMPLEMENTED: well-formed, but of a kind this reader does not know (compressed,
 *   big-endian, newer version);
 * - anything else: what the system said of a file; the checkpoint may be fine. */
bly_bundle *bly_bundle_load(const char *prefix, belay_error *err);
/* A checkpoint of the old V1 format, which is the one file `path`: a table with the tensors in it,
 * so that loading checks every byte. What comes back tells names, types and shapes; its data cannot
 * be read. Errors as above. */
bly_bundle *bly_bundle_load_v1(const char *path, belay_error *err);
void bly_bundle_free(bly_bundle *bundle);

const char *bly_bundle_prefix(const bly_bundle *bundle);
size_t bly_bundle_count(const bly_bundle *bundle);
const bly_bundle_tensor *bly_bundle_at(const bly_bundle *bundle, size_t index); /* sorted by name */
const bly_bundle_tensor *bly_bundle_find(const bly_bundle *bundle, const char *name); /* or NULL */
/* The place of a tensor that at() or find() gave. */
size_t bly_bundle_index(const bly_bundle *bundle, const bly_bundle_tensor *tensor);
/* Where bly_bundle_find() says NULL: the nearest name that is there, or NULL. */
const char *bly_bundle_nearest(const bly_bundle *bundle, const char *name);

/* Bytes of the data files that entries use, and on disk together with the index. */
uint64_t bly_bundle_data_bytes(const bly_bundle *bundle);
uint64_t bly_bundle_file_bytes(const bly_bundle *bundle);

/* Reads a whole tensor of a type with fixed element size into `buffer` of exactly size_bytes,
 * checking its CRC as it is filled; slices of a partitioned variable are put together. On
 * BELAY_DATA_LOSS the buffer's content is undefined. BELAY_INVALID_ARGUMENT where `size` is
 * another, the elements have no fixed size, or the slices that this bundle holds do not cover the
 * whole. */
belay_code bly_bundle_read(const bly_bundle *bundle, const bly_bundle_tensor *tensor, void *buffer,
                           uint64_t size, belay_error *err);

/* The same for a string tensor. `out` is to be freed with bly_bundle_strings_free(), and is empty
 * after an error. */
belay_code bly_bundle_read_strings(const bly_bundle *bundle, const bly_bundle_tensor *tensor,
                                   bly_bundle_strings *out, belay_error *err);
void bly_bundle_strings_free(bly_bundle_strings *strings);

/* The value of an int64 or int32 scalar, such as global_step. BELAY_NOT_FOUND where there is no
 * such tensor. */
belay_code bly_bundle_read_int(const bly_bundle *bundle, const char *name, int64_t *out,
                               belay_error *err);

/* Checks every byte that entries refer to, in the order they lie on disk, with little memory. The
 * first damage is BELAY_DATA_LOSS, naming tensor, file and offset. `stop` (NULL: never) is asked
 * between pieces of some MiB; when it returns other than 0 the answer is BELAY_CANCELLED. */
belay_code bly_bundle_verify(const bly_bundle *bundle, int (*stop)(void *self), void *self,
                             belay_error *err);

#endif
