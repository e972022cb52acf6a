/*
 * Eight threads, each with monitored sessions of its own, one after the other: four queue runners
 * and some helper threads on each session's coordinator, and in most of them one thing that goes
 * wrong, or asks to stop, at a random point.
 *
 *     stress [--sessions N] [--seconds S] [--seed N] [--only INDEX] [--graphs FOLDER]
 *
 * What session INDEX does follows from the seed and INDEX alone, whatever thread runs it. Each
 * knows what has to come out of it: which code from opening, from the step, from closing, with the
 * very text that was put in; how often the session was made; and why it ended. Errors that come out
 * and that nobody put in are failures, as are those that were put in and do not come out.
 *
 * No wait is without a limit: a session that makes no progress for a long time is named, and ends
 * the program.
 */
#define _GNU_SOURCE
#include "world.h"

#include "base/thread.h"

#include <belay/belay.h>

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define WORKERS     8
#define HELPERS     3
#define QUEUES      4
#define STEPS_MOST  6
#define HANG_SECS   240 /* the machine may be busy, and sanitizers are slow */
#define WAIT_SECS   120
#define GRACE_SECS  60
#define GRAPH_LIVES 16 /* sessions that one graph is opened for */

#define FAULT_TEXT "fault of session " /* and its number */

/* What is done to a session. */
enum fault {
    NOTHING,
    FAILS_IN_BEGIN,
    FAILS_IN_CREATE,
    FAILS_IN_BEFORE,
    FAILS_IN_AFTER,
    FAILS_IN_END,
    FAILS_IN_RUN,    /* an op does */
    FAILS_IN_HELPER, /* a helper thread reports an error to the coordinator */
    FAILS_IN_RUNNER, /* a queue runner's op does */
    FAILS_TWICE,     /* a helper thread and the step, at the same time */
    STOP_BY_HOOK,
    STOP_BY_THREAD, /* belay_monitored_session_request_stop() */
    STOP_BY_COORDINATOR,
    FAULTS
};

static const char *const fault_names[FAULTS] = {
    "nothing",          "begin() fails",         "after_create_session() fails",
    "before_run fails", "after_run fails",       "end() fails",
    "the run fails",    "a helper thread fails", "a queue runner fails",
    "step and helper",  "a hook stops",          "a thread stops",
    "the coordinator"};

struct plan {
    uint64_t index;
    enum fault fault;
    belay_code code; /* what fails fails with this */
    size_t op;       /* FAILS_IN_RUN: which one */
    int is_singular;
    int steps;
    int at_step; /* from 1 */
    int helpers;
    char text[64]; /* what the error says: tells it from those of all other sessions */
};

struct expected {
    belay_code open, step, close;
    int creations;
    belay_end_reason reason; /* where it is asked */
};

/* --- chance ----------------------------------------------------------------------------------- */

static uint64_t seed = 1;

