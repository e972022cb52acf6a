/* Verbs on monitored sessions. */
#include "driver.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- opening ---- */

/* A hook that tells with which options a run was made tells what belay tunes, too: not where they
 * are compared with Python's (design, section 6). */
static belay_threads threads_of(const call *c) {
    size_t i;
    const json_t *hook;
    json_array_foreach(json_object_get(c->all, "hooks"), i, hook) {
        if (json_object_get(hook, "tells"))
            return BELAY_THREADS_POOL;
    }
    return BELAY_THREADS_AUTO;
}

static belay_monitored_session *open_with(call *c, belay_graph *graph,
                                          belay_session_creator *creator, hook_set *hooks) {
    belay_monitored_session_options options = BELAY_MONITORED_SESSION_OPTIONS_INIT;
    creator = scripted_creator(c, graph, creator);
    options.creator = creator;
    options.hooks = hooks->of;
    options.hook_count = hooks->count;
    options.threads = threads_of(c);
    belay_monitored_session *made =
        creator ? belay_monitored_session_open(graph, &options, c->err) : NULL;
    belay_session_creator_free(creator);
    return made;
}

static belay_monitored_session *open_worker(call *c, belay_graph *graph, belay_scaffold *scaffold,
                                            const belay_session_options *session, hook_set *hooks) {
    belay_worker_session_creator_options options = BELAY_WORKER_SESSION_CREATOR_OPTIONS_INIT;
    options.scaffold = scaffold;
    options.session = session;
    options.max_wait_secs = number_in(c->all, "max_wait_secs", 0);
    return open_with(c, graph, belay_worker_session_creator_new(graph, &options, c->err), hooks);
}

static belay_monitored_session *open_plain(call *c, belay_graph *graph, belay_scaffold *scaffold,
                                           const belay_session_options *session, hook_set *hooks) {
    belay_chief_session_creator_options options = BELAY_CHIEF_SESSION_CREATOR_OPTIONS_INIT;
    options.scaffold = scaffold;
    options.session = session;
    options.checkpoint_dir = text_in(c->all, "checkpoint_dir", NULL);
    return open_with(c, graph, belay_chief_session_creator_new(graph, &options, c->err), hooks);
}

static belay_monitored_session *open_singular(call *c, belay_graph *graph, belay_scaffold *scaffold,
                                              const belay_session_options *session,
                                              hook_set *hooks) {
    belay_singular_monitored_session_options options =
        BELAY_SINGULAR_MONITORED_SESSION_OPTIONS_INIT;
    options.hooks = hooks->of;
    options.hook_count = hooks->count;
    options.threads = threads_of(c);
    options.scaffold = scaffold;
    options.session = session;
    options.checkpoint_dir = text_in(c->all, "checkpoint_dir", NULL);
    return belay_singular_monitored_session_open(graph, &options, c->err);
}

/* Python's None and 0 switch a frequency off; what is not given is the default. */
static double frequency(const json_t *all, const char *key) {
    const json_t *value = json_object_get(all, key);
    if (!value)
        return 0;
    return json_number_value(value) > 0 ? json_number_value(value) : BELAY_OFF;
}

static belay_monitored_session *open_training(call *c, belay_graph *graph, belay_scaffold *scaffold,
                                              const belay_session_options *session,
                                              hook_set *hooks) {
    belay_training_options options = BELAY_TRAINING_OPTIONS_INIT;
    options.session = session;
    options.checkpoint_dir = text_in(c->all, "checkpoint_dir", NULL);
    options.summary_dir = text_in(c->all, "summary_dir", NULL);
    options.scaffold = scaffold;
    options.hooks = hooks->of;
    options.hook_count = hooks->count;
    options.threads = threads_of(c);
    options.save_checkpoint_secs = frequency(c->all, "save_checkpoint_secs");
    options.save_checkpoint_steps = (int64_t)frequency(c->all, "save_checkpoint_steps");
    options.save_summaries_secs = frequency(c->all, "save_summaries_secs");
    options.save_summaries_steps = (int64_t)frequency(c->all, "save_summaries_steps");
    options.log_step_count_steps = (int64_t)frequency(c->all, "log_step_count_steps");
    options.stop_grace_period_secs = number_in(c->all, "stop_grace_period_secs", 0);
    options.max_wait_secs = number_in(c->all, "max_wait_secs", 0);
    options.is_worker = json_is_false(json_object_get(c->all, "is_chief"));
    return belay_monitored_training_session_open(graph, &options, c->err);
}

static belay_code open_monitored(call *c) {
    belay_graph *graph = graph_of(c);
    belay_scaffold *scaffold = NULL;
    const char *kind = text_in(c->all, "kind", "plain");
    wire_message config;
    belay_session_options session = session_options_of(c->all, &config);
    hook_set hooks;
    put(c->world, MONITORED, main_text(c), NULL);
    if (!graph || (has(c->all, "scaffold") &&
                   !(scaffold = get(c, SCAFFOLD, text_in(c->all, "scaffold", "")))))
        return NO_OBJECT;
    belay_code code = make_hooks(c, &hooks);
    if (code == BELAY_OK) {
        belay_monitored_session *made =
            strcmp(kind, "training") == 0   ? open_training(c, graph, scaffold, &session, &hooks)
            : strcmp(kind, "singular") == 0 ? open_singular(c, graph, scaffold, &session, &hooks)
            : strcmp(kind, "worker") == 0   ? open_worker(c, graph, scaffold, &session, &hooks)
                                            : open_plain(c, graph, scaffold, &session, &hooks);
        if (made)
            put(c->world, MONITORED, main_text(c), made);
        code = made ? BELAY_OK : belay_error_code(c->err);
    }
    free_hooks(&hooks);
    return code;
}

