/* What a belay_tensor is made of. */
#ifndef BLY_RUNTIME_TENSOR_H
#define BLY_RUNTIME_TENSOR_H

#include "runtime/runtime.h"

#include <belay/tensor.h>

struct belay_tensor {
    const bly_runtime *rt;
    TF_Tensor *tf; /* NULL only inside belay, before a first value arrived */
};

/* Wraps a TF_Tensor, which is given: on error it is deleted. */
belay_tensor *bly_tensor_wrap(const bly_runtime *rt, TF_Tensor *given, belay_error *err);

/* As the makers of belay/tensor.h, over a given runtime: the TF_Tensor itself. */
TF_Tensor *bly_tensor_allocate(const bly_runtime *rt, belay_dtype dtype, const int64_t *dims,
                               uint32_t rank, belay_error *err);
TF_Tensor *bly_tensor_allocate_strings(const bly_runtime *rt, const char *const *strings,
                                       const size_t *lengths, const int64_t *dims, uint32_t rank,
                                       belay_error *err);

/* The first element of an integer tensor; 0 where it is empty or not of an integer type. */
int64_t bly_tensor_integer(const bly_runtime *rt, const TF_Tensor *tensor);
/* One element as a number; NaN where there is none. */
double bly_tensor_number(const bly_runtime *rt, const TF_Tensor *tensor, int64_t index);
/* One string, which need not end in a NUL; NULL where there is none. */
const char *bly_tensor_string(const bly_runtime *rt, const TF_Tensor *tensor, int64_t index,
                              size_t *out_length);

/* A copy that shares nothing with `from`, strings included; NULL when memory is out. */
TF_Tensor *bly_tensor_copy(const bly_runtime *rt, const TF_Tensor *from);

#endif
