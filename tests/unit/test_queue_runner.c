/* Queue runners, on the scripted runtime. */
#include "failing_alloc.h"
#include "log_capture.h"
#include "scripted_runtime.h"
#include "stepped_clock.h"

#include "base/clock.h"
#include "base/error.h"
#include "session/queue_runner.h"

#include <setjmp.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Two enqueue ops that fill a queue of two places. */
#define TWO_ENQUEUERS                                                                              \
    "queue = FIFOQueueV2() capacity=2 component_types={int64}\n"                                   \
    "element = Const() dtype=int64 value=7\n"                                                      \
    "a = QueueEnqueueV2(queue, element)\n"                                                         \
    "b = QueueEnqueueV2(queue, element)\n"                                                         \
    "close = QueueCloseV2(queue) cancel_pending_enqueues=false\n"                                  \
    "cancel = QueueCloseV2(queue) cancel_pending_enqueues=true\n"                                  \
    "dequeue = QueueDequeueV2(queue) component_types={int64}\n"
#define RUNNER "queue_runner queue: enqueue=a,b close=close cancel=cancel codes=11,8\n"

static int set_up(void **state) {
    (void)state;
    scripted_install();
    stepped_clock_install(STEPPED_AUTO);
    log_capture_start(BELAY_LOG_DEBUG);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    scripted_release();
    stepped_clock_uninstall();
    scripted_uninstall();
    log_capture_stop();
    return 0;
}

static belay_graph *load(const char *text) {
    BLY_LOCAL_ERROR(err);
    belay_graph *graph = scripted_graph(text, &err);
    assert_string_equal(belay_error_message(&err), "");
    return graph;
}

static belay_session *open_on(belay_graph *graph) {
    belay_session *session = belay_session_open(graph, NULL, NULL);
    assert_non_null(session);
    return session;
}

static belay_coordinator *new_coordinator(void) {
    belay_coordinator *c = belay_coordinator_new(NULL, 0, NULL);
    assert_non_null(c);
    return c;
}

/* A runner over the ops a and b, made from parts. */
static bly_queue_runner *runner_of(belay_graph *graph) {
    static const char *const ops[] = {"a", "b"};
    static const belay_code closed[] = {BELAY_OUT_OF_RANGE, BELAY_RESOURCE_EXHAUSTED};
    const bly_queue_runner_parts parts = {"queue", ops, 2, "close", "cancel", closed, 2};
    bly_queue_runner *runner = bly_queue_runner_new(graph, &parts, NULL);
    assert_non_null(runner);
    return runner;
}

static void free_all(belay_session *session, belay_graph *graph) {
    belay_session_free(session);
    belay_graph_free(graph);
}

/* ---- making ---- */

static void test_queue_runner_QR_01_QR_02__needs_a_queue_and_enqueue_ops(void **state) {
    (void)state;
    belay_graph *graph = load(TWO_ENQUEUERS);
    static const char *const ops[] = {"a"};
    BLY_LOCAL_ERROR(err);
    bly_queue_runner_parts parts = {NULL, ops, 1, "close", "cancel", NULL, 0};
    assert_null(bly_queue_runner_new(graph, &parts, &err));
    assert_int_equal(belay_error_code(&err), BELAY_INVALID_ARGUMENT);
    parts = (bly_queue_runner_parts){"queue", ops, 0, "close", "cancel", NULL, 0};
    assert_null(bly_queue_runner_new(graph, &parts, &err));
    assert_int_equal(belay_error_code(&err), BELAY_INVALID_ARGUMENT);
    parts = (bly_queue_runner_parts){"queue", NULL, 1, "close", "cancel", NULL, 0};
    assert_null(bly_queue_runner_new(graph, &parts, &err));
    assert_int_equal(belay_error_code(&err), BELAY_INVALID_ARGUMENT);
    parts = (bly_queue_runner_parts){"queue", ops, 1, "closed", "cancel", NULL, 0};
    assert_null(bly_queue_runner_new(graph, &parts, &err));
    assert_int_equal(belay_error_code(&err), BELAY_NOT_FOUND);
    assert_non_null(strstr(belay_error_message(&err), "close"));
    belay_graph_free(graph);
}

