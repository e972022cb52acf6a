/* Takes values from the session when training has ended (HK-FINAL). */
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/options.h"
#include "base/text.h"
#include "hooks/make.h"
#include "session/hook.h"

#include <belay/hooks.h>

#include <stddef.h>
#include <string.h>

_Static_assert(sizeof(belay_final_ops_options) ==
                   offsetof(belay_final_ops_options, inputs) + sizeof(void *),
               "no tail padding");

typedef struct final_ops {
    char **fetches, **targets, **feeds;
    size_t fetch_count, feed_count;
    belay_tensor **inputs;
    belay_tensor **values; /* one for each fetch; NULL until the end (HK-FINAL-02) */
} final_ops;

static void forget_values(final_ops *hook) {
    for (size_t i = 0; hook->values && i < hook->fetch_count; i++) {
        belay_tensor_free(hook->values[i]);
        hook->values[i] = NULL;
    }
}

/* Names are looked up before the first step rather than after the last one. */
static belay_code begin(void *self, belay_graph *graph, belay_error *err) {
    final_ops *hook = self;
    belay_output found;
    belay_code code = BELAY_OK;
    forget_values(hook);
    for (size_t i = 0; code == BELAY_OK && i < hook->fetch_count; i++)
        code = belay_graph_find_output(graph, hook->fetches[i], &found, err);
    for (size_t i = 0; code == BELAY_OK && hook->targets[i]; i++)
        code = belay_graph_find_target(graph, hook->targets[i], &found, err);
    return code;
}

static belay_code end(void *self, belay_session *session, belay_error *err) {
    final_ops *hook = self;
    BLY_LOCAL_ERROR(mine);
    belay_session_run(session, (const char *const *)hook->feeds, hook->inputs,
                      (const char *const *)hook->fetches, hook->values,
                      (const char *const *)hook->targets, NULL, &mine);
    if (mine.code == BELAY_OUT_OF_RANGE) /* HK-FINAL-03 */
        bly_warn("the final ops read from an input that has ended: they should depend on variables "
                 "alone, or be fed. There are no final values: %s",
                 mine.message);
    if (mine.code != BELAY_OK)
        bly_error_copy(err, &mine);
    return mine.code;
}

static void destroy(void *self) {
    final_ops *hook = self;
    forget_values(hook);
    for (size_t i = 0; hook->inputs && i < hook->feed_count; i++)
        belay_tensor_free(hook->inputs[i]);
    bly_free(hook->values);
    bly_free(hook->inputs);
    bly_free_names(hook->fetches);
    bly_free_names(hook->targets);
    bly_free_names(hook->feeds);
    bly_free(hook);
}

static const belay_hook_vtable table = {
    .struct_size = sizeof table,
    .begin = begin,
    .end = end,
    .destroy = destroy,
    .name = "FinalOpsHook",
};

/* They are the hook's from here on, also where it fails. */
static belay_code take_inputs(final_ops *hook, const belay_final_ops_options *options,
                              belay_error *err) {
    size_t count = options->inputs ? bly_count_names(options->feeds) : 0;
    belay_code code = BELAY_OK;
    hook->inputs = bly_calloc(count + 1, sizeof *hook->inputs);
    hook->feed_count = count;
    for (size_t i = 0; i < count; i++) {
        if (!options->inputs[i])
            code = bly_fail(err, BELAY_INVALID_ARGUMENT, "there is no tensor to feed %s with",
                            options->feeds[i]);
        if (hook->inputs)
            hook->inputs[i] = options->inputs[i];
        else
            belay_tensor_free(options->inputs[i]);
    }
    if (!hook->inputs)
        return bly_fail_memory(err);
    if (!options->inputs && options->feeds && options->feeds[0])
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "feeds are named, and inputs is NULL");
    return code;
}

static belay_code read_options(void *self, const void *given, belay_error *err) {
    final_ops *hook = self;
    belay_final_ops_options options;
    if (bly_options_read(&options, sizeof options, given, "belay_final_ops_options", err) !=
        BELAY_OK)
        return BELAY_INVALID_ARGUMENT;
    belay_code code = take_inputs(hook, &options, err);
    if (code != BELAY_OK)
        return code;
    hook->fetch_count = bly_count_names(options.final_ops);
    hook->fetches = bly_copy_names(options.final_ops, hook->fetch_count);
    hook->targets = bly_copy_names(options.targets, bly_count_names(options.targets));
    hook->feeds = bly_copy_names(options.feeds, hook->feed_count);
    hook->values = bly_calloc(hook->fetch_count + 1, sizeof *hook->values);
    return hook->fetches && hook->targets && hook->feeds && hook->values ? BELAY_OK
                                                                         : bly_fail_memory(err);
}

belay_hook *belay_final_ops_hook_new(const belay_final_ops_options *given, belay_error *err) {
    final_ops *hook = bly_calloc(1, sizeof *hook);
    belay_final_ops_options options;
    if (!hook && bly_options_read(&options, sizeof options, given, "", NULL) == BELAY_OK)
        for (size_t i = 0; options.inputs && options.feeds && options.feeds[i]; i++)
            belay_tensor_free(options.inputs[i]);
    return bly_hook_finish(&table, hook, read_options, given, err);
}

const belay_tensor *belay_final_ops_hook_value(const belay_hook *hook, size_t index) {
    if (!hook || hook->table.destroy != destroy)
        return NULL;
    const final_ops *self = hook->self;
    return index < self->fetch_count ? self->values[index] : NULL;
}
