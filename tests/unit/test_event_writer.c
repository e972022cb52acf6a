/* Event files and summary writers: section EV of the behaviour, and the bugs that belay does not
 * repeat. */
#define _GNU_SOURCE
#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "summary/event_file.h"
#include "summary/event_queue.h"
#include "summary/writer.h"
#include "wire/unpack.h"

#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define SECOND INT64_C(1000000)

/* ---- Helpers ---- */

struct fixture {
    char root[64];
    belay_error *err;
};

static int set_up(void **state) {
    static struct fixture f;
    snprintf(f.root, sizeof f.root, "/tmp/belay-events-XXXXXX");
    f.err = belay_error_new();
    *state = &f;
    return mkdtemp(f.root) ? 0 : -1;
}

static int tear_down(void **state) {
    struct fixture *f = *state;
    belay_log_set_callback(NULL, NULL, BELAY_LOG_WARNING);
    belay_error_free(f->err);
    return bly_remove_directory(f->root, NULL) == BELAY_OK ? 0 : -1;
}

#define assert_ok(f, call)                                                                         \
    do {                                                                                           \
        belay_code code_ = (call);                                                                 \
        if (code_ != BELAY_OK)                                                                     \
            fail_msg("%s: %d %s", #call, (int)code_, belay_error_message((f)->err));               \
    } while (0)

/* The events of one file or of all files of a folder, in order. */
struct events {
    Bly__Event *items[20000];
    size_t count;
    size_t files;
};

static void free_events(struct events *events) {
    for (size_t i = 0; i < events->count; i++)
        bly_wire_free(events->items[i]);
    free(events);
}

static void parse_events(struct events *events, const bly_buf *bytes) {
    const unsigned char *at = (const unsigned char *)bytes->data, *payload = NULL;
    size_t len = bytes->len, payload_len = 0;
    belay_code code;
    BLY_LOCAL_ERROR(err);
    while ((code = bly_record_next(&at, &len, &payload, &payload_len, &err)) == BELAY_OK) {
        Bly__Event *event = bly_wire_unpack(&bly__event__descriptor, payload, payload_len, &code);
        assert_non_null(event);
        assert_true(events->count < sizeof events->items / sizeof events->items[0]);
        events->items[events->count++] = event;
    }
    assert_int_equal(code, BELAY_OUT_OF_RANGE);
    assert_int_equal(len, 0); /* whole records only */
}

struct listing {
    struct events *events;
    const char *folder;
};

static belay_code read_one(void *self, const char *name, belay_error *err) {
    struct listing *listing = self;
    bly_buf bytes = BLY_BUF_INIT;
    char *path = bly_path_join(listing->folder, name);
    belay_code code = BELAY_OK;
    if (strstr(name, "tfevents")) {
        code = bly_file_read(path, 1 << 30, &bytes, err);
        if (code == BELAY_OK)
            parse_events(listing->events, &bytes);
        listing->events->files++;
    }
    bly_free(path);
    bly_buf_free(&bytes);
    return code;
}

static struct events *read_events(const char *folder) {
    struct events *events = calloc(1, sizeof *events);
    struct listing listing = {events, folder};
    assert_non_null(events);
    assert_int_equal(bly_directory_list(folder, read_one, &listing, NULL), BELAY_OK);
    return events;
}

static size_t count_events(const char *folder) {
    struct events *events = read_events(folder);
    size_t count = events->count;
    free_events(events);
    return count;
}

static size_t count_files(const char *folder) {
    struct events *events = read_events(folder);
    size_t files = events->files;
    free_events(events);
    return files;
}

static Bly__Summary *summary_of(const Bly__Event *event) {
    belay_code code;
    assert_int_equal(event->what_case, BLY__EVENT__WHAT_SUMMARY);
    Bly__Summary *summary =
        bly_wire_unpack(&bly__summary__descriptor, event->summary.data, event->summary.len, &code);
    assert_non_null(summary);
    return summary;
}

static void assert_scalar(const Bly__Event *event, const char *tag, float value, int64_t step) {
    Bly__Summary *summary = summary_of(event);
    assert_int_equal(summary->n_value, 1);
    assert_string_equal(summary->value[0]->tag, tag);
    assert_true(summary->value[0]->simple_value == value);
    assert_int_equal(event->step, step);
    bly_wire_free(summary);
}

/* One Summary with one value for each tag, with metadata where `metadata` is not NULL. */
static size_t make_summary(unsigned char *out, const char *const *tags, size_t count,
                           const char *metadata) {
    Bly__Summary summary = BLY__SUMMARY__INIT;
    Bly__Summary__Value values[4], *pointers[4];
    for (size_t i = 0; i < count; i++) {
        bly__summary__value__init(&values[i]);
        values[i].tag = (char *)(uintptr_t)tags[i];
        values[i].value_case = BLY__SUMMARY__VALUE__VALUE_SIMPLE_VALUE;
        values[i].simple_value = 1.5f;
        if (metadata)
            values[i].metadata =
                (ProtobufCBinaryData){strlen(metadata), (uint8_t *)(uintptr_t)metadata};
        pointers[i] = &values[i];
    }
    summary.n_value = count;
    summary.value = pointers;
    return bly__summary__pack(&summary, out);
}

static atomic_int warnings;
static char last_warning[512];

static void count_warning(void *self, belay_log_level level, const char *message) {
    (void)self;
    if (level == BELAY_LOG_WARNING) {
        snprintf(last_warning, sizeof last_warning, "%s", message);
        atomic_fetch_add(&warnings, 1);
    }
}

static void watch_warnings(void) {
    atomic_store(&warnings, 0);
    belay_log_set_callback(count_warning, NULL, BELAY_LOG_WARNING);
}

/* Waits, in real time, for what another thread does. */
static void nap(void) {
    nanosleep(&(struct timespec){0, 2000000}, NULL);
}

/* A clock that moves only when a test says so. */
static _Atomic int64_t stepped_us;

static int64_t stepped_now(void *self) {
    (void)self;
    return atomic_load(&stepped_us);
}

static void stepped_wait(void *self, bly_cond *cond, bly_mutex *mutex, int64_t deadline_us) {
    struct timespec t;
    (void)self;
    (void)deadline_us;
    clock_gettime(CLOCK_MONOTONIC, &t);
    bly_cond_wait(cond, mutex, (int64_t)t.tv_sec * SECOND + t.tv_nsec / 1000 + 1000);
}

static void install_stepped_clock(void) {
    static const bly_clock clock = {stepped_now, stepped_wait, NULL};
    atomic_store(&stepped_us, 1000 * SECOND);
    bly_clock_install(&clock);
}

static int stop_clock(void **state) {
    bly_clock_install(NULL);
    return tear_down(state);
}

/* ---- The file ---- */

/* EV-01, BUG-49: TensorFlow's name, with what keeps two writers of one second apart. */
static void test_event_file__is_named_by_second_host_process_and_counter(void **state) {
    struct fixture *f = *state;
    char host[256], pid[32];
    belay_summary_writer_options options = BELAY_SUMMARY_WRITER_OPTIONS_INIT;
    options.filename_suffix = ".eval";
    long before = (long)time(NULL);
    belay_summary_writer *one = belay_summary_writer_open(f->root, &options, f->err);
    belay_summary_writer *two = belay_summary_writer_open(f->root, &options, f->err);
    long after = (long)time(NULL);
    assert_non_null(one);
    assert_non_null(two);
    char *path = bly_writer_path(one), *other = bly_writer_path(two);
    const char *name = bly_path_base(path);
    assert_true(strncmp(name, "events.out.tfevents.", 20) == 0);
    long seconds = strtol(name + 20, NULL, 10);
    assert_true(seconds >= before && seconds <= after);
    assert_int_equal(strspn(name + 20, "0123456789"), 10);
    gethostname(host, sizeof host);
    assert_int_equal(strncmp(name + 31, host, strlen(host)), 0);
    snprintf(pid, sizeof pid, ".%ld.", (long)getpid());
    assert_int_equal(strncmp(name + 31 + strlen(host), pid, strlen(pid)), 0);
    assert_string_equal(name + strlen(name) - 5, ".eval");
    assert_string_not_equal(path, other);
    assert_int_equal(count_files(f->root), 2);
    bly_free(path);
    bly_free(other);
    belay_summary_writer_unref(one);
    belay_summary_writer_unref(two);
}

/* EV-02 */
static void test_summary_writer_open__makes_the_folder_and_its_parents(void **state) {
    struct fixture *f = *state;
    char *folder = bly_path_join(f->root, "a/b");
    belay_summary_writer *writer = belay_summary_writer_open(folder, NULL, f->err);
    assert_non_null(writer);
    assert_string_equal(belay_summary_writer_logdir(writer), folder);
    assert_true(bly_is_directory(folder));
    belay_summary_writer_unref(writer);
    assert_ok(f, bly_remove_directory(folder, f->err));
    bly_free(folder);
}

/* EV-03, against bytes that TensorFlow's TFRecordWriter wrote for "hello". */
static void test_records__are_framed_as_tfrecords(void **state) {
    (void)state;
    static const unsigned char golden[] = "\x05\0\0\0\0\0\0\0\xea\xb2\x04\x3e"
                                          "hello\xbb\x1f\x1c\x19";
    unsigned char record[sizeof golden - 1];
    memcpy(record, golden, sizeof record);
    memset(record + 8, 0, 4);
    memset(record + 17, 0, 4);
    bly_records_seal(record, sizeof record);
    assert_memory_equal(record, golden, sizeof record);
}

/* Any flipped bit is seen, any cut is an end. */
static void test_records__damaged_or_cut_are_not_read(void **state) {
    (void)state;
    static const unsigned char golden[] = "\x05\0\0\0\0\0\0\0\xea\xb2\x04\x3e"
                                          "hello\xbb\x1f\x1c\x19";
    for (size_t i = 0; i < sizeof golden - 1; i++) {
        unsigned char record[sizeof golden - 1];
        memcpy(record, golden, sizeof record);
        record[i] ^= 0x10;
        const unsigned char *at = record, *payload;
        size_t len = sizeof record, payload_len;
        assert_int_equal(bly_record_next(&at, &len, &payload, &payload_len, NULL), BELAY_DATA_LOSS);
        at = golden;
        len = i;
        assert_int_equal(bly_record_next(&at, &len, &payload, &payload_len, NULL),
                         BELAY_OUT_OF_RANGE);
        assert_int_equal(len, i);
    }
}

/* EV-04, EV-24: there for any reader before anything else is done. */
static void test_summary_writer_open__leaves_a_file_with_its_version(void **state) {
    struct fixture *f = *state;
    belay_summary_writer *writer = belay_summary_writer_open(f->root, NULL, f->err);
    assert_non_null(writer);
    struct events *events = read_events(f->root);
    assert_int_equal(events->count, 1);
    assert_int_equal(events->items[0]->what_case, BLY__EVENT__WHAT_FILE_VERSION);
    assert_string_equal(events->items[0]->file_version, "brain.Event:2");
    assert_true(events->items[0]->wall_time == floor(events->items[0]->wall_time));
    assert_true(fabs(events->items[0]->wall_time - (double)time(NULL)) < 60);
    assert_non_null(events->items[0]->source_metadata);
    assert_string_equal(events->items[0]->source_metadata->writer, "belay");
    free_events(events);
    belay_summary_writer_unref(writer);
}

/* EV-05: the bytes that TensorFlow's protobuf gives. */
static void test_event_put_scalar__gives_tensorflows_bytes(void **state) {
    struct fixture *f = *state;
    static const unsigned char golden[] = "\x09\x00\x00\x10\x40\xfc\x54\xd9\x41\x10\xac\x02\x2a"
                                          "\x0d\x0a\x0b\x0a\x04loss\x15\x00\x00\x00\x3f";
    bly_buf out = BLY_BUF_INIT;
    assert_ok(f, bly_event_put_scalar(&out, 1700000000.25, 300, "loss", 4, 0.5f, f->err));
    assert_int_equal(out.len, sizeof golden - 1 + BLY_RECORD_HEAD + BLY_RECORD_TAIL);
    assert_memory_equal(out.data + BLY_RECORD_HEAD, golden, sizeof golden - 1);
    bly_buf_free(&out);
}

static void test_event_put_scalar__equals_the_general_way(void **state) {
    struct fixture *f = *state;
    static const int64_t steps[] = {0, 1, 127, 128, 16384, INT64_MAX, -1};
    static const float values[] = {0, -0.0f, 1.5f, NAN, INFINITY};
    char tag[300];
    for (size_t tag_len = 0; tag_len < sizeof tag; tag_len += 13)
        for (size_t s = 0; s < sizeof steps / sizeof steps[0]; s++)
            for (size_t v = 0; v < sizeof values / sizeof values[0]; v++) {
                bly_buf fast = BLY_BUF_INIT, general = BLY_BUF_INIT;
                Bly__Summary__Value value = BLY__SUMMARY__VALUE__INIT, *pointer = &value;
                Bly__Summary summary = BLY__SUMMARY__INIT;
                Bly__Event event = BLY__EVENT__INIT;
                unsigned char packed[400];
                memset(tag, 'x', tag_len);
                tag[tag_len] = '\0';
                value.tag = tag;
                value.value_case = BLY__SUMMARY__VALUE__VALUE_SIMPLE_VALUE;
                value.simple_value = values[v];
                summary.n_value = 1;
                summary.value = &pointer;
                event.wall_time = 12.5;
                event.step = steps[s];
                event.what_case = BLY__EVENT__WHAT_SUMMARY;
                event.summary.len = bly__summary__pack(&summary, packed);
                event.summary.data = packed;
                assert_ok(f, bly_event_put(&general, &event, f->err));
                assert_ok(f, bly_event_put_scalar(&fast, 12.5, steps[s], tag, tag_len, values[v],
                                                  f->err));
                bly_records_seal(general.data, general.len);
                bly_records_seal(fast.data, fast.len);
                assert_int_equal(fast.len, general.len);
                assert_memory_equal(fast.data, general.data, fast.len);
                bly_buf_free(&fast);
                bly_buf_free(&general);
            }
}

/* EV-05, EV-06, EV-10, EV-15: what was added is there after a flush, in order. */
static void test_summary_writer__writes_every_kind_of_event(void **state) {
    struct fixture *f = *state;
    belay_summary_writer_options options = BELAY_SUMMARY_WRITER_OPTIONS_INIT;
    options.graph_def = "graph";
    options.graph_def_size = 5;
    options.meta_graph_def = "meta";
    options.meta_graph_def_size = 4;
    belay_summary_writer *w = belay_summary_writer_open(f->root, &options, f->err);
    assert_non_null(w);
    assert_ok(f, belay_summary_writer_add_scalar(w, "loss", 0.25, 7, f->err));
    assert_ok(f,
              belay_summary_writer_add_session_log(w, BELAY_SESSION_START, NULL, NULL, 3, f->err));
    assert_ok(f, belay_summary_writer_add_session_log(w, BELAY_SESSION_CHECKPOINT, "run/model",
                                                      "saved", 4, f->err));
    assert_ok(f, belay_summary_writer_add_run_metadata(w, "step_5", "stats", 5, 5, f->err));
    assert_ok(f, belay_summary_writer_flush(w, 0, f->err));
    struct events *events = read_events(f->root);
    assert_int_equal(events->count, 7);
    Bly__Event **e = events->items;
    assert_int_equal(e[1]->what_case, BLY__EVENT__WHAT_GRAPH_DEF);
    assert_memory_equal(e[1]->graph_def.data, "graph", 5);
    assert_int_equal(e[2]->what_case, BLY__EVENT__WHAT_META_GRAPH_DEF);
    assert_memory_equal(e[2]->meta_graph_def.data, "meta", 4);
    assert_scalar(e[3], "loss", 0.25f, 7);
    assert_int_equal(e[4]->session_log->status, 1);
    assert_string_equal(e[4]->session_log->checkpoint_path, "");
    assert_int_equal(e[4]->step, 3);
    assert_int_equal(e[5]->session_log->status, 3);
    assert_string_equal(e[5]->session_log->checkpoint_path, "run/model");
    assert_string_equal(e[5]->session_log->msg, "saved");
    assert_string_equal(e[6]->tagged_run_metadata->tag, "step_5");
    assert_memory_equal(e[6]->tagged_run_metadata->run_metadata.data, "stats", 5);
    free_events(events);
    belay_summary_writer_unref(w);
}

/* EV-07 */
static void test_summary_writer__stamps_events_with_the_time_and_the_given_step(void **state) {
    struct fixture *f = *state;
    belay_summary_writer *w = belay_summary_writer_open(f->root, NULL, f->err);
    double before = bly_unix_time();
    assert_ok(f, belay_summary_writer_add_scalar(w, "a", 1, 0, f->err));
    assert_ok(f, belay_summary_writer_add_scalar(w, "a", 1, -5, f->err));
    double after = bly_unix_time();
    assert_ok(f, belay_summary_writer_flush(w, 0, f->err));
    struct events *events = read_events(f->root);
    assert_int_equal(events->count, 3);
    for (size_t i = 1; i < 3; i++)
        assert_true(events->items[i]->wall_time >= before && events->items[i]->wall_time <= after);
    assert_int_equal(events->items[1]->step, 0);
    assert_int_equal(events->items[2]->step, -5);
    free_events(events);
    belay_summary_writer_unref(w);
}

/* EV-08: fields that belay does not know come through. */
static void test_summary_writer_add_summary__passes_the_bytes_on(void **state) {
    struct fixture *f = *state;
    /* value { tag: "h" histo { 1: 1.0 } } */
    static const unsigned char bytes[] = "\x0a\x0e\x0a\x01h\x2a\x09\x09\0\0\0\0\0\0\xf0\x3f";
    belay_summary_writer *w = belay_summary_writer_open(f->root, NULL, f->err);
    assert_ok(f, belay_summary_writer_add_summary(w, bytes, sizeof bytes - 1, 9, f->err));
    assert_ok(f, belay_summary_writer_flush(w, 0, f->err));
    struct events *events = read_events(f->root);
    assert_int_equal(events->count, 2);
    assert_int_equal(events->items[1]->step, 9);
    assert_int_equal(events->items[1]->summary.len, sizeof bytes - 1);
    assert_memory_equal(events->items[1]->summary.data, bytes, sizeof bytes - 1);
    free_events(events);
    assert_int_equal(belay_summary_writer_add_summary(w, "\xff\xff\xff", 3, 9, f->err),
                     BELAY_INVALID_ARGUMENT);
    assert_int_equal(belay_summary_writer_add_summary(w, bytes, sizeof bytes - 5, 9, f->err),
                     BELAY_INVALID_ARGUMENT);
    belay_summary_writer_unref(w);
}

/* EV-09 */
static void test_summary_writer_add_summary__keeps_metadata_once_a_tag(void **state) {
    struct fixture *f = *state;
    unsigned char bytes[200];
    belay_summary_writer *w = belay_summary_writer_open(f->root, NULL, f->err);
    size_t size = make_summary(bytes, (const char *const[]){"a", "a"}, 2, "M");
    assert_ok(f, belay_summary_writer_add_summary(w, bytes, size, 1, f->err));
    size = make_summary(bytes, (const char *const[]){"b", "a"}, 2, "M");
    assert_ok(f, belay_summary_writer_add_summary(w, bytes, size, 2, f->err));
    assert_ok(f, belay_summary_writer_flush(w, 0, f->err));
    struct events *events = read_events(f->root);
    assert_int_equal(events->count, 3);
    Bly__Summary *first = summary_of(events->items[1]), *second = summary_of(events->items[2]);
    assert_int_equal(first->value[0]->metadata.len, 1);
    assert_int_equal(first->value[1]->metadata.len, 0);
    assert_int_equal(second->value[0]->metadata.len, 1);
    assert_int_equal(second->value[1]->metadata.len, 0);
    assert_string_equal(second->value[1]->tag, "a");
    assert_true(second->value[1]->simple_value == 1.5f);
    bly_wire_free(first);
    bly_wire_free(second);
    free_events(events);
    belay_summary_writer_unref(w);
}

/* EV-11 */
static void test_summary_writer_add_run_metadata__refuses_a_tag_twice(void **state) {
    struct fixture *f = *state;
    belay_summary_writer *w = belay_summary_writer_open(f->root, NULL, f->err);
    assert_ok(f, belay_summary_writer_add_run_metadata(w, "step_1", "x", 1, 1, f->err));
    assert_int_equal(belay_summary_writer_add_run_metadata(w, "step_1", "x", 1, 1, f->err),
                     BELAY_ALREADY_EXISTS);
    assert_non_null(strstr(belay_error_message(f->err), "step_1"));
    assert_ok(f, belay_summary_writer_add_run_metadata(w, "step_2", "x", 1, 1, f->err));
    belay_summary_writer_unref(w);
    assert_int_equal(count_events(f->root), 3);
}

/* A reader refuses a string that is not UTF-8, and everything after it. */
static void test_summary_writer__lets_no_string_through_that_is_not_utf8(void **state) {
    struct fixture *f = *state;
    belay_summary_writer *w = belay_summary_writer_open(f->root, NULL, f->err);
    assert_int_equal(belay_summary_writer_add_scalar(w, "\xff", 1, 1, f->err),
                     BELAY_INVALID_ARGUMENT);
    assert_int_equal(belay_summary_writer_add_scalar(w, NULL, 1, 1, f->err),
                     BELAY_INVALID_ARGUMENT);
    assert_int_equal(belay_summary_writer_add_run_metadata(w, "\xc0\x80", "", 0, 1, f->err),
                     BELAY_INVALID_ARGUMENT);
    /* The path of a checkpoint is what it is; a session log without it would help nobody. */
    assert_ok(f, belay_summary_writer_add_session_log(w, BELAY_SESSION_CHECKPOINT,
                                                      "r\xfcn/\xc3\xbc", NULL, 1, f->err));
    assert_ok(f, belay_summary_writer_flush(w, 0, f->err));
    struct events *events = read_events(f->root);
    assert_int_equal(events->count, 2);
    assert_string_equal(events->items[1]->session_log->checkpoint_path, "r?n/\xc3\xbc");
    free_events(events);
    belay_summary_writer_unref(w);
}

static void test_summary_writer_open__refuses_bad_options_and_folders(void **state) {
    struct fixture *f = *state;
    belay_summary_writer_options options = BELAY_SUMMARY_WRITER_OPTIONS_INIT;
    options.flush_secs = -1;
    assert_null(belay_summary_writer_open(f->root, &options, f->err));
    assert_int_equal(belay_error_code(f->err), BELAY_INVALID_ARGUMENT);
    options.flush_secs = 0;
    options.filename_suffix = "a/b";
    assert_null(belay_summary_writer_open(f->root, &options, f->err));
    assert_int_equal(belay_error_code(f->err), BELAY_INVALID_ARGUMENT);
    assert_null(belay_summary_writer_open(NULL, NULL, f->err));
    assert_null(belay_summary_writer_open("/proc/nothing/here", NULL, f->err));
    assert_int_not_equal(belay_error_code(f->err), BELAY_OK);
    assert_null(belay_summary_writer_shared("/dev/null", f->err));
    assert_null(belay_summary_writer_shared("/dev/null", NULL));
    assert_int_equal(count_files(f->root), 0);
    /* Nothing happens through a writer that could not be made, and the first error stays. */
    belay_code code = belay_error_code(f->err);
    assert_int_equal(belay_summary_writer_add_scalar(NULL, "a", 1, 1, f->err), code);
    assert_int_equal(belay_summary_writer_close(NULL, 0, f->err), code);
    assert_int_equal(belay_summary_writer_flush(NULL, 0, NULL), BELAY_INVALID_ARGUMENT);
    belay_summary_writer_unref(NULL);
}

/* ---- Time ---- */

/* EV-14, TO-08: and, better than there, without waiting for a further event. */
static void test_summary_writer__writes_first_event_at_once_and_later_ones_in_time(void **state) {
    struct fixture *f = *state;
    install_stepped_clock();
    belay_summary_writer *w = belay_summary_writer_open(f->root, NULL, f->err);
    assert_non_null(w);
    assert_ok(f, belay_summary_writer_add_scalar(w, "a", 1, 1, f->err));
    while (count_events(f->root) < 2)
        nap();
    assert_ok(f, belay_summary_writer_add_scalar(w, "a", 2, 2, f->err));
    atomic_fetch_add(&stepped_us, 119 * SECOND);
    for (int i = 0; i < 20; i++)
        nap();
    assert_int_equal(count_events(f->root), 2);
    atomic_fetch_add(&stepped_us, 2 * SECOND);
    while (count_events(f->root) < 3)
        nap();
    belay_summary_writer_unref(w);
}

/* ---- The end ---- */

/* EV-15, EV-16, EV-17 */
static void test_summary_writer__closed_ignores_events_until_reopened(void **state) {
    struct fixture *f = *state;
    watch_warnings();
    belay_summary_writer *w = belay_summary_writer_open(f->root, NULL, f->err);
    assert_ok(f, belay_summary_writer_reopen(w, f->err)); /* open: nothing happens */
    assert_int_equal(count_files(f->root), 1);
    assert_ok(f, belay_summary_writer_add_scalar(w, "a", 1, 1, f->err));
    assert_ok(f, belay_summary_writer_add_run_metadata(w, "tag", "", 0, 1, f->err));
    assert_ok(f, belay_summary_writer_close(w, 0, f->err));
    assert_int_equal(count_events(f->root), 3);

    assert_ok(f, belay_summary_writer_close(w, 0, f->err));
    assert_ok(f, belay_summary_writer_flush(w, 0, f->err));
    assert_ok(f, belay_summary_writer_add_scalar(w, "a", 2, 2, f->err));
    assert_ok(f, belay_summary_writer_add_graph(w, "g", 1, 2, f->err));
    assert_int_equal(atomic_load(&warnings), 1); /* said once */
    assert_int_equal(count_events(f->root), 3);

    assert_ok(f, belay_summary_writer_reopen(w, f->err));
    assert_int_equal(belay_summary_writer_add_run_metadata(w, "tag", "", 0, 1, f->err),
                     BELAY_ALREADY_EXISTS);
    assert_ok(f, belay_summary_writer_add_scalar(w, "a", 3, 3, f->err));
    assert_ok(f, belay_summary_writer_close(w, 0, f->err));
    assert_int_equal(count_files(f->root), 2);
    assert_int_equal(count_events(f->root), 5);
    belay_summary_writer_unref(w);
}

/* EV-18: every later call says it, until the writer is reopened; what is lost then comes again. */
static void test_summary_writer__failed_write_is_returned_by_every_later_call(void **state) {
    struct fixture *f = *state;
    struct rlimit before, small = {400, RLIM_INFINITY};
    unsigned char bytes[200];
    size_t size = make_summary(bytes, (const char *const[]){"a"}, 1, "M");
    belay_summary_writer *w = belay_summary_writer_open(f->root, NULL, f->err);
    getrlimit(RLIMIT_FSIZE, &before);
    small.rlim_max = before.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &small);
    assert_ok(f, belay_summary_writer_add_summary(w, bytes, size, 1, f->err));
    char tag[500] = {0};
    memset(tag, 'x', sizeof tag - 1);
    assert_ok(f, belay_summary_writer_add_scalar(w, tag, 1, 1, f->err));
    belay_code code = belay_summary_writer_flush(w, 0, f->err);
    setrlimit(RLIMIT_FSIZE, &before);
    assert_int_not_equal(code, BELAY_OK);
    assert_non_null(strstr(belay_error_message(f->err), "cannot write"));
    assert_non_null(strstr(belay_error_message(f->err), f->root));
    assert_int_equal(belay_summary_writer_add_scalar(w, "a", 1, 1, f->err), code);
    assert_int_equal(belay_summary_writer_flush(w, 0, f->err), code);
    assert_int_equal(belay_summary_writer_close(w, 0, f->err), code);
    assert_ok(f, belay_summary_writer_close(w, 0, f->err));

    assert_ok(f, belay_summary_writer_reopen(w, f->err));
    assert_ok(f, belay_summary_writer_add_summary(w, bytes, size, 2, f->err));
    char *path = bly_writer_path(w);
    assert_ok(f, belay_summary_writer_close(w, 0, f->err));
    bly_buf content = BLY_BUF_INIT;
    struct events *events = calloc(1, sizeof *events);
    assert_ok(f, bly_file_read(path, 1 << 20, &content, f->err));
    parse_events(events, &content);
    Bly__Summary *summary = summary_of(events->items[1]);
    assert_int_equal(summary->value[0]->metadata.len, 1);
    bly_wire_free(summary);
    free_events(events);
    bly_buf_free(&content);
    bly_free(path);
    belay_summary_writer_unref(w);
}