static uint64_t next_number(uint64_t *state) { /* splitmix64 */
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static int below(uint64_t *state, size_t limit) {
    return (int)(next_number(state) % limit);
}

static int is_recoverable(belay_code code) {
    return code == BELAY_UNAVAILABLE || code == BELAY_ABORTED;
}

static struct plan make_plan(uint64_t index) {
    static const belay_code codes[] = {
        BELAY_INTERNAL,     BELAY_INVALID_ARGUMENT, BELAY_DATA_LOSS, BELAY_PERMISSION_DENIED,
        BELAY_OUT_OF_RANGE, BELAY_UNAVAILABLE,      BELAY_ABORTED,   BELAY_DEADLINE_EXCEEDED};
    uint64_t chance = seed * UINT64_C(0xd1342543de82ef95) + index;
    struct plan p = {.index = index};
    p.fault = (enum fault)below(&chance, FAULTS);
    p.code = codes[below(&chance, sizeof codes / sizeof codes[0])];
    p.is_singular = below(&chance, 2);
    p.steps = 1 + below(&chance, STEPS_MOST);
    p.at_step = 1 + below(&chance, (size_t)p.steps);
    p.helpers = 1 + below(&chance, HELPERS);
    p.op = (size_t)below(&chance, world_failing_op_count);
    if (p.fault == FAILS_IN_RUN)
        p.code = world_failing_ops[p.op].code;
    if (p.fault == FAILS_IN_RUNNER)
        p.code = world_runner_code;
    /* A recovery may take one of the two with it, and the input's end is no error. */
    if (p.fault == FAILS_TWICE || p.fault == FAILS_IN_END)
        p.code = is_recoverable(p.code) || p.code == BELAY_OUT_OF_RANGE ? BELAY_INTERNAL : p.code;
    snprintf(p.text, sizeof p.text, FAULT_TEXT "%" PRIu64 ".", index);
    return p;
}

static struct expected expect(const struct plan *p) {
    struct expected e = {BELAY_OK, BELAY_OK, BELAY_OK, 1, BELAY_END_NONE};
    int recovers = !p->is_singular && is_recoverable(p->code);
    switch (p->fault) {
    case FAILS_IN_BEGIN:
        e.open = p->code;
        e.creations = 0;
        break;
    case FAILS_IN_CREATE:
        e.open = recovers ? BELAY_OK : p->code;
        e.creations = recovers ? 2 : 1;
        break;
    case FAILS_IN_BEFORE:
    case FAILS_IN_AFTER:
    case FAILS_IN_RUN:
        e.step = recovers ? BELAY_OK : p->code;
        e.close = recovers || p->code == BELAY_OUT_OF_RANGE ? BELAY_OK : p->code;
        e.creations = recovers ? 2 : 1;
        break;
    case FAILS_IN_END:
    case FAILS_IN_RUNNER:
        e.close = p->code;
        break;
    case FAILS_IN_HELPER:
        e.close = recovers || p->code == BELAY_OUT_OF_RANGE ? BELAY_OK : p->code;
        e.creations = recovers ? 2 : 1;
        break;
    case STOP_BY_HOOK:
        e.reason = BELAY_END_HOOK;
        break;
    case STOP_BY_THREAD:
        e.reason = BELAY_END_REQUESTED;
        break;
    case STOP_BY_COORDINATOR:
        e.reason = BELAY_END_COORDINATOR;
        break;
    case NOTHING:
    case FAILS_TWICE: /* see check_both() */
    case FAULTS:
        break;
    }
    return e;
}

/* --- one session ------------------------------------------------------------------------------ */

#define CREATIONS_MOST 2

struct helper {
    struct running *running;
    belay_session *session;
    belay_coordinator *coordinator;
    int number;
};

struct running {
    const struct plan *plan;
    belay_coordinator *coordinator;
    struct helper helpers[CREATIONS_MOST][HELPERS];
    _Atomic(belay_monitored_session *) session;
    int creations, ends, destroyed;
    int step;                /* the one that runs, from 1 */
    int injected;            /* how often the fault was put in, by the owner */
    atomic_int go;           /* a helper may act */
    atomic_int was_injected; /* by a helper, which did */
    atomic_int strays;       /* errors in helper threads that nobody put in */
    bly_mutex lock;
    bly_cond cond;
};

/* Once: what is repeated after a recovery goes well. */
static belay_code inject(struct running *r, enum fault fault, belay_error *err) {
    if (r->plan->fault != fault || r->injected)
        return BELAY_OK;
    r->injected++;
    return belay_error_set(err, r->plan->code, r->plan->text);
}

static belay_code begin(void *self, belay_graph *graph, belay_error *err) {
    (void)graph;
    return inject(self, FAILS_IN_BEGIN, err);
}

/* By the first helper thread, once. */
static belay_code act(struct helper *h, belay_error *err) {
    struct running *r = h->running;
    const struct plan *p = r->plan;
    belay_monitored_session *session = atomic_load(&r->session);
    if (p->fault == STOP_BY_THREAD)
        belay_monitored_session_request_stop(session);
    else if (p->fault == STOP_BY_COORDINATOR)
        belay_coordinator_request_stop(h->coordinator, NULL);
    bly_mutex_lock(&r->lock);
    atomic_store(&r->was_injected, 1);
    bly_cond_signal_all(&r->cond);
    bly_mutex_unlock(&r->lock);
    return p->fault == FAILS_IN_HELPER || p->fault == FAILS_TWICE
               ? belay_error_set(err, p->code, p->text)
               : BELAY_OK;
}

/* Helper threads use the session that the steps run in. */
static belay_code help(void *self, belay_error *err) {
    struct helper *h = self;
    int64_t step;
    if (h->number == 0 && atomic_load(&h->running->go) && !atomic_load(&h->running->was_injected))
        return act(h, err);
    belay_code code = belay_session_global_step(h->session, &step, err);
    if (code != BELAY_OK && !belay_coordinator_should_stop(h->coordinator)) {
        atomic_fetch_add(&h->running->strays, 1);
        return code;
    }
    belay_error_clear(err);
    return BELAY_OK;
}

static belay_code create(void *self, belay_session *session, belay_coordinator *coordinator,
                         belay_error *err) {
    struct running *r = self;
    belay_loop_options options = BELAY_LOOP_OPTIONS_INIT;
    options.interval_secs = 0.001;
    r->coordinator = coordinator;
    if (r->creations >= CREATIONS_MOST)
        return belay_error_set(err, BELAY_INTERNAL, "made too often");
    struct helper *helpers = r->helpers[r->creations++];
    for (int i = 0; i < r->plan->helpers; i++) {
        helpers[i] = (struct helper){r, session, coordinator, i};
        belay_code code =
            belay_coordinator_start_loop(coordinator, "helper", help, &helpers[i], &options, err);
        if (code != BELAY_OK)
            return code;
    }
    return inject(r, FAILS_IN_CREATE, err);
}

static int is_now(const struct running *r) {
    return r->step == r->plan->at_step;
}

static belay_code before_run(void *self, belay_run_context *run, belay_error *err) {
    struct running *r = self;
    if (is_now(r) && r->plan->fault == STOP_BY_HOOK)
        belay_run_context_request_stop(run);
    return is_now(r) ? inject(r, FAILS_IN_BEFORE, err) : BELAY_OK;
}

static belay_code after_run(void *self, belay_run_context *run, belay_error *err) {
    struct running *r = self;
    (void)run;
    return is_now(r) ? inject(r, FAILS_IN_AFTER, err) : BELAY_OK;
}

static belay_code end(void *self, belay_session *session, belay_error *err) {
    struct running *r = self;
    (void)session;
    r->ends++;
    return inject(r, FAILS_IN_END, err);
}

static void destroy(void *self) {
    ((struct running *)self)->destroyed++;
}

static belay_hook *make_hook(struct running *r, belay_error *err) {
    static const belay_hook_vtable table = {.struct_size = sizeof table,
                                            .begin = begin,
                                            .after_create_session = create,
                                            .before_run = before_run,
                                            .after_run = after_run,
                                            .end = end,
                                            .destroy = destroy};
    return belay_hook_new(&table, r, err);
}

static belay_monitored_session *open_session(struct running *r, belay_graph *graph,
                                             belay_error *err) {
    belay_hook *hook = make_hook(r, err);
    belay_monitored_session *session;
    if (r->plan->is_singular) {
        belay_singular_monitored_session_options options =
            BELAY_SINGULAR_MONITORED_SESSION_OPTIONS_INIT;
        options.hooks = &hook;
        options.hook_count = 1;
        options.stop_grace_period_secs = GRACE_SECS;
        session = belay_singular_monitored_session_open(graph, &options, err);
    } else {
        belay_monitored_session_options options = BELAY_MONITORED_SESSION_OPTIONS_INIT;
        options.hooks = &hook;
        options.hook_count = 1;
        options.stop_grace_period_secs = GRACE_SECS;
        session = belay_monitored_session_open(graph, &options, err);
    }
    belay_hook_free(hook);
    return session;
}

/* Lets the first helper act, and waits until it has. 0 where that takes too long. */
static int let_helper_act(struct running *r) {
    struct timespec now;
    atomic_store(&r->go, 1);
    clock_gettime(CLOCK_MONOTONIC, &now);
    int64_t deadline = ((int64_t)now.tv_sec + WAIT_SECS) * 1000000;
    bly_mutex_lock(&r->lock);
    while (!atomic_load(&r->was_injected)) {
        clock_gettime(CLOCK_MONOTONIC, &now);
        if ((int64_t)now.tv_sec * 1000000 > deadline)
            break;
        bly_cond_wait(&r->cond, &r->lock, deadline);
    }
    bly_mutex_unlock(&r->lock);
    return atomic_load(&r->was_injected);
}

/* What is done beside the step that is about to run. */
static int disturb(struct running *r) {
    switch (r->plan->fault) {
    case FAILS_IN_HELPER:
    case STOP_BY_COORDINATOR:
        return let_helper_act(r) && belay_coordinator_wait_for_stop(r->coordinator, WAIT_SECS);
    case FAILS_IN_RUNNER:
        return (int)belay_coordinator_wait_for_stop(r->coordinator, WAIT_SECS);
    case STOP_BY_THREAD:
        return let_helper_act(r);
    case FAILS_TWICE:
        atomic_store(&r->go, 1); /* in the midst of the step that fails, too */
        return 1;
    default:
        return 1;
    }
}

/* What came out of a session. */
struct outcome {
    struct expected codes;
    char said[3][4096]; /* by opening, the step, closing; with what is chained */
    int waited_in_vain;
};

static void note(char *text, size_t room, const belay_error *err) {
    size_t used = (size_t)snprintf(text, room, "%s", belay_error_message(err));
    for (size_t i = 0; i < belay_error_chained_count(err) && used < room; i++)
        used += (size_t)snprintf(text + used, room - used, " / %s",
                                 belay_error_chained_message(err, i));
}

static void run_steps(struct running *r, belay_monitored_session *session, struct outcome *out,
                      belay_error *err) {
    static const char *const elements[] = {"element0:0", "element1:0", "element2:0", "element3:0",
                                           NULL};
    const struct plan *p = r->plan;
    const char *bad[] = {world_failing_ops[p->op].name, NULL};
    const char *good[] = {"train", NULL};
    belay_tensor *outputs[QUEUES] = {NULL};
    int runner = p->fault == FAILS_IN_RUNNER; /* then one of the queues stays empty */
    belay_step *step = belay_step_prepare(session, NULL, runner ? NULL : elements, good, err);
    belay_step *failing = belay_step_prepare(session, NULL, NULL, bad, err);
    for (r->step = 1; r->step <= p->steps; r->step++) {
        if (is_now(r) && !disturb(r))
            out->waited_in_vain = 1;
        if (belay_monitored_session_should_stop(session))
            break;
        int fails = is_now(r) && (p->fault == FAILS_IN_RUN || p->fault == FAILS_TWICE);
        r->injected += fails;
        out->codes.step =
            belay_step_run(fails ? failing : step, NULL, fails || runner ? NULL : outputs, err);
        if (out->codes.step != BELAY_OK)
            break;
    }
    note(out->said[1], sizeof out->said[1], err);
    for (int i = 0; i < QUEUES; i++)
        belay_tensor_free(outputs[i]);
}

static void run_session(const struct plan *p, struct running *r, belay_graph *graph,
                        struct outcome *out) {
    belay_error *err = belay_error_new();
    *r = (struct running){.plan = p};
    bly_mutex_init(&r->lock);
    bly_cond_init(&r->cond);
    *out = (struct outcome){.codes = {BELAY_OK, BELAY_OK, BELAY_OK, 0, BELAY_END_NONE}};
    belay_monitored_session *session = open_session(r, graph, err);
    out->codes.open = belay_error_code(err);
    note(out->said[0], sizeof out->said[0], err);
    if (session) {
        atomic_store(&r->session, session);
        run_steps(r, session, out, err);
        if (belay_monitored_session_should_stop(session))
            out->codes.reason = belay_monitored_session_end_reason(session, NULL);
        belay_error_clear(err);
        out->codes.close = belay_monitored_session_close(session, err);
        note(out->said[2], sizeof out->said[2], err);
    }
    out->codes.creations = r->creations;
    belay_error_free(err);
    bly_cond_clean_up(&r->cond);
    bly_mutex_clean_up(&r->lock);
}

/* --- accounts --------------------------------------------------------------------------------- */

enum place { IN_OPEN, IN_STEP, IN_CLOSE, BY_RECOVERY, AS_STOP, NOWHERE, PLACES };

static bly_mutex lock = PTHREAD_MUTEX_INITIALIZER;
static bly_cond finished;                 /* a session or a worker ended */
static uint64_t accounts[FAULTS][PLACES]; /* guarded by lock */
static uint64_t failures;                 /* guarded by lock */

static int says(const struct outcome *out, int place, const char *text) {
    return strstr(out->said[place], text) != NULL;
}

/* Errors that the log told of, by session. */
static atomic_uchar *logged;
#define LOGGED      1
#define LOGGED_LATE 2

static uint64_t first_index, sessions = 1000;

static void look_at_line(void *self, belay_log_level level, const char *message) {
    const char *found = strstr(message, FAULT_TEXT);
    (void)self;
    (void)level;
    uint64_t index = found ? strtoull(found + strlen(FAULT_TEXT), NULL, 10) : 0;
    if (found && index >= first_index && index < first_index + sessions)
        atomic_fetch_or(&logged[index - first_index],
                        strstr(message, "after the stop") ? LOGGED_LATE : LOGGED);
}

static int was_logged(uint64_t index) {
    return atomic_load(&logged[index - first_index]) != 0;
}

/* Reported when the close had asked to stop already: said, and not kept (CO-06, BUG-05). */
static int was_late(uint64_t index) {
    return (atomic_load(&logged[index - first_index]) & LOGGED_LATE) != 0;
}

/* Both errors are there: the one that was first, and the other chained to it. */
static const char *check_both(const struct plan *p, const struct running *r,
                              const struct outcome *out) {
    const belay_code step = world_failing_ops[p->op].code;
    if (out->codes.open || out->codes.creations != 1)
        return "opening went wrong";
    if (!r->injected && !says(out, IN_CLOSE, p->text)) /* the helper was first */
        return "the helper's error is lost";
    if (r->injected && atomic_load(&r->was_injected) && !says(out, IN_CLOSE, p->text) &&
        !was_late(p->index) &&
        !(step == BELAY_OUT_OF_RANGE && was_logged(p->index))) /* BUG-05: nothing to chain it to */
        return "the helper's error is lost beside the step's";
    if (r->injected && out->codes.step != step && out->codes.step != p->code)
        return "the step failed with something else";
    return NULL;
}

/* NULL: all of it came out as it had to. */
static const char *check(const struct plan *p, const struct running *r, const struct outcome *out) {
    struct expected e = expect(p);
    if (out->waited_in_vain)
        return "waited in vain";
    if (r->destroyed != 1)
        return "the hook was not destroyed exactly once";
    if (atomic_load(&r->strays))
        return "a helper thread failed that had no reason to";
    if (p->fault == FAILS_TWICE)
        return check_both(p, r, out);
    if (out->codes.open != e.open)
        return "opening returned another code";
    if (out->codes.step != e.step)
        return "the step returned another code";
    if (out->codes.close != e.close)
        return "closing returned another code";
    if (out->codes.creations != e.creations)
        return "the session was made more or less often";
    if (e.reason != BELAY_END_NONE && out->codes.reason != e.reason)
        return "it ended for another reason";
    int by_belay = p->fault != FAILS_IN_RUN && p->fault != FAILS_IN_RUNNER;
    if (by_belay &&
        ((e.open && !says(out, IN_OPEN, p->text)) || (e.step && !says(out, IN_STEP, p->text)) ||
         (e.close && !says(out, IN_CLOSE, p->text))))
        return "the error's text was lost";
    /* MS-07, MS-11: what a helper thread reports does not make the steps' end unclean. */
    if (!e.open && r->ends != (e.step == BELAY_OK || e.step == BELAY_OUT_OF_RANGE))
        return "end() was called where it must not be, or was not";
    return NULL;
}

static enum place place_of(const struct plan *p, const struct outcome *out) {
    if (out->codes.open)
        return IN_OPEN;
    if (out->codes.close)
        return out->codes.step ? IN_STEP : IN_CLOSE;
    if (out->codes.creations > 1)
        return BY_RECOVERY;
    return p->fault == NOTHING ? NOWHERE : AS_STOP;
}

static void account(const struct plan *p, const struct running *r, const struct outcome *out) {
    const char *problem = check(p, r, out);
    bly_mutex_lock(&lock);
    accounts[p->fault][place_of(p, out)]++;
    if (problem && ++failures <= 20)
        fprintf(stderr,
                "session %" PRIu64 " (--seed %" PRIu64 " --only %" PRIu64 "): %s\n"
                "  %s, %s, code %s%s%s, step %d of %d, %d helpers\n"
                "  open %s '%s'\n  step %s '%s'\n  close %s '%s'\n"
                "  made %d times, ended %d times, reason %d\n",
                p->index, seed, p->index, problem, p->is_singular ? "singular" : "recovering",
                fault_names[p->fault], belay_code_name(p->code),
                p->fault == FAILS_IN_RUN || p->fault == FAILS_TWICE ? ", op " : "",
                p->fault == FAILS_IN_RUN || p->fault == FAILS_TWICE ? world_failing_ops[p->op].name
                                                                    : "",
                p->at_step, p->steps, p->helpers, belay_code_name(out->codes.open), out->said[0],
                belay_code_name(out->codes.step), out->said[1], belay_code_name(out->codes.close),
                out->said[2], out->codes.creations, r->ends, (int)out->codes.reason);
    bly_cond_signal_all(&finished);
    bly_mutex_unlock(&lock);
}

static void print_accounts(uint64_t count) {
    static const char *const names[PLACES] = {"open", "step", "close", "recovered", "clean", "-"};
    printf("%-30s", "what was done to it");
    for (int j = 0; j < PLACES; j++)
        printf("%10s", names[j]);
    puts("");
    for (int i = 0; i < FAULTS; i++) {
        printf("%-30s", fault_names[i]);
        for (int j = 0; j < PLACES; j++)
            printf("%10" PRIu64, accounts[i][j]);
        puts("");
    }
    printf("%" PRIu64 " sessions on %s, seed %" PRIu64 ": %" PRIu64 " not as they had to be\n",
           count, world_name, seed, failures);
}

/* --- workers ---------------------------------------------------------------------------------- */

static atomic_ullong next_index, done;
static struct timespec started;
static double seconds_most; /* 0: no limit */

struct worker {
    pthread_t thread;
    _Atomic(uint64_t) index; /* the session that it runs */
    int is_over;             /* guarded by lock */
    belay_graph *graph;
    int lives;
};

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - started.tv_sec) + (double)(now.tv_nsec - started.tv_nsec) * 1e-9;
}

