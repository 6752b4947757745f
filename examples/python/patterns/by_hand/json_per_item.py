"""All results in one JSON file, written anew after each item."""

import json
from pathlib import Path

results: dict[str, str] = {}
print("ready", flush=True)
for item in range(100_000):
    results[f"item {item}"] = "a result of some length " * 4
    Path("results.json").write_text(json.dumps(results))
    print("done", len(results), flush=True)
