/* What a file is that should be a MetaGraphDef. */
#ifndef BLY_GRAPH_KIND_H
#define BLY_GRAPH_KIND_H

#include <belay/error.h>

#include <stddef.h>

/* BELAY_OK where the bytes may be a MetaGraphDef, with *out_is_text set where it is in text form.
 * Else BELAY_DATA_LOSS, and one sentence on what they are, as far as their first (and last) bytes
 * tell. */
belay_code bly_check_kind(const char *path, const void *data, size_t len, int *out_is_text,
                          belay_error *err);

#endif
