/* What a hook is called for, and what it may ask: section HK-RUN of the behaviour. */
#include "hooks_fixture.h"

#define FEEDS                                                                                      \
    "x = Placeholder() dtype=float shape=[]\n"                                                     \
    "y = Identity(x) T=float\n"                                                                    \
    "pi = Const() dtype=double value=3.5\n"

/* ---- a hook that writes down its calls ---- */

static char calls[4096];

typedef struct recorder {
    const char *name;
    const char *fetch[3]; /* in before_run */
    const char *feed;     /* in before_run; the tensor is `value` */
    belay_tensor *value;
    const char *fails_in; /* callback that fails */
    belay_code code;      /* with this; 0: INTERNAL */
    int fail_times;       /* so often; 0: always */
    const char *stops_in; /* callback that asks to stop */
    belay_output outputs[3], fed;
    double values[3]; /* what was fetched */
    int value_missing;
    belay_run_context *before_context, *after_context;
    uint32_t saw_stop; /* in after_run, of those before */
    int destroyed;
    int failed;
    const char *fills_in;  /* callback that fills err and returns BELAY_OK */
    belay_code other_code; /* what is returned in place of the code in err; 0: that */
    int runs_raw;          /* op `train` once more on the raw session, in after_run */
} recorder;

static belay_code note(recorder *r, const char *what, belay_error *err) {
    size_t len = strlen(calls);
    snprintf(calls + len, sizeof calls - len, "%s%s.%s", len ? " " : "", r->name, what);
    if (r->fails_in && strcmp(r->fails_in, what) == 0 &&
        (r->fail_times == 0 || r->failed++ < r->fail_times)) {
        belay_error_set(err, r->code ? r->code : BELAY_INTERNAL, "the hook says no");
        return r->other_code ? r->other_code : belay_error_code(err);
    }
    assert_int_equal(belay_error_code(err), BELAY_OK); /* nobody else's */
    if (r->fills_in && strcmp(r->fills_in, what) == 0)
        belay_error_set(err, BELAY_UNAVAILABLE, "went on");
    return BELAY_OK;
}

static belay_code on_begin(void *self, belay_graph *graph, belay_error *err) {
    recorder *r = self;
    assert_false(belay_graph_is_finalized(graph)); /* HK-RUN-02 */
    for (int i = 0; i < 3 && r->fetch[i]; i++)
        assert_int_equal(belay_graph_find_output(graph, r->fetch[i], &r->outputs[i], err),
                         BELAY_OK);
    if (r->feed)
        assert_int_equal(belay_graph_find_output(graph, r->feed, &r->fed, err), BELAY_OK);
    return note(r, "begin", err);
}

static belay_code on_create(void *self, belay_session *session, belay_coordinator *coordinator,
                            belay_error *err) {
    assert_true(belay_graph_is_finalized(belay_session_graph(session)));
    assert_false(belay_coordinator_should_stop(coordinator));
    return note(self, "create", err);
}

static belay_code on_before(void *self, belay_run_context *run, belay_error *err) {
    recorder *r = self;
    belay_code code = note(r, "before", err);
    r->before_context = run;
    for (int i = 0; code == BELAY_OK && i < 3 && r->fetch[i]; i++)
        code = belay_run_context_fetch(run, r->outputs[i], err);
    if (code == BELAY_OK && r->feed)
        code = belay_run_context_feed(run, r->fed, r->value, err);
    if (r->stops_in && strcmp(r->stops_in, "before") == 0)
        belay_run_context_request_stop(run);
    return code;
}

static belay_code on_after(void *self, belay_run_context *run, belay_error *err) {
    recorder *r = self;
    r->after_context = run;
    r->saw_stop = belay_run_context_stop_requested(run);
    for (size_t i = 0; i < 3; i++) {
        const belay_tensor *value = belay_run_context_value(run, i);
        r->values[i] = value ? belay_tensor_number(value, 0) : -1;
        r->value_missing |= !value != !r->fetch[i];
    }
    if (r->stops_in && strcmp(r->stops_in, "after") == 0)
        belay_run_context_request_stop(run);
    if (r->runs_raw)
        assert_int_equal(belay_session_run(belay_run_context_session(run), NULL, NULL, NULL, NULL,
                                           (const char *[]){"train", NULL}, NULL, err),
                         BELAY_OK);
    return note(r, "after", err);
}

static belay_code on_end(void *self, belay_session *session, belay_error *err) {
    assert_non_null(session);
    return note(self, "end", err);
}

static void on_destroy(void *self) {
    ((recorder *)self)->destroyed++;
}

static belay_hook *record(fixture *f, recorder *r, const char *name) {
    static const belay_hook_vtable table = {
        .struct_size = sizeof table,
        .begin = on_begin,
        .after_create_session = on_create,
        .before_run = on_before,
        .after_run = on_after,
        .end = on_end,
        .destroy = on_destroy,
    };
    r->name = name;
    return add_hook(f, belay_hook_new(&table, r, f->err));
}

