/* Reading event files: whole ones, ones that grow, and ones that are not as they should be. */
#include "base/buf.h"
#include "base/crc32c.h"
#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "summary/event_file.h"
#include "wire/summary.pb-c.h"

#include <belay/events.h>

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

struct fixture {
    char root[64];
    char path[80];
    belay_error *err;
};

static int set_up(void **state) {
    static struct fixture f;
    snprintf(f.root, sizeof f.root, "/tmp/belay-reader-XXXXXX");
    f.err = belay_error_new();
    *state = &f;
    if (!mkdtemp(f.root))
        return -1;
    snprintf(f.path, sizeof f.path, "%s/events", f.root);
    return 0;
}

static int tear_down(void **state) {
    struct fixture *f = *state;
    belay_error_free(f->err);
    return bly_remove_directory(f->root, NULL) == BELAY_OK ? 0 : -1;
}

/* ---- Helpers ---- */

static void append(const struct fixture *f, const void *bytes, size_t len) {
    FILE *file = fopen(f->path, "ab");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, len, file), len);
    assert_int_equal(fclose(file), 0);
}

static void put_scalar(bly_buf *out, int64_t step) {
    size_t before = out->len;
    assert_int_equal(bly_event_put_scalar(out, 1, step, "loss", 4, 0.5f, NULL), BELAY_OK);
    bly_records_seal(out->data + before, out->len - before);
}

/* Steps 1 to `count`, a scalar each. */
static void put_scalars(bly_buf *out, int64_t count) {
    for (int64_t step = 1; step <= count; step++)
        put_scalar(out, step);
}

static belay_event_reader *open_reader(struct fixture *f) {
    belay_event_reader *reader = belay_event_reader_open(f->path, f->err);
    if (!reader)
        fail_msg("%s", belay_error_message(f->err));
    return reader;
}

static void assert_step(struct fixture *f, belay_event_reader *reader, int64_t step) {
    const belay_event *event = belay_event_reader_next(reader, f->err);
    assert_non_null(event);
    assert_int_equal(event->step, step);
}

static void assert_end(struct fixture *f, belay_event_reader *reader, uint64_t incomplete) {
    assert_null(belay_event_reader_next(reader, f->err));
    assert_int_equal(belay_error_code(f->err), BELAY_OK);
    assert_int_equal(belay_event_reader_incomplete_bytes(reader), incomplete);
}

/* ---- Files ---- */

