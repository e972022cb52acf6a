/* Collections of the MetaGraphDef (MG-05 to MG-25). */
#include "graph/index.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "wire/unpack.h"

#include <stdlib.h>
#include <string.h>

/* Their elements are VariableDefs (MG-11). */
static const char *const of_variables[] = {
    "variables",       "trainable_variables",      "local_variables", "global_step",
    "model_variables", "moving_average_variables", "metric_variables"};
/* Those, and the other collections whose elements are messages. */
static const char *const of_messages[] = {"savers", "queue_runners", "cond_context",
                                          "while_context"};

static int by_name(const void *a, const void *b) {
    return strcmp(((const bly_collection *)a)->name, ((const bly_collection *)b)->name);
}

bly_collection *bly_collection_find(const belay_graph *graph, const char *name) {
    const struct bly_graph_index *index = graph->index;
    bly_collection key = {.name = name};
    if (index->collection_count == 0)
        return NULL;
    return bsearch(&key, index->collections, index->collection_count, sizeof key, by_name);
}

/* Reads the op names of a collection of VariableDefs. An element that is none gets an empty name.
 */
static belay_code name_variables(const belay_graph *graph, bly_collection *collection,
                                 belay_error *err) {
    const Bly__CollectionDef__BytesList *list = collection->def->bytes_list;
    if (list->n_value > 0) {
        collection->names = bly_calloc(list->n_value, sizeof *collection->names);
        if (!collection->names)
            return bly_fail_memory(err);
        collection->name_capacity = list->n_value;
    }
    for (size_t i = 0; i < list->n_value; i++) {
        belay_code code;
        Bly__VariableDef *def = bly_wire_unpack(&bly__variable_def__descriptor, list->value[i].data,
                                                list->value[i].len, &code);
        if (!def && code == BELAY_DATA_LOSS)
            return bly_fail(err, code, "%s: element %zu of collection '%s' is no variable",
                            graph->path, i, collection->name);
        collection->names[i] = def ? bly_op_name_of(def->variable_name) : NULL;
        bly_wire_free(def);
        if (!collection->names[i])
            return bly_fail_memory(err);
        collection->name_count++;
    }
    return BELAY_OK;
}

static void free_names(bly_collection *collection) {
    for (size_t i = 0; i < collection->name_count; i++)
        bly_free(collection->names[i]);
    bly_free(collection->names);
}

/* Takes one collection in, unless it says nothing (MG-22) or is there already: in a map the last
 * one counts. */
static belay_code take(belay_graph *graph, const char *name, Bly__CollectionDef *def,
                       belay_error *err) {
    struct bly_graph_index *index = graph->index;
    bly_collection made = {.name = name, .def = def};
    if (!def || def->kind_case == BLY__COLLECTION_DEF__KIND__NOT_SET) {
        bly_error("%s: collection '%s' is of no known kind and is left out", graph->path, name);
        return bly_graph_add_problem(graph, err,
                                     "collection '%s' is of no known kind and is left out", name);
    }
    if (!bly_grow(&index->collections, index->collection_count, &index->collection_capacity,
                  sizeof *index->collections))
        return bly_fail_memory(err);
    if (def->kind_case == BLY__COLLECTION_DEF__KIND_BYTES_LIST && BLY_AMONG(name, of_variables)) {
        belay_code code = name_variables(graph, &made, err);
        if (code != BELAY_OK) {
            free_names(&made);
            return code;
        }
    } else if (def->kind_case == BLY__COLLECTION_DEF__KIND_NODE_LIST &&
               (BLY_AMONG(name, of_variables) || BLY_AMONG(name, of_messages))) {
        /* MG-25: a very old file. Its elements are taken for plain names. */
        bly_warn("%s: collection '%s' holds names only, as very old files do", graph->path, name);
    }
    for (size_t i = 0; i < index->collection_count; i++) {
        if (strcmp(index->collections[i].name, name) == 0) {
            free_names(&index->collections[i]);
            index->collections[i] = made;
            return BELAY_OK;
        }
    }
    index->collections[index->collection_count++] = made;
    return BELAY_OK;
}

