#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/error.h"
#include "failing_alloc.h"
#include "runtime/tensor.h"
#include "scripted_runtime.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const bly_runtime *rt;

static int set_up(void **state) {
    (void)state;
    rt = scripted_install();
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    scripted_uninstall(); /* nothing may be left alive */
    return 0;
}

static void test_tensor_new__gives_room_for_its_shape(void **state) {
    (void)state;
    int64_t dims[3] = {2, 3, 4};
    BLY_LOCAL_ERROR(err);
    belay_tensor *tensor = belay_tensor_new(BELAY_FLOAT, dims, 3, &err);
    assert_non_null(tensor);
    assert_int_equal(belay_tensor_dtype(tensor), BELAY_FLOAT);
    assert_int_equal(belay_tensor_rank(tensor), 3);
    assert_int_equal(belay_tensor_dim(tensor, 2), 4);
    assert_int_equal(belay_tensor_dim(tensor, 3), -1);
    assert_int_equal(belay_tensor_count(tensor), 24);
    assert_int_equal(belay_tensor_size_bytes(tensor), 96);
    memset(belay_tensor_data(tensor), 0, 96);
    ((float *)belay_tensor_data(tensor))[23] = 1.5f;
    assert_true(belay_tensor_number(tensor, 23) == 1.5);
    assert_true(isnan(belay_tensor_number(tensor, 24)));
    assert_true(isnan(belay_tensor_number(tensor, -1)));
    assert_null(belay_tensor_string(tensor, 0, NULL));
    assert_non_null(belay_tensor_raw(tensor));
    belay_tensor_free(tensor);

    tensor = belay_tensor_new(BELAY_INT64, NULL, 0, NULL); /* a scalar */
    assert_int_equal(belay_tensor_count(tensor), 1);
    assert_int_equal(belay_tensor_size_bytes(tensor), 8);
    belay_tensor_free(tensor);
    dims[1] = 0;
    tensor = belay_tensor_new(BELAY_INT64, dims, 3, NULL);
    assert_int_equal(belay_tensor_count(tensor), 0);
    assert_true(isnan(belay_tensor_number(tensor, 0)));
    belay_tensor_free(tensor);
    belay_tensor_free(NULL);
}

static void expect_refusal(belay_dtype dtype, const int64_t *dims, uint32_t rank,
                           const char *part) {
    BLY_LOCAL_ERROR(err);
    assert_null(belay_tensor_new(dtype, dims, rank, &err));
    assert_int_equal(err.code, BELAY_INVALID_ARGUMENT);
    if (!strstr(err.message, part))
        fail_msg("'%s' is not in '%s'", part, err.message);
    assert_null(belay_tensor_new(dtype, dims, rank, NULL));
}

static void test_tensor_new__refuses_what_cannot_be(void **state) {
    (void)state;
    int64_t negative[2] = {2, -1}, huge[2] = {INT64_MAX, 2}, large[3] = {1 << 30, 1 << 30, 8};
    int64_t *many = calloc(300, sizeof *many);
    assert_non_null(many);
    expect_refusal(BELAY_FLOAT, negative, 2, "dimension 1 of a tensor is -1");
    expect_refusal(BELAY_FLOAT, huge, 2, "too large");
    expect_refusal(BELAY_DOUBLE, large, 3, "too large");
    expect_refusal(BELAY_FLOAT, many, 255, "rank 255");
    expect_refusal(BELAY_STRING, negative, 1, "belay_tensor_new_strings()");
    expect_refusal(BELAY_RESOURCE, negative, 1, "no fixed size");
    expect_refusal(9999, negative, 1, "no fixed size");
    /* An overflow that a zero takes back is none. */
    int64_t zero_last[3] = {INT64_MAX, INT64_MAX, 0}, zero_first[3] = {0, INT64_MAX, INT64_MAX};
    expect_refusal(BELAY_FLOAT, zero_last, 2, "too large");
    belay_tensor *tensor = belay_tensor_new(BELAY_FLOAT, zero_first, 3, NULL);
    assert_int_equal(belay_tensor_count(tensor), 0);
    belay_tensor_free(tensor);
    free(many);
}

static int released;

