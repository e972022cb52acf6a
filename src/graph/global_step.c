/* The global step: finding it (GS-01, GS-02, BUG-57), and giving a graph one (GS-03). */
#include "graph/index.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "graph/builder.h"

#include <string.h>

#define STEP_NAME "global_step"

static int is_integer(belay_dtype dtype) {
    switch (dtype) {
    case BELAY_INT8:
    case BELAY_UINT8:
    case BELAY_INT16:
    case BELAY_UINT16:
    case BELAY_INT32:
    case BELAY_UINT32:
    case BELAY_INT64:
    case BELAY_UINT64:
        return 1;
    default:
        return 0;
    }
}

/* ---- finding it ---- */

/* The tensor that the graph calls its global step; oper NULL: none. */
static TF_Output find_candidate(belay_graph *graph) {
    size_t count = belay_graph_collection_size(graph, STEP_NAME);
    if (count > 1) {
        bly_graph_add_problem(
            graph, NULL, "collection 'global_step' has %zu members; it counts as empty", count);
        return BLY_NO_OUTPUT;
    }
    const char *name = count == 1 ? belay_graph_collection_node(graph, STEP_NAME, 0) : STEP_NAME;
    return name ? bly_graph_output_of(graph, name) : BLY_NO_OUTPUT;
}

/* Type and shape of what the step holds. */
static belay_code describe(const belay_graph *graph, TF_Output step, belay_dtype *out_dtype,
                           int32_t *out_rank, int *out_is_known, belay_error *err) {
    int64_t *dims = NULL;
    *out_is_known = 1;
    if (bly_op_is(graph, step.oper, "VarHandleOp") || bly_output_is_ref(graph, step)) {
        belay_code code = bly_variable_shape(graph, step.oper, out_dtype, out_rank, &dims, err);
        for (int32_t i = 0; code == BELAY_OK && i < *out_rank; i++)
            *out_is_known &= dims[i] >= 0;
        *out_is_known &= *out_rank >= 0;
        bly_free(dims);
        return code;
    }
    TF_Status *status = graph->rt->NewStatus();
    *out_dtype = bly_output_dtype(graph, step);
    *out_rank = graph->rt->GraphGetTensorNumDims(graph->tf, step, status);
    *out_is_known = *out_rank == 0; /* of a plain tensor only that much matters */
    return bly_runtime_finish(graph->rt, status, err);
}

/* GS-02. What is wrong is kept: a graph with an unusable step still loads. */
static belay_code check(belay_graph *graph, TF_Output step, belay_dtype *out_dtype,
                        belay_error *err) {
    belay_error *wrong = &graph->index->step_error;
    const char *name = graph->rt->OperationName(step.oper);
    int32_t rank;
    int is_known;
    belay_code code = describe(graph, step, out_dtype, &rank, &is_known, err);
    if (code != BELAY_OK)
        return code;
    if (!is_integer(*out_dtype))
        bly_fail(wrong, BELAY_INVALID_ARGUMENT,
                 "existing \"global_step\" ('%s') does not have integer type: %s", name,
                 belay_dtype_name(*out_dtype));
    else if (rank > 0 && is_known)
        bly_fail(wrong, BELAY_INVALID_ARGUMENT,
                 "existing \"global_step\" ('%s') is not a scalar: its rank is %d", name,
                 (int)rank);
    return BELAY_OK;
}

/* What reads it: the variable's own value, else the tensor that TensorFlow's hooks use (GS-04,
 * GS-10), else any op that does, else one that is added. */
static belay_code find_read(belay_graph *graph, bly_global_step *step, belay_error *err) {
    static const char cache[] = "global_step_read_op_cache";
    size_t cached = belay_graph_collection_size(graph, cache);
    if (cached > 1)
        bly_fail(&graph->index->step_error, BELAY_FAILED_PRECONDITION,
                 "there are %zu items in collection %s; there should be only one", cached, cache);
    for (size_t i = 0; i < graph->variable_count; i++) {
        const bly_variable *variable = &graph->variables[i];
        if (variable->handle.oper != step->handle.oper)
            continue;
        step->read = variable->snapshot;
        if (variable->initializer) /* GS-05: Assign and AssignVariableOp take the value second */
            step->initial = graph->rt->OperationInput((TF_Input){variable->initializer, 1});
    }
    if (!step->read.oper && !step->is_resource && !bly_output_is_ref(graph, step->handle))
        step->read = step->handle; /* a plain tensor is its own value */
    if (!step->read.oper && cached == 1) {
        const char *name = belay_graph_collection_node(graph, cache, 0);
        step->read = name ? bly_graph_output_of(graph, name) : BLY_NO_OUTPUT;
    }
    if (!step->read.oper)
        step->read = bly_find_read(graph, step->handle);
    if (!step->read.oper && !step->is_resource)
        step->read = step->handle; /* fetching a reference gives its value */
    return step->read.oper ? BELAY_OK : bly_build_read(graph, step->handle, &step->read, err);
}

