/* What the files of the session manager share. */
#ifndef BLY_SESSION_SESSION_MANAGER_IMPL_H
#define BLY_SESSION_SESSION_MANAGER_IMPL_H

#include "base/buf.h"
#include "session/feed_list.h"
#include "session/session_manager.h"

struct belay_session_manager {
    atomic_int references; /* the user's, and those of attempts that do not return */
    belay_graph *graph;
    TF_Operation *local_init_op;    /* NULL: none */
    TF_Output ready;                /* oper NULL: none */
    int ready_is_op;                /* an op without outputs: ready once it ran (SM-41) */
    TF_Output ready_for_local_init; /* the same */
    int ready_for_local_init_is_op;
    TF_Buffer *local_init_run_options; /* NULL: none */
    bly_feed_list local_init_feeds;
    double recovery_wait_secs;
    atomic_int cancelled;
    const atomic_int *stop; /* NULL: none */
    int64_t deadline_us;    /* of preparing a session; BLY_NEVER: none of that kind */
};

/* Runs an op that initialises. `given` and `inputs` are the user's feeds; a SavedModel's files are
 * fed beside them. */
belay_code bly_manager_run_init(belay_session *session, const TF_Operation *op,
                                const char *const *given, belay_tensor *const *inputs,
                                const TF_Buffer *run_options, belay_error *err);

/* Local init (SM-45): afterwards *done is 1, or 0 where the model is not ready for it, with the
 * reason in `why`. It is 1 before where local init ran in this session already; then it does not
 * run again, unless the model has been lost meanwhile (BUG-66). */
belay_code bly_manager_local_init(const belay_session_manager *manager, belay_session *session,
                                  int *done, bly_buf *why, belay_error *err);

/* *out_ready is 0 where the model is not ready, with the reason in `why` (SM-40 to SM-44). */
belay_code bly_manager_check_ready(const belay_session_manager *manager, belay_session *session,
                                   int *out_ready, bly_buf *why, belay_error *err);

/* Opens a session, limits what runs in it until bly_manager_let_go(), and makes the first contact
 * with its target. What waits here, or in a run, ends with a stop, when max_wait_secs are over, or
 * at the manager's deadline. NULL on error. */
belay_session *bly_manager_open(const belay_session_manager *manager,
                                const belay_session_options *options, double max_wait_secs,
                                belay_error *err);
/* Of a session that is handed out: the manager, and its stop, may be gone before it. */
void bly_manager_let_go(belay_session *session);

#endif
