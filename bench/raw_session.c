/*
 * The limit of belay's session benchmarks: TensorFlow's C API and nothing else. GRAPH is a GraphDef
 * file or a SavedModel folder. Steps run in the calling thread, or on another master.
 */
#include "side.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <tensorflow/c/c_api.h>

typedef struct raw {
    TF_Graph *graph;
    TF_Session *session;
    TF_Buffer *run_options;
    const TF_Operation *target;
    int target_count;
    TF_Output fetch;
    TF_Output feeds[2];
    TF_Tensor *(*batches)[2];
    size_t batch_count; /* 0: nothing is fed */
    TF_Status *status;
} raw;

static void check(const raw *r, const char *what) {
    if (TF_GetCode(r->status) != TF_OK)
        side_die(what, TF_Message(r->status));
}

static TF_Operation *find_op(const raw *r, const char *name) {
    TF_Operation *op = TF_GraphOperationByName(r->graph, name);
    if (!op)
        side_die("the graph has no operation", name);
    return op;
}

/* "op:1" or "op". */
static TF_Output find_tensor(const raw *r, const char *name) {
    char op[256] = {0};
    size_t length = strcspn(name, ":");
    TF_Output tensor = {0};

    if (length >= sizeof op)
        side_die("a name that is too long", name);
    memcpy(op, name, length);
    tensor.oper = find_op(r, op);
    tensor.index = name[length] ? atoi(name + length + 1) : 0;
    return tensor;
}

static void import_graph_def(raw *r, const char *path) {
    size_t size = 0;
    void *bytes = side_read_file(path, &size);
    TF_Buffer *graph_def = TF_NewBufferFromString(bytes, size);
    TF_ImportGraphDefOptions *options = TF_NewImportGraphDefOptions();

    TF_GraphImportGraphDef(r->graph, graph_def, options, r->status);
    check(r, "importing the graph");
    TF_DeleteImportGraphDefOptions(options);
    TF_DeleteBuffer(graph_def);
    free(bytes);
}

static void open_session(raw *r, const side_arguments *a) {
    const char *tags[] = {"serve"};
    TF_SessionOptions *options = TF_NewSessionOptions();
    struct stat info;

    if (a->master)
        TF_SetTarget(options, a->master);
    if (stat(a->graph, &info) == 0 && S_ISDIR(info.st_mode)) {
        r->session = TF_LoadSessionFromSavedModel(options, NULL, a->graph, tags, 1, r->graph, NULL,
                                                  r->status);
    } else {
        import_graph_def(r, a->graph);
        r->session = TF_NewSession(r->graph, options, r->status);
    }
    check(r, "opening the session");
    TF_DeleteSessionOptions(options);
}

static void initialise(raw *r, const char *op) {
    const TF_Operation *init = find_op(r, op);
    TF_SessionRun(r->session, NULL, NULL, NULL, 0, NULL, NULL, 0, &init, 1, NULL, r->status);
    check(r, "initialising");
}

/* The batches stay in memory for the life of the process. */
static void keep(void *data, size_t size, void *self) {
    (void)data, (void)size, (void)self;
}

static void make_feeds(raw *r, const side_arguments *a) {
    const int64_t x_dims[] = {SIDE_BATCH, SIDE_FEATURES}, y_dims[] = {SIDE_BATCH};
    const size_t x_elements = SIDE_BATCH * SIDE_FEATURES, y_elements = SIDE_BATCH;
    side_batches data = side_read_batches(a->data);

    r->feeds[0] = find_tensor(r, a->x);
    r->feeds[1] = find_tensor(r, a->y);
    r->batches = calloc(data.count, sizeof *r->batches);
    r->batch_count = data.count;
    for (size_t i = 0; i < data.count; i++) {
        r->batches[i][0] = TF_NewTensor(TF_FLOAT, x_dims, 2, data.x + i * x_elements,
                                        x_elements * sizeof *data.x, keep, NULL);
        r->batches[i][1] = TF_NewTensor(TF_INT64, y_dims, 1, data.y + i * y_elements,
                                        y_elements * sizeof *data.y, keep, NULL);
    }
}

static void run_step(const raw *r, long i) {
    TF_Tensor *fetched = NULL;
    TF_Tensor **fed = r->batch_count ? r->batches[(size_t)i % r->batch_count] : NULL;

    TF_SessionRun(r->session, r->run_options, r->feeds, fed, r->batch_count ? 2 : 0, &r->fetch,
                  &fetched, 1, &r->target, r->target_count, NULL, r->status);
    check(r, "a step");
    TF_DeleteTensor(fetched);
}

int main(int argc, char **argv) {
    /* RunOptions with inter_op_thread_pool = -1: the calling thread. */
    static const unsigned char calling_thread[] = {0x18, 0xff, 0xff, 0xff, 0xff, 0xff,
                                                   0xff, 0xff, 0xff, 0xff, 0x01};
    side_arguments a;
    raw r = {0};
    double first_step_at = 0, start = 0;

    side_parse(argc, argv, &a);
    r.status = TF_NewStatus();
    r.graph = TF_NewGraph();
    r.run_options = TF_NewBufferFromString(calling_thread, sizeof calling_thread);
    open_session(&r, &a);
    if (a.init)
        initialise(&r, a.init);
    if (a.target) {
        r.target = find_op(&r, a.target);
        r.target_count = 1;
    }
    r.fetch = find_tensor(&r, a.fetch);
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
    side_report(first_step_at, side_now() - start, a.steps);
    return 0;
}
