/* Tensors of another type with the same values (SE-26). */
#include "base/error.h"
#include "runtime/tensor.h"

#include <math.h>
#include <string.h>

/* An element between two types. */
struct number {
    int is_real;
    int negative;
    uint64_t magnitude; /* of an integer */
    double real;
};

/* How a type holds numbers. */
struct form {
    belay_dtype dtype;
    int bits;      /* of an integer's magnitude; 0: it is a real type */
    int is_signed; /* then there is one more negative number */
    int exponent;  /* bits of a real one's */
    int mantissa;  /* bits of a real one's, below the leading 1 */
};

static const struct form forms[] = {
    {BELAY_BOOL, 1, 0, 0, 0},     {BELAY_INT8, 7, 1, 0, 0},     {BELAY_UINT8, 8, 0, 0, 0},
    {BELAY_INT16, 15, 1, 0, 0},   {BELAY_UINT16, 16, 0, 0, 0},  {BELAY_INT32, 31, 1, 0, 0},
    {BELAY_UINT32, 32, 0, 0, 0},  {BELAY_INT64, 63, 1, 0, 0},   {BELAY_UINT64, 64, 0, 0, 0},
    {BELAY_HALF, 0, 1, 5, 10},    {BELAY_BFLOAT16, 0, 1, 8, 7}, {BELAY_FLOAT, 0, 1, 8, 23},
    {BELAY_DOUBLE, 0, 1, 11, 52},
};

static const struct form *form_of(belay_dtype dtype) {
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++)
        if (forms[i].dtype == dtype)
            return &forms[i];
    return NULL;
}

/* ---- reading one ---- */

static struct number load(const belay_tensor *tensor, const struct form *form, const char *at,
                          int64_t index) {
    struct number number = {0};
    int64_t integer = 0;
    size_t size = belay_dtype_size(form->dtype);
    if (!form->bits) {
        number.is_real = 1;
        number.real = bly_tensor_number(tensor->rt, tensor->tf, index);
    } else if (!form->is_signed) {
        memcpy(&number.magnitude, at, size); /* little-endian, as belay's files are */
    } else {
        memcpy(&integer, at, size);
        integer = (int64_t)((uint64_t)integer << (64 - 8 * size)) >> (64 - 8 * size);
        number.negative = integer < 0;
        number.magnitude = integer < 0 ? 0 - (uint64_t)integer : (uint64_t)integer;
    }
    return number;
}

/* ---- writing one; 0: it does not survive ---- */

static int store_integer(const struct form *form, struct number number, char *at) {
    if (number.is_real) {
        if (!(fabs(number.real) < 0x1p64) || trunc(number.real) != number.real)
            return 0; /* NaN too */
        number.negative = number.real < 0;
        number.magnitude = (uint64_t)fabs(number.real);
    }
    uint64_t most = form->bits == 64 ? UINT64_MAX : (UINT64_C(1) << form->bits) - 1;
    if (number.negative && number.magnitude > (form->is_signed ? most + 1 : 0))
        return 0;
    if (!number.negative && number.magnitude > most)
        return 0;
    uint64_t bytes = number.negative ? 0 - number.magnitude : number.magnitude;
    memcpy(at, &bytes, belay_dtype_size(form->dtype));
    return 1;
}

/* An integer must be the same one afterwards (SE-26): its digits have to find room. */
static int is_exact(const struct form *form, uint64_t magnitude) {
    if (magnitude == 0)
        return 1;
    int length = 64 - __builtin_clzll(magnitude);
    return length - __builtin_ctzll(magnitude) <= form->mantissa + 1 &&
           length <= 1 << (form->exponent - 1);
}

/* Bits of the nearest number of a small real type; ties go to the even one. 0: it would be
 * infinite. */
