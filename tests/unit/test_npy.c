/* .npy files: every kind that is read, and every way in which one can be wrong. */
#define _GNU_SOURCE
#include "base/buf.h"
#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "input/npy.h"
#include "input/npy_header.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

struct fixture {
    char root[64];
    char path[96];
    belay_error *err;
};

static int set_up(void **state) {
    static struct fixture f;
    snprintf(f.root, sizeof f.root, "/tmp/belay-npy-XXXXXX");
    f.err = belay_error_new();
    *state = &f;
    if (!mkdtemp(f.root))
        return -1;
    snprintf(f.path, sizeof f.path, "%s/a.npy", f.root);
    return 0;
}

static int tear_down(void **state) {
    struct fixture *f = *state;
    belay_log_set_callback(NULL, NULL, BELAY_LOG_WARNING);
    belay_error_free(f->err);
    return bly_remove_directory(f->root, NULL) == BELAY_OK ? 0 : -1;
}

#define assert_ok(f, call)                                                                         \
    do {                                                                                           \
        belay_code code_ = (call);                                                                 \
        if (code_ != BELAY_OK)                                                                     \
            fail_msg("%s: %d %s", #call, (int)code_, belay_error_message((f)->err));               \
    } while (0)

/* A file as numpy.save() writes it, around any dict. */
static void put_file(bly_buf *out, int major, const char *dict, const void *data, size_t len) {
    size_t head = major == 1 ? 10 : 12;
    size_t size = strlen(dict) + 1;
    size = (head + size + 63) / 64 * 64 - head;
    unsigned char start[12] = {0x93, 'N', 'U', 'M', 'P', 'Y', (unsigned char)major, 0};
    start[8] = (unsigned char)size;
    start[9] = (unsigned char)(size >> 8);
    bly_buf_append(out, start, head);
    bly_buf_puts(out, dict);
    while (out->len < head + size - 1)
        bly_buf_putc(out, ' ');
    bly_buf_putc(out, '\n');
    bly_buf_append(out, data, len);
}

static void write_bytes(const char *path, const void *data, size_t len) {
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, len, file), len);
    fclose(file);
}

static void write_npy(const char *path, int major, const char *dict, const void *data, size_t len) {
    bly_buf file = BLY_BUF_INIT;
    put_file(&file, major, dict, data, len);
    write_bytes(path, file.data, file.len);
    bly_buf_free(&file);
}

#define DICT(descr, fortran, shape)                                                                \
    "{'descr': '" descr "', 'fortran_order': " fortran ", 'shape': " shape ", }"

static belay_npy *load(struct fixture *f, const char *dict, const void *data, size_t len) {
    write_npy(f->path, 1, dict, data, len);
    belay_npy *npy = belay_npy_load(f->path, f->err);
    if (!npy)
        fail_msg("%s", belay_error_message(f->err));
    return npy;
}

/* ---- What is read ---- */

