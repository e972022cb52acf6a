/* Protobuf's text form. What is expected was printed by TensorFlow's own Python. */
#include "base/error.h"
#include "failing_alloc.h"
#include "wire/checkpoint.pb-c.h"
#include "wire/full_graph.pb-c.h"
#include "wire/graph.pb-c.h"
#include "wire/text.h"
#include "wire/unpack.h"

#include <locale.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define STATE (&bly__checkpoint_state__descriptor)
#define NODE  (&bly__full__node_def__descriptor)
#define NESTS (&bly__full__full_type_def__descriptor)

static void *read_as(const ProtobufCMessageDescriptor *type, const char *text) {
    BLY_LOCAL_ERROR(err);
    void *message = bly_text_read(type, text, strlen(text), "f", &err);
    if (!message)
        fail_msg("%s", err.message);
    return message;
}

static void assert_wrong(const ProtobufCMessageDescriptor *type, const char *text,
                         const char *wanted) {
    BLY_LOCAL_ERROR(err);
    void *message = bly_text_read(type, text, strlen(text), "f", &err);
    if (message)
        fail_msg("read: %s", text);
    assert_int_equal(err.code, BELAY_INVALID_ARGUMENT);
    if (strncmp(err.message, wanted, strlen(wanted)) != 0)
        fail_msg("'%s' instead of '%s'", err.message, wanted);
}

static void assert_printed(const void *message, const char *wanted) {
    bly_buf text = BLY_BUF_INIT;
    bly_text_print(message, &text);
    assert_false(text.failed);
    assert_string_equal(bly_buf_text(&text), wanted);
    bly_buf_free(&text);
}

static void assert_string_read(const char *text, const char *wanted) {
    Bly__CheckpointState *read = read_as(STATE, text);
    assert_string_equal(read->model_checkpoint_path, wanted);
    bly_wire_free(read);
}

static void test_text_read__takes_strings_in_every_form(void **state) {
    (void)state;
    assert_string_read("model_checkpoint_path: \"a\" 'b' \"c\"\n  # between\n \"d\"", "abcd");
    assert_string_read("model_checkpoint_path:'it\\'s \"fine\"'", "it's \"fine\"");
    assert_string_read("model_checkpoint_path: \"\\x41\\101\\u00e9\\U0001F600\\?\\1\\x2g\"",
                       "AA\xc3\xa9\xf0\x9f\x98\x80?\001\002g");
    assert_string_read("model_checkpoint_path: \"\\a\\b\\f\\n\\r\\t\\v\\\\\\377\"",
                       "\a\b\f\n\r\t\v\\\xff");
    assert_string_read("model_checkpoint_path: \"a\" model_checkpoint_path: \"b\"", "b");
    assert_string_read("# nothing else\n", "");
    assert_string_read("", "");
}

static void test_text_read__takes_lists_and_separators(void **state) {
    (void)state;
    Bly__CheckpointState *read =
        read_as(STATE, "model_checkpoint_path: \"a\", all_model_checkpoint_paths: [\"x\", 'y' 'z'];"
                       "all_model_checkpoint_paths: [] all_model_checkpoint_paths:\"w\";"
                       "all_model_checkpoint_timestamps: [1, .5, 1.e5, -2.5f, inf, -Infinity, NaN,"
                       " 1e400, - 3]");
    assert_int_equal(read->n_all_model_checkpoint_paths, 3);
    assert_string_equal(read->all_model_checkpoint_paths[1], "yz");
    assert_string_equal(read->all_model_checkpoint_paths[2], "w");
    static const double wanted[] = {1, .5, 100000, -2.5, INFINITY, -INFINITY, 0, INFINITY, -3};
    assert_int_equal(read->n_all_model_checkpoint_timestamps, 9);
    for (size_t i = 0; i < 9; i++)
        assert_true(i == 6 ? isnan(read->all_model_checkpoint_timestamps[i])
                           : read->all_model_checkpoint_timestamps[i] == wanted[i]);
    bly_wire_free(read);
}

