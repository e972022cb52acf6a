/* belay eval */
#include "commands.h"
#include "output.h"
#include "progress.h"
#include "quiet.h"
#include "signals.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct values {
    const char *dir, *signature, *master;
    int64_t batch;
    double timeout;
    cli_list feeds, fetches;
    int json, quiet, watch;
} values;

#define TIMEOUT_SECS 7200.0

#define AT(field) offsetof(values, field)

static const cli_option options[] = {
    {"dir", "RUN", "the run's folder, or the prefix of a checkpoint", CLI_TEXT, AT(dir)},
    {"signature", "NAME", "default: eval", CLI_TEXT, AT(signature)},
    {"feed", "NAME=FILE.npy", "feed the rows of an array; repeatable", CLI_LIST, AT(feeds)},
    {"fetch", "NAME", "take the mean of this output or tensor too; repeatable", CLI_LIST,
     AT(fetches)},
    {"batch", "N", "rows in a batch; default: what the graph fixes, else 256", CLI_POSITIVE,
     AT(batch)},
    {"master", "TARGET", "TensorFlow target, such as grpc://host:2222", CLI_TEXT, AT(master)},
    {"watch", NULL, "evaluate each new checkpoint, until training is over", CLI_SWITCH, AT(watch)},
    {"timeout", "SECS", "with --watch: longest wait for a checkpoint; default: 7200", CLI_DURATION,
     AT(timeout)},
    {"json", NULL, "the result as JSON", CLI_SWITCH, AT(json)},
    {"quiet", NULL, "only warnings and errors on standard error", CLI_SWITCH, AT(quiet)},
    {NULL, NULL, NULL, CLI_SWITCH, 0},
};

static json_t *as_json(const belay_evaluation *e) {
    json_t *object = json_object(), *metrics = json_object();
    json_object_set_new(object, "checkpoint", cli_json_text(belay_evaluation_checkpoint(e)));
    json_object_set_new(object, "step",
                        belay_evaluation_step(e) != BELAY_NO_STEP
                            ? json_integer(belay_evaluation_step(e))
                            : json_null());
    json_object_set_new(object, "rows", json_integer(belay_evaluation_rows(e)));
    json_object_set_new(object, "rows_left_out", json_integer(belay_evaluation_rows_left_out(e)));
    json_object_set_new(object, "metrics", metrics);
    for (size_t i = 0; i < belay_evaluation_metric_count(e); i++)
        json_object_set_new(metrics, belay_evaluation_metric_name(e, i),
                            cli_json_number(belay_evaluation_metric(e, i)));
    return object;
}

/* Of several results each is a line. */
static int print_json_line(json_t *object) {
    json_dumpf(object, stdout, JSON_COMPACT | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(17));
    putchar('\n');
    json_decref(object);
    return CLI_OK;
}

static int print(const belay_evaluation *e, int with_step) {
    static const char *const headings[] = {"metric", "value"};
    cli_table *table = cli_table_new(2, headings);
    char value[64];
    if (with_step && belay_evaluation_step(e) != BELAY_NO_STEP) {
        snprintf(value, sizeof value, "%" PRId64, belay_evaluation_step(e));
        cli_table_add(table, (const char *[]){"step", value});
    }
    for (size_t i = 0; i < belay_evaluation_metric_count(e); i++) {
        snprintf(value, sizeof value, "%.9g", belay_evaluation_metric(e, i));
        cli_table_add(table, (const char *[]){belay_evaluation_metric_name(e, i), value});
    }
    cli_table_print(table);
    cli_table_free(table);
    return CLI_OK;
}

static void say_what(const belay_evaluation *e) {
    int64_t left_out = belay_evaluation_rows_left_out(e);
    char step[64] = "";
    if (belay_evaluation_step(e) != BELAY_NO_STEP)
        snprintf(step, sizeof step, " (step %" PRId64 ")", belay_evaluation_step(e));
    cli_say("evaluated %s%s over %" PRId64 " rows", belay_evaluation_checkpoint(e), step,
            belay_evaluation_rows(e));
    if (left_out)
        cli_say("%" PRId64 " rows at the end were left out: the graph fixes the batch's size",
                left_out);
}

