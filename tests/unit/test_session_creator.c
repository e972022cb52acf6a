/* Session creators that a user writes, on the scripted runtime. */
#include "log_capture.h"
#include "scripted_runtime.h"
#include "stepped_clock.h"

#include <belay/monitored_session.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MODEL SCRIPTED_GLOBAL_STEP SCRIPTED_TRAIN SCRIPTED_INIT SCRIPTED_SAVER

struct fixture {
    belay_error *err;
    belay_graph *graph, *other;
    belay_session_creator *creator; /* of the table below */
    belay_monitored_session *session;
};

/* What the table does. */
static struct maker {
    belay_session_creator *wrapped; /* NULL: plain sessions */
    belay_graph *graph;             /* of those */
    int calls, destroyed;
    int failures; /* the first calls fail ... */
    belay_code code;
    int silent; /* ... without an error */
    uint32_t restored;
} maker;

static belay_session *make(void *self, uint32_t *out_restored, belay_error *err) {
    struct maker *m = self;
    assert_int_equal(*out_restored, 0);
    assert_int_equal(belay_error_code(err), BELAY_OK);
    if (m->calls++ < m->failures) {
        if (!m->silent)
            belay_error_set(err, m->code, "the creator's own");
        return NULL;
    }
    if (m->wrapped)
        return belay_session_creator_create_session(m->wrapped, out_restored, err);
    *out_restored = m->restored;
    return belay_session_open(m->graph, NULL, err);
}

static void destroy(void *self) {
    ((struct maker *)self)->destroyed++;
}

static const belay_session_creator_vtable table = {sizeof table, make, destroy};

static int set_up(void **state) {
    static struct fixture fixture;
    struct fixture *f = &fixture;
    *state = f;
    *f = (struct fixture){.err = belay_error_new()};
    scripted_install();
    stepped_clock_install(STEPPED_AUTO);
    log_capture_start(BELAY_LOG_DEBUG);
    f->graph = scripted_graph(MODEL, f->err);
    f->other = scripted_graph(MODEL, f->err);
    maker = (struct maker){.graph = f->graph};
    f->creator = belay_session_creator_new(f->graph, &table, &maker, f->err);
    assert_non_null(f->creator);
    return 0;
}

static int tear_down(void **state) {
    struct fixture *f = *state;
    belay_session_creator_free(f->creator);
    belay_session_creator_free(maker.wrapped);
    belay_graph_free(f->graph);
    belay_graph_free(f->other);
    belay_error_free(f->err);
    stepped_clock_uninstall();
    scripted_uninstall();
    log_capture_stop();
    return 0;
}

static void assert_error(const struct fixture *f, belay_code code, const char *part) {
    if (belay_error_code(f->err) != code || !strstr(belay_error_message(f->err), part))
        fail_msg("%s instead of %s: %s", belay_code_name(belay_error_code(f->err)),
                 belay_code_name(code), belay_error_message(f->err));
}

static belay_code try_open(struct fixture *f) {
    belay_monitored_session_options options = BELAY_MONITORED_SESSION_OPTIONS_INIT;
    options.creator = f->creator;
    options.recovery_budget_secs = 20;
    belay_error_clear(f->err);
    f->session = belay_monitored_session_open(f->graph, &options, f->err);
    return belay_error_code(f->err);
}

static void assert_closes(struct fixture *f) {
    assert_int_equal(belay_monitored_session_close(f->session, f->err), BELAY_OK);
}

/* CR-01: a ready session, which the caller frees; `restored` is passed on. */
static void test_session_creator__makes_what_its_table_makes(void **state) {
    struct fixture *f = *state;
    uint32_t restored = 7;
    maker.restored = 1;
    belay_session *session = belay_session_creator_create_session(f->creator, &restored, f->err);
    assert_non_null(session);
    assert_ptr_equal(belay_session_graph(session), f->graph);
    assert_int_equal(restored, 1);
    belay_session_free(session);
    maker.restored = 0;
    session = belay_session_creator_create_session(f->creator, NULL, f->err);
    assert_non_null(session);
    belay_session_free(session);
    assert_int_equal(maker.calls, 2);
    /* Nothing is restored by what is not made. */
    maker = (struct maker){.failures = 1, .code = BELAY_NOT_FOUND};
    restored = 7;
    assert_null(belay_session_creator_create_session(f->creator, &restored, f->err));
    assert_error(f, BELAY_NOT_FOUND, "the creator's own");
    assert_int_equal(restored, 0);
}

