/* Restoring over the real TensorFlow: which checkpoint is taken, and what becomes of those that are
 * damaged or not ours. */
#define _DEFAULT_SOURCE /* utimensat's constants */
#include "session_run.h"

#include "checkpoint/saver.h"
#include "graph/graph.h"

#include <belay/checkpoint.h>

#include <fcntl.h>

static belay_code start_in(belay_graph *graph, const char *folder, struct prepared *out) {
    struct prepared p = chief_of(graph);
    belay_prepare_options options = prepare_options_of(&p, folder);
    belay_error_clear(err);
    p.session = belay_session_manager_prepare_session(p.manager, &options, &p.restored, err);
    *out = p;
    return p.session ? BELAY_OK : belay_error_code(err);
}

static void save_at(struct prepared *p, const char *folder, int64_t step) {
    assert_ok(belay_saver_save(belay_scaffold_saver(p->scaffold), p->session,
                               in_folder(folder, "model.ckpt"), step, NULL, NULL, err));
}

/* A run of plain_saver.meta with checkpoints of steps 1, 2 and 3. Its marker, which was initialised
 * once, is kept in *out_marker. */
static const char *make_run(const char *name, double *out_marker) {
    const char *folder = work_folder(name);
    struct prepared p = prepare(load("plain_saver.meta"), NULL);
    for (int64_t step = 1; step <= 3; step++) {
        belay_tensor *inputs[] = {rows_x(4), rows_y()};
        assert_ok(belay_session_run(p.session, (const char *[]){"x", "y", NULL}, inputs, NULL, NULL,
                                    (const char *[]){"train", NULL}, NULL, err));
        belay_tensor_free(inputs[0]);
        belay_tensor_free(inputs[1]);
        save_at(&p, folder, step);
    }
    if (out_marker)
        *out_marker = fetch_number(p.session, "marker", 0);
    prepared_free(&p);
    return folder;
}

/* The folder is opened, and goes on from this step of the run that `marker` tells. */
static void assert_goes_on_from(const char *folder, int64_t step, double marker) {
    struct prepared p;
    log_start();
    assert_ok(start_in(load("plain_saver.meta"), folder, &p));
    assert_int_equal(p.restored, 1);
    assert_int_equal(step_of(p.session), step);
    assert_true(fetch_number(p.session, "marker", 0) == marker);
    prepared_free(&p);
}

static void assert_refused(const char *folder, belay_code code, const char *part) {
    struct prepared p;
    bly_buf before = photograph(folder);
    belay_code got = start_in(load("plain_saver.meta"), folder, &p);
    assert_error(code, part, got, "prepare");
    belay_error_clear(err);
    assert_int_equal(p.restored, 0);
    assert_unchanged(&before, folder);
    prepared_free(&p);
}

/* ---- one checkpoint ---- */

/* SV-40, SV-41, SV-42, ER-17. */
static void test_saver_restore__needs_no_initialisation_and_an_existing_checkpoint(void **state) {
    (void)state;
    const char *folder = make_run("one", NULL);
    struct prepared p = chief_of(load("plain_saver.meta"));
    belay_saver *saver = belay_scaffold_saver(p.scaffold);
    p.session = open_plain(p.graph);
    assert_fails(BELAY_INVALID_ARGUMENT, "None", belay_saver_restore(saver, p.session, NULL, err));
    assert_fails(BELAY_NOT_FOUND, "The passed save_path is not a valid checkpoint: ",
                 belay_saver_restore(saver, p.session, in_folder(folder, "model.ckpt-9"), err));
    assert_fails(BELAY_DATA_LOSS, "is a folder, and no checkpoint",
                 belay_saver_restore(saver, p.session, folder, err));
    log_start();
    assert_ok(belay_saver_restore(saver, p.session, in_folder(folder, "model.ckpt-2"), err));
    assert_logged("Restoring parameters from ");
    assert_int_equal(step_of(p.session), 2);
    assert_string_equal(bly_saver_restored_prefix(saver), in_folder(folder, "model.ckpt-2"));
    assert_int_equal(belay_saver_last_checkpoint_count(saver), 0); /* SM-07 */
    prepared_free(&p);
}

/* Every byte is checked before one is restored: the session is as it was. */
static void
test_saver_restore__refuses_a_damaged_checkpoint_before_it_changes_anything(void **state) {
    (void)state;
    const char *folder = make_run("damaged_one", NULL);
    struct prepared p = prepare(load("plain_saver.meta"), NULL);
    belay_saver *saver = belay_scaffold_saver(p.scaffold);
    double marker = fetch_number(p.session, "marker", 0);
    flip_byte(in_folder(folder, "model.ckpt-3.data-00000-of-00001"), 30);
    cut_in_half(in_folder(folder, "model.ckpt-2.index"));
    assert_int_equal(unlink(in_folder(folder, "model.ckpt-1.data-00000-of-00001")), 0);
    assert_fails(BELAY_DATA_LOSS, "model.ckpt-3.data-00000-of-00001",
                 belay_saver_restore(saver, p.session, in_folder(folder, "model.ckpt-3"), err));
    assert_fails(BELAY_DATA_LOSS, "model.ckpt-2.index",
                 belay_saver_restore(saver, p.session, in_folder(folder, "model.ckpt-2"), err));
    assert_fails(BELAY_DATA_LOSS, "model.ckpt-1.data-00000-of-00001",
                 belay_saver_restore(saver, p.session, in_folder(folder, "model.ckpt-1"), err));
    assert_int_equal(step_of(p.session), 0);
    assert_true(fetch_number(p.session, "marker", 0) == marker);
    prepared_free(&p);
}

/* Saves a graph's variables as `folder`/m, and restores them into another graph. */
static belay_code restore_into(const char *from, const char *to) {
    const char *folder = work_folder("foreign");
    struct prepared p = prepare(load(from), NULL);
    assert_ok(belay_saver_save(belay_scaffold_saver(p.scaffold), p.session, in_folder(folder, "m"),
                               BELAY_NO_STEP, NULL, NULL, err));
    prepared_free(&p);
    p = prepare(load(to), NULL);
    bly_buf before = photograph(folder);
    uint32_t has_marker = belay_graph_has_op(p.graph, "marker");
    double marker = has_marker ? fetch_number(p.session, "marker", 0) : 0;
    belay_error_clear(err);
    belay_code code = belay_saver_restore(belay_scaffold_saver(p.scaffold), p.session,
                                          in_folder(folder, "m"), err);
    if (has_marker)
        assert_true(fetch_number(p.session, "marker", 0) == marker);
    assert_unchanged(&before, folder);
    prepared_free(&p);
    return code;
}

