/* Coordinators and loopers, on a clock that takes no time. */
#include "failing_alloc.h"
#include "log_capture.h"
#include "stepped_clock.h"

#include "base/clock.h"
#include "base/error.h"
#include "session/coordinator.h"

#include <math.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <string.h>

#include <cmocka.h>

static int set_up(void **state) {
    (void)state;
    stepped_clock_install(STEPPED_AUTO);
    log_capture_start(BELAY_LOG_INFO);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    stepped_clock_uninstall();
    log_capture_stop();
    return 0;
}

static belay_coordinator *new_coordinator(void) {
    belay_coordinator *c = belay_coordinator_new(NULL, 0, NULL);
    assert_non_null(c);
    return c;
}

static void stop_with(belay_coordinator *c, belay_code code, const char *message) {
    BLY_LOCAL_ERROR(err);
    belay_error_set(&err, code, message);
    belay_coordinator_request_stop(c, &err);
}

static belay_code recorded(belay_coordinator *c) {
    return belay_coordinator_raise_requested_exception(c, NULL);
}

static belay_code join_with(belay_coordinator *c, double grace_secs, uint32_t ignore_live,
                            belay_error *err) {
    belay_join_options options = BELAY_JOIN_OPTIONS_INIT;
    options.stop_grace_period_secs = grace_secs;
    options.ignore_live_threads = ignore_live;
    return belay_coordinator_join(c, &options, err);
}

/* What a thread does in these tests: waits for some time without looking at the coordinator, then
 * stops it or not. */
struct worker {
    belay_coordinator *coordinator; /* NULL: the loop does what the worker returns */
    double secs;
    belay_code code;
    int stop_first;
    atomic_int calls;
    atomic_int destroyed;
};

static void wait_secs(double secs) {
    bly_mutex lock;
    bly_cond cond;
    bly_mutex_init(&lock);
    bly_cond_init(&cond);
    bly_mutex_lock(&lock);
    int64_t due = bly_deadline_after_secs(secs);
    while (bly_wait_until(&cond, &lock, due))
        ;
    bly_mutex_unlock(&lock);
    bly_cond_clean_up(&cond);
    bly_mutex_clean_up(&lock);
}

static belay_code work(void *self, belay_error *err) {
    struct worker *w = self;
    atomic_fetch_add(&w->calls, 1);
    if (w->secs > 0)
        wait_secs(w->secs);
    if (w->coordinator && w->stop_first)
        belay_coordinator_request_stop(w->coordinator, NULL);
    return w->code == BELAY_OK ? BELAY_OK : belay_error_set(err, w->code, "the worker failed");
}

static void note_destroyed(void *self) {
    atomic_fetch_add(&((struct worker *)self)->destroyed, 1);
}

/* Returns once the worker waits, or is through: a stop that comes before it began would keep it
 * from working. */
static void start_once(belay_coordinator *c, const char *name, struct worker *w) {
    belay_loop_options options = BELAY_LOOP_OPTIONS_INIT;
    options.flags = BELAY_LOOP_ONCE;
    assert_int_equal(belay_coordinator_start_loop(c, name, work, w, &options, NULL), BELAY_OK);
    stepped_clock_settle();
}

/* ---- state ---- */

static void test_coordinator_new__nobody_has_stopped_it(void **state) {
    (void)state; /* CO_01 */
    belay_coordinator *c = new_coordinator();
    assert_int_equal(belay_coordinator_should_stop(c), 0);
    assert_int_equal(belay_coordinator_joined(c), 0);
    assert_int_equal(recorded(c), BELAY_OK);
    belay_coordinator_free(c);
    belay_coordinator_free(NULL);
}

/* A monitored session between two sessions has none to give. */
static void test_coordinator__none_is_one_that_nobody_stops(void **state) {
    (void)state;
    BLY_LOCAL_ERROR(err);
    belay_coordinator_request_stop(NULL, NULL);
    belay_coordinator_clear_stop(NULL);
    assert_int_equal(belay_coordinator_should_stop(NULL), 0);
    assert_int_equal(belay_coordinator_joined(NULL), 0);
    assert_int_equal(belay_coordinator_wait_for_stop(NULL, BELAY_FOREVER), 0);
    assert_int_equal(belay_coordinator_join(NULL, NULL, &err), BELAY_INVALID_ARGUMENT);
    belay_error_clear(&err);
    assert_int_equal(belay_coordinator_raise_requested_exception(NULL, &err),
                     BELAY_INVALID_ARGUMENT);
    belay_error_set(&err, BELAY_ABORTED, "what went before");
    assert_int_equal(belay_coordinator_join(NULL, NULL, &err), BELAY_ABORTED);
}

