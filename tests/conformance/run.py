#!/usr/bin/env python3
"""Compares belay with Python TensorFlow: the same scenarios on both, call by call.

    run.py --driver build/tests/conformance_driver --work FOLDER [--only NAME]... [--list] [--show]

A scenario holds no expected outcome: Python's trace is made in the same run, and belay's must be equal to it. What
differs by documented intent is marked in the scenario at the call that differs, with an id that docs/deviations.md
lists; what is known to be wrong carries a reason ("pending"). Either must really differ. README.md says more.

--only NAME   only scenarios whose name matches (fnmatch patterns; may be repeated)
--list        names and rows
--show        prints both traces of what is run
--random SEED the scenario that this seed makes (random_scenarios.py), instead; --seeds N: N of them from there on
--coverage    prints each (call, point, code) of an error that was raised
--slow N      prints the N scenarios that take longest
"""

import argparse
import collections
import copy
import fnmatch
import itertools
import json
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

import random_scenarios

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
    ("HK-EVAL-02", r"(Evaluation \[.*\])$"),
    ("HK-WAIT-03", r"(Waiting for global step \d+ before starting training\.)$"),
    ("HK-PROF-06", r"(Saving timeline for \d+ into)"),
]

# What belay adds to a folder (contract, section 3): listed apart, never compared.
OWN_FILES = re.compile(r"(\.belay\.json|(^|/)belay\.lock|(^|/)belay\.ledger\.jsonl)$")


# ----------------------------------------------------------------------------------------- scenarios


def load_scenarios():
    found = []
    for path in sorted(HERE.glob("scenarios/*.json")):
        try:
            for given in json.loads(path.read_text()):
                found += expanded(given)
        except json.JSONDecodeError as error:
            sys.exit(f"{path}: {error}")
    return found


CODES = (
    "CANCELLED UNKNOWN INVALID_ARGUMENT DEADLINE_EXCEEDED NOT_FOUND ALREADY_EXISTS PERMISSION_DENIED "
    "RESOURCE_EXHAUSTED FAILED_PRECONDITION ABORTED OUT_OF_RANGE UNIMPLEMENTED INTERNAL UNAVAILABLE DATA_LOSS "
    "UNAUTHENTICATED STOPPED NAN_LOSS"
).split()
PREEMPTIONS, CLEAN_ENDS = ["ABORTED", "UNAVAILABLE"], ["OUT_OF_RANGE", "STOPPED"]
CODE_SETS = {
    "all codes": CODES,
    "preemptions": PREEMPTIONS,
    "clean ends": CLEAN_ENDS,
    "errors": [c for c in CODES if c not in PREEMPTIONS + CLEAN_ENDS],
    "codes of tensorflow": [c for c in CODES if c not in ("STOPPED", "NAN_LOSS")],
    "codes of tensorflow but the end": [c for c in CODES if c not in ("STOPPED", "NAN_LOSS", "OUT_OF_RANGE")],
}


def expanded(scenario):
    """The scenarios that one with "for" stands for: one for each choice of its values."""
    if "for" not in scenario:
        return [scenario]
    choices = {key: CODE_SETS.get(v, v) if isinstance(v, str) else v for key, v in scenario["for"].items()}
    made = []
    for values in itertools.product(*choices.values()):
        chosen = dict(zip(choices, values))
        for key, value in list(chosen.items()):
            if isinstance(value, dict):
                chosen.update({f"{key}.{part}": v for part, v in value.items()})
        one = substituted({k: v for k, v in scenario.items() if k != "for"}, chosen)
        texts = [v.get("n", v) if isinstance(v, dict) else v for v in values]
        one["name"] = "_".join([scenario["name"]] + [re.sub(r"\W+", "_", str(t)).strip("_").lower() for t in texts])
        one["template"] = scenario["name"]
        made.append(one)
    return made


