"""Verbs on session managers and scaffolds."""

import tensorflow as tf

from values import config_of, feeds_of, run_options_of, text_of
from world import verb

tf1 = tf.compat.v1


class Manager(tf1.train.SessionManager):
    """Remembers whether something was restored, which prepare_session does not say."""

    restored = None

    def _restore_checkpoint(self, *args, **kwargs):
        session, self.restored = super()._restore_checkpoint(*args, **kwargs)
        return session, self.restored


@verb
def manager(w, name, call):
    graph = w.graph(call)
    options = {}
    if "scaffold" in call:
        scaffold = w.get("scaffold", call["scaffold"])
        for key in ("local_init_op", "ready_op", "ready_for_local_init_op", "local_init_feed_dict"):
            options[key] = getattr(scaffold, key)
    for key in ("local_init_op", "ready_op", "ready_for_local_init_op"):
        if key in call:
            options[key] = w.element(graph, call[key])
    if "local_init_feed" in call:
        options["local_init_feed_dict"] = feeds_of(graph, call["local_init_feed"])
    if "local_init_run_options" in call:
        options["local_init_run_options"] = run_options_of(call["local_init_run_options"])
    if "recovery_wait_secs" in call:
        options["recovery_wait_secs"] = call["recovery_wait_secs"]
    w.put("manager", name, Manager(graph=graph, **options))


def restore_options(w, call):
    options = {"config": config_of(call.get("config"))}
    if "scaffold" in call:
        options["saver"] = w.get("scaffold", call["scaffold"]).saver
    if "saver" in call:
        options["saver"] = w.get("saver", call["saver"])
    for key in ("checkpoint_dir", "checkpoint_filename_with_path", "wait_for_checkpoint", "max_wait_secs"):
        if key in call:
            options[key] = call[key]
    return options


@verb
def prepare(w, name, call):
    m = w.get("manager", call.get("with", "m"))
    options = restore_options(w, call)
    if "scaffold" in call:
        scaffold = w.get("scaffold", call["scaffold"])
        options.update(init_op=scaffold.init_op, init_feed_dict=scaffold.init_feed_dict, init_fn=scaffold.init_fn)
    if "init_op" in call:
        options["init_op"] = w.element(m._graph, call["init_op"])
    if "init_feed" in call:
        options["init_feed_dict"] = feeds_of(m._graph, call["init_feed"])
    if "init_fn" in call:
        options["init_fn"] = lambda session: init_fn(w, "init_fn", None, call["init_fn"], session)
    with m._graph.as_default():
        session = m.prepare_session(call.get("target", ""), **options)
    w.put("session", name, session)
    return {"restored": m.restored}


def init_fn(w, label, scaffold, calls, session):
    w.events.append([label])
    w.script(calls, session)


@verb
def recover(w, name, call):
    m = w.get("manager", call.get("with", "m"))
    with m._graph.as_default():
        session, initialized = m.recover_session(call.get("target", ""), **restore_options(w, call))
    w.put("session", name, session)
    return {"initialized": initialized}


@verb
def wait(w, name, call):
    m = w.get("manager", call.get("with", "m"))
    options = {"max_wait_secs": call["max_wait_secs"]} if "max_wait_secs" in call else {}
    w.put("session", name, m.wait_for_session(call.get("target", ""), config_of(call.get("config")), **options))


# ---------------------------------------------------------------------------------------- scaffolds

PIECES = ("init_op", "ready_op", "ready_for_local_init_op", "local_init_op", "summary_op")


@verb
def scaffold(w, name, call):
    graph = w.graph(call)
    options = {key: w.element(graph, call[key]) for key in PIECES if key in call}
    if "init_feed" in call:
        options["init_feed_dict"] = feeds_of(graph, call["init_feed"])
    if "local_init_feed" in call:
        options["local_init_feed_dict"] = feeds_of(graph, call["local_init_feed"])
    if "saver" in call:
        options["saver"] = w.get("saver", call["saver"])
    if "copy_from" in call:
        options["copy_from_scaffold"] = w.get("scaffold", call["copy_from"])
    if "init_fn" in call:

        def called(given, session):
            whose = next(n for (kind, n), o in w.objects.items() if kind == "scaffold" and o is given)
            init_fn(w, f"init_fn of {name} for {whose}", given, call["init_fn"], session)

        options["init_fn"] = called
    with graph.as_default():
        made = tf1.train.Scaffold(**options)
    made._of = call.get("graph", "g")
    w.put("scaffold", name, made)


@verb
def finalize(w, name, call):
    made = w.get("scaffold", name)
    with w.get("graph", made._of).as_default():
        made.finalize()


@verb
def pieces(w, name, call):
    """What a scaffold has: the name of what the graph came with, else only what kind of thing was built."""
    made = w.get("scaffold", name)
    result = {key: piece_text(getattr(made, key), w.names[made._of]) for key in PIECES}
    result["saver"] = None if made.saver is None else "empty" if made.saver._is_empty else "saver"
    return result


def piece_text(piece, known):
    if piece is None:
        return None
    op = piece if isinstance(piece, tf.Operation) else piece.op
    if op.name in known:
        return piece.name
    return "an op" if piece is op else f"{piece.dtype.name} of rank {piece.shape.rank}"


@verb
def piece(w, key, call):
    """Runs a piece of a scaffold: its value, or nothing where it is an operation."""
    made = w.get("scaffold", call.get("of", "c"))
    return text_of(w.get("session", call.get("on", "s")).run(getattr(made, key)))


@verb
def same_pieces(w, names, call):
    """Whether two scaffolds hold the very same things (SC-17)."""
    a, b = (w.get("scaffold", n) for n in names)
    result = {key: getattr(a, key) is getattr(b, key) for key in PIECES}
    result["saver"] = a.saver is b.saver
    return result
