"""Claims of coroutines: one thread waits for all of them."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

from ._errors import ClosedError, Stopped

if TYPE_CHECKING:
    from . import _native
    from ._queue import Lease
    from ._shutdown import ShutdownToken

#: How long the thread waits at a time, and how long it stays when nobody waits, in seconds.
_SLICE = 0.1
_IDLE = 5.0


class AsyncClaims:
    """The coroutines of one loop that wait for a lease of one queue."""

    def __init__(self, queue: _native.Queue, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._queue = queue
        self._changed = threading.Condition()
        #: Guarded by the condition; the oldest first.
        self._waiting: list[asyncio.Future[_native.Lease]] = []
        self._works = False
        #: Leases on their way to the loop's thread: for as many of those that wait nothing more is claimed.
        self._on_the_way = 0

    async def claim(self, timeout: float | None, stop: ShutdownToken | None) -> Lease | None:
        from ._queue import Lease

        if stop is not None and stop.requested:
            raise Stopped("a stop was asked for, so nothing is claimed")
        lease: asyncio.Future[_native.Lease] = self.loop.create_future()
        self._join(lease)
        stopping = None if stop is None else asyncio.ensure_future(stop.wait_async())
        try:
            # With a timeout of 0, too, the thread has to look once.
            limit = None if timeout is None else max(timeout, _SLICE)
            others: set[asyncio.Future[Any]] = {lease} if stopping is None else {lease, stopping}
            await asyncio.wait(others, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
            if lease.done():
                return Lease(lease.result())
            if stopping is not None and stopping.done():
                raise Stopped("a stop was asked for, so nothing is claimed")
            return None
        except asyncio.CancelledError:
            if lease.done() and not lease.cancelled() and lease.exception() is None:
                _give_back([lease.result()])
            raise
        finally:
            # From here on nothing is given to it: see `_give`.
            lease.cancel()
            if stopping is not None:
                stopping.cancel()

    def _join(self, lease: asyncio.Future[_native.Lease]) -> None:
        with self._changed:
            self._waiting.append(lease)
            if not self._works:
                self._works = True
                threading.Thread(target=self._work, name="safepoint-claims", daemon=True).start()
            self._changed.notify()

    def _work(self) -> None:
        while True:
            with self._changed:
                if not self._changed.wait_for(lambda: self._wanted() > 0, _IDLE):
                    self._works = False
                    return
                count = self._wanted()
            try:
                leases = self._queue.claim(count, _SLICE, None)
            except BaseException as error:
                self._tell(error)
                return
            if leases:
                with self._changed:
                    self._on_the_way += len(leases)
                try:
                    self.loop.call_soon_threadsafe(self._give, leases)
                except RuntimeError:
                    # The loop is closed, and nobody is left to take them.
                    _give_back(leases)

    def _wanted(self) -> int:
        self._waiting = [lease for lease in self._waiting if not lease.done()]
        return len(self._waiting) - self._on_the_way

    def _give(self, leases: list[_native.Lease]) -> None:
        """In the loop's thread: so a coroutine is cancelled either before, or with the lease in its hands."""
        with self._changed:
            self._on_the_way -= len(leases)
            self._changed.notify()
            for lease in leases:
                while self._waiting and self._waiting[0].done():
                    del self._waiting[0]
                if self._waiting:
                    self._waiting.pop(0).set_result(lease)
                else:
                    _give_back([lease])

    def _tell(self, error: BaseException) -> None:
        def tell() -> None:
            for lease in waiting:
                if not lease.done():
                    lease.set_exception(error)

        with self._changed:
            waiting, self._waiting = self._waiting, []
            self._works = False
        try:
            self.loop.call_soon_threadsafe(tell)
        except RuntimeError:
            # The loop is closed, and its coroutines with it.
            return


def _give_back(leases: list[_native.Lease]) -> None:
    try:
        for lease in leases:
            lease.release_later()
    except ClosedError:
        # The queue was closed meanwhile: they expire.
        return
