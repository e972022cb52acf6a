/**
 * Savers: write a session's variables into checkpoints, read them back, and keep the folder tidy.
 *
 * A saver runs the save and restore ops that its SaverDef names (SV-11), so its files are
 * TensorFlow's own. Around them it does what those ops do not: everything is written under a
 * temporary name, brought to the disk, checked, and only then renamed; the `checkpoint` state file
 * comes last. At every instant the folder holds a complete checkpoint.
 *
 * A folder has one writer at a time. While a save is going on in it the folder is locked, and
 * another saver's save there, in whatever process, is refused with BELAY_FAILED_PRECONDITION;
 * nothing is waited for, and what the first is writing is left alone. By turns two savers may save
 * into one folder, but they do not know of each other: the state file lists what its last writer
 * saved, neither deletes what the other saved, and under the same name the later one replaces the
 * earlier one. So each checkpoint is whole, and those that the state file does not list are still
 * found in the folder. Where the file system has no locks (flock) nothing keeps two saves at once
 * apart. A training run (belay/run.h) locks its folder for as long as it lasts.
 */
#ifndef BELAY_SAVER_H
#define BELAY_SAVER_H

#include <belay/checkpoint.h>
#include <belay/session.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct belay_saver belay_saver;

/** For numbers where 0 means "the default": none at all, switched off. */
#define BELAY_OFF (-1)
/** For `max_to_keep`: keep every checkpoint (TensorFlow's 0 and None, SV-30). */
#define BELAY_KEEP_ALL (-1)

/** The graph's own savers are passed over and one is built, as tf.train.Saver() does: over all
 * variables (SV-02) or those that are listed, in one file, and not added to collection `savers`. */
#define BELAY_SAVER_BUILD (UINT32_C(1) << 0)
/** With BELAY_SAVER_BUILD: one file for each device that holds variables (SV-01, SV-09). */
#define BELAY_SAVER_SHARDED (UINT32_C(1) << 1)
/** With BELAY_SAVER_BUILD: no variables make an empty saver, and no error (SV-03). */
#define BELAY_SAVER_ALLOW_EMPTY (UINT32_C(1) << 2)
/** With BELAY_SAVER_BUILD: what is restored takes the variable's shape, where it has as many
 * elements (SV-47). */
#define BELAY_SAVER_RESHAPE (UINT32_C(1) << 3)
/** Steps in names have eight digits, at least: model.ckpt-00000500 (SV-17). */
#define BELAY_SAVER_PAD_STEP_NUMBER (UINT32_C(1) << 4)
/** The state file calls checkpoints as seen from its folder, so that this can be moved (CK-06). */
#define BELAY_SAVER_RELATIVE_PATHS (UINT32_C(1) << 5)

/** Options for belay_saver_new(). Zero in any field means "the default". Strings and lists are read
 * during the call and not kept. */
typedef struct belay_saver_options {
    size_t struct_size;                   /**< sizeof(belay_saver_options) in the caller's build. */
    double keep_checkpoint_every_n_hours; /**< 0: the SaverDef's, else 10000. */
    const char *best_metric; /**< Keep the best by this metric (keep_best of them); NULL: off. */
    int32_t max_to_keep;     /**< 0: the SaverDef's, else 5; BELAY_KEEP_ALL. */
    int32_t keep_best;       /**< How many of the best to keep; 0: none. */
    uint32_t best_is_max;    /**< 1: a larger metric is better. */
    uint32_t flags;          /**< BELAY_SAVER_* bits. */
    /** With BELAY_SAVER_BUILD: names of the variables to save, NULL after the last; that of a
     * partitioned variable means all its parts. NULL: all (SV-02). */
    const char *const *variables;
    /** What each of `variables` is called in a checkpoint; NULL, the list or one of it: its own
     * name (SV-14). Must be NULL where `variables` is. */
    const char *const *keys;
    /** Name scope that a meta graph was imported under: the SaverDef's names lie in it (SV-12).
     * With BELAY_SAVER_BUILD: ops are made in it. NULL: none. */
    const char *import_scope;
} belay_saver_options;

