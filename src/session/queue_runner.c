#include "session/queue_runner.h"

#include "base/buf.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "wire/unpack.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#define COLLECTION "queue_runners"

struct bly_queue_runner {
    atomic_int references; /* the owner's and each crew's */
    belay_graph *graph;
    const void *identity; /* the same for two objects made from the same element of a collection */
    const char *name;     /* the queue's op name; belongs to the graph */
    TF_Operation **enqueue;
    size_t enqueue_count;
    TF_Operation *close;
    TF_Operation *cancel;
    belay_code *closed_codes;
    size_t closed_count;
    belay_coordinator *own; /* joins the threads that were started without a coordinator */
    bly_mutex lock;
    belay_error raised;  /* guarded by lock */
    size_t raised_count; /* guarded by lock */
};

/* The threads of one runner in one session. Lives as long as one of them. */
struct crew {
    struct crew *next; /* guarded by crews_lock */
    atomic_int references;
    bly_queue_runner *runner;
    belay_session *session;
    belay_coordinator *coordinator; /* NULL: none */
    atomic_int enqueueing;          /* how many threads still enqueue */
    atomic_int given_up;            /* starting failed half-way: the others end too */
    atomic_int closed;              /* the queue was closed, so there is nothing to cancel */
};

struct enqueuer {
    struct crew *crew;
    TF_Operation *op;
};

/* Crews whose threads still enqueue: what "this session has its threads already" is looked up in
 * (QR-09). A runner of a collection is made anew by each call, so the runner object cannot keep
 * count. */
static bly_mutex crews_lock = PTHREAD_MUTEX_INITIALIZER;
static struct crew *crews; /* guarded by crews_lock */

/* ---- making ---- */

static void unref(bly_queue_runner *runner) {
    if (!runner || atomic_fetch_sub(&runner->references, 1) != 1)
        return;
    belay_coordinator_free(runner->own);
    belay_graph_free(runner->graph);
    bly_mutex_clean_up(&runner->lock);
    bly_free(runner->enqueue);
    bly_free(runner->closed_codes);
    bly_free(runner);
}

void bly_queue_runner_free(bly_queue_runner *runner) {
    unref(runner);
}

const char *bly_queue_runner_name(const bly_queue_runner *runner) {
    return runner->name;
}

static bly_queue_runner *allocate(belay_graph *graph, size_t enqueue_count, size_t closed_count,
                                  belay_error *err) {
    static const belay_code none;
    bly_queue_runner *runner = bly_calloc(1, sizeof *runner);
    TF_Operation **enqueue = bly_calloc(enqueue_count, sizeof *enqueue);
    belay_code *codes = bly_calloc(closed_count, sizeof *codes);
    belay_coordinator *own = belay_coordinator_new(&none, 0, NULL);
    if (!runner || !enqueue || !codes || !own) {
        bly_free(runner);
        bly_free(enqueue);
        bly_free(codes);
        belay_coordinator_free(own);
        bly_fail_memory(err);
        return NULL;
    }
    atomic_init(&runner->references, 1);
    bly_mutex_init(&runner->lock);
    runner->graph = bly_graph_ref(graph);
    runner->identity = runner;
    runner->enqueue = enqueue;
    runner->enqueue_count = enqueue_count;
    runner->closed_codes = codes;
    runner->closed_count = closed_count;
    runner->own = own;
    return runner;
}

/* The op called `name` under `scope`. */
static belay_code find(belay_graph *graph, const char *scope, const char *name, TF_Operation **out,
                       belay_error *err) {
    bly_buf full = BLY_BUF_INIT;
    if (scope && *scope)
        bly_buf_printf(&full, "%s/", scope);
    bly_buf_puts(&full, name);
    BLY_LOCAL_ERROR(mine);
    if (full.failed)
        bly_fail_memory(&mine);
    else
        *out = bly_graph_find_target(graph, bly_buf_text(&full), &mine);
    bly_buf_free(&full);
    bly_error_copy(err, &mine);
    return mine.code;
}

