/* The recoverable layer: creates sessions, and creates them anew when a task of the cluster went
 * away (WS-04 to WS-10). */
#include "session/recovery.h"

#include "base/error.h"
#include "base/log.h"
#include "session/backoff.h"

#define LONGEST_PAUSE_SECS 30.0

static int is_preemption(belay_code code) {
    return code == BELAY_ABORTED || code == BELAY_UNAVAILABLE;
}

static belay_code create_once(belay_monitored_session *session, belay_error *err) {
    uint32_t restored = 0;
    BLY_LOCAL_ERROR(mine);
    belay_session *raw =
        bly_session_creator_create(session->creator, &session->stop_requested, &restored, &mine);
    if (!raw) {
        bly_error_copy(err, &mine);
        return mine.code;
    }
    belay_code code = bly_coordinated_open(&session->coordinated, &session->hooked, raw,
                                           session->grace_secs, err);
    session->is_open = code == BELAY_OK;
    session->was_restored = restored;
    return code;
}

belay_code bly_recovery_create(belay_monitored_session *session, belay_error *err) {
    bly_backoff backoff;
    if (!session->recovers)
        return create_once(session, err);
    bly_backoff_start(&backoff, session->budget_secs, LONGEST_PAUSE_SECS, &session->stop_requested,
                      NULL);
    for (int attempt = 1;; attempt++) {
        BLY_LOCAL_ERROR(mine);
        belay_code code = create_once(session, &mine);
        if (!is_preemption(code)) {
            if (code != BELAY_OK)
                bly_error_copy(err, &mine);
            return code;
        }
        if (bly_backoff_should_report(&backoff))
            bly_warn("an error was raised while a session was being created, which may be due to a "
                     "preemption of a connected worker or parameter server; trying again (attempt "
                     "%d, for %.0f s so far): %s",
                     attempt, bly_backoff_elapsed_secs(&backoff), mine.message);
        bly_backoff_result result = bly_backoff_pause(&backoff);
        if (result == BLY_BACKOFF_AGAIN)
            continue;
        if (result == BLY_BACKOFF_EXPIRED)
            bly_error_prefix(&mine, "gave up after %d attempts in %.0f s: ", attempt,
                             bly_backoff_elapsed_secs(&backoff));
        bly_error_copy(err, &mine);
        return code;
    }
}

/* Closes what is left and makes a new session. An error that a helper thread reported and that is
 * no preemption ends it (WS-10). */
static belay_code recover(belay_monitored_session *session, const belay_error *cause,
                          belay_error *err) {
    int64_t before = session->hooked.progress.global_step;
    bly_warn("an error was raised, which may be due to a preemption of a connected worker or "
             "parameter server; the session is closed and made anew: %s",
             cause->message);
    BLY_LOCAL_ERROR(closing);
    session->is_open = 0;
    belay_code code = bly_coordinated_close(&session->coordinated, &closing);
    if (code != BELAY_OK && !is_preemption(code)) {
        bly_error_copy(err, &closing);
        return code;
    }
    code = bly_recovery_create(session, err);
    if (code == BELAY_OK && before >= 0)
        bly_warn("recovered: went back from step %lld to step %lld", (long long)before,
                 (long long)session->hooked.progress.global_step);
    return code;
}

belay_code bly_recovery_run(belay_monitored_session *session, belay_step *step,
                            belay_tensor *const *inputs, belay_tensor **outputs, belay_error *err) {
    for (;;) {
        belay_code code;
        if (session->is_open) {
            code = bly_coordinated_run(&session->coordinated, step, inputs, outputs,
                                       &session->failure);
        } else {
            /* A recovery failed before. */
            code = bly_recovery_create(session, &session->failure);
            if (code == BELAY_OK)
                continue;
        }
        if (code == BELAY_OK)
            return code;
        if (!session->recovers || !is_preemption(code) || !session->is_open ||
            atomic_load(&session->stop_requested)) {
            bly_error_copy(err, &session->failure);
            return code;
        }
        BLY_LOCAL_ERROR(cause);
        bly_error_copy(&cause, &session->failure);
        code = recover(session, &cause, &session->failure);
        if (code != BELAY_OK) {
            bly_error_copy(err, &session->failure);
            return code;
        }
    }
}