static int is_there(const belay_graph *graph, const char *op_or_tensor) {
    size_t len;
    int index;
    return bly_split_tensor_name(op_or_tensor, &len, &index)
               ? bly_graph_output_of(graph, op_or_tensor).oper != NULL
               : bly_graph_op_of(graph, op_or_tensor) != NULL;
}

/* MG-22: what a collection names has to be there, or the graph is not what was exported. */
static belay_code check_nodes(const belay_graph *graph, const bly_collection *collection,
                              belay_error *err) {
    if (collection->def->kind_case != BLY__COLLECTION_DEF__KIND_NODE_LIST ||
        strcmp(collection->name, "unbound_inputs") == 0) /* MG-27 is the error for those */
        return BELAY_OK;
    const Bly__CollectionDef__NodeList *list = collection->def->node_list;
    for (size_t i = 0; i < list->n_value; i++)
        if (!is_there(graph, list->value[i]))
            return bly_fail(err, BELAY_NOT_FOUND,
                            "%s: collection '%s' names '%s', which does not exist in the graph",
                            graph->path, collection->name, list->value[i]);
    return BELAY_OK;
}

static void sort(struct bly_graph_index *index) {
    if (index->collection_count > 0)
        qsort(index->collections, index->collection_count, sizeof *index->collections, by_name);
}

/* Unpacks the first SaverDef of collection `savers`, once there is one. */
static belay_code read_saver(belay_graph *graph, belay_error *err) {
    const Bly__CollectionDef *def = bly_graph_collection(graph, "savers");
    belay_code code;
    if (graph->index->saver || !def || def->kind_case != BLY__COLLECTION_DEF__KIND_BYTES_LIST ||
        def->bytes_list->n_value == 0)
        return BELAY_OK;
    ProtobufCBinaryData bytes = def->bytes_list->value[0];
    graph->index->saver =
        bly_wire_unpack(&bly__saver_def__descriptor, bytes.data, bytes.len, &code);
    if (code == BELAY_DATA_LOSS)
        bly_fail(err, code, "%s: an element of collection 'savers' is no saver", graph->path);
    else if (code != BELAY_OK)
        bly_fail_memory(err);
    return code;
}

belay_code bly_collections_load(belay_graph *graph, belay_error *err) {
    belay_code code = BELAY_OK;
    for (size_t i = 0; i < graph->meta->n_collection_def && code == BELAY_OK; i++) {
        Bly__MetaGraphDef__CollectionEntry *entry = graph->meta->collection_def[i];
        code = take(graph, entry->key, entry->value, err);
    }
    sort(graph->index);
    for (size_t i = 0; i < graph->index->collection_count && code == BELAY_OK; i++)
        code = check_nodes(graph, &graph->index->collections[i], err);
    return code == BELAY_OK ? read_saver(graph, err) : code;
}

void bly_collections_free(struct bly_graph_index *index) {
    for (size_t i = 0; i < index->collection_count; i++)
        free_names(&index->collections[i]);
    bly_free(index->collections);
    bly_wire_free(index->saver);
}

/* ---- reading ---- */

size_t belay_graph_collection_count(const belay_graph *graph) {
    return graph ? graph->index->collection_count : 0;
}

const char *belay_graph_collection_name(const belay_graph *graph, size_t index) {
    return index < belay_graph_collection_count(graph) ? graph->index->collections[index].name
                                                       : NULL;
}

const Bly__CollectionDef *bly_graph_collection(const belay_graph *graph, const char *name) {
    const bly_collection *collection = bly_collection_find(graph, name);
    return collection ? collection->def : NULL;
}

belay_collection_kind belay_graph_collection_kind(const belay_graph *graph, const char *name) {
    const Bly__CollectionDef *def = graph && name ? bly_graph_collection(graph, name) : NULL;
    /* The cases are numbered as the fields are, and so are our kinds. */
    return def ? (belay_collection_kind)def->kind_case : BELAY_COLLECTION_NONE;
}

