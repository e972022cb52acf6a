#include "session/remote_run.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "cluster/contact.h"
#include "session/session.h"
#include "session/target_watch.h"

#include <belay/coordinator.h>

#include <stdio.h>
#include <string.h>

#define SECOND_US       INT64_C(1000000)
#define FIRST_LOOK_US   SECOND_US
#define LOOK_EVERY_US   SECOND_US
#define REPORT_EVERY_US (10 * SECOND_US)
#define REPORT_LATE_US  (60 * SECOND_US)
#define REPORT_STOP_US  (2 * SECOND_US) /* after it was seen */
/* A stop may be set by a signal handler, which cannot wake a condition. */
#define LOOK_UP_US INT64_C(100000)

/* A server that is started again at once is back by then, and TensorFlow's call says ABORTED. */
#define GONE_US (5 * SECOND_US)
/* A process that is stopped may be let go on: by a debugger, by who freezes containers. */
#define SILENT_US (60 * SECOND_US)
/* TensorFlow ends a call whose session is closed, unless the target hangs. */
#define CLOSED_US (5 * SECOND_US)
/* By then TensorFlow has read what is fed. */
#define READ_US (5 * SECOND_US)
/* What a call has whatever the deadline. */
#define LEAST_US (60 * SECOND_US)

#define AWAITED_SIZE 512

void bly_run_call_make(const bly_runtime *rt, TF_Session *session, const bly_run_call *call,
                       TF_Status *status) {
    int inputs = (int)call->input_count, outputs = (int)call->output_count;
    int targets = (int)call->target_count;
    switch (call->kind) {
    case BLY_CALL_RUN:
        rt->SessionRun(session, call->run_options, call->inputs, call->input_values, inputs,
                       call->outputs, call->output_values, outputs, call->targets, targets,
                       call->metadata, status);
        break;
    case BLY_CALL_PARTIAL_SETUP:
        rt->SessionPRunSetup(session, call->inputs, inputs, call->outputs, outputs, call->targets,
                             targets, call->new_handle, status);
        if (rt->GetCode(status) != TF_OK)
            *call->new_handle = NULL;
        break;
    case BLY_CALL_PARTIAL_RUN:
        rt->SessionPRun(session, call->handle, call->inputs, call->input_values, inputs,
                        call->outputs, call->output_values, outputs, call->targets, targets,
                        status);
        break;
    case BLY_CALL_DEVICES:
        *call->devices = rt->SessionListDevices(session, status);
        break;
    }
}

/* ---- the threads that run ---- */

struct bly_runner {
    struct bly_runner *next; /* among the idle ones */
    belay_session *session;  /* the caller's hold; one of the runner's own once it is left */
    bly_thread *thread;
    bly_mutex lock;
    bly_cond changed;
    int called; /* guarded by lock, as are `left` and `ending`: the call is under way */
    int left;   /* nobody waits for it any more */
    int ending;
    /* Of the thread that runs while `called`, else of the caller. All but tensors that are fed and
     * RunOptions is the runner's own, since the caller may be gone when TensorFlow returns. */
    bly_run_call call;
    char *room; /* for the arrays of `call` */
    size_t capacity;
    TF_Buffer *told; /* NULL: no metadata */
    const char *new_handle;
    TF_DeviceList *devices;
    TF_Status *status;
};

static void runner_free(struct bly_runner *runner, const bly_runtime *rt) {
    if (runner->told)
        rt->DeleteBuffer(runner->told);
    if (runner->status)
        rt->DeleteStatus(runner->status);
    bly_free(runner->room);
    bly_cond_clean_up(&runner->changed);
    bly_mutex_clean_up(&runner->lock);
    bly_free(runner);
}

/* It came back after all. Others may still use the session; but one that is lost was not closed,
 * and one that is closed may not have reached its master: then that would keep it. */