static void test_npy_load__knows_every_common_dtype(void **state) {
    struct fixture *f = *state;
    static const struct {
        const char *descr;
        size_t bytes;
        belay_dtype dtype;
    } kinds[] = {
        {"|b1", 1, BELAY_BOOL},      {"|i1", 1, BELAY_INT8},         {"<i2", 2, BELAY_INT16},
        {"<i4", 4, BELAY_INT32},     {"<i8", 8, BELAY_INT64},        {"|u1", 1, BELAY_UINT8},
        {"<u2", 2, BELAY_UINT16},    {"<u4", 4, BELAY_UINT32},       {"<u8", 8, BELAY_UINT64},
        {"<f2", 2, BELAY_HALF},      {"<f4", 4, BELAY_FLOAT},        {"<f8", 8, BELAY_DOUBLE},
        {"<c8", 8, BELAY_COMPLEX64}, {"<c16", 16, BELAY_COMPLEX128}, {"|S3", 3, BELAY_STRING},
        {"<U2", 8, BELAY_STRING},
    };
    const unsigned char zeros[16 * 6] = {0};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        for (int big = 0; big < 2; big++)
            for (int major = 1; major <= 3; major++) {
                char dict[128], descr[8];
                snprintf(descr, sizeof descr, "%s", kinds[i].descr);
                if (big && descr[0] == '<')
                    descr[0] = '>';
                snprintf(dict, sizeof dict,
                         "{'descr': '%s', 'fortran_order': False, 'shape': (2, 3), }", descr);
                write_npy(f->path, major, dict, zeros, kinds[i].bytes * 6);
                belay_npy *npy = belay_npy_load(f->path, f->err);
                if (!npy)
                    fail_msg("%s: %s", dict, belay_error_message(f->err));
                assert_int_equal(belay_npy_dtype(npy), kinds[i].dtype);
                assert_int_equal(belay_npy_rank(npy), 2);
                assert_int_equal(belay_npy_rows(npy), 2);
                assert_int_equal(belay_npy_dim(npy, 1), 3);
                assert_int_equal(belay_npy_dim(npy, 2), -1);
                assert_int_equal(belay_npy_row_elements(npy), 3);
                assert_int_equal(belay_npy_row_bytes(npy),
                                 kinds[i].dtype == BELAY_STRING ? 0 : 3 * kinds[i].bytes);
                assert_string_equal(belay_npy_path(npy), f->path);
                belay_npy_free(npy);
            }
    belay_npy_free(NULL);
}

static void test_npy_read__gives_rows_as_they_are(void **state) {
    struct fixture *f = *state;
    const float data[] = {0, 1, 2, 3, 4, 5};
    float row[4] = {0};
    belay_npy *npy = load(f, DICT("<f4", "False", "(3, 2)"), data, sizeof data);
    assert_ok(f, belay_npy_read(npy, 1, 2, row, f->err));
    assert_memory_equal(row, data + 2, sizeof row);
    assert_ok(f, belay_npy_read(npy, 3, 0, row, f->err));
    assert_int_equal(belay_npy_read(npy, 2, 2, row, f->err), BELAY_OUT_OF_RANGE);
    assert_int_equal(belay_npy_read(npy, -1, 1, row, f->err), BELAY_OUT_OF_RANGE);
    assert_int_equal(belay_npy_read(npy, 0, INT64_MAX, row, f->err), BELAY_OUT_OF_RANGE);
    assert_int_equal(belay_npy_read(npy, INT64_MAX, 1, row, f->err), BELAY_OUT_OF_RANGE);
    belay_npy_free(npy);
}

static void test_npy_read__turns_big_endian_round(void **state) {
    struct fixture *f = *state;
    const unsigned char two[] = {1, 2, 3, 4}, eight[] = {1, 2, 3, 4, 5, 6, 7, 8};
    uint16_t small[2];
    uint64_t large;
    uint32_t parts[2];
    belay_npy *npy = load(f, DICT(">u2", "False", "(2,)"), two, sizeof two);
    assert_ok(f, belay_npy_read(npy, 0, 2, small, f->err));
    assert_int_equal(small[0], 0x0102);
    assert_int_equal(small[1], 0x0304);
    belay_npy_free(npy);
    npy = load(f, DICT(">i8", "False", "(1,)"), eight, sizeof eight);
    assert_ok(f, belay_npy_read(npy, 0, 1, &large, f->err));
    assert_true(large == UINT64_C(0x0102030405060708));
    belay_npy_free(npy);
    /* A complex number is two numbers. */
    npy = load(f, DICT(">c8", "False", "(1,)"), eight, sizeof eight);
    assert_ok(f, belay_npy_read(npy, 0, 1, parts, f->err));
    assert_int_equal(parts[0], 0x01020304);
    assert_int_equal(parts[1], 0x05060708);
    belay_npy_free(npy);
}

