/* What the tests of the hooks share: a folder, a log that is kept, the events of a folder, and a
 * monitored session over the scripted runtime. Everything is inline, so that a test includes what
 * it needs. */
#ifndef HOOKS_FIXTURE_H
#define HOOKS_FIXTURE_H

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/thread.h"
#include "scratch.h"
#include "scripted_runtime.h"
#include "stepped_clock.h"
#include "summary/event_file.h"
#include "wire/unpack.h"

#include <belay/hooks.h>
#include <belay/log.h>
#include <belay/monitored_session.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- the log ---- */

#define LOG_MOST 512

typedef struct log_line {
    belay_log_level level;
    char text[1024];
} log_line;

static bly_mutex log_lock; /* the event writer's thread may log too */
static log_line log_lines[LOG_MOST];
static size_t log_line_count;

static inline void keep_log_line(void *self, belay_log_level level, const char *message) {
    (void)self;
    bly_mutex_lock(&log_lock);
    if (log_line_count < LOG_MOST) {
        log_lines[log_line_count].level = level;
        snprintf(log_lines[log_line_count++].text, sizeof log_lines[0].text, "%s", message);
    }
    bly_mutex_unlock(&log_lock);
}

/* Lines of this level that hold `part`. */
static inline size_t count_log(belay_log_level level, const char *part) {
    size_t count = 0;
    for (size_t i = 0; i < log_line_count; i++)
        count += log_lines[i].level == level && strstr(log_lines[i].text, part) != NULL;
    return count;
}

/* The nth such line, from 0. */
static inline const char *log_with(const char *part, size_t nth) {
    for (size_t i = 0; i < log_line_count; i++)
        if (strstr(log_lines[i].text, part) && nth-- == 0)
            return log_lines[i].text;
    fail_msg("no log line with '%s'", part);
    return "";
}

/* ---- events ---- */

/* One event in a line: "START 1", "CHECKPOINT 10 path", "graph", "meta_graph", "NAME=VALUE 7",
 * "version". */
typedef struct event_list {
    char lines[256][300];
    size_t count, files;
    const char *folder;
} event_list;

static inline void put_event(event_list *list, const Bly__Event *event) {
    static const char *const statuses[] = {"?", "START", "STOP", "CHECKPOINT"};
    char *line = list->lines[list->count];
    belay_code code;
    assert_true(list->count < 256);
    list->count++;
    if (event->what_case == BLY__EVENT__WHAT_FILE_VERSION) {
        snprintf(line, 300, "version");
    } else if (event->what_case == BLY__EVENT__WHAT_GRAPH_DEF) {
        snprintf(line, 300, "graph");
    } else if (event->what_case == BLY__EVENT__WHAT_META_GRAPH_DEF) {
        snprintf(line, 300, "meta_graph");
    } else if (event->what_case == BLY__EVENT__WHAT_SESSION_LOG) {
        const Bly__SessionLog *log = event->session_log;
        int has_path = log->checkpoint_path && log->checkpoint_path[0];
        snprintf(line, 300, "%s %lld%s%s", statuses[log->status & 3], (long long)event->step,
                 has_path ? " " : "", has_path ? log->checkpoint_path : "");
    } else {
        Bly__Summary *summary = bly_wire_unpack(&bly__summary__descriptor, event->summary.data,
                                                event->summary.len, &code);
        assert_non_null(summary);
        if (summary->n_value == 0)
            snprintf(line, 300, "summary %lld", (long long)event->step);
        else
            snprintf(line, 300, "%s=%g %lld", summary->value[0]->tag,
                     (double)summary->value[0]->simple_value, (long long)event->step);
        bly_wire_free(summary);
    }
}

static inline belay_code read_event_file(void *self, const char *name, belay_error *err) {
    event_list *list = self;
    bly_buf bytes = BLY_BUF_INIT;
    belay_code code;
    if (!strstr(name, "tfevents"))
        return BELAY_OK;
    char *path = bly_path_join(list->folder, name);
    code = bly_file_read(path, 1 << 30, &bytes, err);
    bly_free(path);
    const unsigned char *at = (const unsigned char *)bytes.data, *payload = NULL;
    size_t len = bytes.len, payload_len = 0;
    while (code == BELAY_OK &&
           bly_record_next(&at, &len, &payload, &payload_len, NULL) == BELAY_OK) {
        Bly__Event *event = bly_wire_unpack(&bly__event__descriptor, payload, payload_len, &code);
        assert_non_null(event);
        put_event(list, event);
        bly_wire_free(event);
    }
    bly_buf_free(&bytes);
    list->files++;
    return code;
}

/* What has reached the files of a folder. Static: until the next call. */
static inline event_list *read_events(const char *folder) {
    static event_list list;
    list = (event_list){.count = 0};
    list.folder = folder;
    assert_int_equal(bly_directory_list(folder, read_event_file, &list, NULL), BELAY_OK);
    return &list;
}

/* All events whose line starts so, joined by "; ". */
static inline const char *events_with(const char *folder, const char *start) {
    static char text[4096];
    event_list *list = read_events(folder);
    size_t len = 0;
    text[0] = '\0';
    for (size_t i = 0; i < list->count; i++)
        if (strncmp(list->lines[i], start, strlen(start)) == 0)
            len += (size_t)snprintf(text + len, sizeof text - len, "%s%s", len ? "; " : "",
                                    list->lines[i]);
    return text;
}

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
    log_line_count = 0;
    bly_mutex_init(&log_lock);
    belay_log_set_callback(keep_log_line, NULL, BELAY_LOG_DEBUG);
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
    belay_log_set_callback(NULL, NULL, BELAY_LOG_WARNING);
    bly_mutex_clean_up(&log_lock);
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

/* The graph that the session trains, with the step `train`. */
static inline void use_graph(fixture *f, const char *text) {
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