static void throw_away(struct bly_runner *runner) {
    belay_session *session = runner->session;
    const bly_runtime *rt = session->rt;
    for (size_t i = 0; i < runner->call.output_count; i++)
        if (runner->call.output_values[i])
            rt->DeleteTensor(runner->call.output_values[i]);
    if (runner->new_handle)
        rt->DeletePRunHandle(runner->new_handle);
    if (runner->devices)
        rt->DeleteDeviceList(runner->devices);
    if (atomic_load(&session->closed) || atomic_load(&session->runs.lost))
        rt->CloseSession(session->tf, runner->status);
    runner_free(runner, rt);
    bly_session_unref(session);
}

static void run_body(void *self) {
    struct bly_runner *runner = self;
    bly_mutex_lock(&runner->lock);
    while (!runner->left) {
        while (!runner->called && !runner->ending)
            bly_wait_until(&runner->changed, &runner->lock, BLY_NEVER);
        if (!runner->called)
            break;
        bly_mutex_unlock(&runner->lock);
        bly_run_call_make(runner->session->rt, runner->session->tf, &runner->call, runner->status);
        bly_mutex_lock(&runner->lock);
        runner->called = 0;
        bly_cond_signal_all(&runner->changed);
    }
    int left = runner->left;
    bly_mutex_unlock(&runner->lock);
    if (left)
        throw_away(runner);
}

static struct bly_runner *runner_start(const bly_runtime *rt, belay_error *err) {
    struct bly_runner *runner = bly_calloc(1, sizeof *runner);
    if (!runner) {
        bly_fail_memory(err);
        return NULL;
    }
    bly_mutex_init(&runner->lock);
    bly_cond_init(&runner->changed);
    runner->status = rt->NewStatus();
    runner->thread = bly_thread_start("belay-run", run_body, runner, err);
    if (runner->thread)
        return runner;
    runner_free(runner, rt);
    return NULL;
}

static void runner_end(struct bly_runner *runner, const bly_runtime *rt) {
    bly_mutex_lock(&runner->lock);
    runner->ending = 1;
    bly_cond_signal_all(&runner->changed);
    bly_mutex_unlock(&runner->lock);
    bly_thread_join(runner->thread);
    runner_free(runner, rt);
}

void bly_remote_runs_init(bly_remote_runs *runs) {
    bly_mutex_init(&runs->lock);
    runs->idle = NULL;
    runs->limits = (bly_run_limits){.deadline_us = 0};
    atomic_init(&runs->known_ops, 0);
    atomic_init(&runs->longest_us, 0);
    atomic_init(&runs->left, 0);
    atomic_init(&runs->left_last, 0);
    atomic_init(&runs->lost, 0);
}

void bly_remote_runs_clean_up(bly_remote_runs *runs, const bly_runtime *rt) {
    while (runs->idle) {
        struct bly_runner *runner = runs->idle;
        runs->idle = runner->next;
        runner_end(runner, rt);
    }
    bly_mutex_clean_up(&runs->lock);
}

void bly_remote_runs_limit(bly_remote_runs *runs, const bly_run_limits *limits) {
    bly_mutex_lock(&runs->lock);
    runs->limits = limits ? *limits : (bly_run_limits){.deadline_us = 0};
    bly_mutex_unlock(&runs->lock);
}

double bly_secs_at_least(double secs, double least) {
    return secs >= least || secs == BELAY_FOREVER ? secs : least;
}

static struct bly_runner *take(belay_session *session, belay_error *err) {
    bly_remote_runs *runs = &session->runs;
    bly_mutex_lock(&runs->lock);
    struct bly_runner *runner = runs->idle;
    if (runner)
        runs->idle = runner->next;
    bly_mutex_unlock(&runs->lock);
    if (!runner)
        runner = runner_start(session->rt, err);
    if (runner)
        runner->session = session;
    return runner;
}

static void give_back(struct bly_runner *runner) {
    bly_remote_runs *runs = &runner->session->runs;
    bly_mutex_lock(&runs->lock);
    runner->next = runs->idle;
    runs->idle = runner;
    bly_mutex_unlock(&runs->lock);
}

/* ---- waiting for a call ---- */

static int returned_by(struct bly_runner *runner, int64_t deadline_us) {
    bly_mutex_lock(&runner->lock);
    while (runner->called && bly_wait_until(&runner->changed, &runner->lock, deadline_us))
        ;
    int returned = !runner->called;
    bly_mutex_unlock(&runner->lock);
    return returned;
}

