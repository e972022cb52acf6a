/* The script, sessions and runs of the scripted runtime. */
#include "scripted_impl.h"

#include "base/clock.h"
#include "wire/cursor.h"

#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

bly_mutex scripted_lock = PTHREAD_MUTEX_INITIALIZER;

atomic_int scripted_live_tensors, scripted_live_statuses, scripted_live_buffers,
    scripted_live_graphs, scripted_live_sessions, scripted_live_options, scripted_live_descriptions,
    scripted_live_device_lists;

enum kind { FAIL, HANG, DELAY, CALL, VALUE };

struct rule {
    struct rule *next;
    char *what;
    int first, last;
    enum kind kind;
    belay_code code;
    char *message;
    int64_t ms;
    double value;
    void (*function)(void *self);
    void *self;
};

struct counter {
    struct counter *next;
    char *what;
    size_t count;
};

/* all guarded by scripted_lock */
static bly_cond changed; /* made by the first install */
static int ready_to_wait;
static struct rule *rules;
static struct counter *counters;
static struct scripted_world *servers;
static TF_Session *sessions; /* the newest first */
static size_t blocked;
static size_t in_flight; /* calls that a rule can hold up */
static int released;
static char **run_lines;
static size_t run_line_count;
static int keeps_no_runs;
static struct scripted_bytes last_run_options, last_config;

static void count_locked(const char *what, size_t *out) {
    struct counter *c = counters;
    while (c && strcmp(c->what, what) != 0)
        c = c->next;
    if (!c) {
        c = scripted_zalloc(sizeof *c);
        c->what = scripted_strdup(what);
        c->next = counters;
        counters = c;
    }
    c->count++;
    *out = c->count;
}

void scripted_called(const char *what) {
    size_t n;
    bly_mutex_lock(&scripted_lock);
    count_locked(what, &n);
    bly_mutex_unlock(&scripted_lock);
}

size_t scripted_count(const char *what) {
    size_t count = 0;
    bly_mutex_lock(&scripted_lock);
    for (struct counter *c = counters; c; c = c->next)
        if (strcmp(c->what, what) == 0)
            count = c->count;
    bly_mutex_unlock(&scripted_lock);
    return count;
}

/* ---- rules ---- */

static void add_rule(struct rule rule) {
    struct rule *copy = scripted_zalloc(sizeof *copy);
    *copy = rule;
    copy->what = scripted_strdup(rule.what);
    copy->message = scripted_strdup(rule.message ? rule.message : "");
    copy->next = NULL;
    bly_mutex_lock(&scripted_lock);
    struct rule **end = &rules;
    while (*end)
        end = &(*end)->next;
    *end = copy;
    bly_mutex_unlock(&scripted_lock);
}

static struct rule rule_for(const char *what, int nth, enum kind kind) {
    struct rule rule = {.what = (char *)(uintptr_t)what, .kind = kind};
    rule.first = nth ? nth : 1;
    rule.last = nth ? nth : INT_MAX;
    return rule;
}

void scripted_fail_range(const char *what, int first, int last, belay_code code,
                         const char *message) {
    struct rule rule = rule_for(what, first, FAIL);
    rule.last = last;
    rule.code = code;
    rule.message = (char *)(uintptr_t)message;
    add_rule(rule);
}

void scripted_fail(const char *what, int nth, belay_code code, const char *message) {
    scripted_fail_range(what, nth ? nth : 1, nth ? nth : INT_MAX, code, message);
}

void scripted_hang(const char *what, int nth) {
    add_rule(rule_for(what, nth, HANG));
}

void scripted_delay_ms(const char *what, int nth, int64_t ms) {
    struct rule rule = rule_for(what, nth, DELAY);
    rule.ms = ms;
    add_rule(rule);
}

void scripted_call(const char *what, int nth, void (*function)(void *self), void *self) {
    struct rule rule = rule_for(what, nth, CALL);
    rule.function = function;
    rule.self = self;
    add_rule(rule);
}

