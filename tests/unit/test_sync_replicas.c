/* The hook for SyncReplicasOptimizer: section HK-SYNC of the behaviour. */
#include "hooks_fixture.h"

/* Each step takes a token; the queue's runner is what a chief's optimizer has: an op that hands out
 * more. */
#define TOKENS                                                                                     \
    "tokens = FIFOQueueV2() capacity=4 component_types={int64}\n"                                  \
    "token = Const() dtype=int64 value=7\n"                                                        \
    "sync = QueueEnqueueV2(tokens, token)\n"                                                       \
    "chief_init = NoOp()\n"                                                                        \
    "local_init = NoOp()\n"                                                                        \
    "take = QueueDequeueV2(tokens) component_types={int64}\n"
#define READY     "missing = Const() dtype=string value=[]\n"
#define NOT_READY "missing = Const() dtype=string value=[\"w\"]\n"
#define RECORDED  "collection belay_sync_replicas: chief_init, local_init, missing:0, tokens, sync\n"

static belay_hook *sync_hook(fixture *f, uint32_t is_worker) {
    belay_sync_replicas_options options = BELAY_SYNC_REPLICAS_OPTIONS_INIT;
    options.is_worker = is_worker;
    options.replicas_to_aggregate = is_worker ? 0 : 1;
    return belay_sync_replicas_hook_new(&options, f->err);
}

static void test_sync_replicas__checks_its_options__ER_28(void **state) {
    fixture *f = *state;
    belay_sync_replicas_options options = BELAY_SYNC_REPLICAS_OPTIONS_INIT;
    assert_not_made(f, sync_hook(f, 2), "is_worker must be 0 or 1");
    options.num_tokens = -2;
    assert_not_made(f, belay_sync_replicas_hook_new(&options, f->err), "num_tokens is -2");
}

/* HK-SYNC-04: how many tokens the queue holds; the hook's thread adds none. */
static double first_tokens(fixture *f, int64_t aggregated, int64_t total, int64_t tokens) {
    belay_sync_replicas_options options = BELAY_SYNC_REPLICAS_OPTIONS_INIT;
    use_graph(f, MODEL "tokens = FIFOQueueV2() component_types={int64}\n"
                       "size = QueueSizeV2(tokens)\n"
                       "chief_init = NoOp()\n"
                       "local_init = NoOp()\n"
                       "sync = NoOp()\n" READY RECORDED);
    scripted_fail("sync", 1, BELAY_OUT_OF_RANGE, "no more"); /* which ends the thread */
    options.replicas_to_aggregate = aggregated;
    options.total_num_replicas = total;
    options.num_tokens = tokens;
    add_hook(f, belay_sync_replicas_hook_new(&options, f->err));
    if (try_open(f) != BELAY_OK)
        return -1;
    belay_tensor *size = NULL;
    belay_step *step =
        belay_step_prepare(f->session, NULL, (const char *[]){"size", NULL}, NULL, f->err);
    assert_ok(f, belay_step_run(step, NULL, &size, f->err));
    double count = belay_tensor_number(size, 0);
    belay_tensor_free(size);
    close_session(f);
    return count;
}

static void test_sync_replicas__puts_in_as_many_tokens_as_are_aggregated__HK_SYNC_04(void **state) {
    assert_true(first_tokens(*state, 3, 0, 0) == 3);
}

static void test_sync_replicas__puts_in_as_many_tokens_as_it_is_told__HK_SYNC_04(void **state) {
    assert_true(first_tokens(*state, 3, 2, 1) == 1);
}

static void test_sync_replicas__puts_in_no_tokens__HK_SYNC_04(void **state) {
    assert_true(first_tokens(*state, 3, 0, BELAY_OFF) == 0);
    assert_int_equal(scripted_count("first_tokens/enqueue"), 0);
}

static void test_sync_replicas__refuses_too_few_tokens__HK_SYNC_04(void **state) {
    fixture *f = *state;
    assert_true(first_tokens(f, 3, 1, 1) == -1);
    assert_int_equal(belay_error_code(f->err), BELAY_INVALID_ARGUMENT);
    assert_non_null(strstr(belay_error_message(f->err), "1 (given) vs 2 (needed)"));
}

static void test_sync_replicas__needs_the_optimizers_numbers__HK_SYNC_04(void **state) {
    fixture *f = *state;
    assert_true(first_tokens(f, 0, 0, 1) == -1);
    assert_int_equal(belay_error_code(f->err), BELAY_INVALID_ARGUMENT);
    assert_non_null(strstr(belay_error_message(f->err), "replicas_to_aggregate is not given"));
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
    options.queue = "nothing";
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
    assert_int_equal(scripted_count("first_tokens/enqueue"), 1);
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
    assert_int_equal(scripted_count("first_tokens/enqueue"), 0);
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
    options.replicas_to_aggregate = 1;
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
    assert_int_equal(scripted_count("first_tokens/enqueue"), 2);
    close_session(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_sync_replicas__checks_its_options__ER_28),
        TEST(test_sync_replicas__needs_the_optimizers_ops__HK_SYNC_01),
        TEST(test_sync_replicas__names_an_op_that_is_not_there__HK_SYNC_01),
        TEST(test_sync_replicas__puts_in_as_many_tokens_as_are_aggregated__HK_SYNC_04),
        TEST(test_sync_replicas__puts_in_as_many_tokens_as_it_is_told__HK_SYNC_04),
        TEST(test_sync_replicas__puts_in_no_tokens__HK_SYNC_04),
        TEST(test_sync_replicas__refuses_too_few_tokens__HK_SYNC_04),
        TEST(test_sync_replicas__needs_the_optimizers_numbers__HK_SYNC_04),
        TEST(test_sync_replicas__starts_a_chiefs_session__HK_SYNC_02),
        TEST(test_sync_replicas__starts_a_workers_session__HK_SYNC_02),
        TEST(test_sync_replicas__needs_an_initialised_model__HK_SYNC_03),
        TEST(test_sync_replicas__does_as_its_options_say),
        TEST_WAITING(test_sync_replicas__starts_again_after_a_recovery__HK_SYNC_03),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
