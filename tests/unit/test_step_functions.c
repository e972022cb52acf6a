/* Step functions, the scoped form, and why a session ends: section SF of the behaviour, and MS-11.
 */
#include "hooks_fixture.h"

#define READ "global_step/Read:0"

/* ---- a step function that does what a test says ---- */

typedef struct script {
    fixture *f;
    int calls;
    int runs;             /* with hooks, in each call */
    int raw_runs;         /* on the raw session, in each call */
    int nested;           /* belay_step_run() of the session itself */
    int asks;             /* whether it should stop */
    int stop_first;       /* asks to stop before anything else */
    int forgets_stop;     /* and returns BELAY_OK */
    belay_code fails[4];  /* call by call, after all else */
    belay_code last;      /* of the last thing that it did */
    uint32_t after_error; /* it goes on after an error, and returns BELAY_OK */
    uint32_t close_code;
    int closes;
} script;

/* SF-02: the function's type says what it gets. */
static belay_code do_it(void *self, belay_step_context *context, belay_error *err) {
    script *s = self;
    fixture *f = s->f;
    int call = s->calls++;
    belay_code code = BELAY_OK;
    if (s->stop_first) {
        code = belay_step_context_request_stop(context, err);
        assert_int_equal(code, BELAY_STOPPED);
        return s->forgets_stop ? BELAY_OK : code;
    }
    if (s->asks)
        assert_int_equal(belay_monitored_session_should_stop(f->session), 1);
    if (s->closes)
        s->close_code = (uint32_t)belay_monitored_session_close(f->session, err);
    for (int i = 0; code == BELAY_OK && i < s->raw_runs; i++)
        code = belay_session_run(belay_step_context_session(context), NULL, NULL, NULL, NULL,
                                 (const char *[]){"train", NULL}, NULL, err);
    for (int i = 0; code == BELAY_OK && i < s->nested; i++)
        code = belay_step_run(f->step, NULL, NULL, err);
    for (int i = 0; code == BELAY_OK && i < s->runs; i++)
        code = belay_step_context_run_with_hooks(context, f->step, NULL, NULL, err);
    s->last = code;
    if (code == BELAY_OK && call < 4 && s->fails[call] != BELAY_OK)
        code = belay_error_set(err, s->fails[call], "the function says no");
    return s->after_error ? BELAY_OK : code;
}

static belay_code run_fn(script *s) {
    belay_error_clear(s->f->err);
    return belay_monitored_session_run_step_fn(s->f->session, do_it, s, s->f->err);
}

static uint32_t should_stop(fixture *f) {
    return belay_monitored_session_should_stop(f->session);
}

/* ---- a hook that counts its calls ---- */

typedef struct counter {
    int begins, creates, befores, afters, ends;
    int stop_at; /* asks to stop in the after_run of this number */
    belay_reaction reaction;
    int asked; /* what to do about an error */
    belay_code asked_about;
    /* What it tries from within its callbacks, and what came of it. */
    fixture *tries;
    belay_code ran, ran_fn, closed;
} counter;

static belay_code fn_nothing(void *self, belay_step_context *context, belay_error *err) {
    (void)self, (void)context, (void)err;
    return BELAY_OK;
}

static void try_everything(counter *c) {
    fixture *f = c->tries;
    BLY_LOCAL_ERROR(err);
    if (!f || !f->session)
        return;
    c->ran = belay_step_run(f->step, NULL, NULL, &err);
    c->ran_fn = belay_monitored_session_run_step_fn(f->session, fn_nothing, NULL, &err);
    c->closed = belay_monitored_session_close(f->session, &err);
}

static belay_code count_begin(void *self, belay_graph *graph, belay_error *err) {
    (void)graph, (void)err;
    ((counter *)self)->begins++;
    return BELAY_OK;
}

static belay_code count_create(void *self, belay_session *session, belay_coordinator *coordinator,
                               belay_error *err) {
    (void)session, (void)coordinator, (void)err;
    ((counter *)self)->creates++;
    try_everything(self);
    return BELAY_OK;
}

static belay_code count_before(void *self, belay_run_context *run, belay_error *err) {
    (void)run, (void)err;
    ((counter *)self)->befores++;
    return BELAY_OK;
}

static belay_code count_after(void *self, belay_run_context *run, belay_error *err) {
    counter *c = self;
    (void)err;
    if (++c->afters == c->stop_at)
        belay_run_context_request_stop(run);
    try_everything(c);
    return BELAY_OK;
}

static belay_code count_end(void *self, belay_session *session, belay_error *err) {
    (void)session, (void)err;
    ((counter *)self)->ends++;
    try_everything(self);
    return BELAY_OK;
}

static belay_reaction count_error(void *self, const belay_error *error) {
    counter *c = self;
    c->asked++;
    c->asked_about = belay_error_code(error);
    return c->reaction;
}

static void add_counter(fixture *f, counter *c) {
    static const belay_hook_vtable table = {
        .struct_size = sizeof table,
        .begin = count_begin,
        .after_create_session = count_create,
        .before_run = count_before,
        .after_run = count_after,
        .end = count_end,
        .on_error = count_error,
        .name = "CountingHook",
    };
    add_hook(f, belay_hook_new(&table, c, f->err));
}

