"""Runs belay, its peer and the limit side by side, alternating, and compares them. Called by scripts/bench.sh.

    bench.py --build FOLDER --python PYTHON [--quick] [NAME …]

Prints a table and writes FOLDER/bench.jsonl, one object for each case. A side is measured in a process of its own, as
often as the others and in turn with them, so that a disturbance of the machine meets all of them.
"""

import argparse
import contextlib
import json
import os
import select
import socket
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))

# Every case of the contract, and those that are built.
NAMES = (
    "step_tiny step_mlp step_keras hook_idle startup memory save_stall save_rate restore_rate "
    "verify_rate events_rate resume_local recover_ps worker_join step_ps"
).split()

RUNS = 5
SIDE_TIMEOUT_SECS = 300
# The first run counts as different where it is off the median by more than this share.
FIRST_DIFFERS = 0.2


class SideFailed(Exception):
    """A side did not run, or not to its end. The text says why in one line."""


class Bench:
    """Where everything is, and how a side is run."""

    def __init__(self, build, python, quick):
        self.build = os.path.abspath(build)
        self.folder = os.path.join(self.build, "bench")
        self.python = os.path.abspath(python)  # not resolved: it is a link that makes the environment
        self.quick = quick
        self.graphs = self._export_graphs()

    def _export_graphs(self):
        names = os.path.join(self.folder, "graphs.json")
        scripts = ("export_graphs.py", "models.py", "../python/belay_export.py")
        sources = [os.path.join(HERE, script) for script in scripts]
        if not os.path.exists(names) or any(
            os.path.getmtime(names) < os.path.getmtime(source) for source in sources
        ):
            self.run([self.python, sources[0], self.folder])
        with open(names, encoding="utf-8") as file:
            return json.load(file)

    def path(self, name):
        return os.path.join(self.folder, name)

    def script(self, name):
        return [self.python, os.path.join(HERE, name)]

    def run(self, command):
        """Runs a side to its end. Returns when it started, its output, and its peak memory in KiB."""
        started, out, _, peak = self.run_whole(command)
        return started, out, peak

    def run_whole(self, command):
        """The same, with what it wrote to standard error."""
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            started = time.monotonic()
            process = start(command, out, err)
            status, usage = wait(process)
            out.seek(0)
            err.seek(0)
            said = err.read()
            if status != 0:
                raise SideFailed(why_it_failed(command, status, said))
            return started, out.read().decode(), said.decode(errors="replace"), usage.ru_maxrss

    def run_json(self, command):
        """Runs a side whose last line of output is its result."""
        started, out, _ = self.run(command)
        return started, json.loads(out.splitlines()[-1])


def start(command, out, err):
    environment = dict(os.environ, TF_CPP_MIN_LOG_LEVEL="3")
    try:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=environment
        )
    except OSError as error:
        raise SideFailed(f"{os.path.basename(command[0])}: {error.strerror}") from error


def wait(process):
    """Waits with wait4, which tells the peak memory of just this process."""
    deadline = time.monotonic() + SIDE_TIMEOUT_SECS
    pidfd = os.pidfd_open(process.pid)
    try:
        if not wait_readable(pidfd, deadline):
            process.kill()
        _, status, usage = os.wait4(process.pid, 0)
    finally:
        os.close(pidfd)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage


def wait_readable(descriptor, deadline):
    return bool(select.select([descriptor], [], [], max(0, deadline - time.monotonic()))[0])


def why_it_failed(command, status, err):
    words = [line for line in err.decode(errors="replace").splitlines() if line.strip()]
    script = next((part for part in command if part.endswith(".py")), command[0])
    how = f"killed by signal {-status}" if status < 0 else f"exit {status}"
    return f"{os.path.basename(script)}: {how}: {words[-1] if words else 'it said nothing'}"


# --- cases -----------------------------------------------------------------------------------------