void scripted_value(const char *what, int nth, double value) {
    struct rule rule = rule_for(what, nth, VALUE);
    rule.value = value;
    add_rule(rule);
}

void scripted_forget(const char *what) {
    bly_mutex_lock(&scripted_lock);
    struct rule **link = &rules;
    while (*link) {
        struct rule *r = *link;
        if (what && strcmp(r->what, what) != 0) {
            link = &r->next;
            continue;
        }
        *link = r->next;
        free(r->what);
        free(r->message);
        free(r);
    }
    bly_mutex_unlock(&scripted_lock);
}

void scripted_changed_locked(void) {
    bly_cond_signal_all(&changed);
}

void scripted_release(void) {
    bly_mutex_lock(&scripted_lock);
    released = 1;
    scripted_changed_locked();
    bly_mutex_unlock(&scripted_lock);
}

int scripted_fail_run(struct scripted_run *run, belay_code code, const char *format, ...) {
    if (run->code != BELAY_OK)
        return 0;
    va_list args;
    va_start(args, format);
    vsnprintf(run->message, sizeof run->message, format, args);
    va_end(args);
    run->code = code;
    return 0;
}

/* 0 where the session's other side is gone. */
static int check_server(struct scripted_run *run) {
    TF_Session *s = run->session;
    if (!s || !s->world->target[0])
        return 1;
    if (s->world->state == SCRIPTED_UNAVAILABLE)
        return scripted_fail_run(run, BELAY_UNAVAILABLE, "failed to connect to all addresses");
    if (s->world->state == SCRIPTED_UP && s->incarnation != s->world->incarnation)
        return scripted_fail_run(
            run, BELAY_ABORTED, "Session handle is not found. Possibly this master has restarted.");
    return 1;
}

