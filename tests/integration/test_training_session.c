/* The one-call form over the real TensorFlow: every graph is trained, saved, and gone on with, by
 * belay and by Python. */
#include "session_run.h"

#include <belay/checkpoint.h>

#include <math.h>

/* ---- training a model ---- */

/* A hook that looks at a session when it is there, and when it ends. */
struct look {
    const char *variable;
    double first[4]; /* its value at the start, and at the end */
    double last[4];
    int64_t first_step;
    int at_end;
};

static void look_at(const struct look *look, belay_session *session, double *values) {
    belay_tensor *value = fetch(session, look->variable);
    for (int64_t i = 0; i < 4; i++)
        values[i] = belay_tensor_number(value, i);
    belay_tensor_free(value);
}

static belay_code look_first(void *self, belay_session *session, belay_coordinator *coordinator,
                             belay_error *error) {
    struct look *look = self;
    (void)coordinator;
    if (look->variable)
        look_at(look, session, look->first);
    return belay_session_global_step(session, &look->first_step, error);
}

static belay_code look_last(void *self, belay_session *session, belay_error *error) {
    struct look *look = self;
    (void)error;
    look->at_end++;
    if (look->variable)
        look_at(look, session, look->last);
    return BELAY_OK;
}

static belay_hook *hook_of(struct look *look) {
    belay_hook_vtable table = {
        .struct_size = sizeof table, .after_create_session = look_first, .end = look_last};
    belay_hook *hook = belay_hook_new(&table, look, err);
    assert_made(hook);
    return hook;
}

/* Opens a model's folder, trains `steps`, and closes. */
static struct look train_in(const char *path, const char *folder, int steps, uint32_t threads,
                            double *out_loss) {
    struct trainee t = trainee_load(path);
    struct look look = {.variable = t.model->witness};
    belay_hook *hook = hook_of(&look);
    belay_training_options options = BELAY_TRAINING_OPTIONS_INIT;
    options.checkpoint_dir = folder;
    options.save_checkpoint_steps = 2;
    options.hooks = &hook;
    options.hook_count = 1;
    options.threads = threads;
    belay_monitored_session *session =
        belay_monitored_training_session_open(t.graph, &options, err);
    belay_hook_free(hook);
    if (!session)
        fail_msg("%s: %s", path, belay_error_message(err));
    assert_int_equal(belay_monitored_session_was_restored(session), look.first_step > 0);
    belay_step *step = trainee_step(&t, session);
    train(&t, step, steps);
    assert_int_equal(belay_monitored_session_progress(session)->global_step,
                     look.first_step + steps);
    if (out_loss)
        *out_loss = belay_tensor_number(t.loss, 0);
    assert_ok(belay_monitored_session_close(session, err));
    assert_int_equal(look.at_end, 1);
    trainee_free(&t);
    return look;
}

static void assert_same(const char *path, const double *a, const double *b) {
    for (int i = 0; i < 4; i++)
        if (a[i] != b[i])
            fail_msg("%s: another initialisation: %g instead of %g", path, b[i], a[i]);
}

