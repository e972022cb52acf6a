/* CRC-32C (Castagnoli), as TensorFlow's checkpoints and event files carry it. */
#ifndef BLY_BASE_CRC32C_H
#define BLY_BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Goes on with a checksum: `crc` is what came before, 0 at the start. */
uint32_t bly_crc32c(uint32_t crc, const void *data, size_t len);

/* The form in which a checksum is stored beside the bytes it covers, so that a checksum over both
 * means something. */
uint32_t bly_crc32c_mask(uint32_t crc);
uint32_t bly_crc32c_unmask(uint32_t masked);

#endif
