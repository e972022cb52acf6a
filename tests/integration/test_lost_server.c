/* Monitored sessions over the real TensorFlow whose server is killed: what its caller is told. */
#include "processes.h"

#include "base/clock.h"

static belay_monitored_session *session;
static belay_step *step;

static void prepare_step(void) {
    assert_made(session);
    step = belay_step_prepare(session, NULL, (const char *[]){"global_step:0", NULL},
                              (const char *[]){"train", NULL}, err);
    assert_made(step);
}

static belay_code run(void) {
    belay_tensor *value = NULL;
    belay_code code = belay_step_run(step, NULL, &value, err);
    belay_tensor_free(value);
    return code;
}

static void open_singular(belay_graph *graph, const char *target) {
    belay_session_options where = BELAY_SESSION_OPTIONS_INIT;
    belay_singular_monitored_session_options options =
        BELAY_SINGULAR_MONITORED_SESSION_OPTIONS_INIT;
    where.target = target;
    options.session = &where;
    session = belay_singular_monitored_session_open(graph, &options, err);
    prepare_step();
}

/* MS-22, MS-46, design section 8: nobody listens any more at the master. TensorFlow's call would
 * wait for ever; the caller is told, and closing waits for nobody either. */
static void test_singular__tells_of_a_master_that_is_gone(void **state) {
    (void)state;
    char target[128];
    struct process *server = start_server("worker=127.0.0.1:0", "worker", target, sizeof target);
    belay_graph *graph = load("tiny.meta");
    open_singular(graph, target);
    assert_ok(run());
    end_process(server, SIGKILL);
    log_start();
    int64_t start = bly_now_us();
    belay_session *raw = belay_monitored_session_raw_session(session);
    assert_fails(BELAY_UNAVAILABLE, "nobody listens at 127.0.0.1", run());
    assert_logged("does not answer: nobody listens at 127.0.0.1");
    int64_t at = 0;
    assert_fails(BELAY_UNAVAILABLE, "is lost", belay_session_global_step(raw, &at, err));
    assert_fails(BELAY_UNAVAILABLE, "nobody listens at 127.0.0.1",
                 belay_monitored_session_close(session, err));
    assert_true(bly_now_us() - start < 60000000); /* not for ever */
    belay_graph_free(graph);
}

/* MS-22: a server behind the master is gone: TensorFlow tells at once. Closing such a session would
 * block until the server is back. */
static void test_singular__tells_of_a_server_behind_the_master(void **state) {
    (void)state;
    char cluster[128], target[128];
    snprintf(cluster, sizeof cluster, "ps=127.0.0.1:%d;worker=127.0.0.1:%d", free_port(),
             free_port());
    struct process *ps = start_server(cluster, "ps", target, sizeof target);
    struct process *master = start_server(cluster, "worker", target, sizeof target);
    belay_graph *graph = load("ps_tiny.meta");
    open_singular(graph, target);
    assert_ok(run());
    end_process(ps, SIGKILL);
    int64_t start = bly_now_us();
    assert_fails(BELAY_UNAVAILABLE, "", run());
    assert_fails(BELAY_UNAVAILABLE, "", belay_monitored_session_close(session, err));
    assert_true(bly_now_us() - start < 60000000); /* the grace period alone is 120 s */
    belay_graph_free(graph);
    end_process(master, SIGTERM);
}

struct maker {
    belay_session_creator *chief;
    int calls, destroyed;
};

static belay_session *make(void *self, uint32_t *out_restored, belay_error *error) {
    struct maker *maker = self;
    maker->calls++;
    return belay_session_creator_create_session(maker->chief, out_restored, error);
}

static void destroy(void *self) {
    ((struct maker *)self)->destroyed++;
}

/* CR-01, CR-02, WS-06: a creator of the user's own around a chief's makes the session again when
 * the server was started anew, and its variables with it. */
static void test_session_creator__of_the_users_own_makes_a_session_for_each_recovery(void **state) {
    (void)state;
    static const belay_session_creator_vtable table = {sizeof table, make, destroy};
    char cluster[128], target[128], where_again[128];
    struct maker maker = {NULL, 0, 0};
    snprintf(cluster, sizeof cluster, "worker=127.0.0.1:%d", free_port());
    struct process *server = start_server(cluster, "worker", target, sizeof target);
    belay_graph *graph = load("tiny.meta");
    belay_session_options where = BELAY_SESSION_OPTIONS_INIT;
    belay_chief_session_creator_options chief = BELAY_CHIEF_SESSION_CREATOR_OPTIONS_INIT;
    belay_monitored_session_options options = BELAY_MONITORED_SESSION_OPTIONS_INIT;
    where.target = target;
    chief.session = &where;
    maker.chief = belay_chief_session_creator_new(graph, &chief, err);
    assert_made(maker.chief);
    options.creator = belay_session_creator_new(graph, &table, &maker, err);
    assert_made(options.creator);
    options.recovery_budget_secs = 60;
    session = belay_monitored_session_open(graph, &options, err);
    belay_session_creator_free(options.creator);
    prepare_step();
    for (int i = 0; i < 3; i++)
        assert_ok(run());
    assert_int_equal(maker.calls, 1);
    end_process(server, SIGKILL);
    server = start_server(cluster, "worker", where_again, sizeof where_again);
    assert_string_equal(where_again, target);
    assert_ok(run());
    assert_int_equal(maker.calls, 2);
    assert_int_equal(belay_monitored_session_progress(session)->global_step, 1);
    assert_ok(belay_monitored_session_close(session, err));
    assert_int_equal(maker.destroyed, 1);
    belay_session_creator_free(maker.chief);
    belay_graph_free(graph);
    end_process(server, SIGTERM);
}

int main(void) {
#define TEST(name) cmocka_unit_test_teardown(name, end_all)
    const struct CMUnitTest tests[] = {
        TEST(test_singular__tells_of_a_master_that_is_gone),
        TEST(test_singular__tells_of_a_server_behind_the_master),
        TEST(test_session_creator__of_the_users_own_makes_a_session_for_each_recovery),
    };
    return cmocka_run_group_tests(tests, session_run_set_up, session_run_tear_down);
}
