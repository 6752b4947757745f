"""Checkpoints: a state saved often, and found again whole whatever ended the program."""

from __future__ import annotations

import atexit
import json
import os
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from . import _native
from ._described import as_json, details
from ._generations import Checkpoint, Listed, Saved, Skipped, Validated
from ._notices import LOGGER, tell
from ._retention import Retention
from ._times import as_seconds
from ._tree import Decoder, Encoded, Encoder, classes_of

if TYPE_CHECKING:
    import builtins
    from datetime import timedelta
    from types import TracebackType

    from typing_extensions import Self

    from ._rows import Loaded

#: The name of a state unless told otherwise.
DEFAULT_NAME = "state"

#: What is open here, to be seen through at the end of the program and left alone in a fork.
_open: weakref.WeakSet[CheckpointStore] = weakref.WeakSet()


class CheckpointReader:
    """Reads the checkpoints in a directory, also while another process owns it and goes on saving. Changes nothing."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._native = _native.Store.reader(os.fspath(path))

    @property
    def path(self) -> str:
        """The directory."""
        return os.fspath(self._native.path())

    def names(self) -> builtins.list[str]:
        """The states that there are."""
        return self._native.names()

    def latest(
        self, name: str = DEFAULT_NAME, *, into: object = None, like: object = None, allow_pickle: bool = False
    ) -> Checkpoint | None:
        """The newest generation that is whole; ``None`` if nothing was ever saved. Damaged ones are passed over and
        told in :attr:`Checkpoint.skipped`.

        into
            A tree with arrays and tensors that are filled where they are, such as ``{"model": model.state_dict()}``;
            it may be a part of what was saved. An array in it for which nothing was saved is an error. After an error
            they hold anything.
        like
            A class, or an example of the state: the dataclasses, named tuples and enums in it may be made again. A file
            is never trusted to name a class.
        allow_pickle
            Whether what was saved with ``allow_pickle=True`` may be loaded, which runs code of the file.

        Raises :class:`safepoint.CorruptError` when there are generations and none is whole: that is never a reason to
        begin anew silently.
        """
        decoder = _decoder(into, like, allow_pickle)
        found = self._native.latest(name, decoder.place)
        self._tell()
        return None if found is None else _checkpoint(decoder, found)

    def load(
        self,
        generation: int,
        name: str = DEFAULT_NAME,
        *,
        into: object = None,
        like: object = None,
        allow_pickle: bool = False,
    ) -> Checkpoint:
        """One generation, as :meth:`latest`.

        Raises :class:`safepoint.NotFoundError` when there is none of this number.
        """
        decoder = _decoder(into, like, allow_pickle)
        found = self._native.load(name, generation, decoder.place)
        self._tell()
        return _checkpoint(decoder, found)

    def list(self, name: str = DEFAULT_NAME) -> builtins.list[Listed]:
        """All generations, the oldest first."""
        return [
            Listed(generation, file_bytes, json.loads(metadata) if metadata else {}, error)
            for generation, file_bytes, metadata, error in self._native.list(name)
        ]

    def validate(self, name: str = DEFAULT_NAME) -> builtins.list[Validated]:
        """Reads all of every generation, and says of each whether it is whole."""
        return [
            Validated(generation, os.fspath(path), payload_bytes, error)
            for generation, path, payload_bytes, error in self._native.validate(name)
        ]

    def export(self, generation: int, folder: str | os.PathLike[str], name: str = DEFAULT_NAME) -> str:
        """Writes a generation as gzip and JSON Lines, for programs without safepoint. Returns the file."""
        return os.fspath(self._native.export(name, generation, os.fspath(folder)))

    def _tell(self) -> None:
        pass


def _decoder(into: object, like: object, allow_pickle: bool) -> Decoder:
    classes = classes_of((into, like))
    return Decoder(classes, allow_pickle, into)


def _checkpoint(decoder: Decoder, found: Loaded) -> Checkpoint:
    state = decoder.decode(found["value"], found["encoding"])
    skipped = tuple(
        Skipped(generation, why, None if path is None else os.fspath(path))
        for generation, why, path in found["skipped"]
    )
    return Checkpoint(state, json.loads(found["metadata"]), skipped)


class CheckpointStore(CheckpointReader):
    """Generations of states in a directory, which this process alone writes until the store is closed::

        with safepoint.CheckpointStore("state/checkpoints", fingerprint={"layers": 12}) as store:
            found = store.latest()
            state = found.state if found else {"step": 0, "weights": numpy.zeros(1000)}
            ...
            store.save(state, step=state["step"])

    A state is a tree: dicts, lists, tuples, sets, dataclasses, named tuples, numbers, text, bytes, dates, and arrays of
    numpy, torch and jax. Arrays are written from where they are, without a copy and without pickle; do not change them
    while they are being saved. Threads may share a store.

    path
        A directory for checkpoints alone; it is made where there is none, and private (0700).
    retention
        How many of the newest generations stay, or a :class:`Retention`.
    fingerprint
        What decides results: the model's size, the seed, the data's version. A state of another fingerprint is refused,
        with what differs.
    ignore
        Keys of the fingerprint that may differ.
    accept_changes
        Takes a state of another fingerprint, and says so.
    compression
        ``"where_pays"``, or ``"never"``.
    when_busy
        What :meth:`save_in_background` does when one save is in flight and another waits already: ``"replace"`` the one
        that waits, ``"skip"`` this one, or ``"wait"`` for a place.
    on_notice
        Called with a line of text when something was noticed beside the results of calls, such as a damaged generation
        that was skipped. The default logs a warning.

    Raises :class:`safepoint.BusyError` when another process has the directory, with who.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        retention: int | Retention = 20,
        fingerprint: Mapping[str, Any] | None = None,
        ignore: Iterable[str] = (),
        accept_changes: bool = False,
        compression: Literal["where_pays", "never"] = "where_pays",
        when_busy: Literal["replace", "skip", "wait"] = "replace",
        on_notice: Callable[[str], object] | None = None,
    ) -> None:
        rules = retention if isinstance(retention, Retention) else Retention(newest=retention)
        self._on_notice = on_notice
        self._native = _native.Store(
            os.fspath(path),
            fingerprint=as_json(fingerprint or {}, "the fingerprint"),
            ignore=list(ignore),
            accept_changes=accept_changes,
            retention=rules._rules(),
            compression=compression,
            when_busy=when_busy,
            workers=2,
        )
        _open.add(self)

    @property
    def run(self) -> int:
        """How often the directory was opened and saved to, this time included, from 1."""
        return self._native.run()

    def save(
        self,
        state: object,
        *,
        name: str = DEFAULT_NAME,
        step: int | None = None,
        metrics: Mapping[str, float] | None = None,
        pinned: bool = False,
        extra: object = None,
        items_processed: int | None = None,
        items_total: int | None = None,
        last_item: str | None = None,
        allow_pickle: bool = False,
    ) -> Saved:
        """Saves a state as a new generation of ``name``, and prunes what the retention does not keep.

        When it returns, the generation survives a kill and a power cut. Until then the one before is the newest. The
        interpreter is free meanwhile. Ctrl-C in the middle is raised when the save is done.

        step, metrics, extra, items_processed, items_total, last_item
            What is told of it in lists. A metric must be a finite number, and can decide which generations stay.
        pinned
            Never pruned.
        allow_pickle
            Pickles what cannot be saved otherwise. Loading it needs the flag as well, and runs code of the file.

        Raises :class:`safepoint.InvalidError` that names the place in the tree which cannot be saved; nothing was
        touched. Raises :class:`safepoint.IoError` when it could not be written: the generations before are whole.
        """
        described = details(step, metrics, pinned, extra, items_processed, items_total, last_item)
        encoded = Encoder(allow_pickle).encode(state)
        return self._save("save", name, encoded, described)

    def save_small(
        self,
        state: object,
        *,
        name: str = DEFAULT_NAME,
        step: int | None = None,
        metrics: Mapping[str, float] | None = None,
        extra: object = None,
    ) -> Saved:
        """Saves a small state without arrays by appending it to a journal: some tens of microseconds on a fast disk, as
        durable as :meth:`save`. What has arrays, or more than 64 KiB, becomes a file as there. Retention is about
        files.
        """
        described = details(step, metrics, False, extra, None, None, None)
        return self._save("small", name, Encoder().encode(state), described)

    def _save(self, how: str, name: str, encoded: Encoded, described: str) -> Saved:
        saved = self._native.save(how, name, encoded.value, encoded.buffers, described)
        self._tell()
        return Saved(*saved)

    def save_now(
        self,
        state: object,
        *,
        within: float | timedelta | None,
        name: str = DEFAULT_NAME,
        step: int | None = None,
        metrics: Mapping[str, float] | None = None,
        extra: object = None,
        allow_pickle: bool = False,
    ) -> Saved:
        """Saves at a stop, when there are ``within`` seconds for it, such as ``stop.remaining``. If a save of the same
        name is in flight and, as fast as saves were so far, there is no time for another one behind it, that one is
        seen through instead (:attr:`Saved.is_given` is false).
        """
        described = details(step, metrics, False, extra, None, None, None)
        encoded = Encoder(allow_pickle).encode(state)
        seconds = float("inf") if within is None else as_seconds(within)
        told, is_given = self._native.save_now(name, encoded.value, encoded.buffers, described, seconds)
        self._tell()
        return Saved(*told, is_given=is_given)

    def save_in_background(
        self,
        state: object,
        *,
        name: str = DEFAULT_NAME,
        step: int | None = None,
        metrics: Mapping[str, float] | None = None,
        pinned: bool = False,
        extra: object = None,
        items_processed: int | None = None,
        items_total: int | None = None,
        last_item: str | None = None,
        allow_pickle: bool = False,
        copy: Literal["memory", "fork"] = "memory",
    ) -> Literal["accepted", "replaced", "skipped"]:
        """Saves as :meth:`save` does, while the caller goes on. The caller is held up for one copy of the arrays, into
        memory that is used again from save to save; the interpreter is free meanwhile.

        With ``copy="fork"`` nothing is copied: a forked process, which has the same memory, writes it. That suits large
        states of which little changes while they are written, in memory that is the process's own.

        It is durable when :meth:`finish_background` or :meth:`close` says so. An error of an earlier save in the
        background is raised by the next one, by :meth:`finish_background`, or by :meth:`close`.
        """
        described = details(step, metrics, pinned, extra, items_processed, items_total, last_item)
        encoded = Encoder(allow_pickle).encode(state)
        handed_over = self._native.save_in_background(copy, name, encoded.value, encoded.buffers, described)
        self._tell()
        return handed_over

    def prepare_background(self, bytes: int) -> None:
        """Gets memory ready for two states of this size, so that not even the first save in the background pays for
        fresh pages.
        """
        self._native.prepare_background(bytes)

    @property
    def is_saving(self) -> bool:
        """Whether a save in the background is in flight or waits."""
        return self._native.is_saving()

    def finish_background(self) -> Saved | None:
        """Waits until no save in the background is in flight or waits, and tells of the last one since this was asked
        before. Ctrl-C ends the wait, not the saves.

        Raises the error of a save in the background which failed.
        """
        finished = self._native.finish_background()
        self._tell()
        return None if finished is None else Saved(*finished)

    def prune(self, name: str = DEFAULT_NAME) -> builtins.list[int]:
        """Removes what the retention does not keep, and says what went. Every save does the same."""
        pruned = self._native.prune(name)
        self._tell()
        return pruned

    def fork(self, generation: int, to: str, name: str = DEFAULT_NAME) -> Saved:
        """Copies a generation of ``name`` to a new generation of ``to``, which remembers where it comes from."""
        forked = self._native.fork(name, generation, to)
        self._tell()
        return Saved(*forked)

    def close(self) -> None:
        """Sees the saves in the background through and gives the directory up.

        Raises the error of a save in the background which failed.
        """
        _open.discard(self)
        try:
            self._native.close()
        finally:
            self._tell()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        # An error of a save in the background is then told as one that nobody could take.
        if hasattr(self, "_native"):
            self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.path!r})"

    def _tell(self) -> None:
        tell(self._native.notices(), self._on_notice)


def _close_all() -> None:
    for store in list(_open):
        try:
            store.close()
        except Exception as error:
            import logging

            logging.getLogger(LOGGER).error("%s", error)


def _leave_all() -> None:
    for store in list(_open):
        store._native.leave_to_parent()
    _open.clear()


# What is in the background at the end of the program is seen through.
atexit.register(_close_all)
os.register_at_fork(after_in_child=_leave_all)