static void test_npy_read__makes_bools_zero_or_one(void **state) {
    struct fixture *f = *state;
    const unsigned char data[] = {0, 1, 255, 2}, wanted[] = {0, 1, 1, 1};
    unsigned char out[4];
    belay_npy *npy = load(f, DICT("|b1", "False", "(4,)"), data, sizeof data);
    assert_ok(f, belay_npy_read(npy, 0, 4, out, f->err));
    assert_memory_equal(out, wanted, sizeof wanted);
    belay_npy_free(npy);
}

/* Every element is its own index, so that the place in C order can be computed. */
static void test_npy_read__gathers_rows_from_fortran_order(void **state) {
    struct fixture *f = *state;
    enum { A = 4, B = 3, C = 5, D = 2 };
    int32_t file[A * B * C * D], rows[2 * B * C * D];
    for (int a = 0; a < A; a++)
        for (int b = 0; b < B; b++)
            for (int c = 0; c < C; c++)
                for (int d = 0; d < D; d++)
                    file[a + A * (b + B * (c + C * d))] = ((a * B + b) * C + c) * D + d;
    belay_npy *npy = load(f, DICT("<i4", "True", "(4, 3, 5, 2)"), file, sizeof file);
    assert_ok(f, belay_npy_read(npy, 1, 2, rows, f->err));
    for (int i = 0; i < 2 * B * C * D; i++)
        assert_int_equal(rows[i], B * C * D + i);
    belay_npy_free(npy);
    /* One dimension is the same either way. */
    npy = load(f, DICT("<i4", "True", "(5,)"), file, 20);
    assert_ok(f, belay_npy_read(npy, 3, 2, rows, f->err));
    assert_memory_equal(rows, file + 3, 8);
    belay_npy_free(npy);
}

static void check_strings(struct fixture *f, belay_npy *npy, const uint32_t *rows, int64_t count,
                          const char *const *wanted, const size_t *lengths) {
    struct bly_npy_strings strings;
    memset(&strings, 0, sizeof strings);
    struct bly_npy_rows which = {rows, 0, count};
    size_t total = (size_t)(count * belay_npy_row_elements(npy));
    for (int again = 0; again < 2; again++) { /* the second time over what the first left */
        assert_ok(f, bly_npy_gather_strings(npy, &which, &strings, f->err));
        assert_int_equal(strings.count, total);
        for (size_t i = 0; i < total; i++) {
            assert_int_equal(strings.lengths[i], lengths ? lengths[i] : strlen(wanted[i]));
            assert_memory_equal(strings.strings[i], wanted[i], strings.lengths[i]);
            assert_int_equal(strings.strings[i][strings.lengths[i]], 0);
        }
    }
    bly_npy_strings_free(&strings);
}

static void test_npy_strings__come_out_without_padding(void **state) {
    struct fixture *f = *state;
    const char bytes[] = "abc\0\0\0x\0y\0z\0";
    belay_npy *npy = load(f, DICT("|S3", "False", "(4,)"), bytes, 12);
    check_strings(f, npy, (const uint32_t[]){2, 0, 1, 3}, 4,
                  (const char *const[]){"x\0y", "abc", "", "\0z"}, (const size_t[]){3, 3, 0, 2});
    char none[1];
    assert_int_equal(belay_npy_read(npy, 0, 1, none, f->err), BELAY_INVALID_ARGUMENT);
    belay_npy_free(npy);
    /* Strings of no bytes have no data at all. */
    npy = load(f, DICT("|S0", "False", "(2,)"), "", 0);
    check_strings(f, npy, NULL, 2, (const char *const[]){"", ""}, NULL);
    belay_npy_free(npy);
}

