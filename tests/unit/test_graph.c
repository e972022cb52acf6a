/* Graphs over the scripted runtime: what is in a MetaGraphDef, and every way to run out of memory.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/error.h"
#include "failing_alloc.h"
#include "graph/builder.h"
#include "graph/defaults.h"
#include "graph/export_meta.h"
#include "graph/graph_def.h"
#include "graph/index.h"
#include "graph/kind.h"
#include "graph/text_form.h"
#include "scratch.h"
#include "scripted_runtime.h"
#include "wire/cursor.h"
#include "wire/unpack.h"

#include <belay/log.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char last_log[512];

static void keep_log(void *self, belay_log_level level, const char *message) {
    (void)self;
    (void)level;
    snprintf(last_log, sizeof last_log, "%s", message);
}

static int set_up(void **state) {
    (void)state;
    scripted_install();
    belay_log_set_callback(keep_log, NULL, BELAY_LOG_WARNING);
    last_log[0] = '\0';
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    belay_log_set_callback(NULL, NULL, BELAY_LOG_WARNING);
    scripted_uninstall();
    return 0;
}

static belay_graph *make(const char *text) {
    BLY_LOCAL_ERROR(err);
    belay_graph *graph = scripted_graph(text, &err);
    if (!graph)
        fail_msg("%s", err.message);
    return graph;
}

static int has_problem(const belay_graph *graph, const char *part) {
    for (size_t i = 0; i < belay_graph_problem_count(graph); i++)
        if (strstr(belay_graph_problem(graph, i), part))
            return 1;
    return 0;
}

/* ---- wire format ---- */

static void test_cursor__walks_every_kind_of_field(void **state) {
    static const uint8_t bytes[] = {0x08, 0xac, 0x02,                     /* 1: 300 */
                                    0x12, 0x02, 'h',  'i',                /* 2: "hi" */
                                    0x19, 1,    2,    3,   4, 5, 6, 7, 8, /* 3: eight bytes */
                                    0x25, 1,    2,    3,   4,             /* 4: four bytes */
                                    0xfa, 0x3f, 0x00};                    /* 1023: "" */
    static const uint32_t numbers[] = {1, 2, 3, 4, 1023};
    (void)state;
    bly_cursor cursor = bly_cursor_over(bytes, sizeof bytes);
    bly_field field;
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(bly_cursor_next(&cursor, &field), 1);
        assert_int_equal(field.number, numbers[i]);
        if (i == 0)
            assert_int_equal(field.value, 300);
        if (i == 1)
            assert_memory_equal(field.data, "hi", field.size);
    }
    assert_int_equal(bly_cursor_next(&cursor, &field), 0);
    assert_false(cursor.broken);
    for (size_t len = 0; len < sizeof bytes;
         len++) { /* every cut ends, broken or between two fields */
        cursor = bly_cursor_over(bytes, len);
        size_t fields = 0;
        while (bly_cursor_next(&cursor, &field))
            fields++;
        assert_true(fields <= 4);
        assert_int_equal(cursor.broken,
                         !(len == 0 || len == 3 || len == 7 || len == 16 || len == 21));
    }
}

