"""Tiny graphs for conformance scenarios, each made by a named recipe. A scenario names one: "graph": "small".

A name without a recipe here is one of tests/graphs/make_graphs.py. A recipe builds into the default graph; what it
returns, if anything, is the MetaGraphDef to write; otherwise the graph is exported as it stands.
"""

import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "graphs"))

import tensorflow as tf
from google.protobuf import any_pb2
from tensorflow.core.framework import variable_pb2
from tensorflow.python.training import training_util

tf1 = tf.compat.v1
RECIPES = {}


def recipe(function):
    RECIPES[function.__name__] = function
    return function


def write(name, folder):
    """Makes one graph in `folder`; gives its path, NAME.meta or a SavedModel folder."""
    if name not in RECIPES:
        return write_shared(name, folder)
    path = folder / f"{name}.meta"
    with tf.Graph().as_default() as graph:
        meta = RECIPES[name]()
        if meta is None:
            meta = tf1.train.export_meta_graph(graph=graph)
    path.write_bytes(meta.SerializeToString())
    return path


def write_shared(name, folder):
    import make_graphs

    for make, entry in make_graphs.GRAPHS:
        if entry["name"] != name:
            continue
        path = folder / entry["path"]
        if entry["kind"] == "meta":
            with tf.Graph().as_default():
                make(path)
        else:
            make(path)
        return path
    raise KeyError(f"no recipe {name!r} here, and no such graph in make_graphs.py")


# ------------------------------------------------------------------------------------------- parts


def variable(name, value, dtype=tf.float32, resource=True, trainable=True, **more):
    return tf1.get_variable(
        name, initializer=tf.constant(value, dtype), use_resource=resource, trainable=trainable, **more
    )


def body(resource=True, w=(1.0, 2.0), dtype=tf.float32, extra=False, step=True):
    """Variables w [2] and b []; ops init, train (counts the step), grow (adds to w and b); x -> y = x * w + b."""
    with tf1.variable_scope("", use_resource=resource):
        if step:
            counter = tf1.train.get_or_create_global_step()
    first = variable("w", list(w), dtype, resource)
    second = variable("b", 3.0, tf.float32, resource)
    if extra:
        variable("extra", [7, 8, 9], tf.int32, resource)
    x = tf1.placeholder(tf.float32, [None, len(w)], name="x")
    tf.add(x * tf.cast(first, tf.float32), second, name="y")
    tf.add(tf1.placeholder_with_default(tf.constant(5.0), [], name="given"), second, name="given_b")
    tf.constant([[1, 2, 3], [4, 5, 6]], tf.int64, name="numbers")
    tf.constant([b"one", b"", b"\x00\xff"], name="words")
    tf.group(tf1.assign_add(first, [1] * len(w)), tf1.assign_add(second, 1.0), name="grow")
    if step:
        tf.group(tf1.assign_add(counter, 1), name="train")
    tf.group(tf1.global_variables_initializer(), name="init")


def with_saver(**options):
    """Exports through a saver: its SaverDef is at the top level, and in collection `savers`."""
    saver = tf1.train.Saver(**options)
    tf1.add_to_collection(tf1.GraphKeys.SAVERS, saver)
    return saver.export_meta_graph()


# ---------------------------------------------------------------------------- variables and savers


@recipe
def small():
    body()


@recipe
def small_saver():
    body()
    return with_saver()


@recipe
def small_sharded():
    body()
    return with_saver(sharded=True)


@recipe
def small_ref():
    body(resource=False)
    return with_saver()


@recipe
def small_keep2():
    body()
    return with_saver(max_to_keep=2)


@recipe
def small_keep_all():
    body()
    return with_saver(max_to_keep=None)


@recipe
def small_keep_hours():
    body()
    return with_saver(max_to_keep=1, keep_checkpoint_every_n_hours=2)


@recipe
def small_extra():
    """One variable more."""
    body(extra=True)
    return with_saver()


@recipe
def small_wide():
    """w has another shape."""
    body(w=(1.0, 2.0, 3.0))
    return with_saver()


@recipe
def small_wide_ref():
    body(w=(1.0, 2.0, 3.0), resource=False)
    return with_saver()


@recipe
def small_double():
    """w has another type."""
    body(dtype=tf.float64)
    return with_saver()


@recipe
def small_partial():
    """The saver covers w alone, under another name."""
    body()
    w = next(v for v in tf1.global_variables() if v.op.name == "w")
    return with_saver(var_list={"renamed": w})


