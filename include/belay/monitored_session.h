/**
 * Monitored sessions: the loop that trains. They restore or initialise, run hooks around every
 * step, recover when a task of the cluster goes away, and stop cleanly.
 */
#ifndef BELAY_MONITORED_SESSION_H
#define BELAY_MONITORED_SESSION_H

#include <belay/hook.h>
#include <belay/scaffold.h>
#include <belay/session.h>
#include <belay/session_manager.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct belay_session_creator belay_session_creator;
typedef struct belay_monitored_session belay_monitored_session;

/** Options for a chief's session creator (CR-02). Zero in any field means "the default". */
typedef struct belay_chief_session_creator_options {
    size_t struct_size; /**< sizeof(belay_chief_session_creator_options) in the caller's build. */
    belay_scaffold *scaffold;                  /**< Kept; NULL: one with all defaults. */
    const belay_session_options *session;      /**< Target and config. Copied. */
    const char *checkpoint_dir;                /**< Copied; NULL: nothing is restored. */
    const char *checkpoint_filename_with_path; /**< Copied. */
    uint32_t prepare_flags;                    /**< BELAY_PREPARE_* bits. */
    uint32_t reserved;                         /**< Must be 0. */
} belay_chief_session_creator_options;

/** Initialiser with every field at its default. */
#define BELAY_CHIEF_SESSION_CREATOR_OPTIONS_INIT                                                   \
    { sizeof(belay_chief_session_creator_options), NULL, NULL, NULL, NULL, 0, 0 }

/** Makes the creator of a chief: it restores or initialises (CR-03). */
BELAY_API belay_session_creator *belay_chief_session_creator_new(
    belay_graph *graph, const belay_chief_session_creator_options *options, belay_error *err);

/** Options for a worker's session creator (CR-04). Zero in any field means "the default". */
typedef struct belay_worker_session_creator_options {
    size_t struct_size; /**< sizeof(belay_worker_session_creator_options) in the caller's build. */
    belay_scaffold *scaffold;             /**< Kept; NULL: one with all defaults. */
    const belay_session_options *session; /**< Target and config. Copied. */
    double max_wait_secs;                 /**< 0: 1800; BELAY_FOREVER. */
    double recovery_wait_secs;            /**< 0: 30 (BUG-24). */
} belay_worker_session_creator_options;

/** Initialiser with every field at its default. */
#define BELAY_WORKER_SESSION_CREATOR_OPTIONS_INIT                                                  \
    { sizeof(belay_worker_session_creator_options), NULL, NULL, 0, 0 }

/** Makes the creator of a worker: it waits until the chief made the model ready (CR-05). */
BELAY_API belay_session_creator *belay_worker_session_creator_new(
    belay_graph *graph, const belay_worker_session_creator_options *options, belay_error *err);

/** The functions of a session creator that a user writes (CR-01). All run on the thread that owns
 * the monitored session, with no lock held. */
typedef struct belay_session_creator_vtable {
    size_t struct_size; /**< sizeof(belay_session_creator_vtable) in the caller's build. */
    /**
     * Makes a session that is ready to use. Called when the monitored session is opened and again
     * at each recovery; may wrap another creator (belay_session_creator_create_session()).
     *
     * @param out_restored Comes in as 0; 1 says that a checkpoint was restored.
     * @return a new session of the creator's graph, which is given; NULL with `err` filled: ABORTED
     * and UNAVAILABLE are tried again (WS-05).
     */
    belay_session *(*create_session)(void *self, uint32_t *out_restored, belay_error *err);
    /** The last call, exactly once, also where belay_session_creator_new() fails. NULL: nothing. */
    void (*destroy)(void *self);
} belay_session_creator_vtable;

/**
 * Makes a creator of a table.
 *
 * @param graph  Kept: the graph of every session that it makes.
 * @param vtable Copied. create_session must be there.
 * @param self   Given: gone with `destroy`, also where this fails.
 * @return a creator that the caller frees with belay_session_creator_free(), or NULL:
 * BELAY_INVALID_ARGUMENT, BELAY_RESOURCE_EXHAUSTED.
 */
