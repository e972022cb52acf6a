#include "session/monitored_session.h"

#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/options.h"
#include "session/backoff.h"
#include "session/recovery.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

_Static_assert(sizeof(belay_monitored_session_options) ==
                   offsetof(belay_monitored_session_options, no_recovery) + sizeof(uint32_t),
               "no tail padding");
_Static_assert(sizeof(belay_singular_monitored_session_options) ==
                   offsetof(belay_singular_monitored_session_options, reserved) + sizeof(uint32_t),
               "no tail padding");

#define GRACE_SECS  120.0
#define BUDGET_SECS 600.0

static void free_session(belay_monitored_session *session) {
    /* What is the user's goes first, as long as its `destroy` finds the session and its steps. */
    session->hooked.in_callback = 1;
    bly_hooked_clean_up(&session->hooked);
    belay_session_creator_free(session->creator);
    while (session->steps) {
        belay_step *next = session->steps->next;
        bly_step_clean_up(session->steps);
        bly_free(session->steps);
        session->steps = next;
    }
    if (!session->graph_was_finalized) /* MS-07, BUG-61, BUG-68 */
        bly_graph_set_finalized(session->graph, 0);
    belay_graph_free(session->graph);
    bly_free(session);
}

static belay_code check_options(const belay_monitored_session_options *options, belay_error *err) {
    belay_code code =
        bly_check_secs("stop_grace_period_secs", options->stop_grace_period_secs, err);
    if (code == BELAY_OK)
        code = bly_check_secs("recovery_budget_secs", options->recovery_budget_secs, err);
    if (code == BELAY_OK && options->threads > BELAY_THREADS_CALLER)
        code = bly_fail(err, BELAY_INVALID_ARGUMENT, "threads is %u", (unsigned)options->threads);
    return code;
}

/* MS-01: begin() of every hook, then the session. */
static belay_code open_session(belay_monitored_session *session,
                               const belay_monitored_session_options *options, belay_error *err) {
    BLY_LOCAL_ERROR(mine);
    belay_code code =
        bly_hooked_init(&session->hooked, session->graph, options->hooks, options->hook_count, err);
    if (code != BELAY_OK)
        return code;
    session->hooked.session_stop = &session->stop_requested;
    session->creator = options->creator
                           ? bly_session_creator_ref(options->creator)
                           : belay_chief_session_creator_new(session->graph, NULL, &mine);
    if (!session->creator) {
        bly_error_copy(err, &mine);
        return mine.code;
    }
    if (bly_session_creator_graph(session->creator) != session->graph)
        return bly_fail(err, BELAY_INVALID_ARGUMENT,
                        "the session creator's scaffold is of another graph");
    code = bly_hooked_begin(&session->hooked, err);
    return code == BELAY_OK ? bly_recovery_create(session, err) : code;
}

static void tell(const bly_session_witness *witness, belay_monitored_session *session) {
    if (witness)
        witness->tell(witness->self, session);
}

belay_monitored_session *belay_monitored_session_open(belay_graph *graph,
                                                      const belay_monitored_session_options *given,
                                                      belay_error *err) {
    return bly_monitored_session_open(graph, given, NULL, err);
}

belay_monitored_session *bly_monitored_session_open(belay_graph *graph,
                                                    const belay_monitored_session_options *given,
                                                    const bly_session_witness *witness,
                                                    belay_error *err) {
    belay_monitored_session_options options;
    if (!graph) {
        if (belay_error_code(err) == BELAY_OK)
            bly_fail(err, BELAY_INVALID_ARGUMENT, "graph is NULL");
        return NULL;
    }
    if (bly_options_read(&options, sizeof options, given, "belay_monitored_session_options", err) !=
            BELAY_OK ||
        check_options(&options, err) != BELAY_OK)
        return NULL;
    belay_monitored_session *session = bly_calloc(1, sizeof *session);
    if (!session) {
        bly_fail_memory(err);
        return NULL;
    }
    belay_error_clear(&session->failure);
    session->graph = bly_graph_ref(graph);
    session->graph_was_finalized = (int)belay_graph_is_finalized(graph);
    session->recovers = !options.no_recovery;
    session->grace_secs =
        options.stop_grace_period_secs == 0 ? GRACE_SECS : options.stop_grace_period_secs;
    session->budget_secs =
        options.recovery_budget_secs == 0 ? BUDGET_SECS : options.recovery_budget_secs;
    session->threads = options.threads;
    tell(witness, session);
    if (open_session(session, &options, err) != BELAY_OK) {
        tell(witness, NULL);
        free_session(session);
        return NULL;
    }
    return session;
}

