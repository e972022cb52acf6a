#!/usr/bin/env python3
"""Compares graphs as belay prints and reads them with Python's text_format, byte by byte (MG-03, MG-04, EV-22).

usage: test_text_form.py libbelay.so convert_text GRAPHS KERAS [unittest arguments]
The library is called in this process, beside TensorFlow; convert_text is built from convert_text.c.
"""
import ctypes as c
import os
import pathlib
import random
import struct
import subprocess
import sys
import tempfile
import unittest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf
from google.protobuf import any_pb2, text_format, wrappers_pb2
from tensorflow.core.framework import attr_value_pb2, graph_pb2, node_def_pb2
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2, saver_pb2
from tensorflow.python.framework import meta_graph

tf1 = tf.compat.v1
LIBRARY, CONVERT, GRAPHS, KERAS = sys.argv[1:5]
del sys.argv[1:5]
GRAPHS = pathlib.Path(GRAPHS)
KINDS = {
    "graph": graph_pb2.GraphDef,
    "meta_graph": meta_graph_pb2.MetaGraphDef,
    "saved_model": saved_model_pb2.SavedModel,
}
AS_TEXT, CLEAR_DEVICES, ONE_SAVER = 1, 2, 4


class Options(c.Structure):
    _fields_ = [("struct_size", c.c_size_t), ("flags", c.c_uint32), ("reserved", c.c_uint32)]


belay = c.CDLL(LIBRARY)
for name in ("error_new", "graph_load", "saver_new"):
    getattr(belay, "belay_" + name).restype = c.c_void_p
belay.belay_error_message.restype = c.c_char_p
ERR = c.c_void_p(belay.belay_error_new())


def check(value):
    assert value, belay.belay_error_message(ERR).decode()
    return value


class Graph:
    def __init__(self, path):
        self.raw = c.c_void_p(check(belay.belay_graph_load(os.fsencode(path), None, ERR)))

    def export(self, path, flags=0):
        options = Options(c.sizeof(Options), flags, 0)
        check(belay.belay_graph_export_meta_graph(self.raw, os.fsencode(path), c.byref(options), ERR) == 0)
        return path

    def write(self, path, as_text):
        check(belay.belay_graph_write(self.raw, os.fsencode(path), c.c_uint32(as_text), ERR) == 0)
        return path

    def free(self):
        belay.belay_graph_free(self.raw)


def convert(jobs):
    """jobs: (kind, direction, bytes). The bytes that they become, or what is wrong."""
    with tempfile.TemporaryDirectory() as folder:
        lines = []
        for i, (kind, direction, data) in enumerate(jobs):
            pathlib.Path(folder, f"{i}.in").write_bytes(data)
            lines.append(f"{kind} {direction} {folder}/{i}.in {folder}/{i}.out\n")
        answers = subprocess.run(CONVERT, input="".join(lines), stdout=subprocess.PIPE, text=True, errors="replace", check=True)
        answers = answers.stdout.split("\n")[:-1]
        assert len(answers) == len(jobs), answers
        return [pathlib.Path(folder, f"{i}.out").read_bytes() if a == "ok" else a for i, a in enumerate(answers)]


def shipped():
    """(kind, name, message) of all graphs of the tests, and of the Keras example."""
    for path in sorted(GRAPHS.glob("*.meta")):
        yield "meta_graph", path.name, meta_graph_pb2.MetaGraphDef.FromString(path.read_bytes())
    for path in [*sorted(GRAPHS.glob("*/saved_model.pb")), pathlib.Path(KERAS, "saved_model.pb")]:
        yield "saved_model", str(path), saved_model_pb2.SavedModel.FromString(path.read_bytes())