/* Adds an op that closes the queue (QR-04). */
static belay_code build_close(belay_graph *graph, TF_Operation *queue, int cancel_pending,
                              TF_Operation **out, belay_error *err) {
    const bly_runtime *rt = graph->rt;
    belay_code code = bly_graph_check_open(graph, "a queue's close op", err);
    if (code != BELAY_OK)
        return code;
    TF_Output handle = {queue, 0};
    int is_resource = rt->OperationOutputType(handle) == TF_RESOURCE;
    bly_buf name = BLY_BUF_INIT;
    for (int n = 0; n == 0 || (!name.failed && rt->GraphOperationByName(graph->tf, name.data));
         n++) {
        bly_buf_clear(&name);
        bly_buf_printf(&name, n ? "%s_Close_%d" : "%s_Close", rt->OperationName(queue), n);
    }
    if (name.failed) {
        bly_buf_free(&name);
        return bly_fail_memory(err);
    }
    TF_OperationDescription *description =
        rt->NewOperation(graph->tf, is_resource ? "QueueCloseV2" : "QueueClose", name.data);
    bly_buf_free(&name);
    rt->AddInput(description, handle);
    rt->SetAttrBool(description, "cancel_pending_enqueues", cancel_pending ? 1 : 0);
    TF_Status *status = rt->NewStatus();
    *out = rt->FinishOperation(description, status);
    return bly_runtime_finish(rt, status, err);
}

static void set_codes(bly_queue_runner *runner, const belay_code *codes, size_t count) {
    if (count == 0)
        runner->closed_codes[0] = BELAY_OUT_OF_RANGE;
    else
        memcpy(runner->closed_codes, codes, count * sizeof *codes);
}

static belay_code check_parts(const bly_queue_runner_parts *parts, belay_error *err) {
    if (!parts->queue || !parts->enqueue_ops || parts->enqueue_count == 0)
        return bly_fail(err, BELAY_INVALID_ARGUMENT,
                        "a queue runner needs a queue and at least one enqueue op");
    if (parts->closed_codes && parts->closed_count == 0)
        return bly_fail(
            err, BELAY_INVALID_ARGUMENT,
            "a queue runner needs at least one code that says that its queue is closed");
    for (size_t i = 0; parts->closed_codes && i < parts->closed_count; i++)
        if (parts->closed_codes[i] <= BELAY_OK || parts->closed_codes[i] > BELAY_UNAUTHENTICATED)
            return bly_fail(err, BELAY_INVALID_ARGUMENT,
                            "%d is not the code of an error that says that a queue is closed",
                            (int)parts->closed_codes[i]);
    return BELAY_OK;
}

static belay_code resolve(bly_queue_runner *runner, const bly_queue_runner_parts *parts,
                          const char *scope, belay_error *err) {
    TF_Operation *queue = NULL;
    belay_code code = find(runner->graph, scope, parts->queue, &queue, err);
    for (size_t i = 0; code == BELAY_OK && i < parts->enqueue_count; i++)
        code = find(runner->graph, scope, parts->enqueue_ops[i], &runner->enqueue[i], err);
    if (code == BELAY_OK)
        code = parts->close_op ? find(runner->graph, scope, parts->close_op, &runner->close, err)
                               : build_close(runner->graph, queue, 0, &runner->close, err);
    if (code == BELAY_OK)
        code = parts->cancel_op ? find(runner->graph, scope, parts->cancel_op, &runner->cancel, err)
                                : build_close(runner->graph, queue, 1, &runner->cancel, err);
    if (code == BELAY_OK)
        runner->name = runner->graph->rt->OperationName(queue);
    return code;
}

static bly_queue_runner *make(belay_graph *graph, const bly_queue_runner_parts *parts,
                              const char *scope, belay_error *err) {
    if (check_parts(parts, err) != BELAY_OK)
        return NULL;
    size_t closed_count = parts->closed_codes ? parts->closed_count : 1;
    bly_queue_runner *runner = allocate(graph, parts->enqueue_count, closed_count, err);
    if (!runner)
        return NULL;
    set_codes(runner, parts->closed_codes, parts->closed_codes ? parts->closed_count : 0);
    if (resolve(runner, parts, scope, err) != BELAY_OK) {
        unref(runner);
        return NULL;
    }
    return runner;
}

