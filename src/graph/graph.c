/* A graph's life, and finding things in it by name. */
#include "graph/index.h"

#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "graph/builder.h"
#include "wire/unpack.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* TensorFlow's mark of a reference type: the type's number plus 100. */
#define REF_TYPES 100
/* TensorFlow's own limit of a tensor's rank. */
#define RANK_MOST 254

belay_graph *bly_graph_new(const bly_runtime *rt, const char *path, belay_error *err) {
    static atomic_uint_fast64_t made;
    belay_graph *graph = bly_calloc(1, sizeof *graph);
    if (graph) {
        atomic_init(&graph->references, 1);
        graph->id = atomic_fetch_add(&made, 1) + 1;
        bly_mutex_init(&graph->lock);
        graph->rt = rt;
        graph->path = bly_strdup(path);
        graph->index = bly_calloc(1, sizeof *graph->index);
        graph->tf = graph->path && graph->index ? rt->NewGraph() : NULL;
    }
    if (graph && graph->tf) {
        belay_error_clear(&graph->index->step_error);
        return graph;
    }
    bly_fail_memory(err);
    belay_graph_free(graph);
    return NULL;
}

belay_graph *bly_graph_ref(belay_graph *graph) {
    atomic_fetch_add_explicit(&graph->references, 1, memory_order_relaxed);
    return graph;
}

static void free_index(struct bly_graph_index *index) {
    if (!index)
        return;
    bly_collections_free(index);
    bly_signatures_free(index);
    for (size_t i = 0; i < index->problem_count; i++)
        bly_free(index->problems[i]);
    bly_free(index->problems);
    for (size_t i = 0; i < index->step_read_count; i++)
        bly_free(index->step_reads[i].writers);
    bly_free(index->step_reads);
    bly_free(index);
}

void bly_variable_clear(bly_variable *variable) {
    /* `info` is const to those who look at it; here is where it was made. */
    bly_free((void *)(uintptr_t)variable->info.name);
    bly_free((void *)(uintptr_t)variable->info.dims);
    bly_free((void *)(uintptr_t)variable->info.initializer);
    bly_free(variable->slice_full_name);
    bly_free(variable->slice_spec);
}

void belay_graph_free(belay_graph *graph) {
    if (!graph || atomic_fetch_sub_explicit(&graph->references, 1, memory_order_acq_rel) > 1)
        return;
    free_index(graph->index);
    for (size_t i = 0; i < graph->variable_count; i++)
        bly_variable_clear(&graph->variables[i]);
    bly_free(graph->variables);
    for (size_t i = 0; i < graph->asset_count; i++)
        bly_free(graph->assets[i].path);
    bly_free(graph->assets);
    bly_free(graph->global_step.name);
    bly_free(graph->initial_checkpoint);
    bly_free(graph->path);
    bly_wire_free(graph->meta);
    if (graph->tf)
        graph->rt->DeleteGraph(graph->tf);
    bly_mutex_clean_up(&graph->lock);
    bly_free(graph);
}

const char *belay_graph_path(const belay_graph *graph) {
    return graph ? graph->path : "";
}

uint32_t belay_graph_is_saved_model(const belay_graph *graph) {
    return graph ? (uint32_t)graph->is_saved_model : 0;
}

struct TF_Graph *belay_graph_raw(const belay_graph *graph) {
    return graph ? graph->tf : NULL;
}

/* ---- finalisation ---- */

static bly_mutex *lock_of(const belay_graph *graph) {
    return (bly_mutex *)(uintptr_t)&graph->lock; /* a lock may change in what is const otherwise */
}

uint32_t belay_graph_is_finalized(const belay_graph *graph) {
    if (!graph)
        return 0;
    bly_mutex_lock(lock_of(graph));
    int finalized = graph->finalized;
    bly_mutex_unlock(lock_of(graph));
    return (uint32_t)finalized;
}

void bly_graph_set_finalized(belay_graph *graph, int finalized) {
    bly_mutex_lock(&graph->lock);
    graph->finalized = finalized;
    bly_mutex_unlock(&graph->lock);
}

belay_code bly_graph_check_open(const belay_graph *graph, const char *what, belay_error *err) {
    if (!belay_graph_is_finalized(graph))
        return BELAY_OK;
    return bly_fail(err, BELAY_FAILED_PRECONDITION,
                    "the graph is finalized and cannot be modified: %s cannot be added any more",
                    what);
}

/* ---- problems ---- */

belay_code bly_graph_add_problem(belay_graph *graph, belay_error *err, const char *format, ...) {
    struct bly_graph_index *index = graph->index;
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    char *copy = bly_strdup(text);
    if (!copy || !bly_grow(&index->problems, index->problem_count, &index->problem_capacity,
                           sizeof *index->problems)) {
        bly_free(copy);
        return bly_fail_memory(err);
    }
    index->problems[index->problem_count++] = copy;
    return BELAY_OK;
}