size_t belay_graph_collection_size(const belay_graph *graph, const char *name) {
    const Bly__CollectionDef *def = graph && name ? bly_graph_collection(graph, name) : NULL;
    switch (def ? def->kind_case : BLY__COLLECTION_DEF__KIND__NOT_SET) {
    case BLY__COLLECTION_DEF__KIND_NODE_LIST:
        return def->node_list->n_value;
    case BLY__COLLECTION_DEF__KIND_BYTES_LIST:
        return def->bytes_list->n_value;
    case BLY__COLLECTION_DEF__KIND_INT64_LIST:
        return def->int64_list->n_value;
    case BLY__COLLECTION_DEF__KIND_FLOAT_LIST:
        return def->float_list->n_value;
    case BLY__COLLECTION_DEF__KIND_ANY_LIST:
        return def->any_list->n_value;
    default:
        return 0;
    }
}

const char *belay_graph_collection_node(const belay_graph *graph, const char *name, size_t index) {
    const bly_collection *collection = graph && name ? bly_collection_find(graph, name) : NULL;
    if (!collection)
        return NULL;
    if (collection->def->kind_case == BLY__COLLECTION_DEF__KIND_NODE_LIST)
        return index < collection->def->node_list->n_value
                   ? collection->def->node_list->value[index]
                   : NULL;
    return index < collection->name_count ? collection->names[index] : NULL;
}

const void *belay_graph_collection_bytes(const belay_graph *graph, const char *name, size_t index,
                                         size_t *out_size) {
    const Bly__CollectionDef *def = graph && name ? bly_graph_collection(graph, name) : NULL;
    const ProtobufCBinaryData *values =
        !def                                                     ? NULL
        : def->kind_case == BLY__COLLECTION_DEF__KIND_BYTES_LIST ? def->bytes_list->value
        : def->kind_case == BLY__COLLECTION_DEF__KIND_ANY_LIST   ? def->any_list->value
                                                                 : NULL;
    int there = values && index < belay_graph_collection_size(graph, name);
    if (out_size)
        *out_size = there ? values[index].len : 0;
    if (!there)
        return NULL;
    return values[index].len ? values[index].data : (const void *)"";
}

uint32_t belay_graph_collection_int64(const belay_graph *graph, const char *name, size_t index,
                                      int64_t *out) {
    const Bly__CollectionDef *def = graph && name ? bly_graph_collection(graph, name) : NULL;
    uint32_t there = def && def->kind_case == BLY__COLLECTION_DEF__KIND_INT64_LIST &&
                     index < def->int64_list->n_value;
    if (out)
        *out = there ? def->int64_list->value[index] : 0;
    return there;
}

uint32_t belay_graph_collection_float(const belay_graph *graph, const char *name, size_t index,
                                      float *out) {
    const Bly__CollectionDef *def = graph && name ? bly_graph_collection(graph, name) : NULL;
    uint32_t there = def && def->kind_case == BLY__COLLECTION_DEF__KIND_FLOAT_LIST &&
                     index < def->float_list->n_value;
    if (out)
        *out = there ? def->float_list->value[index] : 0;
    return there;
}

/* ---- adding ---- */

/* A collection of this kind, made where there is none. What is made belongs to the message, so it
 * is allocated as protobuf-c would have done it. */
static belay_code make_collection(belay_graph *graph, const char *name,
                                  Bly__CollectionDef__KindCase kind, belay_error *err) {
    Bly__MetaGraphDef *meta = graph->meta;
    Bly__MetaGraphDef__CollectionEntry **entries = bly_realloc(
        meta->collection_def, (meta->n_collection_def + 1) * sizeof *meta->collection_def);
    if (!entries)
        return bly_fail_memory(err);
    meta->collection_def = entries;
    Bly__MetaGraphDef__CollectionEntry *entry = bly_malloc(sizeof *entry);
    Bly__CollectionDef *def = bly_malloc(sizeof *def);
    int is_nodes = kind == BLY__COLLECTION_DEF__KIND_NODE_LIST;
    void *list = bly_malloc(is_nodes ? sizeof *def->node_list : sizeof *def->bytes_list);
    char *key = bly_strdup(name);
    if (!entry || !def || !list || !key ||
        !bly_grow(&graph->index->collections, graph->index->collection_count,
                  &graph->index->collection_capacity, sizeof *graph->index->collections)) {
        bly_free(entry);
        bly_free(def);
        bly_free(list);
        bly_free(key);
        return bly_fail_memory(err);
    }
    bly__meta_graph_def__collection_entry__init(entry);
    bly__collection_def__init(def);
    def->kind_case = kind;
    if (is_nodes) {
        def->node_list = list;
        bly__collection_def__node_list__init(list);
    } else {
        def->bytes_list = list;
        bly__collection_def__bytes_list__init(list);
    }
    entry->key = key;
    entry->value = def;
    meta->collection_def[meta->n_collection_def++] = entry;
    graph->index->collections[graph->index->collection_count++] =
        (bly_collection){.name = key, .def = def};
    sort(graph->index);
    return BELAY_OK;
}

