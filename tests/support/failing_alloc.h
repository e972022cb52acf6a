/* Torture: a scenario again and again, the n-th allocation failing, until it passes untouched.
 *
 *     FAILING_ALLOC(n) {
 *         belay_code code = scenario(err);
 *         if (failing_alloc_hit())
 *             assert_int_equal(code, BELAY_RESOURCE_EXHAUSTED);   or whatever is documented
 *         ... give back what was made; nothing may leak ...
 *     }
 *
 * Threads that go on allocating in the background make `n` vary from round to round; the loop still
 * ends. Leave it by its end only (`continue` is fine), or call bly_mem_fail_at(0). */
#ifndef BLY_TESTS_FAILING_ALLOC_H
#define BLY_TESTS_FAILING_ALLOC_H

#include "base/mem.h"

#include <stddef.h>

#define FAILING_ALLOC_MOST 20000

#define FAILING_ALLOC(n) for (size_t n = failing_alloc_next(0); n != 0; n = failing_alloc_next(n))

/* 1 where this round's allocation failed by now. Stops the counting, so that what a test allocates
 * itself is safe. */
int failing_alloc_hit(void);

size_t failing_alloc_next(size_t n);

#endif
