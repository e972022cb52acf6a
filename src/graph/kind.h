/* What a file is that should be a MetaGraphDef. */
#ifndef BLY_GRAPH_KIND_H
#define BLY_GRAPH_KIND_H

#include <belay/error.h>

#include <stddef.h>

/* BELAY_OK where the bytes may be a binary MetaGraphDef. Else one sentence on what they are, as far
 * as their first (and last) bytes tell: BELAY_UNIMPLEMENTED for a MetaGraphDef in text form,
 * BELAY_DATA_LOSS for anything else. */
belay_code bly_check_kind(const char *path, const void *data, size_t len, belay_error *err);

#endif
