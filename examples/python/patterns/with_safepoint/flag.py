"""Waiting is waiting for the stop, too: `stop.wait` returns when one is asked for."""

import sys

import safepoint

looks = 0
with safepoint.shutdown() as stop:
    print("ready", flush=True)
    while not stop.requested:
        looks += 1  # is there something to do?
        stop.wait(60)
    with open("looks", "w") as file:
        print(looks, file=file)
sys.exit(stop.exit_code)
