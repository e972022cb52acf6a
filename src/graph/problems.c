/* What somebody should know of a graph before training it. Each is one sentence for a person; none
 * stops a run by itself. */
#include "graph/index.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "graph/walk.h"

#include <string.h>

/* Elements of a collection of names that are not the same as an earlier one. */
static size_t distinct(const belay_graph *graph, const char *collection) {
    size_t count = belay_graph_collection_size(graph, collection), result = 0;
    for (size_t i = 0; i < count; i++) {
        const char *name = belay_graph_collection_node(graph, collection, i);
        int is_new = 1;
        for (size_t j = 0; j < i && is_new; j++) {
            const char *other = belay_graph_collection_node(graph, collection, j);
            is_new = !name || !other || strcmp(name, other) != 0;
        }
        result += (size_t)is_new;
    }
    return result;
}

/* SC-05: where a default is looked up, several are an error later. */
static belay_code check_scaffold_collections(belay_graph *graph, belay_error *err) {
    static const char *const names[] = {
        "init_op", "local_init_op", "ready_op", "ready_for_local_init_op", "summary_op", "savers"};
    belay_code code = BELAY_OK;
    for (size_t i = 0; i < sizeof names / sizeof names[0] && code == BELAY_OK; i++) {
        size_t count = belay_graph_collection_size(graph, names[i]);
        if (count > 1)
            code = bly_graph_add_problem(
                graph, err,
                "collection '%s' has %zu members, and a session needs to know which one "
                "to use",
                names[i], count);
    }
    return code;
}

static belay_code check_train_ops(belay_graph *graph, belay_error *err) {
    size_t count = distinct(graph, "train_op");
    if (count <= 1)
        return BELAY_OK;
    return bly_graph_add_problem(
        graph, err, "collection 'train_op' has %zu members: say which one trains", count);
}

static belay_code check_content(belay_graph *graph, belay_error *err) {
    size_t at = 0;
    if (graph->rt->GraphNextOperation(graph->tf, &at))
        return BELAY_OK;
    return bly_graph_add_problem(graph, err, "it has no operations: the file is empty");
}

static belay_code check_variables(belay_graph *graph, belay_error *err) {
    const char *first = NULL;
    size_t count = 0;
    for (size_t i = 0; i < graph->variable_count; i++) {
        if (graph->variables[i].initializer)
            continue;
        first = first ? first : graph->variables[i].info.name;
        count++;
    }
    /* A SavedModel brings its variables' values along. */
    if (count == 0 || graph->initial_checkpoint)
        return BELAY_OK;
    return bly_graph_add_problem(graph, err,
                                 "%zu variable%s no initializer ('%s'): only a checkpoint can set "
                                 "%s",
                                 count, count == 1 ? " has" : "s have", first,
                                 count == 1 ? "it" : "them");
}

static belay_code check_global_step(belay_graph *graph, belay_error *err) {
    if (graph->global_step.handle.oper || graph->index->step_error.code != BELAY_OK)
        return BELAY_OK;
    return bly_graph_add_problem(graph, err,
                                 "there is no global step: belay counts runs in one of its own");
}

/* ---- resources that an exported graph may have lost its initializers of (MG-19, BUG-62) ---- */

/* Everything that runs before training does. */
static belay_code find_initial_run(const belay_graph *graph, bly_op_set *out, belay_error *err) {
    static const char *const collections[] = {"table_initializer",   "init_op",
                                              "local_init_op",       "saved_model_initializers",
                                              "saved_model_main_op", "legacy_init_op"};
    belay_code code = BELAY_OK;
    if (graph->initial_op)
        code = bly_graph_walk_back(graph, &graph->initial_op, 1, NULL, 0, NULL, out, err);
    for (size_t i = 0; i < sizeof collections / sizeof collections[0]; i++) {
        size_t count = belay_graph_collection_size(graph, collections[i]);
        for (size_t j = 0; j < count && code == BELAY_OK; j++) {
            const char *name = belay_graph_collection_node(graph, collections[i], j);
            TF_Operation *op = name ? bly_graph_op_of(graph, name) : NULL;
            if (op)
                code = bly_graph_walk_back(graph, &op, 1, NULL, 0, NULL, out, err);
        }
    }
    return code;
}

/* Ops that make a table or iterator, and how those that fill it are called. */
static int is_resource(const char *type) {
    return bly_starts_with(type, "HashTable") || strcmp(type, "Iterator") == 0 ||
           strcmp(type, "IteratorV2") == 0;
}

