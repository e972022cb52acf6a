#include "failing_alloc.h"

#include <stdio.h>
#include <stdlib.h>

static size_t failing; /* 0: counting has stopped */
static int hit;

int failing_alloc_hit(void) {
    if (failing) {
        hit = bly_mem_count() >= failing;
        failing = 0;
        bly_mem_fail_at(0);
    }
    return hit;
}

/* The round that made fewer allocations than the one that should have failed was untouched: the
 * last. */
size_t failing_alloc_next(size_t n) {
    if (n > 0 && !failing_alloc_hit())
        return 0;
    if (n >= FAILING_ALLOC_MOST) {
        fprintf(stderr, "torture: more than %d allocations\n", FAILING_ALLOC_MOST);
        abort();
    }
    hit = 0;
    failing = n + 1;
    bly_mem_fail_at(failing);
    return failing;
}
