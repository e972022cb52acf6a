/* Savers: restoring, and finding what to restore. */
#include "checkpoint/saver_impl.h"

#include "base/buf.h"
#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "base/text_set.h"
#include "checkpoint/commit.h"
#include "checkpoint/manifest.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

const char *bly_saver_restored_prefix(const belay_saver *saver) {
    return saver ? saver->restored_prefix : NULL;
}

/* ---- one checkpoint ---- */

/* Runs an op that restores. TensorFlow takes the prefix for a pattern (BUG-38): a folder whose name
 * does not match itself is reached through a descriptor. */
belay_code bly_saver_run_restore(belay_session *session, const char *feed, const char *prefix,
                                 const char *target, belay_error *err) {
    bly_buf alias = BLY_BUF_INIT;
    int fd = -1;
    belay_code code = BELAY_OK;
    char *directory = bly_path_directory(prefix);
    if (!directory)
        return bly_fail_memory(err);
    if (!belay_session_target(session)[0] && strpbrk(directory, "[\\"))
        fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        bly_buf_printf(&alias, "/proc/self/fd/%d/%s", fd, bly_path_base(prefix));
        code = alias.failed ? bly_fail_memory(err) : BELAY_OK;
    }
    if (code == BELAY_OK)
        code = bly_saver_run(session, feed, fd >= 0 ? alias.data : prefix, NULL, target, err);
    if (code == BELAY_OUT_OF_RANGE) { /* a file is too short: not the end of the input */
        code = BELAY_DATA_LOSS;
        if (err)
            err->code = code;
    }
    if (fd >= 0)
        close(fd);
    bly_buf_free(&alias);
    bly_free(directory);
    return code;
}

belay_code bly_saver_restore_items(belay_session *session, const belay_graph *graph,
                                   const bly_restored *items, size_t count, const char *prefix,
                                   belay_error *err) {
    char feed[512];
    TF_Output input;
    TF_Operation *restore = NULL;
    belay_code code = bly_build_restore(graph, items, count, &input, &restore, err);
    if (code != BELAY_OK)
        return code;
    bly_info("Restoring parameters from %s", prefix);
    bly_graph_output_name(graph, input, feed, sizeof feed);
    return bly_saver_run_restore(session, feed, prefix, graph->rt->OperationName(restore), err);
}

/* The step that belay counts is not among what the graph's own saver restores. */
static belay_code restore_step(belay_saver *saver, belay_session *session, const bly_bundle *bundle,
                               belay_error *err) {
    const belay_graph *graph = saver->graph;
    char feed[512];
    if (!saver->has_side)
        return BELAY_OK;
    if (bly_bundle_find(bundle, graph->global_step.name)) {
        bly_graph_output_name(graph, saver->side.prefix, feed, sizeof feed);
        return bly_saver_run_restore(session, feed, bly_bundle_prefix(bundle),
                                     graph->rt->OperationName(saver->side.restore), err);
    }
    bly_warn("%s holds no %s; steps are counted from 0", bly_bundle_prefix(bundle),
             graph->global_step.name);
    for (size_t i = 0; i < graph->variable_count; i++) {
        const bly_variable *variable = &graph->variables[i];
        if (strcmp(variable->info.name, graph->global_step.name) != 0 || !variable->initializer)
            continue;
        const char *targets[] = {graph->rt->OperationName(variable->initializer), NULL};
        return belay_session_run(session, NULL, NULL, NULL, NULL, targets, NULL, err);
    }
    return BELAY_OK;
}

/* What the manifest says of it. One that cannot be read is no reason to refuse the checkpoint. */
static belay_code read_manifest(belay_saver *saver, const char *prefix, belay_error *err) {
    bly_manifest manifest = BLY_MANIFEST_INIT;
    BLY_LOCAL_ERROR(mine);
    int found = 0;
    char *copy = bly_strdup(prefix);
    if (!copy)
        return bly_fail_memory(err);
    bly_free(saver->restored_prefix);
    bly_free(saver->restored_input);
    saver->restored_prefix = copy;
    saver->restored_input = NULL;
    if (bly_manifest_read(prefix, &manifest, &found, &mine) != BELAY_OK)
        bly_warn("%s; the position in the input is not known", mine.message);
    if (found) {
        saver->restored_input = manifest.input;
        manifest.input = NULL;
        if (manifest.origin_unix_ms > 0)
            saver->origin_unix_ms = manifest.origin_unix_ms;
    }
    bly_manifest_free(&manifest);
    return BELAY_OK;
}

