"""An experiment in tiers, each of subtests, each of runs, which worker processes compute.

    python examples/python/experiment.py [--state DIRECTORY] [--workers 2] [--work 200000]

Stop it with Ctrl-C or `kill -9` at any moment, and start it again: complete runs are skipped, and the result is the
same. Now and then the service that the runs ask says "too many requests": then all of it pauses for as long as that
says.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import safepoint

TIERS, SUBTESTS, RUNS = 3, 2, 4


class RateLimited(Exception):
    """The service wants no more for so many seconds."""

    def __init__(self, retry_after: float) -> None:
        super().__init__(retry_after)
        self.retry_after = retry_after


class Pause:
    """What all threads keep to while the service wants no more."""

    def __init__(self, stop: safepoint.ShutdownToken) -> None:
        self._stop = stop
        self._lock = threading.Lock()
        self.count = 0

    def call(self, function: Callable[[int], str]) -> str:
        """Calls until the service has time for it; the argument counts the attempts, from 0."""
        attempt = 0
        while True:
            with self._lock:
                pass  # Waits for a pause in progress.
            if attempt and self._stop.requested:
                raise safepoint.Stopped("a stop was asked for in a pause")
            try:
                return function(attempt)
            except RateLimited as limit:
                attempt += 1
                with self._lock:
                    self.count += 1
                    say(f"paused_rate_limit: the service wants no more for {limit.retry_after:g} s")
                    self._stop.wait(limit.retry_after)


def compute(seed: str, work: int, attempt: int) -> str:
    """A run, in a worker process."""
    if attempt == 0 and int(seed[:2], 16) % 8 == 0:
        raise RateLimited(0.2)
    stop = safepoint.active()
    digest = seed.encode()
    for turn in range(work):
        # A graceful stop lets the run end; an immediate one does not.
        if turn % 1000 == 0 and stop is not None and stop.phase in ("terminating", "stopped"):
            raise safepoint.Stopped("the run is given up")
        digest = hashlib.sha256(digest).digest()
    return digest.hex()


def experiment(stop: safepoint.ShutdownToken, steps: safepoint.Steps, pause: Pause, workers: int, work: int) -> str:
    """All tiers, one after the other: each begins with what the one before found."""
    context = multiprocessing.get_context("forkserver")
    processes = ProcessPoolExecutor(workers, context, initializer=safepoint.follow, initargs=(stop,))
    # As many threads as processes: what has begun is being computed, so a stop waits for no more than that.
    with stop.track(processes), ThreadPoolExecutor(workers) as threads:
        start(processes, workers)

        def run(scope: safepoint.Scope, number: int, seed: str) -> str:
            def body() -> str:
                try:
                    return pause.call(lambda attempt: processes.submit(compute, seed, work, attempt).result())
                except BrokenProcessPool:
                    # An immediate stop ends the processes.
                    if stop.requested:
                        raise safepoint.Stopped("the run is given up") from None
                    raise

            return scope.step(f"run-{number}", body)

        found = steps.step("prepare", lambda: hashlib.sha256(b"seed").hexdigest())
        for tier in range(TIERS):
            with steps.stage(f"T{tier}") as stage:
                asked = [
                    threads.submit(run, stage.scope(f"subtest-{subtest}"), number, mix(found, f"{subtest}.{number}"))
                    for subtest in range(SUBTESTS)
                    for number in range(RUNS)
                ]
                found = mix(*(each.result() for each in asked))
    return found


def start(processes: ProcessPoolExecutor, workers: int) -> None:
    """Starts all worker processes now, with Ctrl-C held back: one that is starting would die of it."""
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        for started in [processes.submit(time.sleep, 0.1) for _ in range(workers)]:
            started.result()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def mix(*texts: str) -> str:
    return hashlib.sha256(" ".join(texts).encode()).hexdigest()


def say(line: str) -> None:
    # In one piece: several threads talk.
    print(f"{line}\n", end="", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="an experiment of tiers, subtests and runs")
    parser.add_argument("--state", type=Path, default=Path(".safepoint/experiment"))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--work", type=int, default=200_000, help="how much a run computes")
    arguments = parser.parse_args()

    found = None
    with safepoint.shutdown() as stop:
        pause = Pause(stop)
        with safepoint.Steps(arguments.state, on_notice=lambda notice: say(str(notice))) as steps:
            say("new experiment" if steps.run == 1 else f"resumed: run {steps.run} of this experiment")
            say("Ctrl-C: the runs in progress are finished; once more gives them up. Then start it again to go on.")
            found = experiment(stop, steps, pause, arguments.workers, arguments.work)

    steps_report, stop_report = steps.report, stop.report
    if steps_report is not None and stop_report is not None:
        status = "completed" if found else "interrupted"
        say(f"status: {status}; {steps_report}; pauses: {pause.count}")
        say(
            f"interrupts: {stop_report.total_interrupts} total, {stop_report.graceful_interrupts} graceful, "
            f"{stop_report.immediate_interrupts} immediate"
        )
    if found:
        say(f"result: {found}")
    say("Cleanup complete")
    return stop.exit_code


if __name__ == "__main__":
    try:
        sys.exit(main())
    except safepoint.Error as error:
        sys.exit(f"error: {error}" + (f"\nhint: {error.hint}" if error.hint else ""))