static void release(void *self, void *data) {
    assert_ptr_equal(self, &released);
    assert_non_null(data);
    released++;
}

static void test_tensor_new_over__gives_the_memory_back_once(void **state) {
    (void)state;
    _Alignas(64) static float data[6] = {0, 1, 2, 3, 4, 5};
    int64_t dims[2] = {2, 3};
    BLY_LOCAL_ERROR(err);
    released = 0;
    belay_tensor *tensor =
        belay_tensor_new_over(BELAY_FLOAT, dims, 2, data, sizeof data, release, &released, &err);
    assert_non_null(tensor);
    assert_ptr_equal(belay_tensor_data(tensor), data);
    assert_true(belay_tensor_number(tensor, 5) == 5);
    assert_int_equal(released, 0);
    belay_tensor_free(tensor);
    assert_int_equal(released, 1);

    assert_null(belay_tensor_new_over(BELAY_FLOAT, dims, 2, data, 20, release, &released, &err));
    assert_int_equal(err.code, BELAY_INVALID_ARGUMENT);
    assert_non_null(strstr(err.message, "takes 24 bytes, not 20"));
    assert_int_equal(released, 2);
    assert_null(belay_tensor_new_over(BELAY_STRING, dims, 2, data, 24, release, &released, &err));
    assert_int_equal(released, 3);

    tensor = belay_tensor_new_over(BELAY_FLOAT, dims, 2, data, sizeof data, NULL, NULL, &err);
    assert_non_null(tensor);
    belay_tensor_free(tensor);
}

static void test_tensor_new_strings__copies_bytes_of_any_value(void **state) {
    (void)state;
    char letters[80];
    memset(letters, 'x', sizeof letters);
    const char *strings[3] = {"short", "with\0nul", letters};
    size_t lengths[3] = {5, 8, sizeof letters}, len = 0;
    int64_t dims[1] = {3};
    belay_tensor *tensor = belay_tensor_new_strings(strings, lengths, dims, 1, NULL);
    assert_non_null(tensor);
    for (int64_t i = 0; i < 3; i++) {
        const char *text = belay_tensor_string(tensor, i, &len);
        assert_int_equal(len, lengths[i]);
        assert_memory_equal(text, strings[i], len);
    }
    assert_null(belay_tensor_string(tensor, 3, &len));
    assert_true(isnan(belay_tensor_number(tensor, 0)));

    TF_Tensor *copy = bly_tensor_copy(rt, belay_tensor_raw(tensor));
    belay_tensor_free(tensor); /* the copy shares nothing */
    assert_memory_equal(bly_tensor_string(rt, copy, 2, &len), letters, sizeof letters);
    assert_int_equal(len, sizeof letters);
    rt->DeleteTensor(copy);

    const char *word = "until its NUL";
    tensor = belay_tensor_new_strings(&word, NULL, NULL, 0, NULL);
    belay_tensor_string(tensor, 0, &len);
    assert_int_equal(len, strlen(word));
    belay_tensor_free(tensor);
}

static double number_of(belay_dtype dtype, const void *bytes, size_t size) {
    belay_tensor *tensor = belay_tensor_new(dtype, NULL, 0, NULL);
    assert_non_null(tensor);
    assert_int_equal(belay_tensor_size_bytes(tensor), size);
    memcpy(belay_tensor_data(tensor), bytes, size);
    double value = belay_tensor_number(tensor, 0);
    belay_tensor_free(tensor);
    return value;
}
#define NUMBER(dtype, type, value) number_of(dtype, &(type){value}, sizeof(type))

