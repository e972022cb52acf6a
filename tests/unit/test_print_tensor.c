/* Tensors as text: what numpy 2 prints with suppress=True, on one line (HK-LOG-11). The expected
 * texts are numpy's. */
#include "base/buf.h"
#include "hooks/print_tensor.h"
#include "scripted_runtime.h"

#include <locale.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static int set_up(void **state) {
    (void)state;
    return scripted_install() ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    scripted_uninstall();
    return 0;
}

static const char *print(belay_tensor *tensor) {
    static bly_buf text = BLY_BUF_INIT;
    assert_non_null(tensor);
    bly_buf_clear(&text);
    bly_print_tensor(&text, tensor);
    belay_tensor_free(tensor);
    return bly_buf_text(&text);
}

static belay_tensor *tensor_of(belay_dtype dtype, const void *values, const int64_t *dims,
                               uint32_t rank) {
    belay_tensor *tensor = belay_tensor_new(dtype, dims, rank, NULL);
    assert_non_null(tensor);
    memcpy(belay_tensor_data(tensor), values, belay_tensor_size_bytes(tensor));
    return tensor;
}

static const char *scalar(belay_dtype dtype, const void *value) {
    return print(tensor_of(dtype, value, NULL, 0));
}

static const char *vector(belay_dtype dtype, const void *values, int64_t count) {
    return print(tensor_of(dtype, values, &count, 1));
}

#define SCALAR(dtype, type, value) scalar(dtype, &(type){value})
#define VECTOR(dtype, type, ...)                                                                   \
    vector(dtype, (type[]){__VA_ARGS__}, sizeof((type[]){__VA_ARGS__}) / sizeof(type))

/* HK-LOG-11 */
static void test_print__scalars_are_the_shortest_text_that_reads_back(void **state) {
    (void)state;
    assert_string_equal(SCALAR(BELAY_FLOAT, float, 0.1f), "0.1");
    assert_string_equal(SCALAR(BELAY_FLOAT, float, 1), "1.0");
    assert_string_equal(SCALAR(BELAY_FLOAT, float, -0.0f), "-0.0");
    assert_string_equal(SCALAR(BELAY_FLOAT, float, 999999), "999999.0");
    assert_string_equal(SCALAR(BELAY_FLOAT, float, 1234567), "1.234567e+06");
    assert_string_equal(SCALAR(BELAY_FLOAT, float, 1e-5f), "1e-05");
    assert_string_equal(SCALAR(BELAY_FLOAT, float, 0.0001220703125f), "0.00012207031");
    assert_string_equal(SCALAR(BELAY_DOUBLE, double, 0.1), "0.1");
    assert_string_equal(SCALAR(BELAY_DOUBLE, double, 123456789.5), "123456789.5");
    assert_string_equal(SCALAR(BELAY_DOUBLE, double, 1e16), "1e+16");
    assert_string_equal(SCALAR(BELAY_HALF, uint16_t, 0x2e66), "0.1");
    assert_string_equal(SCALAR(BELAY_HALF, uint16_t, 0x63d2), "1.001e+03");
    assert_string_equal(SCALAR(BELAY_BFLOAT16, uint16_t, 0x3dcd), "0.1");
    assert_string_equal(SCALAR(BELAY_FLOAT, float, NAN), "nan");
    assert_string_equal(SCALAR(BELAY_FLOAT, float, -INFINITY), "-inf");
}

static void test_print__scalars_of_other_types(void **state) {
    (void)state;
    assert_string_equal(SCALAR(BELAY_INT32, int32_t, -7), "-7");
    assert_string_equal(SCALAR(BELAY_INT64, int64_t, INT64_MAX), "9223372036854775807");
    assert_string_equal(SCALAR(BELAY_UINT64, uint64_t, UINT64_MAX), "18446744073709551615");
    assert_string_equal(SCALAR(BELAY_BOOL, uint8_t, 1), "True");
    const float parts[2] = {1, -2};
    assert_string_equal(scalar(BELAY_COMPLEX64, parts), "(1.0-2.0j)");
}