/* SV-43, SV-45, SV-46, ER-18, ER-19, BUG-29. */
static void test_saver_restore__refuses_the_checkpoint_of_another_model(void **state) {
    (void)state;
    belay_code code = restore_into("tiny.meta", "plain_saver.meta");
    assert_error(BELAY_NOT_FOUND, "Restoring from checkpoint failed.", code, "a key is missing");
    assert_error(BELAY_NOT_FOUND, "'b'", code, "a key is missing");
    code = restore_into("refvars.meta", "mlp_bare.meta");
    assert_error(BELAY_NOT_FOUND, "Restoring from checkpoint failed.", code, "keys are missing");
    code = restore_into("int32_step.meta", "tiny.meta");
    assert_error(BELAY_INVALID_ARGUMENT, "is int32 [] there, int64 [] in the graph", code, "dtype");
    code = restore_into("partitioned.meta", "table.meta");
    assert_error(BELAY_INVALID_ARGUMENT, "float32 [10, 4] there, float32 [11, 4] in the graph",
                 code, "shape of a resource variable");
    code = restore_into("table.meta", "partitioned.meta");
    assert_error(BELAY_INVALID_ARGUMENT, "Restoring from checkpoint failed.", code,
                 "shape of a partitioned variable");
    code = restore_into("module", "keras_small");
    assert_error(BELAY_NOT_FOUND, "another model", code, "of another SavedModel");
    code = restore_into("plain_saver.meta", "tiny.meta");
    assert_int_equal(code, BELAY_OK); /* more than is needed does no harm */
    belay_error_clear(err);
}

/* A partitioned variable is one tensor to others: a graph with another partitioning, or none,
 * restores it. Here belay's own reader. */
static void test_saver_restore__puts_the_parts_of_a_variable_back(void **state) {
    (void)state;
    const char *folder = work_folder("parts");
    struct prepared p = prepare(load("partitioned.meta"), NULL);
    belay_tensor *ids = rows_id(10);
    for (int i = 0; i < 3; i++)
        assert_ok(belay_session_run(p.session, (const char *[]){"ids", NULL}, &ids, NULL, NULL,
                                    (const char *[]){"train", NULL}, NULL, err));
    double first = fetch_number(p.session, "embedding/part_0", 0);
    double last = fetch_number(p.session, "embedding/part_2", 0);
    assert_true(first != 0);
    save_at(&p, folder, 3);
    prepared_free(&p);
    float whole[40];
    belay_checkpoint_reader *reader =
        belay_checkpoint_reader_load(in_folder(folder, "model.ckpt-3"), err);
    assert_made(reader);
    assert_ok(belay_checkpoint_reader_read(reader, "embedding", whole, sizeof whole, err));
    assert_true(whole[0] == (float)first);
    assert_true(whole[28] == (float)last);
    belay_checkpoint_reader_free(reader);
    assert_ok(start_in(load("partitioned.meta"), folder, &p));
    assert_true(fetch_number(p.session, "embedding/part_0", 0) == first);
    assert_true(fetch_number(p.session, "embedding/part_2", 0) == last);
    belay_tensor_free(ids);
    prepared_free(&p);
}

/* ---- what belay did not write ---- */

#define FOREIGN TEST_WORK "/foreign_checkpoints"

/* What Python left: w = 1 2 3 4, b = 5, marker = 6 7 8 9, global_step = 42. */
static const char *foreign(const char *name) {
    static int made;
    if (!made) {
        assert_int_equal(bly_make_directories(FOREIGN, NULL), BELAY_OK);
        run_python("foreign_checkpoints.py", TEST_GRAPHS " " FOREIGN);
        made = 1;
    }
    return in_folder(FOREIGN, name);
}

/* Each kind of saver: one that came with the graph, and one that belay builds. */
static void assert_restores_foreign(const char *graph, const char *name) {
    struct prepared p = chief_of(load(graph));
    p.session = open_plain(p.graph);
    assert_ok(belay_saver_restore(belay_scaffold_saver(p.scaffold), p.session, foreign(name), err));
    assert_int_equal(step_of(p.session), 42);
    assert_true(fetch_number(p.session, "w", 3) == 4);
    assert_true(fetch_number(p.session, "b", 0) == 5);
    assert_true(fetch_number(p.session, "marker", 0) == 6);
    prepared_free(&p);
}

/* SV-48. */
static void test_saver_restore__takes_checkpoints_of_the_old_format(void **state) {
    (void)state;
    log_start();
    assert_restores_foreign("plain_saver.meta", "v1");
    assert_logged("I " FOREIGN "/v1 is of the old V1 format");
    assert_restores_foreign("sharded_saver.meta", "v1");
    assert_restores_foreign("two_trains.meta", "v1"); /* no saver of its own */
    struct prepared p = prepare(load("plain_saver.meta"), NULL);
    belay_saver *saver = belay_scaffold_saver(p.scaffold);
    double marker = fetch_number(p.session, "marker", 0);
    assert_fails(BELAY_INVALID_ARGUMENT, "float32 [2, 2] there, float32 [4] in the graph",
                 belay_saver_restore(saver, p.session, foreign("v1_wide"), err));
    bly_buf bytes = read_file(foreign("v1"));
    for (size_t at = 0; at < bytes.len - 48; at += 7) { /* before the last 48: those pad */
        write_file(in_folder(FOREIGN, "v1_damaged"), bytes.data, bytes.len);
        flip_byte(in_folder(FOREIGN, "v1_damaged"), at);
        assert_fails(BELAY_DATA_LOSS, "v1_damaged",
                     belay_saver_restore(saver, p.session, foreign("v1_damaged"), err));
    }
    write_text(in_folder(FOREIGN, "v1_damaged"), "");
    assert_fails(BELAY_DATA_LOSS, "v1_damaged",
                 belay_saver_restore(saver, p.session, foreign("v1_damaged"), err));
    assert_true(fetch_number(p.session, "marker", 0) == marker);
    bly_buf_free(&bytes);
    prepared_free(&p);
}

/* A run goes on from a folder of the old format, and saves in the new one. */
static void test_restore__goes_on_from_a_folder_of_the_old_format(void **state) {
    (void)state;
    const char *folder = work_folder("old_format");
    bly_buf bytes = read_file(foreign("v1"));
    write_file(in_folder(folder, "model.ckpt-42"), bytes.data, bytes.len);
    bly_buf_free(&bytes);
    write_text(in_folder(folder, "checkpoint"), "model_checkpoint_path: \"model.ckpt-42\"\n");
    assert_goes_on_from(folder, 42, 6);
    struct prepared p;
    assert_ok(start_in(load("plain_saver.meta"), folder, &p));
    save_at(&p, folder, 43);
    prepared_free(&p);
    assert_true(has_file(folder, "model.ckpt-43.index"));
    assert_goes_on_from(folder, 42, 6);
    assert_true(has_file(folder, "model.ckpt-42"));
}

