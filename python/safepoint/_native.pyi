# The native half. Names with an underscore are for the front in this package.

import os
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from typing import Any, final

from typing_extensions import Self, disjoint_base

from ._reports import HookReport

__version__: str

def _canonical(arguments: dict[str, Any], what: str) -> str: ...
def command(arguments: list[str]) -> int: ...
def end_with(number: int) -> None: ...

@final
class HealthServer:
    """A server that answers for a stop; from `ShutdownToken.health`. A context manager would close it at the end."""

    def __new__(
        cls,
        token: Token,
        address: str,
        checks: list[tuple[str, Callable[[], object]]],
        ready: bool,
        check_limit: float | None = None,
        secret: str | None = None,
        hosts: list[str] = ...,
    ) -> Self: ...
    @property
    def address(self) -> str: ...
    @property
    def ready(self) -> bool: ...
    def _set_ready(self, ready: bool) -> None: ...
    def close(self) -> None: ...

@final
class StopRequest:
    """Why a stop was asked for."""

    @property
    def source(self) -> str:
        """USER, SYSTEM, PROGRAMMATIC, TIMEOUT, BUDGET or PARENT."""
    @property
    def mode(self) -> str:
        """GRACEFUL or IMMEDIATE."""
    @property
    def message(self) -> str: ...
    @property
    def signal(self) -> int | None:
        """The signal's number, if it was one."""
    def __hash__(self) -> int: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...

@final
class StopReport:
    """How a stop went. `str()` is the report in words."""

    @property
    def reason(self) -> StopRequest | None:
        """The first request."""
    @property
    def requests(self) -> list[StopRequest]: ...
    @property
    def exit_code(self) -> int: ...
    @property
    def is_clean(self) -> bool:
        """Whether nothing was given up, and no hook or rollback failed."""
    @property
    def took(self) -> float:
        """Seconds from the request to the end."""
    @property
    def total_interrupts(self) -> int: ...
    @property
    def graceful_interrupts(self) -> int: ...
    @property
    def immediate_interrupts(self) -> int: ...
    @property
    def units(self) -> tuple[int, int, int]:
        """Units that were committed, rolled back and refused."""
    @property
    def given_up(self) -> list[str]:
        """What was still in progress when the grace period was over."""
    @property
    def failures(self) -> list[tuple[str, str]]:
        """Rollbacks that failed: unit and message."""
    @property
    def hooks(self) -> list[HookReport]: ...
    def event_lines(self, **fields: object) -> list[str]:
        """The lines of `events.jsonl` for this stop, with these fields in each."""

@final
class TimeLimit:
    """A time limit whose end asks for a stop."""

    @property
    def remaining(self) -> float:
        """Seconds until then."""
    def lift(self) -> None:
        """From now on it asks for no stop."""

@final
class Budget:
    def spend(self, amount: Decimal | float | str) -> bool: ...
    @property
    def _spent(self) -> str: ...
    @property
    def _left(self) -> str: ...
    @property
    def _limit(self) -> str: ...
    def lift(self) -> None: ...

@final
class Ending:
    def tell(self, failure: str | None) -> None: ...

@final
class Iterate:
    def __iter__(self) -> Self: ...
    def __next__(self) -> Any: ...
    def __length_hint__(self) -> int: ...

@final
class Unit:
    def commit(self) -> None: ...
    def roll_back(self) -> None: ...

@final
class Parent:
    @staticmethod
    def attach(number: int) -> Token: ...

@disjoint_base
class Token:
    def __new__(cls, of: Token) -> Self: ...
    @property
    def requested(self) -> bool:
        """Whether a stop was asked for. One load: ask in every loop."""
    @property
    def phase(self) -> str:
        """running, draining, terminating or stopped. It only advances."""
    @property
    def name(self) -> str: ...
    @property
    def reason(self) -> StopRequest | None:
        """The first request, if there was one."""
    @property
    def requests(self) -> list[StopRequest]: ...
    @property
    def remaining(self) -> float | None:
        """Seconds of the grace period that are left; `None` while no stop was asked for."""
    def status(self) -> str:
        """What is in progress, in words."""
    def fileno(self) -> int: ...
    def _wait(self, seconds: float | None) -> bool: ...
    def _request(self, source: str, mode: str, message: str) -> None: ...
    def _child(self, name: str) -> Token: ...
    def _unit(self, name: str, actions: list[Callable[[], object]]) -> Unit | None: ...
    def _hook(self, order: str, name: str, start: Callable[[float, str, Ending], object]) -> None: ...
    def _iterate(self, items: Iterable[Any]) -> Iterator[Any]: ...
    def _time_limit(self, seconds: float) -> TimeLimit: ...
    def _budget(self, limit: Decimal | float | str, warning: Callable[[str], object] | None = None) -> Budget: ...
    def _after_fork(self) -> Parent | None: ...