bly_queue_runner *bly_queue_runner_new(belay_graph *graph, const bly_queue_runner_parts *parts,
                                       belay_error *err) {
    return make(graph, parts, NULL, err);
}

bly_queue_runner *bly_queue_runner_from_def(belay_graph *graph, const Bly__QueueRunnerDef *def,
                                            const char *scope, belay_error *err) {
    bly_queue_runner_parts parts = {
        .queue = def->queue_name,
        .enqueue_ops = (const char *const *)def->enqueue_op_name,
        .enqueue_count = def->n_enqueue_op_name,
        .close_op = def->close_op_name,
        .cancel_op = def->cancel_op_name,
        .closed_codes =
            def->n_queue_closed_exception_types ? def->queue_closed_exception_types : NULL,
        .closed_count = def->n_queue_closed_exception_types,
    };
    return make(graph, &parts, scope, err);
}

/* ---- running ---- */

static void crew_unref(struct crew *crew) {
    if (atomic_fetch_sub(&crew->references, 1) != 1)
        return;
    bly_session_unref(crew->session);
    if (crew->coordinator)
        bly_coordinator_unref(crew->coordinator);
    unref(crew->runner);
    bly_free(crew);
}

static int crew_should_stop(const struct crew *crew) {
    return atomic_load(&crew->given_up) || belay_coordinator_should_stop(crew->coordinator);
}

static int says_closed(const bly_queue_runner *runner, belay_code code) {
    for (size_t i = 0; i < runner->closed_count; i++)
        if (runner->closed_codes[i] == code)
            return 1;
    return 0;
}

/* What an enqueue op fails with because of the stop itself: the cancel op cancels it, a closing
 * session too. */
static int is_echo_of_stop(const struct crew *crew, belay_code code) {
    return crew_should_stop(crew) &&
           (code == BELAY_CANCELLED || atomic_load(&crew->session->closed));
}

static void report(struct crew *crew, const belay_error *error) {
    bly_queue_runner *runner = crew->runner;
    if (crew->coordinator) {
        belay_coordinator_request_stop(crew->coordinator, error); /* QR-14 */
        return;
    }
    bly_error("Exception in QueueRunner %s: %s: %s", runner->name, belay_code_name(error->code),
              error->message); /* QR-15 */
    bly_mutex_lock(&runner->lock);
    bly_error_chain(&runner->raised, error);
    runner->raised_count++;
    bly_mutex_unlock(&runner->lock);
}

/* Runs the close or the cancel op, whose errors matter to nobody (QR-12, QR-17). */
static void run_quietly(struct crew *crew, TF_Operation *op, const char *what) {
    BLY_LOCAL_ERROR(error);
    atomic_store(&crew->closed, 1);
    if (bly_session_run_helpers_op(crew->session, op, &error) != BELAY_OK)
        bly_debug("%s of queue %s: %s: %s", what, crew->runner->name, belay_code_name(error.code),
                  error.message);
}

static void unlist(struct crew *crew) {
    bly_mutex_lock(&crews_lock);
    for (struct crew **link = &crews; *link; link = &(*link)->next) {
        if (*link == crew) {
            *link = crew->next;
            break;
        }
    }
    bly_mutex_unlock(&crews_lock);
}

/* The last thread closes the queue, whatever it ended with, so that its readers never block for
 * ever (BUG-20, BUG-21). After a stop the cancel op does that (QR-16). */
static void leave(struct crew *crew) {
    if (atomic_fetch_sub(&crew->enqueueing, 1) == 1) {
        if (!crew_should_stop(crew))
            run_quietly(crew, crew->runner->close, "close");
        unlist(crew);
        if (crew->coordinator)
            bly_coordinator_wake(crew->coordinator);
    }
    crew_unref(crew);
}