static void test_queue_runner_QR_03__closed_codes_are_codes_of_errors(void **state) {
    (void)state;
    belay_graph *graph = load(TWO_ENQUEUERS);
    static const char *const ops[] = {"a"};
    static const belay_code bad[] = {BELAY_OUT_OF_RANGE, BELAY_OK};
    bly_queue_runner_parts parts = {"queue", ops, 1, "close", "cancel", bad, 0};
    BLY_LOCAL_ERROR(err);
    assert_null(bly_queue_runner_new(graph, &parts, &err));
    assert_int_equal(belay_error_code(&err), BELAY_INVALID_ARGUMENT);
    parts.closed_count = 2;
    assert_null(bly_queue_runner_new(graph, &parts, &err));
    parts.closed_count = 1;
    bly_queue_runner *runner = bly_queue_runner_new(graph, &parts, NULL);
    assert_non_null(runner);
    bly_queue_runner_free(runner);
    belay_graph_free(graph);
}

static int cancels_pending(belay_graph *graph, const char *name) {
    const bly_runtime *rt = graph->rt;
    TF_Operation *op = rt->GraphOperationByName(graph->tf, name);
    TF_Status *status = rt->NewStatus();
    unsigned char value = 9;
    assert_non_null(op);
    assert_string_equal(rt->OperationOpType(op), "QueueCloseV2");
    rt->OperationGetAttrBool(op, "cancel_pending_enqueues", &value, status);
    rt->DeleteStatus(status);
    return value;
}

static void test_queue_runner_QR_04__adds_the_ops_that_close_and_cancel(void **state) {
    (void)state;
    belay_graph *graph = load(TWO_ENQUEUERS);
    static const char *const ops[] = {"a"};
    const bly_queue_runner_parts parts = {"queue", ops, 1, NULL, NULL, NULL, 0};
    bly_queue_runner *runner = bly_queue_runner_new(graph, &parts, NULL);
    assert_non_null(runner);
    assert_int_equal(cancels_pending(graph, "queue_Close"), 0);
    assert_int_equal(cancels_pending(graph, "queue_Close_1"), 1);
    bly_queue_runner_free(runner);
    bly_graph_set_finalized(graph, 1);
    BLY_LOCAL_ERROR(err);
    assert_null(bly_queue_runner_new(graph, &parts, &err));
    assert_int_equal(belay_error_code(&err), BELAY_FAILED_PRECONDITION);
    belay_graph_free(graph);
}

static void test_queue_runner_QR_05_QR_23__is_made_from_its_form_in_a_graph(void **state) {
    (void)state;
    belay_graph *graph = load("in/queue = FIFOQueueV2() component_types={int64}\n"
                              "in/a = NoOp()\nin/close = NoOp()\nin/cancel = NoOp()\n");
    char *ops[] = {(char[]){"a"}};
    Bly__QueueRunnerDef def = BLY__QUEUE_RUNNER_DEF__INIT;
    BLY_LOCAL_ERROR(err);
    def.queue_name = (char[]){"queue"};
    def.n_enqueue_op_name = 1;
    def.enqueue_op_name = ops;
    def.close_op_name = (char[]){"close"};
    def.cancel_op_name = (char[]){"cancel"};
    assert_null(bly_queue_runner_from_def(graph, &def, NULL, &err));
    assert_int_equal(belay_error_code(&err), BELAY_NOT_FOUND);
    bly_queue_runner *runner = bly_queue_runner_from_def(graph, &def, "in", NULL);
    assert_non_null(runner);
    assert_string_equal(bly_queue_runner_name(runner), "in/queue");
    /* no codes: OUT_OF_RANGE */
    scripted_fail("in/a", 3, BELAY_OUT_OF_RANGE, "end of input");
    belay_session *session = open_on(graph);
    belay_coordinator *c = new_coordinator();
    bly_queue_runner_create_threads(runner, session, c, NULL, NULL);
    assert_int_equal(belay_coordinator_join(c, NULL, NULL), BELAY_OK);
    assert_int_equal(scripted_count("in/close"), 1);
    belay_coordinator_free(c);
    bly_queue_runner_free(runner);
    free_all(session, graph);
}

