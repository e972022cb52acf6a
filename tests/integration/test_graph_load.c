/* Loading graphs: what is in them, and what is said of files that are none. */
#include "graph_run.h"

#include "base/buf.h"
#include "graph/serialize.h"
#include "wire/cursor.h"

static size_t room_of(const belay_variable *variable) {
    return variable->rank < 0 ? 0 : (size_t)variable->rank;
}

static const bly_variable *variable_of(const belay_graph *graph, const char *name) {
    for (size_t i = 0; i < graph->variable_count; i++)
        if (strcmp(graph->variables[i].info.name, name) == 0)
            return &graph->variables[i];
    fail_msg("%s has no variable %s", graph->path, name);
    return NULL;
}

/* MG-01, MG-05, MG-12, MG-17, MG-23, MG-24 */
static void test_load__reads_variables_and_collections_of_a_meta_graph(void **state) {
    (void)state;
    belay_graph *graph = load("mlp_bare.meta");
    assert_false(belay_graph_is_saved_model(graph));
    assert_int_equal(belay_graph_collection_kind(graph, "variables"), BELAY_COLLECTION_BYTES);
    assert_int_equal(belay_graph_collection_size(graph, "variables"),
                     belay_graph_variable_count(graph));
    assert_int_equal(belay_graph_collection_kind(graph, "train_op"), BELAY_COLLECTION_NODES);
    assert_string_equal(belay_graph_collection_node(graph, "train_op", 0), "train");
    assert_string_equal(belay_graph_collection_node(graph, "global_step", 0), "global_step");
    assert_null(belay_graph_collection_node(graph, "train_op", 1));
    assert_int_equal(belay_graph_collection_kind(graph, "nothing"), BELAY_COLLECTION_NONE);
    for (size_t i = 1; i < belay_graph_collection_count(graph); i++)
        assert_true(strcmp(belay_graph_collection_name(graph, i - 1),
                           belay_graph_collection_name(graph, i)) < 0);

    const bly_variable *w1 = variable_of(graph, "w1");
    assert_int_equal(w1->info.dtype, BELAY_FLOAT);
    assert_int_equal(room_of(&w1->info), 2);
    assert_int_equal(w1->info.dims[0], 64);
    assert_int_equal(w1->info.dims[1], 128);
    assert_true(w1->info.is_trainable && w1->info.is_resource && !w1->info.is_local);
    assert_string_equal(w1->info.initializer, "w1/Assign");
    assert_non_null(w1->snapshot.oper);
    assert_false(variable_of(graph, "marker")->info.is_trainable);
    assert_false(graph->has_reference_variables);

    assert_string_equal(belay_graph_global_step_name(graph), "global_step");
    assert_int_equal(graph->global_step.dtype, BELAY_INT64);
    assert_true(graph->global_step.is_resource);
    assert_int_equal(bly_graph_check_global_step(graph, NULL), BELAY_OK);
    assert_int_equal(belay_graph_problem_count(graph), 0);
    belay_graph_free(graph);
}

static void test_load__knows_reference_and_local_variables_and_slices(void **state) {
    (void)state;
    belay_graph *graph = load("refvars.meta");
    assert_true(graph->has_reference_variables);
    assert_false(variable_of(graph, "w/Momentum")->info.is_resource);
    assert_false(graph->global_step.is_resource);
    belay_graph_free(graph);

    graph = load("queue.meta");
    assert_int_equal(graph->local_count, 1);
    assert_true(graph->variables[graph->variable_count - 1].info.is_local);
    assert_non_null(bly_graph_collection(graph, "queue_runners"));
    belay_graph_free(graph);

    graph = load("partitioned.meta"); /* MG-13, SV-14 */
    const bly_variable *part = variable_of(graph, "embedding/part_1");
    assert_string_equal(part->slice_full_name, "embedding");
    assert_string_equal(part->slice_spec, "10 4 4,3:0,4");
    assert_string_equal(variable_of(graph, "embedding/part_2/Adagrad")->slice_full_name,
                        "embedding/Adagrad");
    assert_null(variable_of(graph, "marker")->slice_spec);
    belay_graph_free(graph);
}

