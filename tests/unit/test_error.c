/* Errors: codes, one line of text, origin, chains. */
#include "base/error.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* ST_01: TensorFlow's numbers and names, one by one. */
static void test_error_ST_01__codes_are_tensorflows(void **state) {
    (void)state;
    static const char *const names[] = {"OK",
                                        "CANCELLED",
                                        "UNKNOWN",
                                        "INVALID_ARGUMENT",
                                        "DEADLINE_EXCEEDED",
                                        "NOT_FOUND",
                                        "ALREADY_EXISTS",
                                        "PERMISSION_DENIED",
                                        "RESOURCE_EXHAUSTED",
                                        "FAILED_PRECONDITION",
                                        "ABORTED",
                                        "OUT_OF_RANGE",
                                        "UNIMPLEMENTED",
                                        "INTERNAL",
                                        "UNAVAILABLE",
                                        "DATA_LOSS",
                                        "UNAUTHENTICATED"};
    static const belay_code codes[] = {BELAY_OK,
                                       BELAY_CANCELLED,
                                       BELAY_UNKNOWN,
                                       BELAY_INVALID_ARGUMENT,
                                       BELAY_DEADLINE_EXCEEDED,
                                       BELAY_NOT_FOUND,
                                       BELAY_ALREADY_EXISTS,
                                       BELAY_PERMISSION_DENIED,
                                       BELAY_RESOURCE_EXHAUSTED,
                                       BELAY_FAILED_PRECONDITION,
                                       BELAY_ABORTED,
                                       BELAY_OUT_OF_RANGE,
                                       BELAY_UNIMPLEMENTED,
                                       BELAY_INTERNAL,
                                       BELAY_UNAVAILABLE,
                                       BELAY_DATA_LOSS,
                                       BELAY_UNAUTHENTICATED};
    for (belay_code i = 0; i < 17; i++) {
        assert_int_equal(codes[i], i);
        assert_string_equal(belay_code_name(i), names[i]);
    }
    assert_string_equal(belay_code_name(BELAY_STOPPED), "STOPPED"); /* ST_09: a code of its own */
    assert_string_equal(belay_code_name(BELAY_NAN_LOSS), "NAN_LOSS");
    assert_true(BELAY_STOPPED < 0 && BELAY_NAN_LOSS < 0 && BELAY_STOPPED != BELAY_NAN_LOSS);
    assert_string_equal(belay_code_name(42), "UNKNOWN");
    assert_string_equal(belay_code_name(-7), "UNKNOWN");
}

static void test_error_ST_07__only_a_lost_task_is_recoverable(void **state) {
    (void)state;
    BLY_LOCAL_ERROR(err);
    assert_int_equal(belay_error_is_recoverable(&err), 0);
    assert_int_equal(belay_error_is_recoverable(NULL), 0);
    for (belay_code i = BELAY_NAN_LOSS; i < 20; i++) {
        if (i == BELAY_OK)
            continue;
        belay_error_set(&err, i, "x");
        assert_int_equal(belay_error_is_recoverable(&err),
                         i == BELAY_ABORTED || i == BELAY_UNAVAILABLE);
    }
}

static void test_error__is_empty_when_made_and_accepts_null(void **state) {
    (void)state;
    belay_error *err = belay_error_new();
    assert_non_null(err);
    assert_int_equal(belay_error_code(err), BELAY_OK);
    assert_string_equal(belay_error_message(err), "");
    assert_string_equal(belay_error_op(err), "");
    assert_int_equal(belay_error_origin(err), BELAY_ORIGIN_BELAY);
    assert_int_equal(belay_error_chained_count(err), 0);
    belay_error_free(err);

    belay_error_free(NULL);
    belay_error_clear(NULL);
    assert_int_equal(belay_error_code(NULL), BELAY_OK);
    assert_string_equal(belay_error_message(NULL), "");
    assert_string_equal(belay_error_op(NULL), "");
    assert_int_equal(belay_error_chained_count(NULL), 0);
    assert_string_equal(belay_error_chained_message(NULL, 0), "");
    assert_int_equal(belay_error_set(NULL, BELAY_ABORTED, "x"), BELAY_ABORTED);
    assert_int_equal(bly_fail(NULL, BELAY_ABORTED, "%d", 1), BELAY_ABORTED);
    assert_int_equal(bly_fail_memory(NULL), BELAY_RESOURCE_EXHAUSTED);
    assert_int_equal(bly_fail_errno(NULL, ENOENT, "x"), BELAY_NOT_FOUND);
    assert_int_equal(bly_fail_tensorflow(NULL, BELAY_ABORTED, "x"), BELAY_ABORTED);
    bly_error_prefix(NULL, "x");
    bly_error_chain(NULL, NULL);
    bly_error_copy(NULL, NULL);
}

