#include "graph/counter.h"

#include "base/error.h"
#include "base/mem.h"
#include "graph/builder.h"
#include "graph/index.h"

#include <stddef.h>
#include <stdio.h>

static TF_Output make_variable(bly_builder *b, belay_dtype dtype) {
    char shared[128];
    snprintf(shared, sizeof shared, "%svariable", b->scope ? b->scope : "");
    bly_op_begin(b, "VarHandleOp", "variable", NULL);
    bly_op_type(b, "dtype", dtype);
    bly_op_shape(b, "shape", NULL, 0);
    bly_op_string(b, "shared_name", shared);
    return bly_op_finish_output(b);
}

/* `type` AssignVariableOp or AssignAddVariableOp, or what is the same for a reference variable. */
static TF_Operation *write(bly_builder *b, const char *type, const char *name, int is_ref,
                           TF_Output variable, TF_Output value, belay_dtype dtype) {
    bly_op_begin(b, type, name, NULL);
    bly_op_input(b, variable);
    bly_op_input(b, value);
    bly_op_type(b, is_ref ? "T" : "dtype", dtype);
    return bly_op_finish(b);
}

static TF_Operation *read_after(bly_builder *b, const char *name, TF_Output variable,
                                TF_Operation *after, belay_dtype dtype) {
    bly_op_begin(b, "ReadVariableOp", name, NULL);
    bly_op_input(b, variable);
    bly_op_after(b, after);
    bly_op_type(b, "dtype", dtype);
    return bly_op_finish(b);
}

static const char *name_of(const bly_builder *b, TF_Operation *op) {
    return op ? b->rt->OperationName(op) : NULL;
}

static void add_ops(bly_builder *b, TF_Output variable, int is_ref, belay_dtype dtype,
                    bly_counter *out) {
    TF_Output one = bly_const_integer(b, "one", NULL, dtype, 1);
    bly_op_begin(b, "Placeholder", "value", NULL);
    bly_op_type(b, "dtype", dtype);
    bly_op_shape(b, "shape", NULL, 0);
    TF_Output value = bly_op_finish_output(b);
    TF_Operation *assign =
        write(b, is_ref ? "Assign" : "AssignVariableOp", "assign", is_ref, variable, value, dtype);
    TF_Operation *add =
        write(b, is_ref ? "AssignAdd" : "AssignAddVariableOp", "add", is_ref, variable, one, dtype);
    /* A reference variable's addition gives the sum itself. */
    TF_Operation *next = is_ref ? add : read_after(b, "next", variable, add, dtype);
    out->value = name_of(b, value.oper);
    out->assign = name_of(b, assign);
    out->next = name_of(b, next);
}

static belay_code find_member(belay_graph *graph, const char *collection, TF_Output *out,
                              belay_dtype *out_dtype, belay_error *err) {
    const char *node = belay_graph_collection_node(graph, collection, 0);
    TF_Operation *op = node ? bly_graph_op_of(graph, node) : NULL;
    int64_t *dims = NULL;
    int32_t rank;
    if (!op)
        return bly_fail(err, BELAY_NOT_FOUND,
                        "collection '%s' names '%s', which is not in the graph", collection,
                        node ? node : "?");
    *out = (TF_Output){op, 0};
    belay_code code = bly_variable_shape(graph, op, out_dtype, &rank, &dims, err);
    bly_free(dims);
    return code;
}

belay_code bly_graph_counter(belay_graph *graph, const char *collection, const char *name,
                             belay_dtype dtype, int64_t first, belay_code several_code,
                             bly_counter *out, belay_error *err) {
    TF_Output variable = {NULL, 0};
    size_t members = belay_graph_collection_size(graph, collection);
    *out = (bly_counter){NULL, NULL, NULL, NULL};
    if (members > 1)
        return bly_fail(err, several_code, "collection '%s' has %zu members, and may have one",
                        collection, members);
    if (members == 1) {
        belay_code code = find_member(graph, collection, &variable, &dtype, err);
        if (code != BELAY_OK)
            return code;
    }
    bly_builder b = bly_builder_start(graph, name, err);
    if (members == 0) {
        variable = make_variable(&b, dtype);
        TF_Output value = bly_const_integer(&b, "first", NULL, dtype, first);
        out->init = name_of(&b, write(&b, "AssignVariableOp", "init", 0, variable, value, dtype));
    }
    add_ops(&b, variable, b.code == BELAY_OK && bly_output_is_ref(graph, variable), dtype, out);
    return bly_builder_end(&b);
}
