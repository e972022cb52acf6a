/* Verbs that make things fail: runs of an op, helper threads, and errors that are reported to a
 * coordinator. */
#include "driver.h"

#include "runtime/runtime.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- faults of runs ---- */

/* Runs of this op fail: those whose numbers are in `runs`, counted from 1 when the fault is set. */
typedef struct fault {
    const char *op;
    belay_code code;
    int64_t runs[8];
    size_t run_count;
    int after; /* the run has its effect first */
    int64_t count;
} fault;

#define FAULTS_MOST 16

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static fault faults[FAULTS_MOST]; /* guarded by lock, as all below */
static size_t fault_count;
static pthread_t main_thread;
static const bly_runtime *real;

static int is_hit(fault *f) {
    f->count++;
    for (size_t i = 0; i < f->run_count; i++)
        if (f->runs[i] == f->count)
            return 1;
    return 0;
}

/* What a run asks for. */
typedef struct asked {
    const TF_Output *fetches;
    int fetch_count;
    const TF_Operation *const *targets;
    int target_count;
} asked;

static int names(const asked *run, const char *op) {
    for (int i = 0; i < run->target_count; i++)
        if (strcmp(real->OperationName((TF_Operation *)(uintptr_t)run->targets[i]), op) == 0)
            return 1;
    for (int i = 0; i < run->fetch_count; i++)
        if (strcmp(real->OperationName(run->fetches[i].oper), op) == 0)
            return 1;
    return 0;
}

/* The fault that this run meets first, of those before it or else after it; code BELAY_OK: none. */
static fault met(const asked *run) {
    fault found = {.code = BELAY_OK};
    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < fault_count; i++)
        if (names(run, faults[i].op) && is_hit(&faults[i]) &&
            (found.code == BELAY_OK || (found.after && !faults[i].after)))
            found = faults[i];
    pthread_mutex_unlock(&lock);
    return found;
}

static void fail_run(const fault *f, TF_Status *status) {
    char point[128];
    snprintf(point, sizeof point, "run of %s", f->op);
    if (pthread_equal(pthread_self(), main_thread)) /* elsewhere, nobody knows when */
        happened(json_pack("[s, s, s]", "raises", point, code_text(f->code)));
    real->SetStatus(status, (TF_Code)f->code, "the scenario says so");
}

static void session_run(TF_Session *session, const TF_Buffer *options, const TF_Output *inputs,
                        TF_Tensor *const *input_values, int input_count, const TF_Output *outputs,
                        TF_Tensor **output_values, int output_count,
                        const TF_Operation *const *targets, int target_count, TF_Buffer *metadata,
                        TF_Status *status) {
    const asked run = {outputs, output_count, targets, target_count};
    const fault f = met(&run);
    if (f.code != BELAY_OK && !f.after) {
        fail_run(&f, status);
        return;
    }
    real->SessionRun(session, options, inputs, input_values, input_count, outputs, output_values,
                     output_count, targets, target_count, metadata, status);
    if (f.code == BELAY_OK || real->GetCode(status) != TF_OK)
        return;
    for (int i = 0; i < output_count; i++) {
        real->DeleteTensor(output_values[i]);
        output_values[i] = NULL;
    }
    fail_run(&f, status);
}

belay_code faults_install(belay_error *err) {
    static bly_runtime table;
    real = bly_runtime_get(err);
    if (!real)
        return belay_error_code(err);
    table = *real;
    table.SessionRun = session_run;
    main_thread = pthread_self();
    bly_runtime_install(&table);
    return BELAY_OK;
}

void faults_clear(void) {
    pthread_mutex_lock(&lock);
    fault_count = 0;
    pthread_mutex_unlock(&lock);
}

static belay_code set_fault(call *c) {
    const json_t *runs = json_object_get(c->all, "runs"), *run;
    fault made = {.op = main_text(c),
                  .code = code_named(text_in(c->all, "code", "")),
                  .runs = {(int64_t)number_in(c->all, "runs", 1)},
                  .run_count = json_is_array(runs) ? 0 : 1,
                  .after = is_true(c->all, "after")};
    size_t i;
    json_array_foreach(runs, i, run) {
        if (made.run_count < sizeof made.runs / sizeof made.runs[0])
            made.runs[made.run_count++] = json_integer_value(run);
    }
    pthread_mutex_lock(&lock);
    int fits = fault_count < FAULTS_MOST;
    if (fits)
        faults[fault_count++] = made;
    pthread_mutex_unlock(&lock);
    return fits ? BELAY_OK : fail(c, BELAY_RESOURCE_EXHAUSTED, "too many faults");
}

/* ---- coordinators ---- */

/* The coordinator that hooks were given last. At the top of a scenario that may be gone with its
 * session, which is seen by the monitored session that has it. */
static belay_coordinator *coordinator_of(call *c) {
    belay_coordinator *coordinator = c->world->coordinator;
    int is_there = c->world->depth > 0;
    for (const object *o = c->world->objects; o; o = o->next)
        if (o->kind == MONITORED && o->value)
            is_there |= belay_monitored_session_coordinator(o->value) == coordinator;
    if (coordinator && is_there)
        return coordinator;
    fail(c, NO_OBJECT, "no hook was given a coordinator");
    return NULL;
}

static belay_code report(call *c) {
    belay_coordinator *coordinator = coordinator_of(c);
    belay_error *reason = belay_error_new();
    if (json_is_string(c->main))
        belay_error_set(reason, code_named(main_text(c)), "the scenario says so");
    if (coordinator)
        belay_coordinator_request_stop(coordinator, reason);
    belay_error_free(reason);
    return belay_error_code(c->err);
}

static belay_code until_stopped(call *c) {
    belay_coordinator *coordinator = coordinator_of(c);
    belay_error *reason = belay_error_new();
    if (coordinator) {
        uint32_t stopped = belay_coordinator_wait_for_stop(coordinator, 20);
        belay_coordinator_raise_requested_exception(coordinator, reason);
        c->result = json_pack("{s:b, s:s}", "stopped", (int)stopped, "code",
                              code_text(belay_error_code(reason)));
    }
    belay_error_free(reason);
    return belay_error_code(c->err);
}

static belay_code loop_body(void *self, belay_error *err) {
    script *s = self;
    if (++s->runs != (int64_t)number_in(s->given, "fails_at", 0))
        return BELAY_OK;
    return belay_error_set(err, code_named(text_in(s->given, "code", "")), "the scenario says so");
}

static belay_code loop(call *c) {
    belay_coordinator *coordinator = coordinator_of(c);
    belay_loop_options options = BELAY_LOOP_OPTIONS_INIT;
    options.interval_secs = 0.005;
    if (!coordinator)
        return NO_OBJECT;
    return belay_coordinator_start_loop(coordinator, main_text(c), loop_body,
                                        script_new(c->world, c->all, main_text(c)), &options,
                                        c->err);
}

const verb fault_verbs[] = {
    {"fault", set_fault}, {"report", report}, {"until_stopped", until_stopped},
    {"loop", loop},       {NULL, NULL},
};
