"""The token, in one process and without signals."""

from __future__ import annotations

import asyncio
import copy
import gc
import os
import pickle
import queue
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal

import pytest
from hypothesis import given, strategies as st

import safepoint


def test_nothing_is_asked_for_at_first() -> None:
    with safepoint.shutdown() as stop:
        assert not stop.requested
        assert stop.reason is None
        assert stop.remaining is None
        assert stop.phase == "running"
        assert not stop.wait(0)
    assert stop.report is not None
    assert stop.exit_code == 0
    assert stop.report.is_clean


def test_a_request_is_seen_by_the_token_and_its_children() -> None:
    with safepoint.shutdown(grace=7) as stop:
        child = stop.child("child")
        grandchild = child.child("grandchild")
        child.request("enough")
        assert child.requested and grandchild.requested
        assert not stop.requested
        stop.request("all", source="USER")
        assert stop.requested
        assert stop.reason is not None
        assert (stop.reason.source, stop.reason.mode, stop.reason.message) == ("USER", "GRACEFUL", "all")
        assert 0 < (stop.remaining or 0) <= 7
        assert stop.child("later").requested
    assert stop.exit_code == 75


def test_an_immediate_request_after_a_graceful_one_always_escalates() -> None:
    with safepoint.shutdown() as stop:
        stop.request("first")
        assert stop.phase == "draining"
        stop.request("second", immediate=True)
        assert stop.phase == "terminating"
        assert stop.reason is not None and stop.reason.message == "first"
    assert stop.report is not None
    assert (stop.report.graceful_interrupts, stop.report.immediate_interrupts) == (1, 1)
    assert [request.message for request in stop.report.requests] == ["first", "second"]


def test_iter_ends_at_the_safepoint_and_takes_nothing_that_it_does_not_give() -> None:
    taken: list[int] = []

    def items() -> list[int]:
        return [1, 2, 3, 4]

    source = iter(items())
    with safepoint.shutdown() as stop:
        for item in stop.iter(source):
            taken.append(item)
            if item == 2:
                stop.request()
    assert taken == [1, 2]
    assert list(source) == [3, 4]


def test_iter_passes_an_exception_of_the_source_on() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise RuntimeError("the source broke")

    with safepoint.shutdown() as stop, pytest.raises(RuntimeError, match="the source broke"):
        list(stop.iter(items()))


def test_async_iter_leaves_an_item_that_is_long_in_coming() -> None:
    async def main() -> list[int]:
        got: list[int] = []

        async def items() -> AsyncIterator[int]:
            yield 1
            yield 2
            await asyncio.Event().wait()

        async with safepoint.shutdown() as stop:
            async for item in stop.iter(items()):
                got.append(item)
                if item == 2:
                    asyncio.get_running_loop().call_soon(stop.request)
        return got

    assert asyncio.run(asyncio.wait_for(main(), 60)) == [1, 2]


def test_a_unit_commits_or_rolls_back_the_last_action_first() -> None:
    undone: list[str] = []
    with safepoint.shutdown() as stop:
        with stop.unit("committed") as unit:
            unit.on_rollback(undone.append, "never")
        with pytest.raises(ZeroDivisionError), stop.unit("rolled back") as unit:
            unit.on_rollback(undone.append, "first")
            unit.on_rollback(undone.append, "second")
            _ = 1 / 0
        stop.request()
        with pytest.raises(safepoint.Stopped), stop.unit("refused"):
            undone.append("entered")
    assert undone == ["second", "first"]
    assert stop.report is not None and stop.report.units == (1, 1, 1)


def test_a_rollback_that_fails_is_named_and_the_others_run() -> None:
    undone: list[str] = []

    def fail() -> None:
        raise ValueError("cannot undo")

    with safepoint.shutdown() as stop, pytest.raises(ZeroDivisionError), stop.unit("record 17") as unit:
        unit.on_rollback(undone.append, "first")
        unit.on_rollback(fail)
        _ = 1 / 0
    assert undone == ["first"]
    assert stop.report is not None
    assert stop.report.failures == [("record 17", "ValueError: cannot undo")]


