"""Workers of a map while they start: nothing of them handles Ctrl-C yet, and it reaches them all the same."""

from __future__ import annotations

import pytest

from conftest import Start

PROGRAM = """
import signal, sys
import safepoint

# In a worker this runs before anything of ours does.
HELD_BACK = signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())

def held_back(item):
    return HELD_BACK

if __name__ == "__main__":
    workers = safepoint.map(held_back, range(40), workers=2, context=sys.argv[1], progress=False)
    print(sorted(set(workers)), HELD_BACK)
"""


@pytest.mark.parametrize("context", ["spawn", "forkserver"])
def test_ctrl_c_is_held_back_from_a_worker_that_starts(start: Start, context: str) -> None:
    code, lines, errors = start(PROGRAM, context).end()
    assert code == 0, errors
    # In the workers, and not in the program itself.
    assert lines == ["[True] False"]
