/* What a folder says about its checkpoints: the state file (CK rows), and what really lies there
 * (BUG-32).
 *
 * Names are bytes and never patterns (BUG-38). Nothing here logs; where a row asks for a log line,
 * the result says so. */
#ifndef BLY_CHECKPOINT_STATE_H
#define BLY_CHECKPOINT_STATE_H

#include <belay/checkpoint.h>

#include <stddef.h>
#include <stdint.h>

#define BLY_STATE_FILE "checkpoint"

/* The state file's content. Start from BLY_STATE_INIT; bly_state_free() frees what it holds and
 * empties it. */
typedef struct bly_state {
    char *latest; /* model_checkpoint_path; NULL: there is none */
    char **paths; /* all_model_checkpoint_paths, oldest first */
    size_t count;
    double *timestamps; /* seconds since 1970; NULL, or as many as paths */
    int has_last_preserved;
    double last_preserved;
} bly_state;

#define BLY_STATE_INIT                                                                             \
    { NULL, NULL, 0, NULL, 0, 0.0 }

void bly_state_free(bly_state *state);

/* Adds a path as the newest; one that is listed already moves to the end (SV-31). Does not touch
 * `latest`, and drops timestamps. */
belay_code bly_state_add(bly_state *state, const char *path, belay_error *err);

/* Reads DIRECTORY/NAME (NULL: "checkpoint"). Relative paths come back joined to `directory`
 * textually (CK-12). After an error `out` is empty:
 * - BELAY_NOT_FOUND: no such file (CK-10: no checkpoint);
 * - BELAY_DATA_LOSS: cannot be parsed (CK-10), with line and column; or parses, but has no
 *   model_checkpoint_path (CK-11, ER-21: "Invalid checkpoint state loaded from <dir>");
 * - anything else: what the system said. */
belay_code bly_state_read(const char *directory, const char *name, bly_state *out,
                          belay_error *err);

/* FAILED_PRECONDITION where a folder lies in the state file's place: what is saved there could
 * never be named. For those who are about to train or save. */
belay_code bly_state_check_place(const char *directory, const char *name, belay_error *err);

/* Writes DIRECTORY/NAME atomically (CK-09), rendered as TensorFlow does (CK-03), with paths
 * rewritten by CK-05 and, with `relative`, CK-06. `latest` is appended to the paths where it is not
 * the last (CK-04); *out_appended says so.
 * - BELAY_INVALID_ARGUMENT: timestamps do not fit the paths (CK-07), or NAME has a folder in it
 *   (SV-19);
 * - BELAY_FAILED_PRECONDITION: `latest` is the state file itself (CK-08). */
belay_code bly_state_write(const char *directory, const char *name, const bly_state *state,
                           int relative, int *out_appended, belay_error *err);

/* The recorded newest prefix where its index (or V1 file) is there (CK-13), NULL where not.
 * BELAY_OK with *out NULL and *out_named NULL: no state file. BELAY_OK with *out NULL and
 * *out_named set: "Couldn't match files for checkpoint <named>". Both are freed by the caller;
 * out_named may be NULL. Errors as bly_state_read(), but BELAY_NOT_FOUND. */
belay_code bly_state_latest(const char *directory, const char *name, char **out, char **out_named,
                            belay_error *err);

/* 1 where PREFIX.index is there, or PREFIX itself as a file (CK-14). */
int bly_checkpoint_exists(const char *prefix);

/* When a checkpoint was written, seconds since 1970, by its index or V1 file (CK-15); 0 where there
 * is none. */
int bly_checkpoint_mtime(const char *prefix, double *out_seconds);

/* Removes PREFIX.index first, so that what is left after a crash is no checkpoint; then .meta,
 * .belay.json and the .data-?????-of-????? files, found by listing the folder. Files that vanish
 * meanwhile are fine (CK-16). Goes on after a failure and returns the first one (SV-36: the caller
 * logs "Ignoring: ..."). */
belay_code bly_checkpoint_remove(const char *prefix, belay_error *err);

/* The step at the end of NAME-STEP, which is negative in NAME--5; BELAY_NO_STEP where the name does
 * not end so. Sets the length of what comes before the dash, folder and all. */
int64_t bly_checkpoint_split(const char *prefix, size_t *out_len);
/* That step alone; not negative where the manifest beside it, which is then read, says that the
 * dash is the name's. */
int64_t bly_checkpoint_step_of(const char *prefix);

/* PREFIX.meta, without the "-NNNNN-of-NNNNN" of a shard (SV-39). NULL when memory is out. */
char *bly_checkpoint_meta_name(const char *prefix);

/* One checkpoint that was found in a folder. */
typedef struct bly_found {
    char *prefix;        /* joined to the folder as it was given */
    int64_t step;        /* from the name; BELAY_NO_STEP: none */
    double mtime;        /* of the index, seconds since 1970 */
    uint64_t size_bytes; /* index and data files */
    int complete;        /* the index reads, and every data file is there and long enough */
    belay_code code;     /* why it is not */
    char *problem;       /* in words; NULL where complete */
    int has_manifest;
} bly_found;

typedef struct bly_found_list {
    bly_found *items;
    size_t count;
    size_t capacity;
} bly_found_list;

/* Lists the checkpoints in a folder: every NAME.index, or with `base` those named base and
 * base-STEP. Oldest first: by step, then time, then name. Reads each index, but no data:
 * bly_bundle_verify() decides whether one is sound. BELAY_OK with an empty list where the folder is
 * not there. */
belay_code bly_checkpoint_scan(const char *directory, const char *base, bly_found_list *out,
                               belay_error *err);
void bly_found_list_free(bly_found_list *list);

#endif
