/* Batches: what is handed out, in which order, and where it goes on. */
#define _GNU_SOURCE
#include "base/buf.h"
#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"

#include <belay/input.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define MOST 100

struct fixture {
    char root[64];
    char path[96];
    belay_error *err;
};

static int set_up(void **state) {
    static struct fixture f;
    snprintf(f.root, sizeof f.root, "/tmp/belay-batches-XXXXXX");
    f.err = belay_error_new();
    *state = &f;
    return mkdtemp(f.root) ? 0 : -1;
}

static int tear_down(void **state) {
    struct fixture *f = *state;
    belay_error_free(f->err);
    return bly_remove_directory(f->root, NULL) == BELAY_OK ? 0 : -1;
}

#define assert_ok(f, call)                                                                         \
    do {                                                                                           \
        belay_code code_ = (call);                                                                 \
        if (code_ != BELAY_OK)                                                                     \
            fail_msg("%s: %d %s", #call, (int)code_, belay_error_message((f)->err));               \
    } while (0)

static belay_npy *make_npy(struct fixture *f, const char *name, const char *descr,
                           const char *shape, const void *data, size_t len) {
    bly_buf file = BLY_BUF_INIT;
    snprintf(f->path, sizeof f->path, "%s/%s", f->root, name);
    bly_buf_append(&file, "\x93NUMPY\x01\x00\x76\x00", 10);
    bly_buf_printf(&file, "{'descr': '%s', 'fortran_order': False, 'shape': %s, }", descr, shape);
    while (file.len < 127)
        bly_buf_putc(&file, ' ');
    bly_buf_putc(&file, '\n');
    bly_buf_append(&file, data, len);
    FILE *out = fopen(f->path, "wb");
    assert_non_null(out);
    assert_int_equal(fwrite(file.data, 1, file.len, out), file.len);
    fclose(out);
    bly_buf_free(&file);
    belay_npy *npy = belay_npy_load(f->path, f->err);
    if (!npy)
        fail_msg("%s", belay_error_message(f->err));
    return npy;
}

/* rows numbers, each its own row's */
static belay_npy *make_rows(struct fixture *f, const char *name, int rows) {
    int32_t data[MOST];
    char shape[16];
    for (int i = 0; i < rows; i++)
        data[i] = i;
    snprintf(shape, sizeof shape, "(%d,)", rows);
    return make_npy(f, name, "<i4", shape, data, (size_t)rows * 4);
}

static belay_batches *make(struct fixture *f, int rows, int64_t batch_size, int64_t epochs,
                           int64_t seed, uint32_t flags) {
    belay_batches_options options = BELAY_BATCHES_OPTIONS_INIT;
    options.batch_size = batch_size;
    options.epochs = epochs;
    options.seed = seed;
    options.flags = flags;
    belay_npy *npy = make_rows(f, "x.npy", rows);
    belay_batches *batches =
        belay_batches_prepare((const char *const[]){"x"}, &npy, 1, &options, f->err);
    belay_npy_free(npy); /* the batches keep it */
    if (!batches)
        fail_msg("%s", belay_error_message(f->err));
    return batches;
}

/* Takes batches until `most` rows are there or the input ends. Returns how many rows. */
static int take(struct fixture *f, belay_batches *batches, int32_t *out, int most) {
    int count = 0;
    while (count < most) {
        int32_t rows[MOST];
        int64_t got = -1, expected = belay_batches_next_rows(batches);
        belay_code code = belay_batches_next(batches, (void *[]){rows}, &got, f->err);
        assert_int_equal(got, expected);
        if (code == BELAY_OUT_OF_RANGE) {
            assert_int_equal(got, 0);
            return count;
        }
        assert_ok(f, code);
        memcpy(out + count, rows, (size_t)got * 4);
        count += (int)got;
    }
    return count;
}

static void test_batches_next__hands_out_rows_in_order_and_keeps_the_short_batch(void **state) {
    struct fixture *f = *state;
    belay_batches *b = make(f, 10, 4, 2, 0, 0);
    static const int64_t wanted[] = {4, 4, 2, 4, 4, 2};
    assert_int_equal(belay_batches_rows(b), 10);
    assert_int_equal(belay_batches_size(b), 4);
    assert_int_equal(belay_batches_per_epoch(b), 3);
    assert_int_equal(belay_batches_count(b), 1);
    assert_string_equal(belay_batches_name(b, 0), "x");
    assert_null(belay_batches_name(b, 1));
    assert_null(belay_batches_array(b, 1));
    int32_t next = 0;
    for (size_t i = 0; i < 6; i++) {
        int32_t rows[4];
        int64_t got;
        assert_int_equal(belay_batches_epoch(b), i / 3);
        assert_ok(f, belay_batches_next(b, (void *[]){rows}, &got, f->err));
        assert_int_equal(got, wanted[i]);
        for (int64_t r = 0; r < got; r++)
            assert_int_equal(rows[r], next++ % 10);
    }
    for (int i = 0; i < 2; i++) { /* over, and stays so */
        assert_int_equal(belay_batches_next_rows(b), 0);
        assert_int_equal(belay_batches_next(b, NULL, NULL, f->err), BELAY_OUT_OF_RANGE);
    }
    belay_batches_free(b);
    belay_batches_free(NULL);
}

static void test_batches_next__can_leave_out_the_short_batch(void **state) {
    struct fixture *f = *state;
    belay_batches *b = make(f, 10, 4, 2, 0, BELAY_BATCHES_DROP_SHORT);
    int32_t rows[MOST];
    static const int32_t wanted[] = {0, 1, 2, 3, 4, 5, 6, 7};
    assert_int_equal(belay_batches_per_epoch(b), 2);
    assert_int_equal(take(f, b, rows, MOST), 16);
    assert_memory_equal(rows, wanted, sizeof wanted);
    assert_memory_equal(rows + 8, wanted, sizeof wanted);
    belay_batches_free(b);
}

static void test_batches_next__goes_on_for_ever_without_a_limit(void **state) {
    struct fixture *f = *state;
    belay_batches *b = make(f, 3, 0, 0, 0, 0); /* batches of 32: each is an epoch */
    int32_t rows[MOST];
    assert_int_equal(take(f, b, rows, 90), 90);
    assert_int_equal(belay_batches_epoch(b), 30);
    belay_batches_free(b);
}

/* The numbers are those of the description in belay/input.h, worked out in another language. They
 * may never change. */
static void test_batches_shuffle__gives_the_published_order(void **state) {
    struct fixture *f = *state;
    static const struct {
        int64_t seed, epoch;
        int32_t order[10];
    } published[] = {
        {0, 0, {3, 0, 4, 6, 7, 2, 1, 5, 8, 9}},
        {0, 1, {5, 3, 9, 4, 6, 1, 0, 7, 2, 8}},
        {42, 0, {7, 4, 0, 2, 1, 9, 8, 3, 5, 6}},
        {-1, 3, {7, 4, 6, 8, 5, 9, 0, 1, 3, 2}},
    };
    for (size_t i = 0; i < sizeof published / sizeof published[0]; i++)
        for (int64_t batch_size = 1; batch_size <= 11; batch_size++) {
            belay_batches *b = make(f, 10, batch_size, 0, published[i].seed, BELAY_BATCHES_SHUFFLE);
            int32_t rows[MOST];
            for (int64_t epoch = 0; epoch <= published[i].epoch; epoch++)
                assert_int_equal(take(f, b, rows, 10), 10);
            assert_memory_equal(rows, published[i].order, sizeof published[i].order);
            belay_batches_free(b);
        }
}

static void test_batches_shuffle__hands_out_every_row_once_an_epoch(void **state) {
    struct fixture *f = *state;
    belay_batches *b = make(f, 97, 8, 0, 5, BELAY_BATCHES_SHUFFLE);
    int32_t rows[MOST], before[MOST] = {0};
    for (int epoch = 0; epoch < 20; epoch++) {
        char seen[97] = {0};
        assert_int_equal(take(f, b, rows, 97), 97);
        for (int i = 0; i < 97; i++)
            seen[rows[i]]++;
        for (int i = 0; i < 97; i++)
            assert_int_equal(seen[i], 1);
        assert_memory_not_equal(rows, before, 97 * 4);
        memcpy(before, rows, 97 * 4);
    }
    belay_batches_free(b);
}

/* Three rows have six orders; each should come up about as often as any other. */
static void test_batches_shuffle__favours_no_order(void **state) {
    struct fixture *f = *state;
    belay_batches *b = make(f, 3, 3, 0, 7, BELAY_BATCHES_SHUFFLE);
    int counts[9] = {0};
    for (int epoch = 0; epoch < 6000; epoch++) {
        int32_t rows[MOST];
        assert_int_equal(take(f, b, rows, 3), 3);
        counts[rows[0] * 3 + rows[1]]++;
    }
    for (int i = 0; i < 9; i++)
        assert_true(i % 4 == 0 ? counts[i] == 0 : counts[i] > 850 && counts[i] < 1150);
    belay_batches_free(b);
}

/* ---- Several arrays ---- */

static void test_batches_next__keeps_the_rows_of_all_arrays_together(void **state) {
    struct fixture *f = *state;
    double x[6 * 2];
    char names[6 * 4] = {0};
    for (int i = 0; i < 6; i++) {
        x[2 * i] = i;
        x[2 * i + 1] = -i;
        names[4 * i] = 'n';
        names[4 * i + 1] = (char)('0' + i);
    }
    belay_npy *arrays[] = {make_npy(f, "x.npy", "<f8", "(6, 2)", x, sizeof x),
                           make_npy(f, "n.npy", "|S4", "(6, 1)", names, sizeof names),
                           make_rows(f, "y.npy", 6)};
    belay_batches_options options = BELAY_BATCHES_OPTIONS_INIT;
    options.batch_size = 4;
    options.flags = BELAY_BATCHES_SHUFFLE;
    options.epochs = 3;
    belay_batches *b =
        belay_batches_prepare((const char *const[]){"x", "name", "y"}, arrays, 3, &options, f->err);
    assert_non_null(b);
    assert_ptr_equal(belay_batches_array(b, 1), arrays[1]);
    for (int i = 0; i < 3; i++)
        belay_npy_free(arrays[i]);

    const char *const *strings;
    const size_t *lengths;
    assert_int_equal(belay_batches_strings(b, 1, &strings, &lengths, f->err),
                     BELAY_FAILED_PRECONDITION);
    double gotten_x[8];
    int32_t gotten_y[4];
    void *destinations[] = {gotten_x, NULL, gotten_y};
    int64_t rows;
    int batches = 0;
    while (belay_batches_next(b, destinations, &rows, f->err) == BELAY_OK) {
        assert_ok(f, belay_batches_strings(b, 1, &strings, &lengths, f->err));
        for (int64_t i = 0; i < rows; i++) {
            char name[16];
            snprintf(name, sizeof name, "n%d", (int)gotten_y[i]);
            assert_true(gotten_x[2 * i] == gotten_y[i] && gotten_x[2 * i + 1] == -gotten_y[i]);
            assert_string_equal(strings[i], name);
            assert_int_equal(lengths[i], 2);
        }
        batches++;
    }
    assert_int_equal(belay_error_code(f->err), BELAY_OUT_OF_RANGE);
    assert_int_equal(batches, 6);
    assert_int_equal(belay_batches_strings(b, 0, &strings, NULL, f->err), BELAY_INVALID_ARGUMENT);
    assert_int_equal(belay_batches_strings(b, 9, &strings, NULL, f->err), BELAY_INVALID_ARGUMENT);
    assert_null(strings);
    belay_batches_free(b);
}

static void refuse(struct fixture *f, belay_npy **arrays, size_t count, int64_t batch_size,
                   int64_t epochs, uint32_t flags, const char *const *texts) {
    belay_batches_options options = BELAY_BATCHES_OPTIONS_INIT;
    options.batch_size = batch_size;
    options.epochs = epochs;
    options.flags = flags;
    belay_error_clear(f->err);
    assert_null(belay_batches_prepare((const char *const[]){"one", "two"}, arrays, count, &options,
                                      f->err));
    assert_int_equal(belay_error_code(f->err), BELAY_INVALID_ARGUMENT);
    for (; *texts; texts++)
        if (!strstr(belay_error_message(f->err), *texts))
            fail_msg("no '%s' in: %s", *texts, belay_error_message(f->err));
}

#define WITH(...)                                                                                  \
    (const char *const[]) {                                                                        \
        __VA_ARGS__, NULL                                                                          \
    }

static void test_batches_prepare__says_what_does_not_fit(void **state) {
    struct fixture *f = *state;
    belay_npy *arrays[] = {make_rows(f, "a.npy", 10), make_rows(f, "b.npy", 9)};
    belay_npy *empty = make_npy(f, "e.npy", "<i4", "(0,)", "", 0);
    refuse(f, arrays, 2, 1, 1, 0, WITH("one", "a.npy", "10 rows", "two", "b.npy", "9: save"));
    refuse(f, arrays, 1, -1, 1, 0, WITH("batch_size is -1"));
    refuse(f, arrays, 1, 1, -1, 0, WITH("epochs is -1"));
    refuse(f, arrays, 1, 1, 1, 1u << 31, WITH("flag"));
    refuse(f, arrays, 1, 11, 1, BELAY_BATCHES_DROP_SHORT,
           WITH("a.npy", "10 rows", "batch of 11", "smaller batch"));
    refuse(f, arrays, 0, 1, 1, 0, WITH("no arrays"));
    refuse(f, &empty, 1, 1, 1, 0, WITH("e.npy", "no rows"));
    belay_npy *none = NULL;
    refuse(f, &none, 1, 1, 1, 0, WITH("NULL"));
    /* In a chain of makers the first error stays. */
    bly_fail(f->err, BELAY_NOT_FOUND, "no such file");
    assert_null(belay_batches_prepare((const char *const[]){"one"}, &none, 1, NULL, f->err));
    assert_int_equal(belay_error_code(f->err), BELAY_NOT_FOUND);
    belay_npy_free(arrays[0]);
    belay_npy_free(arrays[1]);
    belay_npy_free(empty);
}

/* ---- Position ---- */

static void test_batches_position__is_a_line_of_json(void **state) {
    struct fixture *f = *state;
    belay_batches *b = make(f, 10, 4, 0, -7, BELAY_BATCHES_SHUFFLE);
    char text[BELAY_POSITION_SIZE], little[8] = "xxxxxxx";
    int32_t rows[MOST];
    take(f, b, rows, 14);
    size_t len = belay_batches_position(b, text, sizeof text);
    assert_string_equal(
        text, "{\"epoch\":1,\"row\":4,\"rows\":10,\"batch\":4,\"seed\":-7,\"shuffle\":true}");
    assert_int_equal(len, strlen(text));
    assert_int_equal(belay_batches_position(b, NULL, 0), len);
    assert_int_equal(belay_batches_position(b, little, sizeof little), len);
    assert_string_equal(little, "{\"epoch");
    belay_batches_free(b);
}

/* Stopped after any number of batches and gone on by another object: the rows are those of one that
 * never stopped. */
static void test_batches_set_position__goes_on_with_the_next_batch(void **state) {
    struct fixture *f = *state;
    for (uint32_t flags = 0; flags < 4; flags++) {
        int32_t whole[MOST], first[MOST], second[MOST];
        belay_batches *b = make(f, 10, 4, 3, 9, flags);
        int total = take(f, b, whole, MOST);
        belay_batches_free(b);
        for (int stop = 1; stop <= total; stop++) {
            char text[BELAY_POSITION_SIZE];
            b = make(f, 10, 4, 3, 9, flags);
            int before = take(f, b, first, stop);
            belay_batches_position(b, text, sizeof text);
            belay_batches_free(b);
            b = make(f, 10, 4, 3, 9, flags);
            take(f, b, second, 4); /* what it did before does not matter */
            assert_ok(f, belay_batches_set_position(b, text, f->err));
            int after = take(f, b, second, MOST);
            belay_batches_free(b);
            assert_int_equal(before + after, total);
            assert_memory_equal(first, whole, (size_t)before * 4);
            assert_memory_equal(second, whole + before, (size_t)after * 4);
        }
    }
}

static void test_batches_set_position__takes_another_batch_size(void **state) {
    struct fixture *f = *state;
    int32_t whole[MOST], rest[MOST];
    char text[BELAY_POSITION_SIZE];
    belay_batches *b = make(f, 10, 4, 1, 9, BELAY_BATCHES_SHUFFLE);
    take(f, b, whole, 4);
    belay_batches_position(b, text, sizeof text);
    take(f, b, whole + 4, 6);
    belay_batches_free(b);
    b = make(f, 10, 3, 1, 9, BELAY_BATCHES_SHUFFLE);
    assert_ok(f, belay_batches_set_position(b, text, f->err));
    assert_int_equal(take(f, b, rest, MOST), 6);
    assert_memory_equal(rest, whole + 4, 6 * 4);
    belay_batches_free(b);
    /* Where no whole batch is left and short ones are dropped, the epoch is over. */
    b = make(f, 10, 7, 3, 9, BELAY_BATCHES_SHUFFLE | BELAY_BATCHES_DROP_SHORT);
    assert_ok(f, belay_batches_set_position(b, text, f->err));
    assert_int_equal(belay_batches_epoch(b), 1);
    assert_int_equal(take(f, b, rest, MOST), 14);
    belay_batches_free(b);
}

static void test_batches_set_position__refuses_one_that_is_not_its_own(void **state) {
    struct fixture *f = *state;
    static const struct {
        const char *text, *wanted;
    } wrong[] = {
        {"{\"epoch\":1,\"row\":4,\"rows\":11,\"batch\":4,\"seed\":9,\"shuffle\":true}", "11 rows"},
        {"{\"epoch\":1,\"row\":4,\"rows\":10,\"batch\":4,\"seed\":8,\"shuffle\":true}", "seed 8"},
        {"{\"epoch\":1,\"row\":4,\"rows\":10,\"batch\":4,\"seed\":9,\"shuffle\":false}", "without"},
        {"{\"epoch\":1,\"row\":11,\"rows\":10,\"batch\":4,\"seed\":9,\"shuffle\":true}", "not a"},
        {"{\"epoch\":-1,\"row\":4,\"rows\":10,\"batch\":4,\"seed\":9,\"shuffle\":true}", "not a"},
        {"{\"epoch\":1,\"row\":-4,\"rows\":10,\"batch\":4,\"seed\":9,\"shuffle\":true}", "not a"},
        {"{\"epoch\":1,\"row\":4,\"rows\":10,\"batch\":0,\"seed\":9,\"shuffle\":true}", "not a"},
        {"{\"epoch\":1.5,\"row\":4,\"rows\":10,\"batch\":4,\"seed\":9,\"shuffle\":true}", "not a"},
        {"{\"epoch\":1,\"row\":4,\"rows\":10,\"batch\":4,\"seed\":9,\"shuffle\":1}", "not a"},
        {"{\"epoch\":1,\"row\":4,\"rows\":10,\"batch\":4,\"shuffle\":true}", "not a"},
        {"{\"epoch\":9223372036854775807,\"row\":4,\"rows\":10,\"batch\":4,\"seed\":9,"
         "\"shuffle\":true}",
         "not a"},
        {"{\"epoch\":99999999999999999999,\"row\":4}", "not a"},
        {"[1]", "not a"},
        {"{\"epoch\":1", "not a"},
        {"", "not a"},
        {NULL, "NULL"},
    };
    belay_batches *b = make(f, 10, 4, 0, 9, BELAY_BATCHES_SHUFFLE);
    char before[BELAY_POSITION_SIZE], after[BELAY_POSITION_SIZE];
    int32_t rows[MOST];
    take(f, b, rows, 8);
    belay_batches_position(b, before, sizeof before);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_int_equal(belay_batches_set_position(b, wrong[i].text, f->err),
                         BELAY_INVALID_ARGUMENT);
        if (!strstr(belay_error_message(f->err), wrong[i].wanted))
            fail_msg("no '%s' in: %s", wrong[i].wanted, belay_error_message(f->err));
        belay_batches_position(b, after, sizeof after);
        assert_string_equal(after, before);
    }
    belay_batches_free(b);
    /* Without shuffling the seed means nothing; what a later belay adds is left alone. */
    b = make(f, 10, 4, 0, 9, 0);
    assert_ok(f, belay_batches_set_position(b,
                                            "{\"epoch\":2,\"row\":8,\"rows\":10,\"batch\":4,"
                                            "\"seed\":1,\"shuffle\":false,\"more\":[]}",
                                            f->err));
    assert_int_equal(belay_batches_next_rows(b), 2);
    belay_batches_free(b);
}

