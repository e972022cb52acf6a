#include "session/coordinator.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/options.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

#define GRACE_SECS  120.0 /* TO-04 */
#define REPORT_SECS 10.0

_Static_assert(sizeof(belay_join_options) ==
                   offsetof(belay_join_options, reserved) + sizeof(uint32_t),
               "no tail padding");
_Static_assert(sizeof(belay_loop_options) ==
                   offsetof(belay_loop_options, reserved) + sizeof(uint32_t),
               "no tail padding");

typedef struct belay_registered_thread member;

/* A thread of a coordinator: one that it started, or one of the host's that was registered. Belongs
 * to the coordinator until it is joined, or to its own thread once abandoned. */
struct belay_registered_thread {
    member *next;
    belay_coordinator *coordinator; /* a reference, given up when the thread has ended */
    bly_thread *thread;             /* NULL: the host's */
    char *name;                     /* of one of the host's */
    void (*body)(void *self);
    void *self;
    int done;      /* guarded by the coordinator's lock */
    int abandoned; /* guarded by the coordinator's lock: nobody joins it, so it frees this */
};

struct belay_coordinator {
    atomic_int references;
    atomic_int stop; /* written under lock, so that a waiter misses nothing; read by anybody */
    bly_mutex lock;
    bly_cond changed;        /* a stop, a thread that ended, a wake */
    belay_error error;       /* guarded by lock; the code is BELAY_OK until one is recorded */
    int joined;              /* guarded by lock */
    member *members;         /* guarded by lock; in the order of their start */
    belay_code *clean_codes; /* fixed */
    size_t clean_count;
};

belay_coordinator *belay_coordinator_new(const belay_code *clean_stop_codes, size_t count,
                                         belay_error *err) {
    static const belay_code by_default[] = {BELAY_OUT_OF_RANGE};
    if (!clean_stop_codes) {
        clean_stop_codes = by_default;
        count = 1;
    }
    belay_coordinator *c = bly_calloc(1, sizeof *c);
    belay_code *codes = bly_calloc(count, sizeof *codes);
    if (!c || !codes) {
        bly_free(codes);
        bly_free(c);
        bly_fail_memory(err);
        return NULL;
    }
    memcpy(codes, clean_stop_codes, count * sizeof *codes);
    atomic_init(&c->references, 1);
    bly_mutex_init(&c->lock);
    bly_cond_init(&c->changed);
    c->clean_codes = codes;
    c->clean_count = count;
    return c;
}

belay_coordinator *bly_coordinator_ref(belay_coordinator *c) {
    atomic_fetch_add(&c->references, 1);
    return c;
}

void bly_coordinator_unref(belay_coordinator *c) {
    if (!c || atomic_fetch_sub(&c->references, 1) != 1)
        return;
    /* No members are left: each that runs holds a reference, and the others were joined or, in
     * belay_coordinator_free(), let go. */
    bly_cond_clean_up(&c->changed);
    bly_mutex_clean_up(&c->lock);
    bly_free(c->clean_codes);
    bly_free(c);
}

static int is_clean(const belay_coordinator *c, belay_code code) {
    for (size_t i = 0; i < c->clean_count; i++)
        if (c->clean_codes[i] == code)
            return 1;
    return 0;
}

void belay_coordinator_request_stop(belay_coordinator *c, const belay_error *reason) {
    if (!c)
        return;
    int is_error = reason && reason->code != BELAY_OK && !is_clean(c, reason->code);
    int late = 0, after_join = 0;
    bly_mutex_lock(&c->lock);
    if (is_error) {
        late = atomic_load(&c->stop);
        after_join = c->joined;
        /* After a plain stop an error is what stopping looks like to somebody in the middle of
         * something: said, but not kept (CO-06). After a join it is kept: nobody else will hear of
         * it (BUG-06). */
        if (!late || after_join || c->error.code != BELAY_OK)
            bly_error_chain(&c->error, reason);
    }
    atomic_store(&c->stop, 1);
    bly_cond_signal_all(&c->changed);
    bly_mutex_unlock(&c->lock);
    if (!is_error)
        return;
    if (late || after_join)
        bly_warn("Error reported to Coordinator after %s: %s: %s",
                 after_join ? "the join" : "the stop", belay_code_name(reason->code),
                 reason->message);
    else
        bly_info("Error reported to Coordinator: %s: %s", belay_code_name(reason->code),
                 reason->message);
}

