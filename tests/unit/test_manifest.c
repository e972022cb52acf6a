/* The manifest beside a checkpoint. */
#include "base/error.h"
#include "base/mem.h"
#include "checkpoint/manifest.h"
#include "failing_alloc.h"
#include "scratch.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

static bly_manifest make(void) {
    bly_manifest manifest = BLY_MANIFEST_INIT;
    uint32_t crc = 0xfffffffe;
    manifest.tensorflow = bly_strdup("2.21.0");
    manifest.step = 500;
    manifest.saved_unix_ms = 1700000000123;
    manifest.origin_unix_ms = 1690000000000;
    manifest.host = bly_strdup("here \"1\"");
    manifest.pid = 4321;
    manifest.input = bly_strdup("{\"epoch\": 3, \"row\": 12.5, \"nested\": {\"a\": [1, null]}}");
    manifest.pinned = 1;
    bly_manifest_add_file(&manifest, "m-500.index", 499, &crc, NULL);
    bly_manifest_add_file(&manifest, "m-500.data-00000-of-00001", 0, NULL, NULL);
    bly_manifest_set_metric(&manifest, "loss", 1, NULL);
    bly_manifest_set_metric(&manifest, "eval/acc", 0.1, NULL);
    bly_manifest_set_metric(&manifest, "broken", (double)INFINITY, NULL);
    bly_manifest_set_metric(&manifest, "loss", 0.25, NULL);
    return manifest;
}

/* SV-17: a step may be negative, and it may be missing. */
static void test_manifest__has_any_step_or_none(void **state) {
    (void)state;
    static const struct {
        int64_t step;
        const char *text;
    } steps[] = {{-1, "\"step\": -1,"}, {-5, "\"step\": -5,"}, {BELAY_NO_STEP, "\"step\": null,"}};
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        bly_manifest manifest = BLY_MANIFEST_INIT, read = BLY_MANIFEST_INIT;
        bly_buf text = BLY_BUF_INIT;
        manifest.step = steps[i].step;
        assert_int_equal(bly_manifest_print(&manifest, &text, NULL), BELAY_OK);
        assert_non_null(strstr(bly_buf_text(&text), steps[i].text));
        assert_int_equal(bly_manifest_parse(text.data, text.len, "m", &read, NULL), BELAY_OK);
        assert_int_equal(read.step, steps[i].step);
        bly_manifest_free(&read);
        bly_manifest_free(&manifest);
        bly_buf_free(&text);
    }
}

static void test_manifest__has_the_agreed_form(void **state) {
    (void)state;
    bly_manifest manifest = make();
    bly_buf text = BLY_BUF_INIT;
    assert_int_equal(bly_manifest_print(&manifest, &text, NULL), BELAY_OK);
    assert_string_equal(
        bly_buf_text(&text),
        "{\n  \"belay\": \"" BELAY_VERSION "\",\n  \"tensorflow\": \"2.21.0\",\n  \"step\": 500,\n"
        "  \"saved_unix_ms\": 1700000000123,\n  \"origin_unix_ms\": 1690000000000,\n"
        "  \"pinned\": true,\n  \"files\": [\n"
        "    {\"name\": \"m-500.index\", \"size\": 499, \"crc32c\": 4294967294},\n"
        "    {\"name\": \"m-500.data-00000-of-00001\", \"size\": 0, \"crc32c\": null}\n  ],\n"
        "  \"metrics\": {\"loss\": 0.25, \"eval/acc\": 0.1, \"broken\": null},\n"
        "  \"input\": {\"epoch\":3,\"row\":12.5,\"nested\":{\"a\":[1,null]}},\n"
        "  \"writer\": {\"host\": \"here \\\"1\\\"\", \"pid\": 4321}\n}\n");
    bly_buf_free(&text);
    bly_manifest_free(&manifest);
    assert_int_equal(bly_manifest_print(&manifest, &text, NULL), BELAY_OK);
    assert_non_null(strstr(bly_buf_text(&text), "\"tensorflow\": null"));
    assert_null(strstr(bly_buf_text(&text), "input"));
    bly_buf_free(&text);
}

