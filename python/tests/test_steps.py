"""Steps and effects: what a program sees of them, in one process."""

from __future__ import annotations

import dataclasses
import json
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

import safepoint
from safepoint import Doubt, Held, Intent, Steps


def opened(directory: Path, **options: Any) -> Steps:
    return Steps(directory / "steps", stop=False, **options)


def explode() -> int:
    raise AssertionError("this must not run")


def test_a_step_runs_once_over_all_runs(tmp_path: Path) -> None:
    ran: list[int] = []

    def measure(number: int, factor: int = 1) -> int:
        ran.append(number)
        return number * factor

    for run in (1, 2):
        with opened(tmp_path) as steps:
            assert steps.run == run
            assert steps.step("measure", measure, 7, factor=6) == 42
        assert steps.report is not None
        assert (steps.report.complete, steps.report.skipped) == ((1, 0) if run == 1 else (0, 1))
    assert ran == [7]


def test_the_first_run_gets_what_later_ones_read_back(tmp_path: Path) -> None:
    def measure() -> Any:
        return {"pair": (1, 2.5), "big": 10**30, "text": "größe \u2028", "none": None, "yes": True, "tiny": 5e-324}

    with opened(tmp_path) as steps:
        first = steps.step("measure", measure)
    with opened(tmp_path) as steps:
        later = steps.step("measure", explode)
        assert later == first == {**measure(), "pair": [1, 2.5]}
        assert steps.recorded("measure") == first
        assert steps.recorded("other", "nothing") == "nothing"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(JSON)
@settings(max_examples=200)
def test_every_json_value_comes_back_as_it_went(directory_of_all: Steps, value: object) -> None:
    directory_of_all.forget("value")
    assert_same(directory_of_all.step("value", lambda: value), value)


def assert_same(one: object, other: object) -> None:
    assert (type(one), repr(one)) == (type(other), repr(other))


