/* The ops that belay builds where a graph lacks them: they initialise, report, save and restore as
 * TensorFlow's do, and their checkpoints are the same files. */
#include "graph_run.h"

#include "wire/unpack.h"

#include <unistd.h>

/* Bare graphs: none has a saver or an init op. */
static const char *const names[] = {"tiny",     "refvars", "partitioned",      "queue",
                                    "table",    "while",   "while_v2",         "dataset",
                                    "mlp_bare", "nan",     "dataset_one_shot", "int32_step"};
/* One that is given a global step; Python's half of it has none. */
static const char stepless[] = "no_step";
#define NAME_COUNT (sizeof names / sizeof names[0])

/* A graph with all its default ops, in a session. */
struct run {
    belay_graph *graph;
    TF_Session *session;
    TF_Operation *init;
    TF_Operation *local_init;
    TF_Output ready;
    TF_Output ready_for_local;
    TF_Output filename;
    TF_Output save;
    TF_Operation *restore;
    const char *witness; /* the variable that tells one initialisation from another */
};

static struct run start(const char *name) {
    char file[64];
    struct run r = {0};
    BLY_LOCAL_ERROR(err);
    snprintf(file, sizeof file, "%s.meta", name);
    r.graph = load(file);
    assert_null(bly_graph_saver_def(r.graph));
    if (!belay_graph_global_step_name(r.graph))
        assert_int_equal(belay_graph_create_global_step(r.graph, NULL, &err), BELAY_OK);
    r.init = bly_build_init_op(r.graph, &err);
    r.local_init = bly_build_local_init_op(r.graph, &err);
    assert_int_equal(bly_build_ready_op(r.graph, 1, &r.ready, &err), BELAY_OK);
    assert_int_equal(bly_build_ready_op(r.graph, 0, &r.ready_for_local, &err), BELAY_OK);
    Bly__SaverDef *saver = bly_build_saver(r.graph, &err);
    if (!saver || !r.init || !r.local_init)
        fail_msg("%s: %s", name, err.message);
    assert_int_equal(saver->max_to_keep, 5);
    assert_int_equal(saver->version, 2);
    assert_true(saver->sharded);
    r.filename = output_of(r.graph, saver->filename_tensor_name);
    r.save = output_of(r.graph, saver->save_tensor_name);
    r.restore = bly_graph_find_op(r.graph, saver->restore_op_name, &err);
    assert_string_equal(saver->filename_tensor_name, "save/Const:0");
    assert_string_equal(saver->save_tensor_name, "save/Identity:0");
    assert_string_equal(saver->restore_op_name, "save/restore_all");
    bly_wire_free(saver);
    assert_int_equal(bly_graph_savers_count(r.graph), 1);
    assert_string_equal(bly_graph_saver_def(r.graph)->save_tensor_name, "save/Identity:0");
    r.witness = belay_graph_has_op(r.graph, "marker") ? "marker" : "global_step";
    r.session = open_session(r.graph);
    return r;
}

static void stop(struct run *r) {
    close_session(r->graph, r->session);
    belay_graph_free(r->graph);
}

static void initialise(const struct run *r) {
    run(r->graph, r->session, r->init);
    run(r->graph, r->session, r->local_init);
}

static void save(const struct run *r, const char *prefix) {
    BLY_LOCAL_ERROR(err);
    struct feed feed = {r->filename, string_tensor(r->graph, prefix)};
    TF_Tensor *written = NULL;
    if (run_fed(r->graph, r->session, &feed, 1, r->save, NULL, &written, &err) != BELAY_OK)
        fail_msg("%s: %s", r->graph->path, err.message);
    size_t len = 0;
    const char *text = bly_tensor_string(r->graph->rt, written, 0, &len);
    assert_int_equal(len, strlen(prefix)); /* SV-24 */
    assert_memory_equal(text, prefix, len);
    r->graph->rt->DeleteTensor(written);
}