static void test_text_read__takes_nested_messages_and_oneofs(void **state) {
    (void)state;
    Bly__MetaGraphDef *read = read_as(
        &bly__meta_graph_def__descriptor,
        "collection_def { key: \"a\" value: < int64_list { value: [1, -2, 0x10, 017] } > }\n"
        "collection_def: [{ key: 'b' value { node_list { value: 'n' } } }, <key: 'c'>]\n"
        "saver_def { sharded: true max_to_keep: -5 } saver_def { version: 2 sharded: false }\n"
        "graph_def: \"\\000\\377\"");
    assert_int_equal(read->n_collection_def, 3);
    Bly__CollectionDef *first = read->collection_def[0]->value;
    assert_int_equal(first->kind_case, BLY__COLLECTION_DEF__KIND_INT64_LIST);
    static const int64_t numbers[] = {1, -2, 16, 15};
    assert_int_equal(first->int64_list->n_value, 4);
    assert_memory_equal(first->int64_list->value, numbers, sizeof numbers);
    assert_string_equal(read->collection_def[1]->value->node_list->value[0], "n");
    assert_string_equal(read->collection_def[2]->key, "c");
    assert_int_equal(read->saver_def->max_to_keep, -5); /* merged, not replaced */
    assert_int_equal(read->saver_def->version, 2);
    assert_int_equal(read->saver_def->sharded, 0);
    assert_int_equal(read->graph_def.len, 2);
    assert_memory_equal(read->graph_def.data, "\0\xff", 2);
    bly_wire_free(read);
    /* The last member of a oneof stays; the others are given back. */
    Bly__Full__AttrValue *value = read_as(&bly__full__attr_value__descriptor,
                                          "func { name: 'n' } s: 'x' s: 'y' placeholder: 'z' "
                                          "list { f: 1 } list { f: 2 }");
    assert_int_equal(value->value_case, BLY__FULL__ATTR_VALUE__VALUE_LIST);
    assert_int_equal(value->list->n_f, 2);
    bly_wire_free(value);
}

static void test_text_read__takes_enums_by_name_or_number(void **state) {
    (void)state;
    const ProtobufCMessageDescriptor *type = &bly__bundle_header_proto__descriptor;
    Bly__BundleHeaderProto *read = read_as(type, "endianness: BIG");
    assert_int_equal(read->endianness, BLY__BUNDLE_HEADER_PROTO__ENDIANNESS__BIG);
    assert_printed(read, "endianness: BIG\n");
    bly_wire_free(read);
    read = read_as(type, "endianness: 7 num_shards: 3");
    assert_int_equal(read->endianness, 7);
    assert_printed(read, "num_shards: 3\nendianness: 7\n");
    bly_wire_free(read);
    assert_wrong(type, "endianness: MIDDLE", "f:1:13: Endianness has no value 'MIDDLE'");
    assert_wrong(type, "endianness: \"BIG\"", "f:1:13: expected a name or number, found '\"'");
}