static void test_load__reads_a_keras_saved_model(void **state) {
    (void)state;
    belay_graph *graph = load("keras_small");
    assert_true(belay_graph_is_saved_model(graph));
    assert_int_equal(belay_graph_signature_count(graph), 3);
    assert_string_equal(belay_graph_signature_name(graph, 0), "eval");
    assert_string_equal(belay_graph_signature_name(graph, 2), "train");
    assert_null(belay_graph_signature_name(graph, 3));
    assert_true(belay_graph_has_signature(graph, "train"));
    assert_false(belay_graph_has_signature(graph, "nothing"));
    assert_int_equal(belay_graph_signature_input_count(graph, "train"), 2);
    const belay_signature_tensor *x = belay_graph_signature_input(graph, "train", 0);
    assert_string_equal(x->name, "x");
    assert_int_equal(x->dtype, BELAY_FLOAT);
    assert_int_equal(x->rank, 2);
    assert_int_equal(x->dims[0], -1);
    assert_int_equal(x->dims[1], 4);
    assert_int_equal(belay_graph_signature_output_count(graph, "train"), 2);
    assert_string_equal(belay_graph_signature_output(graph, "train", 0)->name, "accuracy");
    assert_int_equal(belay_graph_signature_output(graph, "train", 1)->rank, 0);
    assert_null(belay_graph_signature_output(graph, "train", 2));

    assert_true(belay_graph_variable_count(graph) > 20);
    for (size_t i = 0; i < graph->variable_count; i++)
        assert_non_null(graph->variables[i].snapshot.oper);
    assert_non_null(graph->initial_checkpoint);
    assert_non_null(graph->initial_op);
    assert_string_equal(bly_graph_saver_def(graph)->filename_tensor_name, "saver_filename:0");
    assert_null(belay_graph_global_step_name(graph));
    assert_true(has_problem(graph, "no global step"));
    assert_int_equal(belay_graph_problem_count(graph), 1);
    belay_graph_free(graph);
}

static void test_load__reads_a_tf1_saved_model_with_its_assets(void **state) {
    (void)state;
    belay_graph *graph = load("tf1_saved_model");
    BLY_LOCAL_ERROR(err);
    assert_int_equal(graph->asset_count, 1);
    assert_true(bly_file_exists(graph->assets[0].path));
    assert_string_equal(graph->rt->OperationName(graph->initial_op), "init_all_tables");
    assert_string_equal(belay_graph_global_step_name(graph), "global_step");
    assert_string_equal(bly_graph_saver_def(graph)->restore_op_name, "save/restore_all");
    /* Its own variables, its table with the file moved along, one lookup. */
    TF_Session *session = open_session(graph);
    const Bly__SaverDef *saver = bly_graph_saver_def(graph);
    struct feed prefix = {output_of(graph, saver->filename_tensor_name),
                          string_tensor(graph, graph->initial_checkpoint)};
    assert_int_equal(run_fed(graph, session, &prefix, 1, BLY_NO_OUTPUT,
                             bly_graph_find_op(graph, saver->restore_op_name, &err), NULL, &err),
                     BELAY_OK);
    struct feed asset = {graph->assets[0].tensor, string_tensor(graph, graph->assets[0].path)};
    assert_int_equal(
        run_fed(graph, session, &asset, 1, BLY_NO_OUTPUT, graph->initial_op, NULL, &err), BELAY_OK);
    int64_t two[1] = {2};
    struct feed ids = {output_of(graph, "ids:0"), filled(graph, BELAY_INT64, two, 1, 3)};
    TF_Tensor *loss;
    assert_int_equal(run_fed(graph, session, &ids, 1, output_of(graph, "loss:0"),
                             bly_graph_find_op(graph, "train", &err), &loss, &err),
                     BELAY_OK);
    graph->rt->DeleteTensor(loss);
    assert_int_equal(fetch_integer(graph, session, graph->global_step.read), 1);
    close_session(graph, session);
    belay_graph_free(graph);
}

