/* The hook that logs tensors: section HK-LOG of the behaviour. */
#include "hooks_fixture.h"

#include "session/hook.h"

/* Two constants, and an op with two outputs that nobody runs. */
#define TENSORS                                                                                    \
    "loss = Const() dtype=float value=0.5\n"                                                       \
    "accuracy = Const() dtype=double value=0.25\n"                                                 \
    "pairs = FIFOQueueV2() capacity=2 component_types={int64,int64}\n"                             \
    "two = QueueDequeueV2(pairs) component_types={int64,int64}\n"

static belay_logging_tensor_options options_for(const char *const *tensors, int64_t iterations) {
    belay_logging_tensor_options options = BELAY_LOGGING_TENSOR_OPTIONS_INIT;
    options.tensors = tensors;
    options.every_n_iter = iterations;
    return options;
}

static const char *const just_loss[] = {"loss", NULL};

static belay_hook *log_loss_every(fixture *f, int64_t iterations, double secs, uint32_t at_end) {
    belay_logging_tensor_options options = options_for(just_loss, iterations);
    options.every_n_secs = secs;
    options.at_end = at_end;
    return belay_logging_tensor_hook_new(&options, f->err);
}

/* How often the loss was logged. */
static size_t prints(void) {
    return count_log(BELAY_LOG_INFO, "loss = ");
}

/* ER-28 */
static void test_logging_tensor__needs_a_frequency_or_the_end__HK_LOG_02(void **state) {
    fixture *f = *state;
    const char *message = "either at_end and/or exactly one of every_n_iter and every_n_secs must "
                          "be provided.";
    assert_not_made(f, log_loss_every(f, 0, 0, 0), message);
    assert_not_made(f, log_loss_every(f, 1, 1, 0), message);
    assert_not_made(f, log_loss_every(f, 1, 1, 1), message);
    belay_hook_free(log_loss_every(f, 0, 0, 1));
    belay_hook_free(log_loss_every(f, 1, 0, 1));
    belay_hook_free(log_loss_every(f, 0, 1, 0));
    assert_int_equal(belay_error_code(f->err), BELAY_OK);
}

static void test_logging_tensor__refuses_a_frequency_below_one__HK_LOG_03(void **state) {
    fixture *f = *state;
    assert_not_made(f, log_loss_every(f, -3, 0, 0), "invalid every_n_iter=-3.");
    assert_not_made(f, log_loss_every(f, -3, 0, 1), "invalid every_n_iter=-3.");
}

static void test_logging_tensor__refuses_what_it_cannot_log__HK_LOG_01(void **state) {
    fixture *f = *state;
    static const char *const nothing[] = {NULL}, *const two[] = {"a", "b", NULL};
    belay_logging_tensor_options options = options_for(NULL, 1);
    assert_not_made(f, belay_logging_tensor_hook_new(&options, f->err),
                    "tensors must name what is to be logged");
    options.tensors = nothing;
    assert_not_made(f, belay_logging_tensor_hook_new(&options, f->err),
                    "tensors must name what is to be logged");
    options.tensors = two;
    options.tags = just_loss;
    assert_not_made(f, belay_logging_tensor_hook_new(&options, f->err),
                    "there are 2 tensors and 1 tags");
    options = options_for(just_loss, 1);
    options.at_end = 2;
    assert_not_made(f, belay_logging_tensor_hook_new(&options, f->err), "at_end must be 0 or 1");
}

static void test_logging_tensor__keeps_the_given_order__HK_LOG_04(void **state) {
    fixture *f = *state;
    static const char *const tensors[] = {"loss:0", "accuracy", NULL};
    belay_logging_tensor_options options = options_for(tensors, 1);
    use_graph(f, MODEL TENSORS);
    add_hook(f, belay_logging_tensor_hook_new(&options, f->err));
    open_session(f);
    run_steps(f, 1);
    close_session(f);
    assert_string_equal(log_with("loss", 0), "loss:0 = 0.5, accuracy = 0.25");
}

static void test_logging_tensor__uses_tags__HK_LOG_04(void **state) {
    fixture *f = *state;
    static const char *const tensors[] = {"loss", "accuracy", NULL}, *const tags[] = {"z", "a"};
    belay_logging_tensor_options options = options_for(tensors, 1);
    options.tags = tags;
    use_graph(f, MODEL TENSORS);
    add_hook(f, belay_logging_tensor_hook_new(&options, f->err));
    open_session(f);
    run_steps(f, 1);
    close_session(f);
    assert_int_equal(count_log(BELAY_LOG_INFO, "z = 0.5, a = 0.25"), 1);
}

static void test_logging_tensor__starts_anew_with_a_session__HK_LOG_05(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL TENSORS);
    add_hook(f, log_loss_every(f, 10, 0, 0));
    open_session(f);
    run_steps(f, 3);
    close_session(f);
    assert_int_equal(prints(), 1);
    open_session(f);
    run_steps(f, 1);
    assert_int_equal(prints(), 2);
    assert_null(strstr(log_with("loss = ", 1), "sec")); /* there is nothing to count from */
    close_session(f);
}

