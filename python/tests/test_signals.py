"""Real signals to real processes."""

from __future__ import annotations

import signal
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from conftest import Start, gone

SIGNALS = [(signal.SIGINT, 130, "USER"), (signal.SIGTERM, 143, "SYSTEM"), (signal.SIGHUP, 129, "SYSTEM")]

LOOP = """
import itertools, sys, safepoint
done = 0
with safepoint.shutdown() as stop:
    print("ready")
    for item in stop.iter(itertools.count()):
        with stop.unit(str(item)):
            done += 1
            stop.wait(0.001)
print("reason", stop.reason.source, stop.reason.signal)
print("done", done == stop.report.units[0])
sys.exit(stop.exit_code)
"""


@pytest.mark.parametrize(("number", "code", "source"), SIGNALS)
def test_a_signal_ends_the_loop_at_its_safepoint(start: Start, number: signal.Signals, code: int, source: str) -> None:
    program = start(LOOP)
    program.until("ready")
    program.send(number)
    status, lines, errors = program.end()
    assert (status, errors) == (code, "")
    assert lines[-2:] == [f"reason {source} {int(number)}", "done True"]


def test_a_second_signal_is_immediate_and_a_third_ends_the_process(start: Start) -> None:
    program = start("""
    import safepoint, threading
    with safepoint.shutdown() as stop:
        print("ready")
        stop.wait()
        print(stop.phase)
        while stop.phase == "draining":
            stop.child("a").wait(0.01)
        print(stop.phase)
        threading.Event().wait()
    """)
    program.until("ready")
    program.send(signal.SIGINT)
    program.until("draining")
    # Another signal than the first: the same one within 100 ms would count once.
    program.send(signal.SIGTERM)
    program.until("terminating")
    program.send(signal.SIGHUP)
    status, _, _ = program.end()
    assert status == -signal.SIGHUP


def test_an_ignored_sighup_stays_ignored(start: Start) -> None:
    program = start("""
    import signal, safepoint
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with safepoint.shutdown() as stop:
        print("ready")
        print(input_ := stop.wait(0.2))
        signal.raise_signal(signal.SIGHUP)
        print(stop.requested)
        signal.raise_signal(signal.SIGTERM)
        print(stop.wait(60))
    """)
    _, lines, errors = program.end()
    assert (lines, errors) == (["ready", "False", "False", "True"], "")


def test_the_request_is_stored_while_numpy_is_busy_in_c(start: Start) -> None:
    program = start("""
    import numpy, safepoint
    matrix = numpy.random.default_rng(1).random((4000, 4000))
    with safepoint.shutdown() as stop:
        # It answers without the interpreter, so it tells what the native half knows.
        server = stop.health("127.0.0.1:0")
        print(server.address, flush=True)
        print("ready", flush=True)
        # One call of C, far longer than this test: no handler of Python's can run meanwhile.
        numpy.linalg.svd(matrix)
        print("out", flush=True)
    """)
    program.until("ready")
    assert ready(program.lines[0]) == 200
    program.send(signal.SIGINT)
    while ready(program.lines[0]) != 503:
        assert program.process.poll() is None
    program.send(signal.SIGKILL)
    status, lines, _ = program.end()
    assert (status, lines[-1]) == (-signal.SIGKILL, "ready")


def ready(address: str) -> int:
    """What `GET /ready` answers."""
    try:
        with urllib.request.urlopen(address + "/ready", timeout=60) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.parametrize(
    "waiting",
    [
        "import time; time.sleep(1000)",
        "import threading; threading.Event().wait()",
        "import os; r, w = os.pipe(); os.read(r, 1)",
        "import socket; s = socket.create_server(('127.0.0.1', 0)); s.accept()",
        # Its output elsewhere: what `Popen` has begun and not returned when the exception comes holds this program's.
        "import subprocess as s; s.run(['sleep', '1000'], stdout=s.DEVNULL, stderr=s.DEVNULL)",
        "[None for _ in iter(int, 1)]",
    ],
)
def test_raise_in_main_ends_code_that_never_asks(start: Start, waiting: str) -> None:
    program = start(f"""
    import sys, safepoint
    with safepoint.shutdown(raise_in_main=True) as stop:
        try:
            print("ready")
            {waiting}
        except Exception as swallowed:
            print("swallowed", swallowed)
        finally:
            print("left")
    print(stop.reason.source)
    sys.exit(stop.exit_code)
    """)
    program.until("ready")
    program.send(signal.SIGTERM)
    status, lines, errors = program.end()
    assert (status, lines[-2:], errors) == (143, ["left", "SYSTEM"], "")


def test_raise_in_main_hears_of_limits_too(start: Start) -> None:
    program = start("""
    import time, safepoint
    with safepoint.shutdown(raise_in_main=True) as stop:
        stop.time_limit(0.05)
        time.sleep(1000)
    print(stop.reason.source, stop.exit_code)
    """)
    status, lines, errors = program.end()
    assert (status, lines, errors) == (0, ["TIMEOUT 75"], "")


