"""What the page "From hand-written signal handlers" says: the pattern loses work, and its twin with safepoint does not.

The short form of `examples/python/patterns/prove.py`, with the same programs and judges.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "examples/python/patterns"

#: Rounds of each program at most. One that loses is seen in one of them, as each is weak in most of its time.
ROUNDS = 6


def module(name: str) -> ModuleType:
    sys.path.insert(0, str(FOLDER))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(FOLDER))


PATTERNS = module("patterns").PATTERNS


def names(*, heavy: bool) -> list[str]:
    return [pattern.name for pattern in PATTERNS if pattern.is_heavy == heavy]


def losses(name: str, side: str, rounds: int) -> Counter[str]:
    (pattern,) = (pattern for pattern in PATTERNS if pattern.name == name)
    lost: Counter[str] = module("prove").losses(pattern, side, rounds, seed=1)
    return lost


@pytest.mark.parametrize("name", names(heavy=False))
def test_the_pattern_loses_and_its_twin_does_not(name: str) -> None:
    assert losses(name, "by_hand", ROUNDS), "the pattern is not as bad as the page says"
    assert losses(name, "with_safepoint", ROUNDS) == Counter()


@pytest.mark.heavy
@pytest.mark.parametrize("name", names(heavy=True))
def test_the_pattern_of_a_library_loses_and_its_twin_does_not(name: str) -> None:
    pytest.importorskip("torch")
    assert losses(name, "by_hand", ROUNDS)
    assert losses(name, "with_safepoint", ROUNDS) == Counter()


def test_each_program_has_a_twin_and_is_on_the_page() -> None:
    page = (ROOT / "docs/src/python/handwritten.md").read_text()
    on_the_page = set(re.findall(r"`(\w+)`", page))
    sides = [{path.stem for path in (FOLDER / side).glob("*.py")} for side in ("by_hand", "with_safepoint")]
    assert sides[0] == sides[1] == {pattern.name for pattern in PATTERNS} <= on_the_page
