#include "stepped_clock.h"

#include "base/clock.h"
#include "base/thread.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define NO_DEADLINE   INT64_MAX
#define HOPELESS_SECS 10

/* A thread that time waits for. */
struct counted {
    struct counted *next;
    bly_thread *thread; /* NULL while it is being started */
    int owned;          /* somebody will join or abandon it */
    void (*body)(void *self);
    void *self;
    unsigned generation;
    int done;
};

/* A wait. Each has a condition of its own, so that time can wake it without touching the waiter's.
 */
struct waiter {
    struct waiter *next;
    const void *what; /* the condition, or the thread that is joined */
    int64_t deadline_us;
    int counted; /* its thread is one of those that time waits for */
    int woken;
    pthread_cond_t wake;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t idle = PTHREAD_COND_INITIALIZER; /* `working` fell */
/* all guarded by lock */
static int installed;
static int mode;
static unsigned generation; /* which install a thread belongs to */
static int64_t now_us;
static size_t threads; /* that time waits for, the installing one included */
static size_t working; /* of those, not waiting */
static struct waiter *waiters;
static struct counted *counted_threads;

static _Thread_local unsigned my_generation; /* equal to `generation`: this thread is counted */

/* base/thread.c's own; --wrap gives their names to the functions at the end of this file. */
bly_thread *__real_bly_thread_start(const char *name, void (*body)(void *self), void *self,
                                    belay_error *err);
void __real_bly_thread_join(bly_thread *thread);
void __real_bly_thread_abandon(bly_thread *thread);
void __real_bly_cond_wait(bly_cond *cond, bly_mutex *mutex, int64_t deadline_us);
void __real_bly_cond_signal_all(bly_cond *cond);

static void wake_locked(struct waiter *w) {
    if (w->woken)
        return;
    w->woken = 1;
    if (w->counted)
        working++;
    pthread_cond_signal(&w->wake);
}

static void wake_due_locked(void) {
    for (struct waiter *w = waiters; w; w = w->next)
        if (w->deadline_us <= now_us)
            wake_locked(w);
}

static int64_t earliest_locked(void) {
    int64_t earliest = NO_DEADLINE;
    for (struct waiter *w = waiters; w; w = w->next)
        if (!w->woken && w->deadline_us < earliest)
            earliest = w->deadline_us;
    return earliest;
}

static void hopeless(const char *why) {
    fprintf(stderr, "stepped clock: %s, %zu threads, at %lld ms\n", why, threads,
            (long long)(now_us / 1000));
    abort();
}

/* In automatic mode, jumps where nobody works. */
static void moved_locked(void) {
    pthread_cond_broadcast(&idle);
    if (mode != STEPPED_AUTO || !installed || working > 0 || threads == 0)
        return;
    int64_t earliest = earliest_locked();
    if (earliest == NO_DEADLINE)
        return; /* a thread that is not counted may still do something: see wait_here_locked() */
    if (earliest > STEPPED_LAST_MS * 1000)
        hopeless("time ran away");
    if (earliest > now_us)
        now_us = earliest;
    wake_due_locked();
}

static void begin_wait_locked(struct waiter *w, const void *what, int64_t deadline_us) {
    w->what = what;
    w->deadline_us = deadline_us;
    w->counted = my_generation == generation;
    w->woken = 0;
    pthread_cond_init(&w->wake, NULL);
    w->next = waiters;
    waiters = w;
    if (w->counted)
        working--;
    if (w->deadline_us <= now_us)
        wake_locked(w);
    moved_locked();
}

static void end_wait_locked(struct waiter *w) {
    struct waiter **link = &waiters;
    while (*link != w)
        link = &(*link)->next;
    *link = w->next;
    if (!w->woken && w->counted)
        working++;
    pthread_cond_destroy(&w->wake);
}

static struct timespec really_after(int seconds) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    t.tv_sec += seconds;
    return t;
}

