#include "wire/text.h"

#include "base/error.h"
#include "base/locale.h"
#include "base/mem.h"
#include "wire/any.h"
#include "wire/full_graph.pb-c.h"
#include "wire/unpack.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct reader {
    const char *at;
    const char *end;
    const char *start;
    const char *file;
    belay_error *err;
    int depth;
};

static belay_code read_fields(struct reader *in, ProtobufCMessage *message, char close);

/* ---- Tokens ---- */

static belay_code wrong(const struct reader *in, const char *at, const char *what,
                        const char *shown, size_t shown_len) {
    unsigned line = 1, column = 1;
    for (const char *c = in->start; c < at; c++) {
        line += *c == '\n';
        column = *c == '\n' ? 1 : column + 1;
    }
    if (shown_len > 60)
        shown_len = 60;
    return bly_fail(in->err, BELAY_INVALID_ARGUMENT, "%s:%u:%u: %s%s%.*s%s", in->file, line, column,
                    what, shown_len ? " '" : "", (int)shown_len, shown ? shown : "",
                    shown_len ? "'" : "");
}

static int is_name_start(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static int is_digit(char c) {
    return c >= '0' && c <= '9';
}

static int is_space(char c) {
    return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v';
}

static void skip_space(struct reader *in) {
    while (in->at < in->end) {
        if (*in->at == '#')
            while (in->at < in->end && *in->at != '\n')
                in->at++;
        else if (is_space(*in->at))
            in->at++;
        else
            break;
    }
}

/* The next character that means something; '\0' at the end. */
static char peek(struct reader *in) {
    skip_space(in);
    return in->at < in->end ? *in->at : '\0';
}

static int accept(struct reader *in, char c) {
    if (peek(in) != c || in->at == in->end)
        return 0;
    in->at++;
    return 1;
}

/* A name or a number: letters, digits, and what numbers may have besides. */
static size_t word_length(struct reader *in) {
    const char *c = in->at;
    int number = c < in->end && (is_digit(*c) || *c == '.');
    while (c < in->end && (is_name_start(*c) || is_digit(*c) ||
                           (number && (*c == '.' || ((*c == '+' || *c == '-') && c > in->at &&
                                                     (c[-1] == 'e' || c[-1] == 'E'))))))
        c++;
    return (size_t)(c - in->at);
}

static belay_code expected(struct reader *in, const char *what) {
    skip_space(in);
    char message[80];
    snprintf(message, sizeof message, "expected %s, found", what);
    if (in->at == in->end)
        return wrong(in, in->at, message, "the end", 7);
    size_t len = word_length(in);
    return wrong(in, in->at, message, in->at, len ? len : 1);
}

/* ---- Strings ---- */

static int digit_value(char c) {
    if (is_digit(c))
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return INT_MAX;
}

/* Reads from `least` to `most` digits; 0 where there are fewer. */
static int read_digits(struct reader *in, int base, int least, int most, uint32_t *out) {
    int count = 0;
    *out = 0;
    while (count < most && in->at < in->end && digit_value(*in->at) < base) {
        *out = *out * (uint32_t)base + (uint32_t)digit_value(*in->at++);
        count++;
    }
    return count >= least;
}

static void put_utf8(bly_buf *out, uint32_t c) {
    if (c < 0x80) {
        bly_buf_putc(out, (char)c);
        return;
    }
    int more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    static const uint8_t lead[] = {0, 0xc0, 0xe0, 0xf0};
    bly_buf_putc(out, (char)(uint8_t)(lead[more] | (c >> (6 * more))));
    while (more-- > 0)
        bly_buf_putc(out, (char)(uint8_t)(0x80 | ((c >> (6 * more)) & 0x3f)));
}

/* What follows a backslash. */
static belay_code read_escape(struct reader *in, bly_buf *out) {
    static const char plain[] = "abfnrtv?\\'\"", meaning[] = "\a\b\f\n\r\t\v?\\'\"";
    const char *start = in->at - 1;
    uint32_t value;
    char c = in->at < in->end ? *in->at : '\0';
    const char *known = c ? strchr(plain, c) : NULL;
    if (known) {
        in->at++;
        bly_buf_putc(out, meaning[known - plain]);
        return BELAY_OK;
    }
    if (read_digits(in, 8, 1, 3, &value)) {
        if (value > 255)
            return wrong(in, start, "escape is more than a byte:", start, 4);
        bly_buf_putc(out, (char)(uint8_t)value);
        return BELAY_OK;
    }
    if (c != '\0')
        in->at++;
    if ((c == 'x' || c == 'X') && read_digits(in, 16, 1, 2, &value)) {
        bly_buf_putc(out, (char)(uint8_t)value);
        return BELAY_OK;
    }
    if (((c == 'u' && read_digits(in, 16, 4, 4, &value)) ||
         (c == 'U' && read_digits(in, 16, 8, 8, &value))) &&
        value <= 0x10ffff && (value < 0xd800 || value > 0xdfff)) {
        put_utf8(out, value);
        return BELAY_OK;
    }
    return wrong(in, start, "unknown escape", start, (size_t)(in->at - start));
}

/* One quoted string, or several that follow each other and are one. */
static belay_code read_string(struct reader *in, bly_buf *out) {
    char quote = peek(in);
    if (quote != '"' && quote != '\'')
        return expected(in, "a quoted string");
    while (quote == '"' || quote == '\'') {
        const char *start = in->at++;
        for (;;) {
            if (in->at == in->end || *in->at == '\n')
                return wrong(in, start, "the string that starts here does not end", NULL, 0);
            char c = *in->at++;
            if (c == quote)
                break;
            if (c != '\\') {
                bly_buf_putc(out, c);
                continue;
            }
            belay_code code = read_escape(in, out);
            if (code != BELAY_OK)
                return code;
        }
        quote = peek(in);
    }
    return out->failed ? bly_fail_memory(in->err) : BELAY_OK;
}

/* ---- Single values ---- */

static belay_code read_integer(struct reader *in, int64_t least, uint64_t most, uint64_t *out) {
    skip_space(in);
    const char *start = in->at;
    int negative = accept(in, '-');
    skip_space(in);
    size_t len = word_length(in);
    char word[32], *end;
    if (len == 0 || len >= sizeof word || !is_digit(*in->at))
        return expected(in, "an integer");
    memcpy(word, in->at, len);
    word[len] = '\0';
    errno = 0;
    unsigned long long value = strtoull(word, &end, 0);
    if (*end != '\0')
        return expected(in, "an integer");
    in->at += len;
    uint64_t lowest = least < 0 ? (uint64_t)0 - (uint64_t)least : 0; /* as an absolute value */
    if (errno == ERANGE || value > (negative ? lowest : most))
        return wrong(in, start, "out of range:", start, (size_t)(in->at - start));
    *out = negative ? (uint64_t)0 - value : value;
    return BELAY_OK;
}

static belay_code read_float(struct reader *in, double *out) {
    int negative = accept(in, '-');
    skip_space(in);
    size_t len = word_length(in);
    char word[400], *end;
    if (len == 0 || len >= sizeof word)
        return expected(in, "a number");
    memcpy(word, in->at, len);
    word[len] = '\0';
    if (strcasecmp(word, "inf") == 0 || strcasecmp(word, "infinity") == 0 ||
        strcasecmp(word, "inff") == 0 || strcasecmp(word, "infinityf") == 0) {
        *out = INFINITY;
    } else if (strcasecmp(word, "nan") == 0) {
        *out = (double)NAN;
    } else {
        if (!is_digit(word[0]) && word[0] != '.')
            return expected(in, "a number");
        if (strpbrk(word, "xX")) /* strtod would take hexadecimal ones */
            return expected(in, "a number");
        if (word[len - 1] == 'f' || word[len - 1] == 'F')
            word[len - 1] = '\0';
        *out = strtod(word, &end);
        if (*end != '\0' || end == word)
            return expected(in, "a number");
    }
    in->at += len;
    if (negative)
        *out = -*out;
    return BELAY_OK;
}

static int word_is(const char *at, size_t len, const char *word) {
    return strlen(word) == len && memcmp(at, word, len) == 0;
}

static belay_code read_bool(struct reader *in, protobuf_c_boolean *out) {
    skip_space(in);
    size_t len = word_length(in);
    const char *at = in->at;
    if (word_is(at, len, "true") || word_is(at, len, "True") || word_is(at, len, "t") ||
        word_is(at, len, "1"))
        *out = 1;
    else if (word_is(at, len, "false") || word_is(at, len, "False") || word_is(at, len, "f") ||
             word_is(at, len, "0"))
        *out = 0;
    else
        return expected(in, "true or false");
    in->at += len;
    return BELAY_OK;
}

static belay_code read_enum(struct reader *in, const ProtobufCEnumDescriptor *type, int32_t *out) {
    uint64_t value = 0;
    char first = peek(in);
    if (is_digit(first) || first == '-') {
        /* proto3 keeps numbers without a name: a newer writer may know one */
        belay_code code = read_integer(in, INT32_MIN, INT32_MAX, &value);
        *out = (int32_t)(int64_t)value;
        return code;
    }
    size_t len = word_length(in);
    char name[256];
    if (len == 0 || len >= sizeof name)
        return expected(in, "a name or number");
    memcpy(name, in->at, len);
    name[len] = '\0';
    const ProtobufCEnumValue *known = protobuf_c_enum_descriptor_get_value_by_name(type, name);
    if (!known) {
        char what[300];
        snprintf(what, sizeof what, "%.200s has no value", type->short_name);
        return wrong(in, in->at, what, in->at, len);
    }
    in->at += len;
    *out = known->value;
    return BELAY_OK;
}

/* ---- Fields ---- */

static belay_code read_text(struct reader *in, void *to, const ProtobufCFieldDescriptor *field) {
    bly_buf text = BLY_BUF_INIT;
    const char *start = in->at;
    belay_code code = read_string(in, &text);
    if (code == BELAY_OK && memchr(bly_buf_text(&text), '\0', text.len))
        code = wrong(in, start, "zero byte in a string", NULL, 0);
    char *taken = code == BELAY_OK ? bly_strdup(bly_buf_text(&text)) : NULL;
    if (code == BELAY_OK && !taken)
        code = bly_fail_memory(in->err);
    bly_buf_free(&text);
    if (code != BELAY_OK)
        return code;
    char **slot = to;
    if (*slot && *slot != field->default_value)
        bly_free(*slot);
    *slot = taken;
    return BELAY_OK;
}

static belay_code read_bytes(struct reader *in, ProtobufCBinaryData *to,
                             const ProtobufCFieldDescriptor *field) {
    bly_buf bytes = BLY_BUF_INIT;
    belay_code code = read_string(in, &bytes);
    if (code != BELAY_OK) {
        bly_buf_free(&bytes);
        return code;
    }
    const ProtobufCBinaryData *standard = field->default_value;
    if (to->data && !(standard && to->data == standard->data))
        bly_free(to->data);
    to->len = bytes.len;
    to->data = (uint8_t *)bytes.data;
    return BELAY_OK;
}

/* What stands in braces, or in < and >. */
static belay_code read_braced(struct reader *in, ProtobufCMessage *message) {
    char open = peek(in);
    if (open != '{' && open != '<')
        return expected(in, "{");
    if (in->depth >= BLY_TEXT_NESTING)
        return wrong(in, in->at, "messages are nested too deeply", NULL, 0);
    in->at++;
    in->depth++;
    belay_code code = read_fields(in, message, open == '{' ? '}' : '>');
    in->depth--;
    return code;
}

static ProtobufCMessage *new_message(const ProtobufCMessageDescriptor *type) {
    ProtobufCMessage *message = bly_malloc(type->sizeof_message);
    if (message)
        type->message_init(message);
    return message;
}

static belay_code read_message(struct reader *in, void *to, const ProtobufCFieldDescriptor *field) {
    ProtobufCMessage **slot = to;
    if (!*slot)
        *slot = new_message(field->descriptor);
    return *slot ? read_braced(in, *slot) : bly_fail_memory(in->err);
}

/* Reads one value to `to`, which holds a valid one. */
static belay_code read_value(struct reader *in, const ProtobufCFieldDescriptor *field, void *to) {
    uint64_t integer = 0;
    double number = 0;
    belay_code code;
    switch (field->type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
        code = read_integer(in, INT32_MIN, INT32_MAX, &integer);
        *(int32_t *)to = (int32_t)(int64_t)integer;
        return code;
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
        code = read_integer(in, INT64_MIN, INT64_MAX, &integer);
        *(int64_t *)to = (int64_t)integer;
        return code;
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        code = read_integer(in, 0, UINT32_MAX, &integer);
        *(uint32_t *)to = (uint32_t)integer;
        return code;
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        code = read_integer(in, 0, UINT64_MAX, &integer);
        *(uint64_t *)to = integer;
        return code;
    case PROTOBUF_C_TYPE_FLOAT:
        code = read_float(in, &number);
        *(float *)to = (float)number;
        return code;
    case PROTOBUF_C_TYPE_DOUBLE:
        return read_float(in, to);
    case PROTOBUF_C_TYPE_BOOL:
        return read_bool(in, to);
    case PROTOBUF_C_TYPE_ENUM:
        return read_enum(in, field->descriptor, to);
    case PROTOBUF_C_TYPE_STRING:
        return read_text(in, to, field);
    case PROTOBUF_C_TYPE_BYTES:
        return read_bytes(in, to, field);
    default:
        return read_message(in, to, field);
    }
}

/* Appends a value to a repeated field. An element that could not be read to its end stays, so that
 * freeing the message frees what it holds. */
static belay_code read_element(struct reader *in, const ProtobufCFieldDescriptor *field,
                               size_t *count, char **items) {
    size_t size = bly_wire_size_of(field->type);
    if ((*count & (*count - 1)) == 0) { /* full at each power of two */
        size_t wanted = *count ? *count * 2 : 1;
        char *grown = wanted <= SIZE_MAX / size ? bly_realloc(*items, wanted * size) : NULL;
        if (!grown)
            return bly_fail_memory(in->err);
        *items = grown;
    }
    char *to = *items + *count * size;
    memset(to, 0, size);
    belay_code code = read_value(in, field, to);
    int holds = code == BELAY_OK;
    if (field->type == PROTOBUF_C_TYPE_MESSAGE || field->type == PROTOBUF_C_TYPE_STRING)
        holds = *(void **)(void *)to != NULL;
    if (holds)
        ++*count;
    return code;
}

static belay_code read_repeated(struct reader *in, const ProtobufCFieldDescriptor *field,
                                size_t *count, char **items) {
    if (!accept(in, '['))
        return read_element(in, field, count, items);
    if (accept(in, ']'))
        return BELAY_OK;
    for (;;) {
        belay_code code = read_element(in, field, count, items);
        if (code != BELAY_OK)
            return code;
        if (accept(in, ']'))
            return BELAY_OK;
        if (!accept(in, ','))
            return expected(in, ", or ]");
    }
}

/* Empties what another member of the same oneof holds; they share their memory. */
static void clear_oneof(ProtobufCMessage *message, const ProtobufCFieldDescriptor *field) {
    char *base = (char *)message;
    uint32_t set = *(uint32_t *)(void *)(base + field->quantifier_offset);
    const ProtobufCFieldDescriptor *old =
        set ? protobuf_c_message_descriptor_get_field(message->descriptor, set) : NULL;
    if (old && old != field) {
        void *value = base + old->offset;
        if (old->type == PROTOBUF_C_TYPE_MESSAGE)
            bly_wire_free(*(void **)value);
        else if (old->type == PROTOBUF_C_TYPE_STRING && *(void **)value != old->default_value)
            bly_free(*(void **)value);
        else if (old->type == PROTOBUF_C_TYPE_BYTES)
            bly_free(((ProtobufCBinaryData *)value)->data);
    }
    if (old != field)
        memset(base + field->offset, 0, bly_wire_size_of(field->type));
    *(uint32_t *)(void *)(base + field->quantifier_offset) = field->id;
}

static belay_code read_field(struct reader *in, ProtobufCMessage *message,
                             const ProtobufCFieldDescriptor *field) {
    char *base = (char *)message;
    int colon = accept(in, ':');
    if (!colon && field->type != PROTOBUF_C_TYPE_MESSAGE)
        return expected(in, ":");
    if (field->label == PROTOBUF_C_LABEL_REPEATED)
        return read_repeated(in, field, (size_t *)(void *)(base + field->quantifier_offset),
                             (char **)(void *)(base + field->offset));
    if (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF)
        clear_oneof(message, field);
    else if (field->label == PROTOBUF_C_LABEL_OPTIONAL && field->type != PROTOBUF_C_TYPE_MESSAGE &&
             field->type != PROTOBUF_C_TYPE_STRING)
        *(protobuf_c_boolean *)(void *)(base + field->quantifier_offset) = 1;
    return read_value(in, field, base + field->offset);
}

/* Packs a message as what an Any holds. */
static belay_code put_any(struct reader *in, const ProtobufCMessage *content, const char *url,
                          Bly__Full__Any *any) {
    size_t len = protobuf_c_message_get_packed_size(content);
    char *type_url = bly_strdup(url);
    uint8_t *value = bly_malloc(len ? len : 1);
    if (!type_url || !value) {
        bly_free(type_url);
        bly_free(value);
        return bly_fail_memory(in->err);
    }
    protobuf_c_message_pack(content, value);
    if (any->type_url != protobuf_c_empty_string)
        bly_free(any->type_url);
    bly_free(any->value.data);
    any->type_url = type_url;
    any->value = (ProtobufCBinaryData){len, value};
    return BELAY_OK;
}

/* `[type.googleapis.com/tensorflow.SaverDef] { ... }`: an Any whose content is written out. */
static belay_code read_any(struct reader *in, ProtobufCMessage *message) {
    const char *start = ++in->at;
    const char *close = memchr(start, ']', (size_t)(in->end - start));
    char url[300];
    size_t len = close ? (size_t)(close - start) : 0;
    if (len == 0 || len >= sizeof url)
        return wrong(in, start - 1, "expected [PREFIX/TYPE]", NULL, 0);
    memcpy(url, start, len);
    url[len] = '\0';
    const ProtobufCMessageDescriptor *type = bly_text_any_type(url);
    if (!type)
        return wrong(in, start, "belay does not know the message type", url, len);
    in->at = close + 1;
    accept(in, ':');
    ProtobufCMessage *content = new_message(type);
    if (!content)
        return bly_fail_memory(in->err);
    belay_code code = read_braced(in, content);
    if (code == BELAY_OK)
        code = put_any(in, content, url, (Bly__Full__Any *)message);
    bly_wire_free(content);
    return code;
}

/* One field, whose name comes next. */
static belay_code read_named(struct reader *in, ProtobufCMessage *message, char close) {
    char name[256], what[300];
    size_t len = is_name_start(peek(in)) ? word_length(in) : 0;
    if (len == 0 || len >= sizeof name)
        return expected(in, close == '}' ? "a field or }" : close ? "a field or >" : "a field");
    memcpy(name, in->at, len);
    name[len] = '\0';
    const ProtobufCFieldDescriptor *field =
        protobuf_c_message_descriptor_get_field_by_name(message->descriptor, name);
    if (!field) {
        snprintf(what, sizeof what, "%.200s has no field", message->descriptor->short_name);
        return wrong(in, in->at, what, name, len);
    }
    in->at += len;
    return read_field(in, message, field);
}

/* Fields up to `close`, or to the end where it is '\0'. */
static belay_code read_fields(struct reader *in, ProtobufCMessage *message, char close) {
    for (;;) {
        char c = peek(in);
        if (in->at == in->end && close == '\0')
            return BELAY_OK;
        if (close != '\0' && c == close) {
            in->at++;
            return BELAY_OK;
        }
        int is_any = c == '[' && message->descriptor == &bly__full__any__descriptor;
        belay_code code = is_any ? read_any(in, message) : read_named(in, message, close);
        if (code != BELAY_OK)
            return code;
        if (!accept(in, ','))
            accept(in, ';');
    }
}

void *bly_text_read(const ProtobufCMessageDescriptor *type, const char *text, size_t len,
                    const char *file, belay_error *err) {
    struct reader in = {.at = text, .end = text + len, .start = text, .file = file, .err = err};
    ProtobufCMessage *message = new_message(type);
    if (!message) {
        bly_fail_memory(err);
        return NULL;
    }
    bly_locale was = bly_locale_plain();
    belay_code code = read_fields(&in, message, '\0');
    bly_locale_restore(was);
    if (code == BELAY_OK)
        return message;
    bly_wire_free(message);
    return NULL;
}
