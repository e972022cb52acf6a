#include "session/session_manager.h"

#include "base/buf.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/options.h"
#include "checkpoint/saver.h"
#include "runtime/tensor.h"
#include "session/backoff.h"
#include "session/feed_list.h"
#include "session/request.h"

#include <stddef.h>
#include <string.h>

_Static_assert(sizeof(belay_session_manager_options) ==
                   offsetof(belay_session_manager_options, local_init_inputs) + sizeof(void *),
               "no tail padding");
_Static_assert(sizeof(belay_prepare_options) ==
                   offsetof(belay_prepare_options, reserved) + sizeof(uint32_t),
               "no tail padding");

#define KNOWN_FLAGS (BELAY_PREPARE_REQUIRE_CHECKPOINT | BELAY_PREPARE_WAIT_FOR_CHECKPOINT)

#define RECOVERY_WAIT_SECS 30.0
#define MAX_WAIT_SECS      7200.0

struct belay_session_manager {
    belay_graph *graph;
    TF_Operation *local_init_op;    /* NULL: none */
    TF_Output ready;                /* oper NULL: none */
    int ready_is_op;                /* an op without outputs: ready once it ran (SM-41) */
    TF_Output ready_for_local_init; /* the same */
    int ready_for_local_init_is_op;
    TF_Buffer *local_init_run_options; /* NULL: none */
    bly_feed_list local_init_feeds;
    double recovery_wait_secs;
    atomic_int cancelled;
    const atomic_int *stop; /* NULL: none */
};

/* A ready op may be an operation, or a tensor (SM-41). */
static belay_code find_ready(belay_session_manager *manager, const char *name, TF_Output *out,
                             int *out_is_op, belay_error *err) {
    BLY_LOCAL_ERROR(ignored);
    if (!name)
        return BELAY_OK;
    if (bly_graph_find_output(manager->graph, name, out, &ignored) == BELAY_OK)
        return BELAY_OK;
    TF_Operation *op = bly_graph_find_op(manager->graph, name, err);
    if (!op)
        return belay_error_code(err) ? belay_error_code(err) : BELAY_NOT_FOUND;
    if (manager->graph->rt->OperationNumOutputs(op) > 0)
        return bly_error_copy(err, &ignored), ignored.code;
    *out = (TF_Output){op, 0};
    *out_is_op = 1;
    return BELAY_OK;
}

static belay_code read_options(belay_session_manager *manager,
                               const belay_session_manager_options *options, belay_error *err) {
    belay_run_options run;
    if (options->ready_for_local_init_op && !options->local_init_op)
        return bly_fail(err, BELAY_INVALID_ARGUMENT,
                        "If you pass a ready_for_local_init_op you must also pass a local_init_op, "
                        "ready_for_local_init_op [%s]",
                        options->ready_for_local_init_op);
    belay_code code = bly_options_read(&run, sizeof run, options->local_init_run_options,
                                       "belay_run_options", err);
    if (code == BELAY_OK && run.metadata)
        code = bly_fail(err, BELAY_INVALID_ARGUMENT,
                        "local_init_run_options.metadata is set: a session manager collects none");
    if (code == BELAY_OK)
        code = find_ready(manager, options->ready_op, &manager->ready, &manager->ready_is_op, err);
    if (code == BELAY_OK)
        code = find_ready(manager, options->ready_for_local_init_op, &manager->ready_for_local_init,
                          &manager->ready_for_local_init_is_op, err);
    if (code == BELAY_OK && options->local_init_op) {
        manager->local_init_op = bly_graph_find_target(manager->graph, options->local_init_op, err);
        if (!manager->local_init_op)
            code = BELAY_NOT_FOUND;
    }
    if (code == BELAY_OK && run.run_options)
        manager->local_init_run_options =
            manager->graph->rt->NewBufferFromString(run.run_options, run.run_options_size);
    if (code == BELAY_OK)
        code = bly_feed_list_copy(&manager->local_init_feeds, options->local_init_feeds,
                                  options->local_init_inputs, err);
    manager->recovery_wait_secs =
        options->recovery_wait_secs > 0 ? options->recovery_wait_secs : RECOVERY_WAIT_SECS;
    return code;
}

