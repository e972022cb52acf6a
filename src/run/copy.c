#define _GNU_SOURCE
#include "run/copy.h"

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PIECE (1 << 20)

static belay_code write_piece(int fd, const char *data, size_t len, const char *path,
                              belay_error *err) {
    while (len > 0) {
        ssize_t put = write(fd, data, len);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return bly_fail_errno(err, errno, "cannot write %s", path);
        data += put;
        len -= (size_t)put;
    }
    return BELAY_OK;
}

static belay_code copy_bytes(int in, int out, const char *from, const char *to,
                             const bly_copy_stop *stop, belay_error *err) {
    char *piece = bly_malloc(PIECE);
    belay_code code = piece ? BELAY_OK : bly_fail_memory(err);
    while (code == BELAY_OK) {
        ssize_t got = read(in, piece, PIECE);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            code = bly_fail_errno(err, errno, "cannot read %s", from);
        else if (got == 0)
            break;
        else if (stop->should_stop && stop->should_stop(stop->self))
            code = bly_fail(err, BELAY_CANCELLED, "asked to stop");
        else
            code = write_piece(out, piece, (size_t)got, to, err);
    }
    bly_free(piece);
    return code;
}

belay_code bly_copy_file(const char *from, const char *to, const bly_copy_stop *stop,
                         belay_error *err) {
    int in = open(from, O_RDONLY | O_CLOEXEC);
    if (in < 0)
        return bly_fail_errno(err, errno, "cannot read %s", from);
    int out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    belay_code code = out < 0 ? bly_fail_errno(err, errno, "cannot write %s", to) : BELAY_OK;
    if (code == BELAY_OK)
        code = copy_bytes(in, out, from, to, stop, err);
    if (code == BELAY_OK && fsync(out))
        code = bly_fail_errno(err, errno, "cannot bring %s to the disk", to);
    if (out >= 0 && close(out) && code == BELAY_OK)
        code = bly_fail_errno(err, errno, "cannot write %s", to);
    close(in);
    return code;
}

struct folder {
    const char *from, *to;
    const char *const *skip;
    const bly_copy_stop *stop;
};

static int is_skipped(const char *const *skip, const char *name) {
    for (; skip && *skip; skip++)
        if (!strcmp(*skip, name))
            return 1;
    return 0;
}

static belay_code copy_entry(void *self, const char *name, belay_error *err) {
    const struct folder *folder = self;
    if (is_skipped(folder->skip, name))
        return BELAY_OK;
    char *from = bly_path_join(folder->from, name), *to = bly_path_join(folder->to, name);
    belay_code code = from && to ? BELAY_OK : bly_fail_memory(err);
    if (code == BELAY_OK && bly_is_directory(from))
        code = bly_copy_folder(from, to, NULL, folder->stop, err);
    else if (code == BELAY_OK)
        code = bly_copy_file(from, to, folder->stop, err);
    bly_free(from);
    bly_free(to);
    return code;
}

belay_code bly_copy_folder(const char *from, const char *to, const char *const *skip,
                           const bly_copy_stop *stop, belay_error *err) {
    struct folder folder = {from, to, skip, stop};
    if (mkdir(to, 0777))
        return bly_fail_errno(err, errno, "cannot make folder %s", to);
    belay_code code = bly_directory_list(from, copy_entry, &folder, err);
    return code == BELAY_OK ? bly_file_sync(to, err) : code;
}
