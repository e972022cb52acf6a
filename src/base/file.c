#define _GNU_SOURCE
#include "base/file.h"

#include "base/error.h"
#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

char *bly_path_join(const char *directory, const char *name) {
    if (directory[0] == '\0' || bly_path_is_absolute(name))
        return bly_strdup(name);
    bly_buf path = BLY_BUF_INIT;
    bly_buf_puts(&path, directory);
    if (directory[strlen(directory) - 1] != '/')
        bly_buf_putc(&path, '/');
    bly_buf_puts(&path, name);
    return bly_buf_take(&path);
}

char *bly_path_directory(const char *path) {
    const char *slash = strrchr(path, '/');
    if (!slash)
        return bly_strdup("");
    return bly_strndup(path, slash == path ? 1 : (size_t)(slash - path));
}

const char *bly_path_base(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

int bly_path_is_absolute(const char *path) {
    return path[0] == '/';
}

int bly_file_exists(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && !S_ISDIR(info.st_mode);
}

int bly_is_directory(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

belay_code bly_make_directories(const char *path, belay_error *err) {
    if (path[0] == '\0' || bly_is_directory(path))
        return BELAY_OK;
    char *copy = bly_strdup(path);
    if (!copy)
        return bly_fail_memory(err);
    belay_code code = BELAY_OK;
    for (char *c = copy + 1;; c++) {
        if (*c != '/' && *c != '\0')
            continue;
        char was = *c;
        *c = '\0';
        int problem = mkdir(copy, 0777) == 0 ? 0 : errno;
        if (problem && !bly_is_directory(copy)) {
            code = bly_fail_errno(err, problem == EEXIST ? ENOTDIR : problem,
                                  "cannot make folder %s", copy);
            break;
        }
        *c = was;
        if (was == '\0')
            break;
    }
    bly_free(copy);
    return code;
}

belay_code bly_file_read(const char *path, size_t most, bly_buf *out, belay_error *err) {
    belay_code code = BELAY_OK;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return bly_fail_errno(err, errno, "cannot read %s", path);
    struct stat info;
    if (fstat(fd, &info) == 0 && S_ISDIR(info.st_mode)) {
        code = bly_fail_errno(err, EISDIR, "cannot read %s", path);
        goto out;
    }
    for (size_t total = 0;;) {
        size_t chunk = 1 << 16;
        if (total == 0 && info.st_size > 0 && (uint64_t)info.st_size <= most)
            chunk = (size_t)info.st_size + 1;
        char *to = bly_buf_reserve(out, chunk);
        if (!to) {
            code = bly_fail_memory(err);
            goto out;
        }
        ssize_t got = read(fd, to, chunk);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            code = bly_fail_errno(err, errno, "cannot read %s", path);
            goto out;
        }
        out->len += (size_t)got;
        out->data[out->len] = '\0';
        total += (size_t)got;
        if (total > most) {
            code = bly_fail(err, BELAY_INVALID_ARGUMENT, "%s is larger than %zu bytes", path, most);
            goto out;
        }
        if (got == 0)
            break;
    }
out:
    close(fd);
    return code;
}

static int write_all(int fd, const char *data, size_t len) {
    while (len > 0) {
        ssize_t put = write(fd, data, len);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return -1;
        data += put;
        len -= (size_t)put;
    }
    return 0;
}

belay_code bly_file_write_atomic(const char *path, const void *data, size_t len, belay_error *err) {
    belay_code code = BELAY_OK;
    int fd = -1;
    char *directory = bly_path_directory(path);
    bly_buf temporary = BLY_BUF_INIT;
    bly_buf_printf(&temporary, "%s.tmp%ld.XXXXXX", path, (long)getpid());
    if (!directory || temporary.failed) {
        code = bly_fail_memory(err);
        goto out;
    }
    fd = mkostemp(temporary.data, O_CLOEXEC);
    mode_t mask = umask(0);
    umask(mask);
    if (fd < 0 || fchmod(fd, 0666 & ~mask) != 0 || write_all(fd, data, len) != 0 ||
        fsync(fd) != 0) {
        code = bly_fail_errno(err, errno, "cannot write %s", path);
        goto out;
    }
    code = bly_file_rename(temporary.data, path, err);
    if (code == BELAY_OK)
        code = bly_file_sync(directory[0] ? directory : ".", err);
out:
    if (fd >= 0) {
        close(fd);
        if (code != BELAY_OK)
            unlink(temporary.data);
    }
    bly_buf_free(&temporary);
    bly_free(directory);
    return code;
}

belay_code bly_file_sync(const char *path, belay_error *err) {
    belay_code code = BELAY_OK;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return bly_fail_errno(err, errno, "cannot open %s", path);
    /* Some file systems cannot sync a folder; they say EINVAL, and there is nothing more to do
     * about it. */
    if (fsync(fd) != 0 && errno != EINVAL)
        code = bly_fail_errno(err, errno, "cannot bring %s to the disk", path);
    close(fd);
    return code;
}

belay_code bly_file_rename(const char *from, const char *to, belay_error *err) {
    if (rename(from, to) != 0)
        return bly_fail_errno(err, errno, "cannot rename %s to %s", from, to);
    return BELAY_OK;
}

static belay_code remove_entry(void *self, const char *name, belay_error *err) {
    char *path = bly_path_join(self, name);
    if (!path)
        return bly_fail_memory(err);
    belay_code code = BELAY_OK;
    if (unlink(path) != 0 && errno != ENOENT) {
        if (bly_is_directory(path))
            code = bly_remove_directory(path, err);
        else
            code = bly_fail_errno(err, errno, "cannot remove %s", path);
    }
    bly_free(path);
    return code;
}

belay_code bly_remove_directory(const char *path, belay_error *err) {
    char *mine = bly_strdup(path);
    if (!mine)
        return bly_fail_memory(err);
    belay_code code = BELAY_OK;
    struct stat info;
    /* A link to a folder is not ours to empty. */
    if (lstat(path, &info) == 0 && !S_ISDIR(info.st_mode)) {
        if (unlink(path) != 0)
            code = bly_fail_errno(err, errno, "cannot remove %s", path);
    } else if (bly_is_directory(path)) {
        code = bly_directory_list(path, remove_entry, mine, err);
        if (code == BELAY_OK && rmdir(path) != 0 && errno != ENOENT)
            code = bly_fail_errno(err, errno, "cannot remove %s", path);
    }
    bly_free(mine);
    return code;
}

static int is_dot(const char *name) {
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* As bytes: alphasort() goes by the locale, which is the host's. */
static int by_bytes(const struct dirent **a, const struct dirent **b) {
    return strcmp((*a)->d_name, (*b)->d_name);
}

belay_code bly_directory_list(const char *path,
                              belay_code (*each)(void *self, const char *name, belay_error *err),
                              void *self, belay_error *err) {
    struct dirent **names = NULL;
    int count = scandir(path, &names, NULL, by_bytes);
    if (count < 0)
        return bly_fail_errno(err, errno, "cannot list folder %s", path);
    belay_code code = BELAY_OK;
    for (int i = 0; i < count; i++) {
        if (code == BELAY_OK && !is_dot(names[i]->d_name))
            code = each(self, names[i]->d_name, err);
        free(names[i]);
    }
    free(names);
    return code;
}
