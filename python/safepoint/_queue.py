"""A durable queue: items are pushed, claimed, and acknowledged, by any number of threads and processes."""

from __future__ import annotations

import json
import os
import sys
import weakref
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, overload

from . import _native
from ._errors import InvalidError, Stopped, in_words
from ._shutdown import active, as_seconds
from ._state import directory

if TYPE_CHECKING:
    from datetime import timedelta
    from types import TracebackType

    from ._async_claims import AsyncClaims
    from ._rows import QueuedRow
    from ._shutdown import ShutdownToken

#: How long a lease lasts unless it is extended, in seconds.
DEFAULT_LEASE = 60.0

#: How many items are claimed ahead at most, for consumers that are expected back.
DEFAULT_READ_AHEAD = 64


class QueueStats(NamedTuple):
    """How many items a queue has, by state."""

    #: Can be claimed.
    pending: int
    #: Can be claimed after a time.
    waiting: int
    #: Claimed by somebody, until the lease expires.
    leased: int
    #: Acknowledged.
    done: int
    #: Not attempted again, unless a person says so.
    dead: int


class QueuedItem(NamedTuple):
    """An item of a queue as it stands. Times are in seconds since 1970 UTC."""

    #: From 1, in the order of pushing; never used again.
    number: int
    key: str | None
    #: ``pending``, ``waiting``, ``leased``, ``done`` or ``dead``.
    state: str
    #: Attempts that counted.
    attempts: int
    pushed_at: float
    #: Waiting: when it can be claimed. Leased: when the lease expires.
    due_at: float | None
    #: When it was done or died.
    settled_at: float | None
    #: The process that has it.
    pid: int | None
    payload: Any
    result: Any
    #: Why the last attempt failed.
    error: str | None


