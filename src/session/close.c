/* Closing a session in time. */
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "session/session.h"

#define FIRST_REPORT_US INT64_C(2000000)
#define REPORT_EVERY_US INT64_C(10000000)

/* A target that did not end a run is not soon to close, either. */
#define LEFT_SECS 1.0

/* Shared by the caller and the helper thread that closes, which is left behind with its reference
 * to the session where it takes too long. */
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
    bly_session_close_here(closing->session, &closing->error);
    bly_mutex_lock(&closing->lock);
    closing->finished = 1;
    int abandoned = closing->abandoned;
    bly_cond_signal_all(&closing->done);
    bly_mutex_unlock(&closing->lock);
    if (abandoned)
        closing_free(closing);
}

static bly_thread *start(belay_session *session, struct closing **out) {
    struct closing *closing = bly_calloc(1, sizeof *closing);
    if (!closing)
        return NULL;
    closing->session = bly_session_ref(session);
    bly_mutex_init(&closing->lock);
    bly_cond_init(&closing->done);
    bly_thread *thread = bly_thread_start("belay-close", close_body, closing, NULL);
    if (!thread)
        closing_free(closing);
    *out = closing;
    return thread;
}

static int finished_by(struct closing *closing, int64_t deadline_us) {
    bly_mutex_lock(&closing->lock);
    while (!closing->finished && bly_wait_until(&closing->done, &closing->lock, deadline_us))
        ;
    int finished = closing->finished;
    bly_mutex_unlock(&closing->lock);
    return finished;
}

/* 1 where the close is left to its thread, 0 where it has ended in the nick of time. */
static int leave(struct closing *closing) {
    bly_mutex_lock(&closing->lock);
    closing->abandoned = !closing->finished;
    int abandoned = closing->abandoned;
    bly_mutex_unlock(&closing->lock);
    return abandoned;
}

static int64_t earlier(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* 1 where the session is closed. */
static int wait_for(struct closing *closing, double secs) {
    int64_t started = bly_now_us(), report = started + FIRST_REPORT_US;
    int64_t deadline = secs == BELAY_FOREVER ? BLY_NEVER : bly_deadline_after_secs(secs);
    while (!finished_by(closing, earlier(deadline, report))) {
        if (bly_now_us() >= deadline)
            return !leave(closing);
        bly_info("Waiting for the session with %s to close, for %.0f s so far",
                 closing->session->target, (double)(bly_now_us() - started) / 1e6);
        report += REPORT_EVERY_US;
    }
    return 1;
}

belay_code bly_session_close_here(belay_session *session, belay_error *err) {
    if (atomic_exchange(&session->closed, 1)) /* SE-05 */
        return BELAY_OK;
    if (atomic_load(&session->runs.lost))
        return BELAY_OK; /* nobody is there to be told */
    TF_Status *status = session->rt->NewStatus();
    session->rt->CloseSession(session->tf, status);
    return bly_runtime_finish(session->rt, status, err);
}

belay_code bly_session_close_within(belay_session *session, double secs, belay_error *err) {
    struct closing *closing;
    bly_thread *thread = NULL;
    if (atomic_load(&session->runs.left) && (secs > LEFT_SECS || secs == BELAY_FOREVER))
        secs = LEFT_SECS;
    if (session->is_remote && !atomic_load(&session->closed))
        thread = start(session, &closing);
    /* In this process closing is quick; and where no thread can be had it is better than not
     * closing. */
    if (!thread)
        return bly_session_close_here(session, err);
    if (!wait_for(closing, secs)) {
        bly_thread_abandon(thread);
        return bly_fail(err, BELAY_DEADLINE_EXCEEDED,
                        "the session with %s did not close within %.0f s; it is left to itself",
                        session->target, secs > 0 ? secs : 0.0);
    }
    bly_thread_join(thread);
    belay_code code = closing->error.code;
    if (code != BELAY_OK)
        bly_error_copy(err, &closing->error);
    closing_free(closing);
    return code;
}
