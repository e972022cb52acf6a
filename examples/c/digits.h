/* The model and the input that the examples share: the shipped handwritten digits. */
#ifndef EXAMPLES_DIGITS_H
#define EXAMPLES_DIGITS_H

#include <belay/belay.h>

#include <stddef.h>
#include <stdint.h>

#define GRAPH  "examples/digits/graph/digits.meta" /* feeds x:0 and y:0, trains with op train */
#define DATA   "examples/digits/data/"
#define BATCH  32
#define PIXELS 64

typedef struct digits {
    belay_batches *batches;
    belay_tensor *inputs[2]; /* a batch: pixels for x, labels for y */
} digits;

static inline void digits_close(digits *d) {
    belay_batches_free(d->batches);
    belay_tensor_free(d->inputs[0]);
    belay_tensor_free(d->inputs[1]);
}

static inline belay_code digits_open(digits *d, belay_error *err) {
    static const char *const names[] = {"x", "y"};
    const int64_t dims[] = {BATCH, PIXELS};
    belay_batches_options options = BELAY_BATCHES_OPTIONS_INIT;
    options.batch_size = BATCH;
    options.flags = BELAY_BATCHES_SHUFFLE | BELAY_BATCHES_DROP_SHORT;
    belay_npy *arrays[] = {belay_npy_load(DATA "train_x.npy", err), NULL};
    if (arrays[0])
        arrays[1] = belay_npy_load(DATA "train_y.npy", err);
    *d = (digits){
        belay_batches_prepare(names, arrays, 2, &options, err),
        {belay_tensor_new(BELAY_FLOAT, dims, 2, err), belay_tensor_new(BELAY_INT64, dims, 1, err)}};
    belay_npy_free(arrays[0]); /* the batches hold them */
    belay_npy_free(arrays[1]);
    if (d->batches && d->inputs[0] && d->inputs[1])
        return BELAY_OK;
    digits_close(d);
    *d = (digits){NULL, {NULL, NULL}};
    return belay_error_code(err);
}

/* Fills the inputs with the next batch. */
static inline belay_code digits_next(digits *d, belay_error *err) {
    void *memory[] = {belay_tensor_data(d->inputs[0]), belay_tensor_data(d->inputs[1])};
    return belay_batches_next(d->batches, memory, NULL, err);
}

#endif
