"""Trainings on a parameter server of their own, which can be killed. All of it stays on 127.0.0.1."""

import signal
import socket
import threading

from support import GRAPHS, Case

STEPS = 160
SAVE_STEPS = 20


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Lines:
    """The lines that a process says, read as they come, so that it is never held up."""

    def __init__(self, process):
        self.lines = []
        self.ready = threading.Condition()
        self.ended = False
        threading.Thread(target=self._read, args=(process.stderr,), daemon=True).start()

    def _read(self, stream):
        for line in stream:
            with self.ready:
                self.lines.append(line)
                self.ready.notify_all()
        with self.ready:
            self.ended = True
            self.ready.notify_all()

    def text(self):
        with self.ready:
            self.ready.wait_for(lambda: self.ended, 60)
            return "".join(self.lines)


class ServerCase(Case):
    """Variables and a step's work are on a parameter server."""

    def serve(self, cluster, job):
        process = self.start("server", "--cluster", cluster, "--job", job, "--task", "0")
        self.wait_for_line(process, "serving job ")
        Lines(process)
        return process

    def train_on(self, target, *arguments):
        process = self.start(
            "train",
            GRAPHS / "ps.meta",
            "--dir",
            self.run_dir,
            "--feed",
            f"x={GRAPHS / 'x4.npy'}",
            "--feed",
            f"y={GRAPHS / 'y.npy'}",
            "--batch=8",
            f"--steps={STEPS}",
            f"--save-steps={SAVE_STEPS}",
            "--master",
            target,
            *arguments,
        )
        return process, Lines(process)

    def newest(self):
        """Of the checkpoints that lie there: this looks often."""
        return max((int(p.stem.rpartition("-")[2]) for p in self.run_dir.glob("model.ckpt-*.index")), default=0)

    def lose(self, server):
        server.kill()
        self.assertEqual(server.wait(60), -signal.SIGKILL)

    def wait_for_save(self, trainer, above):
        """The newest step with a checkpoint, which is above `above`."""
        self.wait_until(
            f"a checkpoint after step {above}; the trainer has said {trainer[1].lines}",
            lambda: trainer[0].poll() is not None or self.newest() > above,
        )
        self.assertIsNone(trainer[0].poll(), trainer[1].lines)
        return self.newest()

    def end(self, trainer, code):
        self.assertEqual(trainer[0].wait(120), code, trainer[1].lines)
        return trainer[1].text()

    def master_that_serves(self):
        """A cluster of one parameter server, which is the master too: the cluster, the server, the target."""
        address = f"127.0.0.1:{free_port()}"
        return f"ps={address}", self.serve(f"ps={address}", "ps"), f"grpc://{address}"

    def server_behind_a_master(self):
        address = f"127.0.0.1:{free_port()}"
        cluster = f"ps=127.0.0.1:{free_port()};worker={address}"
        server = self.serve(cluster, "ps")
        self.serve(cluster, "worker")
        return cluster, server, f"grpc://{address}"