static belay_code restore_bundle(belay_saver *saver, belay_session *session,
                                 const bly_bundle *bundle, belay_error *err) {
    const Bly__SaverDef *def = saver->def;
    BLY_LOCAL_ERROR(mine);
    belay_code code = bly_saver_check_compatible(saver, bundle, &mine);
    if (code == BELAY_NOT_FOUND) {
        int done = 0;
        code = bly_saver_restore_objects(saver, session, bundle, &done, err);
        if (code != BELAY_OK || done)
            return code;
        code = mine.code;
    }
    if (code != BELAY_OK) {
        bly_error_copy(err, &mine);
        return code;
    }
    bly_info("Restoring parameters from %s", bly_bundle_prefix(bundle));
    code = bly_saver_run_restore(session, def->filename_tensor_name, bly_bundle_prefix(bundle),
                                 def->restore_op_name, err);
    if (code == BELAY_NOT_FOUND || code == BELAY_INVALID_ARGUMENT)
        bly_error_prefix(err, "Restoring from checkpoint failed. ");
    if (code == BELAY_OK)
        code = restore_step(saver, session, bundle, err);
    return code;
}

static int has_index(const char *prefix) {
    bly_buf index = BLY_BUF_INIT;
    bly_buf_printf(&index, "%s.index", prefix);
    int has = !index.failed && bly_file_exists(index.data);
    bly_buf_free(&index);
    return has;
}

static int is_v1(const char *prefix) {
    struct stat info;
    return !has_index(prefix) && stat(prefix, &info) == 0 && S_ISREG(info.st_mode);
}

bly_bundle *bly_saver_load_verified(const char *prefix, belay_error *err) {
    bly_bundle *bundle;
    if (bly_is_directory(prefix) && !has_index(prefix)) {
        bly_fail(err, BELAY_DATA_LOSS, "%s is a folder, and no checkpoint", prefix);
        return NULL;
    }
    if (is_v1(prefix)) {
        bundle = bly_bundle_load_v1(prefix, err);
        if (bundle)
            bly_info("%s is of the old V1 format; what is saved from now on is V2", prefix);
        return bundle;
    }
    bundle = bly_bundle_load(prefix, err);
    if (bundle && bly_bundle_verify(bundle, NULL, NULL, err) == BELAY_OK)
        return bundle;
    bly_bundle_free(bundle);
    return NULL;
}

belay_code belay_saver_restore(belay_saver *saver, belay_session *session, const char *prefix,
                               belay_error *err) {
    if (!saver || !session)
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "%s is NULL", saver ? "session" : "saver");
    if (!prefix)
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "Can't load save_path when it is None.");
    if (!saver->def)
        return BELAY_OK; /* SV-03 */
    BLY_LOCAL_ERROR(mine);
    if (!bly_checkpoint_exists(prefix))
        return bly_fail(err, BELAY_NOT_FOUND, "The passed save_path is not a valid checkpoint: %s",
                        prefix);
    bly_bundle *bundle = bly_saver_load_verified(prefix, &mine);
    if (bundle)
        restore_bundle(saver, session, bundle, &mine);
    bly_bundle_free(bundle);
    if (mine.code == BELAY_OK)
        read_manifest(saver, prefix, &mine);
    if (mine.code != BELAY_OK)
        bly_error_copy(err, &mine);
    return mine.code;
}

belay_code bly_verify_initial_checkpoint(const belay_graph *graph, belay_error *err) {
    BLY_LOCAL_ERROR(mine);
    if (!graph->initial_checkpoint || !bly_graph_saver_def(graph))
        return BELAY_OK;
    bly_bundle_free(bly_saver_load_verified(graph->initial_checkpoint, &mine));
    if (mine.code != BELAY_OK)
        bly_error_copy(err, &mine);
    return mine.code;
}

