/* Monitored sessions over the real TensorFlow: hooks around every step, and how a session ends. */
#include "session_run.h"

#include "base/clock.h"
#include "base/thread.h"

#include <stdatomic.h>

/* ---- a hook that says what it is asked ---- */

enum point { BEGIN, CREATE, BEFORE, AFTER, END, DESTROY, POINTS };

static const char *const point_names[] = {"begin", "create", "before", "after", "end", "destroy"};

/* Every call of every probe, as "A.begin B.begin ...". */
static bly_buf trace = BLY_BUF_INIT;

struct probe {
    const char *name;
    int counts[POINTS];
    belay_code fails[POINTS]; /* what it returns there, instead of BELAY_OK */
    int silent;               /* it fails without a text */
    /* Called at each point; `context` is the graph, the session or the run. NULL: nothing more. */
    belay_code (*act)(struct probe *probe, enum point point, void *context, belay_error *error);
    void (*when)(struct probe *probe, const belay_progress *now, belay_when *out);
    belay_coordinator *coordinator;
    belay_session *session; /* of the last CREATE, or END */
    belay_output output;
    belay_tensor *tensor;
    double value;
};

static belay_code at(void *self, enum point point, void *context, belay_error *error) {
    struct probe *probe = self;
    belay_code code = BELAY_OK;
    probe->counts[point]++;
    bly_buf_printf(&trace, "%s%s.%s", trace.len ? " " : "", probe->name, point_names[point]);
    if (probe->act)
        code = probe->act(probe, point, context, error);
    if (code != BELAY_OK || probe->fails[point] == BELAY_OK)
        return code;
    if (probe->silent)
        return probe->fails[point];
    char text[64];
    snprintf(text, sizeof text, "%s does not like %s", probe->name, point_names[point]);
    return belay_error_set(error, probe->fails[point], text);
}

static belay_code probe_begin(void *self, belay_graph *graph, belay_error *error) {
    return at(self, BEGIN, graph, error);
}

static belay_code probe_create(void *self, belay_session *session, belay_coordinator *coordinator,
                               belay_error *error) {
    ((struct probe *)self)->coordinator = coordinator;
    ((struct probe *)self)->session = session;
    return at(self, CREATE, session, error);
}

static belay_code probe_before(void *self, belay_run_context *run, belay_error *error) {
    return at(self, BEFORE, run, error);
}

static belay_code probe_after(void *self, belay_run_context *run, belay_error *error) {
    return at(self, AFTER, run, error);
}

static belay_code probe_end(void *self, belay_session *session, belay_error *error) {
    ((struct probe *)self)->session = session;
    return at(self, END, session, error);
}

static void probe_when(void *self, const belay_progress *now, belay_when *out) {
    struct probe *probe = self;
    probe->when(probe, now, out);
}

static void probe_destroy(void *self) {
    at(self, DESTROY, NULL, NULL);
}

static belay_hook *hook_of(struct probe *probe) {
    belay_hook_vtable table = {.struct_size = sizeof table,
                               .begin = probe_begin,
                               .after_create_session = probe_create,
                               .before_run = probe_before,
                               .after_run = probe_after,
                               .end = probe_end,
                               .destroy = probe_destroy};
    if (probe->when)
        table.next_wanted = probe_when;
    belay_hook *hook = belay_hook_new(&table, probe, err);
    assert_made(hook);
    return hook;
}

#define assert_trace(expected)                                                                     \
    do {                                                                                           \
        assert_string_equal(bly_buf_text(&trace), expected);                                       \
        bly_buf_clear(&trace);                                                                     \
    } while (0)

static int new_trace(void **state) {
    (void)state;
    bly_buf_clear(&trace);
    belay_error_clear(err);
    return 0;
}

/* ---- how a step is run ---- */

/* Half of a number so small that the result has no leading one. */
static float half_of_a_denormal(belay_threads threads) {
    belay_monitored_session_options options = BELAY_MONITORED_SESSION_OPTIONS_INIT;
    options.threads = threads;
    belay_graph *graph = load("halve.meta");
    belay_monitored_session *session = belay_monitored_session_open(graph, &options, err);
    assert_made(session);
    belay_step *step =
        belay_step_prepare(session, (const char *[]){"x", NULL}, (const char *[]){"half:0", NULL},
                           (const char *[]){"train", NULL}, err);
    assert_made(step);
    float smallest = 1.2e-38F;
    belay_tensor *x = belay_tensor_new(BELAY_FLOAT, NULL, 0, err), *half = NULL;
    assert_made(x);
    memcpy(belay_tensor_data(x), &smallest, sizeof smallest);
    assert_ok(belay_step_run(step, &x, &half, err));
    float result = *(const float *)belay_tensor_data(half);
    belay_tensor_free(x);
    belay_tensor_free(half);
    assert_ok(belay_monitored_session_close(session, err));
    belay_graph_free(graph);
    return result;
}

/* Which threads are used must not change a bit of the result. */
static void test_step__flushes_denormals_in_either_thread(void **state) {
    (void)state;
    volatile float smallest = 1.2e-38F;
    assert_true(smallest / 2 != 0); /* this thread keeps them */
    assert_true(half_of_a_denormal(BELAY_THREADS_POOL) == 0);
    assert_true(half_of_a_denormal(BELAY_THREADS_CALLER) == 0);
    assert_true(smallest / 2 != 0);
}

/* ---- opening ---- */

/* Opens a session on `graph` with up to two probes. Their hooks belong to the session alone. */
static belay_monitored_session *open_with(belay_graph *graph, struct probe *a, struct probe *b,
                                          const belay_monitored_session_options *given) {
    belay_monitored_session_options options = BELAY_MONITORED_SESSION_OPTIONS_INIT;
    belay_hook *hooks[2] = {a ? hook_of(a) : NULL, b ? hook_of(b) : NULL};
    if (given)
        options = *given;
    options.hooks = hooks;
    options.hook_count = a ? b ? 2 : 1 : 0;
    belay_monitored_session *session = belay_monitored_session_open(graph, &options, err);
    belay_hook_free(hooks[0]);
    belay_hook_free(hooks[1]);
    return session;
}

static belay_step *step_of_train(belay_monitored_session *session) {
    belay_step *step =
        belay_step_prepare(session, NULL, NULL, (const char *[]){"train", NULL}, err);
    assert_made(step);
    return step;
}

static void close_ok(belay_monitored_session *session) {
    assert_ok(belay_monitored_session_close(session, err));
}

/* MS-01, MS-02, MS-07, WS-20, HK-RUN-01, HK-RUN-03, HK-RUN-04, HK-RUN-05. */
static void test_monitored_session__calls_hooks_in_their_order(void **state) {
    (void)state;
    struct probe a = {.name = "A"}, b = {.name = "B"};
    belay_graph *graph = load("tiny.meta");
    belay_monitored_session *session = open_with(graph, &a, &b, NULL);
    assert_made(session);
    assert_trace("A.begin B.begin A.create B.create");
    belay_step *step = step_of_train(session);
    assert_int_equal(belay_monitored_session_should_stop(session), 0);
    assert_ok(belay_step_run(step, NULL, NULL, err));
    assert_trace("A.before B.before A.after B.after");
    assert_ok(belay_step_run(step, NULL, NULL, err));
    assert_int_equal(belay_monitored_session_progress(session)->runs, 2);
    assert_int_equal(belay_monitored_session_progress(session)->global_step, 2);
    assert_ptr_equal(belay_monitored_session_graph(session), graph);
    assert_ptr_equal(belay_monitored_session_coordinator(session), a.coordinator); /* WS-22 */
    bly_buf_clear(&trace);
    belay_graph_free(graph);
    close_ok(session);
    assert_trace("A.end B.end A.destroy B.destroy");
    assert_non_null(b.session); /* end() had a session */
}

