#include "hooks/print_tensor.h"

#include "base/locale.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* numpy's print options. */
#define THRESHOLD   1000 /* elements that are all printed */
#define EDGE_ITEMS  3
#define PRECISION   8 /* digits after the point in an array */
#define DIGITS_MOST 17

/* ---- one number ---- */

/* The decimal digits d of a number d[0].d[1]d[2]... x 10^exponent. */
typedef struct decimal {
    char digits[DIGITS_MOST + 1];
    int count;
    int exponent;
} decimal;

/* To the nearest number that has `bits` bits of mantissa and no exponent below `lowest`. */
static double round_to_bits(double value, int bits, int lowest) {
    int exponent;
    frexp(value, &exponent);
    if (exponent - 1 < lowest)
        exponent = lowest + 1;
    double unit = ldexp(1, exponent - bits);
    return nearbyint(value / unit) * unit;
}

static int reads_back(const char *text, double value, belay_dtype dtype) {
    switch (dtype) {
    case BELAY_FLOAT:
        return (double)strtof(text, NULL) == value;
    case BELAY_HALF:
        return round_to_bits(strtod(text, NULL), 11, -14) == value;
    case BELAY_BFLOAT16:
        return round_to_bits(strtod(text, NULL), 8, -126) == value;
    default:
        return strtod(text, NULL) == value;
    }
}

/* Fewest digits that still mean this number to its type. `value` is finite and not negative. */
static decimal shortest(double value, belay_dtype dtype) {
    char text[40];
    decimal d = {.count = 0};
    int most = dtype == BELAY_DOUBLE ? DIGITS_MOST : 9;
    int digits = 1;
    snprintf(text, sizeof text, "%.0e", value);
    while (digits < most && !reads_back(text, value, dtype)) {
        digits++;
        snprintf(text, sizeof text, "%.*e", digits - 1, value);
    }
    for (const char *c = text; *c != 'e'; c++)
        if (*c != '.')
            d.digits[d.count++] = *c;
    d.exponent = atoi(strchr(text, 'e') + 1);
    return d;
}

/* Rounds to `precision` digits after the point of d[0].d[1]...; from the number itself, not from
 * its digits. */
static decimal rounded(double value, int precision) {
    char text[40];
    decimal d = {.count = 0};
    snprintf(text, sizeof text, "%.*e", precision, value);
    for (const char *c = text; *c != 'e'; c++)
        if (*c != '.')
            d.digits[d.count++] = *c;
    d.exponent = atoi(strchr(text, 'e') + 1);
    while (d.count > 1 && d.digits[d.count - 1] == '0')
        d.count--;
    return d;
}

/* Rounds to `precision` digits after the point. `value` is below 1e8. */
static decimal rounded_fraction(double value, int precision) {
    char text[40];
    decimal d = {.count = 0};
    snprintf(text, sizeof text, "%.*f", precision, value);
    const char *point = strchr(text, '.');
    for (const char *c = text; *c; c++) {
        if (*c == '.' || (d.count == 0 && *c == '0'))
            continue;
        if (d.count == 0)
            d.exponent = (int)(point - c) - (c < point);
        d.digits[d.count++] = *c;
    }
    if (d.count == 0)
        d.digits[d.count++] = '0';
    while (d.count > 1 && d.digits[d.count - 1] == '0')
        d.count--;
    return d;
}

static char digit_at(const decimal *d, int index) {
    return index >= 0 && index < d->count ? d->digits[index] : '0';
}

/* Integer part, point, and the digits after it; at least `least` of those. */
static void put_positional(bly_buf *out, const decimal *d, int least) {
    int fraction = d->count - 1 - d->exponent;
    for (int i = d->exponent > 0 ? 0 : d->exponent; i <= d->exponent; i++)
        bly_buf_putc(out, digit_at(d, i));
    bly_buf_putc(out, '.');
    for (int i = 1; i <= fraction || i <= least; i++)
        bly_buf_putc(out, digit_at(d, d->exponent + i));
}