static int encode_small(const struct form *form, double real, uint16_t *out) {
    int bias = (1 << (form->exponent - 1)) - 1, power;
    uint16_t sign = (uint16_t)((signbit(real) != 0) << (form->exponent + form->mantissa));
    uint16_t top = (uint16_t)(((1 << form->exponent) - 1) << form->mantissa);
    *out = (uint16_t)(sign | top);
    if (isinf(real))
        return 1;
    if (isnan(real)) {
        *out = (uint16_t)(*out | 1u << (form->mantissa - 1));
        return 1;
    }
    double fraction = frexp(fabs(real), &power);   /* 0.5 to 1 */
    int below = real == 0 || power - 1 < 1 - bias; /* subnormal, or 0 */
    double digits = nearbyint(below ? ldexp(fabs(real), bias - 1 + form->mantissa)
                                    : ldexp(fraction, form->mantissa + 1));
    /* What is rounded up to the next power of two carries into the exponent by itself. */
    uint32_t bits = (uint32_t)digits;
    if (!below)
        bits += (uint32_t)(power - 2 + bias) << form->mantissa;
    if (bits >= top)
        return 0;
    *out = (uint16_t)(sign | bits);
    return 1;
}

static int store_real(const struct form *form, struct number number, char *at) {
    float single;
    uint16_t bits;
    if (!number.is_real) {
        if (!is_exact(form, number.magnitude))
            return 0;
        number.real = number.negative ? -(double)number.magnitude : (double)number.magnitude;
    }
    switch (form->dtype) {
    case BELAY_DOUBLE:
        memcpy(at, &number.real, sizeof number.real);
        return 1;
    case BELAY_FLOAT:
        single = (float)number.real;
        memcpy(at, &single, sizeof single);
        return !isinf(single) || isinf(number.real);
    default:
        if (!encode_small(form, number.real, &bits))
            return 0;
        memcpy(at, &bits, sizeof bits);
        return 1;
    }
}

/* ---- all of them ---- */

static belay_code convert(const belay_tensor *tensor, const struct form *from,
                          const struct form *to, belay_tensor *made, belay_error *err) {
    const char *read = belay_tensor_data(tensor);
    char *write = belay_tensor_data(made);
    int64_t count = belay_tensor_count(tensor);
    for (int64_t i = 0; i < count; i++) {
        struct number number = load(tensor, from, read, i);
        if (!(to->bits ? store_integer(to, number, write) : store_real(to, number, write)))
            return bly_fail(err, BELAY_INVALID_ARGUMENT,
                            "element %lld, %.17g, of a tensor of %s is no %s", (long long)i,
                            belay_tensor_number(tensor, i), belay_dtype_name(from->dtype),
                            belay_dtype_name(to->dtype));
        read += belay_dtype_size(from->dtype);
        write += belay_dtype_size(to->dtype);
    }
    return BELAY_OK;
}

belay_tensor *belay_tensor_convert(const belay_tensor *tensor, belay_dtype dtype,
                                   belay_error *err) {
    if (!tensor) {
        if (belay_error_code(err) == BELAY_OK)
            bly_fail(err, BELAY_INVALID_ARGUMENT, "tensor is NULL");
        return NULL;
    }
    belay_dtype given = belay_tensor_dtype(tensor);
    if (given == dtype) {
        TF_Tensor *copy = bly_tensor_copy(tensor->rt, tensor->tf);
        if (!copy)
            bly_fail_memory(err);
        return copy ? bly_tensor_wrap(tensor->rt, copy, err) : NULL;
    }
    const struct form *from = form_of(given), *to = form_of(dtype);
    if (!from || !to) {
        bly_fail(err, BELAY_INVALID_ARGUMENT, "a tensor of %s cannot be converted to %s",
                 belay_dtype_name(given), belay_dtype_name(dtype));
        return NULL;
    }
    int64_t dims[BELAY_RANK_MAX];
    uint32_t rank = belay_tensor_rank(tensor);
    for (uint32_t i = 0; i < rank; i++)
        dims[i] = belay_tensor_dim(tensor, i);
    TF_Tensor *allocated = bly_tensor_allocate(tensor->rt, dtype, dims, rank, err);
    belay_tensor *made = allocated ? bly_tensor_wrap(tensor->rt, allocated, err) : NULL;
    if (!made || convert(tensor, from, to, made, err) == BELAY_OK)
        return made;
    belay_tensor_free(made);
    return NULL;
}