static void test_manifest__reads_what_it_wrote(void **state) {
    bly_manifest manifest = make(), read;
    int found;
    const char *prefix = scratch_path(state, "m-500");
    assert_int_equal(bly_manifest_write(prefix, &manifest, NULL), BELAY_OK);
    bly_manifest_free(&manifest);
    assert_int_equal(bly_manifest_read(prefix, &read, &found, NULL), BELAY_OK);
    assert_int_equal(found, 1);
    assert_string_equal(read.belay, BELAY_VERSION);
    assert_string_equal(read.tensorflow, "2.21.0");
    assert_int_equal(read.step, 500);
    assert_int_equal(read.saved_unix_ms, 1700000000123);
    assert_int_equal(read.origin_unix_ms, 1690000000000);
    assert_string_equal(read.host, "here \"1\"");
    assert_int_equal(read.pid, 4321);
    assert_int_equal(read.pinned, 1);
    assert_string_equal(read.input, "{\"epoch\":3,\"row\":12.5,\"nested\":{\"a\":[1,null]}}");
    assert_int_equal(read.file_count, 2);
    assert_string_equal(read.files[0].name, "m-500.index");
    assert_int_equal(read.files[0].crc32c, 0xfffffffe);
    assert_int_equal(read.files[1].has_crc32c, 0);
    assert_int_equal(read.metric_count, 3);
    assert_true(bly_manifest_metric_of(&read, "loss") == 0.25);
    assert_true(bly_manifest_metric_of(&read, "eval/acc") == 0.1);
    assert_true(isnan(bly_manifest_metric_of(&read, "broken")));
    assert_true(isnan(bly_manifest_metric_of(&read, "none")));
    bly_manifest_free(&read);
}

static void test_manifest__may_be_missing(void **state) {
    bly_manifest read;
    int found = 1;
    assert_int_equal(bly_manifest_read(scratch_path(state, "m"), &read, &found, NULL), BELAY_OK);
    assert_int_equal(found, 0);
    assert_null(read.files);
}

#define HEAD "{\"belay\":\"9\",\"step\":1,\"saved_unix_ms\":2,\"files\":[]"

static void test_manifest_parse__refuses_what_is_none(void **state) {
    (void)state;
    static const char *const bad[] = {
        "",
        "{",
        "[]",
        "3",
        "{}",
        "{\"belay\":1,\"step\":1,\"saved_unix_ms\":2,\"files\":[]}",
        "{\"belay\":\"9\",\"step\":\"1\",\"saved_unix_ms\":2,\"files\":[]}",
        "{\"belay\":\"9\",\"step\":1.5,\"saved_unix_ms\":2,\"files\":[]}",
        "{\"belay\":\"9\",\"step\":99999999999999999999,\"saved_unix_ms\":2,\"files\":[]}",
        "{\"belay\":\"9\",\"step\":1,\"saved_unix_ms\":-2,\"files\":[]}",
        "{\"belay\":\"9\",\"step\":1,\"saved_unix_ms\":2}",
        "{\"belay\":\"9\",\"step\":1,\"saved_unix_ms\":2,\"files\":{}}",
        "{\"belay\":\"9\",\"step\":1,\"step\":2,\"saved_unix_ms\":2,\"files\":[]}",
        HEAD ",\"tensorflow\":3}",
        HEAD ",\"pinned\":1}",
        HEAD ",\"metrics\":[]}",
        HEAD ",\"metrics\":{\"a\":\"b\"}}",
        HEAD ",\"input\":[]}",
        HEAD ",\"writer\":\"me\"}",
        HEAD ",\"writer\":{\"pid\":\"x\"}}",
        HEAD "} and more",
    };
    static const char *const files[] = {"3",
                                        "{\"size\":1}",
                                        "{\"name\":\"\",\"size\":1}",
                                        "{\"name\":\"../x\",\"size\":1}",
                                        "{\"name\":\"..\",\"size\":1}",
                                        "{\"name\":\"x\",\"size\":-1}",
                                        "{\"name\":\"x\"}",
                                        "{\"name\":\"x\",\"size\":1,\"crc32c\":4294967296}",
                                        "{\"name\":\"x\",\"size\":1,\"crc32c\":-1}",
                                        "{\"name\":\"x\",\"size\":1,\"crc32c\":\"0\"}"};
    bly_manifest read;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0] + sizeof files / sizeof files[0]; i++) {
        char text[400];
        size_t file = i - sizeof bad / sizeof bad[0];
        BLY_LOCAL_ERROR(err);
        if (i < sizeof bad / sizeof bad[0])
            snprintf(text, sizeof text, "%s", bad[i]);
        else
            snprintf(text, sizeof text,
                     "{\"belay\":\"9\",\"step\":1,\"saved_unix_ms\":2,\"files\":[%s]}",
                     files[file]);
        if (bly_manifest_parse(text, strlen(text), "m.belay.json", &read, &err) != BELAY_DATA_LOSS)
            fail_msg("taken: %s", text);
        assert_non_null(strstr(err.message, "m.belay.json"));
        assert_null(read.belay);
    }
}