@recipe
def two_savers():
    body()
    for _ in range(2):
        tf1.add_to_collection(tf1.GraphKeys.SAVERS, tf1.train.Saver())


@recipe
def scoped_saver():
    """Everything lies in the scope `deep`, and the SaverDef does not say so."""
    with tf1.variable_scope("deep"):
        variable("w", [1.0, 2.0])
    with tf.name_scope("deep/"):
        meta = with_saver()
    tf.group(tf1.global_variables_initializer(), name="init")
    meta = tf1.train.export_meta_graph(saver_def=meta.saver_def)
    for field in ("filename_tensor_name", "save_tensor_name", "restore_op_name"):
        setattr(meta.saver_def, field, getattr(meta.saver_def, field).removeprefix("deep/"))
    del meta.collection_def["savers"]
    return meta


@recipe
def second_saver():
    """Two savers were built; the file's own, and the only one in the collection, is the second (save_1)."""
    body()
    tf1.train.Saver()
    return with_saver(max_to_keep=3)


@recipe
def saver_without_save():
    """The SaverDef names no save tensor."""
    body()
    meta = with_saver()
    meta.saver_def.ClearField("save_tensor_name")
    del meta.collection_def["savers"]
    return meta


@recipe
def saver_without_restore():
    body()
    meta = with_saver()
    meta.saver_def.ClearField("restore_op_name")
    del meta.collection_def["savers"]
    return meta


@recipe
def small_v1():
    """A saver that writes the old format."""
    body()
    return with_saver(write_version=tf1.train.SaverDef.V1)


@recipe
def small_column():
    """w is [2, 1]."""
    first = tf1.get_variable("w", initializer=tf.constant([[1.0], [2.0]]))
    variable("b", 3.0)
    tf1.train.get_or_create_global_step()
    tf.identity(first, name="w_now")
    tf.group(tf1.global_variables_initializer(), name="init")


@recipe
def small_reshape():
    """The same with a saver that reshapes what it restores."""
    small_column()
    return with_saver(reshape=True)


@recipe
def saver_def_only():
    """A SaverDef at the top level, and none in the collection."""
    body()
    return tf1.train.Saver(max_to_keep=1).export_meta_graph()


@recipe
def two_places():
    """Variables on one device, called in two ways."""
    with tf.device("/cpu:0"):
        variable("first", [1.0, 2.0])
    with tf.device("/job:localhost/replica:0/task:0/device:CPU:0"):
        variable("second", 3.0)
    tf.group(tf1.global_variables_initializer(), name="init")


@recipe
def two_devices():
    """The same with a sharded saver: it writes two files."""
    two_places()
    return with_saver(sharded=True)


@recipe
def odd_variables():
    """Variables of many types, scalars, empty ones, and names with slashes."""
    with tf1.variable_scope("deep/er"):
        variable("scalar", 4.5, tf.float64)
    variable("empty", [], tf.float32)
    variable("flag", [True, False], tf.bool)
    variable("bytes", [[1], [255]], tf.uint8)
    variable("half", [0.5, -2.0], tf.float16)
    variable("brain", [1.5], tf.bfloat16)
    variable("text", [b"a\x00b", b"", b"\xc3\xa9"], tf.string, trainable=False)
    variable("big", [2**53 + 1, -(2**60)], tf.int64)
    variable("pair", [1 + 2j], tf.complex64)
    variable("small", [-7], tf.int8)
    tf.group(tf1.global_variables_initializer(), name="init")
    return with_saver()


@recipe
def no_variables():
    tf.constant([1.0, 2.0], name="numbers")
    tf.no_op(name="init")


@recipe
def local_only():
    """A local variable and no global one."""
    tf1.get_variable("local", initializer=1.0, collections=[tf1.GraphKeys.LOCAL_VARIABLES], trainable=False)
    tf.group(tf1.local_variables_initializer(), name="init_local")


@recipe
def empty():
    pass


# ---------------------------------------------------------------------------------------- sessions


@recipe
def every_dtype():
    """For each type a placeholder NAME_in and its identity NAME."""
    types = "float16 bfloat16 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64 bool complex64"
    for name in types.split() + ["complex128", "string"]:
        tf.identity(tf1.placeholder(tf.as_dtype(name), None, name=f"{name}_in"), name=name)
    tf.identity(tf1.placeholder(tf.float32, [2, 3], name="two_by_three"), name="fixed")
    tf.identity(tf1.placeholder(tf.int32, [], name="one"), name="one_out")
    tf.identity(tf1.placeholder(tf.float32, [None, 3], name="rows"), name="rows_out")


