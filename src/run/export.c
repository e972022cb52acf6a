/*
 * A SavedModel with the variables of a checkpoint. Both are bundles with the same keys: the
 * checkpoint's files become the SavedModel's, byte for byte, and are checked where they end up. So
 * no session is needed.
 */
#define _POSIX_C_SOURCE 200809L
#include "base/buf.h"
#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/options.h"
#include "base/text.h"
#include "checkpoint/saver.h"
#include "graph/serialize.h"
#include "run/copy.h"
#include "run/names.h"
#include "run/plan.h"
#include "run/restored.h"
#include "wire/encode.h"

#include <belay/run.h>
#include <belay/scaffold.h>

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

_Static_assert(sizeof(belay_export_options) ==
                   offsetof(belay_export_options, stop_self) + sizeof(void *),
               "no tail padding");

#define SERVE            "serve"
#define MAIN_OP          "saved_model_main_op"
#define ASSET_COLLECTION "asset_filepaths"

struct work {
    const belay_export_options *options;
    bly_copy_stop stop;
    belay_graph *graph;
    belay_saver *saver;
    char *prefix;    /* the checkpoint's */
    char *to;        /* without a slash at its end */
    char *temporary; /* beside `to`; NULL: not made yet */
};

/* --- where it goes ---------------------------------------------------------------------------- */

static belay_code found_something(void *self, const char *name, belay_error *err) {
    return bly_fail(err, BELAY_ALREADY_EXISTS, "%s is there, and holds %s: name a new folder",
                    (const char *)self, name);
}

static belay_code check_target(struct work *work, belay_error *err) {
    size_t len = strlen(work->options->to);
    while (len > 1 && work->options->to[len - 1] == '/')
        len--;
    work->to = bly_strndup(work->options->to, len);
    if (!work->to)
        return bly_fail_memory(err);
    if (bly_is_directory(work->to))
        return bly_directory_list(work->to, found_something, work->to, err);
    if (bly_file_exists(work->to))
        return bly_fail(err, BELAY_ALREADY_EXISTS, "%s is a file: name a new folder", work->to);
    return BELAY_OK;
}

/* FOLDER/.NAME.belay-export; what a killed export left there is removed. */
static belay_code choose_temporary(struct work *work, belay_error *err) {
    bly_buf path = BLY_BUF_INIT;
    char *folder = bly_path_directory(work->to);
    belay_code code = folder ? bly_make_directories(folder, err) : bly_fail_memory(err);
    if (folder && folder[0])
        bly_buf_printf(&path, "%s/", folder);
    bly_buf_printf(&path, ".%s.belay-export", bly_path_base(work->to));
    bly_free(folder);
    work->temporary = bly_buf_take(&path);
    if (!work->temporary)
        return bly_fail_memory(err);
    return code == BELAY_OK ? bly_remove_directory(work->temporary, err) : code;
}

static belay_code commit(struct work *work, belay_error *err) {
    belay_code code = bly_file_sync(work->temporary, err);
    if (code == BELAY_OK)
        code = bly_file_rename(work->temporary, work->to, err);
    if (code != BELAY_OK)
        return code;
    bly_free(work->temporary);
    work->temporary = NULL;
    char *folder = bly_path_directory(work->to);
    if (folder)
        code = bly_file_sync(folder[0] ? folder : ".", err);
    bly_free(folder);
    return code;
}

/* --- variables -------------------------------------------------------------------------------- */

struct bundle_copy {
    struct work *work;
    const char *folder; /* the checkpoint's */
    const char *name;   /* its base name */
    const char *to;     /* the folder `variables` */
};

/* PREFIX.index and PREFIX.data-* become variables.index and variables.data-*. */
static belay_code copy_bundle_file(void *self, const char *name, belay_error *err) {
    struct bundle_copy *copy = self;
    size_t len = strlen(copy->name);
    if (strncmp(name, copy->name, len) != 0 ||
        (strcmp(name + len, ".index") != 0 && !bly_starts_with(name + len, ".data-")))
        return BELAY_OK;
    bly_buf to = BLY_BUF_INIT;
    bly_buf_printf(&to, "%s/variables%s", copy->to, name + len);
    char *from = bly_path_join(copy->folder, name);
    belay_code code = from && !to.failed ? bly_copy_file(from, to.data, &copy->work->stop, err)
                                         : bly_fail_memory(err);
    bly_free(from);
    bly_buf_free(&to);
    return code;
}