static void test_cursor__stops_at_nonsense(void **state) {
    static const struct {
        uint8_t bytes[12];
        size_t len;
    } cases[] = {{{0x00, 0x01}, 2},       /* field 0 */
                 {{0x0b}, 1},             /* a group */
                 {{0x0e, 0x00}, 2},       /* no such type */
                 {{0x12, 0xff, 0x01}, 3}, /* longer than the rest */
                 {{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, 11}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bly_cursor cursor = bly_cursor_over(cases[i].bytes, cases[i].len);
        bly_field field;
        assert_int_equal(bly_cursor_next(&cursor, &field), 0);
        assert_true(cursor.broken);
        assert_int_equal(bly_cursor_next(&cursor, &field), 0);
    }
}

/* MG-04 */
static void test_kind__tells_text_from_damage(void **state) {
    static const struct {
        const char *text;
        belay_code code;
        int is_text;
    } cases[] = {
        {"graph_def {\n}\n", BELAY_OK, 1},         {"\n\n  collection_def: {", BELAY_OK, 1},
        {"# a comment\nsaver_def {", BELAY_OK, 1}, {"node {\n", BELAY_DATA_LOSS, 1},
        {"hello {", BELAY_DATA_LOSS, 1},           {"meta_graphs {", BELAY_DATA_LOSS, 1},
        {"\x08\x01", BELAY_DATA_LOSS, 0},          {"", BELAY_OK, 0},
        {"\x12\x03\x0a\x01\x61", BELAY_OK, 0}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        BLY_LOCAL_ERROR(err);
        int is_text;
        assert_int_equal(
            bly_check_kind("a file", cases[i].text, strlen(cases[i].text), &is_text, &err),
            cases[i].code);
        assert_int_equal(is_text, cases[i].is_text);
        assert_true(cases[i].code == BELAY_OK || strstr(err.message, "a file") == err.message);
    }
}

/* ---- collections and variables ---- */

/* MG-10: a collection of nodes holds names of ops and of tensors. */
static void test_collections__hold_ops_and_tensors(void **state) {
    (void)state;
    BLY_LOCAL_ERROR(err);
    belay_graph *graph = make("a = Const() dtype=float value=1\n"
                              "collection mixed: a, a:0\n");
    assert_string_equal(belay_graph_collection_node(graph, "mixed", 1), "a:0");
    assert_int_equal(bly_graph_add_to_collection(graph, "mixed", "a", &err), BELAY_OK);
    assert_int_equal(belay_graph_collection_size(graph, "mixed"), 3);
    assert_int_equal(bly_graph_add_to_collection(graph, "fresh", "a", &err), BELAY_OK);
    assert_int_equal(belay_graph_collection_kind(graph, "fresh"), BELAY_COLLECTION_NODES);
    assert_string_equal(belay_graph_collection_name(graph, 0), "fresh");
    assert_int_equal(bly_graph_add_bytes_to_collection(graph, "fresh", "x", 1, &err),
                     BELAY_INVALID_ARGUMENT);
    belay_graph_free(graph);
}

/* MG-23: a variable that is in several collections is one. */
static void test_variables__are_counted_once(void **state) {
    (void)state;
    belay_graph *graph =
        make(SCRIPTED_GLOBAL_STEP "variable global_step in variables, local_variables: "
                                  "initializer=global_step/Assign snapshot=global_step/Read:0\n");
    assert_int_equal(belay_graph_variable_count(graph), 1);
    assert_int_equal(graph->local_count, 0);
    belay_graph_free(graph);
}

static void expect_damage(const char *text, const char *part) {
    BLY_LOCAL_ERROR(err);
    size_t len;
    void *bytes = scripted_graph_bytes(text, &len);
    belay_graph *graph = bly_graph_from_bytes("broken.meta", bytes, len, &err);
    free(bytes);
    assert_null(graph);
    if (err.code != BELAY_DATA_LOSS || !strstr(err.message, part) ||
        !strstr(err.message, "broken.meta"))
        fail_msg("'%s' is not in %s '%s'", part, belay_code_name(err.code), err.message);
}

static void test_variables__must_fit_the_graph(void **state) {
    (void)state;
    expect_damage("variable w in variables: initializer=w/Assign\n", "the op 'w:0' of variable");
    expect_damage("w = VarHandleOp() dtype=float shape=[] shared_name=\"w\"\n"
                  "variable w in variables: initializer=w/Assign\n",
                  "the initializer 'w/Assign' of variable 'w'");
    expect_damage("w = VarHandleOp() dtype=float shape=[] shared_name=\"w\"\n"
                  "variable w in variables: snapshot=w/Read:0\n",
                  "the value 'w/Read:0' of variable 'w'");
}

/* MG-24: an exporter that knew no trainable info leaves it to the collection. */
static void test_variables__are_trainable_by_their_collection(void **state) {
    (void)state;
    belay_graph *graph = make("v = VarHandleOp() dtype=float shape=[] shared_name=\"v\"\n"
                              "w = VarHandleOp() dtype=float shape=[] shared_name=\"w\"\n"
                              "variable v in variables: trainable=0\n"
                              "variable w in variables, trainable_variables: trainable=0\n");
    assert_int_equal(belay_graph_variable_count(graph), 2);
    assert_false(belay_graph_variable(graph, 0)->is_trainable);
    assert_true(belay_graph_variable(graph, 1)->is_trainable);
    belay_graph_free(graph);
}

/* MG-27 */
static void test_load__refuses_unbound_inputs(void **state) {
    (void)state;
    BLY_LOCAL_ERROR(err);
    assert_null(scripted_graph("a = Const() dtype=float value=1\n"
                               "collection unbound_inputs: a\n",
                               &err));
    assert_int_equal(err.code, BELAY_INVALID_ARGUMENT);
    assert_non_null(strstr(err.message, "1 unbound inputs"));
}

/* MG-22 and MG-25: odd collections are said and passed over. */
static void test_load__tolerates_odd_collections(void **state) {
    static const uint8_t unset[] = {0x12, 0x00, /* graph_def */
                                    0x22, 0x07, 0x0a, 0x03, 'o', 'd', 'd', 0x12, 0x00};
    (void)state;
    BLY_LOCAL_ERROR(err);
    belay_graph *graph = bly_graph_from_bytes("odd.meta", unset, sizeof unset, &err);
    assert_non_null(graph);
    assert_int_equal(belay_graph_collection_count(graph), 0);
    assert_true(has_problem(graph, "'odd'"));
    assert_non_null(strstr(last_log, "'odd'"));
    belay_graph_free(graph);

    graph = make("w = VarHandleOp() dtype=float shape=[2] shared_name=\"w\"\n"
                 "w/Read = ReadVariableOp(w) dtype=float\n"
                 "collection variables: w:0\n");
    assert_int_equal(belay_graph_variable_count(graph), 1);
    assert_string_equal(belay_graph_variable(graph, 0)->name, "w");
    assert_int_equal(belay_graph_variable(graph, 0)->dims[0], 2);
    assert_null(belay_graph_variable(graph, 0)->initializer);
    assert_non_null(graph->variables[0].snapshot.oper);
    assert_non_null(strstr(last_log, "names only"));
    assert_true(has_problem(graph, "has no initializer"));
    belay_graph_free(graph);
}

/* MG-22: whatever kind of name it is */
static void test_load__refuses_collections_of_what_is_not_there(void **state) {
    static const char *const names[] = {"gone:0", "gone", "a:1"};
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char text[128], wanted[128];
        BLY_LOCAL_ERROR(err);
        snprintf(text, sizeof text, "a = Const() dtype=int64 value=1\ncollection losses: a:0, %s\n",
                 names[i]);
        assert_null(scripted_graph(text, &err));
        assert_int_equal(err.code, BELAY_NOT_FOUND);
        snprintf(wanted, sizeof wanted, "'losses' names '%s', which does not exist", names[i]);
        assert_non_null(strstr(err.message, wanted));
    }
}

