/* What everything stands on: buffers, names, files, allocation, time, threads, log lines. */
#include "base/buf.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "base/text_set.h"
#include "base/thread.h"
#include "failing_alloc.h"
#include "log_capture.h"
#include "scratch.h"

#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- sets of names ---- */

static void test_text_set__knows_what_it_was_given(void **state) {
    static char names[3000][8];
    (void)state;
    for (size_t i = 0; i < 3000; i++)
        snprintf(names[i], sizeof names[i], "n%zu", i);
    FAILING_ALLOC(n) {
        bly_text_set set = BLY_TEXT_SET_INIT;
        size_t added = 0;
        assert_false(bly_text_set_has(&set, "n0"));
        while (added < 3000 && bly_text_set_add(&set, names[added]))
            added++;
        for (size_t i = 0; i < 3000; i++)
            assert_int_equal(bly_text_set_has(&set, names[i]), i < added);
        assert_int_equal(added < 3000, failing_alloc_hit());
        assert_int_equal(set.count, added);
        if (added == 3000) {
            assert_int_equal(bly_text_set_add(&set, "n7"), 1); /* the same again */
            assert_int_equal(set.count, 3000);
        }
        assert_false(bly_text_set_has(&set, "n3000"));
        bly_text_set_free(&set);
    }
}

/* ---- buffers ---- */

static void test_buf__grows_and_always_ends_in_a_nul(void **state) {
    (void)state;
    bly_buf buf = BLY_BUF_INIT;
    assert_string_equal(bly_buf_text(&buf), "");
    bly_buf_puts(&buf, "");
    assert_string_equal(bly_buf_text(&buf), "");
    for (int i = 0; i < 1000; i++)
        bly_buf_printf(&buf, "%03d,", i);
    bly_buf_putc(&buf, '.');
    bly_buf_append(&buf, "a\0b", 3);
    assert_int_equal(buf.len, 4004);
    assert_int_equal(strlen(buf.data), 4002);
    assert_memory_equal(buf.data + 3996, "999,.a\0b", 9);
    bly_buf_clear(&buf);
    assert_string_equal(bly_buf_text(&buf), "");
    bly_buf_puts(&buf, "given away");
    char *text = bly_buf_take(&buf);
    assert_string_equal(text, "given away");
    bly_free(text);
    text = bly_buf_take(&buf); /* an empty one gives an empty string */
    assert_string_equal(text, "");
    bly_free(text);
    bly_buf_free(&buf);
}

static void test_buf__remembers_that_memory_was_out(void **state) {
    (void)state;
    FAILING_ALLOC(n) {
        bly_buf buf = BLY_BUF_INIT;
        bly_buf_puts(&buf, "start ");
        bly_buf_printf(&buf, "%0200d", 1);
        bly_buf_puts(&buf, " end");
        char *text = bly_buf_take(&buf);
        assert_int_equal(text == NULL, failing_alloc_hit());
        if (text)
            assert_int_equal(strlen(text), 210);
        bly_free(text);
    }
    bly_buf buf = BLY_BUF_INIT;
    assert_null(bly_buf_reserve(&buf, SIZE_MAX - 8));
    assert_int_equal(buf.failed, 1);
    bly_buf_free(&buf);
}

