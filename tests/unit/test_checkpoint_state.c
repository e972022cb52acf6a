/* The state file, and what a folder of checkpoints holds: section CK of the behaviour, and the bugs
 * around it. */
#define _GNU_SOURCE
#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/text.h"
#include "checkpoint/manifest.h"
#include "checkpoint/state.h"
#include "failing_alloc.h"
#include "scratch.h"

#include <belay/checkpoint.h>
#include <belay/log.h>

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static void write_text(void **state, const char *name, const char *text) {
    scratch_write(scratch_path(state, name), text, strlen(text));
}

static void assert_text(const char *path, const char *wanted) {
    size_t size;
    char *text = (char *)scratch_read(path, &size);
    assert_string_equal(text, wanted);
    free(text);
}

/* Copies a whole bundle to another name. */
static void make_checkpoint(void **state, const char *name, time_t seconds) {
    static const char *const suffixes[] = {".index", ".data-00000-of-00001"};
    char path[4200];
    for (size_t i = 0; i < 2; i++) {
        char from[4200];
        snprintf(from, sizeof from, "%s/bundle/plain%s", TEST_DATA, suffixes[i]);
        snprintf(path, sizeof path, "%s%s", scratch_path(state, name), suffixes[i]);
        scratch_copy(from, path);
        struct timespec times[2] = {{.tv_sec = seconds}, {.tv_sec = seconds}};
        assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
    }
}

/* ---- Reading ---- */

/* CK-01, CK-02, CK-12: fields, and relative paths that are joined as text. */
static void test_state_read__joins_relative_paths_to_the_folder(void **state) {
    char wanted[4200];
    bly_state read;
    write_text(state, "checkpoint",
               "model_checkpoint_path: \"./b-2\"\n"
               "all_model_checkpoint_paths: \"/else/a-1\"\n"
               "all_model_checkpoint_paths: \"./b-2\"\n"
               "all_model_checkpoint_timestamps: 1.5\n"
               "all_model_checkpoint_timestamps: 1700000000.25\n"
               "last_preserved_timestamp: 3.0\n");
    assert_int_equal(bly_state_read(*state, NULL, &read, NULL), BELAY_OK);
    snprintf(wanted, sizeof wanted, "%s/./b-2", (const char *)*state);
    assert_string_equal(read.latest, wanted);
    assert_int_equal(read.count, 2);
    assert_string_equal(read.paths[0], "/else/a-1");
    assert_string_equal(read.paths[1], wanted);
    assert_true(read.timestamps[0] == 1.5 && read.timestamps[1] == 1700000000.25);
    assert_true(read.has_last_preserved && read.last_preserved == 3.0);
    bly_state_free(&read);
}

static void test_state_read__knows_other_names_of_the_file(void **state) {
    bly_state read;
    write_text(state, "latest", "model_checkpoint_path: \"x\"");
    assert_int_equal(bly_state_read(*state, "latest", &read, NULL), BELAY_OK);
    assert_int_equal(read.count, 0);
    assert_null(read.timestamps);
    bly_state_free(&read);
}

/* CK-10, CK-11, ER-21: missing, unparsable (unknown fields too), without a path. */
static void test_state_read__tells_missing_from_damaged(void **state) {
    static const char *const bad[] = {"model_checkpoint_path: \"a",
                                      "model_checkpoint: \"a\"",
                                      "\x01\x02\x03",
                                      "model_checkpoint_path: \"a\" }",
                                      "\xff",
                                      "model_checkpoint_path: 3"};
    bly_state read;
    BLY_LOCAL_ERROR(err);
    const char *path = scratch_path(state, "checkpoint");
    assert_int_equal(bly_state_read(*state, NULL, &read, &err), BELAY_NOT_FOUND);
    assert_int_equal(bly_state_read("/nowhere/at/all", NULL, &read, &err), BELAY_NOT_FOUND);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        write_text(state, "checkpoint", bad[i]);
        assert_int_equal(bly_state_read(*state, NULL, &read, &err), BELAY_DATA_LOSS);
        assert_non_null(strstr(err.message, path));
        assert_null(read.latest);
    }
    write_text(state, "checkpoint", "");
    assert_int_equal(bly_state_read(*state, NULL, &read, &err), BELAY_DATA_LOSS);
    assert_non_null(strstr(err.message, "Invalid checkpoint state loaded from"));
    write_text(state, "checkpoint", "all_model_checkpoint_paths: \"x\"");
    assert_int_equal(bly_state_read(*state, NULL, &read, &err), BELAY_DATA_LOSS);
    assert_null(read.paths);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkdir(path, 0777), 0);
    assert_int_equal(bly_state_read(*state, NULL, &read, &err), BELAY_DATA_LOSS);
}

