"""Pages of the book, run as a reader would: block by block, in a directory of their own, in real processes.

The convention:

- a block ``python`` runs behind those before it, in one interpreter for the page. With ``>>>`` it is a session, and
  what it prints is compared; otherwise it must not raise. One that begins with a comment such as ``# train.py`` is that
  file, and is written;
- a block ``console`` is a session in one shell with a terminal. Lines behind ``$`` are typed; the lines below are what
  must come, if there are any. ``...`` stands for anything. A line ``^C`` presses Ctrl-C when what is above has come;
  ``Killed`` ends the program by ``kill -9`` then. A command must leave with 0, unless it was interrupted or the next
  one is ``echo $?``;
- ``heavy`` behind the language (``python,heavy``) is for what needs torch, ray and the like; such blocks run in the
  long tests. ``python,no_run`` is for parts of a program: it is only compiled. Blocks of other languages are for
  reading.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import textwrap
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

#: How long a command or a block may take, in seconds. A busy machine is slow, not wrong.
PATIENCE = 180.0

_FENCE = re.compile(r"^(\s*)(```+)\s*([\w,-]*)\s*$")
_FILE = re.compile(r"#\s+([\w./-]+\.(?:py|txt|csv|jsonl))$")
_KILLED = re.compile(r"bash: line \d+: +\d+ Killed .*$")
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    #: The line of the page on which its text begins, from 1.
    line: int
    language: str
    text: str

    @property
    def words(self) -> list[str]:
        return self.language.split(",")

    @property
    def is_heavy(self) -> bool:
        return "heavy" in self.words

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page, in order."""
    lines = page.read_text().splitlines()
    number = 0
    while number < len(lines):
        opened = _FENCE.match(lines[number])
        number += 1
        if opened is None:
            continue
        indent, fence, language = opened.groups()
        first = number
        while number < len(lines) and lines[number].strip() != fence:
            number += 1
        text = textwrap.dedent("\n".join(line.removeprefix(indent) for line in lines[first:number])) + "\n"
        yield Block(page, first + 1, language, text)
        number += 1


# Python


#: Runs the blocks of a page one after the other, in one namespace, as `__main__`.
_DRIVER = """
import doctest, json, os, sys, traceback
requests, answers = os.fdopen(os.dup(0)), os.fdopen(int(sys.argv[1]), "w")
nothing = os.open(os.devnull, os.O_RDONLY)
os.dup2(nothing, 0)
os.close(nothing)
sys.argv = [""]
sys.path.insert(0, "")
names = {"__name__": "__main__", "__builtins__": __builtins__}
for line in requests:
    request = json.loads(line)
    problem = None
    try:
        if ">>>" in request["text"]:
            test = doctest.DocTestParser().get_doctest(request["text"], names, request["name"], request["name"], 0)
            said = []
            runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
            runner.run(test, out=said.append, clear_globs=False)
            names.update(test.globs)
            problem = "".join(said) or None
        else:
            # Its lines have the numbers of the page, so that a traceback leads there.
            code = compile("\\n" * (request["line"] - 1) + request["text"], request["name"], "exec")
            exec(code, names)
    except BaseException as error:
        # A program may say at its end that all is well.
        if not (isinstance(error, SystemExit) and not error.code):
            problem = traceback.format_exc()
    answers.write(json.dumps(problem) + "\\n")
    answers.flush()
"""


class Interpreter:
    """The Python process of a page."""

    def __init__(self, directory: Path) -> None:
        reading, writing = os.pipe()
        self._answers = os.fdopen(reading)
        self._process = subprocess.Popen(
            [sys.executable, "-c", _DRIVER, str(writing)],
            cwd=directory,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=[writing],
            start_new_session=True,
        )
        os.close(writing)

    def run(self, block: Block) -> None:
        """Runs a block; raises what a reader would have seen."""
        assert self._process.stdin is not None
        request = {"text": block.text, "name": block.page.name, "line": block.line}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        ready, _, _ = select.select([self._answers], [], [], PATIENCE)
        assert ready, f"{block}: it takes longer than {PATIENCE:.0f} s"
        line = self._answers.readline()
        if not line:
            _, errors = self._process.communicate(timeout=PATIENCE)
            raise AssertionError(f"{block}: the interpreter ended with {self._process.returncode}\n{errors}")
        problem = json.loads(line)
        assert problem is None, f"{block}\n{problem}"

    def close(self) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()
        self._answers.close()


# The console


@dataclass(frozen=True)
class Typed:
    """A command of a session, and what the page says will come."""

    line: int
    command: str
    #: Text to come, and the interruption (`^C`, `Killed` or nothing) behind it.
    parts: list[tuple[str, str]]


def typed(block: Block) -> list[Typed]:
    """The commands of a session."""
    found: list[Typed] = []
    expected: list[str] = []

    def settle() -> None:
        if found:
            found[-1].parts.extend(_parts(expected))
        expected.clear()

    for number, line in enumerate(block.text.splitlines(), block.line):
        if line.startswith("$ "):
            settle()
            # A comment at the end is for the reader; the shell leaves it out, too.
            found.append(Typed(number, line.removeprefix("$ "), []))
        elif found and found[-1].command.endswith("\\") and not expected:
            last = found.pop()
            found.append(Typed(last.line, f"{last.command}\n{line.removeprefix('> ')}", []))
        else:
            assert found, f"{block}: a session begins with `$ `"
            expected.append(line)
    settle()
    return found


def _parts(lines: list[str]) -> list[tuple[str, str]]:
    parts = []
    text: list[str] = []
    for line in lines:
        if line in ("^C", "Killed"):
            parts.append(("\n".join(text), line))
            text = []
        else:
            text.append(line)
    return [*parts, ("\n".join(text).rstrip(), "")]


