#include "summary/tag_set.h"

#include "base/mem.h"

#include <string.h>

/* Where `tag` is, or belongs. */
static size_t place(const bly_tag_set *set, const char *tag) {
    size_t low = 0, high = set->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(set->tags[middle], tag) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static int is_at(const bly_tag_set *set, size_t at, const char *tag) {
    return at < set->count && strcmp(set->tags[at], tag) == 0;
}

int bly_tag_set_has(const bly_tag_set *set, const char *tag) {
    return is_at(set, place(set, tag), tag);
}

int bly_tag_set_add(bly_tag_set *set, const char *tag) {
    size_t at = place(set, tag);
    if (is_at(set, at, tag))
        return 1;
    char *copy = bly_strdup(tag);
    if (!copy || !bly_grow(&set->tags, set->count, &set->capacity, sizeof *set->tags)) {
        bly_free(copy);
        return 0;
    }
    memmove(set->tags + at + 1, set->tags + at, (set->count - at) * sizeof *set->tags);
    set->tags[at] = copy;
    set->count++;
    return 1;
}

void bly_tag_set_remove(bly_tag_set *set, const char *tag) {
    size_t at = place(set, tag);
    if (!is_at(set, at, tag))
        return;
    bly_free(set->tags[at]);
    set->count--;
    memmove(set->tags + at, set->tags + at + 1, (set->count - at) * sizeof *set->tags);
}

void bly_tag_set_free(bly_tag_set *set) {
    for (size_t i = 0; i < set->count; i++)
        bly_free(set->tags[i]);
    bly_free(set->tags);
    *set = (bly_tag_set){NULL, 0, 0};
}
