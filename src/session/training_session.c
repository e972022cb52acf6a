/* The one-call form: a monitored session with TensorFlow's usual hooks (MS-26 to MS-39). */
#include "base/error.h"
#include "base/mem.h"
#include "base/options.h"
#include "graph/graph.h"
#include "session/hook.h"
#include "session/monitored_session.h"
#include "session/scaffold.h"

#include <belay/hooks.h>
#include <belay/monitored_session.h>

#include <math.h>
#include <stddef.h>

_Static_assert(sizeof(belay_training_options) ==
                   offsetof(belay_training_options, reserved) + sizeof(uint32_t),
               "no tail padding");

#define SAVE_CHECKPOINT_SECS 600.0
#define SAVE_SUMMARIES_STEPS 100
#define LOG_STEP_COUNT_STEPS 100
#define MAX_WAIT_SECS        7200.0
#define OWN_HOOKS            3

/* A pair of frequencies of which at most one is on. */
typedef struct interval {
    double secs;
    int64_t steps;
} interval;

/* MS-27, MS-28, MS-30: both unset is the default; where one is set the other is off; not positive
 * is off. */
static belay_code read_frequency(const char *what, double secs, int64_t steps, interval unset,
                                 interval *out, belay_error *err) {
    *out = secs == 0 && steps == 0 ? unset : (interval){secs, steps};
    if (isnan(secs)) /* not "off": nothing would be saved, without a word */
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "save_%s_secs is not a number", what);
    if (out->secs > 0 && out->steps > 0)
        return bly_fail(err, BELAY_INVALID_ARGUMENT,
                        "Can not provide both save_%s_secs and save_%s_steps.", what, what);
    if (!(out->secs > 0))
        out->secs = 0;
    if (out->steps < 0)
        out->steps = 0;
    return BELAY_OK;
}

static int is_on(interval every) {
    return every.secs > 0 || every.steps > 0;
}

/* The hooks of a session, each held. */
typedef struct hook_list {
    belay_hook **hooks;
    size_t count;
    int has_listeners; /* the options' listeners were given to one of them */
} hook_list;

static void hook_list_free(hook_list *list) {
    for (size_t i = 0; i < list->count; i++)
        belay_hook_free(list->hooks[i]);
    bly_free(list->hooks);
}

static belay_code add_given(hook_list *list, belay_hook *const *hooks, size_t count,
                            belay_error *err) {
    for (size_t i = 0; i < count; i++) {
        if (!hooks || !hooks[i])
            return bly_fail(err, BELAY_INVALID_ARGUMENT, "hook number %zu is NULL", i);
        list->hooks[list->count++] = bly_hook_ref(hooks[i]);
    }
    return BELAY_OK;
}

/* `hook` is given; NULL is the error that `err` holds. */
static belay_code add_own(hook_list *list, belay_hook *hook, const belay_error *error,
                          belay_error *err) {
    if (!hook) {
        bly_error_copy(err, error);
        return error->code;
    }
    list->hooks[list->count++] = hook;
    return BELAY_OK;
}

static belay_code add_step_counter(hook_list *list, const belay_training_options *options,
                                   const char *summary_dir, belay_error *err) {
    belay_step_counter_options counter = BELAY_STEP_COUNTER_OPTIONS_INIT;
    int64_t steps =
        options->log_step_count_steps == 0 ? LOG_STEP_COUNT_STEPS : options->log_step_count_steps;
    if (!summary_dir || steps < 0)
        return BELAY_OK; /* MS-34 */
    counter.every_n_steps = steps;
    counter.output_dir = summary_dir;
    BLY_LOCAL_ERROR(mine);
    return add_own(list, belay_step_counter_hook_new(&counter, &mine), &mine, err);
}

static belay_code add_summary_saver(hook_list *list, const belay_training_options *options,
                                    const char *summary_dir, belay_scaffold *scaffold,
                                    belay_error *err) {
    belay_summary_saver_options saver = BELAY_SUMMARY_SAVER_OPTIONS_INIT;
    interval every;
    belay_code code =
        read_frequency("summaries", options->save_summaries_secs, options->save_summaries_steps,
                       (interval){0, SAVE_SUMMARIES_STEPS}, &every, err);
    if (code != BELAY_OK || !summary_dir || !is_on(every))
        return code; /* MS-35 */
    saver.save_secs = every.secs;
    saver.save_steps = every.steps;
    saver.output_dir = summary_dir;
    saver.scaffold = scaffold;
    BLY_LOCAL_ERROR(mine);
    return add_own(list, belay_summary_saver_hook_new(&saver, &mine), &mine, err);
}

static belay_code add_checkpoint_saver(hook_list *list, const belay_training_options *options,
                                       belay_scaffold *scaffold, belay_error *err) {
    belay_checkpoint_saver_options saver = BELAY_CHECKPOINT_SAVER_OPTIONS_INIT;
    interval every;
    belay_code code =
        read_frequency("checkpoint", options->save_checkpoint_secs, options->save_checkpoint_steps,
                       (interval){SAVE_CHECKPOINT_SECS, 0}, &every, err);
    if (code != BELAY_OK || !options->checkpoint_dir || !is_on(every))
        return code; /* MS-36 */
    saver.checkpoint_dir = options->checkpoint_dir;
    saver.save_secs = every.secs;
    saver.save_steps = every.steps;
    saver.scaffold = scaffold;
    saver.listeners = options->listeners;
    saver.listener_count = options->listener_count;
    if (options->no_graph_def)
        saver.flags |= BELAY_CHECKPOINT_SAVER_NO_GRAPH_DEF;
    if (options->meta_graph_once)
        saver.flags |= BELAY_CHECKPOINT_SAVER_META_ONCE;
    BLY_LOCAL_ERROR(mine);
    list->has_listeners = 1;
    return add_own(list, belay_checkpoint_saver_hook_new(&saver, &mine), &mine, err);
}

