/* The hook that saves, and its listeners: sections HK-CKPT and HK-LSN of the behaviour. */
#include "base/buf.h"
#include "base/file.h"
#include "failing_alloc.h"
#include "hooks_fixture.h"

#include <sys/stat.h>
#include <unistd.h>

/* ---- helpers ---- */

static belay_checkpoint_saver_options options_of(fixture *f) {
    belay_checkpoint_saver_options options = BELAY_CHECKPOINT_SAVER_OPTIONS_INIT;
    options.checkpoint_dir = folder_of(f);
    options.scaffold = f->scaffold;
    return options;
}

static belay_hook *save_every_steps(fixture *f, int64_t steps) {
    belay_checkpoint_saver_options options = options_of(f);
    options.save_steps = steps;
    return belay_checkpoint_saver_hook_new(&options, f->err);
}

static belay_hook *save_every_secs(fixture *f, double secs) {
    belay_checkpoint_saver_options options = options_of(f);
    options.save_secs = secs;
    return belay_checkpoint_saver_hook_new(&options, f->err);
}

/* The steps that were saved so far, in order: "0 10 20". */
static const char *saved_steps(void) {
    static char text[1024];
    size_t len = 0;
    long long step;
    text[0] = '\0';
    for (size_t i = 0; i < log_line_count; i++)
        if (sscanf(log_lines[i].text, "Saving checkpoints for %lld into", &step) == 1)
            len += (size_t)snprintf(text + len, sizeof text - len, "%s%lld", len ? " " : "", step);
    return text;
}

/* A listener that writes down its calls: "begin before:0 after:0 end:3". */
typedef struct listener {
    const char *name;
    char *calls; /* where; shared by the listeners of a test */
    int64_t stop_at;
    int64_t fail_before, fail_after;
    int fail_end;
    int silent; /* fails without a text */
    int destroyed;
    int saved_before; /* the checkpoint was there already in before_save */
    int saved_after;
    fixture *f;
} listener;

static char calls[4096];

static void note(listener *l, const char *what, int64_t step) {
    size_t len = strlen(l->calls);
    if (step < 0)
        snprintf(l->calls + len, sizeof calls - len, "%s%s%s", len ? " " : "", l->name, what);
    else
        snprintf(l->calls + len, sizeof calls - len, "%s%s%s:%lld", len ? " " : "", l->name, what,
                 (long long)step);
}

static belay_code refuse(const listener *l, const char *text, belay_error *err) {
    return l->silent ? BELAY_INTERNAL : belay_error_set(err, BELAY_INTERNAL, text);
}

static int is_on_disk(listener *l, int64_t step) {
    char name[64];
    snprintf(name, sizeof name, "model.ckpt-%lld.index", (long long)step);
    return has_file(l->f, name);
}

static belay_code on_begin(void *self, belay_error *err) {
    (void)err;
    note(self, "begin", -1);
    return BELAY_OK;
}

static belay_code on_before(void *self, belay_session *session, int64_t step, belay_error *err) {
    listener *l = self;
    assert_non_null(session);
    note(l, "before", step);
    l->saved_before = is_on_disk(l, step);
    if (step == l->fail_before)
        return refuse(l, "before_save says no", err);
    return BELAY_OK;
}

static belay_code on_after(void *self, belay_session *session, int64_t step, uint32_t *stop,
                           belay_error *err) {
    listener *l = self;
    assert_non_null(session);
    note(l, "after", step);
    l->saved_after = is_on_disk(l, step);
    if (step == l->fail_after)
        return refuse(l, "after_save says no", err);
    *stop = step == l->stop_at;
    return BELAY_OK;
}

static belay_code on_end(void *self, belay_session *session, int64_t step, belay_error *err) {
    listener *l = self;
    assert_non_null(session);
    note(l, "end", step);
    return l->fail_end ? refuse(l, "end says no", err) : BELAY_OK;
}

static void on_destroy(void *self) {
    ((listener *)self)->destroyed++;
}

static const belay_checkpoint_listener_vtable listening = {
    sizeof listening, on_begin, on_before, on_after, on_end, on_destroy,
};

static listener make_listener(fixture *f, const char *name) {
    return (listener){.name = name,
                      .calls = calls,
                      .stop_at = BELAY_NO_STEP,
                      .fail_before = BELAY_NO_STEP,
                      .fail_after = BELAY_NO_STEP,
                      .f = f};
}

static belay_hook *save_and_tell(fixture *f, int64_t steps, listener *first, listener *second) {
    belay_checkpoint_saver_options options = options_of(f);
    belay_checkpoint_listener list[] = {{&listening, first}, {&listening, second}};
    options.save_steps = steps;
    options.listeners = list;
    options.listener_count = second ? 2 : 1;
    calls[0] = '\0';
    return belay_checkpoint_saver_hook_new(&options, f->err);
}

/* ---- options ---- */

/* TM-01, ER-28 */
static void test_checkpoint_saver__needs_exactly_one_frequency__HK_CKPT_02(void **state) {
    fixture *f = *state;
    belay_checkpoint_saver_options options = options_of(f);
    assert_not_made(f, belay_checkpoint_saver_hook_new(&options, f->err),
                    "Either every_secs or every_steps should be provided.");
    options.save_secs = 1;
    options.save_steps = 1;
    assert_not_made(f, belay_checkpoint_saver_hook_new(&options, f->err),
                    "Can not provide both every_secs and every_steps.");
}

