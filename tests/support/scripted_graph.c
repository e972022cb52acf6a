/* Graphs of the scripted runtime: ops made one by one or imported from a GraphDef. */
#include "scripted_impl.h"

#include "wire/cursor.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REF 100 /* a reference type is its type's number and this */

struct TF_OperationDescription {
    TF_Graph *graph;
    TF_Operation *op;
};

struct TF_ImportGraphDefOptions {
    char unused;
};

/* ---- ops ---- */

TF_Operation *scripted_op_new(TF_Graph *graph, const char *type, const char *name) {
    TF_Operation *op = scripted_zalloc(sizeof *op);
    op->graph = graph;
    op->name = scripted_strdup(name);
    op->type = scripted_strdup(type);
    op->device = scripted_strdup("");
    return op;
}

void scripted_op_free(TF_Operation *op) {
    for (int i = 0; i < op->attr_count; i++) {
        free(op->attrs[i].name);
        free(op->attrs[i].text);
        free(op->attrs[i].integers);
        scripted_array_unref(op->attrs[i].tensor);
    }
    free(op->attrs);
    free(op->inputs);
    free(op->controls);
    free(op->outputs);
    free(op->name);
    free(op->type);
    free(op->device);
    free(op);
}

void scripted_op_add_input(TF_Operation *op, TF_Output input) {
    op->inputs = scripted_realloc(op->inputs, (size_t)(op->input_count + 1) * sizeof input);
    op->inputs[op->input_count++] = input;
}

void scripted_op_add_control(TF_Operation *op, TF_Operation *control) {
    op->controls =
        scripted_realloc(op->controls, (size_t)(op->control_count + 1) * sizeof *op->controls);
    op->controls[op->control_count++] = control;
}

const struct scripted_attr *scripted_attr(const TF_Operation *op, const char *name) {
    for (int i = 0; i < op->attr_count; i++)
        if (strcmp(op->attrs[i].name, name) == 0)
            return &op->attrs[i];
    return NULL;
}

int64_t scripted_attr_int(const TF_Operation *op, const char *name, int64_t otherwise) {
    const struct scripted_attr *attr = scripted_attr(op, name);
    return attr ? attr->integer : otherwise;
}

struct scripted_attr *scripted_attr_add(TF_Operation *op, const char *name, TF_AttrType type) {
    struct scripted_attr *attr = (struct scripted_attr *)(uintptr_t)scripted_attr(op, name);
    if (!attr) {
        op->attrs = scripted_realloc(op->attrs, (size_t)(op->attr_count + 1) * sizeof *op->attrs);
        attr = &op->attrs[op->attr_count++];
        memset(attr, 0, sizeof *attr);
        attr->name = scripted_strdup(name);
    }
    attr->type = type;
    return attr;
}

TF_Operation *scripted_find_op(const TF_Graph *graph, const char *name) {
    for (size_t i = 0; i < graph->count; i++)
        if (strcmp(graph->ops[i]->name, name) == 0)
            return graph->ops[i];
    return NULL;
}

/* ---- what comes out of an op ----
 *
 * One letter per output. Lower case: a type of its own: s string, b bool, i int32, l int64, r
 * resource. D: attribute dtype, V: a reference to it, T: attribute T or the first input's type, R:
 * the first input's type as it is, reference or not, S: string reference, X: DstT, O: out_type. L:
 * a list of types, the rest. */
