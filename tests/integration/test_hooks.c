/* The hooks over the real TensorFlow, and against TensorFlow's own: check_hooks.py trains the same
 * in Python, and what can be seen of both must be equal. */
#include "hook_watch.h"

#include "base/error.h"

#include <belay/hooks.h>
#include <belay/monitored_session.h>

#include <stdlib.h>
#include <unistd.h>

/* ---- one training ---- */

typedef struct training {
    char folder[512];
    belay_graph *graph;
    belay_scaffold *scaffold;
    belay_hook *hooks[8];
    size_t hook_count;
    belay_tensor *inputs[2];
    belay_error *err;
    bly_buf seen; /* as check_hooks.py writes it */
} training;

static void fail_with(const training *t, const char *what) {
    fail_msg("%s: %s", what, belay_error_message(t->err));
}

/* The one float array of a small .npy file, with `columns` columns (1: a vector). */
static belay_tensor *read_npy(const char *name, int64_t columns) {
    char path[512];
    bly_buf bytes = BLY_BUF_INIT;
    snprintf(path, sizeof path, TEST_GRAPHS "/%s", name);
    assert_int_equal(bly_file_read(path, 1 << 20, &bytes, NULL), BELAY_OK);
    const int64_t dims[] = {40, columns};
    belay_tensor *tensor = belay_tensor_new(BELAY_FLOAT, dims, columns > 1 ? 2 : 1, NULL);
    assert_non_null(tensor);
    size_t size = belay_tensor_size_bytes(tensor);
    assert_true(bytes.len > size);
    memcpy(belay_tensor_data(tensor), bytes.data + bytes.len - size, size);
    bly_buf_free(&bytes);
    return tensor;
}

static void start(training *t, const char *name) {
    *t = (training){.err = belay_error_new(), .seen = BLY_BUF_INIT};
    snprintf(t->folder, sizeof t->folder, TEST_WORK "/%s", name);
    assert_int_equal(bly_remove_directory(t->folder, NULL), BELAY_OK);
    assert_int_equal(bly_make_directories(t->folder, NULL), BELAY_OK);
    t->inputs[0] = read_npy("x4.npy", 4);
    t->inputs[1] = read_npy("y.npy", 1);
    watch_log();
}

static void load(training *t, const char *graph) {
    char path[512];
    snprintf(path, sizeof path, TEST_GRAPHS "/%s", graph);
    t->graph = belay_graph_load(path, NULL, t->err);
    t->scaffold = belay_scaffold_new(t->graph, NULL, t->err);
    if (!t->scaffold)
        fail_with(t, graph);
}

static void unload(training *t) {
    for (size_t i = 0; i < t->hook_count; i++)
        belay_hook_free(t->hooks[i]);
    t->hook_count = 0;
    belay_scaffold_free(t->scaffold);
    belay_graph_free(t->graph);
}

static void finish(training *t) {
    unwatch_log();
    belay_tensor_free(t->inputs[0]);
    belay_tensor_free(t->inputs[1]);
    belay_error_free(t->err);
    bly_buf_free(&t->seen);
}

static void add(training *t, belay_hook *hook) {
    if (!hook)
        fail_with(t, "a hook");
    t->hooks[t->hook_count++] = hook;
}

static void add_stop(training *t, int64_t num_steps, int64_t last_step) {
    belay_stop_at_step_options options = BELAY_STOP_AT_STEP_OPTIONS_INIT;
    options.num_steps = num_steps;
    options.last_step = last_step;
    add(t, belay_stop_at_step_hook_new(&options, t->err));
}

static void add_saver(training *t, int64_t steps) {
    belay_checkpoint_saver_options options = BELAY_CHECKPOINT_SAVER_OPTIONS_INIT;
    options.checkpoint_dir = t->folder;
    options.save_steps = steps;
    options.scaffold = t->scaffold;
    add(t, belay_checkpoint_saver_hook_new(&options, t->err));
}

static void add_counter(training *t, int64_t steps) {
    belay_step_counter_options options = BELAY_STEP_COUNTER_OPTIONS_INIT;
    options.every_n_steps = steps;
    options.output_dir = t->folder;
    add(t, belay_step_counter_hook_new(&options, t->err));
}

static void add_summaries(training *t, int64_t steps) {
    belay_summary_saver_options options = BELAY_SUMMARY_SAVER_OPTIONS_INIT;
    options.save_steps = steps;
    options.output_dir = t->folder;
    options.scaffold = t->scaffold;
    add(t, belay_summary_saver_hook_new(&options, t->err));
}

static void add_logging(training *t, const char *tensor, int64_t iterations, uint32_t at_end) {
    belay_logging_tensor_options options = BELAY_LOGGING_TENSOR_OPTIONS_INIT;
    options.tensors = (const char *[]){tensor, NULL};
    options.every_n_iter = iterations;
    options.at_end = at_end;
    add(t, belay_logging_tensor_hook_new(&options, t->err));
}

