/* How a step is run: in TensorFlow's threads or in the caller's. */
#include "scripted_runtime.h"

#include "base/error.h"
#include "runtime/fpu.h"
#include "session/step.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define MOST_RUNS 100

/* RunOptions with inter_op_thread_pool = -1. */
static const uint8_t in_caller[] = {0x18, 0xff, 0xff, 0xff, 0xff, 0xff,
                                    0xff, 0xff, 0xff, 0xff, 0x01};

/* ---- the choice ---- */

static void test_tuner__keeps_to_what_it_was_told(void **state) {
    bly_tuner tuner;
    (void)state;
    bly_tuner_start(&tuner, BELAY_THREADS_POOL, 1);
    assert_false(tuner.in_caller || tuner.measuring);
    bly_tuner_start(&tuner, BELAY_THREADS_CALLER, 1);
    assert_true(tuner.in_caller && !tuner.measuring);
    bly_tuner_start(&tuner, BELAY_THREADS_CALLER, 0);
    assert_false(tuner.in_caller || tuner.measuring);
    bly_tuner_start(&tuner, BELAY_THREADS_AUTO, 0);
    assert_false(tuner.in_caller || tuner.measuring);
    bly_tuner_start(&tuner, BELAY_THREADS_AUTO, 1);
    assert_true(tuner.measuring);
}

/* Runs that take `took[0]` in the pool and took[1] in the calling thread, every `noisy`-th of them
 * a thousand times as long. Returns the way that is kept, and how often each was tried. */
static int choose(const int64_t *took, int noisy, int *out_tried) {
    bly_tuner tuner;
    int runs = 0;
    out_tried[0] = out_tried[1] = 0;
    bly_tuner_start(&tuner, BELAY_THREADS_AUTO, 1);
    while (tuner.measuring && runs < MOST_RUNS) {
        int way = tuner.in_caller;
        out_tried[way]++;
        runs++;
        bly_tuner_learn(&tuner, took[way] * (noisy && runs % noisy == 0 ? 1000 : 1));
    }
    assert_true(runs < MOST_RUNS);
    return tuner.in_caller;
}

static void test_tuner__measures_both_and_keeps_the_faster(void **state) {
    int tried[2];
    (void)state;
    assert_int_equal(choose((const int64_t[]){22, 2}, 0, tried), 1);
    assert_true(tried[0] >= 8 && tried[1] >= 8);
    assert_int_equal(choose((const int64_t[]){150, 240}, 0, tried), 0);
    assert_int_equal(choose((const int64_t[]){5, 5}, 0, tried), 1);
    /* Noise makes a run slower, and never faster. */
    for (int noisy = 2; noisy < 6; noisy++) {
        assert_int_equal(choose((const int64_t[]){22, 2}, noisy, tried), 1);
        assert_int_equal(choose((const int64_t[]){150, 240}, noisy, tried), 0);
    }
}

/* The first runs build what later ones use: however long they take, they decide nothing. */
static void test_tuner__does_not_count_the_first_runs(void **state) {
    bly_tuner tuner;
    (void)state;
    bly_tuner_start(&tuner, BELAY_THREADS_AUTO, 1);
    int seen[2] = {0, 0};
    for (int i = 0; i < 3; i++) {
        seen[tuner.in_caller] = 1;
        bly_tuner_learn(&tuner, 1);
    }
    assert_true(seen[0] && seen[1]);
    while (tuner.measuring)
        bly_tuner_learn(&tuner, tuner.in_caller ? 300 : 200);
    assert_int_equal(tuner.in_caller, 0);
}

/* ---- where the calling thread is allowed ---- */

#define MODEL SCRIPTED_GLOBAL_STEP SCRIPTED_TRAIN SCRIPTED_INIT SCRIPTED_SAVER

static int set_up(void **state) {
    (void)state;
    scripted_install();
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    scripted_release();
    scripted_uninstall();
    return 0;
}