static int fills(const char *type) {
    return bly_starts_with(type, "InitializeTable") || bly_starts_with(type, "LookupTableImport") ||
           strcmp(type, "MakeIterator") == 0;
}

static int is_mutable(const char *type) {
    return bly_starts_with(type, "MutableHashTable") ||
           bly_starts_with(type, "MutableDenseHashTable");
}

/* An op that fills `resource`, and whether the initial run has one. */
static belay_code find_filler(const belay_graph *graph, TF_Operation *resource,
                              const bly_op_set *initial, TF_Operation **out, int *out_runs,
                              belay_error *err) {
    const bly_runtime *rt = graph->rt;
    TF_Output handle = {resource, 0};
    int count = rt->OperationOutputNumConsumers(handle);
    *out = NULL;
    *out_runs = 0;
    if (count <= 0)
        return BELAY_OK;
    TF_Input *consumers = bly_calloc((size_t)count, sizeof *consumers);
    if (!consumers)
        return bly_fail_memory(err);
    count = rt->OperationOutputConsumers(handle, consumers, count);
    for (int i = 0; i < count && !*out_runs; i++) {
        /* The initial run may fill it in ways we do not know: then it at least takes the handle. */
        *out_runs = bly_op_set_has(initial, consumers[i].oper);
        if (fills(rt->OperationOpType(consumers[i].oper)))
            *out = consumers[i].oper;
    }
    bly_free(consumers);
    return BELAY_OK;
}

static belay_code check_resource(belay_graph *graph, TF_Operation *op, const bly_op_set *initial,
                                 belay_error *err) {
    TF_Operation *filler;
    int runs;
    belay_code code = find_filler(graph, op, initial, &filler, &runs, err);
    if (code != BELAY_OK || runs || !filler)
        return code;
    bly_warn("%s: '%s' cannot be rebuilt: no collection names operation '%s', which fills it",
             graph->path, graph->rt->OperationName(op), graph->rt->OperationName(filler));
    return bly_graph_add_problem(
        graph, err,
        "'%s' is filled by operation '%s', which no collection names: nothing will run it (add it "
        "to collection table_initializer before the export)",
        graph->rt->OperationName(op), graph->rt->OperationName(filler));
}

static belay_code check_resources(belay_graph *graph, belay_error *err) {
    const bly_runtime *rt = graph->rt;
    bly_op_set initial = BLY_OP_SET_INIT;
    belay_code code = BELAY_OK;
    TF_Operation *op;
    size_t at = 0;
    int has_initial =
        0; /* the initial run is only looked at where there is something to look for */
    while (code == BELAY_OK && (op = rt->GraphNextOperation(graph->tf, &at)) != NULL) {
        const char *type = rt->OperationOpType(op);
        if (is_mutable(type) && !bly_graph_saver_def(graph))
            code =
                bly_graph_add_problem(graph, err,
                                      "the content of table '%s' will not be in checkpoints: the "
                                      "graph was exported without a saver",
                                      rt->OperationName(op));
        if (!is_resource(type))
            continue;
        if (!has_initial)
            code = find_initial_run(graph, &initial, err);
        has_initial = 1;
        if (code == BELAY_OK)
            code = check_resource(graph, op, &initial, err);
    }
    bly_op_set_free(&initial);
    return code;
}

static belay_code check_saveables(belay_graph *graph, belay_error *err) {
    if (!bly_graph_collection(graph, "saveable_objects") || bly_graph_saver_def(graph))
        return BELAY_OK;
    bly_warn(
        "%s: collection 'saveable_objects' cannot be rebuilt from an exported graph: what is in "
        "it will not be in checkpoints",
        graph->path);
    return bly_graph_add_problem(graph, err,
                                 "collection 'saveable_objects' cannot be rebuilt: what is in it "
                                 "will not be in checkpoints");
}

belay_code bly_problems_find(belay_graph *graph, belay_error *err) {
    static belay_code (*const checks[])(belay_graph *, belay_error *) = {
        check_content,   check_scaffold_collections, check_train_ops,
        check_variables, check_global_step,          check_resources,
        check_saveables};
    belay_code code = BELAY_OK;
    for (size_t i = 0; i < sizeof checks / sizeof checks[0] && code == BELAY_OK; i++)
        code = checks[i](graph, err);
    return code;
}