static void add_nan(training *t, uint32_t stop) {
    belay_nan_tensor_options options = BELAY_NAN_TENSOR_OPTIONS_INIT;
    options.loss_tensor = "loss:0";
    options.stop_on_nan_loss = stop;
    add(t, belay_nan_tensor_hook_new(&options, t->err));
}

/* Trains until the hooks stop, an error ends it, or `most` steps are run. */
static belay_code train(training *t, int feeds, int most, int *out_runs) {
    belay_chief_session_creator_options chief = BELAY_CHIEF_SESSION_CREATOR_OPTIONS_INIT;
    belay_monitored_session_options options = BELAY_MONITORED_SESSION_OPTIONS_INIT;
    chief.scaffold = t->scaffold;
    chief.checkpoint_dir = t->folder;
    options.creator = belay_chief_session_creator_new(t->graph, &chief, t->err);
    options.hooks = t->hooks;
    options.hook_count = t->hook_count;
    belay_monitored_session *session = belay_monitored_session_open(t->graph, &options, t->err);
    belay_session_creator_free(options.creator);
    belay_step *step =
        belay_step_prepare(session, feeds ? (const char *[]){"x:0", "y:0", NULL} : NULL, NULL,
                           (const char *[]){"train", NULL}, t->err);
    if (!step)
        fail_with(t, t->folder);
    *out_runs = 0;
    while (*out_runs < most && !belay_monitored_session_should_stop(session) &&
           belay_step_run(step, t->inputs, NULL, t->err) == BELAY_OK)
        ++*out_runs;
    return belay_monitored_session_close(session, t->err);
}

/* ---- what is seen of it, in check_hooks.py's words ---- */

static int is_compared(const char *line) {
    static const char *const starts[] = {"loss = ", "loss:0 = ", "Model diverged"};
    for (size_t i = 0; i < sizeof starts / sizeof starts[0]; i++)
        if (strncmp(line, starts[i], strlen(starts[i])) == 0)
            return 1;
    return 0;
}

static void note_session(training *t, belay_code code, int runs) {
    for (size_t i = 0; i < log_line_count; i++) {
        char *line = log_lines[i].text;
        char *secs = strstr(line, " (");
        if (!is_compared(line))
            continue;
        if (secs && strstr(secs, " sec)"))
            strcpy(secs, " (SECS)");
        bly_buf_printf(&t->seen, "log %s\n", line);
    }
    log_line_count = 0;
    if (code != BELAY_OK)
        bly_buf_printf(&t->seen, "error %s\n", belay_error_message(t->err));
    bly_buf_printf(&t->seen, "runs %d\n", runs);
}

static void note_folder(training *t) {
    const char *at;
    char path[600];
    bly_buf state = BLY_BUF_INIT;
    event_list *events = read_events(t->folder);
    for (size_t i = 0; i < events->count; i++) {
        const char *line = events->lines[i];
        char tag[64];
        double value;
        long long step;
        if (sscanf(line, "START %lld", &step) == 1)
            bly_buf_printf(&t->seen, "event START %lld\n", step);
        else if (sscanf(line, "CHECKPOINT %lld", &step) == 1)
            bly_buf_printf(&t->seen, "event CHECKPOINT %lld\n", step);
        else if (sscanf(line, "%63[^=]=%lf %lld", tag, &value, &step) == 3) {
            bly_buf_printf(&t->seen, "event %s %lld", tag, step);
            if (strncmp(tag, "loss", 4) == 0)
                bly_buf_printf(&t->seen, " %.6g", value);
            bly_buf_putc(&t->seen, '\n');
        }
    }
    snprintf(path, sizeof path, "%s/checkpoint", t->folder);
    assert_int_equal(bly_file_read(path, 1 << 20, &state, NULL), BELAY_OK);
    for (at = bly_buf_text(&state); (at = strstr(at, "all_model_checkpoint_paths: \"")) != NULL;) {
        char prefix[600];
        at += strlen("all_model_checkpoint_paths: \"");
        snprintf(prefix, sizeof prefix, "%.*s", (int)strcspn(at, "\""), at);
        bly_buf_printf(&t->seen, "checkpoint %s\n", bly_path_base(prefix));
    }
    bly_buf_free(&state);
}

/* ---- against Python ---- */

static const char *python(void) {
    static const char installed[] = SOURCE_ROOT "/.deps/venv/bin/python";
    return access(installed, X_OK) == 0 ? installed : NULL;
}