static void test_npy_strings__unicode_becomes_utf8(void **state) {
    struct fixture *f = *state;
    const uint32_t text[] = {'a', 0, 0xe9, 0x20ac, 0x1f600, 0, 0, 0};
    uint32_t turned[8];
    for (size_t i = 0; i < 8; i++)
        turned[i] = __builtin_bswap32(text[i]);
    const char *const wanted[] = {"a", "\xc3\xa9\xe2\x82\xac", "\xf0\x9f\x98\x80", ""};
    belay_npy *npy = load(f, DICT("<U2", "False", "(2, 2)"), text, sizeof text);
    check_strings(f, npy, NULL, 2, wanted, NULL);
    belay_npy_free(npy);
    npy = load(f, DICT(">U2", "False", "(4,)"), turned, sizeof turned);
    check_strings(f, npy, NULL, 4, wanted, NULL);
    belay_npy_free(npy);
    const char *const columns[] = {"a", "\xf0\x9f\x98\x80", "\xc3\xa9\xe2\x82\xac", ""};
    npy = load(f, DICT("<U2", "True", "(2, 2)"), text, sizeof text);
    check_strings(f, npy, NULL, 2, columns, NULL);
    belay_npy_free(npy);
}

static void test_npy_strings__refuse_what_is_no_character(void **state) {
    struct fixture *f = *state;
    static const uint32_t wrong[] = {0xd800, 0xdfff, 0x110000, UINT32_MAX};
    struct bly_npy_strings strings;
    memset(&strings, 0, sizeof strings);
    for (size_t i = 0; i < 4; i++) {
        belay_npy *npy = load(f, DICT("<U1", "False", "(1,)"), &wrong[i], 4);
        struct bly_npy_rows which = {NULL, 0, 1};
        assert_int_equal(bly_npy_gather_strings(npy, &which, &strings, f->err),
                         BELAY_INVALID_ARGUMENT);
        assert_non_null(strstr(belay_error_message(f->err), f->path));
        belay_npy_free(npy);
    }
    bly_npy_strings_free(&strings);
}

static void test_npy_load__takes_arrays_without_elements(void **state) {
    struct fixture *f = *state;
    belay_npy *npy = load(f, DICT("<f4", "False", "(0, 4)"), "", 0);
    char none[1];
    assert_int_equal(belay_npy_rows(npy), 0);
    assert_int_equal(belay_npy_row_bytes(npy), 16);
    assert_ok(f, belay_npy_read(npy, 0, 0, none, f->err));
    belay_npy_free(npy);
    npy = load(f, DICT("<f4", "True", "(7, 0)"), "", 0);
    assert_int_equal(belay_npy_rows(npy), 7);
    assert_int_equal(belay_npy_row_bytes(npy), 0);
    assert_ok(f, belay_npy_read(npy, 0, 7, none, f->err));
    belay_npy_free(npy);
}

/* Spellings that NumPy reads too. */
static void test_npy_load__takes_any_spelling_of_the_header(void **state) {
    struct fixture *f = *state;
    static const char *const dicts[] = {
        "{\"shape\": (2,), \"fortran_order\":False,\"descr\":\"<u1\"}",
        "{'fortran_order': True, 'descr': 'u1', 'shape': (2L,)}  \n\n",
        " { 'descr' : '=u1' , 'shape' : ( 2 , ) , 'fortran_order' : False , } ",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 1)}",
    };
    for (size_t i = 0; i < sizeof dicts / sizeof dicts[0]; i++)
        belay_npy_free(load(f, dicts[i], "ab", 2));
}

/* ---- What is refused ---- */

static void refuse(struct fixture *f, belay_code code, const char *text) {
    belay_npy *npy = belay_npy_load(f->path, f->err);
    assert_null(npy);
    if (belay_error_code(f->err) != code || !strstr(belay_error_message(f->err), text) ||
        !strstr(belay_error_message(f->err), f->path))
        fail_msg("not what was expected (%s): %d %s", text, (int)belay_error_code(f->err),
                 belay_error_message(f->err));
    assert_null(belay_npy_load(f->path, NULL));
}

