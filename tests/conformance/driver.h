/* What the parts of the conformance driver share. One part for each layer of the library; each has
 * a table of verbs. Everything a verb sees comes from a scenario (README.md). */
#ifndef BLY_TESTS_CONFORMANCE_DRIVER_H
#define BLY_TESTS_CONFORMANCE_DRIVER_H

#include "session/session.h"

#include <belay/belay.h>

#include <jansson.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

/* Codes of the driver itself, beyond those of the library. */
#define NO_OBJECT ((belay_code)-100) /* a call names what no earlier call made */
#define NO_VERB   ((belay_code)-101) /* the library has no face for this yet */
#define IO_FAILED ((belay_code)-102) /* a verb that works on files could not */

typedef enum object_kind {
    GRAPH,
    SESSION,
    BORROWED_SESSION, /* found as a session; whoever has it closes it, and it is held here */
    SAVER,
    MANAGER,
    SCAFFOLD,
    MONITORED,
    CALLABLE,
    PARTIAL,
    KEPT,
    THREAD,
    WRITER,
    HOOK,
} object_kind;

typedef struct object {
    struct object *next; /* made before this one */
    object_kind kind;
    char name[64];
    void *value;
} object;

/* Values that a run gave. */
typedef struct kept_values {
    belay_tensor *of[8];
    size_t count;
} kept_values;

/* Data of callbacks, which lives as long as the scenario. */
typedef struct script {
    struct script *next;
    struct world *world;
    const json_t *given; /* what the scenario says of it */
    char label[64];
    belay_graph *graph;           /* of a hook, from begin() on, and of a creator */
    belay_tensor *fed[8];         /* freed with the script */
    void *kept;                   /* the same */
    belay_run_metadata *metadata; /* the same; NULL: nobody asked */
    belay_session_creator *inner; /* of a session creator */
    int64_t runs;
    json_t *times; /* point -> how often it was reached; NULL: none was */
} script;

typedef struct world {
    const char *folder;
    object *objects; /* newest first */
    script *scripts;
    belay_coordinator *coordinator; /* that hooks were given last */
    int depth;                      /* of callbacks that we are in */
    struct running *step_fn;        /* the step function that is running; NULL: none */
    belay_error *failure; /* of the last failed run of a monitored session; NULL: it went well */
} world;

/* What a verb is given. */
typedef struct call {
    world *world;
    const char *verb;
    const json_t *main; /* what follows the verb's name */
    const json_t *all;
    belay_error *err;
    json_t *result; /* set by the verb; NULL: null */
} call;

typedef belay_code (*verb_function)(call *c);

typedef struct verb {
    const char *name;
    verb_function function;
} verb;

extern const verb graph_verbs[], session_verbs[], saver_verbs[], manager_verbs[], scaffold_verbs[],
    monitored_verbs[], fault_verbs[], file_verbs[], event_verbs[], step_fn_verbs[];

/* ---- driver.c ---- */

/* Runs a call and gives its part of the trace. */
json_t *perform(world *w, const json_t *call);
/* The name of any code, the driver's included. */
const char *code_text(belay_code code);
belay_code code_named(const char *name);
/* Runs the calls inside a callback that are for this time, or for any, with `session` as session i;
 * the code that the scenario says. */
belay_code run_script(world *w, const json_t *calls, int64_t time, belay_session *session,
                      belay_error *err);
/* The same for a function that an error of a call ends, unless the call says `caught`; session i is
 * that of `context`, which may be NULL. */
belay_code run_body(world *w, const json_t *calls, int64_t attempt, const char *point,
                    belay_step_context *context, belay_error *err);

/* ---- driver_world.c ---- */

/* NULL with NO_OBJECT in the call's error where it was not made. */
void *get(call *c, object_kind kind, const char *name);
/* Replaces and frees what had this name. */
void put(world *w, object_kind kind, const char *name, void *value);
void *take(world *w, object_kind kind, const char *name);
void free_all(world *w);
script *script_new(world *w, const json_t *given, const char *label);