/* CK-13 and CK-14, and BUG-38: a folder named like a pattern is a folder. */
static void test_state_latest__needs_the_index_to_be_there(void **state) {
    char *latest, *named;
    const char *folder = scratch_path(state, "run[1]*?");
    assert_int_equal(mkdir(folder, 0777), 0);
    assert_int_equal(bly_state_latest(folder, NULL, &latest, &named, NULL), BELAY_OK);
    assert_null(latest);
    assert_null(named);
    write_text(state, "run[1]*?/checkpoint", "model_checkpoint_path: \"m-1\"\n");
    assert_int_equal(bly_state_latest(folder, NULL, &latest, &named, NULL), BELAY_OK);
    assert_null(latest);
    assert_string_equal(named, scratch_path(state, "run[1]*?/m-1"));
    bly_free(named);
    write_text(state, "run[1]*?/m-1.index", "anything");
    assert_int_equal(bly_state_latest(folder, NULL, &latest, &named, NULL), BELAY_OK);
    assert_string_equal(latest, scratch_path(state, "run[1]*?/m-1"));
    assert_null(named);
    bly_free(latest);
    write_text(state, "run[1]*?/checkpoint", "what");
    assert_int_equal(bly_state_latest(folder, NULL, &latest, &named, NULL), BELAY_DATA_LOSS);
}

static void test_checkpoint_exists__takes_the_index_or_the_old_format(void **state) {
    const char *prefix = scratch_path(state, "m-1");
    assert_false(bly_checkpoint_exists(prefix));
    assert_int_equal(mkdir(prefix, 0777), 0);
    assert_true(bly_checkpoint_exists(prefix)); /* a folder of that name, too */
    assert_int_equal(rmdir(prefix), 0);
    write_text(state, "m-1.index", "");
    assert_true(bly_checkpoint_exists(prefix)); /* CK-14 */
    write_text(state, "v1", "");
    assert_true(bly_checkpoint_exists(scratch_path(state, "v1")));
}

/* CK-15: seconds; SV-38 uses the same. */
static void test_checkpoint_mtime__is_the_indexs_in_seconds(void **state) {
    double seconds = 1;
    struct timespec times[2] = {{0}, {.tv_sec = 1700000000, .tv_nsec = 500000000}};
    assert_int_equal(bly_checkpoint_mtime(scratch_path(state, "m"), &seconds), 0);
    assert_true(seconds == 0);
    write_text(state, "m.index", "");
    assert_int_equal(utimensat(AT_FDCWD, scratch_path(state, "m.index"), times, 0), 0);
    assert_int_equal(bly_checkpoint_mtime(scratch_path(state, "m"), &seconds), 1);
    assert_true(seconds == 1700000000.5);
}

/* ---- Writing ---- */

static void add(bly_state *to, const char *path) {
    assert_int_equal(bly_state_add(to, path, NULL), BELAY_OK);
}

static void set_latest(bly_state *to, const char *path) {
    bly_free(to->latest);
    to->latest = bly_strdup(path);
}

/* CK-03: rendering and escapes, as Python's text_format does it. */
static void test_state_write__renders_what_tensorflow_renders(void **state) {
    bly_state written = BLY_STATE_INIT;
    int appended = 1;
    add(&written, "/r/m-1");
    add(&written, "/r/it's \"m\"\\\t\001\xc3\xa9-2");
    set_latest(&written, written.paths[1]);
    assert_int_equal(bly_state_write(*state, NULL, &written, 0, &appended, NULL), BELAY_OK);
    assert_int_equal(appended, 0);
    assert_text(scratch_path(state, "checkpoint"),
                "model_checkpoint_path: \"/r/it\\'s \\\"m\\\"\\\\\\t\\001\xc3\xa9-2\"\n"
                "all_model_checkpoint_paths: \"/r/m-1\"\n"
                "all_model_checkpoint_paths: \"/r/it\\'s \\\"m\\\"\\\\\\t\\001\xc3\xa9-2\"\n");
    bly_state read;
    assert_int_equal(bly_state_read(*state, NULL, &read, NULL), BELAY_OK);
    assert_string_equal(read.latest, written.latest);
    bly_state_free(&read);
    bly_state_free(&written);
}

