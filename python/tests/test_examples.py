"""The examples, as a user meets them: stopped, stopped in a hurry, killed in the middle, and gone on with to the end.

Nothing is lost and nothing is repeated: what was told as complete is never told again, and the result is that of a run
that nobody disturbed.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from conftest import PATIENCE

EXAMPLES = Path(__file__).parents[2] / "examples" / "python"


@dataclass
class Ended:
    """How a run of an example ended, and all that it said."""

    code: int
    lines: list[str]

    def said(self, text: str) -> bool:
        return any(text in line for line in self.lines)

    def one(self, begin: str) -> str:
        """The one line that begins so."""
        found = [line for line in self.lines if line.startswith(begin)]
        assert len(found) == 1, (begin, self.lines)
        return found[0]


def run(
    script: str,
    *arguments: str,
    cwd: Path,
    when: str = "",
    times: int = 1,
    send: tuple[signal.Signals, ...] = (),
    during: Callable[[], object] | None = None,
) -> Ended:
    """Runs an example, and sends signals when a line with ``when`` in it was printed so many times."""
    process = subprocess.Popen(
        [sys.executable, str(EXAMPLES / script), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        cwd=cwd,
        start_new_session=True,
    )
    assert process.stdout is not None
    lines: list[str] = []
    met, left = 0, list(send)
    try:
        for line in process.stdout:
            lines.append(line.rstrip("\n"))
            if when and re.search(when, line):
                met += 1
                if met >= times and left:
                    if during is not None:
                        during()
                    process.send_signal(left.pop(0))
        code = process.wait(PATIENCE)
        gone(process.pid)
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.stdout.close()
        process.wait()
    return Ended(code, lines)


def gone(session: int) -> None:
    """Waits until nothing of the session lives: no worker stays behind, whatever ended the program."""
    from time import monotonic, sleep

    end = monotonic() + PATIENCE
    while any(of_session(session)):
        assert monotonic() < end, "a process was left behind"
        sleep(0.01)


def of_session(session: int) -> Iterator[int]:
    for entry in Path("/proc").iterdir():
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            yield int(entry.name)


def stopped(ended: Ended, code: int) -> None:
    """It was stopped gracefully: it says so, and how to go on."""
    assert ended.code == code, ended.lines
    assert ended.said("status: interrupted")
    assert ended.said("interrupts: 1 total, 1 graceful, 0 immediate")
    assert ended.lines[-1] == "Cleanup complete"


def completed(ended: Ended) -> None:
    assert ended.code == 0, ended.lines
    assert ended.said("status: completed")
    assert ended.said("Ctrl-C")
    assert ended.lines[-1] == "Cleanup complete"


def told_once(runs: list[Ended], pattern: str) -> Counter[str]:
    """What was told as complete, over all runs: nothing twice."""
    told = Counter(found[1] for each in runs for line in each.lines if (found := re.match(pattern, line)))
    assert all(times == 1 for times in told.values()), told
    return told


COMPLETE = r"Stage: (\S+) - Complete \("


def test_experiment(tmp_path: Path) -> None:
    arguments = ("experiment.py", "--work", "20000")
    undisturbed = run(*arguments, cwd=tmp_path)
    completed(undisturbed)
    assert undisturbed.said("new experiment") and undisturbed.said("paused_rate_limit")
    place = tmp_path / "disturbed"
    place.mkdir()
    runs = [
        run(*arguments, cwd=place, when="/run-.* - Starting", times=3, send=(signal.SIGINT,)),
        run(*arguments, cwd=place, when="/run-.* - Complete", times=3, send=(signal.SIGTERM,)),
        run(*arguments, cwd=place, when="/run-.* - Starting", times=4, send=(signal.SIGKILL,)),
        run(*arguments, cwd=place, when="/run-.* - Complete", times=4, send=(signal.SIGKILL,)),
        run(*arguments, cwd=place),
    ]
    stopped(runs[0], 130)
    stopped(runs[1], 143)
    assert [each.code for each in runs[2:4]] == [-signal.SIGKILL] * 2
    completed(runs[4])
    assert runs[4].said("resumed: run 5") and runs[4].said("the run before was killed")
    assert runs[4].one("result: ") == undisturbed.one("result: ")
    told = told_once(runs, COMPLETE)
    # Between a step's becoming durable and its being told there is a moment for a kill: two runs at a time, two kills.
    of_runs = [name for name in told if "/run-" in name]
    assert 24 - 4 <= len(of_runs) <= 24


def test_a_second_ctrl_c_gives_up_the_runs_in_progress(tmp_path: Path) -> None:
    # Each run would take longer than anybody waits.
    long = ("experiment.py", "--work", "100000000")
    prepared = run("experiment.py", "--work", "1000", cwd=tmp_path, when="T0 - Complete", send=(signal.SIGINT,))
    stopped(prepared, 130)
    ended = run(*long, cwd=tmp_path, when="/run-.* - Starting", times=1, send=(signal.SIGINT, signal.SIGINT))
    assert ended.code == 130, ended.lines
    assert ended.said("interrupts: 2 total, 1 graceful, 1 immediate")
    assert ended.said("status: interrupted") and ended.lines[-1] == "Cleanup complete"
    completed(run("experiment.py", "--work", "1000", cwd=tmp_path))


def test_study(tmp_path: Path) -> None:
    arguments = ("study.py", "--candidates", "16", "--work", "5000")
    undisturbed = run(*arguments, cwd=tmp_path)
    completed(undisturbed)
    place = tmp_path / "disturbed"
    place.mkdir()
    candidate = "/candidate-.* - "
    runs = [
        run(*arguments, cwd=place, when=candidate + "Starting", times=5, send=(signal.SIGINT,)),
        run(*arguments, cwd=place, when=candidate + "Complete", times=3, send=(signal.SIGKILL,)),
        run(*arguments, cwd=place, when="stage-1 - Starting", send=(signal.SIGTERM,)),
        run(*arguments, cwd=place, when="stage-2/candidate.* - Starting", send=(signal.SIGKILL,)),
        run(*arguments, cwd=place),
    ]
    stopped(runs[0], 130)
    stopped(runs[2], 143)
    completed(runs[4])
    for begin in ("result: ", "stage 0: ", "stage 3: "):
        assert runs[4].one(begin) == undisturbed.one(begin)
    told = told_once(runs, COMPLETE.replace(r"(\S+)", r"(\S+/\S+)"))
    assert 16 + 8 + 4 + 2 - 4 <= len(told) <= 30
    measured = {found[1] for line in undisturbed.lines if (found := re.match(COMPLETE, line)) and "/" in found[1]}
    assert set(told) <= measured
