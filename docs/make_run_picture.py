#!/usr/bin/env python3
"""Draws docs/run.svg from a real run: docs/make_run_picture.py [PROGRAM]

PROGRAM is build/examples/train_digits. It is started in a new folder, killed with SIGKILL at three steps, and started
again each time until it reaches the last step. What is drawn is what it printed, when it printed it, and when its
checkpoints say that they were written. Needs nothing beyond Python.
"""

import json
import math
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
LAST_STEP = 2000
KILL_AT = (530, 1080, 1470)
LINE = re.compile(r"(step|resumed from step|started at step) (\d+)(?:  loss (\S+))?")


class Start:
    """One process: when it was started, where it went on, what it printed, and when it was killed."""

    def __init__(self):
        self.time = time.time()
        self.first_step = None
        self.ready = None
        self.points = []  # (time, step, loss)
        self.killed = None


def note_checkpoints(folder, saved):
    """Retention deletes old checkpoints, so this looks often: {step: time}."""
    for path in pathlib.Path(folder).glob("model.ckpt-*.belay.json"):
        step = int(path.name.split("-")[1].split(".")[0])
        if step in saved:
            continue
        try:
            saved[step] = json.loads(path.read_text(encoding="utf-8"))["saved_unix_ms"] / 1000
        except FileNotFoundError:
            pass  # it was deleted just now


def run_once(program, folder, kill_at, saved):
    start = Start()
    command = [program, folder, str(LAST_STEP), "1"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        for line in process.stdout:
            match = LINE.match(line)
            if not match:
                continue
            now, step = time.time(), int(match[2])
            if match[1] != "step":
                start.first_step, start.ready = step, now
            else:
                start.points.append((now, step, float(match[3])))
                if step % 10 == 0:
                    note_checkpoints(folder, saved)
            if kill_at and step >= kill_at and not start.killed:
                process.send_signal(signal.SIGKILL)
                start.killed = time.time()
    if not start.killed and process.returncode != 0:
        sys.exit(f"{program} ended with {process.returncode}")
    note_checkpoints(folder, saved)
    return start


def run(program):
    saved = {}
    with tempfile.TemporaryDirectory() as folder:
        starts = [run_once(program, folder, kill_at, saved) for kill_at in (*KILL_AT, None)]
    return starts, saved


def largest_difference(starts):
    """Steps that were lost with a killed process are run again; did they give the same loss?"""
    seen, differences = {}, [0.0]
    for start in starts:
        for _, step, loss in start.points:
            if step in seen:
                differences.append(abs(seen[step] - loss))
            seen[step] = loss
    return len(differences) - 1, max(differences)


# ---- drawing ----

WIDTH, LEFT, RIGHT = 880, 64, 20
INK, FAINT, LINE_COLOUR, KILL, AGAIN = "#24292f", "#d0d7de", "#0b62b5", "#c8102e", "#1a7f37"


class Panel:
    """A rectangle with scales; y grows upwards."""

    def __init__(self, top, height, x_range, y_range, log_y=False):
        self.top, self.height, self.x_range, self.y_range, self.log_y = top, height, x_range, y_range, log_y

    def x(self, value):
        low, high = self.x_range
        return LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def y(self, value):
        low, high = self.y_range
        if self.log_y:
            value, low, high = math.log10(max(value, low)), math.log10(low), math.log10(high)
        return self.top + self.height * (1 - (value - low) / (high - low))

    def frame(self, x_ticks, y_ticks, x_label, y_label):
        bottom = self.top + self.height
        out = []
        for value in y_ticks:
            out.append(line(LEFT, self.y(value), WIDTH - RIGHT, self.y(value), FAINT))
            out.append(text(LEFT - 8, self.y(value) + 4, f"{value:g}", "end"))
        for value in x_ticks:
            out.append(text(self.x(value), bottom + 18, f"{value:g}", "middle"))
        out.append(line(LEFT, bottom, WIDTH - RIGHT, bottom, INK))
        out.append(text(WIDTH - RIGHT, bottom + 34, x_label, "end"))
        out.append(text(LEFT, self.top - 10, y_label, "start", weight="bold"))
        return out


def line(x1, y1, x2, y2, colour, width=1.0, dash=""):
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="{width}"{dashes}/>'


def text(x, y, words, anchor, colour=INK, weight="normal"):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}" font-weight="{weight}">{words}</text>'


