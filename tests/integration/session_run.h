/* What the tests of savers and sessions over the real TensorFlow share: loading graphs, feeding
 * them, and looking at what lies in a folder afterwards. */
#ifndef BLY_TESTS_SESSION_RUN_H
#define BLY_TESTS_SESSION_RUN_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/file.h"

#include <belay/belay.h>

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define PYTHON SOURCE_ROOT "/.deps/venv/bin/python"

/* ---- errors and log lines ---- */

/* An error for the whole test program; each check clears it. */
static belay_error *err;
/* Every log line since log_start(), one after the other. */
static bly_buf log_text = BLY_BUF_INIT;

static inline void keep_line(void *self, belay_log_level level, const char *message) {
    (void)self;
    bly_buf_printf(&log_text, "%c %s\n", "DIWE"[level], message);
}

static inline void log_start(void) {
    bly_buf_clear(&log_text);
}

static inline int logged(const char *part) {
    return strstr(bly_buf_text(&log_text), part) != NULL;
}

#define assert_logged(part)                                                                        \
    do {                                                                                           \
        if (!logged(part))                                                                         \
            fail_msg("not in the log: %s\n%s", part, bly_buf_text(&log_text));                     \
    } while (0)

#define assert_ok(call)                                                                            \
    do {                                                                                           \
        belay_code code_ = (call);                                                                 \
        if (code_ != BELAY_OK)                                                                     \
            fail_msg("%s: %s: %s", #call, belay_code_name(code_), belay_error_message(err));       \
    } while (0)

/* A call that makes something. */
#define assert_made(made)                                                                          \
    do {                                                                                           \
        if (!(made))                                                                               \
            fail_msg("%s: %s", #made, belay_error_message(err));                                   \
    } while (0)

/* The call fails with this code, and `part` is in the message. */
#define assert_fails(expected, part, call)                                                         \
    do {                                                                                           \
        belay_error_clear(err);                                                                    \
        belay_code code_ = (call);                                                                 \
        assert_error(expected, part, code_, #call);                                                \
        belay_error_clear(err);                                                                    \
    } while (0)

/* The same for a maker. */
#define assert_not_made(expected, part, call)                                                      \
    do {                                                                                           \
        belay_error_clear(err);                                                                    \
        assert_null(call);                                                                         \
        assert_error(expected, part, belay_error_code(err), #call);                                \
        belay_error_clear(err);                                                                    \
    } while (0)

static inline void assert_error(belay_code expected, const char *part, belay_code code,
                                const char *call) {
    if (code != expected || belay_error_code(err) != expected)
        fail_msg("%s: %s instead of %s: %s", call, belay_code_name(code), belay_code_name(expected),
                 belay_error_message(err));
    if (!strstr(belay_error_message(err), part))
        fail_msg("%s: not in the message: %s\n%s", call, part, belay_error_message(err));
}

static inline int session_run_set_up(void **state) {
    (void)state;
    err = belay_error_new();
    belay_log_set_callback(keep_line, NULL, BELAY_LOG_DEBUG);
    bly_remove_directory(TEST_WORK, NULL);
    return bly_make_directories(TEST_WORK, NULL) == BELAY_OK ? 0 : -1;
}

static inline int session_run_tear_down(void **state) {
    (void)state;
    belay_log_set_callback(NULL, NULL, 0);
    belay_error_free(err);
    bly_buf_free(&log_text);
    return 0;
}

/* Lets another thread get somewhere, where nothing tells when it is there. */
static inline void nap_ms(long ms) {
    nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL);
}

/* ---- graphs and tensors ---- */

static inline belay_graph *load(const char *name) {
    char path[512];
    snprintf(path, sizeof path, TEST_GRAPHS "/%s", name);
    belay_graph *graph = belay_graph_load(path, NULL, err);
    assert_made(graph);
    return graph;
}

static inline belay_tensor *tensor_of(belay_dtype dtype, const int64_t *dims, uint32_t rank) {
    belay_tensor *tensor = belay_tensor_new(dtype, dims, rank, err);
    assert_made(tensor);
    return tensor;
}

static inline belay_tensor *scalar(float value) {
    belay_tensor *tensor = tensor_of(BELAY_FLOAT, NULL, 0);
    *(float *)belay_tensor_data(tensor) = value;
    return tensor;
}

#define ROWS 8

/* Rows of `width` inputs; their targets 1 x0 + 2 x1 + 3 x2 + 4 x3; and a number below `classes` for
 * each. */
static inline belay_tensor *rows_x(int64_t width) {
    belay_tensor *x = tensor_of(BELAY_FLOAT, (int64_t[]){ROWS, width}, 2);
    float *data = belay_tensor_data(x);
    for (int64_t i = 0; i < ROWS * width; i++)
        data[i] = (float)((i * 7) % 11) / 11;
    return x;
}

static inline belay_tensor *rows_y(void) {
    belay_tensor *x = rows_x(4), *y = tensor_of(BELAY_FLOAT, (int64_t[]){ROWS}, 1);
    for (size_t i = 0; i < ROWS; i++) {
        const float *row = (const float *)belay_tensor_data(x) + 4 * i;
        ((float *)belay_tensor_data(y))[i] = row[0] + 2 * row[1] + 3 * row[2] + 4 * row[3];
    }
    belay_tensor_free(x);
    return y;
}

static inline belay_tensor *rows_id(int64_t classes) {
    belay_tensor *ids = tensor_of(BELAY_INT64, (int64_t[]){ROWS}, 1);
    for (int64_t i = 0; i < ROWS; i++)
        ((int64_t *)belay_tensor_data(ids))[i] = i % classes;
    return ids;
}

/* How a graph of tests/graphs is trained. */
struct model {
    const char *path;
    const char *signature; /* NULL: op `train` */
    const char *feeds[3];  /* names; of the signature where there is one */
    char kinds[3];         /* x: rows of 4, X: rows of 64, y: targets, i: numbers below 3 */
    const char *loss;      /* NULL: it has none */
    const char *witness;   /* never trained, and initialised without a seed; NULL: none */
};

static const struct model models[] = {
    {"tiny.meta", NULL, {NULL}, "", NULL, NULL},
    {"tiny_final.meta", NULL, {NULL}, "", NULL, NULL},
    {"mlp.meta", NULL, {"x", "y", NULL}, "Xi", "loss", "marker"},
    {"mlp_bare.meta", NULL, {"x", "y", NULL}, "Xi", "loss", "marker"},
    {"refvars.meta", NULL, {"x", "y", NULL}, "xy", "loss", "marker"},
    {"partitioned.meta", NULL, {"ids", NULL}, "i", "loss", "marker"},
    {"queue.meta", NULL, {NULL}, "", "loss", "marker"},
    {"table.meta", NULL, {"ids", NULL}, "i", "loss", "marker"},
    {"while.meta", NULL, {NULL}, "", "loss", "marker"},
    {"while_v2.meta", NULL, {NULL}, "", "loss", "marker"},
    {"dataset.meta", NULL, {NULL}, "", "loss", "marker"},
    {"dataset_one_shot.meta", NULL, {NULL}, "", "loss", "marker"},
    {"no_step.meta", NULL, {"x", "y", NULL}, "xy", "loss", "marker"},
    {"plain_saver.meta", NULL, {"x", "y", NULL}, "xy", "loss", "marker"},
    {"sharded_saver.meta", NULL, {"x", "y", NULL}, "xy", "loss", "marker"},
    {"int32_step.meta", NULL, {NULL}, "", NULL, "marker"},
    {"summaries.meta", NULL, {"x", "y", NULL}, "xy", "loss", "marker"},
    {"tf1_saved_model", NULL, {"ids", NULL}, "i", "loss", "marker"},
    {"keras_small", "train", {"x", "y", NULL}, "xi", "loss", NULL},
    {"module", "train", {"x", "y", NULL}, "xy", "loss", "marker"},
    {"fixed_batch", "train", {"x", "y", NULL}, "xy", "loss", "marker"},
    {"module_table", "train", {"ids", NULL}, "i", "loss", NULL},
};

static inline const struct model *model_of(const char *path) {
    for (size_t i = 0; i < sizeof models / sizeof models[0]; i++)
        if (strcmp(models[i].path, path) == 0)
            return &models[i];
    fail_msg("no model %s", path);
    return NULL;
}

/* What a signature calls `name`, as a tensor of the graph. */
static inline const char *in_signature(const belay_graph *graph, const char *signature, int output,
                                       const char *name) {
    size_t count = output ? belay_graph_signature_output_count(graph, signature)
                          : belay_graph_signature_input_count(graph, signature);
    for (size_t i = 0; i < count; i++) {
        const belay_signature_tensor *t = output ? belay_graph_signature_output(graph, signature, i)
                                                 : belay_graph_signature_input(graph, signature, i);
        if (strcmp(t->name, name) == 0)
            return t->tensor;
    }
    fail_msg("%s: signature %s has no %s", belay_graph_path(graph), signature, name);
    return NULL;
}

/* A model ready to be trained: its graph, which counts steps, and what a step takes. */
struct trainee {
    const struct model *model;
    belay_graph *graph;
    const char *feeds[3];
    belay_tensor *inputs[3];
    const char *fetches[2];
    belay_tensor *loss;
    const char *targets[2];
};

static inline belay_tensor *feed_of(char kind) {
    switch (kind) {
    case 'x':
        return rows_x(4);
    case 'X':
        return rows_x(64);
    case 'y':
        return rows_y();
    default:
        return rows_id(3);
    }
}

static inline struct trainee trainee_load(const char *path) {
    struct trainee t = {.model = model_of(path), .graph = load(path)};
    const char *signature = t.model->signature;
    for (size_t i = 0; t.model->feeds[i]; i++) {
        t.feeds[i] =
            signature ? in_signature(t.graph, signature, 0, t.model->feeds[i]) : t.model->feeds[i];
        t.inputs[i] = feed_of(t.model->kinds[i]);
    }
    if (t.model->loss)
        t.fetches[0] =
            signature ? in_signature(t.graph, signature, 1, t.model->loss) : t.model->loss;
    if (!signature)
        t.targets[0] = "train";
    if (!belay_graph_global_step_name(t.graph))
        assert_ok(belay_graph_create_global_step(t.graph, signature ? t.fetches : t.targets, err));
    return t;
}

static inline void trainee_free(struct trainee *t) {
    for (size_t i = 0; i < 3; i++)
        belay_tensor_free(t->inputs[i]);
    belay_tensor_free(t->loss);
    belay_graph_free(t->graph);
}

static inline belay_step *trainee_step(struct trainee *t, belay_monitored_session *session) {
    belay_step *step = belay_step_prepare(session, t->feeds, t->fetches, t->targets, err);
    assert_made(step);
    return step;
}

/* Runs `count` steps, all of which must go well. */
static inline void train(struct trainee *t, belay_step *step, int count) {
    for (int i = 0; i < count; i++)
        assert_ok(belay_step_run(step, t->inputs, &t->loss, err));
}

/* ---- plain sessions ---- */

static inline belay_session *open_plain(belay_graph *graph) {
    belay_session *session = belay_session_open(graph, NULL, err);
    assert_made(session);
    return session;
}

static inline void run_op(belay_session *session, const char *op) {
    assert_ok(
        belay_session_run(session, NULL, NULL, NULL, NULL, (const char *[]){op, NULL}, NULL, err));
}

static inline belay_tensor *fetch(belay_session *session, const char *name) {
    belay_tensor *value = NULL;
    assert_ok(belay_session_run(session, NULL, NULL, (const char *[]){name, NULL}, &value, NULL,
                                NULL, err));
    return value;
}

static inline double fetch_number(belay_session *session, const char *name, int64_t index) {
    belay_tensor *value = fetch(session, name);
    double number = belay_tensor_number(value, index);
    belay_tensor_free(value);
    return number;
}

static inline int64_t step_of(belay_session *session) {
    int64_t step;
    assert_ok(belay_session_global_step(session, &step, err));
    return step;
}

/* A session as a chief opens it: scaffold, and prepare_session. */
struct prepared {
    belay_graph *graph;
    belay_scaffold *scaffold;
    belay_session_manager *manager;
    belay_session *session;
    uint32_t restored;
};

static inline belay_session_manager *manager_of(belay_graph *graph, belay_scaffold *scaffold) {
    belay_session_manager_options options = BELAY_SESSION_MANAGER_OPTIONS_INIT;
    options.local_init_op = belay_scaffold_local_init_op(scaffold);
    options.ready_op = belay_scaffold_ready_op(scaffold);
    options.ready_for_local_init_op = belay_scaffold_ready_for_local_init_op(scaffold);
    belay_session_manager *manager = belay_session_manager_new(graph, &options, err);
    assert_made(manager);
    return manager;
}

/* Everything but the session, which the test opens itself. `graph` is given. */
static inline struct prepared chief_of(belay_graph *graph) {
    struct prepared p = {.graph = graph, .scaffold = belay_scaffold_new(graph, NULL, err)};
    assert_made(p.scaffold);
    assert_ok(belay_scaffold_finalize(p.scaffold, err));
    p.manager = manager_of(graph, p.scaffold);
    return p;
}

static inline belay_prepare_options prepare_options_of(const struct prepared *p, const char *dir) {
    belay_prepare_options options = BELAY_PREPARE_OPTIONS_INIT;
    options.init_op = belay_scaffold_init_op(p->scaffold);
    options.saver = belay_scaffold_saver(p->scaffold);
    options.checkpoint_dir = dir;
    return options;
}

/* `dir` may be NULL: nothing is restored. */
static inline struct prepared prepare(belay_graph *graph, const char *dir) {
    struct prepared p = chief_of(graph);
    belay_prepare_options options = prepare_options_of(&p, dir);
    p.session = belay_session_manager_prepare_session(p.manager, &options, &p.restored, err);
    assert_made(p.session);
    return p;
}

static inline void prepared_free(struct prepared *p) {
    belay_session_free(p->session);
    belay_session_manager_free(p->manager);
    belay_scaffold_free(p->scaffold);
    belay_graph_free(p->graph);
    *p = (struct prepared){0};
}

/* ---- files ---- */

/* A fresh folder of the test's own. The last few results stay valid. */
static inline const char *work_folder(const char *name) {
    static char paths[8][512];
    static size_t next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], TEST_WORK "/%s", name);
    bly_remove_directory(path, NULL);
    assert_int_equal(bly_make_directories(path, NULL), BELAY_OK);
    return path;
}

/* "folder/name"; the last few results stay valid. */
static inline const char *in_folder(const char *folder, const char *name) {
    static char paths[16][4400];
    static size_t next;
    char *path = paths[next++ % 16];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static inline int has_file(const char *folder, const char *name) {
    return bly_file_exists(in_folder(folder, name));
}

/* Content of a file; the caller frees the buffer. */
static inline bly_buf read_file(const char *path) {
    bly_buf content = BLY_BUF_INIT;
    BLY_LOCAL_ERROR(mine);
    if (bly_file_read(path, (size_t)1 << 30, &content, &mine) != BELAY_OK)
        fail_msg("%s", mine.message);
    return content;
}

static inline void write_file(const char *path, const void *data, size_t len) {
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, len, file), len);
    assert_int_equal(fclose(file), 0);
}