/* Every graph: fresh, then three times from where it was. The marker was initialised once. */
static void test_training_session__goes_on_from_the_last_step_of_every_graph(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof models / sizeof models[0]; i++) {
        const char *path = models[i].path;
        const char *folder = work_folder("every");
        double first_loss = 0, last_loss = 0;
        struct look fresh = train_in(path, folder, 1, 0, &first_loss), later = fresh;
        assert_int_equal(fresh.first_step, 0);
        for (int round = 0; round < 3; round++) {
            later = train_in(path, folder, 2, 0, &last_loss);
            if (later.first_step != 1 + 2 * round)
                fail_msg("%s: went on from step %lld", path, (long long)later.first_step);
            assert_same(path, fresh.first, later.first);
            assert_same(path, fresh.first, later.last);
        }
        /* It learns. Those that read their own input have a loss that says nothing; nor does that
         * of seven steps with dropout. */
        int says_nothing = strncmp(path, "queue", 5) == 0 || strncmp(path, "dataset", 7) == 0 ||
                           strcmp(path, "keras_small") == 0;
        if (models[i].loss && !says_nothing && !(last_loss < first_loss))
            fail_msg("%s: loss %g, then %g", path, first_loss, last_loss);
        /* TF1: what the checkpoint says is what the graph has. */
        belay_checkpoint_reader *reader =
            belay_checkpoint_reader_load(in_folder(folder, "model.ckpt-7"), err);
        assert_made(reader);
        const belay_checkpoint_tensor *step = belay_checkpoint_reader_find(reader, "global_step");
        assert_non_null(step);
        int64_t number = 0;
        assert_ok(
            belay_checkpoint_reader_read(reader, "global_step", &number, step->size_bytes, err));
        assert_int_equal(number, 7);
        belay_checkpoint_reader_free(reader);
        assert_false(has_file(folder, ".belay-saving"));
    }
}

/* Both ways of running a step, and the choice between them, give the same (design, section 6). */
static void test_training_session__gives_the_same_in_either_kind_of_thread(void **state) {
    (void)state;
    static const char *const graphs[] = {"plain_saver.meta", "refvars.meta", "module",
                                         "while.meta"};
    for (size_t i = 0; i < 4; i++) {
        double loss[3];
        for (uint32_t threads = 0; threads < 3; threads++)
            train_in(graphs[i], work_folder("threads"), 40, threads, &loss[threads]);
        assert_true(fabs(loss[0] - loss[1]) <= 1e-6 * fabs(loss[1]));
        assert_true(fabs(loss[2] - loss[1]) <= 1e-6 * fabs(loss[1]));
    }
}

/* SC-17: one graph for two sessions, one after the other. */
static void test_training_session__opens_again_on_the_same_graph(void **state) {
    (void)state;
    static const char *const graphs[] = {"tiny.meta", "queue.meta", "module", "tf1_saved_model"};
    for (size_t i = 0; i < 4; i++) {
        const char *folder = work_folder("again");
        struct trainee t = trainee_load(graphs[i]);
        belay_training_options options = BELAY_TRAINING_OPTIONS_INIT;
        options.checkpoint_dir = folder;
        for (int round = 0; round < 3; round++) {
            belay_monitored_session *session =
                belay_monitored_training_session_open(t.graph, &options, err);
            if (!session)
                fail_msg("%s, round %d: %s", graphs[i], round, belay_error_message(err));
            train(&t, trainee_step(&t, session), 2);
            assert_int_equal(belay_monitored_session_progress(session)->global_step, 2 * round + 2);
            assert_ok(belay_monitored_session_close(session, err));
        }
        trainee_free(&t);
    }
}

/* ---- Python ---- */

static const char *const shared[] = {"tiny",          "tiny_final",  "mlp",
                                     "mlp_bare",      "refvars",     "partitioned",
                                     "queue",         "table",       "while",
                                     "while_v2",      "dataset",     "plain_saver",
                                     "sharded_saver", "int32_step",  "summaries",
                                     "no_step",       "keras_small", "module",
                                     "module_table",  "fixed_batch", "dataset_one_shot"};
#define SHARED_COUNT (sizeof shared / sizeof shared[0])

static const char *path_of(const char *name) {
    static char path[64];
    snprintf(path, sizeof path, "%s.meta", name);
    for (size_t i = 0; i < sizeof models / sizeof models[0]; i++)
        if (strcmp(models[i].path, name) == 0)
            return models[i].path;
    return path;
}

