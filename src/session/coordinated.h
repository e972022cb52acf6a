/* The coordinated session: a hooked session whose helper threads stop with it (WS-11 to WS-16). */
#ifndef BLY_SESSION_COORDINATED_H
#define BLY_SESSION_COORDINATED_H

#include "session/hooked.h"

#include <belay/coordinator.h>

/* ST-07: what a new session may help against. */
static inline int bly_is_preemption(belay_code code) {
    return code == BELAY_ABORTED || code == BELAY_UNAVAILABLE;
}

/* ST-08, BUG-04: the end of the input is no failure, whether a step or a helper thread ran into it;
 * nor is a stop. */
static inline int bly_is_clean_end(belay_code code) {
    return code == BELAY_OK || code == BELAY_OUT_OF_RANGE || code == BELAY_STOPPED;
}

typedef struct bly_coordinated {
    bly_hooked *hooked;
    belay_session *session; /* NULL: closed */
    belay_coordinator *coordinator;
    double grace_secs;
    double close_secs; /* of it, how long closing the session may take */
    int has_queue_runners;
} bly_coordinated;

/* Takes a raw session (given): new coordinator, queue runners, then after_create_session() of every
 * hook (WS-20). On error everything that was started is stopped, joined and closed (BUG-17). */
belay_code bly_coordinated_open(bly_coordinated *coordinated, bly_hooked *hooked,
                                belay_session *session, double grace_secs, belay_error *err);

/* The error that a helper thread reported, or BELAY_OK (WS-11). */
belay_code bly_coordinated_error(bly_coordinated *coordinated, belay_error *err);

belay_code bly_coordinated_run(bly_coordinated *coordinated, belay_step *step,
                               belay_tensor *const *inputs, belay_tensor **outputs,
                               int without_hooks, belay_error *err);

/* Stops and joins the threads, closes the session (WS-14). Returns what a thread had reported;
 * errors of the close itself are logged (BUG-07). `cause` is what the session ends with: after a
 * preemption its close is soon left to itself. A second call does nothing. */
belay_code bly_coordinated_close(bly_coordinated *coordinated, belay_code cause, belay_error *err);

#endif
