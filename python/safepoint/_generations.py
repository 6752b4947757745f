"""What a checkpoint store tells of its generations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True)
class Saved:
    """What a save did."""

    #: The number that the state got.
    generation: int
    #: The length of its file.
    file_bytes: int
    #: The bytes of the state, before compression.
    payload_bytes: int
    #: Seconds from the call until it was durable.
    took: float
    #: After :meth:`CheckpointStore.save_now`: whether this is the state that was given, not the one that was in flight.
    is_given: bool = True


@dataclass(frozen=True)
class Skipped:
    """A generation that could not be loaded, so that an older one was."""

    generation: int
    why: str
    #: Where the file is now, if it was put aside.
    quarantined: str | None

    def __str__(self) -> str:
        return f"generation {self.generation} was skipped: {self.why}"


class _Described:
    """What the caller said of a generation when it was saved."""

    metadata: Mapping[str, Any]

    @property
    def step(self) -> int | None:
        """The step that the caller said."""
        return self.metadata.get("step")

    @property
    def metrics(self) -> Mapping[str, float]:
        """The figures that the caller said."""
        return dict(self.metadata.get("metrics", {}))


@dataclass(frozen=True)
class Listed(_Described):
    """One generation in a list; its payload was not read."""

    generation: int
    file_bytes: int
    #: What was said of it, or empty if that cannot be read.
    metadata: Mapping[str, Any]
    #: Why it cannot be read.
    error: str | None

    @property
    def saved_at(self) -> datetime | None:
        """When it was saved, in UTC."""
        at = self.metadata.get("saved_at_ms")
        return None if at is None else _when(at)


@dataclass(frozen=True)
class Validated:
    """What reading all of a generation found."""

    generation: int
    path: str
    #: The bytes of its payload, every one of which passed a checksum; ``None`` if something is wrong.
    payload_bytes: int | None
    error: str | None

    @property
    def is_whole(self) -> bool:
        return self.error is None


@dataclass(frozen=True)
class Checkpoint(_Described):
    """A generation that was loaded and found whole: every byte passed its checksum."""

    #: The state, as it was saved.
    state: Any
    #: All that was said of it when it was saved; see the format's page.
    metadata: Mapping[str, Any]
    #: Newer generations that could not be loaded, the newest first.
    skipped: tuple[Skipped, ...]

    @property
    def name(self) -> str:
        """The state's name."""
        return str(self.metadata["name"])

    @property
    def generation(self) -> int:
        """Its number."""
        return int(self.metadata["generation"])

    @property
    def extra(self) -> Any:
        """What else the caller said."""
        return self.metadata.get("extra")

    @property
    def pinned(self) -> bool:
        """Whether it is never pruned."""
        return bool(self.metadata.get("pinned", False))

    @property
    def run(self) -> int:
        """The run that saved it: how often the store had been opened, from 1."""
        return int(self.metadata["run"])

    @property
    def saved_at(self) -> datetime:
        """When it was saved, in UTC."""
        return _when(self.metadata["saved_at_ms"])


def _when(milliseconds: int) -> datetime:
    from datetime import datetime, timezone

    return datetime.fromtimestamp(milliseconds / 1000, timezone.utc)