static void test_text_read__says_where_and_what_is_wrong(void **state) {
    (void)state;
    const ProtobufCMessageDescriptor *saver = &bly__saver_def__descriptor;
    const ProtobufCMessageDescriptor *graph = &bly__meta_graph_def__descriptor;
    assert_wrong(STATE, "foo: 1", "f:1:1: CheckpointState has no field 'foo'");
    assert_wrong(STATE, "\n\n  foo: 1", "f:3:3: ");
    assert_wrong(STATE, "model_checkpoint_path \"a\"", "f:1:23: expected :, found '\"'");
    assert_wrong(STATE, "model_checkpoint_path: a", "f:1:24: expected a quoted string, found 'a'");
    assert_wrong(STATE,
                 "model_checkpoint_path: ", "f:1:24: expected a quoted string, found 'the end'");
    assert_wrong(STATE, "model_checkpoint_path:: \"a\"", "f:1:23: ");
    assert_wrong(STATE, "model_checkpoint_path: \"a", "f:1:24: the string that starts here");
    assert_wrong(STATE, "model_checkpoint_path: \"a\nb\"", "f:1:24: the string that starts here");
    assert_wrong(STATE, "model_checkpoint_path: \"a\\", "f:1:26: unknown escape '\\'");
    assert_wrong(STATE, "model_checkpoint_path: \"\\q\"", "f:1:25: unknown escape '\\q'");
    assert_wrong(STATE, "model_checkpoint_path: \"\\ud800\"", "f:1:25: unknown escape");
    assert_wrong(STATE, "model_checkpoint_path: \"\\U00110000\"", "f:1:25: unknown escape");
    assert_wrong(STATE, "model_checkpoint_path: \"\\400\"", "f:1:25: escape is more than a byte");
    assert_wrong(STATE, "model_checkpoint_path: \"\\000\"", "f:1:23: zero byte");
    assert_wrong(STATE, "}", "f:1:1: expected a field, found '}'");
    assert_wrong(STATE, "[foo.bar]: 1", "f:1:1: expected a field, found '['");
    assert_wrong(STATE, "1: \"x\"", "f:1:1: expected a field, found '1'");
    assert_wrong(STATE, "all_model_checkpoint_timestamps: [1, 2,]", "f:1:40: expected a number");
    assert_wrong(STATE, "all_model_checkpoint_timestamps: [1 2]", "f:1:37: expected , or ]");
    assert_wrong(STATE, "all_model_checkpoint_timestamps: 0x10", "f:1:34: expected a number");
    assert_wrong(STATE, "all_model_checkpoint_timestamps: 1.2.3", "f:1:34: expected a number");
    assert_wrong(STATE, "all_model_checkpoint_timestamps: e5", "f:1:34: expected a number");
    assert_wrong(saver, "max_to_keep: 2147483648", "f:1:14: out of range: '2147483648'");
    assert_wrong(saver, "max_to_keep: -2147483649", "f:1:14: out of range: '-2147483649'");
    assert_wrong(saver, "max_to_keep: 1.5", "f:1:14: expected an integer");
    assert_wrong(saver, "max_to_keep: 08", "f:1:14: expected an integer");
    assert_wrong(saver, "sharded: yes", "f:1:10: expected true or false, found 'yes'");
    assert_wrong(graph, "saver_def: 1", "f:1:12: expected {, found '1'");
    assert_wrong(graph, "saver_def { sharded: 1", "f:1:23: expected a field or }, found 'the end'");
    assert_wrong(graph, "saver_def { sharded: 1 >", "f:1:24: expected a field or }, found '>'");
}

/* What is freed after an error half-way is no more and no less than what was made: the sanitizer
 * watches. */
static void test_text_read__leaves_nothing_behind_wherever_it_stops(void **state) {
    (void)state;
    static const char text[] =
        "collection_def { key: \"a\" value: < bytes_list { value: ['p', 'q'] } > }\n"
        "collection_def: [{ key: 'b' value { node_list { value: ['n', 'm'] } } }, <key: 'c'>]\n"
        "collection_def { value { int64_list { value: 1 } node_list { value: 'n' } } }"
        "saver_def { save_tensor_name: 'x' save_tensor_name: 'y' } graph_def: 'g' graph_def: 'h'";
    for (size_t i = 0; i < sizeof text; i++) {
        BLY_LOCAL_ERROR(err);
        void *read = bly_text_read(&bly__meta_graph_def__descriptor, text, i, "f", &err);
        assert_int_equal(err.code, read ? BELAY_OK : BELAY_INVALID_ARGUMENT);
        bly_wire_free(read);
    }
    FAILING_ALLOC(n) {
        BLY_LOCAL_ERROR(err);
        void *read =
            bly_text_read(&bly__meta_graph_def__descriptor, text, sizeof text - 1, "f", &err);
        assert_int_equal(err.code, failing_alloc_hit() ? BELAY_RESOURCE_EXHAUSTED : BELAY_OK);
        bly_wire_free(read);
    }
}

static void test_text_read__bounds_how_deep_messages_nest(void **state) {
    (void)state;
    char text[5 * 101 + 1] = "";
    for (size_t i = 0; i < 101; i++)
        memcpy(text + 5 * i, "args{", 5);
    BLY_LOCAL_ERROR(err);
    assert_null(bly_text_read(NESTS, text, 500, "f", &err));
    assert_non_null(strstr(err.message, "expected a field or }"));
    assert_null(bly_text_read(NESTS, text, 505, "f", &err));
    assert_non_null(strstr(err.message, "nested too deeply"));
}

