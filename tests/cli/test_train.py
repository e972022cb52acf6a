"""belay train: where it starts, where it ends, and what it leaves."""

import json
import os
import pty
import shutil
import signal
import subprocess
import time
import unittest

import numpy as np

from support import (
    BELAY,
    Case,
    DIGITS_GRAPH,
    DIGITS_KERAS,
    GRAPHS,
    TRAIN_DIGITS,
    environment,
    linear_feeds,
    need_graphs,
    stop,
)


def setUpModule():
    need_graphs()


class Ends(Case):
    def test_until_a_step_and_no_further(self):
        for graph, feeds in ((GRAPHS / "module", linear_feeds()), (GRAPHS / "plain_saver.meta", linear_feeds())):
            with self.subTest(graph=graph):
                self.run_dir = self.dir / graph.name
                result = self.train(graph, *feeds, "--steps=7")
                self.assertIn("finished at step 7", result.stderr)
                self.assertEqual(self.steps()[-1], 7)
                self.assertEqual(self.tensor("global_step"), [7])

    def test_where_the_step_is_reached_nothing_runs_and_nothing_is_written(self):
        self.train(GRAPHS / "module", *linear_feeds(), "--steps=7")
        before = self.names()
        for steps in (7, 3):
            result = self.train(GRAPHS / "module", *linear_feeds(), f"--steps={steps}")
            self.assertIn("nothing to do", result.stderr)
            self.assertNotIn("resumed", result.stderr)
        self.assertEqual(self.names(), before)

    def test_epochs_count_rows_and_keep_the_short_batch(self):
        arguments = (GRAPHS / "plain_saver.meta", *linear_feeds(), "--batch=16")
        self.train(*arguments, "--epochs=2")  # 40 rows: 16, 16, 8
        self.assertEqual(self.steps()[-1], 6)
        before = self.names()
        self.assertIn("nothing to do", self.train(*arguments, "--epochs=2").stderr)
        self.assertEqual(self.names(), before)
        self.assertIn("resumed from step 6\n", self.train(*arguments, "--epochs=3").stderr)
        self.assertEqual(self.steps()[-1], 9)
        self.assertIn("nothing to do", self.train(*arguments, "--epochs=1").stderr)

    def test_batch_that_the_graph_fixes_drops_the_short_one_and_says_so(self):
        np.save(self.dir / "x.npy", np.zeros((21, 4), np.float32))
        np.save(self.dir / "y.npy", np.zeros(21, np.float32))
        result = self.train(
            GRAPHS / "fixed_batch", "--feed", f"x={self.dir}/x.npy", "--feed", f"y={self.dir}/y.npy", "--epochs=2"
        )
        self.assertIn("exactly 8 rows: the last 5 of 21 rows are left out", result.stderr)
        self.assertEqual(self.steps()[-1], 4)

    def test_until_the_graphs_own_input_ends(self):
        for name, tensor, total in (("queue", "seen", 90), ("dataset", "seen", 190), ("dataset_one_shot", "seen", 190)):
            with self.subTest(graph=name):
                self.run_dir = self.dir / name
                result = self.train(GRAPHS / f"{name}.meta")
                self.assertIn("finished at step 5: the graph's input ended", result.stderr)
                self.assertEqual(self.tensor(tensor), [total])

    def test_nan_is_a_failure_and_is_not_saved(self):
        self.fails(
            1, "train", GRAPHS / "nan.meta", "--dir", self.run_dir, "--steps=10", "--loss=loss", "--save-steps=1",
            saying="NaN",
        )
        self.assertEqual(self.steps()[-1], 4)  # step 5 is the one whose loss is NaN
        self.assertEqual(self.ledger()[-1]["code"], "NAN_LOSS")


