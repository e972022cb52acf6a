/* One trainer to a folder: by a lock where the file system has them, by an exclusive file where
 * not.
 */
#define _GNU_SOURCE
#include "log_capture.h"
#include "no_locks.h"
#include "scratch.h"
#include "stepped_clock.h"

#include "base/error.h"
#include "base/file.h"
#include "run/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define EXCLUSIVE BLY_LOCK_FILE ".exclusive"

static belay_error mistake;

static int set_up(void **state) {
    belay_error_clear(&mistake);
    log_capture_start(BELAY_LOG_INFO); /* the warning that there are no locks is expected */
    return scratch_set_up(state);
}

static int tear_down(void **state) {
    no_locks_arm(0);
    log_capture_stop();
    return scratch_tear_down(state);
}

static bly_lock *take(void **state) {
    return bly_lock_take(*state, &mistake);
}

static void assert_taken_and_given_back(void **state) {
    bly_lock *lock = take(state);
    if (!lock)
        fail_msg("%s", mistake.message);
    bly_lock_release(lock);
}

static void assert_refused(void **state, const char *saying) {
    assert_null(take(state));
    assert_int_equal(mistake.code, BELAY_UNAVAILABLE); /* worth a retry */
    if (!strstr(mistake.message, saying))
        fail_msg("'%s' is not in: %s", saying, mistake.message);
}

static const char *pid_text(pid_t pid) {
    static char text[64];
    snprintf(text, sizeof text, "process %ld", (long)pid);
    return text;
}

/* ---- processes: children that this test waits for ---- */

/* A trainer that takes the folder, leaves a child behind that inherits what is open (where
 * `out_child` is given), and ends without giving anything back. The child lives until *out_hold is
 * closed. */
static pid_t run_and_kill_trainer(void **state, pid_t *out_child, int *out_hold) {
    int told[2], hold[2];
    pid_t child = 0;
    assert_int_equal(pipe(told), 0);
    assert_int_equal(pipe(hold), 0);
    pid_t trainer = fork();
    if (trainer == 0) {
        close(hold[1]);
        if (!bly_lock_take(*state, NULL))
            _exit(1);
        child = out_child ? fork() : 0;
        if (out_child && child == 0) {
            char end;
            close(told[1]);
            if (read(hold[0], &end, 1) == 0)
                raise(SIGKILL);
        } else if (write(told[1], &child, sizeof child) == sizeof child) {
            raise(SIGKILL);
        }
        _exit(1);
    }
    close(told[1]);
    close(hold[0]);
    assert_int_equal(read(told[0], &child, sizeof child), sizeof child);
    close(told[0]);
    int status;
    assert_int_equal(waitpid(trainer, &status, 0), trainer);
    assert_true(WIFSIGNALED(status));
    if (out_child) {
        *out_child = child;
        *out_hold = hold[1];
    } else {
        close(hold[1]);
    }
    return trainer;
}

/* The child was given up by its parent, so that nobody is told of its end: the folder is free soon
 * after it, when the system has closed what it had open. */
static void await_end_of(void **state, int hold) {
    bly_lock *lock = NULL;
    close(hold);
    for (int i = 0; i < 10000 && !(lock = take(state)); i++)
        nanosleep(&(struct timespec){0, 1000000}, NULL);
    if (!lock)
        fail_msg("%s", mistake.message);
    bly_lock_release(lock);
}

/* ---- what both ways promise ---- */

static void a_second_one_is_refused(void **state) {
    bly_lock *lock = take(state);
    assert_non_null(lock);
    char host[256] = "";
    gethostname(host, sizeof host - 1);
    assert_refused(state, pid_text(getpid()));
    assert_non_null(strstr(mistake.message, host));
    assert_int_equal(bly_lock_check(lock, &mistake), BELAY_OK);
    bly_lock_release(lock);
    assert_taken_and_given_back(state);
}

static void a_killed_trainer_leaves_no_lock(void **state) {
    run_and_kill_trainer(state, NULL, NULL);
    assert_taken_and_given_back(state);
}

static void a_child_that_inherited_is_named(void **state) {
    pid_t child;
    int hold;
    pid_t trainer = run_and_kill_trainer(state, &child, &hold);
    assert_refused(state, pid_text(child));
    assert_non_null(strstr(mistake.message, pid_text(trainer)));
    assert_non_null(strstr(mistake.message, "is gone, and its child"));
    await_end_of(state, hold);
    assert_taken_and_given_back(state);
}

static void test_lock__a_second_trainer_is_refused(void **state) {
    a_second_one_is_refused(state);
    assert_false(bly_file_exists(scratch_path(state, EXCLUSIVE)));
}

static void test_lock__a_killed_trainer_leaves_none(void **state) {
    a_killed_trainer_leaves_no_lock(state);
}

static void test_lock__a_child_that_inherited_it_is_named(void **state) {
    a_child_that_inherited_is_named(state);
}

/* ---- file systems without locks ---- */

static void test_no_locks__a_second_trainer_is_refused(void **state) {
    static const int numbers[] = {ENOLCK, ENOSYS, EOPNOTSUPP, EINVAL};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        no_locks_arm(numbers[i]);
        a_second_one_is_refused(state);
        assert_false(bly_file_exists(scratch_path(state, EXCLUSIVE))); /* given back */
    }
    assert_int_not_equal(log_capture_count("has no locks"), 0);
}

