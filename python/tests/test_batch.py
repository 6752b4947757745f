"""`safepoint.batch`: what is done is not done again, whatever ended the run before."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import pathlib
import pty
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import numpy
import pytest
from hypothesis import HealthCheck, given, settings, strategies

import safepoint
from conftest import PATIENCE, Start

Path = pathlib.Path


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def quiet(items: Any, key: Any = None, state: Any = "words", **options: Any) -> safepoint.Batch[Any]:
    return safepoint.batch(items, key, state, progress=False, **options)


def run_cli(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "safepoint", *arguments], capture_output=True, text=True, timeout=60, check=False
    )


class Failing(Exception):
    pass


# Loops.


def test_a_loop_goes_on_with_the_item_that_an_exception_left() -> None:
    seen = []
    with pytest.raises(Failing):
        for item in quiet(range(10)):
            if item == 7:
                raise Failing
            seen.append(item)
    assert seen == [0, 1, 2, 3, 4, 5, 6]
    batch = quiet(range(10))
    assert list(batch) == [7, 8, 9]
    assert batch.report is not None
    assert batch.report.complete
    assert (batch.report.run, batch.report.done, batch.report.done_now) == (2, 10, 3)
    assert list(quiet(range(10))) == []


def test_an_item_that_break_leaves_is_put_back_uncounted() -> None:
    for _ in range(5):
        for item in quiet(["a", "b"]):
            assert item == "a"
            break
    batch = quiet(["a", "b"])
    assert list(batch) == ["a", "b"]
    assert batch.counts.dead == 0


def test_a_generator_is_read_one_item_at_a_time() -> None:
    read = []

    def source() -> Iterator[int]:
        for number in range(100):
            read.append(number)
            yield number

    for item in quiet(source()):
        assert read[-1] == item
        if item == 3:
            break
    assert read == [0, 1, 2, 3]


def test_an_exception_of_the_source_goes_out_and_what_was_done_stays() -> None:
    def source() -> Iterator[int]:
        yield 1
        yield 2
        raise Failing("source")

    with pytest.raises(Failing, match="source"):
        list(quiet(source()))
    batch = quiet([1, 2, 3])
    assert list(batch) == [3]


def test_results_are_recorded_in_order_and_read_back() -> None:
    values = [1, "zwei", None, 2.5, [1, {"a": [True]}], "\u00e4\n\x00\U0001f600", 10**30, -0.0]
    with quiet(range(len(values))) as batch:
        for item in batch:
            batch.result(values[item])
    assert list(batch.results()) == values
    assert list(quiet(range(len(values))).results()) == values
    assert [index for index, _, _ in batch.result_items()] == list(range(len(values)))


def test_what_says_what_it_is_in_terms_of_json_is_taken() -> None:
    @dataclass
    class Point:
        x: int
        where: Path

    values = [numpy.float32(0.5), numpy.arange(3), Point(1, Path("a/b")), (1, 2), {1: "one", None: None}]
    with quiet(range(len(values))) as batch:
        for item in batch:
            batch.result(values[item])
    assert list(batch.results()) == [0.5, [0, 1, 2], {"x": 1, "where": "a/b"}, [1, 2], {"1": "one", "null": None}]


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"a": [1, object()]}, r"has an `object` at `\['a'\]\[1\]`"),
        (float("nan"), "is the number NaN"),
        ({(1, 2): 3}, "is a `tuple` as a key"),
        ("\ud800", "half a surrogate"),
        ({1, 2}, "is a `set`"),
    ],
)
def test_what_json_cannot_say_is_refused_with_its_place(value: object, says: str) -> None:
    with pytest.raises(safepoint.InvalidError, match=says), quiet([1]) as batch:
        for _ in batch:
            batch.result(value)


def test_a_value_that_holds_itself_is_refused() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(safepoint.InvalidError, match="nested deeper"), quiet([1]) as batch:
        for _ in batch:
            batch.result(value)


def test_a_second_result_of_an_item_is_refused() -> None:
    with quiet([1]) as batch:
        for _ in batch:
            batch.result("first")
            with pytest.raises(safepoint.InvalidError, match="no item is in progress"):
                batch.result("second")
    with pytest.raises(safepoint.ClosedError):
        batch.result("third")
    assert list(batch.results()) == ["first"]


def test_in_a_with_block_an_exception_is_a_failed_attempt_and_goes_on_out() -> None:
    for attempt in range(1, 4):
        with pytest.raises(Failing), quiet(["good", "bad", "last"]) as batch:
            for item in batch:
                if item == "bad":
                    raise Failing(f"attempt {attempt}")
        assert batch.report is not None
        assert batch.report.failures == 1
    shown = run_cli("show", "words", "1").stdout
    assert "Failing: attempt 3" in shown
    assert "dead" in shown
    assert list(quiet(["good", "bad", "last"])) == ["last"]
    batch = quiet(["good", "bad", "last"], retry_failed=True)
    assert list(batch) == ["bad"]
    assert batch.report is not None
    assert batch.report.complete


@pytest.mark.parametrize("leaving", [KeyboardInterrupt, SystemExit, safepoint.Stopped, asyncio.CancelledError])
def test_what_is_no_failure_of_the_item_counts_as_none(leaving: type[BaseException]) -> None:
    for _ in range(4):
        with pytest.raises(leaving), quiet([1]) as batch:
            for _ in batch:
                raise leaving
    assert list(quiet([1])) == [1]


# Identity.


def test_other_items_at_the_same_places_are_refused_and_named() -> None:
    list(quiet(["one", "two"]))
    with pytest.raises(safepoint.IncompatibleError) as refused:
        list(quiet(["one", "three"]))
    assert str(refused.value) == 'item 1 of `words` was "two" and is "three"'
    assert refused.value.hint is not None
    assert list(quiet(["one", "three"], fresh=True)) == ["one", "three"]
    assert Path(".safepoint/words.previous/job.db").exists()


def test_items_that_json_cannot_say_need_a_key() -> None:
    class Thing:
        def __init__(self, name: str) -> None:
            self.name = name

    things = [Thing("a"), Thing("b")]
    with pytest.raises(safepoint.InvalidError, match="Thing") as refused:
        list(quiet(things))
    assert "key=" in str(refused.value.hint)
    for key in ("name", lambda thing: thing.name):
        state = "by-name" if isinstance(key, str) else "by-function"
        assert list(quiet(things, key, state)) == things
        assert list(quiet([Thing("c"), Thing("b"), Thing("a")], key, state))[0].name == "c"


def test_keys_count_once_in_any_order() -> None:
    assert list(quiet(["b", "a", "b", "c", "a"], key=str)) == ["b", "a", "c"]
    assert list(quiet(["d", "c", "b", "a"], key=str)) == ["d"]
    with pytest.raises(safepoint.IncompatibleError, match="told apart by a key"):
        list(quiet(["d"]))


def test_a_key_that_fails_goes_out_and_one_that_is_none_is_refused() -> None:
    def broken(item: int) -> str:
        raise Failing

    with pytest.raises(Failing):
        list(quiet([1], key=broken))
    with pytest.raises(safepoint.InvalidError, match="no key"):
        list(quiet([1], key=lambda item: None))
    with pytest.raises(safepoint.InvalidError, match="no field `id`"):
        list(quiet([{"name": 1}], key="id"))


@pytest.mark.parametrize("state", ["", ".x", "a/b", "-a", "x" * 101, "a b"])
def test_a_state_that_is_no_name_is_refused(state: str) -> None:
    with pytest.raises(safepoint.InvalidError):
        quiet([1], state=state)
    with pytest.raises(safepoint.InvalidError):
        quiet([1], state=None)


def test_a_path_is_the_directory_itself(tmp_path: Path) -> None:
    place = tmp_path / "deep" / "er"
    assert list(quiet([1, 2], state=place)) == [1, 2]
    assert (place / "job.db").exists()
    assert oct(place.stat().st_mode)[-3:] == "700"


# Decorators.


def test_decorated_failures_are_attempted_again_and_the_rest_goes_on() -> None:
    calls: dict[str, int] = {}

    @quiet(["flaky", "bad", "refused", "good"], key=str, retry_wait=0.01)
    def work(item: str) -> str:
        calls[item] = calls.get(item, 0) + 1
        if item == "bad":
            raise Failing("always")
        if item == "refused":
            raise safepoint.Refuse("not this")
        if item == "flaky" and calls[item] < 3:
            raise safepoint.Retry("not yet", after=0.0)
        return item.upper()

    report = work()
    assert calls == {"flaky": 3, "bad": 3, "refused": 1, "good": 1}
    assert (report.done, report.dead, report.failures) == (2, 2, 6)
    assert report.outcome == "completed"
    assert not report.complete
    assert list(work.batch.results()) == ["FLAKY", "GOOD"]  # type: ignore[attr-defined]
    assert "Failing: always" in run_cli("show", "words", "bad").stdout


def test_a_decorated_function_whose_result_cannot_be_kept_ends_the_run() -> None:
    @quiet([1, 2])
    def work(item: int) -> object:
        return object()

    with pytest.raises(safepoint.InvalidError, match="the result of item 0 is an `object`"):
        work()
    assert list(quiet([1, 2])) == [1, 2]


# Asynchronous.


def test_async_loops_over_plain_and_async_sources() -> None:
    async def source() -> AsyncIterator[int]:
        for number in range(5):
            await asyncio.sleep(0)
            yield number

    async def loop(items: Any, state: str) -> list[int]:
        seen = []
        async for item in quiet(items, state=state):
            if item == 3 and state.endswith("1"):
                break
            seen.append(item)
        return seen

    assert asyncio.run(loop(range(5), "plain")) == [0, 1, 2, 3, 4]
    assert asyncio.run(loop(source(), "source1")) == [0, 1, 2]
    batch = quiet(source(), state="source1")

    async def rest() -> list[int]:
        return [item async for item in batch]

    assert asyncio.run(rest()) == [3, 4]
    assert batch.report is not None
    assert batch.report.complete


def test_an_async_function_is_decorated_too() -> None:
    calls: dict[int, int] = {}

    @quiet(range(3), retry_wait=0.01)
    async def work(item: int) -> int:
        await asyncio.sleep(0)
        calls[item] = calls.get(item, 0) + 1
        if item == 1 and calls[item] == 1:
            raise Failing
        return item * 10

    report = asyncio.run(work())
    assert report.complete
    assert calls == {0: 1, 1: 2, 2: 1}
    assert sorted(work.batch.results()) == [0, 10, 20]  # type: ignore[attr-defined]


# Stops.


def test_a_stop_ends_the_loop_between_two_items() -> None:
    seen = []
    with safepoint.shutdown() as stop:
        batch = quiet(range(10))
        for item in batch:
            seen.append(item)
            if item == 4:
                stop.request("enough")
    assert seen == [0, 1, 2, 3, 4]
    assert batch.report is not None
    assert batch.report.outcome == "interrupted"
    assert batch.report.reason is not None
    assert "enough" in batch.report.reason
    assert list(quiet(range(10))) == [5, 6, 7, 8, 9]


def test_a_stop_does_not_wait_for_an_item_that_waits_for_its_next_attempt() -> None:
    with safepoint.shutdown(signals=False) as stop:

        @quiet([1], retry_wait=3600)
        def work(item: int) -> None:
            threading.Timer(0.05, stop.request).start()
            raise Failing

        began = time.monotonic()
        report = work()
    assert time.monotonic() - began < 30
    assert (report.outcome, report.waiting) == ("interrupted", 1)


def test_a_loop_in_a_thread_leaves_signals_alone() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen: list[int] = []

    def loop() -> None:
        for item in quiet(range(100)):
            assert signal.getsignal(signal.SIGINT) is before
            seen.append(item)

    thread = threading.Thread(target=loop)
    thread.start()
    thread.join(60)
    assert seen == list(range(100))


def test_handlers_are_put_back_and_a_handler_of_the_program_stays() -> None:
    for _ in quiet([1, 2]):
        assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    heard = []
    signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    try:
        for _ in quiet([1, 2], state="own"):
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    assert heard == [signal.SIGINT, signal.SIGINT]


LOOP = """
    import safepoint, sys, time

    def items():
        for number in range(10_000):
            yield number

    for item in safepoint.batch(items(), state="words"):
        print(f"at {item}")
        deadline = time.monotonic() + (3600 if item == 3 and "hang" in sys.argv else 0.05)
        while time.monotonic() < deadline:
            time.sleep(0.01)
        print(f"did {item}")
    print("after the loop")
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, -signal.SIGINT), (signal.SIGTERM, 143)])
def test_the_first_signal_lets_the_item_finish_and_ends_the_program(
    start: Start, number: signal.Signals, code: int
) -> None:
    program = start(LOOP)
    program.until("at 2")
    program.send(number)
    ended, lines, errors = program.end()
    assert ended == code, errors
    done = int(lines[-1].removeprefix("did "))
    assert "run it again to go on" in errors
    assert run_cli("status", "words", "--json").returncode == 0
    again = start(LOOP)
    again.until(f"at {done + 1}")
    assert again.lines == [f"at {done + 1}"], "nothing is repeated, nothing left out"
    again.send(signal.SIGKILL)


