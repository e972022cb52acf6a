/* Calls that wait for another process. TensorFlow's wait until the master answers, and the master
 * until its tasks do, for ever where one of them is gone or hangs; and nothing ends such a call. So
 * each is made on a thread of the session's own, while the caller waits, looks whether somebody
 * still answers there, says what it waits for, and ends where it is to end. */
#ifndef BLY_SESSION_REMOTE_RUN_H
#define BLY_SESSION_REMOTE_RUN_H

#include "base/thread.h"
#include "runtime/runtime.h"

#include <belay/error.h>

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

struct belay_session;

typedef enum bly_call_kind {
    BLY_CALL_RUN,           /* TF_SessionRun */
    BLY_CALL_PARTIAL_SETUP, /* TF_SessionPRunSetup */
    BLY_CALL_PARTIAL_RUN,   /* TF_SessionPRun */
    BLY_CALL_DEVICES,       /* TF_SessionListDevices */
} bly_call_kind;

/* The arguments of TF_SessionRun, or of another call. */
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
    TF_Buffer *metadata; /* NULL: none is collected */
    bly_call_kind kind;
    int is_helpers;     /* a helper thread's, which may be blocked for long and for good reason:
                           nothing is said of it, and a stop ends it by closing the session */
    const char *handle; /* BLY_CALL_PARTIAL_RUN */
    const char **new_handle; /* BLY_CALL_PARTIAL_SETUP: set where the call succeeds */
    TF_DeviceList **devices; /* BLY_CALL_DEVICES: the same */
} bly_run_call;

/* The call itself, on this thread. */
void bly_run_call_make(const bly_runtime *rt, TF_Session *session, const bly_run_call *call,
                       TF_Status *status);

/* What ends a session's calls before TensorFlow does. Zero: nothing. */
typedef struct bly_run_limits {
    const atomic_int *stop[2]; /* either may be NULL */
    double grace_secs;         /* what a call has that is under way when a stop is requested */
    double last_secs;          /* what one has that begins after it, until one of those was left;
                                  0: none begins any more, and the stop is CANCELLED */
    double longest_secs;       /* of one call, a minute at least; 0 or BELAY_FOREVER: no limit */
    int64_t deadline_us;       /* of all, but each has a minute; 0: none */
    int is_reported;           /* somebody else says what is waited for */
} bly_run_limits;

/* A limit that is not too short to be one; BELAY_FOREVER stays. */
double bly_secs_at_least(double secs, double least);

/* A session's threads, one for each call that is under way at the same time. */
typedef struct bly_remote_runs {
    bly_mutex lock;
    struct bly_runner *idle; /* guarded by lock, as are the limits */
    bly_run_limits limits;
    atomic_size_t known_ops; /* how much of the graph the master has: a position in its ops */
    atomic_llong longest_us; /* of the calls that returned */
    atomic_int left;         /* a call was left to itself */
    atomic_int left_last;    /* and it began after a stop; others may wait in a queue, say */
    atomic_int lost;         /* the master is gone: the session is of no more use */
} bly_remote_runs;

void bly_remote_runs_init(bly_remote_runs *runs);
/* Ends the threads that are idle. No call is under way any more, but those that were left. */
void bly_remote_runs_clean_up(bly_remote_runs *runs, const bly_runtime *rt);

/* From now on, for calls that are under way too; NULL: no limits. What `stop` points to is not read
 * any more once other limits are set. */
void bly_remote_runs_limit(bly_remote_runs *runs, const bly_run_limits *limits);

/* Makes the call. It ends before TensorFlow does, and goes on by itself, holding the session, with
 * - UNAVAILABLE: nobody has listened at the session's target for five seconds, or the process there
 *   has not answered for a minute; then every later call ends so at once;
 * - DEADLINE_EXCEEDED, CANCELLED: the limits;
 * - CANCELLED: the session was closed five seconds ago.
 * What is fed is read by then: such a call has had five seconds at least. */
belay_code bly_remote_run(struct belay_session *session, const bly_run_call *call,
                          belay_error *err);

#endif
