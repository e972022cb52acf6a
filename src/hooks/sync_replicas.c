/* Starts what tf.compat.v1.train.SyncReplicasOptimizer needs beside its train op (HK-SYNC). */
#include "base/error.h"
#include "base/mem.h"
#include "base/options.h"
#include "graph/tokens.h"
#include "hooks/make.h"
#include "session/queue_runner.h"

#include <belay/hooks.h>
#include <belay/saver.h>

#include <stddef.h>

_Static_assert(sizeof(belay_sync_replicas_options) ==
                   offsetof(belay_sync_replicas_options, reserved) + sizeof(uint32_t),
               "no tail padding");

/* What belay_export.py writes down, in this order: names, and the optimizer's two numbers. */
#define COLLECTION "belay_sync_replicas"
#define COUNTS     COLLECTION "_counts"

enum { CHIEF_INIT, LOCAL_STEP_INIT, READY_FOR_LOCAL_INIT, QUEUE, ENQUEUE, NAME_COUNT };

static const char *const option_names[NAME_COUNT] = {
    "chief_init_op", "local_step_init_op", "ready_for_local_init_op", "queue", "enqueue_op",
};

typedef struct sync_replicas {
    char *given[NAME_COUNT];       /* NULL: see the collection */
    const char *names[NAME_COUNT]; /* this graph's */
    int64_t replicas_to_aggregate; /* these three as in the options */
    int64_t total_num_replicas;
    int64_t num_tokens;
    const char *init_tokens; /* this graph's op; NULL: there are none to put in */
    int is_worker;
    bly_queue_runner *runner; /* NULL: a worker's */
    belay_tensor *missing;
} sync_replicas;

static int is_needed(const sync_replicas *hook, int which) {
    if (which == LOCAL_STEP_INIT)
        return hook->is_worker;
    return which == READY_FOR_LOCAL_INIT || !hook->is_worker;
}

/* HK-SYNC-01: what was not given and the graph does not say. */
static belay_code find_names(sync_replicas *hook, const belay_graph *graph, belay_error *err) {
    for (int i = 0; i < NAME_COUNT; i++) {
        hook->names[i] = hook->given[i] ? hook->given[i]
                                        : belay_graph_collection_node(graph, COLLECTION, (size_t)i);
        if (!hook->names[i] && is_needed(hook, i))
            return bly_fail(err, BELAY_INVALID_ARGUMENT,
                            "%s is not given, and the graph has no collection " COLLECTION
                            ", which belay_export.py writes when it is told the "
                            "SyncReplicasOptimizer",
                            option_names[i]);
    }
    return BELAY_OK;
}

static belay_code check_ops(const sync_replicas *hook, belay_graph *graph, belay_error *err) {
    belay_output found;
    belay_code code = BELAY_OK;
    for (int i = 0; code == BELAY_OK && i < NAME_COUNT; i++) {
        if (!is_needed(hook, i))
            continue;
        code = i == READY_FOR_LOCAL_INIT
                   ? belay_graph_find_output(graph, hook->names[i], &found, err)
                   : belay_graph_find_target(graph, hook->names[i], &found, err);
    }
    return code;
}

/* HK-SYNC-04. Fewer tokens than the first step needs, and nobody would ever finish it. */
static belay_code add_first_tokens(sync_replicas *hook, belay_graph *graph, belay_error *err) {
    int64_t aggregated = hook->replicas_to_aggregate, total = hook->total_num_replicas;
    if (!aggregated)
        belay_graph_collection_int64(graph, COUNTS, 0, &aggregated);
    if (!total && !hook->replicas_to_aggregate)
        belay_graph_collection_int64(graph, COUNTS, 1, &total);
    if (!total)
        total = aggregated;
    if (aggregated <= 0)
        return bly_fail(
            err, BELAY_INVALID_ARGUMENT,
            "replicas_to_aggregate is not given, and the graph has no collection " COUNTS
            ", which belay_export.py writes when it is told the "
            "SyncReplicasOptimizer");
    int64_t tokens = hook->num_tokens == 0           ? aggregated
                     : hook->num_tokens == BELAY_OFF ? 0
                                                     : hook->num_tokens;
    if (tokens < aggregated - total)
        return bly_fail(err, BELAY_INVALID_ARGUMENT,
                        "Too few tokens to finish the first step: %lld (given) vs %lld (needed)",
                        (long long)tokens, (long long)(aggregated - total));
    hook->init_tokens = NULL;
    if (tokens == 0)
        return BELAY_OK;
    return bly_graph_add_tokens(graph, hook->names[QUEUE], tokens, &hook->init_tokens, err);
}