static void wait_here_locked(struct waiter *w) {
    while (!w->woken) {
        struct timespec end = really_after(HOPELESS_SECS);
        if (pthread_cond_timedwait(&w->wake, &lock, &end) != 0 && installed &&
            mode == STEPPED_AUTO && working == 0 && earliest_locked() == NO_DEADLINE)
            hopeless("every thread waits for ever");
    }
}

/* The waiter stands in the list before its mutex is free, so a signal that follows a change finds
 * it. */
static void clock_wait(void *self, bly_cond *cond, bly_mutex *mutex, int64_t deadline_us) {
    struct waiter w;
    (void)self;
    pthread_mutex_lock(&lock);
    begin_wait_locked(&w, cond, deadline_us);
    pthread_mutex_unlock(mutex);
    wait_here_locked(&w);
    end_wait_locked(&w);
    pthread_mutex_unlock(&lock);
    pthread_mutex_lock(mutex);
}

static int64_t clock_now_us(void *self) {
    (void)self;
    return stepped_clock_now_us();
}

/* What is left over from before counts no more. */
static void let_go_locked(void) {
    for (struct waiter *w = waiters; w; w = w->next) {
        w->counted = 0;
        wake_locked(w);
    }
    while (counted_threads) {
        struct counted *c = counted_threads;
        counted_threads = c->next;
        c->owned = 0;
        if (c->done)
            free(c); /* else it frees itself */
    }
}

void stepped_clock_install(int new_mode) {
    static const bly_clock clock = {clock_now_us, clock_wait, NULL};
    pthread_mutex_lock(&lock);
    installed = 1;
    mode = new_mode;
    my_generation = ++generation;
    now_us = 0;
    threads = working = 1;
    let_go_locked();
    pthread_mutex_unlock(&lock);
    bly_clock_install(&clock);
}

/* Real time, for what must not hang even where the test is wrong. */
static int wait_really_locked(int (*done)(void), int seconds) {
    struct timespec end = really_after(seconds);
    while (!done())
        if (pthread_cond_timedwait(&idle, &lock, &end) != 0)
            return done();
    return 1;
}

static int is_last(void) {
    return threads <= 1;
}

void stepped_clock_uninstall(void) {
    pthread_mutex_lock(&lock);
    if (installed && my_generation == generation) {
        struct waiter w; /* time goes on meanwhile */
        begin_wait_locked(&w, NULL, NO_DEADLINE);
        if (!wait_really_locked(is_last, 5))
            fprintf(stderr, "stepped clock: %zu threads are left over\n", threads - 1);
        end_wait_locked(&w);
    }
    installed = 0;
    generation++;
    let_go_locked();
    pthread_mutex_unlock(&lock);
    bly_clock_install(NULL);
}

int64_t stepped_clock_now_us(void) {
    pthread_mutex_lock(&lock);
    int64_t now = now_us;
    pthread_mutex_unlock(&lock);
    return now;
}

int64_t stepped_clock_now_ms(void) {
    return stepped_clock_now_us() / 1000;
}

void stepped_clock_advance_us(int64_t us) {
    pthread_mutex_lock(&lock);
    now_us += us;
    wake_due_locked();
    pthread_mutex_unlock(&lock);
}

void stepped_clock_advance_ms(int64_t ms) {
    stepped_clock_advance_us(ms * 1000);
}

static int others_wait(void) {
    return working <= (my_generation == generation ? 1 : 0);
}

void stepped_clock_settle(void) {
    pthread_mutex_lock(&lock);
    if (!wait_really_locked(others_wait, 60))
        hopeless("the other threads do not come to rest");
    pthread_mutex_unlock(&lock);
}

int64_t stepped_clock_next_deadline_ms(void) {
    pthread_mutex_lock(&lock);
    int64_t earliest = earliest_locked();
    pthread_mutex_unlock(&lock);
    return earliest == NO_DEADLINE ? -1 : earliest / 1000;
}

size_t stepped_clock_waiting(void) {
    size_t count = 0;
    pthread_mutex_lock(&lock);
    for (struct waiter *w = waiters; w; w = w->next)
        count += !w->woken;
    pthread_mutex_unlock(&lock);
    return count;
}

