/* Feeds what a function gives, in every run (HK-FEED). */
#include "base/error.h"
#include "base/mem.h"
#include "base/options.h"
#include "base/text.h"
#include "hooks/make.h"

#include <belay/hooks.h>

#include <stddef.h>

_Static_assert(sizeof(belay_feed_fn_options) ==
                   offsetof(belay_feed_fn_options, destroy) + sizeof(void (*)(void)),
               "no tail padding");

typedef struct feed_fn {
    char **feeds;
    size_t count;
    belay_output *outputs;
    belay_tensor **tensors; /* the function's, which fills them; ours to free at the end */
    belay_code (*fn)(void *self, const belay_progress *now, belay_tensor **tensors,
                     belay_error *err);
    void *fn_self;
    void (*fn_destroy)(void *self);
} feed_fn;

static belay_code begin(void *self, belay_graph *graph, belay_error *err) {
    feed_fn *hook = self;
    belay_code code = BELAY_OK;
    for (size_t i = 0; code == BELAY_OK && i < hook->count; i++)
        code = belay_graph_find_output(graph, hook->feeds[i], &hook->outputs[i], err);
    return code;
}

static belay_code before_run(void *self, belay_run_context *run, belay_error *err) {
    feed_fn *hook = self;
    BLY_LOCAL_ERROR(mine);
    belay_code code =
        hook->fn(hook->fn_self, belay_run_context_progress(run), hook->tensors, &mine);
    if (code != BELAY_OK) {
        bly_fail_callback(&mine, code, "the feed function");
        bly_error_copy(err, &mine);
        return code;
    }
    for (size_t i = 0; code == BELAY_OK && i < hook->count; i++)
        if (hook->tensors[i])
            code = belay_run_context_feed(run, hook->outputs[i], hook->tensors[i], err);
    return code;
}

static void destroy(void *self) {
    feed_fn *hook = self;
    for (size_t i = 0; hook->tensors && i < hook->count; i++)
        belay_tensor_free(hook->tensors[i]);
    if (hook->fn_destroy)
        hook->fn_destroy(hook->fn_self);
    bly_free(hook->tensors);
    bly_free(hook->outputs);
    bly_free_names(hook->feeds);
    bly_free(hook);
}

static belay_code read_options(void *self, const void *given, belay_error *err) {
    feed_fn *hook = self;
    belay_feed_fn_options options;
    if (bly_options_read(&options, sizeof options, given, "belay_feed_fn_options", err) != BELAY_OK)
        return BELAY_INVALID_ARGUMENT;
    hook->fn = options.feed_fn; /* first: from here on destroy() has it */
    hook->fn_self = options.self;
    hook->fn_destroy = options.destroy;
    size_t count = bly_count_names(options.feeds);
    if (!options.feed_fn || count == 0)
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "%s",
                        options.feed_fn ? "feeds must name what is to be fed"
                                        : "feed_fn must be given");
    hook->feeds = bly_copy_names(options.feeds, count);
    hook->outputs = bly_calloc(count, sizeof *hook->outputs);
    hook->tensors = bly_calloc(count, sizeof *hook->tensors);
    hook->count = count;
    return hook->feeds && hook->outputs && hook->tensors ? BELAY_OK : bly_fail_memory(err);
}

belay_hook *belay_feed_fn_hook_new(const belay_feed_fn_options *given, belay_error *err) {
    static const belay_hook_vtable table = {
        .struct_size = sizeof table,
        .begin = begin,
        .before_run = before_run,
        .destroy = destroy,
        .name = "FeedFnHook",
    };
    feed_fn *hook = bly_calloc(1, sizeof *hook);
    belay_feed_fn_options options;
    if (!hook && bly_options_read(&options, sizeof options, given, "", NULL) == BELAY_OK &&
        options.destroy)
        options.destroy(options.self);
    return bly_hook_finish(&table, hook, read_options, given, err);
}