def test_the_second_ctrl_c_interrupts_the_item(start: Start) -> None:
    program = start(LOOP, "hang")
    program.until("at 3")
    program.send(signal.SIGINT)
    wait_for(lambda: json.loads(run_cli("status", "words", "--json").stdout)["done"] == 3)
    # A person's pause: the same signal within 100 ms counts once.
    time.sleep(0.2)
    program.send(signal.SIGINT)
    code, lines, errors = program.end()
    assert code == -signal.SIGINT, errors
    assert "KeyboardInterrupt" in errors
    assert lines[-1] == "at 3"
    again = start(LOOP)
    again.until("at 3")
    assert len(again.lines) == 1
    again.send(signal.SIGKILL)


def test_safepoint_stop_reaches_the_loop(start: Start) -> None:
    program = start(LOOP)
    program.until("at 1")
    assert run_cli("stop", "words").returncode == 0
    code, lines, errors = program.end()
    assert code == 75, errors
    assert "after the loop" not in lines
    events = Path(".safepoint/words/events.jsonl").read_text()
    assert [json.loads(line)["event"] for line in events.splitlines()] == [
        "run_started",
        "interrupt_initiated",
        "interrupt_completed",
        "run_ended",
    ]


def test_inside_a_block_the_program_goes_on_after_the_loop(start: Start) -> None:
    program = start("""
        import safepoint, time

        with safepoint.shutdown() as stop:
            for item in safepoint.batch(range(10_000), state="words"):
                print(f"at {item}")
                time.sleep(0.02)
            print("after the loop")
        raise SystemExit(stop.exit_code)
    """)
    program.until("at 1")
    program.send(signal.SIGTERM)
    code, lines, _ = program.end()
    assert (code, lines[-1]) == (143, "after the loop")


