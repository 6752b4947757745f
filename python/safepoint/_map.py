"""A function over items in processes: results in order, and nothing lost when something stops or dies."""

from __future__ import annotations

import json
import os
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, cast

from . import _native
from ._batch import BatchReport, by_name
from ._errors import InvalidError
from ._outcome import line_of
from ._own_stop import OwnStop
from ._progress import Numbers, Progress
from ._shutdown import as_seconds
from ._state import directory

if TYPE_CHECKING:
    from types import TracebackType

    from ._crew import Crew, Task
    from ._shutdown import ShutdownToken

T = TypeVar("T")
R = TypeVar("R")

#: So many results may be ahead of the one that is given out next.
_AHEAD = 1024

#: The longest wait between two attempts, in seconds.
_LONGEST_WAIT = 300.0


@dataclass(frozen=True)
class Failure:
    """An item that is dead: none of its attempts succeeded. It stands where its result would, and is false."""

    #: The item's place, from 0, and its key, if it has one.
    index: int
    key: str | None
    #: The last error in a line, and its traceback, as the worker has it.
    error: str
    details: str
    attempts: int

    def __bool__(self) -> bool:
        return False

    def __str__(self) -> str:
        name = f"item {self.index}" if self.key is None else f"item `{self.key}`"
        return f"{name}: {self.error}"


