#include "hooks/timer.h"

#include "base/clock.h"
#include "base/error.h"

#define US_PER_SEC 1e6
/* Longer than any run; keeps sums far from overflow. */
#define MOST_US (INT64_MAX / 4)

belay_code bly_timer_init(bly_timer *timer, double every_secs, int64_t every_steps,
                          belay_error *err) {
    *timer = (bly_timer)BLY_TIMER_NEVER;
    if (every_secs != every_secs)
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "every_secs is not a number");
    if (every_secs > 0 && every_steps > 0)
        return bly_fail(err, BELAY_INVALID_ARGUMENT,
                        "Can not provide both every_secs and every_steps.");
    if (!(every_secs > 0) && every_steps <= 0)
        return bly_fail(err, BELAY_INVALID_ARGUMENT,
                        "Either every_secs or every_steps should be provided.");
    if (every_steps > 0) {
        timer->every_steps = every_steps;
    } else {
        double us = every_secs * US_PER_SEC;
        /* Never 0, which would mean "by steps". */
        timer->every_us = us >= (double)MOST_US ? MOST_US : us < 1 ? 1 : (int64_t)us;
    }
    return BELAY_OK;
}

static int64_t add(int64_t step, int64_t more) {
    return step > INT64_MAX - more ? INT64_MAX : step + more;
}

static int is_never(const bly_timer *timer) {
    return timer->every_steps <= 0 && timer->every_us <= 0;
}

int bly_timer_should_trigger(const bly_timer *timer, int64_t step) {
    if (is_never(timer))
        return 0;
    if (!timer->has_fired)
        return 1;
    if (step == timer->last_step)
        return 0;
    if (timer->every_us > 0)
        return bly_now_us() >= add(timer->last_us, timer->every_us);
    return step >= add(timer->last_step, timer->every_steps);
}

int bly_timer_update(bly_timer *timer, int64_t step, double *elapsed_secs, int64_t *elapsed_steps) {
    int64_t now = bly_now_us();
    int had_fired = timer->has_fired && !is_never(timer);
    double secs = had_fired ? (double)(now - timer->last_us) / US_PER_SEC : 0;
    int64_t steps = had_fired ? bly_steps_since(timer->last_step, step) : 0;
    timer->has_fired = 1;
    timer->last_step = step;
    timer->last_us = now;
    if (elapsed_secs)
        *elapsed_secs = secs;
    if (elapsed_steps)
        *elapsed_steps = steps;
    return had_fired;
}

void bly_timer_reset(bly_timer *timer) {
    timer->has_fired = 0;
}

int64_t bly_timer_next_step(const bly_timer *timer) {
    if (timer->every_steps <= 0)
        return BELAY_NEVER;
    return timer->has_fired ? add(timer->last_step, timer->every_steps) : INT64_MIN;
}

int64_t bly_timer_next_ms(const bly_timer *timer) {
    if (timer->every_us <= 0)
        return BELAY_NEVER;
    if (!timer->has_fired)
        return INT64_MIN;
    /* Rounded up: a hook that is called a fraction of a millisecond early would not trigger, and be
     * called again and again until it does. */
    return (add(timer->last_us, timer->every_us) + 999) / 1000;
}

void bly_timer_want_run(const bly_timer *timer, belay_when *out) {
    int64_t step = bly_timer_next_step(timer);
    /* It is the one that starts a step before. */
    out->from_step = step == BELAY_NEVER || step == INT64_MIN ? step : step - 1;
    out->time_ms = bly_timer_next_ms(timer);
}