BELAY_API belay_session_creator *
belay_session_creator_new(belay_graph *graph, const belay_session_creator_vtable *vtable,
                          void *self, belay_error *err);

/**
 * Makes one session, as a monitored session would ask for it.
 *
 * @param out_restored Set to 1 where a checkpoint was restored, else 0. May be NULL.
 * @return a session that the caller frees with belay_session_free(), or NULL.
 */
BELAY_API belay_session *belay_session_creator_create_session(belay_session_creator *creator,
                                                              uint32_t *out_restored,
                                                              belay_error *err);

/** Gives up the caller's hold on a creator. NULL is fine. */
BELAY_API void belay_session_creator_free(belay_session_creator *creator);

/** How a step is run. */
typedef uint32_t belay_threads;

/** Measure both and keep the faster, where both are possible. */
#define BELAY_THREADS_AUTO ((belay_threads)0)
/** TensorFlow's thread pool. */
#define BELAY_THREADS_POOL ((belay_threads)1)
/** The calling thread. Where a step cannot be run there it is TensorFlow's pool, without a word:
 * with operation_timeout_in_ms in the config, a target that is not this process, or queue runners
 * (BUG-74). */
#define BELAY_THREADS_CALLER ((belay_threads)2)

/** Options for belay_monitored_session_open() (MS-20). Zero in any field means "the default". */
typedef struct belay_monitored_session_options {
    size_t struct_size; /**< sizeof(belay_monitored_session_options) in the caller's build. */
    belay_session_creator *creator; /**< Kept; NULL: a chief's with all defaults (MS-03), so look
                                       whether one that you made is there. */
    belay_hook *const *hooks;       /**< `hook_count` of them, each kept, called in this order. */
    size_t hook_count;
    double stop_grace_period_secs; /**< Time for threads to end at close, and on a remote target for
                                      a run that is under way when a stop is requested; 0: 120;
                                      BELAY_AT_ONCE; BELAY_FOREVER. */
    double recovery_budget_secs;   /**< How long one recovery may go on trying, a chief may take to
                                      prepare a session on a remote target (each op has a minute at
                                      least), and one step may go on being repeated; 0: 600;
                                      BELAY_AT_ONCE; BELAY_FOREVER (BUG-16). */
    belay_threads threads;         /**< BELAY_THREADS_*. */
    uint32_t no_recovery;          /**< 1: without the recoverable layer (MS-46). */
} belay_monitored_session_options;

/** Initialiser with every field at its default. */
#define BELAY_MONITORED_SESSION_OPTIONS_INIT                                                       \
    { sizeof(belay_monitored_session_options), NULL, NULL, 0, 0, 0, 0, 0 }

/**
 * Opens a monitored session: begin() of every hook, then the session, its queue runners, and
 * after_create_session() of every hook (MS-01).
 *
 * Threads: any thread; then one thread owns it and its steps.
 * Blocks:  until the session is ready.
 *
 * @param graph   Kept. NULL with a filled `err`: returns NULL and leaves `err`.
 * @param options Borrowed for the call. NULL: all defaults.
 * @param err     Filled on error. May be NULL.
 * @return a session that the caller closes with belay_monitored_session_close(), or NULL with the
 * error of a hook's begin() or of the creation.
 */
BELAY_API belay_monitored_session *
belay_monitored_session_open(belay_graph *graph, const belay_monitored_session_options *options,
                             belay_error *err);

/** Options for belay_singular_monitored_session_open() (MS-21). Zero in any field means "the
 * default". */
