"""Writes what the benchmarks run: export_graphs.py FOLDER.

FOLDER/tiny.meta, mlp.meta   MetaGraphDefs, for belay and Python; tiny.pb, mlp.pb: their GraphDefs, for raw C
FOLDER/keras/                a SavedModel with a `train` signature
FOLDER/x.npy, y.npy          what is fed
FOLDER/graphs.json           names of ops and tensors; written last, so where it is, all is there
"""

import json
import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "python"))

import keras  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from tensorflow.core.protobuf import saved_model_pb2  # noqa: E402

import models  # noqa: E402
from belay_export import export_keras  # noqa: E402

tf1 = tf.compat.v1


def export_graph(folder, name, make):
    with tf.Graph().as_default() as graph:
        tf1.add_to_collection("train_op", make(tf1))
        tf1.train.Scaffold().finalize()
        tf1.train.export_meta_graph(os.path.join(folder, name + ".meta"))
        with open(os.path.join(folder, name + ".pb"), "wb") as file:
            file.write(graph.as_graph_def().SerializeToString())
        init = tf1.get_collection("init_op")[0].name
    return {"graph": name + ".meta", "graph_def": name + ".pb", "init": init, "target": "train"}


def export_keras_model(folder):
    path = os.path.join(folder, "keras")
    export_keras(models.keras_model(keras), path)
    saved = saved_model_pb2.SavedModel()
    with open(os.path.join(path, "saved_model.pb"), "rb") as file:
        saved.ParseFromString(file.read())
    train = saved.meta_graphs[0].signature_def["train"]
    return {
        "graph": "keras",
        "x": train.inputs["x"].name,
        "y": train.inputs["y"].name,
        "fetch": train.outputs["loss"].name,
    }


def main(folder):
    os.makedirs(folder, exist_ok=True)
    x, y = models.batches()
    np.save(os.path.join(folder, "x.npy"), x)
    np.save(os.path.join(folder, "y.npy"), y)
    graphs = {
        "tiny": {
            **export_graph(folder, "tiny", models.tiny_graph),
            "fetch": "global_step/Read/ReadVariableOp:0",
        },
        "mlp": {
            **export_graph(folder, "mlp", models.mlp_graph),
            "fetch": "loss:0",
            "x": "x:0",
            "y": "y:0",
        },
        "keras": export_keras_model(folder),
    }
    with open(os.path.join(folder, "graphs.json"), "w", encoding="utf-8") as file:
        json.dump(graphs, file, indent=1)


if __name__ == "__main__":
    main(sys.argv[1])
