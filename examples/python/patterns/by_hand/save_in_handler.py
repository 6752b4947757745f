"""A signal handler that saves: it runs between any two lines of the program, and it does not know which."""

import json
import signal
import sys
import time

state = {"done": 0, "total": 0}


def save_and_exit(number: int, frame: object) -> None:
    with open("state.json", "w") as file:
        json.dump(state, file)
    sys.exit(0)


signal.signal(signal.SIGTERM, save_and_exit)
print("ready", flush=True)
for _ in range(100_000):
    state["done"] += 1
    time.sleep(0.004)  # what one is worth is looked up
    state["total"] += 3
    time.sleep(0.001)
