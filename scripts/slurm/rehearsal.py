#!/usr/bin/env python3
"""Work that takes longer than its allocation, in a real SLURM cluster of one machine.

usage: scripts/slurm/rehearsal.py path/to/safepoint

Each scene is a job whose items have to be done once each, however often it is stopped: before the end of its time by
`--signal` or by safepoint's own look at the clock, at the end of its time by force, by preemption, and by an
administrator's requeue. They run at the same time and take some two minutes, as SLURM counts in minutes.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cluster import Cluster, wait_for

WORK = [sys.executable, str(Path(__file__).with_name("work.py"))]
ITEMS = 120
SECONDS = 0.4


@dataclass
class Scene:
    """A job, what is done to it besides, and what must have happened."""

    name: str
    script: Callable[[str], str]
    # Options of `sbatch`.
    options: list[str]
    # How it is stopped: what the log or the events must say of it, as many times as it was restarted at least.
    said: str
    # Done when some items are.
    disturb: Callable[[Cluster, str], None] | None = None
    # Whether SLURM ends it for good, and somebody submits it again.
    again: bool = False
    items: int = ITEMS


def template(*more: str, command: list[str] | None = None) -> Callable[[str], str]:
    """The script of `safepoint init slurm` with so many minutes, as it is printed."""

    def script(safepoint: str) -> str:
        work = command or [*WORK, str(ITEMS), str(SECONDS)]
        line = [
            safepoint,
            "init",
            "slurm",
            "--name",
            "work",
            "--program",
            safepoint,
            "--grace",
            "5s",
            *more,
            "--",
            *work,
        ]
        return subprocess.run(line, capture_output=True, text=True, check=True).stdout

    return script


def without_signal(script: Callable[[str], str]) -> Callable[[str], str]:
    """The same, but SLURM says nothing before the end."""

    def changed(safepoint: str) -> str:
        lines = script(safepoint).splitlines(keepends=True)
        return "".join(line for line in lines if not line.startswith("#SBATCH --signal"))

    return changed


def plain(safepoint: str) -> str:
    """A script that knows nothing of SLURM, and of which SLURM makes an end."""
    run = [safepoint, "run", "points", "-j1", "--output", "none", "--grace", "2s", "--", "sh", "-c"]
    return f"#!/bin/sh\nexec {shlex.join(run)} 'sleep 0.4; echo \"$0\" >> items' {{}}\n"


def preempt(cluster: Cluster, job: str) -> None:
    """Somebody more important wants the node."""
    cluster.call("sbatch", "--output=/dev/null", "--partition=calm", "--cpus-per-task=40", "--wrap=sleep 1")


def requeue(cluster: Cluster, job: str) -> None:
    cluster.call("scontrol", "requeue", job)


SCENES = [
    Scene("signal", template("--time", "1m"), [], "SIGUSR1"),
    Scene("clock", without_signal(template("--time", "1m")), [], "the time of SLURM job"),
    Scene("limit", plain, ["--time=1"], "SIGTERM", again=True, items=260),
    Scene("preempted", template("--time", "5m"), ["--partition=low", "--cpus-per-task=40"], "SIGUSR1", preempt),
    Scene("requeued", template("--time", "5m"), [], "SIGTERM", requeue),
]


def items(folder: Path) -> list[str]:
    file = folder / "items"
    return file.read_text().split() if file.exists() else []


def events(folder: Path) -> Iterator[dict[str, object]]:
    for file in folder.glob(".safepoint/*/events.jsonl"):
        yield from map(json.loads, file.read_text().splitlines())


def check(cluster: Cluster, scene: Scene, folder: Path, jobs: list[str]) -> str:
    """What happened in a scene, in a line; ends everything if that is not what should."""
    problems = []
    done = items(folder)
    if sorted(map(int, done)) != list(range(scene.items)):
        twice = {item for item in done if done.count(item) > 1}
        problems.append(f"{len(set(done))} of {scene.items} items are done, and twice: {sorted(twice)}")
    stops = [event for event in events(folder) if event["event"] == "interrupt_initiated"]
    said = [event for event in stops if scene.said in str(event.get("message"))]
    if not said:
        problems.append(f"no stop request says {scene.said!r}: {[event.get('message') for event in stops]}")
    starts = len([event for event in events(folder) if event["event"] == "run_started"])
    if starts < 2:
        problems.append(f"it was started {starts} times")
    # Asked in a way that it understands, the work ends by itself.
    killed = [
        event["exit"] for event in events(folder) if event["event"] == "child_ended" and event["exit"] != "exit 0"
    ]
    if killed:
        problems.append(f"the work was {', '.join(map(str, killed))}")
    if problems:
        log = "".join(file.read_text() for file in folder.glob("*.log"))
        raise SystemExit(f"{scene.name}: {'; '.join(problems)}\n{log}\n{list(events(folder))}")
    restarts = cluster.show(jobs[-1], "Restarts")
    return f"{starts} runs in {len(jobs)} job{'s'[: len(jobs) > 1]} ({restarts} requeues), {len(done)} items"


def main() -> int:
    if len(sys.argv) != 2:
        sys.exit("usage: rehearsal.py path/to/safepoint")
    if os.geteuid() != 0:
        print("0 scenes: SKIPPED, as the daemons of a cluster start as root only")
        return 0
    safepoint = str(Path(sys.argv[1]).resolve())
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as name, Cluster(Path(name)) as cluster:
        folders = {scene.name: Path(name) / scene.name for scene in SCENES}
        jobs: dict[str, list[str]] = {}
        for scene in SCENES:
            folder = folders[scene.name]
            folder.mkdir()
            (folder / "job.sh").write_text(scene.script(safepoint))
            (folder / "points").write_text("".join(f"{number}\n" for number in range(scene.items)))
            jobs[scene.name] = [cluster.submit(folder, "--output=job.log", "--open-mode=append", *scene.options)]
        waiting = {scene.name: scene for scene in SCENES}
        disturbed = set()
        while waiting:
            if time.monotonic() - begin > 420:
                for scene in waiting.values():
                    print(cluster.call("scontrol", "show", "job", jobs[scene.name][-1]), file=sys.stderr)
                    print((folders[scene.name] / "job.log").read_text(), file=sys.stderr)
                sys.exit(f"not done in time: {', '.join(waiting)}")
            for scene in list(waiting.values()):
                folder, job = folders[scene.name], jobs[scene.name][-1]
                if scene.disturb and scene.name not in disturbed and len(items(folder)) >= 10:
                    disturbed.add(scene.name)
                    scene.disturb(cluster, job)
                state = cluster.show(job, "JobState")
                if state in ("TIMEOUT", "FAILED") and scene.again and len(jobs[scene.name]) < 4:
                    # Somebody comes in the morning and finds it ended.
                    jobs[scene.name].append(
                        cluster.submit(folder, "--output=job.log", "--open-mode=append", *scene.options)
                    )
                elif state in ("COMPLETED", "TIMEOUT", "FAILED", "CANCELLED", "NODE_FAIL"):
                    del waiting[scene.name]
                    if state != "COMPLETED":
                        print(f"{scene.name}: SLURM says {state}", file=sys.stderr)
                    told = check(cluster, scene, folder, jobs[scene.name])
                    print(f"{scene.name:10} {state}, {told}, after {time.monotonic() - begin:.0f} s", flush=True)
            time.sleep(0.5)
        wait_for("the other jobs", lambda: not cluster.call("squeue", "--noheader"))
    print(f"{len(SCENES)} scenes in {time.monotonic() - begin:.0f} s, each item done once")
    return 0


if __name__ == "__main__":
    sys.exit(main())
