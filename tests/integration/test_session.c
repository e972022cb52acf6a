/* Plain sessions over the real TensorFlow. */
#include "session_run.h"

#include "base/clock.h"
#include "base/thread.h"
#include "graph/defaults.h"
#include "graph/graph.h"

/* Serialised RunOptions and ConfigProto, each with a limit of 100 ms. */
static const uint8_t timeout_in_ms[] = {0x10, 100};
static const uint8_t operation_timeout_in_ms[] = {0x58, 100};

static belay_session *initialised(belay_graph *graph) {
    BLY_LOCAL_ERROR(mine);
    TF_Operation *init = bly_build_init_op(graph, &mine);
    assert_non_null(init);
    belay_session *session = open_plain(graph);
    run_op(session, graph->rt->OperationName(init));
    return session;
}

/* SE-04. */
static void test_sessions_of_one_graph__have_their_own_variables(void **state) {
    (void)state;
    belay_graph *graph = load("tiny.meta");
    belay_session *a = initialised(graph);
    belay_session *b = open_plain(graph);
    run_op(b, "global_step/Assign");
    run_op(a, "train");
    run_op(a, "train");
    assert_int_equal(step_of(a), 2);
    assert_int_equal(step_of(b), 0);
    assert_ptr_equal(belay_session_graph(a), graph);
    assert_string_equal(belay_session_target(a), "");
    assert_non_null(belay_session_raw(a));
    belay_graph_free(graph); /* the sessions hold it */
    belay_session_free(a);
    assert_int_equal(step_of(b), 0);
    belay_session_free(b);
}

/* SE-02, ER-09. */
static void test_session_open__refuses_a_target_that_tensorflow_does_not_know(void **state) {
    (void)state;
    belay_graph *graph = load("tiny.meta");
    belay_session_options options = BELAY_SESSION_OPTIONS_INIT;
    options.target = "nowhere://1.2.3.4:5";
    assert_not_made(BELAY_NOT_FOUND, "No session factory",
                    belay_session_open(graph, &options, err));
    options.target = NULL;
    options.config = "\xff\xff\xff";
    options.config_size = 3;
    assert_not_made(BELAY_INVALID_ARGUMENT, "config", belay_session_open(graph, &options, err));
    belay_graph_free(graph);
}

static void test_session_open__reads_options_of_other_sizes(void **state) {
    (void)state;
    belay_graph *graph = load("tiny.meta");
    struct {
        belay_session_options known;
        uint64_t later;
    } newer = {BELAY_SESSION_OPTIONS_INIT, 0};
    newer.known.struct_size = sizeof newer;
    belay_session *session = belay_session_open(graph, &newer.known, err);
    assert_made(session);
    belay_session_free(session);
    newer.later = 1;
    assert_not_made(BELAY_INVALID_ARGUMENT, "belay_session_options",
                    belay_session_open(graph, &newer.known, err));
    /* A client that knew of `target` alone: what lies behind is not read. */
    belay_session_options older = {offsetof(belay_session_options, config), "", "\xff", 1};
    session = belay_session_open(graph, &older, err);
    assert_made(session);
    belay_session_free(session);
    older.struct_size = 3;
    assert_not_made(BELAY_INVALID_ARGUMENT, "struct_size", belay_session_open(graph, &older, err));
    belay_graph_free(graph);
}

/* SE-05, SE-08, ER-01. */
static void test_session_close__happens_once_and_ends_all_running(void **state) {
    (void)state;
    belay_graph *graph = load("tiny.meta");
    belay_session *session = initialised(graph);
    const char *const train[] = {"train", NULL};
    int64_t step;
    assert_ok(belay_session_close(session, err));
    assert_ok(belay_session_close(session, err));
    assert_fails(BELAY_FAILED_PRECONDITION, "Attempted to use a closed Session.",
                 belay_session_run(session, NULL, NULL, NULL, NULL, train, NULL, err));
    assert_fails(BELAY_FAILED_PRECONDITION, "closed",
                 belay_session_global_step(session, &step, err));
    belay_session_free(session);
    belay_graph_free(graph);
}

struct blocked {
    belay_session *session;
    belay_error *err;
    belay_code code;
};

static void run_blocked(void *self) {
    struct blocked *b = self;
    b->code = belay_session_run(b->session, NULL, NULL, NULL, NULL, (const char *[]){"train", NULL},
                                NULL, b->err);
}

