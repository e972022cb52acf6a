/* The hook that stops at a step: section HK-STOP of the behaviour. */
#include "hooks_fixture.h"

#include "session/hook.h"

static belay_hook *stop_at(fixture *f, int64_t num_steps, int64_t last_step) {
    belay_stop_at_step_options options = BELAY_STOP_AT_STEP_OPTIONS_INIT;
    options.num_steps = num_steps;
    options.last_step = last_step;
    return belay_stop_at_step_hook_new(&options, f->err);
}

static belay_hook *save_every(fixture *f, int64_t steps) {
    belay_checkpoint_saver_options options = BELAY_CHECKPOINT_SAVER_OPTIONS_INIT;
    options.checkpoint_dir = folder_of(f);
    options.save_steps = steps;
    options.scaffold = f->scaffold;
    return belay_checkpoint_saver_hook_new(&options, f->err);
}

/* ER-28 */
static void test_stop_at_step__needs_exactly_one_target__HK_STOP_01(void **state) {
    fixture *f = *state;
    assert_not_made(f, stop_at(f, 0, 0), "One of num_steps or last_step must be specified.");
    assert_not_made(f, stop_at(f, 3, 3), "Only one of num_steps or last_step can be specified.");
    assert_not_made(f, belay_stop_at_step_hook_new(NULL, f->err),
                    "One of num_steps or last_step must be specified.");
}

/* ER-29 */
static void test_stop_at_step__needs_a_global_step__HK_STOP_02(void **state) {
    fixture *f = *state;
    add_hook(f, stop_at(f, 3, 0));
    assert_needs_a_step(f, "Global step should be created to use StopAtStepHook.");
}

static void test_stop_at_step__num_steps_count_from_the_first_session__HK_STOP_03(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL);
    scripted_value("global_step/zero", 0, 40);
    add_hook(f, stop_at(f, 5, 0));
    open_session(f);
    assert_int_equal(run_until_stop(f), 5);
    assert_int_equal(global_step(f), 45);
    close_session(f);
}

static void test_stop_at_step__a_recovery_does_not_move_the_target__HK_STOP_03(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL);
    f->restore_from = folder_of(f);
    add_hook(f, save_every(f, 1));
    add_hook(f, stop_at(f, 5, 0));
    scripted_fail("train", 4, BELAY_UNAVAILABLE, "Socket closed");
    open_session(f);
    assert_int_equal(run_until_stop(f), 5);
    assert_int_equal(global_step(f), 5);
    assert_int_equal(scripted_count("train"), 6);
    close_session(f);
}

static void test_stop_at_step__ends_after_the_run_that_gets_there__HK_STOP_05(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL);
    add_hook(f, stop_at(f, 0, 3));
    open_session(f);
    run_steps(f, 2);
    assert_false(belay_monitored_session_should_stop(f->session));
    run_steps(f, 1);
    assert_true(belay_monitored_session_should_stop(f->session));
    close_session(f);
}

/* HK-STOP-04 has it fetch the step in every run; belay's session knows it, and the hook is called
 * when it is reached. */
static void test_stop_at_step__goes_by_the_step_not_by_runs__HK_STOP_04(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL "nothing = NoOp()\n");
    add_hook(f, stop_at(f, 0, 2));
    open_session(f);
    belay_step *nothing =
        belay_step_prepare(f->session, NULL, NULL, (const char *[]){"nothing", NULL}, f->err);
    assert_non_null(nothing);
    for (int i = 0; i < 5; i++)
        assert_ok(f, belay_step_run(nothing, NULL, NULL, f->err));
    assert_int_equal(run_until_stop(f), 2);
    close_session(f);
}

/* HK-STOP-06 is TensorFlow's: one run more. */
static void test_stop_at_step__runs_nothing_beyond_its_target__BUG_55(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL);
    scripted_value("global_step/zero", 0, 7);
    add_hook(f, stop_at(f, 0, 7));
    open_session(f);
    assert_true(belay_monitored_session_should_stop(f->session));
    const char *why;
    assert_int_equal(belay_monitored_session_end_reason(f->session, &why), BELAY_END_HOOK);
    assert_string_equal(why, "StopAtStepHook asked to stop");
    assert_int_equal(run_until_stop(f), 0);
    close_session(f);
    assert_int_equal(scripted_count("train"), 0);
}

