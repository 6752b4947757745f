"""The shapes of what reports say."""

from __future__ import annotations

from typing import TypedDict


class HookReport(TypedDict):
    """What became of one hook."""

    #: accept, drain, save, close or report.
    order: str
    name: str
    #: done, failed or hung.
    outcome: str
    #: The exception in words, if it failed.
    error: str | None
    #: How long it took.
    seconds: float
