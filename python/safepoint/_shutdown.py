"""Stopping: the ``with safepoint.shutdown()`` block and the token that it hands out.

How signals arrive. The native half installs a handler of its own, which stores the request at once, also while Python
is busy in C. Then it calls the handler that was there before: Python's own, for which :func:`shutdown` registers one
function by ``signal.signal``. So ``time.sleep``, ``asyncio`` and notebooks notice the signal as they would without us,
and what was there before is there again at the end of the block.

Other processes. A token can be pickled, and is inherited by a fork: in both cases the other process gets a token that
follows this one's stop, by a pipe and without messages.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import weakref
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast, overload

from . import _native
from ._errors import ClosedError, InvalidError, Stopped

if TYPE_CHECKING:
    from datetime import timedelta
    from decimal import Decimal
    from types import FrameType, TracebackType

    from ._executors import Attendant
    from ._native import StopReport

T = TypeVar("T")
P = ParamSpec("P")
R = TypeVar("R")

#: The grace period unless told otherwise, in seconds: below the 30 s that Kubernetes gives.
DEFAULT_GRACE = 25.0

#: The stop signals and whom they are counted to.
_STOP_SIGNALS = {signal.SIGINT: "USER", signal.SIGTERM: "SYSTEM", signal.SIGHUP: "SYSTEM"}

#: The blocks that this process is in, the innermost last.
_active: list[Shutdown] = []

#: Every token whose stop other processes may follow.
_tokens: weakref.WeakSet[ShutdownToken] = weakref.WeakSet()

#: In another process of the program: the tokens that follow the main process, by its address.
_followed: dict[tuple[int, int, int], ShutdownToken] = {}


def follow(stop: ShutdownToken) -> None:
    """Makes a worker process follow ``stop``: ``Pool(initializer=safepoint.follow, initargs=(stop,))``.

    From then on :func:`active` gives it the token, Ctrl-C in the terminal is left to the main process, and the worker
    ends when the main process is gone. Any function that is handed ``stop`` in another process does the same. A fork
    follows by itself.
    """
    _followed.setdefault((0, 0, id(stop)), stop)


def as_seconds(value: float | timedelta) -> float:
    """A length of time in seconds."""
    return value if isinstance(value, (int, float)) else value.total_seconds()


def active() -> ShutdownToken | None:
    """The token of the innermost ``with safepoint.shutdown()`` block of this process.

    In a worker process that is in none: the one that follows the main process. ``None`` otherwise.
    """
    if _active:
        return _active[-1]
    return next(reversed(_followed.values()), None)


class ShutdownToken(_native.Token):
    """One place in the tree of a stop, to ask, wait and work with. Threads may share it; other processes get one that
    follows.

    A child's stop is its own, a parent's reaches all its children. Asking costs one load.
    """

    _attendant: Attendant | None = None

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

    def request(self, message: str = "", *, source: str = "PROGRAMMATIC", immediate: bool = False) -> None:
        """Asks for a stop of this token and its children: graceful, or ``immediate``.

        ``source`` is one of USER, SYSTEM, PROGRAMMATIC, TIMEOUT, BUDGET, PARENT.
        """
        self._request(source, "IMMEDIATE" if immediate else "GRACEFUL", message)

    def child(self, name: str = "") -> ShutdownToken:
        """A token that stops with this one, and can be stopped alone."""
        return ShutdownToken(self._child(name))

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
        try:
            while not self.requested:
                # The next item may be long in coming: a stop does not wait for it.
                coming = asyncio.ensure_future(anext(source))
                await asyncio.wait({coming, stopping}, return_when=asyncio.FIRST_COMPLETED)
                if not coming.done():
                    coming.cancel()
                    await asyncio.gather(coming, return_exceptions=True)
                    return
                try:
                    item = coming.result()
                except StopAsyncIteration:
                    return
                yield item
        finally:
            stopping.cancel()
            close = getattr(source, "aclose", None)
            if close is not None:
                await close()

    def hook(self, order: str = "close", name: str | None = None) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Registers a function that runs while stopping: ``@stop.hook(order="close")``.

        The orders are accept, drain, save, close, report; within one, the last registered runs first. The function gets
        the seconds that it has, if it takes a parameter. It may be ``async``. One that fails or hangs is named in the
        report and never blocks those after it.

        Raises :class:`safepoint.ClosedError` when the stop has got past ``order``.
        """

        def register(function: Callable[..., Any]) -> Callable[..., Any]:
            from ._hooks import starter

            said = name or str(getattr(function, "__qualname__", function))
            self._hook(order, said, starter(function, said))
            return function

        return register

    def track(self, work: T, name: str | None = None) -> T:
        """Makes a stop reach an executor, a pool, a future, a process or an asyncio task, and returns it.

        When a stop is asked for, what is pending in it is cancelled; the end of the block waits for what is running,
        within the grace period.
        """
        from ._executors import track

        track(self, work, name)
        return work

    def time_limit(self, limit: float | timedelta) -> _native.TimeLimit:
        """Asks for a stop (source TIMEOUT) after so many seconds."""
        return self._time_limit(as_seconds(limit))

    def budget(self, usd: Decimal | float | str, *, on_warning: Callable[[Decimal], object] | None = None) -> Budget:
        """A budget in units of money or anything else; once it is spent, a stop is asked for (source BUDGET).

        Counted exactly, in millionths. ``on_warning`` is called once, at 80 %, with what is left.
        """
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
        server = Health(self, address, dict(checks or {}), ready, check_limit, secret, list(hosts))
        block = active()
        if isinstance(block, Shutdown):
            block._servers.append(server)
        return server

    def __reduce__(self) -> tuple[Callable[..., ShutdownToken], tuple[int, int, int, str]]:
        pid = os.getpid()
        return _follow, (pid, _started_at(pid), self.fileno(), self.name)

    def fileno(self) -> int:
        """A descriptor that is readable from the stop request on, for ``select`` and event loops. Never to be read or
        closed.
        """
        _tokens.add(self)
        return super().fileno()


