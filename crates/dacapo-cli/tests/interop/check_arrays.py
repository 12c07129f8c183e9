"""Reads every array of a manifest with this environment's Zarr, and with funlib.persistence where it is
installed: values, region and voxel size have to be those that this project's reader gave.

    python check_arrays.py manifest.json
"""

import json
import sys
from pathlib import Path

import numpy as np
import zarr

try:
    from funlib.persistence import open_ds
except ImportError:
    open_ds = None

manifest = Path(sys.argv[1])
arrays = json.loads(manifest.read_text())
for entry in arrays:
    path = Path(entry["container"]) / entry["dataset"]
    expected = np.load(manifest.parent / entry["values"])
    group = zarr.open_group(entry["container"], mode="r")
    for found in (zarr.open_array(str(path), mode="r"), group[entry["dataset"]]):
        values = found[:]
        assert values.dtype == expected.dtype, (path, values.dtype, expected.dtype)
        assert np.array_equal(values, expected, equal_nan=values.dtype.kind == "f"), path
    if open_ds is not None:
        array = open_ds(str(path))
        assert list(array.roi.offset) == entry["offset"], (path, array.roi, entry)
        assert list(array.roi.shape) == entry["shape"], (path, array.roi, entry)
        assert list(array.voxel_size) == entry["voxel_size"], (path, array.voxel_size, entry)
        assert np.array_equal(array[array.roi], expected), path
with_funlib = "" if open_ds is None else ", and with funlib.persistence"
print(f"{len(arrays)} arrays are the same with zarr {zarr.__version__}{with_funlib}")
