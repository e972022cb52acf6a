/* The timer of the hooks: section TM of the behaviour. */
#include "base/clock.h"
#include "base/error.h"
#include "hooks/timer.h"

#include <belay/saver.h>

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define SECOND INT64_C(1000000)

static int64_t now_us;

static int64_t read_clock(void *self) {
    (void)self;
    return now_us;
}

static int set_up(void **state) {
    static const bly_clock clock = {read_clock, NULL, NULL};
    (void)state;
    now_us = 1000 * SECOND;
    bly_clock_install(&clock);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    bly_clock_install(NULL);
    return 0;
}

static bly_timer make(double every_secs, int64_t every_steps) {
    bly_timer timer;
    assert_int_equal(bly_timer_init(&timer, every_secs, every_steps, NULL), BELAY_OK);
    return timer;
}

static void fire(bly_timer *timer, int64_t step) {
    bly_timer_update(timer, step, NULL, NULL);
}

static void assert_refused(double every_secs, int64_t every_steps, const char *message) {
    bly_timer timer;
    BLY_LOCAL_ERROR(err);
    assert_int_equal(bly_timer_init(&timer, every_secs, every_steps, &err), BELAY_INVALID_ARGUMENT);
    assert_string_equal(err.message, message);
}

/* ER-28 */
static void test_timer__needs_exactly_one_frequency__TM_01(void **state) {
    (void)state;
    assert_refused(0, 0, "Either every_secs or every_steps should be provided.");
    assert_refused(-1, -1, "Either every_secs or every_steps should be provided.");
    assert_refused(1, 1, "Can not provide both every_secs and every_steps.");
    assert_refused(NAN, 0, "every_secs is not a number");
    make(BELAY_OFF, 1);
    make(1, BELAY_OFF);
}

static void test_timer__triggers_for_any_step_before_it_fired__TM_02(void **state) {
    (void)state;
    bly_timer by_steps = make(0, 100), by_time = make(100, 0);
    assert_true(bly_timer_should_trigger(&by_steps, 0));
    assert_true(bly_timer_should_trigger(&by_steps, -3));
    assert_true(bly_timer_should_trigger(&by_time, 7));
}

static void test_timer__never_triggers_twice_for_one_step__TM_03(void **state) {
    (void)state;
    bly_timer timer = make(1, 0);
    fire(&timer, 5);
    now_us += 100 * SECOND;
    assert_false(bly_timer_should_trigger(&timer, 5));
    assert_true(bly_timer_should_trigger(&timer, 6));
}

static void test_timer__by_seconds_triggers_when_they_are_over__TM_04(void **state) {
    (void)state;
    bly_timer timer = make(1.5, 0);
    fire(&timer, 5);
    now_us += 1499999;
    assert_false(bly_timer_should_trigger(&timer, 6));
    now_us += 1;
    assert_true(bly_timer_should_trigger(&timer, 6));
}

static void test_timer__by_steps_triggers_when_they_are_done__TM_04(void **state) {
    (void)state;
    bly_timer timer = make(0, 3);
    fire(&timer, 5);
    now_us += 1000 * SECOND;
    assert_false(bly_timer_should_trigger(&timer, 7));
    assert_true(bly_timer_should_trigger(&timer, 8));
    assert_true(bly_timer_should_trigger(&timer, 100));
}

static void test_timer__asking_changes_nothing__TM_05(void **state) {
    (void)state;
    bly_timer timer = make(0, 3);
    fire(&timer, 5);
    assert_true(bly_timer_should_trigger(&timer, 8));
    assert_true(bly_timer_should_trigger(&timer, 8));
    assert_int_equal(timer.last_step, 5);
    fire(&timer, 8);
    assert_false(bly_timer_should_trigger(&timer, 8));
    assert_true(bly_timer_should_trigger(&timer, 11));
}

static void test_timer__update_says_what_went_by__TM_06(void **state) {
    (void)state;
    bly_timer timer = make(0, 3);
    double secs;
    int64_t steps;
    assert_int_equal(bly_timer_update(&timer, 5, &secs, &steps), 0);
    now_us += 2500000;
    assert_int_equal(bly_timer_update(&timer, 9, &secs, &steps), 1);
    assert_true(secs == 2.5);
    assert_int_equal(steps, 4);
    fire(&timer, INT64_MAX); /* the variable wraps around */
    assert_int_equal(bly_timer_update(&timer, INT64_MIN, &secs, &steps), 1);
    assert_int_equal(steps, 1);
}

