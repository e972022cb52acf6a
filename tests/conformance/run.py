#!/usr/bin/env python3
"""Compares belay with Python TensorFlow: the same scenarios on both, call by call.

    run.py --driver build/tests/conformance_driver --work FOLDER [--only NAME]... [--list] [--show]

A scenario holds no expected outcome: Python's trace is made in the same run, and belay's must be equal to it. What
differs by documented intent is marked in the scenario at the call that differs, with an id that docs/deviations.md
lists; what is known to be wrong carries a reason ("pending"). Either must really differ. README.md says more.

--only NAME   only scenarios whose name matches (fnmatch patterns; may be repeated)
--list        names and rows
--show        prints both traces of what is run
--slow N      prints the N scenarios that take longest
"""

import argparse
import collections
import copy
import fnmatch
import json
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent

# Log lines that a row speaks of. What is in parentheses is compared; equal lines that follow each other are one.
LOG_LINES = [
    ("SV-41", r"(Restoring parameters from \S+)$"),
    ("SC-03", r"(Graph was finalized\.)$"),
    ("SM-45", r"(Running local_init_op\.|Done running local_init_op\.)$"),
    ("SM-11", r"(Waiting for checkpoint to be available\.)"),
    ("SM-34", r"(Waiting for model to be ready\.)"),
    ("SM-29", r"(Restored model from \S+)$"),
    ("SM-28", r"(Restoring model from \S+ did not make model ready for local init)"),
    ("SM-29", r"(Restoring model from \S+ did not make model ready):"),
    ("CK-10", r"\S+: (Checkpoint ignored)$"),
    ("CK-13", r"(Couldn't match files for checkpoint \S+)$"),
    ("SV-36", r"(Ignoring: )"),
    ("GS-01", r"(Multiple tensors in global_step collection)"),
]

# What belay adds to a folder (contract, section 3): listed apart, never compared.
OWN_FILES = re.compile(r"(\.belay\.json|(^|/)belay\.lock|(^|/)belay\.ledger\.jsonl)$")


# ----------------------------------------------------------------------------------------- scenarios


def load_scenarios():
    found = []
    for path in sorted(HERE.glob("scenarios/*.json")):
        try:
            found += json.loads(path.read_text())
        except json.JSONDecodeError as error:
            sys.exit(f"{path}: {error}")
    return found


def documented():
    """The ids that docs/deviations.md gives a reason for. What is only not there yet is no reason."""
    ids, counts = set(), True
    for line in (ROOT / "docs" / "deviations.md").read_text().splitlines():
        if line.startswith("#"):
            counts = "Not there yet" not in line
        if counts and line.startswith("- ") and not line.startswith("- n/a"):
            ids.update(re.findall(r"\b[A-Z]{2}[A-Z-]*-\d{2}\b", line.split(": ")[0]))
    return ids


def check_scenarios(scenarios):
    errors = []
    names = collections.Counter(s["name"] for s in scenarios)
    errors += [f"{name}: there are {n} scenarios of this name" for name, n in names.items() if n > 1]
    ids = documented()
    for s in scenarios:
        if unknown := set(s) - {"name", "rows", "graph", "before", "calls", "then", "pending", "server", "note"}:
            errors.append(f"{s['name']}: unknown {sorted(unknown)}")
        if not s.get("rows") or not s.get("calls"):
            errors.append(f"{s['name']}: no rows, or no calls")
        for call in s.get("calls", []) + s.get("then", []):
            for row in call.get("deviates", []):
                if row not in ids:
                    errors.append(f"{s['name']}: docs/deviations.md has no line for {row}")
    return errors


def resolved(value, graphs, used):
    """#name becomes the path of that graph."""
    if isinstance(value, str) and re.fullmatch(r"#\w+", value):
        used.add(value[1:])
        return str(graphs / f"{value[1:]}.meta")
    if isinstance(value, list):
        return [resolved(v, graphs, used) for v in value]
    if isinstance(value, dict):
        return {k: resolved(v, graphs, used) for k, v in value.items()}
    return value


def plan_of(scenarios, graphs):
    """The scenarios as drivers take them, and the graphs that they use."""
    used, plan = set(), []
    for s in scenarios:
        load = [{"load": f"#{s['graph']}"}] if "graph" in s else []
        entry = {"name": s["name"], "calls": load + s["calls"], "server": s.get("server", False)}
        if s.get("before"):
            entry["before"] = load + s["before"]
        if s.get("then"):
            entry["then"] = s["then"]
        plan.append(resolved(entry, graphs, used))
    return plan, sorted(used)


# ------------------------------------------------------------------------------------------- drivers