static belay_code verify_copy(const char *folder, belay_error *err) {
    char *prefix = bly_path_join(folder, "variables");
    bly_bundle *bundle = prefix ? bly_bundle_load(prefix, err) : NULL;
    belay_code code = bundle ? bly_bundle_verify(bundle, NULL, NULL, err) : belay_error_code(err);
    bly_bundle_free(bundle);
    bly_free(prefix);
    return code;
}

static belay_code copy_variables(struct work *work, belay_error *err) {
    char *to = bly_path_join(work->temporary, "variables");
    char *folder = bly_path_directory(work->prefix);
    belay_code code = to && folder ? BELAY_OK : bly_fail_memory(err);
    if (code == BELAY_OK && mkdir(to, 0777))
        code = bly_fail_errno(err, errno, "cannot make folder %s", to);
    if (code == BELAY_OK) {
        struct bundle_copy copy = {work, folder, bly_path_base(work->prefix), to};
        code = bly_directory_list(folder[0] ? folder : ".", copy_bundle_file, &copy, err);
    }
    if (code == BELAY_OK)
        code = verify_copy(to, err);
    if (code == BELAY_OK)
        code = bly_file_sync(to, err);
    bly_free(folder);
    bly_free(to);
    return code;
}

static belay_code check_variables(struct work *work, belay_error *err) {
    bly_bundle *bundle = bly_bundle_load(work->prefix, err);
    if (!bundle)
        return belay_error_code(err);
    belay_code code = bly_saver_check_compatible(work->saver, bundle, err);
    bly_bundle_free(bundle);
    return code;
}

/* --- from a SavedModel ------------------------------------------------------------------------ */

static belay_code export_saved_model(struct work *work, belay_error *err) {
    /* The fingerprint holds a digest of the variables that it came with. Readers do without one. */
    static const char *const skip[] = {"variables", "fingerprint.pb", NULL};
    char *from = bly_strdup(work->options->graph);
    belay_code code = from ? BELAY_OK : bly_fail_memory(err);
    if (code == BELAY_OK && !bly_is_directory(from)) { /* ".../saved_model.pb" */
        bly_free(from);
        from = bly_path_directory(work->options->graph);
        code = from ? BELAY_OK : bly_fail_memory(err);
    }
    if (code == BELAY_OK)
        code = bly_copy_folder(from[0] ? from : ".", work->temporary, skip, &work->stop, err);
    bly_free(from);
    return code;
}

/* --- from a MetaGraphDef ---------------------------------------------------------------------- */

/* The few fields of protobuf that are added to serialised messages. Fields that come twice are
 * merged by every reader. */
static void put_text(bly_buf *out, unsigned field, const char *text) {
    bly_put_bytes(out, field, text, strlen(text));
}

/* MetaGraphDef.meta_info_def.tags */
static void put_tag(bly_buf *meta) {
    bly_buf info = BLY_BUF_INIT;
    put_text(&info, 4, SERVE);
    bly_put_bytes(meta, 1, info.data, info.len);
    meta->failed |= info.failed;
    bly_buf_free(&info);
}

/* MetaGraphDef.asset_file_def { tensor_info { name } filename } */
static void put_asset(bly_buf *meta, const char *tensor, const char *file) {
    bly_buf info = BLY_BUF_INIT, asset = BLY_BUF_INIT;
    put_text(&info, 1, tensor);
    bly_put_bytes(&asset, 1, info.data, info.len);
    put_text(&asset, 2, file);
    bly_put_bytes(meta, 6, asset.data, asset.len);
    meta->failed |= info.failed | asset.failed;
    bly_buf_free(&info);
    bly_buf_free(&asset);
}

/* The path that a constant of the graph holds; NULL with `err` filled where it is no such constant.
 */