static const struct {
    const char *type, *outputs;
} op_types[] = {
    {"Const", "D"},
    {"Placeholder", "D"},
    {"PlaceholderWithDefault", "D"},
    {"NoOp", ""},
    {"Identity", "T"},
    {"StopGradient", "T"},
    {"VarHandleOp", "r"},
    {"ReadVariableOp", "D"},
    {"AssignVariableOp", ""},
    {"AssignAddVariableOp", ""},
    {"AssignSubVariableOp", ""},
    {"VarIsInitializedOp", "b"},
    {"VariableV2", "V"},
    {"Variable", "V"},
    {"Assign", "R"},
    {"AssignAdd", "R"},
    {"AssignSub", "R"},
    {"IsVariableInitialized", "b"},
    {"Pack", "T"},
    {"LogicalNot", "b"},
    {"LogicalAnd", "b"},
    {"Reshape", "T"},
    {"Fill", "F"},
    {"Where", "l"},
    {"Squeeze", "T"},
    {"ExpandDims", "T"},
    {"Gather", "T"},
    {"GatherV2", "T"},
    {"ConcatV2", "T"},
    {"Shape", "O"},
    {"Size", "O"},
    {"Cast", "X"},
    {"Add", "T"},
    {"AddV2", "T"},
    {"Sub", "T"},
    {"Mul", "T"},
    {"AddN", "T"},
    {"SaveV2", ""},
    {"RestoreV2", "L"},
    {"MergeV2Checkpoints", ""},
    {"ShardedFilename", "s"},
    {"StringJoin", "s"},
    {"MergeSummary", "s"},
    {"ScalarSummary", "s"},
    {"FIFOQueue", "S"},
    {"FIFOQueueV2", "r"},
    {"QueueEnqueue", ""},
    {"QueueEnqueueV2", ""},
    {"QueueEnqueueManyV2", ""},
    {"QueueClose", ""},
    {"QueueCloseV2", ""},
    {"QueueDequeue", "L"},
    {"QueueDequeueV2", "L"},
    {"QueueSize", "i"},
    {"QueueSizeV2", "i"},
    {"HashTable", "S"},
    {"HashTableV2", "r"},
    {"InitializeTableV2", ""},
    {"LookupTableImportV2", ""},
    {"PartitionedCall", "L"},
    {"StatefulPartitionedCall", "L"},
};

static void add_output(TF_Operation *op, int dtype) {
    op->outputs =
        scripted_realloc(op->outputs, (size_t)(op->output_count + 1) * sizeof *op->outputs);
    op->outputs[op->output_count++] = dtype;
}

static int input_type(const TF_Operation *op, int index) {
    if (op->input_count <= index || op->inputs[index].index >= op->inputs[index].oper->output_count)
        return TF_FLOAT;
    return op->inputs[index].oper->outputs[op->inputs[index].index];
}

static void add_list(TF_Operation *op) {
    static const char *const names[] = {"dtypes", "component_types", "Tout", "output_types"};
    for (size_t n = 0; n < sizeof names / sizeof names[0]; n++) {
        const struct scripted_attr *attr = scripted_attr(op, names[n]);
        for (int i = 0; attr && i < attr->count; i++)
            add_output(op, (int)attr->integers[i]);
        if (attr)
            return;
    }
}

static void add_outputs(TF_Operation *op, const char *letters) {
    int in = input_type(op, 0), plain = in > REF ? in - REF : in;
    for (; *letters; letters++) {
        switch (*letters) {
        case 's':
            add_output(op, TF_STRING);
            break;
        case 'b':
            add_output(op, TF_BOOL);
            break;
        case 'i':
            add_output(op, TF_INT32);
            break;
        case 'l':
            add_output(op, TF_INT64);
            break;
        case 'r':
            add_output(op, TF_RESOURCE);
            break;
        case 'S':
            add_output(op, TF_STRING + REF);
            break;
        case 'D':
            add_output(op, (int)scripted_attr_int(op, "dtype", plain));
            break;
        case 'V':
            add_output(op, (int)scripted_attr_int(op, "dtype", TF_FLOAT) + REF);
            break;
        case 'T':
            add_output(op, (int)scripted_attr_int(op, "T", plain));
            break;
        case 'R':
            add_output(op, in);
            break;
        case 'F':
            add_output(op, input_type(op, 1));
            break;
        case 'X':
            add_output(op, (int)scripted_attr_int(op, "DstT", TF_FLOAT));
            break;
        case 'O':
            add_output(op, (int)scripted_attr_int(op, "out_type", TF_INT32));
            break;
        default:
            add_list(op);
            break;
        }
    }
}

