#include "summary/event_values.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- Tensors: what TensorFlow 2 keeps summaries in ---- */

static size_t value_count(const Bly__SummaryTensor *t) {
    switch (t->dtype) {
    case BELAY_FLOAT:
        return t->n_float_val;
    case BELAY_DOUBLE:
        return t->n_double_val;
    case BELAY_INT64:
        return t->n_int64_val;
    case BELAY_BOOL:
        return t->n_bool_val;
    case BELAY_STRING:
        return t->n_string_val;
    default:
        return t->n_int_val;
    }
}

/* A product of sizes, as a double: nothing is allocated by it. -1 where a size is not known. */
static double element_count(const Bly__SummaryTensor *t) {
    double count = 1;
    if (!t->tensor_shape)
        return 1;
    if (t->tensor_shape->unknown_rank)
        return -1;
    for (size_t i = 0; i < t->tensor_shape->n_dim; i++) {
        if (t->tensor_shape->dim[i]->size < 0)
            return -1;
        count *= (double)t->tensor_shape->dim[i]->size;
    }
    return count;
}

static double packed_number(const Bly__SummaryTensor *t, size_t at) {
    const uint8_t *from = t->tensor_content.data + at * belay_dtype_size(t->dtype);
    union {
        float f;
        double d;
        int32_t i32;
        int64_t i64;
        uint8_t u8;
    } number = {0};
    memcpy(&number, from, belay_dtype_size(t->dtype));
    switch (t->dtype) {
    case BELAY_FLOAT:
        return (double)number.f;
    case BELAY_DOUBLE:
        return number.d;
    case BELAY_INT32:
        return number.i32;
    case BELAY_INT64:
        return (double)number.i64;
    default:
        return number.u8;
    }
}

static int is_number(belay_dtype dtype) {
    return dtype == BELAY_FLOAT || dtype == BELAY_DOUBLE || dtype == BELAY_INT32 ||
           dtype == BELAY_INT64 || dtype == BELAY_BOOL || dtype == BELAY_UINT8;
}

/* One element; NaN where there is none, or no number. The last value in a list stands for all that
 * follow, as TensorFlow writes repeated ones. */
static double number_at(const Bly__SummaryTensor *t, size_t at) {
    size_t listed = value_count(t);
    if (!is_number(t->dtype))
        return (double)NAN;
    if (t->tensor_content.len > 0)
        return t->tensor_content.len / belay_dtype_size(t->dtype) > at ? packed_number(t, at)
                                                                       : (double)NAN;
    if (listed == 0)
        return 0; /* zeros are not written */
    if (at >= listed)
        at = listed - 1;
    switch (t->dtype) {
    case BELAY_FLOAT:
        return (double)t->float_val[at];
    case BELAY_DOUBLE:
        return t->double_val[at];
    case BELAY_INT64:
        return (double)t->int64_val[at];
    case BELAY_BOOL:
        return t->bool_val[at];
    default:
        return t->int_val[at];
    }
}

/* Rows of (left, right, count), as TensorFlow 2 writes histograms. */
static int read_histogram(const Bly__SummaryTensor *t, double elements, belay_summary_value *out) {
    double count = 0, sum = 0;
    size_t stored = t->tensor_content.len > 0 ? t->tensor_content.len / belay_dtype_size(t->dtype)
                                              : value_count(t);
    if (!is_number(t->dtype) || fmod(elements, 3) != 0 || (double)stored != elements)
        return 0;
    for (size_t i = 0; i + 2 < stored; i += 3) {
        double left = number_at(t, i), right = number_at(t, i + 1), in_bucket = number_at(t, i + 2);
        if (!(in_bucket > 0))
            continue;
        if (count == 0)
            out->min = left;
        out->max = right;
        count += in_bucket;
        sum += in_bucket * (left + right) / 2;
    }
    out->kind = BELAY_VALUE_HISTOGRAM;
    out->count = count;
    out->number = count > 0 ? sum / count : (double)NAN;
    return 1;
}