static int64_t earlier(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* What ends a wait other than what is waited for. 0: it ended, and the run has failed. */
static int may_wait(struct scripted_run *run) {
    if (run->session && run->session->closed)
        return scripted_fail_run(run, BELAY_CANCELLED,
                                 "Step was cancelled by an explicit call to `Session::Close()`.");
    if (!check_server(run))
        return 0;
    if (released)
        return scripted_fail_run(run, BELAY_CANCELLED, "released by the test");
    if (run->deadline_us != INT64_MAX && bly_now_us() >= run->deadline_us)
        return scripted_fail_run(run, BELAY_DEADLINE_EXCEEDED,
                                 "Timed out waiting for notification");
    return 1;
}

int scripted_block_locked(struct scripted_run *run, int (*ready)(void *arg), void *arg,
                          int64_t until_us) {
    int ok;
    blocked++;
    scripted_changed_locked();
    for (;;) {
        ok = ready && ready(arg);
        if (ok || !(ok = may_wait(run)) || (until_us != INT64_MAX && bly_now_us() >= until_us))
            break;
        bly_wait_until(&changed, &scripted_lock, earlier(until_us, run->deadline_us));
    }
    blocked--;
    return ok;
}

static int apply_locked(struct scripted_run *run, struct rule rule, int *out_has_value,
                        double *out_value) {
    switch (rule.kind) {
    case FAIL:
        return scripted_fail_run(run, rule.code, "%s", rule.message);
    case HANG:
        return scripted_block_locked(run, NULL, NULL, INT64_MAX);
    case DELAY:
        return scripted_block_locked(run, NULL, NULL, bly_now_us() + rule.ms * 1000);
    case CALL:
        bly_mutex_unlock(&scripted_lock);
        rule.function(rule.self);
        bly_mutex_lock(&scripted_lock);
        return 1;
    default:
        if (out_has_value) {
            *out_has_value = 1;
            *out_value = rule.value;
        }
        return 1;
    }
}

int scripted_rules_locked(struct scripted_run *run, const char *what, int *out_has_value,
                          double *out_value) {
    size_t n;
    int ok = 1;
    count_locked(what, &n);
    in_flight++;
    /* By number: the list may change while a rule waits. */
    for (size_t i = 0; ok; i++) {
        struct rule *r = rules;
        for (size_t at = 0; r && at < i; at++)
            r = r->next;
        if (!r)
            break;
        if (strcmp(r->what, what) != 0 || n < (size_t)r->first || n > (size_t)r->last)
            continue;
        struct rule copy = *r;
        copy.message = scripted_strdup(r->message);
        ok = apply_locked(run, copy, out_has_value, out_value);
        free(copy.message);
    }
    in_flight--;
    scripted_changed_locked();
    return ok;
}

/* ---- worlds ---- */

struct scripted_world *scripted_world_new(const char *target) {
    struct scripted_world *w = scripted_zalloc(sizeof *w);
    w->target = scripted_strdup(target);
    w->references = 1;
    return w;
}

void scripted_world_clear(struct scripted_world *w) {
    while (w->variables) {
        struct scripted_variable *v = w->variables;
        w->variables = v->next;
        scripted_array_unref(v->value);
        free(v->name);
        free(v);
    }
    while (w->queues) {
        struct scripted_queue *q = w->queues;
        w->queues = q->next;
        for (size_t i = 0; i < q->count * q->width; i++)
            scripted_array_unref(q->elements[i]);
        free(q->elements);
        free(q->name);
        free(q);
    }
}

static void world_unref_locked(struct scripted_world *w) {
    if (--w->references > 0)
        return;
    scripted_world_clear(w);
    free(w->target);
    free(w);
}

struct scripted_variable *scripted_variable_of(struct scripted_world *w, const char *name) {
    struct scripted_variable *v = w->variables;
    while (v && strcmp(v->name, name) != 0)
        v = v->next;
    if (!v) {
        v = scripted_zalloc(sizeof *v);
        v->name = scripted_strdup(name);
        v->next = w->variables;
        w->variables = v;
    }
    return v;
}

static struct scripted_world *server_locked(const char *target) {
    struct scripted_world *w = servers;
    while (w && strcmp(w->target, target) != 0)
        w = w->next;
    if (!w) {
        w = scripted_world_new(target);
        w->next = servers;
        servers = w;
    }
    return w;
}

void scripted_server_state(const char *target, int state) {
    bly_mutex_lock(&scripted_lock);
    server_locked(target)->state = state;
    scripted_changed_locked();
    bly_mutex_unlock(&scripted_lock);
}

/* Variables of the old process go when nothing evaluates on them: evaluation holds the lock except
 * where it waits, and a wait ends with ABORTED before anything else is touched. Queues stay until
 * then for the same reason. */
void scripted_server_restart(const char *target) {
    bly_mutex_lock(&scripted_lock);
    struct scripted_world *w = server_locked(target);
    w->incarnation++;
    w->state = SCRIPTED_UP;
    for (struct scripted_variable *v = w->variables; v; v = v->next) {
        scripted_array_unref(v->value);
        v->value = NULL;
    }
    for (struct scripted_queue *q = w->queues; q; q = q->next) {
        for (size_t i = 0; i < q->count * q->width; i++)
            scripted_array_unref(q->elements[i]);
        q->count = 0;
        q->closed = q->cancelled = 0;
    }
    scripted_changed_locked();
    bly_mutex_unlock(&scripted_lock);
}

int scripted_variable(const char *target, const char *name, double *out) {
    int found = 0;
    *out = 0;
    bly_mutex_lock(&scripted_lock);
    struct scripted_world *w = target ? server_locked(target) : sessions ? sessions->world : NULL;
    for (struct scripted_variable *v = w ? w->variables : NULL; v; v = v->next) {
        if (strcmp(v->name, name) != 0 || !v->value)
            continue;
        *out = scripted_array_number(v->value, 0);
        found = 1;
    }
    bly_mutex_unlock(&scripted_lock);
    return found;
}

/* ---- sessions ---- */

struct TF_SessionOptions {
    char *target;
    struct scripted_bytes config;
};

struct TF_DeviceList {
    char name[300];
};

TF_SessionOptions *scripted_NewSessionOptions(void) {
    TF_SessionOptions *o = scripted_zalloc(sizeof *o);
    o->target = scripted_strdup("");
    atomic_fetch_add(&scripted_live_options, 1);
    return o;
}

void scripted_DeleteSessionOptions(TF_SessionOptions *o) {
    atomic_fetch_sub(&scripted_live_options, 1);
    free(o->target);
    free(o->config.data);
    free(o);
}

void scripted_SetTarget(TF_SessionOptions *o, const char *target) {
    free(o->target);
    o->target = scripted_strdup(target);
}

static int is_message(const void *data, size_t len) {
    bly_cursor cursor = bly_cursor_over(data, len);
    bly_field field;
    while (bly_cursor_next(&cursor, &field))
        ;
    return !cursor.broken;
}

static int64_t number_in(const void *data, size_t len, uint32_t number, int64_t otherwise) {
    bly_cursor cursor = bly_cursor_over(data, len);
    bly_field field;
    while (bly_cursor_next(&cursor, &field))
        if (field.number == number && field.type == 0)
            otherwise = (int64_t)field.value;
    return otherwise;
}

void scripted_SetConfig(TF_SessionOptions *o, const void *data, size_t len, TF_Status *status) {
    if (!is_message(data, len)) {
        scripted_SetStatus(status, TF_INVALID_ARGUMENT, "Unparseable ConfigProto");
        return;
    }
    o->config.len = 0;
    scripted_put(&o->config, data, len);
    scripted_SetStatus(status, TF_OK, "");
}

static TF_Session *open_locked(struct scripted_run *run, TF_Graph *graph,
                               const TF_SessionOptions *o) {
    int in_process = o->target[0] == '\0' || strcmp(o->target, "local") == 0;
    if (!scripted_rules_locked(run, "TF_NewSession", NULL, NULL))
        return NULL;
    if (!in_process && strncmp(o->target, "grpc://", 7) != 0) {
        scripted_fail_run(
            run, BELAY_NOT_FOUND,
            "No session factory registered for the given session options: {target: "
            "\"%s\" config: } Registered factories are {DIRECT_SESSION, GRPC_SESSION}.",
            o->target);
        return NULL;
    }
    TF_Session *s = scripted_zalloc(sizeof *s);
    s->graph = graph;
    graph->sessions++;
    if (in_process) {
        s->world = scripted_world_new("");
    } else {
        s->world = server_locked(o->target);
        s->world->references++;
    }
    s->incarnation = s->world->incarnation;
    s->timeout_ms = number_in(o->config.data, o->config.len, 11, 0);
    s->next = sessions;
    sessions = s;
    last_config.len = 0;
    scripted_put(&last_config, o->config.data, o->config.len);
    atomic_fetch_add(&scripted_live_sessions, 1);
    return s;
}

TF_Session *scripted_NewSession(TF_Graph *graph, const TF_SessionOptions *o, TF_Status *status) {
    struct scripted_run run = {.deadline_us = INT64_MAX};
    bly_mutex_lock(&scripted_lock);
    TF_Session *s = open_locked(&run, graph, o);
    bly_mutex_unlock(&scripted_lock);
    scripted_SetStatus(status, (TF_Code)run.code, run.message);
    return s;
}

void scripted_CloseSession(TF_Session *s, TF_Status *status) {
    struct scripted_run run = {.deadline_us =
                                   INT64_MAX}; /* without a session: close ends itself not */
    bly_mutex_lock(&scripted_lock);
    s->in_flight++;
    scripted_rules_locked(&run, "TF_CloseSession", NULL, NULL);
    s->in_flight--;
    s->closed = 1;
    scripted_changed_locked();
    bly_mutex_unlock(&scripted_lock);
    scripted_SetStatus(status, (TF_Code)run.code, run.message);
}

void scripted_DeleteSession(TF_Session *s, TF_Status *status) {
    struct scripted_run run = {.deadline_us = INT64_MAX};
    bly_mutex_lock(&scripted_lock);
    scripted_rules_locked(&run, "TF_DeleteSession", NULL, NULL);
    if (s->in_flight > 0) {
        fprintf(stderr, "scripted runtime: a session is deleted with %d calls in flight\n",
                s->in_flight);
        abort();
    }
    TF_Session **link = &sessions;
    while (*link != s)
        link = &(*link)->next;
    *link = s->next;
    world_unref_locked(s->world);
    s->graph->sessions--;
    scripted_graph_unref_locked(s->graph);
    free(s);
    atomic_fetch_sub(&scripted_live_sessions, 1);
    bly_mutex_unlock(&scripted_lock);
    scripted_SetStatus(status, (TF_Code)run.code, run.message);
}

TF_DeviceList *scripted_SessionListDevices(TF_Session *s, TF_Status *status) {
    TF_DeviceList *list = scripted_zalloc(sizeof *list);
    (void)s;
    snprintf(list->name, sizeof list->name, "/job:localhost/replica:0/task:0/device:CPU:0");
    atomic_fetch_add(&scripted_live_device_lists, 1);
    scripted_SetStatus(status, TF_OK, "");
    return list;
}

int scripted_DeviceListCount(const TF_DeviceList *list) {
    (void)list;
    return 1;
}

const char *scripted_DeviceListName(const TF_DeviceList *list, int index, TF_Status *status) {
    scripted_SetStatus(status, index == 0 ? TF_OK : TF_INVALID_ARGUMENT, "");
    return index == 0 ? list->name : NULL;
}

void scripted_DeleteDeviceList(TF_DeviceList *list) {
    atomic_fetch_sub(&scripted_live_device_lists, 1);
    free(list);
}

/* ---- runs ---- */

static struct scripted_array *fed(const struct scripted_run *run, TF_Output output) {
    for (int i = 0; i < run->feed_count; i++)
        if (run->feeds[i].oper == output.oper && run->feeds[i].index == output.index)
            return run->fed[i];
    return NULL;
}

struct scripted_array *scripted_input(struct scripted_run *run, const TF_Operation *op, int index) {
    TF_Output from = op->inputs[index];
    struct scripted_array *value = fed(run, from);
    if (value || !run->outputs[from.oper->index])
        return value;
    return from.index < from.oper->output_count ? run->outputs[from.oper->index][from.index] : NULL;
}

static int evaluate_inputs_locked(struct scripted_run *run, TF_Operation *op) {
    for (int i = 0; i < op->control_count; i++)
        if (!scripted_evaluate_locked(run, op->controls[i]))
            return 0;
    for (int i = 0; i < op->input_count; i++)
        if (!fed(run, op->inputs[i]) && !scripted_evaluate_locked(run, op->inputs[i].oper))
            return 0;
    return 1;
}

static int run_op_locked(struct scripted_run *run, TF_Operation *op) {
    int has_value = 0;
    double value = 0;
    if (!scripted_rules_locked(run, op->name, &has_value, &value))
        return 0;
    if (!has_value || op->output_count == 0)
        return scripted_kernel_locked(run, op, run->outputs[op->index]);
    int dtype = op->outputs[0] > 100 ? op->outputs[0] - 100 : op->outputs[0];
    run->outputs[op->index][0] = scripted_array_scalar((TF_DataType)dtype, value);
    return 1;
}

/* Like TensorFlow, says which op failed. */
static void mark(struct scripted_run *run, const TF_Operation *op) {
    size_t used = strlen(run->message);
    if (!strstr(run->message, "[[{{node "))
        snprintf(run->message + used, sizeof run->message - used, "\n\t [[{{node %s}}]]", op->name);
}

int scripted_evaluate_locked(struct scripted_run *run, TF_Operation *op) {
    if (run->state[op->index] == 2)
        return 1;
    if (run->state[op->index] == 1)
        return scripted_fail_run(run, BELAY_UNIMPLEMENTED, "loops");
    run->state[op->index] = 1;
    if (!evaluate_inputs_locked(run, op))
        return 0;
    run->outputs[op->index] = scripted_zalloc((size_t)op->output_count * sizeof(void *));
    if (!run_op_locked(run, op)) {
        mark(run, op);
        return 0;
    }
    run->state[op->index] = 2;
    return 1;
}

static TF_Tensor *fetch_locked(struct scripted_run *run, TF_Output output) {
    struct scripted_array *value = fed(run, output);
    if (!value) {
        if (!scripted_evaluate_locked(run, output.oper))
            return NULL;
        value = run->outputs[output.oper->index][output.index];
    }
    if (!value) {
        scripted_fail_run(run, BELAY_FAILED_PRECONDITION,
                          "Attempting to use uninitialized value %s", output.oper->name);
        mark(run, output.oper);
        return NULL;
    }
    /* Strings are TensorFlow's to free in what it gives, so none are shared. */
    return scripted_tensor_of(value->dtype == TF_STRING ? scripted_array_copy(value)
                                                        : scripted_array_ref(value));
}

static void note_run_locked(const TF_Output *inputs, int ninputs, const TF_Output *outputs,
                            int noutputs, const TF_Operation *const *targets, int ntargets) {
    struct scripted_bytes line = {NULL, 0, 0};
    char text[512];
    scripted_put(&line, "", 0);
    for (int i = 0; i < noutputs; i++) {
        snprintf(text, sizeof text, "%s%s:%d", i ? "," : "fetch ", outputs[i].oper->name,
                 outputs[i].index);
        scripted_put(&line, text, strlen(text));
    }
    for (int i = 0; i < ntargets; i++) {
        snprintf(text, sizeof text, "%s%s%s", i || !line.len ? "" : " ", i ? "," : "target ",
                 targets[i]->name);
        scripted_put(&line, text, strlen(text));
    }
    for (int i = 0; i < ninputs; i++) {
        snprintf(text, sizeof text, "%s%s%s:%d", i || !line.len ? "" : " ", i ? "," : "feed ",
                 inputs[i].oper->name, inputs[i].index);
        scripted_put(&line, text, strlen(text));
    }
    run_lines = scripted_realloc(run_lines, (run_line_count + 1) * sizeof *run_lines);
    run_lines[run_line_count++] = line.data;
}

static void note_run_options_locked(const TF_Buffer *options) {
    last_run_options.len = 0;
    if (options)
        scripted_put(&last_run_options, options->data, options->length);
}

/* BUG-74: the calling thread heeds no timeout. */
static int64_t deadline_of(const TF_Session *s, const TF_Buffer *options) {
    int64_t ms = s->timeout_ms;
    if (options) {
        int64_t of_run = number_in(options->data, options->length, 2, 0);
        ms = of_run > 0 ? of_run : ms;
        if (number_in(options->data, options->length, 3, 0) == -1 && !s->world->target[0])
            ms = 0;
    }
    return ms > 0 ? bly_now_us() + ms * 1000 : INT64_MAX;
}

static int take_feeds(struct scripted_run *run, TF_Tensor *const *values) {
    run->fed = scripted_zalloc((size_t)run->feed_count * sizeof(void *));
    for (int i = 0; i < run->feed_count; i++) {
        TF_Output to = run->feeds[i];
        int dtype = to.oper->outputs[to.index];
        if ((int)values[i]->array->dtype != (dtype > 100 ? dtype - 100 : dtype))
            return scripted_fail_run(
                run, BELAY_INVALID_ARGUMENT,
                "Tensor %s:%d, specified in either feed_devices or "
                "fetch_devices was not found in the Graph, or has another type",
                to.oper->name, to.index);
        run->fed[i] = values[i]->array->dtype == TF_STRING ? scripted_array_copy(values[i]->array)
                                                           : scripted_array_ref(values[i]->array);
    }
    return 1;
}

static void clean_up(struct scripted_run *run, TF_Operation *const *ops, size_t count) {
    for (size_t i = 0; i < count; i++) {
        for (int n = 0; run->outputs[i] && n < ops[i]->output_count; n++)
            scripted_array_unref(run->outputs[i][n]);
        free(run->outputs[i]);
    }
    for (int i = 0; run->fed && i < run->feed_count; i++)
        scripted_array_unref(run->fed[i]);
    free(run->fed);
    free(run->outputs);
    free(run->state);
}

static int is_heard(void *session) {
    return ((TF_Session *)session)->world->state != SCRIPTED_SILENT;
}

/* 0 and a failed run where nobody is there to run it. */
static int reach_locked(struct scripted_run *run) {
    TF_Session *s = run->session;
    if (s->closed)
        return scripted_fail_run(run, BELAY_CANCELLED, "Session has been closed.");
    while (check_server(run) && s->world->target[0] && s->world->state == SCRIPTED_SILENT)
        if (!scripted_block_locked(run, is_heard, s, INT64_MAX))
            break;
    return run->code == BELAY_OK;
}

static void free_metadata(void *data, size_t length) {
    (void)length;
    free(data);
}

void scripted_SessionRun(TF_Session *s, const TF_Buffer *options, const TF_Output *inputs,
                         TF_Tensor *const *values, int ninputs, const TF_Output *outputs,
                         TF_Tensor **output_values, int noutputs,
                         const TF_Operation *const *targets, int ntargets, TF_Buffer *metadata,
                         TF_Status *status) {
    struct scripted_run run = {.session = s, .feeds = inputs, .feed_count = ninputs};
    bly_mutex_lock(&scripted_lock);
    size_t count = s->graph->count; /* ops that are added meanwhile are not of this run */
    run.deadline_us = deadline_of(s, options);
    run.state = scripted_zalloc(count);
    run.outputs = scripted_zalloc(count * sizeof(void *));
    if (!keeps_no_runs)
        note_run_locked(inputs, ninputs, outputs, noutputs, targets, ntargets);
    note_run_options_locked(options);
    s->in_flight++;
    in_flight++;
    int ok = reach_locked(&run) && scripted_rules_locked(&run, "TF_SessionRun", NULL, NULL) &&
             take_feeds(&run, values);
    for (int i = 0; i < noutputs; i++)
        output_values[i] = NULL;
    for (int i = 0; ok && i < noutputs; i++)
        ok = (output_values[i] = fetch_locked(&run, outputs[i])) != NULL;
    for (int i = 0; ok && i < ntargets; i++)
        ok = scripted_evaluate_locked(&run, (TF_Operation *)(uintptr_t)targets[i]);
    clean_up(&run, s->graph->ops, count);
    s->in_flight--;
    in_flight--;
    scripted_changed_locked();
    bly_mutex_unlock(&scripted_lock);
    for (int i = 0; !ok && i < noutputs; i++) {
        scripted_DeleteTensor(output_values[i]);
        output_values[i] = NULL;
    }
    if (ok && metadata) {
        metadata->data = strdup("\n"); /* with the NUL: a RunMetadata of nothing */
        metadata->length = 2;
        metadata->data_deallocator = free_metadata;
    }
    scripted_SetStatus(status, (TF_Code)run.code, run.message);
}

const char *scripted_Version(void) {
    return "2.21.0";
}

/* ---- asking ---- */

size_t scripted_blocked(void) {
    bly_mutex_lock(&scripted_lock);
    size_t count = blocked;
    bly_mutex_unlock(&scripted_lock);
    return count;
}

/* Real time: a test's own patience, which its clock must not use up. */
static int wait_really_locked(int (*done)(size_t), size_t arg, int seconds) {
    struct timespec end;
    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += seconds;
    while (!done(arg))
        if (pthread_cond_timedwait(&changed, &scripted_lock, &end) != 0)
            return done(arg);
    return 1;
}

static int blocked_is(size_t count) {
    return blocked >= count;
}

static int nothing_in_flight(size_t unused) {
    (void)unused;
    return in_flight == 0;
}

int scripted_await_blocked(size_t count) {
    bly_mutex_lock(&scripted_lock);
    int ok = wait_really_locked(blocked_is, count, 20);
    bly_mutex_unlock(&scripted_lock);
    return ok;
}

const char *scripted_run_line(size_t index) {
    bly_mutex_lock(&scripted_lock);
    const char *line = index < run_line_count ? run_lines[index] : NULL;
    bly_mutex_unlock(&scripted_lock);
    return line;
}

size_t scripted_run_count(void) {
    bly_mutex_lock(&scripted_lock);
    size_t count = run_line_count;
    bly_mutex_unlock(&scripted_lock);
    return count;
}

void scripted_keep_no_runs(void) {
    bly_mutex_lock(&scripted_lock);
    keeps_no_runs = 1;
    bly_mutex_unlock(&scripted_lock);
}

static size_t copy_out(const struct scripted_bytes *bytes, void *out, size_t room) {
    bly_mutex_lock(&scripted_lock);
    size_t len = bytes->len;
    if (len > 0)
        memcpy(out, bytes->data, len < room ? len : room);
    bly_mutex_unlock(&scripted_lock);
    return len;
}

size_t scripted_last_run_options(void *out, size_t room) {
    return copy_out(&last_run_options, out, room);
}

size_t scripted_last_config(void *out, size_t room) {
    return copy_out(&last_config, out, room);
}

scripted_alive_counts scripted_alive(void) {
    return (scripted_alive_counts){
        atomic_load(&scripted_live_tensors),      atomic_load(&scripted_live_statuses),
        atomic_load(&scripted_live_buffers),      atomic_load(&scripted_live_graphs),
        atomic_load(&scripted_live_sessions),     atomic_load(&scripted_live_options),
        atomic_load(&scripted_live_descriptions), atomic_load(&scripted_live_device_lists)};
}

/* ---- life ---- */

static void forget_everything(void) {
    scripted_forget(NULL);
    bly_mutex_lock(&scripted_lock);
    while (counters) {
        struct counter *c = counters;
        counters = c->next;
        free(c->what);
        free(c);
    }
    while (servers) {
        struct scripted_world *w = servers;
        servers = w->next;
        world_unref_locked(w);
    }
    for (size_t i = 0; i < run_line_count; i++)
        free(run_lines[i]);
    free(run_lines);
    run_lines = NULL;
    run_line_count = 0;
    keeps_no_runs = 0;
    free(last_run_options.data);
    free(last_config.data);
    last_run_options = last_config = (struct scripted_bytes){NULL, 0, 0};
    released = 0;
    bly_mutex_unlock(&scripted_lock);
}

const bly_runtime *scripted_install(void) {
    static const bly_runtime table = {
#define SCRIPTED_FIELD(name) .name = scripted_##name,
        BLY_RUNTIME_CALLS(SCRIPTED_FIELD)
#undef SCRIPTED_FIELD
    };
    if (!ready_to_wait) {
        bly_cond_init(&changed);
        ready_to_wait = 1;
    }
    forget_everything();
    bly_runtime_install(&table);
    return &table;
}

void scripted_uninstall(void) {
    scripted_release();
    bly_mutex_lock(&scripted_lock);
    int quiet = wait_really_locked(nothing_in_flight, 0, 10);
    bly_mutex_unlock(&scripted_lock);
    scripted_alive_counts a = scripted_alive();
    bly_runtime_install(NULL);
    if (!quiet)
        fail_msg("calls of the scripted runtime are still in flight");
    forget_everything();
    if (a.tensors || a.statuses || a.buffers || a.graphs || a.sessions || a.options ||
        a.descriptions || a.device_lists) {
        /* Once is enough: the next test starts with clean hands. */
        scripted_live_tensors = scripted_live_statuses = scripted_live_buffers = 0;
        scripted_live_graphs = scripted_live_sessions = scripted_live_options = 0;
        scripted_live_descriptions = scripted_live_device_lists = 0;
        fail_msg("left alive: %d tensors, %d statuses, %d buffers, %d graphs, %d sessions, "
                 "%d options, %d op descriptions, %d device lists",
                 a.tensors, a.statuses, a.buffers, a.graphs, a.sessions, a.options, a.descriptions,
                 a.device_lists);
    }
}
