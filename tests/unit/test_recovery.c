/* Recovery: tasks that go away, on the scripted runtime, by a stepped clock. */
#include "failing_alloc.h"
#include "log_capture.h"
#include "scratch.h"
#include "scripted_runtime.h"
#include "stepped_clock.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/thread.h"
#include "cluster/contact.h"

#include <belay/monitored_session.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MODEL  SCRIPTED_GLOBAL_STEP SCRIPTED_TRAIN SCRIPTED_INIT SCRIPTED_SAVER
#define REMOTE "grpc://worker:1"

/* ---- a hook that counts its calls, and does at each what the test says ---- */

enum point { BEGIN, CREATE, BEFORE, AFTER, END, DESTROY, POINTS };

struct probe {
    int counts[POINTS];
    belay_code fails[POINTS]; /* what it returns there, BELAY_OK: nothing */
    int times;                /* how often it fails so; 0: always */
    int stop_in_before;
    belay_session *session;
    belay_coordinator *coordinator;
    void (*in_create)(struct probe *probe);
    const char *reads; /* by a helper thread */
    belay_code has_read;
};

static belay_code at(void *self, enum point point, belay_error *err) {
    struct probe *probe = self;
    probe->counts[point]++;
    if (probe->fails[point] == BELAY_OK || (probe->times && probe->counts[point] > probe->times))
        return BELAY_OK;
    return belay_error_set(err, probe->fails[point], "the hook's own");
}

static belay_code begin(void *self, belay_graph *graph, belay_error *err) {
    (void)graph;
    return at(self, BEGIN, err);
}

static belay_code create(void *self, belay_session *session, belay_coordinator *coordinator,
                         belay_error *err) {
    struct probe *probe = self;
    probe->session = session;
    probe->coordinator = coordinator;
    if (probe->in_create)
        probe->in_create(probe);
    return at(self, CREATE, err);
}

static belay_code before(void *self, belay_run_context *run, belay_error *err) {
    if (((struct probe *)self)->stop_in_before)
        belay_run_context_request_stop(run);
    return at(self, BEFORE, err);
}

static belay_code after(void *self, belay_run_context *run, belay_error *err) {
    (void)run;
    return at(self, AFTER, err);
}

static belay_code end(void *self, belay_session *session, belay_error *err) {
    assert_non_null(session);
    return at(self, END, err);
}

static void destroy(void *self) {
    at(self, DESTROY, NULL);
}

/* ---- a session ---- */

struct fixture {
    void *folder;
    belay_error *err;
    struct probe probe;
    belay_graph *graph;
    const char *target;
    const char *checkpoint_dir;
    double budget_secs;
    double grace_secs;
    belay_monitored_session *session;
    belay_step *step;
};

static int set_up(void **state) {
    struct fixture *f = calloc(1, sizeof *f);
    *state = f;
    scripted_install();
    stepped_clock_install(STEPPED_AUTO);
    log_capture_start(BELAY_LOG_DEBUG);
    f->err = belay_error_new();
    return scratch_set_up(&f->folder);
}

static int tear_down(void **state) {
    struct fixture *f = *state;
    if (f->session)
        belay_monitored_session_close(f->session, NULL);
    belay_graph_free(f->graph);
    belay_error_free(f->err);
    scripted_release();
    stepped_clock_uninstall();
    scripted_uninstall(); /* BUG-17: fails where a session, a tensor or a status is left */
    log_capture_stop();
    scratch_tear_down(&f->folder);
    free(f);
    return 0;
}

static belay_code try_open(struct fixture *f, const char *text) {
    static const belay_hook_vtable table = {.struct_size = sizeof table,
                                            .begin = begin,
                                            .after_create_session = create,
                                            .before_run = before,
                                            .after_run = after,
                                            .end = end,
                                            .destroy = destroy};
    belay_session_options session = BELAY_SESSION_OPTIONS_INIT;
    belay_chief_session_creator_options chief = BELAY_CHIEF_SESSION_CREATOR_OPTIONS_INIT;
    belay_monitored_session_options options = BELAY_MONITORED_SESSION_OPTIONS_INIT;
    belay_error_clear(f->err);
    if (!f->graph)
        f->graph = scripted_graph(text, f->err);
    belay_hook *hook = belay_hook_new(&table, &f->probe, f->err);
    session.target = f->target;
    chief.session = &session;
    chief.checkpoint_dir = f->checkpoint_dir;
    options.creator = belay_chief_session_creator_new(f->graph, &chief, f->err);
    options.hooks = &hook;
    options.hook_count = 1;
    options.recovery_budget_secs = f->budget_secs;
    options.stop_grace_period_secs = f->grace_secs;
    if (options.creator && hook)
        f->session = belay_monitored_session_open(f->graph, &options, f->err);
    belay_hook_free(hook);
    belay_session_creator_free(options.creator);
    if (!f->session)
        return belay_error_code(f->err);
    f->step = belay_step_prepare(f->session, NULL, (const char *[]){"global_step/Read", NULL},
                                 (const char *[]){"train", NULL}, f->err);
    return f->step ? BELAY_OK : belay_error_code(f->err);
}

static void open_on(struct fixture *f, const char *text) {
    if (try_open(f, text) != BELAY_OK)
        fail_msg("%s", belay_error_message(f->err));
}

static belay_code run(struct fixture *f) {
    belay_tensor *value = NULL;
    belay_code code = belay_step_run(f->step, NULL, &value, f->err);
    belay_tensor_free(value);
    return code;
}

static belay_code close_session(struct fixture *f) {
    belay_monitored_session *session = f->session;
    f->session = NULL;
    return belay_monitored_session_close(session, f->err);
}

static void assert_error(const struct fixture *f, belay_code code, belay_code expected,
                         const char *part) {
    if (code != expected || belay_error_code(f->err) != expected ||
        !strstr(belay_error_message(f->err), part))
        fail_msg("%s instead of %s: %s", belay_code_name(code), belay_code_name(expected),
                 belay_error_message(f->err));
}

static int64_t step_of(const struct fixture *f) {
    return belay_monitored_session_progress(f->session)->global_step;
}

/* ---- runs that fail ---- */

/* MS-20, MS-46, WS-06, WS-09, SD-08, MS-02, MS-18, HK-RUN-03: the caller sees nothing of it but a
 * hook. */
static void test_recovery__makes_a_new_session_and_repeats_the_run(void **state) {
    static const belay_code codes[] = {BELAY_UNAVAILABLE, BELAY_ABORTED};
    struct fixture *f = *state;
    for (size_t i = 0; i < 2; i++) {
        f->probe = (struct probe){.counts = {0}};
        scripted_fail("train", (int)scripted_count("train") + 3, codes[i], "Socket closed");
        open_on(f, MODEL);
        for (int n = 1; n <= 4; n++) {
            assert_int_equal(run(f), BELAY_OK);
            assert_int_equal(belay_monitored_session_should_stop(f->session), 0);
        }
        assert_int_equal(f->probe.counts[BEGIN], 1);
        assert_int_equal(f->probe.counts[CREATE], 2);
        assert_int_equal(f->probe.counts[BEFORE], 5); /* of the repeated run twice */
        assert_int_equal(f->probe.counts[AFTER], 4);
        assert_int_equal(scripted_alive().sessions, 1); /* the old one is gone */
        assert_int_equal(log_capture_count("Graph was finalized."), 2 * (i + 1)); /* CR-09, MS-44 */
        assert_true(belay_monitored_session_coordinator(f->session) == f->probe.coordinator);
        assert_int_equal(step_of(f), 2); /* without a checkpoint: from the start (CK-17) */
        assert_int_equal(belay_monitored_session_progress(f->session)->runs, 4);
        assert_int_equal(log_capture_count("the session is closed and made anew: Socket closed"),
                         i + 1);
        assert_int_equal(close_session(f), BELAY_OK);
        assert_int_equal(f->probe.counts[END], 1);
        assert_int_equal(f->probe.counts[DESTROY], 1);
        assert_int_equal(scripted_alive().sessions, 0);
    }
}

