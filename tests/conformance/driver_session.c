/* Verbs on plain sessions. */
#include "driver.h"

#include "base/error.h"

#include <stdlib.h>
#include <time.h>

/* Runs the initialisers of all variables, local ones last. */
static belay_code initialize(belay_session *session, belay_error *err) {
    belay_graph *graph = belay_session_graph(session);
    for (size_t i = 0; i < belay_graph_variable_count(graph); i++) {
        const char *targets[] = {belay_graph_variable(graph, i)->initializer, NULL};
        belay_code code = belay_session_run(session, NULL, NULL, NULL, NULL, targets, NULL, err);
        if (code != BELAY_OK)
            return code;
    }
    return BELAY_OK;
}

static belay_code open_session(call *c) {
    belay_graph *graph = graph_of(c);
    wire_message config;
    belay_session_options options = session_options_of(c->all, &config);
    belay_session *session = belay_session_open(graph, &options, c->err);
    if (!session)
        return belay_error_code(c->err);
    put(c->world, SESSION, main_text(c), session);
    return is_true(c->all, "init") ? initialize(session, c->err) : BELAY_OK;
}

/* Values of the fetches as text, and frees them. */
static json_t *texts_of(belay_tensor **outputs, size_t count, belay_code code) {
    json_t *texts = code == BELAY_OK ? json_array() : NULL;
    for (size_t i = 0; i < count; i++) {
        if (texts)
            json_array_append_new(texts, text_of(outputs[i]));
        belay_tensor_free(outputs[i]);
    }
    return texts;
}

static json_t *with_metadata(json_t *values, const belay_run_metadata *metadata) {
    json_t *both = metadata_of(metadata);
    json_object_set_new(both, "values", values);
    return both;
}

/* Takes what a run gave; what the caller still shows are none of them. */
static void keep(call *c, belay_tensor **outputs, size_t count) {
    kept_values *values = calloc(1, sizeof *values);
    for (; values->count < count && values->count < 8; values->count++) {
        values->of[values->count] = outputs[values->count];
        outputs[values->count] = NULL;
    }
    put(c->world, KEPT, text_in(c->all, "keep", ""), values);
}

static belay_code show_kept(call *c) {
    const kept_values *values = get(c, KEPT, main_text(c));
    c->result = values ? json_array() : NULL;
    for (size_t i = 0; values && i < values->count; i++)
        json_array_append_new(c->result, text_of(values->of[i]));
    return belay_error_code(c->err);
}

static belay_code run(call *c) {
    belay_session *session = session_of(c);
    name_list targets = names_of(c->main), fetches = names_of(json_object_get(c->all, "fetch"));
    belay_tensor *outputs[NAMES_MOST] = {NULL};
    belay_run_options options = BELAY_RUN_OPTIONS_INIT;
    wire_message message = run_options_of(json_object_get(c->all, "options"));
    feed_set feeds;
    if (!session)
        return NO_OBJECT;
    belay_code code =
        feeds_of(belay_session_graph(session), json_object_get(c->all, "feed"), &feeds, c->err);
    if (code != BELAY_OK)
        return code;
    options.run_options = message.size ? message.bytes : NULL;
    options.run_options_size = message.size;
    options.metadata = is_true(c->all, "metadata") ? belay_run_metadata_new(c->err) : NULL;
    code = belay_session_run(session, feeds.names.of, feeds.tensors, fetches.of, outputs,
                             targets.of, &options, c->err);
    if (code == BELAY_OK && has(c->all, "keep"))
        keep(c, outputs, fetches.count);
    c->result = texts_of(outputs, fetches.count, code);
    if (c->result && options.metadata)
        c->result = with_metadata(c->result, options.metadata);
    belay_run_metadata_free(options.metadata);
    feeds_free(&feeds);
    return code;
}

static belay_code setup(call *c) {
    belay_session *session = session_of(c);
    name_list feeds = names_of(json_object_get(c->all, "feed"));
    name_list fetches = names_of(json_object_get(c->all, "fetch"));
    belay_partial_run *partial =
        session ? belay_session_partial_run_setup(session, feeds.of, fetches.of, c->err) : NULL;
    if (partial)
        put(c->world, PARTIAL, main_text(c), partial);
    return belay_error_code(c->err);
}

