#include "input/npy_header.h"

#include "base/error.h"

#include <stdio.h>
#include <string.h>

#define MAGIC      "\x93NUMPY"
#define MAGIC_SIZE ((size_t)6)
#define AGAIN      "copy it again, or save it again with numpy.save()"

/* Where the parser is in the dict. */
struct cursor {
    const char *begin;
    const char *at;
    const char *end;
    const char *path;
    belay_error *err;
};

static belay_code damaged(const struct cursor *c, const char *what) {
    return bly_fail(c->err, BELAY_DATA_LOSS, "%s: its header is damaged at byte %zu (%s): " AGAIN,
                    c->path, (size_t)(c->at - c->begin), what);
}

static void skip_space(struct cursor *c) {
    while (c->at < c->end && (*c->at == ' ' || *c->at == '\n' || *c->at == '\t' || *c->at == '\r'))
        c->at++;
}

/* Takes `wanted` where it comes next. */
static int take(struct cursor *c, const char *wanted) {
    size_t len = strlen(wanted);
    skip_space(c);
    if ((size_t)(c->end - c->at) < len || memcmp(c->at, wanted, len) != 0)
        return 0;
    c->at += len;
    return 1;
}

/* A string without escapes, in either kind of quote. */
static belay_code take_string(struct cursor *c, char *out, size_t size) {
    skip_space(c);
    if (c->at == c->end || (*c->at != '\'' && *c->at != '"'))
        return damaged(c, "a string was expected");
    char quote = *c->at++;
    size_t len = 0;
    while (c->at < c->end && *c->at != quote) {
        if (*c->at == '\\' || *c->at < ' ' || *c->at > '~' || len + 1 >= size)
            return damaged(c, "a string is not one that NumPy writes");
        out[len++] = *c->at++;
    }
    if (c->at == c->end)
        return damaged(c, "a string does not end");
    c->at++;
    out[len] = '\0';
    return BELAY_OK;
}

/* Decimal digits, no more than fit. */
static int take_digits(const char **at, const char *end, uint64_t most, uint64_t *out) {
    uint64_t value = 0;
    const char *first = *at;
    for (; *at < end && **at >= '0' && **at <= '9'; (*at)++) {
        uint64_t digit = (uint64_t)(**at - '0');
        if (value > (most - digit) / 10)
            return 0;
        value = value * 10 + digit;
    }
    *out = value;
    return *at > first;
}

static belay_code take_dim(struct cursor *c, struct bly_npy_header *out) {
    uint64_t size;
    skip_space(c);
    if (c->at < c->end && *c->at == '-')
        return damaged(c, "a size in its shape is negative");
    if (!take_digits(&c->at, c->end, INT64_MAX, &size))
        return damaged(c, "a size in its shape is no number that fits");
    if (c->at < c->end && *c->at == 'L') /* Python 2 */
        c->at++;
    if (out->rank == BLY_NPY_RANK_MOST)
        return damaged(c, "its shape has more than 64 dimensions");
    out->dims[out->rank++] = (int64_t)size;
    return BELAY_OK;
}

static belay_code take_shape(struct cursor *c, struct bly_npy_header *out) {
    if (!take(c, "("))
        return damaged(c, "its shape is not a tuple");
    for (;;) {
        if (take(c, ")"))
            return BELAY_OK;
        belay_code code = take_dim(c, out);
        if (code != BELAY_OK)
            return code;
        if (take(c, ","))
            continue;
        if (out->rank > 1 && take(c, ")"))
            return BELAY_OK;
        return damaged(c, "its shape is not a tuple");
    }
}

static belay_code take_order(struct cursor *c, struct bly_npy_header *out) {
    if (take(c, "True"))
        out->fortran = 1;
    else if (take(c, "False"))
        out->fortran = 0;
    else
        return damaged(c, "fortran_order is neither True nor False");
    return BELAY_OK;
}

static belay_code unsupported(const struct cursor *c, const char *descr, const char *advice) {
    return bly_fail(c->err, BELAY_INVALID_ARGUMENT,
                    "%s: elements of NumPy type '%s' cannot be fed: %s", c->path, descr, advice);
}

static const struct {
    char kind;
    size_t bytes;
    belay_dtype dtype;
} types[] = {
    {'b', 1, BELAY_BOOL},      {'i', 1, BELAY_INT8},        {'i', 2, BELAY_INT16},
    {'i', 4, BELAY_INT32},     {'i', 8, BELAY_INT64},       {'u', 1, BELAY_UINT8},
    {'u', 2, BELAY_UINT16},    {'u', 4, BELAY_UINT32},      {'u', 8, BELAY_UINT64},
    {'f', 2, BELAY_HALF},      {'f', 4, BELAY_FLOAT},       {'f', 8, BELAY_DOUBLE},
    {'c', 8, BELAY_COMPLEX64}, {'c', 16, BELAY_COMPLEX128},
};

