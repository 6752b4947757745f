"""Items in a loop, durably: what is done is remembered, and a later run goes on where this one ended."""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Sized
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from . import _native
from ._errors import ClosedError, InvalidError
from ._outcome import line_of, outcome_of
from ._own_stop import OwnStop
from ._progress import Numbers, Progress
from ._shutdown import as_seconds
from ._state import directory

if TYPE_CHECKING:
    from types import TracebackType

    from ._shutdown import ShutdownToken

T = TypeVar("T")


@dataclass(frozen=True)
class BatchReport:
    """How a run over items went. ``str()`` is the report in words."""

    #: The number of this run, from 1.
    run: int
    #: ``completed`` when all items were given and none is open, else ``interrupted``.
    outcome: str
    #: Items by state, over all runs.
    done: int
    dead: int
    waiting: int
    pending: int
    #: How many items there are, if that is known.
    total: int | None
    #: Items done in this run, attempts that failed in it, and items that were put back.
    done_now: int
    failures: int
    put_back: int
    #: Seconds that the run took.
    elapsed: float
    #: The first stop request in words, if there was one.
    reason: str | None

    @property
    def complete(self) -> bool:
        """Whether every item is done."""
        return self.outcome == "completed" and self.dead == 0

    def __str__(self) -> str:
        of = f" of {self.total:,}" if self.total is not None else ""
        parts = [f"{self.done:,}{of} done ({self.done_now:,} in run {self.run})"]
        for number, word in ((self.dead, "dead"), (self.waiting, "waiting for another attempt")):
            if number:
                parts.append(f"{number:,} {word}")
        why = f" by {self.reason}" if self.reason is not None and self.outcome != "completed" else ""
        return f"{self.outcome}{why}: {', '.join(parts)}"


@dataclass(frozen=True)
class Counts:
    """How many items are in which state, over all runs, as far as it is durable."""

    done: int
    dead: int
    waiting: int
    pending: int
    total: int | None


