/* The printer of wire/text.h. */
#include "wire/text.h"

#include "base/locale.h"
#include "base/mem.h"
#include "wire/any.h"
#include "wire/full_graph.pb-c.h"
#include "wire/unpack.h"

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Length of the UTF-8 sequence of more than a byte that starts here; 0 where there is none. */
static size_t utf8_length(const uint8_t *at, const uint8_t *end) {
    size_t len = *at >= 0xc2 && *at < 0xe0   ? 2
                 : *at >= 0xe0 && *at < 0xf0 ? 3
                 : *at >= 0xf0 && *at < 0xf5 ? 4
                                             : 0;
    if (len == 0 || (size_t)(end - at) < len)
        return 0;
    for (size_t i = 1; i < len; i++)
        if ((at[i] & 0xc0) != 0x80)
            return 0;
    /* too long forms, surrogates, beyond U+10FFFF */
    if ((*at == 0xe0 && at[1] < 0xa0) || (*at == 0xed && at[1] > 0x9f) ||
        (*at == 0xf0 && at[1] < 0x90) || (*at == 0xf4 && at[1] > 0x8f))
        return 0;
    return len;
}

/* One byte as it is written within quotes; returns how many characters that takes. Constants of a
 * graph are megabytes of these: nothing here is formatted. */
static size_t escape(uint8_t byte, char out[4]) {
    static const char special[] = "\n\r\t\"'\\", letter[] = "nrt\"'\\";
    const char *known = byte ? strchr(special, byte) : NULL;
    out[0] = '\\';
    if (known) {
        out[1] = letter[known - special];
        return 2;
    }
    if (byte >= 0x20 && byte < 0x7f) {
        out[0] = (char)byte;
        return 1;
    }
    out[1] = (char)('0' + (byte >> 6));
    out[2] = (char)('0' + (byte >> 3 & 7));
    out[3] = (char)('0' + (byte & 7));
    return 4;
}

/* Text keeps its letters beyond ASCII; bytes, and what is no UTF-8, become octal. */
static void put_quoted(bly_buf *out, const char *data, size_t len, int is_text) {
    const uint8_t *at = (const uint8_t *)data, *end = at + len;
    bly_buf_putc(out, '"');
    while (at < end) {
        size_t sequence = is_text && *at >= 0x80 ? utf8_length(at, end) : 0;
        char *to = bly_buf_reserve(out, 4);
        if (!to)
            return;
        if (sequence > 0)
            memcpy(to, at, sequence);
        out->len += sequence > 0 ? sequence : escape(*at, to);
        at += sequence > 0 ? sequence : 1;
    }
    bly_buf_putc(out, '"'); /* ends it in a NUL again */
}

/* "1.50000e+02" becomes "1.5e+02". */
static void drop_zeros(char *text) {
    char *e = strchr(text, 'e'), *last = e;
    while (last[-1] == '0' && memchr(text, '.', (size_t)(last - text)))
        last--;
    if (last[-1] == '.')
        last--;
    memmove(last, e, strlen(e) + 1);
}

/* The shortest decimal that reads back as the same number, in the form that Python gives it. */
static void put_float(bly_buf *out, double value, int is_single) {
    char text[40];
    if (isnan(value) || isinf(value)) {
        bly_buf_puts(out, isnan(value) ? "nan" : value > 0 ? "inf" : "-inf");
        return;
    }
    /* Python tries a float with six digits first, which shows where fewer would do as well: in
     * numbers so small that they have no more */
    for (int digits = is_single ? FLT_DIG : 1; digits <= DBL_DECIMAL_DIG; digits++) {
        snprintf(text, sizeof text, "%.*e", digits - 1, value);
        double back = strtod(text, NULL);
        if (is_single ? (float)back == (float)value : back == value)
            break;
    }
    drop_zeros(text);
    char *e = strchr(text, 'e');
    int exponent = atoi(e + 1), digits = 0;
    for (const char *c = text; c < e; c++)
        digits += *c >= '0' && *c <= '9';
    if (exponent < -4 || exponent >= 16) {
        bly_buf_append(out, text, (size_t)(e - text));
        bly_buf_printf(out, "e%c%02d", exponent < 0 ? '-' : '+', abs(exponent));
        return;
    }
    /* Write the digits out: at least one after the point. The digits found stay, so that a float's
     * do not turn into the longer ones of the double beside it. */
    int after = digits - 1 - exponent;
    double shown = strtod(text, NULL);
    bly_buf_printf(out, "%.*f", after > 1 ? after : 1, shown);
}

static void put_enum(bly_buf *out, const ProtobufCEnumDescriptor *type, int value) {
    const ProtobufCEnumValue *known = protobuf_c_enum_descriptor_get_value(type, value);
    if (known)
        bly_buf_puts(out, known->name);
    else
        bly_buf_printf(out, "%d", value);
}