/* SV-43, SV-44: what tf.train.Checkpoint saved, by the names its variables had. */
static void test_saver_restore__maps_the_keys_of_an_object_based_checkpoint(void **state) {
    (void)state;
    log_start();
    assert_restores_foreign("plain_saver.meta", "object-1");
    assert_logged("W " FOREIGN "/object-1 is a checkpoint of objects");
    assert_restores_foreign("sharded_saver.meta", "object-1");
    assert_restores_foreign("two_trains.meta", "object-1");
    struct prepared p = prepare(load("refvars.meta"), NULL); /* has more than those */
    double marker = fetch_number(p.session, "marker", 0);
    assert_fails(
        BELAY_NOT_FOUND, "Restoring from checkpoint failed.",
        belay_saver_restore(belay_scaffold_saver(p.scaffold), p.session, foreign("object-1"), err));
    assert_true(fetch_number(p.session, "marker", 0) == marker);
    prepared_free(&p);
}

/* SV-47. */
static void test_saver_restore__reshapes_where_asked_to(void **state) {
    (void)state;
    static const char *const marker[] = {"marker", NULL}, *const b[] = {"b", NULL};
    belay_graph *graph = load("two_trains.meta");
    belay_saver_options options = BELAY_SAVER_OPTIONS_INIT;
    options.flags = BELAY_SAVER_BUILD;
    options.variables = marker;
    belay_saver *strict = belay_saver_new(graph, &options, err);
    assert_made(strict);
    options.flags |= BELAY_SAVER_RESHAPE;
    belay_saver *saver = belay_saver_new(graph, &options, err);
    assert_made(saver);
    options.variables = b;
    options.keys = marker;
    belay_saver *other = belay_saver_new(graph, &options, err);
    assert_made(other);
    /* The same ops as if the graph had come with them: nobody said then that they reshape. */
    uint8_t bytes[512];
    size_t len = bly__saver_def__pack(bly_saver_def(saver), bytes);
    assert_ok(bly_graph_add_bytes_to_collection(graph, "savers", bytes, len, err));
    belay_saver *own = belay_saver_new(graph, NULL, err);
    assert_made(own);
    belay_session *session = open_plain(graph);
    assert_fails(BELAY_INVALID_ARGUMENT, "float32 [2, 2] there, float32 [4] in the graph",
                 belay_saver_restore(strict, session, foreign("square"), err));
    assert_ok(belay_saver_restore(saver, session, foreign("square"), err));
    assert_true(fetch_number(session, "marker", 3) == 9);
    assert_ok(belay_session_run(session, NULL, NULL, NULL, NULL,
                                (const char *[]){"marker/Assign", NULL}, NULL, err));
    assert_true(fetch_number(session, "marker", 3) != 9);
    assert_ok(belay_saver_restore(own, session, foreign("square"), err));
    assert_true(fetch_number(session, "marker", 3) == 9);
    assert_fails(BELAY_INVALID_ARGUMENT, "float32 [2, 2] there, float32 [] in the graph",
                 belay_saver_restore(other, session, foreign("square"), err));
    belay_session_free(session);
    belay_saver_free(strict);
    belay_saver_free(saver);
    belay_saver_free(other);
    belay_saver_free(own);
    belay_graph_free(graph);
}

/* SV-12: the names of the SaverDef lie in the scope that the graph was imported under. */
static void test_saver_new__finds_its_ops_in_a_name_scope(void **state) {
    (void)state;
    foreign("v1");
    belay_graph *graph = belay_graph_load(FOREIGN "/scoped.meta", NULL, err);
    assert_made(graph);
    assert_not_made(BELAY_INVALID_ARGUMENT, "its SaverDef cannot be used",
                    belay_saver_new(graph, NULL, err));
    belay_saver_options options = BELAY_SAVER_OPTIONS_INIT;
    options.import_scope = "imported";
    belay_saver *saver = belay_saver_new(graph, &options, err);
    assert_made(saver);
    assert_string_equal(bly_saver_def(saver)->save_tensor_name,
                        "imported/save/control_dependency:0");
    belay_session *session = open_plain(graph);
    assert_ok(belay_saver_restore(saver, session, foreign("v1"), err)); /* keys have no scope */
    assert_true(fetch_number(session, "imported/marker", 1) == 7);
    belay_session_free(session);
    belay_saver_free(saver);
    belay_graph_free(graph);
}

/* ---- warm start ---- */

static belay_code warm_start(belay_session *session, const char *name,
                             const char *const *assignments, belay_warm_start_report **out) {
    belay_warm_start_options options = BELAY_WARM_START_OPTIONS_INIT;
    options.assignments = assignments;
    return belay_warm_start(session, foreign(name), &options, out, err);
}

/* One line a word: "b<-old/b", "w<-" for what stays, "<-old/w" for what nothing takes. */
static void assert_report(belay_warm_start_report *report, const char *expected) {
    bly_buf text = BLY_BUF_INIT;
    for (size_t i = 0; i < belay_warm_start_report_count(report); i++) {
        const belay_warm_start_entry *entry = belay_warm_start_report_at(report, i);
        assert_int_equal(entry->outcome, !entry->variable ? BELAY_WARM_START_IGNORED
                                         : !entry->key    ? BELAY_WARM_START_INITIALIZED
                                                          : BELAY_WARM_START_RESTORED);
        bly_buf_printf(&text, "%s<-%s ", entry->variable ? entry->variable : "",
                       entry->key ? entry->key : "");
    }
    assert_string_equal(bly_buf_text(&text), expected);
    bly_buf_free(&text);
    belay_warm_start_report_free(report);
}

