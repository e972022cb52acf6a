/* Lines on standard error: messages, and where training is. On a terminal the latter is one line
 * that is rewritten; in a pipe it is a line every few seconds. */
#ifndef CLI_PROGRESS_H
#define CLI_PROGRESS_H

#include <belay/log.h>
#include <belay/run.h>

enum cli_log_format {
    CLI_LOG_TEXT,
    CLI_LOG_JSON, /* one object a line */
    CLI_LOG_TF,   /* as TensorFlow's own log, which dashboards parse */
};

/* Before anything is logged. Also sends belay's own log lines here. `quiet`: only warnings and
 * errors. */
void cli_progress_start(enum cli_log_format format, int quiet);

/* A message. Any thread. */
void cli_progress_line(belay_log_level level, const char *text);

/* The same with an event's name and the step, which the JSON form carries as fields. */
void cli_progress_event(const char *event, int64_t step, const char *text);

/* Where training is; shown when it is time. Cheap where it is not. */
void cli_progress_update(const belay_run_progress *now);

/* Shows the last update in any case, and leaves the line it was on. */
void cli_progress_end(void);

#endif
