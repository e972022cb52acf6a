/* The hook that watches the loss: section HK-NAN of the behaviour. */
#include "hooks_fixture.h"

#include <math.h>

static belay_hook *watch(fixture *f, const char *loss, uint32_t stop) {
    belay_nan_tensor_options options = BELAY_NAN_TENSOR_OPTIONS_INIT;
    options.loss_tensor = loss;
    options.stop_on_nan_loss = stop;
    return belay_nan_tensor_hook_new(&options, f->err);
}

static void test_nan_tensor__needs_a_loss(void **state) {
    fixture *f = *state;
    assert_not_made(f, watch(f, NULL, 0), "loss_tensor must be given");
    assert_not_made(f, watch(f, "loss", 2), "stop_on_nan_loss must be 0 or 1");
    use_graph(f, MODEL);
    add_hook(f, watch(f, "loss", 0));
    assert_int_equal(try_open(f), BELAY_NOT_FOUND);
}

static void test_nan_tensor__fetches_the_loss_in_every_run__HK_NAN_01(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL LOSS);
    add_hook(f, watch(f, "loss:0", 0));
    open_session(f);
    run_steps(f, 7);
    close_session(f);
    assert_int_equal(scripted_count("loss"), 7);
}

/* ER-30, ST-11 */
static void test_nan_tensor__nan_is_an_error__HK_NAN_01(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL LOSS);
    scripted_value("loss", 3, NAN);
    add_hook(f, watch(f, "loss", 0));
    open_session(f);
    run_steps(f, 2);
    assert_int_equal(run_once(f), BELAY_NAN_LOSS);
    assert_string_equal(belay_error_message(f->err), "NaN loss during training.");
    assert_false(belay_error_is_recoverable(f->err));
    assert_int_equal(count_log(BELAY_LOG_ERROR, "Model diverged with loss = NaN."), 1);
    assert_int_equal(try_close(f), BELAY_NAN_LOSS); /* ST-08: no clean end */
}

static void test_nan_tensor__or_a_reason_to_stop__HK_NAN_02(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL LOSS);
    scripted_value("loss", 3, NAN);
    add_hook(f, watch(f, "loss", 1));
    open_session(f);
    assert_int_equal(run_until_stop(f), 3);
    assert_int_equal(count_log(BELAY_LOG_WARNING, "Model diverged with loss = NaN."), 1);
    assert_int_equal(count_log(BELAY_LOG_ERROR, ""), 0);
    close_session(f);
}

static void test_nan_tensor__infinity_is_a_number__HK_NAN_03(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL LOSS);
    scripted_value("loss", 1, INFINITY);
    scripted_value("loss", 2, -INFINITY);
    add_hook(f, watch(f, "loss", 0));
    open_session(f);
    run_steps(f, 3);
    close_session(f);
}

static void test_nan_tensor__a_loss_is_a_scalar__HK_NAN_03(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL "losses = Const() dtype=float value=[1,2]\n");
    add_hook(f, watch(f, "losses", 0));
    belay_code code = try_open(f); /* where the graph knows its shape */
    if (code == BELAY_OK)
        code = run_once(f);
    assert_int_equal(code, BELAY_INVALID_ARGUMENT);
    assert_string_equal(belay_error_message(f->err), "losses is not a scalar: it cannot be a loss");
}

/* Runs a step whose loss is fed: `count` elements of this type (0: a scalar) with these bytes. */
static belay_code run_with_losses(fixture *f, belay_dtype dtype, const void *bytes, int64_t count) {
    char text[2048];
    snprintf(text, sizeof text, MODEL "loss = Placeholder() dtype=%s shape=[?]\n",
             belay_dtype_name(dtype));
    use_graph(f, text);
    add_hook(f, watch(f, "loss", 0));
    open_session(f);
    belay_tensor *loss = belay_tensor_new(dtype, &count, count > 0, f->err);
    assert_non_null(loss);
    memcpy(belay_tensor_data(loss), bytes, belay_tensor_size_bytes(loss));
    belay_step *step = belay_step_prepare(f->session, (const char *[]){"loss", NULL}, NULL,
                                          (const char *[]){"train", NULL}, f->err);
    assert_non_null(step);
    belay_code code = belay_step_run(step, &loss, NULL, f->err);
    belay_tensor_free(loss);
    try_close(f);
    free_hooks(f);
    belay_scaffold_free(f->scaffold);
    belay_graph_free(f->graph);
    f->scaffold = NULL;
    f->graph = NULL;
    return code;
}

static belay_code run_with_loss(fixture *f, belay_dtype dtype, const void *bytes) {
    return run_with_losses(f, dtype, bytes, 0);
}