class Python:
    """driver.py, which stays for the whole run."""

    def __init__(self, work):
        self.process = subprocess.Popen(
            [ROOT / ".deps" / "venv" / "bin" / "python", "-B", HERE / "driver.py", work],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=open(work / "python.log", "w"),
            text=True,
        )
        self.log = work / "python.log"

    def start(self, *words):
        self.process.stdin.write(" ".join(words) + "\n")
        self.process.stdin.flush()

    def finish(self, what):
        if not self.process.stdout.readline().startswith(f"done {what}"):
            self.process.wait()
            sys.exit(f"driver.py ended during `{what}`; the end of {self.log}:\n{self.log.read_text()[-4000:]}")

    def do(self, *words):
        self.start(*words)
        self.finish(words[0])


def run_belay(driver, work, plan):
    """Starts the C driver again behind a scenario in which it dies."""
    traces = work / "belay.jsonl"
    traces.touch()
    died = {}
    while (done := len(traces.read_text().splitlines())) + len(died) < len(plan):
        first = done + len(died)
        arguments = [driver, work / "plan.json", work / "belay", traces, str(first)]
        with open(work / "belay.log", "a") as log:
            result = subprocess.run(arguments, stdout=log, stderr=log, check=False)
        if result.returncode == 0:
            break
        at = len(traces.read_text().splitlines()) + len(died)
        if at >= len(plan):
            break
        how = signal.Signals(-result.returncode).name if result.returncode < 0 else f"exit {result.returncode}"
        died[plan[at]["name"]] = "took too long" if how == "SIGALRM" else how
    return read_traces(traces), died


def read_traces(path):
    return {t["name"]: t["calls"] for t in map(json.loads, path.read_text().splitlines())}


def add_then(traces, path, side):
    """What Python finds in a side's folder belongs to that side's trace."""
    for line in path.read_text().splitlines():
        trace = json.loads(line)
        if trace["side"] == side and trace["name"] in traces:
            traces[trace["name"]] = traces[trace["name"]] + trace["calls"]


# ----------------------------------------------------------------------------------------- comparing


class Side:
    """What makes one driver's traces comparable: where its folders are, and what is its own."""

    def __init__(self, name, work, targets):
        self.name = name
        self.work = work
        self.targets = targets

    def places(self, text, scenario):
        text = text.replace(str(self.work / self.name / scenario), "$").replace(str(self.work / "graphs"), "#")
        target = self.targets.get(scenario, {}).get(self.name)
        return text.replace(target, "$server") if target else text

    def value(self, value, scenario):
        if isinstance(value, str):
            return self.places(value, scenario)
        if isinstance(value, list):
            return [self.value(v, scenario) for v in value]
        if isinstance(value, dict):
            return {k: self.value(v, scenario) for k, v in value.items()}
        return value

    def event(self, event, scenario):
        """An event as it is compared; None: it is not."""
        event = self.value(event, scenario)
        if event[0] != "log":
            return event
        for _, pattern in LOG_LINES:
            if match := re.search(pattern, event[2]):
                return ["log", match[1]]
        return None

    def compared_events(self, record, scenario):
        """Of a raw record's events those that are compared, as they are. Equal log lines in a row are one."""
        events, last = [], None
        for event in record["events"]:
            seen = self.event(event, scenario)
            if seen is not None and (event[0] != "log" or seen != last):
                events.append(event)
                last = seen
        return events

    def comparable(self, record, call, scenario):
        """A call's part of the trace, as it is compared."""
        result = self.value(record["result"], scenario)
        if record["verb"] == "folder" and result is not None:
            result = [f for f in result if not OWN_FILES.search(f)]
        message = self.places(record["message"], scenario)
        return {
            "verb": record["verb"],
            "code": record["code"],
            "op": record["op"],
            "result": result,
            "says": {part: part in message for part in call.get("says", [])},
            "events": [self.event(e, scenario) for e in self.compared_events(record, scenario)],
        }


def compared_calls(scenario):
    load = [{"load": ""}] if "graph" in scenario else []
    return load + scenario["calls"] + scenario.get("then", [])


PARTS = ("verb", "code", "op", "result", "says", "events")


def differences(python, belay):
    """(index, what, python's, belay's) for each part of a call that differs."""
    found = []
    for i, (p, b) in enumerate(zip(python, belay)):
        for part in PARTS:
            if part == "op" and not p["op"]:
                continue  # belay names ops that Python does not
            if p[part] != b[part]:
                found.append((i, part, p[part], b[part]))
    if len(python) != len(belay):
        found.append((min(len(python), len(belay)), "calls", len(python), len(belay)))
    return found


def short(value):
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 300 else text[:300] + "…"