@final
class Owner:
    def __new__(
        cls,
        grace: float,
        signals: list[tuple[int, str]],
        reserve: float | None = None,
        ready_delay: float = 0.0,
        info_signal: int | None = None,
        announces: bool = False,
        kills: bool = True,
    ) -> Self: ...
    def token(self) -> Token: ...
    def interrupt(self, thread: int, signal: int) -> None: ...
    def heard(self) -> None: ...
    def interrupt_no_more(self) -> None: ...
    def finish(self) -> StopReport: ...

@final
class StepsNotice:
    """Something that happened to a step, a stage or an effect. `str()` is a line to print."""

    @property
    def event(self) -> str:
        """resumed, starting, complete, skipped, interrupted, runs_again, failed, names_changed, effect_starting,
        effect_complete, effect_skipped, effect_in_doubt or effect_held.
        """
    @property
    def name(self) -> str | None:
        """The whole name of the step, stage or scope, or key of the effect; `None` where it is about the run."""
    @property
    def run(self) -> int | None:
        """The run that it is about: the one that made a recorded result, or that was cut off."""
    @property
    def seconds(self) -> float | None:
        """How long it took, where it is complete."""
    @property
    def error(self) -> str | None: ...

@final
class StepsReport:
    """What a run of steps came to. `str()` is one line for a person."""

    @property
    def run(self) -> int: ...
    @property
    def complete(self) -> int:
        """Steps that ran in this run, and whose results were recorded."""
    @property
    def ran_again(self) -> int:
        """Those of them that had run before: cut off, failed, or with a result that did not pass its check."""
    @property
    def skipped(self) -> int:
        """Steps whose recorded result, or memoised error, was taken."""
    @property
    def failed(self) -> int:
        """Times that a step raised an exception of its own."""
    @property
    def effects(self) -> int:
        """Effects that were brought about in this run."""
    @property
    def held(self) -> int:
        """Times that an effect was not brought about because it is held for a person."""
    @property
    def not_asked_for(self) -> list[str]:
        """Recorded steps that were not asked for: sorted, the first hundred."""
    @property
    def not_asked_for_count(self) -> int: ...
    @property
    def was_stopped(self) -> bool: ...

@final
class Within: ...

@final
class Recorded:
    def __new__(cls, value: Any) -> Self: ...
    @property
    def value(self) -> Any: ...

@final
class StepInProgress:
    @property
    def within(self) -> Within: ...
    def complete(self, value: Any) -> Any: ...
    def fail(self, exception: BaseException) -> None: ...
    def cut_off(self) -> None: ...

@final
class StageInProgress:
    @property
    def within(self) -> Within: ...
    def scope(self) -> Scope: ...
    def complete(self) -> None: ...
    def fail(self, exception: BaseException) -> None: ...
    def cut_off(self) -> None: ...

@final
class EffectInProgress:
    @property
    def within(self) -> Within: ...
    @property
    def idempotency_key(self) -> str: ...
    def complete(self, value: Any) -> Any: ...
    def fail(self, exception: BaseException) -> None: ...
    def not_done(self, exception: BaseException) -> None: ...

@final
class EffectInDoubt:
    @property
    def idempotency_key(self) -> str: ...
    def run_again(self, withins: tuple[Within, ...]) -> EffectInProgress: ...
    def hold(self) -> None: ...
    def complete(self, value: Any) -> Any: ...
    def leave(self) -> None: ...

@final
class Scope:
    @property
    def name(self) -> str: ...
    def scope(self, name: str) -> Scope: ...
    def begin_step(
        self,
        name: str,
        withins: tuple[Within, ...],
        check: Callable[[Any], object] | None = None,
        memoises_errors: bool = False,
    ) -> StepInProgress | Recorded: ...
    def begin_effect(
        self, key: str, withins: tuple[Within, ...]
    ) -> EffectInProgress | EffectInDoubt | Recorded | None: ...
    def begin_stage(self, name: str, withins: tuple[Within, ...]) -> StageInProgress: ...
    def recorded(self, name: str) -> Recorded | None: ...
    def forget(self, name: str) -> bool: ...
    def resolve_done(self, key: str, value: Any) -> None: ...
    def resolve_again(self, key: str) -> None: ...

@final
class Steps:
    @staticmethod
    def open(
        directory: os.PathLike[str], token: Token | None = None, on_notice: Callable[[StepsNotice], object] | None = None
    ) -> tuple[Steps, Scope]: ...
    @property
    def run(self) -> int: ...
    def close(self) -> StepsReport | None: ...
    def end_early(self) -> None: ...
