#include "checkpoint/commit.h"

#include "base/buf.h"
#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "checkpoint/state.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define TEMPORARY_NAME ".belay-saving"
#define DAMAGED        ".damaged"

belay_code bly_commit_lock(const char *directory, const char *path, int *out_lock,
                           belay_error *err) {
    const char *folder = directory[0] ? directory : ".";
    *out_lock = -1;
    if (!bly_is_directory(folder))
        return bly_fail(err, BELAY_NOT_FOUND, "Parent directory of %s doesn't exist, can't save.",
                        path);
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return bly_fail_errno(err, errno, "cannot save in %s", folder);
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
        *out_lock = fd;
        return BELAY_OK;
    }
    int why = errno;
    close(fd);
    if (why != EWOULDBLOCK)
        return BELAY_OK;
    return bly_fail(err, BELAY_FAILED_PRECONDITION,
                    "another save is going on in %s: a folder has one writer at a time", folder);
}

/* Unlocked before it is closed: a child that was forked meanwhile has the same lock open. */
void bly_commit_unlock(int lock) {
    if (lock < 0)
        return;
    flock(lock, LOCK_UN);
    close(lock);
}

char *bly_commit_begin(const char *directory, belay_error *err) {
    const char *folder = directory[0] ? directory : ".";
    char *temporary = bly_path_join(directory, TEMPORARY_NAME);
    if (!temporary) {
        bly_fail_memory(err);
        return NULL;
    }
    if (bly_remove_directory(temporary, err) == BELAY_OK) {
        if (mkdir(temporary, 0777) == 0)
            return temporary;
        bly_fail_errno(err, errno, "cannot save in %s", folder);
    }
    bly_free(temporary);
    return NULL;
}

void bly_commit_abandon(const char *temporary) {
    BLY_LOCAL_ERROR(mine);
    if (bly_remove_directory(temporary, &mine) != BELAY_OK)
        bly_warn("%s", mine.message);
}

void bly_commit_sweep(const char *directory) {
    BLY_LOCAL_ERROR(ignored);
    int lock;
    char *temporary = bly_path_join(directory, TEMPORARY_NAME);
    if (temporary && bly_commit_lock(directory, temporary, &lock, &ignored) == BELAY_OK) {
        bly_commit_abandon(temporary);
        bly_commit_unlock(lock);
    }
    bly_free(temporary);
}

/* Names of the files "NAME.*" in a folder, the index last. */
struct files {
    const char *name;
    char **found;
    size_t count, capacity;
};

/* What was set aside, or is being replaced, begins with the checkpoint's name too. */
static int is_other(const char *rest) {
    return rest[0] != '.' || bly_starts_with(rest, DAMAGED) || bly_starts_with(rest, BLY_REPLACED);
}

static belay_code collect(void *self, const char *name, belay_error *err) {
    struct files *files = self;
    size_t len = strlen(files->name);
    if (strncmp(name, files->name, len) != 0 || is_other(name + len))
        return BELAY_OK;
    if (!bly_grow(&files->found, files->count, &files->capacity, sizeof *files->found))
        return bly_fail_memory(err);
    files->found[files->count] = bly_strdup(name);
    return files->found[files->count++] ? BELAY_OK : bly_fail_memory(err);
}

static void files_free(struct files *files) {
    for (size_t i = 0; i < files->count; i++)
        bly_free(files->found[i]);
    bly_free(files->found);
}

static belay_code find_files(struct files *files, const char *directory, const char *name,
                             belay_error *err) {
    *files = (struct files){.name = name};
    belay_code code = bly_directory_list(directory[0] ? directory : ".", collect, files, err);
    for (size_t i = 0; i + 1 < files->count; i++) {
        if (files->found[i] && bly_ends_with(files->found[i], ".index")) {
            char *index = files->found[i];
            files->found[i] = files->found[files->count - 1];
            files->found[files->count - 1] = index;
        }
    }
    return code;
}

