#include "session/remote_run.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "cluster/contact.h"
#include "session/session.h"

#include <string.h>

#define FIRST_LOOK_US INT64_C(1000000)
#define LOOK_EVERY_US INT64_C(1000000)
/* A server that is started again at once is back by then, and TensorFlow's call says ABORTED. */
#define PATIENCE_US INT64_C(5000000)

/* ---- is the master still there? ---- */

/* Shared by a caller that waits and the thread that looks for it; the last of them frees it. */
struct watch {
    bly_mutex lock;
    bly_cond changed;
    int references; /* guarded by lock, as are all below */
    int over;
    int64_t gone_since_us; /* nobody has listened since then; 0: somebody does */
    bly_buf why;
    char *target; /* does not change */
};

static void watch_drop(struct watch *watch) {
    bly_mutex_lock(&watch->lock);
    int last = --watch->references == 0;
    bly_mutex_unlock(&watch->lock);
    if (!last)
        return;
    bly_cond_clean_up(&watch->changed);
    bly_mutex_clean_up(&watch->lock);
    bly_buf_free(&watch->why);
    bly_free(watch->target);
    bly_free(watch);
}

static void look_body(void *self) {
    struct watch *watch = self;
    bly_mutex_lock(&watch->lock);
    while (!watch->over) {
        bly_buf why = BLY_BUF_INIT;
        bly_mutex_unlock(&watch->lock);
        int64_t started = bly_now_us();
        int gone = bly_target_look(watch->target, &why);
        bly_mutex_lock(&watch->lock);
        bly_buf_free(&watch->why);
        watch->why = why;
        if (!gone)
            watch->gone_since_us = 0;
        else if (!watch->gone_since_us)
            watch->gone_since_us = started ? started : 1;
        int64_t again = bly_now_us() + LOOK_EVERY_US;
        while (!watch->over && bly_wait_until(&watch->changed, &watch->lock, again))
            ;
    }
    bly_mutex_unlock(&watch->lock);
    watch_drop(watch);
}

/* NULL where memory or threads are out: then nobody looks, and the run may take as long as it
 * likes. */
static struct watch *watch_start(const char *target) {
    struct watch *watch = bly_calloc(1, sizeof *watch);
    char *copy = bly_strdup(target);
    if (!watch || !copy) {
        bly_free(watch);
        bly_free(copy);
        return NULL;
    }
    bly_mutex_init(&watch->lock);
    bly_cond_init(&watch->changed);
    watch->references = 2;
    watch->target = copy;
    bly_thread *thread = bly_thread_start("belay-look", look_body, watch, NULL);
    if (thread) {
        bly_thread_abandon(thread); /* it may be held up where names are looked up */
        return watch;
    }
    watch_drop(watch);
    watch_drop(watch);
    return NULL;
}

static void watch_end(struct watch *watch) {
    if (!watch)
        return;
    bly_mutex_lock(&watch->lock);
    watch->over = 1;
    bly_cond_signal_all(&watch->changed);
    bly_mutex_unlock(&watch->lock);
    watch_drop(watch);
}

/* How long nobody has listened, in microseconds, with the reason in `why`; -1: somebody does. */
static int64_t watch_gone_for(struct watch *watch, bly_buf *why) {
    if (!watch)
        return -1;
    bly_mutex_lock(&watch->lock);
    int64_t since = watch->gone_since_us;
    bly_buf_clear(why);
    bly_buf_append(why, watch->why.data, watch->why.len);
    bly_mutex_unlock(&watch->lock);
    return since ? bly_now_us() - since : -1;
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

/* It came back after all. The master may keep a session that nobody closed. */
static void throw_away(struct bly_runner *runner) {
    belay_session *session = runner->session;
    const bly_runtime *rt = session->rt;
    for (size_t i = 0; i < runner->call.output_count; i++)
        if (runner->call.output_values[i])
            rt->DeleteTensor(runner->call.output_values[i]);
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
        const bly_run_call *call = &runner->call;
        runner->session->rt->SessionRun(runner->session->tf, call->run_options, call->inputs,
                                        call->input_values, (int)call->input_count, call->outputs,
                                        call->output_values, (int)call->output_count, call->targets,
                                        (int)call->target_count, runner->told, runner->status);
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
    atomic_init(&runs->known_ops, 0);
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

/* ---- a run ---- */

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
        atomic_store(&runner->session->runs.lost, 1);
    }
    bly_mutex_unlock(&runner->lock);
    if (left)
        bly_thread_abandon(thread);
    return left;
}

