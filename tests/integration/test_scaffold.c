/* Scaffolds over the real TensorFlow: where their pieces come from. */
#include "session_run.h"

#include "graph/defaults.h"
#include "graph/graph.h"

static belay_scaffold *scaffold_with(belay_graph *graph, const belay_scaffold_options *options) {
    belay_scaffold *scaffold = belay_scaffold_new(graph, options, err);
    assert_made(scaffold);
    return scaffold;
}

static void assert_no_piece(const belay_scaffold *scaffold) {
    assert_null(belay_scaffold_init_op(scaffold));
    assert_null(belay_scaffold_ready_op(scaffold));
    assert_null(belay_scaffold_ready_for_local_init_op(scaffold));
    assert_null(belay_scaffold_local_init_op(scaffold));
    assert_null(belay_scaffold_summary_op(scaffold));
    assert_null(belay_scaffold_saver((belay_scaffold *)(uintptr_t)scaffold));
}

/* SC-02, SC-03, SC-05, SC-06, SC-11: what is built is in its collection, and nothing before. */
static void test_scaffold__builds_what_a_graph_lacks_when_it_is_finalised(void **state) {
    (void)state;
    static const char *const collections[] = {"init_op", "ready_op", "ready_for_local_init_op",
                                              "local_init_op", "savers"};
    belay_graph *graph = load("table.meta");
    size_t ops = belay_graph_op_count(graph);
    belay_scaffold *scaffold = scaffold_with(graph, NULL);
    assert_no_piece(scaffold);
    assert_int_equal(belay_graph_op_count(graph), ops);
    assert_int_equal(belay_graph_is_finalized(graph), 0);
    log_start();
    assert_ok(belay_scaffold_finalize(scaffold, err));
    assert_logged("Graph was finalized.");
    assert_int_equal(belay_graph_is_finalized(graph), 1);
    for (size_t i = 0; i < sizeof collections / sizeof collections[0]; i++)
        assert_int_equal(belay_graph_collection_size(graph, collections[i]), 1);
    assert_string_equal(belay_scaffold_init_op(scaffold),
                        belay_graph_collection_node(graph, "init_op", 0));
    assert_string_equal(belay_scaffold_ready_op(scaffold),
                        belay_graph_collection_node(graph, "ready_op", 0));
    assert_non_null(belay_scaffold_saver(scaffold));
    assert_null(belay_scaffold_summary_op(scaffold));
    assert_int_equal(belay_graph_collection_size(graph, "summary_op"), 0);
    assert_ptr_equal(belay_scaffold_graph(scaffold), graph);
    belay_scaffold_free(scaffold);
    belay_graph_free(graph);
}

static void test_scaffold__merges_the_summaries_of_a_graph(void **state) {
    (void)state;
    struct prepared p = prepare(load("mlp_bare.meta"), NULL);
    const char *op = belay_scaffold_summary_op(p.scaffold);
    assert_non_null(op);
    belay_tensor *inputs[] = {rows_x(64), rows_id(3)}, *out = NULL;
    assert_ok(belay_session_run(p.session, (const char *[]){"x", "y", NULL}, inputs,
                                (const char *[]){op, NULL}, &out, NULL, NULL, err));
    assert_int_equal(belay_tensor_dtype(out), BELAY_STRING);
    assert_int_equal(belay_tensor_count(out), 1);
    belay_tensor_free(inputs[0]);
    belay_tensor_free(inputs[1]);
    belay_tensor_free(out);
    prepared_free(&p);
}

/* SC-05: a graph that was exported after it was finalised has everything. */
static void test_scaffold__takes_what_the_collections_hold(void **state) {
    (void)state;
    belay_graph *graph = load("mlp.meta");
    size_t ops = belay_graph_op_count(graph);
    belay_scaffold *scaffold = scaffold_with(graph, NULL);
    assert_ok(belay_scaffold_finalize(scaffold, err));
    assert_int_equal(belay_graph_op_count(graph), ops);
    assert_string_equal(belay_scaffold_init_op(scaffold),
                        belay_graph_collection_node(graph, "init_op", 0));
    assert_string_equal(belay_scaffold_summary_op(scaffold),
                        belay_graph_collection_node(graph, "summary_op", 0));
    belay_scaffold_free(scaffold);
    belay_graph_free(graph);
}