static void test_tensor_number__reads_every_numeric_type(void **state) {
    (void)state;
    assert_true(NUMBER(BELAY_FLOAT, float, -1.5f) == -1.5);
    assert_true(NUMBER(BELAY_DOUBLE, double, 1e300) == 1e300);
    assert_true(NUMBER(BELAY_INT8, int8_t, -7) == -7);
    assert_true(NUMBER(BELAY_UINT8, uint8_t, 200) == 200);
    assert_true(NUMBER(BELAY_BOOL, uint8_t, 1) == 1);
    assert_true(NUMBER(BELAY_INT16, int16_t, -300) == -300);
    assert_true(NUMBER(BELAY_UINT16, uint16_t, 60000) == 60000);
    assert_true(NUMBER(BELAY_INT32, int32_t, -70000) == -70000);
    assert_true(NUMBER(BELAY_UINT32, uint32_t, 4000000000u) == 4000000000.0);
    assert_true(NUMBER(BELAY_INT64, int64_t, -(INT64_C(1) << 40)) == -1099511627776.0);
    assert_true(NUMBER(BELAY_UINT64, uint64_t, UINT64_MAX) == 18446744073709551616.0);
    assert_true(NUMBER(BELAY_HALF, uint16_t, 0x3c00) == 1);
    assert_true(NUMBER(BELAY_HALF, uint16_t, 0xc500) == -5);
    assert_true(NUMBER(BELAY_HALF, uint16_t, 0x0001) == ldexp(1, -24));
    assert_true(isinf(NUMBER(BELAY_HALF, uint16_t, 0x7c00)));
    assert_true(isnan(NUMBER(BELAY_HALF, uint16_t, 0x7e00)));
    assert_true(NUMBER(BELAY_BFLOAT16, uint16_t, 0x4049) == 3.140625);
    assert_true(NUMBER(BELAY_FLOAT8_E5M2, uint8_t, 0x3c) == 1);
    assert_true(NUMBER(BELAY_FLOAT8_E4M3FN, uint8_t, 0x38) == 1);
    assert_true(NUMBER(BELAY_FLOAT8_E4M3FN, uint8_t, 0x7e) == 448);
    assert_true(isnan(NUMBER(BELAY_FLOAT8_E4M3FN, uint8_t, 0x7f)));
    float complex_number[2] = {1, 2};
    assert_true(isnan(number_of(BELAY_COMPLEX64, complex_number, sizeof complex_number)));
}

static void test_tensor_integer__is_exact(void **state) {
    (void)state;
    belay_tensor *tensor = belay_tensor_new(BELAY_INT64, NULL, 0, NULL);
    *(int64_t *)belay_tensor_data(tensor) = (INT64_C(1) << 60) + 1;
    assert_true(bly_tensor_integer(rt, tensor->tf) == (INT64_C(1) << 60) + 1);
    belay_tensor_free(tensor);
    tensor = belay_tensor_new(BELAY_FLOAT, NULL, 0, NULL);
    *(float *)belay_tensor_data(tensor) = 3;
    assert_int_equal(bly_tensor_integer(rt, tensor->tf), 0); /* no integer */
    belay_tensor_free(tensor);
}

static void test_tensor__survives_memory_running_out(void **state) {
    (void)state;
    static float data[2];
    const char *words[2] = {"one", "two"};
    int64_t dims[1] = {2};
    FAILING_ALLOC(n) {
        BLY_LOCAL_ERROR(err);
        released = 0;
        belay_tensor *over = belay_tensor_new_over(BELAY_FLOAT, dims, 1, data, sizeof data, release,
                                                   &released, &err);
        belay_tensor *strings = belay_tensor_new_strings(words, NULL, dims, 1, &err);
        TF_Tensor *copy = strings ? bly_tensor_copy(rt, strings->tf) : NULL;
        belay_tensor *plain = belay_tensor_new(BELAY_FLOAT, dims, 1, &err);
        int whole = over && strings && copy && plain;
        if (!failing_alloc_hit())
            assert_true(whole);
        else if (!whole && (!over || !strings || !plain))
            assert_int_equal(err.code, BELAY_RESOURCE_EXHAUSTED);
        belay_tensor_free(over);
        belay_tensor_free(strings);
        belay_tensor_free(plain);
        if (copy)
            rt->DeleteTensor(copy);
        assert_int_equal(released, 1);
    }
}

/* ---- another type ---- */

static belay_tensor *number_tensor(belay_dtype dtype, const void *elements, int64_t count) {
    belay_tensor *tensor = belay_tensor_new(dtype, &count, 1, NULL);
    assert_non_null(tensor);
    memcpy(belay_tensor_data(tensor), elements, (size_t)count * belay_dtype_size(dtype));
    return tensor;
}