typedef struct belay_singular_monitored_session_options {
    size_t
        struct_size; /**< sizeof(belay_singular_monitored_session_options) in the caller's build. */
    belay_hook *const *hooks; /**< `hook_count` of them, each kept. */
    size_t hook_count;
    belay_scaffold *scaffold;                  /**< Kept; NULL: one with all defaults. */
    const belay_session_options *session;      /**< Target and config. Copied. */
    const char *checkpoint_dir;                /**< Copied; NULL: nothing is restored. */
    double stop_grace_period_secs;             /**< 0: 120; BELAY_AT_ONCE; BELAY_FOREVER. */
    const char *checkpoint_filename_with_path; /**< Restore exactly this one. Copied. */
    belay_threads threads;                     /**< BELAY_THREADS_*. */
    uint32_t reserved;                         /**< Must be 0. */
} belay_singular_monitored_session_options;

/** Initialiser with every field at its default. */
#define BELAY_SINGULAR_MONITORED_SESSION_OPTIONS_INIT                                              \
    { sizeof(belay_singular_monitored_session_options), NULL, 0, NULL, NULL, NULL, 0, NULL, 0, 0 }

/** Opens a monitored session that never recovers: ABORTED and UNAVAILABLE reach the caller (MS-22).
 */
BELAY_API belay_monitored_session *belay_singular_monitored_session_open(
    belay_graph *graph, const belay_singular_monitored_session_options *options, belay_error *err);

struct belay_checkpoint_listener;

/**
 * Options of the one-call form (MS-26). Zero in any field means "the default"; BELAY_OFF switches a
 * frequency off (MS-30). Where one of a pair is set the other is off; both positive is an error
 * (BUG-60).
 */
typedef struct belay_training_options {
    size_t struct_size; /**< sizeof(belay_training_options) in the caller's build. */
    const belay_session_options *session; /**< Master and config. Copied. */
    const char *checkpoint_dir;           /**< NULL: nothing is restored, nothing saved. */
    const char *summary_dir;              /**< NULL: checkpoint_dir (MS-33). */
    belay_scaffold *scaffold;             /**< Kept; NULL: one with all defaults. */
    belay_hook *const *hooks;             /**< `hook_count` of them, each kept. */
    size_t hook_count;
    belay_hook *const
        *chief_only_hooks; /**< `chief_only_hook_count` of them, called first (MS-32). */
    size_t chief_only_hook_count;
    double save_checkpoint_secs; /**< 0 with save_checkpoint_steps 0: 600. */
    int64_t save_checkpoint_steps;
    double save_summaries_secs;
    int64_t save_summaries_steps;  /**< 0 with save_summaries_secs 0: 100. */
    int64_t log_step_count_steps;  /**< 0: 100. */
    double stop_grace_period_secs; /**< 0: 120. */
    double max_wait_secs; /**< A worker's longest wait for the chief; 0: 7200; BELAY_FOREVER. */
    double recovery_budget_secs; /**< 0: 600; BELAY_FOREVER. */
    belay_threads threads;       /**< BELAY_THREADS_*. */
    uint32_t is_worker;          /**< 1: not the chief (MS-31). */
    uint32_t no_graph_def;       /**< 1: neither .meta files nor graph.pbtxt are written
                                    (MS-39). */
    uint32_t prepare_flags;      /**< BELAY_PREPARE_* bits, for the chief. */
    const struct belay_checkpoint_listener *listeners; /**< Told of every checkpoint; given, also
                                                          where opening fails. See belay/hooks.h. */
    size_t listener_count;
    uint32_t meta_graph_once; /**< 1: one .meta file, which moves along with the newest checkpoint,
                                 instead of one with each. */
    uint32_t reserved;        /**< Must be 0. */
} belay_training_options;

/** Initialiser with every field at its default. */
#define BELAY_TRAINING_OPTIONS_INIT                                                                \
    {                                                                                              \
        sizeof(belay_training_options), NULL, NULL, NULL, NULL, NULL, 0, NULL, 0, 0, 0, 0, 0, 0,   \
            0, 0, 0, 0, 0, 0, 0, NULL, 0, 0, 0                                                     \
    }

