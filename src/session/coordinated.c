#include "session/coordinated.h"

#include "base/error.h"
#include "base/log.h"
#include "session/coordinator.h"
#include "session/queue_runner.h"

/* A thread that is blocked in a session call ends only when the session is closed; so that comes
 * early (BUG-18). */
#define FIRST_JOIN_SECS 2.0

/* A session that has lost a task of its cluster: its master may look for that until it is back. */
#define LOST_CLOSE_SECS 1.0

/* What begins after a stop is the last save, and what belongs to it: not to be lost for being slow.
 */
#define LAST_RUNS_SECS 600.0

/* A step that ends within that does not hang, and without it there is no last save. */
#define STEP_SECS 5.0

/* A step that does not end must not keep a stop from its end. */
static void limit_runs(const bly_coordinated *coordinated) {
    bly_run_limits limits = {
        .stop = {coordinated->hooked->session_stop},
        .grace_secs = bly_secs_at_least(coordinated->grace_secs, STEP_SECS),
        .last_secs = bly_secs_at_least(coordinated->grace_secs, LAST_RUNS_SECS),
    };
    bly_remote_runs_limit(&coordinated->session->runs, &limits);
}

belay_code bly_coordinated_open(bly_coordinated *coordinated, bly_hooked *hooked,
                                belay_session *session, double grace_secs, belay_error *err) {
    static const belay_code no_clean_codes[] = {BELAY_OK}; /* CO-02: the empty set */
    *coordinated =
        (bly_coordinated){.hooked = hooked, .session = session, .grace_secs = grace_secs};
    BLY_LOCAL_ERROR(mine);
    limit_runs(coordinated);
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
        bly_coordinated_close(coordinated, mine.code, &closing);
        bly_error_chain(&mine, &closing);
        bly_error_copy(err, &mine);
    }
    return mine.code;
}

belay_code bly_coordinated_error(bly_coordinated *coordinated, belay_error *err) {
    return belay_coordinator_raise_requested_exception(coordinated->coordinator, err);
}

belay_code bly_coordinated_run(bly_coordinated *coordinated, belay_step *step,
                               belay_tensor *const *inputs, belay_tensor **outputs,
                               int without_hooks, belay_error *err) {
    belay_code code =
        bly_hooked_run(coordinated->hooked, step, inputs, outputs, without_hooks, err);
    if (code == BELAY_OK || bly_is_preemption(code))
        return code;
    /* WS-12: a task went away, and this is only what it looked like from here. */
    BLY_LOCAL_ERROR(reported);
    if (bly_is_preemption(bly_coordinated_error(coordinated, &reported))) {
        bly_error_copy(err, &reported);
        return reported.code;
    }
    return code;
}

static void release_session(void *self) {
    bly_coordinated *coordinated = self;
    BLY_LOCAL_ERROR(mine);
    if (bly_session_close_within(coordinated->session, coordinated->close_secs, &mine) != BELAY_OK)
        bly_warn("closing the session: %s", mine.message);
}

belay_code bly_coordinated_close(bly_coordinated *coordinated, belay_code cause, belay_error *err) {
    belay_code code = BELAY_OK;
    coordinated->close_secs = coordinated->grace_secs;
    if (bly_is_preemption(cause) &&
        (coordinated->grace_secs > LOST_CLOSE_SECS || coordinated->grace_secs == BELAY_FOREVER))
        coordinated->close_secs = LOST_CLOSE_SECS;
    if (coordinated->coordinator) {
        belay_coordinator_request_stop(coordinated->coordinator, NULL);
        code = bly_coordinator_join_releasing(coordinated->coordinator, coordinated->grace_secs,
                                              FIRST_JOIN_SECS, release_session, coordinated, err);
    }
    if (coordinated->session) {
        release_session(coordinated);
        bly_hooked_detach(coordinated->hooked);
        bly_remote_runs_limit(&coordinated->session->runs, NULL); /* it may outlive the stop */
        belay_session_free(coordinated->session);
        coordinated->session = NULL;
    }
    belay_coordinator_free(coordinated->coordinator);
    coordinated->coordinator = NULL;
    return code;
}
