"""Effects: what must not be done twice, and who decides when nobody knows whether it was done."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar, final

from . import _native
from ._errors import InvalidError
from ._inside import entered, inside

if TYPE_CHECKING:
    from ._syncs import Syncs

E = TypeVar("E", bound=BaseException)


class Held(Exception):
    """An effect is in doubt, and waits for a person to say what is true: ``safepoint steps resolve``, or
    :meth:`safepoint.Scope.resolve`.
    """

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key

    def __str__(self) -> str:
        return (
            f"effect `{self.key}` is held: it may have happened or not, and a person is to say so "
            "(`safepoint steps resolve`)"
        )


@final
class Intent:
    """An effect that is about to be brought about; what its body is given."""

    def __init__(self, idempotency_key: str) -> None:
        #: What the other side can tell repetitions by: a UUID, the same in all runs.
        self.idempotency_key = idempotency_key
        self._not_done: BaseException | None = None

    def not_done(self, error: E) -> E:
        """Says that the effect has certainly not happened, and returns ``error``, to be raised: ``raise
        intent.not_done(error)``.

        Without this, an effect whose body raises is in doubt: the request may have arrived although its answer did not.
        """
        self._not_done = error
        return error


@final
class Doubt:
    """An effect in doubt; what the function is given that finds out."""

    def __init__(self, idempotency_key: str) -> None:
        #: What the other side can tell repetitions by: the key that the body was given.
        self.idempotency_key = idempotency_key

    def completed(self, value: object) -> Answer:
        """The effect has happened, with this result."""
        return Answer(True, value)

    def not_done(self) -> Answer:
        """The effect has not happened, and never will by itself."""
        return Answer(False, None)


@final
class Answer:
    """What is true of an effect that was in doubt; made by :class:`Doubt`."""

    def __init__(self, is_done: bool, value: object) -> None:
        self._is_done = is_done
        self._value = value


#: What is done about doubt: "hold", "run_again", or a function that finds out.
Policy = str | Callable[[Doubt], Any]


def run(scope: _native.Scope, _: Syncs, key: str, body: Callable[[Intent], Any], in_doubt: Policy) -> Any:
    """Brings an effect about; see :meth:`safepoint.Scope.effect`."""
    _check_policy(in_doubt)
    begun = scope.begin_effect(key, inside.get())
    if isinstance(begun, _native.EffectInDoubt):
        if in_doubt == "hold":
            begun.hold()
            begun = None
        elif isinstance(in_doubt, str):
            begun = begun.run_again(inside.get())
        else:
            try:
                answer = _answered(key, in_doubt(Doubt(begun.idempotency_key)))
            except BaseException:
                begun.leave()
                raise
            if answer._is_done:
                return begun.complete(answer._value)
            begun = begun.run_again(inside.get())
    if begun is None:
        raise Held(_whole(scope, key))
    if isinstance(begun, _native.Recorded):
        return begun.value
    intent = Intent(begun.idempotency_key)
    try:
        with entered(begun.within):
            value = body(intent)
        if inspect.iscoroutine(value):
            value.close()
            raise TypeError(f"the body of effect `{key}` gave a coroutine: make it a coroutine function")
    except BaseException as error:
        if intent._not_done is error:
            begun.not_done(error)
        else:
            begun.fail(error)
        raise
    return begun.complete(value)


async def run_async(
    scope: _native.Scope, syncs: Syncs, key: str, body: Callable[[Intent], Awaitable[Any]], in_doubt: Policy
) -> Any:
    """As :func:`run`, for a coroutine function."""
    _check_policy(in_doubt)
    around, do = inside.get(), syncs.do
    begun = await do(scope.begin_effect, key, around, undo=_leave)
    if isinstance(begun, _native.EffectInDoubt):
        if in_doubt == "hold":
            await do(begun.hold)
            begun = None
        elif isinstance(in_doubt, str):
            begun = await do(begun.run_again, around, undo=_leave)
        else:
            try:
                answer = in_doubt(Doubt(begun.idempotency_key))
                if inspect.isawaitable(answer):
                    answer = await answer
                answer = _answered(key, answer)
            except BaseException:
                begun.leave()
                raise
            if answer._is_done:
                return await do(begun.complete, answer._value)
            begun = await do(begun.run_again, around, undo=_leave)
    if begun is None:
        raise Held(_whole(scope, key))
    if isinstance(begun, _native.Recorded):
        return begun.value
    intent = Intent(begun.idempotency_key)
    try:
        with entered(begun.within):
            value = await body(intent)
    except BaseException as error:
        if intent._not_done is error:
            await do(begun.not_done, error)
        else:
            begun.fail(error)
        raise
    return await do(begun.complete, value)


def _whole(scope: _native.Scope, key: str) -> str:
    return f"{scope.name}/{key}" if scope.name else key


def _leave(begun: object) -> None:
    """Nobody waits any more for what has begun."""
    if isinstance(begun, _native.EffectInProgress):
        # Its body has not run.
        begun.not_done(RuntimeError("it was cancelled before it began"))
    elif isinstance(begun, _native.EffectInDoubt):
        begun.leave()


def _check_policy(in_doubt: object) -> None:
    if not callable(in_doubt) and in_doubt not in ("hold", "run_again"):
        hint = 'one of "hold", "run_again", or a function that finds out'
        raise InvalidError(f"`{in_doubt}` says nothing of what to do in doubt", hint=hint)


def _answered(key: str, answer: object) -> Answer:
    if isinstance(answer, Answer):
        return answer
    if inspect.iscoroutine(answer):
        answer.close()
    raise InvalidError(
        f"what the function for effect `{key}` gave is no answer, so the effect stays in doubt",
        hint="return `doubt.completed(value)` or `doubt.not_done()`; if it cannot say, raise",
    )
