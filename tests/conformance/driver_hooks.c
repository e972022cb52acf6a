/* Hooks and listeners that do what a scenario says, and the hooks that TensorFlow ships. */
#include "driver.h"

#include <belay/hooks.h>

#include <stdio.h>
#include <string.h>

/* ---- scripts ---- */

/* Whether `number` is among what the scenario gives: a number, or several. */
static int is_among(const json_t *given, int64_t number) {
    const json_t *item;
    size_t i;
    if (json_is_integer(given))
        return json_integer_value(given) == number;
    json_array_foreach(given, i, item) {
        if (json_integer_value(item) == number)
            return 1;
    }
    return 0;
}

static int stops(const script *s, const char *key) {
    return is_among(json_object_get(s->given, key), s->runs);
}

/* How often this point was reached, with this time. */
static int64_t count_time(script *s, const char *point) {
    json_t *count = json_object_get(s->times, point);
    if (!s->times)
        s->times = json_object();
    if (!count)
        json_object_set_new(s->times, point, count = json_integer(0));
    json_integer_set(count, json_integer_value(count) + 1);
    return json_integer_value(count);
}

static belay_code fail_as(const script *s, const json_t *failure, const char *point, int64_t time,
                          belay_error *err) {
    const char *code = text_in(failure, "code", "");
    if (strcmp(text_in(failure, "at", ""), point) != 0 ||
        (int64_t)number_in(failure, "run", (double)s->runs) != s->runs ||
        (int64_t)number_in(failure, "time", (double)time) != time)
        return BELAY_OK;
    happened(json_pack("[s, s, s]", "raises", point, code));
    return belay_error_set(err, code_named(code), "the scenario says so");
}

/* Reports a callback, and does what the scenario wants there. */
static belay_code at(script *s, const char *point, belay_session *session, json_t *more,
                     belay_error *err) {
    char label[96];
    const json_t *failures = json_object_get(s->given, "fail"), *failure;
    size_t i;
    snprintf(label, sizeof label, "%s.%s", s->label, point);
    happened_text(label, more);
    const json_t *calls = json_object_get(json_object_get(s->given, "calls"), point);
    int64_t time = count_time(s, point);
    belay_code code = calls ? run_script(s->world, calls, time, session, err) : BELAY_OK;
    if (code == BELAY_OK && json_is_object(failures))
        code = fail_as(s, failures, point, time, err);
    json_array_foreach(failures, i, failure) {
        if (code == BELAY_OK)
            code = fail_as(s, failure, point, time, err);
    }
    return code;
}

/* ---- scripted hooks ---- */

static belay_code begin(void *self, belay_graph *graph, belay_error *err) {
    script *s = self;
    s->graph = graph;
    return at(s, "begin", NULL, NULL, err);
}

