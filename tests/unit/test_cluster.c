/* Cluster specifications, TF_CONFIG, and what a server is made of: nothing here needs TensorFlow or
 * the network. tests/python/test_cluster.py compares them with TensorFlow's own. */
#include "base/buf.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/thread.h"
#include "cluster/address.h"
#include "cluster/contact.h"
#include "cluster/server.h"
#include "cluster/spec.h"
#include "failing_alloc.h"
#include "log_capture.h"
#include "scripted_runtime.h"
#include "stepped_clock.h"
#include "wire/cluster.pb-c.h"

#include <belay/cluster.h>
#include <belay/server.h>
#include <belay/session.h>

#include <math.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static belay_error *err;

static int set_up(void **state) {
    (void)state;
    err = belay_error_new();
    unsetenv("TF_CONFIG");
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    unsetenv("TF_CONFIG");
    belay_error_free(err);
    return 0;
}

static belay_cluster_spec *parse(const char *text) {
    belay_cluster_spec *spec = belay_cluster_spec_parse(text, err);
    if (!spec)
        fail_msg("%s: %s", text, belay_error_message(err));
    return spec;
}

static void assert_text(belay_cluster_spec *spec, const char *wanted) {
    assert_string_equal(belay_cluster_spec_text(spec, err), wanted);
}

static void assert_message(const char *text) {
    assert_int_equal(belay_error_code(err), BELAY_INVALID_ARGUMENT);
    if (!strstr(belay_error_message(err), text))
        fail_msg("'%s' is not in '%s'", text, belay_error_message(err));
    assert_null(strchr(belay_error_message(err), '\n'));
    belay_error_clear(err);
}

/* ---- specifications ---- */

/* CL-01, CL-03 */
static void test_cluster_parse__reads_lists_and_sparse_maps(void **state) {
    (void)state;
    static const struct {
        const char *text, *wanted;
    } cases[] = {
        {"ps=a:1,b:2;worker=c:3", "{\"ps\": [\"a:1\", \"b:2\"], \"worker\": [\"c:3\"]}"},
        {" worker = c:3 ;\n ps = a:1 , b:2 ; ",
         "{\"ps\": [\"a:1\", \"b:2\"], \"worker\": [\"c:3\"]}"},
        {"w_2=127.0.0.1:0", "{\"w_2\": [\"127.0.0.1:0\"]}"},
        {"w=[::1]:2222,::1:2223", "{\"w\": [\"[::1]:2222\", \"::1:2223\"]}"},
        {"{\"worker\": [\"c:3\"], \"ps\": [\"a:1\"]}",
         "{\"ps\": [\"a:1\"], \"worker\": [\"c:3\"]}"},
        {" {\"w\": {\"3\": \"a:1\", \"01\": \"b:2\"}, \"e\": {}, \"d\": []}",
         "{\"d\": {}, \"e\": {}, \"w\": {\"1\": \"b:2\", \"3\": \"a:1\"}}"},
        {"{\"w\": {\"1\": \"a:1\", \"0\": \"b:2\"}}", "{\"w\": [\"b:2\", \"a:1\"]}"},
        {"{\"w\": {\"2147483647\": \"a:1\"}}", "{\"w\": {\"2147483647\": \"a:1\"}}"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        belay_cluster_spec *spec = parse(cases[i].text);
        assert_text(spec, cases[i].wanted);
        /* What is printed is read back as the same. */
        belay_cluster_spec *again = parse(cases[i].wanted);
        assert_true(belay_cluster_spec_equal(spec, again));
        belay_cluster_spec_free(spec);
        belay_cluster_spec_free(again);
    }
}

static void test_cluster_parse__names_what_is_wrong(void **state) {
    (void)state;
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"", "there is no job in it"},
        {" ; ;", "there is no job in it"},
        {"{}", "there is no job in it"},
        {"ps", "'ps' has no '='"},
        {"ps|a:1", "'ps|a:1' has no '='"},
        {"=a:1", "no job before a '='"},
        {"ps=", "job ps task 0 has no address"},
        {"ps=a:1,,b:2", "job ps task 1 has no address"},
        {"ps=a:1,", "job ps task 1 has no address"},
        {"ps=a:1;ps=b:2", "job ps stands there twice"},
        {"ps=a", "the address of job ps task 0, 'a', is not of the form HOST:PORT"},
        {"ps=a:1,b", "the address of job ps task 1, 'b', is not"},
        {"ps=:1", "':1', is not"},
        {"ps=a:", "'a:', is not"},
        {"ps=a:12x", "'a:12x', is not"},
        {"ps=a:-1", "'a:-1', is not"},
        {"ps=a:65536", "'a:65536', is not"},
        {"ps=a:99999999999", "'a:99999999999', is not"},
        {"ps=a b:1", "'a b:1', is not"},
        {"ps=a\xff:1", "is not of the form HOST:PORT"},
        {"ps=grpc://a:1", "'grpc://a:1', is not"},
        {"ps=a:1;worker=b:2,a:1", "job ps task 0 and job worker task 1 have the same address, a:1"},
        {"1ps=a:1", "'1ps' is no name for a job"},
        {"p-s=a:1", "'p-s' is no name for a job"},
        {"_ps=a:1", "'_ps' is no name for a job"},
        {"p/s=a:1", "'p/s' is no name for a job"},
        {"{\"p s\": [\"a:1\"]}", "'p s' is no name for a job"},
        {"{\"\": [\"a:1\"]}", "a job needs a name"},
        {"{", "line 1, column 1"},
        {"{\"ps\": [\"a:1\"],}", "line 1, column"},
        {"{\"ps\": [\"a:1\"]} x", "line 1, column"},
        {"{\"ps\": [\"a:1\"], \"ps\": [\"b:1\"]}", "duplicate object key"},
        {"{\"ps\": \"a:1\"}", "the tasks of job ps are a string, not a list"},
        {"{\"ps\": 3}", "the tasks of job ps are a number, not a list"},
        {"{\"ps\": null}", "the tasks of job ps are null, not a list"},
        {"{\"ps\": [1]}", "the address of job ps task 0 is a number, not a string"},
        {"{\"ps\": [\"a:1\", [\"b:1\"]]}", "the address of job ps task 1 is a list, not a string"},
        {"{\"ps\": {\"x\": \"a:1\"}}", "job ps has a task 'x': the index of a task is"},
        {"{\"ps\": {\"-1\": \"a:1\"}}", "job ps has a task '-1'"},
        {"{\"ps\": {\"\": \"a:1\"}}", "job ps has a task ''"},
        {"{\"ps\": {\"2147483648\": \"a:1\"}}", "job ps has a task '2147483648'"},
        {"{\"ps\": {\"1\": \"a:1\", \"01\": \"b:1\"}}", "job ps has two tasks 1"},
        {"{\"ps\": {\"1\": true}}", "the address of job ps task 1 is a boolean"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (belay_cluster_spec_parse(cases[i].text, err))
            fail_msg("read: %s", cases[i].text);
        assert_message(cases[i].message);
    }
    assert_null(belay_cluster_spec_parse(NULL, err));
    assert_message("text is NULL");
}

