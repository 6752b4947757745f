#!/usr/bin/env python3
"""What common ways of stopping lose, and what safepoint loses: each program runs in a real process and is interrupted
at random moments.

    python examples/python/patterns/prove.py [--rounds N] [--seed N] [PATTERN...]
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from patterns import PATTERNS, Pattern
from rounds import HERE, one_round

SIDES = ("by_hand", "with_safepoint")

#: Rounds at once: most of a round is waiting.
AT_ONCE = 4


def losses(pattern: Pattern, side: str, rounds: int, seed: int) -> Counter[str]:
    """What was lost in so many rounds of one program, summed up."""
    script = HERE / side / f"{pattern.name}.py"

    def play(number: int) -> Counter[str]:
        with tempfile.TemporaryDirectory(prefix=f"{pattern.name}-") as directory:
            moment = random.Random(f"{seed} {pattern.name} {side} {number}")
            return pattern.judge(one_round(script, Path(directory), pattern.interrupt, moment))

    with ThreadPoolExecutor(AT_ONCE) as executor:
        return sum(executor.map(play, range(rounds)), Counter())


def in_words(lost: Counter[str]) -> str:
    return ", ".join(f"{many} × {what}" for what, many in lost.items()) or "nothing"


def main() -> int:
    known = {pattern.name: pattern for pattern in PATTERNS}
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument(
        "pattern", nargs="*", help=f"one of {', '.join(known)}; all but those that need torch, if none is named"
    )
    parser.add_argument("--rounds", type=int, default=20, help="how often each program is interrupted")
    parser.add_argument("--seed", type=int, default=1, help="decides the moments")
    options = parser.parse_args()
    unknown = [name for name in options.pattern if name not in known]
    if unknown:
        parser.error(f"there is no pattern {unknown[0]}; there are {', '.join(known)}")
    print(f"{options.rounds} rounds each, seed {options.seed}\n")
    print("| pattern | interrupted by | lost by hand | lost with safepoint |\n|---|---|---|---|")
    all_kept = True
    for name in options.pattern or [name for name, pattern in known.items() if not pattern.is_heavy]:
        by_hand, with_safepoint = (losses(known[name], side, options.rounds, options.seed) for side in SIDES)
        print(f"| `{name}` | {known[name].by} | {in_words(by_hand)} | {in_words(with_safepoint)} |", flush=True)
        all_kept = all_kept and not with_safepoint
    return 0 if all_kept else 1


if __name__ == "__main__":
    sys.exit(main())