def substituted(value, chosen):
    """"{key}" alone becomes the chosen value, whatever its type; within a text its text. {key.part} is a part of a value
    that is an object; what has no such part has no such member."""
    if isinstance(value, str):
        for key, v in chosen.items():
            if value == f"{{{key}}}":
                return v
            value = value.replace(f"{{{key}}}", str(v))
        return value
    if isinstance(value, list):
        return [substituted(v, chosen) for v in value]
    if isinstance(value, dict):
        made = {substituted(k, chosen): substituted(v, chosen) for k, v in value.items()}
        return {k: v for k, v in made.items() if not (isinstance(v, str) and re.fullmatch(r"\{\w+\.\w+\}", v))}
    return value


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
        if unknown := set(s) - {"name", "rows", "graph", "before", "calls", "then", "pending", "server", "note", "as_if", "template"}:
            errors.append(f"{s['name']}: unknown {sorted(unknown)}")
        if not s.get("rows") or not s.get("calls"):
            errors.append(f"{s['name']}: no rows, or no calls")
        rows = [row for call in s.get("calls", []) + s.get("then", []) for row in call.get("deviates", [])]
        for row in rows + s.get("as_if", []):
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


def read_traces(path, what="calls"):
    return {t["name"]: t[what] for t in map(json.loads, path.read_text().splitlines())}


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

    def as_if(self, scenarios, traces, mattered):
        """What is said to differ must: each id in some scenario of a template."""
        said, seen = collections.defaultdict(set), collections.defaultdict(set)
        for s in scenarios:
            name, group = s["name"], s.get("template", s["name"])
            said[group].update(s.get("as_if", []))
            if "as_if" in s and name in traces["as_if"]:
                if differences(traces["python"][name], traces["as_if"][name]):
                    self.deviating += 1
                    seen[group].update(mattered[name])
        for group, ids in said.items():
            if ids - seen[group]:
                self.errors.append(f"{group}: is said to differ ({', '.join(sorted(ids - seen[group]))}), and does not")

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


def self_test(scenarios, runs, limit=60):
    """Changes belay's raw traces one thing at a time; each change must be seen. Gives what was not."""
    missed, kinds, tried, sides, traces = [], set(), 0, runs.sides, runs.raw
    for s in scenarios:
        name, calls = s["name"], compared_calls(s)
        if s.get("pending") or name not in traces["belay"]:
            continue
        for i, record in enumerate(traces["belay"][name]):
            if calls[i].get("deviates"):
                continue
            side = "as_if" if name in traces["as_if"] else "python"
            python = sides[side].comparable(traces[side][name][i], calls[i], name)
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


def coverage(scenarios, traces):
    """(call, point, code) for each error that a scenario raised: the call that ran when it was; for one that another
    thread raised, the first call that had it to tell."""
    found = set()
    for s in scenarios:
        waiting = []  # raised by another thread
        for call, record in zip(compared_calls(s), traces.get(s["name"], [])):
            verb, result = record["verb"], record["result"]
            if verb in ("report", "loop", "fault") and isinstance(call.get("code", call[verb]), str):
                waiting.append((f"{verb} {call[verb]}" if verb == "fault" else verb, call.get("code", call[verb])))
            told = {record["code"], result.get("code") if isinstance(result, dict) else None}
            for event in record["events"]:
                if event[0] == "raises":
                    found.add((verb, event[1], event[2]))
                if event[0] == "fails":
                    found.add((verb, "init_fn", event[1]))
            found.update((verb, point, code) for point, code in waiting if code in told)
    return found


def useless_questions(scenarios, comparable):
    """What Python's message does not say is no question to belay. Where Python breaks down, that is a documented
    difference, or nothing to compare."""
    traces = comparable["python"]
    for s in scenarios:
        expected = comparable["as_if"].get(s["name"], traces[s["name"]])
        for i, record in enumerate(traces[s["name"]]):
            for part, is_said in record["says"].items():
                if not is_said:
                    yield f"{s['name']}: call {i}: Python's message does not say {part!r}"
            if (code := expected[i]["code"]).startswith("PYTHON") or code == "NO_OBJECT":
                yield f"{s['name']}: call {i} ({record['verb']}) is not what was meant: {code} in Python"


