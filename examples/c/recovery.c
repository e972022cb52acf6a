/*
 * A monitored session with a chief's creator, on a server that may go away: the training goes on
 * from the newest checkpoint as soon as it is back, and the loop below does not notice.
 *
 *     build/belay server --cluster worker=127.0.0.1:2222
 *     build/examples/recovery RUN grpc://127.0.0.1:2222 5000
 *
 * Kill the server with kill -9 meanwhile, and start it again.
 */
#include "digits.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- a hook of one's own: a table of functions, and what they share ---- */

typedef struct teller {
    belay_output loss;
    int sessions; /* how many there were: each but the first came of a recovery */
} teller;

/* Before there is a session: tensors are looked up, ops could be added. */
static belay_code find_loss(void *self, belay_graph *graph, belay_error *err) {
    teller *t = self;
    return belay_graph_find_output(graph, "loss:0", &t->loss, err);
}

/* Once for each session. */
static belay_code tell_session(void *self, belay_session *session, belay_coordinator *coordinator,
                               belay_error *err) {
    teller *t = self;
    int64_t step = 0;
    (void)coordinator; /* threads would be started on it, here */
    belay_code code = belay_session_global_step(session, &step, err);
    if (code == BELAY_OK)
        printf("session %d begins at step %" PRId64 "\n", ++t->sessions, step);
    return code;
}

/* Around a run: what it should fetch beside what the caller wants ... */
static belay_code ask_loss(void *self, belay_run_context *run, belay_error *err) {
    return belay_run_context_fetch(run, ((const teller *)self)->loss, err);
}

/* ... and what came of it. */
static belay_code tell_loss(void *self, belay_run_context *run, belay_error *err) {
    (void)self;
    (void)err;
    const belay_tensor *loss = belay_run_context_value(run, 0);
    if (loss)
        printf("step %" PRId64 "  loss %.4g\n", belay_run_context_progress(run)->global_step,
               belay_tensor_number(loss, 0));
    return BELAY_OK;
}

/* When the two above are wanted next: in between the hook costs nothing. */
static void every_hundred_steps(void *self, const belay_progress *now, belay_when *out) {
    (void)self;
    out->from_step = (now->global_step / 100 + 1) * 100 - 1; /* the run that ends at step 100 n */
}

static const belay_hook_vtable teller_table = {.struct_size = sizeof teller_table,
                                               .begin = find_loss,
                                               .after_create_session = tell_session,
                                               .before_run = ask_loss,
                                               .after_run = tell_loss,
                                               .next_wanted = every_hundred_steps,
                                               .destroy = free,
                                               .name = "teller"};

#define HOOKS 3

static belay_code make_hooks(belay_hook **hooks, belay_scaffold *scaffold, const char *run,
                             int64_t steps, belay_error *err) {
    belay_checkpoint_saver_options saver = BELAY_CHECKPOINT_SAVER_OPTIONS_INIT;
    saver.checkpoint_dir = run;
    saver.save_steps = 100; /* what a recovery may lose */
    saver.scaffold = scaffold;
    belay_stop_at_step_options stop = BELAY_STOP_AT_STEP_OPTIONS_INIT;
    stop.last_step = steps;
    hooks[0] = belay_hook_new(&teller_table, calloc(1, sizeof(teller)), err);
    if (hooks[0])
        hooks[1] = belay_checkpoint_saver_hook_new(&saver, err);
    if (hooks[1])
        hooks[2] = belay_stop_at_step_hook_new(&stop, err);
    return hooks[2] ? BELAY_OK : belay_error_code(err);
}

/* ---- the session ---- */

/* What makes sessions: at the start, and at each recovery. */
static belay_session_creator *make_creator(belay_graph *graph, belay_scaffold *scaffold,
                                           const char *run, const char *target, belay_error *err) {
    belay_session_options where = BELAY_SESSION_OPTIONS_INIT;
    belay_chief_session_creator_options options = BELAY_CHIEF_SESSION_CREATOR_OPTIONS_INIT;
    where.target = target;
    options.session = &where;
    options.scaffold = scaffold;
    options.checkpoint_dir = run; /* restores from here, where there is something */
    return belay_chief_session_creator_new(graph, &options, err);
}

static belay_monitored_session *open_session(belay_graph *graph, const char *run,
                                             const char *target, int64_t steps, belay_error *err) {
    belay_hook *hooks[HOOKS] = {NULL};
    belay_monitored_session *session = NULL;
    belay_session_creator *creator = NULL;
    belay_scaffold *scaffold = belay_scaffold_new(graph, NULL, err);
    if (scaffold && make_hooks(hooks, scaffold, run, steps, err) == BELAY_OK)
        creator = make_creator(graph, scaffold, run, target, err);
    if (creator) {
        belay_monitored_session_options options = BELAY_MONITORED_SESSION_OPTIONS_INIT;
        options.creator = creator;
        options.hooks = hooks;
        options.hook_count = HOOKS;
        options.recovery_budget_secs = 120; /* then it is an error */
        session = belay_monitored_session_open(graph, &options, err);
    }
    for (size_t i = 0; i < HOOKS; i++)
        belay_hook_free(hooks[i]); /* the session has its own hold on them */
    belay_session_creator_free(creator);
    belay_scaffold_free(scaffold);
    return session;
}

static belay_code train(const char *run, const char *target, int64_t steps, belay_error *err) {
    digits d;
    if (digits_open(&d, err) != BELAY_OK)
        return belay_error_code(err);
    belay_graph *graph = belay_graph_load(GRAPH, NULL, err);
    belay_monitored_session *session = open_session(graph, run, target, steps, err);
    belay_step *step = belay_step_prepare(session, (const char *[]){"x", "y", NULL}, NULL,
                                          (const char *[]){"train", NULL}, err);
    belay_code code = step ? BELAY_OK : belay_error_code(err);
    while (code == BELAY_OK && !belay_monitored_session_should_stop(session)) {
        code = digits_next(&d, err);
        /* Where the server has gone away this waits until it is back, makes a new session, and
         * runs the step in that. */
        if (code != BELAY_OK || belay_step_run(step, d.inputs, NULL, err) != BELAY_OK)
            break;
    }
    int64_t last = belay_monitored_session_progress(session)->global_step;
    int64_t recoveries = belay_monitored_session_progress(session)->recoveries;
    belay_code closing = belay_monitored_session_close(session, err);
    if (code == BELAY_OK)
        code = closing;
    if (code == BELAY_OK)
        printf("stopped at step %" PRId64 " after %" PRId64 " recoveries\n", last, recoveries);
    belay_graph_free(graph);
    digits_close(&d);
    return code;
}

int main(int argc, char **argv) {
    int64_t steps = argc == 4 ? strtoll(argv[3], NULL, 10) : 0;
    if (steps < 1) {
        fprintf(stderr, "usage: recovery RUN TARGET STEPS\n");
        return 2;
    }
    setenv("TF_CPP_MIN_LOG_LEVEL", "2", 0); /* TensorFlow tells of its start at length */
    setvbuf(stdout, NULL, _IOLBF, 0);       /* a line is out when it is printed, in a pipe too */
    belay_error *err = belay_error_new();
    belay_code code = train(argv[1], argv[2], steps, err);
    if (code != BELAY_OK)
        fprintf(stderr, "recovery: %s: %s\n", belay_code_name(code), belay_error_message(err));
    belay_error_free(err);
    return code == BELAY_OK ? 0 : 1;
}
