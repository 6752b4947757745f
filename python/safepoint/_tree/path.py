"""Places in a tree, and what classes are called in a file."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

#: The steps from the root: keys, places and attributes.
Path = tuple[Any, ...]


def show(path: Path, root: str = "state") -> str:
    """A place in the tree as one writes it in Python: ``state["optimizer"][0].rate``."""
    parts = [root]
    for step in path:
        if isinstance(step, Attribute):
            parts.append(f".{step.name}")
        else:
            parts.append(f"[{json.dumps(step) if type(step) is str else repr(step)}]")
    return "".join(parts)


class Attribute(NamedTuple):
    """A step of a path that is an attribute."""

    name: str


def class_name(kind: type) -> str:
    """What a class is called in a file."""
    return f"{kind.__module__}.{kind.__qualname__}"


def is_namedtuple(kind: type) -> bool:
    return issubclass(kind, tuple) and hasattr(kind, "_fields") and hasattr(kind, "_make")


def field_names(kind: type) -> tuple[str, ...]:
    """The fields of a named tuple or a dataclass."""
    named: tuple[str, ...] = getattr(kind, "_fields", ())
    return named or tuple(getattr(kind, "__dataclass_fields__", ()))