/* CL-04, ER-34: unknown jobs and tasks, in every query. */
static void test_cluster_queries__say_what_there_is(void **state) {
    (void)state;
    belay_cluster_spec *spec = parse("{\"ps\": [\"a:1\", \"b:1\", \"c:1\"], \"w\": {\"1\": "
                                     "\"d:1\", \"4\": \"e:1\"}, \"none\": []}");
    static const char jobs[] = "it has none with no tasks, ps with tasks 0 to 2, w with tasks 1, 4";
    size_t count = 7;
    int32_t indices[4] = {9, 9, 9, 9};
    const char *tasks[6] = {NULL};

    assert_string_equal(belay_cluster_spec_task_address(spec, "ps", 2, err), "c:1");
    assert_string_equal(belay_cluster_spec_task_address(spec, "w", 4, err), "e:1");
    assert_int_equal(belay_cluster_spec_num_tasks(spec, "w", &count, err), BELAY_OK);
    assert_int_equal(count, 2);
    assert_int_equal(belay_cluster_spec_task_indices(spec, "w", indices, 4, &count, err), BELAY_OK);
    assert_int_equal(count, 2);
    assert_int_equal(indices[0], 1);
    assert_int_equal(indices[1], 4);
    assert_int_equal(indices[2], 9);

    assert_null(belay_cluster_spec_task_address(spec, "x", 0, err));
    assert_message("No such job in cluster: 'x'");
    assert_int_equal(belay_cluster_spec_num_tasks(spec, "x", &count, err), BELAY_INVALID_ARGUMENT);
    assert_int_equal(count, 0);
    assert_message(jobs);
    assert_int_equal(belay_cluster_spec_task_indices(spec, NULL, indices, 4, &count, err),
                     BELAY_INVALID_ARGUMENT);
    assert_message(jobs);
    assert_int_equal(belay_cluster_spec_job_tasks(spec, "x", tasks, 6, &count, err),
                     BELAY_INVALID_ARGUMENT);
    assert_message(jobs);
    static const int32_t unknown[] = {0, 2, 5, -1, INT32_MAX, INT32_MIN};
    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
        assert_null(belay_cluster_spec_task_address(spec, "w", unknown[i], err));
        assert_message("in job 'w'; it has tasks 1, 4");
    }
    belay_cluster_spec_free(spec);
}

/* CL-05: by index, with gaps; an empty job has none. */
static void test_cluster_job_tasks__leaves_gaps_empty(void **state) {
    (void)state;
    belay_cluster_spec *spec = parse("{\"w\": {\"1\": \"d:1\", \"4\": \"e:1\"}, \"far\": "
                                     "{\"2147483647\": \"f:1\"}, \"none\": []}");
    const char *tasks[8];
    size_t count;
    for (size_t i = 0; i < 8; i++)
        tasks[i] = "untouched";
    assert_int_equal(belay_cluster_spec_job_tasks(spec, "w", tasks, 8, &count, err), BELAY_OK);
    assert_int_equal(count, 5);
    assert_null(tasks[0]);
    assert_string_equal(tasks[1], "d:1");
    assert_null(tasks[2]);
    assert_null(tasks[3]);
    assert_string_equal(tasks[4], "e:1");
    assert_string_equal(tasks[5], "untouched");
    /* Too little room. */
    tasks[2] = "untouched";
    assert_int_equal(belay_cluster_spec_job_tasks(spec, "w", tasks, 2, &count, err), BELAY_OK);
    assert_int_equal(count, 5);
    assert_string_equal(tasks[1], "d:1");
    assert_string_equal(tasks[2], "untouched");
    assert_int_equal(belay_cluster_spec_job_tasks(spec, "far", NULL, 0, &count, err), BELAY_OK);
    assert_true(count == (size_t)INT32_MAX + 1);
    assert_int_equal(belay_cluster_spec_job_tasks(spec, "none", tasks, 8, &count, err), BELAY_OK);
    assert_int_equal(count, 0);
    belay_cluster_spec_free(spec);
}

/* CL-06 */
static void test_cluster_equal__compares_content(void **state) {
    (void)state;
    belay_cluster_spec *a = parse("ps=a:1;worker=b:1"), *b = parse("worker=b:1;ps=a:1");
    belay_cluster_spec *empty = belay_cluster_spec_new();
    static const char *const others[] = {"ps=a:1", "ps=a:1;worker=b:2", "ps=a:1;workers=b:1",
                                         "ps=a:1;worker=b:1,c:1",
                                         "{\"ps\": [\"a:1\"], \"worker\": {\"1\": \"b:1\"}}"};
    assert_true(belay_cluster_spec_equal(a, b));
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        belay_cluster_spec *other = parse(others[i]);
        assert_false(belay_cluster_spec_equal(a, other));
        assert_false(belay_cluster_spec_equal(other, a));
        belay_cluster_spec_free(other);
    }
    assert_int_equal(belay_cluster_spec_job_count(empty), 0);
    assert_int_equal(belay_cluster_spec_job_count(a), 2);
    assert_false(belay_cluster_spec_equal(a, empty));
    assert_false(belay_cluster_spec_equal(a, NULL));
    assert_true(belay_cluster_spec_equal(NULL, NULL));
    belay_cluster_spec_free(a);
    belay_cluster_spec_free(b);
    belay_cluster_spec_free(empty);
}

/* CL-01, CL-02: the bytes are those that TensorFlow's Python writes for the same jobs. */
static void test_cluster_def__lists_jobs_and_tasks_in_order(void **state) {
    (void)state;
    static const char wanted[] = "\n\x13\n\x01"
                                 "d\x12\x06\x08\x00\x12\x02y:\x12\x06\x08\x01\x12\x02z:"
                                 "\n\x03\n\x01"
                                 "e\n\x14\n\x01w\x12\x07\x08\x01\x12\x03"
                                 "b:2\x12\x06\x08\x03\x12\x02"
                                 "a:";
    static const char *const dense[] = {"y:", "z:", NULL};
    size_t size;
    belay_cluster_spec *spec = belay_cluster_spec_new();
    assert_int_equal(belay_cluster_spec_add_task(spec, "w", 3, "a:", err), BELAY_OK);
    assert_int_equal(belay_cluster_spec_add_job(spec, "e", NULL, err), BELAY_OK);
    assert_int_equal(belay_cluster_spec_add_task(spec, "w", 1, "b:2", err), BELAY_OK);
    assert_int_equal(belay_cluster_spec_add_job(spec, "d", dense, err), BELAY_OK);
    const void *def = belay_cluster_spec_def(spec, &size, err);
    assert_int_equal(size, sizeof wanted - 1);
    assert_memory_equal(def, wanted, size);

    belay_cluster_spec *back = belay_cluster_spec_from_def(def, size, err);
    belay_cluster_spec *copy = belay_cluster_spec_copy(spec, err);
    assert_true(belay_cluster_spec_equal(spec, back));
    assert_true(belay_cluster_spec_equal(spec, copy));
    /* A copy is its own. */
    assert_int_equal(belay_cluster_spec_add_task(copy, "w", 2, "c:3", err), BELAY_OK);
    assert_false(belay_cluster_spec_equal(spec, copy));
    assert_text(copy, "{\"d\": [\"y:\", \"z:\"], \"e\": {}, "
                      "\"w\": {\"1\": \"b:2\", \"2\": \"c:3\", \"3\": \"a:\"}}");
    assert_text(spec,
                "{\"d\": [\"y:\", \"z:\"], \"e\": {}, \"w\": {\"1\": \"b:2\", \"3\": \"a:\"}}");
    /* What was said before a change does not outlive it. */
    assert_int_equal(belay_cluster_spec_add_task(spec, "w", 2, "c:3", err), BELAY_OK);
    belay_cluster_spec_def(spec, &size, err);
    assert_int_equal(size, sizeof wanted - 1 + 9);
    belay_cluster_spec_free(spec);
    belay_cluster_spec_free(back);
    belay_cluster_spec_free(copy);
}

