/* Servers of the real TensorFlow: `belay server` as processes of their own, and servers in this
 * one. Started as `test_server wait TARGET MAX_WAIT_SECS`, this program is a worker that waits for
 * a session. All of it stays on 127.0.0.1. */
#include "processes.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/thread.h"
#include "cluster/contact.h"
#include "graph/graph.h"
#include "session/session.h"

#include <inttypes.h>
#include <stdatomic.h>

/* ---- a model that several processes share ---- */

struct model_parts {
    belay_graph *graph;
    belay_scaffold *scaffold;
    belay_session_manager *manager;
};

static struct model_parts make_parts(double recovery_wait_secs) {
    struct model_parts parts = {load("tiny.meta"), NULL, NULL};
    belay_session_manager_options options = BELAY_SESSION_MANAGER_OPTIONS_INIT;
    parts.scaffold = belay_scaffold_new(parts.graph, NULL, err);
    assert_made(parts.scaffold);
    assert_ok(belay_scaffold_finalize(parts.scaffold, err));
    options.ready_op = belay_scaffold_ready_op(parts.scaffold);
    options.ready_for_local_init_op = belay_scaffold_ready_for_local_init_op(parts.scaffold);
    options.local_init_op = belay_scaffold_local_init_op(parts.scaffold);
    options.recovery_wait_secs = recovery_wait_secs;
    parts.manager = belay_session_manager_new(parts.graph, &options, err);
    assert_made(parts.manager);
    return parts;
}

static void free_parts(struct model_parts *parts) {
    belay_session_manager_free(parts->manager);
    belay_scaffold_free(parts->scaffold);
    belay_graph_free(parts->graph);
}

static belay_session *prepare_on(const struct model_parts *parts, const char *target) {
    belay_session_options session_options = BELAY_SESSION_OPTIONS_INIT;
    belay_prepare_options options = BELAY_PREPARE_OPTIONS_INIT;
    session_options.target = target;
    options.session = &session_options;
    options.init_op = belay_scaffold_init_op(parts->scaffold);
    belay_session *session =
        belay_session_manager_prepare_session(parts->manager, &options, NULL, err);
    assert_made(session);
    return session;
}

static int64_t step_on(belay_session *session) {
    int64_t step;
    assert_ok(belay_session_global_step(session, &step, err));
    return step;
}

static void train_once(belay_session *session) {
    assert_ok(belay_session_run(session, NULL, NULL, NULL, NULL, (const char *[]){"train", NULL},
                                NULL, err));
}

/* ---- the worker's process ---- */

static void tell_line(void *self, belay_log_level level, const char *message) {
    (void)self;
    (void)level;
    printf("log %s\n", message);
    fflush(stdout);
}

static int wait_for_session(const char *target, const char *max_wait_secs, const char *pause_secs) {
    belay_session_options options = BELAY_SESSION_OPTIONS_INIT;
    err = belay_error_new();
    belay_log_set_callback(tell_line, NULL, BELAY_LOG_INFO);
    struct model_parts parts = make_parts(atof(pause_secs));
    options.target = target;
    belay_session *session =
        belay_session_manager_wait_for_session(parts.manager, &options, atof(max_wait_secs), err);
    int64_t now = bly_now_us();
    if (session) {
        train_once(session);
        printf("ready %" PRId64 "\n", now);
    } else {
        printf("failed %s\n", belay_code_name(belay_error_code(err)));
    }
    fflush(stdout);
    belay_session_free(session);
    free_parts(&parts);
    belay_error_free(err);
    return 0;
}

static struct process *start_worker(const char *target, const char *max_wait_secs,
                                    const char *pause_secs) {
    return start_process(
        (const char *const[]){"/proc/self/exe", "wait", target, max_wait_secs, pause_secs, NULL},
        STDOUT_FILENO);
}

/* ---- two processes and a server ---- */

/* How long after this process had its session ready the worker had its own, in seconds. */
static double worker_is_late_by(struct process *worker, int64_t ready_us) {
    char text[64];
    read_up_to(worker, "ready ", text, sizeof text);
    return (double)(strtoll(text, NULL, 10) - ready_us) / 1e6;
}

/* SM-31, SM-34, CL-20: three processes. The worker is there first, and its session is on the same
 * variables: what it trains is seen here. */
