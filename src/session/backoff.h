/* Waiting between attempts, by the clock. A stop ends it, and so does the deadline. */
#ifndef BLY_SESSION_BACKOFF_H
#define BLY_SESSION_BACKOFF_H

#include <belay/error.h>

#include <stdatomic.h>
#include <stdint.h>

typedef enum bly_backoff_kind {
    /* An attempt only looks: pauses are an eighth of what was waited so far, from 50 ms to half a
     * second, so that what becomes ready is seen within a second. After ten minutes they grow
     * again, to a 1200th: 6 s after two hours. */
    BLY_BACKOFF_LOOKS,
    /* An attempt costs something: each pause is twice the last one, from 50 ms on. */
    BLY_BACKOFF_TRIES,
} bly_backoff_kind;

typedef struct bly_backoff {
    bly_backoff_kind kind;
    int64_t deadline_us; /* of the whole wait; BLY_NEVER: none */
    int64_t most_us;     /* longest pause */
    int64_t next_us;     /* BLY_BACKOFF_TRIES */
    int64_t started_us;
    int64_t reported_us;
    const atomic_int *stop[2]; /* either may be NULL */
} bly_backoff;

/* INVALID_ARGUMENT where `secs` is negative, but neither BELAY_FOREVER nor BELAY_AT_ONCE, or NaN.
 */
belay_code bly_check_secs(const char *what, double secs, belay_error *err);

/* `wait_secs` may be BELAY_FOREVER or BELAY_AT_ONCE. */
void bly_backoff_start(bly_backoff *backoff, bly_backoff_kind kind, double wait_secs,
                       double longest_pause_secs, const atomic_int *stop,
                       const atomic_int *other_stop);

typedef enum bly_backoff_result {
    BLY_BACKOFF_AGAIN,   /* try again */
    BLY_BACKOFF_STOPPED, /* somebody asked to stop */
    BLY_BACKOFF_EXPIRED, /* the deadline has come; the last pause was cut so that one more attempt
                            fell on it */
} bly_backoff_result;

/* Says what is waited for. */
typedef void (*bly_backoff_report)(void *self, double elapsed_secs);

/* Reports at the first pause and then every 10 s, also in the middle of a pause. `report` may be
 * NULL. */
bly_backoff_result bly_backoff_pause(bly_backoff *backoff, bly_backoff_report report, void *self);

double bly_backoff_elapsed_secs(const bly_backoff *backoff);

#endif