class MapResult(Generic[R]):
    """What :func:`safepoint.map` gives: the results in order, as they are asked for.

    The work is done while this is iterated over, a bounded number of items ahead. An item that is dead has a
    :class:`Failure` in its place. After a stop, what was not done is left out; :meth:`indexed` tells the places of what
    was. Use it in a ``with`` block, or iterate to the end: then the processes are gone, and the state is closed.
    """

    def __init__(
        self,
        function: Callable[[Any], R],
        items: Iterable[Any],
        workers: int | None,
        *,
        state: str | os.PathLike[str] | None,
        key: Callable[[Any], object] | str | None,
        context: str,
        timeout: float | timedelta | None,
        attempts: int,
        retry_wait: float | timedelta,
        retry_failed: bool,
        fresh: bool,
        ahead: int,
        total: int | None,
        progress: bool | None,
        stop: ShutdownToken | None,
    ) -> None:
        self._workers = workers if workers is not None else len(os.sched_getaffinity(0))
        for number, what in ((self._workers, "workers"), (attempts, "attempts"), (ahead, "results ahead")):
            if number < 1:
                raise InvalidError(f"{number} {what} cannot be", hint="give 1 or more")
        self._check(function, context)
        if state is None and (key is not None or retry_failed or fresh):
            raise InvalidError(
                "`key`, `retry_failed` and `fresh` are for a map with state", hint='give it a name: `state="pages"`'
            )
        self._function = function
        self._context = context
        self._directory = None if state is None else directory(state, "a map")
        self._key = by_name(key) if isinstance(key, str) else key
        self._total = len(items) if total is None and isinstance(items, Sized) else total
        self._source = iter(items)
        self._timeout = None if timeout is None else as_seconds(timeout)
        self._attempts = attempts
        self._retry_wait = as_seconds(retry_wait)
        self._retry_failed = retry_failed
        self._fresh = fresh
        self._ahead = ahead
        self._shown = progress
        self._stop = OwnStop(stop)
        self._token: ShutdownToken | None = None
        self._items: _native.Items | None = None
        self._crew: Crew | None = None
        self._progress: Progress | None = None
        self._pid = os.getpid()
        self._is_open = False
        self._is_over = False
        #: Results and failures that came before their turn, by place; stored ones by a function that reads them.
        self._ready: dict[int, Callable[[], Any]] = {}
        self._left_out: set[int] = set()
        self._taken = 0
        self._next = 0
        self._exhausted = False
        self._again: list[tuple[float, Task]] = []
        self._fresh_tasks: deque[Task] = deque()
        self._done = 0
        self._failed_attempts = 0
        self._skipped = 0
        self._put_back = 0
        #: The items that are dead, in the order in which that became known.
        self.failures: list[Failure] = []
        #: How the run went; ``None`` until it has ended.
        self.report: BatchReport | None = None

    @property
    def name(self) -> str:
        """What progress calls it."""
        return self._directory.name if self._directory is not None else "map"

    @property
    def complete(self) -> bool:
        """Whether every item is done, and every result was given out."""
        return (
            self._is_over and self._exhausted and not self.failures and self._next == self._taken and not self._put_back
        )

    def __iter__(self) -> Iterator[R]:
        return self

    def __next__(self) -> R:
        return self._next_pair()[1]

    def indexed(self) -> Iterator[tuple[int, R]]:
        """The results with their places, from 0."""
        while True:
            try:
                pair = self._next_pair()
            except StopIteration:
                return
            yield pair

    def _next_pair(self) -> tuple[int, R]:
        if self._is_over:
            raise StopIteration
        try:
            if not self._is_open:
                self._begin()
            while True:
                while self._next in self._left_out:
                    self._left_out.discard(self._next)
                    self._next += 1
                read = self._ready.pop(self._next, None)
                if read is not None:
                    place = self._next
                    self._next += 1
                    return place, cast("R", read())
                if self._is_drained():
                    break
                self._work()
        except BaseException as error:
            self._end(error)
            raise
        ending = self._end(None)
        raise StopIteration if ending is None else ending

    def __enter__(self) -> MapResult[R]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        ending = self._end(error)
        if ending is not None:
            raise ending

    def close(self) -> None:
        """Ends the processes now, and closes the state: what is in progress is put back."""
        self._end(GeneratorExit())

    def __del__(self) -> None:
        # A process that was forked has a copy, but nothing of it is its own.
        if getattr(self, "_is_open", False) and self._pid == os.getpid():
            self._end(GeneratorExit())

    def __repr__(self) -> str:
        said = self.report or ("ended" if self._is_over else f"{self._next} of {self._total or '?'} given out")
        return f"<MapResult {self.name!r}: {said}>"

    # From the beginning to the end.

    def _check(self, function: Callable[[Any], Any], context: str) -> None:
        """Refuses a function that cannot be called elsewhere, before anything is begun."""
        from ._crew import check

        check(function, context)

    def _hire(self, token: ShutdownToken) -> Crew:
        """Who does the work."""
        from ._crew import Crew

        return Crew(self._function, self._workers, self._context, token, self._timeout)

    def _begin(self) -> None:
        self._token = token = self._stop.begin()
        self._is_open = True
        self._began = time.monotonic()
        if self._directory is not None:
            self._items = _native.Items(
                self._directory,
                token,
                keyed=self._key is not None,
                total=self._total,
                attempts=self._attempts,
                wait=self._retry_wait,
                retry_dead=self._retry_failed,
                fresh=self._fresh,
                in_flight=self._workers,
                wait_in_line=True,
            )
        self._crew = self._hire(token)
        self._progress = Progress(self.name, _numbers_of(weakref.ref(self)), self._shown, self._stop.is_new)
        if self._items is not None and self._items.run > 1:
            done, dead, _, _ = self._items.counts()
            of = f" of {self._total:,}" if self._total is not None else ""
            if done or dead:
                self._progress.note(f"resumed: {done:,}{of} done" + (f", {dead:,} dead" if dead else ""))

    def _numbers(self) -> Numbers:
        done = self._done + self._skipped
        return Numbers(done, len(self.failures), self._total, self._done, self._failed_attempts)

    def _is_drained(self) -> bool:
        """Whether nothing more will come."""
        crew, token = self._crew, self._token
        if crew is None or token is None or crew.in_flight:
            return False
        if token.requested:
            self._give_up_waiting()
            while self._next < self._taken and self._next not in self._ready:
                # It was not done. What was done after it is given out all the same.
                self._left_out.discard(self._next)
                self._next += 1
            return self._next >= self._taken
        return self._exhausted and not self._again and not self._fresh_tasks and self._next >= self._taken

    def _give_up_waiting(self) -> None:
        for _, task in self._again:
            self._skip(task)
        self._again.clear()
        while self._fresh_tasks:
            self._skip(self._fresh_tasks.popleft())

    def _skip(self, task: Task) -> None:
        """A stop: neither done nor failed."""
        self._put_back += 1
        if task.item is not None:
            task.item.put_back()
            task.item = None
        self._left_out.add(task.place)

    def _end(self, error: BaseException | None) -> BaseException | None:
        """Closes everything. Gives what is to be raised because of a stop."""
        if self._is_over:
            return None
        self._is_over = True
        if not self._is_open:
            return None
        self._is_open = False
        crew, items, progress = self._crew, self._items, self._progress
        try:
            if crew is not None:
                # What is left when an error ends it was asked for by nobody any more.
                for task in crew.end(kills=error is not None):
                    self._skip(task)
            self._give_up_waiting()
            if progress is not None:
                progress.end()
            complete = self._exhausted and not self._put_back
            if items is not None:
                left = None if complete else "it was left" if error is None else line_of(error)
                self.report = BatchReport(**items.close(left))
            else:
                reason = self._token.reason if self._token is not None else None
                self.report = BatchReport(
                    run=1,
                    outcome="completed" if complete else "interrupted",
                    done=self._done,
                    dead=len(self.failures),
                    waiting=0,
                    pending=0,
                    total=self._total,
                    done_now=self._done,
                    failures=self._failed_attempts,
                    put_back=self._put_back,
                    elapsed=time.monotonic() - self._began,
                    reason=None if reason is None else str(reason),
                )
            if progress is not None and not complete and items is not None:
                progress.note(f"{self.report}; run it again to go on")
        except BaseException as problem:
            self._stop.end(problem)
            raise
        return self._stop.end(error)

    # The work.

    def _work(self) -> None:
        """Gives out tasks and takes in answers, once."""
        from ._crew import Ended, Result

        crew, token = self._crew, self._token
        if crew is None or token is None:
            return
        if not token.requested:
            self._feed(crew)
        now = time.monotonic()
        wait = None
        if self._again:
            wait = max(0.0, min(due for due, _ in self._again) - now)
        if not crew.in_flight and not self._again:
            return
        for news in crew.wait(wait):
            task = news.task
            if isinstance(news, Result):
                self._take_in(task, news)
            elif isinstance(news, Ended):
                self._lost(task, news)
            else:
                self._skip(task)

    def _feed(self, crew: Crew) -> None:
        while crew.has_room():
            task = self._due() or self._take()
            if task is None:
                return
            if self._items is not None and task.item is None and task.waiting is not None:
                task.item, task.waiting = task.waiting.begin(), None
                if task.item is None:
                    # A stop came just now.
                    self._skip(task)
                    return
            crew.give(task)

    def _due(self) -> Task | None:
        now = time.monotonic()
        for place, (due, task) in enumerate(self._again):
            if due <= now:
                del self._again[place]
                return task
        return None

    def _take(self) -> Task | None:
        """The next item that needs work."""
        from ._crew import Task

        if self._fresh_tasks:
            return self._fresh_tasks.popleft()
        passed = 0
        while not self._exhausted and self._taken - self._next < self._ahead and len(self._again) < self._ahead:
            try:
                item = next(self._source)
            except StopIteration:
                self._exhausted = True
                return None
            task = Task(self._taken)
            if self._items is not None:
                key = None if self._key is None else self._key(item)
                state, index, native = self._items.begin(item, key)
                if state == "stopping":
                    return None
                if native is None:
                    self._known(state, index, self._items)
                    passed += 1
                    if passed >= 256:
                        # Those that are ready are given out first.
                        return None
                    continue
                task.item, task.index = native, index
                task.key = key if key is None or isinstance(key, str) else str(key)
            self._taken += 1
            task.pack(item)
            return task
        return None

    def _known(self, state: str, index: int | None, items: _native.Items) -> None:
        """An item that needs no work: what is stored of it stands in its place."""
        place = self._taken
        self._taken += 1
        if state == "done" and index is not None:
            self._skipped += 1
            stored = index
            self._ready[place] = lambda: json.loads(items.result_at(stored) or b"null")
        elif state == "dead" and index is not None:
            key, error, attempts = items.failure_at(index)
            failure = Failure(place, key, error, "", attempts)
            self.failures.append(failure)
            self._ready[place] = lambda: failure
        else:
            # Its key was seen before in this run, and its result stands there.
            self._left_out.add(place)

    def _take_in(self, task: Task, result: Any) -> None:
        if result.is_done:
            try:
                value = result.value()
                if task.item is not None:
                    task.item.done(_native.as_json(value, f"the result of item {task.place}"))
            except InvalidError:
                # A function whose results cannot be kept has the same fate with every item.
                raise
            self._done += 1
            task.item = None
            self._ready[task.place] = lambda: value
            return
        line, details, again, after = result.value()
        self._failed(task, line, details, again, after)

    def _lost(self, task: Task, ended: Any) -> None:
        """The worker died of it, or was ended because it took too long."""
        self._failed(task, ended.why, "", True, None)

    def _failed(self, task: Task, line: str, details: str, again: bool, after: float | None) -> None:
        self._failed_attempts += 1
        task.attempts += 1
        if task.item is not None:
            item, task.item = task.item, None
            # The first run's attempts count, too.
            task.attempts = item.attempt or task.attempts
            task.waiting = item.failed(line, details, again, after)
            if task.waiting is not None:
                self._again.append((time.monotonic() + task.waiting.remaining, task))
                return
        elif again and task.attempts < self._attempts:
            wait = after if after is not None else min(self._retry_wait * 2 ** (task.attempts - 1), _LONGEST_WAIT)
            self._again.append((time.monotonic() + wait, task))
            return
        failure = Failure(task.place, task.key, line, details, task.attempts)
        self.failures.append(failure)
        self._ready[task.place] = lambda: failure


