"""Which checkpoints stay."""

from __future__ import annotations

from dataclasses import dataclass

from ._errors import InvalidError


@dataclass(frozen=True)
class Retention:
    """Which generations stay when another one was saved. Whatever any rule keeps stays; the newest two always do.

    ::

        Retention(newest=5, smallest=("loss", 1))
    """

    #: The newest so many; ``None`` for all.
    newest: int | None = 20
    #: Each generation whose number is a multiple of this as well; 0 for none.
    every: int = 0
    #: A metric, and how many generations with its smallest values stay as well.
    smallest: tuple[str, int] | None = None
    #: A metric, and how many generations with its largest values stay as well.
    largest: tuple[str, int] | None = None
    #: At most so many bytes in files, whatever the other rules keep; pinned ones and the newest two stay.
    max_bytes: int | None = None

    def _rules(self) -> tuple[int | None, int, tuple[str, int, bool] | None, int | None]:
        """As the native half takes them."""
        if self.smallest is not None and self.largest is not None:
            raise InvalidError("a retention goes by one metric", hint="give `smallest` or `largest`")
        best = None
        if self.smallest is not None:
            best = (*self.smallest, True)
        elif self.largest is not None:
            best = (*self.largest, False)
        return self.newest, self.every, best, self.max_bytes