/* A type that nobody knows has one output where it says of what type, else none. */
void scripted_op_infer(TF_Operation *op) {
    if (op->outputs)
        return;
    for (size_t i = 0; i < sizeof op_types / sizeof op_types[0]; i++) {
        if (strcmp(op_types[i].type, op->type) == 0) {
            add_outputs(op, op_types[i].outputs);
            return;
        }
    }
    if (scripted_attr(op, "dtype"))
        add_outputs(op, "D");
    else if (scripted_attr(op, "T"))
        add_outputs(op, "T");
    else
        add_outputs(op, "L");
}

/* ---- graphs ---- */

TF_Graph *scripted_NewGraph(void) {
    scripted_called("TF_NewGraph");
    atomic_fetch_add(&scripted_live_graphs, 1);
    return scripted_zalloc(sizeof(TF_Graph));
}

void scripted_graph_unref_locked(TF_Graph *graph) {
    if (!graph->deleted || graph->sessions > 0)
        return;
    for (size_t i = 0; i < graph->count; i++)
        scripted_op_free(graph->ops[i]);
    free(graph->ops);
    free(graph);
    atomic_fetch_sub(&scripted_live_graphs, 1);
}

void scripted_DeleteGraph(TF_Graph *graph) {
    if (!graph)
        return;
    bly_mutex_lock(&scripted_lock);
    graph->deleted = 1; /* as in TensorFlow, sessions keep it */
    scripted_graph_unref_locked(graph);
    bly_mutex_unlock(&scripted_lock);
}

static void add_op_locked(TF_Graph *graph, TF_Operation *op) {
    graph->ops = scripted_realloc(graph->ops, (graph->count + 1) * sizeof(TF_Operation *));
    op->index = graph->count;
    graph->ops[graph->count++] = op;
}

TF_Operation *scripted_GraphOperationByName(TF_Graph *graph, const char *name) {
    bly_mutex_lock(&scripted_lock);
    TF_Operation *op = scripted_find_op(graph, name);
    bly_mutex_unlock(&scripted_lock);
    return op;
}

TF_Operation *scripted_GraphNextOperation(TF_Graph *graph, size_t *pos) {
    bly_mutex_lock(&scripted_lock);
    TF_Operation *op = *pos < graph->count ? graph->ops[(*pos)++] : NULL;
    bly_mutex_unlock(&scripted_lock);
    return op;
}

/* Rank of an output, -1 where unknown. */
static int shape_of(TF_Output output, const int64_t **out_dims) {
    const TF_Operation *op = output.oper;
    const struct scripted_attr *attr = NULL;
    *out_dims = NULL;
    if (strcmp(op->type, "Const") == 0 && (attr = scripted_attr(op, "value")) != NULL) {
        *out_dims = attr->tensor->dims;
        return attr->tensor->rank;
    }
    if (op->outputs[output.index] == TF_RESOURCE)
        return 0;
    if (strcmp(op->type, "ReadVariableOp") == 0 || strcmp(op->type, "Identity") == 0) {
        if (strcmp(op->inputs[0].oper->type, "VarHandleOp") != 0)
            return shape_of(op->inputs[0], out_dims);
        op = op->inputs[0].oper;
    }
    attr = scripted_attr(op, "shape");
    if (!attr || attr->type != TF_ATTR_SHAPE)
        return -1;
    *out_dims = attr->integers;
    return attr->count;
}

static int is_output(TF_Output output) {
    return output.oper && output.index >= 0 && output.index < output.oper->output_count;
}

int scripted_GraphGetTensorNumDims(TF_Graph *graph, TF_Output output, TF_Status *status) {
    const int64_t *dims;
    (void)graph;
    if (!is_output(output)) {
        scripted_SetStatus(status, TF_INVALID_ARGUMENT, "no such output");
        return -1;
    }
    scripted_SetStatus(status, TF_OK, "");
    return shape_of(output, &dims);
}

void scripted_GraphGetTensorShape(TF_Graph *graph, TF_Output output, int64_t *dims, int num_dims,
                                  TF_Status *status) {
    const int64_t *shape;
    (void)graph;
    if (!is_output(output) || shape_of(output, &shape) != num_dims) {
        scripted_SetStatus(status, TF_INVALID_ARGUMENT, "no such output, or another rank");
        return;
    }
    scripted_SetStatus(status, TF_OK, "");
    for (int i = 0; i < num_dims; i++)
        dims[i] = shape[i];
}

