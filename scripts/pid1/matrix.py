#!/usr/bin/env python3
"""Compares what tini, dumb-init and `safepoint supervise` do as the parent of a command.

usage: scripts/pid1/matrix.py [--write] [--only WORD] path/to/safepoint

Each case is tried with each of them. Safepoint has to give the answer that is wanted of it, and the page
docs/src/concepts/pid1.md has to say what all three really did; `--write` writes it. Needs tini and dumb-init, which
scripts/setup installs.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from cases import CASES, Case
from inits import Init, unshare

PAGE = Path(__file__).resolve().parents[2] / "docs/src/concepts/pid1.md"
BEGIN = "<!-- Made by scripts/pid1/matrix.py. Change the cases, not this table. -->"


def inits(safepoint: str, state: Path) -> list[Init]:
    return [
        Init(
            "tini",
            ["tini"],
            subreaper=["-s"],
            group=["-g"],
            single=[],
            rewrite=[],
            remap=["-e", "143"],
            parent=["-p", "SIGTERM"],
        ),
        Init(
            "dumb-init",
            ["dumb-init"],
            subreaper=[],
            group=[],
            single=["--single-child"],
            rewrite=["--rewrite", "15:2"],
            remap=None,
            parent=None,
        ),
        Init(
            "safepoint",
            [safepoint, "supervise", "--quiet", "--kill-after", "100ms"],
            subreaper=[],
            group=["--group"],
            single=[],
            rewrite=["--map-signal", "TERM=INT"],
            remap=["--stop-exit-code", "0"],
            parent=None,
            state=state,
        ),
    ]


def version(name: str) -> str:
    said = subprocess.run([name, "--version"], capture_output=True, text=True, check=True)
    words = (said.stdout or said.stderr).replace("v", " ").split()
    return next(word for word in words if word[0].isdigit())


def table(answers: dict[Case, dict[str, str]], columns: list[str]) -> str:
    lines = []
    group = ""
    for case, answer in answers.items():
        if case.group != group:
            group = case.group
            lines += ["", f"### {group}", "", f"| | {' | '.join(columns)} |", f"|---|{'---|' * len(columns)}"]
        told = [answer[name.split()[0]] for name in columns]
        lines.append(f"| {case.title} | {' | '.join(told)} |")
    return "\n".join(lines[1:]) + "\n"


def ask(init: Init, first: list[str], numbers: list[int]) -> list[str]:
    """An init's answers to some cases, by their numbers."""
    return [CASES[number].ask(init, first if CASES[number].first else []) for number in numbers]


def main() -> int:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--write", action="store_true")
    arguments.add_argument("--only", default="")
    arguments.add_argument("safepoint")
    given = arguments.parse_args()
    # Whoever started us may ignore some (nohup does), and what is asked below would inherit that.
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    for program in ("tini", "dumb-init", "unshare"):
        if not shutil.which(program):
            sys.exit(f"there is no {program}; scripts/setup installs it")
    first = unshare()
    if first is None:
        print("SKIPPED: what needs an init as process 1, for this user may not make a PID name space", file=sys.stderr)
    columns = [f"tini {version('tini')}", f"dumb-init {version('dumb-init')}", "safepoint supervise"]
    asked = [
        case for case in CASES if given.only in f"{case.group}: {case.title}" and not (case.first and first is None)
    ]
    # In memory: what a disk needs for a sync is not asked about here.
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as state, ProcessPoolExecutor(len(columns)) as pool:
        compared = inits(str(Path(given.safepoint).resolve()), Path(state))
        # A process for each init: its answers do not depend on the others.
        going = {
            init.name: pool.submit(ask, init, first or [], [CASES.index(case) for case in asked]) for init in compared
        }
        said = {name: answers.result() for name, answers in going.items()}
    answers = {case: {name: said[name][number] for name in said} for number, case in enumerate(asked)}
    wrong = 0
    for case, answer in answers.items():
        is_right = answer["safepoint"] == case.wanted
        wrong += not is_right
        print(f"{'ok   ' if is_right else 'WRONG'} {case.group}: {case.title}")
        for name, word in answer.items():
            print(f"        {name:10} {word}")
        if not is_right:
            print(f"        wanted     {case.wanted}")
    made = table(answers, columns)
    if given.write:
        before, found, _ = PAGE.read_text().partition(BEGIN)
        if not found:
            sys.exit(f"{PAGE} has no place for the table")
        PAGE.write_text(f"{before}{BEGIN}\n\n{made}")
    elif columns[0] not in PAGE.read_text() or columns[1] not in PAGE.read_text():
        print(f"{' and '.join(columns[:2])} are not those of the page, so it is not compared", file=sys.stderr)
    elif not given.only and first is not None and made not in PAGE.read_text():
        for line in made.splitlines():
            if line not in PAGE.read_text().splitlines():
                print(f"not on the page: {line}", file=sys.stderr)
        print(f"{PAGE} says something else; scripts/pid1/matrix.py --write writes it", file=sys.stderr)
        wrong += 1
    print(f"{len(answers)} cases, {wrong} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
