/*
 * Two processes that train one model on a server: the chief prepares the session, a worker waits
 * until that is done. This is the layer below monitored sessions: sessions without hooks, without
 * recovery. From the top of the repository, each in a terminal of its own:
 *
 *     build/belay server --cluster worker=127.0.0.1:2222
 *     build/examples/session_manager worker grpc://127.0.0.1:2222 100
 *     build/examples/session_manager chief grpc://127.0.0.1:2222 100 RUN
 *
 * The worker may be started first. RUN is a folder for a checkpoint: a chief that is started again
 * goes on from there.
 */
#include "digits.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* A scaffold knows the ops that initialise the model and that tell whether it is initialised; a
 * session manager is told by name. */
static belay_session_manager *make_manager(belay_graph *graph, belay_scaffold *scaffold,
                                           belay_error *err) {
    belay_session_manager_options options = BELAY_SESSION_MANAGER_OPTIONS_INIT;
    if (!scaffold || belay_scaffold_finalize(scaffold, err) != BELAY_OK)
        return NULL;
    options.ready_op = belay_scaffold_ready_op(scaffold);
    options.ready_for_local_init_op = belay_scaffold_ready_for_local_init_op(scaffold);
    options.local_init_op = belay_scaffold_local_init_op(scaffold);
    return belay_session_manager_new(graph, &options, err);
}

/* The chief: restores the newest checkpoint of the folder, or initialises. */
static belay_session *prepare(belay_session_manager *manager, belay_scaffold *scaffold,
                              const belay_session_options *where, const char *run,
                              belay_error *err) {
    belay_prepare_options options = BELAY_PREPARE_OPTIONS_INIT;
    uint32_t restored = 0;
    options.session = where;
    options.init_op = belay_scaffold_init_op(scaffold);
    options.saver = belay_scaffold_saver(scaffold);
    options.checkpoint_dir = run;
    options.max_wait_secs = 60; /* for the server to answer */
    belay_session *session =
        belay_session_manager_prepare_session(manager, &options, &restored, err);
    if (session)
        printf("the model is %s\n", restored ? "restored" : "initialised");
    return session;
}

/* The worker: asks until the model is ready. */
static belay_session *wait_for(belay_session_manager *manager, const belay_session_options *where,
                               belay_error *err) {
    belay_session *session = belay_session_manager_wait_for_session(manager, where, 120, err);
    if (session)
        printf("the model is ready\n");
    return session;
}

/* Both train the same variables, so the global step counts the steps of both. */
static belay_code train(belay_session *session, int64_t steps, belay_error *err) {
    digits d;
    belay_tensor *loss = NULL;
    int64_t at = 0;
    belay_code code = digits_open(&d, err);
    /* Names are resolved once. */
    belay_callable *step =
        code != BELAY_OK ? NULL
                         : belay_session_make_callable(session, (const char *[]){"x", "y", NULL},
                                                       (const char *[]){"loss", NULL},
                                                       (const char *[]){"train", NULL}, NULL, err);
    for (int64_t i = 0; step && code == BELAY_OK && i < steps; i++) {
        code = digits_next(&d, err);
        if (code == BELAY_OK)
            code = belay_callable_run(step, d.inputs, &loss, err);
    }
    if (!step)
        code = belay_error_code(err);
    if (code == BELAY_OK)
        code = belay_session_global_step(session, &at, err);
    if (code == BELAY_OK)
        printf("trained %" PRId64 " steps; the global step is %" PRId64 ", the loss %.4g\n", steps,
               at, belay_tensor_number(loss, 0));
    belay_callable_free(step);
    belay_tensor_free(loss);
    digits_close(&d);
    return code;
}

static belay_code save(belay_session *session, belay_saver *saver, const char *run,
                       belay_error *err) {
    char prefix[4096], path[4200];
    int64_t at = 0;
    belay_code code = belay_session_global_step(session, &at, err);
    mkdir(run, 0777); /* it may be there already; a saver makes no folder */
    snprintf(prefix, sizeof prefix, "%s/model.ckpt", run);
    if (code == BELAY_OK)
        code = belay_saver_save(saver, session, prefix, at, NULL, NULL, err);
    snprintf(path, sizeof path, "%s-%" PRId64, prefix, at);
    if (code == BELAY_OK)
        printf("saved %s\n", path);
    return code;
}

static belay_code work(int is_chief, const char *target, int64_t steps, const char *run,
                       belay_error *err) {
    belay_session_options where = BELAY_SESSION_OPTIONS_INIT;
    where.target = target;
    belay_graph *graph = belay_graph_load(GRAPH, NULL, err);
    belay_scaffold *scaffold = belay_scaffold_new(graph, NULL, err);
    belay_session_manager *manager = make_manager(graph, scaffold, err);
    belay_session *session = !manager   ? NULL
                             : is_chief ? prepare(manager, scaffold, &where, run, err)
                                        : wait_for(manager, &where, err);
    belay_code code = session ? train(session, steps, err) : belay_error_code(err);
    if (code == BELAY_OK && is_chief)
        code = save(session, belay_scaffold_saver(scaffold), run, err);
    belay_session_free(session);
    belay_session_manager_free(manager);
    belay_scaffold_free(scaffold);
    belay_graph_free(graph);
    return code;
}

int main(int argc, char **argv) {
    int is_chief = argc == 5 && strcmp(argv[1], "chief") == 0;
    int is_worker = argc == 4 && strcmp(argv[1], "worker") == 0;
    if (!is_chief && !is_worker) {
        fprintf(stderr, "usage: session_manager chief TARGET STEPS RUN\n"
                        "       session_manager worker TARGET STEPS\n");
        return 2;
    }
    setenv("TF_CPP_MIN_LOG_LEVEL", "2", 0); /* TensorFlow tells of its start at length */
    setvbuf(stdout, NULL, _IOLBF, 0);
    belay_error *err = belay_error_new();
    belay_code code =
        work(is_chief, argv[2], strtoll(argv[3], NULL, 10), is_chief ? argv[4] : NULL, err);
    if (code != BELAY_OK)
        fprintf(stderr, "session_manager: %s: %s\n", belay_code_name(code),
                belay_error_message(err));
    belay_error_free(err);
    return code == BELAY_OK ? 0 : 1;
}