/* ---- threads ---- */

static void
test_queue_runner_QR_06_QR_07_QR_08__one_thread_per_op_and_one_that_closes(void **state) {
    (void)state;
    belay_graph *graph = load(TWO_ENQUEUERS);
    belay_session *session = open_on(graph);
    belay_coordinator *c = new_coordinator();
    bly_queue_runner *runner = runner_of(graph);
    size_t count = 0;
    scripted_hang("a", 0);
    scripted_hang("b", 0);
    scripted_hang("cancel", 0);
    assert_int_equal(bly_queue_runner_create_threads(runner, session, c, &count, NULL), BELAY_OK);
    assert_int_equal(count, 3);
    assert_true(scripted_await_blocked(2));
    belay_coordinator_request_stop(c, NULL);
    belay_join_options options = BELAY_JOIN_OPTIONS_INIT;
    options.stop_grace_period_secs = 1;
    BLY_LOCAL_ERROR(err);
    assert_int_equal(belay_coordinator_join(c, &options, &err), BELAY_DEADLINE_EXCEEDED);
    const char *text = belay_error_message(&err); /* all three were the coordinator's to join */
    assert_non_null(strstr(text, "QueueRunnerThread-queue-a"));
    assert_non_null(strstr(text, "QueueRunnerThread-queue-b"));
    assert_non_null(strstr(text, "QueueRunnerThread-queue-close_on_stop"));
    belay_session_close(session, NULL); /* they end, although nobody waits for them any more */
    belay_coordinator_free(c);
    bly_queue_runner_free(runner);
    free_all(session, graph);
}

static void test_queue_runner_QR_09__starts_once_per_session(void **state) {
    (void)state;
    belay_graph *graph = load(TWO_ENQUEUERS RUNNER);
    belay_session *one = open_on(graph), *two = open_on(graph);
    belay_coordinator *c = new_coordinator();
    bly_queue_runner *runner = runner_of(graph);
    size_t count = 9;
    scripted_hang("a", 0);
    scripted_hang("b", 0);
    bly_queue_runner_create_threads(runner, one, c, &count, NULL);
    assert_int_equal(count, 3);
    assert_int_equal(bly_queue_runner_create_threads(runner, one, c, &count, NULL), BELAY_OK);
    assert_int_equal(count, 0);
    bly_queue_runner_create_threads(runner, two, c, &count, NULL);
    assert_int_equal(count, 3);
    assert_true(scripted_await_blocked(4));
    /* the same runner of a collection counts as one, however often it is asked for; the one above
     * is another */
    assert_int_equal(bly_start_queue_runners(one, c, NULL), BELAY_OK);
    assert_true(scripted_await_blocked(6));
    assert_int_equal(bly_start_queue_runners(one, c, NULL), BELAY_OK);
    stepped_clock_settle();
    assert_int_equal(scripted_blocked(), 6);
    belay_session_close(one, NULL);
    belay_session_close(two, NULL);
    belay_coordinator_request_stop(c, NULL);
    belay_coordinator_join(c, NULL, NULL);
    belay_coordinator_free(c);
    bly_queue_runner_free(runner);
    belay_session_free(one);
    free_all(two, graph);
}