/* SE-06, ER-08: nobody fills the queue that the step reads. */
static void test_session_close__cancels_a_run_that_is_blocked(void **state) {
    (void)state;
    belay_graph *graph = load("queue.meta");
    struct blocked b = {initialised(graph), belay_error_new(), BELAY_OK};
    bly_thread *thread = bly_thread_start("blocked", run_blocked, &b, NULL);
    assert_non_null(thread);
    nap_ms(200);
    assert_false(bly_thread_is_done(thread));
    int64_t started = bly_now_ms();
    assert_ok(belay_session_close(b.session, err));
    bly_thread_join(thread);
    assert_true(bly_now_ms() - started < 5000);
    assert_int_equal(b.code, BELAY_CANCELLED);
    assert_int_equal(belay_error_code(b.err), BELAY_CANCELLED);
    belay_error_free(b.err);
    belay_session_free(b.session);
    belay_graph_free(graph);
}

/* SE-32, SE-34, ER-07. */
static void test_session_run__ends_at_its_timeout_and_the_session_goes_on(void **state) {
    (void)state;
    belay_graph *graph = load("queue.meta");
    belay_session *session = initialised(graph);
    belay_run_options options = BELAY_RUN_OPTIONS_INIT;
    options.run_options = timeout_in_ms;
    options.run_options_size = sizeof timeout_in_ms;
    assert_fails(BELAY_DEADLINE_EXCEEDED, "",
                 belay_session_run(session, NULL, NULL, NULL, NULL, (const char *[]){"train", NULL},
                                   &options, err));
    assert_int_equal(step_of(session), 0);
    belay_session_free(session);
    belay_graph_free(graph);
}

/* SE-33. */
static void test_session_run__ends_at_the_timeout_of_the_config(void **state) {
    (void)state;
    belay_graph *graph = load("queue.meta");
    belay_session_options options = BELAY_SESSION_OPTIONS_INIT;
    options.config = operation_timeout_in_ms;
    options.config_size = sizeof operation_timeout_in_ms;
    belay_session *session = belay_session_open(graph, &options, err);
    assert_made(session);
    run_op(session, "global_step/Assign");
    run_op(session, "seen/Assign");
    assert_fails(BELAY_DEADLINE_EXCEEDED, "",
                 belay_session_run(session, NULL, NULL, NULL, NULL, (const char *[]){"train", NULL},
                                   NULL, err));
    belay_session_free(session);
    belay_graph_free(graph);
}

/* SE-09, ER-02. */
static void test_session_run__refuses_an_empty_graph(void **state) {
    (void)state;
    static const uint8_t no_nodes[] = {0x12, 0x00}; /* graph_def: {} */
    belay_graph *graph = bly_graph_from_bytes("empty.meta", no_nodes, sizeof no_nodes, err);
    assert_made(graph);
    belay_session *session = open_plain(graph);
    assert_fails(BELAY_FAILED_PRECONDITION, "The Session graph is empty",
                 belay_session_run(session, NULL, NULL, NULL, NULL, NULL, NULL, err));
    belay_session_free(session);
    belay_graph_free(graph);
}

/* SE-14. */
static void test_session_run__sees_ops_that_were_added_after_it_was_opened(void **state) {
    (void)state;
    BLY_LOCAL_ERROR(mine);
    belay_graph *graph = load("tiny.meta");
    belay_session *session = initialised(graph);
    TF_Operation *train = bly_graph_find_op(graph, "train", &mine);
    assert_non_null(bly_build_group(graph, "added_later", &train, 1, &mine));
    run_op(session, "added_later");
    assert_int_equal(step_of(session), 1);
    belay_session_free(session);
    belay_graph_free(graph);
}

/* SE-18, ER-03, ER-04. */
static void test_session_run__names_the_nearest_where_a_name_is_unknown(void **state) {
    (void)state;
    belay_graph *graph = load("plain_saver.meta");
    belay_session *session = open_plain(graph);
    belay_tensor *x = rows_x(4), *out = NULL;
    const char *const los[] = {"los", NULL}, *const trian[] = {"trian", NULL};
    assert_fails(BELAY_NOT_FOUND, "'loss'",
                 belay_session_run(session, NULL, NULL, los, &out, NULL, NULL, err));
    assert_fails(BELAY_NOT_FOUND, "'train'",
                 belay_session_run(session, NULL, NULL, NULL, NULL, trian, NULL, err));
    assert_fails(BELAY_NOT_FOUND, "'loss:7': operation 'loss' has 1 output",
                 belay_session_run(session, NULL, NULL, (const char *[]){"loss:7", NULL}, &out,
                                   NULL, NULL, err));
    /* A target too is refused where it names an output that there is not. */
    assert_fails(BELAY_NOT_FOUND, "'loss:7': operation 'loss' has 1 output",
                 belay_session_run(session, NULL, NULL, NULL, NULL,
                                   (const char *[]){"loss:7", NULL}, NULL, err));
    assert_fails(BELAY_NOT_FOUND, "'train:0': operation 'train' has 0 outputs",
                 belay_session_run(session, NULL, NULL, NULL, NULL,
                                   (const char *[]){"train:0", NULL}, NULL, err));
    assert_ok(belay_session_run(session, NULL, NULL, NULL, NULL,
                                (const char *[]){"global_step:0", NULL}, NULL, err));
    assert_fails(BELAY_INVALID_ARGUMENT, "nothing_like_it",
                 belay_session_run(session, (const char *[]){"nothing_like_it", NULL}, &x, NULL,
                                   NULL, NULL, NULL, err));
    assert_fails(BELAY_INVALID_ARGUMENT, "'train' names an operation without outputs",
                 belay_session_run(session, NULL, NULL, (const char *[]){"train", NULL}, &out, NULL,
                                   NULL, err));
    assert_null(out);
    belay_tensor_free(x);
    belay_session_free(session);
    belay_graph_free(graph);
}

