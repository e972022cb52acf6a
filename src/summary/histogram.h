/* Histograms with TensorFlow's buckets, so that those of a program in C and those that a graph
 * computes look the same. */
#ifndef BLY_SUMMARY_HISTOGRAM_H
#define BLY_SUMMARY_HISTOGRAM_H

#include "wire/summary.pb-c.h"

#include <belay/dtype.h>
#include <belay/error.h>

#include <stddef.h>

/* Borders of buckets: 0, and 1e-12 to 1e20 in steps of a tenth, with their negatives; beyond them
 * the largest number. */
#define BLY_HISTOGRAM_SIDE   774
#define BLY_HISTOGRAM_LIMITS (2 * (BLY_HISTOGRAM_SIDE + 1) + 1)

typedef struct bly_histogram {
    Bly__HistogramProto proto; /* its arrays are those below */
    double limits[BLY_HISTOGRAM_LIMITS];
    double counts[BLY_HISTOGRAM_LIMITS];
} bly_histogram;

/* Counts values. BELAY_INVALID_ARGUMENT where one is not finite, or the type holds no numbers. */
belay_code bly_histogram_make(bly_histogram *out, const void *values, belay_dtype dtype,
                              size_t count, belay_error *err);

#endif
