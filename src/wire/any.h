/* What a google.protobuf.Any may hold, so that its content is read and printed as text. */
#ifndef BLY_WIRE_ANY_H
#define BLY_WIRE_ANY_H

#include <protobuf-c/protobuf-c.h>

/* The message type of a URL such as "type.googleapis.com/tensorflow.SaverDef"; NULL where belay has
 * no schema for it. */
const ProtobufCMessageDescriptor *bly_text_any_type(const char *url);

#endif
