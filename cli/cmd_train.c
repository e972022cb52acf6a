/* belay train */
#include "commands.h"
#include "output.h"
#include "progress.h"
#include "quiet.h"
#include "signals.h"

#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct values {
    const char *dir, *signature, *train_op, *loss, *keep_best, *master, *session_config, *threads;
    const char *log_format;
    int64_t steps, epochs, batch, save_steps, summary_steps, log_steps, keep_last;
    double save_secs, keep_every_hours, grace, recovery_secs;
    cli_integer seed;
    cli_list feeds, fetches;
    int shuffle, no_shuffle, require_resume, fresh, save_graph, quiet;
} values;

#define AT(field) offsetof(values, field)

static const cli_option options[] = {
    {"dir", "RUN", "the run's folder: checkpoints, events; made where it is missing", CLI_TEXT,
     AT(dir)},
    {"steps", "N", "until the global step is N", CLI_POSITIVE, AT(steps)},
    {"epochs", "N", "until the fed arrays were seen N times", CLI_POSITIVE, AT(epochs)},
    {"feed", "NAME=FILE.npy", "feed the rows of an array; repeatable", CLI_LIST, AT(feeds)},
    {"batch", "N", "rows in a batch; default: what the graph fixes, else 32", CLI_POSITIVE,
     AT(batch)},
    {"seed", "N", "drives shuffling, and nothing else; default 0", CLI_INTEGER, AT(seed)},
    {"shuffle", NULL, "shuffle rows anew in each epoch (the default)", CLI_SWITCH, AT(shuffle)},
    {"no-shuffle", NULL, "rows in the files' order", CLI_SWITCH, AT(no_shuffle)},
    {"signature", "NAME", "default: train", CLI_TEXT, AT(signature)},
    {"train-op", "NAME", "default: the only member of collection train_op", CLI_TEXT, AT(train_op)},
    {"loss", "NAME", "default: output loss of the signature, else the only member of losses",
     CLI_TEXT, AT(loss)},
    {"fetch", "NAME", "fetch this output or tensor too; repeatable", CLI_LIST, AT(fetches)},
    {"save-secs", "S", "save every S seconds; default 600, 0 is off", CLI_DURATION, AT(save_secs)},
    {"save-steps", "N", "save every N steps instead; 0 is off", CLI_COUNT, AT(save_steps)},
    {"summary-steps", "N", "write the graph's summaries every N steps; default 100, 0 is off",
     CLI_COUNT, AT(summary_steps)},
    {"log-steps", "N", "write steps per second every N steps; default 100, 0 is off", CLI_COUNT,
     AT(log_steps)},
    {"keep-last", "N", "checkpoints to keep; default 5, 0 keeps all", CLI_COUNT, AT(keep_last)},
    {"keep-every-hours", "H", "keep one every H hours for good", CLI_DURATION,
     AT(keep_every_hours)},
    {"keep-best", "N:METRIC[:min|:max]", "keep the N best by a fetched name; default min", CLI_TEXT,
     AT(keep_best)},
    {"require-resume", NULL, "a folder without a checkpoint is an error", CLI_SWITCH,
     AT(require_resume)},
    {"fresh", NULL, "start anew; what is there is moved to RUN/before-TIME", CLI_SWITCH, AT(fresh)},
    {"save-graph", NULL, "write .meta with every checkpoint, not once", CLI_SWITCH, AT(save_graph)},
    {"master", "TARGET", "TensorFlow target, such as grpc://host:2222", CLI_TEXT, AT(master)},
    {"session-config", "FILE", "a serialised ConfigProto", CLI_TEXT, AT(session_config)},
    {"threads", "auto|pool|caller", "where steps run; default auto", CLI_TEXT, AT(threads)},
    {"grace", "SECS", "time for threads to end when stopping; default 120", CLI_DURATION,
     AT(grace)},
    {"recovery-secs", "SECS", "how long to try again where a server is lost; default 600",
     CLI_DURATION, AT(recovery_secs)},
    {"eval-every", "N", "evaluate during training", CLI_NOT_BUILT, 0},
    {"eval-signature", "NAME", "the signature for it", CLI_NOT_BUILT, 0},
    {"eval-feed", "NAME=FILE.npy", "the arrays for it", CLI_NOT_BUILT, 0},
    {"http", "ADDR:PORT", "a status page", CLI_NOT_BUILT, 0},
    {"hook", "FILE.so[:KEY=VALUE,...]", "a hook from a library", CLI_NOT_BUILT, 0},
    {"log-format", "text|json|tf", "how standard error reads; default text", CLI_TEXT,
     AT(log_format)},
    {"quiet", NULL, "only warnings and errors", CLI_SWITCH, AT(quiet)},
    {NULL, NULL, NULL, CLI_SWITCH, 0},
};

