"""Hooks are no signal handlers: they run when the loop has ended, and may take any lock."""

import json
import sys
import threading
import time

import safepoint


class Results:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.values: list[int] = []

    def add(self, value: int) -> None:
        with self.lock:
            self.values.append(value)
            time.sleep(0.004)  # an index is kept up to date

    def save(self) -> None:
        with self.lock, open("results.json", "w") as file:
            json.dump(self.values, file)


results = Results()
with safepoint.shutdown() as stop:
    stop.hook(order="save")(results.save)
    print("ready", flush=True)
    for value in stop.iter(range(100_000)):
        results.add(value)
        time.sleep(0.001)
sys.exit(stop.exit_code)
