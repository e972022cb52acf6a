/* Allocation. One door, so that a test can fail the n-th call. */
#ifndef BLY_BASE_MEM_H
#define BLY_BASE_MEM_H

#include <stddef.h>

void *bly_malloc(size_t size);
void *bly_calloc(size_t count, size_t size);
void *bly_realloc(void *old, size_t size);
char *bly_strdup(const char *text);
char *bly_strndup(const char *text, size_t len);
void bly_free(void *p);

/* Makes room for one more element in a growing array: `items` has `count` used of `*capacity`. 0
 * when memory is out. */
int bly_grow(void *items_pointer, size_t count, size_t *capacity, size_t item_size);

/* For tests: the n-th allocation from now on fails (0: never), and how many were made since the
 * last call. */
void bly_mem_fail_at(size_t n);
size_t bly_mem_count(void);
/* How many this thread has made so far. */
size_t bly_mem_count_here(void);

#endif
