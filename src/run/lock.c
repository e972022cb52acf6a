/*
 * An OFD lock belongs to the open file, not to the process: closing another descriptor of the same
 * file does not drop it, as it would a POSIX lock, and the kernel drops it when the last descriptor
 * is gone, after kill -9 too. The text in the file only tells who it is; the lock alone decides.
 *
 * File systems without locks get a second file, made exclusively, with host, process and boot id in
 * it. It survives a killed trainer, so whoever finds it asks whether that trainer can still be
 * there:
 *   - Seen from the same process table (same boot id and PID namespace), that is looked up.
 *   - From anywhere else the file's time decides. A thread of the holder writes the file anew every
 *     few seconds; both times that are compared are the file system's own, so that no two clocks
 *     have to agree.
 * A holder that was stopped for a minute and goes on can have lost its place so. It looks before
 * each save (bly_lock_check()) whether the file is still its own.
 */
#define _GNU_SOURCE
#include "run/lock.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/thread.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define EXCLUSIVE_FILE BLY_LOCK_FILE ".exclusive"
#define TEXT_MOST      4096
#define BEAT_SECS      5.0
#define SILENT_SECS    60.0 /* a holder that did not beat for so long is gone */

struct bly_lock {
    int fd;
    char *folder;
    /* The second file, where there is one; it stays open, so that others see who has it. */
    char *exclusive;
    int exclusive_fd;
    bly_thread *heart;
    bly_mutex mutex;
    bly_cond cond;
    int is_ending; /* guarded by mutex */
};

/* Who holds a lock, as its file says. */
struct holder {
    char host[256];
    char boot[64];
    char pids[64]; /* the PID namespace */
    long pid;      /* 0: not known */
};

static void read_boot_id(char *text, size_t room) {
    bly_buf boot = BLY_BUF_INIT;
    text[0] = '\0';
    if (bly_file_read("/proc/sys/kernel/random/boot_id", 256, &boot, NULL) == BELAY_OK)
        snprintf(text, room, "%.*s", (int)strcspn(bly_buf_text(&boot), "\n"), bly_buf_text(&boot));
    bly_buf_free(&boot);
}

static struct holder myself(void) {
    struct holder me = {"", "", "", (long)getpid()};
    if (gethostname(me.host, sizeof me.host - 1))
        snprintf(me.host, sizeof me.host, "unknown");
    read_boot_id(me.boot, sizeof me.boot);
    ssize_t len = readlink("/proc/self/ns/pid", me.pids, sizeof me.pids - 1);
    me.pids[len > 0 ? len : 0] = '\0';
    return me;
}

static struct holder read_holder(int fd) {
    struct holder holder = {"", "", "", 0};
    char text[TEXT_MOST];
    ssize_t len = pread(fd, text, sizeof text - 1, 0);
    if (len <= 0)
        return holder;
    text[len] = '\0';
    for (char *line = text, *next; line; line = next) {
        next = strchr(line, '\n');
        if (next)
            *next++ = '\0';
        if (!strncmp(line, "host ", 5))
            snprintf(holder.host, sizeof holder.host, "%.255s", line + 5);
        else if (!strncmp(line, "boot ", 5))
            snprintf(holder.boot, sizeof holder.boot, "%.63s", line + 5);
        else if (!strncmp(line, "pids ", 5))
            snprintf(holder.pids, sizeof holder.pids, "%.63s", line + 5);
        else if (!strncmp(line, "pid ", 4))
            holder.pid = strtol(line + 4, NULL, 10);
    }
    return holder;
}

static belay_code write_holder(int fd, const char *path, belay_error *err) {
    struct holder me = myself();
    char text[TEXT_MOST];
    int len = snprintf(text, sizeof text, "host %s\npid %ld\nboot %s\npids %s\n", me.host, me.pid,
                       me.boot, me.pids);
    if (pwrite(fd, text, (size_t)len, 0) != len || ftruncate(fd, len))
        return bly_fail_errno(err, errno, "cannot write %s", path);
    return BELAY_OK;
}

/* --- who else has the file open --------------------------------------------------------------- */

/* How many times. */
static int process_has_open(long pid, const struct stat *file) {
    char folder[64], path[384];
    struct stat info;
    int count = 0;
    snprintf(folder, sizeof folder, "/proc/%ld/fd", pid);
    DIR *dir = opendir(folder);
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        count += !stat(path, &info) && S_ISREG(info.st_mode) && info.st_dev == file->st_dev &&
                 info.st_ino == file->st_ino;
    }
    if (dir)
        closedir(dir);
    return count;
}

static int can_see_files_of(long pid) {
    char folder[64];
    snprintf(folder, sizeof folder, "/proc/%ld/fd", pid);
    DIR *dir = opendir(folder);
    if (dir)
        closedir(dir);
    return dir != NULL;
}

/* Some process on this machine that has the file open, beside `fd` itself; 0 where none can be
 * seen. A child that inherited the descriptor of a trainer that is gone holds the lock under
 * nobody's name. */
