/* Session managers over the real TensorFlow: prepare, recover, wait. */
#include "session_run.h"

#include "base/clock.h"
#include "base/thread.h"
#include "graph/builder.h"
#include "graph/defaults.h"
#include "graph/graph.h"

static belay_session_manager *manager_with(belay_graph *graph, const char *local_init_op,
                                           const char *ready_for_local_init_op,
                                           const char *ready_op) {
    belay_session_manager_options options = BELAY_SESSION_MANAGER_OPTIONS_INIT;
    options.local_init_op = local_init_op;
    options.ready_for_local_init_op = ready_for_local_init_op;
    options.ready_op = ready_op;
    belay_session_manager *manager = belay_session_manager_new(graph, &options, err);
    assert_made(manager);
    return manager;
}

/* A graph of which nothing is initialised, with ops that say so, and constants to be ready ops. */
struct parts {
    belay_graph *graph;
    char missing[128];       /* names of what is not initialised */
    char missing_local[128]; /* the same, without local variables */
    char init[128];
};

static struct parts parts_of(const char *path) {
    struct parts parts = {.graph = load(path)};
    TF_Output output;
    TF_Operation *init = bly_build_init_op(parts.graph, err);
    assert_made(init);
    snprintf(parts.init, sizeof parts.init, "%s", parts.graph->rt->OperationName(init));
    assert_ok(bly_build_ready_op(parts.graph, 1, &output, err));
    bly_graph_output_name(parts.graph, output, parts.missing, sizeof parts.missing);
    assert_ok(bly_build_ready_op(parts.graph, 0, &output, err));
    bly_graph_output_name(parts.graph, output, parts.missing_local, sizeof parts.missing_local);
    bly_builder b = bly_builder_start(parts.graph, "", err);
    bly_const_int32(&b, "no_integers", NULL, NULL, 0, 1);
    bly_const_int32(&b, "zeros", NULL, (const int32_t[]){0, 0}, 2, 1);
    bly_const_int32(&b, "ones", NULL, (const int32_t[]){0, 1}, 2, 1);
    bly_const_integer(&b, "long", NULL, BELAY_INT64, 7);
    bly_const_strings(&b, "no_names", NULL, NULL, 0, 1);
    bly_const_strings(&b, "names", NULL, (const char *const[]){"a", "b/c"}, 2, 1);
    bly_op_begin(&b, "NoOp", "nothing", NULL);
    bly_op_finish(&b);
    assert_ok(bly_builder_end(&b));
    return parts;
}

static belay_session *prepare_with(belay_session_manager *manager, const char *init_op) {
    belay_prepare_options options = BELAY_PREPARE_OPTIONS_INIT;
    options.init_op = init_op;
    return belay_session_manager_prepare_session(manager, &options, NULL, err);
}

/* ---- making one ---- */

/* SM-03, ER-12. */
static void test_session_manager_new__checks_its_options(void **state) {
    (void)state;
    belay_graph *graph = load("plain_saver.meta");
    belay_session_manager_options options = BELAY_SESSION_MANAGER_OPTIONS_INIT;
    options.ready_for_local_init_op = "loss";
    assert_not_made(BELAY_INVALID_ARGUMENT,
                    "If you pass a ready_for_local_init_op you must also pass a local_init_op",
                    belay_session_manager_new(graph, &options, err));
    options.local_init_op = "trian";
    assert_not_made(BELAY_NOT_FOUND, "train", belay_session_manager_new(graph, &options, err));
    options.local_init_op = NULL;
    options.ready_for_local_init_op = NULL;
    options.ready_op = "not_there";
    assert_not_made(BELAY_NOT_FOUND, "not_there", belay_session_manager_new(graph, &options, err));
    belay_run_options run = BELAY_RUN_OPTIONS_INIT;
    run.metadata = belay_run_metadata_new(err);
    options.ready_op = NULL;
    options.local_init_run_options = &run;
    assert_not_made(BELAY_INVALID_ARGUMENT, "metadata",
                    belay_session_manager_new(graph, &options, err));
    belay_run_metadata_free(run.metadata);
    options.struct_size = 2;
    assert_not_made(BELAY_INVALID_ARGUMENT, "struct_size",
                    belay_session_manager_new(graph, &options, err));
    assert_not_made(BELAY_INVALID_ARGUMENT, "NULL", belay_session_manager_new(NULL, NULL, err));
    belay_session_manager_free(NULL);
    belay_session_manager_cancel(NULL);
    belay_graph_free(graph);
}

