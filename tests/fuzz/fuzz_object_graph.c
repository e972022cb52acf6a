/* What tf.train.Checkpoint says of its objects, fuzzed. How it is built: fuzz_bundle_index.c. */
#include "checkpoint/saver_impl.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    bly_object_map map = {0};
    if (bly_object_map_read(&map, "input", data, size, NULL) == BELAY_OK)
        for (size_t i = 0; i < map.count; i++)
            if (!map.keys[i][0] || !bly_object_map_find(&map, map.names[i]))
                abort();
    bly_object_map_free(&map);
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