/* ---- building ---- */

TF_OperationDescription *scripted_NewOperation(TF_Graph *graph, const char *type,
                                               const char *name) {
    TF_OperationDescription *d = scripted_zalloc(sizeof *d);
    d->graph = graph;
    d->op = scripted_op_new(graph, type, name);
    atomic_fetch_add(&scripted_live_descriptions, 1);
    return d;
}

TF_Operation *scripted_FinishOperation(TF_OperationDescription *d, TF_Status *status) {
    struct scripted_run run = {.deadline_us = INT64_MAX};
    TF_Operation *op = d->op;
    bly_mutex_lock(&scripted_lock);
    int ok = scripted_rules_locked(&run, "TF_FinishOperation", NULL, NULL);
    if (ok && scripted_find_op(d->graph, op->name))
        ok = scripted_fail_run(&run, BELAY_INVALID_ARGUMENT, "Duplicate node name in graph: '%s'",
                               op->name);
    if (ok) {
        scripted_op_infer(op);
        add_op_locked(d->graph, op);
    }
    bly_mutex_unlock(&scripted_lock);
    if (!ok) {
        scripted_op_free(op);
        op = NULL;
    }
    scripted_SetStatus(status, (TF_Code)run.code, run.message);
    free(d);
    atomic_fetch_sub(&scripted_live_descriptions, 1);
    return op;
}

void scripted_SetDevice(TF_OperationDescription *d, const char *device) {
    free(d->op->device);
    d->op->device = scripted_strdup(device);
}

void scripted_AddInput(TF_OperationDescription *d, TF_Output input) {
    scripted_op_add_input(d->op, input);
}

void scripted_AddInputList(TF_OperationDescription *d, const TF_Output *inputs, int count) {
    for (int i = 0; i < count; i++)
        scripted_op_add_input(d->op, inputs[i]);
}

void scripted_AddControlInput(TF_OperationDescription *d, TF_Operation *op) {
    scripted_op_add_control(d->op, op);
}

static void set_text(struct scripted_attr *attr, const void *data, size_t len) {
    free(attr->text);
    attr->text = scripted_strndup(data, len);
    attr->text_len = len;
}

void scripted_SetAttrString(TF_OperationDescription *d, const char *name, const void *data,
                            size_t len) {
    set_text(scripted_attr_add(d->op, name, TF_ATTR_STRING), data, len);
}

void scripted_SetAttrInt(TF_OperationDescription *d, const char *name, int64_t value) {
    scripted_attr_add(d->op, name, TF_ATTR_INT)->integer = value;
}

void scripted_SetAttrBool(TF_OperationDescription *d, const char *name, unsigned char value) {
    scripted_attr_add(d->op, name, TF_ATTR_BOOL)->integer = value != 0;
}

void scripted_SetAttrType(TF_OperationDescription *d, const char *name, TF_DataType value) {
    scripted_attr_add(d->op, name, TF_ATTR_TYPE)->integer = (int64_t)value;
}

static void append_integer(struct scripted_attr *attr, int64_t value) {
    attr->integers =
        scripted_realloc(attr->integers, (size_t)(attr->count + 1) * sizeof *attr->integers);
    attr->integers[attr->count++] = value;
}

void scripted_SetAttrTypeList(TF_OperationDescription *d, const char *name,
                              const TF_DataType *values, int count) {
    struct scripted_attr *attr = scripted_attr_add(d->op, name, TF_ATTR_TYPE);
    attr->is_list = 1;
    attr->count = 0;
    for (int i = 0; i < count; i++)
        append_integer(attr, (int64_t)values[i]);
}

void scripted_SetAttrShape(TF_OperationDescription *d, const char *name, const int64_t *dims,
                           int rank) {
    struct scripted_attr *attr = scripted_attr_add(d->op, name, TF_ATTR_SHAPE);
    attr->count = 0;
    for (int i = 0; i < rank; i++)
        append_integer(attr, dims[i]);
    if (rank < 0)
        attr->count = -1;
}

