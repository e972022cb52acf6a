#include "session/backoff.h"

#include "base/clock.h"
#include "base/error.h"

#include <belay/coordinator.h>

#include <stddef.h>

#define FIRST_PAUSE_US  INT64_C(50000)
#define NEAR_MOST_US    INT64_C(500000)
#define NEAR_PART       8
#define FAR_PART        1200
#define REPORT_EVERY_US INT64_C(10000000)
/* A stop may be set by a signal handler, which cannot wake a condition: so a pause looks up this
 * often. */
#define LOOK_UP_US INT64_C(100000)

belay_code bly_check_secs(const char *what, double secs, belay_error *err) {
    if (secs >= 0 || secs == BELAY_FOREVER || secs == BELAY_AT_ONCE)
        return BELAY_OK;
    return bly_fail(err, BELAY_INVALID_ARGUMENT, "%s is %g", what, secs);
}

void bly_backoff_start(bly_backoff *backoff, bly_backoff_kind kind, double wait_secs,
                       double longest_pause_secs, const atomic_int *stop,
                       const atomic_int *other_stop) {
    backoff->kind = kind;
    backoff->started_us = bly_now_us();
    backoff->deadline_us =
        wait_secs == BELAY_FOREVER ? BLY_NEVER : bly_deadline_after_secs(wait_secs);
    int64_t longest = bly_deadline_after_secs(longest_pause_secs);
    backoff->most_us = longest == BLY_NEVER ? BLY_NEVER : longest - backoff->started_us;
    backoff->next_us = FIRST_PAUSE_US;
    backoff->reported_us = -1;
    backoff->stop[0] = stop;
    backoff->stop[1] = other_stop;
}

static int is_stopped(const bly_backoff *backoff) {
    for (size_t i = 0; i < 2; i++)
        if (backoff->stop[i] && atomic_load(backoff->stop[i]))
            return 1;
    return 0;
}

static int64_t at_most(int64_t value, int64_t limit) {
    return value < limit ? value : limit;
}

static int64_t at_least(int64_t value, int64_t limit) {
    return value > limit ? value : limit;
}

static int64_t next_pause(bly_backoff *backoff, int64_t waited_us) {
    int64_t pause = backoff->next_us;
    if (backoff->kind == BLY_BACKOFF_TRIES)
        backoff->next_us = pause > backoff->most_us / 2 ? backoff->most_us : pause * 2;
    else
        pause = at_least(at_most(waited_us / NEAR_PART, NEAR_MOST_US), waited_us / FAR_PART);
    return at_most(at_least(pause, FIRST_PAUSE_US), backoff->most_us);
}

static void report_in_time(bly_backoff *backoff, int64_t now, bly_backoff_report report,
                           void *self) {
    if (!report || (backoff->reported_us >= 0 && now - backoff->reported_us < REPORT_EVERY_US))
        return;
    backoff->reported_us = now;
    report(self, bly_backoff_elapsed_secs(backoff));
}

/* Sleeps, looking up for a stop. */
static void rest(const bly_backoff *backoff, int64_t until) {
    bly_mutex mutex;
    bly_cond cond;
    int64_t now;
    bly_mutex_init(&mutex);
    bly_cond_init(&cond);
    bly_mutex_lock(&mutex);
    while (!is_stopped(backoff) && (now = bly_now_us()) < until)
        bly_wait_until(&cond, &mutex, at_most(until, now + LOOK_UP_US));
    bly_mutex_unlock(&mutex);
    bly_cond_clean_up(&cond);
    bly_mutex_clean_up(&mutex);
}

bly_backoff_result bly_backoff_pause(bly_backoff *backoff, bly_backoff_report report, void *self) {
    int64_t now = bly_now_us();
    if (is_stopped(backoff))
        return BLY_BACKOFF_STOPPED;
    if (backoff->deadline_us != BLY_NEVER && now >= backoff->deadline_us)
        return BLY_BACKOFF_EXPIRED;
    int64_t pause = next_pause(backoff, now - backoff->started_us);
    int64_t until = pause > BLY_NEVER - now ? BLY_NEVER : now + pause;
    if (until > backoff->deadline_us)
        until = backoff->deadline_us; /* BUG-25: the last pause ends with the wait */
    do {
        report_in_time(backoff, now, report, self);
        rest(backoff, report ? at_most(until, backoff->reported_us + REPORT_EVERY_US) : until);
        now = bly_now_us();
    } while (now < until && !is_stopped(backoff));
    return is_stopped(backoff) ? BLY_BACKOFF_STOPPED : BLY_BACKOFF_AGAIN;
}

double bly_backoff_elapsed_secs(const bly_backoff *backoff) {
    return (double)(bly_now_us() - backoff->started_us) / 1e6;
}