@pytest.fixture(scope="module")
def directory_of_all(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with opened(tmp_path_factory.mktemp("all")) as steps:
        yield steps


def loop() -> list[Any]:
    itself: list[Any] = []
    itself.append(itself)
    return itself


@pytest.mark.parametrize(
    ("value", "what"),
    [
        ({"a": [1, {2}]}, "a `set` at `['a'][1]`"),
        ([float("nan")], "the number NaN at `[0]`"),
        ({"a": {(1, 2): 2}}, "a `tuple` as a key at `['a']`"),
        (b"x", "is a `bytes`"),
        ("\ud800", "half a surrogate pair"),
        (loop(), "nested deeper than 100"),
        ([10**5000], "an integer of more digits than Python writes at `[0]`"),
    ],
)
def test_what_json_cannot_hold_is_refused_with_its_place(tmp_path: Path, value: object, what: str) -> None:
    with opened(tmp_path) as steps:
        with pytest.raises(safepoint.InvalidError) as refused:
            steps.step("result", lambda: value)
        assert str(refused.value).startswith("the result of step `result`")
        assert what in str(refused.value)
        assert refused.value.hint is not None and "sorted(..)" in refused.value.hint
        # It has failed, so it may be asked for again.
        assert steps.step("result", lambda: 1) == 1


@dataclasses.dataclass
class Point:
    x: int


def test_what_says_what_it_is_in_terms_of_json_is_recorded_so(tmp_path: Path) -> None:
    value = {1: Point(2), "path": Path("/tmp"), "pair": (1, 2)}
    with opened(tmp_path) as steps:
        assert steps.step("result", lambda: value) == {"1": {"x": 2}, "path": "/tmp", "pair": [1, 2]}


def test_an_exception_is_the_same_object_and_records_nothing(tmp_path: Path) -> None:
    error = KeyError("lost")

    def body() -> int:
        raise error

    with opened(tmp_path) as steps:
        with pytest.raises(KeyError) as raised:
            steps.step("fetch", body)
        assert raised.value is error
        assert steps.recorded("fetch") is None
        assert steps.step("fetch", lambda: 1) == 1
        assert steps.close().failed == 1


def test_what_was_settled_inside_a_failed_step_may_be_asked_for_again(tmp_path: Path) -> None:
    paid: list[str] = []
    ships = iter((False, True))

    def order(steps: Steps) -> str:
        steps.effect("pay", lambda intent: paid.append(intent.idempotency_key))
        with steps.stage("ship") as stage:
            stage.step("pack", lambda: 1)
            if not next(ships):
                raise OSError("the harbour is closed")
        return "shipped"

    with opened(tmp_path) as steps:
        with pytest.raises(OSError):
            steps.step("order", order, steps)
        assert steps.step("order", order, steps) == "shipped"
    assert len(paid) == 1


def test_a_name_means_one_step(tmp_path: Path) -> None:
    with opened(tmp_path) as steps:
        steps.step("once", lambda: 1)
        with pytest.raises(safepoint.InvalidError, match="asked for before in this run"):
            steps.step("once", explode)
        for name in ("", "a//b", "a\nb", "x" * 201):
            with pytest.raises(safepoint.InvalidError, match="cannot name"):
                steps.step(name, explode)
        with pytest.raises(safepoint.InvalidError, match="is in progress"):
            steps.step("outer", lambda: steps.step("outer", explode))


def test_scopes_and_stages_join_names_and_are_told(tmp_path: Path) -> None:
    told: list[str] = []
    with opened(tmp_path, on_notice=lambda notice: told.append(str(notice).partition(" (")[0])) as steps:
        with steps.stage("T0") as tier:
            assert tier.name == "T0"
            tier.scope("subtest-3").step("run-2", lambda: 17)
        with pytest.raises(ValueError), steps.stage("T1"):
            raise ValueError("no")
        with pytest.raises(KeyboardInterrupt), steps.stage("T2"):
            raise KeyboardInterrupt
        assert steps.recorded("T0/subtest-3/run-2") == 17
    assert told == [
        "Stage: T0 - Starting",
        "Stage: T0/subtest-3/run-2 - Starting",
        "Stage: T0/subtest-3/run-2 - Complete",
        "Stage: T0 - Complete",
        "Stage: T1 - Starting",
        "Stage: T1 - Failed: ValueError: no",
        "Stage: T2 - Starting",
        "Stage: T2 - Interrupted in run 1",
    ]


def test_notices_have_parts(tmp_path: Path) -> None:
    told: list[safepoint.StepsNotice] = []
    for _ in range(2):
        with opened(tmp_path, on_notice=told.append) as steps:
            steps.step("fetch", lambda: 1)
    assert [(notice.event, notice.name, notice.run) for notice in told] == [
        ("starting", "fetch", None),
        ("complete", "fetch", None),
        ("resumed", None, 2),
        ("skipped", "fetch", 1),
    ]
    assert told[1].seconds is not None and told[1].error is None
    assert repr(told[3]) == "<StepsNotice: Stage: fetch - Skipped (complete since run 1)>"


def test_a_function_that_takes_notices_and_fails_disturbs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[object] = []
    monkeypatch.setattr("sys.unraisablehook", lambda unraisable: said.append(unraisable.exc_value))
    error = RuntimeError("planted")

    def fail(_: safepoint.StepsNotice) -> None:
        raise error

    with opened(tmp_path, on_notice=fail) as steps:
        assert steps.step("fetch", lambda: 1) == 1
    assert said == [error, error]


def test_a_decorated_function_has_a_step_for_each_call(tmp_path: Path) -> None:
    ran: list[tuple[Any, ...]] = []
    for _ in range(2):
        with opened(tmp_path) as steps:

            @steps.step
            def measure(sample: str, scale: float = 1.0) -> str:
                """Measures."""
                ran.append((sample, scale))
                return f"{sample} {scale}"

            @steps.step("once")
            def prepare() -> int:
                return 1

            assert measure("https://a/b") == "https://a/b 1.0"
            assert measure(scale=2.0, sample="b") == "b 2.0"
            assert prepare() == 1
            assert (measure.__name__, measure.__doc__) == ("measure", "Measures.")
            with pytest.raises(safepoint.InvalidError, match="asked for before"):
                measure("b", 2.0)
            assert steps.recorded("once") == 1
            assert measure.name_of("b", 2.0) == 'measure("sample":"b","scale":2.0)'
            # What is given by default decides the result, too.
            assert measure.name_of("b") == measure.name_of("b", 1.0) == 'measure("sample":"b","scale":1.0)'
            assert len(measure.name_of("x" * 1000)) < 60
            assert measure.name_of("x" * 1000) != measure.name_of("x" * 1001)
            refusal = r"the call of step `measure` has an `object` at `\['sample'\]`"
            with pytest.raises(safepoint.InvalidError, match=refusal):
                measure(object())  # type: ignore[arg-type]
    assert ran == [("https://a/b", 1.0), ("b", 2.0)]


@given(JSON, JSON)
@settings(max_examples=200)
def test_two_calls_have_one_name_only_if_their_arguments_are_the_same(
    directory_of_all: Steps, one: object, other: object
) -> None:
    function = directory_of_all.step("call")(lambda value: value)
    for value in (one, other):
        # Whatever the arguments are, it is a name.
        directory_of_all.scope("names").recorded(function.name_of(value))
        assert "/" not in function.name_of(value)
        assert function.name_of(value).isprintable() or not any(ord(x) < 32 for x in function.name_of(value))
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (function.name_of(one) == function.name_of(other)) == same


def test_options_of_a_step(tmp_path: Path) -> None:
    file = tmp_path / "made"

    def make() -> str:
        file.write_text("x")
        return str(file)

    def certain() -> int:
        raise ValueError("it will never be")

    with opened(tmp_path) as steps:
        assert steps.at("make", check=os.path.exists).run(make) == str(file)
        with pytest.raises(ValueError):
            steps.at("certain", memoise_errors=True).run(certain)
    with opened(tmp_path) as steps:
        assert steps.at("make", check=os.path.exists).run(lambda: str(explode())) == str(file)
        with pytest.raises(safepoint.InvalidError, match="failed in run 1: ValueError: it will never be"):
            steps.at("certain", memoise_errors=True).run(explode)
    file.unlink()
    with opened(tmp_path) as steps:
        assert steps.at("make", check=os.path.exists).run(make) == str(file)
        assert steps.close().ran_again == 1


def test_a_check_that_fails_leaves_the_step_as_it_was(tmp_path: Path) -> None:
    with opened(tmp_path) as steps:
        steps.step("make", lambda: 1)
    error = OSError("the file system is away")

    def check(_: int) -> bool:
        raise error

    with opened(tmp_path) as steps:
        with pytest.raises(OSError) as raised:
            steps.at("make", check=check).run(explode)
        assert raised.value is error
        assert steps.step("make", explode) == 1


def test_forgotten_steps_run_again(tmp_path: Path) -> None:
    with opened(tmp_path) as steps:
        assert steps.step("fetch", lambda: 1) == 1
        assert steps.forget("fetch") is True
        assert steps.forget("fetch") is False
        assert steps.step("fetch", lambda: 2) == 2


def test_threads_share_steps(tmp_path: Path) -> None:
    ran: list[int] = []
    lock = threading.Lock()

    def body(number: int) -> int:
        with lock:
            ran.append(number)
        return number

    for _ in range(2):
        with opened(tmp_path) as steps, ThreadPoolExecutor(8) as threads:
            results = threads.map(lambda number: steps.step(f"step-{number}", body, number), range(500))
            assert list(results) == list(range(500))
    assert sorted(ran) == list(range(500))


# Stops.


def test_a_stop_raises_stopped_and_the_block_takes_it_in(tmp_path: Path) -> None:
    ran: list[str] = []
    with safepoint.shutdown(signals=False) as stop, Steps(tmp_path / "steps") as steps:
        steps.step("one", ran.append, "one")
        stop.request("enough")
        steps.step("two", ran.append, "two")
        ran.append("never")
    assert ran == ["one"]
    assert steps.report is not None and steps.report.was_stopped
    assert stop.exit_code == 75


def test_a_stop_waits_for_the_step_in_progress(tmp_path: Path) -> None:
    began, end = threading.Event(), threading.Event()

    def body() -> int:
        began.set()
        assert end.wait(10)
        return 1

    with safepoint.shutdown(signals=False, grace=10) as stop:
        steps = Steps(tmp_path / "steps", stop=stop)
        thread = threading.Thread(target=steps.step, args=("slow", body))
        thread.start()
        assert began.wait(10)
        stop.request("enough")
        end.set()
    thread.join()
    assert stop.report is not None and stop.report.is_clean
    assert stop.report.units == (1, 0, 0)
    assert steps.close().complete == 1


def test_an_exception_after_a_stop_counts_as_cut_off(tmp_path: Path) -> None:
    told: list[str] = []

    def body() -> int:
        stop.request("enough")
        raise ConnectionError("because of the stop, perhaps")

    with (
        safepoint.shutdown(signals=False) as stop,
        opened_with(stop, tmp_path, told.append) as steps,
        pytest.raises(ConnectionError),
    ):
        steps.at("fetch", memoise_errors=True).run(body)
    assert told[-1] == "Stage: fetch - Interrupted in run 1"
    with opened(tmp_path) as steps:
        assert steps.at("fetch", memoise_errors=True).run(lambda: 1) == 1


def test_after_a_stop_there_is_a_report_whatever_leaves_the_block(tmp_path: Path) -> None:
    with (
        pytest.raises(ConnectionError),
        safepoint.shutdown(signals=False) as stop,
        Steps(tmp_path / "steps") as steps,
    ):
        stop.request("enough")
        raise ConnectionError
    assert steps.report is not None and steps.report.was_stopped


def opened_with(stop: safepoint.ShutdownToken, directory: Path, told: Callable[[str], None]) -> Steps:
    return Steps(directory / "steps", stop=stop, on_notice=lambda notice: told(str(notice)))


def test_ctrl_c_in_a_body_is_no_failure_of_the_step(tmp_path: Path) -> None:
    def body() -> int:
        raise KeyboardInterrupt

    with opened(tmp_path) as steps:
        with pytest.raises(KeyboardInterrupt):
            steps.at("fetch", memoise_errors=True).run(body)
        report = steps.close()
        assert (report.failed, report.complete) == (0, 0)


# The directory.


def test_where_the_state_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with Steps("experiment", stop=False) as steps:
        steps.step("one", lambda: 1)
    assert (tmp_path / ".safepoint/experiment/job.db").exists()
    for name in ("", "a/b", ".hidden", "-x", "x" * 101, "größe"):
        with pytest.raises(safepoint.InvalidError, match="cannot name a job"):
            Steps(name)


def test_one_owner(tmp_path: Path) -> None:
    with opened(tmp_path), pytest.raises(safepoint.BusyError, match="owned by|has|process"):
        opened(tmp_path)


def test_after_the_close_all_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path) as steps:
        scope = steps.scope("late")
    assert steps.close() is steps.report
    for late in (steps, scope):
        with pytest.raises(safepoint.ClosedError):
            late.step("one", explode)