static void test_queue_runner_QR_11_QR_12_QR_13__runs_until_the_queue_is_closed(void **state) {
    (void)state;
    belay_graph *graph = load(TWO_ENQUEUERS);
    belay_session *session = open_on(graph);
    belay_coordinator *c = new_coordinator();
    bly_queue_runner *runner = runner_of(graph);
    scripted_fail("close", 1, BELAY_INTERNAL, "nobody minds");
    scripted_fail("a", 2, BELAY_OUT_OF_RANGE, "end of input");
    scripted_delay_ms("b", 1, 90000);
    scripted_fail("b", 1, BELAY_RESOURCE_EXHAUSTED, "counts as closed too");
    bly_queue_runner_create_threads(runner, session, c, NULL, NULL);
    BLY_LOCAL_ERROR(err);
    assert_int_equal(belay_coordinator_join(c, NULL, &err), BELAY_OK);
    assert_int_equal(scripted_count("close"), 1); /* by the last of them, once */
    assert_int_equal(stepped_clock_now_ms(), 90000);
    assert_int_equal(belay_coordinator_should_stop(c), 0);
    assert_int_equal(scripted_count("cancel"), 0);
    belay_coordinator_free(c);
    bly_queue_runner_free(runner);
    free_all(session, graph);
}

static void test_queue_runner_QR_11__enqueues_as_fast_as_the_queue_is_read(void **state) {
    (void)state;
    belay_graph *graph = load(SCRIPTED_QUEUE);
    belay_session *session = open_on(graph);
    belay_coordinator *c = new_coordinator();
    scripted_fail("enqueue", 11, BELAY_OUT_OF_RANGE, "end of input");
    assert_int_equal(bly_queue_runner_count(graph), 1);
    assert_int_equal(bly_start_queue_runners(session, c, NULL), BELAY_OK);
    static const char *const fetches[] = {"dequeue", NULL};
    belay_tensor *element = NULL;
    BLY_LOCAL_ERROR(err);
    int elements = 0;
    while (belay_session_run(session, NULL, NULL, fetches, &element, NULL, NULL, &err) ==
           BELAY_OK) {
        assert_true(belay_tensor_number(element, 0) == 7);
        elements++;
    }
    assert_int_equal(elements, 10); /* what was enqueued before the end is all there */
    assert_int_equal(belay_error_code(&err), BELAY_OUT_OF_RANGE);
    belay_tensor_free(element);
    assert_int_equal(belay_coordinator_join(c, NULL, NULL), BELAY_OK);
    belay_coordinator_free(c);
    free_all(session, graph);
}

/* QR-11: it is asked before each enqueue whether to stop, the first one too. */
static void test_queue_runner_QR_11__enqueues_nothing_after_a_stop(void **state) {
    (void)state;
    belay_graph *graph = load(TWO_ENQUEUERS);
    belay_session *session = open_on(graph);
    belay_coordinator *c = new_coordinator();
    bly_queue_runner *runner = runner_of(graph);
    belay_coordinator_request_stop(c, NULL);
    assert_int_equal(bly_queue_runner_create_threads(runner, session, c, NULL, NULL), BELAY_OK);
    assert_int_equal(belay_coordinator_join(c, NULL, NULL), BELAY_OK);
    assert_int_equal(scripted_count("a") + scripted_count("b"), 0);
    assert_int_equal(scripted_count("cancel"), 1);
    belay_coordinator_free(c);
    bly_queue_runner_free(runner);
    free_all(session, graph);
}

/* BUG_19: without a stop a join comes back once the input is at its end. */
static void test_queue_runner_BUG_19__the_closing_thread_does_not_hold_up_a_join(void **state) {
    (void)state;
    belay_graph *graph = load(TWO_ENQUEUERS);
    belay_session *session = open_on(graph);
    belay_coordinator *c = new_coordinator();
    bly_queue_runner *runner = runner_of(graph);
    scripted_fail("a", 0, BELAY_OUT_OF_RANGE, "end of input");
    scripted_delay_ms("b", 1, 25000);
    scripted_fail("b", 1, BELAY_OUT_OF_RANGE, "end of input");
    bly_queue_runner_create_threads(runner, session, c, NULL, NULL);
    assert_int_equal(belay_coordinator_join(c, NULL, NULL), BELAY_OK);
    assert_int_equal(stepped_clock_now_ms(), 25000);
    assert_int_equal(log_capture_count("QueueRunnerThread-queue-b"),
                     2); /* the wait said for what */
    belay_coordinator_free(c);
    bly_queue_runner_free(runner);
    free_all(session, graph);
}