/* EV-15, EV-09: what is flushed is in a file, though somebody removed the one that was open. */
static void test_writer__goes_on_in_a_new_file_where_its_folder_was_removed(void **state) {
    struct fixture *f = *state;
    char *folder = bly_path_join(f->root, "run");
    watch_warnings();
    belay_summary_writer *w = belay_summary_writer_shared(folder, f->err);
    assert_non_null(w);
    assert_ok(f, belay_summary_writer_add_scalar(w, "a", 1, 1, f->err));
    assert_ok(f, belay_summary_writer_flush(w, 0, f->err));
    assert_ok(f, bly_remove_directory(folder, f->err));
    for (int i = 2; i < 4; i++) {
        assert_ok(f, belay_summary_writer_add_scalar(w, "a", 1, i, f->err));
        assert_ok(f, belay_summary_writer_flush(w, 0, f->err));
    }
    assert_int_equal(atomic_load(&warnings), 1);
    assert_non_null(strstr(last_warning, "was removed"));
    /* BUG-50: it is the writer of the folder that is there now, too. */
    belay_summary_writer *same = belay_summary_writer_shared(folder, f->err);
    assert_ptr_equal(same, w);
    belay_summary_writer_unref(same);
    belay_summary_writer_unref(w);
    struct events *events = read_events(folder);
    assert_int_equal(events->files, 1);
    assert_int_equal(events->count, 3); /* the version comes first */
    assert_int_equal(events->items[1]->step, 2);
    assert_int_equal(events->items[2]->step, 3);
    free_events(events);
    bly_free(folder);
}