/* MS-03: no options, no hooks, no creator. */
static void test_monitored_session_open__has_defaults_for_everything(void **state) {
    (void)state;
    belay_graph *graph = load("tiny.meta");
    belay_monitored_session *session = belay_monitored_session_open(graph, NULL, err);
    assert_made(session);
    assert_ok(belay_step_run(step_of_train(session), NULL, NULL, err));
    assert_null(belay_monitored_session_raw_session(session)); /* MS-23 */
    assert_int_equal(belay_monitored_session_was_restored(session), 0);
    close_ok(session);
    belay_graph_free(graph);
}

static void test_monitored_session_open__checks_its_options(void **state) {
    (void)state;
    struct probe a = {.name = "A"};
    belay_graph *graph = load("tiny.meta"), *other = load("tiny.meta");
    belay_monitored_session_options options = BELAY_MONITORED_SESSION_OPTIONS_INIT;
    belay_hook *hooks[] = {hook_of(&a), NULL};
    options.hooks = hooks;
    options.hook_count = 2;
    assert_not_made(BELAY_INVALID_ARGUMENT, "hook number 1 is NULL",
                    belay_monitored_session_open(graph, &options, err));
    options.hook_count = 1;
    options.threads = 9;
    assert_not_made(BELAY_INVALID_ARGUMENT, "threads",
                    belay_monitored_session_open(graph, &options, err));
    options.threads = 0;
    options.stop_grace_period_secs = -0.5;
    assert_not_made(BELAY_INVALID_ARGUMENT, "stop_grace_period_secs",
                    belay_monitored_session_open(graph, &options, err));
    options.stop_grace_period_secs = 0;
    options.recovery_budget_secs = NAN;
    assert_not_made(BELAY_INVALID_ARGUMENT, "recovery_budget_secs",
                    belay_monitored_session_open(graph, &options, err));
    options.recovery_budget_secs = 0;
    belay_chief_session_creator_options chief = BELAY_CHIEF_SESSION_CREATOR_OPTIONS_INIT;
    options.creator = belay_chief_session_creator_new(other, &chief, err);
    assert_made(options.creator);
    assert_not_made(BELAY_INVALID_ARGUMENT, "another graph",
                    belay_monitored_session_open(graph, &options, err));
    belay_session_creator_free(options.creator);
    options.creator = NULL;
    struct {
        belay_monitored_session_options known;
        uint64_t later;
    } newer = {options, 1};
    newer.known.struct_size = sizeof newer;
    assert_not_made(BELAY_INVALID_ARGUMENT, "belay_monitored_session_options",
                    belay_monitored_session_open(graph, &newer.known, err));
    assert_trace(""); /* no hook was asked anything */
    belay_hook_free(hooks[0]);
    assert_trace("A.destroy");
    belay_graph_free(graph);
    belay_graph_free(other);
}

/* The program of the contract, as it stands, where nothing can be loaded. */
static void test_monitored_session_calls__pass_an_earlier_error_on(void **state) {
    (void)state;
    belay_graph *graph = belay_graph_load("/not/there.meta", NULL, err);
    belay_training_options options = BELAY_TRAINING_OPTIONS_INIT;
    belay_monitored_session *session = belay_monitored_training_session_open(graph, &options, err);
    belay_step *step = belay_step_prepare(session, NULL, NULL, NULL, err);
    assert_null(step);
    assert_int_equal(belay_monitored_session_should_stop(session), 1);
    assert_int_equal(belay_step_run(step, NULL, NULL, err), BELAY_NOT_FOUND);
    assert_null(belay_monitored_session_open(graph, NULL, err));
    assert_null(belay_singular_monitored_session_open(graph, NULL, err));
    assert_null(belay_chief_session_creator_new(graph, NULL, err));
    assert_null(belay_worker_session_creator_new(graph, NULL, err));
    assert_int_equal(belay_monitored_session_close(session, err), BELAY_NOT_FOUND);
    assert_non_null(strstr(belay_error_message(err), "/not/there.meta"));
    belay_error_clear(err);
    assert_fails(BELAY_INVALID_ARGUMENT, "NULL", belay_step_run(NULL, NULL, NULL, err));
    assert_not_made(BELAY_INVALID_ARGUMENT, "NULL",
                    belay_step_prepare(NULL, NULL, NULL, NULL, err));
    assert_not_made(BELAY_INVALID_ARGUMENT, "NULL", belay_monitored_session_open(NULL, NULL, err));
    assert_int_equal(belay_monitored_session_close(NULL, err), BELAY_OK);
    assert_null(belay_monitored_session_graph(NULL));
    assert_null(belay_monitored_session_raw_session(NULL));
    assert_null(belay_monitored_session_coordinator(NULL));
    assert_int_equal(belay_monitored_session_was_restored(NULL), 0);
    assert_int_equal(belay_monitored_session_progress(NULL)->global_step, -1);
    belay_monitored_session_request_stop(NULL);
    belay_session_creator_free(NULL);
    belay_hook_free(NULL);
}

/* A step that cannot be prepared is what the session ended with; unless somebody goes on. */
static void test_close__returns_the_error_of_a_step_that_could_not_be_prepared(void **state) {
    (void)state;
    struct probe a = {.name = "A"};
    belay_graph *graph = load("plain_saver.meta");
    belay_monitored_session *session = open_with(graph, &a, NULL, NULL);
    const char *const los[] = {"los", NULL}, *const loss[] = {"loss", NULL};
    assert_not_made(BELAY_NOT_FOUND, "'loss'", belay_step_prepare(session, NULL, los, NULL, err));
    assert_int_equal(belay_step_run(NULL, NULL, NULL, err), BELAY_INVALID_ARGUMENT);
    assert_fails(BELAY_NOT_FOUND, "'loss'", belay_monitored_session_close(session, err));
    assert_int_equal(a.counts[END], 0);
    assert_int_equal(a.counts[DESTROY], 1);

    session = open_with(graph, NULL, NULL, NULL);
    assert_not_made(BELAY_NOT_FOUND, "'loss'", belay_step_prepare(session, NULL, los, NULL, err));
    assert_int_equal(belay_monitored_session_should_stop(session), 0);
    assert_made(belay_step_prepare(session, NULL, loss, NULL, err));
    close_ok(session);
    belay_graph_free(graph);
}

/* ---- hooks that fail ---- */

/* MS-04, MS-08, MS-11, HK-RUN-05, HK-RUN-07, HK-RUN-08:
 * A fails, B is like any other. BUG-08, BUG-17, BUG-76. */
