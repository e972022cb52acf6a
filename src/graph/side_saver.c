/* A saver for the global step alone, and the op that joins its bundle with another one. */
#include "graph/defaults.h"

#include "graph/builder.h"
#include "graph/index.h"

static TF_Output placeholder(bly_builder *b, const char *name, const int64_t *dims, int32_t rank) {
    bly_op_begin(b, "Placeholder", name, "/device:CPU:0");
    bly_op_type(b, "dtype", BELAY_STRING);
    bly_op_shape(b, "shape", dims, rank);
    return bly_op_finish_output(b);
}

static TF_Operation *build_save(bly_builder *b, const char *cpu, TF_Output prefix, TF_Output key,
                                TF_Output slice) {
    const bly_global_step *step = &b->graph->global_step;
    TF_Output value =
        step->is_resource ? bly_read_variable(b, "value", step->handle, step->dtype) : step->handle;
    bly_op_begin(b, "SaveV2", "SaveV2", cpu);
    bly_op_input(b, prefix);
    bly_op_input(b, key);
    bly_op_input(b, slice);
    bly_op_inputs(b, &value, 1);
    return bly_op_finish(b);
}

static TF_Operation *build_restore(bly_builder *b, const char *cpu, TF_Output prefix, TF_Output key,
                                   TF_Output slice) {
    const bly_global_step *step = &b->graph->global_step;
    const char *device = b->rt->OperationDevice(step->handle.oper);
    bly_op_begin(b, "RestoreV2", "RestoreV2", cpu);
    bly_op_input(b, prefix);
    bly_op_input(b, key);
    bly_op_input(b, slice);
    bly_op_types(b, "dtypes", &step->dtype, 1);
    TF_Output value = bly_op_finish_output(b);
    bly_op_begin(b, "EnsureShape", "EnsureShape", device);
    bly_op_input(b, value);
    bly_op_shape(b, "shape", NULL, 0);
    TF_Output checked = bly_op_finish_output(b);
    bly_op_begin(b, step->is_resource ? "AssignVariableOp" : "Assign", "restore", device);
    bly_op_input(b, step->handle);
    bly_op_input(b, checked);
    if (step->is_resource)
        bly_op_type(b, "dtype", step->dtype);
    return bly_op_finish(b);
}

belay_code bly_build_side_saver(belay_graph *graph, bly_side_saver *out, belay_error *err) {
    static const int64_t any_length[1] = {-1};
    static const char *const whole[1] = {""};
    static const char cpu[] = "/device:CPU:0";
    *out = (bly_side_saver){0};
    belay_code code = bly_graph_check_global_step(graph, err);
    if (code != BELAY_OK)
        return code;
    const char *key_name[1] = {graph->global_step.name};
    bly_builder b = bly_builder_start(graph, "belay_side_saver", err);
    TF_Output key = bly_const_strings(&b, "key", cpu, key_name, 1, 1);
    TF_Output slice = bly_const_strings(&b, "slice", cpu, whole, 1, 1);
    out->prefix = placeholder(&b, "prefix", NULL, 0);
    out->save = build_save(&b, cpu, out->prefix, key, slice);
    out->restore = build_restore(&b, cpu, out->prefix, key, slice);
    out->merge_inputs = placeholder(&b, "merge_inputs", any_length, 1);
    out->merge_output = placeholder(&b, "merge_output", NULL, 0);
    bly_op_begin(&b, "MergeV2Checkpoints", "MergeV2Checkpoints", cpu);
    bly_op_input(&b, out->merge_inputs);
    bly_op_input(&b, out->merge_output);
    bly_op_bool(&b, "delete_old_dirs", 1);
    out->merge = bly_op_finish(&b);
    return bly_builder_end(&b);
}
