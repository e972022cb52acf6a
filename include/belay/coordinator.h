/**
 * Coordinators: several threads that stop together.
 *
 * A coordinator is a latch that says "stop", the first error that led to it, and the threads that
 * look at it. It starts threads itself (belay_coordinator_start_loop()), so that it knows when each
 * of them ended; those of the host are registered, and say when they end
 * (belay_coordinator_register_thread()).
 *
 * Every function accepts NULL, which is a coordinator that nobody stops and that has no threads:
 * what returns an error returns that of a filled `err`, else BELAY_INVALID_ARGUMENT.
 *
 * Threads: every function may be called from any thread, but belay_coordinator_join(), which one
 * thread calls at a time.
 */
#ifndef BELAY_COORDINATOR_H
#define BELAY_COORDINATOR_H

#include <belay/error.h>

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct belay_coordinator belay_coordinator;

/**
 * Makes a coordinator that nobody has stopped.
 *
 * @param clean_stop_codes Codes that count as a stop without an error (CO-02, CO-04), `count` of
 *                         them; NULL: BELAY_OUT_OF_RANGE; count 0 with a pointer: none. Copied.
 * @param count            Number of codes; not read where clean_stop_codes is NULL.
 * @param err              Filled on error. May be NULL.
 * @return a coordinator that the caller frees with belay_coordinator_free(), or NULL:
 * BELAY_RESOURCE_EXHAUSTED.
 */
BELAY_API belay_coordinator *belay_coordinator_new(const belay_code *clean_stop_codes, size_t count,
                                                   belay_error *err);

/**
 * Frees a coordinator. NULL is fine.
 *
 * Join first: threads that were not joined are asked to stop and left to themselves, with a
 * warning. They keep what they need of the coordinator.
 */
BELAY_API void belay_coordinator_free(belay_coordinator *coordinator);

/**
 * Asks all threads to stop (CO-03 to CO-07). The first error is kept and raised by join; later ones
 * are logged, and chained to it where there is one (BUG-05). After a join an error is kept and
 * logged too (BUG-06): it is never raised in the thread that reports it.
 *
 * @param reason Why, when it is an error; NULL or an empty error: a plain stop. Copied.
 */
BELAY_API void belay_coordinator_request_stop(belay_coordinator *coordinator,
                                              const belay_error *reason);

/** 1 once a stop was requested. */
BELAY_API uint32_t belay_coordinator_should_stop(const belay_coordinator *coordinator);

/** Forgets stop, error and that it was joined (CO-08). */
BELAY_API void belay_coordinator_clear_stop(belay_coordinator *coordinator);

/** Waits until a stop is requested, at most `timeout_secs` (BELAY_FOREVER: no limit); 1 if it was
 * (CO-09). NULL: 0, at once. */
BELAY_API uint32_t belay_coordinator_wait_for_stop(belay_coordinator *coordinator,
                                                   double timeout_secs);

/** BELAY_OK, or the error that was recorded (CO-18). Calling it changes nothing. */
BELAY_API belay_code belay_coordinator_raise_requested_exception(belay_coordinator *coordinator,
                                                                 belay_error *err);

/** 1 after a join (CO-20). */
BELAY_API uint32_t belay_coordinator_joined(const belay_coordinator *coordinator);

/** Options for belay_coordinator_join(). Zero in any field means "the default". */
typedef struct belay_join_options {
    size_t struct_size;            /**< sizeof(belay_join_options) in the caller's build. */
    double stop_grace_period_secs; /**< Time for threads to end after a stop; 0: 120; BELAY_AT_ONCE;
                                      BELAY_FOREVER. */
    uint32_t ignore_live_threads;  /**< 1: threads that are still alive are logged, not an error. */
    uint32_t reserved;             /**< Must be 0. */
} belay_join_options;

/** Initialiser with every field at its default. */
#define BELAY_JOIN_OPTIONS_INIT                                                                    \
    { sizeof(belay_join_options), 0, 0, 0 }

/**
 * Waits for all threads to end that were started before this call (CO-11 to CO-17).
 *
 * A thread that is still alive after the grace period is let go: it ends when it ends.
 *
 * Blocks: until all ended or a stop is requested, without limit and with a report every 10 s; then
 * at most the grace period, by the clock (BUG-27).
 *
 * @param options Borrowed for the call. NULL: all defaults.
 * @param err     Filled on error. May be NULL.
 * @return BELAY_OK, or
 *   - the error that was recorded, whatever its code;
 *   - BELAY_DEADLINE_EXCEEDED: threads are still alive, which the message names (ER-31);
 *   - BELAY_INVALID_ARGUMENT: an option is malformed.
 */
