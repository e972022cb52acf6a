/* What the parts of a training run share: train.c (its life), train_hook.c (what it does around
 * steps and saves), resume.c (what the folder says before anything is touched). */
#ifndef BLY_RUN_TRAIN_IMPL_H
#define BLY_RUN_TRAIN_IMPL_H

#include "base/error.h"
#include "graph/graph.h"
#include "observe/rate.h"
#include "run/feeds.h"
#include "run/ledger.h"
#include "run/lock.h"
#include "run/plan.h"
#include "run/target.h"

#include <belay/hooks.h>
#include <belay/run.h>

#include <stdatomic.h>

struct belay_training_run {
    belay_training_run_options options; /* its strings lie in `kept` */
    bly_names kept;
    bly_target target;
    belay_graph *graph;
    bly_plan plan;
    bly_names feed_tensors; /* the plan's, as a step takes them */
    bly_feeds *feeds;       /* NULL: input comes from the graph */
    char first_position[BELAY_POSITION_SIZE];
    belay_saver *saver;
    belay_scaffold *scaffold;
    bly_lock *lock;
    bly_ledger *ledger;

    /* For request_stop, from anywhere: the session is not freed while somebody asks it. */
    atomic_int stop_requested;
    atomic_int askers;
    _Atomic(belay_monitored_session *) asked;

    /* Owner thread. */
    int was_run;
    int sessions; /* how many the monitored session has had: a second one is a recovery */
    int64_t start_step;
    int64_t step;
    int64_t resumed_from;
    int64_t steps_done; /* by this process */
    char *last_checkpoint;
    belay_run_ending ending;
    char *ending_text;
    belay_output *outputs; /* of plan.tensors, found in begin() */
    double *metrics;       /* one for each of plan.names */
    int64_t next_log_step;
    int64_t logged_us;
    int64_t save_began_us;
    int64_t first_step_us;
    bly_rate rate;
};

/* The hook that goes first: it takes the metrics of each step, and puts the input where a restored
 * checkpoint left it. The run must outlive it. */
belay_hook *bly_train_hook_new(belay_training_run *run, belay_error *err);

/* Told of every save. */
extern const belay_checkpoint_listener_vtable bly_train_listener;

/* Tells the watcher. */
void bly_train_tell(belay_training_run *run, belay_run_event event);

/* Looks at the folder without changing it. *out_nothing_to_do is 1 where the newest checkpoint says
 * that the end is reached; then start_step and step are set. NOT_FOUND         REQUIRE_RESUME and
 * there is no checkpoint, or the newest is of another model INVALID_ARGUMENT  the same, or the
 * arrays are read in another order than before */
belay_code bly_train_look(belay_training_run *run, int *out_nothing_to_do, belay_error *err);

/* Puts the input where a checkpoint of this step left it. `position` NULL: the checkpoint does not
 * say. */
belay_code bly_train_set_position(belay_training_run *run, const char *position, int64_t step,
                                  int says_so, belay_error *err);

#endif