belay_session_manager *belay_session_manager_new(belay_graph *graph,
                                                 const belay_session_manager_options *given,
                                                 belay_error *err) {
    belay_session_manager_options options;
    if (!graph) {
        if (belay_error_code(err) == BELAY_OK)
            bly_fail(err, BELAY_INVALID_ARGUMENT, "graph is NULL");
        return NULL;
    }
    if (bly_options_read(&options, sizeof options, given, "belay_session_manager_options", err) !=
        BELAY_OK)
        return NULL;
    belay_session_manager *manager = bly_calloc(1, sizeof *manager);
    if (!manager) {
        bly_fail_memory(err);
        return NULL;
    }
    manager->graph = bly_graph_ref(graph);
    if (read_options(manager, &options, err) != BELAY_OK) {
        belay_session_manager_free(manager);
        return NULL;
    }
    return manager;
}

void belay_session_manager_free(belay_session_manager *manager) {
    if (!manager)
        return;
    if (manager->local_init_run_options)
        manager->graph->rt->DeleteBuffer(manager->local_init_run_options);
    bly_feed_list_free(&manager->local_init_feeds);
    belay_graph_free(manager->graph);
    bly_free(manager);
}

void belay_session_manager_cancel(belay_session_manager *manager) {
    if (manager)
        atomic_store(&manager->cancelled, 1);
}

void bly_session_manager_watch(belay_session_manager *manager, const atomic_int *stop) {
    manager->stop = stop;
}

/* ---- readiness (SM-40 to SM-47) ---- */

/* Joins the elements of a ready op's value: names of what is not initialised. */
static void put_elements(const bly_runtime *rt, const TF_Tensor *value, bly_buf *why) {
    bly_buf_puts(why, "Variables not initialized: ");
    for (int64_t i = 0; i < rt->TensorElementCount(value); i++) {
        size_t len = 0;
        const char *text = bly_tensor_string(rt, value, i, &len);
        bly_buf_puts(why, i ? ", " : "");
        if (text)
            bly_buf_append(why, text, len);
        else
            bly_buf_printf(why, "%g", bly_tensor_number(rt, value, i));
    }
}

/* SM-41; but of int32 elements only zeros say nothing is missing (BUG-64). */
static int is_ready_value(const bly_runtime *rt, const TF_Tensor *value) {
    int64_t count = value ? rt->TensorElementCount(value) : 0;
    int ready = count == 0 || rt->TensorType(value) == TF_INT32;
    for (int64_t i = 0; ready && i < count; i++)
        ready = bly_tensor_number(rt, value, i) == 0;
    return ready;
}

/* Evaluates a ready op. *out_ready is 0 with the reason in `why`. An error other than "not ready"
 * is returned. */
static belay_code check_ready(const belay_session_manager *manager, belay_session *session,
                              TF_Output ready, int is_op, int *out_ready, bly_buf *why,
                              belay_error *err) {
    const bly_runtime *rt = manager->graph->rt;
    TF_Tensor *value = NULL;
    *out_ready = 1;
    bly_buf_clear(why);
    if (!ready.oper)
        return BELAY_OK;
    BLY_LOCAL_ERROR(mine);
    belay_code code = is_op ? bly_session_run_op(session, ready.oper, &mine)
                            : bly_session_fetch(session, ready, &value, &mine);
    if (code == BELAY_FAILED_PRECONDITION) {
        /* SM-43; the code decides, since a table says it in other words than a variable (BUG-65).
         */
        if (!strstr(mine.message, "uninitialized"))
            bly_warn("ready op %s, taken as not ready: %s", rt->OperationName(ready.oper),
                     mine.message);
        *out_ready = 0;
        bly_buf_puts(why, mine.message);
        return BELAY_OK;
    }
    if (code != BELAY_OK) {
        bly_error_copy(err, &mine);
        return code;
    }
    *out_ready = is_ready_value(rt, value);
    if (!*out_ready)
        put_elements(rt, value, why);
    if (value)
        rt->DeleteTensor(value);
    return BELAY_OK;
}

/* What an op is fed that initialises: the user's tensors, and the paths of a SavedModel's files. */
struct feeds {
    const char **names; /* ends in NULL */
    belay_tensor **inputs;
    size_t count;
    char **asset_names; /* asset_count of each, the last ones of the above */
    belay_tensor **assets;
    size_t asset_count;
};

static int is_fed(const belay_graph *graph, const char *const *feeds, TF_Output wanted) {
    TF_Output output;
    for (size_t i = 0; feeds && feeds[i]; i++)
        if (bly_graph_find_raw_output(graph, feeds[i], &output, NULL) == BELAY_OK &&
            bly_same_output(output, wanted))
            return 1;
    return 0;
}