static belay_graph *load(int is_bad) {
    belay_error *err = belay_error_new();
    belay_graph *graph = world_graph(is_bad, err);
    if (!graph) {
        fprintf(stderr, "the graph cannot be loaded: %s\n", belay_error_message(err));
        exit(1);
    }
    belay_error_free(err);
    return graph;
}

/* A graph is opened again and again, as recovery and evaluation do. */
static belay_graph *graph_for(struct worker *w) {
    if (w->lives == 0) {
        belay_graph_free(w->graph);
        w->graph = load(0);
        w->lives = GRAPH_LIVES;
    }
    w->lives--;
    return w->graph;
}

static void *work(void *self) {
    struct worker *w = self;
    struct running r;
    struct outcome out;
    for (;;) {
        uint64_t index = first_index + atomic_fetch_add(&next_index, 1);
        if (index >= first_index + sessions || (seconds_most > 0 && seconds() > seconds_most))
            break;
        atomic_store(&w->index, index);
        struct plan plan = make_plan(index);
        belay_graph *bad = plan.fault == FAILS_IN_RUNNER ? load(1) : NULL;
        run_session(&plan, &r, bad ? bad : graph_for(w), &out);
        belay_graph_free(bad);
        atomic_fetch_add(&done, 1);
        account(&plan, &r, &out);
    }
    belay_graph_free(w->graph);
    bly_mutex_lock(&lock);
    w->is_over = 1;
    bly_cond_signal_all(&finished);
    bly_mutex_unlock(&lock);
    return NULL;
}

