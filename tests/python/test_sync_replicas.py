#!/usr/bin/env python3
"""SyncReplicasOptimizer on a cluster: a parameter server and two workers, each with a server of its own. The workers
are belay's, or Python's with MonitoredTrainingSession, or one of each; all of them do the same.

usage: test_sync_replicas.py belay sync_worker
"""
import concurrent.futures
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["CUDA_VISIBLE_DEVICES"] = ""
ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "python"))

import tensorflow as tf

from belay_export import export_graph

tf1 = tf.compat.v1
TIMEOUT = 120  # whoever takes this long hangs
BELAY, WORKER = None, None
KEPT = []  # Python's servers and sessions: deleting one whose parameter server is gone may take for ever
RATE = 0.125  # and small numbers with few bits: what is computed is exact, in any order


def build(cluster, task):
    """The graph of a worker: its train op and its optimizer."""
    with tf1.device(tf1.train.replica_device_setter(cluster=cluster, worker_device=f"/job:worker/task:{task}")):
        x, y = (tf1.placeholder(tf.float32, [], name) for name in "xy")
        w, b = (tf1.get_variable(name, [], initializer=tf1.zeros_initializer()) for name in "wb")
        optimizer = tf1.train.SyncReplicasOptimizer(tf1.train.GradientDescentOptimizer(RATE), replicas_to_aggregate=2)
        step = tf1.train.get_or_create_global_step()
        train = optimizer.minimize(tf.square(w * x + b - y), global_step=step)
        with tf.control_dependencies([train]):
            train = tf.no_op(name="train")
    return train, optimizer


class BelayWorker:
    """A process that is told what to do, line by line (sync_worker.c)."""

    def __init__(self, folder, cluster, task, last_step, num_tokens):
        path = folder / f"worker{task}.meta"
        with tf.Graph().as_default():
            train, optimizer = build(cluster, task)
            export_graph(path, train_op=train, sync_replicas=optimizer)
        spec = ";".join(f"{job}={','.join(tasks)}" for job, tasks in cluster.as_dict().items())
        tokens = {-1: 0, 0: -1}.get(num_tokens, num_tokens)  # zero is the default, BELAY_OFF none
        self.log = open(folder / f"worker{task}.log", "a+")  # where the process writes is not moved by reading
        self.process = subprocess.Popen(
            [WORKER, path, spec, str(task), str(last_step), str(tokens)],
            text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log,
        )
        self.reader = concurrent.futures.ThreadPoolExecutor(1)
        self.expect("serving")
        self.opening = self.reader.submit(self.process.stdout.readline)

    def expect(self, line):
        said = self.reader.submit(self.process.stdout.readline).result(TIMEOUT)
        assert said == line + "\n", f"{said!r}: {self.said()}"

    def said(self):
        self.log.seek(0)
        return self.log.read()

    def open(self):
        self.opening.result(TIMEOUT)
        assert self.opening.result() == "ready\n", self.said()

    def ask(self, *words):
        print(*words, file=self.process.stdin, flush=True)
        return self.reader.submit(lambda: self.process.stdout.readline().split())

    def run(self, x, y):
        return self.ask("run", x, y)

    def train(self, x, y):
        return self.ask("train", x, y)

    def close(self):
        return self.ask("close")

    def end(self):
        self.process.stdin.close()
        try:
            self.process.wait(TIMEOUT)
        finally:
            self.process.kill()
            self.process.wait()
            self.reader.shutdown()
            self.process.stdout.close()
            self.log.close()


class PythonWorker:
    """The same in a thread of this process."""

    def __init__(self, folder, cluster, task, last_step, num_tokens):
        self.server = tf.distribute.Server(cluster, job_name="worker", task_index=task)
        self.thread = concurrent.futures.ThreadPoolExecutor(1)
        self.is_chief, self.last_step, self.num_tokens, self.cluster = task == 0, last_step, num_tokens, cluster
        self.task = task
        self.opening = None
        KEPT.append(self)

    def open(self):
        self.opening = self.opening or self.thread.submit(self._open)
        self.opening.result(TIMEOUT)

    def _open(self):
        self.graph = tf.Graph()
        with self.graph.as_default():
            self.op, optimizer = build(self.cluster, self.task)
            hooks = [
                optimizer.make_session_run_hook(self.is_chief, num_tokens=self.num_tokens),
                tf1.train.StopAtStepHook(last_step=self.last_step),
            ]
            self.session = tf1.train.MonitoredTrainingSession(
                self.server.target, self.is_chief, hooks=hooks, stop_grace_period_secs=1
            )

    def _attempt(self, function):
        try:
            function()
        except tf.errors.OpError as error:
            return _name(error)
        return "OK"

    def _step(self, x, y):
        return self._attempt(lambda: self.session.run(self.op, {"x:0": x, "y:0": y}))

    def run(self, x, y):
        return self.thread.submit(lambda: [self._step(x, y), str(int(self.session.should_stop()))])

    def train(self, x, y):
        def steps():
            code = "OK"
            while code == "OK" and not self.session.should_stop():
                code = self._step(x, y)
            return [code, str(int(self.session.should_stop()))]

        return self.thread.submit(steps)

    def close(self):
        return self.thread.submit(lambda: [self._attempt(self.session.close)])

    def end(self):
        self.thread.shutdown()


