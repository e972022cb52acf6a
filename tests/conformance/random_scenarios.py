"""Random scenarios on monitored sessions: the same seed always makes the same one.

A scenario opens one or two sessions on one of the loop graphs, with hooks that fetch, feed, fail, stop and report as
chance has it, trains, and ends. What would leave the outcome to a race is left out: where queue runners feed the steps,
nothing is run between a stop and what follows from it.
"""

import random

CODES = (
    "CANCELLED UNKNOWN INVALID_ARGUMENT DEADLINE_EXCEEDED NOT_FOUND ALREADY_EXISTS PERMISSION_DENIED "
    "RESOURCE_EXHAUSTED FAILED_PRECONDITION UNIMPLEMENTED INTERNAL DATA_LOSS UNAUTHENTICATED NAN_LOSS"
).split()
GRAPHS = ["loop"] * 5 + ["loop_ref"] * 3 + ["loop_input"] * 3 + ["loop_queue"] * 3 + ["loop_no_step"]
FETCHES = ["sum:0", "loss:0", "after:0", "w_after:0"]
NO_SAVES = {"save_checkpoint_secs": None, "log_step_count_steps": None, "save_summaries_steps": None,
            "save_summaries_secs": None}


class Maker:
    def __init__(self, seed):
        self.chance = random.Random(seed)
        self.graph = self.one_of(GRAPHS)
        self.has_step = self.graph != "loop_no_step"
        self.has_queue = self.graph == "loop_queue"
        self.names = iter("abcdefghijklmnopqr")
        self.calm = False  # nothing else fails

    def maybe(self, probability):
        return self.chance.random() < probability

    def one_of(self, choices):
        return self.chance.choice(choices)

    def number(self, most):
        return self.chance.randint(1, most)

    def code(self, of_tensorflow=False):
        if self.maybe(0.5):
            return self.one_of(["ABORTED", "UNAVAILABLE"])
        if of_tensorflow:
            return self.one_of(CODES[:-1] + ["OUT_OF_RANGE"])
        return self.one_of(["OUT_OF_RANGE", "STOPPED"]) if self.maybe(0.3) else self.one_of(CODES)

    def some(self, choices, most):
        return self.chance.sample(choices, self.chance.randint(0, min(most, len(choices))))

    # ---- hooks

    def failure(self, points):
        at = self.one_of(points)
        most = {"begin": 1, "listener_begin": 1, "end": 1, "listener_end": 1, "after_create_session": 2}.get(at, 5)
        return {"at": at, "time": self.number(most), "code": self.code()}

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
            return {"report": None if self.maybe(0.3) else self.code(), "time": self.number(2)}
        return {"run": [], "fetch": ["sum:0"], "on": "i"}

    def scripted_hook(self):
        made = self.script(["begin"] + ["after_create_session"] * 3 + ["before_run", "after_run"] * 4 + ["end"] * 2)
        fetch = self.some(FETCHES, 2)
        if fetch:
            made["fetch"] = fetch
        if self.maybe(0.15):
            made["feed"] = {self.one_of(["x:0", "z:0"]): self.number(9)}
        for key in ("stop_at", "stop_before"):
            if self.maybe(0.12):
                made[key] = self.number(5)
        return made

    def checkpoint_hook(self):
        options = {"checkpoint_dir": "$", "save_steps": self.number(3)}
        if self.maybe(0.6):
            options["listeners"] = [self.listener() for _ in range(self.number(2))]
        return {"checkpoint_saver": options}

    def listener(self):
        made = self.script(["listener_begin"] + ["before_save", "after_save"] * 3 + ["listener_end"])
        if self.maybe(0.2):
            made["stop_at"] = self.number(4)
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
        self.chance.shuffle(made)
        return made

    # ---- faults

    def faults(self):
        made = []
        if self.maybe(0.3) and not self.calm:
            op = self.one_of(["train"] * 4 + ["init", "local_init", "save/restore_all"])
            made.append({"fault": op, "runs": self.number(5) if op == "train" else self.number(2), "code": self.code(of_tensorflow=True)})
            if op == "train" and self.maybe(0.3):
                made[-1]["after"] = True
        return made

    # ---- calls

    def session(self):
        kind = self.one_of(["plain", "plain", "singular", "training"])
        call = {"monitored": "t", "kind": kind}
        saves = False
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
        for _ in range(self.number(4)):
            calls += self.act(kind)
        return calls + [{"end": "t"}, {"latest": "$"}]

    def act(self, kind):
        if self.maybe(0.65) or self.calm:
            return [self.train()]
        choices = ["should_stop", "report", "loop"] + (["raw"] if kind == "singular" else [])
        choice = self.one_of(choices)
        if choice == "should_stop":
            return [{"should_stop": "t"}]
        if choice == "report":
            report = {"report": None if self.maybe(0.3) else self.code()}
            return [report, {"until_stopped": None}, {"should_stop": "t"}]
        if choice == "loop":
            return [{"loop": "h", "fails_at": self.number(3), "code": self.code()}, {"until_stopped": None}]
        return [{"raw_session": "t"}, {"run": [], "fetch": ["sum:0"]}]

    def train(self):
        call = {"train": ["train"] if self.maybe(0.9) else [], "times": self.number(4), "fetch": self.some(FETCHES, 2)}
        if self.maybe(0.2):
            call["feed"] = {self.one_of(["x:0", "z:0"]): self.one_of([-1, 2, 3])}
        if self.maybe(0.15):
            call["train"] = call["train"] + ["checked"]
        if self.maybe(0.1) and not self.has_queue:
            call["even_if_stopped"] = True
        return call


def scenario(seed):
    m = Maker(seed)
    calls = m.session()
    if m.maybe(0.3):
        calls += [{"load": f"#{m.graph}"}] + m.session()
    return {"name": f"random_{seed}", "rows": ["WS-01"], "graph": m.graph, "calls": calls}
