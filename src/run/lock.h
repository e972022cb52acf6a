/* One trainer to a folder: RUN/belay.lock, held as long as the trainer lives. */
#ifndef BLY_RUN_LOCK_H
#define BLY_RUN_LOCK_H

#include <belay/error.h>

#define BLY_LOCK_FILE "belay.lock"

typedef struct bly_lock bly_lock;

/* Takes the folder's lock. NULL with err filled: UNAVAILABLE where another trainer has it, naming
 * its host and process; else what the system said of the file. The kernel gives the lock back when
 * the process ends, however it ends. */
bly_lock *bly_lock_take(const char *folder, belay_error *err);

/* Where the file system has no locks, somebody may have taken the folder over from a process that
 * was stopped for a minute: DEADLINE_EXCEEDED, and nothing more may be written. Before each save.
 * NULL is fine. */
belay_code bly_lock_check(const bly_lock *lock, belay_error *err);

/* Gives it back. NULL is fine. */
void bly_lock_release(bly_lock *lock);

#endif
