/* The hook that waits for the global step: section HK-WAIT of the behaviour. */
#include "hooks_fixture.h"

#include "base/clock.h"

#define READ "global_step/Read"

static belay_hook *wait_for(fixture *f, int64_t step, double secs, uint32_t flags) {
    belay_global_step_waiter_options options = BELAY_GLOBAL_STEP_WAITER_OPTIONS_INIT;
    options.wait_until_step = step;
    options.max_wait_secs = secs;
    options.flags = flags;
    return belay_global_step_waiter_hook_new(&options, f->err);
}

static void open_waiting(fixture *f, int64_t step, double secs) {
    use_graph(f, MODEL);
    add_hook(f, wait_for(f, step, secs, BELAY_GLOBAL_STEP_WAITER_IN_PROCESS));
    open_session(f);
}

static void test_global_step_waiter__checks_its_options__ER_28(void **state) {
    fixture *f = *state;
    assert_not_made(f, wait_for(f, 1, -7, 0), "max_wait_secs is -7");
    assert_not_made(f, wait_for(f, 1, 0, 2), "flags has a bit set that this belay does not know");
}

static void test_global_step_waiter__needs_a_step__HK_WAIT_05(void **state) {
    fixture *f = *state;
    add_hook(f, wait_for(f, 1, 0, 0));
    assert_needs_a_step(f, "Global step should be created to use _GlobalStepWaiterHook.");
}

/* HK-WAIT-02: it reads nothing; what the session itself reads it reads without the hook as well. */
static void test_global_step_waiter__of_zero_does_not_wait__HK_WAIT_02(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL);
    add_hook(f, wait_for(f, -3, 0, 0));
    open_session(f);
    size_t before = scripted_count(READ);
    run_steps(f, 1);
    assert_int_equal(scripted_count(READ), before);
    assert_int_equal(count_log(BELAY_LOG_INFO, "Waiting for"), 0);
    close_session(f);
}

/* TO-06: pauses grow from 50 ms to 0.5 s. */
static void test_global_step_waiter__waits_in_the_first_run_alone__HK_WAIT_01(void **state) {
    fixture *f = *state;
    open_waiting(f, 5, 0);
    int first = (int)scripted_count(READ) + 1;
    scripted_value(READ, first + 8, 5);
    int64_t started = bly_now_us();
    run_steps(f, 1);
    int64_t waited = bly_now_us() - started;
    assert_in_range(waited, 50000 + 100000 + 200000 + 400000, 8 * 500000);
    assert_int_equal(scripted_count("train"), 1);
    size_t reads = scripted_count(READ);
    assert_int_equal(reads, first + 8);
    run_steps(f, 3);
    assert_int_equal(scripted_count(READ), reads);
    assert_int_equal(count_log(BELAY_LOG_INFO, "Waiting for global step 5"), 1);
    close_session(f);
}

static void test_global_step_waiter__goes_on_where_the_step_is_reached(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL);
    add_hook(f, wait_for(f, 1, 0, 0)); /* alone, and yet no error: it need not wait */
    open_session(f);
    scripted_value(READ, (int)scripted_count(READ) + 1, 1);
    run_steps(f, 2);
    close_session(f);
}

/* HK-WAIT-03, and a report every 10 s though nothing moves. */
static void test_global_step_waiter__says_what_it_waits_for__HK_WAIT_03(void **state) {
    fixture *f = *state;
    open_waiting(f, 5000, 0);
    int first = (int)scripted_count(READ) + 1;
    scripted_value(READ, first + 1, 1000);
    scripted_value(READ, first + 2, 1001);
    scripted_value(READ, first + 3, 2001);
    for (int i = 4; i < 60; i++)
        scripted_value(READ, first + i, 2002);
    scripted_value(READ, first + 60, 5000);
    run_steps(f, 1);
    assert_int_equal(count_log(BELAY_LOG_INFO, "before starting training. Current step is 1001."),
                     1);
    assert_int_equal(count_log(BELAY_LOG_INFO, "Current step is 2001."), 0);
    assert_int_equal(count_log(BELAY_LOG_INFO, "Current step is 2002."),
                     3); /* at once, and in 28 s */
    close_session(f);
}