def test_an_abandoned_unit_is_rolled_back_when_it_is_collected() -> None:
    undone: list[int] = []

    def work(stop: safepoint.Shutdown) -> Iterator[None]:
        with stop.unit("abandoned") as unit:
            unit.on_rollback(undone.append, 1)
            yield

    with safepoint.shutdown() as stop:
        generator = work(stop)
        next(generator)
        del generator
        gc.collect()
        assert undone == [1]


def test_async_units_and_hooks_live_in_the_loop() -> None:
    said: list[str] = []

    async def main() -> safepoint.Shutdown:
        loop = asyncio.get_running_loop()

        async def undo() -> None:
            await asyncio.sleep(0)
            said.append("undone")

        async with safepoint.shutdown() as stop:

            @stop.hook(order="save")
            async def save(seconds: float) -> None:
                assert asyncio.get_running_loop() is loop
                assert seconds > 0
                said.append("saved")

            with pytest.raises(ZeroDivisionError):
                async with stop.unit("one") as unit:
                    unit.on_rollback(undo)
                    _ = 1 / 0
        return stop

    stop = asyncio.run(main())
    assert said == ["undone", "saved"]
    assert stop.report is not None and stop.report.is_clean


def test_hooks_run_in_their_order_and_a_broken_one_blocks_none() -> None:
    said: list[str] = []
    with safepoint.shutdown() as stop:
        stop.hook("report")(lambda: said.append("report"))
        stop.hook("accept")(lambda: said.append("accept"))
        stop.hook("close", "first")(lambda: said.append("close 1"))

        @stop.hook("close")
        def broken() -> None:
            raise OSError("the door is stuck")

        stop.hook("close")(lambda: said.append("close 3"))
    assert said == ["accept", "close 3", "close 1", "report"]
    assert stop.report is not None
    (told,) = [hook for hook in stop.report.hooks if hook["error"]]
    assert told["name"].endswith("broken") and told["error"] == "OSError: the door is stuck"
    assert not stop.report.is_clean


def test_a_hook_that_hangs_is_left_behind_and_named() -> None:
    release = threading.Event()
    said: list[str] = []
    with safepoint.shutdown(grace=0.2) as stop:
        stop.hook("close", "hung")(release.wait)
        stop.hook("report")(lambda: said.append("report"))
        stop.request()
    release.set()
    assert said == ["report"]
    assert stop.report is not None
    assert [hook["outcome"] for hook in stop.report.hooks if hook["name"] == "hung"] == ["hung"]


def test_a_time_limit_and_a_budget_ask_for_a_stop() -> None:
    with safepoint.shutdown() as stop:
        stop.time_limit(0.01)
        assert stop.wait(60)
        assert stop.reason is not None and stop.reason.source == "TIMEOUT"
    assert stop.exit_code == 75
    warnings: queue.Queue[Decimal] = queue.Queue()
    with safepoint.shutdown() as stop:
        budget = stop.budget(usd=1, on_warning=warnings.put)
        assert [budget.spend(0.1) for _ in range(10)] == [False] * 9 + [True]
        assert budget.spent == 1
        assert stop.reason is not None and stop.reason.source == "BUDGET"
        assert stop.wait(60)
    # On a thread of its own, with what was spent then.
    assert warnings.get(timeout=60) == Decimal("0.8")
    assert warnings.empty()


@given(st.lists(st.integers(min_value=0, max_value=10**9), max_size=50))
def test_a_budget_is_exact(micros: list[int]) -> None:
    with safepoint.shutdown(signals=False) as stop:
        budget = stop.budget(usd="1000000000")
        for amount in micros:
            budget.spend(Decimal(amount) / 1_000_000)
        assert budget.spent == Decimal(sum(micros)) / 1_000_000


