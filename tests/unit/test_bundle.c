/* Checkpoints that TensorFlow wrote (tests/data/make_bundles.py), read without it. */
#include "base/error.h"
#include "checkpoint/bundle.h"
#include "failing_alloc.h"
#include "scratch.h"

#include <belay/checkpoint.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define BUNDLE(name) (TEST_DATA "/bundle/" name)

static bly_bundle *load(const char *prefix) {
    BLY_LOCAL_ERROR(err);
    bly_bundle *bundle = bly_bundle_load(prefix, &err);
    if (!bundle)
        fail_msg("%s", err.message);
    return bundle;
}

static const bly_bundle_tensor *find(const bly_bundle *bundle, const char *name) {
    const bly_bundle_tensor *tensor = bly_bundle_find(bundle, name);
    if (!tensor)
        fail_msg("no tensor %s", name);
    return tensor;
}

/* Reads a tensor that must be there, of this type and size. */
static void read_all(const bly_bundle *bundle, const char *name, belay_dtype dtype, void *buffer,
                     size_t size) {
    BLY_LOCAL_ERROR(err);
    const bly_bundle_tensor *tensor = find(bundle, name);
    assert_int_equal(tensor->dtype, dtype);
    assert_int_equal(tensor->size_bytes, size);
    memset(buffer, 0xaa, size);
    if (bly_bundle_read(bundle, tensor, buffer, size, &err) != BELAY_OK)
        fail_msg("%s", err.message);
}

static void test_bundle__lists_tensors_by_name_with_type_and_shape(void **state) {
    (void)state;
    static const struct {
        const char *name;
        belay_dtype dtype;
        int32_t rank;
        int64_t dims[2];
        int64_t elements;
    } wanted[] = {
        {"brain", BELAY_BFLOAT16, 1, {3}, 3},    {"bytes", BELAY_UINT8, 1, {300}, 300},
        {"complex", BELAY_COMPLEX64, 1, {1}, 1}, {"dense/kernel", BELAY_FLOAT, 2, {3, 4}, 12},
        {"double", BELAY_DOUBLE, 1, {2}, 2},     {"empty", BELAY_FLOAT, 2, {0, 3}, 0},
        {"flags", BELAY_BOOL, 1, {3}, 3},        {"global_step", BELAY_INT64, 0, {0}, 1},
        {"half", BELAY_HALF, 1, {2}, 2},         {"list", BELAY_VARIANT, 0, {0}, 1},
        {"narrow_step", BELAY_INT32, 0, {0}, 1}, {"nibbles", BELAY_INT4, 1, {3}, 3},
        {"no_strings", BELAY_STRING, 1, {0}, 0}, {"strings", BELAY_STRING, 1, {5}, 5},
        {"text", BELAY_STRING, 0, {0}, 1},
    };
    bly_bundle *bundle = load(BUNDLE("plain"));
    assert_int_equal(bly_bundle_count(bundle), sizeof wanted / sizeof wanted[0]);
    for (size_t i = 0; i < bly_bundle_count(bundle); i++) {
        const bly_bundle_tensor *tensor = bly_bundle_at(bundle, i);
        assert_string_equal(tensor->name, wanted[i].name);
        assert_int_equal(tensor->dtype, wanted[i].dtype);
        assert_int_equal(tensor->rank, wanted[i].rank);
        assert_int_equal(tensor->elements, wanted[i].elements);
        assert_int_equal(tensor->parts, 0);
        for (int32_t j = 0; j < tensor->rank; j++)
            assert_int_equal(tensor->dims[j], wanted[i].dims[j]);
        assert_ptr_equal(bly_bundle_find(bundle, tensor->name), tensor);
        assert_int_equal(bly_bundle_index(bundle, tensor), i);
    }
    assert_null(bly_bundle_at(bundle, bly_bundle_count(bundle)));
    assert_null(bly_bundle_find(bundle, "global"));
    assert_null(bly_bundle_find(bundle, ""));
    assert_string_equal(bly_bundle_nearest(bundle, "dense/kernal"), "dense/kernel");
    assert_string_equal(bly_bundle_prefix(bundle), BUNDLE("plain"));
    bly_bundle_free(bundle);
}

