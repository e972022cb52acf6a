/* Stops at a global step (HK-STOP). The monitored session knows the step exactly, so nothing is
 * fetched. */
#include "base/error.h"
#include "base/mem.h"
#include "base/options.h"

#include <belay/hooks.h>

#include <stddef.h>

_Static_assert(sizeof(belay_stop_at_step_options) ==
                   offsetof(belay_stop_at_step_options, last_step) + sizeof(int64_t),
               "no tail padding");

typedef struct stop_at_step {
    int64_t num_steps; /* 0: last_step was given; negative: there is nothing to run */
    int64_t last_step;
    int64_t target;
    int has_target;
} stop_at_step;

static int64_t add_saturating(int64_t a, int64_t b) {
    if (b > 0)
        return a > INT64_MAX - b ? INT64_MAX : a + b;
    return a < INT64_MIN - b ? INT64_MIN : a + b;
}

static belay_code begin(void *self, belay_graph *graph, belay_error *err) {
    stop_at_step *hook = self;
    if (!belay_graph_global_step_name(graph))
        return bly_fail(err, BELAY_FAILED_PRECONDITION,
                        "Global step should be created to use StopAtStepHook.");
    /* A hook that is used again counts from where its new session starts (BUG-54). */
    hook->has_target = 0;
    return BELAY_OK;
}

static belay_code after_create_session(void *self, belay_session *session,
                                       belay_coordinator *coordinator, belay_error *err) {
    stop_at_step *hook = self;
    int64_t step;
    belay_code code = belay_session_global_step(session, &step, err);
    if (code != BELAY_OK)
        return code;
    if (!hook->has_target) {
        hook->target = hook->num_steps ? add_saturating(step, hook->num_steps) : hook->last_step;
        hook->has_target = 1;
    }
    /* There is nothing left to do: no run may change the model (BUG-55). */
    if (step >= hook->target)
        belay_coordinator_request_stop(coordinator, NULL);
    return BELAY_OK;
}

static belay_code after_run(void *self, belay_run_context *run, belay_error *err) {
    stop_at_step *hook = self;
    (void)err;
    if (belay_run_context_progress(run)->global_step >= hook->target)
        belay_run_context_request_stop(run);
    return BELAY_OK;
}

static void next_wanted(void *self, const belay_progress *now, belay_when *out) {
    stop_at_step *hook = self;
    (void)now;
    out->at_step = hook->target;
}

belay_hook *belay_stop_at_step_hook_new(const belay_stop_at_step_options *given, belay_error *err) {
    static const belay_hook_vtable table = {
        .struct_size = sizeof table,
        .begin = begin,
        .after_create_session = after_create_session,
        .after_run = after_run,
        .next_wanted = next_wanted,
        .destroy = bly_free,
        .name = "StopAtStepHook",
    };
    belay_stop_at_step_options options;
    if (bly_options_read(&options, sizeof options, given, "belay_stop_at_step_options", err) !=
        BELAY_OK)
        return NULL;
    if (!options.num_steps && !options.last_step) {
        bly_fail(err, BELAY_INVALID_ARGUMENT, "One of num_steps or last_step must be specified.");
        return NULL;
    }
    if (options.num_steps && options.last_step) {
        bly_fail(err, BELAY_INVALID_ARGUMENT,
                 "Only one of num_steps or last_step can be specified.");
        return NULL;
    }
    stop_at_step *hook = bly_calloc(1, sizeof *hook);
    if (!hook) {
        bly_fail_memory(err);
        return NULL;
    }
    hook->num_steps = options.num_steps;
    hook->last_step = options.last_step;
    return belay_hook_new(&table, hook, err);
}
