/* All hooks in one session, with the n-th allocation failing, until nothing fails any more. */
#include "failing_alloc.h"
#include "hooks_fixture.h"

static const char *const logged[] = {"loss", "global_step", NULL};

/* Each hook is freed with the session or, where that was not made, here. */
static belay_code make_hooks(fixture *f, belay_error *err) {
    belay_stop_at_step_options stop = BELAY_STOP_AT_STEP_OPTIONS_INIT;
    belay_checkpoint_saver_options saver = BELAY_CHECKPOINT_SAVER_OPTIONS_INIT;
    belay_step_counter_options counter = BELAY_STEP_COUNTER_OPTIONS_INIT;
    belay_logging_tensor_options logging = BELAY_LOGGING_TENSOR_OPTIONS_INIT;
    belay_summary_saver_options summaries = BELAY_SUMMARY_SAVER_OPTIONS_INIT;
    belay_nan_tensor_options nan = BELAY_NAN_TENSOR_OPTIONS_INIT;
    stop.last_step = 2;
    saver.checkpoint_dir = counter.output_dir = summaries.output_dir = folder_of(f);
    saver.scaffold = f->scaffold;
    saver.save_steps = 2;
    saver.flags = BELAY_CHECKPOINT_SAVER_META_ONCE;
    counter.every_n_steps = 1;
    logging.tensors = logged;
    logging.every_n_iter = 1;
    logging.at_end = 1;
    summaries.save_steps = 1;
    summaries.summary_op = "summary";
    nan.loss_tensor = "loss";
    belay_hook *hooks[] = {
        belay_stop_at_step_hook_new(&stop, err),       belay_step_counter_hook_new(&counter, err),
        belay_summary_saver_hook_new(&summaries, err), belay_checkpoint_saver_hook_new(&saver, err),
        belay_logging_tensor_hook_new(&logging, err),  belay_nan_tensor_hook_new(&nan, err),
    };
    int all = 1;
    for (size_t i = 0; i < sizeof hooks / sizeof hooks[0]; i++) {
        if (hooks[i])
            f->hooks[f->hook_count++] = hooks[i];
        all &= hooks[i] != NULL;
    }
    return all ? BELAY_OK : belay_error_code(err);
}

static belay_code feed_nothing(void *self, const belay_progress *now, belay_tensor **tensors,
                               belay_error *err) {
    (void)self;
    (void)now;
    if (!tensors[0])
        tensors[0] = belay_tensor_new(BELAY_FLOAT, NULL, 0, err);
    return tensors[0] ? BELAY_OK : belay_error_code(err);
}

static belay_code make_other_hooks(fixture *f, belay_error *err) {
    belay_multi_step_stop_options stop = BELAY_MULTI_STEP_STOP_OPTIONS_INIT;
    belay_global_step_waiter_options wait = BELAY_GLOBAL_STEP_WAITER_OPTIONS_INIT;
    belay_final_ops_options final_ops = BELAY_FINAL_OPS_OPTIONS_INIT;
    belay_feed_fn_options feed = BELAY_FEED_FN_OPTIONS_INIT;
    belay_stop_after_evals_options evals = BELAY_STOP_AFTER_EVALS_OPTIONS_INIT;
    stop.last_step = 2;
    stop.steps_per_run = 3;
    final_ops.final_ops = logged;
    final_ops.feeds = (const char *[]){"loss", NULL};
    belay_tensor *fed = belay_tensor_new(BELAY_FLOAT, NULL, 0, err);
    if (!fed)
        return belay_error_code(err);
    final_ops.inputs = &fed;
    feed.feeds = (const char *[]){"loss", NULL};
    feed.feed_fn = feed_nothing;
    evals.num_evals = 2;
    belay_hook *hooks[] = {
        belay_multi_step_stop_hook_new(&stop, err),   belay_global_step_waiter_hook_new(&wait, err),
        belay_final_ops_hook_new(&final_ops, err),    belay_feed_fn_hook_new(&feed, err),
        belay_stop_after_evals_hook_new(&evals, err),
    };
    int all = 1;
    for (size_t i = 0; i < sizeof hooks / sizeof hooks[0]; i++) {
        if (hooks[i])
            f->hooks[f->hook_count++] = hooks[i];
        all &= hooks[i] != NULL;
    }
    return all ? BELAY_OK : belay_error_code(err);
}

static belay_code train(fixture *f, belay_code (*make)(fixture *f, belay_error *err),
                        belay_error *err) {
    f->graph = scripted_graph(MODEL LOSS "summary = Const() dtype=string value=\"\"\n", err);
    f->scaffold = f->graph ? belay_scaffold_new(f->graph, NULL, err) : NULL;
    if (!f->scaffold || make(f, err) != BELAY_OK)
        return belay_error_code(err);
    belay_code code = try_open(f);
    for (int i = 0; code == BELAY_OK && i < 2; i++) {
        stepped_clock_advance_ms(100);
        code = run_once(f);
    }
    return f->session ? try_close(f) : code;
}

static void assert_exhausted(fixture *f, size_t n) {
    if (belay_error_code(f->err) != BELAY_RESOURCE_EXHAUSTED)
        fail_msg("allocation %zu: %d %s", n, (int)belay_error_code(f->err),
                 belay_error_message(f->err));
}

static void torture(fixture *f, belay_code (*make)(fixture *f, belay_error *err)) {
    FAILING_ALLOC(n) {
        belay_error_clear(f->err);
        belay_code code = train(f, make, f->err);
        if (failing_alloc_hit() && code != BELAY_OK) /* a log line or a picture may be left out */
            assert_exhausted(f, n);
        else if (code != BELAY_OK)
            fail_msg("untouched: %s", belay_error_message(f->err));
        free_hooks(f);
        belay_scaffold_free(f->scaffold);
        belay_graph_free(f->graph);
        f->scaffold = NULL;
        f->graph = NULL;
        assert_int_equal(bly_remove_directory(folder_of(f), NULL), BELAY_OK);
        assert_int_equal(bly_make_directories(folder_of(f), NULL), BELAY_OK);
        log_line_count = 0;
    }
}

static void test_hooks__no_memory_is_an_error_and_no_more(void **state) {
    torture(*state, make_hooks);
}

static void test_hooks__nor_for_the_others(void **state) {
    torture(*state, make_other_hooks);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_hooks__no_memory_is_an_error_and_no_more),
        TEST(test_hooks__nor_for_the_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
