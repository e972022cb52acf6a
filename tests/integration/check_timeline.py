"""The other half of test_timeline.c.

check_timeline.py make FOLDER    writes FOLDER/N.pb: traced runs, real and made up, as serialised RunMetadata
check_timeline.py check FOLDER   compares FOLDER/N-FLAGS.json, which belay wrote, with what TensorFlow's Timeline says
check_timeline.py run FOLDER     the same for what a profiler hook left: timeline-STEP.json beside its events
"""

import json
import os
import pathlib
import random
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf
from tensorflow.core.protobuf import config_pb2
from tensorflow.python.client import timeline

tf1 = tf.compat.v1
DATAFLOW, MEMORY = 1, 2


def real():
    """A loop and a second device: nodes that run often, and Send and Receive between."""
    with tf.Graph().as_default():
        with tf.device("/cpu:0"):
            x = tf1.random_normal([100, 100], name="x")
        with tf.device("/cpu:1"):
            y = tf.matmul(x, x, name="y")
        _, z = tf.while_loop(lambda i, _: i < 5, lambda i, z: (i + 1, tf.tanh(z)), [0, y])
        metadata = config_pb2.RunMetadata()
        with tf1.Session(config=config_pb2.ConfigProto(device_count={"CPU": 2})) as session:
            session.run(z, options=config_pb2.RunOptions(trace_level=3), run_metadata=metadata)
    return metadata


LABELS = (
    "a = Add(b, c:1)",
    "b = Op()",
    "c = (x) = Odd(a/_12, /_3, b, nobody)",
    "no label",
    "",
    'quote" = Q\\uote(a, b) tail',
    "retval (1) detail @@named:Kernel#7",
    "@@plain#x",
    "@@#",
    "= (a)",
    " = x(a)",
    "open = op(a",
)


def made_up(seed):
    rng = random.Random(seed)
    metadata = config_pb2.RunMetadata()
    for d in range(rng.randint(0, 3)):
        device = metadata.step_stats.dev_stats.add()
        device.device = rng.choice(("/job:a/device:CPU:%d", "/device:GPU:%d/stream:all", "/gpu:%d/memcpy")) % d
        for _ in range(rng.randint(0, 12)):
            node = device.node_stats.add()
            node.node_name = rng.choice(("a", "b", "c", "RecvTensor", "k:Kernel", "k:L:M", "ü"))
            node.all_start_micros = rng.randint(0, 40)
            node.all_end_rel_micros = rng.randint(0, 10)
            node.timeline_label = rng.choice(LABELS)
            for slot in range(rng.randint(0, 2)):
                output = node.output.add()
                output.slot = slot
                if rng.random() < 0.8:
                    tensor = output.tensor_description
                    tensor.dtype = rng.choice((1, 3, 7, 9, 101))
                    for size in range(rng.randint(0, 2)):
                        tensor.shape.dim.add(size=size)
                    allocation = tensor.allocation_description
                    allocation.requested_bytes = rng.choice((0, 4, 4096))
                    allocation.allocated_bytes = allocation.requested_bytes * 2
                    allocation.allocator_name = rng.choice(("cpu", "gpu", ""))
                    allocation.allocation_id = rng.randint(0, 2)
                    allocation.has_single_reference = rng.random() < 0.5
                    allocation.ptr = rng.choice((0, 2**63 + 5))
    return metadata


def make(folder):
    cases = [real(), config_pb2.RunMetadata()] + [made_up(seed) for seed in range(60)]
    for number, metadata in enumerate(cases):
        (folder / f"{number}.pb").write_bytes(metadata.SerializeToString())


def expected(metadata, dataflow, memory):
    trace = timeline.Timeline(metadata.step_stats).generate_chrome_trace_format(dataflow, memory)
    return json.loads(trace)["traceEvents"]


def compare(what, metadata, file, dataflow, memory):
    ours = json.loads(file.read_text(encoding="utf-8"))
    assert list(ours) == ["traceEvents"], what
    theirs = expected(metadata, dataflow, memory)
    for number, (mine, his) in enumerate(zip(ours["traceEvents"], theirs)):
        assert mine == his, f"{what}, event {number}:\nbelay      {mine}\nTensorFlow {his}"
    assert len(ours["traceEvents"]) == len(theirs), f"{what}: {len(ours['traceEvents'])} events, not {len(theirs)}"


def check(folder):
    files = sorted(folder.glob("*.json"))
    for file in files:
        number, flags = map(int, file.stem.split("-"))
        metadata = config_pb2.RunMetadata.FromString((folder / f"{number}.pb").read_bytes())
        compare(file.name, metadata, file, bool(flags & DATAFLOW), bool(flags & MEMORY))
    assert len(files) == 4 * len(list(folder.glob("*.pb"))) > 0, "a timeline is missing"


def run(folder):
    found = {}
    for file in folder.glob("*tfevents*"):
        for event in tf1.train.summary_iterator(str(file)):
            if event.WhichOneof("what") == "tagged_run_metadata":
                tagged = event.tagged_run_metadata
                assert tagged.tag not in found and event.step == 0, tagged.tag  # HK-PROF-07
                found[tagged.tag] = config_pb2.RunMetadata.FromString(tagged.run_metadata)
    names = sorted(f"timeline-{tag.removeprefix('step_')}.json" for tag in found)
    assert names == sorted(file.name for file in folder.glob("timeline-*.json")), names
    for tag, metadata in found.items():
        assert metadata.step_stats.dev_stats, tag
        compare(tag, metadata, folder / f"timeline-{tag.removeprefix('step_')}.json", True, True)
    print(" ".join(sorted(found)))


if __name__ == "__main__":
    {"make": make, "check": check, "run": run}[sys.argv[1]](pathlib.Path(sys.argv[2]))
