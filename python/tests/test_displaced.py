"""A library that takes a signal inside the block and calls the handler that it found, as Lightning does."""

from __future__ import annotations

import signal

from conftest import Start

PROGRAM = """
    import signal, sys, safepoint

    with safepoint.shutdown(announce=False) as stop:
        found = signal.getsignal(signal.SIGTERM)
        signal.signal(signal.SIGTERM, lambda number, frame: found(number, frame))
        print("up")
        stop.wait()
        print(stop.reason.source, stop.reason.mode, stop.reason.message, stop.reason.signal)
        while stop.phase == "draining" and len(sys.argv) > 1:
            signal.pause()
        print(stop.phase)
    sys.exit(stop.exit_code)
"""


def test_its_signal_is_a_request_all_the_same(start: Start) -> None:
    program = start(PROGRAM)
    program.until("up")
    program.send(signal.SIGTERM)
    code, lines, errors = program.end()
    assert (code, lines) == (143, ["up", "SYSTEM GRACEFUL SIGTERM 15", "draining"]), errors


def test_the_second_one_is_immediate(start: Start) -> None:
    program = start(PROGRAM, "twice")
    program.until("up")
    program.send(signal.SIGTERM)
    program.until("SYSTEM GRACEFUL SIGTERM 15")
    program.send(signal.SIGTERM)
    assert program.end()[1][-1] == "terminating"


def test_one_signal_is_one_request_where_nobody_does_that(start: Start) -> None:
    program = start(
        """
        import safepoint
        with safepoint.shutdown(announce=False) as stop:
            print("up")
            stop.wait()
        print(stop.report.total_interrupts)
        """
    )
    program.until("up")
    program.send(signal.SIGTERM)
    assert program.end()[1][-1] == "1"
