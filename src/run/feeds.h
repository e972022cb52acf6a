/* Rows of .npy arrays as the tensors that a plan feeds, batch by batch. */
#ifndef BLY_RUN_FEEDS_H
#define BLY_RUN_FEEDS_H

#include "run/plan.h"

#include <belay/input.h>
#include <belay/tensor.h>

typedef struct bly_feeds bly_feeds;

typedef struct bly_feeds_options {
    int64_t batch; /* 0: what the graph fixes, else default_batch */
    int64_t default_batch;
    int64_t epochs; /* 0: for ever */
    int64_t seed;
    int shuffle;
} bly_feeds_options;

/* Opens the arrays, `files` in the order of the plan's feeds, and checks each against what it is
 * fed to. NULL on error: those of belay_npy_load() and belay_batches_prepare(), and
 * INVALID_ARGUMENT where type, shape or batch do not fit. */
bly_feeds *bly_feeds_open(const bly_plan *plan, const char *const *files,
                          const bly_feeds_options *options, belay_error *err);
void bly_feeds_close(bly_feeds *feeds); /* NULL is fine */

/* The next batch: a tensor for each feed, which belong to `feeds` until the next call.
 * OUT_OF_RANGE: all epochs are over. */
belay_code bly_feeds_next(bly_feeds *feeds, belay_tensor *const **out, int64_t *out_rows,
                          belay_error *err);

/* Where the batches come from: for positions. */
belay_batches *bly_feeds_batches(bly_feeds *feeds);

/* Rows at the end of each epoch that are left out, because the graph fixes the batch's size; 0:
 * none. */
int64_t bly_feeds_left_out(const bly_feeds *feeds);

#endif
