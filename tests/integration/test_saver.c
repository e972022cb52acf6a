/* Savers over the real TensorFlow: what a save leaves in its folder, and what a failed one does
 * not. */
#define _DEFAULT_SOURCE /* seteuid */
#include "session_run.h"

#include "checkpoint/commit.h"
#include "checkpoint/saver.h"
#include "graph/builder.h"
#include "graph/graph.h"

#include <belay/checkpoint.h>

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>

#define NOBODY 65534

/* A graph with its saver in a session that is initialised. */
struct saving {
    struct prepared p;
    belay_saver *saver;
    belay_session *session;
};

static struct saving start_with(const char *graph, const belay_saver_options *options) {
    struct saving s = {.p = prepare(load(graph), NULL)};
    s.saver = belay_saver_new(s.p.graph, options, err);
    assert_made(s.saver);
    s.session = s.p.session;
    return s;
}

static struct saving start(const char *graph) {
    return start_with(graph, NULL);
}

static void stop(struct saving *s) {
    belay_saver_free(s->saver);
    prepared_free(&s->p);
}

/* A graph to which savers can still be added: prepare_now() goes on. */
static struct prepared chief_unfinished(const char *graph) {
    return (struct prepared){.graph = load(graph)};
}

static void prepare_now(struct prepared *p) {
    *p = prepare(p->graph, NULL);
}

static const char *save_as(struct saving *s, const char *folder, const char *name, int64_t step) {
    const char *prefix = NULL;
    assert_ok(
        belay_saver_save(s->saver, s->session, in_folder(folder, name), step, NULL, &prefix, err));
    return prefix;
}

static const char *save(struct saving *s, const char *folder, int64_t step) {
    return save_as(s, folder, "model.ckpt", step);
}

/* ---- what a save leaves ---- */

/* SV-17, SV-22, SV-24, SV-27, CK-01, CK-03. */
static void test_saver_save__writes_files_and_a_state_file_as_tensorflow_does(void **state) {
    (void)state;
    char expected[2048];
    const char *folder = work_folder("files");
    struct saving s = start("tiny_final.meta");
    assert_string_equal(save(&s, folder, 7), in_folder(folder, "model.ckpt-7"));
    assert_folder(folder, "checkpoint\n"
                          "model.ckpt-7.belay.json\n"
                          "model.ckpt-7.data-00000-of-00001\n"
                          "model.ckpt-7.index\n"
                          "model.ckpt-7.meta\n");
    save(&s, folder, 12);
    snprintf(expected, sizeof expected,
             "model_checkpoint_path: \"%s/model.ckpt-12\"\n"
             "all_model_checkpoint_paths: \"%s/model.ckpt-7\"\n"
             "all_model_checkpoint_paths: \"%s/model.ckpt-12\"\n",
             folder, folder, folder);
    bly_buf text = read_file(in_folder(folder, "checkpoint"));
    assert_string_equal(bly_buf_text(&text), expected);
    bly_buf_free(&text);
    stop(&s);
}

/* SV-09, SV-14: each kind of saver; SV-07: those that came with the graph. */
static void test_saver_save__covers_every_variable_of_every_kind_of_graph(void **state) {
    (void)state;
    static const struct {
        const char *graph;
        size_t tensors;
    } cases[] = {
        {"tiny.meta", 1},        {"mlp.meta", 16},          {"mlp_bare.meta", 16},
        {"refvars.meta", 6},     {"partitioned.meta", 4},   {"table.meta", 4},
        {"plain_saver.meta", 4}, {"sharded_saver.meta", 4}, {"tf1_saved_model", 4},
        {"queue.meta", 3},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *folder = work_folder("kinds");
        struct saving s = start(cases[i].graph);
        belay_checkpoint_reader *reader = belay_checkpoint_reader_load(save(&s, folder, 1), err);
        assert_made(reader);
        if (belay_checkpoint_reader_count(reader) != cases[i].tensors)
            fail_msg("%s: %zu tensors", cases[i].graph, belay_checkpoint_reader_count(reader));
        assert_ok(belay_checkpoint_reader_verify(reader, err));
        assert_non_null(belay_checkpoint_reader_find(reader, "global_step"));
        belay_checkpoint_reader_free(reader);
        stop(&s);
    }
}

/* Design, section 7: a SavedModel's saver has fixed keys; the step that belay counts is one more.
 */
static void test_saver_save__joins_the_step_to_a_saved_models_own_bundle(void **state) {
    (void)state;
    static const char *const graphs[] = {"module", "keras_small", "module_table", "fixed_batch"};
    for (size_t i = 0; i < sizeof graphs / sizeof graphs[0]; i++) {
        char own[512];
        const char *folder = work_folder("joined");
        belay_graph *graph = load(graphs[i]);
        assert_ok(belay_graph_create_global_step(graph, NULL, err));
        struct saving s = {.p = prepare(graph, NULL)};
        s.saver = belay_saver_new(graph, NULL, err);
        assert_made(s.saver);
        s.session = s.p.session;
        run_op(s.session, "belay_global_step/count");
        belay_checkpoint_reader *reader = belay_checkpoint_reader_load(save(&s, folder, 1), err);
        assert_made(reader);
        snprintf(own, sizeof own, TEST_GRAPHS "/%s/variables/variables", graphs[i]);
        belay_checkpoint_reader *model = belay_checkpoint_reader_load(own, err);
        assert_made(model);
        assert_int_equal(belay_checkpoint_reader_count(reader),
                         belay_checkpoint_reader_count(model) + 1);
        int64_t step = 0;
        assert_ok(belay_checkpoint_reader_read(reader, "global_step", &step, sizeof step, err));
        assert_int_equal(step, 1);
        assert_folder(folder, "checkpoint\n"
                              "model.ckpt-1.belay.json\n"
                              "model.ckpt-1.data-00000-of-00002\n"
                              "model.ckpt-1.data-00001-of-00002\n"
                              "model.ckpt-1.index\n"
                              "model.ckpt-1.meta\n");
        belay_checkpoint_reader_free(reader);
        belay_checkpoint_reader_free(model);
        stop(&s);
    }
}

/* CK-05, BUG-13: without a folder in the path. */
static void test_saver_save__works_in_the_working_directory(void **state) {
    (void)state;
    char *here = getcwd(NULL, 0);
    struct saving s = start("tiny.meta");
    assert_int_equal(chdir(work_folder("working")), 0);
    const char *prefix = NULL;
    assert_ok(belay_saver_save(s.saver, s.session, "model", 3, NULL, &prefix, err));
    assert_string_equal(prefix, "model-3");
    bly_buf text = read_file("checkpoint");
    assert_string_equal(bly_buf_text(&text), "model_checkpoint_path: \"model-3\"\n"
                                             "all_model_checkpoint_paths: \"model-3\"\n");
    bly_buf_free(&text);
    assert_folder(".", "checkpoint\nmodel-3.belay.json\nmodel-3.data-00000-of-00001\n"
                       "model-3.index\nmodel-3.meta\n");
    belay_session *fresh = open_plain(s.p.graph);
    assert_fails(BELAY_FAILED_PRECONDITION, "uninitialized",
                 belay_saver_save(s.saver, fresh, "model", 4, NULL, NULL, err));
    belay_session_free(fresh);
    assert_ok(belay_saver_restore(s.saver, s.session, "model-3", err));
    assert_int_equal(chdir(here), 0);
    free(here);
    stop(&s);
}