static belay_code restore(const struct run *r, const char *prefix, belay_error *err) {
    struct feed feed = {r->filename, string_tensor(r->graph, prefix)};
    return run_fed(r->graph, r->session, &feed, 1, BLY_NO_OUTPUT, r->restore, NULL, err);
}

static double witness(const struct run *r, int64_t index) {
    return fetch_number(r->graph, r->session, r->witness, index);
}

/* SC-07 to SC-10, SC-13, SV-42 */
static void check_graph(const char *name) {
    char folder[512], prefix[600], path[700];
    BLY_LOCAL_ERROR(err);
    struct run r = start(name);
    work_folder(folder, sizeof folder, name);
    snprintf(prefix, sizeof prefix, "%s/belay", folder);

    size_t all = r.graph->variable_count;
    assert_int_equal(fetch_count(r.graph, r.session, r.ready), all);
    assert_int_equal(fetch_count(r.graph, r.session, r.ready_for_local),
                     all - r.graph->local_count);
    run(r.graph, r.session, r.init);
    assert_int_equal(fetch_count(r.graph, r.session, r.ready), r.graph->local_count);
    assert_int_equal(fetch_count(r.graph, r.session, r.ready_for_local), 0);
    run(r.graph, r.session, r.local_init);
    assert_int_equal(fetch_count(r.graph, r.session, r.ready), 0);

    int64_t count = strcmp(r.witness, "marker") == 0 ? 4 : 1;
    double values[4];
    for (int64_t i = 0; i < count; i++)
        values[i] = witness(&r, i);
    save(&r, prefix);
    snprintf(path, sizeof path, "%s.index", prefix);
    assert_true(bly_file_exists(path));
    snprintf(path, sizeof path, "%s_temp", prefix); /* SV-28 */
    assert_false(bly_is_directory(path));

    initialise(&r); /* `marker` is initialised without a seed */
    if (count == 4)
        assert_true(witness(&r, 0) != values[0]);
    assert_int_equal(restore(&r, prefix, &err), BELAY_OK);
    for (int64_t i = 0; i < count; i++)
        assert_true(witness(&r, i) == values[i]);

    /* For Python. */
    bly_buf text = BLY_BUF_INIT, meta = BLY_BUF_INIT;
    for (int64_t i = 0; i < count; i++)
        bly_buf_printf(&text, "%.17g\n", values[i]);
    snprintf(path, sizeof path, "%s/belay.txt", folder);
    assert_int_equal(bly_file_write_atomic(path, text.data, text.len, &err), BELAY_OK);
    assert_int_equal(bly_graph_serialize(r.graph, bly_graph_saver_def(r.graph), &meta, &err),
                     BELAY_OK);
    snprintf(path, sizeof path, "%s/graph.meta", folder);
    assert_int_equal(bly_file_write_atomic(path, meta.data, meta.len, &err), BELAY_OK);
    bly_buf_free(&text);
    bly_buf_free(&meta);
    stop(&r);

    /* A session that never was initialised is ready after a restore, but for what is local. */
    r = start(name);
    assert_int_equal(restore(&r, prefix, &err), BELAY_OK);
    assert_int_equal(fetch_count(r.graph, r.session, r.ready), r.graph->local_count);
    assert_true(witness(&r, 0) == values[0]);
    stop(&r);
}

static void test_defaults__initialise_report_save_and_restore(void **state) {
    (void)state;
    for (size_t i = 0; i < NAME_COUNT; i++)
        check_graph(names[i]);
    check_graph(stepless);
}

/* Python with TensorFlow: given by the environment, else where the scripts install it; NULL: none.
 */
static const char *python(void) {
    const char *given = getenv("BELAY_TEST_PYTHON");
    static const char installed[] = SOURCE_ROOT "/.deps/venv/bin/python";
    return given ? given : access(installed, X_OK) == 0 ? installed : NULL;
}

