"""Stopping: the ``with safepoint.shutdown()`` block and the token that it hands out.

How signals arrive is told in `_signals`, how other processes of the program follow in `_processes`.
"""

from __future__ import annotations

import builtins
import os
import sys
import threading
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast, overload

from . import _blocks, _native, _processes, _signals
from ._blocks import active as active
from ._errors import ClosedError, InvalidError, Stopped
from ._processes import follow as follow
from ._times import as_seconds as as_seconds
from ._unit import Unit as Unit

if TYPE_CHECKING:
    from datetime import timedelta
    from decimal import Decimal
    from types import FrameType, TracebackType

    from ._budget import Budget
    from ._executors import Attendant
    from ._health import Health
    from ._native import StopReport

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

#: The grace period unless told otherwise, in seconds: below the 30 s that Kubernetes gives.
DEFAULT_GRACE = 25.0

#: When a hook runs.
Order = Literal["accept", "drain", "save", "close", "report"]

#: Whom a stop is counted to.
Source = Literal["USER", "SYSTEM", "PROGRAMMATIC", "TIMEOUT", "BUDGET", "PARENT"]


class ShutdownToken(_native.Token):
    """One place in the tree of a stop, to ask, wait and work with. Threads may share it; other processes get one that
    follows.

    A child's stop is its own, a parent's reaches all its children. Asking costs one load.
    """

    #: What makes the stop reach executors and the like; see `_executors`.
    _attendant: Attendant | None = None

    #: Where the stop is asked for, if that is another process.
    _address: _processes.Address | None = None

    #: The block that it belongs to, if it is in this process.
    _block: Shutdown | None = None

    def wait(self, timeout: float | timedelta | None = None) -> bool:
        """Blocks until a stop is asked for, at most ``timeout`` seconds. Says whether it was.

        The interpreter is free meanwhile, and Python's signal handlers run.
        """
        return self._wait(None if timeout is None else as_seconds(timeout))

    async def wait_async(self) -> None:
        """Waits in an event loop until a stop is asked for. Cancelling it changes nothing."""
        if self.requested:
            return
        import asyncio

        loop = asyncio.get_running_loop()
        stopping: asyncio.Future[None] = loop.create_future()
        # A descriptor of its own: a loop has one reader for each.
        descriptor = os.dup(self.fileno())

        def tell() -> None:
            if not stopping.done():
                stopping.set_result(None)

        loop.add_reader(descriptor, tell)
        try:
            await stopping
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)

    def request(self, message: str = "", *, source: Source = "PROGRAMMATIC", immediate: bool = False) -> None:
        """Asks for a stop of this token and its children: graceful, or ``immediate``.

        ``source`` is one of USER, SYSTEM, PROGRAMMATIC, TIMEOUT, BUDGET, PARENT.
        """
        self._request(source, "IMMEDIATE" if immediate else "GRACEFUL", message)

    def child(self, name: str = "") -> ShutdownToken:
        """A token that stops with this one, and can be stopped alone."""
        child = ShutdownToken(self._child(name))
        child._block = self._root()
        return child

    def _root(self) -> Shutdown | None:
        return self._block

    def unit(self, name: str) -> Unit:
        """A section that a stop waits for: ``with stop.unit("record 17") as unit:``, or ``async with``.

        It commits at the end of the block. When an exception leaves it, what was registered with
        :meth:`Unit.on_rollback` runs, the last first. Entering it after a stop was asked for raises
        :class:`safepoint.Stopped`: no extra one begins.
        """
        return Unit(self, name)

    @overload
    def iter(self, items: Iterable[T]) -> Iterator[T]: ...
    @overload
    def iter(self, items: AsyncIterable[T]) -> AsyncIterator[T]: ...
    def iter(self, items: Iterable[T] | AsyncIterable[T]) -> Iterator[T] | AsyncIterator[T]:
        """The items, until a stop is asked for: the loop ends at the safepoint between two of them.

        An item in progress is not disturbed, and none is taken from ``items`` that is not given out. Works with ``for``
        and ``async for``.
        """
        if isinstance(items, AsyncIterable):
            return self._iterate_async(items)
        return cast("Iterator[T]", self._iterate(items))

    async def _iterate_async(self, items: AsyncIterable[T]) -> AsyncIterator[T]:
        import asyncio

        source = aiter(items)
        stopping = asyncio.ensure_future(self.wait_async())
        coming: asyncio.Future[T] | None = None
        try:
            while not self.requested:
                # The next item may be long in coming: a stop does not wait for it.
                coming = asyncio.ensure_future(anext(source))
                await asyncio.wait({coming, stopping}, return_when=asyncio.FIRST_COMPLETED)
                if not coming.done():
                    return
                try:
                    item = coming.result()
                except StopAsyncIteration:
                    return
                coming = None
                yield item
        finally:
            stopping.cancel()
            if coming is not None and not coming.done():
                coming.cancel()
                # It must have left the source before anybody else may ask that one.
                await asyncio.wait({coming})

    @overload
    def hook(self, order: F) -> F: ...
    @overload
    def hook(self, order: Order = "close", name: str | None = None) -> Callable[[F], F]: ...
    def hook(self, order: Any = "close", name: str | None = None) -> Any:
        """Registers a function that runs while stopping: ``@stop.hook(order="close")``, or ``@stop.hook``.

        The orders are accept, drain, save, close, report; within one, the last registered runs first. The function gets
        the seconds that it has, if it takes a parameter. It may be ``async``. One that fails or hangs is named in the
        report and never blocks those after it.

        Raises :class:`safepoint.ClosedError` when the stop has got past ``order``.
        """
        if callable(order):
            return self.hook()(order)

        def register(function: F) -> F:
            from ._hooks import runner

            said = name or str(getattr(function, "__qualname__", function))
            self._hook(order, said, runner(function))
            return function

        return register

    def track(self, work: T, name: str | None = None) -> T:
        """Makes a stop reach an executor, a pool, a future, a process or an asyncio task, and returns it.

        When a stop is asked for, what is pending in it is given up, and the end of the block waits for what is running.
        Processes that are still there when the grace period is over, or when the stop is immediate, are ended. At the
        end of a block that nobody stopped nothing is done to it.
        """
        from ._executors import track

        track(self, work, name)
        return work

    def time_limit(self, limit: float | timedelta) -> _native.TimeLimit:
        """Asks for a stop (source TIMEOUT) after so many seconds."""
        return self._time_limit(as_seconds(limit))

    def budget(self, usd: Decimal | float | str, *, on_warning: Callable[[Decimal], object] | None = None) -> Budget:
        """A budget in units of money or anything else; once it is spent, a stop is asked for (source BUDGET).

        Counted exactly, in millionths. ``on_warning`` is called once, at 80 %, with what was spent, on a thread.
        """
        from ._budget import Budget

        return Budget(self, usd, on_warning)

    def health(
        self,
        address: str = "127.0.0.1:8080",
        *,
        checks: Mapping[str, Callable[[], object]] | None = None,
        ready: bool = True,
        check_limit: float | timedelta | None = None,
        secret: str | None = None,
        hosts: Iterable[str] = (),
    ) -> Health:
        """Serves liveness, readiness, status, metrics and a stop over HTTP, on a thread without Python.

        ``address`` is a port, ``:8080``, ``host:port`` or ``unix:/path``. ``GET /health`` answers 200 while the process
        lives; ``GET /ready`` answers 503 before ``ready``, while a check raises or returns ``False``, and from the stop
        request on; ``POST /shutdown`` asks for a stop, from another host only with the bearer token ``secret``.

        Raises :class:`safepoint.IoError` when the address cannot be had.
        """
        from ._health import Health

        server = Health(self, address, dict(checks or {}), ready, check_limit, secret, list(hosts))
        block = self._root()
        if block is not None:
            block._servers.append(server)
        return server

    def __reduce__(self) -> tuple[Callable[..., ShutdownToken], tuple[int, int, int]]:
        return _processes.pickled(self)

    def fileno(self) -> int:
        """A descriptor that is readable from the stop request on, for ``select`` and event loops. Never to be read or
        closed.
        """
        _processes.may_be_followed(self)
        return super().fileno()