static void put_exponent(bly_buf *out, int exponent, int least_digits) {
    bly_buf_printf(out, "e%c%0*d", exponent < 0 ? '-' : '+', least_digits, abs(exponent));
}

static void put_not_finite(bly_buf *out, double value) {
    bly_buf_puts(out, isnan(value) ? "nan" : value < 0 ? "-inf" : "inf");
}

/* What is as large as this is printed with an exponent: further digits before the point would mean
 * nothing. */
static double exponents_from(belay_dtype dtype, double otherwise) {
    switch (dtype) {
    case BELAY_BFLOAT16:
        return 1e2;
    case BELAY_HALF:
        return 1e3;
    case BELAY_FLOAT:
        return 1e6;
    default:
        return otherwise;
    }
}

static void put_float_scalar(bly_buf *out, double value, belay_dtype dtype) {
    if (!isfinite(value)) {
        put_not_finite(out, value);
        return;
    }
    decimal d = shortest(fabs(value), dtype);
    if (signbit(value))
        bly_buf_putc(out, '-');
    if (value != 0 && (fabs(value) < 1e-4 || fabs(value) >= exponents_from(dtype, 1e16))) {
        bly_buf_putc(out, d.digits[0]);
        if (d.count > 1)
            bly_buf_putc(out, '.');
        bly_buf_append(out, d.digits + 1, (size_t)d.count - 1);
        put_exponent(out, d.exponent, 2);
    } else {
        put_positional(out, &d, 1);
    }
}

/* As Python writes bytes. */
static void put_bytes(bly_buf *out, const char *bytes, size_t len) {
    char quote = memchr(bytes, '\'', len) && !memchr(bytes, '"', len) ? '"' : '\'';
    bly_buf_putc(out, 'b');
    bly_buf_putc(out, quote);
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)bytes[i];
        if (c == (unsigned char)quote || c == '\\')
            bly_buf_printf(out, "\\%c", c);
        else if (c == '\n' || c == '\r' || c == '\t')
            bly_buf_printf(out, "\\%c", c == '\n' ? 'n' : c == '\r' ? 'r' : 't');
        else if (c < 0x20 || c >= 0x7f)
            bly_buf_printf(out, "\\x%02x", c);
        else
            bly_buf_putc(out, (char)c);
    }
    bly_buf_putc(out, quote);
}

/* ---- one element of any type ---- */

static int is_float(belay_dtype dtype) {
    return dtype == BELAY_FLOAT || dtype == BELAY_DOUBLE || dtype == BELAY_HALF ||
           dtype == BELAY_BFLOAT16;
}

static void put_complex(bly_buf *out, const belay_tensor *tensor, int64_t index) {
    int wide = belay_tensor_dtype(tensor) == BELAY_COMPLEX128;
    belay_dtype part = wide ? BELAY_DOUBLE : BELAY_FLOAT;
    const char *at = (const char *)belay_tensor_data(tensor) + index * (wide ? 16 : 8);
    double parts[2];
    float singles[2];
    if (wide) {
        memcpy(parts, at, sizeof parts);
    } else {
        memcpy(singles, at, sizeof singles);
        parts[0] = (double)singles[0];
        parts[1] = (double)singles[1];
    }
    bly_buf_putc(out, '(');
    put_float_scalar(out, parts[0], part);
    bly_buf_puts(out, signbit(parts[1]) ? "" : "+");
    put_float_scalar(out, parts[1], part);
    bly_buf_puts(out, "j)");
}