/* CK-04, and SV-30: an empty list becomes the newest alone. */
static void test_state_write__appends_the_newest(void **state) {
    bly_state written = BLY_STATE_INIT;
    int appended = 0;
    set_latest(&written, "/r/m-2");
    assert_int_equal(bly_state_write(*state, NULL, &written, 0, &appended, NULL), BELAY_OK);
    assert_int_equal(appended, 1);
    assert_text(scratch_path(state, "checkpoint"),
                "model_checkpoint_path: \"/r/m-2\"\nall_model_checkpoint_paths: \"/r/m-2\"\n");
    add(&written, "/r/m-3");
    assert_int_equal(bly_state_write(*state, NULL, &written, 0, &appended, NULL), BELAY_OK);
    assert_int_equal(appended, 1);
    assert_text(scratch_path(state, "checkpoint"),
                "model_checkpoint_path: \"/r/m-2\"\nall_model_checkpoint_paths: \"/r/m-3\"\n"
                "all_model_checkpoint_paths: \"/r/m-2\"\n");
    bly_state_free(&written);
}

/* CK-05: a relative folder. */
static void test_state_write__makes_paths_relative_to_a_relative_folder(void **state) {
    bly_state written = BLY_STATE_INIT;
    char *here = getcwd(NULL, 0);
    assert_int_equal(chdir(*state), 0);
    assert_int_equal(mkdir("run", 0777), 0);
    add(&written, "run/m-1");
    add(&written, "/else/m-2");
    add(&written, "other/m-3");
    add(&written, "run/.//sub/../m-4");
    set_latest(&written, "run/.//sub/../m-4");
    assert_int_equal(bly_state_write("run", NULL, &written, 0, NULL, NULL), BELAY_OK);
    assert_text("run/checkpoint", "model_checkpoint_path: \"m-4\"\n"
                                  "all_model_checkpoint_paths: \"m-1\"\n"
                                  "all_model_checkpoint_paths: \"/else/m-2\"\n"
                                  "all_model_checkpoint_paths: \"../other/m-3\"\n"
                                  "all_model_checkpoint_paths: \"m-4\"\n");
    assert_int_equal(bly_state_write("", NULL, &written, 0, NULL, NULL), BELAY_OK);
    assert_text("checkpoint", "model_checkpoint_path: \"run/m-4\"\n"
                              "all_model_checkpoint_paths: \"run/m-1\"\n"
                              "all_model_checkpoint_paths: \"/else/m-2\"\n"
                              "all_model_checkpoint_paths: \"other/m-3\"\n"
                              "all_model_checkpoint_paths: \"run/m-4\"\n");
    assert_int_equal(chdir(here), 0);
    free(here);
    bly_state_free(&written);
}

/* CK-05, other half, and CK-06: an absolute folder. */
static void test_state_write__keeps_paths_in_an_absolute_folder_unless_told(void **state) {
    bly_state written = BLY_STATE_INIT;
    add(&written, "run/m-1");
    add(&written, "/elsewhere");
    add(&written, scratch_path(state, "m-2"));
    set_latest(&written, scratch_path(state, "m-2"));
    assert_int_equal(bly_state_write(*state, NULL, &written, 0, NULL, NULL), BELAY_OK);
    bly_state read;
    assert_int_equal(bly_state_read(*state, NULL, &read, NULL), BELAY_OK);
    assert_string_equal(read.latest, scratch_path(state, "m-2"));
    assert_string_equal(read.paths[0], scratch_path(state, "run/m-1"));
    bly_state_free(&read);
    assert_int_equal(bly_state_write(*state, NULL, &written, 1, NULL, NULL), BELAY_OK);
    assert_int_equal(bly_state_read("", scratch_path(state, "checkpoint"), &read, NULL), BELAY_OK);
    assert_string_equal(read.latest, "m-2");
    assert_string_equal(read.paths[0], "run/m-1");
    assert_true(bly_starts_with(read.paths[1], "../"));
    assert_true(bly_ends_with(read.paths[1], "../elsewhere"));
    bly_state_free(&read);
    bly_state_free(&written);
}

