/* Lists of names that grow, as TensorFlow's calls take them: ending in NULL. */
#ifndef BLY_RUN_NAMES_H
#define BLY_RUN_NAMES_H

#include <belay/error.h>

#include <stddef.h>
#include <stdint.h>

typedef struct bly_names {
    char **items; /* ends in NULL; NULL as long as there is none */
    size_t count;
    size_t capacity;
} bly_names;

#define BLY_NAMES_INIT                                                                             \
    { NULL, 0, 0 }

#define BLY_NAMES_NONE SIZE_MAX

belay_code bly_names_add(bly_names *names, const char *name, belay_error *err);
/* Adds all of a list that ends in NULL; NULL: none. */
belay_code bly_names_add_all(bly_names *names, const char *const *list, belay_error *err);
/* Index of a name, or BLY_NAMES_NONE. */
size_t bly_names_find(const bly_names *names, const char *name);
const char *const *bly_names_list(const bly_names *names);
void bly_names_sort(bly_names *names);
void bly_names_free(bly_names *names);

#endif