belay_monitored_session *belay_singular_monitored_session_open(
    belay_graph *graph, const belay_singular_monitored_session_options *given, belay_error *err) {
    belay_singular_monitored_session_options options;
    belay_chief_session_creator_options chief = BELAY_CHIEF_SESSION_CREATOR_OPTIONS_INIT;
    belay_monitored_session_options monitored = BELAY_MONITORED_SESSION_OPTIONS_INIT;
    if (bly_options_read(&options, sizeof options, given,
                         "belay_singular_monitored_session_options", err) != BELAY_OK)
        return NULL;
    if (options.reserved != 0) {
        bly_fail(err, BELAY_INVALID_ARGUMENT,
                 "belay_singular_monitored_session_options: reserved is not 0");
        return NULL;
    }
    chief.scaffold = options.scaffold;
    chief.session = options.session;
    chief.checkpoint_dir = options.checkpoint_dir;
    chief.checkpoint_filename_with_path = options.checkpoint_filename_with_path;
    monitored.creator = belay_chief_session_creator_new(graph, &chief, err);
    if (!monitored.creator)
        return NULL;
    monitored.hooks = options.hooks;
    monitored.hook_count = options.hook_count;
    monitored.stop_grace_period_secs = options.stop_grace_period_secs;
    monitored.threads = options.threads;
    monitored.no_recovery = 1;
    belay_monitored_session *session = belay_monitored_session_open(graph, &monitored, err);
    belay_session_creator_free(monitored.creator);
    if (session)
        session->gives_raw_session = 1;
    return session;
}

uint32_t belay_monitored_session_should_stop(belay_monitored_session *session) {
    if (!session || atomic_load_explicit(&session->stop_requested, memory_order_relaxed) ||
        session->hooked.should_stop || session->step_fn_stopped || !session->is_open ||
        (session->failure.code != BELAY_OK && !session->failed_to_prepare))
        return 1;
    if (!belay_coordinator_should_stop(session->coordinated.coordinator))
        return 0;
    if (session->hooked.in_callback) /* a hook asks: no time to make the session anew */
        return 1;
    session->in_use++;
    int recovered = bly_recovery_after_helper(session);
    session->in_use--;
    return !recovered || belay_coordinator_should_stop(session->coordinated.coordinator);
}

void belay_monitored_session_request_stop(belay_monitored_session *session) {
    if (session)
        atomic_store(&session->stop_requested, 1);
}

belay_session *belay_monitored_session_raw_session(belay_monitored_session *session) {
    return session && session->gives_raw_session && session->is_open ? session->coordinated.session
                                                                     : NULL;
}

belay_graph *belay_monitored_session_graph(belay_monitored_session *session) {
    return session ? session->graph : NULL;
}

const belay_progress *belay_monitored_session_progress(const belay_monitored_session *session) {
    static const belay_progress none = {.global_step = -1, .rewound_from = -1, .rewound_to = -1};
    return session ? &session->hooked.progress : &none;
}

uint32_t belay_monitored_session_was_restored(const belay_monitored_session *session) {
    return session ? session->was_restored : 0;
}

belay_coordinator *belay_monitored_session_coordinator(belay_monitored_session *session) {
    return session && session->is_open ? session->coordinated.coordinator : NULL;
}

/* ---- why it ended ---- */

/* What a helper thread's stop was about. */
static belay_end_reason helper_end(belay_monitored_session *session) {
    BLY_LOCAL_ERROR(reported);
    belay_code code = bly_coordinated_error(&session->coordinated, &reported);
    if (code == BELAY_OK && session->hooked.stopped_at_creation) {
        snprintf(session->sentence, sizeof session->sentence, "%s asked to stop",
                 session->hooked.stopped_by);
        return BELAY_END_HOOK;
    }
    snprintf(session->sentence, sizeof session->sentence, "%s%s",
             code == BELAY_OK             ? "the coordinator was asked to stop"
             : code == BELAY_OUT_OF_RANGE ? "the input of a helper thread ended: "
                                          : "a helper thread failed: ",
             code == BELAY_OK ? "" : reported.message);
    return code == BELAY_OK             ? BELAY_END_COORDINATOR
           : code == BELAY_OUT_OF_RANGE ? BELAY_END_INPUT
                                        : BELAY_END_FAILURE;
}