static belay_code add_asset(struct feeds *feeds, const belay_graph *graph, const bly_asset *asset,
                            belay_error *err) {
    char name[1024];
    const char *path = asset->path;
    bly_graph_output_name(graph, asset->tensor, name, sizeof name);
    char *copy = bly_strdup(name);
    if (!copy)
        return bly_fail_memory(err);
    feeds->asset_names[feeds->asset_count] = copy;
    belay_tensor *tensor = belay_tensor_new_strings(&path, NULL, NULL, 0, err);
    feeds->assets[feeds->asset_count++] = tensor;
    feeds->names[feeds->count] = copy;
    feeds->inputs[feeds->count++] = tensor;
    return tensor ? BELAY_OK : BELAY_RESOURCE_EXHAUSTED;
}

static void feeds_free(struct feeds *feeds) {
    for (size_t i = 0; i < feeds->asset_count; i++) {
        bly_free(feeds->asset_names[i]);
        belay_tensor_free(feeds->assets[i]);
    }
    bly_free(feeds->names);
    bly_free(feeds->inputs);
    bly_free(feeds->asset_names);
    bly_free(feeds->assets);
}

static belay_code collect_feeds(struct feeds *out, const belay_graph *graph,
                                const char *const *feeds, belay_tensor *const *inputs,
                                belay_error *err) {
    size_t given = 0, assets = graph->asset_count;
    while (feeds && feeds[given])
        given++;
    *out = (struct feeds){.names = bly_calloc(given + assets + 1, sizeof *out->names),
                          .inputs = bly_calloc(given + assets, sizeof(belay_tensor *)),
                          .asset_names = bly_calloc(assets, sizeof(char *)),
                          .assets = bly_calloc(assets, sizeof(belay_tensor *))};
    if (!out->names || !out->inputs || !out->asset_names || !out->assets)
        return bly_fail_memory(err);
    for (; out->count < given; out->count++) {
        out->names[out->count] = feeds[out->count];
        out->inputs[out->count] = inputs ? inputs[out->count] : NULL;
    }
    belay_code code = BELAY_OK;
    for (size_t i = 0; code == BELAY_OK && i < assets; i++)
        if (!is_fed(graph, feeds, graph->assets[i].tensor))
            code = add_asset(out, graph, &graph->assets[i], err);
    return code;
}

static belay_code run_with_feeds(belay_session *session, const TF_Operation *op,
                                 const char *const *given, belay_tensor *const *inputs,
                                 const TF_Buffer *run_options, belay_error *err) {
    struct feeds feeds;
    belay_run_options options = BELAY_RUN_OPTIONS_INIT;
    const char *target[] = {session->rt->OperationName((TF_Operation *)(uintptr_t)op), NULL};
    if (run_options) {
        options.run_options = run_options->data;
        options.run_options_size = run_options->length;
    }
    belay_code code = collect_feeds(&feeds, session->graph, given, inputs, err);
    if (code == BELAY_OK)
        code = belay_session_run(session, feeds.names, feeds.inputs, NULL, NULL, target, &options,
                                 err);
    feeds_free(&feeds);
    return code;
}

/* Local init (SM-45): *out_done is 0 where the model is not ready for it. */
static belay_code try_local_init(const belay_session_manager *manager, belay_session *session,
                                 int *out_done, bly_buf *why, belay_error *err) {
    *out_done = 1;
    bly_buf_clear(why);
    if (!manager->local_init_op)
        return BELAY_OK;
    belay_code code = check_ready(manager, session, manager->ready_for_local_init,
                                  manager->ready_for_local_init_is_op, out_done, why, err);
    if (code != BELAY_OK || !*out_done)
        return code;
    bly_info("Running local_init_op.");
    code = run_with_feeds(session, manager->local_init_op,
                          (const char *const *)manager->local_init_feeds.names,
                          manager->local_init_feeds.inputs, manager->local_init_run_options, err);
    if (code == BELAY_OK)
        bly_info("Done running local_init_op.");
    return code;
}

static belay_code check_model_ready(const belay_session_manager *manager, belay_session *session,
                                    int *out_ready, bly_buf *why, belay_error *err) {
    return check_ready(manager, session, manager->ready, manager->ready_is_op, out_ready, why, err);
}

/* ---- restoring (SM-05 to SM-13) ---- */

static belay_code cancelled(belay_error *err) {
    return bly_fail(err, BELAY_CANCELLED, "a stop was requested while waiting");
}

