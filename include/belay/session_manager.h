/**
 * Session managers: open a session whose variables are ready, by restoring, by initialising, or by
 * waiting for somebody else to do so.
 */
#ifndef BELAY_SESSION_MANAGER_H
#define BELAY_SESSION_MANAGER_H

#include <belay/coordinator.h>
#include <belay/scaffold.h>
#include <belay/session.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct belay_session_manager belay_session_manager;

/** Options for belay_session_manager_new() (SM-01). Zero in any field means "the default". Strings
 * and lists are copied. */
typedef struct belay_session_manager_options {
    size_t struct_size;        /**< sizeof(belay_session_manager_options) in the caller's build. */
    const char *local_init_op; /**< NULL: none. */
    const char *ready_op;      /**< NULL: always ready (SM-40). */
    const char *ready_for_local_init_op; /**< Needs local_init_op (SM-03). */
    double recovery_wait_secs; /**< Longest pause between checks; 0: 30. In the first ten minutes
                                  pauses are an eighth of the time waited, from 0.05 to 0.5 s; then
                                  they grow up to it, as a 1200th of the time (SM-36). */
    const belay_run_options
        *local_init_run_options; /**< Copied; `metadata` in it must be NULL. NULL: none. */
    const char *const
        *local_init_feeds; /**< Tensors to feed to the local init op, ending in NULL. */
    belay_tensor *const
        *local_init_inputs; /**< A tensor for each, which must outlive the manager. */
} belay_session_manager_options;

/** Initialiser with every field at its default. */
#define BELAY_SESSION_MANAGER_OPTIONS_INIT                                                         \
    { sizeof(belay_session_manager_options), NULL, NULL, NULL, 0, NULL, NULL, NULL }

/**
 * Makes a session manager. One may serve any number of sessions (SM-48).
 *
 * @param graph   Kept: the manager holds a reference. NULL with a filled `err`: returns NULL.
 * @param options Borrowed for the call. NULL: all defaults.
 * @return a manager that the caller frees with belay_session_manager_free(), or NULL:
 * BELAY_INVALID_ARGUMENT (ER-12), BELAY_NOT_FOUND: no such op.
 */
BELAY_API belay_session_manager *
belay_session_manager_new(belay_graph *graph, const belay_session_manager_options *options,
                          belay_error *err);

/** Frees a manager. NULL is fine. */
BELAY_API void belay_session_manager_free(belay_session_manager *manager);

/** Ends a wait that is going on, and every later one, with BELAY_CANCELLED, within a fifth of a
 * second: for a target, for a checkpoint, or for a model. Any thread, async-signal-safe. */
BELAY_API void belay_session_manager_cancel(belay_session_manager *manager);

/** Fail with BELAY_NOT_FOUND instead of running the init op when there is no checkpoint. */
#define BELAY_PREPARE_REQUIRE_CHECKPOINT (UINT32_C(1) << 0)
/** Wait up to max_wait_secs for a checkpoint to appear. */
#define BELAY_PREPARE_WAIT_FOR_CHECKPOINT (UINT32_C(1) << 1)

/** Options for prepare_session and recover_session (SM-14, SM-25). Zero in any field means "the
 * default". Read during the call and not kept. */
typedef struct belay_prepare_options {
    size_t struct_size; /**< sizeof(belay_prepare_options) in the caller's build. */
    const belay_session_options *session; /**< Target and config; NULL: in this process. */
    const char *init_op;                  /**< NULL: none. */
    const char *const *init_feeds;        /**< Tensors to feed to the init op, ending in NULL. */
    belay_tensor *const *init_inputs;     /**< A tensor for each. */
    belay_init_fn init_fn;                /**< Called after the init op; NULL: none. */
    void *init_self;                      /**< Handed to init_fn. */
    belay_scaffold *scaffold;             /**< Handed to init_fn. */
    belay_saver *saver;                   /**< NULL: nothing is restored (SM-06). */
    const char *checkpoint_dir; /**< Restore the newest checkpoint in this folder; NULL: none. */
    const char *checkpoint_filename_with_path; /**< Restore exactly this one (SM-07). */
    double max_wait_secs; /**< Longest wait for the target to answer, longest one for a checkpoint,
                             and longest one for an op on a remote target; 0: 7200 (TO-02);
                             BELAY_AT_ONCE; BELAY_FOREVER. */
    uint32_t flags;       /**< BELAY_PREPARE_* bits. */
    uint32_t reserved;    /**< Must be 0. */
} belay_prepare_options;

/** Initialiser with every field at its default. */
#define BELAY_PREPARE_OPTIONS_INIT                                                                 \
    {                                                                                              \
        sizeof(belay_prepare_options), NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, \
            0, 0, 0                                                                                \
    }

