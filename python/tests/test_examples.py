"""The examples, as a user meets them: stopped, stopped in a hurry, killed in the middle, and gone on with to the end.

Nothing is lost and nothing is repeated: what was told as complete is never told again, and the result is that of a run
that nobody disturbed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import safepoint
from conftest import PATIENCE

EXAMPLES = Path(__file__).parents[2] / "examples" / "python"


@dataclass
class Ended:
    """How a run of an example ended, and all that it said."""

    code: int
    lines: list[str]

    def said(self, text: str) -> bool:
        return any(text in line for line in self.lines)

    def one(self, begin: str) -> str:
        """The one line that begins so."""
        found = [line for line in self.lines if line.startswith(begin)]
        assert len(found) == 1, (begin, self.lines)
        return found[0]


def run(
    script: str,
    *arguments: str,
    cwd: Path,
    when: str = "",
    times: int = 1,
    send: tuple[signal.Signals, ...] = (),
    during: Callable[[list[str]], object] | None = None,
) -> Ended:
    """Runs an example, and sends signals when a line with ``when`` in it was printed so many times."""
    process = subprocess.Popen(
        [sys.executable, str(EXAMPLES / script), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        cwd=cwd,
        start_new_session=True,
    )
    assert process.stdout is not None
    lines: list[str] = []
    met = 0
    try:
        for line in process.stdout:
            lines.append(line.rstrip("\n"))
            if when and re.search(when, line):
                met += 1
                if met == times:
                    if during is not None:
                        during(lines)
                    for number in send:
                        process.send_signal(number)
        code = process.wait(PATIENCE)
        gone(process.pid)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.stdout.close()
        process.wait()
    return Ended(code, lines)


def gone(session: int) -> None:
    """Waits until nothing of the session lives: no worker stays behind, whatever ended the program."""
    from time import monotonic, sleep

    end = monotonic() + PATIENCE
    while any(of_session(session)):
        assert monotonic() < end, "a process was left behind"
        sleep(0.01)


def of_session(session: int) -> Iterator[int]:
    for entry in Path("/proc").iterdir():
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            yield int(entry.name)


def stopped(ended: Ended, code: int) -> None:
    """It was stopped gracefully: it says so, and how to go on."""
    assert ended.code == code, ended.lines
    assert ended.said("status: interrupted")
    assert ended.said("interrupts: 1 total, 1 graceful, 0 immediate")
    assert ended.lines[-1] == "Cleanup complete"


def completed(ended: Ended) -> None:
    assert ended.code == 0, ended.lines
    assert ended.said("status: completed")
    assert ended.said("Ctrl-C")
    assert ended.lines[-1] == "Cleanup complete"


def told_once(runs: list[Ended], pattern: str) -> Counter[str]:
    """What was told as complete, over all runs: nothing twice."""
    told = Counter(found[1] for each in runs for line in each.lines if (found := re.match(pattern, line)))
    assert all(times == 1 for times in told.values()), told
    return told


def test_experiment(tmp_path: Path) -> None:
    arguments = ("experiment.py", "--work", "20000")
    undisturbed = run(*arguments, cwd=tmp_path)
    completed(undisturbed)
    assert undisturbed.said("new experiment") and undisturbed.said("paused_rate_limit")
    place = tmp_path / "disturbed"
    place.mkdir()
    runs = [
        run(*arguments, cwd=place, when="/run-.* - Starting", times=3, send=(signal.SIGINT,)),
        run(*arguments, cwd=place, when="/run-.* - Complete", times=3, send=(signal.SIGTERM,)),
        run(*arguments, cwd=place, when="/run-.* - Starting", times=4, send=(signal.SIGKILL,)),
        run(*arguments, cwd=place, when="/run-.* - Complete", times=4, send=(signal.SIGKILL,)),
        run(*arguments, cwd=place),
    ]
    stopped(runs[0], 130)
    stopped(runs[1], 143)
    assert [each.code for each in runs[2:4]] == [-signal.SIGKILL] * 2
    completed(runs[4])
    assert runs[4].said("resumed: run 5") and runs[4].said("the run before was killed")
    assert runs[4].one("result: ") == undisturbed.one("result: ")
    told = told_once(runs, r"Stage: (\S+/run-\d) - Complete \(")
    # Between a step's becoming durable and its being told there is a moment for a kill: two runs at a time, two kills.
    assert 24 - 4 <= len(told) <= 24


def test_a_second_signal_gives_up_the_runs_in_progress(tmp_path: Path) -> None:
    # Each run would take longer than anybody waits. Two kinds of signals: two of one kind may become one.
    long = ("experiment.py", "--work", "100000000")
    prepared = run("experiment.py", "--work", "50000", cwd=tmp_path, when="T0 - Complete", send=(signal.SIGINT,))
    stopped(prepared, 130)
    ended = run(*long, cwd=tmp_path, when="/run-.* - Starting", send=(signal.SIGINT, signal.SIGTERM))
    # Whichever of the two came first.
    assert ended.code in (130, 143), ended.lines
    assert ended.said("interrupts: 2 total, 1 graceful, 1 immediate")
    assert ended.said("status: interrupted") and ended.lines[-1] == "Cleanup complete"
    completed(run("experiment.py", "--work", "1000", cwd=tmp_path))


def test_study(tmp_path: Path) -> None:
    arguments = ("study.py", "--candidates", "16", "--work", "5000")
    undisturbed = run(*arguments, cwd=tmp_path)
    completed(undisturbed)
    place = tmp_path / "disturbed"
    place.mkdir()
    candidate = "/candidate-.* - "
    runs = [
        run(*arguments, cwd=place, when=candidate + "Starting", times=5, send=(signal.SIGINT,)),
        run(*arguments, cwd=place, when=candidate + "Complete", times=3, send=(signal.SIGKILL,)),
        run(*arguments, cwd=place, when="stage-1 - Starting", send=(signal.SIGTERM,)),
        run(*arguments, cwd=place, when="stage-2/candidate.* - Starting", send=(signal.SIGKILL,)),
        run(*arguments, cwd=place),
    ]
    stopped(runs[0], 130)
    stopped(runs[2], 143)
    completed(runs[4])
    for begin in ("result: ", "stage 0: ", "stage 3: "):
        assert runs[4].one(begin) == undisturbed.one(begin)
    complete = r"Stage: (\S+/candidate-\d+) - Complete \("
    told = told_once(runs, complete)
    assert 16 + 8 + 4 + 2 - 4 <= len(told) <= 30
    assert set(told) <= set(told_once([undisturbed], complete))


def test_training(tmp_path: Path) -> None:
    arguments = ("training.py", "--dir", "t", "--epochs", "12")
    undisturbed = run(*arguments, cwd=tmp_path)
    completed(undisturbed)
    assert undisturbed.said("new training")
    place = tmp_path / "disturbed"
    place.mkdir()
    again = arguments[:3]
    runs = [
        run(*arguments, cwd=place, when="^epoch", times=1, send=(signal.SIGINT,)),
        run(*again, cwd=place, when="^epoch", times=2, send=(signal.SIGKILL,)),
        run(*again, cwd=place, when="^epoch", times=1, send=(signal.SIGTERM,)),
        run(*again, cwd=place, when="resumed", send=(signal.SIGKILL,)),
        run(*again, cwd=place),
    ]
    stopped(runs[0], 130)
    stopped(runs[2], 143)
    completed(runs[4])
    assert runs[4].one("result: ") == undisturbed.one("result: ")
    epochs = told_once(runs, r"epoch (\d+) of 12: loss")
    assert set(epochs) <= {str(number) for number in range(1, 13)} and len(epochs) >= 11
    losses = {line.partition(", saved")[0] for line in undisturbed.lines if line.startswith("epoch")}
    assert {line.partition(", saved")[0] for each in runs for line in each.lines if line.startswith("epoch")} <= losses


def test_training_lists_goes_back_and_goes_on_for_longer(tmp_path: Path) -> None:
    arguments = ("training.py", "--dir", "t")
    assert run(*arguments, "--list", cwd=tmp_path).lines == ["no checkpoints"]
    first = run(*arguments, "--epochs", "2", cwd=tmp_path)
    completed(first)
    # What looks as a checkpoint and is none: a log, a file that somebody copied, one that was being written.
    checkpoints = next(path.parent for path in (tmp_path / "t/checkpoints").rglob("*.ckpt"))
    newest = sorted(checkpoints.glob("*.ckpt"))[-1]
    for name in ("training.log", f"{newest.stem}.log", "checkpoint_99.log", f"{newest.name}.bak", "99.ckpt.tmp"):
        (checkpoints / name).write_text("epoch 99\n")
    listed = run(*arguments, "--list", cwd=tmp_path)
    assert [line.split()[:3] for line in listed.lines] == [["1", "epoch", "1"], ["2", "epoch", "2"]]
    longer = run(*arguments, "--epochs", "30", cwd=tmp_path)
    completed(longer)
    assert longer.said("resumed from generation 2: 2 of 32 epochs complete")
    assert longer.said("epochs: 32 of 32")
    listed = run(*arguments, "--list", cwd=tmp_path)
    # Retention: the newest twenty, whatever came before them.
    assert [line.split()[2] for line in listed.lines] == [str(epoch) for epoch in range(13, 33)]
    back = run(*arguments, "--checkpoint", "13", "--epochs", "2", cwd=tmp_path)
    completed(back)
    assert back.said("resumed from generation 13: 13 of 15 epochs complete")
    assert back.one("epoch 14 of 15").partition(": ")[2].partition(",")[0] in longer.one("epoch 14 of 32")
    missing = run(*arguments, "--checkpoint", "3", cwd=tmp_path)
    assert missing.code == 1 and missing.lines[-1].startswith(("error: ", "hint: ")), missing.lines
    assert not missing.said("Traceback")


def test_counting_agent(tmp_path: Path) -> None:
    log = tmp_path / "asked"
    server = subprocess.Popen(
        [sys.executable, str(Path(__file__).parent / "endpoint.py"), str(log)], stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    try:
        url = server.stdout.readline().strip()
        arguments = ("counting_agent.py", "--url", url, "--cycles", "40")
        runs = [
            run(*arguments, cwd=tmp_path, when="^cycle", times=5, send=(signal.SIGINT,)),
            run(*arguments, cwd=tmp_path, when="^cycle", times=4, send=(signal.SIGKILL,)),
            run(*arguments, cwd=tmp_path, when="^cycle", times=6, send=(signal.SIGTERM,)),
            run(*arguments, cwd=tmp_path, when="resumed", send=(signal.SIGKILL,)),
            run(*arguments, cwd=tmp_path),
        ]
    finally:
        server.kill()
        server.communicate()
    assert runs[0].code == 130 and runs[0].said("status: interrupted")
    assert runs[0].said("interrupts: 1 total, 1 graceful, 0 immediate; 0 runs were killed")
    assert runs[2].code == 143
    completed(runs[4])
    assert runs[4].said("interrupts: 2 total, 2 graceful, 0 immediate; 2 runs were killed")
    assert runs[4].said("cycles: 40 complete")
    told = told_once(runs, r"cycle (\d+) complete")
    assert 38 <= len(told) <= 40
    # One question may have been asked twice for each kill in the middle: its answer was not recorded.
    asked = Counter(log.read_text().splitlines())
    assert len(asked) == 40 and sum(asked.values()) <= 42
    spent = re.search(r"budget: (\S+) of 1", "\n".join(runs[4].lines))
    tokens = re.search(r"(\d+) tokens read and (\d+) written", "\n".join(runs[4].lines))
    assert spent is not None and tokens is not None
    # 2.50 for a million: each cycle is rounded up to a millionth at most.
    exact = (int(tokens[1]) + int(tokens[2])) * 2.5e-6
    assert exact <= float(spent[1]) <= exact + 40e-6


def test_counting_agent_stops_at_its_budget(tmp_path: Path) -> None:
    server = subprocess.Popen(
        [sys.executable, str(Path(__file__).parent / "endpoint.py"), str(tmp_path / "asked")],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    try:
        url = server.stdout.readline().strip()
        arguments = ("counting_agent.py", "--url", f"{url}/v1", "--protocol", "openai", "--budget", "0.0005")
        runs = [run(*arguments, cwd=tmp_path), run(*arguments, cwd=tmp_path)]
    finally:
        server.kill()
        server.communicate()
    assert runs[0].code == 75 and runs[0].said("status: interrupted")
    asked = len((tmp_path / "asked").read_text().splitlines())
    assert 0 < asked < 10
    # No cycle more, however often it is started.
    assert runs[1].code == 75 and runs[1].said(f"cycles: {asked} complete, 0 of them in run 2")


def digest(seed: str, work: int) -> str:
    found = seed.encode()
    for _ in range(work):
        found = hashlib.sha256(found).digest()
    return found.hex()


def test_consumer(tmp_path: Path) -> None:
    import urllib.error
    import urllib.request

    answers: list[tuple[str, int]] = []

    def look(lines: list[str]) -> None:
        address = next(line for line in lines if line.startswith("health at ")).split()[2].removesuffix("/health,")
        for path in ("/health", "/ready", "/metrics"):
            try:
                with urllib.request.urlopen(address + path, timeout=30) as answer:
                    answers.append((path, answer.status))
            except urllib.error.HTTPError as error:
                answers.append((path, error.code))

    arguments = ("consumer.py", "--health", "127.0.0.1:0", "--lease", "2", "--work", "5000")
    acknowledged = "^acknowledged"
    runs = [
        run(*arguments, "--push", "200", cwd=tmp_path, when=acknowledged, times=20, send=(signal.SIGINT,), during=look),
        run(*arguments, "--push", "200", cwd=tmp_path, when=acknowledged, times=30, send=(signal.SIGKILL,)),
        run(*arguments, cwd=tmp_path, when=acknowledged, times=10, send=(signal.SIGTERM,)),
        run(*arguments, cwd=tmp_path, when="^began", times=15, send=(signal.SIGKILL,)),
        run(*arguments, "--drain", cwd=tmp_path),
    ]
    assert answers == [("/health", 200), ("/ready", 200), ("/metrics", 200)]
    stopped(runs[0], 130)
    stopped(runs[2], 143)
    completed(runs[4])
    assert runs[0].said("new queue") and runs[1].said("resumed: ")
    assert runs[4].said("200 done in all, 0 dead")
    told = told_once(runs, r"acknowledged (\S+)")
    assert 200 - 4 <= len(told) <= 200
    # Each was done before it was acknowledged.
    with safepoint.Queue(tmp_path / ".safepoint/consumer") as queue:
        results = {item.payload["number"]: item.result for item in queue.items("done")}
    assert results == {number: digest(str(number), 5000) for number in range(200)}
    began_after: set[str] = set()
    for line in (line for each in runs for line in each.lines):
        what, _, name = line.partition(" ")
        if what == "acknowledged":
            began_after.add(name)
        elif what == "began":
            assert name not in began_after
