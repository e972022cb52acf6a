/* Variables of a graph: from the VariableDefs of its collections, or from its ops. */
#include "graph/index.h"

#include "base/buf.h"
#include "base/mem.h"
#include "graph/walk.h"
#include "wire/unpack.h"

#include <inttypes.h>
#include <string.h>

/* ---- what an op says ---- */

belay_code bly_variable_shape(const belay_graph *graph, TF_Operation *op, belay_dtype *out_dtype,
                              int32_t *out_rank, int64_t **out_dims, belay_error *err) {
    const bly_runtime *rt = graph->rt;
    TF_Status *status = rt->NewStatus();
    TF_DataType dtype = (TF_DataType)BELAY_INVALID_DTYPE;
    belay_code code;
    *out_rank = -1;
    *out_dims = NULL;
    rt->OperationGetAttrType(op, "dtype", &dtype, status);
    *out_dtype = (belay_dtype)dtype;
    if (rt->GetCode(status) == TF_OK) {
        TF_AttrMetadata shape = rt->OperationGetAttrMetadata(op, "shape", status);
        if (rt->GetCode(status) == TF_OK && shape.total_size >= 0) {
            *out_dims = bly_calloc((size_t)shape.total_size, sizeof **out_dims);
            if (!*out_dims) {
                rt->DeleteStatus(status);
                return bly_fail_memory(err);
            }
            rt->OperationGetAttrShape(op, "shape", *out_dims, (int)shape.total_size, status);
            *out_rank = (int32_t)shape.total_size;
        }
    }
    code = bly_runtime_finish(rt, status, err);
    if (code != BELAY_OK) {
        bly_error_prefix(err, "%s: variable '%s': ", graph->path, rt->OperationName(op));
        bly_free(*out_dims);
        *out_dims = NULL;
        *out_rank = -1;
    }
    return code;
}

static int reads(const belay_graph *graph, const TF_Operation *op, int is_ref) {
    return bly_op_is(graph, op, is_ref ? "Identity" : "ReadVariableOp") &&
           graph->rt->OperationNumControlInputs((TF_Operation *)(uintptr_t)op) == 0;
}

TF_Output bly_find_read(const belay_graph *graph, TF_Output handle) {
    const bly_runtime *rt = graph->rt;
    TF_Output found = BLY_NO_OUTPUT;
    int count = rt->OperationOutputNumConsumers(handle);
    TF_Input *consumers = count > 0 ? bly_calloc((size_t)count, sizeof *consumers) : NULL;
    if (!consumers)
        return found;
    count = rt->OperationOutputConsumers(handle, consumers, count);
    int is_ref = bly_output_is_ref(graph, handle);
    for (int i = 0; i < count && !found.oper; i++)
        if (reads(graph, consumers[i].oper, is_ref))
            found = (TF_Output){consumers[i].oper, 0};
    bly_free(consumers);
    return found;
}

/* ---- adding one ---- */

belay_code bly_graph_add_variable(belay_graph *graph, const bly_variable *variable,
                                  belay_error *err) {
    bly_variable *all =
        bly_realloc(graph->variables, (graph->variable_count + 1) * sizeof *graph->variables);
    if (!all)
        return bly_fail_memory(err);
    graph->variables = all;
    size_t at = graph->variable_count - (variable->info.is_local ? 0 : graph->local_count);
    memmove(&all[at + 1], &all[at], (graph->variable_count - at) * sizeof *all);
    all[at] = *variable;
    graph->variable_count++;
    graph->local_count += variable->info.is_local ? 1 : 0;
    return BELAY_OK;
}

/* What the op itself says: name, type, shape, kind. */
static belay_code describe(const belay_graph *graph, TF_Operation *op, bly_variable *out,
                           belay_error *err) {
    int64_t *dims = NULL;
    out->op = op;
    out->handle = (TF_Output){op, 0};
    out->info.name = bly_strdup(graph->rt->OperationName(op));
    if (!out->info.name)
        return bly_fail_memory(err);
    out->info.is_resource = !bly_output_is_ref(graph, out->handle);
    belay_code code = bly_variable_shape(graph, op, &out->info.dtype, &out->info.rank, &dims, err);
    out->info.dims = dims;
    return code;
}

/* ---- from a VariableDef ---- */