static void test_load__finds_every_shipped_graph_without_damage(void **state) {
    static const char *const names[] = {
        "tiny.meta",      "tiny_final.meta",  "mlp.meta",           "table.meta",
        "while.meta",     "while_v2.meta",    "dataset.meta",       "dataset_one_shot.meta",
        "no_step.meta",   "two_trains.meta",  "no_train_op.meta",   "nan.meta",
        "slow.meta",      "plain_saver.meta", "sharded_saver.meta", "int32_step.meta",
        "summaries.meta", "module",           "fixed_batch",        "no_train_signature"};
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        belay_graph *graph = load(names[i]);
        assert_true(belay_graph_op_count(graph) > 0);
        belay_graph_free(graph);
    }
}

static void test_load__says_what_is_odd_about_a_graph(void **state) {
    (void)state;
    belay_graph *graph = load("two_trains.meta");
    assert_true(has_problem(graph, "'train_op' has 2 members"));
    belay_graph_free(graph);
    graph = load("no_step.meta");
    assert_true(has_problem(graph, "no global step"));
    belay_graph_free(graph);
    graph = load("table.meta"); /* its initializer is in table_initializer: nothing is lost */
    assert_int_equal(belay_graph_problem_count(graph), 0);
    belay_graph_free(graph);
    graph = load("dataset.meta");
    assert_int_equal(belay_graph_problem_count(graph), 0);
    belay_graph_free(graph);
}

/* ---- names ---- */

static void test_find__suggests_the_nearest_name(void **state) {
    (void)state;
    belay_graph *graph = load("refvars.meta");
    BLY_LOCAL_ERROR(err);
    TF_Output output;
    assert_null(bly_graph_find_op(graph, "trian", &err));
    assert_int_equal(err.code, BELAY_NOT_FOUND);
    assert_non_null(strstr(err.message, "did you mean 'train'?"));
    assert_non_null(bly_graph_find_target(graph, "loss:0", &err));
    assert_int_equal(bly_graph_find_output(graph, "los", &output, &err), BELAY_NOT_FOUND);
    assert_non_null(strstr(err.message, "'loss'"));
    assert_int_equal(bly_graph_find_output(graph, "loss", &output, &err), BELAY_OK);
    assert_int_equal(bly_graph_find_output(graph, "loss:0", &output, &err), BELAY_OK);
    assert_int_equal(bly_graph_find_output(graph, "loss:1", &output, &err), BELAY_NOT_FOUND);
    assert_null(output.oper);
    assert_int_equal(bly_graph_find_output(graph, "loss:99999999999", &output, &err),
                     BELAY_NOT_FOUND);
    belay_graph_free(graph);

    graph = load("tiny_final.meta");
    assert_int_equal(bly_graph_find_output(graph, "save/restore_all", &output, &err),
                     BELAY_INVALID_ARGUMENT); /* no output */
    belay_graph_free(graph);
    graph = load("mlp.meta");
    assert_int_equal(bly_graph_find_output(graph, "save/RestoreV2", &output, &err),
                     BELAY_INVALID_ARGUMENT); /* several */
    belay_graph_free(graph);
}

/* BUG-56 */
static void test_find__resolves_a_handle_to_its_value(void **state) {
    (void)state;
    belay_graph *graph = load("int32_step.meta");
    BLY_LOCAL_ERROR(err);
    TF_Output output, again;
    belay_dtype dtype;
    int32_t rank;
    int64_t dims[4];
    assert_int_equal(bly_graph_find_raw_output(graph, "marker:0", &output, &err), BELAY_OK);
    assert_int_equal(bly_output_dtype(graph, output), BELAY_RESOURCE);
    assert_int_equal(bly_graph_find_output(graph, "marker:0", &output, &err), BELAY_OK);
    assert_int_equal(bly_output_dtype(graph, output), BELAY_FLOAT);
    assert_int_equal(belay_graph_tensor_info(graph, "marker", &dtype, &rank, dims, 4), 1);
    assert_int_equal(dtype, BELAY_FLOAT);
    assert_int_equal(rank, 1);
    assert_int_equal(dims[0], 4);
    assert_int_equal(belay_graph_tensor_info(graph, "nothing", &dtype, &rank, dims, 4), 0);
    /* A variable that nothing reads gets a read, once, also in a finalised graph. */
    bly_graph_set_finalized(graph, 1);
    for (size_t i = 0; i < graph->variable_count; i++)
        graph->variables[i].snapshot = BLY_NO_OUTPUT;
    assert_int_equal(bly_graph_find_output(graph, "marker:0", &output, &err), BELAY_OK);
    assert_int_equal(bly_graph_find_output(graph, "marker:0", &again, &err), BELAY_OK);
    belay_graph_free(graph);
}

