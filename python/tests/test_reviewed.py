"""What a review found: each of these went wrong once."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

import pytest

import safepoint
from conftest import Start, gone


def test_a_signal_is_for_all_nested_blocks_in_whatever_order_they_end(start: Start) -> None:
    program = start("""
    import signal, safepoint
    outer, inner = safepoint.shutdown(), safepoint.shutdown()
    first, second = outer.__enter__(), inner.__enter__()
    outer.__exit__(None, None, None)
    signal.raise_signal(signal.SIGTERM)
    print(second.wait(60), first.report.reason)
    inner.__exit__(None, None, None)
    with safepoint.shutdown() as outer:
        with safepoint.shutdown() as inner:
            pass
        with safepoint.shutdown() as inner:
            signal.raise_signal(signal.SIGTERM)
            print(inner.wait(60), outer.wait(60))
    print(signal.getsignal(signal.SIGTERM) == signal.SIG_DFL)
    print("end", flush=True)
    signal.raise_signal(signal.SIGTERM)
    """)
    status, lines, errors = program.end()
    assert (status, errors) == (-signal.SIGTERM, "")
    assert lines == ["True None", "True True", "True", "end"]


def test_a_handler_that_was_set_and_put_back_inside_costs_no_signal(start: Start) -> None:
    program = start("""
    import signal, safepoint
    with safepoint.shutdown() as stop:
        ours = signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, ours)
        signal.raise_signal(signal.SIGTERM)
        print(stop.wait(60), stop.reason.signal)
        signal.raise_signal(signal.SIGTERM)
        print(stop.phase, flush=True)
        signal.raise_signal(signal.SIGTERM)
        print("not reached")
    """)
    status, lines, errors = program.end()
    assert (status, lines, errors) == (-signal.SIGTERM, ["True 15", "terminating"], "")


def test_a_worker_with_a_block_of_its_own_ends_by_sigterm(start: Start) -> None:
    program = start("""
    import multiprocessing, safepoint

    def work():
        with safepoint.shutdown() as stop:
            print("working", flush=True)
            stop.wait(60)
        print("worker", stop.reason.signal, flush=True)

    if __name__ == "__main__":
        with safepoint.shutdown() as stop:
            process = multiprocessing.get_context("fork").Process(target=work)
            process.start()
            stop.wait(60)
            process.terminate()
            process.join()
            print("exit", process.exitcode)
    """)
    program.until("working")
    program.send(signal.SIGINT)
    status, lines, errors = program.end()
    assert (status, errors) == (0, "")
    assert lines[-2:] == ["worker 15", "exit 0"]


def test_a_block_that_nobody_stops_leaves_tracked_work_alone() -> None:
    release = threading.Event()
    with ThreadPoolExecutor(1) as executor:
        with safepoint.shutdown() as stop:
            stop.track(executor)
            futures = [executor.submit(release.wait, 60) for _ in range(5)]
        assert not stop.requested
        assert stop.report is not None and stop.report.is_clean
        release.set()
        assert [future.result() for future in futures] == [True] * 5
        assert executor.submit(int, "7").result() == 7
    assert "submit" not in executor.__dict__


@pytest.mark.parametrize("end", ["grace", "immediate"])
def test_a_pool_in_its_own_with_is_ended_with_the_time_or_at_once(start: Start, end: str) -> None:
    program = start(
        """
    import multiprocessing, sys, time, safepoint
    from concurrent.futures import ProcessPoolExecutor

    def work(number):
        print("working", flush=True)
        time.sleep(1000)

    if __name__ == "__main__":
        grace = 0.5 if sys.argv[1] == "grace" else 60
        with safepoint.shutdown(grace=grace) as stop:
            with stop.track(ProcessPoolExecutor(1)) as pool:
                try:
                    list(pool.map(work, range(3)))
                except Exception as ended:
                    print(type(ended).__name__)
        print("over", stop.report.is_clean)
    """,
        end,
    )
    program.until("working")
    program.send(signal.SIGINT)
    if end == "immediate":
        program.send(signal.SIGTERM)
    status, lines, errors = program.end()
    assert (status, errors) == (0, "")
    # Work was ended in the middle, and the report says so.
    assert lines[-1] == "over False"
    gone(program)


@pytest.mark.parametrize("leftover", ["check", "warning", "hook", "waiter"])
def test_the_end_of_the_interpreter_survives_what_is_still_running(start: Start, leftover: str) -> None:
    program = start(
        """
    import sys, threading, urllib.request, safepoint
    running = threading.Event()

    def forever(*_):
        running.set()
        while True:
            sum(range(1000))

    block = safepoint.shutdown(grace=0.2)
    stop = block.__enter__()
    if sys.argv[1] == "check":
        server = stop.health("127.0.0.1:0", checks={"slow": forever})
        ask = lambda: urllib.request.urlopen(server.address + "/ready").read()
        threading.Thread(target=ask, daemon=True).start()
    elif sys.argv[1] == "warning":
        stop.budget(usd=1, on_warning=forever).spend("0.9")
    elif sys.argv[1] == "hook":
        stop.hook(forever)
        stop.request()
        block.__exit__(None, None, None)
    else:
        running.set()
        for _ in range(20):
            threading.Thread(target=stop.wait, daemon=True).start()
    running.wait()
    print("end", flush=True)
    """,
        leftover,
    )
    status, lines, errors = program.end()
    assert (status, lines[-1:], errors) == (0, ["end"], "")


def test_an_exception_for_the_main_thread_never_leaves_the_block(start: Start) -> None:
    program = start("""
    import os, signal, threading, time, safepoint
    ready, over = threading.Event(), threading.Event()

    def storm():
        while not over.is_set():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.0005)

    def nothing(*_):
        pass

    signal.signal(signal.SIGINT, nothing)
    threading.Thread(target=storm, daemon=True).start()
    taken = 0
    for _ in range(300):
        block = safepoint.shutdown(raise_in_main=True)
        try:
            with block as stop:
                stop.hook(lambda: None)
                end = time.monotonic() + 0.002
                while time.monotonic() < end:
                    pass
        except BaseException as escaped:
            print("escaped", repr(escaped))
            break
        taken += stop.requested
        assert signal.getsignal(signal.SIGINT) is nothing
    over.set()
    print("taken", taken > 0)
    """)
    status, lines, errors = program.end()
    assert (lines, errors, status) == (["taken True"], "", 0)


def test_the_end_of_an_async_block_needs_no_thread_of_the_loop() -> None:
    release = threading.Event()

    async def main() -> safepoint.Shutdown:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))
        waiting = loop.run_in_executor(None, release.wait, 60)
        async with safepoint.shutdown() as stop:
            pass
        release.set()
        await waiting
        return stop

    assert asyncio.run(asyncio.wait_for(main(), 30)).report is not None


def test_a_second_cancellation_does_not_cut_a_rollback_off() -> None:
    undone: list[str] = []

    async def main() -> None:
        begun = asyncio.Event()

        async def slowly() -> None:
            begun.set()
            await asyncio.sleep(0.05)
            undone.append("slow")

        async def work(stop: safepoint.Shutdown) -> None:
            async with stop.unit("one") as unit:
                unit.on_rollback(undone.append, "last")
                unit.on_rollback(slowly)
                await asyncio.Event().wait()

        async with safepoint.shutdown() as stop:
            task = asyncio.create_task(work(stop))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            task.cancel()
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(main())
    assert undone == ["slow", "last"]


def test_an_async_action_in_a_plain_unit_is_a_failure_that_is_told() -> None:
    async def undo() -> None:
        raise AssertionError("nobody awaits this")

    with safepoint.shutdown() as stop, pytest.raises(KeyError), stop.unit("one") as unit:
        unit.on_rollback(undo)
        raise KeyError
    assert stop.report is not None
    assert stop.report.failures == [("one", "TypeError: an `async` rollback action runs in an `async with` only")]


def test_a_bare_hook_is_registered() -> None:
    said: list[str] = []
    with safepoint.shutdown() as stop:

        @stop.hook
        def close() -> None:
            said.append("closed")

    assert said == ["closed"]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="task groups came with Python 3.11")
def test_refused_units_in_a_task_group_are_the_stops_doing() -> None:
    async def main() -> safepoint.Shutdown:
        async def work(stop: safepoint.Shutdown) -> None:
            async with stop.unit("one"):
                pass

        async with safepoint.shutdown() as stop:
            stop.request()
            # Since Python 3.11.
            async with getattr(asyncio, "TaskGroup")() as group:  # noqa: B009
                group.create_task(work(stop))
                group.create_task(work(stop))
        return stop

    assert asyncio.run(main()).exit_code == 75


def test_a_loop_that_is_left_does_not_close_its_source() -> None:
    async def main() -> list[int]:
        got: list[int] = []

        async def numbers() -> AsyncIterator[int]:
            for number in range(5):
                yield number

        source = numbers()
        async with safepoint.shutdown() as stop:
            async for number in stop.iter(source):
                got.append(number)
                if number == 1:
                    break
            async for number in source:
                got.append(number)
        return got

    assert asyncio.run(main()) == [0, 1, 2, 3, 4]


def test_what_is_done_is_not_attended_any_more() -> None:
    with ThreadPoolExecutor(1) as executor, safepoint.shutdown() as stop:
        for number in range(50):
            stop.track(executor.submit(int, number)).result()
        executor.submit(int).result()
        assert stop._attendant is not None
        assert stop._attendant._all() == []


def test_a_token_of_a_block_that_has_ended_is_a_stop_and_costs_no_handler() -> None:
    import pickle

    with safepoint.shutdown() as stop:
        pickled = pickle.dumps(stop)
    del stop
    before = signal.getsignal(signal.SIGINT)
    assert pickle.loads(pickled).wait(60)
    assert signal.getsignal(signal.SIGINT) is before
    assert safepoint.active() is None
