/* A folder for one test's files, and small things done to files. All of them fail the test where
 * the system fails. */
#ifndef SCRATCH_H
#define SCRATCH_H

#include <stddef.h>
#include <stdint.h>

/* cmocka set-up and tear-down: *state is the folder's path. */
int scratch_set_up(void **state);
int scratch_tear_down(void **state);

/* "<folder>/<name>"; the last few results stay valid. */
const char *scratch_path(void **state, const char *name);

/* The caller frees the bytes, which a NUL follows. */
uint8_t *scratch_read(const char *path, size_t *out_size);
void scratch_write(const char *path, const void *data, size_t size);
void scratch_copy(const char *from, const char *to);

/* Copies NAME.* from a folder and returns "<scratch folder>/NAME". */
const char *scratch_copy_all(void **state, const char *from, const char *name);

/* The same for a bundle of tests/data/bundle, whose prefix it returns. */
#define scratch_bundle(state, name) scratch_copy_all((state), TEST_DATA "/bundle", (name))

#endif