belay_end_reason belay_monitored_session_end_reason(belay_monitored_session *session,
                                                    const char **out_sentence) {
    belay_end_reason reason = BELAY_END_NONE;
    const char *sentence = "it has not ended";
    if (!session) {
        if (out_sentence)
            *out_sentence = "there is no session";
        return BELAY_END_FAILURE;
    }
    const belay_error *failure = &session->failure;
    char *text = session->sentence;
    const size_t room = sizeof session->sentence;
    if (failure->code == BELAY_OUT_OF_RANGE) {
        reason = BELAY_END_INPUT;
        snprintf(text, room, "the input ended: %s", failure->message);
    } else if (session->hooked.should_stop) {
        reason = BELAY_END_HOOK;
        snprintf(text, room, "%s asked to stop", session->hooked.stopped_by);
    } else if (session->step_fn_stopped) {
        reason = BELAY_END_STEP_FN;
        snprintf(text, room, "a step function asked to stop");
    } else if (!bly_is_clean_end(failure->code) && !session->failed_to_prepare) {
        reason = BELAY_END_FAILURE;
        snprintf(text, room, "a step failed: %s", failure->message);
    } else if (atomic_load(&session->stop_requested)) {
        reason = BELAY_END_REQUESTED;
        snprintf(text, room, "a stop was requested");
    } else if (session->is_open &&
               belay_coordinator_should_stop(session->coordinated.coordinator)) {
        reason = helper_end(session);
    } else if (failure->code == BELAY_STOPPED) {
        reason = BELAY_END_HOOK;
        snprintf(text, room, "a hook ended it: %s", failure->message);
    }
    if (out_sentence)
        *out_sentence = reason == BELAY_END_NONE ? sentence : text;
    return reason;
}

/* ---- closing ---- */

/* BUG-09, ER-26: without any effect. */
static belay_code refuse_in_use(const belay_monitored_session *session, belay_error *err) {
    if (session->in_use == 0)
        return BELAY_OK;
    return bly_fail(err, BELAY_FAILED_PRECONDITION,
                    "the session is in use: it cannot be closed from a hook, a step function "
                    "or the body of its scope; ask it to stop instead");
}

belay_code belay_monitored_session_close(belay_monitored_session *session, belay_error *err) {
    if (!session)
        return belay_error_code(err);
    if (refuse_in_use(session, err) != BELAY_OK)
        return BELAY_FAILED_PRECONDITION;
    session->in_use++;
    BLY_LOCAL_ERROR(result);
    BLY_LOCAL_ERROR(ending);
    BLY_LOCAL_ERROR(closing);
    if (!bly_is_clean_end(session->failure.code))
        bly_error_copy(&result, &session->failure);
    /* MS-11; BUG-76, BUG-77: hooks are never given a session that was not handed out, or a dead
     * one. */
    else if (session->is_open)
        bly_hooked_end(&session->hooked, &ending);
    session->is_open = 0;
    bly_coordinated_close(&session->coordinated, session->failure.code, &closing);
    bly_error_chain(&result, &ending);
    if (!bly_is_clean_end(closing.code))
        bly_error_chain(&result, &closing); /* BUG-02, BUG-03 */
    free_session(session);
    if (result.code != BELAY_OK)
        bly_error_copy(err, &result);
    return result.code;
}

/* ---- steps ---- */

/* The calling thread is no good where a timeout must be kept (BUG-74), where another process runs
 * the step, and where queue runners feed it: a step that waits for them would keep the thread. */
static int caller_allowed(const belay_monitored_session *session) {
    const bly_coordinated *coordinated = &session->coordinated;
    return session->is_open && !coordinated->session->has_timeout &&
           coordinated->session->target[0] == '\0' && !coordinated->has_queue_runners;
}

belay_step *belay_step_prepare(belay_monitored_session *session, const char *const *feeds,
                               const char *const *fetches, const char *const *targets,
                               belay_error *err) {
    if (!session) {
        if (belay_error_code(err) == BELAY_OK)
            bly_fail(err, BELAY_INVALID_ARGUMENT, "session is NULL");
        return NULL;
    }
    belay_step *step = bly_calloc(1, sizeof *step);
    if (!step) {
        bly_fail_memory(err);
        return NULL;
    }
    /* A loop over a step that could not be prepared runs nothing; so closing must tell. */
    if (session->failed_to_prepare)
        belay_error_clear(&session->failure);
    session->failed_to_prepare = 0;
    BLY_LOCAL_ERROR(mine);
    if (bly_step_make(step, session->graph, feeds, fetches, targets, &mine) != BELAY_OK) {
        bly_step_clean_up(step);
        bly_free(step);
        session->failed_to_prepare = session->failure.code == BELAY_OK;
        if (session->failed_to_prepare)
            bly_error_copy(&session->failure, &mine);
        bly_error_copy(err, &mine);
        return NULL;
    }
    step->session = session;
    bly_tuner_start(&step->tuner, session->threads, caller_allowed(session));
    step->next = session->steps;
    session->steps = step;
    return step;
}

