/* The global step: found, made, and read after the run that counts it. */
#include "graph_run.h"

#include <belay/log.h>

/* ---- finding it ---- */

/* GS-01, GS-10 */
static void test_global_step__is_the_member_of_its_collection(void **state) {
    static const struct {
        const char *graph;
        belay_dtype dtype;
        int is_resource;
    } cases[] = {{"tiny.meta", BELAY_INT64, 1},
                 {"int32_step.meta", BELAY_INT32, 1},
                 {"refvars.meta", BELAY_INT64, 0},
                 {"tf1_saved_model", BELAY_INT64, 1}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        belay_graph *graph = load(cases[i].graph);
        assert_int_equal(graph->global_step.dtype, cases[i].dtype);
        assert_int_equal(graph->global_step.is_resource, cases[i].is_resource);
        assert_int_equal(bly_output_dtype(graph, graph->global_step.read), cases[i].dtype);
        assert_string_equal(belay_graph_global_step_name(graph), "global_step");
        assert_null(graph->global_step.count);
        belay_graph_free(graph);
    }
}

static void hide_collection(belay_graph *graph, const char *name) {
    for (size_t i = 0; i < graph->meta->n_collection_def; i++)
        if (strcmp(graph->meta->collection_def[i]->key, name) == 0)
            graph->meta->collection_def[i]->key[0] = '_';
}

/* GS-01, GS-09, BUG-57: also where it is a resource variable. */
static void test_global_step__is_found_by_name(void **state) {
    static const char *const names[] = {"tiny.meta", "refvars.meta"};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        belay_graph *graph = load(names[i]);
        hide_collection(graph, "global_step");
        graph = reload(graph);
        assert_int_equal(belay_graph_collection_size(graph, "global_step"), 0);
        assert_string_equal(belay_graph_global_step_name(graph), "global_step");
        assert_int_equal(bly_output_dtype(graph, graph->global_step.read), BELAY_INT64);
        belay_graph_free(graph);
    }
}

static char last_log[512];

static void keep_log(void *self, belay_log_level level, const char *message) {
    (void)self;
    snprintf(last_log, sizeof last_log, "%d %s", (int)level, message);
}

/* GS-01: an error each time that somebody asks. */
static void test_global_step__of_several_is_none(void **state) {
    (void)state;
    belay_graph *graph = load("tiny.meta");
    const Bly__CollectionDef *def = bly_graph_collection(graph, "global_step");
    ProtobufCBinaryData one = def->bytes_list->value[0];
    assert_int_equal(
        bly_graph_add_bytes_to_collection(graph, "global_step", one.data, one.len, NULL), BELAY_OK);
    graph = reload(graph);
    belay_log_set_callback(keep_log, NULL, BELAY_LOG_DEBUG);
    for (int i = 0; i < 2; i++) {
        last_log[0] = '\0';
        assert_null(belay_graph_global_step_name(graph));
        assert_int_equal(last_log[0], '0' + BELAY_LOG_ERROR);
        assert_non_null(strstr(last_log, "Multiple tensors in global_step collection"));
    }
    belay_log_set_callback(NULL, NULL, BELAY_LOG_INFO);
    assert_true(has_problem(graph, "'global_step' has 2 members"));
    assert_int_equal(bly_graph_check_global_step(graph, NULL), BELAY_FAILED_PRECONDITION);
    belay_graph_free(graph);
}

/* GS-04: the step is there, but hooks cannot go by it. */
static void test_global_step__with_several_cached_reads_is_for_no_hook(void **state) {
    (void)state;
    BLY_LOCAL_ERROR(err);
    static const char cache[] = "global_step_read_op_cache";
    belay_graph *graph = load("tiny.meta");
    for (int i = 0; i < 2; i++)
        assert_int_equal(
            bly_graph_add_to_collection(graph, cache, "global_step/Read/ReadVariableOp:0", NULL),
            BELAY_OK);
    graph = reload(graph);
    assert_string_equal(belay_graph_global_step_name(graph), "global_step");
    assert_int_equal(belay_graph_check_global_step(graph, "MyHook", &err),
                     BELAY_FAILED_PRECONDITION);
    assert_non_null(strstr(err.message, cache));
    assert_int_equal(belay_graph_create_global_step(graph, NULL, &err), BELAY_ALREADY_EXISTS);
    belay_graph_free(graph);
}

