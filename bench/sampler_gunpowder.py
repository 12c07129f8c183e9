"""Batches a second of gunpowder with what sampler.yaml asks for: `sampler_gunpowder.py FIB25.ZARR BATCHES WORKERS`.

    pip install gunpowder==1.4.4 "zarr==2.18.7" "numcodecs<0.16"

The same crops (148³ of raw, 108³ of labels, of which affinities of six offsets and their balanced weights are made) and
the same variation, in the order that DaCapo has: deformation with interpolated raw, mirrors and transposes, contrast
and brightness, gamma, Gaussian noise. Like ours, `WORKERS` processes prepare batches beside the one that takes them;
with 0 there is only that one.
"""

import json
import logging
import math
import os
import sys
import time
import warnings

# One thread a process: workers are what is counted.
for name in ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"]:
    os.environ[name] = "1"
warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)

import gunpowder as gp
import numpy as np

container, batches, workers = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
PATCHES, WARM_UP = 4, 1
OFFSETS = [[-1, 0, 0], [0, -1, 0], [0, 0, -1], [-5, 0, 0], [0, -5, 0], [0, 0, -5]]
VOXEL = gp.Coordinate(10, 10, 10)


class Gamma(gp.BatchFilter):
    """Raises intensities to a random power; gunpowder itself has no such node."""

    def __init__(self, array, low, high):
        self.array, self.range = array, (math.log(low), math.log(high))

    def process(self, batch, request):
        array = batch.arrays[self.array]
        exponent = np.float32(math.exp(np.random.uniform(*self.range)))
        array.data = np.power(np.clip(array.data, 0, None), exponent)


raw, labels = gp.ArrayKey("RAW"), gp.ArrayKey("LABELS")
affinities, weights = gp.ArrayKey("AFFINITIES"), gp.ArrayKey("WEIGHTS")
source = gp.ZarrSource(
    container,
    {raw: "sample2/raw", labels: "sample2/labels"},
    # It knows the attribute `resolution` only.
    {
        raw: gp.ArraySpec(interpolatable=True, voxel_size=VOXEL),
        labels: gp.ArraySpec(interpolatable=False, voxel_size=VOXEL),
    },
)
pipeline = (
    source
    + gp.Normalize(raw)
    + gp.RandomLocation()
    + gp.DeformAugment(VOXEL * 30, [10, 20, 20], rotate=True, rotation_axes=[1, 2], subsample=4)
    + gp.SimpleAugment()
    + gp.IntensityAugment(raw, 0.8, 1.2, -0.1, 0.1)
    + Gamma(raw, 0.75, 1.33)
    + gp.NoiseAugment(raw, var=0.02**2)
    + gp.AddAffinities(OFFSETS, labels, affinities, dtype=np.float32)
    + gp.BalanceLabels(affinities, weights)
)
if workers:
    # Its workers hand over batches one by one: crops are stacked in the process that takes them.
    pipeline += gp.PreCache(cache_size=2 * workers, num_workers=workers)
pipeline += gp.Stack(PATCHES)

request = gp.BatchRequest()
request.add(raw, VOXEL * 148)
request.add(labels, VOXEL * 108)
request.add(affinities, VOXEL * 108)
request.add(weights, VOXEL * 108)
with gp.build(pipeline):
    for _ in range(WARM_UP):
        pipeline.request_batch(request)
    begun, cpu = time.perf_counter(), time.process_time()
    for _ in range(batches):
        batch = pipeline.request_batch(request)
    seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
    assert batch[raw].data.shape == (4, 148, 148, 148), batch[raw].data.shape
    assert batch[affinities].data.shape == (4, 6, 108, 108, 108), batch[affinities].data.shape
result = {"batches_per_second": batches / seconds}
if not workers:
    # Of workers it is not known which batch they worked on.
    result["cpu_ms_per_batch"] = 1000 * cpu / batches
print(json.dumps(result))
