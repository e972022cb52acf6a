/* Default init, local init, ready and summary ops. */
#include "graph/defaults.h"

#include "base/mem.h"
#include "graph/builder.h"
#include "graph/index.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- lists of ops ---- */

struct op_list {
    TF_Operation **items;
    size_t count;
    size_t capacity;
};

static belay_code add(struct op_list *list, TF_Operation *op, belay_error *err) {
    if (!bly_grow(&list->items, list->count, &list->capacity, sizeof(TF_Operation *)))
        return bly_fail_memory(err);
    list->items[list->count++] = op;
    return BELAY_OK;
}

/* Initialisers of the global or the local variables. */
static belay_code add_initializers(const belay_graph *graph, int local, struct op_list *list,
                                   belay_error *err) {
    belay_code code = BELAY_OK;
    for (size_t i = 0; i < graph->variable_count && code == BELAY_OK; i++) {
        const bly_variable *variable = &graph->variables[i];
        if ((variable->info.is_local != 0) == local && variable->initializer)
            code = add(list, variable->initializer, err);
    }
    return code;
}

static belay_code add_collection(const belay_graph *graph, const char *name, struct op_list *list,
                                 belay_error *err) {
    size_t count = belay_graph_collection_size(graph, name);
    belay_code code = BELAY_OK;
    for (size_t i = 0; i < count && code == BELAY_OK; i++) {
        const char *node = belay_graph_collection_node(graph, name, i);
        TF_Operation *op = node ? bly_graph_op_of(graph, node) : NULL;
        code = op ? add(list, op, err)
                  : bly_fail(err, BELAY_NOT_FOUND,
                             "collection '%s' names '%s', which is not in the graph", name,
                             node ? node : "?");
    }
    return code;
}

TF_Operation *bly_build_group(belay_graph *graph, const char *name, TF_Operation *const *ops,
                              size_t count, belay_error *err) {
    bly_builder b = bly_builder_start(graph, "", err);
    char *unique = b.code == BELAY_OK ? bly_unique_op_name(graph, name) : NULL;
    if (b.code == BELAY_OK && !unique)
        b.code = bly_fail_memory(err);
    bly_op_begin(&b, "NoOp", unique, NULL);
    for (size_t i = 0; i < count; i++)
        bly_op_after(&b, ops[i]);
    TF_Operation *group = bly_op_finish(&b);
    bly_free(unique);
    bly_builder_end(&b);
    return group;
}

static TF_Operation *build_init(belay_graph *graph, const char *name, int local,
                                const char *collection, belay_error *err) {
    struct op_list list = {NULL, 0, 0};
    TF_Operation *group = NULL;
    if (add_initializers(graph, local, &list, err) == BELAY_OK &&
        add_collection(graph, collection, &list, err) == BELAY_OK)
        group = bly_build_group(graph, name, list.items, list.count, err);
    bly_free(list.items);
    return group;
}

TF_Operation *bly_build_init_op(belay_graph *graph, belay_error *err) {
    return build_init(graph, "init", 0, "saved_model_initializers", err);
}

TF_Operation *bly_build_local_init_op(belay_graph *graph, belay_error *err) {
    return build_init(graph, "local_init", 1, "table_initializer", err);
}

/* ---- ready ops ---- */

/* A variable to report on. */
struct reported {
    TF_Output handle;
    belay_dtype dtype;
    int is_resource;
};

static int reports_without_collections(const belay_graph *graph, const TF_Operation *op) {
    return bly_op_is(graph, op, "Variable") || bly_op_is(graph, op, "VariableV2") ||
           bly_op_is(graph, op, "AutoReloadVariable");
}

/* SC-08, SC-09; SC-15: where no collection names a variable, the reference variables that the graph
 * holds. */
static belay_code find_reported(const belay_graph *graph, int with_local, struct reported **out,
                                size_t *out_count, belay_error *err) {
    size_t global_count = graph->variable_count - graph->local_count, count = 0, capacity = 0;
    size_t last = with_local ? graph->variable_count : global_count, at = 0;
    struct reported *list = NULL;
    TF_Operation *op;
    *out = NULL;
    for (size_t i = 0; i < last; i++) {
        const bly_variable *variable = &graph->variables[i];
        if (!bly_grow(&list, count, &capacity, sizeof *list))
            goto out_of_memory;
        list[count++] = (struct reported){variable->handle, variable->info.dtype,
                                          variable->info.is_resource != 0};
    }
    if (count == 0 && with_local) {
        while ((op = graph->rt->GraphNextOperation(graph->tf, &at)) != NULL) {
            TF_Output output = {op, 0};
            if (!reports_without_collections(graph, op))
                continue;
            if (!bly_grow(&list, count, &capacity, sizeof *list))
                goto out_of_memory;
            list[count++] = (struct reported){output, bly_output_dtype(graph, output), 0};
        }
    }
    *out = list;
    *out_count = count;
    return BELAY_OK;
out_of_memory:
    bly_free(list);
    return bly_fail_memory(err);
}

