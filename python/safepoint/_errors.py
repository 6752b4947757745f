"""The exceptions: one for each kind of error, each also the builtin that people catch for that."""

from __future__ import annotations

import sys
from typing import ClassVar


class Error(Exception):
    """Something that safepoint refuses or that failed.

    Catch one of its subclasses to decide by kind. ``str()`` is the whole message: what, which object, why.
    """

    #: The kind's name: ``busy``, ``closed``, ``corrupt``, ``incompatible``, ``invalid``, ``io`` or ``not_found``.
    kind: ClassVar[str] = "error"

    #: What the person can do next, if there is something to say.
    hint: str | None

    def __init__(self, message: str, hint: str | None = None, errno: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self._errno = errno
        if errno is not None and isinstance(self, OSError):
            import os

            # Set by the constructor of `OSError` otherwise, which this one is not.
            object.__setattr__(self, "errno", errno)
            object.__setattr__(self, "strerror", os.strerror(errno))
        # A traceback shows notes below the message.
        if hint is not None and sys.version_info >= (3, 11):
            self.add_note(f"hint: {hint}")

    @property
    def is_retryable(self) -> bool:
        """Whether the same call may go through later: somebody else has it now."""
        return self.kind == "busy"

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[type[Error], tuple[str, str | None, int | None]]:
        return (type(self), (self.message, self.hint, self._errno))


class BusyError(Error, BlockingIOError):
    """Another live process owns the state. Wait for it, or stop it."""

    kind = "busy"


class ClosedError(Error, ValueError):
    """The handle was closed, by its owner or because an earlier write failed."""

    kind = "closed"


class CorruptError(Error, ValueError):
    """Stored state is damaged."""

    kind = "corrupt"


class IncompatibleError(Error, ValueError):
    """Stored state is intact, but of another job or of a newer program."""

    kind = "incompatible"


class InvalidError(Error, ValueError):
    """Arguments or input were refused; nothing was changed."""

    kind = "invalid"


class IoError(Error, OSError):
    """The operating system refused an operation: a full disk, a missing right, a failing device."""

    kind = "io"


class NotFoundError(Error, LookupError):
    """The named thing does not exist."""

    kind = "not_found"


#: The class of each kind, for the native half and for a test that none is missing.
BY_KIND: dict[str, type[Error]] = {
    each.kind: each
    for each in (BusyError, ClosedError, CorruptError, IncompatibleError, InvalidError, IoError, NotFoundError)
}


class Stopped(BaseException):
    """A stop was asked for, where a value would have to be returned.

    Not an error, and not an ``Exception``, so that ``except Exception`` does not take it for one. It is raised by a
    unit, a step or a claim that may not begin any more, and in the main thread with ``shutdown(raise_in_main=True)``.
    The ``with safepoint.shutdown()`` block takes it in.
    """

    #: The block that it was raised for, if it was raised for one.
    block: object | None = None


def in_words(error: BaseException) -> str:
    """An exception as the last line of a traceback has it."""
    text = str(error)
    kind = type(error).__qualname__
    return f"{kind}: {text}" if text else kind
