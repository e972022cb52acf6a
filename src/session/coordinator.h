/* What the session layer needs of a coordinator beside its public face. */
#ifndef BLY_SESSION_COORDINATOR_H
#define BLY_SESSION_COORDINATOR_H

#include "base/thread.h"

#include <belay/coordinator.h>

/* Starts a thread that the coordinator joins. The thread holds a reference to the coordinator. One
 * that is still alive after the grace is abandoned, so everything that `body` touches must be held
 * by references of its own. On error `body` is never called. */
belay_code bly_coordinator_start_thread(belay_coordinator *coordinator, const char *name,
                                        void (*body)(void *self), void *self, belay_error *err);

belay_coordinator *bly_coordinator_ref(belay_coordinator *coordinator);
/* Gives up a reference and nothing else; belay_coordinator_free() asks threads that were not joined
 * to stop as well. */
void bly_coordinator_unref(belay_coordinator *coordinator);

/* Waits, without a report, until a stop is requested (then it returns 1) or the deadline
 * (BLY_NEVER: none). */
int bly_coordinator_wait_until(belay_coordinator *coordinator, int64_t deadline_us);

/* Waits, without limit and without a report, until a stop is requested or over(self) answers 1.
 * Whoever makes it answer 1 calls bly_coordinator_wake() after that. `over` is called with the
 * coordinator's lock held: it reads an atomic. */
void bly_coordinator_wait_for_stop_or(belay_coordinator *coordinator, int (*over)(void *self),
                                      void *self);
void bly_coordinator_wake(belay_coordinator *coordinator);

/* How a session is closed (WS-14, BUG-18): join, but where threads are still alive `first_secs`
 * after the stop, `release` is called once on this thread (it closes the session, so that a blocked
 * call ends; it may block, and its time counts against the grace), and then the rest of the grace
 * goes by. Without live threads it is not called. Request the stop first: before it there is no
 * limit. Returns the recorded error or BELAY_OK; threads that are still alive are abandoned, with a
 * warning. */
belay_code bly_coordinator_join_releasing(belay_coordinator *coordinator, double grace_secs,
                                          double first_secs, void (*release)(void *self),
                                          void *self, belay_error *err);

#endif
