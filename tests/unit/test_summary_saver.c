/* The hook that writes the graph's summaries: section HK-SUM of the behaviour. */
#include "hooks_fixture.h"

#include "session/hook.h"

/* A summary that says how often it was evaluated, by being evaluated: see scripted_count(). */
#define SUMMARY "summary = Const() dtype=string value=\"\"\n"

static belay_hook *summarize_every(fixture *f, int64_t steps, double secs) {
    belay_summary_saver_options options = BELAY_SUMMARY_SAVER_OPTIONS_INIT;
    options.save_steps = steps;
    options.save_secs = secs;
    options.output_dir = folder_of(f);
    options.summary_op = "summary";
    return belay_summary_saver_hook_new(&options, f->err);
}

static belay_hook *summarize_scaffold(fixture *f) {
    belay_summary_saver_options options = BELAY_SUMMARY_SAVER_OPTIONS_INIT;
    options.save_steps = 1;
    options.output_dir = folder_of(f);
    options.scaffold = f->scaffold;
    return belay_summary_saver_hook_new(&options, f->err);
}

static const char *summaries(fixture *f) {
    return events_with(folder_of(f), "summary");
}

static const char *starts(fixture *f) {
    return events_with(folder_of(f), "START");
}

/* ER-28 */
static void test_summary_saver__needs_exactly_one_source__HK_SUM_01(void **state) {
    fixture *f = *state;
    const char *message = "Exactly one of scaffold or summary_op must be provided.";
    use_graph(f, MODEL SUMMARY);
    belay_summary_saver_options options = BELAY_SUMMARY_SAVER_OPTIONS_INIT;
    options.save_steps = 1;
    assert_not_made(f, belay_summary_saver_hook_new(&options, f->err), message);
    options.scaffold = f->scaffold;
    options.summary_op = "summary";
    assert_not_made(f, belay_summary_saver_hook_new(&options, f->err), message);
}

/* TM-01 */
static void test_summary_saver__needs_exactly_one_frequency__HK_SUM_01(void **state) {
    fixture *f = *state;
    assert_not_made(f, summarize_every(f, 0, 0),
                    "Either every_secs or every_steps should be provided.");
    assert_not_made(f, summarize_every(f, 1, 1),
                    "Can not provide both every_secs and every_steps.");
}

/* ER-29 */
static void test_summary_saver__needs_a_global_step__HK_SUM_02(void **state) {
    fixture *f = *state;
    add_hook(f, summarize_every(f, 1, 0));
    assert_needs_a_step(f, "Global step should be created to use SummarySaverHook.");
}

static void test_summary_saver__writes_where_it_is_told__HK_SUM_02(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL SUMMARY);
    const char *given = in_folder(f, "given"), *unused = in_folder(f, "unused");
    belay_summary_saver_options options = BELAY_SUMMARY_SAVER_OPTIONS_INIT;
    options.save_steps = 1;
    options.summary_op = "summary";
    options.summary_writer = belay_summary_writer_open(given, NULL, f->err);
    options.output_dir = unused;
    assert_non_null(options.summary_writer);
    add_hook(f, belay_summary_saver_hook_new(&options, f->err));
    belay_summary_writer_unref(options.summary_writer); /* the hook keeps its own hold */
    open_session(f);
    run_steps(f, 2);
    close_session(f);
    assert_string_equal(events_with(given, "summary"), "summary 1; summary 2");
    assert_false(bly_is_directory(unused));
    bly_remove_directory(given, NULL);
}

static void test_summary_saver__fetches_only_where_it_writes__HK_SUM_03(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL SUMMARY);
    add_hook(f, summarize_every(f, 8, 0));
    open_session(f);
    run_steps(f, 8);
    assert_int_equal(scripted_count("summary"),
                     1); /* the first run: it does not know the step yet */
    run_steps(f, 1);
    assert_int_equal(scripted_count("summary"), 2);
    close_session(f);
}

static void test_summary_saver__starts_with_a_start_event__HK_SUM_04(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL SUMMARY);
    scripted_value("global_step/zero", 0, 40);
    add_hook(f, summarize_every(f, 2, 0));
    open_session(f);
    run_steps(f, 3);
    close_session(f);
    assert_string_equal(starts(f), "START 41");
    assert_string_equal(summaries(f), "summary 41; summary 43");
    event_list *events = read_events(folder_of(f));
    /* After the file's own first record and the graph, which no checkpoint hook adds here (EV-20).
     */
    assert_string_equal(events->lines[1], "graph");
    assert_string_equal(events->lines[2], "meta_graph");
    assert_string_equal(events->lines[3], "START 41");
}

