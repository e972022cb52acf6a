#include "runtime/tensor.h"

#include "base/error.h"
#include "base/mem.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* TensorFlow copies what is aligned less than its vectors are wide. */
#define ALIGNMENT 64

/* Number of elements of a shape, and their bytes, without overflow. */
static belay_code measure(const int64_t *dims, uint32_t rank, size_t element_size,
                          int64_t *out_count, size_t *out_bytes, belay_error *err) {
    uint64_t count = 1;
    int empty = 0;
    if (rank > BELAY_RANK_MAX)
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "a tensor of rank %u: at most %d is possible",
                        (unsigned)rank, BELAY_RANK_MAX);
    for (uint32_t i = 0; i < rank; i++) {
        if (dims[i] < 0)
            return bly_fail(err, BELAY_INVALID_ARGUMENT,
                            "dimension %u of a tensor is %lld: it must not be negative",
                            (unsigned)i, (long long)dims[i]);
        empty |= dims[i] == 0;
        if (!empty && count > (uint64_t)PTRDIFF_MAX / element_size / (uint64_t)dims[i])
            return bly_fail(err, BELAY_INVALID_ARGUMENT, "a tensor too large for this machine");
        count *= empty ? 0 : (uint64_t)dims[i];
    }
    *out_count = (int64_t)count;
    *out_bytes = (size_t)count * element_size;
    return BELAY_OK;
}

static belay_code element_size_of(belay_dtype dtype, size_t *out, belay_error *err) {
    *out = belay_dtype_size(dtype);
    if (*out > 0)
        return BELAY_OK;
    return bly_fail(err, BELAY_INVALID_ARGUMENT, "elements of type %s (%d) have no fixed size; %s",
                    belay_dtype_name(dtype), (int)dtype,
                    dtype == BELAY_STRING ? "use belay_tensor_new_strings()"
                                          : "such a tensor cannot be made outside a graph");
}

belay_tensor *bly_tensor_wrap(const bly_runtime *rt, TF_Tensor *tf, belay_error *err) {
    belay_tensor *tensor = tf ? bly_malloc(sizeof *tensor) : NULL;
    if (!tensor) {
        if (tf) {
            rt->DeleteTensor(tf);
            bly_fail_memory(err);
        }
        return NULL;
    }
    tensor->rt = rt;
    tensor->tf = tf;
    return tensor;
}

TF_Tensor *bly_tensor_allocate(const bly_runtime *rt, belay_dtype dtype, const int64_t *dims,
                               uint32_t rank, belay_error *err) {
    size_t element_size, bytes;
    int64_t count;
    if (element_size_of(dtype, &element_size, err) != BELAY_OK ||
        measure(dims, rank, element_size, &count, &bytes, err) != BELAY_OK)
        return NULL;
    TF_Tensor *tf = rt->AllocateTensor((TF_DataType)dtype, dims, (int)rank, bytes);
    if (tf && bytes > 0 && !rt->TensorData(tf)) {
        rt->DeleteTensor(tf); /* TensorFlow makes a tensor over NULL where memory is out */
        tf = NULL;
    }
    if (!tf)
        bly_fail(err, BELAY_RESOURCE_EXHAUSTED, "no memory for a tensor of %zu bytes", bytes);
    return tf;
}

belay_tensor *belay_tensor_new(belay_dtype dtype, const int64_t *dims, uint32_t rank,
                               belay_error *err) {
    const bly_runtime *rt = bly_runtime_get(err);
    return rt ? bly_tensor_wrap(rt, bly_tensor_allocate(rt, dtype, dims, rank, err), err) : NULL;
}

/* The caller's memory, from TensorFlow's side. */
struct lent {
    belay_release release;
    void *self;
};

static void give_back(void *data, size_t len, void *arg) {
    struct lent *lent = arg;
    (void)len;
    if (!lent)
        return;
    lent->release(lent->self, data);
    bly_free(lent);
}