/* --- feeds, shared with eval ------------------------------------------------------------------ */

int cli_feeds_parse(const cli_list *given, cli_feeds *out) {
    out->names = cli_alloc((given->count + 1) * sizeof *out->names);
    out->files = cli_alloc((given->count + 1) * sizeof *out->files);
    for (size_t i = 0; i < given->count; i++) {
        const char *equals = strchr(given->items[i], '=');
        if (!equals || equals == given->items[i] || !equals[1])
            return cli_usage_error("--feed takes NAME=FILE.npy, not '%s'", given->items[i]);
        out->names[i] = cli_copy(given->items[i]);
        out->names[i][equals - given->items[i]] = '\0';
        out->files[i] = equals + 1;
        for (size_t k = 0; k < i; k++)
            if (!strcmp(out->names[k], out->names[i]))
                return cli_usage_error("'%s' is fed twice", out->names[i]);
    }
    return CLI_OK;
}

void cli_feeds_free(cli_feeds *feeds) {
    for (size_t i = 0; feeds->names && feeds->names[i]; i++)
        free(feeds->names[i]);
    free(feeds->names);
    free(feeds->files);
}

/* --- from flags to options -------------------------------------------------------------------- */

/* What is parsed out of flags' values, and has to live as long as the options. */
struct parsed {
    cli_feeds feeds;
    char *best_metric;
};

static void parsed_free(struct parsed *parsed) {
    cli_feeds_free(&parsed->feeds);
    free(parsed->best_metric);
}

/* What may follow a colon in a metric's own name: the number of a tensor, as in "loss:0". */
static int is_number(const char *text) {
    return *text && !text[strspn(text, "0123456789")];
}

/* N:METRIC[:min|:max]. A metric's name may hold a colon, so what comes last may be no direction.
 * Anything else there is a slip: it would be looked for as a metric that nobody has. */
static int parse_keep_best(const char *text, belay_training_run_options *o, struct parsed *parsed) {
    const char *colon = text ? strchr(text, ':') : NULL;
    int64_t count = 0;
    char number[16];
    if (!text)
        return CLI_OK;
    snprintf(number, sizeof number, "%.*s", colon ? (int)(colon - text) : 0, text);
    if (!colon || !cli_read_integer(number, &count) || count < 1 || count > INT32_MAX)
        return cli_usage_error("--keep-best takes N:METRIC[:min|:max], not '%s'", text);
    parsed->best_metric = cli_copy(colon + 1);
    char *last = strrchr(parsed->best_metric, ':');
    if (last && (!strcmp(last, ":min") || !strcmp(last, ":max"))) {
        o->best_is_max = !strcmp(last, ":max");
        *last = '\0';
    } else if (last && !is_number(last + 1)) {
        return cli_usage_error("--keep-best takes N:METRIC[:min|:max], not '%s': '%s' is neither "
                               "min nor max",
                               text, last + 1);
    }
    if (!*parsed->best_metric)
        return cli_usage_error("--keep-best takes N:METRIC[:min|:max], not '%s'", text);
    if (!strncmp(parsed->best_metric, "eval/", 5))
        return cli_not_built("--keep-best by a metric of the evaluation during training");
    o->best_metric = parsed->best_metric;
    o->keep_best = (int32_t)count;
    return CLI_OK;
}

static int parse_threads(const char *text, belay_training_run_options *o) {
    if (!text || !strcmp(text, "auto"))
        o->threads = BELAY_THREADS_AUTO;
    else if (!strcmp(text, "pool"))
        o->threads = BELAY_THREADS_POOL;
    else if (!strcmp(text, "caller"))
        o->threads = BELAY_THREADS_CALLER;
    else
        return cli_usage_error("--threads takes auto, pool or caller, not '%s'", text);
    return CLI_OK;
}

