"""Functions for other processes, in a module that is quickly imported."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import safepoint


def double(number: int) -> int:
    return number * 2


def add(more: int, number: int) -> int:
    return number + more


def troubled(number: int) -> int:
    """Some items come to grief, each in a way of its own."""
    if number == 3:
        raise ValueError("three")
    if number == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    if number == 7:
        raise safepoint.Refuse("no sevens")
    if number == 9:
        os._exit(3)
    if number == 11:
        sys.exit("eleven")
    return number


def hangs(number: int) -> int:
    if number == 2:
        time.sleep(3600)
    return number


def after_three(path: str) -> str:
    """Succeeds at the third attempt."""
    with open(path, "a") as file:
        file.write("x")
    if len(Path(path).read_text()) < 3:
        raise safepoint.Retry("not yet", after=0)
    return "done"


def echo(value: object) -> object:
    return value


def uneven(number: int) -> int:
    time.sleep(0.03 if number % 7 == 0 else 0)
    return number


def leaves_a_mark(number: int) -> int:
    descriptor = os.open("log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, b"%d\n" % number)
    os.close(descriptor)
    return number * 2


def unsayable(number: int) -> object:
    return {1, 2}


def unpicklable(number: int) -> object:
    return lambda: number


def waits_for_the_others(number: int) -> int:
    """The first of nine ends when the others have begun, and those are slow."""
    if number > 0:
        Path(f"begun-{number}").touch()
        time.sleep(0.06)
    while number == 0 and len(list(Path().glob("begun-*"))) < 8:
        time.sleep(0.01)
    return number


def waits_to_go(number: int) -> int:
    """Ends some time after it is told to."""
    Path(f"begun-{number}").touch()
    while not Path("go").exists():
        time.sleep(0.01)
    # Long enough for the stop to have arrived in this process.
    time.sleep(0.5)
    return number
