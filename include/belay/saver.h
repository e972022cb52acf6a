/**
 * Savers: write a session's variables into checkpoints, read them back, and keep the folder tidy.
 *
 * A saver runs the save and restore ops that its SaverDef names (SV-11), so its files are
 * TensorFlow's own. Around them it does what those ops do not: everything is written under a
 * temporary name, brought to the disk, checked, and only then renamed; the `checkpoint` state file
 * comes last. At every instant the folder holds a complete checkpoint.
 *
 * A folder has one writer at a time, and that is one saver: the temporary name,
 * FOLDER/.belay-saving, is the same for all of them, and a save removes what it finds there, so
 * that two savers at once would destroy what the other is writing. A training run (belay/run.h)
 * locks its folder; a saver does not.
 */
#ifndef BELAY_SAVER_H
#define BELAY_SAVER_H

#include <belay/session.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct belay_saver belay_saver;

/** For numbers where 0 means "the default": none at all, switched off. */
#define BELAY_OFF (-1)
/** For `max_to_keep`: keep every checkpoint (TensorFlow's 0 and None, SV-30). */
#define BELAY_KEEP_ALL (-1)

/** The collection `savers` or the SaverDef is passed over: a default saver over all variables is
 * built (SV-02). */
#define BELAY_SAVER_BUILD (UINT32_C(1) << 0)

/** Options for belay_saver_new(). Zero in any field means "the default". */
typedef struct belay_saver_options {
    size_t struct_size;                   /**< sizeof(belay_saver_options) in the caller's build. */
    double keep_checkpoint_every_n_hours; /**< 0: the SaverDef's, else 10000. */
    const char *best_metric; /**< Keep the best by this metric (keep_best of them); NULL: off. */
    int32_t max_to_keep;     /**< 0: the SaverDef's, else 5; BELAY_KEEP_ALL. */
    int32_t keep_best;       /**< How many of the best to keep; 0: none. */
    uint32_t best_is_max;    /**< 1: a larger metric is better. */
    uint32_t flags;          /**< BELAY_SAVER_* bits. */
} belay_saver_options;

/** Initialiser with every field at its default. */
#define BELAY_SAVER_OPTIONS_INIT                                                                   \
    { sizeof(belay_saver_options), 0, NULL, 0, 0, 0, 0 }

/**
 * Makes a saver: over the graph's SaverDef, its only member of collection `savers`, or else a
 * sharded saver that is built over all variables (SC-12). A graph without variables gives an empty
 * saver: it saves nothing, and never counts as restored (SV-03, BUG-30).
 *
 * @param graph   Kept: the saver holds a reference.
 * @param options Borrowed for the call. NULL: all defaults.
 * @param err     Filled on error. May be NULL.
 * @return a saver that the caller frees with belay_saver_free(), or NULL:
 *   - BELAY_FAILED_PRECONDITION: several savers in the collection (ER-23), or one must be built and
 *     the graph is final;
 *   - BELAY_INVALID_ARGUMENT: the SaverDef names an op that the graph has not (SV-07), or an option
 *     is malformed.
 */
BELAY_API belay_saver *belay_saver_new(belay_graph *graph, const belay_saver_options *options,
                                       belay_error *err);

/** Gives up the caller's hold on a saver. NULL is fine. */
BELAY_API void belay_saver_free(belay_saver *saver);

/** 1 where the saver covers no variable (SV-03). */
BELAY_API uint32_t belay_saver_is_empty(const belay_saver *saver);

/** No step in the name of the checkpoint. */
#define BELAY_NO_STEP INT64_C(-1)

/** Do not write PREFIX.meta. */
#define BELAY_SAVE_NO_META_GRAPH (UINT32_C(1) << 0)
/** Touch neither the state file nor older checkpoints (SV-25). */
#define BELAY_SAVE_NO_STATE (UINT32_C(1) << 1)

/** Options for belay_saver_save(). Zero in any field means "the default". */
typedef struct belay_save_options {
    size_t struct_size;          /**< sizeof(belay_save_options) in the caller's build. */
    const char *latest_filename; /**< Name of the state file; NULL: "checkpoint" (SV-19). */
    uint32_t flags;              /**< BELAY_SAVE_* bits. */
    uint32_t reserved;           /**< Must be 0. */
} belay_save_options;