/* Python restores and trains on from what belay wrote; belay goes on from what Python wrote. */
static void test_training_session__shares_its_folder_with_python(void **state) {
    (void)state;
    char arguments[2048], name[64];
    struct look before[SHARED_COUNT];
    size_t len = (size_t)snprintf(arguments, sizeof arguments, "%s %s", TEST_GRAPHS, TEST_WORK);
    work_folder("python");
    for (size_t i = 0; i < SHARED_COUNT; i++) {
        before[i] = train_in(path_of(shared[i]), work_folder(shared[i]), 3, 0, NULL);
        len += (size_t)snprintf(arguments + len, sizeof arguments - len, " %s", shared[i]);
        if (!before[i].variable || !strstr(path_of(shared[i]), ".meta"))
            continue;
        bly_buf text = BLY_BUF_INIT;
        for (int k = 0; k < 4; k++)
            bly_buf_printf(&text, "%.9g ", before[i].first[k]);
        snprintf(name, sizeof name, "%s.txt", shared[i]);
        write_text(in_folder(TEST_WORK, name), text.data);
        bly_buf_free(&text);
    }
    run_python("interop_train.py", arguments);
    for (size_t i = 0; i < SHARED_COUNT; i++) {
        const char *folder = in_folder(TEST_WORK, shared[i]);
        int trained = strstr(path_of(shared[i]), ".meta") && strcmp(shared[i], "no_step") != 0;
        struct look after = train_in(path_of(shared[i]), folder, 1, 0, NULL);
        if (after.first_step != (trained ? 5 : 3))
            fail_msg("%s: went on from step %lld", shared[i], (long long)after.first_step);
        assert_same(shared[i], before[i].first, after.first);
        /* What Python's own Saver wrote, by path. */
        if (!strstr(path_of(shared[i]), ".meta"))
            continue;
        struct trainee t = trainee_load(path_of(shared[i]));
        belay_singular_monitored_session_options options =
            BELAY_SINGULAR_MONITORED_SESSION_OPTIONS_INIT;
        snprintf(name, sizeof name, "python/%s", shared[i]);
        options.checkpoint_filename_with_path = in_folder(TEST_WORK, name);
        belay_monitored_session *session =
            belay_singular_monitored_session_open(t.graph, &options, err);
        if (!session)
            fail_msg("%s: %s", shared[i], belay_error_message(err));
        assert_int_equal(belay_monitored_session_progress(session)->global_step, 3);
        assert_ok(belay_monitored_session_close(session, err));
        trainee_free(&t);
    }
}

/* ---- the usual hooks ---- */

static bly_buf trace = BLY_BUF_INIT;

struct tracer {
    const char *name;
    int destroyed;
};

static void put(const struct tracer *tracer, const char *what) {
    bly_buf_printf(&trace, "%s%s.%s", trace.len ? " " : "", tracer->name, what);
}

static belay_code hook_begin(void *self, belay_graph *graph, belay_error *error) {
    (void)graph;
    (void)error;
    put(self, "begin");
    return BELAY_OK;
}

static belay_code listener_begin(void *self, belay_error *error) {
    (void)error;
    put(self, "begin");
    return BELAY_OK;
}

static belay_code hook_end(void *self, belay_session *session, belay_error *error) {
    (void)session;
    (void)error;
    put(self, "end");
    return BELAY_OK;
}

static belay_code listener_saved(void *self, belay_session *session, int64_t step, uint32_t *stop,
                                 belay_error *error) {
    (void)session;
    (void)stop;
    (void)error;
    bly_buf_printf(&trace, " %s.saved-%lld", ((struct tracer *)self)->name, (long long)step);
    return BELAY_OK;
}

static void count_destroy(void *self) {
    ((struct tracer *)self)->destroyed++;
}

static const belay_hook_vtable hook_table = {
    .struct_size = sizeof hook_table, .begin = hook_begin, .end = hook_end};
static const belay_checkpoint_listener_vtable listener_table = {.struct_size =
                                                                    sizeof listener_table,
                                                                .begin = listener_begin,
                                                                .after_save = listener_saved,
                                                                .destroy = count_destroy};

static void run_steps(belay_monitored_session *session, int count) {
    belay_step *step =
        belay_step_prepare(session, NULL, NULL, (const char *[]){"train", NULL}, err);
    assert_made(step);
    for (int i = 0; i < count; i++)
        assert_ok(belay_step_run(step, NULL, NULL, err));
}