/* CK-07, CK-08, SV-19; and what was there stays. */
static void test_state_write__refuses_what_cannot_be_right(void **state) {
    bly_state written = BLY_STATE_INIT;
    BLY_LOCAL_ERROR(err);
    write_text(state, "checkpoint", "as it was");
    assert_int_equal(bly_state_write(*state, NULL, &written, 0, NULL, &err),
                     BELAY_INVALID_ARGUMENT);
    set_latest(&written, scratch_path(state, "checkpoint"));
    assert_int_equal(bly_state_write(*state, NULL, &written, 0, NULL, &err),
                     BELAY_FAILED_PRECONDITION);
    assert_non_null(strstr(err.message, "conflicts with path used for checkpoint state"));
    set_latest(&written, "/r/m-1");
    assert_int_equal(bly_state_write(*state, "a/b", &written, 0, NULL, &err),
                     BELAY_INVALID_ARGUMENT);
    add(&written, "/r/m-0");
    written.timestamps = calloc(1, sizeof *written.timestamps);
    assert_int_equal(bly_state_write(*state, NULL, &written, 0, NULL, &err),
                     BELAY_INVALID_ARGUMENT);
    assert_non_null(strstr(err.message, "must match"));
    assert_text(scratch_path(state, "checkpoint"), "as it was");
    assert_int_not_equal(
        bly_state_write(scratch_path(state, "no/folder"), NULL, &written, 0, NULL, &err), BELAY_OK);
    bly_state_free(&written);
}

static void test_state_write__carries_timestamps(void **state) {
    bly_state written = BLY_STATE_INIT;
    set_latest(&written, "/r/m-1");
    add(&written, "/r/m-1");
    written.timestamps = calloc(1, sizeof *written.timestamps);
    written.timestamps[0] = 1700000000.123;
    written.has_last_preserved = 1;
    written.last_preserved = 5;
    assert_int_equal(bly_state_write(*state, "s", &written, 0, NULL, NULL), BELAY_OK);
    assert_text(scratch_path(state, "s"), "model_checkpoint_path: \"/r/m-1\"\n"
                                          "all_model_checkpoint_paths: \"/r/m-1\"\n"
                                          "all_model_checkpoint_timestamps: 1700000000.123\n"
                                          "last_preserved_timestamp: 5.0\n");
    bly_state_free(&written);
}

/* SV-31 and CK-17: saved again, a path moves to the end; a step that is lower does too. */
static void test_state_add__moves_a_known_path_to_the_end(void **state) {
    (void)state;
    bly_state list = BLY_STATE_INIT;
    add(&list, "m-0");
    add(&list, "m-2");
    add(&list, "m-0");
    assert_int_equal(list.count, 2);
    assert_string_equal(list.paths[0], "m-2");
    assert_string_equal(list.paths[1], "m-0");
    bly_state_free(&list);
}

/* CK-09: the file is another one afterwards, and nothing is left beside it. */
static belay_code count_names(void *self, const char *name, belay_error *err) {
    (void)name;
    (void)err;
    ++*(int *)self;
    return BELAY_OK;
}

static void test_state_write__replaces_the_file_at_once(void **state) {
    bly_state written = BLY_STATE_INIT;
    struct stat before, after;
    int names = 0;
    set_latest(&written, "/r/m-1");
    assert_int_equal(bly_state_write(*state, NULL, &written, 0, NULL, NULL), BELAY_OK);
    int fd =
        open(scratch_path(state, "checkpoint"), O_RDONLY); /* keeps the number from being reused */
    assert_int_equal(fstat(fd, &before), 0);
    assert_int_equal(bly_state_write(*state, NULL, &written, 0, NULL, NULL), BELAY_OK);
    assert_int_equal(stat(scratch_path(state, "checkpoint"), &after), 0);
    assert_true(before.st_ino != after.st_ino);
    close(fd);
    assert_int_equal(bly_directory_list(*state, count_names, &names, NULL), BELAY_OK);
    assert_int_equal(names, 1);
    bly_state_free(&written);
}

