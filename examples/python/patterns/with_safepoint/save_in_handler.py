"""A hook saves after the loop has come to its safepoint: `done` and `total` belong together."""

import json
import sys
import time

import safepoint

state = {"done": 0, "total": 0}
with safepoint.shutdown() as stop:

    @stop.hook(order="save")
    def save() -> None:
        with open("state.json", "w") as file:
            json.dump(state, file)

    print("ready", flush=True)
    for _ in stop.iter(range(100_000)):
        with stop.unit("one more"):
            state["done"] += 1
            time.sleep(0.004)  # what one is worth is looked up
            state["total"] += 3
        time.sleep(0.001)
sys.exit(stop.exit_code)
