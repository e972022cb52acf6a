/* Waiting for a target to answer, and for a model that somebody else makes ready: on a scripted
 * server and a clock that the test owns. */
#include "failing_alloc.h"
#include "log_capture.h"
#include "scripted_runtime.h"
#include "stepped_clock.h"

#include "base/clock.h"
#include "base/thread.h"
#include "cluster/contact.h"
#include "session/session_manager.h"

#include <belay/belay.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define REMOTE "grpc://chief:2222"

/* What is global is ready where the step is set; the whole model where `go` is set too. */
#define MODEL                                                                                      \
    SCRIPTED_GLOBAL_STEP SCRIPTED_INIT                                                             \
        "go = VarHandleOp() dtype=int64 shape=[] shared_name=\"go\"\n"                             \
        "go/set = AssignVariableOp(go, one) dtype=int64\n"                                         \
        "go/Read = ReadVariableOp(go) dtype=int64\n"                                               \
        "local = NoOp()\n"                                                                         \
        "named = Const() dtype=string value=[]\n"                                                  \
        "is_set = Identity(named, ^global_step/Read) T=string\n"                                   \
        "is_go = Identity(named, ^go/Read) T=string\n"

struct fixture {
    belay_error *err;
    belay_graph *graph;
    belay_session_manager *manager;
};

static int silent_look(const char *target, bly_buf *why) {
    bly_buf_printf(why, "nobody listens at %s", target);
    return 0;
}

static int set_up(void **state) {
    static struct fixture fixture;
    struct fixture *f = &fixture;
    scripted_install();
    stepped_clock_install(STEPPED_AUTO);
    bly_target_look_install(silent_look);
    log_capture_start(BELAY_LOG_INFO);
    f->err = belay_error_new();
    f->graph = scripted_graph(MODEL, f->err);
    belay_session_manager_options options = BELAY_SESSION_MANAGER_OPTIONS_INIT;
    options.ready_for_local_init_op = "is_set";
    options.local_init_op = "local";
    options.ready_op = "is_go";
    f->manager = belay_session_manager_new(f->graph, &options, f->err);
    assert_non_null(f->manager);
    scripted_server_state(REMOTE, SCRIPTED_UP);
    *state = f;
    return 0;
}

static int tear_down(void **state) {
    struct fixture *f = *state;
    belay_session_manager_free(f->manager);
    belay_graph_free(f->graph);
    belay_error_free(f->err);
    scripted_release();
    stepped_clock_uninstall();
    log_capture_stop();
    bly_target_look_install(NULL);
    scripted_uninstall();
    return 0;
}

static belay_session *wait_on(struct fixture *f, const char *target, double max_wait_secs) {
    belay_session_options options = BELAY_SESSION_OPTIONS_INIT;
    options.target = target;
    belay_error_clear(f->err);
    return belay_session_manager_wait_for_session(f->manager, &options, max_wait_secs, f->err);
}

static void assert_not_made(struct fixture *f, const belay_session *session, belay_code code,
                            const char *part) {
    assert_null(session);
    if (belay_error_code(f->err) != code || !strstr(belay_error_message(f->err), part))
        fail_msg("%s: %s, not %s: %s", belay_code_name(belay_error_code(f->err)),
                 belay_error_message(f->err), belay_code_name(code), part);
}

/* ---- what goes on elsewhere meanwhile ---- */

struct event {
    int64_t at_ms;
    const char *runs;     /* an op that is run on the server, or */
    const char *restarts; /* a server, or */
    const char *starts;   /* a server that was silent, or */
    belay_session_manager *cancels;
};

struct elsewhere {
    belay_graph *graph;
    const struct event *events; /* ends in all zeros */
    bly_thread *thread;
};

static void pause_until_ms(int64_t ms) {
    bly_mutex mutex;
    bly_cond cond;
    bly_mutex_init(&mutex);
    bly_cond_init(&cond);
    bly_mutex_lock(&mutex);
    while (bly_wait_until(&cond, &mutex, ms * 1000))
        ;
    bly_mutex_unlock(&mutex);
    bly_cond_clean_up(&cond);
    bly_mutex_clean_up(&mutex);
}

static void run_elsewhere(belay_graph *graph, const char *op) {
    belay_session_options options = BELAY_SESSION_OPTIONS_INIT;
    options.target = REMOTE;
    belay_session *session = belay_session_open(graph, &options, NULL);
    belay_session_run(session, NULL, NULL, NULL, NULL, (const char *[]){op, NULL}, NULL, NULL);
    belay_session_free(session);
}