@recipe
def errors():
    """Ops that fail, each with its own code, when somebody runs them; `waits` never returns."""
    tf1.placeholder(tf.float32, None, name="unfed")
    tf.raw_ops.Assert(condition=tf.constant(False), data=[tf.constant("no good")], name="asserts")
    tf.raw_ops.ReadFile(filename="/nonexistent/file", name="reads")
    queue = tf1.FIFOQueue(2, [tf.float32], shapes=[[]], shared_name="errors_queue", name="queue")
    queue.enqueue(1.0, name="fill")
    queue.close(name="shut")
    tf.identity(queue.dequeue(), name="waits")
    tf.reshape(tf1.placeholder(tf.float32, None, name="flat"), [2, 2], name="shaped")
    tf.raw_ops.CheckNumerics(tensor=tf.constant(float("nan")), message="numbers", name="checks")
    variable("late", 1.0)
    variable("late_ref", 1.0, resource=False)
    values = tf.constant([1.0, 2.0])
    tf.gather(values, tf1.placeholder(tf.int32, [], name="at"), name="gathered")
    missing = tf1.get_variable("held", initializer=1.0)
    tf1.get_default_graph().prevent_fetching(tf.identity(missing, name="kept").op)
    tf1.get_default_graph().prevent_feeding(tf.constant(1.0, name="fixed"))


@recipe
def steps_and_parts():
    """a + b and (a + b) * c, for partial runs."""
    a, b, c = (tf1.placeholder(tf.float32, [], name=name) for name in "abc")
    total = tf.add(a, b, name="total")
    tf.multiply(total, c, name="product")
    tf.group(total, name="act")


# ---------------------------------------------------------------------------------- session manager


@recipe
def ready():
    """Ops that say whether a model is ready, in every way that there is."""
    body()
    local = tf1.get_variable(
        "local", initializer=10.0, collections=[tf1.GraphKeys.LOCAL_VARIABLES], trainable=False, use_resource=True
    )
    tf.group(tf1.local_variables_initializer(), name="init_local")
    offset = tf1.placeholder_with_default(tf.constant(0.0), [], name="offset")
    tf.group(tf1.assign(local, 10.0 + offset), name="init_local_fed")
    tf.group(tf1.assign_add(local, 1.0), name="grow_local")
    b = next(v for v in tf1.global_variables() if v.op.name == "b")
    w = next(v for v in tf1.global_variables() if v.op.name == "w")
    tf.group(tf1.assign(local, b + 100.0), name="init_local_from_b")
    tf.group(tf1.assign(b, 20.0 + offset), tf1.assign(w, [5.0, 6.0]), name="init_fed")
    tf.group(tf1.assign(b, tf1.placeholder(tf.float32, [], name="needed")), name="init_needs")
    tf.identity(tf1.report_uninitialized_variables(tf1.global_variables()), name="missing")
    tf.identity(tf1.report_uninitialized_variables(), name="missing_all")
    tf.constant([], tf.string, name="none_missing")
    tf.constant(["a", "bc/d"], name="two_missing")
    tf.constant("one", name="scalar_missing")
    tf.constant([1, 2], tf.int32, name="int32_ready")
    tf.constant([0, 0], tf.int32, name="int32_zeros")
    tf.constant([[]], tf.float32, name="no_floats")
    tf.no_op(name="op_ready")
    tf.identity(w, name="needs_w")
    tf.group(tf.identity(w), name="op_needs_w")
    table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(["k"], [1.0]), -1.0)
    tf.identity(table.lookup(tf.constant("k")), name="needs_table")  # FAILED_PRECONDITION without "uninitialized"
    tf.identity(tf.reshape(tf1.placeholder_with_default(tf.constant([1.0]), None), [2]), name="breaks")
    tf.raw_ops.Assert(condition=tf.constant(False), data=[tf.constant("broken")], name="op_breaks")
    queue = tf1.FIFOQueue(1, [tf.float32], shapes=[[]], name="queue")
    tf.identity(queue.dequeue(), name="waits")
    return with_saver()


@recipe
def initializers():
    """Collection saved_model_initializers: an op that sets b, before a checkpoint is restored."""
    body()
    b = next(v for v in tf1.global_variables() if v.op.name == "b")
    w = next(v for v in tf1.global_variables() if v.op.name == "w")
    tf1.add_to_collection("saved_model_initializers", tf.group(tf1.assign(b, 77.0), name="from_saved_model"))
    tf.group(tf1.assign(w, [8.0, 9.0]), name="init_w")
    return with_saver()