/* SC-05, ER-23, BUG-12. */
static void test_scaffold__refuses_to_choose_between_two(void **state) {
    (void)state;
    belay_graph *graph = load("plain_saver.meta");
    assert_ok(bly_graph_add_to_collection(graph, "local_init_op", "train", err));
    belay_scaffold *scaffold = scaffold_with(graph, NULL);
    assert_fails(BELAY_FAILED_PRECONDITION,
                 "More than one item in the collection \"local_init_op\": it has 2",
                 belay_scaffold_finalize(scaffold, err));
    assert_int_equal(belay_graph_is_finalized(graph), 0);
    belay_scaffold_free(scaffold);
    /* Whoever passes one need not choose (SC-04). */
    belay_scaffold_options options = BELAY_SCAFFOLD_OPTIONS_INIT;
    options.local_init_op = "train";
    scaffold = scaffold_with(graph, &options);
    assert_ok(belay_scaffold_finalize(scaffold, err));
    assert_string_equal(belay_scaffold_local_init_op(scaffold), "train");
    belay_scaffold_free(scaffold);
    belay_graph_free(graph);
}

/* SC-04. */
static void test_scaffold__leaves_the_users_pieces_as_they_are(void **state) {
    (void)state;
    belay_graph *graph = load("two_trains.meta");
    belay_saver *saver = belay_saver_new(graph, NULL, err);
    assert_made(saver);
    belay_scaffold_options options = BELAY_SCAFFOLD_OPTIONS_INIT;
    options.init_op = "train";
    options.ready_op = "loss";
    options.ready_for_local_init_op = "loss:0";
    options.local_init_op = "train_slowly";
    options.summary_op = "loss";
    options.saver = saver;
    belay_scaffold *scaffold = scaffold_with(graph, &options);
    belay_saver_free(saver); /* kept by the scaffold */
    size_t ops = belay_graph_op_count(graph);
    assert_ok(belay_scaffold_finalize(scaffold, err));
    assert_int_equal(belay_graph_op_count(graph), ops);
    assert_string_equal(belay_scaffold_init_op(scaffold), "train");
    assert_string_equal(belay_scaffold_ready_op(scaffold), "loss");
    assert_string_equal(belay_scaffold_ready_for_local_init_op(scaffold), "loss:0");
    assert_string_equal(belay_scaffold_local_init_op(scaffold), "train_slowly");
    assert_string_equal(belay_scaffold_summary_op(scaffold), "loss");
    assert_ptr_equal(belay_scaffold_saver(scaffold), saver);
    assert_int_equal(belay_graph_collection_size(graph, "init_op"), 0);
    assert_int_equal(belay_graph_collection_size(graph, "summary_op"), 0);
    belay_scaffold_free(scaffold);
    belay_graph_free(graph);
}

static void test_scaffold_finalize__names_a_piece_that_is_not_there(void **state) {
    (void)state;
    belay_graph *graph = load("plain_saver.meta");
    belay_scaffold_options options = BELAY_SCAFFOLD_OPTIONS_INIT;
    options.init_op = "trian";
    belay_scaffold *scaffold = scaffold_with(graph, &options);
    assert_fails(BELAY_NOT_FOUND, "'train'", belay_scaffold_finalize(scaffold, err));
    assert_int_equal(belay_graph_is_finalized(graph), 0);
    belay_scaffold_free(scaffold);
    belay_graph_free(graph);
}

