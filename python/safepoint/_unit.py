"""A section that a stop waits for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, ParamSpec, TypeVar, cast

from ._errors import InvalidError, Stopped

if TYPE_CHECKING:
    from types import TracebackType

    from . import _native
    from ._shutdown import ShutdownToken

P = ParamSpec("P")
R = TypeVar("R")


class Unit:
    """A section that a stop waits for; see :meth:`ShutdownToken.unit`."""

    def __init__(self, token: ShutdownToken, name: str) -> None:
        self.name = name
        self._token = token
        self._actions: list[Callable[[], object]] = []
        self._unit: _native.Unit | None = None

    def on_rollback(self, action: Callable[P, R], *arguments: P.args, **named: P.kwargs) -> Callable[P, R]:
        """Registers what undoes the section. It may be ``async`` in an ``async with``. Returns ``action``, so it is a
        decorator, too.
        """
        self._actions.append(_Action(partial(action, *arguments, **named)))
        return action

    def __enter__(self) -> Unit:
        if self._unit is not None:
            raise InvalidError(f"unit `{self.name}` is entered already", hint="make one for each section")
        self._unit = self._token._unit(self.name, self._actions)
        if self._unit is None:
            raise Stopped(f"unit `{self.name}` does not begin: a stop was asked for")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        unit, self._unit = self._unit, None
        if unit is None:
            return
        if kind is None:
            unit.commit()
        else:
            unit.roll_back()

    async def __aenter__(self) -> Unit:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None or not self._actions:
            self.__exit__(kind, error, trace)
            return
        from ._waiting import to_its_end

        try:
            # What undoes is not left in the middle: not for a second cancellation either, which goes on afterwards.
            await to_its_end(self._roll_back_here())
        finally:
            self.__exit__(kind, error, trace)

    async def _roll_back_here(self) -> None:
        failed: list[Callable[[], object]] = []
        while self._actions:
            action = self._actions.pop()
            try:
                undone = action.call() if isinstance(action, _Action) else action()
                if _is_awaitable(undone):
                    await cast("Awaitable[object]", undone)
            except Exception as failure:
                failed.append(_raiser(failure))
        # What failed is named in the report: the native half runs the rest of the list.
        self._actions.extend(failed)


class _Action:
    """A rollback action, as the native half calls it: nobody awaits there."""

    def __init__(self, call: Callable[[], object]) -> None:
        self.call = call

    def __call__(self) -> object:
        undone = self.call()
        if _is_awaitable(undone):
            close = getattr(undone, "close", None)
            if close is not None:
                close()
            raise TypeError("an `async` rollback action runs in an `async with` only")
        return undone


def _is_awaitable(value: object) -> bool:
    # Not `inspect`, which costs more than all the rest of the import.
    return isinstance(value, Awaitable)


def _raiser(failure: Exception) -> Callable[[], object]:
    def fail() -> object:
        raise failure

    return fail
