/* Evaluating each new checkpoint of a run, until the run is over. */
#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/options.h"
#include "checkpoint/state.h"
#include "run/evaluate.h"
#include "run/ledger.h"
#include "run/restored.h"
#include "session/backoff.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

_Static_assert(sizeof(belay_evaluate_watch_options) ==
                   offsetof(belay_evaluate_watch_options, self) + sizeof(void *),
               "no tail padding");

#define LONGEST_PAUSE_SECS 0.5

struct watch {
    belay_evaluate_options evaluate;
    belay_evaluate_watch_options options;
    struct stat state; /* of the state file when we last looked; zeros: it was not there */
    int has_looked;
    char *done; /* the one that was evaluated; NULL: none yet */
    int64_t evaluations;
    bly_backoff backoff;
    int is_waiting;   /* for something to evaluate, since backoff.started_us */
    char reason[256]; /* why training stopped; "": it did not, as far as is known */
};

static int is_stopped(const struct watch *w) {
    return w->evaluate.should_stop && w->evaluate.should_stop(w->evaluate.stop_self);
}

static void say_waiting(void *self, double secs) {
    const struct watch *w = self;
    char text[1024];
    snprintf(text, sizeof text, "waiting for a checkpoint%s%s in %s, for %.0f s so far%s%s",
             w->done ? " newer than " : "", w->done ? bly_path_base(w->done) : "", w->evaluate.dir,
             secs, w->reason[0] ? "; training stopped: " : "", w->reason);
    if (w->options.waiting)
        w->options.waiting(w->options.self, text);
    else
        bly_info("%s", text);
}

/* Whether the state file was written since the last call; 1 at the first. Looking costs one call of
 * the system, and a folder that is damaged is complained about once. */
static int is_new(struct watch *w) {
    struct stat now = {0};
    bly_buf path = BLY_BUF_INIT;
    bly_buf_printf(&path, "%s/%s", w->evaluate.dir, BLY_STATE_FILE);
    if (path.failed || stat(path.data, &now) != 0)
        now = (struct stat){0};
    bly_buf_free(&path);
    int same = w->has_looked && now.st_ino == w->state.st_ino && now.st_size == w->state.st_size &&
               now.st_mtim.tv_sec == w->state.st_mtim.tv_sec &&
               now.st_mtim.tv_nsec == w->state.st_mtim.tv_nsec;
    w->state = now;
    w->has_looked = 1;
    return !same;
}

/* Waits until there may be a new checkpoint. *out_over: there is none, and the run is over. */
static belay_code wait_for_new(struct watch *w, int *out_over, belay_error *err) {
    bly_backoff last = w->backoff;
    double timeout = w->options.timeout_secs == 0 ? BELAY_FOREVER : w->options.timeout_secs;
    *out_over = 0;
    bly_backoff_start(&w->backoff, BLY_BACKOFF_LOOKS, timeout, LONGEST_PAUSE_SECS, NULL, NULL);
    if (w->is_waiting) { /* what came was damaged, or gone: nobody is told anew that we wait */
        w->backoff.started_us = last.started_us;
        w->backoff.reported_us = last.reported_us;
    }
    w->is_waiting = 1;
    for (;;) {
        /* First how training stands: what it saves at its end comes before it says so. */
        bly_ledger_state state = bly_ledger_look(w->evaluate.dir, w->reason, sizeof w->reason);
        if (is_new(w))
            return BELAY_OK;
        *out_over = state == BLY_LEDGER_OVER;
        if (*out_over)
            return w->done
                       ? BELAY_OK
                       : bly_fail(err, BELAY_NOT_FOUND,
                                  "training in %s is over (%s), and left no checkpoint that can "
                                  "be evaluated",
                                  w->evaluate.dir, w->reason);
        if (is_stopped(w))
            return bly_fail(err, BELAY_CANCELLED, "asked to stop");
        if (bly_backoff_pause(&w->backoff, say_waiting, w) == BLY_BACKOFF_EXPIRED)
            return bly_fail(err, BELAY_DEADLINE_EXCEEDED,
                            "no new checkpoint came to %s within %g s%s%s", w->evaluate.dir,
                            timeout > 0 ? timeout : 0, w->reason[0] ? "; training stopped: " : "",
                            w->reason);
    }
}