static inline void write_text(const char *path, const char *text) {
    write_file(path, text, strlen(text));
}

static inline void flip_byte(const char *path, size_t at) {
    bly_buf content = read_file(path);
    assert_true(at < content.len);
    content.data[at] ^= 0x40;
    write_file(path, content.data, content.len);
    bly_buf_free(&content);
}

static inline void cut_in_half(const char *path) {
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(truncate(path, info.st_size / 2), 0);
}

static inline belay_code put_entry(void *self, const char *name, belay_error *ignored) {
    (void)ignored;
    bly_buf_printf(self, "%s\n", name);
    return BELAY_OK;
}

/* The names in a folder, sorted, one a line; the caller frees the buffer. */
static inline bly_buf list_folder(const char *folder) {
    bly_buf names = BLY_BUF_INIT;
    assert_int_equal(bly_directory_list(folder, put_entry, &names, NULL), BELAY_OK);
    return names;
}

static inline belay_code put_content(void *self, const char *name, belay_error *ignored) {
    bly_buf *out = ((void **)self)[0];
    const char *path = in_folder(((void **)self)[1], name);
    (void)ignored;
    if (bly_is_directory(path)) {
        bly_buf_printf(out, "%s is a folder\n", name);
        return BELAY_OK;
    }
    bly_buf content = read_file(path);
    bly_buf_printf(out, "%s %zu ", name, content.len);
    bly_buf_append(out, content.data, content.len);
    bly_buf_putc(out, '\n');
    bly_buf_free(&content);
    return BELAY_OK;
}

