"""The console script `safepoint`: the same command as the binary's."""

from __future__ import annotations

import signal
import sys


def main() -> int:
    """Runs the command line of this process and gives its exit code."""
    from . import _native

    # Python takes Ctrl-C for an exception, which would wait for an interpreter that is not running: the command has
    # handlers of its own.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    # Python ignores it, and what the command starts would inherit that.
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    return _native.command(["safepoint", *sys.argv[1:]])