static void use_model(fixture *f, counter *c) {
    use_graph(f, MODEL);
    add_counter(f, c);
    open_session(f);
}

/* A session without the recoverable layer. */
static void use_singular(fixture *f, counter *c) {
    belay_singular_monitored_session_options options =
        BELAY_SINGULAR_MONITORED_SESSION_OPTIONS_INIT;
    use_graph(f, MODEL);
    add_counter(f, c);
    options.scaffold = f->scaffold;
    options.hooks = f->hooks;
    options.hook_count = f->hook_count;
    f->session = belay_singular_monitored_session_open(f->graph, &options, f->err);
    assert_non_null(f->session);
    f->step = belay_step_prepare(f->session, NULL, NULL, (const char *[]){"train", NULL}, f->err);
    assert_non_null(f->step);
}

/* A helper thread reports that a task went away; no new session can be made. */
static void lose_with(fixture *f, belay_code code) {
    BLY_LOCAL_ERROR(gone);
    belay_error_set(&gone, BELAY_UNAVAILABLE, "gone");
    belay_coordinator_request_stop(belay_monitored_session_coordinator(f->session), &gone);
    scripted_fail("TF_NewSession", 0, code, "not any more");
}

static void lose_for_good(fixture *f) {
    lose_with(f, BELAY_PERMISSION_DENIED);
}

/* ---- running ---- */

/* SF-01, SF-03, SF-04, SD-04, SD-05: both kinds of sessions have it. */
static void test_step_fn__runs_with_and_without_hooks(void **state) {
    fixture *f = *state;
    for (int singular = 0; singular < 2; singular++) {
        counter hook = {0};
        script s = {.f = f, .runs = 2, .raw_runs = 3};
        (singular ? use_singular : use_model)(f, &hook);
        assert_ok(f, run_fn(&s));
        assert_int_equal(s.calls, 1);
        assert_int_equal(hook.creates, 1);
        assert_int_equal(hook.befores, 2);
        assert_int_equal(hook.afters, 2);
        assert_int_equal(global_step(f), 5);
        assert_int_equal(belay_monitored_session_progress(f->session)->runs, 2);
        assert_int_equal(should_stop(f), 0);
        close_session(f);
        assert_int_equal(hook.ends, 1);
        free_hooks(f);
        belay_scaffold_free(f->scaffold);
        belay_graph_free(f->graph);
        f->scaffold = NULL;
        f->graph = NULL;
    }
}

/* SF-05, SF-06, SF-07, SD-16, ER-32. */
static void test_step_fn__asks_to_stop(void **state) {
    fixture *f = *state;
    counter hook = {0};
    script s = {.f = f, .stop_first = 1, .runs = 1};
    const char *why;
    use_model(f, &hook);
    assert_int_equal(belay_monitored_session_end_reason(f->session, &why), BELAY_END_NONE);
    assert_int_equal(run_fn(&s), BELAY_STOPPED);
    assert_string_equal(belay_error_message(f->err),
                        "step_fn has requested the iterations to stop.");
    assert_int_equal(hook.befores + hook.afters, 0);
    assert_int_equal(should_stop(f), 1);
    assert_int_equal(belay_monitored_session_end_reason(f->session, &why), BELAY_END_STEP_FN);
    assert_string_equal(why, "a step function asked to stop");
    close_session(f); /* cleanly */
    assert_int_equal(hook.ends, 1);
}

/* SF-05: what was asked for holds, also where the function does not pass it on. */
static void test_step_fn__cannot_forget_a_stop(void **state) {
    fixture *f = *state;
    counter hook = {0};
    script s = {.f = f, .stop_first = 1, .forgets_stop = 1};
    use_model(f, &hook);
    assert_int_equal(run_fn(&s), BELAY_STOPPED);
    assert_int_equal(should_stop(f), 1);
    close_session(f);
}

/* SF-08, SF-14, BUG-01: from its beginning, with the session that is there then. */
static void test_step_fn__is_called_again_after_a_preemption(void **state) {
    static const belay_code codes[] = {BELAY_ABORTED, BELAY_UNAVAILABLE};
    fixture *f = *state;
    counter hook = {0};
    use_model(f, &hook);
    for (int i = 0; i < 2; i++) {
        script s = {.f = f, .runs = 1, .raw_runs = 1, .fails = {codes[i]}};
        hook = (counter){0};
        assert_ok(f, run_fn(&s));
        assert_int_equal(s.calls, 2);
        assert_int_equal(s.last, BELAY_OK); /* the raw run, too: not in the closed one */
        assert_int_equal(hook.befores, 2);  /* side effects repeat */
        assert_int_equal(hook.creates, 1);
        assert_int_equal(global_step(f), 2); /* a new session, from the start */
    }
    const belay_progress *now = belay_monitored_session_progress(f->session);
    assert_int_equal(now->recoveries, 2);
    assert_int_equal(now->rewound_from, 4);
    assert_int_equal(now->rewound_to, 0);
    close_session(f);
}