def test_an_exception_that_leaves_the_block_ends_the_run_early(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), opened(tmp_path) as steps:
        steps.step("one", lambda: 1)
        _ = 1 / 0
    assert steps.report is None
    with pytest.raises(safepoint.ClosedError):
        steps.close()
    with opened(tmp_path) as steps:
        assert steps.step("one", explode) == 1


def test_a_fork_is_refused_and_harms_nothing(tmp_path: Path) -> None:
    with opened(tmp_path) as steps:
        steps.step("before", lambda: 1)
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            said = b"?"
            try:
                steps.step("in the fork", lambda: 1)
            except safepoint.InvalidError as refused:
                said = str(refused).encode()
            finally:
                os.write(write, said)
                del steps
                os._exit(0)
        os.close(write)
        with os.fdopen(read) as pipe:
            assert f"belong to process {os.getpid()}" in pipe.read()
        assert os.waitpid(child, 0)[1] == 0
        steps.step("after", lambda: 2)
    with opened(tmp_path) as steps:
        assert (steps.step("before", explode), steps.step("after", explode)) == (1, 2)


# Effects.


def test_an_effect_is_brought_about_once(tmp_path: Path) -> None:
    keys: list[str] = []

    def pay(intent: Intent) -> int:
        keys.append(intent.idempotency_key)
        return 4711

    for _ in range(2):
        with opened(tmp_path) as steps:
            assert steps.effect("pay", pay) == 4711
    assert len(keys) == 1