# Kills.


STORM = """
    import os, safepoint, sys

    log = os.open("log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    count, key = int(sys.argv[1]), (str if sys.argv[2] == "key" else None)
    with safepoint.batch(range(count), key, state="words", progress=False) as batch:
        for item in batch:
            os.write(log, b"did %d\\n" % item)
            batch.result(item * 2)
            if item % 64 == 0:
                os.write(log, b"durable %d\\n" % batch.counts.done)
    print("complete")
"""


@pytest.mark.parametrize("how", ["key", "place"])
def test_kills_at_random_lose_nothing_and_repeat_nothing_that_was_durable(start: Start, how: str) -> None:
    count = 30_000
    kills = 0
    chance = random.Random(how)
    log = Path("log")
    while True:
        program = start(STORM, str(count), how)
        if kills == 6:
            program.process.wait(PATIENCE)
            break
        # By what it has said, for machines differ: some thousand items further than before.
        further = (log.stat().st_size if log.exists() else 0) + chance.randrange(1, 40_000)
        while not (log.exists() and log.stat().st_size >= further) and program.process.poll() is None:
            time.sleep(0.002)
        if program.process.poll() is not None:
            break
        program.send(signal.SIGKILL)
        program.process.wait()
        kills += 1
    assert program.process.returncode == 0, program.end()[2]
    assert kills >= 2
    durable, done_at = 0, {}
    repeated = 0
    for line in Path("log").read_text().splitlines():
        word, number = line.split()
        if word == "durable":
            durable = max(durable, int(number))
        else:
            item = int(number)
            repeated += item in done_at
            done_at[item] = line
            assert item >= durable, "what was known to be durable is not done again"
    assert len(done_at) == count
    # Those of the last few milliseconds before a kill.
    assert repeated < kills * 2000
    assert list(safepoint.batch([], state="words").results()) == [number * 2 for number in range(count)]
    assert run_cli("validate", ".safepoint/words").returncode == 0


