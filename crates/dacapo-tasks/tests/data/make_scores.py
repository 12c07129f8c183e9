"""Makes scores.npz and scores.json beside this file: pip install numpy==2.4.6 scikit-image==0.26.0; python make_scores.py GOLDEN

GOLDEN holds inputs and outputs of DaCapo f3dc388f: labels, and what its InstanceEvaluator says of them. The other
scores are scikit-image's, truth 0 ignored.
"""

import json
import sys
from pathlib import Path

import numpy as np
from skimage.metrics import adapted_rand_error, variation_of_information

here, golden = Path(__file__).parent, Path(sys.argv[1])

inputs = np.load(golden / "inputs_24.npz")
labels = {name: inputs[name].astype(np.uint64) for name in ["labels", "labels_other", "labels_dense"]}
np.savez_compressed(here / "scores.npz", **labels)
blobs, other, dense = labels.values()
one = np.ones_like(blobs)
cases = {
    "blobs": (blobs, other),
    "identical": (blobs, blobs),
    "dense_vs_blobs": (dense, blobs),
    "one_segment": (blobs, one),
    "all_background": (blobs, 0 * one),
    "each_voxel": (blobs, np.arange(blobs.size, dtype=np.uint64).reshape(blobs.shape)),
}
scores = {}
original = json.loads((golden / "golden.json").read_text())["instance_scores"]
for name, (truth, segments) in cases.items():
    truth, segments = truth.astype(np.int64), segments.astype(np.int64)
    # scikit-image divides by the pairs in the truth what it calls precision, and the other way round.
    with np.errstate(invalid="ignore"):
        error, recall, precision = adapted_rand_error(truth, segments, ignore_labels=[0])
    split, merge = variation_of_information(truth, segments, ignore_labels=[0])
    nullable = lambda value: None if np.isnan(value) else float(value)
    scores[name] = {
        "dacapo": [original[name]["voi_split"], original[name]["voi_merge"]],
        "voi": [float(split), float(merge)],
        "rand": [nullable(error), nullable(precision), nullable(recall)],
    }
(here / "scores.json").write_text(json.dumps(scores, indent=1) + "\n")
