#!/usr/bin/env python3
"""Compares belay's clusters, TF_CONFIG and ServerDefs with TensorFlow's own, on random input.

usage: test_cluster.py libbelay.so        the library is called in this process, beside TensorFlow
"""
import ctypes as c
import json
import os
import random
import sys
import unittest
from unittest import mock

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf
from tensorflow.core.protobuf import cluster_pb2, config_pb2, tensorflow_server_pb2
from tensorflow.python.distribute import distribute_coordinator
from tensorflow.python.distribute.cluster_resolver import tfconfig_cluster_resolver
from tensorflow.python.training import server_lib

INVALID_ARGUMENT = 3
NO_TASK = -1


class ServerOptions(c.Structure):
    _fields_ = [
        ("struct_size", c.c_size_t),
        ("cluster", c.c_void_p),
        ("server_def", c.c_char_p),
        ("server_def_size", c.c_size_t),
        ("job_name", c.c_char_p),
        ("task_index", c.POINTER(c.c_int32)),
        ("protocol", c.c_char_p),
        ("config", c.c_char_p),
        ("config_size", c.c_size_t),
    ]


belay = c.CDLL(sys.argv.pop(1) if len(sys.argv) > 1 else "libbelay.so")
for returns, names in {
    c.c_void_p: "error_new cluster_spec_new cluster_spec_from_def cluster_spec_parse cluster_spec_def server_prepare "
    "server_def tf_config_load tf_config_cluster",
    c.c_char_p: "error_message cluster_spec_text cluster_spec_task_address cluster_spec_job_name tf_config_task_type "
    "tf_config_rpc_layer tf_config_environment tf_config_session_master tf_config_master server_target",
    c.c_size_t: "cluster_spec_job_count",
}.items():
    for name in names.split():
        getattr(belay, "belay_" + name).restype = returns
ERR = c.c_void_p(belay.belay_error_new())


class Invalid(ValueError):
    pass


def check(code):
    if code == INVALID_ARGUMENT:
        raise Invalid(belay.belay_error_message(ERR).decode())
    assert code == 0, belay.belay_error_message(ERR).decode()


def made(result):
    """What a maker returned, or the error that it left."""
    if result is None:
        check(belay.belay_error_code(ERR))
    return result


class Spec:
    """A specification of belay's with the methods of TensorFlow's."""

    def __init__(self, handle, owned=True):
        self._as_parameter_ = self.handle = c.c_void_p(made(handle))
        self.owned = owned

    def __del__(self):
        if getattr(self, "owned", False):
            belay.belay_cluster_spec_free(self.handle)

    @classmethod
    def of(cls, cluster):
        spec = cls(belay.belay_cluster_spec_new())
        for job, tasks in cluster.items():
            if isinstance(tasks, list):
                addresses = (c.c_char_p * (len(tasks) + 1))(*[t.encode() for t in tasks], None)
                check(belay.belay_cluster_spec_add_job(spec.handle, job.encode(), addresses, ERR))
                continue
            check(belay.belay_cluster_spec_add_job(spec.handle, job.encode(), None, ERR))
            for index, address in tasks.items():
                check(
                    belay.belay_cluster_spec_add_task(spec.handle, job.encode(), index, address.encode(), ERR)
                )
        return spec

    def text(self):
        return made(belay.belay_cluster_spec_text(self.handle, ERR)).decode()

    def definition(self):
        size = c.c_size_t()
        return c.string_at(made(belay.belay_cluster_spec_def(self.handle, c.byref(size), ERR)), size.value)

    def jobs(self):
        count = belay.belay_cluster_spec_job_count(self.handle)
        return [belay.belay_cluster_spec_job_name(self.handle, c.c_size_t(i)).decode() for i in range(count)]

    def num_tasks(self, job):
        count = c.c_size_t()
        check(belay.belay_cluster_spec_num_tasks(self.handle, job.encode(), c.byref(count), ERR))
        return count.value

    def task_indices(self, job):
        out, count = (c.c_int32 * 100)(), c.c_size_t()
        check(
            belay.belay_cluster_spec_task_indices(
                self.handle, job.encode(), out, c.c_size_t(100), c.byref(count), ERR
            )
        )
        return list(out[: count.value])

    def job_tasks(self, job):
        out, count = (c.c_char_p * 100)(), c.c_size_t()
        check(
            belay.belay_cluster_spec_job_tasks(
                self.handle, job.encode(), out, c.c_size_t(100), c.byref(count), ERR
            )
        )
        return [a and a.decode() for a in out[: count.value]]

    def task_address(self, job, index):
        return made(belay.belay_cluster_spec_task_address(self.handle, job.encode(), index, ERR)).decode()


