"""`torch.save` to the same file after every step: 100 MB of weights."""

import torch

weights = torch.zeros(25_000_000)
for step in range(1, 100_000):
    weights += 1
    torch.save({"step": step, "weights": weights}, "latest.pt")
    print("saved", step, flush=True)
    if step == 1:
        print("ready", flush=True)