static TF_Tensor *new_over(const bly_runtime *rt, belay_dtype dtype, const int64_t *dims,
                           uint32_t rank, void *data, size_t size_bytes, struct lent *lent,
                           belay_error *err) {
    size_t element_size, bytes;
    int64_t count;
    if (element_size_of(dtype, &element_size, err) != BELAY_OK ||
        measure(dims, rank, element_size, &count, &bytes, err) != BELAY_OK)
        return NULL;
    if (bytes != size_bytes) {
        bly_fail(err, BELAY_INVALID_ARGUMENT,
                 "a %s tensor of %lld elements takes %zu bytes, not %zu", belay_dtype_name(dtype),
                 (long long)count, bytes, size_bytes);
        return NULL;
    }
    return rt->NewTensor((TF_DataType)dtype, dims, (int)rank, data, bytes, give_back, lent);
}

belay_tensor *belay_tensor_new_over(belay_dtype dtype, const int64_t *dims, uint32_t rank,
                                    void *data, size_t size_bytes, belay_release release,
                                    void *self, belay_error *err) {
    const bly_runtime *rt = bly_runtime_get(err);
    struct lent *lent = NULL;
    TF_Tensor *tf = NULL;
    if (rt && release) {
        lent = bly_malloc(sizeof *lent);
        if (!lent)
            bly_fail_memory(err);
        else
            *lent = (struct lent){release, self};
    }
    if (rt && (lent || !release))
        tf = new_over(rt, dtype, dims, rank, data, size_bytes, lent, err);
    if (tf)
        return bly_tensor_wrap(rt, tf, err); /* from here on TensorFlow gives the memory back */
    bly_free(lent);
    if (release)
        release(self, data);
    return NULL;
}

/* A tensor of strings over memory of our own: TensorFlow frees the descriptors of one it allocated
 * itself, but not the bytes that they hold. */
struct strings {
    const bly_runtime *rt;
    size_t count;
};

static void free_strings(void *data, size_t len, void *arg) {
    struct strings *strings = arg;
    TF_TString *items = data;
    (void)len;
    for (size_t i = 0; i < strings->count; i++)
        strings->rt->StringDealloc(&items[i]);
    free(data);
    bly_free(strings);
}

TF_Tensor *bly_tensor_allocate_strings(const bly_runtime *rt, const char *const *strings,
                                       const size_t *lengths, const int64_t *dims, uint32_t rank,
                                       belay_error *err) {
    int64_t count;
    size_t bytes;
    void *data = NULL;
    if (measure(dims, rank, sizeof(TF_TString), &count, &bytes, err) != BELAY_OK)
        return NULL;
    for (int64_t i = 0; i < count; i++) {
        if (!strings || !strings[i]) {
            bly_fail(err, BELAY_INVALID_ARGUMENT, "string %lld of %lld is NULL", (long long)i,
                     (long long)count);
            return NULL;
        }
    }
    struct strings *owner = bly_malloc(sizeof *owner);
    if (!owner || posix_memalign(&data, ALIGNMENT, bytes ? bytes : ALIGNMENT) != 0) {
        bly_free(owner);
        bly_fail_memory(err);
        return NULL;
    }
    *owner = (struct strings){rt, (size_t)count};
    TF_TString *items = data;
    for (size_t i = 0; i < (size_t)count; i++) {
        rt->StringInit(&items[i]);
        rt->StringCopy(&items[i], strings[i], lengths ? lengths[i] : strlen(strings[i]));
    }
    TF_Tensor *tf = rt->NewTensor(TF_STRING, dims, (int)rank, data, bytes, free_strings, owner);
    if (!tf) {
        free_strings(data, bytes, owner);
        bly_fail_memory(err);
    }
    return tf;
}

belay_tensor *belay_tensor_new_strings(const char *const *strings, const size_t *lengths,
                                       const int64_t *dims, uint32_t rank, belay_error *err) {
    const bly_runtime *rt = bly_runtime_get(err);
    if (!rt)
        return NULL;
    return bly_tensor_wrap(rt, bly_tensor_allocate_strings(rt, strings, lengths, dims, rank, err),
                           err);
}

void belay_tensor_free(belay_tensor *tensor) {
    if (!tensor)
        return;
    if (tensor->tf)
        tensor->rt->DeleteTensor(tensor->tf);
    bly_free(tensor);
}