/* BUG-38. */
static void test_saver_save__takes_the_names_of_folders_as_they_are(void **state) {
    (void)state;
    belay_saver_options options = BELAY_SAVER_OPTIONS_INIT;
    options.max_to_keep = 1;
    const char *folder = work_folder("we[i]rd * \"name\"?");
    struct saving s = start_with("tiny.meta", &options);
    save(&s, folder, 1);
    save(&s, folder, 2);
    assert_folder(folder, "checkpoint\nmodel.ckpt-2.belay.json\n"
                          "model.ckpt-2.data-00000-of-00001\nmodel.ckpt-2.index\n"
                          "model.ckpt-2.meta\n");
    stop(&s);
    struct prepared p = prepare(load("tiny.meta"), folder);
    assert_int_equal(p.restored, 1);
    prepared_free(&p);
}

/* SV-25. */
static void test_saver_save__leaves_state_and_list_alone_where_asked_to(void **state) {
    (void)state;
    belay_saver_options keep_one = BELAY_SAVER_OPTIONS_INIT;
    belay_save_options options = BELAY_SAVE_OPTIONS_INIT;
    const char *folder = work_folder("no_state"), *prefix = NULL;
    keep_one.max_to_keep = 1;
    struct saving s = start_with("tiny.meta", &keep_one);
    save(&s, folder, 1);
    bly_buf before = read_file(in_folder(folder, "checkpoint"));
    options.flags = BELAY_SAVE_NO_STATE | BELAY_SAVE_NO_META_GRAPH;
    assert_ok(belay_saver_save(s.saver, s.session, in_folder(folder, "aside"), 2, &options, &prefix,
                               err));
    assert_string_equal(prefix, in_folder(folder, "aside-2"));
    bly_buf after = read_file(in_folder(folder, "checkpoint"));
    assert_string_equal(bly_buf_text(&before), bly_buf_text(&after));
    assert_int_equal(belay_saver_last_checkpoint_count(s.saver), 1);
    assert_false(has_file(folder, "aside-2.meta"));
    assert_true(has_file(folder, "model.ckpt-1.index"));
    bly_buf_free(&before);
    bly_buf_free(&after);
    stop(&s);
}

/* SV-19, SV-20. */
static void test_saver_save__refuses_names_that_collide(void **state) {
    (void)state;
    const char *folder = work_folder("names");
    belay_save_options options = BELAY_SAVE_OPTIONS_INIT;
    struct saving s = start("plain_saver.meta");
    options.latest_filename = "deep/er";
    assert_fails(
        BELAY_INVALID_ARGUMENT, "should not contain path components",
        belay_saver_save(s.saver, s.session, in_folder(folder, "m"), 1, &options, NULL, err));
    assert_fails(BELAY_INVALID_ARGUMENT, "collides with",
                 belay_saver_save(s.saver, s.session, in_folder(folder, "checkpoint"),
                                  BELAY_NO_STEP, NULL, NULL, err));
    assert_fails(BELAY_INVALID_ARGUMENT, "names no file",
                 belay_saver_save(s.saver, s.session, in_folder(folder, ""), 1, NULL, NULL, err));
    assert_fails(BELAY_INVALID_ARGUMENT, "names no file",
                 belay_saver_save(s.saver, s.session, "", 1, NULL, NULL, err));
    options.latest_filename = NULL;
    options.flags = 1u << 30;
    assert_fails(
        BELAY_INVALID_ARGUMENT, "not known",
        belay_saver_save(s.saver, s.session, in_folder(folder, "m"), 1, &options, NULL, err));
    assert_folder(folder, "");
    options.flags = 0;
    options.latest_filename = "newest";
    assert_ok(belay_saver_save(s.saver, s.session, in_folder(folder, "m"), 1, &options, NULL, err));
    assert_true(has_file(folder, "newest"));
    assert_false(has_file(folder, "checkpoint"));
    stop(&s);
    /* A sharded saver's files have other names (SV-20). */
    s = start("sharded_saver.meta");
    folder = work_folder("names");
    options = (belay_save_options)BELAY_SAVE_OPTIONS_INIT;
    options.latest_filename = "m";
    assert_fails(BELAY_FAILED_PRECONDITION, "conflicts with",
                 belay_saver_save(s.saver, s.session, in_folder(folder, "m"), BELAY_NO_STEP,
                                  &options, NULL, err));
    stop(&s);
}

/* ---- retention ---- */

/* SV-30, SV-31, SV-32, SV-37. */
static void test_saver_save__keeps_the_newest_and_deletes_the_rest(void **state) {
    (void)state;
    belay_saver_options options = BELAY_SAVER_OPTIONS_INIT;
    const char *folder = work_folder("keep");
    options.max_to_keep = 2;
    struct saving s = start_with("tiny.meta", &options);
    for (int64_t step = 1; step <= 3; step++)
        save(&s, folder, step);
    assert_int_equal(belay_saver_last_checkpoint_count(s.saver), 2);
    assert_string_equal(belay_saver_last_checkpoint(s.saver, 0), in_folder(folder, "model.ckpt-2"));
    assert_string_equal(belay_saver_last_checkpoint(s.saver, 1), in_folder(folder, "model.ckpt-3"));
    assert_null(belay_saver_last_checkpoint(s.saver, 2));
    assert_folder(folder, "checkpoint\n"
                          "model.ckpt-2.belay.json\nmodel.ckpt-2.data-00000-of-00001\n"
                          "model.ckpt-2.index\nmodel.ckpt-2.meta\n"
                          "model.ckpt-3.belay.json\nmodel.ckpt-3.data-00000-of-00001\n"
                          "model.ckpt-3.index\nmodel.ckpt-3.meta\n");
    save(&s, folder, 2); /* moves to the end, and is there once */
    assert_int_equal(belay_saver_last_checkpoint_count(s.saver), 2);
    assert_string_equal(belay_saver_last_checkpoint(s.saver, 1), in_folder(folder, "model.ckpt-2"));
    bly_buf text = read_file(in_folder(folder, "checkpoint"));
    assert_null(strstr(bly_buf_text(&text), "model.ckpt-1"));
    bly_buf_free(&text);
    stop(&s);

    options.max_to_keep = BELAY_KEEP_ALL;
    folder = work_folder("keep");
    s = start_with("tiny.meta", &options);
    for (int64_t step = 1; step <= 7; step++)
        save(&s, folder, step);
    assert_true(has_file(folder, "model.ckpt-1.index"));
    text = read_file(in_folder(folder, "checkpoint"));
    assert_null(strstr(bly_buf_text(&text), "model.ckpt-6"));
    assert_int_equal(belay_saver_last_checkpoint_count(s.saver), 0);
    bly_buf_free(&text);
    stop(&s);
}

