#include "base/buf.h"

#include "base/mem.h"
#include "base/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void bly_buf_free(bly_buf *buf) {
    bly_free(buf->data);
    *buf = (bly_buf)BLY_BUF_INIT;
}

void bly_buf_clear(bly_buf *buf) {
    buf->len = 0;
    buf->failed = 0;
    if (buf->data)
        buf->data[0] = '\0';
}

char *bly_buf_reserve(bly_buf *buf, size_t more) {
    if (buf->failed || more > SIZE_MAX / 2 - buf->len) {
        buf->failed = 1;
        return NULL;
    }
    size_t wanted = buf->len + more + 1;
    if (wanted > buf->capacity) {
        size_t capacity = buf->capacity ? buf->capacity : 64;
        while (capacity < wanted)
            capacity *= 2;
        char *data = bly_realloc(buf->data, capacity);
        if (!data) {
            buf->failed = 1;
            return NULL;
        }
        buf->data = data;
        buf->capacity = capacity;
    }
    return buf->data + buf->len;
}

void bly_buf_append(bly_buf *buf, const void *data, size_t len) {
    char *to = bly_buf_reserve(buf, len);
    if (!to)
        return;
    if (len > 0)
        memcpy(to, data, len);
    buf->len += len;
    buf->data[buf->len] = '\0';
}

void bly_buf_puts(bly_buf *buf, const char *text) {
    bly_buf_append(buf, text, strlen(text));
}

void bly_buf_putc(bly_buf *buf, char c) {
    bly_buf_append(buf, &c, 1);
}

void bly_buf_printf(bly_buf *buf, const char *format, ...) {
    va_list args;
    va_start(args, format);
    int len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    char *to = len < 0 ? NULL : bly_buf_reserve(buf, (size_t)len);
    if (!to) {
        buf->failed = 1;
        return;
    }
    va_start(args, format);
    vsnprintf(to, (size_t)len + 1, format, args);
    va_end(args);
    buf->len += (size_t)len;
}

void bly_buf_put_json(bly_buf *buf, const char *text) {
    bly_buf_putc(buf, '"');
    for (const unsigned char *s = (const unsigned char *)text; *s;) {
        size_t len = bly_utf8_length((const char *)s);
        if (*s == '"' || *s == '\\') {
            bly_buf_printf(buf, "\\%c", *s++);
        } else if (*s < 0x20) {
            bly_buf_printf(buf, "\\u%04x", *s++);
        } else if (len == 0) {
            bly_buf_puts(buf, "\\ufffd");
            s++;
        } else {
            bly_buf_append(buf, s, len);
            s += len;
        }
    }
    bly_buf_putc(buf, '"');
}

const char *bly_buf_text(const bly_buf *buf) {
    return buf->data ? buf->data : "";
}

char *bly_buf_take(bly_buf *buf) {
    char *data = buf->data;
    if (buf->failed || (!data && !(data = bly_strdup("")))) {
        bly_buf_free(buf);
        return NULL;
    }
    *buf = (bly_buf)BLY_BUF_INIT;
    return data;
}
