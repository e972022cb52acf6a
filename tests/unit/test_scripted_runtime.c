/* The fakes that the other unit tests stand on: do they behave as TensorFlow does where belay can
 * tell? */
#include "failing_alloc.h"
#include "scripted_runtime.h"
#include "stepped_clock.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/thread.h"
#include "session/session.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const bly_runtime *rt;

static int set_up(void **state) {
    (void)state;
    rt = scripted_install();
    stepped_clock_install(STEPPED_AUTO);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    scripted_release();
    stepped_clock_uninstall();
    scripted_uninstall();
    return 0;
}

/* ---- the clock ---- */

struct pair {
    bly_mutex lock;
    bly_cond cond;
    int flag;
    int64_t at_ms;
};

static void pair_init(struct pair *p) {
    *p = (struct pair){.flag = 0};
    bly_mutex_init(&p->lock);
    bly_cond_init(&p->cond);
}

static void pair_clean_up(struct pair *p) {
    bly_cond_clean_up(&p->cond);
    bly_mutex_clean_up(&p->lock);
}

static void test_clock__jumps_to_the_deadline_of_a_lone_waiter(void **state) {
    (void)state;
    struct pair p;
    pair_init(&p);
    bly_mutex_lock(&p.lock);
    while (bly_wait_until(&p.cond, &p.lock, bly_deadline_after_secs(7200)))
        ;
    bly_mutex_unlock(&p.lock);
    assert_int_equal(stepped_clock_now_ms(), 7200000);
    pair_clean_up(&p);
}

static void set_after_a_minute(void *self) {
    struct pair *p = self;
    bly_mutex_lock(&p->lock);
    int64_t due = bly_deadline_after_secs(60);
    while (bly_wait_until(&p->cond, &p->lock, due))
        ;
    p->flag = 1;
    bly_cond_signal_all(&p->cond);
    bly_mutex_unlock(&p->lock);
}

static void test_clock__a_signal_ends_a_wait_at_the_signallers_time(void **state) {
    (void)state;
    for (int round = 0; round < 50; round++) {
        struct pair p;
        pair_init(&p);
        int64_t start = stepped_clock_now_ms();
        bly_thread *t = bly_thread_start("setter", set_after_a_minute, &p, NULL);
        bly_mutex_lock(&p.lock);
        while (!p.flag && bly_wait_until(&p.cond, &p.lock, bly_deadline_after_secs(3600)))
            ;
        assert_int_equal(p.flag, 1);
        bly_mutex_unlock(&p.lock);
        assert_int_equal(stepped_clock_now_ms() - start, 60000);
        bly_thread_join(t);
        pair_clean_up(&p);
    }
}

static void test_clock__time_goes_on_while_a_thread_is_joined(void **state) {
    (void)state;
    struct pair p;
    pair_init(&p);
    bly_thread_join(bly_thread_start("setter", set_after_a_minute, &p, NULL));
    assert_int_equal(stepped_clock_now_ms(), 60000);
    pair_clean_up(&p);
}

static void test_clock__moves_only_by_hand_in_manual_mode(void **state) {
    (void)state;
    struct pair p;
    stepped_clock_uninstall();
    stepped_clock_install(STEPPED_MANUAL);
    pair_init(&p);
    bly_thread *t = bly_thread_start("setter", set_after_a_minute, &p, NULL);
    stepped_clock_settle();
    assert_int_equal(stepped_clock_waiting(), 1);
    assert_int_equal(stepped_clock_next_deadline_ms(), 60000);
    stepped_clock_advance_ms(59999);
    stepped_clock_settle();
    assert_int_equal(p.flag, 0);
    stepped_clock_advance_ms(1);
    bly_thread_join(t);
    assert_int_equal(p.flag, 1);
    pair_clean_up(&p);
}

/* ---- failing allocations ---- */

static void test_failing_alloc__fails_each_allocation_once_and_ends(void **state) {
    (void)state;
    int rounds = 0, failed = 0;
    FAILING_ALLOC(n) {
        void *a = bly_malloc(1), *b = bly_malloc(2), *c = bly_malloc(3);
        failed += !a + !b + !c;
        rounds++;
        assert_int_equal(failing_alloc_hit(), !a || !b || !c);
        bly_free(a);
        bly_free(b);
        bly_free(c);
    }
    assert_int_equal(rounds, 4);
    assert_int_equal(failed, 3);
}