/* SV-02, SV-14: subsets and renamings, on a graph that is final. */
static void test_warm_start__restores_what_it_is_asked_to(void **state) {
    (void)state;
    static const char *const by_name[] = {"old/w", "w", "old/marker", "marker", NULL};
    static const char *const by_scope[] = {"old/", "/", NULL}, *const all[] = {"/", "/", NULL};
    static const char *const graphs[] = {"refvars.meta", "plain_saver.meta", "no_step.meta"};
    static const char *const momentum[] = {"w", "w/Momentum", NULL};
    for (size_t i = 0; i < sizeof graphs / sizeof graphs[0]; i++) {
        belay_warm_start_report *report = NULL;
        struct prepared p = prepare(load(graphs[i]), NULL);
        assert_ok(warm_start(p.session, "old", by_name, NULL));
        assert_true(fetch_number(p.session, "w", 2) == 3);
        assert_true(fetch_number(p.session, "marker", 2) == 8);
        assert_true(fetch_number(p.session, "b", 0) == 0);
        assert_ok(warm_start(p.session, "old", by_scope, &report));
        assert_true(fetch_number(p.session, "b", 0) == 5);
        if (i == 1)
            assert_report(report, "global_step<- marker<-old/marker w<-old/w b<-old/b ");
        else
            belay_warm_start_report_free(report);
        prepared_free(&p);
    }
    struct prepared p = prepare(load("refvars.meta"), NULL);
    belay_warm_start_report *report = NULL;
    double marker = fetch_number(p.session, "marker", 0);
    log_start();
    assert_ok(warm_start(p.session, "v1", NULL, &report)); /* what is trained */
    assert_logged("Warm start from " FOREIGN "/v1: 2 of 6 variables restored");
    assert_true(fetch_number(p.session, "w", 0) == 1);
    assert_true(fetch_number(p.session, "marker", 0) == marker);
    assert_int_equal(step_of(p.session), 0);
    assert_report(report, "global_step<- marker<- w<-w b<-b w/Momentum<- b/Momentum<- "
                          "<-global_step <-marker ");
    assert_ok(warm_start(p.session, "object-1", all, &report));
    assert_int_equal(step_of(p.session), 42);
    assert_true(fetch_number(p.session, "marker", 0) == 6);
    assert_true(belay_warm_start_report_count(report) > 6); /* save_counter */
    belay_warm_start_report_free(report);
    assert_ok(warm_start(p.session, "v1", momentum, NULL));
    assert_true(fetch_number(p.session, "w/Momentum", 1) == 2);
    prepared_free(&p);
}

static void test_warm_start__changes_nothing_where_something_does_not_fit(void **state) {
    (void)state;
    static const struct {
        const char *checkpoint;
        const char *assignments[5];
        belay_code code;
        const char *part;
    } cases[] = {
        {"old", {"old/w", "w", "old/v", "b"}, BELAY_NOT_FOUND, "has no 'old/v'"},
        {"old", {"old/w", "w", "old/b", "marked"}, BELAY_NOT_FOUND, "did you mean 'marker'?"},
        {"old", {"old/w", "w", "old/b", "marker"}, BELAY_INVALID_ARGUMENT, "float32 [] there"},
        {"v1", {"w", "w", "global_step", "b"}, BELAY_INVALID_ARGUMENT, "int64 [] there"},
        {"square", {"/", "/"}, BELAY_INVALID_ARGUMENT, "float32 [2, 2] there"},
        {"old", {"old/w", "w", "old/marker", "w"}, BELAY_INVALID_ARGUMENT, "two of them"},
        {"old", {"old/w", "w", "old/"}, BELAY_INVALID_ARGUMENT, "its other half"},
        {"old", {"old/", "w"}, BELAY_INVALID_ARGUMENT, "two names or two scopes"},
        {"old", {"old/", "new/"}, BELAY_NOT_FOUND, "the scope 'new/'"},
        {"old", {"older/", "/"}, BELAY_NOT_FOUND, "holds nothing"},
        {"not_there", {"/", "/"}, BELAY_NOT_FOUND, "is not a valid checkpoint"},
    };
    struct prepared p = prepare(load("plain_saver.meta"), NULL);
    double marker = fetch_number(p.session, "marker", 0);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        belay_warm_start_report *report = (void *)&p;
        assert_fails(cases[i].code, cases[i].part,
                     warm_start(p.session, cases[i].checkpoint, cases[i].assignments, &report));
        assert_null(report);
        assert_true(fetch_number(p.session, "w", 0) == 0);
        assert_true(fetch_number(p.session, "marker", 0) == marker);
    }
    assert_fails(BELAY_NOT_FOUND, "holds nothing", warm_start(p.session, "old", NULL, NULL));
    bly_buf bytes = read_file(foreign("old.index"));
    write_file(in_folder(FOREIGN, "cut.index"), bytes.data, bytes.len / 2);
    bly_buf_free(&bytes);
    assert_fails(BELAY_DATA_LOSS, "cut.index", warm_start(p.session, "cut", NULL, NULL));
    assert_fails(BELAY_INVALID_ARGUMENT, "session", belay_warm_start(NULL, "m", NULL, NULL, err));
    assert_fails(BELAY_INVALID_ARGUMENT, "prefix",
                 belay_warm_start(p.session, NULL, NULL, NULL, err));
    belay_warm_start_options options = {3, NULL};
    assert_fails(BELAY_INVALID_ARGUMENT, "struct_size",
                 belay_warm_start(p.session, "m", &options, NULL, err));
    belay_warm_start_report_free(NULL);
    assert_int_equal(belay_warm_start_report_count(NULL), 0);
    assert_null(belay_warm_start_report_at(NULL, 0));
    prepared_free(&p);
}

/* A partitioned variable starts from a whole one, and a shape that is not the whole's is refused.
 */
static void test_warm_start__fills_the_parts_of_a_variable(void **state) {
    (void)state;
    static const char *const embedding[] = {"embedding", "embedding", NULL};
    belay_warm_start_options options = BELAY_WARM_START_OPTIONS_INIT;
    const char *folder = work_folder("parts_of");
    struct prepared p = prepare(load("partitioned.meta"), NULL);
    belay_tensor *ids = rows_id(10);
    assert_ok(belay_session_run(p.session, (const char *[]){"ids", NULL}, &ids, NULL, NULL,
                                (const char *[]){"train", NULL}, NULL, err));
    belay_tensor_free(ids);
    double first = fetch_number(p.session, "embedding/part_0", 0);
    assert_true(first != 0);
    save_at(&p, folder, 1);
    run_op(p.session, belay_scaffold_init_op(p.scaffold));
    assert_true(fetch_number(p.session, "embedding/part_0", 0) == 0);
    options.assignments = embedding;
    assert_ok(belay_warm_start(p.session, in_folder(folder, "model.ckpt-1"), &options, NULL, err));
    assert_true(fetch_number(p.session, "embedding/part_0", 0) == first);
    prepared_free(&p);
    p = prepare(load("table.meta"), NULL); /* [11, 4] */
    save_at(&p, folder, 2);
    assert_fails(
        BELAY_INVALID_ARGUMENT, "float32 [10, 4] there, float32 [11, 4] in the graph",
        belay_warm_start(p.session, in_folder(folder, "model.ckpt-1"), &options, NULL, err));
    prepared_free(&p);
    p = prepare(load("partitioned.meta"), NULL);
    assert_fails(
        BELAY_INVALID_ARGUMENT, "float32 [11, 4] there, float32 [10, 4] in the graph",
        belay_warm_start(p.session, in_folder(folder, "model.ckpt-2"), &options, NULL, err));
    prepared_free(&p);
}