/* Listeners are given, to the hook that saves: it destroys them. Where there is none this does. */
static void destroy_listeners(const belay_training_options *options) {
    if (!options || options->struct_size < offsetof(belay_training_options, meta_graph_once))
        return;
    for (size_t i = 0; options->listeners && i < options->listener_count; i++) {
        const belay_checkpoint_listener *listener = &options->listeners[i];
        if (listener->vtable && listener->vtable->struct_size >= sizeof *listener->vtable &&
            listener->vtable->destroy)
            listener->vtable->destroy(listener->self);
    }
}

/* MS-31, MS-32. */
static belay_code collect_hooks(hook_list *list, const belay_training_options *options,
                                belay_scaffold *scaffold, belay_error *err) {
    const char *summary_dir = options->summary_dir ? options->summary_dir : options->checkpoint_dir;
    list->hooks = bly_calloc(options->hook_count + options->chief_only_hook_count + OWN_HOOKS,
                             sizeof(belay_hook *));
    if (!list->hooks)
        return bly_fail_memory(err);
    belay_code code = BELAY_OK;
    if (!options->is_worker) {
        code = add_given(list, options->chief_only_hooks, options->chief_only_hook_count, err);
        if (code == BELAY_OK)
            code = add_step_counter(list, options, summary_dir, err);
        if (code == BELAY_OK)
            code = add_summary_saver(list, options, summary_dir, scaffold, err);
        if (code == BELAY_OK)
            code = add_checkpoint_saver(list, options, scaffold, err);
    }
    if (code == BELAY_OK)
        code = add_given(list, options->hooks, options->hook_count, err);
    return code;
}

static belay_session_creator *make_creator(belay_graph *graph,
                                           const belay_training_options *options,
                                           belay_scaffold *scaffold, belay_error *err) {
    if (options->is_worker) {
        belay_worker_session_creator_options worker = BELAY_WORKER_SESSION_CREATOR_OPTIONS_INIT;
        worker.scaffold = scaffold;
        worker.session = options->session;
        worker.max_wait_secs = options->max_wait_secs == 0 ? MAX_WAIT_SECS : options->max_wait_secs;
        return belay_worker_session_creator_new(graph, &worker, err);
    }
    belay_chief_session_creator_options chief = BELAY_CHIEF_SESSION_CREATOR_OPTIONS_INIT;
    chief.scaffold = scaffold;
    chief.session = options->session;
    chief.checkpoint_dir = options->checkpoint_dir;
    chief.prepare_flags = options->prepare_flags;
    return belay_chief_session_creator_new(graph, &chief, err);
}

static belay_monitored_session *open_with(belay_graph *graph, const belay_training_options *options,
                                          belay_scaffold *scaffold,
                                          const bly_session_witness *witness, belay_error *err) {
    belay_monitored_session_options monitored = BELAY_MONITORED_SESSION_OPTIONS_INIT;
    hook_list list = {NULL, 0, 0};
    belay_monitored_session *session = NULL;
    monitored.creator = make_creator(graph, options, scaffold, err);
    if (monitored.creator && collect_hooks(&list, options, scaffold, err) == BELAY_OK) {
        monitored.hooks = list.hooks;
        monitored.hook_count = list.count;
        monitored.stop_grace_period_secs = options->stop_grace_period_secs;
        monitored.recovery_budget_secs = options->recovery_budget_secs;
        monitored.threads = options->threads;
        session = bly_monitored_session_open(graph, &monitored, witness, err);
    }
    if (!list.has_listeners)
        destroy_listeners(options);
    hook_list_free(&list);
    belay_session_creator_free(monitored.creator);
    return session;
}

belay_monitored_session *belay_monitored_training_session_open(belay_graph *graph,
                                                               const belay_training_options *given,
                                                               belay_error *err) {
    return bly_training_session_open(graph, given, NULL, err);
}

belay_monitored_session *bly_training_session_open(belay_graph *graph,
                                                   const belay_training_options *given,
                                                   const bly_session_witness *witness,
                                                   belay_error *err) {
    belay_training_options options;
    belay_scaffold *scaffold = NULL;
    if (bly_options_read(&options, sizeof options, given, "belay_training_options", err) !=
        BELAY_OK) {
        destroy_listeners(given); /* as they are: what was read of them is nothing */
        return NULL;
    }
    /* MS-38: one scaffold for creator and hooks. */
    if (options.reserved)
        bly_fail(err, BELAY_INVALID_ARGUMENT, "belay_training_options.reserved must be 0");
    else if (graph && options.scaffold)
        scaffold = bly_scaffold_ref(options.scaffold);
    else
        scaffold = belay_scaffold_new(graph, NULL, err);
    if (!scaffold) {
        destroy_listeners(&options);
        return NULL;
    }
    belay_monitored_session *session = open_with(graph, &options, scaffold, witness, err);
    belay_scaffold_free(scaffold);
    return session;
}
