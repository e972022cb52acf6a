/* The public face of a folder of checkpoints (belay/checkpoint.h). */
#include <belay/checkpoint.h>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "checkpoint/manifest.h"
#include "checkpoint/state.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct belay_checkpoint_list {
    bly_found_list found; /* owns prefixes and problems */
    belay_checkpoint_info *infos;
    char *state_problem;
};

_Static_assert(sizeof(belay_checkpoint_info) ==
                   offsetof(belay_checkpoint_info, reserved) + sizeof(uint32_t),
               "no tail padding");

/* ---- The newest ---- */

/* The newest checkpoint that the state file lists and that is there; NULL: none (BUG-33). */
static char *newest_listed(bly_state *state) {
    char *taken = NULL;
    if (bly_checkpoint_exists(state->latest)) {
        taken = state->latest;
        state->latest = NULL;
        return taken;
    }
    bly_error("Couldn't match files for checkpoint %s", state->latest);
    for (size_t i = state->count; i > 0 && !taken; i--) {
        if (!bly_checkpoint_exists(state->paths[i - 1]))
            continue;
        taken = state->paths[i - 1];
        state->paths[i - 1] = NULL;
        bly_warn("going on from %s, the newest listed checkpoint that is there", taken);
    }
    return taken;
}

/* The newest complete checkpoint that lies in the folder, whatever the state file says (BUG-32). */
static char *newest_found(const char *directory, belay_error *err) {
    bly_found_list found;
    char *taken = NULL;
    if (bly_checkpoint_scan(directory, NULL, &found, err) != BELAY_OK)
        return NULL;
    for (size_t i = found.count; i > 0 && !taken; i--) {
        if (!found.items[i - 1].complete)
            continue;
        taken = found.items[i - 1].prefix;
        found.items[i - 1].prefix = NULL;
        bly_warn("no state file in %s leads to a checkpoint; going on from %s, the newest there",
                 directory[0] ? directory : ".", taken);
    }
    if (!taken && found.count > 0)
        bly_fail(err, BELAY_DATA_LOSS, "no checkpoint in %s is complete; the newest: %s", directory,
                 found.items[found.count - 1].problem);
    else if (!taken)
        bly_fail(err, BELAY_NOT_FOUND, "no checkpoint in %s", directory[0] ? directory : ".");
    bly_found_list_free(&found);
    return taken;
}

char *belay_latest_checkpoint(const char *directory, belay_error *err) {
    bly_state state;
    BLY_LOCAL_ERROR(why);
    char *taken = NULL;
    if (!directory) {
        if (belay_error_code(err) == BELAY_OK)
            bly_fail(err, BELAY_INVALID_ARGUMENT, "no folder was named");
        return NULL;
    }
    belay_code code = bly_state_read(directory, NULL, &state, &why);
    if (code == BELAY_OK) {
        taken = newest_listed(&state);
        bly_state_free(&state);
    } else if (code == BELAY_DATA_LOSS) {
        bly_warn("%s", why.message);
        bly_warn("%s%s" BLY_STATE_FILE ": Checkpoint ignored", directory, directory[0] ? "/" : "");
    } else if (code != BELAY_NOT_FOUND) {
        bly_error_copy(err, &why);
        return NULL;
    }
    return taken ? taken : newest_found(directory, err);
}

void belay_checkpoint_path_free(char *path) {
    bly_free(path);
}

/* ---- All of them ---- */

static int stat_folder(const char *path, struct stat *info) {
    char folder[PATH_MAX];
    size_t len = (size_t)(bly_path_base(path) - path);
    if (len >= sizeof folder)
        return 0;
    memcpy(folder, path, len); /* with its slash */
    folder[len] = '\0';
    return stat(len ? folder : ".", info) == 0;
}

