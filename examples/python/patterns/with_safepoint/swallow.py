"""A stop is not raised into the middle of an item, so there is nothing that could be swallowed."""

import sys
import time

import safepoint

done = failed = 0
with safepoint.shutdown() as stop:
    print("ready", flush=True)
    for _ in stop.iter(range(100_000)):
        try:
            time.sleep(0.01)  # the request for this item
            done += 1
        except:  # noqa: E722
            failed += 1
            print("failed, going on with the next", flush=True)
sys.exit(stop.exit_code)