static int saves_and_restores(belay_scaffold *scaffold, belay_session *session) {
    const char *prefix = NULL;
    belay_saver *saver = belay_scaffold_saver(scaffold);
    assert_ok(belay_saver_save(saver, session, in_folder(work_folder("again"), "m"), 1, NULL,
                               &prefix, err));
    assert_ok(belay_saver_restore(saver, session, prefix, err));
    return 1;
}

/* SC-17, SC-18, SC-12: on a graph that is final by then. */
static void test_scaffold__finds_again_what_another_one_built(void **state) {
    (void)state;
    static const char *const graphs[] = {"table.meta", "plain_saver.meta", "mlp.meta", "module",
                                         "tf1_saved_model"};
    for (size_t i = 0; i < sizeof graphs / sizeof graphs[0]; i++) {
        belay_graph *graph = load(graphs[i]);
        if (!belay_graph_global_step_name(graph))
            assert_ok(belay_graph_create_global_step(graph, NULL, err));
        belay_scaffold *first = scaffold_with(graph, NULL), *second = scaffold_with(graph, NULL);
        assert_ok(belay_scaffold_finalize(first, err));
        size_t ops = belay_graph_op_count(graph);
        log_start();
        assert_ok(belay_scaffold_finalize(first, err));
        assert_logged("Graph was finalized.");
        if (belay_scaffold_finalize(second, err) != BELAY_OK)
            fail_msg("%s: %s", graphs[i], belay_error_message(err));
        assert_int_equal(belay_graph_op_count(graph), ops);
        assert_string_equal(belay_scaffold_init_op(first), belay_scaffold_init_op(second));
        assert_string_equal(belay_scaffold_ready_op(first), belay_scaffold_ready_op(second));
        assert_string_equal(belay_scaffold_local_init_op(first),
                            belay_scaffold_local_init_op(second));
        assert_true(belay_scaffold_saver(first) == belay_scaffold_saver(second));
        belay_scaffold_free(first);
        struct prepared p = {.graph = graph, .scaffold = second};
        p.manager = manager_of(graph, second);
        belay_prepare_options options = prepare_options_of(&p, NULL);
        p.session = belay_session_manager_prepare_session(p.manager, &options, NULL, err);
        assert_made(p.session);
        assert_true(saves_and_restores(second, p.session));
        prepared_free(&p);
    }
}

/* SC-19, ER-24. */
static void test_scaffold_finalize__freezes_the_graph(void **state) {
    (void)state;
    BLY_LOCAL_ERROR(mine);
    belay_graph *graph = load("no_step.meta");
    belay_scaffold *scaffold = scaffold_with(graph, NULL);
    assert_ok(belay_scaffold_finalize(scaffold, err));
    assert_fails(BELAY_FAILED_PRECONDITION, "finalized and cannot be modified",
                 belay_graph_create_global_step(graph, NULL, err));
    assert_null(bly_build_init_op(graph, &mine));
    assert_int_equal(mine.code, BELAY_FAILED_PRECONDITION);
    belay_scaffold_free(scaffold);
    /* A saver that would have to be built now. */
    belay_saver_options options = BELAY_SAVER_OPTIONS_INIT;
    options.flags = BELAY_SAVER_BUILD;
    assert_not_made(BELAY_FAILED_PRECONDITION, "finalized", belay_saver_new(graph, &options, err));
    belay_graph_free(graph);
}

struct seen {
    belay_scaffold *scaffold;
    int calls;
};

static belay_code init_fn(void *self, belay_scaffold *scaffold, belay_session *session,
                          belay_error *error) {
    struct seen *seen = self;
    (void)session;
    (void)error;
    seen->scaffold = scaffold;
    seen->calls++;
    return BELAY_OK;
}