static char *constant_path(const belay_graph *graph, TF_Operation *op, belay_error *err) {
    const bly_runtime *rt = graph->rt;
    TF_Tensor *value = NULL;
    TF_Status *status = rt->NewStatus();
    char *path = NULL;
    rt->OperationGetAttrTensor(op, "value", &value, status);
    if (bly_runtime_finish(rt, status, err) != BELAY_OK)
        return NULL;
    if (rt->TensorType(value) == TF_STRING && rt->TensorElementCount(value) == 1) {
        const TF_TString *string = rt->TensorData(value);
        path = bly_strndup(rt->StringGetDataPointer(string), rt->StringGetSize(string));
    }
    rt->DeleteTensor(value);
    if (!path)
        bly_fail(err, BELAY_INVALID_ARGUMENT, "%s names a file with no path", graph->path);
    return path;
}

/* A name in assets/ that no other file has taken. */
static belay_code asset_name(bly_names *taken, const char *path, belay_error *err) {
    const char *base = bly_path_base(path);
    char name[512];
    snprintf(name, sizeof name, "%.400s", base);
    for (int n = 1; bly_names_find(taken, name) != BLY_NAMES_NONE; n++)
        snprintf(name, sizeof name, "%d_%.400s", n, base);
    return bly_names_add(taken, name, err);
}

static belay_code export_asset(struct work *work, const char *node, bly_names *taken, bly_buf *meta,
                               belay_error *err) {
    char tensor[1024];
    TF_Output output;
    char *inside = NULL, *to = NULL;
    belay_code code = bly_graph_find_raw_output(work->graph, node, &output, err);
    if (code != BELAY_OK)
        return code;
    char *path = constant_path(work->graph, output.oper, err);
    code = path ? asset_name(taken, path, err) : belay_error_code(err);
    if (code == BELAY_OK) {
        inside = bly_path_join("assets", taken->items[taken->count - 1]);
        to = inside ? bly_path_join(work->temporary, inside) : NULL;
        code = to ? bly_copy_file(path, to, &work->stop, err) : bly_fail_memory(err);
    }
    if (code == BELAY_OK) {
        bly_graph_output_name(work->graph, output, tensor, sizeof tensor);
        put_asset(meta, tensor, taken->items[taken->count - 1]);
    }
    bly_free(to);
    bly_free(inside);
    bly_free(path);
    return code;
}

/* Files that the graph reads while it is set up, such as vocabularies, go along: their paths need
 * not exist where the model is used. */
static belay_code export_assets(struct work *work, bly_buf *meta, belay_error *err) {
    size_t size = belay_graph_collection_size(work->graph, ASSET_COLLECTION);
    bly_names taken = BLY_NAMES_INIT;
    belay_code code = BELAY_OK;
    if (!size)
        return BELAY_OK;
    char *folder = bly_path_join(work->temporary, "assets");
    if (!folder)
        return bly_fail_memory(err);
    if (mkdir(folder, 0777))
        code = bly_fail_errno(err, errno, "cannot make folder %s", folder);
    for (size_t i = 0; i < size && code == BELAY_OK; i++) {
        const char *node = belay_graph_collection_node(work->graph, ASSET_COLLECTION, i);
        if (node)
            code = export_asset(work, node, &taken, meta, err);
    }
    if (code == BELAY_OK)
        code = bly_file_sync(folder, err);
    bly_names_free(&taken);
    bly_free(folder);
    return code;
}

/* SavedModel { saved_model_schema_version: 1 meta_graphs } */
static belay_code write_saved_model(struct work *work, const bly_buf *meta, belay_error *err) {
    bly_buf model = BLY_BUF_INIT;
    bly_put_number(&model, 1, 1);
    bly_put_bytes(&model, 2, meta->data, meta->len);
    char *path = bly_path_join(work->temporary, "saved_model.pb");
    belay_code code = path && !model.failed
                          ? bly_file_write_atomic(path, model.data, model.len, err)
                          : bly_fail_memory(err);
    bly_free(path);
    bly_buf_free(&model);
    return code;
}

/* What a session runs after its variables were restored: tables, local variables. Loaders know it
 * by this collection. */
static belay_code add_main_op(struct work *work, belay_error *err) {
    belay_scaffold_options options = BELAY_SCAFFOLD_OPTIONS_INIT;
    options.saver = work->saver;
    belay_scaffold *scaffold = belay_scaffold_new(work->graph, &options, err);
    belay_code code = scaffold ? belay_scaffold_finalize(scaffold, err) : belay_error_code(err);
    const char *op = code == BELAY_OK ? belay_scaffold_local_init_op(scaffold) : NULL;
    if (op && belay_graph_collection_size(work->graph, MAIN_OP) == 0)
        code = bly_graph_add_to_collection(work->graph, MAIN_OP, op, err);
    belay_scaffold_free(scaffold);
    return code;
}