/* SV-36: what somebody else deleted leaves the list in its turn, without a word. */
static void test_saver_save__forgets_what_is_gone(void **state) {
    (void)state;
    belay_saver_options options = BELAY_SAVER_OPTIONS_INIT;
    const char *folder = work_folder("gone");
    options.max_to_keep = 1;
    struct saving s = start_with("tiny.meta", &options);
    save(&s, folder, 1);
    assert_int_equal(unlink(in_folder(folder, "model.ckpt-1.index")), 0);
    assert_int_equal(unlink(in_folder(folder, "model.ckpt-1.belay.json")), 0);
    log_start();
    save(&s, folder, 2);
    assert_int_equal(belay_saver_last_checkpoint_count(s.saver), 1);
    assert_string_equal(belay_saver_last_checkpoint(s.saver, 0), in_folder(folder, "model.ckpt-2"));
    assert_false(has_file(folder, "model.ckpt-1.data-00000-of-00001"));
    assert_false(logged("Ignoring"));
    stop(&s);
}

/* BUG-34: five are there, then only two are wanted. SV-38: what has no files is left out. */
static void test_saver_save__brings_a_recovered_list_down_to_size(void **state) {
    (void)state;
    char paths[6][640];
    const char *prefixes[6];
    belay_saver_options options = BELAY_SAVER_OPTIONS_INIT;
    const char *folder = work_folder("shrink");
    struct saving s = start("tiny.meta");
    for (int i = 0; i < 6; i++) {
        snprintf(paths[i], sizeof paths[i], "%s/model.ckpt-%d", folder, i + 1);
        prefixes[i] = paths[i];
        if (i < 5)
            save(&s, folder, i + 1);
    }
    assert_int_equal(belay_saver_last_checkpoint_count(s.saver), 5); /* SV-01 */
    stop(&s);
    options.max_to_keep = 2;
    s = start_with("tiny.meta", &options);
    assert_ok(belay_saver_recover_last_checkpoints(s.saver, prefixes, 6, err));
    assert_int_equal(belay_saver_last_checkpoint_count(s.saver), 5);
    for (size_t i = 0; i < 5; i++) /* its own strings are as good as any */
        prefixes[i] = belay_saver_last_checkpoint(s.saver, i);
    assert_ok(belay_saver_recover_last_checkpoints(s.saver, prefixes, 5, err));
    assert_int_equal(belay_saver_last_checkpoint_count(s.saver), 5);
    save(&s, folder, 9);
    assert_int_equal(belay_saver_last_checkpoint_count(s.saver), 2);
    assert_false(has_file(folder, "model.ckpt-4.index"));
    assert_true(has_file(folder, "model.ckpt-5.index"));
    assert_true(has_file(folder, "model.ckpt-9.index"));
    stop(&s);
}

/* Design, section 7: keep-best by metric. */
static void test_saver_save__keeps_the_best_by_a_metric(void **state) {
    (void)state;
    static const double loss[] = {3, 1, 2, 4, 5};
    belay_saver_options options = BELAY_SAVER_OPTIONS_INIT;
    const char *folder = work_folder("best");
    options.max_to_keep = 1;
    options.best_metric = "loss";
    options.keep_best = 2;
    struct saving s = start_with("tiny.meta", &options);
    for (int i = 0; i < 5; i++) {
        assert_ok(belay_saver_set_metric(s.saver, "loss", loss[i], err));
        save(&s, folder, i + 1);
    }
    assert_int_equal(belay_saver_last_checkpoint_count(s.saver), 3);
    assert_true(has_file(folder, "model.ckpt-2.index"));
    assert_true(has_file(folder, "model.ckpt-3.index"));
    assert_true(has_file(folder, "model.ckpt-5.index"));
    assert_false(has_file(folder, "model.ckpt-4.index"));
    stop(&s);
}

/* ---- the manifest ---- */

static void test_saver_save__carries_position_and_metrics_in_the_manifest(void **state) {
    (void)state;
    const char *folder = work_folder("manifest");
    struct saving s = start("tiny.meta");
    assert_null(belay_saver_restored_input_position(s.saver));
    assert_ok(belay_saver_set_metric(s.saver, "loss", 0.5, err));
    assert_ok(belay_saver_set_metric(s.saver, "loss", 0.25, err));
    assert_ok(belay_saver_set_input_position(s.saver, "{\"epoch\": 3}", err));
    const char *prefix = save(&s, folder, 4);
    bly_buf text = read_file(in_folder(folder, "model.ckpt-4.belay.json"));
    assert_non_null(strstr(bly_buf_text(&text), "0.25"));
    assert_non_null(strstr(bly_buf_text(&text), "model.ckpt-4.data-00000-of-00001"));
    assert_non_null(strstr(bly_buf_text(&text), "2.21.0"));
    bly_buf_free(&text);
    assert_ok(belay_saver_restore(s.saver, s.session, prefix, err));
    assert_non_null(strstr(belay_saver_restored_input_position(s.saver), "3"));
    /* Something that is no JSON makes no checkpoint. */
    bly_buf before = photograph(folder);
    assert_ok(belay_saver_set_input_position(s.saver, "no json", err));
    assert_fails(
        BELAY_INVALID_ARGUMENT, "",
        belay_saver_save(s.saver, s.session, in_folder(folder, "model.ckpt"), 5, NULL, NULL, err));
    assert_unchanged(&before, folder);
    assert_ok(belay_saver_set_input_position(s.saver, NULL, err));
    prefix = save(&s, folder, 6);
    assert_ok(belay_saver_restore(s.saver, s.session, prefix, err));
    assert_null(belay_saver_restored_input_position(s.saver));
    stop(&s);
}

/* SV-39, MG-32: the meta graph has the ops that belay added, and can be trained from. */
static void test_saver_save__writes_a_meta_graph_that_loads_again(void **state) {
    (void)state;
    const char *folder = work_folder("meta");
    struct saving s = start("refvars.meta");
    save(&s, folder, 0);
    stop(&s);
    belay_graph *graph = belay_graph_load(in_folder(folder, "model.ckpt-0.meta"), NULL, err);
    assert_made(graph);
    size_t ops = belay_graph_op_count(graph);
    assert_int_equal(belay_graph_collection_size(graph, "savers"), 1);
    assert_int_equal(belay_graph_collection_size(graph, "init_op"), 1);
    struct prepared p = prepare(graph, folder);
    assert_int_equal(p.restored, 1);
    assert_int_equal(belay_graph_op_count(graph), ops); /* nothing had to be built */
    prepared_free(&p);
}

/* ---- saves that fail ---- */