static int count_working_locked(const struct worker *workers) {
    int count = 0;
    for (int i = 0; i < WORKERS; i++)
        count += !workers[i].is_over;
    return count;
}

/* Ends the program where no session ends for a long time: something hangs. */
static void watch(struct worker *workers) {
    unsigned long long seen = 0;
    double since = seconds();
    bly_mutex_lock(&lock);
    while (count_working_locked(workers)) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        bly_cond_wait(&finished, &lock, ((int64_t)now.tv_sec + 5) * 1000000);
        if (atomic_load(&done) != seen)
            since = seconds();
        seen = atomic_load(&done);
        if (seconds() - since < HANG_SECS)
            continue;
        fprintf(stderr, "no session ended for %d s; --seed %" PRIu64 ", these run:\n", HANG_SECS,
                seed);
        for (int i = 0; i < WORKERS; i++)
            if (!workers[i].is_over)
                fprintf(stderr, "  session %" PRIu64 ": %s\n", atomic_load(&workers[i].index),
                        fault_names[make_plan(atomic_load(&workers[i].index)).fault]);
        abort();
    }
    bly_mutex_unlock(&lock);
}

static void read_arguments(int argc, char **argv, const char **graphs) {
    for (int i = 1; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--sessions"))
            sessions = strtoull(argv[i + 1], NULL, 10);
        else if (!strcmp(argv[i], "--seconds"))
            seconds_most = strtod(argv[i + 1], NULL);
        else if (!strcmp(argv[i], "--seed"))
            seed = strtoull(argv[i + 1], NULL, 10);
        else if (!strcmp(argv[i], "--graphs"))
            *graphs = argv[i + 1];
        else if (!strcmp(argv[i], "--only"))
            first_index = strtoull(argv[i + 1], NULL, 10), sessions = 1;
    }
}

int main(int argc, char **argv) {
    static struct worker workers[WORKERS];
    const char *graphs = ".";
    read_arguments(argc, argv, &graphs);
    printf("seed %" PRIu64 "\n", seed);
    fflush(stdout);
    logged = calloc(sessions, sizeof *logged);
    if (!logged)
        return 1;
    belay_log_set_callback(look_at_line, NULL, BELAY_LOG_WARNING);
    bly_cond_init(&finished);
    clock_gettime(CLOCK_MONOTONIC, &started);
    world_start(graphs);
    for (int i = 0; i < WORKERS; i++)
        if (pthread_create(&workers[i].thread, NULL, work, &workers[i]))
            return 1;
    watch(workers);
    for (int i = 0; i < WORKERS; i++)
        pthread_join(workers[i].thread, NULL);
    world_end();
    free(logged);
    uint64_t count = atomic_load(&done);
    print_accounts(count);
    /* A run that was cut short by time tested less, but it must have tested something. */
    return failures > 0 || count < (sessions < WORKERS ? sessions : WORKERS);
}
