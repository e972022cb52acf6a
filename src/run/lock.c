/*
 * An OFD lock belongs to the open file, not to the process: closing another descriptor of the same
 * file does not drop it, as it would a POSIX lock, and the kernel drops it when the last descriptor
 * is gone, after kill -9 too. The text in the file only tells who it is; the lock alone decides.
 *
 * File systems without locks get a second file, made exclusively, with host, process and boot id in
 * it. It survives a killed trainer, so whoever finds it asks whether that process can still be
 * there.
 */
#define _GNU_SOURCE
#include "run/lock.h"

#include "base/buf.h"
#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"

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

struct bly_lock {
    int fd;
    char *exclusive; /* path of the second file, where there is one */
};

/* Who holds a lock, as its file says. */
struct holder {
    char host[256];
    char boot[64];
    long pid; /* 0: not known */
};

static void read_boot_id(char *text, size_t room) {
    bly_buf boot = BLY_BUF_INIT;
    text[0] = '\0';
    if (bly_file_read("/proc/sys/kernel/random/boot_id", 256, &boot, NULL) == BELAY_OK)
        snprintf(text, room, "%.*s", (int)strcspn(bly_buf_text(&boot), "\n"), bly_buf_text(&boot));
    bly_buf_free(&boot);
}

static struct holder myself(void) {
    struct holder me = {"", "", (long)getpid()};
    if (gethostname(me.host, sizeof me.host - 1))
        snprintf(me.host, sizeof me.host, "unknown");
    read_boot_id(me.boot, sizeof me.boot);
    return me;
}

static struct holder read_holder(int fd) {
    struct holder holder = {"", "", 0};
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
        else if (!strncmp(line, "pid ", 4))
            holder.pid = strtol(line + 4, NULL, 10);
    }
    return holder;
}

static belay_code write_holder(int fd, const char *path, belay_error *err) {
    struct holder me = myself();
    char text[TEXT_MOST];
    int len = snprintf(text, sizeof text, "host %s\npid %ld\nboot %s\n", me.host, me.pid, me.boot);
    if (pwrite(fd, text, (size_t)len, 0) != len || ftruncate(fd, len))
        return bly_fail_errno(err, errno, "cannot write %s", path);
    return BELAY_OK;
}

/* --- who else has the file open --------------------------------------------------------------- */

static int process_has_open(long pid, const struct stat *file) {
    char folder[64], path[384];
    struct stat info;
    int found = 0;
    snprintf(folder, sizeof folder, "/proc/%ld/fd", pid);
    DIR *dir = opendir(folder);
    for (struct dirent *entry; dir && !found && (entry = readdir(dir));) {
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        found = !stat(path, &info) && S_ISREG(info.st_mode) && info.st_dev == file->st_dev &&
                info.st_ino == file->st_ino;
    }
    if (dir)
        closedir(dir);
    return found;
}

/* Some process on this machine that has the file open, other than this one; 0 where none can be
 * seen. A child that inherited the descriptor of a trainer that is gone holds the lock under
 * nobody's name. */
static long find_process(int fd) {
    struct stat file;
    long found = 0;
    DIR *dir = fstat(fd, &file) ? NULL : opendir("/proc");
    for (struct dirent *entry; dir && !found && (entry = readdir(dir));) {
        char *end;
        long pid = strtol(entry->d_name, &end, 10);
        if (pid > 0 && !*end && pid != (long)getpid() && process_has_open(pid, &file))
            found = pid;
    }
    if (dir)
        closedir(dir);
    return found;
}

static int is_gone(const struct holder *holder) {
    return holder->pid > 0 && kill((pid_t)holder->pid, 0) && errno == ESRCH;
}

static belay_code refuse(int fd, const char *path, const char *folder, belay_error *err) {
    struct holder holder = read_holder(fd), me = myself();
    int is_here = !strcmp(holder.host, me.host);
    if (is_here && is_gone(&holder)) {
        long child = find_process(fd);
        if (child)
            return bly_fail(err, BELAY_UNAVAILABLE,
                            "%s is locked: the trainer that took it (process %ld) is gone, and its "
                            "child, process %ld, still holds %s open",
                            folder, holder.pid, child, path);
    }
    if (holder.pid <= 0)
        return bly_fail(err, BELAY_UNAVAILABLE, "%s is locked by another trainer", folder);
    return bly_fail(err, BELAY_UNAVAILABLE,
                    "%s is locked by another trainer: process %ld on host %s", folder, holder.pid,
                    holder.host);
}

