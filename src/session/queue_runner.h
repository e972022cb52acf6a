/* Queue runners: threads that fill the graph's input queues (QR). */
#ifndef BLY_SESSION_QUEUE_RUNNER_H
#define BLY_SESSION_QUEUE_RUNNER_H

#include "session/coordinator.h"
#include "session/session.h"
#include "wire/graph.pb-c.h"

typedef struct bly_queue_runner bly_queue_runner;

/* What a queue runner is made of (QR-01). Names are those of ops in the graph. */
typedef struct bly_queue_runner_parts {
    const char *queue;              /* required */
    const char *const *enqueue_ops; /* required: at least one */
    size_t enqueue_count;
    const char *close_op;           /* NULL: one is added that keeps pending enqueues (QR-04) */
    const char *cancel_op;          /* NULL: one is added that cancels them */
    const belay_code *closed_codes; /* NULL: OUT_OF_RANGE (QR-03) */
    size_t closed_count;
} bly_queue_runner_parts;

bly_queue_runner *bly_queue_runner_new(belay_graph *graph, const bly_queue_runner_parts *parts,
                                       belay_error *err);

/* From its form in a graph (QR-05). `scope` (NULL: none) goes in front of every name, as in
 * "scope/queue". */
bly_queue_runner *bly_queue_runner_from_def(belay_graph *graph, const Bly__QueueRunnerDef *def,
                                            const char *scope, belay_error *err);
void bly_queue_runner_free(
    bly_queue_runner *runner); /* its threads keep what they need; NULL is fine */

const char *bly_queue_runner_name(const bly_queue_runner *runner); /* QR-23 */

/* Starts one thread per enqueue op, and with a coordinator one that cancels on a stop (QR-06).
 * Threads that still run in this session for this runner: starts none (QR-09). `out_count` (may be
 * NULL): number of threads that were started.
 *
 * They hold references to session and coordinator. Without a coordinator the runner joins them:
 * bly_queue_runner_join(). On error none is left that goes on enqueueing, and it may be tried again
 * (BUG-22). */
belay_code bly_queue_runner_create_threads(bly_queue_runner *runner, belay_session *session,
                                           belay_coordinator *coordinator, size_t *out_count,
                                           belay_error *err);

/* Waits for the threads that were started without a coordinator. The session closed, they end. */
belay_code bly_queue_runner_join(bly_queue_runner *runner, double grace_secs, belay_error *err);

/* What the threads without a coordinator failed with, since they were last started (QR-15, QR-18):
 * how many, and the first with the others chained to it. */
size_t bly_queue_runner_exceptions_raised(bly_queue_runner *runner, belay_error *out);

/* Number of queue runners that the graph's collection `queue_runners` holds. */
size_t bly_queue_runner_count(const belay_graph *graph);

/* Starts the threads of every queue runner of the graph, in their order, registered with the
 * coordinator (QR-19). The threads hold references to session and coordinator. On error those of
 * earlier runners run on until the stop. */
belay_code bly_start_queue_runners(belay_session *session, belay_coordinator *coordinator,
                                   belay_error *err);

#endif