/* ---- prepare_session ---- */

/* SM-05, ER-13, BUG-15: before a session is made, so that there is none to leak. */
static void test_prepare_session__checks_its_options(void **state) {
    (void)state;
    struct prepared p = chief_of(load("plain_saver.meta"));
    belay_prepare_options options = prepare_options_of(&p, "somewhere");
    options.checkpoint_filename_with_path = "somewhere/else";
    uint32_t restored = 1;
    assert_not_made(BELAY_INVALID_ARGUMENT,
                    "Can not provide both checkpoint_dir and checkpoint_filename_with_path.",
                    belay_session_manager_prepare_session(p.manager, &options, &restored, err));
    assert_int_equal(restored, 0);
    options = prepare_options_of(&p, NULL);
    options.flags = 1u << 9;
    assert_not_made(BELAY_INVALID_ARGUMENT, "not known",
                    belay_session_manager_prepare_session(p.manager, &options, NULL, err));
    options.flags = 0;
    options.max_wait_secs = -5;
    assert_not_made(BELAY_INVALID_ARGUMENT, "max_wait_secs",
                    belay_session_manager_prepare_session(p.manager, &options, NULL, err));
    options.struct_size = sizeof options + 8;
    struct {
        belay_prepare_options known;
        uint64_t later;
    } newer = {BELAY_PREPARE_OPTIONS_INIT, 3};
    newer.known.struct_size = sizeof newer;
    assert_not_made(BELAY_INVALID_ARGUMENT, "belay_prepare_options",
                    belay_session_manager_prepare_session(p.manager, &newer.known, NULL, err));
    assert_not_made(BELAY_INVALID_ARGUMENT, "manager",
                    belay_session_manager_prepare_session(NULL, NULL, NULL, err));
    assert_not_made(BELAY_INVALID_ARGUMENT, "manager",
                    belay_session_manager_recover_session(NULL, NULL, NULL, err));
    assert_not_made(BELAY_INVALID_ARGUMENT, "manager",
                    belay_session_manager_wait_for_session(NULL, NULL, 0, err));
    prepared_free(&p);
}

/* SM-16, ER-14; SM-06. */
static void test_prepare_session__needs_something_to_initialise_with(void **state) {
    (void)state;
    belay_graph *graph = load("plain_saver.meta");
    belay_session_manager *manager = manager_with(graph, NULL, NULL, NULL);
    assert_not_made(BELAY_FAILED_PRECONDITION,
                    "Model is not initialized and no init_op or init_fn or local_init_op was given",
                    belay_session_manager_prepare_session(manager, NULL, NULL, err));
    assert_not_made(BELAY_NOT_FOUND, "not_there", prepare_with(manager, "not_there"));
    belay_session_manager_free(manager);
    /* A local init op alone is enough. */
    manager = manager_with(graph, "global_step/Assign", NULL, NULL);
    belay_session *session = belay_session_manager_prepare_session(manager, NULL, NULL, err);
    assert_made(session);
    assert_int_equal(step_of(session), 0);
    belay_session_free(session);
    belay_session_manager_free(manager);
    belay_graph_free(graph);
}

struct init {
    int calls;
    double seen;
    belay_scaffold *scaffold;
    belay_code code;
    int silent;
};

static belay_code init_fn(void *self, belay_scaffold *scaffold, belay_session *session,
                          belay_error *error) {
    struct init *init = self;
    belay_tensor *value = NULL;
    init->calls++;
    init->scaffold = scaffold;
    if (init->silent)
        return init->code;
    if (init->code != BELAY_OK)
        return belay_error_set(error, init->code, "init_fn does not like it");
    belay_code code = belay_session_run(session, NULL, NULL, (const char *[]){"w", NULL}, &value,
                                        NULL, NULL, error);
    init->seen = belay_tensor_number(value, 0);
    belay_tensor_free(value);
    return code;
}

