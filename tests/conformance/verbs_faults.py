"""Verbs that make things fail: runs of an op, helper threads, and errors that are reported to a coordinator."""

import threading

import tensorflow as tf
from tensorflow.python.client import session as client

import as_if
from values import NoObject, code_of, exception_of, listed
from world import verb

tf1 = tf.compat.v1


class Fault:
    """Runs of this op fail: those whose numbers are in `runs`, counted from 1 when the fault is set."""

    def __init__(self, world, op, call):
        self.world, self.op, self.code = world, op, call["code"]
        self.runs = listed(call.get("runs", 1))
        self.after = call.get("after", False)
        self.count = 0
        self.lock = threading.Lock()

    def hit(self, graph, names):
        # Python leaves threads of sessions that were never handed out to themselves (BUG-17), for ever: not their runs.
        if self.op not in names or graph not in self.world.graphs():
            return False
        with self.lock:
            self.count += 1
            return self.count in self.runs

    def fail(self):
        if threading.current_thread() is threading.main_thread():  # elsewhere, nobody knows when
            self.world.events.append(["raises", f"run of {self.op}", self.code])
        raise exception_of(self.code)


FAULTS = []


def run_with_faults(graph, names, run):
    due = [f for f in FAULTS if f.hit(graph, names)]
    for fault in due:
        if not fault.after:
            fault.fail()
    result = run()
    for fault in due:
        fault.fail()
    return result


class Faults:
    """Between TensorFlow's Session and the runtime."""

    do_run = client.BaseSession._do_run
    make_callable = client.BaseSession.make_callable

    def run(session, handle, targets, fetches, *rest):
        names = {t.name for t in targets} | {t.op.name for t in fetches}
        return run_with_faults(session.graph, names, lambda: Faults.do_run(session, handle, targets, fetches, *rest))

    def callable(session, fetches, *rest, **more):
        made = Faults.make_callable(session, fetches, *rest, **more)
        if not isinstance(fetches, tf.Operation):
            return made
        return lambda *given: run_with_faults(session.graph, {fetches.name}, lambda: made(*given))

    @staticmethod
    def install():
        client.BaseSession._do_run = Faults.run
        client.BaseSession.make_callable = Faults.callable


Faults.install()


@verb
def fault(w, op, call):
    FAULTS.append(Fault(w, op, call))


def coordinator(w):
    """The one that hooks were given last, while there is a session that has it."""
    sessions = [o for (kind, _), o in w.objects.items() if kind == "monitored" and o is not None]
    has_it = any(s._coordinated_creator.coord is w.coordinator and not as_if.is_half_made(s) for s in sessions)
    if w.coordinator is None or not (has_it or w.depth):
        raise NoObject("no hook was given a coordinator")
    return w.coordinator


@verb
def report(w, code, call):
    """An error, or null, reported to the coordinator that hooks were given last."""
    if code is None:
        return coordinator(w).request_stop()
    try:
        raise exception_of(code)
    except Exception as error:  # the coordinator looks at what is being handled
        coordinator(w).request_stop(error)


@verb
def until_stopped(w, _, call):
    """Waits until that coordinator has been asked to stop: whether it was, and its error."""
    stopped = coordinator(w).wait_for_stop(20)
    try:
        coordinator(w).raise_requested_exception()
        return {"stopped": stopped, "code": "OK"}
    except Exception as error:
        return {"stopped": stopped, "code": code_of(error)}


@verb
def loop(w, name, call):
    """A helper thread on that coordinator, whose body fails when it is called for the `fails_at`th time."""
    count = [0]

    def body():
        count[0] += 1
        if count[0] == call.get("fails_at", 0):
            raise exception_of(call["code"])

    tf1.train.LooperThread.loop(coordinator(w), 0.005, target=body)