static void test_npy_load__says_what_is_wrong_with_the_dict(void **state) {
    struct fixture *f = *state;
    static const struct {
        const char *dict;
        belay_code code;
        const char *text;
    } wrong[] = {
        {"", BELAY_DATA_LOSS, "not a dict"},
        {"[]", BELAY_DATA_LOSS, "not a dict"},
        {"{}", BELAY_DATA_LOSS, "missing"},
        {"{'descr': '<f4', 'fortran_order': False, }", BELAY_DATA_LOSS, "missing"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,), 'x': 1}", BELAY_DATA_LOSS, "key"},
        {"{'descr': '<f4', 'descr': '<f4', 'shape': (1,)}", BELAY_DATA_LOSS, "key"},
        {"{'descr' '<f4'}", BELAY_DATA_LOSS, "':' was expected"},
        {"{'descr': '<f4' 'shape': (1,)}", BELAY_DATA_LOSS, "',' or '}'"},
        {"{'descr': '<f4", BELAY_DATA_LOSS, "string"},
        {"{'descr': '<f\\x34'}", BELAY_DATA_LOSS, "string"},
        {"{descr: '<f4'}", BELAY_DATA_LOSS, "string was expected"},
        {DICT("<f4", "false", "(1,)"), BELAY_DATA_LOSS, "neither True nor False"},
        {DICT("<f4", "1", "(1,)"), BELAY_DATA_LOSS, "neither True nor False"},
        {DICT("<f4", "False", "1"), BELAY_DATA_LOSS, "not a tuple"},
        {DICT("<f4", "False", "(1)"), BELAY_DATA_LOSS, "not a tuple"},
        {DICT("<f4", "False", "[1]"), BELAY_DATA_LOSS, "not a tuple"},
        {DICT("<f4", "False", "(1,,)"), BELAY_DATA_LOSS, "no number"},
        {DICT("<f4", "False", "(1, 2"), BELAY_DATA_LOSS, "no number"},
        {DICT("<f4", "False", "(1.5,)"), BELAY_DATA_LOSS, "tuple"},
        {DICT("<f4", "False", "('a',)"), BELAY_DATA_LOSS, "no number"},
        {DICT("<f4", "False", "(-1,)"), BELAY_DATA_LOSS, "negative"},
        {DICT("<f4", "False", "(9223372036854775808,)"), BELAY_DATA_LOSS, "no number that fits"},
        {DICT("<f4", "False", "(9223372036854775807,)"), BELAY_DATA_LOSS, "larger than any file"},
        {DICT("<f4", "False", "(4294967296, 4294967296)"), BELAY_DATA_LOSS, "larger than any"},
        {DICT("<f4", "False", "(0, 4294967296, 4294967296)"), BELAY_DATA_LOSS, "larger than any"},
        {DICT("|u1", "False", "(9223372036854775807,)"), BELAY_DATA_LOSS, "larger than any file"},
        {DICT("|S9223372036854775807", "False", "(1,)"), BELAY_INVALID_ARGUMENT, "cannot be fed"},
        {DICT("<U1152921504606846976", "False", "(4,)"), BELAY_DATA_LOSS, "larger than any file"},
        {DICT("<f4", "False", "()"), BELAY_INVALID_ARGUMENT, "no rows"},
        {DICT("<f4", "False", "(1,)") "x", BELAY_DATA_LOSS, "more after the dict"},
        {DICT("|O", "False", "(1,)"), BELAY_INVALID_ARGUMENT, "Python objects"},
        {DICT("<M8[ns]", "False", "(1,)"), BELAY_INVALID_ARGUMENT, "dates"},
        {DICT("|V2", "False", "(1,)"), BELAY_INVALID_ARGUMENT, "bfloat16"},
        {DICT("<f16", "False", "(1,)"), BELAY_INVALID_ARGUMENT, "float64"},
        {DICT("<i3", "False", "(1,)"), BELAY_INVALID_ARGUMENT, "save it as one of"},
        {DICT("", "False", "(1,)"), BELAY_INVALID_ARGUMENT, "save it as one of"},
        {DICT("<", "False", "(1,)"), BELAY_INVALID_ARGUMENT, "save it as one of"},
        {DICT("<f4 ", "False", "(1,)"), BELAY_INVALID_ARGUMENT, "cannot be fed"},
        {"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }",
         BELAY_INVALID_ARGUMENT, "structured"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        write_npy(f->path, 1, wrong[i].dict, "\0\0\0\0", 4);
        refuse(f, wrong[i].code, wrong[i].text);
    }
}