class Random:
    """Messages with every kind of field, filled from a seed."""

    STRINGS = ["", "a", "é", "\t\n\"'\\", "日本", "\x7f\x01", "x" * 40]
    NUMBERS = [0.0, -0.0, 1.0, 0.1, 1e-45, 1e16, 123456789.0, -2.5e-7, float("inf"), float("-inf"), 3.4028234e38, 16777216.0]

    def __init__(self, seed):
        self.r = random.Random(seed)

    def number(self, field):
        kinds = {field.CPPTYPE_INT32: (32, 1), field.CPPTYPE_INT64: (64, 1), field.CPPTYPE_UINT32: (32, 0), field.CPPTYPE_UINT64: (64, 0)}
        bits, signed = kinds[field.cpp_type]
        return self.r.choice([0, 1, 7, (1 << (bits - signed)) - 1, -(1 << (bits - 1)) if signed else 5])

    def float32(self):
        return self.r.choice([*self.NUMBERS, struct.unpack("<f", self.r.randbytes(4))[0]])

    def value(self, field):
        r = self.r
        if field.cpp_type == field.CPPTYPE_BOOL:
            return r.random() < 0.5
        if field.cpp_type == field.CPPTYPE_ENUM:
            return r.choice(field.enum_type.values).number
        if field.cpp_type == field.CPPTYPE_FLOAT:
            return self.float32()
        if field.cpp_type == field.CPPTYPE_DOUBLE:
            return r.choice([*self.NUMBERS, struct.unpack("<d", r.randbytes(8))[0], 5e-324])
        if field.cpp_type == field.CPPTYPE_STRING:
            return r.randbytes(r.randrange(9)) if field.type == field.TYPE_BYTES else r.choice(self.STRINGS)
        return self.number(field)

    def fill_any(self, message):
        if self.r.random() < 0.5:
            message.Pack(saver_pb2.SaverDef(save_tensor_name=self.r.choice(self.STRINGS), version=2))
        elif self.r.random() < 0.5:
            message.Pack(wrappers_pb2.FloatValue(value=self.float32() or 0.0))
        else:
            message.type_url, message.value = "type.example.com/unknown", self.r.randbytes(5)

    def fill(self, message, depth=0):
        if message.DESCRIPTOR.full_name == "google.protobuf.Any":
            self.fill_any(message)
            return message
        for field in message.DESCRIPTOR.fields:
            if self.r.random() < 0.35 + 0.07 * depth:
                continue
            is_message = field.cpp_type == field.CPPTYPE_MESSAGE
            if is_message and depth > 7:
                continue
            if is_message and field.message_type.GetOptions().map_entry:
                self.fill_map(getattr(message, field.name), field.message_type, depth)
            elif field.is_repeated:
                for _ in range(self.r.randrange(3)):
                    self.fill(getattr(message, field.name).add(), depth + 1) if is_message else getattr(message, field.name).append(self.value(field))
            elif is_message:
                getattr(message, field.name).SetInParent()
                self.fill(getattr(message, field.name), depth + 1)
            else:
                # protobuf-c takes a negative zero for unset, which protobuf does not
                setattr(message, field.name, self.value(field) or field.default_value)
        return message

    def fill_map(self, entries, entry, depth):
        key, value = entry.fields_by_name["key"], entry.fields_by_name["value"]
        for _ in range(self.r.randrange(4)):
            k = self.value(key)
            if value.cpp_type == value.CPPTYPE_MESSAGE:
                self.fill(entries[k], depth + 1)
            else:
                entries[k] = self.value(value)


