"""Makes the graphs that the C tests train: python3 tests/graphs/make_graphs.py OUTDIR [PATH...]

Without a PATH, such as tiny.meta, all of them. Also writes OUTDIR/graphs.json, an index of them (name, path, kind, has_saver, notes), and small arrays to feed:
ids.npy int64 [40], x4.npy float32 [40,4], y.npy float32 [40], label3.npy int64 [40].

Common to all TF1 graphs unless the notes say otherwise: the global step is `global_step` (int64), one step is the op
`train` (in the collection train_op), the loss is `loss:0`, and a variable `marker` (float32 [4]) is initialised
without a seed and never trained, so that its value tells one initialisation from another. "Bare" graphs were
exported before Scaffold.finalize(): no saver, init op or ready op. Files named in graphs are next to them.
"""

import json
import os
import pathlib
import shutil
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent.parent / "python"))

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.data.experimental.ops import testing as data_testing

from belay_export import export_graph, export_keras, export_module

tf1 = tf.compat.v1
tf1.logging.set_verbosity(tf1.logging.ERROR)

GRAPHS = []


def graph(path, notes, has_saver=False):
    """Registers a function that writes `path`. One for a .meta file runs in a graph of its own."""

    def register(make):
        name, extension = os.path.splitext(path)
        kind = "meta" if extension == ".meta" else "saved_model"
        GRAPHS.append((make, {"name": name, "path": path, "kind": kind, "has_saver": has_saver, "notes": notes}))
        return make

    return register


# --------------------------------------------------------------------------------- parts of TF1 graphs


def global_step():
    return tf1.train.get_or_create_global_step()


def marker():
    return tf1.get_variable("marker", [4], initializer=tf1.random_uniform_initializer(), trainable=False)


def increment(step):
    return tf.group(tf1.assign_add(step, 1), name="train")


def linear(use_step=True, optimizer=None):
    """y = x.w + b on four inputs, placeholders x and y: the smallest thing that really trains."""
    step = global_step() if use_step else None
    marker()
    x = tf1.placeholder(tf.float32, [None, 4], name="x")
    y = tf1.placeholder(tf.float32, [None], name="y")
    w = tf1.get_variable("w", [4], initializer=tf1.zeros_initializer())
    b = tf1.get_variable("b", [], initializer=tf1.zeros_initializer())
    loss = tf.reduce_mean(tf.square(tf.reduce_sum(x * w, axis=1) + b - y), name="loss")
    optimizer = optimizer or tf1.train.GradientDescentOptimizer(0.1)
    return optimizer.minimize(loss, global_step=step, name="train"), loss


def mlp():
    """The benchmarks' 64-128-10 MLP; its weights are seeded, so that Python can train the same."""
    step = global_step()
    marker()
    x = tf1.placeholder(tf.float32, [None, 64], name="x")
    y = tf1.placeholder(tf.int64, [None], name="y")

    def weights(name, shape, seed):
        return tf1.get_variable(name, shape, initializer=tf1.truncated_normal_initializer(stddev=0.1, seed=seed))

    w1 = weights("w1", [64, 128], 1)
    b1 = tf1.get_variable("b1", [128], initializer=tf1.zeros_initializer())
    w2 = weights("w2", [128, 10], 2)
    b2 = tf1.get_variable("b2", [10], initializer=tf1.zeros_initializer())
    logits = tf.nn.relu(x @ w1 + b1) @ w2 + b2
    loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=logits), name="loss")
    tf1.summary.scalar("loss", loss)
    return tf1.train.AdamOptimizer(1e-3).minimize(loss, global_step=step, name="train")


def embedding_loss(table, ids):
    """Trains the mean of each looked-up row towards 1."""
    rows = tf1.nn.embedding_lookup(table, ids, partition_strategy="div")
    loss = tf.reduce_mean(tf.square(tf.reduce_mean(rows, axis=1) - 1.0), name="loss")
    return tf1.train.AdagradOptimizer(0.5).minimize(loss, global_step=global_step(), name="train")


def finalize(**scaffold):
    tf1.train.Scaffold(**scaffold).finalize()


# -------------------------------------------------------------------------------------- TF1 graphs


@graph("tiny.meta", "bare; no feeds, no loss, no marker: only increments the global step")
def tiny(path):
    export_graph(path, train_op=increment(global_step()))