/* ---- the runtime ---- */

static void test_runtime__has_every_call(void **state) {
    (void)state;
#define CHECK(name) assert_non_null((void *)(uintptr_t)rt->name);
    BLY_RUNTIME_CALLS(CHECK)
#undef CHECK
    assert_string_equal(rt->Version(), "2.21.0");
}

static TF_Status *status_ok(TF_Status *s) {
    assert_int_equal(rt->GetCode(s), TF_OK);
    return s;
}

/* A graph without belay's own loader, so that a failure here is the fake's. */
static TF_Graph *import(const char *text, TF_Code expected) {
    size_t len;
    unsigned char *data = scripted_graph_bytes(text, &len);
    Bly__MetaGraphDef *meta = bly__meta_graph_def__unpack(NULL, len, data);
    assert_non_null(meta);
    TF_Graph *graph = rt->NewGraph();
    TF_Status *status = rt->NewStatus();
    TF_Buffer *buffer = rt->NewBufferFromString(meta->graph_def.data, meta->graph_def.len);
    TF_ImportGraphDefOptions *options = rt->NewImportGraphDefOptions();
    rt->GraphImportGraphDef(graph, buffer, options, status);
    assert_int_equal(rt->GetCode(status), expected);
    rt->DeleteImportGraphDefOptions(options);
    rt->DeleteBuffer(buffer);
    rt->DeleteStatus(status);
    bly__meta_graph_def__free_unpacked(meta, NULL);
    free(data);
    return graph;
}

static TF_Session *open_session(TF_Graph *graph, const char *target) {
    TF_Status *status = rt->NewStatus();
    TF_SessionOptions *options = rt->NewSessionOptions();
    rt->SetTarget(options, target);
    TF_Session *s = rt->NewSession(graph, options, status_ok(status));
    status_ok(status);
    assert_non_null(s);
    rt->DeleteSessionOptions(options);
    rt->DeleteStatus(status);
    return s;
}

static void close_session(TF_Session *s) {
    TF_Status *status = rt->NewStatus();
    rt->CloseSession(s, status);
    rt->DeleteSession(s, status);
    rt->DeleteStatus(status);
}

/* Runs one target and fetches one output (NULL: none). The fetched value goes to *value. */
static TF_Code run(TF_Session *s, TF_Graph *graph, const char *target, const char *fetch,
                   double *value) {
    TF_Status *status = rt->NewStatus();
    const TF_Operation *op = target ? rt->GraphOperationByName(graph, target) : NULL;
    TF_Output output = {fetch ? rt->GraphOperationByName(graph, fetch) : NULL, 0};
    TF_Tensor *out = NULL;
    rt->SessionRun(s, NULL, NULL, NULL, 0, &output, &out, fetch ? 1 : 0, &op, target ? 1 : 0, NULL,
                   status);
    TF_Code code = rt->GetCode(status);
    if (code != TF_OK)
        assert_non_null(strstr(rt->Message(status), ""));
    if (out && value) {
        int64_t number;
        memcpy(&number, rt->TensorData(out), sizeof number);
        *value = (double)number;
    }
    rt->DeleteTensor(out);
    rt->DeleteStatus(status);
    return code;
}

static void test_runtime__runs_variables_like_tensorflow(void **state) {
    (void)state;
    TF_Graph *g = import(SCRIPTED_GLOBAL_STEP SCRIPTED_TRAIN SCRIPTED_INIT, TF_OK);
    TF_Session *s = open_session(g, ""), *other = open_session(g, "");
    double value = -1;
    assert_int_equal(run(s, g, "train", NULL, NULL), TF_FAILED_PRECONDITION);
    assert_int_equal(run(s, g, "init", NULL, NULL), TF_OK);
    assert_int_equal(run(s, g, "train", NULL, NULL), TF_OK);
    assert_int_equal(run(s, g, "train", "global_step/Read", &value), TF_OK);
    assert_true(value == 1);
    assert_int_equal(run(s, g, NULL, "global_step/Read", &value), TF_OK);
    assert_true(value == 2);
    /* each session in this process has variables of its own */
    assert_int_equal(run(other, g, "train", NULL, NULL), TF_FAILED_PRECONDITION);
    assert_int_equal(scripted_count("train"), 4);
    assert_string_equal(scripted_run_line(3), "fetch global_step/Read:0 target train");
    close_session(other);
    assert_true(scripted_variable(NULL, "global_step", &value) && value == 2);
    close_session(s);
    rt->DeleteGraph(g);
}

