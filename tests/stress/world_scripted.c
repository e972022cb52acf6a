#include "world.h"

#include "scripted_runtime.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>

#include <cmocka.h>

#define QUEUE(n, enqueue)                                                                          \
    "queue" n " = FIFOQueueV2() capacity=2 component_types={int64}\n"                              \
    "value" n " = Const() dtype=int64 value=7\n"                                                   \
    "enqueue" n " = QueueEnqueueV2(queue" n ", value" n ")\n"                                      \
    "close" n " = QueueCloseV2(queue" n ") cancel_pending_enqueues=false\n"                        \
    "cancel" n " = QueueCloseV2(queue" n ") cancel_pending_enqueues=true\n"                        \
    "element" n " = QueueDequeueV2(queue" n ") component_types={int64}\n"                          \
    "queue_runner queue" n ": enqueue=" enqueue " close=close" n " cancel=cancel" n "\n"
#define FAILING                                                                                    \
    "fails_internal = NoOp()\nfails_argument = NoOp()\nfails_range = NoOp()\n"                     \
    "fails_missing = NoOp()\nbad_enqueue = NoOp()\n"
#define MODEL                                                                                      \
    SCRIPTED_GLOBAL_STEP SCRIPTED_TRAIN SCRIPTED_INIT FAILING QUEUE("0", "enqueue0")               \
        QUEUE("1", "enqueue1") QUEUE("2", "enqueue2")

const char world_name[] = "the scripted runtime";
const struct failing_op world_failing_ops[] = {{"fails_internal", BELAY_INTERNAL},
                                               {"fails_argument", BELAY_INVALID_ARGUMENT},
                                               {"fails_range", BELAY_OUT_OF_RANGE},
                                               {"fails_missing", BELAY_NOT_FOUND}};
const size_t world_failing_op_count = sizeof world_failing_ops / sizeof world_failing_ops[0];
const belay_code world_runner_code = BELAY_DATA_LOSS;

void world_start(const char *graphs) {
    (void)graphs;
    scripted_install();
    scripted_keep_no_runs();
    for (size_t i = 0; i < world_failing_op_count; i++)
        scripted_fail(world_failing_ops[i].name, 0, world_failing_ops[i].code, "as the op does");
    scripted_fail("bad_enqueue", 0, world_runner_code, "as the op does");
}

/* What the scripted runtime finds left alive fails a cmocka test. */
static void end(void **state) {
    (void)state;
    scripted_release();
    scripted_uninstall();
}

void world_end(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(end)};
    if (cmocka_run_group_tests_name("nothing is left alive", tests, NULL, NULL))
        exit(1);
}

belay_graph *world_graph(int has_bad_runner, belay_error *err) {
    return scripted_graph(
        has_bad_runner ? MODEL QUEUE("3", "bad_enqueue") : MODEL QUEUE("3", "enqueue3"), err);
}