/* BUG-62, MG-19, SC-25: said aloud, and kept */
static void test_problems__name_resources_that_nothing_fills(void **state) {
    static const char table[] = "table = HashTableV2() key_dtype=string value_dtype=int64\n"
                                "keys = Const() dtype=string value=[\"a\"]\n"
                                "values = Const() dtype=int64 value=[1]\n"
                                "fill = InitializeTableV2(table, keys, values)\n";
    char text[1024];
    (void)state;
    belay_graph *graph = make(table);
    assert_true(has_problem(graph, "'table' is filled by operation 'fill'"));
    assert_non_null(strstr(last_log, "'table' cannot be rebuilt"));
    belay_graph_free(graph);
    snprintf(text, sizeof text, "%scollection table_initializer: fill\n", table);
    graph = make(text);
    assert_false(has_problem(graph, "'table'"));
    belay_graph_free(graph);
    snprintf(text, sizeof text, "%sgroup = NoOp(^fill)\ncollection local_init_op: group\n", table);
    graph = make(text);
    assert_false(has_problem(graph, "'table'"));
    belay_graph_free(graph);
    graph = make("table = MutableHashTableV2() key_dtype=string value_dtype=int64\n");
    assert_true(has_problem(graph, "will not be in checkpoints"));
    belay_graph_free(graph);
}

static void test_problems__name_what_collections_lack_or_have_twice(void **state) {
    (void)state;
    belay_graph *graph = make("a = NoOp()\nb = NoOp()\n"
                              "collection train_op: a, a\n"
                              "collection init_op: a, b\n"
                              "collection losses: a\n");
    assert_false(has_problem(graph, "train_op"));
    assert_true(has_problem(graph, "'init_op' has 2 members"));
    belay_graph_free(graph);
}