static void test_cluster_from_def__refuses_other_bytes(void **state) {
    (void)state;
    size_t size;
    belay_cluster_spec *none = belay_cluster_spec_from_def("", 0, err);
    assert_int_equal(belay_cluster_spec_job_count(none), 0);
    assert_non_null(belay_cluster_spec_def(none, &size, err));
    assert_int_equal(size, 0);
    belay_cluster_spec_free(none);
    assert_null(belay_cluster_spec_from_def("\n\x7fx", 3, err));
    assert_message("these 3 bytes are no ClusterDef");
    /* Task -1. */
    static const char negative[] = "\n\x14\n\x01w\x12\x0f\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff"
                                   "\x01\x12\x02"
                                   "a:";
    assert_null(belay_cluster_spec_from_def(negative, sizeof negative - 1, err));
    assert_message("job w cannot have a task -1");
    /* A job that stands there twice counts the second time; so does a task. */
    static const char twice[] = "\n\x0a\n\x01w\x12\x05\x08\x00\x12\x01x"
                                "\n\x11\n\x01w\x12\x05\x08\x01\x12\x01y\x12\x05\x08\x01\x12\x01z";
    belay_cluster_spec *spec = belay_cluster_spec_from_def(twice, sizeof twice - 1, err);
    assert_text(spec, "{\"w\": {\"1\": \"z\"}}");
    belay_cluster_spec_free(spec);
}

static void test_cluster_add__changes_nothing_where_it_fails(void **state) {
    (void)state;
    static const char *const one[] = {"b:1", NULL};
    belay_cluster_spec *spec = parse("ps=a:1");
    assert_int_equal(belay_cluster_spec_add_job(spec, "ps", one, err), BELAY_ALREADY_EXISTS);
    assert_int_equal(belay_cluster_spec_add_task(spec, "ps", 0, "b:1", err), BELAY_ALREADY_EXISTS);
    assert_int_equal(belay_cluster_spec_add_task(spec, "ps", -1, "b:1", err),
                     BELAY_INVALID_ARGUMENT);
    assert_int_equal(belay_cluster_spec_add_task(spec, "w", INT32_MIN, "b:1", err),
                     BELAY_INVALID_ARGUMENT);
    assert_int_equal(belay_cluster_spec_add_task(spec, "w", 0, NULL, err), BELAY_INVALID_ARGUMENT);
    assert_int_equal(belay_cluster_spec_add_task(spec, "", 0, "b:1", err), BELAY_INVALID_ARGUMENT);
    assert_int_equal(belay_cluster_spec_add_task(spec, NULL, 0, "b:1", err),
                     BELAY_INVALID_ARGUMENT);
    assert_int_equal(belay_cluster_spec_add_job(spec, NULL, one, err), BELAY_INVALID_ARGUMENT);
    assert_text(spec, "{\"ps\": [\"a:1\"]}");
    belay_cluster_spec_free(spec);
}

static void test_cluster__takes_null_everywhere(void **state) {
    (void)state;
    size_t count;
    belay_cluster_spec_free(NULL);
    belay_tf_config_free(NULL);
    belay_server_free(NULL);
    assert_int_equal(belay_cluster_spec_job_count(NULL), 0);
    assert_null(belay_cluster_spec_job_name(NULL, 0));
    assert_null(belay_cluster_spec_text(NULL, err));
    assert_message("cluster is NULL");
    assert_null(belay_cluster_spec_def(NULL, &count, err));
    belay_error_clear(err);
    assert_null(belay_cluster_spec_copy(NULL, NULL));
    assert_null(belay_cluster_spec_task_address(NULL, "ps", 0, err));
    belay_error_clear(err);
    assert_int_equal(belay_cluster_spec_num_tasks(NULL, "ps", &count, err), BELAY_INVALID_ARGUMENT);
    assert_null(belay_tf_config_cluster(NULL));
    assert_null(belay_tf_config_task_type(NULL));
    assert_int_equal(belay_tf_config_task_index(NULL), BELAY_NO_TASK);
    assert_null(belay_tf_config_rpc_layer(NULL));
    assert_null(belay_tf_config_environment(NULL));
    assert_null(belay_tf_config_session_master(NULL));
    /* A maker that is given NULL and a filled error leaves it. */
    belay_error_set(err, BELAY_DATA_LOSS, "before");
    assert_null(belay_cluster_spec_copy(NULL, err));
    assert_null(belay_tf_config_master(NULL, NULL, BELAY_NO_TASK, NULL, err));
    assert_int_equal(belay_server_begin(NULL, err), BELAY_DATA_LOSS);
    assert_string_equal(belay_error_message(err), "before");
    assert_string_equal(belay_server_target(NULL), "");
    assert_string_equal(belay_server_job_name(NULL), "");
    assert_int_equal(belay_server_task_index(NULL), BELAY_NO_TASK);
    assert_null(belay_server_def(NULL, &count));
    assert_int_equal(count, 0);
}

/* ---- TF_CONFIG ---- */

static belay_tf_config *load(const char *text) {
    belay_tf_config *config = belay_tf_config_load(text, err);
    if (!config)
        fail_msg("%s: %s", text, belay_error_message(err));
    return config;
}

/* CL-13 */
static void test_tf_config__reads_every_member_and_passes_over_others(void **state) {
    (void)state;
    static const char text[] =
        "{\"cluster\": {\"ps\": [\"a:1\"], \"worker\": [\"b:1\", \"c:1\"]},"
        " \"task\": {\"type\": \"worker\", \"index\": 1, \"trial\": \"3\", \"cloud\": \"x\"},"
        " \"rpc_layer\": \"grpc\", \"environment\": \"cloud\", \"session_master\": \"grpc://m:1\","
        " \"job\": {\"args\": []}, \"cloud\": \"Google\"}";
    belay_tf_config *config = load(text);
    belay_cluster_spec *same = parse("ps=a:1;worker=b:1,c:1");
    assert_true(belay_cluster_spec_equal(belay_tf_config_cluster(config), same));
    assert_string_equal(belay_tf_config_task_type(config), "worker");
    assert_int_equal(belay_tf_config_task_index(config), 1);
    assert_string_equal(belay_tf_config_rpc_layer(config), "grpc");
    assert_string_equal(belay_tf_config_environment(config), "cloud");
    assert_string_equal(belay_tf_config_session_master(config), "grpc://m:1");
    belay_tf_config_free(config);
    belay_cluster_spec_free(same);

    config = load("{\"task\": {\"type\": \"worker\", \"index\": \"12\"}, \"rpc_layer\": null}");
    assert_int_equal(belay_tf_config_task_index(config), 12);
    assert_int_equal(belay_cluster_spec_job_count(belay_tf_config_cluster(config)), 0);
    assert_null(belay_tf_config_rpc_layer(config));
    belay_tf_config_free(config);
}

/* CL-13: absent variable = empty object. */
static void test_tf_config__comes_from_the_environment(void **state) {
    (void)state;
    belay_tf_config *config = load(NULL);
    assert_int_equal(belay_cluster_spec_job_count(belay_tf_config_cluster(config)), 0);
    assert_null(belay_tf_config_task_type(config));
    assert_int_equal(belay_tf_config_task_index(config), BELAY_NO_TASK);
    assert_string_equal(belay_tf_config_master(config, NULL, BELAY_NO_TASK, NULL, err), "");
    belay_tf_config_free(config);
    setenv("TF_CONFIG", "{\"environment\": \"here\"}", 1);
    config = load(NULL);
    assert_string_equal(belay_tf_config_environment(config), "here");
    belay_tf_config_free(config);
    /* Given text wins. */
    config = load("{}");
    assert_null(belay_tf_config_environment(config));
    belay_tf_config_free(config);
}

#define CLUSTER "\"cluster\": {\"worker\": [\"a:1\", \"b:1\"]}"

