/* Runs parts of a graph over the real TensorFlow, without belay's sessions: these tests are of what
 * lies below them. */
#ifndef BLY_TESTS_GRAPH_RUN_H
#define BLY_TESTS_GRAPH_RUN_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/file.h"
#include "graph/builder.h"
#include "graph/defaults.h"
#include "graph/index.h"
#include "graph/serialize.h"
#include "runtime/tensor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FEEDS_MOST 4

static inline belay_graph *load(const char *name) {
    char path[512];
    BLY_LOCAL_ERROR(err);
    snprintf(path, sizeof path, TEST_GRAPHS "/%s", name);
    belay_graph *graph = belay_graph_load(path, NULL, &err);
    if (!graph)
        fail_msg("%s: %s", path, err.message);
    return graph;
}

static inline TF_Session *open_session(const belay_graph *graph) {
    const bly_runtime *rt = graph->rt;
    TF_Status *status = rt->NewStatus();
    TF_SessionOptions *options = rt->NewSessionOptions();
    TF_Session *session = rt->NewSession(graph->tf, options, status);
    rt->DeleteSessionOptions(options);
    assert_int_equal(rt->GetCode(status), TF_OK);
    rt->DeleteStatus(status);
    return session;
}

static inline void close_session(const belay_graph *graph, TF_Session *session) {
    TF_Status *status = graph->rt->NewStatus();
    graph->rt->CloseSession(session, status);
    graph->rt->DeleteSession(session, status);
    graph->rt->DeleteStatus(status);
}

struct feed {
    TF_Output tensor;
    TF_Tensor *value; /* given */
};

/* Runs `target` (NULL: none) and fetches `output` (oper NULL: none), whose value the caller
 * deletes. */
static inline belay_code run_fed(const belay_graph *graph, TF_Session *session,
                                 const struct feed *feeds, size_t feed_count, TF_Output output,
                                 const TF_Operation *target, TF_Tensor **out, belay_error *err) {
    const bly_runtime *rt = graph->rt;
    TF_Output inputs[FEEDS_MOST];
    TF_Tensor *values[FEEDS_MOST];
    TF_Tensor *value = NULL;
    TF_Status *status = rt->NewStatus();
    for (size_t i = 0; i < feed_count; i++) {
        inputs[i] = feeds[i].tensor;
        values[i] = feeds[i].value;
    }
    rt->SessionRun(session, NULL, inputs, values, (int)feed_count, &output, &value,
                   output.oper ? 1 : 0, &target, target ? 1 : 0, NULL, status);
    for (size_t i = 0; i < feed_count; i++)
        rt->DeleteTensor(values[i]);
    belay_code code = bly_runtime_finish(rt, status, err);
    if (out)
        *out = value;
    else if (value)
        rt->DeleteTensor(value);
    return code;
}

static inline void run(const belay_graph *graph, TF_Session *session, const TF_Operation *target) {
    BLY_LOCAL_ERROR(err);
    if (run_fed(graph, session, NULL, 0, BLY_NO_OUTPUT, target, NULL, &err) != BELAY_OK)
        fail_msg("%s: %s", graph->path, err.message);
}

static inline TF_Tensor *fetch(const belay_graph *graph, TF_Session *session, TF_Output output) {
    BLY_LOCAL_ERROR(err);
    TF_Tensor *value = NULL;
    if (run_fed(graph, session, NULL, 0, output, NULL, &value, &err) != BELAY_OK)
        fail_msg("%s: %s", graph->path, err.message);
    return value;
}

static inline int64_t fetch_integer(const belay_graph *graph, TF_Session *session,
                                    TF_Output output) {
    TF_Tensor *value = fetch(graph, session, output);
    int64_t number = bly_tensor_integer(graph->rt, value);
    graph->rt->DeleteTensor(value);
    return number;
}

static inline double fetch_number(const belay_graph *graph, TF_Session *session, const char *name,
                                  int64_t index) {
    TF_Output output;
    BLY_LOCAL_ERROR(err);
    if (bly_graph_find_output(graph, name, &output, &err) != BELAY_OK)
        fail_msg("%s", err.message);
    TF_Tensor *value = fetch(graph, session, output);
    double number = bly_tensor_number(graph->rt, value, index);
    graph->rt->DeleteTensor(value);
    return number;
}

static inline int64_t fetch_count(const belay_graph *graph, TF_Session *session, TF_Output output) {
    TF_Tensor *value = fetch(graph, session, output);
    int64_t count = graph->rt->TensorElementCount(value);
    graph->rt->DeleteTensor(value);
    return count;
}

static inline TF_Tensor *string_tensor(const belay_graph *graph, const char *text) {
    TF_Tensor *tensor = bly_tensor_allocate_strings(graph->rt, &text, NULL, NULL, 0, NULL);
    assert_non_null(tensor);
    return tensor;
}

