"""Bad input: one clear line, the exit code of the contract, nothing half-written, nothing lost."""

import os
import random
import shutil
import subprocess
import unittest

import numpy as np

from support import BELAY, Case, DIGITS_GRAPH, GRAPHS, ROOT, TRAIN_DIGITS, environment, linear_feeds, need_graphs


def setUpModule():
    need_graphs()


class BadGraphs(Case):
    def write(self, name, data):
        path = self.dir / name
        path.write_bytes(data)
        return path

    def test_missing(self):
        self.fails_to_train(1, self.dir / "none.meta", "--steps=3", saying=("none.meta", "no such file or folder"))
        (self.dir / "empty_folder").mkdir()
        self.fails_to_train(1, self.dir / "empty_folder", "--steps=3", saying="empty_folder")

    def test_empty(self):
        self.fails_to_train(1, self.write("empty.meta", b""), "--steps=3", saying=("empty.meta", "the file is empty"))

    def test_truncated_anywhere(self):
        whole = (GRAPHS / "plain_saver.meta").read_bytes()
        for share in (0.01, 0.2, 0.5, 0.8, 0.99):
            with self.subTest(share=share):
                graph = self.write("cut.meta", whole[: int(len(whole) * share)])
                self.fails_to_train(1, graph, *linear_feeds(), "--steps=3", saying="cut.meta")

    def test_random_bytes(self):
        chance = random.Random(1)
        for size in (1, 100, 50_000):
            with self.subTest(size=size):
                self.fails_to_train(1, self.write("noise.meta", chance.randbytes(size)), "--steps=3", saying="noise.meta")

    def test_text_form_that_is_damaged(self):
        graph = self.write("text.meta", b'meta_info_def { tags: "train" }\ngraph_def { node { name: "a" opp: "NoOp" } }\n')
        self.fails_to_train(1, graph, "--steps=3", saying="text.meta:2:")

    def test_saved_model_that_is_cut_or_empty(self):
        for size in (0, 1000):
            folder = self.dir / f"model{size}"
            folder.mkdir()
            (folder / "saved_model.pb").write_bytes((GRAPHS / "module" / "saved_model.pb").read_bytes()[:size])
            self.fails_to_train(1, folder, *linear_feeds(), "--steps=3", saying=f"model{size}")

    def test_saved_model_whose_variables_are_damaged(self):
        for name in ("variables.index", "variables.data-00000-of-00001"):
            with self.subTest(name=name):
                folder = self.dir / name
                shutil.copytree(GRAPHS / "module", folder)
                data = bytearray((folder / "variables" / name).read_bytes())
                data[len(data) // 2] ^= 0x40
                (folder / "variables" / name).write_bytes(data)
                self.fails_to_train(1, folder, *linear_feeds(), "--steps=3", saying=f"{name}/variables/variables")

    def test_the_file_is_named_before_it_is_loaded(self):
        result = self.train(self.dir / "none.meta", "--steps=3", exit_code=1)
        self.assertEqual(result.stderr.splitlines()[0], f"loading graph {self.dir}/none.meta")


class BadNames(Case):
    def test_saved_model_without_the_signature(self):
        graph = GRAPHS / "no_train_signature"
        self.fails_to_train(1, graph, *linear_feeds(), "--steps=3", saying=("signature 'train'", "serving_default"))
        self.fails_to_train(
            1, GRAPHS / "module", "--signature=tarin", *linear_feeds(), "--steps=3", saying="did you mean 'train'?"
        )
        self.fails(1, "eval", graph, "--dir", self.run_dir, saying=("signature 'eval'", "serving_default"))

    def test_graph_that_does_not_say_what_trains(self):
        self.fails_to_train(
            1, GRAPHS / "two_trains.meta", *linear_feeds(), "--steps=3", saying=("train, train_slowly", "--train-op")
        )
        self.fails_to_train(
            1, GRAPHS / "no_train_op.meta", *linear_feeds(), "--steps=3", saying=("candidates: train,", "--train-op")
        )

    def test_unknown_names_suggest_the_nearest(self):
        meta, module = GRAPHS / "plain_saver.meta", GRAPHS / "module"
        x, y = linear_feeds()[1], linear_feeds()[3]
        for graph, arguments, nearest in (
            (meta, (*linear_feeds(), "--train-op=trian"), "train"),
            (meta, (*linear_feeds(), "--fetch=los"), "loss"),
            (meta, (*linear_feeds(), "--loss=lost:0"), "loss"),
            (module, (*linear_feeds(), "--fetch=los"), "loss"),
            (module, ("--feed", x, "--feed", "yy=" + y[2:]), "y"),
        ):
            with self.subTest(arguments=arguments):
                self.fails_to_train(1, graph, *arguments, "--steps=3", saying=f"did you mean '{nearest}'?")

    def test_inputs_that_are_not_fed_are_listed(self):
        x = linear_feeds()[1]
        wants = ("x (float32 [?,4])", "y (float32 [?])")
        self.fails_to_train(1, GRAPHS / "module", "--steps=3", saying=wants)
        self.fails_to_train(1, GRAPHS / "plain_saver.meta", "--steps=3", saying=wants)
        self.fails_to_train(1, GRAPHS / "module", "--feed", x, "--steps=3", saying=("not fed: y (float32 [?])", *wants))

    def test_metric_to_keep_by_must_be_fetched(self):
        self.fails_to_train(
            1, GRAPHS / "plain_saver.meta", *linear_feeds(), "--steps=3", "--keep-best=2:loss", saying="--fetch loss"
        )

    def test_loss_must_be_a_number(self):
        self.fails_to_train(
            1, GRAPHS / "plain_saver.meta", *linear_feeds(), "--steps=3", "--loss=x:0", saying="not a scalar number"
        )


class BadTargets(Case):
    """Found before anything is written, and before --fresh moves anything."""

    def bad_config(self):
        path = self.dir / "bad.config"
        path.write_bytes(b"\xff" * 9)
        return path

    def wrong(self):
        bad = self.bad_config()
        (self.dir / "large.config").write_bytes(bytes(2 << 20))
        return (
            (f"--session-config={bad}", (str(bad), "ConfigProto")),
            (f"--session-config={self.dir}/none", f"{self.dir}/none"),
            (f"--session-config={self.dir}", f"{self.dir}: "),
            (f"--session-config={self.dir}/large.config", "large.config is larger than"),
            ("--master=foo", ("no session with foo", "session factory")),
            ("--master=grpc://foo", ("grpc://foo", "host-port")),
            ("--master=grpc://", ("grpc://", "host-port")),
        )

    def test_nothing_is_written(self):
        for option, said in self.wrong():
            with self.subTest(option=option):
                self.fails_to_train(1, GRAPHS / "tiny.meta", "--steps=3", option, saying=said)

    def test_fresh_moves_nothing(self):
        self.train(GRAPHS / "tiny.meta", "--steps=3")
        before = self.names()
        for option, said in self.wrong():
            with self.subTest(option=option):
                self.fails(1, "train", GRAPHS / "tiny.meta", "--dir", self.run_dir, "--steps=5", "--fresh", option,
                           saying=said)
                self.assertEqual(self.names(), before)

    def test_eval_names_its_master(self):
        self.train(GRAPHS / "tiny.meta", "--steps=3")
        self.fails(1, "eval", GRAPHS / "tiny.meta", "--dir", self.run_dir, "--fetch=global_step", "--master=foo",
                   saying=("no session with foo", "session factory"))


class BadArrays(Case):
    def setUp(self):
        super().setUp()
        self.x, self.y = np.load(GRAPHS / "x4.npy"), np.load(GRAPHS / "y.npy")

    def save(self, name, array):
        np.save(self.dir / name, array)
        return self.dir / name

    def check(self, x=None, y=None, saying=(), graph="module"):
        x, y = x or GRAPHS / "x4.npy", y or GRAPHS / "y.npy"
        self.fails_to_train(1, GRAPHS / graph, "--feed", f"x={x}", "--feed", f"y={y}", "--steps=3", saying=saying)

    def test_missing_or_no_array(self):
        self.check(x=self.dir / "none.npy", saying="none.npy")
        (self.dir / "text.npy").write_text("1, 2, 3")
        self.check(x=self.dir / "text.npy", saying="text.npy")
        (self.dir / "empty.npy").write_bytes(b"")
        self.check(x=self.dir / "empty.npy", saying="empty.npy")

    def test_dtype(self):
        self.check(x=self.save("x64.npy", self.x.astype(np.float64)), saying=("x64.npy", "float64", "float32"))
        self.check(x=self.save("x64.npy", self.x.astype(np.float64)), saying="float32", graph="plain_saver.meta")
        self.check(y=self.save("words.npy", self.y.astype("U8")), saying=("words.npy", "string", "float32"))
        self.check(y=self.save("dates.npy", np.zeros(40, "M8[s]")), saying="dates.npy")

    def test_shape(self):
        self.check(x=self.save("wide.npy", np.zeros((40, 5), np.float32)), saying=("wide.npy", "[40,5]", "[?,4]"))
        self.check(x=self.save("flat.npy", np.zeros(40, np.float32)), saying=("flat.npy", "[40]", "[?,4]"))
        self.check(x=self.save("scalar.npy", np.float32(1)), saying="scalar.npy")
        self.check(
            x=self.save("none.npy", np.zeros((0, 4), np.float32)),
            y=self.save("none_y.npy", np.zeros(0, np.float32)),
            saying="row",
        )

    def test_length(self):
        self.check(y=self.save("short.npy", self.y[:39]), saying=("40", "39"))

    def test_file_that_is_cut(self):
        data = (GRAPHS / "x4.npy").read_bytes()
        for size in (5, 60, len(data) - 1):
            (self.dir / "cut.npy").write_bytes(data[:size])
            self.check(x=self.dir / "cut.npy", saying="cut.npy")

    def test_version(self):
        data = bytearray((GRAPHS / "x4.npy").read_bytes())
        data[6] = 9
        (self.dir / "new.npy").write_bytes(data)
        self.check(x=self.dir / "new.npy", saying=("new.npy", "9.0"))

    def test_batch_that_the_graph_fixes(self):
        self.fails_to_train(
            1, GRAPHS / "fixed_batch", *linear_feeds(), "--steps=3", "--batch=5", saying=("exactly 8", "5")
        )
        few = self.save("few.npy", self.x[:7]), self.save("few_y.npy", self.y[:7])
        self.check(*few, saying="8", graph="fixed_batch")


class BadFolders(Case):
    def test_folder_below_a_file(self):
        (self.dir / "file").write_text("")
        for folder in (self.dir / "file", self.dir / "file" / "run"):
            self.fails(1, "train", GRAPHS / "tiny.meta", "--dir", folder, "--steps=3", saying=f"{self.dir}/file")

    def test_folder_that_cannot_be_written(self):
        if os.geteuid() != 0:
            self.run_dir.mkdir(mode=0o555)
            self.fails(1, "train", GRAPHS / "tiny.meta", "--dir", self.run_dir, "--steps=3", saying=str(self.run_dir))
        else:
            self.on_disk(1, "ro", "tiny.meta", saying="cannot")

    def test_folder_where_the_state_file_belongs(self):
        (self.run_dir / "checkpoint").mkdir(parents=True)
        for more in ((), ("--fresh",)):
            self.fails(
                1, "train", GRAPHS / "tiny.meta", "--dir", self.run_dir, "--steps=3", *more,
                saying=f"{self.run_dir}/checkpoint is a folder",
            )  # fmt: skip
            self.assertEqual(list(self.names()), ["checkpoint"])

    def test_disk_that_is_full_is_worth_a_retry(self):
        feeds = ("--feed", f"x={self.digits('x')}", "--feed", f"y={self.digits('y')}")
        # Which file is the first to find no room depends on when events are written, too. 240k has room for the
        # graph's text and not for a checkpoint.
        for size in ("16k", "100k", "240k"):
            with self.subTest(size=size):
                said = self.on_disk(138, f"size={size}", "mlp.meta", *feeds, saying="No space left on device")
                self.assertIn(f"{self.run_dir}/", said)
                if "model.ckpt" in said:
                    for part in ("cannot save", f"{self.run_dir}/model.ckpt-0", "it takes about", "free there", "make room"):
                        self.assertIn(part, said)

    def digits(self, which):
        return TRAIN_DIGITS[1 if which == "x" else 3][2:]

    def on_disk(self, code, options, graph, *arguments, saying=""):
        """Trains in a file system of its own, which only this command sees."""
        self.run_dir.mkdir(exist_ok=True)
        script = f'mount -t tmpfs -o {options} none "$0" && exec "$@"'
        if subprocess.run(["unshare", "-m", "sh", "-c", script, self.run_dir, "true"], capture_output=True).returncode:
            self.skipTest("no right to mount a file system")
        command = [BELAY, "train", GRAPHS / graph, "--dir", self.run_dir, "--steps=3", *arguments]
        result = subprocess.run(
            ["unshare", "-m", "sh", "-c", script, self.run_dir, *command],
            env=environment(),
            text=True,
            capture_output=True,
            timeout=120,
        )
        errors = [line for line in result.stderr.splitlines() if line.startswith("belay: error: ")]
        self.assertEqual((result.returncode, len(errors)), (code, 1), result.stderr)
        for part in [saying] if isinstance(saying, str) else saying:
            self.assertIn(part, errors[0])
        return errors[0]

    def test_checkpoint_of_another_model(self):
        self.train(GRAPHS / "plain_saver.meta", *linear_feeds(), "--steps=3")
        before = self.names()
        for graph, feeds in (
            (GRAPHS / "module", linear_feeds()),
            (DIGITS_GRAPH, TRAIN_DIGITS),
            (GRAPHS / "partitioned.meta", ("--feed", f"ids={GRAPHS}/ids.npy")),
        ):
            with self.subTest(graph=graph):
                for steps in ("--steps=9", "--steps=2"):
                    self.fails(1, "train", graph, "--dir", self.run_dir, *feeds, steps, saying="model.ckpt-3")
                self.assertEqual(self.names(), before)
        self.fails(1, "eval", GRAPHS / "module", "--dir", self.run_dir, *linear_feeds(), saying="model.ckpt-3")
        self.fails(
            1, "export", GRAPHS / "module", "--dir", self.run_dir, "--to", self.dir / "out", saying="model.ckpt-3"
        )
        self.assertEqual(self.names(), before)
        self.assertEqual(sorted(p.name for p in self.dir.iterdir()), ["run"])

    def test_same_names_with_other_shapes_are_another_model(self):
        self.train(GRAPHS / "while.meta", "--steps=3")  # w is a scalar there, and has four elements here
        self.fails(
            1, "train", GRAPHS / "plain_saver.meta", "--dir", self.run_dir, *linear_feeds(), "--steps=9", saying="model.ckpt-3"
        )

    def test_resume_that_is_required_and_not_possible(self):
        arguments = (GRAPHS / "tiny.meta", "--steps=3", "--require-resume")
        self.fails_to_train(1, *arguments, saying="no checkpoint")
        self.run_dir.mkdir()
        self.fails(1, "train", *arguments, "--dir", self.run_dir, saying="no checkpoint")
        self.assertEqual(list(self.run_dir.iterdir()), [])

    def test_no_checkpoint_to_evaluate_or_export(self):
        self.run_dir.mkdir()
        for place in (self.run_dir, self.dir / "none", self.run_dir / "model.ckpt-7"):
            self.fails(1, "eval", GRAPHS / "module", "--dir", place, *linear_feeds(), saying=str(place))
            self.fails(1, "export", GRAPHS / "module", "--dir", place, "--to", self.dir / "out", saying=str(place))
        self.assertFalse((self.dir / "out").exists())


class BadTensorFlow(Case):
    def test_none_names_the_four_places(self):
        result = self.fails_to_train(
            1,
            GRAPHS / "tiny.meta",
            "--steps=3",
            env={"BELAY_TENSORFLOW": str(self.dir / "none")},
            saying=("BELAY_TENSORFLOW", "prefix", "Python environment", "library path"),
        )
        self.assertIn("loading graph", result.stderr)

    def test_one_that_lacks_a_symbol_is_named_with_it(self):
        source = self.dir / "fake.c"
        source.write_text('const char *TF_Version(void); const char *TF_Version(void) { return "1.0"; }\n')
        subprocess.run(["cc", "-shared", "-fPIC", "-o", self.dir / "libtensorflow_cc.so.2", source], check=True)
        self.fails_to_train(
            1,
            GRAPHS / "tiny.meta",
            "--steps=3",
            env={"BELAY_TENSORFLOW": str(self.dir)},
            saying=("libtensorflow_cc.so.2", "no symbol TF_"),
        )

    def test_a_file_that_is_no_library(self):
        (self.dir / "libtensorflow_cc.so.2").write_text("not a library")
        self.fails_to_train(
            1, GRAPHS / "tiny.meta", "--steps=3", env={"BELAY_TENSORFLOW": str(self.dir)}, saying="libtensorflow_cc.so.2"
        )

    def test_a_library_that_is_cut_is_named_before_it_is_loaded(self):
        """Loading one would end the process with SIGBUS."""
        whole = ROOT / ".deps" / "tensorflow"
        for name, other in (
            ("libtensorflow_cc.so.2", "libtensorflow_framework.so.2"),
            ("libtensorflow_framework.so.2", "libtensorflow_cc.so.2"),
        ):
            size = (whole / name).stat().st_size
            for kept in (10, 40_000, size // 2, size - 1):
                with self.subTest(name=name, kept=kept):
                    folder = self.dir / f"{name}-{kept}"
                    folder.mkdir()
                    (folder / other).symlink_to((whole / other).resolve())
                    with open(whole / name, "rb") as source:
                        (folder / name).write_bytes(source.read(min(kept, 1 << 20)))
                    os.truncate(folder / name, kept)  # what lies behind the headers does not matter
                    self.fails_to_train(
                        1, GRAPHS / "tiny.meta", "--steps=3", env={"BELAY_TENSORFLOW": str(folder)},
                        saying=(f"{folder}/{name}", "is damaged"),
                    )  # fmt: skip

    def test_doctor_says_so(self):
        result = self.belay("doctor", env={"BELAY_TENSORFLOW": str(self.dir)}, exit_code=1)
        self.assertRegex(result.stdout, r"bad +TensorFlow")


if __name__ == "__main__":
    unittest.main()
