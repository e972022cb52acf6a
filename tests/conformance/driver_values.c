/* Between the JSON of scenarios and traces, and tensors, names and messages. */
#include "driver.h"

#include "wire/cursor.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

name_list names_of(const json_t *value) {
    name_list list = {{NULL}, 0};
    const json_t *item;
    size_t i;
    if (json_is_string(value))
        list.of[list.count++] = json_string_value(value);
    json_array_foreach(value, i, item) {
        if (json_is_string(item) && list.count < NAMES_MOST)
            list.of[list.count++] = json_string_value(item);
    }
    return list;
}

/* ---- text ---- */

/* A string that grows. */
typedef struct line {
    char *text;
    size_t size;
} line;

static void add(line *l, const char *text, size_t size) {
    l->text = realloc(l->text, l->size + size + 1);
    memcpy(l->text + l->size, text, size);
    l->size += size;
    l->text[l->size] = '\0';
}

static void add_text(line *l, const char *text) {
    add(l, text, strlen(text));
}

static json_t *finish(line *l) {
    json_t *value = json_stringn(l->text ? l->text : "", l->size);
    free(l->text);
    return value;
}

static void add_quoted(line *l, const char *data, size_t size) {
    char escaped[8];
    add(l, "\"", 1);
    for (size_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)data[i];
        if (c >= 32 && c < 127 && c != '"' && c != '\\') {
            add(l, &data[i], 1);
            continue;
        }
        snprintf(escaped, sizeof escaped, "\\x%02x", c);
        add_text(l, escaped);
    }
    add(l, "\"", 1);
}

json_t *quoted(const char *data, size_t size) {
    line l = {NULL, 0};
    add_quoted(&l, data, size);
    return finish(&l);
}

json_t *latin1(const char *data, size_t size) {
    line l = {NULL, 0};
    for (size_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)data[i];
        char utf8[2] = {(char)(0xc0 | c >> 6), (char)(0x80 | (c & 0x3f))};
        add(&l, c < 0x80 ? &data[i] : utf8, c < 0x80 ? 1 : 2);
    }
    return finish(&l);
}

char *bytes_of(const json_t *text, size_t *out_size) {
    const char *from = json_string_value(text);
    size_t size = json_string_length(text), count = 0;
    char *bytes = malloc(size + 1);
    for (size_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)from[i];
        if (c >= 0xc0 && i + 1 < size)
            c = (unsigned char)(c << 6 | (from[++i] & 0x3f));
        bytes[count++] = (char)c;
    }
    bytes[count] = '\0';
    *out_size = count;
    return bytes;
}

static void add_real(line *l, double value) {
    char text[64];
    if (isnan(value))
        snprintf(text, sizeof text, "nan");
    else
        snprintf(text, sizeof text, "%.6g", value);
    add_text(l, text);
}

static void add_complex(line *l, double re, double im) {
    add_real(l, re);
    add_text(l, "+");
    add_real(l, im);
    add_text(l, "i");
}

static void add_element(line *l, const belay_tensor *tensor, int64_t i) {
    const void *data = belay_tensor_data(tensor);
    char text[64];
    size_t size = 0;
    switch (belay_tensor_dtype(tensor)) {
    case BELAY_STRING: {
        const char *bytes = belay_tensor_string(tensor, i, &size);
        add_quoted(l, bytes ? bytes : "", size);
        return;
    }
    case BELAY_COMPLEX64:
        add_complex(l, (double)((const float *)data)[2 * i],
                    (double)((const float *)data)[2 * i + 1]);
        return;
    case BELAY_COMPLEX128:
        add_complex(l, ((const double *)data)[2 * i], ((const double *)data)[2 * i + 1]);
        return;
    case BELAY_INT64:
        snprintf(text, sizeof text, "%lld", (long long)((const int64_t *)data)[i]);
        break;
    case BELAY_UINT64:
        snprintf(text, sizeof text, "%llu", (unsigned long long)((const uint64_t *)data)[i]);
        break;
    case BELAY_INT32:
    case BELAY_UINT32:
    case BELAY_INT16:
    case BELAY_UINT16:
    case BELAY_INT8:
    case BELAY_UINT8:
    case BELAY_BOOL:
        snprintf(text, sizeof text, "%.0f", belay_tensor_number(tensor, i));
        break;
    default:
        add_real(l, belay_tensor_number(tensor, i));
        return;
    }
    add_text(l, text);
}

