#include "graph/builder.h"

#include "base/buf.h"
#include "base/error.h"
#include "base/mem.h"
#include "base/text.h"
#include "graph/index.h"
#include "runtime/tensor.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* ---- names ---- */

char *bly_unique_op_name(const belay_graph *graph, const char *name) {
    bly_buf text = BLY_BUF_INIT;
    bly_buf_puts(&text, name);
    for (unsigned n = 1; !text.failed; n++) {
        if (!graph->rt->GraphOperationByName(graph->tf, bly_buf_text(&text)))
            return bly_buf_take(&text);
        bly_buf_clear(&text);
        bly_buf_printf(&text, "%s_%u", name, n);
    }
    bly_buf_free(&text);
    return NULL;
}

/* An op called `scope`, or within it. */
static int scope_is_taken(const belay_graph *graph, const char *scope) {
    size_t at = 0, len = strlen(scope);
    TF_Operation *op;
    while ((op = graph->rt->GraphNextOperation(graph->tf, &at)) != NULL) {
        const char *name = graph->rt->OperationName(op);
        if (strncmp(name, scope, len) == 0 && (name[len] == '/' || name[len] == '\0'))
            return 1;
    }
    return 0;
}

static char *free_scope(const belay_graph *graph, const char *scope) {
    bly_buf text = BLY_BUF_INIT;
    bly_buf_puts(&text, scope);
    for (unsigned n = 1; !text.failed && scope_is_taken(graph, bly_buf_text(&text)); n++) {
        bly_buf_clear(&text);
        bly_buf_printf(&text, "%s_%u", scope, n);
    }
    bly_buf_putc(&text, '/');
    return bly_buf_take(&text);
}

/* ---- the builder ---- */

bly_builder bly_builder_start(belay_graph *graph, const char *scope, belay_error *err) {
    bly_builder b = {graph, graph->rt, NULL, BELAY_OK, err, NULL};
    b.code = bly_graph_check_open(graph, scope[0] ? scope : "an operation", err);
    if (b.code == BELAY_OK) {
        b.scope = scope[0] ? free_scope(graph, scope) : bly_strdup("");
        if (!b.scope)
            b.code = bly_fail_memory(err);
    }
    return b;
}

belay_code bly_builder_end(bly_builder *b) {
    bly_free(b->scope);
    b->scope = NULL;
    return b->code;
}

void bly_op_begin(bly_builder *b, const char *type, const char *name, const char *device) {
    bly_buf full = BLY_BUF_INIT;
    b->op = NULL;
    if (b->code != BELAY_OK)
        return;
    bly_buf_printf(&full, "%s%s", b->scope, name);
    if (full.failed) {
        b->code = bly_fail_memory(b->err);
    } else {
        b->op = b->rt->NewOperation(b->graph->tf, type, full.data);
        if (device && device[0])
            b->rt->SetDevice(b->op, device);
    }
    bly_buf_free(&full);
}

void bly_op_input(bly_builder *b, TF_Output input) {
    if (b->op && input.oper)
        b->rt->AddInput(b->op, input);
}

void bly_op_inputs(bly_builder *b, const TF_Output *inputs, size_t count) {
    if (b->op)
        b->rt->AddInputList(b->op, inputs, (int)count);
}

void bly_op_after(bly_builder *b, TF_Operation *op) {
    if (b->op && op)
        b->rt->AddControlInput(b->op, op);
}

void bly_op_type(bly_builder *b, const char *attr, belay_dtype dtype) {
    if (b->op)
        b->rt->SetAttrType(b->op, attr, (TF_DataType)dtype);
}

void bly_op_types(bly_builder *b, const char *attr, const belay_dtype *dtypes, size_t count) {
    _Static_assert(sizeof(belay_dtype) == sizeof(TF_DataType), "handed over as they are");
    if (b->op)
        b->rt->SetAttrTypeList(b->op, attr, (const TF_DataType *)(const void *)dtypes, (int)count);
}

void bly_op_shape(bly_builder *b, const char *attr, const int64_t *dims, int32_t rank) {
    if (b->op)
        b->rt->SetAttrShape(b->op, attr, dims, rank);
}

void bly_op_string(bly_builder *b, const char *attr, const char *value) {
    if (b->op)
        b->rt->SetAttrString(b->op, attr, value, strlen(value));
}

void bly_op_bool(bly_builder *b, const char *attr, int value) {
    if (b->op)
        b->rt->SetAttrBool(b->op, attr, value != 0);
}

TF_Operation *bly_op_finish(bly_builder *b) {
    if (!b->op)
        return NULL;
    TF_Status *status = b->rt->NewStatus();
    TF_Operation *op = b->rt->FinishOperation(b->op, status);
    b->op = NULL;
    b->code = bly_runtime_finish(b->rt, status, b->err);
    return b->code == BELAY_OK ? op : NULL;
}

TF_Output bly_op_finish_output(bly_builder *b) {
    return (TF_Output){bly_op_finish(b), 0};
}

/* ---- constants ---- */

/* Takes the tensor. */
static TF_Output constant(bly_builder *b, const char *name, const char *device, belay_dtype dtype,
                          TF_Tensor *tensor) {
    if (!tensor) {
        b->code = b->err && b->err->code != BELAY_OK ? b->err->code : BELAY_RESOURCE_EXHAUSTED;
        return BLY_NO_OUTPUT;
    }
    bly_op_begin(b, "Const", name, device);
    bly_op_type(b, "dtype", dtype);
    if (b->op) {
        TF_Status *status = b->rt->NewStatus();
        b->rt->SetAttrTensor(b->op, "value", tensor, status);
        b->rt->DeleteStatus(status); /* what is wrong with it, finishing the op finds too */
    }
    b->rt->DeleteTensor(tensor);
    return bly_op_finish_output(b);
}