static void test_checkpoint_saver__refuses_saver_with_scaffold__HK_CKPT_02(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL);
    belay_checkpoint_saver_options options = options_of(f);
    options.save_steps = 1;
    options.saver = belay_saver_new(f->graph, NULL, f->err);
    assert_non_null(options.saver);
    assert_not_made(f, belay_checkpoint_saver_hook_new(&options, f->err),
                    "You cannot provide both saver and scaffold.");
    belay_saver_free(options.saver);
}

static void test_checkpoint_saver__refuses_what_it_cannot_use__HK_CKPT_01(void **state) {
    fixture *f = *state;
    belay_checkpoint_saver_options options = options_of(f);
    options.save_steps = 1;
    options.checkpoint_dir = NULL;
    assert_not_made(f, belay_checkpoint_saver_hook_new(&options, f->err),
                    "checkpoint_dir must be given");
    options = options_of(f);
    options.save_steps = 1;
    options.flags = UINT32_C(1) << 31;
    assert_not_made(f, belay_checkpoint_saver_hook_new(&options, f->err),
                    "flags has a bit set that this belay does not know");
    options.flags = 0;
    options.reserved = 1;
    assert_not_made(f, belay_checkpoint_saver_hook_new(&options, f->err), "reserved must be 0");
    options.reserved = 0;
    options.listener_count = 1;
    assert_not_made(f, belay_checkpoint_saver_hook_new(&options, f->err),
                    "listeners is NULL, and listener_count is 1");
}

static void test_checkpoint_saver__destroys_listeners_also_where_it_is_refused(void **state) {
    fixture *f = *state;
    static listener one, two;
    one = make_listener(f, "");
    two = make_listener(f, "");
    assert_null(save_and_tell(f, 0, &one, &two)); /* no frequency */
    assert_int_equal(one.destroyed, 1);
    assert_int_equal(two.destroyed, 1);
    belay_hook_free(save_and_tell(f, 1, &one, &two));
    assert_int_equal(one.destroyed, 2);
    assert_int_equal(two.destroyed, 2);
}

/* A table of a later belay, with a slot that this one would not call. */
static void test_checkpoint_saver__destroys_a_listener_it_does_not_understand(void **state) {
    fixture *f = *state;
    struct {
        belay_checkpoint_listener_vtable table;
        void (*later)(void *self);
    } newer = {listening, on_destroy};
    static listener one;
    one = make_listener(f, "");
    belay_checkpoint_saver_options options = options_of(f);
    newer.table.struct_size = sizeof newer;
    options.save_steps = 1;
    options.listeners = (belay_checkpoint_listener[]){{&newer.table, &one}};
    options.listener_count = 1;
    assert_null(belay_checkpoint_saver_hook_new(&options, f->err));
    assert_int_equal(belay_error_code(f->err), BELAY_INVALID_ARGUMENT);
    assert_int_equal(one.destroyed, 1);
}

/* The same for the options as a whole, and where memory is out. */
static void test_checkpoint_saver__destroys_listeners_whatever_is_wrong(void **state) {
    fixture *f = *state;
    struct {
        belay_checkpoint_saver_options options;
        int64_t later;
    } newer = {options_of(f), 1};
    static listener one;
    one = make_listener(f, "");
    newer.options.struct_size = sizeof newer;
    newer.options.save_steps = 1;
    newer.options.listeners = (belay_checkpoint_listener[]){{&listening, &one}};
    newer.options.listener_count = 1;
    assert_null(belay_checkpoint_saver_hook_new(&newer.options, f->err));
    assert_int_equal(belay_error_code(f->err), BELAY_INVALID_ARGUMENT);
    assert_int_equal(one.destroyed, 1);
    newer.options.struct_size = sizeof newer.options;
    FAILING_ALLOC(n) {
        one.destroyed = 0;
        belay_hook *hook = belay_checkpoint_saver_hook_new(&newer.options, f->err);
        assert_int_equal(hook == NULL, failing_alloc_hit());
        belay_hook_free(hook);
        assert_int_equal(one.destroyed, 1);
    }
}

/* ---- begin ---- */

static void test_checkpoint_saver__begin_makes_folder_and_event_file__HK_CKPT_04(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL);
    belay_checkpoint_saver_options options = options_of(f);
    const char *folder = in_folder(f, "deep/er");
    options.checkpoint_dir = folder;
    options.save_steps = 1;
    add_hook(f, belay_checkpoint_saver_hook_new(&options, f->err));
    assert_false(bly_is_directory(folder)); /* not before */
    open_session(f);
    assert_int_equal(read_events(folder)->files, 1);
    close_session(f);
    assert_true(bly_file_exists(in_folder(f, "deep/er/model.ckpt-0.index")));
    bly_remove_directory(folder, NULL);
}

/* ER-29 */
static void test_checkpoint_saver__needs_a_global_step__HK_CKPT_04(void **state) {
    fixture *f = *state;
    add_hook(f, save_every_steps(f, 1));
    assert_needs_a_step(f, "Global step should be created to use CheckpointSaverHook.");
}

static void test_checkpoint_saver__listeners_begin_in_order__HK_CKPT_04(void **state) {
    fixture *f = *state;
    static listener one, two;
    one = make_listener(f, "1");
    two = make_listener(f, "2");
    use_graph(f, MODEL);
    add_hook(f, save_and_tell(f, 10, &one, &two));
    open_session(f);
    assert_int_equal(strncmp(calls, "1begin 2begin ", 14), 0);
    close_session(f);
    free_hooks(f);
}

/* ---- the first save ---- */

