"""Claims and acknowledgements of durable queues in Python, in one run: `python benches/python/queues.py`.

The queues take turns in each round, in the same directory of one disk, with the same items in them. A tool that is not
installed is left out: `pip install litequeue persist-queue huey`.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import importlib.util
import sqlite3
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import safepoint

PAYLOAD = {"path": "a payload of some length", "size": 4711}

#: A consumer, made in its own thread: it claims and acknowledges so many items.
Consumer = Callable[[int], None]


class Tool(NamedTuple):
    what: str
    #: Fills a queue of so many items below a directory; gives what each thread makes its consumer by, and what ends it.
    open: Callable[[Path, int], tuple[Callable[[], Consumer], Callable[[], None]]]
    threads: int
    synced: str
    #: Items in a round; slow tools get fewer.
    items: int
    needs: str = "safepoint"


def nothing() -> None: ...


def ours(place: Path, length: int, **settings: Any) -> tuple[Callable[[], Consumer], Callable[[], None]]:
    queue = safepoint.Queue(place / "safepoint", **settings)
    queue.push_many([PAYLOAD] * length)

    def consume(count: int) -> None:
        for _ in range(count):
            lease = queue.claim(0)
            assert lease is not None
            assert lease.payload == PAYLOAD
            lease.acknowledge("ok")

    return lambda: consume, queue.close


def ours_unsynced(place: Path, length: int) -> tuple[Callable[[], Consumer], Callable[[], None]]:
    return ours(place, length, survives_power_cut=False)


def ours_later(place: Path, length: int) -> tuple[Callable[[], Consumer], Callable[[], None]]:
    queue = safepoint.Queue(place / "safepoint")
    queue.push_many([PAYLOAD] * length)

    def consume(count: int) -> None:
        for _ in range(count):
            lease = queue.claim(0)
            assert lease is not None
            assert lease.payload == PAYLOAD
            lease.acknowledge_later("ok")
        queue.sync()

    return lambda: consume, queue.close


def ours_async(place: Path, length: int) -> tuple[Callable[[], Consumer], Callable[[], None]]:
    queue = safepoint.Queue(place / "safepoint")
    queue.push_many([PAYLOAD] * length)

    async def work(count: int) -> None:
        for _ in range(count):
            lease = await queue.claim_async()
            assert lease is not None
            async with lease:
                assert lease.payload == PAYLOAD

    async def all_of_them(count: int) -> None:
        await asyncio.gather(*(work(count // 64) for _ in range(64)))

    return lambda: lambda count: asyncio.run(all_of_them(count)), queue.close


def raw(place: Path, length: int, fused: bool) -> tuple[Callable[[], Consumer], Callable[[], None]]:
    path = place / "raw.db"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE items (id INTEGER PRIMARY KEY, state INTEGER NOT NULL, payload TEXT NOT NULL)")
        connection.execute("CREATE INDEX pending ON items (id) WHERE state = 0")
        connection.executemany("INSERT INTO items (state, payload) VALUES (0, ?)", [(str(PAYLOAD),)] * length)

    def make() -> Consumer:
        connection = sqlite3.connect(path, isolation_level=None, timeout=60)
        connection.execute("PRAGMA synchronous = FULL")
        claim = (
            "UPDATE items SET state = 1 WHERE id = (SELECT id FROM items WHERE state = 0 ORDER BY id LIMIT 1) "
            "RETURNING id, payload"
        )

        def consume(count: int) -> None:
            last = None
            for _ in range(count):
                connection.execute("BEGIN IMMEDIATE")
                if last is not None:
                    connection.execute("UPDATE items SET state = 2 WHERE id = ?", (last,))
                    if not fused:
                        connection.execute("COMMIT")
                        connection.execute("BEGIN IMMEDIATE")
                ((last, _),) = connection.execute(claim).fetchall()
                connection.execute("COMMIT")
            connection.close()

        return consume

    return make, nothing


def litequeue(place: Path, length: int) -> tuple[Callable[[], Consumer], Callable[[], None]]:
    LiteQueue = importlib.import_module("litequeue").LiteQueue

    path = str(place / "lite.db")
    filling = LiteQueue(path)
    with filling.transaction():
        for _ in range(length):
            filling.put(str(PAYLOAD))
    filling.close()

    def make() -> Consumer:
        queue = LiteQueue(path, timeout=60)

        def consume(count: int) -> None:
            for _ in range(count):
                message = queue.pop()
                assert message is not None
                queue.done(message.message_id)

        return consume

    return make, nothing


def persist_queue(place: Path, length: int) -> tuple[Callable[[], Consumer], Callable[[], None]]:
    SQLiteAckQueue = importlib.import_module("persistqueue").SQLiteAckQueue

    filling = SQLiteAckQueue(str(place / "persist"), multithreading=True)
    for _ in range(length):
        filling.put(PAYLOAD)
    filling.close()
    queue = SQLiteAckQueue(str(place / "persist"), multithreading=True)

    def consume(count: int) -> None:
        for _ in range(count):
            queue.ack(queue.get())

    return lambda: consume, queue.close


def huey(place: Path, length: int) -> tuple[Callable[[], Consumer], Callable[[], None]]:
    instance = importlib.import_module("huey").SqliteHuey(filename=str(place / "huey.db"), fsync=True, timeout=60)

    work = instance.task()(lambda payload: "ok")
    with instance.storage.db(commit=True) as cursor:
        data = instance.serialize_task(work.s(PAYLOAD))
        rows = [(instance.storage.name, data, 0)] * length
        cursor.executemany("insert into task(queue, data, priority) values (?, ?, ?)", rows)

    def consume(count: int) -> None:
        for _ in range(count):
            task = instance.dequeue()
            assert task is not None
            instance.execute(task)

    return lambda: consume, nothing


TOOLS = [
    Tool("safepoint, 1 thread", ours, 1, "yes", 10_000),
    Tool("safepoint, 8 threads", ours, 8, "yes", 40_000),
    Tool("safepoint, 64 threads", ours, 64, "yes", 40_000),
    Tool("safepoint, 64 coroutines", ours_async, 1, "yes", 10_000),
    Tool("safepoint, 1 thread, `acknowledge_later`", ours_later, 1, "yes, many at once", 40_000),
    Tool("safepoint, 8 threads, `survives_power_cut=False`", ours_unsynced, 8, "no", 40_000),
    Tool("SQLite alone, claim and acknowledge in one commit, 1 thread", lambda p, n: raw(p, n, True), 1, "yes", 10_000),
    Tool("SQLite alone, claim and acknowledge apart, 8 threads", lambda p, n: raw(p, n, False), 8, "yes", 10_000),
    Tool("huey (`fsync=True`; at most once), 1 thread", huey, 1, "yes", 5_000, "huey"),
    Tool("huey (`fsync=True`; at most once), 8 threads", huey, 8, "yes", 5_000, "huey"),
    Tool("persist-queue (`SQLiteAckQueue`), 1 thread", persist_queue, 1, "yes", 3_000, "persistqueue"),
    Tool("persist-queue (`SQLiteAckQueue`), 8 threads", persist_queue, 8, "yes", 3_000, "persistqueue"),
    Tool("litequeue, 1 thread", litequeue, 1, "no", 400, "litequeue"),
    Tool("litequeue, 8 threads", litequeue, 8, "no", 400, "litequeue"),
]


def rate(tool: Tool, place: Path, count: int, length: int) -> float:
    """Items per second of all threads together."""
    make, close = tool.open(place, max(length, count))
    each = count // tool.threads
    ready = threading.Barrier(tool.threads + 1)
    failures: list[BaseException] = []

    def run() -> None:
        consume = make()
        ready.wait()
        try:
            consume(each)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(tool.threads)]
    for thread in threads:
        thread.start()
    ready.wait()
    begun = time.perf_counter()
    for thread in threads:
        thread.join()
    taken = time.perf_counter() - begun
    close()
    if failures:
        raise failures[0]
    return each * tool.threads / taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--short", action="store_true", help="a twentieth of the work in one round, to see that it runs"
    )
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--only", default="", help="only what contains this text")
    parser.add_argument("--dir", help="the disk")
    parser.add_argument("--length", type=int, default=50_000, help="items in each queue at the beginning")
    arguments = parser.parse_args()
    rounds, divisor = (1, 20) if arguments.short else (5, 1)
    rounds = arguments.rounds or rounds
    rates: dict[Tool, list[float]] = {
        tool: [] for tool in TOOLS if arguments.only in tool.what and importlib.util.find_spec(tool.needs)
    }
    for _ in range(rounds):
        for tool, measured in rates.items():
            with tempfile.TemporaryDirectory(dir=arguments.dir) as place:
                count = max(tool.items // divisor, 64)
                try:
                    measured.append(rate(tool, Path(place), count, arguments.length // divisor))
                except Exception as error:
                    print(f"{tool.what}: {type(error).__name__}: {error}")
    print(f"| what | synced | median | best of {rounds} |")
    print("|---|---|---|---|")
    for tool, measured in rates.items():
        if measured:
            print(f"| {tool.what} | {tool.synced} | {statistics.median(measured):,.0f}/s | {max(measured):,.0f}/s |")


if __name__ == "__main__":
    main()
