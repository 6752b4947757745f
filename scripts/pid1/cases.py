"""What an init is asked to do, one case each, and what it did in a few words.

Most cases are those of the test suites of tini (exit codes, signals, masks, orphans, groups, the parent's end) and
dumb-init (exit codes, signals, rewriting, groups, terminals, job control, bad commands). The others are about what is
left when a process ends.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from inits import MOMENT, PROBE, Init, Running, children, holds, is_alive, running, state

JOB_CONTROL = {signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGCONT}
# What a process may get and handle, but for job control and the end of its children.
PLAIN = sorted(set(range(1, 32)) - {signal.SIGKILL, signal.SIGCHLD} - JOB_CONTROL)
REALTIME = range(signal.SIGRTMIN, signal.SIGRTMAX + 1)
# What ends a process that has no handler.
DEADLY = sorted(set(PLAIN) - {signal.SIGURG, signal.SIGWINCH} | {signal.SIGKILL})


# What starts a job as a shell does, in place of an init.
SHELL = Init("shell", [*PROBE, "shell"], subreaper=[], group=[], single=[], rewrite=[], remap=None, parent=None)


@dataclass(frozen=True)
class Case:
    """A question, and the answer that safepoint has to give."""

    group: str
    title: str
    wanted: str
    # Given an init and what makes it process 1, if that is asked for.
    ask: Callable[[Init, Sequence[str]], str]
    # Whether the init is process 1.
    first: bool = False


CASES: list[Case] = []

Ask = Callable[[Init, Sequence[str]], str]


def case(group: str, title: str, wanted: str, *, first: bool = False, also_first: bool = False) -> Callable[[Ask], Ask]:
    """Adds a case; `also_first` adds it a second time, with the init as process 1."""

    def add(ask: Ask) -> Ask:
        CASES.append(Case(group, title, wanted, ask, first))
        if also_first:
            CASES.append(Case(group, "the same as process 1", wanted, ask, True))
        return ask

    return add


def names(numbers: Sequence[int]) -> str:
    """Signals for people: `TERM, INT`, real-time ones as `RTMIN+1`."""

    def name(number: int) -> str:
        if number >= signal.SIGRTMIN:
            return f"RTMIN+{number - signal.SIGRTMIN}"
        return signal.Signals(number).name.removeprefix("SIG")

    return ", ".join(name(number) for number in numbers)


def all_but(missing: Sequence[int], every: Sequence[int]) -> str:
    if not missing:
        return "all"
    if len(missing) == len(every):
        return "none"
    return f"all but {names(missing)}"


def told(status: int | None) -> str:
    """How an init ended."""
    if status is None:
        return "goes on"
    return f"by SIG{names([-status])}" if status < 0 else f"exit {status}"


def by_kind(kinds: dict[str, list[int]]) -> str:
    """What happened most often, then what else happened and with which signals."""
    usual, *others = sorted(kinds, key=lambda kind: -len(kinds[kind]))
    return "; ".join([usual, *(f"{kind}: {names(kinds[kind])}" for kind in others)])


# ---- ends


@case("Ends", "all 256 exit codes are passed on", "all", also_first=True)
def codes(init: Init, first: Sequence[str]) -> str:
    wrong = []
    for code in range(256):
        with running(init, ["sh", "-c", f"exit {code}"], first=first) as ran:
            if ran.ended() != code:
                wrong.append(code)
    return "all" if not wrong else f"all but {wrong}"


def deaths(init: Init, first: Sequence[str]) -> str:
    kinds: dict[str, list[int]] = {}
    for number in DEADLY:
        # No core file is written for those that would.
        with running(init, ["sh", "-c", f"ulimit -c 0; kill -{number} $$"], first=first) as ran:
            status = ran.ended()
        kind = "128 + its number" if status == 128 + number else told(status)
        kind = "the same signal" if status == -number else kind
        kinds.setdefault(kind, []).append(number)
    return by_kind(kinds)


case("Ends", "the command dies by a signal: so ends the init", "the same signal; 128 + its number: STKFLT, IO, PWR")(
    deaths
)
case("Ends", "the same as process 1, which no signal of its own can end", "128 + its number", first=True)(deaths)


@case("Ends", "the command is not found", "exit 127")
def not_found(init: Init, first: Sequence[str]) -> str:
    with running(init, ["/nowhere/no-such-program"], first=first) as ran:
        return told(ran.ended())


@case("Ends", "the command is not executable", "exit 126")
def not_executable(init: Init, first: Sequence[str]) -> str:
    with running(init, ["/etc/passwd"], first=first) as ran:
        return told(ran.ended())


@case("Ends", "an exit code can be turned into 0 for a stop", "yes")
def remap(init: Init, first: Sequence[str]) -> str:
    if init.remap is None:
        return "no"
    with running(init, [*PROBE, "sleep"], init.remap, first=first) as ran:
        ran.until("ready")
        ran.signal(signal.SIGTERM)
        return "yes" if ran.ended() == 0 else "no"


# ---- signals


def forwarded(init: Init, first: Sequence[str], every: Sequence[int]) -> str:
    missing: list[int] = []
    for number in every:
        with running(init, [*PROBE, "signals"], first=first) as ran:
            ran.until("ready")
            ran.signal(number)
            if ran.line(MOMENT if missing else 2.0) != str(number):
                missing.append(number)
    return all_but(missing, every)


# The four mean a fault in the process itself, so they are not forwarded: safepoint dies of them, and the tree is ended.
@case("Signals", f"forwarded: {names(PLAIN)}", "all but ILL, BUS, FPE, SEGV", also_first=True)
def plain(init: Init, first: Sequence[str]) -> str:
    return forwarded(init, first, PLAIN)


@case("Signals", "forwarded: real-time signals", "all")
def realtime(init: Init, first: Sequence[str]) -> str:
    return forwarded(init, first, REALTIME)


@case("Signals", "SIGTERM ends a command without a handler, the init being process 1", "yes", first=True)
def terminated(init: Init, first: Sequence[str]) -> str:
    with running(init, [*PROBE, "sleep"], first=first) as ran:
        ran.until("ready")
        ran.signal(signal.SIGTERM)
        return "yes" if ran.ended(5.0) == 143 else "no"


@case("Signals", "one signal can be sent for another", "yes")
def rewritten(init: Init, first: Sequence[str]) -> str:
    if not init.rewrite:
        return "no"
    with running(init, [*PROBE, "signals"], init.rewrite, first=first) as ran:
        ran.until("ready")
        ran.signal(signal.SIGTERM)
        return "yes" if ran.line() == str(int(signal.SIGINT)) else "no"


@case("Signals", "the command begins with the signal mask and the ignored signals that the init was given", "yes")
def masks(init: Init, first: Sequence[str]) -> str:
    def before() -> None:
        for number in (signal.SIGTTOU, signal.SIGSEGV, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, {signal.SIGTTIN, signal.SIGILL, signal.SIGTERM})

    command = [*PROBE, "surroundings"]
    bare = json.loads(subprocess.run(command, preexec_fn=before, capture_output=True, check=True).stdout)
    with running(init, command, first=first, before=before) as ran:
        seen = json.loads(ran.until("{"))
    wrong = [what for what in ("blocked", "ignored") if seen[what] != bare[what]]
    return "yes" if not wrong else f"not those {' and '.join(wrong)}"


@case("Signals", "SIGTSTP, SIGTTIN and SIGTTOU from outside", "the command is stopped too")
def job_control(init: Init, first: Sequence[str]) -> str:
    kinds: dict[str, list[int]] = {}
    for number in (signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU):
        with running(init, [*PROBE, "signals"], first=first) as ran:
            ran.until("ready")
            child = youngest(ran)
            ran.signal(number)
            stopped = is_stopped(child, MOMENT), is_stopped(ran.init, MOMENT)
            for resumed in (signal.SIGCONT, signal.SIGUSR1):
                ran.signal(resumed)
            seen = []
            while (line := ran.line(2.0)) and line != str(int(signal.SIGUSR1)):
                seen.append(line)
        if stopped[0]:
            kind = "the command is stopped too"
        elif str(int(number)) in seen:
            kind = "forwarded, and the init stops" if stopped[1] else "forwarded"
        else:
            kind = "the init alone stops" if stopped[1] else "ignored"
        kinds.setdefault(kind, []).append(number)
    return by_kind(kinds)


def is_stopped(pid: int, patience: float) -> bool:
    return holds(lambda: state(pid) == "T", patience)


def youngest(ran: Running) -> int:
    """The last descendant in a line of only children."""
    pid = ran.init
    while below := children(pid):
        pid = below[-1]
    return pid


# ---- orphans


@case("Orphans", "twenty processes without a parent, the init being process 1", "adopted and reaped", first=True)
def orphans_first(init: Init, first: Sequence[str]) -> str:
    with running(init, [*PROBE, "orphans"], first=first) as ran:
        return ran.until("adopted")


@case("Orphans", "the same below another process 1", "adopted and reaped")
def orphans(init: Init, first: Sequence[str]) -> str:
    with running(init, [*PROBE, "orphans"], init.subreaper) as ran:
        # Whoever adopts them otherwise has its own time for them.
        seen = ran.until("adopted")
        return seen if seen.startswith("adopted") else "not adopted"


def left(init: Init, kind: str) -> str:
    with running(init, [*PROBE, "leave", kind]) as ran:
        pid = int(ran.line())
        ran.ended()
        if holds(lambda: not is_alive(pid), MOMENT):
            return "ended"
        os.kill(pid, signal.SIGKILL)
        return "stays"


@case("Orphans", "the command exits and leaves a process behind", "ended")
def left_plain(init: Init, first: Sequence[str]) -> str:
    return left(init, "plain")


@case("Orphans", "one that ignores SIGTERM, in a session of its own", "ended")
def left_stubborn(init: Init, first: Sequence[str]) -> str:
    return left(init, "stubborn")


@case("Orphans", "`kill -9` of the init: the command, and a child of it in another session", "ended, ended")
def killed(init: Init, first: Sequence[str]) -> str:
    with running(init, [*PROBE, "family"]) as ran:
        pids = [int(pid) for pid in ran.line().split()]
        ran.signal(signal.SIGKILL)
        ran.ended()
        words = []
        for pid in pids:
            gone = holds(lambda pid=pid: not is_alive(pid), MOMENT)  # type: ignore[misc]
            words.append("ended" if gone else "stays")
            if not gone:
                os.kill(pid, signal.SIGKILL)
        return ", ".join(words)


@case("Orphans", "the init's own parent is killed", "goes on")
def parent_gone(init: Init, first: Sequence[str]) -> str:
    command = init.line(init.parent or [], [*PROBE, "sleep"])
    above = subprocess.Popen([*PROBE, "parent", *command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert above.stdout
    pid = 0
    for _ in range(2):
        line = above.stdout.readline().decode().split()
        if line[0] == "parent":
            pid = int(line[1])
    above.kill()
    above.wait()
    above.stdout.close()
    if holds(lambda: not is_alive(pid), MOMENT):
        return f"ends, with `{' '.join(init.parent)}`" if init.parent else "ends"
    os.kill(pid, signal.SIGTERM)
    holds(lambda: not is_alive(pid), 5.0)
    return "goes on"


# ---- groups and terminals


@case("Groups and terminals", "a signal for the whole process group", "with `--group`")
def group(init: Init, first: Sequence[str]) -> str:
    def reaches(options: Sequence[str]) -> bool:
        with running(init, [*PROBE, "deaf"], options) as ran:
            ran.until("ready")
            ran.signal(signal.SIGUSR1)
            return ran.ended(MOMENT) is not None

    if reaches(init.single):
        return "always"
    if init.single != init.group and reaches(init.group):
        return f"with `{init.group[0]}`" if init.group else f"unless `{init.single[0]}`"
    return "no"


@case("Groups and terminals", "standard input and output, byte for byte", "yes")
def streams(init: Init, first: Sequence[str]) -> str:
    block = os.urandom(1 << 20)
    with tempfile.TemporaryFile() as file:
        file.write(block)
        file.seek(0)
        with running(init, [*PROBE, "copy"], stdin=file.fileno()) as ran:
            seen = b""
            while more := os.read(ran.out, 1 << 16):
                seen += more
            return "yes" if seen == block and ran.ended() == 0 else "no"


@case("Groups and terminals", "directory, environment, an inherited descriptor", "as without an init")
def inherited(init: Init, first: Sequence[str]) -> str:
    command = [*PROBE, "surroundings"]
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 9, inheritable=True)
        try:
            bare = json.loads(subprocess.run(command, pass_fds=[9], capture_output=True, check=True).stdout)
            with running(init, command, pass_fds=[9]) as ran:
                seen = json.loads(ran.until("{"))
        finally:
            os.close(9)
    wrong = [what for what in ("directory", "environment", "descriptor") if seen[what] != bare[what]]
    return "as without an init" if not wrong else f"another {' and '.join(wrong)}"


@case("Groups and terminals", "the command may read from the terminal", "yes")
def reads(init: Init, first: Sequence[str]) -> str:
    with running(init, [*PROBE, "terminal"], terminal=True) as ran:
        os.write(ran.out, b"typed\n")
        seen = ran.until(":")
        while seen == "typed":
            seen = ran.until(":")
        return "yes" if seen == "in front: typed" else seen


@case("Groups and terminals", "Ctrl-C reaches the command", "once")
def ctrl_c(init: Init, first: Sequence[str]) -> str:
    with running(init, [*PROBE, "signals"], terminal=True) as ran:
        ran.until("ready")
        os.write(ran.out, b"\x03")
        count = 0
        # Another signal after it shows that no second one comes.
        if ran.until("2").endswith("2"):
            count += 1
        ran.signal(signal.SIGUSR1)
        while (line := ran.line(2.0)) and line != "10":
            count += line.endswith("2")
        return {1: "once", 2: "twice"}.get(count, f"{count} times")


@case("Groups and terminals", "Ctrl-Z in a shell stops it, and `fg` lets it go on", "yes")
def ctrl_z(init: Init, first: Sequence[str]) -> str:
    with running(SHELL, init.line([], [*PROBE, "terminal"]), terminal=True) as ran:
        ran.until("ready")
        os.write(ran.out, b"\x1a")
        # The terminal shows what is typed.
        stops = ran.until("stop", 2.0) == "^Zshell: it stopped"
        os.write(ran.out, b"typed\n")
        goes_on = stops and ran.until("in ", 2.0) == "in front: typed"
        return "yes" if goes_on and ran.until("ended") == "shell: it ended with 0" else "no"


# ---- stops


@case("Stops", "SIGTERM, and the command ignores it", "SIGKILL after the grace period")
def ignored(init: Init, first: Sequence[str]) -> str:
    options = ["--grace", "200ms"] if init.state else []
    with running(init, [*PROBE, "stubborn"], options) as ran:
        ran.until("ready")
        ran.signal(signal.SIGTERM)
        return "waits for ever" if ran.ended(3 * MOMENT) is None else "SIGKILL after the grace period"


@case("Stops", "SIGTERM, and the command exits 0 without having finished", "exit 75")
def orderly(init: Init, first: Sequence[str]) -> str:
    with running(init, [*PROBE, "orderly"]) as ran:
        ran.until("ready")
        ran.signal(signal.SIGTERM)
        return told(ran.ended())
