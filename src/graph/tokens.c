#include "graph/tokens.h"

#include "base/error.h"
#include "graph/builder.h"

#include <stddef.h>

/* `count` times the global step. */
static TF_Output fill(bly_builder *b, int32_t count, const char *device) {
    TF_Output dims = bly_const_int32(b, "count", device, &count, 1, 1);
    bly_op_begin(b, "Fill", "tokens", device);
    bly_op_input(b, dims);
    bly_op_input(b, b->graph->global_step.read);
    return bly_op_finish_output(b);
}

belay_code bly_graph_add_tokens(belay_graph *graph, const char *queue, int64_t count,
                                const char **out_op, belay_error *err) {
    *out_op = NULL;
    if (count < 1 || count > INT32_MAX)
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "%lld tokens cannot be put into %s",
                        (long long)count, queue);
    BLY_LOCAL_ERROR(mine);
    TF_Operation *op = NULL;
    if (bly_graph_check_global_step(graph, &mine) == BELAY_OK)
        op = bly_graph_find_target(graph, queue, &mine);
    if (!op) {
        bly_error_copy(err, &mine);
        return mine.code;
    }
    TF_Output handle = {op, 0};
    int is_resource = graph->rt->OperationOutputType(handle) == TF_RESOURCE;
    const char *device = graph->rt->OperationDevice(op);
    bly_builder b = bly_builder_start(graph, "first_tokens", err);
    TF_Output tokens = fill(&b, (int32_t)count, device);
    bly_op_begin(&b, is_resource ? "QueueEnqueueManyV2" : "QueueEnqueueMany", "enqueue", device);
    bly_op_input(&b, handle);
    bly_op_inputs(&b, &tokens, 1);
    bly_op_types(&b, "Tcomponents", &graph->global_step.dtype, 1);
    TF_Operation *enqueue = bly_op_finish(&b);
    *out_op = enqueue ? graph->rt->OperationName(enqueue) : NULL;
    return bly_builder_end(&b);
}