/**
 * Opens a session whose variables are ready to train: restores the newest checkpoint that verifies,
 * or else runs the init op and init_fn; then the local init op; then checks that the model is ready
 * (SM-14 to SM-24).
 *
 * A damaged checkpoint is passed over with a warning, never deleted, and an older one is used.
 * Where checkpoints exist and none can be restored nothing is initialised (SD-14).
 *
 * Threads: one at a time per object.
 * Blocks:  while ops run, on a remote target up to max_wait_secs each, at least a minute; up to
 *          max_wait_secs, at least five seconds, until the target and all of its cluster answer;
 * and with BELAY_PREPARE_WAIT_FOR_CHECKPOINT up to max_wait_secs more. Waits are reported after two
 * seconds and then every ten; an op on a remote target after ten. On error: no session is left
 * open.
 *
 * @param out_restored Set to 1 if a checkpoint was loaded, else 0. May be NULL.
 * @return a session that the caller frees with belay_session_free(), or NULL:
 *   - BELAY_INVALID_ARGUMENT: both checkpoint arguments (ER-13), or a variable has another type or
 *     shape in the checkpoint;
 *   - BELAY_FAILED_PRECONDITION: nothing to initialise with (ER-14), or the model did not become
 *     ready (ER-15);
 *   - BELAY_NOT_FOUND: BELAY_PREPARE_REQUIRE_CHECKPOINT and there is none;
 *     checkpoint_filename_with_path is not there; or the checkpoint lacks a variable of the graph;
 *   - BELAY_DATA_LOSS: there are checkpoints, and none of them verifies;
 *   - BELAY_DEADLINE_EXCEEDED: no checkpoint within max_wait_secs (BUG-31), the target does not
 *     answer, or an op on it does not end: the message says who and which;
 *   - BELAY_UNAVAILABLE: the target is gone, or hangs (belay_session_run());
 *   - BELAY_CANCELLED: belay_session_manager_cancel() was called while it waited;
 *   - any other code: as TensorFlow reported it.
 */
BELAY_API belay_session *belay_session_manager_prepare_session(belay_session_manager *manager,
                                                               const belay_prepare_options *options,
                                                               uint32_t *out_restored,
                                                               belay_error *err);

/**
 * Opens a session and restores it if there is a checkpoint, without ever initialising: of the
 * options those of the init op and BELAY_PREPARE_REQUIRE_CHECKPOINT are not looked at (SM-25 to
 * SM-30). The local init op is run where the model is ready for it.
 *
 * A model that is not ready is no error: that is what out_initialized says.
 *
 * Threads: one at a time per object.
 * Blocks:  while ops run, on a remote target up to max_wait_secs each, at least a minute; up to
 *          max_wait_secs, at least five seconds, until the target and all of its cluster answer;
 * and with BELAY_PREPARE_WAIT_FOR_CHECKPOINT up to max_wait_secs more. Waits are reported after two
 * seconds and then every ten; an op on a remote target after ten. On error: no session is left
 * open.
 *
 * @param out_initialized Set to 1 if it was restored and is ready, else 0. May be NULL.
 * @return a session that the caller frees with belay_session_free(), or NULL:
 *   - BELAY_INVALID_ARGUMENT: both checkpoint arguments (ER-13), or a variable has another type or
 *     shape in the checkpoint;
 *   - BELAY_NOT_FOUND: checkpoint_filename_with_path is not there, or the checkpoint lacks a
 *     variable of the graph;
 *   - BELAY_DATA_LOSS: there are checkpoints, and none of them verifies;
 *   - BELAY_DEADLINE_EXCEEDED: no checkpoint within max_wait_secs (BUG-31), the target does not
 *     answer, or an op on it does not end: the message says who and which;
 *   - BELAY_UNAVAILABLE: the target is gone, or hangs (belay_session_run());
 *   - BELAY_CANCELLED: belay_session_manager_cancel() was called while it waited;
 *   - any other code: as TensorFlow reported it.
 */
BELAY_API belay_session *belay_session_manager_recover_session(belay_session_manager *manager,
                                                               const belay_prepare_options *options,
                                                               uint32_t *out_initialized,
                                                               belay_error *err);

/**
 * Opens a session on a model that somebody else makes ready (SM-31 to SM-39).
 *
 * One session asks again and again whether the model is ready (BUG-26), and the local init op runs
 * once in it, when the model is ready for that (BUG-66). Where the target is restarted meanwhile,
 * the wait goes on in a session on the new one.
 *
 * Threads: one at a time per object. Ops run on threads of belay's, which write to the log too.
 * Blocks:  up to max_wait_secs. An attempt that is under way then has five seconds from its start
 *          to reach the target, and a minute more for its ops. Reports at once where the model is
 *          not ready and after two seconds where the target is silent, and then every ten.
 * On error: no session is left open.
 *
 * @param session_options Target and config; NULL: in this process, where nobody else can make it
 *                        ready (BUG-26).
 * @param max_wait_secs   0 or BELAY_AT_ONCE: one attempt; BELAY_FOREVER: no limit.
 * @return a session that the caller frees with belay_session_free(), or NULL:
 *   - BELAY_DEADLINE_EXCEEDED: not ready in time (ER-16); the message says what was not, or who
 *     does not answer;
 *   - BELAY_CANCELLED: belay_session_manager_cancel() was called;
 *   - BELAY_INVALID_ARGUMENT: max_wait_secs is malformed;
 *   - any other code: as TensorFlow reported it.
 */
BELAY_API belay_session *
belay_session_manager_wait_for_session(belay_session_manager *manager,
                                       const belay_session_options *session_options,
                                       double max_wait_secs, belay_error *err);

#ifdef __cplusplus
}
#endif

#endif
