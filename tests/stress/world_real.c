#include "world.h"

#include <stdio.h>

const char world_name[] = "TensorFlow";
const struct failing_op world_failing_ops[] = {{"fails_argument", BELAY_INVALID_ARGUMENT},
                                               {"fails_range", BELAY_OUT_OF_RANGE},
                                               {"fails_missing", BELAY_NOT_FOUND}};
const size_t world_failing_op_count = sizeof world_failing_ops / sizeof world_failing_ops[0];
const belay_code world_runner_code = BELAY_NOT_FOUND;

static const char *folder;

void world_start(const char *graphs) {
    folder = graphs;
}

void world_end(void) {
}

belay_graph *world_graph(int has_bad_runner, belay_error *err) {
    char path[4096];
    snprintf(path, sizeof path, "%s/stress%s.meta", folder, has_bad_runner ? "_bad" : "");
    return belay_graph_load(path, NULL, err);
}
