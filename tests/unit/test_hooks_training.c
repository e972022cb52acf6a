/* Which hooks the one-call form adds: MS-26 to MS-39 of the behaviour. */
#include "hooks_fixture.h"

#include <math.h>

#include "session/hook.h"

#define SUMMARY                                                                                    \
    "summary = Const() dtype=string value=\"\"\n"                                                  \
    "collection summary_op: summary\n"

static belay_training_options options_of(fixture *f) {
    belay_training_options options = BELAY_TRAINING_OPTIONS_INIT;
    options.checkpoint_dir = folder_of(f);
    return options;
}

static belay_code try_training(fixture *f, const belay_training_options *options) {
    f->session = belay_monitored_training_session_open(f->graph, options, f->err);
    if (!f->session)
        return belay_error_code(f->err);
    f->step = belay_step_prepare(f->session, NULL, NULL, (const char *[]){"train", NULL}, f->err);
    return f->step ? BELAY_OK : belay_error_code(f->err);
}

static void open_training(fixture *f, const belay_training_options *options) {
    assert_ok(f, try_training(f, options));
}

static size_t count_events_with(const char *folder, const char *start) {
    event_list *list = read_events(folder);
    size_t count = 0;
    for (size_t i = 0; i < list->count; i++)
        count += strncmp(list->lines[i], start, strlen(start)) == 0;
    return count;
}

/* MS-26, TO-09: step counter and summaries every 100 steps, checkpoints every 600 s. */
static void test_training__by_default_has_all_hooks__MS_26(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL SUMMARY);
    belay_training_options options = options_of(f);
    open_training(f, &options);
    run_steps_every(f, 201, 2000);
    close_session(f);
    assert_string_equal(events_with(folder_of(f), "summary"),
                        "summary 1; summary 101; summary 201"); /* MS-27 */
    assert_string_equal(events_with(folder_of(f), "global_step/sec"),
                        "global_step/sec=0.5 101; global_step/sec=0.5 201");
    assert_int_equal(count_events_with(folder_of(f), "CHECKPOINT"), 2); /* first and last */
}

/* TO-09. */
static void test_training__saves_after_ten_minutes__MS_28(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL);
    belay_training_options options = options_of(f);
    open_training(f, &options);
    run_steps_every(f, 1, 599999);
    assert_int_equal(count_log(BELAY_LOG_INFO, "Saving checkpoints"), 1);
    run_steps_every(f, 1, 1);
    assert_int_equal(count_log(BELAY_LOG_INFO, "Saving checkpoints for 2 "), 1);
    close_session(f);
}

static void test_training__one_frequency_switches_the_other_off__MS_27(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL SUMMARY);
    belay_training_options options = options_of(f);
    options.save_summaries_secs = 10;
    options.save_checkpoint_steps = 3; /* MS-28 */
    open_training(f, &options);
    run_steps_every(f, 7, 5000); /* 35 s */
    close_session(f);
    assert_string_equal(events_with(folder_of(f), "summary"),
                        "summary 1; summary 3; summary 5; summary 7");
    assert_int_equal(count_log(BELAY_LOG_INFO, "Saving checkpoints"), 4); /* 0, 3, 6, 7 */
}

/* MS-29 is TensorFlow's, which also refuses secs=0 beside steps; SD-13: the behaviour counts, not
 * TensorFlow's documentation. */
static void test_training__refuses_both_frequencies__BUG_60(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL);
    belay_training_options options = options_of(f);
    options.save_checkpoint_secs = 1;
    options.save_checkpoint_steps = 1;
    assert_int_equal(try_training(f, &options), BELAY_INVALID_ARGUMENT);
    options.save_checkpoint_secs = BELAY_OFF;
    options.save_summaries_secs = 1;
    options.save_summaries_steps = 1;
    assert_int_equal(try_training(f, &options), BELAY_INVALID_ARGUMENT);
    options.save_summaries_secs = 0;
    open_training(f, &options);
    close_session(f);
}

/* It is not "off": then nothing would be saved, without a word. */
static void test_training__refuses_what_is_no_number__MS_30(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL);
    belay_training_options options = options_of(f);
    options.save_checkpoint_secs = NAN;
    assert_int_equal(try_training(f, &options), BELAY_INVALID_ARGUMENT);
    assert_string_equal(belay_error_message(f->err), "save_checkpoint_secs is not a number");
    options.save_checkpoint_secs = 0;
    options.save_summaries_secs = NAN;
    assert_int_equal(try_training(f, &options), BELAY_INVALID_ARGUMENT);
    assert_string_equal(belay_error_message(f->err), "save_summaries_secs is not a number");
}