def _numbers_of(result: weakref.ref[MapResult[Any]]) -> Callable[[], Numbers]:
    """What progress looks at. It must not keep the result: one that nobody has any more ends its processes."""

    def look() -> Numbers:
        alive = result()
        return Numbers(0, 0, None, 0, 0) if alive is None else alive._numbers()

    return look


def map(
    function: Callable[[T], R],
    items: Iterable[T],
    workers: int | None = None,
    *,
    state: str | os.PathLike[str] | None = None,
    key: Callable[[T], object] | str | None = None,
    context: Literal["spawn", "forkserver", "fork"] = "spawn",
    timeout: float | timedelta | None = None,
    attempts: int = 3,
    retry_wait: float | timedelta = 1.0,
    retry_failed: bool = False,
    fresh: bool = False,
    ahead: int = _AHEAD,
    total: int | None = None,
    progress: bool | None = None,
    stop: ShutdownToken | None = None,
) -> MapResult[R]:
    """Calls ``function`` for each item in ``workers`` processes, and gives the results in order.

    ::

        for size in safepoint.map(measure, paths, workers=8):
            print(size)

        pages = list(safepoint.map(fetch, urls, workers=8, state="pages"))  # durable: goes on where it was

    Items are read, and results given out, one at a time: memory is bounded whatever their number. An exception, a
    worker that dies (a crash in C, ``kill -9``, no memory) and a time-out cost an attempt of that one item; after
    ``attempts`` it is dead, and a :class:`Failure` stands in its place and in ``result.failures``. A worker that died
    is replaced.

    A stop (Ctrl-C, SIGTERM, ``stop``) begins no more items and lets those in progress finish; the results that were
    there are given out, and ``result.complete`` is false. A second one ends the processes now. None of them outlives
    this one, also when it is killed.

    function
        Importable by its name, for the other process imports it: not a lambda, not a function within a function, and
        not one of an interactive session. What it gets and returns goes through pickle between our own processes; what
        ``state`` keeps is JSON.
    workers
        How many processes; by default one for each processor that this process may use.
    state, key, total, retry_failed, fresh, attempts, retry_wait, progress, stop
        As with :func:`safepoint.batch`. Without ``state`` nothing is kept. An item whose ``key`` was seen before in
        this run is left out.
    context
        How the processes are started, in the words of ``multiprocessing``. As with it, the module that is run needs
        ``if __name__ == "__main__":`` around the call, but for ``"fork"``, which copies this process with its threads'
        locks.
    timeout
        Seconds for one attempt. The worker is ended after it.
    ahead
        So many items may be ahead of the one whose result is given out next.

    Raises :class:`safepoint.InvalidError` for a function that cannot be imported, and when workers end before they
    begin.
    """
    return MapResult(
        function,
        items,
        workers,
        state=state,
        key=key,
        context=context,
        timeout=timeout,
        attempts=attempts,
        retry_wait=retry_wait,
        retry_failed=retry_failed,
        fresh=fresh,
        ahead=ahead,
        total=total,
        progress=progress,
        stop=stop,
    )