/* ---- files that are no graphs ---- */

static char work[512];

static const char *write_file(const char *name, const void *data, size_t len) {
    static char path[1024];
    snprintf(path, sizeof path, "%s/%s", work, name);
    assert_int_equal(bly_file_write_atomic(path, data, len, NULL), BELAY_OK);
    return path;
}

static void expect_error(const char *path, belay_code code, const char *part) {
    BLY_LOCAL_ERROR(err);
    belay_graph *graph = belay_graph_load(path, NULL, &err);
    if (graph || err.code != code || !strstr(err.message, part) || !strstr(err.message, path))
        fail_msg("%s: expected %s '%s', not %s '%s'", path, belay_code_name(code), part,
                 belay_code_name(err.code), err.message);
}

static void expect_text(const char *name, const char *text, belay_code code, const char *part) {
    expect_error(write_file(name, text, strlen(text)), code, part);
}

/* ER-33, MG-04 */
static void test_load__says_what_a_file_is_that_is_no_graph(void **state) {
    (void)state;
    work_folder(work, sizeof work, "kinds");
    expect_error("/nothing/here.meta", BELAY_NOT_FOUND, "no such file");
    expect_error(work, BELAY_NOT_FOUND, "no saved_model.pb");
    expect_text("text.meta", "meta_info_def {\n  meta_graph_version: \"1\"\n}\n", BELAY_DATA_LOSS,
                "holds no graph");
    expect_text("text2.meta", "# made by hand\ngraph_def {\n  nodes { }\n}\n", BELAY_DATA_LOSS,
                "text2.meta:3:3: GraphDef has no field 'nodes'");
    expect_text("graph.pbtxt", "node {\n  name: \"a\"\n}\n", BELAY_DATA_LOSS, "GraphDef in text");
    expect_text("checkpoint", "model_checkpoint_path: \"model.ckpt-1\"\n", BELAY_DATA_LOSS,
                "state file");
    expect_error(work, BELAY_NOT_FOUND, "folder of checkpoints");
    expect_text("notes.txt", "note: this is not a graph\n", BELAY_DATA_LOSS, "text file");
    expect_text("model.keras", "PK\x03\x04rest of a zip", BELAY_DATA_LOSS, ".keras file");
    expect_text("model.h5", "\x89HDF\r\n\x1a\n....", BELAY_DATA_LOSS, "HDF5");
    expect_error(TEST_GRAPHS "/keras_small/saved_model.pb", BELAY_DATA_LOSS,
                 "give the folder that holds it");
    expect_error(TEST_GRAPHS "/keras_small/variables/variables.index", BELAY_DATA_LOSS,
                 "index of a checkpoint");
    expect_text("saved_model.pbtxt", "x", BELAY_DATA_LOSS, "damaged");
    expect_error(work, BELAY_DATA_LOSS, "saved_model.pbtxt:1:1: SavedModel has no field 'x'");
}

static void test_load__refuses_a_bare_graph_def(void **state) {
    (void)state;
    work_folder(work, sizeof work, "bare");
    belay_graph *graph = load("tiny.meta");
    TF_Buffer *bytes = graph->rt->NewBuffer();
    TF_Status *status = graph->rt->NewStatus();
    graph->rt->GraphToGraphDef(graph->tf, bytes, status);
    expect_error(write_file("graph.pb", bytes->data, bytes->length), BELAY_DATA_LOSS,
                 "bare GraphDef");
    graph->rt->DeleteStatus(status);
    graph->rt->DeleteBuffer(bytes);
    belay_graph_free(graph);
}