belay_dtype belay_tensor_dtype(const belay_tensor *tensor) {
    return tensor ? (belay_dtype)tensor->rt->TensorType(tensor->tf) : BELAY_INVALID_DTYPE;
}

uint32_t belay_tensor_rank(const belay_tensor *tensor) {
    return tensor ? (uint32_t)tensor->rt->NumDims(tensor->tf) : 0;
}

int64_t belay_tensor_dim(const belay_tensor *tensor, uint32_t index) {
    return index < belay_tensor_rank(tensor) ? tensor->rt->Dim(tensor->tf, (int)index) : -1;
}

int64_t belay_tensor_count(const belay_tensor *tensor) {
    return tensor ? tensor->rt->TensorElementCount(tensor->tf) : 0;
}

size_t belay_tensor_size_bytes(const belay_tensor *tensor) {
    return tensor ? tensor->rt->TensorByteSize(tensor->tf) : 0;
}

void *belay_tensor_data(const belay_tensor *tensor) {
    return tensor ? tensor->rt->TensorData(tensor->tf) : NULL;
}

struct TF_Tensor *belay_tensor_raw(const belay_tensor *tensor) {
    return tensor ? tensor->tf : NULL;
}

static TF_Tensor *copy_strings(const bly_runtime *rt, const TF_Tensor *from, const int64_t *dims,
                               uint32_t rank) {
    size_t count = (size_t)rt->TensorElementCount(from);
    const char **strings = bly_calloc(count, sizeof *strings);
    size_t *lengths = bly_calloc(count, sizeof *lengths);
    TF_Tensor *copy = NULL;
    if (strings && lengths) {
        for (size_t i = 0; i < count; i++)
            strings[i] = bly_tensor_string(rt, from, (int64_t)i, &lengths[i]);
        copy = bly_tensor_allocate_strings(rt, strings, lengths, dims, rank, NULL);
    }
    bly_free(strings);
    bly_free(lengths);
    return copy;
}

TF_Tensor *bly_tensor_copy(const bly_runtime *rt, const TF_Tensor *from) {
    int64_t dims[BELAY_RANK_MAX];
    int rank = rt->NumDims(from);
    if (rank < 0 || rank > BELAY_RANK_MAX)
        return NULL;
    for (int i = 0; i < rank; i++)
        dims[i] = rt->Dim(from, i);
    if (rt->TensorType(from) == TF_STRING)
        return copy_strings(rt, from, dims, (uint32_t)rank);
    TF_Tensor *copy =
        bly_tensor_allocate(rt, (belay_dtype)rt->TensorType(from), dims, (uint32_t)rank, NULL);
    if (copy && rt->TensorByteSize(from) > 0)
        memcpy(rt->TensorData(copy), rt->TensorData(from), rt->TensorByteSize(from));
    return copy;
}

static int has_element(const bly_runtime *rt, const TF_Tensor *tf, int64_t index) {
    return tf && index >= 0 && index < rt->TensorElementCount(tf);
}

const char *bly_tensor_string(const bly_runtime *rt, const TF_Tensor *tf, int64_t index,
                              size_t *out_length) {
    if (!has_element(rt, tf, index) || rt->TensorType(tf) != TF_STRING)
        return NULL;
    const TF_TString *items = rt->TensorData(tf);
    if (out_length)
        *out_length = rt->StringGetSize(&items[index]);
    return rt->StringGetDataPointer(&items[index]);
}

const char *belay_tensor_string(const belay_tensor *tensor, int64_t index, size_t *out_length) {
    return tensor ? bly_tensor_string(tensor->rt, tensor->tf, index, out_length) : NULL;
}

/* A float of `exponent` and `mantissa` bits below its sign, as IEEE 754 lays it out. */
static double small_float(unsigned bits, int exponent, int mantissa) {
    int bias = (1 << (exponent - 1)) - 1;
    unsigned fraction = bits & ((1u << mantissa) - 1);
    int power = (int)((bits >> mantissa) & ((1u << exponent) - 1));
    double value;
    if (power == (1 << exponent) - 1)
        value = fraction ? (double)NAN : (double)INFINITY;
    else if (power == 0)
        value = ldexp((double)fraction, 1 - bias - mantissa);
    else
        value = ldexp((double)(fraction | (1u << mantissa)), power - bias - mantissa);
    return bits >> (exponent + mantissa) & 1 ? -value : value;
}