def _name(error):
    return {tf.errors.OUT_OF_RANGE: "OUT_OF_RANGE", tf.errors.CANCELLED: "CANCELLED"}.get(error.error_code, repr(error))


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    try:
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]
    finally:
        for s in sockets:
            s.close()


class Cluster:
    """A parameter server of belay's, workers of the kinds that are given, and a look at the variables."""

    def __init__(self, test, kinds, last_step, num_tokens=-1, open=True):
        folder = pathlib.Path(tempfile.mkdtemp(dir=test.folder))
        addresses = [f"127.0.0.1:{port}" for port in free_ports(3)]
        spec = tf.train.ClusterSpec({"ps": addresses[:1], "worker": addresses[1:]})
        self.ps = subprocess.Popen(
            [BELAY, "server", "--job=ps", "--cluster", f"ps={addresses[0]};worker={','.join(addresses[1:])}"],
            stderr=subprocess.PIPE, text=True,
        )
        test.addCleanup(self._end_server)
        while "serving job" not in (line := self.ps.stderr.readline()):
            test.assertTrue(line)
        self.drain = threading.Thread(target=self.ps.stderr.read, daemon=True)
        self.drain.start()
        self.workers = []
        for task, kind in reversed(list(enumerate(kinds))):  # a worker that comes before its chief waits for it
            self.workers.insert(0, kind(folder, spec, task, last_step, num_tokens))
            test.addCleanup(self.workers[0].end)
        self.look = self._reader(test, f"grpc://{addresses[0]}")
        if open:
            for worker in self.workers:
                worker.open()

    def _end_server(self):
        self.ps.kill()
        self.ps.wait()
        self.drain.join(TIMEOUT)
        self.ps.stderr.close()

    def _reader(self, test, target):
        with tf.Graph().as_default() as graph, tf1.device("/job:ps/task:0"):
            values = [tf1.train.get_or_create_global_step()]
            values += [tf1.get_variable(name, []) for name in "wb"]
        session = tf1.Session(target, graph=graph, config=tf1.ConfigProto(device_filters=["/job:ps"]))
        test.addCleanup(session.close)
        KEPT.append(session)
        return lambda: [value.item() for value in session.run(values)]

    def wait_for_step(self, step):
        deadline = time.monotonic() + TIMEOUT
        while (seen := self.look())[0] < step:
            assert time.monotonic() < deadline, f"the step is {seen[0]}, not {step}"
            time.sleep(0.01)
        return seen

    def round(self, number):
        """One step of each worker, both at once: what they answered."""
        runs = [worker.run(*batch(task, number)) for task, worker in enumerate(self.workers)]
        return [run.result(TIMEOUT) for run in runs]

    def close(self):
        return [worker.close().result(TIMEOUT) for worker in self.workers]


def batch(task, number):
    return [1 + task, 2 + task - number % 2]


def descend(w, b, number):
    """A step with the mean of both workers' gradients."""
    grads = []
    for task in range(2):
        x, y = batch(task, number)
        error = 2 * (w * x + b - y)
        grads.append((error * x, error))
    return w - RATE * (grads[0][0] + grads[1][0]) / 2, b - RATE * (grads[0][1] + grads[1][1]) / 2


ALIKE = [(BelayWorker, BelayWorker), (PythonWorker, PythonWorker)]
MIXED = [(BelayWorker, PythonWorker), (PythonWorker, BelayWorker)]