static void happen(void *self) {
    const struct elsewhere *elsewhere = self;
    for (const struct event *event = elsewhere->events; event->at_ms; event++) {
        pause_until_ms(event->at_ms);
        if (event->runs)
            run_elsewhere(elsewhere->graph, event->runs);
        if (event->restarts)
            scripted_server_restart(event->restarts);
        if (event->starts)
            scripted_server_state(event->starts, SCRIPTED_UP);
        belay_session_manager_cancel(event->cancels);
    }
}

static void begin_elsewhere(struct fixture *f, struct elsewhere *e, const struct event *events) {
    *e = (struct elsewhere){f->graph, events, NULL};
    e->thread = bly_thread_start("elsewhere", happen, e, f->err);
    assert_non_null(e->thread);
}

/* ---- waiting for a model ---- */

/* BUG-26, BUG-66, SM-45, SM-46: a single session asks until the model is ready, and what is local
 * is initialised once, when what is global is ready. */
static void test_wait_for_session__uses_one_session_and_one_local_init(void **state) {
    struct fixture *f = *state;
    struct elsewhere e;
    begin_elsewhere(f, &e,
                    (const struct event[]){{.at_ms = 4000, .runs = "init"},
                                           {.at_ms = 30000, .runs = "go/set"},
                                           {.at_ms = 0}});
    belay_session *session = wait_on(f, REMOTE, BELAY_FOREVER);
    bly_thread_join(e.thread);
    assert_non_null(session);
    assert_in_range(stepped_clock_now_ms(), 30000, 30600);
    assert_int_equal(scripted_count("local"), 1);
    assert_int_equal(scripted_count("TF_NewSession"), 1 + 2); /* two elsewhere */
    assert_int_equal(log_capture_count("Running local_init_op."), 1);
    assert_true(log_capture_count("Waiting for model to be ready. Ready_for_local_init_op: Error "
                                  "while reading resource variable global_step") +
                    log_capture_count("Ready_for_local_init_op: None") >=
                2);
    belay_session_free(session);
}

/* BUG-66: but again where the model is a new one. */
static void test_wait_for_session__makes_another_one_where_the_server_lost_it(void **state) {
    struct fixture *f = *state;
    struct elsewhere e;
    begin_elsewhere(f, &e,
                    (const struct event[]){{.at_ms = 1000, .runs = "init"},
                                           {.at_ms = 5000, .restarts = REMOTE},
                                           {.at_ms = 9000, .runs = "init"},
                                           {.at_ms = 12000, .runs = "go/set"},
                                           {.at_ms = 0}});
    belay_session *session = wait_on(f, REMOTE, 100);
    bly_thread_join(e.thread);
    assert_non_null(session);
    assert_in_range(stepped_clock_now_ms(), 12000, 13000);
    assert_int_equal(scripted_count("local"), 2);
    assert_int_equal(scripted_count("TF_NewSession"), 2 + 3);
    assert_int_equal(log_capture_count("the session that waited is lost"), 1);
    belay_session_free(session);
}

/* SM-33, SM-34: nothing stays open after a wait in vain. */
static void test_wait_for_session__leaves_no_session_behind(void **state) {
    struct fixture *f = *state;
    assert_not_made(f, wait_on(f, REMOTE, 7.5), BELAY_DEADLINE_EXCEEDED,
                    "Session was not ready after waiting 7 secs. Ready_for_local_init_op: ");
    assert_int_equal(stepped_clock_now_ms(), 7500);
    assert_int_equal(scripted_alive().sessions, 0);
    assert_int_equal(scripted_count("TF_CloseSession"), 1);
    /* SM-39 */
    scripted_fail("global_step/Read", 0, BELAY_INTERNAL, "broken");
    assert_not_made(f, wait_on(f, REMOTE, BELAY_FOREVER), BELAY_INTERNAL, "broken");
    assert_int_equal(scripted_alive().sessions, 0);
}

/* SM-35: at least one attempt, which has the time that it takes. */
static void test_wait_for_session__tries_once_without_time(void **state) {
    struct fixture *f = *state;
    run_elsewhere(f->graph, "init");
    run_elsewhere(f->graph, "go/set");
    scripted_delay_ms("local", 0, 30000);
    belay_session *session = wait_on(f, REMOTE, 0);
    assert_non_null(session);
    belay_session_free(session);
    session = wait_on(f, REMOTE, BELAY_AT_ONCE);
    assert_non_null(session);
    belay_session_free(session);
}

