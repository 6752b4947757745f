"""The same tensors in a checkpoint store: written from where they are, without pickle."""

import torch

import safepoint

weights = torch.zeros(25_000_000)
with safepoint.CheckpointStore("checkpoints", retention=2) as store:
    for step in range(1, 100_000):
        weights += 1
        store.save({"step": step, "weights": weights}, step=step)
        print("saved", step, flush=True)
        if step == 1:
            print("ready", flush=True)
