"""Whose stop ends a loop: the token it was given, the block it is in, or one of its own."""

from __future__ import annotations

import signal
import threading

from . import _native
from ._shutdown import ShutdownToken, active, shutdown


class OwnStop:
    """The stop that a loop ends at. Where nobody looks after signals, the loop does, from :meth:`begin` to :meth:`end`.

    A signal handler of the program's own is left alone, and so are signals in any thread but the main one.
    """

    def __init__(self, given: ShutdownToken | None) -> None:
        self._given = given
        self._block: shutdown | None = None
        self._quiet: _native.Owner | None = None
        self._token: ShutdownToken | None = None
        self._is_told = False

    def is_new(self) -> bool:
        """Whether a stop was asked for, of signals that the loop itself looks after, and nobody was told of it yet."""
        if self._block is None or self._is_told or self._token is None or not self._token.requested:
            return False
        self._is_told = True
        return True

    def begin(self) -> ShutdownToken:
        """The token."""
        token = self._given or active()
        if token is None:
            token = self._take_signals() or self._without_signals()
        self._token = token
        return token

    def _take_signals(self) -> ShutdownToken | None:
        if threading.current_thread() is not threading.main_thread():
            return None
        if not _is_default(signal.getsignal(signal.SIGINT)):
            return None
        block = shutdown(raise_in_main=True, announce=False)
        # The first request lets what is in progress finish; the second is the KeyboardInterrupt that people expect.
        block._raised = 1
        block._exception = KeyboardInterrupt
        token = block.__enter__()
        self._block = block
        return token

    def _without_signals(self) -> ShutdownToken:
        """A token for `safepoint stop` and nothing else."""
        self._quiet = _native.Owner(25.0, [])
        return ShutdownToken(self._quiet.token())

    def end(self, error: BaseException | None) -> BaseException | None:
        """Puts the handlers back. Gives what the program would have got without us, if a stop has ended the loop
        quietly and nobody else is told of it: ``KeyboardInterrupt`` after Ctrl-C, ``SystemExit`` otherwise.
        """
        block, self._block = self._block, None
        quiet, self._quiet = self._quiet, None
        token, self._token = self._token, None
        if quiet is not None:
            quiet.finish()
        if block is None or token is None:
            return None
        block.__exit__(None, None, None)
        reason = token.reason
        if error is not None or reason is None:
            return None
        if reason.signal == signal.SIGINT:
            return KeyboardInterrupt()
        stop = block._stop
        return SystemExit(75 if stop is None else stop.exit_code)


def _is_default(handler: object) -> bool:
    """Whether it is what Python or asyncio set, not the program."""
    if handler is signal.default_int_handler:
        return True
    return getattr(getattr(handler, "func", None), "__module__", None) == "asyncio.runners"