/* Design, section 8: an attempt that is held up is reported, and ends at its deadline. */
static void test_wait_for_session__ends_where_an_op_hangs(void **state) {
    struct fixture *f = *state;
    run_elsewhere(f->graph, "init");
    scripted_hang("local", 1);
    assert_not_made(f, wait_on(f, REMOTE, 100), BELAY_DEADLINE_EXCEEDED,
                    "ready and local init ops on " REMOTE " did not end within 100.0 s");
    assert_int_equal(stepped_clock_now_ms(), 100000);
    assert_int_equal(log_capture_count("Waiting for ready and local init ops on " REMOTE), 10);
    stepped_clock_settle();
    assert_int_equal(scripted_alive().sessions, 0); /* closing it ended the op */
    /* In this process, too. */
    scripted_hang("global_step/Read", (int)scripted_count("global_step/Read") + 1);
    struct elsewhere e;
    begin_elsewhere(f, &e,
                    (const struct event[]){{.at_ms = 150000, .cancels = f->manager}, {.at_ms = 0}});
    assert_not_made(f, wait_on(f, NULL, BELAY_FOREVER), BELAY_CANCELLED,
                    "a stop was requested while waiting for ready and local init ops");
    assert_in_range(stepped_clock_now_ms(), 150000, 150200);
    assert_int_equal(log_capture_count("Waiting for ready and local init ops, for"), 5);
    bly_thread_join(e.thread);
    stepped_clock_settle();
    assert_int_equal(scripted_alive().sessions, 0);
}

/* The manager may be freed while an attempt of its hangs. */
static void test_session_manager_free__leaves_what_hangs_whole(void **state) {
    struct fixture *f = *state;
    scripted_server_state(REMOTE, SCRIPTED_SILENT);
    assert_not_made(f, wait_on(f, REMOTE, 10), BELAY_DEADLINE_EXCEEDED, "did not answer");
    belay_session_manager_free(f->manager);
    belay_graph_free(f->graph);
    f->manager = NULL;
    f->graph = NULL;
    scripted_server_state(REMOTE, SCRIPTED_UP);
    stepped_clock_settle();
    assert_int_equal(scripted_alive().sessions, 0);
}

/* ---- a target that is not there ---- */

typedef belay_session *(*opens)(struct fixture *f, double max_wait_secs);

static belay_session *prepare(struct fixture *f, double max_wait_secs) {
    belay_session_options session = BELAY_SESSION_OPTIONS_INIT;
    belay_prepare_options options = BELAY_PREPARE_OPTIONS_INIT;
    session.target = REMOTE;
    options.session = &session;
    options.init_op = "init";
    options.max_wait_secs = max_wait_secs;
    return belay_session_manager_prepare_session(f->manager, &options, NULL, f->err);
}

static belay_session *recover(struct fixture *f, double max_wait_secs) {
    belay_session_options session = BELAY_SESSION_OPTIONS_INIT;
    belay_prepare_options options = BELAY_PREPARE_OPTIONS_INIT;
    session.target = REMOTE;
    options.session = &session;
    options.max_wait_secs = max_wait_secs;
    return belay_session_manager_recover_session(f->manager, &options, NULL, f->err);
}

static belay_session *wait_for(struct fixture *f, double max_wait_secs) {
    return wait_on(f, REMOTE, max_wait_secs);
}

static const opens all[] = {prepare, recover, wait_for};

/* Design, section 8, TO-10: TensorFlow would wait for ever. */
static void test_session_manager__waits_for_its_target_until_the_deadline(void **state) {
    struct fixture *f = *state;
    scripted_server_state(REMOTE, SCRIPTED_SILENT);
    for (size_t i = 0; i < 3; i++) {
        int64_t start = stepped_clock_now_ms();
        size_t reports = log_capture_count("Waiting for " REMOTE ", for");
        assert_not_made(f, all[i](f, 95), BELAY_DEADLINE_EXCEEDED,
                        REMOTE " did not answer within 95.0 s: nobody listens at " REMOTE);
        assert_int_equal(stepped_clock_now_ms() - start, 95000);
        assert_int_equal(log_capture_count("Waiting for " REMOTE ", for") - reports, 10);
        /* However little time there is, five seconds are for the target. */
        start = stepped_clock_now_ms();
        assert_not_made(f, all[i](f, BELAY_AT_ONCE), BELAY_DEADLINE_EXCEEDED, "within 5.0 s");
        assert_int_equal(stepped_clock_now_ms() - start, 5000);
    }
    /* TO-02 */
    int64_t start = stepped_clock_now_ms();
    assert_not_made(f, prepare(f, 0), BELAY_DEADLINE_EXCEEDED, "within 7200.0 s");
    assert_int_equal(stepped_clock_now_ms() - start, 7200000);
}