/* 1 where the runner is on its own now; 0 where it has returned in the nick of time. */
static int leave(struct bly_runner *runner) {
    bly_mutex_lock(&runner->lock);
    runner->left = runner->called;
    int left = runner->left;
    bly_thread *thread = runner->thread;
    if (left) {
        bly_session_ref(runner->session);
        atomic_store(&runner->session->runs.left, 1);
    }
    bly_mutex_unlock(&runner->lock);
    if (left)
        bly_thread_abandon(thread);
    return left;
}

struct wait {
    struct bly_runner *runner;
    const bly_run_call *call;
    belay_session *session;
    bly_target_watch *watch; /* NULL: not yet, or none to be had */
    int64_t started_us, look_us, report_us;
    int64_t stopped_us, closed_us; /* when it was seen; BLY_NEVER: not so far */
    int has_stop;                  /* one may be requested */
    int is_new;                    /* a stop that is seen now was before the call */
    int is_last;                   /* and there was one */
    double after_stop_secs;
    int64_t deadline_us; /* BLY_NEVER: none */
    int is_cancelled;    /* what a stop is */
    int is_quiet;
    int state; /* BLY_TARGET_*, for so long, and why */
    int64_t state_for_us;
    bly_buf why;
    int told; /* of which state */
};

static int64_t earlier(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static int is_stopped_locked(const bly_run_limits *limits) {
    for (size_t i = 0; i < 2; i++)
        if (limits->stop[i] && atomic_load(limits->stop[i]))
            return 1;
    return 0;
}

/* BLY_NEVER where that is too long to count. */
static int64_t after(int64_t start_us, double secs) {
    const double most = 1e12;
    return secs < most ? start_us + (int64_t)(secs * (double)SECOND_US) : BLY_NEVER;
}

/* Others may set limits, stop, or close meanwhile. */
static void see_limits(struct wait *wait) {
    bly_remote_runs *runs = &wait->session->runs;
    int64_t now = bly_now_us();
    bly_mutex_lock(&runs->lock);
    const bly_run_limits limits = runs->limits;
    int stopped = !wait->call->is_helpers && is_stopped_locked(&limits);
    bly_mutex_unlock(&runs->lock);
    wait->has_stop = limits.stop[0] || limits.stop[1];
    wait->is_cancelled = limits.last_secs == 0;
    wait->is_quiet = limits.is_reported || wait->call->is_helpers;
    wait->deadline_us = limits.deadline_us ? limits.deadline_us : BLY_NEVER;
    if (limits.longest_secs > 0) /* BELAY_FOREVER is not */
        wait->deadline_us =
            earlier(wait->deadline_us, after(wait->started_us, limits.longest_secs));
    if (wait->deadline_us < wait->started_us + LEAST_US)
        wait->deadline_us = wait->started_us + LEAST_US;
    if (!stopped) {
        wait->stopped_us = BLY_NEVER;
    } else if (wait->stopped_us == BLY_NEVER) {
        wait->stopped_us = now;
        wait->is_last = wait->is_new;
        wait->after_stop_secs =
            wait->is_last && !atomic_load(&runs->left_last) ? limits.last_secs : limits.grace_secs;
        wait->report_us = earlier(wait->report_us, now + REPORT_STOP_US);
    }
    if (wait->closed_us == BLY_NEVER && atomic_load(&wait->session->closed))
        wait->closed_us = now;
}

/* Where steps take long, one more of that kind is nothing to tell; but a minute is. */
static int64_t first_report(bly_remote_runs *runs) {
    int64_t usual = 2 * (int64_t)atomic_load(&runs->longest_us);
    return usual < REPORT_EVERY_US ? REPORT_EVERY_US : earlier(usual, REPORT_LATE_US);
}

static void learn(const struct wait *wait) {
    int64_t took = bly_now_us() - wait->started_us;
    if (took > atomic_load(&wait->session->runs.longest_us))
        atomic_store(&wait->session->runs.longest_us, took);
}

static struct wait begin_waiting(struct bly_runner *runner, const bly_run_call *call) {
    int64_t now = bly_now_us();
    struct wait wait = {.runner = runner,
                        .call = call,
                        .session = runner->session,
                        .started_us = now,
                        .look_us = now + FIRST_LOOK_US,
                        .report_us = now + first_report(&runner->session->runs),
                        .stopped_us = BLY_NEVER,
                        .closed_us = BLY_NEVER,
                        .is_new = 1,
                        .state = BLY_TARGET_ANSWERS,
                        .told = BLY_TARGET_ANSWERS,
                        .why = BLY_BUF_INIT};
    see_limits(&wait);
    wait.is_new = 0;
    return wait;
}

/* "train on grpc://host:1". */
static void put_awaited(const struct wait *wait, char *out, size_t room) {
    const bly_run_call *call = wait->call;
    const TF_Operation *op = call->target_count   ? call->targets[0]
                             : call->output_count ? call->outputs[0].oper
                                                  : NULL;
    const char *name = call->kind == BLY_CALL_DEVICES ? "the list of devices" : "the graph";
    if (op)
        name = wait->session->rt->OperationName((TF_Operation *)(uintptr_t)op);
    snprintf(out, room, "%s on %s", name, wait->session->target);
}

static double secs_since(int64_t start_us) {
    return (double)(bly_now_us() - start_us) / 1e6;
}

static int64_t stop_deadline(const struct wait *wait) {
    if (wait->stopped_us == BLY_NEVER || wait->after_stop_secs == BELAY_FOREVER)
        return BLY_NEVER;
    return after(wait->stopped_us, wait->after_stop_secs > 0 ? wait->after_stop_secs : 0);
}

static void report(struct wait *wait) {
    char awaited[AWAITED_SIZE], limit[80] = "";
    int64_t until = stop_deadline(wait);
    put_awaited(wait, awaited, sizeof awaited);
    until = earlier(until, wait->deadline_us);
    if (until != BLY_NEVER)
        snprintf(limit, sizeof limit, ", at most %.0f s more%s", -secs_since(until),
                 wait->stopped_us == BLY_NEVER ? "" : " after the stop");
    bly_warn("Waiting for %s, for %.0f s so far%s%s%s", awaited, secs_since(wait->started_us),
             limit, wait->why.len ? ": " : "", bly_buf_text(&wait->why));
    wait->report_us = bly_now_us() + REPORT_EVERY_US;
}

/* Once: what may bring the session to its end. */
static void tell_state(struct wait *wait) {
    if (!wait->is_quiet && wait->state != wait->told && wait->state != BLY_TARGET_ANSWERS)
        bly_warn("%s does not answer: %s; waiting %.0f s for it to come back",
                 wait->session->target, bly_buf_text(&wait->why),
                 (double)(wait->state == BLY_TARGET_GONE ? GONE_US : SILENT_US) / 1e6);
    wait->told = wait->state;
}

static void look(struct wait *wait) {
    if (!wait->watch)
        wait->watch = bly_target_watch_start(wait->session->target);
    wait->state = bly_target_watch_state(wait->watch, &wait->state_for_us, &wait->why);
    tell_state(wait);
    wait->look_us = bly_now_us() + LOOK_EVERY_US;
}

/* Whether nobody is there any more; then no call of the session's returns. */
static int is_lost(const struct wait *wait) {
    return (wait->state == BLY_TARGET_GONE && wait->state_for_us >= GONE_US) ||
           (wait->state == BLY_TARGET_SILENT && wait->state_for_us >= SILENT_US);
}

/* BELAY_OK: it is waited for; else the code that the call ends with. */
static belay_code judge(const struct wait *wait, belay_error *err) {
    char awaited[AWAITED_SIZE];
    int64_t now = bly_now_us();
    const char *before = wait->why.len ? ": " : "", *why = bly_buf_text(&wait->why);
    put_awaited(wait, awaited, sizeof awaited);
    if (is_lost(wait))
        return bly_fail(err, BELAY_UNAVAILABLE, "%s has not answered for %.1f s: %s",
                        wait->session->target, (double)wait->state_for_us / 1e6, why);
    if ((wait->call->input_count > 0 || wait->call->run_options) &&
        now < wait->started_us + READ_US)
        return BELAY_OK;
    if (now >= stop_deadline(wait) && wait->is_cancelled)
        return bly_fail(err, BELAY_CANCELLED, "a stop was requested while waiting for %s", awaited);
    if (now >= stop_deadline(wait))
        return bly_fail(err, BELAY_DEADLINE_EXCEEDED,
                        "%s did not end within %.1f s after a stop was requested%s%s", awaited,
                        secs_since(wait->stopped_us), before, why);
    if (now >= wait->deadline_us)
        return bly_fail(err, BELAY_DEADLINE_EXCEEDED, "%s did not end within %.1f s%s%s", awaited,
                        secs_since(wait->started_us), before, why);
    if (wait->closed_us != BLY_NEVER && now - wait->closed_us >= CLOSED_US)
        return bly_fail(err, BELAY_CANCELLED, "the session was closed, and %s did not end",
                        awaited);
    return BELAY_OK;
}

static int64_t next_moment(const struct wait *wait) {
    int64_t until = wait->is_quiet ? wait->look_us : earlier(wait->look_us, wait->report_us);
    return wait->has_stop ? earlier(until, bly_now_us() + LOOK_UP_US) : until;
}

/* 1 where the call returned, 0 where its runner is left to itself. */
static int wait_for(struct wait *wait, belay_error *err) {
    int returned = 0, left = 0;
    /* One that is left may be gone at any moment. */
    while (!left && !(returned = returned_by(wait->runner, next_moment(wait)))) {
        BLY_LOCAL_ERROR(end);
        see_limits(wait);
        if (bly_now_us() >= wait->look_us)
            look(wait);
        if (judge(wait, &end) != BELAY_OK && (left = leave(wait->runner))) {
            bly_error_copy(err, &end);
            if (wait->is_last)
                atomic_store(&wait->session->runs.left_last, 1);
            if (is_lost(wait))
                atomic_store(&wait->session->runs.lost, 1);
        } else if (!wait->is_quiet && bly_now_us() >= wait->report_us) {
            report(wait);
        }
    }
    if (returned && !wait->call->is_helpers)
        learn(wait);
    bly_target_watch_end(wait->watch);
    bly_buf_free(&wait->why);
    return returned;
}

/* ---- a call ---- */

/* The next part of the runner's room, filled with `size` bytes. All elements are pointers, or as
 * good as pointers to align. */
static void *keep(char **at, const void *from, size_t size) {
    void *kept = *at;
    if (size && from)
        memcpy(kept, from, size);
    *at += size;
    return kept;
}

static belay_code set_up(struct bly_runner *runner, const bly_run_call *call, belay_error *err) {
    size_t outputs = call->output_count, inputs = call->input_count;
    size_t size = outputs * (sizeof(TF_Output) + sizeof(TF_Tensor *)) +
                  inputs * (sizeof(TF_Output) + sizeof(TF_Tensor *)) +
                  call->target_count * sizeof(TF_Operation *) +
                  (call->handle ? strlen(call->handle) + 1 : 0);
    if (size > runner->capacity) {
        char *more = bly_realloc(runner->room, size);
        if (!more)
            return bly_fail_memory(err);
        runner->room = more;
        runner->capacity = size;
    }
    char *at = runner->room;
    runner->call = *call;
    runner->call.outputs = keep(&at, call->outputs, outputs * sizeof(TF_Output));
    runner->call.inputs = keep(&at, call->inputs, inputs * sizeof(TF_Output));
    runner->call.input_values = keep(&at, call->input_values, inputs * sizeof(TF_Tensor *));
    runner->call.targets = keep(&at, call->targets, call->target_count * sizeof(TF_Operation *));
    runner->call.output_values = (TF_Tensor **)(void *)at;
    for (size_t i = 0; i < outputs; i++)
        runner->call.output_values[i] = NULL;
    at += outputs * sizeof(TF_Tensor *);
    if (call->handle)
        runner->call.handle = keep(&at, call->handle, strlen(call->handle) + 1);
    runner->told = call->metadata ? runner->session->rt->NewBuffer() : NULL;
    runner->call.metadata = runner->told;
    runner->call.new_handle = &runner->new_handle;
    runner->call.devices = &runner->devices;
    runner->new_handle = NULL;
    runner->devices = NULL;
    return BELAY_OK;
}

static void hand_over(struct bly_runner *runner, const bly_run_call *call) {
    for (size_t i = 0; call->output_values && i < call->output_count; i++)
        call->output_values[i] = runner->call.output_values[i];
    if (call->new_handle)
        *call->new_handle = runner->new_handle;
    if (call->devices)
        *call->devices = runner->devices;
    if (!runner->told)
        return;
    TF_Buffer theirs = *call->metadata;
    *call->metadata = *runner->told;
    *runner->told = theirs;
    runner->session->rt->DeleteBuffer(runner->told);
    runner->told = NULL;
}

static belay_code run_once(belay_session *session, const bly_run_call *call, belay_error *err) {
    const bly_runtime *rt = session->rt;
    struct bly_runner *runner = take(session, err);
    if (!runner)
        return BELAY_RESOURCE_EXHAUSTED;
    if (set_up(runner, call, err) != BELAY_OK) {
        give_back(runner);
        return BELAY_RESOURCE_EXHAUSTED;
    }
    struct wait wait = begin_waiting(runner, call);
    bly_mutex_lock(&runner->lock);
    runner->called = 1;
    bly_cond_signal_all(&runner->changed);
    bly_mutex_unlock(&runner->lock);
    BLY_LOCAL_ERROR(left);
    if (!wait_for(&wait, &left)) {
        bly_error_copy(err, &left);
        return left.code;
    }
    hand_over(runner, call);
    belay_code code = bly_runtime_code(rt, runner->status);
    if (code != BELAY_OK) {
        bly_fail_tensorflow(err, code, rt->Message(runner->status));
        rt->SetStatus(runner->status, TF_OK, "");
    }
    give_back(runner);
    return code;
}

/* The master is sent what was added to the graph before TensorFlow reads what is fed. So that a run
 * which is left to itself has read it, and the caller may free it, the graph goes in a call of its
 * own. INVALID_ARGUMENT: that there is nothing to run. */
static belay_code send_graph(belay_session *session, int is_helpers, belay_error *err) {
    size_t at = atomic_load(&session->runs.known_ops), before = at;
    while (session->rt->GraphNextOperation(session->graph->tf, &at))
        before = at;
    if (before == atomic_load(&session->runs.known_ops))
        return BELAY_OK;
    BLY_LOCAL_ERROR(mine);
    belay_code code = run_once(session, &(bly_run_call){.is_helpers = is_helpers}, &mine);
    if (code != BELAY_OK && code != BELAY_INVALID_ARGUMENT) {
        bly_error_copy(err, &mine);
        return code;
    }
    atomic_store(&session->runs.known_ops, before);
    return BELAY_OK;
}

static belay_code refuse(belay_session *session, belay_error *err) {
    bly_remote_runs *runs = &session->runs;
    if (atomic_load(&runs->lost))
        return bly_fail(err, BELAY_UNAVAILABLE, "the session with %s is lost: it did not answer",
                        session->target);
    bly_mutex_lock(&runs->lock);
    int stopped = runs->limits.last_secs == 0 && is_stopped_locked(&runs->limits);
    bly_mutex_unlock(&runs->lock);
    return stopped ? bly_fail(err, BELAY_CANCELLED, "a stop was requested before a run on %s",
                              session->target)
                   : BELAY_OK;
}

belay_code bly_remote_run(belay_session *session, const bly_run_call *call, belay_error *err) {
    belay_code code = refuse(session, err);
    if (code == BELAY_OK && call->kind != BLY_CALL_DEVICES)
        code = send_graph(session, call->is_helpers, err);
    return code == BELAY_OK ? run_once(session, call, err) : code;
}
