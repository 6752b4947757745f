"""The inits that are compared, and how a command is run below one of them."""

from __future__ import annotations

import itertools
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

PATIENCE = 20.0
# How long one looks before saying that something does not happen.
MOMENT = 0.4

PROBE = [sys.executable, "-IS", str(Path(__file__).with_name("probe.py"))]

_numbers = itertools.count()


@dataclass(frozen=True)
class Init:
    """A program that others run below, and its options."""

    name: str
    program: list[str]
    # What makes it the parent of orphans when it is not process 1.
    subreaper: list[str]
    # What makes it signal the whole process group, or the child alone.
    group: list[str]
    single: list[str]
    # What turns SIGTERM into SIGINT.
    rewrite: list[str]
    # What turns exit code 143 into 0.
    remap: list[str] | None
    # What ends it with its parent.
    parent: list[str] | None
    # Where it keeps state, if it does: each start gets a place of its own.
    state: Path | None = None

    def line(self, options: Sequence[str], command: Sequence[str]) -> list[str]:
        state = [] if self.state is None else ["--state-dir", str(self.state / str(next(_numbers)))]
        return [*self.program, *state, *options, "--", *command]


class Running:
    """An init that runs, with what its child says."""

    def __init__(self, init_pid: int, out: int, process: subprocess.Popen[bytes] | None, pid: int) -> None:
        self.init = init_pid
        self.out = out
        self.process = process
        self.pid = pid
        self.buffer = b""
        self.status: int | None = None

    def line(self, patience: float = PATIENCE) -> str:
        """The next line, or nothing at the end or when the patience is over."""
        end = time.monotonic() + patience
        while b"\n" not in self.buffer:
            ready, _, _ = select.select([self.out], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                return ""
            try:
                more = os.read(self.out, 1 << 16)
            except OSError:
                # The other end of a terminal was closed.
                more = b""
            if not more:
                return ""
            self.buffer += more
        line, _, self.buffer = self.buffer.partition(b"\n")
        return line.decode(errors="replace").strip()

    def until(self, wanted: str, patience: float = PATIENCE) -> str:
        """The next line in which there is this, or nothing; what others write is passed over."""
        while (line := self.line(patience)) and wanted not in line:
            pass
        return line

    def signal(self, number: int) -> None:
        # Whether it is gone is seen by what it says, or does not say.
        with suppress(ProcessLookupError):
            os.kill(self.init, number)

    def ended(self, patience: float = PATIENCE) -> int | None:
        """Its exit code, or minus the signal that ended it; nothing if it does not end."""
        end = time.monotonic() + patience
        while self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > end:
                break
            else:
                time.sleep(0.001)
        return self.status


def holds(condition: Callable[[], bool], patience: float) -> bool:
    """Whether it comes true in time."""
    end = time.monotonic() + patience
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.002)
    return True


def state(pid: int) -> str:
    """A process' state, one letter; nothing if there is none."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def is_alive(pid: int) -> bool:
    return state(pid) not in ("", "Z", "X")


def children(pid: int) -> list[int]:
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return [int(child) for child in file.read().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def tree(pid: int) -> list[int]:
    """All that descend from a process."""
    return [found for child in children(pid) for found in [child, *tree(child)]]


def unshare() -> list[str] | None:
    """What makes the next program process 1, if this process may do that."""
    line = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    for way in (line, [*line[:1], "--user", "--map-root-user", *line[1:]]):
        if subprocess.run([*way, "true"], capture_output=True, check=False).returncode == 0:
            return way
    return None


@contextmanager
def running(
    init: Init,
    command: Sequence[str],
    options: Sequence[str] = (),
    *,
    first: Sequence[str] = (),
    terminal: bool = False,
    before: Callable[[], None] | None = None,
    pass_fds: Sequence[int] = (),
    stdin: int | None = None,
) -> Iterator[Running]:
    """Runs a command below an init; `first` is what makes the init process 1. Everything is gone afterwards."""
    line = [*first, *init.line(options, command)]
    quiet = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    process = None
    if terminal:
        pid, out = pty.fork()
        if pid == 0:
            os.dup2(quiet, 2)
            os.execvp(line[0], line)
    else:
        process = subprocess.Popen(
            line,
            stdin=quiet if stdin is None else stdin,
            stdout=subprocess.PIPE,
            stderr=quiet,
            preexec_fn=before,
            pass_fds=pass_fds,
        )
        assert process.stdout
        pid, out = process.pid, process.stdout.fileno()
    ran = Running(pid, out, process, pid)
    if first:
        # The child of `unshare` is process 1 of its name space.
        if not holds(lambda: bool(children(pid)) or ran.ended(0) is not None, PATIENCE):
            raise AssertionError("unshare starts nothing")
        ran.init = next(iter(children(pid)), pid)
    try:
        yield ran
    finally:
        left = [*tree(pid), pid]
        if ran.ended(0) is None:
            os.kill(pid, signal.SIGKILL)
            ran.ended()
        for other in left[:-1]:
            with suppress(ProcessLookupError):
                os.kill(other, signal.SIGKILL)
        if process is None:
            os.close(out)
        else:
            # It was reaped above, which the object must know.
            process.returncode = ran.status
            assert process.stdout
            process.stdout.close()
        os.close(quiet)