static void assert_not_found(fixture *f, const char *name, belay_code code) {
    const char *const tensors[] = {name, NULL};
    belay_logging_tensor_options options = options_for(tensors, 1);
    use_graph(f, MODEL TENSORS);
    add_hook(f, belay_logging_tensor_hook_new(&options, f->err));
    assert_int_equal(try_open(f), code);
    assert_non_null(strstr(belay_error_message(f->err), name));
    assert_int_equal(scripted_count("TF_NewSession"), 0);
}

static void test_logging_tensor__unknown_names_fail_in_begin__HK_LOG_06(void **state) {
    assert_not_found(*state, "lost", BELAY_NOT_FOUND);
}

static void test_logging_tensor__ambiguous_names_fail_in_begin__HK_LOG_06(void **state) {
    assert_not_found(*state, "two", BELAY_INVALID_ARGUMENT);
}

/* BUG-56 */
static void test_logging_tensor__a_variable_is_its_value__BUG_56(void **state) {
    fixture *f = *state;
    static const char *const tensors[] = {"global_step:0", NULL};
    belay_logging_tensor_options options = options_for(tensors, 1);
    options.at_end = 1;
    use_graph(f, MODEL);
    scripted_value("global_step/zero", 0, 41);
    add_hook(f, belay_logging_tensor_hook_new(&options, f->err));
    open_session(f);
    run_steps(f, 1);
    close_session(f);
    const char *line = log_with("global_step:0 = ", 0);
    assert_true(strcmp(line, "global_step:0 = 41") == 0 || strcmp(line, "global_step:0 = 42") == 0);
    assert_int_equal(strncmp(log_with("global_step:0 = ", 1), "global_step:0 = 42", 18), 0);
}

static void test_logging_tensor__prints_runs_0_n_2n__HK_LOG_08(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL TENSORS);
    scripted_value("global_step/zero", 0, 1000); /* the global step does not matter */
    add_hook(f, log_loss_every(f, 4, 0, 0));
    open_session(f);
    run_steps(f, 1);
    assert_int_equal(prints(), 1);
    run_steps(f, 3);
    assert_int_equal(prints(), 1);
    run_steps(f, 1);
    assert_int_equal(prints(), 2);
    run_steps(f, 4);
    assert_int_equal(prints(), 3);
    close_session(f);
    assert_int_equal(prints(), 3);
}

static void test_logging_tensor__prints_every_n_secs__HK_LOG_08(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL TENSORS);
    add_hook(f, log_loss_every(f, 0, 2, 0));
    open_session(f);
    run_steps_every(f, 9, 500); /* the first, the fifth and the ninth */
    close_session(f);
    assert_int_equal(prints(), 3);
}

static void test_logging_tensor__fetches_only_what_it_prints__HK_LOG_09(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL TENSORS);
    add_hook(f, log_loss_every(f, 4, 0, 0));
    open_session(f);
    run_steps(f, 12);
    close_session(f);
    assert_int_equal(scripted_count("loss"), 3);
}

static void test_logging_tensor__says_how_long_from_the_second_on__HK_LOG_10(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL TENSORS);
    add_hook(f, log_loss_every(f, 5, 0, 0));
    open_session(f);
    run_steps_every(f, 11, 250);
    close_session(f);
    assert_int_equal(count_log(BELAY_LOG_INFO, "loss"), 3);
    assert_string_equal(log_with("loss", 0), "loss = 0.5");
    assert_string_equal(log_with("loss", 1), "loss = 0.5 (1.250 sec)");
    assert_string_equal(log_with("loss", 2), "loss = 0.5 (1.250 sec)");
}

static void write_line(void *self, const char *const *tags, const belay_tensor *const *values,
                       size_t count, char *line, size_t room) {
    assert_int_equal(count, 2);
    assert_string_equal(tags[1], "accuracy");
    snprintf(line, room, "%s: %s is %g", (const char *)self, tags[0],
             belay_tensor_number(values[0], 0));
}

static void test_logging_tensor__a_formatter_writes_the_line__HK_LOG_12(void **state) {
    fixture *f = *state;
    static const char *const tensors[] = {"loss", "accuracy", NULL};
    static char name[] = "mine";
    belay_logging_tensor_options options = options_for(tensors, 1);
    options.formatter = write_line;
    options.formatter_self = name;
    use_graph(f, MODEL TENSORS);
    add_hook(f, belay_logging_tensor_hook_new(&options, f->err));
    open_session(f);
    run_steps(f, 2);
    close_session(f);
    assert_int_equal(count_log(BELAY_LOG_INFO, "loss"), 2);
    assert_string_equal(log_with("loss", 1), "mine: loss is 0.5");
}

