#!/usr/bin/env python3
"""Measures `safepoint supervise` beside tini and dumb-init in one run and prints the table of docs/src/benchmarks.md.

Every figure is measured in turns over all of them, so that a machine whose speed drifts drifts for all. Needs a release
build (it makes one), tini and dumb-init (`scripts/setup` installs them).
"""

from __future__ import annotations

import argparse
import glob
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Says when it got a signal, on the clock that we read, too.
LISTENER = """\
import os, signal, time
def tell(*_):
    os.write(1, b"%d\\n" % time.clock_gettime_ns(time.CLOCK_MONOTONIC))
signal.signal(signal.SIGUSR2, tell)
os.write(1, b"up\\n")
while True:
    signal.pause()
"""


@dataclass
class Parent:
    """A way to start a command."""

    name: str
    words: list[str]


def start_and_end(parent: Parent, place: Path) -> float:
    """Milliseconds from the start of a command that does nothing to the end of its parent."""
    began = time.perf_counter()
    subprocess.run([*parent.words, "true"], cwd=place, stderr=subprocess.DEVNULL, check=True)
    return (time.perf_counter() - began) * 1e3


def signals(parent: Parent, place: Path, count: int) -> list[float]:
    """Microseconds from the kill to the command's handler, for each of so many signals."""
    command = [*parent.words, sys.executable, "-S", "-c", LISTENER]
    times = []
    with subprocess.Popen(command, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout
        process.stdout.readline()
        for _ in range(count):
            sent = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
            os.kill(process.pid, signal.SIGUSR2)
            times.append((int(process.stdout.readline()) - sent) / 1e3)
            # Two signals of one number that wait count as one.
            time.sleep(0.001)
        os.kill(process.pid, signal.SIGTERM)
        process.stdout.read()
    return times


def own_memory(parent: Parent, place: Path) -> tuple[float, int]:
    """MiB that the parent and its guard have while they wait (PSS), and their clock ticks of processor time in 2 s."""
    command = [*parent.words, "sleep", "60"]
    with subprocess.Popen(command, cwd=place, stderr=subprocess.DEVNULL) as process:
        time.sleep(1)
        pids = [process.pid]
        for pid in children(process.pid):
            if Path(f"/proc/{pid}/comm").read_text().strip() != "sleep":
                pids.append(pid)
        mib = sum(pss(pid) for pid in pids) / 1024
        before = sum(ticks(pid) for pid in pids)
        time.sleep(2)
        used = sum(ticks(pid) for pid in pids) - before
        process.terminate()
    return mib, used


def children(pid: int) -> list[int]:
    """The children of all threads of a process."""
    files = glob.glob(f"/proc/{pid}/task/*/children")
    return [int(word) for file in files for word in Path(file).read_text().split()]


def pss(pid: int) -> int:
    """The proportional set size of a process in KiB."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    return 0


def ticks(pid: int) -> int:
    """The processor time of a process in clock ticks."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def output_rate(parent: Parent, place: Path, mebibytes: int) -> float:
    """GB/s from the command through a pipe to a reader that does nothing with it."""
    command = [*parent.words, "dd", "if=/dev/zero", "bs=1M", f"count={mebibytes}"]
    began = time.perf_counter()
    with subprocess.Popen(command, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout
        with open("/dev/null", "wb") as sink:
            subprocess.run(["cat"], stdin=process.stdout, stdout=sink, check=True)
    return mebibytes * 1048576 / (time.perf_counter() - began) / 1e9


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200, help="starts and signals of each")
    arguments = parser.parse_args()
    build = ["cargo", "build", "--quiet", "--release", "--package", "safepoint-cli"]
    subprocess.run(build, cwd=ROOT, check=True)
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    safepoint = str(target.resolve() / "release" / "safepoint")
    parents = [
        Parent("nothing (`env`)", ["env"]),
        Parent("tini", ["tini", "-s", "--"]),
        Parent("dumb-init", ["dumb-init", "--"]),
        Parent("supervise", [safepoint, "supervise", "-qq", "--"]),
        Parent("supervise `--no-state`", [safepoint, "supervise", "-qq", "--no-state", "--"]),
        Parent("supervise `--idle-limit`", [safepoint, "supervise", "-qq", "--idle-limit=1h", "--"]),
    ]
    starts: dict[str, list[float]] = {parent.name: [] for parent in parents}
    arrivals: dict[str, list[float]] = {parent.name: [] for parent in parents}
    rates: dict[str, list[float]] = {parent.name: [] for parent in parents}
    memory: dict[str, tuple[float, int]] = {}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for number in range(arguments.rounds):
            for parent in parents:
                starts[parent.name].append(start_and_end(parent, place))
            if number % 20 == 0:
                for parent in parents:
                    arrivals[parent.name] += signals(parent, place, 20)
            if number % 50 == 0:
                for parent in parents:
                    rates[parent.name].append(output_rate(parent, place, 2000))
        for parent in parents:
            memory[parent.name] = own_memory(parent, place)
    columns = ["start and end, ms", "more than nothing", "a signal, µs", "at most"]
    columns += ["own memory, MiB", "idle, ticks in 2 s", "output, GB/s"]
    print("| a command below | " + " | ".join(columns) + " |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|")
    nothing = statistics.median(starts[parents[0].name])
    for parent in parents:
        took = statistics.median(starts[parent.name])
        arrived = arrivals[parent.name]
        mib, used = memory[parent.name]
        figures = [f"{took:.2f}", f"{took - nothing:.2f}"]
        figures += [f"{statistics.median(arrived):.0f}", f"{max(arrived):.0f}"]
        figures += [f"{mib:.1f}", str(used), f"{max(rates[parent.name]):.2f}"]
        print(f"| {parent.name} | " + " | ".join(figures) + " |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