/* GS-02, ER-36 */
static void test_global_step__must_be_an_integer_scalar(void **state) {
    int64_t dims[1] = {2};
    (void)state;
    for (int i = 0; i < 2; i++) {
        BLY_LOCAL_ERROR(err);
        belay_graph *graph = empty_graph();
        if (i == 0)
            add_variable(graph, "global_step", NULL, BELAY_FLOAT, NULL, 0, 0, "global_step");
        else
            add_variable(graph, "global_step", NULL, BELAY_INT64, dims, 1, 0, "global_step");
        graph = reload(graph);
        const char *part = i == 0 ? "does not have integer type: float32" : "is not a scalar";
        assert_int_equal(bly_graph_check_global_step(graph, &err), BELAY_INVALID_ARGUMENT);
        assert_non_null(strstr(err.message, part));
        assert_true(has_problem(graph, part));
        assert_null(belay_graph_global_step_name(graph));
        assert_null(graph->global_step.handle.oper);
        assert_int_equal(belay_graph_create_global_step(graph, NULL, &err), BELAY_INVALID_ARGUMENT);
        belay_graph_free(graph);
    }
}

/* ---- making one ---- */

/* GS-03 */
static void test_create_global_step__makes_a_variable_like_tensorflows(void **state) {
    static const char *const after[] = {"train", "loss:0", NULL};
    static const char *const unknown[] = {"train", "trian", NULL};
    (void)state;
    BLY_LOCAL_ERROR(err);
    belay_graph *graph = load("no_step.meta");
    size_t variables = graph->variable_count, ops = belay_graph_op_count(graph);
    assert_int_equal(bly_graph_check_global_step(graph, &err), BELAY_FAILED_PRECONDITION);
    assert_int_equal(belay_graph_create_global_step(graph, unknown, &err), BELAY_NOT_FOUND);
    assert_non_null(strstr(err.message, "did you mean 'train'?"));
    assert_int_equal(belay_graph_op_count(graph), ops);

    assert_int_equal(belay_graph_create_global_step(graph, after, &err), BELAY_OK);
    assert_string_equal(belay_graph_global_step_name(graph), "global_step");
    assert_int_equal(graph->variable_count, variables + 1);
    const belay_variable *step = belay_graph_variable(graph, variables);
    assert_string_equal(step->name, "global_step");
    assert_int_equal(step->dtype, BELAY_INT64);
    assert_int_equal(step->rank, 0);
    assert_false(step->is_trainable);
    assert_string_equal(belay_graph_collection_node(graph, "global_step", 0), "global_step");
    assert_string_equal(belay_graph_collection_node(graph, "variables", variables), "global_step");
    assert_true(belay_graph_has_op(graph, "belay_global_step/count"));
    assert_int_equal(belay_graph_create_global_step(graph, NULL, &err), BELAY_ALREADY_EXISTS);
    assert_string_equal(err.message, "\"global_step\" already exists");

    /* It counts after the training op: when that fails, the run does not count. */
    TF_Operation *init = bly_build_init_op(graph, &err);
    TF_Session *session = open_session(graph);
    run(graph, session, init);
    int64_t x[2] = {2, 4}, y[1] = {2}, wrong[1] = {3};
    for (int i = 0; i < 3; i++) {
        struct feed feeds[2] = {
            {output_of(graph, "x:0"), filled(graph, BELAY_FLOAT, x, 2, 1)},
            {output_of(graph, "y:0"), filled(graph, BELAY_FLOAT, i == 1 ? wrong : y, 1, 1)}};
        assert_int_equal(
            run_fed(graph, session, feeds, 2, BLY_NO_OUTPUT, graph->global_step.count, NULL, &err),
            i == 1 ? BELAY_INVALID_ARGUMENT : BELAY_OK);
    }
    assert_int_equal(fetch_integer(graph, session, graph->global_step.read), 2);
    close_session(graph, session);

    /* Written out and read back it is the graph's own step. */
    graph = reload(graph);
    assert_string_equal(belay_graph_global_step_name(graph), "global_step");
    assert_int_equal(graph->variable_count, variables + 1);
    belay_graph_free(graph);
}

