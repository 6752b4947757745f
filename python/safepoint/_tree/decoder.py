"""From JSON and named pieces of memory to a tree."""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .._errors import CorruptError, Error, IncompatibleError, InvalidError
from .path import Attribute, Path, class_name, show

#: What code meets in a file that was made for it to stumble.
_DAMAGE = (ArithmeticError, AttributeError, IndexError, KeyError, RecursionError, RuntimeError, TypeError, ValueError)


@dataclass
class Decoder:
    """Makes a tree again: first says which memory it needs, then builds it around the memory."""

    #: By name and by full name, the classes that may be made.
    classes: Mapping[str, list[type]]
    allow_pickle: bool = False
    #: What the caller gave to be filled, or ``None``.
    into: object = None
    #: By the buffer's name, what holds its bytes.
    held: dict[str, Any] = field(default_factory=dict)
    #: Copies from what was filled into what shares no memory with it, when all is there.
    copies: list[Callable[[], object]] = field(default_factory=list)
    #: By the node, what the caller gave for it.
    given: dict[int, Any] = field(default_factory=dict)
    #: Objects that several places of the tree share.
    made: dict[Any, Any] = field(default_factory=dict)
    tree: Any = None
    _used: set[int] = field(default_factory=set)

    def place(
        self, value: bytes | None, encoding: str, buffers: list[tuple[str, str, list[int], int]]
    ) -> list[tuple[str, int, int, object]]:
        """Where each buffer goes; called by the native half, again for an older generation if one is damaged."""
        self.held.clear()
        self.copies.clear()
        self.made.clear()
        self.given.clear()
        self._used.clear()
        self.tree = parse(value, encoding)
        known = {name: (element, shape, length) for name, element, shape, length in buffers}
        places: list[tuple[str, int, int, object]] = []
        try:
            self._find(self.tree, (), self.into, known, places)
        except Error:
            raise
        except _DAMAGE as error:
            raise CorruptError(f"the state does not fit its buffers: {error}") from error
        if self.into is not None:
            self._check_into(self.into, ())
        return places

    def decode(self, value: bytes | None, encoding: str) -> Any:
        """The tree, when its buffers are filled."""
        if encoding == "bytes":
            return value
        if self.tree is None:
            # There was no buffer, so nobody asked for places.
            self.tree = parse(value, encoding)
            if self.into is not None:
                self._check_into(self.into, ())
        for copy in self.copies:
            copy()
        return self._value(self.tree, ())

    # Which memory.

    def _find(
        self,
        node: Any,
        path: Path,
        into: Any,
        known: dict[str, tuple[str, list[int], int]],
        places: list[tuple[str, int, int, object]],
    ) -> None:
        if isinstance(node, list):
            for place, item in enumerate(node):
                self._find(item, (*path, place), _at(into, place), known, places)
            return
        if not isinstance(node, dict):
            return
        tag = next(iter(node), None)
        if tag is None or not tag.startswith("$"):
            for key, item in node.items():
                self._find(item, (*path, key), _at(into, key), known, places)
        elif tag in ("$dict", "$OrderedDict"):
            for key, item in node[tag]:
                made = self._value(key, path)
                self._find(item, (*path, made), _at(into, made), known, places)
            if "attributes" in node:
                for name, item in node["attributes"].items():
                    self._find(item, (*path, Attribute(name)), None, known, places)
        elif tag in ("$tuple", "$deque", "$set", "$frozenset"):
            self._find(node[tag], path, into, known, places)
        elif tag in ("$dataclass", "$namedtuple"):
            for name, item in node["fields"].items():
                self._find(item, (*path, Attribute(name)), getattr(into, name, None), known, places)
        else:
            self._find_buffer(node, tag, path, into, known, places)

    def _find_buffer(
        self,
        node: dict[str, Any],
        tag: str,
        path: Path,
        into: Any,
        known: dict[str, tuple[str, list[int], int]],
        places: list[tuple[str, int, int, object]],
    ) -> None:
        if "buffer" in node:
            name = node["buffer"]
        elif tag in ("$array", "$pickle", "$tensor"):
            name = node[tag]
        else:
            return
        if name not in known:
            raise CorruptError(f"{show(path)} is kept in a buffer `{name}`, which is not there")
        element, shape, length = known[name]
        if tag in ("$array", "$tensor"):
            from . import loaded_arrays

            loaded_arrays.find(self, node, tag, path, into, element, shape, length, places)
        elif name not in self.held:
            from .._native import blank_bytes

            self.held[name] = memory = blank_bytes(length)
            places.append((name, 0, length, memory))

    def use(self, target: object) -> None:
        """Notes that something given by the caller is filled."""
        self._used.add(id(target))

    def _check_into(self, into: Any, path: Path) -> None:
        """What was given and is not filled would go on with what it has, silently."""
        for here, leaf in _leaves(into, path):
            if id(leaf) not in self._used:
                raise IncompatibleError(
                    f"{show(here, 'into')} cannot be filled: the checkpoint has no array there",
                    hint="give only what was saved, in the shape in which it was saved",
                )

    # Values.

    def _value(self, node: Any, path: Path) -> Any:
        if isinstance(node, list):
            return [self._value(item, (*path, place)) for place, item in enumerate(node)]
        if not isinstance(node, dict):
            return node
        tag = next(iter(node), None)
        if tag is None or not tag.startswith("$"):
            return {key: self._value(item, (*path, key)) for key, item in node.items()}
        make = _MAKERS.get(tag)
        if make is None:
            raise IncompatibleError(
                f"{show(path)} was saved as `{tag}`, which this version does not know",
                hint="load it with the version of safepoint that saved it, or a newer one",
            )
        try:
            return make(self, node, path)
        except Error:
            raise
        except _DAMAGE as error:
            raise CorruptError(f"{show(path)} cannot be made again from its `{tag}`: {error}") from error

    def _pairs(self, pairs: list[Any], path: Path) -> list[tuple[Any, Any]]:
        made = []
        for key, item in pairs:
            name = self._value(key, path)
            made.append((name, self._value(item, (*path, name))))
        return made

    def _ordered(self, node: dict[str, Any], path: Path) -> Any:
        from collections import OrderedDict

        made = OrderedDict(self._pairs(node["$OrderedDict"], path))
        for name, item in node.get("attributes", {}).items():
            setattr(made, name, self._value(item, (*path, Attribute(name))))
        return made

    def _class(self, name: str, path: Path, what: str) -> type:
        found = self.classes.get(name) or self.classes.get(name.rpartition(".")[2]) or []
        if len(found) == 1:
            return found[0]
        if found:
            raise InvalidError(f"{show(path)} is {what} `{name}`, and several classes of that name were given")
        raise InvalidError(
            f"{show(path)} is {what} `{name}`, a class that was not given",
            hint="pass `like=` the class, or an example of the state: a file is never trusted to name a class",
        )

    def _dataclass(self, node: dict[str, Any], path: Path) -> Any:
        import dataclasses

        kind = self._class(node["$dataclass"], path, "a dataclass")
        if not dataclasses.is_dataclass(kind):
            raise IncompatibleError(f"{show(path)} was saved from a dataclass, and `{class_name(kind)}` is none")
        held = node["fields"]
        fields = {each.name: each for each in dataclasses.fields(kind)}
        _check_fields(set(held) - set(fields), path, kind)
        made = object.__new__(kind)
        for name, each in fields.items():
            if name in held:
                value = self._value(held[name], (*path, Attribute(name)))
            elif each.default is not dataclasses.MISSING:
                value = each.default
            elif each.default_factory is not dataclasses.MISSING:
                value = each.default_factory()
            else:
                raise _missing(name, path, kind)
            object.__setattr__(made, name, value)
        return made

    def _namedtuple(self, node: dict[str, Any], path: Path) -> Any:
        kind: Any = self._class(node["$namedtuple"], path, "a named tuple")
        held = {name: self._value(item, (*path, Attribute(name))) for name, item in node["fields"].items()}
        _check_fields(set(held) - set(kind._fields), path, kind)
        defaults = kind._field_defaults
        missing = [name for name in kind._fields if name not in held and name not in defaults]
        if missing:
            raise _missing(missing[0], path, kind)
        return kind._make(held.get(name, defaults.get(name)) for name in kind._fields)

    def _enum(self, node: dict[str, Any], path: Path) -> Any:
        kind: Any = self._class(node["$enum"], path, "an enum")
        return kind[node["name"]]

    def _bytes(self, node: dict[str, Any], path: Path) -> Any:
        from base64 import b64decode

        tag = next(iter(node))
        held = self.held[node["buffer"]] if "buffer" in node else b64decode(node[tag], validate=True)
        return bytearray(held) if tag == "$bytearray" else held

    def _pickle(self, node: dict[str, Any], path: Path) -> Any:
        if not self.allow_pickle:
            raise InvalidError(
                f"{show(path)} was saved as a pickle, which runs code of the file when it is loaded",
                hint="load with allow_pickle=True if you trust who wrote the file",
            )
        import pickle

        try:
            return pickle.loads(self.held[node["$pickle"]])
        except Exception as error:
            raise IncompatibleError(f"{show(path)} cannot be unpickled: {error}") from error

    def _array(self, node: dict[str, Any], path: Path) -> Any:
        from . import loaded_arrays

        return loaded_arrays.decode(self, node, path)