/* Runs what a SavedModel initialises beside its variables, tables for example. Before a checkpoint
 * is restored, so that the checkpoint's values win (SM-13). */
static belay_code run_saved_model_initializers(belay_session *session, belay_error *err) {
    belay_graph *graph = session->graph;
    belay_code code = BELAY_OK;
    size_t count = belay_graph_collection_size(graph, "saved_model_initializers");
    for (size_t i = 0; code == BELAY_OK && i < count; i++) {
        const char *name = belay_graph_collection_node(graph, "saved_model_initializers", i);
        TF_Operation *op = name ? bly_graph_find_target(graph, name, err) : NULL;
        code = op ? run_with_feeds(session, op, NULL, NULL, NULL, err) : BELAY_NOT_FOUND;
    }
    if (code == BELAY_OK && graph->initial_op)
        code = run_with_feeds(session, graph->initial_op, NULL, NULL, NULL, err);
    return code;
}

/* Restores from a folder, waiting for a checkpoint where that was asked for (SM-11, BUG-27,
 * BUG-31). */
static belay_code restore_from_directory(belay_session_manager *manager, belay_session *session,
                                         const belay_prepare_options *options,
                                         uint32_t *out_restored, belay_error *err) {
    bly_backoff backoff;
    double max_wait = options->max_wait_secs == 0 ? MAX_WAIT_SECS : options->max_wait_secs;
    bly_backoff_start(&backoff, max_wait, manager->recovery_wait_secs, &manager->cancelled,
                      manager->stop);
    for (;;) {
        belay_code code = bly_saver_restore_newest(options->saver, session, options->checkpoint_dir,
                                                   out_restored, err);
        if (code != BELAY_OK || *out_restored ||
            !(options->flags & BELAY_PREPARE_WAIT_FOR_CHECKPOINT))
            return code;
        if (bly_backoff_should_report(&backoff))
            bly_info("Waiting for checkpoint to be available. In %s, for %.0f s so far",
                     options->checkpoint_dir, bly_backoff_elapsed_secs(&backoff));
        switch (bly_backoff_pause(&backoff)) {
        case BLY_BACKOFF_STOPPED:
            return cancelled(err);
        case BLY_BACKOFF_EXPIRED:
            return bly_fail(err, BELAY_DEADLINE_EXCEEDED,
                            "no checkpoint in %s after waiting %.0f secs", options->checkpoint_dir,
                            bly_backoff_elapsed_secs(&backoff));
        case BLY_BACKOFF_AGAIN:
            break;
        }
    }
}

static belay_code restore(belay_session_manager *manager, belay_session *session,
                          const belay_prepare_options *options, uint32_t *out_restored,
                          belay_error *err) {
    *out_restored = 0;
    if (!options->saver || (!options->checkpoint_dir && !options->checkpoint_filename_with_path))
        return BELAY_OK; /* SM-06 */
    if (belay_saver_is_empty(options->saver))
        return BELAY_OK; /* BUG-30: nothing was restored, whatever the folder holds */
    if (!options->checkpoint_filename_with_path)
        return restore_from_directory(manager, session, options, out_restored, err);
    belay_code code =
        belay_saver_restore(options->saver, session, options->checkpoint_filename_with_path, err);
    *out_restored = code == BELAY_OK;
    return code;
}

/* ---- prepare, recover, wait ---- */

static belay_code read_prepare_options(belay_session_manager *manager,
                                       belay_prepare_options *options,
                                       const belay_prepare_options *given, belay_error *err) {
    if (!manager)
        return belay_error_code(err) ? belay_error_code(err)
                                     : bly_fail(err, BELAY_INVALID_ARGUMENT, "manager is NULL");
    belay_code code =
        bly_options_read(options, sizeof *options, given, "belay_prepare_options", err);
    if (code != BELAY_OK)
        return code;
    /* BUG-15: before a session is made. */
    if (options->checkpoint_dir && options->checkpoint_filename_with_path)
        return bly_fail(err, BELAY_INVALID_ARGUMENT,
                        "Can not provide both checkpoint_dir and checkpoint_filename_with_path.");
    if (options->flags & ~KNOWN_FLAGS || options->reserved)
        return bly_fail(err, BELAY_INVALID_ARGUMENT,
                        "belay_prepare_options has an option set that is not known");
    return bly_check_secs("max_wait_secs", options->max_wait_secs, err);
}

