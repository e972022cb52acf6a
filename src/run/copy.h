/* Copies of files and folders that are on the disk when the call returns. */
#ifndef BLY_RUN_COPY_H
#define BLY_RUN_COPY_H

#include <belay/run.h>

/* What stops a copy in the middle. */
typedef struct bly_copy_stop {
    belay_should_stop should_stop; /* NULL: nothing */
    void *self;
} bly_copy_stop;

/* `to` must not exist. CANCELLED when stopped; what was made of it stays. */
belay_code bly_copy_file(const char *from, const char *to, const bly_copy_stop *stop,
                         belay_error *err);

/* Copies what is in a folder into another, new one, folders within it included; names in `skip`
 * (ending in NULL) are left out at the top. */
belay_code bly_copy_folder(const char *from, const char *to, const char *const *skip,
                           const bly_copy_stop *stop, belay_error *err);

#endif
