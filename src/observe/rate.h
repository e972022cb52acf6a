/* How fast something counts, over a window of about a second. */
#ifndef BLY_OBSERVE_RATE_H
#define BLY_OBSERVE_RATE_H

#include <stdint.h>

/* Zero it to start. */
typedef struct bly_rate {
    int64_t from_us; /* 0: nothing was counted yet */
    int64_t from_count;
    double per_second; /* 0: not known yet */
} bly_rate;

/* The count is `count` at this time. A count that went back, after a recovery, starts anew. */
void bly_rate_update(bly_rate *rate, int64_t count, int64_t now_us);

#endif
