"""Makes fib25.zarr, which fib25.yaml trains on, of its public source:

    git clone --depth 1 https://github.com/janelia-flyem/neuroproof_examples
    pip install "zarr==2.18.7" "numcodecs<0.16" numpy h5py pillow
    python examples/fib25.py neuroproof_examples/training_sample2 fib25.zarr

The source has 250 slices (grayscale_maps/*.png) and the neurons (groundtruth.h5.gz, dataset `stack`). The runs
that are reported here used 170 of the slices, whose place was not noted: it is found by the crop in
tests/fixtures/fib25_96.zarr, and what is written is checked against it.
"""

import gzip
import io
import pathlib
import sys

import h5py
import numcodecs
import numpy as np
import PIL.Image
import zarr

SLICES = 170
FIXTURE = pathlib.Path(__file__).parent.parent / "tests/fixtures/fib25_96.zarr"
CODECS = {"raw": numcodecs.Zstd(1), "labels": numcodecs.Blosc("zstd", 5, numcodecs.Blosc.BITSHUFFLE)}


def windows(volume, begin, shape):
    """The windows of `shape` along z that begin at `begin` in y and x: (first slice, window)."""
    across = tuple(slice(b, b + n) for b, n in zip(begin[1:], shape[1:]))
    for z in range(volume.shape[0] - shape[0] + 1):
        yield z, volume[(slice(z, z + shape[0]), *across)]


def same_partition(a, b):
    pairs = len(np.unique(np.stack([a.ravel(), b.ravel()]), axis=1).T)
    return pairs == len(np.unique(a)) == len(np.unique(b))


def main(source, target):
    slices = sorted((source / "grayscale_maps").glob("*.png"))
    if not slices:
        sys.exit(f"{source}/grayscale_maps has no PNG files")
    raw = np.stack([np.asarray(PIL.Image.open(path).convert("L")) for path in slices])
    with h5py.File(io.BytesIO(gzip.open(source / "groundtruth.h5.gz").read())) as file:
        labels = file["stack"][:].astype(np.uint64)

    fixture = zarr.open(str(FIXTURE), "r")
    crop = fixture["raw"][:]
    begin = [o // v for o, v in zip(fixture["raw"].attrs["offset"], fixture["raw"].attrs["voxel_size"])]
    found = next((z for z, window in windows(raw, begin, crop.shape) if np.array_equal(window, crop)), None)
    if found is None or found < begin[0]:
        sys.exit(f"the crop in {FIXTURE} is nowhere in {source}: is this training_sample2?")
    first = found - begin[0]
    part = {"raw": raw[first : first + SLICES]}
    here = tuple(slice(b, b + n) for b, n in zip(begin, crop.shape))
    # Stacks of labels have been written in either order of axes.
    for volume in (labels, labels.transpose()):
        # They may begin at another slice than the images.
        for start in {first, 0} if volume.shape[0] >= SLICES else ():
            candidate = volume[start : start + SLICES]
            if candidate.shape == part["raw"].shape and same_partition(candidate[here], fixture["labels"][:]):
                part["labels"] = candidate
    if "labels" not in part:
        sys.exit(f"the labels of {source} do not agree with those in {FIXTURE}: nothing was written")

    sample = zarr.open_group(target, "w-").create_group("sample2")
    for name, data in part.items():
        array = sample.create_dataset(
            name, data=data, chunks=(64, 64, 64), compressor=CODECS[name], dimension_separator="/"
        )
        array.attrs.update(
            offset=[0] * 3, voxel_size=[10] * 3, axis_names=["z", "y", "x"], units=["nm"] * 3
        )
    print(f"{target}: sample2/raw and sample2/labels, slices {first} to {first + SLICES - 1} of {len(raw)}")


main(pathlib.Path(sys.argv[1]), sys.argv[2])