/* SE-19, SE-21, SE-46, BUG-67: "y" is fed and fetched; `loss` is wanted twice. */
static void test_session_run__gives_back_what_is_fed_and_runs_a_double_fetch_once(void **state) {
    (void)state;
    belay_graph *graph = load("plain_saver.meta");
    belay_session *session = initialised(graph);
    belay_tensor *inputs[] = {rows_x(4), rows_y()};
    const char *const fetches[] = {"loss", "y", "loss:0", "y:0", NULL};
    belay_tensor *out[4] = {NULL, NULL, NULL, NULL};
    assert_ok(belay_session_run(session, (const char *[]){"x", "y", NULL}, inputs, fetches, out,
                                NULL, NULL, err));
    assert_true(belay_tensor_number(out[0], 0) > 0);
    assert_true(belay_tensor_number(out[0], 0) == belay_tensor_number(out[2], 0));
    for (int i = 0; i < ROWS; i++) {
        assert_true(belay_tensor_number(out[1], i) == belay_tensor_number(inputs[1], i));
        assert_true(belay_tensor_number(out[3], i) == belay_tensor_number(inputs[1], i));
    }
    /* Each is the caller's own. */
    ((float *)belay_tensor_data(out[0]))[0] = -1;
    ((float *)belay_tensor_data(out[1]))[0] = -1;
    assert_true(belay_tensor_number(out[2], 0) > 0);
    assert_true(belay_tensor_number(out[3], 0) >= 0);
    assert_true(belay_tensor_number(inputs[1], 0) >= 0);
    for (int i = 0; i < 4; i++)
        belay_tensor_free(out[i]);
    belay_tensor_free(inputs[0]);
    belay_tensor_free(inputs[1]);
    belay_session_free(session);
    belay_graph_free(graph);
}

/* SE-20: an input that is fed and fetched, and nothing else, does not reach the runtime: the
 * session could not run it, since x alone is no graph to run. */
static void test_session_run__does_nothing_where_nothing_is_left_to_run(void **state) {
    (void)state;
    belay_graph *graph = load("plain_saver.meta");
    belay_session *session = open_plain(graph);
    belay_tensor *x = rows_x(4), *out = NULL;
    const char *const name[] = {"x", NULL};
    assert_ok(belay_session_run(session, NULL, NULL, NULL, NULL, NULL, NULL, err));
    assert_ok(belay_session_run(session, name, &x, NULL, NULL, NULL, NULL, err));
    assert_ok(belay_session_run(session, name, &x, name, &out, NULL, NULL, err));
    assert_int_equal(belay_tensor_count(out), belay_tensor_count(x));
    belay_tensor_free(x);
    belay_tensor_free(out);
    belay_session_free(session);
    belay_graph_free(graph);
}