static void test_coordinator_CO_02_CO_04__clean_codes_stop_without_an_error(void **state) {
    (void)state;
    static const belay_code aborted[] = {BELAY_ABORTED, BELAY_CANCELLED};
    belay_coordinator *by_default = new_coordinator();
    belay_coordinator *none = belay_coordinator_new(aborted, 0, NULL);
    belay_coordinator *given = belay_coordinator_new(aborted, 2, NULL);
    stop_with(by_default, BELAY_OUT_OF_RANGE, "end of input");
    assert_int_equal(belay_coordinator_should_stop(by_default), 1);
    assert_int_equal(recorded(by_default), BELAY_OK);
    stop_with(none, BELAY_OUT_OF_RANGE, "end of input");
    assert_int_equal(recorded(none), BELAY_OUT_OF_RANGE);
    stop_with(given, BELAY_CANCELLED, "as asked");
    assert_int_equal(belay_coordinator_should_stop(given), 1);
    assert_int_equal(recorded(given), BELAY_OK);
    belay_coordinator_clear_stop(given);
    stop_with(given, BELAY_OUT_OF_RANGE, "not clean here");
    assert_int_equal(recorded(given), BELAY_OUT_OF_RANGE);
    belay_coordinator_free(by_default);
    belay_coordinator_free(none);
    belay_coordinator_free(given);
}

static void test_coordinator_CO_03__any_thread_stops_it(void **state) {
    (void)state;
    belay_coordinator *c = new_coordinator();
    struct worker w = {.coordinator = c, .stop_first = 1};
    assert_int_equal(belay_coordinator_should_stop(c), 0);
    start_once(c, "stopper", &w);
    assert_int_equal(belay_coordinator_wait_for_stop(c, BELAY_FOREVER), 1);
    assert_int_equal(belay_coordinator_should_stop(c), 1);
    assert_int_equal(belay_coordinator_join(c, NULL, NULL), BELAY_OK);
    belay_coordinator_free(c);
}

static void
test_coordinator_CO_05_BUG_05__keeps_the_first_error_and_chains_later_ones(void **state) {
    (void)state;
    belay_coordinator *c = new_coordinator();
    BLY_LOCAL_ERROR(err);
    stop_with(c, BELAY_ABORTED, "first");
    assert_int_equal(log_capture_count("Error reported to Coordinator: ABORTED: first"), 1);
    stop_with(c, BELAY_INTERNAL, "second");
    assert_int_equal(log_capture_count("INTERNAL: second"), 1);
    assert_int_equal(belay_coordinator_raise_requested_exception(c, &err), BELAY_ABORTED);
    assert_string_equal(belay_error_message(&err), "first");
    assert_int_equal(belay_error_chained_count(&err), 1);
    assert_int_equal(belay_error_chained_code(&err, 0), BELAY_INTERNAL);
    belay_coordinator_free(c);
}

static void test_coordinator_CO_06__an_error_after_a_plain_stop_is_logged_not_kept(void **state) {
    (void)state;
    belay_coordinator *c = new_coordinator();
    belay_coordinator_request_stop(c, NULL);
    stop_with(c, BELAY_INTERNAL, "too late");
    assert_int_equal(recorded(c), BELAY_OK);
    assert_int_equal(log_capture_count("after the stop: INTERNAL: too late"), 1);
    assert_int_equal(belay_coordinator_join(c, NULL, NULL), BELAY_OK);
    belay_coordinator_free(c);
}

static void
test_coordinator_CO_07_BUG_06__an_error_after_the_join_is_kept_and_logged(void **state) {
    (void)state;
    belay_coordinator *c = new_coordinator();
    assert_int_equal(belay_coordinator_join(c, NULL, NULL), BELAY_OK);
    belay_coordinator_request_stop(c, NULL);
    stop_with(c, BELAY_OUT_OF_RANGE, "clean");
    assert_int_equal(recorded(c), BELAY_OK);
    stop_with(c, BELAY_INTERNAL, "late");
    assert_int_equal(recorded(c), BELAY_INTERNAL);
    assert_int_equal(log_capture_count("after the join: INTERNAL: late"), 1);
    belay_coordinator_free(c);
}

static void test_coordinator_CO_08__clear_stop_forgets_all_but_the_threads(void **state) {
    (void)state;
    belay_coordinator *c = new_coordinator();
    stop_with(c, BELAY_INTERNAL, "before");
    assert_int_equal(belay_coordinator_join(c, NULL, NULL), BELAY_INTERNAL);
    belay_coordinator_clear_stop(c);
    assert_int_equal(belay_coordinator_should_stop(c), 0);
    assert_int_equal(belay_coordinator_joined(c), 0);
    assert_int_equal(recorded(c), BELAY_OK);
    struct worker later = {.secs = 30};
    start_once(c, "later", &later);
    belay_coordinator_request_stop(c, NULL);
    belay_coordinator_clear_stop(c);
    assert_int_equal(belay_coordinator_join(c, NULL, NULL), BELAY_OK);
    assert_int_equal(later.calls, 1);
    assert_int_equal(stepped_clock_now_ms(),
                     30000); /* the join waited for it: it was not forgotten */
    belay_coordinator_free(c);
}

