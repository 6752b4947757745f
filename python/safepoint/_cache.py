"""A cache of expensive results, on disk, shared by all processes that name its directory."""

from __future__ import annotations

import functools
import inspect
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, overload

from . import _native
from ._described import as_json
from ._errors import CorruptError, IncompatibleError, InvalidError, Stopped
from ._notices import tell
from ._tree import Decoder, Encoder, classes_of

if TYPE_CHECKING:
    from ._shutdown import ShutdownToken

P = ParamSpec("P")
R = TypeVar("R")

#: The entries that this thread or coroutine is computing: asking for one of them would wait for itself.
_computing: ContextVar[frozenset[tuple[str, str, str]]] = ContextVar("safepoint_computing", default=frozenset())

#: Seconds between two looks at an entry that somebody else computes: the first, and the longest.
_FIRST_LOOK = 0.002
_LONGEST_LOOK = 0.1

#: A key is for people; what is longer is told by the fingerprint.
_MAX_KEY = 200


@dataclass(frozen=True)
class Statistics:
    """What a cache did since it was opened here; other processes count for themselves."""

    #: Results that were there.
    hits: int
    #: Results that were computed.
    computed: int
    #: Those of them for which there was an entry that could not be used.
    computed_anew: int
    #: Results that were computed and could not be kept.
    not_kept: int
    #: Entries that were removed because there was no room.
    evicted: int


@dataclass(frozen=True)
class Cleared:
    """What was removed."""

    entries: int
    file_bytes: int


