/* What killed processes left in a run's folder goes, and nothing else. */
#define _GNU_SOURCE
#include "log_capture.h"
#include "scratch.h"

#include "base/file.h"
#include "checkpoint/commit.h"
#include "run/lock.h"
#include "run/sweep.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define OLD 700

static long gone; /* a process that was, and is no more */

static int find_gone(void **state) {
    (void)state;
    pid_t pid = fork();
    if (pid == 0)
        _exit(0);
    gone = pid;
    return waitpid(pid, NULL, 0) == pid ? 0 : -1;
}

/* "BASE.tmpPID.abcdef", some seconds old. */
static const char *leave(void **state, const char *base, long pid, time_t age) {
    char name[256];
    snprintf(name, sizeof name, "%s.tmp%ld.aB3dEf", base, pid);
    const char *path = scratch_path(state, name);
    scratch_write(path, "half", 4);
    struct timespec when = {time(NULL) - age, 0}, times[2] = {when, when};
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
    return path;
}

static void sweep(void **state) {
    bly_lock *lock = bly_lock_take(*state, NULL);
    assert_non_null(lock);
    bly_sweep(*state);
    bly_lock_release(lock);
}

static void test_sweep__removes_what_a_killed_process_was_writing(void **state) {
    static const char *const bases[] = {"checkpoint", "model.ckpt-7.meta", "graph.pbtxt",
                                        "model.ckpt-7.belay.json"};
    for (size_t i = 0; i < sizeof bases / sizeof bases[0]; i++) {
        const char *path = leave(state, bases[i], gone, OLD);
        log_capture_start(BELAY_LOG_INFO);
        sweep(state);
        assert_int_equal(log_capture_count(path), 1); /* it says so */
        log_capture_stop();
        assert_false(bly_file_exists(path));
    }
}

/* The number of a container's only process is always the same. */
static void test_sweep__its_own_number_is_that_of_the_one_before(void **state) {
    const char *path = leave(state, "checkpoint", (long)getpid(), OLD);
    sweep(state);
    assert_false(bly_file_exists(path));
}

static void test_sweep__leaves_what_somebody_may_be_writing(void **state) {
    const char *young = leave(state, "checkpoint", gone, 300);
    const char *alive = leave(state, "model.ckpt-7.meta", (long)getppid(), OLD);
    sweep(state);
    assert_true(bly_file_exists(young));
    assert_true(bly_file_exists(alive));
}

static void test_sweep__leaves_what_is_not_belays(void **state) {
    static const char *const bases[] = {"notes",   "mycheckpoint",      "checkpoint.old",
                                        ".meta",   "events.out.tf",     "old-graph.pbtxt",
                                        "x.metal", "model.ckpt-7.index"};
    const char *kept[8];
    for (size_t i = 0; i < 8; i++)
        kept[i] = leave(state, bases[i], gone, OLD);
    sweep(state);
    for (size_t i = 0; i < 8; i++)
        assert_true(bly_file_exists(kept[i]));
}

static void test_sweep__leaves_names_that_are_spelled_otherwise(void **state) {
    static const char *const names[] = {
        "checkpoint.tmp.aB3dEf",  "checkpoint.tmp12",         "checkpoint",
        "checkpoint.tmp12.aB3dE", "checkpoint.tmp12x.aB3dEf", "checkpoint.tmp12345678901.aB3dEf"};
    struct timespec old[2] = {{1000, 0}, {1000, 0}};
    for (size_t i = 0; i < 6; i++) {
        const char *path = scratch_path(state, names[i]);
        scratch_write(path, "", 0);
        assert_int_equal(utimensat(AT_FDCWD, path, old, 0), 0);
        sweep(state);
        assert_true(bly_file_exists(path));
    }
    const char *folder = scratch_path(state, "checkpoint.tmp1.aB3dEf");
    assert_int_equal(mkdir(folder, 0777), 0);
    assert_int_equal(utimensat(AT_FDCWD, folder, old, 0), 0);
    sweep(state);
    assert_true(bly_is_directory(folder));
}

static const char *leave_save(void **state) {
    const char *folder = scratch_path(state, ".belay-saving/deep");
    assert_int_equal(bly_make_directories(folder, NULL), BELAY_OK);
    scratch_write(scratch_path(state, ".belay-saving/model.ckpt-7.index"), "half", 4);
    scratch_write(scratch_path(state, ".belay-saving/deep/part"), "half", 4);
    return scratch_path(state, ".belay-saving");
}

static void test_sweep__removes_what_a_killed_save_left(void **state) {
    const char *folder = leave_save(state);
    sweep(state);
    assert_false(bly_is_directory(folder));
}

/* A program that saves through the library alone does not hold the run's lock. */
static void test_sweep__leaves_a_save_that_is_going_on(void **state) {
    const char *folder = leave_save(state);
    int lock = -1;
    assert_int_equal(bly_commit_lock(*state, "x", &lock, NULL), BELAY_OK);
    sweep(state);
    assert_true(bly_file_exists(scratch_path(state, ".belay-saving/deep/part")));
    bly_commit_unlock(lock);
    sweep(state);
    assert_false(bly_is_directory(folder));
}

static void test_sweep__follows_no_link_in_its_place(void **state) {
    const char *elsewhere = scratch_path(state, "elsewhere");
    assert_int_equal(mkdir(elsewhere, 0777), 0);
    scratch_write(scratch_path(state, "elsewhere/kept"), "whole", 5);
    assert_int_equal(symlink("elsewhere", scratch_path(state, ".belay-saving")), 0);
    sweep(state);
    assert_true(bly_file_exists(scratch_path(state, "elsewhere/kept")));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_set_up, scratch_tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_sweep__removes_what_a_killed_process_was_writing),
        TEST(test_sweep__its_own_number_is_that_of_the_one_before),
        TEST(test_sweep__leaves_what_somebody_may_be_writing),
        TEST(test_sweep__leaves_what_is_not_belays),
        TEST(test_sweep__leaves_names_that_are_spelled_otherwise),
        TEST(test_sweep__removes_what_a_killed_save_left),
        TEST(test_sweep__leaves_a_save_that_is_going_on),
        TEST(test_sweep__follows_no_link_in_its_place),
    };
    return cmocka_run_group_tests(tests, find_gone, NULL);
}
