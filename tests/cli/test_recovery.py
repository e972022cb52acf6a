"""belay train on a server that is killed under it and started again."""

import itertools
import re
import unittest

from servers import SAVE_STEPS, STEPS, ServerCase
from support import need_graphs

KILLS = 5


def setUpModule():
    need_graphs()


class KilledServer(ServerCase):
    def lose_and_restart(self, cluster, server, target):
        """Trains to the end while the parameter server is killed and started again, five times."""
        trainer = self.train_on(target)
        saved = 0
        for _ in range(KILLS):
            saved = self.wait_for_save(trainer, saved)
            self.lose(server)
            server = self.serve(cluster, "ps")
        said = self.end(trainer, 0)
        # WS-09: nothing but log lines to show for it.
        self.assertIn(f"finished at step {STEPS}: reached step {STEPS}", said)
        self.assertNotIn("belay: error", said)
        self.assertEqual(self.steps()[-1], STEPS)
        recovered = re.findall(r"recovered: a new session is ready at step (\d+) \(the old one was at (\d+)\)", said)
        self.assertGreaterEqual(len(recovered), KILLS, said)
        # BUG-69: each went back to a checkpoint, and on from there.
        for at, before in recovered:
            self.assertEqual(int(at) % SAVE_STEPS, 0, said)
            self.assertLessEqual(int(at), int(before), said)
        for one, next_one in itertools.pairwise(recovered):
            self.assertLessEqual(int(one[0]), int(next_one[0]), said)
        self.belay("ckpt", "verify", self.run_dir)

    def test_the_server_that_is_also_the_master_is_killed_five_times(self):
        """WS-06, SD-08, BUG-16"""
        self.lose_and_restart(*self.master_that_serves())

    def test_a_server_behind_the_master_is_killed_five_times(self):
        """WS-06, WS-12, BUG-16"""
        self.lose_and_restart(*self.server_behind_a_master())


if __name__ == "__main__":
    unittest.main()