/* Opens with the recorders of a test, which were added, and forgets what they wrote so far. */
static void open_quietly(fixture *f) {
    calls[0] = '\0';
    open_session(f);
    calls[0] = '\0';
}

static belay_step *prepare(fixture *f, const char *const *feeds, const char *const *fetches) {
    belay_step *step =
        belay_step_prepare(f->session, feeds, fetches, (const char *[]){"train", NULL}, f->err);
    if (!step)
        fail_msg("%s", belay_error_message(f->err));
    return step;
}

static belay_tensor *number(float value) {
    belay_tensor *tensor = belay_tensor_new(BELAY_FLOAT, NULL, 0, NULL);
    assert_non_null(tensor);
    memcpy(belay_tensor_data(tensor), &value, sizeof value);
    return tensor;
}

/* ---- which calls ---- */

static void test_hook__has_no_callback_that_it_must_have__HK_RUN_01(void **state) {
    fixture *f = *state;
    static const belay_hook_vtable empty = {.struct_size = sizeof empty};
    use_graph(f, MODEL);
    add_hook(f, belay_hook_new(&empty, NULL, f->err));
    open_session(f);
    run_steps(f, 3);
    close_session(f);
}

/* HK-RUN-01, HK-RUN-02 (asserted in the callbacks), HK-RUN-03, MS-02 */
static void test_hook__is_called_at_each_point_of_a_life__HK_RUN_01(void **state) {
    fixture *f = *state;
    static recorder a;
    a = (recorder){0};
    use_graph(f, MODEL);
    record(f, &a, "a");
    calls[0] = '\0';
    open_session(f);
    assert_string_equal(calls, "a.begin a.create");
    run_steps(f, 2);
    close_session(f);
    assert_string_equal(calls, "a.begin a.create a.before a.after a.before a.after a.end");
    assert_int_equal(a.destroyed, 0);
    free_hooks(f);
    assert_int_equal(a.destroyed, 1);
}

static void test_hook__hears_of_each_session__HK_RUN_03(void **state) {
    fixture *f = *state;
    static recorder a;
    a = (recorder){0};
    use_graph(f, MODEL);
    record(f, &a, "a");
    scripted_fail("train", 2, BELAY_ABORTED, "worker restarted");
    open_quietly(f);
    run_steps(f, 2);
    assert_string_equal(calls, "a.before a.after a.before a.create a.before a.after");
    close_session(f);
    free_hooks(f);
}

/* A run that is repeated is done at least once, so a step may count twice; and only
 * after_create_session() can start threads on the new coordinator. Both are said. */
static void test_recovery__says_what_it_may_have_changed__BUG_69_BUG_70(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL);
    scripted_fail("train", 3, BELAY_UNAVAILABLE, "Socket closed");
    open_session(f);
    belay_coordinator *before = belay_monitored_session_coordinator(f->session);
    assert_non_null(before);
    run_steps(f, 3);
    assert_int_equal(count_log(BELAY_LOG_WARNING, "recovered: "), 1);
    assert_string_equal(log_with("recovered: ", 0),
                        "recovered: a new session is ready at step 0 (the old one was at 2). The "
                        "run that failed is repeated, and counts twice where its effects were "
                        "kept. Threads that were started on the old coordinator have been stopped");
    assert_int_equal(global_step(f), 1);
    close_session(f);
}

static void test_hooks__are_called_in_order__HK_RUN_04(void **state) {
    fixture *f = *state;
    static recorder a, b;
    a = (recorder){0};
    b = (recorder){0};
    use_graph(f, MODEL);
    record(f, &a, "a");
    record(f, &b, "b");
    open_quietly(f);
    run_steps(f, 1);
    close_session(f);
    assert_string_equal(calls, "a.before b.before a.after b.after a.end b.end"); /* MS-07 */
    free_hooks(f);
}

static void test_hook__hears_nothing_after_a_failed_run__HK_RUN_05(void **state) {
    fixture *f = *state;
    static recorder a;
    a = (recorder){0};
    use_graph(f, MODEL);
    record(f, &a, "a");
    scripted_fail("train", 1, BELAY_INTERNAL, "broken");
    open_quietly(f);
    assert_int_equal(run_once(f), BELAY_INTERNAL);
    assert_int_equal(try_close(f), BELAY_INTERNAL);
    assert_string_equal(calls, "a.before"); /* neither after_run nor end: MS-11 */
    free_hooks(f);
}

static void test_hook__ends_where_the_input_ends__HK_RUN_06(void **state) {
    fixture *f = *state;
    static recorder a;
    a = (recorder){0};
    use_graph(f, MODEL);
    record(f, &a, "a");
    scripted_fail("train", 1, BELAY_OUT_OF_RANGE, "End of sequence");
    open_quietly(f);
    assert_int_equal(run_once(f), BELAY_OUT_OF_RANGE);
    close_session(f);
    assert_string_equal(calls, "a.before a.end");
    free_hooks(f);
}

