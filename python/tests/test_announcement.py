"""What a person in a terminal is told when a stop is asked for."""

from __future__ import annotations

from pathlib import Path

import book

PROGRAM = r"""
import time, safepoint
with safepoint.shutdown() as stop:
    print("\r40 % |#####     |", end="", flush=True)
    stop.wait()
"""


def test_the_request_is_told_on_a_line_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    page = tmp_path / "page.md"
    page.write_text("```console\n$ python program.py\n40 % |\n^C\n...\n```\n")
    (session,) = book.blocks(page)
    shell = book.Shell(tmp_path)
    try:
        _, came = shell.press_and_read(session)
    finally:
        shell.close()
    told = [line for line in came.splitlines() if line.startswith("safepoint: SIGINT")]
    assert len(told) == 1, came
