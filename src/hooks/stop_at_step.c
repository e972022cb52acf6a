/* Stops at a global step (HK-STOP), also where a run does several (HK-MSTOP). The monitored session
 * knows the step exactly, so nothing is fetched. */
#include "base/error.h"
#include "base/mem.h"
#include "base/options.h"
#include "graph/counter.h"
#include "hooks/make.h"

#include <belay/hooks.h>

#include <stddef.h>

_Static_assert(sizeof(belay_stop_at_step_options) ==
                   offsetof(belay_stop_at_step_options, last_step) + sizeof(int64_t),
               "no tail padding");
_Static_assert(sizeof(belay_multi_step_stop_options) ==
                   offsetof(belay_multi_step_stop_options, steps_per_run) + sizeof(int64_t),
               "no tail padding");

typedef struct stop_at_step {
    int64_t num_steps; /* 0: last_step was given; negative: there is nothing to run */
    int64_t last_step;
    int64_t steps_per_run; /* 0: not told to the graph */
    int64_t target;
    int has_target;
    int64_t told; /* what this session's variable holds; 0: not written yet */
    bly_counter counter;
    belay_tensor *value;
} stop_at_step;

static int64_t add_saturating(int64_t a, int64_t b) {
    if (b > 0)
        return a > INT64_MAX - b ? INT64_MAX : a + b;
    return a < INT64_MIN - b ? INT64_MIN : a + b;
}

static belay_code begin(void *self, belay_graph *graph, belay_error *err) {
    stop_at_step *hook = self;
    /* A hook that is used again counts from where its new session starts (BUG-54). */
    hook->has_target = 0;
    belay_code code = belay_graph_check_global_step(graph, "StopAtStepHook", err);
    if (code != BELAY_OK || !hook->steps_per_run)
        return code;
    return bly_graph_counter(graph, "hooks_steps_per_run", "hooks/steps_per_run", BELAY_INT32, 1,
                             BELAY_FAILED_PRECONDITION, &hook->counter, err);
}

/* HK-MSTOP-01: the last run does only the steps that are left. */
static belay_code tell(stop_at_step *hook, belay_session *session, int64_t step, belay_error *err) {
    uint64_t left = (uint64_t)hook->target - (uint64_t)step; /* step is below the target */
    int64_t steps = left < (uint64_t)hook->steps_per_run ? (int64_t)left : hook->steps_per_run;
    if (!hook->steps_per_run || steps == hook->told)
        return BELAY_OK;
    *(int32_t *)belay_tensor_data(hook->value) = (int32_t)steps;
    belay_code code =
        belay_session_run(session, (const char *[]){hook->counter.value, NULL}, &hook->value, NULL,
                          NULL, (const char *[]){hook->counter.assign, NULL}, NULL, err);
    hook->told = code == BELAY_OK ? steps : 0;
    return code;
}

static belay_code after_create_session(void *self, belay_session *session,
                                       belay_coordinator *coordinator, belay_error *err) {
    stop_at_step *hook = self;
    int64_t step;
    belay_code code = belay_session_step_or_initial(session, &step, err);
    if (code != BELAY_OK)
        return code;
    if (!hook->has_target) {
        hook->target = hook->num_steps ? add_saturating(step, hook->num_steps) : hook->last_step;
        hook->has_target = 1;
    }
    hook->told = 0;
    if (step < hook->target)
        return tell(hook, session, step, err);
    /* There is nothing left to do: no run may change the model (BUG-55). */
    belay_coordinator_request_stop(coordinator, NULL);
    return BELAY_OK;
}

static belay_code after_run(void *self, belay_run_context *run, belay_error *err) {
    stop_at_step *hook = self;
    int64_t step = belay_run_context_progress(run)->global_step;
    if (step < hook->target)
        return tell(hook, belay_run_context_session(run), step, err);
    belay_run_context_request_stop(run);
    return BELAY_OK;
}

static void next_wanted(void *self, const belay_progress *now, belay_when *out) {
    stop_at_step *hook = self;
    (void)now;
    out->at_step = hook->target;
    /* Where a full run would go too far, the variable has to be written before it. */
    if (hook->steps_per_run && hook->told == hook->steps_per_run)
        out->at_step = add_saturating(hook->target, 1 - hook->steps_per_run);
    else if (hook->steps_per_run)
        out->at_step = INT64_MIN;
}

static void destroy(void *self) {
    stop_at_step *hook = self;
    belay_tensor_free(hook->value);
    bly_free(hook);
}

static belay_code take_target(stop_at_step *hook, int64_t num_steps, int64_t last_step,
                              belay_error *err) {
    if (!num_steps && !last_step)
        return bly_fail(err, BELAY_INVALID_ARGUMENT,
                        "One of num_steps or last_step must be specified.");
    if (num_steps && last_step)
        return bly_fail(err, BELAY_INVALID_ARGUMENT,
                        "Only one of num_steps or last_step can be specified.");
    hook->num_steps = num_steps;
    hook->last_step = last_step;
    return BELAY_OK;
}

static belay_code read_options(void *self, const void *given, belay_error *err) {
    belay_stop_at_step_options options;
    if (bly_options_read(&options, sizeof options, given, "belay_stop_at_step_options", err) !=
        BELAY_OK)
        return BELAY_INVALID_ARGUMENT;
    return take_target(self, options.num_steps, options.last_step, err);
}

static belay_code read_multi_options(void *self, const void *given, belay_error *err) {
    stop_at_step *hook = self;
    BLY_LOCAL_ERROR(mine);
    belay_multi_step_stop_options options;
    if (bly_options_read(&options, sizeof options, given, "belay_multi_step_stop_options", err) !=
            BELAY_OK ||
        take_target(hook, options.num_steps, options.last_step, err) != BELAY_OK)
        return BELAY_INVALID_ARGUMENT;
    if (options.steps_per_run < 0 || options.steps_per_run > INT32_MAX)
        return bly_fail(err, BELAY_INVALID_ARGUMENT,
                        "steps_per_run should be greater than 0 and an int32, and is %lld",
                        (long long)options.steps_per_run);
    hook->steps_per_run = options.steps_per_run ? options.steps_per_run : 1;
    hook->value = belay_tensor_new(BELAY_INT32, NULL, 0, &mine);
    if (!hook->value)
        bly_error_copy(err, &mine);
    return mine.code;
}

static const belay_hook_vtable table = {
    .struct_size = sizeof table,
    .begin = begin,
    .after_create_session = after_create_session,
    .after_run = after_run,
    .next_wanted = next_wanted,
    .destroy = destroy,
    .name = "StopAtStepHook",
};

belay_hook *belay_stop_at_step_hook_new(const belay_stop_at_step_options *given, belay_error *err) {
    return bly_hook_make(&table, sizeof(stop_at_step), read_options, given, err);
}

belay_hook *belay_multi_step_stop_hook_new(const belay_multi_step_stop_options *given,
                                           belay_error *err) {
    return bly_hook_make(&table, sizeof(stop_at_step), read_multi_options, given, err);
}