/* SM-17, SM-18, SM-23: init_op with its feeds, then init_fn; local init has feeds of its own. */
static void test_prepare_session__runs_init_op_then_init_fn(void **state) {
    (void)state;
    struct init init = {0, 0, NULL, BELAY_OK, 0};
    belay_graph *graph = load("plain_saver.meta");
    belay_tensor *ones = tensor_of(BELAY_FLOAT, (int64_t[]){4}, 1);
    for (int i = 0; i < 4; i++)
        ((float *)belay_tensor_data(ones))[i] = 1;
    belay_tensor *five = scalar(5);
    belay_session_manager_options manager_options = BELAY_SESSION_MANAGER_OPTIONS_INIT;
    manager_options.local_init_op = "b/Assign";
    char fed[] = "b/Initializer/zeros";
    const char *local_feeds[] = {fed, NULL};
    belay_tensor *local_inputs[] = {five};
    manager_options.local_init_feeds = local_feeds;
    manager_options.local_init_inputs = local_inputs;
    belay_session_manager *manager = belay_session_manager_new(graph, &manager_options, err);
    assert_made(manager);
    fed[0] = '\0'; /* names and lists are copied */
    local_feeds[0] = NULL;
    local_inputs[0] = NULL;
    belay_prepare_options options = BELAY_PREPARE_OPTIONS_INIT;
    options.init_op = "w/Assign";
    options.init_feeds = (const char *[]){"w/Initializer/zeros", NULL};
    options.init_inputs = &ones;
    options.init_fn = init_fn;
    options.init_self = &init;
    log_start();
    belay_session *session = belay_session_manager_prepare_session(manager, &options, NULL, err);
    assert_made(session);
    assert_int_equal(init.calls, 1);
    assert_true(init.seen == 1);
    assert_true(fetch_number(session, "w", 3) == 1);
    assert_true(fetch_number(session, "b", 0) == 5);
    assert_logged("Running local_init_op.\n"); /* SM-45 */
    assert_logged("Done running local_init_op.\n");
    belay_session_free(session);
    init.code = BELAY_NAN_LOSS;
    assert_not_made(BELAY_NAN_LOSS, "init_fn does not like it",
                    belay_session_manager_prepare_session(manager, &options, NULL, err));
    init.silent = 1;
    assert_not_made(BELAY_NAN_LOSS, "init_fn failed",
                    belay_session_manager_prepare_session(manager, &options, NULL, err));
    belay_tensor_free(ones);
    belay_tensor_free(five);
    belay_session_manager_free(manager);
    belay_graph_free(graph);
}

/* SM-07, SM-15, SM-19, SM-48: neither init_op nor init_fn after a restore, but the local init op.
 */
static void test_prepare_session__does_not_initialise_what_it_restored(void **state) {
    (void)state;
    struct init init = {0, 0, NULL, BELAY_OK, 0};
    const char *folder = work_folder("restored");
    struct prepared p = prepare(load("queue.meta"), NULL);
    double marker = fetch_number(p.session, "marker", 0);
    for (int64_t step = 1; step <= 2; step++)
        assert_ok(belay_saver_save(belay_scaffold_saver(p.scaffold), p.session,
                                   in_folder(folder, "m"), step, NULL, NULL, err));
    prepared_free(&p);
    for (int by_path = 0; by_path < 2; by_path++) {
        uint32_t restored = 0;
        p = chief_of(load("queue.meta"));
        belay_prepare_options options = prepare_options_of(&p, by_path ? NULL : folder);
        if (by_path)
            options.checkpoint_filename_with_path = in_folder(folder, "m-1");
        options.init_fn = init_fn;
        options.init_self = &init;
        log_start();
        p.session = belay_session_manager_prepare_session(p.manager, &options, &restored, err);
        assert_made(p.session);
        assert_int_equal(restored, 1);
        assert_int_equal(init.calls, 0);
        assert_true(fetch_number(p.session, "marker", 0) == marker);
        assert_logged("Done running local_init_op.");
        assert_int_equal(belay_saver_last_checkpoint_count(options.saver), by_path ? 0 : 2);
        /* The same manager, another session. */
        belay_session *second =
            belay_session_manager_prepare_session(p.manager, &options, NULL, err);
        assert_made(second);
        assert_true(fetch_number(second, "marker", 0) == marker);
        belay_session_free(second);
        prepared_free(&p);
    }
    /* SM-06: without a saver nothing is restored. */
    p = chief_of(load("queue.meta"));
    belay_prepare_options options = prepare_options_of(&p, folder);
    options.saver = NULL;
    p.session = belay_session_manager_prepare_session(p.manager, &options, &p.restored, err);
    assert_made(p.session);
    assert_int_equal(p.restored, 0);
    assert_true(fetch_number(p.session, "marker", 0) != marker);
    prepared_free(&p);
    /* A path that is not there is an error, not a reason to initialise. */
    p = chief_of(load("queue.meta"));
    options = prepare_options_of(&p, NULL);
    options.checkpoint_filename_with_path = in_folder(folder, "m-9");
    assert_not_made(BELAY_NOT_FOUND, "not a valid checkpoint",
                    belay_session_manager_prepare_session(p.manager, &options, NULL, err));
    prepared_free(&p);
}

