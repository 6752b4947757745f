# The native half. Names with an underscore are for the front in this package.

from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
<<<<<<< HEAD
from os import PathLike
from typing import Any, TypedDict, final
=======
from typing import Any, final
>>>>>>> main

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