class Starts(Case):
    def test_a_resumed_run_says_so_in_a_line_of_its_own(self):
        arguments = (GRAPHS / "module", *linear_feeds())
        self.assertNotIn("resumed", self.train(*arguments, "--steps=3").stderr)
        self.assertIn("resumed from step 3\n", self.train(*arguments, "--steps=5").stderr)

    def test_a_resumed_run_is_the_same_as_one_that_was_never_stopped(self):
        """Batches go on with the next one, across epochs, shuffled or not: the variables are equal bit by bit."""
        for options in (("--batch=16",), ("--batch=7", "--seed=3"), ("--no-shuffle",)):
            with self.subTest(options=options):
                whole, parts = self.dir / f"whole{options}", self.dir / f"parts{options}"
                arguments = ("train", GRAPHS / "keras_small", "--feed", f"x={GRAPHS}/x4.npy", "--feed", f"y={GRAPHS}/label3.npy")
                self.belay(*arguments, *options, "--dir", whole, "--steps=23")
                for steps in (1, 4, 11, 23):
                    self.belay(*arguments, *options, "--dir", parts, f"--steps={steps}")
                self.belay("ckpt", "diff", whole, parts)

    def test_variables_without_a_seed_keep_what_they_were_initialised_to(self):
        arguments = (GRAPHS / "plain_saver.meta", *linear_feeds())
        self.train(*arguments, "--steps=3")
        marker = self.tensor("marker")
        self.train(*arguments, "--steps=9")
        self.assertEqual(self.tensor("marker"), marker)

    def test_another_seed_or_order_is_refused_before_anything_is_touched(self):
        arguments = ("train", GRAPHS / "module", "--dir", self.run_dir, *linear_feeds())
        self.belay(*arguments, "--steps=3")
        before = self.names()
        self.fails(1, *arguments, "--steps=9", "--seed=5", saying="seed")
        self.fails(1, *arguments, "--steps=9", "--no-shuffle", saying="shuffl")
        self.assertEqual(self.names(), before)

    def test_other_data_starts_with_its_first_row_and_that_is_said(self):
        self.train(GRAPHS / "module", *linear_feeds(), "--steps=3")
        np.save(self.dir / "x.npy", np.zeros((10, 4), np.float32))
        np.save(self.dir / "y.npy", np.zeros(10, np.float32))
        result = self.train(
            GRAPHS / "module", "--feed", f"x={self.dir}/x.npy", "--feed", f"y={self.dir}/y.npy", "--steps=5"
        )
        self.assertIn("the arrays have 10 rows, those of the checkpoint had 40", result.stderr)
        self.assertEqual(self.tensor("global_step"), [5])

    def test_fresh_moves_everything_aside(self):
        arguments = (GRAPHS / "module", *linear_feeds())
        self.train(*arguments, "--steps=3")
        old = {name for name in self.names() if not name.startswith("belay.")}
        result = self.train(*arguments, "--steps=2", "--fresh")
        self.assertIn("started a new training", result.stderr)
        self.assertEqual(self.steps(), [0, 2])
        (aside,) = self.run_dir.glob("before-*")
        self.assertEqual(set(self.names(aside)), old)
        self.assertEqual(self.steps(aside), [0, 3])
        self.train(*arguments, "--steps=2", "--fresh")
        self.assertEqual(len(list(self.run_dir.glob("before-*"))), 2)

    def test_a_damaged_state_file_never_starts_a_new_training(self):
        arguments = (GRAPHS / "module", *linear_feeds())
        for damage in (lambda p: p.unlink(), lambda p: p.write_text("nonsense {"), lambda p: p.write_text("")):
            with self.subTest():
                shutil.rmtree(self.run_dir, ignore_errors=True)
                self.train(*arguments, "--steps=3")
                damage(self.run_dir / "checkpoint")
                self.assertIn("resumed from step 3\n", self.train(*arguments, "--steps=5").stderr)

    def test_a_damaged_checkpoint_is_passed_over_for_an_older_one(self):
        arguments = (GRAPHS / "module", *linear_feeds(), "--save-steps=2")
        self.train(*arguments, "--steps=6")
        self.damage("model.ckpt-6.data-00000-of-00002")
        result = self.train(*arguments, "--steps=8")
        self.assertIn("resumed from step 4\n", result.stderr)
        self.assertIn("model.ckpt-6", result.stderr)
        self.assertEqual(self.tensor("global_step"), [8])

    def test_where_no_checkpoint_verifies_nothing_is_started(self):
        arguments = (GRAPHS / "module", *linear_feeds())
        self.train(*arguments, "--steps=6")
        for path in self.run_dir.glob("*.data-00000-*"):
            self.damage(path.name)
        self.fails(1, "train", *arguments, "--dir", self.run_dir, "--steps=8", saying="model.ckpt-")
        self.assertEqual(len(list(self.run_dir.glob("*.data-00000-*"))), 2)

    def damage(self, name):
        data = bytearray((self.run_dir / name).read_bytes())
        data[len(data) // 2] ^= 1
        (self.run_dir / name).write_bytes(data)


class Folders(Case):
    def test_a_folder_may_be_named_in_any_way_and_moved(self):
        arguments = ("train", GRAPHS / "module", *linear_feeds(), "--dir")
        self.belay(*arguments, "run/", "--steps=2", cwd=self.dir)
        self.belay(*arguments, self.run_dir, "--steps=4")
        self.belay(*arguments, ".", "--steps=6", cwd=self.run_dir)
        moved = self.run_dir.rename(self.dir / "mo[v]ed ü")
        self.assertIn("resumed from step 6\n", self.belay(*arguments, moved, "--steps=8").stderr)
        self.assertEqual(self.tensor("global_step", moved), [8])

    def test_folders_on_the_way_are_made(self):
        self.belay("train", GRAPHS / "tiny.meta", "--dir", self.dir / "a" / "b" / "c", "--steps=2")
        self.assertEqual(self.steps(self.dir / "a" / "b" / "c"), [0, 2])


class Options(Case):
    def test_a_session_config_is_handed_on(self):
        config = self.dir / "config.pb"
        config.write_bytes(bytes([0x10, 1, 0x28, 1]))  # intra_op_parallelism_threads, inter_op_parallelism_threads
        self.train(GRAPHS / "module", *linear_feeds(), "--steps=3", "--session-config", config)

    def test_both_kinds_of_threads_train_the_same(self):
        for threads in ("pool", "caller", "auto"):
            self.belay("train", GRAPHS / "keras_small", "--dir", self.dir / threads, "--steps=30", "--threads", threads,
                       "--feed", f"x={GRAPHS}/x4.npy", "--feed", f"y={GRAPHS}/label3.npy")
        self.belay("ckpt", "diff", self.dir / "pool", self.dir / "caller")
        self.belay("ckpt", "diff", self.dir / "pool", self.dir / "auto")

    def test_a_graph_without_a_step_counts_runs(self):
        self.train(GRAPHS / "no_step.meta", *linear_feeds(), "--steps=3")
        self.assertIn("resumed from step 3\n", self.train(GRAPHS / "no_step.meta", *linear_feeds(), "--steps=5").stderr)
        self.assertEqual(self.tensor("global_step"), [5])

    def test_fetches_are_metrics(self):
        self.train(GRAPHS / "plain_saver.meta", *linear_feeds(), "--steps=3", "--fetch=loss", "--fetch=x", "--fetch=b")
        metrics = json.loads((self.run_dir / "model.ckpt-3.belay.json").read_text())["metrics"]
        self.assertEqual(set(metrics), {"loss", "b"})


class Keeps(Case):
    def test_last_and_all(self):
        arguments = (GRAPHS / "module", *linear_feeds(), "--save-steps=2")
        self.train(*arguments, "--steps=10", "--keep-last=2")
        self.assertEqual(self.steps(), [8, 10])
        self.train(*arguments, "--steps=20", "--keep-last=0")
        self.assertEqual(self.steps(), [8, 10, 12, 14, 16, 18, 20])

    def test_best_by_a_metric(self):
        # nan.meta's loss is 1/N, so the largest losses are the first ones.
        self.train(GRAPHS / "nan.meta", "--steps=4", "--loss=loss", "--save-steps=1", "--keep-last=1", "--keep-best=2:loss:max")
        self.assertEqual([s for s in self.steps() if s > 0], [1, 2, 4])

    def test_saving_can_be_off_but_what_was_trained_is_saved(self):
        self.train(GRAPHS / "module", *linear_feeds(), "--steps=10", "--save-steps=0")
        self.assertEqual(self.steps(), [0, 10])

    def test_a_manifest_lies_beside_each_checkpoint(self):
        self.train(GRAPHS / "module", *linear_feeds(), "--steps=10", "--batch=16", "--fetch=loss")
        manifest = json.loads((self.run_dir / "model.ckpt-10.belay.json").read_text())
        self.assertEqual(manifest["step"], 10)
        self.assertEqual({k: manifest["input"][k] for k in ("epoch", "row", "rows", "batch", "seed")},
                         {"epoch": 3, "row": 16, "rows": 40, "batch": 16, "seed": 0})
        self.assertGreater(manifest["metrics"]["loss"], 0)
        for file in manifest["files"]:
            self.assertEqual((self.run_dir / file["name"]).stat().st_size, file["size"])

    def test_the_ledger_tells_what_happened(self):
        arguments = (GRAPHS / "module", *linear_feeds())
        self.train(*arguments, "--steps=3")
        self.train(*arguments, "--steps=5")
        self.assertEqual(
            [(line["event"], line.get("step")) for line in self.ledger()],
            [("start", None), ("save", 0), ("save", 3), ("stop", 3),
             ("start", None), ("restore", 3), ("save", 5), ("stop", 5)],
        )


class Locks(Case):
    def test_a_second_trainer_is_told_who_holds_the_folder(self):
        first = self.start("train", GRAPHS / "slow.meta", "--dir", self.run_dir, "--steps=100000")
        self.wait_for_line(first, "started a new training")
        before = set(self.names())
        self.fails(
            138, "train", GRAPHS / "slow.meta", "--dir", self.run_dir, "--steps=5",
            saying=(f"process {first.pid} on host", str(self.run_dir)),
        )
        self.assertEqual(set(self.names()), before)
        self.assertEqual(stop(first), 143)
        self.train(GRAPHS / "slow.meta", f"--steps={self.steps()[-1] + 1}")

    def test_a_killed_trainer_leaves_no_lock(self):
        first = self.start("train", GRAPHS / "slow.meta", "--dir", self.run_dir, "--steps=100000")
        self.wait_for_line(first, "started a new training")
        self.assertEqual(stop(first, signal.SIGKILL), -signal.SIGKILL)
        self.train(GRAPHS / "slow.meta", "--steps=1")


    def test_what_a_killed_process_was_writing_goes(self):
        self.train(GRAPHS / "tiny.meta", "--steps=1")
        killed = subprocess.Popen(["true"])
        killed.wait()
        old, young = (self.run_dir / f"checkpoint.tmp{killed.pid}.aBc{i}eF" for i in "12")
        for path in (old, young):
            path.write_text("half")
        os.utime(old, (1_000_000_000, 1_000_000_000))
        self.train(GRAPHS / "tiny.meta", "--steps=2")
        self.assertEqual([old.exists(), young.exists()], [False, True])


class FileSystemWithoutLocks(Locks):
    """The same where fcntl() has no locks to give."""

    SHIM = """
        #define _GNU_SOURCE
        #include <dlfcn.h>
        #include <errno.h>
        #include <fcntl.h>
        #include <stdarg.h>
        int fcntl(int fd, int command, ...) {
            static int (*real)(int, int, ...);
            va_list arguments;
            va_start(arguments, command);
            void *argument = va_arg(arguments, void *);
            va_end(arguments);
            if (command == F_OFD_SETLK)
                return errno = ENOLCK, -1;
            if (!real)
                real = (int (*)(int, int, ...))dlsym(RTLD_NEXT, "fcntl");
            return real(fd, command, argument);
        }
    """

    def setUp(self):
        super().setUp()
        (self.dir / "shim.c").write_text(self.SHIM)
        subprocess.run(["cc", "-shared", "-fPIC", "-o", self.dir / "shim.so", self.dir / "shim.c"], check=True)
        self.shim = {"LD_PRELOAD": str(self.dir / "shim.so")}

    def belay(self, *arguments, env=None, **how):
        return super().belay(*arguments, env={**self.shim, **(env or {})}, **how)

    def start(self, *arguments, env=None, **how):
        return super().start(*arguments, env={**self.shim, **(env or {})}, **how)

    def test_the_file_that_stands_for_the_lock_is_said_and_removed(self):
        result = self.train(GRAPHS / "tiny.meta", "--steps=1")
        self.assertIn("has no locks", result.stderr)
        self.assertFalse((self.run_dir / "belay.lock.exclusive").exists())

    def test_who_lost_the_folder_saves_nothing_more(self):
        first = self.start("train", GRAPHS / "slow.meta", "--dir", self.run_dir, "--steps=100000")
        self.wait_for_line(first, "step 1/")  # so that there is something to save
        held = self.run_dir / "belay.lock.exclusive"
        held.unlink()
        held.write_text("host another\npid 1\n")
        self.assertEqual(stop(first), 138)
        self.assertEqual(self.steps(), [0])
        self.assertTrue(held.exists())


class Stops(Case):
    """SIGTERM and SIGINT finish the step and save; the code says which it was."""

    def started(self, *options, graph="slow.meta"):
        process = self.start("train", GRAPHS / graph, "--dir", self.run_dir, "--steps=1000000", *options)
        self.wait_for_line(process, "started a new training")
        return process

    def test_every_finished_step_is_in_a_checkpoint(self):
        for number, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
            with self.subTest(signal=number):
                self.run_dir = self.dir / str(code)
                process = self.started("--log-format=json", "--log-steps=1", "--loss=loss")
                self.wait_for_line(process, "step = 5")
                process.send_signal(number)
                _, said = process.communicate(timeout=60)
                self.assertEqual(process.returncode, code, said)
                step = self.tensor("global_step")[0]
                self.assertGreaterEqual(step, 5)
                self.assertIn(f"stopped at step {step}", said)
                self.assertEqual(self.ledger()[-1]["steps_done"], step)
                resumed = self.train(GRAPHS / "slow.meta", f"--steps={step + 1}")
                self.assertIn(f"resumed from step {step}\n", resumed.stderr)

    def test_at_any_moment_from_the_first_millisecond(self):
        """Before the session is there nothing is written; later there is a checkpoint of the steps that were done."""
        for delay in (0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7):
            with self.subTest(delay=delay):
                self.run_dir = self.dir / str(delay)
                process = self.start("train", GRAPHS / "slow.meta", "--dir", self.run_dir, "--steps=1000000")
                time.sleep(delay)
                code = stop(process)
                # The signal mask comes with main(); what the loader does before it is not ours.
                self.assertIn(code, (143, -signal.SIGTERM) if delay < 0.02 else (143,))
                if self.run_dir.exists():
                    done = [line["steps_done"] for line in self.ledger() if line["event"] == "stop"]
                    saved = self.steps()
                    if done and done[0]:
                        self.assertEqual(saved[-1], done[0])

    def test_a_signal_that_comes_twice_is_one(self):
        for number, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
            self.run_dir = self.dir / str(code)
            process = self.started()
            process.send_signal(number)
            self.wait_for_line(process, "stopping after this step")
            process.send_signal(number)
            process.communicate(timeout=60)
            self.assertEqual(process.returncode, code)
            stop_line = self.ledger()[-1]
            self.assertEqual(stop_line["event"], "stop")

    def test_the_first_signal_gives_the_code(self):
        process = self.started()
        process.send_signal(signal.SIGTERM)
        self.wait_for_line(process, "terminated: stopping")
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        self.assertEqual(process.returncode, 143)

    def test_usr1_does_no_harm(self):
        process = self.started()
        process.send_signal(signal.SIGUSR1)
        self.wait_for_line(process, "SIGUSR1")
        self.assertEqual(stop(process), 143)

    def test_a_reader_that_goes_away_does_not_stop_training(self):
        process = self.start("train", DIGITS_GRAPH, "--dir", self.run_dir, *TRAIN_DIGITS, "--steps=3000", "--log-format=json",
                             "--log-steps=1")
        self.wait_for_line(process, "started")
        process.stderr.close()
        process.stdout.close()
        self.assertEqual(process.wait(timeout=120), 0)
        process.stdout = process.stderr = open("/dev/null")
        self.assertEqual(self.steps()[-1], 3000)


class Talks(Case):
    def test_json_lines_are_json(self):
        result = self.train(DIGITS_KERAS, *TRAIN_DIGITS, "--steps=50", "--log-format=json", "--log-steps=10")
        lines = [json.loads(line) for line in result.stderr.splitlines()]
        events = [line.get("event") for line in lines]
        told = [e for e in events if e]
        self.assertEqual(told[:3], ["loading", "started", "progress"]) # the first step at once
        self.assertEqual(told[-2:], ["progress", "finished"])
        self.assertEqual(set(told), {"loading", "started", "progress", "finished"})
        self.assertEqual(lines[-1]["step"], 50)
        for line in lines:
            self.assertGreater(line["time_unix_seconds"], 1.6e9)
            self.assertIn("message", line)

    def test_tf_lines_are_tensorflows(self):
        result = self.train(DIGITS_KERAS, *TRAIN_DIGITS, "--steps=300", "--log-format=tf")
        self.assertRegex(result.stderr, r"INFO:tensorflow:loss = [0-9.]+, step = 1\n")
        self.assertRegex(result.stderr, r"INFO:tensorflow:loss = [0-9.]+, step = 101 \([0-9.]+ sec\)\n")
        self.assertRegex(result.stderr, r"INFO:tensorflow:global_step/sec: [0-9.e+]+\n")
        self.assertIn("INFO:tensorflow:Saving checkpoints for 300 into", result.stderr)

    def test_a_pipe_gets_no_terminal_codes_and_tensorflow_is_quiet(self):
        result = self.train(DIGITS_KERAS, *TRAIN_DIGITS, "--steps=50", env={"TERM": "xterm"})
        self.assertNotIn("\033", result.stderr)
        self.assertNotIn("\r", result.stderr)
        for noise in ("oneDNN", "absl", "cpu_feature_guard", "I0000"):
            self.assertNotIn(noise, result.stderr)

    def test_a_terminal_sees_one_line_that_is_rewritten(self):
        master, slave = pty.openpty()
        process = subprocess.Popen(
            [BELAY, "train", GRAPHS / "slow.meta", "--dir", self.run_dir, "--steps=8"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=slave, env=environment({"TERM": "xterm"}),
        )
        os.close(slave)
        said = b""
        while True:
            try:
                piece = os.read(master, 65536)
            except OSError:
                break
            if not piece:
                break
            said += piece
        os.close(master)
        self.assertEqual(process.wait(timeout=60), 0)
        self.assertRegex(said.decode(), r"\rstep [1-7]/8 ")
        self.assertIn("\rstep", said.decode())
        self.assertIn("finished at step 8", said.decode())


if __name__ == "__main__":
    unittest.main()
