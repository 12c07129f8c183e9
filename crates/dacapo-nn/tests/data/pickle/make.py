"""Makes the files of this folder: one thing in each protocol. Written with Python 3.11.7 and NumPy 2.4.6:

    python make.py
"""

import collections
import pickle

import numpy


class Weights:
    def __init__(self):
        self.model = collections.OrderedDict(a=1, b=[2.5])


shared = ["shared"]
loop = []
loop.append(loop)
value = {
    "none": None,
    "truth": [True, False],
    "ints": [0, 255, 65535, -1, 2**31 - 1, -(2**63), 2**63 - 1, 2**70],
    "floats": [0.5, -1e300, float("inf")],
    "text": "z\u00fcrich \U0001f600 \\ ' \n",
    "bytes": b"\x00\xff'",
    "tuples": ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)),
    "set": {7},
    "twice": [shared, shared],
    "loop": loop,
    "class": collections.OrderedDict,
    "object": Weights(),
    "scalars": [numpy.float64(0.25), numpy.float32(0.25), numpy.int64(-3), numpy.bool_(True)],
    "array": numpy.arange(6, dtype=">i2").reshape(2, 3),
    "columns": numpy.asfortranarray(numpy.arange(6, dtype="f4").reshape(2, 3)),
}
for protocol in range(6):
    with open(f"protocol{protocol}.pkl", "wb") as file:
        pickle.dump(value, file, protocol)
