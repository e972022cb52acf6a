/* Starting anew in a folder that holds a training: what is there is moved aside, and nothing is
 * deleted. */
#ifndef BLY_RUN_FRESH_H
#define BLY_RUN_FRESH_H

#include <belay/error.h>

/* Moves the state file, checkpoints with their manifests, graphs and event files to
 * FOLDER/before-<UTC time>/. The lock and the ledger stay. *out_to is that folder, which the caller
 * frees, or NULL where there was nothing to move.
 *
 * A crash in the middle leaves either the newest checkpoint, as a run without --fresh would take
 * it, or none. */
belay_code bly_fresh_start(const char *folder, char **out_to, belay_error *err);

#endif
