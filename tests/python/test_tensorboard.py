#!/usr/bin/env python3
"""Writes event files with the library, and looks at them through TensorBoard's own readers and plugins.

usage: test_tensorboard.py libbelay.so belay FOLDER      FOLDER holds the test graphs (tests/graphs/make_graphs.py)
"""
import ctypes as c
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import unittest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
from tensorboard import context
from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer
from tensorboard.plugins import base_plugin
from tensorboard.plugins.graph import graphs_plugin
from tensorboard.plugins.hparams import (
    api_pb2, backend_context, get_experiment, list_session_groups, plugin_data_pb2, summary as hparams_summary,
)

tf1 = tf.compat.v1
LIBRARY, COMMAND, GRAPHS = sys.argv[1:4] if len(sys.argv) > 3 else ("libbelay.so", "belay", ".")
del sys.argv[1:4]
INVALID_ARGUMENT, ALREADY_EXISTS = 3, 6
NUMBER, BOOL, TEXT = 0, 1, 2


class Hparam(c.Structure):
    _fields_ = [("name", c.c_char_p), ("text", c.c_char_p), ("number", c.c_double), ("type", c.c_int32),
                ("reserved", c.c_uint32)]


class HparamInfo(c.Structure):
    _fields_ = [("name", c.c_char_p), ("display_name", c.c_char_p), ("description", c.c_char_p),
                ("values", c.POINTER(Hparam)), ("value_count", c.c_size_t), ("min", c.c_double), ("max", c.c_double),
                ("type", c.c_int32), ("reserved", c.c_uint32)]


class MetricInfo(c.Structure):
    _fields_ = [("tag", c.c_char_p), ("group", c.c_char_p), ("display_name", c.c_char_p), ("description", c.c_char_p)]


class Experiment(c.Structure):
    _fields_ = [("struct_size", c.c_size_t), ("name", c.c_char_p), ("description", c.c_char_p),
                ("hparams", c.POINTER(HparamInfo)), ("hparam_count", c.c_size_t), ("metrics", c.POINTER(MetricInfo)),
                ("metric_count", c.c_size_t)]


belay = c.CDLL(LIBRARY)
belay.belay_error_new.restype = belay.belay_summary_writer_open.restype = c.c_void_p
belay.belay_error_message.restype = c.c_char_p
ERR = c.c_void_p(belay.belay_error_new())


class Failed(Exception):
    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


def check(code):
    if code:
        raise Failed(code, belay.belay_error_message(ERR).decode())


def bytes_of(text):
    return None if text is None else text.encode()


class Writer:
    """belay's summary writer."""

    def __init__(self, folder):
        self.handle = c.c_void_p(belay.belay_summary_writer_open(bytes_of(str(folder)), None, ERR))
        if not self.handle:
            check(belay.belay_error_code(ERR))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        code = belay.belay_summary_writer_close(self.handle, c.c_int64(0), ERR)
        belay.belay_summary_writer_unref(self.handle)
        check(code)

    def scalar(self, tag, value, step):
        check(belay.belay_summary_writer_add_scalar(self.handle, bytes_of(tag), c.c_double(value), c.c_int64(step), ERR))

    def histogram(self, tag, values, step):
        values = np.ascontiguousarray(values)
        check(belay.belay_summary_writer_add_histogram(
            self.handle, bytes_of(tag), values.ctypes.data_as(c.c_void_p), tf.as_dtype(values.dtype).as_datatype_enum,
            c.c_size_t(values.size), c.c_int64(step), ERR))

    def image(self, tag, png, step):
        check(belay.belay_summary_writer_add_image(
            self.handle, bytes_of(tag), png, c.c_size_t(len(png)), c.c_int64(step), ERR))

    def text(self, tag, text, step):
        text = text if isinstance(text, bytes) else text.encode()
        check(belay.belay_summary_writer_add_text(self.handle, bytes_of(tag), text, c.c_int64(step), ERR))

    def summary(self, message, step):
        data = message.SerializeToString()
        check(belay.belay_summary_writer_add_summary(self.handle, data, c.c_size_t(len(data)), c.c_int64(step), ERR))

    def graph(self, graph_def, step=0):
        data = graph_def.SerializeToString()
        check(belay.belay_summary_writer_add_graph(self.handle, data, c.c_size_t(len(data)), c.c_int64(step), ERR))

    def run_metadata(self, tag, metadata, step):
        data = metadata.SerializeToString()
        check(belay.belay_summary_writer_add_run_metadata(
            self.handle, bytes_of(tag), data, c.c_size_t(len(data)), c.c_int64(step), ERR))

    def hparams(self, values, group=None):
        check(belay.belay_summary_writer_add_hparams(
            self.handle, hparams_of(values), c.c_size_t(len(values)), bytes_of(group), ERR))

    def hparams_end(self, status):
        check(belay.belay_summary_writer_add_hparams_end(self.handle, status, ERR))

    def experiment(self, infos, metrics, name=None):
        experiment = Experiment(c.sizeof(Experiment), bytes_of(name), None, (HparamInfo * len(infos))(*infos), len(infos),
                                (MetricInfo * len(metrics))(*metrics), len(metrics))
        check(belay.belay_summary_writer_add_hparams_experiment(self.handle, c.byref(experiment), ERR))