static void test_bundle__reads_every_type_of_fixed_size(void **state) {
    (void)state;
    float kernel[12], complex[2];
    double two[2];
    int64_t step;
    uint8_t bytes[300], flags[3], nibbles[3];
    uint16_t brain[3], half[2];
    bly_bundle *bundle = load(BUNDLE("plain"));
    read_all(bundle, "dense/kernel", BELAY_FLOAT, kernel, sizeof kernel);
    for (int i = 0; i < 12; i++)
        assert_true(kernel[i] == 0.5f * (float)i);
    read_all(bundle, "double", BELAY_DOUBLE, two, sizeof two);
    assert_true(two[0] == 1.5 && two[1] == -2.5);
    read_all(bundle, "bytes", BELAY_UINT8, bytes, sizeof bytes);
    for (int i = 0; i < 300; i++)
        assert_int_equal(bytes[i], i % 256);
    read_all(bundle, "flags", BELAY_BOOL, flags, sizeof flags);
    assert_true(flags[0] == 1 && flags[1] == 0 && flags[2] == 1);
    read_all(bundle, "nibbles", BELAY_INT4, nibbles, sizeof nibbles);
    assert_true(nibbles[0] == 1 && nibbles[1] == 2 && nibbles[2] == 3);
    read_all(bundle, "brain", BELAY_BFLOAT16, brain, sizeof brain);
    assert_true(brain[0] == 0x3f80 && brain[1] == 0xc000 && brain[2] == 0x4040);
    read_all(bundle, "half", BELAY_HALF, half, sizeof half);
    assert_true(half[0] == 0x3c00 && half[1] == 0x4000);
    read_all(bundle, "complex", BELAY_COMPLEX64, complex, sizeof complex);
    assert_true(complex[0] == 1 && complex[1] == 2);
    read_all(bundle, "empty", BELAY_FLOAT, bytes, 0);
    read_all(bundle, "global_step", BELAY_INT64, &step, sizeof step);
    assert_int_equal(step, 1234567890123);
    bly_bundle_free(bundle);
}

static void test_bundle__reads_a_step_of_either_width(void **state) {
    (void)state;
    int64_t step;
    BLY_LOCAL_ERROR(err);
    bly_bundle *bundle = load(BUNDLE("plain"));
    assert_int_equal(bly_bundle_read_int(bundle, "global_step", &step, NULL), BELAY_OK);
    assert_int_equal(step, 1234567890123);
    assert_int_equal(bly_bundle_read_int(bundle, "narrow_step", &step, NULL), BELAY_OK);
    assert_int_equal(step, -7);
    assert_int_equal(bly_bundle_read_int(bundle, "step", &step, &err), BELAY_NOT_FOUND);
    assert_non_null(strstr(err.message, "'step'"));
    assert_int_equal(bly_bundle_read_int(bundle, "double", &step, &err), BELAY_INVALID_ARGUMENT);
    assert_non_null(strstr(err.message, "float64"));
    bly_bundle_free(bundle);
}

static void test_bundle__reads_strings_with_whatever_is_in_them(void **state) {
    (void)state;
    static const char *const wanted[] = {"", "one", "zero\0byte", NULL, "\xc3\xa9"};
    static const size_t sizes[] = {0, 3, 9, 200, 2};
    bly_bundle_strings strings;
    bly_bundle *bundle = load(BUNDLE("plain"));
    assert_int_equal(bly_bundle_read_strings(bundle, find(bundle, "strings"), &strings, NULL), 0);
    assert_int_equal(strings.count, 5);
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(strings.offsets[i + 1] - strings.offsets[i], sizes[i]);
        if (wanted[i])
            assert_memory_equal(strings.data + strings.offsets[i], wanted[i], sizes[i]);
    }
    bly_bundle_strings_free(&strings);
    assert_int_equal(bly_bundle_read_strings(bundle, find(bundle, "text"), &strings, NULL), 0);
    assert_int_equal(strings.count, 1);
    assert_memory_equal(strings.data, "only one", 8);
    bly_bundle_strings_free(&strings);
    assert_int_equal(bly_bundle_read_strings(bundle, find(bundle, "no_strings"), &strings, NULL),
                     0);
    assert_int_equal(strings.count, 0);
    bly_bundle_strings_free(&strings);
    bly_bundle_free(bundle);
}

