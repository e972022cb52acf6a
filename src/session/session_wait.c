/* Waiting for a target to answer, and for a model that somebody else makes ready (SM-31 to SM-39).
 *
 * One session serves a whole wait: it is asked again and again until the model is ready (BUG-26),
 * and local init runs once in it (BUG-66). Only where the target has lost it is another one made.
 * Each attempt runs on a thread of its own, since TensorFlow may never come back from it. */
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "cluster/contact.h"
#include "session/backoff.h"
#include "session/session_manager_impl.h"

#include <stddef.h>

/* What an attempt has at least, also at the end of the wait (SM-35): to reach its target, and to
 * run its ops. */
#define REACH_SECS 5
#define RUN_SECS   60

static int64_t not_before(int64_t deadline_us, double secs) {
    int64_t least = bly_deadline_after_secs(secs);
    return deadline_us > least ? deadline_us : least;
}

static bly_contact contact_with(const belay_session_manager *manager, const belay_session *session,
                                int64_t deadline_us) {
    return (bly_contact){
        .rt = session->rt,
        .session = session->tf,
        .target = session->target,
        .deadline_us = not_before(deadline_us, REACH_SECS),
        .stop = {&manager->cancelled, manager->stop},
    };
}

static void release_session(void *session) {
    bly_session_unref(session);
}

belay_session *bly_manager_open(const belay_session_manager *manager,
                                const belay_session_options *options, double max_wait_secs,
                                belay_error *err) {
    int64_t deadline =
        max_wait_secs == BELAY_FOREVER ? BLY_NEVER : bly_deadline_after_secs(max_wait_secs);
    if (manager->deadline_us < deadline)
        deadline = manager->deadline_us;
    belay_session *session = belay_session_open(manager->graph, options, err);
    if (!session || !*session->target)
        return session;
    bly_remote_runs_limit(&session->runs,
                          &(bly_run_limits){.stop = {&manager->cancelled, manager->stop},
                                            .longest_secs = bly_secs_at_least(max_wait_secs, 1),
                                            .deadline_us = manager->deadline_us});
    bly_contact contact = contact_with(manager, session, deadline);
    contact.owner = bly_session_ref(session);
    contact.release = release_session;
    if (bly_contact_make(&contact, err) == BELAY_OK)
        return session;
    bly_manager_let_go(session);
    belay_session_free(session);
    return NULL;
}

void bly_manager_let_go(belay_session *session) {
    bly_remote_runs_limit(&session->runs, NULL);
}

/* What the caller shares with the thread of an attempt. */
struct attempt {
    atomic_int references;
    belay_session_manager *manager;
    belay_session *session; /* NULL: to be made */
    int asked;              /* it has answered before */
    int local_done, ready;
    bly_buf local_why, ready_why;
};

static void attempt_drop(void *self) {
    struct attempt *attempt = self;
    if (!attempt || atomic_fetch_sub(&attempt->references, 1) != 1)
        return;
    belay_session_free(attempt->session);
    belay_session_manager_free(attempt->manager);
    bly_buf_free(&attempt->local_why);
    bly_buf_free(&attempt->ready_why);
    bly_free(attempt);
}

static struct attempt *attempt_new(belay_session_manager *manager, belay_error *err) {
    struct attempt *attempt = bly_calloc(1, sizeof *attempt);
    if (!attempt) {
        bly_fail_memory(err);
        return NULL;
    }
    atomic_init(&attempt->references, 1);
    attempt->manager = bly_session_manager_ref(manager);
    return attempt;
}

static belay_code ask(void *self, belay_error *err) {
    struct attempt *attempt = self;
    bly_buf_clear(&attempt->ready_why);
    belay_code code = bly_manager_local_init(attempt->manager, attempt->session,
                                             &attempt->local_done, &attempt->local_why, err);
    if (code == BELAY_OK && attempt->local_done)
        code = bly_manager_check_ready(attempt->manager, attempt->session, &attempt->ready,
                                       &attempt->ready_why, err);
    return code;
}

/* Asks once. The attempt is of no more use after an error. */
static belay_code ask_in_time(struct attempt *attempt, int64_t deadline_us, belay_error *err) {
    bly_contact contact = contact_with(attempt->manager, attempt->session, deadline_us);
    contact.then = ask;
    contact.doing = "ready and local init ops";
    contact.then_deadline_us = not_before(deadline_us, REACH_SECS + RUN_SECS);
    contact.owner = attempt;
    contact.release = attempt_drop;
    atomic_fetch_add(&attempt->references, 1);
    /* A run that nobody waits for any more has a minute, as far as belay's part of it goes. */
    bly_run_limits limits = {.is_reported = 1};
    bly_remote_runs_limit(&attempt->session->runs, &limits);
    belay_code code = bly_contact_make(&contact, err);
    limits.deadline_us = 1;
    bly_remote_runs_limit(&attempt->session->runs, code == BELAY_OK ? NULL : &limits);
    attempt->asked |= code == BELAY_OK;
    return code;
}