/* SF-08: wherever it was raised: in a raw run, or in a run with hooks. */
static void test_step_fn__recovers_from_what_its_runs_return(void **state) {
    fixture *f = *state;
    counter hook = {0};
    use_model(f, &hook);
    for (int raw = 0; raw < 2; raw++) {
        script s = {.f = f, .runs = !raw, .raw_runs = raw};
        scripted_fail("train", (int)scripted_count("train") + 1, BELAY_UNAVAILABLE, "gone");
        assert_ok(f, run_fn(&s));
        assert_int_equal(s.calls, 2);
        assert_int_equal(s.last, BELAY_OK);
    }
    close_session(f);
}

/* SF-09, MS-22. */
static void test_step_fn__does_not_recover_where_the_session_does_not(void **state) {
    fixture *f = *state;
    counter hook = {0};
    script s = {.f = f, .runs = 1, .fails = {BELAY_ABORTED}};
    use_singular(f, &hook);
    assert_int_equal(run_fn(&s), BELAY_ABORTED);
    assert_int_equal(s.calls, 1);
    assert_string_equal(belay_error_message(f->err), "the function says no");
    assert_ok(f, run_once(f)); /* MS-25: the same session stays in use */
    close_session(f);
}

/* SF-10. */
static void test_step_fn__passes_other_errors_on(void **state) {
    fixture *f = *state;
    counter hook = {0};
    script s = {.f = f, .runs = 1, .fails = {BELAY_INTERNAL}};
    use_model(f, &hook);
    assert_int_equal(run_fn(&s), BELAY_INTERNAL);
    assert_int_equal(s.calls, 1);
    assert_int_equal(should_stop(f), 1);
    assert_int_equal(try_close(f), BELAY_INTERNAL);
    assert_string_equal(belay_error_message(f->err), "the function says no");
    assert_int_equal(hook.ends, 0); /* MS-11 */
}

/* A function that deals with an error itself has none. */
static void test_step_fn__may_deal_with_an_error(void **state) {
    fixture *f = *state;
    counter hook = {0};
    script s = {.f = f, .nested = 1, .after_error = 1};
    use_model(f, &hook);
    scripted_fail("train", 1, BELAY_INTERNAL, "broken");
    assert_ok(f, run_fn(&s));
    assert_int_equal(s.last, BELAY_INTERNAL);
    assert_int_equal(should_stop(f), 0);
    close_session(f);
    assert_int_equal(hook.ends, 1);
}

/* SF-11, WS-17. */
static void test_step_fn__cannot_run_after_a_hook_asked_to_stop(void **state) {
    fixture *f = *state;
    counter hook = {.stop_at = 1};
    script s = {.f = f, .runs = 2};
    const char *why;
    use_model(f, &hook);
    assert_int_equal(run_fn(&s), BELAY_FAILED_PRECONDITION);
    assert_string_equal(belay_error_message(f->err),
                        "Run called even after should_stop requested.");
    assert_int_equal(hook.afters, 1);
    assert_int_equal(belay_monitored_session_end_reason(f->session, &why), BELAY_END_HOOK);
    assert_string_equal(why, "CountingHook asked to stop");
    try_close(f);
}

/* SF-12, BUG-75: a nested run that recovers, and then a run with hooks in the new session. */
static void test_step_fn__follows_a_nested_run_that_recovers(void **state) {
    fixture *f = *state;
    counter hook = {0};
    script s = {.f = f, .nested = 1, .runs = 1, .raw_runs = 1};
    use_model(f, &hook);
    scripted_fail("train", 2, BELAY_UNAVAILABLE, "gone"); /* the nested one; the first is raw */
    assert_ok(f, run_fn(&s));
    assert_int_equal(s.calls, 1); /* only the run was repeated */
    assert_int_equal(hook.creates, 2);
    assert_int_equal(hook.befores, 3);
    assert_int_equal(global_step(f), 2);
    close_session(f);
}

/* SF-13: a session that is gone is made first. */
static void test_step_fn__makes_the_session_that_is_missing(void **state) {
    fixture *f = *state;
    counter hook = {0};
    script s = {.f = f, .runs = 1};
    use_model(f, &hook);
    scripted_fail_range("TF_NewSession", 2, 100, BELAY_UNAVAILABLE, "no route to host");
    scripted_fail("train", 1, BELAY_UNAVAILABLE, "gone");
    assert_int_equal(run_once(f), BELAY_UNAVAILABLE); /* the budget is used up */
    scripted_forget(NULL);
    assert_ok(f, run_fn(&s));
    assert_int_equal(hook.creates, 2);
    close_session(f);
}

/* MS-43, BUG-79, WS-10: it asks, and goes on; what ended the recovery comes out of the close. */
static void test_step_fn__keeps_what_should_stop_cannot_tell(void **state) {
    fixture *f = *state;
    counter hook = {0};
    script s = {.f = f, .asks = 1};
    use_model(f, &hook);
    lose_for_good(f);
    assert_ok(f, run_fn(&s));
    assert_int_equal(should_stop(f), 1);
    assert_int_equal(run_once(f), BELAY_PERMISSION_DENIED);
    belay_monitored_session *session = f->session;
    f->session = NULL;
    assert_int_equal(belay_monitored_session_close(session, f->err), BELAY_PERMISSION_DENIED);
    assert_int_equal(hook.ends, 0);
}

