"""Proves python/belay_export.py against Keras itself: python3 tests/python/test_export.py

A SavedModel is trained here through tf.saved_model.load(), or through a TF1 session and its saver_def, which is what
belay does; the other side is Keras' own train_on_batch() on the very model that was exported.
"""

import os
import pathlib
import sys
import tempfile
import unittest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent.parent / "python"))

import absl.logging
import keras
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2

from belay_export import export_graph, export_keras, export_module

layers = keras.layers
tf1 = tf.compat.v1

tf.get_logger().setLevel("ERROR")
absl.logging.set_verbosity(absl.logging.ERROR)

STEPS = 3
ROWS = 16


class ExportTest(unittest.TestCase):
    def setUp(self):
        keras.utils.set_random_seed(7)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.rng = np.random.default_rng(7)

    def floats(self, *shape):
        return self.rng.random(shape, np.float32)

    def classes(self, n):
        return self.rng.integers(0, n, ROWS)

    def exported(self, model, **options):
        path = self.folder / "exported"
        export_keras(model, path, **options)
        return tf.saved_model.load(str(path))

    def assert_outputs(self, actual, expected):
        self.assertEqual(set(actual), set(expected))
        for name, value in expected.items():
            np.testing.assert_allclose(actual[name], value, rtol=2e-5, atol=1e-6, err_msg=name)

    def assert_same_state(self, loaded, model):
        for group, variables in ((loaded.model, model.variables), (loaded.optimizer, model.optimizer.variables)):
            for variable in variables:
                node = group
                for part in variable.path.split("/"):
                    node = node[part]
                np.testing.assert_allclose(node, variable.value, rtol=1e-4, atol=1e-6, err_msg=variable.path)

    def assert_trains_as_keras_does(self, model, x, y, feeds, **options):
        """x, y: as Keras takes them; feeds: the same by the names of the signature's inputs."""
        before = [variable.numpy() for variable in model.variables]
        loaded = self.exported(model, **options)
        for variable, value in zip(model.variables, before):
            np.testing.assert_array_equal(variable.numpy(), value, err_msg="exporting changed the model")
        train, evaluate = loaded.signatures["train"], loaded.signatures["eval"]
        feeds = {name: tf.constant(value) for name, value in feeds.items()}
        for _ in range(STEPS):
            model.reset_metrics()
            self.assert_outputs(train(**feeds), model.train_on_batch(x, y, return_dict=True))
            self.assert_same_state(loaded, model)
        model.reset_metrics()
        expected = model.test_on_batch(x, y, return_dict=True)
        before = [variable.numpy() for variable in train.variables]
        for _ in range(2):
            self.assert_outputs(evaluate(**feeds), expected)
        for variable, value in zip(train.variables, before):
            np.testing.assert_array_equal(variable.numpy(), value, err_msg=f"eval changed {variable.name}")
        return loaded


def rich_model():
    """Everything that has state: batch norm, dropout, a schedule, clipping, weight decay; regularised."""
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(8, activation="relu", kernel_regularizer=keras.regularizers.L2(0.01)),
            layers.BatchNormalization(),
            layers.Dropout(0.3),
            layers.Dense(8, activity_regularizer=keras.regularizers.L1(0.01)),
            layers.GaussianNoise(0.1),
            layers.Dense(3),
        ]
    )
    rate = keras.optimizers.schedules.CosineDecay(1e-2, 10)
    model.compile(
        optimizer=keras.optimizers.AdamW(rate, global_clipnorm=0.5),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy", keras.metrics.SparseTopKCategoricalAccuracy(2, name="top2")],
    )
    return model


def dense_model(optimizer="sgd", loss="mse", metrics=None):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(1)])
    model.compile(optimizer=optimizer, loss=loss, metrics=metrics)
    return model


