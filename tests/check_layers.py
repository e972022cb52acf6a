#!/usr/bin/env python3
"""Checks who includes whom: each folder knows those below it, and none above.

usage: check_layers.py [ROOT]      prints one line for each include that points upward; exit code 1 where there is one
"""
import pathlib
import re
import sys

# Folder of src/ -> the folders of src/ that its files may include, beside itself.
BELOW = {
    "base": "",
    "wire": "base",
    "runtime": "base wire",
    "input": "base wire",
    "graph": "base wire runtime",
    "observe": "base wire",
    "cluster": "base wire runtime graph",
    "summary": "base wire runtime graph",
    "checkpoint": "base wire runtime graph",
    "session": "base wire runtime graph cluster observe checkpoint",
    "run": "base wire runtime input graph cluster observe summary checkpoint session",
    "hooks": "base",
}
# Public header -> the folder that implements it. Whoever may include the folder may include the header.
OWNER = {
    "export": "base", "error": "base", "log": "base", "dtype": "base",
    "runtime": "runtime", "tensor": "runtime", "input": "input", "graph": "graph", "summary": "summary", "events": "summary", "hparams": "summary",
    "checkpoint": "checkpoint", "saver": "checkpoint", "session": "session", "coordinator": "session",
    "scaffold": "session", "session_manager": "session", "hook": "session", "monitored_session": "session",
    "hooks": "hooks", "run": "run", "server": "cluster", "cluster": "cluster", "observe": "observe",
}
# Each with its reason.
EXCEPTIONS = {
    # A saver runs its ops as a caller of the library would.
    ("checkpoint/*", "belay/session.h"), ("checkpoint/*", "belay/saver.h"),
    # The one-call form puts the shipped hooks together.
    ("session/training_session.c", "belay/hooks.h"),
    # A training run is a user of the whole library.
    ("run/*", "belay/hooks.h"), ("run/*", "belay/belay.h"),
    # What the public face of savers, scaffolds and graphs does not show, and these hooks write down.
    ("hooks/checkpoint_saver.c", "checkpoint/saver.h"), ("hooks/checkpoint_saver.c", "session/scaffold.h"),
    ("hooks/summary_saver.c", "session/scaffold.h"), ("hooks/events.c", "summary/writer.h"),
    # Variables and threads that these hooks keep in the graph, and a hook's own state behind its handle.
    ("hooks/stop_at_step.c", "graph/counter.h"), ("hooks/stop_after_evals.c", "graph/counter.h"),
    ("hooks/sync_replicas.c", "session/queue_runner.h"), ("hooks/sync_replicas.c", "graph/tokens.h"),
    ("hooks/final_ops.c", "session/hook.h"),
    ("hooks/profiler.c", "observe/timeline.h"),
}
# The only files of checkpoint/ that may know TensorFlow: the rest works where there is none.
SAVERS = {"saver.c", "saver.h", "saver_impl.h", "restore.c", "compatible.c", "retain.c", "object_graph.c",
          "warm_start.c", "full_disk.c", "full_disk.h"}

INCLUDE = re.compile(r'^\s*#\s*include\s*(["<])([^">]+)[">]', re.M)
CALL = re.compile(r"\bTF_[A-Z]\w*\s*\(")  # a call by name; the table's entries have no prefix


def excused(file, header):
    return (file, header) in EXCEPTIONS or (file.split("/")[0] + "/*", header) in EXCEPTIONS


def problem_in_src(file, header):
    folder, (top, _, name) = file.split("/")[0], header.partition("/")
    may = {folder, *BELOW[folder].split()}
    if excused(file, header):
        return None
    if folder == "checkpoint" and top in ("graph", "runtime") and file.split("/")[1] not in SAVERS:
        return "only savers know TensorFlow here"
    if top == "tensorflow":
        return None if file == "runtime/runtime.h" else "only runtime/runtime.h names TensorFlow's header"
    if top == "belay":
        owner = OWNER.get(name.removesuffix(".h"))
        if owner is None:
            return "nobody is known to own this header: add it to the table"
        if folder == "hooks":
            return None  # written against the public face
        return None if owner in may else f"{folder} does not know {owner}"
    return None if top in may else f"{folder} does not know {top}"


def problem(path, quote, header, folders):
    where, rest = path.split("/", 1)
    if where == "cli":
        ours = quote == '"' and "/" not in header or header.startswith("belay/")
        return None if ours or quote == "<" and header.split("/")[0] not in folders else "cli uses the public face only"
    if where == "include":
        return None if quote == "<" and ("/" not in header or header.startswith("belay/")) else "public headers stand alone"
    if rest.split("/")[0] not in BELOW:
        return "this folder is not in the table"
    if quote == '"' or header.split("/")[0] in {*folders, "belay", "tensorflow"}:
        return problem_in_src(rest, header)
    return None


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent.parent)
    found = 0
    files = sorted(f for top in ("src", "include", "cli") for f in (root / top).rglob("*.[ch]"))
    for file in files:
        path, text = file.relative_to(root).as_posix(), file.read_text(encoding="utf-8")
        problems = [(text[:m.start(2)].count("\n") + 1, f"includes {m[2]}: {why}") for m in INCLUDE.finditer(text)
                    if (why := problem(path, m[1], m[2], set(BELOW)))]
        if path.startswith("src/") and path != "src/runtime/loader.c":
            code = re.sub(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"', lambda m: re.sub(r"[^\n]", " ", m[0]), text, flags=re.S)
            problems += [(code[:m.start()].count("\n") + 1, f"calls {m[0]}...): use the table") for m in CALL.finditer(code)]
        for line, what in problems:
            print(f"{path}:{line}: {what}")
            found += 1
    if not files:
        sys.exit(f"no sources under {root}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
