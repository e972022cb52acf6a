#include "checkpoint/state.h"

#include "base/buf.h"
#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "checkpoint/manifest.h"
#include "wire/checkpoint.pb-c.h"
#include "wire/text.h"
#include "wire/unpack.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define STATE_MAX ((size_t)64 << 20)

void bly_state_free(bly_state *state) {
    for (size_t i = 0; i < state->count; i++)
        bly_free(state->paths[i]);
    bly_free(state->paths);
    bly_free(state->timestamps);
    bly_free(state->latest);
    *state = (bly_state)BLY_STATE_INIT;
}

belay_code bly_state_add(bly_state *state, const char *path, belay_error *err) {
    char *copy = bly_strdup(path);
    char **paths = copy ? bly_realloc(state->paths, (state->count + 1) * sizeof *paths) : NULL;
    if (!paths) {
        bly_free(copy);
        return bly_fail_memory(err);
    }
    size_t kept = 0;
    for (size_t i = 0; i < state->count; i++) {
        if (strcmp(paths[i], copy) == 0)
            bly_free(paths[i]);
        else
            paths[kept++] = paths[i];
    }
    paths[kept++] = copy;
    state->paths = paths;
    state->count = kept;
    bly_free(state->timestamps);
    state->timestamps = NULL;
    return BELAY_OK;
}

/* ---- Paths ---- */

/* Appends the parts of an absolute path to `out`, each after a slash, with "." and ".." resolved as
 * text. */
static void put_parts(bly_buf *out, const char *path) {
    while (*path) {
        size_t len = strcspn(path, "/");
        if (len == 2 && path[0] == '.' && path[1] == '.') {
            while (out->len > 0 && out->data[--out->len] != '/')
                ;
        } else if (len > 0 && !(len == 1 && path[0] == '.')) {
            bly_buf_putc(out, '/');
            bly_buf_append(out, path, len);
        }
        path += len;
        path += *path == '/';
    }
}

static belay_code make_absolute(const char *path, bly_buf *out, belay_error *err) {
    if (!bly_path_is_absolute(path)) {
        char *here = getcwd(NULL, 0);
        if (!here)
            return bly_fail_errno(err, errno, "cannot tell the working directory");
        put_parts(out, here);
        free(here);
    }
    put_parts(out, path);
    return out->failed ? bly_fail_memory(err) : BELAY_OK;
}

/* `path` as seen from the folder `start`, both as text: what os.path.relpath() makes of them. */
static belay_code make_relative(const char *path, const char *start, char **out, belay_error *err) {
    bly_buf to = BLY_BUF_INIT, from = BLY_BUF_INIT, result = BLY_BUF_INIT;
    belay_code code = make_absolute(path, &to, err);
    if (code == BELAY_OK)
        code = make_absolute(start, &from, err);
    if (code != BELAY_OK)
        goto out;
    /* The common part ends at a slash, or at an end, of both. */
    const char *a = from.len ? from.data : "", *b = to.len ? to.data : "";
    size_t a_len = from.len, b_len = to.len, same = 0, common = 0;
    while (same < a_len && same < b_len && a[same] == b[same]) {
        same++;
        if ((same == a_len || a[same] == '/') && (same == b_len || b[same] == '/'))
            common = same;
    }
    for (size_t i = common; i < a_len; i++)
        if (a[i] == '/')
            bly_buf_puts(&result, result.len ? "/.." : "..");
    if (common < b_len) {
        bly_buf_puts(&result, result.len ? "/" : "");
        bly_buf_append(&result, b + common + 1, b_len - common - 1);
    }
    if (result.len == 0)
        bly_buf_putc(&result, '.');
    *out = bly_buf_take(&result);
    if (!*out)
        code = bly_fail_memory(err);
out:
    bly_buf_free(&result);
    bly_buf_free(&to);
    bly_buf_free(&from);
    return code;
}

/* ---- Reading ---- */

static belay_code take_state(const char *directory, const Bly__CheckpointState *message,
                             bly_state *out, belay_error *err) {
    size_t count = message->n_all_model_checkpoint_paths;
    if (message->model_checkpoint_path[0] == '\0')
        return bly_fail(err, BELAY_DATA_LOSS, "Invalid checkpoint state loaded from %s", directory);
    out->latest = bly_path_join(directory, message->model_checkpoint_path);
    out->paths = bly_calloc(count, sizeof *out->paths);
    if (!out->latest || !out->paths)
        return bly_fail_memory(err);
    for (; out->count < count; out->count++) {
        out->paths[out->count] =
            bly_path_join(directory, message->all_model_checkpoint_paths[out->count]);
        if (!out->paths[out->count])
            return bly_fail_memory(err);
    }
    out->last_preserved = message->last_preserved_timestamp;
    out->has_last_preserved = message->last_preserved_timestamp != 0;
    if (count == 0 || message->n_all_model_checkpoint_timestamps != count)
        return BELAY_OK;
    out->timestamps = bly_calloc(count, sizeof *out->timestamps);
    if (!out->timestamps)
        return bly_fail_memory(err);
    memcpy(out->timestamps, message->all_model_checkpoint_timestamps,
           count * sizeof *out->timestamps);
    return BELAY_OK;
}

