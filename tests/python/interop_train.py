"""The other half of test_training_session.c: python3 interop_train.py GRAPHS WORK NAME...

For each NAME (a graph of tests/graphs, without ".meta"), belay has trained it in WORK/NAME for three steps, and left the
values of its marker in WORK/NAME.txt where it has one. Checks that Python reads all of it, trains on from belay's
meta graph, and leaves two steps more for belay to go on from (no_step.meta, whose steps belay counts, stays as it is).
"""

import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import numpy as np
import tensorflow as tf

tf1 = tf.compat.v1
tf1.logging.set_verbosity(tf1.logging.ERROR)
ROWS = 8


def feeds(graph):
    """Something to feed to each placeholder that the graph's step needs."""
    result = {}
    for op in graph.get_operations():
        if op.type != "Placeholder" or op.name not in ("x", "y", "ids"):
            continue
        shape = [ROWS] + op.outputs[0].shape.as_list()[1:]
        result[op.outputs[0]] = np.ones(shape, op.outputs[0].dtype.as_numpy_dtype)
    return result


def marker():
    """The marker's value in the default graph; None where it has none."""
    return next((v.value() for v in tf1.global_variables() if v.op.name == "marker"), None)


def check_marker(work, name, session, value):
    if value is not None:
        expected = [float(word) for word in (work / f"{name}.txt").read_text().split()]
        np.testing.assert_allclose(session.run(value), expected, rtol=1e-6)


def check_files(folder):
    """What belay wrote is what TensorFlow's own tools expect to find."""
    state = tf.train.get_checkpoint_state(str(folder))
    latest = tf.train.latest_checkpoint(str(folder))
    assert latest == str(folder / "model.ckpt-3"), latest
    assert state.model_checkpoint_path == latest
    assert [os.path.basename(p) for p in state.all_model_checkpoint_paths] == [
        "model.ckpt-0",
        "model.ckpt-2",
        "model.ckpt-3",
    ]
    reader = tf.train.load_checkpoint(latest)
    assert reader.get_tensor("global_step") == 3
    for key in reader.get_variable_to_shape_map():
        reader.get_tensor(key)
    return latest


def check_graph(graphs, work, name, latest):
    # Python's own saver, over the graph as Python exported it.
    own = graphs / f"{name}.meta"
    with tf.Graph().as_default(), tf1.Session() as session:
        tf1.train.import_meta_graph(str(own))
        if tf1.global_variables():
            tf1.train.Saver(tf1.global_variables()).restore(session, latest)
            check_marker(work, name, session, marker())
    # belay's meta graph, with the saver that it names.
    with tf.Graph().as_default() as graph, tf1.Session() as session:
        saver = tf1.train.import_meta_graph(latest + ".meta")
        saver.restore(session, latest)
        check_marker(work, name, session, marker())
        assert session.run(tf1.train.get_global_step(graph)) == 3
        assert not session.run(tf1.report_uninitialized_variables(tf1.global_variables())).size
        saver.save(session, str(work / "python" / name), write_meta_graph=False, write_state=False)


def train_on(work, name, latest):
    """Two steps in Python's own MonitoredTrainingSession, over belay's meta graph and into belay's folder."""
    with tf.Graph().as_default() as graph:
        tf1.train.import_meta_graph(latest + ".meta")
        fed, value = feeds(graph), marker()
        with tf1.train.MonitoredTrainingSession(checkpoint_dir=str(work / name), log_step_count_steps=None) as session:
            for _ in range(2):
                session.run("train", feed_dict=fed)
            check_marker(work, name, session, value)
    assert tf.train.latest_checkpoint(str(work / name)) == str(work / name / "model.ckpt-5")


def check_saved_model(graphs, folder, name, latest):
    """Its own keys, and belay's step as one more."""
    own = tf.train.load_checkpoint(str(graphs / name / "variables" / "variables"))
    keys = set(tf.train.load_checkpoint(latest).get_variable_to_shape_map())
    assert keys == set(own.get_variable_to_shape_map()) | {"global_step"}, keys
    with tf.Graph().as_default(), tf1.Session() as session:
        meta = tf1.saved_model.load(session, ["serve"], str(graphs / name))
        saver = meta.saver_def
        session.run(saver.restore_op_name, {saver.filename_tensor_name: latest})


def main():
    graphs, work = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    for name in sys.argv[3:]:
        latest = check_files(work / name)
        if (graphs / name).is_dir():
            check_saved_model(graphs, work / name, name, latest)
        else:
            check_graph(graphs, work, name, latest)
            if name != "no_step":
                train_on(work, name, latest)
        print("fine:", name)


if __name__ == "__main__":
    main()