/* The step of an event is the one that its run ended at, whatever the run counts. */
static void test_summary_saver__writes_the_exact_step__HK_SUM_04(void **state) {
    fixture *f = *state;
    use_graph(f, SCRIPTED_GLOBAL_STEP SCRIPTED_INIT SUMMARY
              "three = Const() dtype=int64 value=3\n"
              "train = AssignAddVariableOp(global_step, three) dtype=int64\n");
    add_hook(f, summarize_every(f, 4, 0));
    open_session(f);
    run_steps(f, 6);
    close_session(f);
    /* The run from 6 could end at 7, which would be due: so it is a summary run. */
    assert_string_equal(summaries(f), "summary 3; summary 9; summary 15");
}

static void test_summary_saver__every_eight_steps__HK_SUM_05(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL SUMMARY);
    add_hook(f, summarize_every(f, 8, 0));
    open_session(f);
    run_steps(f, 30);
    close_session(f);
    assert_string_equal(summaries(f), "summary 1; summary 9; summary 17; summary 25");
    assert_string_equal(starts(f), "START 1");
}

static void test_summary_saver__by_seconds__HK_SUM_03(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL SUMMARY);
    add_hook(f, summarize_every(f, 0, 2));
    open_session(f);
    run_steps_every(f, 10, 500);
    close_session(f);
    assert_string_equal(summaries(f), "summary 1; summary 5; summary 9");
}

static void test_summary_saver__end_flushes__HK_SUM_06(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL SUMMARY);
    belay_summary_saver_options options = BELAY_SUMMARY_SAVER_OPTIONS_INIT;
    const char *given = in_folder(f, "given");
    belay_summary_writer *writer = belay_summary_writer_open(given, NULL, f->err);
    options.save_steps = 1;
    options.summary_op = "summary";
    options.summary_writer = writer;
    add_hook(f, belay_summary_saver_hook_new(&options, f->err));
    open_session(f);
    run_steps(f, 5);
    close_session(
        f); /* the writer stays open: without the flush nothing would be in the file yet */
    assert_non_null(strstr(events_with(given, "summary"), "summary 5"));
    belay_summary_writer_unref(writer);
    free_hooks(f);
    bly_remove_directory(given, NULL);
}

/* HK-SUM-07 is TensorFlow's: there the summary op is evaluated for nobody. */
static void test_summary_saver__without_writer_evaluates_nothing__BUG_44(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL SUMMARY);
    belay_summary_saver_options options = BELAY_SUMMARY_SAVER_OPTIONS_INIT;
    options.save_steps = 1;
    options.summary_op = "summary";
    add_hook(f, belay_summary_saver_hook_new(&options, f->err));
    open_session(f);
    run_steps(f, 5);
    close_session(f);
    assert_int_equal(scripted_count("summary"), 0);
    assert_int_equal(read_events(folder_of(f))->files, 0);
}

static void test_summary_saver__takes_the_scaffolds_op__HK_SUM_01(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL SUMMARY "collection summary_op: summary\n");
    add_hook(f, summarize_scaffold(f));
    open_session(f);
    run_steps(f, 2);
    close_session(f);
    assert_string_equal(summaries(f), "summary 1; summary 2");
}

static void test_summary_saver__a_graph_without_summaries_has_starts_only__HK_SUM_08(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL);
    add_hook(f, summarize_scaffold(f));
    open_session(f);
    run_steps(f, 5);
    close_session(f);
    assert_string_equal(starts(f), "START 1");
    assert_int_equal(read_events(folder_of(f))->count, 4); /* with version, graph and meta graph */
}

/* EV-23: a session that ends, cleanly or not, leaves no STOP: readers see where it ended. */
static void test_summary_saver__no_stop_event_is_written__EV_23(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL SUMMARY);
    for (int failing = 0; failing < 2; failing++) {
        belay_stop_at_step_options stop = BELAY_STOP_AT_STEP_OPTIONS_INIT;
        stop.num_steps = 2;
        add_hook(f, summarize_every(f, 1, 0));
        add_hook(f, belay_stop_at_step_hook_new(&stop, f->err));
        open_session(f);
        if (failing)
            scripted_fail("train", 3, BELAY_INVALID_ARGUMENT, "no");
        while (!belay_monitored_session_should_stop(f->session) && run_once(f) == BELAY_OK)
            ;
        assert_int_equal(try_close(f), failing ? BELAY_INVALID_ARGUMENT : BELAY_OK);
        free_hooks(f);
    }
    assert_string_equal(events_with(folder_of(f), "STOP"), "");
    assert_non_null(strstr(starts(f), "START 1"));
}

static void test_summary_saver__goes_on_after_a_recovery__BUG_45(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL SUMMARY);
    add_hook(f, summarize_every(f, 8, 0));
    open_session(f);
    run_steps(f, 20);
    scripted_fail("train", 21, BELAY_UNAVAILABLE, "Socket closed");
    run_steps(f, 10); /* from step 0 again */
    close_session(f);
    assert_int_equal(scripted_count("train"), 31);
    assert_string_equal(starts(f), "START 1; START 1");
    assert_string_equal(summaries(f), "summary 1; summary 9; summary 17; summary 1; summary 9");
}