static const char *or_none(const char *name) {
    return name ? name : "None";
}

static const char *init_fn_name(const belay_prepare_options *options) {
    return options->init_fn ? "given" : "None";
}

/* An error that it returns without filling `err` still gets a text. */
static belay_code call_init_fn(belay_session *session, const belay_prepare_options *options,
                               belay_error *err) {
    BLY_LOCAL_ERROR(mine);
    belay_code code = options->init_fn(options->init_self, options->scaffold, session, &mine);
    if (code == BELAY_OK)
        return BELAY_OK;
    if (mine.code != code) {
        bly_fail(&mine, code, "init_fn failed");
        mine.origin = BELAY_ORIGIN_HOOK;
    }
    bly_error_copy(err, &mine);
    return code;
}

/* init_op, then init_fn (SM-16 to SM-18). */
static belay_code initialize(belay_session_manager *manager, belay_session *session,
                             const belay_prepare_options *options, belay_error *err) {
    belay_code code = BELAY_OK;
    if (options->flags & BELAY_PREPARE_REQUIRE_CHECKPOINT)
        return bly_fail(err, BELAY_NOT_FOUND, "there is no checkpoint in %s, and one is required",
                        options->checkpoint_dir ? options->checkpoint_dir : "(no folder)");
    if (!options->init_op && !options->init_fn && !manager->local_init_op &&
        !manager->graph->initial_checkpoint)
        return bly_fail(err, BELAY_FAILED_PRECONDITION,
                        "Model is not initialized and no init_op or init_fn or local_init_op was "
                        "given");
    if (options->init_op) {
        TF_Operation *op = bly_graph_find_target(manager->graph, options->init_op, err);
        code =
            op ? run_with_feeds(session, op, options->init_feeds, options->init_inputs, NULL, err)
               : BELAY_NOT_FOUND;
    }
    if (code == BELAY_OK)
        code = bly_restore_initial_checkpoint(session, err);
    return code == BELAY_OK && options->init_fn ? call_init_fn(session, options, err) : code;
}

static belay_code make_ready(belay_session_manager *manager, belay_session *session,
                             const belay_prepare_options *options, belay_error *err) {
    bly_buf why = BLY_BUF_INIT;
    const bly_runtime *rt = manager->graph->rt;
    int ready;
    belay_code code = try_local_init(manager, session, &ready, &why, err);
    if (code == BELAY_OK && !ready) {
        code = bly_fail(err, BELAY_FAILED_PRECONDITION,
                        "Init operations did not make model ready for local_init. Init op: %s, "
                        "init fn: %s, error: %s",
                        or_none(options->init_op), init_fn_name(options), bly_buf_text(&why));
    } else if (code == BELAY_OK) {
        code = check_model_ready(manager, session, &ready, &why, err);
        if (code == BELAY_OK && !ready)
            code = bly_fail(err, BELAY_FAILED_PRECONDITION,
                            "Init operations did not make model ready. Init op: %s, init fn: %s, "
                            "local_init_op: %s, error: %s",
                            or_none(options->init_op), init_fn_name(options),
                            manager->local_init_op ? rt->OperationName(manager->local_init_op)
                                                   : "None",
                            bly_buf_text(&why));
    }
    bly_buf_free(&why);
    return code;
}

belay_session *belay_session_manager_prepare_session(belay_session_manager *manager,
                                                     const belay_prepare_options *given,
                                                     uint32_t *out_restored, belay_error *err) {
    belay_prepare_options options;
    uint32_t restored = 0;
    if (out_restored)
        *out_restored = 0;
    if (read_prepare_options(manager, &options, given, err) != BELAY_OK)
        return NULL;
    belay_session *session = belay_session_open(manager->graph, options.session, err);
    if (!session)
        return NULL;
    belay_code code = run_saved_model_initializers(session, err);
    if (code == BELAY_OK)
        code = restore(manager, session, &options, &restored, err);
    if (code == BELAY_OK && !restored)
        code = initialize(manager, session, &options, err);
    if (code == BELAY_OK)
        code = make_ready(manager, session, &options, err);
    if (code != BELAY_OK) {
        belay_session_free(session);
        return NULL;
    }
    if (out_restored)
        *out_restored = restored;
    return session;
}