/* SM-20, SM-21, SM-22, SM-42, SM-45, SC-13, ER-15. */
static void test_prepare_session__says_what_is_not_initialised(void **state) {
    (void)state;
    struct parts parts = parts_of("queue.meta");
    belay_session_manager *manager =
        manager_with(parts.graph, "nothing", parts.missing_local, parts.missing);
    log_start();
    assert_not_made(BELAY_FAILED_PRECONDITION,
                    "Init operations did not make model ready for local_init. Init op: "
                    "global_step/Assign, init fn: None, error: Variables not initialized: ",
                    prepare_with(manager, "global_step/Assign"));
    assert_not_made(BELAY_FAILED_PRECONDITION, "seen", prepare_with(manager, "global_step/Assign"));
    assert_not_made(BELAY_FAILED_PRECONDITION, "Init op: None, init fn: None",
                    prepare_with(manager, NULL));
    assert_false(logged("Running local_init_op."));
    belay_session_manager_free(manager);
    manager = manager_with(parts.graph, "nothing", NULL, parts.missing);
    assert_not_made(BELAY_FAILED_PRECONDITION,
                    "Init operations did not make model ready. Init op: init, init fn: None, "
                    "local_init_op: nothing, error: Variables not initialized: "
                    "input_producer/limit_epochs/epochs",
                    prepare_with(manager, parts.init));
    belay_session_manager_free(manager);
    belay_graph_free(parts.graph);
}

/* SM-45: local_init_run_options. */
static void test_prepare_session__runs_local_init_with_its_run_options(void **state) {
    (void)state;
    static const uint8_t timeout_in_ms[] = {0x10, 100};
    struct parts parts = parts_of("queue.meta");
    belay_run_options run = BELAY_RUN_OPTIONS_INIT;
    belay_session_manager_options options = BELAY_SESSION_MANAGER_OPTIONS_INIT;
    run.run_options = timeout_in_ms;
    run.run_options_size = sizeof timeout_in_ms;
    options.local_init_op = "train"; /* it waits for a queue that nobody fills */
    options.local_init_run_options = &run;
    belay_session_manager *manager = belay_session_manager_new(parts.graph, &options, err);
    assert_made(manager);
    assert_not_made(BELAY_DEADLINE_EXCEEDED, "", prepare_with(manager, parts.init));
    belay_session_manager_free(manager);
    belay_graph_free(parts.graph);
}

/* Op `find` looks something up in a table that nobody has filled. */
static void add_lookup(belay_graph *graph) {
    bly_builder b = bly_builder_start(graph, "", err);
    TF_Output table = {bly_graph_find_op(graph, "hash_table", err), 0};
    TF_Output key = bly_const_strings(&b, "key", NULL, (const char *const[]){"1"}, 1, 1);
    TF_Output otherwise = bly_const_integer(&b, "otherwise", NULL, BELAY_INT64, 0);
    assert_made(table.oper);
    bly_op_begin(&b, "LookupTableFindV2", "find", NULL);
    bly_op_input(&b, table);
    bly_op_input(&b, key);
    bly_op_input(&b, otherwise);
    bly_op_finish(&b);
    assert_ok(bly_builder_end(&b));
}