static void test_hook__that_fails_ends_the_session_as_far_as_it_got(void **state) {
    (void)state;
    static const struct {
        enum point point;
        const char *trace;
    } cases[] = {
        {BEGIN, "A.begin A.destroy B.destroy"},
        {CREATE, "A.begin B.begin A.create A.destroy B.destroy"},
        {BEFORE, "A.begin B.begin A.create B.create A.before A.destroy B.destroy"},
        {AFTER, "A.begin B.begin A.create B.create A.before B.before A.after A.destroy B.destroy"},
        {END, "A.begin B.begin A.create B.create A.before B.before A.after B.after A.end B.end "
              "A.destroy B.destroy"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (int silent = 0; silent < 2; silent++) {
            char text[64];
            struct probe a = {.name = "A", .silent = silent}, b = {.name = "B"};
            a.fails[cases[i].point] = BELAY_DATA_LOSS;
            belay_graph *graph = load("tiny.meta");
            /* A stale error of the same code must not be taken for the hook's own. */
            bly_fail(err, BELAY_DATA_LOSS, "stale");
            belay_monitored_session *session = open_with(graph, &a, &b, NULL);
            belay_code code = belay_error_code(err);
            if (session) {
                belay_error_clear(err);
                code = belay_step_run(step_of_train(session), NULL, NULL, err);
                if (code != BELAY_OK) {
                    assert_int_equal(belay_monitored_session_should_stop(session), 1);
                    assert_int_equal(belay_error_origin(err), BELAY_ORIGIN_HOOK);
                }
                belay_error_clear(err);
                code = belay_monitored_session_close(session, err);
            }
            snprintf(text, sizeof text,
                     silent ? "%s of hook number 0 failed" : "A does not like %s",
                     silent && cases[i].point == CREATE   ? "after_create_session"
                     : silent && cases[i].point == BEFORE ? "before_run"
                     : silent && cases[i].point == AFTER  ? "after_run"
                                                          : point_names[cases[i].point]);
            assert_error(BELAY_DATA_LOSS, text, code, point_names[cases[i].point]);
            assert_int_equal(belay_error_origin(err), BELAY_ORIGIN_HOOK);
            assert_trace(cases[i].trace);
            belay_graph_free(graph);
        }
    }
}

/* WS-24: only while a session is being made is ABORTED or UNAVAILABLE a reason to begin again; in
 * begin and end it is an error like any other. */
static void test_hook__that_is_unavailable_in_begin_or_end_is_not_asked_again(void **state) {
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct probe a = {.name = "A"};
        a.fails[i ? END : BEGIN] = BELAY_UNAVAILABLE;
        belay_graph *graph = load("tiny.meta");
        belay_monitored_session *session = open_with(graph, &a, NULL, NULL);
        belay_code code = belay_error_code(err);
        if (session)
            code = belay_monitored_session_close(session, err);
        assert_error(BELAY_UNAVAILABLE, "does not like", code, "A");
        assert_int_equal(a.counts[i ? END : BEGIN], 1);
        assert_int_equal(a.counts[CREATE], i);
        belay_error_clear(err);
        belay_graph_free(graph);
    }
}

/* BUG-08, MS-47: every end() is called; the first error is returned with the others chained, and
 * OUT_OF_RANGE is no clean end here. */
static void test_close__returns_the_first_error_of_end_and_chains_the_others(void **state) {
    (void)state;
    struct probe a = {.name = "A"}, b = {.name = "B"};
    a.fails[END] = BELAY_OUT_OF_RANGE;
    b.fails[END] = BELAY_NOT_FOUND;
    belay_graph *graph = load("tiny.meta");
    belay_monitored_session *session = open_with(graph, &a, &b, NULL);
    belay_code code = belay_monitored_session_close(session, err);
    assert_error(BELAY_OUT_OF_RANGE, "A does not like end", code, "close");
    assert_int_equal(belay_error_chained_count(err), 1);
    assert_int_equal(belay_error_chained_code(err, 0), BELAY_NOT_FOUND);
    assert_int_equal(a.counts[END], 1);
    assert_int_equal(b.counts[END], 1);
    belay_graph_free(graph);
}

/* MS-47. */
static void test_open__is_not_ended_cleanly_by_out_of_range(void **state) {
    (void)state;
    struct probe a = {.name = "A"};
    a.fails[CREATE] = BELAY_OUT_OF_RANGE;
    belay_graph *graph = load("tiny.meta");
    assert_null(open_with(graph, &a, NULL, NULL));
    assert_error(BELAY_OUT_OF_RANGE, "A does not like create", belay_error_code(err), "open");
    belay_graph_free(graph);
}

/* ---- stopping ---- */

static belay_code stop_in_before(struct probe *probe, enum point point, void *context,
                                 belay_error *error) {
    (void)error;
    if (point == BEFORE)
        belay_run_context_request_stop(context);
    if (point == AFTER)
        probe->value = belay_run_context_stop_requested(context);
    return BELAY_OK;
}

static belay_code stop_in_after(struct probe *probe, enum point point, void *context,
                                belay_error *error) {
    (void)probe;
    (void)error;
    if (point == AFTER)
        belay_run_context_request_stop(context);
    return BELAY_OK;
}

/* HK-RUN-10, HK-RUN-11, WS-17, WS-18, MS-06, ER-25. */
static void test_hook__that_asks_to_stop_lets_the_run_finish_and_no_other_begin(void **state) {
    (void)state;
    for (int after = 0; after < 2; after++) {
        struct probe a = {.name = "A", .act = after ? stop_in_after : stop_in_before};
        struct probe b = {.name = "B"};
        belay_graph *graph = load("tiny.meta");
        belay_monitored_session *session = open_with(graph, &a, &b, NULL);
        belay_step *step = step_of_train(session);
        assert_ok(belay_step_run(step, NULL, NULL, err));
        assert_int_equal(belay_monitored_session_progress(session)->global_step, 1);
        assert_int_equal(b.counts[AFTER], 1);
        if (!after)
            assert_true(a.value == 1);
        assert_int_equal(belay_monitored_session_should_stop(session), 1);
        close_ok(session);
        assert_int_equal(b.counts[END], 1);
        /* Whoever goes on all the same. */
        session = open_with(graph, &a, NULL, NULL);
        step = step_of_train(session);
        assert_ok(belay_step_run(step, NULL, NULL, err));
        assert_fails(BELAY_FAILED_PRECONDITION, "Run called even after should_stop requested.",
                     belay_step_run(step, NULL, NULL, err));
        assert_fails(BELAY_FAILED_PRECONDITION, "Run called even",
                     belay_monitored_session_close(session, err));
        belay_graph_free(graph);
    }
}

/* BUG-11, BUG-78. */
static void test_hook__that_asked_to_stop_is_heard_though_the_run_fails(void **state) {
    (void)state;
    for (int after = 0; after < 2; after++) {
        struct probe a = {.name = "A", .act = after ? stop_in_after : stop_in_before};
        struct probe b = {.name = "B"};
        b.fails[after ? AFTER : BEFORE] = BELAY_ALREADY_EXISTS;
        belay_graph *graph = load("tiny.meta");
        belay_monitored_session *session = open_with(graph, &a, &b, NULL);
        belay_step *step = step_of_train(session);
        assert_fails(BELAY_ALREADY_EXISTS, "B does not like",
                     belay_step_run(step, NULL, NULL, err));
        assert_fails(BELAY_FAILED_PRECONDITION, "Run called even after should_stop requested.",
                     belay_step_run(step, NULL, NULL, err));
        belay_monitored_session_close(session, err);
        belay_error_clear(err);
        belay_graph_free(graph);
    }
}

static void ask_to_stop(void *self) {
    belay_monitored_session_request_stop(self);
}

/* MS-06, WS-13, SD-09: a stop from elsewhere ends the loop, and forbids nothing. */
static void test_request_stop__ends_the_loop_and_forbids_no_step(void **state) {
    (void)state;
    struct probe a = {.name = "A"};
    belay_graph *graph = load("tiny.meta");
    belay_monitored_session *session = open_with(graph, &a, NULL, NULL);
    belay_step *step = step_of_train(session);
    assert_int_equal(belay_monitored_session_should_stop(session), 0);
    bly_thread *thread = bly_thread_start("stop", ask_to_stop, session, NULL);
    bly_thread_join(thread);
    assert_int_equal(belay_monitored_session_should_stop(session), 1);
    assert_ok(belay_step_run(step, NULL, NULL, err));
    close_ok(session);
    assert_int_equal(a.counts[END], 1);
    /* The coordinator's stop does the same. */
    session = open_with(graph, NULL, NULL, NULL);
    belay_coordinator_request_stop(belay_monitored_session_coordinator(session), NULL);
    assert_int_equal(belay_monitored_session_should_stop(session), 1);
    assert_ok(belay_step_run(step_of_train(session), NULL, NULL, err));
    close_ok(session);
    belay_graph_free(graph);
}

