"""belay eval --watch: each new checkpoint, until training is over."""

import json
import shutil
import signal
import unittest

from support import Case, DIGITS_GRAPH, TEST_DIGITS, TRAIN_DIGITS, need_graphs, stop


def setUpModule():
    need_graphs()


class Watch(Case):
    def watch(self, *arguments):
        return self.start("eval", DIGITS_GRAPH, "--dir", self.run_dir, "--watch", "--json", *TEST_DIGITS, *arguments)

    def results(self, process):
        out, err = process.communicate(timeout=120)
        return [json.loads(line) for line in out.splitlines()], err

    def train_digits(self, *arguments, **how):
        return self.belay("train", DIGITS_GRAPH, "--dir", self.run_dir, *TRAIN_DIGITS, *arguments, **how)

    # Watching may begin before there is a folder. Each result is as evaluating that checkpoint alone says.
    def test_each_new_checkpoint_is_evaluated_until_training_reaches_its_end(self):
        process = self.watch()
        self.wait_for_line(process, "waiting for a checkpoint")
        self.train_digits("--steps=40", "--save-steps=10", "--keep-last=100")
        results, err = self.results(process)
        self.assertEqual(process.returncode, 0, err)
        self.assertIn("training is over\n", err)
        steps = [result["step"] for result in results]
        self.assertEqual(steps, sorted(set(steps)))
        self.assertEqual(steps[-1], 40)
        for result in results:
            alone = json.loads(
                self.belay("eval", DIGITS_GRAPH, "--dir", result["checkpoint"], "--json", *TEST_DIGITS).stdout
            )
            self.assertEqual(result["metrics"], alone["metrics"])

    def test_a_training_that_is_over_has_its_newest_checkpoint_evaluated_once(self):
        self.train_digits("--steps=3")
        process = self.watch()
        results, err = self.results(process)
        self.assertEqual((process.returncode, [r["step"] for r in results]), (0, [3]), err)

    # A run that somebody stopped may go on: it is not over, and its end is said at the deadline.
    def test_a_training_that_was_stopped_is_not_over(self):
        trainer = self.start("train", DIGITS_GRAPH, "--dir", self.run_dir, *TRAIN_DIGITS, "--steps=1000000000",
                             "--save-steps=5")
        self.wait_until("a step", lambda: list(self.run_dir.glob("model.ckpt-[1-9]*.index")))
        stop(trainer)
        process = self.watch("--timeout=1")
        results, err = self.results(process)
        self.assertEqual(process.returncode, 138, err)
        self.assertEqual(len(results), 1)
        self.assertIn("no new checkpoint came to", err)
        self.assertIn("within 1 s; training stopped: asked to stop", err)
        process = self.watch()
        self.wait_for_line(process, "waiting for a checkpoint newer than model.ckpt-")
        last = results[0]["step"] + 2
        self.train_digits(f"--steps={last}")
        results, err = self.results(process)
        self.assertEqual((process.returncode, results[-1]["step"]), (0, last), err)

    # A killed trainer says nothing of an end.
    def test_a_training_that_was_killed_is_not_over(self):
        trainer = self.start("train", DIGITS_GRAPH, "--dir", self.run_dir, *TRAIN_DIGITS, "--steps=1000000000",
                             "--save-steps=5")
        self.wait_until("a checkpoint", (self.run_dir / "checkpoint").exists)
        trainer.send_signal(signal.SIGKILL)
        trainer.communicate()
        process = self.watch("--timeout=1")
        _, err = self.results(process)
        self.assertEqual(process.returncode, 138, err)

    def test_a_signal_ends_it(self):
        process = self.watch()
        self.wait_for_line(process, "waiting for a checkpoint")
        process.send_signal(signal.SIGTERM)
        results, err = self.results(process)
        self.assertEqual((process.returncode, results), (143, []), err)
        process = self.watch()
        self.wait_for_line(process, "waiting for a checkpoint")
        process.send_signal(signal.SIGINT)
        self.assertEqual((self.results(process)[0], process.returncode), ([], 130))

    # One that is damaged is passed over; the next one is taken.
    def test_a_damaged_checkpoint_does_not_end_it(self):
        self.train_digits("--steps=2")
        (self.run_dir / "belay.ledger.jsonl").unlink()
        data = next(self.run_dir.glob("model.ckpt-2.data-*"))
        whole = data.read_bytes()
        data.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
        process = self.watch("--timeout=60")
        self.wait_for_line(process, "waiting for a checkpoint newer than model.ckpt-0")
        # That nothing came which could be evaluated is no new wait.
        shutil.copy(self.run_dir / "checkpoint", self.dir / "checkpoint")
        shutil.move(self.dir / "checkpoint", self.run_dir / "checkpoint")
        self.wait_for_line(process, "model.ckpt-2 is damaged")
        shutil.copy(self.run_dir / "checkpoint", self.dir / "checkpoint")
        data.write_bytes(whole)
        shutil.move(self.dir / "checkpoint", self.run_dir / "checkpoint")
        (self.run_dir / "belay.ledger.jsonl").write_text('{"event":"start"}\n{"event":"stop","over":true}\n')
        results, err = self.results(process)
        self.assertEqual((process.returncode, results[-1]["step"]), (0, 2), err)
        self.assertNotIn("for 0 s so far", err)

    def test_the_command_line_is_checked(self):
        self.fails(2, "eval", DIGITS_GRAPH, "--dir", self.run_dir, "--timeout=3", saying="it needs --watch")
        self.fails(138, "eval", DIGITS_GRAPH, "--dir", self.run_dir, "--watch", "--timeout=0", *TEST_DIGITS,
                   saying="within 0 s")

    # What is wrong with the graph or the arrays is wrong for every checkpoint.
    def test_an_error_that_is_not_the_checkpoints_ends_it(self):
        self.train_digits("--steps=1")
        self.fails(1, "eval", DIGITS_GRAPH, "--dir", self.run_dir, "--watch", "--signature=nothing", *TEST_DIGITS,
                   saying="nothing")

    def test_text_has_the_step_in_each_table(self):
        self.train_digits("--steps=3")
        out = self.belay("eval", DIGITS_GRAPH, "--dir", self.run_dir, "--watch", *TEST_DIGITS).stdout
        self.assertRegex(out, r"(?m)^step +3$")


if __name__ == "__main__":
    unittest.main()