def hparam(name, value):
    if isinstance(value, bool):
        return Hparam(bytes_of(name), None, value, BOOL)
    if isinstance(value, str):
        return Hparam(bytes_of(name), bytes_of(value), 0, TEXT)
    return Hparam(bytes_of(name), None, value, NUMBER)


def hparams_of(values):
    pairs = values.items() if isinstance(values, dict) else values
    return (Hparam * max(len(values), 1))(*(hparam(name, value) for name, value in pairs))


def info(name, kind, values=(), low=0.0, high=0.0):
    listed = hparams_of([("", value) for value in values])
    return HparamInfo(bytes_of(name), None, b"about " + bytes_of(name), listed if values else None, len(values), low, high, kind)


class Case(unittest.TestCase):
    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="belay-tensorboard-"))
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)

    def values(self, folder=None):
        """All values of all summaries below a folder's files, with their steps."""
        return [(event.step, value)
                for path in sorted((folder or self.dir).glob("*tfevents*"))
                for event in tf1.train.summary_iterator(str(path)) for value in event.summary.value]

    def provider(self):
        """TensorBoard's own view of the folder."""
        self.multiplexer = multiplexer = plugin_event_multiplexer.EventMultiplexer(
            size_guidance={"tensors": 0}, tensor_size_guidance={name: 0 for name in ("scalars", "histograms", "images", "text")})
        multiplexer.AddRunsFromDirectory(str(self.dir))
        multiplexer.Reload()
        return data_provider.MultiplexerDataProvider(multiplexer, str(self.dir))

    def tensors(self, plugin, tag, run="."):
        """The values of a tag that must be for this plugin."""
        self.assertEqual(self.multiplexer.SummaryMetadata(run, tag).plugin_data.plugin_name, plugin)
        return [(event.step, tf.make_ndarray(tf1.make_tensor_proto(0).FromString(event.tensor_proto.SerializeToString())))
                for event in self.multiplexer.Tensors(run, tag)]

    def scalars(self, provider, tag, run="."):
        found = provider.read_scalars(context.RequestContext(), experiment_id="", plugin_name="scalars", downsample=1000,
                                      run_tag_filter=None)
        return [(point.step, point.value) for point in found[run][tag]]


