/* Savers: making them, and saving. */
#include "checkpoint/saver_impl.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/options.h"
#include "base/text_set.h"
#include "checkpoint/commit.h"
#include "checkpoint/full_disk.h"
#include "checkpoint/manifest.h"
#include "graph/export_meta.h"
#include "graph/serialize.h"
#include "wire/unpack.h"

#include <stddef.h>
#include <string.h>

_Static_assert(sizeof(belay_saver_options) ==
                   offsetof(belay_saver_options, import_scope) + sizeof(void *),
               "no tail padding");
_Static_assert(sizeof(belay_save_options) ==
                   offsetof(belay_save_options, reserved) + sizeof(uint32_t),
               "no tail padding");

/* What only a saver that is built can do. */
#define BUILD_FLAGS (BELAY_SAVER_SHARDED | BELAY_SAVER_ALLOW_EMPTY | BELAY_SAVER_RESHAPE)
#define KNOWN_FLAGS                                                                                \
    (BELAY_SAVER_BUILD | BUILD_FLAGS | BELAY_SAVER_PAD_STEP_NUMBER | BELAY_SAVER_RELATIVE_PATHS)
#define KNOWN_SAVE_FLAGS (BELAY_SAVE_NO_META_GRAPH | BELAY_SAVE_NO_STATE)
#define MAX_TO_KEEP      5
#define KEEP_EVERY_HOURS 10000.0

/* ---- making one ---- */

/* SV-07: a SaverDef must name ops that are there. */
static belay_code check_def(const belay_saver *saver, belay_error *err) {
    const Bly__SaverDef *def = saver->def;
    TF_Output output;
    BLY_LOCAL_ERROR(mine);
    if (!def->save_tensor_name[0] || !def->restore_op_name[0])
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "%s: its SaverDef must specify the %s",
                        saver->graph->path,
                        def->save_tensor_name[0] ? "restore_op_name" : "save_tensor_name");
    if (bly_graph_find_output(saver->graph, def->filename_tensor_name, &output, &mine) ==
            BELAY_OK &&
        bly_graph_find_output(saver->graph, def->save_tensor_name, &output, &mine) == BELAY_OK &&
        bly_graph_find_op(saver->graph, def->restore_op_name, &mine))
        return BELAY_OK;
    return bly_fail(err, BELAY_INVALID_ARGUMENT, "%s: its SaverDef cannot be used: %s",
                    saver->graph->path, mine.message);
}

static int has_variables(const belay_graph *graph) {
    return graph->variable_count > graph->local_count;
}

/* SV-12: a copy whose names lie in `scope`. */
static belay_code put_into_scope(belay_saver *saver, const char *scope, belay_error *err) {
    bly_buf filename = BLY_BUF_INIT, save = BLY_BUF_INIT, restore = BLY_BUF_INIT;
    Bly__SaverDef def = *saver->def;
    belay_code code;
    bly_buf_printf(&filename, "%s/%s", scope, def.filename_tensor_name);
    bly_buf_printf(&save, "%s/%s", scope, def.save_tensor_name);
    bly_buf_printf(&restore, "%s/%s", scope, def.restore_op_name);
    def.filename_tensor_name = filename.data;
    def.save_tensor_name = save.data;
    def.restore_op_name = restore.data;
    if (!filename.failed && !save.failed && !restore.failed) {
        size_t len = bly__saver_def__get_packed_size(&def);
        uint8_t *bytes = bly_malloc(len);
        if (bytes) {
            bly__saver_def__pack(&def, bytes);
            saver->scoped = bly_wire_unpack(&bly__saver_def__descriptor, bytes, len, &code);
        }
        bly_free(bytes);
    }
    bly_buf_free(&filename);
    bly_buf_free(&save);
    bly_buf_free(&restore);
    saver->def = saver->scoped;
    return saver->scoped ? BELAY_OK : bly_fail_memory(err);
}

