"""What the tests of the command share: where things are, and a test case that runs belay in a folder of its own."""

import fcntl
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BELAY = pathlib.Path(os.environ.get("BELAY", ROOT / "build" / "belay"))
GRAPHS = pathlib.Path(os.environ.get("BELAY_TEST_GRAPHS", BELAY.parent / "graphs"))
DIGITS = ROOT / "examples" / "digits"
TIMEOUT = 300  # a run that takes this long hangs


def need_graphs():
    """The test graphs, made where nobody has made them yet."""
    GRAPHS.mkdir(parents=True, exist_ok=True)
    with open(GRAPHS / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several tests may start at once
        if not (GRAPHS / "graphs.json").exists():
            make = ROOT / "tests" / "graphs" / "make_graphs.py"
            subprocess.run([sys.executable, make, GRAPHS], check=True, capture_output=True, timeout=600)
    return GRAPHS


def environment(extra=None):
    """The caller's, without what would choose another TensorFlow or another way to speak."""
    env = {k: v for k, v in os.environ.items() if k not in ("BELAY_TENSORFLOW", "TF_CPP_MIN_LOG_LEVEL", "NO_COLOR")}
    env.update(extra or {})
    return env


class Case(unittest.TestCase):
    """Runs the command. `self.dir` is an empty folder for the test, `self.run_dir` a run's folder in it, not made yet."""

    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="belay-cli-"))
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)
        self.run_dir = self.dir / "run"

    # ---- running

    def belay(self, *arguments, exit_code=0, env=None, **popen):
        """Runs belay to its end, and checks how it ended."""
        result = subprocess.run(
            [BELAY, *map(str, arguments)],
            env=environment(env),
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=TIMEOUT,
            **popen,
        )
        if exit_code is not None and result.returncode != exit_code:
            self.fail(
                f"belay {' '.join(map(str, arguments))}\nended with {result.returncode}, not {exit_code}; "
                f"it said:\n{result.stdout}{result.stderr}"
            )
        return result

    def train(self, graph, *arguments, **how):
        return self.belay("train", graph, "--dir", self.run_dir, *arguments, **how)

    def start(self, *arguments, env=None, **popen):
        """Starts belay and returns while it runs. Its lines can be read one by one."""
        process = subprocess.Popen(
            [BELAY, *map(str, arguments)],
            env=environment(env),
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **popen,
        )
        self.addCleanup(self._end, process)
        return process

    @staticmethod
    def _end(process):
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()

    def wait_for_line(self, process, text):
        """Reads standard error up to the first line that holds `text`."""
        seen = []
        for line in process.stderr:
            seen.append(line)
            if text in line:
                return line
        self.fail(f"belay ended without saying '{text}'; it said:\n{''.join(seen)}")

    def wait_until(self, what, condition, timeout=60):
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                self.fail(f"waited {timeout} s for {what}")
            time.sleep(0.01)

    # ---- looking

    def fails(self, code, *arguments, saying, **how):
        """Runs a command that must fail with one clear line that holds all of `saying`."""
        result = self.belay(*arguments, exit_code=code, **how)
        errors = [line for line in result.stderr.splitlines() if line.startswith("belay: error: ")]
        self.assertEqual(len(errors), 1, result.stderr)
        for part in [saying] if isinstance(saying, str) else saying:
            self.assertIn(part, errors[0])
        return result

    def fails_to_train(self, code, graph, *arguments, saying, **how):
        """The same for `train` in a new folder, of which nothing must be seen afterwards."""
        result = self.fails(code, "train", graph, "--dir", self.run_dir, *arguments, saying=saying, **how)
        self.assertFalse(self.run_dir.exists(), "something was written")
        return result

    def checkpoints(self, folder=None):
        """What `ckpt ls` says, oldest first."""
        return json.loads(self.belay("ckpt", "ls", folder or self.run_dir, "--json").stdout)

    def steps(self, folder=None):
        return [c["step"] for c in self.checkpoints(folder)]

    def tensor(self, name, checkpoint=None):
        """The values of a tensor of a checkpoint, as a flat list."""
        result = self.belay("ckpt", "cat", checkpoint or self.run_dir, name, "--json")
        return json.loads(result.stdout)["values"]

    def ledger(self):
        lines = (self.run_dir / "belay.ledger.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    def names(self, folder=None):
        """Every file below a folder with its size and time: to see that nothing was touched."""
        folder = folder or self.run_dir
        return {
            str(p.relative_to(folder)): (p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(folder.rglob("*"))
        }


def stop(process, number=signal.SIGTERM):
    process.send_signal(number)
    process.communicate(timeout=TIMEOUT)
    return process.returncode


# ---- what is trained: the arguments of `train` and `eval` after the graph

TRAIN_DIGITS = ("--feed", f"x={DIGITS}/data/train_x.npy", "--feed", f"y={DIGITS}/data/train_y.npy")
TEST_DIGITS = ("--feed", f"x={DIGITS}/data/test_x.npy", "--feed", f"y={DIGITS}/data/test_y.npy")
DIGITS_GRAPH = DIGITS / "graph" / "digits.meta"
DIGITS_KERAS = DIGITS / "keras"


def linear_feeds():
    """For the linear models among the test graphs."""
    return ("--feed", f"x={GRAPHS}/x4.npy", "--feed", f"y={GRAPHS}/y.npy")
