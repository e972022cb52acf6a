"""The command line itself: help, and mistakes, which are found before anything is touched."""

import re
import unittest

from support import ROOT, Case, linear_feeds, need_graphs

VERBS = ("train", "eval", "export", "ckpt", "graph", "doctor", "server", "launch", "events", "report")


class Help(Case):
    def test_alone_shows_usage_and_is_a_mistake(self):
        result = self.belay(exit_code=2)
        self.assertIn("usage: belay", result.stderr)
        self.assertEqual(result.stdout, "")

    def test_version_is_one_line(self):
        self.assertRegex(self.belay("--version").stdout, r"^belay \d+\.\d+\.\d+\n$")

    def test_help_lists_every_verb(self):
        for text in (self.belay("help").stdout, self.belay("--help").stdout):
            for verb in VERBS:
                self.assertIn(f"  {verb} ", text)

    def test_every_verb_has_help_in_both_forms(self):
        for verb in VERBS:
            with self.subTest(verb=verb):
                result = self.belay(verb, "--help")
                self.assertIn(f"usage: belay {verb} ", result.stdout)
                self.assertEqual(result.stderr, "")
                self.assertIn(f"usage: belay {verb} ", self.belay("help", verb).stdout)

    def test_help_of_train_names_every_option_of_the_contract(self):
        text = self.belay("help", "train").stdout
        for option in (
            "dir steps epochs batch feed signature train-op loss fetch seed shuffle no-shuffle save-secs save-steps "
            "summary-steps log-steps keep-last keep-every-hours keep-best require-resume master session-config threads "
            "grace eval-every eval-signature eval-feed fresh save-graph http hook log-format quiet"
        ).split():
            self.assertIn(f"--{option}", text)


class Manual(Case):
    def test_pages_name_every_option(self):
        for verb in ("train", "eval", "export", "ckpt", "graph", "doctor"):
            page = (ROOT / "docs" / "man" / f"belay-{verb}.1.scd").read_text()
            for option in re.findall(r"(?m)^  --([a-z-]+)", self.belay("help", verb).stdout):
                self.assertIn(f"--{option}*", page, verb)


class Mistakes(Case):
    """Each is exit code 2, one line, and leaves no trace. The graph does not even exist: it is not looked at."""

    def check(self, *arguments, saying):
        return self.fails_to_train(2, "no-such.meta", *arguments, saying=saying)

    def test_unknown_verbs_and_options_name_the_nearest(self):
        self.fails(2, "trian", saying="did you mean 'train'?")
        self.fails(2, "zzzzzz", saying="'belay help' lists them")
        self.check("--stpes", "5", saying=("'--stpes'", "did you mean '--steps'?"))
        self.check("--frobnicate", saying="'belay help train' lists them")
        self.fails(2, "ckpt", "veryfi", "run", saying="did you mean 'verify'?")
        self.fails(2, "--json", saying="the verb comes first")

    def test_values_are_checked(self):
        self.check("--steps", saying="--steps needs a value")
        self.check("--steps", "--quiet", saying="--steps needs a value")
        for value in ("0", "-3", "ten", "5x", "1e3", "", " 5", "99999999999999999999"):
            self.check(f"--steps={value}", saying="a whole number above 0")
        for value in ("-1", "soon", "nan", "inf"):
            self.check(f"--save-secs={value}", saying="a number, 0 or more")
        self.check("--seed", "x", saying="a whole number")
        self.check("--quiet=1", saying="takes no value")
        self.check("--steps=5", "--steps=6", saying="--steps is given twice")
        self.check("--threads", "many", saying="auto, pool or caller")
        self.check("--log-format", "xml", saying="text, json or tf")

    def test_feeds_are_pairs(self):
        for value in ("x", "x=", "=x.npy"):
            self.check("--feed", value, "--steps=5", saying="NAME=FILE.npy")
        self.check("--feed", "x=a.npy", "--feed", "x=b.npy", "--steps=5", saying="'x' is fed twice")

    def test_what_does_not_go_together(self):
        feed = ("--feed", "x=a.npy")
        self.check("--steps=5", "--epochs=2", *feed, saying="--steps and --epochs")
        self.check(*feed, saying="--steps N or --epochs N")
        self.check("--epochs=2", saying="--epochs")
        self.check("--batch=2", "--steps=5", saying="--batch")
        self.check("--shuffle", "--no-shuffle", saying="--shuffle and --no-shuffle")
        self.check("--save-secs=5", "--save-steps=5", saying="--save-secs and --save-steps")
        self.check("--fresh", "--require-resume", saying="--fresh")

    def test_keep_best_has_a_form(self):
        for value in ("loss", "0:loss", "x:loss", "3:", "3::min"):
            self.check("--steps=5", "--keep-best", value, saying="N:METRIC[:min|:max]")
        for value in ("1:loss:avg", "1:loss:0:avg", "1:loss:Min", "1:loss:"):
            said = (f"'{value}'", f"'{value.split(':')[-1]}' is neither min nor max")
            self.check("--steps=5", "--keep-best", value, saying=said)
        for value in ("1:loss:0", "1:loss:0:max", "1:loss:min"):  # whole: it is the graph that is not there
            self.fails_to_train(1, "no-such.meta", "--steps=5", "--keep-best", value, saying="no-such.meta")

    def test_arguments_are_counted(self):
        self.fails(2, "train", saying="usage: belay train GRAPH")
        self.fails(2, "train", "a", "b", "--dir", "run", saying="does not know what to do with 'b'")
        self.fails(2, "train", "a.meta", saying="needs --dir")
        self.fails(2, "eval", "a.meta", saying="needs --dir")
        self.fails(2, "export", "a.meta", "--dir", "run", saying="needs --to")
        self.fails(2, "graph", "show", saying="usage: belay graph show GRAPH")
        self.fails(2, "ckpt", "diff", "a", saying="usage: belay ckpt diff")
        self.fails(2, "help", "train", "extra", saying=("'extra'", "usage: belay help VERB"))
        self.fails(2, "--version", "extra", saying="'extra'")

    def test_what_is_not_built_says_so(self):
        for verb in ("launch", "report"):
            self.fails(2, verb, "x", saying=f"'belay {verb}' is not built yet")
        for action in ("prune", "pin", "unpin"):
            self.fails(2, "ckpt", action, "run", saying=f"'belay ckpt {action}' is not built yet")
        for option in ("--eval-every=5", "--http=127.0.0.1:0", "--hook=a.so"):
            self.check("--steps=5", option, saying=f"{option.split('=')[0]} is not built yet")


class Forms(Case):
    def test_both_forms_of_a_value_mean_the_same(self):
        graphs = need_graphs()
        self.train(graphs / "tiny.meta", "--steps=3")
        self.train(graphs / "tiny.meta", "--steps", "5")
        self.assertEqual(self.steps()[-1], 5)

    def test_two_dashes_end_the_options(self):
        graphs = need_graphs()
        self.belay("train", "--dir", self.run_dir, "--steps=3", "--", graphs / "tiny.meta")
        self.assertEqual(self.steps()[-1], 3)

    def test_results_and_talk_are_apart(self):
        graphs = need_graphs()
        result = self.train(graphs / "plain_saver.meta", *linear_feeds(), "--steps=3")
        self.assertEqual(result.stdout, "")
        self.assertNotIn("\033", result.stderr)
        quiet = self.train(graphs / "plain_saver.meta", *linear_feeds(), "--steps=6", "--quiet")
        self.assertEqual((quiet.stdout, quiet.stderr), ("", ""))


if __name__ == "__main__":
    unittest.main()
