# The native half. Names with an underscore are for the front in this package.

from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from typing import Any, final

from typing_extensions import Self, disjoint_base

from ._reports import HookReport

__version__: str

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
