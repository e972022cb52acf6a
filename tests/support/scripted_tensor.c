/* Tensors, statuses, buffers and strings of the scripted runtime: real, as far as belay can tell.
 */
#include "scripted_impl.h"

#include <belay/dtype.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ALIGNMENT 64

/* The header defines them `inline`; C wants one place where they stand for real. */
extern void TF_TString_Init(TF_TString *str);
extern void TF_TString_Copy(TF_TString *dst, const char *src, size_t size);
extern void TF_TString_Dealloc(TF_TString *str);
extern const char *TF_TString_GetDataPointer(const TF_TString *str);
extern size_t TF_TString_GetSize(const TF_TString *str);
extern size_t TF_TString_GetCapacity(const TF_TString *str);
extern TF_TString_Type TF_TString_GetType(const TF_TString *str);
extern char *TF_TString_ResizeUninitialized(TF_TString *str, size_t new_size);
extern char *TF_TString_GetMutableDataPointer(TF_TString *str);
extern void TF_TString_Reserve(TF_TString *str, size_t new_cap);

void *scripted_zalloc(size_t size) {
    void *p = calloc(1, size ? size : 1);
    if (!p)
        abort();
    return p;
}

void *scripted_realloc(void *old, size_t size) {
    void *p = realloc(old, size ? size : 1);
    if (!p)
        abort();
    return p;
}

char *scripted_strndup(const char *text, size_t len) {
    char *copy = scripted_zalloc(len + 1);
    memcpy(copy, text, len);
    return copy;
}

char *scripted_strdup(const char *text) {
    return scripted_strndup(text, strlen(text));
}

/* ---- values ---- */

static void buffer_unref(struct scripted_buffer *buffer) {
    if (atomic_fetch_sub(&buffer->references, 1) != 1)
        return;
    TF_TString *strings = buffer->data;
    for (size_t i = 0; i < buffer->strings; i++)
        TF_TString_Dealloc(&strings[i]);
    if (buffer->release)
        buffer->release(buffer->data, buffer->len, buffer->arg);
    free(buffer);
}

static void release_memory(void *data, size_t len, void *arg) {
    (void)len;
    (void)arg;
    free(data);
}

static struct scripted_buffer *buffer_over(void *data, size_t len,
                                           void (*release)(void *, size_t, void *), void *arg) {
    struct scripted_buffer *buffer = scripted_zalloc(sizeof *buffer);
    atomic_init(&buffer->references, 1);
    buffer->data = data;
    buffer->len = len;
    buffer->release = release;
    buffer->arg = arg;
    return buffer;
}

/* Memory as TensorFlow gives it: aligned, and not zero, so that a test sees who relies on that. */
static struct scripted_buffer *buffer_new(size_t len) {
    size_t room = (len + ALIGNMENT) / ALIGNMENT * ALIGNMENT;
    void *data = aligned_alloc(ALIGNMENT, room);
    if (!data)
        abort();
    memset(data, 0xa5, room);
    return buffer_over(data, len, release_memory, NULL);
}

static size_t element_size(TF_DataType dtype) {
    return dtype == TF_STRING ? sizeof(TF_TString) : belay_dtype_size((belay_dtype)dtype);
}

struct scripted_array *scripted_array_over(struct scripted_buffer *buffer, TF_DataType dtype,
                                           const int64_t *dims, int rank) {
    struct scripted_array *a =
        scripted_zalloc(sizeof *a + (size_t)(rank > 0 ? rank : 0) * sizeof a->dims[0]);
    atomic_init(&a->references, 1);
    a->buffer = buffer;
    a->dtype = dtype;
    a->rank = rank;
    for (int i = 0; i < rank; i++)
        a->dims[i] = dims[i];
    return a;
}

static size_t count_of(const int64_t *dims, int rank) {
    size_t count = 1;
    for (int i = 0; i < rank; i++)
        count *= (size_t)dims[i];
    return count;
}

struct scripted_array *scripted_array_new(TF_DataType dtype, const int64_t *dims, int rank) {
    size_t count = count_of(dims, rank);
    struct scripted_buffer *buffer = buffer_new(count * element_size(dtype));
    if (dtype == TF_STRING) {
        TF_TString *strings = buffer->data;
        for (size_t i = 0; i < count; i++)
            TF_TString_Init(&strings[i]);
        buffer->strings = count;
    }
    return scripted_array_over(buffer, dtype, dims, rank);
}

