"""belay server: one task of a cluster. All of it stays on 127.0.0.1."""

import json
import signal
import socket
import time
import unittest

from support import GRAPHS, Case, need_graphs, stop


def setUpModule():
    need_graphs()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def tf_config(**members):
    return {"TF_CONFIG": json.dumps(members)}


TWO = "ps=127.0.0.1:1;worker=127.0.0.1:2,127.0.0.1:3"


class Serving(Case):
    def serve(self, *arguments, env=None):
        """Starts a server and returns it with what it serves and where."""
        process = self.start("server", *arguments, env=env)
        line = self.wait_for_line(process, "serving job ")
        what, target = line.strip().removeprefix("serving ").split(" at ")
        return process, what, target

    def test_says_what_it_serves_and_ends_with_143_or_130(self):
        for number, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
            with self.subTest(number=number):
                process, what, target = self.serve("--cluster", "worker=127.0.0.1:0")
                self.assertEqual(what, "job worker task 0")
                self.assertRegex(target, r"^grpc://127\.0\.0\.1:[1-9][0-9]+$")
                self.assertEqual(stop(process, number), code)

    def test_trains_for_a_client(self):
        port = free_port()
        process, what, target = self.serve("--cluster", f"ps=127.0.0.1:{port}", "--job", "ps", "--task", "0")
        self.assertEqual((what, target), ("job ps task 0", f"grpc://127.0.0.1:{port}"))
        self.train(GRAPHS / "tiny.meta", "--steps=5", "--master", target)
        self.assertEqual(self.steps()[-1], 5)
        self.assertEqual(stop(process), 143)

    def test_a_master_that_is_not_there(self):
        """It says what it waits for, ends when it is told to, and goes on where the master comes up."""
        port = free_port()
        arguments = ("train", GRAPHS / "tiny.meta", "--dir", self.run_dir, "--steps=5", "--master", f"grpc://127.0.0.1:{port}")
        for number, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
            process = self.start(*arguments)
            line = self.wait_for_line(process, "Waiting for grpc://")
            self.assertIn(f"nobody listens at 127.0.0.1:{port} (Connection refused)", line)
            self.assertEqual(stop(process, number), code)
            self.assertEqual(self.steps(), [])
        process = self.start(*arguments)
        self.wait_for_line(process, "Waiting for grpc://")
        server, _, _ = self.serve("--cluster", f"worker=127.0.0.1:{port}")
        process.communicate(timeout=60)
        self.assertEqual(process.returncode, 0)
        self.assertEqual(self.steps()[-1], 5)
        stop(server)

    def test_takes_the_task_from_tf_config(self):
        ports = [free_port(), free_port()]
        cluster = {"ps": ["127.0.0.1:1"], "worker": [f"127.0.0.1:{p}" for p in ports]}
        env = tf_config(cluster=cluster, task={"type": "worker", "index": 1}, job={"args": []})
        process, what, target = self.serve(env=env)
        self.assertEqual((what, target), ("job worker task 1", f"grpc://127.0.0.1:{ports[1]}"))
        stop(process)
        process, what, target = self.serve("--task=0", env=env)
        self.assertEqual((what, target), ("job worker task 0", f"grpc://127.0.0.1:{ports[0]}"))
        stop(process)
        process, what, target = self.serve("--cluster=chief=127.0.0.1:0", env=env)
        self.assertEqual(what, "job chief task 0")
        stop(process)

    def test_a_port_in_use_is_worth_a_retry(self):
        port = free_port()
        first, _, target = self.serve("--cluster", f"worker=127.0.0.1:{port}")
        result = self.fails(
            138, "server", "--cluster", f"worker=127.0.0.1:{port}", saying=f"job worker task 0: port {port} is in use"
        )
        self.assertEqual(len(result.stderr.splitlines()), 1, result.stderr)
        self.assertIsNone(first.poll())
        stop(first)

    def test_without_tensorflow(self):
        self.fails(
            1,
            "server",
            "--cluster=worker=127.0.0.1:0",
            env={"BELAY_TENSORFLOW": "/nowhere"},
            saying="TensorFlow not found",
        )


