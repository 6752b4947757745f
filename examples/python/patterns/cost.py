#!/usr/bin/env python3
"""What an item costs when all results are one JSON file that is written anew, and when they are a durable batch.

python examples/python/patterns/cost.py [ITEMS...]
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import safepoint

RESULT = "a result of some length " * 4


def one_file(directory: Path, items: int) -> float:
    """Seconds for the last hundred of so many items."""
    path = directory / "results.json"
    results = {f"item {item}": RESULT for item in range(items - 100)}
    began = time.perf_counter()
    for item in range(items - 100, items):
        results[f"item {item}"] = RESULT
        path.write_text(json.dumps(results))
    return time.perf_counter() - began


def batch(directory: Path, items: int) -> float:
    """Seconds for a hundred of them on average, up to the end of the block, which waits until all are on the disk."""
    began = time.perf_counter()
    with safepoint.batch(range(items), state=directory / "batch", progress=False) as todo:
        for _ in todo:
            todo.result(RESULT)
    return (time.perf_counter() - began) / items * 100


def main() -> int:
    print("| items | the last ones, in one JSON file, not synced | in a batch, durable |\n|--:|--:|--:|")
    for items in [int(given) for given in sys.argv[1:]] or [1_000, 5_000, 20_000]:
        with tempfile.TemporaryDirectory(dir=".") as directory:
            each = [what(Path(directory), items) / 100 for what in (one_file, batch)]
        print(f"| {items:,} | {each[0] * 1e3:.2f} ms each | {each[1] * 1e3:.3f} ms each |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
