/* Looks at a target again and again, on a thread of its own, while a call to it does not return. */
#ifndef BLY_SESSION_TARGET_WATCH_H
#define BLY_SESSION_TARGET_WATCH_H

#include "base/buf.h"

#include <stdint.h>

typedef struct bly_target_watch bly_target_watch;

/* NULL where memory or threads are out: then nothing is known of the target. */
bly_target_watch *bly_target_watch_start(const char *target);
/* Waits for nothing: the thread may be held up where names are looked up. NULL is fine. */
void bly_target_watch_end(bly_target_watch *watch);

/* What is found at the target now, one of BLY_TARGET_*, for how long that has been so, and why a
 * call may not return. */
int bly_target_watch_state(bly_target_watch *watch, int64_t *out_for_us, bly_buf *why);

#endif