/** Initialiser with every field at its default. */
#define BELAY_SAVE_OPTIONS_INIT                                                                    \
    { sizeof(belay_save_options), NULL, 0, 0 }

/**
 * Saves the session's variables as `path`-`step`, with a manifest beside it, and updates the state
 * file (SV-22).
 *
 * Threads: one at a time per object, and one save at a time per folder, whatever the saver.
 * Blocks:  until the checkpoint is on the disk.
 * On error: before the commit the folder's checkpoints are as they were, though those that a
 *          restore found damaged may have been set aside. After it the new one is complete, but
 *          the state file may not name it, what is kept no longer may still be there, and
 *          PREFIX.meta may be missing. The next save that succeeds puts the first two right.
 *
 * @param path     Folder and base name, such as "run/model.ckpt". The folder must exist.
 * @param step     Appended to the name (SV-17); BELAY_NO_STEP: nothing.
 * @param options  Borrowed for the call. NULL: all defaults.
 * @param out_path Set to the checkpoint's prefix, which the saver keeps until the next save; NULL
 *                 for an empty saver, which writes PREFIX.meta alone (SV-26). May be NULL.
 * @return BELAY_OK, or
 *   - BELAY_INVALID_ARGUMENT: `path` names no file or that of the state file, latest_filename has a
 *     '/' in it, or an option is malformed;
 *   - BELAY_NOT_FOUND: the folder does not exist (ER-20);
 *   - BELAY_FAILED_PRECONDITION: a variable is not initialised (SV-29);
 *   - BELAY_RESOURCE_EXHAUSTED: the disk is full;
 *   - BELAY_PERMISSION_DENIED: the folder cannot be written;
 *   - BELAY_DATA_LOSS: what was written cannot be read back; it was removed;
 *   - any other code: as TensorFlow reported it.
 */
BELAY_API belay_code belay_saver_save(belay_saver *saver, belay_session *session, const char *path,
                                      int64_t step, const belay_save_options *options,
                                      const char **out_path, belay_error *err);

/**
 * Restores the session's variables from the checkpoint with this prefix, after every byte of it was
 * checked, and compared with the graph. An empty saver restores nothing and looks at nothing: that
 * is BELAY_OK, too (SV-03).
 *
 * Threads: one at a time per object.
 * Blocks:  while the checkpoint is read, twice.
 * On error: what is listed here is found out before a variable is changed. With any other code
 *          some may be restored and others not.
 *
 * @return BELAY_OK, or
 *   - BELAY_NOT_FOUND: there is no such checkpoint (ER-17), or it lacks a variable of the graph
 *     (ER-18);
 *   - BELAY_INVALID_ARGUMENT: a variable has another type or shape there (ER-19, BUG-29);
 *   - BELAY_DATA_LOSS: the checkpoint is damaged; the message names the file;
 *   - any other code: as TensorFlow reported it.
 */
BELAY_API belay_code belay_saver_restore(belay_saver *saver, belay_session *session,
                                         const char *prefix, belay_error *err);

/** Checkpoints that the saver knows of and has not deleted, oldest first (SV-37). */
BELAY_API size_t belay_saver_last_checkpoint_count(const belay_saver *saver);
/** One of them; NULL where there is none. Belongs to the saver, and lives until a save, until a
 * session is prepared with it, or until it is given others. */
BELAY_API const char *belay_saver_last_checkpoint(const belay_saver *saver, size_t index);

/** Makes `prefixes` (`count` of them, oldest first) the checkpoints that the saver knows; those
 * without files are left out (SV-38). Copied; they may be what belay_saver_last_checkpoint() gave.
 */
BELAY_API belay_code belay_saver_recover_last_checkpoints(belay_saver *saver,
                                                          const char *const *prefixes, size_t count,
                                                          belay_error *err);

/** What the next manifests carry: the position in the input, a JSON object as text. Copied; NULL:
 * none. */
BELAY_API belay_code belay_saver_set_input_position(belay_saver *saver, const char *json,
                                                    belay_error *err);

/** What the next manifests carry: a metric's newest value. */
BELAY_API belay_code belay_saver_set_metric(belay_saver *saver, const char *name, double value,
                                            belay_error *err);

/** The position in the input that the checkpoint last restored carried; NULL: none. Belongs to the
 * saver, and lives until the next restore. */
BELAY_API const char *belay_saver_restored_input_position(const belay_saver *saver);

#ifdef __cplusplus
}
#endif

#endif
