#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/options.h"
#include "checkpoint/saver.h"
#include "session/backoff.h"
#include "session/request.h"
#include "session/session_manager_impl.h"

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
    atomic_init(&manager->references, 1);
    manager->deadline_us = BLY_NEVER;
    manager->graph = bly_graph_ref(graph);
    if (read_options(manager, &options, err) != BELAY_OK) {
        belay_session_manager_free(manager);
        return NULL;
    }
    return manager;
}

belay_session_manager *bly_session_manager_ref(belay_session_manager *manager) {
    atomic_fetch_add(&manager->references, 1);
    return manager;
}

void belay_session_manager_free(belay_session_manager *manager) {
    if (!manager || atomic_fetch_sub(&manager->references, 1) != 1)
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

void bly_session_manager_watch(belay_session_manager *manager, const atomic_int *stop,
                               int64_t deadline_us) {
    manager->stop = stop;
    manager->deadline_us = deadline_us;
}

/* ---- restoring (SM-05 to SM-13) ---- */

static double longest_wait(const belay_prepare_options *options) {
    return options->max_wait_secs == 0 ? MAX_WAIT_SECS : options->max_wait_secs;
}

static belay_code cancelled(const char *checkpoint_dir, belay_error *err) {
    return bly_fail(err, BELAY_CANCELLED,
                    "a stop was requested while waiting for a checkpoint in %s", checkpoint_dir);
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
        code = op ? bly_manager_run_init(session, op, NULL, NULL, NULL, err) : BELAY_NOT_FOUND;
    }
    if (code == BELAY_OK && graph->initial_op)
        code = bly_manager_run_init(session, graph->initial_op, NULL, NULL, NULL, err);
    return code;
}

static void report_no_checkpoint(void *checkpoint_dir, double elapsed_secs) {
    bly_info("Waiting for checkpoint to be available. In %s, for %.0f s so far",
             (const char *)checkpoint_dir, elapsed_secs);
}

/* Restores from a folder, waiting for a checkpoint where that was asked for (SM-11, BUG-27,
 * BUG-31). */
static belay_code restore_from_directory(belay_session_manager *manager, belay_session *session,
                                         const belay_prepare_options *options,
                                         uint32_t *out_restored, belay_error *err) {
    bly_backoff backoff;
    bly_backoff_start(&backoff, BLY_BACKOFF_LOOKS, longest_wait(options),
                      manager->recovery_wait_secs, &manager->cancelled, manager->stop);
    for (;;) {
        belay_code code = bly_saver_restore_newest(options->saver, session, options->checkpoint_dir,
                                                   out_restored, err);
        if (code != BELAY_OK || *out_restored ||
            !(options->flags & BELAY_PREPARE_WAIT_FOR_CHECKPOINT))
            return code;
        switch (bly_backoff_pause(&backoff, report_no_checkpoint,
                                  (void *)(uintptr_t)options->checkpoint_dir)) {
        case BLY_BACKOFF_STOPPED:
            return cancelled(options->checkpoint_dir, err);
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

static belay_code call_init_fn(belay_session *session, const belay_prepare_options *options,
                               belay_error *err) {
    BLY_LOCAL_ERROR(mine);
    belay_code code = options->init_fn(options->init_self, options->scaffold, session, &mine);
    if (code == BELAY_OK)
        return BELAY_OK;
    bly_fail_callback(&mine, code, "init_fn");
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
        code = op ? bly_manager_run_init(session, op, options->init_feeds, options->init_inputs,
                                         NULL, err)
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
    int ready = 0;
    belay_code code = bly_manager_local_init(manager, session, &ready, &why, err);
    if (code == BELAY_OK && !ready) {
        code = bly_fail(err, BELAY_FAILED_PRECONDITION,
                        "Init operations did not make model ready for local_init. Init op: %s, "
                        "init fn: %s, error: %s",
                        or_none(options->init_op), init_fn_name(options), bly_buf_text(&why));
    } else if (code == BELAY_OK) {
        code = bly_manager_check_ready(manager, session, &ready, &why, err);
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
    belay_session *session =
        bly_manager_open(manager, options.session, longest_wait(&options), err);
    if (!session)
        return NULL;
    belay_code code = run_saved_model_initializers(session, err);
    if (code == BELAY_OK)
        code = restore(manager, session, &options, &restored, err);
    if (code == BELAY_OK && !restored)
        code = initialize(manager, session, &options, err);
    if (code == BELAY_OK)
        code = make_ready(manager, session, &options, err);
    bly_manager_let_go(session);
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
    belay_session *session =
        bly_manager_open(manager, options.session, longest_wait(&options), err);
    if (!session)
        return NULL;
    const char *from =
        options.checkpoint_dir ? options.checkpoint_dir : options.checkpoint_filename_with_path;
    belay_code code = run_saved_model_initializers(session, err);
    if (code == BELAY_OK)
        code = restore(manager, session, &options, &restored, err);
    if (code == BELAY_OK)
        code = bly_manager_local_init(manager, session, &local_done, &why, err);
    if (code == BELAY_OK && restored && !local_done)
        bly_info("Restoring model from %s did not make model ready for local init: %s", from,
                 bly_buf_text(&why));
    if (code == BELAY_OK && restored && local_done) {
        code = bly_manager_check_ready(manager, session, &ready, &why, err);
        if (code == BELAY_OK && ready)
            bly_info("Restored model from %s", from);
        else if (code == BELAY_OK)
            bly_info("Restoring model from %s did not make model ready: %s", from,
                     bly_buf_text(&why));
    }
    bly_buf_free(&why);
    bly_manager_let_go(session);
    if (code != BELAY_OK) {
        belay_session_free(session);
        return NULL;
    }
    if (out_initialized)
        *out_initialized = restored && local_done && ready;
    return session;
}