static void test_session_manager__goes_on_when_its_target_comes_up(void **state) {
    struct fixture *f = *state;
    struct elsewhere e;
    scripted_server_state(REMOTE, SCRIPTED_SILENT);
    begin_elsewhere(f, &e,
                    (const struct event[]){{.at_ms = 20000, .starts = REMOTE},
                                           {.at_ms = 21000, .runs = "init"},
                                           {.at_ms = 22000, .runs = "go/set"},
                                           {.at_ms = 0}});
    belay_session *session = wait_on(f, REMOTE, BELAY_FOREVER);
    bly_thread_join(e.thread);
    assert_non_null(session);
    assert_in_range(stepped_clock_now_ms(), 22000, 23000);
    belay_session_free(session);
    session = prepare(f, 0);
    assert_non_null(session);
    belay_session_free(session);
}

static void test_session_manager_cancel__ends_the_wait_for_a_target(void **state) {
    struct fixture *f = *state;
    scripted_server_state(REMOTE, SCRIPTED_SILENT);
    for (size_t i = 0; i < 3; i++) {
        belay_session_manager *manager = f->manager;
        struct elsewhere e;
        struct event events[] = {{.at_ms = stepped_clock_now_ms() + 33000, .cancels = manager},
                                 {.at_ms = 0}};
        begin_elsewhere(f, &e, events);
        assert_not_made(f, all[i](f, BELAY_FOREVER), BELAY_CANCELLED,
                        "a stop was requested while waiting for " REMOTE);
        assert_in_range(stepped_clock_now_ms(), events[0].at_ms, events[0].at_ms + 200);
        bly_thread_join(e.thread);
        /* ... and every later one at once. */
        int64_t start = stepped_clock_now_ms();
        assert_not_made(f, all[i](f, BELAY_FOREVER), BELAY_CANCELLED, REMOTE);
        assert_int_equal(stepped_clock_now_ms(), start);
        f->manager = belay_session_manager_new(f->graph, NULL, f->err);
        assert_non_null(f->manager);
        belay_session_manager_free(manager);
    }
}

/* ---- misuse ---- */

/* A maker that is given NULL together with a filled error returns NULL and leaves it. */
static void test_session_manager__takes_null_for_what_failed_before(void **state) {
    struct fixture *f = *state;
    uint32_t flag = 7;
    belay_session_manager_free(NULL);
    belay_session_manager_cancel(NULL);
    assert_not_made(f, belay_session_manager_wait_for_session(NULL, NULL, 0, f->err),
                    BELAY_INVALID_ARGUMENT, "manager is NULL");
    belay_error_clear(f->err);
    assert_not_made(f, belay_session_manager_prepare_session(NULL, NULL, &flag, f->err),
                    BELAY_INVALID_ARGUMENT, "manager is NULL");
    assert_int_equal(flag, 0);
    flag = 7;
    belay_error_clear(f->err);
    assert_not_made(f, belay_session_manager_recover_session(NULL, NULL, &flag, f->err),
                    BELAY_INVALID_ARGUMENT, "manager is NULL");
    assert_int_equal(flag, 0);
    belay_error_clear(f->err);
    assert_null(belay_session_manager_new(NULL, NULL, f->err));
    assert_int_equal(belay_error_code(f->err), BELAY_INVALID_ARGUMENT);
    belay_error_set(f->err, BELAY_DATA_LOSS, "before");
    assert_null(belay_session_manager_new(NULL, NULL, f->err));
    assert_not_made(f, belay_session_manager_prepare_session(NULL, NULL, NULL, f->err),
                    BELAY_DATA_LOSS, "before");
    assert_not_made(f, belay_session_manager_recover_session(NULL, NULL, NULL, f->err),
                    BELAY_DATA_LOSS, "before");
    assert_not_made(f, belay_session_manager_wait_for_session(NULL, NULL, 0, f->err),
                    BELAY_DATA_LOSS, "before");
    assert_null(belay_session_manager_wait_for_session(NULL, NULL, 0, NULL));
    assert_null(belay_session_manager_prepare_session(NULL, NULL, NULL, NULL));
}

/* Options of an older caller end early, those of a newer one late; what is set there and not known
 * is refused. */
