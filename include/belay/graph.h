/**
 * Graphs: what is trained. Loaded once from a MetaGraphDef (`.meta`) or a SavedModel folder, then
 * shared by any number of sessions.
 *
 * Names are TensorFlow's: an operation "train", a tensor "loss:0" or, where the operation has one
 * output, "loss" (HK-LOG-06).
 */
#ifndef BELAY_GRAPH_H
#define BELAY_GRAPH_H

#include <belay/dtype.h>
#include <belay/error.h>

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct TF_Graph;

typedef struct belay_graph belay_graph;

/** Clear the device of every node on import (MG-28). */
#define BELAY_GRAPH_CLEAR_DEVICES (UINT32_C(1) << 0)

/** Options for belay_graph_load(). Zero in any field means "the default". */
typedef struct belay_graph_options {
    size_t struct_size;      /**< sizeof(belay_graph_options) in the caller's build. */
    const char *const *tags; /**< Tags of a SavedModel's meta graph, ending in NULL; NULL: the only
                                one, else "serve". */
    uint32_t flags;          /**< BELAY_GRAPH_* bits. */
    uint32_t reserved;       /**< Must be 0. */
} belay_graph_options;

/** Initialiser with every field at its default. */
#define BELAY_GRAPH_OPTIONS_INIT                                                                   \
    { sizeof(belay_graph_options), NULL, 0, 0 }

/**
 * Loads a graph: a MetaGraphDef file, or a SavedModel folder (TF1 or TF2); either in binary or in
 * protobuf's text form (MG-04). Of a binary file the graph itself is not parsed, but given to
 * TensorFlow as it is.
 *
 * Threads: any thread.
 * Blocks:  while files are read and TensorFlow imports the graph.
 *
 * @param path    File or folder.
 * @param options Borrowed for the call. NULL: all defaults.
 * @param err     Filled on error. May be NULL.
 * @return a graph that the caller releases with belay_graph_free(), or NULL:
 *   - BELAY_NOT_FOUND: there is no such file or folder, no TensorFlow, or no meta graph with these
 *     tags; or a collection names what is not in the graph (MG-22);
 *   - BELAY_DATA_LOSS: it is not a graph, or a damaged one (ER-33); for text the message begins
 *     with FILE:LINE:COLUMN;
 *   - BELAY_INVALID_ARGUMENT: it is a part of a graph, with inputs that nothing here can connect
 *     (MG-27);
 *   - any other code: as TensorFlow reported it; an op that it does not know is BELAY_NOT_FOUND,
 *     too.
 */
BELAY_API belay_graph *belay_graph_load(const char *path, const belay_graph_options *options,
                                        belay_error *err);

/** Gives up the caller's hold on a graph. Sessions keep their own, so the order does not matter.
 * NULL is fine. */
BELAY_API void belay_graph_free(belay_graph *graph);

/** The path it was loaded from. */
BELAY_API const char *belay_graph_path(const belay_graph *graph);

/** 1 where it was loaded from a SavedModel. */
BELAY_API uint32_t belay_graph_is_saved_model(const belay_graph *graph);

/** TensorFlow's graph. It belongs to `graph`. Ops may be added to it with TensorFlow's own calls
 * until it is finalised (SC-19), which nobody checks. Variables among them are not known to belay:
 * the init ops and savers that it builds leave them out. */
BELAY_API struct TF_Graph *belay_graph_raw(const belay_graph *graph);

/** 1 once it is finalised: then adding an op through belay is an error (ER-24).
 * belay_scaffold_finalize() does it, and so does opening a monitored session; closing that opens
 * the graph again, unless it was finalised before (MS-07). */
BELAY_API uint32_t belay_graph_is_finalized(const belay_graph *graph);

/** Number of collections; their names in sorted order. */
BELAY_API size_t belay_graph_collection_count(const belay_graph *graph);
BELAY_API const char *belay_graph_collection_name(const belay_graph *graph, size_t index);

/** What a collection holds (MG-05). */
typedef uint32_t belay_collection_kind;

#define BELAY_COLLECTION_NONE   ((belay_collection_kind)0)
#define BELAY_COLLECTION_NODES  ((belay_collection_kind)1)
#define BELAY_COLLECTION_BYTES  ((belay_collection_kind)2)
#define BELAY_COLLECTION_INT64  ((belay_collection_kind)3)
#define BELAY_COLLECTION_FLOATS ((belay_collection_kind)4)
#define BELAY_COLLECTION_ANY    ((belay_collection_kind)5)

