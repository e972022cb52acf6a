"""belay events: event files without TensorFlow, whoever wrote them."""

import json
import os
import struct
import unittest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

from support import Case, DIGITS_KERAS, GRAPHS, TRAIN_DIGITS, linear_feeds, need_graphs

NO_TENSORFLOW = {"BELAY_TENSORFLOW": "/no/such/folder"}
tf1 = tf.compat.v1


def setUpModule():
    need_graphs()


def records(path):
    """Where each record of a file begins, and where the last one ends."""
    data, at, found = path.read_bytes(), 0, []
    while at < len(data):
        found.append(at)
        at += 16 + struct.unpack_from("<Q", data, at)[0]
    return found + [at]


class Events(Case):
    def setUp(self):
        super().setUp()
        self.train(GRAPHS / "summaries.meta", *linear_feeds(), "--steps=6", "--save-steps=3", "--summary-steps=2")
        (self.file,) = self.run_dir.glob("*tfevents*")

    def events(self, *arguments, **how):
        return self.belay("events", *arguments, env=NO_TENSORFLOW, **how)

    def cat(self, *arguments, **how):
        return [json.loads(line) for line in self.events("cat", *arguments, "--json", **how).stdout.splitlines()]

    def listed(self, path, **how):
        return json.loads(self.events("ls", path, "--json", **how).stdout)

    # ---- what a run wrote

    def test_a_graph_of_functions_is_in_the_file_once(self):
        """EV-20, BUG-51: its bytes come out in another order each time, since they hold maps; three hooks add it."""
        for name in ("first", "second"):
            run = self.dir / name
            self.belay("train", DIGITS_KERAS, "--dir", run, *TRAIN_DIGITS, "--steps=2")
            kinds = [event["kind"] for event in self.cat(run)]
            self.assertEqual((kinds.count("graph"), kinds.count("meta_graph")), (1, 1))

    def test_cat_prints_what_python_reads(self):
        wanted = []
        for event in tf1.train.summary_iterator(str(self.file)):
            what = event.WhichOneof("what")
            for value in event.summary.value:
                wanted.append((value.WhichOneof("value"), event.step, event.wall_time, value.tag))
            if what != "summary":
                wanted.append((what, event.step, event.wall_time, ""))
        names = {"scalar": "simple_value", "histogram": "histo", "graph": "graph_def", "meta_graph": "meta_graph_def"}
        found = [(names.get(e["kind"], e["kind"]), e["step"], e["time"], e.get("tag", "")) for e in self.cat(self.run_dir)]
        self.assertEqual(found, wanted)
        self.assertEqual([e["offset"] for e in self.cat(self.run_dir) if "tag" not in e][0], 0)

    def test_cat_in_words_has_a_line_for_each_value(self):
        lines = self.events("cat", self.file).stdout.splitlines()
        self.assertEqual(len(lines), len(self.cat(self.file)))
        self.assertRegex(lines[0], r"^20\d\d-\d\d-\d\d \d\d:\d\d:\d\d\.000 +0  file_version +brain\.Event:2 by belay$")
        self.assertTrue(any("session_log" in line and "CHECKPOINT" in line for line in lines))

    def test_cat_of_a_tag_prints_its_values_alone(self):
        scalar = next(e["tag"] for e in self.cat(self.file) if e["kind"] == "scalar" and "sec" not in e["tag"])
        values = self.cat(self.file, "--tag", scalar)
        self.assertEqual([v["tag"] for v in values], [scalar] * 3)
        self.assertEqual([v["step"] for v in values], [1, 3, 5])
        self.assertEqual(self.cat(self.file, "--tag", "no such tag"), [])

    def test_ls_counts_events_and_tags(self):
        listed = self.listed(self.run_dir)
        events = self.cat(self.run_dir)
        (file,) = listed["files"]
        self.assertEqual(file["file"], str(self.file))
        self.assertEqual(file["size_bytes"], self.file.stat().st_size)
        self.assertEqual(file["read_bytes"], file["size_bytes"])
        self.assertEqual(file["events"], len(records(self.file)) - 1)
        self.assertEqual((file["first_step"], file["last_step"], file["problem"]), (0, 6, None))
        for tag in listed["tags"]:
            own = [e for e in events if e.get("tag") == tag["tag"]]
            self.assertEqual(tag["values"], len(own))
            self.assertEqual(tag["kind"], own[0]["kind"])
            self.assertEqual((tag["first_step"], tag["last_step"]), (own[0]["step"], own[-1]["step"]))
            if tag["kind"] == "scalar":
                self.assertEqual(tag["last"], own[-1]["value"])
        self.assertEqual({t["tag"] for t in listed["tags"]}, {e["tag"] for e in events if "tag" in e})

    def test_ls_in_words(self):
        lines = self.events("ls", self.run_dir).stdout.splitlines()
        self.assertEqual(lines[0].split(), ["events", "steps", "size", "last", "file", "state"])
        self.assertIn(str(self.file), lines[1])
        self.assertEqual(lines[3].split(), ["values", "steps", "kind", "last", "tag"])
        self.assertIn("scalar", "\n".join(lines[4:]))

    def test_names_with_control_characters_stay_in_their_line(self):
        with tf1.Graph().as_default():
            writer = tf1.summary.FileWriter(str(self.run_dir / "odd"))
            value = tf1.Summary.Value(tag="a\nb\x1b[31m", simple_value=1)
            writer.add_summary(tf1.Summary(value=[value]), 7)
            writer.close()
        listed = self.events("ls", self.run_dir / "odd").stdout
        self.assertEqual(listed.splitlines()[4].split(), ["1", "7-7", "scalar", "1", "a?b?[31m"])
        printed = self.events("cat", self.run_dir / "odd").stdout
        self.assertEqual(printed.splitlines()[1].split()[2:], ["7", "scalar", "a?b?[31m", "1"])
        missing = self.events("cat", self.run_dir / "no\nfile", exit_code=1)
        self.assertEqual(len(missing.stderr.splitlines()), 1)
        self.assertEqual(self.cat(self.run_dir / "odd")[1]["tag"], "a\nb\x1b[31m")

    def test_names_that_are_not_utf_8_have_question_marks(self):
        event = tf1.Event(step=7, summary=tf1.Summary(value=[tf1.Summary.Value(tag="aXXb", simple_value=1)]))
        path = self.dir / "events.out.tfevents.1.odd"
        with tf.io.TFRecordWriter(str(path)) as writer:
            writer.write(tf1.Event(file_version="brain.Event:2").SerializeToString())
            writer.write(event.SerializeToString().replace(b"XX", b"\xff\xfe"))
        self.assertEqual(self.events("ls", path).stdout.splitlines()[4].split()[4:], ["a??b"])
        self.assertIn(" a??b ", self.events("cat", path).stdout)

    def test_a_file_that_is_not_there_is_one_line_of_error(self):
        for verb in ("ls", "cat"):
            result = self.events(verb, self.dir / "nope", exit_code=1)
            self.assertEqual((result.stdout, len(result.stderr.splitlines())), ("", 1))
            self.assertIn("nope: No such file", result.stderr)

    def test_a_run_is_all_files_in_it_and_below(self):
        self.train(GRAPHS / "summaries.meta", *linear_feeds(), "--steps=8", "--summary-steps=2")
        below = self.run_dir / "eval"
        with tf.summary.create_file_writer(str(below)).as_default():
            tf.summary.scalar("accuracy", 0.5, step=3)
        listed = self.listed(self.run_dir)
        self.assertEqual(len(listed["files"]), 3)
        self.assertEqual({t["folder"] for t in listed["tags"]}, {str(self.run_dir), str(below)})
        self.assertIn(f"== {listed['files'][0]['file']}", self.events("cat", self.run_dir).stdout)

    # ---- what TensorFlow wrote

    def test_values_that_tensorflow_2_keeps_in_tensors(self):
        folder = self.dir / "two"
        with tf.summary.create_file_writer(str(folder)).as_default():
            for step in (1, 2):
                tf.summary.scalar("loss", 0.5 * step, step=step)
            tf.summary.histogram("w", np.array([1.0, 2.0, 3.0, 3.0], np.float32), step=2)
            tf.summary.image("picture", np.zeros((1, 4, 5, 3), np.float32), step=2)
            tf.summary.text("note", "one\ntwo", step=2)
            tf.summary.write("raw", tf.zeros((2, 3)), step=2)
        found = {}
        for value in (e for e in self.cat(folder) if "tag" in e):
            found.setdefault(value["tag"], []).append(value)
        self.assertEqual([(v["kind"], v["step"], v["value"]) for v in found["loss"]],
                         [("scalar", 1, 0.5), ("scalar", 2, 1.0)])
        self.assertEqual(found["loss"][0]["plugin"], "scalars")
        (w,) = found["w"]
        self.assertEqual((w["kind"], w["count"], w["min"], w["max"]), ("histogram", 4, 1, 3))
        (picture,) = found["picture"]
        self.assertEqual((picture["kind"], picture["width"], picture["height"]), ("image", 5, 4))
        (note,) = found["note"]
        self.assertEqual((note["kind"], note["value"]), ("text", "one\ntwo"))
        (raw,) = found["raw"]
        self.assertEqual((raw["kind"], raw["dtype"], raw["count"]), ("tensor", "float32", 6))

    def test_values_that_tensorflow_1_writes(self):
        folder = str(self.dir / "one")
        with tf.Graph().as_default(), tf1.summary.FileWriter(folder) as writer, tf1.Session() as session:
            both = tf1.summary.merge([
                tf1.summary.histogram("w", tf.constant([1.0, 2.0, 6.0])),
                tf1.summary.image("picture", tf.zeros((1, 4, 5, 3))),
                tf1.summary.text("note", tf.constant("hello")),
                tf1.summary.scalar("nan", tf.constant(float("nan"))),
            ])
            writer.add_summary(session.run(both), 7)
            writer.add_run_metadata(tf1.RunMetadata(), "step_7", 7)
            writer.add_session_log(tf1.SessionLog(status=tf1.SessionLog.STOP, msg="done"), 8)
        found = {e.get("tag", e["kind"]): e for e in self.cat(folder)}
        self.assertEqual(found["w"]["mean"], 3)
        self.assertEqual(found["picture/image/0"]["width"], 5)
        self.assertEqual((found["note"]["kind"], found["note"]["value"]), ("text", "hello"))
        self.assertEqual(found["nan"]["value"], "nan")
        self.assertEqual(found["step_7"]["kind"], "run_metadata")
        self.assertEqual((found["session_log"]["status"], found["session_log"]["text"]), ("STOP", "done"))
        self.assertIn("STOP", self.events("cat", folder).stdout)

    def test_text_goes_on_after_a_nul(self):
        folder = self.dir / "nul"
        with tf.summary.create_file_writer(str(folder)).as_default():
            tf.summary.text("note", "one\0two", step=2)
        (note,) = [e for e in self.cat(folder) if e.get("tag") == "note"]
        self.assertEqual(note["value"], "one\0two")
        self.assertIn(r"one\u0000two", self.events("cat", folder, "--json").stdout)

    # ---- files that are not as they should be

    def test_a_file_that_is_being_written_is_read_as_far_as_it_goes(self):
        starts = records(self.file)
        data = self.file.read_bytes()
        for cut in (starts[-2] + 1, starts[-2] + 12, starts[-1] - 1, 5, 0):
            self.file.write_bytes(data[:cut])
            whole = sum(end <= cut for end in starts[1:])
            result = self.events("ls", self.file, "--json")
            (file,) = json.loads(result.stdout)["files"]
            self.assertEqual((file["events"], file["read_bytes"]), (whole, starts[whole]))
            self.assertEqual(file["incomplete_bytes"], cut - starts[whole])
            self.assertIsNone(file["problem"])
            if cut != starts[whole]:
                self.assertIn(f"after {whole} events, at byte {starts[whole]}, {cut - starts[whole]} bytes", result.stderr)
            if cut:
                self.assertIn("not complete", self.events("ls", self.file).stdout)

    def test_a_damaged_file_is_read_up_to_the_damage(self):
        starts = records(self.file)
        data = bytearray(self.file.read_bytes())
        for at in (starts[3] + 2, starts[3] + 9, starts[3] + 13, starts[4] - 1):
            data[at] ^= 4
            self.file.write_bytes(data)
            result = self.fails(1, "events", "cat", self.file, "--json", saying=[
                str(self.file), f"at byte {starts[3]}", "after 3 events"])
            self.assertEqual(len({json.loads(line)["offset"] for line in result.stdout.splitlines()}), 3)
            (file,) = self.listed(self.run_dir, exit_code=1)["files"]
            self.assertEqual((file["events"], file["read_bytes"]), (3, starts[3]))
            self.assertIn("damaged", file["problem"])
            data[at] ^= 4
        self.file.write_bytes(data[: starts[3]] + bytes(100))
        self.fails(1, "events", "ls", self.file, saying=f"at byte {starts[3]}")

    def test_one_damaged_file_does_not_hide_the_others(self):
        other = self.file.with_name(self.file.name + ".later")
        other.write_bytes(self.file.read_bytes())
        data = bytearray(self.file.read_bytes())
        data[-1] ^= 1
        self.file.write_bytes(data)
        files = self.listed(self.run_dir, exit_code=1)["files"]
        self.assertEqual([f["problem"] is None for f in files], [False, True])

    def test_what_is_no_event_file(self):
        path = self.dir / "text"
        path.write_text("this is not an event file at all\n")
        self.fails(1, "events", "ls", path, saying=[str(path), "not an event file"])
        self.fails(1, "events", "cat", self.dir / "none", saying="none")
        os.mkfifo(self.dir / "pipe")
        self.fails(1, "events", "cat", self.dir / "pipe", saying="is not a file")
        (self.dir / "empty").mkdir()
        self.assertIn("no event files", self.events("ls", self.dir / "empty").stderr)
        self.assertEqual(self.listed(self.dir / "empty"), {"files": [], "tags": []})

    # ---- the command line

    def test_the_command_line(self):
        self.fails(2, "events", "show", self.file, saying="'show'")
        self.fails(2, "events", "ls", saying="usage: belay events ls FILE-or-RUN")
        self.fails(2, "events", "ls", self.file, "--tag=w", saying="--tag")
        for text in (self.belay("help", "events").stdout, self.belay("events", "--help").stdout):
            self.assertIn("ls|cat FILE-or-RUN", text)
            self.assertIn("--tag NAME", text)


if __name__ == "__main__":
    unittest.main()
