"""A signal handler that takes the lock which the interrupted line holds: nobody gives it back."""

import json
import signal
import sys
import threading
import time


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


def save_and_exit(number: int, frame: object) -> None:
    results.save()
    sys.exit(0)


results = Results()
signal.signal(signal.SIGTERM, save_and_exit)
print("ready", flush=True)
for value in range(100_000):
    results.add(value)
    time.sleep(0.001)