belay_code bly_restore_initial_checkpoint(belay_session *session, belay_error *err) {
    const belay_graph *graph = belay_session_graph(session);
    const Bly__SaverDef *def = bly_graph_saver_def(graph);
    BLY_LOCAL_ERROR(mine);
    if (!graph->initial_checkpoint || !def)
        return BELAY_OK;
    bly_bundle *bundle = bly_saver_load_verified(graph->initial_checkpoint, &mine);
    if (bundle)
        bly_saver_run_restore(session, def->filename_tensor_name, graph->initial_checkpoint,
                              def->restore_op_name, &mine);
    bly_bundle_free(bundle);
    if (mine.code != BELAY_OK)
        bly_error_copy(err, &mine);
    return mine.code;
}

/* ---- the newest of a folder ---- */

/* Prefixes to try, the first one first. */
struct candidates {
    char **prefixes;
    size_t count, capacity;
    bly_text_set seen;
};

static belay_code add(struct candidates *list, const char *prefix, belay_error *err) {
    if (bly_text_set_has(&list->seen, prefix))
        return BELAY_OK;
    if (!bly_grow(&list->prefixes, list->count, &list->capacity, sizeof *list->prefixes))
        return bly_fail_memory(err);
    char *copy = bly_strdup(prefix);
    if (!copy || !bly_text_set_add(&list->seen, copy)) {
        bly_free(copy);
        return bly_fail_memory(err);
    }
    list->prefixes[list->count++] = copy;
    return BELAY_OK;
}

static void candidates_free(struct candidates *list) {
    for (size_t i = 0; i < list->count; i++)
        bly_free(list->prefixes[i]);
    bly_free(list->prefixes);
    bly_text_set_free(&list->seen);
}

static int is_same_folder(const char *a, const char *b) {
    struct stat first, second;
    return stat(a[0] ? a : ".", &first) == 0 && stat(b[0] ? b : ".", &second) == 0 &&
           first.st_dev == second.st_dev && first.st_ino == second.st_ino;
}

/* One folder has many names, and the state file may use another one than the caller: `path` as
 * somebody in `directory` calls it. *out_inside: it lies there. */
static belay_code localize(char **path, const char *directory, int *out_inside, belay_error *err) {
    char *folder = bly_path_directory(*path);
    *out_inside = folder && is_same_folder(folder, directory);
    char *local = *out_inside ? bly_path_join(directory, bly_path_base(*path)) : NULL;
    int failed = !folder || (*out_inside && !local);
    bly_free(folder);
    if (failed)
        return bly_fail_memory(err);
    if (local) {
        bly_free(*path);
        *path = local;
    }
    return BELAY_OK;
}

/* A process was killed while a checkpoint took the place of one of the same name. */
static belay_code add_replaced(struct candidates *list, const char *prefix, belay_error *err) {
    bly_buf old = BLY_BUF_INIT;
    bly_buf_printf(&old, "%s" BLY_REPLACED, prefix);
    belay_code code = old.failed ? bly_fail_memory(err) : BELAY_OK;
    if (code == BELAY_OK && bly_checkpoint_exists(old.data))
        code = add(list, old.data, err);
    bly_buf_free(&old);
    return code;
}

static belay_code note_foreign(belay_saver *saver, const char *prefix, belay_error *err) {
    if (!bly_grow(&saver->foreign, saver->foreign_count, &saver->foreign_capacity,
                  sizeof *saver->foreign))
        return bly_fail_memory(err);
    char *copy = bly_strdup(prefix);
    if (!copy)
        return bly_fail_memory(err);
    saver->foreign[saver->foreign_count++] = copy;
    return BELAY_OK;
}

/* What the state file says, the newest first, and the saver knows (SM-10). What a copied one says
 * of another folder's is never deleted: it may be another run's. */
static belay_code add_state(struct candidates *list, belay_saver *saver, const char *directory,
                            bly_state *state, belay_error *err) {
    int inside;
    bly_saver_forget_all(saver);
    belay_code code = localize(&state->latest, directory, &inside, err);
    if (code == BELAY_OK)
        code = add(list, state->latest, err);
    if (code == BELAY_OK)
        code = add_replaced(list, state->latest, err);
    const char **mine = bly_calloc(state->count, sizeof *mine);
    size_t mine_count = 0;
    if (code == BELAY_OK && !mine)
        code = bly_fail_memory(err);
    for (size_t i = 0; code == BELAY_OK && i < state->count; i++) {
        code = localize(&state->paths[i], directory, &inside, err);
        if (code != BELAY_OK || !bly_checkpoint_exists(state->paths[i]))
            continue;
        mine[mine_count++] = state->paths[i];
        if (!inside)
            code = note_foreign(saver, state->paths[i], err);
    }
    if (code == BELAY_OK)
        code = bly_saver_know(saver, mine, mine_count, err);
    bly_free((void *)(uintptr_t)mine);
    for (size_t i = state->count; code == BELAY_OK && i-- > 0;)
        code = add(list, state->paths[i], err);
    return code;
}