static void add_type(line *l, belay_dtype dtype, int32_t rank, const int64_t *dims) {
    char text[32];
    add_text(l, belay_dtype_name(dtype));
    add_text(l, rank < 0 ? "?" : "[");
    for (int32_t i = 0; i < rank; i++) {
        snprintf(text, sizeof text, "%s%lld", i ? "," : "", (long long)dims[i]);
        add_text(l, text);
    }
    add_text(l, rank < 0 ? "" : "]");
}

json_t *shape_of(belay_dtype dtype, int32_t rank, const int64_t *dims) {
    line l = {NULL, 0};
    add_type(&l, dtype % 100, rank, dims); /* without "reference to" */
    return finish(&l);
}

#define ELEMENTS_SHOWN 64

json_t *text_of(const belay_tensor *tensor) {
    line l = {NULL, 0};
    int64_t dims[BELAY_RANK_MAX];
    if (!tensor)
        return json_string("none");
    int32_t rank = (int32_t)belay_tensor_rank(tensor);
    for (int32_t i = 0; i < rank; i++)
        dims[i] = belay_tensor_dim(tensor, (uint32_t)i);
    add_type(&l, belay_tensor_dtype(tensor), rank, dims);
    for (int64_t i = 0; i < belay_tensor_count(tensor) && i < ELEMENTS_SHOWN; i++) {
        add_text(&l, " ");
        add_element(&l, tensor, i);
    }
    return finish(&l);
}

belay_dtype dtype_named(const char *name) {
    for (belay_dtype i = 1; i < 64; i++)
        if (strcmp(belay_dtype_name(i), name) == 0)
            return i;
    return BELAY_INVALID_DTYPE;
}

/* ---- values ---- */

/* Small numbers that need no rounding are all that scenarios use. */
static uint16_t half_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if (value == 0)
        return (uint16_t)(bits >> 16);
    uint32_t exponent = (bits >> 23 & 0xff) - 127 + 15;
    return (uint16_t)((bits >> 16 & 0x8000) | exponent << 10 | (bits >> 13 & 0x3ff));
}

static uint16_t bfloat16_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (uint16_t)(bits >> 16);
}

static double real_of(const json_t *value) {
    return json_is_boolean(value) ? (double)json_is_true(value) : json_number_value(value);
}

static int64_t integer_of(const json_t *value) {
    return json_is_integer(value) ? json_integer_value(value) : (int64_t)real_of(value);
}

static void put_element(belay_tensor *tensor, size_t i, const json_t *value) {
    void *data = belay_tensor_data(tensor);
    switch (belay_tensor_dtype(tensor)) {
    case BELAY_FLOAT:
        ((float *)data)[i] = (float)real_of(value);
        break;
    case BELAY_DOUBLE:
        ((double *)data)[i] = real_of(value);
        break;
    case BELAY_HALF:
        ((uint16_t *)data)[i] = half_of((float)real_of(value));
        break;
    case BELAY_BFLOAT16:
        ((uint16_t *)data)[i] = bfloat16_of((float)real_of(value));
        break;
    case BELAY_INT64:
    case BELAY_UINT64:
        ((int64_t *)data)[i] = integer_of(value);
        break;
    case BELAY_INT32:
    case BELAY_UINT32:
        ((int32_t *)data)[i] = (int32_t)integer_of(value);
        break;
    case BELAY_INT16:
    case BELAY_UINT16:
        ((int16_t *)data)[i] = (int16_t)integer_of(value);
        break;
    case BELAY_COMPLEX64:
        ((float *)data)[2 * i] = (float)real_of(json_array_get(value, 0));
        ((float *)data)[2 * i + 1] = (float)real_of(json_array_get(value, 1));
        break;
    case BELAY_COMPLEX128:
        ((double *)data)[2 * i] = real_of(json_array_get(value, 0));
        ((double *)data)[2 * i + 1] = real_of(json_array_get(value, 1));
        break;
    default:
        ((int8_t *)data)[i] = (int8_t)integer_of(value);
    }
}

#define STRINGS_MOST 64

/* The leaves of nested arrays, in order. */
typedef struct leaves {
    const json_t **of;
    size_t count, room;
} leaves;

static void gather(const json_t *value, uint32_t rank, leaves *out) {
    if (rank > 0) {
        const json_t *item;
        size_t i;
        json_array_foreach(value, i, item) {
            gather(item, rank - 1, out);
        }
        return;
    }
    if (out->count == out->room) {
        out->room = 2 * out->room + 16;
        out->of = realloc(out->of, out->room * sizeof(const json_t *));
    }
    out->of[out->count++] = value;
}

