"""From a tree to JSON and named pieces of memory."""

from __future__ import annotations

import json
import math
import struct
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .._errors import InvalidError
from .path import Attribute, Path, class_name, is_namedtuple, show

if TYPE_CHECKING:
    from collections import OrderedDict

    from .dtypes import Memory

#: Deeper trees are refused: readers of JSON of other programs stop at 128 levels.
MAX_DEPTH = 60

#: Longer bytes are a buffer of their own.
_INLINE_BYTES = 256

#: What fits into the integers of every reader of JSON.
_PLAIN_INTEGERS = 1 << 63

#: The longest name of a buffer.
_MAX_NAME = 1000

_PLAIN_IN_LISTS = {str, bool, type(None), float, int}


@dataclass
class Encoded:
    """A tree that is ready to be saved."""

    #: Encoding and bytes of the value.
    value: tuple[str, bytes] | None
    #: Buffers as the native half takes them.
    buffers: list[tuple[str, str, list[int], int, int, object, bool]]


@dataclass
class Encoder:
    """Walks a tree once and gathers what is to be written."""

    allow_pickle: bool = False
    #: What the tree is called in messages.
    root: str = "state"
    buffers: list[tuple[str, str, list[int], int, int, object, bool]] = field(default_factory=list)
    _names: set[str] = field(default_factory=set)
    #: Containers on the way from the root to here.
    _inside: set[int] = field(default_factory=set)
    #: Where memory is that has been seen, with its name, and what was said of it first.
    known: dict[Any, str] = field(default_factory=dict)
    nodes: dict[str, dict[str, Any]] = field(default_factory=dict)
    #: Arrays whose memory was copied: as long as they live, no other one can have its address.
    kept: list[object] = field(default_factory=list)
    #: Copies of tensors of other devices.
    moved: dict[Any, Any] = field(default_factory=dict)
    #: Tensors, whose memory is told when all of them are known.
    tensors: list[Any] = field(default_factory=list)

    def encode(self, state: object) -> Encoded:
        if type(state) is bytes:
            return Encoded(("bytes", state), [])
        tree = self._node(state, ())
        if self.tensors:
            from .saved_arrays import settle_tensors

            settle_tensors(self)
        text = json.dumps(tree, ensure_ascii=False, separators=(",", ":"), allow_nan=False, check_circular=False)
        return Encoded(("json", text.encode()), self.buffers)

    def add(self, path: Path, element: str, shape: Iterable[int], memory: Memory) -> str:
        """Adds a buffer and returns the name that it got."""
        name = self._name(path)
        self.buffers.append((name, element, list(shape), memory.address, memory.length, memory.owner, memory.frozen))
        return name

    def _name(self, path: Path) -> str:
        steps = (step.name if isinstance(step, Attribute) else str(step) for step in path)
        name = "/".join(steps).encode("utf-8", "replace").decode() or "state"
        if len(name.encode()) > _MAX_NAME - 20:
            name = name.encode()[: _MAX_NAME - 20].decode("utf-8", "ignore")
        wanted, number = name, 1
        while name in self._names:
            number += 1
            name = f"{wanted}#{number}"
        self._names.add(name)
        return name

    def refuse(self, path: Path, what: str, hint: str) -> InvalidError:
        return InvalidError(f"{show(path, self.root)} {what}", hint=hint)

    def _node(self, value: Any, path: Path) -> Any:
        kind = type(value)
        if value is None or kind is bool:
            return value
        if kind is int:
            plain = -_PLAIN_INTEGERS <= value < _PLAIN_INTEGERS
            return value if plain else {"$int": hex(value)}
        if kind is float:
            return value if math.isfinite(value) else {"$float": _float_text(value)}
        if kind is str:
            return _text(value)
        container = _CONTAINERS.get(kind)
        if container is not None:
            if kind is list and set(map(type, value)) <= _PLAIN_IN_LISTS and _is_plain(value):
                return list(value)
            return self._enter(value, path, lambda: container(self, value, path))
        scalar = _SCALARS.get(f"{kind.__module__}.{kind.__qualname__}")
        if scalar is not None:
            return scalar(self, value, path)
        if is_namedtuple(kind) or hasattr(kind, "__dataclass_fields__"):
            return self._enter(value, path, lambda: self._record(value, path))
        return self._other(value, path)

    def _enter(self, value: Any, path: Path, go: Callable[[], Any]) -> Any:
        if id(value) in self._inside:
            raise self.refuse(path, "contains itself", "a state is a tree: leave the way back out")
        if len(path) >= MAX_DEPTH:
            raise self.refuse(path, f"is more than {MAX_DEPTH} levels deep", "make the state flatter")
        self._inside.add(id(value))
        try:
            return go()
        finally:
            self._inside.discard(id(value))

    def _mapping(self, value: Mapping[Any, Any], path: Path) -> Any:
        if all(type(key) is str and not key.startswith("$") and _is_unicode(key) for key in value):
            return {key: self._node(item, (*path, key)) for key, item in value.items()}
        pairs = []
        for key, item in value.items():
            if isinstance(key, (dict, list)) or not _is_hashable_kind(key):
                raise self.refuse(
                    path, f"has a key that is {_a(type(key))}", "use text, numbers, booleans, None or tuples of them"
                )
            pairs.append([self._node(key, path), self._node(item, (*path, key))])
        return {"$dict": pairs}

    def _ordered(self, value: OrderedDict[Any, Any], path: Path) -> Any:
        node: dict[str, Any] = {
            "$OrderedDict": [[self._node(key, path), self._node(item, (*path, key))] for key, item in value.items()]
        }
        # A model's `state_dict()` keeps the versions of its modules there.
        more = {name: held for name, held in vars(value).items()} if hasattr(value, "__dict__") else {}
        if more:
            node["attributes"] = {name: self._node(held, (*path, Attribute(name))) for name, held in more.items()}
        return node

    def _sequence(self, value: Iterable[Any], path: Path) -> list[Any]:
        return [self._node(item, (*path, place)) for place, item in enumerate(value)]

    def _record(self, value: Any, path: Path) -> Any:
        kind = type(value)
        if is_namedtuple(kind):
            fields, tag = kind._fields, "$namedtuple"
        else:
            fields, tag = tuple(kind.__dataclass_fields__), "$dataclass"
        held = {
            name: self._node(getattr(value, name), (*path, Attribute(name))) for name in fields if hasattr(value, name)
        }
        return {tag: class_name(kind), "fields": held}

    def _bytes(self, value: bytes | bytearray, path: Path) -> Any:
        tag = "$bytearray" if type(value) is bytearray else "$bytes"
        if len(value) <= _INLINE_BYTES:
            from base64 import b64encode

            return {tag: b64encode(value).decode()}
        from .dtypes import Memory

        held = bytes(value)
        return {tag: None, "buffer": self.add(path, "u8", [len(held)], Memory(0, len(held), held, True))}

    def _other(self, value: Any, path: Path) -> Any:
        # What was never imported made none of the values.
        if any(name in sys.modules for name in ("numpy", "torch", "jax")):
            from . import saved_arrays

            node = saved_arrays.encode(self, value, path)
            if node is not None:
                return node
        from enum import Enum

        if isinstance(value, Enum):
            return {"$enum": class_name(type(value)), "name": value.name}
        if self.allow_pickle:
            return self._pickle(value, path)
        raise self.refuse(path, f"is {_a(type(value))}, which cannot be saved as it is", _hint_for(value))

    def _pickle(self, value: Any, path: Path) -> Any:
        import pickle

        from .dtypes import Memory

        try:
            held = pickle.dumps(value, protocol=5)
        except Exception as error:
            raise self.refuse(path, f"cannot be pickled: {error}", "leave it out of the state") from error
        return {"$pickle": self.add(path, "u8", [len(held)], Memory(0, len(held), held, True))}


