/* The public face of reading one checkpoint (belay/checkpoint.h). */
#include <belay/checkpoint.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "checkpoint/bundle.h"

#include <string.h>

/* The face has its own struct, so that bly_bundle_tensor can change. */
struct belay_checkpoint_reader {
    bly_bundle *bundle;
    belay_checkpoint_tensor *tensors; /* the bundle's, in its order */
};

struct belay_checkpoint_strings {
    bly_bundle_strings held;
};

_Static_assert(sizeof(belay_checkpoint_tensor) ==
                   offsetof(belay_checkpoint_tensor, reserved) + sizeof(uint32_t),
               "no tail padding");

static belay_code load(belay_checkpoint_reader *reader, const char *prefix, belay_error *err) {
    BLY_LOCAL_ERROR(why);
    reader->bundle = bly_bundle_load(prefix, &why);
    if (!reader->bundle && why.code == BELAY_NOT_FOUND && bly_file_exists(prefix))
        return bly_fail(err, BELAY_UNIMPLEMENTED,
                        "%s has no .index beside it: checkpoints of the V1 format are not read",
                        prefix);
    if (!reader->bundle && why.code == BELAY_NOT_FOUND)
        return bly_fail(err, BELAY_NOT_FOUND, "no checkpoint %s: there is no %s.index", prefix,
                        prefix);
    if (!reader->bundle) {
        bly_error_copy(err, &why);
        return why.code;
    }
    size_t count = bly_bundle_count(reader->bundle);
    reader->tensors = bly_calloc(count, sizeof *reader->tensors);
    if (!reader->tensors)
        return bly_fail_memory(err);
    for (size_t i = 0; i < count; i++) {
        const bly_bundle_tensor *from = bly_bundle_at(reader->bundle, i);
        reader->tensors[i] = (belay_checkpoint_tensor){
            .name = from->name,
            .dims = from->dims,
            .elements = from->elements,
            .size_bytes = from->size_bytes,
            .parts = from->parts,
            .dtype = from->dtype,
            .rank = from->rank,
            .crc32c = from->crc,
        };
    }
    return BELAY_OK;
}

belay_checkpoint_reader *belay_checkpoint_reader_load(const char *prefix, belay_error *err) {
    if (!prefix) {
        if (belay_error_code(err) == BELAY_OK)
            bly_fail(err, BELAY_INVALID_ARGUMENT, "no checkpoint was named");
        return NULL;
    }
    belay_checkpoint_reader *reader = bly_calloc(1, sizeof *reader);
    if (!reader) {
        bly_fail_memory(err);
        return NULL;
    }
    if (load(reader, prefix, err) == BELAY_OK)
        return reader;
    belay_checkpoint_reader_free(reader);
    return NULL;
}

void belay_checkpoint_reader_free(belay_checkpoint_reader *reader) {
    if (!reader)
        return;
    bly_bundle_free(reader->bundle);
    bly_free(reader->tensors);
    bly_free(reader);
}

const char *belay_checkpoint_reader_prefix(const belay_checkpoint_reader *reader) {
    return reader ? bly_bundle_prefix(reader->bundle) : NULL;
}

size_t belay_checkpoint_reader_count(const belay_checkpoint_reader *reader) {
    return reader ? bly_bundle_count(reader->bundle) : 0;
}

const belay_checkpoint_tensor *belay_checkpoint_reader_at(const belay_checkpoint_reader *reader,
                                                          size_t index) {
    return reader && index < bly_bundle_count(reader->bundle) ? &reader->tensors[index] : NULL;
}

const belay_checkpoint_tensor *belay_checkpoint_reader_find(const belay_checkpoint_reader *reader,
                                                            const char *name) {
    const bly_bundle_tensor *found = reader && name ? bly_bundle_find(reader->bundle, name) : NULL;
    return found ? &reader->tensors[bly_bundle_index(reader->bundle, found)] : NULL;
}

static const bly_bundle_tensor *look_up(const belay_checkpoint_reader *reader, const char *name,
                                        belay_error *err) {
    const bly_bundle_tensor *found = bly_bundle_find(reader->bundle, name);
    if (found)
        return found;
    const char *nearest = bly_bundle_nearest(reader->bundle, name);
    bly_fail(err, BELAY_NOT_FOUND, "%s has no tensor '%s'%s%s%s", bly_bundle_prefix(reader->bundle),
             name, nearest ? "; did you mean '" : "", nearest ? nearest : "", nearest ? "'?" : "");
    return NULL;
}

belay_code belay_checkpoint_reader_read(const belay_checkpoint_reader *reader, const char *name,
                                        void *buffer, uint64_t size, belay_error *err) {
    if (!reader || !name || (!buffer && size > 0))
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "%s is NULL",
                        !reader ? "reader"
                        : !name ? "name"
                                : "buffer");
    const bly_bundle_tensor *tensor = look_up(reader, name, err);
    return tensor ? bly_bundle_read(reader->bundle, tensor, buffer, size, err) : BELAY_NOT_FOUND;
}

belay_checkpoint_strings *
belay_checkpoint_reader_read_strings(const belay_checkpoint_reader *reader, const char *name,
                                     belay_error *err) {
    if (!reader || !name) {
        if (belay_error_code(err) == BELAY_OK)
            bly_fail(err, BELAY_INVALID_ARGUMENT, "%s is NULL", reader ? "name" : "reader");
        return NULL;
    }
    const bly_bundle_tensor *tensor = look_up(reader, name, err);
    if (!tensor)
        return NULL;
    belay_checkpoint_strings *strings = bly_calloc(1, sizeof *strings);
    if (!strings) {
        bly_fail_memory(err);
        return NULL;
    }
    if (bly_bundle_read_strings(reader->bundle, tensor, &strings->held, err) == BELAY_OK)
        return strings;
    bly_free(strings);
    return NULL;
}

void belay_checkpoint_strings_free(belay_checkpoint_strings *strings) {
    if (!strings)
        return;
    bly_bundle_strings_free(&strings->held);
    bly_free(strings);
}

size_t belay_checkpoint_strings_count(const belay_checkpoint_strings *strings) {
    return strings ? strings->held.count : 0;
}

const char *belay_checkpoint_strings_at(const belay_checkpoint_strings *strings, size_t index,
                                        size_t *out_size) {
    const bly_bundle_strings *held = strings ? &strings->held : NULL;
    int there = held && index < held->count;
    if (out_size)
        *out_size = there ? (size_t)(held->offsets[index + 1] - held->offsets[index]) : 0;
    return there ? held->data + held->offsets[index] : NULL;
}

belay_code belay_checkpoint_reader_verify(const belay_checkpoint_reader *reader, belay_error *err) {
    if (!reader)
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "reader is NULL");
    return bly_bundle_verify(reader->bundle, NULL, NULL, err);
}