void scripted_SetAttrTensor(TF_OperationDescription *d, const char *name, TF_Tensor *value,
                            TF_Status *status) {
    struct scripted_attr *attr = scripted_attr_add(d->op, name, TF_ATTR_TENSOR);
    scripted_array_unref(attr->tensor);
    attr->tensor = scripted_array_copy(value->array);
    scripted_SetStatus(status, TF_OK, "");
}

/* ---- asking an op ---- */

const char *scripted_OperationName(TF_Operation *op) {
    return op->name;
}

const char *scripted_OperationOpType(TF_Operation *op) {
    return op->type;
}

const char *scripted_OperationDevice(TF_Operation *op) {
    return op->device;
}

int scripted_OperationNumOutputs(TF_Operation *op) {
    return op->output_count;
}

int scripted_OperationNumInputs(TF_Operation *op) {
    return op->input_count;
}

TF_DataType scripted_OperationOutputType(TF_Output output) {
    return (TF_DataType)output.oper->outputs[output.index];
}

TF_Output scripted_OperationInput(TF_Input input) {
    return input.oper->inputs[input.index];
}

TF_DataType scripted_OperationInputType(TF_Input input) {
    return scripted_OperationOutputType(input.oper->inputs[input.index]);
}

int scripted_OperationNumControlInputs(TF_Operation *op) {
    return op->control_count;
}

int scripted_OperationGetControlInputs(TF_Operation *op, TF_Operation **controls, int most) {
    for (int i = 0; i < op->control_count && i < most; i++)
        controls[i] = op->controls[i];
    return op->control_count;
}

int scripted_OperationOutputConsumers(TF_Output output, TF_Input *consumers, int most) {
    int count = 0;
    bly_mutex_lock(&scripted_lock);
    const TF_Graph *graph = output.oper->graph;
    for (size_t i = 0; i < graph->count; i++) {
        for (int n = 0; n < graph->ops[i]->input_count; n++) {
            const TF_Output *input = &graph->ops[i]->inputs[n];
            if (input->oper != output.oper || input->index != output.index)
                continue;
            if (count < most)
                consumers[count] = (TF_Input){graph->ops[i], n};
            count++;
        }
    }
    bly_mutex_unlock(&scripted_lock);
    return count;
}

int scripted_OperationOutputNumConsumers(TF_Output output) {
    return scripted_OperationOutputConsumers(output, NULL, 0);
}

static const struct scripted_attr *find_attr(TF_Operation *op, const char *name, TF_AttrType type,
                                             TF_Status *status) {
    char text[512];
    const struct scripted_attr *attr = scripted_attr(op, name);
    if (!attr) {
        snprintf(text, sizeof text, "Operation '%s' has no attr named '%s'.", op->name, name);
        scripted_SetStatus(status, TF_INVALID_ARGUMENT, text);
    } else if ((int)type >= 0 && attr->type != type) {
        snprintf(text, sizeof text, "Attr '%s' of '%s' is of another type", name, op->name);
        scripted_SetStatus(status, TF_INVALID_ARGUMENT, text);
        attr = NULL;
    } else {
        scripted_SetStatus(status, TF_OK, "");
    }
    return attr;
}

TF_AttrMetadata scripted_OperationGetAttrMetadata(TF_Operation *op, const char *name,
                                                  TF_Status *status) {
    TF_AttrMetadata m;
    memset(&m, 0, sizeof m);
    const struct scripted_attr *attr = find_attr(op, name, (TF_AttrType)-1, status);
    if (!attr)
        return m;
    m.is_list = attr->is_list != 0;
    m.list_size = attr->is_list ? attr->count : -1;
    m.type = attr->type;
    m.total_size = attr->type == TF_ATTR_STRING  ? (int64_t)attr->text_len
                   : attr->type == TF_ATTR_SHAPE ? attr->count
                                                 : -1;
    return m;
}

void scripted_OperationGetAttrString(TF_Operation *op, const char *name, void *value,
                                     size_t max_length, TF_Status *status) {
    const struct scripted_attr *attr = find_attr(op, name, TF_ATTR_STRING, status);
    if (attr)
        memcpy(value, attr->text, attr->text_len < max_length ? attr->text_len : max_length);
}