belay_session *belay_session_manager_recover_session(belay_session_manager *manager,
                                                     const belay_prepare_options *given,
                                                     uint32_t *out_initialized, belay_error *err) {
    belay_prepare_options options;
    bly_buf why = BLY_BUF_INIT;
    uint32_t restored = 0;
    int local_done = 0, ready = 0;
    if (out_initialized)
        *out_initialized = 0;
    if (read_prepare_options(manager, &options, given, err) != BELAY_OK)
        return NULL;
    belay_session *session = belay_session_open(manager->graph, options.session, err);
    if (!session)
        return NULL;
    const char *from =
        options.checkpoint_dir ? options.checkpoint_dir : options.checkpoint_filename_with_path;
    belay_code code = run_saved_model_initializers(session, err);
    if (code == BELAY_OK)
        code = restore(manager, session, &options, &restored, err);
    if (code == BELAY_OK)
        code = try_local_init(manager, session, &local_done, &why, err);
    if (code == BELAY_OK && restored && !local_done)
        bly_info("Restoring model from %s did not make model ready for local init: %s", from,
                 bly_buf_text(&why));
    if (code == BELAY_OK && restored && local_done) {
        code = check_model_ready(manager, session, &ready, &why, err);
        if (code == BELAY_OK && ready)
            bly_info("Restored model from %s", from);
        else if (code == BELAY_OK)
            bly_info("Restoring model from %s did not make model ready: %s", from,
                     bly_buf_text(&why));
    }
    bly_buf_free(&why);
    if (code != BELAY_OK) {
        belay_session_free(session);
        return NULL;
    }
    if (out_initialized)
        *out_initialized = restored && local_done && ready;
    return session;
}

/* One attempt of wait_for_session: a session, or NULL with *out_again 1 where it was only not ready
 * yet. */
static belay_session *attempt(belay_session_manager *manager, const belay_session_options *options,
                              bly_buf *local_why, bly_buf *ready_why, int *out_again,
                              belay_error *err) {
    int local_done = 0, ready = 0;
    *out_again = 0;
    belay_session *session = belay_session_open(manager->graph, options, err);
    if (!session)
        return NULL;
    bly_buf_clear(ready_why);
    belay_code code = try_local_init(manager, session, &local_done, local_why, err);
    if (code == BELAY_OK && local_done)
        code = check_model_ready(manager, session, &ready, ready_why, err);
    if (code == BELAY_OK && local_done && ready)
        return session;
    *out_again = code == BELAY_OK;
    belay_session_free(session);
    return NULL;
}

belay_session *belay_session_manager_wait_for_session(belay_session_manager *manager,
                                                      const belay_session_options *session_options,
                                                      double max_wait_secs, belay_error *err) {
    bly_backoff backoff;
    bly_buf local_why = BLY_BUF_INIT, ready_why = BLY_BUF_INIT;
    belay_session *session = NULL;
    int again;
    if (!manager) {
        if (belay_error_code(err) == BELAY_OK)
            bly_fail(err, BELAY_INVALID_ARGUMENT, "manager is NULL");
        return NULL;
    }
    if (bly_check_secs("max_wait_secs", max_wait_secs, err) != BELAY_OK)
        return NULL;
    if (!session_options || !session_options->target || !*session_options->target)
        bly_warn("waiting for a session in this process: its variables are private, so nobody "
                 "else can initialise them (BUG-26)");
    bly_backoff_start(&backoff, max_wait_secs, manager->recovery_wait_secs, &manager->cancelled,
                      manager->stop);
    for (;;) {
        session = attempt(manager, session_options, &local_why, &ready_why, &again, err);
        if (session || !again)
            break;
        if (bly_backoff_should_report(&backoff))
            bly_info("Waiting for model to be ready. Ready_for_local_init_op: %s, ready: %s",
                     local_why.len ? local_why.data : "None",
                     ready_why.len ? ready_why.data : "None");
        bly_backoff_result result = bly_backoff_pause(&backoff);
        if (result == BLY_BACKOFF_STOPPED) {
            cancelled(err);
            break;
        }
        if (result == BLY_BACKOFF_EXPIRED) {
            bly_fail(err, BELAY_DEADLINE_EXCEEDED,
                     "Session was not ready after waiting %d secs. Ready_for_local_init_op: %s, "
                     "ready: %s",
                     max_wait_secs > 0 ? (int)max_wait_secs : 0,
                     local_why.len ? local_why.data : "None",
                     ready_why.len ? ready_why.data : "None");
            break;
        }
    }
    bly_buf_free(&local_why);
    bly_buf_free(&ready_why);
    return session;
}
