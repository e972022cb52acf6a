/* belay export */
#include "commands.h"
#include "output.h"
#include "progress.h"
#include "quiet.h"
#include "signals.h"

#include <inttypes.h>
#include <stdio.h>

typedef struct values {
    const char *dir, *to;
    int quiet;
} values;

#define AT(field) offsetof(values, field)

static const cli_option options[] = {
    {"dir", "RUN", "the run's folder, or the prefix of a checkpoint", CLI_TEXT, AT(dir)},
    {"to", "DIR", "the SavedModel to write; missing, or an empty folder", CLI_TEXT, AT(to)},
    {"quiet", NULL, "only warnings and errors on standard error", CLI_SWITCH, AT(quiet)},
    {NULL, NULL, NULL, CLI_SWITCH, 0},
};

static int run_export(const void *given, const char *const *arguments, int count) {
    const values *v = given;
    belay_export_options o = BELAY_EXPORT_OPTIONS_INIT;
    int64_t step = BELAY_NO_STEP;
    (void)count;
    if (!v->dir)
        return cli_usage_error("'belay export' needs --dir RUN, the run's folder");
    if (!v->to)
        return cli_usage_error("'belay export' needs --to DIR, the folder to write");
    o.graph = arguments[0];
    o.dir = v->dir;
    o.to = v->to;
    o.should_stop = cli_signals_should_stop;
    cli_progress_start(CLI_LOG_TEXT, v->quiet);
    cli_say("loading graph %s", arguments[0]);
    belay_error *err = belay_error_new();
    if (cli_load_tensorflow(err) != BELAY_OK) {
        int failed = cli_report(err);
        belay_error_free(err);
        return failed;
    }
    /* A folder that is half written would stay behind; so a signal waits for the next moment that
     * suits. */
    int code = cli_signals_ask(NULL);
    if (code)
        return code;
    if (belay_export_saved_model(&o, &step, err) == BELAY_OK) {
        if (step != BELAY_NO_STEP)
            cli_say("exported step %" PRId64 " to %s", step, v->to);
        else
            cli_say("exported to %s", v->to);
        code = CLI_OK;
    } else if (belay_error_code(err) == BELAY_CANCELLED && cli_signals_exit_code()) {
        code = cli_signals_exit_code();
    } else {
        code = cli_report(err);
    }
    belay_error_free(err);
    return code;
}

const cli_command cli_export = {
    "export",
    "GRAPH --dir RUN --to DIR",
    "Writes a SavedModel that holds the trained variables.",
    "GRAPH is what was trained: a SavedModel is copied with the variables of RUN's newest\n"
    "checkpoint, a MetaGraphDef with signatures becomes a SavedModel.",
    options,
    sizeof(values),
    1,
    1,
    run_export,
};