struct scripted_array *scripted_array_scalar(TF_DataType dtype, double value) {
    struct scripted_array *a = scripted_array_new(dtype, NULL, 0);
    scripted_array_set_number(a, 0, value);
    return a;
}

struct scripted_array *scripted_array_string(const char *data, size_t len) {
    struct scripted_array *a = scripted_array_new(TF_STRING, NULL, 0);
    scripted_array_set_text(a, 0, data, len);
    return a;
}

struct scripted_array *scripted_array_copy(const struct scripted_array *a) {
    struct scripted_array *copy = scripted_array_new(a->dtype, a->dims, a->rank);
    if (a->dtype != TF_STRING) {
        memcpy(copy->buffer->data, a->buffer->data, copy->buffer->len);
        return copy;
    }
    for (int64_t i = 0; i < scripted_array_count(a); i++) {
        size_t len;
        const char *text = scripted_array_text(a, i, &len);
        scripted_array_set_text(copy, i, text, len);
    }
    return copy;
}

struct scripted_array *scripted_array_ref(struct scripted_array *a) {
    if (a)
        atomic_fetch_add(&a->references, 1);
    return a;
}

void scripted_array_unref(struct scripted_array *a) {
    if (!a || atomic_fetch_sub(&a->references, 1) != 1)
        return;
    buffer_unref(a->buffer);
    free(a);
}

int64_t scripted_array_count(const struct scripted_array *a) {
    return (int64_t)count_of(a->dims, a->rank);
}

double scripted_array_number(const struct scripted_array *a, int64_t index) {
    const void *data = a->buffer->data;
    if (index >= scripted_array_count(a))
        return NAN;
    switch ((int)a->dtype) {
    case TF_FLOAT:
        return ((const float *)data)[index];
    case TF_DOUBLE:
        return ((const double *)data)[index];
    case TF_INT32:
        return ((const int32_t *)data)[index];
    case TF_INT64:
        return (double)((const int64_t *)data)[index];
    case TF_UINT8:
        return ((const uint8_t *)data)[index];
    case TF_BOOL:
        return ((const unsigned char *)data)[index];
    default:
        return NAN;
    }
}

void scripted_array_set_number(struct scripted_array *a, int64_t index, double value) {
    void *data = a->buffer->data;
    switch ((int)a->dtype) {
    case TF_FLOAT:
        ((float *)data)[index] = (float)value;
        break;
    case TF_DOUBLE:
        ((double *)data)[index] = value;
        break;
    case TF_INT32:
        ((int32_t *)data)[index] = (int32_t)value;
        break;
    case TF_INT64:
        ((int64_t *)data)[index] = (int64_t)value;
        break;
    case TF_UINT8:
        ((uint8_t *)data)[index] = (uint8_t)value;
        break;
    case TF_BOOL:
        ((unsigned char *)data)[index] = value != 0;
        break;
    default:
        break;
    }
}

const char *scripted_array_text(const struct scripted_array *a, int64_t index, size_t *out_len) {
    const TF_TString *strings = a->buffer->data;
    *out_len = TF_TString_GetSize(&strings[index]);
    return TF_TString_GetDataPointer(&strings[index]);
}

void scripted_array_set_text(struct scripted_array *a, int64_t index, const char *data,
                             size_t len) {
    TF_TString *strings = a->buffer->data;
    TF_TString_Copy(&strings[index], data, len);
}

/* ---- TF_Tensor ---- */

TF_Tensor *scripted_tensor_of(struct scripted_array *a) {
    TF_Tensor *tensor = scripted_zalloc(sizeof *tensor);
    tensor->array = a;
    atomic_fetch_add(&scripted_live_tensors, 1);
    return tensor;
}

