"""Random scenarios on monitored sessions: the same seed always makes the same one.

A scenario opens one or two sessions on one of the loop graphs, from creators that fail, with hooks that fetch, feed,
give options, fail, stop and report as chance has it; it trains, by steps and by step functions, and ends. What would
leave the outcome to a race is left out: where queue runners feed the steps, nothing is run between a stop and what
follows from it. What would fail in each repetition is left out too, for it would be repeated for ever.
"""

import random

CODES = (
    "CANCELLED UNKNOWN INVALID_ARGUMENT DEADLINE_EXCEEDED NOT_FOUND ALREADY_EXISTS PERMISSION_DENIED "
    "RESOURCE_EXHAUSTED FAILED_PRECONDITION UNIMPLEMENTED INTERNAL DATA_LOSS UNAUTHENTICATED NAN_LOSS"
).split()
PREEMPTION = ("ABORTED", "UNAVAILABLE")
GRAPHS = ["loop"] * 5 + ["loop_ref"] * 3 + ["loop_input"] * 3 + ["loop_queue"] * 3 + ["loop_no_step"]
FETCHES = ["sum:0", "loss:0", "after:0", "w_after:0", "x:0"]
NO_SAVES = {"save_checkpoint_secs": None, "log_step_count_steps": None, "save_summaries_steps": None,
            "save_summaries_secs": None}
RUN_OPTIONS = {
    "trace_level": [1, 3],
    "timeout_in_ms": [60000, 90000],
    "inter_op_thread_pool": [-1, -1, 0, 7],  # there is no pool 7
    "output_partition_graphs": [1],
    "report_tensor_allocations_upon_oom": [1],
    "debug_options": [{"reset_disk_byte_usage": 1}, {"global_step": 7}, {"debug_tensor_watch_opts": [{"node_name": "sum"}]}],
    "experimental": [{"collective_graph_key": 3}, {"use_run_handler_pool": 1}],
}