static belay_code sync_all(const char *directory, const struct files *files, belay_error *err) {
    belay_code code = BELAY_OK;
    for (size_t i = 0; code == BELAY_OK && i < files->count; i++) {
        char *path = bly_path_join(directory, files->found[i]);
        code = path ? bly_file_sync(path, err) : bly_fail_memory(err);
        bly_free(path);
    }
    return code;
}

/* Renames from/OLD to to/NEW. */
static belay_code move(const char *from, const char *old_name, const char *to, const char *new_name,
                       belay_error *err) {
    char *a = bly_path_join(from, old_name);
    char *b = bly_path_join(to, new_name);
    belay_code code = a && b ? bly_file_rename(a, b, err) : bly_fail_memory(err);
    bly_free(a);
    bly_free(b);
    return code;
}

static char *replaced_prefix(const char *directory, const char *name) {
    bly_buf path = BLY_BUF_INIT;
    bly_buf_printf(&path, "%s%s%s" BLY_REPLACED, directory, directory[0] ? "/" : "", name);
    return bly_buf_take(&path);
}

/* One file gets a second name; where the file system has no links, another one. */
static belay_code keep_file(const char *directory, const char *name, const char *second,
                            belay_error *err) {
    char *first = bly_path_join(directory, name);
    belay_code code = first ? BELAY_OK : bly_fail_memory(err);
    if (code == BELAY_OK && !bly_is_directory(first) && link(first, second) != 0)
        code = bly_file_rename(first, second, err);
    bly_free(first);
    return code;
}

/* A checkpoint of the same name is there (CK-17: a run began again at step 0; or it saves without a
 * step). Its files get second names, index last, so that it is whole under these before the first
 * of them goes. */
static belay_code keep_old(const char *directory, const char *name, const struct files *old,
                           belay_error *err) {
    char *replaced = replaced_prefix(directory, name);
    belay_code code = replaced ? bly_checkpoint_remove(replaced, err) : bly_fail_memory(err);
    for (size_t i = 0; code == BELAY_OK && i < old->count; i++) {
        bly_buf second = BLY_BUF_INIT;
        bly_buf_printf(&second, "%s%s", replaced, old->found[i] + strlen(name));
        code = second.failed ? bly_fail_memory(err)
                             : keep_file(directory, old->found[i], second.data, err);
        bly_buf_free(&second);
    }
    bly_free(replaced);
    return code == BELAY_OK ? bly_file_sync(directory[0] ? directory : ".", err) : code;
}

/* The index goes first, or it would for a moment speak of the new data files. */
static belay_code remove_index(const char *directory, const char *name, belay_error *err) {
    bly_buf index = BLY_BUF_INIT;
    belay_code code = BELAY_OK;
    bly_buf_printf(&index, "%s%s%s.index", directory, directory[0] ? "/" : "", name);
    if (index.failed)
        code = bly_fail_memory(err);
    else if (unlink(index.data) != 0 && errno != ENOENT)
        code = bly_fail_errno(err, errno, "cannot replace %s", index.data);
    bly_buf_free(&index);
    return code;
}

/* The new one did not come: what of it did goes, and the old one gets its names back. */
static void take_back_old(const char *directory, const char *name) {
    struct files kept = {NULL, NULL, 0, 0};
    BLY_LOCAL_ERROR(mine);
    char *prefix = replaced_prefix(directory, name);
    belay_code code = prefix ? find_files(&kept, directory, bly_path_base(prefix), &mine)
                             : bly_fail_memory(&mine);
    for (size_t i = 0; code == BELAY_OK && i < kept.count; i++) {
        bly_buf back = BLY_BUF_INIT;
        bly_buf_printf(&back, "%s%s", name, kept.found[i] + strlen(name) + strlen(BLY_REPLACED));
        code = back.failed ? bly_fail_memory(&mine)
                           : move(directory, kept.found[i], directory, back.data, &mine);
        bly_buf_free(&back);
    }
    if (code == BELAY_OK) /* two names of one file are left as they are by a rename */
        code = bly_checkpoint_remove(prefix, &mine);
    if (code != BELAY_OK)
        bly_warn("%s; the checkpoint %s of before is now called " BLY_REPLACED, mine.message, name);
    files_free(&kept);
    bly_free(prefix);
}