static void test_defaults__checkpoints_are_pythons_both_ways(void **state) {
    (void)state;
    bly_buf command = BLY_BUF_INIT;
    if (!python())
        skip();
    bly_buf_printf(&command, "'%s' '%s/tests/integration/check_savers.py' '%s' '%s'", python(),
                   SOURCE_ROOT, TEST_GRAPHS, TEST_WORK);
    for (size_t i = 0; i < NAME_COUNT; i++)
        bly_buf_printf(&command, " %s", names[i]);
    bly_buf_printf(&command, " %s", stepless);
    assert_int_equal(system(command.data), 0);
    bly_buf_free(&command);
    for (size_t i = 0; i < NAME_COUNT; i++) {
        char prefix[600];
        BLY_LOCAL_ERROR(err);
        struct run r = start(names[i]);
        snprintf(prefix, sizeof prefix, "%s/%s/python", TEST_WORK, names[i]);
        if (restore(&r, prefix, &err) != BELAY_OK)
            fail_msg("%s: %s", names[i], err.message);
        assert_true(witness(&r, 0) == 42);
        assert_int_equal(fetch_count(r.graph, r.session, r.ready), r.graph->local_count);
        stop(&r);
    }
}

/* SC-08, SC-13: what is reported, and in which order. */
static void test_ready_op__names_variables_without_their_output(void **state) {
    (void)state;
    struct run r = start("queue");
    TF_Tensor *value = fetch(r.graph, r.session, r.ready);
    for (size_t i = 0; i < r.graph->variable_count; i++) {
        size_t len;
        const char *text = bly_tensor_string(r.graph->rt, value, (int64_t)i, &len);
        assert_int_equal(len, strlen(r.graph->variables[i].info.name));
        assert_memory_equal(text, r.graph->variables[i].info.name, len);
    }
    r.graph->rt->DeleteTensor(value);
    stop(&r);
}

/* SC-15 */
static void test_ready_op__falls_back_to_reference_variables(void **state) {
    (void)state;
    BLY_LOCAL_ERROR(err);
    TF_Output ready;
    belay_graph *graph = load("refvars.meta");
    size_t count = graph->variable_count;
    for (size_t i = 0; i < graph->meta->n_collection_def; i++)
        graph->meta->collection_def[i]->key[0] = '_'; /* no collection is what it was */
    graph = reload(graph);
    assert_int_equal(graph->variable_count, 0);
    assert_int_equal(bly_build_ready_op(graph, 1, &ready, &err), BELAY_OK);
    TF_Session *session = open_session(graph);
    assert_int_equal(fetch_count(graph, session, ready), count);
    close_session(graph, session);
    belay_graph_free(graph);

    graph = empty_graph();
    assert_int_equal(bly_build_ready_op(graph, 1, &ready, &err), BELAY_OK);
    session = open_session(graph);
    assert_int_equal(fetch_count(graph, session, ready), 0);
    close_session(graph, session);
    belay_graph_free(graph);
}

/* SC-11 */
static void test_summary_op__merges_all_summaries(void **state) {
    (void)state;
    BLY_LOCAL_ERROR(err);
    TF_Output merged;
    belay_graph *graph = load("tiny.meta");
    assert_int_equal(bly_build_summary_op(graph, &merged, &err), BELAY_OK);
    assert_null(merged.oper);
    belay_graph_free(graph);

    graph = load("mlp_bare.meta");
    assert_int_equal(bly_build_summary_op(graph, &merged, &err), BELAY_OK);
    TF_Operation *init = bly_build_init_op(graph, &err);
    TF_Session *session = open_session(graph);
    run(graph, session, init);
    int64_t x[2] = {3, 64}, y[1] = {3};
    struct feed feeds[2] = {{output_of(graph, "x:0"), filled(graph, BELAY_FLOAT, x, 2, 0.5)},
                            {output_of(graph, "y:0"), filled(graph, BELAY_INT64, y, 1, 1)}};
    TF_Tensor *value;
    assert_int_equal(run_fed(graph, session, feeds, 2, merged, NULL, &value, &err), BELAY_OK);
    size_t len = 0;
    const char *text = bly_tensor_string(graph->rt, value, 0, &len);
    int found = 0;
    for (size_t i = 0; i + 4 <= len; i++)
        found |= memcmp(text + i, "loss", 4) == 0;
    assert_true(found);
    graph->rt->DeleteTensor(value);
    close_session(graph, session);
    belay_graph_free(graph);
}

