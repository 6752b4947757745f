"""A consumer of a durable queue that acknowledges what it has done, and says over HTTP how it is.

    python examples/python/consumer.py [--state DIRECTORY] [--push 100] [--health 127.0.0.1:8080] [--drain]

`--push` puts items into the queue first, each of which has a key, so that it is in it once however often this is
started. Stop the consumer with Ctrl-C, SIGTERM, `POST /shutdown` or `kill -9`, and start it again: what was
acknowledged is never given out again, and what was not is.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import safepoint


class Counted:
    """How much was done, by several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.acknowledged = 0

    def add(self) -> None:
        with self._lock:
            self.acknowledged += 1


def consume(queue: safepoint.Queue, counted: Counted, work: int, timeout: float | None) -> None:
    for lease in queue.leases(timeout):
        with lease:
            say(f"began {lease.name}")
            lease.result = compute(str(lease.payload["number"]), work)
        # At the end of the block it was acknowledged, which is durable.
        say(f"acknowledged {lease.name}")
        counted.add()


def compute(seed: str, work: int) -> str:
    digest = seed.encode()
    for _ in range(work):
        digest = hashlib.sha256(digest).digest()
    return digest.hex()


def say(line: str) -> None:
    # In one piece: several threads talk.
    print(f"{line}\n", end="", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="an acknowledging consumer of a queue")
    parser.add_argument("--state", type=Path, default=Path(".safepoint/consumer"))
    parser.add_argument("--push", type=int, default=0, metavar="N", help="push N items first")
    parser.add_argument("--health", default="127.0.0.1:8080", help="where to answer over HTTP")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--work", type=int, default=20_000, help="how much an item computes")
    parser.add_argument("--lease", type=float, default=30.0, help="after so many seconds another may have the item")
    parser.add_argument("--drain", action="store_true", help="end when the queue is empty")
    arguments = parser.parse_args()

    counted = Counted()
    with safepoint.shutdown() as stop, safepoint.Queue(arguments.state, lease=arguments.lease) as queue:
        before = queue.stats
        say(
            f"resumed: {before.done} items are done, {before.pending} wait"
            if before.done or before.pending
            else "new queue"
        )
        say("Ctrl-C: the items in progress are finished and acknowledged. Then start it again to go on.")
        server = stop.health(arguments.health, checks={"queue": lambda: queue.stats.dead == 0})
        say(f"health at {server.address}/health, and /ready, /status, /metrics")
        for number in range(arguments.push):
            queue.push({"number": number}, key=f"item-{number}")
        # Nobody else pushes while the queue is drained: it is empty when nothing came for longer than a lease.
        timeout = arguments.lease + 1.0 if arguments.drain else None
        with ThreadPoolExecutor(arguments.threads) as threads:
            for _ in range(arguments.threads):
                threads.submit(consume, queue, counted, arguments.work, timeout)
        after = queue.stats

    report = stop.report
    if report is not None:
        status = "interrupted" if report.reason else "completed"
        say(f"status: {status}; {counted.acknowledged} items acknowledged, {after.done} done in all, {after.dead} dead")
        say(
            f"interrupts: {report.total_interrupts} total, {report.graceful_interrupts} graceful, "
            f"{report.immediate_interrupts} immediate"
        )
    say("Cleanup complete")
    return stop.exit_code


if __name__ == "__main__":
    try:
        sys.exit(main())
    except safepoint.Error as error:
        sys.exit(f"error: {error}" + (f"\nhint: {error.hint}" if error.hint else ""))
