#ifndef BLY_SESSION_SESSION_MANAGER_H
#define BLY_SESSION_SESSION_MANAGER_H

#include "session/session.h"

#include <belay/session_manager.h>

#include <stdatomic.h>

/* Ends the manager's waits also when *stop becomes non-zero: how a monitored session's request_stop
 * reaches them. Must outlive the manager. */
void bly_session_manager_watch(belay_session_manager *manager, const atomic_int *stop);

#endif
