"""The loop ends between two payments, and the exit code says that not all were made."""

import sys
import time

import safepoint

with safepoint.shutdown() as stop, open("debits", "a") as debits, open("credits", "a") as credits:
    print("ready", flush=True)
    for payment in stop.iter(range(100_000)):
        print(payment, file=debits, flush=True)
        time.sleep(0.004)  # the other bank answers
        print(payment, file=credits, flush=True)
        time.sleep(0.001)
sys.exit(stop.exit_code)
