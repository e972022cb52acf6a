/* The global step where a hook's fetch writes it, over the real TensorFlow, which runs what the
 * graph does not order in any order. */
#include "session_run.h"

#include "graph/builder.h"

/* Op `counted` gives 7, after one more increment of the step. */
static void add_counter(belay_graph *graph) {
    bly_builder b = bly_builder_start(graph, "", err);
    TF_Output step = {bly_graph_find_op(graph, "global_step", err), 0};
    assert_made(step.oper);
    TF_Output one = bly_const_integer(&b, "one_more", NULL, BELAY_INT64, 1);
    bly_op_begin(&b, "AssignAddVariableOp", "extra", NULL);
    bly_op_input(&b, step);
    bly_op_input(&b, one);
    bly_op_type(&b, "dtype", BELAY_INT64);
    TF_Operation *extra = bly_op_finish(&b);
    TF_Output seven = bly_const_integer(&b, "seven", NULL, BELAY_INT64, 7);
    bly_op_begin(&b, "Identity", "counted", NULL);
    bly_op_input(&b, seven);
    bly_op_after(&b, extra);
    bly_op_finish(&b);
    assert_ok(bly_builder_end(&b));
}

/* A hook that fetches `counted` in every second run. */
struct fetcher {
    belay_output output;
    int runs, fetches;
    int64_t progress; /* what it was told after the run, and what is true */
    int64_t step;
    double value;
};

static belay_code find(void *self, belay_graph *graph, belay_error *error) {
    return belay_graph_find_output(graph, "counted", &((struct fetcher *)self)->output, error);
}

static belay_code fetch_sometimes(void *self, belay_run_context *run, belay_error *error) {
    struct fetcher *f = self;
    if (f->runs++ % 2 == 0)
        return BELAY_OK;
    f->fetches++;
    return belay_run_context_fetch(run, f->output, error);
}

static belay_code look(void *self, belay_run_context *run, belay_error *error) {
    struct fetcher *f = self;
    const belay_tensor *value = belay_run_context_value(run, 0);
    f->progress = belay_run_context_progress(run)->global_step;
    if (value)
        f->value = belay_tensor_number(value, 0);
    return belay_session_global_step(belay_run_context_session(run), &f->step, error);
}

/* GS-07 */
static void test_hook_fetch__that_counts_is_counted(void **state) {
    (void)state;
    static const belay_hook_vtable table = {.struct_size = sizeof table,
                                            .begin = find,
                                            .before_run = fetch_sometimes,
                                            .after_run = look};
    struct fetcher f = {.runs = 0};
    belay_graph *graph = load("tiny.meta");
    add_counter(graph);
    belay_monitored_session_options options = BELAY_MONITORED_SESSION_OPTIONS_INIT;
    belay_hook *hook = belay_hook_new(&table, &f, err);
    options.hooks = &hook;
    options.hook_count = 1;
    belay_monitored_session *session = belay_monitored_session_open(graph, &options, err);
    belay_step *step =
        belay_step_prepare(session, NULL, NULL, (const char *[]){"train", NULL}, err);
    assert_made(step);
    for (int i = 1; i <= 200; i++) {
        assert_ok(belay_step_run(step, NULL, NULL, err));
        assert_int_equal(f.progress, f.step);
        assert_int_equal(f.progress, i + f.fetches);
    }
    assert_int_equal(f.fetches, 100);
    assert_true(f.value == 7);
    assert_ok(belay_monitored_session_close(session, err));
    belay_hook_free(hook);
    belay_graph_free(graph);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hook_fetch__that_counts_is_counted),
    };
    return cmocka_run_group_tests(tests, session_run_set_up, session_run_tear_down);
}