/* *out_usable is 0 where there is no state file, or none that can be read. */
static belay_code add_listed(struct candidates *list, belay_saver *saver, const char *directory,
                             int *out_usable, belay_error *err) {
    bly_state state = BLY_STATE_INIT;
    BLY_LOCAL_ERROR(mine);
    *out_usable = 0;
    belay_code code = bly_state_read(directory, NULL, &state, &mine);
    if (code == BELAY_NOT_FOUND)
        return BELAY_OK;
    if (code == BELAY_DATA_LOSS || code == BELAY_INVALID_ARGUMENT) {
        bly_warn("%s", mine.message);
        bly_warn("%s: Checkpoint ignored", directory);
        return BELAY_OK;
    }
    *out_usable = code == BELAY_OK;
    if (code == BELAY_OK)
        code = add_state(list, saver, directory, &state, &mine);
    if (code != BELAY_OK)
        bly_error_copy(err, &mine);
    bly_state_free(&state);
    return code;
}

/* 1 where both are NAME-STEP of the same NAME: saved by the same run. What else lies in the folder
 * is not the saver's to delete. */
static int is_same_series(const char *a, const char *b) {
    const char *name = bly_path_base(a), *other = bly_path_base(b);
    size_t len, other_len;
    if (bly_checkpoint_split(name, &len) == BELAY_NO_STEP ||
        bly_checkpoint_split(other, &other_len) == BELAY_NO_STEP)
        return 0;
    return len == other_len && memcmp(name, other, len) == 0;
}

/* A process that is killed between a checkpoint's last rename and the writing of the state file
 * leaves a checkpoint that is whole, and newer than what the state file says (BUG-37). Where
 * somebody went back by hand the state file is newer than all of them. */
static int is_newer_than_state(const bly_found *found, const char *latest, const char *directory) {
    struct stat info;
    char *path = bly_path_join(directory, BLY_STATE_FILE);
    int newer = path && found->complete && is_same_series(found->prefix, latest) &&
                found->step > bly_checkpoint_step_of(latest) && stat(path, &info) == 0 &&
                found->mtime > (double)info.st_mtim.tv_sec + (double)info.st_mtim.tv_nsec / 1e9;
    bly_free(path);
    return newer;
}

static belay_code add_first(struct candidates *list, const char *prefix, belay_error *err) {
    size_t before = list->count;
    belay_code code = add(list, prefix, err);
    if (code == BELAY_OK && list->count > before) {
        char *last = list->prefixes[before];
        memmove(&list->prefixes[1], &list->prefixes[0], before * sizeof *list->prefixes);
        list->prefixes[0] = last;
    }
    return code;
}

static belay_code add_newer(struct candidates *list, belay_saver *saver, const char *directory,
                            const bly_found_list *found, belay_error *err) {
    belay_code code = BELAY_OK;
    for (size_t i = 0; code == BELAY_OK && i < found->count; i++) {
        const char *prefix = found->items[i].prefix;
        if (!is_newer_than_state(&found->items[i], list->prefixes[0], directory))
            continue;
        bly_warn("%s is newer than the state file, and is used", prefix);
        code = add_first(list, prefix, err);
        if (code == BELAY_OK)
            code = bly_saver_remember(saver, prefix, err);
    }
    return code;
}

/* What lies in the folder beside. Where no state file can be read, or it speaks of files that are
 * not here, that is all there is to go by (BUG-32). */