/**
 * Opens a monitored session with TensorFlow's usual hooks: step counter, summaries, checkpoints
 * (MS-26 to MS-39).
 *
 * These need a global step, as soon as a folder is given: in a graph without one their begin()
 * fails with BELAY_FAILED_PRECONDITION (ER-29). belay_graph_create_global_step() gives it one.
 *
 * Threads, Blocks, and what is returned: as belay_monitored_session_open().
 */
BELAY_API belay_monitored_session *
belay_monitored_training_session_open(belay_graph *graph, const belay_training_options *options,
                                      belay_error *err);

/**
 * 1 when the loop should end: a hook or somebody else asked for it, input ended, or the session
 * failed or is NULL (MS-06).
 *
 * Threads: owner thread.
 * Blocks:  where a helper thread has reported that a task of the cluster went away: a session that
 *          can recover does so here, and goes on (WS-08).
 */
BELAY_API uint32_t belay_monitored_session_should_stop(belay_monitored_session *session);

/**
 * Asks the loop to end after the step that is running. Waits for a target, for a model, and between
 * recoveries end with it.
 *
 * A run on a remote target that is under way may never end, where a server hangs: it has the grace
 * period, and five seconds at least, and then fails with BELAY_DEADLINE_EXCEEDED. What begins after
 * the stop, the last save for one, has ten minutes at least, until one of those was left so.
 *
 * Any thread, async-signal-safe.
 */
BELAY_API void belay_monitored_session_request_stop(belay_monitored_session *session);

/** Why a session ends. */
typedef int32_t belay_end_reason;

#define BELAY_END_NONE        ((belay_end_reason)0) /**< It has not ended. */
#define BELAY_END_HOOK        ((belay_end_reason)1) /**< A hook asked for it. */
#define BELAY_END_REQUESTED   ((belay_end_reason)2) /**< belay_monitored_session_request_stop(). */
#define BELAY_END_STEP_FN     ((belay_end_reason)3) /**< A step function asked for it. */
#define BELAY_END_INPUT       ((belay_end_reason)4) /**< The input ended (OUT_OF_RANGE). */
#define BELAY_END_COORDINATOR ((belay_end_reason)5) /**< Its coordinator was asked to stop. */
#define BELAY_END_FAILURE     ((belay_end_reason)6) /**< A step or a helper thread failed. */

/**
 * Why belay_monitored_session_should_stop() is 1, for a person and for a program.
 *
 * Threads: owner thread.
 *
 * @param out_sentence Set to a line of text, such as "StopAtStepHook asked to stop", that lives
 *                     until the next call or the close. May be NULL.
 * @return the reason; BELAY_END_FAILURE where session is NULL.
 */
BELAY_API belay_end_reason belay_monitored_session_end_reason(belay_monitored_session *session,
                                                              const char **out_sentence);

/** The plain session of a singular monitored session; NULL for the others (MS-23). Owner thread. */
BELAY_API belay_session *belay_monitored_session_raw_session(belay_monitored_session *session);

/** The graph. It belongs to the session. */
BELAY_API belay_graph *belay_monitored_session_graph(belay_monitored_session *session);

/** Where training is. Owner thread. Belongs to the session, and is changed by its steps: the
 * global step is that after the last of them, but now_ms is the time at which hooks were last
 * called (or at which the last step began, where some hook waits for a time). */
BELAY_API const belay_progress *
belay_monitored_session_progress(const belay_monitored_session *session);

/** 1 where the current session was restored from a checkpoint: after a recovery the new one. */
BELAY_API uint32_t belay_monitored_session_was_restored(const belay_monitored_session *session);

/**
 * The coordinator of the current session; NULL where a recovery failed and there is none. Owner
 * thread.
 *
 * A recovery stops and joins it, and makes another one, which knows nothing of the threads of the
 * first: whoever needs threads starts them in a hook's after_create_session(), which is called for
 * each session (BUG-70).
 */
BELAY_API belay_coordinator *belay_monitored_session_coordinator(belay_monitored_session *session);

