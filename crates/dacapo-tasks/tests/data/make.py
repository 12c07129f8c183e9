"""Makes the fixtures beside this file: python make.py GOLDEN

GOLDEN holds inputs and outputs of DaCapo f3dc388f: targets and weights of its predictors (with lsds 0.1.3), and the
scores of its binary evaluator (with SimpleITK 2.5.0).
"""

import json
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

arrays = {name: inputs[name].astype(np.uint64) for name in ["labels", "labels2d"]}
for case in ["lsd_nv2", "lsd_nv10", "lsd_nv2_down2", "lsd_aniso", "lsd_bg_as_object", "lsd2d"]:
    target, weight = outputs[f"{case}.target"], outputs[f"{case}.weight"]
    if case == "lsd2d":
        target, weight = target[:, None], weight[:, None]
    # A window is enough, and 16 bits are finer than what is compared.
    arrays[f"{case}.target"] = np.round(target[..., 4:20, 8:16] * 65535).astype(np.uint16)
    arrays[f"{case}.weight"] = weight[-1, ..., 4:20, 8:16]
np.savez_compressed(here / "lsds.npz", **arrays)

outputs = np.load(golden / "distance_hot_inner_onehot.npz")
names = ["semantic", "semantic_other", "classes3", "labels2d"]
arrays = {name: inputs[name].astype(np.uint64) for name in names}
arrays["mask"] = inputs["mask"] > 0
for case in ["distance_maskTrue_vs4", "distance_maskTrue_vs40", "distance_maskFalse_vs4", "distance_scale5", "distance_2ch",
             "distance_all0", "distance_all1", "inner", "inner_all0", "hot_maskTrue", "hot_maskFalse"]:
    arrays[f"{case}.target"] = outputs[f"{case}.target"]
    arrays[f"{case}.weight"] = outputs[f"{case}.weight"]
arrays["distance_2d.target"] = outputs["distance_2d.target"][:, None]
arrays["onehot.target"] = outputs["onehot.target"]
balance = np.load(golden / "balance_weights.npz")
arrays["balance_masked"] = balance["moving0"]
arrays["balance_noclip"] = balance["noclip"]
arrays["balance_3cls"] = balance["slab12_3cls"][:12]
np.savez_compressed(here / "maps.npz", **arrays)

pairs = np.load(golden / "binary_evaluator_inputs.npz")
names = ["blobs", "identical", "shift2", "disjoint", "truth_empty", "test_empty", "both_empty", "full"]
arrays = {f"{name}.{role}": pairs[f"{name}.{role}"] > 0 for name in names for role in ["truth", "test"]}
np.savez_compressed(here / "binary.npz", **arrays)
scores = json.loads((golden / "golden.json").read_text())["binary_scores"]
kept = {}
for case, values in scores.items():
    name, *rest = case.split(" ", 1)
    if name in names:
        finite = {key: value if value is not None and np.isfinite(value) else None for key, value in values.items()}
        kept[case] = finite
(here / "binary.json").write_text(json.dumps(kept, indent=0) + "\n")