static void test_hook__error_before_a_run_prevents_it__HK_RUN_07(void **state) {
    fixture *f = *state;
    static recorder a, b;
    a = (recorder){.fails_in = "before"};
    b = (recorder){0};
    use_graph(f, MODEL);
    record(f, &a, "a");
    record(f, &b, "b");
    open_quietly(f);
    size_t runs = scripted_run_count();
    assert_int_equal(run_once(f), BELAY_INTERNAL);
    assert_string_equal(belay_error_message(f->err), "the hook says no");
    assert_int_equal(belay_error_origin(f->err), BELAY_ORIGIN_HOOK);
    assert_int_equal(scripted_run_count(), runs);
    assert_string_equal(calls, "a.before");
    try_close(f);
    free_hooks(f);
}

static void test_hook__error_after_a_run_is_the_runs__HK_RUN_08(void **state) {
    fixture *f = *state;
    static recorder a, b;
    a = (recorder){.fails_in = "after"};
    b = (recorder){0};
    use_graph(f, MODEL);
    record(f, &a, "a");
    record(f, &b, "b");
    open_quietly(f);
    assert_int_equal(run_once(f), BELAY_INTERNAL);
    assert_string_equal(belay_error_message(f->err), "the hook says no");
    assert_string_equal(calls, "a.before b.before a.after");
    assert_int_equal(scripted_count("train"), 1);
    try_close(f);
    free_hooks(f);
}

/* MS-04 */
static void test_hook__error_in_begin_ends_the_opening__MS_04(void **state) {
    fixture *f = *state;
    static recorder a, b, c;
    a = (recorder){0};
    b = (recorder){.fails_in = "begin"};
    c = (recorder){0};
    use_graph(f, MODEL);
    record(f, &a, "a");
    record(f, &b, "b");
    record(f, &c, "c");
    calls[0] = '\0';
    assert_int_equal(try_open(f), BELAY_INTERNAL);
    assert_string_equal(calls, "a.begin b.begin");
    assert_int_equal(scripted_count("TF_NewSession"), 0);
    free_hooks(f);
    assert_int_equal(a.destroyed + b.destroyed + c.destroyed, 3);
}

/* MS-08 is TensorFlow's: there b's end is not called. */
static void test_hooks__all_end_although_one_fails__BUG_08(void **state) {
    fixture *f = *state;
    static recorder a, b;
    a = (recorder){.fails_in = "end"};
    b = (recorder){.fails_in = "end", .code = BELAY_UNKNOWN};
    use_graph(f, MODEL);
    record(f, &a, "a");
    record(f, &b, "b");
    open_quietly(f);
    assert_int_equal(try_close(f), BELAY_INTERNAL);
    assert_string_equal(calls, "a.end b.end");
    assert_int_equal(belay_error_chained_count(f->err), 1);
    free_hooks(f);
}

static void test_hook__a_lost_task_after_creation_starts_it_again__WS_24(void **state) {
    fixture *f = *state;
    static recorder a, b;
    a = (recorder){.fails_in = "create", .code = BELAY_UNAVAILABLE, .fail_times = 1};
    b = (recorder){0};
    use_graph(f, MODEL);
    record(f, &a, "a");
    record(f, &b, "b");
    calls[0] = '\0';
    open_session(f);
    assert_string_equal(calls, "a.begin b.begin a.create a.create b.create");
    close_session(f);
    free_hooks(f);
}

static void test_hook__another_error_after_creation_ends_it__WS_24(void **state) {
    fixture *f = *state;
    static recorder a;
    a = (recorder){.fails_in = "create"};
    use_graph(f, MODEL);
    record(f, &a, "a");
    calls[0] = '\0';
    assert_int_equal(try_open(f), BELAY_INTERNAL);
    assert_string_equal(calls, "a.begin a.create"); /* and no end: BUG-76 */
    free_hooks(f);
}

/* ---- stopping ---- */

/* HK-RUN-09, HK-RUN-10: all hooks of a run have one context, and see what is asked there. */
static void test_hook__sees_what_another_asked_for__HK_RUN_10(void **state) {
    fixture *f = *state;
    static recorder a, b;
    a = (recorder){.stops_in = "before"};
    b = (recorder){0};
    use_graph(f, MODEL);
    record(f, &a, "a");
    record(f, &b, "b");
    open_quietly(f);
    run_steps(f, 1);
    assert_ptr_equal(a.before_context, b.before_context);
    assert_ptr_equal(a.before_context, b.after_context);
    assert_true(b.saw_stop); /* HK-RUN-09 */
    close_session(f);
    free_hooks(f);
}

