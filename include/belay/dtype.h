/**
 * Element types of tensors, with TensorFlow's numbers.
 */
#ifndef BELAY_DTYPE_H
#define BELAY_DTYPE_H

#include <belay/export.h>

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/** An element type. Any other number is one that this version does not know; it is passed through,
 * never changed. */
typedef int32_t belay_dtype;

#define BELAY_INVALID_DTYPE      ((belay_dtype)0)
#define BELAY_FLOAT              ((belay_dtype)1)
#define BELAY_DOUBLE             ((belay_dtype)2)
#define BELAY_INT32              ((belay_dtype)3)
#define BELAY_UINT8              ((belay_dtype)4)
#define BELAY_INT16              ((belay_dtype)5)
#define BELAY_INT8               ((belay_dtype)6)
#define BELAY_STRING             ((belay_dtype)7)
#define BELAY_COMPLEX64          ((belay_dtype)8)
#define BELAY_INT64              ((belay_dtype)9)
#define BELAY_BOOL               ((belay_dtype)10)
#define BELAY_QINT8              ((belay_dtype)11)
#define BELAY_QUINT8             ((belay_dtype)12)
#define BELAY_QINT32             ((belay_dtype)13)
#define BELAY_BFLOAT16           ((belay_dtype)14)
#define BELAY_QINT16             ((belay_dtype)15)
#define BELAY_QUINT16            ((belay_dtype)16)
#define BELAY_UINT16             ((belay_dtype)17)
#define BELAY_COMPLEX128         ((belay_dtype)18)
#define BELAY_HALF               ((belay_dtype)19)
#define BELAY_RESOURCE           ((belay_dtype)20)
#define BELAY_VARIANT            ((belay_dtype)21)
#define BELAY_UINT32             ((belay_dtype)22)
#define BELAY_UINT64             ((belay_dtype)23)
#define BELAY_FLOAT8_E5M2        ((belay_dtype)24)
#define BELAY_FLOAT8_E4M3FN      ((belay_dtype)25)
#define BELAY_FLOAT8_E4M3FNUZ    ((belay_dtype)26)
#define BELAY_FLOAT8_E4M3B11FNUZ ((belay_dtype)27)
#define BELAY_FLOAT8_E5M2FNUZ    ((belay_dtype)28)
#define BELAY_INT4               ((belay_dtype)29)
#define BELAY_UINT4              ((belay_dtype)30)
#define BELAY_INT2               ((belay_dtype)31)
#define BELAY_UINT2              ((belay_dtype)32)
#define BELAY_FLOAT4_E2M1FN      ((belay_dtype)33)

/**
 * The name as TensorFlow's Python spells it: "float32", "int64", "string", "resource".
 *
 * Reference types (a number above 100) end in "_ref". A number that is not known is "unknown".
 * Never NULL; static.
 *
 * Threads: any thread.
 */
BELAY_API const char *belay_dtype_name(belay_dtype dtype);

/**
 * Bytes of one element in memory, or 0 where elements have no fixed size (string, resource,
 * variant) or the number is not known. Types narrower than a byte take a byte each, as in
 * TensorFlow.
 *
 * Threads: any thread.
 */
BELAY_API size_t belay_dtype_size(belay_dtype dtype);

#ifdef __cplusplus
}
#endif

#endif
