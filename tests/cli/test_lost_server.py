"""belay train on a server that goes away for good."""

import re
import signal
import unittest

from servers import ServerCase
from support import need_graphs


def setUpModule():
    need_graphs()


class LostServer(ServerCase):
    def lose_for_good(self, server, target, what):
        """Exit code 138, and an error that names the target, the time and the reason."""
        trainer = self.train_on(target, "--recovery-secs=5")
        saved = self.wait_for_save(trainer, 0)
        self.lose(server)
        said = self.end(trainer, 138)
        errors = [line for line in said.splitlines() if line.startswith("belay: error: ")]
        self.assertEqual(len(errors), 1, said)
        self.assertRegex(errors[0], rf"{re.escape(target)} did not answer within [5-7]\.\d s: {what}")
        self.assertGreaterEqual(self.newest(), saved)
        self.belay("ckpt", "verify", self.run_dir)

    def test_a_master_that_is_gone_for_good_ends_it_with_the_budget(self):
        """BUG-16, TO-07"""
        _, server, target = self.master_that_serves()
        self.lose_for_good(server, target, "nobody listens at 127.0.0.1")

    def test_a_server_that_is_gone_for_good_ends_it_with_the_budget(self):
        """BUG-16, TO-07"""
        _, server, target = self.server_behind_a_master()
        self.lose_for_good(server, target, ".* listens; a task that it waits for does not answer")

    def test_a_stop_ends_a_recovery(self):
        """Steps since the last checkpoint are lost: that is not what 143 says."""
        _, server, target = self.master_that_serves()
        trainer = self.train_on(target)
        self.wait_for_save(trainer, 0)
        self.lose(server)
        self.wait_until("a recovery", lambda: any("made anew" in line for line in list(trainer[1].lines)))
        trainer[0].send_signal(signal.SIGTERM)
        said = self.end(trainer, 138)
        self.assertIn("has not answered for", said)


if __name__ == "__main__":
    unittest.main()