void scripted_OperationGetAttrInt(TF_Operation *op, const char *name, int64_t *value,
                                  TF_Status *status) {
    const struct scripted_attr *attr = find_attr(op, name, TF_ATTR_INT, status);
    if (attr)
        *value = attr->integer;
}

void scripted_OperationGetAttrBool(TF_Operation *op, const char *name, unsigned char *value,
                                   TF_Status *status) {
    const struct scripted_attr *attr = find_attr(op, name, TF_ATTR_BOOL, status);
    if (attr)
        *value = attr->integer != 0;
}

void scripted_OperationGetAttrType(TF_Operation *op, const char *name, TF_DataType *value,
                                   TF_Status *status) {
    const struct scripted_attr *attr = find_attr(op, name, TF_ATTR_TYPE, status);
    if (attr)
        *value = (TF_DataType)attr->integer;
}

void scripted_OperationGetAttrShape(TF_Operation *op, const char *name, int64_t *value,
                                    int num_dims, TF_Status *status) {
    const struct scripted_attr *attr = find_attr(op, name, TF_ATTR_SHAPE, status);
    for (int i = 0; attr && i < attr->count && i < num_dims; i++)
        value[i] = attr->integers[i];
}

void scripted_OperationGetAttrTensor(TF_Operation *op, const char *name, TF_Tensor **value,
                                     TF_Status *status) {
    const struct scripted_attr *attr = find_attr(op, name, TF_ATTR_TENSOR, status);
    *value = attr ? scripted_tensor_of(scripted_array_copy(attr->tensor)) : NULL;
}

/* ---- GraphDef ---- */

TF_ImportGraphDefOptions *scripted_NewImportGraphDefOptions(void) {
    atomic_fetch_add(&scripted_live_options, 1);
    return scripted_zalloc(sizeof(TF_ImportGraphDefOptions));
}

void scripted_DeleteImportGraphDefOptions(TF_ImportGraphDefOptions *options) {
    atomic_fetch_sub(&scripted_live_options, 1);
    free(options);
}

/* It lists no types: what a graph was loaded with is all that there is. */
TF_Buffer *scripted_GetAllOpList(void) {
    return scripted_NewBuffer();
}

void scripted_GraphToGraphDef(TF_Graph *graph, TF_Buffer *out, TF_Status *status) {
    struct scripted_bytes bytes = {NULL, 0, 0}, versions = {NULL, 0, 0};
    TF_Buffer *made;
    bly_mutex_lock(&scripted_lock);
    for (size_t i = 0; i < graph->count; i++)
        scripted_put_node(&bytes, graph->ops[i]);
    bly_mutex_unlock(&scripted_lock);
    scripted_put_number(&versions, 1, 1882);
    scripted_put_message(&bytes, 4, &versions);
    made = scripted_NewBufferFromString(bytes.data, bytes.len);
    *out = *made;
    made->data_deallocator = NULL;
    scripted_DeleteBuffer(made);
    free(bytes.data);
    scripted_SetStatus(status, TF_OK, "");
}

static void read_dims(const bly_field *field, struct scripted_attr *attr) {
    bly_cursor shape = bly_cursor_over(field->data, field->size);
    bly_field dim, size;
    attr->count = 0;
    while (bly_cursor_next(&shape, &dim)) {
        if (dim.number == 3 && dim.value)
            attr->count = -1;
        if (dim.number != 2)
            continue;
        bly_cursor inner = bly_cursor_over(dim.data, dim.size);
        int64_t value = 0;
        while (bly_cursor_next(&inner, &size))
            if (size.number == 1)
                value = (int64_t)size.value;
        append_integer(attr, value);
    }
}