class Report:
    def __init__(self):
        self.lines = []
        self.errors = []
        self.deviating = self.pending = self.unexplained = 0

    def scenario(self, scenario, found, calls, messages):
        """Sorts a scenario's differences into documented, pending and unexplained ones."""
        name, pending = scenario["name"], scenario.get("pending")
        marked = {i: call.get("differs") for i, call in enumerate(calls) if call.get("deviates")}
        bad = [d for d in found if d[0] not in marked or d[1] not in (marked[d[0]] or PARTS)]
        for i, parts in marked.items():
            seen = {d[1] for d in found if d[0] == i}
            if not seen or set(parts or ()) - seen:
                ids = ", ".join(calls[i]["deviates"])
                self.errors.append(f"{name}: call {i} is said to deviate ({ids}: {parts or 'anything'}), and does not")
        if pending and not bad:
            self.errors.append(f"{name}: pending ({pending}), and does not differ any more")
        for i, part, python, belay in bad:
            verb = next(iter(calls[i])) if i < len(calls) else ""
            said = f"   (python: {messages[0][i]!r}; belay: {messages[1][i]!r})" if part in ("code", "says") else ""
            where = f"{'pending ' if pending else ''}{name}: call {i} ({verb}) {part}"
            self.lines.append(f"{where}: python {short(python)}, belay {short(belay)}{said}")
        self.deviating += bool(marked and found)
        self.pending += bool(pending and bad)
        self.unexplained += bool(bad and not pending)


# ----------------------------------------------------------------------------------------- self-test


def leaves(value, path=()):
    """Paths to all that can be changed in a value."""
    if isinstance(value, dict):
        for key in value:
            yield from leaves(value[key], path + (key,))
    elif isinstance(value, list):
        yield path + ("+",)  # one element more
        for i, item in enumerate(value):
            yield from leaves(item, path + (i,))
    else:
        yield path


def changed(value, path):
    """A copy of a value in which what is at the path is another."""
    value = copy.deepcopy(value)
    at = value
    for key in path[:-1]:
        at = at[key]
    if path[-1] == "+":
        at.append("more")
    else:
        old = at[path[-1]]
        at[path[-1]] = not old if isinstance(old, bool) else old + 1 if isinstance(old, (int, float)) else f"{old}x"
    return value


def corruptions(record, events):
    """Copies of a raw record, each with one thing wrong that is to be seen."""
    record = {**record, "events": events}
    yield {**record, "code": "OK" if record["code"] != "OK" else "INTERNAL"}
    for path in leaves({"result": record["result"]}):
        if path != ("result",) or record["result"] is not None:
            yield changed(record, path)
    if record["result"] is None:
        yield {**record, "result": 0}
    for i, event in enumerate(events):
        yield {**record, "events": events[:i] + events[i + 1 :]}
        if event[0] != "log":
            yield {**record, "events": events[:i] + [[f"{event[0]}x"] + event[1:]] + events[i + 1 :]}
            for path in leaves(event[1:]):
                yield {**record, "events": events[:i] + [event[:1] + changed(event[1:], path)] + events[i + 1 :]}
        if i and event != events[i - 1]:
            yield {**record, "events": events[: i - 1] + [event, events[i - 1]] + events[i + 1 :]}


def self_test(scenarios, sides, traces, limit=60):
    """Changes belay's raw traces one thing at a time; each change must be seen. Gives what was not."""
    missed, kinds, tried = [], set(), 0
    for s in scenarios:
        name, calls = s["name"], compared_calls(s)
        if s.get("pending") or name not in traces["belay"]:
            continue
        for i, record in enumerate(traces["belay"][name]):
            if calls[i].get("deviates"):
                continue
            python = sides["python"].comparable(traces["python"][name][i], calls[i], name)
            if differences([python], [sides["belay"].comparable(record, calls[i], name)]):
                continue  # it is wrong as it is
            for n, wrong in enumerate(corruptions(record, sides["belay"].compared_events(record, name))):
                if n == limit:
                    break
                tried += 1
                kinds.add(record["verb"])
                if not differences([python], [sides["belay"].comparable(wrong, calls[i], name)]):
                    missed.append(f"self-test: {name}: call {i} ({record['verb']}): not seen: {short(wrong)}")
    return missed, tried, kinds


# ---------------------------------------------------------------------------------------------- main


def duplicates(scenarios, traces):
    """Two scenarios that show the same show one thing twice."""
    seen = {}
    for s in scenarios:
        key = json.dumps(traces[s["name"]])
        if key in seen:
            yield f"{s['name']}: gives the same Python trace as {seen[key]}"
        seen.setdefault(key, s["name"])


