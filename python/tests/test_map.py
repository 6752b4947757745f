"""`safepoint.map`: results in order, one item's death costs one item, and no process outlives this one."""

from __future__ import annotations

import functools
import itertools
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings, strategies

import safepoint
from conftest import Start, gone
from map_functions import (
    add,
    after_three,
    double,
    echo,
    hangs,
    leaves_a_mark,
    troubled,
    uneven,
    unpicklable,
    unsayable,
    waits_for_the_others,
    waits_to_go,
)
from safepoint import Failure

Path = pathlib.Path
CONTEXTS = ("spawn", "forkserver", "fork")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


quiet = functools.partial(safepoint.map, progress=False, workers=2)


@pytest.mark.parametrize("context", CONTEXTS)
def test_results_come_in_order(context: Any) -> None:
    result = quiet(double, range(500), context=context)
    assert list(result) == [number * 2 for number in range(500)]
    assert result.complete
    assert result.report is not None
    assert (result.report.done, result.report.total) == (500, 500)
    assert list(quiet(functools.partial(add, 3), [1, 2], context=context)) == [4, 5]
    assert list(quiet(double, [], context=context)) == []


@pytest.mark.parametrize("context", CONTEXTS)
def test_what_kills_a_worker_costs_one_item(context: Any) -> None:
    result = quiet(troubled, range(20), context=context, attempts=2, retry_wait=0.01)
    values = list(result)
    bad = {3: "ValueError: three", 5: "SIGKILL", 7: "no sevens", 9: "exited with 3", 11: "SystemExit: eleven"}
    for place, value in enumerate(values):
        if place in bad:
            assert isinstance(value, Failure)
            assert bad[place] in value.error
            assert not value
            assert value.attempts == (1 if place == 7 else 2)
        else:
            assert value == place
    assert sorted(failure.index for failure in result.failures) == sorted(bad)
    assert not result.complete
    assert "troubled" in next(failure.details for failure in result.failures if failure.index == 3)


def test_an_attempt_that_takes_too_long_is_ended() -> None:
    result = quiet(hangs, range(5), timeout=0.5, attempts=2, retry_wait=0.01)
    assert [bool(isinstance(value, Failure)) for value in result] == [False, False, True, False, False]
    assert result.failures[0].error == "took longer than 0.5 s"


def test_a_failed_attempt_is_made_again(tmp_path: Path) -> None:
    assert list(quiet(after_three, [str(tmp_path / "count")])) == ["done"]


def test_items_are_read_no_further_ahead_than_allowed() -> None:
    read = 0

    def source() -> Iterator[int]:
        nonlocal read
        for number in itertools.count():
            read = number
            yield number

    with quiet(double, source(), ahead=20) as result:
        for value in itertools.islice(result, 100):
            assert read <= value // 2 + 20
    assert not result.complete


def test_large_values_go_both_ways_at_once() -> None:
    # More than the sockets hold: who waits to send must go on to receive.
    values = [bytes([number]) * 3_000_000 for number in range(12)]
    assert list(quiet(echo, values)) == values


def test_an_item_that_cannot_be_sent_and_a_result_that_cannot() -> None:
    with pytest.raises(safepoint.InvalidError, match="item 1 cannot be sent"):
        list(quiet(echo, [1, lambda: 1]))
    result = quiet(unpicklable, [1], attempts=1)
    assert isinstance(next(result), Failure)


@pytest.mark.parametrize("context", ["spawn", "forkserver"])
def test_a_function_that_cannot_be_imported_is_refused_at_once(context: Any) -> None:
    def inner(number: int) -> int:
        return number

    for function in (lambda number: number, inner):
        with pytest.raises(safepoint.InvalidError, match="cannot be found by another process") as refused:
            quiet(function, [1], context=context)
        assert "top level" in str(refused.value.hint)
    assert list(quiet(inner, [1, 2], context="fork")) == [1, 2]


def test_bad_arguments_are_refused() -> None:
    async def asynchronous(number: int) -> int:
        return number

    for wrong in (
        {"workers": 0},
        {"attempts": 0},
        {"ahead": 0},
        {"context": "thread"},
        {"key": str},
        {"fresh": True},
    ):
        with pytest.raises(safepoint.InvalidError):
            safepoint.map(double, [1], **wrong)
    with pytest.raises(safepoint.InvalidError, match="async"):
        quiet(asynchronous, [1])
    with pytest.raises(safepoint.InvalidError, match="no function"):
        quiet("double", [1])  # type: ignore[arg-type]


