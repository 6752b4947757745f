"""What runs below an init, and tells what it sees: `python3 probe.py PART [ARGUMENT...]`, a line for each thing.

Each part is a program of its own. They run with `python3 -IS`, so that they start quickly and alike everywhere.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import NoReturn


def say(what: object) -> None:
    os.write(1, f"{what}\n".encode())


def signals() -> None:
    """Says each signal that comes, by its number."""
    # Waiting for signals that are blocked gives them in order, and no default action gets in the way.
    every = signal.valid_signals()
    signal.pthread_sigmask(signal.SIG_BLOCK, every)
    # A signal that is ignored is not queued, so what was inherited as ignored is taken back.
    for number in every - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    say("ready")
    while True:
        say(int(signal.sigwaitinfo(every).si_signo))


def sleep() -> None:
    """Lives, with the default action for every signal."""
    say("ready")
    while True:
        signal.pause()


def stubborn() -> None:
    """Ignores SIGTERM."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sleep()


def orderly() -> None:
    """Exits 0 on SIGTERM, as a program that saves and leaves."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    sleep()


def surroundings() -> None:
    """Says all that it inherited."""
    with open("/proc/self/status") as file:
        status = dict(line.split(":", 1) for line in file)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SAFEPOINT_")}
    say(
        json.dumps(
            {
                "blocked": int(status["SigBlk"], 16),
                "ignored": int(status["SigIgn"], 16),
                "directory": os.getcwd(),
                "environment": environment,
                "descriptor": os.path.exists("/proc/self/fd/9"),
            }
        )
    )


def copy() -> None:
    """Writes what it reads."""
    while block := os.read(0, 1 << 16):
        os.write(1, block)


def fork(child: Callable[[], None]) -> int:
    """A child process that runs `child` and exits 0."""
    pid = os.fork()
    if pid == 0:
        child()
        os._exit(0)
    return pid


def exists(pid: int) -> bool:
    return os.path.exists(f"/proc/{pid}")


def parent_of(pid: int) -> int:
    with open(f"/proc/{pid}/stat") as file:
        return int(file.read().rpartition(")")[2].split()[1])


def orphans() -> None:
    """Makes processes without a parent, and says who adopted them and whether they were reaped when they ended."""
    gate, key = os.pipe()
    news, teller = os.pipe()

    def orphan() -> None:
        os.setsid()
        os.write(teller, os.getpid().to_bytes(8, "little"))
        os.close(key)
        os.read(gate, 1)

    made = []
    for _ in range(20):
        os.waitpid(fork(lambda: void(fork(orphan))), 0)
        made.append(int.from_bytes(os.read(news, 8), "little"))
    # The parents are reaped, so the kernel has found new ones.
    adopted = all(parent_of(pid) == os.getppid() for pid in made)
    os.close(key)
    end = time.monotonic() + 2
    while time.monotonic() < end and any(exists(pid) for pid in made):
        time.sleep(0.002)
    reaped = not any(exists(pid) for pid in made)
    say(("adopted" if adopted else "not adopted") + (" and reaped" if reaped else ", left as zombies"))


def void(_: object) -> None:
    """For a lambda that shall return nothing."""


def leave(kind: str) -> None:
    """Starts a process, says its number, and ends before it. It is `plain`, or `stubborn` in a session of its own."""
    news, teller = os.pipe()

    def left() -> None:
        if kind == "stubborn":
            os.setsid()
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        # Nobody waits for the end of what it could write.
        for number in (0, 1, 2):
            os.close(number)
        os.write(teller, b".")
        while True:
            signal.pause()

    pid = fork(left)
    os.read(news, 1)
    say(pid)


def deaf() -> None:
    """Ignores SIGUSR1 and waits for a child that does not."""
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)

    def hearing() -> None:
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)
        say("ready")
        signal.pause()

    os.waitpid(fork(hearing), 0)


def family() -> None:
    """Says the numbers of itself and of a child in a session of its own, and lives."""
    news, teller = os.pipe()

    def child() -> None:
        os.setsid()
        os.write(teller, b".")
        while True:
            signal.pause()

    pid = fork(child)
    os.read(news, 1)
    say(f"{os.getpid()} {pid}")
    while True:
        signal.pause()


def terminal() -> None:
    """Says whether it may read from its terminal, and what it read."""
    say("ready")
    try:
        front = os.tcgetpgrp(0) == os.getpgrp()
        say(f"{'in front' if front else 'in the background'}: {os.read(0, 100).decode().strip()}")
    except OSError as error:
        say(f"no terminal: {error.strerror}")


def parent(*command: str) -> None:
    """Starts a command, says its number, and lives until it is killed."""
    pid = os.posix_spawnp(command[0], command, os.environ)
    say(f"parent {pid}")
    while True:
        signal.pause()


def shell(dashes: str, *command: str) -> NoReturn:
    """Has job control, as a shell has: starts a job in front, sees it stop, lets it go on and sees it end."""
    assert dashes == "--"
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    pid = os.fork()
    if pid == 0:
        os.setpgid(0, 0)
        os.tcsetpgrp(0, os.getpgrp())
        signal.signal(signal.SIGTTOU, signal.SIG_DFL)
        os.execvp(command[0], command)
    _, status = os.waitpid(pid, os.WUNTRACED)
    if not os.WIFSTOPPED(status):
        say("shell: it did not stop")
        os._exit(1)
    os.tcsetpgrp(0, os.getpgrp())
    say("shell: it stopped")
    os.tcsetpgrp(0, pid)
    os.killpg(pid, signal.SIGCONT)
    _, status = os.waitpid(pid, 0)
    os.tcsetpgrp(0, os.getpgrp())
    say(f"shell: it ended with {os.waitstatus_to_exitcode(status)}")
    os._exit(0)


PARTS: dict[str, Callable[..., None]] = {
    part.__name__: part
    for part in (
        signals,
        sleep,
        stubborn,
        orderly,
        surroundings,
        copy,
        orphans,
        leave,
        deaf,
        family,
        terminal,
        parent,
        shell,
    )
}

if __name__ == "__main__":
    PARTS[sys.argv[1]](*sys.argv[2:])