static int run_python(void **state) {
    char command[2048];
    (void)state;
    if (!python())
        return 0;
    static const char *const names[] = {"summaries", "resumed", "nan", "nan_stop"};
    for (size_t i = 0; i < 4; i++) {
        char folder[512];
        snprintf(folder, sizeof folder, TEST_WORK "/python/%s", names[i]);
        if (bly_remove_directory(folder, NULL) != BELAY_OK ||
            bly_make_directories(folder, NULL) != BELAY_OK)
            return -1;
    }
    snprintf(command, sizeof command,
             "'%s' '" SOURCE_ROOT "/tests/integration/check_hooks.py' '" TEST_GRAPHS "' '" TEST_WORK
             "/python' 2>&1",
             python());
    return system(command);
}

static void assert_as_python(training *t, const char *name) {
    char path[512];
    bly_buf expected = BLY_BUF_INIT;
    if (!python())
        skip();
    snprintf(path, sizeof path, TEST_WORK "/python/%s.txt", name);
    assert_int_equal(bly_file_read(path, 1 << 20, &expected, NULL), BELAY_OK);
    assert_string_equal(bly_buf_text(&t->seen), bly_buf_text(&expected));
    bly_buf_free(&expected);
}

static void add_all(training *t, int64_t num_steps, int64_t last_step) {
    add_counter(t, 4);
    add_summaries(t, 1);
    add_saver(t, 4);
    add_logging(t, "loss:0", 4, 0);
    add_nan(t, 0);
    add_stop(t, num_steps, last_step);
}

/* HK-CKPT-08, HK-CKPT-09, HK-STEP-04, HK-SUM-04, HK-LOG-08, HK-LOG-10, HK-LOG-11, HK-STOP-05 */
static void test_hooks__do_as_pythons_do(void **state) {
    training t;
    int runs;
    (void)state;
    start(&t, "summaries");
    load(&t, "summaries.meta");
    add_all(&t, 0, 11);
    belay_code code = train(&t, 1, 100, &runs);
    unload(&t);
    note_session(&t, code, runs);
    note_folder(&t);
    assert_as_python(&t, "summaries");
    finish(&t);
}

/* HK-STOP-03: the second session counts from where it resumes. */
static void test_hooks__do_as_pythons_do_when_resumed(void **state) {
    training t;
    int runs;
    (void)state;
    start(&t, "resumed");
    for (int i = 0; i < 2; i++) {
        load(&t, "summaries.meta");
        add_all(&t, i == 0 ? 0 : 5, i == 0 ? 6 : 0);
        belay_code code = train(&t, 1, 100, &runs);
        unload(&t);
        note_session(&t, code, runs);
    }
    note_folder(&t);
    assert_as_python(&t, "resumed");
    finish(&t);
}

static void train_to_nan(const char *name, uint32_t stop) {
    training t;
    int runs;
    start(&t, name);
    load(&t, "nan.meta");
    add_saver(&t, 2);
    add_logging(&t, "loss", 2, 1);
    add_nan(&t, stop);
    add_stop(&t, 0, 20);
    belay_code code = train(&t, 0, 100, &runs);
    assert_int_equal(code, stop ? BELAY_OK : BELAY_NAN_LOSS);
    unload(&t);
    note_session(&t, code, runs);
    note_folder(&t);
    assert_as_python(&t, name);
    finish(&t);
}

/* HK-NAN-01, HK-NAN-04 */
static void test_hooks__do_as_pythons_do_where_the_loss_is_nan(void **state) {
    (void)state;
    train_to_nan("nan", 0);
}

/* HK-NAN-02, HK-LOG-13 */
static void test_hooks__do_as_pythons_do_where_nan_stops(void **state) {
    (void)state;
    train_to_nan("nan_stop", 1);
}

/* ---- on their own ---- */

/* HK-CKPT-15: the graph has no saver, and the hook is made before the scaffold builds one. */
static void test_checkpoint_saver__uses_what_a_scaffold_builds__HK_CKPT_15(void **state) {
    training t;
    int runs;
    (void)state;
    start(&t, "tiny");
    load(&t, "tiny.meta");
    assert_null(belay_scaffold_saver(t.scaffold));
    add_saver(&t, 2);
    assert_int_equal(train(&t, 0, 3, &runs), BELAY_OK);
    unload(&t);
    assert_int_equal(count_log(BELAY_LOG_INFO, "Saving checkpoints"), 3); /* 0, 2 and 3 */
    load(&t, "tiny.meta");
    add_saver(&t, 2);
    assert_int_equal(train(&t, 0, 1, &runs), BELAY_OK);
    unload(&t);
    assert_int_equal(count_log(BELAY_LOG_INFO, "Saving checkpoints"), 4); /* BUG-51: only 4 */
    assert_int_equal(count_log(BELAY_LOG_INFO, "Saving checkpoints for 4"), 1);
    finish(&t);
}