static void test_wait_for_session__has_it_when_another_process_has_prepared_it(void **state) {
    (void)state;
    char target[128], text[512];
    struct process *server = start_server("worker=127.0.0.1:0", "worker", target, sizeof target);
    struct process *worker = start_worker(target, "60", "0");
    read_up_to(worker, "Waiting for model to be ready.", text, sizeof text);
    assert_non_null(strstr(text, "Variables not initialized: global_step"));
    nap_ms(4600); /* pauses have grown to their longest, of those that the promise is about */
    struct model_parts parts = make_parts(0);
    belay_session *session = prepare_on(&parts, target);
    double late = worker_is_late_by(worker, bly_now_us());
    if (late > 1)
        fail_msg("the worker had its session %.2f s after it was ready", late);
    assert_int_equal(end_process(worker, 0), 0);
    assert_int_equal(step_on(session), 1);
    train_once(session);
    assert_int_equal(step_on(session), 2);
    belay_session_free(session);
    free_parts(&parts);
    assert_int_equal(end_process(server, SIGTERM), 143);
}

/* The same with every default, where the worker has only just begun to wait. */
static void test_wait_for_session__has_it_at_once_where_both_start_together(void **state) {
    (void)state;
    char target[128], text[512];
    struct process *server = start_server("worker=127.0.0.1:0", "worker", target, sizeof target);
    struct model_parts parts = make_parts(0);
    struct process *worker = start_worker(target, "60", "0");
    read_up_to(worker, "Waiting for model to be ready.", text, sizeof text);
    belay_session *session = prepare_on(&parts, target);
    double late = worker_is_late_by(worker, bly_now_us());
    if (late > 1)
        fail_msg("the worker had its session %.2f s after it was ready", late);
    end_process(worker, 0);
    belay_session_free(session);
    free_parts(&parts);
    assert_int_equal(end_process(server, SIGTERM), 143);
}

/* SM-31, SM-34, SM-37, ER-16: nobody prepares. */
static void test_wait_for_session__ends_at_max_wait_secs_where_nobody_prepares(void **state) {
    (void)state;
    char target[128];
    struct process *server = start_server("worker=127.0.0.1:0", "worker", target, sizeof target);
    struct model_parts parts = make_parts(0);
    belay_session_options options = BELAY_SESSION_OPTIONS_INIT;
    options.target = target;
    log_start();
    int64_t start = bly_now_us();
    assert_not_made(BELAY_DEADLINE_EXCEEDED, "Session was not ready after waiting 2 secs.",
                    belay_session_manager_wait_for_session(parts.manager, &options, 2, err));
    double took = (double)(bly_now_us() - start) / 1e6;
    assert_true(took >= 2 && took < 3.5);
    assert_logged("Waiting for model to be ready. Ready_for_local_init_op:");
    assert_logged("Variables not initialized: global_step");
    /* It did not initialise anything itself. */
    int64_t step;
    belay_session *session = belay_session_open(parts.graph, &options, err);
    assert_made(session);
    assert_fails(BELAY_FAILED_PRECONDITION, "", belay_session_global_step(session, &step, err));
    belay_session_free(session);
    free_parts(&parts);
    assert_int_equal(end_process(server, SIGINT), 130);
}

static void cancel_later(void *self) {
    nap_ms(700);
    belay_session_manager_cancel(self);
}

static void cancel_late(void *self) {
    nap_ms(2500);
    belay_session_manager_cancel(self);
}

static void test_wait_for_session__is_cancelled_from_another_thread(void **state) {
    (void)state;
    char target[128];
    struct process *server = start_server("worker=127.0.0.1:0", "worker", target, sizeof target);
    struct model_parts parts = make_parts(0);
    belay_session_options options = BELAY_SESSION_OPTIONS_INIT;
    options.target = target;
    bly_thread *thread = bly_thread_start("cancel", cancel_later, parts.manager, NULL);
    int64_t start = bly_now_us();
    assert_not_made(
        BELAY_CANCELLED, "",
        belay_session_manager_wait_for_session(parts.manager, &options, BELAY_FOREVER, err));
    assert_true(bly_now_us() - start < 2000000);
    bly_thread_join(thread);
    free_parts(&parts);
    end_process(server, SIGTERM);
}

/* BUG-26, SM-39: the server is killed and started again under somebody who waits; the wait goes on
 * in a session on the new one. */