static void put_element(bly_buf *out, const belay_tensor *tensor, int64_t index) {
    belay_dtype dtype = belay_tensor_dtype(tensor);
    const char *data = belay_tensor_data(tensor);
    size_t len;
    uint64_t large;
    int64_t number;
    switch (dtype) {
    case BELAY_STRING:
        data = belay_tensor_string(tensor, index, &len);
        put_bytes(out, data ? data : "", data ? len : 0);
        return;
    case BELAY_BOOL:
        bly_buf_puts(out, data[index] ? "True" : "False");
        return;
    case BELAY_INT64: /* a double does not hold all of these two */
        memcpy(&number, data + index * 8, sizeof number);
        bly_buf_printf(out, "%lld", (long long)number);
        return;
    case BELAY_UINT64:
        memcpy(&large, data + index * 8, sizeof large);
        bly_buf_printf(out, "%llu", (unsigned long long)large);
        return;
    case BELAY_COMPLEX64:
    case BELAY_COMPLEX128:
        put_complex(out, tensor, index);
        return;
    case BELAY_RESOURCE:
    case BELAY_VARIANT:
        bly_buf_printf(out, "<%s>", belay_dtype_name(dtype));
        return;
    default:
        break;
    }
    if (is_float(dtype))
        put_float_scalar(out, belay_tensor_number(tensor, index), dtype);
    else
        bly_buf_printf(out, "%.10g", belay_tensor_number(tensor, index));
}

/* ---- arrays ---- */

typedef struct array {
    bly_buf *out;
    bly_buf element; /* one at a time */
    const belay_tensor *tensor;
    belay_dtype dtype;
    int summarize;
    int exponents; /* print floats with them */
    int precision; /* digits after the point with exponents */
    int exponent_digits;
    int left, right; /* widths before and after the point; other types: only left */
    int has_nan, has_inf, has_minus_inf;
    double largest;
} array;

typedef void (*visitor)(array *a, int64_t index);

/* The digits that an array shows of a number. */
static decimal array_digits(const array *a, double value) {
    decimal d = shortest(fabs(value), a->dtype);
    if (a->exponents)
        return d.count - 1 > PRECISION ? rounded(fabs(value), PRECISION) : d;
    return d.count - 1 - d.exponent > PRECISION ? rounded_fraction(fabs(value), PRECISION) : d;
}

static void put_array_float(array *a, bly_buf *out, double value, int full) {
    /* Where columns are filled up, it is with true digits. */
    decimal d = a->exponents && full ? rounded(fabs(value), a->precision) : array_digits(a, value);
    if (signbit(value))
        bly_buf_putc(out, '-');
    if (!a->exponents) {
        put_positional(out, &d, 0);
        return;
    }
    bly_buf_putc(out, d.digits[0]);
    bly_buf_putc(out, '.');
    for (int i = 1; i < d.count || (full && i <= a->precision); i++)
        bly_buf_putc(out, digit_at(&d, i));
    put_exponent(out, d.exponent, full ? a->exponent_digits : 2);
}

static void look_at(array *a, int64_t index) {
    double value = belay_tensor_number(a->tensor, index);
    if (isnan(value)) {
        a->has_nan = 1;
    } else if (isinf(value)) {
        a->has_inf = 1;
        a->has_minus_inf |= value < 0;
    } else {
        a->largest = fmax(a->largest, fabs(value));
    }
}

static int larger(int a, int b) {
    return a > b ? a : b;
}

static void measure_float(array *a, int64_t index) {
    double value = belay_tensor_number(a->tensor, index);
    if (!isfinite(value))
        return;
    bly_buf_clear(&a->element);
    put_array_float(a, &a->element, value, 0);
    const char *text = bly_buf_text(&a->element);
    const char *point = strchr(text, '.');
    if (!point)
        return;
    const char *exponent = strchr(point, 'e');
    int fraction = (int)(exponent ? (size_t)(exponent - point) : strlen(point)) - 1;
    a->left = larger(a->left, (int)(point - text));
    a->right = larger(a->right, fraction);
    if (exponent)
        a->exponent_digits = larger(a->exponent_digits, (int)strlen(exponent) - 2);
}

static void measure_other(array *a, int64_t index) {
    bly_buf_clear(&a->element);
    put_element(&a->element, a->tensor, index);
    a->left = larger(a->left, (int)a->element.len);
}

static void pad(array *a, int count) {
    for (int i = 0; i < count; i++)
        bly_buf_putc(a->out, ' ');
}

