"""belay and Python's TensorFlow on the same files and the same training."""

import json
import os
import pathlib
import shutil
import sys
import unittest

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

import numpy as np
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from support import ROOT, Case, DIGITS, DIGITS_GRAPH, DIGITS_KERAS, GRAPHS, TEST_DIGITS, TRAIN_DIGITS, linear_feeds, need_graphs

sys.path.insert(0, str(ROOT / "python"))
from belay_export import export_graph  # noqa: E402

tf1 = tf.compat.v1
tf1.logging.set_verbosity(tf1.logging.ERROR)

ROUNDING = 1e-5  # relative; float32 has seven digits, and a loss adds up many


def setUpModule():
    need_graphs()


def digits(which):
    return [np.load(DIGITS / "data" / f"{which}_{name}.npy") for name in "xy"]


# ---- the batches that belay hands out, by the rule in belay/input.h

MASK = (1 << 64) - 1


def mix(z):
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & MASK
    return z ^ (z >> 31)


def epoch_order(seed, epoch, rows):
    state = mix(mix((seed + 0x9E3779B97F4A7C15) & MASK) ^ epoch)
    order = list(range(rows))

    def below(n):
        nonlocal state
        while True:
            state = (state + 0x9E3779B97F4A7C15) & MASK
            product = mix(state) * n
            if product & MASK >= (1 << 64) % n:
                return product >> 64

    for i in range(rows):
        k = i + below(rows - i)
        order[i], order[k] = order[k], order[i]
    return order


def batches(x, y, size, steps, seed=0):
    """The first `steps` batches."""
    epoch = done = 0
    while True:
        order = epoch_order(seed, epoch, len(x))
        for start in range(0, len(order), size):
            if done == steps:
                return
            rows = order[start : start + size]
            yield x[rows], y[rows]
            done += 1
        epoch += 1


def mean_over_batches(evaluate, x, y, size):
    """Row-weighted means of a dict of scalars."""
    sums = {}
    for start in range(0, len(x), size):
        rows = len(x[start : start + size])
        for name, value in evaluate(x[start : start + size], y[start : start + size]).items():
            sums[name] = sums.get(name, 0.0) + float(value) * rows
    return {name: total / len(x) for name, total in sums.items()}