static void test_create_global_step__fails_on_a_finalised_graph(void **state) {
    (void)state;
    BLY_LOCAL_ERROR(err);
    belay_graph *graph = load("no_step.meta");
    bly_graph_set_finalized(graph, 1);
    assert_int_equal(belay_graph_create_global_step(graph, NULL, &err), BELAY_FAILED_PRECONDITION);
    belay_graph_free(graph);
    graph = load("tiny.meta");
    assert_int_equal(belay_graph_create_global_step(graph, NULL, &err), BELAY_ALREADY_EXISTS);
    belay_graph_free(graph);
}

/* Local variables stay the last ones. */
static void test_create_global_step__goes_before_local_variables(void **state) {
    (void)state;
    belay_graph *graph = load("queue.meta");
    hide_collection(graph, "global_step");
    size_t count = graph->variable_count;
    bly_variable variable = {.handle = graph->variables[0].handle};
    variable.info.name = bly_op_name_of("another:0");
    assert_int_equal(bly_graph_add_variable(graph, &variable, NULL), BELAY_OK);
    assert_int_equal(graph->local_count, 1);
    assert_string_equal(graph->variables[count - 1].info.name, "another");
    assert_true(graph->variables[count].info.is_local);
    belay_graph_free(graph);
}

/* ---- the step after a run ---- */

static TF_Output step_after(belay_graph *graph, const char *fetch_name, const char *target_name) {
    BLY_LOCAL_ERROR(err);
    TF_Output out, output = fetch_name ? output_of(graph, fetch_name) : BLY_NO_OUTPUT;
    TF_Operation *target = target_name ? bly_graph_find_op(graph, target_name, &err) : NULL;
    if (bly_graph_step_after(graph, NULL, 0, &output, fetch_name ? 1 : 0, &target,
                             target_name ? 1 : 0, &out, &err) != BELAY_OK)
        fail_msg("%s: %s", graph->path, err.message);
    return out;
}

/* GS-07 is about the plain read; this one always gives the value after. */
static void check_step_after(const char *name) {
    BLY_LOCAL_ERROR(err);
    belay_graph *graph = load(name);
    TF_Operation *init = bly_build_init_op(graph, &err);
    TF_Operation *local_init = bly_build_local_init_op(graph, &err);
    TF_Operation *train = bly_graph_find_op(graph, "train", &err);
    bly_graph_set_finalized(graph, 1);
    TF_Output after = step_after(graph, NULL, "train");
    if (!after.oper)
        fail_msg("%s: not proved", name);
    assert_true(after.oper != graph->global_step.read.oper);
    assert_ptr_equal(step_after(graph, NULL, "train").oper, after.oper); /* the same node again */

    TF_Session *session = open_session(graph);
    run(graph, session, init);
    run(graph, session, local_init);
    int64_t x[2] = {2, belay_graph_has_op(graph, "w1") ? 64 : 4}, y[1] = {2};
    belay_dtype label = belay_graph_has_op(graph, "w1") ? BELAY_INT64 : BELAY_FLOAT;
    uint32_t needs_x = belay_graph_has_op(graph, "x"), needs_ids = belay_graph_has_op(graph, "ids");
    TF_Tensor *first = NULL;
    for (int64_t i = 1; i <= 5; i++) {
        struct feed feeds[2];
        size_t count = 0;
        TF_Tensor *value = NULL;
        if (needs_x) {
            feeds[count++] =
                (struct feed){output_of(graph, "x:0"), filled(graph, BELAY_FLOAT, x, 2, 0.1)};
            feeds[count++] = (struct feed){output_of(graph, "y:0"), filled(graph, label, y, 1, 1)};
        } else if (needs_ids) {
            feeds[count++] =
                (struct feed){output_of(graph, "ids:0"), filled(graph, BELAY_INT64, y, 1, 3)};
        }
        if (run_fed(graph, session, feeds, count, after, train, &value, &err) != BELAY_OK)
            fail_msg("%s: %s", name, err.message);
        assert_int_equal(bly_tensor_integer(graph->rt, value), i);
        if (i == 1)
            first = value;
        else
            graph->rt->DeleteTensor(value);
    }
    /* What was fetched is the caller's, also of a reference variable (BUG-73). */
    assert_int_equal(bly_tensor_integer(graph->rt, first), 1);
    graph->rt->DeleteTensor(first);
    close_session(graph, session);
    belay_graph_free(graph);
}