class AsTensorFlowWritesIt(Case):
    """The same values through a graph's summary ops: bytes of the summaries are equal."""

    def graphs(self, make, values):
        with tf.Graph().as_default(), tf1.Session() as session:
            return tf1.Summary.FromString(session.run(make(tf.constant(values))))

    def check_histogram(self, values):
        folder = pathlib.Path(tempfile.mkdtemp(dir=self.dir))
        wanted = self.graphs(lambda t: tf1.summary.histogram("h", t), values)
        with Writer(folder) as writer:
            writer.histogram("h", values, 1)
        ((step, found),) = self.values(folder)
        self.assertEqual(step, 1)
        self.assertEqual(found.SerializeToString(), wanted.value[0].SerializeToString(), values.dtype)

    def test_histograms_of_every_type(self):
        random_values = np.random.default_rng(1)
        for dtype in (np.float32, np.float64, np.float16, tf.bfloat16.as_numpy_dtype):
            self.check_histogram((random_values.normal(size=200) * 3).astype(dtype))
        for dtype in (np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16):
            self.check_histogram(random_values.integers(0, 100, 50).astype(dtype))
        self.check_histogram(np.array([-5, 5, 0], np.int64))

    def test_histograms_of_odd_values(self):
        for values in ([], [0.0], [0.0, 0.0], [1e-300, -1e-300], [1e-12], [-1e-12], [1e30, -1e30, 1e300, 1.0],
                       [1.1e-12, 1e-12 * 1.1], [5.0] * 1000):
            self.check_histogram(np.array(values, np.float64))
        exponents = random.Random(2)
        self.check_histogram(np.array([exponents.choice((-1, 1)) * 10 ** exponents.uniform(-15, 25) for _ in range(3000)]))
        self.check_histogram(np.array([0x0001, 0x83FF, 0x7BFF], np.uint16).view(np.float16))

    def test_histograms_refuse_what_has_no_bucket(self):
        with Writer(self.dir) as writer:
            for bad in (np.nan, np.inf, -np.inf):
                with self.assertRaisesRegex(Failed, "value 1 of the histogram") as raised:
                    writer.histogram("h", np.array([1.0, bad], np.float32), 1)
                self.assertEqual(raised.exception.code, INVALID_ARGUMENT)
            with self.assertRaisesRegex(Failed, "complex64"):
                writer.histogram("h", np.zeros(1, np.complex64), 1)
        self.assertEqual(self.values(), [])

    def test_images(self):
        with Writer(self.dir) as writer:
            for channels in (1, 3, 4):
                pixels = np.random.default_rng(channels).integers(0, 255, (1, 5, 7, channels)).astype(np.uint8)
                wanted = self.graphs(lambda t: tf1.summary.image("p", t), pixels).value[0]
                writer.image("p/image/0", wanted.image.encoded_image_string, channels)
                self.assertEqual(self_last(self, writer).SerializeToString(), wanted.SerializeToString())
            png = wanted.image.encoded_image_string
            for bad in (b"", png[:32], b"GIF89a" + png[6:], png[:16] + bytes(4) + png[20:], png[:25] + b"\x05" + png[26:]):
                with self.assertRaisesRegex(Failed, "not a PNG"):
                    writer.image("p", bad, 1)

    def test_texts(self):
        with Writer(self.dir) as writer:
            writer.text("note", "# title\n\näöü", 1)
            writer.text("note", b"not \xff UTF-8", 2)
        wanted = self.graphs(lambda t: tf1.summary.text("note", t), "# title\n\näöü").value[0]
        first, second = (value for _, value in self.values())
        self.assertEqual(first.SerializeToString(), wanted.SerializeToString())
        self.assertEqual(second.tensor.string_val[0], b"not ? UTF-8")
        self.assertFalse(second.HasField("metadata"))  # EV-09: once a tag

    def test_hparams(self):
        values = {"rate": 0.1, "zero": 0.0, "nesterov": True, "off": False, "optimizer": "adam", "empty": ""}
        with Writer(self.dir) as writer:
            writer.hparams(values, group="trial 3")
            writer.hparams_end(1)
        start, end = (plugin_data(value) for _, value in self.values())
        wanted = hparams_summary.session_start_pb(
            values, group_name="trial 3", start_time_secs=start.session_start_info.start_time_secs).value[0]
        (_, found), _ = self.values()
        self.assertEqual((found.tag, found.tensor), (wanted.tag, wanted.tensor))
        self.assertEqual(start, plugin_data(wanted))
        self.assertEqual(end.session_end_info.status, api_pb2.STATUS_SUCCESS)
        self.assertGreaterEqual(end.session_end_info.end_time_secs, start.session_start_info.start_time_secs)

    def test_hparams_come_once(self):
        with Writer(self.dir) as writer:
            writer.hparams({"a": 1})
            with self.assertRaisesRegex(Failed, "once") as raised:
                writer.hparams({"a": 2})
            self.assertEqual(raised.exception.code, ALREADY_EXISTS)
            for bad, word in (([("a", 1), ("a", 2)], "twice"), ([("", 1)], "missing")):
                with self.assertRaisesRegex(Failed, word):
                    writer.hparams(bad)
            with self.assertRaisesRegex(Failed, "status 9"):
                writer.hparams_end(9)
        self.assertEqual(len(self.values()), 1)