/* What a listed variable is called in a checkpoint. */
static belay_code keep_keys(belay_saver *saver, const belay_saver_options *options,
                            belay_error *err) {
    size_t count = 0;
    while (options->variables && options->variables[count])
        count++;
    saver->listed = count > 0 ? bly_calloc(count, sizeof *saver->listed) : NULL;
    if (count > 0 && !saver->listed)
        return bly_fail_memory(err);
    for (; saver->listed_count < count; saver->listed_count++) {
        size_t i = saver->listed_count;
        const char *key = options->keys && options->keys[i] ? options->keys[i] : NULL;
        struct bly_listed *listed = &saver->listed[i];
        listed->name = bly_strdup(options->variables[i]);
        listed->key = bly_strdup(key ? key : options->variables[i]);
        if (listed->name && listed->key)
            continue;
        bly_free(listed->name);
        bly_free(listed->key);
        return bly_fail_memory(err);
    }
    return BELAY_OK;
}

static belay_code build_def(belay_saver *saver, const belay_saver_options *options,
                            belay_error *err) {
    BLY_LOCAL_ERROR(mine);
    if (options->flags & BELAY_SAVER_BUILD) {
        bly_saver_plan plan = {options->import_scope, options->variables, options->keys,
                               (options->flags & BELAY_SAVER_SHARDED) != 0,
                               (options->flags & BELAY_SAVER_RESHAPE) != 0};
        saver->built = bly_build_saver_as(saver->graph, &plan, &mine);
        if (!saver->built && mine.code == BELAY_OK && !(options->flags & BELAY_SAVER_ALLOW_EMPTY))
            bly_fail(&mine, BELAY_INVALID_ARGUMENT, "No variables to save in %s",
                     saver->graph->path);
        if (saver->built)
            keep_keys(saver, options, &mine);
    } else {
        saver->built = bly_build_saver(saver->graph, &mine);
    }
    saver->def = saver->built;
    if (mine.code != BELAY_OK)
        bly_error_copy(err, &mine);
    return mine.code;
}

/* SC-12: the graph's saver, or one that is built. */
static belay_code find_def(belay_saver *saver, const belay_saver_options *options,
                           belay_error *err) {
    belay_graph *graph = saver->graph;
    size_t count = bly_graph_savers_count(graph);
    if (!(options->flags & BELAY_SAVER_BUILD)) {
        if (count > 1)
            return bly_fail(err, BELAY_FAILED_PRECONDITION,
                            "More than one item in the collection \"savers\": it has %zu. Please "
                            "indicate which one to use by passing it to the scaffold",
                            count);
        saver->def = bly_graph_saver_def(graph);
    }
    if (!saver->def)
        return build_def(saver, options, err);
    if (options->import_scope && put_into_scope(saver, options->import_scope, err) != BELAY_OK)
        return BELAY_RESOURCE_EXHAUSTED;
    return check_def(saver, err);
}

/* What an earlier saver of this graph built, which is final by now (SC-17). */
static int find_side_saver(const belay_graph *graph, bly_side_saver *out) {
    out->save = bly_graph_find_op(graph, "belay_side_saver/SaveV2", NULL);
    out->restore = bly_graph_find_op(graph, "belay_side_saver/restore", NULL);
    out->merge = bly_graph_find_op(graph, "belay_side_saver/MergeV2Checkpoints", NULL);
    return out->save && out->restore && out->merge &&
           bly_graph_find_output(graph, "belay_side_saver/prefix:0", &out->prefix, NULL) ==
               BELAY_OK &&
           bly_graph_find_output(graph, "belay_side_saver/merge_inputs:0", &out->merge_inputs,
                                 NULL) == BELAY_OK &&
           bly_graph_find_output(graph, "belay_side_saver/merge_output:0", &out->merge_output,
                                 NULL) == BELAY_OK;
}

/* A saver that came with the graph does not know of a global step that belay added. */
static belay_code add_side_saver(belay_saver *saver, belay_error *err) {
    if (!saver->def || saver->built || !saver->graph->global_step.count)
        return BELAY_OK;
    belay_code code = find_side_saver(saver->graph, &saver->side)
                          ? BELAY_OK
                          : bly_build_side_saver(saver->graph, &saver->side, err);
    saver->has_side = code == BELAY_OK;
    return code;
}

