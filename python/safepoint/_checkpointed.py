"""``@checkpointed``: a loop whose every ``yield`` is a safepoint."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, overload

from ._checkpoint import CheckpointStore
from ._errors import InvalidError, Stopped
from ._generations import Checkpoint
from ._schedule import Schedule

if TYPE_CHECKING:
    from ._shutdown import ShutdownToken

S = TypeVar("S")
P = ParamSpec("P")

#: What a loop says at a safepoint: figures such as the loss, or nothing.
Metrics = Mapping[str, float] | None


class _Decorator(Protocol):
    @overload
    def __call__(self, loop: Callable[[S], Generator[Metrics, None, object]], /) -> Callable[[S], S]: ...
    @overload
    def __call__(
        self, loop: Callable[[S], AsyncGenerator[Metrics, None]], /
    ) -> Callable[[S], Coroutine[Any, Any, S]]: ...


def checkpointed(
    store: CheckpointStore | str | os.PathLike[str],
    *,
    every: int | timedelta | Schedule | None = None,
    name: str | None = None,
    stop: ShutdownToken | None = None,
    background: bool = True,
    allow_pickle: bool = False,
) -> _Decorator:
    """Makes a generator function a loop that goes on where it was. Each ``yield`` is a safepoint::

        @safepoint.checkpointed("state/checkpoints", every=100)
        def train(state):
            while state.step < 10_000:
                loss = one_step(state.weights)
                state.step += 1
                yield {"loss": loss}

        with safepoint.shutdown():
            state = train(Progress())

    ``train(Progress())`` loads the newest state that was saved, if there is one, else takes the one that is given; it
    also says which classes the state may have. It returns the state at the end. At a ``yield`` the state is saved if
    the schedule says so, and once more at the end. If a stop was asked for, it is saved and the loop ends there, by
    :class:`safepoint.Stopped`, which the ``with safepoint.shutdown()`` block takes in. Start the program again, and it
    goes on behind that ``yield``.

    The state is what is passed, so change it in place: attributes of a dataclass, keys of a dict. All that the loop
    needs to go on belongs in it. What is yielded is ``None`` or figures by name, which are told in lists.

    store
        A store that is open, or the directory of one that is opened for the loop.
    every
        So many yields, a ``timedelta``, or a :class:`Schedule`. The default is what is best for a machine that fails
        once a day.
    name
        The state's name; the default is that of the function.
    stop
        Whose stop ends the loop; the default is the block ``with safepoint.shutdown()`` around the call.
    background
        Whether the loop goes on while a state is written. The last one is always waited for.

    With an ``async`` generator function, the loop is one to be awaited.
    """

    def decorate(loop: Callable[[Any], Any]) -> Callable[[Any], Any]:
        said = name or str(getattr(loop, "__name__", "state"))
        settings = (store, every, said, stop, background, allow_pickle)
        if inspect.isasyncgenfunction(loop):

            @functools.wraps(loop)
            async def run_async(state: Any) -> Any:
                return await _run_async(_Course(*settings), loop, state)

            return run_async
        if not inspect.isgeneratorfunction(loop):
            raise InvalidError(
                f"`{said}` has no `yield`, so there is no safepoint in it", hint="write `yield` at the end of each step"
            )

        @functools.wraps(loop)
        def run(state: Any) -> Any:
            return _run(_Course(*settings), loop, state)

        return run

    return decorate


class _Course:
    """One call of a loop: what was loaded, when to save, and whether to stop."""

    def __init__(
        self,
        store: CheckpointStore | str | os.PathLike[str],
        every: int | timedelta | Schedule | None,
        name: str,
        stop: ShutdownToken | None,
        background: bool,
        allow_pickle: bool,
    ) -> None:
        from ._shutdown import active

        self.is_own = not isinstance(store, CheckpointStore)
        self.store = store if isinstance(store, CheckpointStore) else CheckpointStore(store)
        self.schedule = as_schedule(every)
        self.name = name
        self.stop = stop if stop is not None else active()
        self.background = background
        self.allow_pickle = allow_pickle
        self.yields = 0
        self.metrics: Metrics = None
        self.is_saved = False

    def begin(self, state: Any) -> Any:
        found: Checkpoint | None = self.store.latest(self.name, like=state, allow_pickle=self.allow_pickle)
        if found is None:
            return state
        self.yields = found.step or 0
        self.is_saved = True
        return found.state

    def at_safepoint(self, state: Any, metrics: Any) -> bool:
        """Saves if it is time to. Says whether the loop is to end."""
        if metrics is not None and not isinstance(metrics, Mapping):
            raise InvalidError(
                f"`{self.name}` yields {type(metrics).__qualname__}, which is not how a loop says figures",
                hint='yield nothing, or a dict such as {"loss": 0.5}',
            )
        self.yields += 1
        self.metrics = metrics
        self.is_saved = False
        if self.stop is not None and self.stop.requested:
            return True
        if self.schedule.due(self.store if self.background else None):
            save = self.store.save_in_background if self.background else self.store.save
            save(state, name=self.name, step=self.yields, metrics=metrics, allow_pickle=self.allow_pickle)
            self.is_saved = True
        return False

    def save(self, state: Any) -> None:
        """Makes the state durable as it is now."""
        if self.is_saved:
            self.store.finish_background()
            return
        self.store.save(state, name=self.name, step=self.yields, metrics=self.metrics, allow_pickle=self.allow_pickle)
        self.is_saved = True

    def close(self) -> None:
        if self.is_own:
            self.store.close()

    def stopped(self) -> Stopped:
        return Stopped(f"`{self.name}` ended at a safepoint after {self.yields} steps; run again to go on")


def as_schedule(every: int | timedelta | Schedule | None) -> Schedule:
    """What `every=` means."""
    if every is None:
        return Schedule(automatic=timedelta(days=1))
    if isinstance(every, Schedule):
        return every
    return Schedule(seconds=every) if isinstance(every, timedelta) else Schedule(steps=every)


def _run(course: _Course, loop: Callable[[Any], Any], state: Any) -> Any:
    try:
        state = course.begin(state)
        steps = loop(state)
        try:
            for metrics in steps:
                if course.at_safepoint(state, metrics):
                    course.save(state)
                    raise course.stopped()
        finally:
            steps.close()
        course.save(state)
    finally:
        course.close()
    return state


async def _run_async(course: _Course, loop: Callable[[Any], Any], state: Any) -> Any:
    import asyncio

    # Saves that are waited for are waited for elsewhere; nothing else of this loop runs meanwhile.
    try:
        state = await asyncio.to_thread(course.begin, state)
        steps = loop(state)
        try:
            async for metrics in steps:
                if course.at_safepoint(state, metrics):
                    await asyncio.to_thread(course.save, state)
                    raise course.stopped()
        finally:
            await steps.aclose()
        await asyncio.to_thread(course.save, state)
    finally:
        await asyncio.to_thread(course.close)
    return state