static long find_process(int fd) {
    struct stat file;
    long found = 0;
    DIR *dir = fstat(fd, &file) ? NULL : opendir("/proc");
    for (struct dirent *entry; dir && !found && (entry = readdir(dir));) {
        char *end;
        long pid = strtol(entry->d_name, &end, 10);
        if (pid > 0 && !*end && process_has_open(pid, &file) > (pid == (long)getpid()))
            found = pid;
    }
    if (dir)
        closedir(dir);
    return found;
}

static int is_gone(const struct holder *holder) {
    return holder->pid > 0 && kill((pid_t)holder->pid, 0) && errno == ESRCH;
}

/* 1 where the holder's process is in the table of processes that we see. */
static int has_my_processes(const struct holder *holder) {
    struct holder me = myself();
    return holder->pid > 0 && *me.boot && *me.pids && !strcmp(holder->boot, me.boot) &&
           !strcmp(holder->pids, me.pids);
}

/* `fd` is the file that the lock is about, `path` its name. */
static belay_code refuse(int fd, const char *path, const char *folder, const char *more,
                         belay_error *err) {
    struct holder holder = read_holder(fd);
    long child = has_my_processes(&holder) && is_gone(&holder) ? find_process(fd) : 0;
    if (child)
        return bly_fail(err, BELAY_UNAVAILABLE,
                        "%s is locked: the trainer that took it (process %ld) is gone, and its "
                        "child, process %ld, still holds %s open",
                        folder, holder.pid, child, path);
    if (holder.pid <= 0)
        return bly_fail(err, BELAY_UNAVAILABLE, "%s is locked by another trainer%s", folder, more);
    return bly_fail(err, BELAY_UNAVAILABLE,
                    "%s is locked by another trainer: process %ld on host %s%s", folder, holder.pid,
                    holder.host, more);
}

/* --- file systems without locks --------------------------------------------------------------- */

static double seconds_of(const struct stat *info) {
    return (double)info->st_mtim.tv_sec + (double)info->st_mtim.tv_nsec * 1e-9;
}

/* How long ago the exclusive file was written, by the file system's clock: `now_fd` is a file that
 * gets its time anew for that. Below 0: not known. */
static double silence(int now_fd, const struct stat *exclusive) {
    struct stat now;
    if (futimens(now_fd, NULL) || fstat(now_fd, &now))
        return -1;
    return seconds_of(&now) - seconds_of(exclusive);
}

/* 1 where the trainer that made the exclusive file cannot be there any more. */
static int is_left_over(int now_fd, int fd, const struct stat *info) {
    struct holder holder = read_holder(fd);
    if (!has_my_processes(&holder))
        return silence(now_fd, info) > SILENT_SECS;
    /* A process of that number may be another one, but only the holder has the file open. It cannot
     * always be seen what a process has open; whoever is alive counts then. */
    return find_process(fd) == 0 && (is_gone(&holder) || can_see_files_of(holder.pid));
}

/* Removes an exclusive file that was left over, and no other: it is first moved to a name of our
 * own, where nobody can put another in its place while we look. */
static belay_code remove_left_over(const char *path, const struct stat *judged, belay_error *err) {
    bly_buf aside = BLY_BUF_INIT;
    struct stat moved;
    belay_code code = BELAY_OK;
    bly_buf_printf(&aside, "%s.%s.%ld", path, myself().host, (long)getpid());
    if (aside.failed)
        code = bly_fail_memory(err);
    else if (rename(path, aside.data))
        code =
            errno == ENOENT
                ? BELAY_OK
                : bly_fail_errno(err, errno, "cannot remove %s, which a killed trainer left", path);
    else if (!stat(aside.data, &moved) && moved.st_ino != judged->st_ino &&
             link(aside.data, path) && errno != EEXIST)
        code = bly_fail_errno(err, errno, "cannot give %s back to its trainer", path);
    if (!aside.failed)
        unlink(aside.data);
    bly_buf_free(&aside);
    return code;
}

/* Makes the exclusive file, or says who has it. *out_retry is 1 where one was in the way that is
 * removed now. */
static belay_code make_exclusive(bly_lock *lock, int *out_retry, belay_error *err) {
    struct stat info;
    belay_code code;
    *out_retry = 0;
    int fd = open(lock->exclusive, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd >= 0) {
        lock->exclusive_fd = fd;
        return write_holder(fd, lock->exclusive, err);
    }
    if (errno != EEXIST)
        return bly_fail_errno(err, errno, "cannot make %s", lock->exclusive);
    fd = open(lock->exclusive, O_RDONLY | O_CLOEXEC);
    *out_retry = 1;
    if (fd < 0) /* just removed by its trainer */
        return errno == ENOENT ? BELAY_OK
                               : bly_fail_errno(err, errno, "cannot read %s", lock->exclusive);
    if (fstat(fd, &info))
        code = bly_fail_errno(err, errno, "cannot read %s", lock->exclusive);
    else if (is_left_over(lock->fd, fd, &info))
        code = remove_left_over(lock->exclusive, &info, err);
    else
        code = refuse(fd, lock->exclusive, lock->folder,
                      " (this file system has no locks, so a trainer on another machine that was "
                      "killed counts as alive for a minute)",
                      err);
    close(fd);
    return code;
}