def random_cluster(chance, jobs=("ps", "worker", "chief", "a", "Z", "w_1"), dense=False, least=0):
    """Jobs with lists and sparse maps; every address once."""
    count, cluster = 0, {}
    for job in chance.sample(jobs, chance.randint(least, len(jobs))):
        size = 1 if job in ("chief", "evaluator") else chance.choice((0, 1, 1, 2, 3, 12))
        addresses = [f"host{count + i}.example:{chance.choice((1, 2222, 65535))}" for i in range(size)]
        count += size
        if dense or chance.random() < 0.6:
            cluster[job] = addresses
        else:
            cluster[job] = dict(zip(chance.sample(range(30), size), addresses))
    return cluster


def outcome(function, *arguments):
    """What a call gives; any ValueError is the same."""
    try:
        return function(*arguments)
    except (ValueError, TypeError):
        return ValueError


class Clusters(unittest.TestCase):
    # CL-01, CL-02, CL-03, CL-06
    def test_specs_are_the_same(self):
        for seed in range(400):
            chance = random.Random(seed)
            cluster = random_cluster(chance)
            theirs, ours = server_lib.ClusterSpec(cluster), Spec.of(cluster)
            wanted = theirs.as_cluster_def().SerializeToString()
            with self.subTest(cluster=cluster):
                found = cluster_pb2.ClusterDef.FromString(ours.definition())
                self.assertEqual(found, theirs.as_cluster_def())
                self.assertEqual([j.name for j in found.job], [j.name for j in theirs.as_cluster_def().job])
                read = Spec(belay.belay_cluster_spec_from_def(wanted, c.c_size_t(len(wanted)), ERR))
                self.assertEqual(read.text(), ours.text())
                self.assertEqual(json.loads(ours.text()), json.loads(json.dumps(theirs.as_dict())))
                self.assertEqual(ours.jobs(), sorted(theirs.jobs))
                self.assertEqual(bool(ours.jobs()), bool(theirs))
                other = random_cluster(chance) if chance.random() < 0.5 else dict(reversed(cluster.items()))
                self.assertEqual(
                    bool(belay.belay_cluster_spec_equal(ours, Spec.of(other))),
                    theirs == server_lib.ClusterSpec(other),
                )
                if cluster:
                    read = Spec(belay.belay_cluster_spec_parse(json.dumps(theirs.as_dict()).encode(), ERR))
                    self.assertEqual(read.text(), ours.text())

    # CL-04, CL-05
    def test_queries_give_the_same(self):
        for seed in range(400):
            chance = random.Random(seed)
            cluster = random_cluster(chance)
            theirs, ours = server_lib.ClusterSpec(cluster), Spec.of(cluster)
            for job in [*cluster, "unknown"]:
                with self.subTest(cluster=cluster, job=job):
                    for method in ("num_tasks", "task_indices"):
                        self.assertEqual(outcome(getattr(ours, method), job), outcome(getattr(theirs, method), job))
                    if cluster.get(job, True):  # Python's max() of nothing is an accident
                        self.assertEqual(outcome(ours.job_tasks, job), outcome(theirs.job_tasks, job))
                    for index in (0, 1, 5, 29, -1):
                        self.assertEqual(
                            outcome(ours.task_address, job, index), outcome(theirs.task_address, job, index)
                        )


