/*
 * `checkpoint.tmp4711.x7Kp2Q` is what a process that was killed while it replaced `checkpoint`
 * leaves behind. The lock keeps other trainers out, but not tools, nor programs that save through
 * the library alone; so a file goes only when it is old, by the clock of its own file system, and
 * its process is not to be seen. Where a pause of ten minutes fooled us all the same, that process
 * fails to rename its file and says so; what it was to replace is as it was.
 */
#define _GNU_SOURCE
#include "run/sweep.h"

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "checkpoint/commit.h"
#include "checkpoint/state.h"
#include "run/lock.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define OLD_SECS 600

/* What is written so in a run's folder. */
static int is_replaced_whole(const char *name, size_t len) {
    static const char *const ends[] = {BLY_STATE_FILE, ".meta", ".belay.json", "graph.pbtxt"};
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        size_t end = strlen(ends[i]);
        int whole_name = ends[i][0] != '.';
        if ((whole_name ? len == end : len > end) && !strncmp(name + len - end, ends[i], end))
            return 1;
    }
    return 0;
}

/* The process that made NAME.tmpPID.XXXXXX; 0: no such name. */
static long maker_of(const char *name) {
    const char *tmp = NULL;
    for (const char *at = name; (at = strstr(at, ".tmp")); at++)
        tmp = at;
    if (!tmp || !is_replaced_whole(name, (size_t)(tmp - name)))
        return 0;
    const char *digits = tmp + strlen(".tmp");
    size_t count = strspn(digits, "0123456789");
    if (count == 0 || count > 10 || digits[count] != '.' || strlen(digits + count) != 7)
        return 0;
    return strtol(digits, NULL, 10);
}

static int is_another_live_process(long pid) {
    return pid != (long)getpid() && (!kill((pid_t)pid, 0) || errno == EPERM);
}

struct sweep {
    const char *folder;
    time_t now; /* of the folder's file system */
};

static belay_code look_at(void *self, const char *name, belay_error *err) {
    const struct sweep *sweep = self;
    struct stat info;
    long pid = maker_of(name);
    if (pid <= 0)
        return BELAY_OK;
    char *path = bly_path_join(sweep->folder, name);
    if (!path)
        return bly_fail_memory(err);
    if (!lstat(path, &info) && S_ISREG(info.st_mode) && sweep->now - info.st_mtime >= OLD_SECS &&
        !is_another_live_process(pid)) {
        if (unlink(path))
            bly_warn("cannot remove %s, which process %ld left: %s", path, pid, strerror(errno));
        else
            bly_info("removed %s, which process %ld left when it was killed", path, pid);
    }
    bly_free(path);
    return BELAY_OK;
}

void bly_sweep(const char *folder) {
    struct sweep sweep = {folder, 0};
    struct stat info;
    BLY_LOCAL_ERROR(mine);
    bly_commit_sweep(folder);
    char *lock = bly_path_join(folder, BLY_LOCK_FILE); /* written a moment ago */
    if (lock && !stat(lock, &info)) {
        sweep.now = info.st_mtime;
        if (bly_directory_list(folder, look_at, &sweep, &mine) != BELAY_OK)
            bly_warn("%s", mine.message);
    }
    bly_free(lock);
}
