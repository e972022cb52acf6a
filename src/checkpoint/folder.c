/* What really lies in a folder of checkpoints: finding and removing them, by exact names (state.h).
 */
#include "checkpoint/state.h"

#include "base/buf.h"
#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/text.h"
#include "checkpoint/bundle.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Five digits or more, as "%05d" makes them. Returns what follows, or NULL. */
static const char *skip_digits(const char *text) {
    size_t count = strspn(text, "0123456789");
    return count >= 5 ? text + count : NULL;
}

/* 1 where `name` is "<base>.data-SSSSS-of-NNNNN". */
static int is_data_of(const char *name, const char *base, size_t base_len) {
    if (strncmp(name, base, base_len) != 0 || !bly_starts_with(name + base_len, ".data-"))
        return 0;
    const char *after = skip_digits(name + base_len + strlen(".data-"));
    if (!after || !bly_starts_with(after, "-of-"))
        return 0;
    after = skip_digits(after + strlen("-of-"));
    return after && *after == '\0';
}

static char *folder_of(const char *prefix) {
    char *directory = bly_path_directory(prefix);
    if (directory && directory[0] == '\0') {
        bly_free(directory);
        directory = bly_strdup(".");
    }
    return directory;
}

/* ---- Removing ---- */

struct removal {
    const char *directory;
    const char *base;
    belay_error *err; /* filled once */
    belay_code code;
};

/* Removes a file; one that is not there is fine. The first failure is kept, and does not stop the
 * rest. */
static void remove_file(struct removal *removal, const char *path) {
    if (!path && removal->code == BELAY_OK)
        removal->code = bly_fail_memory(removal->err);
    if (!path || unlink(path) == 0 || errno == ENOENT || errno == ENOTDIR)
        return;
    if (removal->code == BELAY_OK)
        removal->code = bly_fail_errno(removal->err, errno, "cannot remove %s", path);
}

static belay_code remove_data(void *self, const char *name, belay_error *err) {
    struct removal *removal = self;
    (void)err;
    if (!is_data_of(name, removal->base, strlen(removal->base)))
        return BELAY_OK;
    char *path = bly_path_join(removal->directory, name);
    remove_file(removal, path);
    bly_free(path);
    return BELAY_OK;
}

static void remove_suffixed(struct removal *removal, const char *prefix, const char *suffix) {
    bly_buf path = BLY_BUF_INIT;
    bly_buf_printf(&path, "%s%s", prefix, suffix);
    remove_file(removal, path.failed ? NULL : path.data);
    bly_buf_free(&path);
}

belay_code bly_checkpoint_remove(const char *prefix, belay_error *err) {
    char *directory = folder_of(prefix), *meta = bly_checkpoint_meta_name(prefix);
    struct removal removal = {directory, bly_path_base(prefix), err, BELAY_OK};
    if (!directory || !meta) {
        bly_free(directory);
        bly_free(meta);
        return bly_fail_memory(err);
    }
    remove_suffixed(&removal, prefix, ".index");
    BLY_LOCAL_ERROR(why);
    belay_code code = bly_directory_list(directory, remove_data, &removal, &why);
    remove_file(&removal, meta);
    remove_suffixed(&removal, prefix, ".belay.json");
    bly_free(directory);
    bly_free(meta);
    if (removal.code == BELAY_OK && code != BELAY_OK && code != BELAY_NOT_FOUND) {
        bly_error_copy(err, &why);
        return code;
    }
    return removal.code;
}

/* ---- Finding ---- */

struct names {
    char **items;
    size_t count, capacity;
};

struct scan {
    const char *directory;
    const char *base;
    struct names names; /* of everything in the folder, sorted */
    bly_found_list *out;
};

static belay_code keep_name(void *self, const char *name, belay_error *err) {
    struct names *names = self;
    char *copy = bly_strdup(name);
    if (!copy || !bly_grow(&names->items, names->count, &names->capacity, sizeof *names->items)) {
        bly_free(copy);
        return bly_fail_memory(err);
    }
    names->items[names->count++] = copy;
    return BELAY_OK;
}

/* "base", or "base-STEP". */
static int has_base(const char *name, size_t len, const char *base) {
    size_t base_len = strlen(base);
    if (len < base_len || strncmp(name, base, base_len) != 0)
        return 0;
    if (len == base_len)
        return 1;
    if (name[base_len] == '-' && name[base_len + 1] == '-') /* a negative one */
        base_len++;
    size_t digits = strspn(name + base_len + 1, "0123456789");
    return name[base_len] == '-' && digits > 0 && base_len + 1 + digits == len;
}

/* Without allocation: that memory is out must not look like "it is not there". */
static int stat_in(const char *directory, const char *name, struct stat *info) {
    char path[PATH_MAX];
    int len = snprintf(path, sizeof path, "%s/%s", directory[0] ? directory : ".", name);
    return len > 0 && (size_t)len < sizeof path && stat(path, info) == 0 && S_ISREG(info->st_mode);
}