/** Kind and number of elements of a collection; 0 elements of kind NONE where there is no such
 * collection. */
BELAY_API belay_collection_kind belay_graph_collection_kind(const belay_graph *graph,
                                                            const char *name);
BELAY_API size_t belay_graph_collection_size(const belay_graph *graph, const char *name);

/** An element of a collection of nodes (an op's or a tensor's name), or of variables (the
 * variable's op name); NULL where there is none. */
BELAY_API const char *belay_graph_collection_node(const belay_graph *graph, const char *name,
                                                  size_t index);

/** An element of a collection of bytes; of one of messages (BELAY_COLLECTION_ANY): a serialised
 * google.protobuf.Any. It belongs to the graph and may hold zero bytes. NULL and size 0 where there
 * is none. */
BELAY_API const void *belay_graph_collection_bytes(const belay_graph *graph, const char *name,
                                                   size_t index, size_t *out_size);

/** 1 and an element of a collection of integers or floats; 0 where there is none. */
BELAY_API uint32_t belay_graph_collection_int64(const belay_graph *graph, const char *name,
                                                size_t index, int64_t *out);
BELAY_API uint32_t belay_graph_collection_float(const belay_graph *graph, const char *name,
                                                size_t index, float *out);

/** A variable. Strings belong to the graph. */
typedef struct belay_variable {
    const char *name;    /**< Op name, without ":0". */
    belay_dtype dtype;   /**< Element type. */
    int32_t rank;        /**< -1: unknown. */
    const int64_t *dims; /**< `rank` sizes; -1: unknown. */
    const char
        *initializer; /**< Name of the op that initialises it; NULL where the graph does not say. */
    uint32_t is_resource; /**< 0: a reference variable. */
    uint32_t is_local;    /**< In `local_variables`: not part of a checkpoint. */
    uint32_t is_trainable;
    uint32_t reserved;
} belay_variable;

/** Variables of the collections `variables` and `local_variables`; a SavedModel without those: its
 * variable ops. */
BELAY_API size_t belay_graph_variable_count(const belay_graph *graph);
BELAY_API const belay_variable *belay_graph_variable(const belay_graph *graph, size_t index);

/** Signatures, in sorted order. Names that start with "__" are TensorFlow's own and not listed. */
BELAY_API size_t belay_graph_signature_count(const belay_graph *graph);
BELAY_API const char *belay_graph_signature_name(const belay_graph *graph, size_t index);
BELAY_API uint32_t belay_graph_has_signature(const belay_graph *graph, const char *signature);

/** An input or output of a signature. Strings belong to the graph. */
typedef struct belay_signature_tensor {
    const char *name;   /**< Its name in the signature. */
    const char *tensor; /**< The graph's tensor, "op:0". */
    belay_dtype dtype;
    int32_t rank;        /**< -1: unknown. */
    const int64_t *dims; /**< `rank` sizes; -1: unknown. */
} belay_signature_tensor;

/** Inputs and outputs in sorted order of their names; NULL, 0 where there is none. */
BELAY_API size_t belay_graph_signature_input_count(const belay_graph *graph, const char *signature);
BELAY_API const belay_signature_tensor *
belay_graph_signature_input(const belay_graph *graph, const char *signature, size_t index);
BELAY_API size_t belay_graph_signature_output_count(const belay_graph *graph,
                                                    const char *signature);
BELAY_API const belay_signature_tensor *
belay_graph_signature_output(const belay_graph *graph, const char *signature, size_t index);

/** 1 where the graph has a tensor of this name; then dtype and shape are set (rank -1: unknown; at
 * most `dims_room` sizes are written). */
BELAY_API uint32_t belay_graph_tensor_info(const belay_graph *graph, const char *tensor,
                                           belay_dtype *out_dtype, int32_t *out_rank,
                                           int64_t *out_dims, uint32_t dims_room);

/** 1 where the graph has an operation of this name. */
BELAY_API uint32_t belay_graph_has_op(const belay_graph *graph, const char *op);

/** Number of operations. */
BELAY_API size_t belay_graph_op_count(const belay_graph *graph);

/** The global step's variable (GS-01), or NULL where the graph has none. Where there are several
 * that counts as none, and is logged as an error. */
BELAY_API const char *belay_graph_global_step_name(const belay_graph *graph);

