/* A set of strings that somebody else keeps: has this one been seen? */
#ifndef BLY_BASE_TEXT_SET_H
#define BLY_BASE_TEXT_SET_H

#include <stddef.h>

typedef struct bly_text_set {
    const char **slots; /* NULL: free */
    size_t count, capacity;
} bly_text_set;

#define BLY_TEXT_SET_INIT                                                                          \
    { NULL, 0, 0 }

int bly_text_set_has(const bly_text_set *set, const char *text);
/* Keeps `text` itself, not a copy. 0 when memory is out. */
int bly_text_set_add(bly_text_set *set, const char *text);
void bly_text_set_free(bly_text_set *set);

#endif
