/*
 * The belay side of the session benchmarks: a monitored training session with all default hooks, on
 * the public library.
 */
#include "side.h"

#include <belay/belay.h>

#include <stdlib.h>

typedef struct run {
    belay_graph *graph;
    belay_monitored_session *session;
    belay_step *step;
    belay_tensor *(*batches)[2];
    size_t batch_count; /* 0: nothing is fed */
    belay_tensor *fetched;
    belay_error *err;
} run;

static void check(const run *r, int ok, const char *what) {
    if (!ok)
        side_die(what, belay_error_message(r->err));
}

static void load_graph(run *r, const side_arguments *a) {
    const char *after[] = {a->fetch, NULL};

    r->graph = belay_graph_load(a->graph, NULL, r->err);
    check(r, r->graph != NULL, "loading the graph");
    if (!belay_graph_global_step_name(r->graph)) {
        belay_code code = belay_graph_create_global_step(r->graph, after, r->err);
        check(r, code == BELAY_OK, "giving the graph a global step");
    }
}

static void open_session(run *r, const side_arguments *a) {
    belay_session_options session = BELAY_SESSION_OPTIONS_INIT;
    belay_training_options options = BELAY_TRAINING_OPTIONS_INIT;

    session.target = a->master;
    options.session = &session;
    options.checkpoint_dir = a->dir;
    r->session = belay_monitored_training_session_open(r->graph, &options, r->err);
    check(r, r->session != NULL, "opening the session");
}

static void prepare_step(run *r, const side_arguments *a) {
    const char *feeds[] = {a->x, a->x ? a->y : NULL, NULL};
    const char *fetches[] = {a->fetch, NULL};
    const char *targets[] = {a->target, NULL};

    r->step = belay_step_prepare(r->session, feeds, fetches, targets, r->err);
    check(r, r->step != NULL, "preparing the step");
}

static void make_feeds(run *r, const side_arguments *a) {
    const int64_t x_dims[] = {SIDE_BATCH, SIDE_FEATURES}, y_dims[] = {SIDE_BATCH};
    const size_t x_elements = SIDE_BATCH * SIDE_FEATURES, y_elements = SIDE_BATCH;
    side_batches data = side_read_batches(a->data);

    r->batches = calloc(data.count, sizeof *r->batches);
    r->batch_count = data.count;
    for (size_t i = 0; i < data.count; i++) {
        r->batches[i][0] = belay_tensor_new_over(BELAY_FLOAT, x_dims, 2, data.x + i * x_elements,
                                                 x_elements * sizeof *data.x, NULL, NULL, r->err);
        r->batches[i][1] = belay_tensor_new_over(BELAY_INT64, y_dims, 1, data.y + i * y_elements,
                                                 y_elements * sizeof *data.y, NULL, NULL, r->err);
        check(r, r->batches[i][0] && r->batches[i][1], "making the feeds");
    }
}

static void run_step(run *r, long i) {
    belay_tensor **fed = r->batch_count ? r->batches[(size_t)i % r->batch_count] : NULL;
    check(r, belay_step_run(r->step, fed, &r->fetched, r->err) == BELAY_OK, "a step");
}

int main(int argc, char **argv) {
    side_arguments a;
    run r = {0};
    double first_step_at = 0, start = 0, seconds = 0;

    side_parse(argc, argv, &a);
    r.err = belay_error_new();
    load_graph(&r, &a);
    open_session(&r, &a);
    prepare_step(&r, &a);
    if (a.x)
        make_feeds(&r, &a);

    for (long i = 0; i < a.warmup; i++) {
        run_step(&r, i);
        if (i == 0)
            first_step_at = side_now();
    }
    start = side_now();
    for (long i = 0; i < a.steps; i++)
        run_step(&r, i);
    seconds = side_now() - start;
    check(&r, belay_monitored_session_close(r.session, r.err) == BELAY_OK, "closing the session");
    side_report(first_step_at, seconds, a.steps);
    return 0;
}
