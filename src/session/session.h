/* A session over one TF_Session. */
#ifndef BLY_SESSION_SESSION_H
#define BLY_SESSION_SESSION_H

#include "graph/graph.h"
#include "runtime/runtime.h"
#include "session/remote_run.h"

#include <belay/session.h>

#include <stdatomic.h>

struct belay_session {
    atomic_int references;
    const bly_runtime *rt;
    belay_graph *graph;
    TF_Session *tf;
    char *target;
    atomic_int closed;
    int is_remote; /* what it calls may wait for another process: its master, or a task behind it */
    bly_remote_runs runs;
    int has_timeout; /* config carries operation_timeout_in_ms: then never run in the calling thread
                        (BUG-74) */
};

belay_session *bly_session_ref(belay_session *session);
/* Gives up a hold without closing; the last one closes. NULL is fine. */
void bly_session_unref(belay_session *session);

/* Closes, and waits at most so long where the target is remote: a master that has lost one of its
 * tasks may not answer for as long as that is gone. Then it is DEADLINE_EXCEEDED, and the close is
 * left to itself, which holds the session; after a second where a run was left so already. Reports
 * after two seconds, and every ten from then on. */
belay_code bly_session_close_within(belay_session *session, double secs, belay_error *err);
/* The same on this thread, however long it takes. */
belay_code bly_session_close_here(belay_session *session, belay_error *err);

/* Makes a call, on a closed session FAILED_PRECONDITION; what ends it early, remote_run.h says. */
belay_code bly_session_call(belay_session *session, const bly_run_call *call, belay_error *err);

/* One call of the runtime, arguments as TF_SessionRun takes them; `metadata` NULL: none is
 * collected (BUG-43). */
belay_code bly_session_run(belay_session *session, const TF_Buffer *run_options,
                           const TF_Output *inputs, TF_Tensor *const *input_values,
                           size_t input_count, const TF_Output *outputs, TF_Tensor **output_values,
                           size_t output_count, const TF_Operation *const *targets,
                           size_t target_count, TF_Buffer *metadata, belay_error *err);

/* Runs one op; oper NULL does nothing. */
belay_code bly_session_run_op(belay_session *session, const TF_Operation *op, belay_error *err);

/* The same by a helper thread, which may be blocked for as long as it likes. */
belay_code bly_session_run_helpers_op(belay_session *session, const TF_Operation *op,
                                      belay_error *err);

/* Fetches one tensor; the caller deletes it. */
belay_code bly_session_fetch(belay_session *session, TF_Output output, TF_Tensor **out,
                             belay_error *err);

/* The global step as hooks see it (GS-05, GS-06): where it has no value yet, the one that it starts
 * from, and *out_unset is 1. */
belay_code bly_session_step(belay_session *session, int64_t *out_step, int *out_unset,
                            belay_error *err);

/* TensorFlow's form of the options; the caller deletes it. NULL on error. */
TF_SessionOptions *bly_session_options_make(const bly_runtime *rt,
                                            const belay_session_options *options, belay_error *err);

TF_Tensor *bly_string_tensor(const bly_runtime *rt, const char *text);

#endif