class Same(Case):
    """belay eval after belay train gives what Python gives after the same steps."""

    STEPS = 150

    def evaluated(self, graph, batch):
        result = self.belay("eval", graph, "--dir", self.run_dir, *TEST_DIGITS, f"--batch={batch}", "--json")
        return json.loads(result.stdout)

    def check(self, told, expected):
        self.assertEqual((told["step"], told["rows"]), (self.STEPS, 360))
        self.assertEqual(set(told["metrics"]), set(expected))
        for name, value in expected.items():
            self.assertAlmostEqual(told["metrics"][name] / value, 1, delta=ROUNDING, msg=name)

    def test_keras(self):
        self.train(DIGITS_KERAS, *TRAIN_DIGITS, f"--steps={self.STEPS}", "--batch=50", "--seed=7")
        model = tf.saved_model.load(str(DIGITS_KERAS))
        for x, y in batches(*digits("train"), 50, self.STEPS, seed=7):
            model.signatures["train"](x=tf.constant(x), y=tf.constant(y))

        def evaluate(x, y):
            return model.signatures["eval"](x=tf.constant(x), y=tf.constant(y))

        for batch in (100, 360):
            self.check(self.evaluated(DIGITS_KERAS, batch), mean_over_batches(evaluate, *digits("test"), batch))

    def test_graph(self):
        """Its variables have no seed: Python starts from belay's first checkpoint."""
        self.train(DIGITS_GRAPH, *TRAIN_DIGITS, f"--steps={self.STEPS}", "--batch=50", "--seed=7")
        with tf.Graph().as_default(), tf1.Session() as session:
            tf1.train.import_meta_graph(str(DIGITS_GRAPH))
            tf1.train.Saver().restore(session, str(self.run_dir / "model.ckpt-0"))
            for x, y in batches(*digits("train"), 50, self.STEPS, seed=7):
                session.run("train", {"x:0": x, "y:0": y})
            self.assertEqual(session.run(tf1.train.get_global_step()), self.STEPS)

            def evaluate(x, y):
                loss, accuracy = session.run(["loss:0", "accuracy:0"], {"x:0": x, "y:0": y})
                return {"loss": loss, "accuracy": accuracy}

            for batch in (100, 360):
                self.check(self.evaluated(DIGITS_GRAPH, batch), mean_over_batches(evaluate, *digits("test"), batch))

    def test_eval_takes_named_tensors_of_a_graph_without_signatures(self):
        graph = GRAPHS / "plain_saver.meta"
        self.train(graph, *linear_feeds(), "--steps=20")
        result = self.belay("eval", graph, "--dir", self.run_dir, *linear_feeds(), "--fetch=loss", "--batch=7", "--json")
        x, y = np.load(GRAPHS / "x4.npy"), np.load(GRAPHS / "y.npy")
        w, b = np.array(self.tensor("w")), self.tensor("b")[0]
        self.assertAlmostEqual(json.loads(result.stdout)["metrics"]["loss"], np.mean((x @ w + b - y) ** 2), places=5)
        self.fails(1, "eval", graph, "--dir", self.run_dir, *linear_feeds(), saying="signature 'eval'")
        self.fails(1, "eval", graph, "--dir", self.run_dir, *linear_feeds(), "--fetch=x", saying="'x' is not a scalar")

    def test_eval_changes_nothing_and_says_what_it_left_out(self):
        self.train(GRAPHS / "fixed_batch", *linear_feeds(), "--steps=5")
        before = self.names()
        np.save(self.dir / "x.npy", np.load(GRAPHS / "x4.npy")[:21])
        np.save(self.dir / "y.npy", np.load(GRAPHS / "y.npy")[:21])
        feeds = ("--feed", f"x={self.dir}/x.npy", "--feed", f"y={self.dir}/y.npy")
        result = self.belay("eval", GRAPHS / "fixed_batch", "--dir", self.run_dir, *feeds, "--json")
        told = json.loads(result.stdout)
        self.assertEqual((told["rows"], told["rows_left_out"]), (16, 5))
        self.assertIn("5 rows at the end were left out", result.stderr)
        self.assertEqual(self.names(), before)

    def test_eval_passes_over_a_damaged_checkpoint_and_leaves_it_there(self):
        self.train(GRAPHS / "module", *linear_feeds(), "--steps=5")
        (path,) = self.run_dir.glob("model.ckpt-5.data-00000-*")
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        before = self.names()
        result = self.belay("eval", GRAPHS / "module", "--dir", self.run_dir, *linear_feeds(), "--json")
        self.assertEqual(json.loads(result.stdout)["step"], 0)
        self.assertIn("belay: warning: ", result.stderr)
        self.assertEqual(self.names(), before)


class PythonReads(Case):
    def test_checkpoints_of_the_graph(self):
        self.train(DIGITS_GRAPH, *TRAIN_DIGITS, "--steps=120", "--save-steps=50")
        latest = tf.train.latest_checkpoint(str(self.run_dir))
        self.assertEqual(latest, str(self.run_dir / "model.ckpt-120"))
        state = tf.train.get_checkpoint_state(str(self.run_dir))
        self.assertEqual(list(state.all_model_checkpoint_paths), [f"{self.run_dir}/model.ckpt-{n}" for n in (0, 50, 100, 120)])
        reader = tf.train.load_checkpoint(str(self.run_dir))
        self.assertEqual(reader.get_tensor("global_step"), 120)
        for name in reader.get_variable_to_shape_map():
            np.testing.assert_array_equal(np.ravel(reader.get_tensor(name)), np.float32(self.tensor(name)))
        metas = sorted(self.run_dir.glob("*.meta"))
        self.assertEqual(len(metas), 1)
        with tf.Graph().as_default(), tf1.Session() as session:
            saver = tf1.train.import_meta_graph(str(metas[0]))
            saver.restore(session, latest)
            x, y = digits("test")
            loss = session.run("loss:0", {"x:0": x, "y:0": y})
        told = self.belay("eval", DIGITS_GRAPH, "--dir", self.run_dir, *TEST_DIGITS, "--batch=360", "--json")
        self.assertAlmostEqual(json.loads(told.stdout)["metrics"]["loss"] / loss, 1, delta=ROUNDING)

    def test_checkpoints_of_keras_with_one_more_key(self):
        self.train(DIGITS_KERAS, *TRAIN_DIGITS, "--steps=20")
        reader = tf.train.load_checkpoint(str(self.run_dir))
        self.assertEqual(reader.get_tensor("global_step"), 20)
        mine = set(reader.get_variable_to_shape_map())
        theirs = set(tf.train.load_checkpoint(str(DIGITS_KERAS / "variables" / "variables")).get_variable_to_shape_map())
        self.assertEqual(mine - theirs, {"global_step"})

    def test_save_graph_writes_one_with_each_checkpoint(self):
        self.train(DIGITS_GRAPH, *TRAIN_DIGITS, "--steps=20", "--save-steps=10", "--save-graph")
        self.assertEqual(
            {p.name for p in self.run_dir.glob("*.meta")}, {f"model.ckpt-{n}.meta" for n in (0, 10, 20)}
        )

    def test_events(self):
        self.train(DIGITS_GRAPH, *TRAIN_DIGITS, "--steps=400", "--summary-steps=50")
        events = EventAccumulator(str(self.run_dir))
        events.Reload()
        tags = events.Tags()
        self.assertTrue(tags["graph"])
        (loss,) = [tag for tag in tags["scalars"] if tag.startswith("loss")]
        self.assertEqual([e.step for e in events.Scalars(loss)], list(range(1, 401, 50)))
        self.assertIn("global_step/sec", tags["scalars"])


