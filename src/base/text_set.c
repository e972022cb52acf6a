#include "base/text_set.h"

#include "base/mem.h"

#include <stdint.h>
#include <string.h>

/* FNV-1a. */
static size_t hash(const char *text) {
    uint64_t value = UINT64_C(0xcbf29ce484222325);
    for (; *text; text++)
        value = (value ^ (unsigned char)*text) * UINT64_C(0x100000001b3);
    return (size_t)(value ^ value >> 32);
}

/* Where `text` is, or would go. There is always a free slot. */
static size_t slot_of(const char *const *slots, size_t capacity, const char *text) {
    size_t at = hash(text) & (capacity - 1);
    while (slots[at] && strcmp(slots[at], text) != 0)
        at = (at + 1) & (capacity - 1);
    return at;
}

int bly_text_set_has(const bly_text_set *set, const char *text) {
    return set->count > 0 &&
           set->slots[slot_of((const char *const *)set->slots, set->capacity, text)] != NULL;
}

static int grow(bly_text_set *set) {
    size_t capacity = set->capacity ? 2 * set->capacity : 16;
    const char **slots = bly_calloc(capacity, sizeof *slots);
    if (!slots)
        return 0;
    for (size_t i = 0; i < set->capacity; i++)
        if (set->slots[i])
            slots[slot_of((const char *const *)slots, capacity, set->slots[i])] = set->slots[i];
    bly_free((void *)(uintptr_t)set->slots);
    set->slots = slots;
    set->capacity = capacity;
    return 1;
}

int bly_text_set_add(bly_text_set *set, const char *text) {
    if (2 * (set->count + 1) > set->capacity && !grow(set))
        return 0;
    size_t at = slot_of((const char *const *)set->slots, set->capacity, text);
    set->count += set->slots[at] == NULL;
    set->slots[at] = text;
    return 1;
}

void bly_text_set_free(bly_text_set *set) {
    bly_free((void *)(uintptr_t)set->slots);
    *set = (bly_text_set)BLY_TEXT_SET_INIT;
}
