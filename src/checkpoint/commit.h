/* How a checkpoint appears in its folder: written in a folder of its own, brought to the disk, and
 * then renamed file by file with the index last. Without its index a checkpoint does not exist, so
 * at every instant each one is whole or absent. */
#ifndef BLY_CHECKPOINT_COMMIT_H
#define BLY_CHECKPOINT_COMMIT_H

#include <belay/error.h>

/* What a checkpoint is called, after its name, while one of the same name takes its place. */
#define BLY_REPLACED ".replaced"

/* One save at a time in a folder, whoever makes it. *out_lock is given back to bly_commit_unlock();
 * -1: the file system has no locks. FAILED_PRECONDITION where another save is going on: not
 * UNAVAILABLE, which would have a session made anew. NOT_FOUND where the folder is not there
 * (ER-20), with `path` in the message. */
belay_code bly_commit_lock(const char *directory, const char *path, int *out_lock,
                           belay_error *err);
void bly_commit_unlock(int lock);

/* Makes an empty folder below `directory` to write into; what a killed process left there is
 * removed. The caller has the lock, and frees the path. NULL on error. */
char *bly_commit_begin(const char *directory, belay_error *err);

/* Moves the files NAME.* from `temporary` to `directory`, and removes `temporary`. A checkpoint of
 * that name which is there stays, as NAME.replaced, until the new one is whole. On error
 * `directory` is as it was. */
belay_code bly_commit_finish(const char *temporary, const char *directory, const char *name,
                             belay_error *err);

/* Gives up: removes `temporary` with all that is in it. */
void bly_commit_abandon(const char *temporary);

/* Removes what a save left that was killed, and nothing where a save is going on. What cannot be
 * removed is left, with a warning: the next save says so. */
void bly_commit_sweep(const char *directory);

/* Puts a damaged checkpoint out of the way: PREFIX.* becomes PREFIX.damaged.*, index first. Nothing
 * is deleted, nor what was put there before. */
belay_code bly_checkpoint_set_aside(const char *prefix, belay_error *err);

#endif