static void test_hook__stop_comes_after_the_run__HK_RUN_11(void **state) {
    fixture *f = *state;
    static recorder a, b;
    a = (recorder){.stops_in = "before"};
    b = (recorder){0};
    use_graph(f, MODEL);
    record(f, &a, "a");
    record(f, &b, "b");
    open_quietly(f);
    assert_false(belay_monitored_session_should_stop(f->session));
    run_steps(f, 1);
    assert_string_equal(calls, "a.before b.before a.after b.after");
    assert_int_equal(scripted_count("train"), 1);
    assert_true(belay_monitored_session_should_stop(f->session)); /* WS-18 */
    close_session(f);
    free_hooks(f);
}

/* ER-25 */
static void test_hook__after_its_stop_nothing_runs__WS_17(void **state) {
    fixture *f = *state;
    static recorder a;
    a = (recorder){.stops_in = "after"};
    use_graph(f, MODEL);
    record(f, &a, "a");
    open_quietly(f);
    run_steps(f, 1);
    assert_int_equal(run_once(f), BELAY_FAILED_PRECONDITION);
    assert_string_equal(belay_error_message(f->err),
                        "Run called even after should_stop requested.");
    assert_int_equal(scripted_count("train"), 1);
    assert_int_equal(try_close(f), BELAY_FAILED_PRECONDITION);
    free_hooks(f);
}

static void test_hook__stop_is_not_lost_by_a_later_error__BUG_11(void **state) {
    fixture *f = *state;
    static recorder a, b;
    a = (recorder){.stops_in = "after"};
    b = (recorder){.fails_in = "after", .fail_times = 1};
    use_graph(f, MODEL);
    record(f, &a, "a");
    record(f, &b, "b");
    open_quietly(f);
    assert_int_equal(run_once(f), BELAY_INTERNAL);
    assert_int_equal(run_once(f), BELAY_FAILED_PRECONDITION);
    try_close(f);
    free_hooks(f);
}

static void test_hook__stop_is_not_lost_by_a_failed_run__BUG_78(void **state) {
    fixture *f = *state;
    static recorder a;
    a = (recorder){.stops_in = "before"};
    use_graph(f, MODEL);
    record(f, &a, "a");
    scripted_fail("train", 1, BELAY_INTERNAL, "broken");
    open_quietly(f);
    assert_int_equal(run_once(f), BELAY_INTERNAL);
    assert_int_equal(run_once(f), BELAY_FAILED_PRECONDITION);
    try_close(f);
    free_hooks(f);
}

/* ---- the raw session ---- */

static void test_hook__raw_runs_call_no_hooks__HK_RUN_12(void **state) {
    fixture *f = *state;
    static recorder a;
    a = (recorder){.runs_raw = 1};
    use_graph(f, MODEL);
    record(f, &a, "a");
    open_quietly(f);
    run_steps(f, 1);
    assert_string_equal(calls, "a.before a.after");
    assert_int_equal(scripted_count("train"), 2);
    close_session(f);
    free_hooks(f);
}

/* ---- fetches ---- */

/* HK-RUN-13, HK-RUN-15, HK-RUN-16 */
static void test_hooks__fetches_go_to_who_asked__HK_RUN_15(void **state) {
    fixture *f = *state;
    static recorder a, b, c;
    a = (recorder){.fetch = {"pi", "loss"}};
    b = (recorder){.fetch = {"loss", "pi", "loss"}};
    c = (recorder){0};
    use_graph(f, MODEL LOSS FEEDS);
    record(f, &a, "a");
    record(f, &b, "b");
    record(f, &c, "c");
    open_quietly(f);
    belay_step *step = prepare(f, NULL, (const char *[]){"pi", NULL});
    belay_tensor *pi = NULL;
    assert_ok(f, belay_step_run(step, NULL, &pi, f->err));
    assert_true(belay_tensor_number(pi, 0) == 3.5); /* HK-RUN-16 */
    assert_true(a.values[0] == 3.5 && a.values[1] == 0.5);
    assert_true(b.values[0] == 0.5 && b.values[1] == 3.5 && b.values[2] == 0.5);
    assert_false(a.value_missing || b.value_missing || c.value_missing);
    belay_tensor_free(pi);
    close_session(f);
    free_hooks(f);
}

static void test_hooks__fetches_are_one_run__HK_RUN_14(void **state) {
    fixture *f = *state;
    static recorder a, b;
    a = (recorder){.fetch = {"pi", "loss"}};
    b = (recorder){.fetch = {"loss"}};
    use_graph(f, MODEL LOSS FEEDS);
    record(f, &a, "a");
    record(f, &b, "b");
    open_quietly(f);
    size_t runs = scripted_run_count();
    run_steps(f, 3);
    assert_int_equal(scripted_run_count(), runs + 3);
    assert_int_equal(scripted_count("loss"), 3);
    close_session(f);
    free_hooks(f);
}

