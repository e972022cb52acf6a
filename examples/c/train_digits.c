/*
 * A whole training program on libbelay: it trains the handwritten digits, and goes on where it was
 * when it is started again.
 *
 *     build/examples/train_digits RUN [STEPS [PRINT_EVERY]]      from the top of the repository
 *
 * Stop it with Ctrl-C, or at any moment with kill -9, and start it once more.
 *
 * Functions that can fail take `err` last, and leave it alone when they succeed. A maker that is
 * given NULL where it needs an object, with `err` filled already, returns NULL; so a chain of
 * makers is checked once.
 */
#include <belay/belay.h>

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#define GRAPH  "examples/digits/graph/digits.meta" /* feeds x:0 and y:0, trains with op train */
#define DATA   "examples/digits/data/"
#define BATCH  32
#define PIXELS 64

static volatile sig_atomic_t interrupted;

static void interrupt(int signal_number) {
    (void)signal_number;
    interrupted = 1; /* the loop sees it after the step that is running */
}

/* ---- the input: two arrays, walked together ---- */

static belay_batches *open_input(belay_error *err) {
    static const char *const names[] = {"x", "y"};
    belay_batches_options options = BELAY_BATCHES_OPTIONS_INIT;
    options.batch_size = BATCH;
    options.seed = 1;
    /* A short last batch is left out, so that the tensors below keep their shape. */
    options.flags = BELAY_BATCHES_SHUFFLE | BELAY_BATCHES_DROP_SHORT;
    belay_npy *arrays[] = {belay_npy_load(DATA "train_x.npy", err), NULL};
    if (arrays[0])
        arrays[1] = belay_npy_load(DATA "train_y.npy", err);
    belay_batches *batches = belay_batches_prepare(names, arrays, 2, &options, err);
    belay_npy_free(arrays[0]); /* `batches` holds them */
    belay_npy_free(arrays[1]);
    return batches;
}

/* What a checkpoint does not hold by itself is the position in the input. This is called before
 * each one is written. */
typedef struct input {
    belay_batches *batches;
    belay_scaffold *scaffold; /* its saver writes the checkpoints */
} input;

static belay_code keep_position(void *self, belay_session *session, int64_t global_step,
                                belay_error *err) {
    const input *in = self;
    char position[BELAY_POSITION_SIZE];
    (void)session;
    (void)global_step;
    belay_batches_position(in->batches, position, sizeof position);
    return belay_saver_set_input_position(belay_scaffold_saver(in->scaffold), position, err);
}

/* After a restart the next batch is the one that came after the checkpoint. */
static belay_code find_position(const input *in, belay_error *err) {
    const char *position = belay_saver_restored_input_position(belay_scaffold_saver(in->scaffold));
    return position ? belay_batches_set_position(in->batches, position, err) : BELAY_OK;
}

/* ---- the session: restores or initialises, saves every 100 steps and at the end ---- */

static belay_monitored_session *open_session(belay_graph *graph, const char *run, int64_t steps,
                                             input *in, belay_error *err) {
    static const belay_checkpoint_listener_vtable table = {.struct_size = sizeof table,
                                                           .before_save = keep_position};
    const belay_checkpoint_listener listener = {&table, in};
    belay_stop_at_step_options stop = BELAY_STOP_AT_STEP_OPTIONS_INIT;
    stop.last_step = steps;
    belay_hook *hook = belay_stop_at_step_hook_new(&stop, err);
    if (!hook)
        return NULL;
    belay_training_options options = BELAY_TRAINING_OPTIONS_INIT;
    options.checkpoint_dir = run;
    options.save_checkpoint_steps = 100;
    options.scaffold = in->scaffold;
    options.hooks = &hook;
    options.hook_count = 1;
    options.listeners = &listener;
    options.listener_count = 1;
    belay_monitored_session *session = belay_monitored_training_session_open(graph, &options, err);
    belay_hook_free(hook); /* the session has its own hold on it */
    return session;
}

/* ---- the loop ---- */