static void test_batches_position__at_the_end_stays_the_end(void **state) {
    struct fixture *f = *state;
    int32_t rows[MOST];
    char text[BELAY_POSITION_SIZE];
    belay_batches *b = make(f, 10, 4, 2, 0, 0);
    take(f, b, rows, MOST);
    belay_batches_position(b, text, sizeof text);
    belay_batches_free(b);
    b = make(f, 10, 4, 2, 0, 0);
    assert_ok(f, belay_batches_set_position(b, text, f->err));
    assert_int_equal(take(f, b, rows, MOST), 0);
    belay_batches_free(b);
    b = make(f, 10, 4, 3, 0, 0); /* one epoch more */
    assert_ok(f, belay_batches_set_position(b, text, f->err));
    assert_int_equal(take(f, b, rows, MOST), 10);
    belay_batches_free(b);
}

/* ---- Large files ---- */

/* 300 MiB of which almost nothing is on the disk: each row begins with its number. */
static belay_npy *make_large(struct fixture *f) {
    belay_npy_free(make_npy(f, "l.npy", "<u2", "(0, 524288)", "", 0));
    FILE *file = fopen(f->path, "r+b");
    assert_non_null(file);
    fseek(file, 10, SEEK_SET);
    fprintf(file, "{'descr': '<u2', 'fortran_order': False, 'shape': (300, 524288)}");
    for (uint16_t row = 0; row < 300; row++) {
        fseek(file, 128 + (long)row * 1048576, SEEK_SET);
        fwrite(&row, sizeof row, 1, file);
    }
    fclose(file);
    assert_int_equal(truncate(f->path, 128 + 300 * (off_t)1048576), 0);
    belay_npy *npy = belay_npy_load(f->path, f->err);
    assert_non_null(npy);
    return npy;
}

