/*
 * What the C sides of a benchmark share: arguments, batches, clock, result.
 *
 *     SIDE GRAPH [--dir RUN] [--master TARGET] [--init OP] [--target OP] --fetch TENSOR
 *          [--x TENSOR --y TENSOR --data FOLDER] --warmup N --steps N
 */
#ifndef BENCH_SIDE_H
#define BENCH_SIDE_H

#include <stddef.h>
#include <stdint.h>

/* As in models.py. */
#define SIDE_FEATURES 64
#define SIDE_BATCH    32

typedef struct side_arguments {
    const char *graph;
    const char *dir;    /* run folder; NULL: none */
    const char *master; /* target of the session; NULL: this process */
    const char *init;   /* op that initialises; NULL: the graph needs none */
    const char *target; /* op of a training step; NULL: fetching does it */
    const char *fetch;
    const char *x; /* fed tensors; NULL: nothing is fed */
    const char *y;
    const char *data;
    long warmup; /* at least 1 */
    long steps;
} side_arguments;

/* Fills `out`, or says what is wrong and exits. */
void side_parse(int argc, char **argv, side_arguments *out);

/* All batches, one after the other, as often as is needed. Freed with the process. */
typedef struct side_batches {
    float *x;   /* count * SIDE_BATCH * SIDE_FEATURES */
    int64_t *y; /* count * SIDE_BATCH */
    size_t count;
} side_batches;

/* Reads x.npy and y.npy of `folder`, or says what is wrong and exits. */
side_batches side_read_batches(const char *folder);

/* Reads a file whole, or says what is wrong and exits. */
void *side_read_file(const char *path, size_t *out_size);

/* Seconds of the monotonic clock, which is one for all processes of a machine. */
double side_now(void);

/* Prints the result as one line of JSON. */
void side_report(double first_step_at, double seconds, long steps);

/* Says what is wrong and exits. */
_Noreturn void side_die(const char *what, const char *detail);

#endif