static void test_error_set__marks_a_hooks_error(void **state) {
    (void)state;
    BLY_LOCAL_ERROR(err);
    assert_int_equal(belay_error_set(&err, BELAY_DATA_LOSS, "no\nnew\tlines\n"), BELAY_DATA_LOSS);
    assert_string_equal(belay_error_message(&err), "no new lines");
    assert_int_equal(belay_error_origin(&err), BELAY_ORIGIN_HOOK);
    /* "failed with OK" would be taken for a success */
    assert_int_equal(belay_error_set(&err, BELAY_OK, NULL), BELAY_INTERNAL);
    assert_int_equal(belay_error_code(&err), BELAY_INTERNAL);
    assert_string_equal(belay_error_message(&err), "");
    bly_fail(&err, BELAY_ABORTED, "mine");
    assert_int_equal(belay_error_origin(&err), BELAY_ORIGIN_BELAY);
}

static void test_error_fail__may_quote_the_error_that_it_replaces(void **state) {
    (void)state;
    BLY_LOCAL_ERROR(err);
    bly_fail(&err, BELAY_NOT_FOUND, "inner");
    bly_fail(&err, BELAY_DATA_LOSS, "outer: %s", err.message);
    assert_string_equal(belay_error_message(&err), "outer: inner");
    bly_error_prefix(&err, "while restoring %s: ", "x");
    assert_string_equal(belay_error_message(&err), "while restoring x: outer: inner");
    assert_int_equal(belay_error_code(&err), BELAY_DATA_LOSS);
    belay_error_clear(&err);
    bly_error_prefix(&err, "nothing to put it before: ");
    assert_string_equal(belay_error_message(&err), "");
}

static void test_error_fail__marks_a_text_that_it_cut(void **state) {
    (void)state;
    BLY_LOCAL_ERROR(err);
    char text[5000];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    bly_fail(&err, BELAY_INTERNAL, "%s", text);
    size_t len = strlen(belay_error_message(&err));
    assert_true(len > 1000 && len < sizeof text);
    assert_non_null(strstr(belay_error_message(&err), "x...x"));
    bly_error_prefix(&err, "more: ");
    assert_int_equal(strlen(belay_error_message(&err)), len);
    assert_memory_equal(belay_error_message(&err), "more: x", 7);
    /* The end says why, and stays. */
    bly_fail_errno(&err, ENOSPC, "%s", text);
    assert_int_equal(belay_error_code(&err), BELAY_RESOURCE_EXHAUSTED);
    assert_int_equal(strlen(belay_error_message(&err)), len);
    assert_string_equal(strstr(belay_error_message(&err), ": "), ": No space left on device");
}

static void test_error_errno__becomes_the_code_that_says_whether_to_retry(void **state) {
    (void)state;
    static const struct {
        int number;
        belay_code code;
    } cases[] = {{ENOENT, BELAY_NOT_FOUND},
                 {ENOTDIR, BELAY_NOT_FOUND},
                 {EEXIST, BELAY_ALREADY_EXISTS},
                 {EACCES, BELAY_PERMISSION_DENIED},
                 {EROFS, BELAY_PERMISSION_DENIED},
                 {ENOSPC, BELAY_RESOURCE_EXHAUSTED},
                 {EDQUOT, BELAY_RESOURCE_EXHAUSTED},
                 {ENOMEM, BELAY_RESOURCE_EXHAUSTED},
                 {EIO, BELAY_DATA_LOSS},
                 {EISDIR, BELAY_INVALID_ARGUMENT},
                 {EPROTO, BELAY_UNKNOWN}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        BLY_LOCAL_ERROR(err);
        assert_int_equal(bly_fail_errno(&err, cases[i].number, "cannot write %s", "RUN/checkpoint"),
                         cases[i].code);
        assert_non_null(strstr(belay_error_message(&err), "cannot write RUN/checkpoint: "));
        assert_non_null(strstr(belay_error_message(&err), strerror(cases[i].number)));
    }
}

static void test_error_ST_04_ST_05__names_the_op_that_failed(void **state) {
    (void)state;
    BLY_LOCAL_ERROR(err);
    bly_fail_tensorflow(&err, BELAY_INVALID_ARGUMENT, "bad shape\n\t [[{{node dense/MatMul}}]]");
    assert_string_equal(belay_error_op(&err), "dense/MatMul");
    assert_int_equal(belay_error_origin(&err), BELAY_ORIGIN_TENSORFLOW);
    assert_string_equal(belay_error_message(&err), "bad shape   [[{{node dense/MatMul}}]]");
    BLY_LOCAL_ERROR(copy);
    bly_error_copy(&copy, &err);
    bly_error_prefix(&copy, "saving: ");
    assert_string_equal(belay_error_op(&copy), "dense/MatMul");
    assert_int_equal(belay_error_origin(&copy), BELAY_ORIGIN_TENSORFLOW);
    bly_fail_tensorflow(&err, BELAY_INTERNAL, "old [[Node: v/read = Identity[T=DT_FLOAT](v)]]");
    assert_string_equal(belay_error_op(&err), "v/read");
    bly_fail_tensorflow(&err, BELAY_INTERNAL, "no marker {{node");
    assert_string_equal(belay_error_op(&err), "");
    bly_fail_tensorflow(&err, BELAY_INTERNAL, "open [[{{node half");
    assert_string_equal(belay_error_op(&err), "");
}