static void stop_coordinator(void *self) {
    fixture *f = self;
    belay_coordinator_request_stop(belay_monitored_session_coordinator(f->session), NULL);
}

static void stop_session(void *self) {
    fixture *f = self;
    belay_monitored_session_request_stop(f->session);
}

static void assert_stops(fixture *f, void (*stop)(void *self)) {
    open_waiting(f, 5, 0);
    scripted_call(READ, (int)scripted_count(READ) + 4, stop, f);
    assert_int_equal(run_once(f), BELAY_STOPPED);
    assert_string_equal(belay_error_message(f->err),
                        "stopped while waiting for global step 5: it is 0");
    assert_int_equal(scripted_count("train"), 0);
    assert_true(belay_monitored_session_should_stop(f->session));
    close_session(f); /* a clean end */
}

static void test_global_step_waiter__ends_at_the_coordinators_stop__BUG_23(void **state) {
    assert_stops(*state, stop_coordinator);
}

static void test_global_step_waiter__ends_at_the_sessions_stop__HK_WAIT_04(void **state) {
    assert_stops(*state, stop_session);
}

static void test_global_step_waiter__gives_up_at_its_deadline__TO_06(void **state) {
    fixture *f = *state;
    open_waiting(f, 5, 3);
    int64_t started = bly_now_us();
    assert_int_equal(run_once(f), BELAY_DEADLINE_EXCEEDED);
    assert_in_range(bly_now_us() - started, 3000000, 3600000);
    assert_string_equal(belay_error_message(f->err),
                        "global step 5 was not reached within 3 s: it is 0");
    assert_int_equal(scripted_count("train"), 0);
    assert_int_equal(try_close(f), BELAY_DEADLINE_EXCEEDED);
}

/* A session in this process has its variables for itself. */
static void test_global_step_waiter__does_not_wait_for_itself__BUG_80(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL);
    add_hook(f, wait_for(f, 5, 0, 0));
    open_session(f);
    int64_t started = bly_now_us();
    assert_int_equal(run_once(f), BELAY_FAILED_PRECONDITION);
    assert_true(bly_now_us() - started < 1000000);
    assert_int_equal(scripted_count("train"), 0);
    assert_int_equal(try_close(f), BELAY_FAILED_PRECONDITION);
}

/* A preemption in the middle of the wait: it waits again, in the new session. */
static void test_global_step_waiter__waits_again_after_a_recovery(void **state) {
    fixture *f = *state;
    open_waiting(f, 5, 0);
    int first = (int)scripted_count(READ) + 1;
    scripted_fail(READ, first + 2, BELAY_UNAVAILABLE, "Socket closed");
    scripted_value(READ, first + 9, 5);
    run_steps(f, 1);
    assert_true(scripted_count(READ) >= (size_t)first + 9);
    assert_int_equal(scripted_count("train"), 1);
    close_session(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_global_step_waiter__checks_its_options__ER_28),
        TEST(test_global_step_waiter__needs_a_step__HK_WAIT_05),
        TEST(test_global_step_waiter__of_zero_does_not_wait__HK_WAIT_02),
        TEST_WAITING(test_global_step_waiter__waits_in_the_first_run_alone__HK_WAIT_01),
        TEST(test_global_step_waiter__goes_on_where_the_step_is_reached),
        TEST_WAITING(test_global_step_waiter__says_what_it_waits_for__HK_WAIT_03),
        TEST_WAITING(test_global_step_waiter__ends_at_the_coordinators_stop__BUG_23),
        TEST_WAITING(test_global_step_waiter__ends_at_the_sessions_stop__HK_WAIT_04),
        TEST_WAITING(test_global_step_waiter__gives_up_at_its_deadline__TO_06),
        TEST_WAITING(test_global_step_waiter__does_not_wait_for_itself__BUG_80),
        TEST_WAITING(test_global_step_waiter__waits_again_after_a_recovery),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
