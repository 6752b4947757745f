"""Workers: they see the stop of the main process without messages, and do not outlive it."""

from __future__ import annotations

import signal

import pytest

from conftest import Start, gone

METHODS = ["fork", "spawn", "forkserver"]

POOLS = """
import multiprocessing, sys, threading, time, safepoint
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

def work(number):
    stop = safepoint.active()
    if number < 2:
        print("working\\n", end="", flush=True)  # one write: the other worker prints, too
    # In progress until the stop is seen here, and then for some time.
    assert stop.wait(60)
    time.sleep(0.2)
    return number

def main(kind, method):
    results = []
    with safepoint.shutdown(grace=20) as stop:
        context = multiprocessing.get_context(method) if method != "-" else None
        options = dict(initializer=safepoint.follow, initargs=(stop,))
        if kind == "thread":
            with stop.track(ThreadPoolExecutor(2)) as pool:
                for result in pool.map(work, range(50)):
                    results.append(result)
        elif kind == "process":
            with stop.track(ProcessPoolExecutor(2, mp_context=context, **options)) as pool:
                for result in pool.map(work, range(50)):
                    results.append(result)
        elif kind == "imap":
            with stop.track(context.Pool(2, **options)) as pool:
                for result in pool.imap(work, range(50)):
                    results.append(result)
        elif kind == "apply":
            with stop.track(context.Pool(2, **options)) as pool:
                pending = [pool.apply_async(work, (number,)) for number in range(50)]
                for each in pending:
                    results.append(each.get())
        elif kind == "futures":
            pool = stop.track(ProcessPoolExecutor(2, mp_context=context, **options))
            futures = [pool.submit(work, number) for number in range(50)]
            stop.wait()
            results = [future.result() for future in futures if not future.cancelled()]
    print("results", results == list(range(len(results))) and 0 < len(results) < 50, len(results))
    print("clean", stop.report.is_clean)
    sys.exit(stop.exit_code)

if __name__ == "__main__":
    main(*sys.argv[1:])
"""

KINDS = [("thread", "-")] + [(kind, method) for kind in ("process", "imap", "apply", "futures") for method in METHODS]


@pytest.mark.parametrize(("kind", "method"), KINDS)
def test_pending_work_is_given_up_and_running_work_is_waited_for(start: Start, kind: str, method: str) -> None:
    program = start(POOLS, kind, method)
    # Both are past their start: before that, Ctrl-C is an exception in a new interpreter, whoever it is for.
    program.until("working")
    program.until("working")
    program.send_to_group(signal.SIGINT)
    status, lines, errors = program.end()
    assert errors == ""
    assert [line for line in lines if line.startswith("results")][0].startswith("results True"), lines
    assert (lines[-1], status) == ("clean True", 130)
    gone(program)


@pytest.mark.parametrize("attendant", ["awake", "late"])
@pytest.mark.parametrize("method", METHODS)
def test_workers_that_do_not_mind_are_ended_by_an_immediate_stop(start: Start, method: str, attendant: str) -> None:
    program = start(
        """
    import multiprocessing, signal, sys, time, safepoint
    import safepoint._executors
    from concurrent.futures import ProcessPoolExecutor

    if sys.argv[2] == "late":
        # The block ends before the thread has run: on a busy machine it does.
        safepoint._executors.Attendant._attend = lambda *_: None

    def work():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print("working", flush=True)
        time.sleep(1000)

    if __name__ == "__main__":
        with safepoint.shutdown(grace=60) as stop:
            pool = stop.track(ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(sys.argv[1])))
            pool.submit(work)
            stop.wait()
            print("asked")
        print("over", stop.reason.mode, stop.report.immediate_interrupts)
    """,
        method,
        attendant,
    )
    program.until("working")
    program.send(signal.SIGINT)
    program.until("asked")
    program.send(signal.SIGTERM)
    status, lines, _ = program.end()
    assert (status, lines[-1]) == (0, "over GRACEFUL 1")
    gone(program)


def test_a_plain_fork_sees_the_stop_and_may_outlive_its_parent(start: Start) -> None:
    program = start("""
    import os, signal, sys, time, safepoint
    with safepoint.shutdown() as stop:
        child = os.fork()
        if child == 0:
            token = safepoint.active()
            print("forked", flush=True)
            print("child saw it", token.wait(60), token.reason.source, flush=True)
        else:
            stop.wait()
            os.waitpid(child, 0)
            print("parent", flush=True)
    print("left", "child" if child == 0 else "parent", flush=True)
    """)
    program.until("forked")
    program.send(signal.SIGINT)
    status, lines, errors = program.end()
    assert (status, errors) == (0, "")
    assert lines[-4:] == ["child saw it True PARENT", "left child", "parent", "left parent"]


def test_a_worker_whose_main_process_is_killed_hears_of_it_first(start: Start) -> None:
    program = start("""
    import multiprocessing, safepoint, sys

    def work(stop, path):
        print("working", flush=True)
        stop.wait(60)
        with open(path, "w") as said:
            said.write(f"{stop.reason.source} {stop.reason.mode}")

    if __name__ == "__main__":
        with safepoint.shutdown() as stop:
            process = multiprocessing.get_context("spawn").Process(target=work, args=(stop, "said"))
            process.start()
            process.join()
    """)
    program.until("working")
    program.send(signal.SIGKILL)
    program.process.wait()
    gone(program)
    import pathlib

    said = pathlib.Path(str(program.process.args[2])).parent / "said"  # type: ignore[index]
    assert said.read_text() == "PARENT IMMEDIATE"


def test_an_asyncio_task_group_loses_what_has_not_begun(start: Start) -> None:
    import sys

    if sys.version_info < (3, 11):
        pytest.skip("task groups came with Python 3.11")
    program = start("""
    import asyncio, safepoint
    begun = []
    async def work(stop, number, room):
        begun.append(number)
        await stop.wait_async()
        return number
    async def main():
        async with safepoint.shutdown() as stop:
            async with asyncio.TaskGroup() as group:
                stop.track(group)
                first = group.create_task(work(stop, 0, None))
                await asyncio.sleep(0)
                print("ready")
                await stop.wait_async()
                late = group.create_task(work(stop, 1, None))
        print("first", first.result(), "begun", begun)
    asyncio.run(main())
    """)
    program.until("ready")
    program.send(signal.SIGINT)
    status, lines, errors = program.end()
    assert (status, errors) == (0, "")
    assert lines[-1].startswith("first 0")


def test_what_cannot_be_tracked_is_refused() -> None:
    import safepoint

    with safepoint.shutdown(signals=False) as stop, pytest.raises(safepoint.InvalidError, match="builtins.list"):
        stop.track([])


def test_a_fork_leaves_ctrl_c_to_its_parent_and_ends_by_sigterm(start: Start) -> None:
    program = start("""
    import os, signal, safepoint
    with safepoint.shutdown() as stop:
        child = os.fork()
        if child == 0:
            signal.raise_signal(signal.SIGINT)
            print("still here", stop.requested, flush=True)
            signal.raise_signal(signal.SIGTERM)
            print("and here", flush=True)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), stop.requested)
    """)
    status, lines, errors = program.end()
    assert (status, lines, errors) == (0, ["still here False", "-15 False"], "")
