#include "hooks/make.h"

#include "base/error.h"
#include "base/mem.h"

belay_hook *bly_hook_make(const belay_hook_vtable *table, size_t size,
                          belay_code (*read_options)(void *self, const void *given,
                                                     belay_error *err),
                          const void *given, belay_error *err) {
    return bly_hook_finish(table, bly_calloc(1, size), read_options, given, err);
}

belay_hook *bly_hook_finish(const belay_hook_vtable *table, void *self,
                            belay_code (*read_options)(void *self, const void *given,
                                                       belay_error *err),
                            const void *given, belay_error *err) {
    if (!self) {
        bly_fail_memory(err);
        return NULL;
    }
    if (read_options(self, given, err) != BELAY_OK) {
        table->destroy(self);
        return NULL;
    }
    return belay_hook_new(table, self, err);
}

char **bly_copy_names(const char *const *names, size_t count) {
    char **copy = bly_calloc(count + 1, sizeof *copy);
    for (size_t i = 0; copy && i < count; i++)
        if (!(copy[i] = bly_strdup(names[i]))) {
            bly_free_names(copy);
            return NULL;
        }
    return copy;
}

void bly_free_names(char **names) {
    for (size_t i = 0; names && names[i]; i++)
        bly_free(names[i]);
    bly_free(names);
}
