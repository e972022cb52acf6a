"""The other half of test_graph_defaults.c: python3 check_savers.py GRAPHS WORK NAME...

For each NAME, belay left in WORK/NAME: graph.meta (the graph with belay's default saver), belay.index and
.data (a checkpoint that it wrote) and belay.txt (the values of `marker`, or of global_step, in it). Checks that Python
reads them, and writes WORK/NAME/python.index and .data for belay to read.
"""

import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

tf1 = tf.compat.v1
tf1.logging.set_verbosity(tf1.logging.ERROR)
SECRET = 42


def keys(variables):
    """Checkpoint keys of a list of variables, and the shapes under them."""
    result = {}
    for v in variables:
        info = v._save_slice_info
        name, shape = (info.full_name, info.full_shape) if info else (v.op.name, v.shape.as_list())
        result[name] = list(shape)
    return result


def witness(variables):
    """What tells one set of values from another."""
    named = {v.op.name: v for v in variables}
    return named.get("marker", named["global_step"])


def check_as_exported(graphs, folder, name):
    """What belay wrote, read with a saver over the graph as Python exported it; and what belay is to read."""
    expected = np.array([float(word) for word in (folder / "belay.txt").read_text().split()])
    prefix = str(folder / "belay")
    with tf.Graph().as_default(), tf1.Session() as session:
        tf1.train.import_meta_graph(str(graphs / f"{name}.meta"))
        variables = tf1.global_variables()
        reader = tf.train.load_checkpoint(prefix)
        assert reader.get_variable_to_shape_map() == keys(variables), name
        saver = tf1.train.Saver(variables, sharded=True)
        saver.restore(session, prefix)
        value = session.run(witness(variables).value())
        np.testing.assert_allclose(np.atleast_1d(value), expected, rtol=1e-6)
        assert not session.run(tf1.report_uninitialized_variables(variables)).size
        marker = witness(variables)
        session.run(marker.assign(tf.fill(marker.shape, tf.cast(SECRET, marker.dtype.base_dtype))))
        saver.save(session, str(folder / "python"), write_meta_graph=False, write_state=False)


def check_as_completed(folder):
    """The graph with what belay added: Python uses that saver, and finds that global step."""
    expected = np.array([float(word) for word in (folder / "belay.txt").read_text().split()])
    prefix = str(folder / "belay")
    with tf.Graph().as_default() as graph, tf1.Session() as session:
        saver = tf1.train.import_meta_graph(str(folder / "graph.meta"))
        assert saver.saver_def.save_tensor_name == "save/Identity:0", saver.saver_def
        saver.restore(session, prefix)
        value = session.run(witness(tf1.global_variables()).value())
        np.testing.assert_allclose(np.atleast_1d(value), expected, rtol=1e-6)
        again = saver.save(session, str(folder / "again"), write_meta_graph=False, write_state=False)
        assert tf.train.load_checkpoint(again).get_variable_to_shape_map() == keys(tf1.global_variables())
        assert graph.get_operation_by_name("save/restore_all")
        assert tf1.train.get_global_step() is not None


def main():
    graphs, work = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    for name in sys.argv[3:]:
        if name != "no_step":  # belay gave it a global step, so the two graphs' variables differ
            check_as_exported(graphs, work / name, name)
        check_as_completed(work / name)
        print("fine:", name)


if __name__ == "__main__":
    main()