def doubtful(tmp_path: Path) -> str:
    """Leaves the effect `pay` in doubt, and gives its idempotency key."""
    keys: list[str] = []

    def pay(intent: Intent) -> int:
        keys.append(intent.idempotency_key)
        raise TimeoutError("no answer")

    with opened(tmp_path) as steps, pytest.raises(TimeoutError):
        steps.effect("pay", pay)
    return keys[0]


def test_doubt_is_held_for_a_person(tmp_path: Path) -> None:
    doubtful(tmp_path)
    with opened(tmp_path) as steps:
        with pytest.raises(Held, match="`pay` is held") as held:
            steps.effect("pay", lambda intent: explode())
        assert held.value.key == "pay"
        assert steps.close().held == 1
    # Once held it stays so, whatever is passed.
    with opened(tmp_path) as steps, pytest.raises(Held):
        steps.effect("pay", lambda intent: explode(), in_doubt="run_again")
    with opened(tmp_path) as steps:
        steps.resolve("pay", done={"receipt": 1})
        assert steps.effect("pay", lambda intent: {"receipt": explode()}) == {"receipt": 1}
        with pytest.raises(safepoint.NotFoundError):
            steps.resolve("other", again=True)
        with pytest.raises(safepoint.InvalidError, match="one of two ways"):
            steps.resolve("pay")