/* EV-18: and where no new one can be made that is an error, at the flush too. */
static void test_writer__fails_where_no_new_file_can_be_made(void **state) {
    struct fixture *f = *state;
    char *folder = bly_path_join(f->root, "run");
    belay_summary_writer *w = belay_summary_writer_open(folder, NULL, f->err);
    assert_non_null(w);
    assert_ok(f, belay_summary_writer_flush(w, 0, f->err));
    assert_ok(f, bly_remove_directory(folder, f->err));
    assert_ok(f, bly_file_write_atomic(folder, "a file", 6, f->err));
    assert_ok(f, belay_summary_writer_add_scalar(w, "a", 1, 1, f->err));
    assert_int_not_equal(belay_summary_writer_flush(w, 0, f->err), BELAY_OK);
    assert_non_null(strstr(belay_error_message(f->err), "was removed: "));
    belay_summary_writer_close(w, 0, NULL);
    belay_summary_writer_unref(w);
    bly_free(folder);
}

/* EV-18 on a full disk: a code that the command answers with "worth a retry". */
static void test_event_queue__full_disk_is_resource_exhausted(void **state) {
    struct fixture *f = *state;
    bly_buf record = BLY_BUF_INIT;
    int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        skip();
    bly_event_queue *queue =
        bly_event_queue_start(fd, "/dev/full", NULL, NULL, 120, 1 << 20, f->err);
    assert_ok(f, bly_event_put_scalar(&record, 1, 1, "a", 1, 1, f->err));
    assert_ok(f, bly_event_queue_add(queue, record.data, record.len, NULL, f->err));
    assert_int_equal(bly_event_queue_flush(queue, BLY_NEVER, f->err), BELAY_RESOURCE_EXHAUSTED);
    assert_int_equal(bly_event_queue_add(queue, record.data, record.len, NULL, f->err),
                     BELAY_RESOURCE_EXHAUSTED);
    assert_int_equal(bly_event_queue_finish(queue, BLY_NEVER, f->err), BELAY_RESOURCE_EXHAUSTED);
    bly_buf_free(&record);
}