class Shutdown(ShutdownToken):
    """What ``with safepoint.shutdown() as stop`` gives: the root token, and after the block how it ended."""

    #: How the stop went; ``None`` until the block has ended.
    report: StopReport | None = None

    def __init__(self, of: _native.Token) -> None:
        self._servers: list[Health] = []

    def _root(self) -> Shutdown:
        return self

    @property
    def exit_code(self) -> int:
        """What to leave the program with: 0 when nobody asked for a stop, 130 after Ctrl-C, 143 after SIGTERM, 75 after
        a limit or a budget.

        Raises :class:`safepoint.ClosedError` before the end of the block.
        """
        if self.report is None:
            raise ClosedError("the exit code is known at the end of the `with safepoint.shutdown()` block")
        return self.report.exit_code


class shutdown:  # noqa: N801 - used as a function
    """Makes the block stoppable: ``with safepoint.shutdown(grace=25) as stop:``, or ``async with``.

    Inside the block SIGINT (Ctrl-C), SIGTERM and SIGHUP are stop requests: ``stop.requested`` turns true and nothing
    else happens by itself, so that the code gets to its next safepoint. A second signal is an immediate request, a
    third ends the process. At the end of the block the hooks run, units and tracked work are waited for, and the
    earlier signal handlers are put back. Blocks may be nested, and a signal is for all of them.

    grace
        Seconds from the request to the end. The default is the environment's ``SHUTDOWN_TIMEOUT``, else 25.
    reserve
        The part of the grace period that is kept for hooks that save, close and report. The default is a fifth, if
        there are any.
    ready_delay
        Seconds from the request to the first hook, for load balancers.
    raise_in_main
        For code that never asks: a stop request raises :class:`safepoint.Stopped` in the main thread, where it is, and
        an immediate one after it does so again. The block takes it in. An import may end first, within half the grace
        period. Not for ``async with``.
    signals
        ``False`` for a block that only limits, budgets and ``stop.request()`` end; a signal handler can be set in the
        main thread only.
    announce
        Whether the first request is told on standard error, with what a second one will do. The default is to do so in
        a terminal.

    :class:`safepoint.Stopped` that reaches the end of the block is taken in. Any other exception goes on, after the end
    of the block has been done.

    Raises :class:`safepoint.InvalidError` for a time that cannot be, and for signals outside the main thread.
    """

    def __init__(
        self,
        grace: float | timedelta | None = None,
        *,
        reserve: float | timedelta | None = None,
        ready_delay: float | timedelta = 0.0,
        raise_in_main: bool = False,
        signals: bool = True,
        announce: bool | None = None,
    ) -> None:
        self._grace = _grace(grace)
        self._reserve = None if reserve is None else as_seconds(reserve)
        self._ready_delay = as_seconds(ready_delay)
        self._raises = raise_in_main
        self._signals = signals
        self._announces = announce
        self._owner: _native.Owner | None = None
        self._stop: Shutdown | None = None
        #: Signals that came before the native half could see them.
        self._unseen: list[int] = []
        #: Between the end of `__enter__` and the beginning of `__exit__`, an exception lands in the block.
        self._is_open = False
        #: 1 after the first request was raised, 2 after an immediate one.
        self._raised = 0
        #: What a request raises in the main thread; a loop that looks after signals by itself has another exception.
        self._exception: type[BaseException] = Stopped
        #: How many imports the block itself is in, and until when one that began in it may go on.
        self._imports = 0
        self._patience: float | None = None
        self._pid = os.getpid()

    def __enter__(self) -> Shutdown:
        if self._owner is not None:
            raise InvalidError(
                "this block was entered already", hint="make a new `safepoint.shutdown()` for each block"
            )
        if (self._signals or self._raises) and threading.current_thread() is not threading.main_thread():
            raise InvalidError(
                "signals can only be taken in the main thread",
                hint="enter the block there and pass `stop` to this thread, or use `shutdown(signals=False)`",
            )
        self._pid = os.getpid()
        try:
            stop = self._begin()
        except BaseException:
            self._end_of_a_bad_beginning()
            raise
        self._is_open = True
        return stop

    def _begin(self) -> Shutdown:
        announces = sys.stderr.isatty() if self._announces is None and sys.stderr else bool(self._announces)
        taken = _signals.listen(self._on_signal) if self._signals else []
        self._owner = owner = _native.Owner(
            self._grace,
            taken,
            reserve=self._reserve,
            ready_delay=self._ready_delay,
            info_signal=_signals.info() if self._signals else None,
            # A signal is for all blocks; one of them says so.
            announces=announces and not _blocks.entered(),
        )
        self._stop = stop = Shutdown(owner.token())
        if self._raises:
            main = threading.main_thread().ident
            assert main is not None
            self._imports = _imports(sys._getframe())
            _signals.listen_to_waking(self._on_signal)
            owner.interrupt(main, int(_signals.WAKING))
        _blocks.enter(stop)
        while self._unseen:
            self._request(self._unseen.pop(0))
        return stop

    def _end_of_a_bad_beginning(self) -> None:
        owner, stop = self._owner, self._stop
        if owner is not None:
            owner.finish()
        if stop is not None:
            _blocks.leave(stop)
        _signals.stop_listening(self._on_signal)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._is_open = False
        stop, owner = self._stop, self._owner
        if stop is None or owner is None:
            return False
        if os.getpid() != self._pid:
            # A fork that came to the end of its parent's block: hooks and handlers are the parent's.
            return self._takes_in(error)
        owner.interrupt_no_more()
        try:
            stop.report = owner.finish()
        finally:
            self._after_the_end(stop)
        return self._takes_in(error)

    async def __aenter__(self) -> Shutdown:
        if self._raises:
            raise InvalidError(
                "an exception in the main thread would end the event loop, not the block",
                hint="wait with `await stop.wait_async()`, or track the tasks",
            )
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        import asyncio

        self._is_open = False
        stop, owner = self._stop, self._owner
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            # A coroutine that is closed after its loop.
            return self.__exit__(kind, error, trace)
        if stop is None or owner is None or os.getpid() != self._pid:
            return self.__exit__(kind, error, trace)
        from ._hooks import home
        from ._waiting import on_a_thread, to_its_end

        # The loop goes on, for hooks and units that live in it.
        with home(loop):
            try:
                stop.report = await to_its_end(on_a_thread(owner.finish))
            finally:
                self._after_the_end(stop)
        return self._takes_in(error)

    def _after_the_end(self, stop: Shutdown) -> None:
        if stop._attendant is not None:
            stop._attendant.end()
        for server in stop._servers:
            server.close()
        _blocks.leave(stop)
        if self._signals or self._raises:
            _signals.stop_listening(self._on_signal)

    def _takes_in(self, error: BaseException | None) -> bool:
        """Whether what left the block was the stop's doing."""
        stop = self._stop
        if error is None or stop is None or not stop.requested:
            return False
        if isinstance(error, Stopped):
            # One that was raised for another block goes on to it.
            return error.block is None or error.block is self
        if _is_group_of_stopped(error):
            return True
        futures = sys.modules.get("concurrent.futures")
        # The result of work that was tracked and given up.
        return futures is not None and isinstance(error, futures.CancelledError) and stop._attendant is not None

    def _on_signal(self, frame: FrameType | None, unseen: int | None) -> None:
        stop, owner = self._stop, self._owner
        if unseen is not None and self._signals:
            if stop is None:
                self._unseen.append(unseen)
                return
            self._request(unseen)
        if not self._raises or stop is None or owner is None:
            return
        # Before the requests: what comes in between is told of once more.
        reached = {"draining": 1, "terminating": 2}.get(stop.phase, 0)
        level = _level(stop)
        if level <= self._raised:
            owner.heard(reached)
        elif self._is_open and not _is_ours(frame) and not self._lets_an_import_end(frame):
            self._raised = level
            owner.heard(reached)
            raised = self._exception(str(stop.reason))
            if isinstance(raised, Stopped):
                raised.block = self
            raise raised

    def _lets_an_import_end(self, frame: FrameType | None) -> bool:
        """Whether the exception has to wait, for half the grace period at most, for an import of the block.

        A module that is left in the middle is gone, its parts are not, and the next import of a package may be given
        those and fail: ``asyncio`` does. An import that runs the work itself does not end, therefore the limit.
        """
        if _imports(frame) <= self._imports:
            return False
        now = time.monotonic()
        if self._patience is None:
            self._patience = now + self._grace / 2
        return now < self._patience

    def _request(self, number: int) -> None:
        """What the native handler would have done."""
        stop = self._stop
        assert stop is not None
        if stop.phase == "stopped":
            _signals.leave_to_earlier(number)
            return
        if stop.phase == "terminating":
            _signals.default_action(number)
            return
        name = _signals.name_of(number)
        mode = "GRACEFUL" if stop.phase == "running" else "IMMEDIATE"
        stop._request(_signals.source_of(number), mode, name, number)


