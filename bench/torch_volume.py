"""Predicts a volume in PyTorch as `volume` does: python torch_volume.py NETWORK THREADS LENGTH LAYOUT DIR INPUT WRITTEN

The same pieces, as `volume` prints them (z,y,x), out of its cells and into a Zarr array of the same chunks. LAYOUT is
contiguous or channels_last. Prints one JSON object.
"""

import json
import resource
import sys
import time
from itertools import product

import numpy as np
import torch
import zarr

from torch_networks import NETWORKS

name, threads, length, layout, folder = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5]
shape, written = ([int(n) for n in text.split(",")] for text in sys.argv[6:8])
torch.set_num_threads(threads)
torch.manual_seed(0)
_, _, channels, build = NETWORKS[name]
model = build(channels).eval()
if layout == "channels_last":
    model = model.to(memory_format=torch.channels_last_3d)
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before = peak()
wall, cpu = time.perf_counter(), time.process_time()

raw = zarr.open_array(f"{folder}/cells-{length}.zarr/raw", mode="r")
predicted = zarr.create_array(
    f"{folder}/torch.zarr/{name}",
    shape=(channels, length, length, length),
    chunks=(channels, 64, 64, 64),
    dtype="u1",
    overwrite=True,
)
for begin in product(*(range(0, length, n) for n in written)):
    around = [(b - (n - w) // 2, b - (n - w) // 2 + n) for b, n, w in zip(begin, shape, written)]
    inside = tuple(slice(max(a, 0), min(b, length)) for a, b in around)
    block = np.pad(raw[inside], [(max(-a, 0), max(b - length, 0)) for a, b in around], mode="reflect")
    x = torch.from_numpy(block.astype(np.float32) / 255)[None, None]
    if layout == "channels_last":
        x = x.to(memory_format=torch.channels_last_3d)
    with torch.inference_mode():
        y = torch.sigmoid(model(x))[0]
    cut = [(have - w) // 2 for have, w in zip(y.shape[1:], written)]
    ends = [min(w, length - b) for b, w in zip(begin, written)]
    y = y[(slice(None), *(slice(c, c + e) for c, e in zip(cut, ends)))]
    to = (slice(None), *(slice(b, b + e) for b, e in zip(begin, ends)))
    predicted[to] = (y * 255).round().to(torch.uint8).numpy()

wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
print(json.dumps(dict(wall=wall, cpu=cpu, memory=peak() - before, voxels_per_second=length**3 / wall)))