/* CR-01, CR-02, CR-09: around a chief's, which restores or initialises; once for each session,
 * recoveries included. WS-01: the session is of the creator's graph. */
static void test_session_creator__wraps_a_chiefs(void **state) {
    struct fixture *f = *state;
    belay_chief_session_creator_options chief = BELAY_CHIEF_SESSION_CREATOR_OPTIONS_INIT;
    maker.wrapped = belay_chief_session_creator_new(f->graph, &chief, f->err);
    assert_non_null(maker.wrapped);
    assert_int_equal(try_open(f), BELAY_OK);
    assert_int_equal(maker.calls, 1);
    assert_int_equal(scripted_count("init"), 1);
    assert_ptr_equal(belay_monitored_session_graph(f->session), f->graph);
    belay_step *step =
        belay_step_prepare(f->session, NULL, NULL, (const char *[]){"train", NULL}, f->err);
    assert_non_null(step);
    scripted_fail("train", 2, BELAY_ABORTED, "restarted");
    assert_int_equal(belay_step_run(step, NULL, NULL, f->err), BELAY_OK);
    assert_int_equal(belay_step_run(step, NULL, NULL, f->err), BELAY_OK);
    assert_int_equal(maker.calls, 2);
    assert_int_equal(scripted_count("init"), 2);
    /* WS-03: closed once, the old one and the new one. */
    assert_int_equal(scripted_count("TF_CloseSession"), 1);
    assert_closes(f);
    assert_int_equal(scripted_count("TF_CloseSession"), 2);
    assert_int_equal(scripted_alive().sessions, 0);
}

/* WS-03: a task that went away is no error of closing, and nor is any other here (BUG-07). */
static void test_monitored_session__logs_what_closing_its_session_reports(void **state) {
    static const belay_code codes[] = {BELAY_ABORTED, BELAY_UNAVAILABLE};
    struct fixture *f = *state;
    belay_chief_session_creator_options chief = BELAY_CHIEF_SESSION_CREATOR_OPTIONS_INIT;
    maker.wrapped = belay_chief_session_creator_new(f->graph, &chief, f->err);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(try_open(f), BELAY_OK);
        scripted_fail("TF_CloseSession", (int)scripted_count("TF_CloseSession") + 1, codes[i],
                      "it is gone");
        assert_closes(f);
        assert_int_equal(log_capture_count("closing the session: it is gone"), i + 1);
        assert_int_equal(scripted_alive().sessions, 0);
    }
}

/* CR-01, WS-05: ABORTED and UNAVAILABLE are tried again, by the clock. */
static void test_session_creator__is_asked_again_after_a_preemption(void **state) {
    static const belay_code codes[] = {BELAY_ABORTED, BELAY_UNAVAILABLE};
    struct fixture *f = *state;
    belay_chief_session_creator_options chief = BELAY_CHIEF_SESSION_CREATOR_OPTIONS_INIT;
    maker.wrapped = belay_chief_session_creator_new(f->graph, &chief, f->err);
    for (size_t i = 0; i < 2; i++) {
        maker.calls = 0;
        maker.failures = 3;
        maker.code = codes[i];
        assert_int_equal(try_open(f), BELAY_OK);
        assert_int_equal(maker.calls, 4);
        assert_closes(f);
    }
    /* For ever: the budget ends it. */
    maker.calls = 0;
    maker.failures = 1000;
    int64_t start = stepped_clock_now_ms();
    assert_int_equal(try_open(f), BELAY_UNAVAILABLE);
    assert_error(f, BELAY_UNAVAILABLE, "gave up after ");
    assert_error(f, BELAY_UNAVAILABLE, "in 20 s: the creator's own");
    assert_int_equal(stepped_clock_now_ms() - start, 20000);
}

/* CR-01, WS-05: any other error is final. */
static void test_session_creator__is_not_asked_again_after_another_error(void **state) {
    static const belay_code codes[] = {BELAY_INTERNAL, BELAY_NOT_FOUND, BELAY_DEADLINE_EXCEEDED};
    struct fixture *f = *state;
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        maker.calls = 0;
        maker.failures = 1;
        maker.code = codes[i];
        assert_int_equal(try_open(f), codes[i]);
        assert_error(f, codes[i], "the creator's own");
        assert_null(f->session);
        assert_int_equal(maker.calls, 1);
    }
}

