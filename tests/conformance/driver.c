/* Runs conformance scenarios on belay; run.py starts it.
 *
 *     conformance_driver PLAN FOLDERS TRACES FIRST
 *
 * Runs the scenarios of PLAN from number FIRST on, each in FOLDERS/NAME, and adds a line for each
 * to TRACES: the same as driver.py writes. A scenario that takes too long, or crashes, ends the
 * process; run.py goes on behind it. */
#include "driver.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SECONDS_A_SCENARIO 30

/* ---- codes ---- */

const char *code_text(belay_code code) {
    switch (code) {
    case NO_OBJECT:
        return "NO_OBJECT";
    case NO_VERB:
        return "NO_VERB";
    case IO_FAILED:
        return "PYTHON OSError";
    default:
        return belay_code_name(code);
    }
}

belay_code code_named(const char *name) {
    for (belay_code code = BELAY_NAN_LOSS; code <= BELAY_UNAUTHENTICATED; code++)
        if (strcmp(belay_code_name(code), name) == 0)
            return code;
    return BELAY_UNKNOWN;
}

/* ---- calls ---- */

static const verb *const all_verbs[] = {graph_verbs,    session_verbs,   saver_verbs, manager_verbs,
                                        scaffold_verbs, monitored_verbs, fault_verbs, file_verbs,
                                        event_verbs,    step_fn_verbs};

static verb_function find_verb(const char *name) {
    for (size_t i = 0; i < sizeof all_verbs / sizeof all_verbs[0]; i++)
        for (const verb *v = all_verbs[i]; v->name; v++)
            if (strcmp(v->name, name) == 0)
                return v->function;
    return NULL;
}

/* The verb is the first member of a call. */
static const char *verb_of(const json_t *given) {
    return json_object_iter_key(json_object_iter((json_t *)(uintptr_t)given));
}

/* Runs a call, whose error is left in `err`; what happens in it goes where it is collected now. */
static json_t *record_with(world *w, const json_t *given, belay_error *err) {
    const char *name = verb_of(given);
    call c = {w, name, json_object_get(given, name), given, err, NULL};
    verb_function function = find_verb(name);
    belay_code code = function ? function(&c) : NO_VERB;
    if (code != BELAY_OK) {
        json_decref(c.result);
        c.result = NULL;
    }
    json_t *record = json_pack("{s:s, s:s, s:o, s:o, s:s}", "verb", name, "code", code_text(code),
                               "result", c.result ? c.result : json_null(), "message",
                               latin1(belay_error_message(err), strlen(belay_error_message(err))),
                               "op", belay_error_op(err));
    return record;
}

static json_t *record_of(world *w, const json_t *given) {
    belay_error *err = belay_error_new();
    json_t *record = record_with(w, given, err);
    belay_error_free(err);
    return record;
}

static json_t *perform_with(world *w, const json_t *given, belay_error *err) {
    json_t *events = json_array();
    json_t *before = collect_in(events);
    json_t *record = record_with(w, given, err);
    collect_in(before);
    json_object_set_new(record, "events", events);
    return record;
}

json_t *perform(world *w, const json_t *given) {
    belay_error *err = belay_error_new();
    json_t *record = perform_with(w, given, err);
    belay_error_free(err);
    return record;
}

/* A call in a callback is an event, followed by those during it. Takes the record. */
static void tell_call(json_t *record) {
    json_t *event;
    size_t i;
    happened(json_pack("[s, O, O, O]", "call", json_object_get(record, "verb"),
                       json_object_get(record, "code"), json_object_get(record, "result")));
    json_array_foreach(json_object_get(record, "events"), i, event) {
        happened(json_incref(event));
    }
    json_decref(record);
}

belay_code run_script(world *w, const json_t *calls, int64_t time, belay_session *session,
                      belay_error *err) {
    const json_t *given;
    size_t i;
    put(w, BORROWED_SESSION, "i", session ? bly_session_ref(session) : NULL);
    w->depth++;
    json_array_foreach(calls, i, given) {
        const char *failure = text_in(given, "fail", NULL);
        if ((int64_t)number_in(given, "time", (double)time) != time)
            continue;
        if (failure) {
            happened_text("fails", json_string(failure));
            w->depth--;
            return belay_error_set(err, code_named(failure), "the scenario says so");
        }
        tell_call(perform(w, given));
    }
    w->depth--;
    return BELAY_OK;
}

belay_code run_body(world *w, const json_t *calls, int64_t attempt, const char *point,
                    belay_step_context *context, belay_error *err) {
    const json_t *given;
    size_t i;
    json_array_foreach(calls, i, given) {
        const char *failure = text_in(given, "fail", NULL);
        if ((int64_t)number_in(given, "time", (double)attempt) != attempt)
            continue;
        if (failure) {
            happened(json_pack("[s, s, s]", "raises", point, failure));
            return belay_error_set(err, code_named(failure), "the scenario says so");
        }
        belay_session *raw = context ? belay_step_context_session(context) : NULL;
        put(w, BORROWED_SESSION, "i", raw ? bly_session_ref(raw) : NULL);
        tell_call(perform_with(w, given, err));
        if (belay_error_code(err) != BELAY_OK && !is_true(given, "caught"))
            return belay_error_code(err);
        belay_error_clear(err);
    }
    return BELAY_OK;
}

/* ---- calls in the background ---- */

typedef struct background {
    pthread_t thread;
    world *world;
    const json_t *given;
    json_t *record;
} background;

static void *run_in_background(void *self) {
    background *b = self;
    long delay_ms = (long)(1000 * number_in(b->given, "delay", 0));
    struct timespec delay = {delay_ms / 1000, delay_ms % 1000 * 1000000};
    nanosleep(&delay, NULL);
    b->record = record_of(b->world, b->given);
    return NULL;
}