/* Runs steps until the step that was asked for. The session's own failure is left to close() to
 * return; this returns what went wrong beside it. */
static belay_code run_steps(belay_monitored_session *session, belay_batches *batches,
                            int64_t print_every, belay_error *err) {
    const int64_t dims[] = {BATCH, PIXELS};
    belay_tensor *loss = NULL;
    belay_tensor *inputs[] = {belay_tensor_new(BELAY_FLOAT, dims, 2, err),
                              belay_tensor_new(BELAY_INT64, dims, 1, err)};
    /* Names are resolved here, once. */
    belay_step *step =
        belay_step_prepare(session, (const char *[]){"x", "y", NULL},
                           (const char *[]){"loss", NULL}, (const char *[]){"train", NULL}, err);
    belay_code code = inputs[0] && inputs[1] && step ? BELAY_OK : belay_error_code(err);
    while (code == BELAY_OK && !interrupted && !belay_monitored_session_should_stop(session)) {
        void *memory[] = {belay_tensor_data(inputs[0]), belay_tensor_data(inputs[1])};
        code = belay_batches_next(batches, memory, NULL, err);
        if (code != BELAY_OK || belay_step_run(step, inputs, &loss, err) != BELAY_OK)
            break;
        int64_t at = belay_monitored_session_progress(session)->global_step;
        if (at % print_every == 0)
            printf("step %" PRId64 "  loss %.6g\n", at, belay_tensor_number(loss, 0));
    }
    belay_tensor_free(inputs[0]);
    belay_tensor_free(inputs[1]);
    belay_tensor_free(loss);
    return code;
}

static belay_code train(const char *run, int64_t steps, int64_t print_every, belay_error *err) {
    belay_graph *graph = belay_graph_load(GRAPH, NULL, err);
    belay_scaffold *scaffold = belay_scaffold_new(graph, NULL, err); /* NULL where graph is */
    input in = {scaffold ? open_input(err) : NULL, scaffold};
    belay_monitored_session *session =
        in.batches ? open_session(graph, run, steps, &in, err) : NULL;
    belay_code code = session ? find_position(&in, err) : belay_error_code(err);
    if (code == BELAY_OK) {
        printf(belay_monitored_session_was_restored(session) ? "resumed from step %" PRId64 "\n"
                                                             : "started at step %" PRId64 "\n",
               belay_monitored_session_progress(session)->global_step);
        code = run_steps(session, in.batches, print_every, err);
    }
    int64_t last = belay_monitored_session_progress(session)->global_step;
    /* Writes the last checkpoint, and returns the error of a step that failed. */
    belay_code closing = belay_monitored_session_close(session, err);
    if (code == BELAY_OK)
        code = closing;
    if (code == BELAY_OK)
        printf("stopped at step %" PRId64 "; checkpoints and events are in %s\n", last, run);
    belay_batches_free(in.batches);
    belay_scaffold_free(scaffold);
    belay_graph_free(graph);
    return code;
}

int main(int argc, char **argv) {
    int64_t steps = argc > 2 ? strtoll(argv[2], NULL, 10) : 1000;
    int64_t print_every = argc > 3 ? strtoll(argv[3], NULL, 10) : 100;
    if (argc < 2 || argc > 4 || steps < 1 || print_every < 1) {
        fprintf(stderr, "usage: train_digits RUN [STEPS [PRINT_EVERY]]\n");
        return 2;
    }
    setenv("TF_CPP_MIN_LOG_LEVEL", "2", 0); /* TensorFlow tells of its start at length */
    setvbuf(stdout, NULL, _IOLBF, 0);       /* a line is out when it is printed, in a pipe too */
    signal(SIGINT, interrupt);
    signal(SIGTERM, interrupt);
    belay_error *err = belay_error_new();
    belay_code code = train(argv[1], steps, print_every, err);
    if (code != BELAY_OK)
        fprintf(stderr, "train_digits: %s: %s\n", belay_code_name(code), belay_error_message(err));
    belay_error_free(err);
    return code == BELAY_OK ? 0 : 1;
}
