/* Traces a run now and then (HK-PROF). */
#include "base/buf.h"
#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/options.h"
#include "hooks/events.h"
#include "hooks/make.h"
#include "hooks/timer.h"
#include "observe/timeline.h"

#include <belay/hooks.h>

#include <stddef.h>
#include <stdio.h>

_Static_assert(sizeof(belay_profiler_options) ==
                   offsetof(belay_profiler_options, reserved) + sizeof(uint32_t),
               "no tail padding");

#define KNOWN_FLAGS (BELAY_PROFILER_NO_DATAFLOW | BELAY_PROFILER_MEMORY)

typedef struct profiler {
    bly_timer timer;
    bly_events events;
    char *directory;
    belay_run_metadata *metadata;
    int timeline_flags;
    int tracing; /* in this run */
    int64_t step_before;
} profiler;

static belay_code begin(void *self, belay_graph *graph, belay_error *err) {
    profiler *hook = self;
    belay_code code = belay_graph_check_global_step(graph, "ProfilerHook", err);
    if (code == BELAY_OK)
        code = bly_make_directories(hook->directory, err);
    return code == BELAY_OK ? bly_events_open(&hook->events, err) : code;
}

/* The first run of each session is not traced: it is not like the others, and after a recovery
 * steps may be lower than the timer knows (HK-PROF-03, BUG-45). */
static belay_code after_create_session(void *self, belay_session *session,
                                       belay_coordinator *coordinator, belay_error *err) {
    profiler *hook = self;
    (void)coordinator;
    bly_timer_reset(&hook->timer);
    return bly_events_session(&hook->events, session, err);
}

static belay_code before_run(void *self, belay_run_context *run, belay_error *err) {
    static const uint8_t full_trace[] = {0x08, 0x03}; /* RunOptions: trace_level FULL_TRACE */
    profiler *hook = self;
    belay_run_options options = BELAY_RUN_OPTIONS_INIT;
    hook->step_before = belay_run_context_progress(run)->global_step;
    hook->tracing =
        hook->timer.has_fired && bly_timer_should_trigger(&hook->timer, hook->step_before + 1);
    options.run_options = full_trace;
    options.run_options_size = sizeof full_trace;
    options.metadata = hook->metadata;
    return hook->tracing ? belay_run_context_merge_options(run, &options, err) : BELAY_OK;
}

static belay_code write_timeline(const profiler *hook, const void *metadata, size_t size,
                                 int64_t step, belay_error *err) {
    char name[64];
    bly_buf json = BLY_BUF_INIT;
    snprintf(name, sizeof name, "timeline-%lld.json", (long long)step);
    char *path = bly_path_join(hook->directory, name);
    belay_code code = path ? BELAY_OK : bly_fail_memory(err);
    if (code == BELAY_OK)
        code = bly_timeline_print(metadata, size, hook->timeline_flags, &json, err);
    if (code == BELAY_OK) {
        bly_info("Saving timeline for %lld into '%s'.", (long long)step, path);
        code = bly_file_write_atomic(path, json.data, json.len, err);
    }
    bly_buf_free(&json);
    bly_free(path);
    return code;
}

/* A step that a recovery made count again: its tag is taken, and the first stays (BUG-46). */
static belay_code add_event(const profiler *hook, const void *metadata, size_t size, int64_t step,
                            belay_error *err) {
    BLY_LOCAL_ERROR(mine);
    char tag[64];
    if (!hook->events.writer)
        return BELAY_OK;
    snprintf(tag, sizeof tag, "step_%lld", (long long)step);
    belay_code code =
        belay_summary_writer_add_run_metadata(hook->events.writer, tag, metadata, size, 0, &mine);
    if (code == BELAY_OK || code == BELAY_ALREADY_EXISTS)
        return BELAY_OK;
    bly_error_copy(err, &mine);
    return code;
}

static belay_code after_run(void *self, belay_run_context *run, belay_error *err) {
    profiler *hook = self;
    int64_t step = belay_run_context_progress(run)->global_step;
    size_t size;
    if (!hook->timer.has_fired)
        bly_timer_update(&hook->timer, hook->step_before, NULL, NULL);
    if (!hook->tracing)
        return BELAY_OK;
    hook->tracing = 0;
    bly_timer_update(&hook->timer, step, NULL, NULL);
    const void *metadata = belay_run_metadata_data(hook->metadata, &size);
    belay_code code = write_timeline(hook, metadata, size, step, err);
    return code == BELAY_OK ? add_event(hook, metadata, size, step, err) : code;
}

static void next_wanted(void *self, const belay_progress *now, belay_when *out) {
    profiler *hook = self;
    if (!hook->timer.has_fired) {
        out->runs = now->runs;
        return;
    }
    bly_timer_want_run(&hook->timer, out);
}

static belay_code end(void *self, belay_session *session, belay_error *err) {
    profiler *hook = self;
    (void)session;
    return bly_events_close(&hook->events, err);
}

static void destroy(void *self) {
    profiler *hook = self;
    bly_events_clean_up(&hook->events);
    belay_run_metadata_free(hook->metadata);
    bly_free(hook->directory);
    bly_free(hook);
}

static belay_code read_options(void *self, const void *given, belay_error *err) {
    profiler *hook = self;
    BLY_LOCAL_ERROR(mine);
    belay_profiler_options options;
    if (bly_options_read(&options, sizeof options, given, "belay_profiler_options", err) !=
        BELAY_OK)
        return BELAY_INVALID_ARGUMENT;
    if (options.reserved || (options.flags & ~KNOWN_FLAGS))
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "%s",
                        options.reserved ? "reserved must be 0"
                                         : "flags has a bit set that this belay does not know");
    const char *directory = options.output_dir && options.output_dir[0] ? options.output_dir : ".";
    belay_code code = bly_timer_init(&hook->timer, options.save_secs, options.save_steps, err);
    if (code == BELAY_OK)
        code = bly_events_init(&hook->events, directory, NULL, err);
    if (code != BELAY_OK)
        return code;
    hook->timeline_flags =
        (options.flags & BELAY_PROFILER_NO_DATAFLOW ? 0 : BLY_TIMELINE_DATAFLOW) |
        (options.flags & BELAY_PROFILER_MEMORY ? BLY_TIMELINE_MEMORY : 0);
    hook->directory = bly_strdup(directory);
    hook->metadata = belay_run_metadata_new(&mine);
    return hook->directory && hook->metadata ? BELAY_OK : bly_fail_memory(err);
}

belay_hook *belay_profiler_hook_new(const belay_profiler_options *given, belay_error *err) {
    static const belay_hook_vtable table = {
        .struct_size = sizeof table,
        .begin = begin,
        .after_create_session = after_create_session,
        .before_run = before_run,
        .after_run = after_run,
        .end = end,
        .next_wanted = next_wanted,
        .destroy = destroy,
        .name = "ProfilerHook",
    };
    return bly_hook_make(&table, sizeof(profiler), read_options, given, err);
}
