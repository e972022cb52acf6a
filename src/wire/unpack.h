/* Unpacking a message so that "memory is out" and "these bytes are no such message" stay two
 * things: the first must never make a good file look damaged. All allocation goes through
 * base/mem.h. */
#ifndef BLY_WIRE_UNPACK_H
#define BLY_WIRE_UNPACK_H

#include <belay/error.h>

#include <protobuf-c/protobuf-c.h>

#include <stddef.h>

/* Messages within messages; protobuf's own limit. */
#define BLY_WIRE_NESTING 100

/* Returns the message, which bly_wire_free() frees, or NULL with *code set: BELAY_DATA_LOSS where
 * the bytes are no such message, BELAY_RESOURCE_EXHAUSTED where memory is out. For schemas without
 * recursion: protobuf-c recurses. */
void *bly_wire_unpack(const ProtobufCMessageDescriptor *type, const void *data, size_t len,
                      belay_code *code);
/* The same for schemas in which messages nest (a GraphDef's attributes): BELAY_DATA_LOSS also where
 * they do so more than BLY_WIRE_NESTING times, which is looked at first. */
void *bly_wire_unpack_nested(const ProtobufCMessageDescriptor *type, const void *data, size_t len,
                             belay_code *code);
void bly_wire_free(void *message);

/* Bytes that one value of a type takes in a message's C struct. */
size_t bly_wire_size_of(ProtobufCType type);

#endif
