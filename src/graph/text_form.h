/* Graphs in protobuf's text form (MG-04, EV-22). Text is turned into bytes and then goes the way of
 * all graphs, and bytes into text: TensorFlow's C API knows bytes only. */
#ifndef BLY_GRAPH_TEXT_FORM_H
#define BLY_GRAPH_TEXT_FORM_H

#include "base/buf.h"

#include <belay/error.h>

#include <stddef.h>

typedef enum bly_graph_message {
    BLY_GRAPH_DEF,
    BLY_META_GRAPH_DEF,
    BLY_SAVED_MODEL
} bly_graph_message;

/* Appends the message that a text describes. Errors start with "PATH:LINE:COLUMN: ":
 * BELAY_DATA_LOSS where the text is no such message, BELAY_RESOURCE_EXHAUSTED. */
belay_code bly_graph_from_text(bly_graph_message kind, const char *path, const char *text,
                               size_t len, bly_buf *out, belay_error *err);

/* Appends the text of a message, as Python's text_format prints it. BELAY_DATA_LOSS where the bytes
 * are no such message. */
belay_code bly_graph_to_text(bly_graph_message kind, const char *path, const void *data, size_t len,
                             bly_buf *out, belay_error *err);

#endif