/* SM-40, SM-41, SM-42, SM-43, SM-44, BUG-64, BUG-65. */
static void test_prepare_session__tells_ready_from_not_ready(void **state) {
    (void)state;
    static const struct {
        const char *ready_op;
        belay_code code;
        const char *part;
    } cases[] = {
        {NULL, BELAY_OK, NULL},
        {"nothing", BELAY_OK, NULL},
        {"no_integers", BELAY_OK, NULL},
        {"zeros", BELAY_OK, NULL},
        {"no_names", BELAY_OK, NULL},
        {"ones", BELAY_FAILED_PRECONDITION, "Variables not initialized: 0, 1"},
        {"long:0", BELAY_FAILED_PRECONDITION, "Variables not initialized: 7"},
        {"names", BELAY_FAILED_PRECONDITION, "Variables not initialized: a, b/c"},
        {"embedding", BELAY_FAILED_PRECONDITION, "Init operations did not make model ready."},
        {"find", BELAY_FAILED_PRECONDITION,
         "Init operations did not make model ready. Init op: global_step/Assign, init fn: None, "
         "local_init_op: None, error: Table not initialized."},
        {"ids", BELAY_INVALID_ARGUMENT, "placeholder"},
    };
    struct parts parts = parts_of("table.meta");
    add_lookup(parts.graph);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        belay_session_manager *manager = manager_with(parts.graph, NULL, NULL, cases[i].ready_op);
        belay_error_clear(err);
        belay_session *session = prepare_with(manager, "global_step/Assign");
        if (cases[i].code == BELAY_OK)
            assert_made(session);
        else
            assert_error(cases[i].code, cases[i].part, belay_error_code(err), cases[i].ready_op);
        belay_session_free(session);
        belay_session_manager_free(manager);
    }
    belay_error_clear(err);
    belay_graph_free(parts.graph);
}

/* ---- recover_session ---- */

static belay_session *recover_with(struct parts *parts, const char *folder, belay_saver *saver,
                                   const char *local_init, const char *ready_for_local,
                                   const char *ready, uint32_t *out) {
    belay_session_manager *manager = manager_with(parts->graph, local_init, ready_for_local, ready);
    belay_prepare_options options = BELAY_PREPARE_OPTIONS_INIT;
    options.saver = saver;
    options.checkpoint_dir = folder;
    *out = 7;
    log_start();
    belay_session *session = belay_session_manager_recover_session(manager, &options, out, err);
    assert_made(session);
    belay_session_manager_free(manager);
    return session;
}

/* SM-25, SM-26, SM-27, SM-28, SM-29, SM-30. */
static void test_recover_session__restores_and_says_whether_that_was_enough(void **state) {
    (void)state;
    uint32_t initialized;
    const char *folder = work_folder("recover");
    struct parts parts = parts_of("plain_saver.meta");
    belay_saver *saver = belay_saver_new(parts.graph, NULL, err);
    assert_made(saver);
    /* SM-26, SM-27, SM-30: nothing there. */
    belay_session *session =
        recover_with(&parts, folder, saver, "nothing", NULL, "names", &initialized);
    assert_int_equal(initialized, 0);
    assert_logged("Done running local_init_op.");
    int64_t step;
    assert_fails(BELAY_FAILED_PRECONDITION, "uninitialized",
                 belay_session_global_step(session, &step, err));
    run_op(session, parts.init);
    assert_ok(belay_saver_save(saver, session, in_folder(folder, "m"), 1, NULL, NULL, err));
    belay_session_free(session);
    /* SM-28 */
    session = recover_with(&parts, folder, saver, "nothing", "names", NULL, &initialized);
    assert_int_equal(initialized, 0);
    assert_logged("did not make model ready for local init: Variables not initialized: a, b/c");
    belay_session_free(session);
    /* SM-29 */
    session = recover_with(&parts, folder, saver, "nothing", NULL, "names", &initialized);
    assert_int_equal(initialized, 0);
    assert_logged("did not make model ready: Variables not initialized: a, b/c");
    belay_session_free(session);
    session = recover_with(&parts, folder, saver, NULL, NULL, parts.missing, &initialized);
    assert_int_equal(initialized, 1);
    assert_logged("Restored model from ");
    assert_int_equal(step_of(session), 0);
    belay_session_free(session);
    belay_saver_free(saver);
    belay_graph_free(parts.graph);
}

/* ---- waiting ---- */

/* BUG-31, SM-11, SM-24: never a fresh start where a checkpoint was to be waited for. */
static void test_prepare_session__fails_where_no_checkpoint_came(void **state) {
    (void)state;
    const char *folder = work_folder("never");
    struct prepared p = chief_of(load("tiny.meta"));
    belay_prepare_options options = prepare_options_of(&p, folder);
    options.flags = BELAY_PREPARE_WAIT_FOR_CHECKPOINT;
    options.max_wait_secs = 0.3;
    int64_t started = bly_now_ms();
    log_start();
    assert_not_made(BELAY_DEADLINE_EXCEEDED, "no checkpoint in",
                    belay_session_manager_prepare_session(p.manager, &options, NULL, err));
    assert_in_range(bly_now_ms() - started, 290, 5000);
    assert_logged("Waiting for checkpoint to be available.");
    options.max_wait_secs = BELAY_AT_ONCE;
    started = bly_now_ms();
    assert_not_made(BELAY_DEADLINE_EXCEEDED, "no checkpoint in",
                    belay_session_manager_prepare_session(p.manager, &options, NULL, err));
    assert_true(bly_now_ms() - started < 5000);
    options.flags = BELAY_PREPARE_REQUIRE_CHECKPOINT;
    assert_not_made(BELAY_NOT_FOUND, "there is no checkpoint in",
                    belay_session_manager_prepare_session(p.manager, &options, NULL, err));
    assert_folder(folder, "");
    prepared_free(&p);
}