class Maker:
    def __init__(self, seed):
        self.chance = random.Random(seed)
        self.graph = self.one_of(GRAPHS)
        self.has_step = self.graph != "loop_no_step"
        self.has_queue = self.graph == "loop_queue"
        self.names = iter("abcdefghijklmnopqr")
        self.calm = False  # nothing else fails
        self.may_have_stopped = False  # by an act

    def maybe(self, probability):
        return self.chance.random() < probability

    def one_of(self, choices):
        return self.chance.choice(choices)

    def number(self, most):
        return self.chance.randint(1, most)

    def code(self, of_tensorflow=False):
        if self.maybe(0.5):
            return self.one_of(PREEMPTION)
        if of_tensorflow:
            return self.one_of(CODES[:-1] + ["OUT_OF_RANGE"])
        return self.one_of(["OUT_OF_RANGE", "STOPPED"]) if self.maybe(0.3) else self.one_of(CODES)

    def some(self, choices, most):
        return self.chance.sample(choices, self.chance.randint(0, min(most, len(choices))))

    # ---- hooks

    def failure(self, points):
        at = self.one_of(points)
        times = {"begin": [1], "listener_begin": [1], "end": [1], "listener_end": [1], "after_create_session": [1, 2, 2, 3]}
        return {"at": at, "time": self.one_of(times.get(at, [1, 2, 2, 3, 4])), "code": self.code()}

    def script(self, points):
        made = {"hook": next(self.names)}
        if self.maybe(0.35) and not self.calm:
            made["fail"] = [self.failure(points) for _ in range(self.number(2))]
        calls = {}
        for point in self.some([p for p in points if "begin" not in p], 2) if self.maybe(0.25) else ():
            calls[point] = [self.inner_call(point)]
        if calls:
            made["calls"] = calls
        return made

    def inner_call(self, point):
        if self.maybe(0.3) and not self.has_queue and point not in ("end", "listener_end", "before_save", "after_save"):
            # Once: an error that is always there would be repeated for ever.
            if self.maybe(0.2):
                return {"request_stop": "t", "time": self.number(2)}
            return {"report": None if self.maybe(0.3) else self.code(), "time": self.number(2)}
        return {"run": [], "fetch": ["sum:0"], "on": "i"}

    def scripted_hook(self):
        made = self.script(["begin"] + ["after_create_session"] * 5 + ["before_run", "after_run"] * 6 + ["end"] * 2)
        fetch = self.some(FETCHES, 2)
        if fetch:
            made["fetch"] = fetch
        if self.maybe(0.15):
            made["feed"] = {self.one_of(["x:0", "z:0"]): self.number(9)}
        for key in ("stop_at", "stop_before"):
            if self.maybe(0.12):
                made[key] = self.number(5)
        if self.maybe(0.2):
            made["options"] = self.options()
            if self.maybe(0.3):
                made["options_at"] = self.some([1, 2, 3, 4], 3)
        if self.maybe(0.2):
            made["tells"] = True
        return made

    def options(self):
        return {field: self.one_of(RUN_OPTIONS[field]) for field in self.some(sorted(RUN_OPTIONS), 3)}

    def feed_hook(self):
        made = {"feed": {self.one_of(["x:0", "z:0"]): self.number(9)}}
        if self.maybe(0.4) and not self.calm:
            made["fail"] = {"run": self.number(4), "code": self.code()}
        return {"feed_fn": made}

    def checkpoint_hook(self):
        options = {"checkpoint_dir": "$", "save_steps": self.number(3)}
        if self.maybe(0.6):
            options["listeners"] = [self.listener() for _ in range(self.number(2))]
        return {"checkpoint_saver": options}

    def listener(self):
        made = self.script(["listener_begin"] + ["before_save", "after_save"] * 3 + ["listener_end"])
        if self.maybe(0.2):
            made["stop_at"] = self.number(4)
        if self.calm:  # a stop at the first save might come before the run that is to fail
            made.pop("stop_at", None)
        return made

    def stop_hook(self):
        return {"stop_at_step": {self.one_of(["last_step", "num_steps"]): self.number(6)}}

    def hooks(self, saves):
        made = [self.scripted_hook() for _ in range(self.number(3))]
        if saves:
            made.append(self.checkpoint_hook())
        if self.has_step and not self.has_queue and self.maybe(0.25):
            made.append(self.stop_hook())
        if self.maybe(0.15):
            made.append({"nan_tensor": {"tensor": "loss:0", "fail_on_nan_loss": self.maybe(0.5)}})
        if self.maybe(0.12):
            made.append(self.feed_hook())
        if self.maybe(0.12):
            made.append(self.final_hook())
        self.chance.shuffle(made)
        scripted = [i for i, hook in enumerate(made) if "hook" in hook]
        if scripted and self.maybe(0.08):
            made.append({"again": self.one_of(scripted)})
        return made

    def final_hook(self):
        # What is read behind a step of a queue might wait for it for ever.
        fetches = [f for f in FETCHES if "after" not in f] if self.has_queue else FETCHES
        return {"final_ops": {"as": "f", "final_ops": self.some(fetches, 2), "feed": {"z:0": self.number(9)}}}

    # ---- faults

    def faults(self):
        made = []
        if self.maybe(0.4) and not self.calm:
            op = self.one_of(["train"] * 6 + ["init", "local_init", "save/restore_all"])
            most = 5 if op == "train" else 3
            runs = self.number(most) if self.maybe(0.5) else sorted(self.some(range(1, most + 1), 3)) or [1]
            made.append({"fault": op, "runs": runs, "code": self.code(of_tensorflow=True)})
            if op == "train" and self.maybe(0.3):
                made[-1]["after"] = True
        return made

    def creator(self):
        """One that asks the usual creator, or just opens sessions; a few of its calls fail."""
        made = {"hook": next(self.names)}
        if self.maybe(0.25):
            made["bare"] = ["init", "local_init"]
        if self.maybe(0.7) and not self.calm:
            made["fail"] = [self.creator_failure() for _ in range(self.number(3))]
        if self.maybe(0.25):
            time = {"time": self.number(3)} if self.maybe(0.5) else {}
            made["calls"] = {"created": [{"run": [], "fetch": ["sum:0"], "on": "i", **time}]}
        return made

    def creator_failure(self):
        time = self.one_of([1, 2, 2, 3])
        first = time == 1 and self.maybe(0.7)  # of most sessions there is more to see
        code = self.one_of(["ABORTED", "UNAVAILABLE"]) if first else self.code()
        return {"at": self.one_of(["create_session", "created"]), "time": time, "code": code}

    # ---- calls

    def session(self):
        kind = self.one_of(["plain"] * 3 + ["singular", "training"])
        call = {"monitored": "t", "kind": kind}
        saves = self.may_have_stopped = False
        # Runs of the enqueue op are counted: a session that something else ends early has made nobody knows how many.
        self.calm = self.has_queue and self.maybe(0.4)
        if kind == "training":
            call.update(NO_SAVES)
            if self.has_step and self.maybe(0.7):
                call.update(checkpoint_dir="$", save_checkpoint_steps=self.number(3))
        else:
            saves = self.has_step and self.maybe(0.4)
            if self.maybe(0.6):
                call["checkpoint_dir"] = "$"
        if kind == "plain" and self.maybe(0.4):
            call["creator"] = self.creator()
        call["hooks"] = self.hooks(saves)
        calls = self.faults()
        stopped = False
        if self.calm:
            code = self.code(of_tensorflow=True)
            calls.append({"fault": "enqueue", "runs": self.number(3), "code": code})
            stopped = code != "OUT_OF_RANGE"
        calls.append(call)
        if stopped:
            calls.append({"until_stopped": None})
        acts = [a for _ in range(1 + self.number(4)) for a in self.act(kind)]
        if self.maybe(0.2):
            acts = [{"scope": "t", "calls": self.body(acts, [1], 0.3)}]
        final = [{"final_values": "f"}] if any("final_ops" in hook for hook in call["hooks"]) else []
        return calls + acts + [{"end": "t"}, *final, {"latest": "$"}]

    def act(self, kind):
        if self.calm or self.maybe(0.4):
            return [self.train()]
        # Nothing tells a step function of a stop: it would run between queue runners that are ending.
        if self.maybe(0.5) and not (self.has_queue and self.may_have_stopped):
            return [self.step_function()]
        if self.maybe(0.4):
            return [{"should_stop": "t"}]
        if kind == "singular" and self.maybe(0.5):
            return [{"raw_session": "t"}, {"run": [], "fetch": ["sum:0"]}]
        self.may_have_stopped = True
        return self.helper() + ([{"should_stop": "t"}] if self.maybe(0.5) else [])

    def helper(self, **when):
        """Something beside the steps fails, or asks to stop."""
        choice = self.one_of(["report", "report", "loop"] + ([] if self.has_queue else ["request_stop"]))
        if choice == "request_stop":
            return [{"request_stop": "t", **when}]
        if choice == "loop":
            return [{"loop": "h", "fails_at": self.number(3), "code": self.code(), **when}, {"until_stopped": None, **when}]
        return [{"report": None if self.maybe(0.3) else self.code(), **when}, {"until_stopped": None, **when}]

    def request(self):
        """What a run of any kind asks for."""
        call = {"fetch": self.some(FETCHES, 2)}
        if self.maybe(0.2):
            call["feed"] = {self.one_of(["x:0", "z:0"]): self.one_of([-1, 2, 3])}
        if self.maybe(0.2):
            call["options"] = self.options()
        if self.maybe(0.2):
            call["metadata"] = True
        return call

    def targets(self):
        return (["train"] if self.maybe(0.9) else []) + (["checked"] if self.maybe(0.15) else [])

    def train(self):
        call = {"train": self.targets(), "times": self.number(4), **self.request()}
        if self.maybe(0.1) and not self.has_queue:
            call["even_if_stopped"] = True
        return call

    # ---- step functions and scopes

    def step_function(self, depth=0):
        parts = [p for _ in range(self.number(4)) for p in self.part(depth)]
        return {"step_fn": self.body(parts, [1, 1, 2], 0.15)}

    def part(self, depth):
        if self.maybe(0.5):
            return [{"run_with_hooks": self.targets(), **self.request()}]
        time = self.one_of([1, 1, 2])
        choice = self.one_of(["run", "run", "stop", "train", "nested", "should_stop", "helper"])
        if choice == "stop":
            return [{"stop_from_step_fn": None, **({"time": time} if self.maybe(0.5) else {})}]
        if choice == "train":
            return [self.train()]
        if choice == "nested" and depth < 2:
            return [self.step_function(depth + 1)]
        if choice == "should_stop":
            return [{"should_stop": "t"}]
        if choice == "helper" and not self.has_queue:
            return self.helper(time=time) if depth == 0 else lasting(self.helper(time=time))
        return [{"run": self.targets(), "on": "i", **self.request()}]

    def body(self, calls, times, probability):
        """Calls of a function: some errors of them are caught, and an error of its own is among them or not."""
        for call in calls:
            if self.maybe(probability):
                call["caught"] = True
        if self.maybe(0.35):
            calls.insert(self.chance.randint(0, len(calls)), {"fail": self.code(), "time": self.one_of(times)})
        return calls


