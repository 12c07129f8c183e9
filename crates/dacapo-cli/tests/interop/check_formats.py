"""Reads what `dacapo arrays export` and `pyramid` wrote with tifffile, NumPy, zarr-python 2 (N5, Zarr) and
ome-zarr: values have to be those of `expected.npy`, voxel sizes those of the manifest.

    python check_formats.py manifest.json
"""

import json
import sys
from pathlib import Path

import numpy as np
import tifffile
import zarr
from ome_zarr.io import parse_url
from ome_zarr.reader import Reader

manifest = Path(sys.argv[1])
here = manifest.parent
entries = json.loads(manifest.read_text())
for entry in entries:
    expected = np.load(here / entry["expected"])
    depth, *size = entry["voxel_size"]
    with tifffile.TiffFile(here / entry["tif"]) as file:
        assert file.is_imagej, entry
        found = file.asarray()
        assert np.array_equal(found.reshape(expected.shape), expected), entry["tif"]
        assert len(file.pages) == expected.shape[0]
        described = file.imagej_metadata
        assert described["unit"] == "nm" and float(described["spacing"]) == depth, described
        tags = file.pages[0].tags
        for tag, length in (("YResolution", size[0]), ("XResolution", size[1])):
            pixels, units = tags[tag].value
            assert abs(units / pixels - length) < 1e-9 * length, (entry["tif"], tag, units, pixels)
        origin = [float(described.get(f"{axis}origin", 0)) for axis in "zyx"]
        offset = [-o * s for o, s in zip(origin, entry["voxel_size"])]
        assert np.allclose(offset, entry["offset"]), (offset, entry)
    found = np.load(here / entry["npy"], mmap_mode="r")
    assert found.dtype == expected.dtype and np.array_equal(found, expected), entry["npy"]
    container, dataset = entry["n5"].split("/", 1)
    array = zarr.open(zarr.N5Store(str(here / container)), mode="r")[dataset]
    assert array.dtype == expected.dtype and np.array_equal(array[:], expected), entry["n5"]
    assert array.attrs["resolution"] == entry["voxel_size"][::-1], dict(array.attrs)
    assert array.attrs["offset"] == entry["offset"][::-1], dict(array.attrs)
    array = zarr.open(str(here / entry["zarr"]), mode="r")
    assert array.dtype == expected.dtype and np.array_equal(array[:], expected), entry["zarr"]

    # The pyramid as a viewer finds it.
    (node,) = [node for node in Reader(parse_url(here / entry["pyramid"]))() if node.data]
    assert np.array_equal(np.asarray(node.data[0]), expected), entry["pyramid"]
    assert len(node.data) > 1
    size0, origin0 = (np.array(entry[key], float) for key in ("voxel_size", "offset"))
    for level, transforms in zip(node.data, node.metadata["coordinateTransformations"]):
        by_type = {transform["type"]: transform for transform in transforms}
        scale, translation = by_type["scale"]["scale"], by_type["translation"]["translation"]
        factor = np.array(scale) / size0
        assert np.allclose(translation, origin0 + (factor - 1) / 2 * size0), transforms
        assert level.shape == tuple(-(-n // int(f)) for n, f in zip(expected.shape, factor)), level.shape
    # A level of an image whose sides are even everywhere is the plain mean.
    factor = [int(n // m) for n, m in zip(expected.shape, node.data[1].shape)]
    whole = [m * f for m, f in zip(node.data[1].shape, factor)]
    if expected.dtype.kind == "f" and whole == list(expected.shape):
        split = expected.astype("f8").reshape([k for m, f in zip(node.data[1].shape, factor) for k in (m, f)])
        assert np.allclose(np.asarray(node.data[1]), split.mean(axis=(1, 3, 5)), rtol=1e-6), entry["pyramid"]
print(f"{len(entries)} arrays are the same with tifffile, NumPy, zarr {zarr.__version__} (N5 and Zarr) and ome-zarr")
