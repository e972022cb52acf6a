/* Waiting between attempts: pauses grow from 50 ms, so that what becomes ready is seen at once, and
 * a stop ends them. */
#ifndef BLY_SESSION_BACKOFF_H
#define BLY_SESSION_BACKOFF_H

#include <belay/error.h>

#include <stdatomic.h>
#include <stdint.h>

typedef struct bly_backoff {
    int64_t deadline_us; /* of the whole wait; BLY_NEVER: none */
    int64_t most_us;     /* longest pause */
    int64_t next_us;
    int64_t started_us;
    int64_t reported_us;
    const atomic_int *stop[2]; /* either may be NULL */
} bly_backoff;

/* INVALID_ARGUMENT where `secs` is negative, but neither BELAY_FOREVER nor BELAY_AT_ONCE, or NaN.
 */
belay_code bly_check_secs(const char *what, double secs, belay_error *err);

/* `wait_secs` may be BELAY_FOREVER or BELAY_AT_ONCE. */
void bly_backoff_start(bly_backoff *backoff, double wait_secs, double longest_pause_secs,
                       const atomic_int *stop, const atomic_int *other_stop);

typedef enum bly_backoff_result {
    BLY_BACKOFF_AGAIN,   /* try again */
    BLY_BACKOFF_STOPPED, /* somebody asked to stop */
    BLY_BACKOFF_EXPIRED, /* the deadline has come; the last pause was cut so that one more attempt
                            fell on it */
} bly_backoff_result;

bly_backoff_result bly_backoff_pause(bly_backoff *backoff);

/* 1 at the first call and then every 10 s: time to say what is waited for. */
int bly_backoff_should_report(bly_backoff *backoff);
double bly_backoff_elapsed_secs(const bly_backoff *backoff);

#endif