/* WS-07, WS-15. */
static void test_recovery__is_not_for_other_errors(void **state) {
    struct fixture *f = *state;
    scripted_fail("train", 1, BELAY_INTERNAL, "broken");
    open_on(f, MODEL);
    assert_error(f, run(f), BELAY_INTERNAL, "broken");
    assert_int_equal(f->probe.counts[CREATE], 1);
    assert_int_equal(belay_coordinator_should_stop(f->probe.coordinator), 0);
    assert_int_equal(run(f), BELAY_OK);
    assert_int_equal(close_session(f), BELAY_OK);
}

/* ST-03: in a step, and in a run of a raw session. */
static void test_run__gives_a_code_outside_the_table_as_unknown(void **state) {
    struct fixture *f = *state;
    BLY_LOCAL_ERROR(err);
    scripted_fail("train", 1, (belay_code)77, "odd");
    open_on(f, MODEL);
    assert_error(f, run(f), BELAY_UNKNOWN, "odd");
    scripted_fail("train", 2, (belay_code)78, "odder");
    assert_int_equal(log_capture_count("unknown status code 77"), 1);
    belay_session *session = belay_session_open(f->graph, NULL, &err);
    assert_int_equal(belay_session_run(session, NULL, NULL, NULL, NULL,
                                       (const char *[]){"train", NULL}, NULL, &err),
                     BELAY_UNKNOWN);
    assert_non_null(strstr(belay_error_message(&err), "odder"));
    assert_int_equal(log_capture_count("unknown status code 78"), 1);
    belay_session_free(session);
    assert_int_equal(close_session(f), BELAY_UNKNOWN);
}

/* Nothing initialises the step, and the model is ready all the same. */
#define UNSET                                                                                      \
    "global_step = VarHandleOp() dtype=int64 shape=[] shared_name=\"global_step\"\n"               \
    "seven = Const() dtype=int64 value=7\n"                                                        \
    "one = Const() dtype=int64 value=1\n"                                                          \
    "global_step/Assign = AssignVariableOp(global_step, seven) dtype=int64\n"                      \
    "global_step/Read = ReadVariableOp(global_step) dtype=int64\n"                                 \
    "variable global_step in variables, global_step: initializer=global_step/Assign "              \
    "snapshot=global_step/Read:0 initial=seven:0\n"                                                \
    "init = NoOp()\n"                                                                              \
    "collection init_op: init\n"                                                                   \
    "ready = NoOp()\n"                                                                             \
    "collection ready_op: ready\n"                                                                 \
    "collection ready_for_local_init_op: ready\n" SCRIPTED_TRAIN SCRIPTED_SAVER

/* GS-05, GS-06: it counts as what it will start from, and once it is set as what it is. */
static void test_run__goes_on_where_the_step_has_no_value(void **state) {
    struct fixture *f = *state;
    open_on(f, UNSET);
    assert_int_equal(step_of(f), 7);
    belay_step *idle =
        belay_step_prepare(f->session, NULL, NULL, (const char *[]){"init", NULL}, f->err);
    belay_step *set = belay_step_prepare(f->session, NULL, NULL,
                                         (const char *[]){"global_step/Assign", NULL}, f->err);
    assert_int_equal(belay_step_run(idle, NULL, NULL, f->err), BELAY_OK);
    assert_int_equal(step_of(f), 7);
    assert_int_equal(belay_step_run(set, NULL, NULL, f->err), BELAY_OK);
    assert_int_equal(step_of(f), 7);
    assert_int_equal(run(f), BELAY_OK);
    assert_int_equal(step_of(f), 8);
    assert_int_equal(belay_step_run(idle, NULL, NULL, f->err), BELAY_OK);
    assert_int_equal(step_of(f), 8);
    assert_int_equal(close_session(f), BELAY_OK);
}

/* Hooks and the step that is read after the run are part of it. */
static void test_recovery__repeats_the_run_where_a_hook_was_what_failed(void **state) {
    struct fixture *f = *state;
    f->probe.fails[AFTER] = BELAY_UNAVAILABLE;
    f->probe.times = 2;
    open_on(f, MODEL);
    assert_int_equal(run(f), BELAY_OK);
    assert_int_equal(f->probe.counts[AFTER], 3);
    assert_int_equal(f->probe.counts[CREATE], 3);
    assert_int_equal(close_session(f), BELAY_OK);
}

/* BUG-16, TO-07: sessions are made well, and the run fails in each. */
static void test_recovery__gives_up_a_run_that_fails_in_every_session(void **state) {
    struct fixture *f = *state;
    f->budget_secs = 100;
    scripted_fail("train", 0, BELAY_UNAVAILABLE, "Socket closed");
    open_on(f, MODEL);
    assert_error(f, run(f), BELAY_UNAVAILABLE, "gave up after ");
    assert_non_null(strstr(belay_error_message(f->err), "Socket closed"));
    assert_int_equal(stepped_clock_now_ms(), 100000);
    assert_in_range(scripted_count("train"), 8, 20);
    assert_int_equal(belay_monitored_session_should_stop(f->session), 1);
    assert_error(f, close_session(f), BELAY_UNAVAILABLE, "Socket closed");
    assert_int_equal(f->probe.counts[END], 0);
}

static void forget_the_stop(struct probe *probe) {
    probe->stop_in_before = 0;
}

/* BUG-78, WS-19: the run is repeated, and the stop is not forgotten. */
static void test_recovery__keeps_a_stop_that_a_hook_asked_for(void **state) {
    struct fixture *f = *state;
    f->probe.stop_in_before = 1;
    scripted_fail("train", 1, BELAY_UNAVAILABLE, "Socket closed");
    open_on(f, MODEL);
    assert_int_equal(run(f), BELAY_OK);
    assert_int_equal(f->probe.counts[BEFORE], 2);
    assert_int_equal(belay_monitored_session_should_stop(f->session), 1);
    assert_int_equal(close_session(f), BELAY_OK);
    assert_int_equal(f->probe.counts[END], 1);
    /* Asked for in the first attempt alone. */
    f->probe = (struct probe){.stop_in_before = 1};
    scripted_fail("train", (int)scripted_count("train") + 1, BELAY_UNAVAILABLE, "Socket closed");
    open_on(f, MODEL);
    f->probe.in_create = forget_the_stop;
    assert_int_equal(run(f), BELAY_OK);
    assert_int_equal(f->probe.counts[BEFORE], 2);
    assert_int_equal(belay_monitored_session_should_stop(f->session), 1);
    assert_int_equal(close_session(f), BELAY_OK);
}

/* ---- sessions that cannot be made ---- */