def useless_questions(scenarios, traces):
    """What Python's message does not say is no question to belay."""
    for s in scenarios:
        for i, record in enumerate(traces[s["name"]]):
            for part, is_said in record["says"].items():
                if not is_said:
                    yield f"{s['name']}: call {i}: Python's message does not say {part!r}"
            if record["code"].startswith("PYTHON") or record["code"] == "NO_OBJECT":
                yield f"{s['name']}: call {i} ({record['verb']}) is not what was meant: {record['code']} in Python"


def run(arguments, scenarios):
    work = pathlib.Path(arguments.work).resolve()
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    plan, graphs = plan_of(scenarios, work / "graphs")
    (work / "plan.json").write_text(json.dumps(plan))
    python = Python(work)
    python.do("graphs", *graphs)
    python.do("before")
    python.start("run")
    belay, died = run_belay(arguments.driver, work, plan)
    python.finish("run")
    python.do("then")
    targets = {s["name"]: s["targets"] for s in json.loads((work / "plan.json").read_text())}
    python.process.stdin.close()
    raw = {"python": read_traces(work / "python.jsonl"), "belay": belay}
    for side in raw:
        add_then(raw[side], work / "then.jsonl", side)
    sides = {name: Side(name, work, targets) for name in raw}
    report = Report()
    comparable = {"python": {}, "belay": {}}
    for s in scenarios:
        name, calls = s["name"], compared_calls(s)
        for side in raw:
            if name in raw[side]:
                comparable[side][name] = [
                    sides[side].comparable(r, c, name) for r, c in zip(raw[side][name], calls)
                ]
        if name in died:
            report.lines.append(f"{name}: belay's driver: {died[name]}")
            report.unexplained += 1
            continue
        messages = [[r["message"] for r in raw[side][name]] for side in ("python", "belay")]
        report.scenario(s, differences(comparable["python"][name], comparable["belay"][name]), calls, messages)
        if arguments.show:
            show(name, calls, comparable, raw)
    report.errors += duplicates(scenarios, comparable["python"])
    report.errors += useless_questions(scenarios, comparable["python"])
    slowest(work, arguments.slow)
    missed, tried, kinds = self_test(scenarios, sides, raw)
    report.errors += missed
    return report, tried, kinds


def slowest(work, count):
    for side in ("python", "belay") if count else ():
        times = [(t["seconds"], t["name"]) for t in map(json.loads, (work / f"{side}.jsonl").read_text().splitlines())]
        print(f"== {side}: {sum(t for t, _ in times):.1f} s in scenarios, the slowest:")
        for seconds, name in sorted(times, reverse=True)[:count]:
            print(f"  {seconds:6.2f} s  {name}")


def show(name, calls, comparable, raw):
    print(f"== {name}")
    for i, call in enumerate(calls):
        print(f"  {i} {json.dumps(call)}")
        for side in ("python", "belay"):
            record = {k: v for k, v in comparable[side][name][i].items() if v not in (None, [], {}, "") and k != "verb"}
            message = raw[side][name][i]["message"]
            print(f"      {side:7}{json.dumps(record, ensure_ascii=False)}{'  ' + repr(message[:300]) if message else ''}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--driver", default=ROOT / "build" / "tests" / "conformance_driver", type=pathlib.Path)
    parser.add_argument("--work", default=ROOT / "build" / "tests" / "conformance.work", type=pathlib.Path)
    parser.add_argument("--only", action="append", default=[], metavar="NAME")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--show", action="store_true")
    parser.add_argument("--slow", type=int, default=0, metavar="N")
    arguments = parser.parse_args()
    scenarios = load_scenarios()
    errors = check_scenarios(scenarios)
    if arguments.only:
        scenarios = [s for s in scenarios if any(fnmatch.fnmatch(s["name"], p) for p in arguments.only)]
        errors = [e for e in errors if any(e.startswith(f"{s['name']}:") for s in scenarios)]
    if not scenarios:
        sys.exit("no such scenario")
    if arguments.list:
        for s in scenarios:
            print(f"{s['name']:60} {' '.join(s['rows'])}")
        return
    started = time.monotonic()
    report, tried, kinds = run(arguments, scenarios)
    errors += report.errors
    for line in report.lines + [f"error: {e}" for e in errors]:
        print(line)
    print(f"self-test: {tried} changed values in {len(kinds)} kinds of calls, all seen" if not any(
        e.startswith("self-test") for e in errors) else "self-test: failed")
    print(
        f"{len(scenarios)} scenarios, {report.deviating} deviate as documented, {report.unexplained} unexplained"
        f"{f', {report.pending} pending' if report.pending else ''} ({time.monotonic() - started:.0f} s)"
    )
    sys.exit(1 if errors or report.unexplained else 0)


if __name__ == "__main__":
    main()
