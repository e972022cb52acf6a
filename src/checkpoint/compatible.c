/* Does a checkpoint belong to this graph? Asked before a byte is restored: TensorFlow itself would
 * put a tensor of another shape into a resource variable without a word (BUG-29). */
#include "checkpoint/saver_impl.h"

#include "base/buf.h"
#include "base/error.h"
#include "base/mem.h"
#include "graph/walk.h"

#include <stdlib.h>
#include <string.h>

static belay_code missing(const belay_graph *graph, const bly_bundle *bundle, const char *key,
                          belay_error *err) {
    const char *near = bly_bundle_nearest(bundle, key);
    return bly_fail(err, BELAY_NOT_FOUND,
                    "Restoring from checkpoint failed. %s has no '%s', which %s needs%s%s%s: it is "
                    "a checkpoint of another model",
                    bly_bundle_prefix(bundle), key, graph->path, near ? " (it has '" : "",
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

/* With `reshapes` as many elements are enough (SV-47). */
static belay_code compare(const belay_graph *graph, const bly_bundle *bundle, const char *key,
                          int reshapes, belay_dtype dtype, int32_t rank, const int64_t *dims,
                          belay_error *err) {
    const bly_bundle_tensor *tensor = bly_bundle_find(bundle, key);
    if (!tensor)
        return missing(graph, bundle, key, err);
    int64_t elements = 1;
    for (int32_t i = 0; i < rank; i++)
        elements = dims[i] < 0 || elements < 0 ? -1 : elements * dims[i];
    if (reshapes && rank >= 0 && elements >= 0)
        return tensor->dtype == dtype && tensor->elements == elements
                   ? BELAY_OK
                   : mismatch(bundle, tensor, dtype, rank, dims, err);
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
        if (strcmp(tensor->name, BLY_OBJECT_GRAPH_KEY) == 0)
            continue; /* says how the exporter named things; the variables say what is needed */
        code = compare(saver->graph, bundle, tensor->name, 0, tensor->dtype, tensor->rank,
                       tensor->dims, err);
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

static const bly_variable *variable_of_key(const belay_saver *saver, const char *key) {
    const belay_graph *graph = saver->graph;
    for (size_t i = 0; i < saver->listed_count; i++) {
        if (strcmp(saver->listed[i].key, key) != 0)
            continue;
        key = saver->listed[i].name;
        break;
    }
    for (size_t i = 0; i < graph->variable_count; i++) {
        const bly_variable *variable = &graph->variables[i];
        /* Any part of a partitioned one: each says what the whole is. */
        const char *called =
            variable->slice_full_name ? variable->slice_full_name : variable->info.name;
        if (strcmp(called, key) == 0)
            return variable;
    }
    return NULL;
}

belay_code bly_saver_compare(const belay_graph *graph, const bly_bundle *bundle, const char *key,
                             const bly_variable *variable, int reshapes, belay_error *err) {
    const belay_variable *info = &variable->info;
    if (!variable->slice_spec)
        return compare(graph, bundle, key, reshapes, info->dtype, info->rank, info->dims, err);
    /* "10 4 0,3:0,4": the whole's shape comes first, then the slice's place in it. */
    int64_t *dims = bly_calloc((size_t)(info->rank > 0 ? info->rank : 1), sizeof *dims);
    if (!dims)
        return bly_fail_memory(err);
    char *rest = variable->slice_spec;
    for (int32_t i = 0; i < info->rank; i++)
        dims[i] = strtoll(rest, &rest, 10);
    /* RestoreV2 itself wants the whole to be of that shape: nothing is left to reshape. */
    belay_code code = compare(graph, bundle, key, 0, info->dtype, info->rank, dims, err);
    bly_free(dims);
    return code;
}

struct checking {
    belay_saver *saver;
    const bly_bundle *bundle;
};

static belay_code check_key(void *self, const char *key, int reshapes, belay_error *err) {
    const struct checking *c = self;
    const bly_variable *variable = variable_of_key(c->saver, key);
    if (variable)
        return bly_saver_compare(c->saver->graph, c->bundle, key, variable, reshapes, err);
    return bly_bundle_find(c->bundle, key) ? BELAY_OK
                                           : missing(c->saver->graph, c->bundle, key, err);
}

/* SV-47: what the graph's own saver restores goes through a Reshape first. */
static int is_reshaped(const belay_graph *graph, TF_Output restored) {
    TF_Input consumer;
    return graph->rt->OperationOutputNumConsumers(restored) == 1 &&
           graph->rt->OperationOutputConsumers(restored, &consumer, 1) == 1 &&
           strcmp(graph->rt->OperationOpType(consumer.oper), "Reshape") == 0;
}

static belay_code each_key_of(belay_saver *saver, TF_Operation *op, bly_each_key *each, void *self,
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
        int reshapes = is_reshaped(saver->graph, (TF_Output){op, (int)i});
        code = key ? each(self, key, reshapes, err) : bly_fail_memory(err);
        bly_free(key);
    }
    rt->DeleteTensor(names);
    return code;
}

static int is_restore(const belay_graph *graph, const TF_Operation *op) {
    return strcmp(graph->rt->OperationOpType((TF_Operation *)(uintptr_t)op), "RestoreV2") == 0;
}

belay_code bly_saver_each_key(belay_saver *saver, bly_each_key *each, void *self,
                              belay_error *err) {
    belay_graph *graph = saver->graph;
    TF_Operation *restore = bly_graph_find_op(graph, saver->def->restore_op_name, err);
    if (!restore)
        return BELAY_INVALID_ARGUMENT;
    bly_op_set ops = BLY_OP_SET_INIT;
    belay_code code = bly_graph_walk_back(graph, &restore, 1, NULL, 0, is_restore, &ops, err);
    for (size_t i = 0; code == BELAY_OK && i < ops.capacity; i++)
        if (ops.slots[i] && is_restore(graph, ops.slots[i]))
            code = each_key_of(saver, ops.slots[i], each, self, err);
    bly_op_set_free(&ops);
    return code;
}

belay_code bly_saver_check_compatible(belay_saver *saver, const bly_bundle *bundle,
                                      belay_error *err) {
    struct checking c = {saver, bundle};
    if (saver->graph->is_saved_model && saver->graph->initial_checkpoint)
        return compare_with_own(saver, bundle, err);
    return bly_saver_each_key(saver, check_key, &c, err);
}
