"""Money or another counted resource."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._shutdown import ShutdownToken


class Budget:
    """Money or another counted resource; see :meth:`ShutdownToken.budget`. Threads may share it."""

    def __init__(
        self, token: ShutdownToken, limit: Decimal | float | str, on_warning: Callable[[Decimal], object] | None
    ) -> None:
        warn = None if on_warning is None else _warner(on_warning)
        self._native = token._budget(limit, warn)

    def spend(self, amount: Decimal | float | str) -> bool:
        """Counts ``amount`` as spent. Says whether the budget is used up: then a stop has been asked for."""
        return self._native.spend(amount)

    @property
    def limit(self) -> Decimal:
        """The whole budget."""
        return Decimal(self._native._limit)

    @property
    def spent(self) -> Decimal:
        """What was spent, exactly: ten times 0.1 is 1."""
        return Decimal(self._native._spent)

    @property
    def left(self) -> Decimal:
        """What is left, 0 at least."""
        return Decimal(self._native._left)

    def lift(self) -> None:
        """From now on, spending asks for no stop."""
        self._native.lift()


def _warner(on_warning: Callable[[Decimal], object]) -> Callable[[str], object]:
    return lambda spent: on_warning(Decimal(spent))
