/* The index of a checkpoint, fuzzed: the input is the content of a block, and becomes a whole index
 * with checksums that are right, since no fuzzer gets past a checksum. The data file is a page of
 * zeros.
 *
 * With clang: -fsanitize=fuzzer,address -DWITH_LIBFUZZER. Without, main() runs the files it is
 * given, so that any compiler can run the corpus as a test: tests/fuzz/corpus/bundle_index. */
#include "base/buf.h"
#include "base/crc32c.h"
#include "checkpoint/bundle.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

static void put_fixed32(bly_buf *out, uint32_t value) {
    for (int i = 0; i < 4; i++)
        bly_buf_putc(out, (char)(uint8_t)(value >> (8 * i)));
}

static void put_varint(bly_buf *out, uint64_t value) {
    for (; value >= 0x80; value >>= 7)
        bly_buf_putc(out, (char)(uint8_t)(value | 0x80));
    bly_buf_putc(out, (char)(uint8_t)value);
}

static void put_block(bly_buf *file, const void *content, size_t size, bly_buf *handle) {
    size_t start = file->len;
    put_varint(handle, start);
    put_varint(handle, size);
    bly_buf_append(file, content, size);
    bly_buf_putc(file, '\0');
    put_fixed32(file, bly_crc32c_mask(bly_crc32c(0, file->data + start, size + 1)));
}

static void make_index(const uint8_t *block, size_t size) {
    bly_buf file = BLY_BUF_INIT, place = BLY_BUF_INIT, index = BLY_BUF_INIT, footer = BLY_BUF_INIT;
    put_block(&file, block, size, &place);
    put_block(&file, "\0\0\0\0", 4, &footer);
    put_varint(&index, 0);
    put_varint(&index, 1);
    put_varint(&index, place.len);
    bly_buf_putc(&index, '\xff');
    bly_buf_append(&index, place.data, place.len);
    put_fixed32(&index, 0);
    put_fixed32(&index, 1);
    put_block(&file, index.data, index.len, &footer);
    while (footer.len < 40)
        bly_buf_putc(&footer, '\0');
    put_fixed32(&footer, UINT32_C(0x8b80fb57));
    put_fixed32(&footer, UINT32_C(0xdb477524));
    bly_buf_append(&file, footer.data, footer.len);
    write_file(".index", file.data, file.len);
    bly_buf_free(&file);
    bly_buf_free(&place);
    bly_buf_free(&index);
    bly_buf_free(&footer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    set_up();
    make_index(data, size);
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

#ifndef WITH_LIBFUZZER
int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        static uint8_t bytes[1 << 20];
        FILE *file = fopen(argv[i], "rb");
        if (!file) {
            perror(argv[i]);
            return 1;
        }
        size_t size = fread(bytes, 1, sizeof bytes, file);
        fclose(file);
        LLVMFuzzerTestOneInput(bytes, size);
    }
    return 0;
}
#endif