class Traces:
    """Scenarios run on both sides, and once more as if documented differences were TensorFlow's behaviour."""

    def __init__(self, work, driver, scenarios, as_if):
        """`as_if` gives, of these traces, the scenarios to run once more, with ids or "all"."""
        self.work, self.scenarios = work, scenarios
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        plan, graphs = plan_of(scenarios, work / "graphs")
        (work / "plan.json").write_text(json.dumps(plan))
        python = Python(work)
        python.do("graphs", *graphs)
        python.do("before")
        targets = {s["name"]: s["targets"] for s in json.loads((work / "plan.json").read_text())}
        self.sides = {name: Side(name, work, targets) for name in ("python", "belay", "as_if")}
        self.raw = {}
        python.start("run")
        self.raw["belay"], self.died = run_belay(driver, work, plan)
        python.finish("run")
        self.raw["python"] = read_traces(work / "python.jsonl")
        (work / "as_if.json").write_text(json.dumps(as_if(self)))
        python.do("as_if")
        self.raw["as_if"] = read_traces(work / "as_if.jsonl")
        self.mattered = read_traces(work / "as_if.jsonl", "mattered")
        python.do("then")
        python.process.stdin.close()
        python.process.wait()
        for side in self.raw:
            add_then(self.raw[side], work / "then.jsonl", side)

    def comparable(self, side, scenario):
        name = scenario["name"]
        if name not in self.raw[side]:
            return None
        calls = zip(self.raw[side][name], compared_calls(scenario))
        return [self.sides[side].comparable(record, call, name) for record, call in calls]

    def differ(self, scenario, side="python"):
        """What of belay's trace differs from this side's."""
        return differences(self.comparable(side, scenario), self.comparable("belay", scenario))

    def messages(self, scenario, side):
        return [r["message"] for r in self.raw[side][scenario["name"]]]

    def reference(self, scenario):
        """The side that belay must be equal to."""
        return "as_if" if scenario["name"] in self.raw["as_if"] else "python"


def run(arguments, scenarios):
    work = pathlib.Path(arguments.work).resolve()
    listed = {s["name"]: s["as_if"] for s in scenarios if "as_if" in s}
    traces = Traces(work, arguments.driver, scenarios, lambda _: listed)
    report = Report()
    comparable = {side: {s["name"]: traces.comparable(side, s) for s in scenarios if s["name"] in traces.raw[side]}
                  for side in traces.raw}
    for s in scenarios:
        name, calls = s["name"], compared_calls(s)
        if name in traces.died:
            report.lines.append(f"{name}: belay's driver: {traces.died[name]}")
            report.unexplained += 1
            continue
        reference = traces.reference(s)
        messages = [traces.messages(s, side) for side in (reference, "belay")]
        report.scenario(s, traces.differ(s, reference), calls, messages)
        if arguments.show:
            show(name, calls, comparable, traces.raw)
    report.as_if(scenarios, comparable, traces.mattered)
    report.coverage = coverage(scenarios, comparable["python"])
    report.errors += duplicates(scenarios, comparable["python"])
    report.errors += useless_questions(scenarios, comparable)
    slowest(work, arguments.slow)
    missed, tried, kinds = self_test(scenarios, traces)
    report.errors += missed
    return report, tried, kinds


# -------------------------------------------------------------------------------------------- random

SEEDS_A_PROCESS = 250


