/* Verbs on monitored sessions, and hooks that do what a scenario says. */
#include "driver.h"

#include <belay/hooks.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- scripted hooks ---- */

/* Reports a callback, and does what the scenario wants there. */
static belay_code at(script *s, const char *point, belay_session *session, json_t *more,
                     belay_error *err) {
    char label[96];
    const json_t *failure = json_object_get(s->given, "fail");
    snprintf(label, sizeof label, "%s.%s", s->label, point);
    happened_text(label, more);
    const json_t *calls = json_object_get(json_object_get(s->given, "calls"), point);
    belay_code code = calls ? run_script(s->world, calls, session, err) : BELAY_OK;
    if (code == BELAY_OK && strcmp(text_in(failure, "at", ""), point) == 0 &&
        (int64_t)number_in(failure, "run", (double)s->runs) == s->runs)
        code =
            belay_error_set(err, code_named(text_in(failure, "code", "")), "the scenario says so");
    return code;
}

static belay_code begin(void *self, belay_graph *graph, belay_error *err) {
    script *s = self;
    s->graph = graph;
    return at(s, "begin", NULL, NULL, err);
}

static belay_code after_create_session(void *self, belay_session *session,
                                       belay_coordinator *coordinator, belay_error *err) {
    (void)coordinator;
    return at(self, "after_create_session", session, NULL, err);
}

static belay_code ask(script *s, belay_run_context *run, belay_error *err) {
    name_list fetches = names_of(json_object_get(s->given, "fetch"));
    belay_output output;
    feed_set feeds;
    belay_code code = feeds_of(s->graph, json_object_get(s->given, "feed"), &feeds, err);
    for (size_t i = 0; code == BELAY_OK && i < fetches.count; i++) {
        code = belay_graph_find_output(s->graph, fetches.of[i], &output, err);
        if (code == BELAY_OK)
            code = belay_run_context_fetch(run, output, err);
    }
    for (size_t i = 0; i < feeds.names.count && i < 8; i++) {
        belay_tensor_free(s->fed[i]); /* of the run before */
        s->fed[i] = feeds.tensors[i];
        if (code == BELAY_OK)
            code = belay_graph_find_output(s->graph, feeds.names.of[i], &output, err);
        if (code == BELAY_OK)
            code = belay_run_context_feed(run, output, s->fed[i], err);
    }
    return code;
}

static belay_code before_run(void *self, belay_run_context *run, belay_error *err) {
    script *s = self;
    s->runs++;
    belay_code code = at(s, "before_run", belay_run_context_session(run), NULL, err);
    if (code == BELAY_OK && (int64_t)number_in(s->given, "stop_before", -1) == s->runs)
        belay_run_context_request_stop(run);
    return code == BELAY_OK ? ask(s, run, err) : code;
}

static belay_code after_run(void *self, belay_run_context *run, belay_error *err) {
    script *s = self;
    json_t *values = json_array();
    for (size_t i = 0; belay_run_context_value(run, i); i++)
        json_array_append_new(values, text_of(belay_run_context_value(run, i)));
    belay_code code = at(s, "after_run", belay_run_context_session(run), values, err);
    if (code == BELAY_OK && (int64_t)number_in(s->given, "stop_at", -1) == s->runs)
        belay_run_context_request_stop(run);
    return code;
}

static belay_code end_hook(void *self, belay_session *session, belay_error *err) {
    return at(self, "end", session, NULL, err);
}

static const belay_hook_vtable scripted = {
    .struct_size = sizeof scripted,
    .begin = begin,
    .after_create_session = after_create_session,
    .before_run = before_run,
    .after_run = after_run,
    .end = end_hook,
};

/* ---- shipped hooks ---- */

static belay_hook *stop_at_step(call *c, const json_t *given) {
    belay_stop_at_step_options options = BELAY_STOP_AT_STEP_OPTIONS_INIT;
    options.num_steps = (int64_t)number_in(given, "num_steps", 0);
    options.last_step = (int64_t)number_in(given, "last_step", 0);
    return belay_stop_at_step_hook_new(&options, c->err);
}

static belay_hook *checkpoint_saver(call *c, const json_t *given) {
    belay_checkpoint_saver_options options = BELAY_CHECKPOINT_SAVER_OPTIONS_INIT;
    options.checkpoint_dir = text_in(given, "checkpoint_dir", NULL);
    options.save_secs = number_in(given, "save_secs", 0);
    options.save_steps = (int64_t)number_in(given, "save_steps", 0);
    options.checkpoint_basename = text_in(given, "checkpoint_basename", NULL);
    if (has(given, "saver"))
        options.saver = get(c, SAVER, text_in(given, "saver", ""));
    if (has(given, "scaffold"))
        options.scaffold = get(c, SCAFFOLD, text_in(given, "scaffold", ""));
    return belay_checkpoint_saver_hook_new(&options, c->err);
}

static belay_hook *nan_tensor(call *c, const json_t *given) {
    belay_nan_tensor_options options = BELAY_NAN_TENSOR_OPTIONS_INIT;
    options.loss_tensor = text_in(given, "tensor", NULL);
    options.stop_on_nan_loss = json_is_false(json_object_get(given, "fail_on_nan_loss"));
    return belay_nan_tensor_hook_new(&options, c->err);
}

