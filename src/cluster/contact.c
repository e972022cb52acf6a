#include "cluster/contact.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/thread.h"

#include <stddef.h>
#include <stdio.h>

/* A stop may be set by a signal handler, which cannot wake a condition. */
#define LOOK_UP_US      INT64_C(100000)
#define FIRST_LOOK_US   INT64_C(1000000)
#define LOOK_EVERY_US   INT64_C(5000000)
#define FIRST_REPORT_US INT64_C(2000000)
#define REPORT_EVERY_US INT64_C(10000000)

#define AWAITED_SIZE 512

/* What the caller shares with the thread that calls TensorFlow, and the one that looks for reasons.
 * The last of them frees it. */
struct shared {
    bly_mutex lock;
    bly_cond changed;
    int references;    /* guarded by lock, as are all below */
    int made;          /* contact is made: now it is `then` that is waited for */
    int done;          /* everything has returned */
    int left;          /* nobody waits any more */
    int users;         /* calls in the session: the last one releases its owner */
    belay_error error; /* what it returned */
    bly_buf why;       /* the newest reason */
    /* These do not change. */
    const bly_runtime *rt;
    TF_Session *session;
    char *target;
    belay_code (*then)(void *owner, belay_error *err);
    const char *doing;
    void *owner;
    void (*release)(void *owner);
};

static void drop(struct shared *shared) {
    bly_mutex_lock(&shared->lock);
    int last = --shared->references == 0;
    bly_mutex_unlock(&shared->lock);
    if (!last)
        return;
    bly_cond_clean_up(&shared->changed);
    bly_mutex_clean_up(&shared->lock);
    bly_buf_free(&shared->why);
    bly_free(shared->target);
    bly_free(shared);
}

static struct shared *share(const bly_contact *contact) {
    struct shared *shared = bly_calloc(1, sizeof *shared);
    char *target = bly_strdup(contact->target);
    if (!shared || !target) {
        bly_free(shared);
        bly_free(target);
        return NULL;
    }
    bly_mutex_init(&shared->lock);
    bly_cond_init(&shared->changed);
    shared->references = 1;
    shared->users = 1;
    shared->rt = contact->rt;
    shared->session = contact->session;
    shared->target = target;
    shared->made = *target == '\0';
    shared->then = contact->then;
    shared->doing = contact->doing;
    shared->owner = contact->owner;
    shared->release = contact->release;
    return shared;
}

static void leave_session(struct shared *shared) {
    bly_mutex_lock(&shared->lock);
    int last = --shared->users == 0;
    bly_mutex_unlock(&shared->lock);
    if (last)
        shared->release(shared->owner);
}

static void close_session(const struct shared *shared) {
    TF_Status *status = shared->rt->NewStatus();
    shared->rt->CloseSession(shared->session, status);
    shared->rt->DeleteStatus(status);
}

/* INVALID_ARGUMENT: "Must specify at least one target to fetch or execute", so the session is made;
 * or the graph is wrong, and the next run says how. */
static void call_target(const struct shared *shared, belay_error *err) {
    TF_Status *status = shared->rt->NewStatus();
    shared->rt->SessionRun(shared->session, NULL, NULL, NULL, 0, NULL, NULL, 0, NULL, 0, NULL,
                           status);
    if (bly_runtime_finish(shared->rt, status, err) == BELAY_INVALID_ARGUMENT)
        belay_error_clear(err);
}

/* 1 where somebody still waits for more. */
static int tell_made(struct shared *shared) {
    bly_mutex_lock(&shared->lock);
    int awaited = !shared->left;
    shared->made = awaited;
    bly_cond_signal_all(&shared->changed);
    bly_mutex_unlock(&shared->lock);
    return awaited;
}

static void tell_done(struct shared *shared, const belay_error *result) {
    bly_mutex_lock(&shared->lock);
    shared->error = *result;
    shared->done = 1;
    bly_cond_signal_all(&shared->changed);
    bly_mutex_unlock(&shared->lock);
}

static void call_body(void *self) {
    struct shared *shared = self;
    BLY_LOCAL_ERROR(mine);
    if (*shared->target)
        call_target(shared, &mine);
    if (mine.code == BELAY_OK) {
        /* Made too late, on a target that would keep it? Whoever closed it before did so in vain.
         */
        if (!tell_made(shared))
            close_session(shared);
        else if (shared->then)
            shared->then(shared->owner, &mine);
    }
    tell_done(shared, &mine);
    leave_session(shared);
    drop(shared);
}

/* Ends what `then` runs. The target may have stopped answering, so this may never return. */
static void close_body(void *self) {
    struct shared *shared = self;
    close_session(shared);
    leave_session(shared);
    drop(shared);
}

static void look_body(void *self) {
    struct shared *shared = self;
    bly_mutex_lock(&shared->lock);
    while (!shared->done && !shared->left) {
        bly_buf why = BLY_BUF_INIT;
        bly_mutex_unlock(&shared->lock);
        bly_target_look(shared->target, &why);
        bly_mutex_lock(&shared->lock);
        bly_buf_free(&shared->why);
        shared->why = why;
        bly_cond_signal_all(&shared->changed);
        int64_t again = bly_now_us() + LOOK_EVERY_US;
        while (!shared->done && !shared->left &&
               bly_wait_until(&shared->changed, &shared->lock, again))
            ;
    }
    bly_mutex_unlock(&shared->lock);
    drop(shared);
}

/* Starts a thread that holds a reference. */
static bly_thread *start(struct shared *shared, const char *name, void (*body)(void *self),
                         belay_error *err) {
    bly_mutex_lock(&shared->lock);
    shared->references++;
    bly_mutex_unlock(&shared->lock);
    bly_thread *thread = bly_thread_start(name, body, shared, err);
    if (!thread)
        drop(shared);
    return thread;
}