/* Of a negative number too the target is behind: TensorFlow takes it, and runs once. */
static void test_stop_at_step__runs_nothing_for_a_negative_target__BUG_55(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL);
    for (int i = 0; i < 2; i++) {
        add_hook(f, i == 0 ? stop_at(f, -3, 0) : stop_at(f, 0, -3));
        open_session(f);
        assert_int_equal(run_until_stop(f), 0);
        close_session(f);
        free_hooks(f);
    }
    assert_int_equal(scripted_count("train"), 0);
}

static void test_stop_at_step__may_overshoot__HK_STOP_07(void **state) {
    fixture *f = *state;
    use_graph(f, SCRIPTED_GLOBAL_STEP SCRIPTED_INIT
              "three = Const() dtype=int64 value=3\n"
              "train = AssignAddVariableOp(global_step, three) dtype=int64\n");
    add_hook(f, stop_at(f, 0, 5));
    open_session(f);
    assert_int_equal(run_until_stop(f), 2);
    assert_int_equal(global_step(f), 6);
    close_session(f);
}

static void test_stop_at_step__counts_anew_in_another_session__BUG_54(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL);
    f->restore_from = folder_of(f);
    add_hook(f, save_every(f, 100));
    add_hook(f, stop_at(f, 3, 0));
    open_session(f);
    assert_int_equal(run_until_stop(f), 3);
    close_session(f);
    open_session(f);
    assert_int_equal(run_until_stop(f), 3);
    assert_int_equal(global_step(f), 6);
    close_session(f);
}

static void test_stop_at_step__is_not_called_on_the_way(void **state) {
    fixture *f = *state;
    belay_progress now = {.runs = 12, .global_step = 12, .now_ms = 0};
    use_graph(f, MODEL);
    belay_hook *hook = add_hook(f, stop_at(f, 0, 1000));
    open_session(f);
    belay_when when = {BELAY_NEVER, BELAY_NEVER, BELAY_NEVER, BELAY_NEVER, BELAY_NEVER};
    hook->table.next_wanted(hook->self, &now, &when);
    assert_true(when.runs == BELAY_NEVER && when.from_step == BELAY_NEVER);
    assert_true(when.time_ms == BELAY_NEVER);
    assert_int_equal(when.at_step, 1000);
    close_session(f);
}

/* ---- where a run does several steps (HK-MSTOP) ---- */

#define LOOP                                                                                       \
    SCRIPTED_GLOBAL_STEP SCRIPTED_INIT SCRIPTED_SAVER                                              \
        "many = VarHandleOp() dtype=int32 shape=[] shared_name=\"many\"\n"                         \
        "many/one = Const() dtype=int32 value=1\n"                                                 \
        "many/Assign = AssignVariableOp(many, many/one) dtype=int32\n"                             \
        "many/Read = ReadVariableOp(many) dtype=int32\n"                                           \
        "variable many in local_variables: initializer=many/Assign snapshot=many/Read:0 "          \
        "initial=many/one:0\n"                                                                     \
        "collection hooks_steps_per_run: many:0\n"                                                 \
        "amount = Cast(many/Read) SrcT=int32 DstT=int64\n"                                         \
        "train = AssignAddVariableOp(global_step, amount) dtype=int64\n"

static belay_hook *stop_multi(fixture *f, int64_t num_steps, int64_t last_step, int64_t each) {
    belay_multi_step_stop_options options = BELAY_MULTI_STEP_STOP_OPTIONS_INIT;
    options.num_steps = num_steps;
    options.last_step = last_step;
    options.steps_per_run = each;
    return belay_multi_step_stop_hook_new(&options, f->err);
}