/* MS-32, HK-CKPT-05, HK-CKPT-07: chief-only hooks, then the session's own, then the user's; saves
 * at the start, every two steps, and at the end. */
static void test_training_session__puts_hooks_in_tensorflows_order(void **state) {
    (void)state;
    struct tracer user = {"U", 0}, chief = {"C", 0}, listening = {"L", 0};
    const char *folder = work_folder("order");
    belay_graph *graph = load("tiny.meta");
    belay_hook *u = belay_hook_new(&hook_table, &user, err);
    belay_hook *c = belay_hook_new(&hook_table, &chief, err);
    belay_checkpoint_listener listener = {&listener_table, &listening};
    belay_training_options options = BELAY_TRAINING_OPTIONS_INIT;
    options.checkpoint_dir = folder;
    options.save_checkpoint_steps = 2;
    options.hooks = &u;
    options.hook_count = 1;
    options.chief_only_hooks = &c;
    options.chief_only_hook_count = 1;
    options.listeners = &listener;
    options.listener_count = 1;
    belay_monitored_session *session = belay_monitored_training_session_open(graph, &options, err);
    assert_made(session);
    run_steps(session, 5);
    assert_ok(belay_monitored_session_close(session, err));
    assert_string_equal(bly_buf_text(&trace), "C.begin L.begin U.begin L.saved-0 L.saved-2 "
                                              "L.saved-4 C.end L.saved-5 U.end");
    bly_buf_clear(&trace);
    assert_int_equal(listening.destroyed, 1);
    belay_hook_free(u);
    belay_hook_free(c);
    belay_graph_free(graph);
}

static belay_monitored_session *open_given(belay_graph *graph,
                                           const belay_training_options *options, int steps) {
    belay_monitored_session *session = belay_monitored_training_session_open(graph, options, err);
    assert_made(session);
    run_steps(session, steps);
    return session;
}

static size_t files_with(const char *folder, const char *part) {
    bly_buf names = list_folder(folder);
    size_t count = 0;
    for (const char *at = strstr(bly_buf_text(&names), part); at; at = strstr(at + 1, part))
        count++;
    bly_buf_free(&names);
    return count;
}

/* MS-27, MS-28, MS-30, MS-33, MS-34, MS-35, MS-36, BUG-60. */
static void test_training_session__writes_what_its_options_ask_for(void **state) {
    (void)state;
    belay_graph *graph = load("tiny.meta");
    belay_training_options options = BELAY_TRAINING_OPTIONS_INIT;
    /* Nothing asked for, nothing written. */
    assert_ok(belay_monitored_session_close(open_given(graph, &options, 3), err));
    /* All switched off. */
    const char *folder = work_folder("options");
    options.checkpoint_dir = folder;
    options.save_checkpoint_secs = BELAY_OFF;
    options.save_summaries_steps = BELAY_OFF;
    options.log_step_count_steps = BELAY_OFF;
    assert_ok(belay_monitored_session_close(open_given(graph, &options, 3), err));
    assert_folder(folder, "");
    /* Checkpoints alone, by the default of 600 s: at the start and at the end. A chief waits for
     * nobody, so max_wait_secs is nothing to it (MS-37). */
    options.save_checkpoint_secs = 0;
    options.max_wait_secs = 1e-9;
    assert_ok(belay_monitored_session_close(open_given(graph, &options, 3), err));
    assert_int_equal(files_with(folder, ".index"), 2);
    assert_true(has_file(folder, "model.ckpt-0.index"));
    assert_true(has_file(folder, "model.ckpt-3.index"));
    /* By steps: then not by seconds. */
    folder = work_folder("options");
    options.checkpoint_dir = folder;
    options.save_checkpoint_steps = 1;
    options.save_checkpoint_secs = BELAY_OFF;
    assert_ok(belay_monitored_session_close(open_given(graph, &options, 3), err));
    assert_int_equal(files_with(folder, ".index"), 4);
    /* MS-33: events elsewhere. */
    const char *events = work_folder("events");
    folder = work_folder("options");
    options.checkpoint_dir = folder;
    options.summary_dir = events;
    options.save_checkpoint_steps = BELAY_OFF;
    options.save_checkpoint_secs = 0;
    options.log_step_count_steps = 1;
    log_start();
    assert_ok(belay_monitored_session_close(open_given(graph, &options, 3), err));
    assert_int_equal(files_with(events, "tfevents"), 1);
    assert_int_equal(files_with(folder, "tfevents"), 0);
    assert_logged("global_step/sec");
    /* BUG-60: both positive. */
    options.save_checkpoint_steps = 5;
    options.save_checkpoint_secs = 5;
    assert_not_made(BELAY_INVALID_ARGUMENT,
                    "Can not provide both save_checkpoint_secs and save_checkpoint_steps.",
                    belay_monitored_training_session_open(graph, &options, err));
    options.save_checkpoint_steps = 0;
    options.save_summaries_steps = 5;
    options.save_summaries_secs = 5;
    assert_not_made(BELAY_INVALID_ARGUMENT, "save_summaries_secs",
                    belay_monitored_training_session_open(graph, &options, err));
    belay_graph_free(graph);
}

