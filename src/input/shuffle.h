/* The order of an epoch: Fisher and Yates's shuffle from the front, made as far as it is needed.
 * belay/input.h states it exactly: it may never change, or resumed runs would see rows twice. */
#ifndef BLY_INPUT_SHUFFLE_H
#define BLY_INPUT_SHUFFLE_H

#include <stdint.h>

typedef struct bly_shuffle {
    uint32_t *order; /* the first `done` are final */
    uint32_t rows;
    uint32_t done;
    int64_t epoch; /* which one it is of; -1: none */
    uint64_t state;
} bly_shuffle;

int bly_shuffle_init(bly_shuffle *shuffle, uint32_t rows); /* 0 when memory is out */
void bly_shuffle_clean_up(bly_shuffle *shuffle);

/* Makes at least the first `wanted` (at most `rows`) places of `epoch` final, and returns the
 * order. */
const uint32_t *bly_shuffle_order(bly_shuffle *shuffle, int64_t seed, int64_t epoch,
                                  uint32_t wanted);

#endif
