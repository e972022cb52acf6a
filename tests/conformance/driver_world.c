/* The objects of a scenario, and what happens in it. */
#include "driver.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A call in the background looks for its objects while the main thread makes others. */
static pthread_mutex_t objects_lock = PTHREAD_MUTEX_INITIALIZER;

static int is_kind(const object *o, object_kind kind) {
    return o->kind == kind || (kind == SESSION && o->kind == BORROWED_SESSION);
}

static object **find(world *w, object_kind kind, const char *name) {
    object **at = &w->objects;
    while (*at && !(is_kind(*at, kind) && strcmp((*at)->name, name) == 0))
        at = &(*at)->next;
    return at;
}

static void free_value(object_kind kind, void *value) {
    switch (kind) {
    case GRAPH:
        belay_graph_free(value);
        break;
    case SESSION:
        belay_session_free(value);
        break;
    case SAVER:
        belay_saver_free(value);
        break;
    case MANAGER:
        belay_session_manager_free(value);
        break;
    case SCAFFOLD:
        belay_scaffold_free(value);
        break;
    case MONITORED:
        belay_monitored_session_close(value, NULL);
        break;
    case CALLABLE:
        belay_callable_free(value);
        break;
    case PARTIAL:
        belay_partial_run_free(value);
        break;
    case WRITER:
        belay_summary_writer_unref(value);
        break;
    case HOOK:
        belay_hook_free(value);
        break;
    case KEPT:
        for (size_t i = 0; i < ((kept_values *)value)->count; i++)
            belay_tensor_free(((kept_values *)value)->of[i]);
        free(value);
        break;
    case BORROWED_SESSION:
        bly_session_unref(value);
        break;
    case THREAD:
        break;
    }
}

/* Takes an object off the list; NULL: there is none. */
static object *unlink_object(world *w, object_kind kind, const char *name) {
    pthread_mutex_lock(&objects_lock);
    object **at = find(w, kind, name), *o = *at;
    if (o)
        *at = o->next;
    pthread_mutex_unlock(&objects_lock);
    return o;
}

void *take(world *w, object_kind kind, const char *name) {
    object *o = unlink_object(w, kind, name);
    void *value = o ? o->value : NULL;
    free(o);
    return value;
}

void put(world *w, object_kind kind, const char *name, void *value) {
    object *old = unlink_object(w, kind, name), *o = calloc(1, sizeof *o);
    if (old)
        free_value(old->kind, old->value);
    free(old);
    o->kind = kind;
    snprintf(o->name, sizeof o->name, "%s", name);
    o->value = value;
    pthread_mutex_lock(&objects_lock);
    o->next = w->objects;
    w->objects = o;
    pthread_mutex_unlock(&objects_lock);
}

void *get(call *c, object_kind kind, const char *name) {
    pthread_mutex_lock(&objects_lock);
    const object *o = *find(c->world, kind, name);
    void *value = o ? o->value : NULL;
    pthread_mutex_unlock(&objects_lock);
    if (value)
        return value;
    fail(c, NO_OBJECT, "nothing is called %s", name);
    return NULL;
}

/* Newest first: what is used goes after what uses it. */
void free_all(world *w) {
    while (w->objects) {
        object *o = w->objects;
        w->objects = o->next;
        free_value(o->kind, o->value);
        free(o);
    }
    while (w->scripts) {
        script *s = w->scripts;
        w->scripts = s->next;
        for (size_t i = 0; i < sizeof s->fed / sizeof s->fed[0]; i++)
            belay_tensor_free(s->fed[i]);
        json_decref(s->times);
        free(s->kept);
        belay_run_metadata_free(s->metadata);
        free(s);
    }
    belay_error_free(w->failure);
    w->failure = NULL;
}

script *script_new(world *w, const json_t *given, const char *label) {
    script *s = calloc(1, sizeof *s);
    s->world = w;
    s->given = given;
    snprintf(s->label, sizeof s->label, "%s", label);
    s->next = w->scripts;
    w->scripts = s;
    return s;
}

/* ---- reading a call ---- */

const char *text_in(const json_t *from, const char *key, const char *otherwise) {
    const char *text = json_string_value(json_object_get(from, key));
    return text ? text : otherwise;
}

double number_in(const json_t *from, const char *key, double otherwise) {
    const json_t *value = json_object_get(from, key);
    return json_is_number(value) ? json_number_value(value) : otherwise;
}

int has(const json_t *from, const char *key) {
    return json_object_get(from, key) != NULL;
}

int is_true(const json_t *from, const char *key) {
    return json_is_true(json_object_get(from, key));
}

const char *main_text(const call *c) {
    const char *text = json_string_value(c->main);
    return text ? text : "";
}

belay_graph *graph_of(call *c) {
    return get(c, GRAPH, text_in(c->all, "graph", "g"));
}

belay_session *session_of(call *c) {
    return get(c, SESSION, text_in(c->all, "on", "s"));
}

belay_code fail(call *c, belay_code code, const char *format, ...) {
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return belay_error_set(c->err, code, text);
}

/* ---- what happens ---- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static json_t *events; /* guarded by lock */

json_t *collect_in(json_t *list) {
    pthread_mutex_lock(&lock);
    json_t *before = events;
    events = list;
    pthread_mutex_unlock(&lock);
    return before;
}

void happened(json_t *event) {
    pthread_mutex_lock(&lock);
    if (events)
        json_array_append_new(events, event);
    else
        json_decref(event);
    pthread_mutex_unlock(&lock);
}

void happened_text(const char *label, json_t *more) {
    json_t *event = json_array();
    json_array_append_new(event, json_string(label));
    if (more)
        json_array_append_new(event, more);
    happened(event);
}