/* HK-RUN-27 is TensorFlow's: of a hook that is listed twice only the last fetches are kept. */
static void test_hooks__one_listed_twice_gets_both_fetches__BUG_42(void **state) {
    fixture *f = *state;
    static recorder a;
    a = (recorder){.fetch = {"pi", "loss"}};
    use_graph(f, MODEL LOSS FEEDS);
    belay_hook *hook = record(f, &a, "a");
    f->hooks[f->hook_count++] = hook;
    open_quietly(f);
    run_steps(f, 1);
    assert_string_equal(calls, "a.before a.before a.after a.after");
    assert_false(a.value_missing);
    assert_true(a.values[0] == 3.5 && a.values[1] == 0.5);
    close_session(f);
    f->hook_count--;
    free_hooks(f);
}

static void test_hook__fetch_of_what_is_fed_is_the_feed__BUG_67(void **state) {
    fixture *f = *state;
    static recorder a;
    a = (recorder){.fetch = {"x", "y"}};
    use_graph(f, MODEL FEEDS);
    record(f, &a, "a");
    open_quietly(f);
    belay_step *step = prepare(f, (const char *[]){"x", NULL}, NULL);
    belay_tensor *x = number(2.25f);
    assert_ok(f, belay_step_run(step, &x, NULL, f->err));
    assert_true(a.values[0] == 2.25 && a.values[1] == 2.25);
    /* TensorFlow itself would refuse it: x is named once, as a feed. */
    const char *line = scripted_run_line(scripted_run_count() - 1);
    const char *feed = strstr(line, "feed x:0");
    assert_non_null(feed);
    assert_ptr_equal(strstr(line, "x:0"), feed + strlen("feed "));
    belay_tensor_free(x);
    close_session(f);
    free_hooks(f);
}

/* ---- feeds ---- */

static void test_hook__may_feed__HK_RUN_13(void **state) {
    fixture *f = *state;
    static recorder a;
    a = (recorder){.feed = "x", .value = number(1.25f)};
    use_graph(f, MODEL FEEDS);
    record(f, &a, "a");
    open_quietly(f);
    belay_step *step = prepare(f, NULL, (const char *[]){"y", NULL});
    belay_tensor *y = NULL;
    assert_ok(f, belay_step_run(step, NULL, &y, f->err));
    assert_true(belay_tensor_number(y, 0) == 1.25);
    belay_tensor_free(y);
    belay_tensor_free(a.value);
    close_session(f);
    free_hooks(f);
}

/* ER-27; BUG-41, HK-RUN-21: by what they are, not by how they are spelled. */
static void test_hooks__two_cannot_feed_one_tensor__HK_RUN_18(void **state) {
    fixture *f = *state;
    static recorder a, b;
    a = (recorder){.feed = "x", .value = number(1)};
    b = (recorder){.feed = "x:0", .value = number(2)};
    use_graph(f, MODEL FEEDS);
    record(f, &a, "a");
    record(f, &b, "b");
    open_quietly(f);
    assert_int_equal(run_once(f), BELAY_INVALID_ARGUMENT);
    assert_string_equal(belay_error_message(f->err),
                        "Same tensor is fed by two hooks. Conflict: x:0");
    assert_int_equal(scripted_count("train"), 0);
    belay_tensor_free(a.value);
    belay_tensor_free(b.value);
    try_close(f);
    free_hooks(f);
}

/* The code that is returned counts, and what the hook says is kept (HK-RUN-07, HK-RUN-08, BUG-08).
 */
static void test_hook__its_text_is_kept_whatever_code_it_returns(void **state) {
    fixture *f = *state;
    static const char *const slots[] = {"begin", "create", "before", "after", "end"};
    static const char *const names[] = {"begin", "after_create_session", "before_run", "after_run",
                                        "end"};
    for (int i = 0; i < 5; i++) {
        static recorder a;
        char text[128];
        a = (recorder){.fails_in = slots[i], .code = BELAY_NOT_FOUND, .other_code = BELAY_INTERNAL};
        use_graph(f, MODEL);
        record(f, &a, "a");
        calls[0] = '\0';
        belay_code code = try_open(f);
        if (f->session && i < 4)
            code = run_once(f);
        else if (f->session)
            code = try_close(f);
        snprintf(text, sizeof text, "%s of hook number 0 failed: the hook says no", names[i]);
        assert_int_equal(code, BELAY_INTERNAL);
        assert_string_equal(belay_error_message(f->err), text);
        try_close(f);
        free_hooks(f);
    }
}

/* Nor does the next hook find it, nor the run (HK-RUN-04). */
static void test_hook__what_it_filled_and_did_not_return_is_forgotten(void **state) {
    fixture *f = *state;
    static const char *const slots[] = {"create", "before", "after", "end"};
    for (int i = 0; i < 4; i++) {
        static recorder a, b;
        a = (recorder){.fills_in = slots[i]};
        b = (recorder){0}; /* note() looks */
        use_graph(f, MODEL);
        record(f, &a, "a");
        record(f, &b, "b");
        open_quietly(f);
        assert_ok(f, run_once(f));
        assert_int_equal(belay_error_code(f->err), BELAY_OK);
        close_session(f);
        assert_string_equal(calls, "a.before b.before a.after b.after a.end b.end");
        free_hooks(f);
    }
}

