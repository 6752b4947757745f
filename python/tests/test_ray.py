"""Ray, the real one: the stop reaches tasks and actors, the cluster is shut down, and a map goes on where it was."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from conftest import Start

pytestmark = pytest.mark.heavy

INIT = """
    import os, sys, time, pathlib, logging
    import ray, safepoint, safepoint.ray
    def init():
        safepoint.ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    def note(what):
        descriptor = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(descriptor, (what + "\\n").encode())
        os.close(descriptor)
"""

LOOPS = (
    INIT
    + """
    @ray.remote
    def loop(shared, log):
        sys.argv = ["", log]
        stop = shared.token()
        note("begun")
        for turn in stop.iter(range(10**9)):
            time.sleep(0.01)
        note(f"task ended: {stop.reason.source}")
        return turn

    @ray.remote
    class Actor:
        def work(self, shared, log):
            sys.argv = ["", log]
            note("begun")
            shared.token().wait()
            note("actor ended")
            return "put away"

    with safepoint.shutdown() as stop:
        init()
        shared = safepoint.ray.share()
        actor = Actor.remote()
        working = [loop.remote(shared, sys.argv[1]), actor.work.remote(shared, sys.argv[1])]
        print("ready", flush=True)
        turns, said = ray.get(working)
        print("results", turns > 0, said, flush=True)
    print("is_initialized", ray.is_initialized(), flush=True)
    print(stop.report, flush=True)
    sys.exit(stop.exit_code)
"""
)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_reaches_tasks_and_actors_and_the_cluster_is_shut_down(
    start: Start, tmp_path: Path, number: signal.Signals
) -> None:
    log = tmp_path / "log"
    program = start(LOOPS, str(log))
    program.until("ready")
    wait_for(lambda: log.exists() and log.read_text().count("begun") == 2)
    program.send(number)
    code, lines, errors = program.end()
    assert code == 128 + number, (lines, errors)
    assert "results True put away" in lines
    assert "is_initialized False" in lines
    assert sorted(log.read_text().splitlines()) == ["actor ended", "begun", "begun", "task ended: PARENT"]


MAP = (
    INIT
    + """
    def square(number):
        note(f"began {number}")
        time.sleep(0.01)
        if number == 7:
            raise safepoint.Refuse("seven")
        return number * number

    def of(log):
        def work(number):
            sys.argv = ["", log]
            return square(number)
        return work

    with safepoint.shutdown() as stop:
        init()
        with safepoint.ray.map(of(sys.argv[1]), range(120), state=pathlib.Path("squares"), progress=False) as squares:
            for place, value in squares.indexed():
                print("result", place, value, flush=True)
        if not stop.requested:
            print("failures", len(squares.failures), flush=True)
            print("end", flush=True)
    sys.exit(stop.exit_code)
"""
)


def test_a_map_goes_on_where_it_was(start: Start, tmp_path: Path) -> None:
    log = tmp_path / "log"
    runs: list[list[str]] = []
    for line, number in (("result 20 400", signal.SIGINT), ("result 40 1600", signal.SIGKILL), ("end", None)):
        program = start(MAP, str(log))
        program.until(line)
        if number is not None:
            program.send(number)
        code, lines, errors = program.end()
        assert code == {signal.SIGINT: 130, signal.SIGKILL: -9, None: 0}[number], (lines, errors)
        runs.append(lines)
    expected = [f"result {number} {number * number}" for number in range(120) if number != 7]
    given = [line for line in runs[2] if line.startswith("result") and "seven" not in line]
    assert given == expected
    assert "failures 1" in runs[2]
    # Two were in progress at the kill, and what came within some 10 ms before is synced after it was given out.
    began = log.read_text().splitlines()
    assert set(began) == {f"began {number}" for number in range(120)}
    assert len(began) <= 120 + 6
    # The graceful stop repeats nothing.
    last = [line for line in runs[0] if line.startswith("result")][-1].split()[1]
    assert all(began.count(f"began {number}") == 1 for number in range(int(last) + 1))


def wait_for(condition: Any) -> None:
    from time import monotonic, sleep

    end = monotonic() + 120
    while not condition():
        assert monotonic() < end, "it did not come about"
        sleep(0.05)