/* SC-10: initialisers of the local variables, and tables; nothing of the global ones. */
static void test_local_init_op__includes_tables(void **state) {
    (void)state;
    BLY_LOCAL_ERROR(err);
    belay_graph *graph =
        make(SCRIPTED_GLOBAL_STEP "seen = VarHandleOp() dtype=int64 shape=[] shared_name=\"seen\"\n"
                                  "seen/Assign = AssignVariableOp(seen, one) dtype=int64\n"
                                  "variable seen in local_variables: initializer=seen/Assign\n"
                                  "table = HashTableV2() key_dtype=string value_dtype=int64\n"
                                  "keys = Const() dtype=string value=[\"a\"]\n"
                                  "values = Const() dtype=int64 value=[1]\n"
                                  "fill = InitializeTableV2(table, keys, values)\n"
                                  "collection table_initializer: fill\n");
    TF_Operation *runs[4] = {NULL}, *op = bly_build_local_init_op(graph, &err);
    assert_non_null(op);
    assert_int_equal(graph->rt->OperationGetControlInputs(op, runs, 4), 2);
    assert_string_equal(graph->rt->OperationName(runs[0]), "seen/Assign");
    assert_string_equal(graph->rt->OperationName(runs[1]), "fill");
    belay_graph_free(graph);
}

/* ---- ownership ---- */

static void test_graph__lives_as_long_as_somebody_holds_it(void **state) {
    (void)state;
    belay_graph *graph = make(SCRIPTED_GLOBAL_STEP);
    belay_graph *again = bly_graph_ref(graph);
    belay_graph_free(graph);
    assert_int_equal(scripted_alive().graphs, 1);
    assert_true(belay_graph_has_op(again, "global_step"));
    belay_graph_free(again);
    assert_int_equal(scripted_alive().graphs, 0);
    belay_graph_free(NULL);
    assert_int_equal(belay_graph_variable_count(NULL), 0);
    assert_null(belay_graph_raw(NULL));
    assert_int_equal(belay_graph_op_count(NULL), 0);
}

/* ---- devices ---- */

static void test_device__has_one_spelling(void **state) {
    static const char *const cases[][3] = {
        {"", "", "/device:CPU:0"},
        {"/cpu:0", "/device:CPU:0", "/device:CPU:0"},
        {"/device:gpu:1", "/device:GPU:1", "/device:CPU:0"},
        {"/job:ps/task:1", "/job:ps/task:1", "/job:ps/task:1/device:CPU:0"},
        {"/job:ps/replica:0/task:1/GPU:0", "/job:ps/replica:0/task:1/device:GPU:0",
         "/job:ps/replica:0/task:1/device:CPU:0"}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *canonical = bly_device_canonical(cases[i][0]), *cpu = bly_device_on_cpu(cases[i][0]);
        assert_string_equal(canonical, cases[i][1]);
        assert_string_equal(cpu, cases[i][2]);
        free(canonical);
        free(cpu);
    }
}

/* ---- torture ---- */

static const char whole[] = SCRIPTED_GLOBAL_STEP SCRIPTED_TRAIN
    "w = VariableV2() dtype=float shape=[2,2]\n"
    "w/zeros = Const() dtype=float value=0\n"
    "w/Assign = Assign(w, w/zeros)\n"
    "w/read = Identity(w)\n"
    "variable w in variables, trainable_variables: initializer=w/Assign snapshot=w/read:0 ref=1 "
    "trainable=1\n"
    "x = Placeholder() dtype=float shape=[2]\n"
    "signature train: inputs x=x:0/float outputs y=w/read:0/float method=train\n"
    "text = Const() dtype=string value=\"s\"\n"
    "collection summaries: text:0\n";

/* Loads a graph and builds all that can be built. */
static belay_code build_all(const void *bytes, size_t len, belay_error *err) {
    belay_graph *graph = bly_graph_from_bytes("whole.meta", bytes, len, err);
    TF_Output output;
    bly_side_saver side;
    Bly__SaverDef *saver = NULL;
    belay_code code = graph ? BELAY_OK : err->code;
    if (code == BELAY_OK &&
        (!bly_build_init_op(graph, err) || !bly_build_local_init_op(graph, err)))
        code = err->code;
    if (code == BELAY_OK)
        code = bly_build_ready_op(graph, 1, &output, err);
    if (code == BELAY_OK)
        code = bly_build_summary_op(graph, &output, err);
    if (code == BELAY_OK && !(saver = bly_build_saver(graph, err)))
        code = err->code;
    if (code == BELAY_OK)
        code = bly_build_side_saver(graph, &side, err);
    if (code == BELAY_OK) {
        TF_Operation *train = bly_graph_op_of(graph, "train");
        code = bly_graph_step_after(graph, NULL, 0, NULL, 0, &train, 1, &output, err);
    }
    bly_wire_free(saver);
    belay_graph_free(graph);
    return code;
}

