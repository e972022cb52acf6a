/* Writing a graph that somebody else loads: as a MetaGraphDef or GraphDef, in binary or as text. */
#include "graph/export_meta.h"

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/options.h"
#include "graph/graph_def.h"
#include "graph/saver_scopes.h"
#include "graph/serialize.h"
#include "graph/text_form.h"

#include <stddef.h>
#include <string.h>

_Static_assert(sizeof(belay_meta_graph_options) ==
                   offsetof(belay_meta_graph_options, reserved) + sizeof(uint32_t),
               "no tail padding");

#define KNOWN_FLAGS                                                                                \
    (BELAY_META_GRAPH_AS_TEXT | BELAY_META_GRAPH_CLEAR_DEVICES |                                   \
     BELAY_META_GRAPH_CLEAR_EXTRANEOUS_SAVERS)

/* ---- a file ---- */

static belay_code make_folder_of(const char *path, belay_error *err) {
    char *folder = bly_path_directory(path);
    belay_code code = !folder      ? bly_fail_memory(err)
                      : !folder[0] ? BELAY_OK
                                   : bly_make_directories(folder, err);
    bly_free(folder);
    return code;
}

/* The bytes as they are, or as text. */
static belay_code write_as(bly_graph_message kind, const belay_graph *graph, const bly_buf *bytes,
                           int as_text, const char *path, belay_error *err) {
    bly_buf text = BLY_BUF_INIT;
    const bly_buf *content = as_text ? &text : bytes;
    belay_code code = BELAY_OK;
    if (as_text)
        code = bly_graph_to_text(kind, graph->path, bly_buf_text(bytes), bytes->len, &text, err);
    if (code == BELAY_OK)
        code = make_folder_of(path, err);
    if (code == BELAY_OK)
        code = bly_file_write_atomic(path, bly_buf_text(content), content->len, err);
    bly_buf_free(&text);
    return code;
}

/* Puts what `change` made of the bytes in their place. */
static belay_code take_changed(bly_buf *bytes, bly_buf *changed, belay_error *err) {
    belay_code code = changed->failed ? bly_fail_memory(err) : BELAY_OK;
    bly_buf_free(bytes);
    *bytes = *changed;
    *changed = (bly_buf)BLY_BUF_INIT;
    return code;
}

static belay_code graph_def_of(const belay_graph *graph, int clear_devices, bly_buf *out,
                               belay_error *err) {
    bly_buf changed = BLY_BUF_INIT;
    belay_code code = bly_graph_def(graph, out, err);
    if (code == BELAY_OK && clear_devices) {
        bly_graph_def_clear_devices((const uint8_t *)bly_buf_text(out), out->len, &changed);
        code = take_changed(out, &changed, err);
    }
    return code;
}

/* ---- a graph with one saver (MG-29) ---- */

/* A meta graph whose collections are others than the graph's. */
struct trimmed {
    Bly__MetaGraphDef meta; /* shallow: what is not below is the graph's */
    Bly__MetaGraphDef__CollectionEntry **entries;
    struct trimmed_collection {
        Bly__MetaGraphDef__CollectionEntry entry;
        Bly__CollectionDef def;
        Bly__CollectionDef__NodeList nodes;
        Bly__CollectionDef__BytesList bytes;
        ProtobufCBinaryData saver;
    } * collections;
    bly_buf saver;
};

static void trimmed_free(struct trimmed *t) {
    for (size_t i = 0; t->collections && i < t->meta.n_collection_def; i++)
        bly_free(t->collections[i].nodes.value);
    bly_free(t->collections);
    bly_free(t->entries);
    bly_buf_free(&t->saver);
}

/* Collection `savers` holds the one saver that is left. */
static int keep_one_saver(struct trimmed *t, struct trimmed_collection *made) {
    const Bly__SaverDef *saver = t->meta.saver_def;
    size_t len = saver ? bly__saver_def__get_packed_size(saver) : 0;
    char *to = bly_buf_reserve(&t->saver, len + 1);
    if (!to)
        return 0;
    t->saver.len = saver ? bly__saver_def__pack(saver, (uint8_t *)to) : 0;
    made->saver = (ProtobufCBinaryData){t->saver.len, (uint8_t *)t->saver.data};
    made->bytes.value = &made->saver;
    made->bytes.n_value = saver ? 1 : 0;
    made->def.bytes_list = &made->bytes;
    return 1;
}

/* A collection names no node that is left out. */
static int keep_nodes(const bly_saver_scopes *scopes, const Bly__CollectionDef__NodeList *all,
                      struct trimmed_collection *made) {
    made->nodes.value = bly_calloc(all->n_value + 1, sizeof *made->nodes.value);
    if (!made->nodes.value)
        return 0;
    for (size_t i = 0; i < all->n_value; i++)
        if (!bly_saver_scopes_have(scopes, all->value[i], strlen(all->value[i])))
            made->nodes.value[made->nodes.n_value++] = all->value[i];
    made->def.node_list = &made->nodes;
    return 1;
}