static struct scripted_array *read_tensor(const bly_field *field) {
    struct scripted_attr shape = {NULL};
    int64_t dtype = 0, at = 0;
    bly_field f;
    bly_cursor cursor = bly_cursor_over(field->data, field->size);
    while (bly_cursor_next(&cursor, &f)) {
        if (f.number == 1)
            dtype = (int64_t)f.value;
        else if (f.number == 2)
            read_dims(&f, &shape);
    }
    struct scripted_array *a =
        scripted_array_new((TF_DataType)dtype, shape.integers, shape.count > 0 ? shape.count : 0);
    free(shape.integers);
    cursor = bly_cursor_over(field->data, field->size);
    while (bly_cursor_next(&cursor, &f)) {
        if (f.number == 4 && f.size == a->buffer->len && f.size > 0)
            memcpy(a->buffer->data, f.data, f.size);
        else if (f.number == 8 && at < scripted_array_count(a))
            scripted_array_set_text(a, at++, (const char *)f.data, f.size);
    }
    return a;
}

static void read_list(const bly_field *field, TF_Operation *op, const char *name) {
    bly_cursor cursor = bly_cursor_over(field->data, field->size);
    struct scripted_attr *attr = scripted_attr_add(op, name, TF_ATTR_TYPE);
    bly_field f;
    attr->is_list = 1;
    while (bly_cursor_next(&cursor, &f)) {
        attr->type = f.number == 6 ? TF_ATTR_TYPE : TF_ATTR_INT;
        if (f.type == 0) {
            append_integer(attr, (int64_t)f.value);
            continue;
        }
        for (size_t i = 0; f.type == 2 && i < f.size;) { /* packed */
            uint64_t value = 0;
            for (int shift = 0; i < f.size && shift < 64; shift += 7) {
                value |= (uint64_t)(f.data[i] & 0x7f) << shift;
                if (!(f.data[i++] & 0x80))
                    break;
            }
            append_integer(attr, (int64_t)value);
        }
    }
}

static void read_value(const bly_field *field, TF_Operation *op, const char *name) {
    bly_cursor cursor = bly_cursor_over(field->data, field->size);
    bly_field f;
    float number;
    while (bly_cursor_next(&cursor, &f)) {
        switch (f.number) {
        case 1:
            read_list(&f, op, name);
            break;
        case 2:
            set_text(scripted_attr_add(op, name, TF_ATTR_STRING), f.data, f.size);
            break;
        case 3:
            scripted_attr_add(op, name, TF_ATTR_INT)->integer = (int64_t)f.value;
            break;
        case 4:
            memcpy(&number, f.from + f.len - sizeof number, sizeof number);
            scripted_attr_add(op, name, TF_ATTR_FLOAT)->number = (double)number;
            break;
        case 5:
            scripted_attr_add(op, name, TF_ATTR_BOOL)->integer = f.value != 0;
            break;
        case 6:
            scripted_attr_add(op, name, TF_ATTR_TYPE)->integer = (int64_t)f.value;
            break;
        case 7:
            read_dims(&f, scripted_attr_add(op, name, TF_ATTR_SHAPE));
            break;
        case 8: {
            struct scripted_attr *attr = scripted_attr_add(op, name, TF_ATTR_TENSOR);
            scripted_array_unref(attr->tensor);
            attr->tensor = read_tensor(&f);
            break;
        }
        default:
            break;
        }
    }
}

static void read_attr(const bly_field *field, TF_Operation *op) {
    bly_cursor cursor = bly_cursor_over(field->data, field->size);
    bly_field f, value = {0};
    char *name = NULL;
    while (bly_cursor_next(&cursor, &f)) {
        if (f.number == 1 && f.type == 2) {
            free(name);
            name = scripted_strndup((const char *)f.data, f.size);
        } else if (f.number == 2 && f.type == 2) {
            value = f;
        }
    }
    if (name)
        read_value(&value, op, name);
    free(name);
}

static char *take_text(char *old, const bly_field *f) {
    free(old);
    return scripted_strndup((const char *)f->data, f->size);
}

/* A node without its inputs, which may be nodes that follow. */
static TF_Operation *read_node(TF_Graph *graph, const bly_field *node) {
    TF_Operation *op = scripted_op_new(graph, "", "");
    bly_cursor cursor = bly_cursor_over(node->data, node->size);
    bly_field f;
    while (bly_cursor_next(&cursor, &f)) {
        if (f.type != 2)
            continue;
        if (f.number == 1)
            op->name = take_text(op->name, &f);
        else if (f.number == 2)
            op->type = take_text(op->type, &f);
        else if (f.number == 4)
            op->device = take_text(op->device, &f);
        else if (f.number == 5)
            read_attr(&f, op);
    }
    if (cursor.broken || !op->name[0] || !op->type[0]) {
        scripted_op_free(op);
        return NULL;
    }
    return op;
}

