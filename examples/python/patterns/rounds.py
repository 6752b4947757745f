"""One round: a program in a directory of its own, interrupted at a random moment, and what was there afterwards."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

HERE = Path(__file__).resolve().parent

#: Seconds that a program has between the signal and its end, before it is killed: a short grace period.
PATIENCE = 5.0

#: Seconds until it has to be ready. Generous: a busy machine is no finding.
START = 60.0


@dataclass
class Running:
    """A program that said `ready`, in a session of its own, as in a terminal of its own."""

    process: subprocess.Popen[str]

    def tell(self, number: signal.Signals) -> None:
        """Sends a signal to the process, as `kill` and orchestrators do."""
        self.process.send_signal(number)

    def tell_all(self, number: signal.Signals) -> None:
        """Sends a signal to the whole process group, as a terminal does with Ctrl-C."""
        os.killpg(self.process.pid, number)


@dataclass
class Ended:
    """What one round left."""

    directory: Path
    #: What the program left with; below 0, the signal that ended it.
    code: int
    #: It did not end by itself within the patience.
    was_killed: bool
    #: Processes that outlived it.
    orphans: int
    said: list[str] = field(default_factory=list)
    complained: str = ""

    def lines(self, name: str) -> list[str]:
        """The lines of a file that the program wrote; none if it is not there."""
        path = self.directory / name
        return path.read_text().splitlines() if path.exists() else []


class Voice:
    """What a program says, line by line, read while it runs."""

    def __init__(self, stream: IO[str]) -> None:
        self.lines: list[str] = []
        self.ready = threading.Event()
        self._thread = threading.Thread(target=self._read, args=(stream,), daemon=True)
        self._thread.start()

    def _read(self, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                # A line that a kill has cut off was not said.
                if line.endswith("\n"):
                    self.lines.append(line.rstrip("\n"))
                if line == "ready\n":
                    self.ready.set()
        self.ready.set()  # it has ended, and nothing else will come

    def to_its_end(self) -> list[str]:
        """All lines; the program and all that it started have ended."""
        self._thread.join()
        return self.lines


def one_round(
    script: Path, directory: Path, interrupt: Callable[[Running, random.Random], None], moment: random.Random
) -> Ended:
    """Starts `script` in `directory`, interrupts it between 50 and 550 ms after it is ready, and waits for its end."""
    with open(directory / "stderr", "w+") as complaints:
        process = subprocess.Popen(
            [sys.executable, str(script)],
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=complaints,
            text=True,
            start_new_session=True,
        )
        assert process.stdout is not None
        voice = Voice(process.stdout)
        was_killed = False
        try:
            if not voice.ready.wait(START) or "ready" not in voice.lines:
                complaints.seek(0)
                raise RuntimeError(f"{script} did not get ready:\n{complaints.read()}")
            time.sleep(moment.uniform(0.05, 0.55))
            interrupt(Running(process), moment)
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                was_killed = True
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
            orphans = _left_behind(process.pid)
            _end(orphans)
        said = voice.to_its_end()
        complaints.seek(0)
        return Ended(directory, process.returncode, was_killed, len(orphans), said, complaints.read())


def _left_behind(session: int, patience: float = 2.0) -> list[int]:
    """The processes of a session that are still there after a while. Source of the fields: proc(5)."""
    end = time.monotonic() + patience
    while True:
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
            except OSError:
                continue  # it ended meanwhile
            if int(fields[3]) == session and fields[0] not in "ZX":
                found.append(int(entry.name))
        if not found or time.monotonic() > end:
            return found
        time.sleep(0.02)


def _end(processes: list[int]) -> None:
    for process in processes:
        try:
            os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            continue
