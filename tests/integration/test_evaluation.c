/* An evaluation put together from its pieces, over the real TensorFlow (HK-EVAL-04): a chief's
 * creator restores one checkpoint by its name, steps run until should_stop, and the final ops are
 * the result. */
#include "session_run.h"

#include <belay/hooks.h>

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

/* Evaluates PREFIX `evals` times; returns how many runs there were, and the step it was at. */
static int evaluate(const char *model, const char *prefix, int64_t evals, double *out_step) {
    struct trainee t = trainee_load(model);
    belay_chief_session_creator_options chief = BELAY_CHIEF_SESSION_CREATOR_OPTIONS_INIT;
    belay_monitored_session_options options = BELAY_MONITORED_SESSION_OPTIONS_INIT;
    belay_stop_after_evals_options until = BELAY_STOP_AFTER_EVALS_OPTIONS_INIT;
    belay_final_ops_options last = BELAY_FINAL_OPS_OPTIONS_INIT;
    int runs = 0;
    until.num_evals = evals;
    last.final_ops = (const char *[]){"global_step", NULL};
    belay_hook *hooks[] = {belay_stop_after_evals_hook_new(&until, err),
                           belay_final_ops_hook_new(&last, err)};
    chief.checkpoint_filename_with_path = prefix;
    options.creator = belay_chief_session_creator_new(t.graph, &chief, err);
    assert_made(options.creator);
    options.hooks = hooks;
    options.hook_count = 2;
    belay_monitored_session *session = belay_monitored_session_open(t.graph, &options, err);
    assert_made(session);
    belay_step *step = belay_step_prepare(session, t.feeds, t.fetches, NULL, err);
    assert_made(step);
    for (; !belay_monitored_session_should_stop(session); runs++)
        assert_ok(belay_step_run(step, t.inputs, &t.loss, err));
    assert_ok(belay_monitored_session_close(session, err));
    const belay_tensor *value = belay_final_ops_hook_value(hooks[1], 0);
    assert_non_null(value);
    *out_step = belay_tensor_number(value, 0);
    belay_hook_free(hooks[0]);
    belay_hook_free(hooks[1]);
    belay_session_creator_free(options.creator);
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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_evaluation__of_a_checkpoint_by_its_name),
    };
    return cmocka_run_group_tests(tests, session_run_set_up, session_run_tear_down);
}