/* SV-29. */
static void
test_saver_save__leaves_the_folder_as_it_was_where_a_variable_is_not_there(void **state) {
    (void)state;
    const char *folder = work_folder("uninitialised");
    struct saving s = start("table.meta");
    save(&s, folder, 1);
    bly_buf before = photograph(folder);
    belay_session *fresh = open_plain(s.p.graph);
    const char *prefix = "something";
    assert_fails(
        BELAY_FAILED_PRECONDITION, "uninitialized",
        belay_saver_save(s.saver, fresh, in_folder(folder, "model.ckpt"), 2, NULL, &prefix, err));
    assert_null(prefix);
    assert_unchanged(&before, folder);
    assert_int_equal(belay_saver_last_checkpoint_count(s.saver), 1);
    belay_session_free(fresh);
    stop(&s);
}

/* SV-23, ER-20. */
static void test_saver_save__needs_its_folder(void **state) {
    (void)state;
    const char *folder = work_folder("parent");
    struct saving s = start("tiny.meta");
    assert_fails(
        BELAY_NOT_FOUND, "Parent directory of",
        belay_saver_save(s.saver, s.session, in_folder(folder, "not/there"), 1, NULL, NULL, err));
    write_text(in_folder(folder, "file"), "not a folder");
    assert_fails(
        BELAY_NOT_FOUND, "Parent directory of",
        belay_saver_save(s.saver, s.session, in_folder(folder, "file/model"), 1, NULL, NULL, err));
    assert_folder(folder, "file\n");
    stop(&s);
}

static void test_saver_save__says_so_where_the_folder_cannot_be_written(void **state) {
    (void)state;
    const char *folder = work_folder("read_only");
    struct saving s = start("tiny.meta");
    save(&s, folder, 1);
    bly_buf before = photograph(folder);
    assert_int_equal(chmod(folder, 0555), 0);
    int is_root = geteuid() == 0; /* whom no permission stops */
    if (is_root)
        assert_int_equal(seteuid(NOBODY), 0);
    belay_code code =
        belay_saver_save(s.saver, s.session, in_folder(folder, "model.ckpt"), 2, NULL, NULL, err);
    if (is_root)
        assert_int_equal(seteuid(0), 0);
    assert_int_equal(chmod(folder, 0755), 0);
    assert_error(BELAY_PERMISSION_DENIED, folder, code, "save");
    belay_error_clear(err);
    assert_unchanged(&before, folder);
    stop(&s);
}

/* A limit on the size of files stands for a full disk. */
static void test_saver_save__leaves_nothing_behind_where_the_disk_is_full(void **state) {
    (void)state;
    struct rlimit old, tight;
    const char *folder = work_folder("full");
    struct saving s = start("mlp_bare.meta");
    save(&s, folder, 1);
    bly_buf before = photograph(folder);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    tight = old;
    tight.rlim_cur = 5000;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
    belay_code code =
        belay_saver_save(s.saver, s.session, in_folder(folder, "model.ckpt"), 2, NULL, NULL, err);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    signal(SIGXFSZ, SIG_DFL);
    assert_int_not_equal(code, BELAY_OK);
    assert_int_equal(belay_error_code(err), code);
    belay_error_clear(err);
    assert_unchanged(&before, folder);
    save(&s, folder, 2);
    stop(&s);
}

/* What a process left that was killed while it saved. */
static void test_saver_save__removes_what_a_killed_process_left(void **state) {
    (void)state;
    const char *folder = work_folder("killed");
    struct saving s = start("tiny.meta");
    assert_int_equal(bly_make_directories(in_folder(folder, ".belay-saving/deep"), NULL), BELAY_OK);
    write_text(in_folder(folder, ".belay-saving/model.ckpt-1.index"), "half");
    write_text(in_folder(folder, ".belay-saving/deep/part"), "half");
    save(&s, folder, 2);
    assert_folder(folder, "checkpoint\nmodel.ckpt-2.belay.json\nmodel.ckpt-2.data-00000-of-00001\n"
                          "model.ckpt-2.index\nmodel.ckpt-2.meta\n");
    stop(&s);
}

static void test_saver_save__is_refused_while_another_one_saves_there(void **state) {
    (void)state;
    int lock = -1;
    const char *folder = work_folder("two_savers");
    struct saving s = start("tiny.meta");
    save(&s, folder, 1);
    bly_buf before = photograph(folder);
    assert_ok(bly_commit_lock(folder, "x", &lock, err));
    assert_fails(
        BELAY_FAILED_PRECONDITION, "another save is going on",
        belay_saver_save(s.saver, s.session, in_folder(folder, "model.ckpt"), 2, NULL, NULL, err));
    belay_error_clear(err);
    assert_unchanged(&before, folder);
    bly_commit_unlock(lock);
    save(&s, folder, 2);
    stop(&s);
}

#define RIVALS      2
#define RIVAL_SAVES 8

struct rival {
    struct saving s;
    char path[600];
    int saved, refused, failed;
};

static void *rival_saves(void *self) {
    struct rival *rival = self;
    belay_error *mine = belay_error_new();
    while (rival->saved < RIVAL_SAVES && !rival->failed) {
        belay_code code = belay_saver_save(rival->s.saver, rival->s.session, rival->path,
                                           rival->saved, NULL, NULL, mine);
        rival->saved += code == BELAY_OK;
        rival->refused += code == BELAY_FAILED_PRECONDITION;
        rival->failed = code != BELAY_OK && code != BELAY_FAILED_PRECONDITION;
        sched_yield();
    }
    belay_error_free(mine);
    return NULL;
}

/* Two savers at once: what each was told is saved is whole. */
static void test_saver_save__by_two_savers_at_once_loses_nothing(void **state) {
    (void)state;
    struct rival rivals[RIVALS] = {0};
    pthread_t threads[RIVALS];
    char name[64];
    const char *folder = work_folder("rivals");
    for (int i = 0; i < RIVALS; i++) {
        rivals[i].s = start("tiny.meta");
        snprintf(rivals[i].path, sizeof rivals[i].path, "%s/model%d.ckpt", folder, i);
    }
    for (int i = 0; i < RIVALS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, rival_saves, &rivals[i]), 0);
    for (int i = 0; i < RIVALS; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < RIVALS; i++) {
        assert_int_equal(rivals[i].failed, 0);
        /* Five of each are kept, and nobody deleted the other's. */
        for (int step = RIVAL_SAVES - 5; step < RIVAL_SAVES; step++) {
            snprintf(name, sizeof name, "model%d.ckpt-%d", i, step);
            belay_checkpoint_reader *reader =
                belay_checkpoint_reader_load(in_folder(folder, name), err);
            assert_made(reader);
            assert_ok(belay_checkpoint_reader_verify(reader, err));
            belay_checkpoint_reader_free(reader);
        }
        stop(&rivals[i].s);
    }
}

