/* Servers that hang, over the real TensorFlow: they are stopped with SIGSTOP, so that the system
 * still accepts connections for them. And calls beside runs to servers that are gone. */
#include "processes.h"

#include "base/clock.h"
#include "base/thread.h"

#define SOON_US INT64_C(60000000) /* not for ever, nor for a grace period of 120 s */

static void stop_process(const struct process *process) {
    int status;
    kill(process->pid, SIGSTOP);
    assert_int_equal(waitpid(process->pid, &status, WUNTRACED), process->pid);
    assert_true(WIFSTOPPED(status));
}

/* A parameter server, and a worker that is the master. */
struct cluster {
    struct process *ps, *master;
    char target[128];
};

static struct cluster start_cluster(void) {
    struct cluster cluster;
    char spec[128];
    snprintf(spec, sizeof spec, "ps=127.0.0.1:%d;worker=127.0.0.1:%d", free_port(), free_port());
    cluster.ps = start_server(spec, "ps", cluster.target, sizeof cluster.target);
    cluster.master = start_server(spec, "worker", cluster.target, sizeof cluster.target);
    return cluster;
}

static struct process *start_master(char *target, size_t room) {
    return start_server("worker=127.0.0.1:0", "worker", target, room);
}

/* ---- monitored sessions ---- */

static belay_monitored_session *session;
static belay_step *step;

