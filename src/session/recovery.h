#ifndef BLY_SESSION_RECOVERY_H
#define BLY_SESSION_RECOVERY_H

#include "session/monitored_session.h"

/* Makes the session's raw session; with recovery, again and again until it works, the budget is
 * used up, or a stop is requested (WS-05, BUG-16). */
belay_code bly_recovery_create(belay_monitored_session *session, belay_error *err);

/* Where a helper thread has reported that a task went away: closes, and makes the session anew
 * (WS-08). 1 where that worked; 0 where there was nothing to recover from, or it failed, which
 * session->failure then says. */
int bly_recovery_after_helper(belay_monitored_session *session);

/* What is run, and run again after a recovery. */
typedef belay_code (*bly_run_body)(belay_monitored_session *session, void *self, belay_error *err);

/* Runs a body, recovering where that may help (WS-06, WS-07, SF-08). On error session->failure
 * holds it too. */
belay_code bly_recovery_run(belay_monitored_session *session, bly_run_body body, void *self,
                            belay_error *err);

#endif