class Shutdown(ShutdownToken):
    """What ``with safepoint.shutdown() as stop`` gives: the root token, and after the block how it ended."""

    #: How the stop went; ``None`` until the block has ended.
    report: StopReport | None = None

    def __init__(self, of: _native.Token) -> None:
        self._servers: list[Health] = []

    @property
    def exit_code(self) -> int:
        """What to leave the program with: 0 when nobody asked for a stop, 130 after Ctrl-C, 143 after SIGTERM, 75 after
        a limit or a budget.

        Raises :class:`safepoint.ClosedError` before the end of the block.
        """
        if self.report is None:
            raise ClosedError("the exit code is known at the end of the `with safepoint.shutdown()` block")
        return self.report.exit_code


class Unit:
    """A section that a stop waits for; see :meth:`ShutdownToken.unit`."""

    def __init__(self, token: ShutdownToken, name: str) -> None:
        self.name = name
        self._token = token
        self._actions: list[Callable[[], object]] = []
        self._unit: _native.Unit | None = None

    def on_rollback(self, action: Callable[P, object], *arguments: P.args, **named: P.kwargs) -> Callable[P, object]:
        """Registers what undoes the section. It may be ``async`` in an ``async with``. Returns ``action``, so it is a
        decorator, too.
        """
        from functools import partial

        self._actions.append(partial(action, *arguments, **named) if arguments or named else action)
        return action

    def __enter__(self) -> Unit:
        if self._unit is not None:
            raise InvalidError(f"unit `{self.name}` is entered already", hint="make one for each section")
        self._unit = self._token._unit(self.name, self._actions)
        if self._unit is None:
            raise Stopped(f"unit `{self.name}` does not begin: a stop was asked for")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        unit, self._unit = self._unit, None
        if unit is None:
            return
        if kind is None:
            unit.commit()
        else:
            unit.roll_back()

    async def __aenter__(self) -> Unit:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            await self._roll_back_here()
        self.__exit__(kind, error, trace)

    async def _roll_back_here(self) -> None:
        from inspect import isawaitable

        failed: list[Callable[[], object]] = []
        while self._actions:
            action = self._actions.pop()
            try:
                undone = action()
                if isawaitable(undone):
                    await cast("Awaitable[object]", undone)
            except Exception as failure:
                failed.append(_raiser(failure))
        # What failed is named in the report: the native half runs the rest of the list.
        self._actions.extend(failed)


def _raiser(failure: Exception) -> Callable[[], object]:
    def fail() -> object:
        raise failure

    return fail


class Budget:
    """Money or another counted resource; see :meth:`ShutdownToken.budget`. Threads may share it."""

    def __init__(
        self, token: ShutdownToken, limit: Decimal | float | str, on_warning: Callable[[Decimal], object] | None
    ) -> None:
        warn = None if on_warning is None else _warner(on_warning)
        self._native = token._budget(limit, warn)

    def spend(self, amount: Decimal | float | str) -> bool:
        """Counts ``amount`` as spent. Says whether the budget is used up: then a stop has been asked for."""
        return self._native.spend(amount)

    @property
    def limit(self) -> Decimal:
        """The whole budget."""
        return _decimal(self._native._limit)

    @property
    def spent(self) -> Decimal:
        """What was spent, exactly: ten times 0.1 is 1."""
        return _decimal(self._native._spent)

    @property
    def left(self) -> Decimal:
        """What is left, 0 at least."""
        return _decimal(self._native._left)

    def lift(self) -> None:
        """From now on, spending asks for no stop."""
        self._native.lift()