/* The first file was renamed already when the second one could not be. */
static void test_saver_save__takes_back_what_it_renamed_where_another_file_cannot_be(void **state) {
    (void)state;
    const char *folder = work_folder("in_the_way");
    struct saving s = start("tiny.meta");
    save(&s, folder, 1);
    assert_int_equal(
        bly_make_directories(in_folder(folder, "model.ckpt-2.data-00000-of-00001/full"), NULL),
        BELAY_OK);
    bly_buf before = photograph(folder);
    belay_error_clear(err);
    belay_code code =
        belay_saver_save(s.saver, s.session, in_folder(folder, "model.ckpt"), 2, NULL, NULL, err);
    assert_int_not_equal(code, BELAY_OK);
    belay_error_clear(err);
    assert_unchanged(&before, folder);
    assert_int_equal(belay_saver_last_checkpoint_count(s.saver), 1);
    stop(&s);
}

/* CK-17, and design section 7: at every instant there is a whole checkpoint. */
static void test_saver_save__replaces_a_checkpoint_of_the_same_name_or_leaves_it(void **state) {
    (void)state;
    const char *folder = work_folder("replace");
    struct saving s = start("tiny.meta");
    const char *path = in_folder(folder, "model");
    assert_ok(belay_saver_save(s.saver, s.session, path, BELAY_NO_STEP, NULL, NULL, err));
    run_op(s.session, "train");
    assert_ok(belay_saver_save(s.saver, s.session, path, BELAY_NO_STEP, NULL, NULL, err));
    assert_folder(folder, "checkpoint\nmodel.belay.json\nmodel.data-00000-of-00001\nmodel.index\n"
                          "model.meta\n");
    int64_t step = 0;
    belay_checkpoint_reader *reader = belay_checkpoint_reader_load(path, err);
    assert_ok(belay_checkpoint_reader_read(reader, "global_step", &step, sizeof step, err));
    belay_checkpoint_reader_free(reader);
    assert_int_equal(step, 1);
    /* Something is in the way of one of the files. */
    assert_int_equal(unlink(in_folder(folder, "model.belay.json")), 0);
    assert_int_equal(bly_make_directories(in_folder(folder, "model.belay.json/full"), NULL),
                     BELAY_OK);
    bly_buf before = photograph(folder);
    belay_error_clear(err);
    belay_code code = belay_saver_save(s.saver, s.session, path, BELAY_NO_STEP, NULL, NULL, err);
    assert_int_not_equal(code, BELAY_OK);
    belay_error_clear(err);
    assert_unchanged(&before, folder);
    assert_ok(belay_saver_restore(s.saver, s.session, path, err));
    stop(&s);
}

/* ---- making one ---- */

/* SV-03, SV-26, BUG-30. */
static void test_saver_new__makes_an_empty_saver_where_there_is_nothing_to_save(void **state) {
    (void)state;
    const char *folder = work_folder("empty");
    static const uint8_t no_nodes[] = {0x12, 0x00};
    belay_graph *graph = bly_graph_from_bytes("empty.meta", no_nodes, sizeof no_nodes, err);
    assert_made(graph);
    belay_saver *saver = belay_saver_new(graph, NULL, err);
    assert_made(saver);
    assert_int_equal(belay_saver_is_empty(saver), 1);
    bly_builder b = bly_builder_start(graph, "", NULL);
    bly_const_int32(&b, "something", NULL, (const int32_t[]){1}, 1, 0);
    assert_int_equal(bly_builder_end(&b), BELAY_OK);
    belay_session *session = open_plain(graph);
    const char *prefix = "something";
    assert_ok(belay_saver_save(saver, session, in_folder(folder, "m"), 3, NULL, &prefix, err));
    assert_null(prefix);
    assert_folder(folder, "m-3.meta\n");
    belay_session_free(session);
    belay_saver_free(saver);
    belay_graph_free(graph);
}

/* ER-23, SV-07. */
static void test_saver_new__refuses_what_it_cannot_use(void **state) {
    (void)state;
    uint8_t bytes[256];
    Bly__SaverDef def = BLY__SAVER_DEF__INIT;
    belay_graph *graph = load("tiny.meta");
    def.filename_tensor_name = "global_step";
    def.save_tensor_name = "not_there:0";
    def.restore_op_name = "train";
    size_t len = bly__saver_def__pack(&def, bytes);
    assert_ok(bly_graph_add_bytes_to_collection(graph, "savers", bytes, len, err));
    assert_not_made(BELAY_INVALID_ARGUMENT, "not_there", belay_saver_new(graph, NULL, err));
    assert_ok(bly_graph_add_bytes_to_collection(graph, "savers", bytes, len, err));
    assert_not_made(BELAY_FAILED_PRECONDITION, "More than one item in the collection \"savers\"",
                    belay_saver_new(graph, NULL, err));
    belay_saver_options options = BELAY_SAVER_OPTIONS_INIT;
    options.flags = BELAY_SAVER_BUILD;
    belay_saver *saver = belay_saver_new(graph, &options, err);
    assert_made(saver);
    belay_saver_free(saver);
    options.flags = 1u << 20;
    assert_not_made(BELAY_INVALID_ARGUMENT, "not known", belay_saver_new(graph, &options, err));
    options.flags = 0;
    options.max_to_keep = -7;
    assert_not_made(BELAY_INVALID_ARGUMENT, "max_to_keep", belay_saver_new(graph, &options, err));
    options.struct_size = 1;
    assert_not_made(BELAY_INVALID_ARGUMENT, "struct_size", belay_saver_new(graph, &options, err));
    belay_graph_free(graph);

    graph = load("plain_saver.meta");
    graph->meta->saver_def->save_tensor_name[0] = '\0';
    assert_not_made(BELAY_INVALID_ARGUMENT, "must specify the save_tensor_name",
                    belay_saver_new(graph, NULL, err));
    belay_graph_free(graph);
}

/* ---- what a caller may ask for ---- */

static belay_saver_options build_with(uint32_t flags, const char *const *variables,
                                      const char *const *keys) {
    belay_saver_options options = BELAY_SAVER_OPTIONS_INIT;
    options.flags = BELAY_SAVER_BUILD | flags;
    options.variables = variables;
    options.keys = keys;
    return options;
}

/* SV-01, SV-09, SV-24: names as Python gives them; a second saver has another scope. */
static void test_saver_new__builds_the_saver_that_python_would(void **state) {
    (void)state;
    belay_graph *graph = load("mlp_bare.meta");
    belay_saver_options options = build_with(0, NULL, NULL);
    belay_saver *plain = belay_saver_new(graph, &options, err);
    assert_made(plain);
    assert_string_equal(bly_saver_def(plain)->filename_tensor_name, "save/Const:0");
    assert_string_equal(bly_saver_def(plain)->save_tensor_name, "save/control_dependency:0");
    assert_string_equal(bly_saver_def(plain)->restore_op_name, "save/restore_all");
    assert_int_equal(bly_saver_def(plain)->sharded, 0);
    assert_int_equal(bly_saver_def(plain)->max_to_keep, 5);
    options = build_with(BELAY_SAVER_SHARDED, NULL, NULL);
    belay_saver *sharded = belay_saver_new(graph, &options, err);
    assert_made(sharded);
    assert_string_equal(bly_saver_def(sharded)->save_tensor_name, "save_1/Identity:0");
    assert_int_equal(bly_saver_def(sharded)->sharded, 1);
    assert_int_equal(bly_graph_savers_count(graph), 0); /* as a Saver() of Python's */
    belay_saver_free(plain);
    belay_saver_free(sharded);
    belay_graph_free(graph);
}

