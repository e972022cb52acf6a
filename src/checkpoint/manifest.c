#include "checkpoint/manifest.h"

#include "base/error.h"
#include "base/file.h"
#include "base/locale.h"
#include "base/mem.h"

#include <belay/export.h>

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define MANIFEST_MAX ((size_t)64 << 20)

void bly_manifest_free(bly_manifest *manifest) {
    for (size_t i = 0; i < manifest->file_count; i++)
        bly_free(manifest->files[i].name);
    for (size_t i = 0; i < manifest->metric_count; i++)
        bly_free(manifest->metrics[i].name);
    bly_free(manifest->files);
    bly_free(manifest->metrics);
    bly_free(manifest->belay);
    bly_free(manifest->tensorflow);
    bly_free(manifest->input);
    bly_free(manifest->host);
    *manifest = (bly_manifest)BLY_MANIFEST_INIT;
}

belay_code bly_manifest_add_file(bly_manifest *manifest, const char *name, uint64_t size,
                                 const uint32_t *crc32c, belay_error *err) {
    char *copy = bly_strdup(name);
    if (!copy || !bly_grow(&manifest->files, manifest->file_count, &manifest->file_capacity,
                           sizeof *manifest->files)) {
        bly_free(copy);
        return bly_fail_memory(err);
    }
    manifest->files[manifest->file_count++] =
        (bly_manifest_file){copy, size, crc32c != NULL, crc32c ? *crc32c : 0};
    return BELAY_OK;
}

static bly_manifest_metric *find_metric(const bly_manifest *manifest, const char *name) {
    for (size_t i = 0; i < manifest->metric_count; i++)
        if (strcmp(manifest->metrics[i].name, name) == 0)
            return &manifest->metrics[i];
    return NULL;
}

belay_code bly_manifest_set_metric(bly_manifest *manifest, const char *name, double value,
                                   belay_error *err) {
    bly_manifest_metric *known = find_metric(manifest, name);
    if (known) {
        known->value = value;
        return BELAY_OK;
    }
    char *copy = bly_strdup(name);
    if (!copy || !bly_grow(&manifest->metrics, manifest->metric_count, &manifest->metric_capacity,
                           sizeof *manifest->metrics)) {
        bly_free(copy);
        return bly_fail_memory(err);
    }
    manifest->metrics[manifest->metric_count++] = (bly_manifest_metric){copy, value};
    return BELAY_OK;
}

double bly_manifest_metric_of(const bly_manifest *manifest, const char *name) {
    const bly_manifest_metric *known = find_metric(manifest, name);
    return known ? known->value : (double)NAN;
}

/* ---- Writing ---- */

static void put_string(bly_buf *out, const char *key, const char *value) {
    bly_buf_printf(out, ",\n  \"%s\": ", key);
    if (value)
        bly_buf_put_json(out, value);
    else
        bly_buf_puts(out, "null");
}

static void put_number(bly_buf *out, double value) {
    char text[40];
    if (!isfinite(value)) { /* JSON has no such numbers */
        bly_buf_puts(out, "null");
        return;
    }
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
    bly_buf_puts(out, text);
}

static void put_files(bly_buf *out, const bly_manifest *manifest) {
    bly_buf_puts(out, ",\n  \"files\": [");
    for (size_t i = 0; i < manifest->file_count; i++) {
        const bly_manifest_file *file = &manifest->files[i];
        bly_buf_puts(out, i ? ",\n    {\"name\": " : "\n    {\"name\": ");
        bly_buf_put_json(out, file->name);
        bly_buf_printf(out, ", \"size\": %llu, \"crc32c\": ", (unsigned long long)file->size);
        if (file->has_crc32c)
            bly_buf_printf(out, "%lu}", (unsigned long)file->crc32c);
        else
            bly_buf_puts(out, "null}");
    }
    bly_buf_puts(out, manifest->file_count ? "\n  ]" : "]");
}

static void put_metrics(bly_buf *out, const bly_manifest *manifest) {
    bly_buf_puts(out, ",\n  \"metrics\": {");
    for (size_t i = 0; i < manifest->metric_count; i++) {
        bly_buf_puts(out, i ? ", " : "");
        bly_buf_put_json(out, manifest->metrics[i].name);
        bly_buf_puts(out, ": ");
        put_number(out, manifest->metrics[i].value);
    }
    bly_buf_putc(out, '}');
}