/* "10 4 0,4:0,4": the whole's shape, then offset and size of each dimension, as SaveV2 wants it. */
static belay_code read_slice(const belay_graph *graph, const Bly__SaveSliceInfoDef *slice,
                             bly_variable *out, belay_error *err) {
    bly_buf text = BLY_BUF_INIT;
    if (!slice || slice->n_full_shape == 0)
        return BELAY_OK;
    if (slice->n_var_offset != slice->n_full_shape || slice->n_var_shape != slice->n_full_shape)
        return bly_fail(err, BELAY_DATA_LOSS,
                        "%s: the place of variable '%s' in '%s' makes no sense", graph->path,
                        out->info.name, slice->full_name);
    for (size_t i = 0; i < slice->n_full_shape; i++)
        bly_buf_printf(&text, "%" PRId64 " ", slice->full_shape[i]);
    for (size_t i = 0; i < slice->n_full_shape; i++)
        bly_buf_printf(&text, "%s%" PRId64 ",%" PRId64, i ? ":" : "", slice->var_offset[i],
                       slice->var_shape[i]);
    out->slice_full_name = bly_strdup(slice->full_name);
    out->slice_spec = bly_buf_take(&text);
    return out->slice_full_name && out->slice_spec ? BELAY_OK : bly_fail_memory(err);
}

static belay_code missing(const belay_graph *graph, const char *variable, const char *what,
                          const char *name, belay_error *err) {
    return bly_fail(err, BELAY_DATA_LOSS,
                    "%s does not fit together: %s '%s' of variable '%s' is not in the graph",
                    graph->path, what, name, variable);
}

static belay_code from_def(const belay_graph *graph, const Bly__VariableDef *def, bly_variable *out,
                           belay_error *err) {
    TF_Output handle = bly_graph_output_of(graph, def->variable_name);
    if (!handle.oper)
        return missing(graph, def->variable_name, "the op", def->variable_name, err);
    belay_code code = describe(graph, handle.oper, out, err);
    if (code != BELAY_OK)
        return code;
    out->handle = handle;
    out->info.is_trainable = def->trainable ? 1 : 0;
    if (def->initializer_name[0]) {
        out->initializer = bly_graph_op_of(graph, def->initializer_name);
        if (!out->initializer)
            return missing(graph, out->info.name, "the initializer", def->initializer_name, err);
        out->info.initializer = bly_strdup(graph->rt->OperationName(out->initializer));
        if (!out->info.initializer)
            return bly_fail_memory(err);
    }
    out->snapshot = def->snapshot_name[0] ? bly_graph_output_of(graph, def->snapshot_name)
                                          : bly_find_read(graph, handle);
    if (def->snapshot_name[0] && !out->snapshot.oper)
        return missing(graph, out->info.name, "the value", def->snapshot_name, err);
    return read_slice(graph, def->save_slice_info_def, out, err);
}

static belay_code add_def(belay_graph *graph, ProtobufCBinaryData bytes, int is_local,
                          bly_op_set *seen, belay_error *err) {
    bly_variable variable = {.info = {.is_local = (uint32_t)is_local}};
    belay_code code;
    Bly__VariableDef *def =
        bly_wire_unpack(&bly__variable_def__descriptor, bytes.data, bytes.len, &code);
    if (!def)
        return bly_fail_memory(err); /* the collections were read already: damage was found then */
    code = from_def(graph, def, &variable, err);
    int is_new = code == BELAY_OK ? bly_op_set_add(seen, variable.op) : 0;
    if (is_new < 0)
        code = bly_fail_memory(err);
    else if (is_new)
        code = bly_graph_add_variable(graph, &variable, err);
    if (code != BELAY_OK || !is_new)
        bly_variable_clear(&variable);
    bly_wire_free(def);
    return code;
}

/* ---- from an op ---- */

static int is_variable_op(const belay_graph *graph, const TF_Operation *op) {
    static const char *const types[] = {"VarHandleOp", "VariableV2", "Variable",
                                        "AutoReloadVariable"};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (bly_op_is(graph, op, types[i]))
            return 1;
    return 0;
}