static const char *advice_for(char kind) {
    switch (kind) {
    case 'O':
        return "they are Python objects; give the array a dtype before saving it, such as "
               "a.astype('float32') or a.astype('U')";
    case 'M':
    case 'm':
        return "save dates as numbers, with a.astype('int64')";
    case 'V':
        return "save each field of a structured array by itself, and bfloat16 as float32";
    case 'f':
    case 'c':
        return "save it with a.astype('float64') or a.astype('complex128')";
    default:
        return "save it as one of bool, int8 to int64, uint8 to uint64, float16 to float64, "
               "complex64, complex128, S or U";
    }
}

static int machine_is_big_endian(void) {
    const uint16_t one = 1;
    unsigned char first;
    memcpy(&first, &one, 1);
    return first == 0;
}

/* Understands "<f4", "|b1", ">U12". */
static belay_code read_descr(struct cursor *c, const char *descr, struct bly_npy_header *out) {
    const char *at = descr;
    const char *end = descr + strlen(descr);
    uint64_t number = 0;
    char order = '=';
    if (*at == '<' || *at == '>' || *at == '|' || *at == '=')
        order = *at++;
    out->kind = *at == 'a' ? 'S' : *at; /* 'a' is an old name of 'S' */
    if (*at != '\0')
        at++;
    if (!take_digits(&at, end, INT64_MAX / 4, &number) || at != end)
        return unsupported(c, descr, advice_for(out->kind));
    if (order == '<' || order == '>')
        out->swap = (order == '>') != machine_is_big_endian();
    if (out->kind == 'S' || out->kind == 'U') {
        out->dtype = BELAY_STRING;
        out->item_bytes = (size_t)number * (out->kind == 'U' ? 4 : 1);
        return BELAY_OK;
    }
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (types[i].kind == out->kind && types[i].bytes == number) {
            out->dtype = types[i].dtype;
            out->item_bytes = types[i].bytes;
            return BELAY_OK;
        }
    return unsupported(c, descr, advice_for(out->kind));
}

static belay_code take_descr(struct cursor *c, struct bly_npy_header *out) {
    char descr[64];
    skip_space(c);
    if (c->at < c->end && (*c->at == '[' || *c->at == '('))
        return unsupported(c, "structured", advice_for('V'));
    belay_code code = take_string(c, descr, sizeof descr);
    return code == BELAY_OK ? read_descr(c, descr, out) : code;
}

static belay_code take_dict(struct cursor *c, struct bly_npy_header *out) {
    static const struct {
        const char *key;
        belay_code (*take)(struct cursor *c, struct bly_npy_header *out);
    } keys[] = {{"descr", take_descr}, {"fortran_order", take_order}, {"shape", take_shape}};
    const size_t count = sizeof keys / sizeof keys[0];
    unsigned seen = 0;
    if (!take(c, "{"))
        return damaged(c, "it is not a dict");
    while (!take(c, "}")) {
        char key[32];
        size_t i = 0;
        belay_code code = take_string(c, key, sizeof key);
        if (code != BELAY_OK)
            return code;
        while (i < count && strcmp(keys[i].key, key) != 0)
            i++;
        if (i == count || (seen & 1u << i))
            return damaged(c, "a key is not one that NumPy writes");
        seen |= 1u << i;
        if (!take(c, ":"))
            return damaged(c, "':' was expected");
        code = keys[i].take(c, out);
        if (code != BELAY_OK)
            return code;
        if (!take(c, ",") && (c->at == c->end || *c->at != '}'))
            return damaged(c, "',' or '}' was expected");
    }
    skip_space(c);
    if (c->at != c->end)
        return damaged(c, "there is more after the dict");
    if (seen != 7)
        return damaged(c, "one of 'descr', 'fortran_order' and 'shape' is missing");
    return BELAY_OK;
}