class Health:
    """A server of health and readiness; see :meth:`ShutdownToken.health`. Use it in ``with``, or close it."""

    def __init__(
        self,
        token: ShutdownToken,
        address: str,
        checks: dict[str, Callable[[], object]],
        ready: bool,
        check_limit: float | timedelta | None,
        secret: str | None,
        hosts: list[str],
    ) -> None:
        limit = None if check_limit is None else as_seconds(check_limit)
        self._native = _native.HealthServer(token, str(address), list(checks.items()), ready, limit, secret, hosts)

    @property
    def address(self) -> str:
        """Its URL without a path, ``http://127.0.0.1:8080``, with the real port for port 0; or ``unix:`` and a path."""
        return self._native.address.rstrip("/")

    @property
    def ready(self) -> bool:
        """Whether the program says that it is ready. Set it when the start is done."""
        return self._native.ready

    @ready.setter
    def ready(self, ready: bool) -> None:
        self._native._set_ready(ready)

    def close(self) -> None:
        """Ends the server."""
        self._native.close()

    def __enter__(self) -> Health:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _decimal(text: str) -> Decimal:
    from decimal import Decimal

    return Decimal(text)


def _warner(on_warning: Callable[[Decimal], object]) -> Callable[[str], object]:
    return lambda left: on_warning(_decimal(left))


class shutdown:  # noqa: N801 - used as a function
    """Makes the block stoppable: ``with safepoint.shutdown(grace=25) as stop:``, or ``async with``.

    Inside the block SIGINT (Ctrl-C), SIGTERM and SIGHUP are stop requests: ``stop.requested`` turns true and nothing
    else happens by itself, so that the code gets to its next safepoint. A second signal is an immediate request, a
    third ends the process. At the end of the block the hooks run, units and tracked work are waited for, and the
    earlier signal handlers are put back.

    grace
        Seconds from the request to the end. The default is the environment's ``SHUTDOWN_TIMEOUT``, else 25.
    reserve
        The part of the grace period that is kept for hooks that save, close and report. The default is a fifth, if
        there are any.
    ready_delay
        Seconds from the request to the first hook, for load balancers.
    raise_in_main
        For code that never asks: each stop request raises :class:`safepoint.Stopped` in the main thread, where it is.
        The block takes it in.
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

    #: What wakes the main thread for a stop that is no signal. By default it does nothing, and hardly anybody uses it.
    _waking = signal.SIGURG

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
        self._earlier: dict[signal.Signals, Any] = {}
        self._owner: _native.Owner | None = None
        self._stop: Shutdown | None = None
        self._raised = 0
        #: What a request raises in the main thread. A loop that looks after signals by itself raises what people
        #: expect.
        self._exception: type[BaseException] = Stopped
        self._pid = os.getpid()

    def __enter__(self) -> Shutdown:
        if self._owner is not None:
            raise InvalidError(
                "this block was entered already", hint="make a new `safepoint.shutdown()` for each block"
            )
        if self._signals and threading.current_thread() is not threading.main_thread():
            raise InvalidError(
                "signals can only be taken in the main thread",
                hint="enter the block there and pass `stop` to this thread, or use `shutdown(signals=False)`",
            )
        self._pid = os.getpid()
        announces = sys.stderr.isatty() if self._announces is None and sys.stderr else bool(self._announces)
        taken: list[tuple[int, str]] = []
        info = None
        try:
            if self._signals:
                for number, source in _STOP_SIGNALS.items():
                    earlier = signal.getsignal(number)
                    # nohup's SIGHUP stays ignored; a handler that is not Python's is called by the native half.
                    if number == signal.SIGHUP and earlier == signal.SIG_IGN:
                        continue
                    if earlier is not None:
                        self._earlier[number] = signal.signal(number, self._on_signal)
                    taken.append((number, source))
                if signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL:
                    info = int(signal.SIGUSR1)
                if self._raises:
                    self._earlier[self._waking] = signal.signal(self._waking, self._on_signal)
            self._owner = _native.Owner(
                self._grace,
                taken,
                reserve=self._reserve,
                ready_delay=self._ready_delay,
                info_signal=info,
                announces=announces,
            )
        except BaseException:
            self._put_back()
            raise
        self._stop = stop = Shutdown(self._owner.token())
        if self._raises:
            main = threading.main_thread().ident
            assert main is not None
            self._owner.interrupt(main, self._waking)
        _active.append(stop)
        return stop

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        stop, owner = self._stop, self._owner
        if stop is None or owner is None:
            return False
        if os.getpid() != self._pid:
            # A fork that came to the end of its parent's block: hooks and handlers are the parent's.
            return kind is not None and issubclass(kind, Stopped)
        self._before_the_end(owner)
        try:
            stop.report = owner.finish()
        finally:
            self._after_the_end(stop)
        return self._takes_in(kind)

    def _before_the_end(self, owner: _native.Owner) -> None:
        if self._raises:
            owner.interrupt_no_more()

    def _after_the_end(self, stop: Shutdown) -> None:
        if stop._attendant is not None:
            stop._attendant.end()
        for server in stop._servers:
            server.close()
        if stop in _active:
            _active.remove(stop)
        self._put_back()

    def _takes_in(self, kind: type[BaseException] | None) -> bool:
        """Whether what left the block was the stop's doing."""
        if kind is None or self._stop is None:
            return False
        if issubclass(kind, Stopped):
            return True
        futures = sys.modules.get("concurrent.futures")
        # The result of work that was tracked and given up.
        is_given_up = futures is not None and issubclass(kind, futures.CancelledError)
        return is_given_up and self._stop.requested and self._stop._attendant is not None

    async def __aenter__(self) -> Shutdown:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        import asyncio

        from ._hooks import home

        # The end waits; the loop goes on for hooks and units that live in it. Signal handlers are put back in the main
        # thread.
        stop, owner = self._stop, self._owner
        if stop is None or owner is None or os.getpid() != self._pid:
            return self.__exit__(kind, error, trace)
        self._before_the_end(owner)
        with home(asyncio.get_running_loop()):
            try:
                stop.report = await asyncio.shield(asyncio.to_thread(owner.finish))
            finally:
                self._after_the_end(stop)
        return self._takes_in(kind)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        # The native handler has stored the request already.
        stop = self._stop
        if not self._raises or stop is None or os.getpid() != self._pid:
            return
        # Once for a graceful request and once for an immediate one, however many signals came.
        level = {"running": 0, "draining": 1}.get(stop.phase, 2)
        if level == 0 or self._owner is None:
            return
        self._owner.heard()
        if level > self._raised:
            self._raised = level
            raise self._exception(str(stop.reason))

    def _put_back(self) -> None:
        for number, earlier in self._earlier.items():
            # Somebody else's handler that was set inside the block stays.
            if signal.getsignal(number) == self._on_signal:
                signal.signal(number, earlier)
        self._earlier.clear()


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


