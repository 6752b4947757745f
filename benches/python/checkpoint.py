#!/usr/bin/env python3
"""Checkpoints from Python beside their peers, in one run; prints the tables of docs/src/benchmarks.md.

    python benches/python/checkpoint.py [--short] [--only=save|background|view] [--place DIRECTORY]

Needs torch; safetensors, jax and orbax are measured if they are installed. Every figure is measured in turns over all
ways, so that a machine whose speed drifts drifts for all; a cell is the median. The Rust figure comes from the bench of
the crate in the same turns, if ``--rust PATH`` names its binary (``cargo bench -p safepoint-benches-state --bench
checkpoint --no-run`` says where it is).
"""

from __future__ import annotations

import argparse
import gc
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import safepoint
from safepoint._tree import Encoder

MIB = 1 << 20
warnings.filterwarnings("ignore")


def synced(path: Path) -> None:
    """What makes a file and its name durable."""
    for what in (path, path.parent):
        descriptor = os.open(what, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def settled() -> None:
    """Waits until the disk has nothing to do for anybody."""
    os.sync()
    gc.collect()


class Peak:
    """The most memory that this process has had meanwhile, beyond what it had at the beginning."""

    def __enter__(self) -> Peak:
        self.begin = resident()
        self.most = self.begin
        self.done = threading.Event()
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()
        return self

    def watch(self) -> None:
        while not self.done.wait(0.005):
            self.most = max(self.most, resident())

    def __exit__(self, *_: object) -> None:
        self.done.set()
        self.thread.join()

    @property
    def mib(self) -> float:
        return (self.most - self.begin) / MIB


def resident() -> int:
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * 4096


def timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def in_turns(ways: dict[str, Callable[[Path], float]], rounds: int, place: Path) -> dict[str, list[float]]:
    """Seconds of each way in each round; each in an empty directory, on a disk at rest, in changing order."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        names = list(ways)
        for name in names[number % len(names) :] + names[: number % len(names)]:
            folder = Path(tempfile.mkdtemp(dir=place))
            settled()
            times[name].append(ways[name](folder))
            shutil.rmtree(folder)
    return times


def table(
    title: str, times: dict[str, list[float]], base: str, unit: float = 1e3, memory: dict[str, float] | None = None
) -> None:
    print(f"\n| {title} | ms | times ours |{' extra memory |' if memory else ''}")
    print(f"|---|--:|--:|{'--:|' if memory else ''}")
    for name, values in times.items():
        ratio = statistics.median(one / other for one, other in zip(values, times[base], strict=True))
        row = f"| {name} | {statistics.median(values) * unit:,.1f} | {ratio:.2f} |"
        print(row + (f" {memory[name]:,.0f} MiB |" if memory else ""))


# One save that is durable


def saves(size: int, rounds: int, place: Path, rust: str | None) -> None:
    array = np.random.default_rng(0).random(size // 8).astype(np.float64)
    tensor = torch.from_numpy(array)
    memory: dict[str, float] = {}

    def ours(state: Any) -> Callable[[Path], float]:
        def way(folder: Path) -> float:
            with safepoint.CheckpointStore(folder / "checkpoints") as store:
                return timed(lambda: store.save({"model": {"weights": state}, "step": 1}))

        return way

    def torch_save(sync: bool) -> Callable[[Path], float]:
        def save(path: Path) -> None:
            torch.save({"model": {"weights": tensor}, "step": 1}, path)
            if sync:
                synced(path)

        return lambda folder: timed(lambda: save(folder / "state.pt"))

    def numpy_save(folder: Path) -> float:
        def save() -> None:
            np.save(folder / "state.npy", array)
            synced(folder / "state.npy")

        return timed(save)

    ways: dict[str, Callable[[Path], float]] = {
        "safepoint, torch": ours(tensor),
        "safepoint, numpy": ours(array),
        "torch.save, synced": torch_save(True),
        "torch.save, not synced": torch_save(False),
        "numpy.save, synced": numpy_save,
    }
    try:
        from safetensors.torch import save_file

        def safetensors(folder: Path) -> float:
            def save() -> None:
                save_file({"weights": tensor}, folder / "state.safetensors")
                synced(folder / "state.safetensors")

            return timed(save)

        ways["safetensors, synced"] = safetensors
    except ImportError:
        pass
    if rust:
        ways["the Rust library"] = lambda folder: float(
            subprocess.run([rust, f"--once={size}", str(folder)], check=True, capture_output=True, text=True).stdout
        )
    times = in_turns(ways, rounds, place)
    for name, way in ways.items():
        folder = Path(tempfile.mkdtemp(dir=place))
        with Peak() as peak:
            way(folder)
        memory[name] = peak.mib
        shutil.rmtree(folder)
    table(f"one save of {size // MIB:,} MiB", times, "safepoint, torch", memory=memory)


# A loop that goes on


def backgrounds(size: int, rounds: int, place: Path) -> None:
    """How much longer a loop of 10 ms steps takes for one save in it."""
    tensor = torch.rand(size // 4)
    state = {"model": {"weights": tensor}, "step": 1}

    def loop(save: Callable[[], object], finish: Callable[[], object], saved: int = 3, apart: int = 150) -> float:
        """Extra seconds per save. A save is over before the next one begins."""
        count = saved * apart
        began = time.perf_counter()
        for number in range(count):
            # Work for a fixed amount of computing, not for a fixed time: what the save takes from it is to be seen.
            work()
            if number % apart == 5:
                save()
        took = time.perf_counter() - began
        finish()
        return took / saved

    def calibrate() -> int:
        number = 1000
        while True:
            took = timed(partial(sum, range(number)))
            if took >= 0.01:
                return int(number * 0.01 / took)
            number *= 2

    settled()
    length = statistics.median_low([calibrate() for _ in range(9)])

    def work() -> None:
        sum(range(length))

    ways: dict[str, Callable[[Path], float]] = {"no save": lambda folder: loop(lambda: None, lambda: None)}
    memory: dict[str, float] = {"no save": 0.0}

    def ours(copy: Any) -> Callable[[Path], float]:
        def way(folder: Path) -> float:
            with safepoint.CheckpointStore(folder / "checkpoints") as store:
                store.prepare_background(size)
                return loop(lambda: store.save_in_background(state, copy=copy), store.finish_background)

        return way

    ways["safepoint, in the background"] = ours("memory")
    ways["safepoint, by a fork"] = ours("fork")

    def torch_save(folder: Path) -> float:
        def save() -> None:
            torch.save(state, folder / "state.pt")
            synced(folder / "state.pt")

        return loop(save, lambda: None)

    ways["torch.save in the loop, synced"] = torch_save

    def dcp(with_stager: bool) -> Callable[[Path], float]:
        import torch.distributed.checkpoint as checkpoint
        from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions

        def way(folder: Path) -> float:
            pending: list[Any] = []
            number = 0
            extra: dict[str, Any] = {}
            if with_stager:
                options = StagingOptions(
                    use_pinned_memory=False, use_shared_memory=True, use_async_staging=True, use_non_blocking_copy=False
                )
                extra["async_stager"] = DefaultStager(options)

            def future(response: Any) -> Any:
                return getattr(response, "upload_completion", response)

            def save() -> None:
                nonlocal number
                number += 1
                if pending:
                    future(pending.pop()).result()
                pending.append(checkpoint.async_save(state, checkpoint_id=str(folder / str(number)), **extra))

            def finish() -> None:
                for response in pending:
                    future(response).result()
                if with_stager:
                    extra["async_stager"].close()

            return loop(save, finish)

        return way

    ways["torch.distributed.checkpoint, async"] = dcp(False)
    ways["torch.distributed.checkpoint, async with stager"] = dcp(True)
    try:
        import jax.numpy as jnp
        import orbax.checkpoint as orbax

        held = {"weights": jnp.asarray(tensor.numpy())}

        def orbax_async(folder: Path) -> float:
            saver = orbax.AsyncCheckpointer(orbax.StandardCheckpointHandler())
            number = 0

            def save() -> None:
                nonlocal number
                number += 1
                saver.save((folder / str(number)).absolute(), args=orbax.args.StandardSave(held))

            took = loop(save, saver.wait_until_finished)
            saver.close()
            return took

        ways["Orbax, async"] = orbax_async
    except ImportError:
        pass

    tried: dict[str, Callable[[Path], float]] = {}
    for name, way in ways.items():
        folder = Path(tempfile.mkdtemp(dir=place))
        try:
            with Peak() as peak:
                way(folder)
            tried[name], memory[name] = way, peak.mib
        except Exception as error:
            print(f"{name}: left out, {type(error).__name__}: {error}", file=sys.stderr)
        shutil.rmtree(folder, ignore_errors=True)
    times = in_turns(tried, rounds, place)
    without = times.pop("no save")
    print(f"\n| a loop of 10 ms steps with {size // MIB} MiB: slowed by each save | ms | extra memory |")
    print("|---|--:|--:|")
    for name, values in times.items():
        slowed = statistics.median(one - other for one, other in zip(values, without, strict=True))
        print(f"| {name} | {slowed * 1e3:,.0f} | {memory[name]:,.0f} MiB |")


# A view


def views(size: int) -> None:
    array = np.ones(size // 8)
    tensor = torch.from_numpy(array)
    print("\n| a view of the memory to be saved | ms | extra memory |")
    print("|---|--:|--:|")
    import pickle

    apart: list[pickle.PickleBuffer] = []
    views: list[tuple[str, Callable[[], object]]] = [
        ("safepoint, numpy", lambda: Encoder().encode({"weights": array})),
        ("safepoint, torch", lambda: Encoder().encode({"weights": tensor})),
        (
            "pickle, protocol 5, torch",
            lambda: pickle.dumps({"weights": tensor}, protocol=5, buffer_callback=apart.append),
        ),
    ]
    for name, call in views:
        call()
        gc.collect()
        with Peak() as peak:
            took = statistics.median(timed(call) for _ in range(3))
        print(f"| {name} | {took * 1e3:,.2f} | {peak.mib:,.0f} MiB |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="a sixteenth of the size, two rounds: to see that it runs")
    parser.add_argument("--only", choices=["save", "background", "view"])
    parser.add_argument("--place", type=Path, default=Path("target"), help="where to write (default: target)")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--rust", help="the binary that saves the same by the Rust library")
    asked = parser.parse_args()
    asked.place.mkdir(parents=True, exist_ok=True)
    divisor, rounds = (16, 2) if asked.short else (1, asked.rounds)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=asked.place) as place:
        print(f"torch {torch.__version__}, numpy {np.__version__}, Python {sys.version.split()[0]}, {rounds} rounds")
        if asked.only in (None, "save"):
            saves(1024 * MIB // divisor, rounds, Path(place), asked.rust)
        if asked.only in (None, "background"):
            backgrounds(256 * MIB // divisor, rounds, Path(place))
        if asked.only in (None, "view"):
            views(1024 * MIB // divisor)


if __name__ == "__main__":
    main()