/* The caller's object is taken apart and put together again, so that a bad one cannot spoil the
 * manifest. */
static belay_code put_input(bly_buf *out, const char *input, belay_error *err) {
    json_error_t where;
    json_t *object = json_loads(input, JSON_REJECT_DUPLICATES, &where);
    if (!json_is_object(object)) {
        belay_code code =
            bly_fail(err, BELAY_INVALID_ARGUMENT, "the position in the input is no JSON object: %s",
                     object ? "another value" : where.text);
        json_decref(object);
        return code;
    }
    char *text = json_dumps(object, JSON_COMPACT | JSON_PRESERVE_ORDER);
    json_decref(object);
    if (!text)
        return bly_fail_memory(err);
    bly_buf_puts(out, ",\n  \"input\": ");
    bly_buf_puts(out, text);
    free(text);
    return BELAY_OK;
}

static belay_code print(const bly_manifest *manifest, bly_buf *out, belay_error *err) {
    belay_code code = BELAY_OK;
    bly_buf_puts(out, "{\n  \"belay\": ");
    bly_buf_put_json(out, manifest->belay ? manifest->belay : BELAY_VERSION);
    put_string(out, "tensorflow", manifest->tensorflow);
    if (manifest->step == BELAY_NO_STEP)
        bly_buf_puts(out, ",\n  \"step\": null");
    else
        bly_buf_printf(out, ",\n  \"step\": %lld", (long long)manifest->step);
    bly_buf_printf(out, ",\n  \"saved_unix_ms\": %lld", (long long)manifest->saved_unix_ms);
    if (manifest->origin_unix_ms)
        bly_buf_printf(out, ",\n  \"origin_unix_ms\": %lld", (long long)manifest->origin_unix_ms);
    if (manifest->pinned)
        bly_buf_puts(out, ",\n  \"pinned\": true");
    put_files(out, manifest);
    put_metrics(out, manifest);
    if (manifest->input)
        code = put_input(out, manifest->input, err);
    if (code != BELAY_OK)
        return code;
    bly_buf_puts(out, ",\n  \"writer\": {\"host\": ");
    if (manifest->host)
        bly_buf_put_json(out, manifest->host);
    else
        bly_buf_puts(out, "null");
    bly_buf_printf(out, ", \"pid\": %lld}\n}\n", (long long)manifest->pid);
    return out->failed ? bly_fail_memory(err) : BELAY_OK;
}

belay_code bly_manifest_print(const bly_manifest *manifest, bly_buf *out, belay_error *err) {
    bly_locale was = bly_locale_plain();
    belay_code code = print(manifest, out, err);
    bly_locale_restore(was);
    return code;
}

/* ---- Reading ---- */

struct reading {
    const char *file;
    belay_error *err;
};

static belay_code wrong(const struct reading *in, const char *what) {
    return bly_fail(in->err, BELAY_DATA_LOSS, "%s is no manifest: %s", in->file, what);
}

/* A string that may be missing or null. */
static belay_code take_string(const struct reading *in, const json_t *object, const char *key,
                              char **out) {
    const json_t *value = json_object_get(object, key);
    if (!value || json_is_null(value))
        return BELAY_OK;
    if (!json_is_string(value))
        return bly_fail(in->err, BELAY_DATA_LOSS, "%s is no manifest: '%s' is no string", in->file,
                        key);
    *out = bly_strdup(json_string_value(value));
    return *out ? BELAY_OK : bly_fail_memory(in->err);
}

static belay_code take_integer(const struct reading *in, const json_t *object, const char *key,
                               int needed, int64_t least, int64_t *out) {
    const json_t *value = json_object_get(object, key);
    if (!value && !needed)
        return BELAY_OK;
    if (!json_is_integer(value) || json_integer_value(value) < least)
        return bly_fail(in->err, BELAY_DATA_LOSS,
                        "%s is no manifest: '%s' is no number of at least %lld", in->file, key,
                        (long long)least);
    *out = json_integer_value(value);
    return BELAY_OK;
}