static belay_code add_found(struct candidates *list, belay_saver *saver, const char *directory,
                            int listed, belay_error *err) {
    bly_found_list found = {NULL, 0, 0};
    belay_code code = bly_checkpoint_scan(directory, NULL, &found, err);
    size_t before = list->count;
    if (code == BELAY_OK && listed)
        code = add_newer(list, saver, directory, &found, err);
    for (size_t i = found.count; code == BELAY_OK && i-- > 0;)
        if (!bly_ends_with(found.items[i].prefix, ".damaged"))
            code = add(list, found.items[i].prefix, err);
    if (code == BELAY_OK && !listed && list->count > before)
        bly_warn("%s holds checkpoints, but no state file that can be read; going on from the "
                 "newest that verifies",
                 directory);
    if (saver->known_count == 0)
        for (size_t i = list->count; code == BELAY_OK && i-- > before;)
            if (is_same_series(list->prefixes[i], list->prefixes[before]))
                code = bly_saver_remember(saver, list->prefixes[i], err);
    bly_found_list_free(&found);
    return code;
}

static int is_damage(belay_code code) {
    return code == BELAY_DATA_LOSS || code == BELAY_NOT_FOUND;
}

static belay_code note_damaged(belay_saver *saver, const char *prefix, belay_error *err) {
    if (!has_index(prefix)) /* gone, a folder, or V1: not ours to rename */
        return BELAY_OK;
    if (!bly_grow(&saver->damaged, saver->damaged_count, &saver->damaged_capacity,
                  sizeof *saver->damaged))
        return bly_fail_memory(err);
    char *copy = bly_strdup(prefix);
    if (!copy)
        return bly_fail_memory(err);
    saver->damaged[saver->damaged_count++] = copy;
    return BELAY_OK;
}

/* Of how many that are not there is said which. */
#define GONE_SAID 10

/* Tries one after the other. Only damage leads to the next one: a checkpoint of another model is an
 * error. */
static belay_code restore_first(belay_saver *saver, belay_session *session,
                                const struct candidates *list, const char *directory,
                                belay_error *err) {
    BLY_LOCAL_ERROR(first);
    size_t gone = 0;
    for (size_t i = 0; i < list->count; i++) {
        BLY_LOCAL_ERROR(mine);
        const char *prefix = list->prefixes[i];
        bly_bundle *bundle = bly_saver_load_verified(prefix, &mine);
        if (gone > GONE_SAID && (bundle || i + 1 == list->count))
            bly_warn("%s: %zu more checkpoints that are listed are not there", directory,
                     gone - GONE_SAID);
        if (bundle) {
            belay_code code = restore_bundle(saver, session, bundle, err);
            bly_bundle_free(bundle);
            return code == BELAY_OK ? read_manifest(saver, prefix, err) : code;
        }
        if (!is_damage(mine.code)) {
            bly_error_copy(err, &mine);
            return mine.code;
        }
        gone += mine.code == BELAY_NOT_FOUND;
        if (mine.code != BELAY_NOT_FOUND || gone <= GONE_SAID)
            bly_warn("checkpoint %s cannot be used: %s%s", prefix, mine.message,
                     i + 1 < list->count ? "; an older one is tried" : "");
        bly_error_chain(&first, &mine);
        if (note_damaged(saver, prefix, err) != BELAY_OK)
            return BELAY_RESOURCE_EXHAUSTED;
    }
    return bly_fail(err, BELAY_DATA_LOSS,
                    "%s has %zu checkpoint%s, and none can be used (%s). Nothing was initialised; "
                    "move them away to start afresh",
                    directory, list->count, list->count == 1 ? "" : "s", first.message);
}

belay_code bly_saver_restore_newest(belay_saver *saver, belay_session *session,
                                    const char *directory, uint32_t *out_restored,
                                    belay_error *err) {
    struct candidates list = {NULL, 0, 0, BLY_TEXT_SET_INIT};
    int listed = 0;
    *out_restored = 0;
    bly_free(saver->restored_prefix); /* another session's, perhaps (SC-17) */
    bly_free(saver->restored_input);
    saver->restored_prefix = saver->restored_input = NULL;
    BLY_LOCAL_ERROR(mine);
    belay_code code = add_listed(&list, saver, directory, &listed, &mine);
    if (code == BELAY_OK)
        code = add_found(&list, saver, directory, listed, &mine);
    if (code == BELAY_OK && list.count > 0) {
        code = restore_first(saver, session, &list, directory, &mine);
        *out_restored = code == BELAY_OK;
    }
    if (code != BELAY_OK)
        bly_error_copy(err, &mine);
    candidates_free(&list);
    return code;
}