static const struct shipped {
    const char *name;
    belay_hook *(*make)(call *c, const json_t *given);
} shipped[] = {
    {"stop_at_step", stop_at_step},
    {"checkpoint_saver", checkpoint_saver},
    {"nan_tensor", nan_tensor},
};

static belay_hook *hook_of(call *c, const json_t *given) {
    if (has(given, "hook"))
        return belay_hook_new(&scripted, script_new(c->world, given, text_in(given, "hook", "")),
                              c->err);
    for (size_t i = 0; i < sizeof shipped / sizeof shipped[0]; i++)
        if (has(given, shipped[i].name))
            return shipped[i].make(c, json_object_get(given, shipped[i].name));
    fail(c, NO_VERB, "no such hook");
    return NULL;
}

/* ---- opening ---- */

#define HOOKS_MOST 16

typedef struct hook_set {
    belay_hook *of[HOOKS_MOST];
    size_t count;
} hook_set;

static belay_code make_hooks(call *c, hook_set *out) {
    const json_t *list = json_object_get(c->all, "hooks"), *given;
    size_t i;
    out->count = 0;
    json_array_foreach(list, i, given) {
        belay_hook *hook = hook_of(c, given);
        if (!hook)
            return belay_error_code(c->err);
        out->of[out->count++] = hook;
    }
    return BELAY_OK;
}

static belay_monitored_session *open_plain(call *c, belay_graph *graph, belay_scaffold *scaffold,
                                           const belay_session_options *session, hook_set *hooks) {
    belay_chief_session_creator_options creator_options = BELAY_CHIEF_SESSION_CREATOR_OPTIONS_INIT;
    belay_monitored_session_options options = BELAY_MONITORED_SESSION_OPTIONS_INIT;
    creator_options.scaffold = scaffold;
    creator_options.session = session;
    creator_options.checkpoint_dir = text_in(c->all, "checkpoint_dir", NULL);
    options.creator = belay_chief_session_creator_new(graph, &creator_options, c->err);
    options.hooks = hooks->of;
    options.hook_count = hooks->count;
    belay_monitored_session *made =
        options.creator ? belay_monitored_session_open(graph, &options, c->err) : NULL;
    belay_session_creator_free(options.creator);
    return made;
}

static belay_monitored_session *open_singular(call *c, belay_graph *graph, belay_scaffold *scaffold,
                                              const belay_session_options *session,
                                              hook_set *hooks) {
    belay_singular_monitored_session_options options =
        BELAY_SINGULAR_MONITORED_SESSION_OPTIONS_INIT;
    options.hooks = hooks->of;
    options.hook_count = hooks->count;
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
                                            : open_plain(c, graph, scaffold, &session, &hooks);
        if (made)
            put(c->world, MONITORED, main_text(c), made);
        code = made ? BELAY_OK : belay_error_code(c->err);
    }
    for (size_t i = 0; i < hooks.count; i++)
        belay_hook_free(hooks.of[i]);
    return code;
}

/* ---- steps ---- */

static belay_code run_step(call *c, belay_step *step, const feed_set *feeds, size_t fetch_count) {
    belay_tensor *outputs[NAMES_MOST] = {NULL};
    belay_code code = belay_step_run(step, feeds->tensors, outputs, c->err);
    json_t *values = json_array();
    for (size_t i = 0; i < fetch_count; i++) {
        json_array_append_new(values, text_of(outputs[i]));
        belay_tensor_free(outputs[i]);
    }
    if (code == BELAY_OK)
        json_array_append_new(c->result, values);
    else
        json_decref(values);
    return code;
}

static belay_code train(call *c) {
    belay_monitored_session *session = get(c, MONITORED, text_in(c->all, "on", "t"));
    name_list targets = names_of(c->main), fetches = names_of(json_object_get(c->all, "fetch"));
    int64_t times = (int64_t)number_in(c->all, "times", 1);
    feed_set feeds;
    if (!session)
        return NO_OBJECT;
    belay_code code = feeds_of(belay_monitored_session_graph(session),
                               json_object_get(c->all, "feed"), &feeds, c->err);
    belay_step *step = code == BELAY_OK ? belay_step_prepare(session, feeds.names.of, fetches.of,
                                                             targets.of, c->err)
                                        : NULL;
    code = belay_error_code(c->err);
    c->result = json_array();
    for (int64_t i = 0; step && code == BELAY_OK && i < times; i++) {
        if (belay_monitored_session_should_stop(session) && !is_true(c->all, "even_if_stopped"))
            break;
        code = run_step(c, step, &feeds, fetches.count);
    }
    feeds_free(&feeds);
    if (code != BELAY_OK) {
        json_decref(c->result);
        c->result = NULL;
    }
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
    if (session)
        put(c->world, BORROWED_SESSION, text_in(c->all, "as", "s"),
            belay_monitored_session_raw_session(session));
    return belay_error_code(c->err);
}

static belay_code end(call *c) {
    if (!get(c, MONITORED, main_text(c)))
        return NO_OBJECT;
    return belay_monitored_session_close(take(c->world, MONITORED, main_text(c)), c->err);
}

const verb monitored_verbs[] = {
    {"monitored", open_monitored},
    {"train", train},
    {"should_stop", should_stop},
    {"request_stop", request_stop},
    {"raw_session", raw_session},
    {"end", end},
    {NULL, NULL},
};
