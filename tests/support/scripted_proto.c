/* As much of protobuf as the scripted runtime needs to speak of graphs: writing by hand, without a
 * schema. */
#include "scripted_impl.h"

#include <belay/dtype.h>

#include <stdlib.h>
#include <string.h>

void scripted_put(struct scripted_bytes *out, const void *data, size_t len) {
    if (out->len + len + 1 > out->capacity) {
        out->capacity = (out->len + len + 1) * 2;
        out->data = scripted_realloc(out->data, out->capacity);
    }
    if (len > 0)
        memcpy(out->data + out->len, data, len);
    out->len += len;
    out->data[out->len] = '\0';
}

void scripted_put_varint(struct scripted_bytes *out, uint64_t value) {
    unsigned char byte;
    do {
        byte = (unsigned char)(value & 0x7f);
        value >>= 7;
        if (value)
            byte |= 0x80;
        scripted_put(out, &byte, 1);
    } while (value);
}

void scripted_put_number(struct scripted_bytes *out, uint32_t field, uint64_t value) {
    scripted_put_varint(out, (uint64_t)field << 3);
    scripted_put_varint(out, value);
}

void scripted_put_data(struct scripted_bytes *out, uint32_t field, const void *data, size_t len) {
    scripted_put_varint(out, (uint64_t)field << 3 | 2);
    scripted_put_varint(out, len);
    scripted_put(out, data, len);
}

void scripted_put_text(struct scripted_bytes *out, uint32_t field, const char *text) {
    scripted_put_data(out, field, text, strlen(text));
}

void scripted_put_message(struct scripted_bytes *out, uint32_t field,
                          struct scripted_bytes *message) {
    scripted_put_data(out, field, message->data, message->len);
    free(message->data);
    *message = (struct scripted_bytes){NULL, 0, 0};
}

int scripted_dtype(const char *name, size_t len) {
    static const struct {
        const char *name;
        int dtype;
    } also[] = {{"float", TF_FLOAT}, {"double", TF_DOUBLE}, {"int", TF_INT32}};
    for (size_t i = 0; i < sizeof also / sizeof also[0]; i++)
        if (strlen(also[i].name) == len && memcmp(also[i].name, name, len) == 0)
            return also[i].dtype;
    for (belay_dtype d = 1; d < 140; d++) {
        const char *other = belay_dtype_name(d);
        if (strlen(other) == len && memcmp(other, name, len) == 0)
            return d;
    }
    return 0;
}

/* ---- GraphDef ---- */

static void put_shape(struct scripted_bytes *out, uint32_t field, const int64_t *dims, int rank) {
    struct scripted_bytes shape = {NULL, 0, 0};
    for (int i = 0; i < rank; i++) {
        struct scripted_bytes dim = {NULL, 0, 0};
        scripted_put_number(&dim, 1, (uint64_t)dims[i]);
        scripted_put_message(&shape, 2, &dim);
    }
    if (rank < 0)
        scripted_put_number(&shape, 3, 1);
    scripted_put_message(out, field, &shape);
}

static void put_tensor(struct scripted_bytes *out, uint32_t field, const struct scripted_array *a) {
    struct scripted_bytes tensor = {NULL, 0, 0};
    scripted_put_number(&tensor, 1, (uint64_t)a->dtype);
    put_shape(&tensor, 2, a->dims, a->rank);
    if (a->dtype != TF_STRING)
        scripted_put_data(&tensor, 4, a->buffer->data, a->buffer->len);
    for (int64_t i = 0; a->dtype == TF_STRING && i < scripted_array_count(a); i++) {
        size_t len;
        const char *text = scripted_array_text(a, i, &len);
        scripted_put_data(&tensor, 8, text, len);
    }
    scripted_put_message(out, field, &tensor);
}

static void put_value(struct scripted_bytes *out, const struct scripted_attr *attr) {
    struct scripted_bytes list = {NULL, 0, 0};
    float number = (float)attr->number;
    if (attr->is_list) {
        for (int i = 0; i < attr->count; i++)
            scripted_put_number(&list, attr->type == TF_ATTR_TYPE ? 6 : 3,
                                (uint64_t)attr->integers[i]);
        scripted_put_message(out, 1, &list);
        return;
    }
    switch (attr->type) {
    case TF_ATTR_STRING:
        scripted_put_data(out, 2, attr->text, attr->text_len);
        break;
    case TF_ATTR_INT:
        scripted_put_number(out, 3, (uint64_t)attr->integer);
        break;
    case TF_ATTR_FLOAT:
        scripted_put_varint(out, 4 << 3 | 5);
        scripted_put(out, &number, sizeof number);
        break;
    case TF_ATTR_BOOL:
        scripted_put_number(out, 5, (uint64_t)attr->integer);
        break;
    case TF_ATTR_TYPE:
        scripted_put_number(out, 6, (uint64_t)attr->integer);
        break;
    case TF_ATTR_SHAPE:
        put_shape(out, 7, attr->integers, attr->count);
        break;
    default:
        put_tensor(out, 8, attr->tensor);
        break;
    }
}

static void put_input(struct scripted_bytes *node, const char *mark, const TF_Operation *op,
                      int index) {
    struct scripted_bytes name = {NULL, 0, 0};
    char number[16] = ":";
    scripted_put(&name, mark, strlen(mark));
    scripted_put(&name, op->name, strlen(op->name));
    if (index > 0) {
        int n = 0, rest = index;
        char digits[12];
        for (; rest > 0; rest /= 10)
            digits[n++] = (char)('0' + rest % 10);
        for (int i = 0; i < n; i++)
            number[i + 1] = digits[n - 1 - i];
        scripted_put(&name, number, (size_t)n + 1);
    }
    scripted_put_message(node, 3, &name);
}

void scripted_put_node(struct scripted_bytes *out, const TF_Operation *op) {
    struct scripted_bytes node = {NULL, 0, 0};
    scripted_put_text(&node, 1, op->name);
    scripted_put_text(&node, 2, op->type);
    for (int i = 0; i < op->input_count; i++)
        put_input(&node, "", op->inputs[i].oper, op->inputs[i].index);
    for (int i = 0; i < op->control_count; i++)
        put_input(&node, "^", op->controls[i], 0);
    if (op->device[0])
        scripted_put_text(&node, 4, op->device);
    for (int i = 0; i < op->attr_count; i++) {
        struct scripted_bytes entry = {NULL, 0, 0}, value = {NULL, 0, 0};
        scripted_put_text(&entry, 1, op->attrs[i].name);
        put_value(&value, &op->attrs[i]);
        scripted_put_message(&entry, 2, &value);
        scripted_put_message(&node, 5, &entry);
    }
    scripted_put_message(out, 1, &node);
}