/* Names and bytes of everything in a folder: two that are equal say that nothing changed. */
static inline bly_buf photograph(const char *folder) {
    bly_buf picture = BLY_BUF_INIT;
    void *self[] = {&picture, (void *)(uintptr_t)folder};
    assert_int_equal(bly_directory_list(folder, put_content, self, NULL), BELAY_OK);
    return picture;
}

static inline void assert_unchanged(bly_buf *before, const char *folder) {
    bly_buf after = photograph(folder), names = list_folder(folder);
    if (before->len != after.len || memcmp(before->data, after.data, after.len) != 0)
        fail_msg("%s has changed; it now holds\n%s", folder, bly_buf_text(&names));
    bly_buf_free(&after);
    bly_buf_free(&names);
    bly_buf_free(before);
}

/* The folder holds these and nothing else: one name a line, sorted. */
static inline void assert_folder(const char *folder, const char *expected) {
    bly_buf names = list_folder(folder);
    assert_string_equal(bly_buf_text(&names), expected);
    bly_buf_free(&names);
}

/* ---- Python ---- */

/* Runs a script of tests/python with these arguments, which contain no blanks. */
static inline void run_python(const char *script, const char *arguments) {
    char command[4096];
    /* A sanitizer that this program is built with must not be loaded into Python. */
    snprintf(command, sizeof command,
             "env -u LD_PRELOAD " PYTHON " " SOURCE_ROOT "/tests/python/%s %s > %s 2>&1", script,
             arguments, TEST_WORK "/python.log");
    if (system(command) != 0) {
        bly_buf output = read_file(TEST_WORK "/python.log");
        fail_msg("%s %s\n%s", script, arguments, bly_buf_text(&output));
    }
}

#endif