size_t belay_graph_problem_count(const belay_graph *graph) {
    return graph ? graph->index->problem_count : 0;
}

const char *belay_graph_problem(const belay_graph *graph, size_t index) {
    return index < belay_graph_problem_count(graph) ? graph->index->problems[index] : NULL;
}

/* ---- names ---- */

int bly_split_tensor_name(const char *name, size_t *out_op_len, int *out_index) {
    const char *colon = strrchr(name, ':');
    long index = 0;
    *out_op_len = strlen(name);
    *out_index = 0;
    if (!colon || colon[1] == '\0')
        return 0;
    for (const char *c = colon + 1; *c; c++) {
        if (*c < '0' || *c > '9' || index > INT_MAX / 10)
            return 0;
        index = index * 10 + (*c - '0');
    }
    if (index > INT_MAX)
        return 0;
    *out_op_len = (size_t)(colon - name);
    *out_index = (int)index;
    return 1;
}

char *bly_op_name_of(const char *tensor) {
    size_t len;
    int index;
    bly_split_tensor_name(tensor, &len, &index);
    return bly_strndup(tensor, len);
}

static TF_Operation *op_of(const belay_graph *graph, const char *name, size_t len) {
    char text[512], *copy = text;
    if (len >= sizeof text)
        copy = bly_malloc(len + 1);
    if (!copy)
        return NULL;
    memcpy(copy, name, len);
    copy[len] = '\0';
    TF_Operation *op = graph->rt->GraphOperationByName(graph->tf, copy);
    if (copy != text)
        bly_free(copy);
    return op;
}

TF_Operation *bly_graph_op_of(const belay_graph *graph, const char *op_or_tensor) {
    size_t len;
    int index;
    bly_split_tensor_name(op_or_tensor, &len, &index);
    return op_of(graph, op_or_tensor, len);
}

TF_Output bly_graph_output_of(const belay_graph *graph, const char *op_or_tensor) {
    size_t len;
    int index;
    bly_split_tensor_name(op_or_tensor, &len, &index);
    TF_Operation *op = op_of(graph, op_or_tensor, len);
    if (!op || index >= graph->rt->OperationNumOutputs(op))
        return BLY_NO_OUTPUT;
    return (TF_Output){op, index};
}

/* Fails with the nearest name that there is. Only ever on the way to an error, so it may take its
 * time. */
static belay_code no_such_op(const belay_graph *graph, const char *name, size_t len,
                             belay_error *err) {
    const bly_runtime *rt = graph->rt;
    const char **names = NULL;
    size_t count = 0, capacity = 0, at = 0;
    TF_Operation *op;
    const char *nearest = NULL;
    char *wanted = bly_strndup(name, len);
    while (wanted && (op = rt->GraphNextOperation(graph->tf, &at)) != NULL) {
        if (!bly_grow(&names, count, &capacity, sizeof *names))
            break;
        names[count++] = rt->OperationName(op);
    }
    if (wanted && count > 0)
        nearest = bly_nearest(wanted, names, count);
    bly_fail(err, BELAY_NOT_FOUND, "the graph has no operation '%.*s'%s%s%s", (int)len, name,
             nearest ? "; did you mean '" : "", nearest ? nearest : "", nearest ? "'?" : "");
    bly_free(names);
    bly_free(wanted);
    return BELAY_NOT_FOUND;
}

TF_Operation *bly_graph_find_op(const belay_graph *graph, const char *name, belay_error *err) {
    TF_Operation *op = graph->rt->GraphOperationByName(graph->tf, name);
    if (!op)
        no_such_op(graph, name, strlen(name), err);
    return op;
}

static TF_Operation *no_such_output(const belay_graph *graph, TF_Operation *op, const char *name,
                                    belay_error *err) {
    int outputs = graph->rt->OperationNumOutputs(op);
    bly_fail(err, BELAY_NOT_FOUND, "'%s': operation '%s' has %d output%s, counted from 0", name,
             graph->rt->OperationName(op), outputs, outputs == 1 ? "" : "s");
    return NULL;
}

TF_Operation *bly_graph_find_target(const belay_graph *graph, const char *name, belay_error *err) {
    size_t len;
    int index;
    int is_tensor = bly_split_tensor_name(name, &len, &index);
    TF_Operation *op = op_of(graph, name, len);
    if (!op)
        no_such_op(graph, name, len, err);
    else if (is_tensor && index >= graph->rt->OperationNumOutputs(op))
        op = no_such_output(graph, op, name, err);
    return op;
}