static void test_npy_load__refuses_more_dimensions_than_numpy_has(void **state) {
    struct fixture *f = *state;
    bly_buf dict = BLY_BUF_INIT;
    for (int dims = 64; dims <= 65; dims++) {
        bly_buf_clear(&dict);
        bly_buf_puts(&dict, "{'descr': '|u1', 'fortran_order': True, 'shape': (");
        for (int i = 0; i < dims; i++)
            bly_buf_puts(&dict, "1, ");
        bly_buf_puts(&dict, ")}");
        if (dims == 64)
            belay_npy_free(load(f, bly_buf_text(&dict), "x", 1));
    }
    write_npy(f->path, 1, bly_buf_text(&dict), "x", 1);
    refuse(f, BELAY_DATA_LOSS, "64 dimensions");
    bly_buf_free(&dict);
}

static void test_npy_load__says_what_a_file_is_that_is_no_npy(void **state) {
    struct fixture *f = *state;
    write_bytes(f->path, "", 0);
    refuse(f, BELAY_INVALID_ARGUMENT, "empty");
    write_bytes(f->path, "PK\x03\x04zip", 7);
    refuse(f, BELAY_INVALID_ARGUMENT, ".npz");
    write_bytes(f->path, "x,y\n1,2\n", 8);
    refuse(f, BELAY_INVALID_ARGUMENT, "not a .npy file");
    write_bytes(f->path, "\x93NUMPY\x04\x00v\x00{}", 12);
    refuse(f, BELAY_INVALID_ARGUMENT, "version 4.0");
    write_bytes(f->path, "\x93NUMPY\x01\x01v\x00{}", 12);
    refuse(f, BELAY_INVALID_ARGUMENT, "version 1.1");
    write_bytes(f->path, "\x93NUMPY\x02\x00\xff\xff\xff\xff{}", 14);
    refuse(f, BELAY_INVALID_ARGUMENT, "header has 4294967295 bytes");
    unlink(f->path);
    refuse(f, BELAY_NOT_FOUND, "cannot read");
    assert_int_equal(mkdir(f->path, 0777), 0);
    refuse(f, BELAY_INVALID_ARGUMENT, "a folder");
    rmdir(f->path);
    assert_int_equal(mkfifo(f->path, 0666), 0); /* must not wait for a writer */
    refuse(f, BELAY_INVALID_ARGUMENT, "a pipe");
    assert_null(belay_npy_load(NULL, f->err));
}

/* However a file is cut, it is refused; however long it is, too. */
static void test_npy_load__refuses_files_of_any_wrong_length(void **state) {
    struct fixture *f = *state;
    const float data[] = {1, 2, 3, 4};
    for (int major = 1; major <= 3; major++) {
        bly_buf file = BLY_BUF_INIT;
        put_file(&file, major, DICT("<f4", "False", "(2, 2)"), data, sizeof data);
        for (size_t len = 0; len < file.len; len++) {
            write_bytes(f->path, file.data, len);
            belay_npy *npy = belay_npy_load(f->path, f->err);
            assert_null(npy);
            belay_code code = belay_error_code(f->err);
            assert_int_equal(code, len < 6 ? BELAY_INVALID_ARGUMENT : BELAY_DATA_LOSS);
            assert_non_null(strstr(belay_error_message(f->err), f->path));
        }
        refuse(f, BELAY_DATA_LOSS, "shape (2, 2) of float32 takes 16 bytes of data, and 15 are");
        bly_buf_putc(&file, 'x');
        write_bytes(f->path, file.data, file.len);
        refuse(f, BELAY_DATA_LOSS, "too long");
        bly_buf_free(&file);
    }
}