static void test_batches_next__reads_ahead_in_large_files(void **state) {
    struct fixture *f = *state;
    static const uint32_t flags[] = {0, BELAY_BATCHES_SHUFFLE, BELAY_BATCHES_NO_READ_AHEAD};
    belay_npy *npy = make_large(f);
    uint16_t *rows = malloc(100 * belay_npy_row_bytes(npy));
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        belay_batches_options options = BELAY_BATCHES_OPTIONS_INIT;
        options.batch_size = 100;
        options.epochs = 1;
        options.flags = flags[i];
        belay_batches *b =
            belay_batches_prepare((const char *const[]){"x"}, &npy, 1, &options, f->err);
        int sum = 0;
        while (belay_batches_next(b, (void *[]){rows}, NULL, f->err) == BELAY_OK)
            for (size_t r = 0; r < 100; r++)
                sum += rows[r * 524288];
        assert_int_equal(belay_error_code(f->err), BELAY_OUT_OF_RANGE);
        assert_int_equal(sum, 299 * 300 / 2);
        belay_batches_free(b);
    }
    free(rows);
    belay_npy_free(npy);
}

/* ---- Trouble ---- */

static void test_batches_next__failing_leaves_the_position(void **state) {
    struct fixture *f = *state;
    int32_t rows[MOST];
    char before[BELAY_POSITION_SIZE], after[BELAY_POSITION_SIZE];
    belay_batches *b = make(f, 10, 4, 0, 0, BELAY_BATCHES_SHUFFLE);
    take(f, b, rows, 4);
    belay_batches_position(b, before, sizeof before);
    assert_int_equal(truncate(f->path, 140), 0);
    int64_t got = -1;
    assert_int_equal(belay_batches_next(b, (void *[]){rows}, &got, f->err), BELAY_DATA_LOSS);
    assert_int_equal(got, 0);
    assert_non_null(strstr(belay_error_message(f->err), "x.npy"));
    belay_batches_position(b, after, sizeof after);
    assert_string_equal(after, before);
    belay_batches_free(b);
}

