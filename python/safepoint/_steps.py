"""Steps that run once, and effects that are never repeated by mistake.

The native half is the library's room in its long form: something begins, and ends. The front runs the bodies in
between, so that a body may be a function or a coroutine. What waits for a sync does so without the interpreter, and for
a coroutine on a thread of the steps' own, never on the event loop.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, cast, final, overload

from . import _effects, _native
from ._errors import ClosedError, InvalidError, Stopped
from ._inside import entered, inside
from ._state import directory
from ._syncs import Syncs

if TYPE_CHECKING:
    import os
    from types import TracebackType

    from ._effects import Doubt, Intent
    from ._native import StepsNotice, StepsReport
    from ._shutdown import ShutdownToken

T = TypeVar("T")
P = ParamSpec("P")
R = TypeVar("R")

#: The longest name that is made of a function and its arguments; a longer one ends in a digest.
_LONGEST_CALL = 120

_NOT_GIVEN: Any = object()


class Scope:
    """A place for names: those of its steps begin with its own, joined by ``/``. Threads and coroutines share it."""

    def __init__(self, scope: _native.Scope, syncs: Syncs) -> None:
        self._native = scope
        self._syncs = syncs

    @property
    def name(self) -> str:
        """Its whole name; empty for the outermost."""
        return self._native.name

    def scope(self, name: str) -> Scope:
        """A scope in this one. Its name is checked with those of its steps."""
        return Scope(self._native.scope(name), self._syncs)

    def stage(self, name: str) -> Stage:
        """A scope whose beginning and end are told: ``with steps.stage("T0") as tier:``, or ``async with``.

        After an exception the stage, and all that is inside it, may be asked for again.
        """
        return Stage(self, name)

    @overload
    def step(self, name: str, body: Callable[P, R], /, *arguments: P.args, **named: P.kwargs) -> R: ...
    @overload
    def step(self, function: Callable[P, R], /) -> Decorated[P, R]: ...
    @overload
    def step(
        self,
        name: str | None = None,
        /,
        *,
        check: Callable[[Any], object] | None = None,
        memoise_errors: bool = False,
    ) -> Decorator: ...
    def step(self, name: Any = None, body: Any = None, /, *arguments: Any, **named: Any) -> Any:
        """Gives the recorded result of a step, or runs it and records what it returns.

        As a call, ``steps.step("fetch", fetch, url)``: runs ``fetch(url)``. When that is a coroutine function, this
        gives a coroutine to await. As a decorator, ``@steps.step`` or ``@steps.step("name")``: each call is a step
        whose name is made of the function's name, or the given one, and the arguments; for options,
        ``@steps.step(check=.., memoise_errors=True)``, see :meth:`at`.

        The result is a JSON value, and what is returned is what was read back, in the first run too: a tuple becomes a
        list. A value that JSON cannot hold is refused with the place where it is.

        An exception of the body goes on as it is and nothing is recorded: the step may be asked for again. When this
        returns, the result survives ``kill -9`` and a power cut.

        Raises :class:`safepoint.Stopped` once a stop was asked for; :class:`safepoint.InvalidError` for a name that
        cannot be one, that was asked for before in this run, and for a result that is no JSON value;
        :class:`safepoint.IoError` for a failed write, after which all else is refused.
        """
        if body is not None:
            return _Step(self, name, None, False).run(body, *arguments, **named)
        if callable(name):
            return Decorator(self, None, None, False)(name)
        return Decorator(self, name, named.pop("check", None), bool(named.pop("memoise_errors", False)), named)

    def at(self, name: str, *, check: Callable[[Any], object] | None = None, memoise_errors: bool = False) -> _Step:
        """A step with options, to be run by ``steps.at("fetch", check=..).run(fetch, url)``.

        check
            Is asked whether a recorded result still holds, for example whether the file that it names is there. If it
            gives something false, that is told and the step runs again.
        memoise_errors
            Records an ``Exception`` of the body, too: later runs get its text as a :class:`safepoint.InvalidError`
            instead of running the step. For errors that are certain to come again.
        """
        return _Step(self, name, check, memoise_errors)

    async def step_async(
        self, name: str, body: Callable[P, Awaitable[T]], /, *arguments: P.args, **named: P.kwargs
    ) -> T:
        """As :meth:`step`, for any function that gives something to await.

        A coroutine that is cancelled leaves its step to be asked for again; when its body was complete, the result is
        recorded all the same.
        """
        return await _Step(self, name, None, False).run_async(body, *arguments, **named)

    def effect(self, key: str, body: Callable[[Intent], R], *, in_doubt: str | Callable[[Doubt], Any] = "hold") -> R:
        """Brings about what must not be repeated: a payment, a mail, an order.

        That it is about to happen is made durable before ``body(intent)`` runs, and its result after. If only the
        first is found, because the process died or the body raised, the effect is *in doubt*, and ``in_doubt`` decides:

        ``"hold"``
            a person does: :class:`safepoint.Held` is raised, in this and all later runs, until it is resolved.
        ``"run_again"``
            the body runs again, with the same ``intent.idempotency_key``.
        a function
            is called with a :class:`Doubt`, and answers ``doubt.completed(value)`` or ``doubt.not_done()``.

        A body that knows that nothing has happened says so: ``raise intent.not_done(error)``. Body and function may be
        coroutine functions; then this gives a coroutine to await.

        Raises what ``body`` raises, and as :meth:`step`.
        """
        run = _effects.run_async if inspect.iscoroutinefunction(body) else _effects.run
        return cast("R", run(self._native, self._syncs, key, cast("Any", body), in_doubt))

    def recorded(self, name: str, default: Any = None) -> Any:
        """The recorded result of a step, any number of times; ``default`` if it has none."""
        recorded = self._native.recorded(name)
        return default if recorded is None else recorded.value

    def forget(self, name: str) -> bool:
        """Forgets what is recorded of a step: when it is asked for again, it runs. Says whether anything was recorded.

        Raises :class:`safepoint.InvalidError` while the step is in progress.
        """
        return self._native.forget(name)

    def resolve(self, key: str, *, done: Any = _NOT_GIVEN, again: bool = False) -> None:
        """Says what is true of an effect that is in doubt or held: ``done=value``, it has happened with this result, or
        ``again=True``, it has not.

        Raises :class:`safepoint.NotFoundError` when there is no such effect, :class:`safepoint.InvalidError` when it is
        not in doubt or was asked for in this run.
        """
        if again == (done is not _NOT_GIVEN):
            raise InvalidError(
                f"effect `{key}` is resolved in one of two ways",
                hint="`done=value` if it has happened, `again=True` if not",
            )
        if again:
            self._native.resolve_again(key)
        else:
            self._native.resolve_done(key, done)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} `{self.name}`>" if self.name else f"<{type(self).__name__}>"


class Steps(Scope):
    """Steps of one job, durable in one directory that this process owns: ``with safepoint.Steps("experiment") as
    steps:``, or ``async with``. It is the outermost :class:`Scope`, too.

    state
        The job's name, for the directory ``.safepoint/<name>``; or a path-like object, for that directory.
    stop
        The token whose stop waits for the steps in progress and lets no other begin. Without it, that of the innermost
        ``with safepoint.shutdown()`` block; ``False`` for none.
    on_notice
        Is called with a :class:`StepsNotice` of all that happens, on the thread where it happens; ``print`` will do.

    Raises :class:`safepoint.BusyError` while another process has the directory.
    """

    #: What the run came to; ``None`` until it has ended, and after an exception without a stop.
    report: StepsReport | None = None

    def __init__(
        self,
        state: str | os.PathLike[str],
        *,
        stop: ShutdownToken | bool | None = None,
        on_notice: Callable[[StepsNotice], object] | None = None,
    ) -> None:
        if stop is None or stop is True:
            from ._shutdown import active

            stop = active()
        self._stop = stop or None
        self._owner, scope = _native.Steps.open(directory(state, "`Steps`"), self._stop, on_notice)
        super().__init__(scope, Syncs())

    @property
    def run(self) -> int:
        """The number of this run, from 1: one that is gone on with has several."""
        return self._owner.run

    def close(self) -> StepsReport:
        """Ends the run and gives what it came to; a second time, the same.

        If no stop was asked for, the job counts as completed, unless an effect is held.

        Raises :class:`safepoint.ClosedError` after a failed write.
        """
        self._syncs.close()
        report = self._owner.close()
        if report is not None:
            self.report = report
        if self.report is None:
            raise ClosedError("these steps have ended with an exception")
        return self.report

    def __enter__(self) -> Steps:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        was_stopped = self._stop is not None and self._stop.requested
        # After a stop, an exception is the stop's: work that was given up, a connection that was closed.
        if kind is None or issubclass(kind, Stopped) or was_stopped:
            self.close()
        else:
            self._syncs.close()
            self._owner.end_early()

    async def __aenter__(self) -> Steps:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)


class Stage:
    """A scope whose beginning and end are told; see :meth:`Scope.stage`."""

    def __init__(self, scope: Scope, name: str) -> None:
        self._scope = scope
        self._name = name
        self._stage: _native.StageInProgress | None = None
        self._exit: Any = None

    def __enter__(self) -> Scope:
        if self._stage is not None:
            raise InvalidError(f"stage `{self._name}` is entered already", hint="make one for each block")
        self._stage = self._scope._native.begin_stage(self._name, inside.get())
        self._exit = entered(self._stage.within)
        self._exit.__enter__()
        return Scope(self._stage.scope(), self._scope._syncs)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        stage, self._stage = self._stage, None
        if stage is None:
            return
        self._exit.__exit__(None, None, None)
        if error is None:
            stage.complete()
        elif isinstance(error, Exception):
            stage.fail(error)
        else:
            stage.cut_off()

    async def __aenter__(self) -> Scope:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)


@final
class _Step:
    """A step with its options; see :meth:`Scope.at`."""

    def __init__(self, scope: Scope, name: str, check: Callable[[Any], object] | None, memoise_errors: bool) -> None:
        self._scope = scope
        self._name = name
        self._check = check
        self._memoise_errors = memoise_errors

    def run(self, body: Callable[P, R], /, *arguments: P.args, **named: P.kwargs) -> R:
        """Gives the recorded result, or runs ``body``; with a coroutine function, gives a coroutine to await."""
        if inspect.iscoroutinefunction(body):
            return cast("R", self.run_async(cast("Any", body), *arguments, **named))
        begun = self._begin()
        if isinstance(begun, _native.Recorded):
            return cast("R", begun.value)
        try:
            with entered(begun.within):
                value = body(*arguments, **named)
            if inspect.iscoroutine(value):
                value.close()
                raise TypeError(
                    f"the body of step `{self._name}` gave a coroutine: "
                    "make it a coroutine function, or use `step_async`"
                )
        except BaseException as error:
            _end(begun, error)
            raise
        return cast("R", begun.complete(value))

    async def run_async(self, body: Callable[P, Awaitable[T]], /, *arguments: P.args, **named: P.kwargs) -> T:
        """Gives the recorded result, or runs what ``body`` gives to await."""
        begun = self._begin()
        if isinstance(begun, _native.Recorded):
            return cast("T", begun.value)
        try:
            with entered(begun.within):
                value = await body(*arguments, **named)
        except BaseException as error:
            if self._memoise_errors and isinstance(error, Exception):
                await self._scope._syncs.do(begun.fail, error)
            else:
                _end(begun, error)
            raise
        return cast("T", await self._scope._syncs.do(begun.complete, value))

    def _begin(self) -> _native.StepInProgress | _native.Recorded:
        return self._scope._native.begin_step(self._name, inside.get(), self._check, self._memoise_errors)


@final
class Decorator:
    """Makes a function whose calls are steps; see :meth:`Scope.step`."""

    def __init__(
        self,
        scope: Scope,
        name: str | None,
        check: Callable[[Any], object] | None,
        memoise_errors: bool,
        unknown: dict[str, object] | None = None,
    ) -> None:
        if unknown:
            raise TypeError(f"`step` has no option `{next(iter(unknown))}`")
        self._scope = scope
        self._name = name
        self._check = check
        self._memoise_errors = memoise_errors

    def __call__(self, function: Callable[P, R]) -> Decorated[P, R]:
        return Decorated(function, self)


class Decorated(Generic[P, R]):
    """A function whose calls are steps; ``__wrapped__`` is the function itself."""

    __name__: str
    __wrapped__: Callable[P, R]

    def __init__(self, function: Callable[P, R], decorator: Decorator) -> None:
        self._function = function
        self._decorator = decorator
        self._signature = inspect.signature(function)
        update_wrapper(self, function)

    def __call__(self, *arguments: P.args, **named: P.kwargs) -> R:
        decorator = self._decorator
        name = self.name_of(*arguments, **named)
        step = _Step(decorator._scope, name, decorator._check, decorator._memoise_errors)
        return step.run(self._function, *arguments, **named)

    def name_of(self, *arguments: P.args, **named: P.kwargs) -> str:
        """The step's name of a call: the function's name and, if it takes any, its arguments as JSON.

        A name that would be long has a digest of the arguments instead.
        """
        said = self._decorator._name or str(getattr(self._function, "__name__", "step"))
        bound = self._signature.bind(*arguments, **named)
        bound.apply_defaults()
        if not bound.arguments:
            return said
        plain = _native._plain(dict(bound.arguments), f"the call of step `{said}`")
        text = _canonical(plain)
        if len(said) + len(text) > _LONGEST_CALL:
            from hashlib import sha256

            text = sha256(text.encode()).hexdigest()[:32]
        return f"{said}({text.removeprefix('{').removesuffix('}')})"


def _canonical(arguments: dict[str, Any]) -> str:
    """The one JSON text of these arguments, as a part of a name: without control characters and `/`."""
    import json

    text = json.dumps(arguments, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return re.sub(r"[/\x00-\x1f\x7f-\x9f]", lambda found: f"\\u{ord(found[0]):04x}", text)


def _end(step: _native.StepInProgress, error: BaseException) -> None:
    """Ends a step with what its body raised. What is no ``Exception`` came from outside: a stop, Ctrl-C, a task that
    was cancelled. Then the step has not failed, it was cut off.
    """
    if isinstance(error, Exception):
        step.fail(error)
    else:
        step.cut_off()