/**
 * Ends a monitored session and frees it.
 *
 * After clean steps, and after a step that ended in OUT_OF_RANGE: end() of every hook, then threads
 * are stopped and joined and the session is closed (MS-07, MS-11). After a step that failed
 * otherwise: no end().
 *
 * Threads: owner thread.
 * Blocks:  as long as the hooks' end() takes, the last save among them; then, for threads and for a
 *          session with a remote target, at most the grace period and two seconds.
 *
 * @param session NULL: does nothing and returns `err`'s code.
 * @param err     Filled on error. May be NULL.
 * @return BELAY_FAILED_PRECONDITION, and nothing is done: called from within a hook, a step
 * function or a scope's body; else the session is gone: BELAY_OK; the error of the step that failed
 * or could not be prepared, with what closing adds chained to it; or what closing reports.
 */
BELAY_API belay_code belay_monitored_session_close(belay_monitored_session *session,
                                                   belay_error *err);

typedef struct belay_step belay_step;

/**
 * Prepares a step: names are resolved once, and running it costs little more than TensorFlow's own
 * call.
 *
 * @param session Holds the step until it is closed; a step needs no freeing. NULL with a filled
 *                `err`: returns NULL.
 * @param feeds   Names of tensors to feed, ending in NULL; NULL: none.
 * @param fetches Names of tensors to fetch, ending in NULL; NULL: none.
 * @param targets Names of operations to run, ending in NULL; NULL: none. A tensor's name stands
 *                for the operation that makes it.
 * @param err     Filled on error. May be NULL.
 * @return a step that belongs to the session, or NULL: BELAY_NOT_FOUND, BELAY_INVALID_ARGUMENT.
 * Closing the session returns that error too, unless a later step could be prepared or was run.
 */
BELAY_API belay_step *belay_step_prepare(belay_monitored_session *session, const char *const *feeds,
                                         const char *const *fetches, const char *const *targets,
                                         belay_error *err);

/**
 * Runs a prepared step with its hooks; recovers where the session can (WS-06).
 *
 * A recovery, after ABORTED or UNAVAILABLE: the session is closed, a new one is made and restored
 * or initialised, and the whole run is repeated in it with the same inputs, from before_run of
 * every hook on. So a run is done at least once. What the failed one did may have reached the
 * parameter servers already: then a step counts twice, and an update is applied twice (BUG-69).
 * Where the new session was restored, steps since that checkpoint are lost instead. Each recovery
 * is logged as a warning, with the step before and after it.
 *
 * Threads: owner thread.
 * Blocks:  as long as the run takes; while it recovers, up to recovery_budget_secs.
 *
 * @param step    NULL with a filled `err`: returns its code.
 * @param inputs  A tensor for each feed. Borrowed.
 * @param outputs A place for each fetch, holding NULL or a tensor of an earlier run, which is
 *                reused or replaced; the caller frees the last one. Left as they were on error. May
 *                be NULL where nothing is fetched.
 * @param err     Filled on error. May be NULL.
 * @return BELAY_OK, or
 *   - BELAY_OUT_OF_RANGE: the input ended;
 *   - BELAY_FAILED_PRECONDITION: a hook has asked to stop already (ER-25);
 *   - BELAY_NAN_LOSS: the loss is not a number (ER-30);
 *   - any other code, as a hook or TensorFlow reported it.
 */
BELAY_API belay_code belay_step_run(belay_step *step, belay_tensor *const *inputs,
                                    belay_tensor **outputs, belay_error *err);

/**
 * The same, but no hook is called, and the run is not counted in belay_progress.runs: for an
 * evaluation between two steps, say. It recovers as belay_step_run() does, and may be run after a
 * hook asked to stop.
 */
BELAY_API belay_code belay_step_run_without_hooks(belay_step *step, belay_tensor *const *inputs,
                                                  belay_tensor **outputs, belay_error *err);

