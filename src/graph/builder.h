/* Adding ops to a graph. A builder remembers its first failure, so that a caller checks once, at
 * the end; after it every further call does nothing. */
#ifndef BLY_GRAPH_BUILDER_H
#define BLY_GRAPH_BUILDER_H

#include "graph/graph.h"

typedef struct bly_builder {
    belay_graph *graph;
    const bly_runtime *rt;
    char *scope; /* ends in '/', or is empty */
    belay_code code;
    belay_error *err; /* NULL, or the caller's */
    /* The op in the making. */
    TF_OperationDescription *op;
} bly_builder;

/* Starts a builder whose ops are named SCOPE/name. A scope that is taken gets a number: save,
 * save_1, ... (SV-09). Names within it are then the caller's to keep apart. FAILED_PRECONDITION on
 * a finalised graph. */
bly_builder bly_builder_start(belay_graph *graph, const char *scope, belay_error *err);
/* The same in a scope of belay's own, also on a finalised graph, and from any thread: for ops that
 * change nothing. */
bly_builder bly_builder_start_own(const belay_graph *graph, belay_error *err);
/* Frees the builder and returns its code. */
belay_code bly_builder_end(bly_builder *b);

/* One op: begin, then inputs and attributes in any order that TensorFlow takes, then finish.
 * Between the two `b->op` is NULL after a failure; all of these accept that. */
void bly_op_begin(bly_builder *b, const char *type, const char *name, const char *device);
void bly_op_input(bly_builder *b, TF_Output input);
void bly_op_inputs(bly_builder *b, const TF_Output *inputs, size_t count);
void bly_op_after(bly_builder *b, TF_Operation *op); /* a control input; NULL: none */
void bly_op_type(bly_builder *b, const char *attr, belay_dtype dtype);
void bly_op_types(bly_builder *b, const char *attr, const belay_dtype *dtypes, size_t count);
void bly_op_shape(bly_builder *b, const char *attr, const int64_t *dims, int32_t rank);
void bly_op_string(bly_builder *b, const char *attr, const char *value);
void bly_op_bool(bly_builder *b, const char *attr, int value);
TF_Operation *bly_op_finish(bly_builder *b);    /* NULL after a failure */
TF_Output bly_op_finish_output(bly_builder *b); /* its output 0 */

/* Constants. rank 0: one value. */
TF_Output bly_const_strings(bly_builder *b, const char *name, const char *device,
                            const char *const *values, size_t count, uint32_t rank);
TF_Output bly_const_int32(bly_builder *b, const char *name, const char *device,
                          const int32_t *values, size_t count, uint32_t rank);
TF_Output bly_const_integer(bly_builder *b, const char *name, const char *device, belay_dtype dtype,
                            int64_t value);

/* Reads a resource variable where it lives. */
TF_Output bly_read_variable(bly_builder *b, const char *name, TF_Output handle, belay_dtype dtype);

/* Makes `name` one that no op has, by appending _1, _2, ... The caller frees it; NULL when memory
 * is out. */
char *bly_unique_op_name(const belay_graph *graph, const char *name);

/* Adds an op that reads a resource variable, also to a finalised graph: belay's own, and it changes
 * nothing. */
belay_code bly_build_read(const belay_graph *graph, TF_Output handle, TF_Output *out,
                          belay_error *err);

/* DEVICE with its last part set to the CPU, as savers need it. The caller frees it; NULL when
 * memory is out. */
char *bly_device_on_cpu(const char *device);
/* "/cpu:0" -> "/device:CPU:0", and so on, so that equal devices are equal strings. */
char *bly_device_canonical(const char *device);

#endif