static void test_logging_tensor__prints_once_more_at_the_end__HK_LOG_13(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL TENSORS);
    add_hook(f, log_loss_every(f, 100, 0, 1));
    open_session(f);
    run_steps(f, 3);
    scripted_value("loss", 0, 0.125);
    close_session(f);
    assert_int_equal(prints(), 2);
    assert_string_equal(log_with("loss = ", 1), "loss = 0.125 (0.000 sec)");
}

static void test_logging_tensor__or_only_at_the_end__HK_LOG_13(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL TENSORS);
    add_hook(f, log_loss_every(f, 0, 0, 1));
    open_session(f);
    run_steps(f, 3);
    assert_int_equal(scripted_count("loss"), 0);
    close_session(f);
    assert_string_equal(log_with("loss = ", 0), "loss = 0.5");
    assert_int_equal(prints(), 1);
}

/* It evaluates without feeds, so it may find the input used up; the training has ended well all the
 * same. */
static void test_logging_tensor__an_ended_input_is_no_failure__BUG_58(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL TENSORS);
    add_hook(f, log_loss_every(f, 0, 0, 1));
    open_session(f);
    run_steps(f, 3);
    scripted_fail("loss", 0, BELAY_OUT_OF_RANGE, "End of sequence");
    close_session(f);
    assert_int_equal(count_log(BELAY_LOG_WARNING, "End of sequence"), 1);
}

static void test_logging_tensor__another_error_at_the_end_is_one(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL TENSORS);
    add_hook(f, log_loss_every(f, 0, 0, 1));
    open_session(f);
    run_steps(f, 3);
    scripted_fail("loss", 0, BELAY_INVALID_ARGUMENT, "You must feed a value");
    assert_int_equal(try_close(f), BELAY_INVALID_ARGUMENT);
}

static void test_logging_tensor__counts_on_through_a_recovery__HK_LOG_14(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL TENSORS);
    add_hook(f, log_loss_every(f, 4, 0, 0));
    scripted_fail("train", 3, BELAY_UNAVAILABLE, "Socket closed");
    open_session(f);
    run_steps(f, 4); /* runs 0 to 3; the third needed two attempts */
    assert_int_equal(scripted_count("train"), 5);
    assert_int_equal(prints(), 1);
    run_steps(f, 1);
    assert_int_equal(prints(), 2);
    close_session(f);
}

static void test_logging_tensor__is_not_called_on_the_way(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL TENSORS);
    belay_hook *hook = add_hook(f, log_loss_every(f, 100, 0, 0));
    open_session(f);
    run_steps(f, 5);
    belay_when when = {BELAY_NEVER, BELAY_NEVER, BELAY_NEVER, BELAY_NEVER, BELAY_NEVER};
    hook->table.next_wanted(hook->self, belay_monitored_session_progress(f->session), &when);
    assert_int_equal(when.runs, 100);
    assert_true(when.at_step == BELAY_NEVER && when.from_step == BELAY_NEVER);
    assert_true(when.time_ms == BELAY_NEVER);
    close_session(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_logging_tensor__needs_a_frequency_or_the_end__HK_LOG_02),
        TEST(test_logging_tensor__refuses_a_frequency_below_one__HK_LOG_03),
        TEST(test_logging_tensor__refuses_what_it_cannot_log__HK_LOG_01),
        TEST(test_logging_tensor__keeps_the_given_order__HK_LOG_04),
        TEST(test_logging_tensor__uses_tags__HK_LOG_04),
        TEST(test_logging_tensor__starts_anew_with_a_session__HK_LOG_05),
        TEST(test_logging_tensor__unknown_names_fail_in_begin__HK_LOG_06),
        TEST(test_logging_tensor__ambiguous_names_fail_in_begin__HK_LOG_06),
        TEST(test_logging_tensor__a_variable_is_its_value__BUG_56),
        TEST(test_logging_tensor__prints_runs_0_n_2n__HK_LOG_08),
        TEST(test_logging_tensor__prints_every_n_secs__HK_LOG_08),
        TEST(test_logging_tensor__fetches_only_what_it_prints__HK_LOG_09),
        TEST(test_logging_tensor__says_how_long_from_the_second_on__HK_LOG_10),
        TEST(test_logging_tensor__a_formatter_writes_the_line__HK_LOG_12),
        TEST(test_logging_tensor__prints_once_more_at_the_end__HK_LOG_13),
        TEST(test_logging_tensor__or_only_at_the_end__HK_LOG_13),
        TEST(test_logging_tensor__an_ended_input_is_no_failure__BUG_58),
        TEST(test_logging_tensor__another_error_at_the_end_is_one),
        TEST_WAITING(test_logging_tensor__counts_on_through_a_recovery__HK_LOG_14),
        TEST(test_logging_tensor__is_not_called_on_the_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