static belay_code export_meta_graph(struct work *work, belay_error *err) {
    bly_buf meta = BLY_BUF_INIT;
    if (mkdir(work->temporary, 0777))
        return bly_fail_errno(err, errno, "cannot make folder %s", work->temporary);
    belay_code code = add_main_op(work, err);
    if (code == BELAY_OK)
        code = bly_graph_serialize(work->graph, bly_saver_def(work->saver), &meta, err);
    if (code == BELAY_OK)
        code = export_assets(work, &meta, err);
    if (code == BELAY_OK) {
        put_tag(&meta);
        code = meta.failed ? bly_fail_memory(err) : write_saved_model(work, &meta, err);
    }
    bly_buf_free(&meta);
    return code;
}

/* --- all of it -------------------------------------------------------------------------------- */

static belay_code check_signatures(const belay_graph *graph, belay_error *err) {
    if (belay_graph_signature_count(graph) > 0)
        return BELAY_OK;
    return bly_fail(err, BELAY_FAILED_PRECONDITION,
                    "%s has no signature, so nobody could use it as a SavedModel: export the graph "
                    "with one (serving= of python/belay_export.py)",
                    graph->path);
}

static belay_code open_graph(struct work *work, belay_error *err) {
    work->graph = bly_run_load(work->options->graph, err);
    if (!work->graph)
        return belay_error_code(err);
    belay_code code = check_signatures(work->graph, err);
    if (code != BELAY_OK)
        return code;
    work->saver = belay_saver_new(work->graph, NULL, err);
    return work->saver ? BELAY_OK : belay_error_code(err);
}

static belay_code write_all(struct work *work, belay_error *err) {
    belay_code code = choose_temporary(work, err);
    if (code == BELAY_OK)
        code = belay_graph_is_saved_model(work->graph) ? export_saved_model(work, err)
                                                       : export_meta_graph(work, err);
    if (code == BELAY_OK)
        code = copy_variables(work, err);
    return code == BELAY_OK ? commit(work, err) : code;
}

static belay_code export_all(struct work *work, int64_t *out_step, belay_error *err) {
    const belay_export_options *o = work->options;
    if (!o->graph || !*o->graph || !o->dir || !*o->dir || !o->to || !*o->to)
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "graph, dir and to must be given");
    belay_code code = check_target(work, err);
    if (code == BELAY_OK)
        code = open_graph(work, err);
    if (code == BELAY_OK) {
        work->prefix = bly_choose_checkpoint(o->dir, err);
        code = work->prefix ? check_variables(work, err) : belay_error_code(err);
    }
    if (code == BELAY_OK)
        code = write_all(work, err);
    if (code == BELAY_OK && out_step) {
        *out_step = bly_restored_step(NULL, work->prefix);
    } else if (code != BELAY_OK && work->temporary) {
        BLY_LOCAL_ERROR(ignored);
        if (bly_remove_directory(work->temporary, &ignored) != BELAY_OK)
            bly_warn("%s", ignored.message);
    }
    return code;
}

belay_code belay_export_saved_model(const belay_export_options *given, int64_t *out_step,
                                    belay_error *err) {
    BLY_LOCAL_ERROR(mine);
    belay_export_options options = BELAY_EXPORT_OPTIONS_INIT;
    struct work work = {.options = &options};
    if (out_step)
        *out_step = BELAY_NO_STEP;
    belay_code code =
        bly_options_read(&options, sizeof options, given, "belay_export_options", &mine);
    work.stop = (bly_copy_stop){options.should_stop, options.stop_self};
    if (code == BELAY_OK)
        code = export_all(&work, out_step, &mine);
    if (code != BELAY_OK)
        bly_error_copy(err, &mine);
    belay_saver_free(work.saver);
    belay_graph_free(work.graph);
    bly_free(work.prefix);
    bly_free(work.to);
    bly_free(work.temporary);
    return code;
}
