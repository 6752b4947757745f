"""A training that goes on exactly where it was, to the last bit.

    python examples/python/training.py [--dir DIRECTORY] [--epochs N] [--checkpoint G] [--list]

Started again after Ctrl-C, `kill -9` or a power cut, it goes on from the newest checkpoint and finishes the epochs that
were planned. `--epochs 30` plans 30 more than are complete, `--checkpoint 7` goes on from generation 7, `--list` shows
which there are. The model is a table that learns a made-up function by gradient descent; what matters is that
everything that decides the next step is in the state: the tables, the place in the data, the random numbers, the
losses.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import safepoint

ROWS, WIDTH, BATCHES, ROWS_OF_A_BATCH = 1024, 256, 50, 64


@dataclass
class Progress:
    """All that decides how the work goes on, but for the two tables."""

    epoch: int = 0
    batch: int = 0
    planned: int = 10
    loss: float = 0.0
    losses: list[float] = field(default_factory=list)


class Training:
    """The model, and how far it is."""

    def __init__(self, saved: safepoint.Checkpoint | None) -> None:
        self.random = np.random.default_rng(5)
        if saved is None:
            self.progress = Progress()
            self.weights = np.zeros((ROWS, WIDTH), np.float32)
            self.momentum = np.zeros((ROWS, WIDTH), np.float32)
            return
        state = saved.state
        self.progress = Progress(**state["progress"])
        self.weights, self.momentum = state["weights"], state["momentum"]
        self.random.bit_generator.state = json.loads(state["random"])

    def state(self) -> dict[str, object]:
        return {
            "progress": asdict(self.progress),
            "weights": self.weights,
            "momentum": self.momentum,
            # Numbers of 128 bits: as a text.
            "random": json.dumps(self.random.bit_generator.state),
        }

    def step(self) -> None:
        """One batch of stochastic gradient descent with momentum."""
        rows = self.random.choice(ROWS, ROWS_OF_A_BATCH, replace=False)
        error = self.weights[rows] - wanted(rows)
        self.momentum[rows] = np.float32(0.9) * self.momentum[rows] + error
        self.weights[rows] -= np.float32(0.02) * self.momentum[rows]
        progress = self.progress
        progress.loss += float(np.mean(error * error))
        progress.batch += 1
        if progress.batch == BATCHES:
            progress.losses.append(progress.loss / BATCHES)
            progress.epoch, progress.batch, progress.loss = progress.epoch + 1, 0, 0.0

    def digest(self) -> str:
        """Another one if any bit of the state is another."""
        digest = hashlib.sha256(self.weights.tobytes() + self.momentum.tobytes())
        digest.update(json.dumps([asdict(self.progress), self.random.bit_generator.state]).encode())
        return digest.hexdigest()[:16]


def wanted(rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """What the model is to learn."""
    columns: NDArray[np.float32] = np.cos(np.arange(WIDTH, dtype=np.float32) * np.float32(0.01))
    of_rows: NDArray[np.float32] = np.sin(rows[:, None].astype(np.float32) * np.float32(0.001))
    result: NDArray[np.float32] = of_rows + columns
    return result


def train(stop: safepoint.ShutdownToken, store: safepoint.CheckpointStore, training: Training) -> None:
    progress = training.progress
    left = (progress.planned - progress.epoch) * BATCHES - progress.batch
    # Between two batches nothing is half done: here a stop loses nothing.
    for _ in stop.iter(range(left)):
        training.step()
        if progress.batch == 0:
            loss = progress.losses[-1]
            saved = store.save(training.state(), step=progress.epoch, metrics={"loss": loss})
            say(f"epoch {progress.epoch} of {progress.planned}: loss {loss:.6f}, saved {saved.generation}")
    if progress.batch:
        saved = store.save_now(training.state(), step=progress.epoch, within=stop.remaining)
        say(f"saved {saved.generation}, after {progress.batch} batches of epoch {progress.epoch + 1}")


def list_checkpoints(path: Path) -> int:
    if not path.is_dir():
        say("no checkpoints")
        return 0
    for each in safepoint.CheckpointReader(path).list():
        when = each.saved_at or datetime.fromtimestamp(0, timezone.utc)
        loss = each.metrics.get("loss")
        say(
            f"{each.generation:5}  epoch {each.step}  loss {'-' if loss is None else f'{loss:.6f}'}  "
            f"{each.file_bytes} bytes  {when:%Y-%m-%d %H:%M:%S}"
        )
    return 0


def say(line: str) -> None:
    print(line, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="a training that goes on where it was")
    parser.add_argument("--dir", type=Path, default=Path("training"))
    parser.add_argument("--epochs", type=int, help="so many more than are complete; 10 at first")
    parser.add_argument("--checkpoint", type=int, metavar="G", help="go on from this generation")
    parser.add_argument("--list", action="store_true", help="show the checkpoints there are")
    arguments = parser.parse_args()
    path = arguments.dir / "checkpoints"
    if arguments.list:
        return list_checkpoints(path)

    # Another shape of the model is another training: its checkpoints are refused, not guessed at.
    shape = {"rows": ROWS, "width": WIDTH}
    with safepoint.shutdown() as stop, safepoint.CheckpointStore(path, fingerprint=shape) as store:
        found = store.latest() if arguments.checkpoint is None else store.load(arguments.checkpoint)
        training = Training(found)
        progress = training.progress
        if arguments.epochs is not None:
            progress.planned = progress.epoch + arguments.epochs
        if found is None:
            say(f"new training in `{arguments.dir}`: {progress.planned} epochs")
        else:
            say(
                f"resumed from generation {found.generation}: {progress.epoch} of {progress.planned} epochs complete, "
                f"{progress.batch} of {BATCHES} batches of the next"
            )
        say("Ctrl-C saves and stops; the same command goes on")
        train(stop, store, training)

    report = stop.report
    if report is not None:
        is_complete = progress.epoch >= progress.planned
        say(f"status: {'completed' if is_complete else 'interrupted'}; epochs: {progress.epoch} of {progress.planned}")
        say(
            f"interrupts: {report.total_interrupts} total, {report.graceful_interrupts} graceful, "
            f"{report.immediate_interrupts} immediate"
        )
        if is_complete:
            say(f"result: {training.digest()}")
    say("Cleanup complete")
    return stop.exit_code


if __name__ == "__main__":
    try:
        sys.exit(main())
    except safepoint.Error as error:
        sys.exit(f"error: {error}" + (f"\nhint: {error.hint}" if error.hint else ""))
