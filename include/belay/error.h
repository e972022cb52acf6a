/**
 * Errors: a code to branch on and one line to read.
 *
 * Every fallible function takes a `belay_error *` as its last argument. It may be NULL. A function
 * fills it when it fails and leaves it alone when it succeeds. The code is returned as well, so a
 * caller that only branches needs none.
 *
 * A maker that is given NULL where it needs an object, together with an error that is already
 * filled, returns NULL and leaves the error as it is. So a chain of makers needs one check, at its
 * end.
 */
#ifndef BELAY_ERROR_H
#define BELAY_ERROR_H

#include <belay/export.h>

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/** The result of a call. Not negative: TensorFlow's codes, number for number (ST-01). Negative:
 * belay's own. */
typedef int32_t belay_code;

#define BELAY_OK                  ((belay_code)0)
#define BELAY_CANCELLED           ((belay_code)1)
#define BELAY_UNKNOWN             ((belay_code)2)
#define BELAY_INVALID_ARGUMENT    ((belay_code)3)
#define BELAY_DEADLINE_EXCEEDED   ((belay_code)4)
#define BELAY_NOT_FOUND           ((belay_code)5)
#define BELAY_ALREADY_EXISTS      ((belay_code)6)
#define BELAY_PERMISSION_DENIED   ((belay_code)7)
#define BELAY_RESOURCE_EXHAUSTED  ((belay_code)8)
#define BELAY_FAILED_PRECONDITION ((belay_code)9)
#define BELAY_ABORTED             ((belay_code)10)
#define BELAY_OUT_OF_RANGE        ((belay_code)11)
#define BELAY_UNIMPLEMENTED       ((belay_code)12)
#define BELAY_INTERNAL            ((belay_code)13)
#define BELAY_UNAVAILABLE         ((belay_code)14)
#define BELAY_DATA_LOSS           ((belay_code)15)
#define BELAY_UNAUTHENTICATED     ((belay_code)16)
/** A step function asked to stop (ST-09). Not a failure. */
#define BELAY_STOPPED ((belay_code)-1)
/** The loss became NaN (ST-11). */
#define BELAY_NAN_LOSS ((belay_code)-2)

/** Where an error came from. */
typedef uint32_t belay_origin;

#define BELAY_ORIGIN_BELAY      ((belay_origin)0)
#define BELAY_ORIGIN_TENSORFLOW ((belay_origin)1)
#define BELAY_ORIGIN_HOOK       ((belay_origin)2)

/**
 * An error. Made once and reused; it holds its text itself, so reporting that memory is out
 * allocates nothing.
 *
 * Threads: one at a time per object.
 */
typedef struct belay_error belay_error;

/** Makes an empty error (code BELAY_OK). NULL only when memory is out, and every function accepts
 * that NULL. */
BELAY_API belay_error *belay_error_new(void);

/** Frees an error. NULL is fine. */
BELAY_API void belay_error_free(belay_error *err);

/** Empties an error: code BELAY_OK, no text, nothing chained. */
BELAY_API void belay_error_clear(belay_error *err);

/** The code; BELAY_OK where there is no error or `err` is NULL. */
BELAY_API belay_code belay_error_code(const belay_error *err);

/** One line of text, never NULL; empty where there is no error. Valid until the error is changed or
 * freed. */
BELAY_API const char *belay_error_message(const belay_error *err);

/** Who reported it: one of BELAY_ORIGIN_*. */
BELAY_API belay_origin belay_error_origin(const belay_error *err);

/** Name of the graph operation that failed, or an empty string where the runtime did not name one
 * (ST-05). */
BELAY_API const char *belay_error_op(const belay_error *err);

/** 1 where a task of the cluster went away and the same call may succeed later: ABORTED,
 * UNAVAILABLE (ST-07). */
BELAY_API uint32_t belay_error_is_recoverable(const belay_error *err);

/** How many further errors followed the first one and were chained to it (BUG-05). */
BELAY_API size_t belay_error_chained_count(const belay_error *err);

/** The text of a chained error, `index` from 0; an empty string where there is none. */
BELAY_API const char *belay_error_chained_message(const belay_error *err, size_t index);

/** The code of a chained error, `index` from 0; BELAY_OK where there is none. */
BELAY_API belay_code belay_error_chained_code(const belay_error *err, size_t index);

/**
 * Fills an error from outside: for hooks, session creators and bindings.
 *
 * @param err     Filled; origin becomes BELAY_ORIGIN_HOOK. NULL is fine.
 * @param code    Any code but BELAY_OK.
 * @param message Copied; cut after about two thousand bytes.
 * @return `code`, so that a hook can end with `return belay_error_set(…)`.
 */
BELAY_API belay_code belay_error_set(belay_error *err, belay_code code, const char *message);

/** The code's name as TensorFlow spells it ("NOT_FOUND"), or "STOPPED", "NAN_LOSS"; "UNKNOWN" for a
 * number that is no code. */
BELAY_API const char *belay_code_name(belay_code code);

#ifdef __cplusplus
}
#endif

#endif
