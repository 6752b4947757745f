"""`multiprocessing.Pool` and Ctrl-C: the terminal tells every worker, and `map` returns nothing."""

import json
import time
from multiprocessing import Pool


def work(item: int) -> int:
    time.sleep(0.05)
    with open("paid", "a") as paid:
        print(item, file=paid)
    return item * item


if __name__ == "__main__":
    with Pool(2) as pool:
        print("ready", flush=True)
        squares = pool.map(work, range(400))
    with open("results.json", "w") as file:
        json.dump(squares, file)
