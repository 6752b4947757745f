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
    from ._batch import Batch as Batch, BatchReport as BatchReport, batch as batch
    from ._budget import Budget as Budget
    from ._cache import Cache as Cache
    from ._checkpoint import CheckpointReader as CheckpointReader, CheckpointStore as CheckpointStore
    from ._checkpointed import checkpointed as checkpointed
    from ._effects import Answer as Answer, Doubt as Doubt, Held as Held, Intent as Intent
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
    from ._generations import Checkpoint as Checkpoint, Saved as Saved
    from ._health import Health as Health
    from ._map import Failure as Failure, MapResult as MapResult, map as map
    from ._native import (
        StepsNotice as StepsNotice,
        StepsReport as StepsReport,
        StopReport as StopReport,
        StopRequest as StopRequest,
        TimeLimit as TimeLimit,
    )
    from ._outcome import Refuse as Refuse, Retry as Retry
    from ._queue import (
        Lease as Lease,
        Queue as Queue,
        QueuedItem as QueuedItem,
        QueueStats as QueueStats,
    )
    from ._retention import Retention as Retention
    from ._schedule import Schedule as Schedule
    from ._shutdown import (
        Shutdown as Shutdown,
        ShutdownToken as ShutdownToken,
        Unit as Unit,
        active as active,
        follow as follow,
        shutdown as shutdown,
    )
    from ._steps import Scope as Scope, Steps as Steps
    from ._worker import Attempt as Attempt, worker as worker


def _refuse_other_interpreters() -> None:
    """Signal handlers and the native half belong to the process: a second interpreter would share them unawares."""
    from importlib import import_module

    for name in ("_interpreters", "_xxsubinterpreters"):  # since Python 3.13, and before
        try:
            interpreters = import_module(name)
        except ImportError:
            continue
        if interpreters.get_current() != interpreters.get_main():
            raise ImportError("safepoint works in the main interpreter only: its subinterpreters share signal handlers")
        return


_refuse_other_interpreters()

#: Where each public name lives.
_HOMES = {
    "Answer": "_effects",
    "Attempt": "_worker",
    "Batch": "_batch",
    "BatchReport": "_batch",
    "Budget": "_budget",
    "BusyError": "_errors",
    "Cache": "_cache",
    "Checkpoint": "_generations",
    "CheckpointReader": "_checkpoint",
    "CheckpointStore": "_checkpoint",
    "ClosedError": "_errors",
    "CorruptError": "_errors",
    "Doubt": "_effects",
    "Error": "_errors",
    "Failure": "_map",
    "Health": "_health",
    "Held": "_effects",
    "IncompatibleError": "_errors",
    "Intent": "_effects",
    "InvalidError": "_errors",
    "IoError": "_errors",
    "Lease": "_queue",
    "MapResult": "_map",
    "NotFoundError": "_errors",
    "Queue": "_queue",
    "QueueStats": "_queue",
    "QueuedItem": "_queue",
    "Refuse": "_outcome",
    "Retention": "_retention",
    "Retry": "_outcome",
    "Saved": "_generations",
    "Schedule": "_schedule",
    "Scope": "_steps",
    "Shutdown": "_shutdown",
    "ShutdownToken": "_shutdown",
    "Steps": "_steps",
    "StepsNotice": "_native",
    "StepsReport": "_native",
    "StopReport": "_native",
    "StopRequest": "_native",
    "Stopped": "_errors",
    "TimeLimit": "_native",
    "Unit": "_shutdown",
    "active": "_shutdown",
    "batch": "_batch",
    "checkpointed": "_checkpointed",
    "follow": "_shutdown",
    "map": "_map",
    "shutdown": "_shutdown",
    "worker": "_worker",
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