def _is_plain(values: list[Any]) -> bool:
    kinds = set(map(type, values))
    if float in kinds and not all(math.isfinite(value) for value in values if type(value) is float):
        return False
    if int in kinds:
        integers = [value for value in values if type(value) is int]
        if min(integers) < -_PLAIN_INTEGERS or max(integers) >= _PLAIN_INTEGERS:
            return False
    return str not in kinds or all(_is_unicode(value) for value in values if type(value) is str)


def _is_unicode(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _text(value: str) -> Any:
    # Half a surrogate, as in names of files that are no UTF-8, is no text for anybody else.
    return value if _is_unicode(value) else {"$str": value.encode("utf-8", "surrogatepass").hex()}


def _float_text(value: float) -> str:
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return struct.pack(">d", value).hex()


def _is_hashable_kind(key: object) -> bool:
    try:
        hash(key)
    except TypeError:
        return False
    return type(key) is not tuple or all(_is_hashable_kind(part) for part in key)


def _a(kind: type) -> str:
    name = kind.__qualname__ if kind.__module__ == "builtins" else class_name(kind)
    return f"{'an' if name[:1] in 'aeiouAEIOU' else 'a'} {name}"


def _hint_for(value: Any) -> str:
    if callable(getattr(value, "state_dict", None)):
        return "save its `state_dict()`"
    if hasattr(value, "bit_generator"):
        return "save its `bit_generator.state`"
    if isinstance(value, (dict, list, tuple, str, int, float)):
        return (
            f"make it a plain {next(k for k in (dict, list, tuple, str, int, float) if isinstance(value, k)).__name__}"
        )
    return (
        "leave it out and make it again after loading, or save with allow_pickle=True, which runs code of the file "
        "when it is loaded"
    )


def _scalar(tag: str, text: Callable[[Any], Any]) -> Callable[[Encoder, Any, Path], Any]:
    return lambda _encoder, value, _path: {tag: text(value)}


def _datetime(encoder: Encoder, value: Any, path: Path) -> Any:
    from datetime import timezone

    if value.tzinfo is not None and type(value.tzinfo) is not timezone:
        raise encoder.refuse(path, "has a time zone with rules", "save it in UTC: `.astimezone(datetime.timezone.utc)`")
    return {"$datetime": value.isoformat(), **({"fold": 1} if value.fold else {})}


_CONTAINERS: dict[type, Callable[[Encoder, Any, Path], Any]] = {
    dict: Encoder._mapping,
    list: Encoder._sequence,
    tuple: lambda encoder, value, path: {"$tuple": encoder._sequence(value, path)},
    set: lambda encoder, value, path: {"$set": encoder._sequence(value, path)},
    frozenset: lambda encoder, value, path: {"$frozenset": encoder._sequence(value, path)},
}

#: By name, so that nothing is imported for them.
_SCALARS: dict[str, Callable[[Encoder, Any, Path], Any]] = {
    "builtins.bytes": Encoder._bytes,
    "builtins.bytearray": Encoder._bytes,
    "builtins.complex": lambda encoder, value, path: {
        "$complex": [encoder._node(value.real, path), encoder._node(value.imag, path)]
    },
    "collections.OrderedDict": lambda encoder, value, path: encoder._enter(
        value, path, lambda: encoder._ordered(value, path)
    ),
    "collections.Counter": lambda encoder, value, path: {
        "$Counter": encoder._enter(
            value,
            path,
            lambda: [[encoder._node(key, path), encoder._node(count, path)] for key, count in value.items()],
        )
    },
    "collections.deque": lambda encoder, value, path: {
        "$deque": encoder._enter(value, path, lambda: encoder._sequence(value, path)),
        "maxlen": value.maxlen,
    },
    "datetime.datetime": _datetime,
    "datetime.date": _scalar("$date", lambda value: value.isoformat()),
    "datetime.timedelta": _scalar("$timedelta", lambda value: [value.days, value.seconds, value.microseconds]),
    "decimal.Decimal": _scalar("$decimal", str),
    "fractions.Fraction": _scalar("$fraction", str),
    "pathlib.PosixPath": _scalar("$path", lambda value: _text(str(value))),
    "pathlib._local.PosixPath": _scalar("$path", lambda value: _text(str(value))),
    "uuid.UUID": _scalar("$uuid", str),
}
