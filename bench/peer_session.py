"""The peer of belay's session benchmarks: Python's MonitoredTrainingSession with its default hooks.

    peer_session.py GRAPH.meta --dir RUN [--master TARGET] --target OP --fetch TENSOR [--x TENSOR --y TENSOR --data FOLDER]
                    --warmup N --steps N

Prints {"first_step_at": seconds of the monotonic clock, "us_per_step": of the steps after the warm-up}.
"""

import argparse
import json
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf  # noqa: E402

tf1 = tf.compat.v1


def parse_arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("graph")
    parser.add_argument("--dir", required=True)
    parser.add_argument("--master", default="")
    parser.add_argument("--target", required=True)
    parser.add_argument("--fetch", required=True)
    parser.add_argument("--x")
    parser.add_argument("--y")
    parser.add_argument("--data")
    parser.add_argument("--warmup", type=int, required=True)
    parser.add_argument("--steps", type=int, required=True)
    return parser.parse_args()


def feeds(arguments):
    """One feed_dict for each batch."""
    if not arguments.x:
        return [None]
    import numpy as np

    import models

    x = np.load(os.path.join(arguments.data, "x.npy"))
    y = np.load(os.path.join(arguments.data, "y.npy"))
    rows = [slice(i, i + models.BATCH) for i in range(0, len(x), models.BATCH)]
    return [{arguments.x: x[r], arguments.y: y[r]} for r in rows]


def main():
    arguments = parse_arguments()
    batches = feeds(arguments)
    tf1.disable_eager_execution()
    tf1.logging.set_verbosity(tf1.logging.ERROR)
    tf1.train.import_meta_graph(arguments.graph)
    graph = tf1.get_default_graph()
    target = graph.get_operation_by_name(arguments.target)
    fetches = [target, graph.get_tensor_by_name(arguments.fetch)]
    if batches[0] is not None:
        batches = [{graph.get_tensor_by_name(k): v for k, v in b.items()} for b in batches]
    with tf1.train.MonitoredTrainingSession(
        master=arguments.master, checkpoint_dir=arguments.dir
    ) as session:
        first_step_at = None
        for i in range(arguments.warmup):
            session.run(fetches, batches[i % len(batches)])
            first_step_at = first_step_at or time.monotonic()
        start = time.perf_counter()
        for i in range(arguments.steps):
            session.run(fetches, batches[i % len(batches)])
        seconds = time.perf_counter() - start
    us = seconds / arguments.steps * 1e6 if arguments.steps else None
    print(json.dumps({"first_step_at": first_step_at, "us_per_step": us}))


if __name__ == "__main__":
    main()