static void test_graph__survives_memory_running_out(void **state) {
    (void)state;
    size_t len;
    void *bytes = scripted_graph_bytes(whole, &len);
    size_t harmless = 0; /* without memory a read of the step is made, but not remembered */
    FAILING_ALLOC(n) {
        BLY_LOCAL_ERROR(err);
        belay_code code = build_all(bytes, len, &err);
        int hit = failing_alloc_hit();
        if (code != (hit ? BELAY_RESOURCE_EXHAUSTED : BELAY_OK)) {
            if (code != BELAY_OK)
                fail_msg("allocation %zu: %s '%s'", n, belay_code_name(code), err.message);
            harmless++;
        }
    }
    assert_true(harmless <= 1);
    free(bytes);
}

static void test_create_global_step__survives_memory_running_out(void **state) {
    static const char *const after[] = {"a", NULL};
    (void)state;
    FAILING_ALLOC(n) {
        BLY_LOCAL_ERROR(err);
        bly_mem_fail_at(0);
        belay_graph *graph = make("a = NoOp()\n");
        bly_mem_fail_at(n);
        belay_code code = belay_graph_create_global_step(graph, after, &err);
        if (failing_alloc_hit())
            assert_int_equal(code, BELAY_RESOURCE_EXHAUSTED);
        else
            assert_int_equal(code, BELAY_OK);
        belay_graph_free(graph);
    }
}

/* ---- text form, and writing ---- */

static int has_in(const bly_buf *text, const char *part) {
    return strstr(bly_buf_text(text), part) != NULL;
}

/* MG-03: a node with outputs says their shapes; one without has nothing to say. */
static void test_graph_def__carries_inferred_shapes__MG_03(void **state) {
    (void)state;
    belay_graph *graph = make("a = Placeholder() dtype=float shape=[2,-1,0]\n"
                              "b = Placeholder() dtype=float\n"
                              "n = NoOp()\n");
    bly_buf def = BLY_BUF_INIT, text = BLY_BUF_INIT;
    assert_int_equal(bly_graph_def(graph, &def, NULL), BELAY_OK);
    assert_int_equal(bly_graph_to_text(BLY_GRAPH_DEF, "g", def.data, def.len, &text, NULL),
                     BELAY_OK);
    assert_true(has_in(&text, "    key: \"_output_shapes\"\n"
                              "    value {\n"
                              "      list {\n"
                              "        shape {\n"
                              "          dim {\n"
                              "            size: 2\n"
                              "          }\n"
                              "          dim {\n"
                              "            size: -1\n"
                              "          }\n"
                              "          dim {\n"
                              "          }\n"
                              "        }\n"));
    assert_true(has_in(&text, "        shape {\n          unknown_rank: true\n        }\n"));
    assert_true(has_in(&text, "node {\n  name: \"n\"\n  op: \"NoOp\"\n}\n"));
    bly_buf_free(&def);
    bly_buf_free(&text);
    belay_graph_free(graph);
}

static const char with_savers[] =
    "v = VarHandleOp() dtype=float shape=[] shared_name=\"v\"\n"
    "kept/save = SaveV2()\nkept/restore_all = NoOp()\n"
    "other/save = SaveV2()\nother/deep/name = NoOp()\nother = NoOp()\n"
    "collection train_op: other, other/deep/name\n";

/* Writes, and loads what was written; the graph's saver is `kept`. */
static belay_graph *write_and_load(belay_graph *graph, const char *path, uint32_t flags,
                                   belay_error *err) {
    static Bly__SaverDef saver = BLY__SAVER_DEF__INIT;
    belay_meta_graph_options options = BELAY_META_GRAPH_OPTIONS_INIT;
    saver.save_tensor_name = (char[]){"kept/save:0"};
    saver.restore_op_name = (char[]){"kept/restore_all"};
    options.flags = flags;
    if (bly_graph_export_meta(graph, &saver, path, &options, err) != BELAY_OK)
        return NULL;
    return belay_graph_load(path, NULL, err);
}