@graph("sync.meta", "bare; no feeds; w float32 [] goes to 1 through SyncReplicasOptimizer with one replica, train = its op")
def sync(path):
    step = global_step()
    w = tf1.get_variable("w", [], initializer=tf1.zeros_initializer())
    optimizer = tf1.train.SyncReplicasOptimizer(tf1.train.GradientDescentOptimizer(0.25), replicas_to_aggregate=1)
    train = optimizer.minimize(tf.square(w - 1.0), global_step=step)
    with tf.control_dependencies([train]):
        train = tf.no_op(name="train")
    export_graph(path, train_op=train, sync_replicas=optimizer)


@graph("multi_step.meta", "bare; no feeds; train does as many steps as its hook says, in a loop")
def multi_step(path):
    from tensorflow.python.training import basic_session_run_hooks

    step = global_step()
    many = basic_session_run_hooks.get_or_create_steps_per_run_variable()
    _, done = tf.while_loop(
        lambda i, _: i < many,
        lambda i, _: (i + 1, tf1.assign_add(step, 1, use_locking=True)),
        [0, tf.constant(0, step.dtype.base_dtype)],
        parallel_iterations=1,
    )
    with tf.control_dependencies([done]):
        train = tf.no_op(name="train")
    export_graph(path, train_op=train)


@graph("halve.meta", "bare; feeds x float32 []; fetches half:0 = x / 2; counts the global step")
def halve(path):
    train = increment(global_step())
    x = tf1.placeholder(tf.float32, [], name="x")
    tf.multiply(x, 0.5, name="half")
    export_graph(path, train_op=train)


@graph("tiny_final.meta", "tiny, finalised: saver, init_op, ready_op in collections", has_saver=True)
def tiny_final(path):
    train = increment(global_step())
    finalize()
    export_graph(path, train_op=train)


@graph("mlp.meta", "finalised; feeds x float32 [?,64], y int64 [?]; Adam; scalar summary `loss`", has_saver=True)
def mlp_final(path):
    train = mlp()
    finalize()
    export_graph(path, train_op=train)


@graph("mlp_bare.meta", "mlp, bare")
def mlp_bare(path):
    export_graph(path, train_op=mlp())


@graph("refvars.meta", "bare; reference variables (VariableV2), slots `w/Momentum`, `b/Momentum`; feeds x [?,4], y [?]")
def refvars(path):
    tf1.disable_resource_variables()
    try:
        train, _ = linear(optimizer=tf1.train.MomentumOptimizer(0.1, 0.9))
        export_graph(path, train_op=train)
    finally:
        tf1.enable_resource_variables()


@graph("partitioned.meta", "bare; `embedding` [10,4] in parts of 4, 3 and 3 rows, Adagrad slots; feeds ids int64 [?]")
def partitioned(path):
    marker()
    ids = tf1.placeholder(tf.int64, [None], name="ids")
    table = tf1.get_variable(
        "embedding", [10, 4], initializer=tf1.zeros_initializer(), partitioner=tf1.fixed_size_partitioner(3)
    )
    export_graph(path, train_op=embedding_loss(table, ids))


@graph(
    "queue.meta",
    "bare; no feeds: two queue runners, a local variable (epochs); 2 epochs of 10 elements in batches of 4: "
    "OUT_OF_RANGE after 5 steps; `batch:0` is what a step read, float variable `seen` adds it all up (90 at the end)",
)
def queue(path):
    step = global_step()
    marker()
    numbers = np.arange(10, dtype=np.float32)
    element = tf1.train.input_producer(numbers, num_epochs=2, shuffle=False, capacity=4).dequeue()
    batch = tf1.train.batch([element], batch_size=4, capacity=8, allow_smaller_final_batch=True, name="batcher")
    batch = tf.identity(batch, name="batch")
    seen = tf1.get_variable("seen", [], initializer=tf1.zeros_initializer(), trainable=False)
    tf.reduce_mean(batch, name="loss")
    with tf.control_dependencies([tf1.assign_add(seen, tf.reduce_sum(batch))]):
        train = increment(step)
    export_graph(path, train_op=train)


