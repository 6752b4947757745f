"""A durable loop: each result is written once, many share one sync, and the next run goes on where this one was."""

import safepoint

with safepoint.batch(range(100_000), state="items", progress=False) as batch:
    print("ready", flush=True)
    for item in batch:
        batch.result(f"a result of some length {item}" * 4)
        print("done", batch.counts.done, flush=True)  # as far as it is on the disk