static int trim_collection(struct trimmed *t, const bly_saver_scopes *scopes, size_t i) {
    struct trimmed_collection *made = &t->collections[i];
    const Bly__MetaGraphDef__CollectionEntry *entry = t->meta.collection_def[i];
    bly__collection_def__node_list__init(&made->nodes);
    bly__collection_def__bytes_list__init(&made->bytes);
    made->entry = *entry;
    t->entries[i] = &made->entry;
    if (!entry->value)
        return 1;
    made->def = *entry->value;
    made->entry.value = &made->def;
    if (made->def.kind_case == BLY__COLLECTION_DEF__KIND_BYTES_LIST &&
        strcmp(entry->key, "savers") == 0)
        return keep_one_saver(t, made);
    if (made->def.kind_case == BLY__COLLECTION_DEF__KIND_NODE_LIST)
        return keep_nodes(scopes, entry->value->node_list, made);
    return 1;
}

static belay_code trim(const belay_graph *graph, const Bly__SaverDef *saver,
                       const bly_saver_scopes *scopes, struct trimmed *t, belay_error *err) {
    size_t count = graph->meta->n_collection_def;
    *t = (struct trimmed){.meta = *graph->meta};
    t->meta.saver_def = (Bly__SaverDef *)(uintptr_t)saver;
    t->entries = bly_calloc(count + 1, sizeof *t->entries);
    t->collections = bly_calloc(count + 1, sizeof *t->collections);
    if (!t->entries || !t->collections)
        return bly_fail_memory(err);
    for (size_t i = 0; i < count; i++)
        if (!trim_collection(t, scopes, i))
            return bly_fail_memory(err);
    t->meta.collection_def = t->entries;
    return BELAY_OK;
}

static belay_code serialize_with_one_saver(const belay_graph *graph, bly_buf *graph_def,
                                           const Bly__SaverDef *saver, bly_buf *out,
                                           belay_error *err) {
    bly_saver_scopes scopes = BLY_SAVER_SCOPES_INIT;
    bly_buf changed = BLY_BUF_INIT;
    struct trimmed trimmed = {.collections = NULL};
    belay_code code = bly_saver_scopes_find(graph_def, saver, &scopes, err);
    if (code == BELAY_OK) {
        bly_saver_scopes_drop(&scopes, graph_def, &changed);
        code = take_changed(graph_def, &changed, err);
    }
    if (code == BELAY_OK)
        code = trim(graph, saver, &scopes, &trimmed, err);
    if (code == BELAY_OK)
        code = bly_graph_pack_meta(graph, &trimmed.meta, graph_def, out, err);
    trimmed_free(&trimmed);
    bly_saver_scopes_free(&scopes);
    return code;
}

/* ---- the public face ---- */

belay_code bly_graph_export_meta(const belay_graph *graph, const Bly__SaverDef *saver,
                                 const char *path, const belay_meta_graph_options *given,
                                 belay_error *err) {
    belay_meta_graph_options options;
    bly_buf graph_def = BLY_BUF_INIT, meta = BLY_BUF_INIT;
    belay_code code =
        bly_options_read(&options, sizeof options, given, "belay_meta_graph_options", err);
    if (code != BELAY_OK)
        return code;
    if (!path || !path[0])
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "no path was given to write the graph to");
    if (options.reserved || (options.flags & ~KNOWN_FLAGS))
        return bly_fail(err, BELAY_INVALID_ARGUMENT,
                        "belay_meta_graph_options has a flag that this version does not know");
    if (!saver)
        saver = bly_graph_saver_def(graph);
    code =
        graph_def_of(graph, (options.flags & BELAY_META_GRAPH_CLEAR_DEVICES) != 0, &graph_def, err);
    if (code == BELAY_OK && (options.flags & BELAY_META_GRAPH_CLEAR_EXTRANEOUS_SAVERS))
        code = serialize_with_one_saver(graph, &graph_def, saver, &meta, err);
    else if (code == BELAY_OK)
        code = bly_graph_serialize_around(graph, &graph_def, saver, &meta, err);
    if (code == BELAY_OK)
        code = write_as(BLY_META_GRAPH_DEF, graph, &meta,
                        (options.flags & BELAY_META_GRAPH_AS_TEXT) != 0, path, err);
    bly_buf_free(&graph_def);
    bly_buf_free(&meta);
    return code;
}

belay_code belay_graph_export_meta_graph(const belay_graph *graph, const char *path,
                                         const belay_meta_graph_options *options,
                                         belay_error *err) {
    if (!graph)
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "no graph was given");
    return bly_graph_export_meta(graph, NULL, path, options, err);
}

belay_code belay_graph_write(const belay_graph *graph, const char *path, uint32_t as_text,
                             belay_error *err) {
    bly_buf bytes = BLY_BUF_INIT;
    if (!graph || !path || !path[0])
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "no graph, or no path to write it to");
    belay_code code = graph_def_of(graph, 0, &bytes, err);
    if (code == BELAY_OK)
        code = write_as(BLY_GRAPH_DEF, graph, &bytes, as_text != 0, path, err);
    bly_buf_free(&bytes);
    return code;
}