TF_Output bly_const_strings(bly_builder *b, const char *name, const char *device,
                            const char *const *values, size_t count, uint32_t rank) {
    int64_t dims[1] = {(int64_t)count};
    if (b->code != BELAY_OK)
        return BLY_NO_OUTPUT;
    return constant(b, name, device, BELAY_STRING,
                    bly_tensor_allocate_strings(b->rt, values, NULL, dims, rank, b->err));
}

TF_Output bly_const_int32(bly_builder *b, const char *name, const char *device,
                          const int32_t *values, size_t count, uint32_t rank) {
    int64_t dims[1] = {(int64_t)count};
    if (b->code != BELAY_OK)
        return BLY_NO_OUTPUT;
    TF_Tensor *tensor = bly_tensor_allocate(b->rt, BELAY_INT32, dims, rank, b->err);
    if (tensor && count > 0)
        memcpy(b->rt->TensorData(tensor), values, count * sizeof *values);
    return constant(b, name, device, BELAY_INT32, tensor);
}

TF_Output bly_const_integer(bly_builder *b, const char *name, const char *device, belay_dtype dtype,
                            int64_t value) {
    if (b->code != BELAY_OK)
        return BLY_NO_OUTPUT;
    TF_Tensor *tensor = bly_tensor_allocate(b->rt, dtype, NULL, 0, b->err);
    if (tensor) /* little-endian, as every machine that TensorFlow runs on: a narrower type is the
                   first bytes */
        memcpy(b->rt->TensorData(tensor), &value, belay_dtype_size(dtype));
    return constant(b, name, device, dtype, tensor);
}

/* ---- reading variables ---- */

TF_Output bly_read_variable(bly_builder *b, const char *name, TF_Output handle, belay_dtype dtype) {
    if (b->code != BELAY_OK)
        return BLY_NO_OUTPUT;
    bly_op_begin(b, "ReadVariableOp", name, b->rt->OperationDevice(handle.oper));
    bly_op_input(b, handle);
    bly_op_type(b, "dtype", dtype);
    return bly_op_finish_output(b);
}

bly_builder bly_builder_start_own(const belay_graph *graph, belay_error *err) {
    belay_graph *open = (belay_graph *)(uintptr_t)graph; /* only TensorFlow's half of it changes */
    bly_builder b = {open, graph->rt, NULL, BELAY_OK, err, NULL};
    bly_buf scope = BLY_BUF_INIT;
    bly_mutex_lock(&open->lock);
    unsigned serial = ++open->index->serial;
    bly_mutex_unlock(&open->lock);
    bly_buf_printf(&scope, "belay_own_%u", serial);
    b.scope = scope.failed ? NULL : free_scope(graph, scope.data);
    bly_buf_free(&scope);
    if (!b.scope)
        b.code = bly_fail_memory(err);
    return b;
}

belay_code bly_build_read(const belay_graph *graph, TF_Output handle, TF_Output *out,
                          belay_error *err) {
    belay_dtype dtype;
    int32_t rank;
    int64_t *dims = NULL;
    *out = BLY_NO_OUTPUT;
    belay_code code = bly_variable_shape(graph, handle.oper, &dtype, &rank, &dims, err);
    if (code != BELAY_OK)
        return code;
    bly_free(dims);
    bly_builder b = bly_builder_start_own(graph, err);
    *out = bly_read_variable(&b, "Read", handle, dtype);
    return bly_builder_end(&b);
}

/* ---- devices ---- */

/* One part of a device's name in TensorFlow's canonical spelling: "cpu:0" and "device:cpu:0" ->
 * "device:CPU:0". */
static void put_part(bly_buf *out, const char *part, size_t len) {
    static const char *const kinds[] = {"cpu:", "gpu:"};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (len > 4 && strncasecmp(part, kinds[i], 4) == 0) {
            bly_buf_printf(out, "/device:%s%.*s", i ? "GPU:" : "CPU:", (int)(len - 4), part + 4);
            return;
        }
    if (len > 7 && strncasecmp(part, "device:", 7) == 0) {
        bly_buf_puts(out, "/device:");
        int in_type = 1;
        for (size_t i = 7; i < len; i++) {
            in_type = in_type && part[i] != ':';
            bly_buf_putc(out, in_type ? (char)toupper((unsigned char)part[i]) : part[i]);
        }
        return;
    }
    bly_buf_putc(out, '/');
    bly_buf_append(out, part, len);
}

static int is_device_part(const char *part) {
    return strncasecmp(part, "cpu:", 4) == 0 || strncasecmp(part, "gpu:", 4) == 0 ||
           strncasecmp(part, "device:", 7) == 0;
}

static char *rewrite_device(const char *device, int on_cpu) {
    bly_buf out = BLY_BUF_INIT;
    bly_buf_puts(&out, "");
    while (*device) {
        size_t len = strcspn(device, "/");
        if (len > 0 && !(on_cpu && is_device_part(device)))
            put_part(&out, device, len);
        device += len + (device[len] == '/');
    }
    if (on_cpu)
        bly_buf_puts(&out, "/device:CPU:0");
    return bly_buf_take(&out);
}

char *bly_device_on_cpu(const char *device) {
    return rewrite_device(device, 1);
}

char *bly_device_canonical(const char *device) {
    return rewrite_device(device, 0);
}