/* CL-13 */
static void test_tf_config__says_in_one_line_what_is_malformed(void **state) {
    (void)state;
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"", "TF_CONFIG: it is set, and empty"},
        {" \n", "TF_CONFIG: it is set, and empty"},
        {"{", "TF_CONFIG: it is not JSON: line 1, column 1"},
        {"{'cluster': {}}", "TF_CONFIG: it is not JSON: line 1, column"},
        {"{\n\"cluster\": {\n]}", "line 3, column 1"},
        {"{} {}", "TF_CONFIG: it is not JSON"},
        {"{\"task\": {}, \"task\": {}}", "duplicate object key"},
        {"[]", "TF_CONFIG: it is not a JSON object"},
        {"\"x\"", "TF_CONFIG: it is not a JSON object"},
        {"3", "TF_CONFIG: it is not a JSON object"},
        {"null", "TF_CONFIG: it is not a JSON object"},
        {"{\"cluster\": null}", "TF_CONFIG: \"cluster\" is null, not an object"},
        {"{\"cluster\": [\"a:1\"]}", "TF_CONFIG: \"cluster\" is a list, not an object"},
        {"{\"cluster\": \"a:1\"}", "TF_CONFIG: \"cluster\" is a string, not an object"},
        {"{\"cluster\": {\"ps\": \"a:1\"}}", "the tasks of job ps are a string"},
        {"{\"cluster\": {\"ps\": [\"a:1\", 2]}}", "the address of job ps task 1 is a number"},
        {"{\"cluster\": {\"ps\": [\"a\"]}}", "the address of job ps task 0, 'a', is not"},
        {"{\"cluster\": {\"p s\": [\"a:1\"]}}", "'p s' is no name for a job"},
        {"{\"cluster\": {\"ps\": [\"a:1\", \"a:1\"]}}", "have the same address, a:1"},
        {"{\"cluster\": {\"chief\": [\"a:1\", \"b:1\"]}}", "the cluster has 2 chiefs, and can"},
        {"{\"cluster\": {\"chief\": [\"a:1\"], \"master\": [\"b:1\"]}}", "a chief and a master"},
        {"{\"cluster\": {\"evaluator\": [\"a:1\", \"b:1\"]}}", "the cluster has 2 evaluators"},
        {"{\"task\": 3}", "TF_CONFIG: \"task\" is not an object"},
        {"{\"task\": [\"worker\", 0]}", "TF_CONFIG: \"task\" is not an object"},
        {"{\"task\": {\"type\": 3}}", "TF_CONFIG: the type of the task is not a string"},
        {"{\"task\": {\"index\": -1}}", "the index of the task is not a whole number"},
        {"{\"task\": {\"index\": 1.5}}", "the index of the task is not a whole number"},
        {"{\"task\": {\"index\": \"x\"}}", "the index of the task is not a whole number"},
        {"{\"task\": {\"index\": \"1x\"}}", "the index of the task is not a whole number"},
        {"{\"task\": {\"index\": \"\"}}", "the index of the task is not a whole number"},
        {"{\"task\": {\"index\": true}}", "the index of the task is not a whole number"},
        {"{\"task\": {\"index\": 2147483648}}", "the index of the task is not a whole number"},
        {"{\"task\": {\"index\": \"99999999999999999999\"}}", "the index of the task is not"},
        {"{" CLUSTER ", \"task\": {\"type\": \"ps\", \"index\": 0}}",
         "TF_CONFIG: the task is not in the cluster: No such job in cluster: 'ps'; it has worker"},
        {"{" CLUSTER ", \"task\": {\"type\": \"worker\", \"index\": 2}}",
         "No task with index 2 in job 'worker'; it has tasks 0, 1"},
        {"{\"rpc_layer\": 1}", "TF_CONFIG: \"rpc_layer\" is not a string"},
        {"{\"environment\": []}", "TF_CONFIG: \"environment\" is not a string"},
        {"{\"session_master\": {}}", "TF_CONFIG: \"session_master\" is not a string"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (belay_tf_config_load(cases[i].text, err))
            fail_msg("read: %s", cases[i].text);
        assert_true(strncmp(belay_error_message(err), "TF_CONFIG: ", 11) == 0);
        assert_message(cases[i].message);
    }
}

static void assert_master(const char *text, const char *type, int32_t index, const char *layer,
                          const char *wanted) {
    belay_tf_config *config = load(text);
    const char *master = belay_tf_config_master(config, type, index, layer, err);
    if (!master)
        fail_msg("%s: %s", text, belay_error_message(err));
    assert_string_equal(master, wanted);
    belay_tf_config_free(config);
}

/* CL-14 */
static void test_tf_config_master__follows_session_master_cluster_and_task(void **state) {
    (void)state;
    static const char two[] = "{" CLUSTER ", \"task\": {\"type\": \"worker\", \"index\": 1}}";
    assert_master("{}", NULL, -1, NULL, "");
    assert_master("{\"cluster\": {}}", "worker", 0, "grpc", "");
    assert_master("{\"cluster\": {\"worker\": [\"a:1\"]}, \"rpc_layer\": \"grpc\"}", NULL, -1, NULL,
                  "");
    assert_master("{" CLUSTER ", \"session_master\": \"grpc://m:1\"}", NULL, -1, NULL,
                  "grpc://m:1");
    assert_master("{\"session_master\": \"\"," CLUSTER "}", NULL, -1, NULL, "");
    assert_master(two, NULL, -1, NULL, "b:1");
    assert_master(two, NULL, -1, "grpc", "grpc://b:1");
    assert_master(two, NULL, 0, "grpc", "grpc://a:1");
    assert_master("{" CLUSTER ", \"task\": {\"type\": \"worker\", \"index\": 1},"
                  " \"rpc_layer\": \"grpc\"}",
                  NULL, -1, NULL, "grpc://b:1");
    assert_master("{" CLUSTER ", \"task\": {\"type\": \"worker\", \"index\": 1},"
                  " \"rpc_layer\": \"grpc\"}",
                  NULL, -1, "", "b:1");
    /* One of several, of which the others are not known. */
    assert_master("{\"cluster\": {\"worker\": {\"1\": \"b:1\"}},"
                  " \"task\": {\"type\": \"worker\", \"index\": 1}}",
                  NULL, -1, NULL, "b:1");

    belay_tf_config *config = load("{" CLUSTER "}");
    assert_null(belay_tf_config_master(config, NULL, 0, NULL, err));
    assert_message("the type of the task is not given");
    assert_null(belay_tf_config_master(config, "worker", BELAY_NO_TASK, NULL, err));
    assert_message("the index of the task is not given");
    assert_null(belay_tf_config_master(config, "worker", 5, NULL, err));
    assert_message("No task with index 5 in job 'worker'");
    belay_tf_config_free(config);
}

