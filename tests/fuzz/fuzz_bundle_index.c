/* The index of a checkpoint, fuzzed: the input is the content of a block, and becomes a whole index
 * with checksums that are right, since no fuzzer gets past a checksum. The data file is a page of
 * zeros.
 *
 * With clang: -fsanitize=fuzzer,address. Without, replay.c gives it
 * tests/fuzz/corpus/bundle_index. */
#include "checkpoint/bundle.h"
#include "table_file.h"
#include "target.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define ROOM_MAX ((uint64_t)1 << 20)

static char folder[] = "/tmp/belay-fuzz.XXXXXX";
static char prefix[64];

static void write_file(const char *suffix, const void *bytes, size_t size) {
    char path[96];
    snprintf(path, sizeof path, "%s%s", prefix, suffix);
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(bytes, 1, size, file) != size || fclose(file) != 0)
        abort();
}

static void clean_up(void) {
    char path[96];
    snprintf(path, sizeof path, "%s.index", prefix);
    unlink(path);
    snprintf(path, sizeof path, "%s.data-00000-of-00001", prefix);
    unlink(path);
    rmdir(folder);
}

static void set_up(void) {
    static const char zeros[4096];
    if (prefix[0])
        return;
    if (!mkdtemp(folder))
        abort();
    snprintf(prefix, sizeof prefix, "%s/m", folder);
    write_file(".data-00000-of-00001", zeros, sizeof zeros);
    atexit(clean_up);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    set_up();
    bly_buf index = table_file_of(data, size);
    write_file(".index", index.data, index.len);
    bly_buf_free(&index);
    bly_bundle *bundle = bly_bundle_load(prefix, NULL);
    for (size_t i = 0; bundle && i < bly_bundle_count(bundle); i++) {
        const bly_bundle_tensor *tensor = bly_bundle_at(bundle, i);
        bly_bundle_strings strings;
        if (tensor->size_bytes >
            ROOM_MAX * 64) /* slices may share bytes, so a page can give more */
            abort();
        void *room = malloc((size_t)tensor->size_bytes + 1);
        if (room)
            bly_bundle_read(bundle, tensor, room, tensor->size_bytes, NULL);
        free(room);
        bly_bundle_read_strings(bundle, tensor, &strings, NULL);
        bly_bundle_strings_free(&strings);
    }
    if (bundle)
        bly_bundle_verify(bundle, NULL, NULL, NULL);
    bly_bundle_free(bundle);
    return 0;
}