/* EV-05, EV-06: whatever the writer adds comes back. */
static void test_event_reader__gives_back_what_the_writer_added(void **state) {
    struct fixture *f = *state;
    struct {
        belay_event_kind kind;
        const char *text;
        const char *data;
    } wanted[] = {
        {BELAY_EVENT_FILE_VERSION, "brain.Event:2", NULL},
        {BELAY_EVENT_SUMMARY, "", NULL},
        {BELAY_EVENT_SESSION_LOG, "note", NULL},
        {BELAY_EVENT_GRAPH_DEF, "", "graph"},
        {BELAY_EVENT_META_GRAPH_DEF, "", "meta"},
        {BELAY_EVENT_RUN_METADATA, "step_7", "run"},
    };
    belay_summary_writer *writer = belay_summary_writer_open(f->root, NULL, f->err);
    assert_non_null(writer);
    belay_summary_writer_add_scalar(writer, "loss", 0.5, 3, f->err);
    belay_summary_writer_add_session_log(writer, BELAY_SESSION_CHECKPOINT, "run/c", "note", 4,
                                         f->err);
    belay_summary_writer_add_graph(writer, "graph", 5, 5, f->err);
    belay_summary_writer_add_meta_graph(writer, "meta", 4, 6, f->err);
    belay_summary_writer_add_run_metadata(writer, "step_7", "run", 3, 7, f->err);
    assert_int_equal(belay_summary_writer_close(writer, 0, f->err), BELAY_OK);
    belay_summary_writer_unref(writer);

    char command[256];
    snprintf(command, sizeof command, "mv %s/*tfevents* %s", f->root, f->path);
    assert_int_equal(system(command), 0);
    belay_event_reader *reader = open_reader(f);
    uint64_t offset = 0;
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        const belay_event *event = belay_event_reader_next(reader, f->err);
        assert_non_null(event);
        assert_int_equal(event->kind, wanted[i].kind);
        assert_string_equal(event->text, wanted[i].text);
        assert_int_equal(event->step, i ? (int64_t)i + 2 : 0);
        assert_true(event->wall_time > 1.7e9);
        assert_int_equal(event->offset, offset);
        if (wanted[i].data) {
            assert_int_equal(event->size, strlen(wanted[i].data));
            assert_memory_equal(event->data, wanted[i].data, event->size);
        }
        assert_string_equal(event->writer, i ? "" : "belay");
        if (event->kind == BELAY_EVENT_SUMMARY) {
            assert_int_equal(event->value_count, 1);
            assert_string_equal(event->values[0].tag, "loss");
            assert_int_equal(event->values[0].kind, BELAY_VALUE_SCALAR);
            assert_true(event->values[0].number == 0.5);
        }
        if (event->kind == BELAY_EVENT_SESSION_LOG) {
            assert_int_equal(event->status, BELAY_SESSION_CHECKPOINT);
            assert_string_equal(event->checkpoint_path, "run/c");
        }
        offset = belay_event_reader_position(reader);
    }
    assert_int_equal(belay_event_reader_count(reader), 6);
    assert_end(f, reader, 0);
    belay_event_reader_free(reader);
}

/* EV-03: a last record that is not all there yet is the end, wherever it stops; once the rest has
 * come, the same reader goes on. */
static void test_event_reader__goes_on_when_the_file_has_grown(void **state) {
    struct fixture *f = *state;
    bly_buf one = BLY_BUF_INIT;
    put_scalar(&one, 1);
    size_t whole = one.len;
    append(f, one.data, whole);
    belay_event_reader *reader = open_reader(f);
    assert_step(f, reader, 1);
    for (size_t cut = 1; cut < whole; cut++) {
        bly_buf_clear(&one);
        put_scalar(&one, (int64_t)cut + 1);
        assert_end(f, reader, 0);
        append(f, one.data, cut);
        assert_end(f, reader, cut);
        assert_int_equal(belay_event_reader_position(reader), cut * whole);
        append(f, one.data + cut, whole - cut);
        assert_step(f, reader, (int64_t)cut + 1);
    }
    assert_end(f, reader, 0);
    assert_int_equal(belay_event_reader_count(reader), whole);
    belay_event_reader_free(reader);
    bly_buf_free(&one);
}

/* More than is read at once, and single events that are larger than that. */
static void test_event_reader__reads_large_files_and_events(void **state) {
    struct fixture *f = *state;
    bly_buf all = BLY_BUF_INIT;
    size_t large = 3 << 20;
    char *bytes = calloc(1, large);
    assert_non_null(bytes);
    put_scalars(&all, 20000);
    size_t before = all.len;
    Bly__Event event = BLY__EVENT__INIT;
    event.what_case = BLY__EVENT__WHAT_GRAPH_DEF;
    event.graph_def = (ProtobufCBinaryData){large, (uint8_t *)bytes};
    event.step = 20001;
    assert_int_equal(bly_event_put(&all, &event, NULL), BELAY_OK);
    bly_records_seal(all.data + before, all.len - before);
    put_scalar(&all, 20002);
    append(f, all.data, all.len);
    belay_event_reader *reader = open_reader(f);
    for (int64_t step = 1; step <= 20002; step++)
        assert_step(f, reader, step);
    assert_end(f, reader, 0);
    assert_int_equal(belay_event_reader_position(reader), all.len);
    belay_event_reader_free(reader);
    bly_buf_free(&all);
    free(bytes);
}