static void test_timer__reset_forgets_the_last_fire__TM_07(void **state) {
    (void)state;
    bly_timer timer = make(0, 3);
    fire(&timer, 5);
    bly_timer_reset(&timer);
    assert_true(bly_timer_should_trigger(&timer, 5));
    assert_int_equal(bly_timer_update(&timer, 5, NULL, NULL), 0);
}

static void test_timer__knows_the_step_it_fired_at__TM_08(void **state) {
    (void)state;
    bly_timer timer = make(0, 3);
    assert_false(timer.has_fired);
    fire(&timer, 5);
    assert_true(timer.has_fired);
    assert_int_equal(timer.last_step, 5);
}

static void test_timer__of_no_frequency_never_triggers__TM_09(void **state) {
    (void)state;
    bly_timer timer = BLY_TIMER_NEVER;
    assert_false(bly_timer_should_trigger(&timer, 0));
    assert_int_equal(bly_timer_update(&timer, 1, NULL, NULL), 0);
    now_us += 1000 * SECOND;
    assert_false(bly_timer_should_trigger(&timer, 1000));
    assert_int_equal(bly_timer_update(&timer, 2, NULL, NULL), 0);
    assert_true(bly_timer_next_step(&timer) == BELAY_NEVER);
    assert_true(bly_timer_next_ms(&timer) == BELAY_NEVER);
}

/* TM-10, BUG-52: the clock that a test steps is the monotonic one; the wall clock has no door here.
 */
static void test_timer__goes_by_the_monotonic_clock__TM_10(void **state) {
    (void)state;
    bly_timer timer = make(1, 0);
    fire(&timer, 5);
    assert_true(timer.last_us == bly_now_us());
    now_us += SECOND;
    assert_true(bly_timer_should_trigger(&timer, 6));
}

/* A hook that asks to be called a fraction of a millisecond early would be called again and again.
 */
static void test_timer__next_time_is_when_it_triggers(void **state) {
    (void)state;
    for (int64_t offset = 0; offset < 1500; offset += 7) {
        bly_timer timer = make(0.0105, 0);
        now_us = 77 * SECOND + offset;
        fire(&timer, 5);
        now_us = bly_timer_next_ms(&timer) * 1000;
        assert_true(bly_timer_should_trigger(&timer, 6));
        now_us -= 1000;
        assert_false(bly_timer_should_trigger(&timer, 6));
    }
}

static void test_timer__next_step_is_when_it_triggers(void **state) {
    (void)state;
    bly_timer timer = make(0, 10);
    assert_true(bly_timer_next_step(&timer) == INT64_MIN);
    fire(&timer, 7);
    assert_int_equal(bly_timer_next_step(&timer), 17);
    assert_true(bly_timer_next_ms(&timer) == BELAY_NEVER);
}

static void test_timer__frequencies_beyond_all_bounds_do_not_overflow(void **state) {
    (void)state;
    bly_timer by_steps = make(0, INT64_MAX), by_time = make(1e300, 0);
    fire(&by_steps, 5);
    fire(&by_time, 5);
    assert_false(bly_timer_should_trigger(&by_steps, 1000));
    assert_false(bly_timer_should_trigger(&by_time, 1000));
    assert_true(bly_timer_next_step(&by_steps) > 1000);
    assert_true(bly_timer_next_ms(&by_time) > now_us / 1000);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_timer__needs_exactly_one_frequency__TM_01),
        TEST(test_timer__triggers_for_any_step_before_it_fired__TM_02),
        TEST(test_timer__never_triggers_twice_for_one_step__TM_03),
        TEST(test_timer__by_seconds_triggers_when_they_are_over__TM_04),
        TEST(test_timer__by_steps_triggers_when_they_are_done__TM_04),
        TEST(test_timer__asking_changes_nothing__TM_05),
        TEST(test_timer__update_says_what_went_by__TM_06),
        TEST(test_timer__reset_forgets_the_last_fire__TM_07),
        TEST(test_timer__knows_the_step_it_fired_at__TM_08),
        TEST(test_timer__of_no_frequency_never_triggers__TM_09),
        TEST(test_timer__goes_by_the_monotonic_clock__TM_10),
        TEST(test_timer__next_time_is_when_it_triggers),
        TEST(test_timer__next_step_is_when_it_triggers),
        TEST(test_timer__frequencies_beyond_all_bounds_do_not_overflow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
