"""A global flag: a call that blocks goes on blocking, for Python takes it up again after the handler (PEP 475)."""

import signal
import time

running = True


def stop(number: int, frame: object) -> None:
    global running
    running = False


signal.signal(signal.SIGTERM, stop)
print("ready", flush=True)
looks = 0
while running:
    looks += 1  # is there something to do?
    time.sleep(60)
with open("looks", "w") as file:
    print(looks, file=file)