/* ---- A disk that does not answer: a pipe that nobody reads ---- */

static bly_event_queue *start_on_pipe(struct fixture *f, uint64_t most_bytes, int *out_reader) {
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    *out_reader = ends[0];
    bly_event_queue *queue =
        bly_event_queue_start(ends[1], "pipe", NULL, NULL, 120, most_bytes, f->err);
    assert_non_null(queue);
    return queue;
}

static void read_to_end(int fd, bly_buf *out) {
    for (;;) {
        char *to = bly_buf_reserve(out, 65536);
        ssize_t got = read(fd, to, 65536);
        assert_true(got >= 0);
        if (got == 0)
            return;
        out->len += (size_t)got;
    }
}

/* EV-13, BUG-28: adding returns at once; past the bound scalars go, what matters stays. */
static void test_event_queue__slow_disk_drops_scalars_and_never_blocks(void **state) {
    struct fixture *f = *state;
    int reader;
    watch_warnings();
    bly_event_queue *queue = start_on_pipe(f, 200000, &reader);
    bly_buf record = BLY_BUF_INIT, all = BLY_BUF_INIT;
    size_t told = 0, kept = 20;
    int64_t start = bly_now_us();
    for (int i = 0; i < 10000; i++) {
        uint64_t full = 0;
        bly_buf_clear(&record);
        assert_ok(f, bly_event_put_scalar(&record, 1, i + 1, "loss", 4, 1, f->err));
        assert_ok(f, bly_event_queue_add(queue, record.data, record.len, &full, f->err));
        told += full > 0;
    }
    for (size_t i = 0; i < kept; i++)
        assert_ok(f, bly_event_queue_add(queue, record.data, record.len, NULL, f->err));
    assert_true(bly_now_us() - start < 5 * SECOND);
    uint64_t dropped = bly_event_queue_dropped(queue);
    assert_int_equal(told, 1);
    assert_true(dropped > 1000 && dropped < 9000);
    assert_int_equal(bly_event_queue_flush(queue, bly_now_us() + 20000, f->err),
                     BELAY_DEADLINE_EXCEEDED);
    assert_non_null(strstr(belay_error_message(f->err), "not written yet"));
    assert_int_equal(bly_event_queue_finish(queue, bly_now_us() + 20000, f->err),
                     BELAY_DEADLINE_EXCEEDED);

    /* The thread goes on by itself as soon as the disk answers. */
    read_to_end(reader, &all);
    struct events *events = calloc(1, sizeof *events);
    parse_events(events, &all);
    assert_int_equal(events->count, 10000 - dropped + kept);
    for (size_t i = 1; i < events->count; i++)
        assert_true(events->items[i]->step >= events->items[i - 1]->step);
    assert_int_equal(atomic_load(&warnings), 1); /* how many were lost */
    assert_non_null(strstr(last_warning, "dropped"));
    free_events(events);
    close(reader);
    bly_buf_free(&record);
    bly_buf_free(&all);
}

