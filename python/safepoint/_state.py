"""Where durable state stands: a name is a job below ``.safepoint``, a path is itself."""

from __future__ import annotations

import os
import re
from pathlib import Path

from ._errors import InvalidError

#: The directory of jobs in the current directory, where the command looks for them.
ROOT = ".safepoint"

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")


def directory(state: str | os.PathLike[str] | None, what: str) -> Path:
    """The directory that ``state`` means, absolute, so that a later ``os.chdir`` changes nothing."""
    if state is None:
        raise InvalidError(f"{what} needs a place for its state", hint='give it a name: `state="words"`')
    if not isinstance(state, str):
        return Path(os.path.abspath(os.fspath(state)))
    if not _NAME.fullmatch(state):
        raise InvalidError(
            f"`{state}` cannot name a job",
            hint="use up to 100 letters, digits, dots, underscores and hyphens, or give a pathlib.Path to a directory",
        )
    return Path(os.path.abspath(os.path.join(ROOT, state)))
