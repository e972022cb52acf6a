"""Verbs on monitored sessions."""

import contextlib
import sys

import tensorflow as tf

import as_if
from hooks import ScriptedCreator, hooks_of
from values import NoObject, config_of, feeds_of, listed, metadata_of, run_options_of, text_of
from world import verb

tf1 = tf.compat.v1


TRAINING_OPTIONS = (
    "checkpoint_dir save_checkpoint_secs save_checkpoint_steps save_summaries_steps save_summaries_secs "
    "log_step_count_steps summary_dir max_wait_secs stop_grace_period_secs is_chief"
).split()


@verb
def monitored(w, name, call):
    """kind: plain (the default), singular, worker, or training."""
    kind = call.get("kind", "plain")
    w.put("monitored", name, None)
    made = w.get("scaffold", call["scaffold"]) if "scaffold" in call else None
    with w.graph(call).as_default():
        hooks = hooks_of(w, call.get("hooks"))
        options = {"hooks": hooks}
        if kind == "training":
            options.update({k: call[k] for k in TRAINING_OPTIONS if k in call}, scaffold=made)
            options["config"] = config_of(call.get("config"))
            session = tf1.train.MonitoredTrainingSession(call.get("target", ""), **options)
        elif kind == "singular":
            options.update(scaffold=made, master=call.get("target", ""), checkpoint_dir=call.get("checkpoint_dir"))
            session = tf1.train.SingularMonitoredSession(config=config_of(call.get("config")), **options)
        elif kind == "worker":
            more = {"max_wait_secs": call["max_wait_secs"]} if "max_wait_secs" in call else {}
            creator = tf1.train.WorkerSessionCreator(made, call.get("target", ""), config_of(call.get("config")), **more)
            session = tf1.train.MonitoredSession(creator, **options)
        else:
            creator = tf1.train.ChiefSessionCreator(
                made, call.get("target", ""), config_of(call.get("config")), call.get("checkpoint_dir")
            )
            if "creator" in call:
                creator = ScriptedCreator(w, call["creator"], creator)
            session = tf1.train.MonitoredSession(creator, **options)
    w.put("monitored", name, session)


def monitored_session(w, name):
    session = w.get("monitored", name)
    if session is None:
        raise NoObject(f"{name} was not opened")
    return session


@verb
def train(w, targets, call):
    """Steps of a monitored session, `times` of them or until it should stop."""
    name = call.get("on", "t")
    session = monitored_session(w, name)
    fetches = listed(call.get("fetch"))
    result = []
    feeds = feeds_of(session.graph, call.get("feed"))
    options = run_options_of(call.get("options"))
    metadata = tf1.RunMetadata() if call.get("metadata") else None
    for _ in range(call.get("times", 1)):
        with failing(w, name), session.graph.as_default():  # in which a new session is made
            if says_stop(session) and not call.get("even_if_stopped"):
                break
            values = session.run(fetches + listed(targets), feeds, options, metadata)
        if metadata is not None:
            w.events.append(["metadata", metadata_of(metadata)])
        w.failures.pop(name, None)
        result.append([text_of(v) for v in values[: len(fetches)]])
    return result


@verb
def step_fn(w, calls, call):
    """A step function of these calls; session i is the context's, and `time` counts how often it was called."""
    name = call.get("on", "t")
    session = monitored_session(w, name)
    times = []

    def function(step_context):
        times.append(1)
        w.events.append(["step_fn", len(times)])
        w.step_contexts.append((name, step_context))
        try:
            w.body(calls, len(times), "step_fn", lambda: step_context.session)
        finally:
            w.step_contexts.pop()

    with failing(w, name), session.graph.as_default():
        session.run_step_fn(function)
    w.failures.pop(name, None)


@verb
def run_with_hooks(w, targets, call):
    """In a step function: one step, without recovering."""
    name, context = w.step_contexts[-1]
    fetches, session = listed(call.get("fetch")), monitored_session(w, name)
    metadata = tf1.RunMetadata() if call.get("metadata") else None
    with session.graph.as_default():
        values = context.run_with_hooks(
            fetches + listed(targets),
            feeds_of(session.graph, call.get("feed")),
            options=run_options_of(call.get("options")),
            run_metadata=metadata,
        )
    if metadata is not None:
        w.events.append(["metadata", metadata_of(metadata)])
    return [text_of(v) for v in values[: len(fetches)]]


@verb
def stop_from_step_fn(w, _, call):
    w.step_contexts[-1][1].request_stop()


@verb
def scope(w, name, call):
    """A with-block of these calls."""
    session = monitored_session(w, name)
    failure = None, None, None
    try:
        w.body(call["calls"], 1, "scope")
    except BaseException:
        failure = sys.exc_info()
    lasting = as_if.lasting_failure(session) if failure[1] is None else as_if.first_failure(session)
    if lasting is not None:
        failure = type(lasting), lasting, None
    w.failures.pop(name, None)
    w.objects["monitored", name] = None
    try:
        leave_with(failure, session)
    finally:
        w.coordinator = None


@contextlib.contextmanager
def failing(w, name):
    """What is raised in a with-block is what the block's end is given."""
    try:
        yield
    except BaseException:
        w.failures[name] = sys.exc_info()
        raise


@verb
def should_stop(w, name, call):
    session = monitored_session(w, name)
    with failing(w, name), session.graph.as_default():
        return bool(says_stop(session))


@verb
def request_stop(w, name, call):
    """What a loop asks beside should_stop(): helper threads hear of it when the session is closed."""
    session = monitored_session(w, name)
    session.stop_asked = session._sess.stop_asked = True


def says_stop(session):
    return getattr(session, "stop_asked", False) or session.should_stop()


@verb
def raw_session(w, name, call):
    w.put("session", call.get("as", "s"), monitored_session(w, name).raw_session())


@verb
def end(w, name, call):
    """Leaves the with-block: after the failure of the last run, if it failed, and then that failure goes on."""
    session = monitored_session(w, name)
    w.objects["monitored", name] = None
    try:
        leave(w, name, session)
    finally:
        w.coordinator = None


def leave(w, name, session):
    failure = w.failures.pop(name, None)
    if failure is None and as_if.failure_of(session) is not None:  # should_stop kept it
        failure = type(session.failure), session.failure, None
    leave_with(failure or (None, None, None), session)


def leave_with(failure, session):
    try:
        swallowed = session.__exit__(*failure)
    except BaseException:
        if failure[1] is not None and not isinstance(failure[1], as_if.CLEAN) and as_if.differs("BUG-03"):
            raise failure[1]
        raise
    if failure[1] is not None and not swallowed:
        raise failure[1]


@verb
def final_values(w, name, call):
    """What a final_ops hook took at the end; null before."""
    values = w.get("hook", name).final_ops_values
    return None if values is None else [text_of(v) for v in values]