class Doctor(Case):
    """doctor --cluster: which tasks listen, with a reason for each that does not, and in time."""

    def test_tells_of_each_task(self):
        port, nobody = free_port(), free_port()
        with socket.socket() as deaf, socket.socket() as listens:
            listens.bind(("127.0.0.1", port))
            listens.listen()
            # A queue that is full does not answer: that must not hold it up.
            deaf.bind(("127.0.0.1", 0))
            deaf.listen(0)
            silent = deaf.getsockname()[1]
            fillers = [socket.socket() for _ in range(4)]
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(("127.0.0.1", silent))
            spec = f"ps=127.0.0.1:{port};worker=127.0.0.1:{nobody},127.0.0.1:{silent}"
            started = time.monotonic()
            result = self.belay("doctor", "--cluster", spec, "--json", exit_code=1)
            self.assertLess(time.monotonic() - started, 30)
            for filler in fillers:
                filler.close()
        tasks = [(o["state"], o["what"], o["text"]) for o in json.loads(result.stdout) if o["what"].startswith("job ")]
        self.assertEqual(
            tasks[:2],
            [
                ("ok", "job ps task 0", f"listens at 127.0.0.1:{port}"),
                ("bad", "job worker task 0", f"does not listen at 127.0.0.1:{nobody}: Connection refused"),
            ],
        )
        self.assertEqual(tasks[2][:2], ("bad", "job worker task 1"))
        self.assertRegex(tasks[2][2], f"does not listen at 127.0.0.1:{silent}: (Connection timed out|no answer in time)")

    def test_all_is_well(self):
        with socket.socket() as listens:
            listens.bind(("127.0.0.1", 0))
            listens.listen()
            port = listens.getsockname()[1]
            result = self.belay("doctor", "--cluster", json.dumps({"worker": {"3": f"127.0.0.1:{port}"}}), exit_code=0)
        self.assertRegex(result.stdout, rf"ok +job worker task 3 +listens at 127\.0\.0\.1:{port}")

    def test_a_name_that_is_not_there(self):
        result = self.belay("doctor", "--cluster=ps=nowhere.invalid:1", exit_code=1)
        self.assertRegex(result.stdout, r"bad +job ps task 0 +does not listen at nowhere.invalid:1: ")

    def test_malformed(self):
        self.fails(2, "doctor", "--cluster=ps", saying=("--cluster: ", "has no '='"))


class BadMembership(Case):
    def refused(self, saying, *arguments, env=None):
        with self.subTest(arguments=arguments, env=env):
            result = self.fails(2, "server", *arguments, saying=saying, env=env)
            self.assertEqual(len(result.stderr.splitlines()), 1, result.stderr)

    def test_no_cluster(self):
        self.refused("needs --cluster SPEC, or TF_CONFIG")
        self.refused("needs --cluster SPEC, or TF_CONFIG", "--job=ps", "--task=0")

    def test_wrong_job_or_task_says_what_there_is(self):
        has = "ps with task 0, worker with tasks 0, 1"
        self.refused(("No such job in cluster: 'wroker'", has), "--cluster", TWO, "--job=wroker", "--task=0")
        self.refused(("job_name", has), "--cluster", TWO)
        self.refused(("task_index", has), "--cluster", TWO, "--job=worker")
        self.refused(("No task with index 2 in job 'worker'", "tasks 0, 1"), "--cluster", TWO, "--job=worker", "--task=2")
        self.refused("--task is too large", "--cluster", TWO, "--job=worker", "--task=2147483648")
        self.refused("--task takes a whole number", "--cluster", TWO, "--job=worker", "--task=-1")
        self.refused("does not know what to do with 'ps'", "--cluster", TWO, "ps")

    def test_malformed_cluster(self):
        for text, saying in (
            ("x", "'x' has no '='"),
            ("ps=a", "the address of job ps task 0, 'a', is not of the form HOST:PORT"),
            ("ps=a:1;ps=b:1", "job ps stands there twice"),
            ("p-s=a:1", "'p-s' is no name for a job"),
            ('{"ps": 3}', "the tasks of job ps are a number"),
            ("{", "line 1, column 1"),
        ):
            self.refused(("--cluster: ", saying), "--cluster", text)

    def test_malformed_tf_config(self):
        cluster = {"ps": ["127.0.0.1:1"], "worker": ["127.0.0.1:2"]}
        for text, saying in (
            ("", "it is set, and empty"),
            ("{", "it is not JSON: line 1, column 1"),
            ("[]", "it is not a JSON object"),
            ("{}", 'it has no "cluster"'),
            ('{"task": {"type": "ps", "index": 0}}', 'it has no "cluster"'),
            ('{"cluster": []}', '"cluster" is a list'),
            ('{"cluster": {"ps": ["a"]}}', "the address of job ps task 0"),
            (json.dumps({"cluster": cluster, "task": "ps"}), '"task" is not an object'),
            (json.dumps({"cluster": cluster, "task": {"type": "ps", "index": -1}}), "the index of the task"),
            (json.dumps({"cluster": cluster, "task": {"type": "x", "index": 0}}), "it has ps with task 0, worker"),
        ):
            self.refused(("TF_CONFIG: ", saying), env={"TF_CONFIG": text})
        # An evaluator stands outside the cluster.
        self.refused("an evaluator is no task", env=tf_config(cluster=cluster, task={"type": "evaluator", "index": 0}))
        self.refused("job_name", env=tf_config(cluster=cluster))

    def test_is_found_before_tensorflow_is_looked_for(self):
        nowhere = {"BELAY_TENSORFLOW": "/nowhere"}
        self.refused("No such job", "--cluster", TWO, "--job=x", env=nowhere)
        self.refused("job_name", "--cluster", TWO, env=nowhere)


if __name__ == "__main__":
    unittest.main()