TF_Tensor *scripted_NewTensor(TF_DataType dtype, const int64_t *dims, int rank, void *data,
                              size_t len, void (*release)(void *, size_t, void *), void *arg) {
    scripted_called("TF_NewTensor");
    struct scripted_buffer *buffer;
    if (len < count_of(dims, rank) * element_size(dtype)) {
        release(data, len, arg);
        return NULL;
    }
    if (dtype != TF_STRING && (uintptr_t)data % ALIGNMENT != 0) { /* as TensorFlow does */
        buffer = buffer_new(len);
        if (len > 0)
            memcpy(buffer->data, data, len);
        release(data, len, arg);
    } else {
        buffer = buffer_over(data, len, release, arg);
    }
    return scripted_tensor_of(scripted_array_over(buffer, dtype, dims, rank));
}

/* Strings in it are freed with it, as TensorFlow 2.21 does (measured). */
TF_Tensor *scripted_AllocateTensor(TF_DataType dtype, const int64_t *dims, int rank, size_t len) {
    scripted_called("TF_AllocateTensor");
    if (dtype == TF_STRING)
        return scripted_tensor_of(scripted_array_new(dtype, dims, rank));
    return scripted_tensor_of(scripted_array_over(buffer_new(len), dtype, dims, rank));
}

void scripted_DeleteTensor(TF_Tensor *tensor) {
    if (!tensor)
        return;
    atomic_fetch_sub(&scripted_live_tensors, 1);
    scripted_array_unref(tensor->array);
    free(tensor);
}

TF_DataType scripted_TensorType(const TF_Tensor *tensor) {
    return tensor->array->dtype;
}

int scripted_NumDims(const TF_Tensor *tensor) {
    return tensor->array->rank;
}

int64_t scripted_Dim(const TF_Tensor *tensor, int index) {
    return tensor->array->dims[index];
}

size_t scripted_TensorByteSize(const TF_Tensor *tensor) {
    return tensor->array->buffer->len;
}

void *scripted_TensorData(const TF_Tensor *tensor) {
    return tensor->array->buffer->data;
}

int64_t scripted_TensorElementCount(const TF_Tensor *tensor) {
    return scripted_array_count(tensor->array);
}

size_t scripted_DataTypeSize(TF_DataType dtype) {
    return element_size(dtype);
}

/* ---- strings ---- */

void scripted_StringInit(TF_TString *string) {
    TF_TString_Init(string);
}

void scripted_StringCopy(TF_TString *to, const char *from, size_t size) {
    TF_TString_Copy(to, from, size);
}

const char *scripted_StringGetDataPointer(const TF_TString *string) {
    return TF_TString_GetDataPointer(string);
}

size_t scripted_StringGetSize(const TF_TString *string) {
    return TF_TString_GetSize(string);
}

void scripted_StringDealloc(TF_TString *string) {
    TF_TString_Dealloc(string);
}

/* ---- statuses ---- */

struct TSL_Status {
    TF_Code code;
    char *message;
};

TF_Status *scripted_NewStatus(void) {
    atomic_fetch_add(&scripted_live_statuses, 1);
    return scripted_zalloc(sizeof(TF_Status));
}

void scripted_DeleteStatus(TF_Status *status) {
    atomic_fetch_sub(&scripted_live_statuses, 1);
    free(status->message);
    free(status);
}

void scripted_SetStatus(TF_Status *status, TF_Code code, const char *message) {
    char *copy = scripted_strdup(message);
    free(status->message);
    status->code = code;
    status->message = copy;
}

TF_Code scripted_GetCode(const TF_Status *status) {
    return status->code;
}

const char *scripted_Message(const TF_Status *status) {
    return status->message ? status->message : "";
}

/* ---- buffers ---- */

static void release_buffer(void *data, size_t len) {
    (void)len;
    free(data);
}

TF_Buffer *scripted_NewBuffer(void) {
    atomic_fetch_add(&scripted_live_buffers, 1);
    return scripted_zalloc(sizeof(TF_Buffer));
}

TF_Buffer *scripted_NewBufferFromString(const void *data, size_t len) {
    TF_Buffer *buffer = scripted_NewBuffer();
    buffer->data = scripted_strndup(data, len);
    buffer->length = len;
    buffer->data_deallocator = release_buffer;
    return buffer;
}

void scripted_DeleteBuffer(TF_Buffer *buffer) {
    if (!buffer)
        return;
    atomic_fetch_sub(&scripted_live_buffers, 1);
    if (buffer->data_deallocator)
        buffer->data_deallocator((void *)(uintptr_t)buffer->data, buffer->length);
    free(buffer);
}
