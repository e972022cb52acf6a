#define _GNU_SOURCE
#include "base/thread.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

struct bly_thread {
    pthread_t id;
    char *name;
    void (*body)(void *self);
    void *self;
    atomic_int done;
    atomic_int references; /* the owner's and the running body's */
};

void bly_mutex_init(bly_mutex *mutex) {
    pthread_mutex_init(mutex, NULL);
}

void bly_mutex_clean_up(bly_mutex *mutex) {
    pthread_mutex_destroy(mutex);
}

static _Thread_local size_t taken_here;

size_t bly_mutex_count_here(void) {
    return taken_here;
}

void bly_mutex_lock(bly_mutex *mutex) {
    taken_here++;
    pthread_mutex_lock(mutex);
}

void bly_mutex_unlock(bly_mutex *mutex) {
    pthread_mutex_unlock(mutex);
}

void bly_cond_init(bly_cond *cond) {
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(cond, &attributes);
    pthread_condattr_destroy(&attributes);
}

void bly_cond_clean_up(bly_cond *cond) {
    pthread_cond_destroy(cond);
}

void bly_cond_signal_all(bly_cond *cond) {
    pthread_cond_broadcast(cond);
}

void bly_cond_wait(bly_cond *cond, bly_mutex *mutex, int64_t deadline_us) {
    if (deadline_us == BLY_NEVER) {
        pthread_cond_wait(cond, mutex);
        return;
    }
    struct timespec t = {(time_t)(deadline_us / 1000000), (long)(deadline_us % 1000000) * 1000};
    pthread_cond_timedwait(cond, mutex, &t);
}

static void drop(bly_thread *thread) {
    if (atomic_fetch_sub(&thread->references, 1) != 1)
        return;
    bly_free(thread->name);
    bly_free(thread);
}

static void *run(void *argument) {
    bly_thread *thread = argument;
    char name[16];
    snprintf(name, sizeof name, "%s", thread->name);
    pthread_setname_np(pthread_self(), name);
    thread->body(thread->self);
    atomic_store(&thread->done, 1);
    drop(thread);
    return NULL;
}

bly_thread *bly_thread_start(const char *name, void (*body)(void *self), void *self,
                             belay_error *err) {
    bly_thread *thread = bly_calloc(1, sizeof *thread);
    char *copy = bly_strdup(name);
    if (!thread || !copy) {
        bly_free(thread);
        bly_free(copy);
        bly_fail_memory(err);
        return NULL;
    }
    thread->name = copy;
    thread->body = body;
    thread->self = self;
    atomic_init(&thread->references, 2);

    sigset_t every, before;
    sigfillset(&every);
    pthread_sigmask(SIG_SETMASK, &every, &before);
    int result = pthread_create(&thread->id, NULL, run, thread);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (result != 0) {
        bly_fail_errno(err, result == EAGAIN ? ENOMEM : result, "cannot start thread %s", name);
        bly_free(copy);
        bly_free(thread);
        return NULL;
    }
    return thread;
}

const char *bly_thread_name(const bly_thread *thread) {
    return thread->name;
}

int bly_thread_is_done(const bly_thread *thread) {
    return atomic_load(&thread->done);
}

void bly_thread_join(bly_thread *thread) {
    if (!thread)
        return;
    pthread_join(thread->id, NULL);
    drop(thread);
}

void bly_thread_abandon(bly_thread *thread) {
    if (!thread)
        return;
    pthread_detach(thread->id);
    drop(thread);
}