/* BUG-79, MS-43: an error of the function itself comes after what ended the recovery, and is none
 * to recover from. */
static void test_step_fn__does_not_hide_what_ended_the_recovery(void **state) {
    fixture *f = *state;
    counter hook = {0};
    script s = {.f = f, .asks = 1, .fails = {BELAY_UNAVAILABLE}};
    use_model(f, &hook);
    lose_for_good(f);
    assert_int_equal(run_fn(&s), BELAY_PERMISSION_DENIED);
    assert_non_null(strstr(belay_error_message(f->err), "not any more"));
    assert_int_equal(belay_error_chained_count(f->err), 1);
    assert_string_equal(belay_error_chained_message(f->err, 0), "the function says no");
    assert_int_equal(s.calls, 1);
    belay_monitored_session *session = f->session;
    f->session = NULL;
    assert_int_equal(belay_monitored_session_close(session, f->err), BELAY_PERMISSION_DENIED);
    assert_int_equal(hook.ends, 0);
}

/* BUG-79, ST-08: a recovery that met the end of the input is no failure, and hides none. */
static void test_step_fn__fails_by_itself_after_a_clean_end(void **state) {
    fixture *f = *state;
    counter hook = {0};
    script s = {.f = f, .asks = 1, .fails = {BELAY_DATA_LOSS}};
    use_model(f, &hook);
    lose_with(f, BELAY_OUT_OF_RANGE);
    assert_int_equal(run_fn(&s), BELAY_DATA_LOSS);
    belay_monitored_session *session = f->session;
    f->session = NULL;
    assert_int_equal(belay_monitored_session_close(session, f->err), BELAY_DATA_LOSS);
}

static void test_step_fn__checks_what_it_is_given(void **state) {
    fixture *f = *state;
    counter hook = {0};
    use_model(f, &hook);
    assert_int_equal(belay_monitored_session_run_step_fn(f->session, NULL, NULL, f->err),
                     BELAY_INVALID_ARGUMENT);
    assert_int_equal(belay_monitored_session_run_step_fn(NULL, do_it, NULL, NULL),
                     BELAY_INVALID_ARGUMENT);
    assert_int_equal(belay_step_context_run_with_hooks(NULL, f->step, NULL, NULL, NULL),
                     BELAY_INVALID_ARGUMENT);
    assert_int_equal(belay_step_context_request_stop(NULL, NULL), BELAY_INVALID_ARGUMENT);
    assert_null(belay_step_context_session(NULL));
    assert_int_equal(should_stop(f), 0);
    close_session(f);
}

/* ---- hooks and functions that go too far ---- */

/* BUG-09, BUG-10, ER-26, MS-09, MS-15: nothing of it has an effect. */
static void test_hook__cannot_run_or_close_its_session(void **state) {
    fixture *f = *state;
    counter hook = {0};
    hook.tries = f;
    use_model(f, &hook);
    assert_int_equal(hook.ran, BELAY_OK); /* there was no session to try yet */
    assert_ok(f, run_once(f));
    assert_int_equal(hook.ran, BELAY_FAILED_PRECONDITION);
    assert_int_equal(hook.ran_fn, BELAY_FAILED_PRECONDITION);
    assert_int_equal(hook.closed, BELAY_FAILED_PRECONDITION);
    assert_int_equal(hook.befores, 1);
    assert_int_equal(should_stop(f), 0);
    /* Nor in after_create_session() of a recovery, */
    hook.ran = hook.ran_fn = hook.closed = BELAY_OK;
    scripted_fail("train", 2, BELAY_UNAVAILABLE, "gone");
    scripted_fail("train", 3, BELAY_INTERNAL, "broken");
    assert_int_equal(run_once(f), BELAY_INTERNAL);
    assert_int_equal(hook.creates, 2);
    assert_int_equal(hook.ran, BELAY_FAILED_PRECONDITION);
    assert_int_equal(hook.closed, BELAY_FAILED_PRECONDITION);
    assert_ok(f, run_once(f));
    /* nor in end(), while it is being closed. */
    hook.ran = hook.ran_fn = hook.closed = BELAY_OK;
    belay_monitored_session *session = f->session;
    assert_ok(f, belay_monitored_session_close(session, f->err));
    f->session = NULL;
    assert_int_equal(hook.ends, 1);
    assert_int_equal(hook.ran, BELAY_FAILED_PRECONDITION);
    assert_int_equal(hook.ran_fn, BELAY_FAILED_PRECONDITION);
    assert_int_equal(hook.closed, BELAY_FAILED_PRECONDITION);
}

static void test_step_fn__cannot_close_its_session(void **state) {
    fixture *f = *state;
    counter hook = {0};
    script s = {.f = f, .closes = 1, .runs = 1};
    use_model(f, &hook);
    assert_ok(f, run_fn(&s));
    assert_int_equal(s.close_code, BELAY_FAILED_PRECONDITION);
    assert_int_equal(hook.afters, 1);
    close_session(f);
}

