"""Durable items in Python beside what people use now: `python benches/python/items.py`.

A bare loop, tqdm, a JSON file rewritten for each item and SQLite with a commit for each item, beside `safepoint.batch`;
`multiprocessing.Pool.imap`, `concurrent.futures` and joblib beside `safepoint.map`; and an echo by `safepoint.worker`.
All in one run, in one directory, on one disk. What is not installed is left out.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import importlib
import json
import multiprocessing
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safepoint

ROWS: list[tuple[str, float, str]] = []


@contextmanager
def measured(name: str, items: int, durable: str = "") -> Iterator[None]:
    """Items per second of the block."""
    began = time.perf_counter()
    yield
    rate = items / (time.perf_counter() - began)
    ROWS.append((name, rate, durable))
    print(f"| {name} | {rate:,.0f} | {durable} |", flush=True)


def installed(name: str) -> Any:
    """A library that may be missing."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def echo(item: object) -> object:
    return item


def short(item: object) -> object:
    """A millisecond of work."""
    end = time.perf_counter() + 0.001
    while time.perf_counter() < end:
        pass
    return item


def loops(count: int) -> None:
    with measured("a bare loop", count):
        for _ in range(count):
            pass
    tqdm = installed("tqdm")
    if tqdm is not None:
        with measured("tqdm", count), open(os.devnull, "w") as nothing:
            for _ in tqdm.tqdm(range(count), file=nothing):
                pass
    with measured("`safepoint.batch`", count, "yes"):
        for _ in safepoint.batch(range(count), state="plain", progress=False):
            pass
    results = safepoint.batch(range(count), state="results", progress=False)
    with measured("`safepoint.batch`, a result for each item", count, "yes"), results as batch:
        for item in batch:
            batch.result({"value": item})
    with measured("`safepoint.batch`, with a key", count, "yes"):
        for _ in safepoint.batch(range(count), key=lambda item: f"item-{item:09}", state="keys", progress=False):
            pass
    with measured("`safepoint.batch`, all done before", count, "yes"):
        for _ in safepoint.batch(range(count), state="plain", progress=False):
            pass
    few = min(count, 2000)
    with measured(f"SQLite, a commit for each item ({few:,} items)", few, "yes"):
        connection = sqlite3.connect("peer.db")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE done (item INTEGER PRIMARY KEY, result TEXT)")
        for item in range(few):
            connection.execute("INSERT INTO done VALUES (?, ?)", (item, "null"))
            connection.commit()
        connection.close()
    with measured(f"a JSON file rewritten for each item ({few:,} items)", few, "no: not synced, not atomic"):
        done = []
        for item in range(few):
            done.append(item)
            Path("peer.json").write_text(json.dumps(done))


def processes(count: int, function: Callable[[object], object], what: str, workers: int) -> None:
    with measured(f"{what}: a bare loop", count):
        for item in range(count):
            function(item)
    with measured(f"{what}: `safepoint.map`", count):
        assert sum(1 for _ in safepoint.map(function, range(count), workers, progress=False)) == count
    with measured(f"{what}: `safepoint.map`, with state", count, "yes"):
        result = safepoint.map(function, range(count), workers, state=f"map-{function.__name__}", progress=False)
        assert sum(1 for _ in result) == count
    context = multiprocessing.get_context("spawn")
    with measured(f"{what}: `multiprocessing.Pool.imap`", count), context.Pool(workers) as pool:
        assert sum(1 for _ in pool.imap(function, range(count))) == count
    with (
        measured(f"{what}: `ProcessPoolExecutor.map`", count),
        concurrent.futures.ProcessPoolExecutor(workers, mp_context=context) as executor,
    ):
        assert sum(1 for _ in executor.map(function, range(count))) == count
    joblib = installed("joblib")
    if joblib is None:
        return
    with measured(f"{what}: joblib", count):
        assert len(joblib.Parallel(workers)(joblib.delayed(function)(item) for item in range(count))) == count


def workers(count: int) -> None:
    Path("worker.py").write_text("import safepoint\nsafepoint.worker(lambda item: item)\n")
    requests = b"".join(
        b'{"id":%d,"index":%d,"key":"%d","attempt":1,"item":"%d"}\n' % (number, number, number, number)
        for number in range(count)
    )
    with measured("`safepoint.worker`, an echo through pipes", count):
        ended = subprocess.run([sys.executable, "worker.py"], input=requests, stdout=subprocess.PIPE, check=True)
    assert ended.stdout.count(b"\n") == count
    Path("in.txt").write_text("".join(f"{number}\n" for number in range(count)))
    command = [sys.executable, "-m", "safepoint", "run", "--worker", "--pipeline", "64", "-j", "1", "--output", "none"]
    with measured("the same in `safepoint run --worker --pipeline 64 -j 1`", count, "yes"):
        subprocess.run([*command, "in.txt", "--", sys.executable, "worker.py"], check=True, stderr=subprocess.DEVNULL)


def flat(counts: list[int]) -> None:
    """The same for few and for many: time for each item, and memory."""
    for count in counts:
        began = time.perf_counter()
        for _ in safepoint.batch(range(count), state=f"flat-{count}", progress=False):
            pass
        took = time.perf_counter() - began
        resident = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
        print(
            f"| {count:,} items | {count / took:,.0f} items/s | at most {int(resident.split()[1]) // 1024} MiB |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=200_000)
    parser.add_argument("--directory", default=None, help="where to write; a temporary directory by default")
    parser.add_argument("--flat", type=int, nargs="*", default=[], help="instead, compare these numbers of items")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        os.chdir(directory)
        if options.flat:
            flat(options.flat)
            return
        print("| what | items/s | durable |\n|---|---|---|")
        loops(options.items)
        processes(options.items // 10, echo, "echo, 2 processes", 2)
        processes(2000, short, "1 ms, 2 processes", 2)
        workers(options.items)
        os.chdir("/")


if __name__ == "__main__":
    main()
