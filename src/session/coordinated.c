#include "session/coordinated.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/thread.h"
#include "session/coordinator.h"
#include "session/queue_runner.h"

/* A thread that is blocked in a session call ends only when the session is closed; so that comes
 * early (BUG-18). */
#define FIRST_JOIN_SECS 2.0

belay_code bly_coordinated_open(bly_coordinated *coordinated, bly_hooked *hooked,
                                belay_session *session, double grace_secs, belay_error *err) {
    static const belay_code no_clean_codes[] = {BELAY_OK}; /* CO-02: the empty set */
    *coordinated =
        (bly_coordinated){.hooked = hooked, .session = session, .grace_secs = grace_secs};
    BLY_LOCAL_ERROR(mine);
    coordinated->coordinator = belay_coordinator_new(no_clean_codes, 0, &mine);
    if (coordinated->coordinator) {
        coordinated->has_queue_runners = bly_queue_runner_count(hooked->graph) > 0;
        if (coordinated->has_queue_runners)
            bly_start_queue_runners(session, coordinated->coordinator, &mine);
        if (mine.code == BELAY_OK)
            bly_hooked_attach(hooked, session, coordinated->coordinator, &mine);
    }
    if (mine.code != BELAY_OK) {
        BLY_LOCAL_ERROR(closing);
        bly_coordinated_close(coordinated, &closing);
        bly_error_chain(&mine, &closing);
        bly_error_copy(err, &mine);
    }
    return mine.code;
}

belay_code bly_coordinated_error(bly_coordinated *coordinated, belay_error *err) {
    return belay_coordinator_raise_requested_exception(coordinated->coordinator, err);
}

static int is_preemption(belay_code code) {
    return code == BELAY_ABORTED || code == BELAY_UNAVAILABLE;
}

belay_code bly_coordinated_run(bly_coordinated *coordinated, belay_step *step,
                               belay_tensor *const *inputs, belay_tensor **outputs,
                               int without_hooks, belay_error *err) {
    belay_code code =
        bly_hooked_run(coordinated->hooked, step, inputs, outputs, without_hooks, err);
    if (code == BELAY_OK || is_preemption(code))
        return code;
    /* WS-12: a task went away, and this is only what it looked like from here. */
    BLY_LOCAL_ERROR(reported);
    if (is_preemption(bly_coordinated_error(coordinated, &reported))) {
        bly_error_copy(err, &reported);
        return reported.code;
    }
    return code;
}

/* Closing a session whose server is gone may block for long: a helper thread does it, and is left
 * behind with its reference where it takes longer than the grace. */
struct closing {
    belay_session *session;
    bly_mutex lock;
    bly_cond done;
    int finished;  /* guarded by lock */
    int abandoned; /* guarded by lock */
    belay_error error;
};

static void closing_free(struct closing *closing) {
    bly_cond_clean_up(&closing->done);
    bly_mutex_clean_up(&closing->lock);
    bly_session_unref(closing->session);
    bly_free(closing);
}

static void close_body(void *self) {
    struct closing *closing = self;
    belay_error_clear(&closing->error);
    belay_session_close(closing->session, &closing->error);
    bly_mutex_lock(&closing->lock);
    closing->finished = 1;
    int abandoned = closing->abandoned;
    bly_cond_signal_all(&closing->done);
    bly_mutex_unlock(&closing->lock);
    if (abandoned)
        closing_free(closing);
}

static void close_in_time(belay_session *session, double grace_secs) {
    BLY_LOCAL_ERROR(mine);
    struct closing *closing = NULL;
    bly_thread *thread = NULL;
    if (session->target[0] != '\0')
        closing = bly_calloc(1, sizeof *closing);
    if (closing) {
        closing->session = bly_session_ref(session);
        bly_mutex_init(&closing->lock);
        bly_cond_init(&closing->done);
        thread = bly_thread_start("belay-close", close_body, closing, NULL);
    }
    if (!thread) {
        /* In this process closing is quick; and where no thread can be had it is better than not
         * closing. */
        if (closing)
            closing_free(closing);
        if (belay_session_close(session, &mine) != BELAY_OK)
            bly_warn("closing the session: %s", mine.message);
        return;
    }
    int64_t deadline =
        grace_secs == BELAY_FOREVER ? BLY_NEVER : bly_deadline_after_secs(grace_secs);
    bly_mutex_lock(&closing->lock);
    while (!closing->finished && bly_wait_until(&closing->done, &closing->lock, deadline))
        ;
    int finished = closing->finished;
    closing->abandoned = !finished;
    bly_mutex_unlock(&closing->lock);
    if (!finished) {
        bly_warn("the session with %s did not close within %.0f s; it is left to itself",
                 session->target, grace_secs);
        bly_thread_abandon(thread);
        return;
    }
    bly_thread_join(thread);
    if (closing->error.code != BELAY_OK)
        bly_warn("closing the session: %s", closing->error.message);
    closing_free(closing);
}

static void release_session(void *self) {
    bly_coordinated *coordinated = self;
    close_in_time(coordinated->session, coordinated->grace_secs);
}

belay_code bly_coordinated_close(bly_coordinated *coordinated, belay_error *err) {
    belay_code code = BELAY_OK;
    if (coordinated->coordinator) {
        belay_coordinator_request_stop(coordinated->coordinator, NULL);
        code = bly_coordinator_join_releasing(coordinated->coordinator, coordinated->grace_secs,
                                              FIRST_JOIN_SECS, release_session, coordinated, err);
    }
    if (coordinated->session) {
        release_session(coordinated);
        bly_hooked_detach(coordinated->hooked);
        belay_session_free(coordinated->session);
        coordinated->session = NULL;
    }
    belay_coordinator_free(coordinated->coordinator);
    coordinated->coordinator = NULL;
    return code;
}
