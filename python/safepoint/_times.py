"""Lengths of time, as people pass them."""

from __future__ import annotations

from datetime import timedelta

from ._errors import InvalidError


def as_seconds(value: float | timedelta) -> float:
    """A length of time in seconds."""
    if isinstance(value, (int, float)):
        return value
    if isinstance(value, timedelta):
        return value.total_seconds()
    kind = type(value).__qualname__
    raise InvalidError(f"a `{kind}` is no length of time", hint="give seconds as a number, or a `datetime.timedelta`")