@pytest.mark.parametrize("value", ["-1", "much", "1e400", float("nan"), -0.5])
def test_amounts_that_cannot_be_are_refused(value: str | float) -> None:
    with safepoint.shutdown(signals=False) as stop, pytest.raises(safepoint.InvalidError):
        stop.budget(usd=1).spend(value)


@pytest.mark.parametrize("grace", [-1.0, float("nan"), float("inf")])
def test_times_that_cannot_be_are_refused_before_a_handler_is_touched(grace: float) -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(safepoint.InvalidError), safepoint.shutdown(grace=grace):
        pass
    assert signal.getsignal(signal.SIGINT) is before
    assert safepoint.active() is None


def test_bad_names_are_refused_with_what_would_do() -> None:
    with safepoint.shutdown(signals=False) as stop:
        with pytest.raises(safepoint.InvalidError) as refused:
            stop.hook(order="sometime")(print)  # type: ignore[call-overload]
        assert refused.value.hint == "one of accept, drain, save, close, report"
        with pytest.raises(safepoint.InvalidError):
            stop.request(source="NOBODY")  # type: ignore[arg-type]


def test_signals_outside_the_main_thread_are_refused_and_the_rest_works() -> None:
    said: list[object] = []

    def work() -> None:
        try:
            safepoint.shutdown().__enter__()
        except safepoint.InvalidError as refused:
            said.append(refused.hint)
        with safepoint.shutdown(signals=False) as stop:
            stop.request()
            said.append(stop.requested)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert len(said) == 2 and "signals=False" in str(said[0]) and said[1] is True


def test_a_block_is_entered_once_and_exceptions_go_on() -> None:
    block = safepoint.shutdown()
    with pytest.raises(KeyError), block as stop:
        raise KeyError("mine")
    assert stop.report is not None
    with pytest.raises(safepoint.InvalidError):
        block.__enter__()


def test_the_handlers_are_put_back() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    with safepoint.shutdown():
        assert signal.getsignal(signal.SIGINT) is not before[signal.SIGINT]
        with safepoint.shutdown() as inner:
            assert safepoint.active() is inner
    for number, handler in before.items():
        assert signal.getsignal(number) == handler


def test_a_handler_that_was_set_inside_stays() -> None:
    def mine(*_: object) -> None:
        pass

    before = signal.getsignal(signal.SIGTERM)
    try:
        with safepoint.shutdown():
            signal.signal(signal.SIGTERM, mine)
        assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        signal.signal(signal.SIGTERM, before)


def test_wait_async_is_woken_and_may_be_given_up() -> None:
    async def main() -> None:
        async with safepoint.shutdown() as stop:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(stop.wait_async(), 0.01)
            waiters = [asyncio.create_task(stop.wait_async()) for _ in range(100)]
            await asyncio.sleep(0)
            threading.Thread(target=stop.request).start()
            await asyncio.wait_for(asyncio.gather(*waiters), 60)
            await stop.wait_async()

    asyncio.run(main())


def test_a_token_that_comes_back_to_its_process_is_itself() -> None:
    with safepoint.shutdown() as stop:
        assert pickle.loads(pickle.dumps(stop)) is stop
        assert copy.copy(stop) is stop


def test_ten_thousand_blocks_leave_nothing_behind() -> None:
    def open_files() -> int:
        return len(os.listdir("/proc/self/fd"))

    def once() -> None:
        with safepoint.shutdown() as stop:
            stop.fileno()
            with stop.unit("unit") as unit:
                unit.on_rollback(print)
            stop.child("child")
            stop.hook()(lambda: None)

    def resident_pages() -> int:
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[1])

    for _ in range(200):
        once()
    gc.collect()
    files, threads, pages = open_files(), threading.active_count(), resident_pages()
    for _ in range(10_000):
        once()
    gc.collect()
    assert open_files() <= files + 2
    assert threading.active_count() == threads
    assert len(os.listdir("/proc/self/task")) <= threads + 3
    # 4 KiB each: less than 200 bytes for each block.
    assert resident_pages() - pages < 500
