#include "summary/histogram.h"

#include "base/error.h"

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

/* ---- Numbers of any type ---- */

static double half_number(uint16_t bits) {
    int exponent = bits >> 10 & 0x1f, fraction = bits & 0x3ff;
    double value = exponent == 0 ? ldexp(fraction, -24) : ldexp(fraction + 1024, exponent - 25);
    if (exponent == 0x1f)
        value = fraction ? (double)NAN : (double)INFINITY;
    return bits >> 15 ? -value : value;
}

static double bfloat16_number(uint16_t bits) {
    uint32_t wide = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &wide, sizeof value);
    return (double)value;
}

/* The element at `from`, which need not be aligned. */
static double number_at(belay_dtype dtype, const void *from) {
    union {
        float f;
        double d;
        int8_t i8;
        int16_t i16;
        int32_t i32;
        int64_t i64;
        uint8_t u8;
        uint16_t u16;
        uint32_t u32;
        uint64_t u64;
    } element;
    memcpy(&element, from, belay_dtype_size(dtype));
    switch (dtype) {
    case BELAY_FLOAT:
        return (double)element.f;
    case BELAY_DOUBLE:
        return element.d;
    case BELAY_HALF:
        return half_number(element.u16);
    case BELAY_BFLOAT16:
        return bfloat16_number(element.u16);
    case BELAY_INT8:
        return element.i8;
    case BELAY_INT16:
        return element.i16;
    case BELAY_INT32:
        return element.i32;
    case BELAY_INT64:
        return (double)element.i64;
    case BELAY_UINT16:
        return element.u16;
    case BELAY_UINT32:
        return element.u32;
    case BELAY_UINT64:
        return (double)element.u64;
    default:
        return element.u8;
    }
}

static int is_number(belay_dtype dtype) {
    switch (dtype) {
    case BELAY_FLOAT:
    case BELAY_DOUBLE:
    case BELAY_HALF:
    case BELAY_BFLOAT16:
    case BELAY_INT8:
    case BELAY_INT16:
    case BELAY_INT32:
    case BELAY_INT64:
    case BELAY_UINT8:
    case BELAY_UINT16:
    case BELAY_UINT32:
    case BELAY_UINT64:
    case BELAY_BOOL:
        return 1;
    default:
        return 0;
    }
}

/* ---- Buckets ---- */

/* The same additions in the same order as TensorFlow's, so that the borders are equal to the bit.
 */
static void set_limits(double *limits) {
    double *zero = limits + BLY_HISTOGRAM_SIDE + 1, border = 1e-12;
    *zero = 0;
    for (int i = 1; i <= BLY_HISTOGRAM_SIDE; i++, border *= 1.1) {
        zero[i] = border;
        zero[-i] = -border;
    }
    zero[BLY_HISTOGRAM_SIDE + 1] = DBL_MAX;
    zero[-BLY_HISTOGRAM_SIDE - 1] = -DBL_MAX;
}

/* The first bucket whose border is above `value`; the last one takes what none is above. */
static size_t bucket_of(const double *limits, double value) {
    size_t low = 0, high = BLY_HISTOGRAM_LIMITS - 1;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (limits[middle] > value)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* Buckets that are empty, one after the other, become one. */
static size_t join_empty(double *limits, double *counts) {
    size_t kept = 0;
    for (size_t i = 0; i < BLY_HISTOGRAM_LIMITS; i++) {
        if (kept > 0 && counts[kept - 1] == 0 && counts[i] == 0) {
            limits[kept - 1] = limits[i];
            continue;
        }
        limits[kept] = limits[i];
        counts[kept++] = counts[i];
    }
    return kept;
}

belay_code bly_histogram_make(bly_histogram *out, const void *values, belay_dtype dtype,
                              size_t count, belay_error *err) {
    const char *at = values;
    bly__histogram_proto__init(&out->proto);
    if (!is_number(dtype))
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "a histogram cannot be made of %s values",
                        belay_dtype_name(dtype));
    set_limits(out->limits);
    memset(out->counts, 0, sizeof out->counts);
    out->proto.min = DBL_MAX;
    out->proto.max = -DBL_MAX;
    for (size_t i = 0; i < count; i++, at += belay_dtype_size(dtype)) {
        double value = number_at(dtype, at);
        if (!isfinite(value))
            return bly_fail(err, BELAY_INVALID_ARGUMENT,
                            "value %zu of the histogram is %g: it has no bucket", i, value);
        out->counts[bucket_of(out->limits, value)]++;
        if (value < out->proto.min)
            out->proto.min = value;
        if (value > out->proto.max)
            out->proto.max = value;
        out->proto.sum += value;
        out->proto.sum_squares += value * value;
    }
    out->proto.num = (double)count;
    out->proto.bucket_limit = out->limits;
    out->proto.bucket = out->counts;
    out->proto.n_bucket = out->proto.n_bucket_limit = join_empty(out->limits, out->counts);
    return BELAY_OK;
}