class PythonWrote(Case):
    def python_trains(self, graph, feeds, until):
        """MonitoredTrainingSession as anybody would use it, on an imported graph."""
        with tf.Graph().as_default():
            tf1.train.import_meta_graph(str(graph))
            hooks = [tf1.train.StopAtStepHook(last_step=until)]
            with tf1.train.MonitoredTrainingSession(checkpoint_dir=str(self.run_dir), hooks=hooks) as session:
                while not session.should_stop():
                    session.run("train", feeds)
        tf1.summary.FileWriterCache.clear()

    def test_belay_resumes_a_monitored_training_session_and_python_resumes_belay(self):
        x, y = digits("train")
        feeds = {"x:0": x[:32], "y:0": y[:32]}
        self.python_trains(DIGITS_GRAPH, feeds, 40)
        kernel = tf.train.load_checkpoint(str(self.run_dir)).get_tensor("hidden/kernel")
        result = self.train(DIGITS_GRAPH, *TRAIN_DIGITS, "--steps=100")
        self.assertIn("resumed from step 40\n", result.stderr)
        self.assertIn("does not say where its input was", result.stderr)
        restored = self.tensor("hidden/kernel", self.run_dir / "model.ckpt-40")
        np.testing.assert_array_equal(np.float32(restored), kernel.ravel())
        self.python_trains(DIGITS_GRAPH, feeds, 130)
        result = self.train(DIGITS_GRAPH, *TRAIN_DIGITS, "--steps=150")
        self.assertIn("resumed from step 130\n", result.stderr)
        self.assertEqual(self.tensor("global_step"), [150])

    def test_a_finalised_graph_with_its_saver_and_queues(self):
        for name in ("tiny_final", "plain_saver", "sharded_saver"):
            with self.subTest(graph=name):
                self.run_dir = self.dir / name
                feeds, arguments = {}, ()
                if name != "tiny_final":
                    feeds = {"x:0": np.load(GRAPHS / "x4.npy"), "y:0": np.load(GRAPHS / "y.npy")}
                    arguments = linear_feeds()
                self.python_trains(GRAPHS / f"{name}.meta", feeds, 10)
                self.assertIn("resumed from step 10\n", self.train(GRAPHS / f"{name}.meta", *arguments, "--steps=20").stderr)
                self.python_trains(GRAPHS / f"{name}.meta", feeds, 30)
                self.assertEqual(self.tensor("global_step"), [30])