/* BUG-26: nobody else can make such a model ready. */
#define PRIVATE "its variables are private, so nobody else can initialise them"

static int is_private(const struct attempt *attempt) {
    return !*attempt->session->target;
}

static void forget_session(struct attempt *attempt) {
    belay_session_free(attempt->session);
    attempt->session = NULL;
    attempt->asked = attempt->local_done = 0;
}

/* Asks in the session of the last time, or in a new one where there is none, or where its target
 * does not have it any more: then the wait goes on, as TensorFlow's does, which makes one each
 * time. */
static belay_code try_once(struct attempt *attempt, const belay_session_options *options,
                           int64_t deadline_us, belay_error *err) {
    BLY_LOCAL_ERROR(mine);
    if (attempt->session) {
        belay_code code = ask_in_time(attempt, deadline_us, &mine);
        if (code != BELAY_ABORTED && code != BELAY_UNAVAILABLE) {
            if (code != BELAY_OK)
                bly_error_copy(err, &mine);
            return code;
        }
        bly_info("the session that waited is lost, another one is made: %s", mine.message);
        forget_session(attempt);
    }
    attempt->session = belay_session_open(attempt->manager->graph, options, err);
    if (!attempt->session)
        return belay_error_code(err);
    if (is_private(attempt))
        bly_warn("waiting for a session in this process: " PRIVATE " (BUG-26)");
    return ask_in_time(attempt, deadline_us, err);
}

static const char *or_none(const bly_buf *why) {
    return why->len ? bly_buf_text(why) : "None";
}

static void report_not_ready(void *self, double elapsed_secs) {
    const struct attempt *attempt = self;
    (void)elapsed_secs;
    bly_info("Waiting for model to be ready. Ready_for_local_init_op: %s, ready: %s",
             or_none(&attempt->local_why), or_none(&attempt->ready_why));
}

/* Until the model is ready. */
static belay_code keep_trying(struct attempt *attempt, const belay_session_options *options,
                              double max_wait_secs, belay_error *err) {
    const belay_session_manager *manager = attempt->manager;
    bly_backoff backoff;
    bly_backoff_start(&backoff, BLY_BACKOFF_LOOKS, max_wait_secs, manager->recovery_wait_secs,
                      &manager->cancelled, manager->stop);
    for (;;) {
        belay_code code = try_once(attempt, options, backoff.deadline_us, err);
        if (code != BELAY_OK || attempt->ready)
            return code;
        switch (bly_backoff_pause(&backoff, report_not_ready, attempt)) {
        case BLY_BACKOFF_STOPPED:
            return bly_fail(err, BELAY_CANCELLED,
                            "a stop was requested while waiting for the model to be ready. "
                            "Ready_for_local_init_op: %s, ready: %s",
                            or_none(&attempt->local_why), or_none(&attempt->ready_why));
        case BLY_BACKOFF_EXPIRED:
            return bly_fail(err, BELAY_DEADLINE_EXCEEDED,
                            "Session was not ready after waiting %d secs. "
                            "Ready_for_local_init_op: %s, ready: %s%s",
                            max_wait_secs > 0 ? (int)max_wait_secs : 0,
                            or_none(&attempt->local_why), or_none(&attempt->ready_why),
                            is_private(attempt) ? ". It is in this process: " PRIVATE : "");
        case BLY_BACKOFF_AGAIN:
            break;
        }
    }
}

belay_session *belay_session_manager_wait_for_session(belay_session_manager *manager,
                                                      const belay_session_options *session_options,
                                                      double max_wait_secs, belay_error *err) {
    BLY_LOCAL_ERROR(mine);
    belay_session *session = NULL;
    if (!manager) {
        if (belay_error_code(err) == BELAY_OK)
            bly_fail(err, BELAY_INVALID_ARGUMENT, "manager is NULL");
        return NULL;
    }
    if (bly_check_secs("max_wait_secs", max_wait_secs, err) != BELAY_OK)
        return NULL;
    struct attempt *attempt = attempt_new(manager, &mine);
    if (attempt && keep_trying(attempt, session_options, max_wait_secs, &mine) == BELAY_OK) {
        session = attempt->session;
        attempt->session = NULL;
    }
    attempt_drop(attempt);
    if (!session)
        bly_error_copy(err, &mine);
    return session;
}