def random_run(arguments):
    """Random scenarios: each seed's trace is Python's, or foretold by documented differences."""
    work = pathlib.Path(arguments.work).resolve()
    started, first, count = time.monotonic(), arguments.random, arguments.seeds
    explained, unexplained, tried, missed, mattered = 0, 0, 0, [], collections.Counter()
    seen, deviations, kinds, raised = set(), documented(), collections.Counter(), set()
    for start in range(first, first + count, SEEDS_A_PROCESS):
        seeds = range(start, min(start + SEEDS_A_PROCESS, first + count))
        scenarios = [random_scenarios.scenario(seed) for seed in seeds]

        def differing(traces):
            return {s["name"]: "all" for s in scenarios if s["name"] not in traces.died and traces.differ(s)}

        traces = Traces(work, arguments.driver, scenarios, differing)
        raised |= coverage(scenarios, {s["name"]: traces.comparable("python", s) for s in scenarios})
        for s in scenarios:
            kinds.update(random_scenarios.kinds(s))
            seen.add(json.dumps(traces.comparable("python", s)))
            why = unexplained_in(traces, s, deviations)
            unexplained += bool(why)
            for line in why:
                print(f"{s['name']}: {line}")
            if why:
                print(f"{s['name']}: {json.dumps(s)}")
            elif s["name"] in traces.raw["as_if"]:
                explained += 1
                mattered.update(traces.mattered[s["name"]])
            if arguments.show:
                sides = {side: {s["name"]: traces.comparable(side, s)} for side in traces.raw if s["name"] in traces.raw[side]}
                show(s["name"], compared_calls(s), sides, traces.raw)
        if start == first:
            not_seen, tried, _ = self_test(scenarios[:100], traces)
            missed += not_seen
        if count > SEEDS_A_PROCESS:
            print(f"   seeds {first} to {seeds[-1]}: {unexplained} unexplained ({time.monotonic() - started:.0f} s)", flush=True)
    lacking = sorted(random_scenarios.MEMBERS - set(kinds)) if count >= 100 else []
    for line in missed + [f"no seed made {kind}" for kind in lacking]:
        print(f"error: {line}")
    print("kinds: " + ", ".join(f"{kind} {n}" for kind, n in sorted(kinds.items())))
    print(f"{len(raised)} distinct (call, point, code) of errors that were raised")
    print("as if: " + ", ".join(f"{row} {n}" for row, n in sorted(mattered.items())))
    print(f"self-test: {tried} changed values, {'all seen' if not missed else 'failed'}")
    print(f"{count} seeds from {first}, {len(seen)} different traces, {explained} deviate as foretold, "
          f"{unexplained} unexplained ({time.monotonic() - started:.0f} s)")
    return not (unexplained or missed or lacking)


def unexplained_in(traces, scenario, deviations):
    """Sentences on what nothing explains in a random scenario."""
    name = scenario["name"]
    if name in traces.died:
        return [f"belay's driver: {traces.died[name]}"]
    if name not in traces.raw["as_if"]:
        return []
    calls = compared_calls(scenario)
    found = [f"call {i} ({next(iter(calls[i]))}) {part}: python {short(p)}, belay {short(b)}"
             for i, part, p, b in traces.differ(scenario, "as_if")]
    if found:
        return found
    return [f"docs/deviations.md has no line for {row}" for row in traces.mattered[name] if row not in deviations]


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
        for side in [side for side in comparable if name in comparable[side]]:
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
    parser.add_argument("--random", type=int, metavar="SEED")
    parser.add_argument("--seeds", type=int, default=1, metavar="N")
    parser.add_argument("--coverage", action="store_true")
    parser.add_argument("--slow", type=int, default=0, metavar="N")
    arguments = parser.parse_args()
    if arguments.random is not None:
        sys.exit(0 if random_run(arguments) else 1)
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
    print(f"{len(report.coverage)} distinct (call, point, code) of errors that were raised")
    if arguments.coverage:
        for triple in sorted(report.coverage):
            print("  " + ", ".join(triple))
    print(f"self-test: {tried} changed values in {len(kinds)} kinds of calls, all seen" if not any(
        e.startswith("self-test") for e in errors) else "self-test: failed")
    print(
        f"{len(scenarios)} scenarios, {report.deviating} deviate as documented, {report.unexplained} unexplained"
        f"{f', {report.pending} pending' if report.pending else ''} ({time.monotonic() - started:.0f} s)"
    )
    sys.exit(1 if errors or report.unexplained else 0)


if __name__ == "__main__":
    main()