def stress_model(path, has_bad_runner):
    """Four queues, each with a runner, and ops whose runs fail."""
    step = global_step()
    for i in range(4):
        queue = tf1.FIFOQueue(2, [tf.int64], shapes=[[]], name=f"queue{i}")
        bad = has_bad_runner and i == 3
        value = tf.strings.to_number(tf.io.read_file("no such file"), tf.int64) if bad else tf.constant(7, tf.int64)
        tf1.train.add_queue_runner(tf1.train.QueueRunner(queue, [queue.enqueue(value)]))
        tf.identity(queue.dequeue(), name=f"element{i}")
    tf.io.read_file("no such file", name="fails_missing")  # a group would be optimised away
    tf.group(tf1.Assert(False, ["as it has to"]), name="fails_argument")
    closed = tf1.FIFOQueue(1, [tf.int64], shapes=[[]], name="closed")
    with tf.control_dependencies([closed.close()]):
        tf.group(closed.dequeue(), name="fails_range")
    export_graph(path, train_op=increment(step))


@graph("stress.meta", "bare; four queues with a runner each, outputs element0 to element3; ops fails_* whose runs fail")
def stress(path):
    stress_model(path, False)


@graph("stress_bad.meta", "the same, and the enqueue op of queue3 fails with NOT_FOUND")
def stress_bad(path):
    stress_model(path, True)


@graph(
    "table.meta",
    "bare; vocabulary table from vocab.txt (table_initializer); feeds ids int64 [?], or words:0 string [?]; "
    "words of the file are '0' to '9', one bucket for others",
)
def table(path):
    export_graph(path, train_op=vocabulary_model(path.with_name("vocab.txt")))


def vocabulary_table(file):
    """Writes the words '0' to '9' to the file, and makes a table that looks up their lines; 10 for other words."""
    file.write_text("".join(f"{i}\n" for i in range(10)))
    index = tf.lookup.TextFileIndex
    initializer = tf.lookup.TextFileInitializer(str(file), tf.string, index.WHOLE_LINE, tf.int64, index.LINE_NUMBER)
    return tf.lookup.StaticVocabularyTable(initializer, num_oov_buckets=1)


def vocabulary_model(vocabulary):
    marker()
    ids = tf1.placeholder(tf.int64, [None], name="ids")
    words = tf.strings.as_string(ids, name="words")
    rows = vocabulary_table(vocabulary).lookup(words)
    embedding = tf1.get_variable("embedding", [11, 4], initializer=tf1.zeros_initializer())
    return embedding_loss(embedding, rows)


def while_model():
    """The loss sums w**2 over four rounds; w starts at 1 and goes to 0."""
    step = global_step()
    marker()
    w = tf1.get_variable("w", [], initializer=tf1.ones_initializer())
    _, total = tf1.while_loop(lambda i, _: i < 4, lambda i, total: (i + 1, total + w * w), [0, 0.0])
    loss = tf.identity(total, name="loss")
    return tf1.train.GradientDescentOptimizer(0.05).minimize(loss, global_step=step, name="train")


@graph("while.meta", "bare; no feeds; a TF1 while loop (Enter, Exit) in loss and gradient")
def while_loop(path):
    tf1.disable_control_flow_v2()
    try:
        export_graph(path, train_op=while_model())
    finally:
        tf1.enable_control_flow_v2()


@graph("while_queue.meta", "bare; no feeds; a TF1 while loop whose condition takes numbers from a queue, until it is 2")
def while_queue(path):
    tf1.disable_control_flow_v2()
    try:
        global_step()
        marker()
        queue = tf1.FIFOQueue(100, [tf.int32], shapes=[[]], name="numbers")
        filled = queue.enqueue_many([list(range(3)) * 20], name="fill")
        tf1.add_to_collection(tf1.GraphKeys.LOCAL_INIT_OP, tf.group(filled, name="local_init"))
        rounds = tf1.while_loop(lambda i: tf.not_equal(queue.dequeue(), 2), lambda i: i + 1, [0])
        tf.identity(rounds, name="rounds")
        export_graph(path, train_op=tf.group(rounds, name="train"))
    finally:
        tf1.enable_control_flow_v2()


@graph("while_v2.meta", "the same with a functional While")
def while_v2(path):
    export_graph(path, train_op=while_model())