/* ---- what hooks want to become of an error ---- */

static void test_on_error__swallow_lets_the_loop_go_on(void **state) {
    fixture *f = *state;
    counter hook = {.reaction = BELAY_REACTION_SWALLOW};
    use_model(f, &hook);
    scripted_fail("train", 2, BELAY_INTERNAL, "broken");
    run_steps(f, 3);
    assert_int_equal(hook.asked, 1);
    assert_int_equal(hook.asked_about, BELAY_INTERNAL);
    assert_int_equal(hook.afters, 2); /* the run failed */
    assert_int_equal(global_step(f), 2);
    assert_int_equal(should_stop(f), 0);
    assert_int_equal(count_log(BELAY_LOG_WARNING, "a hook lets an error go: broken"), 1);
    close_session(f);
    assert_int_equal(hook.ends, 1);
}

static void test_on_error__stop_ends_cleanly(void **state) {
    fixture *f = *state;
    counter hook = {.reaction = BELAY_REACTION_STOP};
    const char *why;
    use_model(f, &hook);
    scripted_fail("train", 1, BELAY_INTERNAL, "broken");
    assert_int_equal(run_once(f), BELAY_STOPPED);
    assert_string_equal(belay_error_message(f->err), "CountingHook stops after an error");
    assert_int_equal(belay_error_chained_count(f->err), 1);
    assert_memory_equal(belay_error_chained_message(f->err, 0), "broken", 6);
    assert_int_equal(should_stop(f), 1);
    assert_int_equal(belay_monitored_session_end_reason(f->session, &why), BELAY_END_HOOK);
    assert_string_equal(why, "CountingHook asked to stop");
    close_session(f);
    assert_int_equal(hook.ends, 1);
}

static void test_on_error__recover_repeats_the_run(void **state) {
    fixture *f = *state;
    counter hook = {.reaction = BELAY_REACTION_RECOVER};
    use_model(f, &hook);
    scripted_fail("train", 2, BELAY_DATA_LOSS, "a bit fell over");
    run_steps(f, 2);
    assert_int_equal(hook.asked, 1);
    assert_int_equal(hook.creates, 2);
    assert_int_equal(hook.befores, 3);
    assert_int_equal(belay_monitored_session_progress(f->session)->recoveries, 1);
    close_session(f);
}

/* BUG-16: its budget ends that too. */
static void test_on_error__recover_does_not_go_on_for_ever(void **state) {
    fixture *f = *state;
    counter hook = {.reaction = BELAY_REACTION_RECOVER};
    use_model(f, &hook);
    scripted_fail("train", 0, BELAY_INTERNAL, "broken");
    assert_int_equal(run_once(f), BELAY_INTERNAL);
    assert_non_null(strstr(belay_error_message(f->err), "gave up after "));
    try_close(f);
}

/* The first that does not keep an error decides; the end of the input is nobody's. */
static void test_on_error__the_first_hook_that_speaks_decides(void **state) {
    fixture *f = *state;
    counter first = {0}, second = {.reaction = BELAY_REACTION_SWALLOW},
            third = {.reaction = BELAY_REACTION_STOP};
    use_graph(f, MODEL);
    add_counter(f, &first);
    add_counter(f, &second);
    add_counter(f, &third);
    open_session(f);
    scripted_fail("train", 1, BELAY_UNAVAILABLE, "gone");
    scripted_fail("train", 2, BELAY_OUT_OF_RANGE, "End of sequence");
    assert_ok(f, run_once(f)); /* not recovered from, either */
    assert_int_equal(first.asked + second.asked, 2);
    assert_int_equal(first.creates, 1);
    assert_int_equal(third.asked, 0);
    assert_int_equal(run_once(f), BELAY_OUT_OF_RANGE);
    assert_int_equal(first.asked, 1);
    close_session(f);
}

/* A singular session does not recover, whatever a hook wants. */
static void test_on_error__recover_keeps_where_nothing_recovers(void **state) {
    fixture *f = *state;
    counter hook = {.reaction = BELAY_REACTION_RECOVER};
    use_singular(f, &hook);
    scripted_fail("train", 1, BELAY_INTERNAL, "broken");
    assert_int_equal(run_once(f), BELAY_INTERNAL);
    assert_int_equal(hook.asked, 1);
    try_close(f);
}

/* ---- without hooks ---- */

static void test_run_without_hooks__calls_none_and_recovers(void **state) {
    fixture *f = *state;
    counter hook = {.stop_at = 1};
    use_model(f, &hook);
    scripted_fail("train", 1, BELAY_UNAVAILABLE, "gone");
    assert_ok(f, belay_step_run_without_hooks(f->step, NULL, NULL, f->err));
    assert_int_equal(hook.creates, 2);
    assert_int_equal(hook.befores + hook.afters, 0);
    assert_int_equal(belay_monitored_session_progress(f->session)->runs, 0);
    assert_int_equal(global_step(f), 1);
    assert_ok(f, run_once(f));
    assert_int_equal(should_stop(f), 1);
    assert_ok(f, belay_step_run_without_hooks(f->step, NULL, NULL, f->err));
    assert_int_equal(global_step(f), 3);
    assert_int_equal(belay_step_run_without_hooks(NULL, NULL, NULL, NULL), BELAY_INVALID_ARGUMENT);
    close_session(f);
}

