/* belay graph show */
#include "commands.h"
#include "output.h"
#include "progress.h"
#include "quiet.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

typedef struct values {
    int json;
} values;

static const cli_option options[] = {
    {"json", NULL, "the result as JSON", CLI_SWITCH, offsetof(values, json)},
    {NULL, NULL, NULL, CLI_SWITCH, 0},
};

static const char *kind_name(belay_collection_kind kind) {
    static const char *const names[] = {"empty",    "nodes",  "bytes",
                                        "integers", "floats", "messages"};
    return kind <= BELAY_COLLECTION_ANY ? names[kind] : "unknown";
}

/* --- as text ---------------------------------------------------------------------------------- */

/* The members of a collection that are names, as many as fit on a line. */
static void members_text(const belay_graph *g, const char *name, char *text, size_t room) {
    size_t at = 0, size = belay_graph_collection_size(g, name);
    text[0] = '\0';
    for (size_t i = 0; i < size; i++) {
        const char *node = belay_graph_collection_node(g, name, i);
        if (!node)
            return;
        size_t len = strlen(node);
        if (at + len + 8 > room) {
            snprintf(text + at, room - at, ", ...");
            return;
        }
        at += (size_t)snprintf(text + at, room - at, "%s%s", i ? ", " : "", node);
    }
}

static void print_collections(const belay_graph *g) {
    static const char *const headings[] = {"collection", "kind", "size", "members"};
    if (!belay_graph_collection_count(g))
        return;
    cli_table *table = cli_table_new(4, headings);
    cli_table_align_right(table, 2);
    for (size_t i = 0; i < belay_graph_collection_count(g); i++) {
        const char *name = belay_graph_collection_name(g, i);
        char size[32], members[72];
        snprintf(size, sizeof size, "%zu", belay_graph_collection_size(g, name));
        members_text(g, name, members, sizeof members);
        cli_table_add(table, (const char *[]){name, kind_name(belay_graph_collection_kind(g, name)),
                                              size, members});
    }
    cli_table_print(table);
    cli_table_free(table);
    putchar('\n');
}

static void add_signature_tensor(cli_table *table, const char *signature, const char *side,
                                 const belay_signature_tensor *t) {
    char shape[256];
    cli_table_add(table, (const char *[]){signature, side, t->name, belay_dtype_name(t->dtype),
                                          cli_shape_text(t->rank, t->dims, shape, sizeof shape),
                                          t->tensor});
}

static void print_signatures(const belay_graph *g) {
    static const char *const headings[] = {"signature", "", "name", "dtype", "shape", "tensor"};
    if (!belay_graph_signature_count(g))
        return;
    cli_table *table = cli_table_new(6, headings);
    for (size_t i = 0; i < belay_graph_signature_count(g); i++) {
        const char *name = belay_graph_signature_name(g, i);
        for (size_t k = 0; k < belay_graph_signature_input_count(g, name); k++)
            add_signature_tensor(table, k ? "" : name, "in",
                                 belay_graph_signature_input(g, name, k));
        size_t inputs = belay_graph_signature_input_count(g, name);
        for (size_t k = 0; k < belay_graph_signature_output_count(g, name); k++)
            add_signature_tensor(table, k || inputs ? "" : name, "out",
                                 belay_graph_signature_output(g, name, k));
    }
    cli_table_print(table);
    cli_table_free(table);
    putchar('\n');
}

static const char *variable_kind(const belay_variable *v, char *text, size_t room) {
    snprintf(text, room, "%s%s%s", v->is_resource ? "resource" : "reference",
             v->is_trainable ? ", trainable" : "", v->is_local ? ", local" : "");
    return text;
}

static void print_variables(const belay_graph *g) {
    static const char *const headings[] = {"variable", "dtype", "shape", "kind"};
    if (!belay_graph_variable_count(g))
        return;
    cli_table *table = cli_table_new(4, headings);
    for (size_t i = 0; i < belay_graph_variable_count(g); i++) {
        const belay_variable *v = belay_graph_variable(g, i);
        char shape[256], kind[64];
        cli_table_add(table, (const char *[]){v->name, belay_dtype_name(v->dtype),
                                              cli_shape_text(v->rank, v->dims, shape, sizeof shape),
                                              variable_kind(v, kind, sizeof kind)});
    }
    cli_table_print(table);
    cli_table_free(table);
    putchar('\n');
}

static void print_text(const belay_graph *g) {
    const char *step = belay_graph_global_step_name(g);
    printf("%s: %s, %zu operations\n", belay_graph_path(g),
           belay_graph_is_saved_model(g) ? "SavedModel" : "MetaGraphDef", belay_graph_op_count(g));
    printf("global step: %s\n", step ? step : "none; belay will count one step a run");
    printf("savers: %zu in collection savers%s\n\n", belay_graph_collection_size(g, "savers"),
           belay_graph_is_saved_model(g) ? "; a SavedModel has one of its own" : "");
    print_collections(g);
    print_signatures(g);
    print_variables(g);
    if (!belay_graph_problem_count(g))
        printf("no problems\n");
    for (size_t i = 0; i < belay_graph_problem_count(g); i++)
        printf("problem: %s\n", belay_graph_problem(g, i));
}

/* --- as JSON ---------------------------------------------------------------------------------- */