/* ER-27, BUG-41 */
static void test_hook__cannot_feed_what_the_caller_feeds__HK_RUN_19(void **state) {
    fixture *f = *state;
    static recorder a, b;
    b = (recorder){0};
    a = (recorder){.feed = "x:0", .value = number(1)};
    use_graph(f, MODEL FEEDS);
    record(f, &a, "a");
    record(f, &b, "b");
    open_quietly(f);
    belay_step *step = prepare(f, (const char *[]){"x", NULL}, NULL);
    belay_tensor *x = number(2);
    assert_int_equal(belay_step_run(step, &x, NULL, f->err), BELAY_INVALID_ARGUMENT);
    assert_string_equal(belay_error_message(f->err),
                        "Same tensor is fed by a SessionRunHook and user. Conflict: x:0");
    assert_string_equal(calls, "a.before b.before"); /* all are asked first */
    assert_int_equal(scripted_count("train"), 0);
    belay_tensor_free(x);
    belay_tensor_free(a.value);
    try_close(f);
    free_hooks(f);
}

/* A step is the caller's: what a hook feeds in one run is not there in the next. */
static void test_hook__feeds_for_one_run_only__HK_RUN_20(void **state) {
    fixture *f = *state;
    static recorder a;
    a = (recorder){.feed = "x", .value = number(1.25f)};
    use_graph(f, MODEL FEEDS);
    record(f, &a, "a");
    open_quietly(f);
    belay_step *step = prepare(f, NULL, (const char *[]){"y", NULL});
    belay_tensor *y = NULL;
    assert_ok(f, belay_step_run(step, NULL, &y, f->err));
    assert_non_null(strstr(scripted_run_line(scripted_run_count() - 1), "feed x"));
    a.feed = NULL;
    belay_step_run(step, NULL, &y, f->err);
    assert_null(strstr(scripted_run_line(scripted_run_count() - 1), "feed x"));
    belay_tensor_free(y);
    belay_tensor_free(a.value);
    try_close(f);
    free_hooks(f);
}

static belay_code fetch_too_late(void *self, belay_run_context *run, belay_error *err) {
    return belay_run_context_fetch(run, *(belay_output *)self, err);
}

static void test_hook__cannot_ask_after_the_run(void **state) {
    fixture *f = *state;
    belay_output loss;
    belay_hook_vtable table = {.struct_size = sizeof table, .after_run = fetch_too_late};
    use_graph(f, MODEL LOSS);
    assert_ok(f, belay_graph_find_output(f->graph, "loss", &loss, f->err));
    add_hook(f, belay_hook_new(&table, &loss, f->err));
    open_session(f);
    assert_int_equal(run_once(f), BELAY_FAILED_PRECONDITION);
    try_close(f);
}

/* ---- when ---- */

static belay_when wish;
static char when_calls[256];

static void want(void *self, const belay_progress *now, belay_when *out) {
    (void)self, (void)now;
    *out = wish;
}

static belay_code wanted_before(void *self, belay_run_context *run, belay_error *err) {
    size_t len = strlen(when_calls);
    (void)self, (void)err;
    snprintf(when_calls + len, sizeof when_calls - len, " b%lld",
             (long long)belay_run_context_progress(run)->runs);
    return BELAY_OK;
}

static belay_code wanted_after(void *self, belay_run_context *run, belay_error *err) {
    size_t len = strlen(when_calls);
    (void)self, (void)err;
    snprintf(when_calls + len, sizeof when_calls - len, " a%lld",
             (long long)belay_run_context_progress(run)->global_step);
    wish = (belay_when){BELAY_NEVER, BELAY_NEVER, BELAY_NEVER, BELAY_NEVER, BELAY_NEVER};
    return BELAY_OK;
}

/* Calls in seven steps, the first of them numbered 0, that start at global step 10 and take a
 * second each. */
static const char *calls_for(fixture *f, belay_when asked) {
    static const belay_hook_vtable table = {.struct_size = sizeof table,
                                            .before_run = wanted_before,
                                            .after_run = wanted_after,
                                            .next_wanted = want};
    wish = asked;
    when_calls[0] = '\0';
    if (!f->graph) {
        use_graph(f, MODEL);
        scripted_value("global_step/zero", 0, 10);
        add_hook(f, belay_hook_new(&table, NULL, f->err));
    }
    int64_t now = stepped_clock_now_ms();
    if (wish.time_ms != BELAY_NEVER)
        wish.time_ms += now;
    if (wish.at_time_ms != BELAY_NEVER)
        wish.at_time_ms += now;
    open_session(f);
    run_steps_every(f, 7, 1000);
    close_session(f);
    return when_calls;
}