/* "28", "28", PNG: as TensorFlow 2 writes images. */
static int read_image(const Bly__SummaryTensor *t, belay_summary_value *out) {
    char number[12];
    int32_t sides[2];
    if (t->dtype != BELAY_STRING || t->n_string_val < 3)
        return 0;
    for (int i = 0; i < 2; i++) {
        size_t len = t->string_val[i].len;
        if (len == 0 || len >= sizeof number)
            return 0;
        memcpy(number, t->string_val[i].data, len);
        number[len] = '\0';
        sides[i] = (int32_t)strtol(number, NULL, 10);
    }
    out->kind = BELAY_VALUE_IMAGE;
    out->count = 0;
    out->width = sides[0];
    out->height = sides[1];
    out->data = t->string_val[2].data;
    out->size = t->string_val[2].len;
    return 1;
}

static void read_text(const Bly__SummaryTensor *t, belay_summary_value *out) {
    out->kind = BELAY_VALUE_TEXT;
    if (t->n_string_val > 0) {
        out->data = t->string_val[0].data;
        out->size = t->string_val[0].len;
    }
}

static void read_tensor(const Bly__SummaryTensor *t, belay_summary_value *out) {
    double elements = element_count(t);
    out->kind = BELAY_VALUE_TENSOR;
    out->dtype = t->dtype;
    out->count = elements < 0 ? 0 : elements;
    if (!strcmp(out->plugin, "histograms") && read_histogram(t, elements, out))
        return;
    if (!strcmp(out->plugin, "images") && read_image(t, out))
        return;
    if (!strcmp(out->plugin, "text") && t->dtype == BELAY_STRING)
        read_text(t, out);
    else if (elements == 1 && is_number(t->dtype)) {
        out->kind = BELAY_VALUE_SCALAR;
        out->number = number_at(t, 0);
    }
}

/* ---- Values of their own kind: what TensorFlow 1 and summary ops write ---- */

static void read_histo(const Bly__HistogramProto *h, belay_summary_value *out) {
    out->kind = BELAY_VALUE_HISTOGRAM;
    out->min = h->min;
    out->max = h->max;
    out->count = h->num;
    out->number = h->num > 0 ? h->sum / h->num : (double)NAN;
}

static void set_data(belay_summary_value *out, const ProtobufCBinaryData *bytes) {
    out->data = bytes->data;
    out->size = bytes->len;
}

void bly_event_value(const Bly__SummaryValues__Value *value, const char *plugin,
                     belay_summary_value *out) {
    *out = (belay_summary_value){.tag = value->tag,
                                 .plugin = plugin,
                                 .number = (double)NAN,
                                 .min = (double)NAN,
                                 .max = (double)NAN};
    switch (value->value_case) {
    case BLY__SUMMARY_VALUES__VALUE__VALUE_SIMPLE_VALUE:
        out->kind = BELAY_VALUE_SCALAR;
        out->number = (double)value->simple_value;
        break;
    case BLY__SUMMARY_VALUES__VALUE__VALUE_HISTO:
        read_histo(value->histo, out);
        break;
    case BLY__SUMMARY_VALUES__VALUE__VALUE_IMAGE:
        out->kind = BELAY_VALUE_IMAGE;
        out->width = value->image->width;
        out->height = value->image->height;
        set_data(out, &value->image->encoded_image_string);
        break;
    case BLY__SUMMARY_VALUES__VALUE__VALUE_AUDIO:
        out->kind = BELAY_VALUE_AUDIO;
        out->number = (double)value->audio->sample_rate;
        set_data(out, &value->audio->encoded_audio_string);
        break;
    case BLY__SUMMARY_VALUES__VALUE__VALUE_TENSOR:
        read_tensor(value->tensor, out);
        break;
    default:
        break;
    }
}