/* WS-04, WS-05, WS-23, WS-24, BUG-16, BUG-17: pauses grow; what was half made is closed. */
static void test_recovery__tries_again_until_a_session_can_be_made(void **state) {
    struct fixture *f = *state;
    scripted_fail_range("init", 1, 3, BELAY_UNAVAILABLE, "no route to host");
    open_on(f, MODEL SCRIPTED_QUEUE);
    assert_int_equal(scripted_count("TF_NewSession"), 4);
    assert_int_equal(stepped_clock_now_ms(), 50 + 100 + 200);
    assert_int_equal(scripted_alive().sessions, 1);
    assert_int_equal(f->probe.counts[BEGIN], 1);
    assert_int_equal(f->probe.counts[CREATE], 1);
    assert_int_equal(run(f), BELAY_OK);
    assert_int_equal(close_session(f), BELAY_OK);
    /* after_create_session: by then queue runners are running. */
    f->probe = (struct probe){.times = 2};
    f->probe.fails[CREATE] = BELAY_ABORTED;
    open_on(f, MODEL SCRIPTED_QUEUE);
    assert_int_equal(f->probe.counts[CREATE], 3);
    assert_int_equal(scripted_alive().sessions, 1);
    assert_int_equal(close_session(f), BELAY_OK);
}

static void await_the_stop(struct probe *probe) {
    assert_int_equal(belay_coordinator_wait_for_stop(probe->coordinator, BELAY_FOREVER), 1);
}

/* BUG-17, BUG-05: what its threads reported is told beside why it could not be made. */
static void test_recovery__tells_what_threads_of_a_half_made_session_reported(void **state) {
    struct fixture *f = *state;
    scripted_fail("enqueue", 0, BELAY_DATA_LOSS, "bad record");
    f->probe.in_create = await_the_stop;
    f->probe.fails[CREATE] = BELAY_INTERNAL;
    assert_error(f, try_open(f, MODEL SCRIPTED_QUEUE), BELAY_INTERNAL, "the hook's own");
    assert_int_equal(belay_error_chained_count(f->err), 1);
    assert_non_null(strstr(belay_error_chained_message(f->err, 0), "bad record"));
    assert_int_equal(scripted_alive().sessions, 0);
}

/* BUG-16: a clear error, with what was tried. */
static void test_recovery__gives_up_when_its_budget_is_used_up(void **state) {
    struct fixture *f = *state;
    f->budget_secs = 60;
    scripted_fail("init", 0, BELAY_UNAVAILABLE, "no route to host");
    assert_error(f, try_open(f, MODEL), BELAY_UNAVAILABLE, "gave up after ");
    assert_non_null(strstr(belay_error_message(f->err), "in 60 s: no route to host"));
    assert_int_equal(stepped_clock_now_ms(), 60000);
    assert_in_range(scripted_count("init"), 8, 14);
    assert_int_equal(f->probe.counts[CREATE], 0);
    assert_int_equal(f->probe.counts[DESTROY], 1);
    assert_true(log_capture_count("trying again") >= 4); /* not one for each attempt */
    /* No time at all: one attempt. */
    f->budget_secs = BELAY_AT_ONCE;
    size_t attempts = scripted_count("init");
    assert_error(f, try_open(f, MODEL), BELAY_UNAVAILABLE, "no route to host");
    assert_int_equal(scripted_count("init"), attempts + 1);
    /* Anything else is an error at once. */
    scripted_forget("init");
    scripted_fail("init", 0, BELAY_INTERNAL, "broken");
    attempts = scripted_count("init");
    assert_error(f, try_open(f, MODEL), BELAY_INTERNAL, "broken");
    assert_int_equal(scripted_count("init"), attempts + 1);
}

static void ask_to_stop(void *self) {
    belay_monitored_session_request_stop(((struct fixture *)self)->session);
}

/* BUG-16: a stop ends the pauses. */
static void test_recovery__ends_when_a_stop_is_requested(void **state) {
    struct fixture *f = *state;
    open_on(f, MODEL);
    scripted_fail("train", 1, BELAY_UNAVAILABLE, "Socket closed");
    scripted_fail("init", 0, BELAY_UNAVAILABLE, "no route to host");
    scripted_call("TF_NewSession", (int)scripted_count("TF_NewSession") + 4, ask_to_stop, f);
    assert_error(f, run(f), BELAY_UNAVAILABLE, "no route to host");
    assert_true(stepped_clock_now_ms() < 1000);
    assert_int_equal(belay_monitored_session_should_stop(f->session), 1);
    assert_error(f, close_session(f), BELAY_UNAVAILABLE, "no route to host");
    assert_int_equal(f->probe.counts[END], 0); /* BUG-77: there is no session to end with */
}

/* A recovery that was given up may be tried again: the next run makes a session. */
static void test_recovery__begins_again_at_the_next_run(void **state) {
    struct fixture *f = *state;
    f->budget_secs = 10;
    open_on(f, MODEL);
    scripted_fail("train", 1, BELAY_UNAVAILABLE, "Socket closed");
    scripted_fail("init", 0, BELAY_UNAVAILABLE, "no route to host");
    assert_error(f, run(f), BELAY_UNAVAILABLE, "gave up");
    scripted_forget("init");
    assert_int_equal(run(f), BELAY_OK);
    assert_int_equal(step_of(f), 1);
    assert_int_equal(belay_monitored_session_should_stop(f->session), 0);
    assert_int_equal(close_session(f), BELAY_OK);
    assert_int_equal(f->probe.counts[END], 1);
}

/* BUG-76, BUG-77, BUG-79, WS-10: what ended a recovery for good stays, and no hook gets an end() on
 * a session that was never handed out. */
static void test_recovery__that_failed_for_good_is_the_sessions_error(void **state) {
    struct fixture *f = *state;
    open_on(f, MODEL);
    f->probe.fails[CREATE] = BELAY_DATA_LOSS;
    scripted_fail("train", 1, BELAY_UNAVAILABLE, "Socket closed");
    assert_error(f, run(f), BELAY_DATA_LOSS, "the hook's own");
    size_t sessions = scripted_count("TF_NewSession");
    assert_error(f, run(f), BELAY_DATA_LOSS, "the hook's own");
    assert_int_equal(scripted_count("TF_NewSession"), sessions);
    assert_int_equal(scripted_alive().sessions, 0);
    assert_null(belay_monitored_session_coordinator(f->session));
    assert_int_equal(belay_monitored_session_should_stop(f->session), 1); /* WS-02 */
    assert_error(f, close_session(f), BELAY_DATA_LOSS, "the hook's own");
    assert_int_equal(f->probe.counts[END], 0);
}

/* ---- helper threads when a session is closed ---- */

static belay_code read_once(void *self, belay_error *err) {
    struct probe *probe = self;
    const char *const fetches[] = {probe->reads, NULL};
    belay_tensor *element = NULL;
    (void)err; /* what a closing session does to it is no failure */
    probe->has_read =
        belay_session_run(probe->session, NULL, NULL, fetches, &element, NULL, NULL, NULL);
    belay_tensor_free(element);
    return BELAY_OK;
}

static void start_to_read(struct probe *probe) {
    belay_loop_options once = BELAY_LOOP_OPTIONS_INIT;
    once.flags = BELAY_LOOP_ONCE;
    assert_int_equal(
        belay_coordinator_start_loop(probe->coordinator, "reader", read_once, probe, &once, NULL),
        BELAY_OK);
    assert_true(scripted_await_blocked(1));
}

/* WS-14, SD-06: threads are joined first; what one of them is in the midst of comes to its end. */
static void test_close__lets_a_thread_finish_its_run(void **state) {
    struct fixture *f = *state;
    f->probe.in_create = start_to_read;
    f->probe.reads = "slow";
    scripted_delay_ms("slow", 1, 1500);
    open_on(f, MODEL "slow = Const() dtype=int64 value=7\n");
    int64_t start = stepped_clock_now_ms();
    assert_int_equal(close_session(f), BELAY_OK);
    assert_int_equal(f->probe.has_read, BELAY_OK);
    assert_in_range(stepped_clock_now_ms() - start, 0, 1999);
}

