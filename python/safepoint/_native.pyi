# The native half. Names with an underscore are for the front in this package.

import builtins
import os
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from os import PathLike
from pathlib import Path
from typing import Any, Literal, final

from typing_extensions import Self, disjoint_base

from ._reports import HookReport
from ._rows import Buffer, Loaded, Place, SavedRow

__version__: str

def _plain(value: Any, what: str) -> Any: ...
def command(arguments: list[str]) -> int: ...
def end_with(number: int) -> None: ...
def blank_bytes(length: int) -> bytes: ...

@disjoint_base
class Schedule:
    def __new__(cls, steps: int | None, seconds: float | None, automatic: float | None) -> Self: ...
    def _due(self, store: Store | None = None) -> bool: ...
    @property
    def interval(self) -> float | None:
        """Seconds between two saves now: what was set, or what was found best so far."""
    @property
    def cost(self) -> float | None:
        """Seconds that a save was found to cost the loop, by an automatic schedule."""

@final
class Store:
    def __new__(
        cls,
        path: str,
        fingerprint: str,
        ignore: list[str],
        accept_changes: bool,
        retention: tuple[int | None, int, tuple[str, int, bool] | None, int | None],
        compression: str,
        when_busy: str,
        workers: int,
    ) -> Self: ...
    @staticmethod
    def reader(path: str) -> Store: ...
    def path(self) -> str: ...
    def run(self) -> int: ...
    def notices(self) -> list[str]: ...
    def save(
        self, how: str, name: str, value: tuple[str, bytes] | None, buffers: list[Buffer], details: str
    ) -> SavedRow: ...
    def save_now(
        self, name: str, value: tuple[str, bytes] | None, buffers: list[Buffer], details: str, within: float
    ) -> tuple[SavedRow, bool]: ...
    def save_in_background(
        self, by: str, name: str, value: tuple[str, bytes] | None, buffers: list[Buffer], details: str
    ) -> Literal["accepted", "replaced", "skipped"]: ...
    def prepare_background(self, bytes: int) -> None: ...
    def is_saving(self) -> bool: ...
    def finish_background(self) -> SavedRow | None: ...
    def close(self) -> None: ...
    def leave_to_parent(self) -> None: ...
    def latest(self, name: str, place: Place) -> Loaded | None: ...
    def load(self, name: str, generation: int, place: Place) -> Loaded: ...
    def names(self) -> list[str]: ...
    def list(self, name: str) -> builtins.list[tuple[int, int, str | None, str | None]]: ...
    def validate(self, name: str) -> builtins.list[tuple[int, Path, int | None, str | None]]: ...
    def prune(self, name: str) -> builtins.list[int]: ...
    def fork(self, name: str, generation: int, to: str) -> SavedRow: ...
    def export(self, name: str, generation: int, folder: str) -> Path: ...

@final
class Claim:
    def keep(self, value: tuple[str, bytes] | None, buffers: list[Buffer]) -> None: ...
    def release(self) -> None: ...