static void remove_moved(const char *directory, const struct files *files, size_t count) {
    for (size_t i = 0; i < count; i++) {
        char *path = bly_path_join(directory, files->found[i]);
        if (path)
            unlink(path);
        bly_free(path);
    }
}

static belay_code drop_old(const char *directory, const char *name, belay_error *err) {
    char *prefix = replaced_prefix(directory, name);
    belay_code code = prefix ? bly_checkpoint_remove(prefix, err) : bly_fail_memory(err);
    bly_free(prefix);
    return code;
}

/* Moves the files to a folder that may hold a checkpoint of that name. */
static belay_code move_all(const char *temporary, const char *directory, const char *name,
                           const struct files *files, belay_error *err) {
    struct files old;
    size_t moved = 0;
    belay_code code = find_files(&old, directory, name, err);
    int replaces =
        code == BELAY_OK && old.count > 0 && bly_ends_with(old.found[old.count - 1], ".index");
    if (replaces)
        code = keep_old(directory, name, &old, err);
    files_free(&old);
    if (code == BELAY_OK && replaces)
        code = remove_index(directory, name, err);
    while (code == BELAY_OK && moved < files->count) {
        code = move(temporary, files->found[moved], directory, files->found[moved], err);
        moved += code == BELAY_OK;
    }
    if (code != BELAY_OK) {
        remove_moved(directory, files, moved);
        if (replaces)
            take_back_old(directory, name);
        return code;
    }
    code = bly_file_sync(directory[0] ? directory : ".", err);
    return code == BELAY_OK ? drop_old(directory, name, err) : code;
}

belay_code bly_commit_finish(const char *temporary, const char *directory, const char *name,
                             belay_error *err) {
    struct files files;
    belay_code code = find_files(&files, temporary, name, err);
    if (code == BELAY_OK && files.count == 0)
        code = bly_fail(err, BELAY_INTERNAL, "the graph's save op wrote no file for %s", name);
    if (code == BELAY_OK)
        code = sync_all(temporary, &files, err);
    if (code == BELAY_OK)
        code = move_all(temporary, directory, name, &files, err);
    files_free(&files);
    if (code == BELAY_OK)
        bly_commit_abandon(temporary);
    return code;
}

/* NAME.damaged, or where there are files of that name NAME.damaged.damaged, and so on. */
static belay_code choose_aside(const char *directory, const char *name, bly_buf *aside,
                               belay_error *err) {
    struct files taken;
    belay_code code = BELAY_OK;
    bly_buf_puts(aside, name);
    do {
        bly_buf_puts(aside, DAMAGED);
        if (aside->failed)
            return bly_fail_memory(err);
        code = find_files(&taken, directory, aside->data, err);
        files_free(&taken);
    } while (code == BELAY_OK && taken.count > 0);
    return code;
}

belay_code bly_checkpoint_set_aside(const char *prefix, belay_error *err) {
    struct files files = {NULL, NULL, 0, 0};
    bly_buf aside = BLY_BUF_INIT;
    char *directory = bly_path_directory(prefix);
    if (!directory)
        return bly_fail_memory(err);
    const char *name = bly_path_base(prefix);
    belay_code code = choose_aside(directory, name, &aside, err);
    size_t stem = aside.len;
    if (code == BELAY_OK)
        code = find_files(&files, directory, name, err);
    for (size_t i = files.count; code == BELAY_OK && i-- > 0;) {
        aside.len = stem;
        bly_buf_puts(&aside, files.found[i] + strlen(name));
        code = aside.failed ? bly_fail_memory(err)
                            : move(directory, files.found[i], directory, aside.data, err);
    }
    files_free(&files);
    bly_buf_free(&aside);
    bly_free(directory);
    return code;
}