#define NOBODY_ENQUEUES                                                                            \
    "queue = FIFOQueueV2() capacity=2 component_types={int64}\n"                                   \
    "dequeue = QueueDequeueV2(queue) component_types={int64}\n"

/* BUG-18, WS-14: a thread that is blocked in the session is released two seconds after the stop,
 * and not only when the grace period is over. */
static void test_close__releases_a_thread_that_waits_in_the_session(void **state) {
    struct fixture *f = *state;
    f->probe.in_create = start_to_read;
    f->probe.reads = "dequeue";
    open_on(f, MODEL NOBODY_ENQUEUES);
    int64_t start = stepped_clock_now_ms();
    assert_int_equal(close_session(f), BELAY_OK);
    assert_int_equal(f->probe.has_read, BELAY_CANCELLED);
    assert_int_equal(stepped_clock_now_ms() - start, 2000);
    assert_int_equal(log_capture_count("still running"), 0);
}

/* ---- helper threads ---- */

static void report(struct fixture *f, belay_code code) {
    BLY_LOCAL_ERROR(reason);
    bly_fail(&reason, code, "from a thread");
    belay_coordinator_request_stop(f->probe.coordinator, &reason);
}

/* WS-08: should_stop recovers; WS-12: so does a run, whatever its own error looks like. */
static void test_recovery__heeds_what_a_helper_thread_reported(void **state) {
    struct fixture *f = *state;
    open_on(f, MODEL);
    report(f, BELAY_UNAVAILABLE);
    assert_int_equal(belay_monitored_session_should_stop(f->session), 0);
    assert_int_equal(f->probe.counts[CREATE], 2);
    assert_int_equal(belay_coordinator_should_stop(f->probe.coordinator), 0); /* WS-16 */
    assert_int_equal(run(f), BELAY_OK);
    report(f, BELAY_ABORTED);
    scripted_fail("train", (int)scripted_count("train") + 1, BELAY_CANCELLED, "looks like this");
    assert_int_equal(run(f), BELAY_OK);
    assert_int_equal(f->probe.counts[CREATE], 3);
    /* Anything else ends the loop (BUG-71), and comes out of close. */
    report(f, BELAY_INTERNAL);
    assert_int_equal(belay_monitored_session_should_stop(f->session), 1);
    assert_int_equal(f->probe.counts[CREATE], 3);
    assert_error(f, close_session(f), BELAY_INTERNAL, "from a thread");
    assert_int_equal(f->probe.counts[END], 1);
}

static void stop_at_once(struct probe *probe) {
    belay_coordinator_request_stop(probe->coordinator, NULL);
}

/* BUG-55: where a hook finds, after the recovery, that training is over. */
static void test_should_stop__tells_of_a_stop_that_came_with_the_recovery(void **state) {
    struct fixture *f = *state;
    open_on(f, MODEL);
    f->probe.in_create = stop_at_once;
    report(f, BELAY_UNAVAILABLE);
    assert_int_equal(belay_monitored_session_should_stop(f->session), 1);
    assert_int_equal(f->probe.counts[CREATE], 2);
    assert_int_equal(close_session(f), BELAY_OK);
}

/* WS-10, BUG-79: what is recorded beside the preemption, and is none, ends the session. */
static void test_recovery__ends_at_another_error_of_a_helper_thread(void **state) {
    struct fixture *f = *state;
    open_on(f, MODEL);
    report(f, BELAY_INTERNAL);
    scripted_fail("train", 1, BELAY_UNAVAILABLE, "Socket closed");
    assert_error(f, run(f), BELAY_INTERNAL, "from a thread");
    assert_error(f, run(f), BELAY_INTERNAL, "from a thread");
    assert_int_equal(f->probe.counts[CREATE], 1);
    assert_error(f, close_session(f), BELAY_INTERNAL, "from a thread");
}

/* A queue runner's thread is what meets the task that went away. */
static void test_recovery__follows_a_queue_runner_that_lost_its_task(void **state) {
    struct fixture *f = *state;
    scripted_fail("enqueue", 2, BELAY_UNAVAILABLE, "Socket closed");
    open_on(f, MODEL SCRIPTED_QUEUE);
    assert_int_equal(belay_coordinator_wait_for_stop(f->probe.coordinator, BELAY_FOREVER), 1);
    assert_int_equal(belay_monitored_session_should_stop(f->session), 0);
    assert_int_equal(f->probe.counts[CREATE], 2);
    assert_int_equal(scripted_alive().sessions, 1);
    assert_int_equal(close_session(f), BELAY_OK);
}

/* ---- servers ---- */

/* It goes back to the checkpoint, and says so. */
static void test_recovery__goes_back_to_the_checkpoint(void **state) {
    struct fixture *f = *state;
    double value;
    f->target = REMOTE;
    f->checkpoint_dir = f->folder;
    open_on(f, MODEL);
    assert_int_equal(stepped_clock_now_ms(), 0); /* CR-08: it does not wait for a checkpoint */
    for (int i = 0; i < 3; i++)
        assert_int_equal(run(f), BELAY_OK);
    /* A saver of the test's own stands for the hook. */
    belay_saver *saver = belay_saver_new(f->graph, NULL, f->err);
    belay_session_options options = BELAY_SESSION_OPTIONS_INIT;
    options.target = REMOTE;
    belay_session *session = belay_session_open(f->graph, &options, f->err);
    assert_non_null(session);
    assert_int_equal(belay_saver_save(saver, session, scratch_path(&f->folder, "model.ckpt"), 3,
                                      NULL, NULL, f->err),
                     BELAY_OK);
    belay_session_free(session);
    belay_saver_free(saver);
    for (int i = 0; i < 2; i++)
        assert_int_equal(run(f), BELAY_OK);
    scripted_server_restart(REMOTE);
    assert_int_equal(run(f), BELAY_OK);
    assert_int_equal(step_of(f), 4);
    assert_true(scripted_variable(REMOTE, "global_step", &value) && value == 4);
    assert_int_equal(belay_monitored_session_was_restored(f->session), 1);
    assert_int_equal(
        log_capture_count("recovered: a new session is ready at step 3 (the old one was at 5)"), 1);
    assert_int_equal(close_session(f), BELAY_OK);
}

/* Design, section 8: closing a session whose server does not answer is left to a helper thread.
 * MS-17, TO-04: after 120 s where nothing else is said. */
static void test_close__does_not_wait_for_a_server_that_is_gone(void **state) {
    static const double grace[] = {7, 0};
    static const int64_t waited_ms[] = {7000, 120000};
    struct fixture *f = *state;
    f->target = REMOTE;
    for (size_t i = 0; i < 2; i++) {
        f->grace_secs = grace[i];
        open_on(f, MODEL);
        assert_int_equal(run(f), BELAY_OK);
        scripted_hang("TF_CloseSession", (int)scripted_count("TF_CloseSession") + 1);
        int64_t started = stepped_clock_now_ms();
        assert_int_equal(close_session(f), BELAY_OK);
        assert_int_equal(stepped_clock_now_ms() - started, waited_ms[i]);
        assert_int_equal(log_capture_count("it is left to itself"), i + 1);
    }
    scripted_release();
}

/* WS-06: a master that has lost one of its tasks does not answer a close until that is back, which
 * is no reason not to go on. */