/* EV-03: any byte that differs is found, and told with its place; nothing behind it is handed out,
 * however often one asks. */
static void test_event_reader__says_where_a_file_is_damaged(void **state) {
    struct fixture *f = *state;
    bly_buf all = BLY_BUF_INIT;
    put_scalars(&all, 3);
    size_t whole = all.len / 3;
    for (size_t at = 0; at < whole; at++) {
        remove(f->path);
        all.data[whole + at] ^= 0x10;
        append(f, all.data, all.len);
        all.data[whole + at] ^= 0x10;
        belay_event_reader *reader = open_reader(f);
        assert_step(f, reader, 1);
        for (int again = 0; again < 2; again++) {
            char words[64];
            assert_null(belay_event_reader_next(reader, f->err));
            assert_int_equal(belay_error_code(f->err), BELAY_DATA_LOSS);
            snprintf(words, sizeof words, "at byte %zu, after 1 events", whole);
            assert_non_null(strstr(belay_error_message(f->err), words));
        }
        assert_int_equal(belay_event_reader_position(reader), whole);
        assert_int_equal(belay_event_reader_count(reader), 1);
        belay_event_reader_free(reader);
    }
    bly_buf_free(&all);
}

/* A frame whose checksums are right may still hold something else, or say that it is huge. */
static void test_event_reader__does_not_trust_what_a_record_says(void **state) {
    struct fixture *f = *state;
    static const char *const payloads[] = {
        "\xff\xff\xff\xff\xff",     /* no message */
        "\x2a\x03\xff\xff\xff",     /* a summary that is none */
        "\x2a\x04\x0a\x02\x0a\x09", /* a value whose tag is longer than it */
    };
    for (size_t i = 0; i < sizeof payloads / sizeof payloads[0]; i++) {
        size_t len = strlen(payloads[i]);
        unsigned char record[64] = {(unsigned char)len};
        memcpy(record + BLY_RECORD_HEAD, payloads[i], len);
        bly_records_seal(record, BLY_RECORD_HEAD + len + BLY_RECORD_TAIL);
        remove(f->path);
        append(f, record, BLY_RECORD_HEAD + len + BLY_RECORD_TAIL);
        belay_event_reader *reader = open_reader(f);
        assert_null(belay_event_reader_next(reader, f->err));
        assert_int_equal(belay_error_code(f->err), BELAY_DATA_LOSS);
        belay_event_reader_free(reader);
    }
    /* 2^56 bytes, with the right checksum of the length. */
    unsigned char head[12] = {0, 0, 0, 0, 0, 0, 0, 1};
    uint32_t crc = bly_crc32c_mask(bly_crc32c(0, head, 8));
    for (int i = 0; i < 4; i++)
        head[8 + i] = (unsigned char)(crc >> (8 * i));
    const unsigned char *data = head, *payload;
    size_t len = sizeof head, payload_len;
    assert_int_equal(bly_record_next(&data, &len, &payload, &payload_len, f->err), BELAY_DATA_LOSS);
    assert_non_null(strstr(belay_error_message(f->err), "larger than any event"));
}

static void test_event_reader_open__refuses_what_is_no_file(void **state) {
    struct fixture *f = *state;
    assert_null(belay_event_reader_open(NULL, f->err));
    assert_int_equal(belay_error_code(f->err), BELAY_INVALID_ARGUMENT);
    assert_null(belay_event_reader_open(f->path, f->err));
    assert_int_equal(belay_error_code(f->err), BELAY_NOT_FOUND);
    assert_null(belay_event_reader_open(f->root, f->err));
    assert_int_equal(belay_error_code(f->err), BELAY_INVALID_ARGUMENT);
    assert_int_equal(mkfifo(f->path, 0600), 0);
    assert_null(belay_event_reader_open(f->path, f->err));
    assert_int_equal(belay_error_code(f->err), BELAY_INVALID_ARGUMENT);
    assert_null(belay_event_reader_next(NULL, f->err));
    assert_int_equal(belay_error_code(f->err), BELAY_INVALID_ARGUMENT);
    assert_int_equal(belay_event_reader_count(NULL), 0);
    assert_int_equal(belay_event_reader_position(NULL), 0);
    assert_int_equal(belay_event_reader_incomplete_bytes(NULL), 0);
    belay_event_reader_free(NULL);
}

