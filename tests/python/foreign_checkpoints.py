"""Checkpoints that belay did not write: python3 foreign_checkpoints.py GRAPHS WORK

In WORK, over the variables of plain_saver.meta with w = 1 2 3 4, b = 5, marker = 6 7 8 9 and global_step = 42:
v1 (the old format, one file), object-1 (tf.train.Checkpoint), square (marker as [2, 2], alone), old (under the names
old/w, old/b, old/marker), v1_wide (the old format, marker as [2, 2]). And scoped.meta: plain_saver.meta imported under the
scope `imported`, with a SaverDef that does not say so.
"""

import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf

tf1 = tf.compat.v1
tf1.logging.set_verbosity(tf1.logging.ERROR)
VALUES = {"w": [1.0, 2.0, 3.0, 4.0], "b": 5.0, "marker": [6.0, 7.0, 8.0, 9.0]}


def variables(square=False):
    made = {name: tf1.get_variable(name, initializer=tf.constant(value)) for name, value in VALUES.items() if name != "marker"}
    marker = [[6.0, 7.0], [8.0, 9.0]] if square else VALUES["marker"]
    made["marker"] = tf1.get_variable("marker", initializer=tf.constant(marker))
    made["global_step"] = tf1.get_variable("global_step", initializer=tf.constant(42, tf.int64))
    return made


def write(work, square, save):
    with tf.Graph().as_default(), tf1.Session() as session:
        made = variables(square)
        session.run(tf1.global_variables_initializer())
        save(session, made)


def main():
    graphs, work = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])

    def with_saver(name, version, var_list=lambda made: made):
        def save(session, made):
            saver = tf1.train.Saver(var_list(made), write_version=version)
            saver.save(session, str(work / name), write_meta_graph=False, write_state=False)

        return save

    v1, v2 = tf1.train.SaverDef.V1, tf1.train.SaverDef.V2
    write(work, False, with_saver("v1", v1))
    write(work, True, with_saver("v1_wide", v1))
    write(work, True, with_saver("square", v2, lambda made: {"marker": made["marker"]}))
    write(work, False, with_saver("old", v2, lambda made: {f"old/{name}": made[name] for name in VALUES}))

    def save_objects(session, made):
        step = made.pop("global_step")
        objects = {f"my_{name}": variable for name, variable in made.items()}
        tf1.train.Checkpoint(counted=step, **objects).save(str(work / "object"), session=session)

    write(work, False, save_objects)

    with tf.Graph().as_default() as graph:
        path = str(graphs / "plain_saver.meta")
        tf1.train.import_meta_graph(path, import_scope="imported")
        definition = tf1.MetaGraphDef()
        definition.ParseFromString(pathlib.Path(path).read_bytes())
        graph.clear_collection("savers")
        tf1.train.export_meta_graph(str(work / "scoped.meta"), saver_def=definition.saver_def, graph=graph)


main()