/* ---- errors of steps and of helper threads ---- */

/* MS-06, MS-11, WS-07, WS-15: the step's error is what closing returns, and no end() is called. */
static void test_close__returns_the_error_of_the_step_that_failed(void **state) {
    (void)state;
    struct probe a = {.name = "A"};
    belay_graph *graph = load("plain_saver.meta");
    belay_monitored_session *session = open_with(graph, &a, NULL, NULL);
    const char *const loss[] = {"loss", NULL};
    belay_step *step = belay_step_prepare(session, NULL, loss, NULL, err);
    belay_tensor *out = scalar(7), *mine = out;
    assert_fails(BELAY_INVALID_ARGUMENT, "placeholder", belay_step_run(step, NULL, &out, err));
    assert_ptr_equal(out, mine);
    assert_true(belay_tensor_number(out, 0) == 7);
    assert_int_equal(belay_monitored_session_should_stop(session), 1);
    assert_int_equal(belay_coordinator_should_stop(a.coordinator), 0);
    assert_int_equal(a.counts[CREATE], 1); /* nothing was made anew */
    assert_fails(BELAY_INVALID_ARGUMENT, "placeholder",
                 belay_monitored_session_close(session, err));
    assert_int_equal(a.counts[AFTER], 0);
    assert_int_equal(a.counts[END], 0);
    assert_int_equal(a.counts[DESTROY], 1);
    /* A later step that goes well takes it back. */
    session = open_with(graph, NULL, NULL, NULL);
    step = belay_step_prepare(session, NULL, loss, NULL, err);
    assert_fails(BELAY_INVALID_ARGUMENT, "placeholder", belay_step_run(step, NULL, &out, err));
    step = belay_step_prepare(session, NULL, (const char *[]){"w", NULL}, NULL, err);
    assert_ok(belay_step_run(step, NULL, &out, err));
    assert_int_equal(belay_monitored_session_should_stop(session), 0);
    close_ok(session);
    /* A caller who forgot where the value goes. */
    session = open_with(graph, NULL, NULL, NULL);
    step = belay_step_prepare(session, NULL, (const char *[]){"w", NULL}, NULL, err);
    assert_fails(BELAY_INVALID_ARGUMENT, "outputs", belay_step_run(step, NULL, NULL, err));
    assert_fails(BELAY_INVALID_ARGUMENT, "outputs", belay_monitored_session_close(session, err));
    belay_tensor_free(out);
    belay_graph_free(graph);
}

/* What the graph has read and added up, when the session ends. */
static belay_code keep_seen(struct probe *probe, enum point point, void *context,
                            belay_error *error) {
    (void)error;
    if (point == END)
        probe->value = fetch_number(context, "seen", 0);
    return BELAY_OK;
}

/* MS-11, ST-08, HK-RUN-06: the end of the input is a clean end, with queue runners and with
 * tf.data, and nothing of the input is lost. */
static void test_close__ends_cleanly_where_the_input_ended(void **state) {
    (void)state;
    static const char *const graphs[] = {"queue.meta", "dataset.meta", "dataset_one_shot.meta"};
    static const double sums[] = {90, 190, 190};
    for (size_t i = 0; i < 3; i++) {
        struct probe a = {.name = "A", .act = keep_seen};
        int steps = 0;
        belay_graph *graph = load(graphs[i]);
        belay_monitored_session *session = open_with(graph, &a, NULL, NULL);
        assert_made(session);
        belay_step *step = step_of_train(session);
        while (!belay_monitored_session_should_stop(session) &&
               belay_step_run(step, NULL, NULL, err) == BELAY_OK)
            steps++;
        assert_int_equal(belay_error_code(err), BELAY_OUT_OF_RANGE);
        assert_int_equal(steps, 5);
        assert_int_equal(belay_monitored_session_should_stop(session), 1);
        assert_int_equal(a.counts[BEFORE], 6);
        assert_int_equal(a.counts[AFTER], 5);
        close_ok(session);
        assert_int_equal(a.counts[END], 1);
        assert_true(a.value == sums[i]);
        belay_error_clear(err);
        belay_graph_free(graph);
    }
}

static belay_code dequeue_in_create(struct probe *probe, enum point point, void *context,
                                    belay_error *error) {
    static const uint8_t timeout_in_ms[] = {0x10, 0x90, 0x4e}; /* 10 s */
    belay_run_options options = BELAY_RUN_OPTIONS_INIT;
    options.run_options = timeout_in_ms;
    options.run_options_size = sizeof timeout_in_ms;
    if (point != CREATE)
        return BELAY_OK;
    return belay_session_run(context, NULL, NULL, (const char *[]){"batch", NULL}, &probe->tensor,
                             NULL, &options, error);
}

/* WS-21. */
static void test_open__starts_queue_runners_before_after_create_session(void **state) {
    (void)state;
    struct probe a = {.name = "A", .act = dequeue_in_create};
    belay_graph *graph = load("queue.meta");
    belay_monitored_session *session = open_with(graph, &a, NULL, NULL);
    assert_made(session);
    assert_int_equal(belay_tensor_count(a.tensor), 4);
    belay_tensor_free(a.tensor);
    int64_t started = bly_now_ms();
    close_ok(session); /* BUG-18: threads that are blocked in the session are released */
    assert_true(bly_now_ms() - started < 5000);
    belay_graph_free(graph);
}

static void report(belay_coordinator *coordinator, belay_code code, const char *text) {
    BLY_LOCAL_ERROR(reason);
    bly_fail(&reason, code, "%s", text);
    belay_coordinator_request_stop(coordinator, &reason);
}

/* MS-43, WS-11, WS-14, SD-06, BUG-02, BUG-04, MS-13, MS-14: without recovery. */
static void test_close__returns_what_a_helper_thread_reported(void **state) {
    (void)state;
    static const struct {
        belay_code reported, returned;
    } cases[] = {
        {BELAY_INTERNAL, BELAY_INTERNAL},
        {BELAY_UNAVAILABLE, BELAY_UNAVAILABLE},
        {BELAY_OUT_OF_RANGE, BELAY_OK},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct probe a = {.name = "A"};
        belay_monitored_session_options options = BELAY_MONITORED_SESSION_OPTIONS_INIT;
        options.no_recovery = 1;
        belay_graph *graph = load("tiny.meta");
        belay_monitored_session *session = open_with(graph, &a, NULL, &options);
        report(a.coordinator, cases[i].reported, "from a thread");
        assert_int_equal(belay_monitored_session_should_stop(session), 1);
        assert_int_equal(a.counts[CREATE], 1);
        belay_code code = belay_monitored_session_close(session, err);
        assert_int_equal(code, cases[i].returned);
        if (code != BELAY_OK)
            assert_error(code, "from a thread", code, "close");
        belay_error_clear(err);
        assert_int_equal(a.counts[END], 1);
        belay_graph_free(graph);
    }
}

