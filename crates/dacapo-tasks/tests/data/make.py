"""Makes the fixtures beside this file: python make.py GOLDEN

GOLDEN holds inputs and outputs of DaCapo f3dc388f: targets and weights of its AffinitiesPredictor.
"""

import sys
from pathlib import Path

import numpy as np

here, golden = Path(__file__).parent, Path(sys.argv[1])

inputs = np.load(golden / "inputs_24.npz")
outputs = np.load(golden / "affinities_lsd.npz")
arrays = {name: inputs[name].astype(np.uint64) for name in ["labels", "labels_dense", "labels2d"]}
arrays["mask"] = inputs["mask"] > 0
cases = ["affs3", "affs9", "affs_neg", "affs3_dense", "affs3_masked", "affs3_bg_as_object", "affs3_clip", "affs2d"]
for case in cases + ["affs_empty", "affs_one_label"]:
    target, weight = outputs[f"{case}.target"], outputs[f"{case}.weight"]
    if case == "affs2d":
        target, weight = target[:, None], weight[:, None]
    arrays[f"{case}.target"] = target.astype(np.uint8)
    arrays[f"{case}.weight"] = weight
np.savez_compressed(here / "affinities.npz", **arrays)