/**
 * Can hooks go by the graph's global step?
 *
 * @param user Who needs it, for the message; NULL: nobody.
 * @return BELAY_OK, or
 *   - BELAY_FAILED_PRECONDITION: there is none (ER-29), or the graph caches several reads of it
 *     (GS-04);
 *   - BELAY_INVALID_ARGUMENT: it is not an integer, or not a scalar (ER-36).
 */
BELAY_API belay_code belay_graph_check_global_step(const belay_graph *graph, const char *user,
                                                   belay_error *err);

/**
 * Gives a graph without a global step one: an int64 variable `global_step` that starts at 0 (GS-03)
 * and grows by one in every step of a monitored session (belay_step_run()), whatever the step runs.
 * The increment is the op `belay_global_step/count`, which those steps get as a further target;
 * runs of a plain session count only where they name it. It runs after `after`.
 *
 * @param after Names of ops or tensors, ending in NULL, after which a run counts, and which every
 *              counting run so runs; NULL: none. An op that fails is so not counted.
 * @param err   Filled on error. May be NULL.
 * @return BELAY_OK, or
 *   - BELAY_ALREADY_EXISTS: there is one (ER-36);
 *   - BELAY_NOT_FOUND: no such op;
 *   - BELAY_INVALID_ARGUMENT: a name in `after` is ambiguous, or what the graph calls its global
 *     step is no integer scalar (GS-02);
 *   - BELAY_FAILED_PRECONDITION: the graph is finalised.
 */
BELAY_API belay_code belay_graph_create_global_step(belay_graph *graph, const char *const *after,
                                                    belay_error *err);

/** What somebody should know about this graph before training it: one sentence each. */
BELAY_API size_t belay_graph_problem_count(const belay_graph *graph);
BELAY_API const char *belay_graph_problem(const belay_graph *graph, size_t index);

/** Write protobuf's text form instead of the binary one. */
#define BELAY_META_GRAPH_AS_TEXT (UINT32_C(1) << 0)
/** Leave out the device of every node. */
#define BELAY_META_GRAPH_CLEAR_DEVICES (UINT32_C(1) << 1)
/** Leave out the name scopes of all savers but the one that the file is written for, and name only
 * that in collection `savers` (MG-29). */
#define BELAY_META_GRAPH_CLEAR_EXTRANEOUS_SAVERS (UINT32_C(1) << 2)

/** Options for writing a MetaGraphDef. Zero in any field means "the default". */
typedef struct belay_meta_graph_options {
    size_t struct_size; /**< sizeof(belay_meta_graph_options) in the caller's build. */
    uint32_t flags;     /**< BELAY_META_GRAPH_* bits. */
    uint32_t reserved;  /**< Must be 0. */
} belay_meta_graph_options;

/** Initialiser with every field at its default. */
#define BELAY_META_GRAPH_OPTIONS_INIT                                                              \
    { sizeof(belay_meta_graph_options), 0, 0 }

/**
 * Writes the graph as it is now, with its collections, as a MetaGraphDef that belay loads, Python
 * imports (tf.compat.v1.train.import_meta_graph) and either trains. The file is replaced
 * atomically; its folder is made where it is missing. Its saver_def is the graph's own;
 * belay_saver_export_meta_graph() writes that of a saver. Nodes carry the shapes that TensorFlow
 * infers (MG-03), and in text form it is what Python's text_format prints.
 *
 * A table or iterator whose initialiser no collection names is not rebuilt by who imports the file:
 * belay_graph_problem() names it, and loading warns of it (BUG-62).
 *
 * Threads: any thread, while nobody adds to the graph.
 *
 * @param options Borrowed for the call. NULL: all defaults.
 * @return BELAY_OK, or
 *   - BELAY_INVALID_ARGUMENT: an option is malformed, or the graph takes more than 2 GB (MG-30);
 *   - any other code: as the file system reported it.
 */
BELAY_API belay_code belay_graph_export_meta_graph(const belay_graph *graph, const char *path,
                                                   const belay_meta_graph_options *options,
                                                   belay_error *err);

/**
 * Writes the graph alone, as a GraphDef: tf.io.write_graph() (EV-22). Otherwise as
 * belay_graph_export_meta_graph().
 *
 * @param as_text 1: protobuf's text form, as in graph.pbtxt; 0: binary.
 */
BELAY_API belay_code belay_graph_write(const belay_graph *graph, const char *path, uint32_t as_text,
                                       belay_error *err);

#ifdef __cplusplus
}
#endif

#endif