class Batch(Generic[T]):
    """What :func:`safepoint.batch` gives: loop over it, enter it, or decorate a function with it."""

    def __init__(
        self,
        items: Iterable[T] | AsyncIterable[T],
        key: Callable[[T], object] | str | None = None,
        state: str | os.PathLike[str] | None = None,
        *,
        total: int | None = None,
        retry_failed: bool = False,
        fresh: bool = False,
        attempts: int = 3,
        retry_wait: float | timedelta = 1.0,
        progress: bool | None = None,
        stop: ShutdownToken | None = None,
    ) -> None:
        self._directory = directory(state, "a batch")
        if attempts < 1:
            raise InvalidError(f"{attempts} attempts cannot be", hint="give 1 or more")
        self._items = items
        self._key = by_name(key) if isinstance(key, str) else key
        self._total = len(items) if total is None and isinstance(items, Sized) else total
        self._retry_failed = retry_failed
        self._fresh = fresh
        self._attempts = attempts
        self._retry_wait = as_seconds(retry_wait)
        self._shown = progress
        self._stop = stop
        self._open: _native.Items | None = None
        self._passage: _native.Passage | None = None
        self._progress: Progress | None = None
        self._own: OwnStop | None = None
        self._token: ShutdownToken | None = None
        self._is_entered = False
        self._before = (0, 0)
        #: How the last run went; ``None`` until it has ended.
        self.report: BatchReport | None = None

    @property
    def name(self) -> str:
        """What ``safepoint status`` and the other commands call it."""
        return self._directory.name

    # Looping.

    def __iter__(self) -> Iterator[T]:
        if self._is_entered:
            return self._loop()
        return self._alone()

    def _loop(self) -> Iterator[T]:
        if self._passage is None:
            raise ClosedError("the batch has ended")
        return cast("Iterator[T]", self._passage)

    def _alone(self) -> Iterator[T]:
        """A loop without a ``with`` block. An item that the loop is left with is put back: a generator that is given up
        is closed, and so is the batch.
        """
        self._begin()
        try:
            yield from self._loop()
        except BaseException as error:
            self._end(error, fails=False)
            raise
        ending = self._end(None)
        if ending is not None:
            raise ending

    def __aiter__(self) -> AsyncIterator[T]:
        if self._is_entered:
            return self._loop_async()
        return _Alone(self)

    async def _loop_async(self) -> AsyncIterator[T]:
        passage = self._passage
        if passage is None:
            raise ClosedError("the batch has ended")
        source = self._items
        if isinstance(source, AsyncIterable):
            token = self._token
            async for item in token.iter(source) if token is not None else source:
                if self._stopping():
                    return
                if passage.offer(item):
                    yield item
            if not self._stopping():
                passage.exhaust()
            return
        import asyncio

        while True:
            step = passage.step()
            if step is None:
                return
            if isinstance(step, float):
                # An item waits for another attempt. In slices, so that a stop is noticed.
                await asyncio.sleep(min(step, 0.1))
                continue
            yield step[0]

    # Entering.

    def __enter__(self) -> Batch[T]:
        self._begin()
        self._is_entered = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_entered = False
        ending = self._end(error, fails=True)
        if ending is not None:
            raise ending

    async def __aenter__(self) -> Batch[T]:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    def result(self, value: object) -> None:
        """Records the result of the item in progress, as JSON, and with that the item is done.

        Without it, an item is done when the loop asks for the next one, with no result.

        Raises :class:`safepoint.InvalidError` for a value that JSON cannot say, and where no item is in progress.
        """
        if self._passage is None:
            raise ClosedError("the batch has ended")
        self._passage.done(value)

    # Decorating.

    def __call__(self, function: Callable[[T], Any]) -> Callable[[], Any]:
        """Makes a function for one item one for all of them. Calling it works on what is not done, and returns the
        report; of an ``async`` function, awaiting it does.
        """
        from functools import wraps

        if not callable(function):
            raise InvalidError(f"`{function!r}` is no function for an item")
        if inspect.iscoroutinefunction(function):

            @wraps(function)
            async def work_async() -> BatchReport:
                with self:
                    async for item in self:
                        try:
                            value = await function(item)
                        except Exception as error:
                            self._failed(error)
                        else:
                            self.result(value)
                return self._said()

            made: Callable[[], Any] = work_async
        else:

            @wraps(function)
            def work() -> BatchReport:
                with self:
                    for item in self:
                        try:
                            value = function(item)
                        except Exception as error:
                            self._failed(error)
                        else:
                            self.result(value)
                return self._said()

            made = work
        del made.__wrapped__  # type: ignore[attr-defined]  # Its signature is not that of the function.
        made.batch = self  # type: ignore[attr-defined]
        return made

    def _said(self) -> BatchReport:
        if self.report is None:
            raise ClosedError("the batch has not ended")
        return self.report

    def _failed(self, error: Exception) -> None:
        if self._passage is not None:
            line, details, again, after = outcome_of(error)
            self._passage.failed(line, details, True, again, after)

    # Looking.

    @property
    def counts(self) -> Counts:
        """How far it is, over all runs."""
        if self._open is not None:
            done, dead, waiting, pending = self._open.counts()
            return Counts(done, dead, waiting, pending, self._total)
        if self.report is not None:
            report = self.report
            return Counts(report.done, report.dead, report.waiting, report.pending, report.total)
        return Counts(*_native.read_counts(self._directory))

    def results(self) -> Iterator[Any]:
        """The recorded results in order, also those of earlier runs: the order of the items, or with ``key`` that in
        which keys were first seen. Read as they are asked for.
        """
        for _, _, value in self.result_items():
            yield value

    def result_items(self) -> Iterator[tuple[int, str, Any]]:
        """As :meth:`results`, with the index and the key of each (the index as a text, where there is none)."""
        if self._open is not None:
            self._open.sync()
        first = 0
        while True:
            rows = _native.read_results(self._directory, first, 500)
            for index, key, text in rows:
                yield index, str(index) if key is None else key, json.loads(text)
            if len(rows) < 500:
                return
            first = rows[-1][0] + 1

    def __repr__(self) -> str:
        return f"<Batch {self.name!r}: {self.report or 'not run yet'}>"

    # From the beginning of a run to its end.

    def _stopping(self) -> bool:
        return self._open is not None and self._open.stopping

    def _begin(self) -> None:
        if self._open is not None:
            raise InvalidError(
                f"the batch `{self.name}` is being gone over already",
                hint="to work on several items at once, use `safepoint.map`",
            )
        self._own = own = OwnStop(self._stop)
        self._token = token = own.begin()
        try:
            self._open = items = _native.Items(
                self._directory,
                token,
                keyed=self._key is not None,
                total=self._total,
                attempts=self._attempts,
                wait=self._retry_wait,
                retry_dead=self._retry_failed,
                fresh=self._fresh,
                in_flight=1,
                wait_in_line=False,
            )
        except BaseException as error:
            own.end(error)
            raise
        self.report = None
        source = () if isinstance(self._items, AsyncIterable) else self._items
        try:
            self._passage = items.passage(iter(source), self._key)
            done, dead, _, _ = items.counts()
            self._before = (done, dead)
            self._progress = Progress(self.name, self._numbers, self._shown, own.is_new)
            if items.run > 1 and (done or dead):
                of = f" of {self._total:,}" if self._total is not None else ""
                dying = f", {dead:,} dead" if dead else ""
                self._progress.note(f"resumed: {done:,}{of} done{dying}")
        except BaseException as error:
            self._end(error, fails=False)
            raise

    def _numbers(self) -> Numbers:
        items = self._open
        if items is None:
            return Numbers(*self._before, self._total, 0, 0)
        tally = items.tally()
        done, dead = self._before
        return Numbers(done + tally["done"], dead + tally["died"], self._total, tally["done"], tally["failures"])

    def _end(self, error: BaseException | None, *, fails: bool = False) -> BaseException | None:
        """Closes everything. Gives what is to be raised because of a stop."""
        items, passage, progress = self._open, self._passage, self._progress
        if items is None:
            return None
        try:
            if passage is not None and passage.busy:
                # An exception of the body is the item's; a stop, Ctrl-C and the end of a generator are not.
                if fails and isinstance(error, Exception):
                    line, details, again, after = outcome_of(error)
                    passage.failed(line, details, False, again, after)
                else:
                    passage.put_back()
            left = None
            if passage is None or not passage.exhausted:
                left = "the loop was left" if error is None or isinstance(error, GeneratorExit) else line_of(error)
            if progress is not None:
                progress.end()
            self.report = report = BatchReport(**items.close(left))
            if progress is not None and report.outcome != "completed" and (report.reason or error is not None):
                progress.note(f"{report}; run it again to go on")
            elif progress is not None and report.dead:
                progress.note(f"{report}; `safepoint show {self.name}` says why")
        except BaseException as problem:
            self._closed(problem)
            raise
        return self._closed(error)

    def _closed(self, error: BaseException | None) -> BaseException | None:
        own, self._own = self._own, None
        self._open = self._passage = self._progress = self._token = None
        return None if own is None else own.end(error)