/* ---- the scoped form ---- */

typedef struct body {
    fixture *f;
    int runs;
    belay_code fails; /* at the end */
    belay_code closed;
    int closes;
    int asks; /* whether it should stop */
} body;

static belay_code body_of(void *self, belay_monitored_session *session, belay_error *err) {
    body *b = self;
    for (int i = 0; i < b->runs; i++)
        belay_step_run(b->f->step, NULL, NULL, err);
    if (b->asks)
        assert_int_equal(belay_monitored_session_should_stop(session), 1);
    if (b->closes)
        b->closed = belay_monitored_session_close(session, err);
    belay_error_clear(err);
    return b->fails == BELAY_OK ? BELAY_OK : belay_error_set(err, b->fails, "the body says no");
}

static belay_code with(fixture *f, body *b) {
    belay_monitored_session *session = f->session;
    f->session = NULL;
    belay_error_clear(f->err);
    return belay_monitored_session_with(session, body_of, b, f->err);
}

/* MS-11, SD-07: end() on clean ends only. */
static void test_with__ends_as_the_body_does(void **state) {
    static const struct {
        belay_code body, result;
        int ends;
    } cases[] = {
        {BELAY_OK, BELAY_OK, 1},
        {BELAY_OUT_OF_RANGE, BELAY_OK, 1},
        {BELAY_STOPPED, BELAY_OK, 1},
        {BELAY_INTERNAL, BELAY_INTERNAL, 0},
        {BELAY_NAN_LOSS, BELAY_NAN_LOSS, 0},
    };
    fixture *f = *state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        counter hook = {0};
        body b = {.f = f, .runs = 1, .fails = cases[i].body};
        use_model(f, &hook);
        assert_int_equal(with(f, &b), cases[i].result);
        if (cases[i].result != BELAY_OK)
            assert_string_equal(belay_error_message(f->err), "the body says no");
        assert_int_equal(hook.ends, cases[i].ends);
        free_hooks(f);
        belay_scaffold_free(f->scaffold);
        belay_graph_free(f->graph);
        f->scaffold = NULL;
        f->graph = NULL;
    }
}

/* Only what leaves the body counts: a step's error that it dealt with is over. */
static void test_with__does_not_ask_what_happened_inside(void **state) {
    fixture *f = *state;
    counter hook = {0};
    body b = {.f = f, .runs = 1};
    use_model(f, &hook);
    scripted_fail("train", 1, BELAY_INTERNAL, "broken");
    assert_ok(f, with(f, &b));
    assert_int_equal(hook.ends, 1);
}

/* MS-43, BUG-79: but an error that ended the session for good is not over. */
static void test_with__keeps_what_should_stop_cannot_tell(void **state) {
    fixture *f = *state;
    counter hook = {0};
    body b = {.f = f, .asks = 1};
    use_model(f, &hook);
    lose_for_good(f);
    assert_int_equal(with(f, &b), BELAY_PERMISSION_DENIED);
    assert_int_equal(hook.ends, 0);
}

/* BUG-79, MS-11: nor does an error that leaves the body hide it. */
static void test_with__does_not_hide_what_ended_the_recovery(void **state) {
    fixture *f = *state;
    counter hook = {0};
    body b = {.f = f, .asks = 1, .fails = BELAY_ABORTED};
    use_model(f, &hook);
    lose_for_good(f);
    assert_int_equal(with(f, &b), BELAY_PERMISSION_DENIED);
    assert_int_equal(belay_error_chained_count(f->err), 1);
    assert_string_equal(belay_error_chained_message(f->err, 0), "the body says no");
    assert_int_equal(hook.ends, 0);
}

/* MS-10, ER-26: it is the scope that closes. */
static void test_with__is_not_closed_from_inside(void **state) {
    fixture *f = *state;
    counter hook = {0};
    body b = {.f = f, .closes = 1};
    use_model(f, &hook);
    assert_ok(f, with(f, &b));
    assert_int_equal(b.closed, BELAY_FAILED_PRECONDITION);
    assert_int_equal(hook.ends, 1);
}

static belay_code scope_within(void *self, belay_monitored_session *session, belay_error *err) {
    body *b = self;
    BLY_LOCAL_ERROR(mine);
    body inner = {.f = b->f, .runs = 1};
    assert_int_equal(belay_step_run(b->f->step, NULL, NULL, err), BELAY_OUT_OF_RANGE);
    belay_error_clear(err);
    b->closed = belay_monitored_session_with(session, body_of, &inner, &mine);
    assert_int_equal(belay_monitored_session_end_reason(session, NULL), BELAY_END_INPUT);
    return BELAY_OK;
}