/* BUG-03, MS-12. */
static void test_close__keeps_the_steps_error_first(void **state) {
    (void)state;
    struct probe a = {.name = "A"};
    belay_graph *graph = load("plain_saver.meta");
    belay_monitored_session *session = open_with(graph, &a, NULL, NULL);
    belay_tensor *out = NULL;
    belay_step *step = belay_step_prepare(session, NULL, (const char *[]){"loss", NULL}, NULL, err);
    assert_fails(BELAY_INVALID_ARGUMENT, "placeholder", belay_step_run(step, NULL, &out, err));
    report(a.coordinator, BELAY_INTERNAL, "from a thread");
    belay_code code = belay_monitored_session_close(session, err);
    assert_error(BELAY_INVALID_ARGUMENT, "placeholder", code, "close");
    assert_int_equal(belay_error_chained_count(err), 1);
    assert_int_equal(belay_error_chained_code(err, 0), BELAY_INTERNAL);
    belay_graph_free(graph);
}

/* WS-12: what looks like a cancelled run here is a task that went away. */
static void test_step_run__reports_the_preemption_behind_an_error(void **state) {
    (void)state;
    struct probe a = {.name = "A"};
    belay_monitored_session_options options = BELAY_MONITORED_SESSION_OPTIONS_INIT;
    options.no_recovery = 1;
    belay_graph *graph = load("plain_saver.meta");
    belay_monitored_session *session = open_with(graph, &a, NULL, &options);
    belay_tensor *out = NULL;
    belay_step *step = belay_step_prepare(session, NULL, (const char *[]){"loss", NULL}, NULL, err);
    report(a.coordinator, BELAY_ABORTED, "the task went away");
    assert_fails(BELAY_ABORTED, "the task went away", belay_step_run(step, NULL, &out, err));
    assert_fails(BELAY_ABORTED, "the task went away", belay_monitored_session_close(session, err));
    belay_graph_free(graph);
}

enum { ASLEEP = 1, RELEASED, AWAKE };

/* Does not heed the stop. */
static belay_code sleep_on(void *self, belay_error *error) {
    atomic_int *where = self;
    (void)error;
    atomic_store(where, ASLEEP);
    while (atomic_load(where) != RELEASED)
        nap_ms(5);
    atomic_store(where, AWAKE);
    return BELAY_OK;
}

/* ER-31, WS-14: a thread that does not end in time is a warning. */
static void test_close__does_not_wait_longer_than_the_grace_period(void **state) {
    (void)state;
    static atomic_int where;
    belay_monitored_session_options options = BELAY_MONITORED_SESSION_OPTIONS_INIT;
    options.stop_grace_period_secs = 0.2;
    for (int i = 0; i < 2; i++) {
        struct probe a = {.name = "A"};
        belay_graph *graph = load("tiny.meta");
        belay_monitored_session *session = open_with(graph, &a, NULL, &options);
        atomic_store(&where, 0);
        assert_ok(
            belay_coordinator_start_loop(a.coordinator, "sleeper", sleep_on, &where, NULL, err));
        while (atomic_load(&where) != ASLEEP)
            nap_ms(5);
        int64_t started = bly_now_ms();
        log_start();
        close_ok(session);
        assert_true(bly_now_ms() - started < 20000); /* the default is 120 s */
        assert_logged("Coordinator stopped with threads still running: sleeper");
        assert_int_equal(a.counts[END], 1);
        atomic_store(&where, RELEASED);
        while (atomic_load(&where) != AWAKE)
            nap_ms(5);
        belay_graph_free(graph);
        options.stop_grace_period_secs = BELAY_AT_ONCE;
    }
    nap_ms(100); /* the thread frees what is its own */
}

/* ---- what a run is made of ---- */

static belay_code fetch_step(struct probe *probe, enum point point, void *context,
                             belay_error *error) {
    if (point == BEGIN)
        return belay_graph_find_output(context, "loss", &probe->output, error);
    if (point == BEFORE)
        return belay_run_context_fetch(context, probe->output, error);
    if (point == AFTER) {
        const belay_tensor *value = belay_run_context_value(context, 0);
        probe->value = value ? belay_tensor_number(value, 0) : -1;
        if (belay_run_context_value(context, 1))
            return belay_error_set(error, BELAY_INTERNAL, "a value that nobody asked for");
    }
    return BELAY_OK;
}

static belay_code fetch_nothing(struct probe *probe, enum point point, void *context,
                                belay_error *error) {
    if (point == AFTER && belay_run_context_value(context, 0))
        return belay_error_set(error, BELAY_INTERNAL, "a value that nobody asked for");
    (void)probe;
    return BELAY_OK;
}

/* MS-05, HK-RUN-13, HK-RUN-14, HK-RUN-15, HK-RUN-16, BUG-42: one run for all, and each gets its
 * own. */
static void test_step_run__merges_what_hooks_fetch(void **state) {
    (void)state;
    struct probe a = {.name = "A", .act = fetch_step}, b = {.name = "B", .act = fetch_nothing};
    belay_graph *graph = load("plain_saver.meta");
    belay_monitored_session_options options = BELAY_MONITORED_SESSION_OPTIONS_INIT;
    belay_hook *hooks[] = {hook_of(&b), hook_of(&a), NULL};
    hooks[2] = hooks[1]; /* twice */
    options.hooks = hooks;
    options.hook_count = 3;
    belay_monitored_session *session = belay_monitored_session_open(graph, &options, err);
    assert_made(session);
    belay_hook_free(hooks[0]);
    belay_hook_free(hooks[1]);
    belay_tensor *inputs[] = {rows_x(4), rows_y()}, *outputs[2] = {NULL, NULL};
    const char *const feeds[] = {"x", "y", NULL}, *const train[] = {"train", NULL};
    belay_step *step =
        belay_step_prepare(session, feeds, (const char *[]){"y", "loss", NULL}, train, err);
    assert_made(step);
    double last = INFINITY;
    for (int i = 0; i < 3; i++) {
        assert_ok(belay_step_run(step, inputs, outputs, err));
        assert_true(a.value == belay_tensor_number(outputs[1], 0));
        assert_true(a.value < last);
        last = a.value;
        assert_int_equal(belay_tensor_count(outputs[0]), ROWS);
    }
    /* A step without fetches of its own. */
    step = belay_step_prepare(session, feeds, NULL, train, err);
    assert_ok(belay_step_run(step, inputs, NULL, err));
    assert_true(a.value < last && a.value > 0);
    assert_int_equal(a.counts[AFTER], 8);
    for (int i = 0; i < 2; i++) {
        belay_tensor_free(inputs[i]);
        belay_tensor_free(outputs[i]);
    }
    close_ok(session);
    assert_int_equal(a.counts[DESTROY], 1);
    belay_graph_free(graph);
}

static belay_code feed_x(struct probe *probe, enum point point, void *context, belay_error *error) {
    if (point == BEGIN)
        return belay_graph_find_output(context, "x:0", &probe->output, error);
    if (point == BEFORE)
        return belay_run_context_feed(context, probe->output, probe->tensor, error);
    return BELAY_OK;
}

static belay_code fetch_x(struct probe *probe, enum point point, void *context,
                          belay_error *error) {
    if (point == BEGIN)
        return belay_graph_find_output(context, "x", &probe->output, error);
    if (point == BEFORE)
        return belay_run_context_fetch(context, probe->output, error);
    if (point == AFTER)
        probe->value = belay_tensor_number(belay_run_context_value(context, 0), 0);
    return BELAY_OK;
}

