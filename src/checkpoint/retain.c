/* Savers: the manifest beside a checkpoint, and which checkpoints stay. */
#include "checkpoint/saver_impl.h"

#include "base/clock.h"
#include "base/crc32c.h"
#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "checkpoint/manifest.h"
#include "checkpoint/retention.h"

#include <belay/runtime.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#define READ_SIZE ((size_t)1 << 20)

/* ---- the manifest ---- */

static belay_code digest(const char *path, uint64_t *out_size, uint32_t *out_crc,
                         belay_error *err) {
    belay_code code = BELAY_OK;
    unsigned char *buffer = bly_malloc(READ_SIZE);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    *out_size = 0;
    *out_crc = 0;
    if (!buffer)
        code = bly_fail_memory(err);
    else if (fd < 0)
        code = bly_fail_errno(err, errno, "cannot read %s", path);
    while (code == BELAY_OK) {
        ssize_t got = read(fd, buffer, READ_SIZE);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            code = bly_fail_errno(err, errno, "cannot read %s", path);
        if (got <= 0)
            break;
        *out_crc = bly_crc32c(*out_crc, buffer, (size_t)got);
        *out_size += (uint64_t)got;
    }
    if (fd >= 0)
        close(fd);
    bly_free(buffer);
    return code;
}

struct listing {
    bly_manifest *manifest;
    const char *directory;
    const char *name;
};

static belay_code add_file(void *self, const char *name, belay_error *err) {
    struct listing *listing = self;
    size_t len = strlen(listing->name);
    if (strncmp(name, listing->name, len) != 0 || name[len] != '.')
        return BELAY_OK;
    uint64_t size = 0;
    uint32_t crc = 0;
    char *path = bly_path_join(listing->directory, name);
    belay_code code = path ? digest(path, &size, &crc, err) : bly_fail_memory(err);
    if (code == BELAY_OK)
        code = bly_manifest_add_file(listing->manifest, name, size, &crc, err);
    bly_free(path);
    return code;
}

static belay_code set_text(char **to, const char *text, belay_error *err) {
    *to = bly_strdup(text);
    return *to ? BELAY_OK : bly_fail_memory(err);
}

belay_code bly_saver_write_manifest(belay_saver *saver, const char *prefix, int64_t step,
                                    belay_error *err) {
    char host[HOST_NAME_MAX + 1] = "";
    bly_manifest manifest = BLY_MANIFEST_INIT;
    char *directory = bly_path_directory(prefix);
    if (!directory)
        return bly_fail_memory(err);
    struct listing listing = {&manifest, directory, bly_path_base(prefix)};
    gethostname(host, sizeof host - 1);
    manifest.step = step;
    manifest.saved_unix_ms = (int64_t)(bly_unix_time() * 1e3);
    if (saver->origin_unix_ms == 0)
        saver->origin_unix_ms = manifest.saved_unix_ms;
    manifest.origin_unix_ms = saver->origin_unix_ms;
    manifest.pid = (int64_t)getpid();
    belay_code code = bly_directory_list(directory, add_file, &listing, err);
    if (code == BELAY_OK)
        code = set_text(&manifest.host, host, err);
    if (code == BELAY_OK)
        code = set_text(&manifest.tensorflow, belay_runtime_version(), err);
    if (code == BELAY_OK && saver->input_position)
        code = set_text(&manifest.input, saver->input_position, err);
    for (size_t i = 0; code == BELAY_OK && i < saver->metric_count; i++)
        code = bly_manifest_set_metric(&manifest, saver->metrics[i].name, saver->metrics[i].value,
                                       err);
    if (code == BELAY_OK)
        code = bly_manifest_write(prefix, &manifest, err);
    bly_manifest_free(&manifest);
    bly_free(directory);
    return code;
}

/* ---- retention ---- */

static void describe(const belay_saver *saver, const char *prefix, bly_retention_entry *entry) {
    bly_manifest manifest = BLY_MANIFEST_INIT;
    BLY_LOCAL_ERROR(mine);
    int found = 0;
    *entry = (bly_retention_entry){INFINITY, NAN, 0};
    if (!bly_checkpoint_mtime(prefix, &entry->saved))
        /* Gone already (SV-36), and no longer listed. Else the time is not known, and it is never
         * to be deleted (SV-37). */
        entry->saved = errno == ENOENT || errno == ENOTDIR ? NAN : INFINITY;
    if (bly_manifest_read(prefix, &manifest, &found, &mine) != BELAY_OK) {
        /* It may say that somebody pinned the checkpoint. */
        bly_warn("%s; the checkpoint is kept", mine.message);
        entry->pinned = 1;
    } else if (found) {
        if (manifest.saved_unix_ms > 0)
            entry->saved = (double)manifest.saved_unix_ms / 1e3;
        entry->pinned = manifest.pinned;
        if (saver->best_metric)
            entry->metric = bly_manifest_metric_of(&manifest, saver->best_metric);
    }
    bly_manifest_free(&manifest);
}

static int is_foreign(const belay_saver *saver, const char *prefix) {
    for (size_t i = 0; i < saver->foreign_count; i++)
        if (strcmp(saver->foreign[i], prefix) == 0)
            return 1;
    return 0;
}

static void drop(const belay_saver *saver, char *prefix) {
    BLY_LOCAL_ERROR(mine);
    if (is_foreign(saver, prefix))
        bly_info("%s is no longer listed, and not deleted: it lies in another folder", prefix);
    else if (bly_checkpoint_remove(prefix, &mine) != BELAY_OK)
        bly_warn("Ignoring: %s", mine.message);
    bly_free(prefix);
}

int bly_saver_retain(belay_saver *saver) {
    bly_retention_policy policy = {
        .keep_last = saver->max_to_keep == BELAY_KEEP_ALL ? 0 : saver->max_to_keep,
        .keep_every_hours = saver->keep_every_hours,
        .origin = saver->origin_unix_ms > 0 ? (double)saver->origin_unix_ms / 1e3 : NAN,
        .keep_best = saver->best_metric && saver->keep_best > 0 ? (size_t)saver->keep_best : 0,
        .best_is_max = saver->best_is_max,
    };
    size_t count = saver->known_count;
    bly_retention_entry *entries = bly_calloc(count, sizeof *entries);
    uint8_t *why = bly_calloc(count, sizeof *why);
    if (entries && why) {
        for (size_t i = 0; i < count; i++)
            describe(saver, saver->known[i], &entries[i]);
        bly_retention(entries, count, &policy, why);
        saver->known_count = 0;
        for (size_t i = 0; i < count; i++) {
            if (why[i])
                saver->known[saver->known_count++] = saver->known[i];
            else
                drop(saver, saver->known[i]);
        }
    }
    bly_free(entries);
    bly_free(why);
    return saver->known_count < count;
}