class TestKeras(ExportTest):
    def test_a_model_with_every_kind_of_state_trains_as_in_keras(self):
        x, y = self.floats(ROWS, 4), self.classes(3)
        model = rich_model()
        loaded = self.assert_trains_as_keras_does(model, x, y, {"x": x, "y": y})
        served = loaded.signatures["serving_default"](x=tf.constant(x))
        self.assert_outputs(served, {"output": model(x, training=False)})

    def test_a_half_trained_model_goes_on_where_it_was(self):
        x, y = self.floats(ROWS, 4), self.classes(3)
        model = rich_model()
        model.fit(x, y, batch_size=4, epochs=2, verbose=0)
        self.assert_trains_as_keras_does(model, x, y, {"x": x, "y": y})

    def test_dictionary_inputs_and_several_outputs(self):
        wide, deep = keras.Input((3,), name="wide"), keras.Input((), dtype="int32", name="deep")
        joined = layers.Concatenate()([wide, layers.Embedding(5, 2)(deep)])
        outputs = {"kind": layers.Dense(3, activation="softmax")(joined), "score": layers.Dense(1)(joined)}
        model = keras.Model({"wide": wide, "deep": deep}, outputs)
        model.compile(
            optimizer="rmsprop",
            loss={"kind": "sparse_categorical_crossentropy", "score": "mse"},
            loss_weights={"kind": 1.0, "score": 0.3},
            metrics={"kind": ["accuracy"], "score": ["mae"]},
        )
        x = {"wide": self.floats(ROWS, 3), "deep": self.classes(5).astype(np.int32)}
        y = {"kind": self.classes(3), "score": self.floats(ROWS, 1)}
        feeds = {**x, "y_kind": y["kind"], "y_score": y["score"]}
        loaded = self.assert_trains_as_keras_does(model, x, y, feeds)
        self.assertEqual(set(loaded.signatures["serving_default"].structured_outputs), {"kind", "score"})

    def test_listed_inputs_and_outputs_have_the_names_of_their_layers(self):
        a, b = keras.Input((2,), name="a"), keras.Input((2,), name="b")
        model = keras.Model([a, b], [layers.Dense(1, name="sum")(a + b), layers.Dense(1, name="product")(a * b)])
        model.compile(optimizer="adam", loss="mse")
        x, y = [self.floats(ROWS, 2), self.floats(ROWS, 2)], [self.floats(ROWS, 1), self.floats(ROWS, 1)]
        self.assert_trains_as_keras_does(model, x, y, {"a": x[0], "b": x[1], "y_sum": y[0], "y_product": y[1]})

    def test_optimizers_with_more_state(self):
        x, y = self.floats(ROWS, 4), self.floats(ROWS, 1)
        optimizers = keras.optimizers
        for optimizer in (
            optimizers.SGD(0.1, momentum=0.9, nesterov=True, clipvalue=0.1),
            optimizers.Adam(0.1, amsgrad=True, use_ema=True, ema_momentum=0.9),
            optimizers.Adagrad(0.1, gradient_accumulation_steps=2),
            optimizers.LossScaleOptimizer(optimizers.Nadam(0.1)),
        ):
            with self.subTest(optimizer.name):
                self.assert_trains_as_keras_does(dense_model(optimizer), x, y, {"x": x, "y": y})

    def test_metrics_speak_of_one_batch_only(self):
        metrics = [keras.metrics.AUC(num_thresholds=20), keras.metrics.Precision(), "mae"]
        model = keras.Sequential([keras.Input((4,)), layers.Dense(1, activation="sigmoid")])
        model.compile(optimizer="adam", loss="binary_crossentropy", metrics=metrics)
        x, y = self.floats(ROWS, 4), self.classes(2).astype(np.float32)[:, None]
        loaded = self.assert_trains_as_keras_does(model, x, y, {"x": x, "y": y})
        keys = [name for name, _ in tf.train.list_variables(str(self.folder / "exported/variables/variables"))]
        self.assertFalse([key for key in keys if "auc" in key or "precision" in key], keys)
        self.assertEqual(set(loaded.signatures["train"].structured_outputs), {"loss", "auc", "precision", "mae"})

    def test_a_model_that_adds_its_own_loss_has_no_labels(self):
        class Reconstruction(layers.Layer):
            def call(self, x, y):
                self.add_loss(keras.ops.mean(keras.ops.square(x - y)))
                return y

        inputs = keras.Input((4,))
        model = keras.Model(inputs, Reconstruction()(inputs, layers.Dense(4)(layers.Dense(2)(inputs))))
        model.compile(optimizer="adam")
        x = self.floats(ROWS, 4)
        self.assert_trains_as_keras_does(model, x, None, {"x": x})

    def test_a_vocabulary_table_is_part_of_the_saved_model(self):
        words = keras.Input((), dtype="string", name="words")
        codes = layers.StringLookup(vocabulary=["red", "green", "blue"], name="lookup")(words)
        model = keras.Model(words, layers.Dense(1)(layers.Embedding(4, 2)(codes)))
        model.compile(optimizer="adam", loss="mse")
        x, y = tf.constant(["red", "blue", "mauve", "green"] * 4), self.floats(ROWS, 1)
        self.assert_trains_as_keras_does(model, x, y, {"x": x, "y": y})

    def test_a_subclassed_model_is_told_its_inputs_and_labels(self):
        class Plain(keras.Model):
            def __init__(self):
                super().__init__()
                self.dense, self.dropout = layers.Dense(3), layers.Dropout(0.5)

            def call(self, x, training=False):
                return self.dense(self.dropout(x, training=training))

        model = Plain()
        model.compile(optimizer="adam", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        x, y = self.floats(ROWS, 4), self.classes(3).astype(np.int32)
        model(x)
        with self.assertRaisesRegex(ValueError, "does not know its inputs: give them, as in inputs="):
            self.exported(model)
        specs = {"inputs": tf.TensorSpec([None, 4]), "labels": tf.TensorSpec([None], tf.int32)}
        self.assert_trains_as_keras_does(model, x, y, {"x": x, "y": y}, **specs)

    def test_sequences_of_any_length(self):
        inputs = keras.Input((None,), dtype="int32")
        hidden = layers.LSTM(4, recurrent_dropout=0.2)(layers.Embedding(9, 3, mask_zero=True)(inputs))
        model = keras.Model(inputs, layers.Dense(1)(hidden))
        model.compile(optimizer="adam", loss="mse")
        x, y = self.rng.integers(0, 9, (ROWS, 6)).astype(np.int32), self.floats(ROWS, 1)
        self.assert_trains_as_keras_does(model, x, y, {"x": x, "y": y})

    def test_the_batch_is_open_unless_fixed(self):
        def rows(signature):
            return {name: spec.shape[0] for name, spec in signature.structured_input_signature[1].items()}

        signatures = self.exported(dense_model()).signatures
        self.assertEqual(rows(signatures["train"]), {"x": None, "y": None})
        signatures = self.exported(dense_model(), batch=8, output="score").signatures
        self.assertEqual(rows(signatures["train"]), {"x": 8, "y": 8})
        self.assertEqual(rows(signatures["serving_default"]), {"x": 8})
        self.assertEqual(list(signatures["serving_default"].structured_outputs), ["score"])

    def test_errors_say_what_to_do(self):
        def layer():
            return keras.Sequential([layers.Dense(1)])

        class OwnStep(keras.Sequential):
            def train_step(self, data):
                return super().train_step(data)

        unbuilt, own_step, no_optimizer = layer(), OwnStep([keras.Input((4,)), layers.Dense(1)]), dense_model(None)
        unbuilt.compile(loss="mse")
        own_step.compile(loss="mse")
        for model, message in (
            (keras.Sequential([keras.Input((4,)), layers.Dense(1)]), "not compiled: call model.compile"),
            (unbuilt, "not built: start it with keras.Input"),
            (no_optimizer, "no optimizer: give one to model.compile"),
            (own_step, "train_step.. of its own.*use export_module"),
            (dense_model(metrics=[keras.metrics.R2Score(class_aggregation=None)]), "'r2_score' of train.*not a scalar"),
            (tf.Module(), "takes a keras.Model, not Module.*export_module"),
        ):
            with self.subTest(message), self.assertRaisesRegex(ValueError, message):
                self.exported(model)
        self.assertFalse((self.folder / "exported").exists())


class TestSession(ExportTest):
    """The way belay takes: variables/ restored by the saver_def, the init op, then signatures by their tensors."""

    def open(self, path, checkpoint):
        with tf.Graph().as_default() as graph:
            session = tf1.Session()
            self.addCleanup(session.close)
            saved = tf1.saved_model.loader.load(session, ["serve"], str(path))
            saver = saved.saver_def
            session.run(graph.get_operation_by_name(saver.restore_op_name), {saver.filename_tensor_name: checkpoint})
            session.run(tf1.get_collection("saved_model_main_op"))
        return session, saved

    def steps(self, session, saved, feeds, n):
        signature = saved.signature_def["train"]
        feed = {signature.inputs[name].name: value for name, value in feeds.items()}
        return [float(session.run(signature.outputs["loss"].name, feed)) for _ in range(n)]

    def test_a_second_process_goes_on_from_a_checkpoint_of_the_saver_def(self):
        x, y = self.floats(ROWS, 4), self.classes(3)
        path, checkpoint = self.folder / "exported", str(self.folder / "checkpoint")
        model = rich_model()
        export_keras(model, path)
        feeds = {"x": x, "y": y}
        session, saved = self.open(path, str(path / "variables/variables"))
        first = self.steps(session, saved, feeds, 3)
        session.run(saved.saver_def.save_tensor_name, {saved.saver_def.filename_tensor_name: checkpoint})
        session, saved = self.open(path, checkpoint)
        then = self.steps(session, saved, feeds, 3)
        expected = []
        for _ in range(6):
            model.reset_metrics()
            expected.append(float(model.train_on_batch(x, y)[0]))
        np.testing.assert_allclose(first + then, expected, rtol=2e-5)


class Line(tf.Module):
    def __init__(self):
        super().__init__()
        self.w = tf.Variable(0.0)
        self.marker = tf.Variable([1.0, 2.0], trainable=False)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    def train(self, x):
        self.w.assign_add(tf.reduce_mean(x))
        return {"loss": self.w + 0.0}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    def rows(self, x):
        return {"rows": x * self.w}


class TestModule(ExportTest):
    def test_a_module_trains_and_keeps_what_no_function_uses(self):
        module, path = Line(), self.folder / "exported"
        export_module(module, path, train=module.train, serving=module.rows)
        loaded = tf.saved_model.load(str(path))
        loaded.signatures["train"](x=tf.constant([1.0, 3.0]))
        self.assertEqual(float(loaded.w), 2.0)
        self.assertEqual(list(loaded.marker.numpy()), [1.0, 2.0])
        self.assertEqual(set(loaded.signatures), {"train", "serving_default"})

    def test_errors_say_what_to_do(self):
        outside = tf.Variable(1.0, name="outside")
        spec = [tf.TensorSpec([], tf.float32, "x")]
        module = Line()
        for functions, message in (
            ({}, "nothing to export: give at least one"),
            ({"train": tf.function(lambda x: {"loss": x})}, "train needs an input signature: decorate it"),
            ({"train": lambda x: {"loss": x}}, "train needs an input signature: decorate it"),
            ({"eval": tf.function(lambda x: x, input_signature=spec)}, "eval has no named outputs: return a dict"),
            ({"eval": tf.function(lambda x: {}, input_signature=spec)}, "eval has no named outputs: return a dict"),
            ({"train": module.rows}, "'rows' of train has shape .*, not a scalar: reduce it"),
            (
                {"train": tf.function(lambda x: {"loss": x * outside}, input_signature=spec)},
                "does not hold.*outside:0.*attribute of the module",
            ),
        ):
            with self.subTest(message), self.assertRaisesRegex(ValueError, message):
                export_module(module, self.folder / "exported", **functions)


class TestGraph(ExportTest):
    def build(self):
        x = tf1.placeholder(tf.float32, [None], name="x")
        w = tf1.get_variable("w", [], initializer=tf1.zeros_initializer())
        loss = tf.reduce_mean(tf.square(x - w), name="loss")
        step = tf1.train.get_or_create_global_step()
        return x, w, loss, tf1.train.GradientDescentOptimizer(0.1).minimize(loss, step, name="train")

    def read(self):
        meta = meta_graph_pb2.MetaGraphDef()
        meta.ParseFromString((self.folder / "graph.meta").read_bytes())
        return meta

    def build_sync(self, **arguments):
        optimizer = tf1.train.SyncReplicasOptimizer(tf1.train.GradientDescentOptimizer(0.1), **arguments)
        w = tf1.get_variable("w", [], initializer=tf1.zeros_initializer())
        step = tf1.train.get_or_create_global_step()
        return optimizer, optimizer.compute_gradients(tf.square(w - 1.0)), step

    # HK-SYNC-01
    def test_what_a_sync_replicas_optimizer_knows_is_written_down(self):
        with tf.Graph().as_default() as graph:
            optimizer, gradients, step = self.build_sync(replicas_to_aggregate=3, total_num_replicas=2)
            with self.assertRaisesRegex(ValueError, "after apply_gradients"):
                export_graph(self.folder / "graph.meta", train_op=step, sync_replicas=optimizer)
            train_op = optimizer.apply_gradients(gradients, step)
            export_graph(self.folder / "graph.meta", train_op=train_op, sync_replicas=optimizer)
        collections = self.read().collection_def
        names = list(collections["belay_sync_replicas"].node_list.value)
        self.assertEqual(len(names), 5)
        ops = [graph.as_graph_element(name) for name in names]
        self.assertIs(ops[0], optimizer.chief_init_op)
        self.assertEqual(ops[1].name, optimizer.local_step_init_op.name)
        self.assertEqual(ops[2].name, optimizer.ready_for_local_init_op.name)
        self.assertEqual(ops[3].name, "sync_token_q")
        self.assertEqual(ops[4].name, optimizer.get_chief_queue_runner().enqueue_ops[0].name)
        self.assertEqual(list(collections["belay_sync_replicas_counts"].int64_list.value), [3, 2])

    def test_collections_and_signatures_are_in_the_file(self):
        with tf.Graph().as_default():
            x, _, loss, train_op = self.build()
            batch = {"x": x, "loss": loss}
            export_graph(self.folder / "graph.meta", train_op=train_op, train=batch, serving={"x": x, "twice": x * 2})
        meta = self.read()
        self.assertEqual(list(meta.collection_def["train_op"].node_list.value), ["train"])
        self.assertFalse(meta.HasField("saver_def"))
        self.assertEqual(set(meta.signature_def), {"train", "serving_default"})
        self.assertEqual(meta.signature_def["train"].inputs["x"].name, "x:0")
        self.assertEqual(list(meta.signature_def["train"].outputs), ["loss"])
        self.assertEqual(list(meta.signature_def["serving_default"].outputs), ["twice"])
        with tf.Graph().as_default():
            self.assertIsNotNone(tf1.train.import_meta_graph(str(self.folder / "graph.meta")))

    def test_a_finalised_graph_and_a_saver(self):
        with tf.Graph().as_default() as graph:
            train_op = self.build()[-1]
            saver = tf1.train.Saver()
            tf1.train.Scaffold(saver=saver).finalize()
        export_graph(self.folder / "graph.meta", train_op=train_op, graph=graph, saver=saver)
        self.assertEqual(self.read().saver_def.restore_op_name, "save/restore_all")

    def test_errors_say_what_to_do(self):
        with self.assertRaisesRegex(ValueError, "no graph to export: build it under"):
            export_graph(self.folder / "graph.meta")
        with tf.Graph().as_default():
            tf1.get_variable("v", [])
            with self.assertRaisesRegex(ValueError, "nothing to train: give train_op="):
                export_graph(self.folder / "graph.meta")
        with tf.Graph().as_default():
            x, _, _, train_op = self.build()
            with self.assertRaisesRegex(ValueError, "train has no named outputs"):
                export_graph(self.folder / "graph.meta", train_op=train_op, train={"x": x})
            with self.assertRaisesRegex(ValueError, "'y' of eval has shape .* not a scalar"):
                export_graph(self.folder / "graph.meta", train_op=train_op, eval={"x": x, "y": x * 2})


if __name__ == "__main__":
    unittest.main()
