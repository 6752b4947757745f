"""Where state is kept: a name below ``.safepoint`` in the current directory, or a directory."""

from __future__ import annotations

import os
import re

from ._errors import InvalidError

#: What may name a job, as for the command.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}", re.ASCII)


def directory(state: str | os.PathLike[str]) -> str:
    """The directory of a state: ``.safepoint/<name>`` for a name, a path-like object as it is.

    Raises :class:`safepoint.InvalidError` for a text that is no name.
    """
    if not isinstance(state, str):
        return os.fspath(state)
    if _NAME.fullmatch(state):
        return os.path.join(".safepoint", state)
    hint = (
        "give another directory as a path: pathlib.Path(..)"
        if "/" in state
        else "up to 100 letters, digits, dots, underscores and hyphens, not beginning with a dot or hyphen"
    )
    raise InvalidError(f"`{state}` cannot name a job", hint=hint)
