"""Verbs on plain sessions."""

import time

import tensorflow as tf

from values import config_of, feeds_of, listed, metadata_of, run_options_of, text_of
from verbs_graph import usable_step
from world import verb

tf1 = tf.compat.v1


@verb
def open_(w, name, call):
    graph = w.graph(call)
    session = tf1.Session(call.get("target", ""), graph=graph, config=config_of(call.get("config")))
    w.put("session", name, session)
    if call.get("init"):
        initialize(session, graph)


def initialize(session, graph):
    for key in ("variables", "local_variables"):
        session.run([v.initializer for v in graph.get_collection(key)])


@verb
def run(w, targets, call):
    session = w.get("session", call.get("on", "s"))
    fetches = listed(call.get("fetch"))
    metadata = tf1.RunMetadata() if call.get("metadata") else None
    values = session.run(
        fetches + listed(targets),
        feeds_of(session.graph, call.get("feed")),
        options=run_options_of(call.get("options")),
        run_metadata=metadata,
    )
    if "keep" in call:
        w.put("kept", call["keep"], values[: len(fetches)])
        return [text_of(None) for _ in fetches]
    result = [text_of(v) for v in values[: len(fetches)]]
    if metadata is None:
        return result
    return {"values": result, **metadata_of(metadata)}


@verb
def kept(w, name, call):
    """What an earlier run gave ("keep"), as it is now."""
    return [text_of(v) for v in w.get("kept", name)]


@verb
def setup(w, handle, call):
    """Starts a partial run."""
    session = w.get("session", call.get("on", "s"))
    value = session.partial_run_setup(listed(call.get("fetch")), listed(call.get("feed")))
    w.put("partial", handle, value)


@verb
def partial(w, handle, call):
    session = w.get("session", call.get("on", "s"))
    value = w.objects.get(("partial", handle), handle)
    values = session.partial_run(value, listed(call.get("fetch")), feeds_of(session.graph, call.get("feed")))
    return [text_of(v) for v in values]


@verb
def callable_(w, name, call):
    """Prepares a step (make_callable); `call` runs it, and names what it fetches once more."""
    session = w.get("session", call.get("on", "s"))
    w.put("callable", name, session.make_callable(listed(call.get("fetch")) + listed(call.get("target"))))


@verb
def call_(w, name, call):
    return [text_of(v) for v in w.get("callable", name)()[: len(listed(call.get("fetch")))]]


@verb
def devices(w, name, call):
    return sorted(f"{d.name} {d.device_type}" for d in w.get("session", name).list_devices())


@verb
def reset(w, target, call):
    tf1.Session.reset(target, call.get("containers"))


@verb
def close(w, name, call):
    w.get("session", name).close()


@verb
def free(w, name, call):
    w.get("session", name)
    del w.objects["session", name]


@verb
def step(w, name, call):
    session = w.get("session", name)
    tensor = usable_step(session.graph)
    if tensor is None:
        raise RuntimeError("the graph has no global step")
    with session.graph.as_default():
        return int(tf1.train.global_step(session, tensor))


@verb
def join(w, name, call):
    thread, box = w.get("thread", name)
    thread.join(20)
    if thread.is_alive():
        raise RuntimeError("still running")
    return {"code": box["record"]["code"], "result": box["record"]["result"]}


@verb
def sleep(w, seconds, call):
    time.sleep(seconds)
