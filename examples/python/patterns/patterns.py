"""The patterns: how each is interrupted, and what counts as lost."""

from __future__ import annotations

import json
import pickle
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rounds import Ended, Running


@dataclass(frozen=True)
class Pattern:
    """Two programs of one name, `by_hand` and `with_safepoint`, and one judge for both."""

    name: str
    #: Who interrupts it, in the words of the table.
    by: str
    interrupt: Callable[[Running, random.Random], None]
    #: What was lost in one round: a name for each kind of loss, and how much of it.
    judge: Callable[[Ended], Counter[str]]
    #: It needs torch.
    is_heavy: bool = False


def sigterm(program: Running, moment: random.Random) -> None:
    program.tell(signal.SIGTERM)


def kill(program: Running, moment: random.Random) -> None:
    program.tell(signal.SIGKILL)


def ctrl_c(program: Running, moment: random.Random) -> None:
    program.tell_all(signal.SIGINT)


def ctrl_c_twice(program: Running, moment: random.Random) -> None:
    program.tell_all(signal.SIGINT)
    time.sleep(moment.uniform(0.11, 0.19))
    if program.process.poll() is None:
        program.tell_all(signal.SIGINT)


def _found(losses: dict[str, int | bool]) -> Counter[str]:
    return Counter({name: int(many) for name, many in losses.items() if many})


def _two_books(first: str, second: str) -> Callable[[Ended], Counter[str]]:
    def judge(ended: Ended) -> Counter[str]:
        return _found(
            {
                "an item half done": len(set(ended.lines(first)) ^ set(ended.lines(second))),
                "exit code 0, as if all were done": ended.code == 0,
                "a traceback": ended.complained.count("Traceback"),
            }
        )

    return judge


def _cleanup(ended: Ended) -> Counter[str]:
    return _found(
        {
            "a working directory left behind": (ended.directory / "work").exists(),
            "a result not told": not ended.lines("parts"),
            "a traceback": ended.complained.count("Traceback"),
        }
    )


def _state(ended: Ended) -> Counter[str]:
    path = ended.directory / "state.json"
    state = json.loads(path.read_text()) if path.exists() else {"done": 0, "total": -1}
    return _found(
        {
            "a state that contradicts itself": state["total"] != 3 * state["done"],
            "exit code 0, as if all were done": ended.code == 0,
        }
    )


def _must_be_there(name: str) -> Callable[[Ended], Counter[str]]:
    def judge(ended: Ended) -> Counter[str]:
        return _found({"killed, as it did not end": ended.was_killed, "the results": not ended.lines(name)})

    return judge


def _swallowed(ended: Ended) -> Counter[str]:
    failed = sum(line.startswith("failed") for line in ended.said)
    return _found({"Ctrl-C ignored": ended.was_killed, "a good item counted as failed": failed})


def _workers(ended: Ended) -> Counter[str]:
    paid = len(set(ended.lines("paid")))
    path = ended.directory / "results.json"
    kept = len(json.loads(path.read_text())) if path.exists() else 0
    return _found(
        {
            "a result that was paid for": paid - kept,
            "a process left behind": ended.orphans,
            "a traceback": ended.complained.count("Traceback"),
            "killed, as it did not end": ended.was_killed,
        }
    )


def _last_told(ended: Ended, word: str) -> int:
    """N of the last line `word N` that it said."""
    told = [line.split()[1] for line in ended.said if line.startswith(f"{word} ")]
    return int(told[-1]) if told else 0


def _checkpoint(ended: Ended) -> Counter[str]:
    """Loads the newest state, as the program would when it is started again."""
    saved = _last_told(ended, "saved")
    try:
        step = _step(ended.directory)
    except Exception:
        return _found({"the only checkpoint": saved > 0})
    return _found({"a step that was saved": max(0, saved - step)})


def _step(directory: Path) -> int:
    if (directory / "latest.pickle").exists():
        with open(directory / "latest.pickle", "rb") as file:
            return int(pickle.load(file)["step"])
    if (directory / "latest.pt").exists():
        import torch

        return int(torch.load(directory / "latest.pt")["step"])
    import safepoint

    found = safepoint.CheckpointReader(directory / "checkpoints").latest()
    if found is None:
        return 0
    assert (found.state["weights"] == found.state["step"]).all(), "half old, half new"
    return int(found.state["step"])


def _results(ended: Ended) -> Counter[str]:
    """Reads the results, as the program would when it is started again."""
    told = _last_told(ended, "done")
    in_one_file = ended.directory / "results.json"
    try:
        kept = len(json.loads(in_one_file.read_text())) if in_one_file.exists() else _rows(ended.directory)
    except ValueError:
        return _found({"all results": told > 0})
    return _found({"a result": max(0, told - kept)})


def _rows(directory: Path) -> int:
    import safepoint

    return len(list(safepoint.batch([], state=directory / ".safepoint" / "items").results()))


PATTERNS = [
    Pattern("exit_between_writes", "SIGTERM", sigterm, _two_books("debits", "credits")),
    Pattern("exit_in_finally", "Ctrl-C twice", ctrl_c_twice, _cleanup),
    Pattern("save_in_handler", "SIGTERM", sigterm, _state),
    Pattern("lock_in_handler", "SIGTERM", sigterm, _must_be_there("results.json")),
    Pattern("flag", "SIGTERM", sigterm, _must_be_there("looks")),
    Pattern("swallow", "Ctrl-C", ctrl_c, _swallowed),
    Pattern("asyncio_run", "Ctrl-C", ctrl_c, _two_books("charged", "delivered")),
    Pattern("save_in_place", "kill -9", kill, _checkpoint),
    Pattern("torch_save", "kill -9", kill, _checkpoint, is_heavy=True),
    Pattern("json_per_item", "kill -9", kill, _results),
    Pattern("pool", "Ctrl-C", ctrl_c, _workers),
    Pattern("executor", "SIGTERM", sigterm, _workers),
]