static void test_checkpoint_saver__names_checkpoints_by_step__HK_CKPT_03(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL);
    belay_checkpoint_saver_options options = options_of(f);
    options.save_steps = 2;
    options.checkpoint_basename = "other";
    add_hook(f, belay_checkpoint_saver_hook_new(&options, f->err));
    open_session(f);
    run_steps(f, 2);
    close_session(f);
    assert_true(has_file(f, "other-0.index"));
    assert_true(has_file(f, "other-2.index"));
    assert_false(has_file(f, "model.ckpt-0.index"));
}

static void test_checkpoint_saver__saves_before_the_first_step__HK_CKPT_05(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL);
    add_hook(f, save_every_steps(f, 10));
    open_session(f);
    assert_true(has_file(f, "model.ckpt-0.index")); /* HK-CKPT-06 */
    assert_int_equal(scripted_count("train"), 0);
    close_session(f);
}

/* EV-20: file_version, graph, meta graph, then checkpoints. */
static void test_checkpoint_saver__puts_the_graph_before_checkpoints__HK_CKPT_05(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL);
    add_hook(f, save_every_steps(f, 10));
    open_session(f);
    close_session(f);
    event_list *events = read_events(folder_of(f));
    assert_string_equal(events->lines[0], "version");
    assert_string_equal(events->lines[1], "graph");
    assert_string_equal(events->lines[2], "meta_graph");
    assert_int_equal(strncmp(events->lines[3], "CHECKPOINT 0", 12), 0);
}

static void test_checkpoint_saver__does_not_save_what_it_was_restored_from__BUG_51(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL);
    f->restore_from = folder_of(f);
    add_hook(f, save_every_steps(f, 10));
    open_session(f);
    run_steps(f, 3);
    close_session(f);
    assert_string_equal(saved_steps(), "0 3");
    open_session(f);
    assert_int_equal(global_step(f), 3);
    close_session(f);
    assert_string_equal(saved_steps(), "0 3");
}

/* The same folder by another name. */
static void test_checkpoint_saver__knows_its_folder_by_any_name__BUG_51(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL);
    const char *same = in_folder(f, "same");
    assert_int_equal(symlink(folder_of(f), same), 0);
    f->restore_from = same;
    add_hook(f, save_every_steps(f, 10));
    open_session(f);
    run_steps(f, 3);
    close_session(f);
    open_session(f);
    assert_int_equal(global_step(f), 3);
    close_session(f);
    assert_string_equal(saved_steps(), "0 3");
    assert_int_equal(unlink(same), 0);
}

static void test_checkpoint_saver__saves_under_its_own_name(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL);
    f->restore_from = folder_of(f);
    add_hook(f, save_every_steps(f, 10));
    open_session(f);
    run_steps(f, 3);
    close_session(f);
    free_hooks(f);
    belay_checkpoint_saver_options options = options_of(f);
    options.checkpoint_basename = "other";
    options.save_steps = 10;
    add_hook(f, belay_checkpoint_saver_hook_new(&options, f->err));
    open_session(f);
    assert_true(has_file(f, "other-3.index"));
    close_session(f);
}

static void test_checkpoint_saver__saves_what_another_folder_gave(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL);
    f->restore_from = folder_of(f);
    add_hook(f, save_every_steps(f, 10));
    open_session(f);
    run_steps(f, 3);
    close_session(f);
    free_hooks(f);
    belay_checkpoint_saver_options options = options_of(f);
    const char *other = in_folder(f, "other");
    options.checkpoint_dir = other;
    options.save_steps = 10;
    add_hook(f, belay_checkpoint_saver_hook_new(&options, f->err));
    open_session(f);
    close_session(f);
    assert_true(bly_file_exists(in_folder(f, "other/model.ckpt-3.index")));
    bly_remove_directory(other, NULL);
}

/* An initialised session has other values than a checkpoint of the same step that lies there. */
static void test_checkpoint_saver__saves_a_fresh_start_over_an_old_one(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL);
    add_hook(f, save_every_steps(f, 10));
    open_session(f);
    close_session(f);
    open_session(f);
    close_session(f);
    assert_string_equal(saved_steps(), "0 0");
    assert_string_equal(events_with(folder_of(f), "graph"), "graph; graph"); /* in each file */
}

static void test_checkpoint_saver__recovery_repeats_neither_graph_nor_save__BUG_51(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL);
    f->restore_from = folder_of(f);
    add_hook(f, save_every_steps(f, 2));
    scripted_fail("train", 4, BELAY_UNAVAILABLE, "Socket closed");
    open_session(f);
    run_steps(f, 6); /* the fourth goes back to step 2 */
    close_session(f);
    assert_int_equal(scripted_count("train"), 7);
    assert_string_equal(saved_steps(), "0 2 4 5");
    assert_string_equal(events_with(folder_of(f), "graph"), "graph");
    assert_string_equal(events_with(folder_of(f), "meta_graph"), "meta_graph");
}

static void ask_to_stop(fixture *f) {
    belay_stop_at_step_options options = BELAY_STOP_AT_STEP_OPTIONS_INIT;
    options.last_step = -1;
    add_hook(f, belay_stop_at_step_hook_new(&options, f->err));
}

/* No step was finished, so there is nothing to keep. */
static void test_checkpoint_saver__saves_nothing_where_nothing_will_run(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL);
    ask_to_stop(f);
    add_hook(f, save_every_steps(f, 2));
    open_session(f);
    assert_int_equal(run_until_stop(f), 0);
    close_session(f);
    assert_string_equal(saved_steps(), "");
    assert_false(has_file(f, "checkpoint"));
}

