/**
 * The hooks that TensorFlow ships. Each is made with its options and freed with belay_hook_free(),
 * as any hook.
 *
 * An error in the options is BELAY_INVALID_ARGUMENT (ER-28); a hook that needs a global step and
 * finds none fails in begin() with BELAY_FAILED_PRECONDITION (ER-29).
 */
#ifndef BELAY_HOOKS_H
#define BELAY_HOOKS_H

#include <belay/hook.h>
#include <belay/scaffold.h>
#include <belay/summary.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Options for belay_stop_at_step_hook_new(): exactly one must be given (HK-STOP-01). */
typedef struct belay_stop_at_step_options {
    size_t struct_size; /**< sizeof(belay_stop_at_step_options) in the caller's build. */
    int64_t num_steps;  /**< Stop after this many steps beyond the first session's. 0: not given;
                           negative: reached already. */
    int64_t last_step;  /**< Stop at this global step. 0: not given; negative: reached already. */
} belay_stop_at_step_options;

/** Initialiser with every field at its default. */
#define BELAY_STOP_AT_STEP_OPTIONS_INIT                                                            \
    { sizeof(belay_stop_at_step_options), 0, 0 }

/**
 * Asks to stop when the global step reaches a target (HK-STOP).
 *
 * A session that starts at the target, or past it, runs nothing:
 * belay_monitored_session_should_stop() is 1 from the beginning (BUG-55). A run that adds several
 * steps may pass the target (HK-STOP-07).
 */
BELAY_API belay_hook *belay_stop_at_step_hook_new(const belay_stop_at_step_options *options,
                                                  belay_error *err);

/** What a checkpoint saver hook tells others (HK-LSN). A NULL slot is "not interested". Owner
 * thread. */
typedef struct belay_checkpoint_listener_vtable {
    size_t struct_size; /**< sizeof(belay_checkpoint_listener_vtable) in the caller's build. */
    belay_code (*begin)(void *self, belay_error *err);
    /** An error prevents the save (HK-LSN-03). */
    belay_code (*before_save)(void *self, belay_session *session, int64_t global_step,
                              belay_error *err);
    /** May set *stop to 1: then training stops (HK-CKPT-13, BUG-47). */
    belay_code (*after_save)(void *self, belay_session *session, int64_t global_step,
                             uint32_t *stop, belay_error *err);
    belay_code (*end)(void *self, belay_session *session, int64_t global_step, belay_error *err);
    /** The last call, exactly once, also where making the hook fails. Only of a table that is NULL
     * or ends before this slot nothing is called. */
    void (*destroy)(void *self);
} belay_checkpoint_listener_vtable;

typedef struct belay_checkpoint_listener {
    const belay_checkpoint_listener_vtable *vtable; /**< Copied when the hook is made. */
    void *self;                                     /**< Given. */
} belay_checkpoint_listener;

/** Do not write .meta files. (TensorFlow's hook writes graph.pbtxt, too; this one does not yet.) */
#define BELAY_CHECKPOINT_SAVER_NO_GRAPH_DEF (UINT32_C(1) << 0)
/** Keep one .meta file, instead of writing one with every checkpoint: it is written with the first,
 * and renamed to the newest one's PREFIX.meta after each save, so that it is never deleted with an
 * old one. */
#define BELAY_CHECKPOINT_SAVER_META_ONCE (UINT32_C(1) << 1)

/** Options for belay_checkpoint_saver_hook_new() (HK-CKPT-01). */
typedef struct belay_checkpoint_saver_options {
    size_t struct_size; /**< sizeof(belay_checkpoint_saver_options) in the caller's build. */
    const char *checkpoint_dir; /**< Must be given. */
    double save_secs;           /**< One of these two must be positive. */
    int64_t save_steps;
    belay_saver *saver;              /**< Kept; not together with scaffold (HK-CKPT-02). */
    const char *checkpoint_basename; /**< NULL: "model.ckpt". */
    belay_scaffold *scaffold;        /**< Kept; its saver is used. */
    const belay_checkpoint_listener *listeners; /**< `listener_count` of them, each given. */
    size_t listener_count;
    uint32_t flags;    /**< BELAY_CHECKPOINT_SAVER_* bits. */
    uint32_t reserved; /**< Must be 0. */
} belay_checkpoint_saver_options;

/** Initialiser with every field at its default. */
#define BELAY_CHECKPOINT_SAVER_OPTIONS_INIT                                                        \
    { sizeof(belay_checkpoint_saver_options), NULL, 0, 0, NULL, NULL, NULL, NULL, 0, 0, 0 }

/**
 * Saves at the start, every so often, and at the end (HK-CKPT).
 *
 * A session that was just restored from this folder is not saved again at its first step (BUG-51).
 */