static void test_state__survives_every_failing_allocation(void **state) {
    bly_state written = BLY_STATE_INIT, read;
    BLY_LOCAL_ERROR(err);
    set_latest(&written, "/r/m-1");
    add(&written, "/r/m-1");
    FAILING_ALLOC(n) {
        belay_code code = bly_state_write(*state, NULL, &written, 1, NULL, &err);
        if (code == BELAY_OK)
            code = bly_state_read(*state, NULL, &read, &err);
        if (code == BELAY_OK)
            bly_state_free(&read);
        assert_int_equal(code, failing_alloc_hit() ? BELAY_RESOURCE_EXHAUSTED : BELAY_OK);
    }
    bly_state_free(&written);
}

/* ---- Files ---- */

/* SV-36 and BUG-38: exactly the checkpoint's own files, whatever characters its name has. */
static void test_checkpoint_remove__takes_its_own_files_and_no_others(void **state) {
    static const char *const own[] = {"m[1]*-5.index", "m[1]*-5.meta", "m[1]*-5.belay.json",
                                      "m[1]*-5.data-00000-of-00002", "m[1]*-5.data-00001-of-00002"};
    static const char *const others[] = {"m1x-5.index",
                                         "m1x-5.data-00000-of-00001",
                                         "m[1]*-50.index",
                                         "m[1]*-5.data-00000-of-00002.tempstate1",
                                         "m[1]*-5.data-0000-of-00002",
                                         "m[1]*-5.data-abcde-of-fghij",
                                         "m[1]*-5x.data-00000-of-00001",
                                         "checkpoint"};
    BLY_LOCAL_ERROR(err);
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++)
        write_text(state, own[i], "x");
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        write_text(state, others[i], "x");
    if (bly_checkpoint_remove(scratch_path(state, "m[1]*-5"), &err) != BELAY_OK)
        fail_msg("%s", err.message);
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++)
        assert_false(bly_file_exists(scratch_path(state, own[i])));
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        assert_true(bly_file_exists(scratch_path(state, others[i])));
    /* CK-16: what is gone already is no failure */
    assert_int_equal(bly_checkpoint_remove(scratch_path(state, "m[1]*-5"), &err), BELAY_OK);
    assert_int_equal(bly_checkpoint_remove(scratch_path(state, "no/folder"), &err), BELAY_OK);
}

static void test_checkpoint_remove__goes_on_after_a_failure(void **state) {
    BLY_LOCAL_ERROR(err);
    write_text(state, "m-5.index", "x");
    write_text(state, "m-5.data-00000-of-00001", "x");
    assert_int_equal(mkdir(scratch_path(state, "m-5.meta"), 0777), 0); /* cannot be unlinked */
    assert_int_not_equal(bly_checkpoint_remove(scratch_path(state, "m-5"), &err), BELAY_OK);
    assert_non_null(strstr(err.message, "m-5.meta"));
    assert_false(bly_file_exists(scratch_path(state, "m-5.index")));
    assert_false(bly_file_exists(scratch_path(state, "m-5.data-00000-of-00001")));
}

static void test_checkpoint_names__are_taken_apart(void **state) {
    (void)state;
    static const struct {
        const char *prefix;
        int64_t step;
    } steps[] = {{"run/model.ckpt-500", 500},
                 {"m-00000012", 12},
                 {"m", BELAY_NO_STEP},
                 {"m-", BELAY_NO_STEP},
                 {"run-3/m", BELAY_NO_STEP},
                 {"m-5x", BELAY_NO_STEP},
                 {"m--5", -5},
                 {"r-1/m--00000005", -5},
                 {"--5", 5},
                 {"-5", BELAY_NO_STEP},
                 {"m-9223372036854775807", INT64_MAX},
                 {"m-9223372036854775808", BELAY_NO_STEP}};
    /* SV-39 */
    static const struct {
        const char *prefix, *meta;
    } metas[] = {{"r/m-5", "r/m-5.meta"},
                 {"r/m-5-00001-of-00003", "r/m-5.meta"},
                 {"r/m-5-\?\?\?\?\?-of-00003", "r/m-5.meta"},
                 {"r/m-of-3", "r/m-of-3.meta"},
                 {"r/m-5-of-x", "r/m-5-of-x.meta"},
                 {"r/m-5-of-3x", "r/m-5-of-3x.meta"},
                 {"a-1-of-2-of-3", "a-1-of.meta"}};
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++)
        assert_int_equal(bly_checkpoint_step_of(steps[i].prefix), steps[i].step);
    for (size_t i = 0; i < sizeof metas / sizeof metas[0]; i++) {
        char *name = bly_checkpoint_meta_name(metas[i].prefix);
        assert_string_equal(name, metas[i].meta);
        bly_free(name);
    }
}

