"""Writes the same model as a TF1 graph that belay trains: python3 examples/digits/export_graph.py [FILE]"""

import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent / "python"))

import tensorflow as tf

from belay_export import export_graph

tf1 = tf.compat.v1


def main(path):
    with tf.Graph().as_default():
        global_step = tf1.train.get_or_create_global_step()
        x = tf1.placeholder(tf.float32, [None, 64], name="x")
        y = tf1.placeholder(tf.int64, [None], name="y")
        hidden = tf.nn.relu(dense(x, 64, "hidden"))
        logits = tf.identity(dense(hidden, 10, "logits"), name="scores")
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=logits)
        loss = tf.reduce_mean(losses, name="loss")
        right = tf.equal(tf.argmax(logits, axis=1), y)
        accuracy = tf.reduce_mean(tf.cast(right, tf.float32), name="accuracy")
        tf1.summary.scalar("loss", loss)
        train_op = tf1.train.AdamOptimizer(2e-3).minimize(loss, global_step=global_step, name="train")
        batch = {"x": x, "y": y, "loss": loss, "accuracy": accuracy}
        export_graph(path, train_op=train_op, train=batch, eval=batch, serving={"x": x, "logits": logits})


def dense(x, units, name):
    """A fully connected layer; without a seed, so each new run starts from other weights."""
    with tf1.variable_scope(name):
        kernel = tf1.get_variable("kernel", [x.shape[1], units], initializer=tf1.glorot_uniform_initializer())
        bias = tf1.get_variable("bias", [units], initializer=tf1.zeros_initializer())
        return tf.matmul(x, kernel) + bias


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        (HERE / "graph").mkdir(exist_ok=True)
        main(HERE / "graph" / "digits.meta")
