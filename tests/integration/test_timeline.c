/* Timelines of traced runs, against TensorFlow's own: check_timeline.py makes the runs, and
 * compares what is printed of them with what Python's Timeline says (HK-PROF-06). */
#include "graph_run.h"

#include "base/file.h"
#include "observe/timeline.h"

#include <belay/hooks.h>
#include <belay/monitored_session.h>

#include <stdlib.h>

#define PYTHON SOURCE_ROOT "/.deps/venv/bin/python"

static void python(const char *what, const char *folder) {
    char command[2048];
    snprintf(command, sizeof command,
             "'" PYTHON "' '" SOURCE_ROOT "/tests/integration/check_timeline.py' %s '%s' >&2", what,
             folder);
    assert_int_equal(system(command), 0);
}

static void fresh(const char *folder) {
    assert_int_equal(bly_remove_directory(folder, NULL), BELAY_OK);
    assert_int_equal(bly_make_directories(folder, NULL), BELAY_OK);
}

static void print_all(const char *folder, int number, const bly_buf *metadata) {
    for (int flags = 0; flags < 4; flags++) {
        char path[600];
        bly_buf json = BLY_BUF_INIT;
        assert_int_equal(bly_timeline_print(metadata->data, metadata->len, flags, &json, NULL),
                         BELAY_OK);
        snprintf(path, sizeof path, "%s/%d-%d.json", folder, number, flags);
        assert_int_equal(bly_file_write_atomic(path, json.data, json.len, NULL), BELAY_OK);
        bly_buf_free(&json);
    }
}

static void test_timeline__is_as_pythons__HK_PROF_06(void **state) {
    static const char folder[] = TEST_WORK "/timelines";
    int number = 0;
    (void)state;
    fresh(folder);
    python("make", folder);
    for (;; number++) {
        char path[600];
        bly_buf metadata = BLY_BUF_INIT;
        snprintf(path, sizeof path, "%s/%d.pb", folder, number);
        if (!bly_file_exists(path))
            break;
        assert_int_equal(bly_file_read(path, 1 << 24, &metadata, NULL), BELAY_OK);
        print_all(folder, number, &metadata);
        bly_buf_free(&metadata);
    }
    assert_true(number > 10);
    python("check", folder);
}

static void test_timeline__refuses_what_is_no_run(void **state) {
    bly_buf json = BLY_BUF_INIT;
    belay_error *err = belay_error_new();
    (void)state;
    assert_int_equal(bly_timeline_print("\x0a\xff", 2, 3, &json, err), BELAY_DATA_LOSS);
    bly_buf_free(&json);
    belay_error_free(err);
}

/* HK-PROF-04, HK-PROF-05: after runs 2, 4, 6; HK-PROF-07 is in check_timeline.py. */
static void test_profiler__traces_real_runs__HK_PROF_05(void **state) {
    static const char folder[] = TEST_WORK "/profile";
    belay_error *err = belay_error_new();
    belay_profiler_options options = BELAY_PROFILER_OPTIONS_INIT;
    belay_monitored_session_options monitored = BELAY_MONITORED_SESSION_OPTIONS_INIT;
    (void)state;
    fresh(folder);
    options.save_steps = 2;
    options.output_dir = folder;
    options.flags = BELAY_PROFILER_MEMORY;
    belay_graph *graph = belay_graph_load(TEST_GRAPHS "/tiny.meta", NULL, err);
    belay_hook *hook = belay_profiler_hook_new(&options, err);
    monitored.hooks = &hook;
    monitored.hook_count = 1;
    belay_monitored_session *session = belay_monitored_session_open(graph, &monitored, err);
    belay_step *step =
        belay_step_prepare(session, NULL, NULL, (const char *[]){"train", NULL}, err);
    for (int i = 1; i <= 7; i++) {
        char path[600];
        if (belay_step_run(step, NULL, NULL, err) != BELAY_OK)
            fail_msg("%s", belay_error_message(err));
        snprintf(path, sizeof path, "%s/timeline-%d.json", folder, i);
        assert_int_equal(bly_file_exists(path), i % 2 == 0);
    }
    assert_int_equal(belay_monitored_session_close(session, err), BELAY_OK);
    belay_hook_free(hook);
    belay_graph_free(graph);
    belay_error_free(err);
    python("run", folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_timeline__is_as_pythons__HK_PROF_06),
        cmocka_unit_test(test_timeline__refuses_what_is_no_run),
        cmocka_unit_test(test_profiler__traces_real_runs__HK_PROF_05),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