def pattern(text: str) -> str:
    """The regular expression of expected text: `...` is anything, also several lines."""
    return r".*?".join(re.escape(piece) for piece in text.split("..."))


class Shell:
    """The shell of a page, with a terminal of its own."""

    def __init__(self, directory: Path) -> None:
        self._terminal, inside = pty.openpty()
        attributes = termios.tcgetattr(inside)
        attributes[3] &= ~termios.ECHO
        termios.tcsetattr(inside, termios.TCSANOW, attributes)
        fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 160, 0, 0))

        def own_the_terminal() -> None:
            fcntl.ioctl(inside, termios.TIOCSCTTY, 0)

        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        self._process = subprocess.Popen(
            ["bash", "--norc", "--noprofile"],
            cwd=directory,
            stdin=subprocess.PIPE,
            stdout=inside,
            stderr=inside,
            text=True,
            start_new_session=True,
            preexec_fn=own_the_terminal,
            env={**os.environ, "PATH": path, "TERM": "xterm", "NO_COLOR": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        )
        os.close(inside)
        # The programs it starts get Ctrl-C; it goes on.
        self._say("trap : INT; LAST=0")
        self._counter = 0
        self._text = ""

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def press_and_read(self, block: Block) -> tuple[int, str]:
        """Runs a session of one command; gives its exit code, and what came."""
        (one,) = typed(block)
        return self._run(block, one)

    def run(self, block: Block) -> None:
        """Runs a session; raises what a reader would have missed."""
        session = typed(block)
        for number, one in enumerate(session):
            code, came = self._run(block, one)
            is_asked = number + 1 < len(session) and session[number + 1].command == "echo $?"
            is_interrupted = any(key for _, key in one.parts)
            where = f"{block.page.name}:{one.line}: $ {one.command}"
            assert code == 0 or is_asked or is_interrupted, f"{where}\nended with {code}\n{came}"
            texts = [text for text, _ in one.parts]
            if not any(texts):
                continue
            # What comes between a key and its effect is not on the page.
            whole = r"(?:.*\n)??".join(pattern(text) for text in texts)
            assert re.search(rf"\A\s*{whole}\s*\Z", came, re.DOTALL), (
                f"{where}\nsaid\n{came}\ninstead of\n" + "\n".join(texts)
            )

    def _run(self, block: Block, one: Typed) -> tuple[int, str]:
        self._counter += 1
        self._text = ""
        mark = f"\x01{self._counter} "
        self._say(f"(exit $LAST); {{ {one.command}\n}} </dev/null; LAST=$?; printf '\\001{self._counter} %s\\n' $LAST")
        end = time.monotonic() + PATIENCE
        keys = [(text, key) for text, key in one.parts if key]
        while mark not in self._text or "\n" not in self._text.partition(mark)[2]:
            if keys and self._is_at_rest() and re.search(pattern(keys[0][0]), self._came(), re.DOTALL):
                self._press(keys.pop(0)[1])
            self._read(end - time.monotonic(), f"{block.page.name}:{one.line}: $ {one.command}")
        assert not keys, f"{block.page.name}:{one.line}: it ended before {keys[0][1]} could be pressed\n{self._came()}"
        code = int(self._text.partition(mark)[2].partition("\n")[0])
        self._text = self._text.partition(mark)[0]
        return code, self._came()

    def _press(self, key: str) -> None:
        if key == "^C":
            os.write(self._terminal, b"\x03")
            return
        for child in Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split():
            os.kill(int(child), signal.SIGKILL)

    def _read(self, seconds: float, where: str) -> None:
        ready, _, _ = select.select([self._terminal], [], [], max(0.0, seconds))
        assert ready, f"{where}\ntakes longer than {PATIENCE:.0f} s\n{self._came()}"
        try:
            read = os.read(self._terminal, 1 << 16)
        except OSError:
            read = b""
        assert read, f"{where}\nthe shell has ended\n{self._came()}"
        self._text += read.decode(errors="replace")

    def _is_at_rest(self) -> bool:
        """Whether no line is in the middle of being written, where a signal would put its end behind what comes next. A
        progress bar, which goes back by `\\r`, has no end.
        """
        last = self._text.replace("\r\n", "\n").rpartition("\n")[2]
        return not last or "\r" in last[:-1]

    def _came(self) -> str:
        """What is on the screen: lines as they were at last, without colours."""
        lines = _CONTROL.sub("", self._text.replace("\r\n", "\n")).split("\n")
        # What the shell says of a program that was killed is its own affair.
        lines = [_KILLED.sub("", line.rpartition("\r")[2]).rstrip() for line in lines]
        return "\n".join(lines).strip("\n")

    def close(self) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()
        os.close(self._terminal)


LANGUAGES = frozenset({"console", "python"})


def run(page: Path, directory: Path, *, heavy: bool = False, languages: Collection[str] = LANGUAGES) -> int:
    """Runs all blocks of a page in order in `directory`; says how many ran."""
    ran = 0
    interpreter: Interpreter | None = None
    shell: Shell | None = None
    try:
        for block in blocks(page):
            if block.words[0] not in languages or block.is_heavy > heavy:
                continue
            if "no_run" in block.words:
                compile(block.text, str(block), "exec")
                continue
            ran += 1
            name = _FILE.match(block.text.partition("\n")[0])
            if name is not None and block.words[0] == "python":
                (directory / name[1]).parent.mkdir(parents=True, exist_ok=True)
                (directory / name[1]).write_text(block.text)
            elif block.words[0] == "python":
                interpreter = interpreter or Interpreter(directory)
                interpreter.run(block)
            else:
                shell = shell or Shell(directory)
                shell.run(block)
    finally:
        for session in (interpreter, shell):
            if session is not None:
                session.close()
    return ran
