/* RunOptions of a step and its hooks, merged: HK-RUN-22 to HK-RUN-28, BUG-39, BUG-40. */
#include "hooks_fixture.h"

#include "session/run_options.h"
#include "wire/unpack.h"

static size_t pack(const Bly__RunOptions *options, uint8_t *out) {
    return bly__run_options__pack(options, out);
}

/* ---- merging two ---- */

static Bly__RunOptions *copy_of(const Bly__RunOptions *options) {
    uint8_t bytes[256];
    Bly__RunOptions *copy = bly_run_options_read(bytes, pack(options, bytes), NULL);
    assert_non_null(copy);
    return copy;
}

/* `b` merged into `a`; the caller frees it. */
static Bly__RunOptions *merged(const Bly__RunOptions *a, const Bly__RunOptions *b) {
    Bly__RunOptions *into = copy_of(a), *hooks = copy_of(b);
    assert_int_equal(bly_run_options_merge(into, hooks, NULL), BELAY_OK);
    bly_wire_free(hooks);
    return into;
}

/* HK-RUN-22. */
static void test_merge__takes_the_largest_and_any(void **state) {
    Bly__RunOptions a = BLY__RUN_OPTIONS__INIT, b = BLY__RUN_OPTIONS__INIT;
    (void)state;
    a.trace_level = 1;
    b.trace_level = 3;
    a.timeout_in_ms = 500;
    b.timeout_in_ms = 20;
    a.inter_op_thread_pool = 1;
    b.inter_op_thread_pool = 2;
    b.output_partition_graphs = 1;
    a.report_tensor_allocations_upon_oom = 1;
    for (int turn = 0; turn < 2; turn++) {
        Bly__RunOptions *all = turn ? merged(&a, &b) : merged(&b, &a);
        assert_int_equal(all->trace_level, 3);
        assert_int_equal(all->timeout_in_ms, 500);
        assert_int_equal(all->inter_op_thread_pool, 2);
        assert_true(all->output_partition_graphs);
        assert_true(all->report_tensor_allocations_upon_oom);
        bly_wire_free(all);
    }
}

/* BUG-40: 0 is "not said", and experimental is merged as TensorFlow merges messages. */
static void test_merge__loses_neither_the_calling_thread_nor_experimental(void **state) {
    Bly__RunOptions a = BLY__RUN_OPTIONS__INIT, b = BLY__RUN_OPTIONS__INIT;
    uint8_t first[] = {8, 7}, second[] = {16, 1};
    (void)state;
    a.inter_op_thread_pool = -1;
    a.experimental = (ProtobufCBinaryData){sizeof first, first};
    b.experimental = (ProtobufCBinaryData){sizeof second, second};
    Bly__RunOptions *all = merged(&a, &b);
    assert_int_equal(all->inter_op_thread_pool, -1);
    assert_int_equal(all->experimental.len, 4);
    assert_memory_equal(all->experimental.data, ((uint8_t[]){8, 7, 16, 1}), 4);
    bly_wire_free(all);
    all = merged(&b, &a);
    assert_int_equal(all->inter_op_thread_pool, -1);
    bly_wire_free(all);
}

/* HK-RUN-23, HK-RUN-24. */
static void test_merge__appends_watches_and_keeps_the_steps_global_step(void **state) {
    Bly__RunOptions a = BLY__RUN_OPTIONS__INIT, b = BLY__RUN_OPTIONS__INIT,
                    none = BLY__RUN_OPTIONS__INIT;
    Bly__DebugOptions da = BLY__DEBUG_OPTIONS__INIT, db = BLY__DEBUG_OPTIONS__INIT;
    ProtobufCBinaryData one = {2, (uint8_t *)"\n\0"}, two = {4, (uint8_t *)"\n\2ab"};
    (void)state;
    da.debug_tensor_watch_opts = &one;
    da.n_debug_tensor_watch_opts = 1;
    da.global_step = 5;
    db.debug_tensor_watch_opts = &two;
    db.n_debug_tensor_watch_opts = 1;
    db.global_step = 9;
    db.reset_disk_byte_usage = 1;
    a.debug_options = &da;
    b.debug_options = &db;
    Bly__RunOptions *all = merged(&a, &b);
    assert_int_equal(all->debug_options->n_debug_tensor_watch_opts, 2);
    assert_int_equal(all->debug_options->debug_tensor_watch_opts[0].len, 2);
    assert_int_equal(all->debug_options->debug_tensor_watch_opts[1].len, 4);
    assert_int_equal(all->debug_options->global_step, 5);
    assert_true(all->debug_options->reset_disk_byte_usage);
    bly_wire_free(all);
    all = merged(&none, &b);
    assert_int_equal(all->debug_options->n_debug_tensor_watch_opts, 1);
    assert_int_equal(all->debug_options->global_step, 0);
    bly_wire_free(all);
}

