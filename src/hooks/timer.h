/* When a hook acts next: every so many steps, or every so many seconds (section 15 of the
 * behaviour: TM). */
#ifndef BLY_HOOKS_TIMER_H
#define BLY_HOOKS_TIMER_H

#include <belay/hook.h>

#include <stdint.h>

/* By steps where every_steps is positive, by time where every_us is; where neither is it never
 * triggers (TM-09). Time is the monotonic clock: a clock set by hand neither delays a checkpoint
 * nor forces one (BUG-52). */
typedef struct bly_timer {
    int64_t every_steps;
    int64_t every_us;
    int has_fired;
    int64_t last_step; /* meaningless before it fired */
    int64_t last_us;
} bly_timer;

#define BLY_TIMER_NEVER                                                                            \
    { 0, 0, 0, 0, 0 }

/* INVALID_ARGUMENT unless exactly one of the two is positive (TM-01): what is 0 or less was not
 * given. */
belay_code bly_timer_init(bly_timer *timer, double every_secs, int64_t every_steps,
                          belay_error *err);

/* Changes nothing (TM-05). */
int bly_timer_should_trigger(const bly_timer *timer, int64_t step);

/* Records that it fired at `step`, now. Returns 1 and what went by since the last time, or 0 the
 * first time. */
int bly_timer_update(bly_timer *timer, int64_t step, double *elapsed_secs, int64_t *elapsed_steps);

void bly_timer_reset(bly_timer *timer);

/* From one step to another. Steps are what a variable holds, and that wraps around. */
static inline int64_t bly_steps_since(int64_t before, int64_t step) {
    return (int64_t)((uint64_t)step - (uint64_t)before);
}

/* The step at which it triggers next; BELAY_NEVER where it goes by time, or never. Before it fired:
 * INT64_MIN, any. */
int64_t bly_timer_next_step(const bly_timer *timer);

/* The time in ms of the monotonic clock at which it triggers next, not before; BELAY_NEVER and
 * INT64_MIN as above. */
int64_t bly_timer_next_ms(const bly_timer *timer);

/* Asks for the run that ends where it triggers next, before it begins; for a hook that adds to that
 * run, and not only looks at it afterwards. */
void bly_timer_want_run(const bly_timer *timer, belay_when *out);

#endif
