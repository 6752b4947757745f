"""A checkpoint that is written where the last one is: the file is empty first, and whole at the end."""

import pickle

import numpy

weights = numpy.zeros(500_000)
print("ready", flush=True)
for step in range(100_000):
    weights += 1
    with open("latest.pickle", "wb") as file:
        pickle.dump({"step": step, "weights": weights}, file)
    if step == 0:
        print("saved", flush=True)
