"""What asking for a stop costs in Python, beside what people ask now: `python benches/python/stopping.py`.

Times are nanoseconds, the least of several rounds, without what an empty loop costs.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import threading
import timeit
from collections.abc import Iterable

import safepoint


def each(statement: str, number: int, **names: object) -> float:
    """Nanoseconds of one execution, without the loop around it."""
    rounds = timeit.repeat(statement, globals=names, number=number, repeat=7)
    empty = timeit.repeat("pass", number=number, repeat=7)
    return (min(rounds) - min(empty)) / number * 1e9


def loop(items: Iterable[int]) -> None:
    for _ in items:
        pass


def over_a_bare_loop(stop: safepoint.Shutdown, number: int) -> float:
    """Nanoseconds that `stop.iter` adds to an item."""
    bare = min(timeit.repeat(lambda: loop(range(number)), number=1, repeat=7))
    ours = min(timeit.repeat(lambda: loop(stop.iter(range(number))), number=1, repeat=7))
    return (ours - bare) / number * 1e9


def import_time(module: str, rounds: int) -> float:
    """Milliseconds that the import adds to the start of an interpreter; the least of several processes."""

    def start(code: str) -> float:
        measure = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {code!r}], check=True)"
        return min(timeit.repeat(measure, number=1, repeat=rounds))

    return (start(f"import {module}") - start("pass")) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="a tenth of the work, to see that it runs")
    arguments = parser.parse_args()
    number = 100_000 if arguments.short else 1_000_000
    rounds = 3 if arguments.short else 15
    subprocess.run([sys.executable, "-c", "import safepoint"], check=True)
    with safepoint.shutdown() as stop:
        event = threading.Event()
        rows = [
            ("`stop.requested`", f"{each('stop.requested', number, stop=stop):.1f} ns"),
            ("`event.is_set()` of `threading.Event`", f"{each('event.is_set()', number, event=event):.1f} ns"),
            ("`stop.iter`, for each item", f"{over_a_bare_loop(stop, number):.1f} ns"),
            (
                "`with stop.unit(...)`",
                f"{each('with stop.unit(name): pass', number // 10, stop=stop, name='x'):.0f} ns",
            ),
            ("`import safepoint`", f"{import_time('safepoint', rounds):.1f} ms"),
            ("`import asyncio`", f"{import_time('asyncio', rounds):.1f} ms"),
        ]
    print("| what | cost |\n|---|---|")
    for what, cost in rows:
        print(f"| {what} | {cost} |")


if __name__ == "__main__":
    main()
