"""The objects of a scenario, its calls, and the table of verbs."""

import threading
import time
import traceback

import tensorflow as tf

from values import NoObject, code_of, raise_code

VERBS = {}


def verb(function):
    VERBS[function.__name__.rstrip("_")] = function
    return function


class World:
    """The objects of one scenario, by kind and name, and what happens in it."""

    def __init__(self, folder, target=""):
        self.folder = str(folder)
        self.target = target
        self.objects = {}
        self.events = []
        self.metas = {}  # graph's name -> its MetaGraphDef
        self.names = {}  # graph's name -> names of the ops that it was loaded with
        self.failures = {}  # monitored session's name -> exc_info of the run that failed
        self.raised = None  # by the last call that was performed
        self.step_contexts = []  # of step functions that are running: (session's name, context)
        self.coordinator = None  # that hooks were given last
        self.depth = 0  # of callbacks that we are in

    def get(self, kind, name):
        if self.objects.get((kind, name)) is None:
            raise NoObject(f"no {kind} called {name}")
        return self.objects[kind, name]

    def put(self, kind, name, value):
        self.objects[kind, name] = value

    def graphs(self):
        return [o for (kind, _), o in list(self.objects.items()) if kind == "graph"]

    def graph(self, call):
        return self.get("graph", call.get("graph", "g"))

    def element(self, graph, name):
        """An op or tensor that a scenario names; None stays None, a list is several (SM-47)."""
        if name is None:
            return None
        if isinstance(name, list):
            return [graph.as_graph_element(n) for n in name]
        return graph.as_graph_element(name)

    def perform(self, call):
        """Runs one call and gives its part of the trace."""
        outer, self.events = self.events, []
        raised = None
        name = next(iter(call))
        record = {"verb": name, "code": "OK", "result": None, "message": "", "op": ""}
        try:
            if name not in VERBS:
                raise NotImplementedError(f"no verb {name}")
            with tf.Graph().as_default():  # nobody's graph; in none TensorFlow would run eagerly
                record["result"] = VERBS[name](self, call[name], call)
        except BaseException as error:  # whatever a library raises is what is compared
            if isinstance(error, (KeyboardInterrupt, NotImplementedError)):
                raise
            raised = error
            record["code"] = code_of(error)
            record["message"] = str(error)
            if getattr(error, "op", None) is not None:
                record["op"] = error.op.name
            if record["code"].startswith("PYTHON"):
                record["traceback"] = traceback.format_exc()
        record["events"], self.events = self.events, outer
        self.raised = raised
        return record

    def script(self, calls, session):
        """Calls inside a callback; `session` is what it was given, by the name i. Raises what a call says."""
        self.put("session", "i", session)
        self.depth += 1
        try:
            for call in calls or []:
                if "fail" in call:
                    self.events.append(["fails", call["fail"]])
                    raise_code(call["fail"])
                record = self.perform(call)
                self.events.append(["call", record["verb"], record["code"], record["result"]])
                self.events.extend(record["events"])
        finally:
            self.depth -= 1

    def body(self, calls, attempt, point, session=lambda: None):
        """Calls of a function that an error of a call ends, unless it is `caught`."""
        for call in calls:
            if call.get("time", attempt) != attempt:
                continue
            if "fail" in call:
                self.events.append(["raises", point, call["fail"]])
                raise_code(call["fail"])
            self.put("session", "i", session())
            record = self.perform(call)
            self.events.append(["call", record["verb"], record["code"], record["result"]])
            self.events.extend(record["events"])
            if self.raised is not None and not call.get("caught"):
                raise self.raised

    def close(self):
        for (kind, _), value in self.objects.items():
            if kind not in ("session", "monitored") or value is None:
                continue
            try:
                value.close()
            except Exception:  # the scenario is over
                pass


def perform_in_background(world, name, call):
    box = {}

    def body():
        time.sleep(call.get("delay", 0))
        other = World(world.folder, world.target)
        other.objects = world.objects
        box["record"] = other.perform(call)

    thread = threading.Thread(target=body, daemon=True)
    world.put("thread", name, (thread, box))
    thread.start()
    return {"verb": next(iter(call)), "code": "STARTED", "result": None, "message": "", "op": "", "events": []}
