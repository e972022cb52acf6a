"""The programs of examples/c, run as examples/README.md says, from the top of the repository.

CTest runs each test of this file by its name (examples/CMakeLists.txt).
"""

import re
import signal
import subprocess
import unittest

from servers import free_port
from support import BELAY, ROOT, TIMEOUT, Case, environment

EXAMPLES = BELAY.parent / "examples"


class Example(Case):
    def start_example(self, name, *arguments):
        process = subprocess.Popen(
            [EXAMPLES / name, *map(str, arguments)],
            cwd=ROOT,
            env=environment(),
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.addCleanup(self._end, process)
        return process

    def finish(self, process):
        """What it printed."""
        said, errors = process.communicate(timeout=TIMEOUT)
        self.assertEqual(process.returncode, 0, said + errors)
        return said

    def example(self, name, *arguments):
        return self.finish(self.start_example(name, *arguments))

    def serve(self, address):
        process = self.start("server", "--cluster", f"worker={address}")
        self.wait_for_line(process, "serving job ")
        return process

    def test_session_manager(self):
        """CL-20, SM-31: a worker waits until the chief has prepared the model, and both train it."""
        address = f"127.0.0.1:{free_port()}"
        self.serve(address)
        worker = self.start_example("session_manager", "worker", f"grpc://{address}", 40)
        chief = self.start_example("session_manager", "chief", f"grpc://{address}", 60, self.run_dir)
        said = {"chief": self.finish(chief), "worker": self.finish(worker)}
        self.assertTrue(said["chief"].startswith("the model is initialised\n"), said)
        self.assertTrue(said["worker"].startswith("the model is ready\n"), said)
        ends = [int(re.search(r"; the global step is (\d+), the loss [0-9.e+-]+\n", text)[1]) for text in said.values()]
        # The steps of both are counted in one variable; whoever ends later has seen them all.
        self.assertEqual(max(ends), 100, said)
        saved = re.search(r"saved (.*)\n", said["chief"])[1]
        self.belay("ckpt", "verify", saved)
        # A chief that is started again goes on from its checkpoint, not from what the server has.
        step = self.steps()[-1]
        self.assertEqual(saved, f"{self.run_dir}/model.ckpt-{step}")
        again = self.example("session_manager", "chief", f"grpc://{address}", 10, self.run_dir)
        self.assertTrue(again.startswith("the model is restored\n"), again)
        self.assertIn(f"the global step is {step + 10},", again)

    def test_singular(self):
        """MS-21, MS-23: hooks save and summarise; the plain session is run beside them."""
        said = self.example("singular", self.run_dir, 250)
        self.assertRegex(said, r"^started at step 0\naccuracy on the last batch (0\.\d+|1\.000)\nstopped at step 250\n$")
        self.assertGreater(float(re.search(r"batch (\S+)", said)[1]), 0.5)
        self.assertEqual(self.steps()[-1], 250)
        events = self.belay("events", "cat", self.run_dir, "--json").stdout
        for step in (1, 21, 241):
            self.assertRegex(events, rf'"step":\s*{step}\b')
        self.assertIn('"loss_1"', events)
        again = self.example("singular", self.run_dir, 300)
        self.assertTrue(again.startswith("resumed at step 250\n"), again)
        self.assertTrue(again.endswith("stopped at step 300\n"), again)

    def test_recovery(self):
        """WS-06, WS-09, CR-03: the server is killed and started again, and training goes on."""
        steps = 4000
        address = f"127.0.0.1:{free_port()}"
        server = self.serve(address)
        trainer = self.start_example("recovery", self.run_dir, f"grpc://{address}", steps)
        lines = []
        while not lines or not lines[-1].startswith("step 200 "):
            lines.append(trainer.stdout.readline())
            self.assertTrue(lines[-1], lines)  # it ended early
        server.kill()
        self.assertEqual(server.wait(TIMEOUT), -signal.SIGKILL)
        self.serve(address)
        lines += trainer.stdout.readlines()
        self.assertEqual(trainer.wait(TIMEOUT), 0, f"{lines} {trainer.stderr.read()}")
        said = "".join(lines)
        self.assertTrue(said.startswith("session 1 begins at step 0\n"), said)
        self.assertTrue(said.endswith(f"stopped at step {steps} after 1 recoveries\n"), said)
        # The second session begins at a checkpoint, and the hook is called on.
        at = int(re.search(r"session 2 begins at step (\d+)\n", said)[1])
        self.assertGreaterEqual(at, 100)
        self.assertLess(at, steps)
        self.assertIn(f"step {steps}  loss ", said)
        self.assertEqual(self.steps()[-1], steps)


if __name__ == "__main__":
    unittest.main()