static void test_text_print__prints_what_python_prints(void **state) {
    (void)state;
    Bly__MetaGraphDef *graph =
        read_as(&bly__meta_graph_def__descriptor,
                "saver_def { sharded: true filename_tensor_name: 'save/Const:0' version: 2 "
                "keep_checkpoint_every_n_hours: 10000 max_to_keep: 0 }"
                "collection_def { key: 'x' value { bytes_list { value: '\\303\\251\\377\\000' } } }"
                "collection_def { key: 'y' value { int64_list { } } }");
    assert_printed(graph, "saver_def {\n"
                          "  filename_tensor_name: \"save/Const:0\"\n"
                          "  sharded: true\n"
                          "  keep_checkpoint_every_n_hours: 10000.0\n"
                          "  version: 2\n"
                          "}\n"
                          "collection_def {\n"
                          "  key: \"x\"\n"
                          "  value {\n"
                          "    bytes_list {\n"
                          "      value: \"\\303\\251\\377\\000\"\n"
                          "    }\n"
                          "  }\n"
                          "}\n"
                          "collection_def {\n"
                          "  key: \"y\"\n"
                          "  value {\n"
                          "    int64_list {\n"
                          "    }\n"
                          "  }\n"
                          "}\n");
    bly_wire_free(graph);
    Bly__CheckpointState paths = BLY__CHECKPOINT_STATE__INIT;
    paths.model_checkpoint_path = (char[]){"a/\xc3\xa9'\"\\\n\t\r\x01\x7f\xc3\xbc?\a"};
    assert_printed(
        &paths,
        "model_checkpoint_path: \"a/\xc3\xa9\\'\\\"\\\\\\n\\t\\r\\001\\177\xc3\xbc?\\007\"\n");
    paths.model_checkpoint_path = (char[]){"\xff\xc3(\xe2\x82\xac\xed\xa0\x80"};
    assert_printed(&paths, "model_checkpoint_path: \"\\377\\303(\xe2\x82\xac\\355\\240\\200\"\n");
}

static void test_text_print__gives_numbers_their_shortest_form(void **state) {
    (void)state;
    double doubles[] = {1.0,
                        1e16,
                        1e15,
                        123456789012345.0,
                        1e-5,
                        1e-4,
                        0.1,
                        1.0 / 3,
                        INFINITY,
                        (double)NAN,
                        -0.0,
                        1e22,
                        1700000000.123,
                        -2.5,
                        5e-324,
                        1.7976931348623157e308};
    float floats[] = {0.1f,          1,     1e10f,      16777216, 123456789.0f, 1e-7f,
                      3.4028234e38f, 1e16f, 0.3333333f, 1e-45f,   1.2e-41f};
    Bly__CheckpointState message = BLY__CHECKPOINT_STATE__INIT;
    message.all_model_checkpoint_timestamps = doubles;
    message.n_all_model_checkpoint_timestamps = sizeof doubles / sizeof doubles[0];
#define LINE(x) "all_model_checkpoint_timestamps: " x "\n"
    assert_printed(&message,
                   LINE("1.0") LINE("1e+16") LINE("1000000000000000.0") LINE("123456789012345.0")
                       LINE("1e-05") LINE("0.0001") LINE("0.1") LINE("0.3333333333333333")
                           LINE("inf") LINE("nan") LINE("-0.0") LINE("1e+22") LINE("1700000000.123")
                               LINE("-2.5") LINE("5e-324") LINE("1.7976931348623157e+308"));
#undef LINE
    Bly__CollectionDef__FloatList list = BLY__COLLECTION_DEF__FLOAT_LIST__INIT;
    list.value = floats;
    list.n_value = sizeof floats / sizeof floats[0];
    assert_printed(&list, "value: 0.1\nvalue: 1.0\nvalue: 10000000000.0\nvalue: 16777216.0\n"
                          "value: 123456790.0\nvalue: 1e-07\nvalue: 3.4028235e+38\nvalue: 1e+16\n"
                          "value: 0.3333333\nvalue: 1.4013e-45\nvalue: 1.19993e-41\n");
}

/* As protobuf reads bytes: what is set twice keeps the second value, and a map the last entry. */
static void assert_same_as(const ProtobufCMessageDescriptor *type, const char *text,
                           const char *printed) {
    void *read = read_as(type, text);
    assert_printed(read, printed);
    bly_wire_free(read);
}