static void test_runtime__a_fetched_reference_variable_is_live(void **state) {
    (void)state; /* BUG-73 is why belay copies */
    TF_Graph *g = import("v = VariableV2() dtype=int64 shape=[]\n"
                         "two = Const() dtype=int64 value=2\n"
                         "init = Assign(v, two)\n"
                         "double = AssignAdd(v, two)\n"
                         "is = IsVariableInitialized(v)\n",
                         TF_OK);
    TF_Session *s = open_session(g, "");
    TF_Output v = {rt->GraphOperationByName(g, "v"), 0};
    TF_Tensor *live = NULL;
    TF_Status *status = rt->NewStatus();
    assert_int_equal(rt->OperationOutputType(v), TF_INT64 + 100);
    assert_int_equal(run(s, g, NULL, "v", NULL), TF_FAILED_PRECONDITION);
    assert_int_equal(run(s, g, NULL, "is", NULL), TF_OK);
    assert_int_equal(run(s, g, "init", NULL, NULL), TF_OK);
    rt->SessionRun(s, NULL, NULL, NULL, 0, &v, &live, 1, NULL, 0, NULL, status);
    status_ok(status);
    assert_int_equal(*(int64_t *)rt->TensorData(live), 2);
    assert_int_equal(run(s, g, "double", NULL, NULL), TF_OK);
    assert_int_equal(*(int64_t *)rt->TensorData(live), 4);
    rt->DeleteTensor(live);
    rt->DeleteStatus(status);
    close_session(s);
    rt->DeleteGraph(g);
}

static void test_runtime__follows_the_script(void **state) {
    (void)state;
    TF_Graph *g = import(
        SCRIPTED_GLOBAL_STEP SCRIPTED_TRAIN SCRIPTED_INIT "loss = Mystery() dtype=float\n", TF_OK);
    TF_Session *s = open_session(g, "");
    scripted_fail("train", 2, BELAY_UNAVAILABLE, "Socket closed");
    scripted_delay_ms("train", 3, 90000);
    scripted_fail("TF_SessionRun", 5, BELAY_ABORTED, "gone");
    assert_int_equal(run(s, g, "init", NULL, NULL), TF_OK);
    assert_int_equal(run(s, g, "train", NULL, NULL), TF_OK);
    assert_int_equal(run(s, g, "train", NULL, NULL), TF_UNAVAILABLE);
    assert_int_equal(stepped_clock_now_ms(), 0);
    assert_int_equal(run(s, g, "train", NULL, NULL), TF_OK);
    assert_int_equal(stepped_clock_now_ms(), 90000);
    assert_int_equal(run(s, g, "train", NULL, NULL), TF_ABORTED);
    assert_int_equal(scripted_count("train"), 3);
    assert_int_equal(scripted_count("TF_SessionRun"), 5);
    assert_int_equal(run(s, g, NULL, "loss", NULL), TF_UNIMPLEMENTED);
    scripted_value("loss", 0, 0.5);
    assert_int_equal(run(s, g, NULL, "loss", NULL), TF_OK);
    close_session(s);
    rt->DeleteGraph(g);
}

struct closer {
    TF_Session *session;
};

static void close_when_blocked(void *self) {
    struct closer *c = self;
    TF_Status *status = rt->NewStatus();
    scripted_await_blocked(1);
    rt->CloseSession(c->session, status);
    rt->DeleteStatus(status);
}

static void test_runtime__closing_cancels_a_run_that_hangs(void **state) {
    (void)state; /* SE-06 for the layers above */
    TF_Graph *g = import("stuck = NoOp()\n", TF_OK);
    struct closer c = {open_session(g, "")};
    scripted_hang("stuck", 0);
    bly_thread *t = bly_thread_start("closer", close_when_blocked, &c, NULL);
    assert_int_equal(run(c.session, g, "stuck", NULL, NULL), TF_CANCELLED);
    bly_thread_join(t);
    assert_int_equal(run(c.session, g, "stuck", NULL, NULL), TF_CANCELLED);
    close_session(c.session);
    rt->DeleteGraph(g);
}