/* --- What a folder holds (BUG-32)
 * -------------------------------------------------------------------------------- */

static void test_checkpoint_scan__finds_what_is_there_oldest_first(void **state) {
    bly_found_list found;
    make_checkpoint(state, "model.ckpt-20", 1000);
    make_checkpoint(state, "model.ckpt-100", 1000);
    make_checkpoint(state, "other-20", 900);
    make_checkpoint(state, "nameless", 5000);
    make_checkpoint(state, "model.ckpt-30", 1000);
    assert_int_equal(unlink(scratch_path(state, "model.ckpt-30.data-00000-of-00001")), 0);
    write_text(state, "model.ckpt-40.index", "torn"); /* no data, but a step in its name */
    write_text(state, "book.index", "nothing to do with us");
    write_text(state, "model.ckpt-100.belay.json", "{}");
    assert_int_equal(mkdir(scratch_path(state, "folder-1.index"), 0777), 0);
    assert_int_equal(mkfifo(scratch_path(state, "pipe-1.index"), 0666), 0);
    assert_int_equal(bly_checkpoint_scan(*state, NULL, &found, NULL), BELAY_OK);
    static const struct {
        const char *name;
        int64_t step;
        int complete;
    } wanted[] = {{"nameless", BELAY_NO_STEP, 1}, {"other-20", 20, 1},
                  {"model.ckpt-20", 20, 1},       {"model.ckpt-30", 30, 0},
                  {"model.ckpt-40", 40, 0},       {"model.ckpt-100", 100, 1}};
    assert_int_equal(found.count, 6);
    for (size_t i = 0; i < 6; i++) {
        assert_string_equal(found.items[i].prefix, scratch_path(state, wanted[i].name));
        assert_int_equal(found.items[i].step, wanted[i].step);
        assert_int_equal(found.items[i].complete, wanted[i].complete);
        assert_int_equal(found.items[i].code, wanted[i].complete ? BELAY_OK : BELAY_DATA_LOSS);
        assert_int_equal(found.items[i].problem == NULL, wanted[i].complete);
        assert_int_equal(found.items[i].has_manifest, i == 5);
    }
    assert_non_null(strstr(found.items[3].problem, "is missing"));
    assert_int_equal(found.items[0].size_bytes, 499 + 720);
    assert_true(found.items[0].mtime == 5000);
    bly_found_list_free(&found);

    assert_int_equal(bly_checkpoint_scan(*state, "model.ckpt", &found, NULL), BELAY_OK);
    assert_int_equal(found.count, 4);
    bly_found_list_free(&found);
    assert_int_equal(bly_checkpoint_scan(*state, "nameless", &found, NULL), BELAY_OK);
    assert_int_equal(found.count, 1);
    bly_found_list_free(&found);
    assert_int_equal(bly_checkpoint_scan(scratch_path(state, "none"), NULL, &found, NULL),
                     BELAY_OK);
    assert_int_equal(found.count, 0);
}

/* --- The public face
 * --------------------------------------------------------------------------------------------- */

static int warnings;

static void count_warning(void *self, belay_log_level level, const char *message) {
    (void)self;
    (void)message;
    warnings += level >= BELAY_LOG_WARNING;
}

static void assert_latest(void **state, const char *wanted, int wanted_warnings) {
    BLY_LOCAL_ERROR(err);
    warnings = 0;
    belay_log_set_callback(count_warning, NULL, BELAY_LOG_WARNING);
    char *latest = belay_latest_checkpoint(*state, &err);
    belay_log_set_callback(NULL, NULL, BELAY_LOG_WARNING);
    if (!latest)
        fail_msg("%s", err.message);
    assert_string_equal(latest, scratch_path(state, wanted));
    assert_int_equal(warnings, wanted_warnings);
    belay_checkpoint_path_free(latest);
}