/* The target and the config, device filters in it, are the caller's alone. */
static void test_training__sets_no_device_filters__MS_42(void **state) {
    static const uint8_t filters[] = {0x22, 0x07, '/', 'j', 'o', 'b', ':', 'p', 's'};
    fixture *f = *state;
    belay_session_options session = BELAY_SESSION_OPTIONS_INIT;
    uint8_t config[64];
    use_graph(f, MODEL);
    belay_training_options options = options_of(f);
    open_training(f, &options);
    assert_int_equal(scripted_last_config(config, sizeof config), 0);
    close_session(f);
    session.config = filters;
    session.config_size = sizeof filters;
    options.session = &session;
    open_training(f, &options);
    assert_int_equal(scripted_last_config(config, sizeof config), sizeof filters);
    assert_memory_equal(config, filters, sizeof filters);
    close_session(f);
}

static void test_training__what_is_off_is_not_there__MS_30(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL SUMMARY);
    belay_training_options options = options_of(f);
    options.save_checkpoint_secs = BELAY_OFF;
    options.save_summaries_steps = BELAY_OFF;
    options.log_step_count_steps = BELAY_OFF;
    open_training(f, &options);
    run_steps_every(f, 5, 1000000);
    close_session(f);
    assert_int_equal(read_events(folder_of(f))->files, 0);
    assert_false(has_file(f, "checkpoint"));
}

/* Notes when it is told of a session, in the log, so that its place among the others is seen. */
static belay_code tell(void *self, belay_session *session, belay_coordinator *coordinator,
                       belay_error *err) {
    (void)session, (void)coordinator, (void)err;
    belay_log_callback log = keep_log_line;
    log(NULL, BELAY_LOG_INFO, self);
    return BELAY_OK;
}

static belay_hook *telling_hook(fixture *f, const char *text) {
    belay_hook_vtable table = {.struct_size = sizeof table, .after_create_session = tell};
    return add_hook(f, belay_hook_new(&table, (void *)(uintptr_t)text, f->err));
}

static size_t place_in_log(const char *text) {
    for (size_t i = 0; i < log_line_count; i++)
        if (strstr(log_lines[i].text, text))
            return i;
    fail_msg("'%s' is not in the log", text);
    return 0;
}

/* A master in one process that is ready, for a worker to join. */
static void test_training__a_worker_has_its_own_hooks_only__MS_31(void **state) {
    fixture *f = *state;
    belay_session_options master = BELAY_SESSION_OPTIONS_INIT;
    use_graph(f, MODEL SUMMARY);
    master.target = "grpc://master:2222";
    scripted_server_state(master.target, SCRIPTED_UP);
    belay_training_options options = options_of(f);
    const char *unused = in_folder(f, "unused");
    options.session = &master;
    open_training(f, &options); /* the chief */
    options.is_worker = 1;
    options.checkpoint_dir = unused;
    options.hooks = (belay_hook *[]){telling_hook(f, "mine")};
    options.hook_count = 1;
    options.chief_only_hooks = (belay_hook *[]){telling_hook(f, "the chief's")};
    options.chief_only_hook_count = 1;
    belay_monitored_session *worker =
        belay_monitored_training_session_open(f->graph, &options, f->err);
    if (!worker)
        fail_msg("%s", belay_error_message(f->err));
    assert_ok(f, belay_monitored_session_close(worker, f->err));
    assert_int_equal(count_log(BELAY_LOG_INFO, "mine"), 1);
    assert_int_equal(count_log(BELAY_LOG_INFO, "the chief's"), 0);
    assert_false(bly_is_directory(unused));
    close_session(f);
}

static void test_training__calls_hooks_in_order__MS_32(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL SUMMARY);
    belay_training_options options = options_of(f);
    options.hooks = (belay_hook *[]){telling_hook(f, "the user's")};
    options.hook_count = 1;
    options.chief_only_hooks = (belay_hook *[]){telling_hook(f, "the chief's")};
    options.chief_only_hook_count = 1;
    options.log_step_count_steps = 1;
    options.save_summaries_steps = 1;
    options.save_checkpoint_steps = 1;
    open_training(f, &options);
    run_steps_every(f, 2, 1000);
    close_session(f);
    assert_true(place_in_log("the chief's") < place_in_log("Saving checkpoints for 0"));
    assert_true(place_in_log("Saving checkpoints for 0") < place_in_log("the user's"));
    event_list *events = read_events(folder_of(f));
    size_t last = events->count - 1;
    assert_int_equal(strncmp(events->lines[last - 2], "global_step/sec", 15), 0);
    assert_string_equal(events->lines[last - 1], "summary 2");
    assert_int_equal(strncmp(events->lines[last], "CHECKPOINT 2", 12), 0);
}