/* ---- saves on the way ---- */

static void test_checkpoint_saver__saves_every_n_steps__HK_CKPT_08(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL);
    add_hook(f, save_every_steps(f, 4));
    open_session(f);
    run_steps(f, 12);
    assert_string_equal(saved_steps(), "0 4 8 12");
    close_session(f);
}

/* A run may count more than one: then it is the first that gets there or beyond, under its exact
 * step. */
static void test_checkpoint_saver__goes_by_the_exact_step__HK_CKPT_07(void **state) {
    fixture *f = *state;
    use_graph(f, SCRIPTED_GLOBAL_STEP SCRIPTED_INIT SCRIPTED_SAVER
              "three = Const() dtype=int64 value=3\n"
              "train = AssignAddVariableOp(global_step, three) dtype=int64\n");
    add_hook(f, save_every_steps(f, 4));
    open_session(f);
    run_steps(f, 5);
    assert_string_equal(saved_steps(), "0 6 12");
    close_session(f);
}

static void test_checkpoint_saver__saves_every_n_secs__HK_CKPT_07(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL);
    add_hook(f, save_every_secs(f, 10));
    open_session(f);
    run_steps_every(f, 4, 2499); /* 9.996 s */
    assert_string_equal(saved_steps(), "0");
    run_steps_every(f, 1, 4);
    assert_string_equal(saved_steps(), "0 5");
    run_steps_every(f, 8, 1250); /* 10 s after that */
    assert_string_equal(saved_steps(), "0 5 13");
    close_session(f);
}

/* Runs that are long beside the interval: what counts is when a run ends, or half of the saves
 * would be missed. */
static void test_checkpoint_saver__saves_when_a_run_ends_late__HK_CKPT_07(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL);
    add_hook(f, save_every_secs(f, 10));
    scripted_delay_ms("train", 0, 6000);
    open_session(f);
    run_steps(f, 6);
    close_session(f);
    assert_string_equal(saved_steps(), "0 2 4 6");
}

/* TM-03 */
static void test_checkpoint_saver__does_not_save_a_step_twice__HK_CKPT_07(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL "nothing = NoOp()\n");
    add_hook(f, save_every_secs(f, 10));
    open_session(f);
    belay_step *nothing =
        belay_step_prepare(f->session, NULL, NULL, (const char *[]){"nothing", NULL}, f->err);
    stepped_clock_advance_ms(20000);
    assert_ok(f, belay_step_run(nothing, NULL, NULL, f->err));
    assert_string_equal(saved_steps(), "0");
    run_steps(f, 1);
    assert_string_equal(saved_steps(), "0 1");
    close_session(f);
}

/* ---- one save ---- */

static void test_checkpoint_saver__tells_listeners_around_the_save__HK_CKPT_10(void **state) {
    fixture *f = *state;
    static listener one, two;
    one = make_listener(f, "1");
    two = make_listener(f, "2");
    use_graph(f, MODEL);
    add_hook(f, save_and_tell(f, 10, &one, &two));
    open_session(f);
    assert_string_equal(calls, "1begin 2begin 1before:0 2before:0 1after:0 2after:0");
    assert_false(two.saved_before);
    assert_true(one.saved_after);
    close_session(f);
    free_hooks(f);
}

static void test_checkpoint_saver__says_what_it_does__HK_CKPT_12(void **state) {
    fixture *f = *state;
    char line[1024];
    use_graph(f, MODEL);
    add_hook(f, save_every_steps(f, 10));
    open_session(f);
    assert_string_equal(log_with("checkpoint listeners", 0),
                        "Calling checkpoint listeners before saving checkpoint 0...");
    snprintf(line, sizeof line, "Saving checkpoints for 0 into %s/model.ckpt.", folder_of(f));
    assert_string_equal(log_with("Saving checkpoints", 0), line); /* HK-CKPT-10 */
    assert_string_equal(log_with("checkpoint listeners", 1),
                        "Calling checkpoint listeners after saving checkpoint 0...");
    assert_int_equal(count_log(BELAY_LOG_INFO, "checkpoint listeners"), 2);
    close_session(f);
}

static void test_checkpoint_saver__event_has_the_path_without_step__HK_CKPT_11(void **state) {
    fixture *f = *state;
    char line[1024];
    use_graph(f, MODEL);
    add_hook(f, save_every_steps(f, 2));
    open_session(f);
    run_steps(f, 2);
    close_session(f);
    snprintf(line, sizeof line, "CHECKPOINT 0 %s/model.ckpt; CHECKPOINT 2 %s/model.ckpt",
             folder_of(f), folder_of(f));
    assert_string_equal(events_with(folder_of(f), "CHECKPOINT"), line);
}

/* EV-22: the graph with the shapes that were inferred. */
static void test_checkpoint_saver__writes_the_graph_as_text__HK_CKPT_05(void **state) {
    fixture *f = *state;
    bly_buf text = BLY_BUF_INIT;
    char path[512];
    use_graph(f, MODEL);
    add_hook(f, save_every_steps(f, 100));
    open_session(f);
    snprintf(path, sizeof path, "%s/graph.pbtxt", folder_of(f));
    assert_int_equal(bly_file_read(path, 1 << 20, &text, NULL), BELAY_OK);
    assert_memory_equal(bly_buf_text(&text), "node {\n  name: ", 15);
    assert_non_null(strstr(bly_buf_text(&text), "key: \"_output_shapes\""));
    bly_buf_free(&text);
    close_session(f);
}

