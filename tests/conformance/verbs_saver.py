"""Verbs on savers, state files and checkpoints."""

import tensorflow as tf
from tensorflow.core.protobuf import saver_pb2
from tensorflow.python.checkpoint import checkpoint_management
from tensorflow.python.training import saver as saver_module

from values import text_of
from world import verb

tf1 = tf.compat.v1


SAVER_OPTIONS = "max_to_keep keep_checkpoint_every_n_hours".split()
BUILD_OPTIONS = "sharded allow_empty reshape".split()
NAME_OPTIONS = "pad_step_number save_relative_paths".split()


@verb
def saver(w, name, call):
    """As belay_saver_new(): over the file's SaverDef, the only one of collection `savers`, or else a new sharded one.
    With `build` one is made as by tf.train.Saver()."""
    graph = w.graph(call)
    options = {k: call[k] for k in SAVER_OPTIONS if k in call}
    if options.get("max_to_keep") == "all":
        options["max_to_keep"] = 0
    names = {k: call[k] for k in NAME_OPTIONS if k in call}
    with graph.as_default():
        definition = None if call.get("build") else own_definition(graph, w.metas[call.get("graph", "g")])
        if definition is not None:
            definition = saver_pb2.SaverDef.FromString(definition.SerializeToString())
            for key, value in options.items():
                setattr(definition, key, value)
            made = tf1.train.Saver(saver_def=definition, name=call.get("import_scope"), **names)
        elif call.get("build"):
            options.update({k: call[k] for k in BUILD_OPTIONS if k in call}, var_list=variables_of(graph, call), **names)
            made = tf1.train.Saver(**options)
        else:
            made = tf1.train.Saver(sharded=True, allow_empty=True, **options, **names)
            tf1.add_to_collection(tf1.GraphKeys.SAVERS, made)  # SC-12
    w.put("saver", name, made)
    definition = made.saver_def
    return {
        "empty": bool(made._is_empty),
        "ops": definition and [definition.filename_tensor_name, definition.save_tensor_name, definition.restore_op_name],
    }


def own_definition(graph, meta):
    """The SaverDef that a graph brought, or None."""
    collected = graph.get_collection(tf1.GraphKeys.SAVERS)
    if len(collected) > 1:
        saver_module._get_saver_or_default()  # says that they are too many
    if meta.HasField("saver_def"):
        return meta.saver_def
    return collected[0].saver_def if collected else None


def variables_of(graph, call):
    """What a saver covers: [names] or {key: name}; None: everything."""
    given = call.get("variables")
    if given is None:
        return None
    known = {v.op.name: v for v in graph.get_collection("variables")}
    if isinstance(given, dict):
        return {key: known[name] for key, name in given.items()}
    return [known[name] for name in given]


@verb
def save(w, path, call):
    options = {k: call[k] for k in ("latest_filename", "write_meta_graph", "write_state") if k in call}
    session = w.get("session", call.get("on", "s"))
    with session.graph.as_default():
        return w.get("saver", call.get("with", "v")).save(session, path, global_step=call.get("step"), **options)


@verb
def save_objects(w, path, call):
    """Writes an object-based checkpoint of some variables; only in `before`."""
    session = w.get("session", call.get("on", "s"))
    with session.graph.as_default(), session.as_default():
        variables = {v.op.name: v for v in tf1.global_variables() if v.op.name in call["of"]}
        tf.train.Checkpoint(**variables).save(path)


@verb
def restore(w, path, call):
    session = w.get("session", call.get("on", "s"))
    with session.graph.as_default():
        w.get("saver", call.get("with", "v")).restore(session, path)


@verb
def last(w, name, call):
    return list(w.get("saver", name).last_checkpoints)


@verb
def recover_last(w, paths, call):
    w.get("saver", call.get("with", "v")).recover_last_checkpoints(paths)


@verb
def state(w, directory, call):
    found = tf1.train.get_checkpoint_state(directory, call.get("name"))
    if found is None:
        return None
    return {
        "latest": found.model_checkpoint_path,
        "all": list(found.all_model_checkpoint_paths),
        "timestamps": ["%.6g" % t for t in found.all_model_checkpoint_timestamps],
        "last_preserved": "%.6g" % found.last_preserved_timestamp,
    }


@verb
def write_state(w, directory, call):
    checkpoint_management.update_checkpoint_state_internal(
        directory,
        call["latest"],
        call.get("all", []),
        latest_filename=call.get("name"),
        save_relative_paths=call.get("relative", False),
        all_model_checkpoint_timestamps=call.get("timestamps"),
        last_preserved_timestamp=call.get("last_preserved"),
    )


@verb
def latest(w, directory, call):
    return tf1.train.latest_checkpoint(directory, call.get("name"))


@verb
def exists(w, prefix, call):
    return checkpoint_management.checkpoint_exists(prefix)


@verb
def mtimes(w, prefixes, call):
    return [int(t) for t in checkpoint_management.get_checkpoint_mtimes(prefixes)]


@verb
def remove(w, prefix, call):
    checkpoint_management.remove_checkpoint(prefix)


@verb
def meta_name(w, prefix, call):
    return checkpoint_management.meta_graph_filename(prefix)


@verb
def contents(w, prefix, call):
    reader = tf.train.load_checkpoint(prefix)
    shapes, dtypes = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
    result = []
    for name in sorted(shapes):
        if call.get("values"):
            result.append(f"{name} {text_of(reader.get_tensor(name))}")
        else:
            result.append(f"{name} {dtypes[name].name}{str(list(shapes[name])).replace(' ', '')}")
    return result


@verb
def warm_start(w, prefix, call):
    """init_from_checkpoint, and the initialisers that it changed. Of an imported graph it only knows variables as such."""
    session = w.get("session", call.get("on", "s"))
    assignments = call.get("assignments", [])
    with session.graph.as_default():
        variables = tf1.global_variables()
        known = {v.op.name: v for v in variables}
        pairs = {key: known[name] for key, name in zip(assignments[::2], assignments[1::2])}
        before = [v.initializer for v in variables]
        tf1.train.init_from_checkpoint(prefix, pairs)
        session.run([v.initializer for v, old in zip(variables, before) if v.initializer is not old])