static void test_wait_for_session__outlives_its_server(void **state) {
    (void)state;
    char target[128], where[128], cluster[128], text[512];
    snprintf(cluster, sizeof cluster, "worker=127.0.0.1:%d", free_port());
    struct process *server = start_server(cluster, "worker", target, sizeof target);
    struct process *worker = start_worker(target, "60", "0");
    read_up_to(worker, "Waiting for model to be ready.", text, sizeof text);
    end_process(server, SIGKILL);
    server = start_server(cluster, "worker", where, sizeof where);
    read_up_to(worker, "the session that waited is lost", text, sizeof text);
    struct model_parts parts = make_parts(0);
    belay_session *session = prepare_on(&parts, target);
    read_up_to(worker, "ready ", text, sizeof text);
    assert_int_equal(end_process(worker, 0), 0);
    assert_int_equal(step_on(session), 1);
    belay_session_free(session);
    free_parts(&parts);
    end_process(server, SIGTERM);
}

/* Design, section 8: a server that has stopped answering holds nobody who is told to stop. */
static void test_wait_for_session__is_cancelled_while_its_server_hangs(void **state) {
    (void)state;
    char target[128];
    struct process *server = start_server("worker=127.0.0.1:0", "worker", target, sizeof target);
    struct model_parts parts = make_parts(0);
    belay_session_options options = BELAY_SESSION_OPTIONS_INIT;
    options.target = target;
    kill(server->pid, SIGSTOP);
    log_start();
    bly_thread *thread = bly_thread_start("cancel", cancel_late, parts.manager, NULL);
    int64_t start = bly_now_us();
    assert_not_made(
        BELAY_CANCELLED, "a stop was requested while waiting for grpc://",
        belay_session_manager_wait_for_session(parts.manager, &options, BELAY_FOREVER, err));
    assert_true(bly_now_us() - start < 4500000);
    assert_logged("Waiting for grpc://127.0.0.1:");
    bly_thread_join(thread);
    free_parts(&parts);
    kill(server->pid, SIGCONT);
    end_process(server, SIGKILL);
}

/* ---- a server that is not there ---- */

/* SM-39, TO-10, SE-33: with operation_timeout_in_ms TensorFlow itself gives up, and that ends the
 * wait. */
static void test_wait_for_session__with_a_timeout_in_the_config_does_not_hang(void **state) {
    (void)state;
    static const uint8_t config[] = {0x58, 0xac, 0x02}; /* operation_timeout_in_ms: 300 */
    char target[128];
    struct model_parts parts = make_parts(0);
    belay_session_options options = BELAY_SESSION_OPTIONS_INIT;
    snprintf(target, sizeof target, "grpc://127.0.0.1:%d", free_port());
    options.target = target;
    options.config = config;
    options.config_size = sizeof config;
    int64_t start = bly_now_us();
    assert_not_made(BELAY_DEADLINE_EXCEEDED, "",
                    belay_session_manager_wait_for_session(parts.manager, &options, 60, err));
    assert_true(bly_now_us() - start < 3000000);
    free_parts(&parts);
}

/* TO-10: the same without that. Whoever prepares, recovers or waits ends in time, and says why. */
static void test_session_manager__ends_in_time_where_nobody_listens(void **state) {
    (void)state;
    char target[128];
    struct model_parts parts = make_parts(0);
    belay_session_options session = BELAY_SESSION_OPTIONS_INIT;
    belay_prepare_options options = BELAY_PREPARE_OPTIONS_INIT;
    snprintf(target, sizeof target, "grpc://127.0.0.1:%d", free_port());
    session.target = target;
    options.session = &session;
    options.init_op = belay_scaffold_init_op(parts.scaffold);
    options.max_wait_secs = 5.5;
    const char *reason = " s: nobody listens at 127.0.0.1";
    log_start();
    int64_t start = bly_now_us();
    assert_not_made(BELAY_DEADLINE_EXCEEDED, reason,
                    belay_session_manager_prepare_session(parts.manager, &options, NULL, err));
    assert_not_made(BELAY_DEADLINE_EXCEEDED, reason,
                    belay_session_manager_recover_session(parts.manager, &options, NULL, err));
    assert_not_made(BELAY_DEADLINE_EXCEEDED, reason,
                    belay_session_manager_wait_for_session(parts.manager, &session, 5.5, err));
    assert_true(bly_now_us() - start < 20000000);
    assert_logged("Waiting for grpc://127.0.0.1:");
    assert_logged("(Connection refused)");
    free_parts(&parts);
}

static void release_session(void *owner) {
    bly_session_unref(owner);
}