class Cache:
    """Results of expensive functions on disk, for this run, the next ones, and all processes that share the directory::

        cache = safepoint.Cache("prepared", max_bytes=20 << 30)

        @cache.remember(corpus="v3")
        def tokenize(path: str, vocabulary: int) -> numpy.ndarray: ...

        tokens = tokenize("corpus.txt", 32_000)    # computed once, by one of all processes

    An entry is found by the function's name, its arguments, and what ``remember`` was given. Nothing else is noticed:
    when the code or a file that it reads changes, change what ``remember`` is given. Results may be what a
    :class:`safepoint.CheckpointStore` saves, arrays without a copy; they are never pickled. An exception is nobody's
    result: it is raised, and the next call computes. Entries are checked by checksums at every read, and computed anew
    if they are damaged.

    path
        A directory for the cache alone; it is made where there is none.
    max_bytes
        About so many bytes in files at most; what was not used for the longest time goes first.
    on_notice
        Called with a line of text when an entry had to be computed anew, or could not be kept. The default logs a
        warning.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        max_bytes: int | None = None,
        compression: Literal["where_pays", "never"] = "where_pays",
        on_notice: Callable[[str], object] | None = None,
    ) -> None:
        self._on_notice = on_notice
        self._native = _native.Results(os.fspath(path), max_bytes, compression)

    @property
    def path(self) -> str:
        """The directory."""
        return os.fspath(self._native.path())

    @overload
    def remember(self, function: Callable[P, R], /) -> Callable[P, R]: ...
    @overload
    def remember(
        self,
        /,
        *,
        key: str | None = None,
        ignore: tuple[str, ...] = (),
        like: object = None,
        stop: ShutdownToken | None = None,
        **fingerprint: Any,
    ) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
    def remember(
        self,
        function: Callable[..., Any] | None = None,
        /,
        *,
        key: str | None = None,
        ignore: tuple[str, ...] = (),
        like: object = None,
        stop: ShutdownToken | None = None,
        **fingerprint: Any,
    ) -> Any:
        """Makes a function one whose results are kept; ``async`` ones, too.

        key
            What the entries are called; the default is the function's module and name.
        ignore
            Parameters that do not change the result, such as a number of threads.
        like
            A class or an example, where results are dataclasses or named tuples.
        stop
            A stop that ends waiting for an entry which another process computes, by :class:`safepoint.Stopped`. The
            default is the block ``with safepoint.shutdown()`` around the call.
        fingerprint
            Whatever else decides the result: the version of the data, of the code.

        Arguments are told apart as JSON tells them apart, after defaults were filled in: numbers, text, booleans,
        ``None``, lists, tuples, dicts of these, paths and bytes. Others are refused, for nobody could say when two are
        the same. The function has ``compute``, the one without a cache, and ``forget()``, which removes its entries.
        """

        def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
            return _remembered(self, function, _Entry(self, function, key, ignore, like, stop, fingerprint))

        return decorate if function is None else decorate(function)

    @property
    def statistics(self) -> Statistics:
        """What this object did."""
        return Statistics(*self._native.statistics())

    def remove(self, key: str) -> Cleared:
        """Removes the entries of a key, whatever their arguments. One that is being computed comes all the same."""
        return Cleared(*self._native.remove(key))

    def clear(self) -> Cleared:
        """Removes all entries."""
        return Cleared(*self._native.clear())

    def __repr__(self) -> str:
        return f"Cache({self.path!r})"

    def _tell(self) -> None:
        tell(self._native.notices(), self._on_notice)


class _Entry:
    """What a remembered function's entries have in common."""

    def __init__(
        self,
        cache: Cache,
        function: Callable[..., Any],
        key: str | None,
        ignore: tuple[str, ...],
        like: object,
        stop: ShutdownToken | None,
        fingerprint: Mapping[str, Any],
    ) -> None:
        self.cache = cache
        self.key = (key or f"{function.__module__}.{function.__qualname__}")[:_MAX_KEY]
        self.signature = inspect.signature(function)
        unknown = set(ignore) - set(self.signature.parameters)
        if unknown:
            raise InvalidError(f"`{function.__qualname__}` has no parameter `{min(unknown)}`, which is to be ignored")
        self.ignore = frozenset(ignore)
        self.classes = classes_of(like)
        self.stop = stop
        self.fingerprint = json.loads(as_json(fingerprint, "the fingerprint"))

    def of(self, arguments: tuple[Any, ...], named: dict[str, Any]) -> str:
        """The fingerprint of a call."""
        bound = self.signature.bind(*arguments, **named)
        bound.apply_defaults()
        told = {name: _canonical(value, name) for name, value in bound.arguments.items() if name not in self.ignore}
        whole = {**self.fingerprint, "arguments": told}
        text = as_json(whole, "the arguments")
        if len(text) > 32 << 10:
            from hashlib import blake2b

            canonical = json.dumps(told, sort_keys=True, allow_nan=False)
            whole["arguments"] = {"blake2b": blake2b(canonical.encode(), digest_size=32).hexdigest()}
            text = as_json(whole, "the arguments")
        return text

    def ask(self, fingerprint: str) -> tuple[bool, Any, _native.Claim | None]:
        """Whether it is there, what it is, and the right to compute it."""
        decoder = Decoder(self.classes)
        refused: list[BaseException] = []

        def place(*what: Any) -> Any:
            try:
                return decoder.place(*what)
            except BaseException as error:
                refused.append(error)
                raise

        found, claim = self.cache._native.claim(self.key, fingerprint, place)
        try:
            for error in refused:
                # An entry that cannot be used is computed anew; Ctrl-C is no such thing.
                if not isinstance(error, (CorruptError, IncompatibleError)):
                    raise error
            if found is not None:
                return True, decoder.decode(found["value"], found["encoding"]), None
        except BaseException:
            if claim is not None:
                claim.release()
            raise
        return False, None, claim

    def keep(self, claim: _native.Claim, value: Any) -> None:
        encoded = Encoder(root="result").encode(value)
        claim.keep(encoded.value, encoded.buffers)
        self.cache._tell()

    def check_stop(self) -> None:
        stop = self.stop
        if stop is None and "safepoint._shutdown" in sys.modules:
            stop = sys.modules["safepoint._shutdown"].active()
        if stop is not None and stop.requested:
            raise Stopped(f"`{self.key}` is not waited for: a stop was asked for")

    def mark(self, fingerprint: str) -> tuple[str, str, str]:
        mark = (self.cache.path, self.key, fingerprint)
        if mark in _computing.get():
            raise InvalidError(
                f"`{self.key}` is asked for by the code that computes it, with the same arguments",
                hint="make it from an entry with other arguments",
            )
        return mark