static void put_scalar(bly_buf *out, const ProtobufCFieldDescriptor *field, const void *value) {
    const ProtobufCBinaryData *bytes = value;
    switch (field->type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
        bly_buf_printf(out, "%ld", (long)*(const int32_t *)value);
        return;
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
        bly_buf_printf(out, "%lld", (long long)*(const int64_t *)value);
        return;
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        bly_buf_printf(out, "%lu", (unsigned long)*(const uint32_t *)value);
        return;
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        bly_buf_printf(out, "%llu", (unsigned long long)*(const uint64_t *)value);
        return;
    case PROTOBUF_C_TYPE_FLOAT:
        put_float(out, (double)*(const float *)value, 1);
        return;
    case PROTOBUF_C_TYPE_DOUBLE:
        put_float(out, *(const double *)value, 0);
        return;
    case PROTOBUF_C_TYPE_BOOL:
        bly_buf_puts(out, *(const protobuf_c_boolean *)value ? "true" : "false");
        return;
    case PROTOBUF_C_TYPE_ENUM:
        put_enum(out, field->descriptor, *(const int *)value);
        return;
    case PROTOBUF_C_TYPE_STRING: {
        const char *text = *(const char *const *)value;
        put_quoted(out, text ? text : "", text ? strlen(text) : 0, 1);
        return;
    }
    default:
        put_quoted(out, (const char *)bytes->data, bytes->len, 0);
    }
}

/* A value that is all zero bits, or an empty string, is the default of proto3. */
static int is_default(const ProtobufCFieldDescriptor *field, const void *value) {
    static const uint64_t zero[2];
    const char *text;
    switch (field->type) {
    case PROTOBUF_C_TYPE_STRING:
        text = *(const char *const *)value;
        return !text || text[0] == '\0';
    case PROTOBUF_C_TYPE_BYTES:
        return ((const ProtobufCBinaryData *)value)->len == 0;
    default:
        return memcmp(value, zero, bly_wire_size_of(field->type)) == 0;
    }
}

static int is_set(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field) {
    const char *base = (const char *)message;
    const void *value = base + field->offset, *quantifier = base + field->quantifier_offset;
    int is_pointer =
        field->type == PROTOBUF_C_TYPE_MESSAGE || field->type == PROTOBUF_C_TYPE_STRING;
    if (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF)
        return *(const uint32_t *)quantifier == field->id;
    if (field->label == PROTOBUF_C_LABEL_REQUIRED)
        return 1;
    if (field->label == PROTOBUF_C_LABEL_NONE)
        return !is_default(field, value);
    if (is_pointer)
        return *(const void *const *)value && *(const void *const *)value != field->default_value;
    return *(const protobuf_c_boolean *)quantifier;
}

static void put_message(bly_buf *out, const ProtobufCMessage *message, int indent);

static void put_braced(bly_buf *out, const ProtobufCMessage *message, int indent) {
    bly_buf_puts(out, " {\n");
    put_message(out, message, indent + 1);
    bly_buf_printf(out, "%*s}\n", 2 * indent, "");
}

static void put_field(bly_buf *out, const ProtobufCFieldDescriptor *field, const void *value,
                      int indent) {
    bly_buf_printf(out, "%*s%s", 2 * indent, "", field->name);
    if (field->type == PROTOBUF_C_TYPE_MESSAGE) {
        put_braced(out, *(const ProtobufCMessage *const *)value, indent);
        return;
    }
    bly_buf_puts(out, ": ");
    put_scalar(out, field, value);
    bly_buf_putc(out, '\n');
}

/* ---- Maps: entries of a key and a value, printed by key ---- */

static int is_map(const ProtobufCFieldDescriptor *field) {
    const ProtobufCMessageDescriptor *entry = field->descriptor;
    size_t len;
    if (field->type != PROTOBUF_C_TYPE_MESSAGE || entry->n_fields != 2)
        return 0;
    len = strlen(entry->short_name);
    return len > 5 && strcmp(entry->short_name + len - 5, "Entry") == 0 &&
           strcmp(entry->fields[0].name, "key") == 0 && strcmp(entry->fields[1].name, "value") == 0;
}

static const void *key_of(const ProtobufCMessage *entry) {
    return (const char *)entry + entry->descriptor->fields[0].offset;
}

