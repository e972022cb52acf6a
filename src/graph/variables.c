/* Variables of a graph: from the VariableDefs of its collections, or from its ops. */
#include "graph/index.h"

#include "base/buf.h"
#include "base/mem.h"
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

static int name_is_taken(const belay_graph *graph, const char *name) {
    for (size_t i = 0; i < graph->variable_count; i++)
        if (strcmp(graph->variables[i].info.name, name) == 0)
            return 1;
    return 0;
}

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
                          belay_error *err) {
    bly_variable variable = {.info = {.is_local = (uint32_t)is_local}};
    belay_code code;
    Bly__VariableDef *def =
        bly_wire_unpack(&bly__variable_def__descriptor, bytes.data, bytes.len, &code);
    if (!def)
        return bly_fail_memory(err); /* the collections were read already: damage was found then */
    code = from_def(graph, def, &variable, err);
    /* MG-23: one variable, though it is in several collections, or twice in one. */
    if (code == BELAY_OK && name_is_taken(graph, variable.info.name))
        bly_variable_clear(&variable);
    else if (code != BELAY_OK || (code = bly_graph_add_variable(graph, &variable, err)) != BELAY_OK)
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
static belay_code add_node(belay_graph *graph, const char *node, int is_local, belay_error *err) {
    TF_Operation *op = bly_graph_op_of(graph, node);
    if (!op)
        return missing(graph, node, "the op", node, err);
    return name_is_taken(graph, graph->rt->OperationName(op)) ? BELAY_OK
                                                              : add_op(graph, op, is_local, err);
}

static belay_code add_collection(belay_graph *graph, const char *name, int is_local,
                                 belay_error *err) {
    const Bly__CollectionDef *def = bly_graph_collection(graph, name);
    belay_code code = BELAY_OK;
    if (def && def->kind_case == BLY__COLLECTION_DEF__KIND_BYTES_LIST)
        for (size_t i = 0; i < def->bytes_list->n_value && code == BELAY_OK; i++)
            code = add_def(graph, def->bytes_list->value[i], is_local, err);
    else if (def && def->kind_case == BLY__COLLECTION_DEF__KIND_NODE_LIST)
        for (size_t i = 0; i < def->node_list->n_value && code == BELAY_OK; i++)
            code = add_node(graph, def->node_list->value[i], is_local, err);
    return code;
}

/* MG-24: an old exporter's VariableDef does not say; the collection does. */
static void mark_trainable(belay_graph *graph) {
    size_t count = belay_graph_collection_size(graph, "trainable_variables");
    for (size_t i = 0; i < count; i++) {
        const char *name = belay_graph_collection_node(graph, "trainable_variables", i);
        for (size_t j = 0; name && j < graph->variable_count; j++)
            if (strcmp(graph->variables[j].info.name, name) == 0)
                graph->variables[j].info.is_trainable = 1;
    }
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
    belay_code code = add_collection(graph, "variables", 0, err);
    if (code == BELAY_OK)
        code = add_collection(graph, "local_variables", 1, err);
    if (code == BELAY_OK && graph->variable_count == 0 && graph->is_saved_model)
        code = add_all_ops(graph, err);
    mark_trainable(graph);
    graph->has_reference_variables = has_reference_variables(graph);
    return code;
}

/* ---- the public face ---- */

size_t belay_graph_variable_count(const belay_graph *graph) {
    return graph ? graph->variable_count : 0;
}

const belay_variable *belay_graph_variable(const belay_graph *graph, size_t index) {
    return index < belay_graph_variable_count(graph) ? &graph->variables[index].info : NULL;
}