const char *text_in(const json_t *from, const char *key, const char *otherwise);
double number_in(const json_t *from, const char *key, double otherwise);
int has(const json_t *from, const char *key);
int is_true(const json_t *from, const char *key);
/* The verb's own argument where that is a name. */
const char *main_text(const call *c);
/* The graph, session, ... that a call is about. */
belay_graph *graph_of(call *c);
belay_session *session_of(call *c);

/* Adds to what happens during the call that is running. Takes `event`. */
void happened(json_t *event);
void happened_text(const char *label, json_t *more);
/* Collects what happens from now on in this list instead; gives the list before. */
json_t *collect_in(json_t *events);

belay_code fail(call *c, belay_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* ---- driver_scaffold.c ---- */

/* What a scaffold gives to prepare_session. */
void scaffold_into(const belay_scaffold *from, belay_prepare_options *options);

/* ---- driver_hooks.c ---- */

#define HOOKS_MOST 16

typedef struct hook_set {
    belay_hook *of[HOOKS_MOST]; /* as the scenario lists them */
    size_t count;
    belay_hook *made[HOOKS_MOST]; /* each of them once */
    size_t made_count;
} hook_set;

/* A call's "hooks". The caller frees them, also where this fails. */
belay_code make_hooks(call *c, hook_set *out);
/* A call's "creator", which asks `inner` for its sessions and owns it; without one, `inner`. */
belay_session_creator *scripted_creator(call *c, belay_graph *graph, belay_session_creator *inner);
void free_hooks(hook_set *hooks);

/* ---- driver_faults.c ---- */

/* Puts faults between belay and the runtime. */
belay_code faults_install(belay_error *err);
/* No more of them: the scenario is over. */
void faults_clear(void);

/* ---- driver_values.c ---- */

#define NAMES_MOST 32

/* A string or a list of strings, ending in NULL. */
typedef struct name_list {
    const char *of[NAMES_MOST + 1];
    size_t count;
} name_list;

typedef struct feed_set {
    name_list names;
    belay_tensor *tensors[NAMES_MOST];
} feed_set;

name_list names_of(const json_t *value);
/* "float32[2] 1 2" */
json_t *text_of(const belay_tensor *tensor);
/* "float32[2,-1]"; rank -1: "float32?" */
json_t *shape_of(belay_dtype dtype, int32_t rank, const int64_t *dims);
json_t *quoted(const char *data, size_t size);
/* Bytes as Latin-1, so that a trace is text whatever a file holds. */
json_t *latin1(const char *data, size_t size);
/* What latin1() gives, back. The caller frees it with free(). */
char *bytes_of(const json_t *text, size_t *out_size);
belay_dtype dtype_named(const char *name);
/* A value as a scenario writes it; `dtype` where it does not name one. */
belay_tensor *literal(const json_t *given, belay_dtype dtype, belay_error *err);
/* {"x:0": value} or [["x:0", value], ...]. */
belay_code feeds_of(belay_graph *graph, const json_t *given, feed_set *out, belay_error *err);
void feeds_free(feed_set *feeds);

/* A message, such as {"timeout_in_ms": 100}. */
typedef struct wire_message {
    unsigned char bytes[256];
    size_t size;
} wire_message;

wire_message run_options_of(const json_t *given);
/* The same back; what is 0 or empty is not there. */
json_t *run_options_fields_of(const void *data, size_t size);
/* RunMetadata: step_stats, partition_graphs. */
json_t *metadata_of(const belay_run_metadata *metadata);
wire_message config_of(const json_t *given);
/* Options of a session from "target" and "config"; `config` must live as long. */
belay_session_options session_options_of(const json_t *given, wire_message *config);

/* ---- driver_monitored.c ---- */

/* A step as a call describes it. */
typedef struct given_step {
    belay_step *step;
    feed_set feeds;
    name_list fetches;
    belay_run_metadata *metadata; /* NULL: not asked for */
} given_step;

belay_code given_step_make(call *c, belay_monitored_session *session, given_step *out);
/* Runs it once, by a step function's context or, where that is NULL, as such; adds values to the
 * list, or frees it where it fails. */
belay_code given_step_run(call *c, const given_step *given, belay_step_context *context,
                          json_t *values);
void given_step_free(given_step *given);

#endif
