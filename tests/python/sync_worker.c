/*
 * One worker of a training with SyncReplicasOptimizer, for test_sync_replicas.py: a server of this
 * process's own, and a monitored session on it.
 *
 * usage: sync_worker GRAPH CLUSTER TASK LAST_STEP NUM_TOKENS     task 0 is the chief
 *
 * Says "serving", and "ready" when its session is open; then it reads lines and answers each with
 * one. "run X Y" and "train X Y" run one step, or steps until it should stop: "CODE SHOULD_STOP".
 * "close": "CODE".
 */
#include <belay/belay.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static belay_error *err;

static void log_line(void *self, belay_log_level level, const char *message) {
    (void)self;
    (void)level;
    fprintf(stderr, "%s\n", message);
}

static int failed(const char *what) {
    fprintf(stderr, "sync_worker: %s: %s: %s\n", what, belay_code_name(belay_error_code(err)),
            belay_error_message(err));
    return 1;
}

static belay_server *serve(const char *cluster, int32_t task) {
    belay_server_options options = BELAY_SERVER_OPTIONS_INIT;
    belay_cluster_spec *spec = belay_cluster_spec_parse(cluster, err);
    options.cluster = spec;
    options.job_name = "worker";
    options.task_index = &task;
    belay_server *server = spec ? belay_server_start(&options, err) : NULL;
    belay_cluster_spec_free(spec);
    return server;
}

static belay_monitored_session *open_session(belay_graph *graph, const char *target, int is_chief,
                                             int64_t last_step, int64_t num_tokens) {
    belay_session_options where = BELAY_SESSION_OPTIONS_INIT;
    belay_training_options options = BELAY_TRAINING_OPTIONS_INIT;
    belay_sync_replicas_options sync = BELAY_SYNC_REPLICAS_OPTIONS_INIT;
    belay_stop_at_step_options stop = BELAY_STOP_AT_STEP_OPTIONS_INIT;
    where.target = target;
    sync.is_worker = options.is_worker = !is_chief;
    sync.num_tokens = num_tokens;
    stop.last_step = last_step;
    belay_hook *hooks[] = {belay_sync_replicas_hook_new(&sync, err),
                           belay_stop_at_step_hook_new(&stop, err)};
    options.session = &where;
    options.hooks = hooks;
    options.hook_count = 2;
    options.max_wait_secs = 120;
    belay_monitored_session *session = belay_monitored_training_session_open(graph, &options, err);
    belay_hook_free(hooks[0]);
    belay_hook_free(hooks[1]);
    return session;
}

/* The two numbers that a step is fed. */
static belay_code read_inputs(belay_tensor **inputs) {
    for (int i = 0; i < 2; i++)
        if (scanf("%f", (float *)belay_tensor_data(inputs[i])) != 1)
            return BELAY_OUT_OF_RANGE;
    return BELAY_OK;
}

/* Until it is told to close, or nobody tells it anything any more. */
static void obey(belay_monitored_session *session, belay_step *step) {
    char verb[16];
    belay_tensor *inputs[2] = {belay_tensor_new(BELAY_FLOAT, NULL, 0, err),
                               belay_tensor_new(BELAY_FLOAT, NULL, 0, err)};
    while (scanf("%15s", verb) == 1 && strcmp(verb, "close") != 0) {
        belay_code code = read_inputs(inputs);
        do
            code = code == BELAY_OK ? belay_step_run(step, inputs, NULL, err) : code;
        while (strcmp(verb, "train") == 0 && code == BELAY_OK &&
               !belay_monitored_session_should_stop(session));
        printf("%s %" PRIu32 "\n", belay_code_name(code),
               belay_monitored_session_should_stop(session));
    }
    puts(belay_code_name(belay_monitored_session_close(session, err)));
    belay_tensor_free(inputs[0]);
    belay_tensor_free(inputs[1]);
}

int main(int argc, char **argv) {
    if (argc != 6)
        return 2;
    int is_chief = strcmp(argv[3], "0") == 0;
    err = belay_error_new();
    belay_log_set_callback(log_line, NULL, BELAY_LOG_INFO);
    setvbuf(stdout, NULL, _IOLBF, 0);
    belay_server *server = serve(argv[2], (int32_t)atoi(argv[3]));
    if (!server)
        return failed("server");
    puts("serving");
    belay_graph *graph = belay_graph_load(argv[1], NULL, err);
    belay_monitored_session *session =
        open_session(graph, belay_server_target(server), is_chief, atoll(argv[4]), atoll(argv[5]));
    belay_step *step = belay_step_prepare(session, (const char *[]){"x", "y", NULL}, NULL,
                                          (const char *[]){"train", NULL}, err);
    if (!step)
        return failed("session");
    puts("ready");
    obey(session, step);
    while (getchar() != EOF) { /* its server goes with the process */
    }
    belay_graph_free(graph);
    belay_server_free(server);
    belay_error_free(err);
    return 0;
}
