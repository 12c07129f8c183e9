"""Makes segmentation.npz beside this file: pip install -r peers.txt; python make_segmentation.py"""

from pathlib import Path

import numpy as np
from peers import filtered, mutex_watershed, overlaps, renumbered, sizes, watershed
from scipy import ndimage

here = Path(__file__).parent
random = np.random.default_rng(23)
peers = {}


def cells(shape, count, names):
    """Cells around random points, with random names."""
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), -1)
    centres = random.random((count, 3)) * shape
    nearest = ((grid[..., None, :] - centres) ** 2).sum(-1).argmin(-1)
    return names[nearest]


# Ids and overlaps: numpy and fastremap.
names = np.concatenate([np.array([0, 1, 2**63, 2**64 - 1], np.uint64), random.integers(0, 2**63, 30, np.uint64)])
truth, segments = (cells((9, 20, 21), n, names) for n in [25, 34])
peers["truth"], peers["segments"] = truth, segments
peers["pairs"], peers["pair_counts"] = overlaps(truth, segments)
peers["unique"], peers["unique_counts"] = sizes(truth)
peers["renumbered"] = renumbered(truth)
peers["filtered"] = filtered(truth, 60, 200)

# Watersheds where no two heights are equal: scikit-image.
shape = (9, 14, 17)
smooth = ndimage.gaussian_filter(random.standard_normal(shape), 1.2)
height = np.empty(smooth.size, np.float32)
height[smooth.ravel().argsort()] = np.sort(random.standard_normal(smooth.size)).astype(np.float32)
peers["height"] = height = height.reshape(shape)
assert len(np.unique(height)) == height.size
few = np.zeros((2, 8, 15), np.uint8)
few.flat = random.permutation(240)
peers["height_u8"] = few
for name, volume in [("height", height), ("height_u8", few)]:
    seeds = np.zeros(volume.shape, np.uint64)
    seeds.flat[random.choice(volume.size, 12, replace=False)] = names[1:13]
    mask = random.random(volume.shape) < 0.85
    peers[f"{name}.seeds"], peers[f"{name}.mask"] = seeds, mask
    for connectivity in [1, 2, 3]:
        for key, where in [("all", None), ("masked", mask)]:
            peers[f"{name}.{connectivity}.{key}"] = watershed(volume, seeds, where, connectivity)

# Mutex watersheds where no two magnitudes are equal.
offsets = np.array([(1, 0, 0), (0, 1, 0), (0, 0, 1), (-2, 0, 0), (0, 3, -1), (0, 0, -4), (2, -2, 3)])
shape = (7, 15, 16)
objects = cells(shape, 9, np.arange(1, 10))
affinities = np.zeros((len(offsets), *shape))
for channel, offset in enumerate(offsets):
    there = np.roll(objects, -offset, (0, 1, 2))
    affinities[channel] = 0.35 * (objects == there) + 0.65 * random.random(shape)
# Whole steps, each once, and biases between the steps: magnitudes differ.
ranks = affinities.ravel().argsort().argsort()
affinities = (ranks * (2**20 // ranks.size) / 2**20).astype(np.float32).reshape(affinities.shape)
peers["offsets"], peers["affinities"] = offsets.astype(np.int64), affinities
strides = np.array([(1, 1, 1)] * 3 + [(2, 1, 1), (1, 3, 1), (1, 1, 2), (2, 2, 3)])
peers["strides"] = strides.astype(np.uint64)
biases = np.array([[0.5] * 7, [0.4] * 3 + [0.7] * 4, [0.61] * 3 + [0.35] * 4])
biases = ((np.round(biases * 2**20) + np.array([0.25] * 3 + [0.375] * 4)) / 2**20).astype(np.float32)
peers["biases"] = biases
for index, bias in enumerate(biases):
    peers[f"mutex.{index}"] = mutex_watershed(affinities, offsets, bias)
    peers[f"mutex.{index}.strided"] = mutex_watershed(affinities, offsets, bias, strides)
np.savez_compressed(here / "segmentation.npz", **peers)
