/* What only src/graph knows of a graph: tables made once from its MetaGraphDef, and what is wrong
 * with it. */
#ifndef BLY_GRAPH_INDEX_H
#define BLY_GRAPH_INDEX_H

#include "base/error.h"
#include "graph/graph.h"

#define BLY_NO_OUTPUT ((TF_Output){NULL, 0})

/* A collection, with a name for each element that has one. */
typedef struct bly_collection {
    const char *name; /* belongs to `def`'s entry in graph->meta */
    Bly__CollectionDef *def;
    char **names; /* op names of VariableDefs; NULL for other collections */
    size_t name_count;
    size_t name_capacity;
} bly_collection;

typedef struct bly_signature {
    const char *name;
    const Bly__SignatureDef *def;
    belay_signature_tensor *tensors; /* inputs, then outputs */
    size_t input_count;
    size_t output_count;
    int64_t *dims; /* of all tensors */
} bly_signature;

/* A read of the global step after given writers (bly_graph_step_after). */
typedef struct bly_step_read {
    TF_Operation **writers; /* in the graph's order */
    size_t writer_count;
    TF_Output read;
} bly_step_read;

struct bly_graph_index {
    bly_collection *collections; /* sorted by name */
    size_t collection_count;
    size_t collection_capacity;
    Bly__SaverDef *saver;      /* the first of collection `savers`; NULL: none */
    bly_signature *signatures; /* sorted by name, TensorFlow's own included */
    size_t signature_count;
    char **problems;
    size_t problem_count;
    size_t problem_capacity;
    belay_error step_error;    /* why there is no usable global step, where there is something that
                                  looks like one */
    bly_step_read *step_reads; /* guarded by graph->lock */
    size_t step_read_count;
    size_t step_read_capacity;
    unsigned serial; /* guarded by graph->lock: numbers nodes that are added after finalisation */
};

/* Made by bly_graph_from_bytes() in this order; each cleans up what it made when it fails. */
belay_code bly_collections_load(belay_graph *graph, belay_error *err);
belay_code bly_signatures_load(belay_graph *graph, belay_error *err);
belay_code bly_variables_load(belay_graph *graph, belay_error *err);
belay_code bly_global_step_load(belay_graph *graph, belay_error *err);
belay_code bly_saved_model_load(belay_graph *graph, const char *folder, belay_error *err);
belay_code bly_problems_find(belay_graph *graph, belay_error *err);
void bly_collections_free(struct bly_graph_index *index);
void bly_signatures_free(struct bly_graph_index *index);

/* An empty graph over a runtime. */
belay_graph *bly_graph_new(const bly_runtime *rt, const char *path, belay_error *err);

/* Adds a sentence for belay_graph_problem(). */
belay_code bly_graph_add_problem(belay_graph *graph, belay_error *err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

bly_collection *bly_collection_find(const belay_graph *graph, const char *name);
/* Op name of a tensor's ("w:0" -> "w"); the caller frees it. */
char *bly_op_name_of(const char *tensor);
/* Splits "op:1"; 0 where there is no such ending, and then *out_index is 0. */
int bly_split_tensor_name(const char *name, size_t *out_op_len, int *out_index);
/* The op of a name, or NULL without an error. */
TF_Operation *bly_graph_op_of(const belay_graph *graph, const char *op_or_tensor);
/* The output of a name, or oper NULL without an error. */
TF_Output bly_graph_output_of(const belay_graph *graph, const char *op_or_tensor);

/* Type of an output without its "reference to". */
belay_dtype bly_output_dtype(const belay_graph *graph, TF_Output output);
int bly_output_is_ref(const belay_graph *graph, TF_Output output);
int bly_op_is(const belay_graph *graph, const TF_Operation *op, const char *type);
/* An op of the graph that reads a variable and runs nothing else; oper NULL: none. */
TF_Output bly_find_read(const belay_graph *graph, TF_Output handle);
/* Type and shape of a variable's op. *out_dims is freed by the caller; *out_rank -1: unknown. */
belay_code bly_variable_shape(const belay_graph *graph, TF_Operation *op, belay_dtype *out_dtype,
                              int32_t *out_rank, int64_t **out_dims, belay_error *err);
/* Puts a variable behind the global ones (before the local ones). Takes what it points to. */
belay_code bly_graph_add_variable(belay_graph *graph, const bly_variable *variable,
                                  belay_error *err);
void bly_variable_clear(bly_variable *variable);

#endif