static void enqueue_run(void *self) {
    struct enqueuer *e = self;
    struct crew *crew = e->crew;
    TF_Operation *op = e->op;
    belay_code code = BELAY_OK;
    BLY_LOCAL_ERROR(error);
    bly_free(e);
    while (code == BELAY_OK && !crew_should_stop(crew)) /* QR-11 */
        code = bly_session_run_helpers_op(crew->session, op, &error);
    if (code != BELAY_OK && !says_closed(crew->runner, code) && !is_echo_of_stop(crew, code))
        report(crew, &error);
    leave(crew);
}

static int nobody_enqueues(void *self) {
    struct crew *crew = self;
    return atomic_load(&crew->enqueueing) == 0;
}

/* Ends with the last enqueue thread too: waiting on for a stop it would hold up a join for ever
 * (BUG-19). */
static void close_on_stop_run(void *self) {
    struct crew *crew = self;
    bly_coordinator_wait_for_stop_or(crew->coordinator, nobody_enqueues, crew);
    if (belay_coordinator_should_stop(crew->coordinator) && !atomic_load(&crew->closed))
        run_quietly(crew, crew->runner->cancel, "cancel");
    crew_unref(crew);
}

/* A crew of nobody yet, which counts as running from here on; NULL without an error where there is
 * one already. */
static struct crew *enlist(bly_queue_runner *runner, belay_session *session,
                           belay_coordinator *coordinator, belay_error *err) {
    struct crew *crew = bly_calloc(1, sizeof *crew);
    if (!crew) {
        bly_fail_memory(err);
        return NULL;
    }
    bly_mutex_lock(&crews_lock);
    for (struct crew *other = crews; other; other = other->next) {
        if (other->session == session && other->runner->identity == runner->identity) {
            bly_mutex_unlock(&crews_lock);
            bly_free(crew);
            return NULL;
        }
    }
    crew->next = crews;
    crews = crew;
    atomic_init(&crew->references, 1); /* the caller's */
    atomic_init(&crew->enqueueing, (int)runner->enqueue_count);
    atomic_fetch_add(&runner->references, 1);
    crew->runner = runner;
    crew->session = bly_session_ref(session);
    crew->coordinator = coordinator ? bly_coordinator_ref(coordinator) : NULL;
    bly_mutex_unlock(&crews_lock);
    return crew;
}

static belay_code start_thread(struct crew *crew, const char *what, void (*body)(void *self),
                               void *self, belay_error *err) {
    bly_buf name = BLY_BUF_INIT;
    bly_buf_printf(&name, "QueueRunnerThread-%s-%s", crew->runner->name, what); /* QR-07 */
    if (name.failed) {
        bly_buf_free(&name);
        return bly_fail_memory(err);
    }
    atomic_fetch_add(&crew->references, 1);
    belay_code code = bly_coordinator_start_thread(
        crew->coordinator ? crew->coordinator : crew->runner->own, name.data, body, self, err);
    if (code != BELAY_OK)
        crew_unref(crew);
    bly_buf_free(&name);
    return code;
}

static belay_code start_enqueuer(struct crew *crew, TF_Operation *op, belay_error *err) {
    struct enqueuer *e = bly_malloc(sizeof *e);
    if (!e)
        return bly_fail_memory(err);
    *e = (struct enqueuer){crew, op};
    belay_code code =
        start_thread(crew, crew->runner->graph->rt->OperationName(op), enqueue_run, e, err);
    if (code != BELAY_OK)
        bly_free(e);
    return code;
}

/* Starting failed after `started` enqueue threads: they end, and nobody is counted any more
 * (BUG-22). */
static void give_up(struct crew *crew, size_t started) {
    atomic_store(&crew->given_up, 1);
    if (started > 0)
        run_quietly(crew, crew->runner->cancel, "cancel"); /* one may block in its enqueue op */
    for (size_t i = started; i < crew->runner->enqueue_count; i++) {
        atomic_fetch_add(&crew->references, 1);
        leave(crew);
    }
}