/* The same of a scope within: its body is not called, and what the session knows stays. */
static void test_with__is_not_nested__BUG_09(void **state) {
    fixture *f = *state;
    counter hook = {0};
    body b = {.f = f};
    use_model(f, &hook);
    scripted_fail("train", 1, BELAY_OUT_OF_RANGE, "End of sequence");
    belay_monitored_session *session = f->session;
    f->session = NULL;
    assert_ok(f, belay_monitored_session_with(session, scope_within, &b, f->err));
    assert_int_equal(b.closed, BELAY_FAILED_PRECONDITION);
    assert_int_equal(scripted_count("train"), 1);
    assert_int_equal(hook.ends, 1);
}

static void test_with__passes_an_earlier_error_on(void **state) {
    fixture *f = *state;
    counter hook = {0};
    belay_error_set(f->err, BELAY_NOT_FOUND, "no graph");
    assert_int_equal(belay_monitored_session_with(NULL, body_of, NULL, f->err), BELAY_NOT_FOUND);
    belay_error_clear(f->err);
    use_model(f, &hook);
    belay_monitored_session *session = f->session;
    f->session = NULL;
    assert_int_equal(belay_monitored_session_with(session, NULL, NULL, f->err),
                     BELAY_INVALID_ARGUMENT);
    assert_int_equal(hook.ends, 0);
}

/* ---- why it ends ---- */

static void test_end_reason__tells_each_end_from_the_others(void **state) {
    fixture *f = *state;
    counter hook = {0};
    const char *why;
    belay_monitored_session *session;
    use_model(f, &hook);
    session = f->session;
    scripted_fail("train", 1, BELAY_OUT_OF_RANGE, "End of sequence");
    scripted_fail("train", 2, BELAY_INTERNAL, "broken");
    assert_int_equal(run_once(f), BELAY_OUT_OF_RANGE);
    assert_int_equal(belay_monitored_session_end_reason(session, &why), BELAY_END_INPUT);
    assert_memory_equal(why, "the input ended: End of sequence", 32);
    assert_int_equal(run_once(f), BELAY_INTERNAL);
    assert_int_equal(belay_monitored_session_end_reason(session, &why), BELAY_END_FAILURE);
    assert_memory_equal(why, "a step failed: broken", 21);
    assert_ok(f, run_once(f));
    assert_int_equal(belay_monitored_session_end_reason(session, NULL), BELAY_END_NONE);
    BLY_LOCAL_ERROR(helper);
    bly_fail(&helper, BELAY_DATA_LOSS, "a reader stumbled");
    belay_coordinator_request_stop(belay_monitored_session_coordinator(session), &helper);
    assert_int_equal(belay_monitored_session_end_reason(session, &why), BELAY_END_FAILURE);
    assert_string_equal(why, "a helper thread failed: a reader stumbled");
    belay_coordinator_clear_stop(belay_monitored_session_coordinator(session));
    belay_coordinator_request_stop(belay_monitored_session_coordinator(session), NULL);
    assert_int_equal(belay_monitored_session_end_reason(session, &why), BELAY_END_COORDINATOR);
    belay_monitored_session_request_stop(session);
    assert_int_equal(belay_monitored_session_end_reason(session, &why), BELAY_END_REQUESTED);
    assert_string_equal(why, "a stop was requested");
    assert_int_equal(belay_monitored_session_end_reason(NULL, &why), BELAY_END_FAILURE);
    close_session(f);
}

static belay_code run_inner(void *self, belay_step_context *context, belay_error *err) {
    script *s = self;
    (void)context;
    return belay_monitored_session_run_step_fn(s->f->session, do_it, s, err);
}

/* BUG-16: a run within a run has the budget of the outer one, and it is told once. */
static void test_step_fn__within_another_gives_up_once(void **state) {
    fixture *f = *state;
    counter hook = {0};
    script s = {.f = f, .runs = 1};
    use_model(f, &hook);
    scripted_fail("train", 0, BELAY_UNAVAILABLE, "gone");
    int64_t start = stepped_clock_now_ms();
    assert_int_equal(belay_monitored_session_run_step_fn(f->session, run_inner, &s, f->err),
                     BELAY_UNAVAILABLE);
    assert_in_range(stepped_clock_now_ms() - start, 600000, 660000);
    const char *first = strstr(belay_error_message(f->err), "gave up after");
    assert_non_null(first);
    assert_null(strstr(first + 1, "gave up after"));
    try_close(f);
}

/* BUG-07: TensorFlow drops it; here somebody reads it. */
static void test_close__logs_an_error_of_the_inner_close(void **state) {
    fixture *f = *state;
    counter hook = {0};
    use_model(f, &hook);
    scripted_fail("TF_CloseSession", 1, BELAY_INTERNAL, "a device would not let go");
    close_session(f);
    assert_int_equal(count_log(BELAY_LOG_WARNING, "closing the session: a device would not let go"),
                     1);
}

/* ---- the graph, before and after ---- */

static belay_code add_an_op(void *self, belay_graph *graph, belay_error *err) {
    (void)self;
    return belay_graph_create_global_step(graph, NULL, err);
}