/* ---- what --wrap leads here ---- */

static void wake_waiters_locked(const void *what) {
    for (struct waiter *w = waiters; w; w = w->next)
        if (w->what == what)
            wake_locked(w);
}

static void run_counted(void *argument) {
    struct counted *c = argument;
    pthread_mutex_lock(&lock);
    my_generation = c->generation;
    pthread_mutex_unlock(&lock);
    c->body(c->self);
    pthread_mutex_lock(&lock);
    c->done = 1;
    wake_waiters_locked(c); /* before this thread stops counting: time must not slip in between */
    if (my_generation == generation) {
        threads--;
        working--;
        moved_locked();
    }
    my_generation = 0;
    if (!c->owned)
        free(c);
    pthread_mutex_unlock(&lock);
}

static void forget_locked(struct counted *c) {
    struct counted **link = &counted_threads;
    while (*link && *link != c)
        link = &(*link)->next;
    if (*link)
        *link = c->next;
    c->owned = 0;
    if (c->done)
        free(c);
}

static struct counted *find_locked(const bly_thread *thread) {
    struct counted *c = thread ? counted_threads : NULL;
    while (c && c->thread != thread)
        c = c->next;
    return c;
}

bly_thread *__wrap_bly_thread_start(const char *name, void (*body)(void *self), void *self,
                                    belay_error *err);
bly_thread *__wrap_bly_thread_start(const char *name, void (*body)(void *self), void *self,
                                    belay_error *err) {
    pthread_mutex_lock(&lock);
    struct counted *c = installed ? calloc(1, sizeof *c) : NULL;
    if (c) {
        *c = (struct counted){counted_threads, NULL, 1, body, self, generation, 0};
        counted_threads = c;
        threads++; /* before it runs: time must not move while it is on its way */
        working++;
    }
    pthread_mutex_unlock(&lock);
    if (!c)
        return __real_bly_thread_start(name, body, self, err);
    bly_thread *thread = __real_bly_thread_start(name, run_counted, c, err);
    pthread_mutex_lock(&lock);
    c->thread = thread;
    if (!thread) {
        c->done = 1;
        threads--;
        working--;
        forget_locked(c);
        moved_locked();
    }
    pthread_mutex_unlock(&lock);
    return thread;
}

void __wrap_bly_thread_join(bly_thread *thread);
void __wrap_bly_thread_join(bly_thread *thread) {
    pthread_mutex_lock(&lock);
    struct counted *c = find_locked(thread);
    if (c && !c->done) {
        struct waiter w;
        begin_wait_locked(&w, c, NO_DEADLINE);
        wait_here_locked(&w);
        end_wait_locked(&w);
        c = find_locked(thread); /* the clock may have been taken out meanwhile */
    }
    if (c)
        forget_locked(c);
    pthread_mutex_unlock(&lock);
    __real_bly_thread_join(thread);
}

void __wrap_bly_thread_abandon(bly_thread *thread);
void __wrap_bly_thread_abandon(bly_thread *thread) {
    pthread_mutex_lock(&lock);
    struct counted *c = find_locked(thread);
    if (c)
        forget_locked(c);
    pthread_mutex_unlock(&lock);
    __real_bly_thread_abandon(thread);
}

void __wrap_bly_cond_wait(bly_cond *cond, bly_mutex *mutex, int64_t deadline_us);
void __wrap_bly_cond_wait(bly_cond *cond, bly_mutex *mutex, int64_t deadline_us) {
    pthread_mutex_lock(&lock);
    int counts = installed;
    pthread_mutex_unlock(&lock);
    if (counts)
        clock_wait(NULL, cond, mutex, deadline_us);
    else
        __real_bly_cond_wait(cond, mutex, deadline_us);
}

void __wrap_bly_cond_signal_all(bly_cond *cond);
void __wrap_bly_cond_signal_all(bly_cond *cond) {
    pthread_mutex_lock(&lock);
    wake_waiters_locked(cond);
    pthread_mutex_unlock(&lock);
    __real_bly_cond_signal_all(cond);
}
