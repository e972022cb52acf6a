/* Logs tensors (HK-LOG). */
#include "base/buf.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/options.h"
#include "base/text.h"
#include "hooks/make.h"
#include "hooks/print_tensor.h"
#include "hooks/timer.h"

#include <belay/hooks.h>

#include <stddef.h>
#include <stdio.h>

_Static_assert(sizeof(belay_logging_tensor_options) ==
                   offsetof(belay_logging_tensor_options, reserved) + sizeof(uint32_t),
               "no tail padding");

#define LINE_ROOM 4096 /* what the log takes */

typedef struct logging_tensor {
    bly_timer timer;
    size_t count;
    char **names; /* `count`, then NULL */
    char **tags;
    belay_output *outputs;
    const belay_tensor **values; /* `count` places, filled while a line is made */
    belay_tensor **at_end_values;
    belay_logging_formatter formatter;
    void *formatter_self;
    int at_end;
    int64_t iteration; /* of the run that is going on: runs, not steps, are counted (HK-LOG-08) */
    bly_buf line;
    char formatted[LINE_ROOM];
} logging_tensor;

static belay_code begin(void *self, belay_graph *graph, belay_error *err) {
    logging_tensor *hook = self;
    belay_code code = BELAY_OK;
    bly_timer_reset(&hook->timer);
    hook->iteration = 0;
    for (size_t i = 0; code == BELAY_OK && i < hook->count; i++)
        code = belay_graph_find_output(graph, hook->names[i], &hook->outputs[i], err);
    return code;
}

/* Called only for the runs that next_wanted() asked for, which are those to be logged (HK-LOG-09).
 */
static belay_code before_run(void *self, belay_run_context *run, belay_error *err) {
    logging_tensor *hook = self;
    belay_code code = BELAY_OK;
    hook->iteration = belay_run_context_progress(run)->runs;
    for (size_t i = 0; code == BELAY_OK && i < hook->count; i++)
        code = belay_run_context_fetch(run, hook->outputs[i], err);
    return code;
}

static void log_values(logging_tensor *hook) {
    double secs;
    int is_later = bly_timer_update(&hook->timer, hook->iteration, &secs, NULL);
    if (hook->formatter) {
        hook->formatted[0] = '\0';
        hook->formatter(hook->formatter_self, (const char *const *)hook->tags, hook->values,
                        hook->count, hook->formatted, sizeof hook->formatted);
        hook->formatted[sizeof hook->formatted - 1] = '\0';
        bly_info("%s", hook->formatted);
        return;
    }
    bly_buf_clear(&hook->line);
    for (size_t i = 0; i < hook->count; i++) {
        bly_buf_printf(&hook->line, "%s%s = ", i ? ", " : "", hook->tags[i]);
        bly_print_tensor(&hook->line, hook->values[i]);
    }
    if (is_later)
        bly_buf_printf(&hook->line, " (%.3f sec)", secs);
    bly_info("%s", bly_buf_text(&hook->line));
}

static belay_code after_run(void *self, belay_run_context *run, belay_error *err) {
    logging_tensor *hook = self;
    for (size_t i = 0; i < hook->count; i++) {
        hook->values[i] = belay_run_context_value(run, i);
        if (!hook->values[i])
            return bly_fail(err, BELAY_INTERNAL, "%s has no value to log", hook->names[i]);
    }
    log_values(hook);
    return BELAY_OK;
}

static void next_wanted(void *self, const belay_progress *now, belay_when *out) {
    logging_tensor *hook = self;
    (void)now;
    out->runs = bly_timer_next_step(&hook->timer);
    out->time_ms = bly_timer_next_ms(&hook->timer);
}

/* Nothing is fed here, and an input may be used up: that the values cannot be had is no reason to
 * call a training that ended well a failure (BUG-58). */
static belay_code end(void *self, belay_session *session, belay_error *err) {
    logging_tensor *hook = self;
    BLY_LOCAL_ERROR(mine);
    if (!hook->at_end)
        return BELAY_OK;
    belay_session_run(session, NULL, NULL, (const char *const *)hook->names, hook->at_end_values,
                      NULL, NULL, &mine);
    if (mine.code == BELAY_OUT_OF_RANGE) {
        bly_warn("the input has ended, so there are no last values to log: %s", mine.message);
        return BELAY_OK;
    }
    if (mine.code != BELAY_OK) {
        bly_error_copy(err, &mine);
        return mine.code;
    }
    for (size_t i = 0; i < hook->count; i++)
        hook->values[i] = hook->at_end_values[i];
    log_values(hook);
    return BELAY_OK;
}

