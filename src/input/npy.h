/* Taking rows out of a mapped .npy file. belay/input.h is the manual. */
#ifndef BLY_INPUT_NPY_H
#define BLY_INPUT_NPY_H

#include "base/buf.h"

#include <belay/input.h>

#include <stddef.h>
#include <stdint.h>

/* Which rows: rows[0 .. count-1], or first to first + count - 1 where `rows` is NULL. They exist.
 */
struct bly_npy_rows {
    const uint32_t *rows;
    int64_t first;
    int64_t count;
};

/* Strings taken out of a file: pointers into `bytes`. Reused from one batch to the next. */
struct bly_npy_strings {
    bly_buf bytes;
    const char **strings;
    size_t *lengths;
    size_t count;
    size_t capacity;
};

belay_npy *bly_npy_ref(belay_npy *npy); /* undone by belay_npy_free() */

/* BELAY_DATA_LOSS where the file was cut short since it was loaded; warns, once, where it was
 * written to. To be called before memory is touched: what lies past the end of a mapped file is a
 * SIGBUS. */
belay_code bly_npy_check(const belay_npy *npy, belay_error *err);

/* Copies rows of numbers. */
void bly_npy_gather(const belay_npy *npy, const struct bly_npy_rows *rows, void *destination);

/* Copies rows of strings, in place of what `out` held. */
belay_code bly_npy_gather_strings(const belay_npy *npy, const struct bly_npy_rows *rows,
                                  struct bly_npy_strings *out, belay_error *err);
void bly_npy_strings_free(struct bly_npy_strings *strings);

/* Tells the kernel that all, or these rows, will be read soon. It reads them in the background. */
void bly_npy_will_need_all(const belay_npy *npy);
void bly_npy_will_need(const belay_npy *npy, const struct bly_npy_rows *rows);
/* Whether the file is too large to be asked for as a whole. */
int bly_npy_is_large(const belay_npy *npy);

#endif
