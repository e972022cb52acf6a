/*
 * A saver over a graph's variables, as TensorFlow's own Saver would have built it (tensorflow
 * 2.21). Sharded: one SaveV2 and one RestoreV2 for each device that holds variables, sorted; within
 * a device sorted by checkpoint key; and an op that merges what the devices wrote. Not sharded: one
 * of each, sorted by key. So checkpoints are the same files, and a graph that is exported with this
 * saver is one that Python's Saver understands.
 */
#include "graph/defaults.h"

#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "graph/builder.h"
#include "graph/index.h"
#include "wire/unpack.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* SaverDef.V2 */
#define VERSION_2 2

struct saved {
    const bly_variable *variable;
    const char *key;   /* in the checkpoint (SV-14) */
    const char *slice; /* "": all of it */
    char *device;      /* canonical */
};

/* A run of `saved` on one device. */
struct shard {
    const struct saved *items;
    size_t count;
    const char *device;
    char *cpu; /* the CPU of that device's task: strings live nowhere else */
};

/* The scaffold's saver (SC-12). */
static const bly_saver_plan by_default = {.sharded = 1};

/* What the parts share while they are built. */
struct making {
    bly_builder b;
    const bly_runtime *rt;
    belay_error *err;
    const bly_saver_plan *plan;
    struct saved *saved;
    size_t saved_count, saved_capacity;
    struct shard *shards;
    size_t shard_count;
    /* Room for the largest shard. */
    const char **strings;
    TF_Output *values;
    belay_dtype *dtypes;
};

/* ---- what is saved, and where ---- */

static int by_key(const void *a, const void *b) {
    const struct saved *left = a, *right = b;
    int order = strcmp(left->key, right->key);
    return order ? order : strcmp(left->variable->info.name, right->variable->info.name);
}

static int by_device(const void *a, const void *b) {
    const struct saved *left = a, *right = b;
    int order = strcmp(left->device, right->device);
    return order ? order : by_key(a, b);
}

static belay_code add_saved(struct making *m, const bly_variable *variable, const char *key) {
    if (!bly_grow(&m->saved, m->saved_count, &m->saved_capacity, sizeof *m->saved))
        return bly_fail_memory(m->err);
    struct saved *saved = &m->saved[m->saved_count];
    saved->variable = variable;
    saved->key = key                         ? key
                 : variable->slice_full_name ? variable->slice_full_name
                                             : variable->info.name;
    saved->slice = variable->slice_spec ? variable->slice_spec : "";
    saved->device = bly_device_canonical(m->rt->OperationDevice(variable->op));
    if (!saved->device)
        return bly_fail_memory(m->err);
    m->saved_count++;
    return BELAY_OK;
}