static void test_checkpoint_saver__writes_meta_beside_each__HK_CKPT_10(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL);
    add_hook(f, save_every_steps(f, 1));
    open_session(f);
    run_steps(f, 2);
    close_session(f);
    assert_true(has_file(f, "model.ckpt-0.meta"));
    assert_true(has_file(f, "model.ckpt-1.meta"));
    assert_true(has_file(f, "model.ckpt-2.meta"));
}

static void save_with_flags(fixture *f, uint32_t flags) {
    belay_checkpoint_saver_options options = options_of(f);
    options.save_steps = 1;
    options.flags = flags;
    add_hook(f, belay_checkpoint_saver_hook_new(&options, f->err));
}

static void test_checkpoint_saver__writes_no_graph_where_told__MS_39(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL);
    save_with_flags(f, BELAY_CHECKPOINT_SAVER_NO_GRAPH_DEF | BELAY_CHECKPOINT_SAVER_META_ONCE);
    open_session(f);
    run_steps(f, 2);
    close_session(f);
    assert_true(has_file(f, "model.ckpt-2.index"));
    assert_false(has_file(f, "model.ckpt-0.meta"));
    assert_false(has_file(f, "model.ckpt-2.meta"));
    assert_false(has_file(f, "graph.pbtxt"));
}

/* One, and beside the newest: older checkpoints are deleted, and what lies beside them too. */
static void test_checkpoint_saver__keeps_one_meta_where_told(void **state) {
    fixture *f = *state;
    size_t size;
    use_graph(f, MODEL);
    save_with_flags(f, BELAY_CHECKPOINT_SAVER_META_ONCE);
    open_session(f);
    uint8_t *first = scratch_read(in_folder(f, "model.ckpt-0.meta"), &size);
    run_steps(f, 20);
    close_session(f);
    assert_false(has_file(f, "model.ckpt-16.meta"));
    assert_false(has_file(f, "model.ckpt-19.meta"));
    size_t last_size;
    uint8_t *last = scratch_read(in_folder(f, "model.ckpt-20.meta"), &last_size);
    assert_int_equal(last_size, size);
    assert_memory_equal(first, last, size);
    free(first);
    free(last);
}

static void test_checkpoint_saver__writes_meta_again_where_it_was_lost(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL);
    save_with_flags(f, BELAY_CHECKPOINT_SAVER_META_ONCE);
    open_session(f);
    assert_int_equal(unlink(in_folder(f, "model.ckpt-0.meta")), 0);
    run_steps(f, 1);
    assert_true(has_file(f, "model.ckpt-1.meta"));
    close_session(f);
}

static void test_checkpoint_saver__a_failed_save_leaves_the_one_meta_where_it_was(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL);
    save_with_flags(f, BELAY_CHECKPOINT_SAVER_META_ONCE);
    open_session(f);
    scripted_fail("save/SaveV2", 2, BELAY_RESOURCE_EXHAUSTED, "No space left on device");
    assert_int_equal(run_once(f), BELAY_RESOURCE_EXHAUSTED);
    assert_int_equal(try_close(f), BELAY_RESOURCE_EXHAUSTED);
    assert_true(has_file(f, "model.ckpt-0.meta"));
    assert_false(has_file(f, "model.ckpt-1.meta"));
}

/* ---- stop votes ---- */

static void test_checkpoint_saver__a_listener_may_stop_training__HK_CKPT_13(void **state) {
    fixture *f = *state;
    static listener one, two;
    one = make_listener(f, "1");
    two = make_listener(f, "2");
    use_graph(f, MODEL);
    one.stop_at = 4;
    add_hook(f, save_and_tell(f, 2, &one, &two));
    open_session(f);
    assert_int_equal(run_until_stop(f), 4);
    assert_non_null(strstr(calls, "2after:4")); /* the others still hear of it */
    close_session(f);
    free_hooks(f);
}

static void test_checkpoint_saver__also_at_the_initial_save__BUG_47(void **state) {
    fixture *f = *state;
    static listener one;
    one = make_listener(f, "");
    use_graph(f, MODEL);
    one.stop_at = 0;
    add_hook(f, save_and_tell(f, 2, &one, NULL));
    open_session(f);
    assert_int_equal(run_until_stop(f), 0);
    close_session(f);
    free_hooks(f);
}

/* ---- the end ---- */

static void test_checkpoint_saver__saves_the_last_step__HK_CKPT_09(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL);
    add_hook(f, save_every_steps(f, 4));
    open_session(f);
    run_steps(f, 6);
    close_session(f);
    assert_string_equal(saved_steps(), "0 4 6");
}

static void test_checkpoint_saver__does_not_save_the_last_step_twice__HK_CKPT_09(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL);
    add_hook(f, save_every_steps(f, 4));
    open_session(f);
    run_steps(f, 8);
    close_session(f);
    assert_string_equal(saved_steps(), "0 4 8");
}

static void test_checkpoint_saver__listeners_end_after_the_last_save__HK_CKPT_09(void **state) {
    fixture *f = *state;
    static listener one, two;
    one = make_listener(f, "1");
    two = make_listener(f, "2");
    use_graph(f, MODEL);
    add_hook(f, save_and_tell(f, 10, &one, &two));
    open_session(f);
    run_steps(f, 3);
    calls[0] = '\0';
    close_session(f);
    assert_string_equal(calls, "1before:3 2before:3 1after:3 2after:3 1end:3 2end:3");
    free_hooks(f);
}