/* HK-RUN-04 lets every hook be called around every run; one that says when is called then. */
static void test_hook__says_when_it_is_called(void **state) {
    fixture *f = *state;
    const int64_t no = BELAY_NEVER;
    assert_string_equal(calls_for(f, (belay_when){no, no, no, no, no}), "");
    assert_string_equal(calls_for(f, (belay_when){3, no, no, no, no}), " b3 a14");
    assert_string_equal(calls_for(f, (belay_when){no, 12, no, no, no}), " b2 a13");
    assert_string_equal(calls_for(f, (belay_when){no, no, 12, no, no}), " a12");
    assert_string_equal(calls_for(f, (belay_when){no, no, no, 5000, no}), " b4 a15");
    assert_string_equal(calls_for(f, (belay_when){5, 12, 14, no, no}), " b2 a13");
    assert_string_equal(calls_for(f, (belay_when){no, no, no, no, 3000}), " a13");
}

/* ---- hooks that call the session ---- */

/* What a hook's function gets that runs, or closes, the session it belongs to. */
typedef struct meddler {
    fixture *f;
    belay_step *step;
    belay_monitored_session *session; /* once it is open */
    int calls, refused;
} meddler;

static void meddle(meddler *m) {
    BLY_LOCAL_ERROR(mine);
    if (!m->session)
        return;
    m->calls++;
    m->refused += belay_step_run(m->step, NULL, NULL, &mine) == BELAY_FAILED_PRECONDITION;
    m->refused += belay_monitored_session_close(m->session, &mine) == BELAY_FAILED_PRECONDITION;
}

static void meddle_in_next_wanted(void *self, const belay_progress *now, belay_when *out) {
    out->runs = now->runs;
    meddle(self);
}

static void meddle_in_destroy(void *self) {
    meddler *m = self;
    meddle(m);
    /* What can be asked is answered. */
    assert_true(belay_monitored_session_should_stop(m->session));
    assert_null(belay_monitored_session_coordinator(m->session));
    assert_non_null(
        belay_step_prepare(m->session, NULL, NULL, (const char *[]){"train", NULL}, NULL));
}

static void test_hook__cannot_run_the_session_wherever_it_is_called__BUG_09(void **state) {
    fixture *f = *state;
    static meddler m;
    static const belay_hook_vtable table = {.struct_size = sizeof table,
                                            .next_wanted = meddle_in_next_wanted,
                                            .destroy = meddle_in_destroy};
    m = (meddler){.f = f};
    use_graph(f, MODEL);
    add_hook(f, belay_hook_new(&table, &m, f->err));
    open_session(f);
    free_hooks(f); /* so that closing destroys it */
    m.session = f->session;
    m.step = f->step;
    run_steps(f, 2);
    assert_int_equal(m.calls, 2);
    close_session(f);
    assert_int_equal(m.calls, 3);
    assert_int_equal(m.refused, 6);
    assert_int_equal(scripted_count("train"), 2);
}

static belay_code fill_and_go_on(void *self, belay_session *session, belay_coordinator *coordinator,
                                 belay_error *err) {
    (void)self, (void)session, (void)coordinator;
    belay_error_set(err, BELAY_NOT_FOUND, "looked for something, and did without");
    return BELAY_OK;
}

/* What a hook returns is what counts, not what it left in `err`. */
static void test_hook__may_go_on_after_an_error__WS_24(void **state) {
    fixture *f = *state;
    static const belay_hook_vtable table = {.struct_size = sizeof table,
                                            .after_create_session = fill_and_go_on};
    use_graph(f, MODEL);
    add_hook(f, belay_hook_new(&table, NULL, f->err));
    open_session(f);
    run_steps(f, 1);
    close_session(f);
}

static belay_code stop_before(void *self, belay_run_context *run, belay_error *err) {
    (void)self, (void)run;
    return belay_error_set(err, BELAY_STOPPED, "enough");
}

/* should_stop is 1 then, and there is a reason. */
static void test_end_reason__of_a_hook_that_returns_STOPPED__HK_RUN_07(void **state) {
    fixture *f = *state;
    static const belay_hook_vtable table = {.struct_size = sizeof table, .before_run = stop_before};
    const char *why;
    use_graph(f, MODEL);
    add_hook(f, belay_hook_new(&table, NULL, f->err));
    open_session(f);
    assert_int_equal(run_once(f), BELAY_STOPPED);
    assert_true(belay_monitored_session_should_stop(f->session));
    assert_int_equal(belay_monitored_session_end_reason(f->session, &why), BELAY_END_HOOK);
    assert_string_equal(why, "a hook ended it: enough");
    close_session(f);
}

/* ---- a fetch that counts ---- */

#define COUNTS_TOO                                                                                 \
    "extra = AssignAddVariableOp(global_step, one) dtype=int64\n"                                  \
    "counted = Identity(pi, ^extra) T=double\n"                                                    \
    "trained = Identity(pi, ^train) T=double\n"

/* What a hook fetches may write the global step, beside what the step itself runs: then the step is
 * read after that run, not in it. */