struct flusher {
    bly_event_queue *queue;
    belay_code code;
};

static void flush_in_thread(void *self) {
    struct flusher *flusher = self;
    flusher->code = bly_event_queue_flush(flusher->queue, BLY_NEVER, NULL);
    bly_event_queue_unref(flusher->queue);
}

/* EV-18: callers that wait for a flush are released when the write fails; also while another one
 * closes. */
static void test_event_queue__failure_releases_those_who_wait(void **state) {
    struct fixture *f = *state;
    int reader;
    signal(SIGPIPE, SIG_IGN);
    bly_event_queue *queue = start_on_pipe(f, 1 << 30, &reader);
    char tag[1000];
    bly_buf record = BLY_BUF_INIT;
    memset(tag, 'x', sizeof tag);
    assert_ok(f, bly_event_put_scalar(&record, 1, 1, tag, sizeof tag, 1, f->err));
    for (int i = 0; i < 200; i++) /* more than the pipe holds */
        assert_ok(f, bly_event_queue_add(queue, record.data, record.len, NULL, f->err));
    struct flusher flusher = {bly_event_queue_ref(queue), BELAY_OK};
    bly_thread *thread = bly_thread_start("flusher", flush_in_thread, &flusher, f->err);
    assert_non_null(thread);
    for (int i = 0; i < 10; i++)
        nap();
    assert_int_equal(bly_event_queue_finish(queue, bly_now_us(), f->err), BELAY_DEADLINE_EXCEEDED);
    close(reader);
    bly_thread_join(thread);
    assert_int_not_equal(flusher.code, BELAY_OK);
    bly_buf_free(&record);
}