class Config:
    """What belay reads out of TF_CONFIG, with the names of TFConfigClusterResolver."""

    def __init__(self, text):
        self.handle = c.c_void_p(made(belay.belay_tf_config_load(text and text.encode(), ERR)))

    def __del__(self):
        if getattr(self, "handle", None):
            belay.belay_tf_config_free(self.handle)

    def text(self, name):
        value = getattr(belay, "belay_tf_config_" + name)(self.handle)
        return None if value is None else value.decode()

    def task_id(self):
        index = belay.belay_tf_config_task_index(self.handle)
        return None if index == NO_TASK else index

    def cluster(self):
        return Spec(belay.belay_tf_config_cluster(self.handle), owned=False)

    def master(self, task_type, task_id, rpc_layer):
        return made(
            belay.belay_tf_config_master(
                self.handle,
                task_type and task_type.encode(),
                NO_TASK if task_id is None else task_id,
                None if rpc_layer is None else rpc_layer.encode(),
                ERR,
            )
        ).decode()


def random_tf_config(chance):
    config = {}
    if chance.random() < 0.8:
        config["cluster"] = random_cluster(chance, ("ps", "worker", "chief", "evaluator"), dense=chance.random() < 0.7)
    tasks = [(job, i) for job, t in config.get("cluster", {}).items() for i in (t if isinstance(t, dict) else range(len(t)))]
    # A task that the cluster has not is refused by belay alone (tests/unit/test_cluster.c).
    if chance.random() < 0.8 and (tasks or not config.get("cluster")):
        job, index = chance.choice(tasks or [("worker", 0)])
        if chance.random() < 0.1 and "evaluator" not in config.get("cluster", {}):
            job, index = "evaluator", 0
        config["task"] = {"type": job, "index": chance.choice((index, str(index))), "trial": "x"}
        if chance.random() < 0.1:
            del config["task"][chance.choice(("type", "index"))]
    for key, values in {
        "rpc_layer": ("grpc", "", "grpc+x"),
        "environment": ("cloud", "google"),
        "session_master": ("grpc://m:1", ""),
        "job": ({"args": []}, None),
    }.items():
        if chance.random() < 0.3:
            config[key] = chance.choice(values)
    return config


class TFConfig(unittest.TestCase):
    # CL-13, CL-14
    def test_reads_the_same(self):
        for seed in range(1000):
            chance = random.Random(seed)
            text = json.dumps(random_tf_config(chance)) if seed else None
            environment = {k: v for k, v in os.environ.items() if k != "TF_CONFIG"} | ({"TF_CONFIG": text} if text else {})
            with self.subTest(text=text), mock.patch.dict(os.environ, environment, clear=True):
                theirs, ours = tfconfig_cluster_resolver.TFConfigClusterResolver(), Config(text)
                self.assertEqual(ours.text("task_type"), theirs.task_type)
                self.assertEqual(ours.task_id(), theirs.task_id)
                self.assertEqual(ours.text("rpc_layer"), theirs.rpc_layer)
                self.assertEqual(
                    cluster_pb2.ClusterDef.FromString(ours.cluster().definition()),
                    theirs.cluster_spec().as_cluster_def(),
                )
                for layer in (None, "", "grpc"):
                    for task_type, task_id in ((None, None), ("worker", 0), ("ps", None), (None, 1)):
                        try:
                            wanted = theirs.master(task_type, task_id, layer)
                        except ValueError:  # max() of a job without tasks among them
                            wanted = ValueError
                        if list(theirs.cluster_spec().as_dict().values()) == [{}]:
                            continue
                        self.assertEqual(outcome(ours.master, task_type, task_id, layer), wanted)

    # CL-15
    def test_knows_the_same_chief(self):
        seen = set()
        for seed in range(1000):
            chance = random.Random(seed)
            cluster = random_cluster(chance, ("ps", "worker", "chief"), dense=True)
            task_type = chance.choice(("ps", "worker", "chief", "evaluator", None))
            task_id = None if task_type is None else chance.randint(0, 2)
            context = distribute_coordinator._WorkerContext.__new__(distribute_coordinator._WorkerContext)
            context._cluster_spec = server_lib.ClusterSpec(cluster)
            context._task_type, context._task_id = task_type, task_id
            ours = belay.belay_cluster_spec_is_chief(
                Spec.of(cluster), task_type and task_type.encode(), NO_TASK if task_id is None else task_id
            )
            with self.subTest(cluster=cluster, task=(task_type, task_id)):
                self.assertEqual(bool(ours), context._is_chief())
            seen.add((task_type, bool(ours), bool(cluster), "chief" in cluster))
        self.assertGreater(len(seen), 12)


