/* Runs whose master is another process. TensorFlow sends them as calls that wait until the master
 * answers, for ever where it is gone, and nothing ends such a call. So each is made on a thread of
 * the session's own, while the caller waits and looks whether somebody still listens there. */
#ifndef BLY_SESSION_REMOTE_RUN_H
#define BLY_SESSION_REMOTE_RUN_H

#include "base/thread.h"
#include "runtime/runtime.h"

#include <belay/error.h>

#include <stdatomic.h>
#include <stddef.h>

struct belay_session;

/* The arguments of TF_SessionRun; `metadata` NULL: none is collected. */
typedef struct bly_run_call {
    const TF_Buffer *run_options;
    const TF_Output *inputs;
    TF_Tensor *const *input_values;
    size_t input_count;
    const TF_Output *outputs;
    TF_Tensor **output_values;
    size_t output_count;
    const TF_Operation *const *targets;
    size_t target_count;
    TF_Buffer *metadata;
} bly_run_call;

/* A session's threads, one for each run that is under way at the same time. */
typedef struct bly_remote_runs {
    bly_mutex lock;
    struct bly_runner *idle; /* guarded by lock */
    atomic_size_t known_ops; /* how much of the graph the master has: a position in its ops */
    atomic_int lost;         /* a run was left to itself: the session is of no more use */
} bly_remote_runs;

void bly_remote_runs_init(bly_remote_runs *runs);
/* Ends the threads that are idle. No run is under way any more, but those that were left. */
void bly_remote_runs_clean_up(bly_remote_runs *runs, const bly_runtime *rt);

/* Makes the call. UNAVAILABLE where nobody has listened at the session's target for five seconds:
 * then the call goes on by itself, holding the session, and so does every later one at once. */
belay_code bly_remote_run(struct belay_session *session, const bly_run_call *call,
                          belay_error *err);

#endif
