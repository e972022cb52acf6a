/* What bundle.c (the index) and bundle_read.c (the data) share. */
#ifndef BLY_CHECKPOINT_BUNDLE_IMPL_H
#define BLY_CHECKPOINT_BUNDLE_IMPL_H

#include "checkpoint/bundle.h"
#include "wire/checkpoint.pb-c.h"

#include <stdatomic.h>

#define BLY_NO_SHARD SIZE_MAX /* of a piece without bytes */

/* Bytes in a data file: a whole tensor, or one slice of a partitioned variable. */
struct bly_piece {
    const char *key; /* as in the index; a slice's is no text */
    size_t key_len;
    const char *name; /* of the tensor it belongs to; NULL where a slice belongs to none */
    int is_slice;
    belay_dtype dtype;
    int32_t rank;
    const int64_t *dims;
    int64_t elements;
    int32_t shard_id;
    size_t shard; /* index in bly_bundle.shards */
    uint64_t offset;
    uint64_t size;
    uint32_t crc;
};

/* Where a slice lies in the whole. */
struct bly_part {
    size_t piece;
    const int64_t *start; /* tensor rank of them; its extent is the piece's dims */
};

struct bly_tensor {
    bly_bundle_tensor face; /* first: the public pointer leads back here */
    size_t piece;           /* where parts is 0 */
    struct bly_part *parts;
    int partial; /* slices do not cover the whole: this bundle alone cannot give it */
};

struct bly_shard {
    int32_t id;
    char *path;
    uint64_t size;
    atomic_int fd; /* -1 until the first read */
};

struct bly_block; /* of memory that names and dims lie in */

struct bly_bundle {
    char *prefix;
    char *index_path;
    uint64_t index_bytes;
    int32_t num_shards;
    struct bly_piece *pieces; /* in order of keys */
    size_t piece_count, piece_capacity;
    struct bly_tensor *tensors; /* in order of names */
    size_t tensor_count, tensor_capacity;
    struct bly_shard *shards; /* in order of ids; only those that pieces use */
    size_t shard_count;
    struct bly_block *blocks;
};

/* Memory that lives as long as the bundle. NULL when memory is out. */
void *bly_bundle_keep(bly_bundle *bundle, size_t size);
/* A shape, its dims kept in the bundle. 1; 0: no possible shape; -1: memory is out. */
int bly_bundle_take_shape(bly_bundle *bundle, const Bly__TensorShapeProto *shape, int32_t *rank,
                          const int64_t **dims, int64_t *elements);

#endif
