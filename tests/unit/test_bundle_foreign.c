/* What other programs leave: checkpoints of the old V1 format, and what tf.train.Checkpoint says of
 * its objects. Damage and lack of memory are told apart, and nothing leaks. */
#include "base/error.h"
#include "base/file.h"
#include "checkpoint/saver_impl.h"
#include "failing_alloc.h"
#include "scratch.h"
#include "table_file.h"
#include "wire/checkpoint.pb-c.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- the old format ---- */

struct v1_tensor {
    const char *name;
    int64_t dims[2];
    size_t rank;
};

/* A file of the old format that says that it holds these. */
static bly_buf v1_file(const struct v1_tensor *tensors, size_t count) {
    Bly__SavedTensorSlices slices = BLY__SAVED_TENSOR_SLICES__INIT;
    Bly__SavedTensorSliceMeta meta = BLY__SAVED_TENSOR_SLICE_META__INIT;
    Bly__SavedSliceMeta items[8], *pointers[8];
    Bly__TensorShapeProto shapes[8];
    Bly__TensorShapeProto__Dim dims[8][2], *dim_pointers[8][2];
    uint8_t bytes[1024];
    assert_true(count <= 8);
    for (size_t i = 0; i < count; i++) {
        bly__saved_slice_meta__init(&items[i]);
        bly__tensor_shape_proto__init(&shapes[i]);
        for (size_t d = 0; d < tensors[i].rank; d++) {
            bly__tensor_shape_proto__dim__init(&dims[i][d]);
            dims[i][d].size = tensors[i].dims[d];
            dim_pointers[i][d] = &dims[i][d];
        }
        shapes[i].dim = dim_pointers[i];
        shapes[i].n_dim = tensors[i].rank;
        items[i].name = (char *)(uintptr_t)tensors[i].name;
        items[i].shape = &shapes[i];
        items[i].type = BELAY_FLOAT;
        pointers[i] = &items[i];
    }
    meta.tensor = pointers;
    meta.n_tensor = count;
    slices.meta = &meta;
    bly_buf block = BLY_BUF_INIT;
    size_t len = bly__saved_tensor_slices__pack(&slices, bytes);
    table_put_entry(&block, "", 0, bytes, len);
    table_put_entry(&block, "value", 5, "12345678", 8);
    table_end_block(&block);
    bly_buf file = table_file_of(block.data, block.len);
    bly_buf_free(&block);
    return file;
}

static const struct v1_tensor two[] = {{"w", {2, 3}, 2}, {"b", {0}, 0}};

static const char *write_v1(void **state, const bly_buf *file, size_t len) {
    const char *path = scratch_path(state, "v1");
    assert_int_equal(bly_file_write_atomic(path, file->data, len, NULL), BELAY_OK);
    return path;
}

/* SV-48 */
static void test_bundle_v1__says_what_it_holds_and_survives_failing_allocations(void **state) {
    bly_buf file = v1_file(two, 2);
    const char *path = write_v1(state, &file, file.len);
    FAILING_ALLOC(n) {
        BLY_LOCAL_ERROR(err);
        bly_bundle *bundle = bly_bundle_load_v1(path, &err);
        int hit = failing_alloc_hit();
        assert_int_equal(bundle == NULL, hit);
        assert_int_equal(err.code, hit ? BELAY_RESOURCE_EXHAUSTED : BELAY_OK);
        if (bundle) {
            assert_int_equal(bly_bundle_count(bundle), 2);
            assert_int_equal(bly_bundle_find(bundle, "w")->elements, 6);
            assert_int_equal(bly_bundle_find(bundle, "b")->rank, 0);
            assert_null(bly_bundle_find(bundle, "c"));
        }
        bly_bundle_free(bundle);
    }
    bly_buf_free(&file);
}

static void assert_v1_refused(const char *path, const char *what, size_t at) {
    BLY_LOCAL_ERROR(err);
    bly_bundle *bundle = bly_bundle_load_v1(path, &err);
    if (bundle || (err.code != BELAY_DATA_LOSS && err.code != BELAY_UNIMPLEMENTED))
        fail_msg("%s %zu: %s", what, at, bundle ? "not noticed" : err.message);
    bly_bundle_free(bundle);
}

/* SV-48: the header's bytes are under a checksum, and so are the values'. */
static void test_bundle_v1__refuses_every_file_that_is_cut_or_changed(void **state) {
    bly_buf file = v1_file(two, 2);
    size_t covered = file.len - 48; /* the footer has bytes that mean nothing */
    for (size_t len = 0; len < file.len; len++)
        assert_v1_refused(write_v1(state, &file, len), "cut at", len);
    for (size_t at = 0; at < covered; at++) {
        file.data[at] = (char)(file.data[at] ^ 0x10);
        assert_v1_refused(write_v1(state, &file, file.len), "byte", at);
        file.data[at] = (char)(file.data[at] ^ 0x10);
    }
    bly_buf_free(&file);
}