/* MS-39, and META_ONCE. */
static void test_training_session__writes_meta_graphs_as_asked(void **state) {
    (void)state;
    static const size_t expected[] = {3, 0, 1};
    for (int i = 0; i < 3; i++) {
        const char *folder = work_folder("meta");
        belay_graph *graph = load("tiny.meta");
        belay_training_options options = BELAY_TRAINING_OPTIONS_INIT;
        options.checkpoint_dir = folder;
        options.save_checkpoint_steps = 2;
        options.no_graph_def = i == 1;
        options.meta_graph_once = i == 2;
        assert_ok(belay_monitored_session_close(open_given(graph, &options, 4), err));
        assert_int_equal(files_with(folder, ".meta"), expected[i]);
        assert_int_equal(files_with(folder, ".index"), 3);
        if (i == 2)
            assert_true(has_file(folder, "model.ckpt-4.meta"));
        belay_graph_free(graph);
    }
}

/* MS-31: a worker has the user's hooks alone, and waits. */
static void test_training_session__of_a_worker_ignores_what_is_the_chiefs(void **state) {
    (void)state;
    struct tracer user = {"U", 0}, chief = {"C", 0}, listening = {"L", 0};
    const char *folder = work_folder("worker");
    belay_graph *graph = load("tiny.meta");
    belay_hook *u = belay_hook_new(&hook_table, &user, err);
    belay_hook *c = belay_hook_new(&hook_table, &chief, err);
    belay_checkpoint_listener listener = {&listener_table, &listening};
    belay_training_options options = BELAY_TRAINING_OPTIONS_INIT;
    options.is_worker = 1;
    options.max_wait_secs = 0.1;
    options.checkpoint_dir = folder;
    options.save_checkpoint_secs = 5;
    options.save_checkpoint_steps = 5;
    options.hooks = &u;
    options.hook_count = 1;
    options.chief_only_hooks = &c;
    options.chief_only_hook_count = 1;
    options.listeners = &listener;
    options.listener_count = 1;
    assert_not_made(BELAY_DEADLINE_EXCEEDED, "Session was not ready",
                    belay_monitored_training_session_open(graph, &options, err));
    assert_string_equal(bly_buf_text(&trace), "U.begin");
    bly_buf_clear(&trace);
    assert_int_equal(listening.destroyed, 1);
    assert_folder(folder, "");
    belay_hook_free(u);
    belay_hook_free(c);
    belay_graph_free(graph);
}

