/* Session creators: where a monitored session gets its sessions from, the first time and at every
 * recovery (CR). */
#ifndef BLY_SESSION_SESSION_CREATOR_H
#define BLY_SESSION_SESSION_CREATOR_H

#include "session/session.h"

#include <belay/monitored_session.h>

#include <stdatomic.h>

belay_session_creator *bly_session_creator_ref(belay_session_creator *creator);

/* Makes a session that is ready to use (CR-01). Waits end with CANCELLED when *stop becomes
 * non-zero. A chief's master must have answered by `deadline_us` (BLY_NEVER: no limit of that
 * kind). */
belay_session *bly_session_creator_create(belay_session_creator *creator, const atomic_int *stop,
                                          int64_t deadline_us, uint32_t *out_restored,
                                          belay_error *err);

belay_graph *bly_session_creator_graph(belay_session_creator *creator);

#endif
