/* The hook for SyncReplicasOptimizer: section HK-SYNC of the behaviour. */
#include "hooks_fixture.h"

/* Each step takes a token; the queue's runner is what a chief's optimizer has: an op that hands out
 * more. */
#define TOKENS                                                                                     \
    "tokens = FIFOQueueV2() capacity=4 component_types={int64}\n"                                  \
    "token = Const() dtype=int64 value=7\n"                                                        \
    "sync = QueueEnqueueV2(tokens, token)\n"                                                       \
    "first_token = QueueEnqueueV2(tokens, token)\n"                                                \
    "chief_init = NoOp()\n"                                                                        \
    "local_init = NoOp()\n"                                                                        \
    "take = QueueDequeueV2(tokens) component_types={int64}\n"
#define READY     "missing = Const() dtype=string value=[]\n"
#define NOT_READY "missing = Const() dtype=string value=[\"w\"]\n"
#define RECORDED                                                                                   \
    "collection belay_sync_replicas: chief_init, local_init, missing:0, first_token, tokens, "     \
    "sync\n"

static belay_hook *sync_hook(fixture *f, uint32_t is_worker) {
    belay_sync_replicas_options options = BELAY_SYNC_REPLICAS_OPTIONS_INIT;
    options.is_worker = is_worker;
    return belay_sync_replicas_hook_new(&options, f->err);
}

static void test_sync_replicas__checks_its_options__ER_28(void **state) {
    fixture *f = *state;
    assert_not_made(f, sync_hook(f, 2), "is_worker must be 0 or 1");
}

/* Nobody applied gradients, or the exporter was not told. */
static void test_sync_replicas__needs_the_optimizers_ops__HK_SYNC_01(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL TOKENS READY);
    add_hook(f, sync_hook(f, 0));
    assert_int_equal(try_open(f), BELAY_INVALID_ARGUMENT);
    assert_non_null(strstr(belay_error_message(f->err), "chief_init_op is not given"));
}

static void test_sync_replicas__names_an_op_that_is_not_there__HK_SYNC_01(void **state) {
    fixture *f = *state;
    belay_sync_replicas_options options = BELAY_SYNC_REPLICAS_OPTIONS_INIT;
    use_graph(f, MODEL TOKENS READY RECORDED);
    options.init_tokens_op = "nothing";
    add_hook(f, belay_sync_replicas_hook_new(&options, f->err));
    assert_int_equal(try_open(f), BELAY_NOT_FOUND);
}

/* HK-SYNC-03 */
static void test_sync_replicas__starts_a_chiefs_session__HK_SYNC_02(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL TOKENS READY RECORDED);
    add_hook(f, sync_hook(f, 0));
    open_session(f);
    assert_int_equal(scripted_count("chief_init"), 1);
    assert_int_equal(scripted_count("local_init"), 0);
    assert_int_equal(scripted_count("first_token"), 1);
    belay_step *step =
        belay_step_prepare(f->session, NULL, NULL, (const char *[]){"take", "train", NULL}, f->err);
    for (int i = 0; i < 20; i++) /* more than any queue holds: its runner is at work */
        assert_ok(f, belay_step_run(step, NULL, NULL, f->err));
    assert_true(scripted_count("sync") >= 19);
    close_session(f);
}

static void test_sync_replicas__starts_a_workers_session__HK_SYNC_02(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL TOKENS READY RECORDED);
    add_hook(f, sync_hook(f, 1));
    open_session(f);
    run_steps(f, 2);
    assert_int_equal(scripted_count("chief_init"), 0);
    assert_int_equal(scripted_count("local_init"), 1);
    assert_int_equal(scripted_count("first_token"), 0);
    assert_int_equal(scripted_count("sync"), 0);
    close_session(f);
}

static void test_sync_replicas__needs_an_initialised_model__HK_SYNC_03(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL TOKENS NOT_READY RECORDED);
    add_hook(f, sync_hook(f, 0));
    assert_int_equal(try_open(f), BELAY_FAILED_PRECONDITION);
    assert_non_null(strstr(belay_error_message(f->err), "Init op: chief_init, error: not "
                                                        "initialised: w"));
    assert_int_equal(scripted_count("chief_init"), 0);
}

/* Its options come before the collection. */
static void test_sync_replicas__does_as_its_options_say(void **state) {
    fixture *f = *state;
    belay_sync_replicas_options options = BELAY_SYNC_REPLICAS_OPTIONS_INIT;
    use_graph(f, MODEL TOKENS READY RECORDED "other = NoOp()\n");
    options.chief_init_op = "other";
    add_hook(f, belay_sync_replicas_hook_new(&options, f->err));
    open_session(f);
    assert_int_equal(scripted_count("other"), 1);
    assert_int_equal(scripted_count("chief_init"), 0);
    close_session(f);
}

/* Each session anew (HK-RUN-03). */
static void test_sync_replicas__starts_again_after_a_recovery__HK_SYNC_03(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL TOKENS READY RECORDED);
    scripted_fail("train", 2, BELAY_ABORTED, "restarted");
    add_hook(f, sync_hook(f, 0));
    open_session(f);
    run_steps(f, 3);
    assert_int_equal(scripted_count("chief_init"), 2);
    assert_int_equal(scripted_count("first_token"), 2);
    close_session(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_sync_replicas__checks_its_options__ER_28),
        TEST(test_sync_replicas__needs_the_optimizers_ops__HK_SYNC_01),
        TEST(test_sync_replicas__names_an_op_that_is_not_there__HK_SYNC_01),
        TEST(test_sync_replicas__starts_a_chiefs_session__HK_SYNC_02),
        TEST(test_sync_replicas__starts_a_workers_session__HK_SYNC_02),
        TEST(test_sync_replicas__needs_an_initialised_model__HK_SYNC_03),
        TEST(test_sync_replicas__does_as_its_options_say),
        TEST_WAITING(test_sync_replicas__starts_again_after_a_recovery__HK_SYNC_03),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