struct later {
    struct prepared *p;
    const char *folder;
    belay_code code;
};

static void save_later(void *self) {
    struct later *later = self;
    nap_ms(150);
    later->code = belay_saver_save(belay_scaffold_saver(later->p->scaffold), later->p->session,
                                   in_folder(later->folder, "m"), 5, NULL, NULL, NULL);
}

/* SM-11, BUG-25: seen soon after it is there, though the longest pause is 30 s. */
static void test_prepare_session__sees_a_checkpoint_that_comes(void **state) {
    (void)state;
    const char *folder = work_folder("comes");
    struct prepared writer = prepare(load("tiny.meta"), NULL);
    struct prepared p = chief_of(load("tiny.meta"));
    struct later later = {&writer, folder, BELAY_UNKNOWN};
    belay_prepare_options options = prepare_options_of(&p, folder);
    options.flags = BELAY_PREPARE_WAIT_FOR_CHECKPOINT;
    bly_thread *thread = bly_thread_start("writer", save_later, &later, NULL);
    assert_non_null(thread);
    int64_t started = bly_now_ms();
    p.session = belay_session_manager_prepare_session(p.manager, &options, &p.restored, err);
    bly_thread_join(thread);
    assert_int_equal(later.code, BELAY_OK);
    assert_made(p.session);
    assert_int_equal(p.restored, 1);
    assert_true(bly_now_ms() - started < 15000);
    prepared_free(&p);
    prepared_free(&writer);
}

static void vanish_and_come(void *self) {
    struct later *later = self;
    nap_ms(150);
    rmdir(later->folder);
    nap_ms(400);
    mkdir(later->folder, 0777);
    later->code = belay_saver_save(belay_scaffold_saver(later->p->scaffold), later->p->session,
                                   in_folder(later->folder, "m"), 5, NULL, NULL, NULL);
}

/* SM-11: the folder vanishes while somebody waits, for good or for a while. */
static void test_prepare_session__goes_on_waiting_where_the_folder_vanishes(void **state) {
    (void)state;
    const char *folder = work_folder("vanishes");
    struct prepared writer = prepare(load("tiny.meta"), NULL);
    struct prepared p = chief_of(load("tiny.meta"));
    struct later later = {&writer, folder, BELAY_UNKNOWN};
    belay_prepare_options options = prepare_options_of(&p, folder);
    options.flags = BELAY_PREPARE_WAIT_FOR_CHECKPOINT;
    bly_thread *thread = bly_thread_start("writer", vanish_and_come, &later, NULL);
    assert_non_null(thread);
    p.session = belay_session_manager_prepare_session(p.manager, &options, &p.restored, err);
    bly_thread_join(thread);
    assert_int_equal(later.code, BELAY_OK);
    assert_made(p.session);
    assert_int_equal(p.restored, 1);
    options.checkpoint_dir = in_folder(folder, "not there");
    options.max_wait_secs = 0.3;
    assert_not_made(BELAY_DEADLINE_EXCEEDED, "no checkpoint in",
                    belay_session_manager_prepare_session(p.manager, &options, NULL, err));
    prepared_free(&p);
    prepared_free(&writer);
}

