#include "values.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static float from_half(uint16_t h) {
    int sign = h >> 15, exponent = (h >> 10) & 0x1f, fraction = h & 0x3ff;
    double value;
    if (exponent == 0x1f)
        value = fraction ? (double)NAN : (double)INFINITY;
    else if (exponent == 0)
        value = ldexp(fraction, -24);
    else
        value = ldexp(fraction + 1024, exponent - 25);
    return (float)(sign ? -value : value);
}

static float from_bfloat16(uint16_t b) {
    uint32_t bits = (uint32_t)b << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Elements need not be aligned: they are copied out. */
#define TAKE(type, name)                                                                           \
    type name;                                                                                     \
    memcpy(&name, (const char *)data + (size_t)index * sizeof name, sizeof name)

static int is_signed(belay_dtype dtype) {
    return dtype == BELAY_INT8 || dtype == BELAY_INT16 || dtype == BELAY_INT32 ||
           dtype == BELAY_INT64 || dtype == BELAY_QINT8 || dtype == BELAY_QINT16 ||
           dtype == BELAY_QINT32;
}

static int is_unsigned(belay_dtype dtype) {
    return dtype == BELAY_UINT8 || dtype == BELAY_UINT16 || dtype == BELAY_UINT32 ||
           dtype == BELAY_UINT64 || dtype == BELAY_QUINT8 || dtype == BELAY_QUINT16 ||
           dtype == BELAY_BOOL;
}

static int64_t signed_element(belay_dtype dtype, const void *data, int64_t index) {
    switch (belay_dtype_size(dtype)) {
    case 1: {
        TAKE(int8_t, value);
        return value;
    }
    case 2: {
        TAKE(int16_t, value);
        return value;
    }
    case 4: {
        TAKE(int32_t, value);
        return value;
    }
    default: {
        TAKE(int64_t, value);
        return value;
    }
    }
}

static uint64_t unsigned_element(belay_dtype dtype, const void *data, int64_t index) {
    switch (belay_dtype_size(dtype)) {
    case 1: {
        TAKE(uint8_t, value);
        return value;
    }
    case 2: {
        TAKE(uint16_t, value);
        return value;
    }
    case 4: {
        TAKE(uint32_t, value);
        return value;
    }
    default: {
        TAKE(uint64_t, value);
        return value;
    }
    }
}

/* A floating-point element and how many digits bring it back. 0 where the type is no such. */
static int float_element(belay_dtype dtype, const void *data, int64_t index, double *out) {
    if (dtype == BELAY_FLOAT) {
        TAKE(float, value);
        *out = value;
        return 9;
    }
    if (dtype == BELAY_DOUBLE) {
        TAKE(double, value);
        *out = value;
        return 17;
    }
    if (dtype == BELAY_HALF || dtype == BELAY_BFLOAT16) {
        TAKE(uint16_t, value);
        *out = dtype == BELAY_HALF ? from_half(value) : from_bfloat16(value);
        return dtype == BELAY_HALF ? 5 : 4;
    }
    return 0;
}

static void complex_element(belay_dtype dtype, const void *data, int64_t index, double *real,
                            double *imaginary) {
    belay_dtype part = dtype == BELAY_COMPLEX64 ? BELAY_FLOAT : BELAY_DOUBLE;
    float_element(part, data, 2 * index, real);
    float_element(part, data, 2 * index + 1, imaginary);
}

static int is_complex(belay_dtype dtype) {
    return dtype == BELAY_COMPLEX64 || dtype == BELAY_COMPLEX128;
}

/* The shortest text that brings the number back. */
static void number_text(double value, int digits, char *text, size_t room) {
    for (int d = digits > 15 ? 15 : digits > 6 ? 6 : digits; d <= digits; d++) {
        char *end;
        snprintf(text, room, "%.*g", d, value);
        double back = strtod(text, &end);
        if (digits > 9 ? back == value : (float)back == (float)value)
            return;
    }
}

static void bytes_text(belay_dtype dtype, const void *data, int64_t index, char *text,
                       size_t room) {
    size_t size = belay_dtype_size(dtype);
    const unsigned char *bytes = (const unsigned char *)data + (size_t)index * size;
    size_t at = (size_t)snprintf(text, room, "0x");
    for (size_t i = size; i-- > 0 && at < room;)
        at += (size_t)snprintf(text + at, room - at, "%02x", bytes[i]);
}

const char *cli_element_text(belay_dtype dtype, const void *data, int64_t index, char *text,
                             size_t room) {
    double value, imaginary;
    int digits = float_element(dtype, data, index, &value);
    if (digits) {
        number_text(value, digits, text, room);
    } else if (dtype == BELAY_BOOL) {
        snprintf(text, room, "%s", unsigned_element(dtype, data, index) ? "true" : "false");
    } else if (is_signed(dtype)) {
        snprintf(text, room, "%" PRId64, signed_element(dtype, data, index));
    } else if (is_unsigned(dtype)) {
        snprintf(text, room, "%" PRIu64, unsigned_element(dtype, data, index));
    } else if (is_complex(dtype)) {
        complex_element(dtype, data, index, &value, &imaginary);
        snprintf(text, room, "%.*g%+.*gj", dtype == BELAY_COMPLEX64 ? 9 : 17, value,
                 dtype == BELAY_COMPLEX64 ? 9 : 17, imaginary);
    } else {
        bytes_text(dtype, data, index, text, room);
    }
    return text;
}

double cli_element_number(belay_dtype dtype, const void *data, int64_t index) {
    double value = (double)NAN, imaginary;
    if (is_signed(dtype))
        return (double)signed_element(dtype, data, index);
    if (is_unsigned(dtype))
        return (double)unsigned_element(dtype, data, index);
    if (is_complex(dtype))
        complex_element(dtype, data, index, &value, &imaginary);
    else
        float_element(dtype, data, index, &value);
    return value;
}

json_t *cli_element_json(belay_dtype dtype, const void *data, int64_t index) {
    char text[128];
    double value;
    if (dtype == BELAY_BOOL)
        return json_boolean(unsigned_element(dtype, data, index) != 0);
    if (is_signed(dtype))
        return json_integer(signed_element(dtype, data, index));
    if (is_unsigned(dtype) && unsigned_element(dtype, data, index) <= INT64_MAX)
        return json_integer((json_int_t)unsigned_element(dtype, data, index));
    if (float_element(dtype, data, index, &value) && isfinite(value))
        return json_real(value);
    return json_string(cli_element_text(dtype, data, index, text, sizeof text));
}

void cli_print_quoted(const char *bytes, size_t size) {
    putchar('"');
    for (size_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)bytes[i];
        if (c == '"' || c == '\\')
            printf("\\%c", c);
        else if (c < 0x20 || c >= 0x7f)
            printf("\\x%02x", c);
        else
            putchar(c);
    }
    putchar('"');
}