/* BUG-56: a handle would print as bytes. */
static void test_logging_tensor__prints_a_variable__BUG_56(void **state) {
    training t;
    int runs;
    (void)state;
    start(&t, "variable");
    load(&t, "summaries.meta");
    add_logging(&t, "global_step:0", 100, 1);
    assert_int_equal(train(&t, 1, 7, &runs), BELAY_OK);
    unload(&t);
    assert_int_equal(strncmp(log_with("global_step:0 = ", 1), "global_step:0 = 7 (", 19), 0);
    finish(&t);
}

/* BUG-73: what was fetched from a reference variable must not change under the hook. */
static void test_logging_tensor__prints_a_reference_variable(void **state) {
    training t;
    int runs;
    (void)state;
    start(&t, "reference");
    load(&t, "refvars.meta");
    add_logging(&t, "b", 1, 1);
    assert_int_equal(train(&t, 1, 2, &runs), BELAY_OK);
    unload(&t);
    assert_int_equal(count_log(BELAY_LOG_INFO, "b = "), 3);
    assert_string_not_equal(log_with("b = ", 0), log_with("b = ", 2));
    finish(&t);
}

static double final_number(const belay_hook *hook, size_t index) {
    const belay_tensor *value = belay_final_ops_hook_value(hook, index);
    assert_non_null(value);
    return belay_tensor_number(value, 0);
}

/* HK-SYNC-02, HK-SYNC-04, HK-FINAL-01: the gradients of one replica go through the accumulator, and
 * the chief's thread applies each to the variable that it was computed from. Without tokens before
 * the first step each run waits for its own, and knows which step that made (GS-07). Two replicas
 * are in tests/python/test_sync_replicas.py. */
static void test_sync_replicas__train_as_the_optimizer_means__HK_SYNC_03(void **state) {
    training t;
    int runs;
    belay_sync_replicas_options sync = BELAY_SYNC_REPLICAS_OPTIONS_INIT;
    belay_final_ops_options taken = BELAY_FINAL_OPS_OPTIONS_INIT;
    (void)state;
    start(&t, "sync");
    load(&t, "sync.meta");
    taken.final_ops = (const char *[]){"global_step", "w", NULL};
    belay_hook *values = belay_final_ops_hook_new(&taken, t.err);
    sync.num_tokens = BELAY_OFF;
    add(&t, belay_sync_replicas_hook_new(&sync, t.err));
    add(&t, values);
    add_stop(&t, 0, 6);
    belay_code code = train(&t, 0, 100000, &runs);
    if (code != BELAY_OK)
        fail_with(&t, "sync");
    assert_int_equal(runs, 6);
    assert_true(final_number(values, 0) == 6);
    assert_true(1 - final_number(values, 1) == 1.0 / 64); /* half of what is missing in each step */
    unload(&t);
    finish(&t);
}

/* HK-MSTOP-01, HK-MSTOP-02: TensorFlow's own variable says how often the graph's loop goes round.
 */
static void test_multi_step_stop__does_not_pass_its_target__HK_MSTOP_01(void **state) {
    training t;
    int runs;
    belay_multi_step_stop_options options = BELAY_MULTI_STEP_STOP_OPTIONS_INIT;
    belay_final_ops_options taken = BELAY_FINAL_OPS_OPTIONS_INIT;
    (void)state;
    start(&t, "multi_step");
    load(&t, "multi_step.meta");
    options.last_step = 10;
    options.steps_per_run = 4;
    taken.final_ops = (const char *[]){"global_step", NULL};
    belay_hook *values = belay_final_ops_hook_new(&taken, t.err);
    add(&t, belay_multi_step_stop_hook_new(&options, t.err));
    add(&t, values);
    belay_code code = train(&t, 0, 100, &runs);
    if (code != BELAY_OK)
        fail_with(&t, "multi_step");
    assert_int_equal(runs, 3);
    assert_true(final_number(values, 0) == 10);
    unload(&t);
    finish(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hooks__do_as_pythons_do),
        cmocka_unit_test(test_hooks__do_as_pythons_do_when_resumed),
        cmocka_unit_test(test_hooks__do_as_pythons_do_where_the_loss_is_nan),
        cmocka_unit_test(test_hooks__do_as_pythons_do_where_nan_stops),
        cmocka_unit_test(test_checkpoint_saver__uses_what_a_scaffold_builds__HK_CKPT_15),
        cmocka_unit_test(test_logging_tensor__prints_a_variable__BUG_56),
        cmocka_unit_test(test_logging_tensor__prints_a_reference_variable),
        cmocka_unit_test(test_sync_replicas__train_as_the_optimizer_means__HK_SYNC_03),
        cmocka_unit_test(test_multi_step_stop__does_not_pass_its_target__HK_MSTOP_01),
    };
    return cmocka_run_group_tests(tests, run_python, NULL);
}
