/* How a checkpoint appears in its folder: written in a folder of its own, brought to the disk, and
 * then renamed file by file with the index last. Without its index a checkpoint does not exist, so
 * at every instant each one is whole or absent. */
#ifndef BLY_CHECKPOINT_COMMIT_H
#define BLY_CHECKPOINT_COMMIT_H

#include <belay/error.h>

/* What a checkpoint is called, after its name, while one of the same name takes its place. */
#define BLY_REPLACED ".replaced"

/* Makes an empty folder below `directory` to write into; what a killed process left there is
 * removed. The caller frees the path. NULL on error: NOT_FOUND where `directory` is not there
 * (ER-20). */
char *bly_commit_begin(const char *directory, const char *path, belay_error *err);

/* Moves the files NAME.* from `temporary` to `directory`, and removes `temporary`. A checkpoint of
 * that name which is there stays, as NAME.replaced, until the new one is whole. On error
 * `directory` is as it was. */
belay_code bly_commit_finish(const char *temporary, const char *directory, const char *name,
                             belay_error *err);

/* Gives up: removes `temporary` with all that is in it. */
void bly_commit_abandon(const char *temporary);

/* Puts a damaged checkpoint out of the way: PREFIX.* becomes PREFIX.damaged.*, index first. Nothing
 * is deleted, nor what was put there before. */
belay_code bly_checkpoint_set_aside(const char *prefix, belay_error *err);

#endif
