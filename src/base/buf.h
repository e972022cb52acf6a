/* A growing string of bytes. Always ends in a NUL that does not count. A failed allocation is
 * remembered, so that a caller checks once, at the end. */
#ifndef BLY_BASE_BUF_H
#define BLY_BASE_BUF_H

#include <stddef.h>
#include <stdint.h>

typedef struct bly_buf {
    char *data; /* NULL until something was added; use bly_buf_text() for a string */
    size_t len;
    size_t capacity;
    int failed; /* memory was out: the content is not complete */
} bly_buf;

#define BLY_BUF_INIT                                                                               \
    { NULL, 0, 0, 0 }

void bly_buf_free(bly_buf *buf);
void bly_buf_clear(bly_buf *buf); /* keeps the memory */
/* Makes room for `more` further bytes and returns where they go; NULL when memory is out. Then add
 * to len yourself. */
char *bly_buf_reserve(bly_buf *buf, size_t more);
void bly_buf_append(bly_buf *buf, const void *data, size_t len);
void bly_buf_puts(bly_buf *buf, const char *text);
void bly_buf_putc(bly_buf *buf, char c);
void bly_buf_printf(bly_buf *buf, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Adds a JSON string with its quotes. Bytes that are not UTF-8 come out as U+FFFD. */
void bly_buf_put_json(bly_buf *buf, const char *text);
const char *bly_buf_text(const bly_buf *buf);
/* Gives the bytes to the caller, who frees them with bly_free(); NULL when memory was out. */
char *bly_buf_take(bly_buf *buf);

#endif