/* MG-29: the scopes of other savers go, with what collections name of them. */
static void test_export__drops_extraneous_savers__MG_29(void **state) {
    const char *path = scratch_path(state, "sub folder/one.meta");
    BLY_LOCAL_ERROR(err);
    scripted_install();
    belay_graph *graph = make(with_savers);
    belay_graph *all = write_and_load(graph, path, 0, &err);
    assert_non_null(all);
    assert_true(belay_graph_has_op(all, "other/save"));
    belay_graph *one = write_and_load(graph, path, BELAY_META_GRAPH_CLEAR_EXTRANEOUS_SAVERS, &err);
    assert_non_null(one);
    assert_true(belay_graph_has_op(one, "kept/save") && belay_graph_has_op(one, "other"));
    assert_false(belay_graph_has_op(one, "other/save"));
    assert_false(belay_graph_has_op(one, "other/deep/name"));
    assert_int_equal(belay_graph_collection_size(one, "train_op"), 1);
    assert_string_equal(one->meta->saver_def->save_tensor_name, "kept/save:0");
    belay_graph_free(graph);
    belay_graph_free(all);
    belay_graph_free(one);
    scripted_uninstall();
}

/* MG-04 */
static void test_load__reads_what_was_written_as_text__MG_04(void **state) {
    const char *path = scratch_path(state, "text.meta");
    BLY_LOCAL_ERROR(err);
    size_t len;
    scripted_install();
    belay_graph *graph = make(with_savers);
    belay_graph *read = write_and_load(graph, path, BELAY_META_GRAPH_AS_TEXT, &err);
    assert_non_null(read);
    assert_int_equal(belay_graph_op_count(read), belay_graph_op_count(graph));
    assert_int_equal(belay_graph_collection_size(read, "train_op"), 2);
    char *text = (char *)scratch_read(path, &len);
    assert_memory_equal(text, "meta_info_def {\n", 16);
    free(text);
    scratch_write(path, "graph_def {\n  node { name: 'a'\n  nome: 'b' }\n}\n", 47);
    assert_null(belay_graph_load(path, NULL, &err));
    assert_int_equal(err.code, BELAY_DATA_LOSS);
    assert_non_null(strstr(err.message, "text.meta:3:3: NodeDef has no field 'nome'"));
    belay_graph_free(graph);
    belay_graph_free(read);
    scripted_uninstall();
}

static void test_export__checks_what_it_is_given(void **state) {
    const char *path = scratch_path(state, "never.meta");
    belay_meta_graph_options options = BELAY_META_GRAPH_OPTIONS_INIT;
    scripted_install();
    belay_graph *graph = make("a = NoOp()\n");
    assert_int_equal(belay_graph_export_meta_graph(NULL, path, NULL, NULL), BELAY_INVALID_ARGUMENT);
    assert_int_equal(belay_graph_export_meta_graph(graph, NULL, NULL, NULL),
                     BELAY_INVALID_ARGUMENT);
    assert_int_equal(belay_graph_export_meta_graph(graph, "", NULL, NULL), BELAY_INVALID_ARGUMENT);
    assert_int_equal(belay_graph_write(NULL, path, 1, NULL), BELAY_INVALID_ARGUMENT);
    assert_int_equal(belay_graph_write(graph, "", 1, NULL), BELAY_INVALID_ARGUMENT);
    options.flags = 1u << 31;
    assert_int_equal(belay_graph_export_meta_graph(graph, path, &options, NULL),
                     BELAY_INVALID_ARGUMENT);
    options = (belay_meta_graph_options)BELAY_META_GRAPH_OPTIONS_INIT;
    options.reserved = 1;
    assert_int_equal(belay_graph_export_meta_graph(graph, path, &options, NULL),
                     BELAY_INVALID_ARGUMENT);
    assert_int_not_equal(access(path, F_OK), 0);
    belay_graph_free(graph);
    scripted_uninstall();
}

