#include "graph/graph_def.h"

#include "base/error.h"
#include "base/mem.h"
#include "wire/cursor.h"
#include "wire/encode.h"

/* Numbers of fields */
#define GRAPH_NODE    1 /* GraphDef.node */
#define GRAPH_LIBRARY 2 /* GraphDef.library */
#define NODE_NAME     1 /* NodeDef.name */
#define NODE_DEVICE   4 /* NodeDef.device */
#define NODE_ATTR     5 /* NodeDef.attr, a map */
#define MAP_KEY       1
#define MAP_VALUE     2
#define ATTR_LIST     1 /* AttrValue.list */
#define LIST_SHAPE    7 /* AttrValue.ListValue.shape */
#define SHAPE_DIM     2 /* TensorShapeProto.dim */
#define SHAPE_UNKNOWN 3 /* TensorShapeProto.unknown_rank */
#define DIM_SIZE      1 /* TensorShapeProto.Dim.size */

/* ---- devices ---- */

void bly_graph_def_clear_devices(const uint8_t *data, size_t len, bly_buf *out) {
    bly_cursor nodes = bly_cursor_over(data, len);
    bly_buf node = BLY_BUF_INIT;
    bly_field field, inner;
    while (bly_cursor_next(&nodes, &field)) {
        if (field.number != GRAPH_NODE || field.type != 2) {
            bly_buf_append(out, field.from, field.len);
            continue;
        }
        bly_buf_clear(&node);
        bly_cursor fields = bly_cursor_over(field.data, field.size);
        while (bly_cursor_next(&fields, &inner))
            if (inner.number != NODE_DEVICE)
                bly_buf_append(&node, inner.from, inner.len);
        bly_put_bytes(out, GRAPH_NODE, node.data, node.len);
        out->failed |= node.failed;
    }
    bly_buf_free(&node);
}

/* ---- shapes ---- */

/* What is used again for every node. */
struct shapes {
    const belay_graph *graph;
    TF_Status *status;
    bly_buf name, dim, shape, list, value, entry;
    int64_t *dims;
    size_t dims_room;
    int failed; /* memory was out at some time */
};

/* Empties a buffer, and keeps in mind what it forgets. */
static void reset(struct shapes *work, bly_buf *buf) {
    work->failed |= buf->failed;
    bly_buf_clear(buf);
}

static void put_shape(struct shapes *work, const int64_t *dims, int rank) {
    reset(work, &work->shape);
    for (int i = 0; i < rank; i++) {
        reset(work, &work->dim);
        if (dims[i] != 0)
            bly_put_number(&work->dim, DIM_SIZE, (uint64_t)dims[i]);
        bly_put_bytes(&work->shape, SHAPE_DIM, work->dim.data, work->dim.len);
    }
    if (rank < 0)
        bly_put_number(&work->shape, SHAPE_UNKNOWN, 1);
    bly_put_bytes(&work->list, LIST_SHAPE, work->shape.data, work->shape.len);
}

/* Adds the shape of one output to the list; 0 where it has none. */
static int add_output(struct shapes *work, TF_Output output) {
    const bly_runtime *rt = work->graph->rt;
    int rank = rt->GraphGetTensorNumDims(work->graph->tf, output, work->status);
    if (rt->GetCode(work->status) != TF_OK)
        return 0;
    if (rank > 0 && (size_t)rank > work->dims_room) {
        int64_t *larger = bly_realloc(work->dims, (size_t)rank * sizeof *larger);
        if (!larger) {
            work->failed = 1;
            return 0;
        }
        work->dims = larger;
        work->dims_room = (size_t)rank;
    }
    if (rank > 0) {
        rt->GraphGetTensorShape(work->graph->tf, output, work->dims, rank, work->status);
        if (rt->GetCode(work->status) != TF_OK)
            return 0;
    }
    put_shape(work, work->dims, rank);
    return 1;
}

/* The entry of the attribute map, in work->entry; 0 where there is nothing to say. */
static int describe_node(struct shapes *work, const bly_field *node) {
    bly_cursor fields = bly_cursor_over(node->data, node->size);
    bly_field field;
    reset(work, &work->name);
    while (bly_cursor_next(&fields, &field))
        if (field.number == NODE_NAME && field.type == 2) {
            bly_buf_append(&work->name, field.data, field.size);
            break;
        }
    TF_Operation *op = work->name.len > 0 && !work->name.failed
                           ? work->graph->rt->GraphOperationByName(work->graph->tf, work->name.data)
                           : NULL;
    int count = op ? work->graph->rt->OperationNumOutputs(op) : 0;
    if (count == 0)
        return 0;
    reset(work, &work->list);
    reset(work, &work->value);
    reset(work, &work->entry);
    for (int i = 0; i < count; i++)
        if (!add_output(work, (TF_Output){op, i}))
            return 0;
    bly_put_bytes(&work->value, ATTR_LIST, work->list.data, work->list.len);
    bly_put_bytes(&work->entry, MAP_KEY, "_output_shapes", 14);
    bly_put_bytes(&work->entry, MAP_VALUE, work->value.data, work->value.len);
    return 1;
}

static void add_shapes(struct shapes *work, const TF_Buffer *from, bly_buf *out) {
    bly_cursor nodes = bly_cursor_over(from->data, from->length);
    bly_field field;
    bly_buf attr = BLY_BUF_INIT;
    while (bly_cursor_next(&nodes, &field)) {
        if (field.number == GRAPH_LIBRARY && field.type == 2 && field.size == 0)
            continue; /* as Python does */
        if (field.number != GRAPH_NODE || field.type != 2 || !describe_node(work, &field)) {
            bly_buf_append(out, field.from, field.len);
            continue;
        }
        bly_buf_clear(&attr);
        bly_put_bytes(&attr, NODE_ATTR, work->entry.data, work->entry.len);
        bly_put_varint(out, GRAPH_NODE << 3 | 2);
        bly_put_varint(out, field.size + attr.len);
        bly_buf_append(out, field.data, field.size);
        bly_buf_append(out, attr.data, attr.len);
    }
    out->failed |= attr.failed || work->failed || work->name.failed || work->dim.failed ||
                   work->shape.failed || work->list.failed || work->value.failed ||
                   work->entry.failed;
    bly_buf_free(&attr);
}

belay_code bly_graph_def(const belay_graph *graph, bly_buf *out, belay_error *err) {
    const bly_runtime *rt = graph->rt;
    TF_Buffer *bytes = rt->NewBuffer();
    TF_Status *status = rt->NewStatus();
    rt->GraphToGraphDef(graph->tf, bytes, status);
    belay_code code = bly_runtime_finish(rt, status, err);
    if (code == BELAY_OK) {
        struct shapes work = {.graph = graph, .status = rt->NewStatus()};
        bly_buf_reserve(out, bytes->length + bytes->length / 4);
        add_shapes(&work, bytes, out);
        rt->DeleteStatus(work.status);
        bly_free(work.dims);
        bly_buf_free(&work.name);
        bly_buf_free(&work.dim);
        bly_buf_free(&work.shape);
        bly_buf_free(&work.list);
        bly_buf_free(&work.value);
        bly_buf_free(&work.entry);
        if (out->failed)
            code = bly_fail_memory(err);
    }
    rt->DeleteBuffer(bytes);
    return code;
}