/* EV-22: maps are printed by key, and their values also where they are empty. */
static void test_text_print__prints_maps_by_key(void **state) {
    (void)state;
    assert_same_as(NODE,
                   "attr { key: 'b' value { i: 0 } } attr { key: '\303\251' value { b: false } }"
                   "attr { key: 'a' value { f: 1 } } attr { } name: 'n' input: ['x', '^y']"
                   "attr { key: 'a' value { type: DT_FLOAT_REF } } attr { key: 'B' value < > }",
                   "name: \"n\"\ninput: \"x\"\ninput: \"^y\"\n"
                   "attr {\n  value {\n  }\n}\n"
                   "attr {\n  key: \"B\"\n  value {\n  }\n}\n"
                   "attr {\n  key: \"a\"\n  value {\n    type: DT_FLOAT_REF\n  }\n}\n"
                   "attr {\n  key: \"b\"\n  value {\n    i: 0\n  }\n}\n"
                   "attr {\n  key: \"\303\251\"\n  value {\n    b: false\n  }\n}\n");
    assert_same_as(&bly__full__function_def__descriptor,
                   "arg_attr { key: 7 } arg_attr { key: 0 } ret { key: 'r' value: '' } "
                   "resource_arg_unique_id { key: 3000000000 value: 1 }"
                   "resource_arg_unique_id { key: 2 value: 0 }",
                   "ret {\n  key: \"r\"\n}\n"
                   "arg_attr {\n  value {\n  }\n}\n"
                   "arg_attr {\n  key: 7\n  value {\n  }\n}\n"
                   "resource_arg_unique_id {\n  key: 2\n}\n"
                   "resource_arg_unique_id {\n  key: 3000000000\n  value: 1\n}\n");
}

static void test_text_print__sorts_many_keys(void **state) {
    (void)state;
    bly_buf text = BLY_BUF_INIT, wanted = BLY_BUF_INIT;
    for (int i = 99; i >= 10; i--)
        bly_buf_printf(&text, "attr { key: 'k%d' }", i);
    for (int i = 10; i < 100; i++)
        bly_buf_printf(&wanted, "attr {\n  key: \"k%d\"\n  value {\n  }\n}\n", i);
    assert_same_as(NODE, bly_buf_text(&text), bly_buf_text(&wanted));
    bly_buf_free(&text);
    bly_buf_free(&wanted);
}

/* MG-05: what an Any holds is written out where its type is known, as Python does it. */
static void test_text__writes_out_what_an_any_holds(void **state) {
    (void)state;
    static const char known[] = "any_list {\n"
                                "  value {\n"
                                "    [type.googleapis.com/tensorflow.SaverDef] {\n"
                                "      save_tensor_name: \"s\"\n"
                                "      version: V2\n"
                                "    }\n"
                                "  }\n"
                                "  value {\n"
                                "    type_url: \"type.example.com/nothing\"\n"
                                "    value: \"\\010\\001\"\n"
                                "  }\n"
                                "}\n";
    Bly__Full__CollectionDef *def = read_as(&bly__full__collection_def__descriptor, known);
    Bly__Full__Any *first = def->any_list->value[0];
    assert_string_equal(first->type_url, "type.googleapis.com/tensorflow.SaverDef");
    assert_int_equal(first->value.len, 5);
    assert_memory_equal(first->value.data, "\x12\x01s\x38\x02", 5);
    assert_printed(def, known);
    /* what its type does not fit stays bytes */
    first->value.data[0] = 0xff;
    bly_buf text = BLY_BUF_INIT;
    bly_text_print(&def->base, &text);
    assert_non_null(strstr(bly_buf_text(&text), "value: \"\\377\\001s8\\002\"\n"));
    bly_buf_free(&text);
    bly_wire_free(def);
    assert_wrong(&bly__full__any__descriptor, "\n [type.googleapis.com/some.Message] { }",
                 "f:2:3: belay does not know the message type 'type.googleapis.com/some.Message'");
    assert_wrong(&bly__full__any__descriptor, "[a/tensorflow.SaverDef] { x: 1 }",
                 "f:1:27: SaverDef has no field 'x'");
    assert_wrong(NODE, "[tensorflow.extension]: 1", "f:1:1: expected a field, found '['");
}