static void test_queue_runner_QR_14_QR_16__an_error_stops_the_coordinator(void **state) {
    (void)state;
    belay_graph *graph = load(TWO_ENQUEUERS);
    belay_session *session = open_on(graph);
    belay_coordinator *c = new_coordinator();
    bly_queue_runner *runner = runner_of(graph);
    BLY_LOCAL_ERROR(err);
    scripted_delay_ms("a", 1, 1000); /* until b has filled the queue, and waits */
    scripted_fail("a", 1, BELAY_INVALID_ARGUMENT, "bad record");
    bly_queue_runner_create_threads(runner, session, c, NULL, NULL);
    assert_int_equal(belay_coordinator_join(c, NULL, &err), BELAY_INVALID_ARGUMENT);
    assert_string_equal(belay_error_op(&err), "a");
    assert_int_equal(belay_error_chained_count(&err), 0); /* that b was cancelled is no news */
    assert_int_equal(bly_queue_runner_exceptions_raised(runner, NULL), 0);
    assert_int_equal(scripted_count("close"), 0);
    assert_int_equal(scripted_count("cancel"), 1);
    assert_int_equal(log_capture_count("Error reported to Coordinator"), 1);
    assert_int_equal(stepped_clock_now_ms(), 1000);
    belay_coordinator_free(c);
    bly_queue_runner_free(runner);
    free_all(session, graph);
}

static void test_queue_runner_QR_16_QR_17__a_stop_cancels_what_is_pending(void **state) {
    (void)state;
    belay_graph *graph = load(TWO_ENQUEUERS);
    belay_session *session = open_on(graph);
    belay_coordinator *c = new_coordinator();
    bly_queue_runner *runner = runner_of(graph);
    bly_queue_runner_create_threads(runner, session, c, NULL, NULL);
    assert_true(scripted_await_blocked(2));                         /* the queue is full */
    assert_int_equal(belay_coordinator_wait_for_stop(c, 86400), 0); /* they wait without a limit */
    assert_int_equal(scripted_count("cancel"), 0);
    belay_coordinator_request_stop(c, NULL);
    assert_int_equal(belay_coordinator_join(c, NULL, NULL), BELAY_OK);
    assert_int_equal(scripted_count("cancel"), 1);
    assert_int_equal(scripted_count("close"), 0);
    assert_int_equal(stepped_clock_now_ms(), 86400000);
    belay_coordinator_free(c);
    bly_queue_runner_free(runner);
    free_all(session, graph);
}

static void test_queue_runner_QR_17__the_cancel_op_may_fail(void **state) {
    (void)state;
    belay_graph *graph = load(TWO_ENQUEUERS);
    belay_session *session = open_on(graph);
    belay_coordinator *c = new_coordinator();
    bly_queue_runner *runner = runner_of(graph);
    scripted_fail("cancel", 0, BELAY_INTERNAL, "nobody minds");
    scripted_delay_ms("a", 0, 1000);
    scripted_delay_ms("b", 0, 1000);
    scripted_fail("a", 2, BELAY_OUT_OF_RANGE, "end of input");
    scripted_fail("b", 2, BELAY_OUT_OF_RANGE, "end of input");
    bly_queue_runner_create_threads(runner, session, c, NULL, NULL);
    belay_coordinator_request_stop(c, NULL);
    assert_int_equal(belay_coordinator_join(c, NULL, NULL), BELAY_OK);
    belay_coordinator_free(c);
    bly_queue_runner_free(runner);
    free_all(session, graph);
}