static void test_recovery__does_not_wait_for_the_old_session_to_close(void **state) {
    struct fixture *f = *state;
    f->target = REMOTE;
    open_on(f, MODEL);
    scripted_fail("train", 1, BELAY_UNAVAILABLE, "Socket closed");
    scripted_hang("TF_CloseSession", (int)scripted_count("TF_CloseSession") + 1);
    assert_int_equal(run(f), BELAY_OK);
    assert_in_range(stepped_clock_now_ms(), 1000, 2000);
    assert_int_equal(log_capture_count("did not close within 1 s; it is left to itself"), 1);
    assert_int_equal(close_session(f), BELAY_OK);
    scripted_release();
}

/* ---- workers ---- */

struct chief {
    belay_graph *graph;
    int64_t at_ms;
};

/* What a chief does, somewhere else: after a while it initialises the model on the server. */
static void initialise_later(void *self) {
    struct chief *chief = self;
    belay_session_options options = BELAY_SESSION_OPTIONS_INIT;
    bly_mutex mutex;
    bly_cond cond;
    bly_mutex_init(&mutex);
    bly_cond_init(&cond);
    bly_mutex_lock(&mutex);
    while (bly_wait_until(&cond, &mutex, chief->at_ms * 1000))
        ;
    bly_mutex_unlock(&mutex);
    bly_cond_clean_up(&cond);
    bly_mutex_clean_up(&mutex);
    options.target = REMOTE;
    belay_session *session = belay_session_open(chief->graph, &options, NULL);
    belay_session_run(session, NULL, NULL, NULL, NULL, (const char *[]){"init", NULL}, NULL, NULL);
    belay_session_free(session);
}

static belay_monitored_session *open_worker(struct fixture *f, double max_wait_secs) {
    belay_worker_session_creator_options worker = BELAY_WORKER_SESSION_CREATOR_OPTIONS_INIT;
    belay_session_options session = BELAY_SESSION_OPTIONS_INIT;
    belay_monitored_session_options options = BELAY_MONITORED_SESSION_OPTIONS_INIT;
    session.target = REMOTE;
    worker.session = &session;
    worker.max_wait_secs = max_wait_secs;
    options.creator = belay_worker_session_creator_new(f->graph, &worker, f->err);
    assert_non_null(options.creator);
    belay_monitored_session *opened = belay_monitored_session_open(f->graph, &options, f->err);
    belay_session_creator_free(options.creator);
    return opened;
}

/* SM-37, CR-05, CR-07, TO-01: it polls, and sees within a second that the model is ready. */
static void test_worker__joins_soon_after_the_chief_made_the_model_ready(void **state) {
    struct fixture *f = *state;
    f->graph = scripted_graph(MODEL, f->err);
    assert_non_null(f->graph);
    struct chief chief = {f->graph, 60000};
    bly_thread *thread = bly_thread_start("chief", initialise_later, &chief, NULL);
    f->session = open_worker(f, 0);
    assert_non_null(f->session);
    bly_thread_join(thread);
    assert_in_range(stepped_clock_now_ms(), 60000, 60600);
    assert_int_equal(scripted_alive().sessions, 1);
    assert_int_equal(scripted_count("init"), 1);
    assert_true(log_capture_count("Waiting for model to be ready. Ready_for_local_init_op: "
                                  "Variables not initialized: global_step") >= 2);
    assert_int_equal(close_session(f), BELAY_OK);
}

/* SM-34, TO-03, ER-16. */
static void test_worker__gives_up_at_its_deadline(void **state) {
    struct fixture *f = *state;
    f->graph = scripted_graph(MODEL, f->err);
    assert_non_null(f->graph);
    assert_null(open_worker(f, 0));
    assert_error(f, belay_error_code(f->err), BELAY_DEADLINE_EXCEEDED,
                 "Session was not ready after waiting 1800 secs.");
    assert_int_equal(stepped_clock_now_ms(), 1800000);
    assert_int_equal(scripted_count("TF_NewSession"), 1); /* BUG-26 */
    assert_int_equal(scripted_alive().sessions, 0);
}

static void fall_silent(void *self) {
    (void)self;
    scripted_server_state(REMOTE, SCRIPTED_SILENT);
}

static int silent_look(const char *target, bly_buf *why) {
    bly_buf_printf(why, "nobody listens at %s", target);
    return 1;
}

/* BUG-16, TO-07: a chief whose master does not answer gives up with its recovery's budget, when it
 * is opened and in the middle of training. */
static void test_recovery__gives_up_a_master_that_does_not_answer(void **state) {
    struct fixture *f = *state;
    bly_target_look_install(silent_look);
    f->target = REMOTE;
    f->budget_secs = 40;
    scripted_server_state(REMOTE, SCRIPTED_SILENT);
    assert_error(f, try_open(f, MODEL), BELAY_DEADLINE_EXCEEDED,
                 REMOTE " did not answer within 40.0 s: nobody listens at " REMOTE);
    assert_int_equal(stepped_clock_now_ms(), 40000);
    scripted_server_state(REMOTE, SCRIPTED_UP);
    open_on(f, MODEL);
    scripted_call("train", 1, fall_silent, NULL);
    scripted_fail("train", 1, BELAY_UNAVAILABLE, "Socket closed");
    int64_t start = stepped_clock_now_ms();
    assert_error(f, run(f), BELAY_DEADLINE_EXCEEDED, REMOTE " did not answer within 40.0 s");
    assert_in_range(stepped_clock_now_ms() - start, 40000, 40000 + 121000);
    close_session(f);
    scripted_server_state(REMOTE, SCRIPTED_UP);
    stepped_clock_settle();
    bly_target_look_install(NULL);
}

/* ---- a master that is gone in the middle of a run ---- */

static int looks_until_back; /* how many looks find nobody; -1: all of them */

static int counted_look(const char *target, bly_buf *why) {
    if (looks_until_back == 0) {
        if (target) /* it was started again: TensorFlow's call returns */
            scripted_server_restart(REMOTE);
        scripted_server_state(REMOTE, SCRIPTED_UP);
        looks_until_back = -2;
    }
    if (looks_until_back == -2)
        return 0;
    looks_until_back -= looks_until_back > 0;
    return silent_look(target, why);
}

static void lose_master(struct fixture *f, int looks) {
    f->target = REMOTE;
    looks_until_back = looks;
    bly_target_look_install(counted_look);
    open_on(f, MODEL);
    assert_int_equal(run(f), BELAY_OK);
    scripted_server_state(REMOTE, SCRIPTED_SILENT);
}

static void find_master(void) {
    scripted_server_state(REMOTE, SCRIPTED_UP);
    stepped_clock_settle(); /* runs that were left return, and are thrown away */
    bly_target_look_install(NULL);
}

/* Design, section 8; BUG-16: TensorFlow's call would wait for ever. */
static void
test_recovery__of_a_run_whose_master_is_gone_for_good_ends_with_the_budget(void **state) {
    struct fixture *f = *state;
    f->budget_secs = 40;
    lose_master(f, -1);
    assert_error(f, run(f), BELAY_DEADLINE_EXCEEDED,
                 REMOTE " did not answer within 40.0 s: nobody");
    assert_in_range(stepped_clock_now_ms(), 45000, 50000);
    assert_int_equal(log_capture_count(REMOTE " does not answer: nobody listens at"), 1);
    assert_int_equal(
        log_capture_count("the session is closed and made anew: " REMOTE " has not answered for "),
        1);
    assert_int_equal(belay_monitored_session_should_stop(f->session), 1);
    assert_error(f, close_session(f), BELAY_DEADLINE_EXCEEDED, REMOTE);
    find_master();
}

