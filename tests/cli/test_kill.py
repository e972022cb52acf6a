"""kill -9 at random moments: nothing is lost, nothing is done twice, and every checkpoint that is left restores."""

import os
import random
import shutil
import signal
import time
import unittest

from support import Case, DIGITS_GRAPH, DIGITS_KERAS, GRAPHS, TEST_DIGITS, TRAIN_DIGITS, need_graphs

KILLS = int(os.environ.get("BELAY_TEST_KILLS", "20"))


def setUpModule():
    need_graphs()


class Killed(Case):
    def setUp(self):
        super().setUp()
        seed = int(os.environ.get("BELAY_TEST_SEED", time.time_ns() % 1_000_000))
        self.chance = random.Random(seed)
        self.note = f"BELAY_TEST_SEED={seed}"

    def newest(self):
        """The step of the newest checkpoint, every byte of which is right."""
        found = [c for c in self.checkpoints() if c["complete"]]
        self.belay("ckpt", "verify", found[-1]["prefix"])
        return found[-1]["step"]

    def kill_once(self, arguments):
        """Starts, kills at a random moment, and returns whether it had told where it went on from."""
        expected = self.newest()
        process = self.start(*arguments, "--steps=1000000000")
        told = self.chance.random() < 0.7
        if told:
            line = self.wait_for_line(process, "resumed from step ")
            self.assertEqual(line, f"resumed from step {expected}\n", self.note)
            time.sleep(self.chance.uniform(0, 0.4))
        else:
            time.sleep(self.chance.uniform(0, 0.8))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        self.assertEqual(process.returncode, -signal.SIGKILL, self.note)
        self.assertGreaterEqual(self.newest(), expected, self.note)
        return told

    def check(self, graph, evaluation):
        """Killed again and again, then trained to a step; and from the same start to the same step in one go."""
        arguments = ("train", graph, "--dir", self.run_dir, *TRAIN_DIGITS, "--save-steps=23", "--log-steps=50")
        self.belay(*arguments, "--steps=1")
        whole = self.dir / "whole"
        shutil.copytree(self.run_dir, whole)
        told = sum(self.kill_once(arguments) for _ in range(KILLS))
        self.assertGreater(told, 0)
        start = self.newest()
        wanted = start + 100
        result = self.belay(*arguments, f"--steps={wanted}")
        self.assertIn(f"resumed from step {start}\n", result.stderr, self.note)
        self.assertEqual(self.tensor("global_step"), [wanted], self.note)
        self.check_all_restore(graph, evaluation)
        # The copy names the old folder in its state file only where that is absolute; belay finds what is there.
        (whole / "checkpoint").unlink()
        self.belay("train", graph, "--dir", whole, *TRAIN_DIGITS, "--save-steps=0", f"--steps={wanted}")
        self.belay("ckpt", "diff", whole, self.run_dir)
        return whole

    def check_all_restore(self, graph, evaluation):
        left = self.checkpoints()
        self.assertEqual([c["step"] for c in left if not c["complete"]], [], self.note)
        self.assertEqual(len(left), 5, self.note)
        for checkpoint in left:
            self.belay("ckpt", "verify", checkpoint["prefix"])
            self.belay("eval", graph, "--dir", checkpoint["prefix"], *TEST_DIGITS, *evaluation)

    def test_keras(self):
        self.check(DIGITS_KERAS, ())

    def test_graph(self):
        self.check(DIGITS_GRAPH, ())

    def test_a_variable_without_a_seed_keeps_its_value(self):
        whole = self.check(GRAPHS / "mlp.meta", ("--fetch=loss",))
        self.assertEqual(self.tensor("marker"), self.tensor("marker", whole / "model.ckpt-0"))


if __name__ == "__main__":
    unittest.main()
