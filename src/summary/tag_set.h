/* A set of strings: the tags that a writer has seen. */
#ifndef BLY_SUMMARY_TAG_SET_H
#define BLY_SUMMARY_TAG_SET_H

#include <stddef.h>

typedef struct bly_tag_set {
    char **tags; /* sorted */
    size_t count;
    size_t capacity;
} bly_tag_set;

int bly_tag_set_has(const bly_tag_set *set, const char *tag);
/* 0 when memory is out; the set is then as it was. */
int bly_tag_set_add(bly_tag_set *set, const char *tag);
void bly_tag_set_remove(bly_tag_set *set, const char *tag);
void bly_tag_set_free(bly_tag_set *set);

#endif
