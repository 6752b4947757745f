"""A checkpoint that is written where the last one is: the file is empty first, and whole only at the end."""

import pickle

import numpy

weights = numpy.zeros(500_000)
print("ready", flush=True)
for step in range(1, 100_000):
    weights += 1
    with open("latest.pickle", "wb") as file:
        pickle.dump({"step": step, "weights": weights}, file)
    print("saved", step, flush=True)