def encode(value: object, what: str) -> str | bytes:
    """A value as it is stored: bytes as they are, everything else as JSON."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidError(
            f"the {what} cannot be JSON: {error}",
            hint="push what JSON has, or bytes that you have made yourself",
        ) from None


def decode(stored: str | bytes | None) -> Any:
    """The value again. A text that is no JSON, as other programs may push, is given as it is."""
    if not isinstance(stored, str):
        return stored
    try:
        return json.loads(stored)
    except ValueError:
        return stored


class Lease:
    """A claim on an item: nobody else gets it until the lease expires.

    As a block it settles itself::

        with queue.claim() as lease:
            lease.result = work(lease.payload)

    At the end of the block the item is acknowledged with :attr:`result`, and that is durable. An exception is a failed
    attempt: the item is claimed again after a wait that grows, or is dead after its last attempt; the exception goes
    on. What is no ``Exception`` (a stop, Ctrl-C, a cancelled coroutine) gives the item back, and the attempt does not
    count. Inside the block the lease may be settled by hand. ``async with`` does the same without blocking the loop.

    A lease that is dropped unsettled counts as a failed attempt.
    """

    __slots__ = ("_decoded", "_lease", "result")

    def __init__(self, lease: _native.Lease) -> None:
        self._lease = lease
        #: What the end of the block acknowledges with: a JSON value or bytes.
        self.result: object = None

    @property
    def payload(self) -> Any:
        """What was pushed: a JSON value, or bytes."""
        try:
            return self._decoded
        except AttributeError:
            self._decoded: Any = decode(self._lease.payload)
            return self._decoded

    @property
    def key(self) -> str | None:
        """The item's key, if it was given one."""
        return self._lease.key

    @property
    def name(self) -> str:
        """The item's key, or its number where it has none."""
        return self._lease.name

    @property
    def number(self) -> int:
        """The item's number, from 1, in the order of pushing."""
        return self._lease.number

    @property
    def attempt(self) -> int:
        """Which attempt this is, from 1. Attempts count when they are claimed."""
        return self._lease.attempt

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt of this item, and for no other item of any queue."""
        return self._lease.idempotency_key

    @property
    def expires_at(self) -> float:
        """When it expires, in seconds since 1970 UTC."""
        return self._lease.expires_at

    @property
    def token(self) -> str:
        """Names this lease, for :meth:`Queue.lease` in another process."""
        return self._lease.token

    @property
    def is_held(self) -> bool:
        """Whether it was not settled yet."""
        return self._lease.is_held

    def acknowledge(self, result: object = None) -> None:
        """Says that the item is done. When this returns, that is durable; many threads share one sync.

        :raises ClosedError: the lease expired and the item was claimed again: the result is not kept.
        """
        self._lease.acknowledge(None if result is None else encode(result, "result"))

    def acknowledge_later(self, result: object = None) -> None:
        """As :meth:`acknowledge`, without waiting: durable when :meth:`Queue.sync` or the queue's end returns."""
        self._lease.acknowledge_later(None if result is None else encode(result, "result"))

    def release(self, delay: float | timedelta = 0.0) -> None:
        """Gives the item back, to be claimed again after ``delay`` seconds. The attempt does not count."""
        self._lease.release(as_seconds(delay))

    def fail(self, error: str | BaseException) -> str:
        """Says that the attempt failed. Gives the item's state: ``waiting``, or ``dead`` if this was its last one."""
        return self._lease.fail(error if isinstance(error, str) else in_words(error))

    def extend(self, seconds: float | timedelta) -> None:
        """Lets the lease last this long from now on."""
        self._lease.extend(as_seconds(seconds))

    def detach(self) -> str:
        """Lets go of the lease without settling it; whoever has the token can take it up."""
        self._lease.detach()
        return self._lease.token

    def __enter__(self) -> Lease:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end(error)

    async def __aenter__(self) -> Lease:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None and not isinstance(error, Exception):
            # The coroutine is ending: what comes next may not wait.
            self._end(error)
            return
        import asyncio

        ending = asyncio.get_running_loop().run_in_executor(None, self._end, error)
        # A cancellation that comes now does not undo what has been asked for.
        await asyncio.shield(ending)

    def _end(self, error: BaseException | None) -> None:
        if not self._lease.is_held:
            return
        if error is None:
            self.acknowledge(self.result)
            return
        try:
            if isinstance(error, Exception):
                self.fail(error)
            else:
                self.release()
        except Exception as problem:
            # The lease is over or the queue closed: the item is claimed again anyway, and the first error counts.
            if sys.version_info >= (3, 11):
                error.add_note(f"safepoint: item {self.name} was not given back: {problem}")

    def __repr__(self) -> str:
        held = "" if self.is_held else ", settled"
        return f"<safepoint.Lease of {self.name!r}, attempt {self.attempt}{held}>"