/* --- file systems without locks --------------------------------------------------------------- */

/* 1 where the process that made the exclusive file cannot be alive any more. */
static int is_left_over(const struct holder *holder) {
    struct holder me = myself();
    if (strcmp(holder->host, me.host) != 0 || holder->pid <= 0)
        return 0;
    return strcmp(holder->boot, me.boot) != 0 || is_gone(holder);
}

static belay_code refuse_exclusive(int fd, const char *path, const char *folder, belay_error *err) {
    struct holder holder = read_holder(fd);
    return bly_fail(err, BELAY_UNAVAILABLE,
                    "%s is locked by another trainer: process %ld on host %s, says %s (this file "
                    "system has no locks: where that process is gone, remove the file)",
                    folder, holder.pid, *holder.host ? holder.host : "unknown", path);
}

static belay_code take_exclusive(bly_lock *lock, const char *folder, belay_error *err) {
    char *path = bly_path_join(folder, EXCLUSIVE_FILE);
    belay_code code = path ? BELAY_OK : bly_fail_memory(err);
    for (int attempt = 0; code == BELAY_OK && !lock->exclusive; attempt++) {
        int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (fd >= 0) {
            code = write_holder(fd, path, err);
            lock->exclusive = path;
        } else if (errno != EEXIST) {
            code = bly_fail_errno(err, errno, "cannot make %s", path);
        } else if ((fd = open(path, O_RDONLY | O_CLOEXEC)) >= 0) {
            struct holder holder = read_holder(fd);
            if (attempt > 0 || !is_left_over(&holder))
                code = refuse_exclusive(fd, path, folder, err);
            else if (unlink(path) && errno != ENOENT)
                code = bly_fail_errno(err, errno, "cannot remove %s, which a killed trainer left",
                                      path);
        }
        if (fd >= 0)
            close(fd);
    }
    if (!lock->exclusive)
        bly_free(path);
    return code;
}

/* --- the lock --------------------------------------------------------------------------------- */

static int has_no_locks(int number) {
    return number == ENOLCK || number == ENOSYS || number == EOPNOTSUPP || number == EINVAL;
}

static belay_code take(bly_lock *lock, const char *path, const char *folder, belay_error *err) {
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    lock->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (lock->fd < 0)
        return bly_fail_errno(err, errno, "cannot write %s", path);
    if (!fcntl(lock->fd, F_OFD_SETLK, &whole))
        return write_holder(lock->fd, path, err);
    if (errno == EAGAIN || errno == EACCES)
        return refuse(lock->fd, path, folder, err);
    if (!has_no_locks(errno))
        return bly_fail_errno(err, errno, "cannot lock %s", path);
    bly_warn("the file system of %s has no locks: a second trainer is kept out by %s alone", folder,
             EXCLUSIVE_FILE);
    belay_code code = take_exclusive(lock, folder, err);
    return code == BELAY_OK ? write_holder(lock->fd, path, err) : code;
}

bly_lock *bly_lock_take(const char *folder, belay_error *err) {
    bly_lock *lock = bly_calloc(1, sizeof *lock);
    char *path = bly_path_join(folder, BLY_LOCK_FILE);
    if (!lock || !path) {
        bly_free(lock);
        bly_free(path);
        bly_fail_memory(err);
        return NULL;
    }
    lock->fd = -1;
    if (take(lock, path, folder, err) != BELAY_OK) {
        bly_lock_release(lock);
        lock = NULL;
    }
    bly_free(path);
    return lock;
}

void bly_lock_release(bly_lock *lock) {
    if (!lock)
        return;
    if (lock->exclusive)
        unlink(lock->exclusive);
    bly_free(lock->exclusive);
    if (lock->fd >= 0)
        close(lock->fd);
    bly_free(lock);
}
