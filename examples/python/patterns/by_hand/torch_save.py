"""`torch.save` to the same file after every step."""

import torch

weights = torch.zeros(5_000_000)
print("ready", flush=True)
for step in range(1, 100_000):
    weights += 1
    torch.save({"step": step, "weights": weights}, "latest.pt")
    print("saved", step, flush=True)