static void test_bundle_read__refuses_a_buffer_or_type_that_does_not_fit(void **state) {
    (void)state;
    float room[16];
    bly_bundle_strings strings;
    BLY_LOCAL_ERROR(err);
    bly_bundle *bundle = load(BUNDLE("plain"));
    const bly_bundle_tensor *kernel = find(bundle, "dense/kernel"), *text = find(bundle, "text");
    assert_int_equal(bly_bundle_read(bundle, kernel, room, 47, &err), BELAY_INVALID_ARGUMENT);
    assert_int_equal(bly_bundle_read(bundle, kernel, room, 49, &err), BELAY_INVALID_ARGUMENT);
    assert_non_null(strstr(err.message, "'dense/kernel'"));
    assert_int_equal(bly_bundle_read(bundle, text, room, text->size_bytes, &err),
                     BELAY_INVALID_ARGUMENT);
    assert_non_null(strstr(err.message, "string"));
    assert_int_equal(bly_bundle_read_strings(bundle, kernel, &strings, &err),
                     BELAY_INVALID_ARGUMENT);
    assert_null(strings.offsets);
    bly_bundle_free(bundle);
}

/* SV-14: a partition lies under the full name and a slice. */
static void test_bundle__puts_partitioned_variables_together(void **state) {
    (void)state;
    float rows[20];
    int32_t columns[24];
    int16_t cube[60];
    int8_t far[18000];
    uint8_t two[2];
    double whole[3];
    bly_bundle *bundle = load(BUNDLE("partitioned"));
    assert_int_equal(bly_bundle_count(bundle), 7);
    assert_int_equal(find(bundle, "rows")->parts, 2);
    read_all(bundle, "rows", BELAY_FLOAT, rows, sizeof rows);
    for (int i = 0; i < 20; i++)
        assert_true(rows[i] == (float)i);
    assert_int_equal(find(bundle, "columns")->parts, 2);
    read_all(bundle, "columns", BELAY_INT32, columns, sizeof columns);
    for (int i = 0; i < 24; i++)
        assert_int_equal(columns[i], i);
    assert_int_equal(find(bundle, "cube")->parts, 3);
    read_all(bundle, "cube", BELAY_INT16, cube, sizeof cube);
    for (int i = 0; i < 60; i++)
        assert_int_equal(cube[i], i);
    read_all(bundle, "far", BELAY_INT8, far, sizeof far);
    for (int i = 0; i < 18000; i++)
        assert_int_equal(far[i], (int8_t)(uint8_t)(i % 256));
    read_all(bundle, "\xc3\xbf/name", BELAY_UINT8, two, sizeof two);
    assert_true(two[0] == 1 && two[1] == 2);
    assert_int_equal(find(bundle, "whole")->parts, 0);
    read_all(bundle, "whole", BELAY_DOUBLE, whole, sizeof whole);
    assert_true(whole[2] == 2.0);
    bly_bundle_free(bundle);
}

static void test_bundle_read__says_that_slices_are_missing(void **state) {
    (void)state;
    float room[4];
    BLY_LOCAL_ERROR(err);
    bly_bundle *bundle = load(BUNDLE("partitioned"));
    const bly_bundle_tensor *hole = find(bundle, "hole");
    assert_int_equal(hole->size_bytes, 4); /* what is there, not what four elements would take */
    assert_int_equal(bly_bundle_read(bundle, hole, room, sizeof room, &err),
                     BELAY_INVALID_ARGUMENT);
    assert_non_null(strstr(err.message, "sufficient slices"));
    assert_non_null(strstr(err.message, "'hole'"));
    bly_bundle_free(bundle);
}

