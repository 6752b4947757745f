"""What the tests share: real programs in real processes, that say on a pipe how far they are."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A shell starts background work with Ctrl-C ignored, and `nohup` with SIGHUP: programs inherit that, and the tests are
# about both.
for _inherited in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(_inherited) == signal.SIG_IGN:
        signal.signal(_inherited, signal.default_int_handler if _inherited == signal.SIGINT else signal.SIG_DFL)

#: How long anything may take before it counts as hung, in seconds. A busy machine is slow, not wrong.
PATIENCE = 60.0

# And hypothesis is to let an example take its time.
settings.register_profile(
    "patient", parent=settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("patient")


class Program:
    """A Python program in a process group of its own, whose standard output is read line by line."""

    def __init__(self, path: Path, *arguments: str, cwd: Path, env: dict[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-u", str(path), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            start_new_session=True,
        )
        self.lines: list[str] = []

    def until(self, line: str) -> None:
        """Reads until the program has printed this line."""
        assert self.process.stdout is not None
        hung = threading.Timer(PATIENCE, self.send_to_group, [signal.SIGKILL])
        hung.start()
        try:
            for read in self.process.stdout:
                self.lines.append(read.rstrip("\n"))
                if self.lines[-1] == line:
                    return
        finally:
            hung.cancel()
        _, errors = self.process.communicate(timeout=PATIENCE)
        raise AssertionError(f"it ended without saying {line!r}: {self.lines} {errors}")

    def send(self, number: signal.Signals) -> None:
        """Sends a signal to the program alone."""
        self.process.send_signal(number)

    def send_to_group(self, number: signal.Signals) -> None:
        """Sends a signal to all its processes, as a terminal does at Ctrl-C."""
        os.killpg(self.process.pid, number)

    def end(self) -> tuple[int, list[str], str]:
        """Waits for the end: exit code (negative for a signal), all lines, standard error."""
        output, errors = self.process.communicate(timeout=PATIENCE)
        self.lines += output.splitlines()
        return self.process.returncode, self.lines, errors

    def others(self) -> list[int]:
        """The processes of its session that live, itself left out."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == self.process.pid:
                continue
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == self.process.pid and fields[0] != "Z":
                found.append(int(entry.name))
        return found


Start = Callable[..., Program]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a program from its source: ``start('''...''', "argument")``."""
    programs: list[Program] = []

    def begin(source: str, *arguments: str, env: dict[str, str] | None = None) -> Program:
        path = tmp_path / f"program_{len(programs)}.py"
        path.write_text(textwrap.dedent(source))
        programs.append(Program(path, *arguments, cwd=tmp_path, env=env))
        return programs[-1]

    yield begin
    for program in programs:
        for pid in [*program.others(), program.process.pid]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        program.process.communicate()


def gone(program: Program) -> None:
    """Waits until no process of the program's session lives."""
    from time import monotonic, sleep

    end = monotonic() + PATIENCE
    while program.others():
        assert monotonic() < end, f"still there: {program.others()}"
        sleep(0.01)
