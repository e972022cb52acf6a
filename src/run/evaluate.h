/* Evaluating one checkpoint that somebody has chosen. */
#ifndef BLY_RUN_EVALUATE_H
#define BLY_RUN_EVALUATE_H

#include <belay/run.h>

/* belay_evaluate() of this checkpoint, which was verified; NULL: of the newest that verifies. */
belay_evaluation *bly_evaluate_checkpoint(const belay_evaluate_options *options, const char *prefix,
                                          belay_error *err);

#endif