static void test_coordinator_CO_09__waits_for_a_stop_as_long_as_it_is_told(void **state) {
    (void)state;
    belay_coordinator *c = new_coordinator();
    assert_int_equal(belay_coordinator_wait_for_stop(c, 2.5), 0);
    assert_int_equal(stepped_clock_now_ms(), 2500);
    assert_int_equal(belay_coordinator_wait_for_stop(c, 0), 0);
    assert_int_equal(stepped_clock_now_ms(), 2500);
    struct worker w = {.coordinator = c, .secs = 35, .stop_first = 1};
    start_once(c, "stopper", &w);
    assert_int_equal(belay_coordinator_wait_for_stop(c, BELAY_FOREVER), 1);
    assert_int_equal(stepped_clock_now_ms(), 37500);
    assert_int_equal(log_capture_count("still waiting for the coordinator to stop"), 3);
    assert_int_equal(belay_coordinator_wait_for_stop(c, BELAY_FOREVER), 1);
    assert_int_equal(belay_coordinator_join(c, NULL, NULL), BELAY_OK);
    belay_coordinator_free(c);
}

/* ---- join ---- */

struct registrar {
    belay_coordinator *coordinator;
    struct worker late;
};

static belay_code register_late(void *self, belay_error *err) {
    struct registrar *r = self;
    (void)err;
    wait_secs(5);
    start_once(r->coordinator, "late", &r->late);
    wait_secs(5);
    return BELAY_OK;
}

static void
test_coordinator_CO_10__a_thread_started_during_a_join_does_not_extend_it(void **state) {
    (void)state;
    belay_coordinator *c = new_coordinator();
    struct registrar r = {c, {.secs = 1000}};
    belay_loop_options once = BELAY_LOOP_OPTIONS_INIT;
    once.flags = BELAY_LOOP_ONCE;
    belay_coordinator_start_loop(c, "registrar", register_late, &r, &once, NULL);
    assert_int_equal(belay_coordinator_join(c, NULL, NULL), BELAY_OK);
    assert_int_equal(stepped_clock_now_ms(), 10000);
    assert_int_equal(belay_coordinator_join(c, NULL, NULL),
                     BELAY_OK); /* but the next one waits for it */
    assert_int_equal(stepped_clock_now_ms(), 1005000);
    belay_coordinator_free(c);
}

/* TO-05. */
static void test_coordinator_CO_11_CO_12__joins_every_thread_without_a_limit(void **state) {
    (void)state;
    belay_coordinator *c = new_coordinator();
    struct worker a = {.secs = 295}, b = {.secs = 25}, d = {.secs = 0};
    start_once(c, "slow", &a);
    start_once(c, "quick", &b);
    start_once(c, "now", &d);
    assert_int_equal(belay_coordinator_join(c, NULL, NULL), BELAY_OK);
    assert_int_equal(stepped_clock_now_ms(),
                     295000); /* more than the grace: nobody asked for a stop */
    assert_int_equal(log_capture_count("waiting for threads to end"), 29);
    assert_int_equal(log_capture_count("slow, quick"), 2);
    assert_string_equal(log_capture_find("waiting for threads"),
                        "waiting for threads to end, for 10 s now; nobody has requested a stop, "
                        "without a limit: slow, quick");
    assert_int_equal(belay_coordinator_should_stop(c), 0);
    belay_coordinator_free(c);
}

static void test_coordinator_CO_13__after_a_stop_a_join_lasts_as_long_as_the_threads(void **state) {
    (void)state;
    belay_coordinator *c = new_coordinator();
    struct worker stopper = {.coordinator = c, .secs = 7, .stop_first = 1}, slow = {.secs = 50};
    start_once(c, "stopper", &stopper);
    start_once(c, "slow", &slow);
    assert_int_equal(belay_coordinator_join(c, NULL, NULL), BELAY_OK);
    assert_int_equal(stepped_clock_now_ms(), 50000);
    belay_coordinator_free(c);
}

/* The grace is time by the clock, not a sum of pauses: to the millisecond (CO_14 as BUG_27 has it).
 */
static void test_coordinator_CO_14_BUG_27_CO_15__ends_with_the_grace(void **state) {
    (void)state;
    belay_coordinator *c = new_coordinator();
    struct worker a = {.secs = 500}, b = {.secs = 3}, d = {.secs = 600};
    BLY_LOCAL_ERROR(err);
    start_once(c, "stuck", &a);
    start_once(c, "fine", &b);
    start_once(c, "stuck-too", &d);
    belay_coordinator_request_stop(c, NULL);
    assert_int_equal(belay_coordinator_join(c, NULL, &err), BELAY_DEADLINE_EXCEEDED); /* ER_31 */
    assert_string_equal(belay_error_message(&err),
                        "Coordinator stopped with threads still running: stuck, stuck-too");
    assert_int_equal(stepped_clock_now_ms(), 120000); /* TO_04 */
    assert_int_equal(belay_coordinator_joined(c), 1);
    assert_int_equal(belay_coordinator_join(c, NULL, NULL), BELAY_OK); /* they were forgotten */
    assert_int_equal(stepped_clock_now_ms(), 120000);
    belay_coordinator_free(c);
    wait_secs(1000); /* they end as they like */
    assert_int_equal(a.calls + b.calls + d.calls, 3);
}

