/* Evaluating one checkpoint over the real TensorFlow (HK-EVAL-04): it is restored by its name, ops
 * run until somebody asks to stop, and the final ops are the result. */
#include "session_run.h"

#include <belay/hooks.h>
#include <belay/run.h>

#define STEPS 4

/* Trains to STEPS, a checkpoint after each; the folder keeps all of them. */
static void train_model(struct trainee *t, const char *folder) {
    belay_training_options options = BELAY_TRAINING_OPTIONS_INIT;
    options.checkpoint_dir = folder;
    options.save_checkpoint_steps = 1;
    belay_monitored_session *session =
        belay_monitored_training_session_open(t->graph, &options, err);
    assert_made(session);
    train(t, trainee_step(t, session), STEPS);
    assert_ok(belay_monitored_session_close(session, err));
}

/* Counts the runs that it sees. */
static belay_code count_run(void *self, belay_run_context *run, belay_error *error) {
    (void)run;
    (void)error;
    ++*(int *)self;
    return BELAY_OK;
}

/* Evaluates PREFIX `evals` times; returns how many runs there were, and the step it was at. */
static int evaluate(const char *model, const char *prefix, int64_t evals, double *out_step) {
    struct trainee t = trainee_load(model);
    belay_evaluate_once_options options = BELAY_EVALUATE_ONCE_OPTIONS_INIT;
    belay_stop_after_evals_options until = BELAY_STOP_AFTER_EVALS_OPTIONS_INIT;
    belay_hook_vtable counting = {.struct_size = sizeof counting, .after_run = count_run};
    belay_tensor *step = NULL;
    int runs = 0;
    until.num_evals = evals;
    belay_hook *hooks[] = {belay_stop_after_evals_hook_new(&until, err),
                           belay_hook_new(&counting, &runs, err)};
    options.checkpoint_path = prefix;
    options.eval_ops = (const char *[]){"loss", NULL};
    options.feeds = t.feeds;
    options.inputs = t.inputs;
    options.final_ops = (const char *[]){"global_step", NULL};
    options.hooks = hooks;
    options.hook_count = 2;
    assert_ok(belay_evaluate_once(t.graph, &options, &step, err));
    *out_step = belay_tensor_number(step, 0);
    belay_tensor_free(step);
    belay_hook_free(hooks[0]);
    belay_hook_free(hooks[1]);
    trainee_free(&t);
    return runs;
}

/* HK-EVAL-04, CR-02, CR-03: of any checkpoint, not only the newest; and it is left as it is. */
static void test_evaluation__of_a_checkpoint_by_its_name(void **state) {
    const char *folder = TEST_WORK "/evaluation";
    (void)state;
    struct trainee t = trainee_load("plain_saver.meta");
    double step = -1;
    train_model(&t, folder);
    trainee_free(&t);
    assert_int_equal(evaluate("plain_saver.meta", TEST_WORK "/evaluation/model.ckpt-2", 3, &step),
                     3);
    assert_true(step == 2);
    assert_int_equal(evaluate("plain_saver.meta", TEST_WORK "/evaluation/model.ckpt-4", 1, &step),
                     1);
    assert_true(step == 4);
    char *newest = belay_latest_checkpoint(folder, err);
    assert_string_equal(newest, TEST_WORK "/evaluation/model.ckpt-4");
    belay_checkpoint_path_free(newest);
}

/* HK-EVAL-04: without ops to run there are only the final ones, which are fed what is theirs; what
 * the caller feeds stays his. */
static void test_evaluation__of_final_ops_alone(void **state) {
    (void)state;
    struct trainee t = trainee_load("plain_saver.meta");
    belay_evaluate_once_options options = BELAY_EVALUATE_ONCE_OPTIONS_INIT;
    belay_tensor *values[2] = {NULL, NULL};
    train_model(&t, TEST_WORK "/final");
    trainee_free(&t);
    t = trainee_load("plain_saver.meta");
    options.checkpoint_path = TEST_WORK "/final/model.ckpt-3";
    options.final_ops = (const char *[]){"global_step", "loss", NULL};
    options.final_feeds = t.feeds;
    options.final_inputs = t.inputs;
    for (int i = 0; i < 2; i++) {
        assert_ok(belay_evaluate_once(t.graph, &options, values, err));
        assert_true(belay_tensor_number(values[0], 0) == 3);
        assert_true(belay_tensor_number(values[1], 0) > 0);
        belay_tensor_free(values[0]);
        belay_tensor_free(values[1]);
    }
    options.checkpoint_path = TEST_WORK "/final/model.ckpt-17"; /* CR-02: which is not there */
    assert_int_not_equal(belay_evaluate_once(t.graph, &options, values, err), BELAY_OK);
    assert_null(values[0]);
    assert_null(values[1]);
    trainee_free(&t);
}

/* ER-28: what is wrong is told, and outputs are NULL. */
static void test_evaluation__checks_its_options(void **state) {
    belay_evaluate_once_options options = BELAY_EVALUATE_ONCE_OPTIONS_INIT;
    (void)state;
    belay_graph *graph = load("plain_saver.meta");
    belay_tensor *anything = scalar(1), *value = anything;
    options.final_ops = (const char *[]){"global_step", NULL};
    options.hook_count = 1;
    assert_fails(BELAY_INVALID_ARGUMENT, "hook number 0 is NULL",
                 belay_evaluate_once(graph, &options, &value, err));
    assert_null(value);
    value = anything;
    bly_fail(err, BELAY_NOT_FOUND, "no graph");
    assert_int_equal(belay_evaluate_once(NULL, &options, &value, err), BELAY_NOT_FOUND);
    assert_null(value);
    belay_error_clear(err);
    belay_tensor_free(anything);
    belay_graph_free(graph);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_evaluation__of_final_ops_alone),
        cmocka_unit_test(test_evaluation__of_a_checkpoint_by_its_name),
        cmocka_unit_test(test_evaluation__checks_its_options),
    };
    return cmocka_run_group_tests(tests, session_run_set_up, session_run_tear_down);
}