class Queue:
    """A durable queue in one directory, shared by any number of threads and processes.

    ::

        queue = safepoint.Queue("mails")
        queue.push({"to": "ada@example.org"}, key="welcome/4711")

        with safepoint.shutdown():
            for lease in queue:  # until a stop is asked for
                with lease:
                    send(lease.payload)

    ``state`` is a name (the queue is in ``.safepoint/<name>``) or the path of a directory. ``lease`` is how long a
    claim lasts unless it is extended; ``attempts`` how often an item is attempted before it is dead; ``retry_wait`` the
    wait after the first failed attempt, doubled with each further one up to ``longest_retry_wait``. With
    ``survives_power_cut=False`` nothing waits for the disk: a kill loses nothing, a power cut may undo the latest
    changes. ``read_ahead`` limits the items that are claimed ahead for consumers that are expected back. Consumers of
    one queue should use the same settings.

    A push and an acknowledgement that returned survive ``kill -9`` and a power cut. An item whose consumer was killed
    is claimed again when its lease expires, so an attempt may run more than once: :attr:`Lease.idempotency_key` stays
    the same.

    Safe for threads. A fork must not use its parent's queue and is told so; pickled, a queue opens itself in the other
    process.
    """

    def __init__(
        self,
        state: str | os.PathLike[str],
        *,
        lease: float | timedelta = DEFAULT_LEASE,
        attempts: int = 3,
        retry_wait: float | timedelta = 1.0,
        longest_retry_wait: float | timedelta = 300.0,
        survives_power_cut: bool = True,
        read_ahead: int = DEFAULT_READ_AHEAD,
    ) -> None:
        if attempts < 1:
            raise InvalidError(f"an item has at least one attempt, not {attempts}")
        if read_ahead < 0:
            raise InvalidError(f"{read_ahead} items cannot be claimed ahead")
        self._settings = (
            as_seconds(lease),
            min(attempts, 2**32 - 1),
            as_seconds(retry_wait),
            as_seconds(longest_retry_wait),
            survives_power_cut,
            read_ahead,
        )
        self._queue = _native.Queue(directory(state, "a queue"), *self._settings)
        self._directory = os.fspath(self._queue.directory)
        self._async_claims: AsyncClaims | None = None
        # Also at the end of the interpreter: what was claimed ahead is given back.
        self._closing = weakref.finalize(self, _close, self._queue, os.getpid())

    @property
    def directory(self) -> str:
        """Where it is."""
        return self._directory

    def push(self, payload: object, key: str | None = None, *, delay: float | timedelta = 0.0) -> bool:
        """Pushes an item: a JSON value, or bytes. When this returns, it is in the queue for good.

        Says whether it is new: if there is an item with this ``key``, also one that is done or dead, nothing is
        changed. With a ``delay`` it can be claimed after so many seconds.
        """
        return self._queue.push(encode(payload, "payload"), key, as_seconds(delay)) is None

    def push_many(self, payloads: Iterable[object], keys: Iterable[str | None] | None = None) -> int:
        """Pushes items, all or none, in their order, with one sync. Says how many are new."""
        payloads = list(payloads)
        keys = [None] * len(payloads) if keys is None else list(keys)
        if len(payloads) != len(keys):
            raise InvalidError(f"there are {len(payloads)} payloads and {len(keys)} keys")
        items = [(encode(payload, "payload"), key, 0.0) for payload, key in zip(payloads, keys, strict=True)]
        return self._queue.push_many(items).count(None)

    @overload
    def claim(self, timeout: None = None, *, stop: ShutdownToken | None = None) -> Lease: ...
    @overload
    def claim(self, timeout: float | timedelta, *, stop: ShutdownToken | None = None) -> Lease | None: ...
    def claim(self, timeout: float | timedelta | None = None, *, stop: ShutdownToken | None = None) -> Lease | None:
        """Claims the item whose turn it is; waits for one, at most ``timeout`` seconds, then gives ``None``.

        With a timeout of 0 it looks once.

        :raises Stopped: a stop was asked for, of ``stop`` or of the ``with safepoint.shutdown()`` block around.
        """
        leases = self.claim_many(1, timeout, stop=stop)
        return leases[0] if leases else None

    def claim_many(
        self, count: int, timeout: float | timedelta | None = None, *, stop: ShutdownToken | None = None
    ) -> list[Lease]:
        """Claims up to ``count`` items (at most 1000) as soon as there is one.

        :raises Stopped: as :meth:`claim`.
        """
        stop = stop or active()
        limit = None if timeout is None else as_seconds(timeout)
        leases = self._queue.claim(max(count, 1), limit, stop)
        if not leases and stop is not None and stop.requested:
            raise Stopped("a stop was asked for, so nothing is claimed")
        return [Lease(lease) for lease in leases]

    async def claim_async(
        self, timeout: float | timedelta | None = None, *, stop: ShutdownToken | None = None
    ) -> Lease | None:
        """As :meth:`claim`, in an event loop. Cancelled, it gives back what it is just being given.

        However many coroutines wait, one thread waits for them.
        """
        return await self._claims().claim(None if timeout is None else as_seconds(timeout), stop or active())

    def _claims(self) -> AsyncClaims:
        import asyncio

        from ._async_claims import AsyncClaims

        loop = asyncio.get_running_loop()
        if self._async_claims is None or self._async_claims.loop is not loop:
            self._async_claims = AsyncClaims(self._queue, loop)
        return self._async_claims

    def leases(self, timeout: float | timedelta | None = None, *, stop: ShutdownToken | None = None) -> Iterator[Lease]:
        """Claims one item after the other, until there was none for ``timeout`` seconds or a stop is asked for.

        With a timeout of 0 it ends when the queue is empty.
        """
        while True:
            try:
                lease = self.claim(timeout, stop=stop) if timeout is not None else self.claim(stop=stop)
            except Stopped:
                return
            if lease is None:
                return
            yield lease
            # Not kept while the next one is waited for: one that was forgotten counts as failed now.
            del lease

    def __iter__(self) -> Iterator[Lease]:
        """Claims one item after the other, until a stop is asked for."""
        return self.leases()

    async def __aiter__(self) -> AsyncIterator[Lease]:
        """Claims one item after the other, until a stop is asked for."""
        while True:
            try:
                lease = await self.claim_async()
            except Stopped:
                return
            assert lease is not None, "it waits for ever"
            yield lease
            del lease

    def lease(self, token: str) -> Lease:
        """Takes up a lease that was detached, here or in another process.

        :raises ClosedError: it is over.
        """
        return Lease(self._queue.lease(token))

    def stop_claims(self) -> None:
        """Claims nothing any more: who waits, now or later, gets nothing. Leases can be settled as before."""
        self._queue.stop_claims()

    def sync(self) -> None:
        """Waits until all that was acknowledged later is durable.

        :raises ClosedError: some of it was refused, because its leases were over.
        """
        self._queue.sync()

    @property
    def stats(self) -> QueueStats:
        """How many items there are, by state. It costs the same for any number."""
        return QueueStats(*self._queue.stats())

    def items(self, state: str | None = None) -> Iterator[QueuedItem]:
        """The items, or those of one state, in the order of pushing."""
        after = 0
        while rows := self._queue._list(state, after, 1000):
            after = rows[-1][0]
            yield from map(_item, rows)

    def item(self, key: str) -> QueuedItem | None:
        """One item, by its key, or by its number (as text) if it has no key."""
        row = self._queue.item(key)
        return None if row is None else _item(row)

    def dead(self) -> list[QueuedItem]:
        """The items that are not attempted again."""
        return list(self.items("dead"))

    def retry(self, keys: Iterable[str] | None = None) -> int:
        """Makes dead items pending again: those named by key or number, or all. Says how many.

        :raises NotFoundError: one of them is not in the queue; then nothing is changed.
        :raises InvalidError: one of them is not dead; then nothing is changed.
        """
        return self._queue.retry(None if keys is None else [keys] if isinstance(keys, str) else list(keys))

    def forget_done(self, age: float | timedelta) -> int:
        """Forgets items that were done longer ago than ``age`` seconds, with their keys. Says how many."""
        return self._queue.forget_done(as_seconds(age))

    def close(self) -> None:
        """Makes durable what is left, gives back what was claimed ahead, closes the file. Leases expire."""
        self._closing.detach()
        self._queue.close()

    def __enter__(self) -> Queue:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return (_reopen, (self.directory, self._settings))

    def __repr__(self) -> str:
        return f"<safepoint.Queue in {self.directory!r}>"


def _close(queue: _native.Queue, pid: int) -> None:
    # A fork has no thread to close it with.
    if os.getpid() == pid:
        queue.close()


def _reopen(directory: str, settings: tuple[Any, ...]) -> Queue:
    from pathlib import Path

    lease, attempts, wait, longest, survives_power_cut, read_ahead = settings
    return Queue(
        Path(directory),
        lease=lease,
        attempts=attempts,
        retry_wait=wait,
        longest_retry_wait=longest,
        survives_power_cut=survives_power_cut,
        read_ahead=read_ahead,
    )


def _item(row: QueuedRow) -> QueuedItem:
    number, key, state, attempts, pushed_at, due_at, settled_at, pid, payload, result, error = row
    payload, result = decode(payload), decode(result)
    return QueuedItem(number, key, state, attempts, pushed_at, due_at, settled_at, pid, payload, result, error)