/* A master that is back in time is asked no second time by belay: TensorFlow's call ends by itself,
 * and the run is repeated in a new session. */
static void test_recovery__of_a_run_whose_master_comes_back(void **state) {
    struct fixture *f = *state;
    lose_master(f, 3);
    assert_int_equal(run(f), BELAY_OK);
    assert_int_equal(f->probe.counts[CREATE], 2);
    assert_in_range(stepped_clock_now_ms(), 3000, 6000);
    assert_int_equal(log_capture_count("has not answered for"), 0);
    assert_int_equal(log_capture_count("made anew: "), 1);
    assert_int_equal(close_session(f), BELAY_OK);
    bly_target_look_install(NULL);
}

/* However long a run takes: where somebody answers it is waited for, and that is said: after ten
 * seconds, and where such runs are usual after twice their time, but a minute (design, section 8).
 */
static void test_recovery__is_not_for_a_long_run(void **state) {
    struct fixture *f = *state;
    lose_master(f, 0);
    scripted_server_state(REMOTE, SCRIPTED_UP);
    looks_until_back = -2;
    scripted_delay_ms("train", 2, 3595000);
    assert_int_equal(run(f), BELAY_OK);
    assert_int_equal(f->probe.counts[CREATE], 1);
    assert_in_range(stepped_clock_now_ms(), 3595000, 3596000);
    assert_int_equal(log_capture_count("Waiting for train on " REMOTE ", for "), 359);
    assert_int_equal(log_capture_count("for 10 s so far"), 1);
    scripted_delay_ms("train", 3, 55000);
    assert_int_equal(run(f), BELAY_OK);
    assert_int_equal(log_capture_count("Waiting for train on "), 359);
    scripted_delay_ms("train", 4, 65000);
    assert_int_equal(run(f), BELAY_OK);
    assert_int_equal(log_capture_count("Waiting for train on "), 360);
    assert_int_equal(close_session(f), BELAY_OK);
    bly_target_look_install(NULL);
}

/* Somebody listens, and says nothing: for a minute that may be a process that was stopped. */
static int hanging_look(const char *target, bly_buf *why) {
    bly_buf_printf(why, "%s listens, but does not answer", target);
    return BLY_TARGET_SILENT;
}

static void hang_master(struct fixture *f) {
    lose_master(f, -1);
    bly_target_look_install(hanging_look);
}

/* Design, section 8; BUG-16. */
static void test_recovery__of_a_run_whose_master_hangs(void **state) {
    struct fixture *f = *state;
    f->budget_secs = 40;
    hang_master(f);
    assert_error(f, run(f), BELAY_DEADLINE_EXCEEDED, REMOTE " did not answer within 40.0 s");
    assert_in_range(stepped_clock_now_ms(), 100000, 105000);
    assert_int_equal(log_capture_count(REMOTE " does not answer: " REMOTE " listens, but"), 1);
    assert_int_equal(log_capture_count("made anew: " REMOTE " has not answered for 60."), 1);
    assert_error(f, close_session(f), BELAY_DEADLINE_EXCEEDED, REMOTE);
    find_master();
}

static int answering_look(const char *target, bly_buf *why) {
    bly_buf_printf(why, "%s answers", target);
    return BLY_TARGET_ANSWERS;
}

/* WS-14, TO-04, BUG-18: a stop ends a step whose server does not, after the grace period; what is
 * told is that the step was not finished. */
static void test_stop__ends_a_step_that_hangs_after_the_grace_period(void **state) {
    struct fixture *f = *state;
    f->target = REMOTE;
    f->grace_secs = 30;
    bly_target_look_install(answering_look);
    open_on(f, MODEL);
    scripted_call("train", 1, ask_to_stop, f);
    scripted_delay_ms("train", 1, 86400000);
    assert_error(f, run(f), BELAY_DEADLINE_EXCEEDED, "train on " REMOTE " did not end within 30.");
    assert_in_range(stepped_clock_now_ms(), 30000, 31000);
    assert_int_equal(log_capture_count("for 2 s so far, at most 28 s more after the stop"), 1);
    assert_error(f, close_session(f), BELAY_DEADLINE_EXCEEDED, "after a stop was requested");
    assert_in_range(stepped_clock_now_ms(), 30000, 33000);
    find_master();
}

/* BUG-18: a step that ends within seconds is none that hangs, however short the grace period; or
 * the last save would be lost. */
static void test_stop__gives_a_step_five_seconds_at_least(void **state) {
    static const double grace[] = {BELAY_AT_ONCE, 0.001};
    struct fixture *f = *state;
    f->target = REMOTE;
    bly_target_look_install(answering_look);
    for (int i = 0; i < 2; i++) {
        f->grace_secs = grace[i];
        open_on(f, MODEL);
        scripted_call("train", i + 1, ask_to_stop, f);
        scripted_delay_ms("train", i + 1, 4000);
        if (run(f) != BELAY_OK)
            fail_msg("%s", belay_error_message(f->err));
        assert_int_equal(close_session(f), BELAY_OK);
        assert_int_equal(f->probe.counts[END], i + 1);
    }
    find_master();
}

/* BUG-18: what begins after the stop, the last save, is not lost for being slow; but it ends too.
 */
static void test_stop__gives_what_begins_after_it_ten_minutes(void **state) {
    struct fixture *f = *state;
    f->target = REMOTE;
    f->grace_secs = 30;
    bly_target_look_install(answering_look);
    open_on(f, MODEL);
    ask_to_stop(f);
    scripted_delay_ms("train", 1, 500000);
    assert_int_equal(run(f), BELAY_OK);
    scripted_delay_ms("train", 2, 86400000);
    int64_t start = stepped_clock_now_ms();
    assert_error(f, run(f), BELAY_DEADLINE_EXCEEDED, "did not end within 600.");
    assert_in_range(stepped_clock_now_ms() - start, 600000, 601000);
    assert_error(f, close_session(f), BELAY_DEADLINE_EXCEEDED, "after a stop was requested");
    find_master();
}

/* BUG-18: a run that was left to itself and comes back after all ends nobody else's: the last save
 * goes on in the same session. */
static void test_stop__of_a_run_that_comes_back_late_ends_no_other(void **state) {
    struct fixture *f = *state;
    f->target = REMOTE;
    f->grace_secs = 30;
    f->probe.in_create = start_to_read;
    f->probe.reads = "slow";
    bly_target_look_install(answering_look);
    scripted_delay_ms("slow", 1, 100000);
    open_on(f, MODEL "slow = Const() dtype=int64 value=7\n");
    ask_to_stop(f);
    scripted_delay_ms("train", 1, 200000);
    if (run(f) != BELAY_OK)
        fail_msg("%s", belay_error_message(f->err));
    assert_int_equal(f->probe.has_read, BELAY_DEADLINE_EXCEEDED);
    assert_int_equal(close_session(f), BELAY_OK);
    find_master();
}

/* BUG-18: a thread of the user's that waits in the session says nothing of the server: the last
 * save still has its ten minutes. */