/* ---- the newest that verifies ---- */

/* SM-08, SM-10: the saver knows what the state file lists. */
static void test_restore__takes_what_the_state_file_names(void **state) {
    (void)state;
    double marker;
    char text[1024];
    const char *folder = make_run("named", &marker);
    assert_goes_on_from(folder, 3, marker);
    /* Somebody goes back by hand. */
    snprintf(text, sizeof text, "model_checkpoint_path: \"model.ckpt-1\"\n");
    write_text(in_folder(folder, "checkpoint"), text);
    assert_goes_on_from(folder, 1, marker);
}

static void flip_data(const char *folder) {
    flip_byte(in_folder(folder, "model.ckpt-3.data-00000-of-00001"), 17);
}

static void cut_index(const char *folder) {
    cut_in_half(in_folder(folder, "model.ckpt-3.index"));
}

static void empty_index(const char *folder) {
    write_text(in_folder(folder, "model.ckpt-3.index"), "");
}

static void cut_data(const char *folder) {
    cut_in_half(in_folder(folder, "model.ckpt-3.data-00000-of-00001"));
}

static void remove_data(const char *folder) {
    assert_int_equal(unlink(in_folder(folder, "model.ckpt-3.data-00000-of-00001")), 0);
}

/* Design, section 7: a damaged checkpoint is passed over with a warning, put aside at the next
 * save, and never deleted. */
static void test_restore__passes_over_a_damaged_checkpoint_and_keeps_it(void **state) {
    (void)state;
    void (*const damage[])(const char *) = {flip_data, cut_index, empty_index, cut_data,
                                            remove_data};
    for (size_t i = 0; i < sizeof damage / sizeof damage[0]; i++) {
        double marker;
        const char *folder = make_run("passed_over", &marker);
        damage[i](folder);
        bly_buf index = read_file(in_folder(folder, "model.ckpt-3.index"));
        bly_buf before = photograph(folder);
        assert_goes_on_from(folder, 2, marker);
        assert_logged("W checkpoint ");
        assert_logged("model.ckpt-3 cannot be used");
        assert_unchanged(&before, folder); /* whoever only reads changes nothing */

        struct prepared p;
        assert_ok(start_in(load("plain_saver.meta"), folder, &p));
        save_at(&p, folder, 3); /* the same name again */
        for (int64_t step = 4; step <= 9; step++)
            save_at(&p, folder, step);
        prepared_free(&p);
        bly_buf aside = read_file(in_folder(folder, "model.ckpt-3.damaged.index"));
        assert_int_equal(aside.len, index.len);
        if (index.len > 0)
            assert_memory_equal(aside.data, index.data, index.len);
        assert_true(has_file(folder, "model.ckpt-3.damaged.meta"));
        bly_buf text = read_file(in_folder(folder, "checkpoint"));
        assert_null(strstr(bly_buf_text(&text), "damaged"));
        assert_null(strstr(bly_buf_text(&text), "model.ckpt-3"));
        assert_goes_on_from(folder, 2, marker); /* the step is the variable's, which was restored */
        bly_buf_free(&text);
        bly_buf_free(&index);
        bly_buf_free(&aside);
    }
}

/* What was put aside before is not overwritten. */
static void test_restore__keeps_each_of_several_damaged_checkpoints_of_one_name(void **state) {
    (void)state;
    const char *folder = make_run("twice", NULL);
    for (int i = 0; i < 2; i++) {
        struct prepared p;
        flip_byte(in_folder(folder, "model.ckpt-3.data-00000-of-00001"), 20);
        assert_ok(start_in(load("plain_saver.meta"), folder, &p));
        save_at(&p, folder, 3);
        prepared_free(&p);
    }
    assert_true(has_file(folder, "model.ckpt-3.damaged.index"));
    assert_true(has_file(folder, "model.ckpt-3.damaged.damaged.index"));
    assert_true(has_file(folder, "model.ckpt-3.damaged.damaged.data-00000-of-00001"));
}

/* A save that fails leaves the damaged one where it is, too. */
static void test_restore__puts_nothing_aside_where_the_save_fails(void **state) {
    (void)state;
    const char *folder = make_run("aside_fails", NULL);
    struct prepared p;
    flip_data(folder);
    assert_ok(start_in(load("plain_saver.meta"), folder, &p));
    bly_buf before = photograph(folder);
    belay_session *fresh = open_plain(p.graph);
    assert_fails(BELAY_FAILED_PRECONDITION, "uninitialized",
                 belay_saver_save(belay_scaffold_saver(p.scaffold), fresh,
                                  in_folder(folder, "model.ckpt"), 4, NULL, NULL, err));
    assert_unchanged(&before, folder);
    belay_session_free(fresh);
    prepared_free(&p);
}

/* SD-14: nothing is initialised where checkpoints are. */
static void test_restore__fails_where_no_checkpoint_verifies(void **state) {
    (void)state;
    const char *folder = make_run("none", NULL);
    for (char step = '1'; step <= '3'; step++) {
        char name[] = "model.ckpt-?.data-00000-of-00001";
        name[11] = step;
        flip_byte(in_folder(folder, name), 3);
    }
    assert_refused(folder, BELAY_DATA_LOSS, "3 checkpoints, and none can be used");
    assert_int_equal(unlink(in_folder(folder, "checkpoint")), 0);
    assert_refused(folder, BELAY_DATA_LOSS, "none can be used");
}

/* BUG-32, CK-10, CK-11. */
static void test_restore__goes_by_the_folder_where_the_state_file_is_no_use(void **state) {
    (void)state;
    static const char *const texts[] = {NULL, "", "\x01garbage \xff",
                                        "model_checkpoint_path: ", "unknown_field: 3\n"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        double marker;
        const char *folder = make_run("no_state", &marker);
        if (texts[i])
            write_text(in_folder(folder, "checkpoint"), texts[i]);
        else
            assert_int_equal(unlink(in_folder(folder, "checkpoint")), 0);
        assert_goes_on_from(folder, 3, marker);
        assert_logged("no state file that can be read");
        /* Its checkpoints are known again: retention goes on where it was. */
        struct prepared p;
        assert_ok(start_in(load("plain_saver.meta"), folder, &p));
        for (int64_t step = 4; step <= 6; step++)
            save_at(&p, folder, step);
        assert_false(has_file(folder, "model.ckpt-1.index"));
        assert_true(has_file(folder, "model.ckpt-2.index"));
        prepared_free(&p);
    }
}