static json_t *collections_json(const belay_graph *g) {
    json_t *all = json_array();
    for (size_t i = 0; i < belay_graph_collection_count(g); i++) {
        const char *name = belay_graph_collection_name(g, i);
        size_t size = belay_graph_collection_size(g, name);
        json_t *one = json_object(), *members = json_array();
        json_object_set_new(one, "name", cli_json_text(name));
        json_object_set_new(one, "kind",
                            json_string(kind_name(belay_graph_collection_kind(g, name))));
        json_object_set_new(one, "size", json_integer((json_int_t)size));
        for (size_t k = 0; k < size && belay_graph_collection_node(g, name, k); k++)
            json_array_append_new(members, cli_json_text(belay_graph_collection_node(g, name, k)));
        json_object_set_new(one, "members", members);
        json_array_append_new(all, one);
    }
    return all;
}

static json_t *signature_tensor_json(const belay_signature_tensor *t) {
    json_t *one = json_object();
    json_object_set_new(one, "name", cli_json_text(t->name));
    json_object_set_new(one, "tensor", cli_json_text(t->tensor));
    json_object_set_new(one, "dtype", json_string(belay_dtype_name(t->dtype)));
    json_object_set_new(one, "shape", cli_shape_json(t->rank, t->dims));
    return one;
}

static json_t *signatures_json(const belay_graph *g) {
    json_t *all = json_array();
    for (size_t i = 0; i < belay_graph_signature_count(g); i++) {
        const char *name = belay_graph_signature_name(g, i);
        json_t *one = json_object(), *inputs = json_array(), *outputs = json_array();
        for (size_t k = 0; k < belay_graph_signature_input_count(g, name); k++)
            json_array_append_new(inputs,
                                  signature_tensor_json(belay_graph_signature_input(g, name, k)));
        for (size_t k = 0; k < belay_graph_signature_output_count(g, name); k++)
            json_array_append_new(outputs,
                                  signature_tensor_json(belay_graph_signature_output(g, name, k)));
        json_object_set_new(one, "name", cli_json_text(name));
        json_object_set_new(one, "inputs", inputs);
        json_object_set_new(one, "outputs", outputs);
        json_array_append_new(all, one);
    }
    return all;
}

static json_t *variables_json(const belay_graph *g) {
    json_t *all = json_array();
    for (size_t i = 0; i < belay_graph_variable_count(g); i++) {
        const belay_variable *v = belay_graph_variable(g, i);
        json_t *one = json_object();
        json_object_set_new(one, "name", cli_json_text(v->name));
        json_object_set_new(one, "dtype", json_string(belay_dtype_name(v->dtype)));
        json_object_set_new(one, "shape", cli_shape_json(v->rank, v->dims));
        json_object_set_new(one, "resource", json_boolean(v->is_resource));
        json_object_set_new(one, "trainable", json_boolean(v->is_trainable));
        json_object_set_new(one, "local", json_boolean(v->is_local));
        json_array_append_new(all, one);
    }
    return all;
}

static int print_json(const belay_graph *g) {
    json_t *object = json_object(), *problems = json_array();
    const char *step = belay_graph_global_step_name(g);
    for (size_t i = 0; i < belay_graph_problem_count(g); i++)
        json_array_append_new(problems, cli_json_text(belay_graph_problem(g, i)));
    json_object_set_new(object, "path", cli_json_text(belay_graph_path(g)));
    json_object_set_new(
        object, "kind",
        json_string(belay_graph_is_saved_model(g) ? "saved_model" : "meta_graph_def"));
    json_object_set_new(object, "operations", json_integer((json_int_t)belay_graph_op_count(g)));
    json_object_set_new(object, "global_step", step ? cli_json_text(step) : json_null());
    json_object_set_new(object, "savers",
                        json_integer((json_int_t)belay_graph_collection_size(g, "savers")));
    json_object_set_new(object, "collections", collections_json(g));
    json_object_set_new(object, "signatures", signatures_json(g));
    json_object_set_new(object, "variables", variables_json(g));
    json_object_set_new(object, "problems", problems);
    return cli_print_json(object);
}

static int run_graph(const void *given, const char *const *arguments, int count) {
    const values *v = given;
    if (strcmp(arguments[0], "show") != 0)
        return cli_usage_error("'belay graph' has no '%s'; usage: belay graph show GRAPH",
                               arguments[0]);
    if (count != 2)
        return cli_usage_error("usage: belay graph show GRAPH");
    cli_progress_start(CLI_LOG_TEXT, 0);
    cli_say("loading graph %s", arguments[1]);
    belay_error *err = belay_error_new();
    belay_graph *graph =
        cli_load_tensorflow(err) == BELAY_OK ? belay_graph_load(arguments[1], NULL, err) : NULL;
    int code = CLI_OK;
    if (!graph)
        code = cli_report(err);
    else if (v->json)
        code = print_json(graph);
    else
        print_text(graph);
    belay_graph_free(graph);
    belay_error_free(err);
    return code;
}

const cli_command cli_graph = {
    "graph",
    "show GRAPH [--json]",
    "Collections, signatures, variables, savers and problems of a graph.",
    NULL,
    options,
    sizeof(values),
    1,
    2,
    run_graph,
};