static int parse_log_format(const char *text, enum cli_log_format *out) {
    *out = CLI_LOG_TEXT;
    if (!text || !strcmp(text, "text"))
        return CLI_OK;
    if (!strcmp(text, "json"))
        *out = CLI_LOG_JSON;
    else if (!strcmp(text, "tf"))
        *out = CLI_LOG_TF;
    else
        return cli_usage_error("--log-format takes text, json or tf, not '%s'", text);
    return CLI_OK;
}

/* What can be told without the graph is told before anything is touched. */
static int check(const values *v) {
    if (!v->dir)
        return cli_usage_error("'belay train' needs --dir RUN, the run's folder");
    if (v->steps > 0 && v->epochs > 0)
        return cli_usage_error("--steps and --epochs: give one of them");
    if (v->feeds.count && v->steps < 0 && v->epochs < 0)
        return cli_usage_error("with --feed the end must be named: --steps N or --epochs N");
    if (v->epochs > 0 && !v->feeds.count)
        return cli_usage_error("--epochs counts how often fed arrays were seen: it needs --feed");
    if (v->batch > 0 && !v->feeds.count)
        return cli_usage_error("--batch cuts fed arrays: it needs --feed");
    if (v->shuffle && v->no_shuffle)
        return cli_usage_error("--shuffle and --no-shuffle: give one of them");
    if (v->save_secs > 0 && v->save_steps > 0)
        return cli_usage_error("--save-secs and --save-steps: give one of them");
    if (v->fresh && v->require_resume)
        return cli_usage_error("--fresh starts anew and --require-resume forbids it");
    if (v->keep_last > INT32_MAX)
        return cli_usage_error("--keep-last is too large; 0 keeps all");
    return CLI_OK;
}

/* On the command line 0 is off, and not given is the default; in options 0 is the default. */
static int64_t frequency(int64_t given) {
    return given == 0 ? BELAY_OFF : given > 0 ? given : 0;
}

static void fill_frequencies(const values *v, belay_training_run_options *o) {
    o->save_steps = frequency(v->save_steps);
    o->save_secs = v->save_secs > 0 ? v->save_secs : v->save_secs < 0 ? 0 : BELAY_OFF;
    o->summary_steps = frequency(v->summary_steps);
    o->log_steps = frequency(v->log_steps);
    o->keep_last = v->keep_last < 0    ? 0
                   : v->keep_last == 0 ? BELAY_KEEP_ALL
                                       : (int32_t)v->keep_last;
    o->keep_every_hours = v->keep_every_hours > 0 ? v->keep_every_hours : 0;
    o->recovery_secs = v->recovery_secs > 0   ? v->recovery_secs
                       : v->recovery_secs < 0 ? 0
                                              : BELAY_AT_ONCE;
    o->grace_secs = v->grace > 0 ? v->grace : v->grace < 0 ? 0 : 0.001;
}

static int fill(const values *v, const char *graph, belay_training_run_options *o,
                struct parsed *parsed) {
    int code = cli_feeds_parse(&v->feeds, &parsed->feeds);
    if (code == CLI_OK)
        code = parse_keep_best(v->keep_best, o, parsed);
    if (code == CLI_OK)
        code = parse_threads(v->threads, o);
    o->graph = graph;
    o->dir = v->dir;
    o->signature = v->signature;
    o->train_op = v->train_op;
    o->loss = v->loss;
    o->fetches = v->fetches.items;
    o->feeds = (const char *const *)parsed->feeds.names;
    o->feed_files = parsed->feeds.files;
    o->master = v->master;
    o->session_config_file = v->session_config;
    o->steps = v->steps > 0 ? v->steps : 0;
    o->epochs = v->epochs > 0 ? v->epochs : 0;
    o->batch = v->batch > 0 ? v->batch : 0;
    o->seed = v->seed.value;
    fill_frequencies(v, o);
    o->flags = (v->no_shuffle ? BELAY_RUN_NO_SHUFFLE : 0) |
               (v->require_resume ? BELAY_RUN_REQUIRE_RESUME : 0) |
               (v->fresh ? BELAY_RUN_FRESH : 0) | (v->save_graph ? BELAY_RUN_SAVE_GRAPH : 0);
    return code;
}

/* --- the run ---------------------------------------------------------------------------------- */

