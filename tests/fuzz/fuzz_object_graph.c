/* What tf.train.Checkpoint says of its objects, fuzzed. How it is built: fuzz_bundle_index.c. */
#include "checkpoint/saver_impl.h"
#include "target.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    bly_object_map map = {0};
    if (bly_object_map_read(&map, "input", data, size, NULL) == BELAY_OK)
        for (size_t i = 0; i < map.count; i++)
            if (!map.keys[i][0] || !bly_object_map_find(&map, map.names[i]))
                abort();
    bly_object_map_free(&map);
    return 0;
}
