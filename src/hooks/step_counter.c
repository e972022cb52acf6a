/* Reports steps per second (HK-STEP). */
#include "base/buf.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/options.h"
#include "hooks/events.h"
#include "hooks/make.h"
#include "hooks/timer.h"

#include <belay/hooks.h>

#include <stdatomic.h>
#include <stddef.h>

_Static_assert(sizeof(belay_step_counter_options) ==
                   offsetof(belay_step_counter_options, summary_writer) + sizeof(void *),
               "no tail padding");

#define EVERY_STEPS 100
/* A training op that does not count at all is found in the first runs; later it is enough to look
 * every so often. */
#define EARLY_RUNS    10
#define MOST_WARNINGS 5

typedef struct step_counter {
    bly_timer timer;
    bly_events events;
    char *tag;
    /* Of this session: */
    int64_t runs;     /* it took part in */
    int64_t last_run; /* progress after the last of them; -1: none yet */
    int64_t last_step;
} step_counter;

static belay_code begin(void *self, belay_graph *graph, belay_error *err) {
    step_counter *hook = self;
    bly_buf tag = BLY_BUF_INIT;
    belay_code code = belay_graph_check_global_step(graph, "StepCounterHook", err);
    if (code != BELAY_OK)
        return code;
    bly_buf_printf(&tag, "%s/sec", belay_graph_global_step_name(graph));
    bly_free(hook->tag);
    hook->tag = bly_buf_take(&tag);
    if (!hook->tag)
        return bly_fail_memory(err);
    return bly_events_open(&hook->events, err);
}

/* A recovery may have gone back to an earlier step, and took time that no step needed (BUG-45). */
static belay_code after_create_session(void *self, belay_session *session,
                                       belay_coordinator *coordinator, belay_error *err) {
    step_counter *hook = self;
    (void)coordinator;
    bly_timer_reset(&hook->timer);
    hook->runs = 0;
    hook->last_run = -1;
    return bly_events_session(&hook->events, session, err);
}

static belay_code report(step_counter *hook, int64_t step, belay_error *err) {
    double secs;
    int64_t steps;
    if (!bly_timer_update(&hook->timer, step, &secs, &steps))
        return BELAY_OK;
    if (!(secs > 0))
        return BELAY_OK; /* a rate over no time says nothing (BUG-53) */
    double rate = (double)steps / secs;
    bly_info("%s: %g", hook->tag, rate);
    if (!hook->events.writer)
        return BELAY_OK;
    return belay_summary_writer_add_scalar(hook->events.writer, hook->tag, rate, step, err);
}

/* Some optimizers do not count every run by design, so it is a hint and no more, and soon silent
 * (HK-STEP-06). */
static void check_counting(const step_counter *hook, const belay_progress *now) {
    static atomic_int warnings; /* of the process */
    if (hook->last_run < 0 ||
        bly_steps_since(hook->last_step, now->global_step) >= now->runs - hook->last_run)
        return;
    if (atomic_load(&warnings) >= MOST_WARNINGS || atomic_fetch_add(&warnings, 1) >= MOST_WARNINGS)
        return;
    bly_warn("It seems that the global step has not been increased in every run: it was %lld, and "
             "is %lld after %lld more. The training op should increase it.",
             (long long)hook->last_step, (long long)now->global_step,
             (long long)(now->runs - hook->last_run));
}

static belay_code after_run(void *self, belay_run_context *run, belay_error *err) {
    step_counter *hook = self;
    const belay_progress *now = belay_run_context_progress(run);
    belay_code code = bly_events_start(&hook->events, now->global_step, err);
    if (code == BELAY_OK && bly_timer_should_trigger(&hook->timer, now->global_step))
        code = report(hook, now->global_step, err);
    check_counting(hook, now);
    hook->runs++;
    hook->last_run = now->runs;
    hook->last_step = now->global_step;
    return code;
}

static void next_wanted(void *self, const belay_progress *now, belay_when *out) {
    step_counter *hook = self;
    if (hook->runs < EARLY_RUNS) {
        out->at_step = INT64_MIN; /* after the next run, whatever it does */
        return;
    }
    out->at_step = bly_timer_next_step(&hook->timer);
    out->at_time_ms = bly_timer_next_ms(&hook->timer);
    /* Where every run counts, at_step always comes first, and this costs nothing. */
    if (hook->timer.every_steps > 0 && hook->timer.every_steps < INT64_MAX - now->runs)
        out->runs = now->runs + hook->timer.every_steps;
}

static belay_code end(void *self, belay_session *session, belay_error *err) {
    step_counter *hook = self;
    (void)session;
    return bly_events_close(&hook->events, err);
}

static void destroy(void *self) {
    step_counter *hook = self;
    bly_events_clean_up(&hook->events);
    bly_free(hook->tag);
    bly_free(hook);
}

static belay_code read_frequency(bly_timer *timer, const belay_step_counter_options *options,
                                 belay_error *err) {
    double secs = options->every_n_secs;
    int64_t steps = options->every_n_steps;
    if (secs == 0 && steps == 0)
        steps = EVERY_STEPS;
    if ((secs > 0) == (steps > 0))
        return bly_fail(err, BELAY_INVALID_ARGUMENT,
                        "exactly one of every_n_steps and every_n_secs should be provided.");
    return bly_timer_init(timer, secs, steps, err);
}

static belay_code read_options(void *self, const void *given, belay_error *err) {
    step_counter *hook = self;
    belay_step_counter_options options;
    if (bly_options_read(&options, sizeof options, given, "belay_step_counter_options", err) !=
            BELAY_OK ||
        read_frequency(&hook->timer, &options, err) != BELAY_OK)
        return BELAY_INVALID_ARGUMENT;
    return bly_events_init(&hook->events, options.output_dir, options.summary_writer, err);
}

belay_hook *belay_step_counter_hook_new(const belay_step_counter_options *given, belay_error *err) {
    static const belay_hook_vtable table = {
        .struct_size = sizeof table,
        .begin = begin,
        .after_create_session = after_create_session,
        .after_run = after_run,
        .end = end,
        .next_wanted = next_wanted,
        .destroy = destroy,
        .name = "StepCounterHook",
    };
    return bly_hook_make(&table, sizeof(step_counter), read_options, given, err);
}