static belay_code contact(belay_session *session, double secs, const atomic_int *stop) {
    bly_contact c = {.rt = session->rt, .session = session->tf, .target = session->target};
    c.deadline_us = bly_deadline_after_secs(secs);
    c.stop[0] = stop;
    c.owner = bly_session_ref(session);
    c.release = release_session;
    return bly_contact_make(&c, err);
}

static belay_session *open_on(belay_graph *graph, const char *target) {
    belay_session_options options = BELAY_SESSION_OPTIONS_INIT;
    options.target = target;
    belay_session *session = belay_session_open(graph, &options, err);
    assert_made(session);
    return session;
}

/* Without a timeout TF_SessionRun never returns here. */
static void test_contact__ends_in_time_where_nobody_listens(void **state) {
    (void)state;
    char target[128];
    belay_graph *graph = load("tiny.meta");
    snprintf(target, sizeof target, "grpc://127.0.0.1:%d", free_port());
    belay_session *session = open_on(graph, target);
    log_start();
    int64_t start = bly_now_us();
    assert_fails(BELAY_DEADLINE_EXCEEDED, " s: nobody listens at 127.0.0.1",
                 contact(session, 3, NULL));
    assert_true(bly_now_us() - start < 4000000);
    assert_logged("Waiting for grpc://127.0.0.1:");
    assert_logged("(Connection refused)");
    belay_session_free(session); /* the call that hangs does not hold it up */
    assert_true(bly_now_us() - start < 4500000);
    belay_graph_free(graph);
}

/* The server comes up while somebody waits: contact is made then, and the session is a good one. */
static void test_contact__is_made_when_the_server_comes_up(void **state) {
    (void)state;
    char target[128], where[128], cluster[128];
    belay_graph *graph = load("tiny.meta");
    int port = free_port();
    snprintf(target, sizeof target, "grpc://127.0.0.1:%d", port);
    snprintf(cluster, sizeof cluster, "worker=127.0.0.1:%d", port);
    belay_session *session = open_on(graph, target);
    assert_fails(BELAY_DEADLINE_EXCEEDED, "", contact(session, 0.2, NULL));
    belay_session_free(session); /* its call is still going on, and keeps it */
    session = open_on(graph, target);
    struct process *server = start_server(cluster, "worker", where, sizeof where);
    assert_string_equal(where, target);
    int64_t start = bly_now_us();
    assert_ok(contact(session, 30, NULL));
    assert_true(bly_now_us() - start < 3000000);
    assert_ok(contact(session, 30, NULL)); /* as often as one likes */
    assert_ok(belay_session_run(session, NULL, NULL, NULL, NULL,
                                (const char *[]){"global_step/Assign", NULL}, NULL, err));
    assert_int_equal(step_on(session), 0);
    belay_session_free(session);
    belay_graph_free(graph);
    end_process(server, SIGTERM);
}

static void set_later(void *self) {
    nap_ms(300);
    atomic_store((atomic_int *)self, 1);
}

static void test_contact__ends_at_a_stop(void **state) {
    (void)state;
    char target[128];
    atomic_int stop = 0;
    belay_graph *graph = load("tiny.meta");
    snprintf(target, sizeof target, "grpc://127.0.0.1:%d", free_port());
    belay_session *session = open_on(graph, target);
    bly_thread *thread = bly_thread_start("stop", set_later, &stop, NULL);
    int64_t start = bly_now_us();
    assert_fails(BELAY_CANCELLED, "while waiting for grpc://127.0.0.1",
                 contact(session, 60, &stop));
    assert_true(bly_now_us() - start < 1000000);
    bly_thread_join(thread);
    belay_session_free(session);
    belay_graph_free(graph);
}