def _canonical(value: Any, path: str) -> Any:
    """A value of an argument in JSON; equal ones only where the values are equal."""
    kind = type(value)
    if value is None or kind in (bool, str):
        return value
    if kind is int:
        return value if abs(value) < 1 << 53 else {"$int": hex(value)}
    if kind is float:
        # 1 and 1.0 are equal to Python and to nobody else.
        return {"$float": value.hex()}
    if kind is list:
        return [_canonical(item, f"{path}[{place}]") for place, item in enumerate(value)]
    if kind is tuple:
        return {"$tuple": [_canonical(item, f"{path}[{place}]") for place, item in enumerate(value)]}
    if kind is dict and all(type(key) is str for key in value):
        inner = {key: _canonical(item, f"{path}[{key!r}]") for key, item in value.items()}
        return {"$dict": inner} if any(key.startswith("$") for key in inner) else inner
    if kind is bytes:
        from hashlib import blake2b

        return {"$bytes": blake2b(value, digest_size=32).hexdigest()}
    if isinstance(value, os.PathLike):
        return {"$path": os.fsdecode(value)}
    raise InvalidError(
        f"`{path}` is a {kind.__qualname__}, which cannot be part of a cache's key",
        hint="pass what it is made from (a path, a version, settings), or name it in `ignore` if it changes nothing",
    )


def _remembered(cache: Cache, function: Callable[..., Any], entry: _Entry) -> Callable[..., Any]:
    if inspect.iscoroutinefunction(function):
        wrapper = _async_wrapper(function, entry)
    elif inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise InvalidError(
            f"`{function.__qualname__}` is a generator, whose result is no value", hint="let it return a list"
        )
    else:
        wrapper = _wrapper(function, entry)
    made: Any = functools.update_wrapper(wrapper, function)
    made.compute = function
    made.forget = lambda: cache.remove(entry.key)
    return wrapper


def _wrapper(function: Callable[..., Any], entry: _Entry) -> Callable[..., Any]:
    def call(*arguments: Any, **named: Any) -> Any:
        fingerprint = entry.of(arguments, named)
        look = _FIRST_LOOK
        while True:
            is_there, value, claim = entry.ask(fingerprint)
            entry.cache._tell()
            if is_there:
                return value
            if claim is not None:
                break
            entry.mark(fingerprint)
            entry.check_stop()
            time.sleep(look)
            look = min(look * 2, _LONGEST_LOOK)
        mark = _computing.set(_computing.get() | {entry.mark(fingerprint)})
        try:
            value = function(*arguments, **named)
            entry.keep(claim, value)
        finally:
            _computing.reset(mark)
            claim.release()
        return value

    return call


def _async_wrapper(function: Callable[..., Awaitable[Any]], entry: _Entry) -> Callable[..., Any]:
    async def call(*arguments: Any, **named: Any) -> Any:
        import asyncio

        fingerprint = entry.of(arguments, named)
        look = _FIRST_LOOK
        while True:
            asked = asyncio.ensure_future(asyncio.to_thread(entry.ask, fingerprint))
            try:
                is_there, value, claim = await asyncio.shield(asked)
            except asyncio.CancelledError:
                # Nobody would use the right to compute that may come of it.
                asked.add_done_callback(_give_up)
                raise
            entry.cache._tell()
            if is_there:
                return value
            if claim is not None:
                break
            entry.mark(fingerprint)
            entry.check_stop()
            await asyncio.sleep(look)
            look = min(look * 2, _LONGEST_LOOK)
        mark = _computing.set(_computing.get() | {entry.mark(fingerprint)})
        try:
            value = await function(*arguments, **named)
            await asyncio.to_thread(entry.keep, claim, value)
        finally:
            _computing.reset(mark)
            claim.release()
        return value

    return call


def _give_up(asked: Any) -> None:
    if not asked.cancelled() and asked.exception() is None:
        _, _, claim = asked.result()
        if claim is not None:
            claim.release()