static belay_code read_policy(belay_saver *saver, const belay_saver_options *options,
                              belay_error *err) {
    /* What a SavedModel says of keeping is what its exporter left unset, not somebody's wish. */
    const Bly__SaverDef *def = saver->graph->is_saved_model ? NULL : saver->def;
    saver->max_to_keep = options->max_to_keep;
    if (saver->max_to_keep == 0) {
        saver->max_to_keep = def ? def->max_to_keep : MAX_TO_KEEP;
        if (saver->max_to_keep == 0)
            saver->max_to_keep = BELAY_KEEP_ALL; /* SV-13: None */
    }
    saver->keep_every_hours = options->keep_checkpoint_every_n_hours;
    if (saver->keep_every_hours == 0)
        saver->keep_every_hours = def && def->keep_checkpoint_every_n_hours > 0
                                      ? (double)def->keep_checkpoint_every_n_hours
                                      : KEEP_EVERY_HOURS;
    saver->keep_best = options->keep_best;
    saver->best_is_max = options->best_is_max != 0;
    if (options->best_metric) {
        saver->best_metric = bly_strdup(options->best_metric);
        if (!saver->best_metric)
            return bly_fail_memory(err);
    }
    return BELAY_OK;
}

static belay_code check_options(const belay_saver_options *options, belay_error *err) {
    const char *problem = NULL;
    if (options->flags & ~KNOWN_FLAGS)
        problem = "flags has a bit that is not known";
    else if (options->max_to_keep < BELAY_KEEP_ALL)
        problem = "max_to_keep is negative";
    else if (!(options->flags & BELAY_SAVER_BUILD) &&
             (options->flags & BUILD_FLAGS || options->variables))
        problem = "what is set is for a saver that is built, and BELAY_SAVER_BUILD is not";
    else if (options->keys && !options->variables)
        problem = "keys is set, and variables is not";
    else if (options->import_scope && !options->import_scope[0])
        problem = "import_scope is empty";
    return problem ? bly_fail(err, BELAY_INVALID_ARGUMENT, "belay_saver_options: %s", problem)
                   : BELAY_OK;
}

belay_saver *belay_saver_new(belay_graph *graph, const belay_saver_options *given,
                             belay_error *err) {
    belay_saver_options options;
    if (!graph) {
        if (belay_error_code(err) == BELAY_OK)
            bly_fail(err, BELAY_INVALID_ARGUMENT, "graph is NULL");
        return NULL;
    }
    if (bly_options_read(&options, sizeof options, given, "belay_saver_options", err) != BELAY_OK)
        return NULL;
    if (check_options(&options, err) != BELAY_OK)
        return NULL;
    belay_saver *saver = bly_calloc(1, sizeof *saver);
    if (!saver) {
        bly_fail_memory(err);
        return NULL;
    }
    atomic_init(&saver->references, 1);
    saver->graph = bly_graph_ref(graph);
    saver->flags = options.flags;
    if (find_def(saver, &options, err) != BELAY_OK || add_side_saver(saver, err) != BELAY_OK ||
        read_policy(saver, &options, err) != BELAY_OK) {
        belay_saver_free(saver);
        return NULL;
    }
    if (!saver->def && has_variables(graph) && !options.variables)
        bly_warn("%s has variables that no saver covers", graph->path);
    return saver;
}

belay_saver *bly_saver_ref(belay_saver *saver) {
    atomic_fetch_add(&saver->references, 1);
    return saver;
}

/* A hold on the graph's shared saver; NULL where there is none, or it is just being freed. */
static belay_saver *ref_shared(belay_graph *graph) {
    bly_mutex_lock(&graph->lock);
    belay_saver *saver = graph->scaffold_saver;
    int references = saver ? atomic_load(&saver->references) : 0;
    while (references > 0 &&
           !atomic_compare_exchange_weak(&saver->references, &references, references + 1))
        ;
    bly_mutex_unlock(&graph->lock);
    return references > 0 ? saver : NULL;
}

