/* A prepared step: everything about it that is known before it runs (design: "A step"). */
#ifndef BLY_SESSION_STEP_H
#define BLY_SESSION_STEP_H

#include "session/request.h"
#include "session/run_options.h"

#include <belay/monitored_session.h>

/* Which of the two ways to run is faster, found out while the first steps run. */
typedef struct bly_tuner {
    int in_caller;         /* the way that is used now */
    int measuring;         /* 0: decided */
    int runs;              /* measured so far */
    int64_t fastest_us[2]; /* [in_caller] */
} bly_tuner;

/* What a hook fetched beside: whether a run then writes the global step where step_after does not
 * see it. Found out once. */
typedef struct bly_extra_fetch {
    TF_Output output;
    int writes_step;
} bly_extra_fetch;

struct belay_step {
    belay_step *next; /* the session's list */
    belay_monitored_session *session;
    bly_request request;
    /* As the runtime takes them: the request's, plus what belay adds (the global step, its
     * increment). */
    TF_Output *outputs;
    size_t output_count;
    TF_Output step_after; /* oper NULL: the step must be read in a run of its own */
    const TF_Operation **targets;
    size_t target_count;
    TF_Tensor **in;     /* request.feed_count */
    TF_Tensor **values; /* output_count */
    bly_extra_fetch *extras;
    size_t extra_count, extra_capacity;
    bly_tuner tuner;
    Bly__RunOptions *options;     /* the caller's; NULL: none */
    TF_Buffer *packed[2];         /* of `options`, as they are sent: [tuner.in_caller] */
    belay_run_metadata *metadata; /* the caller's; NULL: none is collected */
};

belay_code bly_step_make(belay_step *step, belay_graph *graph, const char *const *feeds,
                         const char *const *fetches, const char *const *targets, belay_error *err);
void bly_step_clean_up(belay_step *step);

/* Takes the caller's options in place of those it had. On error it has the old ones. */
belay_code bly_step_set_options(belay_step *step, const belay_run_options *options,
                                belay_error *err);

/* Sets *out to 1 where a run of the step that fetches `output` too must read the global step in a
 * run of its own, since that output needs an op which writes it. */
belay_code bly_step_check_extra(belay_step *step, belay_graph *graph, TF_Output output, int *out,
                                belay_error *err);

/* Around each run: picks the way (1: the calling thread), and learns from how long it took. */
void bly_tuner_start(bly_tuner *tuner, belay_threads threads, int caller_allowed);
void bly_tuner_learn(bly_tuner *tuner, int64_t took_us);

#endif