/* Computes what the shape takes, which must fit a file. */
static belay_code measure(struct bly_npy_header *out, const char *path, belay_error *err) {
    size_t elements = 1, bytes = 0;
    int fits = 1;
    if (out->rank == 0)
        return bly_fail(err, BELAY_INVALID_ARGUMENT,
                        "%s holds a single value (its shape is ()), which has no rows: save it "
                        "with a dimension for them, such as a.reshape(1)",
                        path);
    for (uint32_t i = 1; i < out->rank && fits; i++)
        fits = !__builtin_mul_overflow(elements, (size_t)out->dims[i], &elements);
    fits = fits && elements <= INT64_MAX &&
           !__builtin_mul_overflow(elements, out->item_bytes, &bytes) && bytes <= INT64_MAX &&
           !__builtin_mul_overflow(bytes, (size_t)out->dims[0], &bytes) &&
           bytes <= INT64_MAX - BLY_NPY_BEGINNING;
    out->row_elements = elements;
    out->data_bytes = bytes;
    if (fits)
        return BELAY_OK;
    char shape[128];
    bly_npy_print_shape(out, shape, sizeof shape);
    return bly_fail(err, BELAY_DATA_LOSS, "%s: its shape %s is larger than any file: " AGAIN, path,
                    shape);
}

static belay_code not_npy(const unsigned char *data, size_t len, const char *path,
                          belay_error *err) {
    if (len == 0)
        return bly_fail(err, BELAY_INVALID_ARGUMENT,
                        "%s is empty, and not a .npy file: save the array with numpy.save()", path);
    if (len >= 4 && memcmp(data, "PK\x03\x04", 4) == 0)
        return bly_fail(err, BELAY_INVALID_ARGUMENT,
                        "%s is a .npz archive, and not a .npy file: save each array by itself "
                        "with numpy.save()",
                        path);
    return bly_fail(err, BELAY_INVALID_ARGUMENT,
                    "%s is not a .npy file: save the array with numpy.save()", path);
}

/* Finds the dict: where it begins and ends. */
static belay_code find_dict(const unsigned char *data, size_t len, const char *path,
                            size_t *out_begin, size_t *out_size, belay_error *err) {
    if (len < MAGIC_SIZE || memcmp(data, MAGIC, MAGIC_SIZE) != 0)
        return not_npy(data, len, path, err);
    if (len < MAGIC_SIZE + 2)
        return bly_fail(err, BELAY_DATA_LOSS, "%s is cut short in its header: " AGAIN, path);
    unsigned major = data[6], minor = data[7];
    if (major < 1 || major > 3 || minor != 0)
        return bly_fail(err, BELAY_INVALID_ARGUMENT,
                        "%s has version %u.%u of the .npy format, and 1.0, 2.0 and 3.0 are "
                        "supported: save it again with numpy.save()",
                        path, major, minor);
    size_t begin = MAGIC_SIZE + 2 + (major == 1 ? 2 : 4);
    if (len < begin)
        return bly_fail(err, BELAY_DATA_LOSS, "%s is cut short in its header: " AGAIN, path);
    size_t size = (size_t)data[8] | (size_t)data[9] << 8;
    if (major > 1)
        size |= (size_t)data[10] << 16 | (size_t)data[11] << 24;
    if (size > BLY_NPY_HEADER_MOST)
        return bly_fail(err, BELAY_INVALID_ARGUMENT,
                        "%s says that its header has %zu bytes, and at most %zu are read: %s", path,
                        size, BLY_NPY_HEADER_MOST, AGAIN);
    if (size > len - begin)
        return bly_fail(err, BELAY_DATA_LOSS,
                        "%s is cut short: its header has %zu bytes, and %zu are there: " AGAIN,
                        path, size, len - begin);
    *out_begin = begin;
    *out_size = size;
    return BELAY_OK;
}

belay_code bly_npy_parse_header(const unsigned char *data, size_t len, const char *path,
                                struct bly_npy_header *out, belay_error *err) {
    size_t begin = 0, size = 0;
    memset(out, 0, sizeof *out);
    belay_code code = find_dict(data, len, path, &begin, &size, err);
    if (code != BELAY_OK)
        return code;
    const char *text = (const char *)data;
    struct cursor c = {text, text + begin, text + begin + size, path, err};
    code = take_dict(&c, out);
    if (code != BELAY_OK)
        return code;
    out->data_offset = begin + size;
    return measure(out, path, err);
}

void bly_npy_print_shape(const struct bly_npy_header *header, char *out, size_t size) {
    size_t used = (size_t)snprintf(out, size, "(");
    for (uint32_t i = 0; i < header->rank && used + 32 < size; i++)
        used += (size_t)snprintf(out + used, size - used, i + 1 < header->rank ? "%lld, " : "%lld",
                                 (long long)header->dims[i]);
    snprintf(out + used, size - used, header->rank == 1 ? ",)" : ")");
}