/* What is given is destroyed once, also where there is no hook to give it to. */
static void test_training_session__destroys_its_listeners_whatever_happens(void **state) {
    (void)state;
    struct tracer listening = {"L", 0};
    belay_graph *graph = load("tiny.meta"), *stepless = load("no_step.meta");
    belay_checkpoint_listener listener = {&listener_table, &listening};
    belay_training_options options = BELAY_TRAINING_OPTIONS_INIT;
    options.listeners = &listener;
    options.listener_count = 1;
    assert_ok(belay_monitored_session_close(open_given(graph, &options, 1), err));
    assert_int_equal(listening.destroyed, 1);
    options.checkpoint_dir = work_folder("listeners");
    options.save_summaries_steps = 1;
    options.save_summaries_secs = 1;
    assert_not_made(BELAY_INVALID_ARGUMENT, "save_summaries_secs",
                    belay_monitored_training_session_open(graph, &options, err));
    assert_int_equal(listening.destroyed, 2);
    options.save_summaries_secs = 0;
    assert_not_made(BELAY_INVALID_ARGUMENT, "NULL",
                    belay_monitored_training_session_open(NULL, &options, err));
    assert_int_equal(listening.destroyed, 3);
    /* ER-29: its begin() fails. */
    assert_not_made(BELAY_FAILED_PRECONDITION, "Global step should be created",
                    belay_monitored_training_session_open(stepless, &options, err));
    assert_int_equal(listening.destroyed, 4);
    options.reserved = 1;
    assert_not_made(BELAY_INVALID_ARGUMENT, "reserved",
                    belay_monitored_training_session_open(graph, &options, err));
    assert_int_equal(listening.destroyed, 5);
    bly_buf_clear(&trace);
    belay_graph_free(graph);
    belay_graph_free(stepless);
}

/* A folder of another model, a folder where nothing verifies, and one that must hold a checkpoint:
 * each is an error, and nothing is changed but what the hooks open first, their event file. */
static void test_training_session__does_not_train_over_what_it_cannot_use(void **state) {
    (void)state;
    const char *folder = work_folder("not_ours");
    train_in("tiny.meta", folder, 3, 0, NULL);
    struct trainee t = trainee_load("plain_saver.meta");
    belay_training_options options = BELAY_TRAINING_OPTIONS_INIT;
    options.checkpoint_dir = folder;
    options.summary_dir = work_folder("not_ours_events");
    options.save_checkpoint_secs = BELAY_OFF;
    options.prepare_flags = BELAY_PREPARE_REQUIRE_CHECKPOINT;
    bly_buf before = photograph(folder);
    assert_not_made(BELAY_NOT_FOUND, "another model",
                    belay_monitored_training_session_open(t.graph, &options, err));
    assert_unchanged(&before, folder);
    trainee_free(&t);
    t = trainee_load("tiny.meta");
    options.checkpoint_dir = work_folder("empty");
    assert_not_made(BELAY_NOT_FOUND, "one is required",
                    belay_monitored_training_session_open(t.graph, &options, err));
    assert_folder(options.checkpoint_dir, "");
    trainee_free(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_training_session__goes_on_from_the_last_step_of_every_graph),
        cmocka_unit_test(test_training_session__gives_the_same_in_either_kind_of_thread),
        cmocka_unit_test(test_training_session__opens_again_on_the_same_graph),
        cmocka_unit_test(test_training_session__shares_its_folder_with_python),
        cmocka_unit_test(test_training_session__puts_hooks_in_tensorflows_order),
        cmocka_unit_test(test_training_session__writes_what_its_options_ask_for),
        cmocka_unit_test(test_training_session__writes_meta_graphs_as_asked),
        cmocka_unit_test(test_training_session__of_a_worker_ignores_what_is_the_chiefs),
        cmocka_unit_test(test_training_session__destroys_its_listeners_whatever_happens),
        cmocka_unit_test(test_training_session__does_not_train_over_what_it_cannot_use),
    };
    int failed = cmocka_run_group_tests(tests, session_run_set_up, session_run_tear_down);
    bly_buf_free(&trace);
    return failed;
}