belay_saver *bly_saver_shared(belay_graph *graph, belay_error *err) {
    belay_saver *saver = ref_shared(graph);
    if (saver)
        return saver;
    saver = belay_saver_new(graph, NULL, err);
    if (saver) {
        bly_mutex_lock(&graph->lock);
        graph->scaffold_saver = saver;
        bly_mutex_unlock(&graph->lock);
    }
    return saver;
}

static void take_out_shared(belay_saver *saver) {
    bly_mutex_lock(&saver->graph->lock);
    if (saver->graph->scaffold_saver == saver)
        saver->graph->scaffold_saver = NULL;
    bly_mutex_unlock(&saver->graph->lock);
}

void belay_saver_free(belay_saver *saver) {
    if (!saver || atomic_fetch_sub(&saver->references, 1) != 1)
        return;
    take_out_shared(saver);
    bly_saver_forget_all(saver);
    bly_free(saver->known);
    bly_free(saver->foreign);
    for (size_t i = 0; i < saver->damaged_count; i++)
        bly_free(saver->damaged[i]);
    bly_free(saver->damaged);
    for (size_t i = 0; i < saver->metric_count; i++)
        bly_free(saver->metrics[i].name);
    bly_free(saver->metrics);
    bly_free(saver->best_metric);
    bly_free(saver->input_position);
    bly_free(saver->saved_prefix);
    bly_free(saver->restored_prefix);
    bly_free(saver->restored_input);
    for (size_t i = 0; i < saver->listed_count; i++) {
        bly_free(saver->listed[i].name);
        bly_free(saver->listed[i].key);
    }
    bly_free(saver->listed);
    bly_wire_free(saver->built);
    bly_wire_free(saver->scoped);
    belay_graph_free(saver->graph);
    bly_free(saver);
}

const Bly__SaverDef *bly_saver_def(const belay_saver *saver) {
    return saver->def;
}

uint32_t belay_saver_is_empty(const belay_saver *saver) {
    return !saver || !saver->def;
}

/* ---- what it knows ---- */

void bly_saver_forget_all(belay_saver *saver) {
    for (size_t i = 0; i < saver->known_count; i++)
        bly_free(saver->known[i]);
    saver->known_count = 0;
    for (size_t i = 0; i < saver->foreign_count; i++)
        bly_free(saver->foreign[i]);
    saver->foreign_count = 0;
}

belay_code bly_saver_remember(belay_saver *saver, const char *prefix, belay_error *err) {
    for (size_t i = 0; i < saver->known_count; i++) {
        if (strcmp(saver->known[i], prefix) == 0) {
            char *same = saver->known[i];
            memmove(&saver->known[i], &saver->known[i + 1],
                    (saver->known_count - i - 1) * sizeof *saver->known);
            saver->known[saver->known_count - 1] = same;
            return BELAY_OK;
        }
    }
    if (!bly_grow(&saver->known, saver->known_count, &saver->known_capacity, sizeof *saver->known))
        return bly_fail_memory(err);
    char *copy = bly_strdup(prefix);
    if (!copy)
        return bly_fail_memory(err);
    saver->known[saver->known_count++] = copy;
    return BELAY_OK;
}

belay_code bly_saver_know(belay_saver *saver, const char *const *prefixes, size_t count,
                          belay_error *err) {
    bly_text_set seen = BLY_TEXT_SET_INIT;
    char **known = bly_calloc(count, sizeof *known);
    size_t at = count;
    belay_code code = known ? BELAY_OK : bly_fail_memory(err);
    for (size_t i = count; code == BELAY_OK && i-- > 0;) { /* of equal ones the last counts */
        if (bly_text_set_has(&seen, prefixes[i]))
            continue;
        known[at - 1] = bly_strdup(prefixes[i]);
        if (!known[at - 1] || !bly_text_set_add(&seen, known[at - 1]))
            code = bly_fail_memory(err);
        at -= known[at - 1] != NULL;
    }
    bly_text_set_free(&seen);
    if (code != BELAY_OK) {
        for (; known && at < count; at++)
            bly_free(known[at]);
        bly_free(known);
        return code;
    }
    /* `prefixes` may be what the saver gave out itself: that is freed last. */
    for (size_t i = 0; i < saver->known_count; i++)
        bly_free(saver->known[i]);
    bly_free(saver->known);
    memmove(known, &known[at], (count - at) * sizeof *known);
    saver->known = known;
    saver->known_count = count - at;
    saver->known_capacity = count;
    return BELAY_OK;
}