/* HK-CKPT-16 and BUG-72 are TensorFlow's: there the event stays in memory. */
static void test_checkpoint_saver__last_event_is_in_the_file__BUG_72(void **state) {
    fixture *f = *state;
    belay_summary_saver_options summaries = BELAY_SUMMARY_SAVER_OPTIONS_INIT;
    use_graph(f, MODEL "summary = Const() dtype=string value=\"\"\n");
    summaries.save_steps = 1;
    summaries.output_dir = folder_of(f);
    summaries.summary_op = "summary";
    add_hook(f, belay_summary_saver_hook_new(&summaries, f->err)); /* ends first (MS-32) */
    add_hook(f, save_every_steps(f, 100));
    open_session(f);
    run_steps(f, 3);
    /* Someone else uses the folder's writer, so it stays open: nothing but end() brings it there.
     */
    belay_summary_writer *other = belay_summary_writer_shared(folder_of(f), f->err);
    assert_non_null(other);
    close_session(f);
    assert_non_null(strstr(events_with(folder_of(f), "CHECKPOINT"), "CHECKPOINT 3 "));
    belay_summary_writer_unref(other);
}

/* ---- errors ---- */

static void test_checkpoint_saver__an_error_is_the_runs__HK_CKPT_17(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL);
    add_hook(f, save_every_steps(f, 2));
    scripted_fail("save/SaveV2", 2, BELAY_RESOURCE_EXHAUSTED, "No space left on device");
    open_session(f);
    run_steps(f, 1);
    assert_int_equal(run_once(f), BELAY_RESOURCE_EXHAUSTED);
    assert_int_equal(try_close(f), BELAY_RESOURCE_EXHAUSTED);
    assert_false(has_file(f, "model.ckpt-2.index"));
}

static void test_checkpoint_saver__an_error_at_the_end_is_the_closes__HK_CKPT_17(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL);
    add_hook(f, save_every_steps(f, 100));
    scripted_fail("save/SaveV2", 2, BELAY_RESOURCE_EXHAUSTED, "No space left on device");
    open_session(f);
    run_steps(f, 1);
    assert_int_equal(try_close(f), BELAY_RESOURCE_EXHAUSTED);
}

/* TensorFlow's code for it is that of the end of the input: training would end cleanly, as far as
 * anybody could tell, without its last steps. */
static void test_checkpoint_saver__a_file_too_large_is_not_the_end_of_the_input(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL);
    add_hook(f, save_every_steps(f, 2));
    scripted_fail("save/SaveV2", 2, BELAY_OUT_OF_RANGE, "part-0; File too large");
    scripted_fail("save/SaveV2", 3, BELAY_OUT_OF_RANGE, "some index");
    open_session(f);
    run_steps(f, 1);
    assert_int_equal(run_once(f), BELAY_RESOURCE_EXHAUSTED); /* HK-CKPT-17 */
    assert_non_null(strstr(belay_error_message(f->err), "File too large: cannot save "));
    assert_non_null(strstr(belay_error_message(f->err), "ulimit -f"));
    assert_int_equal(belay_monitored_session_end_reason(f->session, NULL), BELAY_END_FAILURE);
    assert_int_equal(run_once(f), BELAY_UNKNOWN);
    assert_int_equal(try_close(f), BELAY_UNKNOWN);
}

static belay_code fill_and_go_on(void *self, belay_session *session, int64_t step,
                                 belay_error *err) {
    (void)self, (void)session, (void)step;
    belay_error_set(err, BELAY_NOT_FOUND, "looked for something, and did without");
    return BELAY_OK;
}

/* What a listener returns is what counts. */
static void test_checkpoint_saver__a_listener_may_go_on_after_an_error__HK_LSN_01(void **state) {
    fixture *f = *state;
    static const belay_checkpoint_listener_vtable table = {
        .struct_size = sizeof table, .before_save = fill_and_go_on, .end = fill_and_go_on};
    belay_checkpoint_saver_options options = options_of(f);
    options.save_steps = 2;
    options.listeners = (belay_checkpoint_listener[]){{&table, NULL}};
    options.listener_count = 1;
    use_graph(f, MODEL);
    add_hook(f, belay_checkpoint_saver_hook_new(&options, f->err));
    open_session(f);
    run_steps(f, 3);
    close_session(f);
    assert_true(has_file(f, "model.ckpt-3.index"));
}

/* ---- finding a saver ---- */

static void test_checkpoint_saver__uses_the_saver_it_is_given__HK_CKPT_14(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL);
    belay_checkpoint_saver_options options = options_of(f);
    belay_saver_options keep = BELAY_SAVER_OPTIONS_INIT;
    keep.max_to_keep = 1;
    options.scaffold = NULL;
    options.saver = belay_saver_new(f->graph, &keep, f->err);
    options.save_steps = 1;
    assert_non_null(options.saver);
    add_hook(f, belay_checkpoint_saver_hook_new(&options, f->err));
    belay_saver_free(options.saver); /* the hook keeps its own hold */
    open_session(f);
    run_steps(f, 3);
    close_session(f);
    assert_false(has_file(f, "model.ckpt-2.index"));
    assert_true(has_file(f, "model.ckpt-3.index"));
}

static void test_checkpoint_saver__finds_the_graphs_saver__HK_CKPT_14(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL);
    belay_checkpoint_saver_options options = options_of(f);
    options.scaffold = NULL;
    options.save_steps = 1;
    add_hook(f, belay_checkpoint_saver_hook_new(&options, f->err));
    open_session(f);
    run_steps(f, 1);
    close_session(f);
    assert_true(has_file(f, "model.ckpt-1.index"));
}