/* SE-27, SE-30, ER-05. */
static void test_session_run__refuses_feeds_that_do_not_fit(void **state) {
    (void)state;
    belay_graph *graph = load("plain_saver.meta");
    belay_session *session = open_plain(graph);
    belay_tensor *narrow = rows_x(3), *wide = rows_x(4), *numbers = rows_id(3), *flat = rows_y();
    belay_tensor *both[] = {wide, wide}, *none[] = {NULL};
    const char *const x[] = {"x", NULL}, *const loss[] = {"loss", NULL};
    belay_tensor *out = NULL;
    assert_fails(BELAY_INVALID_ARGUMENT, "x takes float32 of [?, 4], and was fed float32 of [8, 3]",
                 belay_session_run(session, x, &narrow, loss, &out, NULL, NULL, err));
    assert_fails(BELAY_INVALID_ARGUMENT, "was fed float32 of [8]",
                 belay_session_run(session, x, &flat, loss, &out, NULL, NULL, err));
    assert_fails(BELAY_INVALID_ARGUMENT, "was fed int64 of [8]",
                 belay_session_run(session, x, &numbers, loss, &out, NULL, NULL, err));
    assert_fails(BELAY_INVALID_ARGUMENT, "x and x:0 are the same tensor",
                 belay_session_run(session, (const char *[]){"x", "x:0", NULL}, both, loss, &out,
                                   NULL, NULL, err));
    assert_fails(BELAY_INVALID_ARGUMENT, "no tensor was given for x",
                 belay_session_run(session, x, none, loss, &out, NULL, NULL, err));
    assert_fails(BELAY_INVALID_ARGUMENT, "no tensor was given for x",
                 belay_session_run(session, x, NULL, loss, &out, NULL, NULL, err));
    assert_null(out);
    belay_tensor_free(narrow);
    belay_tensor_free(wide);
    belay_tensor_free(numbers);
    belay_tensor_free(flat);
    belay_session_free(session);
    belay_graph_free(graph);
}

/* SE-29, ER-06, ST-13. */
static void test_session_run__reports_what_tensorflow_reports(void **state) {
    (void)state;
    belay_graph *graph = load("plain_saver.meta");
    belay_session *session = initialised(graph);
    belay_tensor *out = scalar(7), *mine = out;
    const char *const loss[] = {"loss", NULL};
    assert_fails(BELAY_INVALID_ARGUMENT, "placeholder",
                 belay_session_run(session, NULL, NULL, loss, &out, NULL, NULL, err));
    assert_ptr_equal(out, mine); /* left as it was */
    assert_true(belay_tensor_number(out, 0) == 7);
    belay_session *fresh = open_plain(graph);
    int64_t step;
    assert_fails(BELAY_FAILED_PRECONDITION, "uninitialized",
                 belay_session_global_step(fresh, &step, err));
    assert_int_equal(step, -1);
    belay_tensor_free(out);
    belay_session_free(fresh);
    belay_session_free(session);
    belay_graph_free(graph);
}

static void test_session_run__uses_the_callers_tensor_again(void **state) {
    (void)state;
    belay_graph *graph = load("tiny.meta");
    belay_session *session = initialised(graph);
    belay_tensor *out = scalar(7), *mine = out;
    const char *const step[] = {"global_step", NULL};
    for (int i = 0; i < 3; i++) {
        run_op(session, "train");
        assert_ok(belay_session_run(session, NULL, NULL, step, &out, NULL, NULL, err));
        assert_ptr_equal(out, mine);
        assert_int_equal(belay_tensor_dtype(out), BELAY_INT64); /* BUG-56: no handle */
        assert_int_equal((int)belay_tensor_number(out, 0), i + 1);
    }
    /* Fetches that nobody wants are still run. */
    assert_ok(belay_session_run(session, NULL, NULL, step, NULL, NULL, NULL, err));
    belay_tensor_free(out);
    belay_session_free(session);
    belay_graph_free(graph);
}

/* BUG-73. */
static void test_session_run__copies_what_reference_variables_hold(void **state) {
    (void)state;
    belay_graph *graph = load("refvars.meta");
    belay_session *session = initialised(graph);
    belay_tensor *inputs[] = {rows_x(4), rows_y()};
    const char *const names[] = {"w", "w/read", "w:0", NULL};
    belay_tensor *before[3] = {NULL, NULL, NULL}, *after[3] = {NULL, NULL, NULL};
    const char *const feeds[] = {"x", "y", NULL}, *const train[] = {"train", NULL};
    assert_ok(belay_session_run(session, NULL, NULL, names, before, NULL, NULL, err));
    for (int i = 0; i < 5; i++)
        assert_ok(belay_session_run(session, feeds, inputs, NULL, NULL, train, NULL, err));
    assert_ok(belay_session_run(session, NULL, NULL, names, after, NULL, NULL, err));
    for (int i = 0; i < 3; i++) {
        assert_true(belay_tensor_number(before[i], 0) == 0);
        assert_true(belay_tensor_number(after[i], 0) != 0);
        belay_tensor_free(before[i]);
        belay_tensor_free(after[i]);
    }
    belay_tensor_free(inputs[0]);
    belay_tensor_free(inputs[1]);
    belay_session_free(session);
    belay_graph_free(graph);
}