/* float8_e4m3fn spends its highest exponent on numbers; only all ones is NaN. */
static double float8_e4m3fn(unsigned bits) {
    if ((bits & 0x7f) == 0x7f)
        return (double)NAN;
    if ((bits & 0x78) != 0x78)
        return small_float(bits, 4, 3);
    double value = ldexp((double)(8 | (bits & 7)), 15 - 7 - 3);
    return bits & 0x80 ? -value : value;
}

#define LOAD(type)                                                                                 \
    do {                                                                                           \
        type value;                                                                                \
        memcpy(&value, at, sizeof value);                                                          \
        *out = (int64_t)value;                                                                     \
        return 1;                                                                                  \
    } while (0)

/* 0 where there is no such element, or it is no integer. */
static int integer_at(const bly_runtime *rt, const TF_Tensor *tf, int64_t index, int64_t *out) {
    if (!has_element(rt, tf, index))
        return 0;
    belay_dtype dtype = (belay_dtype)rt->TensorType(tf);
    const char *at = (const char *)rt->TensorData(tf) + (size_t)index * belay_dtype_size(dtype);
    switch (dtype) {
    case BELAY_INT8:
    case BELAY_QINT8:
        LOAD(int8_t);
    case BELAY_UINT8:
    case BELAY_QUINT8:
    case BELAY_BOOL:
        LOAD(uint8_t);
    case BELAY_INT16:
    case BELAY_QINT16:
        LOAD(int16_t);
    case BELAY_UINT16:
    case BELAY_QUINT16:
        LOAD(uint16_t);
    case BELAY_INT32:
    case BELAY_QINT32:
        LOAD(int32_t);
    case BELAY_UINT32:
        LOAD(uint32_t);
    case BELAY_INT64:
        LOAD(int64_t);
    case BELAY_UINT64:
        LOAD(uint64_t);
    default:
        return 0;
    }
}

int64_t bly_tensor_integer(const bly_runtime *rt, const TF_Tensor *tensor) {
    int64_t value;
    return integer_at(rt, tensor, 0, &value) ? value : 0;
}

double bly_tensor_number(const bly_runtime *rt, const TF_Tensor *tf, int64_t index) {
    if (!has_element(rt, tf, index))
        return (double)NAN;
    belay_dtype dtype = (belay_dtype)rt->TensorType(tf);
    const char *at = (const char *)rt->TensorData(tf) + (size_t)index * belay_dtype_size(dtype);
    float single;
    double number;
    uint64_t large;
    uint32_t word = 0;
    uint16_t half;
    int64_t integer;
    switch (dtype) {
    case BELAY_FLOAT:
        memcpy(&single, at, sizeof single);
        return (double)single;
    case BELAY_DOUBLE:
        memcpy(&number, at, sizeof number);
        return number;
    case BELAY_BFLOAT16: /* the upper half of a float */
        memcpy(&half, at, sizeof half);
        word = (uint32_t)half << 16;
        memcpy(&single, &word, sizeof single);
        return (double)single;
    case BELAY_HALF:
        memcpy(&half, at, sizeof half);
        return small_float(half, 5, 10);
    case BELAY_FLOAT8_E5M2:
        return small_float((unsigned char)*at, 5, 2);
    case BELAY_FLOAT8_E4M3FN:
        return float8_e4m3fn((unsigned char)*at);
    case BELAY_UINT64:
        memcpy(&large, at, sizeof large);
        return (double)large;
    default:
        return integer_at(rt, tf, index, &integer) ? (double)integer : (double)NAN;
    }
}

double belay_tensor_number(const belay_tensor *tensor, int64_t index) {
    return tensor ? bly_tensor_number(tensor->rt, tensor->tf, index) : (double)NAN;
}