static void test_error_chain__keeps_the_first_and_counts_the_rest(void **state) {
    (void)state;
    BLY_LOCAL_ERROR(first);
    BLY_LOCAL_ERROR(later);
    bly_error_chain(&first, &later); /* nothing to nothing */
    assert_int_equal(belay_error_code(&first), BELAY_OK);
    belay_error_set(&later, BELAY_ABORTED, "was first after all");
    bly_error_chain(&first, &later);
    assert_int_equal(belay_error_code(&first), BELAY_ABORTED);
    assert_int_equal(belay_error_chained_count(&first), 0);
    bly_error_chain(&first, &first); /* itself: nothing */
    assert_int_equal(belay_error_chained_count(&first), 0);
    char text[2000];
    memset(text, 'y', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    for (int i = 0; i < 9; i++) {
        bly_fail(&later, BELAY_INTERNAL, "%d %s", i, text);
        bly_error_chain(&first, &later);
    }
    assert_string_equal(belay_error_message(&first), "was first after all");
    size_t count = belay_error_chained_count(&first);
    assert_true(count >= 4);
    assert_int_equal(belay_error_chained_code(&first, 0), BELAY_INTERNAL);
    assert_int_equal(belay_error_chained_message(&first, 0)[0], '0');
    assert_string_equal(belay_error_chained_message(&first, count), "");
    assert_int_equal(belay_error_chained_code(&first, count), BELAY_OK);

    BLY_LOCAL_ERROR(outer); /* what was chained to the later one comes along */
    belay_error_set(&outer, BELAY_NOT_FOUND, "outer");
    bly_error_chain(&outer, &first);
    assert_int_equal(belay_error_chained_code(&outer, 0), BELAY_ABORTED);
    assert_int_equal(belay_error_chained_code(&outer, 1), BELAY_INTERNAL);
    bly_fail(&outer, BELAY_UNKNOWN, "a new error starts afresh");
    assert_int_equal(belay_error_chained_count(&outer), 0);
}

/* ST-04: what somebody said is kept, whatever code came with it. */
static void test_error__a_callback_fails_with_its_code_and_its_text(void **state) {
    (void)state;
    BLY_LOCAL_ERROR(err);
    belay_error_set(&err, BELAY_INTERNAL, "no room");
    assert_int_equal(bly_fail_callback(&err, BELAY_INTERNAL, "end of %s", "A"), BELAY_INTERNAL);
    assert_string_equal(belay_error_message(&err), "no room");
    assert_int_equal(bly_fail_callback(&err, BELAY_NOT_FOUND, "end of %s", "A"), BELAY_NOT_FOUND);
    assert_string_equal(belay_error_message(&err), "end of A failed: no room");
    assert_int_equal(belay_error_code(&err), BELAY_NOT_FOUND);
    assert_int_equal(belay_error_origin(&err), BELAY_ORIGIN_HOOK);
    belay_error_set(&err, BELAY_ABORTED, NULL);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(bly_fail_callback(&err, BELAY_ABORTED, "end of %s", "A"), BELAY_ABORTED);
        assert_string_equal(belay_error_message(&err), "end of A failed without saying why");
        assert_int_equal(belay_error_code(&err), BELAY_ABORTED);
        assert_int_equal(belay_error_origin(&err), BELAY_ORIGIN_HOOK);
        belay_error_clear(&err);
    }
    assert_int_equal(bly_fail_callback(NULL, BELAY_ABORTED, "it"), BELAY_ABORTED);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_error_ST_01__codes_are_tensorflows),
        cmocka_unit_test(test_error_ST_07__only_a_lost_task_is_recoverable),
        cmocka_unit_test(test_error__is_empty_when_made_and_accepts_null),
        cmocka_unit_test(test_error_set__marks_a_hooks_error),
        cmocka_unit_test(test_error__a_callback_fails_with_its_code_and_its_text),
        cmocka_unit_test(test_error_fail__may_quote_the_error_that_it_replaces),
        cmocka_unit_test(test_error_fail__marks_a_text_that_it_cut),
        cmocka_unit_test(test_error_errno__becomes_the_code_that_says_whether_to_retry),
        cmocka_unit_test(test_error_ST_04_ST_05__names_the_op_that_failed),
        cmocka_unit_test(test_error_chain__keeps_the_first_and_counts_the_rest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
