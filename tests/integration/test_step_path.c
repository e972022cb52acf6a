/* What a step costs belay, and RunOptions, over the real TensorFlow. */
#include "session_run.h"

#include "base/mem.h"
#include "base/thread.h"
#include "session/run_options.h"
#include "wire/unpack.h"

/* ---- the path of a step on which nothing is due ---- */

#define IDLE_STEPS 10000

/* All the default hooks are there, and none has anything to do before the last of these steps. */
static belay_monitored_session *open_idle(belay_graph *graph, belay_threads threads) {
    belay_training_options options = BELAY_TRAINING_OPTIONS_INIT;
    options.checkpoint_dir = TEST_WORK "/idle";
    options.save_checkpoint_secs = 1e6;
    options.save_summaries_steps = 10 * IDLE_STEPS;
    options.log_step_count_steps = 10 * IDLE_STEPS;
    options.threads = threads;
    bly_remove_directory(options.checkpoint_dir, NULL);
    belay_monitored_session *session = belay_monitored_training_session_open(graph, &options, err);
    assert_made(session);
    return session;
}

/* Design, section 6: no allocation and no lock. Fetched values go into the tensors of the run
 * before. */
static void test_step__allocates_nothing_and_takes_no_lock(void **state) {
    (void)state;
    for (belay_threads threads = BELAY_THREADS_AUTO; threads <= BELAY_THREADS_CALLER; threads++) {
        struct trainee t = trainee_load("tiny_final.meta");
        belay_monitored_session *session = open_idle(t.graph, threads);
        belay_step *step = belay_step_prepare(session, NULL, (const char *[]){"global_step", NULL},
                                              (const char *[]){"train", NULL}, err);
        assert_made(step);
        belay_tensor *value = NULL;
        for (int i = 0; i < 100; i++) /* the hooks' first run, and the tuner's */
            assert_ok(belay_step_run(step, NULL, &value, err));
        size_t made = bly_mem_count_here(), taken = bly_mutex_count_here();
        for (int i = 0; i < IDLE_STEPS; i++)
            if (belay_monitored_session_should_stop(session) ||
                belay_step_run(step, NULL, &value, err) != BELAY_OK)
                fail_msg("%s", belay_error_message(err));
        assert_int_equal(bly_mem_count_here() - made, 0);
        assert_int_equal(bly_mutex_count_here() - taken, 0);
        assert_int_equal(belay_monitored_session_progress(session)->global_step, 100 + IDLE_STEPS);
        belay_tensor_free(value);
        assert_ok(belay_monitored_session_close(session, err));
        belay_graph_free(t.graph);
    }
}

/* ---- RunOptions ---- */

#define FULL_TRACE 3

static size_t pack(Bly__RunOptions options, void *out) {
    return bly__run_options__pack(&options, out);
}

/* A hook that asks for a trace in every run. */
struct tracer {
    belay_run_metadata *metadata;
    size_t told;   /* bytes of RunMetadata, in the last after_run */
    int32_t level; /* of the options that the run had */
    int64_t timeout;
};

static belay_code ask_for_trace(void *self, belay_run_context *run, belay_error *error) {
    struct tracer *tracer = self;
    uint8_t bytes[64];
    Bly__RunOptions wanted = BLY__RUN_OPTIONS__INIT;
    belay_run_options options = BELAY_RUN_OPTIONS_INIT;
    wanted.trace_level = FULL_TRACE;
    options.run_options = bytes;
    options.run_options_size = pack(wanted, bytes);
    options.metadata = tracer->metadata;
    return belay_run_context_merge_options(run, &options, error);
}

static belay_code look_at_trace(void *self, belay_run_context *run, belay_error *error) {
    struct tracer *tracer = self;
    size_t size;
    const void *sent = belay_run_context_run_options(run, &size);
    Bly__RunOptions *options = bly_run_options_read(sent, size, error);
    if (!sent || !options)
        return belay_error_set(error, BELAY_INTERNAL, "the run had no options");
    tracer->level = options->trace_level;
    tracer->timeout = options->timeout_in_ms;
    bly_wire_free(options);
    belay_run_metadata_data(tracer->metadata, &tracer->told);
    return BELAY_OK;
}

static belay_monitored_session *open_traced(belay_graph *graph, struct tracer *tracer) {
    static const belay_hook_vtable table = {
        .struct_size = sizeof table, .before_run = ask_for_trace, .after_run = look_at_trace};
    belay_monitored_session_options options = BELAY_MONITORED_SESSION_OPTIONS_INIT;
    belay_hook *hook = belay_hook_new(&table, tracer, err);
    assert_made(hook);
    options.hooks = &hook;
    options.hook_count = 1;
    belay_monitored_session *session = belay_monitored_session_open(graph, &options, err);
    belay_hook_free(hook);
    assert_made(session);
    return session;
}

