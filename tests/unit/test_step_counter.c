/* The hook that reports steps per second: section HK-STEP of the behaviour. */
#include "hooks_fixture.h"

#include "session/hook.h"

static belay_hook *count_every(fixture *f, int64_t steps, double secs) {
    belay_step_counter_options options = BELAY_STEP_COUNTER_OPTIONS_INIT;
    options.every_n_steps = steps;
    options.every_n_secs = secs;
    options.output_dir = folder_of(f);
    return belay_step_counter_hook_new(&options, f->err);
}

static const char *reports(fixture *f) {
    return events_with(folder_of(f), "global_step/sec");
}

/* ER-28 */
static void test_step_counter__needs_exactly_one_frequency__HK_STEP_01(void **state) {
    fixture *f = *state;
    const char *message = "exactly one of every_n_steps and every_n_secs should be provided.";
    assert_not_made(f, count_every(f, 1, 1), message);
    assert_not_made(f, count_every(f, BELAY_OFF, BELAY_OFF), message);
}

static void test_step_counter__counts_every_hundred_by_default__HK_STEP_01(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL);
    add_hook(f, count_every(f, 0, 0));
    open_session(f);
    run_steps_every(f, 101, 1000);
    close_session(f);
    assert_string_equal(reports(f), "global_step/sec=1 101");
}

/* ER-29 */
static void test_step_counter__needs_a_global_step__HK_STEP_02(void **state) {
    fixture *f = *state;
    add_hook(f, count_every(f, 1, 0));
    assert_needs_a_step(f, "Global step should be created to use StepCounterHook.");
}

static void test_step_counter__is_named_after_the_step__HK_STEP_02(void **state) {
    fixture *f = *state;
    use_graph(f, "steps/done = VarHandleOp() dtype=int64 shape=[] shared_name=\"steps/done\"\n"
                 "zero = Const() dtype=int64 value=0\none = Const() dtype=int64 value=1\n"
                 "assign = AssignVariableOp(steps/done, zero) dtype=int64\n"
                 "read = ReadVariableOp(steps/done) dtype=int64\n"
                 "variable steps/done in variables, global_step: initializer=assign "
                 "snapshot=read:0 initial=zero:0\n"
                 "init = NoOp(^assign)\ncollection init_op: init\n"
                 "train = AssignAddVariableOp(steps/done, one) dtype=int64\n");
    add_hook(f, count_every(f, 1, 0));
    open_session(f);
    run_steps_every(f, 2, 500);
    close_session(f);
    assert_string_equal(events_with(folder_of(f), "steps/done/sec"), "steps/done/sec=2 2");
}

/* The writer of a folder is one for all hooks; one that is given wins. */
static void test_step_counter__writes_where_it_is_told__HK_STEP_02(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL);
    const char *given = in_folder(f, "given"), *unused = in_folder(f, "unused");
    belay_step_counter_options options = BELAY_STEP_COUNTER_OPTIONS_INIT;
    options.every_n_steps = 1;
    options.summary_writer = belay_summary_writer_open(given, NULL, f->err);
    options.output_dir = unused;
    assert_non_null(options.summary_writer);
    add_hook(f, belay_step_counter_hook_new(&options, f->err));
    belay_summary_writer_unref(options.summary_writer); /* the hook keeps its own hold */
    open_session(f);
    run_steps_every(f, 2, 1000);
    close_session(f);
    assert_string_equal(events_with(given, "global_step"), "global_step/sec=1 2");
    assert_false(bly_is_directory(unused));
    bly_remove_directory(given, NULL);
}

static void test_step_counter__rate_is_steps_over_time__HK_STEP_03(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL);
    add_hook(f, count_every(f, 20, 0));
    open_session(f);
    run_steps_every(f, 21, 50);
    run_steps_every(f, 20, 500);
    close_session(f);
    assert_string_equal(reports(f), "global_step/sec=20 21; global_step/sec=2 41");
}

static void test_step_counter__by_seconds__HK_STEP_03(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL);
    add_hook(f, count_every(f, BELAY_OFF, 10));
    open_session(f);
    run_steps_every(f, 1, 0);
    run_steps_every(f, 50, 250); /* 12.5 s: the fortieth ends 10 s after the first */
    close_session(f);
    assert_string_equal(reports(f), "global_step/sec=4 41");
}

static void test_step_counter__fires_silently_at_first__HK_STEP_04(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL);
    add_hook(f, count_every(f, 10, 0));
    open_session(f);
    run_steps_every(f, 31, 100);
    close_session(f);
    assert_string_equal(reports(f),
                        "global_step/sec=10 11; global_step/sec=10 21; global_step/sec=10 31");
}

static void test_step_counter__logs_the_rate__HK_STEP_05(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL);
    belay_step_counter_options options = BELAY_STEP_COUNTER_OPTIONS_INIT;
    options.every_n_steps = 10;
    add_hook(f, belay_step_counter_hook_new(&options, f->err)); /* no folder: only the log */
    open_session(f);
    run_steps_every(f, 11, 3);
    close_session(f);
    assert_int_equal(count_log(BELAY_LOG_INFO, "global_step/sec"), 1);
    assert_string_equal(log_with("global_step/sec", 0), "global_step/sec: 333.333");
    assert_int_equal(read_events(folder_of(f))->files, 0);
}