size_t belay_saver_last_checkpoint_count(const belay_saver *saver) {
    return saver ? saver->known_count : 0;
}

const char *belay_saver_last_checkpoint(const belay_saver *saver, size_t index) {
    return saver && index < saver->known_count ? saver->known[index] : NULL;
}

belay_code belay_saver_recover_last_checkpoints(belay_saver *saver, const char *const *prefixes,
                                                size_t count, belay_error *err) {
    if (!saver || (count > 0 && !prefixes))
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "%s is NULL", saver ? "prefixes" : "saver");
    const char **there = bly_calloc(count, sizeof *there);
    size_t there_count = 0;
    if (!there)
        return bly_fail_memory(err);
    belay_code code = BELAY_OK;
    for (size_t i = 0; code == BELAY_OK && i < count; i++) {
        if (!prefixes[i])
            code = bly_fail(err, BELAY_INVALID_ARGUMENT, "prefixes[%zu] is NULL", i);
        else if (bly_checkpoint_exists(prefixes[i]))
            there[there_count++] = prefixes[i];
    }
    if (code == BELAY_OK)
        code = bly_saver_know(saver, there, there_count, err);
    bly_free((void *)(uintptr_t)there);
    return code;
}

static belay_code replace_text(char **text, const char *value, belay_error *err) {
    char *copy = value ? bly_strdup(value) : NULL;
    if (value && !copy)
        return bly_fail_memory(err);
    bly_free(*text);
    *text = copy;
    return BELAY_OK;
}

belay_code belay_saver_set_input_position(belay_saver *saver, const char *json, belay_error *err) {
    if (!saver)
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "saver is NULL");
    return replace_text(&saver->input_position, json, err);
}

const char *belay_saver_restored_input_position(const belay_saver *saver) {
    return saver ? saver->restored_input : NULL;
}

belay_code belay_saver_set_metric(belay_saver *saver, const char *name, double value,
                                  belay_error *err) {
    if (!saver || !name)
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "%s is NULL", saver ? "name" : "saver");
    for (size_t i = 0; i < saver->metric_count; i++) {
        if (strcmp(saver->metrics[i].name, name) == 0) {
            saver->metrics[i].value = value;
            return BELAY_OK;
        }
    }
    if (!bly_grow(&saver->metrics, saver->metric_count, &saver->metric_capacity,
                  sizeof *saver->metrics))
        return bly_fail_memory(err);
    saver->metrics[saver->metric_count] = (struct bly_metric){bly_strdup(name), value};
    return saver->metrics[saver->metric_count].name ? (saver->metric_count++, BELAY_OK)
                                                    : bly_fail_memory(err);
}

/* ---- saving ---- */

belay_code bly_saver_run(belay_session *session, const char *feed, const char *path,
                         const char *fetch, const char *target, belay_error *err) {
    const char *feeds[] = {feed, NULL}, *fetches[] = {fetch, NULL}, *targets[] = {target, NULL};
    belay_tensor *output = NULL;
    belay_tensor *input = belay_tensor_new_strings(&path, NULL, NULL, 0, err);
    if (!input)
        return BELAY_RESOURCE_EXHAUSTED;
    belay_code code =
        belay_session_run(session, feeds, &input, fetches, &output, targets, NULL, err);
    belay_tensor_free(input);
    belay_tensor_free(output);
    return code;
}