static belay_code fail_begin(void *self, belay_graph *graph, belay_error *err) {
    (void)self, (void)graph;
    return belay_error_set(err, BELAY_INTERNAL, "the hook says no");
}

/* MS-07, BUG-61, BUG-68: as it was before, after a close and after an opening that failed, early or
 * late. */
static void test_graph__is_left_as_it_was_found(void **state) {
    static const belay_hook_vtable failing = {.struct_size = sizeof failing, .begin = fail_begin};
    fixture *f = *state;
    counter hook = {0};
    use_model(f, &hook);
    assert_true(belay_graph_is_finalized(f->graph));
    close_session(f);
    assert_false(belay_graph_is_finalized(f->graph));
    open_session(f); /* the same scaffold finalises it again */
    assert_true(belay_graph_is_finalized(f->graph));
    close_session(f);
    scripted_fail("init", 0, BELAY_INTERNAL, "broken");
    assert_int_equal(try_open(f), BELAY_INTERNAL);
    assert_false(belay_graph_is_finalized(f->graph));
    scripted_forget(NULL);
    add_hook(f, belay_hook_new(&failing, NULL, f->err));
    assert_int_equal(try_open(f), BELAY_INTERNAL);
    assert_false(belay_graph_is_finalized(f->graph));
    belay_hook_free(f->hooks[--f->hook_count]);
    assert_ok(f, belay_scaffold_finalize(f->scaffold, f->err));
    open_session(f);
    close_session(f);
    assert_true(belay_graph_is_finalized(f->graph)); /* it was finalised before */
}

/* BUG-68: what a hook added is there for the next opening. */
static void test_graph__keeps_what_a_hook_added(void **state) {
    static const belay_hook_vtable adding = {.struct_size = sizeof adding, .begin = add_an_op};
    static const belay_hook_vtable failing = {.struct_size = sizeof failing, .begin = fail_begin};
    fixture *f = *state;
    use_graph(f, "train = NoOp()\ninit = NoOp()\ncollection init_op: init\n");
    add_hook(f, belay_hook_new(&adding, NULL, f->err));
    add_hook(f, belay_hook_new(&failing, NULL, f->err));
    assert_int_equal(try_open(f), BELAY_INTERNAL);
    assert_string_equal(belay_error_message(f->err), "the hook says no");
    assert_non_null(belay_graph_global_step_name(f->graph));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST_WAITING(test_step_fn__runs_with_and_without_hooks),
        TEST_WAITING(test_step_fn__asks_to_stop),
        TEST_WAITING(test_step_fn__cannot_forget_a_stop),
        TEST_WAITING(test_step_fn__is_called_again_after_a_preemption),
        TEST_WAITING(test_step_fn__recovers_from_what_its_runs_return),
        TEST_WAITING(test_step_fn__does_not_recover_where_the_session_does_not),
        TEST_WAITING(test_step_fn__passes_other_errors_on),
        TEST_WAITING(test_step_fn__may_deal_with_an_error),
        TEST_WAITING(test_step_fn__cannot_run_after_a_hook_asked_to_stop),
        TEST_WAITING(test_step_fn__follows_a_nested_run_that_recovers),
        TEST_WAITING(test_step_fn__makes_the_session_that_is_missing),
        TEST_WAITING(test_step_fn__keeps_what_should_stop_cannot_tell),
        TEST_WAITING(test_step_fn__does_not_hide_what_ended_the_recovery),
        TEST_WAITING(test_step_fn__fails_by_itself_after_a_clean_end),
        TEST_WAITING(test_step_fn__checks_what_it_is_given),
        TEST_WAITING(test_hook__cannot_run_or_close_its_session),
        TEST_WAITING(test_step_fn__cannot_close_its_session),
        TEST_WAITING(test_on_error__swallow_lets_the_loop_go_on),
        TEST_WAITING(test_on_error__stop_ends_cleanly),
        TEST_WAITING(test_on_error__recover_repeats_the_run),
        TEST_WAITING(test_on_error__recover_does_not_go_on_for_ever),
        TEST_WAITING(test_on_error__the_first_hook_that_speaks_decides),
        TEST_WAITING(test_on_error__recover_keeps_where_nothing_recovers),
        TEST_WAITING(test_run_without_hooks__calls_none_and_recovers),
        TEST_WAITING(test_with__ends_as_the_body_does),
        TEST_WAITING(test_with__does_not_ask_what_happened_inside),
        TEST_WAITING(test_with__keeps_what_should_stop_cannot_tell),
        TEST_WAITING(test_with__does_not_hide_what_ended_the_recovery),
        TEST_WAITING(test_with__is_not_closed_from_inside),
        TEST(test_with__is_not_nested__BUG_09),
        TEST_WAITING(test_with__passes_an_earlier_error_on),
        TEST_WAITING(test_step_fn__within_another_gives_up_once),
        TEST_WAITING(test_close__logs_an_error_of_the_inner_close),
        TEST_WAITING(test_graph__is_left_as_it_was_found),
        TEST_WAITING(test_graph__keeps_what_a_hook_added),
        TEST_WAITING(test_end_reason__tells_each_end_from_the_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