static void test_coordinator_CO_15__live_threads_may_be_ignored(void **state) {
    (void)state;
    belay_coordinator *c = new_coordinator();
    struct worker w = {.secs = 500};
    start_once(c, "stuck", &w);
    belay_coordinator_request_stop(c, NULL);
    assert_int_equal(join_with(c, 2, 1, NULL), BELAY_OK);
    assert_int_equal(stepped_clock_now_ms(), 2000);
    assert_int_equal(log_capture_count("Coordinator stopped with threads still running: stuck"), 1);
    belay_coordinator_free(c);
    wait_secs(1000);
}

static void test_coordinator_CO_16__a_recorded_error_comes_before_live_threads(void **state) {
    (void)state;
    belay_coordinator *c = new_coordinator();
    struct worker w = {.secs = 500};
    start_once(c, "stuck", &w);
    stop_with(c, BELAY_DATA_LOSS, "the reason");
    assert_int_equal(join_with(c, 1, 0, NULL), BELAY_DATA_LOSS);
    assert_int_equal(log_capture_count("threads still running: stuck"), 1);
    belay_coordinator_free(c);
    wait_secs(1000);
}

static void test_coordinator_CO_17_CO_20__a_join_without_threads_returns_at_once(void **state) {
    (void)state;
    belay_coordinator *c = new_coordinator();
    assert_int_equal(belay_coordinator_joined(c), 0);
    assert_int_equal(belay_coordinator_join(c, NULL, NULL), BELAY_OK);
    assert_int_equal(stepped_clock_now_ms(), 0);
    assert_int_equal(belay_coordinator_joined(c), 1);
    belay_coordinator_clear_stop(c);
    assert_int_equal(belay_coordinator_joined(c), 0);
    belay_coordinator_free(c);
}

static void test_coordinator_CO_18__the_error_can_be_raised_any_number_of_times(void **state) {
    (void)state;
    belay_coordinator *c = new_coordinator();
    BLY_LOCAL_ERROR(err);
    bly_fail(&err, BELAY_INTERNAL, "left alone");
    assert_int_equal(belay_coordinator_raise_requested_exception(c, &err), BELAY_OK);
    assert_string_equal(belay_error_message(&err), "left alone");
    stop_with(c, BELAY_NOT_FOUND, "gone");
    for (int i = 0; i < 3; i++) {
        belay_error_clear(&err);
        assert_int_equal(belay_coordinator_raise_requested_exception(c, &err), BELAY_NOT_FOUND);
        assert_string_equal(belay_error_message(&err), "gone");
    }
    belay_coordinator_free(c);
}

static void test_coordinator_CO_19__what_a_body_fails_with_is_reported(void **state) {
    (void)state;
    belay_coordinator *c = new_coordinator();
    struct worker w = {.code = BELAY_PERMISSION_DENIED};
    BLY_LOCAL_ERROR(err);
    start_once(c, "failing", &w);
    assert_int_equal(belay_coordinator_join(c, NULL, &err), BELAY_PERMISSION_DENIED);
    assert_string_equal(belay_error_message(&err), "the worker failed");
    assert_int_equal(belay_coordinator_should_stop(c), 1);
    belay_coordinator_free(c);

    c = new_coordinator(); /* a stop signal is an error like others */
    w.code = BELAY_STOPPED;
    start_once(c, "stopping", &w);
    assert_int_equal(belay_coordinator_join(c, NULL, NULL), BELAY_STOPPED);
    belay_coordinator_free(c);
}

static void test_coordinator_CO_21__a_grace_of_any_size_is_fine(void **state) {
    (void)state;
    static const struct {
        double grace;
        int64_t took_us;
    } cases[] = {{1e-9, 0}, {0.0005, 500}, {0.25, 250000}, {BELAY_AT_ONCE, 0}, {400, 400000000}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        belay_coordinator *c = new_coordinator();
        struct worker w = {.secs = 1000};
        int64_t start = stepped_clock_now_us();
        start_once(c, "stuck", &w);
        belay_coordinator_request_stop(c, NULL);
        assert_int_equal(join_with(c, cases[i].grace, 0, NULL), BELAY_DEADLINE_EXCEEDED);
        assert_int_equal(stepped_clock_now_us() - start, cases[i].took_us);
        belay_coordinator_free(c);
        wait_secs(2000);
    }
    belay_coordinator *c = new_coordinator();
    struct worker w = {.secs = 1000};
    int64_t start = stepped_clock_now_ms();
    start_once(c, "slow", &w);
    belay_coordinator_request_stop(c, NULL);
    assert_int_equal(join_with(c, BELAY_FOREVER, 0, NULL), BELAY_OK);
    assert_int_equal(stepped_clock_now_ms() - start, 1000000);
    belay_coordinator_free(c);
}

static void test_coordinator_join__refuses_options_that_mean_nothing(void **state) {
    (void)state;
    belay_coordinator *c = new_coordinator();
    static const double bad[] = {-0.5, -3, -INFINITY};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(join_with(c, bad[i], 0, NULL), BELAY_INVALID_ARGUMENT);
    assert_int_equal(join_with(c, NAN, 0, NULL), BELAY_INVALID_ARGUMENT);
    assert_int_equal(join_with(c, 1, 2, NULL), BELAY_INVALID_ARGUMENT);
    assert_int_equal(belay_coordinator_joined(c), 0);
    belay_coordinator_free(c);
}

