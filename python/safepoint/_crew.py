"""The processes of a map: given tasks, they answer, and when one dies it is replaced.

Each has a socket. A request is a frame with a pickled item, an answer one with a pickled result. A process works on
what it was given in order, so that when it dies it is known of what: of the oldest that is not answered.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import select
import signal
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import _native
from ._errors import InvalidError
from ._outcome import outcome_of

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

    from ._shutdown import ShutdownToken

#: Length and number of a request; length, number and kind of an answer.
_REQUEST = struct.Struct("<QQ")
_ANSWER = struct.Struct("<QQB")

_READY, _DONE, _FAILED, _SKIPPED, _UNUSABLE = range(5)

#: How many tasks a process may have before it has answered the first, and how much work that may be.
_DEPTH = 64
_WORK_AHEAD = 0.02

#: From so many seconds for an item on, a process is given the next one when it has answered.
_SLOW = 0.05

#: From SIGTERM to SIGKILL, in seconds.
_LAST_WORDS = 1.0

#: So many processes in a row that ended before they began say something about the program.
_STILLBORN = 3


class Task:
    """An item on its way."""

    __slots__ = ("attempts", "index", "item", "key", "payload", "place", "waiting")

    def __init__(self, place: int) -> None:
        self.place = place
        self.index: int | None = None
        self.key: str | None = None
        self.item: _native.Item | None = None
        self.waiting: _native.Waiting | None = None
        self.attempts = 0
        self.payload = b""

    def pack(self, item: object) -> None:
        """Makes the item ready to be sent."""
        from multiprocessing.reduction import ForkingPickler

        try:
            self.payload = bytes(ForkingPickler.dumps(item))
        except Exception as error:
            raise InvalidError(
                f"item {self.place} cannot be sent to another process: {error}",
                hint="give what pickle can take, such as a path instead of an open file",
            ) from error


@dataclass(frozen=True)
class Result:
    """The function returned or raised."""

    task: Task
    is_done: bool
    pickled: bytes

    def value(self) -> Any:
        """What it returned; of a failure, what is to be said of it."""
        return pickle.loads(self.pickled)


@dataclass(frozen=True)
class Ended:
    """The process ended with it in progress."""

    task: Task
    why: str


@dataclass(frozen=True)
class Skipped:
    """It was not begun, because a stop was asked for."""

    task: Task


News = Result | Ended | Skipped


class _Member:
    """One process, as this one sees it."""

    def __init__(self, process: BaseProcess, end: socket.socket) -> None:
        self.process = process
        self.end = end
        self.given: deque[Task] = deque()
        self.out = bytearray()
        self.read = bytearray()
        self.is_ready = False
        self.began = 0.0
        self.timed_out = False


class Crew:
    """The processes."""

    def __init__(
        self,
        function: Callable[[Any], Any],
        workers: int,
        context: str,
        token: ShutdownToken,
        timeout: float | None,
    ) -> None:
        self._function = function
        self._workers = workers
        self._context: Any = multiprocessing.get_context(context)
        self._token = token
        self._timeout = timeout
        self._members: dict[int, _Member] = {}
        self._poll = select.epoll()
        self._stop_end = os.dup(token.fileno())
        self._poll.register(self._stop_end, select.EPOLLIN)
        self._is_told = False
        self._stillborn = 0
        self._answer_time = 0.0
        #: Tasks of processes that died before they began them.
        self._orphans: deque[Task] = deque()
        self.in_flight = 0

    def has_room(self) -> bool:
        """Whether another task can be given."""
        if len(self._members) < self._workers:
            return True
        depth = self._depth()
        return any(len(member.given) < depth for member in self._members.values())

    def _depth(self) -> int:
        """Enough that a process need not wait for its next task, and no more: what it has, another cannot take. So
        nothing waits behind an item where items are slow, or not known to be quick.
        """
        if not 0.0 < self._answer_time < _SLOW:
            return 1
        return max(2, min(_DEPTH, int(_WORK_AHEAD / self._answer_time)))

    def give(self, task: Task) -> None:
        """Gives a task to the process that has least to do."""
        self.in_flight += 1
        self._give(task)

    def _give(self, task: Task) -> None:
        idle = min(self._members.values(), key=lambda member: len(member.given), default=None)
        if (idle is None or idle.given) and len(self._members) < self._workers:
            idle = self._start()
        if idle is None:
            raise AssertionError("there is no process to give a task to")
        idle.given.append(task)
        if idle.is_ready and len(idle.given) == 1:
            self._begins(idle)
        idle.out += _REQUEST.pack(len(task.payload), task.place) + task.payload
        self._send(idle)

    def _begins(self, member: _Member) -> None:
        """As far as can be seen from here, the oldest task of a process is the one it works on."""
        member.began = time.monotonic()
        item = member.given[0].item
        if item is not None:
            item.in_process(member.process.pid or 0)

    def wait(self, seconds: float | None) -> list[News]:
        """What happened, at most after so many seconds."""
        news: list[News] = []
        if self._token.phase not in ("running", "draining"):
            # A second request: nothing is waited for.
            for task in self.end(kills=True):
                news.append(Skipped(task))
            return news
        until = self._first_timeout()
        if until is not None:
            left = max(0.0, until - time.monotonic())
            seconds = left if seconds is None else min(seconds, left)
        for descriptor, event in self._poll.poll(-1 if seconds is None else seconds):
            if descriptor == self._stop_end:
                self._heard()
                continue
            member = self._members.get(descriptor)
            if member is None:
                continue
            if event & select.EPOLLOUT:
                self._send(member)
            if event & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
                news.extend(self._receive(descriptor, member))
        if self._timeout is not None:
            self._end_late_ones()
        while self._orphans:
            task = self._orphans.popleft()
            if self._token.requested:
                self.in_flight -= 1
                news.append(Skipped(task))
            else:
                self._give(task)
        return news

    def _heard(self) -> None:
        """The descriptor says for ever that a stop was asked for. That it hangs up at the second request is told
        unasked.
        """
        if not self._is_told:
            self._is_told = True
            self._poll.modify(self._stop_end, 0)

    def _start(self) -> _Member:
        ours, theirs = socket.socketpair()
        process = self._context.Process(
            target=serve, args=(self._function, theirs, self._token), name="safepoint-map", daemon=True
        )
        if self._context.get_start_method() != "fork":
            # It would be started along with the first process, and unblocks SIGINT. Source: `ensure_running` in
            # Lib/multiprocessing/resource_tracker.py, also in Python 3.13.
            from multiprocessing import resource_tracker

            resource_tracker.ensure_running()
        # Ctrl-C reaches the whole foreground group. A process that is starting must not die of it.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            theirs.close()
        ours.setblocking(False)
        member = _Member(process, ours)
        self._members[ours.fileno()] = member
        self._poll.register(ours.fileno(), select.EPOLLIN)
        return member

    def _send(self, member: _Member) -> None:
        try:
            while member.out:
                sent = member.end.send(member.out)
                del member.out[:sent]
        except BlockingIOError:
            pass
        except (BrokenPipeError, ConnectionResetError):
            # It died; its end is told when the socket is read.
            member.out.clear()
        wanted = select.EPOLLIN | (select.EPOLLOUT if member.out else 0)
        self._poll.modify(member.end.fileno(), wanted)

    def _receive(self, descriptor: int, member: _Member) -> Iterator[News]:
        is_over = False
        while True:
            try:
                piece = member.end.recv(1 << 18)
            except BlockingIOError:
                break
            except ConnectionResetError:
                piece = b""
            if not piece:
                is_over = True
                break
            member.read += piece
            if len(piece) < 1 << 18:
                break
        yield from self._parse(member)
        if is_over:
            yield from self._bury(descriptor, member)

    def _parse(self, member: _Member) -> Iterator[News]:
        read, at = member.read, 0
        while len(read) - at >= _ANSWER.size:
            length, place, kind = _ANSWER.unpack_from(read, at)
            if len(read) - at - _ANSWER.size < length:
                break
            at += _ANSWER.size
            pickled = bytes(read[at : at + length])
            at += length
            if kind == _READY:
                member.is_ready = True
                self._stillborn = 0
                if member.given:
                    self._begins(member)
                continue
            if kind == _UNUSABLE:
                raise InvalidError(
                    f"the function cannot be used in another process: {pickle.loads(pickled)}",
                    hint='put it into a module that can be imported without side effects, or use `context="fork"`',
                )
            task = member.given.popleft()
            if task.place != place:
                raise AssertionError(f"item {place} was answered before item {task.place}")
            now = time.monotonic()
            self.in_flight -= 1
            if kind == _SKIPPED:
                yield Skipped(task)
            else:
                # A moving average over some ten answers.
                took = now - member.began
                self._answer_time += (took - self._answer_time) * (0.1 if self._answer_time else 1.0)
                yield Result(task, kind == _DONE, pickled)
            if member.given:
                self._begins(member)
        del read[:at]

    def _bury(self, descriptor: int, member: _Member) -> Iterator[News]:
        """The process is gone: its oldest task failed with it, if it had begun at all; the others go to another."""
        self._poll.unregister(descriptor)
        del self._members[descriptor]
        member.end.close()
        member.process.join()
        code = member.process.exitcode
        member.process.close()
        if not member.is_ready:
            self._stillborn += 1
            if self._stillborn >= _STILLBORN:
                raise InvalidError(
                    f"{self._stillborn} workers in a row ended before they began: the last {_exit(code)}",
                    hint='see what they wrote on standard error; call the map below `if __name__ == "__main__":`',
                )
        elif member.given:
            task = member.given.popleft()
            self.in_flight -= 1
            if self._token.phase not in ("running", "draining"):
                yield Skipped(task)
            elif member.timed_out:
                yield Ended(task, f"took longer than {self._timeout:g} s")
            else:
                yield Ended(task, f"its worker process {_exit(code)}")
        self._orphans.extend(member.given)

    def _first_timeout(self) -> float | None:
        if self._timeout is None:
            return None
        began = (member.began for member in self._members.values() if member.is_ready and member.given)
        first = min(began, default=None)
        return None if first is None else first + self._timeout

    def _end_late_ones(self) -> None:
        now = time.monotonic()
        for member in self._members.values():
            is_late = self._timeout is not None and now - member.began >= self._timeout
            if member.is_ready and member.given and is_late and not member.timed_out:
                member.timed_out = True
                member.process.kill()

    def end(self, *, kills: bool) -> list[Task]:
        """Ends all processes, with ``kills`` also those that have something to do. Returns what they were still at."""
        if self._poll.closed:
            return []
        left: list[Task] = list(self._orphans)
        members = list(self._members.values())
        for member in members:
            left.extend(member.given)
            # The end of the input: whoever waits for a task leaves.
            member.end.close()
            if kills or member.given:
                member.process.terminate()
        until = time.monotonic() + _LAST_WORDS
        for member in members:
            member.process.join(max(0.0, until - time.monotonic()))
            if member.process.exitcode is None:
                member.process.kill()
                member.process.join()
            member.process.close()
        self._members.clear()
        self._orphans.clear()
        self.in_flight = 0
        self._poll.close()
        os.close(self._stop_end)
        return left


def _exit(code: int | None) -> str:
    if code is None:
        return "is gone"
    if code >= 0:
        return f"exited with {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


def check(function: Callable[[Any], Any], context: str) -> None:
    """Refuses a function that another process could not find, before anything is begun."""
    import inspect

    if not callable(function):
        raise InvalidError(f"`{function!r}` is no function for an item")
    if inspect.iscoroutinefunction(function):
        raise InvalidError(
            f"`{function.__qualname__}` is async, and a process works on one item at a time",
            hint="use `async for` over `safepoint.batch`, or a function that calls `asyncio.run`",
        )
    if context not in ("spawn", "forkserver", "fork"):
        raise InvalidError(f"`{context}` is no way to start processes", hint="one of spawn, forkserver, fork")
    process = multiprocessing.current_process()
    if getattr(process, "_inheriting", False):
        raise InvalidError(
            "`safepoint.map` is called while this module is imported by one of its workers",
            hint='put the call below `if __name__ == "__main__":`',
        )
    if process.daemon:
        raise InvalidError(
            "a worker process cannot have workers of its own", hint="map over the finer items at once, in one map"
        )
    if context == "fork":
        return
    name = getattr(function, "__qualname__", type(function).__name__)
    try:
        from multiprocessing.reduction import ForkingPickler

        ForkingPickler.dumps(function)
    except Exception as error:
        raise InvalidError(
            f"`{name}` cannot be found by another process: {error}",
            hint='use a function at the top level of a module, `functools.partial` of one, or `context="fork"`',
        ) from error
    main = sys.modules.get("__main__")
    if getattr(function, "__module__", None) == "__main__" and getattr(main, "__file__", None) is None:
        raise InvalidError(
            f"`{name}` was made in an interactive session, where another process cannot find it",
            hint='put it into a file and import it, or use `context="fork"`',
        )


# In the other process.


def serve(function: Callable[[Any], Any], end: socket.socket, token: ShutdownToken) -> None:
    """Answers requests until there are no more. The process ends with its parent, as every worker that has a token."""
    # Ctrl-C is for the parent to tell.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    end.setblocking(True)
    try:
        _answer(end, 0, _READY, b"")
        _serve(function, end, token)
    except (BrokenPipeError, ConnectionResetError):
        # Nobody is there to be answered.
        os._exit(1)


def _serve(function: Callable[[Any], Any], end: socket.socket, token: ShutdownToken) -> None:
    read = bytearray()
    while True:
        at = 0
        while len(read) - at >= _REQUEST.size:
            length, place = _REQUEST.unpack_from(read, at)
            if len(read) - at - _REQUEST.size < length:
                break
            at += _REQUEST.size
            payload = read[at : at + length]
            at += length
            if token.requested:
                _answer(end, place, _SKIPPED, b"")
            else:
                _attempt(function, end, place, payload)
        del read[:at]
        piece = end.recv(1 << 18)
        if not piece:
            return
        read += piece


def _attempt(function: Callable[[Any], Any], end: socket.socket, place: int, payload: bytearray) -> None:
    from multiprocessing.reduction import ForkingPickler

    try:
        answer = bytes(ForkingPickler.dumps(function(pickle.loads(payload))))
        kind = _DONE
    except BaseException as error:
        answer, kind = pickle.dumps(outcome_of(error)), _FAILED
    _answer(end, place, kind, answer)


def _answer(end: socket.socket, place: int, kind: int, pickled: bytes) -> None:
    end.sendall(_ANSWER.pack(len(pickled), place, kind) + pickled)