static void
test_queue_runner_QR_15_QR_18_BUG_20__without_a_coordinator_errors_are_kept(void **state) {
    (void)state;
    belay_graph *graph = load(TWO_ENQUEUERS);
    belay_session *session = open_on(graph);
    bly_queue_runner *runner = runner_of(graph);
    BLY_LOCAL_ERROR(err);
    size_t count;
    scripted_fail("a", 1, BELAY_INVALID_ARGUMENT, "bad record");
    scripted_fail("b", 1, BELAY_DATA_LOSS, "worse record");
    bly_queue_runner_create_threads(runner, session, NULL, &count, NULL);
    assert_int_equal(count, 2); /* nothing to close on: QR_06 */
    assert_int_equal(bly_queue_runner_join(runner, 0, NULL), BELAY_OK);
    assert_int_equal(bly_queue_runner_exceptions_raised(runner, &err), 2);
    assert_int_equal(belay_error_chained_count(&err), 1);
    assert_int_equal(log_capture_count("Exception in QueueRunner queue: "), 2);
    /* the queue was closed, so its readers see an end and wait for nothing */
    assert_int_equal(scripted_count("close"), 1);
    static const char *const fetches[] = {"dequeue", NULL};
    belay_tensor *element = NULL;
    assert_int_equal(belay_session_run(session, NULL, NULL, fetches, &element, NULL, NULL, NULL),
                     BELAY_OUT_OF_RANGE);
    scripted_fail("a", 2, BELAY_OUT_OF_RANGE, "end of input");
    scripted_fail("b", 2, BELAY_OUT_OF_RANGE, "end of input");
    bly_queue_runner_create_threads(runner, session, NULL, &count, NULL);
    assert_int_equal(count, 2);
    assert_int_equal(bly_queue_runner_join(runner, 0, NULL), BELAY_OK);
    assert_int_equal(bly_queue_runner_exceptions_raised(runner, &err), 0);
    assert_int_equal(belay_error_code(&err), BELAY_OK);
    bly_queue_runner_free(runner);
    free_all(session, graph);
}

static void test_queue_runner_BUG_21__closes_when_the_last_thread_failed(void **state) {
    (void)state;
    belay_graph *graph = load(TWO_ENQUEUERS);
    belay_session *session = open_on(graph);
    bly_queue_runner *runner = runner_of(graph);
    scripted_fail("a", 1, BELAY_OUT_OF_RANGE, "end of input");
    scripted_delay_ms("b", 1, 5000);
    scripted_fail("b", 1, BELAY_DATA_LOSS, "the last one");
    bly_queue_runner_create_threads(runner, session, NULL, NULL, NULL);
    assert_int_equal(bly_queue_runner_join(runner, 0, NULL), BELAY_OK);
    assert_int_equal(scripted_count("close"), 1);
    assert_int_equal(stepped_clock_now_ms(), 5000);
    bly_queue_runner_free(runner);
    free_all(session, graph);
}

/* Threads that could not be started count for nothing (BUG_22): what failed for want of memory can
 * be tried again. */
static void test_queue_runner_QR_10_BUG_22__a_failed_start_leaves_no_count_behind(void **state) {
    (void)state;
    belay_graph *graph = load(TWO_ENQUEUERS);
    bly_queue_runner *runner = runner_of(graph);
    scripted_fail("a", 0, BELAY_OUT_OF_RANGE, "end of input");
    scripted_fail("b", 0, BELAY_OUT_OF_RANGE, "end of input");
    FAILING_ALLOC(n) {
        belay_session *session = belay_session_open(graph, NULL, NULL);
        belay_coordinator *c = belay_coordinator_new(NULL, 0, NULL);
        size_t count = 9;
        belay_code code = session && c
                              ? bly_queue_runner_create_threads(runner, session, c, &count, NULL)
                              : BELAY_RESOURCE_EXHAUSTED;
        if (session && c)
            assert_int_equal(belay_coordinator_join(c, NULL, NULL), BELAY_OK);
        failing_alloc_hit();
        if (code != BELAY_OK) {
            assert_int_equal(code, BELAY_RESOURCE_EXHAUSTED);
            if (session && c) {
                assert_int_equal(count, 0);
                assert_int_equal(bly_queue_runner_create_threads(runner, session, c, &count, NULL),
                                 BELAY_OK);
            }
        }
        if (session && c) {
            assert_int_equal(count, 3);
            assert_int_equal(belay_coordinator_join(c, NULL, NULL), BELAY_OK);
        }
        belay_coordinator_free(c);
        belay_session_free(session);
    }
    bly_queue_runner_free(runner);
    belay_graph_free(graph);
}

