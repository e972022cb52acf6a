/* Whether a shared library is whole: the loader asks before it loads one. */
#include "scratch.h"

#include "runtime/elf.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char why[256];

/* This program, cut to `size` bytes; negative: less than it has. */
static const char *cut_to(void **state, long size) {
    size_t whole;
    uint8_t *bytes = scratch_read("/proc/self/exe", &whole);
    const char *path = scratch_path(state, "cut.so");
    scratch_write(path, bytes, size < 0 ? whole - (size_t)-size : (size_t)size);
    free(bytes);
    return path;
}

static void test_elf__a_whole_file_is_whole(void **state) {
    (void)state;
    assert_true(bly_elf_is_whole("/proc/self/exe", why, sizeof why));
}

static void test_elf__a_cut_file_is_damaged_wherever_it_was_cut(void **state) {
    static const long sizes[] = {64, 200, 4096, 20000, -4096, -1};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        assert_false(bly_elf_is_whole(cut_to(state, sizes[i]), why, sizeof why));
        assert_non_null(strstr(why, "is damaged: it has"));
    }
}

static void test_elf__headers_that_make_no_sense_are_damage(void **state) {
    static const char text[] =
        "not a library, but longer than the header of one, which has 64 bytes";
    const char *path = scratch_path(state, "text.so");
    scratch_write(path, text, sizeof text);
    assert_false(bly_elf_is_whole(path, why, sizeof why));
    assert_non_null(strstr(why, "no shared library"));
    assert_false(bly_elf_is_whole(cut_to(state, 0), why, sizeof why));
    assert_false(bly_elf_is_whole(cut_to(state, 63), why, sizeof why));
    assert_non_null(strstr(why, "no shared library"));
}

static void test_elf__offsets_beyond_all_numbers_do_not_wrap(void **state) {
    size_t whole;
    uint8_t *bytes = scratch_read("/proc/self/exe", &whole);
    const char *path = scratch_path(state, "odd.so");
    for (size_t at = 32; at <= 40; at += 8) { /* e_phoff, e_shoff */
        uint8_t kept[8];
        memcpy(kept, bytes + at, sizeof kept);
        memset(bytes + at, 0xff, sizeof kept);
        scratch_write(path, bytes, whole);
        memcpy(bytes + at, kept, sizeof kept);
        assert_false(bly_elf_is_whole(path, why, sizeof why));
        assert_non_null(strstr(why, "is damaged"));
    }
    free(bytes);
}

static void test_elf__what_cannot_be_read_says_why(void **state) {
    assert_false(bly_elf_is_whole(scratch_path(state, "none.so"), why, sizeof why));
    assert_string_equal(why, "cannot be read: No such file or directory");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_set_up, scratch_tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_elf__a_whole_file_is_whole),
        TEST(test_elf__a_cut_file_is_damaged_wherever_it_was_cut),
        TEST(test_elf__headers_that_make_no_sense_are_damage),
        TEST(test_elf__offsets_beyond_all_numbers_do_not_wrap),
        TEST(test_elf__what_cannot_be_read_says_why),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
