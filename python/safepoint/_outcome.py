"""What a function can say of an attempt other than to return or to fail."""

from __future__ import annotations

import traceback
from datetime import timedelta

from ._errors import in_words


class Retry(Exception):
    """Raised by the function for an item: this attempt failed, and the next one should wait ``after`` seconds.

    ::

        raise safepoint.Retry("the file server is away", after=2.5)

    Without ``after`` it is like any other exception: the wait grows with each attempt. The number of attempts is
    limited all the same.
    """

    def __init__(self, message: str = "", *, after: float | timedelta | None = None) -> None:
        super().__init__(message)
        self.after = after.total_seconds() if isinstance(after, timedelta) else after


class Refuse(Exception):
    """Raised by the function for an item that another attempt cannot help: it is dead at once.

    ::

        raise safepoint.Refuse("not an image")
    """


#: How much of a traceback is kept.
_DETAILS = 4096


def line_of(error: BaseException) -> str:
    """An exception in words; of those above, what the function said and nothing else."""
    return str(error) or type(error).__qualname__ if isinstance(error, (Retry, Refuse)) else in_words(error)


def outcome_of(error: BaseException) -> tuple[str, str, bool, float | None]:
    """An exception as a line, its traceback, whether to attempt again, and after how many seconds."""
    details = "".join(traceback.format_exception(error))
    again = not isinstance(error, Refuse)
    after = error.after if isinstance(error, Retry) else None
    return line_of(error), details[-_DETAILS:], again, after
