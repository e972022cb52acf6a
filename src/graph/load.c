/* From a file or folder to a graph: what kind of file it is, the MetaGraphDef in it, and
 * TensorFlow's import. */
#include "graph/index.h"

#include "base/buf.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/options.h"
#include "base/text.h"
#include "graph/graph_def.h"
#include "graph/kind.h"
#include "graph/text_form.h"
#include "wire/cursor.h"
#include "wire/unpack.h"

#include <stdint.h>
#include <string.h>

/* Protobuf itself goes no further. */
#define GRAPH_BYTES_MOST ((size_t)INT32_MAX)

#define META_GRAPH_DEF_FIELD 2 /* MetaGraphDef.graph_def */
#define SAVED_MODEL_META     2 /* SavedModel.meta_graphs */

_Static_assert(sizeof(belay_graph_options) ==
                   offsetof(belay_graph_options, reserved) + sizeof(uint32_t),
               "no tail padding");

/* A MetaGraphDef without its graph, and where that is. */
struct meta_graph {
    Bly__MetaGraphDef *meta;
    const uint8_t *graph_def;
    size_t graph_def_size;
    int has_graph_def;
};

static belay_code damaged(belay_error *err, const char *path, const char *what) {
    return bly_fail(err, BELAY_DATA_LOSS, "%s is damaged, or %s", path, what);
}

/* Copies everything but the graph, which is large and goes to TensorFlow as it is, and unpacks
 * that. */
static belay_code unpack_meta_graph(const char *path, const void *data, size_t len,
                                    struct meta_graph *out, belay_error *err) {
    bly_cursor cursor = bly_cursor_over(data, len);
    bly_field field;
    bly_buf rest = BLY_BUF_INIT;
    belay_code code = BELAY_OK;
    *out = (struct meta_graph){0};
    while (bly_cursor_next(&cursor, &field)) {
        if (field.number == META_GRAPH_DEF_FIELD && field.type == 2) {
            out->graph_def = field.data;
            out->graph_def_size = field.size;
            out->has_graph_def = 1;
        } else {
            bly_buf_append(&rest, field.from, field.len);
        }
    }
    if (cursor.broken) {
        code = damaged(err, path, "no MetaGraphDef");
    } else if (rest.failed) {
        code = bly_fail_memory(err);
    } else {
        out->meta = bly_wire_unpack(&bly__meta_graph_def__descriptor, rest.data, rest.len, &code);
        if (code == BELAY_DATA_LOSS)
            damaged(err, path, "no MetaGraphDef");
        else if (code != BELAY_OK)
            bly_fail_memory(err);
    }
    bly_buf_free(&rest);
    return code;
}

static belay_code import_bytes(belay_graph *graph, const void *data, size_t len, belay_error *err) {
    const bly_runtime *rt = graph->rt;
    TF_Status *status = rt->NewStatus();
    TF_Buffer *buffer = rt->NewBuffer();
    TF_ImportGraphDefOptions *options = rt->NewImportGraphDefOptions();
    BLY_LOCAL_ERROR(mine);
    buffer->data = data; /* borrowed: no deallocator */
    buffer->length = len;
    rt->GraphImportGraphDef(graph->tf, buffer, options, status);
    rt->DeleteImportGraphDefOptions(options);
    rt->DeleteBuffer(buffer);
    belay_code code = bly_runtime_finish(rt, status, &mine);
    if (code == BELAY_INVALID_ARGUMENT && strstr(mine.message, "Invalid GraphDef"))
        return damaged(err, graph->path, "its graph was written by something else");
    if (code != BELAY_OK) {
        bly_error_prefix(&mine, "%s: ", graph->path);
        bly_error_copy(err, &mine);
    }
    return code;
}

static belay_code import_graph_def(belay_graph *graph, const struct meta_graph *found,
                                   uint32_t flags, belay_error *err) {
    if (!(flags & BELAY_GRAPH_CLEAR_DEVICES))
        return import_bytes(graph, found->graph_def, found->graph_def_size, err);
    bly_buf cleared = BLY_BUF_INIT;
    bly_graph_def_clear_devices(found->graph_def, found->graph_def_size, &cleared);
    belay_code code =
        cleared.failed ? bly_fail_memory(err) : import_bytes(graph, cleared.data, cleared.len, err);
    bly_buf_free(&cleared);
    return code;
}

/* MG-27: an import would have to map them, and nothing here could. */
static belay_code refuse_unbound_inputs(const belay_graph *graph, belay_error *err) {
    size_t count = belay_graph_collection_size(graph, "unbound_inputs");
    if (count == 0)
        return BELAY_OK;
    return bly_fail(err, BELAY_INVALID_ARGUMENT,
                    "%s is part of a graph: it has %zu unbound inputs, which only the program that "
                    "exported it can connect",
                    graph->path, count);
}

/* Everything after the file was found. Takes found->meta, also on error. `folder` is NULL, or the
 * SavedModel's. */
