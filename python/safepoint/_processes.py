"""Other processes of the program: what makes their tokens follow the main process's stop, and ends them with it."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING

from . import _blocks, _native, _signals
from ._errors import IoError

if TYPE_CHECKING:
    from types import FrameType

    from ._shutdown import ShutdownToken

#: A process, when it began, and the number of its stop descriptor.
Address = tuple[int, int, int]

#: Every token whose stop other processes may follow.
_tokens: weakref.WeakSet[ShutdownToken] = weakref.WeakSet()

#: What makes the tokens of a fork follow its parent's.
_links: list[object] = []


def follow(stop: ShutdownToken) -> None:
    """Makes a worker process follow ``stop``: ``Pool(initializer=safepoint.follow, initargs=(stop,))``.

    From then on :func:`active` gives it the token, Ctrl-C in the terminal is left to the main process, and the worker
    ends when the main process is gone. Any function that is handed ``stop`` in another process does the same. A fork
    follows by itself.
    """
    if stop._address is not None:
        _blocks.followed.setdefault(stop._address, stop)


def may_be_followed(token: ShutdownToken) -> None:
    """Its stop descriptor exists from now on."""
    _tokens.add(token)


def pickled(token: ShutdownToken) -> tuple[Callable[..., ShutdownToken], tuple[int, int, int]]:
    """How to make a token of the same stop elsewhere."""
    address = token._address
    if address is None:
        pid = os.getpid()
        address = (pid, _started_at(pid), token.fileno())
    return unpickled, address


def unpickled(pid: int, started_at: int, descriptor: int) -> ShutdownToken:
    """The token of a process of this program, in this one."""
    from ._shutdown import ShutdownToken

    address = (pid, started_at, descriptor)
    if pid == os.getpid():
        for token in list(_tokens):
            if token._address is None and token.fileno() == descriptor:
                return token
        # Its block has ended, and nobody has it any more.
        return ShutdownToken(_native.Parent.attach(_hung_up()))
    known = _blocks.followed.get(address)
    if known is not None:
        return known
    token = ShutdownToken(_native.Parent.attach(_open(address)))
    token._address = address
    _blocks.followed[address] = token
    _become_worker(pid)
    return token


def _open(address: Address) -> int:
    pid, started_at, descriptor = address
    try:
        here = os.open(f"/proc/{pid}/fd/{descriptor}", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ESRCH):
            return _hung_up()
        raise IoError(
            f"cannot follow the stop of process {pid}: {error.strerror}",
            hint="only a process of the same user can be followed; drop privileges before `safepoint.shutdown()`",
            errno=error.errno,
        ) from None
    try:
        if _started_at(pid) == started_at:
            return here
    except OSError:
        pass
    os.close(here)
    return _hung_up()


def _hung_up() -> int:
    """The descriptor of a process that is gone."""
    here, other = os.pipe()
    os.close(other)
    return here


def _started_at(pid: int) -> int:
    """When a process began, in clock ticks since boot: with its number, which process it is.

    Source: proc(5), field 22 of stat.
    """
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
        return int(stat.read().rpartition(")")[2].split()[19])


def _become_worker(main: int) -> None:
    if (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    ):
        signal.signal(signal.SIGINT, _signals.leave_to_main)
    workers = sys.modules.get("multiprocessing.process")
    if workers is None:
        return
    # The mark of a process that is being handed its arguments, this token among them.
    is_beginning = getattr(workers.current_process(), "_inheriting", False)
    if is_beginning or workers.parent_process() is not None:
        _native.end_with(main)


def _before_fork() -> None:
    # The pipes must exist before the fork, for the child to have their ends.
    for stop in _blocks.entered():
        stop.fileno()


def _after_fork_in_child() -> None:
    if not _blocks.entered() and not _tokens:
        return
    for token in list(_tokens):
        link = token._after_fork()
        if link is not None:
            _links.append(link)
    _signals.forget_in_fork()
    if _is_forked_by_multiprocessing():
        _native.end_with(os.getppid())


def _is_forked_by_multiprocessing() -> bool:
    """Whether this fork is a worker, and not a process that is meant to outlive its parent."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_globals.get("__name__") == "multiprocessing.popen_fork":
            return True
        frame = frame.f_back
    return False


os.register_at_fork(before=_before_fork, after_in_child=_after_fork_in_child)