/* SV-20: one that is not sharded writes what the state file must not be called. */
static void test_saver_save__without_shards_writes_what_restores(void **state) {
    (void)state;
    static const char *const graphs[] = {"mlp_bare.meta", "refvars.meta", "partitioned.meta"};
    for (size_t i = 0; i < sizeof graphs / sizeof graphs[0]; i++) {
        const char *folder = work_folder("whole");
        belay_saver_options options = build_with(0, NULL, NULL);
        struct saving s = {.p = chief_unfinished(graphs[i])};
        s.saver = belay_saver_new(s.p.graph, &options, err);
        assert_made(s.saver);
        prepare_now(&s.p);
        s.session = s.p.session;
        double marker = fetch_number(s.session, "marker", 1);
        save(&s, folder, 2);
        assert_fails(BELAY_INVALID_ARGUMENT, "collides with",
                     belay_saver_save(s.saver, s.session, in_folder(folder, "checkpoint"),
                                      BELAY_NO_STEP, NULL, NULL, err));
        run_op(s.session, belay_scaffold_init_op(s.p.scaffold));
        assert_true(fetch_number(s.session, "marker", 1) != marker);
        assert_ok(belay_saver_restore(s.saver, s.session, in_folder(folder, "model.ckpt-2"), err));
        assert_true(fetch_number(s.session, "marker", 1) == marker);
        stop(&s);
    }
}

/* SV-17, SV-18, CK-06. */
static void test_saver_save__names_checkpoints_as_asked(void **state) {
    (void)state;
    const char *folder = work_folder("names"), *prefix = NULL;
    belay_saver_options options = BELAY_SAVER_OPTIONS_INIT;
    options.flags = BELAY_SAVER_PAD_STEP_NUMBER | BELAY_SAVER_RELATIVE_PATHS;
    struct saving s = start_with("tiny_final.meta", &options);
    assert_string_equal(save(&s, folder, 7), in_folder(folder, "model.ckpt-00000007"));
    run_op(s.session, "train");
    belay_save_options by_tensor = BELAY_SAVE_OPTIONS_INIT;
    by_tensor.step_tensor = "global_step";
    assert_ok(belay_saver_save(s.saver, s.session, in_folder(folder, "model.ckpt"), BELAY_NO_STEP,
                               &by_tensor, &prefix, err));
    assert_string_equal(prefix, in_folder(folder, "model.ckpt-00000001"));
    bly_buf text = read_file(in_folder(folder, "checkpoint"));
    assert_string_equal(bly_buf_text(&text),
                        "model_checkpoint_path: \"model.ckpt-00000001\"\n"
                        "all_model_checkpoint_paths: \"model.ckpt-00000007\"\n"
                        "all_model_checkpoint_paths: \"model.ckpt-00000001\"\n");
    bly_buf_free(&text);
    save(&s, folder, 123456789);
    assert_true(has_file(folder, "model.ckpt-123456789.index"));
    assert_fails(BELAY_INVALID_ARGUMENT, "step_tensor",
                 belay_saver_save(s.saver, s.session, in_folder(folder, "model.ckpt"), 3,
                                  &by_tensor, NULL, err));
    by_tensor.step_tensor = "save/Const:0";
    assert_fails(BELAY_INVALID_ARGUMENT, "is no step",
                 belay_saver_save(s.saver, s.session, in_folder(folder, "model.ckpt"),
                                  BELAY_NO_STEP, &by_tensor, NULL, err));
    by_tensor.step_tensor = "globl_step";
    assert_fails(BELAY_NOT_FOUND, "globl_step",
                 belay_saver_save(s.saver, s.session, in_folder(folder, "model.ckpt"),
                                  BELAY_NO_STEP, &by_tensor, NULL, err));
    stop(&s);
}

/* SV-17, CK-06: a step that counts from below 0 is in the name as Python puts it there; each has
 * files of its own, and the last is the newest. */
static void test_saver_save__takes_a_negative_step(void **state) {
    (void)state;
    const char *folder = work_folder("negative");
    belay_saver_options options = BELAY_SAVER_OPTIONS_INIT;
    options.flags = BELAY_SAVER_RELATIVE_PATHS;
    struct saving s = start_with("tiny_final.meta", &options);
    assert_string_equal(save(&s, folder, -5), in_folder(folder, "model.ckpt--5"));
    run_op(s.session, "train");
    save(&s, folder, -1);
    bly_buf text = read_file(in_folder(folder, "checkpoint"));
    assert_string_equal(bly_buf_text(&text), "model_checkpoint_path: \"model.ckpt--1\"\n"
                                             "all_model_checkpoint_paths: \"model.ckpt--5\"\n"
                                             "all_model_checkpoint_paths: \"model.ckpt--1\"\n");
    bly_buf_free(&text);
    char *latest = belay_latest_checkpoint(folder, err);
    assert_non_null(latest);
    assert_string_equal(latest, in_folder(folder, "model.ckpt--1"));
    belay_checkpoint_path_free(latest);
    belay_checkpoint_list *list = belay_checkpoint_list_load(folder, err);
    assert_made(list);
    assert_int_equal(belay_checkpoint_list_count(list), 2);
    assert_int_equal(belay_checkpoint_list_at(list, 0)->step, -5);
    assert_int_equal(belay_checkpoint_list_at(list, 1)->step, -1);
    assert_null(belay_checkpoint_list_at(list, 1)->problem);
    belay_checkpoint_list_free(list);
    assert_ok(belay_saver_restore(s.saver, s.session, in_folder(folder, "model.ckpt--5"), err));
    assert_int_equal(step_of(s.session), 0);
    assert_ok(belay_saver_restore(s.saver, s.session, in_folder(folder, "model.ckpt--1"), err));
    assert_int_equal(step_of(s.session), 1);
    stop(&s);
}

/* CK-06: "best--5" is step 5 of "best-" where it was saved as that. */
static void test_saver_save__takes_a_name_that_ends_in_a_dash(void **state) {
    (void)state;
    const char *folder = work_folder("dash");
    struct saving s = start_with("tiny_final.meta", NULL);
    save_as(&s, folder, "best-", 5);
    save_as(&s, folder, "best-", 10);
    assert_int_equal(unlink(in_folder(folder, "checkpoint")), 0);
    char *latest = belay_latest_checkpoint(folder, err);
    assert_non_null(latest);
    assert_string_equal(latest, in_folder(folder, "best--10"));
    belay_checkpoint_path_free(latest);
    belay_checkpoint_list *list = belay_checkpoint_list_load(folder, err);
    assert_made(list);
    assert_int_equal(belay_checkpoint_list_count(list), 2);
    assert_int_equal(belay_checkpoint_list_at(list, 0)->step, 5);
    assert_int_equal(belay_checkpoint_list_at(list, 1)->step, 10);
    belay_checkpoint_list_free(list);
    stop(&s);
}

