"""A function as a persistent worker of ``safepoint run --worker``: JSON Lines on standard input and output."""

from __future__ import annotations

import inspect
import json
import os
import select
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any

from . import _native
from ._errors import InvalidError
from ._outcome import outcome_of

if TYPE_CHECKING:
    import asyncio
    from decimal import Decimal

#: What is read at once.
_READ = 1 << 16

#: The longest answer that the runner takes.
_MAX_ANSWER = 16 << 20

#: Answers of short items are sent together, at most so many seconds after the first of them.
_GATHER = 0.001


class Attempt:
    """What a function for a worker is told of the attempt, if it takes a second parameter."""

    __slots__ = ("_answers", "_id", "index", "key", "number")

    def __init__(self, request: dict[str, Any], answers: _Answers) -> None:
        self._id: int = request["id"]
        self._answers = answers
        #: The item's index, from 0.
        self.index: int = request["index"]
        #: The item's key.
        self.key: str = request["key"]
        #: The number of the attempt, from 1.
        self.number: int = request["attempt"]

    def progress(self, share: float) -> None:
        """Says that it is still at work: a share from 0 to 1."""
        self._answers.send(b'{"id":%d,"progress":%s}\n' % (self._id, _native.as_json(float(share), "a share")))

    def cost(self, amount: Decimal | float | str) -> None:
        """Says that so much more was spent on this item, in a unit of your own."""
        self._answers.send(b'{"id":%d,"cost":%s}\n' % (self._id, _plain(amount)))


def _plain(amount: Decimal | float | str) -> bytes:
    from decimal import Decimal, InvalidOperation

    try:
        exact = Decimal(str(amount))
    except InvalidOperation:
        exact = Decimal("NaN")
    if not exact.is_finite():
        raise InvalidError(f"`{amount}` is no amount", hint="give a number, such as 0.002")
    return format(exact, "f").encode()


class _Answers:
    """The only writer of the protocol. Whole lines, in one write or several."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()
        self._held: list[bytes] = []

    def hold(self, line: bytes) -> None:
        """A line that may wait for the next."""
        self._held.append(line)

    def send(self, line: bytes = b"") -> None:
        """A line that may not, and all that waited for it."""
        with self._lock:
            held, self._held = self._held, []
            text = memoryview(b"".join(held) + line)
            try:
                while text:
                    text = text[os.write(self._descriptor, text) :]
            except BrokenPipeError:
                # The runner is gone: nobody is there to be answered, and nothing else is to be flushed.
                os._exit(1)


class _Lines:
    """Lines of a descriptor, and whether the next one is there already."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._rest = b""
        self._whole: list[bytes] = []

    def __iter__(self) -> Iterator[bytes]:
        while self._fill():
            # Taken from the end: the lines are kept last first.
            while self._whole:
                yield self._whole.pop()

    def _fill(self) -> bool:
        pieces = [self._rest]
        while True:
            read = os.read(self._descriptor, _READ)
            pieces.append(read)
            if not read or b"\n" in read:
                break
        lines = b"".join(pieces).split(b"\n")
        self._rest = lines.pop()
        if not read and self._rest:
            lines.append(self._rest)
            self._rest = b""
        lines.reverse()
        self._whole = lines
        return bool(lines)

    def is_next_here(self) -> bool:
        if self._whole:
            return True
        return bool(select.select([self._descriptor], [], [], 0)[0])


