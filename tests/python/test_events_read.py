#!/usr/bin/env python3
"""Checks that TensorBoard reads event files, and finds in them what was written.

usage: test_events_read.py FOLDER EXPECTED
EXPECTED is a JSON object, or a file that holds one. Each key may be left out; then it is not checked:
  files          number of event files in FOLDER
  scalars        {tag: [[step, value], ...]}: all values of these tags, values as float32
  only           true: there are no other scalar tags
  graph          true: there is a graph; false: there is none
  meta_graph     the same for a meta graph
  run_metadata   [tag, ...]: all tags of run metadata, in any order
  session_logs   [[status, step, checkpoint_path], ...]: all session logs in order; status by name
  kinds          [kind, ...]: what the events are, in order, such as ["file_version", "graph_def"]
"""
import json
import os
import struct
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
from tensorboard.compat.proto import event_pb2

failures = []


def check(what, found, wanted):
    if found != wanted:
        failures.append(f"{what}: found {found!r}, expected {wanted!r}")


def as_float32(value):
    return struct.unpack("<f", struct.pack("<f", value))[0]


def event_files(folder):
    return sorted(os.path.join(folder, n) for n in os.listdir(folder) if "tfevents" in n)


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    folder, expected = sys.argv[1:]
    if not expected.lstrip().startswith("{"):
        with open(expected, encoding="utf-8") as f:
            expected = f.read()
    expected = json.loads(expected)
    files = event_files(folder)
    check("number of files > 0", len(files) > 0, True)
    if "files" in expected:
        check("number of files", len(files), expected["files"])

    events = []
    for path in files:
        own = list(LegacyEventFileLoader(path).Load())
        check(f"first event of {os.path.basename(path)}", own and own[0].file_version, "brain.Event:2")
        times = [e.wall_time for e in own]
        check(f"times of {os.path.basename(path)} are in order", times, sorted(times))
        events += own
    if "kinds" in expected:
        check("kinds of events", [e.WhichOneof("what") for e in events], expected["kinds"])
    if "session_logs" in expected:
        logs = [[event_pb2.SessionLog.SessionStatus.Name(e.session_log.status), e.step,
                 e.session_log.checkpoint_path]
                for e in events if e.WhichOneof("what") == "session_log"]
        check("session logs", logs, expected["session_logs"])

    accumulator = EventAccumulator(folder, size_guidance={"scalars": 0})
    accumulator.Reload()
    tags = accumulator.Tags()
    for tag, wanted in expected.get("scalars", {}).items():
        if tag not in tags["scalars"]:
            failures.append(f"no scalar {tag!r}: there are {tags['scalars']!r}")
            continue
        found = [[e.step, e.value] for e in accumulator.Scalars(tag)]
        check(f"scalar {tag!r}", found, [[step, as_float32(value)] for step, value in wanted])
    if expected.get("only"):
        check("scalar tags", sorted(tags["scalars"]), sorted(expected.get("scalars", {})))
    for key in ("graph", "meta_graph"):
        if key in expected:
            check(f"there is a {key}", tags[key], expected[key])
    if "run_metadata" in expected:
        check("run metadata", sorted(tags["run_metadata"]), sorted(expected["run_metadata"]))

    for line in failures:
        print(line, file=sys.stderr)
    print(f"{len(events)} events in {len(files)} files, {len(failures)} differences")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