uint32_t belay_coordinator_should_stop(const belay_coordinator *c) {
    return c && atomic_load(&c->stop) ? 1 : 0;
}

void belay_coordinator_clear_stop(belay_coordinator *c) {
    if (!c)
        return;
    bly_mutex_lock(&c->lock);
    atomic_store(&c->stop, 0);
    c->joined = 0;
    belay_error_clear(&c->error);
    bly_mutex_unlock(&c->lock);
}

/* BELAY_FOREVER: no deadline; BELAY_AT_ONCE, a negative or a NaN: now. */
static int64_t deadline_after(double secs) {
    return secs == BELAY_FOREVER ? BLY_NEVER : bly_deadline_after_secs(secs);
}

static int64_t earlier(int64_t a, int64_t b) {
    return a < b ? a : b;
}

uint32_t belay_coordinator_wait_for_stop(belay_coordinator *c, double timeout_secs) {
    if (!c)
        return 0;
    int64_t start = bly_now_us();
    int64_t deadline = deadline_after(timeout_secs);
    bly_mutex_lock(&c->lock);
    while (!atomic_load(&c->stop) && bly_now_us() < deadline) {
        int64_t report = earlier(deadline, bly_deadline_after_secs(REPORT_SECS));
        while (!atomic_load(&c->stop) && bly_wait_until(&c->changed, &c->lock, report))
            ;
        if (atomic_load(&c->stop) || deadline != BLY_NEVER)
            continue;
        bly_mutex_unlock(&c->lock);
        bly_info("still waiting for the coordinator to stop, since %.0f s: nobody has requested it",
                 (double)(bly_now_us() - start) / 1e6);
        bly_mutex_lock(&c->lock);
    }
    uint32_t stopped = atomic_load(&c->stop) ? 1 : 0;
    bly_mutex_unlock(&c->lock);
    return stopped;
}

int bly_coordinator_wait_until(belay_coordinator *c, int64_t deadline_us) {
    bly_mutex_lock(&c->lock);
    while (!atomic_load(&c->stop) && bly_wait_until(&c->changed, &c->lock, deadline_us))
        ;
    int stopped = atomic_load(&c->stop);
    bly_mutex_unlock(&c->lock);
    return stopped;
}

void bly_coordinator_wait_for_stop_or(belay_coordinator *c, int (*over)(void *self), void *self) {
    bly_mutex_lock(&c->lock);
    while (!atomic_load(&c->stop) && !over(self))
        bly_wait_until(&c->changed, &c->lock, BLY_NEVER);
    bly_mutex_unlock(&c->lock);
}

void bly_coordinator_wake(belay_coordinator *c) {
    bly_mutex_lock(&c->lock);
    bly_cond_signal_all(&c->changed);
    bly_mutex_unlock(&c->lock);
}

static belay_code no_coordinator(belay_error *err) {
    return belay_error_code(err) ? belay_error_code(err)
                                 : bly_fail(err, BELAY_INVALID_ARGUMENT, "coordinator is NULL");
}

belay_code belay_coordinator_raise_requested_exception(belay_coordinator *c, belay_error *err) {
    if (!c)
        return no_coordinator(err);
    bly_mutex_lock(&c->lock);
    belay_code code = c->error.code;
    if (code != BELAY_OK)
        bly_error_copy(err, &c->error);
    bly_mutex_unlock(&c->lock);
    return code;
}

uint32_t belay_coordinator_joined(const belay_coordinator *coordinator) {
    if (!coordinator)
        return 0;
    /* The lock is no part of what a caller calls const. */
    belay_coordinator *c = (belay_coordinator *)(uintptr_t)coordinator;
    bly_mutex_lock(&c->lock);
    uint32_t joined = c->joined ? 1 : 0;
    bly_mutex_unlock(&c->lock);
    return joined;
}

/* ---- threads ---- */

static void free_member(member *m) {
    bly_free(m->name);
    bly_free(m);
}

/* The last that a thread does: from here on it is joined, which frees `m`, unless nobody waits. */
static void end_member(member *m) {
    belay_coordinator *c = m->coordinator;
    bly_mutex_lock(&c->lock);
    m->done = 1;
    int mine = m->abandoned;
    bly_cond_signal_all(&c->changed);
    bly_mutex_unlock(&c->lock);
    if (mine)
        free_member(m);
    bly_coordinator_unref(c);
}

