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

/** Options for belay_multi_step_stop_hook_new() (HK-MSTOP): of the first two exactly one. */
typedef struct belay_multi_step_stop_options {
    size_t struct_size;    /**< sizeof(belay_multi_step_stop_options) in the caller's build. */
    int64_t num_steps;     /**< As belay_stop_at_step_options says. */
    int64_t last_step;     /**< The same. */
    int64_t steps_per_run; /**< Steps that a run does, as long as so many are left; 0: 1. */
} belay_multi_step_stop_options;

/** Initialiser with every field at its default. */
#define BELAY_MULTI_STEP_STOP_OPTIONS_INIT                                                         \
    { sizeof(belay_multi_step_stop_options), 0, 0, 0 }

/**
 * Stops at a global step where one run of the graph does several, in a loop of its own.
 *
 * The loop reads how many from an int32 variable, the only member of collection
 * `hooks_steps_per_run`. The hook sets it to `steps_per_run`, and before the last run to what is
 * left, so that the target is not passed. Several members: begin() fails with
 * BELAY_FAILED_PRECONDITION. None: a variable is added, which the graph does not read.
 */
BELAY_API belay_hook *belay_multi_step_stop_hook_new(const belay_multi_step_stop_options *options,
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

/** Write neither .meta files nor graph.pbtxt (the graph as text, with the shapes that TensorFlow
 * infers; written once, when the first session of a monitored session was created; EV-22). */
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

/** Reports steps per second (HK-STEP). Its events begin with a START event of the session, unless
 * another hook has written that: so readers forget what a recovery undoes (BUG-45). */
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

/** Another thread of this process advances the global step: wait also where the session has no
 * target. */
#define BELAY_GLOBAL_STEP_WAITER_IN_PROCESS (UINT32_C(1) << 0)

/** Options for belay_global_step_waiter_hook_new() (HK-WAIT). */
typedef struct belay_global_step_waiter_options {
    size_t struct_size;      /**< sizeof(belay_global_step_waiter_options) in the caller's build. */
    int64_t wait_until_step; /**< 0 or less: do not wait. */
    double max_wait_secs;    /**< Longest wait; 0 or BELAY_FOREVER: no limit. */
    uint32_t flags;          /**< BELAY_GLOBAL_STEP_WAITER_* bits. */
    uint32_t reserved;       /**< Must be 0. */
} belay_global_step_waiter_options;

/** Initialiser with every field at its default. */
#define BELAY_GLOBAL_STEP_WAITER_OPTIONS_INIT                                                      \
    { sizeof(belay_global_step_waiter_options), 0, 0, 0, 0 }

/**
 * Delays a worker: its first run begins when the others have brought the global step to
 * `wait_until_step`. Later runs are not delayed (HK-WAIT-01).
 *
 * It looks every 50 ms at first, then every 0.5 s, and says every 10 s what it waits for. The wait
 * is a part of the first step, which fails, without having run, with:
 *   - BELAY_STOPPED: somebody asked the session or its coordinator to stop (BUG-23); closing is
 *     then a clean end;
 *   - BELAY_DEADLINE_EXCEEDED: max_wait_secs went by;
 *   - BELAY_FAILED_PRECONDITION: the step is not reached, and the session is in this process, where
 *     waiting would be for itself (BUG-80). See BELAY_GLOBAL_STEP_WAITER_IN_PROCESS.
 * After a recovery in the middle of the wait it waits again.
 */
BELAY_API belay_hook *
belay_global_step_waiter_hook_new(const belay_global_step_waiter_options *options,
                                  belay_error *err);

/** Options for belay_final_ops_hook_new() (HK-FINAL). Names are copied. */
typedef struct belay_final_ops_options {
    size_t struct_size;           /**< sizeof(belay_final_ops_options) in the caller's build. */
    const char *const *final_ops; /**< Tensors to fetch, ending in NULL; NULL: none. */
    const char *const *targets;   /**< Operations to run, ending in NULL; NULL: none. */
    const char *const *feeds;     /**< Tensors to feed, ending in NULL; NULL: none. */
    belay_tensor *const *inputs;  /**< A tensor for each of `feeds`. Given: the hook frees them,
                                       also where it cannot be made. */
} belay_final_ops_options;

/** Initialiser with every field at its default. */
#define BELAY_FINAL_OPS_OPTIONS_INIT                                                               \
    { sizeof(belay_final_ops_options), NULL, NULL, NULL, NULL }

/**
 * Takes values when training ends cleanly: in end(), on the raw session, so no hook sees the run.
 *
 * Names are looked up in begin(). The values should depend on variables alone, or on what is fed:
 * where the run reads from an input that has ended, its OUT_OF_RANGE is what
 * belay_monitored_session_close() returns, after the other hooks' end() (HK-FINAL-03, BUG-58).
 */
BELAY_API belay_hook *belay_final_ops_hook_new(const belay_final_ops_options *options,
                                               belay_error *err);

/** The value of final_ops[index], once the monitored session is closed; NULL before, where it could
 * not be had, and of any other hook. It belongs to the hook: keep that until you have read it. */
BELAY_API const belay_tensor *belay_final_ops_hook_value(const belay_hook *hook, size_t index);

/** Options for belay_feed_fn_hook_new() (HK-FEED). */
typedef struct belay_feed_fn_options {
    size_t struct_size;       /**< sizeof(belay_feed_fn_options) in the caller's build. */
    const char *const *feeds; /**< Tensors that are fed, ending in NULL. Copied. */
    /** Called before every run, on the owner thread, where training is `now`. `tensors` has a place
     * for each of `feeds`, which holds NULL or what it held after the last call: fill it, change
     * it, or put another tensor there and free the old one. They are the hook's, which frees the
     * last ones. NULL: not fed in this run. BELAY_OUT_OF_RANGE or BELAY_STOPPED ends training
     * cleanly; any error is the step's (HK-FEED-02). */
    belay_code (*feed_fn)(void *self, const belay_progress *now, belay_tensor **tensors,
                          belay_error *err);
    void *self;                  /**< Given: handed to both functions. */
    void (*destroy)(void *self); /**< The last call, exactly once, also where the hook cannot be
                                      made. NULL: nothing. */
} belay_feed_fn_options;

/** Initialiser with every field at its default. */
#define BELAY_FEED_FN_OPTIONS_INIT                                                                 \
    { sizeof(belay_feed_fn_options), NULL, NULL, NULL, NULL }

/** Feeds what a function gives, in every run. What the caller or another hook feeds too is
 * BELAY_INVALID_ARGUMENT (ER-27). */
BELAY_API belay_hook *belay_feed_fn_hook_new(const belay_feed_fn_options *options,
                                             belay_error *err);

/** Options for belay_stop_after_evals_hook_new() (HK-EVAL-01). */
typedef struct belay_stop_after_evals_options {
    size_t struct_size;          /**< sizeof(belay_stop_after_evals_options) in the caller's
                                      build. */
    int64_t num_evals;           /**< Stop after so many; 0: when the input ends. */
    const char *evals_completed; /**< A tensor that counts by itself when it is fetched; NULL: see
                                      below. */
    uint32_t no_log;             /**< 1: do not log progress. */
    uint32_t reserved;           /**< Must be 0. */
} belay_stop_after_evals_options;

/** Initialiser with every field at its default. */
#define BELAY_STOP_AFTER_EVALS_OPTIONS_INIT                                                        \
    { sizeof(belay_stop_after_evals_options), 0, NULL, 0, 0 }

/**
 * Ends an evaluation after so many runs, and logs "Evaluation [i/N]": each below 20, else about ten
 * (HK-EVAL-02).
 *
 * It adds one in each run to the only member of collection `eval_step`, a local variable; where
 * there is none, to an int64 variable of its own that starts at 0. Several members: begin() fails
 * with BELAY_INVALID_ARGUMENT (HK-EVAL-03).
 */
BELAY_API belay_hook *belay_stop_after_evals_hook_new(const belay_stop_after_evals_options *options,
                                                      belay_error *err);

/**
 * Options for belay_sync_replicas_hook_new() (HK-SYNC). Names of operations, copied.
 *
 * What is NULL or 0 is taken from the graph: from its collections `belay_sync_replicas` (names, in
 * the order of these fields) and `belay_sync_replicas_counts` (the optimizer's two numbers), which
 * belay_export.py writes when it is given the optimizer.
 */
typedef struct belay_sync_replicas_options {
    size_t struct_size;                  /**< sizeof(belay_sync_replicas_options) in the caller's
                                              build. */
    const char *chief_init_op;           /**< `chief_init_op` of the optimizer. */
    const char *local_step_init_op;      /**< Its `local_step_init_op`. */
    const char *ready_for_local_init_op; /**< Its `ready_for_local_init_op`: a tensor of names. */
    const char *queue;                   /**< The queue of its `get_chief_queue_runner()`. */
    const char *enqueue_op;              /**< That runner's enqueue op. */
    int64_t replicas_to_aggregate;       /**< The optimizer's. */
    int64_t total_num_replicas;          /**< The same; 0 where replicas_to_aggregate is given: as
                                              many. */
    int64_t num_tokens; /**< First tokens; 0: replicas_to_aggregate (TensorFlow's -1); BELAY_OFF:
                             none (its 0). */
    uint32_t is_worker; /**< 1: not the chief. */
    uint32_t reserved;  /**< Must be 0. */
} belay_sync_replicas_options;

/** Initialiser with every field at its default. */
#define BELAY_SYNC_REPLICAS_OPTIONS_INIT                                                           \
    { sizeof(belay_sync_replicas_options), NULL, NULL, NULL, NULL, NULL, 0, 0, 0, 0, 0 }

/**
 * Prepares each session for a tf.compat.v1.train.SyncReplicasOptimizer: initialises its local step;
 * on the chief also its accumulators, puts the first tokens into its queue, and starts the thread
 * that applies gradients and hands out tokens (HK-SYNC-03).
 *
 * begin() fails with BELAY_INVALID_ARGUMENT where a name or number is missing (HK-SYNC-01), and on
 * the chief where `num_tokens` is less than replicas_to_aggregate - total_num_replicas, with which
 * the first step would never end (HK-SYNC-04). A session whose model is not initialised is
 * BELAY_FAILED_PRECONDITION.
 *
 * When the chief's session is closed the queue of tokens is, too: a replica that waits for one gets
 * BELAY_OUT_OF_RANGE, which is a clean end.
 */
BELAY_API belay_hook *belay_sync_replicas_hook_new(const belay_sync_replicas_options *options,
                                                   belay_error *err);

/** No arrows from where a tensor is made to where it is used (show_dataflow=False). */
#define BELAY_PROFILER_NO_DATAFLOW (UINT32_C(1) << 0)
/** When tensors live, and a counter for each allocator (show_memory=True). */
#define BELAY_PROFILER_MEMORY (UINT32_C(1) << 1)

/** Options for belay_profiler_hook_new() (HK-PROF-01). */
typedef struct belay_profiler_options {
    size_t struct_size; /**< sizeof(belay_profiler_options) in the caller's build. */
    int64_t save_steps; /**< One of these two must be positive. */
    double save_secs;
    const char *output_dir; /**< Folder; NULL or "": the current one. */
    uint32_t flags;         /**< BELAY_PROFILER_* bits. */
    uint32_t reserved;      /**< Must be 0. */
} belay_profiler_options;

/** Initialiser with every field at its default. */
#define BELAY_PROFILER_OPTIONS_INIT                                                                \
    { sizeof(belay_profiler_options), 0, 0, NULL, 0, 0 }

/**
 * Traces a run every so often, not the first of a session (HK-PROF). It writes
 * `output_dir/timeline-STEP.json`, a Chrome trace that Perfetto (ui.perfetto.dev) and
 * chrome://tracing open, and an event `step_STEP` with the run's metadata for TensorBoard.
 *
 * A traced run is much slower than others, and is run in TensorFlow's threads. A step that a
 * recovery made count again overwrites its timeline, and has one event (BUG-46).
 */
BELAY_API belay_hook *belay_profiler_hook_new(const belay_profiler_options *options,
                                              belay_error *err);

#ifdef __cplusplus
}
#endif

#endif
