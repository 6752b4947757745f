"""Work of many items for a rehearsal, as somebody writes it who wants to be stopped: `python3 work.py ITEMS SECONDS`.

It appends the number of each item to `items` in one write when the item is done, goes on after the last one that is
there, and leaves at SIGTERM with 0 when the item in progress is done.
"""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path


def main() -> None:
    count, seconds = int(sys.argv[1]), float(sys.argv[2])
    stopping = False

    def stop(*_: object) -> None:
        nonlocal stopping
        stopping = True

    signal.signal(signal.SIGTERM, stop)
    done = Path("items")
    with done.open("a") as file:
        for number in range(len(done.read_text().split()), count):
            # A sleep is begun again after a handler: an item takes its time.
            time.sleep(seconds)
            print(number, file=file, flush=True)
            if stopping:
                return


if __name__ == "__main__":
    main()
