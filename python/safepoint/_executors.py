"""What a stop does to executors, pools, futures, processes and asyncio tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._shutdown import ShutdownToken


def track(token: ShutdownToken, work: object, name: str | None) -> None:
    """Makes the stop of ``token`` reach ``work``."""
    raise NotImplementedError
