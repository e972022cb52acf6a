"""Verbs on monitored sessions, and hooks that do what a scenario says."""

import sys

import tensorflow as tf

from values import NoObject, config_of, feeds_of, listed, raise_code, text_of
from world import verb

tf1 = tf.compat.v1


class ScriptedHook(tf1.train.SessionRunHook):
    """A hook that reports its callbacks and does what a scenario says."""

    def __init__(self, world, script):
        self.world, self.name = world, script["hook"]
        self.script = script
        self.runs = 0

    def _at(self, point, session=None, more=None):
        self.world.events.append([f"{self.name}.{point}"] + ([more] if more is not None else []))
        calls = self.script.get("calls", {}).get(point)
        if calls:
            self.world.script(calls, session)
        fail = self.script.get("fail", {})
        if fail.get("at") == point and fail.get("run", self.runs) == self.runs:
            raise_code(fail["code"])

    def begin(self):
        self.graph = tf1.get_default_graph()
        self._at("begin")

    def after_create_session(self, session, coord):
        self._at("after_create_session", session)

    def before_run(self, run_context):
        self.runs += 1
        self._at("before_run", run_context.session)
        if self.script.get("stop_before") == self.runs:
            run_context.request_stop()
        fetches = listed(self.script.get("fetch"))
        feeds = feeds_of(self.graph, self.script.get("feed"))
        if not fetches and not feeds:
            return None
        return tf1.train.SessionRunArgs([self.graph.get_tensor_by_name(f) for f in fetches], feeds)

    def after_run(self, run_context, run_values):
        self._at("after_run", run_context.session, [text_of(v) for v in run_values.results or []])
        if self.script.get("stop_at") == self.runs:
            run_context.request_stop()

    def end(self, session):
        self._at("end", session)


def shipped_stop_at_step(w, options):
    return tf1.train.StopAtStepHook(**options)


def shipped_checkpoint_saver(w, options):
    options = dict(options)
    if "saver" in options:
        options["saver"] = w.get("saver", options["saver"])
    if "scaffold" in options:
        options["scaffold"] = w.get("scaffold", options["scaffold"])
    return tf1.train.CheckpointSaverHook(**options)


def shipped_nan_tensor(w, options):
    options = dict(options)
    graph = w.get("graph", "g")
    tensor = graph.get_tensor_by_name(options.pop("tensor"))
    return tf1.train.NanTensorHook(tensor, **options)


# A hook that TensorFlow ships is {"NAME": {its arguments}}; a hook for each name that scenarios use.
SHIPPED = {
    "stop_at_step": shipped_stop_at_step,
    "checkpoint_saver": shipped_checkpoint_saver,
    "nan_tensor": shipped_nan_tensor,
}


def hooks_of(w, given):
    hooks = []
    for script in given or []:
        kind = next(iter(script))
        hooks.append(ScriptedHook(w, script) if kind == "hook" else SHIPPED[kind](w, script[kind]))
    return hooks


TRAINING_OPTIONS = (
    "checkpoint_dir save_checkpoint_secs save_checkpoint_steps save_summaries_steps save_summaries_secs "
    "log_step_count_steps summary_dir max_wait_secs stop_grace_period_secs is_chief"
).split()


@verb
def monitored(w, name, call):
    """kind: plain (the default), singular, or training."""
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
        else:
            creator = tf1.train.ChiefSessionCreator(
                made, call.get("target", ""), config_of(call.get("config")), call.get("checkpoint_dir")
            )
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
    for _ in range(call.get("times", 1)):
        if session.should_stop() and not call.get("even_if_stopped"):
            break
        try:
            with session.graph.as_default():  # in which a new session's scaffold is finalised
                values = session.run(fetches + listed(targets), feeds)
        except BaseException:
            w.failures[name] = sys.exc_info()
            raise
        w.failures.pop(name, None)
        result.append([text_of(v) for v in values[: len(fetches)]])
    return result


@verb
def should_stop(w, name, call):
    return bool(monitored_session(w, name).should_stop())


@verb
def request_stop(w, name, call):
    monitored_session(w, name)._coordinated_creator.coord.request_stop()


@verb
def raw_session(w, name, call):
    w.put("session", call.get("as", "s"), monitored_session(w, name).raw_session())


@verb
def end(w, name, call):
    """Leaves the with-block: after the failure of the last run, if it failed, and then that failure goes on."""
    session = monitored_session(w, name)
    w.objects["monitored", name] = None
    failure = w.failures.pop(name, (None, None, None))
    swallowed = session.__exit__(*failure)
    if failure[1] is not None and not swallowed:
        raise failure[1]
