"""A checkpoint store: a state is old or new, never half, and a save that returned is on the disk."""

import numpy

import safepoint

weights = numpy.zeros(500_000)
with safepoint.CheckpointStore("checkpoints", retention=2) as store:
    print("ready", flush=True)
    for step in range(1, 100_000):
        weights += 1
        store.save({"step": step, "weights": weights}, step=step)
        print("saved", step, flush=True)