/* SC-16, SC-21, SC-22. */
static void test_scaffold__copies_what_is_unset_from_another_one(void **state) {
    (void)state;
    struct seen seen = {NULL, 0};
    belay_graph *graph = load("two_trains.meta");
    belay_tensor *five = scalar(5);
    belay_scaffold_options options = BELAY_SCAFFOLD_OPTIONS_INIT;
    options.init_op = "b/Assign";
    options.init_feeds = (const char *[]){"b/Initializer/zeros", NULL};
    options.init_inputs = &five;
    options.summary_op = "loss";
    options.local_init_op = "global_step/Assign";
    options.ready_op = "global_step/Assign";
    options.init_fn = init_fn;
    options.init_self = &seen;
    belay_scaffold *first = scaffold_with(graph, &options);
    options = (belay_scaffold_options)BELAY_SCAFFOLD_OPTIONS_INIT;
    options.summary_op = "w";
    options.copy_from_scaffold = first;
    belay_scaffold *second = scaffold_with(graph, &options);
    assert_string_equal(belay_scaffold_init_op(second), "b/Assign");
    assert_string_equal(belay_scaffold_summary_op(second), "w");
    assert_string_equal(belay_scaffold_local_init_op(second), "global_step/Assign");
    /* "At that moment": what the first one has later is its own. */
    assert_ok(belay_scaffold_finalize(first, err));
    assert_non_null(belay_scaffold_saver(first));
    assert_null(belay_scaffold_saver(second));
    belay_scaffold_free(first);

    belay_singular_monitored_session_options singular =
        BELAY_SINGULAR_MONITORED_SESSION_OPTIONS_INIT;
    singular.scaffold = second;
    belay_monitored_session *session = belay_singular_monitored_session_open(graph, &singular, err);
    /* Its ready_for_local_init_op says that w is missing: init_fn was called by then. */
    assert_null(session);
    assert_error(BELAY_FAILED_PRECONDITION, "ready for local_init", belay_error_code(err), "open");
    belay_error_clear(err);
    assert_int_equal(seen.calls, 1);
    assert_ptr_equal(seen.scaffold, second);
    belay_tensor_free(five);
    belay_scaffold_free(second);
    belay_graph_free(graph);
}

static void test_scaffold_calls__check_their_arguments(void **state) {
    (void)state;
    belay_graph *graph = load("tiny.meta");
    struct {
        belay_scaffold_options known;
        uint64_t later;
    } newer = {BELAY_SCAFFOLD_OPTIONS_INIT, 1};
    newer.known.struct_size = sizeof newer;
    assert_not_made(BELAY_INVALID_ARGUMENT, "belay_scaffold_options",
                    belay_scaffold_new(graph, &newer.known, err));
    newer.later = 0;
    belay_scaffold *scaffold = scaffold_with(graph, &newer.known);
    belay_scaffold_free(scaffold);
    assert_not_made(BELAY_INVALID_ARGUMENT, "NULL", belay_scaffold_new(NULL, NULL, err));
    assert_fails(BELAY_INVALID_ARGUMENT, "NULL", belay_scaffold_finalize(NULL, err));
    assert_no_piece(NULL);
    assert_null(belay_scaffold_graph(NULL));
    belay_scaffold_free(NULL);
    belay_graph_free(graph);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scaffold__builds_what_a_graph_lacks_when_it_is_finalised),
        cmocka_unit_test(test_scaffold__merges_the_summaries_of_a_graph),
        cmocka_unit_test(test_scaffold__takes_what_the_collections_hold),
        cmocka_unit_test(test_scaffold__refuses_to_choose_between_two),
        cmocka_unit_test(test_scaffold__leaves_the_users_pieces_as_they_are),
        cmocka_unit_test(test_scaffold_finalize__names_a_piece_that_is_not_there),
        cmocka_unit_test(test_scaffold__finds_again_what_another_one_built),
        cmocka_unit_test(test_scaffold_finalize__freezes_the_graph),
        cmocka_unit_test(test_scaffold__copies_what_is_unset_from_another_one),
        cmocka_unit_test(test_scaffold_calls__check_their_arguments),
    };
    return cmocka_run_group_tests(tests, session_run_set_up, session_run_tear_down);
}
