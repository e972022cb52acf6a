"""The models that benchmarks run, made once for all sides: build/bench/ holds their exported graphs and data."""

import numpy as np

FEATURES, HIDDEN, CLASSES = 64, 128, 10
BATCH, BATCHES = 32, 100


def tiny_graph(tf1):
    """A graph whose training step only increments the global step. Returns the training op."""
    step = tf1.train.get_or_create_global_step()
    return tf1.group(tf1.assign_add(step, 1), name="train")


def mlp_graph(tf1):
    """64-128-10 with Adam. Returns the training op; the loss is `loss`, the feeds are `x` and `y`."""
    step = tf1.train.get_or_create_global_step()
    x = tf1.placeholder(tf1.float32, [None, FEATURES], name="x")
    y = tf1.placeholder(tf1.int64, [None], name="y")
    hidden = tf1.nn.relu(_dense(tf1, x, "hidden", FEATURES, HIDDEN))
    logits = _dense(tf1, hidden, "logits", HIDDEN, CLASSES)
    losses = tf1.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=logits)
    loss = tf1.reduce_mean(losses, name="loss")
    tf1.summary.scalar("loss", loss)
    return tf1.train.AdamOptimizer(1e-3).minimize(loss, global_step=step, name="train")


def _dense(tf1, x, name, rows, columns):
    with tf1.variable_scope(name):
        start = tf1.truncated_normal_initializer(stddev=0.1, seed=1)
        kernel = tf1.get_variable("kernel", [rows, columns], initializer=start)
        bias = tf1.get_variable("bias", [columns], initializer=tf1.zeros_initializer())
        return tf1.matmul(x, kernel) + bias


def keras_model(keras):
    """The same model in Keras, compiled."""
    model = keras.Sequential(
        [
            keras.Input((FEATURES,)),
            keras.layers.Dense(HIDDEN, activation="relu"),
            keras.layers.Dense(CLASSES),
        ]
    )
    model.compile(
        optimizer=keras.optimizers.Adam(1e-3),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return model


def batches():
    """What every side is fed, in this order, again and again."""
    random = np.random.default_rng(0)
    x = random.random((BATCH * BATCHES, FEATURES), dtype=np.float32)
    y = random.integers(0, CLASSES, BATCH * BATCHES, dtype=np.int64)
    return x, y