def _check_fields(unknown: set[str], path: Path, kind: type) -> None:
    if unknown:
        raise IncompatibleError(
            f"{show(path)} has `{min(unknown)}`, which `{class_name(kind)}` has not",
            hint="load it with the class that it was saved from, and convert it",
        )


def _missing(name: str, path: Path, kind: type) -> IncompatibleError:
    return IncompatibleError(
        f"{show(path)} has no `{name}`, which `{class_name(kind)}` needs", hint="give the field a default"
    )


def _float(text: str) -> float:
    if text in ("inf", "-inf"):
        return float(text)
    (value,) = struct.unpack(">d", bytes.fromhex(text))
    return float(value)


def _make_datetime(decoder: Decoder, node: dict[str, Any], path: Path) -> Any:
    from datetime import datetime

    return datetime.fromisoformat(node["$datetime"]).replace(fold=node.get("fold", 0))


def _counter(pairs: list[tuple[Any, Any]]) -> Any:
    from collections import Counter

    return Counter(dict(pairs))


def _make_deque(decoder: Decoder, node: dict[str, Any], path: Path) -> Any:
    from collections import deque

    return deque(decoder._value(node["$deque"], path), node["maxlen"])


def _imported(module: str, name: str) -> Callable[[Decoder, dict[str, Any], Path], Any]:
    """A maker of the standard library's `name`, from one text or from a list of arguments."""

    def make(decoder: Decoder, node: dict[str, Any], path: Path) -> Any:
        from importlib import import_module

        held = decoder._value(next(iter(node.values())), path)
        kind = getattr(import_module(module), name)
        return kind(*held) if isinstance(held, list) else kind(held)

    return make


