"""Steps of real processes that are killed at any moment: what was acknowledged is never run again, and the end is
reached.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

THREADS = """
import sys, os, safepoint
from concurrent.futures import ThreadPoolExecutor

def say(what):
    os.write(1, (what + "\\n").encode())

def work(steps, number):
    def body():
        say(f"began {number}")
        return number * number
    assert steps.step(f"step-{number}", body) == number * number
    say(f"acknowledged {number}")

with safepoint.Steps(__import__("pathlib").Path(sys.argv[1])) as steps, ThreadPoolExecutor(4) as threads:
    list(threads.map(lambda number: work(steps, number), range(300)))
say("end")
"""

TASKS = """
import sys, os, asyncio, safepoint

def say(what):
    os.write(1, (what + "\\n").encode())

async def work(steps, number):
    async def body():
        say(f"began {number}")
        await asyncio.sleep(0)
        return number * number
    assert await steps.step(f"step-{number}", body) == number * number
    say(f"acknowledged {number}")

async def main():
    async with safepoint.Steps(__import__("pathlib").Path(sys.argv[1])) as steps:
        await asyncio.gather(*(work(steps, number) for number in range(300)))
    say("end")

asyncio.run(main())
"""

EFFECTS = """
import sys, os, safepoint

def say(what):
    os.write(1, (what + "\\n").encode())

def pay(number, intent):
    say(f"began {number}")
    return intent.idempotency_key

with safepoint.Steps(__import__("pathlib").Path(sys.argv[1])) as steps:
    for number in range(100):
        try:
            steps.effect(f"pay-{number}", lambda intent: pay(number, intent))
            say(f"acknowledged {number}")
        except safepoint.Held:
            say(f"held {number}")
say("end")
"""


def run(program: str, directory: Path, kill_after: int | None) -> list[str]:
    """The lines that it wrote, until it was killed after so many of them."""
    process = subprocess.Popen([sys.executable, "-c", program, str(directory)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line.strip())
        if len(lines) == kill_after:
            process.kill()
    process.stdout.close()
    assert process.wait() == (0 if lines[-1:] == ["end"] else -signal.SIGKILL)
    return lines


def storm(program: str, directory: Path, longest: int) -> list[str]:
    """All lines of all runs, killed at random moments, until one gets to its end."""
    random_moments = random.Random(7)
    lines: list[str] = []
    for _ in range(8):
        lines += run(program, directory, random_moments.randrange(1, longest))
        if lines[-1] == "end":
            return lines
    return lines + run(program, directory, None)


@pytest.mark.parametrize(("program", "longest"), [(THREADS, 150), (TASKS, 450)], ids=["threads", "tasks"])
def test_what_was_acknowledged_is_never_run_again(tmp_path: Path, program: str, longest: int) -> None:
    acknowledged: set[str] = set()
    lines = storm(program, tmp_path / "steps", longest)
    for line in lines:
        what, _, number = line.partition(" ")
        if what == "began":
            assert number not in acknowledged
        elif what == "acknowledged":
            acknowledged.add(number)
    assert acknowledged == {str(number) for number in range(300)}
    assert lines.count("end") == 1


def test_an_effect_is_never_brought_about_twice(tmp_path: Path) -> None:
    lines = storm(EFFECTS, tmp_path / "steps", 60)
    began = [line.partition(" ")[2] for line in lines if line.startswith("began")]
    assert len(began) == len(set(began))
    ended = {line.partition(" ")[2] for line in lines if line.startswith(("acknowledged", "held"))}
    assert ended == {str(number) for number in range(100)}