/* SM-34, SM-35, SM-38, ER-16, BUG-26. */
static void test_wait_for_session__ends_at_its_deadline_and_says_what_was_missing(void **state) {
    (void)state;
    struct parts parts = parts_of("tiny.meta");
    belay_session_manager *manager = manager_with(parts.graph, NULL, NULL, parts.missing);
    int64_t started = bly_now_ms();
    log_start();
    assert_not_made(BELAY_DEADLINE_EXCEEDED, "Session was not ready after waiting 1 secs.",
                    belay_session_manager_wait_for_session(manager, NULL, 1.2, err));
    assert_in_range(bly_now_ms() - started, 1190, 10000);
    assert_logged("Waiting for model to be ready. Ready_for_local_init_op: None, ready: Variables "
                  "not initialized: global_step");
    assert_logged("W waiting for a session in this process");
    started = bly_now_ms();
    assert_not_made(BELAY_DEADLINE_EXCEEDED, "Variables not initialized: global_step",
                    belay_session_manager_wait_for_session(manager, NULL, 0, err));
    assert_true(bly_now_ms() - started < 5000);
    assert_not_made(BELAY_INVALID_ARGUMENT, "max_wait_secs",
                    belay_session_manager_wait_for_session(manager, NULL, -0.5, err));
    belay_session_manager_free(manager);
    /* A model that is ready is there at once, however little time there is. */
    manager = manager_with(parts.graph, "global_step/Assign", NULL, parts.missing);
    belay_session *session = belay_session_manager_wait_for_session(manager, NULL, 0, err);
    assert_made(session);
    assert_int_equal(step_of(session), 0);
    belay_session_free(session);
    belay_session_manager_free(manager);
    belay_graph_free(parts.graph);
}

/* SM-39. */
static void test_wait_for_session__ends_at_an_error(void **state) {
    (void)state;
    struct parts parts = parts_of("table.meta");
    belay_session_manager *manager = manager_with(parts.graph, NULL, NULL, "ids");
    int64_t started = bly_now_ms();
    assert_not_made(BELAY_INVALID_ARGUMENT, "placeholder",
                    belay_session_manager_wait_for_session(manager, NULL, BELAY_FOREVER, err));
    belay_session_options options = BELAY_SESSION_OPTIONS_INIT;
    options.target = "nowhere://";
    assert_not_made(BELAY_NOT_FOUND, "session factory",
                    belay_session_manager_wait_for_session(manager, &options, BELAY_FOREVER, err));
    assert_true(bly_now_ms() - started < 5000);
    belay_session_manager_free(manager);
    belay_graph_free(parts.graph);
}

static void cancel_later(void *self) {
    nap_ms(150);
    belay_session_manager_cancel(self);
}

static void test_session_manager_cancel__ends_waits_now_and_later(void **state) {
    (void)state;
    const char *folder = work_folder("cancelled");
    struct prepared p = chief_of(load("tiny.meta"));
    bly_thread *thread = bly_thread_start("cancel", cancel_later, p.manager, NULL);
    assert_non_null(thread);
    belay_session *session =
        belay_session_manager_wait_for_session(p.manager, NULL, BELAY_FOREVER, err);
    bly_thread_join(thread);
    assert_null(session);
    assert_error(BELAY_CANCELLED, "stop", belay_error_code(err), "wait_for_session");
    belay_prepare_options options = prepare_options_of(&p, folder);
    options.flags = BELAY_PREPARE_WAIT_FOR_CHECKPOINT;
    assert_not_made(BELAY_CANCELLED, "stop",
                    belay_session_manager_prepare_session(p.manager, &options, NULL, err));
    prepared_free(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_session_manager_new__checks_its_options),
        cmocka_unit_test(test_prepare_session__checks_its_options),
        cmocka_unit_test(test_prepare_session__needs_something_to_initialise_with),
        cmocka_unit_test(test_prepare_session__runs_init_op_then_init_fn),
        cmocka_unit_test(test_prepare_session__does_not_initialise_what_it_restored),
        cmocka_unit_test(test_prepare_session__says_what_is_not_initialised),
        cmocka_unit_test(test_prepare_session__runs_local_init_with_its_run_options),
        cmocka_unit_test(test_prepare_session__tells_ready_from_not_ready),
        cmocka_unit_test(test_recover_session__restores_and_says_whether_that_was_enough),
        cmocka_unit_test(test_prepare_session__fails_where_no_checkpoint_came),
        cmocka_unit_test(test_prepare_session__sees_a_checkpoint_that_comes),
        cmocka_unit_test(test_prepare_session__goes_on_waiting_where_the_folder_vanishes),
        cmocka_unit_test(test_wait_for_session__ends_at_its_deadline_and_says_what_was_missing),
        cmocka_unit_test(test_wait_for_session__ends_at_an_error),
        cmocka_unit_test(test_session_manager_cancel__ends_waits_now_and_later),
    };
    return cmocka_run_group_tests(tests, session_run_set_up, session_run_tear_down);
}
