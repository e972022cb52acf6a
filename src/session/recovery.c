/* The recoverable layer: creates sessions, and creates them anew when a task of the cluster went
 * away (WS-04 to WS-10). */
#include "session/recovery.h"

#include "base/error.h"
#include "base/log.h"
#include "session/backoff.h"

#include <stdio.h>

#define LONGEST_PAUSE_SECS 30.0

/* `deadline_us` is that of reaching the master. */
static belay_code create_once(belay_monitored_session *session, int64_t deadline_us,
                              belay_error *err) {
    uint32_t restored = 0;
    BLY_LOCAL_ERROR(mine);
    belay_session *raw = bly_session_creator_create(session->creator, &session->stop_requested,
                                                    deadline_us, &restored, &mine);
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

struct failed_attempt {
    int number;
    const belay_error *error;
};

static void report_attempt(void *self, double elapsed_secs) {
    const struct failed_attempt *attempt = self;
    bly_warn("an error was raised while a session was being created, which may be due to a "
             "preemption of a connected worker or parameter server; trying again (attempt %d, for "
             "%.0f s so far): %s",
             attempt->number, elapsed_secs, attempt->error->message);
}

belay_code bly_recovery_create(belay_monitored_session *session, belay_error *err) {
    bly_backoff backoff;
    bly_backoff_start(&backoff, BLY_BACKOFF_TRIES, session->budget_secs, LONGEST_PAUSE_SECS,
                      &session->stop_requested, NULL);
    if (!session->recovers)
        return create_once(session, backoff.deadline_us, err);
    for (int attempt = 1;; attempt++) {
        BLY_LOCAL_ERROR(mine);
        belay_code code = create_once(session, backoff.deadline_us, &mine);
        if (!bly_is_preemption(code)) {
            if (code != BELAY_OK)
                bly_error_copy(err, &mine);
            return code;
        }
        struct failed_attempt failed = {attempt, &mine};
        bly_backoff_result result = bly_backoff_pause(&backoff, report_attempt, &failed);
        if (result == BLY_BACKOFF_AGAIN)
            continue;
        if (result == BLY_BACKOFF_EXPIRED)
            bly_error_prefix(&mine, "gave up after %d attempts in %.0f s: ", attempt,
                             bly_backoff_elapsed_secs(&backoff));
        bly_error_copy(err, &mine);
        return code;
    }
}

/* Makes a session in place of the one that is gone, and says what that may have changed: the step
 * goes back where the servers lost their variables, and counts twice where they kept what the
 * failed run did (BUG-69); threads that somebody started on the old coordinator are gone with it
 * (BUG-70). */
static belay_code make_anew(belay_monitored_session *session, int repeats, belay_error *err) {
    belay_progress *progress = &session->hooked.progress;
    int64_t before = progress->global_step;
    char steps[80] = "";
    progress->recoveries++;
    progress->rewound_from = before;
    belay_code code = bly_recovery_create(session, err);
    if (code != BELAY_OK)
        return code;
    if (before >= 0)
        snprintf(steps, sizeof steps, " at step %lld (the old one was at %lld)",
                 (long long)progress->global_step, (long long)before);
    bly_warn("recovered: a new session is ready%s.%s Threads that were started on the old "
             "coordinator have been stopped",
             steps,
             repeats ? " The run that failed is repeated, and counts twice where its effects were "
                       "kept."
                     : "");
    return BELAY_OK;
}

/* Closes what is left and makes a new session, in which the caller repeats a run or does not. An
 * error that a helper thread reported and that is no preemption ends it (WS-10). */
static belay_code recover(belay_monitored_session *session, const belay_error *cause, int repeats,
                          belay_error *err) {
    bly_warn("an error was raised, which %s; the session is closed and made anew: %s",
             bly_is_preemption(cause->code)
                 ? "may be due to a preemption of a connected worker or parameter server"
                 : "a hook wants to recover from",
             cause->message);
    BLY_LOCAL_ERROR(closing);
    session->is_open = 0;
    belay_code code = bly_coordinated_close(&session->coordinated, cause->code, &closing);
    if (code != BELAY_OK && !bly_is_preemption(code)) {
        bly_error_copy(err, &closing);
        return code;
    }
    code = make_anew(session, repeats, err);
    if (code != BELAY_CANCELLED || !atomic_load(&session->stop_requested))
        return code;
    /* What a stop leaves is the failure: steps may be lost, and a retry finds them. */
    BLY_LOCAL_ERROR(kept);
    bly_error_copy(&kept, cause);
    bly_error_chain(&kept, err);
    bly_error_copy(err, &kept);
    return kept.code;
}

int bly_recovery_after_helper(belay_monitored_session *session) {
    BLY_LOCAL_ERROR(cause);
    if (!session->recovers ||
        !bly_is_preemption(bly_coordinated_error(&session->coordinated, &cause)))
        return 0;
    return recover(session, &cause, 0, &session->failure) == BELAY_OK;
}

/* A run that failed is repeated; where each repetition fails too, in sessions that are made well,
 * nothing but this ends it (BUG-16). `backoff` is started at the first recovery of a run. */
static int may_repeat(belay_monitored_session *session, bly_backoff *backoff, int recoveries) {
    if (recoveries == 0) {
        bly_backoff_start(backoff, BLY_BACKOFF_TRIES, session->budget_secs, LONGEST_PAUSE_SECS,
                          &session->stop_requested, NULL);
        return !atomic_load(&session->stop_requested);
    }
    bly_backoff_result result = bly_backoff_pause(backoff, NULL, NULL);
    if (result == BLY_BACKOFF_EXPIRED) {
        bly_error_prefix(&session->failure, "gave up after %d recoveries in %.0f s: ", recoveries,
                         bly_backoff_elapsed_secs(backoff));
        session->gave_up = 1; /* for the runs around this one, too */
    }
    return result == BLY_BACKOFF_AGAIN;
}

/* What becomes of session->failure: 1 where the session is to be recovered and the body repeated.
 * Hooks are asked first; what they say of nothing is recovered from where it may be a preemption.
 */
static int wants_recovery(belay_monitored_session *session, belay_code *code) {
    belay_error *failure = &session->failure;
    belay_reaction reaction = BELAY_REACTION_KEEP;
    if (!bly_is_clean_end(*code))
        reaction = bly_hooked_react(&session->hooked, failure);
    if (reaction == BELAY_REACTION_SWALLOW) {
        bly_warn("a hook lets an error go: %s", failure->message);
        belay_error_clear(failure);
        *code = BELAY_OK;
        return 0;
    }
    if (reaction == BELAY_REACTION_STOP) {
        BLY_LOCAL_ERROR(stop);
        bly_fail(&stop, BELAY_STOPPED, "%s stops after an error", session->hooked.stopped_by);
        stop.origin = BELAY_ORIGIN_HOOK;
        bly_error_chain(&stop, failure);
        bly_error_copy(failure, &stop);
        session->hooked.should_stop = 1;
        *code = BELAY_STOPPED;
        return 0;
    }
    return session->recovers && session->is_open &&
           (reaction == BELAY_REACTION_RECOVER || bly_is_preemption(*code));
}

belay_code bly_recovery_run(belay_monitored_session *session, bly_run_body body, void *self,
                            belay_error *err) {
    bly_backoff backoff;
    belay_error *failure = &session->failure;
    int wants_stop = 0;
    /* BUG-79: what ended the last recovery for good stays the session's error. */
    if (!session->is_open && failure->code != BELAY_OK && !bly_is_preemption(failure->code)) {
        bly_error_copy(err, failure);
        return failure->code;
    }
    if (failure->code != BELAY_OK)
        belay_error_clear(failure);
    if (session->nested++ == 0)
        session->gave_up = 0;
    belay_code code = session->is_open ? BELAY_OK : make_anew(session, 0, failure);
    for (int recoveries = 0; code == BELAY_OK; recoveries++) {
        code = body(session, self, failure);
        if (code != BELAY_OK)
            bly_fail_callback(failure, code, "it");
        int again = code != BELAY_OK && wants_recovery(session, &code);
        wants_stop |= session->hooked.should_stop;
        if (!again || session->gave_up || !may_repeat(session, &backoff, recoveries))
            break;
        BLY_LOCAL_ERROR(cause);
        bly_error_copy(&cause, failure);
        belay_error_clear(failure);
        code = recover(session, &cause, 1, failure);
    }
    /* A stop that a hook asked for in a run which then failed holds after the repetition
     * (BUG-78). */
    session->hooked.should_stop = wants_stop;
    session->nested--;
    if (code != BELAY_OK)
        bly_error_copy(err, failure);
    return code;
}