static void test_batches__survive_every_failed_allocation(void **state) {
    struct fixture *f = *state;
    belay_npy *arrays[] = {make_rows(f, "a.npy", 2),
                           make_npy(f, "b.npy", "|S2", "(2,)", "abcd", 4)};
    belay_batches_options options = BELAY_BATCHES_OPTIONS_INIT;
    options.flags = BELAY_BATCHES_SHUFFLE;
    belay_code code = BELAY_RESOURCE_EXHAUSTED;
    for (size_t n = 1; code != BELAY_OK; n++) {
        int32_t rows[2];
        assert_true(n < 100);
        belay_error_clear(f->err);
        bly_mem_fail_at(n);
        belay_batches *b =
            belay_batches_prepare((const char *const[]){"a", "b"}, arrays, 2, &options, f->err);
        code = b ? belay_batches_next(b, (void *[]){rows, NULL}, NULL, f->err)
                 : belay_error_code(f->err);
        bly_mem_fail_at(0);
        assert_true(code == BELAY_OK || code == BELAY_RESOURCE_EXHAUSTED);
        if (b && code != BELAY_OK)
            assert_ok(f, belay_batches_next(b, (void *[]){rows, NULL}, NULL, f->err));
        belay_batches_free(b);
    }
    belay_npy_free(arrays[0]);
    belay_npy_free(arrays[1]);
}

#define test(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        test(test_batches_next__hands_out_rows_in_order_and_keeps_the_short_batch),
        test(test_batches_next__can_leave_out_the_short_batch),
        test(test_batches_next__goes_on_for_ever_without_a_limit),
        test(test_batches_shuffle__gives_the_published_order),
        test(test_batches_shuffle__hands_out_every_row_once_an_epoch),
        test(test_batches_shuffle__favours_no_order),
        test(test_batches_next__keeps_the_rows_of_all_arrays_together),
        test(test_batches_prepare__says_what_does_not_fit),
        test(test_batches_position__is_a_line_of_json),
        test(test_batches_set_position__goes_on_with_the_next_batch),
        test(test_batches_set_position__takes_another_batch_size),
        test(test_batches_set_position__refuses_one_that_is_not_its_own),
        test(test_batches_position__at_the_end_stays_the_end),
        test(test_batches_next__reads_ahead_in_large_files),
        test(test_batches_next__failing_leaves_the_position),
        test(test_batches__survive_every_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
