/* The hook that ends an evaluation: section HK-EVAL of the behaviour. */
#include "hooks_fixture.h"

#define STEP                                                                                       \
    "eval_step = VarHandleOp() dtype=int64 shape=[] shared_name=\"eval_step\"\n"                   \
    "eval_step/zero = Const() dtype=int64 value=0\n"                                               \
    "eval_step/Assign = AssignVariableOp(eval_step, eval_step/zero) dtype=int64\n"                 \
    "eval_step/Read = ReadVariableOp(eval_step) dtype=int64\n"                                     \
    "variable eval_step in local_variables: initializer=eval_step/Assign "                         \
    "snapshot=eval_step/Read:0 initial=eval_step/zero:0\n"                                         \
    "collection eval_step: eval_step:0\n"

static belay_hook *stop_after(fixture *f, int64_t evals, const char *counter, uint32_t no_log) {
    belay_stop_after_evals_options options = BELAY_STOP_AFTER_EVALS_OPTIONS_INIT;
    options.num_evals = evals;
    options.evals_completed = counter;
    options.no_log = no_log;
    return belay_stop_after_evals_hook_new(&options, f->err);
}

static void test_stop_after_evals__checks_its_options__ER_28(void **state) {
    fixture *f = *state;
    assert_not_made(f, stop_after(f, -1, NULL, 0), "num_evals is -1");
    assert_not_made(f, stop_after(f, 1, NULL, 2), "no_log must be 0 or 1");
}

static void test_stop_after_evals__counts_for_itself__HK_EVAL_01(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL);
    add_hook(f, stop_after(f, 3, NULL, 0));
    open_session(f);
    assert_int_equal(run_until_stop(f), 3);
    assert_int_equal(count_log(BELAY_LOG_INFO, "Evaluation [1/3]"), 1);
    assert_int_equal(count_log(BELAY_LOG_INFO, "Evaluation [2/3]"), 1);
    assert_int_equal(count_log(BELAY_LOG_INFO, "Evaluation [3/3]"), 1);
    close_session(f);
}

/* A run is one evaluation to all of them, and so it is in the next session of the graph. */
static void test_stop_after_evals__of_several_the_first_ends__HK_EVAL_01(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL STEP);
    add_hook(f, stop_after(f, 6, NULL, 0));
    add_hook(f, stop_after(f, 4, NULL, 1));
    for (int i = 0; i < 2; i++) {
        open_session(f);
        assert_int_equal(run_until_stop(f), 4);
        assert_int_equal(count_log(BELAY_LOG_INFO, "Evaluation [4/6]"), i + 1);
        close_session(f);
    }
}

/* The graph's variable is the one that counts. */
static void test_stop_after_evals__uses_the_graphs_counter__HK_EVAL_03(void **state) {
    fixture *f = *state;
    double value;
    use_graph(f, MODEL STEP);
    add_hook(f, stop_after(f, 4, NULL, 0));
    open_session(f);
    assert_int_equal(run_until_stop(f), 4);
    assert_true(scripted_variable(NULL, "eval_step", &value));
    assert_true(value == 4);
    close_session(f);
}

static void test_stop_after_evals__there_is_one_counter__HK_EVAL_03(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL STEP "collection eval_step: eval_step:0, global_step:0\n");
    add_hook(f, stop_after(f, 4, NULL, 0));
    assert_int_equal(try_open(f), BELAY_INVALID_ARGUMENT);
    assert_non_null(strstr(belay_error_message(f->err), "collection 'eval_step'"));
}

static void test_stop_after_evals__fetches_what_it_is_given__HK_EVAL_01(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL "done = Const() dtype=int64 value=1\n");
    scripted_value("done", 5, 9);
    add_hook(f, stop_after(f, 9, "done", 0));
    open_session(f);
    assert_int_equal(run_until_stop(f), 5);
    close_session(f);
}

/* Of several numbers none is the count: the evaluation would never end. */
static void test_stop_after_evals__refuses_what_is_no_count__HK_EVAL_01(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL "two = Const() dtype=int64 value=[1,2]\n");
    add_hook(f, stop_after(f, 9, "two", 0));
    open_session(f);
    assert_int_equal(run_once(f), BELAY_INVALID_ARGUMENT);
    assert_string_equal(belay_error_message(f->err), "two is not a count of evaluations");
}

static void test_stop_after_evals__logs_about_ten__HK_EVAL_02(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL);
    add_hook(f, stop_after(f, 25, NULL, 0)); /* every 2nd, and the last */
    open_session(f);
    assert_int_equal(run_until_stop(f), 25);
    assert_int_equal(count_log(BELAY_LOG_INFO, "Evaluation ["), 13);
    assert_int_equal(count_log(BELAY_LOG_INFO, "Evaluation [1/25]"), 0);
    assert_int_equal(count_log(BELAY_LOG_INFO, "Evaluation [24/25]"), 1);
    assert_int_equal(count_log(BELAY_LOG_INFO, "Evaluation [25/25]"), 1);
    close_session(f);
}

static void test_stop_after_evals__or_when_input_ends__HK_EVAL_01(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL);
    scripted_fail("train", 24, BELAY_OUT_OF_RANGE, "End of sequence");
    add_hook(f, stop_after(f, 0, NULL, 0));
    open_session(f);
    run_steps(f, 23);
    assert_false(belay_monitored_session_should_stop(f->session));
    assert_int_equal(run_once(f), BELAY_OUT_OF_RANGE);
    assert_int_equal(count_log(BELAY_LOG_INFO, "Evaluation [23]"), 1); /* HK-EVAL-02 */
    assert_int_equal(count_log(BELAY_LOG_INFO, "Evaluation ["), 23);
    close_session(f);
}

static void test_stop_after_evals__may_be_silent(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL);
    add_hook(f, stop_after(f, 2, NULL, 1));
    open_session(f);
    assert_int_equal(run_until_stop(f), 2);
    assert_int_equal(count_log(BELAY_LOG_INFO, "Evaluation"), 0);
    close_session(f);
}

/* A new session's counter starts at 0, as a local variable does. */
static void test_stop_after_evals__starts_anew_after_a_recovery(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL);
    scripted_fail("train", 3, BELAY_UNAVAILABLE, "Socket closed");
    add_hook(f, stop_after(f, 4, NULL, 0));
    open_session(f);
    assert_int_equal(run_until_stop(f), 6);
    close_session(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_stop_after_evals__checks_its_options__ER_28),
        TEST(test_stop_after_evals__counts_for_itself__HK_EVAL_01),
        TEST(test_stop_after_evals__of_several_the_first_ends__HK_EVAL_01),
        TEST(test_stop_after_evals__uses_the_graphs_counter__HK_EVAL_03),
        TEST(test_stop_after_evals__there_is_one_counter__HK_EVAL_03),
        TEST(test_stop_after_evals__fetches_what_it_is_given__HK_EVAL_01),
        TEST(test_stop_after_evals__refuses_what_is_no_count__HK_EVAL_01),
        TEST(test_stop_after_evals__logs_about_ten__HK_EVAL_02),
        TEST(test_stop_after_evals__or_when_input_ends__HK_EVAL_01),
        TEST(test_stop_after_evals__may_be_silent),
        TEST_WAITING(test_stop_after_evals__starts_anew_after_a_recovery),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