/* SV-02, SV-14: a saver over some variables, under other names; with what it lacks unchanged. */
static void test_saver_new__covers_the_variables_that_are_listed(void **state) {
    (void)state;
    static const char *const variables[] = {"marker", "w", NULL}, *const keys[] = {"w", NULL};
    const char *folder = work_folder("listed");
    belay_saver_options options =
        build_with(0, variables, (const char *const[]){keys[0], "marker"});
    struct saving s = {.p = chief_unfinished("no_step.meta")};
    s.saver = belay_saver_new(s.p.graph, &options, err);
    assert_made(s.saver);
    static const char *const b[] = {"b", NULL};
    options = build_with(BELAY_SAVER_SHARDED, b, (const char *const[]){NULL});
    belay_saver *other = belay_saver_new(s.p.graph, &options, err);
    assert_made(other);
    prepare_now(&s.p);
    s.session = s.p.session;
    double marker = fetch_number(s.session, "marker", 0);
    belay_checkpoint_reader *reader = belay_checkpoint_reader_load(save(&s, folder, 1), err);
    assert_made(reader);
    assert_int_equal(belay_checkpoint_reader_count(reader), 2);
    float w[4];
    assert_ok(belay_checkpoint_reader_read(reader, "w", w, sizeof w, err)); /* they are swapped */
    assert_true(w[0] == (float)marker);
    belay_checkpoint_reader_free(reader);
    run_op(s.session, belay_scaffold_init_op(s.p.scaffold));
    assert_ok(belay_saver_restore(s.saver, s.session, in_folder(folder, "model.ckpt-1"), err));
    assert_true(fetch_number(s.session, "marker", 0) == marker);
    assert_fails(BELAY_NOT_FOUND, "'b'",
                 belay_saver_restore(other, s.session, in_folder(folder, "model.ckpt-1"), err));
    belay_saver_free(other);
    stop(&s);
}

/* A listed partitioned variable means all its parts; the shape of what has another name is compared
 * with the variable that it is for. */
static void test_saver_new__restores_listed_variables_of_other_graphs(void **state) {
    (void)state;
    static const char *const embedding[] = {"embedding", NULL}, *const key[] = {"table"};
    const char *folder = work_folder("other");
    belay_saver_options options = build_with(0, embedding, key);
    struct saving s = {.p = chief_unfinished("partitioned.meta")};
    s.saver = belay_saver_new(s.p.graph, &options, err);
    assert_made(s.saver);
    prepare_now(&s.p);
    s.session = s.p.session;
    belay_checkpoint_reader *reader = belay_checkpoint_reader_load(save(&s, folder, 1), err);
    assert_made(reader);
    assert_int_equal(belay_checkpoint_reader_find(reader, "table")->parts, 3);
    belay_checkpoint_reader_free(reader);
    stop(&s);
    s.p = chief_unfinished("table.meta");
    s.saver = belay_saver_new(s.p.graph, &options, err);
    assert_made(s.saver);
    prepare_now(&s.p);
    assert_fails(BELAY_INVALID_ARGUMENT, "float32 [10, 4] there, float32 [11, 4] in the graph",
                 belay_saver_restore(s.saver, s.p.session, in_folder(folder, "model.ckpt-1"), err));
    stop(&s);
}

/* SV-03, SV-04, SV-12. */
static void test_saver_new__refuses_lists_that_make_no_sense(void **state) {
    (void)state;
    belay_graph *graph = load("no_step.meta");
    static const char *const none[] = {NULL}, *const twice[] = {"w", "b", "w", NULL},
                             *const unknown[] = {"marked", NULL}, *const both[] = {"w", "b", NULL};
    belay_saver_options options = build_with(0, none, NULL);
    assert_not_made(BELAY_INVALID_ARGUMENT, "No variables to save",
                    belay_saver_new(graph, &options, err));
    options.flags |= BELAY_SAVER_ALLOW_EMPTY;
    belay_saver *saver = belay_saver_new(graph, &options, err);
    assert_made(saver);
    assert_int_equal(belay_saver_is_empty(saver), 1);
    belay_saver_free(saver);
    options = build_with(0, twice, NULL);
    assert_not_made(BELAY_INVALID_ARGUMENT, "w is to be saved twice",
                    belay_saver_new(graph, &options, err));
    options = build_with(0, both, (const char *const[]){"same", "same"});
    assert_not_made(BELAY_INVALID_ARGUMENT, "the same name in a checkpoint: same",
                    belay_saver_new(graph, &options, err));
    options = build_with(0, unknown, NULL);
    assert_not_made(BELAY_NOT_FOUND, "did you mean 'marker'?",
                    belay_saver_new(graph, &options, err));
    options.flags = 0;
    assert_not_made(BELAY_INVALID_ARGUMENT, "BELAY_SAVER_BUILD is not",
                    belay_saver_new(graph, &options, err));
    options = build_with(0, NULL, both);
    assert_not_made(BELAY_INVALID_ARGUMENT, "variables is not",
                    belay_saver_new(graph, &options, err));
    options = build_with(0, both, NULL);
    options.import_scope = "imported";
    saver = belay_saver_new(graph, &options, err);
    assert_made(saver);
    assert_string_equal(bly_saver_def(saver)->restore_op_name, "imported/save/restore_all");
    belay_saver_free(saver);
    belay_graph_free(graph);
    /* The graph's own SaverDef, said to lie in a scope. */
    graph = load("plain_saver.meta");
    belay_saver_options scoped = BELAY_SAVER_OPTIONS_INIT;
    scoped.import_scope = "imported";
    assert_not_made(BELAY_INVALID_ARGUMENT, "imported/save/Const",
                    belay_saver_new(graph, &scoped, err));
    belay_graph_free(graph);
}

/* MG-26: a graph that was loaded has the saver of its SaverDef, else one over its variables, else
 * an empty one. */
static void test_saver_new__takes_the_saver_that_the_graph_came_with(void **state) {
    (void)state;
    belay_graph *graph = load("sharded_saver.meta");
    belay_saver *saver = belay_saver_new(graph, NULL, err);
    assert_made(saver);
    assert_ptr_equal(bly_saver_def(saver), bly_graph_saver_def(graph));
    belay_saver_free(saver);
    belay_graph_free(graph);
    graph = load("tiny.meta");
    assert_null(bly_graph_saver_def(graph));
    saver = belay_saver_new(graph, NULL, err);
    assert_made(saver);
    assert_string_equal(bly_saver_def(saver)->save_tensor_name, "save/Identity:0");
    assert_int_equal(bly_graph_savers_count(graph), 1);
    belay_saver_free(saver);
    belay_graph_free(graph);
    static const uint8_t no_nodes[] = {0x12, 0x00};
    graph = bly_graph_from_bytes("empty.meta", no_nodes, sizeof no_nodes, err);
    assert_made(graph);
    log_start();
    saver = belay_saver_new(graph, NULL, err);
    assert_made(saver);
    assert_null(bly_saver_def(saver));
    assert_logged("I empty.meta has no variables to save");
    belay_saver_free(saver);
    belay_graph_free(graph);
}