/* HK-RUN-13, HK-RUN-17, HK-RUN-22, HK-RUN-26, HK-RUN-28, BUG-39, BUG-43, SE-31, SE-35. */
static void test_run_options__of_a_step_and_a_hook_are_merged(void **state) {
    (void)state;
    uint8_t bytes[64];
    Bly__RunOptions own = BLY__RUN_OPTIONS__INIT;
    belay_run_options options = BELAY_RUN_OPTIONS_INIT;
    struct tracer tracer = {.metadata = belay_run_metadata_new(err)};
    belay_run_metadata *mine = belay_run_metadata_new(err);
    belay_graph *graph = load("tiny.meta");
    belay_monitored_session *session = open_traced(graph, &tracer);
    belay_step *step =
        belay_step_prepare(session, NULL, NULL, (const char *[]){"train", NULL}, err);
    assert_made(step);
    assert_ok(belay_step_run(step, NULL, NULL, err));
    assert_int_equal(tracer.level, FULL_TRACE);
    assert_int_equal(tracer.timeout, 0);
    assert_true(tracer.told > 0);
    own.timeout_in_ms = 60000;
    options.run_options = bytes;
    options.run_options_size = pack(own, bytes);
    options.metadata = mine;
    assert_ok(belay_step_set_run_options(step, &options, err));
    for (int i = 0; i < 2; i++) { /* the second is not changed by the first */
        size_t size;
        assert_ok(belay_step_run(step, NULL, NULL, err));
        assert_int_equal(tracer.level, FULL_TRACE);
        assert_int_equal(tracer.timeout, 60000);
        assert_non_null(belay_run_metadata_data(mine, &size));
        assert_int_equal(size, tracer.told);
    }
    assert_ok(belay_monitored_session_close(session, err));
    belay_graph_free(graph);
    belay_run_metadata_free(tracer.metadata);
    belay_run_metadata_free(mine);
}

/* SE-32, SE-34, TO-10, HK-RUN-25: the step's own timeout, with no hook and no tuning in the way. */
static void test_run_options__timeout_bounds_a_step(void **state) {
    (void)state;
    uint8_t bytes[64];
    Bly__RunOptions own = BLY__RUN_OPTIONS__INIT;
    belay_run_options options = BELAY_RUN_OPTIONS_INIT;
    belay_monitored_session_options monitored = BELAY_MONITORED_SESSION_OPTIONS_INIT;
    belay_graph *graph = load("slow.meta");
    monitored.threads = BELAY_THREADS_CALLER; /* which a timeout rules out: BUG-74 */
    belay_monitored_session *session = belay_monitored_session_open(graph, &monitored, err);
    assert_made(session);
    belay_step *step =
        belay_step_prepare(session, NULL, NULL, (const char *[]){"train", NULL}, err);
    assert_made(step);
    own.timeout_in_ms = 20;
    options.run_options = bytes;
    options.run_options_size = pack(own, bytes);
    assert_ok(belay_step_set_run_options(step, &options, err));
    assert_fails(BELAY_DEADLINE_EXCEEDED, "", belay_step_run(step, NULL, NULL, err));
    /* The session can still be used; the iterator cannot: its own wait was cancelled with the run.
     */
    belay_step *read =
        belay_step_prepare(session, NULL, (const char *[]){"global_step", NULL}, NULL, err);
    belay_tensor *value = NULL;
    assert_made(read);
    assert_ok(belay_step_set_run_options(read, &options, err));
    options.run_options = "\xff\xff";
    options.run_options_size = 2;
    assert_fails(BELAY_INVALID_ARGUMENT, "not a serialised RunOptions (2 bytes)",
                 belay_step_set_run_options(read, &options, err));
    assert_ok(belay_step_run(read, NULL, &value, err));
    belay_tensor_free(value);
    assert_ok(belay_monitored_session_close(session, err));
    belay_graph_free(graph);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_step__allocates_nothing_and_takes_no_lock),
        cmocka_unit_test(test_run_options__of_a_step_and_a_hook_are_merged),
        cmocka_unit_test(test_run_options__timeout_bounds_a_step),
    };
    return cmocka_run_group_tests(tests, session_run_set_up, session_run_tear_down);
}