/* Joins two bundles into a third; the two are deleted. */
static belay_code merge(belay_saver *saver, belay_session *session, const char *first,
                        const char *second, const char *into, belay_error *err) {
    char feed_inputs[512], feed_output[512];
    const char *parts[] = {first, second};
    int64_t two = 2;
    belay_tensor *inputs[2] = {NULL, NULL};
    bly_graph_output_name(saver->graph, saver->side.merge_inputs, feed_inputs, sizeof feed_inputs);
    bly_graph_output_name(saver->graph, saver->side.merge_output, feed_output, sizeof feed_output);
    const char *feeds[] = {feed_inputs, feed_output, NULL};
    const char *targets[] = {saver->graph->rt->OperationName(saver->side.merge), NULL};
    belay_code code = BELAY_RESOURCE_EXHAUSTED;
    inputs[0] = belay_tensor_new_strings(parts, NULL, &two, 1, err);
    inputs[1] = inputs[0] ? belay_tensor_new_strings(&into, NULL, NULL, 0, err) : NULL;
    if (inputs[1])
        code = belay_session_run(session, feeds, inputs, NULL, NULL, targets, NULL, err);
    belay_tensor_free(inputs[0]);
    belay_tensor_free(inputs[1]);
    return code;
}

/* Writes the bundle: the graph's own, and where belay counts the steps one more key. */
static belay_code write_bundle(belay_saver *saver, belay_session *session, const char *prefix,
                               belay_error *err) {
    const Bly__SaverDef *def = saver->def;
    if (!saver->has_side)
        return bly_saver_run(session, def->filename_tensor_name, prefix, def->save_tensor_name,
                             NULL, err);
    char side_feed[512];
    bly_buf own = BLY_BUF_INIT, step = BLY_BUF_INIT;
    bly_buf_printf(&own, "%s-own", prefix);
    bly_buf_printf(&step, "%s-step", prefix);
    bly_graph_output_name(saver->graph, saver->side.prefix, side_feed, sizeof side_feed);
    belay_code code = own.failed || step.failed ? bly_fail_memory(err) : BELAY_OK;
    if (code == BELAY_OK)
        code = bly_saver_run(session, def->filename_tensor_name, own.data, def->save_tensor_name,
                             NULL, err);
    if (code == BELAY_OK)
        code = bly_saver_run(session, side_feed, step.data, NULL,
                             saver->graph->rt->OperationName(saver->side.save), err);
    if (code == BELAY_OK)
        code = merge(saver, session, own.data, step.data, prefix, err);
    bly_buf_free(&own);
    bly_buf_free(&step);
    return code;
}

/* Reads back what was written, as far as that is cheap: a full disk does not always make itself
 * known before. */
static belay_code check_written(const char *prefix, belay_error *err) {
    bly_bundle *bundle = bly_bundle_load(prefix, err);
    if (!bundle)
        return belay_error_code(err) ? belay_error_code(err) : BELAY_DATA_LOSS;
    bly_bundle_free(bundle);
    return BELAY_OK;
}

belay_code belay_saver_export_meta_graph(const belay_saver *saver, const char *path,
                                         const belay_meta_graph_options *options,
                                         belay_error *err) {
    if (!saver)
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "no saver was given");
    return bly_graph_export_meta(saver->graph, saver->def, path, options, err);
}

static belay_code write_meta_graph(belay_saver *saver, const char *prefix, belay_error *err) {
    bly_buf meta = BLY_BUF_INIT;
    char *path = bly_checkpoint_meta_name(prefix);
    belay_code code = path ? BELAY_OK : bly_fail_memory(err);
    if (code == BELAY_OK)
        code = bly_graph_serialize(saver->graph, saver->def, &meta, err);
    if (code == BELAY_OK)
        code = bly_file_write_atomic(path, meta.data, meta.len, err);
    bly_buf_free(&meta);
    bly_free(path);
    return code;
}

static belay_code write_state(belay_saver *saver, const char *directory, const char *name,
                              const char *newest, belay_error *err) {
    bly_state state = BLY_STATE_INIT;
    int appended;
    state.latest = (char *)(uintptr_t)newest;
    state.paths = saver->known;
    state.count = saver->known_count;
    return bly_state_write(directory, name, &state,
                           (saver->flags & BELAY_SAVER_RELATIVE_PATHS) != 0, &appended, err);
}