static void test_export__survives_memory_running_out(void **state) {
    const char *path = scratch_path(state, "torture.meta");
    scripted_install();
    belay_graph *graph = make(with_savers);
    FAILING_ALLOC(n) {
        BLY_LOCAL_ERROR(err);
        belay_graph *read =
            write_and_load(graph, path,
                           BELAY_META_GRAPH_AS_TEXT | BELAY_META_GRAPH_CLEAR_DEVICES |
                               BELAY_META_GRAPH_CLEAR_EXTRANEOUS_SAVERS,
                           &err);
        assert_int_equal(err.code, read ? BELAY_OK : BELAY_RESOURCE_EXHAUSTED);
        assert_int_equal(read == NULL, failing_alloc_hit());
        belay_graph_free(read);
    }
    belay_graph_free(graph);
    scripted_uninstall();
}

/* MG-05: every kind, read element by element. */
static void test_collections__are_read_whatever_their_kind__MG_05(void **state) {
    static const char text[] =
        "graph_def { }"
        "collection_def { key: 'bytes' value { bytes_list { value: ['a\\000b', ''] } } }"
        "collection_def { key: 'ints' value { int64_list { value: [-1, 9000000000] } } }"
        "collection_def { key: 'floats' value { float_list { value: [0.5] } } }"
        "collection_def { key: 'any' value { any_list { value { type_url: 'u' } } } }";
    size_t size;
    int64_t integer;
    float number;
    (void)state;
    belay_graph *graph = bly_graph_from_bytes("kinds.meta", text, sizeof text - 1, NULL);
    assert_non_null(graph);
    assert_memory_equal(belay_graph_collection_bytes(graph, "bytes", 0, &size), "a\0b", 3);
    assert_int_equal(size, 3);
    assert_non_null(belay_graph_collection_bytes(graph, "bytes", 1, &size));
    assert_int_equal(size, 0);
    assert_null(belay_graph_collection_bytes(graph, "bytes", 2, &size));
    assert_null(belay_graph_collection_bytes(graph, "ints", 0, &size));
    assert_int_equal(belay_graph_collection_int64(graph, "ints", 1, &integer), 1);
    assert_int_equal(integer, 9000000000);
    assert_int_equal(belay_graph_collection_int64(graph, "ints", 2, &integer), 0);
    assert_int_equal(belay_graph_collection_int64(graph, "none", 0, &integer), 0);
    assert_int_equal(belay_graph_collection_float(graph, "floats", 0, &number), 1);
    assert_true(number == 0.5f);
    assert_int_equal(belay_graph_collection_float(graph, "ints", 0, &number), 0);
    assert_int_equal(belay_graph_collection_kind(graph, "any"), BELAY_COLLECTION_ANY);
    assert_int_equal(belay_graph_collection_size(graph, "any"), 1);
    assert_memory_equal(belay_graph_collection_bytes(graph, "any", 0, &size), "\x0a\x01u", 3);
    belay_graph_free(graph);
}

int main(void) {
#define TEST(name)      cmocka_unit_test_setup_teardown(name, set_up, tear_down)
#define IN_FOLDER(name) cmocka_unit_test_setup_teardown(name, scratch_set_up, scratch_tear_down)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cursor__walks_every_kind_of_field),
        cmocka_unit_test(test_cursor__stops_at_nonsense),
        cmocka_unit_test(test_kind__tells_text_from_damage),
        TEST(test_collections__hold_ops_and_tensors),
        TEST(test_variables__are_counted_once),
        TEST(test_variables__must_fit_the_graph),
        TEST(test_variables__are_trainable_by_their_collection),
        TEST(test_load__refuses_unbound_inputs),
        TEST(test_load__refuses_collections_of_what_is_not_there),
        TEST(test_load__tolerates_odd_collections),
        TEST(test_problems__name_resources_that_nothing_fills),
        TEST(test_problems__name_what_collections_lack_or_have_twice),
        TEST(test_local_init_op__includes_tables),
        TEST(test_graph__lives_as_long_as_somebody_holds_it),
        TEST(test_device__has_one_spelling),
        TEST(test_graph__survives_memory_running_out),
        TEST(test_create_global_step__survives_memory_running_out),
        TEST(test_graph_def__carries_inferred_shapes__MG_03),
        TEST(test_collections__are_read_whatever_their_kind__MG_05),
        IN_FOLDER(test_export__drops_extraneous_savers__MG_29),
        IN_FOLDER(test_load__reads_what_was_written_as_text__MG_04),
        IN_FOLDER(test_export__checks_what_it_is_given),
        IN_FOLDER(test_export__survives_memory_running_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
