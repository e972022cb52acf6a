/* Loading TensorFlow without its start-up noise. */
#ifndef CLI_QUIET_H
#define CLI_QUIET_H

#include <belay/belay.h>

/* Loads TensorFlow. What it writes to standard error meanwhile is kept back, and shown only where
 * loading fails or the process dies of it. Before other threads write. */
belay_code cli_load_tensorflow(belay_error *err);

#endif
