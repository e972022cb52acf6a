#include "input/shuffle.h"

#include "base/mem.h"

#include <stddef.h>

#define GAMMA UINT64_C(0x9e3779b97f4a7c15)

__extension__ typedef unsigned __int128 uint128;

static uint64_t mix(uint64_t z) {
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static uint64_t next(uint64_t *state) {
    *state += GAMMA;
    return mix(*state);
}

/* A number below n, each as likely as any other (Lemire 2019). */
static uint32_t below(uint64_t *state, uint32_t n) {
    uint64_t unfair = -(uint64_t)n % n; /* 2^64 mod n */
    uint128 product;
    do
        product = (uint128)next(state) * n;
    while ((uint64_t)product < unfair);
    return (uint32_t)(product >> 64);
}

int bly_shuffle_init(bly_shuffle *shuffle, uint32_t rows) {
    shuffle->order = bly_malloc((size_t)rows * sizeof *shuffle->order);
    shuffle->rows = rows;
    shuffle->done = 0;
    shuffle->epoch = -1;
    shuffle->state = 0;
    return shuffle->order != NULL;
}

void bly_shuffle_clean_up(bly_shuffle *shuffle) {
    bly_free(shuffle->order);
    shuffle->order = NULL;
}

const uint32_t *bly_shuffle_order(bly_shuffle *shuffle, int64_t seed, int64_t epoch,
                                  uint32_t wanted) {
    uint32_t *order = shuffle->order;
    if (shuffle->epoch != epoch) {
        for (uint32_t i = 0; i < shuffle->rows; i++)
            order[i] = i;
        shuffle->done = 0;
        shuffle->epoch = epoch;
        shuffle->state = mix(mix((uint64_t)seed + GAMMA) ^ (uint64_t)epoch);
    }
    for (; shuffle->done < wanted; shuffle->done++) {
        uint32_t i = shuffle->done;
        uint32_t j = i + below(&shuffle->state, shuffle->rows - i);
        uint32_t row = order[j];
        order[j] = order[i];
        order[i] = row;
    }
    return order;
}