/* HK-RUN-20, BUG-67, SE-21: what a hook feeds can be fetched, by the caller and by another hook. */
static void test_step_run__gives_what_a_hook_feeds_to_whoever_fetches_it(void **state) {
    (void)state;
    struct probe a = {.name = "A", .act = feed_x}, b = {.name = "B", .act = fetch_x};
    belay_graph *graph = load("plain_saver.meta");
    a.tensor = rows_x(4);
    ((float *)belay_tensor_data(a.tensor))[0] = 42;
    belay_monitored_session *session = open_with(graph, &a, &b, NULL);
    assert_made(session);
    belay_tensor *y = rows_y(), *outputs[3] = {NULL, NULL, NULL};
    belay_step *step = belay_step_prepare(session, (const char *[]){"y", NULL},
                                          (const char *[]){"x", "loss", "global_step", NULL},
                                          (const char *[]){"train", NULL}, err);
    assert_made(step);
    for (int i = 0; i < 3; i++) {
        assert_ok(belay_step_run(step, &y, outputs, err));
        assert_true(belay_tensor_number(outputs[0], 0) == 42);
        assert_true(belay_tensor_number(outputs[1], 0) > 0);
        assert_int_equal(belay_tensor_dtype(outputs[2]), BELAY_INT64);
        assert_true(b.value == 42);
        assert_int_equal(belay_monitored_session_progress(session)->global_step, i + 1);
    }
    /* Nothing at all is left for the runtime, but the step. */
    step = belay_step_prepare(session, NULL, (const char *[]){"x", NULL}, NULL, err);
    assert_ok(belay_step_run(step, NULL, outputs, err));
    assert_true(belay_tensor_number(outputs[0], 0) == 42);
    /* The value is the caller's own. */
    ((float *)belay_tensor_data(outputs[0]))[0] = 0;
    assert_true(belay_tensor_number(a.tensor, 0) == 42);
    for (int i = 0; i < 3; i++)
        belay_tensor_free(outputs[i]);
    belay_tensor_free(y);
    close_ok(session);
    belay_tensor_free(a.tensor);
    belay_graph_free(graph);
}

/* HK-RUN-18, HK-RUN-19, HK-RUN-21, BUG-41, ER-27. */
static void test_step_run__refuses_a_feed_that_is_there_already(void **state) {
    (void)state;
    struct probe a = {.name = "A", .act = feed_x}, b = {.name = "B", .act = feed_x};
    belay_graph *graph = load("plain_saver.meta");
    belay_tensor *x = rows_x(4);
    a.tensor = x;
    b.tensor = x;
    belay_monitored_session *session = open_with(graph, &a, &b, NULL);
    const char *const train[] = {"train", NULL};
    belay_step *step = belay_step_prepare(session, NULL, NULL, train, err);
    assert_fails(BELAY_INVALID_ARGUMENT, "Same tensor is fed by two hooks. Conflict: x:0",
                 belay_step_run(step, NULL, NULL, err));
    belay_monitored_session_close(session, NULL);
    session = open_with(graph, &a, NULL, NULL);
    step = belay_step_prepare(session, (const char *[]){"x", NULL}, NULL, train, err);
    assert_fails(BELAY_INVALID_ARGUMENT,
                 "Same tensor is fed by a SessionRunHook and user. Conflict: x:0",
                 belay_step_run(step, &x, NULL, err));
    assert_fails(BELAY_INVALID_ARGUMENT, "Same tensor",
                 belay_monitored_session_close(session, err));
    belay_tensor_free(x);
    belay_graph_free(graph);
}

static belay_code ask_too_late(struct probe *probe, enum point point, void *context,
                               belay_error *error) {
    if (point == BEGIN)
        return belay_graph_find_output(context, "loss", &probe->output, error);
    if (point == BEFORE)
        return belay_run_context_fetch(context, (belay_output){NULL, 0}, NULL) ==
                       BELAY_INVALID_ARGUMENT
                   ? BELAY_OK
                   : BELAY_INTERNAL;
    if (point == AFTER)
        return belay_run_context_fetch(context, probe->output, error);
    return BELAY_OK;
}

static belay_code fetch_and_feed_wrong_index(struct probe *probe, enum point point, void *context,
                                             belay_error *error) {
    if (point == BEGIN)
        return belay_graph_find_output(context, "loss", &probe->output, error);
    if (point != BEFORE)
        return BELAY_OK;
    belay_tensor *tensor = belay_tensor_new(BELAY_FLOAT, NULL, 0, error);
    belay_output none = {probe->output.op, INT64_C(1) << 32};
    belay_code fed = belay_run_context_feed(context, none, tensor, error);
    belay_tensor_free(tensor);
    none.index = 1;
    return fed == BELAY_INVALID_ARGUMENT ? belay_run_context_fetch(context, none, error)
                                         : BELAY_INTERNAL;
}

/* A hook's mistake does not end training as if the input had ended. */
static void test_run_context__refuses_an_output_that_is_not_there(void **state) {
    (void)state;
    struct probe a = {.name = "A", .act = fetch_and_feed_wrong_index};
    belay_graph *graph = load("nan.meta");
    belay_monitored_session *session = open_with(graph, &a, NULL, NULL);
    assert_made(session);
    assert_fails(BELAY_INVALID_ARGUMENT, "no output number 1",
                 belay_step_run(step_of_train(session), NULL, NULL, err));
    assert_int_equal(belay_monitored_session_close(session, NULL), BELAY_INVALID_ARGUMENT);
    belay_graph_free(graph);
}

static belay_code use_other_graph(struct probe *probe, enum point point, void *context,
                                  belay_error *error) {
    if (point != BEFORE)
        return BELAY_OK;
    belay_tensor *tensor = belay_tensor_new(BELAY_INT64, NULL, 0, error);
    belay_code fed = belay_run_context_feed(context, probe->output, tensor, error);
    belay_tensor_free(tensor);
    if (fed != BELAY_INVALID_ARGUMENT || !strstr(belay_error_message(error), "of another graph"))
        return BELAY_INTERNAL;
    return belay_run_context_fetch(context, probe->output, error);
}

/* SE-24, ER-03: a name that this graph has too makes it none of its tensors. */
static void test_run_context__refuses_an_output_of_another_graph(void **state) {
    (void)state;
    struct probe a = {.name = "A", .act = use_other_graph};
    belay_graph *graph = load("nan.meta"), *other = load("nan.meta");
    assert_ok(belay_graph_find_output(other, "global_step:0", &a.output, err));
    belay_monitored_session *session = open_with(graph, &a, NULL, NULL);
    assert_made(session);
    assert_fails(BELAY_INVALID_ARGUMENT, ":0 is of another graph than the session",
                 belay_step_run(step_of_train(session), NULL, NULL, err));
    assert_int_equal(belay_monitored_session_close(session, NULL), BELAY_INVALID_ARGUMENT);
    belay_graph_free(other);
    belay_graph_free(graph);
}

static void test_run_context__takes_fetches_in_before_run_only(void **state) {
    (void)state;
    struct probe a = {.name = "A", .act = ask_too_late};
    belay_output output;
    belay_graph *graph = load("nan.meta");
    belay_monitored_session *session = open_with(graph, &a, NULL, NULL);
    assert_made(session);
    assert_fails(BELAY_FAILED_PRECONDITION, "only in before_run",
                 belay_step_run(step_of_train(session), NULL, NULL, err));
    belay_monitored_session_close(session, NULL);
    assert_fails(BELAY_NOT_FOUND, "'train'", belay_graph_find_target(graph, "trian", &output, err));
    assert_null(output.op);
    assert_fails(BELAY_INVALID_ARGUMENT, "NULL",
                 belay_graph_find_output(NULL, "loss", &output, err));
    assert_fails(BELAY_INVALID_ARGUMENT, "NULL",
                 belay_graph_find_target(graph, NULL, &output, err));
    belay_graph_free(graph);
}