def lines_model(path, initializable):
    """Adds up the numbers 0 to 19 in lines.txt, four a step."""
    lines = path.with_name("lines.txt")
    lines.write_text("".join(f"{i}\n" for i in range(20)))
    step = global_step()
    marker()
    dataset = tf.data.TextLineDataset(str(lines)).map(lambda line: tf.strings.to_number(line)).batch(4)
    if initializable:
        iterator = tf1.data.make_initializable_iterator(dataset)
        tf1.add_to_collection(tf1.GraphKeys.TABLE_INITIALIZERS, iterator.initializer)
    else:
        iterator = tf1.data.make_one_shot_iterator(dataset)
    batch = tf.identity(iterator.get_next(), name="batch")
    seen = tf1.get_variable("seen", [], initializer=tf1.zeros_initializer(), trainable=False)
    tf.reduce_mean(batch, name="loss")
    with tf.control_dependencies([tf1.assign_add(seen, tf.reduce_sum(batch))]):
        train = increment(step)
    export_graph(path, train_op=train)


@graph(
    "dataset.meta",
    "bare; no feeds; tf.data over lines.txt, iterator initialised by table_initializer; OUT_OF_RANGE after 5 steps; "
    "`batch:0`, variable `seen` (190 at the end)",
)
def dataset(path):
    lines_model(path, initializable=True)


@graph("dataset_one_shot.meta", "the same with a one-shot iterator, which needs no initializer")
def dataset_one_shot(path):
    lines_model(path, initializable=False)


@graph("no_step.meta", "bare; no global step; feeds x float32 [?,4], y float32 [?]")
def no_step(path):
    train, _ = linear(use_step=False)
    export_graph(path, train_op=train)


@graph("two_trains.meta", "bare; ops `train` and `train_slowly` in collection train_op; feeds x [?,4], y [?]")
def two_trains(path):
    _, loss = linear()
    slowly = tf1.train.GradientDescentOptimizer(0.001).minimize(loss, global_step=global_step(), name="train_slowly")
    export_graph(path, train_op=slowly)


@graph("train_op_twice.meta", "bare; the one op `train` is in collection train_op twice; feeds x [?,4], y [?]")
def train_op_twice(path):
    train, _ = linear()  # minimize() has put it there already, which scripts that add it do not know
    tf1.add_to_collection("train_op", train)
    export_graph(path, train_op=train)


@graph("no_train_op.meta", "bare; nothing in collection train_op, though there is an op `train`; feeds x [?,4], y [?]")
def no_train_op(path):
    linear()
    tf1.get_collection_ref("train_op").clear()
    tf1.train.export_meta_graph(str(path))


@graph("nan.meta", "bare; no feeds; loss is 1/N in the run that makes the global step N, and NaN from N = 5 on")
def nan(path):
    step = global_step()
    marker()
    after = tf.cast(tf.identity(step) + 1, tf.float32)
    loss = tf.where(after >= 5.0, tf.constant(float("nan")), 1.0 / after, name="loss")
    with tf.control_dependencies([loss]):
        export_graph(path, train_op=increment(step))


@graph(
    "slow.meta",
    "bare; no feeds; a step sleeps 100 ms (in tf.data: it costs no CPU); loss:0 counts this session's steps from 0",
)
def slow(path):
    step = global_step()
    marker()
    dataset = tf.data.Dataset.range(1 << 40).apply(data_testing.sleep(100_000))
    options = tf.data.Options()
    options.autotune.enabled = False
    element = tf1.data.make_one_shot_iterator(dataset.with_options(options)).get_next()
    loss = tf.cast(element, tf.float32, name="loss")
    with tf.control_dependencies([loss]):
        export_graph(path, train_op=increment(step))


@graph("ps_tiny.meta", "tiny with its variable on /job:ps/task:0")
def ps_tiny(path):
    with tf.device("/job:ps/task:0"):
        export_graph(path, train_op=increment(global_step()))


@graph(
    "ps.meta",
    "bare; feeds x [?,4], y [?]; all variables on /job:ps/task:0; a step sleeps 5 ms there (in tf.data), so that servers "
    "can be killed under it",
)
def ps(path):
    with tf.device("/job:ps/task:0"):
        dataset = tf.data.Dataset.range(1 << 40).apply(data_testing.sleep(5_000))
        options = tf.data.Options()
        options.autotune.enabled = False
        pace = tf1.data.make_one_shot_iterator(dataset.with_options(options)).get_next()
        with tf.control_dependencies([pace]):
            train, _ = linear()
        export_graph(path, train_op=train)