belay_code bly_global_step_load(belay_graph *graph, belay_error *err) {
    bly_global_step step = {.handle = find_candidate(graph)};
    if (!step.handle.oper)
        return BELAY_OK;
    step.is_resource = bly_op_is(graph, step.handle.oper, "VarHandleOp");
    belay_code code = check(graph, step.handle, &step.dtype, err);
    int usable = graph->index->step_error.code == BELAY_OK;
    if (code == BELAY_OK && usable)
        code = find_read(graph, &step, err);
    if (code == BELAY_OK && graph->index->step_error.code != BELAY_OK)
        code = bly_graph_add_problem(graph, err, "%s", graph->index->step_error.message);
    if (code != BELAY_OK || !usable)
        return code;
    step.name = bly_strdup(graph->rt->OperationName(step.handle.oper));
    if (!step.name)
        return bly_fail_memory(err);
    graph->global_step = step;
    return BELAY_OK;
}

/* GS-01: said whenever somebody asks. */
static void say_several(const belay_graph *graph) {
    size_t count = belay_graph_collection_size(graph, STEP_NAME);
    if (count > 1)
        bly_error("%s: Multiple tensors in global_step collection: it has %zu, and counts as empty",
                  graph->path, count);
}

const char *belay_graph_global_step_name(const belay_graph *graph) {
    if (graph)
        say_several(graph);
    return graph ? graph->global_step.name : NULL;
}

belay_code bly_graph_check_global_step(const belay_graph *graph, belay_error *err) {
    if (graph->index->step_error.code != BELAY_OK) {
        bly_error_copy(err, &graph->index->step_error);
        return graph->index->step_error.code;
    }
    if (graph->global_step.handle.oper)
        return BELAY_OK;
    say_several(graph);
    return bly_fail(err, BELAY_FAILED_PRECONDITION, "the graph has no global step");
}

belay_code belay_graph_check_global_step(const belay_graph *graph, const char *user,
                                         belay_error *err) {
    if (!graph)
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "graph is NULL");
    belay_code code = bly_graph_check_global_step(graph, err);
    if (code == BELAY_OK || graph->index->step_error.code != BELAY_OK || !user)
        return code;
    return bly_fail(err, code, "Global step should be created to use %s.", user);
}

/* ---- making one ---- */

/* The ops that a run counts after, found before anything is added. The caller frees *out. */
static belay_code find_after(const belay_graph *graph, const char *const *after,
                             TF_Operation ***out, size_t *out_count, belay_error *err) {
    size_t count = bly_count_names(after);
    BLY_LOCAL_ERROR(mine);
    TF_Operation **ops = bly_calloc(count, sizeof(TF_Operation *));
    *out = NULL;
    *out_count = count;
    if (!ops)
        return bly_fail_memory(err);
    for (size_t i = 0; i < count; i++) {
        ops[i] = bly_graph_find_target(graph, after[i], &mine);
        if (!ops[i]) {
            bly_free(ops);
            bly_error_copy(err, &mine);
            return mine.code;
        }
    }
    *out = ops;
    return BELAY_OK;
}

struct made {
    TF_Operation *handle;
    TF_Operation *zeros;
    TF_Operation *assign;
    TF_Operation *read;
    TF_Operation *count;
};

static TF_Operation *assign(bly_builder *b, const char *type, const char *name, TF_Output handle,
                            TF_Output value, TF_Operation *const *after, size_t after_count) {
    bly_op_begin(b, type, name, NULL);
    bly_op_input(b, handle);
    bly_op_input(b, value);
    for (size_t i = 0; i < after_count; i++)
        bly_op_after(b, after[i]);
    bly_op_type(b, "dtype", BELAY_INT64);
    return bly_op_finish(b);
}