static belay_code add_op(belay_graph *graph, TF_Operation *op, int is_local, belay_error *err) {
    bly_variable variable = {.info = {.is_local = (uint32_t)is_local}};
    belay_code code = describe(graph, op, &variable, err);
    if (code == BELAY_OK) {
        variable.snapshot = bly_find_read(graph, variable.handle);
        code = bly_graph_add_variable(graph, &variable, err);
    }
    if (code != BELAY_OK)
        bly_variable_clear(&variable);
    return code;
}

static belay_code add_all_ops(belay_graph *graph, belay_error *err) {
    belay_code code = BELAY_OK;
    TF_Operation *op;
    size_t at = 0;
    while (code == BELAY_OK && (op = graph->rt->GraphNextOperation(graph->tf, &at)) != NULL)
        if (is_variable_op(graph, op))
            code = add_op(graph, op, 0, err);
    return code;
}

/* MG-25: a collection that only has names. */
static belay_code add_node(belay_graph *graph, const char *node, int is_local, bly_op_set *seen,
                           belay_error *err) {
    TF_Operation *op = bly_graph_op_of(graph, node);
    if (!op)
        return missing(graph, node, "the op", node, err);
    int is_new = bly_op_set_add(seen, op);
    if (is_new < 0)
        return bly_fail_memory(err);
    return is_new ? add_op(graph, op, is_local, err) : BELAY_OK;
}

/* MG-23: `seen` makes one variable of one that is in several collections, or twice in one. */
static belay_code add_collection(belay_graph *graph, const char *name, int is_local,
                                 bly_op_set *seen, belay_error *err) {
    const Bly__CollectionDef *def = bly_graph_collection(graph, name);
    belay_code code = BELAY_OK;
    if (def && def->kind_case == BLY__COLLECTION_DEF__KIND_BYTES_LIST)
        for (size_t i = 0; i < def->bytes_list->n_value && code == BELAY_OK; i++)
            code = add_def(graph, def->bytes_list->value[i], is_local, seen, err);
    else if (def && def->kind_case == BLY__COLLECTION_DEF__KIND_NODE_LIST)
        for (size_t i = 0; i < def->node_list->n_value && code == BELAY_OK; i++)
            code = add_node(graph, def->node_list->value[i], is_local, seen, err);
    return code;
}

/* MG-24: an old exporter's VariableDef does not say; the collection does. */
static belay_code mark_trainable(belay_graph *graph, belay_error *err) {
    size_t count = belay_graph_collection_size(graph, "trainable_variables");
    bly_op_set trainable = BLY_OP_SET_INIT;
    int fine = 1;
    for (size_t i = 0; i < count && fine; i++) {
        const char *name = belay_graph_collection_node(graph, "trainable_variables", i);
        TF_Operation *op = name ? bly_graph_op_of(graph, name) : NULL;
        fine = !op || bly_op_set_add(&trainable, op) >= 0;
    }
    for (size_t i = 0; i < graph->variable_count && fine; i++)
        if (bly_op_set_has(&trainable, graph->variables[i].op))
            graph->variables[i].info.is_trainable = 1;
    bly_op_set_free(&trainable);
    return fine ? BELAY_OK : bly_fail_memory(err);
}

static int has_reference_variables(const belay_graph *graph) {
    TF_Operation *op;
    size_t at = 0;
    while ((op = graph->rt->GraphNextOperation(graph->tf, &at)) != NULL)
        if (graph->rt->OperationNumOutputs(op) == 1 && bly_output_is_ref(graph, (TF_Output){op, 0}))
            return 1;
    return 0;
}

belay_code bly_variables_load(belay_graph *graph, belay_error *err) {
    bly_op_set seen = BLY_OP_SET_INIT;
    belay_code code = add_collection(graph, "variables", 0, &seen, err);
    if (code == BELAY_OK)
        code = add_collection(graph, "local_variables", 1, &seen, err);
    if (code == BELAY_OK && graph->variable_count == 0 && graph->is_saved_model)
        code = add_all_ops(graph, err);
    if (code == BELAY_OK)
        code = mark_trainable(graph, err);
    graph->has_reference_variables = has_reference_variables(graph);
    bly_op_set_free(&seen);
    return code;
}

/* ---- the public face ---- */

size_t belay_graph_variable_count(const belay_graph *graph) {
    return graph ? graph->variable_count : 0;
}

const belay_variable *belay_graph_variable(const belay_graph *graph, size_t index) {
    return index < belay_graph_variable_count(graph) ? &graph->variables[index].info : NULL;
}