/**
 * Runs a step with these RunOptions from now on, and collects RunMetadata where `options` has a
 * place for it: it is filled by each run that succeeds, and must live as long as the step or until
 * the next call of this.
 *
 * They win over BELAY_THREADS_*: an inter_op_thread_pool of their own is kept; with a timeout the
 * calling thread is not used (BUG-74). Hooks may add to them for single runs
 * (belay_run_context_merge_options()); the step's own are not changed by that (BUG-39).
 *
 * Threads: owner thread.
 *
 * @param options Bytes are copied. NULL: none any more.
 * @return BELAY_OK, or BELAY_INVALID_ARGUMENT: run_options is not a RunOptions; then the step keeps
 * those that it had.
 */
BELAY_API belay_code belay_step_set_run_options(belay_step *step, const belay_run_options *options,
                                                belay_error *err);

/** What a step function has of the session that runs it. */
typedef struct belay_step_context belay_step_context;

/**
 * A step that is a function: several runs, with and without hooks (SF).
 *
 * Runs on the owner thread, with no lock held. It may run steps of its session, or step functions;
 * it must not close it. ABORTED or UNAVAILABLE that it returns make a session that recovers do so,
 * and call it again from its beginning: what it did before is done twice (SF-08).
 *
 * @return BELAY_OK; what belay_step_context_request_stop() returned; or an error, with `err`
 * filled.
 */
typedef belay_code (*belay_step_fn)(void *self, belay_step_context *context, belay_error *err);

/**
 * Calls a step function once, recovering where the session can (SF-01).
 *
 * Threads: owner thread.
 * Blocks:  as long as the function takes; while it recovers, up to recovery_budget_secs.
 *
 * @param session  NULL with a filled `err`: returns its code.
 * @param function Required.
 * @param self     Handed to it.
 * @param err      Filled on error. May be NULL.
 * @return BELAY_OK; BELAY_STOPPED: it asked to stop, and should_stop is 1 from now on (SD-16);
 * BELAY_FAILED_PRECONDITION: called from within a hook; or its error.
 */
BELAY_API belay_code belay_monitored_session_run_step_fn(belay_monitored_session *session,
                                                         belay_step_fn function, void *self,
                                                         belay_error *err);

/** The raw session as it is now: runs on it call no hooks (SF-03). Ask again after a run that may
 * have recovered (BUG-01, BUG-75). NULL where a recovery in the function failed. */
BELAY_API belay_session *belay_step_context_session(belay_step_context *context);

/** Runs a step with hooks, as belay_step_run() does, but without recovering: ABORTED and
 * UNAVAILABLE are for the function to return (SF-04). */
BELAY_API belay_code belay_step_context_run_with_hooks(belay_step_context *context,
                                                       belay_step *step,
                                                       belay_tensor *const *inputs,
                                                       belay_tensor **outputs, belay_error *err);

/** Asks the loop to end. Returns BELAY_STOPPED with `err` filled, for the function to return at
 * once: `return belay_step_context_request_stop(context, err);` (SF-05). */
BELAY_API belay_code belay_step_context_request_stop(belay_step_context *context, belay_error *err);

/** What belay_monitored_session_with() runs. */
typedef belay_code (*belay_session_body)(void *self, belay_monitored_session *session,
                                         belay_error *err);

/**
 * Runs a body and closes the session as it deserves (MS-11): the rules of TensorFlow's with-block.
 *
 * Where the body returns BELAY_OK, BELAY_OUT_OF_RANGE or BELAY_STOPPED, hooks get their end() and
 * the result is BELAY_OK, or what closing reports. With any other code there is no end(), and that
 * error is returned, with what closing adds chained to it. What steps returned inside does not
 * count, only what the body returns; but what ended a recovery for good stays the session's error
 * (BUG-79), and is returned where the body returns BELAY_OK.
 *
 * @param session Gone afterwards. NULL: does nothing and returns `err`'s code. Called from within a
 *                hook, a step function or another scope's body: nothing is done, and
 *                BELAY_FAILED_PRECONDITION returned.
 * @param body    Must not close the session.
 */
BELAY_API belay_code belay_monitored_session_with(belay_monitored_session *session,
                                                  belay_session_body body, void *self,
                                                  belay_error *err);

#ifdef __cplusplus
}
#endif

#endif