/* ---- One writer for a folder ---- */

/* EV-19, BUG-50 */
static void test_writer_acquire__gives_one_writer_for_a_folder_however_spelled(void **state) {
    struct fixture *f = *state;
    char *folder = bly_path_join(f->root, "run"), *link = bly_path_join(f->root, "link");
    char spelled[128], around[128];
    snprintf(spelled, sizeof spelled, "%s//", folder);
    snprintf(around, sizeof around, "%s/run/../run/.", f->root);
    assert_int_equal(symlink("run", link), 0);
    belay_summary_writer *w = bly_writer_acquire(folder, f->err);
    assert_non_null(w);
    assert_ptr_equal(bly_writer_acquire(spelled, f->err), w);
    assert_ptr_equal(bly_writer_acquire(around, f->err), w);
    assert_ptr_equal(belay_summary_writer_shared(link, f->err), w);
    belay_summary_writer *other = bly_writer_acquire(f->root, f->err);
    assert_ptr_not_equal(other, w);
    assert_int_equal(count_files(folder), 1);

    assert_ok(f, bly_writer_release(other, BLY_NEVER, f->err));
    for (int i = 0; i < 3; i++)
        assert_ok(f, bly_writer_release(w, BLY_NEVER, f->err));
    assert_ok(f, belay_summary_writer_add_scalar(w, "a", 1, 1, f->err)); /* one is left */
    belay_summary_writer_unref(w);
    assert_int_equal(count_events(folder), 2);

    w = bly_writer_acquire(folder, f->err); /* a new one, in a new file */
    assert_int_equal(count_files(folder), 2);
    assert_ok(f, belay_summary_writer_close(w, 0, f->err));
    assert_ptr_equal(bly_writer_acquire(folder, f->err), w); /* was closed by one, goes on */
    assert_int_equal(count_files(folder), 3);
    belay_summary_writer_unref(w);
    belay_summary_writer_unref(w);
    unlink(link);
    bly_free(folder);
    bly_free(link);
}