class Case:
    """One row of the table. A side is a function of (bench, scratch folder) that returns a figure."""

    def __init__(self, name, unit, better, belay, peer_name, peer, limit_name, limit):
        self.name, self.unit, self.better = name, unit, better
        self.peer_name, self.limit_name = peer_name, limit_name
        self.sides = {"belay": belay, "peer": peer, "limit": limit}


def session_arguments(bench, graph, scratch, warmup, steps, raw=False):
    """The arguments that belay_session, raw_session and peer_session.py share."""
    names = bench.graphs[graph]
    arguments = [bench.path(names["graph_def"] if raw and "graph_def" in names else names["graph"])]
    if not raw:
        arguments += ["--dir", scratch]
    for key in ("init", "target", "fetch", "x", "y"):
        if key in names and (raw or key != "init"):
            arguments += ["--" + key, names[key]]
    if "x" in names:
        arguments += ["--data", bench.folder]
    return arguments + ["--warmup", str(warmup), "--steps", str(steps)]


def c_session(bench, program, graph, scratch, warmup, steps):
    raw = program == "raw_session"
    arguments = session_arguments(bench, graph, scratch, warmup, steps, raw)
    return [bench.path(program)] + arguments


def step_us(program, graph, steps, more=()):
    """Microseconds of a step in a C program, after a warm-up in which belay chooses how to run it."""

    def side(bench, scratch):
        n = steps // 5 if bench.quick else steps
        command = c_session(bench, program, graph, scratch, 2000, n) + list(more)
        return bench.run_json(command)[1]["us_per_step"]

    return side


def peer_step_us(graph, steps, more=()):
    def side(bench, scratch):
        n = steps // 5 if bench.quick else steps
        command = bench.script("peer_session.py")
        command += session_arguments(bench, graph, scratch, 500, n) + list(more)
        return bench.run_json(command)[1]["us_per_step"]

    return side


def on_parameter_server(side_of):
    """A side with a parameter server of its own as master; `side_of` takes the arguments that name it."""

    def side(bench, scratch):
        with parameter_server(bench) as target:
            return side_of(["--master", target])(bench, scratch)

    return side


@contextlib.contextmanager
def parameter_server(bench):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [os.path.join(bench.build, "belay"), "server", "--cluster", f"ps={address}"]
    server = start(command, subprocess.DEVNULL, subprocess.DEVNULL)
    try:
        await_listener(server, address)
        yield "grpc://" + address
    finally:
        server.kill()
        server.wait()


def await_listener(server, address):
    host, port = address.split(":")
    deadline = time.monotonic() + SIDE_TIMEOUT_SECS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            socket.create_connection((host, int(port))).close()
            return
        except ConnectionRefusedError:
            time.sleep(0.05)
    raise SideFailed("belay server does not listen")


def events_per_second(command_of, count):
    """Scalar events a second; `command_of` says who writes them, before folder and count."""

    def side(bench, scratch):
        n = count // 5 if bench.quick else count
        command, options = command_of(bench)
        return bench.run_json(command + [scratch, str(n)] + options)[1]["events_per_second"]

    return side


def keras_fit_us(steps):
    def side(bench, _):
        n = steps // 5 if bench.quick else steps
        command = bench.script("peer_keras.py") + ["--data", bench.folder, "--steps", str(n)]
        return bench.run_json(command)[1]["us_per_step"]

    return side


def first_step_secs(command_of):
    """Seconds from exec to the first finished step, by the process's own clock."""

    def side(bench, scratch):
        started, result = bench.run_json(command_of(bench, scratch))
        return result["first_step_at"] - started

    return side


def first_progress_secs(command_of):
    """Seconds from exec to the first finished step of the belay command, by the time in its log."""

    def side(bench, scratch):
        command = command_of(bench, scratch) + ["--log-format", "json"]
        started_unix = time.time()
        _, _, said, _ = bench.run_whole(command)
        for line in said.splitlines():
            if '"event":"progress"' in line.replace(" ", ""):
                return json.loads(line)["time_unix_seconds"] - started_unix
        raise SideFailed("belay train told of no finished step")

    return side


