"""belay ckpt: checkpoints without TensorFlow."""

import json
import unittest

import numpy as np
import tensorflow as tf

from support import Case, GRAPHS, ROOT, linear_feeds, need_graphs

tf1 = tf.compat.v1

NO_TENSORFLOW = {"BELAY_TENSORFLOW": "/no/such/folder"}


def setUpModule():
    need_graphs()


class Ckpt(Case):
    def setUp(self):
        super().setUp()
        self.train(GRAPHS / "plain_saver.meta", *linear_feeds(), "--steps=6", "--save-steps=3")

    def ckpt(self, *arguments, **how):
        return self.belay("ckpt", *arguments, env=NO_TENSORFLOW, **how)

    def flip(self, name, at=0.5):
        path = self.run_dir / name
        data = bytearray(path.read_bytes())
        data[int(len(data) * at)] ^= 4
        path.write_bytes(data)

    def test_ls_lists_oldest_first(self):
        lines = self.ckpt("ls", self.run_dir).stdout.splitlines()
        self.assertEqual([line.split()[0] for line in lines], ["step", "0", "3", "6"])
        self.assertIn("latest", lines[-1])
        listed = self.checkpoints()
        self.assertEqual([c["step"] for c in listed], [0, 3, 6])
        self.assertEqual([c["latest"] for c in listed], [False, False, True])
        self.assertTrue(all(c["complete"] for c in listed))

    def test_ls_of_a_prefix_lists_that_one(self):
        for given in ("model.ckpt-6", "model.ckpt-6.index"):
            told = json.loads(self.ckpt("ls", self.run_dir / given, "--json").stdout)
            self.assertEqual([c["step"] for c in told], [6])
        self.fails(1, "ckpt", "ls", self.run_dir / "model.ckpt-99", saying="model.ckpt-99")

    def test_ls_of_what_is_not_there(self):
        self.fails(1, "ckpt", "ls", self.dir / "none", saying="none")
        (self.dir / "empty").mkdir()
        result = self.ckpt("ls", self.dir / "empty")
        self.assertEqual(result.stdout, "")
        self.assertEqual(json.loads(self.ckpt("ls", self.dir / "empty", "--json").stdout), [])

    def test_show_lists_tensors_and_the_manifest(self):
        text = self.ckpt("show", self.run_dir).stdout
        self.assertIn(f"{self.run_dir}/model.ckpt-6", text)
        self.assertRegex(text, r"(?m)^w +float32 +\[4\] +16 B")
        shown = json.loads(self.ckpt("show", self.run_dir / "model.ckpt-3", "--json").stdout)
        self.assertEqual([t["name"] for t in shown["tensors"]], ["b", "global_step", "marker", "w"])
        self.assertEqual(shown["manifest"]["step"], 3)

    def test_cat_prints_values(self):
        self.assertEqual(self.ckpt("cat", self.run_dir, "global_step").stdout, "6\n")
        self.assertEqual(self.ckpt("cat", self.run_dir / "model.ckpt-3", "global_step").stdout, "3\n")
        self.assertEqual(self.ckpt("cat", self.run_dir / "model.ckpt-3.index", "global_step").stdout, "3\n")
        values = [np.float32(v) for v in self.ckpt("cat", self.run_dir, "w").stdout.split()]
        self.assertEqual(values, [np.float32(v) for v in self.tensor("w")])
        everything = self.ckpt("cat", self.run_dir).stdout
        self.assertIn("marker float32 [4]\n", everything)
        self.assertEqual(len(json.loads(self.ckpt("cat", self.run_dir, "--json").stdout)), 4)
        self.fails(1, "ckpt", "cat", self.run_dir, "markr", saying="did you mean 'marker'?", env=NO_TENSORFLOW)

    def test_verify_finds_one_flipped_bit(self):
        self.ckpt("verify", self.run_dir)
        for name in ("model.ckpt-6.data-00000-of-00001", "model.ckpt-6.index"):
            with self.subTest(name=name):
                self.flip(name)
                result = self.fails(3, "ckpt", "verify", self.run_dir / "model.ckpt-6", saying=name, env=NO_TENSORFLOW)
                self.assertIn("damaged", result.stdout)
                told = json.loads(self.ckpt("verify", self.run_dir / "model.ckpt-6", "--json", exit_code=3).stdout)
                self.assertFalse(told["verifies"])
                self.flip(name)
        self.ckpt("verify", self.run_dir)

    def test_verify_finds_what_is_cut_or_gone(self):
        path = self.run_dir / "model.ckpt-6.data-00000-of-00001"
        path.write_bytes(path.read_bytes()[:-1])
        self.fails(3, "ckpt", "verify", self.run_dir / "model.ckpt-6", saying=path.name)
        path.unlink()
        self.fails(3, "ckpt", "verify", self.run_dir / "model.ckpt-6", saying=path.name)
        self.fails(1, "ckpt", "verify", self.run_dir / "model.ckpt-9", saying="model.ckpt-9")

    def test_diff_tells_what_differs(self):
        self.ckpt("diff", self.run_dir, self.run_dir / "model.ckpt-6")
        result = self.ckpt("diff", self.run_dir / "model.ckpt-3", self.run_dir, exit_code=3)
        self.assertRegex(result.stdout, r"(?m)^global_step +1 of 1 values, at most 3 apart$")
        self.assertRegex(result.stdout, r"(?m)^w +4 of 4 values")
        self.assertNotIn("marker", result.stdout)
        other = self.dir / "other"
        self.belay("train", GRAPHS / "tiny.meta", "--dir", other, "--steps=6")
        told = json.loads(self.ckpt("diff", self.run_dir, other, "--json", exit_code=3).stdout)
        self.assertEqual({d["name"]: d["difference"] for d in told}["w"], "only in the first")

    def test_a_partitioned_variable_is_one_tensor(self):
        folder = self.dir / "partitioned"
        self.belay("train", GRAPHS / "partitioned.meta", "--dir", folder, "--steps=3", "--feed", f"ids={GRAPHS}/ids.npy")
        shown = json.loads(self.ckpt("show", folder, "--json").stdout)
        (table,) = [t for t in shown["tensors"] if t["name"] == "embedding"]
        self.assertEqual((table["shape"], table["parts"]), ([10, 4], 3))
        self.assertEqual(len(self.tensor("embedding", folder)), 40)

    def test_what_cannot_be_shown_hides_nothing_else(self):
        variant = "variant []: its value cannot be shown"
        plain = ROOT / "tests" / "data" / "bundle" / "plain"
        names = [t["name"] for t in json.loads(self.ckpt("show", plain, "--json").stdout)["tensors"]]
        after = names[names.index("list") + 1 :]
        self.assertTrue(after, "the tensor in question is not the last")
        text = self.ckpt("cat", plain).stdout
        self.assertIn(f"list {variant}\n", text)
        self.assertTrue(all(f"\n{name} " in text for name in after))
        values = {t["name"]: t for t in json.loads(self.ckpt("cat", plain, "--json").stdout)}
        self.assertEqual(list(values), names)
        self.assertEqual((values["list"]["values"], values["list"]["problem"]), (None, "its value cannot be shown"))
        self.fails(1, "ckpt", "cat", plain, "list", saying=("'list'", "variant", "its value cannot be shown"))

    def test_diff_goes_on_behind_what_cannot_be_shown(self):
        with tf.Graph().as_default(), tf1.Session() as session:
            prefixes = []
            for number, word in ((1, "one"), (2, "one"), (3, "two")):
                prefix = str(self.dir / f"list{number}")
                handle = tf.raw_ops.TensorListFromTensor(tensor=[word], element_shape=tf.constant([], tf.int32))
                session.run(tf.raw_ops.SaveV2(prefix=prefix, tensor_names=["list", "z"], shape_and_slices=["", ""],
                                              tensors=[handle, tf.constant(number)]))
                prefixes.append(prefix)
        first, same, other = prefixes
        self.ckpt("diff", first, first)
        said = self.ckpt("diff", first, same, exit_code=3).stdout
        self.assertNotIn("list ", said)
        self.assertRegex(said, r"(?m)^z +1 of 1 values")
        said = self.ckpt("diff", first, other, exit_code=3).stdout
        self.assertRegex(said, r"(?m)^list +other bytes; its value cannot be shown$")
        self.assertRegex(said, r"(?m)^z +1 of 1 values")

    def test_strings_go_on_after_a_nul(self):
        with tf.Graph().as_default(), tf1.Session() as session:
            prefix = str(self.dir / "strings")
            session.run(tf.raw_ops.SaveV2(prefix=prefix, tensor_names=["s"], shape_and_slices=[""],
                                          tensors=[tf.constant(["one\0two", ""])]))
        self.assertEqual(self.tensor("s", prefix), ["one\0two", ""])


if __name__ == "__main__":
    unittest.main()