class TestText(unittest.TestCase):
    maxDiff = 2000

    def compare(self, messages):
        """What belay prints is what Python prints; what it reads of Python's text is the message."""
        texts = [text_format.MessageToString(m) for _, _, m in messages]
        printed = convert([(k, "to_text", m.SerializeToString(deterministic=True)) for k, _, m in messages])
        read = convert([(k, "to_bytes", t.encode()) for (k, _, _), t in zip(messages, texts)])
        for (kind, name, message), text, ours, bytes_read in zip(messages, texts, printed, read):
            with self.subTest(name):
                self.assertIsInstance(ours, bytes, ours)
                self.assertTrue(ours == text.encode(), first_difference(ours.decode(), text))
                self.assertIsInstance(bytes_read, bytes, bytes_read)
                # compared as bytes: a NaN is not equal to itself
                again = KINDS[kind].FromString(bytes_read)
                self.assertEqual(again.SerializeToString(deterministic=True), message.SerializeToString(deterministic=True))

    def test_graphs_of_the_tests_and_the_keras_example(self):
        messages = list(shipped())
        self.assertGreater(len(messages), 25)
        self.assertTrue(any(m.meta_graphs[0].graph_def.library.function for k, _, m in messages if k == "saved_model"))
        self.compare(messages)

    def test_random_messages(self):
        self.compare([("meta_graph", f"seed {i}", Random(i).fill(meta_graph_pb2.MetaGraphDef())) for i in range(60)])

    def test_debug_info_and_gradients(self):
        graph = graph_pb2.GraphDef()
        node = graph.node.add(name="n", op="NoOp")
        node.experimental_debug_info.original_node_names.append("before")
        graph.library.gradient.add(function_name="f", gradient_func="g")
        graph.library.registered_gradients.add(gradient_func="g", registered_op_type="CustomGradient")
        graph.debug_info.files.append("model.py")
        graph.debug_info.traces["n"].file_line_cols.add(line=7, func="build")
        graph.debug_info.traces_by_id[2**60].frame_id.append(2**63)
        self.compare([("graph", "debug info", graph)])

    def test_forms_that_python_reads(self):
        """Every way to write the same; both readers must agree that it is the same."""
        texts = [
            "node { name: 'a' op: \"b\" input: ['x', 'y'] attr: { key: 'k' value: { i: 0x10 } } }",
            "node < name: 'a' 'b'\n'c' # to the end\n attr < key: 'f' value < f: 1.5f > > >",
            "node: [{ name: 'a' }, { name: 'b' }]; versions: { producer: 1, min_consumer: 2 };",
            "node { attr { key: 'l' value { list { f: [1, -inf, nan, 1e3] i: [] type: [DT_INT8, 3] b: [true, f, 1] } } } }",
            "node { attr { key: 's' value { s: \"\\000\\x41\\101\\t\\u00e9\\?\" } } attr { key: 's' value { i: 2 } } }",
            "library { function { arg_attr { key: 3 value { } } ret { key: 'r' value: 'v' } ret { key: 'r' value: 'w' } } }",
        ]
        read = convert([("graph", "to_bytes", t.encode()) for t in texts])
        for text, ours in zip(texts, read):
            with self.subTest(text):
                self.assertIsInstance(ours, bytes, ours)
                wanted = text_format.Merge(text, graph_pb2.GraphDef())
                self.assertEqual(graph_pb2.GraphDef.FromString(ours).SerializeToString(deterministic=True),
                                 wanted.SerializeToString(deterministic=True))

    def test_what_neither_reads(self):
        texts = ["node { nam: 'a' }", "node { name: 1 }", "node { name: 'a }", "node {", "node { attr { key: 'a' value { i: 1.5 } } }",
                 "versions { producer: 99999999999 }", "node { name: 'a' ]", "node { attr { value { type: DT_NONE } } }", "node name: 'a'",
                 "[a.b] { }", "node { attr { value { shape { dim { size: } } } } }"]
        for text, ours in zip(texts, convert([("graph", "to_bytes", t.encode()) for t in texts])):
            with self.subTest(text):
                with self.assertRaises(text_format.ParseError):
                    text_format.Merge(text, graph_pb2.GraphDef())
                self.assertRegex(str(ours), r"\.in:1:\d+: ")

    def test_nothing_damaged_is_a_crash(self):
        text = text_format.MessageToString(meta_graph_pb2.MetaGraphDef.FromString((GRAPHS / "tiny_final.meta").read_bytes())).encode()
        r, damaged = random.Random(7), []
        for _ in range(300):
            piece = bytearray(text[r.randrange(len(text)) :] if r.random() < 0.3 else text)
            for _ in range(r.randrange(1, 4)):
                piece[r.randrange(len(piece))] = r.choice(b"{}<>[]\"':,;#\\x0 \n\x00\xff")
            damaged.append(bytes(piece))
        for ours in convert([("meta_graph", "to_bytes", d) for d in damaged]):
            self.assertTrue(isinstance(ours, bytes) or ".in:" in ours, ours)


def first_difference(ours, theirs):
    for i, (a, b) in enumerate(zip(ours.splitlines(), theirs.splitlines())):
        if a != b:
            return f"line {i + 1}: belay {a!r}, Python {b!r}"
    return "one is longer"