static void say_start(const belay_training_run *run) {
    char text[128];
    int64_t from = belay_training_run_resumed_from(run);
    if (from >= 0) {
        snprintf(text, sizeof text, "resumed from step %" PRId64, from);
        cli_progress_event("resumed", from, text);
    } else {
        cli_progress_event("started", belay_training_run_start_step(run), "started a new training");
    }
    if (!belay_training_run_loss_name(run))
        cli_progress_event("no_loss", -1,
                           "no loss is known, so none is shown and nothing looks for NaN; --loss "
                           "NAME names it");
}

static void watch(void *self, belay_training_run *run, belay_run_event event,
                  const belay_run_progress *now) {
    (void)self;
    if (event == BELAY_RUN_EVENT_STARTED)
        say_start(run);
    else if (event == BELAY_RUN_EVENT_STEP)
        cli_progress_update(now);
}

/* "finished at step 1500: reached step 1500; loss 0.0312; checkpoint run/model.ckpt-1500" */
static void say_end(const belay_training_run *run) {
    char text[1024];
    int64_t step = belay_training_run_step(run) < 0 ? 0 : belay_training_run_step(run);
    const char *checkpoint = belay_training_run_last_checkpoint(run);
    size_t at = (size_t)snprintf(text, sizeof text, "%s at step %" PRId64 ": %s",
                                 belay_training_run_ending(run) == BELAY_RUN_STOPPED ? "stopped"
                                                                                     : "finished",
                                 step, belay_training_run_ending_text(run));
    double loss = belay_training_run_loss(run);
    if (!isnan(loss) && at < sizeof text)
        at += (size_t)snprintf(text + at, sizeof text - at, "; loss %.6g", loss);
    if (checkpoint && at < sizeof text)
        snprintf(text + at, sizeof text - at, "; checkpoint %s", checkpoint);
    cli_progress_event("finished", step, text);
}

static int train(belay_training_run *run, belay_error *err) {
    if (cli_signals_ask(run))
        return cli_signals_exit_code();
    belay_code code = belay_training_run_run(run, err);
    cli_progress_end();
    if (code != BELAY_OK)
        return cli_report(err);
    say_end(run);
    if (belay_training_run_ending(run) == BELAY_RUN_STOPPED && cli_signals_exit_code())
        return cli_signals_exit_code();
    return CLI_OK;
}

static int run_train(const void *given, const char *const *arguments, int count) {
    const values *v = given;
    belay_training_run_options o = BELAY_TRAINING_RUN_OPTIONS_INIT;
    struct parsed parsed = {{NULL, NULL}, NULL};
    enum cli_log_format log_format;
    char loading[512];
    (void)count;
    int code = check(v);
    if (code == CLI_OK)
        code = parse_log_format(v->log_format, &log_format);
    if (code == CLI_OK)
        code = fill(v, arguments[0], &o, &parsed);
    if (code != CLI_OK) {
        parsed_free(&parsed);
        return code;
    }
    /* Whoever reads our lines may go away before training is over. */
    signal(SIGPIPE, SIG_IGN);
    cli_progress_start(log_format, v->quiet);
    o.watch = watch;
    belay_error *err = belay_error_new();
    snprintf(loading, sizeof loading, "loading graph %s", arguments[0]);
    cli_progress_event("loading", -1, loading);
    belay_training_run *run =
        cli_load_tensorflow(err) == BELAY_OK ? belay_training_run_open(&o, err) : NULL;
    code = run ? train(run, err) : cli_report(err);
    cli_signals_forget();
    belay_training_run_close(run);
    belay_error_free(err);
    parsed_free(&parsed);
    return code;
}

const cli_command cli_train = {
    "train",
    "GRAPH --dir RUN [--steps N | --epochs N] [--feed NAME=FILE.npy]... [options]",
    "Trains a graph: goes on from the newest checkpoint in RUN, or starts anew.",
    "GRAPH is a MetaGraphDef file (.meta) or a SavedModel folder. Without --feed, input comes "
    "from\n"
    "the graph; without --steps and --epochs, training ends with that input.\n\n"
    "exit codes: 0 finished; 1 failed, and would again; 2 the command line is wrong; 138 failed,\n"
    "worth a retry; 143 or 130 stopped by SIGTERM or SIGINT, with every step in a checkpoint",
    options,
    sizeof(values),
    1,
    1,
    run_train,
};