def peak_mib(command_of):
    def side(bench, scratch):
        return bench.run(command_of(bench, scratch))[2] / 1024

    return side


def peer_session(graph, warmup):
    return lambda bench, scratch: bench.script("peer_session.py") + session_arguments(
        bench, graph, scratch, warmup, 0
    )


def raw_session(graph, warmup):
    return lambda bench, scratch: c_session(bench, "raw_session", graph, scratch, warmup, 0)


def belay_train(graph, steps):
    """The belay command on the same graph and data, in the same order."""

    def command(bench, scratch):
        names = bench.graphs[graph]
        command = [os.path.join(bench.build, "belay"), "train", bench.path(names["graph"])]
        command += ["--dir", scratch, "--steps", str(steps)]
        if "x" in names:
            for key in ("x", "y"):
                command += ["--feed", f"{names[key]}={bench.path(key + '.npy')}"]
            command += ["--batch", "32", "--no-shuffle", "--fetch", names["fetch"]]
        return command

    return command


MONITORED = "Python MonitoredTrainingSession"
RAW = "raw TF_SessionRun"
RAW_CALLER = "raw TF_SessionRun, calling thread"

CASES = {
    case.name: case
    for case in (
        Case(
            "step_tiny", "us", "lower",
            step_us("belay_session", "tiny", 200_000),
            MONITORED, peer_step_us("tiny", 10_000),
            RAW_CALLER, step_us("raw_session", "tiny", 200_000),
        ),
        Case(
            "step_mlp", "us", "lower",
            step_us("belay_session", "mlp", 20_000),
            MONITORED, peer_step_us("mlp", 10_000),
            RAW_CALLER, step_us("raw_session", "mlp", 20_000),
        ),
        Case(
            "step_keras", "us", "lower",
            step_us("belay_session", "keras", 20_000),
            "Keras fit", keras_fit_us(10_000),
            RAW_CALLER, step_us("raw_session", "keras", 20_000),
        ),
        Case(
            "startup", "s", "lower",
            first_progress_secs(belay_train("tiny", 1)),
            MONITORED, first_step_secs(peer_session("tiny", 1)),
            "exec to first " + RAW, first_step_secs(raw_session("tiny", 1)),
        ),
        Case(
            "memory", "MiB", "lower",
            peak_mib(belay_train("mlp", 200)),
            MONITORED, peak_mib(peer_session("mlp", 200)),
            RAW, peak_mib(raw_session("mlp", 200)),
        ),
        Case(
            "events_rate", "1/s", "higher",
            events_per_second(lambda bench: ([bench.path("belay_events")], []), 1_000_000),
            "Python FileWriter",
            events_per_second(lambda bench: (bench.script("peer_events.py"), []), 100_000),
            "write of the same bytes",
            events_per_second(lambda bench: ([bench.path("belay_events")], ["--write"]), 1_000_000),
        ),
        Case(
            "step_ps", "us", "lower",
            on_parameter_server(lambda master: step_us("belay_session", "tiny", 10_000, master)),
            MONITORED, on_parameter_server(lambda master: peer_step_us("tiny", 5_000, master)),
            RAW, on_parameter_server(lambda master: step_us("raw_session", "tiny", 10_000, master)),
        ),
    )
}


# --- measuring -------------------------------------------------------------------------------------


def measure(bench, case):
    """The figures of each side, by side, and the reason of each that cannot run."""
    figures = {side: [] for side in case.sides}
    failures = {}
    for _ in range(RUNS):
        for side, run in case.sides.items():
            if side in failures:
                continue
            with tempfile.TemporaryDirectory(prefix="run.", dir=bench.folder) as scratch:
                try:
                    figures[side].append(run(bench, os.path.join(scratch, "run")))
                except SideFailed as failure:
                    failures[side] = str(failure)
    return figures, failures


