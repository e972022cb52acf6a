/* A traced run as a Chrome trace, which Perfetto and chrome://tracing open. */
#ifndef BLY_OBSERVE_TIMELINE_H
#define BLY_OBSERVE_TIMELINE_H

#include "base/buf.h"

#include <belay/error.h>

#include <stddef.h>

/* Arrows from where a tensor is made to where it is used on another lane. */
#define BLY_TIMELINE_DATAFLOW 1
/* When tensors live, and how much memory each allocator gives at a time. */
#define BLY_TIMELINE_MEMORY 2

/* Appends the step_stats of a serialised RunMetadata as JSON: the events of TensorFlow's
 * Timeline.generate_chrome_trace_format(), in its order, one a line. DATA_LOSS where the bytes are
 * no RunMetadata. */
belay_code bly_timeline_print(const void *run_metadata, size_t size, int flags, bly_buf *out,
                              belay_error *err);

#endif
