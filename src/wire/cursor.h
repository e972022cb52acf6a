/* Walks the fields of a serialised message without unpacking it: for what is too large to be copied
 * (a GraphDef), or too odd to have a schema (what somebody gave us instead of a graph). */
#ifndef BLY_WIRE_CURSOR_H
#define BLY_WIRE_CURSOR_H

#include <stddef.h>
#include <stdint.h>

typedef struct bly_cursor {
    const uint8_t *at;
    const uint8_t *end;
    int broken; /* the bytes are no message */
} bly_cursor;

typedef struct bly_field {
    uint32_t number;
    uint32_t type;       /* 0 varint, 1 eight bytes, 2 with a length, 5 four bytes */
    const uint8_t *from; /* where the field starts, its tag included, */
    size_t len;          /* and how long it is */
    const uint8_t *data; /* type 2: the content */
    size_t size;
    uint64_t value; /* type 0 */
} bly_field;

bly_cursor bly_cursor_over(const void *data, size_t len);
/* 1 where there was a field. 0 at the end, or with cursor->broken set. */
int bly_cursor_next(bly_cursor *cursor, bly_field *field);

#endif