static void put_float(array *a, int64_t index) {
    double value = belay_tensor_number(a->tensor, index);
    bly_buf_clear(&a->element);
    if (!isfinite(value)) {
        put_not_finite(&a->element, value);
        pad(a, a->left + a->right + 1 - (int)a->element.len);
        bly_buf_append(a->out, a->element.data, a->element.len);
        return;
    }
    put_array_float(a, &a->element, value, 1);
    const char *text = bly_buf_text(&a->element);
    const char *point = strchr(text, '.');
    int before = point ? (int)(point - text) : 0;
    pad(a, a->left - before);
    bly_buf_puts(a->out, text);
    if (!a->exponents)
        pad(a, before + 1 + a->right - (int)a->element.len);
}

static void put_other(array *a, int64_t index) {
    bly_buf_clear(&a->element);
    put_element(&a->element, a->tensor, index);
    pad(a, a->left - (int)a->element.len);
    bly_buf_append(a->out, bly_buf_text(&a->element), a->element.len);
}

/* Visits the elements that are shown; with `print`, puts brackets and dots around them. `first` is
 * the element at which this dimension starts, `stride` how many one step in it passes over. */
static void walk(array *a, uint32_t axis, int64_t first, int64_t stride, visitor each, int print) {
    if (axis == belay_tensor_rank(a->tensor)) {
        each(a, first);
        return;
    }
    int64_t size = belay_tensor_dim(a->tensor, axis);
    int cut = a->summarize && size > 2 * EDGE_ITEMS;
    if (print)
        bly_buf_putc(a->out, '[');
    for (int64_t i = 0; i < size; i++) {
        if (print && i > 0)
            bly_buf_putc(a->out, ' ');
        if (cut && i == EDGE_ITEMS) {
            if (print)
                bly_buf_puts(a->out, "... ");
            i = size - EDGE_ITEMS;
        }
        int64_t inner = axis + 1 < belay_tensor_rank(a->tensor)
                            ? stride / belay_tensor_dim(a->tensor, axis + 1)
                            : 1;
        walk(a, axis + 1, first + i * stride, inner, each, print);
    }
    if (print)
        bly_buf_putc(a->out, ']');
}

static void print_array(bly_buf *out, const belay_tensor *tensor) {
    int64_t count = belay_tensor_count(tensor);
    belay_dtype dtype = belay_tensor_dtype(tensor);
    array a = {.out = out, .element = BLY_BUF_INIT, .tensor = tensor, .dtype = dtype};
    if (count == 0) {
        bly_buf_puts(out, "[]");
        return;
    }
    int64_t stride = count / belay_tensor_dim(tensor, 0);
    a.summarize = count > THRESHOLD;
    if (is_float(dtype)) {
        walk(&a, 0, 0, stride, look_at, 0);
        a.exponents = a.largest >= exponents_from(dtype, 1e8);
        walk(&a, 0, 0, stride, measure_float, 0);
        if (a.exponents) {
            a.precision = a.right;
            a.right += a.exponent_digits + 2; /* the e and its sign */
        }
        /* What is not finite is as wide as its name. */
        if (a.has_nan)
            a.left = larger(a.left, 3 - (a.right + 1));
        if (a.has_inf || a.has_nan)
            a.left = larger(a.left, 3 + a.has_minus_inf - (a.right + 1));
        walk(&a, 0, 0, stride, put_float, 1);
    } else {
        /* Strings stand as they are, numbers and truth values in columns. */
        if (dtype != BELAY_STRING)
            walk(&a, 0, 0, stride, measure_other, 0);
        if (dtype == BELAY_BOOL)
            a.left = 5; /* also where all are True */
        walk(&a, 0, 0, stride, put_other, 1);
    }
    bly_buf_free(&a.element);
}

void bly_print_tensor(bly_buf *out, const belay_tensor *tensor) {
    bly_locale was = bly_locale_plain();
    if (belay_tensor_rank(tensor) == 0)
        put_element(out, tensor, 0);
    else
        print_array(out, tensor);
    bly_locale_restore(was);
}
