/* Waiting between attempts, by a clock that the test owns. */
#include "stepped_clock.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/thread.h"
#include "session/backoff.h"

#include <belay/coordinator.h>

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static int set_up(void **state) {
    (void)state;
    stepped_clock_install(STEPPED_AUTO);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    stepped_clock_uninstall();
    return 0;
}

static bly_backoff_result pause_once(bly_backoff *backoff) {
    return bly_backoff_pause(backoff, NULL, NULL);
}

/* BUG-16: where an attempt costs something. */
static void test_backoff__pauses_between_tries_double(void **state) {
    static const int64_t expected[] = {50, 150, 350, 750, 1550, 2550, 3550};
    bly_backoff backoff;
    (void)state;
    bly_backoff_start(&backoff, BLY_BACKOFF_TRIES, BELAY_FOREVER, 1, NULL, NULL);
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        assert_int_equal(pause_once(&backoff), BLY_BACKOFF_AGAIN);
        assert_int_equal(stepped_clock_now_ms(), expected[i]);
    }
    assert_true(fabs(bly_backoff_elapsed_secs(&backoff) - 3.55) < 1e-9);
    /* One that is shorter than the first. */
    bly_backoff_start(&backoff, BLY_BACKOFF_TRIES, BELAY_FOREVER, 0.01, NULL, NULL);
    pause_once(&backoff);
    pause_once(&backoff);
    assert_int_equal(stepped_clock_now_ms(), 3570);
}

/* Looks from now on until the time of the test's clock is `until_ms`, and then once more. Returns
 * how late that was. */
static int64_t late_after(bly_backoff *backoff, int64_t until_ms) {
    while (stepped_clock_now_ms() < until_ms)
        assert_int_equal(pause_once(backoff), BLY_BACKOFF_AGAIN);
    return stepped_clock_now_ms() - until_ms;
}

/* TO-01, SM-36: what becomes ready is seen within a second, however long that took, for as long as
 * somebody may be looking on; and pauses still grow. */
static void test_backoff__sees_within_a_second_what_becomes_ready(void **state) {
    bly_backoff backoff;
    (void)state;
    for (int64_t ready_ms = 0; ready_ms <= 600000; ready_ms += ready_ms / 3 + 7) {
        int64_t start = stepped_clock_now_ms();
        bly_backoff_start(&backoff, BLY_BACKOFF_LOOKS, BELAY_FOREVER, 30, NULL, NULL);
        int64_t late = late_after(&backoff, start + ready_ms);
        assert_true(late <= 500);
        assert_true(late <= 50 + ready_ms / 8);
    }
}

static int64_t pause_after(bly_backoff *backoff, int64_t waited_ms) {
    late_after(backoff, waited_ms);
    int64_t before = stepped_clock_now_ms();
    pause_once(backoff);
    return stepped_clock_now_ms() - before;
}

static void test_backoff__looks_less_often_after_ten_minutes(void **state) {
    bly_backoff backoff;
    (void)state;
    bly_backoff_start(&backoff, BLY_BACKOFF_LOOKS, BELAY_FOREVER, 30, NULL, NULL);
    assert_int_equal(pause_after(&backoff, 0), 50);
    assert_in_range(pause_after(&backoff, 2000), 249, 320);
    assert_int_equal(pause_after(&backoff, 60000), 500);
    assert_in_range(pause_after(&backoff, 7200000), 6000, 6100);
    assert_int_equal(pause_after(&backoff, 100000000), 30000);
    /* The longest pause is the caller's. */
    int64_t start = stepped_clock_now_ms();
    bly_backoff_start(&backoff, BLY_BACKOFF_LOOKS, BELAY_FOREVER, 0.02, NULL, NULL);
    assert_int_equal(pause_after(&backoff, start + 60000), 20);
}

/* BUG-25, BUG-27, SM-12: by the clock, and one more attempt falls on the deadline. */
static void test_backoff__cuts_the_last_pause_to_the_deadline(void **state) {
    bly_backoff backoff;
    (void)state;
    bly_backoff_start(&backoff, BLY_BACKOFF_TRIES, 0.2, 30, NULL, NULL);
    assert_int_equal(pause_once(&backoff), BLY_BACKOFF_AGAIN);
    stepped_clock_advance_ms(40); /* the attempt itself takes time, too */
    assert_int_equal(pause_once(&backoff), BLY_BACKOFF_AGAIN);
    assert_int_equal(stepped_clock_now_ms(), 190);
    assert_int_equal(pause_once(&backoff), BLY_BACKOFF_AGAIN);
    assert_int_equal(stepped_clock_now_ms(), 200);
    assert_int_equal(pause_once(&backoff), BLY_BACKOFF_EXPIRED);
    assert_int_equal(stepped_clock_now_ms(), 200);
}

static void test_backoff__without_time_expires_at_once(void **state) {
    bly_backoff backoff;
    (void)state;
    bly_backoff_start(&backoff, BLY_BACKOFF_TRIES, 0, 30, NULL, NULL);
    assert_int_equal(pause_once(&backoff), BLY_BACKOFF_EXPIRED);
    bly_backoff_start(&backoff, BLY_BACKOFF_TRIES, BELAY_AT_ONCE, 30, NULL, NULL);
    assert_int_equal(pause_once(&backoff), BLY_BACKOFF_EXPIRED);
    assert_int_equal(stepped_clock_now_ms(), 0);
}