/* SC-19, ER-24 */
static void test_defaults__cannot_be_added_to_a_finalised_graph(void **state) {
    (void)state;
    BLY_LOCAL_ERROR(err);
    TF_Output output;
    bly_side_saver side;
    belay_graph *graph = load("mlp_bare.meta");
    size_t ops = belay_graph_op_count(graph);
    bly_graph_set_finalized(graph, 1);
    assert_null(bly_build_init_op(graph, &err));
    assert_int_equal(err.code, BELAY_FAILED_PRECONDITION);
    assert_non_null(strstr(err.message, "graph is finalized and cannot be modified"));
    assert_null(bly_build_local_init_op(graph, NULL));
    assert_null(bly_build_saver(graph, &err));
    assert_int_equal(bly_build_ready_op(graph, 1, &output, &err), BELAY_FAILED_PRECONDITION);
    assert_int_equal(bly_build_summary_op(graph, &output, &err), BELAY_FAILED_PRECONDITION);
    assert_int_equal(bly_build_side_saver(graph, &side, &err), BELAY_FAILED_PRECONDITION);
    assert_int_equal(belay_graph_op_count(graph), ops);
    belay_graph_free(graph);
}

/* SV-03 */
static void test_saver__of_nothing_is_no_saver_and_no_error(void **state) {
    (void)state;
    BLY_LOCAL_ERROR(err);
    belay_graph *graph = empty_graph();
    assert_null(bly_build_saver(graph, &err));
    assert_int_equal(err.code, BELAY_OK);
    belay_graph_free(graph);
}

/* SV-09: a scope that is taken gets a number. */
static void test_saver__beside_another_one_is_save_1(void **state) {
    (void)state;
    BLY_LOCAL_ERROR(err);
    belay_graph *graph = load("tiny_final.meta");
    Bly__SaverDef *saver = bly_build_saver(graph, &err);
    assert_non_null(saver);
    assert_string_equal(saver->save_tensor_name, "save_1/Identity:0");
    bly_wire_free(saver);
    assert_int_equal(bly_graph_savers_count(graph), 2);
    graph = reload(graph);
    assert_true(has_problem(graph, "'savers' has 2 members"));
    belay_graph_free(graph);
}

/* ---- several devices ---- */

static TF_Session *open_with_two_cpus(const belay_graph *graph) {
    static const uint8_t config[] = {0x0a, 0x07, 0x0a, 0x03, 'C', 'P', 'U', 0x10, 0x02};
    const bly_runtime *rt = graph->rt;
    TF_Status *status = rt->NewStatus();
    TF_SessionOptions *options = rt->NewSessionOptions();
    rt->SetConfig(options, config, sizeof config, status);
    TF_Session *session = rt->NewSession(graph->tf, options, status);
    rt->DeleteSessionOptions(options);
    assert_int_equal(rt->GetCode(status), TF_OK);
    rt->DeleteStatus(status);
    return session;
}