/* ---- listeners ---- */

static void test_checkpoint_listener__may_leave_slots_empty__HK_LSN_01(void **state) {
    fixture *f = *state;
    static const belay_checkpoint_listener_vtable empty = {.struct_size = sizeof empty};
    belay_checkpoint_saver_options options = options_of(f);
    use_graph(f, MODEL);
    options = options_of(f);
    options.listeners = (belay_checkpoint_listener[]){{&empty, NULL}};
    options.listener_count = 1;
    options.save_steps = 1;
    add_hook(f, belay_checkpoint_saver_hook_new(&options, f->err));
    open_session(f);
    run_steps(f, 1);
    close_session(f);
}

static void test_checkpoint_listener__hears_of_each_save_once__HK_LSN_02(void **state) {
    fixture *f = *state;
    static listener one;
    one = make_listener(f, "");
    use_graph(f, MODEL);
    add_hook(f, save_and_tell(f, 2, &one, NULL));
    open_session(f);
    run_steps(f, 4);
    close_session(f);
    assert_string_equal(calls, "begin before:0 after:0 before:2 after:2 before:4 after:4 end:4");
    free_hooks(f);
}

/* SV-17: none takes the place of another, below 0 either. */
static void test_checkpoint_saver__saves_negative_steps_under_names_of_their_own(void **state) {
    fixture *f = *state;
    static const char *const names[] = {"model.ckpt--2.index", "model.ckpt--1.index",
                                        "model.ckpt-0.index", "model.ckpt-1.index"};
    static listener one;
    static const char text[] = MODEL;
    const char *zero = strstr(text, "value=0\n");
    char model[2 * sizeof text + 8];
    one = make_listener(f, "");
    snprintf(model, sizeof model, "%.*svalue=-2\n%s", (int)(zero - text), text,
             zero + strlen("value=0\n"));
    use_graph(f, model);
    add_hook(f, save_and_tell(f, 1, &one, NULL));
    open_session(f);
    run_steps(f, 3);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        assert_true(has_file(f, names[i]));
    assert_false(has_file(f, "model.ckpt.index"));
    close_session(f);
    free_hooks(f);
}

/* HK-LSN-03: one that gives no text is named, with its function. */
static void test_checkpoint_listener__is_named_where_it_does_not_say_why(void **state) {
    fixture *f = *state;
    static const char *const names[] = {"before_save", "after_save", "end"};
    for (int i = 0; i < 3; i++) {
        static listener one, two;
        char text[128];
        one = make_listener(f, "1");
        two = make_listener(f, "2");
        two.silent = 1;
        two.fail_before = i == 0 ? 1 : BELAY_NO_STEP;
        two.fail_after = i == 1 ? 1 : BELAY_NO_STEP;
        two.fail_end = i == 2;
        use_graph(f, MODEL);
        add_hook(f, save_and_tell(f, 1, &one, &two));
        open_session(f);
        belay_code code = run_once(f);
        if (i == 2) {
            assert_int_equal(code, BELAY_OK);
            code = try_close(f);
        }
        snprintf(text, sizeof text, "%s of checkpoint listener number 1 failed without saying why",
                 names[i]);
        assert_int_equal(code, BELAY_INTERNAL);
        assert_string_equal(belay_error_message(f->err), text);
        try_close(f);
        free_hooks(f);
    }
}

static void test_checkpoint_listener__error_before_prevents_the_save__HK_LSN_03(void **state) {
    fixture *f = *state;
    static listener one, two;
    one = make_listener(f, "1");
    two = make_listener(f, "2");
    use_graph(f, MODEL);
    one.fail_before = 2;
    add_hook(f, save_and_tell(f, 2, &one, &two));
    open_session(f);
    run_steps(f, 1);
    calls[0] = '\0';
    assert_int_equal(run_once(f), BELAY_INTERNAL);
    assert_string_equal(belay_error_message(f->err), "before_save says no");
    assert_string_equal(calls, "1before:2");
    assert_false(has_file(f, "model.ckpt-2.index"));
    try_close(f);
    free_hooks(f);
}

static void test_checkpoint_listener__error_after_skips_the_others__HK_LSN_03(void **state) {
    fixture *f = *state;
    static listener one, two;
    one = make_listener(f, "1");
    two = make_listener(f, "2");
    use_graph(f, MODEL);
    one.fail_after = 2;
    add_hook(f, save_and_tell(f, 2, &one, &two));
    open_session(f);
    run_steps(f, 1);
    calls[0] = '\0';
    assert_int_equal(run_once(f), BELAY_INTERNAL);
    assert_string_equal(calls, "1before:2 2before:2 1after:2");
    assert_true(has_file(f, "model.ckpt-2.index"));
    try_close(f);
    free_hooks(f);
}

static void test_checkpoint_listener__error_at_the_end_is_the_closes__HK_LSN_03(void **state) {
    fixture *f = *state;
    static listener one, two;
    one = make_listener(f, "1");
    two = make_listener(f, "2");
    use_graph(f, MODEL);
    one.fail_end = 1;
    add_hook(f, save_and_tell(f, 2, &one, &two));
    open_session(f);
    assert_int_equal(try_close(f), BELAY_INTERNAL);
    assert_null(strstr(calls, "2end"));
    free_hooks(f);
}

