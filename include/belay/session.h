/**
 * Sessions: a connection to TensorFlow in which a graph runs. The plain form, without hooks or
 * recovery.
 */
#ifndef BELAY_SESSION_H
#define BELAY_SESSION_H

#include <belay/error.h>
#include <belay/graph.h>
#include <belay/tensor.h>

#ifdef __cplusplus
extern "C" {
#endif

struct TF_Session;

typedef struct belay_session belay_session;

/** Options for belay_session_open(). Zero in any field means "the default". */
typedef struct belay_session_options {
    size_t struct_size; /**< sizeof(belay_session_options) in the caller's build. */
    const char
        *target; /**< TensorFlow target such as "grpc://host:2222"; NULL or "": in this process. */
    const void *config; /**< A serialised ConfigProto; NULL: an empty one (SE-03). */
    size_t config_size; /**< Bytes of `config`. */
} belay_session_options;

/** Initialiser with every field at its default. */
#define BELAY_SESSION_OPTIONS_INIT                                                                 \
    { sizeof(belay_session_options), NULL, NULL, 0 }

/** What TensorFlow tells of a run: a serialised RunMetadata. */
typedef struct belay_run_metadata belay_run_metadata;

/** Makes an empty one. NULL when memory is out. */
BELAY_API belay_run_metadata *belay_run_metadata_new(belay_error *err);
/** Frees it. NULL is fine. */
BELAY_API void belay_run_metadata_free(belay_run_metadata *metadata);
/** The bytes, which live until the next run that fills it. */
BELAY_API const void *belay_run_metadata_data(const belay_run_metadata *metadata, size_t *out_size);

/** Options for one run. Zero in any field means "the default". */
typedef struct belay_run_options {
    size_t struct_size;           /**< sizeof(belay_run_options) in the caller's build. */
    const void *run_options;      /**< A serialised RunOptions; NULL: none. */
    size_t run_options_size;      /**< Bytes of `run_options`. */
    belay_run_metadata *metadata; /**< Filled by a run that succeeds (SE-31); NULL: nothing is
                                       collected. Must outlive the run. */
} belay_run_options;

/** Initialiser with every field at its default. */
#define BELAY_RUN_OPTIONS_INIT                                                                     \
    { sizeof(belay_run_options), NULL, 0, NULL }

/**
 * Opens a session. Several may share a graph; in this process each has its own variables (SE-04).
 *
 * Threads: any thread.
 * Blocks:  not for a target that is not there: the first run does.
 *
 * @param graph   Kept: the session holds a reference.
 * @param options Borrowed for the call. NULL: all defaults.
 * @param err     Filled on error. May be NULL.
 * @return a session that the caller frees with belay_session_free(), or NULL: BELAY_NOT_FOUND: no
 * such kind of target (SE-02); BELAY_INVALID_ARGUMENT: config is not a ConfigProto.
 */
BELAY_API belay_session *belay_session_open(belay_graph *graph,
                                            const belay_session_options *options, belay_error *err);

/**
 * Runs part of the graph once.
 *
 * Names are checked before TensorFlow is called. A name that is fetched twice runs once (SE-19);
 * one that is fed and fetched gives back what was fed (SE-21).
 *
 * Threads: any thread; several may run at once.
 * Blocks:  as long as the run takes; belay_session_close() on another thread ends it with
 * BELAY_CANCELLED (SE-06), on a remote target that hangs after five seconds. Where the master is
 * another process, and nobody has listened there for five seconds, or the process has not answered
 * for a minute (it was stopped, or hangs), it ends with BELAY_UNAVAILABLE, and so does every later
 * run at once: the session is lost. A run on a remote target that takes more than ten seconds is
 * reported then, and every ten seconds; where runs take as long, after twice their time, or a
 * minute. TensorFlow's own limits hold there too: timeout_in_ms of RunOptions, and
 * operation_timeout_in_ms of the config (SE-32, SE-33).
 *
 * @param feeds   Names of tensors to feed, ending in NULL; NULL: none.
 * @param inputs  A tensor for each of `feeds`. Borrowed.
 * @param fetches Names of tensors to fetch, ending in NULL; NULL: none.
 * @param outputs A place for each of `fetches`, holding NULL or a tensor of an earlier run, which
 *                is reused or replaced; the caller frees the last one. Left as they were on error.
 *                NULL: nothing is fetched, or what is fetched is dropped.
 * @param targets Names of operations to run, ending in NULL; NULL: none. A tensor's name stands
 *                for the operation that makes it.
 * @param options Borrowed for the call. NULL: all defaults.
 * @param err     Filled on error. May be NULL.
 * @return BELAY_OK, or
 *   - BELAY_NOT_FOUND: nothing of that name to fetch or to run (ER-03); the message suggests the
 *     nearest;
 *   - BELAY_INVALID_ARGUMENT: nothing of that name to feed (ER-04), a name is ambiguous or fed
 *     twice (SE-30), or a tensor does not fit what it feeds (ER-05);
 *   - BELAY_FAILED_PRECONDITION: the session is closed (ER-01), or the graph is empty (ER-02);
 *   - any other code: as TensorFlow reported it.
 */
BELAY_API belay_code belay_session_run(belay_session *session, const char *const *feeds,
                                       belay_tensor *const *inputs, const char *const *fetches,
                                       belay_tensor **outputs, const char *const *targets,
                                       const belay_run_options *options, belay_error *err);

/** A run that is resolved once and then repeated (SE-45). It holds the session. */
typedef struct belay_callable belay_callable;

/**
 * Resolves a run once, so that repeating it costs little more than TensorFlow's own call.
 *
 * @param session Kept until belay_callable_free(). NULL with a filled `err`: returns NULL.
 * @param feeds   As belay_session_run() takes them; the same for `fetches` and `targets`.
 * @param options Borrowed for the call. NULL: all defaults.
 * @param err     Filled on error. May be NULL.
 * @return a callable that the caller frees with belay_callable_free(), or NULL: codes as
 *         belay_session_run().
 */
BELAY_API belay_callable *
belay_session_make_callable(belay_session *session, const char *const *feeds,
                            const char *const *fetches, const char *const *targets,
                            const belay_run_options *options, belay_error *err);

/**
 * Runs it. Arguments, threads and codes as belay_session_run(), but: one at a time per callable.
 *
 * @param callable NULL with a filled `err`: returns its code.
 */
BELAY_API belay_code belay_callable_run(belay_callable *callable, belay_tensor *const *inputs,
                                        belay_tensor **outputs, belay_error *err);

/** Frees a callable. NULL is fine. */
BELAY_API void belay_callable_free(belay_callable *callable);

/** A run in pieces: feeds and fetches are declared first, and then given and taken one after the
 *  other (SE-36). It holds the session. */
typedef struct belay_partial_run belay_partial_run;

/**
 * Declares all feeds and fetches of a partial run. Operations cannot be its targets (SE-38), and it
 * takes no options (SE-42).
 *
 * Blocks: while the target sets it up; where that is gone or hangs it ends as belay_session_run()
 * does, and so do runs of it.
 *
 * @param session Kept until belay_partial_run_free(). NULL with a filled `err`: returns NULL.
 * @param feeds   Names of tensors that will be fed, ending in NULL; NULL: none.
 * @param fetches Names of tensors that will be fetched, ending in NULL; NULL: none.
 * @param err     Filled on error. May be NULL.
 * @return a partial run that the caller frees with belay_partial_run_free(), or NULL: codes as
 *         belay_session_run().
 */
BELAY_API belay_partial_run *belay_session_partial_run_setup(belay_session *session,
                                                             const char *const *feeds,
                                                             const char *const *fetches,
                                                             belay_error *err);

/**
 * Goes on with a partial run: gives some of the declared feeds and takes some of the declared
 * fetches (SE-37).
 *
 * Threads: one at a time per object.
 *
 * @param partial NULL with a filled `err`: returns its code.
 * @param feeds   Names, ending in NULL, and a tensor for each in `inputs`. May be NULL.
 * @param fetches Names, ending in NULL, and a place for each in `outputs`. May be NULL.
 * @return BELAY_OK, or BELAY_INVALID_ARGUMENT: not declared (SE-41), or taken already (SE-39,
 *         SE-40); BELAY_FAILED_PRECONDITION: the session is closed; any other code: as TensorFlow
 *         reported it.
 */
BELAY_API belay_code belay_partial_run_run(belay_partial_run *partial, const char *const *feeds,
                                           belay_tensor *const *inputs, const char *const *fetches,
                                           belay_tensor **outputs, belay_error *err);

/** Frees a partial run, finished or not. NULL is fine. */
BELAY_API void belay_partial_run_free(belay_partial_run *partial);

/** Devices of a session (SE-12). */
typedef struct belay_device_list belay_device_list;

/** Strings belong to the list. */
typedef struct belay_device {
    const char *name; /**< Such as "/job:localhost/replica:0/task:0/device:CPU:0". */
    const char *type; /**< Such as "CPU". */
    int64_t memory_limit_bytes;
    uint64_t incarnation; /**< Another one after the task was restarted. */
} belay_device;

/** Lists the devices of a session. Ends as belay_session_run() does where the target is gone or
 * hangs. The caller frees the list with belay_device_list_free(). */
BELAY_API belay_device_list *belay_session_list_devices(belay_session *session, belay_error *err);
BELAY_API size_t belay_device_list_count(const belay_device_list *list);
/** NULL where there is no such device. */
BELAY_API const belay_device *belay_device_list_get(const belay_device_list *list, size_t index);
/** Frees a list. NULL is fine. */
BELAY_API void belay_device_list_free(belay_device_list *list);

/**
 * Clears resource containers on a target, and closes the sessions that are attached to its master
 * (SE-13). Blocks until the target answers, as TensorFlow's does: where it may be gone, set
 * operation_timeout_in_ms in the config.
 *
 * @param options    Target and config; NULL: in this process, where nothing happens.
 * @param containers Names, ending in NULL; NULL or empty: all of them.
 */
BELAY_API belay_code belay_session_reset(const belay_session_options *options,
                                         const char *const *containers, belay_error *err);

/**
 * Reads the graph's global step.
 *
 * Threads: any thread.
 *
 * @return BELAY_OK, or BELAY_FAILED_PRECONDITION: the graph has none, or it is not initialised yet.
 */
BELAY_API belay_code belay_session_global_step(belay_session *session, int64_t *out_step,
                                               belay_error *err);

/**
 * The same as hooks read it: where the step is not initialised yet, it is the value that it will
 * start from (GS-05, GS-06).
 *
 * Threads: any thread.
 *
 * @return BELAY_OK, or BELAY_FAILED_PRECONDITION: the graph has none, or its initial value is not
 * known or cannot be computed.
 */
BELAY_API belay_code belay_session_step_or_initial(belay_session *session, int64_t *out_step,
                                                   belay_error *err);

/** The graph. It belongs to the session. */
BELAY_API belay_graph *belay_session_graph(belay_session *session);

/** The target; an empty string in this process. */
BELAY_API const char *belay_session_target(const belay_session *session);

/** TensorFlow's session. It belongs to `session`. */
BELAY_API struct TF_Session *belay_session_raw(belay_session *session);

/**
 * Closes: runs in flight end with BELAY_CANCELLED. Only the first call reaches TensorFlow (SE-05).
 *
 * Threads: any thread.
 * Blocks:  at most five seconds; then the close of a remote session is left to itself: its master,
 *          or a task that it looks for, is gone or hangs (BUG-18).
 *
 * @return BELAY_OK; BELAY_DEADLINE_EXCEEDED: it was left to itself, and the target may keep the
 * session; or what TensorFlow reports. The session is closed here, whatever this returns.
 */
BELAY_API belay_code belay_session_close(belay_session *session, belay_error *err);

/**
 * Closes, and gives up the caller's hold; errors of that close are ignored (SE-07). Callables and
 * partial runs hold the session too: they may be freed later, but not run any more. NULL is fine.
 *
 * Threads: any thread.
 * Blocks:  at most five seconds; then the close of a remote session is left to itself.
 */
BELAY_API void belay_session_free(belay_session *session);

#ifdef __cplusplus
}
#endif

#endif
