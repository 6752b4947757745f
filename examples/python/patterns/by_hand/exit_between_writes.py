"""`sys.exit()` in the signal handler: payments that are in two books."""

import signal
import sys
import time


def stop(number: int, frame: object) -> None:
    print("stopping")
    sys.exit(0)


signal.signal(signal.SIGTERM, stop)
with open("debits", "a") as debits, open("credits", "a") as credits:
    print("ready", flush=True)
    for payment in range(100_000):
        print(payment, file=debits, flush=True)
        time.sleep(0.004)  # the other bank answers
        print(payment, file=credits, flush=True)
        time.sleep(0.001)
