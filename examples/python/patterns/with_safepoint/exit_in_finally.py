"""A second Ctrl-C is an immediate request: it tells the program to hurry, and tears nothing."""

import shutil
import sys
import time
from pathlib import Path

import safepoint

work = Path("work")
with safepoint.shutdown() as stop:
    work.mkdir()
    try:
        print("ready", flush=True)
        for part in stop.iter(range(100_000)):
            (work / f"part-{part}").write_text("half of a result")
            time.sleep(0.01)
    finally:
        time.sleep(0.2)  # the parts so far are sent to where they are kept
        Path("parts").write_text(str(len(list(work.iterdir()))))
        shutil.rmtree(work)
sys.exit(stop.exit_code)
