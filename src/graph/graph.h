/* A loaded graph, as the layers above see it. */
#ifndef BLY_GRAPH_GRAPH_H
#define BLY_GRAPH_GRAPH_H

#include "base/thread.h"
#include "runtime/runtime.h"
#include "wire/graph.pb-c.h"

#include <belay/graph.h>

#include <stdatomic.h>

typedef struct bly_variable {
    belay_variable info; /* what the public face shows */
    TF_Output handle;    /* the variable op's output: a resource handle, or the reference itself */
    TF_Output snapshot;  /* reads the value; oper NULL where unknown */
    TF_Operation *initializer; /* NULL where the graph does not say */
    TF_Operation *op;
    /* A slice of a partitioned variable: checkpoint key and "full_shape offset,size:..." (SV-14);
     * NULL: a whole one. */
    char *slice_full_name;
    char *slice_spec;
} bly_variable;

/* The global step (GS-01, GS-10). */
typedef struct bly_global_step {
    TF_Output handle;    /* resource handle, reference or plain tensor; oper NULL: the graph has no
                            (usable) global step */
    TF_Output read;      /* value as a plain integer tensor */
    TF_Output initial;   /* the value that it starts from; oper NULL: not known */
    belay_dtype dtype;   /* any integer type (GS-02); BELAY_INT64 as a rule: read it with
                            bly_tensor_integer() */
    TF_Operation *count; /* belay's own increment, to be run in each step; NULL where the graph
                            counts itself */
    char *name;
    int is_resource;
} bly_global_step;

/* A file that belongs to a SavedModel: `path` is to be fed to `tensor` whenever initial_op runs. */
typedef struct bly_asset {
    TF_Output tensor;
    char *path;
} bly_asset;

struct belay_graph {
    atomic_int references;
    uint64_t id; /* of this graph alone, in this process */
    const bly_runtime *rt;
    TF_Graph *tf;
    char *path;
    int is_saved_model;
    Bly__MetaGraphDef *meta; /* without its graph_def, which TensorFlow holds */
    bly_variable *variables; /* collection `variables`, then `local_variables` */
    size_t variable_count;
    size_t local_count; /* how many of them are local: the last ones */
    bly_global_step global_step;
    int has_reference_variables; /* then fetched values may be live buffers (BUG-73) */
    int finalized;               /* guarded by lock */
    /* The saver that scaffolds of this graph share (SC-17), while one of them has it; guarded by
     * lock. It holds a reference to the graph, and takes itself out. */
    struct belay_saver *scaffold_saver;
    bly_mutex lock;
    /* SavedModel: bundle prefix of its own variables (NULL: none), op that initialises the rest
     * (NULL: none). */
    char *initial_checkpoint;
    TF_Operation *initial_op;
    bly_asset *assets;
    size_t asset_count;
    struct bly_graph_index *index; /* private to src/graph (index.h) */
};

belay_graph *bly_graph_ref(belay_graph *graph);

/* Makes a graph over a serialised MetaGraphDef; what belay_graph_load() ends in, and tests start
 * from. */
belay_graph *bly_graph_from_bytes(const char *path, const void *data, size_t len, belay_error *err);

/* "op" -> the operation. NOT_FOUND names the nearest op there is. */
TF_Operation *bly_graph_find_op(const belay_graph *graph, const char *name, belay_error *err);
/* "op:1", or "op" where it has exactly one output. NOT_FOUND (ER-03: no such operation, or no such
 * output of it), INVALID_ARGUMENT (ambiguous). A tensor that is a resource variable's handle
 * resolves to its value (BUG-56); where nothing in the graph reads the variable an op that does is
 * added, also after finalisation. */
belay_code bly_graph_find_output(const belay_graph *graph, const char *name, TF_Output *out,
                                 belay_error *err);
/* The same without resolving handles. */
belay_code bly_graph_find_raw_output(const belay_graph *graph, const char *name, TF_Output *out,
                                     belay_error *err);
/* Either: an op becomes a target, a tensor ("x:0") its op. */
TF_Operation *bly_graph_find_target(const belay_graph *graph, const char *name, belay_error *err);

/* "op:index" of an output, into `room` bytes. */
void bly_graph_output_name(const belay_graph *graph, TF_Output output, char *text, size_t room);

/* A collection as it was loaded and added to; NULL: none. Those of kind "not set" are left out
 * (MG-22). */
const Bly__CollectionDef *bly_graph_collection(const belay_graph *graph, const char *name);
/* Adds the name of an op or tensor. INVALID_ARGUMENT where the collection holds something else. */
belay_code bly_graph_add_to_collection(belay_graph *graph, const char *name, const char *node,
                                       belay_error *err);
/* Adds a serialised message (VariableDef, SaverDef, ...). */
belay_code bly_graph_add_bytes_to_collection(belay_graph *graph, const char *name, const void *data,
                                             size_t len, belay_error *err);

const Bly__SignatureDef *bly_graph_signature(const belay_graph *graph, const char *name);

/* SaverDefs of the graph: the top-level one, else the first of collection `savers`. NULL: none. */
const Bly__SaverDef *bly_graph_saver_def(const belay_graph *graph);
size_t
bly_graph_savers_count(const belay_graph *graph); /* elements of collection `savers` (SC-12) */

/* BELAY_OK where the graph has a global step that can be used; else why it cannot:
 * FAILED_PRECONDITION (there is none, or several reads of it, GS-04), INVALID_ARGUMENT (not an
 * integer, or not a scalar: GS-02, ER-36). */
belay_code bly_graph_check_global_step(const belay_graph *graph, belay_error *err);

/*
 * A tensor with the global step's value AFTER the run that fetches it, for a run with these feeds,
 * fetches and targets (name what hooks add, too). The plain read may come before or after the
 * increment (GS-07); this one comes after every op of that run which writes the step, or, without
 * such an op, after what it takes from queues: another thread may count, and hand out a token then.
 * Without either it is the plain read.
 *
 * out->oper is NULL where that cannot be proved: the step's handle goes into a function, or the
 * write happens inside a loop or a branch. Then read the step in a run of its own.
 *
 * Adds a node, also after finalisation; the same request gets the same node again. Any thread.
 */
belay_code bly_graph_step_after(belay_graph *graph, const TF_Output *feeds, size_t feed_count,
                                const TF_Output *fetches, size_t fetch_count,
                                TF_Operation *const *targets, size_t target_count, TF_Output *out,
                                belay_error *err);

/* FAILED_PRECONDITION once the graph is finalised; `what` is what was to be added (SC-19). */
belay_code bly_graph_check_open(const belay_graph *graph, const char *what, belay_error *err);
void bly_graph_set_finalized(belay_graph *graph, int finalized);

#endif
