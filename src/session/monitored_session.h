/* The monitored session: the recoverable layer over coordinated over hooked over raw (WS), and what
 * owns them. */
#ifndef BLY_SESSION_MONITORED_SESSION_H
#define BLY_SESSION_MONITORED_SESSION_H

#include "base/error.h"
#include "session/coordinated.h"
#include "session/session_creator.h"

struct belay_monitored_session {
    belay_graph *graph;
    belay_session_creator *creator;
    bly_hooked hooked;
    bly_coordinated coordinated;
    int graph_was_finalized; /* before it was opened (MS-07) */
    int is_open;             /* coordinated holds a session */
    int recovers;
    int gives_raw_session;
    double grace_secs;
    double budget_secs; /* negative: no limit */
    belay_threads threads;
    atomic_int stop_requested; /* belay_monitored_session_request_stop(), from anywhere */
    uint32_t was_restored;
    belay_step *steps;
    belay_error failure;   /* of the last step; BELAY_OK after one that went well */
    int nested;            /* runs within runs: how deep */
    int gave_up;           /* a recovery used up the budget in the run that is going on */
    int in_use;            /* steps, step functions, bodies that are running: no time to close */
    int step_fn_stopped;   /* a step function asked to stop (SD-16) */
    char sentence[2200];   /* why it ended */
    int failed_to_prepare; /* failure is of belay_step_prepare(), which may be tried again */
};

/* Who is told of a session before it is open, so that a stop reaches it while it waits for its
 * target: the session before the first begin(), and NULL before one that did not open is freed. */
typedef struct bly_session_witness {
    void (*tell)(void *self, belay_monitored_session *session);
    void *self;
} bly_session_witness;

/* As their public forms do; `witness` may be NULL. */
belay_monitored_session *bly_monitored_session_open(belay_graph *graph,
                                                    const belay_monitored_session_options *options,
                                                    const bly_session_witness *witness,
                                                    belay_error *err);
belay_monitored_session *bly_training_session_open(belay_graph *graph,
                                                   const belay_training_options *options,
                                                   const bly_session_witness *witness,
                                                   belay_error *err);

#endif