# ------------------------------------------------------------------------------- scaffold, collections


@recipe
def scaffolded():
    """Every piece of a scaffold is in its collection."""
    body()
    keys = tf1.GraphKeys
    tf1.add_to_collection(keys.INIT_OP, tf1.get_default_graph().get_operation_by_name("init"))
    tf1.add_to_collection(keys.READY_OP, tf1.report_uninitialized_variables())
    tf1.add_to_collection(keys.READY_FOR_LOCAL_INIT_OP, tf.constant([], tf.string, name="go"))
    tf1.add_to_collection(keys.LOCAL_INIT_OP, tf.no_op(name="local"))
    tf1.add_to_collection(keys.SUMMARY_OP, tf.constant("summary", name="told"))
    return with_saver()


def twice(key):
    body()
    for name in ("first", "second"):
        tf1.add_to_collection(key, tf.constant([], tf.string, name=name) if "ready" in key else tf.no_op(name=name))


@recipe
def two_init_ops():
    twice(tf1.GraphKeys.INIT_OP)


@recipe
def two_ready_ops():
    twice(tf1.GraphKeys.READY_OP)


@recipe
def two_ready_for_local_init_ops():
    twice(tf1.GraphKeys.READY_FOR_LOCAL_INIT_OP)


@recipe
def two_local_init_ops():
    twice(tf1.GraphKeys.LOCAL_INIT_OP)


@recipe
def two_summary_ops():
    body()
    for name in ("first", "second"):
        tf1.add_to_collection(tf1.GraphKeys.SUMMARY_OP, tf.constant("", name=name))


@recipe
def with_locals():
    """A local variable, a table and summaries; no piece of a scaffold is there yet."""
    body()
    tf1.get_variable(
        "local", initializer=10.0, collections=[tf1.GraphKeys.LOCAL_VARIABLES], trainable=False, use_resource=True
    )
    tf1.get_variable(
        "local_ref", initializer=11.0, collections=[tf1.GraphKeys.LOCAL_VARIABLES], trainable=False, use_resource=False
    )
    table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(["k"], [1.5]), -1.0)
    tf.identity(table.lookup(tf.constant(["k", "other"])), name="looked_up")
    tf1.summary.scalar("first", tf.constant(1.0))
    tf1.summary.scalar("second", tf.constant(2.0))


@recipe
def ref_not_collected():
    """Reference variables that no collection names."""
    tf1.get_variable("loose", initializer=1.0, collections=[], use_resource=False)
    tf1.get_variable("free", initializer=2.0, collections=[], use_resource=False)
    tf.no_op(name="noop")


@recipe
def resource_not_collected():
    tf1.get_variable("loose", initializer=1.0, collections=[], use_resource=True)
    tf.no_op(name="noop")


@recipe
def kinds():
    """Collections of every kind, and what users put there."""
    body()
    graph = tf1.get_default_graph()
    add = tf1.add_to_collection
    for name in ("first", "second"):
        add("tensors", tf.constant(1.0, name=name))
    add("ops", graph.get_operation_by_name("train"))
    add("mixed_nodes", graph.get_operation_by_name("train"))
    add("mixed_nodes", graph.get_tensor_by_name("y:0"))
    for text in (b"bytes", "text", b"\x00\xff"):
        add("texts", text)
    for number in (1, -2, 2**40):
        add("integers", number)
    for number in (0.5, -1.5):
        add("floats", number)
    message = any_pb2.Any(type_url="type.example.com/nothing", value=b"\x08\x01")
    add("anything", message)
    add("not_exported", object())
    add(("a", "tuple"), 1)
    add("mixed_numbers", 1)
    add("mixed_numbers", "one")
    tf1.add_to_collection(tf1.GraphKeys.LOSSES, tf.constant(0.25, name="a_loss"))
    tf1.add_to_collection(tf1.GraphKeys.TRAIN_OP, graph.get_operation_by_name("train"))


@recipe
def unset_kind():
    """A collection whose kind is not set."""
    body()
    meta = tf1.train.export_meta_graph()
    meta.collection_def["unset"].SetInParent()
    meta.collection_def["set"].node_list.value.append("y:0")
    return meta


@recipe
def unbound():
    """Inputs that whoever imports it must connect."""
    body()
    meta = tf1.train.export_meta_graph()
    meta.collection_def["unbound_inputs"].bytes_list.value.append(b"x:0")
    return meta