@graph("plain_saver.meta", "finalised; Saver(), its SaverDef at the top level; feeds x [?,4], y [?]", has_saver=True)
def plain_saver(path):
    export_with_saver(path, sharded=False)


@graph("sharded_saver.meta", "the same with Saver(sharded=True)", has_saver=True)
def sharded_saver(path):
    export_with_saver(path, sharded=True)


def export_with_saver(path, sharded):
    linear()
    saver = tf1.train.Saver(sharded=sharded)
    finalize(saver=saver)
    saver.export_meta_graph(str(path))


@graph("int32_step.meta", "bare; no feeds, no loss; the global step is int32")
def int32_step(path):
    marker()
    step = tf1.get_variable("global_step", [], tf.int32, tf1.zeros_initializer(), trainable=False)
    tf1.add_to_collection(tf1.GraphKeys.GLOBAL_STEP, step)
    export_graph(path, train_op=increment(step))


@graph(
    "summaries.meta",
    "bare but for summary_op: scalar `loss`, histogram `w`, merged (Merge/MergeSummary:0); feeds x [?,4], y [?]",
)
def summaries(path):
    train, loss = linear()
    tf1.summary.scalar("loss", loss)
    tf1.summary.histogram("w", tf1.trainable_variables()[0])
    tf1.add_to_collection(tf1.GraphKeys.SUMMARY_OP, tf1.summary.merge_all())
    export_graph(path, train_op=train)


# ------------------------------------------------------------------------------------ SavedModels


@graph(
    "tf1_saved_model",
    "TF1 builder; signatures train, eval (ids int64 [?] -> loss) and serving_default (ids -> rows); the step is op "
    "`train` in collection train_op; vocabulary as an asset (collection saved_model_assets, fed to asset_path:0 when the main "
    "op runs); global_step and marker",
    has_saver=True,
)
def tf1_saved_model(path):
    work = path.with_name("tf1_saved_model_vocabulary")
    work.mkdir(exist_ok=True)
    signature = tf1.saved_model.signature_def_utils.predict_signature_def
    with tf.Graph().as_default() as g, tf1.Session() as session:
        vocabulary_model(work / "vocab.txt")
        ids, loss = g.get_tensor_by_name("ids:0"), g.get_tensor_by_name("loss:0")
        rows = tf.identity(tf.gather(tf1.trainable_variables()[0], ids), name="rows")
        session.run(tf1.global_variables_initializer())
        builder = tf1.saved_model.Builder(str(path))
        builder.add_meta_graph_and_variables(
            session,
            [tf1.saved_model.tag_constants.SERVING],
            signature_def_map={
                "train": signature({"ids": ids}, {"loss": loss}),
                "eval": signature({"ids": ids}, {"loss": loss}),
                "serving_default": signature({"ids": ids}, {"rows": rows}),
            },
            assets_collection=tf1.get_collection(tf1.GraphKeys.ASSET_FILEPATHS),
            main_op=tf1.tables_initializer(),
        )
        builder.save()
    shutil.rmtree(work)


@graph(
    "keras_small",
    "batch norm, dropout (seed generator), Adam with a schedule; signatures train, eval (x float32 [?,4], y int64 [?] "
    "-> loss, accuracy), serving_default (x -> output [?,3])",
    has_saver=True,
)
def keras_small(path):
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(8, activation="relu", name="hidden"),
            layers.BatchNormalization(name="norm"),
            layers.Dropout(0.1, seed=3, name="dropout"),
            layers.Dense(3, name="logits"),
        ],
        name="small",
    )
    rate = keras.optimizers.schedules.ExponentialDecay(1e-2, 100, 0.9)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.Adam(rate), loss=loss, metrics=["accuracy"])
    export_keras(model, path)


