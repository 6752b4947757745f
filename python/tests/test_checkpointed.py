"""``@checkpointed``: each ``yield`` is a safepoint."""

from __future__ import annotations

import asyncio
import dataclasses
import signal
from collections.abc import AsyncGenerator, Generator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import safepoint
from conftest import Start
from safepoint import CheckpointReader, CheckpointStore


@dataclasses.dataclass
class Progress:
    step: int = 0
    weights: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(4))


@pytest.mark.parametrize("background", [True, False])
def test_a_loop_that_was_stopped_goes_on_behind_its_yield(tmp_path: Path, background: bool) -> None:
    seen: list[int] = []
    stop_at = 7

    @safepoint.checkpointed(tmp_path / "c", every=3, background=background)
    def train(state: Progress) -> Generator[dict[str, float], None, None]:
        while state.step < 10:
            state.step += 1
            state.weights += 1
            seen.append(state.step)
            if state.step == stop_at:
                stop.request("enough")
            yield {"loss": 1 / state.step}

    with safepoint.shutdown(signals=False) as stop:
        train(Progress())
        raise AssertionError("it goes no further")
    assert seen == [1, 2, 3, 4, 5, 6, 7] and stop.exit_code == 75
    (*_, newest) = CheckpointReader(tmp_path / "c").list("train")
    assert (newest.step, newest.metrics) == (7, {"loss": 1 / 7})
    with safepoint.shutdown(signals=False) as stop:
        state = train(Progress())
    assert seen == list(range(1, 11)) and state.weights.tolist() == [10.0] * 4 and type(state) is Progress
    # What is finished is finished, and saved no more.
    generations = len(CheckpointReader(tmp_path / "c").list("train"))
    assert train(Progress()).step == 10 and len(seen) == 10
    assert len(CheckpointReader(tmp_path / "c").list("train")) == generations


def test_an_exception_leaves_what_was_saved(tmp_path: Path) -> None:
    with CheckpointStore(tmp_path / "c") as store:
        closed: list[str] = []

        @safepoint.checkpointed(store, every=1, name="loop", background=False)
        def loop(state: dict[str, int]) -> Generator[None, None, None]:
            try:
                while True:
                    state["n"] += 1
                    if state["n"] == 3:
                        raise ZeroDivisionError
                    yield
            finally:
                closed.append("closed")

        with pytest.raises(ZeroDivisionError):
            loop({"n": 0})
        found = store.latest("loop")
        assert found is not None and found.state == {"n": 2} and closed == ["closed"]
        with pytest.raises(ZeroDivisionError):
            loop({"n": 0})


def test_an_async_loop(tmp_path: Path) -> None:
    @safepoint.checkpointed(tmp_path / "c", every=timedelta(hours=1))
    async def loop(state: dict[str, int]) -> AsyncGenerator[None, None]:
        while state["n"] < 5:
            state["n"] += 1
            await asyncio.sleep(0)
            if state["n"] == 3:
                stop.request("enough")
            yield

    async def main() -> Any:
        return await loop({"n": 0})

    with safepoint.shutdown(signals=False) as stop:
        asyncio.run(main())
    found = CheckpointReader(tmp_path / "c").latest("loop")
    assert found is not None and found.state == {"n": 3}
    assert asyncio.run(main()) == {"n": 5}


def test_what_is_no_loop_is_refused(tmp_path: Path) -> None:
    with pytest.raises(safepoint.InvalidError, match="`once` has no `yield`"):

        @safepoint.checkpointed(tmp_path / "c")  # type: ignore[arg-type]
        def once(state: Any) -> None:
            return None

    @safepoint.checkpointed(tmp_path / "c")
    def says(state: dict[str, int]) -> Generator[Any, None, None]:
        yield 5

    with pytest.raises(safepoint.InvalidError, match="`says` yields int"):
        says({})


def test_killed_and_stopped_it_ends_as_if_nothing_had_been(tmp_path: Path, start: Start) -> None:
    source = """
        import os, sys, numpy, safepoint

        place, number, at = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])

        @safepoint.checkpointed(place, every=5)
        def train(state):
            random = numpy.random.default_rng()
            random.bit_generator.state = state["random"]
            while state["step"] < 60:
                state["weights"] += random.random(1 << 14)
                state["step"] += 1
                state["random"] = random.bit_generator.state
                print("step", state["step"])
                if state["step"] == at:
                    os.kill(os.getpid(), number)
                yield

        with safepoint.shutdown(announce=False) as stop:
            begin = {"step": 0, "weights": numpy.zeros(1 << 14),
                     "random": numpy.random.default_rng(7).bit_generator.state}
            state = train(begin)
            print("done", state["step"], state["weights"].sum().hex())
        sys.exit(stop.exit_code)
    """
    never = ("0", "0")
    wanted = start(source, str(tmp_path / "whole"), *never).end()[1][-1]
    assert wanted.startswith("done 60")
    place = str(tmp_path / "broken")
    for way, at, expected in [(signal.SIGKILL, 12, -9), (signal.SIGTERM, 25, 143), (signal.SIGKILL, 40, -9)]:
        code, lines, _ = start(source, place, str(int(way)), str(at)).end()
        assert (code, lines[-1]) == (expected, f"step {at}")
    code, lines, errors = start(source, place, *never).end()
    assert code == 0 and lines[-1] == wanted and lines[0] != "step 1", errors