static belay_code begin(void *self, belay_graph *graph, belay_error *err) {
    sync_replicas *hook = self;
    bly_queue_runner_free(hook->runner);
    hook->runner = NULL;
    belay_code code = find_names(hook, graph, err);
    if (code == BELAY_OK)
        code = check_ops(hook, graph, err);
    if (code != BELAY_OK || hook->is_worker)
        return code;
    code = add_first_tokens(hook, graph, err);
    if (code != BELAY_OK)
        return code;
    BLY_LOCAL_ERROR(mine);
    bly_queue_runner_parts parts = {
        .queue = hook->names[QUEUE],
        .enqueue_ops = &hook->names[ENQUEUE],
        .enqueue_count = 1,
    };
    hook->runner = bly_queue_runner_new(graph, &parts, &mine);
    if (mine.code != BELAY_OK)
        bly_error_copy(err, &mine);
    return mine.code;
}

/* HK-SYNC-03. The op lists what is uninitialised. */
static belay_code check_ready(sync_replicas *hook, belay_session *session, belay_error *err) {
    BLY_LOCAL_ERROR(mine);
    size_t length = 0;
    belay_session_run(session, NULL, NULL,
                      (const char *[]){hook->names[READY_FOR_LOCAL_INIT], NULL}, &hook->missing,
                      NULL, NULL, &mine);
    if (mine.code != BELAY_OK && mine.code != BELAY_FAILED_PRECONDITION) {
        bly_error_copy(err, &mine);
        return mine.code;
    }
    if (mine.code == BELAY_OK && belay_tensor_count(hook->missing) == 0)
        return BELAY_OK;
    const char *first =
        mine.code == BELAY_OK ? belay_tensor_string(hook->missing, 0, &length) : NULL;
    return bly_fail(err, BELAY_FAILED_PRECONDITION,
                    "Init operations did not make model ready for SyncReplicasOptimizer "
                    "local_init. Init op: %s, error: %s%.*s",
                    hook->names[hook->is_worker ? LOCAL_STEP_INIT : CHIEF_INIT],
                    first ? "not initialised: " : mine.message, first ? (int)length : 0,
                    first ? first : "");
}

static belay_code run_op(belay_session *session, const char *op, belay_error *err) {
    return belay_session_run(session, NULL, NULL, NULL, NULL, (const char *[]){op, NULL}, NULL,
                             err);
}

static belay_code after_create_session(void *self, belay_session *session,
                                       belay_coordinator *coordinator, belay_error *err) {
    sync_replicas *hook = self;
    belay_code code = check_ready(hook, session, err);
    if (code != BELAY_OK)
        return code;
    if (hook->is_worker)
        return run_op(session, hook->names[LOCAL_STEP_INIT], err);
    code = run_op(session, hook->names[CHIEF_INIT], err);
    if (code == BELAY_OK && hook->init_tokens)
        code = run_op(session, hook->init_tokens, err);
    if (code == BELAY_OK)
        code = bly_queue_runner_create_threads(hook->runner, session, coordinator, NULL, err);
    return code;
}

static void destroy(void *self) {
    sync_replicas *hook = self;
    bly_queue_runner_free(hook->runner);
    belay_tensor_free(hook->missing);
    for (int i = 0; i < NAME_COUNT; i++)
        bly_free(hook->given[i]);
    bly_free(hook);
}

static belay_code read_options(void *self, const void *given, belay_error *err) {
    sync_replicas *hook = self;
    belay_sync_replicas_options options;
    if (bly_options_read(&options, sizeof options, given, "belay_sync_replicas_options", err) !=
        BELAY_OK)
        return BELAY_INVALID_ARGUMENT;
    if (options.is_worker > 1 || options.reserved)
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "%s",
                        options.reserved ? "reserved must be 0" : "is_worker must be 0 or 1");
    if (options.replicas_to_aggregate < 0 || options.total_num_replicas < 0)
        return bly_fail(err, BELAY_INVALID_ARGUMENT,
                        "replicas_to_aggregate is %lld and total_num_replicas %lld",
                        (long long)options.replicas_to_aggregate,
                        (long long)options.total_num_replicas);
    if (options.num_tokens < BELAY_OFF)
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "num_tokens is %lld",
                        (long long)options.num_tokens);
    const char *const names[NAME_COUNT] = {
        options.chief_init_op, options.local_step_init_op, options.ready_for_local_init_op,
        options.queue,         options.enqueue_op,
    };
    hook->is_worker = options.is_worker != 0;
    hook->replicas_to_aggregate = options.replicas_to_aggregate;
    hook->total_num_replicas = options.total_num_replicas;
    hook->num_tokens = options.num_tokens;
    for (int i = 0; i < NAME_COUNT; i++)
        if (names[i] && !(hook->given[i] = bly_strdup(names[i])))
            return bly_fail_memory(err);
    return BELAY_OK;
}

belay_hook *belay_sync_replicas_hook_new(const belay_sync_replicas_options *given,
                                         belay_error *err) {
    static const belay_hook_vtable table = {
        .struct_size = sizeof table,
        .begin = begin,
        .after_create_session = after_create_session,
        .destroy = destroy,
        .name = "SyncReplicasHook",
    };
    return bly_hook_make(&table, sizeof(sync_replicas), read_options, given, err);
}