@recipe
def variables_as_nodes():
    """A very old file: the collection `variables` names nodes."""
    body(resource=False)
    meta = tf1.train.export_meta_graph()
    for key in ("variables", "trainable_variables", "global_step"):
        del meta.collection_def[key]
        names = {"variables": ["w:0", "b:0", "global_step:0"], "trainable_variables": ["w:0", "b:0"]}
        meta.collection_def[key].node_list.value.extend(names.get(key, ["global_step:0"]))
    return meta


@recipe
def trainable_by_collection():
    """An exporter older than 1.9: VariableDef does not say what is trainable."""
    body()
    variable("still", 1.0, trainable=False)
    meta = tf1.train.export_meta_graph()
    for key in ("variables", "trainable_variables", "global_step"):
        values = meta.collection_def[key].bytes_list.value
        for i, value in enumerate(values):
            definition = variable_pb2.VariableDef.FromString(value)
            definition.ClearField("trainable")
            values[i] = definition.SerializeToString()
    return meta


@recipe
def missing_node():
    """A collection names a node that is not in the graph."""
    body()
    meta = tf1.train.export_meta_graph()
    meta.collection_def["ghosts"].node_list.value.append("ghost:0")
    return meta


@recipe
def devices():
    """Nodes placed on devices that are not there."""
    with tf.device("/job:worker/task:3/device:GPU:7"):
        tf.constant(2.0, name="far")
    with tf.device("/cpu:0"):
        tf.constant(3.0, name="near")


@recipe
def queues():
    """A queue runner of two enqueue ops."""
    queue = tf1.FIFOQueue(4, [tf.float32], shapes=[[]], name="numbers")
    enqueue = queue.enqueue(1.0, name="put")
    runner = tf1.train.QueueRunner(queue, [enqueue, enqueue])
    tf1.train.add_queue_runner(runner)
    tf.identity(queue.dequeue(), name="got")


@recipe
def signatures():
    body()
    meta = tf1.train.export_meta_graph()
    build = tf1.saved_model.build_tensor_info
    graph = tf1.get_default_graph()
    signature = meta.signature_def["serve"]
    signature.inputs["rows"].CopyFrom(build(graph.get_tensor_by_name("x:0")))
    signature.outputs["result"].CopyFrom(build(graph.get_tensor_by_name("y:0")))
    signature.outputs["all"].CopyFrom(build(graph.get_tensor_by_name("numbers:0")))
    return meta


def table_in_parts():
    tf1.get_variable(
        "table", initializer=tf.reshape(tf.range(20.0), [5, 4]), partitioner=tf1.fixed_size_partitioner(3)
    )
    tf.group(tf1.global_variables_initializer(), name="init")


@recipe
def partitions():
    """A variable in three parts."""
    table_in_parts()
    return with_saver()


@recipe
def partitions_reshape():
    """The same with a saver that reshapes what it restores."""
    table_in_parts()
    return with_saver(reshape=True)


@recipe
def table_flat():
    """The same variable in one part and one dimension."""
    tf1.get_variable("table", initializer=tf.range(20.0))
    tf.group(tf1.global_variables_initializer(), name="init")
    return with_saver()


# ------------------------------------------------------------------------------------- global step


def step_body(step):
    tf.group(tf1.assign_add(step, tf.ones_like(step)), name="train")
    tf.group(tf1.global_variables_initializer(), name="init")


def with_step_node(name):
    """Names a tensor in collection `global_step`, which exporting by itself would not do."""
    meta = tf1.train.export_meta_graph()
    meta.collection_def["global_step"].node_list.value.append(name)
    return meta


@recipe
def step_resource():
    step_body(tf1.train.create_global_step())


@recipe
def step_ref():
    with tf1.variable_scope("", use_resource=False):
        step_body(tf1.train.create_global_step())


def named_step(resource=True, dtype=tf.int64, shape=(), collect=False, name="global_step"):
    step = tf1.get_variable(name, shape, dtype, tf1.zeros_initializer(), trainable=False, use_resource=resource)
    if collect:
        tf1.add_to_collection(tf1.GraphKeys.GLOBAL_STEP, step)
    return step


@recipe
def step_by_name_ref():
    """Not in the collection; found by its name."""
    step_body(named_step(resource=False))


@recipe
def step_by_name_resource():
    step_body(named_step())


@recipe
def step_by_name_constant():
    """A plain tensor of that name."""
    tf.constant(41, tf.int64, name="global_step")
    tf.no_op(name="init")


