"""Verbs on graphs."""

import tensorflow as tf
from tensorflow.python.framework import meta_graph

from values import quoted
from world import verb

tf1 = tf.compat.v1


@verb
def load(w, path, call):
    name = call.get("as", "g")
    meta = meta_graph.read_meta_graph_file(path)
    graph = tf.Graph()
    with graph.as_default():
        meta_graph.import_scoped_meta_graph(meta, clear_devices=call.get("clear_devices", False))
    w.put("graph", name, graph)
    w.metas[name] = meta
    w.names[name] = {op.name for op in graph.get_operations()}


@verb
def collections(w, name, call):
    return sorted(k for k in w.get("graph", name).get_all_collection_keys() if isinstance(k, str) and k[:2] != "__")


@verb
def collection(w, name, call):
    """Kind, and elements where those are names (nodes, variables), numbers or bytes."""
    items = w.graph(call).get_collection(name)
    return {"kind": kind_of(items), "size": len(items), "items": [item_text(i) for i in items]}


def kind_of(items):
    if not items:
        return "none"
    first = items[0]
    if isinstance(first, (bytes, str)) or hasattr(first, "to_proto"):
        return "bytes"
    if isinstance(first, int):
        return "int64"
    if isinstance(first, float):
        return "floats"
    if isinstance(first, (tf.Operation, tf.Tensor)):
        return "nodes"
    return "any"


def item_text(item):
    if isinstance(item, tf.Variable):
        return item.op.name
    if isinstance(item, (tf.Operation, tf.Tensor)):
        return item.name
    if isinstance(item, (bytes, str)):
        return quoted(item)
    if isinstance(item, int):
        return str(item)
    if isinstance(item, float):
        return "%.6g" % item
    return "?"


@verb
def variables(w, name, call):
    graph = w.get("graph", name)
    trainable = {v.op.name for v in graph.get_collection("trainable_variables")}
    result = []
    for key in ("variables", "local_variables"):
        for v in graph.get_collection(key):
            is_resource = hasattr(v, "handle")
            result.append(
                f"{v.op.name} {v.dtype.base_dtype.name}{shape_text(v.shape)}"
                f"{' resource' if is_resource else ' reference'}{' local' if key[0] == 'l' else ''}"
                f"{' trainable' if v.op.name in trainable else ''}"
            )
    return result


def shape_text(shape):
    return "?" if shape.rank is None else str([-1 if d is None else d for d in shape.as_list()]).replace(" ", "")


@verb
def tensor(w, name, call):
    t = w.graph(call).get_tensor_by_name(name)
    return f"{t.dtype.base_dtype.name}{shape_text(t.shape)}"


@verb
def has_op(w, name, call):
    try:
        w.graph(call).get_operation_by_name(name)
        return True
    except KeyError:
        return False


@verb
def signatures(w, name, call):
    result = {}
    for key, signature in w.metas[name].signature_def.items():
        sides = {}
        for side, tensors in (("inputs", signature.inputs), ("outputs", signature.outputs)):
            sides[side] = [
                f"{k} {t.name} {tf.as_dtype(t.dtype).name}{shape_text(tf.TensorShape(t.tensor_shape))}"
                for k, t in sorted(tensors.items())
            ]
        result[key] = sides
    return result


@verb
def add_op(w, name, call):
    with w.get("graph", name).as_default():
        tf.no_op(name="added")


@verb
def is_finalized(w, name, call):
    return w.get("graph", name).finalized


@verb
def create_step(w, name, call):
    tf1.train.create_global_step(w.get("graph", name))


@verb
def step_name(w, name, call):
    step = usable_step(w.get("graph", name))
    return None if step is None else step.op.name


def usable_step(graph):
    with graph.as_default():
        step = tf1.train.get_global_step(graph)
        if step is not None:
            tf1.train.assert_global_step(step)
    return step
