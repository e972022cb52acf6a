"""Runs conformance scenarios on Python TensorFlow; run.py starts it, one process for all scenarios.

    driver.py WORK          one command a line on standard input, each answered by a line when it is done:

    graphs NAME...          makes these graphs in WORK/graphs
    before                  runs the `before` calls of WORK/plan.json, once, in WORK/before/NAME, copies what they
                            leave to WORK/python/NAME and WORK/belay/NAME, and starts servers where they are asked for
    run                     runs all scenarios in WORK/python/NAME; traces go to WORK/python.jsonl
    as_if                   runs the scenarios that WORK/as_if.json names once more, in WORK/as_if/NAME, with the documented
                            differences that it lists (as_if.py); traces go to WORK/as_if.jsonl
    then                    runs the `then` calls in both folders; traces go to WORK/then.jsonl

A trace is one JSON object a line: name, and for each call its verb, code, result, message and the events during it
(log lines, callbacks). Traces are raw: run.py makes paths and log lines comparable.
"""

import faulthandler
import json
import logging
import os
import pathlib
import shutil
import sys
import time

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

import tensorflow as tf

import as_if
import graphs
import verbs_events
import verbs_faults  # these fill the table of verbs
import verbs_files
import verbs_graph
import verbs_manager
import verbs_monitored
import verbs_saver
import verbs_session
from world import World, perform_in_background

SECONDS_A_SCENARIO = 30


class Log(logging.Handler):
    """Sends TensorFlow's log lines to the scenario that is running."""

    world = None

    def emit(self, record):
        if self.world is not None:
            self.world.events.append(["log", record.levelname.lower(), record.getMessage()])


def placed(value, folder, target):
    """The call with $server and $ replaced; what `says` holds is no path."""
    if isinstance(value, str):
        return value.replace("$server", target).replace("$", folder)
    if isinstance(value, list):
        return [placed(v, folder, target) for v in value]
    if isinstance(value, dict):
        return {k: v if k == "says" else placed(v, folder, target) for k, v in value.items()}
    return value


class Driver:
    def __init__(self, work):
        self.work = work
        self.scenarios = []
        self.before_folders = {}  # scenario's name -> what its `before` calls left
        self.log = Log()

    def graphs(self, *names):
        self.work.joinpath("graphs").mkdir(exist_ok=True)
        for name in names:
            graphs.write(name, self.work / "graphs")
        logger = logging.getLogger("tensorflow")  # which make_graphs.py has silenced
        logger.handlers = [self.log]
        logger.propagate = False
        logger.setLevel(logging.INFO)

    def perform(self, calls, folder, target):
        """Runs calls in a folder, and gives their traces."""
        world = self.log.world = World(folder, target)
        os.chdir(folder)
        faulthandler.dump_traceback_later(SECONDS_A_SCENARIO, exit=True)
        try:
            records = []
            for call in placed(calls, str(folder), target):
                background = call.get("background")
                records.append(perform_in_background(world, background, call) if background else world.perform(call))
            return records
        finally:
            self.log.world = None
            verbs_faults.FAULTS.clear()
            world.close()
            os.chdir(self.work)
            faulthandler.cancel_dump_traceback_later()

    def before(self):
        self.scenarios = json.loads((self.work / "plan.json").read_text())
        made = {}  # the same calls leave the same files
        for scenario in self.scenarios:
            name, calls = scenario["name"], scenario.get("before", [])
            key = json.dumps(calls)
            folder = made.get(key, self.work / "before" / name)
            if key not in made:
                folder.mkdir(parents=True)
                for call, record in zip(calls, self.perform(calls, folder, "")):
                    if record["code"] != "OK":
                        sys.exit(f"{name}: before: {call}: {record['code']} {record['message']}")
                made[key] = folder
            self.before_folders[name] = folder
            for side in ("python", "belay"):
                hand_out(folder, self.work / side / name)
            scenario["targets"] = {side: start_server() if scenario.get("server") else "" for side in ("python", "belay")}
        (self.work / "plan.json").write_text(json.dumps(self.scenarios))

    def trace(self, scenario, side, out):
        """Runs a scenario in a side's folder, and writes its trace."""
        started = time.monotonic()
        as_if.MATTERED.clear()
        calls = self.perform(scenario["calls"], self.work / side / scenario["name"], scenario["targets"]["python"])
        trace = {"name": scenario["name"], "seconds": round(time.monotonic() - started, 2), "calls": calls}
        print(json.dumps({**trace, "mattered": sorted(as_if.MATTERED)}), file=out, flush=True)

    def run(self):
        with open(self.work / "python.jsonl", "w") as out:
            for scenario in self.scenarios:
                self.trace(scenario, "python", out)

    def as_if(self):
        wanted = json.loads((self.work / "as_if.json").read_text())
        with open(self.work / "as_if.jsonl", "w") as out:
            for scenario in self.scenarios:
                name = scenario["name"]
                if name in wanted:
                    hand_out(self.before_folders[name], self.work / "as_if" / name)
                    as_if.IN_FORCE = as_if.KNOWN if wanted[name] == "all" else set(wanted[name])
                    self.trace(scenario, "as_if", out)
        as_if.IN_FORCE = set()

    def then(self):
        with open(self.work / "then.jsonl", "w") as out:
            for scenario in self.scenarios:
                for side in ("python", "belay", "as_if") if "then" in scenario else ():
                    if not (self.work / side / scenario["name"]).exists():
                        continue
                    folder = self.work / side / scenario["name"]
                    calls = self.perform(scenario["then"], folder, scenario["targets"].get(side, ""))
                    print(json.dumps({"name": scenario["name"], "side": side, "calls": calls}), file=out, flush=True)


SERVERS = []


def start_server():
    SERVERS.append(tf.compat.v1.train.Server.create_local_server())
    return SERVERS[-1].target


def hand_out(source, destination):
    """Copies a folder, with the paths that its state files hold."""
    shutil.copytree(source, destination, symlinks=True)
    for path in destination.rglob("*"):
        if path.is_file() and os.access(path, os.R_OK) and path.stat().st_size < 1 << 20:
            data, stat = path.read_bytes(), path.stat()
            if data.startswith(b"model_checkpoint_path") and str(source).encode() in data:
                path.write_bytes(data.replace(str(source).encode(), str(destination).encode()))
                os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    driver = Driver(pathlib.Path(sys.argv[1]).resolve())
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    for line in sys.stdin:
        command, *arguments = line.split()
        started = time.monotonic()
        getattr(driver, command)(*arguments)
        print(f"done {command} {time.monotonic() - started:.1f}", file=answers, flush=True)


if __name__ == "__main__":
    main()