/* BUG-32 and BUG-33: the state file decides; where it leads nowhere, what lies there does. */
static void test_latest_checkpoint__never_overlooks_one(void **state) {
    BLY_LOCAL_ERROR(err);
    assert_null(belay_latest_checkpoint(*state, &err));
    assert_int_equal(err.code, BELAY_NOT_FOUND);
    make_checkpoint(state, "m-1", 1000);
    make_checkpoint(state, "m-2", 2000);
    assert_latest(state, "m-2", 1); /* no state file */
    write_text(state, "checkpoint", "model_checkpoint_path: \"m-1\"");
    assert_latest(state, "m-1", 0);
    write_text(state, "checkpoint",
               "model_checkpoint_path: \"m-3\" all_model_checkpoint_paths: [\"m-1\", \"m-3\"]");
    assert_latest(state, "m-1", 2); /* an older one that is listed */
    write_text(state, "checkpoint", "model_checkpoint_path: \"m-3\"");
    assert_latest(state, "m-2", 2);
    write_text(state, "checkpoint", "garbage");
    assert_latest(state, "m-2", 3); /* CK-10: two lines, and where it goes on */
    assert_int_equal(truncate(scratch_path(state, "m-2.index"), 10), 0);
    assert_latest(state, "m-1", 3);
    assert_int_equal(truncate(scratch_path(state, "m-1.index"), 10), 0);
    belay_log_set_callback(count_warning, NULL, BELAY_LOG_WARNING);
    assert_null(belay_latest_checkpoint(*state, &err));
    belay_log_set_callback(NULL, NULL, BELAY_LOG_WARNING);
    assert_int_equal(err.code, BELAY_DATA_LOSS);
    assert_non_null(strstr(err.message, "m-2.index"));
}

/* Work that grew with the square of the entries would take minutes. */
static void test_checkpoint_list__takes_a_state_file_of_100000_entries(void **state) {
    bly_buf text = BLY_BUF_INIT;
    make_checkpoint(state, "m-3", 1000);
    bly_buf_puts(&text, "model_checkpoint_path: \"m-100000\"\n");
    for (int i = 1; i <= 100000; i++)
        bly_buf_printf(&text, "all_model_checkpoint_paths: \"m-%d\"\n", i);
    write_text(state, "checkpoint", text.data);
    bly_buf_free(&text);
    time_t started = time(NULL);
    belay_checkpoint_list *list = belay_checkpoint_list_load(*state, NULL);
    assert_int_equal(belay_checkpoint_list_count(list), 1);
    assert_int_equal(belay_checkpoint_list_at(list, 0)->flags,
                     BELAY_CHECKPOINT_COMPLETE | BELAY_CHECKPOINT_LISTED);
    belay_checkpoint_list_free(list);
    char *latest = belay_latest_checkpoint(*state, NULL);
    assert_string_equal(latest, scratch_path(state, "m-3"));
    belay_checkpoint_path_free(latest);
    assert_in_range(time(NULL) - started, 0, 30);
}

static void test_checkpoint_list__says_what_it_knows_of_each(void **state) {
    bly_manifest manifest = BLY_MANIFEST_INIT;
    manifest.saved_unix_ms = 1234567;
    manifest.step = 7;
    manifest.pinned = 1;
    make_checkpoint(state, "m", 1000);
    make_checkpoint(state, "m-2", 2000);
    make_checkpoint(state, "m-3", 3000);
    make_checkpoint(state, "m-4", 4000);
    assert_int_equal(bly_manifest_write(scratch_path(state, "m"), &manifest, NULL), BELAY_OK);
    write_text(state, "m-3.belay.json", "{");
    char text[8400];
    snprintf(text, sizeof text,
             "model_checkpoint_path: \"./m-3\"\nall_model_checkpoint_paths: \"%s\"\n",
             scratch_path(state, "m-2"));
    write_text(state, "checkpoint", text);
    belay_checkpoint_list *list = belay_checkpoint_list_load(*state, NULL);
    assert_non_null(list);
    assert_int_equal(belay_checkpoint_list_count(list), 4);
    assert_null(belay_checkpoint_list_state_problem(list));
    const belay_checkpoint_info *info = belay_checkpoint_list_at(list, 0);
    assert_int_equal(info->step, 7);
    assert_int_equal(info->saved_unix_ms, 1234567);
    assert_int_equal(info->flags, BELAY_CHECKPOINT_COMPLETE | BELAY_CHECKPOINT_MANIFEST |
                                      BELAY_CHECKPOINT_PINNED);
    info = belay_checkpoint_list_at(list, 1);
    assert_string_equal(info->prefix, scratch_path(state, "m-2"));
    assert_int_equal(info->saved_unix_ms, 2000000);
    assert_int_equal(info->flags, BELAY_CHECKPOINT_COMPLETE | BELAY_CHECKPOINT_LISTED);
    info = belay_checkpoint_list_at(list, 2);
    assert_int_equal(info->flags,
                     BELAY_CHECKPOINT_COMPLETE | BELAY_CHECKPOINT_LISTED | BELAY_CHECKPOINT_LATEST);
    assert_non_null(strstr(info->problem, "m-3.belay.json"));
    assert_int_equal(belay_checkpoint_list_at(list, 3)->flags, BELAY_CHECKPOINT_COMPLETE);
    assert_null(belay_checkpoint_list_at(list, 4));
    belay_checkpoint_list_free(list);
    bly_manifest_free(&manifest);

    write_text(state, "checkpoint", "what");
    list = belay_checkpoint_list_load(*state, NULL);
    assert_int_equal(belay_checkpoint_list_count(list), 4);
    assert_non_null(belay_checkpoint_list_state_problem(list));
    belay_checkpoint_list_free(list);
    BLY_LOCAL_ERROR(err);
    assert_null(belay_checkpoint_list_load(scratch_path(state, "none"), &err));
    assert_int_equal(err.code, BELAY_NOT_FOUND);
}