/* ---- in a session ---- */

/* A hook with options of its own. */
typedef struct asker {
    Bly__RunOptions options;
    const void *raw; /* these bytes instead */
    size_t raw_size;
    belay_run_metadata *metadata;
    int too_late; /* asks in after_run */
    size_t told;
} asker;

static belay_code ask(asker *a, belay_run_context *run, belay_error *err) {
    uint8_t bytes[256];
    belay_run_options options = BELAY_RUN_OPTIONS_INIT;
    options.run_options = a->raw ? a->raw : bytes;
    options.run_options_size = a->raw ? a->raw_size : pack(&a->options, bytes);
    options.metadata = a->metadata;
    return belay_run_context_merge_options(run, &options, err);
}

static belay_code ask_before(void *self, belay_run_context *run, belay_error *err) {
    asker *a = self;
    size_t size;
    assert_null(belay_run_context_run_options(run, &size));
    assert_int_equal(size, 0);
    return a->too_late ? BELAY_OK : ask(a, run, err);
}

static belay_code ask_after(void *self, belay_run_context *run, belay_error *err) {
    asker *a = self;
    if (a->metadata)
        belay_run_metadata_data(a->metadata, &a->told);
    return a->too_late ? ask(a, run, err) : BELAY_OK;
}

static void add_asker(fixture *f, asker *a) {
    static const belay_hook_vtable table = {
        .struct_size = sizeof table, .before_run = ask_before, .after_run = ask_after};
    a->options = (Bly__RunOptions)BLY__RUN_OPTIONS__INIT;
    add_hook(f, belay_hook_new(&table, a, f->err));
}

/* What the last run had; the caller frees it. */
static Bly__RunOptions *last_options(void) {
    uint8_t bytes[256];
    size_t size = scripted_last_run_options(bytes, sizeof bytes);
    Bly__RunOptions *options = bly_run_options_read(bytes, size, NULL);
    assert_non_null(options);
    return options;
}

static void assert_last(int trace_level, int64_t timeout, int pool) {
    Bly__RunOptions *options = last_options();
    assert_int_equal(options->trace_level, trace_level);
    assert_int_equal(options->timeout_in_ms, timeout);
    assert_int_equal(options->inter_op_thread_pool, pool);
    bly_wire_free(options);
}

static void set_options(fixture *f, const Bly__RunOptions *own, belay_run_metadata *metadata) {
    uint8_t bytes[256];
    belay_run_options options = BELAY_RUN_OPTIONS_INIT;
    options.run_options = bytes;
    options.run_options_size = pack(own, bytes);
    options.metadata = metadata;
    assert_ok(f, belay_step_set_run_options(f->step, &options, f->err));
}

/* HK-RUN-22, HK-RUN-25, HK-RUN-26, BUG-39: caller, then hooks; the next run starts from the
 * caller's own again. */
static void test_hooks_options__last_for_one_run(void **state) {
    fixture *f = *state;
    static asker a, b;
    Bly__RunOptions own = BLY__RUN_OPTIONS__INIT;
    a = b = (asker){.told = 0};
    use_graph(f, MODEL);
    add_asker(f, &a);
    add_asker(f, &b);
    open_session(f);
    a.options.trace_level = 1;
    b.options.trace_level = 2;
    b.options.timeout_in_ms = 700;
    own.timeout_in_ms = 300;
    set_options(f, &own, NULL);
    run_steps(f, 1);
    assert_last(2, 700, 0);
    a.options.trace_level = b.options.trace_level = 0;
    b.options.timeout_in_ms = 0;
    run_steps(f, 1);
    assert_last(0, 300, 0);
    close_session(f);
}

/* Design, section 6: the caller's own win; BUG-74: a timeout, whoever set it, rules out the calling
 * thread. */
