/* Checkpoints of tf.train.Checkpoint: their keys say where in a program's objects a variable was,
 * and a table in them what it was called in a graph. */
#include "checkpoint/saver_impl.h"

#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "wire/checkpoint.pb-c.h"
#include "wire/unpack.h"

#include <string.h>

static belay_code add(bly_object_map *map, const char *name, const char *key, belay_error *err) {
    size_t capacity = map->capacity;
    if (!bly_grow(&map->names, map->count, &capacity, sizeof *map->names) ||
        !bly_grow(&map->keys, map->count, &map->capacity, sizeof *map->keys))
        return bly_fail_memory(err);
    map->names[map->count] = bly_strdup(name);
    map->keys[map->count] = bly_strdup(key);
    map->count++;
    return map->names[map->count - 1] && map->keys[map->count - 1] ? BELAY_OK
                                                                   : bly_fail_memory(err);
}

belay_code bly_object_map_read(bly_object_map *map, const char *prefix, const void *data,
                               size_t size, belay_error *err) {
    belay_code code = BELAY_OK;
    Bly__TrackableObjectGraph *objects =
        bly_wire_unpack(&bly__trackable_object_graph__descriptor, data, size, &code);
    if (!objects)
        return code == BELAY_DATA_LOSS
                   ? bly_fail(err, code, "%s: its %s cannot be read", prefix, BLY_OBJECT_GRAPH_KEY)
                   : bly_fail_memory(err);
    for (size_t i = 0; i < objects->n_nodes; i++)
        for (size_t k = 0; code == BELAY_OK && k < objects->nodes[i]->n_attributes; k++) {
            const Bly__TrackableObjectGraph__SerializedTensor *a = objects->nodes[i]->attributes[k];
            if (a->full_name[0] && a->checkpoint_key[0])
                code = add(map, a->full_name, a->checkpoint_key, err);
        }
    bly_wire_free(objects);
    return code;
}

belay_code bly_object_map_load(bly_object_map *map, const bly_bundle *bundle, belay_error *err) {
    const bly_bundle_tensor *tensor = bly_bundle_find(bundle, BLY_OBJECT_GRAPH_KEY);
    bly_bundle_strings text = {NULL, NULL, 0};
    if (!tensor || tensor->dtype != BELAY_STRING)
        return BELAY_OK;
    belay_code code = bly_bundle_read_strings(bundle, tensor, &text, err);
    if (code != BELAY_OK)
        return code;
    if (text.count == 1)
        code = bly_object_map_read(map, bly_bundle_prefix(bundle), text.data,
                                   (size_t)text.offsets[1], err);
    else
        code = bly_fail(err, BELAY_DATA_LOSS, "%s: its %s is not one text",
                        bly_bundle_prefix(bundle), BLY_OBJECT_GRAPH_KEY);
    bly_bundle_strings_free(&text);
    return code;
}

const char *bly_object_map_find(const bly_object_map *map, const char *name) {
    for (size_t i = 0; i < map->count; i++)
        if (strcmp(map->names[i], name) == 0)
            return map->keys[i];
    return NULL;
}

void bly_object_map_free(bly_object_map *map) {
    for (size_t i = 0; i < map->count; i++) {
        bly_free(map->names[i]);
        bly_free(map->keys[i]);
    }
    bly_free(map->names);
    bly_free(map->keys);
    *map = (bly_object_map){0};
}

/* What is to be restored, gathered while the saver's own keys are gone through. */
struct mapping {
    belay_saver *saver;
    const bly_bundle *bundle;
    const bly_object_map *map;
    bly_restored *items;
    size_t count, capacity;
    int lacking;
};

static int is_called(const bly_variable *variable, const char *name) {
    return strcmp(variable->slice_full_name ? variable->slice_full_name : variable->info.name,
                  name) == 0;
}

/* These are restored by ops of belay's own, which do not reshape. */
static belay_code map_key(void *self, const char *key, int reshapes, belay_error *err) {
    (void)reshapes;
    struct mapping *m = self;
    const belay_graph *graph = m->saver->graph;
    const char *name = key;
    for (size_t i = 0; i < m->saver->listed_count; i++)
        if (strcmp(m->saver->listed[i].key, key) == 0)
            name = m->saver->listed[i].name;
    const char *mapped = bly_object_map_find(m->map, key);
    size_t before = m->count;
    for (size_t i = 0; i < m->count; i++)
        if (is_called(m->items[i].variable, name))
            return BELAY_OK; /* the other slices are there already */
    for (size_t i = 0; mapped && i < graph->variable_count; i++) {
        if (!is_called(&graph->variables[i], name))
            continue;
        belay_code code = bly_saver_compare(graph, m->bundle, mapped, &graph->variables[i], 0, err);
        if (code != BELAY_OK)
            return code;
        if (!bly_grow(&m->items, m->count, &m->capacity, sizeof *m->items))
            return bly_fail_memory(err);
        m->items[m->count++] = (bly_restored){&graph->variables[i], mapped};
    }
    m->lacking += m->count == before;
    return BELAY_OK;
}

belay_code bly_saver_restore_objects(belay_saver *saver, belay_session *session,
                                     const bly_bundle *bundle, int *out_done, belay_error *err) {
    bly_object_map map = {0};
    struct mapping m = {.saver = saver, .bundle = bundle, .map = &map};
    *out_done = 0;
    if (saver->graph->is_saved_model)
        return BELAY_OK; /* such a checkpoint is its own kind */
    belay_code code = bly_object_map_load(&map, bundle, err);
    if (code == BELAY_OK && map.count > 0)
        code = bly_saver_each_key(saver, map_key, &m, err);
    if (code == BELAY_OK && m.count > 0 && m.lacking == 0) {
        bly_warn("%s is a checkpoint of objects (tf.train.Checkpoint); its variables are found by "
                 "their names in the graph that it was saved from",
                 bly_bundle_prefix(bundle));
        code = bly_saver_restore_items(session, saver->graph, m.items, m.count,
                                       bly_bundle_prefix(bundle), err);
        *out_done = code == BELAY_OK;
    }
    bly_free(m.items);
    bly_object_map_free(&map);
    return code;
}
