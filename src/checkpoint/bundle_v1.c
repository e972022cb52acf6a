/* Checkpoints of TensorFlow's old V1 format: what they hold, and that they are whole. The values
 * themselves lie in the same table, and only TensorFlow reads those. */
#include "base/buf.h"
#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "checkpoint/bundle_impl.h"
#include "checkpoint/table.h"
#include "wire/unpack.h"

#include <stdlib.h>
#include <string.h>

#define FILE_MAX ((size_t)1 << 40) /* the restore op has all of it in memory, too */

static belay_code damaged(const bly_bundle *bundle, const char *what, belay_error *err) {
    return bly_fail(err, BELAY_DATA_LOSS, "%s is damaged: %s", bundle->index_path, what);
}

static belay_code add_tensor(bly_bundle *bundle, const Bly__SavedSliceMeta *meta,
                             belay_error *err) {
    struct bly_tensor tensor = {.piece = BLY_NO_SHARD};
    bly_bundle_tensor *face = &tensor.face;
    size_t len = strlen(meta->name) + 1;
    char *name = bly_bundle_keep(bundle, len);
    int fits =
        bly_bundle_take_shape(bundle, meta->shape, &face->rank, &face->dims, &face->elements);
    if (fits == 0)
        return damaged(bundle, "a tensor has an impossible shape", err);
    if (fits < 0 || !name ||
        !bly_grow(&bundle->tensors, bundle->tensor_count, &bundle->tensor_capacity,
                  sizeof *bundle->tensors))
        return bly_fail_memory(err);
    memcpy(name, meta->name, len);
    face->name = name;
    face->dtype = meta->type;
    bundle->tensors[bundle->tensor_count++] = tensor;
    return BELAY_OK;
}

static belay_code each_entry(void *self, const uint8_t *key, size_t key_len, const uint8_t *value,
                             size_t value_len, belay_error *err) {
    bly_bundle *bundle = self;
    (void)key;
    if (key_len > 0)
        return BELAY_OK; /* a value */
    belay_code code = BELAY_OK;
    Bly__SavedTensorSlices *slices =
        bly_wire_unpack(&bly__saved_tensor_slices__descriptor, value, value_len, &code);
    if (!slices)
        return code == BELAY_DATA_LOSS ? damaged(bundle, "it does not say what is in it", err)
                                       : bly_fail_memory(err);
    bundle->num_shards = 1;
    for (size_t i = 0; code == BELAY_OK && slices->meta && i < slices->meta->n_tensor; i++)
        code = add_tensor(bundle, slices->meta->tensor[i], err);
    bly_wire_free(slices);
    return code;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const struct bly_tensor *)a)->face.name,
                  ((const struct bly_tensor *)b)->face.name);
}

static belay_code load(bly_bundle *bundle, belay_error *err) {
    bly_buf file = BLY_BUF_INIT;
    belay_code code = bly_file_read(bundle->index_path, FILE_MAX, &file, err);
    if (code == BELAY_OK)
        code = bly_table_walk(bundle->index_path, bly_buf_text(&file), file.len, each_entry, bundle,
                              err);
    if (code == BELAY_OK && bundle->num_shards == 0)
        code = damaged(bundle, "it has no header", err);
    bundle->index_bytes = file.len;
    bly_buf_free(&file);
    if (code != BELAY_OK)
        return code;
    if (bundle->tensor_count > 0)
        qsort(bundle->tensors, bundle->tensor_count, sizeof *bundle->tensors, by_name);
    for (size_t i = 1; i < bundle->tensor_count; i++)
        if (by_name(&bundle->tensors[i - 1], &bundle->tensors[i]) == 0)
            return damaged(bundle, "it holds a tensor twice", err);
    return BELAY_OK;
}

bly_bundle *bly_bundle_load_v1(const char *path, belay_error *err) {
    bly_bundle *bundle = bly_calloc(1, sizeof *bundle);
    if (!bundle) {
        bly_fail_memory(err);
        return NULL;
    }
    bundle->index_path = bly_strdup(path);
    bundle->prefix = bly_strdup(path);
    belay_code code =
        bundle->index_path && bundle->prefix ? load(bundle, err) : bly_fail_memory(err);
    if (code != BELAY_OK) {
        bly_bundle_free(bundle);
        return NULL;
    }
    return bundle;
}
