"""Makes the fixtures beside it, with the packages in requirements.txt:

    pip install -r requirements.txt
    python make.py

Every array of shape (a, b, …) has at each place the value that `values` gives, so that readers are checked
without another file: (7919 * i + 13) % 101 at the i-th place in C order, cast, with some types scaled.
"""

import shutil
from pathlib import Path

import h5py
import numpy as np
import tifffile
import zarr
from numcodecs import Blosc, GZip, Zstd
from PIL import Image

here = Path(__file__).parent
shutil.rmtree(here / "data.n5", ignore_errors=True)


def values(shape, dtype):
    i = np.arange(np.prod(shape, dtype=np.int64))
    v = (7919 * i + 13) % 101
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        v = v / 4 - 10
    elif dtype.kind == "i":
        v = v - 50
    elif dtype.kind == "b":
        v = v % 2
    return v.astype(dtype).reshape(shape)


# NumPy
for name in ["bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float32", "float64"]:
    np.save(here / f"c_{name}.npy", values((3, 4, 5), name))
np.save(here / "fortran_int16.npy", np.asfortranarray(values((3, 4, 5), "int16")))
np.save(here / "big_endian_float32.npy", values((3, 4, 5), "float32").astype(">f4"))
np.save(here / "fortran_big_endian_uint32.npy", np.asfortranarray(values((2, 3, 4, 5), "uint32").astype(">u4")))
np.save(here / "one_axis.npy", values((7,), "float64"))

# TIFF
for name in ["uint8", "uint16", "uint32", "int8", "int16", "int32", "float32", "float64", "uint64"]:
    tifffile.imwrite(here / f"pages_{name}.tif", values((3, 20, 17), name), photometric="minisblack", metadata=None)
tifffile.imwrite(here / "one_page.tif", values((20, 17), "uint8"), photometric="minisblack")
tifffile.imwrite(here / "big_endian.tif", values((3, 20, 17), "uint16"), photometric="minisblack", byteorder=">")
tifffile.imwrite(here / "bigtiff.tif", values((3, 20, 17), "uint16"), photometric="minisblack", bigtiff=True)
for compression in ["lzw", "zlib", "zstd", "packbits"]:
    tifffile.imwrite(
        here / f"strips_{compression}.tif",
        values((2, 20, 17), "uint16"),
        photometric="minisblack",
        compression=compression,
        predictor=compression in ("lzw", "zlib"),
        rowsperstrip=7,
    )
tifffile.imwrite(here / "tiles.tif", values((2, 40, 37), "uint8"), photometric="minisblack", tile=(16, 16))
tifffile.imwrite(here / "rgb.tif", values((2, 20, 17, 3), "uint8"), photometric="rgb")
tifffile.imwrite(here / "planar.tif", values((2, 3, 20, 17), "uint8"), photometric="rgb", planarconfig="separate")
tifffile.imwrite(here / "shaped.tif", values((2, 3, 20, 17), "uint8"), photometric="minisblack")
tifffile.imwrite(
    here / "imagej.tif",
    values((3, 20, 17), "uint16"),
    imagej=True,
    resolution=(1 / 4, 1 / 4.6),
    metadata={"spacing": 40, "unit": "nm", "axes": "ZYX"},
)
tifffile.imwrite(
    here / "imagej_hyper.tif",
    values((2, 3, 4, 20, 17), "uint8"),
    imagej=True,
    resolution=(5, 5),
    metadata={"spacing": 0.5, "unit": "um", "axes": "TZCYX"},
)
tifffile.imwrite(
    here / "ome.tif",
    values((2, 3, 20, 17), "uint16"),
    ome=True,
    photometric="minisblack",
    metadata={
        "axes": "CZYX",
        "PhysicalSizeX": 0.1,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": 0.2,
        "PhysicalSizeYUnit": "µm",
        "PhysicalSizeZ": 1.5,
        "PhysicalSizeZUnit": "µm",
    },
)

# One directory, then all pages: what ImageJ writes above 4 GB.
raw = values((3, 20, 17), "uint16")
tifffile.imwrite(
    here / "imagej_raw.tif",
    raw[0],
    photometric="minisblack",
    description="ImageJ=1.54f\nimages=3\nslices=3\nunit=nm\nspacing=30.0\n",
    metadata=None,
    byteorder=">",
)
with open(here / "imagej_raw.tif", "ab") as file:
    page = tifffile.TiffFile(here / "imagej_raw.tif").pages[0]
    assert page.dataoffsets[0] + raw[0].nbytes == file.tell()
    file.write(raw[1:].astype(">u2").tobytes())

# Slices
for kind, mode in [("png", "uint8"), ("tif", "uint16")]:
    folder = here / f"slices_{kind}"
    folder.mkdir(exist_ok=True)
    for z, page in enumerate(values((11, 8, 9), mode)):
        Image.fromarray(page).save(folder / f"slice{z + 1}.{kind}")
Image.fromarray(values((8, 9), "uint16")).save(here / "grey16.png")
Image.fromarray(values((8, 9, 3), "uint8")).save(here / "rgb.png")
Image.fromarray(values((8, 9, 2), "uint8"), "LA").save(here / "grey_alpha.png")
Image.fromarray(values((8, 11), "bool")).save(here / "bits.png")
Image.fromarray(values((8, 9), "uint8")).convert("P").save(here / "palette.png")

# N5
store = zarr.N5Store(str(here / "data.n5"))
group = zarr.group(store=store, overwrite=True)
compressors = {
    "raw": None,
    "gzip": GZip(level=5),
    "zstd": Zstd(level=3),
    "blosc": Blosc(cname="lz4", clevel=5, shuffle=Blosc.SHUFFLE),
}
for name, compressor in compressors.items():
    array = group.create_dataset(name, data=values((5, 6, 7), "uint16"), chunks=(2, 3, 4), compressor=compressor)
    array.attrs["resolution"] = [4, 4.6, 40]
    array.attrs["offset"] = [8, 0, -40]
    array.attrs["units"] = ["nm", "nm", "nm"]
group.create_dataset("types/float32", data=values((2, 5, 6, 7), "float32"), chunks=(1, 2, 3, 4), compressor=GZip())
group.create_dataset("types/int64", data=values((5, 6), "int64"), chunks=(5, 6), compressor=None)
sparse = group.create_dataset("sparse", shape=(6, 6), chunks=(3, 3), dtype="uint8", fill_value=0)
sparse[3:, 3:] = 7

# HDF5
with h5py.File(here / "data.h5", "w") as file:
    raw = file.create_dataset("volumes/raw", data=values((5, 6, 7), "uint8"), chunks=(2, 3, 4), compression="gzip", shuffle=True)
    raw.attrs["resolution"] = [40.0, 4.0, 4.6]
    raw.attrs["offset"] = [80, 0, -4]
    file["volumes/labels"] = values((5, 6, 7), "uint64")
    file["big_endian"] = values((5, 6, 7), "float32").astype(">f4")
    file["bool"] = values((5, 6), "bool")
    file.create_dataset("lzf", data=values((40, 30, 20), "int16"), chunks=(16, 16, 16), compression="lzf")
    file.create_dataset("empty", shape=(4, 5), chunks=(2, 2), dtype="uint8", compression="gzip")
    file["number"] = 3
with h5py.File(here / "latest.h5", "w", libver="latest") as file:
    file.create_dataset("only", data=values((5, 6, 7), "int32"), chunks=(2, 3, 4), maxshape=(None, 6, 7), compression="gzip")