static void member_run(void *self) {
    member *m = self;
    m->body(m->self);
    end_member(m);
}

static void append_locked(belay_coordinator *c, member *m) {
    member **end = &c->members;
    while (*end)
        end = &(*end)->next;
    *end = m;
}

belay_code bly_coordinator_start_thread(belay_coordinator *c, const char *name,
                                        void (*body)(void *self), void *self, belay_error *err) {
    member *m = bly_calloc(1, sizeof *m);
    if (!m)
        return bly_fail_memory(err);
    m->coordinator = bly_coordinator_ref(c);
    m->body = body;
    m->self = self;
    BLY_LOCAL_ERROR(mine);
    bly_thread *thread = bly_thread_start(name, member_run, m, &mine);
    if (!thread) {
        bly_coordinator_unref(c);
        bly_free(m);
        bly_error_copy(err, &mine);
        return mine.code;
    }
    /* It may be done by now, which is as good: join looks at `done`. */
    bly_mutex_lock(&c->lock);
    m->thread = thread;
    append_locked(c, m);
    bly_mutex_unlock(&c->lock);
    return BELAY_OK;
}

belay_registered_thread *belay_coordinator_register_thread(belay_coordinator *c, const char *name,
                                                           belay_error *err) {
    if (!c || !name) {
        if (c || belay_error_code(err) == BELAY_OK)
            bly_fail(err, BELAY_INVALID_ARGUMENT, "%s is NULL", c ? "name" : "coordinator");
        return NULL;
    }
    member *m = bly_calloc(1, sizeof *m);
    if (!m || !(m->name = bly_strdup(name))) {
        bly_free(m);
        bly_fail_memory(err);
        return NULL;
    }
    m->coordinator = bly_coordinator_ref(c);
    bly_mutex_lock(&c->lock);
    append_locked(c, m);
    bly_mutex_unlock(&c->lock);
    return m;
}

void belay_registered_thread_end(belay_registered_thread *thread, const belay_error *reason) {
    if (!thread)
        return;
    if (reason && reason->code != BELAY_OK) /* CO-19 */
        belay_coordinator_request_stop(thread->coordinator, reason);
    end_member(thread);
}

static int alive_locked(const member *members) {
    for (; members; members = members->next)
        if (!members->done)
            return 1;
    return 0;
}

static const char *name_of(const member *m) {
    return m->thread ? bly_thread_name(m->thread) : m->name;
}

/* Names of the threads that are alive. */
static void name_locked(const member *members, bly_buf *out) {
    for (; members; members = members->next)
        if (!members->done)
            bly_buf_printf(out, "%s%s", out->len ? ", " : "", name_of(members));
}

static void report_wait(const char *names, int64_t start, int until_stop, int64_t deadline) {
    double since = (double)(bly_now_us() - start) / 1e6;
    if (until_stop || deadline == BLY_NEVER)
        bly_warn("waiting for threads to end, for %.0f s now%s, without a limit: %s", since,
                 until_stop ? "; nobody has requested a stop" : " after the stop", names);
    else
        bly_warn(
            "waiting for threads to end, for %.0f s now after the stop, at most %.0f s more: %s",
            since, (double)(deadline - bly_now_us()) / 1e6, names);
}

/* Waits until the members are done, the deadline, or, before a stop, the stop. Says every
 * REPORT_SECS what it waits for.
 */
static void wait_locked(belay_coordinator *c, const member *members, int until_stop,
                        int64_t deadline) {
    int64_t start = bly_now_us();
    while (alive_locked(members) && !(until_stop && atomic_load(&c->stop)) &&
           bly_now_us() < deadline) {
        int64_t report = earlier(deadline, bly_deadline_after_secs(REPORT_SECS));
        while (alive_locked(members) && !(until_stop && atomic_load(&c->stop)) &&
               bly_wait_until(&c->changed, &c->lock, report))
            ;
        if (bly_now_us() < report || report == deadline)
            continue;
        bly_buf names = BLY_BUF_INIT;
        name_locked(members, &names);
        bly_mutex_unlock(&c->lock);
        if (names.len)
            report_wait(bly_buf_text(&names), start, until_stop, deadline);
        bly_buf_free(&names);
        bly_mutex_lock(&c->lock);
    }
}