belay_code bly_graph_no_variable(const belay_graph *graph, const char *name, belay_error *err) {
    const char **names = bly_calloc(graph->variable_count + 1, sizeof *names);
    for (size_t i = 0; names && i < graph->variable_count; i++)
        names[i] = graph->variables[i].info.name;
    const char *near = names ? bly_nearest(name, names, graph->variable_count) : NULL;
    bly_free(names);
    return bly_fail(err, BELAY_NOT_FOUND, "%s has no variable '%s'%s%s%s", graph->path, name,
                    near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
}

/* The variable, or all slices of the partitioned one, that `name` means. */
static belay_code add_named(struct making *m, const belay_graph *graph, const char *name,
                            const char *key) {
    belay_code code = BELAY_OK;
    size_t before = m->saved_count;
    for (size_t i = 0; code == BELAY_OK && i < graph->variable_count; i++) {
        const bly_variable *variable = &graph->variables[i];
        if (strcmp(variable->info.name, name) == 0 ||
            (variable->slice_full_name && strcmp(variable->slice_full_name, name) == 0))
            code = add_saved(m, variable, key);
    }
    if (code == BELAY_OK && m->saved_count == before)
        code = bly_graph_no_variable(graph, name, m->err);
    return code;
}

static belay_code find_saved(struct making *m, const belay_graph *graph) {
    const char *const *names = m->plan->variables, *const *keys = m->plan->keys;
    belay_code code = BELAY_OK;
    for (size_t i = 0; names && code == BELAY_OK && names[i]; i++)
        code = add_named(m, graph, names[i], keys ? keys[i] : NULL);
    for (size_t i = 0; !names && code == BELAY_OK && i < graph->variable_count - graph->local_count;
         i++)
        code = add_saved(m, &graph->variables[i], NULL);
    if (m->saved_count > 0)
        qsort(m->saved, m->saved_count, sizeof *m->saved, by_key);
    return code;
}

static int by_variable(const void *a, const void *b) {
    uintptr_t left = (uintptr_t)((const struct saved *)a)->variable;
    uintptr_t right = (uintptr_t)((const struct saved *)b)->variable;
    return (left > right) - (left < right);
}

/* SV-04: only slices of one variable may share a key, and a variable has one key only. */
static belay_code check_keys(struct making *m) {
    qsort(m->saved, m->saved_count, sizeof *m->saved, by_variable);
    for (size_t i = 1; i < m->saved_count; i++)
        if (m->saved[i - 1].variable == m->saved[i].variable)
            return bly_fail(m->err, BELAY_INVALID_ARGUMENT, "the variable %s is to be saved twice",
                            m->saved[i].variable->info.name);
    qsort(m->saved, m->saved_count, sizeof *m->saved, by_key);
    for (size_t i = 1; i < m->saved_count; i++) {
        const struct saved *a = &m->saved[i - 1], *b = &m->saved[i];
        const char *whole = a->variable->slice_full_name, *other = b->variable->slice_full_name;
        if (strcmp(a->key, b->key) == 0 && !(whole && other && strcmp(whole, other) == 0))
            return bly_fail(m->err, BELAY_INVALID_ARGUMENT,
                            "at least two variables have the same name in a checkpoint: %s",
                            a->key);
    }
    return BELAY_OK;
}

static belay_code find_shards(struct making *m) {
    size_t largest = 0;
    if (m->plan->sharded)
        qsort(m->saved, m->saved_count, sizeof *m->saved, by_device);
    m->shards = bly_calloc(m->saved_count, sizeof *m->shards);
    if (!m->shards)
        return bly_fail_memory(m->err);
    for (size_t i = 0; i < m->saved_count; i++) {
        struct shard *last = m->shard_count > 0 ? &m->shards[m->shard_count - 1] : NULL;
        if (!last || (m->plan->sharded && strcmp(last->device, m->saved[i].device) != 0)) {
            last = &m->shards[m->shard_count++];
            last->items = &m->saved[i];
            last->device = m->plan->sharded ? m->saved[i].device : "";
            last->cpu = bly_device_on_cpu(last->device);
            if (!last->cpu)
                return bly_fail_memory(m->err);
        }
        last->count++;
        largest = last->count > largest ? last->count : largest;
    }
    m->strings = bly_calloc(largest, sizeof *m->strings);
    m->values = bly_calloc(largest, sizeof *m->values);
    m->dtypes = bly_calloc(largest, sizeof *m->dtypes);
    return m->strings && m->values && m->dtypes ? BELAY_OK : bly_fail_memory(m->err);
}

static void clean_up(struct making *m) {
    for (size_t i = 0; i < m->shard_count; i++)
        bly_free(m->shards[i].cpu);
    for (size_t i = 0; i < m->saved_count; i++)
        bly_free(m->saved[i].device);
    bly_free(m->shards);
    bly_free(m->saved);
    bly_free(m->strings);
    bly_free(m->values);
    bly_free(m->dtypes);
}

/* ---- pieces of the graph ---- */

/* "SaveV2_1/tensor_names": `part` of the op `base` of shard `n`. Shard 0 has no number. */
static const char *name_of(char *text, size_t room, const char *base, size_t n, const char *part) {
    if (n == 0)
        snprintf(text, room, "%s%s", base, part);
    else
        snprintf(text, room, "%s_%zu%s", base, n, part);
    return text;
}

static TF_Output build_keys(struct making *m, const struct shard *shard, size_t n,
                            const char *base) {
    char name[64];
    for (size_t i = 0; i < shard->count; i++)
        m->strings[i] = shard->items[i].key;
    return bly_const_strings(&m->b, name_of(name, sizeof name, base, n, "/tensor_names"),
                             shard->cpu, m->strings, shard->count, 1);
}

static TF_Output build_slices(struct making *m, const struct shard *shard, size_t n,
                              const char *base) {
    char name[64];
    for (size_t i = 0; i < shard->count; i++)
        m->strings[i] = shard->items[i].slice;
    return bly_const_strings(&m->b, name_of(name, sizeof name, base, n, "/shape_and_slices"),
                             shard->cpu, m->strings, shard->count, 1);
}

/* The value on the CPU of its task. References go into SaveV2 as they are: nothing runs between. */
static TF_Output build_value(struct making *m, const struct saved *saved) {
    size_t n = (size_t)(saved - m->saved);
    char name[64];
    if (!saved->variable->info.is_resource)
        return saved->variable->handle;
    TF_Output value =
        bly_read_variable(&m->b, name_of(name, sizeof name, "Read", n, "/ReadVariableOp"),
                          saved->variable->handle, saved->variable->info.dtype);
    char *cpu = bly_device_on_cpu(saved->device);
    if (!cpu && m->b.code == BELAY_OK)
        m->b.code = bly_fail_memory(m->err);
    bly_op_begin(&m->b, "Identity", name_of(name, sizeof name, "Read", n, "/Identity"), cpu);
    bly_op_input(&m->b, value);
    bly_free(cpu);
    return bly_op_finish_output(&m->b);
}

static TF_Operation *build_save_v2(struct making *m, const struct shard *shard, size_t n,
                                   TF_Output filename) {
    char name[64];
    TF_Output keys = build_keys(m, shard, n, "SaveV2");
    TF_Output slices = build_slices(m, shard, n, "SaveV2");
    for (size_t i = 0; i < shard->count; i++)
        m->values[i] = build_value(m, &shard->items[i]);
    bly_op_begin(&m->b, "SaveV2", name_of(name, sizeof name, "SaveV2", n, ""), shard->cpu);
    bly_op_input(&m->b, filename);
    bly_op_input(&m->b, keys);
    bly_op_input(&m->b, slices);
    bly_op_inputs(&m->b, m->values, shard->count);
    return bly_op_finish(&m->b);
}

/* "model" unless something is fed (SV-10). */
static TF_Output build_filename(bly_builder *b) {
    static const char *const model[] = {"model"};
    TF_Output filename = bly_const_strings(b, "filename/input", NULL, model, 1, 0);
    static const char *const names[] = {"filename", "Const"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        bly_op_begin(b, "PlaceholderWithDefault", names[i], NULL);
        bly_op_input(b, filename);
        bly_op_shape(b, "shape", NULL, 0);
        filename = bly_op_finish_output(b);
    }
    return filename;
}

/* Where the shards are written before they are merged: PREFIX_temp/part, or PREFIX.part in an
 * object store, which has no folders. */
static TF_Output build_temporary(bly_builder *b, TF_Output filename) {
    static const char cpu[] = "/device:CPU:*";
    static const char *const in_store[] = {".part"}, *const on_disk[] = {"_temp/part"};
    bly_op_begin(b, "StaticRegexFullMatch", "StaticRegexFullMatch", cpu);
    bly_op_input(b, filename);
    bly_op_string(b, "pattern", "^s3://.*");
    TF_Output is_store = bly_op_finish_output(b);
    TF_Output store = bly_const_strings(b, "Const_1", cpu, in_store, 1, 0);
    TF_Output disk = bly_const_strings(b, "Const_2", cpu, on_disk, 1, 0);
    bly_op_begin(b, "Select", "Select", cpu);
    bly_op_input(b, is_store);
    bly_op_input(b, store);
    bly_op_input(b, disk);
    TF_Output parts[2] = {filename, bly_op_finish_output(b)};
    bly_op_begin(b, "StringJoin", "StringJoin", cpu);
    bly_op_inputs(b, parts, 2);
    return bly_op_finish_output(b);
}

/* Writes one shard. *out_file is its name, *out_done that name once it is written. */
static void build_save_shard(struct making *m, size_t n, TF_Output temporary, TF_Output num_shards,
                             TF_Output *out_file, TF_Output *out_done) {
    const struct shard *shard = &m->shards[n];
    bly_builder *b = &m->b;
    char name[64];
    int32_t number = (int32_t)n;
    TF_Output which = bly_const_int32(b, name_of(name, sizeof name, "ShardedFilename", n, "/shard"),
                                      shard->cpu, &number, 1, 0);
    bly_op_begin(b, "ShardedFilename", name_of(name, sizeof name, "ShardedFilename", n, ""),
                 shard->cpu);
    bly_op_input(b, temporary);
    bly_op_input(b, which);
    bly_op_input(b, num_shards);
    *out_file = bly_op_finish_output(b);
    TF_Operation *save = build_save_v2(m, shard, n, *out_file);
    bly_op_begin(b, "Identity", name_of(name, sizeof name, "control_dependency", n, ""),
                 shard->cpu);
    bly_op_input(b, *out_file);
    bly_op_after(b, save);
    *out_done = bly_op_finish_output(b);
}

/* All of it in one file. */
static TF_Output build_save_whole(struct making *m, TF_Output filename) {
    TF_Operation *save = build_save_v2(m, &m->shards[0], 0, filename);
    bly_op_begin(&m->b, "Identity", "control_dependency", NULL);
    bly_op_input(&m->b, filename);
    bly_op_after(&m->b, save);
    return bly_op_finish_output(&m->b);
}

/* Ends, like the other, in the tensor whose fetch saves everything: the prefix that was fed
 * (SV-24). */
static TF_Output build_save(struct making *m, TF_Output filename, TF_Output *files,
                            TF_Output *done) {
    bly_builder *b = &m->b;
    TF_Output temporary = build_temporary(b, filename);
    int32_t count = (int32_t)m->shard_count;
    TF_Output num_shards = bly_const_int32(b, "num_shards", NULL, &count, 1, 0);
    for (size_t n = 0; n < m->shard_count && b->code == BELAY_OK; n++)
        build_save_shard(m, n, temporary, num_shards, &files[n], &done[n]);
    if (b->code != BELAY_OK)
        return BLY_NO_OUTPUT;
    const char *last = m->shards[m->shard_count - 1].cpu;
    bly_op_begin(b, "Pack", "MergeV2Checkpoints/checkpoint_prefixes", last);
    bly_op_inputs(b, files, m->shard_count);
    for (size_t n = 0; n < m->shard_count; n++)
        bly_op_after(b, done[n].oper);
    TF_Output prefixes = bly_op_finish_output(b);
    bly_op_begin(b, "MergeV2Checkpoints", "MergeV2Checkpoints", last);
    bly_op_input(b, prefixes);
    bly_op_input(b, filename);
    bly_op_bool(b, "delete_old_dirs", 1);
    TF_Operation *merge = bly_op_finish(b);
    bly_op_begin(b, "Identity", "Identity", last);
    bly_op_input(b, filename);
    bly_op_after(b, merge);
    return bly_op_finish_output(b);
}

static int is_shape_known(const belay_variable *variable) {
    for (int32_t i = 0; i < variable->rank; i++)
        if (variable->dims[i] < 0)
            return 0;
    return variable->rank >= 0;
}

/* TensorFlow puts a value of any shape into a resource variable (SV-46); here the shape is checked
 * first (BUG-29). */
static TF_Operation *build_assign_resource(bly_builder *b, const bly_variable *variable,
                                           TF_Output value, size_t n) {
    const char *device = b->rt->OperationDevice(variable->op);
    char name[64];
    bly_op_begin(b, "EnsureShape", name_of(name, sizeof name, "EnsureShape", n, ""), device);
    bly_op_input(b, value);
    bly_op_shape(b, "shape", variable->info.dims, variable->info.rank);
    TF_Output checked = bly_op_finish_output(b);
    bly_op_begin(b, "AssignVariableOp", name_of(name, sizeof name, "AssignVariableOp", n, ""),
                 device);
    bly_op_input(b, variable->handle);
    bly_op_input(b, checked);
    bly_op_type(b, "dtype", variable->info.dtype);
    return bly_op_finish(b);
}

static TF_Operation *build_assign_reference(bly_builder *b, const bly_variable *variable,
                                            TF_Output value, size_t n) {
    char name[64];
    bly_op_begin(b, "Assign", name_of(name, sizeof name, "Assign", n, ""),
                 b->rt->OperationDevice(variable->op));
    bly_op_input(b, variable->handle);
    bly_op_input(b, value);
    bly_op_bool(b, "validate_shape", is_shape_known(&variable->info));
    return bly_op_finish(b);
}

/* SV-47. A slice is restored as it is: its place in the whole is part of its name. */
static TF_Output build_reshape(struct making *m, const struct saved *saved, TF_Output value,
                               size_t n) {
    const belay_variable *variable = &saved->variable->info;
    char name[64];
    if (!m->plan->reshape || saved->slice[0] || !is_shape_known(variable))
        return value;
    int32_t *dims = bly_calloc((size_t)variable->rank + 1, sizeof *dims);
    if (!dims && m->b.code == BELAY_OK)
        m->b.code = bly_fail_memory(m->err);
    for (int32_t i = 0; dims && i < variable->rank; i++)
        dims[i] = (int32_t)variable->dims[i];
    TF_Output shape = BLY_NO_OUTPUT;
    if (dims)
        shape = bly_const_int32(&m->b, name_of(name, sizeof name, "Reshape", n, "/shape"), NULL,
                                dims, (size_t)variable->rank, 1);
    bly_free(dims);
    bly_op_begin(&m->b, "Reshape", name_of(name, sizeof name, "Reshape", n, ""), NULL);
    bly_op_input(&m->b, value);
    bly_op_input(&m->b, shape);
    return bly_op_finish_output(&m->b);
}

static TF_Operation *build_restore_shard(struct making *m, size_t n, TF_Output filename) {
    const struct shard *shard = &m->shards[n];
    bly_builder *b = &m->b;
    char name[64];
    TF_Output keys = build_keys(m, shard, n, "RestoreV2");
    TF_Output slices = build_slices(m, shard, n, "RestoreV2");
    for (size_t i = 0; i < shard->count; i++)
        m->dtypes[i] = shard->items[i].variable->info.dtype;
    bly_op_begin(b, "RestoreV2", name_of(name, sizeof name, "RestoreV2", n, ""), shard->cpu);
    bly_op_input(b, filename);
    bly_op_input(b, keys);
    bly_op_input(b, slices);
    bly_op_types(b, "dtypes", m->dtypes, shard->count);
    TF_Operation *restore = bly_op_finish(b);
    for (size_t i = 0; i < shard->count && b->code == BELAY_OK; i++) {
        const struct saved *saved = &shard->items[i];
        size_t number = (size_t)(saved - m->saved);
        TF_Output value = build_reshape(m, saved, (TF_Output){restore, (int)i}, number);
        TF_Operation *(*assign)(bly_builder *, const bly_variable *, TF_Output, size_t) =
            saved->variable->info.is_resource ? build_assign_resource : build_assign_reference;
        m->values[i].oper = assign(b, saved->variable, value, number);
    }
    if (m->plan->sharded)
        bly_op_begin(b, "NoOp", name_of(name, sizeof name, "restore_shard", n, ""), shard->device);
    else
        bly_op_begin(b, "NoOp", "restore_all", NULL);
    for (size_t i = 0; i < shard->count; i++)
        bly_op_after(b, m->values[i].oper);
    return bly_op_finish(b);
}

static TF_Operation *build_restore(struct making *m, TF_Output filename, TF_Output *shards) {
    if (!m->plan->sharded)
        return build_restore_shard(m, 0, filename);
    for (size_t n = 0; n < m->shard_count && m->b.code == BELAY_OK; n++)
        shards[n].oper = build_restore_shard(m, n, filename);
    bly_op_begin(&m->b, "NoOp", "restore_all", NULL);
    for (size_t n = 0; n < m->shard_count; n++)
        bly_op_after(&m->b, shards[n].oper);
    return bly_op_finish(&m->b);
}

/* ---- the SaverDef ---- */

/* A copy for the caller; the default saver goes into collection `savers`, too. */
static Bly__SaverDef *keep(const struct making *m, belay_graph *graph, TF_Output filename,
                           TF_Output save, TF_Operation *restore) {
    char filename_name[128], save_name[128];
    Bly__SaverDef def = BLY__SAVER_DEF__INIT, *copy = NULL;
    belay_code code;
    bly_graph_output_name(graph, filename, filename_name, sizeof filename_name);
    bly_graph_output_name(graph, save, save_name, sizeof save_name);
    def.filename_tensor_name = filename_name;
    def.save_tensor_name = save_name;
    def.restore_op_name = (char *)(uintptr_t)graph->rt->OperationName(restore);
    def.max_to_keep = 5; /* SV-01 */
    def.sharded = m->plan->sharded;
    def.keep_checkpoint_every_n_hours = 10000;
    def.version = VERSION_2;
    size_t len = bly__saver_def__get_packed_size(&def);
    uint8_t *bytes = bly_malloc(len);
    if (bytes) {
        bly__saver_def__pack(&def, bytes);
        copy = bly_wire_unpack(&bly__saver_def__descriptor, bytes, len, &code);
    }
    if (!copy) {
        bly_fail_memory(m->err);
    } else if (m->plan == &by_default &&
               bly_graph_add_bytes_to_collection(graph, "savers", bytes, len, m->err) != BELAY_OK) {
        bly_wire_free(copy);
        copy = NULL;
    }
    bly_free(bytes);
    return copy;
}

static Bly__SaverDef *build(struct making *m, belay_graph *graph) {
    TF_Output filename = BLY_NO_OUTPUT, save = BLY_NO_OUTPUT;
    TF_Operation *restore = NULL;
    TF_Output *files = bly_calloc(m->shard_count, sizeof *files);
    TF_Output *done = bly_calloc(m->shard_count, sizeof *done);
    bly_buf scope = BLY_BUF_INIT;
    bly_buf_printf(&scope, "%s%ssave", m->plan->scope ? m->plan->scope : "",
                   m->plan->scope ? "/" : "");
    m->b = bly_builder_start(graph, bly_buf_text(&scope), m->err);
    if (m->b.code == BELAY_OK && (!files || !done || scope.failed))
        m->b.code = bly_fail_memory(m->err);
    if (m->b.code == BELAY_OK) {
        filename = build_filename(&m->b);
        save =
            m->plan->sharded ? build_save(m, filename, files, done) : build_save_whole(m, filename);
        restore = build_restore(m, filename, files);
    }
    bly_free(files);
    bly_free(done);
    bly_buf_free(&scope);
    return bly_builder_end(&m->b) == BELAY_OK ? keep(m, graph, filename, save, restore) : NULL;
}

Bly__SaverDef *bly_build_saver_as(belay_graph *graph, const bly_saver_plan *plan,
                                  belay_error *err) {
    struct making m = {.rt = graph->rt, .err = err, .plan = plan};
    Bly__SaverDef *def = NULL;
    if (plan->variables ? !plan->variables[0] : graph->variable_count == graph->local_count) {
        bly_info("%s has no variables to save", graph->path);
        return NULL;
    }
    if (bly_graph_check_open(graph, "a saver", err) == BELAY_OK &&
        find_saved(&m, graph) == BELAY_OK && check_keys(&m) == BELAY_OK &&
        find_shards(&m) == BELAY_OK)
        def = build(&m, graph);
    clean_up(&m);
    return def;
}

Bly__SaverDef *bly_build_saver(belay_graph *graph, belay_error *err) {
    return bly_build_saver_as(graph, &by_default, err);
}