static void destroy(void *self) {
    logging_tensor *hook = self;
    for (size_t i = 0; hook->at_end_values && i < hook->count; i++)
        belay_tensor_free(hook->at_end_values[i]);
    bly_free(hook->at_end_values);
    bly_free_names(hook->names);
    bly_free_names(hook->tags);
    bly_free(hook->outputs);
    bly_free(hook->values);
    bly_buf_free(&hook->line);
    bly_free(hook);
}

static belay_code read_frequency(bly_timer *timer, const belay_logging_tensor_options *options,
                                 belay_error *err) {
    int by_runs = options->every_n_iter != 0, by_time = options->every_n_secs != 0;
    if (by_runs == by_time && (by_runs || !options->at_end))
        return bly_fail(err, BELAY_INVALID_ARGUMENT,
                        "either at_end and/or exactly one of every_n_iter and every_n_secs must be "
                        "provided.");
    if (options->every_n_iter < 0)
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "invalid every_n_iter=%lld.",
                        (long long)options->every_n_iter);
    if (!by_runs && !by_time) {
        *timer = (bly_timer)BLY_TIMER_NEVER;
        return BELAY_OK;
    }
    if (by_time && !(options->every_n_secs > 0))
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "invalid every_n_secs=%g.",
                        options->every_n_secs);
    return bly_timer_init(timer, options->every_n_secs, options->every_n_iter, err);
}

/* As many tags as tensors, where tags are given at all. */
static belay_code count_names(const belay_logging_tensor_options *options, size_t *out,
                              belay_error *err) {
    size_t count = bly_count_names(options->tensors);
    if (count == 0)
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "tensors must name what is to be logged");
    for (size_t i = 0; options->tags && i < count; i++)
        if (!options->tags[i])
            return bly_fail(err, BELAY_INVALID_ARGUMENT, "there are %zu tensors and %zu tags",
                            count, i);
    *out = count;
    return BELAY_OK;
}

static belay_code read_options(void *self, const void *given, belay_error *err) {
    logging_tensor *hook = self;
    belay_logging_tensor_options options;
    size_t count = 0;
    belay_code code =
        bly_options_read(&options, sizeof options, given, "belay_logging_tensor_options", err);
    if (code == BELAY_OK && (options.at_end > 1 || options.reserved))
        code = bly_fail(err, BELAY_INVALID_ARGUMENT, "%s",
                        options.reserved ? "reserved must be 0" : "at_end must be 0 or 1");
    if (code == BELAY_OK)
        code = read_frequency(&hook->timer, &options, err);
    if (code == BELAY_OK)
        code = count_names(&options, &count, err);
    if (code != BELAY_OK)
        return code;
    hook->formatter = options.formatter;
    hook->formatter_self = options.formatter_self;
    hook->at_end = options.at_end != 0;
    hook->names = bly_copy_names(options.tensors, count);
    hook->tags = bly_copy_names(options.tags ? options.tags : options.tensors, count);
    hook->outputs = bly_calloc(count, sizeof *hook->outputs);
    hook->values = bly_calloc(count, sizeof *hook->values);
    hook->at_end_values = bly_calloc(count, sizeof *hook->at_end_values);
    hook->count = count;
    if (!hook->names || !hook->tags || !hook->outputs || !hook->values || !hook->at_end_values)
        return bly_fail_memory(err);
    return BELAY_OK;
}

belay_hook *belay_logging_tensor_hook_new(const belay_logging_tensor_options *given,
                                          belay_error *err) {
    static const belay_hook_vtable table = {
        .struct_size = sizeof table,
        .begin = begin,
        .before_run = before_run,
        .after_run = after_run,
        .end = end,
        .next_wanted = next_wanted,
        .destroy = destroy,
        .name = "LoggingTensorHook",
    };
    return bly_hook_make(&table, sizeof(logging_tensor), read_options, given, err);
}
