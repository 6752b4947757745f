"""The blocks that this process is in."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._shutdown import Shutdown, ShutdownToken

#: The thread that entered it, and its token; the innermost last.
_entered: list[tuple[int, Shutdown]] = []

#: In another process of the program: the tokens that follow the main process, by its address.
followed: dict[tuple[int, int, int], ShutdownToken] = {}


def enter(stop: Shutdown) -> None:
    """This thread is in the block from now on."""
    _entered.append((threading.get_ident(), stop))


def leave(stop: Shutdown) -> None:
    """The block has ended."""
    _entered[:] = [entry for entry in _entered if entry[1] is not stop]


def entered() -> list[Shutdown]:
    """All of them, the innermost last."""
    return [stop for _, stop in _entered]


def active() -> ShutdownToken | None:
    """The token of the innermost ``with safepoint.shutdown()`` block: of this thread, else of the program.

    In a worker process that is in none: the one that follows the main process. ``None`` otherwise.
    """
    here = threading.get_ident()
    for thread, stop in reversed(_entered):
        if thread == here:
            return stop
    if _entered:
        return _entered[-1][1]
    return next(reversed(followed.values()), None)