static belay_code run_raw(struct probe *probe, enum point point, void *context,
                          belay_error *error) {
    if (point != BEFORE && point != AFTER)
        return BELAY_OK;
    belay_session *session = belay_run_context_session(context);
    belay_tensor *inputs[] = {rows_x(4), rows_y()};
    if (session != probe->session)
        return belay_error_set(error, BELAY_INTERNAL, "another session");
    belay_code code = belay_session_run(session, (const char *[]){"x", "y", NULL}, inputs, NULL,
                                        NULL, (const char *[]){"train", NULL}, NULL, error);
    belay_tensor_free(inputs[0]);
    belay_tensor_free(inputs[1]);
    return code;
}

/* HK-RUN-09, HK-RUN-12, BUG-73: a hook trains on the raw session, and the value that the step has
 * fetched from a reference variable stays as it was. */
static void test_step_run__hands_out_what_was_fetched_whatever_hooks_run(void **state) {
    (void)state;
    struct probe a = {.name = "A", .act = run_raw};
    belay_graph *graph = load("refvars.meta");
    belay_monitored_session *session = open_with(graph, &a, NULL, NULL);
    belay_tensor *w = NULL, *kept = NULL;
    belay_step *look = belay_step_prepare(session, NULL, (const char *[]){"w", NULL}, NULL, err);
    assert_made(look);
    assert_ok(belay_step_run(look, NULL, &w, err));
    double first = belay_tensor_number(w, 0);
    assert_true(first != 0);                               /* before_run trained once */
    assert_true(fetch_number(a.session, "w", 0) != first); /* after_run did it again */
    kept = w;
    w = NULL;
    assert_ok(belay_step_run(look, NULL, &w, err));
    assert_true(belay_tensor_number(kept, 0) == first);
    assert_true(belay_tensor_number(w, 0) != first);
    assert_int_equal(a.counts[BEFORE], 2); /* raw runs call no hooks */
    belay_tensor_free(w);
    belay_tensor_free(kept);
    close_ok(session);
    belay_graph_free(graph);
}

static belay_progress seen[32];
static int seen_count;

static belay_code keep_progress(struct probe *probe, enum point point, void *context,
                                belay_error *error) {
    (void)probe;
    (void)error;
    if (point == BEFORE || point == AFTER)
        seen[seen_count++] = *belay_run_context_progress(context);
    return BELAY_OK;
}

static void every_third_run(struct probe *probe, const belay_progress *now, belay_when *out) {
    (void)probe;
    out->runs = now->runs + 2;
}

static void from_step_four(struct probe *probe, const belay_progress *now, belay_when *out) {
    (void)probe;
    if (now->global_step < 5)
        out->from_step = 4;
}

static void at_step_three(struct probe *probe, const belay_progress *now, belay_when *out) {
    (void)probe;
    if (now->global_step < 3)
        out->at_step = 3;
}

static void never_again(struct probe *probe, const belay_progress *now, belay_when *out) {
    (void)probe;
    (void)now;
    (void)out;
}

static void at_once_by_time(struct probe *probe, const belay_progress *now, belay_when *out) {
    if (probe->counts[AFTER] == 0)
        out->time_ms = now->now_ms;
    if (probe->counts[AFTER] == 1)
        out->time_ms = now->now_ms + 3600 * 1000;
}

static int calls_in_seven_runs(void (*when)(struct probe *, const belay_progress *, belay_when *),
                               int *out_before) {
    struct probe a = {.name = "A", .act = keep_progress, .when = when};
    belay_graph *graph = load("tiny.meta");
    seen_count = 0;
    belay_monitored_session *session = open_with(graph, &a, NULL, NULL);
    assert_made(session);
    belay_step *step = step_of_train(session);
    for (int i = 0; i < 7; i++)
        assert_ok(belay_step_run(step, NULL, NULL, err));
    close_ok(session);
    belay_graph_free(graph);
    *out_before = a.counts[BEFORE];
    return a.counts[AFTER];
}

static void test_hook__is_called_when_it_wants_to_be(void **state) {
    (void)state;
    int before;
    assert_int_equal(calls_in_seven_runs(every_third_run, &before), 2);
    assert_int_equal(before, 2);
    assert_int_equal(seen[0].runs, 2);
    assert_int_equal(seen[1].runs, 3);
    assert_int_equal(seen[1].global_step, 3);
    assert_int_equal(calls_in_seven_runs(from_step_four, &before), 1);
    assert_int_equal(before, 1);
    assert_int_equal(seen[0].global_step, 4);
    assert_int_equal(seen[1].global_step, 5);
    assert_int_equal(calls_in_seven_runs(at_step_three, &before), 1);
    assert_int_equal(before, 0); /* after_run alone */
    assert_int_equal(seen[0].global_step, 3);
    assert_true(seen[0].now_ms > 0);
    assert_int_equal(calls_in_seven_runs(never_again, &before), 0);
    assert_int_equal(calls_in_seven_runs(at_once_by_time, &before), 1);
    assert_int_equal(calls_in_seven_runs(NULL, &before), 7);
}

/* ---- tables ---- */

static void count_destroy(void *self) {
    ++*(int *)self;
}

static void test_hook_new__destroys_what_it_was_given_whatever_happens(void **state) {
    (void)state;
    int destroyed = 0;
    struct {
        belay_hook_vtable known;
        uint64_t later;
    } newer = {{.struct_size = sizeof newer, .destroy = count_destroy}, 1};
    assert_not_made(BELAY_INVALID_ARGUMENT, "belay_hook_vtable",
                    belay_hook_new(&newer.known, &destroyed, err));
    assert_int_equal(destroyed, 1);
    newer.later = 0;
    belay_hook *hook = belay_hook_new(&newer.known, &destroyed, err);
    assert_made(hook);
    assert_int_equal(destroyed, 1);
    belay_hook_free(hook);
    assert_int_equal(destroyed, 2);
    assert_not_made(BELAY_INVALID_ARGUMENT, "NULL", belay_hook_new(NULL, NULL, err));
    /* All slots empty: it is interested in nothing. */
    belay_hook_vtable empty = {.struct_size = sizeof empty};
    hook = belay_hook_new(&empty, NULL, err);
    assert_made(hook);
    belay_monitored_session_options options = BELAY_MONITORED_SESSION_OPTIONS_INIT;
    options.hooks = &hook;
    options.hook_count = 1;
    belay_graph *graph = load("tiny.meta");
    belay_monitored_session *session = belay_monitored_session_open(graph, &options, err);
    assert_made(session);
    assert_ok(belay_step_run(step_of_train(session), NULL, NULL, err));
    close_ok(session);
    belay_hook_free(hook);
    belay_graph_free(graph);
}

/* ---- the singular form ---- */

