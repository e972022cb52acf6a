/* Waits in the first run until others have brought the global step to a value (HK-WAIT). */
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/options.h"
#include "hooks/make.h"

#include <belay/hooks.h>

#include <stddef.h>

_Static_assert(sizeof(belay_global_step_waiter_options) ==
                   offsetof(belay_global_step_waiter_options, reserved) + sizeof(uint32_t),
               "no tail padding");

#define FIRST_PAUSE_US  INT64_C(50000)
#define LONGEST_US      INT64_C(500000)
#define REPORT_EVERY_US INT64_C(10000000)
/* A stop of the session may be set by a signal handler, which wakes nobody: so a pause looks up
 * this often. */
#define LOOK_UP_US INT64_C(100000)

typedef struct global_step_waiter {
    int64_t wait_until_step;
    double max_wait_secs; /* BELAY_FOREVER: no limit */
    int may_be_alone;
    int is_over;
    belay_coordinator *coordinator;
} global_step_waiter;

static belay_code begin(void *self, belay_graph *graph, belay_error *err) {
    global_step_waiter *hook = self;
    hook->is_over = hook->wait_until_step <= 0;
    return belay_graph_check_global_step(graph, "_GlobalStepWaiterHook", err);
}

static belay_code after_create_session(void *self, belay_session *session,
                                       belay_coordinator *coordinator, belay_error *err) {
    global_step_waiter *hook = self;
    (void)session;
    (void)err;
    hook->coordinator = coordinator;
    return BELAY_OK;
}

static int is_stopped(const global_step_waiter *hook, const belay_run_context *run) {
    return belay_run_context_stop_requested(run) ||
           belay_coordinator_should_stop(hook->coordinator);
}

/* A pause that a stop ends. */
static void pause_until(const global_step_waiter *hook, const belay_run_context *run,
                        int64_t until) {
    for (int64_t now = bly_now_us(); now < until && !is_stopped(hook, run); now = bly_now_us()) {
        int64_t most = until - now < LOOK_UP_US ? until - now : LOOK_UP_US;
        belay_coordinator_wait_for_stop(hook->coordinator, (double)most / 1e6);
    }
}

/* BUG-80: in this process a session has its variables for itself, and this run is what would
 * advance the step. */
static belay_code check_alone(const global_step_waiter *hook, belay_session *session, int64_t step,
                              belay_error *err) {
    if (hook->may_be_alone || belay_session_target(session)[0] != '\0')
        return BELAY_OK;
    return bly_fail(err, BELAY_FAILED_PRECONDITION,
                    "waiting for global step %lld would never end: it is %lld, and the session is "
                    "in this process, where nobody else advances it; give the session a target, or "
                    "set BELAY_GLOBAL_STEP_WAITER_IN_PROCESS where another thread does",
                    (long long)hook->wait_until_step, (long long)step);
}

static belay_code wait_for_step(global_step_waiter *hook, belay_run_context *run,
                                belay_error *err) {
    belay_session *session = belay_run_context_session(run);
    int64_t started = bly_now_us(), reported = started, logged_step = 0, pause = FIRST_PAUSE_US;
    int64_t deadline = hook->max_wait_secs == BELAY_FOREVER
                           ? BLY_NEVER
                           : bly_deadline_after_secs(hook->max_wait_secs);
    bly_info("Waiting for global step %lld before starting training.",
             (long long)hook->wait_until_step);
    for (;;) {
        int64_t step;
        belay_code code = belay_session_step_or_initial(session, &step, err);
        if (code != BELAY_OK || step >= hook->wait_until_step)
            return code;
        code = check_alone(hook, session, step, err);
        if (code != BELAY_OK)
            return code;
        int64_t now = bly_now_us();
        if (is_stopped(hook, run))
            return bly_fail(err, BELAY_STOPPED,
                            "stopped while waiting for global step %lld: it is "
                            "%lld",
                            (long long)hook->wait_until_step, (long long)step);
        if (now >= deadline)
            return bly_fail(err, BELAY_DEADLINE_EXCEEDED,
                            "global step %lld was not reached within %g s: it is %lld",
                            (long long)hook->wait_until_step, hook->max_wait_secs, (long long)step);
        if (step - logged_step > 1000 || now - reported >= REPORT_EVERY_US) {
            bly_info("Waiting for global step %lld before starting training. Current step is %lld. "
                     "(%.0f s so far)",
                     (long long)hook->wait_until_step, (long long)step,
                     (double)(now - started) / 1e6);
            logged_step = step;
            reported = now;
        }
        /* The last pause ends with the wait, so that one more look falls on the deadline. */
        pause_until(hook, run, deadline - now < pause ? deadline : now + pause);
        pause = pause > LONGEST_US / 2 ? LONGEST_US : pause * 2;
    }
}

static belay_code before_run(void *self, belay_run_context *run, belay_error *err) {
    global_step_waiter *hook = self;
    if (hook->is_over)
        return BELAY_OK;
    belay_code code = wait_for_step(hook, run, err);
    if (code == BELAY_OK)
        hook->is_over = 1;
    else if (code == BELAY_STOPPED)
        belay_run_context_request_stop(run);
    return code;
}

static void next_wanted(void *self, const belay_progress *now, belay_when *out) {
    global_step_waiter *hook = self;
    if (!hook->is_over)
        out->runs = now->runs;
}

static belay_code read_options(void *self, const void *given, belay_error *err) {
    global_step_waiter *hook = self;
    belay_global_step_waiter_options options;
    if (bly_options_read(&options, sizeof options, given, "belay_global_step_waiter_options",
                         err) != BELAY_OK)
        return BELAY_INVALID_ARGUMENT;
    if (!(options.max_wait_secs >= 0) && options.max_wait_secs != BELAY_FOREVER)
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "max_wait_secs is %g", options.max_wait_secs);
    if (options.reserved || (options.flags & ~BELAY_GLOBAL_STEP_WAITER_IN_PROCESS))
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "%s",
                        options.reserved ? "reserved must be 0"
                                         : "flags has a bit set that this belay does not know");
    hook->wait_until_step = options.wait_until_step;
    hook->max_wait_secs = options.max_wait_secs == 0 ? BELAY_FOREVER : options.max_wait_secs;
    hook->may_be_alone = (options.flags & BELAY_GLOBAL_STEP_WAITER_IN_PROCESS) != 0;
    return BELAY_OK;
}

belay_hook *belay_global_step_waiter_hook_new(const belay_global_step_waiter_options *given,
                                              belay_error *err) {
    static const belay_hook_vtable table = {
        .struct_size = sizeof table,
        .begin = begin,
        .after_create_session = after_create_session,
        .before_run = before_run,
        .next_wanted = next_wanted,
        .destroy = bly_free,
        .name = "GlobalStepWaiterHook",
    };
    return bly_hook_make(&table, sizeof(global_step_waiter), read_options, given, err);
}
