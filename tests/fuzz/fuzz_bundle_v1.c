/* A checkpoint of the old V1 format, fuzzed: the input is the content of a block, and becomes a
 * whole file with checksums that are right. How it is built: fuzz_bundle_index.c. */
#include "checkpoint/bundle.h"
#include "table_file.h"
#include "target.h"

#include <stdlib.h>
#include <unistd.h>

static char path[] = "/tmp/belay-fuzz-v1.XXXXXX";
static int fd = -1;

static void clean_up(void) {
    close(fd);
    unlink(path);
}

static void write_file(const void *bytes, size_t size) {
    if (fd < 0) {
        fd = mkstemp(path);
        atexit(clean_up);
    }
    if (ftruncate(fd, 0) != 0 || pwrite(fd, bytes, size, 0) != (ssize_t)size)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    bly_buf file = table_file_of(data, size);
    write_file(file.data, file.len);
    bly_buf_free(&file);
    bly_bundle *bundle = bly_bundle_load_v1(path, NULL);
    for (size_t i = 0; bundle && i < bly_bundle_count(bundle); i++) {
        const bly_bundle_tensor *tensor = bly_bundle_at(bundle, i);
        if (bly_bundle_find(bundle, tensor->name) != tensor || tensor->elements < 0)
            abort();
        for (int32_t d = 0; d < tensor->rank; d++)
            if (tensor->dims[d] < 0)
                abort();
    }
    bly_bundle_free(bundle);
    return 0;
}
