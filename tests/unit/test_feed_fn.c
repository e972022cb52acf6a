/* The hook that feeds what a function gives: section HK-FEED of the behaviour. */
#include "hooks_fixture.h"

#define FED MODEL "x = Placeholder() dtype=float shape=[]\ny = Identity(x) T=float\n"

struct source {
    int calls, destroyed;
    int64_t last_runs;
    int fail_at; /* call number; 0: never */
    belay_code code;
    int silent; /* with no text */
};

static belay_code give(void *self, const belay_progress *now, belay_tensor **tensors,
                       belay_error *err) {
    struct source *source = self;
    source->calls++;
    source->last_runs = now->runs;
    if (source->calls == source->fail_at)
        return source->silent ? source->code : bly_fail(err, source->code, "no more of it");
    if (!tensors[0])
        tensors[0] = belay_tensor_new(BELAY_FLOAT, NULL, 0, err);
    assert_non_null(tensors[0]);
    *(float *)belay_tensor_data(tensors[0]) = (float)source->calls;
    return BELAY_OK;
}

static void destroy_source(void *self) {
    ((struct source *)self)->destroyed++;
}

static belay_hook *feed(fixture *f, struct source *source, const char *name) {
    belay_feed_fn_options options = BELAY_FEED_FN_OPTIONS_INIT;
    options.feeds = (const char *[]){name, NULL};
    options.feed_fn = give;
    options.self = source;
    options.destroy = destroy_source;
    return belay_feed_fn_hook_new(&options, f->err);
}

static void test_feed_fn__checks_its_options__ER_28(void **state) {
    fixture *f = *state;
    belay_feed_fn_options options = BELAY_FEED_FN_OPTIONS_INIT;
    struct source source = {0};
    options.self = &source;
    options.destroy = destroy_source;
    assert_not_made(f, belay_feed_fn_hook_new(&options, f->err), "feed_fn must be given");
    options.feed_fn = give;
    assert_not_made(f, belay_feed_fn_hook_new(&options, f->err),
                    "feeds must name what is to be fed");
    assert_int_equal(source.destroyed, 2);
}

static void test_feed_fn__is_called_before_every_run__HK_FEED_01(void **state) {
    fixture *f = *state;
    struct source source = {0};
    use_graph(f, FED);
    add_hook(f, feed(f, &source, "x"));
    open_session(f);
    belay_tensor *value = NULL;
    belay_step *step = belay_step_prepare(f->session, NULL, (const char *[]){"y", NULL},
                                          (const char *[]){"train", NULL}, f->err);
    for (int i = 1; i <= 4; i++) {
        assert_ok(f, belay_step_run(step, NULL, &value, f->err));
        assert_true(belay_tensor_number(value, 0) == i);
        assert_int_equal(source.calls, i);
        assert_int_equal(source.last_runs, i - 1);
    }
    belay_tensor_free(value);
    close_session(f);
    free_hooks(f);
    assert_int_equal(source.destroyed, 1);
}

/* HK-RUN-18, HK-RUN-19, ER-27 */
static void test_feed_fn__conflicts_with_others__HK_FEED_02(void **state) {
    fixture *f = *state;
    static struct source source, other; /* the hooks, which free them, are freed after the test */
    source = other = (struct source){0};
    use_graph(f, FED);
    add_hook(f, feed(f, &source, "x"));
    add_hook(f, feed(f, &other, "x:0"));
    open_session(f);
    assert_int_equal(run_once(f), BELAY_INVALID_ARGUMENT);
    assert_string_equal(belay_error_message(f->err),
                        "Same tensor is fed by two hooks. Conflict: x:0");
    assert_int_equal(try_close(f), BELAY_INVALID_ARGUMENT);
}

static void test_feed_fn__error_is_the_steps__HK_FEED_02(void **state) {
    fixture *f = *state;
    static struct source source;
    source = (struct source){.fail_at = 2, .code = BELAY_DATA_LOSS, .silent = 1};
    use_graph(f, FED);
    add_hook(f, feed(f, &source, "x"));
    open_session(f);
    run_steps(f, 1);
    assert_int_equal(run_once(f), BELAY_DATA_LOSS);
    assert_string_equal(belay_error_message(f->err), "the feed function failed without saying why");
    assert_int_equal(scripted_count("train"), 1);
    assert_int_equal(try_close(f), BELAY_DATA_LOSS);
}

static void test_feed_fn__may_end_training__HK_FEED_02(void **state) {
    fixture *f = *state;
    static struct source source;
    source = (struct source){.fail_at = 3, .code = BELAY_STOPPED};
    use_graph(f, FED);
    add_hook(f, feed(f, &source, "x"));
    open_session(f);
    run_steps(f, 2);
    assert_int_equal(run_once(f), BELAY_STOPPED);
    assert_string_equal(belay_error_message(f->err), "no more of it");
    close_session(f); /* ST-08: a clean end */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_feed_fn__checks_its_options__ER_28),
        TEST(test_feed_fn__is_called_before_every_run__HK_FEED_01),
        TEST(test_feed_fn__conflicts_with_others__HK_FEED_02),
        TEST(test_feed_fn__error_is_the_steps__HK_FEED_02),
        TEST(test_feed_fn__may_end_training__HK_FEED_02),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