class Linear(tf.Module):
    """The linear model of the TF1 graphs as a tf.Module, with momentum; `batch` fixes its batch's size."""

    def __init__(self, batch=None):
        super().__init__()
        self.w = tf.Variable(tf.zeros([4]), name="w")
        self.velocity = tf.Variable(tf.zeros([4]), trainable=False, name="velocity")
        self.marker = tf.Variable(np.random.default_rng().random(4, np.float32), trainable=False, name="marker")
        x, y = tf.TensorSpec([batch, 4], tf.float32, "x"), tf.TensorSpec([batch], tf.float32, "y")
        self.train = tf.function(self._train, input_signature=[x, y])
        self.eval = tf.function(self._eval, input_signature=[x, y])
        self.predict = tf.function(lambda x: {"output": self._predict(x)}, input_signature=[x])

    def _predict(self, x):
        return tf.reduce_sum(x * self.w, axis=1)

    def _eval(self, x, y):
        return {"loss": tf.reduce_mean(tf.square(self._predict(x) - y))}

    def _train(self, x, y):
        with tf.GradientTape() as tape:
            outputs = self._eval(x, y)
        self.velocity.assign(0.9 * self.velocity + tape.gradient(outputs["loss"], self.w))
        self.w.assign_sub(0.05 * self.velocity)
        return outputs


@graph(
    "module",
    "tf.Module; variables w, velocity, and marker (unseeded at export, never trained); signatures train, eval "
    "(x float32 [?,4], y float32 [?] -> loss), serving_default (x -> output)",
    has_saver=True,
)
def module(path):
    m = Linear()
    export_module(m, path, train=m.train, eval=m.eval, serving=m.predict)


@graph("fixed_batch", "module with batches of exactly 8", has_saver=True)
def fixed_batch(path):
    m = Linear(batch=8)
    export_module(m, path, train=m.train, eval=m.eval, serving=m.predict)


@graph("no_train_signature", "module with serving_default only", has_saver=True)
def no_train_signature(path):
    m = Linear()
    export_module(m, path, serving=m.predict)


class Lookup(tf.Module):
    """Trains one number for each word of a vocabulary file; the file becomes an asset."""

    def __init__(self, vocabulary):
        super().__init__()
        self.table = vocabulary_table(vocabulary)
        self.numbers = tf.Variable(tf.zeros([11]), name="numbers")

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int64, "ids")])
    def eval(self, ids):
        looked_up = tf.gather(self.numbers, self.table.lookup(tf.strings.as_string(ids)))
        return {"loss": tf.reduce_mean(tf.square(looked_up - 1.0))}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int64, "ids")])
    def train(self, ids):
        with tf.GradientTape() as tape:
            outputs = self.eval(ids)
        self.numbers.assign_sub(0.5 * tf.convert_to_tensor(tape.gradient(outputs["loss"], self.numbers)))
        return outputs


@graph(
    "module_table",
    "tf.Module; vocabulary table from an asset (asset_file_def), filled by the init op; variable numbers [11]; "
    "signatures train, eval (ids int64 [?] -> loss)",
    has_saver=True,
)
def module_table(path):
    vocabulary = path.with_name("module_vocab.txt")
    m = Lookup(vocabulary)
    export_module(m, path, train=m.train, eval=m.eval)
    vocabulary.unlink()  # the SavedModel has its own copy


# -------------------------------------------------------------------------------------------- main


def feeds(folder):
    rng = np.random.default_rng(0)
    x = rng.random((40, 4), np.float32)
    np.save(folder / "x4.npy", x)
    np.save(folder / "y.npy", x @ np.array([1, 2, 3, 4], np.float32))
    np.save(folder / "label3.npy", x[:, :3].argmax(axis=1).astype(np.int64))
    np.save(folder / "ids.npy", np.arange(40, dtype=np.int64) % 10)


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__.splitlines()[0])
    graphs = [(make, entry) for make, entry in GRAPHS if len(sys.argv) == 2 or entry["path"] in sys.argv[2:]]
    folder = pathlib.Path(sys.argv[1]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    feeds(folder)
    for make, entry in graphs:
        path = folder / entry["path"]
        if entry["kind"] == "meta":
            with tf.Graph().as_default():
                make(path)
        else:
            shutil.rmtree(path, ignore_errors=True)
            make(path)
    (folder / "graphs.json").write_text(json.dumps([entry for _, entry in graphs], indent=1) + "\n")


if __name__ == "__main__":
    main()