def test_doubt_runs_again_with_the_same_key(tmp_path: Path) -> None:
    key = doubtful(tmp_path)
    with opened(tmp_path) as steps:
        assert steps.effect("pay", lambda intent: intent.idempotency_key, in_doubt="run_again") == key


def test_doubt_is_asked_about(tmp_path: Path) -> None:
    doubtful(tmp_path)

    def cannot_say(doubt: Doubt) -> Any:
        raise ConnectionError("the bank is closed")

    with opened(tmp_path) as steps:
        error: Exception | None = None
        try:
            steps.effect("pay", lambda intent: explode(), in_doubt=cannot_say)
        except ConnectionError as raised:
            error = raised
        # While the traceback is there, too, it may be asked for again.
        assert error is not None
        with pytest.raises(safepoint.InvalidError, match="no answer"):
            steps.effect("pay", lambda intent: explode(), in_doubt=lambda doubt: True)
        with pytest.raises(safepoint.InvalidError, match="which JSON cannot say"):
            steps.effect("pay", lambda intent: explode(), in_doubt=lambda doubt: doubt.completed({1}))
        assert steps.effect("pay", lambda intent: explode(), in_doubt=lambda doubt: doubt.completed(7)) == 7
    key = doubtful(tmp_path / "other")
    with opened(tmp_path / "other") as steps:
        again = steps.effect("pay", lambda intent: intent.idempotency_key, in_doubt=lambda doubt: doubt.not_done())
        assert again == key


def test_what_certainly_has_not_happened_is_not_in_doubt(tmp_path: Path) -> None:
    error = ConnectionRefusedError()

    def pay(intent: Intent) -> int:
        raise intent.not_done(error)

    with opened(tmp_path) as steps:
        with pytest.raises(ConnectionRefusedError) as raised:
            steps.effect("pay", pay)
        assert raised.value is error
        assert steps.effect("pay", lambda intent: 1) == 1


def test_a_result_of_an_effect_that_is_no_json_leaves_it_in_doubt(tmp_path: Path) -> None:
    with opened(tmp_path) as steps:
        with pytest.raises(safepoint.InvalidError, match="the result of effect `pay`"):
            steps.effect("pay", lambda intent: {1, 2})
        with pytest.raises(Held):
            steps.effect("pay", lambda intent: explode())


def test_a_way_with_doubt_that_is_none_is_refused_at_once(tmp_path: Path) -> None:
    with opened(tmp_path) as steps:
        with pytest.raises(safepoint.InvalidError, match="`retry` says nothing"):
            steps.effect("pay", lambda intent: explode(), in_doubt="retry")
        assert steps.effect("pay", lambda intent: 1) == 1
