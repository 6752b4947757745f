"""Ray: a cluster that is shut down cleanly, a stop that tasks and actors hear of, and a map that goes on where it was.

::

    import safepoint, safepoint.ray

    with safepoint.shutdown() as stop:
        safepoint.ray.init()                                 # as ray.init; shut down at the end of the block
        for size in safepoint.ray.map(measure, paths, state="sizes"):
            print(size)

For tasks and actors of one's own::

    shared = safepoint.ray.share(stop)

    @ray.remote
    def work(shared, items):
        for item in shared.token().iter(items):              # ends at the safepoint after the stop request
            ...

Tried with Ray 2.60 on one machine.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import ray

from . import _native
from ._crew import Ended, News, Result, Skipped, Task
from ._errors import InvalidError
from ._map import MapResult
from ._outcome import line_of, outcome_of
from ._shutdown import ShutdownToken, active

if TYPE_CHECKING:
    import os
    from datetime import timedelta

__all__ = ["SharedStop", "init", "map", "share"]

T = TypeVar("T")
R = TypeVar("R")


def init(*arguments: Any, stop: ShutdownToken | None = None, **options: Any) -> Any:
    """Connects to a cluster or starts one, as ``ray.init``, and shuts it down when ``stop`` ends: after what is in
    progress has ended, before the report.

    ``ray.init`` would set a handler of SIGTERM that ends the program; here the block's stays.
    """
    token = _token(stop)
    with _own_handler_of_sigterm(token):
        context = ray.init(*arguments, **options)

    @token.hook("report", name="ray.shutdown")
    def shut_down() -> None:
        ray.shutdown()

    return context


@contextmanager
def _own_handler_of_sigterm(token: ShutdownToken) -> Iterator[None]:
    """Ray would set its handler over the native one of the block, which nothing in Python could set again.

    Source: `init` in python/ray/_private/worker.py and `_register_shutdown_hooks` in node.py, Ray 2.60.
    """
    import signal
    from importlib import import_module

    utils: Any = import_module("ray._private.utils")
    earlier = signal.getsignal(signal.SIGTERM)
    set_handler = getattr(utils, "set_sigterm_handler", None)
    utils.set_sigterm_handler = lambda handler: None
    try:
        yield
    finally:
        utils.set_sigterm_handler = set_handler
    if signal.getsignal(signal.SIGTERM) is not earlier and signal.getsignal(signal.SIGTERM) != earlier:
        # Another Ray does it in another way.
        def ask(number: int, frame: object) -> None:
            token.request("SIGTERM", source="SYSTEM", immediate=token.requested)

        signal.signal(signal.SIGTERM, ask)


def share(stop: ShutdownToken | None = None) -> SharedStop:
    """A stop that tasks and actors of Ray hear of, wherever they run: pass it to them, and ask its ``token()``
    there.

    An actor that needs no processor knows of the stop; each process that asks waits for it on a thread of its own, so
    that asking costs as much as here.
    """
    token = _token(stop)
    actor = ray.remote(num_cpus=0, max_concurrency=100_000)(_Told).remote()

    def tell() -> None:
        phase = "running"
        while phase != "stopped":
            if phase == "running":
                token.wait()
            elif not _later(token, phase):
                return
            phase = token.phase
            reason = token.reason
            try:
                actor.tell.remote(phase, "" if reason is None else str(reason))
            except Exception:
                # The cluster is gone: nobody is left to be told.
                return

    threading.Thread(target=tell, name="safepoint-ray", daemon=True).start()
    return SharedStop(actor)


def _later(token: ShutdownToken, phase: str) -> bool:
    """Waits for a later phase than this one."""
    from time import sleep

    while token.phase == phase:
        sleep(0.05)
    return True


class _Told:
    """The actor that knows of the stop."""

    def __init__(self) -> None:
        import asyncio

        self._phase, self._reason = "running", ""
        self._changed = asyncio.Event()

    async def tell(self, phase: str, reason: str) -> None:
        self._phase, self._reason = phase, reason
        self._changed.set()

    async def after(self, phase: str) -> tuple[str, str]:
        """Waits until the phase is another one than this."""
        while self._phase == phase:
            self._changed.clear()
            await self._changed.wait()
        return self._phase, self._reason


#: The tokens of this process that follow an actor, by its id.
_followed: dict[str, ShutdownToken] = {}
_lock = threading.Lock()


class SharedStop:
    """A stop that may be passed to tasks and actors; made by :func:`share`."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    def token(self) -> ShutdownToken:
        """The token of this process that follows the stop; the same each time.

        When the program that shared it is gone, it says immediate, source PARENT.
        """
        name = self._actor._actor_id.hex()
        with _lock:
            token = _followed.get(name)
            if token is None:
                owner = _native.Owner(3600.0, [])
                token = _followed[name] = ShutdownToken(owner.token())
                following = threading.Thread(
                    target=self._follow, args=(token, owner), name="safepoint-ray", daemon=True
                )
                following.start()
        return token

    def _follow(self, token: ShutdownToken, owner: object) -> None:
        phase = "running"
        while phase in ("running", "draining"):
            try:
                phase, reason = ray.get(self._actor.after.remote(phase))
            except Exception as error:
                phase, reason = "terminating", f"the program that shared its stop is gone: {type(error).__name__}"
            token.request(reason, source="PARENT", immediate=phase != "draining")

    def __reduce__(self) -> tuple[type[SharedStop], tuple[Any]]:
        return SharedStop, (self._actor,)