belay_code bly_graph_find_raw_output(const belay_graph *graph, const char *name, TF_Output *out,
                                     belay_error *err) {
    size_t len;
    int index;
    *out = BLY_NO_OUTPUT;
    int has_index = bly_split_tensor_name(name, &len, &index);
    TF_Operation *op = op_of(graph, name, len);
    if (!op)
        return no_such_op(graph, name, len, err);
    int outputs = graph->rt->OperationNumOutputs(op);
    if (outputs == 0)
        return bly_fail(
            err, BELAY_INVALID_ARGUMENT,
            "'%s' names an operation without outputs: it can be run, not fetched or fed", name);
    if (index >= outputs) {
        no_such_output(graph, op, name, err);
        return BELAY_NOT_FOUND;
    }
    if (!has_index && outputs > 1)
        return bly_fail(err, BELAY_INVALID_ARGUMENT,
                        "'%s' has %d outputs: say which one, '%s:0' to '%s:%d'", name, outputs,
                        name, name, outputs - 1);
    *out = (TF_Output){op, index};
    return BELAY_OK;
}

/* The variable's value, from the table or from an op that reads it; else from one that is added. */
static belay_code value_of_handle(const belay_graph *graph, TF_Output handle, TF_Output *out,
                                  belay_error *err) {
    for (size_t i = 0; i < graph->variable_count; i++) {
        const bly_variable *variable = &graph->variables[i];
        if (variable->handle.oper == handle.oper && variable->snapshot.oper) {
            *out = variable->snapshot;
            return BELAY_OK;
        }
    }
    *out = bly_find_read(graph, handle);
    return out->oper ? BELAY_OK : bly_build_read(graph, handle, out, err);
}

belay_code bly_graph_find_output(const belay_graph *graph, const char *name, TF_Output *out,
                                 belay_error *err) {
    belay_code code = bly_graph_find_raw_output(graph, name, out, err);
    if (code == BELAY_OK && bly_op_is(graph, out->oper, "VarHandleOp"))
        code = value_of_handle(graph, *out, out, err);
    return code;
}

void bly_graph_output_name(const belay_graph *graph, TF_Output output, char *text, size_t room) {
    snprintf(text, room, "%s:%d", graph->rt->OperationName(output.oper), output.index);
}

/* ---- facts about ops and tensors ---- */

int bly_op_is(const belay_graph *graph, const TF_Operation *op, const char *type) {
    return strcmp(graph->rt->OperationOpType((TF_Operation *)(uintptr_t)op), type) == 0;
}

belay_dtype bly_output_dtype(const belay_graph *graph, TF_Output output) {
    int dtype = (int)graph->rt->OperationOutputType(output);
    return (belay_dtype)(dtype > REF_TYPES ? dtype - REF_TYPES : dtype);
}

int bly_output_is_ref(const belay_graph *graph, TF_Output output) {
    return (int)graph->rt->OperationOutputType(output) > REF_TYPES;
}

uint32_t belay_graph_has_op(const belay_graph *graph, const char *op) {
    return graph && op && graph->rt->GraphOperationByName(graph->tf, op) != NULL;
}

size_t belay_graph_op_count(const belay_graph *graph) {
    size_t count = 0, at = 0;
    while (graph && graph->rt->GraphNextOperation(graph->tf, &at))
        count++;
    return count;
}

/* Rank and dims of any tensor as far as the graph knows them; rank -1 where it does not. */
static void shape_of(const belay_graph *graph, TF_Output output, int32_t *out_rank, int64_t *dims,
                     uint32_t dims_room) {
    const bly_runtime *rt = graph->rt;
    int64_t all[RANK_MOST];
    TF_Status *status = rt->NewStatus();
    int rank = rt->GraphGetTensorNumDims(graph->tf, output, status);
    *out_rank = -1;
    if (rt->GetCode(status) == TF_OK && rank >= 0 && rank <= RANK_MOST) {
        rt->GraphGetTensorShape(graph->tf, output, all, rank, status);
        if (rt->GetCode(status) == TF_OK) {
            *out_rank = rank;
            for (int i = 0; i < rank && (uint32_t)i < dims_room; i++)
                dims[i] = all[i];
        }
    }
    rt->DeleteStatus(status);
}

uint32_t belay_graph_tensor_info(const belay_graph *graph, const char *tensor,
                                 belay_dtype *out_dtype, int32_t *out_rank, int64_t *out_dims,
                                 uint32_t dims_room) {
    TF_Output output;
    belay_dtype dtype;
    int32_t rank = -1;
    int64_t *dims = NULL;
    if (!graph || !tensor || bly_graph_find_raw_output(graph, tensor, &output, NULL) != BELAY_OK)
        return 0;
    /* Fetching a handle gives the variable's value (BUG-56), so that is what is described. */
    if (bly_op_is(graph, output.oper, "VarHandleOp") &&
        bly_variable_shape(graph, output.oper, &dtype, &rank, &dims, NULL) == BELAY_OK) {
        for (int32_t i = 0; i < rank && (uint32_t)i < dims_room; i++)
            out_dims[i] = dims[i];
        bly_free(dims);
    } else {
        dtype = bly_output_dtype(graph, output);
        shape_of(graph, output, &rank, out_dims, dims_room);
    }
    if (out_dtype)
        *out_dtype = dtype;
    if (out_rank)
        *out_rank = rank;
    return 1;
}