/** Initialiser with every field at its default. */
#define BELAY_SAVER_OPTIONS_INIT                                                                   \
    { sizeof(belay_saver_options), 0, NULL, 0, 0, 0, 0, NULL, NULL, NULL }

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
 *   - BELAY_INVALID_ARGUMENT: the SaverDef names an op that the graph has not (SV-07), there are no
 *     variables to save (SV-03), a variable is listed twice or two have one key (SV-04), or an
 *     option is malformed;
 *   - BELAY_NOT_FOUND: the graph has no variable of a name that is listed.
 */
BELAY_API belay_saver *belay_saver_new(belay_graph *graph, const belay_saver_options *options,
                                       belay_error *err);

/** Gives up the caller's hold on a saver. NULL is fine. */
BELAY_API void belay_saver_free(belay_saver *saver);

/** 1 where the saver covers no variable (SV-03). */
BELAY_API uint32_t belay_saver_is_empty(const belay_saver *saver);

/**
 * Writes the saver's graph as a MetaGraphDef with this saver as its saver_def; as
 * belay_graph_export_meta_graph() does it, with its options and errors (belay/graph.h).
 *
 * Threads: any thread, while nobody adds to the graph.
 */
BELAY_API belay_code belay_saver_export_meta_graph(const belay_saver *saver, const char *path,
                                                   const belay_meta_graph_options *options,
                                                   belay_error *err);

/** Do not write PREFIX.meta. */
#define BELAY_SAVE_NO_META_GRAPH (UINT32_C(1) << 0)
/** Touch neither the state file nor older checkpoints (SV-25). */
#define BELAY_SAVE_NO_STATE (UINT32_C(1) << 1)

/** Options for belay_saver_save(). Zero in any field means "the default". */
typedef struct belay_save_options {
    size_t struct_size;          /**< sizeof(belay_save_options) in the caller's build. */
    const char *latest_filename; /**< Name of the state file; NULL: "checkpoint" (SV-19). */
    const char *step_tensor;     /**< Evaluated in the session, it gives the step: then `step` must
                                    be BELAY_NO_STEP (SV-18). NULL: `step` it is. */
    uint32_t flags;              /**< BELAY_SAVE_* bits. */
    uint32_t reserved;           /**< Must be 0. */
} belay_save_options;

/** Initialiser with every field at its default. */
#define BELAY_SAVE_OPTIONS_INIT                                                                    \
    { sizeof(belay_save_options), NULL, NULL, 0, 0 }

/**
 * Saves the session's variables as `path`-`step`, with a manifest beside it, and updates the state
 * file (SV-22).
 *
 * Threads: one at a time per object.
 * Blocks:  until the checkpoint is on the disk.
 * On error: before the commit the folder's checkpoints are as they were, though those that a
 *          restore found damaged may have been set aside. After it the new one is complete, but
 *          the state file may not name it, what is kept no longer may still be there, and
 *          PREFIX.meta may be missing. The next save that succeeds puts the first two right.
 *
 * @param path     Folder and base name, such as "run/model.ckpt". The folder must exist.
 * @param step     Appended to the name (SV-17), a negative one too: "model.ckpt--5". BELAY_NO_STEP:
 *                 nothing.
 * @param options  Borrowed for the call. NULL: all defaults.
 * @param out_path Set to the checkpoint's prefix, which the saver keeps until the next save; NULL
 *                 for an empty saver, which writes PREFIX.meta alone (SV-26). May be NULL.
 * @return BELAY_OK, or
 *   - BELAY_INVALID_ARGUMENT: `path` names no file or that of the state file, latest_filename has a
 *     '/' in it, step_tensor is no integer, an option is malformed, or the
 *     graph is larger than 2 GB, so that there is no PREFIX.meta (MG-30);
 *   - BELAY_NOT_FOUND: the folder does not exist (ER-20), or the graph has no step_tensor;
 *   - BELAY_FAILED_PRECONDITION: a variable is not initialised (SV-29), or another save is going on
 *     in the folder;
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
 * checked, and compared with the graph. Checkpoints of the old V1 format (one file, called
 * `prefix`) are taken, too (SV-48), and those of tf.train.Checkpoint where they say what their
 * variables were called in a graph (SV-44). An empty saver restores nothing and looks at nothing:
 * that is BELAY_OK, too (SV-03).
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

/** What became of a variable or of a key of the checkpoint. */
typedef uint32_t belay_warm_start_outcome;
/** The variable has the checkpoint's value. */
#define BELAY_WARM_START_RESTORED UINT32_C(1)
/** The variable stays as it was initialised. */
#define BELAY_WARM_START_INITIALIZED UINT32_C(2)
/** Nothing took the checkpoint's value. */
#define BELAY_WARM_START_IGNORED UINT32_C(3)

