#include "base/mem.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static atomic_size_t made;
static atomic_size_t fail_at;
static _Thread_local size_t made_here;

static int allowed(void) {
    made_here++;
    size_t n = atomic_fetch_add_explicit(&made, 1, memory_order_relaxed) + 1;
    size_t fail = atomic_load_explicit(&fail_at, memory_order_relaxed);
    return fail == 0 || n != fail;
}

void *bly_malloc(size_t size) {
    return allowed() ? malloc(size ? size : 1) : NULL;
}

void *bly_calloc(size_t count, size_t size) {
    return allowed() ? calloc(count ? count : 1, size ? size : 1) : NULL;
}

void *bly_realloc(void *old, size_t size) {
    return allowed() ? realloc(old, size ? size : 1) : NULL;
}

char *bly_strndup(const char *text, size_t len) {
    char *copy = bly_malloc(len + 1);
    if (!copy)
        return NULL;
    memcpy(copy, text, len);
    copy[len] = '\0';
    return copy;
}

char *bly_strdup(const char *text) {
    return bly_strndup(text, strlen(text));
}

void bly_free(void *p) {
    free(p);
}

int bly_grow(void *items_pointer, size_t count, size_t *capacity, size_t item_size) {
    void *old, *items;
    if (count < *capacity)
        return 1;
    size_t wanted = *capacity ? *capacity * 2 : 8;
    if (wanted > SIZE_MAX / item_size)
        return 0;
    memcpy(&old, items_pointer, sizeof old);
    items = bly_realloc(old, wanted * item_size);
    if (!items)
        return 0;
    memcpy(items_pointer, &items, sizeof items);
    *capacity = wanted;
    return 1;
}

void bly_mem_fail_at(size_t n) {
    atomic_store(&made, 0);
    atomic_store(&fail_at, n);
}

size_t bly_mem_count(void) {
    return atomic_exchange(&made, 0);
}

size_t bly_mem_count_here(void) {
    return made_here;
}
