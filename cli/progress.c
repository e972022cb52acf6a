#include "progress.h"

#include "output.h"

#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LINE_EVERY_SECS    5.0 /* in a pipe */
#define REWRITE_EVERY_SECS 0.1 /* on a terminal */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static enum cli_log_format format; /* set before threads run */
static int quiet;                  /* set before threads run */
static int status_is_shown; /* guarded by lock: the cursor is behind a status that has no newline */
static belay_run_progress latest; /* owner thread of the run */
static int has_latest, latest_is_shown;
static double shown_at;

static double now_secs(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static double unix_secs(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* --- one line --------------------------------------------------------------------------------- */

static const char *level_name(belay_log_level level) {
    static const char *const names[] = {"debug", "info", "warning", "error"};
    return level >= BELAY_LOG_DEBUG && level <= BELAY_LOG_ERROR ? names[level] : "info";
}

/* Writes a whole line with one call, so that lines of several processes do not mix. */
static void write_line(const char *line) {
    char text[6000];
    int len;
    pthread_mutex_lock(&lock);
    len = snprintf(text, sizeof text - 1, "%s%s", status_is_shown ? "\r\033[K" : "", line);
    status_is_shown = 0;
    if (len > (int)sizeof text - 2)
        len = (int)sizeof text - 2;
    text[len] = '\n';
    fflush(stdout);
    ssize_t written = write(STDERR_FILENO, text, (size_t)len + 1);
    (void)written; /* nobody is there to be told */
    pthread_mutex_unlock(&lock);
}

static void write_json(json_t *object) {
    char *line = object ? json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(14)) : NULL;
    if (line)
        write_line(line);
    free(line);
    json_decref(object);
}

static json_t *json_line(belay_log_level level, const char *event, const char *text) {
    json_t *object = json_object();
    json_object_set_new(object, "time_unix_seconds", json_real(unix_secs()));
    json_object_set_new(object, "level", json_string(level_name(level)));
    if (event)
        json_object_set_new(object, "event", json_string(event));
    json_object_set_new(object, "message", cli_json_text(text));
    return object;
}

static void write_text(belay_log_level level, const char *text) {
    char line[5000];
    const char *mark = level >= BELAY_LOG_ERROR     ? "belay: error: "
                       : level >= BELAY_LOG_WARNING ? "belay: warning: "
                                                    : "";
    if (*mark && cli_has_colour(STDERR_FILENO))
        snprintf(line, sizeof line, "\033[%sm%.*s\033[0m %s",
                 level >= BELAY_LOG_ERROR ? "1;31" : "1;33", (int)strlen(mark) - 1, mark, text);
    else
        snprintf(line, sizeof line, "%s%s", mark, text);
    write_line(line);
}

static void write_tf(belay_log_level level, const char *text) {
    char line[5000];
    snprintf(line, sizeof line, "%s:tensorflow:%s", level >= BELAY_LOG_WARNING ? "WARNING" : "INFO",
             text);
    write_line(line);
}

void cli_progress_line(belay_log_level level, const char *text) {
    if (quiet && level < BELAY_LOG_WARNING)
        return;
    if (format == CLI_LOG_JSON)
        write_json(json_line(level, NULL, text));
    else {
        char *plain = cli_printable(text);
        write_text(level, plain);
        free(plain);
    }
}

void cli_progress_event(const char *event, int64_t step, const char *text) {
    if (quiet)
        return;
    if (format != CLI_LOG_JSON) {
        write_text(BELAY_LOG_INFO, text);
        return;
    }
    json_t *object = json_line(BELAY_LOG_INFO, event, text);
    if (step >= 0)
        json_object_set_new(object, "step", json_integer(step));
    write_json(object);
}

/* belay's own log lines. */
static void log_line(void *self, belay_log_level level, const char *message) {
    (void)self;
    /* An error that ends the command is said by the command, once. */
    belay_log_level shown = level > BELAY_LOG_WARNING ? BELAY_LOG_WARNING : level;
    if (format == CLI_LOG_TF)
        write_tf(shown, message);
    else
        cli_progress_line(format == CLI_LOG_JSON ? level : shown, message);
}

void cli_progress_start(enum cli_log_format chosen, int is_quiet) {
    format = chosen;
    quiet = is_quiet;
    /* In text the lines that count are the command's own; the others follow every move of the
     * library. */
    belay_log_set_callback(log_line, NULL,
                           quiet || format == CLI_LOG_TEXT ? BELAY_LOG_WARNING : BELAY_LOG_INFO);
}

/* --- where training is ------------------------------------------------------------------------ */

static void describe(const belay_run_progress *now, char *text, size_t room) {
    size_t at = (size_t)snprintf(text, room, "step %" PRId64, now->step);
    if (now->last_step >= 0)
        at += (size_t)snprintf(text + at, room - at, "/%" PRId64, now->last_step);
    if (now->epochs >= 0)
        at += (size_t)snprintf(text + at, room - at, "  epoch %" PRId64 "/%" PRId64, now->epoch,
                               now->epochs);
    if (!isnan(now->loss))
        at += (size_t)snprintf(text + at, room - at, "  loss %.6g", now->loss);
    if (now->steps_per_second > 0)
        at += (size_t)snprintf(text + at, room - at, "  %.4g steps/s", now->steps_per_second);
    snprintf(text + at, room - at, "  %.1f s", now->elapsed_secs);
}

static void rewrite_status(const char *text) {
    char line[256];
    pthread_mutex_lock(&lock);
    int len = snprintf(line, sizeof line, "\r%.200s\033[K", text);
    ssize_t written = write(STDERR_FILENO, line, (size_t)len);
    (void)written;
    status_is_shown = 1;
    pthread_mutex_unlock(&lock);
}

static void show_json(const belay_run_progress *now, const char *text) {
    json_t *object = json_line(BELAY_LOG_INFO, "progress", text);
    json_object_set_new(object, "step", json_integer(now->step));
    if (now->last_step >= 0)
        json_object_set_new(object, "last_step", json_integer(now->last_step));
    if (now->epoch >= 0)
        json_object_set_new(object, "epoch", json_integer(now->epoch));
    json_object_set_new(object, "loss", cli_json_number(now->loss));
    json_object_set_new(object, "steps_per_second", json_real(now->steps_per_second));
    json_object_set_new(object, "elapsed_seconds", json_real(now->elapsed_secs));
    write_json(object);
}

static void show_latest(int is_last) {
    char text[256];
    describe(&latest, text, sizeof text);
    if (format == CLI_LOG_JSON)
        show_json(&latest, text);
    else if (cli_is_rich_terminal(STDERR_FILENO) && !is_last)
        rewrite_status(text);
    else
        write_line(text);
    latest_is_shown = 1;
}

void cli_progress_update(const belay_run_progress *now) {
    /* The log of that form tells the same, with TensorFlow's words. */
    if (quiet || format == CLI_LOG_TF)
        return;
    static int rich = -1;
    if (rich < 0)
        rich = format == CLI_LOG_TEXT && cli_is_rich_terminal(STDERR_FILENO);
    double time = now_secs();
    int first = !has_latest; /* shown at once: it says that training runs */
    latest = *now;
    has_latest = 1;
    latest_is_shown = 0;
    if (!first && time - shown_at < (rich ? REWRITE_EVERY_SECS : LINE_EVERY_SECS))
        return;
    shown_at = time;
    show_latest(0);
}

void cli_progress_end(void) {
    if (quiet || format == CLI_LOG_TF || !has_latest)
        return;
    if (!latest_is_shown || cli_is_rich_terminal(STDERR_FILENO))
        show_latest(1);
}
