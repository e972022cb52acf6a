/*
 * A singular monitored session: hooks around every step, and no recovery, so that the plain session
 * below it stays one and the same and may be used directly.
 *
 *     build/examples/singular RUN [STEPS]      from the top of the repository
 *
 * A saver hook and a summary hook write to RUN: `belay ckpt ls RUN`, `belay events cat RUN`, or
 * TensorBoard. Started again with more STEPS it goes on.
 */
#include "digits.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define HOOKS 3

/* The hooks, which run in this order around each step. One scaffold for all: it holds the saver and
 * the summary op. */
static belay_code make_hooks(belay_hook **hooks, belay_scaffold *scaffold, const char *run,
                             int64_t steps, belay_error *err) {
    belay_checkpoint_saver_options saver = BELAY_CHECKPOINT_SAVER_OPTIONS_INIT;
    saver.checkpoint_dir = run;
    saver.save_steps = 100; /* and at the start, and at the end */
    saver.scaffold = scaffold;
    belay_summary_saver_options summaries = BELAY_SUMMARY_SAVER_OPTIONS_INIT;
    summaries.save_steps = 20;
    summaries.output_dir = run;
    summaries.scaffold = scaffold;
    belay_stop_at_step_options stop = BELAY_STOP_AT_STEP_OPTIONS_INIT;
    stop.last_step = steps;
    hooks[0] = belay_checkpoint_saver_hook_new(&saver, err);
    if (hooks[0])
        hooks[1] = belay_summary_saver_hook_new(&summaries, err);
    if (hooks[1])
        hooks[2] = belay_stop_at_step_hook_new(&stop, err);
    return hooks[2] ? BELAY_OK : belay_error_code(err);
}

static belay_monitored_session *open_session(belay_graph *graph, const char *run, int64_t steps,
                                             belay_error *err) {
    belay_hook *hooks[HOOKS] = {NULL};
    belay_monitored_session *session = NULL;
    belay_scaffold *scaffold = belay_scaffold_new(graph, NULL, err);
    if (scaffold && make_hooks(hooks, scaffold, run, steps, err) == BELAY_OK) {
        belay_singular_monitored_session_options options =
            BELAY_SINGULAR_MONITORED_SESSION_OPTIONS_INIT;
        options.hooks = hooks;
        options.hook_count = HOOKS;
        options.scaffold = scaffold;
        options.checkpoint_dir = run; /* restores from here */
        session = belay_singular_monitored_session_open(graph, &options, err);
    }
    for (size_t i = 0; i < HOOKS; i++)
        belay_hook_free(hooks[i]); /* the session has its own hold on them */
    belay_scaffold_free(scaffold);
    return session;
}

/* A run on the plain session: no hook sees it, and nothing is counted. */
static belay_code tell_accuracy(belay_monitored_session *session, const digits *d,
                                belay_error *err) {
    belay_tensor *accuracy = NULL;
    belay_session *raw = belay_monitored_session_raw_session(session);
    belay_code code =
        belay_session_run(raw, (const char *[]){"x", "y", NULL}, d->inputs,
                          (const char *[]){"accuracy", NULL}, &accuracy, NULL, NULL, err);
    if (code == BELAY_OK)
        printf("accuracy on the last batch %.3f\n", belay_tensor_number(accuracy, 0));
    belay_tensor_free(accuracy);
    return code;
}

static belay_code train(const char *run, int64_t steps, belay_error *err) {
    digits d;
    if (digits_open(&d, err) != BELAY_OK)
        return belay_error_code(err);
    belay_graph *graph = belay_graph_load(GRAPH, NULL, err);
    belay_monitored_session *session = open_session(graph, run, steps, err);
    belay_step *step = belay_step_prepare(session, (const char *[]){"x", "y", NULL}, NULL,
                                          (const char *[]){"train", NULL}, err);
    belay_code code = step ? BELAY_OK : belay_error_code(err);
    if (code == BELAY_OK)
        printf("%s at step %" PRId64 "\n",
               belay_monitored_session_was_restored(session) ? "resumed" : "started",
               belay_monitored_session_progress(session)->global_step);
    int64_t runs = 0;
    while (code == BELAY_OK && !belay_monitored_session_should_stop(session)) {
        code = digits_next(&d, err);
        /* An error of the step is the session's, and close() returns it. Nothing recovers from
         * UNAVAILABLE and ABORTED here. */
        if (code != BELAY_OK || belay_step_run(step, d.inputs, NULL, err) != BELAY_OK)
            break;
        runs++;
    }
    if (runs > 0 && belay_error_code(err) == BELAY_OK)
        code = tell_accuracy(session, &d, err);
    if (code == BELAY_OK && belay_error_code(err) == BELAY_OK)
        printf("stopped at step %" PRId64 "\n",
               belay_monitored_session_progress(session)->global_step);
    belay_code closing = belay_monitored_session_close(session, err);
    belay_graph_free(graph);
    digits_close(&d);
    return code != BELAY_OK ? code : closing;
}

int main(int argc, char **argv) {
    int64_t steps = argc > 2 ? strtoll(argv[2], NULL, 10) : 300;
    if (argc < 2 || argc > 3 || steps < 1) {
        fprintf(stderr, "usage: singular RUN [STEPS]\n");
        return 2;
    }
    setenv("TF_CPP_MIN_LOG_LEVEL", "2", 0); /* TensorFlow tells of its start at length */
    belay_error *err = belay_error_new();
    belay_code code = train(argv[1], steps, err);
    if (code != BELAY_OK)
        fprintf(stderr, "singular: %s: %s\n", belay_code_name(code), belay_error_message(err));
    belay_error_free(err);
    return code == BELAY_OK ? 0 : 1;
}
