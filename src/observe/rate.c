#include "observe/rate.h"

#define WINDOW_US 1000000

void bly_rate_update(bly_rate *rate, int64_t count, int64_t now_us) {
    int64_t passed_us = now_us - rate->from_us;
    if (rate->from_us && passed_us < WINDOW_US && count >= rate->from_count)
        return;
    if (rate->from_us && count >= rate->from_count)
        rate->per_second = (double)(count - rate->from_count) * 1e6 / (double)passed_us;
    rate->from_us = now_us;
    rate->from_count = count;
}