/* ---- steps ---- */

static belay_code set_options(call *c, given_step *step) {
    belay_run_options options = BELAY_RUN_OPTIONS_INIT;
    wire_message message = run_options_of(json_object_get(c->all, "options"));
    options.run_options = message.size ? message.bytes : NULL;
    options.run_options_size = message.size;
    if (is_true(c->all, "metadata"))
        step->metadata = belay_run_metadata_new(c->err);
    options.metadata = step->metadata;
    return message.size || options.metadata
               ? belay_step_set_run_options(step->step, &options, c->err)
               : BELAY_OK;
}

belay_code given_step_make(call *c, belay_monitored_session *session, given_step *out) {
    name_list targets = names_of(c->main);
    *out = (given_step){.fetches = names_of(json_object_get(c->all, "fetch"))};
    if (feeds_of(belay_monitored_session_graph(session), json_object_get(c->all, "feed"),
                 &out->feeds, c->err) == BELAY_OK)
        out->step =
            belay_step_prepare(session, out->feeds.names.of, out->fetches.of, targets.of, c->err);
    return out->step ? set_options(c, out) : belay_error_code(c->err);
}

belay_code given_step_run(call *c, const given_step *given, belay_step_context *context,
                          json_t *values) {
    belay_tensor *outputs[NAMES_MOST] = {NULL};
    belay_code code = context ? belay_step_context_run_with_hooks(
                                    context, given->step, given->feeds.tensors, outputs, c->err)
                              : belay_step_run(given->step, given->feeds.tensors, outputs, c->err);
    for (size_t i = 0; i < given->fetches.count; i++) {
        json_array_append_new(values, text_of(outputs[i]));
        belay_tensor_free(outputs[i]);
    }
    if (code == BELAY_OK && given->metadata)
        happened_text("metadata", metadata_of(given->metadata));
    if (code != BELAY_OK)
        json_decref(values);
    return code;
}

void given_step_free(given_step *given) {
    if (given->metadata)
        belay_step_set_run_options(given->step, NULL, NULL);
    belay_run_metadata_free(given->metadata);
    feeds_free(&given->feeds);
}

static belay_code train(call *c) {
    belay_monitored_session *session = get(c, MONITORED, text_in(c->all, "on", "t"));
    int64_t times = (int64_t)number_in(c->all, "times", 1);
    given_step step;
    if (!session)
        return NO_OBJECT;
    belay_code code = given_step_make(c, session, &step);
    c->result = json_array();
    for (int64_t i = 0; code == BELAY_OK && i < times; i++) {
        if (belay_monitored_session_should_stop(session) && !is_true(c->all, "even_if_stopped"))
            break;
        json_t *values = json_array();
        code = given_step_run(c, &step, NULL, values);
        if (code == BELAY_OK)
            json_array_append_new(c->result, values);
    }
    given_step_free(&step);
    return code;
}

static belay_code should_stop(call *c) {
    belay_monitored_session *session = get(c, MONITORED, main_text(c));
    if (session)
        c->result = json_boolean(belay_monitored_session_should_stop(session));
    return belay_error_code(c->err);
}

static belay_code request_stop(call *c) {
    belay_monitored_session *session = get(c, MONITORED, main_text(c));
    if (session)
        belay_monitored_session_request_stop(session);
    return belay_error_code(c->err);
}

static belay_code raw_session(call *c) {
    belay_monitored_session *session = get(c, MONITORED, main_text(c));
    belay_session *raw = belay_monitored_session_raw_session(session);
    if (session)
        put(c->world, BORROWED_SESSION, text_in(c->all, "as", "s"),
            raw ? bly_session_ref(raw) : NULL);
    return belay_error_code(c->err);
}

static belay_code end(call *c) {
    if (!get(c, MONITORED, main_text(c)))
        return NO_OBJECT;
    c->world->coordinator = NULL;
    return belay_monitored_session_close(take(c->world, MONITORED, main_text(c)), c->err);
}

static belay_code final_values(call *c) {
    belay_hook *hook = get(c, HOOK, main_text(c));
    const belay_tensor *value;
    if (!hook)
        return NO_OBJECT;
    for (size_t i = 0; (value = belay_final_ops_hook_value(hook, i)) != NULL; i++) {
        if (!c->result)
            c->result = json_array();
        json_array_append_new(c->result, text_of(value));
    }
    return BELAY_OK;
}

const verb monitored_verbs[] = {
    {"final_values", final_values},
    {"monitored", open_monitored},
    {"train", train},
    {"should_stop", should_stop},
    {"request_stop", request_stop},
    {"raw_session", raw_session},
    {"end", end},
    {NULL, NULL},
};