/* What lies beside a run's checkpoints is not the saver's to delete. */
static void test_restore__leaves_other_bundles_of_the_folder_to_their_owner(void **state) {
    (void)state;
    double marker;
    const char *folder = make_run("others", &marker);
    static const char *const names[] = {"index", "data-00000-of-00001"};
    for (size_t i = 0; i < 2; i++) {
        char from[64], to[64], other[64];
        snprintf(from, sizeof from, "model.ckpt-1.%s", names[i]);
        snprintf(to, sizeof to, "pretrained.%s", names[i]);
        snprintf(other, sizeof other, "teacher-2.%s", names[i]);
        bly_buf content = read_file(in_folder(folder, from));
        write_file(in_folder(folder, to), content.data, content.len);
        write_file(in_folder(folder, other), content.data, content.len);
        bly_buf_free(&content);
    }
    assert_int_equal(unlink(in_folder(folder, "checkpoint")), 0);
    struct prepared p;
    assert_ok(start_in(load("plain_saver.meta"), folder, &p));
    assert_int_equal(step_of(p.session), 3);
    for (int64_t step = 4; step <= 12; step++)
        save_at(&p, folder, step);
    assert_true(has_file(folder, "pretrained.index"));
    assert_true(has_file(folder, "teacher-2.index"));
    assert_false(has_file(folder, "model.ckpt-1.index"));
    prepared_free(&p);
}

/* BUG-33, CK-13, SM-09. */
static void test_restore__tries_older_ones_where_the_state_file_names_what_is_gone(void **state) {
    (void)state;
    double marker;
    const char *folder = make_run("gone", &marker);
    assert_int_equal(unlink(in_folder(folder, "model.ckpt-3.index")), 0);
    assert_goes_on_from(folder, 2, marker);
    assert_int_equal(unlink(in_folder(folder, "model.ckpt-2.index")), 0);
    assert_goes_on_from(folder, 1, marker);
    assert_int_equal(unlink(in_folder(folder, "model.ckpt-1.index")), 0);
    assert_refused(folder, BELAY_DATA_LOSS, "none can be used");
}

/* Work that grew with the square of the entries would take minutes. */
static void test_restore__takes_a_state_file_of_100000_entries(void **state) {
    (void)state;
    double marker;
    bly_buf text = BLY_BUF_INIT;
    const char *folder = make_run("many_entries", &marker);
    bly_buf_puts(&text, "model_checkpoint_path: \"model.ckpt-100000\"\n");
    for (int i = 3; i <= 100002; i++)
        bly_buf_printf(&text, "all_model_checkpoint_paths: \"model.ckpt-%d\"\n", i);
    assert_ok(bly_file_write_atomic(in_folder(folder, "checkpoint"), text.data, text.len, err));
    bly_buf_free(&text);
    time_t started = time(NULL);
    assert_goes_on_from(folder, 3, marker);
    assert_in_range(time(NULL) - started, 0, 30);
    assert_logged("model.ckpt-99993 cannot be used");
    assert_logged("99989 more checkpoints that are listed are not there");
}

/* ---- names that somebody else would take for something ---- */

/* A run of two saves in the folder, restored by another session; what Python's latest_checkpoint()
 * would look at names it. */
static void check_folder_called(const char *folder) {
    BLY_LOCAL_ERROR(why);
    struct prepared p = prepare(load("plain_saver.meta"), NULL);
    if (bly_make_directories(folder, &why) != BELAY_OK)
        fail_msg("%s", why.message);
    save_at(&p, folder, 1);
    double marker = fetch_number(p.session, "marker", 0);
    save_at(&p, folder, 2);
    prepared_free(&p);
    char *latest = belay_latest_checkpoint(folder, err);
    assert_made(latest);
    assert_string_equal(latest, in_folder(folder, "model.ckpt-2"));
    belay_checkpoint_path_free(latest);
    assert_ok(start_in(load("plain_saver.meta"), folder, &p));
    assert_int_equal(p.restored, 1);
    assert_true(fetch_number(p.session, "marker", 0) == marker);
    assert_int_equal(belay_saver_last_checkpoint_count(belay_scaffold_saver(p.scaffold)), 2);
    prepared_free(&p);
}

/* BUG-38: patterns, spaces, quotes, and bytes that are no UTF-8. */
static void test_restore__takes_folders_of_any_name(void **state) {
    static const char *const names[] = {"a*b",         "a[1]b",      "[",         "what?",
                                        "two words",   "-\"q\"",     "new\nline", "\xff\xfe",
                                        "back\\slash", "{a,b}~$HOME"};
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char folder[700];
        snprintf(folder, sizeof folder, "%s/%s", work_folder("names"), names[i]);
        check_folder_called(folder);
    }
}

/* As long as the system allows, less what TensorFlow and belay add to it; and one that is longer.
 */
static void test_restore__takes_long_folders_and_refuses_longer_ones(void **state) {
    (void)state;
    char folder[5000];
    const char *prefix = NULL;
    size_t len = (size_t)snprintf(folder, sizeof folder, "%s", work_folder("long"));
    for (; len + 201 < 3950; len += 201)
        snprintf(folder + len, sizeof folder - len, "/%0200d", 7);
    check_folder_called(folder);
    for (; len + 201 < 4400; len += 201)
        snprintf(folder + len, sizeof folder - len, "/%0200d", 7);
    struct prepared p = prepare(load("plain_saver.meta"), NULL);
    belay_saver *saver = belay_scaffold_saver(p.scaffold);
    bly_buf path = BLY_BUF_INIT;
    bly_buf_printf(&path, "%s/m", folder);
    assert_fails(BELAY_NOT_FOUND, "Parent directory of ",
                 belay_saver_save(saver, p.session, path.data, 1, NULL, &prefix, err));
    assert_fails(BELAY_NOT_FOUND, "not a valid checkpoint",
                 belay_saver_restore(saver, p.session, path.data, err));
    /* One name of 4,000 characters, which no file system takes. */
    const char *run = work_folder("long_name");
    bly_buf before = photograph(run);
    bly_buf_clear(&path);
    bly_buf_printf(&path, "%s/%04000d", run, 7);
    belay_code code = belay_saver_save(saver, p.session, path.data, 1, NULL, &prefix, err);
    assert_int_not_equal(code, BELAY_OK);
    assert_null(prefix);
    assert_unchanged(&before, run);
    bly_buf_free(&path);
    prepared_free(&p);
}