/* EV-21, BUG-48, BUG-72: nothing stays in memory when one of those who share it is done. */
static void test_writer_release__brings_everything_to_the_file(void **state) {
    struct fixture *f = *state;
    belay_summary_writer *w = bly_writer_acquire(f->root, f->err);
    assert_ptr_equal(belay_summary_writer_ref(w), w);
    assert_ok(f, belay_summary_writer_add_scalar(w, "a", 1, 1, f->err));
    assert_ok(f, bly_writer_release(w, BLY_NEVER, f->err));
    assert_int_equal(count_events(f->root), 2);
    assert_ok(
        f, belay_summary_writer_add_session_log(w, BELAY_SESSION_CHECKPOINT, "m", NULL, 2, f->err));
    assert_ok(f, bly_writer_release(w, BLY_NEVER, f->err));
    assert_int_equal(count_events(f->root), 3);
    assert_ok(f, bly_writer_release(NULL, BLY_NEVER, f->err));
}

/* ---- Many threads, no memory ---- */

#define ADDERS    4
#define ADDITIONS 3000

struct adder {
    belay_summary_writer *writer;
    int number;
    int failed;
};

static void add_many(void *self) {
    struct adder *adder = self;
    char tag[8];
    snprintf(tag, sizeof tag, "t%d", adder->number);
    for (int i = 0; i < ADDITIONS; i++)
        adder->failed |=
            belay_summary_writer_add_scalar(adder->writer, tag, i, i + 1, NULL) != BELAY_OK ||
            (i % 500 == 0 && belay_summary_writer_flush(adder->writer, 0, NULL) != BELAY_OK);
}