static void test_saver__writes_a_shard_for_each_device(void **state) {
    (void)state;
    BLY_LOCAL_ERROR(err);
    char folder[512], prefix[600], path[700];
    int64_t dims[1] = {3};
    belay_graph *graph = empty_graph();
    add_variable(graph, "z", "/cpu:0", BELAY_FLOAT, dims, 1, 1, NULL);
    add_variable(graph, "a", "/device:CPU:1", BELAY_FLOAT, dims, 1, 2, NULL);
    add_variable(graph, "m", "/device:CPU:0", BELAY_FLOAT, dims, 1, 3, NULL);
    struct run r = {.graph = reload(graph)};
    r.init = bly_build_init_op(r.graph, &err);
    Bly__SaverDef *saver = bly_build_saver(r.graph, &err);
    assert_non_null(saver);
    r.filename = output_of(r.graph, saver->filename_tensor_name);
    r.save = output_of(r.graph, saver->save_tensor_name);
    r.restore = bly_graph_find_op(r.graph, saver->restore_op_name, &err);
    bly_wire_free(saver);
    assert_non_null(bly_graph_find_op(r.graph, "save/SaveV2_1", &err));
    assert_null(bly_graph_find_op(r.graph, "save/SaveV2_2", NULL)); /* "/cpu:0" is CPU:0 */
    r.session = open_with_two_cpus(r.graph);
    run(r.graph, r.session, r.init);
    work_folder(folder, sizeof folder, "shards");
    snprintf(prefix, sizeof prefix, "%s/m", folder);
    save(&r, prefix);
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s.data-0000%d-of-00002", prefix, i);
        assert_true(bly_file_exists(path));
    }
    close_session(r.graph, r.session);
    r.session = open_with_two_cpus(r.graph);
    assert_int_equal(restore(&r, prefix, &err), BELAY_OK);
    assert_true(fetch_number(r.graph, r.session, "a", 2) == 2);
    assert_true(fetch_number(r.graph, r.session, "m", 0) == 3);
    stop(&r);
}

/* BUG-29: TensorFlow's own saver would put the other shape into the variable. */
static void test_saver__refuses_a_value_of_another_shape(void **state) {
    (void)state;
    char folder[512], prefix[600];
    work_folder(folder, sizeof folder, "shapes");
    snprintf(prefix, sizeof prefix, "%s/m", folder);
    for (int64_t size = 2; size <= 3; size++) {
        BLY_LOCAL_ERROR(err);
        belay_graph *graph = empty_graph();
        add_variable(graph, "v", NULL, BELAY_FLOAT, &size, 1, 1, NULL);
        struct run r = {.graph = reload(graph)};
        r.init = bly_build_init_op(r.graph, &err);
        Bly__SaverDef *saver = bly_build_saver(r.graph, &err);
        r.filename = output_of(r.graph, saver->filename_tensor_name);
        r.save = output_of(r.graph, saver->save_tensor_name);
        r.restore = bly_graph_find_op(r.graph, saver->restore_op_name, &err);
        bly_wire_free(saver);
        r.session = open_session(r.graph);
        run(r.graph, r.session, r.init);
        if (size == 2)
            save(&r, prefix);
        assert_int_equal(restore(&r, prefix, &err), size == 2 ? BELAY_OK : BELAY_INVALID_ARGUMENT);
        stop(&r);
    }
}

/* ---- the side saver ---- */

