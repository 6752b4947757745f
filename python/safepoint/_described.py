"""What callers say of a state, as JSON for the native half."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ._errors import InvalidError


def as_json(value: object, what: str) -> str:
    """What the caller says, in JSON."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InvalidError(
            f"{what} cannot be written as JSON: {error}", hint="use text, finite numbers, lists and dicts of them"
        ) from error


def details(
    step: int | None,
    metrics: Mapping[str, float] | None,
    pinned: bool,
    extra: object,
    items_processed: int | None,
    items_total: int | None,
    last_item: str | None,
) -> str:
    said: dict[str, Any] = {"pinned": pinned, "extra": extra}
    for word, number in (("step", step), ("items_processed", items_processed), ("items_total", items_total)):
        if number is not None:
            if not 0 <= (number := int(number)) < 1 << 64:
                raise InvalidError(f"`{word}` cannot be {number}", hint="count from 0")
            said[word] = number
    if last_item is not None:
        said["last_item"] = last_item
    if metrics:
        said["metrics"] = {name: _metric(name, value) for name, value in metrics.items()}
    return as_json(said, "what is said of the state")


def _metric(name: str, value: Any) -> float:
    import math

    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise InvalidError(f"metric `{name}` is no number") from error
    if not math.isfinite(number):
        raise InvalidError(f"metric `{name}` is {number}, which is no measure", hint="leave it out")
    return number