belay_code belay_step_set_run_options(belay_step *step, const belay_run_options *options,
                                      belay_error *err) {
    if (!step)
        return belay_error_code(err) ? belay_error_code(err)
                                     : bly_fail(err, BELAY_INVALID_ARGUMENT, "step is NULL");
    belay_code code = bly_step_set_options(step, options, err);
    /* Where they say themselves which threads are used, or for how long (BUG-74), nothing is left
     * to be tuned. */
    const Bly__RunOptions *own = step->options;
    int open = !own || (own->inter_op_thread_pool == 0 && own->timeout_in_ms <= 0);
    if (code == BELAY_OK)
        bly_tuner_start(&step->tuner, step->session->threads,
                        open && caller_allowed(step->session));
    return code;
}

/* One run of a step, as it is repeated after a recovery. */
struct step_call {
    belay_step *step;
    belay_tensor *const *inputs;
    belay_tensor **outputs;
    int without_hooks;
};

static belay_code call_step(belay_monitored_session *session, void *self, belay_error *err) {
    const struct step_call *call = self;
    return bly_coordinated_run(&session->coordinated, call->step, call->inputs, call->outputs,
                               call->without_hooks, err);
}

/* Nothing of the session is run from within a hook's function: its own run is not over yet. */
static belay_code refuse_in_hook(const belay_monitored_session *session, belay_error *err) {
    if (!session->hooked.in_callback)
        return BELAY_OK;
    return bly_fail(err, BELAY_FAILED_PRECONDITION,
                    "a hook cannot run a step of the session that called it; "
                    "belay_run_context_session() gives the raw session");
}

/* Somebody has dealt with an error in the middle of what went well. Not so one that ended a
 * recovery for good: it stays the session's (BUG-79), and should_stop may have told nobody of it
 * (MS-43). */
static void forget_failure(belay_monitored_session *session) {
    if (session->is_open && session->failure.code != BELAY_OK)
        belay_error_clear(&session->failure);
}

static belay_code check_outputs(const struct step_call *call, belay_error *err) {
    if (call->outputs || call->step->request.fetch_count == 0)
        return BELAY_OK;
    return bly_fail(err, BELAY_INVALID_ARGUMENT, "outputs is NULL, and the step has fetches");
}

static belay_code run_step(struct step_call *call, belay_error *err) {
    if (!call->step)
        return belay_error_code(err) ? belay_error_code(err)
                                     : bly_fail(err, BELAY_INVALID_ARGUMENT, "step is NULL");
    belay_monitored_session *session = call->step->session;
    if (refuse_in_hook(session, err) != BELAY_OK)
        return BELAY_FAILED_PRECONDITION;
    session->failed_to_prepare = 0;
    if (check_outputs(call, &session->failure) != BELAY_OK) {
        bly_error_copy(err, &session->failure);
        return BELAY_INVALID_ARGUMENT;
    }
    session->in_use++;
    belay_code code = bly_recovery_run(session, call_step, call, err);
    session->in_use--;
    if (code == BELAY_OK)
        forget_failure(session);
    return code;
}

belay_code belay_step_run(belay_step *step, belay_tensor *const *inputs, belay_tensor **outputs,
                          belay_error *err) {
    return run_step(&(struct step_call){step, inputs, outputs, 0}, err);
}

belay_code belay_step_run_without_hooks(belay_step *step, belay_tensor *const *inputs,
                                        belay_tensor **outputs, belay_error *err) {
    return run_step(&(struct step_call){step, inputs, outputs, 1}, err);
}

/* ---- step functions ---- */

struct belay_step_context {
    belay_monitored_session *session;
    belay_step_fn function;
    void *self;
    int stop_requested;
};

belay_session *belay_step_context_session(belay_step_context *context) {
    /* Read anew each time: a nested run may have made another one (BUG-01, BUG-75). */
    return context && context->session->is_open ? context->session->coordinated.session : NULL;
}