static void test_side_saver__adds_the_step_to_a_saved_models_checkpoint(void **state) {
    (void)state;
    BLY_LOCAL_ERROR(err);
    char folder[512], parts[2][600], whole[600];
    bly_side_saver side;
    belay_graph *graph = load("keras_small");
    const bly_runtime *rt = graph->rt;
    assert_int_equal(belay_graph_create_global_step(graph, NULL, &err), BELAY_OK);
    TF_Operation *init = bly_build_init_op(graph, &err);
    assert_int_equal(bly_build_side_saver(graph, &side, &err), BELAY_OK);
    const Bly__SaverDef *saver = bly_graph_saver_def(graph);
    TF_Output filename = output_of(graph, saver->filename_tensor_name);
    work_folder(folder, sizeof folder, "side");
    snprintf(whole, sizeof whole, "%s/m_temp", folder); /* a saver of functions makes no folder */
    assert_int_equal(bly_make_directories(whole, &err), BELAY_OK);
    snprintf(parts[0], sizeof parts[0], "%s/m_temp/model", folder);
    snprintf(parts[1], sizeof parts[1], "%s/m_temp/step", folder);
    snprintf(whole, sizeof whole, "%s/m", folder);

    TF_Session *session = open_session(graph);
    struct feed initial = {filename, string_tensor(graph, graph->initial_checkpoint)};
    TF_Operation *restore_model = bly_graph_find_op(graph, saver->restore_op_name, &err);
    assert_int_equal(run_fed(graph, session, &initial, 1, BLY_NO_OUTPUT, restore_model, NULL, &err),
                     BELAY_OK);
    run(graph, session, init);
    for (int i = 0; i < 7; i++)
        run(graph, session, graph->global_step.count);
    struct feed model = {filename, string_tensor(graph, parts[0])};
    assert_int_equal(run_fed(graph, session, &model, 1, output_of(graph, saver->save_tensor_name),
                             NULL, NULL, &err),
                     BELAY_OK);
    struct feed step = {side.prefix, string_tensor(graph, parts[1])};
    assert_int_equal(run_fed(graph, session, &step, 1, BLY_NO_OUTPUT, side.save, NULL, &err),
                     BELAY_OK);
    const char *both[2] = {parts[0], parts[1]};
    int64_t two[1] = {2};
    struct feed merge[2] = {
        {side.merge_inputs, bly_tensor_allocate_strings(rt, both, NULL, two, 1, &err)},
        {side.merge_output, string_tensor(graph, whole)}};
    if (run_fed(graph, session, merge, 2, BLY_NO_OUTPUT, side.merge, NULL, &err) != BELAY_OK)
        fail_msg("%s", err.message);
    close_session(graph, session);
    snprintf(parts[0], sizeof parts[0], "%s/m_temp", folder);
    assert_false(bly_is_directory(parts[0]));

    session = open_session(graph);
    struct feed again = {filename, string_tensor(graph, whole)};
    assert_int_equal(run_fed(graph, session, &again, 1, BLY_NO_OUTPUT, restore_model, NULL, &err),
                     BELAY_OK);
    struct feed step_again = {side.prefix, string_tensor(graph, whole)};
    assert_int_equal(
        run_fed(graph, session, &step_again, 1, BLY_NO_OUTPUT, side.restore, NULL, &err), BELAY_OK);
    assert_int_equal(fetch_integer(graph, session, graph->global_step.read), 7);
    close_session(graph, session);
    belay_graph_free(graph);
}

static void check_report_device(const char *device) {
    BLY_LOCAL_ERROR(err);
    belay_graph *graph = belay_graph_load(TEST_GRAPHS "/refvars.meta", NULL, &err);
    TF_Output ready;
    assert_int_equal(bly_build_ready_op(graph, 1, &ready, &err), BELAY_OK);
    assert_string_equal(graph->rt->OperationDevice(ready.oper), device);
    belay_graph_free(graph);
}

/* SC-14 */
static void test_ready_op__is_put_where_the_environment_says(void **state) {
    static const char variable[] = "TF_DEVICE_FOR_UNINITIALIZED_VARIABLE_REPORTING";
    (void)state;
    unsetenv(variable);
    check_report_device("/cpu:0");
    setenv(variable, "/job:worker/task:1/device:CPU:0", 1);
    check_report_device("/job:worker/task:1/device:CPU:0");
    unsetenv(variable);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults__initialise_report_save_and_restore),
        cmocka_unit_test(test_defaults__checkpoints_are_pythons_both_ways),
        cmocka_unit_test(test_ready_op__names_variables_without_their_output),
        cmocka_unit_test(test_ready_op__is_put_where_the_environment_says),
        cmocka_unit_test(test_ready_op__falls_back_to_reference_variables),
        cmocka_unit_test(test_summary_op__merges_all_summaries),
        cmocka_unit_test(test_defaults__cannot_be_added_to_a_finalised_graph),
        cmocka_unit_test(test_saver__of_nothing_is_no_saver_and_no_error),
        cmocka_unit_test(test_saver__beside_another_one_is_save_1),
        cmocka_unit_test(test_saver__writes_a_shard_for_each_device),
        cmocka_unit_test(test_saver__refuses_a_value_of_another_shape),
        cmocka_unit_test(test_side_saver__adds_the_step_to_a_saved_models_checkpoint),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
