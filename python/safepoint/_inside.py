"""What runs inside of what: a step that is begun in the body of another is of that one.

In a context variable, so that it is so also in another asyncio task, or by ``asyncio.to_thread``, and not in a thread
that was started otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from . import _native

#: What the code that runs now is inside of, the outermost first.
inside: ContextVar[tuple[_native.Within, ...]] = ContextVar("safepoint_inside", default=())


@contextmanager
def entered(within: _native.Within) -> Iterator[None]:
    """What is begun in the block is inside of ``within``."""
    token = inside.set((*inside.get(), within))
    try:
        yield
    finally:
        inside.reset(token)
