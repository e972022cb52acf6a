"""Verbs on event files and their writers."""

import os
import pathlib
import time

import numpy as np
import tensorflow as tf

from world import verb

tf1 = tf.compat.v1
STATUSES = ("?", "START", "STOP", "CHECKPOINT")


@verb
def writer(w, name, call):
    graph = w.get("graph", call["graph"]) if "graph" in call else None
    w.put("writer", name, tf1.summary.FileWriter(call["folder"], graph=graph))


@verb
def add(w, name, call):
    """One event: scalar, summary (with metadata), bytes, log, metadata or graph says which."""
    to, step = w.get("writer", name), call.get("step", 0)
    if "scalar" in call:
        value = tf1.Summary.Value(tag=call["scalar"], simple_value=call["value"])
        to.add_summary(tf1.Summary(value=[value]), step)
    elif "summary" in call:
        plugin = tf1.SummaryMetadata.PluginData(plugin_name=call["plugin"])
        value = tf1.Summary.Value(tag=call["summary"], simple_value=call["value"],
                                  metadata=tf1.SummaryMetadata(plugin_data=plugin))
        to.add_summary(tf1.Summary(value=[value]).SerializeToString(), step)
    elif "histogram" in call:
        with tf.Graph().as_default(), tf1.Session() as session:
            made = tf1.summary.histogram(call["histogram"], tf.constant(np.array(call["values"], np.float64)))
            to.add_summary(session.run(made), step)
    elif "log" in call:
        to.add_session_log(tf1.SessionLog(status=STATUSES.index(call["log"]), msg=call.get("says_log", "")), step)
    elif "metadata" in call:
        to.add_run_metadata(tf1.RunMetadata(), call["metadata"], step)
    else:
        to.add_graph(w.get("graph", call["graph"]), step)


@verb
def writer_do(w, name, call):
    to = w.get("writer", name)
    if call["do"] == "reopen":
        time.sleep(1.1)  # another second, another file: else the first is overwritten (BUG-49)
    {"flush": to.flush, "close": to.close, "reopen": to.reopen}[call["do"]]()


def line_of(value, step, ranges):
    plugin = value.metadata.plugin_data.plugin_name
    plugin = f" for {plugin}" if plugin else ""
    if value.WhichOneof("value") == "histo":
        h = value.histo
        return f"{value.tag} {step}: {h.num:g} " + (f"from {h.min:g} to {h.max:g}" if ranges else "values") + plugin
    number = "" if value.tag == "global_step/sec" else f" {value.simple_value:.6g}"
    return f"{value.tag} {step}:{number}{plugin}"


@verb
def events(w, folder, call):
    """What all event files of a folder hold, in order, a list for each. A graph is told once a file (BUG-51, EV-20), and
    the range of a histogram where `ranges` says so: a run may read a variable before or after it is trained."""
    cached = tf1.summary.FileWriterCache._cache.get(folder)
    if cached:
        cached.flush()  # BUG-48, BUG-72
    result = []
    for path in sorted(pathlib.Path(folder).glob("*tfevents*")):
        lines = []
        for event in tf1.train.summary_iterator(str(path)):
            what = event.WhichOneof("what")
            if what == "summary":
                lines.extend(line_of(value, event.step, call.get("ranges")) for value in event.summary.value)
            elif what == "session_log":
                log = event.session_log
                lines.append(f"{STATUSES[log.status]} {event.step} {os.path.basename(log.checkpoint_path)}{log.msg}")
            elif what == "tagged_run_metadata":
                lines.append(f"run_metadata {event.step} {event.tagged_run_metadata.tag}")
            elif what == "file_version":
                lines.append(event.file_version)
            elif what not in lines:
                lines.append(what)
        result.append(lines)
    return result