/* A wait of a week, with the longest pause unlimited too: no overflow. */
static void test_backoff__waits_as_long_as_it_is_told(void **state) {
    bly_backoff backoff;
    int pauses = 0;
    (void)state;
    bly_backoff_start(&backoff, BLY_BACKOFF_TRIES, 7 * 86400, INFINITY, NULL, NULL);
    while (pause_once(&backoff) == BLY_BACKOFF_AGAIN)
        pauses++;
    assert_int_equal(stepped_clock_now_ms(), INT64_C(7) * 86400 * 1000);
    assert_true(pauses < 40);
}

struct stop {
    atomic_int flag;
    int64_t after_ms;
};

static void set_later(void *self) {
    struct stop *stop = self;
    bly_mutex mutex;
    bly_cond cond;
    bly_mutex_init(&mutex);
    bly_cond_init(&cond);
    bly_mutex_lock(&mutex);
    while (bly_wait_until(&cond, &mutex, stop->after_ms * 1000))
        ;
    bly_mutex_unlock(&mutex);
    bly_cond_clean_up(&cond);
    bly_mutex_clean_up(&mutex);
    atomic_store(&stop->flag, 1);
}

/* Design, section 8: a stop may come from a signal handler, which wakes nobody. */
static void test_backoff__ends_soon_after_either_stop_is_set(void **state) {
    (void)state;
    for (int which = 0; which < 2; which++) {
        bly_backoff backoff;
        struct stop stop = {0, stepped_clock_now_ms() + 20000};
        atomic_int other = 0;
        bly_backoff_start(&backoff, BLY_BACKOFF_TRIES, BELAY_FOREVER, 3600,
                          which ? &other : &stop.flag, which ? &stop.flag : &other);
        bly_thread *thread = bly_thread_start("stop", set_later, &stop, NULL);
        assert_non_null(thread);
        while (pause_once(&backoff) == BLY_BACKOFF_AGAIN)
            ;
        assert_in_range(stepped_clock_now_ms() - stop.after_ms, 0, 100);
        bly_thread_join(thread);
        assert_int_equal(pause_once(&backoff), BLY_BACKOFF_STOPPED);
        bly_backoff_start(&backoff, BLY_BACKOFF_TRIES, 0, 1, &stop.flag,
                          NULL); /* a stop comes before a deadline */
        assert_int_equal(pause_once(&backoff), BLY_BACKOFF_STOPPED);
    }
}

struct reports {
    int count;
    int64_t last_ms;
    double elapsed_secs;
};

static void count_report(void *self, double elapsed_secs) {
    struct reports *reports = self;
    int64_t now = stepped_clock_now_ms();
    if (reports->count++ > 0)
        assert_in_range(now - reports->last_ms, 10000, 10500);
    reports->last_ms = now;
    reports->elapsed_secs = elapsed_secs;
}

/* Design, section 8: a report at the start and then every 10 s, also in the middle of a pause. */
static void test_backoff__reports_every_ten_seconds(void **state) {
    bly_backoff backoff;
    struct reports reports = {0, 0, 0};
    (void)state;
    bly_backoff_start(&backoff, BLY_BACKOFF_LOOKS, 65, 30, NULL, NULL);
    while (bly_backoff_pause(&backoff, count_report, &reports) == BLY_BACKOFF_AGAIN)
        ;
    assert_in_range(reports.count, 6, 7);
    assert_in_range((int)reports.elapsed_secs, 60, 65);
    reports = (struct reports){0, 0, 0};
    bly_backoff_start(&backoff, BLY_BACKOFF_TRIES, 300, 120, NULL, NULL);
    while (bly_backoff_pause(&backoff, count_report, &reports) == BLY_BACKOFF_AGAIN)
        ;
    assert_in_range(reports.count, 29, 31);
}

static void test_check_secs__takes_durations_and_nothing_else(void **state) {
    BLY_LOCAL_ERROR(err);
    (void)state;
    static const double good[] = {0, 0.001, 1e300, INFINITY, BELAY_FOREVER, BELAY_AT_ONCE};
    static const double bad[] = {-0.5, -3, NAN, -INFINITY};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_int_equal(bly_check_secs("wait", good[i], &err), BELAY_OK);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(bly_check_secs("wait", bad[i], &err), BELAY_INVALID_ARGUMENT);
        assert_non_null(strstr(err.message, "wait is "));
    }
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_backoff__pauses_between_tries_double),
        TEST(test_backoff__sees_within_a_second_what_becomes_ready),
        TEST(test_backoff__looks_less_often_after_ten_minutes),
        TEST(test_backoff__cuts_the_last_pause_to_the_deadline),
        TEST(test_backoff__without_time_expires_at_once),
        TEST(test_backoff__waits_as_long_as_it_is_told),
        TEST(test_backoff__ends_soon_after_either_stop_is_set),
        TEST(test_backoff__reports_every_ten_seconds),
        TEST(test_check_secs__takes_durations_and_nothing_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
