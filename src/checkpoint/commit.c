#include "checkpoint/commit.h"

#include "base/buf.h"
#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TEMPORARY_NAME ".belay-saving"

char *bly_commit_begin(const char *directory, const char *path, belay_error *err) {
    const char *folder = directory[0] ? directory : ".";
    if (!bly_is_directory(folder)) {
        bly_fail(err, BELAY_NOT_FOUND, "Parent directory of %s doesn't exist, can't save.", path);
        return NULL;
    }
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

/* Names of the files "NAME.*" in a folder, the index last. */
struct files {
    const char *name;
    char **found;
    size_t count, capacity;
};

static belay_code collect(void *self, const char *name, belay_error *err) {
    struct files *files = self;
    size_t len = strlen(files->name);
    if (strncmp(name, files->name, len) != 0 || name[len] != '.')
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

/* A checkpoint of the same name is there (a run that began again at step 0, CK-17): its index goes
 * first, or it would for a moment speak of the new data files. */
static belay_code remove_old_index(const char *directory, const char *name, belay_error *err) {
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

belay_code bly_commit_finish(const char *temporary, const char *directory, const char *name,
                             belay_error *err) {
    struct files files;
    belay_code code = find_files(&files, temporary, name, err);
    if (code == BELAY_OK && files.count == 0)
        code = bly_fail(err, BELAY_INTERNAL, "the graph's save op wrote no file for %s", name);
    if (code == BELAY_OK)
        code = sync_all(temporary, &files, err);
    if (code == BELAY_OK)
        code = remove_old_index(directory, name, err);
    for (size_t i = 0; code == BELAY_OK && i < files.count; i++)
        code = move(temporary, files.found[i], directory, files.found[i], err);
    if (code == BELAY_OK)
        code = bly_file_sync(directory[0] ? directory : ".", err);
    files_free(&files);
    if (code == BELAY_OK)
        bly_commit_abandon(temporary);
    return code;
}

belay_code bly_checkpoint_set_aside(const char *prefix, belay_error *err) {
    struct files files;
    char *directory = bly_path_directory(prefix);
    if (!directory)
        return bly_fail_memory(err);
    const char *name = bly_path_base(prefix);
    belay_code code = find_files(&files, directory, name, err);
    for (size_t i = files.count; code == BELAY_OK && i-- > 0;) {
        const char *rest = files.found[i] + strlen(name);
        bly_buf aside = BLY_BUF_INIT;
        bly_buf_printf(&aside, "%s.damaged%s", name, rest);
        if (!bly_starts_with(rest, ".damaged"))
            code = aside.failed ? bly_fail_memory(err)
                                : move(directory, files.found[i], directory, aside.data, err);
        bly_buf_free(&aside);
    }
    files_free(&files);
    bly_free(directory);
    return code;
}