static void test_coordinator_free__stops_threads_that_nobody_joined(void **state) {
    (void)state;
    belay_coordinator *c = new_coordinator();
    struct worker w = {.secs = 1};
    belay_loop_options options = BELAY_LOOP_OPTIONS_INIT;
    options.destroy = note_destroyed;
    assert_int_equal(belay_coordinator_start_loop(c, "orphan", work, &w, &options, NULL), BELAY_OK);
    wait_secs(3.5);
    belay_coordinator_free(c);
    assert_int_equal(log_capture_count("freed without a join"), 1);
    wait_secs(10);
    assert_int_equal(w.destroyed, 1);
    assert_int_equal(w.calls, 4);
}

/* ---- closing a session ---- */

struct door {
    bly_mutex lock;
    bly_cond cond;
    int open;
    int released; /* how often */
};

static void door_init(struct door *d) {
    *d = (struct door){.open = 0};
    bly_mutex_init(&d->lock);
    bly_cond_init(&d->cond);
}

static void open_door(void *self) {
    struct door *d = self;
    bly_mutex_lock(&d->lock);
    d->open = 1;
    d->released++;
    bly_cond_signal_all(&d->cond);
    bly_mutex_unlock(&d->lock);
}

static belay_code wait_at_door(void *self, belay_error *err) {
    struct door *d = self;
    (void)err;
    bly_mutex_lock(&d->lock);
    while (!d->open)
        bly_wait_until(&d->cond, &d->lock, BLY_NEVER);
    bly_mutex_unlock(&d->lock);
    return BELAY_OK;
}

static void test_coordinator_BUG_18__releases_blocked_threads_long_before_the_grace(void **state) {
    (void)state;
    belay_coordinator *c = new_coordinator();
    struct door d;
    door_init(&d);
    belay_coordinator_start_loop(c, "in a session call", wait_at_door, &d, NULL, NULL);
    wait_secs(1);
    belay_coordinator_request_stop(c, NULL);
    assert_int_equal(bly_coordinator_join_releasing(c, 120, 2, open_door, &d, NULL), BELAY_OK);
    assert_int_equal(stepped_clock_now_ms(), 3000);
    assert_int_equal(d.released, 1);
    assert_int_equal(log_capture_count("still running"), 0);
    belay_coordinator_free(c);
}

static void test_coordinator_join_releasing__spares_threads_that_end_by_themselves(void **state) {
    (void)state;
    belay_coordinator *c = new_coordinator();
    struct worker w = {.secs = 1.5};
    struct door d;
    door_init(&d);
    start_once(c, "brief", &w);
    belay_coordinator_request_stop(c, NULL);
    assert_int_equal(bly_coordinator_join_releasing(c, 120, 2, open_door, &d, NULL), BELAY_OK);
    assert_int_equal(d.released, 0);
    assert_int_equal(stepped_clock_now_ms(), 1500);
    belay_coordinator_free(c);
}

static void release_nothing(void *self) {
    (*(int *)self)++;
}

static void test_coordinator_join_releasing__leaves_threads_behind_after_the_grace(void **state) {
    (void)state;
    belay_coordinator *c = new_coordinator();
    struct worker w = {.secs = 500};
    int released = 0;
    start_once(c, "stuck", &w);
    stop_with(c, BELAY_UNAVAILABLE, "lost");
    assert_int_equal(bly_coordinator_join_releasing(c, 30, 2, release_nothing, &released, NULL),
                     BELAY_UNAVAILABLE);
    assert_int_equal(released, 1);
    assert_int_equal(stepped_clock_now_ms(), 30000);
    assert_int_equal(log_capture_count("threads still running: stuck"), 1);
    belay_coordinator_free(c);
    wait_secs(1000);
}

/* ---- loopers ---- */

struct ticker {
    belay_coordinator *coordinator;
    int64_t start_ms;
    int64_t at_ms[16];
    double takes_secs[16];
    int calls, most;
    belay_code fail_with;
    int started, stopped, destroyed;
    belay_code start_code;
};

static belay_code tick(void *self, belay_error *err) {
    struct ticker *t = self;
    int n = t->calls++;
    t->at_ms[n] = stepped_clock_now_ms() - t->start_ms;
    if (t->takes_secs[n] > 0)
        wait_secs(t->takes_secs[n]);
    if (t->calls >= t->most) {
        if (t->fail_with)
            return belay_error_set(err, t->fail_with, "enough");
        belay_coordinator_request_stop(t->coordinator, NULL);
    }
    return BELAY_OK;
}

static belay_code on_start(void *self, belay_error *err) {
    struct ticker *t = self;
    assert_int_equal(t->calls, 0);
    t->started++;
    return t->start_code ? belay_error_set(err, t->start_code, "no start") : BELAY_OK;
}