static void test_text__writes_an_any_wherever_memory_runs_out(void **state) {
    (void)state;
    static const char text[] = "[a/tensorflow.NodeDef] { attr { key: 'a' value { s: 'x' } } }";
    FAILING_ALLOC(n) {
        BLY_LOCAL_ERROR(err);
        bly_buf printed = BLY_BUF_INIT;
        void *read = bly_text_read(&bly__full__any__descriptor, text, sizeof text - 1, "f", &err);
        assert_int_equal(err.code, read ? BELAY_OK : BELAY_RESOURCE_EXHAUSTED);
        if (read)
            bly_text_print(read, &printed);
        if (!failing_alloc_hit())
            assert_non_null(strstr(bly_buf_text(&printed), "key: \"a\""));
        assert_int_equal(!read || printed.failed, failing_alloc_hit());
        bly_buf_free(&printed);
        bly_wire_free(read);
    }
}

/* protobuf-c recurses, so that a hostile file could use up the stack. */
static void test_unpack__bounds_how_deep_messages_nest(void **state) {
    (void)state;
    uint8_t bytes[1024];
    size_t len = 0, at = sizeof bytes;
    for (int depth = 0; depth < 120; depth++) {
        belay_code code;
        void *read = bly_wire_unpack_nested(NESTS, bytes + at, len, &code);
        assert_int_equal(code, depth <= BLY_WIRE_NESTING ? BELAY_OK : BELAY_DATA_LOSS);
        assert_int_equal(read != NULL, code == BELAY_OK);
        bly_wire_free(read);
        if (len >= 0x80)
            bytes[--at] = (uint8_t)(len >> 7);
        bytes[--at] = (uint8_t)(len >= 0x80 ? (len & 0x7f) | 0x80 : len);
        bytes[--at] = 0x12; /* args */
        len = sizeof bytes - at;
    }
}

/* A host may have set a locale whose numbers have a comma. */
static void test_text__does_not_depend_on_the_hosts_language(void **state) {
    (void)state;
    static const char *const commas[] = {"de_DE.UTF-8", "de_DE.utf8", "fr_FR.UTF-8", "ru_RU.UTF-8"};
    int found = 0;
    for (size_t i = 0; i < 4 && !found; i++)
        found = setlocale(LC_NUMERIC, commas[i]) != NULL;
    if (!found)
        skip();
    Bly__CheckpointState *read = read_as(STATE, "last_preserved_timestamp: 1.5");
    assert_true(read->last_preserved_timestamp == 1.5);
    assert_printed(read, "last_preserved_timestamp: 1.5\n");
    bly_wire_free(read);
    assert_string_equal(localeconv()->decimal_point, ",");
    setlocale(LC_NUMERIC, "C");
}

static void test_text__reads_what_it_prints(void **state) {
    (void)state;
    char all[256];
    for (int i = 1; i < 256; i++)
        all[i - 1] = (char)(uint8_t)i;
    all[255] = '\0';
    Bly__CheckpointState message = BLY__CHECKPOINT_STATE__INIT;
    message.model_checkpoint_path = all;
    bly_buf text = BLY_BUF_INIT;
    bly_text_print(&message.base, &text);
    Bly__CheckpointState *read = read_as(STATE, bly_buf_text(&text));
    assert_string_equal(read->model_checkpoint_path, all);
    bly_wire_free(read);
    bly_buf_free(&text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text_read__takes_strings_in_every_form),
        cmocka_unit_test(test_text_read__takes_lists_and_separators),
        cmocka_unit_test(test_text_read__takes_nested_messages_and_oneofs),
        cmocka_unit_test(test_text_read__takes_enums_by_name_or_number),
        cmocka_unit_test(test_text_read__says_where_and_what_is_wrong),
        cmocka_unit_test(test_text_read__leaves_nothing_behind_wherever_it_stops),
        cmocka_unit_test(test_text_read__bounds_how_deep_messages_nest),
        cmocka_unit_test(test_text_print__prints_what_python_prints),
        cmocka_unit_test(test_text_print__gives_numbers_their_shortest_form),
        cmocka_unit_test(test_text_print__prints_maps_by_key),
        cmocka_unit_test(test_text_print__sorts_many_keys),
        cmocka_unit_test(test_text__writes_out_what_an_any_holds),
        cmocka_unit_test(test_text__writes_an_any_wherever_memory_runs_out),
        cmocka_unit_test(test_unpack__bounds_how_deep_messages_nest),
        cmocka_unit_test(test_text__does_not_depend_on_the_hosts_language),
        cmocka_unit_test(test_text__reads_what_it_prints),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