def test_an_item_that_kills_the_program_three_times_is_dead(start: Start) -> None:
    source = """
        import os, safepoint, signal

        for item in safepoint.batch(["good", "poison", "last"], state="words", progress=False):
            print(item)
            if item == "poison":
                os.kill(os.getpid(), signal.SIGKILL)
    """
    for _ in range(3):
        assert start(source).end()[0] == -signal.SIGKILL
    code, lines, _ = start(source).end()
    assert (code, lines) == (0, ["last"])
    assert "3 crashes" in run_cli("show", "words", "1").stdout


# Processes.


def test_a_fork_in_the_loop_touches_nothing() -> None:
    for item in quiet(range(3)):
        process = multiprocessing.get_context("fork").Process(target=print, args=(item,))
        process.start()
        process.join(60)
        assert process.exitcode == 0
        child = os.fork()
        if child == 0:
            # Dropped with everything else, as at the end of a program.
            del process
            import gc

            gc.collect()
            os._exit(0)
        os.waitpid(child, 0)
        with pytest.raises(safepoint.BusyError):
            list(quiet(range(3)))
    batch = quiet(range(3))
    assert list(batch) == []
    assert batch.counts.done == 3


def test_two_processes_cannot_have_the_same_state(start: Start) -> None:
    program = start(LOOP)
    program.until("at 0")
    with pytest.raises(safepoint.BusyError, match=str(program.process.pid)) as refused:
        list(quiet(range(3)))
    assert refused.value.is_retryable
    program.send(signal.SIGKILL)
    program.process.wait()
    assert next(iter(quiet(iter(range(10_000))))) >= 0, "the lock of a dead owner is free at once"