static belay_code on_stop(void *self, belay_error *err) {
    (void)err;
    ((struct ticker *)self)->stopped++;
    return BELAY_OK;
}

static void on_destroy(void *self) {
    ((struct ticker *)self)->destroyed++;
}

static belay_code run_ticker(struct ticker *t, double interval_secs, belay_error *err) {
    belay_loop_options options = BELAY_LOOP_OPTIONS_INIT;
    options.interval_secs = interval_secs;
    options.start = on_start;
    options.stop = on_stop;
    options.destroy = on_destroy;
    t->start_ms = stepped_clock_now_ms();
    t->coordinator = new_coordinator();
    assert_int_equal(
        belay_coordinator_start_loop(t->coordinator, "ticker", tick, t, &options, NULL), BELAY_OK);
    belay_code code = belay_coordinator_join(t->coordinator, NULL, err);
    belay_coordinator_free(t->coordinator);
    assert_int_equal(t->started, 1);
    assert_int_equal(t->destroyed, 1);
    return code;
}

static void test_looper_LT_01_LT_03__calls_back_to_back_until_the_stop(void **state) {
    (void)state;
    struct ticker t = {.most = 5};
    assert_int_equal(run_ticker(&t, 0, NULL), BELAY_OK); /* joined: it had registered itself */
    assert_int_equal(t.calls, 5);
    assert_int_equal(t.at_ms[4], 0);

    belay_coordinator *c =
        new_coordinator(); /* the flag is looked at before each call, the first too */
    struct worker w = {.secs = 0};
    belay_coordinator_request_stop(c, NULL);
    assert_int_equal(belay_coordinator_start_loop(c, "late", work, &w, NULL, NULL), BELAY_OK);
    assert_int_equal(belay_coordinator_join(c, NULL, NULL), BELAY_OK);
    assert_int_equal(w.calls, 0);
    belay_coordinator_free(c);
}

static void test_looper_LT_02__refuses_what_is_missing_or_malformed(void **state) {
    (void)state;
    belay_coordinator *c = new_coordinator();
    struct worker w = {.secs = 0};
    belay_loop_options options = BELAY_LOOP_OPTIONS_INIT;
    options.destroy = note_destroyed;
    assert_int_equal(belay_coordinator_start_loop(NULL, "x", work, &w, &options, NULL),
                     BELAY_INVALID_ARGUMENT);
    assert_int_equal(belay_coordinator_start_loop(c, "x", NULL, &w, &options, NULL),
                     BELAY_INVALID_ARGUMENT);
    assert_int_equal(belay_coordinator_start_loop(c, NULL, work, &w, &options, NULL),
                     BELAY_INVALID_ARGUMENT);
    options.interval_secs = -1;
    assert_int_equal(belay_coordinator_start_loop(c, "x", work, &w, &options, NULL),
                     BELAY_INVALID_ARGUMENT);
    options.interval_secs = NAN;
    assert_int_equal(belay_coordinator_start_loop(c, "x", work, &w, &options, NULL),
                     BELAY_INVALID_ARGUMENT);
    options.interval_secs = 0;
    options.flags = 2;
    assert_int_equal(belay_coordinator_start_loop(c, "x", work, &w, &options, NULL),
                     BELAY_INVALID_ARGUMENT);
    assert_int_equal(w.destroyed, 6); /* once each time, also where starting fails */
    assert_int_equal(w.calls, 0);
    belay_coordinator_free(c);
}

static void test_looper_LT_04__due_times_advance_by_the_interval(void **state) {
    (void)state;
    struct ticker t = {.most = 7, .takes_secs = {0.25, 3.5}};
    assert_int_equal(run_ticker(&t, 1, NULL), BELAY_OK);
    static const int64_t expected[] = {0, 1000, 4500, 4500, 4500, 5000, 6000};
    for (int i = 0; i < 7; i++)
        assert_int_equal(t.at_ms[i], expected[i]);

    struct ticker thirds = {.most = 10};
    assert_int_equal(run_ticker(&thirds, 0.1, NULL), BELAY_OK);
    for (int i = 0; i < 10; i++)
        assert_int_equal(thirds.at_ms[i], i * 100);
}

static void test_looper_LT_04__a_stop_ends_the_pause(void **state) {
    (void)state;
    belay_coordinator *c = new_coordinator();
    struct worker w = {.secs = 0}, stopper = {.coordinator = c, .secs = 5, .stop_first = 1};
    belay_loop_options options = BELAY_LOOP_OPTIONS_INIT;
    options.interval_secs = 3600;
    belay_coordinator_start_loop(c, "hourly", work, &w, &options, NULL);
    start_once(c, "stopper", &stopper);
    assert_int_equal(belay_coordinator_join(c, NULL, NULL), BELAY_OK);
    assert_int_equal(stepped_clock_now_ms(), 5000);
    assert_int_equal(w.calls, 1);
    belay_coordinator_free(c);
}

