"""The same tensors in a checkpoint store: written from where they are, without pickle."""

import torch

import safepoint

weights = torch.zeros(5_000_000)
with safepoint.CheckpointStore("checkpoints", retention=2) as store:
    print("ready", flush=True)
    for step in range(1, 100_000):
        weights += 1
        store.save({"step": step, "weights": weights}, step=step)
        print("saved", step, flush=True)
