/* What the session layer needs of a saver beside its public face. */
#ifndef BLY_CHECKPOINT_SAVER_H
#define BLY_CHECKPOINT_SAVER_H

#include "checkpoint/bundle.h"
#include "wire/graph.pb-c.h"

#include <belay/saver.h>

belay_saver *bly_saver_ref(belay_saver *saver);
/* The saver of every scaffold that is given none (SC-12, SC-17): made once, while somebody has it.
 * The caller frees its hold. NULL: as belay_saver_new(). */
belay_saver *bly_saver_shared(belay_graph *graph, belay_error *err);

/* Restores from a folder: the newest checkpoint that verifies; the saver then knows the folder's
 * checkpoints (SM-08 to SM-10, BUG-32, BUG-33). A damaged one is set aside with a warning.
 * *out_restored is 0 with BELAY_OK where the folder holds none. BELAY_DATA_LOSS: there are some,
 * and none verifies. */
belay_code bly_saver_restore_newest(belay_saver *saver, belay_session *session,
                                    const char *directory, uint32_t *out_restored,
                                    belay_error *err);

/* Loads the variables that a SavedModel came with. They are no checkpoint of a run: nothing is
 * remembered of them. */
belay_code bly_restore_initial_checkpoint(belay_session *session, belay_error *err);

/* Checks every byte of them, without a session. */
belay_code bly_verify_initial_checkpoint(const belay_graph *graph, belay_error *err);

/* Compares what the graph restores with what a checkpoint holds, before a byte is restored. */
belay_code bly_saver_check_compatible(belay_saver *saver, const bly_bundle *bundle,
                                      belay_error *err);

/* What the saver runs; NULL: an empty one. Belongs to it. */
const Bly__SaverDef *bly_saver_def(const belay_saver *saver);

/* Prefix that was restored last; NULL: none. */
const char *bly_saver_restored_prefix(const belay_saver *saver);

#endif
