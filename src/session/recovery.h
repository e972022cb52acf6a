#ifndef BLY_SESSION_RECOVERY_H
#define BLY_SESSION_RECOVERY_H

#include "session/monitored_session.h"

/* Makes the session's raw session; with recovery, again and again until it works, the budget is
 * used up, or a stop is requested (WS-05, BUG-16). */
belay_code bly_recovery_create(belay_monitored_session *session, belay_error *err);

/* Runs a step, recovering where that may help (WS-06, WS-07). On error session->failure holds it
 * too. */
belay_code bly_recovery_run(belay_monitored_session *session, belay_step *step,
                            belay_tensor *const *inputs, belay_tensor **outputs, belay_error *err);

#endif