static belay_graph *make_graph(const char *path, const char *folder, struct meta_graph *found,
                               uint32_t flags, belay_error *err) {
    const bly_runtime *rt = bly_runtime_get(err);
    belay_graph *graph = rt ? bly_graph_new(rt, path, err) : NULL;
    if (!graph) {
        bly_wire_free(found->meta);
        return NULL;
    }
    graph->meta = found->meta;
    graph->is_saved_model = folder != NULL;
    bly_debug("loading graph %s", path);
    if (import_graph_def(graph, found, flags, err) == BELAY_OK &&
        bly_collections_load(graph, err) == BELAY_OK &&
        refuse_unbound_inputs(graph, err) == BELAY_OK &&
        bly_signatures_load(graph, err) == BELAY_OK && bly_variables_load(graph, err) == BELAY_OK &&
        bly_global_step_load(graph, err) == BELAY_OK &&
        (!folder || bly_saved_model_load(graph, folder, err) == BELAY_OK) &&
        bly_problems_find(graph, err) == BELAY_OK)
        return graph;
    belay_graph_free(graph);
    return NULL;
}

static belay_graph *graph_from_binary(const char *path, const void *data, size_t len,
                                      uint32_t flags, belay_error *err) {
    struct meta_graph found;
    if (unpack_meta_graph(path, data, len, &found, err) != BELAY_OK)
        return NULL;
    /* An empty file is an empty graph to TensorFlow (MG-04); problems.c says so. */
    if (!found.has_graph_def && len > 0) {
        bly_wire_free(found.meta);
        bly_fail(err, BELAY_DATA_LOSS, "%s holds no graph: it is damaged, or no MetaGraphDef",
                 path);
        return NULL;
    }
    return make_graph(path, NULL, &found, flags, err);
}

static belay_graph *graph_from_text(const char *path, const char *text, size_t len, uint32_t flags,
                                    belay_error *err) {
    belay_graph *graph = NULL;
    bly_buf bytes = BLY_BUF_INIT;
    if (bly_graph_from_text(BLY_META_GRAPH_DEF, path, text, len, &bytes, err) == BELAY_OK)
        graph = graph_from_binary(path, bly_buf_text(&bytes), bytes.len, flags, err);
    bly_buf_free(&bytes);
    return graph;
}

static belay_graph *graph_from_bytes(const char *path, const void *data, size_t len, uint32_t flags,
                                     belay_error *err) {
    int is_text;
    if (bly_check_kind(path, data, len, &is_text, err) != BELAY_OK)
        return NULL;
    return is_text ? graph_from_text(path, data, len, flags, err)
                   : graph_from_binary(path, data, len, flags, err);
}

belay_graph *bly_graph_from_bytes(const char *path, const void *data, size_t len,
                                  belay_error *err) {
    return graph_from_bytes(path, data, len, 0, err);
}

static belay_graph *load_file(const char *path, uint32_t flags, belay_error *err) {
    belay_graph *graph = NULL;
    bly_buf bytes = BLY_BUF_INIT;
    if (!bly_file_exists(path))
        bly_fail(err, BELAY_NOT_FOUND, "%s: there is no such file or folder", path);
    else if (bly_file_read(path, GRAPH_BYTES_MOST, &bytes, err) == BELAY_OK)
        graph = graph_from_bytes(path, bly_buf_text(&bytes), bytes.len, flags, err);
    bly_buf_free(&bytes);
    return graph;
}

/* ---- SavedModels: several meta graphs, told apart by their tags ---- */

static int has_tag(const Bly__MetaGraphDef *meta, const char *tag) {
    const Bly__MetaGraphDef__MetaInfoDef *info = meta->meta_info_def;
    for (size_t i = 0; info && i < info->n_tags; i++)
        if (strcmp(info->tags[i], tag) == 0)
            return 1;
    return 0;
}

/* The same set of tags, as TensorFlow's loader wants it. */
static int has_exactly(const Bly__MetaGraphDef *meta, const char *const *tags) {
    size_t count = 0;
    for (; tags[count]; count++)
        if (!has_tag(meta, tags[count]))
            return 0;
    return count == (meta->meta_info_def ? meta->meta_info_def->n_tags : 0);
}

static void describe_tags(const Bly__MetaGraphDef *meta, bly_buf *text) {
    const Bly__MetaGraphDef__MetaInfoDef *info = meta->meta_info_def;
    bly_buf_puts(text, text->len ? ", {" : "{");
    for (size_t i = 0; info && i < info->n_tags; i++)
        bly_buf_printf(text, "%s%s", i ? ", " : "", info->tags[i]);
    bly_buf_puts(text, "}");
}

