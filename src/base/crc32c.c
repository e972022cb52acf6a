#include "base/crc32c.h"

#include <isa-l/crc.h>

#define MASK_DELTA UINT32_C(0xa282ead8)
#define PIECE      ((size_t)1 << 30) /* ISA-L takes an int length */

uint32_t bly_crc32c(uint32_t crc, const void *data, size_t len) {
    /* ISA-L wants a buffer that is not const, reads it only, and inverts neither before nor after.
     */
    union {
        const void *given;
        unsigned char *taken;
    } at = {.given = data};
    unsigned int state = crc ^ UINT32_MAX;
    while (len > 0) {
        size_t piece = len < PIECE ? len : PIECE;
        state = crc32_iscsi(at.taken, (int)piece, state);
        at.taken += piece;
        len -= piece;
    }
    return state ^ UINT32_MAX;
}

uint32_t bly_crc32c_mask(uint32_t crc) {
    return ((crc >> 15) | (crc << 17)) + MASK_DELTA;
}

uint32_t bly_crc32c_unmask(uint32_t masked) {
    uint32_t rotated = masked - MASK_DELTA;
    return (rotated >> 17) | (rotated << 15);
}