static void test_looper_LT_05__start_and_stop_run_once_and_stop_only_after_success(void **state) {
    (void)state;
    struct ticker fine = {.most = 3}, failing = {.most = 3, .fail_with = BELAY_INTERNAL};
    assert_int_equal(run_ticker(&fine, 0, NULL), BELAY_OK);
    assert_int_equal(fine.stopped, 1);
    assert_int_equal(run_ticker(&failing, 0, NULL), BELAY_INTERNAL);
    assert_int_equal(failing.stopped, 0);
    struct ticker unstarted = {.most = 3, .start_code = BELAY_NOT_FOUND};
    assert_int_equal(run_ticker(&unstarted, 0, NULL), BELAY_NOT_FOUND);
    assert_int_equal(unstarted.calls, 0);
    assert_int_equal(unstarted.stopped, 0);
}

static void test_looper_LT_06__an_error_is_reported_and_ends_the_thread(void **state) {
    (void)state;
    struct ticker t = {.most = 2, .fail_with = BELAY_UNAVAILABLE};
    BLY_LOCAL_ERROR(err);
    assert_int_equal(run_ticker(&t, 10, &err), BELAY_UNAVAILABLE);
    assert_string_equal(belay_error_message(&err), "enough");
    assert_int_equal(t.calls, 2);
}

static belay_code go_on_then_fail(void *self, belay_error *err) {
    int *calls = self;
    if (++*calls == 2)
        return BELAY_INTERNAL;
    belay_error_set(err, BELAY_OUT_OF_RANGE, "a queue was empty, which does not matter");
    return BELAY_OK;
}

/* What a call left behind and did not return is not what the next one failed with: this one would
 * pass for a clean stop. */
static void test_looper_LT_06__an_error_is_that_of_the_call_that_failed(void **state) {
    (void)state;
    int calls = 0;
    BLY_LOCAL_ERROR(err);
    belay_coordinator *coordinator = new_coordinator();
    assert_int_equal(
        belay_coordinator_start_loop(coordinator, "reader", go_on_then_fail, &calls, NULL, NULL),
        BELAY_OK);
    assert_int_equal(belay_coordinator_join(coordinator, NULL, &err), BELAY_INTERNAL);
    assert_string_equal(belay_error_message(&err), "thread 'reader' failed without saying why");
    belay_coordinator_free(coordinator);
}

/* ---- torture ---- */