static void test_step_after__comes_after_the_increment(void **state) {
    static const char *const names[] = {
        "tiny.meta",        "refvars.meta",    "mlp_bare.meta", "partitioned.meta",
        "table.meta",       "while.meta",      "while_v2.meta", "dataset.meta",
        "int32_step.meta",  "summaries.meta",  "nan.meta",      "dataset_one_shot.meta",
        "plain_saver.meta", "two_trains.meta", "mlp.meta"};
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        check_step_after(names[i]);
}

static void test_step_after__of_a_run_that_writes_nothing_is_the_plain_read(void **state) {
    (void)state;
    belay_graph *graph = load("refvars.meta");
    size_t ops = belay_graph_op_count(graph);
    assert_ptr_equal(step_after(graph, "loss:0", NULL).oper, graph->global_step.read.oper);
    assert_int_equal(belay_graph_op_count(graph), ops);
    /* What only a fed tensor needs does not run. */
    TF_Operation *train = bly_graph_find_op(graph, "train", NULL);
    assert_int_equal(graph->rt->OperationNumOutputs(train), 1); /* AssignAdd of a reference */
    TF_Output fed = {train, 0}, out;
    assert_int_equal(bly_graph_step_after(graph, &fed, 1, &fed, 1, NULL, 0, &out, NULL), BELAY_OK);
    assert_ptr_equal(out.oper, graph->global_step.read.oper);
    belay_graph_free(graph);
}

static void test_step_after__holds_for_the_step_that_belay_adds(void **state) {
    static const char *const after[] = {"StatefulPartitionedCall_2", NULL};
    (void)state;
    BLY_LOCAL_ERROR(err);
    belay_graph *graph = load("keras_small");
    assert_int_equal(belay_graph_create_global_step(graph, after, &err), BELAY_OK);
    assert_non_null(step_after(graph, NULL, "belay_global_step/count").oper);
    belay_graph_free(graph);
}

/* ---- where it cannot be proved ---- */

struct parts {
    belay_graph *graph;
    TF_Output handle;
    TF_Output one;
    TF_Output flag;
};

static struct parts make_parts(void) {
    struct parts p = {.graph = empty_graph()};
    add_variable(p.graph, "global_step", NULL, BELAY_INT64, NULL, 0, 0, "global_step");
    p.graph = reload(p.graph);
    p.handle = p.graph->global_step.handle;
    bly_builder b = bly_builder_start(p.graph, "", NULL);
    p.one = bly_const_integer(&b, "one", NULL, BELAY_INT64, 1);
    p.flag = bly_const_integer(&b, "flag", NULL, BELAY_BOOL, 1);
    assert_int_equal(bly_builder_end(&b), BELAY_OK);
    return p;
}

static void add_increment(const struct parts *p, const char *name, TF_Output handle,
                          TF_Operation *after) {
    bly_builder b = bly_builder_start(p->graph, "", NULL);
    bly_op_begin(&b, "AssignAddVariableOp", name, NULL);
    bly_op_input(&b, handle);
    bly_op_input(&b, p->one);
    bly_op_after(&b, after);
    bly_op_type(&b, "dtype", BELAY_INT64);
    bly_op_finish(&b);
    assert_int_equal(bly_builder_end(&b), BELAY_OK);
}

static TF_Output add_switch(const struct parts *p, const char *name, TF_Output data) {
    bly_builder b = bly_builder_start(p->graph, "", NULL);
    bly_op_begin(&b, "Switch", name, NULL);
    bly_op_input(&b, data);
    bly_op_input(&b, p->flag);
    TF_Output out = bly_op_finish_output(&b);
    assert_int_equal(bly_builder_end(&b), BELAY_OK);
    out.index = 1;
    return out;
}

static TF_Output add_identity(const struct parts *p, const char *name, TF_Output data) {
    bly_builder b = bly_builder_start(p->graph, "", NULL);
    bly_op_begin(&b, "Identity", name, NULL);
    bly_op_input(&b, data);
    TF_Output out = bly_op_finish_output(&b);
    assert_int_equal(bly_builder_end(&b), BELAY_OK);
    return out;
}

