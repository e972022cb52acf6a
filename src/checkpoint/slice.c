#include "checkpoint/slice.h"

#define SIGNED_MAX 10 /* bytes of a signed number */

static int bits_of(uint64_t value) {
    int bits = 0;
    for (; value != 0; value >>= 1)
        bits++;
    return bits;
}

/* A count of bytes, then the number in that many, the highest first. */
static void put_number(bly_buf *out, uint64_t value) {
    int len = (bits_of(value) + 7) / 8;
    bly_buf_putc(out, (char)len);
    for (int i = len - 1; i >= 0; i--)
        bly_buf_putc(out, (char)(uint8_t)(value >> (8 * i)));
}

/* Zero bytes and 255 are escaped, so that the end mark sorts before whatever could follow. */
static void put_string(bly_buf *out, const char *text) {
    for (; *text; text++) {
        bly_buf_putc(out, *text);
        if ((uint8_t)*text == 0xff)
            bly_buf_putc(out, '\0');
    }
    bly_buf_append(out, "\0\1", 2);
}

/* Two's complement with the highest byte first, in as few bytes as leave room for a header: as many
 * leading bits as there are bytes, which are set for numbers that are not negative and cleared for
 * the others. */
static void put_signed(bly_buf *out, int64_t value) {
    uint64_t bits = (uint64_t)value;
    uint8_t fill = value < 0 ? 0xff : 0;
    int len = bits_of(value < 0 ? ~bits : bits) / 7 + 1;
    uint8_t bytes[SIGNED_MAX];
    for (int i = 0; i < len; i++) {
        int shift = 8 * (len - 1 - i);
        bytes[i] = (uint8_t)(shift < 64 ? bits >> shift : fill);
    }
    for (int i = 0; i < len; i++)
        bytes[i / 8] ^= (uint8_t)(0x80 >> (i % 8));
    bly_buf_append(out, bytes, (size_t)len);
}

void bly_slice_key(bly_buf *out, const char *name, size_t rank, const int64_t *start,
                   const int64_t *length) {
    put_number(out, 0);
    put_string(out, name);
    put_number(out, rank);
    for (size_t i = 0; i < rank; i++) {
        put_signed(out, start[i]);
        put_signed(out, length[i]);
    }
}
