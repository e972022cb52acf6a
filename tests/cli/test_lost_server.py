"""belay train on a server that goes away for good."""

import os
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
        self.lose_for_good(server, target, ".* answers; it is busy, or a task that it waits for does not answer")

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

    def hang(self, server):
        server.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, server.pid, os.WSTOPPED | os.WNOWAIT)

    def stop_while_it_hangs(self, server, target, why):
        """WS-14, TO-10: the step that hangs is left after the grace period; what is saved stays whole."""
        trainer = self.train_on(target, "--grace=2")
        saved = self.wait_for_save(trainer, 0)
        self.hang(server)
        self.wait_until("a report", lambda: any("Waiting for " in line for line in list(trainer[1].lines)))
        trainer[0].send_signal(signal.SIGTERM)
        said = self.end(trainer, 138)
        self.assertRegex(said, rf"on {re.escape(target)} did not end within \d+\.\d s after a stop was requested: {why}")
        self.assertGreaterEqual(self.newest(), saved)
        self.belay("ckpt", "verify", self.run_dir)

    def test_a_stop_ends_a_run_on_a_master_that_hangs(self):
        _, server, target = self.master_that_serves()
        self.stop_while_it_hangs(server, target, ".* listens, but does not answer")

    def test_a_stop_ends_a_run_on_a_server_that_hangs(self):
        _, server, target = self.server_behind_a_master()
        self.stop_while_it_hangs(server, target, ".* answers; it is busy, or a task")

    def test_a_master_that_hung_for_a_while_is_waited_for(self):
        """BUG-16: and what is waited for is said."""
        _, server, target = self.master_that_serves()
        trainer = self.train_on(target)
        self.wait_for_save(trainer, 0)
        self.hang(server)
        self.wait_until("a report", lambda: any("Waiting for " in line for line in list(trainer[1].lines)))
        server.send_signal(signal.SIGCONT)
        said = self.end(trainer, 0)
        self.assertIn(f"{target} does not answer", said)
        self.assertNotIn("made anew", said)

    def test_a_stop_ends_the_wait_for_a_master_that_hangs(self):
        """SM-39: nothing was trained, and nothing is lost."""
        _, server, target = self.master_that_serves()
        self.hang(server)
        trainer = self.train_on(target)
        self.wait_until("a report", lambda: any("Waiting for " in line for line in list(trainer[1].lines)))
        trainer[0].send_signal(signal.SIGTERM)
        self.end(trainer, 143)


if __name__ == "__main__":
    unittest.main()