static json_t *start(world *w, const char *name, const json_t *given) {
    background *b = calloc(1, sizeof *b);
    b->world = w;
    b->given = given;
    pthread_create(&b->thread, NULL, run_in_background, b);
    put(w, THREAD, name, b);
    return json_pack("{s:s, s:s, s:n, s:s, s:s, s:[]}", "verb", verb_of(given), "code", "STARTED",
                     "result", "message", "", "op", "", "events");
}

static json_t *join(world *w, const char *name) {
    background *b = take(w, THREAD, name);
    if (!b)
        return json_pack("{s:s, s:s, s:n, s:s, s:s, s:[]}", "verb", "join", "code", "NO_OBJECT",
                         "result", "message", "", "op", "", "events");
    pthread_join(b->thread, NULL);
    json_t *record =
        json_pack("{s:s, s:s, s:{s:O, s:O}, s:s, s:s, s:[]}", "verb", "join", "code", "OK",
                  "result", "code", json_object_get(b->record, "code"), "result",
                  json_object_get(b->record, "result"), "message", "", "op", "", "events");
    json_decref(b->record);
    free(b);
    return record;
}

/* ---- scenarios ---- */

static char *replaced(const char *text, const char *what, const char *with) {
    size_t room = 1;
    for (const char *at = text; *at; at++)
        room += strncmp(at, what, strlen(what)) == 0 ? strlen(with) : 1;
    char *made = malloc(room), *to = made;
    while (*text) {
        if (strncmp(text, what, strlen(what)) == 0) {
            to = stpcpy(to, with);
            text += strlen(what);
        } else {
            *to++ = *text++;
        }
    }
    *to = '\0';
    return made;
}

/* A copy with $server and $ replaced; what `says` holds is no path. */
static json_t *placed(const json_t *value, const char *folder, const char *target) {
    const char *key;
    json_t *item, *copy;
    size_t i;
    if (json_is_string(value)) {
        char *once = replaced(json_string_value(value), "$server", target);
        char *twice = replaced(once, "$", folder);
        /* A NUL in a text ends it for `replaced`; such texts hold no path. */
        copy = strlen(json_string_value(value)) == json_string_length(value)
                   ? json_string(twice)
                   : json_deep_copy(value);
        free(once);
        free(twice);
        return copy;
    }
    if (json_is_array(value)) {
        copy = json_array();
        json_array_foreach(value, i, item) {
            json_array_append_new(copy, placed(item, folder, target));
        }
        return copy;
    }
    if (!json_is_object(value))
        return json_deep_copy(value);
    copy = json_object();
    json_object_foreach((json_t *)(uintptr_t)value, key, item) {
        json_object_set_new(copy, key,
                            strcmp(key, "says") == 0 ? json_deep_copy(item)
                                                     : placed(item, folder, target));
    }
    return copy;
}

static void log_line(void *self, belay_log_level level, const char *message) {
    static const char *const levels[] = {"debug", "info", "warning", "error"};
    (void)self;
    happened(json_pack("[s, s, o]", "log", levels[level & 3], latin1(message, strlen(message))));
}

static double seconds_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static json_t *run_scenario(const json_t *scenario, const char *folder) {
    world w = {.folder = folder};
    double started = seconds_now();
    const char *target = text_in(json_object_get(scenario, "targets"), "belay", "");
    json_t *calls = placed(json_object_get(scenario, "calls"), folder, target), *given;
    json_t *records = json_array(), *events = json_array();
    size_t i;
    collect_in(events);
    json_array_foreach(calls, i, given) {
        const char *thread = text_in(given, "background", NULL);
        json_array_append_new(records, thread ? start(&w, thread, given)
                                       : strcmp(verb_of(given), "join") == 0
                                           ? join(&w, text_in(given, "join", ""))
                                           : perform(&w, given));
    }
    faults_clear();
    free_all(&w);
    collect_in(NULL);
    json_decref(events);
    json_decref(calls);
    return json_pack("{s:O, s:f, s:o}", "name", json_object_get(scenario, "name"), "seconds",
                     seconds_now() - started, "calls", records);
}

int main(int argc, char **argv) {
    if (argc != 5) {
        fprintf(stderr, "usage: conformance_driver PLAN FOLDERS TRACES FIRST\n");
        return 2;
    }
    json_error_t why;
    json_t *plan = json_load_file(argv[1], JSON_ALLOW_NUL, &why);
    FILE *traces = fopen(argv[3], "a");
    if (!plan || !traces) {
        fprintf(stderr, "%s: %s\n", plan ? argv[3] : argv[1],
                plan ? "cannot be written" : why.text);
        return 2;
    }
    belay_log_set_callback(log_line, NULL, BELAY_LOG_INFO);
    belay_error *err = belay_error_new();
    if (faults_install(err) != BELAY_OK) {
        fprintf(stderr, "%s\n", belay_error_message(err));
        return 2;
    }
    belay_error_free(err);
    for (size_t i = (size_t)atol(argv[4]); i < json_array_size(plan); i++) {
        char folder[4096];
        const json_t *scenario = json_array_get(plan, i);
        snprintf(folder, sizeof folder, "%s/%s", argv[2], text_in(scenario, "name", ""));
        if (chdir(folder) != 0) {
            perror(folder);
            return 2;
        }
        alarm(SECONDS_A_SCENARIO);
        json_t *trace = run_scenario(scenario, folder);
        alarm(0);
        json_dumpf(trace, traces, JSON_COMPACT);
        fputc('\n', traces);
        fflush(traces);
        json_decref(trace);
    }
    json_decref(plan);
    fclose(traces);
    return 0;
}
