#!/usr/bin/env python3
"""Measures safepoint beside its peers in one run and prints the table of docs/src/benchmarks.md.

Every figure that is compared is measured in turns (ours, peer, ours, peer, ...) and given as the median, so that a
machine whose speed drifts drifts for both. Needs a release build (it makes one), GNU parallel and xargs.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
QUIET = ["--progress", "none", "--output", "none", "-qq"]

PYTHON_WORKER = """\
import json, sys
for line in sys.stdin:
    request = json.loads(line)
    print(json.dumps({"id": request["id"], "result": request["item"]}), flush=True)
"""


@dataclass
class Row:
    """One line of the table."""

    what: str
    figure: str
    target: str
    reached: bool


class Bench:
    """A scratch directory, the binaries, and the measuring."""

    def __init__(self, scratch: Path, release: Path, rounds: int) -> None:
        self.scratch = scratch
        self.safepoint = release / "safepoint"
        self.echo = release / "echo-worker"
        self.rounds = rounds
        self.rows: list[Row] = []
        self.peak_mib = 0.0

    def lines(self, count: int) -> Path:
        """A file of `count` lines, each its own number."""
        path = self.scratch / f"lines-{count}.txt"
        if not path.exists():
            with path.open("w") as out:
                for number in range(count):
                    out.write(f"{number}\n")
        return path

    def run(self, source: Path, *arguments: str, fresh: bool = True, ok: tuple[int, ...] = (0,)) -> float:
        """The wall time of one `safepoint run`, in seconds."""
        if fresh:
            shutil.rmtree(self.scratch / ".safepoint", ignore_errors=True)
        command = [str(self.safepoint), "run", str(source), *QUIET, *arguments]
        began = time.perf_counter()
        process = subprocess.Popen(command, cwd=self.scratch)
        _, status, usage = os.wait4(process.pid, 0)
        took = time.perf_counter() - began
        # The largest of the process and its children.
        self.peak_mib = usage.ru_maxrss / 1024
        code = process.returncode = os.waitstatus_to_exitcode(status)
        if code not in ok:
            raise SystemExit(f"{command} ended with {code}")
        return took

    def peer(self, script: str) -> float:
        """The wall time of a peer's command line, in seconds."""
        began = time.perf_counter()
        subprocess.run(["sh", "-c", script], cwd=self.scratch, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - began

    def in_turns(self, *measures: Callable[[], float]) -> list[list[float]]:
        """Each measure's times, taken in turns."""
        times: list[list[float]] = [[] for _ in measures]
        for _ in range(self.rounds):
            for place, measure in enumerate(measures):
                times[place].append(measure())
        return times

    def add(self, what: str, figure: str, target: str, reached: bool) -> None:
        self.rows.append(Row(what, figure, target, reached))
        print(f"{'ok  ' if reached else 'MISS'} {what}: {figure} (target {target})", file=sys.stderr)

    def commands(self, count: int) -> None:
        source = self.lines(count)
        ours, xargs, parallel = self.in_turns(
            lambda: self.run(source, "-j2", "--", "true"),
            lambda: self.peer(f"xargs -P2 -n1 true < {source}"),
            lambda: self.peer(f"rm -rf joblog out; parallel -j2 --joblog joblog --results out true < {source}"),
        )
        for name, peer, least in (("xargs -P2 -n1", xargs, 1.0), ("parallel -j2 --joblog --results", parallel, 8.0)):
            ratio = statistics.median(b / a for a, b in zip(ours, peer, strict=True))
            rates = f"{count / statistics.median(ours):,.0f}/s against {count / statistics.median(peer):,.0f}/s"
            self.add(
                f"{count:,} items of `true`, two at a time, durable, against `{name}`",
                f"{ratio:.2f} x ({rates})",
                f"{least:g} x",
                ratio >= least,
            )

    def workers(self, compiled: int, scripted: int) -> None:
        worker = self.scratch / "echo.py"
        worker.write_text(PYTHON_WORKER)
        fast, slow = self.in_turns(
            lambda: self.run(self.lines(compiled), "-j1", "--pipeline", "64", "--worker", "--", str(self.echo)),
            lambda: self.run(self.lines(scripted), "-j2", "--pipeline", "32", "--worker", "--", "python3", str(worker)),
        )
        for what, count, times, least in (
            ("a compiled echo worker", compiled, fast, 100_000),
            ("two Python echo workers", scripted, slow, 40_000),
        ):
            rate = count / statistics.median(times)
            self.add(f"{what}, 64 in flight, durable", f"{rate:,.0f} items/s", f"{least:,} items/s", rate >= least)

    def large(self, count: int) -> None:
        source = self.lines(count)
        first = statistics.median(
            self.run(source, "-j1", "--limit", "1", "--", "true", ok=(75,)) for _ in range(self.rounds)
        )
        self.add(f"{count:,} lines: start, first item done, stopped", f"{first * 1000:.0f} ms", "200 ms", first <= 0.2)
        arguments = ("-j1", "--pipeline", "64", "--worker", "--", str(self.echo))
        small_count = 10_000
        small = statistics.median(self.run(self.lines(small_count), *arguments) for _ in range(self.rounds))
        whole = self.run(source, *arguments)
        ratio = (whole / count) / (small / small_count)
        figure = f"{ratio:.2f} x ({whole / count * 1e6:.2f} µs against {small / small_count * 1e6:.2f} µs)"
        self.add(f"cost of an item at {count:,} against {small_count:,}", figure, "1.2 x", ratio <= 1.2)
        peak = self.peak_mib
        self.add(f"peak memory with {count:,} lines", f"{peak:.0f} MiB", "64 MiB", peak <= 64)

    def resume(self, done: int) -> None:
        source = self.scratch / "resume.txt"
        shutil.copy(self.lines(done), source)
        arguments = ("-j1", "--pipeline", "64", "--worker", "--", str(self.echo))
        self.run(source, "--limit", str(done - 100), *arguments, ok=(75,))
        times = [self.run(source, "--limit", "1", *arguments, fresh=False, ok=(75,)) for _ in range(self.rounds)]
        took = statistics.median(times)
        self.add(
            f"resume with {done:,} items done: start, first new item done, stopped",
            f"{took * 1000:.0f} ms",
            "300 ms",
            took <= 0.3,
        )

    def idle_stop(self) -> None:
        times = []
        for _ in range(max(self.rounds, 5)):
            shutil.rmtree(self.scratch / ".safepoint", ignore_errors=True)
            reader, writer = os.pipe()
            command = [str(self.safepoint), "run", "-", "-qq", "--", "echo"]
            process = subprocess.Popen(command, cwd=self.scratch, stdin=reader, stdout=subprocess.PIPE)
            os.close(reader)
            os.write(writer, b"one\n")
            assert process.stdout is not None
            # The result is told after it is durable, and then nothing is in progress.
            process.stdout.readline()
            began = time.perf_counter()
            process.send_signal(signal.SIGINT)
            code = process.wait()
            times.append(time.perf_counter() - began)
            os.close(writer)
            process.stdout.close()
            if code != 130:
                raise SystemExit(f"an idle run ended with {code} after SIGINT")
        took = statistics.median(times)
        self.add("Ctrl-C while nothing is in progress: gone within", f"{took * 1000:.0f} ms", "50 ms", took <= 0.05)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="small inputs: checks the benchmark, not the targets")
    parser.add_argument("--rounds", type=int, default=5, help="times that each figure is taken (default 5)")
    options = parser.parse_args()
    build = ["cargo", "build", "--quiet", "--release", "-p", "safepoint-cli", "-p", "safepoint-testkit"]
    subprocess.run(build, cwd=ROOT, check=True)
    release = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
    with tempfile.TemporaryDirectory(prefix="safepoint-bench-") as scratch:
        bench = Bench(Path(scratch), release.resolve(), 2 if options.short else options.rounds)
        short = options.short
        bench.idle_stop()
        bench.large(100_000 if short else 10_000_000)
        bench.workers(20_000 if short else 1_000_000, 5_000 if short else 400_000)
        bench.resume(20_000 if short else 1_000_000)
        bench.commands(300 if short else 10_000)
    print("| what | measured | target | reached |\n|---|---|---|---|")
    for row in bench.rows:
        print(f"| {row.what} | {row.figure} | {row.target} | {'yes' if row.reached else '**no**'} |")
    return 0 if short or all(row.reached for row in bench.rows) else 1


if __name__ == "__main__":
    sys.exit(main())