def test_raise_in_main_lets_an_import_end(start: Start, tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text(
        """if 1:
        import os, signal, safepoint
        from package import part
        # Twice the same at once would count once.
        for number, reached in ((signal.SIGINT, "draining"), (signal.SIGTERM, "terminating")):
            os.kill(os.getpid(), number)
            while safepoint.active().phase != reached: pass
        """
    )
    (tmp_path / "package" / "part.py").touch()
    program = start("""
    import time, safepoint
    block = safepoint.shutdown(raise_in_main=True)
    with block as stop:
        import package
        time.sleep(1000)
    # Broken off, it would be imported anew, without the part that is there already.
    import package
    print(package.reached, package.part.__name__, stop.report.immediate_interrupts)
    """)
    assert program.end() == (0, ["terminating package.part 1"], "")


def test_raise_in_main_ends_an_import_that_does_the_work_itself(start: Start, tmp_path: Path) -> None:
    (tmp_path / "work.py").write_text("import time\nprint('ready')\ntime.sleep(1000)")
    program = start("""
    import safepoint
    with safepoint.shutdown(raise_in_main=True, grace=0.2) as stop:
        import work
    print(stop.reason.source)
    """)
    program.until("ready")
    program.send(signal.SIGINT)
    assert program.end() == (0, ["ready", "USER"], "")


def test_raise_in_main_waits_for_no_import_that_the_block_is_in(start: Start, tmp_path: Path) -> None:
    (tmp_path / "work.py").write_text(
        """if 1:
        import time, safepoint
        with safepoint.shutdown(raise_in_main=True, grace=1000) as stop:
            print("ready")
            time.sleep(1000)
        """
    )
    program = start("import work; print(work.stop.reason.source)")
    program.until("ready")
    program.send(signal.SIGINT)
    assert program.end() == (0, ["ready", "USER"], "")


def test_asyncio_is_woken(start: Start) -> None:
    program = start("""
    import asyncio, contextlib, sys, safepoint

    async def main():
        async with safepoint.shutdown() as stop:
            @stop.hook()
            async def close():
                await asyncio.sleep(0)
                print("closed")
            worker = stop.track(asyncio.create_task(work(stop)))
            print("ready")
            await stop.wait_async()
            print("asked")
        print("worker", worker.result())
        return stop.exit_code

    async def work(stop):
        with contextlib.suppress(safepoint.Stopped):
            while True:
                async with stop.unit("one"):
                    await asyncio.sleep(0.001)
        return "ended"

    sys.exit(asyncio.run(main()))
    """)
    program.until("ready")
    program.send(signal.SIGINT)
    status, lines, errors = program.end()
    assert (status, lines[-3:], errors) == (130, ["asked", "closed", "worker ended"], "")


def test_the_first_request_is_announced_where_it_is_asked_for(start: Start) -> None:
    program = start("""
    import safepoint
    with safepoint.shutdown(announce=True, grace=7) as stop:
        print("ready")
        stop.wait()
    """)
    program.until("ready")
    program.send(signal.SIGINT)
    _, _, errors = program.end()
    assert errors.startswith("safepoint: SIGINT (user, graceful): what is in progress may finish (up to 7 s)")


def test_sigusr1_shows_what_is_in_progress(start: Start) -> None:
    program = start("""
    import safepoint
    with safepoint.shutdown() as stop:
        with stop.unit("record 17"):
            print("ready")
            stop.wait()
    """)
    program.until("ready")
    program.send(signal.SIGUSR1)
    assert program.process.stderr is not None
    said = program.process.stderr.readline()
    while "record 17" not in said:
        said = program.process.stderr.readline()
        assert said
    program.send(signal.SIGTERM)
    assert program.end()[0] == 0


def test_under_pytest_ctrl_c_belongs_to_the_block_and_then_to_pytest_again(start: Start) -> None:
    program = start("""
    import os, signal, sys, pytest
    test = [
        "import os, signal, safepoint",
        "def test_inside():",
        "    with safepoint.shutdown() as stop:",
        "        os.kill(os.getpid(), signal.SIGINT)",
        "        assert stop.wait(60)",
        "    assert stop.exit_code == 130",
        "def test_after():",
        "    os.kill(os.getpid(), signal.SIGINT)",
    ]
    open("test_it.py", "w").write("\\n".join(test))
    code = pytest.main(["-q", "-p", "no:cacheprovider", "test_it.py"])
    print("code", int(code))
    """)
    _, lines, _ = program.end()
    assert lines[-1] == "code 2"
    assert any("1 passed" in line for line in lines)


def test_shutdown_timeout_is_the_grace_period(start: Start) -> None:
    source = """
    import math, safepoint
    try:
        with safepoint.shutdown() as stop:
            stop.request()
            print(math.ceil(stop.remaining))
    except safepoint.InvalidError as refused:
        print(refused)
    """
    assert start(source, env={"SHUTDOWN_TIMEOUT": "9"}).end()[1] == ["9"]
    assert "`soon`" in start(source, env={"SHUTDOWN_TIMEOUT": "soon"}).end()[1][0]


def test_no_child_is_left_when_the_program_is_killed(start: Start) -> None:
    for method in ("fork", "spawn", "forkserver"):
        program = start(
            """
        import multiprocessing, sys, time, safepoint

        def work(stop):
            print("working", flush=True)
            time.sleep(1000)

        if __name__ == "__main__":
            with safepoint.shutdown() as stop:
                context = multiprocessing.get_context(sys.argv[1])
                process = stop.track(context.Process(target=work, args=(stop,)))
                process.start()
                stop.wait()
        """,
            method,
        )
        program.until("working")
        program.send(signal.SIGKILL)
        program.process.wait()
        gone(program)