/* Steps of a save between begin and commit, all in the temporary folder. */
static belay_code write_all(belay_saver *saver, belay_session *session, const char *temporary,
                            const char *name, int64_t step, belay_error *err) {
    char *prefix = bly_path_join(temporary, name);
    if (!prefix)
        return bly_fail_memory(err);
    belay_code code = write_bundle(saver, session, prefix, err);
    if (code == BELAY_OK)
        code = check_written(prefix, err);
    if (code == BELAY_OK)
        code = bly_saver_write_manifest(saver, prefix, step, err);
    bly_free(prefix);
    return code;
}

/* What was found damaged keeps its bytes, under a name that nothing restores from. */
static belay_code set_damaged_aside(belay_saver *saver, belay_error *err) {
    while (saver->damaged_count > 0) {
        char *prefix = saver->damaged[saver->damaged_count - 1];
        belay_code code = bly_checkpoint_set_aside(prefix, err);
        if (code != BELAY_OK)
            return code;
        bly_warn("the damaged checkpoint %s is now called %s.damaged", prefix, prefix);
        for (size_t i = 0; i < saver->known_count; i++) {
            if (strcmp(saver->known[i], prefix) != 0)
                continue;
            bly_free(saver->known[i]);
            memmove(&saver->known[i], &saver->known[i + 1],
                    (saver->known_count - i - 1) * sizeof *saver->known);
            saver->known_count--;
            break;
        }
        bly_free(prefix);
        saver->damaged_count--;
    }
    return BELAY_OK;
}

/* What is written becomes a checkpoint of the folder. */
static belay_code commit(belay_saver *saver, belay_session *session, const char *directory,
                         const char *name, int64_t step, belay_error *err) {
    char *temporary = bly_commit_begin(directory, err);
    if (!temporary)
        return belay_error_code(err);
    belay_code code = write_all(saver, session, temporary, name, step, err);
    if (code == BELAY_OK) /* one of them may bear the name of the new one */
        code = set_damaged_aside(saver, err);
    if (code == BELAY_OK)
        code = bly_commit_finish(temporary, directory, name, err);
    if (code != BELAY_OK)
        bly_commit_abandon(temporary);
    bly_free(temporary);
    return code;
}

/* The state file names it, and what is kept no longer goes. */
static belay_code record(belay_saver *saver, const char *directory, const char *prefix,
                         const belay_save_options *options, belay_error *err) {
    belay_code code = BELAY_OK;
    if (saver->max_to_keep != BELAY_KEEP_ALL) /* SV-30: then nothing is recorded */
        code = bly_saver_remember(saver, prefix, err);
    if (code == BELAY_OK)
        code = write_state(saver, directory, options->latest_filename, prefix, err);
    /* Deleted only when no state file needs it any more, and then the list is right again. */
    if (code == BELAY_OK && bly_saver_retain(saver))
        code = write_state(saver, directory, options->latest_filename, prefix, err);
    return code;
}

static belay_code save_as(belay_saver *saver, belay_session *session, const char *prefix,
                          int64_t step, const belay_save_options *options, belay_error *err) {
    int records = !(options->flags & BELAY_SAVE_NO_STATE), lock = -1;
    char *directory = bly_path_directory(prefix);
    if (!directory)
        return bly_fail_memory(err);
    belay_code code = bly_commit_lock(directory, prefix, &lock, err);
    if (code == BELAY_OK && records)
        code = bly_state_check_place(directory, options->latest_filename, err);
    if (code == BELAY_OK)
        code = commit(saver, session, directory, bly_path_base(prefix), step, err);
    if (code == BELAY_OK && records)
        code = record(saver, directory, prefix, options, err);
    bly_commit_unlock(lock);
    bly_free(directory);
    return code;
}