static void test_queue_runner__a_failed_start_lets_go_of_what_it_had_started(void **state) {
    (void)state;
    belay_graph *graph = load(TWO_ENQUEUERS);
    bly_queue_runner *runner = runner_of(graph);
    int half_started = 0;
    FAILING_ALLOC(n) {
        belay_session *session = belay_session_open(graph, NULL, NULL);
        belay_coordinator *c = belay_coordinator_new(NULL, 0, NULL);
        size_t cancelled = scripted_count("cancel");
        belay_code code = BELAY_RESOURCE_EXHAUSTED;
        if (session && c)
            code = bly_queue_runner_create_threads(runner, session, c, NULL, NULL);
        failing_alloc_hit();
        if (code == BELAY_OK)
            belay_coordinator_request_stop(c, NULL);
        else
            half_started += scripted_count("cancel") > cancelled;
        if (session && c) /* without a stop: a thread that went on would hold this up for ever */
            assert_int_equal(belay_coordinator_join(c, NULL, NULL), BELAY_OK);
        belay_coordinator_free(c);
        belay_session_free(session);
    }
    assert_true(half_started > 0);
    bly_queue_runner_free(runner);
    belay_graph_free(graph);
}

/* ---- the collection ---- */

static void test_start_queue_runners_QR_19__starts_every_runner_in_order(void **state) {
    (void)state;
    belay_graph *graph = load("q1 = FIFOQueueV2()\nq2 = FIFOQueueV2()\n"
                              "e1 = NoOp()\ne2 = NoOp()\ne3 = NoOp()\nclose = NoOp()\n"
                              "queue_runner q1: enqueue=e1 close=close cancel=close\n"
                              "queue_runner q2: enqueue=e2,e3 close=close cancel=close\n");
    belay_session *session = open_on(graph);
    belay_coordinator *c = new_coordinator();
    scripted_hang("e1", 0);
    scripted_hang("e2", 0);
    scripted_hang("e3", 0);
    assert_int_equal(bly_queue_runner_count(graph), 2);
    assert_int_equal(bly_start_queue_runners(session, c, NULL), BELAY_OK);
    assert_true(scripted_await_blocked(3));
    belay_coordinator_wait_for_stop(c, 1);
    belay_coordinator_request_stop(c, NULL);
    belay_join_options options = BELAY_JOIN_OPTIONS_INIT;
    options.stop_grace_period_secs = 1;
    BLY_LOCAL_ERROR(err);
    belay_coordinator_join(c, &options, &err);
    assert_string_equal(belay_error_message(&err),
                        "Coordinator stopped with threads still running: "
                        "QueueRunnerThread-q1-e1, QueueRunnerThread-q2-e2, "
                        "QueueRunnerThread-q2-e3");
    belay_session_close(session, NULL);
    belay_coordinator_free(c);
    free_all(session, graph);
}

static void test_start_queue_runners_QR_20__needs_a_session(void **state) {
    (void)state;
    belay_graph *graph = load(TWO_ENQUEUERS RUNNER);
    belay_session *session = open_on(graph);
    belay_coordinator *c = new_coordinator();
    bly_queue_runner *runner = runner_of(graph);
    assert_int_equal(bly_start_queue_runners(NULL, c, NULL), BELAY_INVALID_ARGUMENT);
    assert_int_equal(bly_start_queue_runners(session, NULL, NULL), BELAY_INVALID_ARGUMENT);
    assert_int_equal(bly_queue_runner_create_threads(runner, NULL, c, NULL, NULL),
                     BELAY_INVALID_ARGUMENT);
    bly_queue_runner_free(runner);
    belay_coordinator_free(c);
    free_all(session, graph);
}

static void test_start_queue_runners_QR_22__warns_where_there_are_none(void **state) {
    (void)state;
    belay_graph *graph = load(TWO_ENQUEUERS);
    belay_session *session = open_on(graph);
    belay_coordinator *c = new_coordinator();
    assert_int_equal(bly_queue_runner_count(graph), 0);
    assert_int_equal(bly_start_queue_runners(session, c, NULL), BELAY_OK);
    assert_int_equal(log_capture_count("collection queue_runners has none"), 1);
    belay_coordinator_free(c);
    free_all(session, graph);
}

