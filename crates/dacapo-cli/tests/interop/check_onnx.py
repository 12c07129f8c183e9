"""Runs every model of a folder with onnxruntime and compares what it predicts with what we predicted."""

import pathlib
import sys

import numpy as np
import onnx
import onnxruntime

worst = 0.0
models = sorted(pathlib.Path(sys.argv[1]).glob("*.onnx"))
assert len(models) == 10, models
for path in models:
    onnx.checker.check_model(onnx.load(path), full_check=True)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().custom_metadata_map == {"run": path.stem}
    raw, expected = (np.load(path.with_suffix(f".{what}.npy")) for what in ["raw", "expected"])
    (found,) = session.run(["prediction"], {"raw": raw})
    assert found.shape == expected.shape, (path.stem, found.shape, expected.shape)
    difference = np.abs(found - expected).max()
    print(f"{path.stem:12} {list(raw.shape)} -> {list(found.shape)}, largest difference {difference:.2e}")
    assert expected.std() > 1e-3, f"{path.stem}: nothing to compare"
    worst = max(worst, difference)
# Winograd convolutions round otherwise than direct ones.
assert worst < 1e-4, worst