/* CL-15 */
static void test_cluster_is_chief__is_worker_0_where_there_is_no_chief(void **state) {
    (void)state;
    belay_cluster_spec *with = parse("chief=a:1;worker=b:1,c:1;ps=d:1");
    belay_cluster_spec *without = parse("worker=b:1,c:1;ps=d:1");
    belay_cluster_spec *master = parse("master=a:1;worker=b:1");
    belay_cluster_spec *none = belay_cluster_spec_new();
    const struct {
        const belay_cluster_spec *spec;
        const char *type;
        int32_t index;
        uint32_t chief;
    } cases[] = {
        {NULL, "worker", 3, 1},       {none, "ps", 0, 1},         {with, "chief", 0, 1},
        {with, "worker", 0, 0},       {with, "worker", 1, 0},     {with, "ps", 0, 0},
        {with, "evaluator", 0, 1},    {with, NULL, -1, 1},        {without, "worker", 0, 1},
        {without, "worker", 1, 0},    {without, "worker", -1, 0}, {without, "ps", 0, 0},
        {without, "evaluator", 0, 1}, {without, NULL, -1, 1},     {master, "master", 0, 1},
        {master, "worker", 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        if (belay_cluster_spec_is_chief(cases[i].spec, cases[i].type, cases[i].index) !=
            cases[i].chief)
            fail_msg("case %zu", i);
    belay_cluster_spec_free(with);
    belay_cluster_spec_free(without);
    belay_cluster_spec_free(master);
    belay_cluster_spec_free(none);
}

/* ---- what a server is made of ---- */

static Bly__ServerDef *unpack(const bly_server_plan *plan) {
    Bly__ServerDef *def =
        bly__server_def__unpack(NULL, plan->def.len, (const uint8_t *)plan->def.data);
    assert_non_null(def);
    return def;
}

/* CL-07, CL-09 */
static void test_server_def__holds_cluster_task_config_and_protocol(void **state) {
    (void)state;
    static const char wanted[] = "\n\x0e\n\x0c\n\x01w\x12\x07\x08\x00\x12\x03"
                                 "a:0"
                                 "\x12\x01w\"\x02\x10\x03*\x04grpc";
    belay_cluster_spec *spec = parse("w=a:0");
    belay_server_options options = BELAY_SERVER_OPTIONS_INIT;
    bly_server_plan plan;
    options.cluster = spec;
    options.config = "\x10\x03";
    options.config_size = 2;
    assert_int_equal(bly_server_plan_make(&plan, &options, err), BELAY_OK);
    assert_int_equal(plan.def.len, sizeof wanted - 1);
    assert_memory_equal(plan.def.data, wanted, sizeof wanted - 1);
    assert_string_equal(plan.job_name, "w");
    assert_int_equal(plan.task_index, 0);
    bly_server_plan_clean_up(&plan);
    belay_cluster_spec_free(spec);
}

static void assert_chosen(const belay_cluster_spec *spec, const char *job, const int32_t *task,
                          const char *wanted_job, int32_t wanted_task) {
    belay_server_options options = BELAY_SERVER_OPTIONS_INIT;
    bly_server_plan plan;
    options.cluster = spec;
    options.job_name = job;
    options.task_index = task;
    if (bly_server_plan_make(&plan, &options, err) != BELAY_OK)
        fail_msg("%s", belay_error_message(err));
    assert_string_equal(plan.job_name, wanted_job);
    assert_int_equal(plan.task_index, wanted_task);
    bly_server_plan_clean_up(&plan);
}

static void assert_refused(const belay_cluster_spec *spec, const char *job, const int32_t *task,
                           const char *message) {
    belay_server_options options = BELAY_SERVER_OPTIONS_INIT;
    options.cluster = spec;
    options.job_name = job;
    options.task_index = task;
    assert_int_equal(belay_server_check(&options, err), BELAY_INVALID_ARGUMENT);
    assert_message(message);
}

/* CL-09 */
static void test_server__infers_job_and_task_where_there_is_one(void **state) {
    (void)state;
    belay_cluster_spec *one = parse("{\"w\": {\"3\": \"a:1\"}}"), *two = parse("ps=a:1;w=b:1,c:1");
    const int32_t zero = 0, last = 1, five = 5, below = -1;
    assert_chosen(one, NULL, NULL, "w", 3);
    assert_chosen(one, "w", NULL, "w", 3);
    assert_chosen(two, "ps", NULL, "ps", 0);
    assert_chosen(two, "w", &zero, "w", 0);
    assert_chosen(two, "w", &last, "w", 1);
    assert_refused(two, NULL, &zero,
                   "Must specify an explicit `job_name`; the cluster has ps with task 0, w with "
                   "tasks 0, 1");
    assert_refused(two, "w", NULL, "Must specify an explicit `task_index`");
    assert_refused(two, "x", &zero, "No such job in cluster: 'x'; it has ps with task 0");
    assert_refused(two, "x", NULL, "No such job in cluster: 'x'");
    assert_refused(two, "w", &five, "No task with index 5 in job 'w'; it has tasks 0, 1");
    assert_refused(two, "w", &below, "No task with index -1 in job 'w'");
    belay_cluster_spec_free(one);
    belay_cluster_spec_free(two);
}

/* TensorFlow aborts the process over such names (2.21). */
static void test_server__refuses_what_tensorflow_dies_of(void **state) {
    (void)state;
    static const char *const names[] = {"p s", "1w", "_w", "w-r", "w/r", "w\xc3\xb6r", ""};
    belay_cluster_spec *spec;
    for (size_t i = 0; i < sizeof names / sizeof names[0] - 1; i++) {
        spec = belay_cluster_spec_new();
        assert_int_equal(belay_cluster_spec_add_task(spec, names[i], 0, "a:1", err), BELAY_OK);
        assert_refused(spec, NULL, NULL, "is no name for a job");
        belay_cluster_spec_free(spec);
    }
    spec = belay_cluster_spec_new();
    assert_refused(spec, NULL, NULL,
                   "Must specify an explicit `job_name`; the cluster has no jobs");
    assert_int_equal(belay_cluster_spec_add_task(spec, "w", 0, "a", err), BELAY_OK);
    assert_refused(spec, NULL, NULL, "'a', is not of the form HOST:PORT");
    belay_cluster_spec_free(spec);
}

/* CL-08 */
static void test_server__overrides_a_server_def(void **state) {
    (void)state;
    belay_cluster_spec *spec = parse("ps=a:1;w=b:0,c:0");
    belay_server_options options = BELAY_SERVER_OPTIONS_INIT;
    bly_server_plan first, second;
    const int32_t one = 1;
    options.cluster = spec;
    options.job_name = "ps";
    options.config = "\x10\x03";
    options.config_size = 2;
    options.protocol = "grpc+verbs";
    assert_int_equal(bly_server_plan_make(&first, &options, err), BELAY_OK);
    /* What belay does not know is handed on. */
    bly_buf given = BLY_BUF_INIT;
    bly_buf_append(&given, first.def.data, first.def.len);
    bly_buf_append(&given, "\x30\x07\x3a\x01x\x40\x02\xf8\x3f\x05", 10);

    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    options.server_def = given.data;
    options.server_def_size = given.len;
    assert_int_equal(bly_server_plan_make(&second, &options, err), BELAY_OK);
    assert_int_equal(second.def.len, given.len);
    assert_int_equal(second.port, 7);
    Bly__ServerDef *def = unpack(&second);
    assert_string_equal(def->job_name, "ps");
    assert_string_equal(def->protocol, "grpc+verbs");
    assert_int_equal(def->port, 7);
    assert_int_equal(def->replica, 2);
    assert_int_equal(def->base.n_unknown_fields, 1);
    bly__server_def__free_unpacked(def, NULL);
    bly_server_plan_clean_up(&second);

    options.job_name = "w";
    options.task_index = &one;
    options.protocol = "grpc";
    options.config = "\x18\x04";
    options.config_size = 2;
    assert_int_equal(bly_server_plan_make(&second, &options, err), BELAY_OK);
    def = unpack(&second);
    assert_string_equal(def->job_name, "w");
    assert_int_equal(def->task_index, 1);
    assert_string_equal(def->protocol, "grpc");
    assert_int_equal(def->default_session_config.len, 4);
    assert_memory_equal(def->default_session_config.data, "\x10\x03\x18\x04", 4);
    assert_true(belay_cluster_spec_equal(second.cluster, spec));
    bly__server_def__free_unpacked(def, NULL);
    bly_server_plan_clean_up(&second);

    options.cluster = spec;
    assert_int_equal(belay_server_check(&options, err), BELAY_INVALID_ARGUMENT);
    assert_message("cluster and server_def are both given");
    options.cluster = NULL;
    options.server_def = "\n\x7f";
    options.server_def_size = 2;
    assert_int_equal(belay_server_check(&options, err), BELAY_INVALID_ARGUMENT);
    assert_message("server_def is no ServerDef");
    bly_server_plan_clean_up(&first);
    bly_buf_free(&given);
    belay_cluster_spec_free(spec);
}

/* CL-11 */
static void test_server__is_local_by_default(void **state) {
    (void)state;
    bly_server_plan plan;
    assert_int_equal(bly_server_plan_make(&plan, NULL, err), BELAY_OK);
    assert_string_equal(plan.job_name, "localhost");
    assert_int_equal(plan.task_index, 0);
    assert_int_equal(plan.port, 0);
    assert_text(plan.cluster, "{\"localhost\": [\"localhost:0\"]}");
    bly_server_plan_clean_up(&plan);
}

static void test_server_options__refuse_other_sizes(void **state) {
    (void)state;
    struct {
        belay_server_options options;
        uint64_t later;
    } newer = {BELAY_SERVER_OPTIONS_INIT, 0};
    newer.options.struct_size = sizeof newer;
    assert_int_equal(belay_server_check(&newer.options, err), BELAY_OK);
    newer.later = 1;
    assert_int_equal(belay_server_check(&newer.options, err), BELAY_INVALID_ARGUMENT);
    assert_message("has an option set that this belay");
    newer.options.struct_size = offsetof(belay_server_options, server_def);
    newer.options.job_name = "x"; /* past the end of an older struct */
    assert_int_equal(belay_server_check(&newer.options, err), BELAY_OK);
    newer.options.struct_size = 0;
    assert_int_equal(belay_server_check(&newer.options, err), BELAY_INVALID_ARGUMENT);
}

/* ---- servers on the scripted runtime ---- */

/* CL-10, CL-12: what serves is never deleted, since TensorFlow aborts the process over that; what
 * does not is. */
static void test_server__is_deleted_only_where_it_does_not_serve(void **state) {
    (void)state;
    scripted_install();
    belay_cluster_spec *spec = parse("w=127.0.0.1:0");
    belay_server_options options = BELAY_SERVER_OPTIONS_INIT;
    options.cluster = spec;
    belay_server *server = belay_server_prepare(&options, err);
    assert_string_equal(belay_server_target(server), "grpc://127.0.0.1:0");
    assert_int_equal(scripted_count("TF_ServerStart"), 0);
    belay_server_free(server);
    assert_int_equal(scripted_count("TF_DeleteServer"), 1);

    server = belay_server_start(&options, err);
    assert_int_equal(scripted_count("TF_ServerStart"), 1);
    assert_int_equal(belay_server_begin(server, err), BELAY_OK);
    assert_int_equal(scripted_count("TF_ServerStart"), 1);
    assert_true(belay_cluster_spec_equal(bly_server_cluster("grpc://127.0.0.1:0"), spec));
    assert_null(bly_server_cluster("grpc://127.0.0.1:1"));
    belay_server_free(server);
    assert_int_equal(scripted_count("TF_DeleteServer"), 1);

    scripted_fail("TF_ServerStart", 2, BELAY_INTERNAL, "no");
    assert_null(belay_server_start(&options, err));
    assert_int_equal(belay_error_code(err), BELAY_INTERNAL);
    assert_int_equal(scripted_count("TF_DeleteServer"), 2);
    scripted_fail("TF_NewServer", 0, BELAY_UNKNOWN, "Could not start gRPC server");
    assert_null(belay_server_start(&options, err));
    assert_int_equal(belay_error_code(err), BELAY_UNKNOWN);
    options.config = "\x0a\x7f";
    options.config_size = 2;
    assert_null(belay_server_start(&options, err));
    assert_message("config: ");
    belay_cluster_spec_free(spec);
    scripted_uninstall();
}

/* ---- contact ---- */

static void keep(void *owner) {
    ++*(int *)owner;
}

static int silent_look(const char *target, bly_buf *why) {
    bly_buf_printf(why, "nobody is at %s", target);
    return 0;
}

struct meeting {
    belay_graph *graph;
    TF_Session *session;
    int released;
    atomic_int stop;
};

static void meet(struct meeting *m, int state) {
    const bly_runtime *rt = scripted_install();
    stepped_clock_install(STEPPED_AUTO);
    bly_target_look_install(silent_look);
    scripted_server_state("grpc://m:1", state);
    m->graph = scripted_graph(SCRIPTED_GLOBAL_STEP, err);
    TF_SessionOptions *options = rt->NewSessionOptions();
    TF_Status *status = rt->NewStatus();
    rt->SetTarget(options, "grpc://m:1");
    m->session = rt->NewSession(belay_graph_raw(m->graph), options, status);
    rt->DeleteSessionOptions(options);
    rt->DeleteStatus(status);
    m->released = 0;
    atomic_init(&m->stop, 0);
    log_capture_start(BELAY_LOG_INFO);
}

static belay_code contact(struct meeting *m, int64_t deadline_us) {
    bly_contact c = {.rt = bly_runtime_get(NULL), .session = m->session, .target = "grpc://m:1"};
    c.deadline_us = deadline_us;
    c.stop[1] = &m->stop;
    c.owner = &m->released;
    c.release = keep;
    return bly_contact_make(&c, err);
}

static void part(struct meeting *m) {
    scripted_release();
    stepped_clock_uninstall();
    log_capture_stop();
    bly_target_look_install(NULL);
    assert_int_equal(m->released, 1); /* exactly once, whatever happened */
    const bly_runtime *rt = bly_runtime_get(NULL);
    TF_Status *status = rt->NewStatus();
    rt->DeleteSession(m->session, status);
    rt->DeleteStatus(status);
    belay_graph_free(m->graph);
    scripted_uninstall();
}

static void test_contact__is_made_at_once_where_the_target_answers(void **state) {
    (void)state;
    struct meeting m;
    meet(&m, SCRIPTED_UP);
    assert_int_equal(contact(&m, BLY_NEVER), BELAY_OK);
    assert_int_equal(stepped_clock_now_ms(), 0);
    assert_int_equal(log_capture_count(NULL), 0);
    assert_string_equal(scripted_run_line(0), ""); /* nothing of the graph ran */
    part(&m);
}

static void test_contact__ends_at_its_deadline_with_a_reason(void **state) {
    (void)state;
    struct meeting m;
    meet(&m, SCRIPTED_SILENT);
    assert_int_equal(contact(&m, INT64_C(35000000)), BELAY_DEADLINE_EXCEEDED);
    assert_string_equal(belay_error_message(err),
                        "grpc://m:1 did not answer within 35.0 s: nobody is at grpc://m:1");
    assert_int_equal(stepped_clock_now_ms(), 35000);
    /* At 2, 12, 22 and 32 s. */
    assert_int_equal(log_capture_count("Waiting for grpc://m:1, for"), 4);
    assert_int_equal(log_capture_count(" s so far: nobody is at grpc://m:1"), 4);
    assert_int_equal(m.released, 0); /* the call goes on by itself */
    part(&m);
}

static void test_contact__has_a_reason_after_a_short_wait_too(void **state) {
    (void)state;
    struct meeting m;
    meet(&m, SCRIPTED_SILENT);
    assert_int_equal(contact(&m, 100000), BELAY_DEADLINE_EXCEEDED);
    assert_non_null(strstr(belay_error_message(err), "within 0.1 s: nobody is at"));
    assert_int_equal(stepped_clock_now_ms(), 100);
    part(&m);
}

static void wait_until_secs(int64_t secs) {
    bly_mutex mutex;
    bly_cond cond;
    bly_mutex_init(&mutex);
    bly_cond_init(&cond);
    bly_mutex_lock(&mutex);
    while (bly_wait_until(&cond, &mutex, secs * 1000000))
        ;
    bly_mutex_unlock(&mutex);
    bly_cond_clean_up(&cond);
    bly_mutex_clean_up(&mutex);
}

static void stop_later(void *self) {
    wait_until_secs(61);
    atomic_store((atomic_int *)self, 1);
}

static void test_contact__ends_at_a_stop(void **state) {
    (void)state;
    struct meeting m;
    meet(&m, SCRIPTED_SILENT);
    bly_thread *thread = bly_thread_start("stop", stop_later, &m.stop, NULL);
    assert_int_equal(contact(&m, BLY_NEVER), BELAY_CANCELLED);
    assert_true(stepped_clock_now_ms() >= 61000);
    assert_true(stepped_clock_now_ms() <= 61200);
    bly_thread_join(thread);
    part(&m);
}

static void come_up(void *self) {
    (void)self;
    wait_until_secs(20);
    scripted_server_state("grpc://m:1", SCRIPTED_UP);
}

static void test_contact__waits_for_a_target_that_comes_up(void **state) {
    (void)state;
    struct meeting m;
    meet(&m, SCRIPTED_SILENT);
    bly_thread *thread = bly_thread_start("up", come_up, NULL, NULL);
    assert_int_equal(contact(&m, INT64_C(3600000000)), BELAY_OK);
    assert_true(stepped_clock_now_ms() >= 20000);
    assert_true(stepped_clock_now_ms() <= 20200);
    assert_int_equal(log_capture_count("Waiting for grpc://m:1"), 2);
    bly_thread_join(thread);
    part(&m);
}

/* A session that comes to be after its caller has gone is not left on the target. */
static void test_contact__closes_what_comes_too_late(void **state) {
    (void)state;
    struct meeting m;
    meet(&m, SCRIPTED_SILENT);
    bly_thread *thread = bly_thread_start("up", come_up, NULL, NULL);
    assert_int_equal(contact(&m, INT64_C(5000000)), BELAY_DEADLINE_EXCEEDED);
    assert_int_equal(scripted_count("TF_CloseSession"), 0);
    bly_thread_join(thread);
    stepped_clock_settle();
    assert_int_equal(scripted_count("TF_CloseSession"), 1);
    part(&m);
}

static void test_contact__returns_what_tensorflow_says(void **state) {
    (void)state;
    struct meeting m;
    meet(&m, SCRIPTED_UNAVAILABLE);
    assert_int_equal(contact(&m, INT64_C(60000000)), BELAY_UNAVAILABLE);
    assert_int_equal(belay_error_origin(err), BELAY_ORIGIN_TENSORFLOW);
    assert_int_equal(stepped_clock_now_ms(), 0);
    part(&m);
    /* That there is nothing to run is said by a session that has been made. */
    meet(&m, SCRIPTED_UP);
    scripted_fail("TF_SessionRun", 1, BELAY_INVALID_ARGUMENT,
                  "Must specify at least one target to fetch or execute.");
    assert_int_equal(contact(&m, BLY_NEVER), BELAY_OK);
    part(&m);
}

static void test_contact__without_memory_fails_and_releases(void **state) {
    (void)state;
    FAILING_ALLOC(n) {
        struct meeting m;
        bly_mem_fail_at(0);
        meet(&m, SCRIPTED_UP);
        bly_mem_fail_at(n);
        belay_code code = contact(&m, BLY_NEVER);
        assert_int_equal(code, failing_alloc_hit() ? BELAY_RESOURCE_EXHAUSTED : BELAY_OK);
        part(&m);
    }
}

/* ---- which tasks listen ---- */

struct told {
    int count, silent;
    char last[100];
};

static void take_task(void *self, const char *job, int32_t task, const char *address,
                      const char *reason) {
    struct told *told = self;
    told->count++;
    told->silent += reason != NULL;
    snprintf(told->last, sizeof told->last, "%s %d %s %s", job, (int)task, address,
             reason ? reason : "listens");
}

static void test_probe__tells_of_every_task_in_order(void **state) {
    (void)state;
    struct told told = {0, 0, ""};
    belay_cluster_spec *spec = belay_cluster_spec_new();
    assert_int_equal(belay_cluster_spec_probe(spec, 0, take_task, &told, err), BELAY_OK);
    assert_int_equal(told.count, 0);
    /* More of them than threads; what is no address is asked nothing. */
    for (int32_t i = 0; i < 100; i++)
        assert_int_equal(belay_cluster_spec_add_task(spec, "w", i * 2, "no address", err),
                         BELAY_OK);
    assert_int_equal(belay_cluster_spec_probe(spec, 20, take_task, &told, err), BELAY_OK);
    assert_int_equal(told.count, 100);
    assert_int_equal(told.silent, 100);
    assert_string_equal(told.last, "w 198 no address not of the form HOST:PORT");
    belay_cluster_spec_free(spec);
}

static void test_probe__looks_at_its_arguments(void **state) {
    (void)state;
    struct told told = {0, 0, ""};
    belay_cluster_spec *spec = belay_cluster_spec_new();
    assert_int_equal(belay_cluster_spec_probe(spec, 0, NULL, NULL, err), BELAY_INVALID_ARGUMENT);
    assert_int_equal(belay_cluster_spec_probe(spec, -1, take_task, &told, err),
                     BELAY_INVALID_ARGUMENT);
    assert_int_equal(belay_cluster_spec_probe(spec, NAN, take_task, &told, NULL),
                     BELAY_INVALID_ARGUMENT);
    belay_error_clear(err);
    assert_int_equal(belay_cluster_spec_probe(NULL, 0, take_task, &told, err),
                     BELAY_INVALID_ARGUMENT);
    belay_error_set(err, BELAY_DATA_LOSS, "before");
    assert_int_equal(belay_cluster_spec_probe(NULL, 0, take_task, &told, err), BELAY_DATA_LOSS);
    belay_error_clear(err);
    belay_cluster_spec_free(spec);
}

/* ---- addresses ---- */

static void test_address__is_split_as_tensorflow_does(void **state) {
    (void)state;
    char host[256];
    int port;
    assert_true(bly_address_split("a.b-c:22", host, sizeof host, &port));
    assert_string_equal(host, "a.b-c");
    assert_int_equal(port, 22);
    assert_true(bly_address_split("[::1]:0", host, sizeof host, &port));
    assert_string_equal(host, "::1");
    assert_true(bly_address_split("::1:65535", host, sizeof host, &port));
    assert_string_equal(host, "::1");
    assert_int_equal(port, 65535);
    char longest[400];
    memset(longest, 'h', sizeof longest);
    memcpy(longest + 300, ":1", 3);
    assert_true(bly_address_split(longest, NULL, 0, &port));
    assert_false(bly_address_split(longest, host, sizeof host, &port));
    assert_string_equal(bly_target_address("grpc://a:1"), "a:1");
    assert_null(bly_target_address("local"));
    assert_null(bly_target_address(""));
}

/* BUG-16: nobody refuses, so it may be the network, and a session has a minute instead of five
 * seconds. Linux drops whoever knocks where as many wait as may. */
static void
test_target_look__tells_a_network_that_is_down_from_a_server_that_is_gone(void **state) {
    (void)state;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof at;
    int waiting[4], fd = socket(AF_INET, SOCK_STREAM, 0);
    char target[64], expected[128];
    bly_buf why = BLY_BUF_INIT;
    assert_int_equal(bind(fd, (const struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(fd, 0), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &size), 0);
    for (size_t i = 0; i < 4; i++) {
        waiting[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        connect(waiting[i], (const struct sockaddr *)&at, sizeof at);
    }
    snprintf(target, sizeof target, "grpc://127.0.0.1:%d", ntohs(at.sin_port));
    snprintf(expected, sizeof expected, "127.0.0.1:%d is not reached (Connection timed out)",
             ntohs(at.sin_port));
    assert_int_equal(bly_target_look(target, &why), BLY_TARGET_SILENT);
    assert_string_equal(bly_buf_text(&why), expected);
    bly_buf_free(&why);
    for (size_t i = 0; i < 4; i++)
        close(waiting[i]);
    close(fd);
}

/* BUG-16, TO-07: what belay cannot see is not gone, and no run of TensorFlow's ends for it. */
static void test_target_look__says_what_it_cannot_see(void **state) {
    static const char *const strange[] = {"grpc://ipv4:127.0.0.1:1", "grpc://dns:///a:1"};
    struct rlimit limit, none;
    bly_buf why = BLY_BUF_INIT;
    (void)state;
    for (size_t i = 0; i < sizeof strange / sizeof strange[0]; i++) {
        bly_buf_clear(&why);
        assert_int_equal(bly_target_look(strange[i], &why), BLY_TARGET_ANSWERS);
        assert_non_null(strstr(bly_buf_text(&why), " answers cannot be seen ("));
    }
    bly_buf_clear(&why);
    assert_int_equal(bly_target_look("grpc://127.0.0.1:1", &why), BLY_TARGET_GONE);
    assert_string_equal(bly_buf_text(&why), "nobody listens at 127.0.0.1:1 (Connection refused)");
    getrlimit(RLIMIT_NOFILE, &limit);
    none = limit;
    none.rlim_cur = 0;
    bly_buf_clear(&why);
    setrlimit(RLIMIT_NOFILE, &none);
    int found = bly_target_look("grpc://127.0.0.1:1", &why);
    setrlimit(RLIMIT_NOFILE, &limit);
    assert_int_equal(found, BLY_TARGET_ANSWERS);
    assert_string_equal(bly_buf_text(&why),
                        "whether 127.0.0.1:1 answers cannot be seen (Too many open files)");
    bly_buf_free(&why);
}

/* ---- memory ---- */

static void test_cluster__survives_every_failing_allocation(void **state) {
    (void)state;
    static const char text[] = "ps=a:1,b:2,c:3;worker=d:1";
    size_t size;
    FAILING_ALLOC(n) {
        belay_error_clear(err);
        belay_cluster_spec *spec = belay_cluster_spec_parse(text, err);
        belay_cluster_spec *copy = spec ? belay_cluster_spec_copy(spec, err) : NULL;
        const char *printed = copy ? belay_cluster_spec_text(copy, err) : NULL;
        const void *def = printed ? belay_cluster_spec_def(copy, &size, err) : NULL;
        belay_cluster_spec *back = def ? belay_cluster_spec_from_def(def, size, err) : NULL;
        if (failing_alloc_hit())
            assert_int_equal(belay_error_code(err), BELAY_RESOURCE_EXHAUSTED);
        else
            assert_true(belay_cluster_spec_equal(spec, back));
        belay_cluster_spec_free(spec);
        belay_cluster_spec_free(copy);
        belay_cluster_spec_free(back);
    }
}

static void test_server_plan__survives_every_failing_allocation(void **state) {
    (void)state;
    static const char text[] =
        "{\"cluster\": {\"ps\": [\"a:1\", \"b:1\"], \"worker\": {\"1\": \"c:1\"}},"
        " \"task\": {\"type\": \"worker\", \"index\": 1}, \"rpc_layer\": \"grpc\"}";
    FAILING_ALLOC(n) {
        belay_server_options options = BELAY_SERVER_OPTIONS_INIT;
        bly_server_plan plan = {0}, again = {0};
        belay_error_clear(err);
        belay_tf_config *config = belay_tf_config_load(text, err);
        const char *master =
            config ? belay_tf_config_master(config, NULL, BELAY_NO_TASK, NULL, err) : NULL;
        options.cluster = belay_tf_config_cluster(config);
        options.job_name = "worker";
        belay_code code = belay_error_code(err);
        if (code == BELAY_OK)
            code = bly_server_plan_make(&plan, &options, err);
        if (code == BELAY_OK) {
            options = (belay_server_options)BELAY_SERVER_OPTIONS_INIT;
            options.server_def = plan.def.data;
            options.server_def_size = plan.def.len;
            code = bly_server_plan_make(&again, &options, err);
        }
        if (failing_alloc_hit()) {
            assert_int_equal(belay_error_code(err), BELAY_RESOURCE_EXHAUSTED);
        } else {
            assert_int_equal(code, BELAY_OK);
            assert_string_equal(master, "grpc://c:1");
            assert_int_equal(again.def.len, plan.def.len);
            assert_memory_equal(again.def.data, plan.def.data, plan.def.len);
        }
        bly_server_plan_clean_up(&plan);
        bly_server_plan_clean_up(&again);
        belay_tf_config_free(config);
    }
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_cluster_parse__reads_lists_and_sparse_maps),
        TEST(test_cluster_parse__names_what_is_wrong),
        TEST(test_cluster_queries__say_what_there_is),
        TEST(test_cluster_job_tasks__leaves_gaps_empty),
        TEST(test_cluster_equal__compares_content),
        TEST(test_cluster_def__lists_jobs_and_tasks_in_order),
        TEST(test_cluster_from_def__refuses_other_bytes),
        TEST(test_cluster_add__changes_nothing_where_it_fails),
        TEST(test_cluster__takes_null_everywhere),
        TEST(test_tf_config__reads_every_member_and_passes_over_others),
        TEST(test_tf_config__comes_from_the_environment),
        TEST(test_tf_config__says_in_one_line_what_is_malformed),
        TEST(test_tf_config_master__follows_session_master_cluster_and_task),
        TEST(test_cluster_is_chief__is_worker_0_where_there_is_no_chief),
        TEST(test_server_def__holds_cluster_task_config_and_protocol),
        TEST(test_server__infers_job_and_task_where_there_is_one),
        TEST(test_server__refuses_what_tensorflow_dies_of),
        TEST(test_server__overrides_a_server_def),
        TEST(test_server__is_local_by_default),
        TEST(test_server_options__refuse_other_sizes),
        TEST(test_server__is_deleted_only_where_it_does_not_serve),
        TEST(test_probe__tells_of_every_task_in_order),
        TEST(test_probe__looks_at_its_arguments),
        TEST(test_contact__is_made_at_once_where_the_target_answers),
        TEST(test_contact__ends_at_its_deadline_with_a_reason),
        TEST(test_contact__has_a_reason_after_a_short_wait_too),
        TEST(test_contact__ends_at_a_stop),
        TEST(test_contact__waits_for_a_target_that_comes_up),
        TEST(test_contact__closes_what_comes_too_late),
        TEST(test_contact__returns_what_tensorflow_says),
        TEST(test_contact__without_memory_fails_and_releases),
        TEST(test_address__is_split_as_tensorflow_does),
        TEST(test_target_look__tells_a_network_that_is_down_from_a_server_that_is_gone),
        TEST(test_target_look__says_what_it_cannot_see),
        TEST(test_cluster__survives_every_failing_allocation),
        TEST(test_server_plan__survives_every_failing_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