/* A state file may name the same folder in another way: absolute, or with "./" in it. */
static int same_checkpoint(const char *a, const char *b) {
    struct stat x, y;
    if (strcmp(a, b) == 0)
        return 1;
    return strcmp(bly_path_base(a), bly_path_base(b)) == 0 && stat_folder(a, &x) &&
           stat_folder(b, &y) && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

static int by_base(const void *a, const void *b) {
    const belay_checkpoint_info *const *x = a, *const *y = b;
    return strcmp(bly_path_base((*x)->prefix), bly_path_base((*y)->prefix));
}

static int compare_base(const void *key, const void *element) {
    const belay_checkpoint_info *const *info = element;
    return strcmp(key, bly_path_base((*info)->prefix));
}

static void mark(belay_checkpoint_info **sorted, size_t count, const char *path, uint32_t flags) {
    belay_checkpoint_info **found =
        bsearch(bly_path_base(path), sorted, count, sizeof(belay_checkpoint_info *), compare_base);
    if (found && same_checkpoint((*found)->prefix, path))
        (*found)->flags |= flags;
}

static belay_code mark_listed(belay_checkpoint_list *list, const bly_state *state,
                              belay_error *err) {
    size_t count = list->found.count;
    belay_checkpoint_info **sorted = bly_calloc(count, sizeof(belay_checkpoint_info *));
    if (!sorted)
        return bly_fail_memory(err);
    for (size_t i = 0; i < count; i++)
        sorted[i] = &list->infos[i];
    qsort(sorted, count, sizeof(belay_checkpoint_info *), by_base);
    if (state->latest)
        mark(sorted, count, state->latest, BELAY_CHECKPOINT_LATEST | BELAY_CHECKPOINT_LISTED);
    for (size_t i = 0; i < state->count; i++)
        mark(sorted, count, state->paths[i], BELAY_CHECKPOINT_LISTED);
    bly_free(sorted);
    return BELAY_OK;
}

static belay_code add_manifest(belay_checkpoint_info *info, bly_found *found, belay_error *err) {
    bly_manifest manifest;
    BLY_LOCAL_ERROR(why);
    int there = 0;
    if (!found->has_manifest)
        return BELAY_OK;
    belay_code code = bly_manifest_read(found->prefix, &manifest, &there, &why);
    if (code == BELAY_RESOURCE_EXHAUSTED) {
        bly_error_copy(err, &why);
        return code;
    }
    if (code != BELAY_OK && !found->problem) {
        found->problem = bly_strdup(why.message);
        if (!found->problem)
            return bly_fail_memory(err);
    }
    if (!there)
        return BELAY_OK;
    info->flags |= BELAY_CHECKPOINT_MANIFEST | (manifest.pinned ? BELAY_CHECKPOINT_PINNED : 0);
    info->saved_unix_ms = manifest.saved_unix_ms;
    if (info->step == BELAY_NO_STEP)
        info->step = manifest.step;
    bly_manifest_free(&manifest);
    return BELAY_OK;
}

static belay_code describe(belay_checkpoint_list *list, const bly_state *state, belay_error *err) {
    list->infos = bly_calloc(list->found.count, sizeof *list->infos);
    if (!list->infos)
        return bly_fail_memory(err);
    for (size_t i = 0; i < list->found.count; i++) {
        bly_found *found = &list->found.items[i];
        belay_checkpoint_info *info = &list->infos[i];
        info->prefix = found->prefix;
        info->step = found->step;
        info->saved_unix_ms = (int64_t)(found->mtime * 1000);
        info->size_bytes = found->size_bytes;
        info->flags = found->complete ? BELAY_CHECKPOINT_COMPLETE : 0;
        belay_code code = add_manifest(info, found, err);
        info->problem = found->problem;
        if (code != BELAY_OK)
            return code;
    }
    return mark_listed(list, state, err);
}

static belay_code load(belay_checkpoint_list *list, const char *directory, belay_error *err) {
    bly_state state;
    BLY_LOCAL_ERROR(why);
    if (!bly_is_directory(directory[0] ? directory : "."))
        return bly_fail(err, BELAY_NOT_FOUND, "no folder %s", directory);
    belay_code code = bly_state_read(directory, NULL, &state, &why);
    if (code == BELAY_RESOURCE_EXHAUSTED) {
        bly_error_copy(err, &why);
        return code;
    }
    if (code != BELAY_OK && code != BELAY_NOT_FOUND) {
        list->state_problem = bly_strdup(why.message);
        if (!list->state_problem)
            return bly_fail_memory(err);
    }
    code = bly_checkpoint_scan(directory, NULL, &list->found, err);
    if (code == BELAY_OK)
        code = describe(list, &state, err);
    bly_state_free(&state);
    return code;
}

belay_checkpoint_list *belay_checkpoint_list_load(const char *directory, belay_error *err) {
    if (!directory) {
        if (belay_error_code(err) == BELAY_OK)
            bly_fail(err, BELAY_INVALID_ARGUMENT, "no folder was named");
        return NULL;
    }
    belay_checkpoint_list *list = bly_calloc(1, sizeof *list);
    if (!list) {
        bly_fail_memory(err);
        return NULL;
    }
    if (load(list, directory, err) == BELAY_OK)
        return list;
    belay_checkpoint_list_free(list);
    return NULL;
}

void belay_checkpoint_list_free(belay_checkpoint_list *list) {
    if (!list)
        return;
    bly_found_list_free(&list->found);
    bly_free(list->infos);
    bly_free(list->state_problem);
    bly_free(list);
}

size_t belay_checkpoint_list_count(const belay_checkpoint_list *list) {
    return list ? list->found.count : 0;
}

const belay_checkpoint_info *belay_checkpoint_list_at(const belay_checkpoint_list *list,
                                                      size_t index) {
    return list && index < list->found.count ? &list->infos[index] : NULL;
}

const char *belay_checkpoint_list_state_problem(const belay_checkpoint_list *list) {
    return list ? list->state_problem : NULL;
}