belay_code belay_step_context_run_with_hooks(belay_step_context *context, belay_step *step,
                                             belay_tensor *const *inputs, belay_tensor **outputs,
                                             belay_error *err) {
    if (!context || !step)
        return belay_error_code(err) ? belay_error_code(err)
                                     : bly_fail(err, BELAY_INVALID_ARGUMENT, "%s is NULL",
                                                context ? "step" : "context");
    belay_monitored_session *session = context->session;
    struct step_call call = {step, inputs, outputs, 0};
    if (step->session != session)
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "the step is of another session");
    if (refuse_in_hook(session, err) != BELAY_OK)
        return BELAY_FAILED_PRECONDITION;
    if (!session->is_open)
        return bly_fail(err, BELAY_FAILED_PRECONDITION,
                        "the session is gone: a recovery in this step function failed");
    BLY_LOCAL_ERROR(mine);
    if (check_outputs(&call, &mine) == BELAY_OK)
        call_step(session, &call, &mine);
    if (mine.code != BELAY_OK)
        bly_error_copy(err, &mine);
    return mine.code;
}

static belay_code say_stopped(belay_error *err) {
    return bly_fail(err, BELAY_STOPPED, "step_fn has requested the iterations to stop.");
}

belay_code belay_step_context_request_stop(belay_step_context *context, belay_error *err) {
    if (!context)
        return belay_error_code(err) ? belay_error_code(err)
                                     : bly_fail(err, BELAY_INVALID_ARGUMENT, "context is NULL");
    context->stop_requested = 1;
    return say_stopped(err);
}

/* A function or a scope's body ends with `own`. What ended a recovery for good is the session's
 * error all the same, and comes first (BUG-79): should_stop may have told nobody of it. */
static belay_code end_with(belay_monitored_session *session, const belay_error *own) {
    belay_error *failure = &session->failure;
    int lasts =
        !session->is_open && !bly_is_clean_end(failure->code) && !bly_is_preemption(failure->code);
    if (!lasts)
        bly_error_copy(failure, own);
    else if (!bly_is_clean_end(own->code) && strcmp(own->message, failure->message) != 0)
        bly_error_chain(failure, own);
    return failure->code;
}

static belay_code call_step_fn(belay_monitored_session *session, void *self, belay_error *err) {
    belay_step_context *context = self;
    (void)err;                   /* it is the session's own */
    context->stop_requested = 0; /* it begins anew (SF-08) */
    BLY_LOCAL_ERROR(mine);
    belay_code code = context->function(context->self, context, &mine);
    if (code == BELAY_OK && context->stop_requested)
        code = say_stopped(&mine);
    if (code == BELAY_OK)
        return code;
    bly_fail_callback(&mine, code, "the step function");
    return end_with(session, &mine);
}

belay_code belay_monitored_session_run_step_fn(belay_monitored_session *session,
                                               belay_step_fn function, void *self,
                                               belay_error *err) {
    belay_step_context context = {session, function, self, 0};
    if (!session || !function)
        return belay_error_code(err) ? belay_error_code(err)
                                     : bly_fail(err, BELAY_INVALID_ARGUMENT, "%s is NULL",
                                                session ? "function" : "session");
    if (refuse_in_hook(session, err) != BELAY_OK)
        return BELAY_FAILED_PRECONDITION;
    session->failed_to_prepare = 0;
    session->in_use++;
    belay_code code = bly_recovery_run(session, call_step_fn, &context, err);
    session->in_use--;
    if (code == BELAY_STOPPED)
        session->step_fn_stopped = 1; /* SD-16 */
    if (code == BELAY_OK)
        forget_failure(session);
    return code;
}

/* ---- the scoped form ---- */

belay_code belay_monitored_session_with(belay_monitored_session *session, belay_session_body body,
                                        void *self, belay_error *err) {
    if (!session)
        return belay_error_code(err);
    if (refuse_in_use(session, err) != BELAY_OK)
        return BELAY_FAILED_PRECONDITION;
    BLY_LOCAL_ERROR(mine);
    belay_code code;
    session->in_use++;
    if (body)
        code = body(self, session, &mine);
    else
        code = bly_fail(&mine, BELAY_INVALID_ARGUMENT, "body is NULL");
    session->in_use--;
    if (code != BELAY_OK)
        bly_fail_callback(&mine, code, "the body");
    /* Only what leaves the body decides how the session ends (MS-11), unless a recovery ended it.
     */
    session->failed_to_prepare = 0;
    if (code == BELAY_OK)
        forget_failure(session);
    else
        end_with(session, &mine);
    return belay_monitored_session_close(session, err);
}