static belay_code check_names(const belay_saver *saver, const char *path, int64_t step,
                              const belay_save_options *options, belay_error *err) {
    const char *state = options->latest_filename ? options->latest_filename : BLY_STATE_FILE;
    if (options->flags & ~KNOWN_SAVE_FLAGS || options->reserved)
        return bly_fail(err, BELAY_INVALID_ARGUMENT,
                        "belay_save_options has an option set that is not known");
    if (strchr(state, '/'))
        return bly_fail(err, BELAY_INVALID_ARGUMENT,
                        "'latest_filename' should not contain path components");
    if (path[0] == '\0' || path[strlen(path) - 1] == '/')
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "'%s' names no file to save to", path);
    if (options->step_tensor && step != BELAY_NO_STEP)
        return bly_fail(err, BELAY_INVALID_ARGUMENT,
                        "belay_save_options.step_tensor is set, and a step is given besides");
    if (step == BELAY_NO_STEP && !options->step_tensor && saver->def && !saver->def->sharded &&
        strcmp(bly_path_base(path), state) == 0)
        return bly_fail(err, BELAY_INVALID_ARGUMENT,
                        "'latest_filename' collides with 'save_path': '%s' and '%s'", state, path);
    return BELAY_OK;
}

/* SV-18. */
static belay_code evaluate_step(belay_session *session, const char *name, int64_t *out,
                                belay_error *err) {
    const char *fetches[] = {name, NULL};
    belay_tensor *value = NULL;
    belay_code code = belay_session_run(session, NULL, NULL, fetches, &value, NULL, NULL, err);
    if (code != BELAY_OK)
        return code;
    const void *data = belay_tensor_data(value);
    int is_step = belay_tensor_count(value) == 1;
    if (is_step && belay_tensor_dtype(value) == BELAY_INT64)
        *out = *(const int64_t *)data;
    else if (is_step && belay_tensor_dtype(value) == BELAY_INT32)
        *out = *(const int32_t *)data;
    else
        is_step = 0;
    belay_tensor_free(value);
    return is_step && *out != BELAY_NO_STEP
               ? BELAY_OK
               : bly_fail(err, BELAY_INVALID_ARGUMENT, "'%s' is no step: not an integer", name);
}

belay_code belay_saver_save(belay_saver *saver, belay_session *session, const char *path,
                            int64_t step, const belay_save_options *given, const char **out_path,
                            belay_error *err) {
    belay_save_options options;
    BLY_LOCAL_ERROR(mine);
    if (out_path)
        *out_path = NULL;
    if (!saver || !session || !path)
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "%s is NULL",
                        !saver     ? "saver"
                        : !session ? "session"
                                   : "path");
    belay_code code = bly_options_read(&options, sizeof options, given, "belay_save_options", err);
    if (code == BELAY_OK)
        code = check_names(saver, path, step, &options, err);
    if (code != BELAY_OK)
        return code;
    bly_buf prefix = BLY_BUF_INIT;
    if (options.step_tensor)
        code = evaluate_step(session, options.step_tensor, &step, &mine);
    bly_buf_puts(&prefix, path);
    if (step != BELAY_NO_STEP)
        bly_buf_printf(&prefix, saver->flags & BELAY_SAVER_PAD_STEP_NUMBER ? "-%08lld" : "-%lld",
                       (long long)step);
    if (code == BELAY_OK && prefix.failed)
        code = bly_fail_memory(&mine);
    else if (code == BELAY_OK &&
             saver->def) /* SV-26: an empty saver writes a meta graph, and no more */
        code = save_as(saver, session, prefix.data, step, &options, &mine);
    if (code == BELAY_OK && !(options.flags & BELAY_SAVE_NO_META_GRAPH))
        code = write_meta_graph(saver, prefix.data, &mine);
    if (code == BELAY_OK && saver->def)
        code = replace_text(&saver->saved_prefix, prefix.data, &mine);
    if (code != BELAY_OK) {
        bly_explain_full_disk(saver->graph, bly_buf_text(&prefix), &mine);
        code = mine.code;
        bly_error_copy(err, &mine);
    } else if (out_path && saver->def)
        *out_path = saver->saved_prefix;
    bly_buf_free(&prefix);
    return code;
}