@final
class Results:
    def __new__(cls, path: str, max_bytes: int | None, compression: str) -> Self: ...
    def path(self) -> str: ...
    def notices(self) -> list[str]: ...
    def claim(self, key: str, fingerprint: str, place: Place) -> tuple[Loaded | None, Claim | None]: ...
    def statistics(self) -> tuple[int, int, int, int, int]: ...
    def remove(self, key: str) -> tuple[int, int]: ...
    def clear(self) -> tuple[int, int]: ...

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
    def address(self) -> str:
        """Where it listens: host and port."""
    @property
    def ready(self) -> bool:
        """Whether the program said that it is ready, and no stop was asked for."""
    def _set_ready(self, ready: bool) -> None: ...
    def close(self) -> None:
        """Ends the server."""

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
    def message(self) -> str:
        """What who asked for it said, or empty."""
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
    def requests(self) -> list[StopRequest]:
        """All requests, in the order in which they came."""
    @property
    def exit_code(self) -> int:
        """What to leave the program with; see :attr:`Shutdown.exit_code`."""
    @property
    def is_clean(self) -> bool:
        """Whether nothing was given up, and no hook or rollback failed."""
    @property
    def took(self) -> float:
        """Seconds from the request to the end."""
    @property
    def total_interrupts(self) -> int:
        """How many requests there were."""
    @property
    def graceful_interrupts(self) -> int:
        """How many of them were graceful."""
    @property
    def immediate_interrupts(self) -> int:
        """How many of them were immediate."""
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
    def hooks(self) -> list[HookReport]:
        """Each hook: ``order``, ``name``, ``outcome`` (done, failed or hung), ``error`` and ``seconds``."""
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
    def name(self) -> str:
        """What :meth:`ShutdownToken.child` was given, or empty."""
    @property
    def reason(self) -> StopRequest | None:
        """The first request, if there was one."""
    @property
    def requests(self) -> list[StopRequest]:
        """All requests so far, in the order in which they came."""
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
class Item:
    """An item that is being worked on."""

    @property
    def attempt(self) -> int | None: ...
    def in_process(self, pid: int) -> None: ...
    def restart(self) -> None: ...
    def done(self, result: bytes) -> None: ...
    def failed(self, error: str, details: str, again: bool = True, after: float | None = None) -> Waiting | None: ...
    def put_back(self) -> None: ...

@final
class Waiting:
    """An item between two attempts."""

    @property
    def remaining(self) -> float: ...
    def begin(self) -> Item | None: ...

@final
class Items:
    def __new__(
        cls,
        directory: str | PathLike[str],
        token: Token | None,
        *,
        keyed: bool,
        total: int | None,
        attempts: int,
        wait: float,
        retry_dead: bool,
        fresh: bool,
        in_flight: int,
    ) -> Self: ...
    @property
    def run(self) -> int: ...
    @property
    def stopping(self) -> bool: ...
    @property
    def terminating(self) -> bool: ...
    @property
    def reason(self) -> tuple[str, int | None] | None: ...
    def counts(self) -> tuple[int, int, int, int]: ...
    def tally(self) -> dict[str, int]: ...
    def begin(self, content: object, key: object = None) -> tuple[str, int | None, Item | None]: ...
    def result_at(self, index: int) -> bytes | None: ...
    def failure_at(self, index: int) -> tuple[str | None, str, int]: ...
    def passage(self, source: Iterator[Any], key: Callable[[Any], object] | None) -> Passage: ...
    def sync(self) -> None: ...
    def close(self, left: str | None) -> dict[str, Any]: ...

@final
class Passage:
    def __iter__(self) -> Self: ...
    def __next__(self) -> Any: ...
    def step(self) -> tuple[Any] | float | None: ...
    def offer(self, object: object) -> bool: ...
    def exhaust(self) -> None: ...
    @property
    def exhausted(self) -> bool: ...
    @property
    def busy(self) -> bool: ...
    def done(self, result: object) -> None: ...
    def failed(self, error: str, details: str, here: bool, again: bool = True, after: float | None = None) -> None: ...
    def put_back(self) -> None: ...

def as_json(value: object, name: str) -> bytes: ...
def read_counts(directory: str | PathLike[str]) -> tuple[int, int, int, int, int | None]: ...
def read_results(directory: str | PathLike[str], first: int, limit: int) -> list[tuple[int, str | None, bytes]]: ...

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
    def error(self) -> str | None:
        """The exception of what failed, in words."""

@final
class StepsReport:
    """What a run of steps came to. `str()` is one line for a person."""

    @property
    def run(self) -> int:
        """The number of the run, from 1."""
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
    def not_asked_for_count(self) -> int:
        """How many they are."""
    @property
    def was_stopped(self) -> bool:
        """Whether a stop was asked for."""

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
        directory: os.PathLike[str],
        token: Token | None = None,
        on_notice: Callable[[StepsNotice], object] | None = None,
    ) -> tuple[Steps, Scope]: ...
    @property
    def run(self) -> int: ...
    def close(self) -> StepsReport | None: ...
    def end_early(self) -> None: ...
