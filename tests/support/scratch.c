#include "scratch.h"

#include "base/file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

int scratch_set_up(void **state) {
    const char *base = getenv("TMPDIR");
    char *path = malloc(4096);
    if (!path)
        return -1;
    snprintf(path, 4096, "%s/belay.XXXXXX", base && base[0] ? base : "/tmp");
    *state = mkdtemp(path);
    return *state ? 0 : -1;
}

int scratch_tear_down(void **state) {
    belay_code code = bly_remove_directory(*state, NULL);
    free(*state);
    return code == BELAY_OK ? 0 : -1;
}

const char *scratch_path(void **state, const char *name) {
    static char paths[8][4096];
    static size_t next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", (const char *)*state, name);
    return path;
}

uint8_t *scratch_read(const char *path, size_t *out_size) {
    bly_buf content = BLY_BUF_INIT;
    assert_int_equal(bly_file_read(path, (size_t)1 << 30, &content, NULL), BELAY_OK);
    uint8_t *copy = malloc(content.len + 1);
    assert_non_null(copy);
    memcpy(copy, bly_buf_text(&content), content.len + 1);
    *out_size = content.len;
    bly_buf_free(&content);
    return copy;
}

void scratch_write(const char *path, const void *data, size_t size) {
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

void scratch_copy(const char *from, const char *to) {
    size_t size;
    uint8_t *content = scratch_read(from, &size);
    scratch_write(to, content, size);
    free(content);
}

struct copying {
    void **state;
    const char *from;
    const char *name;
};

static belay_code copy_one(void *self, const char *name, belay_error *err) {
    const struct copying *copying = self;
    char from[4096];
    size_t len = strlen(copying->name);
    (void)err;
    if (strncmp(name, copying->name, len) != 0 || name[len] != '.')
        return BELAY_OK;
    snprintf(from, sizeof from, "%s/%s", copying->from, name);
    scratch_copy(from, scratch_path(copying->state, name));
    return BELAY_OK;
}

const char *scratch_copy_all(void **state, const char *from, const char *name) {
    struct copying copying = {state, from, name};
    assert_int_equal(bly_directory_list(from, copy_one, &copying, NULL), BELAY_OK);
    return scratch_path(state, name);
}