static TF_Output build_is_initialized(bly_builder *b, const struct reported *variable, size_t i) {
    char name[48];
    snprintf(name, sizeof name, "is_initialized_%zu", i);
    bly_op_begin(b, variable->is_resource ? "VarIsInitializedOp" : "IsVariableInitialized", name,
                 b->rt->OperationDevice(variable->handle.oper));
    bly_op_input(b, variable->handle);
    if (!variable->is_resource)
        bly_op_type(b, "dtype", variable->dtype);
    return bly_op_finish_output(b);
}

static TF_Output apply(bly_builder *b, const char *type, const char *name, const char *device,
                       TF_Output first, TF_Output second, TF_Output third) {
    bly_op_begin(b, type, name, device);
    bly_op_input(b, first);
    bly_op_input(b, second);
    bly_op_input(b, third);
    return bly_op_finish_output(b);
}

/* Of `names`, those whose flag is not set. */
static TF_Output build_selection(bly_builder *b, const char *device, const char *const *names,
                                 const TF_Output *flags, size_t count) {
    static const int32_t flat[1] = {-1}, axis[1] = {0};
    bly_op_begin(b, "Pack", "stack", device);
    bly_op_inputs(b, flags, count);
    TF_Output all = bly_op_finish_output(b);
    TF_Output not_yet =
        apply(b, "LogicalNot", "LogicalNot", device, all, BLY_NO_OUTPUT, BLY_NO_OUTPUT);
    TF_Output where = apply(b, "Where", "Where", device, not_yet, BLY_NO_OUTPUT, BLY_NO_OUTPUT);
    TF_Output shape = bly_const_int32(b, "shape", device, flat, 1, 1);
    TF_Output indices = apply(b, "Reshape", "Reshape", device, where, shape, BLY_NO_OUTPUT);
    TF_Output words = bly_const_strings(b, "Const", device, names, count, 1);
    TF_Output zero = bly_const_int32(b, "axis", device, axis, 1, 0);
    return apply(b, "GatherV2", "GatherV2", device, words, indices, zero);
}

belay_code bly_build_ready_op(belay_graph *graph, int with_local, TF_Output *out,
                              belay_error *err) {
    /* SC-14 */
    const char *device = getenv("TF_DEVICE_FOR_UNINITIALIZED_VARIABLE_REPORTING");
    struct reported *reported = NULL;
    size_t count = 0;
    *out = BLY_NO_OUTPUT;
    belay_code code = find_reported(graph, with_local, &reported, &count, err);
    if (code != BELAY_OK)
        return code;
    const char **names = bly_calloc(count, sizeof *names);
    TF_Output *flags = bly_calloc(count, sizeof *flags);
    bly_builder b = bly_builder_start(graph, "report_uninitialized_variables", err);
    if (b.code == BELAY_OK && (!names || !flags))
        b.code = bly_fail_memory(err);
    if (!device)
        device = "/cpu:0";
    for (size_t i = 0; i < count && b.code == BELAY_OK; i++) {
        names[i] = graph->rt->OperationName(reported[i].handle.oper); /* SC-13 */
        flags[i] = build_is_initialized(&b, &reported[i], i);
    }
    /* Nothing to report on: an empty tensor, which counts as ready. */
    *out = count > 0 ? build_selection(&b, device, names, flags, count)
                     : bly_const_strings(&b, "Const", device, NULL, 0, 1);
    bly_free(names);
    bly_free(flags);
    bly_free(reported);
    return bly_builder_end(&b);
}

/* ---- summaries ---- */

belay_code bly_build_summary_op(belay_graph *graph, TF_Output *out, belay_error *err) {
    size_t count = belay_graph_collection_size(graph, "summaries");
    belay_code code = BELAY_OK;
    *out = BLY_NO_OUTPUT;
    if (count == 0)
        return BELAY_OK;
    TF_Output *summaries = bly_calloc(count, sizeof *summaries);
    if (!summaries)
        return bly_fail_memory(err);
    for (size_t i = 0; i < count && code == BELAY_OK; i++) {
        const char *name = belay_graph_collection_node(graph, "summaries", i);
        code = name ? bly_graph_find_raw_output(graph, name, &summaries[i], err)
                    : bly_fail(err, BELAY_INVALID_ARGUMENT,
                               "collection 'summaries' does not hold tensors");
    }
    if (code == BELAY_OK) {
        bly_builder b = bly_builder_start(graph, "Merge", err);
        bly_op_begin(&b, "MergeSummary", "MergeSummary", NULL);
        bly_op_inputs(&b, summaries, count);
        *out = bly_op_finish_output(&b);
        code = bly_builder_end(&b);
    }
    bly_free(summaries);
    return code;
}
