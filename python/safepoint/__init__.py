"""Stop long-running work at any moment, and go on exactly where it was.

::

    import safepoint

    with safepoint.shutdown(grace=25) as stop:
        for record in stop.iter(records):
            handle(record)

The names below are imported when they are first used, so that ``import safepoint`` costs little. What each one promises
is in its docstring; the book has a tutorial and the reference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._errors import (
        BusyError as BusyError,
        ClosedError as ClosedError,
        CorruptError as CorruptError,
        Error as Error,
        IncompatibleError as IncompatibleError,
        InvalidError as InvalidError,
        IoError as IoError,
        NotFoundError as NotFoundError,
        Stopped as Stopped,
    )
    from ._native import StopReport as StopReport, StopRequest as StopRequest, TimeLimit as TimeLimit
    from ._queue import (
        Lease as Lease,
        Queue as Queue,
        QueuedItem as QueuedItem,
        QueueStats as QueueStats,
    )
    from ._shutdown import (
        Budget as Budget,
        Health as Health,
        Shutdown as Shutdown,
        ShutdownToken as ShutdownToken,
        Unit as Unit,
        active as active,
        follow as follow,
        shutdown as shutdown,
    )

#: Where each public name lives.
_HOMES = {
    "Budget": "_shutdown",
    "BusyError": "_errors",
    "ClosedError": "_errors",
    "CorruptError": "_errors",
    "Error": "_errors",
    "Health": "_shutdown",
    "IncompatibleError": "_errors",
    "InvalidError": "_errors",
    "IoError": "_errors",
    "Lease": "_queue",
    "NotFoundError": "_errors",
    "Queue": "_queue",
    "QueueStats": "_queue",
    "QueuedItem": "_queue",
    "Shutdown": "_shutdown",
    "ShutdownToken": "_shutdown",
    "StopReport": "_native",
    "StopRequest": "_native",
    "Stopped": "_errors",
    "TimeLimit": "_native",
    "Unit": "_shutdown",
    "active": "_shutdown",
    "follow": "_shutdown",
    "shutdown": "_shutdown",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name == "__version__":
        value = import_module("._native", __name__).__version__
    elif name in _HOMES:
        value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