static void test_checkpoint_list__survives_every_failing_allocation(void **state) {
    BLY_LOCAL_ERROR(err);
    make_checkpoint(state, "m-1", 1000);
    make_checkpoint(state, "m-2", 1000);
    write_text(state, "m-1.belay.json", "{");
    write_text(state, "checkpoint", "model_checkpoint_path: \"./m-2\"");
    FAILING_ALLOC(n) {
        belay_error_clear(&err);
        belay_checkpoint_list *list = belay_checkpoint_list_load(*state, &err);
        assert_int_equal(err.code, list ? BELAY_OK : BELAY_RESOURCE_EXHAUSTED);
        if (list) { /* then nothing was overlooked */
            assert_int_equal(belay_checkpoint_list_count(list), 2);
            assert_true(belay_checkpoint_list_at(list, 1)->flags & BELAY_CHECKPOINT_LATEST);
        }
        belay_checkpoint_list_free(list);
    }
}

#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, scratch_set_up, scratch_tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        IN_FOLDER(test_state_read__joins_relative_paths_to_the_folder),
        IN_FOLDER(test_state_read__knows_other_names_of_the_file),
        IN_FOLDER(test_state_read__tells_missing_from_damaged),
        IN_FOLDER(test_state_latest__needs_the_index_to_be_there),
        IN_FOLDER(test_checkpoint_exists__takes_the_index_or_the_old_format),
        IN_FOLDER(test_checkpoint_mtime__is_the_indexs_in_seconds),
        IN_FOLDER(test_state_write__renders_what_tensorflow_renders),
        IN_FOLDER(test_state_write__appends_the_newest),
        IN_FOLDER(test_state_write__makes_paths_relative_to_a_relative_folder),
        IN_FOLDER(test_state_write__keeps_paths_in_an_absolute_folder_unless_told),
        IN_FOLDER(test_state_write__refuses_what_cannot_be_right),
        IN_FOLDER(test_state_write__carries_timestamps),
        cmocka_unit_test(test_state_add__moves_a_known_path_to_the_end),
        IN_FOLDER(test_state_write__replaces_the_file_at_once),
        IN_FOLDER(test_state__survives_every_failing_allocation),
        IN_FOLDER(test_checkpoint_remove__takes_its_own_files_and_no_others),
        IN_FOLDER(test_checkpoint_remove__goes_on_after_a_failure),
        cmocka_unit_test(test_checkpoint_names__are_taken_apart),
        IN_FOLDER(test_checkpoint_scan__finds_what_is_there_oldest_first),
        IN_FOLDER(test_latest_checkpoint__never_overlooks_one),
        IN_FOLDER(test_checkpoint_list__takes_a_state_file_of_100000_entries),
        IN_FOLDER(test_checkpoint_list__says_what_it_knows_of_each),
        IN_FOLDER(test_checkpoint_list__survives_every_failing_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
