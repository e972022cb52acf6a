/**
 * Tensors: typed arrays that go into a step and come out of it.
 *
 * A belay_tensor wraps a TF_Tensor. Its elements lie in C order. Strings are tensors of dtype
 * BELAY_STRING and are read with belay_tensor_string(), whatever their length.
 *
 * Threads: one at a time per object. Making one loads TensorFlow where it is not loaded yet
 * (belay/runtime.h).
 */
#ifndef BELAY_TENSOR_H
#define BELAY_TENSOR_H

#include <belay/dtype.h>
#include <belay/error.h>

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct TF_Tensor;

/** The largest rank that belay accepts. */
#define BELAY_RANK_MAX 254

typedef struct belay_tensor belay_tensor;

/**
 * Makes a tensor over memory of its own, which is not initialised. For BELAY_STRING use
 * belay_tensor_new_strings().
 *
 * It may be fed, filled anew, and fed again: a run has read it when it returns. But where the graph
 * keeps a tensor as it is, it may keep this memory: a variable that it was assigned to, until the
 * first update; a queue that it was put into; a fetched tensor that is the same, passed on. Writing
 * changes those too: for such a feed make a new tensor each time.
 *
 * @param dtype An element type of fixed size.
 * @param dims  `rank` sizes, none negative; may be NULL where rank is 0.
 * @param rank  Number of dimensions; 0 is a scalar.
 * @param err   Filled on error. May be NULL.
 * @return a tensor that the caller frees with belay_tensor_free(), or NULL: BELAY_INVALID_ARGUMENT,
 * BELAY_RESOURCE_EXHAUSTED; BELAY_NOT_FOUND: there is no TensorFlow.
 */
BELAY_API belay_tensor *belay_tensor_new(belay_dtype dtype, const int64_t *dims, uint32_t rank,
                                         belay_error *err);

/**
 * Called when nobody needs the memory of a tensor any more, possibly on one of TensorFlow's
 * threads, and possibly later than belay_tensor_free(): the runtime keeps a fed tensor as long as
 * it reads it.
 */
typedef void (*belay_release)(void *self, void *data);

/**
 * Makes a tensor over the caller's memory, without a copy where `data` is aligned to 64 bytes.
 *
 * Where it is not, TensorFlow copies it at once: then `release` is called before this returns, and
 * what is written to `data` later is not seen. belay_tensor_data() says which of the two it was.
 *
 * @param data       Borrowed until `release` is called. Where it is not copied it may be written
 *                   between steps, as the memory of belay_tensor_new().
 * @param size_bytes Must be what dtype and dims need.
 * @param release    Called exactly once, also when this call fails. May be NULL: then `data` must
 *                   outlive the session.
 * @param self       Handed to `release`.
 * @param err        Filled on error. May be NULL.
 * @return a tensor that the caller frees with belay_tensor_free(), or NULL: BELAY_INVALID_ARGUMENT,
 * BELAY_RESOURCE_EXHAUSTED; BELAY_NOT_FOUND: there is no TensorFlow.
 */
BELAY_API belay_tensor *belay_tensor_new_over(belay_dtype dtype, const int64_t *dims, uint32_t rank,
                                              void *data, size_t size_bytes, belay_release release,
                                              void *self, belay_error *err);

/**
 * Makes a tensor of strings, which are copied.
 *
 * @param strings As many as dims say; bytes of any value.
 * @param lengths Their lengths in bytes; NULL: each string ends at its NUL.
 * @param dims    `rank` sizes, none negative; may be NULL where rank is 0.
 * @param rank    Number of dimensions; 0 is one string.
 * @param err     Filled on error. May be NULL.
 * @return a tensor that the caller frees with belay_tensor_free(), or NULL: BELAY_INVALID_ARGUMENT:
 * a size is negative or rank too large; BELAY_RESOURCE_EXHAUSTED; BELAY_NOT_FOUND: there is no
 * TensorFlow.
 */
BELAY_API belay_tensor *belay_tensor_new_strings(const char *const *strings, const size_t *lengths,
                                                 const int64_t *dims, uint32_t rank,
                                                 belay_error *err);

/**
 * Makes a tensor of another type with the same values, for a feed that wants that type: a run takes
 * a tensor of the very type that the graph says, and converts nothing (SE-26).
 *
 * Integers and bools stay exactly what they are, in real types too, and so do real numbers that
 * become integers; a real number that becomes one of fewer digits is rounded to the nearest. The
 * same type gives a copy, whatever the type.
 *
 * @param tensor Borrowed. NULL with a filled `err`: returns NULL.
 * @param dtype  An integer type of 8 to 64 bits, BELAY_BOOL, BELAY_HALF, BELAY_BFLOAT16,
 *               BELAY_FLOAT or BELAY_DOUBLE, as that of `tensor`; or that of `tensor`.
 * @param err    Filled on error. May be NULL.
 * @return a tensor that the caller frees with belay_tensor_free(), or NULL: BELAY_INVALID_ARGUMENT:
 * an element does not survive (the message says which), or there is no way between these types;
 * BELAY_RESOURCE_EXHAUSTED.
 */
BELAY_API belay_tensor *belay_tensor_convert(const belay_tensor *tensor, belay_dtype dtype,
                                             belay_error *err);

/** Frees a tensor. NULL is fine. */
BELAY_API void belay_tensor_free(belay_tensor *tensor);

BELAY_API belay_dtype belay_tensor_dtype(const belay_tensor *tensor);
BELAY_API uint32_t belay_tensor_rank(const belay_tensor *tensor);
/** Size of dimension `index`; -1 where there is no such dimension. */
BELAY_API int64_t belay_tensor_dim(const belay_tensor *tensor, uint32_t index);
/** Number of elements; 1 for a scalar. */
BELAY_API int64_t belay_tensor_count(const belay_tensor *tensor);
/** Size of the elements in memory. For strings: of their descriptors, not of their bytes. */
BELAY_API size_t belay_tensor_size_bytes(const belay_tensor *tensor);
/** The elements. The pointer lives as long as the tensor, or until a step replaces its content.
 * Those of a tensor that came out of a run are for reading: it may share its memory with a
 * variable. */
BELAY_API void *belay_tensor_data(const belay_tensor *tensor);

/**
 * One string of a BELAY_STRING tensor.
 *
 * @param index      From 0, in C order.
 * @param out_length Set to its length in bytes. May be NULL.
 * @return its bytes, which need not end in a NUL and live as long as the tensor; NULL where there
 * is no such element.
 */
BELAY_API const char *belay_tensor_string(const belay_tensor *tensor, int64_t index,
                                          size_t *out_length);

/** One element as a number, whatever its (numeric or bool) type; NaN where there is none. */
BELAY_API double belay_tensor_number(const belay_tensor *tensor, int64_t index);

/** The TF_Tensor inside. It belongs to `tensor`. */
BELAY_API struct TF_Tensor *belay_tensor_raw(const belay_tensor *tensor);

#ifdef __cplusplus
}
#endif

#endif