static belay_tensor *strings_of(const leaves *from, const int64_t *dims, uint32_t rank,
                                belay_error *err) {
    char *texts[STRINGS_MOST] = {NULL};
    size_t sizes[STRINGS_MOST] = {0},
           count = from->count < STRINGS_MOST ? from->count : STRINGS_MOST;
    for (size_t i = 0; i < count; i++)
        texts[i] = bytes_of(from->of[i], &sizes[i]);
    belay_tensor *tensor =
        belay_tensor_new_strings((const char *const *)texts, sizes, dims, rank, err);
    for (size_t i = 0; i < count; i++)
        free(texts[i]);
    return tensor;
}

belay_tensor *literal(const json_t *given, belay_dtype dtype, belay_error *err) {
    int64_t dims[8];
    uint32_t rank = 0;
    const json_t *value = json_is_object(given) ? json_object_get(given, "value") : given;
    const json_t *shape = json_is_object(given) ? json_object_get(given, "shape") : NULL;
    leaves from = {NULL, 0, 0};
    if (json_is_object(given))
        dtype = dtype_named(text_in(given, "dtype", "float32"));
    int is_pair = dtype == BELAY_COMPLEX64 || dtype == BELAY_COMPLEX128;
    for (const json_t *at = value; json_is_array(at) && rank < 8; at = json_array_get(at, 0))
        dims[rank++] = (int64_t)json_array_size(at);
    rank -= is_pair && rank > 0;
    gather(value, rank, &from);
    for (size_t i = 0; shape && i < json_array_size(shape) && i < 8; i++)
        dims[i] = json_integer_value(json_array_get(shape, i));
    if (shape)
        rank = (uint32_t)json_array_size(shape);
    belay_tensor *tensor = dtype == BELAY_STRING ? strings_of(&from, dims, rank, err)
                                                 : belay_tensor_new(dtype, dims, rank, err);
    for (size_t i = 0; tensor && dtype != BELAY_STRING && i < from.count; i++)
        put_element(tensor, i, from.of[i]);
    free(from.of);
    return tensor;
}

/* ---- feeds ---- */

static belay_code add_feed(belay_graph *graph, const char *name, const json_t *value, feed_set *out,
                           belay_error *err) {
    belay_dtype dtype = BELAY_FLOAT;
    int32_t rank;
    int64_t dims[1];
    belay_graph_tensor_info(graph, name, &dtype, &rank, dims, 0);
    belay_tensor *tensor = literal(value, dtype, err);
    if (tensor && belay_tensor_dtype(tensor) != dtype) { /* what Python does in run() (SE-26) */
        belay_tensor *given = tensor;
        tensor = belay_tensor_convert(given, dtype, err);
        belay_tensor_free(given);
    }
    if (!tensor)
        return belay_error_code(err);
    out->tensors[out->names.count] = tensor;
    out->names.of[out->names.count++] = name;
    return BELAY_OK;
}

belay_code feeds_of(belay_graph *graph, const json_t *given, feed_set *out, belay_error *err) {
    const char *name;
    json_t *value;
    size_t i;
    belay_code code = BELAY_OK;
    *out = (feed_set){{{NULL}, 0}, {NULL}};
    json_object_foreach((json_t *)(uintptr_t)given, name, value) {
        if (code == BELAY_OK)
            code = add_feed(graph, name, value, out, err);
    }
    json_array_foreach(given, i, value) {
        if (code == BELAY_OK)
            code = add_feed(graph, json_string_value(json_array_get(value, 0)),
                            json_array_get(value, 1), out, err);
    }
    if (code != BELAY_OK)
        feeds_free(out);
    return code;
}

void feeds_free(feed_set *feeds) {
    for (size_t i = 0; i < feeds->names.count; i++)
        belay_tensor_free(feeds->tensors[i]);
    feeds->names.count = 0;
}

/* ---- messages ---- */

typedef struct field {
    const char *name;
    unsigned number;
    const struct field *message; /* NULL: a number, or a text where it is written as one */
    int is_repeated;
} field;

static const field watch_fields[] = {{"node_name", 1, NULL, 0}, {"output_slot", 2, NULL, 0}, {0}},
                   debug_fields[] = {{"debug_tensor_watch_opts", 4, watch_fields, 1},
                                     {"global_step", 10, NULL, 0},
                                     {"reset_disk_byte_usage", 11, NULL, 0},
                                     {0}},
                   experimental_fields[] = {{"collective_graph_key", 1, NULL, 0},
                                            {"use_run_handler_pool", 2, NULL, 0},
                                            {0}},
                   run_options_fields[] = {{"trace_level", 1, NULL, 0},
                                           {"timeout_in_ms", 2, NULL, 0},
                                           {"inter_op_thread_pool", 3, NULL, 0},
                                           {"output_partition_graphs", 5, NULL, 0},
                                           {"debug_options", 6, debug_fields, 0},
                                           {"report_tensor_allocations_upon_oom", 7, NULL, 0},
                                           {"experimental", 8, experimental_fields, 0},
                                           {0}},
                   config_fields[] = {{"intra_op_parallelism_threads", 2, NULL, 0},
                                      {"inter_op_parallelism_threads", 5, NULL, 0},
                                      {"allow_soft_placement", 7, NULL, 0},
                                      {"operation_timeout_in_ms", 11, NULL, 0},
                                      {0}};