/** A line of a report. Later versions may add members at the end. Strings belong to the report. */
typedef struct belay_warm_start_entry {
    const char *variable;             /**< Its name; NULL where the outcome is "ignored". */
    const char *key;                  /**< In the checkpoint; NULL where it is "initialised". */
    belay_warm_start_outcome outcome; /**< BELAY_WARM_START_*. */
    uint32_t reserved;                /**< 0. */
} belay_warm_start_entry;

/** What a warm start did: each variable of the graph (local ones apart), then each key that nothing
 * took. Threads: any thread; nothing changes. */
typedef struct belay_warm_start_report belay_warm_start_report;

/** Options for belay_warm_start(). Zero in any field means "the default". */
typedef struct belay_warm_start_options {
    size_t struct_size; /**< sizeof(belay_warm_start_options) in the caller's build. */
    /** Pairs as in TensorFlow's assignment_map, NULL after the last: what it is called in the
     * checkpoint, then what in the graph. Both are names, or both are scopes and end in '/', where
     * "/" alone means all. NULL: the trainable variables, each under its own name. */
    const char *const *assignments;
} belay_warm_start_options;

/** Initialiser with every field at its default. */
#define BELAY_WARM_START_OPTIONS_INIT                                                              \
    { sizeof(belay_warm_start_options), NULL }

/**
 * Gives some of a session's variables the values that others had in a checkpoint, as
 * tf.train.init_from_checkpoint() and tf.train.warm_start() do: for a model that goes on from
 * another one. The session's variables are initialised before; a scaffold's init_fn is a good
 * place. Works on a finalised graph, too.
 *
 * A name that is asked for must be there. Of a scope, and by default, what the checkpoint has is
 * restored; the report says what was.
 *
 * Threads: one at a time per session.
 * Blocks:  while the checkpoint is read, twice.
 * On error: what is listed here is found out before a variable is changed.
 *
 * @param prefix     The checkpoint; every byte of it is checked first.
 * @param options    Borrowed for the call. NULL: all defaults.
 * @param out_report Set to a report that the caller frees with belay_warm_start_report_free(), or
 *                   NULL on error. May be NULL.
 * @return BELAY_OK, or
 *   - BELAY_NOT_FOUND: there is no such checkpoint, a name is not in it or not in the graph, no
 *     variable lies in a scope, or there is nothing to restore at all;
 *   - BELAY_INVALID_ARGUMENT: a variable has another type or shape there, two assignments are for
 *     the same one, or an option is malformed;
 *   - BELAY_DATA_LOSS: the checkpoint is damaged;
 *   - any other code: as TensorFlow reported it.
 */
BELAY_API belay_code belay_warm_start(belay_session *session, const char *prefix,
                                      const belay_warm_start_options *options,
                                      belay_warm_start_report **out_report, belay_error *err);

/** Frees a report. NULL is fine. */
BELAY_API void belay_warm_start_report_free(belay_warm_start_report *report);
/** How many lines there are. */
BELAY_API size_t belay_warm_start_report_count(const belay_warm_start_report *report);
/** One of them; NULL where there is none. Lives as long as the report. */
BELAY_API const belay_warm_start_entry *
belay_warm_start_report_at(const belay_warm_start_report *report, size_t index);

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
