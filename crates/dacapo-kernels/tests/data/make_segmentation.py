"""Makes segmentation.npz beside this file: pip install -r peers.txt; python make_segmentation.py"""

from pathlib import Path

import fastremap
import mwatershed
import numpy as np
from scipy import ndimage
from skimage.segmentation import watershed

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
pairs, counts = np.unique(np.stack([truth.ravel(), segments.ravel()]), axis=1, return_counts=True)
peers["pairs"], peers["pair_counts"] = pairs, counts.astype(np.uint64)
peers["unique"], unique_counts = fastremap.unique(truth, return_counts=True)
peers["unique_counts"] = unique_counts.astype(np.uint64)
peers["renumbered"] = fastremap.renumber(truth, in_place=False)[0].astype(np.uint64)
large = peers["unique"][(unique_counts >= 60) & (unique_counts <= 200)]
peers["filtered"] = fastremap.mask_except(truth, list(large))

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
    compact, table = fastremap.renumber(seeds, in_place=False)
    back = {new: old for old, new in table.items()}
    for connectivity in [1, 2, 3]:
        for key, where in [("all", None), ("masked", mask)]:
            found = watershed(volume, compact.astype(np.int32), connectivity=connectivity, mask=where)
            peers[f"{name}.{connectivity}.{key}"] = fastremap.remap(found.astype(np.uint64), back)

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
    shifted = (affinities - bias[:, None, None, None]).astype(np.float64)
    assert len(np.unique(np.abs(shifted))) == shifted.size, "choose another seed"
    found = mwatershed.agglom(shifted, offsets.tolist())
    peers[f"mutex.{index}"] = found.astype(np.uint64)
    found = mwatershed.agglom(shifted, offsets.tolist(), strides=strides.tolist())
    peers[f"mutex.{index}.strided"] = found.astype(np.uint64)
np.savez_compressed(here / "segmentation.npz", **peers)