static void test_runtime__a_timeout_ends_a_run_in_the_pool_only(void **state) {
    (void)state;
    static const unsigned char half_second[] = {0x10, 0xf4, 0x03};
    TF_Graph *g = import("slow = NoOp()\n", TF_OK);
    TF_Session *s = open_session(g, "");
    TF_Status *status = rt->NewStatus();
    TF_Buffer *options = rt->NewBufferFromString(half_second, sizeof half_second);
    const TF_Operation *op = rt->GraphOperationByName(g, "slow");
    scripted_delay_ms("slow", 0, 32000);
    rt->SessionRun(s, options, NULL, NULL, 0, NULL, NULL, 0, &op, 1, NULL, status);
    assert_int_equal(rt->GetCode(status), TF_DEADLINE_EXCEEDED);
    assert_int_equal(stepped_clock_now_ms(), 500);
    rt->DeleteBuffer(options);
    static const unsigned char in_caller[] = {0x10, 0xf4, 0x03, 0x18, 0xff, 0xff, 0xff,
                                              0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01};
    options = rt->NewBufferFromString(in_caller, sizeof in_caller);
    rt->SessionRun(s, options, NULL, NULL, 0, NULL, NULL, 0, &op, 1, NULL, status);
    assert_int_equal(rt->GetCode(status), TF_OK);
    assert_int_equal(stepped_clock_now_ms(), 32500);
    rt->DeleteBuffer(options);
    rt->DeleteStatus(status);
    close_session(s);
    rt->DeleteGraph(g);
}

static void test_runtime__servers_keep_variables_until_they_restart(void **state) {
    (void)state;
    TF_Graph *g = import(SCRIPTED_GLOBAL_STEP SCRIPTED_TRAIN SCRIPTED_INIT, TF_OK);
    TF_Session *chief = open_session(g, "grpc://ps:2222");
    TF_Session *worker = open_session(g, "grpc://ps:2222");
    double value;
    assert_int_equal(run(worker, g, "train", NULL, NULL), TF_FAILED_PRECONDITION);
    assert_int_equal(run(chief, g, "init", NULL, NULL), TF_OK);
    assert_int_equal(run(worker, g, "train", NULL, NULL), TF_OK);
    assert_true(scripted_variable("grpc://ps:2222", "global_step", &value) && value == 1);
    scripted_server_state("grpc://ps:2222", SCRIPTED_UNAVAILABLE);
    assert_int_equal(run(worker, g, "train", NULL, NULL), TF_UNAVAILABLE);
    scripted_server_restart("grpc://ps:2222");
    assert_int_equal(run(worker, g, "train", NULL, NULL), TF_ABORTED);
    TF_Session *again = open_session(g, "grpc://ps:2222");
    assert_int_equal(run(again, g, "train", NULL, NULL), TF_FAILED_PRECONDITION);
    close_session(again);
    close_session(worker);
    close_session(chief);
    rt->DeleteGraph(g);
}

static void test_runtime__saves_and_restores_true_bundles(void **state) {
    (void)state;
    char prefix[] = "/tmp/belay-scripted-XXXXXX", path[128];
    assert_non_null(mkdtemp(prefix));
    snprintf(path, sizeof path, "%s/model.ckpt-1", prefix);
    TF_Graph *g = import(SCRIPTED_GLOBAL_STEP SCRIPTED_TRAIN SCRIPTED_INIT SCRIPTED_SAVER
                         "path = Identity(save/Const) T=string\n",
                         TF_OK);
    TF_Session *s = open_session(g, "");
    TF_Output feed = {rt->GraphOperationByName(g, "save/Const"), 0};
    const TF_Operation *save = rt->GraphOperationByName(g, "save/SaveV2");
    const TF_Operation *restore = rt->GraphOperationByName(g, "save/restore_all");
    TF_Tensor *name = bly_string_tensor(rt, path);
    TF_Status *status = rt->NewStatus();
    double value;
    run(s, g, "init", NULL, NULL);
    run(s, g, "train", NULL, NULL);
    rt->SessionRun(s, NULL, &feed, &name, 1, NULL, NULL, 0, &save, 1, NULL, status);
    assert_string_equal(rt->Message(status), "");
    TF_Session *other = open_session(g, "");
    rt->SessionRun(other, NULL, &feed, &name, 1, NULL, NULL, 0, &restore, 1, NULL, status);
    assert_string_equal(rt->Message(status), "");
    assert_int_equal(run(other, g, NULL, "global_step/Read", &value), TF_OK);
    assert_true(value == 1);
    rt->DeleteTensor(name);
    rt->DeleteStatus(status);
    close_session(other);
    close_session(s);
    rt->DeleteGraph(g);
    char command[200];
    snprintf(command, sizeof command, "rm -r '%s'", prefix);
    assert_int_equal(system(command), 0);
}

