/* What a SavedModel has beside its graph: variables, the op that sets up the rest, and files. */
#include "graph/index.h"

#include "base/file.h"
#include "base/mem.h"
#include "wire/cursor.h"
#include "wire/unpack.h"

#include <string.h>

#define INIT_OP "__saved_model_init_op"

static belay_code find_checkpoint(belay_graph *graph, const char *folder, belay_error *err) {
    char *prefix = bly_path_join(folder, "variables/variables");
    char *index = bly_path_join(folder, "variables/variables.index");
    belay_code code = prefix && index ? BELAY_OK : bly_fail_memory(err);
    if (code == BELAY_OK && bly_file_exists(index)) {
        graph->initial_checkpoint = prefix;
        prefix = NULL;
    } else if (code == BELAY_OK && graph->variable_count > graph->local_count &&
               bly_graph_saver_def(graph)) {
        code = bly_fail(err, BELAY_DATA_LOSS,
                        "%s has variables, but no %s to take their values from: export it again",
                        folder, index);
    }
    bly_free(prefix);
    bly_free(index);
    return code;
}

/* The signature is where newer exporters name it; the collections are TF1's. */
static belay_code find_initial_op(belay_graph *graph, belay_error *err) {
    static const char *const collections[] = {"saved_model_main_op", "legacy_init_op"};
    const belay_signature_tensor *output = belay_graph_signature_output(graph, INIT_OP, 0);
    const char *name = output ? output->tensor : NULL;
    for (size_t i = 0; !name && i < sizeof collections / sizeof collections[0]; i++)
        name = belay_graph_collection_node(graph, collections[i], 0);
    if (!name || name[0] == '\0')
        return BELAY_OK;
    graph->initial_op = bly_graph_op_of(graph, name);
    if (graph->initial_op)
        return BELAY_OK;
    return bly_fail(err, BELAY_DATA_LOSS,
                    "%s does not fit together: its main op '%s' is not in the graph", graph->path,
                    name);
}

static belay_code add_asset(belay_graph *graph, const char *folder, const Bly__AssetFileDef *def,
                            belay_error *err) {
    const char *name = def->tensor_info ? def->tensor_info->name : "";
    TF_Output tensor = bly_graph_output_of(graph, name);
    if (!tensor.oper)
        return bly_fail(
            err, BELAY_DATA_LOSS,
            "%s does not fit together: the tensor '%s' of file '%s' is not in the graph",
            graph->path, name, def->filename);
    for (size_t i = 0; i < graph->asset_count;
         i++) /* in the message and in the collection: once is enough */
        if (graph->assets[i].tensor.oper == tensor.oper &&
            graph->assets[i].tensor.index == tensor.index)
            return BELAY_OK;
    bly_asset *assets =
        bly_realloc(graph->assets, (graph->asset_count + 1) * sizeof *graph->assets);
    if (!assets)
        return bly_fail_memory(err);
    graph->assets = assets;
    char *inside = bly_path_join("assets", def->filename);
    char *path = inside ? bly_path_join(folder, inside) : NULL;
    bly_free(inside);
    if (!path)
        return bly_fail_memory(err);
    graph->assets[graph->asset_count++] = (bly_asset){tensor, path};
    if (bly_file_exists(path) || bly_is_directory(path))
        return BELAY_OK;
    return bly_graph_add_problem(graph, err, "file '%s' of the SavedModel is missing", path);
}

static belay_code add_packed_asset(belay_graph *graph, const char *folder,
                                   const ProtobufCBinaryData *any, belay_error *err) {
    bly_cursor cursor = bly_cursor_over(any->data, any->len);
    bly_field field;
    belay_code code = BELAY_OK;
    while (code == BELAY_OK && bly_cursor_next(&cursor, &field)) {
        if (field.number != 2 || field.type != 2) /* Any.value */
            continue;
        Bly__AssetFileDef *def =
            bly_wire_unpack(&bly__asset_file_def__descriptor, field.data, field.size, &code);
        if (def)
            code = add_asset(graph, folder, def, err);
        else
            bly_fail(err, code, "%s: collection 'saved_model_assets' cannot be read", graph->path);
        bly_wire_free(def);
    }
    return code;
}

/* TF1's builder keeps them in a collection of Any messages. */
static belay_code add_collected_assets(belay_graph *graph, const char *folder, belay_error *err) {
    const Bly__CollectionDef *def = bly_graph_collection(graph, "saved_model_assets");
    belay_code code = BELAY_OK;
    if (!def || def->kind_case != BLY__COLLECTION_DEF__KIND_ANY_LIST)
        return BELAY_OK;
    for (size_t i = 0; i < def->any_list->n_value && code == BELAY_OK; i++)
        code = add_packed_asset(graph, folder, &def->any_list->value[i], err);
    return code;
}

belay_code bly_saved_model_load(belay_graph *graph, const char *folder, belay_error *err) {
    belay_code code = find_checkpoint(graph, folder, err);
    if (code == BELAY_OK)
        code = find_initial_op(graph, err);
    for (size_t i = 0; i < graph->meta->n_asset_file_def && code == BELAY_OK; i++)
        code = add_asset(graph, folder, graph->meta->asset_file_def[i], err);
    return code == BELAY_OK ? add_collected_assets(graph, folder, err) : code;
}
