#define _GNU_SOURCE
#include "run/fresh.h"

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "checkpoint/state.h"
#include "run/names.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

/* The end of "NAME.data-00000-of-00001", as TensorFlow spells it. */
static int is_data_file(const char *name) {
    const char *data = strstr(name, ".data-");
    unsigned shard, count;
    int used = 0;
    return data && sscanf(data, ".data-%5u-of-%5u%n", &shard, &count, &used) == 2 && !data[used];
}

static int is_of_a_training(const char *name) {
    return bly_ends_with(name, ".index") || is_data_file(name) || bly_ends_with(name, ".meta") ||
           bly_ends_with(name, ".belay.json") || !strcmp(name, BLY_STATE_FILE) ||
           !strcmp(name, "graph.pbtxt") || bly_starts_with(name, "events.out.tfevents.");
}

struct found {
    const char *folder;
    bly_names names;
};

static belay_code note(void *self, const char *name, belay_error *err) {
    struct found *found = self;
    if (!is_of_a_training(name))
        return BELAY_OK;
    char *path = bly_path_join(found->folder, name);
    if (!path)
        return bly_fail_memory(err);
    int is_file = bly_file_exists(path);
    bly_free(path);
    return is_file ? bly_names_add(&found->names, name, err) : BELAY_OK;
}

/* The order in which files go: the state file, then indexes from the oldest on, then the rest.
 * Without its index a checkpoint is none, so what a crash leaves is the newest checkpoint or
 * nothing. */
static int rank_of(const char *name) {
    return !strcmp(name, BLY_STATE_FILE) ? 0 : bly_ends_with(name, ".index") ? 1 : 2;
}

static int64_t step_of_index(const char *name) {
    char prefix[512];
    size_t ignored;
    snprintf(prefix, sizeof prefix, "%.*s", (int)(strlen(name) - strlen(".index")), name);
    return bly_checkpoint_split(prefix, &ignored); /* of the name alone: it is asked in a sort */
}

static int compare(const void *a, const void *b) {
    const char *x = *(char *const *)a, *y = *(char *const *)b;
    if (rank_of(x) != rank_of(y))
        return rank_of(x) - rank_of(y);
    if (rank_of(x) == 1 && step_of_index(x) != step_of_index(y))
        return step_of_index(x) < step_of_index(y) ? -1 : 1;
    return strcmp(x, y);
}

/* Makes FOLDER/before-20240131T235959Z, with a number behind it where that is there already. */
static char *make_folder(const char *folder, belay_error *err) {
    time_t now = time(NULL);
    struct tm utc;
    char stamp[32];
    gmtime_r(&now, &utc);
    strftime(stamp, sizeof stamp, "%Y%m%dT%H%M%SZ", &utc);
    for (int n = 1; n < 1000; n++) {
        bly_buf path = BLY_BUF_INIT;
        bly_buf_printf(&path, "%s/before-%s", folder, stamp);
        if (n > 1)
            bly_buf_printf(&path, "-%d", n);
        if (path.failed) {
            bly_fail_memory(err);
            return NULL;
        }
        if (!mkdir(path.data, 0777))
            return bly_buf_take(&path);
        if (errno != EEXIST) {
            bly_fail_errno(err, errno, "cannot make folder %s", path.data);
            bly_buf_free(&path);
            return NULL;
        }
        bly_buf_free(&path);
    }
    bly_fail(err, BELAY_ALREADY_EXISTS, "%s holds a thousand folders of this second", folder);
    return NULL;
}

static belay_code move(const char *folder, const char *to, const char *name, belay_error *err) {
    char *from_path = bly_path_join(folder, name), *to_path = bly_path_join(to, name);
    belay_code code =
        from_path && to_path ? bly_file_rename(from_path, to_path, err) : bly_fail_memory(err);
    bly_free(from_path);
    bly_free(to_path);
    return code;
}

belay_code bly_fresh_start(const char *folder, char **out_to, belay_error *err) {
    struct found found = {folder, BLY_NAMES_INIT};
    *out_to = NULL;
    belay_code code = bly_directory_list(folder, note, &found, err);
    if (code == BELAY_OK && found.names.count) {
        qsort(found.names.items, found.names.count, sizeof *found.names.items, compare);
        *out_to = make_folder(folder, err);
        code = *out_to ? BELAY_OK : belay_error_code(err);
    }
    for (size_t i = 0; i < found.names.count && code == BELAY_OK; i++)
        code = move(folder, *out_to, found.names.items[i], err);
    if (code == BELAY_OK && *out_to)
        code = bly_file_sync(folder, err);
    bly_names_free(&found.names);
    return code;
}