class SyncReplicas(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="belay-sync-")
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def with_pairs(self, pairs, function, *arguments):
        for pair in pairs:
            with self.subTest(chief=pair[0].__name__, worker=pair[1].__name__):
                function(list(pair), *arguments)

    def train_in_rounds(self, kinds, num_tokens, steps):
        """Rounds, after each of which the global step is as `steps` says; the last ends both."""
        cluster = Cluster(self, kinds, last_step=steps[-1], num_tokens=num_tokens)
        w = b = 0
        for number, step in enumerate(steps):
            said = cluster.round(number)
            seen = cluster.wait_for_step(step)
            if step > ([0] + steps)[number]:
                w, b = descend(w, b, number)
            self.assertEqual(seen, [step, w, b])
            # Both see the last step in the round that makes it, and not before.
            is_last = str(int(number + 1 == len(steps)))
            self.assertEqual(said, [["OK", is_last]] * 2)
        self.assertEqual(cluster.close(), [["OK"]] * 2)
        self.assertEqual(cluster.look(), [steps[-1], w, b])

    # HK-SYNC-02, HK-SYNC-03: one step for the gradients of both, whose mean is applied.
    def test_a_step_takes_the_gradients_of_both(self):
        self.with_pairs(ALIKE + MIXED, self.train_in_rounds, 0, [1, 2, 3, 4, 5])

    # HK-SYNC-04: with a token for each before the first step both are a step ahead in the second round, where what
    # they compute belongs to a step that is over: it is dropped.
    def test_stale_gradients_are_dropped(self):
        self.with_pairs(ALIKE, self.train_in_rounds, -1, [1, 1, 2, 3])

    def train_freely(self, kinds):
        last = 40
        cluster = Cluster(self, kinds, last_step=last)
        runs = [worker.train(*batch(task, 0)) for task, worker in enumerate(cluster.workers)]
        for code, should_stop in [run.result(TIMEOUT) for run in runs]:
            self.assertIn(code, ("OK", "OUT_OF_RANGE"))  # or it waited for a token of the other one's, which is gone
            if code == "OK":
                self.assertEqual(should_stop, "1")
        self.assertEqual(cluster.close(), [["OK"]] * 2)
        if kinds == [BelayWorker] * 2:  # Python's hook may read the step before its run has waited for it
            self.assertEqual(cluster.look()[0], last)

    # HK-SYNC-03, GS-07: whoever has a token of the last step knows that it is the last, and nobody waits for more.
    def test_both_end_at_the_last_step_at_full_speed(self):
        self.with_pairs(ALIKE[:1] + MIXED[1:], self.train_freely)

    def close_the_chief(self, kinds):
        cluster = Cluster(self, kinds, last_step=100, num_tokens=0)
        cluster.round(0)
        seen = cluster.wait_for_step(1)
        waiting = cluster.workers[1].run(*batch(1, 1))
        self.assertEqual(cluster.workers[0].close().result(TIMEOUT), ["OK"])
        self.assertEqual(waiting.result(TIMEOUT)[0], "OUT_OF_RANGE")
        self.assertEqual(cluster.workers[1].close().result(TIMEOUT), ["OK"])
        self.assertEqual(cluster.look(), seen)

    # HK-SYNC-03, QR-17: the chief's runner closes the queue of tokens, which is the end of input to the others.
    def test_a_worker_does_not_wait_for_tokens_of_a_chief_that_stopped(self):
        self.with_pairs(ALIKE + MIXED[:1], self.close_the_chief)

    # HK-SYNC-02, SM-31: nothing of the model is the worker's to initialise.
    def test_a_worker_waits_until_the_chief_has_initialised(self):
        cluster = Cluster(self, [PythonWorker, BelayWorker], last_step=2, num_tokens=0, open=False)
        chief, worker = cluster.workers
        deadline = time.monotonic() + TIMEOUT
        while "Waiting for model to be ready" not in worker.said():
            self.assertLess(time.monotonic(), deadline, worker.said())
            time.sleep(0.01)
        self.assertFalse(worker.opening.done())
        chief.open()
        worker.open()
        self.assertEqual(cluster.round(0), [["OK", "0"]] * 2)
        self.assertEqual(cluster.round(1), [["OK", "1"]] * 2)
        self.assertEqual(cluster.close(), [["OK"]] * 2)


if __name__ == "__main__":
    BELAY, WORKER = sys.argv[1:3]
    del sys.argv[1:3]
    failed = not unittest.main(exit=False, warnings="ignore").result.wasSuccessful()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(failed)  # as KEPT says