class TestLibrary(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def path(self, name):
        return str(pathlib.Path(self.folder.name, name))

    def imported(self, path):
        graph = tf.Graph()
        with graph.as_default():
            meta_graph.import_scoped_meta_graph(path)  # a saver would add ops
        return graph

    def test_the_graph_has_the_shapes_that_python_infers(self):
        """MG-03, EV-22: graph.pbtxt is what tf.io.write_graph(graph.as_graph_def(add_shapes=True)) writes."""
        compared = 0
        for path in sorted(GRAPHS.glob("*.meta")):
            with self.subTest(path.name):
                theirs = self.imported(str(path)).as_graph_def(add_shapes=True)
                graph = Graph(path)
                ours = pathlib.Path(graph.write(self.path("sub/graph.pbtxt"), 1)).read_text()
                binary = graph_pb2.GraphDef.FromString(pathlib.Path(graph.write(self.path("graph.pb"), 0)).read_bytes())
                graph.free()
                self.assertEqual(binary, text_format.Parse(ours, graph_pb2.GraphDef()))
                n = len(theirs.node)  # what belay adds comes after
                self.assertGreaterEqual(len(binary.node), n)
                del binary.node[n:]
                # Python's importer builds functions anew, and infers shapes in them
                self.assertEqual({f.signature.name for f in binary.library.function}, {f.signature.name for f in theirs.library.function})
                binary.library.Clear(), theirs.library.Clear()
                # and gives an op that is colocated with others the device of the first, which placement does anyway
                for node in [*binary.node, *theirs.node]:
                    if "_class" in node.attr:
                        node.device = ""
                self.assertEqual(text_format.MessageToString(binary), text_format.MessageToString(theirs))
                compared += 1
        self.assertGreater(compared, 15)

    def test_a_text_meta_is_the_binary_one(self):
        """MG-04: loaded from either form, the same graph is written, in either form."""
        for path in sorted(GRAPHS.glob("*.meta")):
            with self.subTest(path.name):
                pathlib.Path(self.path("g.pbtxt")).write_text(
                    text_format.MessageToString(meta_graph_pb2.MetaGraphDef.FromString(path.read_bytes())))
                written = []
                for source in (path, self.path("g.pbtxt")):
                    graph = Graph(source)
                    written.append(meta_graph.read_meta_graph_file(graph.export(self.path("b.meta"))))
                    written.append(meta_graph.read_meta_graph_file(graph.export(self.path("t.meta"), AS_TEXT)))
                    graph.free()
                    self.assertIn(b"\ngraph_def {\n", pathlib.Path(self.path("t.meta")).read_bytes())
                for other in written[1:]:
                    self.assertEqual(other, written[0])

    def test_python_trains_what_belay_writes(self):
        for flags in (0, AS_TEXT, ONE_SAVER, AS_TEXT | CLEAR_DEVICES | ONE_SAVER):
            with self.subTest(flags=flags), tf.Graph().as_default():
                graph = Graph(GRAPHS / "plain_saver.meta")
                saver = tf1.train.import_meta_graph(graph.export(self.path("w.meta"), flags))
                graph.free()
                with tf1.Session() as session:
                    session.run(tf1.global_variables_initializer())
                    step = tf1.train.get_global_step()
                    train = tf1.get_collection("train_op")[0]
                    before = session.run(step)
                    for _ in range(3):
                        session.run(train, FEEDS)
                    self.assertEqual(session.run(step), before + 3)
                    self.assertTrue(saver.save(session, self.path("m")))

    def test_extraneous_savers_are_left_out(self):
        """MG-29, against what Python leaves out."""
        with tf.Graph().as_default():
            v = tf1.get_variable("v", initializer=1.0)
            tf1.add_to_collection("kept", v.op)
            savers = [tf1.train.Saver(sharded=i == 1) for i in range(3)]
            for s in savers:
                tf1.add_to_collection("savers", s)
            tf1.add_to_collection("names", tf1.get_default_graph().get_operation_by_name("save/restore_all"))
            tf1.add_to_collection("names", v.op)
            savers[1].export_meta_graph(self.path("all.meta"))
            theirs = savers[1].export_meta_graph(clear_extraneous_savers=True)
        graph = Graph(self.path("all.meta"))
        ours = meta_graph.read_meta_graph_file(graph.export(self.path("one.meta"), ONE_SAVER))
        graph.free()
        self.assertEqual([n.name for n in ours.graph_def.node], [n.name for n in theirs.graph_def.node])
        self.assertEqual(ours.saver_def, theirs.saver_def)
        self.assertEqual(ours.collection_def["savers"], theirs.collection_def["savers"])
        self.assertEqual(ours.collection_def["names"].node_list.value, ["v"])
        self.assertEqual(sorted(ours.collection_def), sorted(theirs.collection_def))
        with tf.Graph().as_default():
            self.assertEqual(tf1.train.import_meta_graph(self.path("one.meta")).saver_def, theirs.saver_def)


class TestCommand(unittest.TestCase):
    """`belay train` and `belay graph show` on graphs in text form, and what they write (HK-CKPT-05, EV-22, MG-04)."""

    def run_belay(self, *arguments):
        done = subprocess.run([pathlib.Path(LIBRARY).parent / "belay", *map(str, arguments)], capture_output=True, text=True)
        return done.returncode, done.stdout, done.stderr

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.work = pathlib.Path(self.folder.name)

    def test_a_text_meta_is_trained(self):
        text = self.work / "tiny.meta"
        meta = meta_graph_pb2.MetaGraphDef.FromString((GRAPHS / "tiny_final.meta").read_bytes())
        text.write_text(text_format.MessageToString(meta))
        code, _, said = self.run_belay("train", text, "--dir", self.work / "run", "--steps", 3)
        self.assertEqual(code, 0, said)
        self.assertTrue(tf.train.latest_checkpoint(str(self.work / "run")).endswith("model.ckpt-3"))
        written = text_format.Parse((self.work / "run/graph.pbtxt").read_text(), graph_pb2.GraphDef())
        with tf.Graph().as_default() as graph:
            meta_graph.import_scoped_meta_graph(tf.train.latest_checkpoint(str(self.work / "run")) + ".meta")
            wanted = graph.as_graph_def(add_shapes=True)
        wanted.versions.CopyFrom(written.versions)
        names = {n.name for n in written.node}
        self.assertTrue({n.name for n in wanted.node} >= names)
        self.assertEqual(list(written.node), [n for n in wanted.node if n.name in names])
        same = self.run_belay("graph", "show", text)[1], self.run_belay("graph", "show", GRAPHS / "tiny_final.meta")[1]
        self.assertEqual(*(s.replace(str(p), "") for s, p in zip(same, (text, GRAPHS / "tiny_final.meta"))))

    def test_a_text_saved_model_is_trained(self):
        model = self.work / "model"
        (model / "variables").mkdir(parents=True)
        for path in pathlib.Path(KERAS, "variables").iterdir():
            (model / "variables" / path.name).write_bytes(path.read_bytes())
        message = saved_model_pb2.SavedModel.FromString(pathlib.Path(KERAS, "saved_model.pb").read_bytes())
        (model / "saved_model.pbtxt").write_text(text_format.MessageToString(message))
        data = pathlib.Path(KERAS).parent / "data"
        feeds = [f"--feed={n}={data}/train_{n}.npy" for n in "xy"]
        code, _, said = self.run_belay("train", model, "--dir", self.work / "run", "--steps", 2, *feeds)
        self.assertEqual(code, 0, said)
        written = text_format.Parse((self.work / "run/graph.pbtxt").read_text(), graph_pb2.GraphDef())
        wanted = {f.signature.name for f in message.meta_graphs[0].graph_def.library.function}
        self.assertEqual({f.signature.name for f in written.library.function}, wanted)

    def test_damaged_text_is_told_with_its_line(self):
        (self.work / "bad.meta").write_text("graph_def {\n  node {\n    nome: 'a'\n  }\n}\n")
        code, _, said = self.run_belay("graph", "show", self.work / "bad.meta")
        self.assertEqual(code, 1)
        self.assertIn("bad.meta:3:5: NodeDef has no field 'nome'", said)


FEEDS = {"x:0": [[1.0, 2.0, 3.0, 4.0]], "y:0": [1.0]}

if __name__ == "__main__":
    unittest.main()