class Servers(unittest.TestCase):
    def prepare(self, **given):
        """The ServerDef of a server that belay makes in this process, with this process's TensorFlow."""
        options = ServerOptions(struct_size=c.sizeof(ServerOptions))
        for key, value in given.items():
            if isinstance(value, Spec):
                value = value.handle  # `given` keeps it
            elif key == "task_index" and value is not None:
                value = c.pointer(c.c_int32(value))
            elif isinstance(value, str):
                value = value.encode()
            setattr(options, key, value)
        options.config_size = len(given.get("config") or b"")
        options.server_def_size = len(given.get("server_def") or b"")
        server = c.c_void_p(made(belay.belay_server_prepare(c.byref(options), ERR)))
        size = c.c_size_t()
        bytes_ = c.string_at(belay.belay_server_def(server, c.byref(size)), size.value)
        belay.belay_server_free(server)
        return tensorflow_server_pb2.ServerDef.FromString(bytes_)

    def both(self, cluster, job_name, task_index, protocol, config):
        theirs = outcome(server_lib._make_server_def, cluster, job_name, task_index, protocol, config)
        given = {"job_name": job_name, "task_index": task_index, "protocol": protocol}
        if config is not None:
            given["config"] = config.SerializeToString()
        if isinstance(cluster, tensorflow_server_pb2.ServerDef):
            given["server_def"] = cluster.SerializeToString()
        else:
            given["cluster"] = Spec.of(cluster)
        return outcome(lambda: self.prepare(**given)), theirs

    # CL-07, CL-09
    def test_server_defs_from_clusters_are_the_same(self):
        clusters = (
            {"worker": ["127.0.0.1:0"]},
            {"worker": {3: "127.0.0.1:0"}},
            {"worker": ["127.0.0.1:0", "h:1"]},
            {"ps": ["127.0.0.1:0"], "worker": ["127.0.0.1:0", "h:1"], "none": []},
        )
        config = config_pb2.ConfigProto(device_count={"CPU": 1}, operation_timeout_in_ms=7)
        seen = set()
        for cluster in clusters:
            for job in (None, "ps", "worker"):
                for index in (None, 0, 3):
                    for given in (None, config):
                        with self.subTest(cluster=cluster, job=job, index=index):
                            ours, theirs = self.both(cluster, job, index, None, given)
                            # TensorFlow itself refuses a task that is not there when it makes the server.
                            there = theirs is not ValueError and dict(
                                (j.name, j.tasks) for j in theirs.cluster.job
                            ).get(theirs.job_name, ())
                            if there is not False and theirs.task_index not in there:
                                theirs = ValueError
                            self.assertEqual(ours, theirs)
                            seen.add(ours is ValueError)
        self.assertEqual(seen, {True, False})

    # CL-08
    def test_arguments_override_a_server_def(self):
        first = server_lib._make_server_def(
            {"ps": ["127.0.0.1:0"], "worker": ["127.0.0.1:0", "127.0.0.1:0"]},
            "ps",
            0,
            "grpc",
            config_pb2.ConfigProto(operation_timeout_in_ms=7, device_filters=["/job:ps"]),
        )
        first.cluster_device_filters.jobs.add(name="ps").tasks[0].device_filters.append("/job:worker")
        more = config_pb2.ConfigProto(operation_timeout_in_ms=9, device_filters=["/job:worker"])
        for job, index, protocol, config in (
            (None, None, None, None),
            ("worker", None, None, None),
            ("worker", 1, "grpc", None),
            (None, None, None, more),
        ):
            with self.subTest(job=job, index=index, config=config):
                ours, theirs = self.both(first, job, index, protocol, config)
                self.assertEqual(ours, theirs)


if __name__ == "__main__":
    unittest.main()
