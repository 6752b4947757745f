"""Cleaning up in `finally`: Ctrl-C comes twice, as people press it."""

import shutil
import time
from pathlib import Path

work = Path("work")
work.mkdir()
try:
    print("ready", flush=True)
    for part in range(100_000):
        (work / f"part-{part}").write_text("half of a result")
        time.sleep(0.01)
finally:
    time.sleep(0.2)  # the parts so far are sent to where they are kept
    Path("parts").write_text(str(len(list(work.iterdir()))))
    shutil.rmtree(work)