/* A trainer deletes old checkpoints, perhaps the one that is being read. */
static int is_gone(const char *prefix) {
    bly_buf index = BLY_BUF_INIT;
    bly_buf_printf(&index, "%s.index", prefix);
    int gone = !index.failed && !bly_file_exists(index.data);
    bly_buf_free(&index);
    return gone;
}

static belay_code evaluate_one(struct watch *w, const char *prefix, belay_error *err) {
    BLY_LOCAL_ERROR(mine);
    belay_evaluation *evaluation = bly_evaluate_checkpoint(&w->evaluate, prefix, &mine);
    if (!evaluation && mine.code != BELAY_CANCELLED && is_gone(prefix)) {
        bly_warn("%s was deleted before it was evaluated", prefix);
        return BELAY_OK;
    }
    if (evaluation) {
        bly_free(w->done);
        w->done = bly_strdup(prefix);
        w->evaluations++;
        w->is_waiting = 0;
        belay_code code = w->options.evaluated
                              ? w->options.evaluated(w->options.self, evaluation, &mine)
                              : BELAY_OK;
        if (code != BELAY_OK)
            bly_fail_callback(&mine, code, "evaluated");
        else
            belay_error_clear(&mine); /* it may have filled it and gone on */
    }
    belay_evaluation_free(evaluation);
    if (mine.code != BELAY_OK)
        bly_error_copy(err, &mine);
    return mine.code;
}

/* The newest that verifies is perhaps one that was evaluated before. */
static belay_code evaluate_newest(struct watch *w, belay_error *err) {
    BLY_LOCAL_ERROR(mine);
    char *prefix = bly_choose_checkpoint(w->evaluate.dir, &mine);
    if (!prefix && mine.code == BELAY_RESOURCE_EXHAUSTED) {
        bly_error_copy(err, &mine);
        return mine.code;
    }
    if (!prefix) { /* another may come */
        if (mine.code != BELAY_NOT_FOUND)
            bly_warn("%s", mine.message);
        return BELAY_OK;
    }
    belay_code code =
        w->done && strcmp(w->done, prefix) == 0 ? BELAY_OK : evaluate_one(w, prefix, err);
    bly_free(prefix);
    return code;
}

static belay_code watch(struct watch *w, belay_error *err) {
    while (!w->options.max_evaluations || w->evaluations < w->options.max_evaluations) {
        int over;
        belay_code code = wait_for_new(w, &over, err);
        if (code != BELAY_OK || over)
            return code;
        code = evaluate_newest(w, err);
        if (code != BELAY_OK)
            return code;
    }
    return BELAY_OK;
}

belay_code belay_evaluate_repeatedly(const belay_evaluate_options *evaluate,
                                     const belay_evaluate_watch_options *given, belay_error *err) {
    struct watch w = {.done = NULL};
    if (bly_options_read(&w.evaluate, sizeof w.evaluate, evaluate, "belay_evaluate_options", err) !=
            BELAY_OK ||
        bly_options_read(&w.options, sizeof w.options, given, "belay_evaluate_watch_options",
                         err) != BELAY_OK ||
        bly_check_secs("timeout_secs", w.options.timeout_secs, err) != BELAY_OK)
        return BELAY_INVALID_ARGUMENT;
    if (!w.evaluate.dir || !*w.evaluate.dir || w.options.max_evaluations < 0)
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "%s",
                        w.options.max_evaluations < 0 ? "max_evaluations is negative"
                                                      : "graph and dir must be given");
    belay_code code = watch(&w, err);
    bly_free(w.done);
    return code;
}