/* What cannot be read as text, a folder included, is damage; that memory is out, or a disk does not
 * answer, is not. */
static belay_code read_message(const char *path, Bly__CheckpointState **out, belay_error *err) {
    bly_buf text = BLY_BUF_INIT;
    BLY_LOCAL_ERROR(why);
    *out = NULL;
    belay_code code = bly_file_read(path, STATE_MAX, &text, &why);
    if (code == BELAY_OK) {
        *out = bly_text_read(&bly__checkpoint_state__descriptor, bly_buf_text(&text), text.len,
                             path, &why);
        code = why.code;
    }
    bly_buf_free(&text);
    if (code == BELAY_INVALID_ARGUMENT)
        return bly_fail(err, BELAY_DATA_LOSS, "%s", why.message);
    if (code != BELAY_OK)
        bly_error_copy(err, &why);
    return code;
}

static char *state_path(const char *directory, const char *name) {
    return bly_path_join(directory, name ? name : BLY_STATE_FILE);
}

belay_code bly_state_check_place(const char *directory, const char *name, belay_error *err) {
    char *path = state_path(directory, name);
    belay_code code = path ? BELAY_OK : bly_fail_memory(err);
    if (code == BELAY_OK && bly_is_directory(path))
        code = bly_fail(err, BELAY_FAILED_PRECONDITION,
                        "%s is a folder, and the file that names the newest checkpoint has to be "
                        "there: move it away",
                        path);
    bly_free(path);
    return code;
}

belay_code bly_state_read(const char *directory, const char *name, bly_state *out,
                          belay_error *err) {
    Bly__CheckpointState *message = NULL;
    *out = (bly_state)BLY_STATE_INIT;
    char *path = state_path(directory, name);
    if (!path)
        return bly_fail_memory(err);
    belay_code code = read_message(path, &message, err);
    if (code == BELAY_OK)
        code = take_state(directory, message, out, err);
    if (code != BELAY_OK)
        bly_state_free(out);
    bly_wire_free(message);
    bly_free(path);
    return code;
}

belay_code bly_state_latest(const char *directory, const char *name, char **out, char **out_named,
                            belay_error *err) {
    bly_state state;
    BLY_LOCAL_ERROR(why);
    *out = NULL;
    if (out_named)
        *out_named = NULL;
    belay_code code = bly_state_read(directory, name, &state, &why);
    if (code == BELAY_NOT_FOUND)
        return BELAY_OK;
    if (code != BELAY_OK) {
        bly_error_copy(err, &why);
        return code;
    }
    char *latest = state.latest;
    state.latest = NULL;
    bly_state_free(&state);
    if (bly_checkpoint_exists(latest))
        *out = latest;
    else if (out_named)
        *out_named = latest;
    else
        bly_free(latest);
    return BELAY_OK;
}

/* ---- Writing ---- */

/* How a path is written down. Only relative paths change in a relative folder (CK-05); with
 * `relative`, an absolute one is made relative first (CK-06), and then counts as one. */
static belay_code written_path(const char *path, const char *directory, int relative, char **out,
                               belay_error *err) {
    char *first = NULL;
    belay_code code = BELAY_OK;
    if (relative && bly_path_is_absolute(path)) {
        code = make_relative(path, directory, &first, err);
        if (code != BELAY_OK)
            return code;
        path = first;
    }
    if (!bly_path_is_absolute(path) && !bly_path_is_absolute(directory) && !first)
        code = make_relative(path, directory, out, err);
    else if (!(*out = bly_strdup(path)))
        code = bly_fail_memory(err);
    bly_free(first);
    return code;
}

static belay_code check_state(const char *directory, const char *name, const bly_state *state,
                              int append, belay_error *err) {
    if (strchr(name, '/') || name[0] == '\0')
        return bly_fail(err, BELAY_INVALID_ARGUMENT,
                        "the state file's name '%s' must not contain a path", name);
    if (!state->latest || state->latest[0] == '\0')
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "no checkpoint to record in %s", directory);
    if (state->timestamps && append)
        return bly_fail(err, BELAY_INVALID_ARGUMENT,
                        "Checkpoint timestamps, if provided, must match checkpoint paths (got %zu "
                        "paths and %zu timestamps)",
                        state->count + 1, state->count);
    return BELAY_OK;
}

static belay_code write_message(const char *path, const Bly__CheckpointState *message,
                                belay_error *err) {
    bly_buf text = BLY_BUF_INIT;
    bly_text_print(&message->base, &text);
    belay_code code = text.failed ? bly_fail_memory(err)
                                  : bly_file_write_atomic(path, bly_buf_text(&text), text.len, err);
    bly_buf_free(&text);
    return code;
}