def _level(stop: Shutdown) -> int:
    requests = stop.requests
    if any(request.mode == "IMMEDIATE" for request in requests[1:]):
        return 2
    return 1 if requests else 0


#: The functions of this file in which an exception would do harm.
_GUARDED = {
    function.__code__
    for function in (
        shutdown.__enter__,
        shutdown._begin,
        shutdown._end_of_a_bad_beginning,
        shutdown.__exit__,
        shutdown._after_the_end,
    )
}


def _is_ours(frame: FrameType | None) -> bool:
    """Whether a signal came while a block was being entered or left."""
    while frame is not None:
        if frame.f_code in _GUARDED:
            return True
        frame = frame.f_back
    return False


def _imports(frame: FrameType | None) -> int:
    """How deep the imports are in a stack: the frames of the import system, told by the name that Python itself looks
    for to leave them out of tracebacks.
    """
    count = 0
    while frame is not None:
        count += frame.f_code.co_filename == "<frozen importlib._bootstrap>"
        frame = frame.f_back
    return count


def _is_group_of_stopped(error: BaseException) -> bool:
    """Whether it is what a task group makes of units that were refused. Groups came with Python 3.11."""
    group: Any = getattr(builtins, "BaseExceptionGroup", None)
    return group is not None and isinstance(error, group) and cast("Any", error).split(Stopped)[1] is None


def _grace(given: float | timedelta | None) -> float:
    if given is not None:
        return as_seconds(given)
    text = os.environ.get("SHUTDOWN_TIMEOUT")
    if not text:
        return DEFAULT_GRACE
    try:
        return float(text.removesuffix("s"))
    except ValueError:
        raise InvalidError(
            f"SHUTDOWN_TIMEOUT cannot be used: `{text}` is no number of seconds", hint="write for example 90"
        ) from None