def map(
    function: Callable[[T], R],
    items: Iterable[T],
    *,
    state: str | os.PathLike[str] | None = None,
    key: Callable[[T], object] | str | None = None,
    in_flight: int | None = None,
    options: dict[str, Any] | None = None,
    attempts: int = 3,
    retry_wait: float | timedelta = 1.0,
    retry_failed: bool = False,
    fresh: bool = False,
    ahead: int = 10_000,
    total: int | None = None,
    progress: bool | None = None,
    stop: ShutdownToken | None = None,
) -> MapResult[R]:
    """As :func:`safepoint.map`, with tasks of Ray instead of processes: results in order, durable as they come where
    there is a ``state``, and after a stop the same call goes on with what is left. What came within some 10 ms before a
    ``kill -9`` is computed again.

    in_flight
        So many tasks at a time; by default as many as the cluster has processors.
    options
        What a task needs, for ``ray.remote``: ``{"num_cpus": 2, "num_gpus": 1}``.

    ``function`` may be any that Ray can send. A stop lets the tasks in progress finish, and none that waits in the
    cluster begins; a second one cancels them by force.
    """
    if not ray.is_initialized():
        raise InvalidError("there is no cluster yet", hint="call `safepoint.ray.init()` in the block before")
    return _RayMap(
        function,
        items,
        in_flight or int(ray.cluster_resources().get("CPU", 1)) or 1,
        options=options or {},
        state=state,
        key=key,
        context="ray",
        timeout=None,
        attempts=attempts,
        retry_wait=retry_wait,
        retry_failed=retry_failed,
        fresh=fresh,
        ahead=ahead,
        total=total,
        progress=progress,
        stop=stop,
    )


class _RayMap(MapResult[R]):
    """A map whose work is done by tasks of Ray."""

    def __init__(self, *arguments: Any, options: dict[str, Any], **named: Any) -> None:
        self._options = options
        super().__init__(*arguments, **named)

    def _check(self, function: Callable[[Any], Any], context: str) -> None:
        if not callable(function):
            raise InvalidError(f"`{function!r}` is no function for an item")

    def _hire(self, token: ShutdownToken) -> Any:
        return _Tasks(self._function, self._workers, self._options, token)


class _Tasks:
    """The tasks in progress; to a map the same as its processes."""

    def __init__(
        self, function: Callable[[Any], Any], limit: int, options: dict[str, Any], token: ShutdownToken
    ) -> None:
        self._limit = limit
        self._token = token
        self._shared = share(token)
        # An attempt is counted here, so Ray makes no other by itself.
        self._work = ray.remote(**{"max_retries": 0, **options})(_attempt)
        # Sent once, not with each task.
        self._function = ray.put(function)
        self._tasks: dict[Any, Task] = {}
        self._ended: deque[News] = deque()
        self.in_flight = 0

    def has_room(self) -> bool:
        return self.in_flight < self._limit

    def give(self, task: Task) -> None:
        self.in_flight += 1
        self._tasks[self._work.remote(self._function, task.payload, self._shared)] = task

    def wait(self, seconds: float | None) -> list[News]:
        """What happened, at most after so many seconds."""
        left = seconds
        while True:
            if self._token.phase not in ("running", "draining"):
                return [Skipped(task) for task in self.end(kills=True)]
            # In slices, for a second stop request to be heard.
            pause = 0.1 if left is None else min(0.1, left)
            refs = list(self._tasks)
            if not refs:
                self._token.wait(pause)
                return []
            ready, _ = ray.wait(refs, num_returns=len(refs), timeout=0)
            if not ready:
                ready, _ = ray.wait(refs, num_returns=1, timeout=pause)
            if ready:
                return [self._news(ref) for ref in ready]
            if left is not None:
                left -= pause
                if left <= 0:
                    return []

    def _news(self, ref: Any) -> News:
        task = self._tasks.pop(ref)
        self.in_flight -= 1
        try:
            answer = ray.get(ref)
        except Exception as error:
            # A worker that died, or no memory: of the function's own exceptions the task tells as a result.
            return Ended(task, line_of(error).partition("\n")[0])
        if answer is None:
            return Skipped(task)
        return Result(task, *answer)

    def end(self, *, kills: bool) -> list[Task]:
        """Gives up what is in progress. Returns what it was."""
        left = list(self._tasks.values())
        if kills or left:
            for ref in self._tasks:
                ray.cancel(ref, force=True)
        self._tasks.clear()
        self.in_flight = 0
        return left


def _attempt(function: Callable[[Any], Any], payload: bytes, shared: SharedStop) -> tuple[bool, bytes] | None:
    """An item, in a worker of Ray: whether it was done, and the result or what is to be said of the failure."""
    import pickle

    if shared.token().requested:
        return None
    try:
        return True, pickle.dumps(function(pickle.loads(payload)))
    except Exception as error:
        return False, pickle.dumps(outcome_of(error))


def _token(stop: ShutdownToken | None) -> ShutdownToken:
    token = stop or active()
    if token is None:
        raise InvalidError("there is no stop to tell of", hint="call it inside `with safepoint.shutdown() as stop:`")
    return token
