/* Verbs on files, which need no TensorFlow. */
#include "driver.h"

#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static belay_code io_failed(call *c, const char *path) {
    return fail(c, IO_FAILED, "%s: %s", path, strerror(errno));
}

static char *joined(const char *a, const char *b) {
    size_t room = strlen(a) + strlen(b) + 2;
    char *path = malloc(room);
    snprintf(path, room, "%s%s%s", a, *a ? "/" : "", b);
    return path;
}

/* Adds the names below root/inner, folders with a slash. */
static void list(const char *root, const char *inner, json_t *out) {
    char *folder = joined(root, inner);
    DIR *dir = opendir(folder);
    for (const struct dirent *entry = NULL; dir && (entry = readdir(dir));) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        char *name = joined(inner, entry->d_name), *path = joined(root, name);
        int is_folder = bly_is_directory(path);
        json_array_append_new(out, json_sprintf("%s%s", name, is_folder ? "/" : ""));
        if (is_folder)
            list(root, name, out);
        free(name);
        free(path);
    }
    if (dir)
        closedir(dir);
    free(folder);
}

static int by_text(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static json_t *sorted(const json_t *from) {
    size_t count = json_array_size(from);
    const char **texts = calloc(count + 1, sizeof *texts);
    for (size_t i = 0; i < count; i++)
        texts[i] = json_string_value(json_array_get(from, i));
    qsort(texts, count, sizeof *texts, by_text);
    json_t *to = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(to, json_string(texts[i]));
    free(texts);
    return to;
}

static belay_code folder(call *c) {
    if (!bly_is_directory(main_text(c)))
        return BELAY_OK;
    json_t *names = json_array();
    list(main_text(c), "", names);
    c->result = sorted(names);
    json_decref(names);
    return BELAY_OK;
}

static char *read_all(const char *path, size_t *out_size) {
    FILE *file = fopen(path, "rb");
    if (!file)
        return NULL;
    fseek(file, 0, SEEK_END);
    long size = ftell(file);
    rewind(file);
    char *data = malloc((size_t)size + 1);
    *out_size = fread(data, 1, (size_t)size, file);
    fclose(file);
    return data;
}

static int write_all(const char *path, const char *data, size_t size) {
    FILE *file = fopen(path, "wb");
    if (!file)
        return 0;
    size_t written = fwrite(data, 1, size, file);
    return fclose(file) == 0 && written == size;
}

static belay_code text(call *c) {
    size_t size;
    char *data = read_all(main_text(c), &size);
    if (!data)
        return errno == ENOENT ? fail(c, BELAY_NOT_FOUND, "no such file")
                               : io_failed(c, main_text(c));
    c->result = latin1(data, size);
    free(data);
    return BELAY_OK;
}

static belay_code write_text(call *c) {
    size_t size;
    char *data = bytes_of(json_object_get(c->all, "text"), &size);
    char *parent = bly_path_directory(main_text(c));
    bly_make_directories(parent, NULL);
    int ok = write_all(main_text(c), data, size);
    belay_checkpoint_path_free(parent);
    free(data);
    return ok ? BELAY_OK : io_failed(c, main_text(c));
}

static belay_code make_folder(call *c) {
    return bly_make_directories(main_text(c), c->err);
}

static void delete_tree(const char *path) {
    json_t *names = json_array(), *name;
    size_t i;
    if (!bly_is_directory(path)) {
        unlink(path);
        json_decref(names);
        return;
    }
    list(path, "", names);
    for (i = json_array_size(names); i-- > 0;) {
        name = json_array_get(names, i);
        char *inner = joined(path, json_string_value(name));
        size_t size = strlen(inner);
        if (inner[size - 1] == '/') {
            inner[size - 1] = '\0';
            rmdir(inner);
        } else {
            unlink(inner);
        }
        free(inner);
    }
    rmdir(path);
    json_decref(names);
}

static belay_code delete_files(call *c) {
    char *parent = bly_path_directory(main_text(c));
    const char *base = bly_path_base(main_text(c));
    json_t *names = json_array(), *name;
    size_t i;
    DIR *dir = opendir(parent);
    for (const struct dirent *entry = NULL; dir && (entry = readdir(dir));)
        if (strcmp(entry->d_name, base) == 0 ||
            (is_true(c->all, "prefix") && strncmp(entry->d_name, base, strlen(base)) == 0))
            json_array_append_new(names, json_string(entry->d_name));
    if (dir)
        closedir(dir);
    json_array_foreach(names, i, name) {
        char *path = joined(parent, json_string_value(name));
        delete_tree(path);
        free(path);
    }
    json_decref(names);
    belay_checkpoint_path_free(parent);
    return BELAY_OK;
}

static belay_code damage(call *c) {
    size_t size = 0;
    char *data = read_all(main_text(c), &size);
    if (!data)
        return io_failed(c, main_text(c));
    json_int_t at = json_integer_value(json_object_get(c->all, "at"));
    data[at < 0 ? (json_int_t)size + at : at] ^= (char)0xff;
    int ok = write_all(main_text(c), data, size);
    free(data);
    return ok ? BELAY_OK : io_failed(c, main_text(c));
}

static belay_code truncate_file(call *c) {
    return truncate(main_text(c), (off_t)number_in(c->all, "to", 0)) == 0
               ? BELAY_OK
               : io_failed(c, main_text(c));
}

static belay_code touch(call *c) {
    time_t seconds = (time_t)number_in(c->all, "time", 0);
    struct timespec times[2] = {{seconds, 0}, {seconds, 0}};
    return utimensat(AT_FDCWD, main_text(c), times, 0) == 0 ? BELAY_OK : io_failed(c, main_text(c));
}

static belay_code move(call *c) {
    return rename(main_text(c), text_in(c->all, "to", "")) == 0 ? BELAY_OK
                                                                : io_failed(c, main_text(c));
}

static belay_code change_mode(call *c) {
    mode_t mode = (mode_t)strtol(text_in(c->all, "mode", "644"), NULL, 8);
    return chmod(main_text(c), mode) == 0 ? BELAY_OK : io_failed(c, main_text(c));
}

const verb file_verbs[] = {
    {"folder", folder},
    {"text", text},
    {"write", write_text},
    {"mkdir", make_folder},
    {"delete", delete_files},
    {"damage", damage},
    {"truncate", truncate_file},
    {"touch", touch},
    {"move", move},
    {"chmod", change_mode},
    {NULL, NULL},
};