static belay_code partial(call *c) {
    belay_session *session = session_of(c);
    belay_partial_run *run = session ? get(c, PARTIAL, main_text(c)) : NULL;
    name_list fetches = names_of(json_object_get(c->all, "fetch"));
    belay_tensor *outputs[NAMES_MOST] = {NULL};
    feed_set feeds;
    if (!run)
        return NO_OBJECT;
    belay_code code =
        feeds_of(belay_session_graph(session), json_object_get(c->all, "feed"), &feeds, c->err);
    if (code != BELAY_OK)
        return code;
    code = belay_partial_run_run(run, feeds.names.of, feeds.tensors, fetches.of, outputs, c->err);
    c->result = texts_of(outputs, fetches.count, code);
    feeds_free(&feeds);
    return code;
}

static belay_code make_callable(call *c) {
    belay_session *session = session_of(c);
    name_list fetches = names_of(json_object_get(c->all, "fetch"));
    name_list targets = names_of(json_object_get(c->all, "target"));
    belay_callable *callable =
        session ? belay_session_make_callable(session, NULL, fetches.of, targets.of, NULL, c->err)
                : NULL;
    if (callable)
        put(c->world, CALLABLE, main_text(c), callable);
    return belay_error_code(c->err);
}

static belay_code call_callable(call *c) {
    belay_callable *callable = get(c, CALLABLE, main_text(c));
    name_list fetches = names_of(json_object_get(c->all, "fetch"));
    belay_tensor *outputs[NAMES_MOST] = {NULL};
    if (!callable)
        return NO_OBJECT;
    belay_code code = belay_callable_run(callable, NULL, outputs, c->err);
    c->result = texts_of(outputs, fetches.count, code);
    return code;
}

static belay_code devices(call *c) {
    belay_session *session = get(c, SESSION, main_text(c));
    belay_device_list *list = session ? belay_session_list_devices(session, c->err) : NULL;
    if (!list)
        return belay_error_code(c->err);
    c->result = json_array();
    for (size_t i = 0; i < belay_device_list_count(list); i++) {
        const belay_device *device = belay_device_list_get(list, i);
        json_array_append_new(c->result, json_sprintf("%s %s", device->name, device->type));
    }
    belay_device_list_free(list);
    return BELAY_OK;
}

static belay_code reset(call *c) {
    belay_session_options options = BELAY_SESSION_OPTIONS_INIT;
    name_list containers = names_of(json_object_get(c->all, "containers"));
    options.target = main_text(c);
    return belay_session_reset(&options, containers.of, c->err);
}

static belay_code close_session(call *c) {
    belay_session *session = get(c, SESSION, main_text(c));
    return session ? belay_session_close(session, c->err) : NO_OBJECT;
}

static belay_code free_session(call *c) {
    if (get(c, SESSION, main_text(c)))
        belay_session_free(take(c->world, SESSION, main_text(c)));
    return belay_error_code(c->err);
}

static belay_code step(call *c) {
    belay_session *session = get(c, SESSION, main_text(c));
    int64_t value = 0;
    belay_code code = session ? belay_session_global_step(session, &value, c->err) : NO_OBJECT;
    if (code == BELAY_OK)
        c->result = json_integer(value);
    return code;
}

static belay_code sleep_for(call *c) {
    double seconds = json_number_value(c->main);
    struct timespec pause = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
    nanosleep(&pause, NULL);
    return BELAY_OK;
}

const verb session_verbs[] = {
    {"open", open_session},   {"run", run},           {"kept", show_kept},
    {"setup", setup},         {"partial", partial},   {"callable", make_callable},
    {"call", call_callable},  {"devices", devices},   {"reset", reset},
    {"close", close_session}, {"free", free_session}, {"step", step},
    {"sleep", sleep_for},     {NULL, NULL},
};