static void test_buf__json_strings_are_valid_whatever_the_bytes(void **state) {
    (void)state;
    static const struct {
        const char *given, *expected;
    } cases[] = {
        {"", "\"\""},
        {"a\"b\\c", "\"a\\\"b\\\\c\""},
        {"\n\t\x01\x7f", "\"\\u000a\\u0009\\u0001\x7f\""},
        {"h\xc3\xa9llo \xe2\x82\xac \xf0\x9f\x98\x80",
         "\"h\xc3\xa9llo \xe2\x82\xac \xf0\x9f\x98\x80\""},
        {"\xff", "\"\\ufffd\""},
        {"\xc3", "\"\\ufffd\""},
        {"\xc0\xaf", "\"\\ufffd\\ufffd\""},            /* overlong */
        {"\xed\xa0\x80", "\"\\ufffd\\ufffd\\ufffd\""}, /* a surrogate */
        {"\xf5\x80\x80\x80", "\"\\ufffd\\ufffd\\ufffd\\ufffd\""},
        {"\xe2\x82", "\"\\ufffd\\ufffd\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bly_buf buf = BLY_BUF_INIT;
        bly_buf_put_json(&buf, cases[i].given);
        assert_string_equal(bly_buf_text(&buf), cases[i].expected);
        bly_buf_free(&buf);
    }
}

/* ---- text ---- */

static void test_text__suggests_the_name_that_was_meant(void **state) {
    (void)state;
    static const char *const names[] = {"train", "train_op", "loss", "global_step", "x"};
    assert_string_equal(bly_nearest("trian", names, 5), "train");
    assert_string_equal(bly_nearest("golbal_step", names, 5), "global_step");
    assert_string_equal(bly_nearest("los", names, 5), "loss");
    assert_null(bly_nearest("accuracy", names, 5));
    assert_null(bly_nearest("train", names, 0));
    char longest[400];
    memset(longest, 'a', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    const char *const long_names[] = {longest};
    assert_null(bly_nearest(longest, long_names, 1));
    assert_null(bly_nearest("a", long_names, 1));
}

static void test_text__prefixes_and_suffixes(void **state) {
    (void)state;
    assert_true(bly_starts_with("grpc://host", "grpc://"));
    assert_false(bly_starts_with("grpc", "grpc://"));
    assert_true(bly_ends_with("a.meta", ".meta"));
    assert_false(bly_ends_with("meta", ".meta"));
    assert_true(bly_ends_with("", ""));
}

/* ---- files ---- */

static void test_file__paths(void **state) {
    (void)state;
    static const struct {
        const char *directory, *name, *joined;
    } joins[] = {
        {"a", "b", "a/b"}, {"a/", "b", "a/b"}, {"", "b", "b"}, {"a", "/b", "/b"}, {"/", "b", "/b"}};
    for (size_t i = 0; i < sizeof joins / sizeof joins[0]; i++) {
        char *path = bly_path_join(joins[i].directory, joins[i].name);
        assert_string_equal(path, joins[i].joined);
        bly_free(path);
    }
    static const char *const directories[][2] = {
        {"a/b", "a"}, {"b", ""}, {"/b", "/"}, {"a/b/c", "a/b"}};
    for (size_t i = 0; i < sizeof directories / sizeof directories[0]; i++) {
        char *directory = bly_path_directory(directories[i][0]);
        assert_string_equal(directory, directories[i][1]);
        bly_free(directory);
    }
    assert_string_equal(bly_path_base("a/b"), "b");
    assert_string_equal(bly_path_base("b"), "b");
}

/* Names with characters of patterns are names. */
static void test_file__replaces_a_file_whole_under_any_name(void **state) {
    const char *path = scratch_path(state, "run [1] *?/checkpoint");
    char *folder = bly_path_directory(path);
    assert_int_equal(bly_make_directories(folder, NULL), BELAY_OK);
    assert_int_equal(bly_make_directories(folder, NULL), BELAY_OK);
    bly_free(folder);
    assert_int_equal(bly_file_write_atomic(path, "old", 3, NULL), BELAY_OK);
    assert_int_equal(bly_file_write_atomic(path, "newer", 5, NULL), BELAY_OK);
    bly_buf buf = BLY_BUF_INIT;
    assert_int_equal(bly_file_read(path, 5, &buf, NULL), BELAY_OK);
    assert_string_equal(bly_buf_text(&buf), "newer");
    bly_buf_free(&buf);
    struct stat info;
    mode_t mask = umask(0);
    umask(mask);
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777,
                     0666 & ~mask); /* as an ordinary file would have been made */
}

static belay_code count_names(void *self, const char *name, belay_error *err) {
    (void)name;
    (void)err;
    (*(int *)self)++;
    return BELAY_OK;
}

static void test_file__a_failed_write_leaves_the_old_file_and_nothing_else(void **state) {
    const char *folder = scratch_path(state, "");
    const char *blocked = scratch_path(state, "blocked"); /* a folder in the way of the rename */
    int names = 0;
    BLY_LOCAL_ERROR(err);
    assert_int_equal(mkdir(blocked, 0777), 0);
    assert_int_not_equal(bly_file_write_atomic(blocked, "x", 1, &err), BELAY_OK);
    assert_non_null(strstr(belay_error_message(&err), blocked));
    assert_int_equal(bly_directory_list(folder, count_names, &names, NULL), BELAY_OK);
    assert_int_equal(names, 1);
    assert_int_equal(bly_file_write_atomic(scratch_path(state, "no/such/folder"), "x", 1, &err),
                     BELAY_NOT_FOUND);
}

static void test_file__reading_has_a_limit_and_says_what_failed(void **state) {
    const char *path = scratch_path(state, "file");
    bly_buf buf = BLY_BUF_INIT;
    BLY_LOCAL_ERROR(err);
    scratch_write(path, "123456", 6);
    assert_int_equal(bly_file_read(path, 5, &buf, &err), BELAY_INVALID_ARGUMENT);
    bly_buf_clear(&buf);
    assert_int_equal(bly_file_read(scratch_path(state, "missing"), 5, &buf, &err), BELAY_NOT_FOUND);
    assert_int_equal(bly_file_read(scratch_path(state, ""), 5, &buf, &err), BELAY_INVALID_ARGUMENT);
    scratch_write(path, "", 0);
    bly_buf_clear(&buf);
    assert_int_equal(bly_file_read(path, 5, &buf, &err), BELAY_OK);
    assert_int_equal(buf.len, 0);
    bly_buf_free(&buf);
    assert_true(bly_file_exists(path));
    assert_false(bly_is_directory(path));
    assert_int_equal(bly_make_directories(path, &err), BELAY_NOT_FOUND); /* a file is in the way */
}

static void test_file__removes_a_folder_with_its_files(void **state) {
    const char *folder = scratch_path(state, "gone");
    assert_int_equal(bly_make_directories(scratch_path(state, "gone/inner"), NULL), BELAY_OK);
    scratch_write(scratch_path(state, "gone/inner/file"), "x", 1);
    scratch_write(scratch_path(state, "gone/file"), "x", 1);
    assert_int_equal(bly_remove_directory(folder, NULL), BELAY_OK);
    assert_false(bly_is_directory(folder));
    assert_int_equal(bly_remove_directory(folder, NULL), BELAY_OK); /* what is not there is fine */
}

static belay_code append_name(void *self, const char *name, belay_error *err) {
    bly_buf_printf(self, "%s ", name);
    return strcmp(name, "b") == 0 ? bly_fail(err, BELAY_ABORTED, "enough") : BELAY_OK;
}

static void test_file__lists_in_order_until_told_to_stop(void **state) {
    scratch_write(scratch_path(state, "c"), "", 0);
    scratch_write(scratch_path(state, "b"), "", 0);
    scratch_write(scratch_path(state, ".a"), "", 0);
    bly_buf names = BLY_BUF_INIT;
    assert_int_equal(bly_directory_list(scratch_path(state, ""), append_name, &names, NULL),
                     BELAY_ABORTED);
    assert_string_equal(bly_buf_text(&names), ".a b ");
    bly_buf_free(&names);
}

/* ---- allocation ---- */

static void test_mem__grows_an_array_and_refuses_overflow(void **state) {
    (void)state;
    int *items = NULL;
    size_t capacity = 0;
    for (size_t i = 0; i < 1000; i++) {
        assert_true(bly_grow(&items, i, &capacity, sizeof *items));
        assert_true(capacity > i);
        items[i] = (int)i;
    }
    assert_int_equal(items[999], 999);
    size_t huge = SIZE_MAX / 4;
    assert_false(bly_grow(&items, huge, &huge, sizeof *items));
    assert_int_equal(items[999], 999);
    bly_free(items);
    assert_non_null(items = bly_calloc(0, 4)); /* NULL means that memory is out, and nothing else */
    bly_free(items);
    assert_non_null(items = bly_malloc(0));
    bly_free(items);
    bly_free(NULL);
}

/* ---- time ---- */

static void test_clock__deadlines_do_not_overflow(void **state) {
    (void)state;
    int64_t now = bly_now_us();
    assert_true(bly_deadline_after_secs(-1) - now < 1000000);
    assert_true(bly_deadline_after_secs(NAN) - now < 1000000);
    assert_true(bly_deadline_after_secs(INFINITY) == BLY_NEVER);
    assert_true(bly_deadline_after_secs(1e300) == BLY_NEVER);
    int64_t hour = bly_deadline_after_secs(3600) - now;
    assert_true(hour >= INT64_C(3600000000) && hour < INT64_C(3605000000));
}

static void test_clock__a_wait_really_ends_at_its_deadline(void **state) {
    (void)state;
    bly_mutex lock;
    bly_cond cond;
    bly_mutex_init(&lock);
    bly_cond_init(&cond);
    bly_mutex_lock(&lock);
    int64_t start = bly_now_us(), deadline = start + 30000;
    while (bly_wait_until(&cond, &lock, deadline))
        ;
    assert_true(bly_now_us() - start >= 30000);
    assert_int_equal(bly_wait_until(&cond, &lock, start), 0);
    bly_mutex_unlock(&lock);
    bly_cond_clean_up(&cond);
    bly_mutex_clean_up(&lock);
}

/* ---- threads ---- */

struct seen {
    bly_mutex lock;
    bly_cond cond;
    sigset_t signals;
    char name[16];
    int go;
};

static void look_around(void *self) {
    struct seen *seen = self;
    bly_mutex_lock(&seen->lock);
    while (!seen->go)
        bly_wait_until(&seen->cond, &seen->lock, BLY_NEVER);
    pthread_sigmask(SIG_SETMASK, NULL, &seen->signals);
    FILE *file = fopen("/proc/thread-self/comm", "r");
    if (file && fscanf(file, "%15[^\n]", seen->name) != 1)
        seen->name[0] = '\0';
    if (file)
        fclose(file);
    bly_mutex_unlock(&seen->lock);
}

static void test_thread__blocks_the_hosts_signals_and_bears_its_name(void **state) {
    (void)state;
    struct seen seen;
    memset(&seen, 0, sizeof seen);
    bly_mutex_init(&seen.lock);
    bly_cond_init(&seen.cond);
    BLY_LOCAL_ERROR(err);
    bly_thread *t = bly_thread_start("belay-test-with-a-long-name", look_around, &seen, &err);
    assert_non_null(t);
    assert_string_equal(bly_thread_name(t), "belay-test-with-a-long-name");
    assert_int_equal(bly_thread_is_done(t), 0);
    bly_mutex_lock(&seen.lock);
    seen.go = 1;
    bly_cond_signal_all(&seen.cond);
    bly_mutex_unlock(&seen.lock);
    bly_thread_join(t);
    assert_string_equal(seen.name, "belay-test-with");
    static const int signals[] = {SIGTERM, SIGINT, SIGUSR1, SIGHUP, SIGALRM, SIGCHLD};
    sigset_t here;
    pthread_sigmask(SIG_SETMASK, NULL, &here);
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++) {
        assert_int_equal(sigismember(&seen.signals, signals[i]), 1);
        assert_int_equal(sigismember(&here, signals[i]), 0); /* the starter's own mask stays */
    }
    bly_cond_clean_up(&seen.cond);
    bly_mutex_clean_up(&seen.lock);
    bly_thread_join(NULL);
    bly_thread_abandon(NULL);
}