/* A float32 or int64 tensor whose elements are all `value`. */
static inline TF_Tensor *filled(const belay_graph *graph, belay_dtype dtype, const int64_t *dims,
                                uint32_t rank, double value) {
    TF_Tensor *tensor = bly_tensor_allocate(graph->rt, dtype, dims, rank, NULL);
    assert_non_null(tensor);
    int64_t count = graph->rt->TensorElementCount(tensor);
    for (int64_t i = 0; i < count; i++) {
        if (dtype == BELAY_FLOAT)
            ((float *)graph->rt->TensorData(tensor))[i] = (float)value;
        else
            ((int64_t *)graph->rt->TensorData(tensor))[i] = (int64_t)value;
    }
    return tensor;
}

static inline TF_Output output_of(const belay_graph *graph, const char *name) {
    TF_Output output = bly_graph_output_of(graph, name);
    if (!output.oper)
        fail_msg("%s has no %s", graph->path, name);
    return output;
}

/* The graph as it is now, written out and read back. `graph` is freed. */
static inline belay_graph *reload(belay_graph *graph) {
    bly_buf bytes = BLY_BUF_INIT;
    BLY_LOCAL_ERROR(err);
    assert_int_equal(bly_graph_serialize(graph, NULL, &bytes, NULL), BELAY_OK);
    belay_graph_free(graph);
    graph = bly_graph_from_bytes("reloaded.meta", bytes.data, bytes.len, &err);
    bly_buf_free(&bytes);
    if (!graph)
        fail_msg("%s", err.message);
    return graph;
}

/* A graph without anything in it. */
static inline belay_graph *empty_graph(void) {
    BLY_LOCAL_ERROR(err);
    static const uint8_t no_nodes[] = {0x12, 0x00}; /* graph_def: {} */
    belay_graph *graph = bly_graph_from_bytes("empty.meta", no_nodes, sizeof no_nodes, &err);
    if (!graph)
        fail_msg("%s", err.message);
    return graph;
}

/* Adds a resource variable of floats, `value` when initialised, to collection `variables` (and
 * `also`). */
static inline TF_Output add_variable(belay_graph *graph, const char *name, const char *device,
                                     belay_dtype dtype, const int64_t *dims, int32_t rank,
                                     double value, const char *also) {
    char text[3][128];
    Bly__VariableDef def = BLY__VARIABLE_DEF__INIT;
    uint8_t bytes[512];
    bly_builder b = bly_builder_start(graph, "", NULL);
    bly_op_begin(&b, "VarHandleOp", name, device);
    bly_op_type(&b, "dtype", dtype);
    bly_op_shape(&b, "shape", dims, rank);
    bly_op_string(&b, "shared_name", name);
    TF_Output handle = bly_op_finish_output(&b);
    snprintf(text[0], sizeof text[0], "%s/zeros", name);
    TF_Tensor *initial = filled(graph, dtype, dims, (uint32_t)rank, value);
    bly_op_begin(&b, "Const", text[0], device);
    bly_op_type(&b, "dtype", dtype);
    TF_Status *status = graph->rt->NewStatus();
    graph->rt->SetAttrTensor(b.op, "value", initial, status);
    graph->rt->DeleteStatus(status);
    graph->rt->DeleteTensor(initial);
    TF_Output zeros = bly_op_finish_output(&b);
    snprintf(text[1], sizeof text[1], "%s/Assign", name);
    bly_op_begin(&b, "AssignVariableOp", text[1], device);
    bly_op_input(&b, handle);
    bly_op_input(&b, zeros);
    bly_op_type(&b, "dtype", dtype);
    bly_op_finish(&b);
    snprintf(text[2], sizeof text[2], "%s/Read", name);
    bly_read_variable(&b, text[2], handle, dtype);
    assert_int_equal(bly_builder_end(&b), BELAY_OK);
    def.variable_name = (char *)(uintptr_t)name;
    def.initializer_name = text[1];
    def.snapshot_name = text[2];
    def.is_resource = 1;
    size_t len = bly__variable_def__pack(&def, bytes);
    assert_int_equal(bly_graph_add_bytes_to_collection(graph, "variables", bytes, len, NULL),
                     BELAY_OK);
    if (also)
        assert_int_equal(bly_graph_add_bytes_to_collection(graph, also, bytes, len, NULL),
                         BELAY_OK);
    return handle;
}

/* A fresh folder of the test's own; `text` gets its path. */
static inline const char *work_folder(char *text, size_t room, const char *name) {
    snprintf(text, room, TEST_WORK "/%s", name);
    bly_remove_directory(text, NULL);
    assert_int_equal(bly_make_directories(text, NULL), BELAY_OK);
    return text;
}

/* Some problem of the graph contains `part`. */
static inline int has_problem(const belay_graph *graph, const char *part) {
    for (size_t i = 0; i < belay_graph_problem_count(graph); i++)
        if (strstr(belay_graph_problem(graph, i), part))
            return 1;
    return 0;
}

#endif