/* A name that led out of the folder would let a manifest speak of files that are not its own. */
static int is_plain_name(const char *name) {
    return name[0] != '\0' && !strchr(name, '/') && strcmp(name, ".") != 0 &&
           strcmp(name, "..") != 0;
}

static belay_code take_files(const struct reading *in, const json_t *root, bly_manifest *out) {
    const json_t *files = json_object_get(root, "files");
    if (!json_is_array(files))
        return wrong(in, "'files' is no list");
    for (size_t i = 0; i < json_array_size(files); i++) {
        const json_t *file = json_array_get(files, i);
        const char *name = json_string_value(json_object_get(file, "name"));
        const json_t *crc = json_object_get(file, "crc32c");
        int64_t size = 0;
        uint32_t crc32c = 0;
        if (!name || !is_plain_name(name))
            return wrong(in, "a file has no plain name");
        belay_code code = take_integer(in, file, "size", 1, 0, &size);
        if (code != BELAY_OK)
            return code;
        if (json_is_integer(crc) && json_integer_value(crc) >= 0 &&
            json_integer_value(crc) <= (json_int_t)UINT32_MAX)
            crc32c = (uint32_t)json_integer_value(crc);
        else if (crc && !json_is_null(crc))
            return wrong(in, "a file's 'crc32c' is no checksum");
        code = bly_manifest_add_file(out, name, (uint64_t)size,
                                     json_is_integer(crc) ? &crc32c : NULL, in->err);
        if (code != BELAY_OK)
            return code;
    }
    return BELAY_OK;
}

static belay_code take_metrics(const struct reading *in, json_t *root, bly_manifest *out) {
    json_t *metrics = json_object_get(root, "metrics"), *value;
    const char *name;
    if (!metrics)
        return BELAY_OK;
    if (!json_is_object(metrics))
        return wrong(in, "'metrics' is no object");
    json_object_foreach(metrics, name, value) {
        if (!json_is_number(value) && !json_is_null(value))
            return wrong(in, "a metric is no number");
        double number = json_is_null(value) ? (double)NAN : json_number_value(value);
        belay_code code = bly_manifest_set_metric(out, name, number, in->err);
        if (code != BELAY_OK)
            return code;
    }
    return BELAY_OK;
}

static belay_code take_input(const struct reading *in, const json_t *root, bly_manifest *out) {
    const json_t *input = json_object_get(root, "input");
    if (!input || json_is_null(input))
        return BELAY_OK;
    if (!json_is_object(input))
        return wrong(in, "'input' is no object");
    char *text = json_dumps(input, JSON_COMPACT | JSON_PRESERVE_ORDER);
    out->input = text ? bly_strdup(text) : NULL;
    free(text);
    return out->input ? BELAY_OK : bly_fail_memory(in->err);
}

static belay_code take_writer(const struct reading *in, const json_t *root, bly_manifest *out) {
    const json_t *writer = json_object_get(root, "writer");
    if (!writer || json_is_null(writer))
        return BELAY_OK;
    if (!json_is_object(writer))
        return wrong(in, "'writer' is no object");
    belay_code code = take_string(in, writer, "host", &out->host);
    return code == BELAY_OK ? take_integer(in, writer, "pid", 0, 0, &out->pid) : code;
}

static belay_code take_step(const struct reading *in, const json_t *root, int64_t *out) {
    const json_t *step = json_object_get(root, "step");
    if (!json_is_integer(step) && !json_is_null(step))
        return wrong(in, "'step' is no number");
    *out = json_is_null(step) ? BELAY_NO_STEP : json_integer_value(step);
    return BELAY_OK;
}

static belay_code take_root(const struct reading *in, json_t *root, bly_manifest *out) {
    const json_t *pinned = json_object_get(root, "pinned");
    if (!json_is_string(json_object_get(root, "belay")))
        return wrong(in, "it does not say which belay wrote it");
    if (pinned && !json_is_boolean(pinned))
        return wrong(in, "'pinned' is neither true nor false");
    out->pinned = json_is_true(pinned);
    belay_code code = take_string(in, root, "belay", &out->belay);
    if (code == BELAY_OK)
        code = take_string(in, root, "tensorflow", &out->tensorflow);
    if (code == BELAY_OK)
        code = take_step(in, root, &out->step);
    if (code == BELAY_OK)
        code = take_integer(in, root, "saved_unix_ms", 1, 0, &out->saved_unix_ms);
    if (code == BELAY_OK)
        code = take_integer(in, root, "origin_unix_ms", 0, 0, &out->origin_unix_ms);
    if (code == BELAY_OK)
        code = take_files(in, root, out);
    if (code == BELAY_OK)
        code = take_metrics(in, root, out);
    if (code == BELAY_OK)
        code = take_input(in, root, out);
    return code == BELAY_OK ? take_writer(in, root, out) : code;
}