def test_a_session_without_a_file_is_told_so() -> None:
    source = "import safepoint\ndef f(x): return x\nlist(safepoint.map(f, [1]))"
    ended = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=60, check=False)
    assert "interactive session" in ended.stderr


def test_a_call_without_the_guard_of_main_is_told_so(start: Start) -> None:
    code, _, errors = start("""
        import safepoint
        def f(x): return x
        print(list(safepoint.map(f, [1, 2], workers=2)))
    """).end()
    assert code != 0
    assert '`if __name__ == "__main__":`' in errors
    assert "workers in a row ended before they began" in errors


def test_works_in_a_thread() -> None:
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.extend(quiet(double, range(50))))
    thread.start()
    thread.join(60)
    assert found == [number * 2 for number in range(50)]


def test_an_exception_of_the_source_goes_out_and_no_process_stays() -> None:
    def source() -> Iterator[int]:
        yield 1
        raise RuntimeError("source")

    with pytest.raises(RuntimeError, match="source"):
        list(quiet(double, source()))
    assert children() == []


def test_a_result_that_is_left_ends_its_processes() -> None:
    result = quiet(double, itertools.count())
    assert next(result) == 0
    assert children()
    del result
    assert children() == []


# Durable.


def test_what_was_done_is_read_and_not_done_again() -> None:
    assert list(quiet(leaves_a_mark, range(10), state="marks")) == [number * 2 for number in range(10)]
    assert list(quiet(leaves_a_mark, range(15), state="marks")) == [number * 2 for number in range(15)]
    assert sorted(int(line) for line in Path("log").read_text().split()) == list(range(15))
    keyed = quiet(leaves_a_mark, [5, 4, 5, 3], state="keyed", key=str)
    assert list(keyed.indexed()) == [(0, 10), (1, 8), (3, 6)]


def test_a_dead_item_stays_dead_until_it_is_retried() -> None:
    first = quiet(troubled, range(5), state="troubled", attempts=1)
    assert [isinstance(value, Failure) for value in first] == [False, False, False, True, False]
    second = quiet(troubled, range(5), state="troubled")
    assert [isinstance(value, Failure) for value in second] == [False, False, False, True, False]
    assert second.failures[0].error == "ValueError: three"
    third = quiet(double, range(5), state="troubled", retry_failed=True)
    assert list(third) == [0, 1, 2, 6, 4]


def test_a_result_that_cannot_be_kept_ends_the_run() -> None:
    with pytest.raises(safepoint.InvalidError, match="the result of item 0 is a `set`"):
        list(quiet(unsayable, [1], state="sets"))
    assert list(quiet(unsayable, [1])) == [{1, 2}]


# Stops.


def test_a_stop_gives_what_was_done() -> None:
    with safepoint.shutdown(signals=False) as stop:
        result = quiet(uneven, range(100_000))
        seen = []
        for place, value in result.indexed():
            assert place == value
            seen.append(value)
            if len(seen) == 30:
                stop.request("enough")
    assert 30 <= len(seen) < 2000
    assert seen == sorted(seen)
    assert not result.complete
    assert result.report is not None
    assert result.report.done == len(seen)
    assert children() == []


def test_nothing_waits_behind_a_slow_item_while_a_worker_has_nothing_to_do() -> None:
    # All the others are the other worker's.
    assert list(quiet(waits_for_the_others, range(9))) == list(range(9))


def test_what_a_worker_was_given_and_has_not_begun_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    # However slow the machine is, the worker is given more than one.
    monkeypatch.setattr("safepoint._crew.Crew._depth", lambda _: 3)
    with safepoint.shutdown(signals=False) as stop:

        def ask() -> None:
            wait_for(Path("begun-0").exists)
            stop.request("enough")
            Path("go").touch()

        threading.Thread(target=ask).start()
        result = quiet(waits_to_go, range(10), workers=1, state="waits")
        assert list(result) == [0]
    assert not Path("begun-1").exists()
    assert result.report is not None
    assert result.report.put_back >= 1
    assert list(quiet(waits_to_go, range(3), workers=1, state="waits")) == [0, 1, 2]