/* MS-21, MS-22, MS-23, MS-24, MS-25. */
static void test_singular__gives_its_raw_session_and_recovers_from_nothing(void **state) {
    (void)state;
    struct probe a = {.name = "A"};
    const char *folder = work_folder("singular"), *prefix = NULL;
    belay_graph *graph = load("tiny.meta");
    belay_hook *hook = hook_of(&a);
    belay_singular_monitored_session_options options =
        BELAY_SINGULAR_MONITORED_SESSION_OPTIONS_INIT;
    options.hooks = &hook;
    options.hook_count = 1;
    options.checkpoint_dir = folder;
    belay_monitored_session *session = belay_singular_monitored_session_open(graph, &options, err);
    assert_made(session);
    belay_session *raw = belay_monitored_session_raw_session(session);
    assert_ptr_equal(raw, a.session);
    run_op(raw, "train");
    assert_int_equal(a.counts[BEFORE], 0);
    belay_saver *saver = belay_saver_new(graph, NULL, err);
    assert_made(saver);
    assert_ok(belay_saver_save(saver, raw, in_folder(folder, "m"), 1, NULL, &prefix, err));
    a.fails[AFTER] = BELAY_UNAVAILABLE;
    belay_step *step = step_of_train(session);
    assert_fails(BELAY_UNAVAILABLE, "A does not like after", belay_step_run(step, NULL, NULL, err));
    assert_ptr_equal(belay_monitored_session_raw_session(session), raw);
    assert_int_equal(a.counts[CREATE], 1);
    a.fails[AFTER] = BELAY_OK;
    assert_ok(belay_step_run(step, NULL, NULL, err));
    assert_int_equal(belay_monitored_session_progress(session)->global_step, 3);
    close_ok(session);
    /* Construction, too. */
    a.fails[CREATE] = BELAY_ABORTED;
    assert_not_made(BELAY_ABORTED, "A does not like create",
                    belay_singular_monitored_session_open(graph, &options, err));
    assert_int_equal(a.counts[CREATE], 2);
    a.fails[CREATE] = BELAY_OK;
    session = belay_singular_monitored_session_open(graph, &options, err);
    assert_made(session);
    assert_int_equal(belay_monitored_session_was_restored(session), 1);
    assert_int_equal(belay_monitored_session_progress(session)->global_step, 1);
    close_ok(session);
    options.checkpoint_filename_with_path = prefix;
    assert_not_made(BELAY_INVALID_ARGUMENT, "Can not provide both",
                    belay_singular_monitored_session_open(graph, &options, err));
    options.checkpoint_dir = NULL;
    session = belay_singular_monitored_session_open(graph, &options, err);
    assert_made(session);
    assert_int_equal(belay_monitored_session_progress(session)->global_step, 1);
    close_ok(session);
    belay_saver_free(saver);
    belay_hook_free(hook);
    belay_graph_free(graph);
}

/* ---- creators ---- */

struct init {
    int calls;
};

static belay_code count_init(void *self, belay_scaffold *scaffold, belay_session *session,
                             belay_error *error) {
    (void)scaffold;
    (void)session;
    (void)error;
    ((struct init *)self)->calls++;
    return BELAY_OK;
}

/* CR-03, CR-06, CR-09, MS-18: one creator for several sessions, its scaffold's pieces used.
 */
static void test_chief_session_creator__makes_sessions_of_one_scaffold(void **state) {
    (void)state;
    struct init init = {0};
    const char *folder = work_folder("chief");
    belay_graph *graph = load("tiny.meta");
    belay_scaffold_options pieces = BELAY_SCAFFOLD_OPTIONS_INIT;
    pieces.init_fn = count_init;
    pieces.init_self = &init;
    belay_scaffold *scaffold = belay_scaffold_new(graph, &pieces, err);
    assert_made(scaffold);
    belay_chief_session_creator_options chief = BELAY_CHIEF_SESSION_CREATOR_OPTIONS_INIT;
    chief.scaffold = scaffold;
    chief.checkpoint_dir = folder;
    belay_monitored_session_options options = BELAY_MONITORED_SESSION_OPTIONS_INIT;
    options.creator = belay_chief_session_creator_new(graph, &chief, err);
    assert_made(options.creator);
    belay_scaffold_free(scaffold);
    for (int i = 0; i < 2; i++) {
        belay_monitored_session *session = belay_monitored_session_open(graph, &options, err);
        assert_made(session);
        assert_int_equal(init.calls, i + 1);
        close_ok(session);
    }
    belay_session_creator_free(options.creator);
    chief.scaffold = NULL;
    chief.prepare_flags = BELAY_PREPARE_REQUIRE_CHECKPOINT;
    options.creator = belay_chief_session_creator_new(graph, &chief, err);
    assert_made(options.creator);
    assert_not_made(BELAY_NOT_FOUND, "there is no checkpoint in",
                    belay_monitored_session_open(graph, &options, err));
    belay_session_creator_free(options.creator);
    assert_folder(folder, "");
    belay_graph_free(graph);
}

/* CR-04, CR-05, BUG-24: in this process nobody else initialises, so it waits in vain. */
static void test_worker_session_creator__waits_for_the_chief(void **state) {
    (void)state;
    belay_graph *graph = load("tiny.meta");
    belay_worker_session_creator_options worker = BELAY_WORKER_SESSION_CREATOR_OPTIONS_INIT;
    worker.max_wait_secs = 0.3;
    worker.recovery_wait_secs = 0.1;
    belay_monitored_session_options options = BELAY_MONITORED_SESSION_OPTIONS_INIT;
    options.creator = belay_worker_session_creator_new(graph, &worker, err);
    assert_made(options.creator);
    int64_t started = bly_now_ms();
    assert_not_made(BELAY_DEADLINE_EXCEEDED, "Session was not ready after waiting 0 secs.",
                    belay_monitored_session_open(graph, &options, err));
    assert_in_range(bly_now_ms() - started, 290, 5000);
    belay_session_creator_free(options.creator);
    belay_graph_free(graph);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup(name, new_trace)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_step__flushes_denormals_in_either_thread),
        TEST(test_monitored_session__calls_hooks_in_their_order),
        TEST(test_monitored_session_open__has_defaults_for_everything),
        TEST(test_monitored_session_open__checks_its_options),
        TEST(test_monitored_session_calls__pass_an_earlier_error_on),
        TEST(test_close__returns_the_error_of_a_step_that_could_not_be_prepared),
        TEST(test_hook__that_fails_ends_the_session_as_far_as_it_got),
        TEST(test_hook__that_is_unavailable_in_begin_or_end_is_not_asked_again),
        TEST(test_close__returns_the_first_error_of_end_and_chains_the_others),
        TEST(test_open__is_not_ended_cleanly_by_out_of_range),
        TEST(test_hook__that_asks_to_stop_lets_the_run_finish_and_no_other_begin),
        TEST(test_hook__that_asked_to_stop_is_heard_though_the_run_fails),
        TEST(test_request_stop__ends_the_loop_and_forbids_no_step),
        TEST(test_close__returns_the_error_of_the_step_that_failed),
        TEST(test_close__ends_cleanly_where_the_input_ended),
        TEST(test_open__starts_queue_runners_before_after_create_session),
        TEST(test_close__returns_what_a_helper_thread_reported),
        TEST(test_close__keeps_the_steps_error_first),
        TEST(test_step_run__reports_the_preemption_behind_an_error),
        TEST(test_close__does_not_wait_longer_than_the_grace_period),
        TEST(test_step_run__merges_what_hooks_fetch),
        TEST(test_step_run__gives_what_a_hook_feeds_to_whoever_fetches_it),
        TEST(test_step_run__refuses_a_feed_that_is_there_already),
        TEST(test_run_context__refuses_an_output_of_another_graph),
        TEST(test_run_context__takes_fetches_in_before_run_only),
        TEST(test_run_context__refuses_an_output_that_is_not_there),
        TEST(test_step_run__hands_out_what_was_fetched_whatever_hooks_run),
        TEST(test_hook__is_called_when_it_wants_to_be),
        TEST(test_hook_new__destroys_what_it_was_given_whatever_happens),
        TEST(test_singular__gives_its_raw_session_and_recovers_from_nothing),
        TEST(test_chief_session_creator__makes_sessions_of_one_scaffold),
        TEST(test_worker_session_creator__waits_for_the_chief),
    };
    int failed = cmocka_run_group_tests(tests, session_run_set_up, session_run_tear_down);
    bly_buf_free(&trace);
    return failed;
}