def _make_date(decoder: Decoder, node: dict[str, Any], path: Path) -> Any:
    from datetime import date

    return date.fromisoformat(node["$date"])


_MAKERS: dict[str, Callable[[Decoder, dict[str, Any], Path], Any]] = {
    "$Counter": lambda decoder, node, path: _counter(decoder._pairs(node["$Counter"], path)),
    "$OrderedDict": Decoder._ordered,
    "$array": Decoder._array,
    "$bytearray": Decoder._bytes,
    "$bytes": Decoder._bytes,
    "$complex": lambda decoder, node, path: complex(*(decoder._value(part, path) for part in node["$complex"])),
    "$dataclass": Decoder._dataclass,
    "$date": _make_date,
    "$datetime": _make_datetime,
    "$decimal": _imported("decimal", "Decimal"),
    "$deque": _make_deque,
    "$dict": lambda decoder, node, path: dict(decoder._pairs(node["$dict"], path)),
    "$enum": Decoder._enum,
    "$float": lambda decoder, node, path: _float(node["$float"]),
    "$fraction": _imported("fractions", "Fraction"),
    "$frozenset": lambda decoder, node, path: frozenset(decoder._value(node["$frozenset"], path)),
    "$generator": Decoder._array,
    "$int": lambda decoder, node, path: int(node["$int"], 16),
    "$namedtuple": Decoder._namedtuple,
    "$path": _imported("pathlib", "Path"),
    "$pickle": Decoder._pickle,
    "$scalar": Decoder._array,
    "$set": lambda decoder, node, path: set(decoder._value(node["$set"], path)),
    "$str": lambda decoder, node, path: bytes.fromhex(node["$str"]).decode("utf-8", "surrogatepass"),
    "$tensor": Decoder._array,
    "$timedelta": _imported("datetime", "timedelta"),
    "$torch": Decoder._array,
    "$tuple": lambda decoder, node, path: tuple(decoder._value(node["$tuple"], path)),
    "$uuid": _imported("uuid", "UUID"),
}


def parse(value: bytes | None, encoding: str) -> Any:
    """The tree of a value in JSON."""
    if encoding in ("none", "bytes") or value is None:
        return None
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise CorruptError(f"the state is no JSON: {error}") from error


def _at(into: Any, step: Any) -> Any:
    """What the caller gave for a place in a container."""
    try:
        return into[step] if isinstance(into, (Mapping, list, tuple)) else None
    except (KeyError, IndexError, TypeError):
        return None


def _leaves(into: Any, path: Path) -> Iterable[tuple[Path, Any]]:
    """The arrays in a tree that is to be filled."""
    if isinstance(into, Mapping):
        for key, item in into.items():
            yield from _leaves(item, (*path, key))
    elif isinstance(into, (list, tuple)):
        names = getattr(into, "_fields", None)
        for place, item in enumerate(into):
            yield from _leaves(item, (*path, Attribute(names[place]) if names else place))
    elif hasattr(type(into), "__dataclass_fields__"):
        for name in type(into).__dataclass_fields__:
            yield from _leaves(getattr(into, name, None), (*path, Attribute(name)))
    elif "numpy" in sys.modules or "torch" in sys.modules:
        from .dtypes import is_fillable

        if is_fillable(into):
            yield path, into
