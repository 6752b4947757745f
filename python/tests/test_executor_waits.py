"""Whoever waits for the futures of a tracked executor hears of those that a stop gave up."""

from __future__ import annotations

import signal

import pytest

from conftest import Start

PROGRAM = """
import sys, time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed, wait
import safepoint

def work(item):
    time.sleep(0.01)
    return item

def by_wait(futures):
    return wait(futures).done

def by_turn(futures):
    return list(as_completed(futures))

if __name__ == "__main__":
    with safepoint.shutdown() as stop, globals()[sys.argv[1]](2) as executor:
        stop.track(executor)
        futures = [executor.submit(work, item) for item in range(20_000)]
        print("ready", flush=True)
        ended = globals()[sys.argv[2]](futures)
        done = [future for future in ended if not future.cancelled()]
        # Some are done, and the rest was given up.
        assert len(ended) == 20_000 > len(done), len(done)
    sys.exit(stop.exit_code)
"""


@pytest.mark.parametrize("waiting", ["by_wait", "by_turn"])
@pytest.mark.parametrize("executor", ["ThreadPoolExecutor", "ProcessPoolExecutor"])
def test_who_waits_for_futures_is_told_of_those_that_were_given_up(start: Start, executor: str, waiting: str) -> None:
    program = start(PROGRAM, executor, waiting)
    program.until("ready")
    program.send(signal.SIGTERM)
    code, _, errors = program.end()
    assert code == 143, errors
    assert "Traceback" not in errors
    assert program.others() == []
