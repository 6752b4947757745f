"""A tracked executor: what is pending is given up, what is running is waited for, and its results are there."""

import json
import sys
import time
from concurrent.futures import ProcessPoolExecutor, wait

import safepoint


def work(item: int) -> int:
    time.sleep(0.05)
    with open("paid", "a") as paid:
        print(item, file=paid)
    return item * item


if __name__ == "__main__":
    with safepoint.shutdown() as stop, ProcessPoolExecutor(2) as executor:
        stop.track(executor)
        squares = [executor.submit(work, item) for item in range(400)]
        print("ready", flush=True)
        wait(squares)
        with open("results.json", "w") as file:
            json.dump([square.result() for square in squares if not square.cancelled()], file)
    sys.exit(stop.exit_code)
