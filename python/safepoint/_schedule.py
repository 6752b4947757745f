"""When to save in a loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import _native
from ._times import as_seconds

if TYPE_CHECKING:
    from datetime import timedelta

    from typing_extensions import Self

    from ._checkpoint import CheckpointStore


class Schedule(_native.Schedule):
    """Says at which steps of a loop to save. Ask :meth:`due` once at the end of each step, and save when it says so.

    steps
        Every so many steps.
    seconds
        At the first step that ends so many seconds after the last save; with ``steps``, whichever comes first.
    automatic
        As often as is best where the machine fails once in so many seconds (or ``timedelta``): an hour on a machine
        that may be reclaimed, a month on one's own. It measures what a save costs the loop, and never lets saving
        take more than 3.5 % of the time.
    """

    def __new__(
        cls,
        *,
        steps: int | None = None,
        seconds: float | timedelta | None = None,
        automatic: float | timedelta | None = None,
    ) -> Self:
        return super().__new__(cls, steps, _or_none(seconds), _or_none(automatic))

    def due(self, store: CheckpointStore | None = None) -> bool:
        """Whether to save now. Pass ``store`` when its saves go on in the background, so that an automatic schedule
        knows which steps to compare.
        """
        return self._due(None if store is None else store._native)


def _or_none(value: float | timedelta | None) -> float | None:
    return None if value is None else as_seconds(value)