BELAY_API belay_hook *belay_checkpoint_saver_hook_new(const belay_checkpoint_saver_options *options,
                                                      belay_error *err);

/** Options for belay_step_counter_hook_new() (HK-STEP-01). */
typedef struct belay_step_counter_options {
    size_t struct_size;    /**< sizeof(belay_step_counter_options) in the caller's build. */
    int64_t every_n_steps; /**< 0 with every_n_secs 0: 100. */
    double every_n_secs;
    const char *output_dir;               /**< Folder for events; NULL: only the log. */
    belay_summary_writer *summary_writer; /**< Kept: the hook holds a reference. Comes before the
                                             folder; NULL: the folder's. */
} belay_step_counter_options;

/** Initialiser with every field at its default. */
#define BELAY_STEP_COUNTER_OPTIONS_INIT                                                            \
    { sizeof(belay_step_counter_options), 0, 0, NULL, NULL }

/** Reports steps per second (HK-STEP). */
BELAY_API belay_hook *belay_step_counter_hook_new(const belay_step_counter_options *options,
                                                  belay_error *err);

/** Turns the values of a logging hook into the line to log: writes at most `room` bytes, NUL
 * included. */
typedef void (*belay_logging_formatter)(void *self, const char *const *tags,
                                        const belay_tensor *const *values, size_t count, char *line,
                                        size_t room);

/** Options for belay_logging_tensor_hook_new() (HK-LOG-01). */
typedef struct belay_logging_tensor_options {
    size_t struct_size;         /**< sizeof(belay_logging_tensor_options) in the caller's build. */
    const char *const *tensors; /**< Names, ending in NULL. */
    const char *const *tags;    /**< A tag for each; NULL: the names. */
    int64_t every_n_iter;       /**< One of these two, or neither with at_end (HK-LOG-02). */
    double every_n_secs;
    belay_logging_formatter formatter; /**< NULL: "tag = value, tag = value". */
    void *formatter_self;
    uint32_t at_end;   /**< 1: once more at the end (HK-LOG-13). */
    uint32_t reserved; /**< Must be 0. */
} belay_logging_tensor_options;

/** Initialiser with every field at its default. */
#define BELAY_LOGGING_TENSOR_OPTIONS_INIT                                                          \
    { sizeof(belay_logging_tensor_options), NULL, NULL, 0, 0, NULL, NULL, 0, 0 }

/** Logs tensors (HK-LOG). */
BELAY_API belay_hook *belay_logging_tensor_hook_new(const belay_logging_tensor_options *options,
                                                    belay_error *err);

/** Options for belay_summary_saver_hook_new() (HK-SUM-01). */
typedef struct belay_summary_saver_options {
    size_t struct_size; /**< sizeof(belay_summary_saver_options) in the caller's build. */
    int64_t save_steps; /**< One of these two must be positive. */
    double save_secs;
    const char *output_dir;               /**< Folder for events; NULL: summary_writer. */
    belay_summary_writer *summary_writer; /**< Kept: the hook holds a reference. Comes before the
                                             folder; NULL with NULL: nothing is written. */
    belay_scaffold *scaffold; /**< Kept; its summary op is used; not together with summary_op. */
    const char *summary_op;
} belay_summary_saver_options;

/** Initialiser with every field at its default. */
#define BELAY_SUMMARY_SAVER_OPTIONS_INIT                                                           \
    { sizeof(belay_summary_saver_options), 0, 0, NULL, NULL, NULL, NULL }

/** Writes the graph's summaries (HK-SUM). */
BELAY_API belay_hook *belay_summary_saver_hook_new(const belay_summary_saver_options *options,
                                                   belay_error *err);

/** Options for belay_nan_tensor_hook_new() (HK-NAN-01). */
typedef struct belay_nan_tensor_options {
    size_t struct_size;        /**< sizeof(belay_nan_tensor_options) in the caller's build. */
    const char *loss_tensor;   /**< Name of a scalar. */
    uint32_t stop_on_nan_loss; /**< 1: log and stop instead of failing (TensorFlow's
                                  fail_on_nan_loss=False). */
    uint32_t reserved;         /**< Must be 0. */
} belay_nan_tensor_options;

/** Initialiser with every field at its default. */
#define BELAY_NAN_TENSOR_OPTIONS_INIT                                                              \
    { sizeof(belay_nan_tensor_options), NULL, 0, 0 }

/** Fails, or stops, when the loss is not a number (HK-NAN). */
BELAY_API belay_hook *belay_nan_tensor_hook_new(const belay_nan_tensor_options *options,
                                                belay_error *err);

#ifdef __cplusplus
}
#endif

#endif