static belay_code collection_for(belay_graph *graph, const char *name,
                                 Bly__CollectionDef__KindCase kind, bly_collection **out,
                                 belay_error *err) {
    belay_code code = BELAY_OK;
    *out = bly_collection_find(graph, name);
    if (!*out) {
        code = make_collection(graph, name, kind, err);
        *out = bly_collection_find(graph, name);
    } else if ((*out)->def->kind_case != kind) {
        code =
            bly_fail(err, BELAY_INVALID_ARGUMENT,
                     "collection '%s' holds elements of another kind: nothing can be added", name);
    }
    return code;
}

belay_code bly_graph_add_to_collection(belay_graph *graph, const char *name, const char *node,
                                       belay_error *err) {
    bly_collection *collection;
    belay_code code =
        collection_for(graph, name, BLY__COLLECTION_DEF__KIND_NODE_LIST, &collection, err);
    if (code != BELAY_OK)
        return code;
    Bly__CollectionDef__NodeList *list = collection->def->node_list;
    char *copy = bly_strdup(node);
    char **values = bly_realloc(list->value, (list->n_value + 1) * sizeof *list->value);
    if (values)
        list->value = values;
    if (!copy || !values) {
        bly_free(copy);
        return bly_fail_memory(err);
    }
    list->value[list->n_value++] = copy;
    return BELAY_OK;
}

belay_code bly_graph_add_bytes_to_collection(belay_graph *graph, const char *name, const void *data,
                                             size_t len, belay_error *err) {
    bly_collection *collection;
    belay_code code =
        collection_for(graph, name, BLY__COLLECTION_DEF__KIND_BYTES_LIST, &collection, err);
    if (code != BELAY_OK)
        return code;
    Bly__CollectionDef__BytesList *list = collection->def->bytes_list;
    uint8_t *copy = bly_malloc(len);
    ProtobufCBinaryData *values = bly_realloc(list->value, (list->n_value + 1) * sizeof *values);
    if (values)
        list->value = values;
    if (!copy || !values) {
        bly_free(copy);
        return bly_fail_memory(err);
    }
    if (len > 0)
        memcpy(copy, data, len);
    list->value[list->n_value++] = (ProtobufCBinaryData){len, copy};
    if (strcmp(name, "savers") == 0)
        return read_saver(graph, err);
    if (!BLY_AMONG(name, of_variables))
        return BELAY_OK;
    Bly__VariableDef *def = bly_wire_unpack(&bly__variable_def__descriptor, data, len, &code);
    char *op = def ? bly_op_name_of(def->variable_name) : NULL;
    bly_wire_free(def);
    if (!op || !bly_grow(&collection->names, collection->name_count, &collection->name_capacity,
                         sizeof *collection->names)) {
        bly_free(op);
        return bly_fail_memory(err);
    }
    collection->names[collection->name_count++] = op;
    return BELAY_OK;
}

/* ---- savers ---- */

size_t bly_graph_savers_count(const belay_graph *graph) {
    return belay_graph_collection_size(graph, "savers");
}

const Bly__SaverDef *bly_graph_saver_def(const belay_graph *graph) {
    const Bly__SaverDef *top = graph->meta->saver_def;
    /* An exporter without a saver may still write an empty message. One that names some of its ops
     * is a saver, and a wrong one (SV-07). */
    int is_saver = top && (top->save_tensor_name[0] || top->restore_op_name[0] ||
                           top->filename_tensor_name[0]);
    return is_saver ? top : graph->index->saver;
}