static int link_input(struct scripted_run *run, TF_Graph *graph, TF_Operation *op,
                      const bly_field *f) {
    char *text = scripted_strndup((const char *)f->data, f->size);
    char *name = text + (text[0] == '^');
    char *colon = strrchr(name, ':');
    TF_Output input = {NULL, 0};
    if (colon) {
        *colon = '\0';
        input.index = atoi(colon + 1);
    }
    input.oper = scripted_find_op(graph, name);
    int ok = input.oper != NULL;
    if (!ok)
        scripted_fail_run(run, BELAY_INVALID_ARGUMENT, "Node '%s': Unknown input node '%s'",
                          op->name, name);
    else if (text[0] == '^')
        scripted_op_add_control(op, input.oper);
    else
        scripted_op_add_input(op, input);
    free(text);
    return ok;
}

static int link_inputs(struct scripted_run *run, TF_Graph *graph, TF_Operation *op,
                       const bly_field *node) {
    bly_cursor cursor = bly_cursor_over(node->data, node->size);
    bly_field f;
    while (bly_cursor_next(&cursor, &f))
        if (f.number == 3 && f.type == 2 && !link_input(run, graph, op, &f))
            return 0;
    return 1;
}

/* Types go along the edges until nothing changes, since an op may stand before its inputs. */
static void infer_from(TF_Graph *graph, size_t first) {
    for (int round = 0; round < 8; round++) {
        for (size_t i = first; i < graph->count; i++) {
            free(graph->ops[i]->outputs);
            graph->ops[i]->outputs = NULL;
            graph->ops[i]->output_count = 0;
            scripted_op_infer(graph->ops[i]);
        }
    }
}

static int import_locked(struct scripted_run *run, TF_Graph *graph, const TF_Buffer *bytes) {
    bly_cursor cursor = bly_cursor_over(bytes->data, bytes->length);
    bly_field f;
    size_t first = graph->count, at = first;
    int ok = 1;
    while (ok && bly_cursor_next(&cursor, &f)) {
        TF_Operation *op = f.number == 1 && f.type == 2 ? read_node(graph, &f) : NULL;
        if (f.number != 1)
            continue;
        if (!op)
            ok = scripted_fail_run(run, BELAY_INVALID_ARGUMENT, "Invalid GraphDef");
        else if (scripted_find_op(graph, op->name))
            ok = scripted_fail_run(run, BELAY_INVALID_ARGUMENT,
                                   "Node name '%s' already exists in the Graph", op->name);
        if (ok)
            add_op_locked(graph, op);
        else if (op)
            scripted_op_free(op);
    }
    if (ok && cursor.broken)
        ok = scripted_fail_run(run, BELAY_INVALID_ARGUMENT, "Invalid GraphDef");
    cursor = bly_cursor_over(bytes->data, bytes->length);
    while (ok && bly_cursor_next(&cursor, &f))
        if (f.number == 1)
            ok = link_inputs(run, graph, graph->ops[at++], &f);
    if (ok)
        infer_from(graph, first);
    while (!ok && graph->count > first)
        scripted_op_free(graph->ops[--graph->count]);
    return ok;
}

void scripted_GraphImportGraphDef(TF_Graph *graph, const TF_Buffer *bytes,
                                  const TF_ImportGraphDefOptions *options, TF_Status *status) {
    struct scripted_run run = {.deadline_us = INT64_MAX};
    (void)options;
    bly_mutex_lock(&scripted_lock);
    if (scripted_rules_locked(&run, "TF_GraphImportGraphDef", NULL, NULL))
        import_locked(&run, graph, bytes);
    bly_mutex_unlock(&scripted_lock);
    scripted_SetStatus(status, (TF_Code)run.code, run.message);
}