/* One element converted: NULL where it does not survive. */
static belay_tensor *convert_one(belay_dtype from, const void *element, belay_dtype to) {
    BLY_LOCAL_ERROR(err);
    belay_tensor *given = number_tensor(from, element, 1);
    belay_tensor *made = belay_tensor_convert(given, to, &err);
    assert_int_equal(err.code, made ? BELAY_OK : BELAY_INVALID_ARGUMENT);
    if (made) {
        assert_int_equal(belay_tensor_dtype(made), to);
        assert_int_equal(belay_tensor_rank(made), 1);
    }
    belay_tensor_free(given);
    return made;
}

/* SE-26: a number stays what it is, or is refused. */
static void test_tensor_convert__keeps_integers_exactly_or_refuses(void **state) {
    static const struct {
        int64_t value;
        belay_dtype to;
        int survives;
    } cases[] = {
        {127, BELAY_INT8, 1},
        {128, BELAY_INT8, 0},
        {-128, BELAY_INT8, 1},
        {-129, BELAY_INT8, 0},
        {255, BELAY_UINT8, 1},
        {256, BELAY_UINT8, 0},
        {-1, BELAY_UINT8, 0},
        {-1, BELAY_UINT64, 0},
        {INT64_MAX, BELAY_UINT64, 1},
        {INT64_MIN, BELAY_INT32, 0},
        {INT32_MIN, BELAY_INT32, 1},
        {INT64_C(1) << 31, BELAY_INT32, 0},
        {1, BELAY_BOOL, 1},
        {2, BELAY_BOOL, 0},
        {16777216, BELAY_FLOAT, 1},
        {16777217, BELAY_FLOAT, 0},
        {-33554436, BELAY_FLOAT, 1},
        {INT64_MIN, BELAY_FLOAT, 1},
        {INT64_MAX, BELAY_DOUBLE, 0},
        {(INT64_C(1) << 53) + 1, BELAY_DOUBLE, 0},
        {INT64_C(1) << 53, BELAY_DOUBLE, 1},
        {2048, BELAY_HALF, 1},
        {2049, BELAY_HALF, 0},
        {65504, BELAY_HALF, 1},
        {65536, BELAY_HALF, 0},
        {256, BELAY_BFLOAT16, 1},
        {257, BELAY_BFLOAT16, 0},
        {0, BELAY_HALF, 1},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        belay_tensor *made = convert_one(BELAY_INT64, &cases[i].value, cases[i].to);
        if ((made != NULL) != cases[i].survives)
            fail_msg("%lld as %s", (long long)cases[i].value, belay_dtype_name(cases[i].to));
        if (made)
            assert_true(belay_tensor_number(made, 0) == (double)cases[i].value);
        belay_tensor_free(made);
    }
    const uint64_t large = UINT64_MAX;
    assert_null(convert_one(BELAY_UINT64, &large, BELAY_INT64));
}

/* SE-26 */
static void test_tensor_convert__rounds_real_numbers_and_cuts_none_off(void **state) {
    (void)state;
    static const double fine[] = {3.0, -7.0, 0.0}, half = 0.5, huge = 1e300, last = 0x1p63;
    static const double nan = (double)NAN, infinite = (double)INFINITY;
    belay_tensor *made;
    for (size_t i = 0; i < 3; i++) {
        assert_non_null(made = convert_one(BELAY_DOUBLE, &fine[i], BELAY_INT16));
        assert_true(belay_tensor_number(made, 0) == fine[i]);
        belay_tensor_free(made);
    }
    assert_null(convert_one(BELAY_DOUBLE, &half, BELAY_INT32));
    assert_null(convert_one(BELAY_DOUBLE, &nan, BELAY_INT32));
    assert_null(convert_one(BELAY_DOUBLE, &infinite, BELAY_UINT64));
    assert_null(convert_one(BELAY_DOUBLE, &last, BELAY_INT64));
    assert_null(convert_one(BELAY_DOUBLE, &huge, BELAY_FLOAT)); /* would be infinite */
    assert_null(convert_one(BELAY_DOUBLE, &huge, BELAY_BFLOAT16));
    assert_non_null(made = convert_one(BELAY_DOUBLE, &infinite, BELAY_HALF));
    assert_true(isinf(belay_tensor_number(made, 0)));
    belay_tensor_free(made);
    assert_non_null(made = convert_one(BELAY_DOUBLE, &nan, BELAY_BFLOAT16));
    assert_true(isnan(belay_tensor_number(made, 0)));
    belay_tensor_free(made);
}

