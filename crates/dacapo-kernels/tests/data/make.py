"""Makes the fixtures beside this file: python make.py GOLDEN

GOLDEN holds inputs and outputs of DaCapo f3dc388f (mwatershed 0.5.2, funlib.evaluate): labels_24, ws_*.
peers.npz is made here, with scipy 1.17 and scikit-image 0.26.
"""

import sys
from pathlib import Path

import numpy as np
from scipy import ndimage
from skimage.segmentation import watershed

here, golden = Path(__file__).parent, Path(sys.argv[1])

inputs = np.load(golden / "inputs_24.npz")
names = ["labels", "labels_other", "labels_dense"]
np.savez_compressed(here / "labels_24.npz", **{name: inputs[name].astype(np.uint64) for name in names})

affinities = np.load(golden / "postproc_inputs.npz")
outputs = np.load(golden / "postproc_outputs.npz")
for case in ["ws3", "ws3_dense"]:
    segments = {f"bias{bias}": outputs[f"{case}_bias{bias}"] for bias in ["0.1", "0.25", "0.5", "0.75", "0.9"]}
    np.savez_compressed(here / f"{case}.npz", affinities=affinities[f"{case}_affs"], **segments)

random = np.random.default_rng(7)
shape = (9, 14, 17)
smooth = ndimage.gaussian_filter(random.standard_normal(shape), 1.5)
mask = smooth > -0.05
peers = {"mask": mask}
peers["distance"] = ndimage.distance_transform_edt(mask)
peers["distance_aniso"] = ndimage.distance_transform_edt(mask, sampling=(4, 2.5, 1))
noise = random.standard_normal((2, 14, 17)).astype(np.float32)
peers["noise"] = noise
for sigma in [0.7, 1.0, 2.5]:
    peers[f"gaussian{sigma}"] = ndimage.gaussian_filter(noise.astype(np.float64), sigma)
peers["maximum"] = ndimage.maximum_filter(noise, 5, mode="constant", cval=-np.inf)
classes = random.integers(0, 3, shape)
peers["classes"] = classes.astype(np.uint64)
for connectivity in [1, 2, 3]:
    structure = ndimage.generate_binary_structure(3, connectivity)
    components = np.zeros(shape, np.uint64)
    for value in [1, 2]:
        labels, count = ndimage.label(classes == value, structure)
        components[labels > 0] = labels[labels > 0] + components.max()
    peers[f"components{connectivity}"] = components
height = random.permutation(smooth.size).reshape(shape).astype(np.float32)
seeds = np.zeros(shape, np.uint64)
seeds.flat[random.choice(smooth.size, 12, replace=False)] = np.arange(1, 13)
peers["height"], peers["seeds"] = height, seeds
peers["watershed"] = watershed(height, seeds.astype(np.int32)).astype(np.uint64)
peers["watershed_masked"] = watershed(height, seeds.astype(np.int32), mask=mask).astype(np.uint64)
np.savez_compressed(here / "peers.npz", **peers)
