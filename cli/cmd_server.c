/* belay server */
#include "commands.h"
#include "output.h"
#include "progress.h"
#include "quiet.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct values {
    const char *job, *cluster;
    int64_t task;
} values;

#define AT(field) offsetof(values, field)

static const cli_option options[] = {
    {"cluster", "SPEC", "the tasks of all jobs: JOB=HOST:PORT,...;JOB=..., or JSON", CLI_TEXT,
     AT(cluster)},
    {"job", "NAME", "this task's job; default: the only one", CLI_TEXT, AT(job)},
    {"task", "N", "this task's index in its job; default: the only one", CLI_COUNT, AT(task)},
    {NULL, NULL, NULL, CLI_SWITCH, 0},
};

/* What this process is to be. */
struct membership {
    belay_cluster_spec *from_flags;
    belay_tf_config *config;
    const belay_cluster_spec *cluster;
    const char *job; /* NULL: not given */
    int32_t task;    /* BELAY_NO_TASK: not given */
};

/* What is wrong with a cluster is wrong with the command line, TF_CONFIG included. */
static int wrong(const char *what, const belay_error *err) {
    if (belay_error_code(err) != BELAY_INVALID_ARGUMENT)
        return cli_report(err);
    return cli_usage_error("%s%s", what, belay_error_message(err));
}

static int read_tf_config(const values *v, struct membership *m, belay_error *err) {
    m->config = belay_tf_config_load(NULL, err);
    if (!m->config)
        return wrong("", err);
    m->cluster = belay_tf_config_cluster(m->config);
    if (belay_cluster_spec_job_count(m->cluster) == 0)
        return cli_usage_error("TF_CONFIG: it has no \"cluster\"");
    if (m->job)
        return CLI_OK;
    m->job = belay_tf_config_task_type(m->config);
    if (v->task == CLI_NOT_GIVEN)
        m->task = belay_tf_config_task_index(m->config);
    return CLI_OK;
}

/* Flags win over TF_CONFIG. */
static int read_membership(const values *v, struct membership *m, belay_error *err) {
    if (v->task > INT32_MAX)
        return cli_usage_error("--task is too large");
    m->job = v->job;
    m->task = v->task == CLI_NOT_GIVEN ? BELAY_NO_TASK : (int32_t)v->task;
    if (!v->cluster && !getenv("TF_CONFIG"))
        return cli_usage_error("'belay server' needs --cluster SPEC, or TF_CONFIG in the "
                               "environment");
    if (!v->cluster)
        return read_tf_config(v, m, err);
    m->cluster = m->from_flags = belay_cluster_spec_parse(v->cluster, err);
    return m->cluster ? CLI_OK : wrong("--cluster: ", err);
}

/* An evaluator stands in TF_CONFIG's "task" only. */
static int is_outside(const struct membership *m) {
    size_t count;
    return m->job && !strcmp(m->job, "evaluator") &&
           belay_cluster_spec_num_tasks(m->cluster, m->job, &count, NULL) != BELAY_OK;
}

/* TensorFlow's threads serve; this one has nothing left to do. Signals are taken by the thread of
 * signals.c, which ends the process with 143 or 130: TensorFlow has no other way to stop a server.
 */
static void serve_for_ever(void) {
    for (;;)
        pause();
}

static int serve(const belay_server_options *o, belay_error *err) {
    belay_server *server = cli_load_tensorflow(err) == BELAY_OK ? belay_server_start(o, err) : NULL;
    if (!server)
        return cli_report(err);
    cli_say("serving job %s task %" PRId32 " at %s", belay_server_job_name(server),
            belay_server_task_index(server), belay_server_target(server));
    serve_for_ever();
    return CLI_OK;
}

static int check_and_serve(const struct membership *m, belay_error *err) {
    belay_server_options o = BELAY_SERVER_OPTIONS_INIT;
    if (is_outside(m))
        return cli_usage_error("an evaluator is no task of the cluster, and needs no server");
    o.cluster = m->cluster;
    o.job_name = m->job;
    o.task_index = m->task != BELAY_NO_TASK ? &m->task : NULL;
    return belay_server_check(&o, err) == BELAY_OK ? serve(&o, err) : wrong("", err);
}

static int run_server(const void *given, const char *const *arguments, int count) {
    struct membership m = {NULL, NULL, NULL, NULL, BELAY_NO_TASK};
    belay_error *err = belay_error_new();
    (void)arguments;
    (void)count;
    cli_progress_start(CLI_LOG_TEXT, 0);
    int code = read_membership(given, &m, err);
    if (code == CLI_OK)
        code = check_and_serve(&m, err);
    belay_cluster_spec_free(m.from_flags);
    belay_tf_config_free(m.config);
    belay_error_free(err);
    return code;
}

const cli_command cli_server = {
    "server",
    "[--job NAME --task N --cluster SPEC | TF_CONFIG]",
    "One task of a cluster: ps, worker or chief.",
    "SPEC names all tasks of all jobs: 'ps=host1:2222,host2:2222;worker=host3:2222', or JSON as\n"
    "in TF_CONFIG, which counts where --cluster is not given. Serves until SIGTERM (exit code "
    "143)\n"
    "or SIGINT (130). Whoever reaches the port runs graphs here: keep it within your network.",
    options,
    sizeof(values),
    0,
    0,
    run_server,
};