/* Every number of the small types comes back as it was, and halfway between two the even one is
 * taken. */
static void test_tensor_convert__knows_the_small_real_types(void **state) {
    static const belay_dtype types[] = {BELAY_HALF, BELAY_BFLOAT16};
    static uint16_t all[65536];
    (void)state;
    for (size_t i = 0; i < 65536; i++)
        all[i] = (uint16_t)i;
    for (size_t t = 0; t < 2; t++) {
        belay_tensor *small = number_tensor(types[t], all, 65536);
        belay_tensor *large = belay_tensor_convert(small, BELAY_DOUBLE, NULL);
        belay_tensor *back = belay_tensor_convert(large, types[t], NULL);
        const uint16_t *bits = belay_tensor_data(back);
        for (size_t i = 0; i < 65536; i++)
            if (bits[i] != i && !isnan(belay_tensor_number(small, (int64_t)i)))
                fail_msg("%s %zx became %x", belay_dtype_name(types[t]), i, bits[i]);
        belay_tensor_free(small);
        belay_tensor_free(large);
        belay_tensor_free(back);
    }
    static const double ties[] = {2049, 2051, 0x1.8p-25, 0x1p-25, 65519, 0x1.ffcp-15 + 0x1p-26};
    static const double even[] = {2048, 2052, 0x1p-24, 0, 65504, 0x1p-14};
    belay_tensor *given = number_tensor(BELAY_DOUBLE, ties, 6);
    belay_tensor *made = belay_tensor_convert(given, BELAY_HALF, NULL);
    for (int64_t i = 0; i < 6; i++)
        assert_true(belay_tensor_number(made, i) == even[i]);
    belay_tensor_free(given);
    belay_tensor_free(made);
    const double over = 65520;
    assert_null(convert_one(BELAY_DOUBLE, &over, BELAY_HALF));
}

static void test_tensor_convert__copies_the_same_type_and_survives_failing_allocations(void **s) {
    static const char *const texts[] = {"a", "bc"};
    static const int32_t numbers[] = {1, 2, 3};
    int64_t two = 2;
    (void)s;
    FAILING_ALLOC(n) {
        BLY_LOCAL_ERROR(err);
        belay_tensor *strings = belay_tensor_new_strings(texts, NULL, &two, 1, &err);
        belay_tensor *given = belay_tensor_new(BELAY_INT32, (int64_t[]){3}, 1, &err);
        belay_tensor *copy = strings ? belay_tensor_convert(strings, BELAY_STRING, &err) : NULL;
        if (given)
            memcpy(belay_tensor_data(given), numbers, sizeof numbers);
        belay_tensor *made = given ? belay_tensor_convert(given, BELAY_FLOAT, &err) : NULL;
        if (!failing_alloc_hit()) {
            assert_memory_equal(belay_tensor_string(copy, 1, NULL), "bc", 2);
            assert_true(belay_tensor_number(made, 2) == 3);
            assert_null(belay_tensor_convert(strings, BELAY_INT32, &err));
            assert_int_equal(err.code, BELAY_INVALID_ARGUMENT);
        } else {
            assert_int_equal(err.code, BELAY_RESOURCE_EXHAUSTED);
        }
        belay_tensor_free(strings);
        belay_tensor_free(given);
        belay_tensor_free(copy);
        belay_tensor_free(made);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_tensor_new__gives_room_for_its_shape, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_tensor_new__refuses_what_cannot_be, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_tensor_new_over__gives_the_memory_back_once, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_tensor_new_strings__copies_bytes_of_any_value, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_tensor_number__reads_every_numeric_type, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_tensor_integer__is_exact, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_tensor_convert__keeps_integers_exactly_or_refuses,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_tensor_convert__rounds_real_numbers_and_cuts_none_off,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_tensor_convert__knows_the_small_real_types, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(
            test_tensor_convert__copies_the_same_type_and_survives_failing_allocations, set_up,
            tear_down),
        cmocka_unit_test_setup_teardown(test_tensor__survives_memory_running_out, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