/* MS-33: summaries have a folder of their own, else the checkpoints'. */
static void test_training__summaries_may_go_elsewhere__MS_33(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL SUMMARY);
    belay_training_options options = options_of(f);
    const char *summaries = in_folder(f, "summaries");
    options.summary_dir = summaries;
    options.log_step_count_steps = 1;
    open_training(f, &options);
    run_steps_every(f, 2, 1000);
    close_session(f);
    assert_string_equal(events_with(summaries, "summary"), "summary 1");
    assert_string_equal(events_with(summaries, "global_step/sec"), "global_step/sec=1 2");
    assert_string_equal(events_with(folder_of(f), "summary"), "");
    assert_int_equal(count_events_with(folder_of(f), "CHECKPOINT"), 2);
    bly_remove_directory(summaries, NULL);
}

/* MS-34, MS-35: a folder for summaries is enough. */
static void test_training__without_checkpoints_has_summaries__MS_35(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL SUMMARY);
    belay_training_options options = BELAY_TRAINING_OPTIONS_INIT;
    options.summary_dir = folder_of(f);
    options.log_step_count_steps = 1;
    open_training(f, &options);
    run_steps_every(f, 2, 1000);
    close_session(f);
    assert_string_equal(events_with(folder_of(f), "summary"), "summary 1");
    assert_string_equal(events_with(folder_of(f), "global_step/sec"), "global_step/sec=1 2");
    assert_false(has_file(f, "checkpoint"));
}

/* BUG-59 is TensorFlow's, on another path: no summaries there means no checkpoints. */
static void test_training__without_summaries_has_checkpoints__MS_36(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL SUMMARY);
    belay_training_options options = options_of(f);
    options.save_summaries_steps = BELAY_OFF;
    options.log_step_count_steps = BELAY_OFF;
    open_training(f, &options);
    run_steps(f, 2);
    close_session(f);
    assert_true(has_file(f, "model.ckpt-2.index"));
    assert_string_equal(events_with(folder_of(f), "summary"), "");
}

static void test_training__without_folders_has_no_hooks__MS_34(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL SUMMARY);
    belay_training_options options = BELAY_TRAINING_OPTIONS_INIT;
    open_training(f, &options);
    run_steps(f, 2);
    close_session(f);
    assert_int_equal(scripted_count("summary"), 0);
    assert_int_equal(scripted_count("save/SaveV2"), 0);
}

/* MS-38: were there two scaffolds, the saver hook would not know what its session was restored
 * from. */
static void test_training__shares_one_scaffold__MS_38(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL);
    belay_training_options options = options_of(f);
    for (int i = 0; i < 2; i++) {
        open_training(f, &options);
        run_steps(f, 2);
        close_session(f);
    }
    assert_int_equal(count_log(BELAY_LOG_INFO, "Saving checkpoints"), 3); /* 0, 2, 4 */
    assert_true(has_file(f, "model.ckpt-4.index"));
}

static void test_training__writes_no_graph_where_told__MS_39(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL);
    belay_training_options options = options_of(f);
    options.no_graph_def = 1;
    open_training(f, &options);
    run_steps(f, 2);
    close_session(f);
    assert_true(has_file(f, "model.ckpt-2.index"));
    assert_false(has_file(f, "model.ckpt-0.meta"));
    assert_false(has_file(f, "model.ckpt-2.meta"));
    assert_false(has_file(f, "graph.pbtxt"));
}

/* What the default hooks cost between two of their actions: no allocation. */
static void test_training__default_hooks_allocate_nothing_on_the_way(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL SUMMARY);
    belay_training_options options = options_of(f);
    open_training(f, &options);
    run_steps(f, 20);
    bly_mem_count();
    run_steps(f, 70);
    assert_int_equal(bly_mem_count(), 0);
    close_session(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_training__by_default_has_all_hooks__MS_26),
        TEST(test_training__saves_after_ten_minutes__MS_28),
        TEST(test_training__one_frequency_switches_the_other_off__MS_27),
        TEST(test_training__refuses_both_frequencies__BUG_60),
        TEST(test_training__refuses_what_is_no_number__MS_30),
        TEST(test_training__sets_no_device_filters__MS_42),
        TEST(test_training__what_is_off_is_not_there__MS_30),
        TEST_WAITING(test_training__a_worker_has_its_own_hooks_only__MS_31),
        TEST(test_training__calls_hooks_in_order__MS_32),
        TEST(test_training__summaries_may_go_elsewhere__MS_33),
        TEST(test_training__without_checkpoints_has_summaries__MS_35),
        TEST(test_training__without_summaries_has_checkpoints__MS_36),
        TEST(test_training__without_folders_has_no_hooks__MS_34),
        TEST(test_training__shares_one_scaffold__MS_38),
        TEST(test_training__writes_no_graph_where_told__MS_39),
        TEST(test_training__default_hooks_allocate_nothing_on_the_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
