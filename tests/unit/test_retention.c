/* Which checkpoints are kept. */
#include "checkpoint/retention.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define MOST  32
#define HOUR  3600.0
#define START 1.7e9

static const bly_retention_policy nothing = {0, 0, (double)NAN, 0, 0};

/* Checkpoints an hour apart, without metrics; the first was saved an hour after START. */
static size_t fill(bly_retention_entry *entries, size_t count) {
    for (size_t i = 0; i < count; i++)
        entries[i] = (bly_retention_entry){START + HOUR * (double)(i + 1), (double)NAN, 0};
    return count;
}

/* One letter a checkpoint: '-' deleted, else why it is kept. */
static void assert_kept(const bly_retention_entry *entries, size_t count,
                        const bly_retention_policy *policy, const char *wanted) {
    uint8_t why[MOST];
    char shown[MOST + 1] = "";
    bly_retention(entries, count, policy, why);
    for (size_t i = 0; i < count; i++)
        shown[i] = why[i] & BLY_KEEP_ALL     ? 'a'
                   : why[i] & BLY_KEEP_LAST  ? 'l'
                   : why[i] & BLY_KEEP_PIN   ? 'p'
                   : why[i] & BLY_KEEP_BEST  ? 'b'
                   : why[i] & BLY_KEEP_HOURS ? 'h'
                                             : '-';
    assert_string_equal(shown, wanted);
}

/* SV-30, and keep_last alone; BUG-34: all that is too much goes at once. */
static void test_retention__keeps_the_last(void **state) {
    (void)state;
    bly_retention_entry entries[MOST];
    bly_retention_policy policy = nothing;
    size_t count = fill(entries, 8);
    assert_kept(entries, count, &policy, "aaaaaaaa");
    policy.keep_last = -1;
    assert_kept(entries, count, &policy, "aaaaaaaa");
    policy.keep_last = 5;
    assert_kept(entries, count, &policy, "---lllll");
    policy.keep_last = 1;
    assert_kept(entries, count, &policy, "-------l");
    policy.keep_last = INT64_MAX;
    assert_kept(entries, count, &policy, "llllllll");
    assert_kept(entries, 0, &policy, "");
}

/* SV-34, SV-35: strictly later than each multiple of the hours. */
static void test_retention__keeps_one_every_so_many_hours(void **state) {
    (void)state;
    bly_retention_entry entries[MOST];
    bly_retention_policy policy = {2, 3, START, 0, 0};
    size_t count = fill(entries, 12);
    /* saved after 1, 2, ... 12 hours: the first later than 3, 6, 9 are those of 4, 7 and 10 */
    assert_kept(entries, count, &policy, "---h--h--hll");
    entries[2].saved += 0.001;
    assert_kept(entries, count, &policy, "--h---h--hll");
    policy.keep_every_hours = 0.5; /* each is the first of its period; the others are empty */
    assert_kept(entries, count, &policy, "hhhhhhhhhhll");
    policy.keep_every_hours = 10000; /* SV-01: as good as off */
    assert_kept(entries, count, &policy, "----------ll");
    policy.keep_every_hours = (double)NAN;
    assert_kept(entries, count, &policy, "----------ll");
    policy.keep_every_hours = -1;
    assert_kept(entries, count, &policy, "----------ll");
}

/* BUG-35: deleting as it goes, with any number of restarts, it keeps what one long run would have
 * kept. */
static void test_retention__gives_the_same_after_restarts(void **state) {
    (void)state;
    bly_retention_entry all[MOST], left[MOST];
    bly_retention_policy policy = {2, 3, START, 0, 0};
    size_t count = fill(all, 20), kept = 0;
    uint8_t why[MOST], whole[MOST];
    for (size_t i = 0; i < count; i++) {
        left[kept++] = all[i];
        bly_retention(left, kept, &policy, why);
        size_t n = 0;
        for (size_t j = 0; j < kept; j++)
            if (why[j])
                left[n++] = left[j];
        kept = n;
    }
    bly_retention(all, count, &policy, whole);
    size_t n = 0;
    for (size_t i = 0; i < count; i++)
        if (whole[i])
            assert_true(n < kept && left[n++].saved == all[i].saved);
    assert_int_equal(n, kept);
    assert_true(kept > 6);
}

static void test_retention__counts_from_the_oldest_where_the_start_is_unknown(void **state) {
    (void)state;
    bly_retention_entry entries[MOST];
    bly_retention_policy policy = {1, 3, (double)NAN, 0, 0};
    size_t count = fill(entries, 9);
    assert_kept(entries, count, &policy, "----h--hl");
}

static void test_retention__is_not_confused_by_clocks(void **state) {
    (void)state;
    bly_retention_entry entries[MOST];
    bly_retention_policy policy = {1, 3, START, 0, 0};
    size_t count = fill(entries, 6);
    entries[1].saved = (double)INFINITY; /* SV-37: given by name only */
    entries[2].saved = (double)NAN;
    entries[3].saved = -1e300;
    assert_kept(entries, count, &policy, "-h--hl");
    policy.keep_every_hours = 0;
    assert_kept(entries, count, &policy, "-h---l");
}

static void test_retention__keeps_the_best_and_the_pinned(void **state) {
    (void)state;
    static const double losses[] = {0.5, 0.1, (double)NAN, 0.1, 0.9, 0.2};
    bly_retention_entry entries[MOST];
    bly_retention_policy policy = {1, 0, (double)NAN, 1, 0};
    size_t count = fill(entries, 6);
    for (size_t i = 0; i < count; i++)
        entries[i].metric = losses[i];
    assert_kept(entries, count, &policy, "---b-l"); /* the newer of two that are equal */
    policy.keep_best = 2;
    assert_kept(entries, count, &policy, "-b-b-l");
    policy.keep_best = 100;
    assert_kept(entries, count, &policy, "bb-bbl");
    policy.keep_best = 1;
    policy.best_is_max = 1;
    entries[0].pinned = 1;
    assert_kept(entries, count, &policy, "p---bl");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_retention__keeps_the_last),
        cmocka_unit_test(test_retention__keeps_one_every_so_many_hours),
        cmocka_unit_test(test_retention__gives_the_same_after_restarts),
        cmocka_unit_test(test_retention__counts_from_the_oldest_where_the_start_is_unknown),
        cmocka_unit_test(test_retention__is_not_confused_by_clocks),
        cmocka_unit_test(test_retention__keeps_the_best_and_the_pinned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
