/* Does a checkpoint belong to this graph? Asked before a byte is restored: TensorFlow itself would
 * put a tensor of another shape into a resource variable without a word (BUG-29). */
#include "checkpoint/saver_impl.h"

#include "base/buf.h"
#include "base/error.h"
#include "base/mem.h"
#include "graph/walk.h"

#include <string.h>

#define OBJECT_GRAPH_KEY "_CHECKPOINTABLE_OBJECT_GRAPH"

static belay_code missing(const belay_saver *saver, const bly_bundle *bundle, const char *key,
                          belay_error *err) {
    const char *near = bly_bundle_nearest(bundle, key);
    return bly_fail(err, BELAY_NOT_FOUND,
                    "Restoring from checkpoint failed. %s has no '%s', which %s needs%s%s%s: it is "
                    "a checkpoint of another model",
                    bly_bundle_prefix(bundle), key, saver->graph->path, near ? " (it has '" : "",
                    near ? near : "", near ? "')" : "");
}

static void put_shape(bly_buf *text, int32_t rank, const int64_t *dims) {
    bly_buf_putc(text, '[');
    for (int32_t i = 0; i < rank; i++)
        bly_buf_printf(text, dims[i] < 0 ? "%s?" : "%s%lld", i ? ", " : "", (long long)dims[i]);
    bly_buf_putc(text, ']');
}

static belay_code mismatch(const bly_bundle *bundle, const bly_bundle_tensor *tensor,
                           belay_dtype dtype, int32_t rank, const int64_t *dims, belay_error *err) {
    bly_buf text = BLY_BUF_INIT;
    bly_buf_printf(&text, "%s ", belay_dtype_name(tensor->dtype));
    put_shape(&text, tensor->rank, tensor->dims);
    bly_buf_printf(&text, " there, %s ", belay_dtype_name(dtype));
    put_shape(&text, rank, dims);
    belay_code code = bly_fail(
        err, BELAY_INVALID_ARGUMENT,
        "Restoring from checkpoint failed. '%s' of %s is %s in the graph: a mismatch between the "
        "current graph and the graph from the checkpoint",
        tensor->name, bly_bundle_prefix(bundle), bly_buf_text(&text));
    bly_buf_free(&text);
    return code;
}

static belay_code compare(const belay_saver *saver, const bly_bundle *bundle, const char *key,
                          belay_dtype dtype, int32_t rank, const int64_t *dims, belay_error *err) {
    const bly_bundle_tensor *tensor = bly_bundle_find(bundle, key);
    if (!tensor)
        return missing(saver, bundle, key, err);
    int same = tensor->dtype == dtype && (rank < 0 || tensor->rank == rank);
    for (int32_t i = 0; same && i < rank; i++)
        same = dims[i] < 0 || dims[i] == tensor->dims[i];
    return same ? BELAY_OK : mismatch(bundle, tensor, dtype, rank < 0 ? 0 : rank, dims, err);
}

/* A SavedModel hides its save and restore ops in functions. But it comes with a checkpoint of its
 * own, and another one must hold the same. */
static belay_code compare_with_own(belay_saver *saver, const bly_bundle *bundle, belay_error *err) {
    bly_bundle *own = bly_bundle_load(saver->graph->initial_checkpoint, err);
    if (!own)
        return belay_error_code(err) ? belay_error_code(err) : BELAY_DATA_LOSS;
    belay_code code = BELAY_OK;
    for (size_t i = 0; code == BELAY_OK && i < bly_bundle_count(own); i++) {
        const bly_bundle_tensor *tensor = bly_bundle_at(own, i);
        if (strcmp(tensor->name, OBJECT_GRAPH_KEY) == 0)
            continue; /* says how the exporter named things; the variables say what is needed */
        code = compare(saver, bundle, tensor->name, tensor->dtype, tensor->rank, tensor->dims, err);
    }
    bly_bundle_free(own);
    return code;
}

/* ---- graphs whose restore ops can be seen ---- */

/* The value of a Const that is input number `index` of `op`; NULL where it is none. The caller
 * deletes it. */
static TF_Tensor *constant_input(const belay_graph *graph, TF_Operation *op, int index) {
    const bly_runtime *rt = graph->rt;
    TF_Operation *from = rt->OperationInput((TF_Input){op, index}).oper;
    TF_Tensor *value = NULL;
    if (strcmp(rt->OperationOpType(from), "Const") != 0)
        return NULL;
    TF_Status *status = rt->NewStatus();
    rt->OperationGetAttrTensor(from, "value", &value, status);
    rt->DeleteStatus(status);
    return value;
}

static const bly_variable *variable_of_key(const belay_graph *graph, const char *key) {
    for (size_t i = 0; i < graph->variable_count; i++) {
        const bly_variable *variable = &graph->variables[i];
        if (!variable->slice_full_name && strcmp(variable->info.name, key) == 0)
            return variable;
    }
    return NULL;
}

static belay_code check_key(belay_saver *saver, const bly_bundle *bundle, const char *key,
                            belay_error *err) {
    const bly_variable *variable = variable_of_key(saver->graph, key);
    if (variable)
        return compare(saver, bundle, key, variable->info.dtype, variable->info.rank,
                       variable->info.dims, err);
    return bly_bundle_find(bundle, key) ? BELAY_OK : missing(saver, bundle, key, err);
}

static belay_code check_restore_op(belay_saver *saver, const bly_bundle *bundle, TF_Operation *op,
                                   belay_error *err) {
    const bly_runtime *rt = saver->graph->rt;
    belay_code code = BELAY_OK;
    TF_Tensor *names = constant_input(saver->graph, op, 1);
    if (!names)
        return BELAY_OK; /* names that are computed: TensorFlow itself will tell */
    const TF_TString *strings = rt->TensorData(names);
    for (int64_t i = 0; code == BELAY_OK && i < rt->TensorElementCount(names); i++) {
        char *key =
            bly_strndup(rt->StringGetDataPointer(&strings[i]), rt->StringGetSize(&strings[i]));
        code = key ? check_key(saver, bundle, key, err) : bly_fail_memory(err);
        bly_free(key);
    }
    rt->DeleteTensor(names);
    return code;
}

static int is_restore(const belay_graph *graph, const TF_Operation *op) {
    return strcmp(graph->rt->OperationOpType((TF_Operation *)(uintptr_t)op), "RestoreV2") == 0;
}

belay_code bly_saver_check_compatible(belay_saver *saver, const bly_bundle *bundle,
                                      belay_error *err) {
    belay_graph *graph = saver->graph;
    if (graph->is_saved_model && graph->initial_checkpoint)
        return compare_with_own(saver, bundle, err);
    TF_Operation *restore = bly_graph_find_op(graph, saver->def->restore_op_name, err);
    if (!restore)
        return BELAY_INVALID_ARGUMENT;
    bly_op_set ops = BLY_OP_SET_INIT;
    belay_code code = bly_graph_walk_back(graph, &restore, 1, NULL, 0, is_restore, &ops, err);
    for (size_t i = 0; code == BELAY_OK && i < ops.capacity; i++)
        if (ops.slots[i] && is_restore(graph, ops.slots[i]))
            code = check_restore_op(saver, bundle, ops.slots[i], err);
    bly_op_set_free(&ops);
    return code;
}