/* Goes through the meta graphs and keeps the one that was asked for. */
static belay_code choose_meta_graph(const char *path, const bly_buf *bytes, const char *const *tags,
                                    struct meta_graph *out, belay_error *err) {
    static const char *const serve[] = {"serve", NULL};
    bly_cursor cursor = bly_cursor_over(bly_buf_text(bytes), bytes->len);
    bly_field field;
    bly_buf seen = BLY_BUF_INIT;
    size_t count = 0;
    int matches = 0; /* what `out` holds was asked for, not merely the first */
    belay_code code = BELAY_OK;
    *out = (struct meta_graph){0};
    while (code == BELAY_OK && !matches && bly_cursor_next(&cursor, &field)) {
        struct meta_graph found;
        if (field.number != SAVED_MODEL_META || field.type != 2)
            continue;
        code = unpack_meta_graph(path, field.data, field.size, &found, err);
        if (code != BELAY_OK)
            break;
        describe_tags(found.meta, &seen);
        matches = has_exactly(found.meta, tags ? tags : serve);
        if (matches || count == 0) {
            bly_wire_free(out->meta);
            *out = found;
        } else {
            bly_wire_free(found.meta);
        }
        count++;
    }
    if (code == BELAY_OK && cursor.broken)
        code = damaged(err, path, "no SavedModel");
    else if (code == BELAY_OK && count == 0)
        code = bly_fail(err, BELAY_DATA_LOSS, "%s holds no meta graph", path);
    else if (code == BELAY_OK && !matches && (tags || count > 1))
        code = bly_fail(err, BELAY_NOT_FOUND, "%s has no meta graph with %s; it has %s", path,
                        tags ? "these tags" : "the tag serve", bly_buf_text(&seen));
    else if (code == BELAY_OK && !out->has_graph_def)
        code = bly_fail(err, BELAY_DATA_LOSS, "%s holds no graph", path);
    if (code != BELAY_OK) {
        bly_wire_free(out->meta);
        out->meta = NULL;
    }
    bly_buf_free(&seen);
    return code;
}

static belay_code no_saved_model(const char *path, belay_error *err) {
    static const struct {
        const char *file;
        const char *what;
    } signs[] = {
        {"checkpoint",
         "is a folder of checkpoints, and no SavedModel: give the graph that was trained"},
        {"config.json",
         "is an unpacked Keras archive, and no SavedModel: export it with belay_export.py"},
    };
    for (size_t i = 0; i < sizeof signs / sizeof signs[0]; i++) {
        char *file = bly_path_join(path, signs[i].file);
        int there = file && bly_file_exists(file);
        bly_free(file);
        if (there)
            return bly_fail(err, BELAY_NOT_FOUND, "%s %s", path, signs[i].what);
    }
    return bly_fail(err, BELAY_NOT_FOUND,
                    "%s is a folder, but no SavedModel: there is no saved_model.pb (or .pbtxt) in "
                    "it",
                    path);
}

/* Reads a SavedModel's file as bytes, whichever form it has. *out_path names it. The binary form
 * comes first, as in TensorFlow. */
static belay_code read_saved_model(const char *folder, char **out_path, bly_buf *out,
                                   belay_error *err) {
    *out_path = bly_path_join(folder, "saved_model.pb");
    if (!*out_path)
        return bly_fail_memory(err);
    if (bly_file_exists(*out_path))
        return bly_file_read(*out_path, GRAPH_BYTES_MOST, out, err);
    bly_free(*out_path);
    *out_path = bly_path_join(folder, "saved_model.pbtxt");
    if (!*out_path)
        return bly_fail_memory(err);
    if (!bly_file_exists(*out_path))
        return no_saved_model(folder, err);
    bly_buf text = BLY_BUF_INIT;
    belay_code code = bly_file_read(*out_path, GRAPH_BYTES_MOST, &text, err);
    if (code == BELAY_OK)
        code = bly_graph_from_text(BLY_SAVED_MODEL, *out_path, bly_buf_text(&text), text.len, out,
                                   err);
    bly_buf_free(&text);
    return code;
}

static belay_graph *load_folder(const char *path, const belay_graph_options *options,
                                belay_error *err) {
    belay_graph *graph = NULL;
    bly_buf bytes = BLY_BUF_INIT;
    struct meta_graph found;
    char *file = NULL;
    if (read_saved_model(path, &file, &bytes, err) == BELAY_OK &&
        choose_meta_graph(file, &bytes, options->tags, &found, err) == BELAY_OK)
        graph = make_graph(path, path, &found, options->flags, err);
    bly_buf_free(&bytes);
    bly_free(file);
    return graph;
}

belay_graph *belay_graph_load(const char *path, const belay_graph_options *options,
                              belay_error *err) {
    belay_graph_options mine;
    if (!path) {
        bly_fail(err, BELAY_INVALID_ARGUMENT, "no path of a graph was given");
        return NULL;
    }
    if (bly_options_read(&mine, sizeof mine, options, "belay_graph_options", err) != BELAY_OK)
        return NULL;
    if (mine.reserved != 0 || (mine.flags & ~BELAY_GRAPH_CLEAR_DEVICES) != 0) {
        bly_fail(err, BELAY_INVALID_ARGUMENT,
                 "belay_graph_options has a flag that this version does not know");
        return NULL;
    }
    return bly_is_directory(path) ? load_folder(path, &mine, err)
                                  : load_file(path, mine.flags, err);
}