/* The ops under the names that TensorFlow gives them. */
static belay_code build(belay_graph *graph, TF_Operation *const *after, size_t after_count,
                        struct made *out, belay_error *err) {
    bly_builder b = bly_builder_start(graph, "", err);
    bly_op_begin(&b, "VarHandleOp", STEP_NAME, NULL);
    bly_op_type(&b, "dtype", BELAY_INT64);
    bly_op_shape(&b, "shape", NULL, 0);
    bly_op_string(&b, "shared_name", STEP_NAME);
    TF_Output handle = bly_op_finish_output(&b);
    TF_Output zeros = bly_const_integer(&b, STEP_NAME "/Initializer/zeros", NULL, BELAY_INT64, 0);
    out->handle = handle.oper;
    out->zeros = zeros.oper;
    out->assign = assign(&b, "AssignVariableOp", STEP_NAME "/Assign", handle, zeros, NULL, 0);
    out->read = bly_read_variable(&b, STEP_NAME "/Read/ReadVariableOp", handle, BELAY_INT64).oper;
    TF_Output one = bly_const_integer(&b, "belay_global_step/one", NULL, BELAY_INT64, 1);
    out->count = assign(&b, "AssignAddVariableOp", "belay_global_step/count", handle, one, after,
                        after_count);
    return bly_builder_end(&b);
}

/* Its VariableDef into the collections, so that default init ops, savers and exports include it. */
static belay_code add_to_collections(belay_graph *graph, belay_error *err) {
    Bly__VariableDef def = BLY__VARIABLE_DEF__INIT;
    uint8_t bytes[256];
    def.variable_name = (char[]){STEP_NAME ":0"};
    def.initializer_name = (char[]){STEP_NAME "/Assign"};
    def.snapshot_name = (char[]){STEP_NAME "/Read/ReadVariableOp:0"};
    def.initial_value_name = (char[]){STEP_NAME "/Initializer/zeros:0"};
    def.is_resource = 1;
    size_t len = bly__variable_def__pack(&def, bytes);
    belay_code code = bly_graph_add_bytes_to_collection(graph, STEP_NAME, bytes, len, err);
    /* In a SavedModel without collections the variables are its ops: a collection with this one
     * alone would hide them. */
    if (code == BELAY_OK && (!graph->is_saved_model || bly_graph_collection(graph, "variables")))
        code = bly_graph_add_bytes_to_collection(graph, "variables", bytes, len, err);
    return code;
}

static belay_code add_to_variables(belay_graph *graph, const struct made *made, belay_error *err) {
    bly_variable variable = {.handle = {made->handle, 0},
                             .snapshot = {made->read, 0},
                             .initializer = made->assign,
                             .op = made->handle};
    variable.info.name = bly_strdup(STEP_NAME);
    variable.info.initializer = bly_strdup(STEP_NAME "/Assign");
    variable.info.dtype = BELAY_INT64;
    variable.info.is_resource = 1;
    belay_code code = variable.info.name && variable.info.initializer
                          ? bly_graph_add_variable(graph, &variable, err)
                          : bly_fail_memory(err);
    if (code != BELAY_OK)
        bly_variable_clear(&variable);
    return code;
}

static belay_code create(belay_graph *graph, TF_Operation *const *after, size_t after_count,
                         belay_error *err) {
    struct made made = {0};
    char *name = bly_strdup(STEP_NAME);
    belay_code code = name ? build(graph, after, after_count, &made, err) : bly_fail_memory(err);
    if (code == BELAY_OK)
        code = add_to_collections(graph, err);
    if (code == BELAY_OK)
        code = add_to_variables(graph, &made, err);
    if (code != BELAY_OK) {
        bly_free(name);
        return code;
    }
    graph->global_step = (bly_global_step){.handle = {made.handle, 0},
                                           .read = {made.read, 0},
                                           .initial = {made.zeros, 0},
                                           .dtype = BELAY_INT64,
                                           .count = made.count,
                                           .name = name,
                                           .is_resource = 1};
    return BELAY_OK;
}

belay_code belay_graph_create_global_step(belay_graph *graph, const char *const *after,
                                          belay_error *err) {
    TF_Operation **ops = NULL;
    size_t count = 0;
    if (!graph)
        return belay_error_code(err) != BELAY_OK
                   ? belay_error_code(err)
                   : bly_fail(err, BELAY_INVALID_ARGUMENT, "graph is NULL");
    if (!graph->global_step.handle.oper && graph->index->step_error.code != BELAY_OK)
        return bly_graph_check_global_step(graph, err);
    if (graph->global_step.handle.oper || belay_graph_has_op(graph, STEP_NAME))
        return bly_fail(err, BELAY_ALREADY_EXISTS, "\"global_step\" already exists");
    belay_code code = bly_graph_check_open(graph, "a global step", err);
    if (code == BELAY_OK)
        code = find_after(graph, after, &ops, &count, err);
    if (code == BELAY_OK)
        code = create(graph, ops, count, err);
    bly_free(ops);
    return code;
}