/* SV-48 */
static void test_bundle_v1__refuses_what_makes_no_sense(void **state) {
    static const struct v1_tensor twice[] = {{"w", {2, 3}, 2}, {"w", {0}, 0}};
    static const struct v1_tensor negative[] = {{"w", {-2, 3}, 2}};
    static const struct v1_tensor huge[] = {{"w", {INT64_MAX, INT64_MAX}, 2}};
    static const struct {
        const struct v1_tensor *tensors;
        size_t count;
        const char *part;
    } cases[] = {{twice, 2, "twice"}, {negative, 1, "shape"}, {huge, 1, "shape"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        BLY_LOCAL_ERROR(err);
        bly_buf file = v1_file(cases[i].tensors, cases[i].count);
        assert_null(bly_bundle_load_v1(write_v1(state, &file, file.len), &err));
        assert_int_equal(err.code, BELAY_DATA_LOSS);
        assert_non_null(strstr(err.message, cases[i].part));
        bly_buf_free(&file);
    }
}

/* ---- objects ---- */

/* Two objects, with two attributes and one; one of them was never in a graph. */
static size_t pack_objects(uint8_t *bytes) {
    Bly__TrackableObjectGraph graph = BLY__TRACKABLE_OBJECT_GRAPH__INIT;
    Bly__TrackableObjectGraph__TrackableObject objects[2], *object_pointers[2];
    Bly__TrackableObjectGraph__SerializedTensor tensors[3], *pointers[3];
    static const char *const names[] = {"w", "", "b"};
    static const char *const keys[] = {"model/w/.ATTRIBUTES/VARIABLE_VALUE", "counter",
                                       "model/b/.ATTRIBUTES/VARIABLE_VALUE"};
    for (size_t i = 0; i < 3; i++) {
        bly__trackable_object_graph__serialized_tensor__init(&tensors[i]);
        tensors[i].full_name = (char *)(uintptr_t)names[i];
        tensors[i].checkpoint_key = (char *)(uintptr_t)keys[i];
        pointers[i] = &tensors[i];
    }
    for (size_t i = 0; i < 2; i++) {
        bly__trackable_object_graph__trackable_object__init(&objects[i]);
        objects[i].attributes = &pointers[2 * i];
        objects[i].n_attributes = 2 - i;
        object_pointers[i] = &objects[i];
    }
    graph.nodes = object_pointers;
    graph.n_nodes = 2;
    return bly__trackable_object_graph__pack(&graph, bytes);
}

/* SV-44: lack of memory is not damage. */
static void test_object_map__finds_keys_and_survives_failing_allocations(void **state) {
    uint8_t bytes[512];
    size_t len = pack_objects(bytes);
    (void)state;
    FAILING_ALLOC(n) {
        BLY_LOCAL_ERROR(err);
        bly_object_map map = {0};
        belay_code code = bly_object_map_read(&map, "m", bytes, len, &err);
        int hit = failing_alloc_hit();
        assert_int_equal(code, hit ? BELAY_RESOURCE_EXHAUSTED : BELAY_OK);
        assert_int_equal(err.code, code);
        if (!hit) {
            assert_int_equal(map.count, 2);
            assert_string_equal(bly_object_map_find(&map, "b"),
                                "model/b/.ATTRIBUTES/VARIABLE_VALUE");
            assert_null(bly_object_map_find(&map, "counter"));
        }
        bly_object_map_free(&map);
    }
}

/* SV-44 */
static void test_object_map__refuses_what_is_cut_off(void **state) {
    uint8_t bytes[512];
    size_t len = pack_objects(bytes), refused = 0;
    (void)state;
    for (size_t cut = 1; cut < len; cut++) {
        BLY_LOCAL_ERROR(err);
        bly_object_map map = {0};
        belay_code code = bly_object_map_read(&map, "m", bytes, cut, &err);
        if (code != BELAY_OK) {
            assert_int_equal(code, BELAY_DATA_LOSS);
            assert_non_null(strstr(err.message, "m: its _CHECKPOINTABLE_OBJECT_GRAPH"));
            refused++;
        }
        bly_object_map_free(&map);
    }
    assert_int_equal(refused, len - 2); /* between two objects the rest is whole */
}

#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, scratch_set_up, scratch_tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        IN_FOLDER(test_bundle_v1__says_what_it_holds_and_survives_failing_allocations),
        IN_FOLDER(test_bundle_v1__refuses_every_file_that_is_cut_or_changed),
        IN_FOLDER(test_bundle_v1__refuses_what_makes_no_sense),
        cmocka_unit_test(test_object_map__finds_keys_and_survives_failing_allocations),
        cmocka_unit_test(test_object_map__refuses_what_is_cut_off),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