static int say_and_print(const values *v, const belay_evaluation *evaluation) {
    say_what(evaluation);
    if (!v->json)
        return print(evaluation, v->watch);
    return v->watch ? print_json_line(as_json(evaluation)) : cli_print_json(as_json(evaluation));
}

/* Each result reaches whoever reads them at once. */
static belay_code evaluated(void *self, const belay_evaluation *evaluation, belay_error *err) {
    say_and_print(self, evaluation);
    if (fflush(stdout) == 0)
        return BELAY_OK;
    return belay_error_set(err, BELAY_CANCELLED, "nobody reads the results");
}

static void say_waiting(void *self, const char *text) {
    (void)self;
    cli_say("%s", text);
}

static belay_code watch(const values *v, const belay_evaluate_options *o, belay_error *err) {
    belay_evaluate_watch_options watching = BELAY_EVALUATE_WATCH_OPTIONS_INIT;
    watching.timeout_secs = v->timeout >= 0 ? v->timeout : TIMEOUT_SECS;
    if (watching.timeout_secs == 0)
        watching.timeout_secs = BELAY_AT_ONCE;
    watching.evaluated = evaluated;
    watching.waiting = say_waiting;
    watching.self = (void *)(uintptr_t)v;
    belay_code code = belay_evaluate_repeatedly(o, &watching, err);
    if (code == BELAY_OK)
        cli_say("training is over");
    return code;
}

static int evaluate(const values *v, const char *graph, const cli_feeds *feeds) {
    belay_evaluate_options o = BELAY_EVALUATE_OPTIONS_INIT;
    o.graph = graph;
    o.dir = v->dir;
    o.signature = v->signature;
    o.fetches = v->fetches.items;
    o.feeds = (const char *const *)feeds->names;
    o.feed_files = feeds->files;
    o.master = v->master;
    o.batch = v->batch > 0 ? v->batch : 0;
    o.should_stop = cli_signals_should_stop;
    cli_progress_start(CLI_LOG_TEXT, v->quiet);
    if (!v->watch)
        cli_say("loading graph %s", graph);
    belay_error *err = belay_error_new();
    belay_evaluation *evaluation = NULL;
    int code = CLI_OK;
    if (cli_load_tensorflow(err) != BELAY_OK)
        code = cli_report(err);
    else if (v->watch)
        code = watch(v, &o, err) == BELAY_OK ? CLI_OK : cli_report(err);
    else if ((evaluation = belay_evaluate(&o, err)) != NULL)
        code = say_and_print(v, evaluation);
    else
        code = cli_report(err);
    belay_evaluation_free(evaluation);
    belay_error_free(err);
    return code;
}

static int run_eval(const void *given, const char *const *arguments, int count) {
    const values *v = given;
    cli_feeds feeds = {NULL, NULL};
    (void)count;
    if (!v->dir)
        return cli_usage_error("'belay eval' needs --dir RUN, the run's folder");
    if (v->batch > 0 && !v->feeds.count)
        return cli_usage_error("--batch cuts fed arrays: it needs --feed");
    if (v->timeout >= 0 && !v->watch)
        return cli_usage_error("--timeout is how long --watch waits: it needs --watch");
    int code = cli_feeds_parse(&v->feeds, &feeds);
    if (code == CLI_OK)
        code = evaluate(v, arguments[0], &feeds);
    cli_feeds_free(&feeds);
    return code;
}

const cli_command cli_eval = {
    "eval",
    "GRAPH --dir RUN [--watch] [--feed NAME=FILE.npy]... [options]",
    "Metrics of the newest checkpoint in RUN, or of each new one.",
    "Runs the signature 'eval' over the arrays, in order, and prints the means of its scalar\n"
    "outputs, each batch with the weight of its rows. RUN is only read.\n"
    "--watch prints a result for each new checkpoint, and ends when training reached its end.",
    options,
    sizeof(values),
    1,
    1,
    run_eval,
};
