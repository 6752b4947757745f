"""Steps from Python, beside SQLite alone and a file that is synced at each line.

    python benches/python/steps.py [DIR]

The tools take turns in each round; a row is the median and the best of all rounds. The wheel should be one that was
built with the release profile.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import statistics
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter

import safepoint

ROUNDS, COUNT = 5, 2000


def body(number: int) -> int:
    return number


async def body_async(number: int) -> int:
    return number


def steps_of_threads(place: Path, threads: int) -> float:
    with safepoint.Steps(place, stop=False) as steps, ThreadPoolExecutor(threads) as pool:

        def work(part: int) -> None:
            for number in range(part, COUNT, threads):
                steps.step(f"step-{number}", body, number)

        began = perf_counter()
        list(pool.map(work, range(threads)))
        return COUNT / (perf_counter() - began)


def steps_of_tasks(place: Path) -> float:
    async def main() -> float:
        async with safepoint.Steps(place, stop=False) as steps:
            began = perf_counter()
            await asyncio.gather(*(steps.step(f"step-{number}", body_async, number) for number in range(COUNT)))
            return COUNT / (perf_counter() - began)

    return asyncio.run(main())


def complete_already(place: Path) -> float:
    steps_of_threads(place, 8)
    with safepoint.Steps(place, stop=False) as steps:
        began = perf_counter()
        for number in range(COUNT):
            steps.step(f"step-{number}", body, number)
        return (perf_counter() - began) / COUNT * 1e6


def sqlite_alone(place: Path) -> float:
    place.mkdir()
    database = sqlite3.connect(place / "a.db", isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute("CREATE TABLE steps (name TEXT PRIMARY KEY, result TEXT)")
    began = perf_counter()
    for number in range(COUNT):
        database.execute("INSERT INTO steps VALUES (?, ?)", (f"step-{number}", str(number)))
    took = perf_counter() - began
    database.close()
    return COUNT / took


def file_alone(place: Path) -> float:
    place.mkdir()
    descriptor = os.open(place / "a", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    began = perf_counter()
    for number in range(COUNT):
        os.write(descriptor, f"step-{number} {number}\n".encode())
        os.fdatasync(descriptor)
    took = perf_counter() - began
    os.close(descriptor)
    return COUNT / took


RUNS: list[tuple[str, str, Callable[[Path], float]]] = [
    ("steps, 8 threads", "/s", lambda place: steps_of_threads(place, 8)),
    ("steps, 1 thread", "/s", lambda place: steps_of_threads(place, 1)),
    ("steps, 2000 coroutines at once", "/s", steps_of_tasks),
    ("sqlite3 alone, one commit a row, 1 thread", "/s", sqlite_alone),
    ("a file, one fdatasync a line, 1 thread", "/s", file_alone),
    ("steps, complete already", " µs", complete_already),
]


def main() -> None:
    found: dict[str, list[float]] = {what: [] for what, _, _ in RUNS}
    for number in range(ROUNDS):
        for what, _, run in RUNS:
            place = Path(tempfile.mkdtemp(dir=sys.argv[1] if len(sys.argv) > 1 else "."))
            found[what].append(run(place / f"{number}"))
            shutil.rmtree(place)
    print("| what | median | best of 5 |\n|---|---|---|")
    for what, unit, _ in RUNS:
        best = min(found[what]) if unit == " µs" else max(found[what])
        digits = 1 if unit == " µs" else 0
        print(f"| {what} | {statistics.median(found[what]):,.{digits}f}{unit} | {best:,.{digits}f}{unit} |")


if __name__ == "__main__":
    main()