/* The holder's sign of life, for those who cannot see its process. */
static void beat(void *self) {
    bly_lock *lock = self;
    bly_mutex_lock(&lock->mutex);
    while (!lock->is_ending) {
        int64_t next = bly_deadline_after_secs(BEAT_SECS);
        while (!lock->is_ending && bly_wait_until(&lock->cond, &lock->mutex, next))
            ;
        bly_mutex_unlock(&lock->mutex);
        write_holder(lock->exclusive_fd, lock->exclusive, NULL); /* bly_lock_check() tells of it */
        bly_mutex_lock(&lock->mutex);
    }
    bly_mutex_unlock(&lock->mutex);
}

static belay_code take_exclusive(bly_lock *lock, belay_error *err) {
    int retry = 0;
    lock->exclusive = bly_path_join(lock->folder, EXCLUSIVE_FILE);
    if (!lock->exclusive)
        return bly_fail_memory(err);
    belay_code code = make_exclusive(lock, &retry, err);
    if (code == BELAY_OK && retry)
        code = make_exclusive(lock, &retry, err);
    if (code == BELAY_OK && lock->exclusive_fd < 0)
        code =
            bly_fail(err, BELAY_UNAVAILABLE, "%s is being locked by another trainer", lock->folder);
    if (code == BELAY_OK)
        lock->heart = bly_thread_start("belay-lock", beat, lock, err);
    return code == BELAY_OK && !lock->heart ? belay_error_code(err) : code;
}

static int is_same_file(int fd, const char *path) {
    struct stat mine, there;
    return !fstat(fd, &mine) && !stat(path, &there) && mine.st_dev == there.st_dev &&
           mine.st_ino == there.st_ino;
}

belay_code bly_lock_check(const bly_lock *lock, belay_error *err) {
    if (!lock || !lock->exclusive || is_same_file(lock->exclusive_fd, lock->exclusive))
        return BELAY_OK;
    return bly_fail(err, BELAY_DEADLINE_EXCEEDED,
                    "%s is not this trainer's any more: %s was taken over while this process was "
                    "stopped, or was removed",
                    lock->folder, lock->exclusive);
}

/* --- the lock --------------------------------------------------------------------------------- */

static int has_no_locks(int number) {
    return number == ENOLCK || number == ENOSYS || number == EOPNOTSUPP || number == EINVAL;
}

static belay_code take(bly_lock *lock, const char *path, belay_error *err) {
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    lock->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (lock->fd < 0)
        return bly_fail_errno(err, errno, "cannot write %s", path);
    if (!fcntl(lock->fd, F_OFD_SETLK, &whole))
        return write_holder(lock->fd, path, err);
    if (errno == EAGAIN || errno == EACCES)
        return refuse(lock->fd, path, lock->folder, "", err);
    if (!has_no_locks(errno))
        return bly_fail_errno(err, errno, "cannot lock %s", path);
    bly_warn("the file system of %s has no locks: a second trainer is kept out by %s alone",
             lock->folder, EXCLUSIVE_FILE);
    belay_code code = take_exclusive(lock, err);
    return code == BELAY_OK ? write_holder(lock->fd, path, err) : code;
}

bly_lock *bly_lock_take(const char *folder, belay_error *err) {
    BLY_LOCAL_ERROR(mine);
    bly_lock *lock = bly_calloc(1, sizeof *lock);
    if (!lock) {
        bly_fail_memory(err);
        return NULL;
    }
    lock->fd = lock->exclusive_fd = -1;
    bly_mutex_init(&lock->mutex);
    bly_cond_init(&lock->cond);
    lock->folder = bly_strdup(folder);
    char *path = bly_path_join(folder, BLY_LOCK_FILE);
    belay_code code = path && lock->folder ? take(lock, path, &mine) : bly_fail_memory(&mine);
    bly_free(path);
    if (code == BELAY_OK)
        return lock;
    bly_error_copy(err, &mine);
    bly_lock_release(lock);
    return NULL;
}

static void release_exclusive(bly_lock *lock) {
    if (lock->heart) {
        bly_mutex_lock(&lock->mutex);
        lock->is_ending = 1;
        bly_cond_signal_all(&lock->cond);
        bly_mutex_unlock(&lock->mutex);
        bly_thread_join(lock->heart);
    }
    if (lock->exclusive_fd < 0)
        return;
    if (is_same_file(lock->exclusive_fd, lock->exclusive))
        unlink(lock->exclusive);
    close(lock->exclusive_fd);
}

void bly_lock_release(bly_lock *lock) {
    if (!lock)
        return;
    release_exclusive(lock);
    if (lock->fd >= 0)
        close(lock->fd);
    bly_cond_clean_up(&lock->cond);
    bly_mutex_clean_up(&lock->mutex);
    bly_free(lock->exclusive);
    bly_free(lock->folder);
    bly_free(lock);
}