/* SV-27: PREFIX.data-SSSSS-of-NNNNN. */
static void test_bundle__reads_from_several_data_files(void **state) {
    (void)state;
    int64_t a[6];
    float rows[12];
    bly_bundle_strings strings;
    bly_bundle *bundle = load(BUNDLE("sharded"));
    read_all(bundle, "a", BELAY_INT64, a, sizeof a);
    for (int i = 0; i < 6; i++)
        assert_int_equal(a[i], i);
    read_all(bundle, "rows", BELAY_FLOAT, rows, sizeof rows);
    for (int i = 0; i < 12; i++)
        assert_true(rows[i] == (float)i);
    assert_int_equal(bly_bundle_read_strings(bundle, find(bundle, "b"), &strings, NULL), BELAY_OK);
    assert_memory_equal(strings.data, "pqq", 3);
    bly_bundle_strings_free(&strings);
    assert_int_equal(bly_bundle_data_bytes(bundle), 60 + 36 + 9);
    assert_true(bly_bundle_file_bytes(bundle) > 60 + 36 + 9);
    bly_bundle_free(bundle);
}

static void test_bundle__reads_an_index_of_several_blocks(void **state) {
    (void)state;
    char name[256];
    int16_t value;
    bly_bundle *bundle = load(BUNDLE("many"));
    assert_int_equal(bly_bundle_count(bundle), 1260);
    memset(name, 'x', sizeof name);
    for (int i = 0; i < 1260; i++) {
        char digits[16];
        snprintf(digits, sizeof digits, "%04d", i);
        memcpy(name, digits, 4);
        name[194] = '\0';
        read_all(bundle, name, BELAY_INT16, &value, sizeof value);
        assert_int_equal(value, i);
    }
    bly_bundle_free(bundle);
}

static int stop_at_once(void *self) {
    ++*(int *)self;
    return 1;
}

static void test_bundle_verify__accepts_what_tensorflow_wrote(void **state) {
    (void)state;
    static const char *const names[] = {BUNDLE("plain"), BUNDLE("partitioned"), BUNDLE("sharded"),
                                        BUNDLE("many")};
    int asked = 0;
    BLY_LOCAL_ERROR(err);
    for (size_t i = 0; i < 4; i++) {
        bly_bundle *bundle = load(names[i]);
        if (bly_bundle_verify(bundle, NULL, NULL, &err) != BELAY_OK)
            fail_msg("%s", err.message);
        bly_bundle_free(bundle);
    }
    bly_bundle *bundle = load(names[0]);
    assert_int_equal(bly_bundle_verify(bundle, stop_at_once, &asked, &err), BELAY_CANCELLED);
    assert_int_equal(asked, 1);
    bly_bundle_free(bundle);
}

static void test_bundle_load__tells_what_is_missing(void **state) {
    BLY_LOCAL_ERROR(err);
    assert_null(bly_bundle_load(scratch_path(state, "nothing"), &err));
    assert_int_equal(err.code, BELAY_NOT_FOUND);
    assert_non_null(strstr(err.message, "nothing.index"));
    assert_null(bly_bundle_load(scratch_path(state, "no/folder"), &err));
    assert_int_equal(err.code, BELAY_NOT_FOUND);

    const char *prefix = scratch_bundle(state, "sharded");
    const char *data = scratch_path(state, "sharded.data-00001-of-00003");
    assert_int_equal(truncate(data, 35), 0);
    assert_null(bly_bundle_load(prefix, &err));
    assert_int_equal(err.code, BELAY_DATA_LOSS);
    assert_non_null(strstr(err.message, data));
    assert_non_null(strstr(err.message, "'rows'"));
    assert_int_equal(unlink(data), 0);
    assert_null(bly_bundle_load(prefix, &err));
    assert_int_equal(err.code, BELAY_DATA_LOSS);
    assert_non_null(strstr(err.message, "sharded.data-00001-of-00003 is missing"));
}