static bly_buf read_all(const char *path) {
    bly_buf bytes = BLY_BUF_INIT;
    assert_int_equal(bly_file_read(path, 1 << 24, &bytes, NULL), BELAY_OK);
    return bytes;
}

static void test_load__reports_truncated_files_as_damaged(void **state) {
    (void)state;
    bly_buf bytes = read_all(TEST_GRAPHS "/tiny_final.meta");
    size_t step = bytes.len / 400 + 1, loaded = 0, tried = 0;
    for (size_t len = 0; len < bytes.len; len += len < 64 ? 1 : step) {
        BLY_LOCAL_ERROR(err);
        belay_graph *graph = bly_graph_from_bytes("cut.meta", bytes.data, len, &err);
        tried++;
        /* A cut between two fields leaves a shorter, whole message. */
        loaded += graph != NULL;
        if (!graph && err.code != BELAY_DATA_LOSS)
            fail_msg("cut at %zu of %zu: %s", len, bytes.len, err.message);
        assert_true(graph || strstr(err.message, "cut.meta"));
        belay_graph_free(graph);
    }
    assert_true(loaded * 20 < tried);
    bly_buf_free(&bytes);
}

static void test_load__reports_random_bytes_as_damaged(void **state) {
    (void)state;
    uint32_t seed = 12345;
    for (int round = 0; round < 3000; round++) {
        unsigned char bytes[96];
        BLY_LOCAL_ERROR(err);
        for (size_t i = 0; i < sizeof bytes; i++) {
            seed = seed * 1664525u + 1013904223u;
            bytes[i] = (unsigned char)(seed >> 24);
        }
        belay_graph *graph = bly_graph_from_bytes("random.meta", bytes, sizeof bytes, &err);
        assert_null(graph);
        assert_int_equal(err.code, BELAY_DATA_LOSS);
    }
}

/* Damage outside the GraphDef, which is TensorFlow's to read: belay must not crash whatever it
 * finds. */
static void test_load__survives_flipped_bits_in_collections(void **state) {
    (void)state;
    belay_graph *graph = load("partitioned.meta");
    bly_buf bytes = BLY_BUF_INIT;
    assert_int_equal(bly_graph_serialize(graph, NULL, &bytes, NULL), BELAY_OK);
    belay_graph_free(graph);
    bly_cursor cursor = bly_cursor_over(bytes.data, bytes.len);
    bly_field field;
    size_t flipped = 0, refused = 0;
    while (bly_cursor_next(&cursor, &field)) {
        if (field.number == 2 || field.number == 1)
            continue;
        for (size_t i = (size_t)(field.from - (uint8_t *)bytes.data), end = i + field.len; i < end;
             i += 3) {
            BLY_LOCAL_ERROR(err);
            char was = bytes.data[i];
            bytes.data[i] = (char)(was ^ (1 << (i % 8)));
            graph = bly_graph_from_bytes("flipped.meta", bytes.data, bytes.len, &err);
            if (!graph && !strstr(err.message, "flipped.meta"))
                fail_msg("bit flipped in byte %zu: %s", i, err.message);
            refused += graph == NULL;
            flipped++;
            belay_graph_free(graph);
            bytes.data[i] = was;
        }
    }
    assert_true(flipped > 500 && refused > 100);
    bly_buf_free(&bytes);
}

