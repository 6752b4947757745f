"""What the front and the native half pass to each other about states."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias, TypedDict

if TYPE_CHECKING:
    from pathlib import Path

#: A named piece of memory: name, type of its elements, shape, address, length, the object it belongs to, and whether it
#: never changes.
Buffer: TypeAlias = tuple[str, str, list[int], int, int, object, bool]

#: Asked with the value, its encoding and what buffers there are (name, type, shape, length), says where each goes:
#: name, address, length, and the object that the memory belongs to.
Place: TypeAlias = Callable[
    ["bytes | None", str, list[tuple[str, str, list[int], int]]], list[tuple[str, int, int, object]]
]

#: Of an item of a queue: number, key, state, attempts, times of pushing, being due and being settled, process, payload,
#: result, error.
QueuedRow: TypeAlias = tuple[
    int,
    "str | None",
    str,
    int,
    float,
    "float | None",
    "float | None",
    "int | None",
    "str | bytes",
    "str | bytes | None",
    "str | None",
]

#: Generation, bytes of the file, bytes of the payload, seconds.
SavedRow: TypeAlias = tuple[int, int, int, float]


class Loaded(TypedDict):
    """A generation without its buffers."""

    #: In JSON.
    metadata: str
    encoding: str
    value: bytes | None
    #: Generation, why, and where its file is now.
    skipped: list[tuple[int, str, Path | None]]