/* The first runs are looked at one by one. It comes first in main(): the limit is the process's. */
static void test_step_counter__warns_five_times_in_all__HK_STEP_06(void **state) {
    fixture *f = *state;
    use_graph(f, SCRIPTED_GLOBAL_STEP SCRIPTED_INIT "train = NoOp()\n");
    add_hook(f, count_every(f, 10, 0));
    open_session(f);
    run_steps(f, 1);
    assert_int_equal(count_log(BELAY_LOG_WARNING, "has not been increased"), 0);
    run_steps(f, 1);
    assert_int_equal(count_log(BELAY_LOG_WARNING, "has not been increased"), 1);
    run_steps(f, 1);
    assert_int_equal(count_log(BELAY_LOG_WARNING, "has not been increased"), 2);
    close_session(f);

    /* Later too, where it counted at first. */
    use_graph(f, MODEL "nothing = NoOp()\n");
    open_session(f);
    run_steps(f, 50);
    assert_int_equal(count_log(BELAY_LOG_WARNING, "has not been increased"), 2);
    f->step = belay_step_prepare(f->session, NULL, NULL, (const char *[]){"nothing", NULL}, f->err);
    run_steps(f, 12);
    assert_in_range(count_log(BELAY_LOG_WARNING, "has not been increased"), 3, 4);
    run_steps(f, 100);
    assert_int_equal(count_log(BELAY_LOG_WARNING, "has not been increased"), 5);
    close_session(f);
}

static void test_step_counter__starts_anew_after_a_recovery__BUG_45(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL);
    add_hook(f, count_every(f, 10, 0));
    open_session(f);
    run_steps_every(f, 25, 100);
    scripted_fail("train", 26, BELAY_UNAVAILABLE, "Socket closed");
    run_steps_every(f, 12, 100); /* from step 0 again */
    close_session(f);
    assert_int_equal(scripted_count("train"), 38);
    assert_string_equal(reports(f),
                        "global_step/sec=10 11; global_step/sec=10 21; global_step/sec=10 11");
    /* So readers forget the rates of the steps that are run again, also without a summary hook. */
    assert_string_equal(events_with(folder_of(f), "START"), "START 1; START 1");
}

static void test_step_counter__no_time_is_no_rate__BUG_53(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL);
    add_hook(f, count_every(f, 10, 0));
    open_session(f);
    run_steps(f, 21);
    run_steps_every(f, 10, 100);
    close_session(f);
    assert_string_equal(reports(f), "global_step/sec=10 31");
}

/* HK-STEP-07 says that the hook does nothing at the end; then the last reports would stay in
 * memory. */
static void test_step_counter__last_report_is_in_the_file__BUG_48(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL);
    add_hook(f, count_every(f, 1, 0));
    open_session(f);
    run_steps_every(f, 5, 1000);
    close_session(f); /* the hook still lives */
    assert_non_null(strstr(reports(f), "global_step/sec=1 5"));
}

static void test_step_counter__a_failed_write_is_the_runs_error(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL);
    const char *folder = in_folder(f, "given");
    belay_step_counter_options options = BELAY_STEP_COUNTER_OPTIONS_INIT;
    options.every_n_steps = 1;
    options.output_dir = folder;
    add_hook(f, belay_step_counter_hook_new(&options, f->err));
    scratch_write(folder, "", 0); /* a file, where a folder should be made */
    assert_int_not_equal(try_open(f), BELAY_OK);
}

/* After the first runs it is called every N steps, and where a run did not count. */
static void test_step_counter__is_not_called_on_the_way(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL);
    belay_hook *hook = add_hook(f, count_every(f, 100, 0));
    open_session(f);
    run_steps(f, 50);
    belay_when when = {BELAY_NEVER, BELAY_NEVER, BELAY_NEVER, BELAY_NEVER, BELAY_NEVER};
    belay_progress now = {.runs = 50, .global_step = 50, .now_ms = 0};
    hook->table.next_wanted(hook->self, &now, &when);
    assert_int_equal(when.at_step, 101);
    assert_int_equal(when.runs, 150);
    assert_true(when.from_step == BELAY_NEVER && when.time_ms == BELAY_NEVER);
    close_session(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_step_counter__warns_five_times_in_all__HK_STEP_06),
        TEST(test_step_counter__needs_exactly_one_frequency__HK_STEP_01),
        TEST(test_step_counter__counts_every_hundred_by_default__HK_STEP_01),
        TEST(test_step_counter__needs_a_global_step__HK_STEP_02),
        TEST(test_step_counter__is_named_after_the_step__HK_STEP_02),
        TEST(test_step_counter__writes_where_it_is_told__HK_STEP_02),
        TEST(test_step_counter__rate_is_steps_over_time__HK_STEP_03),
        TEST(test_step_counter__by_seconds__HK_STEP_03),
        TEST(test_step_counter__fires_silently_at_first__HK_STEP_04),
        TEST(test_step_counter__logs_the_rate__HK_STEP_05),
        TEST_WAITING(test_step_counter__starts_anew_after_a_recovery__BUG_45),
        TEST(test_step_counter__no_time_is_no_rate__BUG_53),
        TEST(test_step_counter__last_report_is_in_the_file__BUG_48),
        TEST(test_step_counter__a_failed_write_is_the_runs_error),
        TEST(test_step_counter__is_not_called_on_the_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