/* CR-01: what a table gives is looked at. */
static void test_session_creator__that_breaks_its_word_is_an_error(void **state) {
    struct fixture *f = *state;
    maker.graph = f->other;
    assert_int_equal(try_open(f), BELAY_INVALID_ARGUMENT);
    assert_error(f, BELAY_INVALID_ARGUMENT, "is of another graph");
    assert_int_equal(scripted_alive().sessions, 0); /* it was given, so it is freed */
    maker.graph = f->graph;
    maker.calls = 0;
    maker.failures = 1;
    maker.silent = 1;
    assert_int_equal(try_open(f), BELAY_INTERNAL);
    assert_error(f, BELAY_INTERNAL, "made no session and gave no error");
    assert_int_equal(maker.calls, 1);
}

/* CR-01: destroy is called exactly once, after the last hold is given up; and where making fails.
 */
static void test_session_creator__destroys_its_self_exactly_once(void **state) {
    struct fixture *f = *state;
    belay_chief_session_creator_options chief = BELAY_CHIEF_SESSION_CREATOR_OPTIONS_INIT;
    maker.wrapped = belay_chief_session_creator_new(f->graph, &chief, f->err);
    assert_int_equal(try_open(f), BELAY_OK);
    belay_session_creator_free(f->creator);
    f->creator = NULL;
    assert_int_equal(maker.destroyed, 0); /* the session holds it */
    assert_closes(f);
    assert_int_equal(maker.destroyed, 1);

    belay_session_creator_vtable bad = table;
    maker.destroyed = 0;
    belay_error_clear(f->err);
    assert_null(belay_session_creator_new(NULL, &table, &maker, f->err));
    assert_error(f, BELAY_INVALID_ARGUMENT, "graph is NULL");
    assert_int_equal(maker.destroyed, 1);
    /* A graph that could not be loaded keeps its error. */
    belay_error_clear(f->err);
    belay_error_set(f->err, BELAY_DATA_LOSS, "damaged");
    assert_null(belay_session_creator_new(NULL, &table, &maker, f->err));
    assert_error(f, BELAY_DATA_LOSS, "damaged");
    assert_int_equal(maker.destroyed, 2);
    bad.create_session = NULL;
    belay_error_clear(f->err);
    assert_null(belay_session_creator_new(f->graph, &bad, &maker, f->err));
    assert_error(f, BELAY_INVALID_ARGUMENT, "create_session is NULL");
    assert_int_equal(maker.destroyed, 3);
    /* No table, or one too small to hold `destroy`: there is nothing to call. */
    assert_null(belay_session_creator_new(f->graph, NULL, &maker, f->err));
    assert_error(f, BELAY_INVALID_ARGUMENT, "vtable is NULL");
    bad = table;
    bad.struct_size = sizeof(size_t);
    assert_null(belay_session_creator_new(f->graph, &bad, &maker, f->err));
    assert_int_equal(belay_error_code(f->err), BELAY_INVALID_ARGUMENT);
    assert_int_equal(maker.destroyed, 3);
}

/* NULL together with a filled `err` is left as it is. */
static void test_session_creator__null_makes_nothing(void **state) {
    struct fixture *f = *state;
    uint32_t restored = 7;
    belay_error_clear(f->err);
    assert_null(belay_session_creator_create_session(NULL, &restored, f->err));
    assert_error(f, BELAY_INVALID_ARGUMENT, "creator is NULL");
    assert_int_equal(restored, 0);
    belay_error_set(f->err, BELAY_NOT_FOUND, "no such graph");
    assert_null(belay_session_creator_create_session(NULL, NULL, f->err));
    assert_error(f, BELAY_NOT_FOUND, "no such graph");
    belay_session_creator_free(NULL);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_session_creator__makes_what_its_table_makes),
        TEST(test_session_creator__wraps_a_chiefs),
        TEST(test_monitored_session__logs_what_closing_its_session_reports),
        TEST(test_session_creator__is_asked_again_after_a_preemption),
        TEST(test_session_creator__is_not_asked_again_after_another_error),
        TEST(test_session_creator__that_breaks_its_word_is_an_error),
        TEST(test_session_creator__destroys_its_self_exactly_once),
        TEST(test_session_creator__null_makes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
