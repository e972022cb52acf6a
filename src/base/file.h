/* Files and paths. Paths are bytes; nothing here treats them as patterns (BUG-38). */
#ifndef BLY_BASE_FILE_H
#define BLY_BASE_FILE_H

#include "base/buf.h"

#include <belay/error.h>

#include <stddef.h>
#include <stdint.h>

/* "a" + "b" -> "a/b"; "" + "b" -> "b"; an absolute `name` stands alone. NULL when memory is out.
 * Caller frees. */
char *bly_path_join(const char *directory, const char *name);
char *bly_path_directory(const char *path);  /* "a/b" -> "a", "b" -> "" */
const char *bly_path_base(const char *path); /* points into path */
int bly_path_is_absolute(const char *path);

int bly_file_exists(const char *path); /* anything but a folder */
int bly_is_directory(const char *path);

/* Makes a folder and its parents; one that is there already is fine. */
belay_code bly_make_directories(const char *path, belay_error *err);

/* Reads a whole file; BELAY_INVALID_ARGUMENT where it holds more than `most` bytes. Appends to
 * `out`. */
belay_code bly_file_read(const char *path, size_t most, bly_buf *out, belay_error *err);

/* Replaces a file so that a reader, or a crash, sees the old one or the new one: temporary file
 * beside it, fsync, rename, fsync of the folder. */
belay_code bly_file_write_atomic(const char *path, const void *data, size_t len, belay_error *err);

belay_code bly_file_sync(const char *path, belay_error *err); /* a file or a folder */
belay_code bly_file_rename(const char *from, const char *to, belay_error *err);
/* Removes a folder with all that is in it; of a link, the link alone. What is not there is fine. */
belay_code bly_remove_directory(const char *path, belay_error *err);

/* Calls `each` for every name in a folder but "." and "..", sorted by their bytes, until it returns
 * other than BELAY_OK. */
belay_code bly_directory_list(const char *path,
                              belay_code (*each)(void *self, const char *name, belay_error *err),
                              void *self, belay_error *err);

#endif