belay_code bly_state_write(const char *directory, const char *name, const bly_state *state,
                           int relative, int *out_appended, belay_error *err) {
    Bly__CheckpointState message = BLY__CHECKPOINT_STATE__INIT;
    char *latest = NULL, *path = NULL, **paths = NULL;
    size_t count = state->count;
    name = name ? name : BLY_STATE_FILE;
    int append = count == 0 || !state->latest || strcmp(state->paths[count - 1], state->latest);
    if (out_appended)
        *out_appended = append;
    belay_code code = check_state(directory, name, state, append, err);
    if (code != BELAY_OK)
        return code;
    count += append ? 1 : 0;
    path = state_path(directory, name);
    paths = bly_calloc(count, sizeof *paths);
    if (!path || !paths) {
        code = bly_fail_memory(err);
        goto out;
    }
    code = written_path(state->latest, directory, relative, &latest, err);
    for (size_t i = 0; i < count && code == BELAY_OK; i++)
        code = written_path(i < state->count ? state->paths[i] : state->latest, directory, relative,
                            &paths[i], err);
    if (code != BELAY_OK)
        goto out;
    if (strcmp(path, latest) == 0) {
        code = bly_fail(err, BELAY_FAILED_PRECONDITION,
                        "Save path '%s' conflicts with path used for checkpoint state.  Please use "
                        "a different save path.",
                        state->latest);
        goto out;
    }
    message.model_checkpoint_path = latest;
    message.all_model_checkpoint_paths = paths;
    message.n_all_model_checkpoint_paths = count;
    message.all_model_checkpoint_timestamps = state->timestamps;
    message.n_all_model_checkpoint_timestamps = state->timestamps ? count : 0;
    message.last_preserved_timestamp = state->has_last_preserved ? state->last_preserved : 0;
    code = write_message(path, &message, err);
out:
    for (size_t i = 0; paths && i < count; i++)
        bly_free(paths[i]);
    bly_free(paths);
    bly_free(latest);
    bly_free(path);
    return code;
}

/* --- Files of a checkpoint
 * --------------------------------------------------------------------------------------- */

/* CK-14: whatever bears the name counts, a folder too. Without allocation: that memory is out must
 * not look like "there is no checkpoint". Nor can a path that is too long for the buffer be one,
 * since the system does not take it. Where there is none `errno` says why. */
static int stat_checkpoint(const char *prefix, struct stat *info) {
    char index[PATH_MAX + 8];
    int len = snprintf(index, sizeof index, "%s.index", prefix);
    if (len > 0 && (size_t)len < sizeof index && stat(index, info) == 0)
        return 1;
    return stat(prefix, info) == 0;
}

int bly_checkpoint_exists(const char *prefix) {
    struct stat info;
    return stat_checkpoint(prefix, &info);
}

int bly_checkpoint_mtime(const char *prefix, double *out_seconds) {
    struct stat info;
    *out_seconds = 0;
    if (!stat_checkpoint(prefix, &info))
        return 0;
    *out_seconds = (double)info.st_mtim.tv_sec + (double)info.st_mtim.tv_nsec / 1e9;
    return 1;
}

int64_t bly_checkpoint_split(const char *prefix, size_t *out_len) {
    const char *base = bly_path_base(prefix), *dash = strrchr(base, '-');
    int64_t step = 0;
    *out_len = strlen(prefix);
    if (!dash || dash == base || dash[1] == '\0')
        return BELAY_NO_STEP;
    for (const char *c = dash + 1; *c; c++)
        if (*c < '0' || *c > '9' || __builtin_mul_overflow(step, 10, &step) ||
            __builtin_add_overflow(step, *c - '0', &step))
            return BELAY_NO_STEP;
    if (dash > base + 1 && dash[-1] == '-') { /* the sign */
        dash--;
        step = -step;
    }
    *out_len = (size_t)(dash - prefix);
    return step;
}

int64_t bly_checkpoint_step_of(const char *prefix) {
    size_t ignored;
    int64_t step = bly_checkpoint_split(prefix, &ignored);
    bly_manifest manifest = BLY_MANIFEST_INIT;
    BLY_LOCAL_ERROR(unused);
    int found = 0;
    /* "best--5" is step -5 of "best", or step 5 of "best-": whoever saved it knows. */
    if (step < 0 && step != BELAY_NO_STEP &&
        bly_manifest_read(prefix, &manifest, &found, &unused) == BELAY_OK && found &&
        manifest.step == -step)
        step = -step;
    bly_manifest_free(&manifest);
    return step;
}

/* The "-00000-of-00002", or "-?????-of-00002", at the end of a shard's name. */
static size_t shard_suffix(const char *prefix) {
    static const char digits[] = "0123456789";
    const char *of = NULL;
    for (const char *c = strstr(prefix, "-of-"); c; c = strstr(c + 1, "-of-"))
        of = c;
    if (!of || of[4] == '\0' || of[4 + strspn(of + 4, digits)] != '\0')
        return 0;
    const char *start = of;
    while (start > prefix && (strchr(digits, start[-1]) || start[-1] == '?'))
        start--;
    if (start == of || start == prefix || start[-1] != '-')
        return 0;
    return strlen(start - 1);
}

char *bly_checkpoint_meta_name(const char *prefix) {
    bly_buf path = BLY_BUF_INIT;
    bly_buf_append(&path, prefix, strlen(prefix) - shard_suffix(prefix));
    bly_buf_puts(&path, ".meta");
    return bly_buf_take(&path);
}