class _Alone(Generic[T]):
    """An ``async for`` without a ``with`` block. Not an async generator: one that a loop is left with is closed some
    time later by the event loop, when asyncio has put its signal handlers back already. This one is closed when nobody
    has it any more.
    """

    def __init__(self, batch: Batch[T]) -> None:
        self._batch = batch
        self._loop: AsyncIterator[T] | None = None
        self._is_over = False

    def __aiter__(self) -> _Alone[T]:
        return self

    async def __anext__(self) -> T:
        if self._is_over:
            raise StopAsyncIteration
        try:
            if self._loop is None:
                self._batch._begin()
                self._loop = self._batch._loop_async()
            return await anext(self._loop)
        except StopAsyncIteration:
            self._is_over = True
            ending = self._batch._end(None)
            if ending is not None:
                raise ending from None
            raise
        except BaseException as error:
            self._is_over = True
            self._batch._end(error)
            raise

    def __del__(self) -> None:
        if self._loop is not None and not self._is_over:
            self._is_over = True
            self._batch._end(GeneratorExit())


def batch(
    items: Iterable[T] | AsyncIterable[T],
    key: Callable[[T], object] | str | None = None,
    state: str | os.PathLike[str] | None = None,
    *,
    total: int | None = None,
    retry_failed: bool = False,
    fresh: bool = False,
    attempts: int = 3,
    retry_wait: float | timedelta = 1.0,
    progress: bool | None = None,
    stop: ShutdownToken | None = None,
) -> Batch[T]:
    """Goes over items so that a later run goes on where this one ended, whatever ended it.

    ::

        for path in safepoint.batch(paths, state="thumbnails"):
            make_thumbnail(path)

    An item is done when the loop asks for the next one. One that the loop is left with, by ``break``, an exception or a
    kill, is not, and comes again in the next run; so make it safe to do twice. A stop ends the loop between two items.

    With results, and with an exception counted as a failed attempt, which goes on out::

        with safepoint.batch(paths, state="sizes") as batch:
            for path in batch:
                batch.result(os.path.getsize(path))
        print(batch.report, list(batch.results()))

    As a decorator: failed items are attempted again, and after ``attempts`` they are dead; the others go on::

        @safepoint.batch(urls, key=str, state="pages")
        def fetch(url): ...

        report = fetch()

    All three work with ``async``, too. ``safepoint status pages``, ``results``, ``show``, ``retry`` and ``stop`` work
    on it.

    items
        Any iterable, read one at a time; with ``async for`` an async one, too. Give the same items in the same order
        when the program runs again, or a ``key``.
    key
        What tells an item from the others, whatever its place: a function of the item, or the name of its field.
        Without it an item is its place and its content, and another content at the same place is refused.
    state
        A name (``.safepoint/<name>`` in the current directory), or a path to a directory.
    total
        How many items there are, for progress; taken from ``len(items)`` where there is one.
    retry_failed
        Whether items that died in earlier runs are attempted again.
    fresh
        Begins anew, and keeps the old state as ``<name>.previous``.
    attempts, retry_wait
        After how many failed attempts an item is dead, and the seconds before the second attempt; each further wait is
        twice as long.
    progress
        ``False`` for no word on standard error. The default is a line in a terminal, and one every 30 s elsewhere.
    stop
        The token whose stop ends the loop. The default is the innermost ``with safepoint.shutdown()`` block. Outside of
        one, in the main thread, the loop looks after signals itself: after the first Ctrl-C it ends at the safepoint,
        closes its state and raises ``KeyboardInterrupt``; the second does so at once. After SIGTERM it raises
        ``SystemExit``.

    Durable: what is done is written within some 10 ms, many items in one sync; the end of the loop waits for it. A
    graceful stop repeats nothing; after ``kill -9`` at most the items of the last few milliseconds come again.

    Raises :class:`safepoint.BusyError` when another process has the state, :class:`safepoint.IncompatibleError` when
    the items are others or the state is of another kind, :class:`safepoint.InvalidError` for items that JSON cannot say
    without a ``key``.
    """
    return Batch(
        items,
        key,
        state,
        total=total,
        retry_failed=retry_failed,
        fresh=fresh,
        attempts=attempts,
        retry_wait=retry_wait,
        progress=progress,
        stop=stop,
    )


def by_name(field: str) -> Callable[[Any], object]:
    def key(item: Any) -> object:
        try:
            return item[field]
        except (TypeError, KeyError, IndexError):
            found = getattr(item, field, None)
        if found is None:
            raise InvalidError(f"an item has no field `{field}`: {item!r:.100}", hint="`key` may be a function, too")
        return found

    return key