static void test_manifest_parse__passes_over_what_a_newer_belay_adds(void **state) {
    (void)state;
    static const char text[] = HEAD ",\"later\":{\"x\":1},\"tensorflow\":null,\"input\":null}";
    bly_manifest read;
    BLY_LOCAL_ERROR(err);
    if (bly_manifest_parse(text, sizeof text - 1, "f", &read, &err) != BELAY_OK)
        fail_msg("%s", err.message);
    assert_null(read.tensorflow);
    assert_null(read.input);
    bly_manifest_free(&read);
}

static void test_manifest_write__refuses_a_position_that_is_no_object(void **state) {
    static const char *const bad[] = {"", "[1]", "{", "{\"a\":1} x", "{\"a\":1,\"a\":2}"};
    BLY_LOCAL_ERROR(err);
    for (size_t i = 0; i < 5; i++) {
        bly_manifest manifest = BLY_MANIFEST_INIT;
        manifest.input = bly_strdup(bad[i]);
        assert_int_equal(bly_manifest_write(scratch_path(state, "m"), &manifest, &err),
                         BELAY_INVALID_ARGUMENT);
        bly_manifest_free(&manifest);
    }
    struct stat info;
    assert_int_not_equal(stat(scratch_path(state, "m.belay.json"), &info), 0);
}

static void test_manifest_check_sizes__finds_what_is_missing_or_cut(void **state) {
    bly_manifest manifest = BLY_MANIFEST_INIT;
    BLY_LOCAL_ERROR(err);
    const char *prefix = scratch_path(state, "m-1");
    bly_manifest_add_file(&manifest, "m-1.index", 3, NULL, NULL);
    assert_int_equal(bly_manifest_check_sizes(prefix, &manifest, &err), BELAY_DATA_LOSS);
    assert_non_null(strstr(err.message, "m-1.index is missing"));
    scratch_write(scratch_path(state, "m-1.index"), "ab", 2);
    assert_int_equal(bly_manifest_check_sizes(prefix, &manifest, &err), BELAY_DATA_LOSS);
    assert_non_null(strstr(err.message, "has 2 bytes, its manifest says 3"));
    scratch_write(scratch_path(state, "m-1.index"), "abc", 3);
    assert_int_equal(bly_manifest_check_sizes(prefix, &manifest, &err), BELAY_OK);
    bly_manifest_free(&manifest);
}

static void test_manifest__survives_every_failing_allocation(void **state) {
    bly_manifest manifest = make(), read;
    int found;
    BLY_LOCAL_ERROR(err);
    FAILING_ALLOC(n) {
        belay_code code = bly_manifest_write(scratch_path(state, "m"), &manifest, &err);
        if (code == BELAY_OK)
            code = bly_manifest_read(scratch_path(state, "m"), &read, &found, &err);
        if (code == BELAY_OK)
            bly_manifest_free(&read);
        assert_int_equal(code, failing_alloc_hit() ? BELAY_RESOURCE_EXHAUSTED : BELAY_OK);
    }
    bly_manifest_free(&manifest);
}

#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, scratch_set_up, scratch_tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_manifest__has_the_agreed_form),
        cmocka_unit_test(test_manifest__has_any_step_or_none),
        IN_FOLDER(test_manifest__reads_what_it_wrote),
        IN_FOLDER(test_manifest__may_be_missing),
        cmocka_unit_test(test_manifest_parse__refuses_what_is_none),
        cmocka_unit_test(test_manifest_parse__passes_over_what_a_newer_belay_adds),
        IN_FOLDER(test_manifest_write__refuses_a_position_that_is_no_object),
        IN_FOLDER(test_manifest_check_sizes__finds_what_is_missing_or_cut),
        IN_FOLDER(test_manifest__survives_every_failing_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
