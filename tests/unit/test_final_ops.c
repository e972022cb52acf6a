/* The hook that takes values at the end: section HK-FINAL of the behaviour. */
#include "hooks_fixture.h"

#define FED "x = Placeholder() dtype=float shape=[]\ny = Identity(x) T=float\n"

static belay_hook *take(fixture *f, const char *const *fetches, const char *const *targets) {
    belay_final_ops_options options = BELAY_FINAL_OPS_OPTIONS_INIT;
    options.final_ops = fetches;
    options.targets = targets;
    return belay_final_ops_hook_new(&options, f->err);
}

static belay_tensor *number(float value) {
    belay_tensor *tensor = belay_tensor_new(BELAY_FLOAT, NULL, 0, NULL);
    assert_non_null(tensor);
    *(float *)belay_tensor_data(tensor) = value;
    return tensor;
}

static void test_final_ops__are_taken_at_the_end__HK_FINAL_01(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL LOSS "bye = NoOp()\n");
    belay_hook *hook = add_hook(
        f, take(f, (const char *[]){"global_step", "loss", NULL}, (const char *[]){"bye", NULL}));
    open_session(f);
    run_steps(f, 3);
    assert_null(belay_final_ops_hook_value(hook, 0)); /* HK-FINAL-02 */
    assert_int_equal(scripted_count("loss"), 0);
    close_session(f);
    assert_int_equal(scripted_count("loss"), 1);
    assert_int_equal(scripted_count("bye"), 1);
    assert_true(belay_tensor_number(belay_final_ops_hook_value(hook, 0), 0) == 3);
    assert_true(belay_tensor_number(belay_final_ops_hook_value(hook, 1), 0) == 0.5);
    assert_null(belay_final_ops_hook_value(hook, 2));
}

static void test_final_ops__may_be_fed__HK_FINAL_01(void **state) {
    fixture *f = *state;
    belay_final_ops_options options = BELAY_FINAL_OPS_OPTIONS_INIT;
    use_graph(f, MODEL FED);
    options.final_ops = (const char *[]){"y", NULL};
    options.feeds = (const char *[]){"x", NULL};
    options.inputs = (belay_tensor *[]){number(7)};
    belay_hook *hook = add_hook(f, belay_final_ops_hook_new(&options, f->err));
    open_session(f);
    run_steps(f, 1);
    close_session(f);
    assert_true(belay_tensor_number(belay_final_ops_hook_value(hook, 0), 0) == 7);
}

static void test_final_ops__may_be_nothing__HK_FINAL_01(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL);
    belay_hook *hook = add_hook(f, belay_final_ops_hook_new(NULL, f->err));
    open_session(f);
    run_steps(f, 1);
    size_t runs = scripted_run_count();
    close_session(f);
    assert_int_equal(scripted_run_count(), runs);
    assert_null(belay_final_ops_hook_value(hook, 0));
}

/* A wrong name is told before the first step, not after the last. */
static void test_final_ops__are_looked_up_at_the_start(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL);
    add_hook(f, take(f, (const char *[]){"nothing", NULL}, NULL));
    assert_int_equal(try_open(f), BELAY_NOT_FOUND);
}

/* What is given is freed, though no hook comes of it: leaks are seen by scripted_uninstall(). */
static void test_final_ops__own_their_inputs_in_any_case__ER_28(void **state) {
    fixture *f = *state;
    belay_final_ops_options options = BELAY_FINAL_OPS_OPTIONS_INIT;
    options.feeds = (const char *[]){"x", "z", NULL};
    options.inputs = (belay_tensor *[]){number(7), NULL};
    assert_not_made(f, belay_final_ops_hook_new(&options, f->err),
                    "there is no tensor to feed z with");
    options.inputs = NULL;
    assert_not_made(f, belay_final_ops_hook_new(&options, f->err),
                    "feeds are named, and inputs is NULL");
}

/* BUG-58, MS-47: warned about, and not swallowed; the next hook's end() is called all the same. */
static void test_final_ops__that_read_input_fail__HK_FINAL_03(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL LOSS "other = Const() dtype=float value=2\n");
    scripted_fail("loss", 1, BELAY_OUT_OF_RANGE, "End of sequence");
    belay_hook *failing = add_hook(f, take(f, (const char *[]){"loss", NULL}, NULL));
    belay_hook *next = add_hook(f, take(f, (const char *[]){"other", NULL}, NULL));
    open_session(f);
    run_steps(f, 1);
    assert_int_equal(try_close(f), BELAY_OUT_OF_RANGE);
    assert_int_equal(count_log(BELAY_LOG_WARNING, "the final ops read from an input"), 1);
    assert_null(belay_final_ops_hook_value(failing, 0));
    assert_true(belay_tensor_number(belay_final_ops_hook_value(next, 0), 0) == 2);
}

/* MS-11 */
static void test_final_ops__are_not_taken_after_a_failure__HK_FINAL_02(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL LOSS);
    scripted_fail("train", 2, BELAY_INTERNAL, "broken");
    belay_hook *hook = add_hook(f, take(f, (const char *[]){"loss", NULL}, NULL));
    open_session(f);
    run_steps(f, 1);
    assert_int_equal(run_once(f), BELAY_INTERNAL);
    assert_int_equal(try_close(f), BELAY_INTERNAL);
    assert_null(belay_final_ops_hook_value(hook, 0));
}

static void test_final_ops__have_no_value_in_other_hooks(void **state) {
    fixture *f = *state;
    belay_stop_at_step_options options = BELAY_STOP_AT_STEP_OPTIONS_INIT;
    options.last_step = 1;
    belay_hook *other = add_hook(f, belay_stop_at_step_hook_new(&options, f->err));
    assert_null(belay_final_ops_hook_value(other, 0));
    assert_null(belay_final_ops_hook_value(NULL, 0));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_final_ops__are_taken_at_the_end__HK_FINAL_01),
        TEST(test_final_ops__may_be_fed__HK_FINAL_01),
        TEST(test_final_ops__may_be_nothing__HK_FINAL_01),
        TEST(test_final_ops__are_looked_up_at_the_start),
        TEST(test_final_ops__own_their_inputs_in_any_case__ER_28),
        TEST(test_final_ops__that_read_input_fail__HK_FINAL_03),
        TEST(test_final_ops__are_not_taken_after_a_failure__HK_FINAL_02),
        TEST(test_final_ops__have_no_value_in_other_hooks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
