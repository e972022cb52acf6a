/* The sorted table that a bundle's index is: LevelDB's file format, of which TensorFlow uses the
 * part without compression and filters. Reads all of it at once from memory. */
#ifndef BLY_CHECKPOINT_TABLE_H
#define BLY_CHECKPOINT_TABLE_H

#include <belay/error.h>

#include <stddef.h>
#include <stdint.h>

/* Called for each entry in ascending order of keys. `key` is valid during the call, `value` as long
 * as the table. */
typedef belay_code (*bly_table_each)(void *self, const uint8_t *key, size_t key_len,
                                     const uint8_t *value, size_t value_len, belay_error *err);

/* Walks a whole table, checking every block's checksum and the order of keys; stops where `each`
 * fails. `file` is only named in errors. BELAY_DATA_LOSS: damaged. BELAY_UNIMPLEMENTED: a block is
 * compressed. */
belay_code bly_table_walk(const char *file, const void *data, size_t size, bly_table_each each,
                          void *self, belay_error *err);

#endif
