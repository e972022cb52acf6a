/* Option structs that grow: the one reader that all of them go through. */
#include "base/error.h"
#include "base/options.h"

#include <belay/belay.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* The same options in three releases of a library. */
struct oldest {
    size_t struct_size;
    uint64_t steps;
};
struct ours {
    size_t struct_size;
    uint64_t steps;
    const char *name;
    uint32_t flags;
    uint32_t reserved;
};
struct newer {
    struct ours ours;
    uint64_t added;
};

static belay_code read_ours(struct ours *mine, const void *given, belay_error *err) {
    memset(mine, 0xee, sizeof *mine);
    return bly_options_read(mine, sizeof *mine, given, "test_options", err);
}

static void test_options__null_means_all_defaults(void **state) {
    (void)state;
    struct ours mine;
    assert_int_equal(read_ours(&mine, NULL, NULL), BELAY_OK);
    assert_int_equal(mine.struct_size, sizeof mine);
    assert_int_equal(mine.steps, 0);
    assert_null(mine.name);
    assert_int_equal(mine.flags | mine.reserved, 0);
}

static void test_options__a_smaller_struct_leaves_the_rest_at_its_default(void **state) {
    (void)state;
    const struct oldest given = {sizeof given, 7};
    struct ours mine;
    assert_int_equal(read_ours(&mine, &given, NULL), BELAY_OK);
    assert_int_equal(mine.steps, 7);
    assert_null(mine.name);
    assert_int_equal(mine.struct_size, sizeof mine);
}

static void test_options__a_larger_struct_is_fine_while_what_is_new_is_not_set(void **state) {
    (void)state;
    struct newer given = {{sizeof given, 7, "n", 1, 0}, 0};
    struct ours mine;
    BLY_LOCAL_ERROR(err);
    assert_int_equal(read_ours(&mine, &given, &err), BELAY_OK);
    assert_int_equal(mine.steps, 7);
    assert_string_equal(mine.name, "n");
    given.added = UINT64_C(1) << 56; /* an option that somebody set is never ignored */
    assert_int_equal(read_ours(&mine, &given, &err), BELAY_INVALID_ARGUMENT);
    assert_non_null(strstr(belay_error_message(&err), "test_options"));
}

static void test_options__impossible_sizes_are_refused(void **state) {
    (void)state;
    static const size_t sizes[] = {0, 1, sizeof(size_t) - 1, 5000, SIZE_MAX};
    struct ours mine, given = {0, 7, NULL, 0, 0};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        BLY_LOCAL_ERROR(err);
        given.struct_size = sizes[i];
        assert_int_equal(read_ours(&mine, &given, &err), BELAY_INVALID_ARGUMENT);
        assert_non_null(strstr(belay_error_message(&err), "struct_size"));
    }
}

/* Functions that take options read them through it: each says so for its own. */
static void test_options__functions_refuse_options_they_do_not_know(void **state) {
    (void)state;
    struct {
        belay_join_options join;
        uint64_t added;
    } given = {BELAY_JOIN_OPTIONS_INIT, 1};
    given.join.struct_size = sizeof given;
    BLY_LOCAL_ERROR(err);
    belay_coordinator *c = belay_coordinator_new(NULL, 0, NULL);
    assert_int_equal(belay_coordinator_join(c, &given.join, &err), BELAY_INVALID_ARGUMENT);
    assert_non_null(strstr(belay_error_message(&err), "belay_join_options"));
    assert_int_equal(belay_coordinator_joined(c), 0);
    belay_coordinator_free(c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_options__null_means_all_defaults),
        cmocka_unit_test(test_options__a_smaller_struct_leaves_the_rest_at_its_default),
        cmocka_unit_test(test_options__a_larger_struct_is_fine_while_what_is_new_is_not_set),
        cmocka_unit_test(test_options__impossible_sizes_are_refused),
        cmocka_unit_test(test_options__functions_refuse_options_they_do_not_know),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