static void put_varint(wire_message *message, uint64_t value) {
    for (; value > 0x7f; value >>= 7)
        message->bytes[message->size++] = (unsigned char)(0x80 | (value & 0x7f));
    message->bytes[message->size++] = (unsigned char)value;
}

static void put_bytes(wire_message *message, const void *data, size_t size) {
    put_varint(message, size);
    memcpy(message->bytes + message->size, data, size);
    message->size += size;
}

static wire_message pack(const json_t *given, const field *fields);

static void put_field(wire_message *message, const field *f, const json_t *value) {
    const json_t *item;
    size_t i;
    if (json_is_array(value)) {
        json_array_foreach(value, i, item) {
            put_field(message, f, item);
        }
        return;
    }
    int is_number = !f->message && !json_is_string(value);
    put_varint(message, (uint64_t)f->number << 3 | (is_number ? 0 : 2));
    if (f->message) {
        wire_message inner = pack(value, f->message);
        put_bytes(message, inner.bytes, inner.size);
    } else if (is_number) {
        put_varint(message, json_is_true(value) ? 1 : (uint64_t)integer_of(value));
    } else {
        put_bytes(message, json_string_value(value), json_string_length(value));
    }
}

static wire_message pack(const json_t *given, const field *fields) {
    wire_message message = {{0}, 0};
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)given, name, value) {
        for (const field *f = fields; f->name; f++)
            if (strcmp(f->name, name) == 0)
                put_field(&message, f, value);
    }
    return message;
}

static const field *field_numbered(const field *fields, unsigned number) {
    while (fields->name && fields->number != number)
        fields++;
    return fields->name ? fields : NULL;
}

static json_t *unpack(const void *data, size_t size, const field *fields) {
    bly_cursor cursor = bly_cursor_over(data, size);
    bly_field found;
    json_t *made = json_object();
    while (bly_cursor_next(&cursor, &found)) {
        const field *f = field_numbered(fields, found.number);
        char unknown[32];
        snprintf(unknown, sizeof unknown, "%u", found.number);
        json_t *value = f && f->message   ? unpack(found.data, found.size, f->message)
                        : found.type == 2 ? latin1((const char *)found.data, found.size)
                                          : json_integer((json_int_t)found.value);
        if (f && f->is_repeated) {
            if (!has(made, f->name))
                json_object_set_new(made, f->name, json_array());
            json_array_append_new(json_object_get(made, f->name), value);
        } else if (json_is_object(value) && has(made, f->name)) {
            json_object_update(json_object_get(made, f->name), value); /* as messages are merged */
            json_decref(value);
        } else if (json_is_object(value) ? json_object_size(value) > 0
                                         : found.type == 2 || found.value != 0) {
            json_object_set_new(made, f ? f->name : unknown, value);
        } else {
            json_decref(value);
        }
    }
    return made;
}

json_t *run_options_fields_of(const void *data, size_t size) {
    return unpack(data, size, run_options_fields);
}

/* 1 where a message has a field of this number. */
static int has_field(const void *data, size_t size, unsigned number) {
    bly_cursor cursor = bly_cursor_over(data, size);
    bly_field found;
    while (bly_cursor_next(&cursor, &found))
        if (found.number == number && found.size > 0)
            return 1;
    return 0;
}

json_t *metadata_of(const belay_run_metadata *metadata) {
    size_t size;
    const void *data = belay_run_metadata_data(metadata, &size);
    return json_pack("{s:b, s:b}", "step_stats", has_field(data, size, 1), "partition_graphs",
                     has_field(data, size, 3));
}

wire_message run_options_of(const json_t *given) {
    return pack(given, run_options_fields);
}

wire_message config_of(const json_t *given) {
    return pack(given, config_fields);
}

belay_session_options session_options_of(const json_t *given, wire_message *config) {
    belay_session_options options = BELAY_SESSION_OPTIONS_INIT;
    *config = config_of(json_object_get(given, "config"));
    options.target = text_in(given, "target", "");
    if (has(given, "config")) {
        options.config = config->bytes;
        options.config_size = config->size;
    }
    return options;
}