static void test_no_locks__other_failures_are_failures(void **state) {
    no_locks_arm(EIO);
    assert_null(take(state));
    assert_non_null(strstr(mistake.message, "cannot lock"));
}

static void test_no_locks__a_killed_trainer_leaves_none(void **state) {
    no_locks_arm(ENOLCK);
    a_killed_trainer_leaves_no_lock(state);
}

static void test_no_locks__a_child_that_inherited_it_is_named(void **state) {
    no_locks_arm(ENOLCK);
    a_child_that_inherited_is_named(state);
}

/* The file as another trainer would have written it; `from` is replaced in each of our own. */
static void write_exclusive(void **state, const char *key, const char *value) {
    no_locks_arm(ENOLCK);
    bly_lock *lock = take(state);
    assert_non_null(lock);
    size_t size;
    const char *path = scratch_path(state, EXCLUSIVE);
    char *text = (char *)scratch_read(path, &size), changed[1024] = "";
    bly_lock_release(lock);
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        size_t used = strlen(changed), len = strlen(key);
        int is_it = !strncmp(line, key, len) && line[len] == ' ';
        snprintf(changed + used, sizeof changed - used, "%s%s%s\n", is_it ? key : line,
                 is_it ? " " : "", is_it ? value : "");
    }
    free(text);
    scratch_write(path, changed, strlen(changed));
}

static void make_old(const char *path, time_t seconds) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    struct timespec times[2] = {{now.tv_sec - seconds, 0}, {now.tv_sec - seconds, 0}};
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

/* A process that we cannot see decides by its signs of life. */
static void test_no_locks__a_trainer_elsewhere_is_gone_after_a_minute_of_silence(void **state) {
    static const char *const keys[] = {"boot", "pids"};
    for (size_t i = 0; i < 2; i++) {
        write_exclusive(state, keys[i], "of-another-machine");
        assert_refused(state, pid_text(getpid()));
        assert_non_null(strstr(mistake.message, "for a minute"));
        make_old(scratch_path(state, EXCLUSIVE), 50);
        assert_refused(state, pid_text(getpid()));
        make_old(scratch_path(state, EXCLUSIVE), 70);
        assert_taken_and_given_back(state);
    }
}

/* A file that its maker had no time to fill in. */
static void test_no_locks__an_empty_file_counts_for_a_minute(void **state) {
    no_locks_arm(ENOLCK);
    scratch_write(scratch_path(state, EXCLUSIVE), "", 0);
    assert_refused(state, "by another trainer");
    make_old(scratch_path(state, EXCLUSIVE), 70);
    assert_taken_and_given_back(state);
}

static void test_no_locks__a_number_that_another_process_has_now_is_nobodys(void **state) {
    char number[32];
    snprintf(number, sizeof number, "%ld", (long)getppid()); /* it lives, and knows nothing of it */
    write_exclusive(state, "pid", number);
    assert_taken_and_given_back(state);
}

static void test_no_locks__the_holder_gives_signs_of_life(void **state) {
    struct stat info;
    const char *path = scratch_path(state, EXCLUSIVE);
    no_locks_arm(ENOLCK);
    stepped_clock_install(STEPPED_MANUAL);
    bly_lock *lock = take(state);
    assert_non_null(lock);
    for (int i = 0; i < 3; i++) {
        make_old(path, 1000);
        stepped_clock_settle();
        stepped_clock_advance_ms(4999);
        stepped_clock_settle();
        assert_int_equal(stat(path, &info), 0);
        assert_true(time(NULL) - info.st_mtime >= 1000);
        stepped_clock_advance_ms(1);
        stepped_clock_settle();
        assert_int_equal(stat(path, &info), 0);
        assert_true(time(NULL) - info.st_mtime < 500);
    }
    bly_lock_release(lock);
    stepped_clock_uninstall();
}

static void test_no_locks__who_lost_the_folder_is_told_and_takes_nothing_away(void **state) {
    const char *path = scratch_path(state, EXCLUSIVE);
    no_locks_arm(ENOLCK);
    bly_lock *lock = take(state);
    assert_non_null(lock);
    assert_int_equal(rename(path, scratch_path(state, "aside")), 0);
    assert_int_equal(bly_lock_check(lock, &mistake), BELAY_DEADLINE_EXCEEDED);
    assert_non_null(strstr(mistake.message, *state));
    scratch_write(path, "host another\n", 13);
    assert_int_equal(bly_lock_check(lock, &mistake), BELAY_DEADLINE_EXCEEDED);
    bly_lock_release(lock);
    assert_true(bly_file_exists(path));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_lock__a_second_trainer_is_refused),
        TEST(test_lock__a_killed_trainer_leaves_none),
        TEST(test_lock__a_child_that_inherited_it_is_named),
        TEST(test_no_locks__a_second_trainer_is_refused),
        TEST(test_no_locks__other_failures_are_failures),
        TEST(test_no_locks__a_killed_trainer_leaves_none),
        TEST(test_no_locks__a_child_that_inherited_it_is_named),
        TEST(test_no_locks__a_trainer_elsewhere_is_gone_after_a_minute_of_silence),
        TEST(test_no_locks__an_empty_file_counts_for_a_minute),
        TEST(test_no_locks__a_number_that_another_process_has_now_is_nobodys),
        TEST(test_no_locks__the_holder_gives_signs_of_life),
        TEST(test_no_locks__who_lost_the_folder_is_told_and_takes_nothing_away),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