static void test_start_queue_runners__says_what_is_wrong_with_a_runner(void **state) {
    (void)state;
    belay_graph *graph = load(TWO_ENQUEUERS "queue_runner queue: enqueue=a,c close=close "
                                            "cancel=cancel\n");
    belay_session *session = open_on(graph);
    belay_coordinator *c = new_coordinator();
    BLY_LOCAL_ERROR(err);
    assert_int_equal(bly_start_queue_runners(session, c, &err), BELAY_NOT_FOUND);
    assert_non_null(strstr(belay_error_message(&err), "'c'"));
    assert_int_equal(belay_coordinator_join(c, NULL, NULL), BELAY_OK); /* none was started */
    belay_coordinator_free(c);
    free_all(session, graph);
}

/* The threads own what they touch: everybody else may let go while they still run. */
static void test_queue_runner__threads_outlive_everybody_else(void **state) {
    (void)state;
    belay_graph *graph = load(TWO_ENQUEUERS);
    belay_session *session = open_on(graph);
    belay_coordinator *c = new_coordinator();
    bly_queue_runner *runner = runner_of(graph);
    scripted_hang("a", 0);
    scripted_hang("b", 0);
    bly_queue_runner_create_threads(runner, session, c, NULL, NULL);
    assert_true(scripted_await_blocked(2));
    belay_coordinator_request_stop(c, NULL);
    belay_join_options options = BELAY_JOIN_OPTIONS_INIT;
    options.stop_grace_period_secs = 3;
    options.ignore_live_threads = 1;
    assert_int_equal(belay_coordinator_join(c, &options, NULL), BELAY_OK);
    belay_coordinator_free(c);
    bly_queue_runner_free(runner);
    free_all(session, graph); /* closes the session first (SE-07): that ends what hangs */
    scripted_release();       /* tear_down checks that they gave everything back */
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_queue_runner_QR_01_QR_02__needs_a_queue_and_enqueue_ops),
        TEST(test_queue_runner_QR_03__closed_codes_are_codes_of_errors),
        TEST(test_queue_runner_QR_04__adds_the_ops_that_close_and_cancel),
        TEST(test_queue_runner_BUG_19__the_closing_thread_does_not_hold_up_a_join),
        TEST(test_queue_runner_QR_05_QR_23__is_made_from_its_form_in_a_graph),
        TEST(test_queue_runner_QR_06_QR_07_QR_08__one_thread_per_op_and_one_that_closes),
        TEST(test_queue_runner_QR_09__starts_once_per_session),
        TEST(test_queue_runner_QR_11_QR_12_QR_13__runs_until_the_queue_is_closed),
        TEST(test_queue_runner_QR_11__enqueues_as_fast_as_the_queue_is_read),
        TEST(test_queue_runner_QR_11__enqueues_nothing_after_a_stop),
        TEST(test_queue_runner_QR_14_QR_16__an_error_stops_the_coordinator),
        TEST(test_queue_runner_QR_16_QR_17__a_stop_cancels_what_is_pending),
        TEST(test_queue_runner_QR_17__the_cancel_op_may_fail),
        TEST(test_queue_runner_QR_15_QR_18_BUG_20__without_a_coordinator_errors_are_kept),
        TEST(test_queue_runner_BUG_21__closes_when_the_last_thread_failed),
        TEST(test_queue_runner_QR_10_BUG_22__a_failed_start_leaves_no_count_behind),
        TEST(test_queue_runner__a_failed_start_lets_go_of_what_it_had_started),
        TEST(test_start_queue_runners_QR_19__starts_every_runner_in_order),
        TEST(test_start_queue_runners_QR_20__needs_a_session),
        TEST(test_start_queue_runners_QR_22__warns_where_there_are_none),
        TEST(test_start_queue_runners__says_what_is_wrong_with_a_runner),
        TEST(test_queue_runner__threads_outlive_everybody_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
