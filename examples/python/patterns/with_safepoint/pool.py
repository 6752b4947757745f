"""`safepoint.map`: Ctrl-C is a request to this process; what is in progress finishes, and its results are given out."""

import json
import sys
import time

import safepoint


def work(item: int) -> int:
    time.sleep(0.05)
    with open("paid", "a") as paid:
        print(item, file=paid)
    return item * item


if __name__ == "__main__":
    with safepoint.shutdown() as stop:
        print("ready", flush=True)
        squares = list(safepoint.map(work, range(400), workers=2, progress=False))
        with open("results.json", "w") as file:
            json.dump(squares, file)
    sys.exit(stop.exit_code)