/* Where only the value tells. */
static void test_nan_tensor__a_value_is_a_scalar__HK_NAN_03(void **state) {
    fixture *f = *state;
    static const float losses[] = {1, 2};
    assert_int_equal(run_with_losses(f, BELAY_FLOAT, losses, 2), BELAY_INVALID_ARGUMENT);
    assert_string_equal(belay_error_message(f->err), "loss is not a scalar: it cannot be a loss");
    assert_int_equal(run_with_losses(f, BELAY_FLOAT, losses, 1), BELAY_OK);
}

static void test_nan_tensor__sees_it_in_every_type__HK_NAN_01(void **state) {
    fixture *f = *state;
    static const float single[] = {NAN, -NAN, 1};
    static const double wide[] = {NAN, -NAN, 1};
    static const uint16_t half[] = {0x7e00, 0xfc01, 0x7c00}; /* the last is infinity */
    static const uint16_t brain[] = {0x7fc0, 0xff81, 0x7f80};
    for (int i = 0; i < 3; i++) {
        belay_code expected = i < 2 ? BELAY_NAN_LOSS : BELAY_OK;
        assert_int_equal(run_with_loss(f, BELAY_FLOAT, &single[i]), expected);
        assert_int_equal(run_with_loss(f, BELAY_DOUBLE, &wide[i]), expected);
        assert_int_equal(run_with_loss(f, BELAY_HALF, &half[i]), expected);
        assert_int_equal(run_with_loss(f, BELAY_BFLOAT16, &brain[i]), expected);
    }
}

static void test_nan_tensor__an_integer_is_always_a_number(void **state) {
    fixture *f = *state;
    static const uint64_t ones = UINT64_MAX;
    assert_int_equal(run_with_loss(f, BELAY_INT32, &ones), BELAY_OK);
    assert_int_equal(run_with_loss(f, BELAY_INT64, &ones), BELAY_OK);
    assert_int_equal(run_with_loss(f, BELAY_UINT16, &ones), BELAY_OK);
}

static void test_nan_tensor__a_string_is_no_loss(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL "loss = Const() dtype=string value=\"nan\"\n");
    add_hook(f, watch(f, "loss", 0));
    open_session(f);
    assert_int_equal(run_once(f), BELAY_INVALID_ARGUMENT);
    assert_string_equal(belay_error_message(f->err), "loss is of type string: it cannot be a loss");
}

/* MS-11, BUG-48: no end(), so the checkpoint of before the divergence stays the newest. */
static void test_nan_tensor__leaves_no_last_checkpoint__HK_NAN_04(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL LOSS);
    belay_checkpoint_saver_options options = BELAY_CHECKPOINT_SAVER_OPTIONS_INIT;
    options.checkpoint_dir = folder_of(f);
    options.save_steps = 2;
    options.scaffold = f->scaffold;
    scripted_value("loss", 4, NAN);
    add_hook(f, watch(f, "loss", 0));
    add_hook(f, belay_checkpoint_saver_hook_new(&options, f->err));
    open_session(f);
    run_steps(f, 3);
    assert_int_equal(run_once(f), BELAY_NAN_LOSS);
    assert_int_equal(try_close(f), BELAY_NAN_LOSS);
    assert_true(has_file(f, "model.ckpt-2.index"));
    assert_false(has_file(f, "model.ckpt-4.index"));
    assert_int_equal(count_log(BELAY_LOG_INFO, "Saving checkpoints for 4"), 0);
}

/* Steady state: belay's own calls allocate nothing. */
static void test_nan_tensor__costs_no_allocation(void **state) {
    fixture *f = *state;
    use_graph(f, MODEL LOSS);
    add_hook(f, watch(f, "loss", 0));
    open_session(f);
    run_steps(f, 100);
    bly_mem_count();
    run_steps(f, 100);
    assert_int_equal(bly_mem_count(), 0);
    close_session(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_nan_tensor__needs_a_loss),
        TEST(test_nan_tensor__fetches_the_loss_in_every_run__HK_NAN_01),
        TEST(test_nan_tensor__nan_is_an_error__HK_NAN_01),
        TEST(test_nan_tensor__or_a_reason_to_stop__HK_NAN_02),
        TEST(test_nan_tensor__infinity_is_a_number__HK_NAN_03),
        TEST(test_nan_tensor__a_loss_is_a_scalar__HK_NAN_03),
        TEST(test_nan_tensor__a_value_is_a_scalar__HK_NAN_03),
        TEST(test_nan_tensor__sees_it_in_every_type__HK_NAN_01),
        TEST(test_nan_tensor__an_integer_is_always_a_number),
        TEST(test_nan_tensor__a_string_is_no_loss),
        TEST(test_nan_tensor__leaves_no_last_checkpoint__HK_NAN_04),
        TEST(test_nan_tensor__costs_no_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