/* ---- Values ---- */

/* Adds a Summary with one tensor under a tag for a plugin ("": no metadata). */
static void append_tensor(const struct fixture *f, const char *tag, const char *plugin,
                          Bly__SummaryTensor *tensor) {
    Bly__SummaryValues summary = BLY__SUMMARY_VALUES__INIT;
    Bly__SummaryValues__Value value = BLY__SUMMARY_VALUES__VALUE__INIT, *values = &value;
    Bly__SummaryMetadata metadata = BLY__SUMMARY_METADATA__INIT;
    Bly__SummaryMetadata__PluginData data = BLY__SUMMARY_METADATA__PLUGIN_DATA__INIT;
    Bly__Event event = BLY__EVENT__INIT;
    bly_buf record = BLY_BUF_INIT;
    uint8_t packed[512];
    value.tag = (char *)(uintptr_t)tag;
    value.value_case = BLY__SUMMARY_VALUES__VALUE__VALUE_TENSOR;
    value.tensor = tensor;
    data.plugin_name = (char *)(uintptr_t)plugin;
    metadata.plugin_data = &data;
    value.metadata = plugin[0] ? &metadata : NULL;
    summary.n_value = 1;
    summary.value = &values;
    assert_true(bly__summary_values__get_packed_size(&summary) <= sizeof packed);
    event.what_case = BLY__EVENT__WHAT_SUMMARY;
    event.summary = (ProtobufCBinaryData){bly__summary_values__pack(&summary, packed), packed};
    assert_int_equal(bly_event_put(&record, &event, NULL), BELAY_OK);
    bly_records_seal(record.data, record.len);
    append(f, record.data, record.len);
    bly_buf_free(&record);
}

static belay_summary_value next_value(struct fixture *f, belay_event_reader *reader) {
    const belay_event *event = belay_event_reader_next(reader, f->err);
    assert_non_null(event);
    assert_int_equal(event->value_count, 1);
    return event->values[0];
}

/* EV-09: metadata comes with the first value of a tag; later ones are of the same plugin. A second
 * metadata changes nothing. */
static void test_event_reader__remembers_the_plugin_of_a_tag(void **state) {
    struct fixture *f = *state;
    Bly__SummaryTensor tensor = BLY__SUMMARY_TENSOR__INIT;
    ProtobufCBinaryData text = {5, (uint8_t *)(uintptr_t) "hello"};
    tensor.dtype = BELAY_STRING;
    tensor.n_string_val = 1;
    tensor.string_val = &text;
    append_tensor(f, "b", "text", &tensor);
    append_tensor(f, "a", "", &tensor);
    append_tensor(f, "b", "", &tensor);
    append_tensor(f, "b", "other", &tensor);
    static const belay_value_kind kinds[] = {BELAY_VALUE_TEXT, BELAY_VALUE_TENSOR, BELAY_VALUE_TEXT,
                                             BELAY_VALUE_TEXT};
    belay_event_reader *reader = open_reader(f);
    for (size_t i = 0; i < 4; i++) {
        belay_summary_value value = next_value(f, reader);
        assert_int_equal(value.kind, kinds[i]);
        assert_string_equal(value.plugin, i == 1 ? "" : "text");
        if (value.kind == BELAY_VALUE_TEXT)
            assert_memory_equal(value.data, "hello", value.size);
    }
    belay_event_reader_free(reader);
}