class Exports(Case):
    """belay export gives a SavedModel that predicts what belay eval measured."""

    def export(self, graph):
        out = self.dir / "exported"
        self.belay("export", graph, "--dir", self.run_dir, "--to", out)
        self.assertEqual([p.name for p in self.dir.iterdir() if p.name.startswith(".")], [])
        return tf.saved_model.load(str(out))

    def check_digits(self, graph):
        self.train(graph, *TRAIN_DIGITS, "--steps=200")
        model = self.export(graph)
        told = json.loads(self.belay("eval", graph, "--dir", self.run_dir, *TEST_DIGITS, "--json").stdout)["metrics"]
        x, y = digits("test")
        logits = model.signatures["serving_default"](x=tf.constant(x))["logits"].numpy()
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=logits).numpy()
        self.assertAlmostEqual(told["loss"] / losses.mean(dtype=np.float64), 1, delta=ROUNDING)
        self.assertAlmostEqual(told["accuracy"], (logits.argmax(axis=1) == y).mean(), places=6)

    def test_keras(self):
        self.check_digits(DIGITS_KERAS)

    def test_graph(self):
        self.check_digits(DIGITS_GRAPH)

    def test_what_was_exported_can_be_trained_on(self):
        self.train(GRAPHS / "module", *linear_feeds(), "--steps=30")
        weights = self.tensor("w/.ATTRIBUTES/VARIABLE_VALUE")
        self.export(GRAPHS / "module")
        again = self.dir / "again"
        self.belay("train", self.dir / "exported", "--dir", again, *linear_feeds(), "--steps=1")
        self.assertEqual(self.tensor("w/.ATTRIBUTES/VARIABLE_VALUE", again / "model.ckpt-0"), weights)

    def test_a_vocabulary_goes_along(self):
        """Moved to another place, without the file that the graph was made with."""
        vocabulary = self.dir / "vocab.txt"
        graph = self.dir / "table.meta"
        vocabulary.write_text("".join(f"{i}\n" for i in range(10)))
        with tf.Graph().as_default():
            ids = tf1.placeholder(tf.int64, [None], name="ids")
            index = tf.lookup.TextFileIndex
            table = tf.lookup.StaticVocabularyTable(
                tf.lookup.TextFileInitializer(str(vocabulary), tf.string, index.WHOLE_LINE, tf.int64, index.LINE_NUMBER), 1
            )
            embedding = tf1.get_variable("embedding", [11], initializer=tf1.zeros_initializer())
            rows = tf.identity(tf.gather(embedding, table.lookup(tf.strings.as_string(ids))), name="rows")
            loss = tf.reduce_mean(tf.square(rows - 1.0), name="loss")
            step = tf1.train.get_or_create_global_step()
            train = tf1.train.GradientDescentOptimizer(0.5).minimize(loss, global_step=step, name="train")
            export_graph(graph, train_op=train, train={"ids": ids, "loss": loss}, serving={"ids": ids, "rows": rows})
        self.train(graph, "--feed", f"ids={GRAPHS}/ids.npy", "--steps=20")
        self.export(graph)
        vocabulary.unlink()
        moved = shutil.move(self.dir / "exported", self.dir / "moved")
        model = tf.saved_model.load(str(moved))
        rows = model.signatures["serving_default"](ids=tf.constant([3, 99], tf.int64))["rows"].numpy()
        np.testing.assert_allclose(rows, np.float32(self.tensor("embedding"))[[3, 10]])
        self.assertNotEqual(rows[0], 0)

    def test_reference_and_partitioned_variables(self):
        for name, feeds in (("refvars", linear_feeds()), ("partitioned", ("--feed", f"ids={GRAPHS}/ids.npy"))):
            with self.subTest(graph=name):
                self.run_dir = self.dir / name
                self.train(GRAPHS / f"{name}.meta", *feeds, "--steps=5")
                self.fails(
                    1, "export", GRAPHS / f"{name}.meta", "--dir", self.run_dir, "--to", self.dir / "out",
                    saying="no signature",
                )

    def test_a_folder_that_is_not_empty_is_left_alone(self):
        self.train(GRAPHS / "module", *linear_feeds(), "--steps=3")
        arguments = ("export", GRAPHS / "module", "--dir", self.run_dir, "--to", self.dir / "out")
        (self.dir / "out").mkdir()
        self.belay(*arguments)  # an empty one is fine
        before = self.names(self.dir / "out")
        self.fails(1, *arguments, saying=f"{self.dir}/out is there")
        self.assertEqual(self.names(self.dir / "out"), before)
        (self.dir / "file").write_text("")
        self.fails(1, *arguments[:-1], self.dir / "file", saying="is a file")

    def test_of_a_checkpoint_that_is_not_the_newest(self):
        self.train(GRAPHS / "module", *linear_feeds(), "--steps=6", "--save-steps=3")
        out = self.dir / "out"
        result = self.belay("export", GRAPHS / "module", "--dir", self.run_dir / "model.ckpt-3", "--to", out)
        self.assertIn("exported step 3", result.stderr)
        self.belay("ckpt", "diff", self.run_dir / "model.ckpt-3", out / "variables" / "variables")


if __name__ == "__main__":
    unittest.main()