/* WS-24: an error of a lost task at the initial save makes creation start again. */
static void test_checkpoint_saver__a_lost_task_at_the_initial_save__WS_24(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL);
    add_hook(f, save_every_steps(f, 2));
    scripted_fail("save/SaveV2", 1, BELAY_UNAVAILABLE, "Socket closed");
    open_session(f);
    assert_int_equal(scripted_count("TF_NewSession"), 2);
    assert_true(has_file(f, "model.ckpt-0.index"));
    close_session(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_checkpoint_saver__needs_exactly_one_frequency__HK_CKPT_02),
        TEST(test_checkpoint_saver__refuses_saver_with_scaffold__HK_CKPT_02),
        TEST(test_checkpoint_saver__refuses_what_it_cannot_use__HK_CKPT_01),
        TEST(test_checkpoint_saver__destroys_listeners_also_where_it_is_refused),
        TEST(test_checkpoint_saver__destroys_a_listener_it_does_not_understand),
        TEST(test_checkpoint_saver__destroys_listeners_whatever_is_wrong),
        TEST(test_checkpoint_saver__begin_makes_folder_and_event_file__HK_CKPT_04),
        TEST(test_checkpoint_saver__needs_a_global_step__HK_CKPT_04),
        TEST(test_checkpoint_saver__listeners_begin_in_order__HK_CKPT_04),
        TEST(test_checkpoint_saver__names_checkpoints_by_step__HK_CKPT_03),
        TEST(test_checkpoint_saver__saves_before_the_first_step__HK_CKPT_05),
        TEST(test_checkpoint_saver__puts_the_graph_before_checkpoints__HK_CKPT_05),
        TEST(test_checkpoint_saver__does_not_save_what_it_was_restored_from__BUG_51),
        TEST(test_checkpoint_saver__knows_its_folder_by_any_name__BUG_51),
        TEST(test_checkpoint_saver__saves_what_another_folder_gave),
        TEST(test_checkpoint_saver__saves_under_its_own_name),
        TEST(test_checkpoint_saver__saves_a_fresh_start_over_an_old_one),
        TEST_WAITING(test_checkpoint_saver__recovery_repeats_neither_graph_nor_save__BUG_51),
        TEST(test_checkpoint_saver__saves_nothing_where_nothing_will_run),
        TEST(test_checkpoint_saver__saves_every_n_steps__HK_CKPT_08),
        TEST(test_checkpoint_saver__goes_by_the_exact_step__HK_CKPT_07),
        TEST(test_checkpoint_saver__saves_every_n_secs__HK_CKPT_07),
        TEST_WAITING(test_checkpoint_saver__saves_when_a_run_ends_late__HK_CKPT_07),
        TEST(test_checkpoint_saver__does_not_save_a_step_twice__HK_CKPT_07),
        TEST(test_checkpoint_saver__tells_listeners_around_the_save__HK_CKPT_10),
        TEST(test_checkpoint_saver__says_what_it_does__HK_CKPT_12),
        TEST(test_checkpoint_saver__event_has_the_path_without_step__HK_CKPT_11),
        TEST(test_checkpoint_saver__writes_the_graph_as_text__HK_CKPT_05),
        TEST(test_checkpoint_saver__writes_meta_beside_each__HK_CKPT_10),
        TEST(test_checkpoint_saver__writes_no_graph_where_told__MS_39),
        TEST(test_checkpoint_saver__keeps_one_meta_where_told),
        TEST(test_checkpoint_saver__a_failed_save_leaves_the_one_meta_where_it_was),
        TEST(test_checkpoint_saver__writes_meta_again_where_it_was_lost),
        TEST(test_checkpoint_saver__a_listener_may_stop_training__HK_CKPT_13),
        TEST(test_checkpoint_saver__also_at_the_initial_save__BUG_47),
        TEST(test_checkpoint_saver__saves_the_last_step__HK_CKPT_09),
        TEST(test_checkpoint_saver__does_not_save_the_last_step_twice__HK_CKPT_09),
        TEST(test_checkpoint_saver__listeners_end_after_the_last_save__HK_CKPT_09),
        TEST(test_checkpoint_saver__last_event_is_in_the_file__BUG_72),
        TEST(test_checkpoint_saver__an_error_is_the_runs__HK_CKPT_17),
        TEST(test_checkpoint_saver__an_error_at_the_end_is_the_closes__HK_CKPT_17),
        TEST(test_checkpoint_saver__a_file_too_large_is_not_the_end_of_the_input),
        TEST(test_checkpoint_saver__a_listener_may_go_on_after_an_error__HK_LSN_01),
        TEST(test_checkpoint_saver__uses_the_saver_it_is_given__HK_CKPT_14),
        TEST(test_checkpoint_saver__finds_the_graphs_saver__HK_CKPT_14),
        TEST(test_checkpoint_listener__may_leave_slots_empty__HK_LSN_01),
        TEST(test_checkpoint_listener__hears_of_each_save_once__HK_LSN_02),
        TEST(test_checkpoint_listener__error_before_prevents_the_save__HK_LSN_03),
        TEST(test_checkpoint_saver__saves_negative_steps_under_names_of_their_own),
        TEST(test_checkpoint_listener__is_named_where_it_does_not_say_why),
        TEST(test_checkpoint_listener__error_after_skips_the_others__HK_LSN_03),
        TEST(test_checkpoint_listener__error_at_the_end_is_the_closes__HK_LSN_03),
        TEST_WAITING(test_checkpoint_saver__a_lost_task_at_the_initial_save__WS_24),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