/* MG-29 as Python's save() has it by default: other savers stay, and the SaverDef is that of the
 * one that saves. MG-30. */
static void test_saver_save__writes_the_whole_graph_or_says_that_it_is_too_large(void **state) {
    (void)state;
    const char *folder = work_folder("exported");
    belay_saver_options options = build_with(0, NULL, NULL);
    struct saving s = {.p = chief_unfinished("plain_saver.meta")};
    s.saver = belay_saver_new(s.p.graph, &options, err);
    assert_made(s.saver);
    assert_ok(bly_graph_add_bytes_to_collection(s.p.graph, "large", "x", 1, err));
    prepare_now(&s.p);
    s.session = s.p.session;
    save(&s, folder, 1);
    belay_graph *again = belay_graph_load(in_folder(folder, "model.ckpt-1.meta"), NULL, err);
    assert_made(again);
    assert_string_equal(bly_graph_saver_def(again)->restore_op_name, "save_1/restore_all");
    assert_true(belay_graph_has_op(again, "save/restore_all"));
    belay_graph_free(again);
    const Bly__CollectionDef *large = bly_graph_collection(s.p.graph, "large");
    large->bytes_list->value[0].len = (size_t)3 << 30; /* nobody reads it */
    assert_fails(
        BELAY_INVALID_ARGUMENT, "larger than 2 GB",
        belay_saver_save(s.saver, s.session, in_folder(folder, "model.ckpt"), 2, NULL, NULL, err));
    large->bytes_list->value[0].len = 1;
    assert_false(has_file(folder, "model.ckpt-2.meta"));
    assert_ok(belay_saver_restore(s.saver, s.session, in_folder(folder, "model.ckpt-2"), err));
    stop(&s);
}

static void test_saver_calls__refuse_null(void **state) {
    (void)state;
    struct saving s = start("tiny.meta");
    assert_not_made(BELAY_INVALID_ARGUMENT, "NULL", belay_saver_new(NULL, NULL, err));
    assert_fails(BELAY_INVALID_ARGUMENT, "saver",
                 belay_saver_save(NULL, s.session, "m", 1, NULL, NULL, err));
    assert_fails(BELAY_INVALID_ARGUMENT, "session",
                 belay_saver_save(s.saver, NULL, "m", 1, NULL, NULL, err));
    assert_fails(BELAY_INVALID_ARGUMENT, "path",
                 belay_saver_save(s.saver, s.session, NULL, 1, NULL, NULL, err));
    assert_fails(BELAY_INVALID_ARGUMENT, "saver", belay_saver_restore(NULL, s.session, "m", err));
    assert_fails(BELAY_INVALID_ARGUMENT, "session", belay_saver_restore(s.saver, NULL, "m", err));
    assert_fails(BELAY_INVALID_ARGUMENT, "NULL",
                 belay_saver_recover_last_checkpoints(NULL, NULL, 0, err));
    assert_fails(BELAY_INVALID_ARGUMENT, "NULL", belay_saver_set_metric(s.saver, NULL, 1, err));
    assert_fails(BELAY_INVALID_ARGUMENT, "NULL", belay_saver_set_input_position(NULL, NULL, err));
    assert_int_equal(belay_saver_is_empty(NULL), 1);
    assert_int_equal(belay_saver_last_checkpoint_count(NULL), 0);
    assert_null(belay_saver_last_checkpoint(NULL, 0));
    assert_null(belay_saver_restored_input_position(NULL));
    belay_saver_free(NULL);
    assert_int_equal(belay_saver_save(s.saver, s.session, "/not/there/m", 1, NULL, NULL, NULL),
                     BELAY_NOT_FOUND); /* without an error to fill */
    stop(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_saver_save__writes_files_and_a_state_file_as_tensorflow_does),
        cmocka_unit_test(test_saver_save__covers_every_variable_of_every_kind_of_graph),
        cmocka_unit_test(test_saver_save__joins_the_step_to_a_saved_models_own_bundle),
        cmocka_unit_test(test_saver_save__works_in_the_working_directory),
        cmocka_unit_test(test_saver_save__takes_the_names_of_folders_as_they_are),
        cmocka_unit_test(test_saver_save__leaves_state_and_list_alone_where_asked_to),
        cmocka_unit_test(test_saver_save__refuses_names_that_collide),
        cmocka_unit_test(test_saver_save__keeps_the_newest_and_deletes_the_rest),
        cmocka_unit_test(test_saver_save__brings_a_recovered_list_down_to_size),
        cmocka_unit_test(test_saver_save__keeps_the_best_by_a_metric),
        cmocka_unit_test(test_saver_save__carries_position_and_metrics_in_the_manifest),
        cmocka_unit_test(test_saver_save__writes_a_meta_graph_that_loads_again),
        cmocka_unit_test(
            test_saver_save__leaves_the_folder_as_it_was_where_a_variable_is_not_there),
        cmocka_unit_test(test_saver_save__needs_its_folder),
        cmocka_unit_test(test_saver_save__says_so_where_the_folder_cannot_be_written),
        cmocka_unit_test(test_saver_save__leaves_nothing_behind_where_the_disk_is_full),
        cmocka_unit_test(test_saver_save__is_refused_while_another_one_saves_there),
        cmocka_unit_test(test_saver_save__by_two_savers_at_once_loses_nothing),
        cmocka_unit_test(test_saver_save__forgets_what_is_gone),
        cmocka_unit_test(test_saver_save__removes_what_a_killed_process_left),
        cmocka_unit_test(test_saver_save__takes_back_what_it_renamed_where_another_file_cannot_be),
        cmocka_unit_test(test_saver_save__replaces_a_checkpoint_of_the_same_name_or_leaves_it),
        cmocka_unit_test(test_saver_new__makes_an_empty_saver_where_there_is_nothing_to_save),
        cmocka_unit_test(test_saver_new__refuses_what_it_cannot_use),
        cmocka_unit_test(test_saver_new__builds_the_saver_that_python_would),
        cmocka_unit_test(test_saver_save__without_shards_writes_what_restores),
        cmocka_unit_test(test_saver_save__names_checkpoints_as_asked),
        cmocka_unit_test(test_saver_save__takes_a_negative_step),
        cmocka_unit_test(test_saver_save__takes_a_name_that_ends_in_a_dash),
        cmocka_unit_test(test_saver_new__covers_the_variables_that_are_listed),
        cmocka_unit_test(test_saver_new__restores_listed_variables_of_other_graphs),
        cmocka_unit_test(test_saver_new__refuses_lists_that_make_no_sense),
        cmocka_unit_test(test_saver_new__takes_the_saver_that_the_graph_came_with),
        cmocka_unit_test(test_saver_save__writes_the_whole_graph_or_says_that_it_is_too_large),
        cmocka_unit_test(test_saver_calls__refuse_null),
    };
    return cmocka_run_group_tests(tests, session_run_set_up, session_run_tear_down);
}
