"""Waiting for syncs without holding up an event loop."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Generic, TypeVar, final

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

R = TypeVar("R")

#: They share syncs, so more of them would gain little.
_THREADS = 8


@final
class Syncs:
    """Threads that wait in place of an event loop. They run nothing but the native half, so they never wait for code
    that waits for them.
    """

    def __init__(self) -> None:
        self._threads: ThreadPoolExecutor | None = None

    async def do(self, function: Callable[..., R], /, *arguments: object, undo: Callable[[R], None] | None = None) -> R:
        """Calls ``function`` on a thread. What has begun is brought to its end also if the coroutine is cancelled; then
        ``undo`` gets the result.
        """
        import asyncio

        if self._threads is None:
            from concurrent.futures import ThreadPoolExecutor

            self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="safepoint-steps")
        doing = _Doing(partial(function, *arguments), undo)
        running = asyncio.get_running_loop().run_in_executor(self._threads, doing.run)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            if doing.abandon():
                self._threads.submit(doing.undo)
            raise

    def close(self) -> None:
        threads, self._threads = self._threads, None
        if threads is not None:
            threads.shutdown()


@final
class _Doing(Generic[R]):
    """A call on a thread, whose caller may go away before it has ended."""

    def __init__(self, call: Callable[[], R], undo: Callable[[R], None] | None) -> None:
        self._call = call
        self._undo = undo
        self._lock = Lock()
        self._is_abandoned = False
        self._done: list[R] = []

    def run(self) -> R:
        result = self._call()
        with self._lock:
            self._done.append(result)
            is_abandoned = self._is_abandoned
        if is_abandoned:
            self.undo()
        return result

    def abandon(self) -> bool:
        """Nobody waits for it any more. Says whether it has ended, so that it is for the caller to undo it."""
        with self._lock:
            self._is_abandoned = True
            return bool(self._done)

    def undo(self) -> None:
        if self._undo is not None:
            self._undo(self._done[0])