/* A state file that is empty, no text, or names itself, its folder, or nothing at all: none of it
 * is believed, and what lies in the folder is taken. */
static void test_restore__believes_no_state_file_that_makes_no_sense(void **state) {
    (void)state;
    double marker;
    static const char *const texts[] = {
        "",
        "\n",
        "\xff\xfe\x00",
        "model_checkpoint_path: ",
        "model_checkpoint_path: \"\"\n",
        "model_checkpoint_path: \"checkpoint\"\n",
        "model_checkpoint_path: \".\"\nall_model_checkpoint_paths: \"..\"\n",
        "model_checkpoint_path: \"/\"\n",
        "model_checkpoint_path: \"../../../../../etc/passwd\"\n",
        "model_checkpoint_path: \"model.ckpt-3.index\"\n",
    };
    const char *folder = make_run("senseless", &marker);
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        write_text(in_folder(folder, "checkpoint"), texts[i]);
        assert_goes_on_from(folder, 3, marker);
    }
}

/* A run that was moved: its state file names the old place. */
static void test_restore__finds_the_checkpoints_of_a_folder_that_was_moved(void **state) {
    (void)state;
    double marker;
    const char *folder = make_run("old_place", &marker), *moved = work_folder("new_place");
    assert_int_equal(rmdir(moved), 0);
    assert_int_equal(rename(folder, moved), 0);
    assert_goes_on_from(moved, 3, marker);
    struct prepared p;
    assert_ok(start_in(load("plain_saver.meta"), moved, &p));
    for (int64_t step = 4; step <= 6; step++)
        save_at(&p, moved, step);
    assert_false(has_file(moved, "model.ckpt-1.index"));
    assert_int_equal(belay_saver_last_checkpoint_count(belay_scaffold_saver(p.scaffold)), 5);
    prepared_free(&p);
}

/* SM-10: a run that was copied. The saver knows the first one's checkpoints, as TensorFlow's does,
 * but retention in the copy must not delete them. */
static void test_restore__never_deletes_the_checkpoints_of_another_folder(void **state) {
    (void)state;
    double marker;
    char command[2048];
    const char *folder = make_run("original", &marker), *copy = work_folder("copy");
    snprintf(command, sizeof command, "cp -a '%s/.' '%s'", folder, copy);
    assert_int_equal(system(command), 0);
    bly_buf before = photograph(folder);
    struct prepared p;
    assert_ok(start_in(load("plain_saver.meta"), copy, &p));
    assert_int_equal(p.restored, 1);
    assert_int_equal(step_of(p.session), 3);
    assert_int_equal(belay_saver_last_checkpoint_count(belay_scaffold_saver(p.scaffold)), 3);
    for (int64_t step = 4; step <= 12; step++)
        save_at(&p, copy, step);
    assert_int_equal(belay_saver_last_checkpoint_count(belay_scaffold_saver(p.scaffold)), 5);
    assert_unchanged(&before, folder);
    prepared_free(&p);
}

/* A folder has many names; retention counts each checkpoint once. */
static void test_restore__knows_a_folder_by_all_its_names(void **state) {
    (void)state;
    double marker;
    const char *folder = make_run("names", &marker);
    char *here = getcwd(NULL, 0);
    assert_int_equal(chdir(folder), 0);
    struct prepared p;
    assert_ok(start_in(load("plain_saver.meta"), ".", &p)); /* the state file has absolute paths */
    save_at(&p, ".", 3);
    assert_int_equal(belay_saver_last_checkpoint_count(belay_scaffold_saver(p.scaffold)), 3);
    prepared_free(&p);
    assert_int_equal(chdir(here), 0);
    free(here);
    assert_goes_on_from(folder, 3, marker);
}

