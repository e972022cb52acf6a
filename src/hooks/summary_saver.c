/* Writes the graph's summaries (HK-SUM). */
#include "base/error.h"
#include "base/mem.h"
#include "base/options.h"
#include "hooks/events.h"
#include "hooks/make.h"
#include "hooks/timer.h"
#include "session/scaffold.h"

#include <belay/hooks.h>

#include <stddef.h>

_Static_assert(sizeof(belay_summary_saver_options) ==
                   offsetof(belay_summary_saver_options, summary_op) + sizeof(void *),
               "no tail padding");

typedef struct summary_saver {
    bly_timer timer;
    bly_events events;
    belay_scaffold *scaffold; /* NULL: summary_op was given */
    char *summary_op;
    belay_output output; /* op NULL: the graph has no summaries */
    int fetching;        /* in this run */
} summary_saver;

static belay_code find_summary(summary_saver *hook, belay_graph *graph, const char *name,
                               belay_error *err) {
    belay_dtype dtype;
    int32_t rank;
    belay_code code = belay_graph_find_output(graph, name, &hook->output, err);
    if (code == BELAY_OK && belay_graph_tensor_info(graph, name, &dtype, &rank, NULL, 0) &&
        dtype != BELAY_STRING)
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "%s is of type %s, not a serialised summary",
                        name, belay_dtype_name(dtype));
    return code;
}

static belay_code begin(void *self, belay_graph *graph, belay_error *err) {
    summary_saver *hook = self;
    belay_code code = belay_graph_check_global_step(graph, "SummarySaverHook", err);
    if (code != BELAY_OK)
        return code;
    hook->output = (belay_output){NULL, 0};
    if (hook->summary_op) {
        code = find_summary(hook, graph, hook->summary_op, err);
        if (code != BELAY_OK)
            return code;
    }
    return bly_events_open(&hook->events, err);
}

/* A recovery may have gone back to an earlier step: the timer must not wait for the old one to be
 * passed, and readers are told by a new START event to forget what came after (BUG-45). */
static belay_code after_create_session(void *self, belay_session *session,
                                       belay_coordinator *coordinator, belay_error *err) {
    summary_saver *hook = self;
    (void)coordinator;
    bly_timer_reset(&hook->timer);
    belay_code code = bly_events_session(&hook->events, session, err);
    if (code != BELAY_OK || !hook->scaffold)
        return code;
    /* Only now: a scaffold has its summary op from finalize on, which comes after begin(). */
    const char *name = belay_scaffold_summary_op(hook->scaffold);
    return name ? find_summary(hook, belay_session_graph(session), name, err) : BELAY_OK;
}

static belay_code before_run(void *self, belay_run_context *run, belay_error *err) {
    summary_saver *hook = self;
    int64_t step = belay_run_context_progress(run)->global_step;
    hook->fetching = hook->output.op && bly_timer_should_trigger(&hook->timer, step + 1);
    return hook->fetching ? belay_run_context_fetch(run, hook->output, err) : BELAY_OK;
}

static belay_code write_summaries(summary_saver *hook, const belay_tensor *value, int64_t step,
                                  belay_error *err) {
    belay_code code = BELAY_OK;
    int64_t count = value ? belay_tensor_count(value) : 0;
    for (int64_t i = 0; code == BELAY_OK && i < count; i++) {
        size_t size;
        const char *bytes = belay_tensor_string(value, i, &size);
        if (!bytes)
            return bly_fail(err, BELAY_INVALID_ARGUMENT,
                            "the summary op gave a tensor of type %s, not a serialised summary",
                            belay_dtype_name(belay_tensor_dtype(value)));
        code = belay_summary_writer_add_summary(hook->events.writer, bytes, size, step, err);
    }
    return code;
}

static belay_code after_run(void *self, belay_run_context *run, belay_error *err) {
    summary_saver *hook = self;
    int64_t step = belay_run_context_progress(run)->global_step;
    belay_code code = bly_events_start(&hook->events, step, err);
    if (code != BELAY_OK || !hook->fetching)
        return code;
    hook->fetching = 0;
    bly_timer_update(&hook->timer, step, NULL, NULL);
    return write_summaries(hook, belay_run_context_value(run, 0), step, err);
}

static void next_wanted(void *self, const belay_progress *now, belay_when *out) {
    summary_saver *hook = self;
    if (!hook->events.writer)
        return; /* nobody would read the summaries, so none is evaluated (BUG-44) */
    if (hook->events.unstarted) {
        out->runs = now->runs;
        return;
    }
    if (!hook->output.op)
        return; /* a graph without summaries: the START event was all (HK-SUM-08) */
    bly_timer_want_run(&hook->timer, out);
}

static belay_code end(void *self, belay_session *session, belay_error *err) {
    summary_saver *hook = self;
    (void)session;
    return bly_events_close(&hook->events, err);
}

static void destroy(void *self) {
    summary_saver *hook = self;
    bly_events_clean_up(&hook->events);
    belay_scaffold_free(hook->scaffold);
    bly_free(hook->summary_op);
    bly_free(hook);
}

static belay_code read_options(void *self, const void *given, belay_error *err) {
    summary_saver *hook = self;
    belay_summary_saver_options options;
    belay_code code =
        bly_options_read(&options, sizeof options, given, "belay_summary_saver_options", err);
    if (code != BELAY_OK)
        return code;
    if (!options.scaffold == !options.summary_op)
        return bly_fail(err, BELAY_INVALID_ARGUMENT,
                        "Exactly one of scaffold or summary_op must be provided.");
    code = bly_timer_init(&hook->timer, options.save_secs, options.save_steps, err);
    if (code == BELAY_OK)
        code = bly_events_init(&hook->events, options.output_dir, options.summary_writer, err);
    if (code != BELAY_OK)
        return code;
    if (options.scaffold)
        hook->scaffold = bly_scaffold_ref(options.scaffold);
    else if (!(hook->summary_op = bly_strdup(options.summary_op)))
        return bly_fail_memory(err);
    return BELAY_OK;
}

belay_hook *belay_summary_saver_hook_new(const belay_summary_saver_options *given,
                                         belay_error *err) {
    static const belay_hook_vtable table = {
        .struct_size = sizeof table,
        .begin = begin,
        .after_create_session = after_create_session,
        .before_run = before_run,
        .after_run = after_run,
        .end = end,
        .next_wanted = next_wanted,
        .destroy = destroy,
        .name = "SummarySaverHook",
    };
    return bly_hook_make(&table, sizeof(summary_saver), read_options, given, err);
}