/* Where names that begin with the first `len` bytes of `base` begin. */
static size_t first_of(const struct names *names, const char *base, size_t len) {
    size_t low = 0, high = names->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strncmp(names->items[middle], base, len) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Looks at what belongs to the checkpoint called by the first `len` bytes of `base`. */
static void look_around(const struct scan *scan, const char *base, size_t len, bly_found *found,
                        int *out_data) {
    struct stat info;
    for (size_t i = first_of(&scan->names, base, len); i < scan->names.count; i++) {
        const char *name = scan->names.items[i];
        if (strncmp(name, base, len) != 0)
            break;
        if (strcmp(name + len, ".belay.json") == 0)
            found->has_manifest = 1;
        if (is_data_of(name, base, len) && stat_in(scan->directory, name, &info)) {
            *out_data = 1;
            found->size_bytes += (uint64_t)info.st_size;
        }
    }
}

/* Loads the bundle to see whether it is complete. `*out_known` is 0 where the file is nothing that
 * we need to report: it has vanished, or is no index and nothing else looks like a checkpoint
 * either. */
static belay_code examine(bly_found *found, int has_data, int *out_known, belay_error *err) {
    BLY_LOCAL_ERROR(why);
    bly_bundle *bundle = bly_bundle_load(found->prefix, &why);
    *out_known = 1;
    if (bundle) {
        found->complete = 1;
        bly_bundle_free(bundle);
        return BELAY_OK;
    }
    if (why.code == BELAY_RESOURCE_EXHAUSTED) {
        bly_error_copy(err, &why);
        return why.code;
    }
    if (why.code == BELAY_NOT_FOUND ||
        (why.code == BELAY_DATA_LOSS && !has_data && found->step == BELAY_NO_STEP))
        *out_known = 0;
    found->code = why.code;
    found->problem = bly_strdup(why.message);
    return found->problem ? BELAY_OK : bly_fail_memory(err);
}

static void clear_found(bly_found *found) {
    bly_free(found->prefix);
    bly_free(found->problem);
}

static belay_code find_one(struct scan *scan, const char *name, size_t len, belay_error *err) {
    struct stat info;
    if (!stat_in(scan->directory, name, &info))
        return BELAY_OK;
    bly_found found = {.size_bytes = (uint64_t)info.st_size};
    found.mtime = (double)info.st_mtim.tv_sec + (double)info.st_mtim.tv_nsec / 1e9;
    int has_data = 0, known = 0;
    char *base = bly_strndup(name, len);
    found.prefix = base ? bly_path_join(scan->directory, base) : NULL;
    bly_free(base);
    if (!found.prefix)
        return bly_fail_memory(err);
    found.step = bly_checkpoint_step_of(found.prefix);
    look_around(scan, name, len, &found, &has_data);
    belay_code code = examine(&found, has_data, &known, err);
    if (code == BELAY_OK && known &&
        !bly_grow(&scan->out->items, scan->out->count, &scan->out->capacity,
                  sizeof *scan->out->items))
        code = bly_fail_memory(err);
    if (code == BELAY_OK && known)
        scan->out->items[scan->out->count++] = found;
    else
        clear_found(&found);
    return code;
}

static int compare_found(const void *a, const void *b) {
    const bly_found *x = a, *y = b;
    if (x->step != y->step)
        return x->step < y->step ? -1 : 1;
    if (x->mtime != y->mtime)
        return x->mtime < y->mtime ? -1 : 1;
    return strcmp(x->prefix, y->prefix);
}

belay_code bly_checkpoint_scan(const char *directory, const char *base, bly_found_list *out,
                               belay_error *err) {
    static const char index[] = ".index";
    struct scan scan = {.directory = directory, .base = base, .out = out};
    BLY_LOCAL_ERROR(why);
    *out = (bly_found_list){NULL, 0, 0};
    belay_code code =
        bly_directory_list(directory[0] ? directory : ".", keep_name, &scan.names, &why);
    for (size_t i = 0; i < scan.names.count && code == BELAY_OK; i++) {
        const char *name = scan.names.items[i];
        size_t len = strlen(name);
        if (len <= strlen(index) || !bly_ends_with(name, index))
            continue;
        len -= strlen(index);
        if (!base || has_base(name, len, base))
            code = find_one(&scan, name, len, &why);
    }
    for (size_t i = 0; i < scan.names.count; i++)
        bly_free(scan.names.items[i]);
    bly_free(scan.names.items);
    if (code == BELAY_NOT_FOUND)
        return BELAY_OK;
    if (code != BELAY_OK) {
        bly_found_list_free(out);
        bly_error_copy(err, &why);
        return code;
    }
    if (out->count > 1)
        qsort(out->items, out->count, sizeof *out->items, compare_found);
    return BELAY_OK;
}

void bly_found_list_free(bly_found_list *list) {
    for (size_t i = 0; i < list->count; i++)
        clear_found(&list->items[i]);
    bly_free(list->items);
    *list = (bly_found_list){NULL, 0, 0};
}