def self_last(case, writer):
    """The newest value in the file."""
    check(belay.belay_summary_writer_flush(writer.handle, c.c_int64(0), ERR))
    return case.values()[-1][1]


def plugin_data(value):
    return plugin_data_pb2.HParamsPluginData.FromString(value.metadata.plugin_data.content)


class TensorBoardShows(Case):
    def test_scalars_histograms_images_and_texts(self):
        png = tf.io.encode_png(np.zeros((3, 4, 3), np.uint8)).numpy()
        with Writer(self.dir) as writer:
            for step in range(1, 6):
                writer.scalar("loss", 1 / step, step)
                writer.histogram("weights", np.arange(step, dtype=np.float32), step)
            writer.image("picture", png, 5)
            writer.text("note", "hello", 5)
        provider = self.provider()
        self.assertEqual(self.scalars(provider, "loss"), [(s, np.float32(1 / s)) for s in range(1, 6)])
        histograms = self.tensors("histograms", "weights")
        self.assertEqual([step for step, _ in histograms], [1, 2, 3, 4, 5])
        self.assertEqual([rows[:, 2].sum() for _, rows in histograms], [1, 2, 3, 4, 5])
        ((_, picture),) = self.tensors("images", "picture")
        self.assertEqual(list(picture), [b"4", b"3", png])
        ((_, note),) = self.tensors("text", "note")
        self.assertEqual(note.item(), b"hello")

    def test_a_start_makes_it_forget_what_a_recovery_undid(self):
        """BUG-45: values of steps that are run again do not stay beside the new ones."""
        with Writer(self.dir) as writer:
            # TensorBoard takes the first START of a folder as its beginning, whatever its step.
            check(belay.belay_summary_writer_add_session_log(writer.handle, 1, None, None, c.c_int64(1), ERR))
            for step in range(1, 8):
                writer.scalar("loss", step, step)
            check(belay.belay_summary_writer_add_session_log(writer.handle, 1, None, None, c.c_int64(4), ERR))
            for step in range(4, 6):
                writer.scalar("loss", 10 * step, step)
        self.assertEqual(self.scalars(self.provider(), "loss"), [(1, 1), (2, 2), (3, 3), (4, 40), (5, 50)])

    def test_the_profile_of_a_step(self):
        with tf.Graph().as_default() as graph, tf1.Session() as session:
            product = tf.matmul(tf.ones((50, 50)), tf.ones((50, 50)), name="product")
            metadata = tf1.RunMetadata()
            session.run(product, options=tf1.RunOptions(trace_level=tf1.RunOptions.FULL_TRACE), run_metadata=metadata)
        self.assertTrue(metadata.step_stats.dev_stats)
        with Writer(self.dir) as writer:
            writer.graph(graph.as_graph_def())
            writer.run_metadata("step_7", metadata, 7)
            with self.assertRaisesRegex(Failed, "step_7") as raised:  # ER-35, EV-11
                writer.run_metadata("step_7", metadata, 8)
            self.assertEqual(raised.exception.code, ALREADY_EXISTS)
        plugin = graphs_plugin.GraphsPlugin(
            base_plugin.TBContext(data_provider=self.provider(), logdir=str(self.dir)))
        ctx = context.RequestContext()
        shown = plugin.info_impl(ctx, "")["."]
        self.assertTrue(shown["run_graph"])
        self.assertTrue(shown["tags"]["step_7"]["profile"])
        text, _ = plugin.graph_impl(ctx, ".", None, False, "")
        self.assertIn('name: "product"', text)
        text, _ = plugin.run_metadata_impl(ctx, "", ".", "step_7")
        self.assertIn('node_name: "product"', text)

    def test_hparams_of_an_experiment_with_its_runs(self):
        with Writer(self.dir) as writer:
            writer.experiment(
                [info("rate", NUMBER, low=0.001, high=0.1), info("optimizer", TEXT, ["sgd", "adam"]), info("nesterov", BOOL)],
                [MetricInfo(b"loss", None, b"Loss", None)], name="digits")
        for name, rate, loss in (("one", 0.1, 0.5), ("two", 0.01, 0.25)):
            with Writer(self.dir / name) as writer:
                writer.hparams({"rate": rate, "optimizer": "adam", "nesterov": name == "one"}, group=name)
                writer.scalar("loss", loss, 9)
                writer.hparams_end(1)
        provider = self.provider()
        backend = backend_context.Context(base_plugin.TBContext(data_provider=provider, logdir=str(self.dir)))
        ctx = context.RequestContext()
        experiment = get_experiment.Handler(ctx, backend, "", api_pb2.GetExperimentRequest()).run()
        self.assertEqual(experiment.name, "digits")
        self.assertEqual([i.name for i in experiment.hparam_infos], ["nesterov", "optimizer", "rate"])  # sorted by it
        nesterov, optimizer, rate = experiment.hparam_infos
        self.assertEqual((rate.type, rate.domain_interval.min_value, rate.domain_interval.max_value),
                         (api_pb2.DATA_TYPE_FLOAT64, 0.001, 0.1))
        self.assertEqual(rate.description, "about rate")
        self.assertEqual([v.string_value for v in optimizer.domain_discrete.values], ["sgd", "adam"])
        self.assertEqual(nesterov.type, api_pb2.DATA_TYPE_BOOL)
        self.assertEqual([(m.name.tag, m.display_name) for m in experiment.metric_infos], [("loss", "Loss")])
        request = api_pb2.ListSessionGroupsRequest(
            allowed_statuses=[api_pb2.STATUS_SUCCESS], slice_size=10,
            col_params=[api_pb2.ColParams(metric=api_pb2.MetricName(tag="loss"), order=api_pb2.ORDER_ASC)])
        groups = list_session_groups.Handler(ctx, backend, "", request).run().session_groups
        self.assertEqual([g.name for g in groups], ["two", "one"])
        self.assertEqual([g.hparams["rate"].number_value for g in groups], [0.01, 0.1])
        self.assertEqual([g.hparams["nesterov"].bool_value for g in groups], [False, True])
        self.assertEqual([g.metric_values[0].value for g in groups], [0.25, 0.5])
        self.assertEqual(groups[0].sessions[0].status, api_pb2.STATUS_SUCCESS)

    def test_a_run_of_the_command(self):
        run = self.dir / "run"
        feeds = [f"--feed={name}={GRAPHS}/{file}.npy" for name, file in (("x", "x4"), ("y", "y"))]
        subprocess.run([COMMAND, "train", f"{GRAPHS}/summaries.meta", "--dir", run, *feeds, "--steps=20", "--summary-steps=5",
                        "--log-steps=10", "--quiet"], check=True)
        with Writer(run) as writer:
            writer.hparams({"rate": 0.1})
        provider = self.provider()
        ctx = context.RequestContext()
        tags = self.multiplexer.Runs()["run"]["tensors"]
        (loss,), (weights,) = ([tag for tag in tags if tag.startswith(name)] for name in ("loss", "w"))
        self.assertEqual([step for step, _ in self.scalars(provider, loss, "run")], [1, 6, 11, 16])
        self.assertTrue(self.scalars(provider, "global_step/sec", "run"))
        self.assertEqual([step for step, _ in self.tensors("histograms", weights, "run")], [1, 6, 11, 16])
        context_ = base_plugin.TBContext(data_provider=provider, logdir=str(self.dir))
        text, _ = graphs_plugin.GraphsPlugin(context_).graph_impl(ctx, "run", None, False, "")
        self.assertIn('name: "loss"', text)
        experiment = get_experiment.Handler(
            ctx, backend_context.Context(context_), "", api_pb2.GetExperimentRequest()).run()
        self.assertEqual([i.name for i in experiment.hparam_infos], ["rate"])


if __name__ == "__main__":
    unittest.main()