static void test_bundle_read__notices_a_file_that_shrinks_afterwards(void **state) {
    int64_t a[6];
    BLY_LOCAL_ERROR(err);
    bly_bundle *bundle = load(scratch_bundle(state, "sharded"));
    assert_int_equal(truncate(scratch_path(state, "sharded.data-00000-of-00003"), 20), 0);
    assert_int_equal(bly_bundle_read(bundle, find(bundle, "a"), a, sizeof a, &err),
                     BELAY_DATA_LOSS);
    assert_non_null(strstr(err.message, "'a'"));
    assert_int_equal(bly_bundle_verify(bundle, NULL, NULL, &err), BELAY_DATA_LOSS);
    bly_bundle_free(bundle);
}

/* Every call once with each of its allocations failing: a documented code, nothing leaked, and
 * never "damaged". */
static belay_code use_everything(const char *prefix) {
    float rows[12];
    int32_t columns[24];
    bly_bundle_strings strings;
    BLY_LOCAL_ERROR(err);
    bly_bundle *bundle = bly_bundle_load(prefix, &err);
    if (!bundle)
        return err.code;
    belay_code code = BELAY_OK;
    const bly_bundle_tensor *tensor = bly_bundle_find(bundle, "b");
    if (tensor)
        code = bly_bundle_read_strings(bundle, tensor, &strings, &err);
    if (tensor && code == BELAY_OK)
        bly_bundle_strings_free(&strings);
    tensor = bly_bundle_find(bundle, "rows");
    if (code == BELAY_OK && tensor && tensor->size_bytes == sizeof rows)
        code = bly_bundle_read(bundle, tensor, rows, sizeof rows, &err);
    tensor = bly_bundle_find(bundle, "columns");
    if (code == BELAY_OK && tensor)
        code = bly_bundle_read(bundle, tensor, columns, sizeof columns, &err);
    if (code == BELAY_OK)
        code = bly_bundle_verify(bundle, NULL, NULL, &err);
    bly_bundle_free(bundle);
    return code;
}

static void test_bundle__survives_every_failing_allocation(void **state) {
    (void)state;
    static const char *const names[] = {BUNDLE("sharded"), BUNDLE("partitioned")};
    for (size_t i = 0; i < 2; i++)
        FAILING_ALLOC(n) {
            belay_code code = use_everything(names[i]);
            assert_int_equal(code, failing_alloc_hit() ? BELAY_RESOURCE_EXHAUSTED : BELAY_OK);
        }
}

static void test_checkpoint_reader__shows_the_same_to_the_outside(void **state) {
    (void)state;
    float kernel[12];
    size_t size;
    BLY_LOCAL_ERROR(err);
    belay_checkpoint_reader *reader = belay_checkpoint_reader_load(BUNDLE("plain"), &err);
    assert_non_null(reader);
    assert_string_equal(belay_checkpoint_reader_prefix(reader), BUNDLE("plain"));
    assert_int_equal(belay_checkpoint_reader_count(reader), 15);
    const belay_checkpoint_tensor *tensor = belay_checkpoint_reader_at(reader, 3);
    assert_string_equal(tensor->name, "dense/kernel");
    assert_int_equal(tensor->size_bytes, sizeof kernel);
    assert_int_equal(tensor->dims[1], 4);
    assert_ptr_equal(belay_checkpoint_reader_find(reader, "dense/kernel"), tensor);
    assert_null(belay_checkpoint_reader_at(reader, 15));
    assert_null(belay_checkpoint_reader_find(reader, "kernel"));
    assert_int_equal(
        belay_checkpoint_reader_read(reader, "dense/kernel", kernel, sizeof kernel, &err),
        BELAY_OK);
    assert_true(kernel[11] == 5.5f);
    assert_int_equal(
        belay_checkpoint_reader_read(reader, "dense/kernal", kernel, sizeof kernel, &err),
        BELAY_NOT_FOUND);
    assert_non_null(strstr(err.message, "did you mean 'dense/kernel'?"));
    belay_checkpoint_strings *strings =
        belay_checkpoint_reader_read_strings(reader, "strings", &err);
    assert_non_null(strings);
    assert_int_equal(belay_checkpoint_strings_count(strings), 5);
    assert_memory_equal(belay_checkpoint_strings_at(strings, 1, &size), "one", 3);
    assert_int_equal(size, 3);
    assert_non_null(belay_checkpoint_strings_at(strings, 0, NULL));
    assert_null(belay_checkpoint_strings_at(strings, 5, &size));
    belay_checkpoint_strings_free(strings);
    assert_null(belay_checkpoint_reader_read_strings(reader, "double", &err));
    assert_int_equal(err.code, BELAY_INVALID_ARGUMENT);
    assert_int_equal(belay_checkpoint_reader_verify(reader, &err), BELAY_OK);
    belay_checkpoint_reader_free(reader);
}