belay_code bly_queue_runner_create_threads(bly_queue_runner *runner, belay_session *session,
                                           belay_coordinator *coordinator, size_t *out_count,
                                           belay_error *err) {
    BLY_LOCAL_ERROR(mine);
    size_t started = 0;
    if (out_count)
        *out_count = 0;
    if (!session)
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "a queue runner needs a session"); /* QR-20 */
    struct crew *crew = enlist(runner, session, coordinator, &mine);
    if (!crew) {
        bly_error_copy(err, &mine);
        return mine.code;
    }
    bly_mutex_lock(&runner->lock);
    belay_error_clear(&runner->raised); /* QR-18 */
    runner->raised_count = 0;
    bly_mutex_unlock(&runner->lock);
    if (coordinator)
        start_thread(crew, "close_on_stop", close_on_stop_run, crew, &mine);
    while (mine.code == BELAY_OK && started < runner->enqueue_count)
        if (start_enqueuer(crew, runner->enqueue[started], &mine) == BELAY_OK)
            started++;
    if (mine.code != BELAY_OK) {
        give_up(crew, started);
        bly_error_copy(err, &mine);
    } else if (out_count) {
        *out_count = started + (coordinator ? 1 : 0);
    }
    crew_unref(crew);
    return mine.code;
}

belay_code bly_queue_runner_join(bly_queue_runner *runner, double grace_secs, belay_error *err) {
    belay_join_options options = BELAY_JOIN_OPTIONS_INIT;
    options.stop_grace_period_secs = grace_secs;
    return belay_coordinator_join(runner->own, &options, err);
}

size_t bly_queue_runner_exceptions_raised(bly_queue_runner *runner, belay_error *out) {
    bly_mutex_lock(&runner->lock);
    size_t count = runner->raised_count;
    bly_error_copy(out, &runner->raised);
    bly_mutex_unlock(&runner->lock);
    return count;
}

/* ---- the graph's collection ---- */

static const Bly__CollectionDef__BytesList *collection(const belay_graph *graph) {
    const Bly__CollectionDef *c = bly_graph_collection(graph, COLLECTION);
    return c && c->kind_case == BLY__COLLECTION_DEF__KIND_BYTES_LIST ? c->bytes_list : NULL;
}

size_t bly_queue_runner_count(const belay_graph *graph) {
    const Bly__CollectionDef__BytesList *list = collection(graph);
    return list ? list->n_value : 0;
}

static belay_code start_one(belay_session *session, belay_coordinator *coordinator,
                            const ProtobufCBinaryData *bytes, size_t index, belay_error *err) {
    belay_code code;
    Bly__QueueRunnerDef *def =
        bly_wire_unpack(&bly__queue_runner_def__descriptor, bytes->data, bytes->len, &code);
    if (!def)
        return code == BELAY_RESOURCE_EXHAUSTED
                   ? bly_fail_memory(err)
                   : bly_fail(err, BELAY_DATA_LOSS,
                              "element %zu of collection " COLLECTION " is not a queue runner",
                              index);
    BLY_LOCAL_ERROR(mine);
    bly_queue_runner *runner = bly_queue_runner_from_def(session->graph, def, NULL, &mine);
    if (runner) {
        runner->identity = bytes;
        bly_queue_runner_create_threads(runner, session, coordinator, NULL, &mine);
    }
    bly_queue_runner_free(runner);
    bly_wire_free(def);
    bly_error_copy(err, &mine);
    return mine.code;
}

belay_code bly_start_queue_runners(belay_session *session, belay_coordinator *coordinator,
                                   belay_error *err) {
    if (!session || !coordinator)
        return bly_fail(err, BELAY_INVALID_ARGUMENT,
                        "queue runners need a session and a coordinator"); /* QR-20 */
    const Bly__CollectionDef__BytesList *list = collection(session->graph);
    if (!list || list->n_value == 0) {
        bly_warn("queue runners were asked for, and collection " COLLECTION " has none");
        return BELAY_OK;
    }
    belay_code code = BELAY_OK;
    for (size_t i = 0; code == BELAY_OK && i < list->n_value; i++)
        code = start_one(session, coordinator, &list->value[i], i, err);
    return code;
}