/* 1 where the call returned, 0 where its runner is left to itself. */
static int wait_for(struct bly_runner *runner, const char *target, belay_error *err) {
    struct watch *watch = NULL;
    bly_buf why = BLY_BUF_INIT;
    int returned, left = 0, told = 0;
    int64_t until = bly_now_us() + FIRST_LOOK_US;
    while (!(returned = returned_by(runner, until)) && !left) {
        if (!watch)
            watch = watch_start(target);
        int64_t gone_us = watch_gone_for(watch, &why);
        if (gone_us >= 0 && !told)
            bly_warn("%s does not answer: %s; waiting %.0f s for it to come back", target,
                     bly_buf_text(&why), (double)PATIENCE_US / 1e6);
        told = gone_us >= 0;
        if (gone_us >= PATIENCE_US && (left = leave(runner)))
            bly_fail(err, BELAY_UNAVAILABLE, "%s has not answered for %.1f s: %s", target,
                     (double)gone_us / 1e6, bly_buf_text(&why));
        until = bly_now_us() + LOOK_EVERY_US;
    }
    watch_end(watch);
    bly_buf_free(&why);
    return returned;
}

/* The next part of the runner's room, filled with `size` bytes. All elements are pointers, or as
 * good as pointers to align. */
static void *keep(char **at, const void *from, size_t size) {
    void *kept = *at;
    if (size)
        memcpy(kept, from, size);
    *at += size;
    return kept;
}

static belay_code set_up(struct bly_runner *runner, const bly_run_call *call, belay_error *err) {
    size_t outputs = call->output_count, inputs = call->input_count;
    size_t size = outputs * (sizeof(TF_Output) + sizeof(TF_Tensor *)) +
                  inputs * (sizeof(TF_Output) + sizeof(TF_Tensor *)) +
                  call->target_count * sizeof(TF_Operation *);
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
    runner->told = call->metadata ? runner->session->rt->NewBuffer() : NULL;
    return BELAY_OK;
}

static void hand_over(struct bly_runner *runner, const bly_run_call *call) {
    for (size_t i = 0; i < call->output_count; i++)
        call->output_values[i] = runner->call.output_values[i];
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
    bly_mutex_lock(&runner->lock);
    runner->called = 1;
    bly_cond_signal_all(&runner->changed);
    bly_mutex_unlock(&runner->lock);
    if (!wait_for(runner, session->target, err))
        return BELAY_UNAVAILABLE;
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
static belay_code send_graph(belay_session *session, belay_error *err) {
    size_t at = atomic_load(&session->runs.known_ops), before = at;
    while (session->rt->GraphNextOperation(session->graph->tf, &at))
        before = at;
    if (before == atomic_load(&session->runs.known_ops))
        return BELAY_OK;
    BLY_LOCAL_ERROR(mine);
    belay_code code = run_once(session, &(bly_run_call){.run_options = NULL}, &mine);
    if (code != BELAY_OK && code != BELAY_INVALID_ARGUMENT) {
        bly_error_copy(err, &mine);
        return code;
    }
    atomic_store(&session->runs.known_ops, before);
    return BELAY_OK;
}

belay_code bly_remote_run(belay_session *session, const bly_run_call *call, belay_error *err) {
    if (atomic_load(&session->runs.lost))
        return bly_fail(err, BELAY_UNAVAILABLE, "the session with %s is lost: it did not answer",
                        session->target);
    belay_code code = send_graph(session, err);
    return code == BELAY_OK ? run_once(session, call, err) : code;
}