/* A tensor of one number is a scalar, however its number is stored. */
static void test_event_reader__takes_the_number_out_of_a_tensor(void **state) {
    struct fixture *f = *state;
    float number = 2.5f;
    double wide = 2.5;
    int64_t large = 7;
    Bly__SummaryTensor packed = BLY__SUMMARY_TENSOR__INIT, listed = BLY__SUMMARY_TENSOR__INIT,
                       empty = BLY__SUMMARY_TENSOR__INIT, doubles = BLY__SUMMARY_TENSOR__INIT,
                       integers = BLY__SUMMARY_TENSOR__INIT, shorter = BLY__SUMMARY_TENSOR__INIT;
    packed.dtype = listed.dtype = empty.dtype = shorter.dtype = BELAY_FLOAT;
    packed.tensor_content = (ProtobufCBinaryData){sizeof number, (uint8_t *)&number};
    shorter.tensor_content = (ProtobufCBinaryData){2, (uint8_t *)&number};
    listed.n_float_val = 1;
    listed.float_val = &number;
    doubles.dtype = BELAY_DOUBLE;
    doubles.n_double_val = 1;
    doubles.double_val = &wide;
    integers.dtype = BELAY_INT64;
    integers.n_int64_val = 1;
    integers.int64_val = &large;
    Bly__SummaryTensor *all[] = {&packed, &listed, &empty, &doubles, &integers, &shorter};
    static const double wanted[] = {2.5, 2.5, 0, 2.5, 7};
    for (size_t i = 0; i < 6; i++)
        append_tensor(f, "x", "scalars", all[i]);
    belay_event_reader *reader = open_reader(f);
    for (size_t i = 0; i < 5; i++) {
        belay_summary_value value = next_value(f, reader);
        assert_int_equal(value.kind, BELAY_VALUE_SCALAR);
        assert_true(value.number == wanted[i]);
        assert_int_equal(value.dtype, all[i]->dtype);
    }
    assert_true(isnan(next_value(f, reader).number)); /* two bytes are no float */
    belay_event_reader_free(reader);
}

static void test_event_reader__survives_every_failed_allocation(void **state) {
    struct fixture *f = *state;
    bly_buf all = BLY_BUF_INIT;
    Bly__SummaryTensor tensor = BLY__SUMMARY_TENSOR__INIT;
    put_scalars(&all, 2);
    append(f, all.data, all.len);
    append_tensor(f, "x", "scalars", &tensor);
    bly_buf_free(&all);
    for (size_t n = 1;; n++) {
        bly_mem_fail_at(n);
        belay_event_reader *reader = belay_event_reader_open(f->path, f->err);
        while (reader && belay_event_reader_next(reader, f->err))
            ;
        bly_mem_fail_at(0);
        belay_code code = belay_error_code(f->err);
        uint64_t count = belay_event_reader_count(reader);
        if (reader && code == BELAY_RESOURCE_EXHAUSTED) {
            /* Nothing was skipped: what memory was out for comes with the next call. */
            while (belay_event_reader_next(reader, f->err))
                ;
            assert_int_equal(belay_error_code(f->err), BELAY_OK);
            assert_int_equal(belay_event_reader_count(reader), 3);
        }
        belay_event_reader_free(reader);
        if (code == BELAY_OK) {
            assert_int_equal(count, 3);
            assert_true(n > 5);
            return;
        }
        assert_int_equal(code, BELAY_RESOURCE_EXHAUSTED);
    }
}

#define test(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        test(test_event_reader__gives_back_what_the_writer_added),
        test(test_event_reader__goes_on_when_the_file_has_grown),
        test(test_event_reader__reads_large_files_and_events),
        test(test_event_reader__says_where_a_file_is_damaged),
        test(test_event_reader__does_not_trust_what_a_record_says),
        test(test_event_reader_open__refuses_what_is_no_file),
        test(test_event_reader__remembers_the_plugin_of_a_tag),
        test(test_event_reader__takes_the_number_out_of_a_tensor),
        test(test_event_reader__survives_every_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
