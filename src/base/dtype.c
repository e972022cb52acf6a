#include <belay/dtype.h>

#define REFERENCE 100 /* a reference type is its type's number and this */

static const struct {
    const char *name;
    const char *reference;
    size_t size;
} types[] = {
    {"invalid", "invalid_ref", 0},
    {"float32", "float32_ref", 4},
    {"float64", "float64_ref", 8},
    {"int32", "int32_ref", 4},
    {"uint8", "uint8_ref", 1},
    {"int16", "int16_ref", 2},
    {"int8", "int8_ref", 1},
    {"string", "string_ref", 0},
    {"complex64", "complex64_ref", 8},
    {"int64", "int64_ref", 8},
    {"bool", "bool_ref", 1},
    {"qint8", "qint8_ref", 1},
    {"quint8", "quint8_ref", 1},
    {"qint32", "qint32_ref", 4},
    {"bfloat16", "bfloat16_ref", 2},
    {"qint16", "qint16_ref", 2},
    {"quint16", "quint16_ref", 2},
    {"uint16", "uint16_ref", 2},
    {"complex128", "complex128_ref", 16},
    {"float16", "float16_ref", 2},
    {"resource", "resource_ref", 0},
    {"variant", "variant_ref", 0},
    {"uint32", "uint32_ref", 4},
    {"uint64", "uint64_ref", 8},
    {"float8_e5m2", "float8_e5m2_ref", 1},
    {"float8_e4m3fn", "float8_e4m3fn_ref", 1},
    {"float8_e4m3fnuz", "float8_e4m3fnuz_ref", 1},
    {"float8_e4m3b11fnuz", "float8_e4m3b11fnuz_ref", 1},
    {"float8_e5m2fnuz", "float8_e5m2fnuz_ref", 1},
    {"int4", "int4_ref", 1},
    {"uint4", "uint4_ref", 1},
    {"int2", "int2_ref", 1},
    {"uint2", "uint2_ref", 1},
    {"float4_e2m1fn", "float4_e2m1fn_ref", 1},
};

#define COUNT ((belay_dtype)(sizeof types / sizeof types[0]))

const char *belay_dtype_name(belay_dtype dtype) {
    if (dtype >= 0 && dtype < COUNT)
        return types[dtype].name;
    if (dtype > REFERENCE && dtype - REFERENCE < COUNT)
        return types[dtype - REFERENCE].reference;
    return "unknown";
}

size_t belay_dtype_size(belay_dtype dtype) {
    if (dtype > REFERENCE)
        dtype -= REFERENCE;
    return dtype >= 0 && dtype < COUNT ? types[dtype].size : 0;
}
