/* Time. Every wait and every interval in belay reads this clock, so that a test can step it by
 * hand. */
#ifndef BLY_BASE_CLOCK_H
#define BLY_BASE_CLOCK_H

#include "base/thread.h"

#include <stdint.h>

#define BLY_NEVER INT64_MAX

/* A clock that is not the system's. */
typedef struct bly_clock {
    int64_t (*now_us)(void *self);
    /* Waits on a condition until it is signalled or now_us() reaches the deadline. */
    void (*wait)(void *self, bly_cond *cond, bly_mutex *mutex, int64_t deadline_us);
    void *self;
} bly_clock;

/* NULL goes back to the system's. Not while other threads run. */
void bly_clock_install(const bly_clock *clock);

int64_t bly_now_us(void); /* monotonic */
int64_t bly_now_ms(void);
double bly_unix_time(void); /* wall clock, seconds */

/* now + seconds in microseconds, without overflow; a negative or NaN duration counts as 0. */
int64_t bly_deadline_after_secs(double seconds);

/* Waits on `cond` (whose mutex is held) until signalled, woken for no reason, or the deadline
 * (BLY_NEVER: none). Returns 1 while the deadline is not reached, so: while (!done &&
 * bly_wait_until(...)) ; */
int bly_wait_until(bly_cond *cond, bly_mutex *mutex, int64_t deadline_us);

#endif