/* 1 where a step of a session with these options was run in the calling thread. */
static int runs_in_caller(const char *text, const char *target, const void *config,
                          size_t config_size) {
    BLY_LOCAL_ERROR(err);
    uint8_t options[64];
    belay_session_options session_options = BELAY_SESSION_OPTIONS_INIT;
    belay_chief_session_creator_options chief = BELAY_CHIEF_SESSION_CREATOR_OPTIONS_INIT;
    belay_monitored_session_options monitored = BELAY_MONITORED_SESSION_OPTIONS_INIT;
    belay_graph *graph = scripted_graph(text, &err);
    assert_non_null(graph);
    session_options.target = target;
    session_options.config = config;
    session_options.config_size = config_size;
    chief.session = &session_options;
    monitored.creator = belay_chief_session_creator_new(graph, &chief, &err);
    monitored.threads = BELAY_THREADS_CALLER;
    monitored.stop_grace_period_secs = 5;
    belay_monitored_session *session = belay_monitored_session_open(graph, &monitored, &err);
    if (!session)
        fail_msg("%s", err.message);
    belay_step *step =
        belay_step_prepare(session, NULL, NULL, (const char *[]){"train", NULL}, &err);
    assert_int_equal(belay_step_run(step, NULL, NULL, &err), BELAY_OK);
    size_t size = scripted_last_run_options(options, sizeof options);
    assert_int_equal(belay_monitored_session_close(session, &err), BELAY_OK);
    belay_session_creator_free(monitored.creator);
    belay_graph_free(graph);
    return size == sizeof in_caller && memcmp(options, in_caller, size) == 0;
}

/* BUG-74; design, section 6. */
static void test_step__is_never_run_in_the_calling_thread_where_that_would_hurt(void **state) {
    static const uint8_t operation_timeout[] = {0x58, 0x64};
    static const uint8_t no_timeout[] = {0x58, 0x00};
    /* intra_op_parallelism_threads = 3, then device_count {"a": 1}, then the timeout */
    static const uint8_t others[] = {0x10, 0x03, 0x0a, 0x05, 0x0a, 0x01,
                                     'a',  0x10, 0x01, 0x58, 0x64};
    (void)state;
    assert_true(runs_in_caller(MODEL, NULL, NULL, 0));
    assert_true(runs_in_caller(MODEL, "", no_timeout, sizeof no_timeout));
    assert_true(runs_in_caller(MODEL, NULL, others, sizeof others - 2));
    assert_false(runs_in_caller(MODEL, NULL, operation_timeout, sizeof operation_timeout));
    assert_false(runs_in_caller(MODEL, NULL, others, sizeof others));
    assert_false(runs_in_caller(MODEL, "grpc://worker:1", NULL, 0));
    assert_false(runs_in_caller(MODEL SCRIPTED_QUEUE, NULL, NULL, 0));
}

/* ---- the floating-point mode of a run in the calling thread ---- */

static void note_mode(void *self) {
    *(unsigned int *)self = _mm_getcsr();
}

#define STATUS_FLAGS 0x3fu

/* What the processor makes of a mode: valgrind's knows no flushing to zero. */
static unsigned int as_set(unsigned int mode) {
    unsigned int before = _mm_getcsr();
    _mm_setcsr(mode);
    unsigned int is = _mm_getcsr();
    _mm_setcsr(before);
    return is & ~STATUS_FLAGS;
}

/* Beside BUG-74: a host that traps divisions by zero and rounds down: TensorFlow computes as in its
 * own threads, and the host finds its mode again. */
static void test_step__in_the_calling_thread_has_tensorflow_s_floating_point_mode(void **state) {
    const unsigned int hosts = (0x1f80u & ~0x0200u) | 0x2000u;
    unsigned int before = _mm_getcsr(), inside = 0, after;
    (void)state;
    scripted_call("train", 1, note_mode, &inside);
    _mm_setcsr(hosts);
    int in_caller_thread = runs_in_caller(MODEL, NULL, NULL, 0);
    after = _mm_getcsr();
    _mm_setcsr(before);
    assert_true(in_caller_thread);
    assert_int_equal(inside & ~STATUS_FLAGS, as_set(BLY_FPU_TENSORFLOW));
    assert_int_equal(after & ~STATUS_FLAGS, as_set(hosts));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tuner__keeps_to_what_it_was_told),
        cmocka_unit_test(test_tuner__measures_both_and_keeps_the_faster),
        cmocka_unit_test(test_tuner__does_not_count_the_first_runs),
        cmocka_unit_test_setup_teardown(
            test_step__is_never_run_in_the_calling_thread_where_that_would_hurt, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            test_step__in_the_calling_thread_has_tensorflow_s_floating_point_mode, set_up,
            tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