/* Python sorts code points, which UTF-8 keeps in order; numbers as such. */
static int compare_keys(const ProtobufCMessage *a, const ProtobufCMessage *b) {
    const void *left = key_of(a), *right = key_of(b);
    switch (a->descriptor->fields[0].type) {
    case PROTOBUF_C_TYPE_STRING: {
        const char *x = *(const char *const *)left, *y = *(const char *const *)right;
        return strcmp(x ? x : "", y ? y : "");
    }
    case PROTOBUF_C_TYPE_INT32: {
        int32_t x = *(const int32_t *)left, y = *(const int32_t *)right;
        return (x > y) - (x < y);
    }
    case PROTOBUF_C_TYPE_UINT32: {
        uint32_t x = *(const uint32_t *)left, y = *(const uint32_t *)right;
        return (x > y) - (x < y);
    }
    default: {
        uint64_t x = *(const uint64_t *)left, y = *(const uint64_t *)right;
        return (x > y) - (x < y);
    }
    }
}

typedef struct map_entry {
    const ProtobufCMessage *message;
    size_t place;
} map_entry;

static int by_key_and_place(const void *a, const void *b) {
    const map_entry *left = a, *right = b;
    int order = compare_keys(left->message, right->message);
    return order ? order : (left->place > right->place) - (left->place < right->place);
}

/* A key or value that has its default is left out, but for messages, and the older syntax, where it
 * counts as set. */
static void put_entry(bly_buf *out, const char *name, const ProtobufCMessage *entry, int indent) {
    bly_buf_printf(out, "%*s%s {\n", 2 * indent, "", name);
    for (unsigned i = 0; i < 2; i++) {
        const ProtobufCFieldDescriptor *field = &entry->descriptor->fields[i];
        const void *value = (const char *)entry + field->offset;
        if (field->type == PROTOBUF_C_TYPE_MESSAGE || field->label == PROTOBUF_C_LABEL_OPTIONAL ||
            !is_default(field, value))
            put_field(out, field, value, indent + 1);
    }
    bly_buf_printf(out, "%*s}\n", 2 * indent, "");
}

static void put_map(bly_buf *out, const ProtobufCFieldDescriptor *field,
                    ProtobufCMessage *const *entries, size_t count, int indent) {
    map_entry few[16], *sorted = few;
    if (count > sizeof few / sizeof few[0])
        sorted = bly_malloc(count * sizeof *sorted);
    if (!sorted) {
        out->failed = 1;
        return;
    }
    for (size_t i = 0; i < count; i++)
        sorted[i] = (map_entry){entries[i], i};
    qsort(sorted, count, sizeof *sorted, by_key_and_place);
    for (size_t i = 0; i < count; i++) /* of equal keys the last counts */
        if (i + 1 == count || compare_keys(sorted[i].message, sorted[i + 1].message) != 0)
            put_entry(out, field->name, sorted[i].message, indent);
    if (sorted != few)
        bly_free(sorted);
}

/* ---- Messages ---- */

/* 1 where an Any was printed as what it holds. What cannot be unpacked stays bytes. */
static int put_any(bly_buf *out, const Bly__Full__Any *any, int indent) {
    const ProtobufCMessageDescriptor *type =
        any->type_url ? bly_text_any_type(any->type_url) : NULL;
    belay_code code;
    void *content =
        type ? bly_wire_unpack_nested(type, any->value.data, any->value.len, &code) : NULL;
    if (!content) {
        out->failed |= type && code == BELAY_RESOURCE_EXHAUSTED;
        return 0;
    }
    bly_buf_printf(out, "%*s[%s]", 2 * indent, "", any->type_url);
    put_braced(out, content, indent);
    bly_wire_free(content);
    return 1;
}

static void put_repeated(bly_buf *out, const ProtobufCFieldDescriptor *field, const void *value,
                         size_t count, int indent) {
    const char *items = *(const char *const *)value;
    if (count > 0 && is_map(field)) {
        put_map(out, field, (ProtobufCMessage *const *)(const void *)items, count, indent);
        return;
    }
    for (size_t i = 0; i < count; i++)
        put_field(out, field, items + i * bly_wire_size_of(field->type), indent);
}

static void put_message(bly_buf *out, const ProtobufCMessage *message, int indent) {
    if (!message)
        return;
    const ProtobufCMessageDescriptor *type = message->descriptor;
    if (type == &bly__full__any__descriptor &&
        put_any(out, (const Bly__Full__Any *)message, indent))
        return;
    for (unsigned i = 0; i < type->n_fields; i++) { /* by number */
        const ProtobufCFieldDescriptor *field = &type->fields[i];
        const char *base = (const char *)message;
        const void *value = base + field->offset;
        if (field->label == PROTOBUF_C_LABEL_REPEATED)
            put_repeated(out, field, value,
                         *(const size_t *)(const void *)(base + field->quantifier_offset), indent);
        else if (is_set(message, field))
            put_field(out, field, value, indent);
    }
}

void bly_text_print(const ProtobufCMessage *message, bly_buf *out) {
    bly_locale was = bly_locale_plain();
    put_message(out, message, 0);
    bly_locale_restore(was);
}