def lasting(calls):
    """For a function within one that starts anew: what is reported there each time must not start it each time."""
    for call in calls:
        call.update({key: "INTERNAL" for key in ("code", "report") if call.get(key) in PREEMPTION})
    return calls


def scenario(seed):
    m = Maker(seed)
    calls = m.session()
    if m.maybe(0.3):
        calls += [{"load": f"#{m.graph}"}] + m.session()
    return {"name": f"random_{seed}", "rows": ["WS-01"], "graph": m.graph, "calls": calls}


# ---- what seeds made

MEMBERS = set(
    "step_fn run_with_hooks stop_from_step_fn scope caught creator bare options options_at tells metadata feed fault "
    "report loop request_stop even_if_stopped raw_session stop_at stop_before checkpoint_saver listeners stop_at_step "
    "nan_tensor feed_fn final_ops again".split()
)


def kinds(scenario):
    """What is in a scenario: members of its calls and hooks, where errors are raised, and what sessions it has."""
    found = set()

    def look(value, inside):
        for part in value if isinstance(value, list) else []:
            look(part, inside)
        if not isinstance(value, dict):
            return
        found.update(MEMBERS & set(value))
        if inside == "step_fn" and {"step_fn", "train"} & set(value):
            found.add("nested")
        for failure in listed(value.get("fail", [])):
            found.add(f"fail at {inside if isinstance(failure, str) else failure.get('at', 'feed_fn')}")
        if "kind" in value:
            found.add(value["kind"])
        for key, part in value.items():
            look(part, key if key in ("step_fn", "scope") else "scope" if "scope" in value else inside)

    look(scenario["calls"], "")
    sessions = sum("monitored" in call for call in scenario["calls"])
    return found | {scenario["graph"], "two sessions" if sessions > 1 else "one session"}


def listed(value):
    return value if isinstance(value, list) else [value]
