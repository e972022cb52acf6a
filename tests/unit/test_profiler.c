/* The hook that traces runs: section HK-PROF of the behaviour. The scripted runtime tells nothing
 * of a run; what a timeline holds is seen in tests/integration/test_timeline.c. */
#include "hooks_fixture.h"

static belay_hook *profile(fixture *f, int64_t steps, double secs) {
    belay_profiler_options options = BELAY_PROFILER_OPTIONS_INIT;
    options.save_steps = steps;
    options.save_secs = secs;
    options.output_dir = folder_of(f);
    return belay_profiler_hook_new(&options, f->err);
}

static void start_profiling(fixture *f, int64_t steps, double secs) {
    use_graph(f, MODEL);
    add_hook(f, profile(f, steps, secs));
    open_session(f);
}

static int has_timeline(fixture *f, int step) {
    char name[64];
    snprintf(name, sizeof name, "timeline-%d.json", step);
    return has_file(f, name);
}

static int was_traced(void) {
    uint8_t options[64];
    size_t size = scripted_last_run_options(options, sizeof options);
    return size >= 2 && options[0] == 0x08 && options[1] == 0x03;
}

/* TM-01, ER-28 */
static void test_profiler__wants_one_frequency__HK_PROF_01(void **state) {
    fixture *f = *state;
    belay_profiler_options options = BELAY_PROFILER_OPTIONS_INIT;
    assert_not_made(f, profile(f, 0, 0), "Either every_secs or every_steps should be provided.");
    assert_not_made(f, profile(f, 1, 1), "Can not provide both every_secs and every_steps.");
    options.save_steps = 1;
    options.flags = 4;
    assert_not_made(f, belay_profiler_hook_new(&options, f->err),
                    "flags has a bit set that this belay does not know");
}

static void test_profiler__needs_a_step__ER_29(void **state) {
    fixture *f = *state;
    add_hook(f, profile(f, 1, 0));
    assert_needs_a_step(f, "Global step should be created to use ProfilerHook.");
}

/* HK-PROF-02: in begin(), as every hook's; so a hook that is made and not used leaves no file. */
static void test_profiler__opens_its_events_in_begin__HK_PROF_02(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL);
    add_hook(f, profile(f, 1, 0));
    assert_int_equal(read_events(folder_of(f))->files, 0);
    open_session(f);
    close_session(f);
    free_hooks(f);
    assert_int_equal(read_events(folder_of(f))->files, 1);
}

static void test_profiler__does_not_trace_the_first_run__HK_PROF_03(void **state) {
    fixture *f = *state;
    start_profiling(f, 1, 0);
    run_steps(f, 1);
    assert_false(was_traced());
    assert_false(has_timeline(f, 1));
    run_steps(f, 1);
    assert_true(was_traced());
    assert_true(has_timeline(f, 2));
    close_session(f);
}

/* HK-PROF-04 */
static void test_profiler__traces_every_so_many_steps__HK_PROF_05(void **state) {
    fixture *f = *state;
    start_profiling(f, 2, 0);
    for (int i = 1; i <= 6; i++) {
        run_steps(f, 1);
        assert_int_equal(was_traced(), i % 2 == 0);
        assert_int_equal(has_timeline(f, i), i % 2 == 0);
    }
    close_session(f);
    assert_int_equal(count_log(BELAY_LOG_INFO, "Saving timeline for 4 into '"), 1); /* HK-PROF-06 */
    assert_int_equal(count_log(BELAY_LOG_INFO, "Saving timeline for "), 3);
}

static void test_profiler__traces_every_so_many_seconds__HK_PROF_04(void **state) {
    fixture *f = *state;
    start_profiling(f, 0, 1);
    run_steps_every(f, 9, 400);
    assert_false(has_timeline(f, 3));
    assert_true(has_timeline(f, 4)); /* 1.2 s after the first */
    assert_true(has_timeline(f, 7));
    assert_int_equal(count_log(BELAY_LOG_INFO, "Saving timeline for "), 2);
    close_session(f);
}

/* The step that counts again overwrites its timeline, and has no second event. */
static void test_profiler__survives_a_step_that_counts_again__BUG_46(void **state) {
    fixture *f = *state;
    start_profiling(f, 2, 0);
    run_steps(f, 3);
    scripted_fail("train", 4, BELAY_UNAVAILABLE, "Socket closed");
    run_steps(f, 4); /* 1, then 2 to 4 in the new session, whose variables start anew */
    assert_int_equal(count_log(BELAY_LOG_INFO, "Saving timeline for 2"), 2);
    run_steps(f, 2);
    close_session(f);
    event_list *events = read_events(folder_of(f));
    size_t found = 0;
    for (size_t i = 0; i < events->count; i++)
        found += strcmp(events->lines[i], "metadata step_2") == 0;
    assert_int_equal(found, 1);
}

static void test_profiler__costs_nothing_between(void **state) {
    fixture *f = *state;
    start_profiling(f, 1000, 0);
    run_steps(f, 10);
    bly_mem_count();
    run_steps(f, 100);
    assert_int_equal(bly_mem_count(), 0);
    assert_false(was_traced());
    close_session(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_profiler__wants_one_frequency__HK_PROF_01),
        TEST(test_profiler__needs_a_step__ER_29),
        TEST(test_profiler__opens_its_events_in_begin__HK_PROF_02),
        TEST(test_profiler__does_not_trace_the_first_run__HK_PROF_03),
        TEST(test_profiler__traces_every_so_many_steps__HK_PROF_05),
        TEST(test_profiler__traces_every_so_many_seconds__HK_PROF_04),
        TEST_WAITING(test_profiler__survives_a_step_that_counts_again__BUG_46),
        TEST(test_profiler__costs_nothing_between),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