/* Each byte of a header, set to each value: an array that fits, or one of two codes with a line of
 * text. */
static void test_npy_header__survives_every_byte_changed(void **state) {
    (void)state;
    for (int major = 1; major <= 2; major++) {
        bly_buf file = BLY_BUF_INIT;
        put_file(&file, major, DICT("<f4", "False", "(2, 3)"), "", 0);
        unsigned char *copy = malloc(file.len); /* exact, so that a sanitizer sees a step too far */
        for (size_t i = 0; i < file.len; i++)
            for (int value = 0; value < 256; value++) {
                struct bly_npy_header header;
                BLY_LOCAL_ERROR(err);
                memcpy(copy, file.data, file.len);
                copy[i] = (unsigned char)value;
                belay_code code = bly_npy_parse_header(copy, file.len, "F.npy", &header, &err);
                if (code == BELAY_OK) {
                    assert_true(header.data_offset <= file.len);
                    assert_true(header.rank >= 1 && header.rank <= BLY_NPY_RANK_MOST);
                    assert_int_equal(header.data_bytes, (size_t)header.dims[0] *
                                                            header.row_elements *
                                                            header.item_bytes);
                } else {
                    assert_true(code == BELAY_INVALID_ARGUMENT || code == BELAY_DATA_LOSS);
                    assert_non_null(strstr(err.message, "F.npy"));
                }
            }
        free(copy);
        bly_buf_free(&file);
    }
}

/* Pieces of headers thrown together. The numbers are of a fixed generator: a failure comes again.
 */
static void test_npy_header__survives_nonsense(void **state) {
    (void)state;
    static const char *const pieces[] = {
        "{",
        "}",
        "'descr'",
        "'shape'",
        "'fortran_order'",
        ":",
        ",",
        "(",
        ")",
        "True",
        "'<f4",
        "'>U9'",
        "False",
        "9",
        "-1",
        "'|S0'",
        " ",
        "\n",
        "\\'",
        "\"",
        "'",
        "0",
        "18446744073709551616",
        "[",
        "'<c16'",
        "L",
        "\xff",
    };
    uint32_t random = 1;
    for (int round = 0; round < 20000; round++) {
        bly_buf file = BLY_BUF_INIT;
        struct bly_npy_header header;
        bly_buf_append(&file, "\x93NUMPY\x01\x00zz", 10);
        if (round % 2)
            bly_buf_puts(&file, "{'descr': '<f4', 'fortran_order': False, 'shape': (");
        for (int i = 0; i < 20; i++) {
            random = random * 1664525 + 1013904223;
            bly_buf_puts(&file, pieces[(random >> 16) % (sizeof pieces / sizeof pieces[0])]);
        }
        file.data[8] = (char)(file.len - 10);
        file.data[9] = 0;
        unsigned char *copy = malloc(file.len);
        memcpy(copy, file.data, file.len);
        belay_code code = bly_npy_parse_header(copy, file.len, "F.npy", &header, NULL);
        assert_true(code == BELAY_OK || code == BELAY_INVALID_ARGUMENT || code == BELAY_DATA_LOSS);
        free(copy);
        bly_buf_free(&file);
    }
}

/* ---- Files that change ---- */

static int warned;

static void count_warning(void *self, belay_log_level level, const char *message) {
    (void)self;
    warned += level == BELAY_LOG_WARNING && strstr(message, "written to") != NULL;
}

