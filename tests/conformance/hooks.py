"""Hooks and listeners that do what a scenario says, and the hooks that TensorFlow ships."""

import tensorflow as tf
from tensorflow.python.training import basic_session_run_hooks, evaluation

from values import feeds_of, fields_of, listed, metadata_of, raise_code, run_options_of, text_of

tf1 = tf.compat.v1


class Script:
    """What a hook or listener reports of its callbacks, and does in them."""

    def __init__(self, world, given):
        self.world, self.given, self.name = world, given, given["hook"]
        self.runs = 0
        self.times = {}  # point -> how often it was reached

    def at(self, point, session=None, more=None):
        self.world.events.append([f"{self.name}.{point}"] + ([more] if more is not None else []))
        time = self.times[point] = self.times.get(point, 0) + 1
        calls = self.given.get("calls", {}).get(point)
        if calls:
            self.world.script([c for c in calls if c.get("time", time) == time], session)
        for fail in listed(self.given.get("fail")):
            if fail["at"] == point and fail.get("run", self.runs) == self.runs and fail.get("time", time) == time:
                self.world.events.append(["raises", point, fail["code"]])
                raise_code(fail["code"])

    def stops(self, key):
        return self.runs in listed(self.given.get(key))


class ScriptedHook(tf1.train.SessionRunHook):
    def __init__(self, world, given):
        self.script = Script(world, given)

    def begin(self):
        self.graph = tf1.get_default_graph()
        self.script.at("begin")

    def after_create_session(self, session, coord):
        self.script.world.coordinator = coord
        self.script.at("after_create_session", session)

    def before_run(self, run_context):
        self.script.runs += 1
        self.script.at("before_run", run_context.session)
        if self.script.stops("stop_before"):
            run_context.request_stop()
        given = self.script.given
        fetches, feeds = listed(given.get("fetch")), feeds_of(self.graph, given.get("feed"))
        asks = "options_at" not in given or self.script.stops("options_at")
        options = run_options_of(given.get("options")) if asks else None
        if not fetches and not feeds and options is None:
            return None
        return tf1.train.SessionRunArgs([self.graph.get_tensor_by_name(f) for f in fetches], feeds, options)

    def after_run(self, run_context, run_values):
        if self.script.given.get("tells"):
            told = {"options": fields_of(run_values.options), **metadata_of(run_values.run_metadata)}
            self.script.world.events.append([f"{self.script.name}.ran_with", told])
        self.script.at("after_run", run_context.session, [text_of(v) for v in run_values.results or []])
        if self.script.stops("stop_at"):
            run_context.request_stop()

    def end(self, session):
        self.script.at("end", session)


class ScriptedCreator(tf1.train.SessionCreator):
    """Asks another creator for its sessions, at the points `create_session` and `created`; a `bare` one just opens them,
    and runs these ops."""

    def __init__(self, world, given, inner):
        self.script, self.inner = Script(world, given), inner

    def create_session(self):
        self.script.runs += 1
        self.script.at("create_session")
        session = self.bare() if "bare" in self.script.given else self.inner.create_session()
        self.script.at("created", session)
        return session

    def bare(self):
        session = tf1.Session()
        session.run([session.graph.get_operation_by_name(name) for name in self.script.given["bare"]])
        return session


class ScriptedListener(tf1.train.CheckpointSaverListener):
    """The same for a listener on a checkpoint hook; `stop_at` counts saves."""

    def __init__(self, world, given):
        self.script = Script(world, given)

    def begin(self):
        self.script.at("listener_begin")

    def before_save(self, session, global_step_value):
        self.script.runs += 1
        self.script.at("before_save", session, int(global_step_value))

    def after_save(self, session, global_step_value):
        self.script.at("after_save", session, int(global_step_value))
        return self.script.stops("stop_at")

    def end(self, session, global_step_value):
        self.script.at("listener_end", session, int(global_step_value))


def stop_at_step(w, options):
    return tf1.train.StopAtStepHook(**options)


def checkpoint_saver(w, options):
    options = dict(options)
    if "saver" in options:
        options["saver"] = w.get("saver", options["saver"])
    if "scaffold" in options:
        options["scaffold"] = w.get("scaffold", options["scaffold"])
    if "listeners" in options:
        options["listeners"] = [ScriptedListener(w, given) for given in options["listeners"]]
    return tf1.train.CheckpointSaverHook(**options)


def nan_tensor(w, options):
    options = dict(options)
    graph = w.get("graph", "g")
    tensor = graph.get_tensor_by_name(options.pop("tensor"))
    return tf1.train.NanTensorHook(tensor, **options)


def multi_step_stop(w, options):
    return basic_session_run_hooks._MultiStepStopAtStepHook(**options)


def global_step_waiter(w, options):
    return tf1.train.GlobalStepWaiterHook(**options)


def final_ops(w, options):
    """`as` names it, for the verb final_values."""
    graph = w.get("graph", "g")
    fetches = [graph.as_graph_element(name) for name in options.get("final_ops", [])]
    hook = tf1.train.FinalOpsHook(fetches or None, feeds_of(graph, options.get("feed")))
    w.put("hook", options["as"], hook)
    return hook


def feed_fn(w, options):
    """Feeds `feed` in every run; `fail` {run, code} fails in one."""
    graph, runs, fail = w.get("graph", "g"), [], options.get("fail", {})

    def feed():
        runs.append(1)
        if fail.get("run") == len(runs):
            raise_code(fail["code"])
        return feeds_of(graph, options["feed"])

    return tf1.train.FeedFnHook(feed)


def stop_after_evals(w, options):
    hook = evaluation._StopAfterNEvalsHook(options.get("num_evals"), options.get("log_progress", True))
    hook._set_evals_completed_tensor(tf1.assign_add(evaluation._get_or_create_eval_step(), 1, use_locking=True))
    return hook


def profiler(w, options):
    return tf1.train.ProfilerHook(**options)


# A hook that TensorFlow ships is {"NAME": {its arguments}}; a hook for each name that scenarios use.
SHIPPED = {
    f.__name__: f
    for f in (
        stop_at_step, checkpoint_saver, nan_tensor, multi_step_stop, global_step_waiter, final_ops, feed_fn,
        stop_after_evals, profiler,
    )
}


def hooks_of(w, given):
    """Hooks as a scenario lists them; {"again": N} is number N of the list once more."""
    hooks = []
    for script in given or []:
        kind = next(iter(script))
        if kind == "again":
            hooks.append(hooks[script["again"]])
        else:
            hooks.append(ScriptedHook(w, script) if kind == "hook" else SHIPPED[kind](w, script[kind]))
    return hooks
