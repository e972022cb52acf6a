#include "run/names.h"

#include "base/error.h"
#include "base/mem.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

belay_code bly_names_add(bly_names *names, const char *name, belay_error *err) {
    /* Room for the NULL at the end as well. */
    if (!bly_grow(&names->items, names->count + 1, &names->capacity, sizeof *names->items))
        return bly_fail_memory(err);
    names->items[names->count] = bly_strdup(name);
    if (!names->items[names->count])
        return bly_fail_memory(err);
    names->items[++names->count] = NULL;
    return BELAY_OK;
}

belay_code bly_names_add_all(bly_names *names, const char *const *list, belay_error *err) {
    belay_code code = BELAY_OK;
    for (size_t i = 0; list && list[i] && code == BELAY_OK; i++)
        code = bly_names_add(names, list[i], err);
    return code;
}

size_t bly_names_find(const bly_names *names, const char *name) {
    for (size_t i = 0; i < names->count; i++)
        if (!strcmp(names->items[i], name))
            return i;
    return BLY_NAMES_NONE;
}

const char *const *bly_names_list(const bly_names *names) {
    return (const char *const *)names->items;
}

static int compare(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

void bly_names_sort(bly_names *names) {
    if (names->count)
        qsort(names->items, names->count, sizeof *names->items, compare);
}

void bly_names_free(bly_names *names) {
    for (size_t i = 0; i < names->count; i++)
        bly_free(names->items[i]);
    bly_free(names->items);
    *names = (bly_names)BLY_NAMES_INIT;
}
