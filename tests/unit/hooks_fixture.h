/* What the tests of the hooks share: a folder, and a monitored session over the scripted runtime.
 * Everything is inline, so that a test includes what it needs. */
#ifndef HOOKS_FIXTURE_H
#define HOOKS_FIXTURE_H

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "hook_watch.h"
#include "scratch.h"
#include "scripted_runtime.h"
#include "stepped_clock.h"

#include <belay/hooks.h>
#include <belay/monitored_session.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- a monitored session ---- */

#define MODEL SCRIPTED_GLOBAL_STEP SCRIPTED_TRAIN SCRIPTED_INIT SCRIPTED_SAVER
#define LOSS  "loss = Const() dtype=float value=0.5\n"

typedef struct fixture {
    void *folder; /* of scratch.h */
    belay_error *err;
    belay_graph *graph;
    belay_scaffold *scaffold;
    belay_hook *hooks[8];
    size_t hook_count;
    const char *restore_from; /* folder; NULL: none */
    belay_monitored_session *session;
    belay_step *step;
} fixture;

/* Time moves only where a test says so. */
static inline int set_up_with(void **state, int clock_mode) {
    fixture *f = calloc(1, sizeof *f);
    *state = f;
    watch_log();
    stepped_clock_install(clock_mode);
    scripted_install();
    f->err = belay_error_new();
    return scratch_set_up(&f->folder);
}

static inline int set_up(void **state) {
    return set_up_with(state, STEPPED_MANUAL);
}

/* For recoveries, which wait. */
static inline int set_up_waiting(void **state) {
    return set_up_with(state, STEPPED_AUTO);
}

static inline void free_hooks(fixture *f) {
    for (size_t i = 0; i < f->hook_count; i++)
        belay_hook_free(f->hooks[i]);
    f->hook_count = 0;
}

static inline int tear_down(void **state) {
    fixture *f = *state;
    if (f->session)
        belay_monitored_session_close(f->session, NULL);
    free_hooks(f);
    belay_scaffold_free(f->scaffold);
    belay_graph_free(f->graph);
    belay_error_free(f->err);
    stepped_clock_uninstall();
    scripted_uninstall();
    unwatch_log();
    int result = scratch_tear_down(&f->folder);
    free(f);
    return result;
}

#define assert_ok(f, call)                                                                         \
    do {                                                                                           \
        belay_code code_ = (call);                                                                 \
        if (code_ != BELAY_OK)                                                                     \
            fail_msg("%s: %d %s", #call, (int)code_, belay_error_message((f)->err));               \
    } while (0)

static inline const char *in_folder(fixture *f, const char *name) {
    return scratch_path(&f->folder, name);
}

static inline const char *folder_of(fixture *f) {
    return f->folder;
}

static inline int has_file(fixture *f, const char *name) {
    return bly_file_exists(in_folder(f, name));
}

/* The graph that the session trains, with the step `train`; in place of an earlier one. */
static inline void use_graph(fixture *f, const char *text) {
    belay_scaffold_free(f->scaffold);
    belay_graph_free(f->graph);
    f->graph = scripted_graph(text, f->err);
    if (!f->graph)
        fail_msg("%s", belay_error_message(f->err));
    f->scaffold = belay_scaffold_new(f->graph, NULL, f->err);
    assert_non_null(f->scaffold);
}

static inline belay_hook *add_hook(fixture *f, belay_hook *hook) {
    if (!hook)
        fail_msg("%s", belay_error_message(f->err));
    f->hooks[f->hook_count++] = hook;
    return hook;
}

static inline belay_code try_open(fixture *f) {
    belay_chief_session_creator_options chief = BELAY_CHIEF_SESSION_CREATOR_OPTIONS_INIT;
    belay_monitored_session_options options = BELAY_MONITORED_SESSION_OPTIONS_INIT;
    chief.scaffold = f->scaffold;
    chief.checkpoint_dir = f->restore_from;
    options.creator = belay_chief_session_creator_new(f->graph, &chief, f->err);
    if (!options.creator)
        return belay_error_code(f->err);
    options.hooks = f->hooks;
    options.hook_count = f->hook_count;
    f->session = belay_monitored_session_open(f->graph, &options, f->err);
    belay_session_creator_free(options.creator);
    if (!f->session)
        return belay_error_code(f->err);
    f->step = belay_step_prepare(f->session, NULL, NULL, (const char *[]){"train", NULL}, f->err);
    return f->step ? BELAY_OK : belay_error_code(f->err);
}

static inline void open_session(fixture *f) {
    assert_ok(f, try_open(f));
}

static inline belay_code run_once(fixture *f) {
    return belay_step_run(f->step, NULL, NULL, f->err);
}

static inline void run_steps(fixture *f, int count) {
    for (int i = 0; i < count; i++)
        assert_ok(f, run_once(f));
}

/* A step every `ms`. */
static inline void run_steps_every(fixture *f, int count, int64_t ms) {
    for (int i = 0; i < count; i++) {
        stepped_clock_advance_ms(ms);
        assert_ok(f, run_once(f));
    }
}

/* The loop that a user writes, with an end to it. Returns how many steps were run. */
static inline int run_until_stop(fixture *f) {
    int count = 0;
    while (!belay_monitored_session_should_stop(f->session) && count < 1000) {
        assert_ok(f, run_once(f));
        count++;
    }
    return count;
}

static inline int64_t global_step(fixture *f) {
    return belay_monitored_session_progress(f->session)->global_step;
}

static inline belay_code try_close(fixture *f) {
    belay_monitored_session *session = f->session;
    f->session = NULL;
    f->step = NULL;
    belay_error_clear(f->err);
    return belay_monitored_session_close(session, f->err);
}

static inline void close_session(fixture *f) {
    assert_ok(f, try_close(f));
}

/* A refusal of options: NULL, INVALID_ARGUMENT (ER-28), and this text. */
static inline void assert_not_made(fixture *f, const belay_hook *hook, const char *message) {
    assert_null(hook);
    assert_int_equal(belay_error_code(f->err), BELAY_INVALID_ARGUMENT);
    assert_string_equal(belay_error_message(f->err), message);
    belay_error_clear(f->err);
}

/* begin() without a global step (ER-29). */
static inline void assert_needs_a_step(fixture *f, const char *message) {
    use_graph(f, "train = NoOp()\ninit = NoOp()\ncollection init_op: init\n"
                 "a = Const() dtype=float value=1\ns = Const() dtype=string value=\"\"\n");
    assert_int_equal(try_open(f), BELAY_FAILED_PRECONDITION);
    assert_string_equal(belay_error_message(f->err), message);
}

#define TEST(name)         cmocka_unit_test_setup_teardown(name, set_up, tear_down)
#define TEST_WAITING(name) cmocka_unit_test_setup_teardown(name, set_up_waiting, tear_down)

#endif