@recipe
def step_other_name():
    """In the collection, under another name."""
    step_body(named_step(collect=True, name="steps_done"))


@recipe
def step_int32():
    step_body(named_step(dtype=tf.int32, collect=True))


@recipe
def step_float():
    step_body(named_step(dtype=tf.float32, collect=True))


@recipe
def step_vector():
    step_body(named_step(shape=[2], collect=True))


@recipe
def step_unknown_shape():
    tf1.placeholder_with_default(tf.constant(6, tf.int64), None, name="given_step")
    tf.no_op(name="init")
    return with_step_node("given_step:0")


@recipe
def step_tensor():
    """The collection holds a tensor, not a variable."""
    tf.constant(17, tf.int64, name="fixed_step")
    tf.no_op(name="init")
    return with_step_node("fixed_step:0")


@recipe
def two_steps():
    named_step(collect=True)
    named_step(collect=True, name="other_step")
    tf.group(tf1.global_variables_initializer(), name="init")


@recipe
def two_step_reads():
    step = tf1.train.create_global_step()
    for i in range(2):
        tf1.add_to_collection("global_step_read_op_cache", tf.identity(step, name=f"read_{i}"))
    step_body(step)


@recipe
def step_from_seven():
    """The step's initial value is not 0."""
    step = tf1.get_variable("global_step", initializer=tf.constant(7, tf.int64), trainable=False)
    tf1.add_to_collection(tf1.GraphKeys.GLOBAL_STEP, step)
    step_body(step)


@recipe
def step_cached():
    """A read that hooks use is there already."""
    step = tf1.train.create_global_step()
    training_util._get_or_create_global_step_read()
    step_body(step)


# ------------------------------------------------------------------------------ monitored sessions


def monitored(resource=True, step=True, queue=False, input_size=0):
    """A graph whose steps and failures scenarios direct: `train` counts the step, `after` and `w_after` are read behind
    it; x and z are for feeding, `sum` is their sum, `loss` the root of x, and `checked` fails where x is not finite. Its
    init, ready and local init ops have those names."""
    with tf1.variable_scope("", use_resource=resource):
        counter = tf1.train.get_or_create_global_step() if step else variable("counted", 0, tf.int64, resource)
    w = variable("w", [1.0, 2.0], tf.float32, resource)
    x, z = (tf1.placeholder_with_default(tf.constant(v), [], name=n) for n, v in (("x", 5.0), ("z", 7.0)))
    tf.add(x, z, name="sum")
    tf.sqrt(x, name="loss")
    tf.raw_ops.CheckNumerics(tensor=x, message="x", name="checked")
    needs = []
    if queue:
        source = tf1.FIFOQueue(3, [tf.float32], shapes=[[]], shared_name="source", name="source")
        enqueue = source.enqueue(1.0, name="enqueue")
        tf1.train.add_queue_runner(tf1.train.QueueRunner(source, [enqueue]))
        needs.append(source.dequeue(name="item"))
    if input_size:
        iterator = tf1.data.make_initializable_iterator(tf.data.Dataset.range(input_size))
        tf1.add_to_collection(tf1.GraphKeys.TABLE_INITIALIZERS, iterator.initializer)
        needs.append(tf.identity(iterator.get_next(), name="item"))
    with tf.control_dependencies(needs):
        count = tf1.assign_add(counter, 1)
        grow = tf1.assign_add(w, [1.0, 1.0])
    train = tf.group(count, grow, name="train")
    with tf.control_dependencies([train]):
        tf.identity(counter.read_value() if resource else counter + 0, name="after")
        tf.identity(w.read_value() if resource else w + 0.0, name="w_after")
    initializers = [v.initializer for v in tf1.global_variables()]
    tf1.add_to_collection(tf1.GraphKeys.INIT_OP, tf.group(initializers, name="init"))
    tf1.add_to_collection(tf1.GraphKeys.LOCAL_INIT_OP, tf.group(tf1.tables_initializer(), name="local_init"))
    tf1.add_to_collection(tf1.GraphKeys.READY_OP, tf1.report_uninitialized_variables(name="ready"))
    return with_saver()


@recipe
def loop():
    return monitored()


@recipe
def loop_ref():
    return monitored(resource=False)


@recipe
def loop_no_step():
    return monitored(step=False)


@recipe
def loop_queue():
    return monitored(queue=True)


@recipe
def loop_input():
    """Its input ends after four steps."""
    return monitored(input_size=4)