/* HK-LOG-11 */
static void test_print__arrays_have_columns(void **state) {
    (void)state;
    assert_string_equal(VECTOR(BELAY_FLOAT, float, 1, 2, 3), "[1. 2. 3.]");
    assert_string_equal(VECTOR(BELAY_FLOAT, float, 0.1f, 0.25f, -3), "[ 0.1   0.25 -3.  ]");
    assert_string_equal(VECTOR(BELAY_FLOAT, float, NAN, 1.5f, -INFINITY), "[ nan  1.5 -inf]");
    assert_string_equal(VECTOR(BELAY_DOUBLE, double, 0.123456789012, 2), "[0.12345679 2.        ]");
    assert_string_equal(VECTOR(BELAY_INT64, int64_t, 1, -20, 300), "[  1 -20 300]");
    assert_string_equal(VECTOR(BELAY_BOOL, uint8_t, 1, 0), "[ True False]");
    assert_string_equal(VECTOR(BELAY_BOOL, uint8_t, 1), "[ True]");
}

/* HK-LOG-11: suppress=True. */
static void test_print__small_numbers_in_arrays_have_no_exponent(void **state) {
    (void)state;
    assert_string_equal(VECTOR(BELAY_FLOAT, float, 1e-9f, 1), "[0. 1.]");
    assert_string_equal(VECTOR(BELAY_FLOAT, float, 1e-5f, 1), "[0.00001 1.     ]");
    assert_string_equal(VECTOR(BELAY_FLOAT, float, 1e6f, 1.5f), "[1.0e+06 1.5e+00]");
}

static void test_print__dimensions_are_brackets_on_one_line(void **state) {
    (void)state;
    const int32_t values[] = {1, 2, 3, 4, 5, 6, 7, 8};
    const int64_t dims[] = {2, 2, 2}, none[] = {2, 0};
    assert_string_equal(print(tensor_of(BELAY_INT32, values, dims, 2)), "[[1 2] [3 4]]");
    assert_string_equal(print(tensor_of(BELAY_INT32, values, dims, 3)),
                        "[[[1 2] [3 4]] [[5 6] [7 8]]]");
    assert_string_equal(print(tensor_of(BELAY_INT32, values, none, 2)), "[]");
}

static void test_print__long_arrays_show_their_ends(void **state) {
    (void)state;
    static int64_t numbers[1001];
    static float floats[1010];
    const int64_t dims[] = {2, 505};
    for (int i = 0; i < 1010; i++) {
        floats[i] = (float)i;
        if (i < 1001)
            numbers[i] = i;
    }
    assert_string_equal(vector(BELAY_INT64, numbers, 1001), "[   0    1    2 ...  998  999 1000]");
    assert_null(strstr(vector(BELAY_INT64, numbers, 1000), "..."));
    assert_string_equal(print(tensor_of(BELAY_FLOAT, floats, dims, 2)),
                        "[[   0.    1.    2. ...  502.  503.  504.] "
                        "[ 505.  506.  507. ... 1007. 1008. 1009.]]");
}

static void test_print__strings_are_as_python_writes_bytes(void **state) {
    (void)state;
    const char *const strings[] = {"a", "it's", "\n\0\xff\\"};
    const size_t lengths[] = {1, 4, 4};
    const int64_t three = 3;
    assert_string_equal(print(belay_tensor_new_strings(strings, lengths, &three, 1, NULL)),
                        "[b'a' b\"it's\" b'\\n\\x00\\xff\\\\']");
    assert_string_equal(print(belay_tensor_new_strings(strings, lengths, NULL, 0, NULL)), "b'a'");
}

/* The host may speak a language that writes 0,1. */
static void test_print__numbers_have_a_point_in_any_language(void **state) {
    (void)state;
    if (!setlocale(LC_NUMERIC, "de_DE.UTF-8") && !setlocale(LC_NUMERIC, "fr_FR.UTF-8"))
        skip();
    assert_string_equal(SCALAR(BELAY_FLOAT, float, 0.1f), "0.1");
    assert_string_equal(VECTOR(BELAY_FLOAT, float, 0.1f, 0.25f), "[0.1  0.25]");
    setlocale(LC_NUMERIC, "C");
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_print__scalars_are_the_shortest_text_that_reads_back),
        TEST(test_print__scalars_of_other_types),
        TEST(test_print__arrays_have_columns),
        TEST(test_print__small_numbers_in_arrays_have_no_exponent),
        TEST(test_print__dimensions_are_brackets_on_one_line),
        TEST(test_print__long_arrays_show_their_ends),
        TEST(test_print__strings_are_as_python_writes_bytes),
        TEST(test_print__numbers_have_a_point_in_any_language),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
