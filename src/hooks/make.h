/* What every hook needs to come to be, and lists of names. */
#ifndef BLY_HOOKS_MAKE_H
#define BLY_HOOKS_MAKE_H

#include <belay/hook.h>

#include <stddef.h>

/* Makes a hook of `size` zeroed bytes: reads its options into it, and gives it its table. Where
 * something fails the table's `destroy` frees what there is. */
belay_hook *bly_hook_make(const belay_hook_vtable *table, size_t size,
                          belay_code (*read_options)(void *self, const void *given,
                                                     belay_error *err),
                          const void *given, belay_error *err);

/* The same with the memory for it (NULL: there was none). For a hook whose options give it
 * something: that has to go as well where `self` is NULL. */
belay_hook *bly_hook_finish(const belay_hook_vtable *table, void *self,
                            belay_code (*read_options)(void *self, const void *given,
                                                       belay_error *err),
                            const void *given, belay_error *err);

/* A list that ends in NULL, of `count` names. NULL when memory is out. */
char **bly_copy_names(const char *const *names, size_t count);
void bly_free_names(char **names); /* a list that ends in NULL; NULL is fine */

#endif
