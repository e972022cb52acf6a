/* The manifest beside a checkpoint, PREFIX.belay.json: what TensorFlow's files do not say. A
 * checkpoint without one is as good as any: Python's have none. */
#ifndef BLY_CHECKPOINT_MANIFEST_H
#define BLY_CHECKPOINT_MANIFEST_H

#include "base/buf.h"

#include <belay/checkpoint.h>

#include <stddef.h>
#include <stdint.h>

#define BLY_MANIFEST_SUFFIX ".belay.json"

typedef struct bly_manifest_file {
    char *name; /* without folder: it lies beside the manifest */
    uint64_t size;
    int has_crc32c;
    uint32_t crc32c; /* of the whole file */
} bly_manifest_file;

typedef struct bly_manifest_metric {
    char *name;
    double value; /* not finite: written as null, read as NaN */
} bly_manifest_metric;

/* Start from BLY_MANIFEST_INIT; strings are the manifest's own. bly_manifest_free() frees and
 * empties it. */
typedef struct bly_manifest {
    char *belay;      /* version; NULL: this one's, when it is written */
    char *tensorflow; /* version; NULL: not known */
    int64_t step;
    int64_t saved_unix_ms;
    int64_t origin_unix_ms; /* from when keep-every-hours counts (retention.h); 0: not known */
    bly_manifest_file *files;
    size_t file_count, file_capacity;
    bly_manifest_metric *metrics;
    size_t metric_count, metric_capacity;
    char *input; /* a JSON object as text; NULL: none. Integers beyond int64 belong in strings */
    char *host;  /* NULL: not known */
    int64_t pid;
    int pinned; /* retention never deletes it */
} bly_manifest;

#define BLY_MANIFEST_INIT                                                                          \
    { .step = 0 }

void bly_manifest_free(bly_manifest *manifest);

/* `crc32c` may be NULL: not known. */
belay_code bly_manifest_add_file(bly_manifest *manifest, const char *name, uint64_t size,
                                 const uint32_t *crc32c, belay_error *err);
/* Adds or replaces. */
belay_code bly_manifest_set_metric(bly_manifest *manifest, const char *name, double value,
                                   belay_error *err);
/* The metric's value, or NaN. */
double bly_manifest_metric_of(const bly_manifest *manifest, const char *name);

/* Appends the manifest as JSON. BELAY_INVALID_ARGUMENT where `input` is no JSON object. */
belay_code bly_manifest_print(const bly_manifest *manifest, bly_buf *out, belay_error *err);

/* Reads JSON. Keys that are not known are passed over: a newer belay may have written them.
 * BELAY_DATA_LOSS: it is no manifest, and `file` and the reason are in the message. After an error
 * `out` is empty. */
belay_code bly_manifest_parse(const char *text, size_t len, const char *file, bly_manifest *out,
                              belay_error *err);

/* PREFIX.belay.json, written atomically. */
belay_code bly_manifest_write(const char *prefix, const bly_manifest *manifest, belay_error *err);

/* *out_found is 0, with BELAY_OK, where there is none. */
belay_code bly_manifest_read(const char *prefix, bly_manifest *out, int *out_found,
                             belay_error *err);

/* Compares what the manifest lists with the files beside it: BELAY_DATA_LOSS where one is missing
 * or has another size. */
belay_code bly_manifest_check_sizes(const char *prefix, const bly_manifest *manifest,
                                    belay_error *err);

#endif