static void test_hook__fetch_that_counts_is_counted__GS_07(void **state) {
    fixture *f = *state;
    static recorder a;
    a = (recorder){.fetch = {"pi", "counted"}};
    use_graph(f, MODEL FEEDS COUNTS_TOO);
    record(f, &a, "a");
    open_session(f);
    for (int i = 1; i <= 5; i++) {
        run_steps(f, 1);
        assert_int_equal(global_step(f), 2 * i);
    }
    close_session(f);
    free_hooks(f);
}

static void test_hook__fetch_that_counts_moves_the_stop__HK_STOP_05(void **state) {
    fixture *f = *state;
    static recorder a;
    belay_stop_at_step_options options = BELAY_STOP_AT_STEP_OPTIONS_INIT;
    a = (recorder){.fetch = {"counted"}};
    use_graph(f, MODEL FEEDS COUNTS_TOO);
    record(f, &a, "a");
    options.last_step = 6;
    add_hook(f, belay_stop_at_step_hook_new(&options, f->err));
    open_session(f);
    assert_int_equal(run_until_stop(f), 3);
    assert_int_equal(global_step(f), 6);
    close_session(f);
    free_hooks(f);
}

/* One that needs only what the step runs anyhow costs no second run. */
static void test_hook__fetch_of_what_the_step_counts_is_one_run__GS_07(void **state) {
    fixture *f = *state;
    static recorder a;
    a = (recorder){.fetch = {"trained", "pi", "global_step/Read"}};
    use_graph(f, MODEL FEEDS COUNTS_TOO);
    record(f, &a, "a");
    open_session(f);
    size_t runs = scripted_run_count();
    run_steps(f, 5);
    assert_int_equal(scripted_run_count(), runs + 5);
    assert_int_equal(global_step(f), 5);
    close_session(f);
    free_hooks(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_hook__has_no_callback_that_it_must_have__HK_RUN_01),
        TEST(test_hook__is_called_at_each_point_of_a_life__HK_RUN_01),
        TEST_WAITING(test_hook__hears_of_each_session__HK_RUN_03),
        TEST_WAITING(test_recovery__says_what_it_may_have_changed__BUG_69_BUG_70),
        TEST(test_hooks__are_called_in_order__HK_RUN_04),
        TEST(test_hook__hears_nothing_after_a_failed_run__HK_RUN_05),
        TEST(test_hook__ends_where_the_input_ends__HK_RUN_06),
        TEST(test_hook__error_before_a_run_prevents_it__HK_RUN_07),
        TEST(test_hook__error_after_a_run_is_the_runs__HK_RUN_08),
        TEST(test_hook__error_in_begin_ends_the_opening__MS_04),
        TEST(test_hooks__all_end_although_one_fails__BUG_08),
        TEST(test_hook__its_text_is_kept_whatever_code_it_returns),
        TEST(test_hook__what_it_filled_and_did_not_return_is_forgotten),
        TEST_WAITING(test_hook__a_lost_task_after_creation_starts_it_again__WS_24),
        TEST(test_hook__another_error_after_creation_ends_it__WS_24),
        TEST(test_hook__sees_what_another_asked_for__HK_RUN_10),
        TEST(test_hook__stop_comes_after_the_run__HK_RUN_11),
        TEST(test_hook__after_its_stop_nothing_runs__WS_17),
        TEST(test_hook__stop_is_not_lost_by_a_later_error__BUG_11),
        TEST(test_hook__stop_is_not_lost_by_a_failed_run__BUG_78),
        TEST(test_hook__raw_runs_call_no_hooks__HK_RUN_12),
        TEST(test_hooks__fetches_go_to_who_asked__HK_RUN_15),
        TEST(test_hooks__fetches_are_one_run__HK_RUN_14),
        TEST(test_hooks__one_listed_twice_gets_both_fetches__BUG_42),
        TEST(test_hook__fetch_of_what_is_fed_is_the_feed__BUG_67),
        TEST(test_hook__may_feed__HK_RUN_13),
        TEST(test_hooks__two_cannot_feed_one_tensor__HK_RUN_18),
        TEST(test_hook__cannot_feed_what_the_caller_feeds__HK_RUN_19),
        TEST(test_hook__feeds_for_one_run_only__HK_RUN_20),
        TEST(test_hook__cannot_ask_after_the_run),
        TEST(test_hook__says_when_it_is_called),
        TEST(test_hook__cannot_run_the_session_wherever_it_is_called__BUG_09),
        TEST(test_hook__may_go_on_after_an_error__WS_24),
        TEST(test_end_reason__of_a_hook_that_returns_STOPPED__HK_RUN_07),
        TEST(test_hook__fetch_that_counts_is_counted__GS_07),
        TEST(test_hook__fetch_that_counts_moves_the_stop__HK_STOP_05),
        TEST(test_hook__fetch_of_what_the_step_counts_is_one_run__GS_07),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