def test_a_state_of_another_kind_is_refused_both_ways() -> None:
    Path("in.txt").write_text("1\n")
    assert run_cli("run", "in.txt", "--name", "command", "--", "true").returncode == 0
    with pytest.raises(safepoint.IncompatibleError, match="not one of a program's own items"):
        list(quiet([1], state="command"))
    list(quiet([1]))
    for more in ([], ["--accept-changes"]):
        refused = run_cli("run", "in.txt", "--name", "words", *more, "--", "true")
        assert refused.returncode == 5
        assert "holds the items that a program gives" in refused.stderr


def test_the_command_understands_it() -> None:
    with pytest.raises(Failing), quiet(["a", "b", "c"], total=3, attempts=1) as batch:
        for item in batch:
            if item == "b":
                raise Failing("no")
            batch.result({"was": item})
    status = json.loads(run_cli("status", "words", "--json").stdout)
    assert (status["status"], status["done"], status["dead"], status["total"]) == ("interrupted", 1, 1, 3)
    assert "words" in run_cli("list").stdout
    assert json.loads(run_cli("results", "words").stdout.splitlines()[0])["result"] == {"was": "a"}
    assert "run_ended" in run_cli("events", "words").stdout
    assert run_cli("report", "words").returncode == 0
    assert run_cli("retry", "words").returncode == 0
    assert list(quiet(["a", "b", "c"])) == ["b", "c"]
    assert json.loads(run_cli("status", "words", "--json").stdout)["status"] == "completed"


# What people see.


def test_notes_elsewhere_than_in_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    batch = safepoint.batch(range(5000), state="words")
    with safepoint.shutdown(signals=False) as stop:
        for item in batch:
            if item == 716:
                stop.request("enough")
    assert "717 of 5,000 done" in capsys.readouterr().err
    list(safepoint.batch(range(5000), state="words"))
    assert capsys.readouterr().err == "safepoint: words: resumed: 717 of 5,000 done\n"
    list(quiet(range(5000)))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("no_color", ["", "1"])
def test_a_terminal_has_one_line(no_color: str) -> None:
    source = """
import safepoint, time
@safepoint.batch(range(40), state="words", attempts=1)
def work(item):
    time.sleep(0.01)
    if item == 3: raise ValueError("three")
work()
"""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(NO_COLOR=no_color, COLUMNS="100", TERM="xterm")
        os.execv(sys.executable, [sys.executable, "-c", source])
    shown = b""
    try:
        while piece := os.read(terminal, 4096):
            shown += piece
    except OSError:
        pass
    assert os.waitpid(pid, 0)[1] == 0
    os.close(terminal)
    text = shown.decode()
    lines = text.split("\n")
    assert "100%" in lines[0].split("\r")[-2]
    assert "40/40" in lines[0]
    assert "1 dead" in lines[0]
    assert ("\x1b[31m" in text) == (no_color == "")


# Against a model.


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    runs=strategies.lists(
        strategies.tuples(
            strategies.lists(strategies.integers(0, 8), max_size=9),
            strategies.sampled_from(["end", "break", "raise"]),
            strategies.integers(0, 8),
        ),
        min_size=1,
        max_size=5,
    ),
    keyed=strategies.booleans(),
)
def test_any_runs_agree_with_a_set(
    tmp_path_factory: pytest.TempPathFactory, runs: list[tuple[list[int], str, int]], keyed: bool
) -> None:
    state = tmp_path_factory.mktemp("model") / "state"
    done: set[int] = set()
    for items, ending, after in runs:
        # Without keys an item is its place, so there is one sequence that only differs in length.
        source = items if keyed else list(range(len(items)))
        expected = [item for item in dict.fromkeys(source) if item not in done]
        seen = []
        batch = quiet(source, str if keyed else None, state)
        try:
            for item in batch:
                seen.append(item)
                if len(seen) > after and ending != "end":
                    if ending == "break":
                        break
                    raise Failing
        except Failing:
            pass
        was_left = ending != "end" and len(expected) > after
        assert seen == (expected[: after + 1] if was_left else expected)
        done.update(seen[:-1] if was_left else seen)
        assert batch.report is not None
        assert batch.report.done == len(done)
        assert batch.report.complete == (not was_left)


def wait_for(is_so: Any) -> None:
    end = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.02)