/* Three hooks on one file: it is one session all the same. */
static void test_summary_saver__one_start_event_a_session__HK_SUM_04(void **state) {
    fixture *f = *state;
    belay_step_counter_options counter = BELAY_STEP_COUNTER_OPTIONS_INIT;
    counter.output_dir = folder_of(f);
    use_graph(f, MODEL SUMMARY);
    add_hook(f, belay_step_counter_hook_new(&counter, f->err));
    add_hook(f, summarize_every(f, 8, 0));
    add_hook(f, summarize_every(f, 4, 0));
    open_session(f);
    run_steps(f, 3);
    scripted_fail("train", 4, BELAY_UNAVAILABLE, "Socket closed");
    run_steps(f, 3);
    close_session(f);
    assert_string_equal(starts(f), "START 1; START 1");
}

static void test_summary_saver__refuses_an_op_it_cannot_write(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL "summary = Const() dtype=float value=1\n");
    add_hook(f, summarize_every(f, 1, 0));
    assert_int_equal(try_open(f), BELAY_INVALID_ARGUMENT);
    assert_string_equal(belay_error_message(f->err),
                        "summary is of type float32, not a serialised summary");
}

static void test_summary_saver__refuses_an_op_that_is_not_there(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL);
    add_hook(f, summarize_every(f, 1, 0));
    assert_int_equal(try_open(f), BELAY_NOT_FOUND);
    assert_int_equal(read_events(folder_of(f))->files, 0);
}

static belay_when wanted(const fixture *f, int64_t runs, int64_t step) {
    const belay_hook *hook = f->hooks[0];
    belay_when when = {BELAY_NEVER, BELAY_NEVER, BELAY_NEVER, BELAY_NEVER, BELAY_NEVER};
    belay_progress now = {.runs = runs, .global_step = step, .now_ms = 0};
    hook->table.next_wanted(hook->self, &now, &when);
    return when;
}

static void test_summary_saver__is_not_called_on_the_way(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL SUMMARY);
    add_hook(f, summarize_every(f, 100, 0));
    open_session(f);
    run_steps(f, 5);
    belay_when when = wanted(f, 5, 5);
    assert_int_equal(when.from_step, 100); /* that run ends at 101 */
    assert_true(when.runs == BELAY_NEVER && when.at_step == BELAY_NEVER);
    assert_true(when.time_ms == BELAY_NEVER);
    close_session(f);
}

static void test_summary_saver__is_not_called_where_there_is_nothing_to_write(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL);
    add_hook(f, summarize_scaffold(f));
    open_session(f);
    run_steps(f, 5);
    belay_when when = wanted(f, 5, 5);
    assert_true(when.from_step == BELAY_NEVER && when.runs == BELAY_NEVER);
    close_session(f);
    when = wanted(f, 5, 5); /* and now there is no writer */
    assert_true(when.from_step == BELAY_NEVER && when.runs == BELAY_NEVER);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_summary_saver__needs_exactly_one_source__HK_SUM_01),
        TEST(test_summary_saver__needs_exactly_one_frequency__HK_SUM_01),
        TEST(test_summary_saver__needs_a_global_step__HK_SUM_02),
        TEST(test_summary_saver__writes_where_it_is_told__HK_SUM_02),
        TEST(test_summary_saver__fetches_only_where_it_writes__HK_SUM_03),
        TEST(test_summary_saver__starts_with_a_start_event__HK_SUM_04),
        TEST(test_summary_saver__writes_the_exact_step__HK_SUM_04),
        TEST(test_summary_saver__every_eight_steps__HK_SUM_05),
        TEST_WAITING(test_summary_saver__one_start_event_a_session__HK_SUM_04),
        TEST(test_summary_saver__by_seconds__HK_SUM_03),
        TEST(test_summary_saver__end_flushes__HK_SUM_06),
        TEST(test_summary_saver__without_writer_evaluates_nothing__BUG_44),
        TEST(test_summary_saver__takes_the_scaffolds_op__HK_SUM_01),
        TEST(test_summary_saver__a_graph_without_summaries_has_starts_only__HK_SUM_08),
        TEST(test_summary_saver__no_stop_event_is_written__EV_23),
        TEST_WAITING(test_summary_saver__goes_on_after_a_recovery__BUG_45),
        TEST(test_summary_saver__refuses_an_op_it_cannot_write),
        TEST(test_summary_saver__refuses_an_op_that_is_not_there),
        TEST(test_summary_saver__is_not_called_on_the_way),
        TEST(test_summary_saver__is_not_called_where_there_is_nothing_to_write),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