belay_code bly_manifest_parse(const char *text, size_t len, const char *file, bly_manifest *out,
                              belay_error *err) {
    struct reading in = {file, err};
    json_error_t where;
    *out = (bly_manifest)BLY_MANIFEST_INIT;
    json_t *root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &where);
    if (!root) {
        if (json_error_code(&where) == json_error_out_of_memory)
            return bly_fail_memory(err);
        return bly_fail(err, BELAY_DATA_LOSS, "%s:%d:%d: %s", file, where.line, where.column,
                        where.text);
    }
    belay_code code =
        json_is_object(root) ? take_root(&in, root, out) : wrong(&in, "it is no JSON object");
    json_decref(root);
    if (code != BELAY_OK)
        bly_manifest_free(out);
    return code;
}

/* ---- Files ---- */

static char *path_of(const char *prefix) {
    bly_buf path = BLY_BUF_INIT;
    bly_buf_printf(&path, "%s%s", prefix, BLY_MANIFEST_SUFFIX);
    return bly_buf_take(&path);
}

belay_code bly_manifest_write(const char *prefix, const bly_manifest *manifest, belay_error *err) {
    bly_buf text = BLY_BUF_INIT;
    char *path = path_of(prefix);
    belay_code code = path ? bly_manifest_print(manifest, &text, err) : bly_fail_memory(err);
    if (code == BELAY_OK)
        code = bly_file_write_atomic(path, text.data, text.len, err);
    bly_buf_free(&text);
    bly_free(path);
    return code;
}

belay_code bly_manifest_read(const char *prefix, bly_manifest *out, int *out_found,
                             belay_error *err) {
    bly_buf text = BLY_BUF_INIT;
    BLY_LOCAL_ERROR(why);
    *out = (bly_manifest)BLY_MANIFEST_INIT;
    *out_found = 0;
    char *path = path_of(prefix);
    if (!path)
        return bly_fail_memory(err);
    belay_code code = bly_file_read(path, MANIFEST_MAX, &text, &why);
    if (code == BELAY_INVALID_ARGUMENT) /* too large, or a folder */
        code = bly_fail(&why, BELAY_DATA_LOSS, "%s is no manifest: it cannot be read", path);
    if (code == BELAY_OK)
        code = bly_manifest_parse(bly_buf_text(&text), text.len, path, out, &why);
    *out_found = code == BELAY_OK;
    bly_buf_free(&text);
    bly_free(path);
    if (code == BELAY_NOT_FOUND)
        return BELAY_OK;
    if (code != BELAY_OK)
        bly_error_copy(err, &why);
    return code;
}

belay_code bly_manifest_check_sizes(const char *prefix, const bly_manifest *manifest,
                                    belay_error *err) {
    char *directory = bly_path_directory(prefix);
    belay_code code = directory ? BELAY_OK : bly_fail_memory(err);
    for (size_t i = 0; i < manifest->file_count && code == BELAY_OK; i++) {
        const bly_manifest_file *file = &manifest->files[i];
        struct stat info;
        char *path = bly_path_join(directory, file->name);
        if (!path)
            code = bly_fail_memory(err);
        else if (stat(path, &info) != 0 && (errno == ENOENT || errno == ENOTDIR))
            code = bly_fail(err, BELAY_DATA_LOSS, "%s is missing", path);
        else if (stat(path, &info) != 0)
            code = bly_fail_errno(err, errno, "cannot look at %s", path);
        else if ((uint64_t)info.st_size != file->size)
            code = bly_fail(err, BELAY_DATA_LOSS, "%s has %lld bytes, its manifest says %llu", path,
                            (long long)info.st_size, (unsigned long long)file->size);
        bly_free(path);
    }
    bly_free(directory);
    return code;
}
