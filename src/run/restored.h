/* A session on a checkpoint, made without changing anything in the checkpoint's folder: for
 * evaluation and export. */
#ifndef BLY_RUN_RESTORED_H
#define BLY_RUN_RESTORED_H

#include "graph/graph.h"

#include <belay/saver.h>
#include <belay/session.h>

/* The prefix of the newest checkpoint in a folder whose every byte is as it was written, or of the
 * one that `place` itself is the prefix of. Unlike a trainer it leaves damaged ones where they are:
 * the folder may be somebody else's. The caller frees it. NULL: NOT_FOUND: there is none;
 * DATA_LOSS: there are, and none verifies. */
char *bly_choose_checkpoint(const char *place, belay_error *err);

/* Opens a session and restores exactly this checkpoint; tables and local variables are initialised.
 * Finalises the graph. */
belay_session *bly_restored_session(belay_graph *graph, belay_saver *saver, const char *prefix,
                                    const belay_session_options *options, belay_error *err);

/* The global step: of the session, else as the checkpoint has it, else from its name;
 * BELAY_NO_STEP: it has none. */
int64_t bly_restored_step(belay_session *session, const char *prefix);

#endif