/* An op that this TensorFlow does not have, as a custom op would be. */
static void test_load__passes_on_what_the_import_says(void **state) {
    (void)state;
    bly_buf bytes = read_all(TEST_GRAPHS "/tiny.meta");
    BLY_LOCAL_ERROR(err);
    char *at = NULL;
    for (size_t i = 0; i + 11 < bytes.len && !at; i++)
        if (memcmp(bytes.data + i, "VarHandleOp", 11) == 0 && bytes.data[i - 1] == 11)
            at = bytes.data + i;
    /* The first mention is in the list of ops; all are changed alike. */
    for (size_t i = 0; i + 11 < bytes.len; i++)
        if (memcmp(bytes.data + i, "VarHandleOp", 11) == 0)
            memcpy(bytes.data + i, "MyCustomOpX", 11);
    assert_non_null(at);
    assert_null(bly_graph_from_bytes("custom.meta", bytes.data, bytes.len, &err));
    assert_int_equal(err.origin, BELAY_ORIGIN_TENSORFLOW);
    assert_true(strncmp(err.message, "custom.meta: ", 13) == 0);
    assert_non_null(strstr(err.message, "MyCustomOpX"));
    bly_buf_free(&bytes);
}

/* ---- SavedModels ---- */

static void test_load__chooses_a_meta_graph_by_tags(void **state) {
    (void)state;
    BLY_LOCAL_ERROR(err);
    static const char *const serve[] = {"serve", NULL}, *const gpu[] = {"serve", "gpu", NULL};
    belay_graph_options options = BELAY_GRAPH_OPTIONS_INIT;
    options.tags = serve;
    belay_graph *graph = belay_graph_load(TEST_GRAPHS "/module", &options, &err);
    assert_non_null(graph);
    belay_graph_free(graph);
    options.tags = gpu;
    assert_null(belay_graph_load(TEST_GRAPHS "/module", &options, &err));
    assert_int_equal(err.code, BELAY_NOT_FOUND);
    assert_non_null(strstr(err.message, "{serve}"));
    options.tags = NULL;
    options.flags = UINT32_C(1) << 30;
    assert_null(belay_graph_load(TEST_GRAPHS "/module", &options, &err));
    assert_int_equal(err.code, BELAY_INVALID_ARGUMENT);
}

/* MG-28 */
static void test_load__clears_devices(void **state) {
    (void)state;
    BLY_LOCAL_ERROR(err);
    belay_graph_options options = BELAY_GRAPH_OPTIONS_INIT;
    size_t with = 0, without = 0;
    for (int clear = 0; clear < 2; clear++) {
        options.flags = clear ? BELAY_GRAPH_CLEAR_DEVICES : 0;
        belay_graph *graph = belay_graph_load(TEST_GRAPHS "/mlp.meta", &options, &err);
        assert_non_null(graph);
        size_t at = 0, count = 0;
        TF_Operation *op;
        while ((op = graph->rt->GraphNextOperation(graph->tf, &at)) != NULL)
            count += graph->rt->OperationDevice(op)[0] != '\0';
        *(clear ? &without : &with) = count;
        belay_graph_free(graph);
    }
    assert_true(with > 0);
    assert_int_equal(without, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_load__reads_variables_and_collections_of_a_meta_graph),
        cmocka_unit_test(test_load__knows_reference_and_local_variables_and_slices),
        cmocka_unit_test(test_load__reads_a_keras_saved_model),
        cmocka_unit_test(test_load__reads_a_tf1_saved_model_with_its_assets),
        cmocka_unit_test(test_load__finds_every_shipped_graph_without_damage),
        cmocka_unit_test(test_load__says_what_is_odd_about_a_graph),
        cmocka_unit_test(test_find__suggests_the_nearest_name),
        cmocka_unit_test(test_find__resolves_a_handle_to_its_value),
        cmocka_unit_test(test_load__says_what_a_file_is_that_is_no_graph),
        cmocka_unit_test(test_load__refuses_a_bare_graph_def),
        cmocka_unit_test(test_load__reports_truncated_files_as_damaged),
        cmocka_unit_test(test_load__reports_random_bytes_as_damaged),
        cmocka_unit_test(test_load__survives_flipped_bits_in_collections),
        cmocka_unit_test(test_load__passes_on_what_the_import_says),
        cmocka_unit_test(test_load__chooses_a_meta_graph_by_tags),
        cmocka_unit_test(test_load__clears_devices),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