/* SV-40 and ER-17: no such checkpoint; SV-48: the old format is told apart from none. */
static void test_checkpoint_reader__says_why_there_is_none(void **state) {
    BLY_LOCAL_ERROR(err);
    assert_null(belay_checkpoint_reader_load(scratch_path(state, "model"), &err));
    assert_int_equal(err.code, BELAY_NOT_FOUND);
    scratch_write(scratch_path(state, "model"), "old", 3);
    assert_null(belay_checkpoint_reader_load(scratch_path(state, "model"), &err));
    assert_int_equal(err.code, BELAY_UNIMPLEMENTED);
    bly_fail(&err, BELAY_ABORTED, "earlier");
    assert_null(belay_checkpoint_reader_load(NULL, &err));
    assert_int_equal(err.code, BELAY_ABORTED);
    belay_checkpoint_reader_free(NULL);
    belay_checkpoint_strings_free(NULL);
}

static void test_dtype__has_tensorflows_names_and_sizes(void **state) {
    (void)state;
    assert_string_equal(belay_dtype_name(BELAY_FLOAT), "float32");
    assert_string_equal(belay_dtype_name(BELAY_HALF), "float16");
    assert_string_equal(belay_dtype_name(BELAY_FLOAT + 100), "float32_ref");
    assert_string_equal(belay_dtype_name(BELAY_FLOAT4_E2M1FN), "float4_e2m1fn");
    assert_string_equal(belay_dtype_name(99), "unknown");
    assert_string_equal(belay_dtype_name(-1), "unknown");
    assert_string_equal(belay_dtype_name(INT32_MAX), "unknown");
    assert_int_equal(belay_dtype_size(BELAY_COMPLEX128), 16);
    assert_int_equal(belay_dtype_size(BELAY_INT4), 1);
    assert_int_equal(belay_dtype_size(BELAY_DOUBLE + 100), 8);
    assert_int_equal(belay_dtype_size(BELAY_STRING), 0);
    assert_int_equal(belay_dtype_size(INT32_MIN), 0);
}

#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, scratch_set_up, scratch_tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bundle__lists_tensors_by_name_with_type_and_shape),
        cmocka_unit_test(test_bundle__reads_every_type_of_fixed_size),
        cmocka_unit_test(test_bundle__reads_a_step_of_either_width),
        cmocka_unit_test(test_bundle__reads_strings_with_whatever_is_in_them),
        cmocka_unit_test(test_bundle_read__refuses_a_buffer_or_type_that_does_not_fit),
        cmocka_unit_test(test_bundle__puts_partitioned_variables_together),
        cmocka_unit_test(test_bundle_read__says_that_slices_are_missing),
        cmocka_unit_test(test_bundle__reads_from_several_data_files),
        cmocka_unit_test(test_bundle__reads_an_index_of_several_blocks),
        cmocka_unit_test(test_bundle_verify__accepts_what_tensorflow_wrote),
        IN_FOLDER(test_bundle_load__tells_what_is_missing),
        IN_FOLDER(test_bundle_read__notices_a_file_that_shrinks_afterwards),
        cmocka_unit_test(test_bundle__survives_every_failing_allocation),
        cmocka_unit_test(test_checkpoint_reader__shows_the_same_to_the_outside),
        IN_FOLDER(test_checkpoint_reader__says_why_there_is_none),
        cmocka_unit_test(test_dtype__has_tensorflows_names_and_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
