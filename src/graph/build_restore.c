/* Ops of belay's own that restore variables from keys that a caller chooses. */
#include "graph/defaults.h"

#include "base/mem.h"
#include "graph/builder.h"
#include "graph/index.h"

#include <stdio.h>

#define ON_CPU "/device:CPU:0"

static TF_Output build_texts(bly_builder *b, const char *name, const bly_restored *items,
                             size_t count, int slices) {
    const char **texts = bly_calloc(count, sizeof *texts);
    if (!texts) {
        if (b->code == BELAY_OK)
            b->code = bly_fail_memory(b->err);
        return BLY_NO_OUTPUT;
    }
    for (size_t i = 0; i < count; i++) {
        const char *slice = items[i].variable->slice_spec;
        texts[i] = !slices ? items[i].key : slice ? slice : "";
    }
    TF_Output output = bly_const_strings(b, name, ON_CPU, texts, count, 1);
    bly_free(texts);
    return output;
}

static TF_Operation *build_read(bly_builder *b, const bly_restored *items, size_t count,
                                TF_Output prefix) {
    belay_dtype *dtypes = bly_calloc(count, sizeof *dtypes);
    if (!dtypes && b->code == BELAY_OK)
        b->code = bly_fail_memory(b->err);
    for (size_t i = 0; dtypes && i < count; i++)
        dtypes[i] = items[i].variable->info.dtype;
    TF_Output keys = build_texts(b, "RestoreV2/tensor_names", items, count, 0);
    TF_Output slices = build_texts(b, "RestoreV2/shape_and_slices", items, count, 1);
    TF_Operation *read = NULL;
    if (b->code == BELAY_OK) {
        bly_op_begin(b, "RestoreV2", "RestoreV2", ON_CPU);
        bly_op_input(b, prefix);
        bly_op_input(b, keys);
        bly_op_input(b, slices);
        bly_op_types(b, "dtypes", dtypes, count);
        read = bly_op_finish(b);
    }
    bly_free(dtypes);
    return read;
}

/* Nothing is assigned before all of it has the right shape. */
static TF_Operation *build_assigns(bly_builder *b, const bly_restored *items, size_t count,
                                   TF_Operation *read, TF_Output *values, TF_Operation **assigns) {
    char name[64];
    for (size_t i = 0; i < count; i++) {
        const belay_variable *variable = &items[i].variable->info;
        snprintf(name, sizeof name, "EnsureShape_%zu", i);
        bly_op_begin(b, "EnsureShape", name, NULL);
        bly_op_input(b, (TF_Output){read, (int)i});
        bly_op_shape(b, "shape", variable->dims, variable->rank);
        values[i] = bly_op_finish_output(b);
    }
    bly_op_begin(b, "NoOp", "checked", NULL);
    for (size_t i = 0; i < count; i++)
        bly_op_after(b, values[i].oper);
    TF_Operation *checked = bly_op_finish(b);
    for (size_t i = 0; i < count && b->code == BELAY_OK; i++) {
        const bly_variable *variable = items[i].variable;
        const char *device = b->rt->OperationDevice(variable->op);
        snprintf(name, sizeof name, "Assign_%zu", i);
        bly_op_begin(b, variable->info.is_resource ? "AssignVariableOp" : "Assign", name, device);
        bly_op_input(b, variable->handle);
        bly_op_input(b, values[i]);
        bly_op_after(b, checked);
        if (variable->info.is_resource)
            bly_op_type(b, "dtype", variable->info.dtype);
        else
            bly_op_bool(b, "validate_shape", 0);
        assigns[i] = bly_op_finish(b);
    }
    bly_op_begin(b, "NoOp", "restore", NULL);
    for (size_t i = 0; i < count; i++)
        bly_op_after(b, assigns[i]);
    return bly_op_finish(b);
}

belay_code bly_build_restore(const belay_graph *graph, const bly_restored *items, size_t count,
                             TF_Output *out_prefix, TF_Operation **out_restore, belay_error *err) {
    bly_builder b = bly_builder_start_own(graph, err);
    TF_Output *values = bly_calloc(count, sizeof *values);
    TF_Operation **assigns = bly_calloc(count, sizeof *assigns);
    if (b.code == BELAY_OK && (!values || !assigns))
        b.code = bly_fail_memory(err);
    if (b.code == BELAY_OK) {
        bly_op_begin(&b, "Placeholder", "prefix", ON_CPU);
        bly_op_type(&b, "dtype", BELAY_STRING);
        bly_op_shape(&b, "shape", NULL, 0);
        *out_prefix = bly_op_finish_output(&b);
        TF_Operation *read = build_read(&b, items, count, *out_prefix);
        if (b.code == BELAY_OK)
            *out_restore = build_assigns(&b, items, count, read, values, assigns);
    }
    bly_free(values);
    bly_free(assigns);
    return bly_builder_end(&b);
}