static void test_session_run__feeds_and_fetches_strings(void **state) {
    (void)state;
    belay_graph *graph = load("table.meta");
    belay_session *session = open_plain(graph);
    const char *words[] = {"a", "a word that is longer than what fits into the string itself", ""};
    const char *const name[] = {"words:0", NULL};
    belay_tensor *in = belay_tensor_new_strings(words, NULL, (int64_t[]){3}, 1, err), *out = NULL;
    assert_made(in);
    assert_ok(belay_session_run(session, name, &in, name, &out, NULL, NULL, err));
    belay_tensor_free(in);
    for (int i = 0; i < 3; i++) {
        size_t len;
        const char *text = belay_tensor_string(out, i, &len);
        assert_int_equal(len, strlen(words[i]));
        assert_memory_equal(text, words[i], len);
    }
    belay_tensor_free(out);
    belay_session_free(session);
    belay_graph_free(graph);
}

/* ER-29's text is the hooks'; here it is only that there is none. */
static void test_session_global_step__says_so_where_the_graph_has_none(void **state) {
    (void)state;
    belay_graph *graph = load("no_step.meta");
    belay_session *session = open_plain(graph);
    int64_t step = 5;
    assert_fails(BELAY_FAILED_PRECONDITION, "no_step.meta has no global step",
                 belay_session_global_step(session, &step, err));
    assert_int_equal(step, -1);
    belay_session_free(session);
    belay_graph_free(graph);
    graph = load("int32_step.meta");
    session = initialised(graph);
    run_op(session, "train");
    assert_int_equal(step_of(session), 1);
    belay_session_free(session);
    belay_graph_free(graph);
}

static void test_session_calls__pass_an_earlier_error_on(void **state) {
    (void)state;
    int64_t step;
    bly_fail(err, BELAY_DATA_LOSS, "from before");
    assert_null(belay_session_open(NULL, NULL, err));
    assert_int_equal(belay_session_run(NULL, NULL, NULL, NULL, NULL, NULL, NULL, err),
                     BELAY_DATA_LOSS);
    assert_int_equal(belay_session_close(NULL, err), BELAY_DATA_LOSS);
    assert_int_equal(belay_session_global_step(NULL, &step, err), BELAY_DATA_LOSS);
    assert_string_equal(belay_error_message(err), "from before");
    belay_error_clear(err);
    assert_not_made(BELAY_INVALID_ARGUMENT, "NULL", belay_session_open(NULL, NULL, err));
    assert_fails(BELAY_INVALID_ARGUMENT, "NULL",
                 belay_session_run(NULL, NULL, NULL, NULL, NULL, NULL, NULL, err));
    assert_fails(BELAY_INVALID_ARGUMENT, "NULL", belay_session_global_step(NULL, &step, err));
    assert_null(belay_session_open(NULL, NULL, NULL));
    assert_null(belay_session_graph(NULL));
    assert_null(belay_session_raw(NULL));
    assert_string_equal(belay_session_target(NULL), "");
    belay_session_free(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sessions_of_one_graph__have_their_own_variables),
        cmocka_unit_test(test_session_open__refuses_a_target_that_tensorflow_does_not_know),
        cmocka_unit_test(test_session_open__reads_options_of_other_sizes),
        cmocka_unit_test(test_session_close__happens_once_and_ends_all_running),
        cmocka_unit_test(test_session_close__cancels_a_run_that_is_blocked),
        cmocka_unit_test(test_session_run__ends_at_its_timeout_and_the_session_goes_on),
        cmocka_unit_test(test_session_run__ends_at_the_timeout_of_the_config),
        cmocka_unit_test(test_session_run__refuses_an_empty_graph),
        cmocka_unit_test(test_session_run__sees_ops_that_were_added_after_it_was_opened),
        cmocka_unit_test(test_session_run__names_the_nearest_where_a_name_is_unknown),
        cmocka_unit_test(test_session_run__gives_back_what_is_fed_and_runs_a_double_fetch_once),
        cmocka_unit_test(test_session_run__does_nothing_where_nothing_is_left_to_run),
        cmocka_unit_test(test_session_run__refuses_feeds_that_do_not_fit),
        cmocka_unit_test(test_session_run__reports_what_tensorflow_reports),
        cmocka_unit_test(test_session_run__uses_the_callers_tensor_again),
        cmocka_unit_test(test_session_run__copies_what_reference_variables_hold),
        cmocka_unit_test(test_session_run__feeds_and_fetches_strings),
        cmocka_unit_test(test_session_global_step__says_so_where_the_graph_has_none),
        cmocka_unit_test(test_session_calls__pass_an_earlier_error_on),
    };
    return cmocka_run_group_tests(tests, session_run_set_up, session_run_tear_down);
}