static void test_stop__of_a_thread_that_waits_takes_no_time_from_the_last_save(void **state) {
    struct fixture *f = *state;
    f->target = REMOTE;
    f->grace_secs = 10;
    f->probe.in_create = start_to_read;
    f->probe.reads = "dequeue";
    bly_target_look_install(answering_look);
    open_on(f, MODEL NOBODY_ENQUEUES);
    ask_to_stop(f);
    for (int i = 1; i <= 2; i++) {
        scripted_delay_ms("train", i, 100000);
        if (run(f) != BELAY_OK)
            fail_msg("%d: %s", i, belay_error_message(f->err));
        assert_int_equal(f->probe.has_read, BELAY_DEADLINE_EXCEEDED);
    }
    assert_int_equal(close_session(f), BELAY_OK);
    find_master();
}

/* TO-02, SM-18, BUG-16: an op of preparing has the budget, and a minute at least. */
static void test_prepare_session__on_a_server_that_hangs_ends_with_the_budget(void **state) {
    static const double budgets[] = {300, 5};
    struct fixture *f = *state;
    f->target = REMOTE;
    bly_target_look_install(answering_look);
    scripted_delay_ms("init", 0, 86400000);
    for (size_t i = 0; i < 2; i++) {
        int64_t start = stepped_clock_now_ms(), limit = i == 0 ? 300000 : 60000;
        f->budget_secs = budgets[i];
        assert_error(f, try_open(f, MODEL), BELAY_DEADLINE_EXCEEDED,
                     i == 0 ? "init on " REMOTE " did not end within 300." : "within 60.");
        assert_in_range(stepped_clock_now_ms() - start, limit, limit + 7000);
        assert_true(log_capture_count("Waiting for init on " REMOTE ", for ") >= 5);
    }
    find_master();
}

/* SM-39: a stop ends them at once. */
static void cancel_manager(void *self) {
    belay_session_manager_cancel(self);
}

static void test_prepare_session__on_a_server_that_hangs_ends_with_a_stop(void **state) {
    struct fixture *f = *state;
    belay_prepare_options options = BELAY_PREPARE_OPTIONS_INIT;
    belay_session_options session = BELAY_SESSION_OPTIONS_INIT;
    f->graph = scripted_graph(MODEL, f->err);
    belay_session_manager *manager = belay_session_manager_new(f->graph, NULL, f->err);
    session.target = REMOTE;
    options.session = &session;
    options.init_op = "init";
    bly_target_look_install(answering_look);
    scripted_server_state(REMOTE, SCRIPTED_UP);
    scripted_call("init", 1, cancel_manager, manager);
    scripted_delay_ms("init", 1, 86400000);
    assert_null(belay_session_manager_prepare_session(manager, &options, NULL, f->err));
    assert_error(f, belay_error_code(f->err), BELAY_CANCELLED,
                 "a stop was requested while waiting for init on " REMOTE);
    assert_true(stepped_clock_now_ms() < 10000);
    belay_session_manager_free(manager);
    find_master();
}

/* MS-22: without recovery the caller is told; nothing more waits for that master, closing neither.
 */
static void test_singular_session__tells_of_a_master_that_is_gone(void **state) {
    struct fixture *f = *state;
    belay_singular_monitored_session_options options =
        BELAY_SINGULAR_MONITORED_SESSION_OPTIONS_INIT;
    belay_session_options session = BELAY_SESSION_OPTIONS_INIT;
    belay_tensor *value = NULL;
    session.target = REMOTE;
    options.session = &session;
    looks_until_back = -1;
    bly_target_look_install(counted_look);
    f->graph = scripted_graph(MODEL, f->err);
    f->session = belay_singular_monitored_session_open(f->graph, &options, f->err);
    assert_non_null(f->session);
    f->step = belay_step_prepare(f->session, NULL, (const char *[]){"global_step/Read", NULL},
                                 (const char *[]){"train", NULL}, f->err);
    assert_int_equal(belay_step_run(f->step, NULL, &value, f->err), BELAY_OK);
    scripted_server_state(REMOTE, SCRIPTED_SILENT);
    assert_error(f, run(f), BELAY_UNAVAILABLE, REMOTE " has not answered for ");
    int64_t after = stepped_clock_now_ms();
    assert_in_range(after, 5000, 9000);
    assert_error(f, run(f), BELAY_UNAVAILABLE, "the session with " REMOTE " is lost");
    assert_error(f, close_session(f), BELAY_UNAVAILABLE, REMOTE);
    assert_int_equal(stepped_clock_now_ms(), after);
    belay_tensor_free(value); /* the run that was left has no hold on it */
    find_master();
}

static struct fixture *looking;

static int stopping_look(const char *target, bly_buf *why) {
    ask_to_stop(looking);
    return silent_look(target, why);
}

/* A stop ends a recovery whose master does not answer, and the failure is what is told: steps may
 * be lost, and a retry finds them. */
static void test_recovery__that_a_stop_ends_keeps_the_failure(void **state) {
    struct fixture *f = looking = *state;
    f->target = REMOTE;
    bly_target_look_install(stopping_look);
    open_on(f, MODEL);
    scripted_call("train", 1, fall_silent, NULL);
    scripted_fail("train", 1, BELAY_UNAVAILABLE, "Socket closed");
    assert_error(f, run(f), BELAY_UNAVAILABLE, "Socket closed");
    assert_true(stepped_clock_now_ms() < 10000);
    assert_error(f, close_session(f), BELAY_UNAVAILABLE, "Socket closed");
    find_master();
}

/* TO-02. */
static void test_prepare_session__waits_two_hours_for_a_checkpoint(void **state) {
    struct fixture *f = *state;
    f->graph = scripted_graph(MODEL, f->err);
    belay_saver *saver = belay_saver_new(f->graph, NULL, f->err);
    belay_session_manager *manager = belay_session_manager_new(f->graph, NULL, f->err);
    belay_prepare_options options = BELAY_PREPARE_OPTIONS_INIT;
    options.saver = saver;
    options.checkpoint_dir = f->folder;
    options.init_op = "init";
    options.flags = BELAY_PREPARE_WAIT_FOR_CHECKPOINT;
    assert_null(belay_session_manager_prepare_session(manager, &options, NULL, f->err));
    assert_error(f, belay_error_code(f->err), BELAY_DEADLINE_EXCEEDED, "after waiting 7200 secs");
    assert_int_equal(stepped_clock_now_ms(), 7200000);
    assert_int_equal(scripted_count("init"), 0);
    belay_session_manager_free(manager);
    belay_saver_free(saver);
}

/* ---- no memory ---- */

/* Opens, trains with a recovery in the middle, and closes; whichever allocation fails. */
static belay_code whole_life(struct fixture *f) {
    f->session = NULL;
    belay_error_clear(f->err);
    belay_code code = try_open(f, MODEL SCRIPTED_QUEUE);
    scripted_forget("train");
    scripted_fail("train", (int)scripted_count("train") + 2, BELAY_UNAVAILABLE, "Socket closed");
    for (int i = 0; code == BELAY_OK && i < 3; i++)
        code = run(f);
    if (!f->session)
        return code;
    belay_code closed = close_session(f);
    return code == BELAY_OK ? closed : code;
}

static void test_monitored_session__without_memory_is_an_error_and_no_more(void **state) {
    struct fixture *f = *state;
    FAILING_ALLOC(n) {
        f->probe = (struct probe){.counts = {0}};
        belay_code code = whole_life(f);
        if (failing_alloc_hit() && code != BELAY_OK && code != BELAY_RESOURCE_EXHAUSTED)
            fail_msg("allocation %zu: %s: %s", n, belay_code_name(code),
                     belay_error_message(f->err));
        belay_graph_free(f->graph);
        f->graph = NULL;
        assert_int_equal(f->probe.counts[DESTROY],
                         f->probe.counts[BEGIN] > 0 ? 1 : f->probe.counts[DESTROY]);
        assert_int_equal(scripted_alive().sessions, 0);
    }
}

