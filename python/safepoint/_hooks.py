"""Hooks: functions of any shape, as the native half runs them on a thread."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ._errors import in_words

if TYPE_CHECKING:
    from ._native import Ending

#: The event loop whose ``async with`` block is ending; hooks that are coroutines run in it.
_home: asyncio.AbstractEventLoop | None = None


@contextmanager
def home(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Coroutines of hooks run in ``loop`` meanwhile."""
    global _home
    earlier, _home = _home, loop
    try:
        yield
    finally:
        _home = earlier


def runner(function: Callable[..., Any]) -> Callable[[float, str, Ending], None]:
    """Runs ``function``, with the seconds that it has if it takes them, and tells how it ended."""
    takes_share = _takes_an_argument(function)

    def run(seconds: float, phase: str, ending: Ending) -> None:
        failure: str | None = None
        try:
            returned = function(seconds) if takes_share else function()
            if inspect.iscoroutine(returned):
                _await(returned, seconds)
        except BaseException as error:
            failure = in_words(error)
        finally:
            ending.tell(failure)

    return run


def _takes_an_argument(function: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return any(
        parameter.kind in positional and parameter.default is inspect.Parameter.empty for parameter in parameters
    )


def _await(coroutine: Any, seconds: float) -> None:
    if _home is not None and _home.is_running():
        asyncio.run_coroutine_threadsafe(coroutine, _home).result(timeout=seconds)
    else:
        asyncio.run(coroutine)
