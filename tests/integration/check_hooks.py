"""The other half of test_hooks.c: python3 check_hooks.py GRAPHS WORK

Trains with TensorFlow's own hooks as test_hooks.c does with belay's, in WORK/NAME, and writes what could be seen of it
to WORK/NAME.txt: steps, log lines, events and checkpoints.

Where belay is meant to differ, this side is brought to what belay does: the last events are flushed (BUG-48, BUG-72), and
a checkpoint that was only written again is counted once (BUG-51). Summaries are written in every run, since otherwise
TensorFlow's hook goes by a step that may be one late (GS-07).
"""

import logging
import os
import pathlib
import re
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

tf1 = tf.compat.v1
LINES = []


class Keep(logging.Handler):
    """Log lines of the hooks that are compared; how long something took is not."""

    def emit(self, record):
        text = record.getMessage()
        if re.match(r"(loss|w|b)(:0)? = |Model diverged", text):
            LINES.append("log " + re.sub(r" \([0-9.]+ sec\)$", " (SECS)", text.replace("\n", " ")))


def events(folder):
    tf1.summary.FileWriterCache.get(str(folder)).flush()
    for file in sorted(folder.glob("*tfevents*")):
        for event in tf1.train.summary_iterator(str(file)):
            what = event.WhichOneof("what")
            if what == "session_log":
                yield f"event {['?', 'START', 'STOP', 'CHECKPOINT'][event.session_log.status]} {event.step}"
            elif what == "summary":
                for value in event.summary.value:
                    number = f" {value.simple_value:.6g}" if value.tag.startswith("loss") else ""
                    yield f"event {value.tag} {event.step}{number}"


def train(graphs, folder, graph, feeds, make_hooks):
    """One session; returns the lines that tell of it."""
    with tf.Graph().as_default():
        tf1.train.import_meta_graph(str(graphs / graph))
        scaffold = tf1.train.Scaffold()
        creator = tf1.train.ChiefSessionCreator(scaffold, checkpoint_dir=str(folder))
        (train_op,) = tf1.get_collection("train_op")
        runs = 0
        try:
            with tf1.train.MonitoredSession(creator, make_hooks(folder, scaffold)) as session:
                while not session.should_stop():
                    session.run(train_op, feeds)
                    runs += 1
        except tf.errors.OpError as error:
            LINES.append(f"error {error.error_code}")
        except tf1.train.NanLossDuringTrainingError as error:
            LINES.append(f"error {error}")
        LINES.append(f"runs {runs}")


def finish(work, name):
    folder = work / name
    seen = list(events(folder))
    LINES.extend(line for i, line in enumerate(seen) if i == 0 or line != seen[i - 1])
    state = tf.train.get_checkpoint_state(str(folder))
    LINES.extend("checkpoint " + os.path.basename(path) for path in state.all_model_checkpoint_paths)
    (work / f"{name}.txt").write_text("".join(line + "\n" for line in LINES))
    LINES.clear()


def all_hooks(stop):
    def make(folder, scaffold):
        return [
            tf1.train.StepCounterHook(every_n_steps=4, output_dir=str(folder)),
            tf1.train.SummarySaverHook(save_steps=1, output_dir=str(folder), scaffold=scaffold),
            tf1.train.CheckpointSaverHook(str(folder), save_steps=4, scaffold=scaffold),
            tf1.train.LoggingTensorHook(["loss:0"], every_n_iter=4, at_end=False),
            tf1.train.NanTensorHook("loss:0"),
            tf1.train.StopAtStepHook(**stop),
        ]

    return make


def nan_hooks(fail):
    def make(folder, scaffold):
        return [
            tf1.train.CheckpointSaverHook(str(folder), save_steps=2, scaffold=scaffold),
            tf1.train.LoggingTensorHook(["loss"], every_n_iter=2, at_end=True),
            tf1.train.NanTensorHook("loss:0", fail_on_nan_loss=fail),
            tf1.train.StopAtStepHook(last_step=20),
        ]

    return make


def main():
    graphs, work = (pathlib.Path(arg) for arg in sys.argv[1:])
    tf1.logging.set_verbosity(tf1.logging.INFO)
    logger = logging.getLogger("tensorflow")
    logger.handlers = [Keep()]
    logger.propagate = False
    feeds = {"x:0": np.load(graphs / "x4.npy"), "y:0": np.load(graphs / "y.npy")}

    train(graphs, work / "summaries", "summaries.meta", feeds, all_hooks({"last_step": 11}))
    finish(work, "summaries")
    train(graphs, work / "resumed", "summaries.meta", feeds, all_hooks({"last_step": 6}))
    train(graphs, work / "resumed", "summaries.meta", feeds, all_hooks({"num_steps": 5}))
    finish(work, "resumed")
    train(graphs, work / "nan", "nan.meta", {}, nan_hooks(True))
    finish(work, "nan")
    train(graphs, work / "nan_stop", "nan.meta", {}, nan_hooks(False))
    finish(work, "nan_stop")


main()
