/* Ends an evaluation after so many batches (HK-EVAL). */
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/options.h"
#include "graph/counter.h"
#include "hooks/make.h"

#include <belay/hooks.h>

#include <stddef.h>

_Static_assert(sizeof(belay_stop_after_evals_options) ==
                   offsetof(belay_stop_after_evals_options, reserved) + sizeof(uint32_t),
               "no tail padding");

/* The op that counts, and what sets it to 0 where the graph itself does not. */
#define COUNTER   "belay_eval_counter"
#define LOGS_EACH 20 /* below so many evaluations each is logged, else about ten */

typedef struct stop_after_evals {
    int64_t num_evals; /* 0: until the input ends */
    int64_t log_every; /* 0: never */
    char *evals_completed;
    const char *init; /* of a counter of our own; NULL: it is the graph's */
    belay_output counter;
} stop_after_evals;

/* Adds what counts to the graph. All hooks of a graph share it, so that a run counts once (as
 * TensorFlow's evaluate_once has it). */
static belay_code add_counter(belay_graph *graph, belay_error *err) {
    bly_counter counter;
    BLY_LOCAL_ERROR(mine);
    bly_graph_counter(graph, "eval_step", "eval_step", BELAY_INT64, 0, BELAY_INVALID_ARGUMENT,
                      &counter, &mine);
    if (mine.code == BELAY_OK)
        bly_graph_add_to_collection(graph, COUNTER, counter.next, &mine);
    if (mine.code == BELAY_OK && counter.init)
        bly_graph_add_to_collection(graph, COUNTER, counter.init, &mine);
    bly_error_copy(err, &mine);
    return mine.code;
}

static belay_code begin(void *self, belay_graph *graph, belay_error *err) {
    stop_after_evals *hook = self;
    hook->init = NULL;
    if (hook->evals_completed)
        return belay_graph_find_output(graph, hook->evals_completed, &hook->counter, err);
    if (belay_graph_collection_size(graph, COUNTER) == 0) {
        belay_code code = add_counter(graph, err);
        if (code != BELAY_OK)
            return code;
    }
    hook->init = belay_graph_collection_node(graph, COUNTER, 1);
    return belay_graph_find_output(graph, belay_graph_collection_node(graph, COUNTER, 0),
                                   &hook->counter, err);
}

static belay_code after_create_session(void *self, belay_session *session,
                                       belay_coordinator *coordinator, belay_error *err) {
    stop_after_evals *hook = self;
    (void)coordinator;
    if (!hook->init)
        return BELAY_OK;
    return belay_session_run(session, NULL, NULL, NULL, NULL, (const char *[]){hook->init, NULL},
                             NULL, err);
}

static belay_code before_run(void *self, belay_run_context *run, belay_error *err) {
    stop_after_evals *hook = self;
    return belay_run_context_fetch(run, hook->counter, err);
}

static belay_code after_run(void *self, belay_run_context *run, belay_error *err) {
    stop_after_evals *hook = self;
    const belay_tensor *value = belay_run_context_value(run, 0);
    double number = value && belay_tensor_count(value) == 1 ? belay_tensor_number(value, 0) : -1;
    if (!(number >= 0))
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "%s is not a count of evaluations",
                        hook->evals_completed ? hook->evals_completed : "eval_step");
    int64_t done = (int64_t)number;
    if (hook->log_every && !hook->num_evals)
        bly_info("Evaluation [%lld]", (long long)done);
    else if (hook->log_every && (done % hook->log_every == 0 || done == hook->num_evals))
        bly_info("Evaluation [%lld/%lld]", (long long)done, (long long)hook->num_evals);
    if (hook->num_evals && done >= hook->num_evals)
        belay_run_context_request_stop(run);
    return BELAY_OK;
}

static void destroy(void *self) {
    stop_after_evals *hook = self;
    bly_free(hook->evals_completed);
    bly_free(hook);
}

static belay_code read_options(void *self, const void *given, belay_error *err) {
    stop_after_evals *hook = self;
    belay_stop_after_evals_options options;
    if (bly_options_read(&options, sizeof options, given, "belay_stop_after_evals_options", err) !=
        BELAY_OK)
        return BELAY_INVALID_ARGUMENT;
    if (options.num_evals < 0)
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "num_evals is %lld",
                        (long long)options.num_evals);
    if (options.no_log > 1 || options.reserved)
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "%s",
                        options.reserved ? "reserved must be 0" : "no_log must be 0 or 1");
    hook->num_evals = options.num_evals;
    if (!options.no_log)
        hook->log_every = options.num_evals < LOGS_EACH ? 1 : options.num_evals / 10;
    if (options.evals_completed && !(hook->evals_completed = bly_strdup(options.evals_completed)))
        return bly_fail_memory(err);
    return BELAY_OK;
}

belay_hook *belay_stop_after_evals_hook_new(const belay_stop_after_evals_options *given,
                                            belay_error *err) {
    static const belay_hook_vtable table = {
        .struct_size = sizeof table,
        .begin = begin,
        .after_create_session = after_create_session,
        .before_run = before_run,
        .after_run = after_run,
        .destroy = destroy,
        .name = "StopAfterNEvalsHook",
    };
    return bly_hook_make(&table, sizeof(stop_after_evals), read_options, given, err);
}