static void test_session_manager__takes_options_of_other_sizes(void **state) {
    struct fixture *f = *state;
    struct {
        belay_session_manager_options options;
        uint64_t added;
    } manager = {BELAY_SESSION_MANAGER_OPTIONS_INIT, 0};
    struct {
        belay_prepare_options options;
        uint64_t added;
    } prepare = {BELAY_PREPARE_OPTIONS_INIT, 0};
    struct {
        belay_session_options options;
        uint64_t added;
    } session = {BELAY_SESSION_OPTIONS_INIT, 0};
    for (int set = 0; set < 2; set++) {
        manager.options.struct_size = sizeof manager;
        prepare.options.struct_size = sizeof prepare;
        session.options.struct_size = sizeof session;
        prepare.options.init_op = "init";
        manager.added = prepare.added = session.added = (uint64_t)set;
        belay_session_manager *made = belay_session_manager_new(f->graph, &manager.options, f->err);
        assert_int_equal(made == NULL, set);
        belay_session_manager_free(made);
        belay_session *opened =
            belay_session_manager_prepare_session(f->manager, &prepare.options, NULL, f->err);
        assert_null(opened); /* nobody sets `go` */
        assert_int_equal(belay_error_code(f->err),
                         set ? BELAY_INVALID_ARGUMENT : BELAY_FAILED_PRECONDITION);
        opened = belay_session_manager_recover_session(f->manager, &prepare.options, NULL, f->err);
        assert_int_equal(opened == NULL, set);
        belay_session_free(opened);
        assert_null(
            belay_session_manager_wait_for_session(f->manager, &session.options, 0, f->err));
        assert_int_equal(belay_error_code(f->err),
                         set ? BELAY_INVALID_ARGUMENT : BELAY_DEADLINE_EXCEEDED);
    }
    /* Nothing but the size: what follows is not looked at. */
    session.options.struct_size = sizeof session.options.struct_size;
    session.options.target = (const char *)1;
    assert_not_made(f,
                    belay_session_manager_wait_for_session(f->manager, &session.options, 0, f->err),
                    BELAY_DEADLINE_EXCEEDED, "nobody else can initialise them");
    prepare.options.struct_size = offsetof(belay_prepare_options, init_op);
    assert_null(belay_session_manager_prepare_session(f->manager, &prepare.options, NULL, f->err));
    manager.options.struct_size = offsetof(belay_session_manager_options, ready_op);
    manager.options.ready_op = (const char *)1;
    belay_session_manager *made = belay_session_manager_new(f->graph, &manager.options, f->err);
    assert_non_null(made);
    belay_session_manager_free(made);
    for (size_t size = 0; size < sizeof(size_t); size++) {
        manager.options.struct_size = prepare.options.struct_size = session.options.struct_size =
            size;
        assert_null(belay_session_manager_new(f->graph, &manager.options, f->err));
        assert_null(
            belay_session_manager_prepare_session(f->manager, &prepare.options, NULL, f->err));
        assert_not_made(
            f, belay_session_manager_wait_for_session(f->manager, &session.options, 0, f->err),
            BELAY_INVALID_ARGUMENT, "struct_size");
    }
}

/* Zero-length names and lists. */
static void test_session_manager__takes_empty_names_for_names(void **state) {
    struct fixture *f = *state;
    static const char *const none[] = {NULL};
    belay_session_manager_options options = BELAY_SESSION_MANAGER_OPTIONS_INIT;
    options.local_init_feeds = none;
    options.local_init_op = "local";
    belay_session_manager *made = belay_session_manager_new(f->graph, &options, f->err);
    assert_non_null(made);
    belay_session_manager_free(made);
    options.local_init_op = "";
    assert_null(belay_session_manager_new(f->graph, &options, f->err));
    options.local_init_op = NULL;
    options.ready_op = "";
    assert_null(belay_session_manager_new(f->graph, &options, f->err));
    belay_prepare_options prepare = BELAY_PREPARE_OPTIONS_INIT;
    prepare.init_op = "";
    prepare.init_feeds = none;
    belay_error_clear(f->err);
    assert_null(belay_session_manager_prepare_session(f->manager, &prepare, NULL, f->err));
    assert_int_not_equal(belay_error_code(f->err), BELAY_OK);
    assert_int_equal(scripted_alive().sessions, 0);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_wait_for_session__uses_one_session_and_one_local_init),
        TEST(test_wait_for_session__makes_another_one_where_the_server_lost_it),
        TEST(test_wait_for_session__leaves_no_session_behind),
        TEST(test_wait_for_session__tries_once_without_time),
        TEST(test_wait_for_session__ends_where_an_op_hangs),
        TEST(test_session_manager_free__leaves_what_hangs_whole),
        TEST(test_session_manager__waits_for_its_target_until_the_deadline),
        TEST(test_session_manager__goes_on_when_its_target_comes_up),
        TEST(test_session_manager_cancel__ends_the_wait_for_a_target),
        TEST(test_session_manager__takes_options_of_other_sizes),
        TEST(test_session_manager__takes_empty_names_for_names),
        TEST(test_session_manager__takes_null_for_what_failed_before),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
