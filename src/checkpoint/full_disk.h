/* What to say where a save found the disk full. */
#ifndef BLY_CHECKPOINT_FULL_DISK_H
#define BLY_CHECKPOINT_FULL_DISK_H

#include "graph/graph.h"

#include <belay/error.h>

/* TensorFlow names its own temporary file, its ops and no number. Where `err` says that the disk,
 * or a quota, is used up, this puts a line in its place: which checkpoint, how much it wants, how
 * much there is, and what to do. A file that may not grow so large is OUT_OF_RANGE in TensorFlow:
 * of a save that is never the end of the input, and has another code afterwards. */
void bly_explain_full_disk(const belay_graph *graph, const char *prefix, belay_error *err);

#endif
