"""The peer of belay's events_rate: scalars through Python's FileWriter, until all are written.

    peer_events.py FOLDER COUNT
"""

import json
import os
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf  # noqa: E402

tf1 = tf.compat.v1


def main():
    folder, count = sys.argv[1], int(sys.argv[2])
    tf1.disable_eager_execution()
    writer = tf1.summary.FileWriter(folder)
    start = time.perf_counter()
    for step in range(1, count + 1):
        value = tf1.Summary.Value(tag="loss", simple_value=1 / step)
        writer.add_summary(tf1.Summary(value=[value]), step)
    writer.flush()
    seconds = time.perf_counter() - start
    writer.close()
    print(json.dumps({"events_per_second": count / seconds}))


main()
