/* Reading option structs that grow: both sides know a prefix, and what we do not know must be zero.
 */
#ifndef BLY_BASE_OPTIONS_H
#define BLY_BASE_OPTIONS_H

#include <belay/error.h>

#include <stddef.h>

/* Copies `given` (which starts with its size_t struct_size; NULL: all defaults) to `mine`, of
 * `size` bytes. BELAY_INVALID_ARGUMENT, naming `what`, where the size is impossible or bytes past
 * ours are set. */
belay_code bly_options_read(void *mine, size_t size, const void *given, const char *what,
                            belay_error *err);

#endif