static void test_runtime__refuses_a_graph_whose_inputs_are_missing(void **state) {
    (void)state;
    rt->DeleteGraph(import("a = Identity(nobody)\n", TF_INVALID_ARGUMENT));
}

static void test_runtime__exports_what_it_imported(void **state) {
    (void)state;
    TF_Graph *g = import(SCRIPTED_GLOBAL_STEP SCRIPTED_TRAIN SCRIPTED_SAVER, TF_OK);
    TF_Graph *copy = rt->NewGraph();
    TF_Buffer *buffer = rt->NewBuffer();
    TF_Status *status = rt->NewStatus();
    TF_ImportGraphDefOptions *options = rt->NewImportGraphDefOptions();
    rt->GraphToGraphDef(g, buffer, status_ok(status));
    rt->GraphImportGraphDef(copy, buffer, options, status);
    assert_string_equal(rt->Message(status), "");
    size_t a = 0, b = 0;
    TF_Operation *op, *same;
    while ((op = rt->GraphNextOperation(g, &a)) != NULL) {
        same = rt->GraphNextOperation(copy, &b);
        assert_string_equal(rt->OperationName(op), rt->OperationName(same));
        assert_string_equal(rt->OperationOpType(op), rt->OperationOpType(same));
        assert_int_equal(rt->OperationNumOutputs(op), rt->OperationNumOutputs(same));
        assert_int_equal(rt->OperationNumInputs(op), rt->OperationNumInputs(same));
    }
    rt->DeleteImportGraphDefOptions(options);
    rt->DeleteStatus(status);
    rt->DeleteBuffer(buffer);
    rt->DeleteGraph(copy);
    rt->DeleteGraph(g);
}

static void test_runtime__sessions_keep_a_deleted_graph(void **state) {
    (void)state;
    TF_Graph *g = import("a = NoOp()\n", TF_OK);
    TF_Session *s = open_session(g, "");
    rt->DeleteGraph(g);
    assert_int_equal(scripted_alive().graphs, 1);
    assert_int_equal(run(s, g, "a", NULL, NULL), TF_OK);
    close_session(s);
    assert_int_equal(scripted_alive().graphs, 0);
}

static void test_runtime__refuses_a_target_of_no_known_kind(void **state) {
    (void)state;
    TF_Graph *g = rt->NewGraph();
    TF_Status *status = rt->NewStatus();
    TF_SessionOptions *options = rt->NewSessionOptions();
    rt->SetTarget(options, "carrier-pigeon://ps");
    assert_null(rt->NewSession(g, options, status));
    assert_int_equal(rt->GetCode(status), TF_NOT_FOUND);
    rt->DeleteSessionOptions(options);
    rt->DeleteStatus(status);
    rt->DeleteGraph(g);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_clock__jumps_to_the_deadline_of_a_lone_waiter),
        TEST(test_clock__a_signal_ends_a_wait_at_the_signallers_time),
        TEST(test_clock__time_goes_on_while_a_thread_is_joined),
        TEST(test_clock__moves_only_by_hand_in_manual_mode),
        TEST(test_failing_alloc__fails_each_allocation_once_and_ends),
        TEST(test_runtime__has_every_call),
        TEST(test_runtime__runs_variables_like_tensorflow),
        TEST(test_runtime__a_fetched_reference_variable_is_live),
        TEST(test_runtime__follows_the_script),
        TEST(test_runtime__closing_cancels_a_run_that_hangs),
        TEST(test_runtime__a_timeout_ends_a_run_in_the_pool_only),
        TEST(test_runtime__servers_keep_variables_until_they_restart),
        TEST(test_runtime__saves_and_restores_true_bundles),
        TEST(test_runtime__refuses_a_graph_whose_inputs_are_missing),
        TEST(test_runtime__exports_what_it_imported),
        TEST(test_runtime__sessions_keep_a_deleted_graph),
        TEST(test_runtime__refuses_a_target_of_no_known_kind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