static void set_time(const char *path, long seconds) {
    struct timespec times[2] = {{seconds, 0}, {seconds, 0}};
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

/* BUG-37: killed after the last rename of a checkpoint, and before the state file. */
static void test_restore__takes_a_checkpoint_that_the_state_file_missed(void **state) {
    (void)state;
    double marker;
    char text[1024];
    const char *folder = make_run("missed", &marker);
    snprintf(text, sizeof text,
             "model_checkpoint_path: \"%s/model.ckpt-2\"\n"
             "all_model_checkpoint_paths: \"%s/model.ckpt-1\"\n"
             "all_model_checkpoint_paths: \"%s/model.ckpt-2\"\n",
             folder, folder, folder);
    write_text(in_folder(folder, "checkpoint"), text);
    set_time(in_folder(folder, "checkpoint"), 1000000);
    set_time(in_folder(folder, "model.ckpt-3.index"), 1000001);
    assert_goes_on_from(folder, 3, marker);
    assert_logged("is newer than the state file");
    struct prepared p;
    assert_ok(start_in(load("plain_saver.meta"), folder, &p));
    assert_int_equal(belay_saver_last_checkpoint_count(belay_scaffold_saver(p.scaffold)), 3);
    prepared_free(&p);
    set_time(in_folder(folder, "model.ckpt-3.index"), 999999); /* an older run's */
    assert_goes_on_from(folder, 2, marker);
}

/* Killed while a checkpoint took the place of one of the same name. */
static void test_restore__takes_what_was_being_replaced(void **state) {
    (void)state;
    const char *folder = work_folder("replacing");
    struct prepared p = prepare(load("plain_saver.meta"), NULL);
    assert_ok(belay_saver_save(belay_scaffold_saver(p.scaffold), p.session,
                               in_folder(folder, "model"), BELAY_NO_STEP, NULL, NULL, err));
    double marker = fetch_number(p.session, "marker", 0);
    prepared_free(&p);
    static const char *const suffixes[] = {"index", "data-00000-of-00001", "meta", "belay.json"};
    for (size_t i = 0; i < 4; i++) {
        char from[64], to[64];
        snprintf(from, sizeof from, "model.%s", suffixes[i]);
        snprintf(to, sizeof to, "model.replaced.%s", suffixes[i]);
        assert_int_equal(rename(in_folder(folder, from), in_folder(folder, to)), 0);
    }
    assert_goes_on_from(folder, 0, marker);
    assert_ok(start_in(load("plain_saver.meta"), folder, &p));
    assert_ok(belay_saver_save(belay_scaffold_saver(p.scaffold), p.session,
                               in_folder(folder, "model"), BELAY_NO_STEP, NULL, NULL, err));
    assert_folder(folder, "checkpoint\nmodel.belay.json\nmodel.data-00000-of-00001\nmodel.index\n"
                          "model.meta\n");
    prepared_free(&p);
    assert_goes_on_from(folder, 0, marker);
}

/* The same among others: what was being replaced is newer than they are. */
static void test_restore__takes_what_was_being_replaced_before_older_ones(void **state) {
    (void)state;
    double marker;
    const char *folder = make_run("replacing_third", &marker);
    static const char *const suffixes[] = {"index", "data-00000-of-00001"};
    for (size_t i = 0; i < 2; i++) {
        char from[64], to[64];
        snprintf(from, sizeof from, "model.ckpt-3.%s", suffixes[i]);
        snprintf(to, sizeof to, "model.ckpt-3.replaced.%s", suffixes[i]);
        assert_int_equal(rename(in_folder(folder, from), in_folder(folder, to)), 0);
    }
    assert_goes_on_from(folder, 3, marker);
}

/* A checkpoint of another model is an error, never a reason to go back or to start afresh. */
static void test_restore__refuses_a_folder_of_another_model(void **state) {
    (void)state;
    const char *folder = work_folder("another");
    struct prepared p = prepare(load("tiny.meta"), NULL);
    save_at(&p, folder, 1);
    prepared_free(&p);
    assert_refused(folder, BELAY_NOT_FOUND, "another model");
}

static void test_restore__starts_afresh_in_a_folder_without_checkpoints(void **state) {
    (void)state;
    const char *folder = work_folder("fresh");
    struct prepared p;
    write_text(in_folder(folder, "events.out.tfevents.1"), "");
    write_text(in_folder(folder, "some.index"), "not a checkpoint");
    assert_ok(start_in(load("plain_saver.meta"), folder, &p));
    assert_int_equal(p.restored, 0);
    prepared_free(&p);
    assert_ok(start_in(load("plain_saver.meta"), in_folder(folder, "not/there"), &p));
    assert_int_equal(p.restored, 0);
    prepared_free(&p);
}

/* One who cannot write a manifest cannot spoil a checkpoint either. */
static void test_restore__does_without_a_manifest(void **state) {
    (void)state;
    double marker;
    const char *folder = make_run("manifest", &marker);
    write_text(in_folder(folder, "model.ckpt-3.belay.json"), "{\"step\": ");
    assert_goes_on_from(folder, 3, marker);
    assert_logged("the position in the input is not known");
    assert_int_equal(unlink(in_folder(folder, "model.ckpt-3.belay.json")), 0);
    assert_goes_on_from(folder, 3, marker);
}

/* A SavedModel's checkpoint that somebody else wrote has no step of belay's. */
static void test_restore__counts_from_zero_where_a_checkpoint_has_no_step(void **state) {
    (void)state;
    const char *folder = work_folder("no_step");
    struct prepared p = prepare(load("module"), NULL);
    double marker = fetch_number(p.session, "marker", 0);
    save_at(&p, folder, 40);
    prepared_free(&p);
    belay_graph *graph = load("module");
    assert_ok(belay_graph_create_global_step(graph, NULL, err));
    log_start();
    assert_ok(start_in(graph, folder, &p));
    assert_logged("steps are counted from 0");
    assert_int_equal(p.restored, 1);
    assert_int_equal(step_of(p.session), 0);
    assert_true(fetch_number(p.session, "marker", 0) == marker);
    prepared_free(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_saver_restore__needs_no_initialisation_and_an_existing_checkpoint),
        cmocka_unit_test(
            test_saver_restore__refuses_a_damaged_checkpoint_before_it_changes_anything),
        cmocka_unit_test(test_saver_restore__refuses_the_checkpoint_of_another_model),
        cmocka_unit_test(test_saver_restore__puts_the_parts_of_a_variable_back),
        cmocka_unit_test(test_saver_restore__takes_checkpoints_of_the_old_format),
        cmocka_unit_test(test_restore__goes_on_from_a_folder_of_the_old_format),
        cmocka_unit_test(test_saver_restore__maps_the_keys_of_an_object_based_checkpoint),
        cmocka_unit_test(test_saver_restore__reshapes_where_asked_to),
        cmocka_unit_test(test_saver_new__finds_its_ops_in_a_name_scope),
        cmocka_unit_test(test_warm_start__restores_what_it_is_asked_to),
        cmocka_unit_test(test_warm_start__changes_nothing_where_something_does_not_fit),
        cmocka_unit_test(test_warm_start__fills_the_parts_of_a_variable),
        cmocka_unit_test(test_restore__takes_what_the_state_file_names),
        cmocka_unit_test(test_restore__passes_over_a_damaged_checkpoint_and_keeps_it),
        cmocka_unit_test(test_restore__keeps_each_of_several_damaged_checkpoints_of_one_name),
        cmocka_unit_test(test_restore__puts_nothing_aside_where_the_save_fails),
        cmocka_unit_test(test_restore__fails_where_no_checkpoint_verifies),
        cmocka_unit_test(test_restore__goes_by_the_folder_where_the_state_file_is_no_use),
        cmocka_unit_test(test_restore__leaves_other_bundles_of_the_folder_to_their_owner),
        cmocka_unit_test(test_restore__takes_folders_of_any_name),
        cmocka_unit_test(test_restore__takes_long_folders_and_refuses_longer_ones),
        cmocka_unit_test(test_restore__believes_no_state_file_that_makes_no_sense),
        cmocka_unit_test(test_restore__takes_a_state_file_of_100000_entries),
        cmocka_unit_test(test_restore__tries_older_ones_where_the_state_file_names_what_is_gone),
        cmocka_unit_test(test_restore__finds_the_checkpoints_of_a_folder_that_was_moved),
        cmocka_unit_test(test_restore__never_deletes_the_checkpoints_of_another_folder),
        cmocka_unit_test(test_restore__knows_a_folder_by_all_its_names),
        cmocka_unit_test(test_restore__takes_a_checkpoint_that_the_state_file_missed),
        cmocka_unit_test(test_restore__takes_what_was_being_replaced),
        cmocka_unit_test(test_restore__takes_what_was_being_replaced_before_older_ones),
        cmocka_unit_test(test_restore__refuses_a_folder_of_another_model),
        cmocka_unit_test(test_restore__starts_afresh_in_a_folder_without_checkpoints),
        cmocka_unit_test(test_restore__does_without_a_manifest),
        cmocka_unit_test(test_restore__counts_from_zero_where_a_checkpoint_has_no_step),
    };
    return cmocka_run_group_tests(tests, session_run_set_up, session_run_tear_down);
}