PROGRAM = """
    import os, safepoint, sys, time

    def work(number):
        descriptor = os.open("log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, b"begun %d\\n" % number)
        os.write(1, b"at %d\\n" % number)
        time.sleep(3600 if "hang" in sys.argv and number == 4 else 0.1)
        os.write(descriptor, b"ended %d\\n" % number)
        os.close(descriptor)
        return number

    if __name__ == "__main__":
        state = "work" if "state" in sys.argv else None
        context = next((each for each in ("spawn", "forkserver", "fork") if each in sys.argv), "spawn")
        with safepoint.shutdown(announce=True) as stop:
            result = safepoint.map(work, range(40), workers=3, context=context, state=state)
            print("results", list(result), flush=True)
            print("complete", result.complete, flush=True)
        sys.exit(stop.exit_code)
"""


def logged(word: str) -> set[int]:
    lines = [line.split() for line in Path("log").read_text().splitlines()]
    return {int(number) for said, number in lines if said == word}


@pytest.mark.parametrize("context", CONTEXTS)
def test_ctrl_c_in_a_terminal_lets_what_is_in_progress_finish(start: Start, context: Any) -> None:
    program = start(PROGRAM, context)
    program.until("at 7")
    program.send_to_group(signal.SIGINT)
    code, lines, errors = program.end()
    assert code == 130, errors
    done = logged("ended")
    assert logged("begun") == done, "what was begun was finished"
    assert len(done) < 20
    results = next(line for line in lines if line.startswith("results")).removeprefix("results ")
    assert set(json.loads(results)) == done
    assert lines[-1] == "complete False"
    assert "KeyboardInterrupt" not in errors
    gone(program)


@pytest.mark.parametrize("context", CONTEXTS)
def test_the_second_ctrl_c_ends_them_now(start: Start, context: Any) -> None:
    program = start(PROGRAM, context, "hang")
    program.until("at 9")
    program.send_to_group(signal.SIGINT)
    time.sleep(0.3)
    program.send_to_group(signal.SIGINT)
    code, lines, errors = program.end()
    assert code == 130, errors
    assert 4 in logged("begun") - logged("ended")
    assert lines[-1] == "complete False"
    gone(program)


@pytest.mark.parametrize("context", CONTEXTS)
def test_no_process_outlives_a_parent_that_is_killed(start: Start, context: Any) -> None:
    program = start(PROGRAM, context, "hang")
    program.until("at 9")
    assert len(program.others()) >= 3
    program.send(signal.SIGKILL)
    gone(program)


def test_kills_at_random_lose_nothing(start: Start) -> None:
    source = """
        import os, safepoint

        def work(number):
            descriptor = os.open("log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.write(descriptor, b"%d\\n" % number)
            os.close(descriptor)
            return number * 2

        if __name__ == "__main__":
            result = list(safepoint.map(work, range(4000), workers=2, state="work", progress=False))
            assert result == [number * 2 for number in range(4000)]
    """
    chance, kills = random.Random(3), 0
    while True:
        program = start(source)
        try:
            program.process.wait(chance.uniform(0.4, 1.0) + kills * 0.1)
            break
        except subprocess.TimeoutExpired:
            victims = program.others()
            if victims and chance.random() < 0.5:
                # A worker first: it is replaced.
                os.kill(chance.choice(victims), signal.SIGKILL)
                time.sleep(0.1)
            program.send(signal.SIGKILL)
            kills += 1
            gone(program)
            assert kills < 60
    assert program.process.returncode == 0, program.end()[2]
    done = [int(line) for line in Path("log").read_text().split()]
    assert set(done) == set(range(4000))
    assert len(done) - 4000 < (kills + 1) * 1000


@settings(max_examples=6)
@given(
    lengths=strategies.lists(strategies.integers(0, 60), min_size=1, max_size=3),
    ahead=strategies.integers(1, 40),
    workers=strategies.integers(1, 3),
)
def test_any_shape_agrees_with_the_builtin(lengths: list[int], ahead: int, workers: int) -> None:
    for length in lengths:
        result = safepoint.map(uneven, range(length), workers, ahead=ahead, progress=False, context="fork")
        assert list(result) == list(range(length))
        assert result.complete


def children() -> list[int]:
    """This process's children that live, but the helpers of multiprocessing."""
    found = []
    for task in Path("/proc/self/task").iterdir():
        try:
            begun = (task / "children").read_text().split()
        except OSError:
            # A thread that has ended meanwhile; what it began counts to another one.
            continue
        for pid in begun:
            try:
                words = Path(f"/proc/{pid}/cmdline").read_text()
                state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if "resource_tracker" not in words and "forkserver" not in words and state != "Z":
                found.append(int(pid))
    return found


def wait_for(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.02)