/* ---- log ---- */

static void test_log__hands_over_lines_from_a_level_on(void **state) {
    (void)state;
    log_capture_start(BELAY_LOG_INFO);
    bly_debug("too %s", "low");
    bly_info("seen %d", 1);
    bly_warn("seen %d", 2);
    bly_error("seen %d", 3);
    assert_int_equal(log_capture_count(NULL), 3);
    assert_string_equal(log_capture_find("seen 2"), "seen 2");
    log_capture_stop();
}

/* belay/log.h promises one line of UTF-8, whoever wrote it. */
static void test_log__a_line_is_one_line_of_utf8(void **state) {
    (void)state;
    char longer[4200];
    memset(longer, 'x', sizeof longer);
    memcpy(longer + 4094, "\xc3\xa4", 3); /* is cut in two */
    log_capture_start(BELAY_LOG_INFO);
    bly_info("%s", "first\nsecond\t\x1b[31m\xff \xc3\xa4\n");
    bly_info("%s", longer);
    assert_string_equal(log_capture_find("first"), "first second  [31m? \xc3\xa4");
    const char *cut = log_capture_find("xxx");
    assert_int_equal(strlen(cut), 4095);
    assert_string_equal(cut + 4093, "x?");
    log_capture_stop();
}

#define IN_FOLDER(name) cmocka_unit_test_setup_teardown(name, scratch_set_up, scratch_tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text_set__knows_what_it_was_given),
        cmocka_unit_test(test_buf__grows_and_always_ends_in_a_nul),
        cmocka_unit_test(test_buf__remembers_that_memory_was_out),
        cmocka_unit_test(test_buf__json_strings_are_valid_whatever_the_bytes),
        cmocka_unit_test(test_text__suggests_the_name_that_was_meant),
        cmocka_unit_test(test_text__prefixes_and_suffixes),
        cmocka_unit_test(test_file__paths),
        IN_FOLDER(test_file__replaces_a_file_whole_under_any_name),
        IN_FOLDER(test_file__a_failed_write_leaves_the_old_file_and_nothing_else),
        IN_FOLDER(test_file__reading_has_a_limit_and_says_what_failed),
        IN_FOLDER(test_file__removes_a_folder_with_its_files),
        IN_FOLDER(test_file__lists_in_order_until_told_to_stop),
        cmocka_unit_test(test_mem__grows_an_array_and_refuses_overflow),
        cmocka_unit_test(test_clock__deadlines_do_not_overflow),
        cmocka_unit_test(test_clock__a_wait_really_ends_at_its_deadline),
        cmocka_unit_test(test_thread__blocks_the_hosts_signals_and_bears_its_name),
        cmocka_unit_test(test_log__hands_over_lines_from_a_level_on),
        cmocka_unit_test(test_log__a_line_is_one_line_of_utf8),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