static void test_step_after__is_not_claimed_for_branches(void **state) {
    (void)state;
    struct parts p = make_parts();
    add_increment(&p, "plain", p.handle, NULL);
    add_increment(&p, "switched", add_switch(&p, "s1", p.handle), NULL);
    TF_Output pivot = add_identity(&p, "pivot", add_switch(&p, "s2", p.flag));
    add_increment(&p, "guarded", p.handle, pivot.oper);
    add_increment(&p, "renamed", add_identity(&p, "alias", p.handle), NULL);
    assert_non_null(step_after(p.graph, NULL, "plain").oper);
    assert_null(step_after(p.graph, NULL, "switched").oper);
    assert_null(step_after(p.graph, NULL, "guarded").oper);
    TF_Output renamed = step_after(p.graph, NULL, "renamed");
    assert_non_null(renamed.oper);
    assert_int_equal(p.graph->rt->OperationNumControlInputs(renamed.oper), 1);
    belay_graph_free(p.graph);
}

/* GS-07: a read outside of a loop cannot come after an op inside: TensorFlow would refuse the run.
 */
static void test_step_after__is_not_claimed_for_loops(void **state) {
    (void)state;
    belay_graph *graph = load("while_queue.meta");
    assert_null(step_after(graph, NULL, "train").oper);
    belay_graph_free(graph);
}

/* Two ops of one shared name are one variable. */
static void test_step_after__sees_a_second_handle(void **state) {
    (void)state;
    struct parts p = make_parts();
    bly_builder b = bly_builder_start(p.graph, "", NULL);
    bly_op_begin(&b, "VarHandleOp", "other", NULL);
    bly_op_type(&b, "dtype", BELAY_INT64);
    bly_op_shape(&b, "shape", NULL, 0);
    bly_op_string(&b, "shared_name", "global_step");
    TF_Output other = bly_op_finish_output(&b);
    assert_int_equal(bly_builder_end(&b), BELAY_OK);
    add_increment(&p, "train", other, NULL);
    TF_Output after = step_after(p.graph, NULL, "train");
    assert_non_null(after.oper);
    assert_int_equal(p.graph->rt->OperationNumControlInputs(after.oper), 1);
    belay_graph_free(p.graph);
}

/* A step that lives in a Keras model goes into the function that trains. */
static void test_step_after__is_not_claimed_for_functions(void **state) {
    (void)state;
    belay_graph *graph = load("keras_small");
    for (size_t i = 0; i < graph->variable_count; i++)
        if (strcmp(graph->variables[i].info.name, "adam/iteration") == 0)
            graph->global_step = (bly_global_step){.handle = graph->variables[i].handle,
                                                   .read = graph->variables[i].snapshot,
                                                   .dtype = BELAY_INT64,
                                                   .is_resource = 1};
    assert_non_null(graph->global_step.handle.oper);
    assert_null(step_after(graph, NULL, "StatefulPartitionedCall_2").oper);   /* train */
    assert_non_null(step_after(graph, NULL, "StatefulPartitionedCall").oper); /* eval */
    belay_graph_free(graph);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_global_step__is_the_member_of_its_collection),
        cmocka_unit_test(test_global_step__is_found_by_name),
        cmocka_unit_test(test_global_step__of_several_is_none),
        cmocka_unit_test(test_global_step__with_several_cached_reads_is_for_no_hook),
        cmocka_unit_test(test_global_step__must_be_an_integer_scalar),
        cmocka_unit_test(test_create_global_step__makes_a_variable_like_tensorflows),
        cmocka_unit_test(test_create_global_step__fails_on_a_finalised_graph),
        cmocka_unit_test(test_create_global_step__goes_before_local_variables),
        cmocka_unit_test(test_step_after__comes_after_the_increment),
        cmocka_unit_test(test_step_after__of_a_run_that_writes_nothing_is_the_plain_read),
        cmocka_unit_test(test_step_after__holds_for_the_step_that_belay_adds),
        cmocka_unit_test(test_step_after__is_not_claimed_for_branches),
        cmocka_unit_test(test_step_after__is_not_claimed_for_loops),
        cmocka_unit_test(test_step_after__sees_a_second_handle),
        cmocka_unit_test(test_step_after__is_not_claimed_for_functions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