static void test_coordinator__survives_any_failing_allocation(void **state) {
    (void)state;
    FAILING_ALLOC(n) {
        struct worker w = {.secs = 1};
        belay_loop_options options = BELAY_LOOP_OPTIONS_INIT;
        options.flags = BELAY_LOOP_ONCE;
        options.destroy = note_destroyed;
        BLY_LOCAL_ERROR(err);
        belay_coordinator *c = belay_coordinator_new(NULL, 0, &err);
        belay_code code = c ? belay_coordinator_start_loop(c, "worker", work, &w, &options, &err)
                            : belay_error_code(&err);
        if (c)
            assert_int_equal(belay_coordinator_join(c, NULL, NULL), BELAY_OK);
        if (!failing_alloc_hit())
            assert_int_equal(code, BELAY_OK);
        else if (code != BELAY_OK)
            assert_int_equal(code, BELAY_RESOURCE_EXHAUSTED);
        assert_int_equal(w.calls, code == BELAY_OK);
        assert_int_equal(w.destroyed, c != NULL);
        belay_coordinator_free(c);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

/* ---- threads of the host ---- */

struct host {
    belay_registered_thread *handle;
    double secs;
    belay_code code;
};

static void host_run(void *self) {
    struct host *h = self;
    BLY_LOCAL_ERROR(err);
    wait_secs(h->secs);
    if (h->code != BELAY_OK)
        belay_error_set(&err, h->code, "the host's thread failed");
    belay_registered_thread_end(h->handle, &err);
}

static bly_thread *start_host(belay_coordinator *c, struct host *h, const char *name) {
    h->handle = belay_coordinator_register_thread(c, name, NULL);
    assert_non_null(h->handle);
    bly_thread *thread = bly_thread_start(name, host_run, h, NULL);
    assert_non_null(thread);
    return thread;
}

static void test_coordinator_CO_10__waits_for_threads_that_are_registered(void **state) {
    (void)state;
    belay_coordinator *c = new_coordinator();
    struct host slow = {.secs = 40}, quick = {.secs = 1};
    bly_thread *threads[] = {start_host(c, &slow, "slow"), start_host(c, &quick, "quick")};
    int64_t start = bly_now_ms();
    assert_int_equal(join_with(c, 120, 0, NULL), BELAY_OK); /* no stop: until both ended */
    assert_true(bly_now_ms() - start >= 40000);
    assert_false(belay_coordinator_should_stop(c));
    assert_true(log_capture_count("waiting for threads to end") >= 1);
    assert_true(log_capture_count("slow") >= 1);
    for (size_t i = 0; i < 2; i++)
        bly_thread_join(threads[i]);
    belay_coordinator_free(c);
}

static void test_coordinator_CO_19__a_registered_thread_reports_its_error(void **state) {
    (void)state;
    belay_coordinator *c = new_coordinator();
    struct host fails = {.secs = 1, .code = BELAY_DATA_LOSS};
    bly_thread *thread = start_host(c, &fails, "fails");
    BLY_LOCAL_ERROR(err);
    assert_int_equal(join_with(c, 120, 0, &err), BELAY_DATA_LOSS);
    assert_string_equal(err.message, "the host's thread failed");
    bly_thread_join(thread);
    belay_coordinator_free(c);
}

/* CO-15, ER-31: one that does not end in time is given up, and may end after the coordinator. */
static void test_coordinator_CO_15__gives_a_registered_thread_up(void **state) {
    (void)state;
    belay_coordinator *c = new_coordinator();
    belay_registered_thread *handle = belay_coordinator_register_thread(c, "stuck", NULL);
    BLY_LOCAL_ERROR(err);
    belay_coordinator_request_stop(c, NULL);
    assert_int_equal(join_with(c, 5, 0, &err), BELAY_DEADLINE_EXCEEDED);
    assert_string_equal(err.message, "Coordinator stopped with threads still running: stuck");
    belay_coordinator_free(c);
    belay_registered_thread_end(handle, &err);
}

static void test_coordinator__registers_nothing_without_a_name(void **state) {
    (void)state;
    belay_coordinator *c = new_coordinator();
    BLY_LOCAL_ERROR(err);
    assert_null(belay_coordinator_register_thread(c, NULL, &err));
    assert_int_equal(err.code, BELAY_INVALID_ARGUMENT);
    assert_null(belay_coordinator_register_thread(NULL, "a", NULL));
    belay_registered_thread_end(NULL, NULL);
    FAILING_ALLOC(n) {
        belay_registered_thread *handle = belay_coordinator_register_thread(c, "a", &err);
        if (failing_alloc_hit())
            assert_int_equal(err.code, BELAY_RESOURCE_EXHAUSTED);
        belay_registered_thread_end(handle, NULL);
    }
    assert_int_equal(join_with(c, 5, 0, NULL), BELAY_OK);
    belay_coordinator_free(c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_coordinator_new__nobody_has_stopped_it),
        TEST(test_coordinator__none_is_one_that_nobody_stops),
        TEST(test_coordinator_CO_02_CO_04__clean_codes_stop_without_an_error),
        TEST(test_coordinator_CO_03__any_thread_stops_it),
        TEST(test_coordinator_CO_05_BUG_05__keeps_the_first_error_and_chains_later_ones),
        TEST(test_coordinator_CO_06__an_error_after_a_plain_stop_is_logged_not_kept),
        TEST(test_coordinator_CO_07_BUG_06__an_error_after_the_join_is_kept_and_logged),
        TEST(test_coordinator_CO_08__clear_stop_forgets_all_but_the_threads),
        TEST(test_coordinator_CO_09__waits_for_a_stop_as_long_as_it_is_told),
        TEST(test_coordinator_CO_10__a_thread_started_during_a_join_does_not_extend_it),
        TEST(test_coordinator_CO_11_CO_12__joins_every_thread_without_a_limit),
        TEST(test_coordinator_CO_13__after_a_stop_a_join_lasts_as_long_as_the_threads),
        TEST(test_coordinator_CO_14_BUG_27_CO_15__ends_with_the_grace),
        TEST(test_coordinator_CO_15__live_threads_may_be_ignored),
        TEST(test_coordinator_CO_16__a_recorded_error_comes_before_live_threads),
        TEST(test_coordinator_CO_17_CO_20__a_join_without_threads_returns_at_once),
        TEST(test_coordinator_CO_18__the_error_can_be_raised_any_number_of_times),
        TEST(test_coordinator_CO_10__waits_for_threads_that_are_registered),
        TEST(test_coordinator_CO_19__a_registered_thread_reports_its_error),
        TEST(test_coordinator_CO_15__gives_a_registered_thread_up),
        TEST(test_coordinator__registers_nothing_without_a_name),
        TEST(test_coordinator_CO_19__what_a_body_fails_with_is_reported),
        TEST(test_coordinator_CO_21__a_grace_of_any_size_is_fine),
        TEST(test_coordinator_join__refuses_options_that_mean_nothing),
        TEST(test_coordinator_free__stops_threads_that_nobody_joined),
        TEST(test_coordinator_BUG_18__releases_blocked_threads_long_before_the_grace),
        TEST(test_coordinator_join_releasing__spares_threads_that_end_by_themselves),
        TEST(test_coordinator_join_releasing__leaves_threads_behind_after_the_grace),
        TEST(test_looper_LT_01_LT_03__calls_back_to_back_until_the_stop),
        TEST(test_looper_LT_02__refuses_what_is_missing_or_malformed),
        TEST(test_looper_LT_04__due_times_advance_by_the_interval),
        TEST(test_looper_LT_04__a_stop_ends_the_pause),
        TEST(test_looper_LT_05__start_and_stop_run_once_and_stop_only_after_success),
        TEST(test_looper_LT_06__an_error_is_reported_and_ends_the_thread),
        TEST(test_looper_LT_06__an_error_is_that_of_the_call_that_failed),
        TEST(test_coordinator__survives_any_failing_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