static void open_session(belay_graph *graph, const char *target, double grace_secs,
                         const void *config, size_t config_size) {
    belay_session_options where = BELAY_SESSION_OPTIONS_INIT;
    belay_chief_session_creator_options chief = BELAY_CHIEF_SESSION_CREATOR_OPTIONS_INIT;
    belay_monitored_session_options options = BELAY_MONITORED_SESSION_OPTIONS_INIT;
    where.target = target;
    where.config = config;
    where.config_size = config_size;
    chief.session = &where;
    options.creator = belay_chief_session_creator_new(graph, &chief, err);
    assert_made(options.creator);
    options.stop_grace_period_secs = grace_secs;
    session = belay_monitored_session_open(graph, &options, err);
    belay_session_creator_free(options.creator);
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

static void request_stop(int number) {
    (void)number;
    belay_monitored_session_request_stop(session);
}

static void stop_after(unsigned secs) {
    signal(SIGALRM, request_stop);
    alarm(secs);
}

static void assert_a_stop_ends_a_step(const char *target, const char *why) {
    log_start();
    int64_t start = bly_now_us();
    stop_after(1);
    assert_fails(BELAY_DEADLINE_EXCEEDED, why, run());
    assert_true(belay_monitored_session_should_stop(session));
    assert_logged("Waiting for train on ");
    assert_logged("more after the stop");
    assert_fails(BELAY_DEADLINE_EXCEEDED, target, belay_monitored_session_close(session, err));
    assert_true(bly_now_us() - start < SOON_US);
}

/* BUG-18, WS-14, TO-10, design section 8: TensorFlow's call waits for as long as a master hangs. A
 * stop ends it, after the grace period, and closing then waits for nobody. */
static void test_step__on_a_master_that_hangs_ends_with_a_stop(void **state) {
    (void)state;
    char target[128];
    struct process *server = start_master(target, sizeof target);
    belay_graph *graph = load("tiny.meta");
    open_session(graph, target, 6, NULL, 0);
    assert_ok(run());
    stop_process(server);
    assert_a_stop_ends_a_step(target, "did not end within 6");
    assert_logged("listens, but does not answer");
    belay_graph_free(graph);
}

/* The same of a server behind the master. */
static void test_step__on_a_server_that_hangs_ends_with_a_stop(void **state) {
    (void)state;
    struct cluster cluster = start_cluster();
    belay_graph *graph = load("ps_tiny.meta");
    open_session(graph, cluster.target, 6, NULL, 0);
    assert_ok(run());
    stop_process(cluster.ps);
    assert_a_stop_ends_a_step(cluster.target, "a task that it waits for does not answer");
    belay_graph_free(graph);
}

/* The same where the master is a server in this process, which knows who is in its cluster. */
static void test_step__of_an_own_server_names_the_task_that_hangs(void **state) {
    (void)state;
    char spec[128], target[128];
    snprintf(spec, sizeof spec, "ps=127.0.0.1:%d;worker=127.0.0.1:%d", free_port(), free_port());
    struct process *ps = start_server(spec, "ps", target, sizeof target);
    belay_cluster_spec *cluster = belay_cluster_spec_parse(spec, err);
    belay_server_options options = BELAY_SERVER_OPTIONS_INIT;
    options.cluster = cluster;
    options.job_name = "worker";
    belay_server *server = belay_server_start(&options, err);
    assert_made(server);
    belay_graph *graph = load("ps_tiny.meta");
    open_session(graph, belay_server_target(server), 6, NULL, 0);
    assert_ok(run());
    stop_process(ps);
    assert_a_stop_ends_a_step(belay_server_target(server), "job ps task 0 does not answer at ");
    belay_graph_free(graph);
    belay_server_free(server);
    belay_cluster_spec_free(cluster);
}

/* SE-33, TO-10: TensorFlow's own limit holds, on a master that hangs too. */
static void test_step__on_a_master_that_hangs_heeds_the_operation_timeout(void **state) {
    (void)state;
    static const uint8_t config[] = {0x58, 0xd0, 0x0f}; /* operation_timeout_in_ms: 2000 */
    char target[128];
    struct process *server = start_master(target, sizeof target);
    belay_graph *graph = load("tiny.meta");
    open_session(graph, target, 6, config, sizeof config);
    assert_ok(run());
    stop_process(server);
    int64_t start = bly_now_us();
    assert_fails(BELAY_DEADLINE_EXCEEDED, "", run());
    assert_fails(BELAY_DEADLINE_EXCEEDED, "", belay_monitored_session_close(session, err));
    assert_true(bly_now_us() - start < SOON_US);
    belay_graph_free(graph);
}

/* BUG-18, QR-16: threads that are blocked in a master that hangs end with the session. */
static void test_queue_runners__on_a_master_that_hangs_end_with_the_session(void **state) {
    (void)state;
    char target[128];
    struct process *server = start_master(target, sizeof target);
    belay_graph *graph = load("queue.meta");
    open_session(graph, target, 12, NULL, 0);
    assert_ok(run());
    stop_process(server);
    log_start();
    int64_t start = bly_now_us();
    stop_after(1);
    assert_fails(BELAY_DEADLINE_EXCEEDED, "after a stop", run());
    assert_fails(BELAY_DEADLINE_EXCEEDED, "after a stop",
                 belay_monitored_session_close(session, err));
    assert_false(logged("threads still running"));
    assert_true(bly_now_us() - start < SOON_US);
    belay_graph_free(graph);
}

/* ---- preparing a session ---- */

static belay_session_manager *manager;

static void cancel(int number) {
    (void)number;
    belay_session_manager_cancel(manager);
}

static const struct process *to_stop;

static belay_code hang_server(void *self, belay_scaffold *scaffold, belay_session *raw,
                              belay_error *error) {
    (void)self, (void)scaffold, (void)raw, (void)error;
    stop_process(to_stop);
    signal(SIGALRM, cancel);
    alarm(1);
    return BELAY_OK;
}

/* SM-18, SM-39, BUG-16: the ops of prepare_session, on a server that hangs after the first contact.
 */
static void assert_preparing_ends(const char *graph_name, const char *target,
                                  const struct process *hangs) {
    belay_graph *graph = load(graph_name);
    belay_scaffold *scaffold = belay_scaffold_new(graph, NULL, err);
    belay_session_manager_options options = BELAY_SESSION_MANAGER_OPTIONS_INIT;
    belay_prepare_options prepare = BELAY_PREPARE_OPTIONS_INIT;
    belay_session_options where = BELAY_SESSION_OPTIONS_INIT;
    assert_made(scaffold);
    assert_ok(belay_scaffold_finalize(scaffold, err));
    options.ready_op = belay_scaffold_ready_op(scaffold);
    manager = belay_session_manager_new(graph, &options, err);
    assert_made(manager);
    where.target = target;
    prepare.session = &where;
    prepare.init_op = belay_scaffold_init_op(scaffold);
    prepare.init_fn = hang_server;
    to_stop = hangs;
    int64_t start = bly_now_us();
    assert_not_made(BELAY_CANCELLED, "a stop was requested while waiting for",
                    belay_session_manager_prepare_session(manager, &prepare, NULL, err));
    assert_true(bly_now_us() - start < SOON_US);
    belay_session_manager_free(manager);
    belay_scaffold_free(scaffold);
    belay_graph_free(graph);
}

static void test_prepare_session__on_a_master_that_hangs_ends_with_a_stop(void **state) {
    (void)state;
    char target[128];
    struct process *server = start_master(target, sizeof target);
    assert_preparing_ends("tiny.meta", target, server);
}

static void test_prepare_session__on_a_server_that_hangs_ends_with_a_stop(void **state) {
    (void)state;
    struct cluster cluster = start_cluster();
    assert_preparing_ends("ps_tiny.meta", cluster.target, cluster.ps);
}

/* ---- plain sessions ---- */

static belay_session *open_initialized(belay_graph *graph, const char *target) {
    belay_session_options where = BELAY_SESSION_OPTIONS_INIT;
    where.target = target;
    belay_session *plain = belay_session_open(graph, &where, err);
    assert_made(plain);
    assert_ok(belay_session_run(plain, NULL, NULL, NULL, NULL,
                                (const char *[]){"global_step/Assign", NULL}, NULL, err));
    return plain;
}

static void assert_closes_in_time(belay_session *plain) {
    int64_t start = bly_now_us();
    assert_fails(BELAY_DEADLINE_EXCEEDED, "did not close within 5 s",
                 belay_session_close(plain, err));
    assert_fails(BELAY_FAILED_PRECONDITION, "closed",
                 belay_session_global_step(plain, &(int64_t){0}, err));
    belay_session_free(plain);
    assert_true(bly_now_us() - start < SOON_US);
}

/* BUG-18, SE-05: a master that has lost a task looks for that until it is back; TensorFlow's call
 * waits as long. */
static void test_close__of_a_session_that_lost_a_task_ends(void **state) {
    (void)state;
    struct cluster cluster = start_cluster();
    belay_graph *graph = load("ps_tiny.meta");
    belay_session *plain = open_initialized(graph, cluster.target);
    stop_process(cluster.ps);
    stop_process(cluster.master);
    assert_closes_in_time(plain);
    belay_graph_free(graph);
}

static void test_close__of_a_session_whose_master_is_gone_ends(void **state) {
    (void)state;
    char target[128];
    struct process *server = start_master(target, sizeof target);
    belay_graph *graph = load("tiny.meta");
    belay_session *plain = open_initialized(graph, target);
    end_process(server, SIGKILL);
    assert_closes_in_time(plain);
    belay_graph_free(graph);
}

struct blocked_run {
    belay_session *plain;
    belay_code code;
    bly_mutex lock;
    bly_cond changed;
    int is_blocked; /* guarded by lock */
};

static void run_in_thread(void *self) {
    struct blocked_run *run = self;
    run->code = belay_session_run(run->plain, NULL, NULL, NULL, NULL,
                                  (const char *[]){"train", NULL}, NULL, NULL);
}

static void see_it_blocked(void *self, belay_log_level level, const char *message) {
    struct blocked_run *run = self;
    if (level != BELAY_LOG_WARNING || !strstr(message, "does not answer"))
        return;
    bly_mutex_lock(&run->lock);
    run->is_blocked = 1;
    bly_cond_signal_all(&run->changed);
    bly_mutex_unlock(&run->lock);
}

/* SE-06: where the target cannot end the run, its caller is let go all the same. */
static void test_close__lets_a_run_go_that_hangs(void **state) {
    (void)state;
    char target[128];
    struct process *server = start_master(target, sizeof target);
    belay_graph *graph = load("tiny.meta");
    struct blocked_run blocked = {.plain = open_initialized(graph, target)};
    bly_mutex_init(&blocked.lock);
    bly_cond_init(&blocked.changed);
    stop_process(server);
    belay_log_set_callback(see_it_blocked, &blocked, BELAY_LOG_DEBUG);
    bly_thread *thread = bly_thread_start("runs", run_in_thread, &blocked, err);
    assert_made(thread);
    int64_t start = bly_now_us();
    bly_mutex_lock(&blocked.lock);
    while (!blocked.is_blocked && bly_wait_until(&blocked.changed, &blocked.lock, start + SOON_US))
        ;
    bly_mutex_unlock(&blocked.lock);
    belay_code closed = belay_session_close(blocked.plain, err);
    bly_thread_join(thread);
    belay_log_set_callback(keep_line, NULL, BELAY_LOG_DEBUG);
    assert_true(blocked.is_blocked);
    assert_int_equal(closed, BELAY_DEADLINE_EXCEEDED);
    assert_int_equal(blocked.code, BELAY_CANCELLED);
    assert_true(bly_now_us() - start < SOON_US);
    belay_session_free(blocked.plain);
    belay_graph_free(graph);
    bly_cond_clean_up(&blocked.changed);
    bly_mutex_clean_up(&blocked.lock);
}

/* SE-36, SE-37, BUG-16: partial runs end as runs do, and so does a list of devices (SE-12). */
static void test_partial_run__tells_of_a_master_that_is_gone(void **state) {
    (void)state;
    static const char *const feeds[] = {"x:0", "y:0", NULL}, *const fetches[] = {"loss:0", NULL};
    char target[128];
    struct process *server = start_master(target, sizeof target);
    belay_graph *graph = load("plain_saver.meta");
    belay_session_options where = BELAY_SESSION_OPTIONS_INIT;
    where.target = target;
    belay_session *plain = belay_session_open(graph, &where, err);
    assert_made(plain);
    assert_ok(belay_session_run(plain, NULL, NULL, NULL, NULL, (const char *[]){"init", NULL}, NULL,
                                err));
    belay_partial_run *partial = belay_session_partial_run_setup(plain, feeds, fetches, err);
    assert_made(partial);
    belay_device_list *devices = belay_session_list_devices(plain, err);
    assert_made(devices);
    belay_device_list_free(devices);
    end_process(server, SIGKILL);
    belay_tensor *inputs[] = {tensor_of(BELAY_FLOAT, (int64_t[]){2, 4}, 2),
                              tensor_of(BELAY_FLOAT, (int64_t[]){2}, 1)};
    belay_tensor *outputs[] = {NULL};
    int64_t start = bly_now_us();
    assert_fails(BELAY_UNAVAILABLE, "nobody listens at 127.0.0.1",
                 belay_partial_run_run(partial, feeds, inputs, fetches, outputs, err));
    assert_not_made(BELAY_UNAVAILABLE, "is lost",
                    belay_session_partial_run_setup(plain, feeds, fetches, err));
    assert_not_made(BELAY_UNAVAILABLE, "is lost", belay_session_list_devices(plain, err));
    assert_ok(belay_session_close(plain, err));
    assert_true(bly_now_us() - start < SOON_US);
    belay_partial_run_free(partial);
    belay_tensor_free(inputs[0]);
    belay_tensor_free(inputs[1]);
    belay_session_free(plain);
    belay_graph_free(graph);
}

int main(void) {
#define TEST(name) cmocka_unit_test_teardown(name, end_all)
    const struct CMUnitTest tests[] = {
        TEST(test_step__on_a_master_that_hangs_ends_with_a_stop),
        TEST(test_step__on_a_server_that_hangs_ends_with_a_stop),
        TEST(test_step__of_an_own_server_names_the_task_that_hangs),
        TEST(test_step__on_a_master_that_hangs_heeds_the_operation_timeout),
        TEST(test_queue_runners__on_a_master_that_hangs_end_with_the_session),
        TEST(test_prepare_session__on_a_master_that_hangs_ends_with_a_stop),
        TEST(test_prepare_session__on_a_server_that_hangs_ends_with_a_stop),
        TEST(test_close__of_a_session_that_lost_a_task_ends),
        TEST(test_close__of_a_session_whose_master_is_gone_ends),
        TEST(test_close__lets_a_run_go_that_hangs),
        TEST(test_partial_run__tells_of_a_master_that_is_gone),
    };
    return cmocka_run_group_tests(tests, session_run_set_up, session_run_tear_down);
}
