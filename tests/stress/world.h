/* What the stress test runs on: the scripted runtime or the real TensorFlow. */
#ifndef STRESS_WORLD_H
#define STRESS_WORLD_H

#include <belay/graph.h>

#include <stddef.h>

/* An op whose runs all fail. */
struct failing_op {
    const char *name;
    belay_code code;
};

extern const char world_name[];
extern const struct failing_op world_failing_ops[];
extern const size_t world_failing_op_count;
/* What the runner of queue 3 fails with in a graph whose runner is bad. */
extern const belay_code world_runner_code;

void world_start(const char *graphs);
/* Ends the program with 1 where anything is left alive that the runtime knows of. */
void world_end(void);

/* A graph with a step `train`, four queues with a runner each and outputs `element0:0` to
 * `element3:0`, an init op, and the ops that fail. */
belay_graph *world_graph(int has_bad_runner, belay_error *err);

#endif
