"""What a store noticed beside the results of calls."""

from __future__ import annotations

from collections.abc import Callable, Iterable

#: The logger of whoever gave no function.
LOGGER = "safepoint"


def tell(notices: Iterable[str], to: Callable[[str], object] | None) -> None:
    """Calls ``to`` with each notice; without it, logs a warning."""
    for notice in notices:
        if to is not None:
            to(notice)
        else:
            import logging

            logging.getLogger(LOGGER).warning("%s", notice)
