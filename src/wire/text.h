/* Protobuf's text form, for any message: one reader and one printer that follow protobuf-c's
 * descriptors. What Python's text_format prints is read, and what is printed is what it prints. */
#ifndef BLY_WIRE_TEXT_H
#define BLY_WIRE_TEXT_H

#include "base/buf.h"

#include <belay/error.h>

#include <protobuf-c/protobuf-c.h>

#include <stddef.h>

/* Messages within messages; more is refused, since reading recurses. */
#define BLY_TEXT_NESTING 100

/* Reads a message. A field that is set twice keeps the second value, and messages are merged, as
 * TensorFlow's own reading of text does. An unknown field is an error: nothing that somebody wrote
 * is ignored. Returns the message, which bly_wire_free() (wire/unpack.h) frees, or NULL with err:
 * - BELAY_INVALID_ARGUMENT: "FILE:LINE:COLUMN: what is wrong" (`file` serves for this only);
 * - BELAY_RESOURCE_EXHAUSTED: memory is out. */
void *bly_text_read(const ProtobufCMessageDescriptor *type, const char *text, size_t len,
                    const char *file, belay_error *err);

/* Appends a message as text, a field a line, fields by number, what has its default value left out.
 * out->failed where memory was out. */
void bly_text_print(const ProtobufCMessage *message, bly_buf *out);

#endif