/* Ends a join: `members` are this call's alone. Joins what is done and lets the rest go, whose
 * names it returns. */
static void settle(belay_coordinator *c, member *members, bly_buf *alive) {
    member *next;
    bly_mutex_lock(&c->lock);
    name_locked(members, alive);
    for (member *m = members; m; m = m->next)
        m->abandoned = !m->done;
    /* From here on an abandoned member may vanish at any moment: unlink those first. */
    member **link = &members;
    while (*link) {
        member *m = *link;
        if (!m->abandoned) {
            link = &m->next;
            continue;
        }
        *link = m->next;
        if (m->thread)
            bly_thread_abandon(m->thread);
    }
    c->joined = 1;
    bly_mutex_unlock(&c->lock);
    for (member *m = members; m; m = next) {
        next = m->next;
        if (m->thread)
            bly_thread_join(m->thread);
        free_member(m);
    }
}

void belay_coordinator_free(belay_coordinator *c) {
    if (!c)
        return;
    bly_buf alive = BLY_BUF_INIT, later = BLY_BUF_INIT;
    bly_mutex_lock(&c->lock);
    member *members = c->members;
    c->members = NULL;
    name_locked(members, &alive);
    if (alive_locked(members)) {
        atomic_store(&c->stop, 1);
        bly_cond_signal_all(&c->changed);
    }
    bly_mutex_unlock(&c->lock);
    if (alive.len)
        bly_warn("a coordinator was freed without a join; its threads were asked to stop: %s",
                 bly_buf_text(&alive));
    settle(c, members, &later);
    bly_buf_free(&alive);
    bly_buf_free(&later);
    bly_coordinator_unref(c);
}

static belay_code join(belay_coordinator *c, double grace_secs, double first_secs,
                       void (*release)(void *self), void *self, int ignore_live, belay_error *err) {
    bly_mutex_lock(&c->lock);
    member *members = c->members; /* one that registers from now on is for the next join */
    c->members = NULL;
    wait_locked(c, members, 1, BLY_NEVER);
    int64_t deadline = deadline_after(grace_secs);
    if (release && alive_locked(members)) {
        wait_locked(c, members, 0, earlier(deadline, deadline_after(first_secs)));
        if (alive_locked(members)) {
            bly_mutex_unlock(&c->lock);
            release(self);
            bly_mutex_lock(&c->lock);
        }
    }
    wait_locked(c, members, 0, deadline);
    bly_mutex_unlock(&c->lock);

    bly_buf alive = BLY_BUF_INIT;
    settle(c, members, &alive);
    belay_code code = belay_coordinator_raise_requested_exception(c, err);
    if (alive.len && (code != BELAY_OK || ignore_live))
        bly_warn("Coordinator stopped with threads still running: %s", bly_buf_text(&alive));
    else if (alive.len)
        code = bly_fail(err, BELAY_DEADLINE_EXCEEDED,
                        "Coordinator stopped with threads still running: %s", bly_buf_text(&alive));
    bly_buf_free(&alive);
    return code;
}

belay_code belay_coordinator_join(belay_coordinator *c, const belay_join_options *options,
                                  belay_error *err) {
    belay_join_options mine;
    if (!c)
        return no_coordinator(err);
    belay_code code = bly_options_read(&mine, sizeof mine, options, "belay_join_options", err);
    if (code != BELAY_OK)
        return code;
    double grace = mine.stop_grace_period_secs;
    if (isnan(grace) || (grace < 0 && grace != BELAY_FOREVER && grace != BELAY_AT_ONCE))
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "stop_grace_period_secs is %g", grace);
    if (mine.ignore_live_threads > 1 || mine.reserved != 0)
        return bly_fail(err, BELAY_INVALID_ARGUMENT,
                        "belay_join_options has an option set that is unknown");
    return join(c, grace == 0 ? GRACE_SECS : grace, 0, NULL, NULL, (int)mine.ignore_live_threads,
                err);
}

belay_code bly_coordinator_join_releasing(belay_coordinator *c, double grace_secs,
                                          double first_secs, void (*release)(void *self),
                                          void *self, belay_error *err) {
    return join(c, grace_secs, first_secs, release, self, 1, err);
}