static belay_code after_create_session(void *self, belay_session *session,
                                       belay_coordinator *coordinator, belay_error *err) {
    ((script *)self)->world->coordinator = coordinator;
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

/* With the hook's "options"; where it "tells" what the run had, metadata are collected. */
static belay_code ask_options(script *s, belay_run_context *run, belay_error *err) {
    belay_run_options options = BELAY_RUN_OPTIONS_INIT;
    wire_message message = {{0}, 0};
    if (!has(s->given, "options_at") || stops(s, "options_at"))
        message = run_options_of(json_object_get(s->given, "options"));
    if (message.size == 0 && !is_true(s->given, "tells"))
        return BELAY_OK;
    if (is_true(s->given, "tells") && !s->metadata)
        s->metadata = belay_run_metadata_new(err);
    options.metadata = s->metadata;
    options.run_options = message.size ? message.bytes : NULL;
    options.run_options_size = message.size;
    return belay_run_context_merge_options(run, &options, err);
}

static void tell_options(const script *s, const belay_run_context *run) {
    char label[96];
    size_t size = 0;
    const void *data = belay_run_context_run_options(run, &size);
    json_t *told = metadata_of(s->metadata);
    json_object_set_new(told, "options", run_options_fields_of(data, size));
    snprintf(label, sizeof label, "%s.ran_with", s->label);
    happened_text(label, told);
}

static belay_code before_run(void *self, belay_run_context *run, belay_error *err) {
    script *s = self;
    s->runs++;
    belay_code code = at(s, "before_run", belay_run_context_session(run), NULL, err);
    if (code == BELAY_OK && stops(s, "stop_before"))
        belay_run_context_request_stop(run);
    if (code == BELAY_OK)
        code = ask_options(s, run, err);
    return code == BELAY_OK ? ask(s, run, err) : code;
}

static belay_code after_run(void *self, belay_run_context *run, belay_error *err) {
    script *s = self;
    json_t *values = json_array();
    for (size_t i = 0; belay_run_context_value(run, i); i++)
        json_array_append_new(values, text_of(belay_run_context_value(run, i)));
    if (is_true(s->given, "tells"))
        tell_options(s, run);
    belay_code code = at(s, "after_run", belay_run_context_session(run), values, err);
    if (code == BELAY_OK && stops(s, "stop_at"))
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

/* ---- scripted session creators ---- */

/* A session that is just opened, and runs these ops. */
static belay_session *bare_session(script *s, belay_error *err) {
    name_list targets = names_of(json_object_get(s->given, "bare"));
    belay_session *session = belay_session_open(s->graph, NULL, err);
    if (session && belay_session_run(session, NULL, NULL, NULL, NULL, targets.of, NULL, err)) {
        belay_session_free(session);
        return NULL;
    }
    return session;
}

static belay_session *create_session(void *self, uint32_t *out_restored, belay_error *err) {
    script *s = self;
    s->runs++;
    if (at(s, "create_session", NULL, NULL, err) != BELAY_OK)
        return NULL;
    belay_session *session =
        has(s->given, "bare") ? bare_session(s, err)
                              : belay_session_creator_create_session(s->inner, out_restored, err);
    if (session && at(s, "created", session, NULL, err) != BELAY_OK) {
        belay_session_free(session);
        return NULL;
    }
    return session;
}

static void destroy_creator(void *self) {
    script *s = self;
    belay_session_creator_free(s->inner);
    s->inner = NULL;
}

belay_session_creator *scripted_creator(call *c, belay_graph *graph, belay_session_creator *inner) {
    static const belay_session_creator_vtable scripted_creation = {sizeof scripted_creation,
                                                                   create_session, destroy_creator};
    const json_t *given = json_object_get(c->all, "creator");
    if (!inner || !given)
        return inner;
    script *s = script_new(c->world, given, text_in(given, "hook", ""));
    s->inner = inner;
    s->graph = graph;
    return belay_session_creator_new(graph, &scripted_creation, s, c->err);
}

/* ---- scripted listeners ---- */

static belay_code listener_begin(void *self, belay_error *err) {
    return at(self, "listener_begin", NULL, NULL, err);
}

static belay_code before_save(void *self, belay_session *session, int64_t global_step,
                              belay_error *err) {
    ((script *)self)->runs++;
    return at(self, "before_save", session, json_integer(global_step), err);
}

static belay_code after_save(void *self, belay_session *session, int64_t global_step,
                             uint32_t *stop, belay_error *err) {
    belay_code code = at(self, "after_save", session, json_integer(global_step), err);
    *stop = code == BELAY_OK && stops(self, "stop_at");
    return code;
}

static belay_code listener_end(void *self, belay_session *session, int64_t global_step,
                               belay_error *err) {
    return at(self, "listener_end", session, json_integer(global_step), err);
}

static const belay_checkpoint_listener_vtable scripted_listener = {
    sizeof scripted_listener, listener_begin, before_save, after_save, listener_end, NULL};

#define LISTENERS_MOST 4

static size_t listeners_of(call *c, const json_t *given, belay_checkpoint_listener *out) {
    const json_t *item;
    size_t i, count = 0;
    json_array_foreach(given, i, item) {
        if (count < LISTENERS_MOST)
            out[count++] = (belay_checkpoint_listener){
                &scripted_listener, script_new(c->world, item, text_in(item, "hook", ""))};
    }
    return count;
}

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
    belay_checkpoint_listener listeners[LISTENERS_MOST];
    options.listener_count = listeners_of(c, json_object_get(given, "listeners"), listeners);
    options.listeners = listeners;
    return belay_checkpoint_saver_hook_new(&options, c->err);
}

static belay_hook *nan_tensor(call *c, const json_t *given) {
    belay_nan_tensor_options options = BELAY_NAN_TENSOR_OPTIONS_INIT;
    options.loss_tensor = text_in(given, "tensor", NULL);
    options.stop_on_nan_loss = json_is_false(json_object_get(given, "fail_on_nan_loss"));
    return belay_nan_tensor_hook_new(&options, c->err);
}

static belay_hook *multi_step_stop(call *c, const json_t *given) {
    belay_multi_step_stop_options options = BELAY_MULTI_STEP_STOP_OPTIONS_INIT;
    options.num_steps = (int64_t)number_in(given, "num_steps", 0);
    options.last_step = (int64_t)number_in(given, "last_step", 0);
    options.steps_per_run = (int64_t)number_in(given, "steps_per_run", 0);
    if (has(given, "steps_per_run") && options.steps_per_run == 0)
        options.steps_per_run = -1; /* 0 is the default here, and refused there */
    return belay_multi_step_stop_hook_new(&options, c->err);
}

static belay_hook *global_step_waiter(call *c, const json_t *given) {
    belay_global_step_waiter_options options = BELAY_GLOBAL_STEP_WAITER_OPTIONS_INIT;
    options.wait_until_step = (int64_t)number_in(given, "wait_until_step", 0);
    return belay_global_step_waiter_hook_new(&options, c->err);
}

/* The world keeps it, for its values. */
static belay_hook *final_ops(call *c, const json_t *given) {
    belay_final_ops_options options = BELAY_FINAL_OPS_OPTIONS_INIT;
    name_list fetches = names_of(json_object_get(given, "final_ops"));
    feed_set feeds;
    if (feeds_of(graph_of(c), json_object_get(given, "feed"), &feeds, c->err) != BELAY_OK)
        return NULL;
    options.final_ops = fetches.of;
    options.feeds = feeds.names.of;
    options.inputs = feeds.tensors;
    belay_hook *hook = belay_final_ops_hook_new(&options, c->err);
    if (hook)
        put(c->world, HOOK, text_in(given, "as", ""), hook);
    return hook;
}

typedef struct fed {
    feed_set feeds;
    int64_t runs, fail_at;
    belay_code code;
    int is_given; /* the hook has the tensors */
} fed;

static belay_code give(void *self, const belay_progress *now, belay_tensor **tensors,
                       belay_error *err) {
    fed *f = self;
    (void)now;
    if (++f->runs == f->fail_at)
        return belay_error_set(err, f->code, "the scenario says so");
    for (size_t i = 0; !f->is_given && i < f->feeds.names.count; i++)
        tensors[i] = f->feeds.tensors[i];
    f->is_given = 1;
    return BELAY_OK;
}

static void free_fed(void *self) {
    fed *f = self;
    if (!f->is_given)
        feeds_free(&f->feeds);
    free(f);
}

static belay_hook *feed_fn(call *c, const json_t *given) {
    belay_feed_fn_options options = BELAY_FEED_FN_OPTIONS_INIT;
    const json_t *failure = json_object_get(given, "fail");
    fed *f = calloc(1, sizeof *f);
    if (feeds_of(graph_of(c), json_object_get(given, "feed"), &f->feeds, c->err) != BELAY_OK) {
        free(f);
        return NULL;
    }
    f->fail_at = (int64_t)number_in(failure, "run", 0);
    f->code = failure ? code_named(text_in(failure, "code", "")) : BELAY_OK;
    options.feeds = f->feeds.names.of;
    options.feed_fn = give;
    options.self = f;
    options.destroy = free_fed;
    return belay_feed_fn_hook_new(&options, c->err);
}

static belay_hook *stop_after_evals(call *c, const json_t *given) {
    belay_stop_after_evals_options options = BELAY_STOP_AFTER_EVALS_OPTIONS_INIT;
    options.num_evals = (int64_t)number_in(given, "num_evals", 0);
    options.no_log = json_is_false(json_object_get(given, "log_progress"));
    return belay_stop_after_evals_hook_new(&options, c->err);
}

static belay_hook *profiler(call *c, const json_t *given) {
    belay_profiler_options options = BELAY_PROFILER_OPTIONS_INIT;
    options.save_steps = (int64_t)number_in(given, "save_steps", 0);
    options.save_secs = number_in(given, "save_secs", 0);
    options.output_dir = text_in(given, "output_dir", NULL);
    return belay_profiler_hook_new(&options, c->err);
}

static const struct shipped {
    const char *name;
    belay_hook *(*make)(call *c, const json_t *given);
} shipped[] = {
    {"stop_at_step", stop_at_step},
    {"checkpoint_saver", checkpoint_saver},
    {"nan_tensor", nan_tensor},
    {"multi_step_stop", multi_step_stop},
    {"global_step_waiter", global_step_waiter},
    {"final_ops", final_ops},
    {"feed_fn", feed_fn},
    {"stop_after_evals", stop_after_evals},
    {"profiler", profiler},
};

static belay_hook *make_hook(call *c, const json_t *given) {
    if (has(given, "hook"))
        return belay_hook_new(&scripted, script_new(c->world, given, text_in(given, "hook", "")),
                              c->err);
    for (size_t i = 0; i < sizeof shipped / sizeof shipped[0]; i++)
        if (has(given, shipped[i].name))
            return shipped[i].make(c, json_object_get(given, shipped[i].name));
    fail(c, NO_VERB, "no such hook");
    return NULL;
}

belay_code make_hooks(call *c, hook_set *out) {
    const json_t *list = json_object_get(c->all, "hooks"), *given;
    size_t i;
    *out = (hook_set){{NULL}, 0, {NULL}, 0};
    json_array_foreach(list, i, given) {
        size_t again = (size_t)number_in(given, "again", HOOKS_MOST);
        belay_hook *hook = again < out->count ? out->of[again] : make_hook(c, given);
        if (!hook)
            return belay_error_code(c->err);
        if (again >= out->count && !has(given, "final_ops"))
            out->made[out->made_count++] = hook;
        out->of[out->count++] = hook;
    }
    return BELAY_OK;
}

void free_hooks(hook_set *hooks) {
    for (size_t i = 0; i < hooks->made_count; i++)
        belay_hook_free(hooks->made[i]);
}