static void test_multi_step_stop__checks_its_options__HK_MSTOP_01(void **state) {
    fixture *f = *state;
    assert_not_made(f, stop_multi(f, 0, 0, 1), "One of num_steps or last_step must be specified.");
    assert_not_made(f, stop_multi(f, 1, 1, 1),
                    "Only one of num_steps or last_step can be specified.");
    assert_not_made(f, stop_multi(f, 1, 0, -1),
                    "steps_per_run should be greater than 0 and an int32, and is -1");
    assert_not_made(f, stop_multi(f, 1, 0, INT64_C(1) << 31),
                    "steps_per_run should be greater than 0 and an int32, and is 2147483648");
}

/* 4, 4, and the 2 that are left. */
static void test_multi_step_stop__does_what_is_left_in_the_last_run__HK_MSTOP_01(void **state) {
    fixture *f = *state;
    use_graph(f, LOOP);
    add_hook(f, stop_multi(f, 0, 10, 4));
    open_session(f);
    assert_int_equal(run_until_stop(f), 3);
    assert_int_equal(global_step(f), 10);
    close_session(f);
}

static void test_multi_step_stop__counts_from_the_first_session__HK_MSTOP_01(void **state) {
    fixture *f = *state;
    use_graph(f, LOOP);
    scripted_fail("train", 2, BELAY_UNAVAILABLE, "Socket closed");
    add_hook(f, stop_multi(f, 3, 0, 5));
    open_session(f);
    run_until_stop(f);
    assert_int_equal(global_step(f), 3);
    close_session(f);
}

/* Written only where it changes. */
static void test_multi_step_stop__writes_the_variable_once(void **state) {
    fixture *f = *state;
    use_graph(f, LOOP);
    add_hook(f, stop_multi(f, 0, 100, 4));
    open_session(f);
    run_steps(f, 5);
    size_t runs = scripted_run_count();
    run_steps(f, 5);
    assert_int_equal(scripted_run_count(), runs + 5);
    close_session(f);
}

static void test_multi_step_stop__makes_a_variable__HK_MSTOP_02(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL);
    add_hook(f, stop_multi(f, 0, 4, 3));
    open_session(f);
    assert_true(belay_graph_has_op(f->graph, "hooks/steps_per_run/variable"));
    assert_int_equal(run_until_stop(f), 4);
    close_session(f);
}

static void test_multi_step_stop__there_is_one_variable__HK_MSTOP_02(void **state) {
    fixture *f = *state;
    use_graph(f, LOOP "collection hooks_steps_per_run: many:0, global_step:0\n");
    add_hook(f, stop_multi(f, 0, 4, 3));
    assert_int_equal(try_open(f), BELAY_FAILED_PRECONDITION);
    assert_non_null(strstr(belay_error_message(f->err), "hooks_steps_per_run"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_stop_at_step__needs_exactly_one_target__HK_STOP_01),
        TEST(test_stop_at_step__needs_a_global_step__HK_STOP_02),
        TEST(test_stop_at_step__num_steps_count_from_the_first_session__HK_STOP_03),
        TEST_WAITING(test_stop_at_step__a_recovery_does_not_move_the_target__HK_STOP_03),
        TEST(test_stop_at_step__goes_by_the_step_not_by_runs__HK_STOP_04),
        TEST(test_stop_at_step__ends_after_the_run_that_gets_there__HK_STOP_05),
        TEST(test_stop_at_step__runs_nothing_beyond_its_target__BUG_55),
        TEST(test_stop_at_step__runs_nothing_for_a_negative_target__BUG_55),
        TEST(test_stop_at_step__may_overshoot__HK_STOP_07),
        TEST(test_stop_at_step__counts_anew_in_another_session__BUG_54),
        TEST(test_stop_at_step__is_not_called_on_the_way),
        TEST(test_multi_step_stop__checks_its_options__HK_MSTOP_01),
        TEST(test_multi_step_stop__does_what_is_left_in_the_last_run__HK_MSTOP_01),
        TEST_WAITING(test_multi_step_stop__counts_from_the_first_session__HK_MSTOP_01),
        TEST(test_multi_step_stop__writes_the_variable_once),
        TEST(test_multi_step_stop__makes_a_variable__HK_MSTOP_02),
        TEST(test_multi_step_stop__there_is_one_variable__HK_MSTOP_02),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
