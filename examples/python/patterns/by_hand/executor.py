"""`ProcessPoolExecutor` and SIGTERM: the program ends, its workers stay."""

import json
import time
from concurrent.futures import ProcessPoolExecutor


def work(item: int) -> int:
    time.sleep(0.05)
    with open("paid", "a") as paid:
        print(item, file=paid)
    return item * item


if __name__ == "__main__":
    with ProcessPoolExecutor(2) as executor:
        squares = executor.map(work, range(400))
        print("ready", flush=True)
        results = list(squares)
    with open("results.json", "w") as file:
        json.dump(results, file)