/* The master is in this process, so its cluster is known: the task that is missing is named. */
static void test_contact__names_the_task_that_is_missing(void **state) {
    (void)state;
    char cluster[128], target[128], part[64];
    int worker_port = free_port(), ps_port = free_port();
    snprintf(cluster, sizeof cluster, "ps=127.0.0.1:%d;worker=127.0.0.1:%d", ps_port, worker_port);
    belay_cluster_spec *spec = belay_cluster_spec_parse(cluster, err);
    belay_server_options options = BELAY_SERVER_OPTIONS_INIT;
    options.cluster = spec;
    options.job_name = "worker";
    belay_server *server = belay_server_start(&options, err);
    assert_made(server);
    belay_graph *graph = load("tiny.meta");
    belay_session *session = open_on(graph, belay_server_target(server));
    snprintf(part, sizeof part, "job ps task 0 does not listen at 127.0.0.1:%d", ps_port);
    assert_fails(BELAY_DEADLINE_EXCEEDED, part, contact(session, 2.5, NULL));
    belay_session_free(session);

    struct process *ps = start_server(cluster, "ps", target, sizeof target);
    session = open_on(graph, belay_server_target(server));
    assert_ok(contact(session, 30, NULL));
    belay_session_free(session);
    belay_graph_free(graph);
    belay_server_free(server);
    belay_cluster_spec_free(spec);
    end_process(ps, SIGTERM);
}

/* ---- servers in this process ---- */

/* CL-10, CL-11, CL-12, SE-04: sessions share the server's variables, and the server outlives its
 * handle. */
static void test_server__serves_sessions_of_its_own_process(void **state) {
    (void)state;
    char target[128];
    belay_server *server = belay_server_start(NULL, err);
    assert_made(server);
    assert_true(strncmp(belay_server_target(server), "grpc://localhost:", 17) == 0);
    assert_true(atoi(belay_server_target(server) + 17) > 0);
    assert_string_equal(belay_server_job_name(server), "localhost");
    snprintf(target, sizeof target, "%s", belay_server_target(server));
    belay_server_free(server);

    struct model_parts parts = make_parts(0);
    belay_session *a = prepare_on(&parts, target);
    belay_session *b = open_on(parts.graph, target);
    train_once(a);
    train_once(b);
    assert_int_equal(step_on(a), 2);
    assert_int_equal(step_on(b), 2);
    belay_session_free(a);
    belay_session_free(b);
    free_parts(&parts);
}

/* CL-10: start=False. One that never serves is taken down, and its port is free again. */
static void test_server__that_does_not_serve_is_taken_down(void **state) {
    (void)state;
    static const char *const config[] = {"\x0a\x7f", "\x58\x05"};
    char cluster[128];
    snprintf(cluster, sizeof cluster, "worker=127.0.0.1:%d", free_port());
    belay_cluster_spec *spec = belay_cluster_spec_parse(cluster, err);
    belay_server_options options = BELAY_SERVER_OPTIONS_INIT;
    options.cluster = spec;
    for (int i = 0; i < 3; i++) {
        belay_server *server = belay_server_prepare(&options, err);
        assert_made(server);
        assert_not_made(BELAY_UNAVAILABLE, "is in use already",
                        belay_server_prepare(&options, err));
        belay_server_free(server);
    }
    options.config = config[0];
    options.config_size = 2;
    assert_not_made(BELAY_INVALID_ARGUMENT, "config: ", belay_server_start(&options, err));
    options.config = config[1];
    options.protocol = "carrier-pigeon";
    assert_not_made(BELAY_NOT_FOUND, "No server factory registered",
                    belay_server_start(&options, err));
    belay_cluster_spec_free(spec);
}

int main(int argc, char **argv) {
    if (argc == 5 && strcmp(argv[1], "wait") == 0)
        return wait_for_session(argv[2], argv[3], argv[4]);
#define TEST(name) cmocka_unit_test_teardown(name, end_all)
    const struct CMUnitTest tests[] = {
        TEST(test_wait_for_session__has_it_when_another_process_has_prepared_it),
        TEST(test_wait_for_session__has_it_at_once_where_both_start_together),
        TEST(test_wait_for_session__ends_at_max_wait_secs_where_nobody_prepares),
        TEST(test_wait_for_session__is_cancelled_from_another_thread),
        TEST(test_wait_for_session__outlives_its_server),
        TEST(test_wait_for_session__is_cancelled_while_its_server_hangs),
        TEST(test_session_manager__ends_in_time_where_nobody_listens),
        TEST(test_wait_for_session__with_a_timeout_in_the_config_does_not_hang),
        TEST(test_contact__ends_in_time_where_nobody_listens),
        TEST(test_contact__is_made_when_the_server_comes_up),
        TEST(test_contact__ends_at_a_stop),
        TEST(test_contact__names_the_task_that_is_missing),
        TEST(test_server__serves_sessions_of_its_own_process),
        TEST(test_server__that_does_not_serve_is_taken_down),
    };
    return cmocka_run_group_tests(tests, session_run_set_up, session_run_tear_down);
}