BELAY_API belay_code belay_coordinator_join(belay_coordinator *coordinator,
                                            const belay_join_options *options, belay_error *err);

/** Call the body once, not again and again. */
#define BELAY_LOOP_ONCE (UINT32_C(1) << 0)

/** Options for belay_coordinator_start_loop(). Zero in any field means "the default". */
typedef struct belay_loop_options {
    size_t struct_size;   /**< sizeof(belay_loop_options) in the caller's build. */
    double interval_secs; /**< Time between the starts of two calls (LT-04); 0: back to back. */
    /** Called once, before the first call (LT-05). NULL: nothing. */
    belay_code (*start)(void *self, belay_error *err);
    /** Called once after the last call, unless one failed (LT-05). NULL: nothing. */
    belay_code (*stop)(void *self, belay_error *err);
    /** Called exactly once, after all others, also where starting fails. NULL: nothing. */
    void (*destroy)(void *self);
    uint32_t flags;    /**< BELAY_LOOP_* bits. */
    uint32_t reserved; /**< Must be 0. */
} belay_loop_options;

/** Initialiser with every field at its default. */
#define BELAY_LOOP_OPTIONS_INIT                                                                    \
    { sizeof(belay_loop_options), 0, NULL, NULL, NULL, 0, 0 }

/**
 * Starts a thread that calls `body` again and again until the coordinator stops or `body` fails;
 * the coordinator joins it (LT-01 to LT-06).
 *
 * Due times advance by exactly the interval, so that calls missed during a slow one follow back to
 * back (LT-04).
 *
 * Callbacks: all on the new thread, with no lock held; they may block and may call belay, but not
 *            belay_coordinator_join(). BELAY_OK goes on; anything else is reported to the
 * coordinator and ends the thread (LT-06). A thread that outlives a join's grace period goes on
 * using `self`: give `destroy` for what must live as long.
 *
 * @param name    For messages. Copied.
 * @param body    What to call. Required.
 * @param self    Handed to all callbacks.
 * @param options Borrowed for the call. NULL: all defaults.
 * @param err     Filled on error. May be NULL.
 * @return BELAY_OK, or
 *   - BELAY_INVALID_ARGUMENT: no coordinator, no name, no body, or an option is malformed (LT-02);
 *   - BELAY_RESOURCE_EXHAUSTED: no memory or no thread to be had.
 */
BELAY_API belay_code belay_coordinator_start_loop(belay_coordinator *coordinator, const char *name,
                                                  belay_code (*body)(void *self, belay_error *err),
                                                  void *self, const belay_loop_options *options,
                                                  belay_error *err);

/** A thread of the host that a coordinator waits for. */
typedef struct belay_registered_thread belay_registered_thread;

/**
 * Has the coordinator wait for a thread that it did not start (CO-10). The thread should look at
 * belay_coordinator_should_stop(), and ends with belay_registered_thread_end(). One that is
 * registered while a join is waiting is for the next join.
 *
 * Threads: any thread, not only the one that is registered.
 *
 * @param name For messages. Copied.
 * @param err  Filled on error. May be NULL.
 * @return a handle that belay_registered_thread_end() takes, or NULL: BELAY_INVALID_ARGUMENT,
 * BELAY_RESOURCE_EXHAUSTED.
 */
BELAY_API belay_registered_thread *belay_coordinator_register_thread(belay_coordinator *coordinator,
                                                                     const char *name,
                                                                     belay_error *err);

/**
 * Says that a registered thread is done with all that the coordinator's owner may free after a
 * join: its last word. With an error it requests a stop for that reason first (CO-19).
 *
 * Threads: any thread, once. Also after the coordinator was freed or gave the thread up.
 *
 * @param thread Gone afterwards. NULL does nothing.
 * @param reason As belay_coordinator_request_stop() takes it; NULL or an empty error: the thread
 *               ended well, and nothing is stopped.
 */
BELAY_API void belay_registered_thread_end(belay_registered_thread *thread,
                                           const belay_error *reason);

#ifdef __cplusplus
}
#endif

#endif