def path(points, colour, width):
    spots = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{spots}" fill="none" stroke="{colour}" stroke-width="{width}" stroke-linejoin="round"/>'


def cross(x, y):
    return line(x - 5, y - 5, x + 5, y + 5, KILL, 2.5) + line(x - 5, y + 5, x + 5, y - 5, KILL, 2.5)


def dot(x, y):
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{AGAIN}"/>'


def draw_steps(starts, saved):
    """Global step over time: up, killed, started again from the newest checkpoint."""
    begin = starts[0].time
    end = starts[-1].points[-1][0] - begin
    panel = Panel(44, 190, (0, end), (0, LAST_STEP))
    ticks = [n * 0.5 for n in range(int(end / 0.5) + 1)]
    out = panel.frame(ticks, range(0, LAST_STEP + 1, 500), "seconds", "global step")
    for step, when in saved.items():
        x, y = panel.x(when - begin), panel.y(step)
        out.append(line(x, y - 4, x, y + 4, INK, 1.2))
    for number, start in enumerate(starts):
        points = [(start.ready, start.first_step)] + [(t, s) for t, s, _ in start.points]
        out.append(path([(panel.x(t - begin), panel.y(s)) for t, s in points[::5] + points[-1:]], LINE_COLOUR, 2))
        if number:
            x, y = panel.x(start.ready - begin), panel.y(start.first_step)
            out.append(dot(x, y))
            out.append(text(x, y + 18, f"resumed from {start.first_step}", "middle", AGAIN))
        if start.killed:
            x, y = panel.x(points[-1][0] - begin), panel.y(points[-1][1])
            out.append(cross(x, y))
            out.append(text(x - 10, y - 8, f"kill -9 at {points[-1][1]}", "end", KILL))
    return out


def draw_loss(starts):
    """Loss by step. What was lost with a killed process is drawn twice, and falls on the same line."""
    losses = [p[2] for start in starts for p in start.points]
    low = 10 ** math.floor(math.log10(max(min(losses), 1e-3)))
    panel = Panel(320, 170, (0, LAST_STEP), (low, max(losses)), log_y=True)
    y_ticks = [10.0**n for n in range(round(math.log10(low)), 1)]
    out = panel.frame(range(0, LAST_STEP + 1, 500), y_ticks, "global step", "loss of the batch")
    for start in starts:
        out.append(path([(panel.x(s), panel.y(v)) for _, s, v in start.points], LINE_COLOUR, 0.8))
    for before, after in zip(starts, starts[1:]):
        killed, again = panel.x(before.points[-1][1]), panel.x(after.first_step)
        top, bottom = panel.top, panel.top + panel.height
        out.append(f'<rect x="{again:.1f}" y="{top}" width="{killed - again:.1f}" height="{panel.height}" '
                   f'fill="{KILL}" fill-opacity="0.12"/>')
        out.append(line(killed, top, killed, bottom, KILL, 1.2, "4 3"))
        out.append(line(again, top, again, bottom, AGAIN, 1.2))
    return out


def svg(starts, saved):
    count, difference = largest_difference(starts)
    height = 580
    said = "the same losses, to six digits" if difference == 0 else f"the same losses, to {difference:.0e}"
    caption = [
        f"examples/c/train_digits.c, {LAST_STEP} steps, started {len(starts)} times and killed {len(starts) - 1} times."
        " Ticks: checkpoints.",
        f"The {count} steps that were lost (red) ran again from the checkpoint (green), on the same batches: {said}.",
    ]
    body = draw_steps(starts, saved) + draw_loss(starts)
    body += [text(LEFT, height - 34 + 18 * n, words, "start") for n, words in enumerate(caption)]
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'font-family="DejaVu Sans, Verdana, sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>', *body, "</svg>\n"])


def main():
    program = os.path.abspath(sys.argv[1]) if len(sys.argv) > 1 else str(ROOT / "build/examples/train_digits")
    starts, saved = run(program)
    (ROOT / "docs/run.svg").write_text(svg(starts, saved), encoding="utf-8")
    count, difference = largest_difference(starts)
    print(f"docs/run.svg: {len(starts)} starts, {count} steps ran twice, largest difference of their losses {difference}")


if __name__ == "__main__":
    main()
