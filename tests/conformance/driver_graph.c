/* Verbs on graphs. */
#include "driver.h"

#include "base/error.h"
#include "graph/defaults.h"
#include "graph/graph.h"

#include <stdio.h>
#include <string.h>

static belay_code load(call *c) {
    belay_graph_options options = BELAY_GRAPH_OPTIONS_INIT;
    if (is_true(c->all, "clear_devices"))
        options.flags |= BELAY_GRAPH_CLEAR_DEVICES;
    belay_graph *graph = belay_graph_load(main_text(c), &options, c->err);
    if (graph)
        put(c->world, GRAPH, text_in(c->all, "as", "g"), graph);
    return belay_error_code(c->err);
}

static belay_code collections(call *c) {
    belay_graph *graph = get(c, GRAPH, main_text(c));
    c->result = json_array();
    for (size_t i = 0; i < belay_graph_collection_count(graph); i++)
        json_array_append_new(c->result, json_string(belay_graph_collection_name(graph, i)));
    return belay_error_code(c->err);
}

static const char *kind_text(belay_collection_kind kind) {
    static const char *const texts[] = {"none", "nodes", "bytes", "int64", "floats", "any"};
    return kind < sizeof texts / sizeof texts[0] ? texts[kind] : "?";
}

/* Numbers and bytes. */
static json_t *raw_item(const belay_graph *graph, const char *name, size_t i) {
    char text[64];
    size_t size;
    int64_t integer;
    float number;
    const char *bytes = belay_graph_collection_bytes(graph, name, i, &size);
    if (belay_graph_collection_kind(graph, name) == BELAY_COLLECTION_BYTES)
        return quoted(bytes, size);
    if (belay_graph_collection_int64(graph, name, i, &integer))
        snprintf(text, sizeof text, "%lld", (long long)integer);
    else if (belay_graph_collection_float(graph, name, i, &number))
        snprintf(text, sizeof text, "%.6g", (double)number);
    else
        return json_string("?");
    return json_string(text);
}

/* Messages of Python's classes, which have no text of their own. */
static int holds_messages(const char *name) {
    return strcmp(name, "savers") == 0 || strcmp(name, "queue_runners") == 0;
}

static belay_code collection(call *c) {
    belay_graph *graph = graph_of(c);
    const char *name = main_text(c);
    if (!graph)
        return NO_OBJECT;
    json_t *items = json_array();
    size_t size = belay_graph_collection_size(graph, name);
    for (size_t i = 0; i < size; i++) {
        const char *node = belay_graph_collection_node(graph, name, i);
        json_array_append_new(items, node                   ? json_string(node)
                                     : holds_messages(name) ? json_string("?")
                                                            : raw_item(graph, name, i));
    }
    c->result =
        json_pack("{s:s, s:I, s:o}", "kind", kind_text(belay_graph_collection_kind(graph, name)),
                  "size", (json_int_t)size, "items", items);
    return BELAY_OK;
}

static belay_code variables(call *c) {
    belay_graph *graph = get(c, GRAPH, main_text(c));
    char text[512];
    c->result = json_array();
    for (size_t i = 0; graph && i < belay_graph_variable_count(graph); i++) {
        const belay_variable *v = belay_graph_variable(graph, i);
        json_t *shape = shape_of(v->dtype, v->rank, v->dims);
        snprintf(text, sizeof text, "%s %s%s%s%s", v->name, json_string_value(shape),
                 v->is_resource ? " resource" : " reference", v->is_local ? " local" : "",
                 v->is_trainable ? " trainable" : "");
        json_array_append_new(c->result, json_string(text));
        json_decref(shape);
    }
    return belay_error_code(c->err);
}

static belay_code tensor(call *c) {
    belay_graph *graph = graph_of(c);
    belay_dtype dtype;
    int32_t rank;
    int64_t dims[16];
    if (!graph)
        return NO_OBJECT;
    if (!belay_graph_tensor_info(graph, main_text(c), &dtype, &rank, dims, 16))
        return fail(c, BELAY_NOT_FOUND, "no tensor %s", main_text(c));
    c->result = shape_of(dtype, rank, dims);
    return BELAY_OK;
}

static belay_code has_op(call *c) {
    belay_graph *graph = graph_of(c);
    c->result = json_boolean(graph && belay_graph_has_op(graph, main_text(c)));
    return belay_error_code(c->err);
}

typedef const belay_signature_tensor *(*getter)(const belay_graph *graph, const char *signature,
                                                size_t index);

static json_t *side_of(const belay_graph *graph, const char *signature, size_t count, getter at) {
    json_t *list = json_array();
    char text[512];
    for (size_t i = 0; i < count; i++) {
        const belay_signature_tensor *t = at(graph, signature, i);
        json_t *shape = shape_of(t->dtype, t->rank, t->dims);
        snprintf(text, sizeof text, "%s %s %s", t->name, t->tensor, json_string_value(shape));
        json_array_append_new(list, json_string(text));
        json_decref(shape);
    }
    return list;
}

static belay_code signatures(call *c) {
    belay_graph *graph = get(c, GRAPH, main_text(c));
    c->result = json_object();
    for (size_t i = 0; graph && i < belay_graph_signature_count(graph); i++) {
        const char *name = belay_graph_signature_name(graph, i);
        json_object_set_new(
            c->result, name,
            json_pack("{s:o, s:o}", "inputs",
                      side_of(graph, name, belay_graph_signature_input_count(graph, name),
                              belay_graph_signature_input),
                      "outputs",
                      side_of(graph, name, belay_graph_signature_output_count(graph, name),
                              belay_graph_signature_output)));
    }
    return belay_error_code(c->err);
}

static belay_code add_op(call *c) {
    belay_graph *graph = get(c, GRAPH, main_text(c));
    if (graph)
        bly_build_group(graph, "added", NULL, 0, c->err);
    return belay_error_code(c->err);
}

static belay_code is_finalized(call *c) {
    belay_graph *graph = get(c, GRAPH, main_text(c));
    c->result = json_boolean(graph && belay_graph_is_finalized(graph));
    return belay_error_code(c->err);
}

static belay_code create_step(call *c) {
    belay_graph *graph = get(c, GRAPH, main_text(c));
    return graph ? belay_graph_create_global_step(graph, NULL, c->err) : NO_OBJECT;
}

/* Why a step cannot be used is not asked for by belay_graph_global_step_name(). */
static belay_code step_name(call *c) {
    belay_graph *graph = get(c, GRAPH, main_text(c));
    if (!graph)
        return NO_OBJECT;
    const char *name = belay_graph_global_step_name(graph);
    belay_code code = name ? BELAY_OK : bly_graph_check_global_step(graph, c->err);
    if (code == BELAY_FAILED_PRECONDITION) {
        belay_error_clear(c->err); /* there is none, which is no error here */
        code = BELAY_OK;
    }
    if (name)
        c->result = json_string(name);
    return code;
}

const verb graph_verbs[] = {
    {"load", load},
    {"collections", collections},
    {"collection", collection},
    {"variables", variables},
    {"tensor", tensor},
    {"has_op", has_op},
    {"signatures", signatures},
    {"add_op", add_op},
    {"is_finalized", is_finalized},
    {"create_step", create_step},
    {"step_name", step_name},
    {NULL, NULL},
};