static void test_npy_read__fails_where_the_file_was_cut_short_meanwhile(void **state) {
    struct fixture *f = *state;
    char *data = calloc(1, 1 << 20), *out = malloc(1 << 20);
    belay_npy *npy = load(f, DICT("|u1", "False", "(1048576,)"), data, 1 << 20);
    assert_ok(f, belay_npy_read(npy, 0, 1 << 20, out, f->err));
    assert_int_equal(truncate(f->path, 5000), 0);
    assert_int_equal(belay_npy_read(npy, 1000000, 1, out, f->err), BELAY_DATA_LOSS);
    assert_non_null(strstr(belay_error_message(f->err), f->path));
    assert_non_null(strstr(belay_error_message(f->err), "cut short while it was in use"));
    belay_npy_free(npy);
    free(data);
    free(out);
}

static void test_npy_read__warns_once_where_the_file_was_written_to(void **state) {
    struct fixture *f = *state;
    char out[4];
    struct timespec times[2] = {{0, UTIME_OMIT}, {1000000000, 0}};
    warned = 0;
    belay_log_set_callback(count_warning, NULL, BELAY_LOG_WARNING);
    belay_npy *npy = load(f, DICT("|u1", "False", "(4,)"), "abcd", 4);
    assert_ok(f, belay_npy_read(npy, 0, 4, out, f->err));
    assert_int_equal(warned, 0);
    assert_int_equal(utimensat(AT_FDCWD, f->path, times, 0), 0);
    assert_ok(f, belay_npy_read(npy, 0, 4, out, f->err));
    assert_ok(f, belay_npy_read(npy, 0, 4, out, f->err));
    assert_int_equal(warned, 1);
    /* A file that took its name is another file. */
    unlink(f->path);
    write_bytes(f->path, "", 0);
    assert_ok(f, belay_npy_read(npy, 0, 4, out, f->err));
    assert_memory_equal(out, "abcd", 4);
    belay_npy_free(npy);
}

static void test_npy_load__survives_every_failed_allocation(void **state) {
    struct fixture *f = *state;
    const uint32_t text[] = {'a', 'b'};
    write_npy(f->path, 1, DICT("<U1", "False", "(2,)"), text, sizeof text);
    struct bly_npy_strings strings;
    belay_code code = BELAY_RESOURCE_EXHAUSTED;
    for (size_t n = 1; code != BELAY_OK; n++) {
        memset(&strings, 0, sizeof strings);
        struct bly_npy_rows which = {NULL, 0, 2};
        assert_true(n < 100);
        belay_error_clear(f->err);
        bly_mem_fail_at(n);
        belay_npy *npy = belay_npy_load(f->path, f->err);
        code =
            npy ? bly_npy_gather_strings(npy, &which, &strings, f->err) : belay_error_code(f->err);
        bly_mem_fail_at(0);
        assert_true(code == BELAY_OK || code == BELAY_RESOURCE_EXHAUSTED);
        belay_npy_free(npy);
        bly_npy_strings_free(&strings);
    }
}

#define test(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        test(test_npy_load__knows_every_common_dtype),
        test(test_npy_read__gives_rows_as_they_are),
        test(test_npy_read__turns_big_endian_round),
        test(test_npy_read__makes_bools_zero_or_one),
        test(test_npy_read__gathers_rows_from_fortran_order),
        test(test_npy_strings__come_out_without_padding),
        test(test_npy_strings__unicode_becomes_utf8),
        test(test_npy_strings__refuse_what_is_no_character),
        test(test_npy_load__takes_arrays_without_elements),
        test(test_npy_load__takes_any_spelling_of_the_header),
        test(test_npy_load__says_what_is_wrong_with_the_dict),
        test(test_npy_load__refuses_more_dimensions_than_numpy_has),
        test(test_npy_load__says_what_a_file_is_that_is_no_npy),
        test(test_npy_load__refuses_files_of_any_wrong_length),
        test(test_npy_header__survives_every_byte_changed),
        test(test_npy_header__survives_nonsense),
        test(test_npy_read__fails_where_the_file_was_cut_short_meanwhile),
        test(test_npy_read__warns_once_where_the_file_was_written_to),
        test(test_npy_load__survives_every_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
