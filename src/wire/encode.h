/* Writing single fields of a serialised message, for what is put together without unpacking it. */
#ifndef BLY_WIRE_ENCODE_H
#define BLY_WIRE_ENCODE_H

#include "base/buf.h"

#include <stddef.h>
#include <stdint.h>

void bly_put_varint(bly_buf *out, uint64_t value);
/* A field that is a number. */
void bly_put_number(bly_buf *out, uint32_t field, uint64_t value);
/* A field that is a string, bytes, or a serialised message. */
void bly_put_bytes(bly_buf *out, uint32_t field, const void *data, size_t len);

#endif
