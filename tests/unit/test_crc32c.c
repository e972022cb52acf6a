#define _GNU_SOURCE
#include "base/crc32c.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

/* RFC 3720, B.4, and the usual check value. */
static void test_crc32c__gives_the_published_values(void **state) {
    (void)state;
    unsigned char bytes[32];
    assert_int_equal(bly_crc32c(0, "", 0), 0);
    assert_int_equal(bly_crc32c(0, "123456789", 9), 0xe3069283);
    memset(bytes, 0, sizeof bytes);
    assert_int_equal(bly_crc32c(0, bytes, sizeof bytes), 0x8a9136aa);
    memset(bytes, 0xff, sizeof bytes);
    assert_int_equal(bly_crc32c(0, bytes, sizeof bytes), 0x62a8ab43);
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (unsigned char)i;
    assert_int_equal(bly_crc32c(0, bytes, sizeof bytes), 0x46dd794e);
}

static void test_crc32c__of_pieces_is_that_of_the_whole(void **state) {
    (void)state;
    unsigned char bytes[1000];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (unsigned char)(i * 7 + i / 3);
    uint32_t whole = bly_crc32c(0, bytes, sizeof bytes);
    for (size_t cut = 0; cut <= sizeof bytes; cut++) {
        uint32_t crc = bly_crc32c(bly_crc32c(0, bytes, cut), bytes + cut, sizeof bytes - cut);
        assert_int_equal(crc, whole);
    }
}

/* Longer than one call of the function below it takes. Pages nobody wrote to are one page of zeros.
 */
static void test_crc32c__takes_more_than_a_gibibyte(void **state) {
    (void)state;
    size_t len = ((size_t)1 << 30) + 12345;
    void *zeros = mmap(NULL, len, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert_true(zeros != MAP_FAILED);
    uint32_t crc = 0;
    for (size_t at = 0; at < len;) {
        size_t piece = len - at < 100000007 ? len - at : 100000007;
        crc = bly_crc32c(crc, (char *)zeros + at, piece);
        at += piece;
    }
    assert_int_equal(bly_crc32c(0, zeros, len), crc);
    munmap(zeros, len);
}

static void test_crc32c__mask_is_undone_by_unmask(void **state) {
    (void)state;
    uint32_t crc = bly_crc32c(0, "foo", 3);
    assert_int_not_equal(bly_crc32c_mask(crc), crc);
    assert_int_equal(bly_crc32c_unmask(bly_crc32c_mask(crc)), crc);
    assert_int_equal(bly_crc32c_mask(0), 0xa282ead8);
    assert_int_equal(bly_crc32c_unmask(bly_crc32c_mask(UINT32_MAX)), UINT32_MAX);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crc32c__gives_the_published_values),
        cmocka_unit_test(test_crc32c__of_pieces_is_that_of_the_whole),
        cmocka_unit_test(test_crc32c__takes_more_than_a_gibibyte),
        cmocka_unit_test(test_crc32c__mask_is_undone_by_unmask),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
