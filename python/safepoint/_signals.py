"""Python's half of the signals: one handler for all blocks of the process.

The native half stores a request at once and then calls this handler, by way of Python's own. One, and not one for each
block: ``signal.signal`` would put Python's handler in the place of the native one, and blocks need not end in the order
in which they began. It is put back when the last block has ended.

What the native half cannot have seen is handed on: a signal that comes while its handler is not yet, or no more, in
force, or after something else has set a handler and put ours back.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import _native

if TYPE_CHECKING:
    from types import FrameType

#: The stop signals and whom they are counted to.
STOPS = {signal.SIGINT: "USER", signal.SIGTERM: "SYSTEM", signal.SIGHUP: "SYSTEM"}

#: What wakes the main thread for a stop that is no signal. By default it does nothing, and hardly anybody uses it.
WAKING = signal.SIGURG

#: One for each block: is told of the signal and of the frame that it interrupted, and may raise. With ``None`` the
#: native half has not seen the signal.
Listener = Callable[["FrameType | None", "signal.Signals | None"], None]

_listeners: list[Listener] = []
_earlier: dict[int, Any] = {}
#: Signals that came between the last block and the earlier handler.
_late: list[int] = []
#: How often each had come to the native half when this one last looked.
_arrivals: dict[int, int] = {}
_pid = 0


def listen(listener: Listener) -> list[tuple[int, str]]:
    """Takes the stop signals for a block, in the main thread. Returns those that the native half is to take, too."""
    global _pid
    _pid = os.getpid()
    _listeners.append(listener)
    taken = []
    for number, source in STOPS.items():
        current = signal.getsignal(number)
        # nohup's SIGHUP stays ignored; a handler that is not Python's is called by the native half.
        if number == signal.SIGHUP and current == signal.SIG_IGN:
            continue
        if current is not None and current is not on_signal:
            _earlier.setdefault(number, current)
            _arrivals[number] = _native.arrivals(number)
            signal.signal(number, on_signal)
        taken.append((int(number), source))
    return taken


def listen_to_waking(listener: Listener) -> None:
    """Takes the signal that wakes the main thread, for a block that raises there."""
    global _pid
    _pid = os.getpid()
    if listener not in _listeners:
        _listeners.append(listener)
    current = signal.getsignal(WAKING)
    if current is not on_signal:
        _earlier.setdefault(WAKING, current)
        signal.signal(WAKING, on_signal)


def info() -> int | None:
    """The signal that shows what is in progress, unless somebody else has it."""
    return int(signal.SIGUSR1) if signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL else None


def name_of(number: int) -> str:
    """SIGINT, say."""
    return signal.Signals(number).name


def source_of(number: int) -> str:
    """Whom a stop signal is counted to."""
    return STOPS[signal.Signals(number)]


def leave_to_earlier(number: int) -> None:
    """Keeps a signal that came when the last block had ended, for the handler that was there before."""
    if len(_listeners) == 1:
        _late.append(number)


def default_action(number: int) -> None:
    """Ends the process by the signal, as the native half does at the third one."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def stop_listening(listener: Listener) -> None:
    """The block has ended, and the native half has let go. After the last one the earlier handlers are back."""
    if listener in _listeners:
        _listeners.remove(listener)
    if _listeners:
        return
    for number, handler in _earlier.items():
        # Somebody else's handler that was set inside the block stays.
        if signal.getsignal(number) is on_signal:
            signal.signal(number, handler)
    _earlier.clear()
    while _late:
        # For whoever was there before.
        os.kill(os.getpid(), _late.pop())


def forget_in_fork() -> None:
    """In a fork: a signal means this process, but for Ctrl-C, of which the parent tells."""
    for number in STOPS:
        if signal.getsignal(number) is on_signal:
            # Not SIG_IGN, which a program that is started from here would inherit.
            signal.signal(number, leave_to_main if number == signal.SIGINT else signal.SIG_DFL)
    if signal.getsignal(WAKING) is on_signal:
        signal.signal(WAKING, signal.SIG_DFL)
    _listeners.clear()
    _earlier.clear()


def leave_to_main(number: int, frame: FrameType | None) -> None:
    """Ctrl-C in the terminal reaches every process of the program, but it is the main process's to tell."""


def on_signal(number: int, frame: FrameType | None) -> None:
    """What ``signal.signal`` has for the stop signals while there are blocks."""
    if os.getpid() != _pid:
        return
    # The native handler counts, and it is the one that calls this one.
    arrivals = _native.arrivals(number)
    is_unseen = number != WAKING and arrivals == _arrivals.get(number)
    _arrivals[number] = arrivals
    if not _listeners:
        if is_unseen:
            _late.append(number)
        return
    unseen = signal.Signals(number) if is_unseen else None
    for listener in reversed(list(_listeners)):
        listener(frame, unseen)