def _started_at(pid: int) -> int:
    """When a process started, in clock ticks since boot: with its number, which process it is. Source: proc(5), field
    22 of stat.
    """
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
        return int(stat.read().rpartition(")")[2].split()[19])


def _follow(pid: int, started_at: int, descriptor: int, name: str) -> ShutdownToken:
    """The token of another process of this program, in this one. What unpickling calls."""
    if pid == os.getpid():
        # Pickled and unpickled in one process: `copy.copy`, or an executor of threads.
        for token in _tokens:
            if token.fileno() == descriptor:
                return token
    address = (pid, started_at, descriptor)
    known = _followed.get(address)
    if known is not None:
        return known
    try:
        here = os.open(f"/proc/{pid}/fd/{descriptor}", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        if _started_at(pid) != started_at:
            os.close(here)
            raise ProcessLookupError
    except OSError:
        # It is gone: its write end went with it.
        here, other = os.pipe()
        os.close(other)
    token = ShutdownToken(_native.Parent.attach(here))
    _followed[address] = token
    _become_worker(pid)
    return token


def _become_worker(main: int) -> None:
    """In a process that follows another's stop: Ctrl-C in the terminal reaches this one too, but it is the other's to
    tell.
    """
    if (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    ):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    workers = sys.modules.get("multiprocessing.process")
    if workers is None:
        return
    # The mark of a process that is being handed its arguments, this token among them.
    is_beginning = getattr(workers.current_process(), "_inheriting", False)
    if is_beginning or workers.parent_process() is not None:
        _native.end_with(main)


#: What makes the tokens of a fork follow its parent's.
_links: list[object] = []


def _before_fork() -> None:
    # The pipes must exist before the fork, for the child to have their ends.
    for stop in _active:
        stop.fileno()


def _after_fork_in_child() -> None:
    if not _active and not _tokens:
        return
    for token in list(_tokens):
        link = token._after_fork()
        if link is not None:
            _links.append(link)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        handler = signal.getsignal(number)
        if getattr(handler, "__func__", None) is shutdown._on_signal:
            # The parent tells of Ctrl-C; anything else that is sent to this process means this process.
            signal.signal(number, signal.SIG_IGN if number == signal.SIGINT else signal.SIG_DFL)
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
