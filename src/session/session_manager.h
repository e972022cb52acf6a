#ifndef BLY_SESSION_SESSION_MANAGER_H
#define BLY_SESSION_SESSION_MANAGER_H

#include "session/session.h"

#include <belay/session_manager.h>

#include <stdatomic.h>
#include <stdint.h>

/* Given back with belay_session_manager_free(). */
belay_session_manager *bly_session_manager_ref(belay_session_manager *manager);

/* Ends the manager's waits also when *stop becomes non-zero: how a monitored session's request_stop
 * reaches them. Must outlive the manager. A session that is prepared must be so by `deadline_us`,
 * but for the least that every wait and run has (BLY_NEVER: no limit of that kind). */
void bly_session_manager_watch(belay_session_manager *manager, const atomic_int *stop,
                               int64_t deadline_us);

#endif