static int is_stopped(const bly_contact *contact) {
    for (size_t i = 0; i < 2; i++)
        if (contact->stop[i] && atomic_load(contact->stop[i]))
            return 1;
    return 0;
}

/* The caller's wait. */
struct wait {
    const bly_contact *contact;
    struct shared *shared;
    int64_t started_us, look_us, report_us;
};

static double elapsed_secs(const struct wait *wait) {
    return (double)(bly_now_us() - wait->started_us) / 1e6;
}

static const char *reason_locked(const struct shared *shared, const char **out_before) {
    *out_before = shared->why.len ? ": " : "";
    return shared->why.failed ? "" : bly_buf_text(&shared->why);
}

/* "grpc://host:1", "ready_op on grpc://host:1" or "ready_op". */
static void put_awaited_locked(const struct shared *shared, char *out, size_t room) {
    if (!shared->made || !shared->doing)
        snprintf(out, room, "%s", shared->target);
    else
        snprintf(out, room, "%s%s%s", shared->doing, *shared->target ? " on " : "", shared->target);
}

/* Lets go of the lock. */
static void report(struct wait *wait) {
    const char *before, *why = reason_locked(wait->shared, &before);
    char awaited[AWAITED_SIZE];
    bly_buf line = BLY_BUF_INIT;
    put_awaited_locked(wait->shared, awaited, sizeof awaited);
    bly_buf_printf(&line, "Waiting for %s, for %.0f s so far%s%s", awaited, elapsed_secs(wait),
                   before, why);
    bly_mutex_unlock(&wait->shared->lock);
    bly_warn("%s", bly_buf_text(&line));
    bly_buf_free(&line);
    wait->report_us = bly_now_us() + REPORT_EVERY_US;
    bly_mutex_lock(&wait->shared->lock);
}

/* The thread that looks is never joined: it may be held up where names are looked up. */
static void start_looking(struct wait *wait) {
    wait->look_us = BLY_NEVER;
    bly_thread_abandon(start(wait->shared, "belay-look", look_body, NULL));
}

static int64_t earlier(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static belay_code give_up_locked(const struct wait *wait, belay_code code, belay_error *err) {
    const char *before, *why = reason_locked(wait->shared, &before);
    char awaited[AWAITED_SIZE];
    put_awaited_locked(wait->shared, awaited, sizeof awaited);
    if (code == BELAY_CANCELLED)
        return bly_fail(err, code, "a stop was requested while waiting for %s", awaited);
    return bly_fail(err, code, "%s did not %s within %.1f s%s%s", awaited,
                    wait->shared->made ? "end" : "answer", elapsed_secs(wait), before, why);
}

static belay_code wait_locked(struct wait *wait, belay_error *err) {
    struct shared *shared = wait->shared;
    const bly_contact *contact = wait->contact;
    while (!shared->done) {
        int64_t now = bly_now_us();
        int64_t deadline =
            shared->made && contact->then ? contact->then_deadline_us : contact->deadline_us;
        if (is_stopped(contact))
            return give_up_locked(wait, BELAY_CANCELLED, err);
        if (deadline != BLY_NEVER && now >= deadline)
            return give_up_locked(wait, BELAY_DEADLINE_EXCEEDED, err);
        if (now >= wait->report_us) {
            report(wait);
            continue;
        }
        if (now >= wait->look_us) {
            bly_mutex_unlock(&shared->lock);
            start_looking(wait);
            bly_mutex_lock(&shared->lock);
            continue;
        }
        int64_t until = earlier(earlier(deadline, wait->report_us), wait->look_us);
        if (contact->stop[0] || contact->stop[1])
            until = earlier(until, now + LOOK_UP_US);
        bly_wait_until(&shared->changed, &shared->lock, until);
    }
    bly_error_copy(err, &shared->error);
    return shared->error.code;
}

/* Where no thread can be had the run goes on by itself. */
static void end_run(struct shared *shared) {
    bly_thread *thread = start(shared, "belay-close", close_body, NULL);
    if (thread)
        bly_thread_abandon(thread);
    else
        leave_session(shared);
}

static struct wait begin_waiting(const bly_contact *contact, struct shared *shared) {
    int64_t now = bly_now_us();
    struct wait wait = {contact, shared, now, now + FIRST_LOOK_US, now + FIRST_REPORT_US};
    if (!*shared->target)
        wait.look_us = BLY_NEVER;
    /* A short wait has a reason to tell at its end too. */
    else if (contact->deadline_us != BLY_NEVER)
        wait.look_us = earlier(wait.look_us, now + (contact->deadline_us - now) / 2);
    return wait;
}

belay_code bly_contact_make(const bly_contact *contact, belay_error *err) {
    BLY_LOCAL_ERROR(mine);
    struct shared *shared = share(contact);
    bly_thread *thread = shared ? start(shared, "belay-contact", call_body, &mine) : NULL;
    if (!thread) {
        contact->release(contact->owner);
        if (shared)
            drop(shared);
        else
            bly_fail_memory(&mine);
        bly_error_copy(err, &mine);
        return mine.code;
    }
    struct wait wait = begin_waiting(contact, shared);
    bly_mutex_lock(&shared->lock);
    belay_code code = wait_locked(&wait, &mine);
    int done = shared->done, runs = !done && shared->made;
    shared->left = 1;
    shared->users += runs;
    bly_cond_signal_all(&shared->changed);
    bly_mutex_unlock(&shared->lock);
    if (done)
        bly_thread_join(thread);
    else
        bly_thread_abandon(thread);
    if (runs)
        end_run(shared);
    drop(shared);
    if (code != BELAY_OK)
        bly_error_copy(err, &mine);
    return code;
}