def worker(function: Callable[..., Any]) -> None:
    """Runs ``function`` for each item that ``safepoint run --worker`` gives this process, until there are no more.

    ::

        # count.py; run it with: safepoint run --worker files.txt -- python count.py
        def count(path):
            with open(path) as file:
                return {"words": len(file.read().split())}

        safepoint.worker(count)

    The function gets the item: a text for a line, what was parsed for JSONL and CSV. What it returns is the result, as
    JSON. An exception is a failed attempt, and the job tries again; :class:`safepoint.Retry` says after how long, and
    :class:`safepoint.Refuse` that another attempt cannot help. If it takes a second parameter, it gets an
    :class:`Attempt`, for ``attempt.progress(0.5)`` and ``attempt.cost(0.002)``. It may be ``async``: with
    ``--pipeline`` several items are then in progress at once.

    Prints go to standard error, also those of C libraries and child processes, for standard output belongs to the
    protocol. At the end of the input it returns, after the item in progress.
    """
    if not callable(function):
        raise InvalidError(f"`{function!r}` is no function for an item")
    takes_attempt = _takes_attempt(function)
    requests, answers = _take_over()
    if inspect.iscoroutinefunction(function):
        import asyncio

        asyncio.run(_work_async(function, takes_attempt, requests, answers))
    else:
        _work(function, takes_attempt, requests, answers)
    answers.send()


def _takes_attempt(function: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False
    positional = [each for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
    return len(positional) >= 2 and positional[1].default is inspect.Parameter.empty


def _take_over() -> tuple[int, _Answers]:
    """Keeps standard input and output for the protocol: what else reads finds nothing, what else prints goes to
    standard error. The descriptors themselves are changed, so that C libraries and child processes obey, too.
    """
    sys.stdout.flush()
    requests, answers = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return requests, _Answers(answers)


def _work(function: Callable[..., Any], takes_attempt: bool, requests: int, answers: _Answers) -> None:
    lines = _Lines(requests)
    loads, as_json, now = json.loads, _native.as_json, time.perf_counter
    sent = 0.0
    for line in lines:
        request = loads(line)
        number = request["id"]
        try:
            item = request["item"]
            result = function(item, Attempt(request, answers)) if takes_attempt else function(item)
            text = as_json(result, "the result")
        except Exception as error:
            answers.hold(_failed(number, error))
        else:
            answers.hold(_done(number, text))
        # Short items share a write; no answer waits for an item that is still to come, nor for a long one.
        moment = now()
        if moment - sent > _GATHER or not lines.is_next_here():
            answers.send()
            sent = moment


async def _work_async(
    function: Callable[..., Awaitable[Any]], takes_attempt: bool, requests: int, answers: _Answers
) -> None:
    import asyncio

    loop = asyncio.get_running_loop()
    arrived: asyncio.Queue[bytes | None] = asyncio.Queue()

    def read() -> None:
        for line in _Lines(requests):
            loop.call_soon_threadsafe(arrived.put_nowait, line)
        loop.call_soon_threadsafe(arrived.put_nowait, None)

    async def work(line: bytes) -> None:
        request = json.loads(line)
        number = request["id"]
        try:
            item = request["item"]
            result = await (function(item, Attempt(request, answers)) if takes_attempt else function(item))
            answer = _done(number, _native.as_json(result, "the result"))
        except Exception as error:
            answer = _failed(number, error)
        answers.send(answer)

    threading.Thread(target=read, name="safepoint-requests", daemon=True).start()
    working: set[asyncio.Task[None]] = set()
    while (line := await arrived.get()) is not None:
        for task in [task for task in working if task.done()]:
            working.discard(task)
            task.result()
        working.add(asyncio.create_task(work(line)))
    if working:
        await asyncio.gather(*working)


def _done(number: int, text: bytes) -> bytes:
    if len(text) > _MAX_ANSWER - 64:
        return _refused(number, f"the result has {len(text):,} bytes, more than {_MAX_ANSWER >> 20} MiB")
    return b'{"id":%d,"result":%s}\n' % (number, text)


def _refused(number: int, why: str) -> bytes:
    return json.dumps({"id": number, "error": why, "retry": False}).encode() + b"\n"


def _failed(number: int, error: Exception) -> bytes:
    line, details, again, after = outcome_of(error)
    # The traceback goes to the log of the slot; the job keeps its end with the failure.
    print(details, end="", file=sys.stderr, flush=True)
    answer: dict[str, Any] = {"id": number, "error": line}
    if not again or isinstance(error, InvalidError):
        answer["retry"] = False
    if after is not None:
        answer["retry_after"] = after
    return json.dumps(answer).encode() + b"\n"
