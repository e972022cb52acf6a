/* Where a run's sessions are, and how: its master and its ConfigProto. */
#ifndef BLY_RUN_TARGET_H
#define BLY_RUN_TARGET_H

#include "base/buf.h"

#include <belay/session.h>

typedef struct bly_target {
    belay_session_options options; /* point to `config`, and to the master that was given */
    bly_buf config;
} bly_target;

/* Reads the ConfigProto, and has TensorFlow look at both: so that a slip in either is found before
 * anything is written, and told with the file's name or the target. Nobody is called yet. `master`
 * and `config_file` may be NULL; `master` is not copied. `err` is not NULL. To be closed in any
 * case. */
belay_code bly_target_open(bly_target *target, belay_graph *graph, const char *master,
                           const char *config_file, belay_error *err);
void bly_target_close(bly_target *target); /* zeroed is fine */

#endif