static void test_options__decide_which_thread_computes(void **state) {
    fixture *f = *state;
    static asker a;
    Bly__RunOptions own = BLY__RUN_OPTIONS__INIT;
    a = (asker){.told = 0};
    use_graph(f, MODEL);
    add_asker(f, &a);
    open_session(f);
    own.inter_op_thread_pool = -1;
    set_options(f, &own, NULL);
    run_steps(f, 40);
    assert_last(0, 0, -1);
    own.inter_op_thread_pool = 0;
    own.timeout_in_ms = 300;
    set_options(f, &own, NULL);
    run_steps(f, 40);
    assert_last(0, 300, 0);
    assert_ok(f, belay_step_set_run_options(f->step, NULL, f->err));
    a.options.timeout_in_ms = 200;
    run_steps(f, 40); /* whatever the tuner found */
    assert_last(0, 200, 0);
    close_session(f);
}

/* HK-RUN-17, BUG-43: everybody who asked for it is told; where nobody did, nothing is collected. */
static void test_metadata__goes_to_those_who_want_it(void **state) {
    fixture *f = *state;
    static asker a, b;
    Bly__RunOptions own = BLY__RUN_OPTIONS__INIT;
    size_t told;
    a = b = (asker){.told = 0};
    belay_run_metadata *mine = belay_run_metadata_new(f->err);
    a.metadata = belay_run_metadata_new(f->err);
    use_graph(f, MODEL);
    add_asker(f, &a);
    add_asker(f, &b);
    open_session(f);
    size_t buffers = (size_t)scripted_alive().buffers;
    run_steps(f, 1);
    assert_true(a.told > 0);
    set_options(f, &own, mine);
    run_steps(f, 1);
    belay_run_metadata_data(mine, &told);
    assert_int_equal(told, a.told);
    /* A run that fails tells nothing new (SE-31). */
    scripted_fail("train", 3, BELAY_INTERNAL, "broken");
    assert_int_equal(run_once(f), BELAY_INTERNAL);
    belay_run_metadata_data(mine, &told);
    assert_int_equal(told, a.told);
    assert_ok(f, belay_step_set_run_options(f->step, NULL, f->err));
    run_steps(f, 1);
    assert_int_equal(scripted_alive().buffers, buffers); /* none is left behind */
    close_session(f);
    belay_run_metadata_free(mine);
    belay_run_metadata_free(a.metadata);
}

/* SE-20, HK-RUN-17: a run of nothing has no metadata: neither the run's before, nor those of
 * belay's own look at the step. */
static void test_metadata__of_a_run_of_nothing_are_none(void **state) {
    fixture *f = *state;
    static asker a;
    a = (asker){.metadata = belay_run_metadata_new(f->err)};
    use_graph(f, MODEL);
    add_asker(f, &a);
    open_session(f);
    run_steps(f, 1);
    assert_true(a.told > 0);
    belay_step *nothing = belay_step_prepare(f->session, NULL, NULL, NULL, f->err);
    assert_non_null(nothing);
    assert_ok(f, belay_step_run(nothing, NULL, NULL, f->err));
    assert_int_equal(a.told, 0);
    run_steps(f, 1);
    assert_true(a.told > 0);
    close_session(f);
    belay_run_metadata_free(a.metadata);
}

static void test_options__that_are_none_are_refused(void **state) {
    fixture *f = *state;
    static asker a;
    a = (asker){.raw = "\xff", .raw_size = 1};
    use_graph(f, MODEL);
    add_asker(f, &a);
    open_session(f);
    assert_int_equal(run_once(f), BELAY_INVALID_ARGUMENT);
    assert_string_equal(belay_error_message(f->err),
                        "run_options is not a serialised RunOptions (1 bytes)");
    assert_int_equal(scripted_count("train"), 0);
    a = (asker){.too_late = 1};
    a.options = (Bly__RunOptions)BLY__RUN_OPTIONS__INIT;
    assert_int_equal(run_once(f), BELAY_FAILED_PRECONDITION);
    assert_string_equal(belay_error_message(f->err), "a hook can set options only in before_run");
    assert_int_equal(belay_step_set_run_options(NULL, NULL, NULL), BELAY_INVALID_ARGUMENT);
    try_close(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_merge__takes_the_largest_and_any),
        cmocka_unit_test(test_merge__loses_neither_the_calling_thread_nor_experimental),
        cmocka_unit_test(test_merge__appends_watches_and_keeps_the_steps_global_step),
        TEST(test_hooks_options__last_for_one_run),
        TEST(test_options__decide_which_thread_computes),
        TEST(test_metadata__goes_to_those_who_want_it),
        TEST(test_metadata__of_a_run_of_nothing_are_none),
        TEST(test_options__that_are_none_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