def result_of(case, figures, failures):
    """The object that is written for a case whose belay side ran."""
    medians = {
        side: None if side in failures else statistics.median(values)
        for side, values in figures.items()
    }
    belay, peer, limit = medians["belay"], medians["peer"], medians["limit"]
    lower = case.better == "lower"
    result = {
        "name": case.name,
        "unit": case.unit,
        "better": case.better,
        "belay": rounded(belay),
        "peer": rounded(peer),
        "peer_name": case.peer_name,
        "vs_peer": rounded(ratio(peer, belay) if lower else ratio(belay, peer)),
        "limit": rounded(limit),
        "limit_name": case.limit_name,
        "vs_limit": rounded(ratio(belay, limit) if lower else ratio(limit, belay)),
        "runs": len(figures["belay"]),
    }
    first = figures["belay"][0]
    if abs(first - belay) > FIRST_DIFFERS * belay:
        result["first"] = rounded(first)
    return result


def ratio(above, below):
    return None if above is None or not below else above / below


def rounded(value):
    return None if value is None else float(f"{value:.4g}")


# --- showing ---------------------------------------------------------------------------------------

COLUMNS = ("name", "unit", "belay", "peer", "vs_peer", "limit", "vs_limit", "runs", "first")


def cell(result, column):
    value = result.get(column)
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.2f}" if value < 100 else f"{value:.0f}"
    return str(value)


def print_table(results):
    rows = [COLUMNS] + [[cell(result, column) for column in COLUMNS] for result in results]
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
    for row in rows:
        texts = [text.ljust(width) for text, width in zip(row[:2], widths)]
        numbers = [text.rjust(width) for text, width in zip(row[2:], widths[2:])]
        print("  ".join(texts + numbers).rstrip())
    print("vs_peer: times better than the peer. vs_limit: cost over the limit's (1: at the limit).")
    for result in results:
        print(f"{result['name']}: peer {result['peer_name']}; limit {result['limit_name']}")


def write_results(bench, results):
    path = os.path.join(bench.build, "bench.jsonl")
    with open(path + ".partial", "w", encoding="utf-8") as file:
        file.writelines(json.dumps(result) + "\n" for result in results)
    os.replace(path + ".partial", path)


def say(text):
    print(text, file=sys.stderr, flush=True)


def parse_arguments():
    parser = argparse.ArgumentParser(prog="scripts/bench.sh", allow_abbrev=False)
    parser.add_argument("--build", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--python", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--check", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--quick", action="store_true", help="a fifth of the steps in each run")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    arguments = parser.parse_args()
    check_names(parser, arguments.names)
    return arguments


def check_names(parser, names):
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        parser.error(f"no benchmark is called {', '.join(unknown)}; there are: {', '.join(NAMES)}")
    missing = [name for name in names if name not in CASES]
    if missing:
        parser.error(f"not built yet: {', '.join(missing)}")


def main():
    arguments = parse_arguments()
    if arguments.check:
        return 0
    names = arguments.names or [name for name in NAMES if name in CASES]
    try:
        bench = Bench(arguments.build, arguments.python, arguments.quick)
    except SideFailed as failure:
        say(f"the graphs could not be exported, so nothing can be measured: {failure}")
        return 1
    results, failed = [], False
    for name in names:
        case = CASES[name]
        say(f"== {name}: {RUNS} runs of belay, {case.peer_name} and {case.limit_name}, in turn")
        figures, failures = measure(bench, case)
        for side, reason in failures.items():
            say(f"{name}: {side} cannot be run here, so there is no ratio to it: {reason}")
        if "belay" in failures:
            failed = True
        else:
            results.append(result_of(case, figures, failures))
    write_results(bench, results)
    if results:
        print_table(results)
    if not arguments.names:
        say("not built yet: " + ", ".join(name for name in NAMES if name not in CASES))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