static void test_summary_writer__takes_events_from_many_threads(void **state) {
    struct fixture *f = *state;
    struct adder adders[ADDERS];
    bly_thread *threads[ADDERS];
    belay_summary_writer *w = belay_summary_writer_open(f->root, NULL, f->err);
    for (int i = 0; i < ADDERS; i++) {
        adders[i] = (struct adder){w, i, 0};
        threads[i] = bly_thread_start("adder", add_many, &adders[i], f->err);
        assert_non_null(threads[i]);
    }
    for (int i = 0; i < ADDERS; i++)
        bly_thread_join(threads[i]);
    assert_ok(f, belay_summary_writer_close(w, 0, f->err));
    struct events *events = read_events(f->root);
    assert_int_equal(events->count, 1 + ADDERS * ADDITIONS);
    int64_t last[ADDERS] = {0};
    for (size_t i = 1; i < events->count; i++) {
        Bly__Summary *summary = summary_of(events->items[i]);
        int number = summary->value[0]->tag[1] - '0';
        assert_int_equal(events->items[i]->step, ++last[number]); /* each in its order */
        bly_wire_free(summary);
    }
    for (int i = 0; i < ADDERS; i++)
        assert_int_equal(adders[i].failed, 0);
    free_events(events);
    belay_summary_writer_unref(w);
}

static belay_code use_everything(struct fixture *f) {
    unsigned char bytes[200];
    size_t size = make_summary(bytes, (const char *const[]){"a", "b"}, 2, "M");
    belay_summary_writer *w = bly_writer_acquire(f->root, f->err);
    if (!w)
        return belay_error_code(f->err);
    belay_code code = belay_summary_writer_add_graph(w, "graph", 5, 0, f->err);
    for (int i = 0; i < 2 && code == BELAY_OK; i++)
        code = belay_summary_writer_add_summary(w, bytes, size, 1, f->err);
    if (code == BELAY_OK)
        code = belay_summary_writer_add_scalar(w, "loss", 1, 1, f->err);
    if (code == BELAY_OK)
        code = belay_summary_writer_add_session_log(w, BELAY_SESSION_START, "", "", 1, f->err);
    if (code == BELAY_OK)
        code = belay_summary_writer_add_run_metadata(w, "t", "", 0, 1, f->err);
    /* After a failure the same calls go through: what failed was undone. */
    bly_mem_fail_at(0);
    if (code != BELAY_OK) {
        assert_ok(f, belay_summary_writer_add_summary(w, bytes, size, 1, f->err));
        assert_ok(f, belay_summary_writer_add_run_metadata(w, "t", "", 0, 1, f->err));
    }
    assert_ok(f, bly_writer_release(w, BLY_NEVER, f->err));
    return code;
}

/* Fails each allocation in turn: an error that says so, whole files, and nothing leaked. */
static void test_summary_writer__survives_every_failed_allocation(void **state) {
    struct fixture *f = *state;
    size_t n = 0;
    belay_code code;
    do {
        belay_error_clear(f->err);
        bly_mem_fail_at(++n);
        code = use_everything(f);
        bly_mem_fail_at(0);
        assert_true(code == BELAY_OK || code == BELAY_RESOURCE_EXHAUSTED);
        struct events *events = read_events(f->root);
        int with_metadata = 0;
        for (size_t i = 0; i < events->count; i++)
            if (events->items[i]->what_case == BLY__EVENT__WHAT_SUMMARY) {
                Bly__Summary *summary = summary_of(events->items[i]);
                for (size_t v = 0; v < summary->n_value; v++)
                    with_metadata += summary->value[v]->metadata.len > 0;
                bly_wire_free(summary);
            }
        /* Where a writer came to be, each tag has its metadata exactly once. */
        assert_true(with_metadata == 2 || (events->count <= 1 && code != BELAY_OK));
        free_events(events);
        assert_ok(f, bly_remove_directory(f->root, f->err));
    } while (code != BELAY_OK && n < 1000);
    assert_int_equal(code, BELAY_OK);
    assert_true(n > 10);
}

#define test(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        test(test_event_file__is_named_by_second_host_process_and_counter),
        test(test_summary_writer_open__makes_the_folder_and_its_parents),
        test(test_records__are_framed_as_tfrecords),
        test(test_records__damaged_or_cut_are_not_read),
        test(test_summary_writer_open__leaves_a_file_with_its_version),
        test(test_event_put_scalar__gives_tensorflows_bytes),
        test(test_event_put_scalar__equals_the_general_way),
        test(test_summary_writer__writes_every_kind_of_event),
        test(test_summary_writer__stamps_events_with_the_time_and_the_given_step),
        test(test_summary_writer_add_summary__passes_the_bytes_on),
        test(test_summary_writer_add_summary__keeps_metadata_once_a_tag),
        test(test_summary_writer_add_run_metadata__refuses_a_tag_twice),
        test(test_summary_writer__lets_no_string_through_that_is_not_utf8),
        test(test_summary_writer_open__refuses_bad_options_and_folders),
        cmocka_unit_test_setup_teardown(
            test_summary_writer__writes_first_event_at_once_and_later_ones_in_time, set_up,
            stop_clock),
        test(test_summary_writer__closed_ignores_events_until_reopened),
        test(test_summary_writer__failed_write_is_returned_by_every_later_call),
        test(test_writer__goes_on_in_a_new_file_where_its_folder_was_removed),
        test(test_writer__fails_where_no_new_file_can_be_made),
        test(test_event_queue__full_disk_is_resource_exhausted),
        test(test_event_queue__slow_disk_drops_scalars_and_never_blocks),
        test(test_event_queue__failure_releases_those_who_wait),
        test(test_writer_acquire__gives_one_writer_for_a_folder_however_spelled),
        test(test_writer_release__brings_everything_to_the_file),
        test(test_summary_writer__takes_events_from_many_threads),
        test(test_summary_writer__survives_every_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