/* A graph in a session whose step is `step`. */
static belay_session *session_at(struct fixture *f, int64_t step) {
    belay_session *session = belay_session_open(f->graph, NULL, f->err);
    assert_non_null(session);
    const char *const init[] = {"init", NULL}, *const train[] = {"train", NULL};
    belay_session_run(session, NULL, NULL, NULL, NULL, init, NULL, f->err);
    for (int64_t i = 0; i < step; i++)
        belay_session_run(session, NULL, NULL, NULL, NULL, train, NULL, f->err);
    return session;
}

/* What a folder holds, read by a new saver in a new session; -1: nothing. */
static int64_t restored_step(struct fixture *f, belay_code *out_code) {
    uint32_t restored = 0;
    int64_t step = -1;
    belay_prepare_options options = BELAY_PREPARE_OPTIONS_INIT;
    belay_saver *saver = belay_saver_new(f->graph, NULL, f->err);
    belay_session_manager *manager = belay_session_manager_new(f->graph, NULL, f->err);
    options.saver = saver;
    options.checkpoint_dir = f->folder;
    options.init_op = "init";
    belay_session *session =
        saver && manager
            ? belay_session_manager_prepare_session(manager, &options, &restored, f->err)
            : NULL;
    *out_code = session ? BELAY_OK : belay_error_code(f->err);
    if (session && restored)
        belay_session_global_step(session, &step, NULL);
    belay_session_free(session);
    belay_session_manager_free(manager);
    belay_saver_free(saver);
    return step;
}

/* Design, section 10: the last good checkpoint stays loadable; also where it was being replaced. */
static void test_saver__without_memory_leaves_what_was_there(void **state) {
    struct fixture *f = *state;
    belay_code code;
    f->graph = scripted_graph(MODEL, f->err);
    assert_non_null(f->graph);
    for (int64_t again = 1; again <= 2; again++) {
        FAILING_ALLOC(n) {
            bly_mem_fail_at(0);
            belay_session *one = session_at(f, 1), *two = session_at(f, 2);
            belay_saver *saver = belay_saver_new(f->graph, NULL, f->err);
            const char *path = scratch_path(&f->folder, "m");
            assert_int_equal(belay_saver_save(saver, one, path, 1, NULL, NULL, f->err), BELAY_OK);
            bly_mem_fail_at(n);
            code = belay_saver_save(saver, two, path, again, NULL, NULL, f->err);
            int hit = failing_alloc_hit();
            if (code != BELAY_OK)
                assert_int_equal(code, BELAY_RESOURCE_EXHAUSTED);
            assert_true(hit || code == BELAY_OK);
            belay_code restored;
            int64_t step = restored_step(f, &restored);
            assert_int_equal(restored, BELAY_OK);
            if (step != 2 && (code == BELAY_OK || step != 1))
                fail_msg("allocation %zu: code %d, then step %d", n, (int)code, (int)step);
            belay_session_free(one);
            belay_session_free(two);
            belay_saver_free(saver);
            assert_int_equal(bly_remove_directory(f->folder, NULL), BELAY_OK);
            assert_int_equal(bly_make_directories(f->folder, NULL), BELAY_OK);
        }
    }
}

/* That memory is out is not damage: no older checkpoint is taken for it, and nothing initialised.
 */
static void test_restore__without_memory_takes_nothing_else(void **state) {
    struct fixture *f = *state;
    f->graph = scripted_graph(MODEL, f->err);
    assert_non_null(f->graph);
    belay_saver *saver = belay_saver_new(f->graph, NULL, f->err);
    for (int64_t step = 1; step <= 2; step++) {
        belay_session *session = session_at(f, step);
        assert_int_equal(belay_saver_save(saver, session, scratch_path(&f->folder, "m"), step, NULL,
                                          NULL, f->err),
                         BELAY_OK);
        belay_session_free(session);
    }
    belay_saver_free(saver);
    FAILING_ALLOC(n) {
        belay_code code;
        int64_t step = restored_step(f, &code);
        failing_alloc_hit();
        if (code == BELAY_OK ? step != 2 : code != BELAY_RESOURCE_EXHAUSTED)
            fail_msg("allocation %zu: step %d, %s: %s", n, (int)step, belay_code_name(code),
                     belay_error_message(f->err));
    }
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_recovery__makes_a_new_session_and_repeats_the_run),
        TEST(test_recovery__is_not_for_other_errors),
        TEST(test_run__gives_a_code_outside_the_table_as_unknown),
        TEST(test_run__goes_on_where_the_step_has_no_value),
        TEST(test_recovery__repeats_the_run_where_a_hook_was_what_failed),
        TEST(test_recovery__gives_up_a_run_that_fails_in_every_session),
        TEST(test_recovery__keeps_a_stop_that_a_hook_asked_for),
        TEST(test_recovery__tries_again_until_a_session_can_be_made),
        TEST(test_recovery__tells_what_threads_of_a_half_made_session_reported),
        TEST(test_recovery__gives_up_when_its_budget_is_used_up),
        TEST(test_recovery__ends_when_a_stop_is_requested),
        TEST(test_recovery__begins_again_at_the_next_run),
        TEST(test_recovery__that_failed_for_good_is_the_sessions_error),
        TEST(test_close__lets_a_thread_finish_its_run),
        TEST(test_close__releases_a_thread_that_waits_in_the_session),
        TEST(test_recovery__heeds_what_a_helper_thread_reported),
        TEST(test_should_stop__tells_of_a_stop_that_came_with_the_recovery),
        TEST(test_recovery__ends_at_another_error_of_a_helper_thread),
        TEST(test_recovery__follows_a_queue_runner_that_lost_its_task),
        TEST(test_recovery__goes_back_to_the_checkpoint),
        TEST(test_close__does_not_wait_for_a_server_that_is_gone),
        TEST(test_worker__joins_soon_after_the_chief_made_the_model_ready),
        TEST(test_worker__gives_up_at_its_deadline),
        TEST(test_recovery__gives_up_a_master_that_does_not_answer),
        TEST(test_recovery__of_a_run_whose_master_is_gone_for_good_ends_with_the_budget),
        TEST(test_recovery__of_a_run_whose_master_comes_back),
        TEST(test_recovery__is_not_for_a_long_run),
        TEST(test_recovery__of_a_run_whose_master_hangs),
        TEST(test_stop__ends_a_step_that_hangs_after_the_grace_period),
        TEST(test_stop__gives_a_step_five_seconds_at_least),
        TEST(test_stop__gives_what_begins_after_it_ten_minutes),
        TEST(test_stop__of_a_run_that_comes_back_late_ends_no_other),
        TEST(test_stop__of_a_thread_that_waits_takes_no_time_from_the_last_save),
        TEST(test_prepare_session__on_a_server_that_hangs_ends_with_the_budget),
        TEST(test_prepare_session__on_a_server_that_hangs_ends_with_a_stop),
        TEST(test_recovery__does_not_wait_for_the_old_session_to_close),
        TEST(test_singular_session__tells_of_a_master_that_is_gone),
        TEST(test_recovery__that_a_stop_ends_keeps_the_failure),
        TEST(test_prepare_session__waits_two_hours_for_a_checkpoint),
        TEST(test_monitored_session__without_memory_is_an_error_and_no_more),
        TEST(test_saver__without_memory_leaves_what_was_there),
        TEST(test_restore__without_memory_takes_nothing_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
