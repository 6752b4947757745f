"""Which classes a tree may be made of: those that the caller shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .path import class_name, field_names, is_namedtuple


def classes_of(like: object) -> dict[str, list[type]]:
    """The classes that an example, a class or several of them name."""
    from enum import Enum

    found: dict[str, list[type]] = {}
    seen: set[int] = set()

    def note(kind: type) -> None:
        for name in (class_name(kind), kind.__qualname__.rpartition(".")[2]):
            known = found.setdefault(name, [])
            if kind not in known:
                known.append(kind)

    def visit(value: Any) -> None:
        if id(value) in seen or value is None:
            return
        seen.add(id(value))
        kind = value if isinstance(value, type) else type(value)
        has_fields = is_namedtuple(kind) or hasattr(kind, "__dataclass_fields__")
        if (has_fields or isinstance(value, type) or issubclass(kind, Enum)) and kind.__module__ != "builtins":
            note(kind)
        if isinstance(value, type):
            for hint in _hints(value):
                visit_hint(hint)
        elif isinstance(value, Mapping):
            for item in value.values():
                visit(item)
        elif isinstance(value, (list, tuple, set, frozenset)):
            for item in value:
                visit(item)
        if not isinstance(value, type) and (hasattr(kind, "__dataclass_fields__") or is_namedtuple(kind)):
            for name in field_names(kind):
                visit(getattr(value, name, None))
            visit(kind)

    def visit_hint(hint: Any) -> None:
        from typing import get_args

        if isinstance(hint, type) and (
            is_namedtuple(hint) or hasattr(hint, "__dataclass_fields__") or issubclass(hint, Enum)
        ):
            visit(hint)
        for part in get_args(hint):
            visit_hint(part)

    visit(like)
    return found


def _hints(kind: type) -> list[Any]:
    from typing import get_type_hints

    try:
        return list(get_type_hints(kind).values())
    except Exception:
        # A hint that cannot be looked up says nothing of other classes.
        return []
