"""Reduces a base directory that the Python DaCapo (janelia-cellmap/dacapo f3dc388f) wrote in a run of ours.

    python make.py BASE_WITH_INSTANCE_ZARR

Configs and stats are as they were, but for the widths of the network; the checkpoint has the first channels of
each tensor; arrays have their metadata and of their chunks only the smallest. Python 3.11, PyTorch 2.13.0 (CPU).
The pickle of the checkpoint is run here: only for files of one's own.
"""

import shutil
import sys
import types
from pathlib import Path

import torch

SOURCE, TARGET = Path(sys.argv[1]), Path(__file__).parent
LARGEST_CHUNK = 800


class Weights:
    pass


Weights.__module__ = "dacapo.store.weights_store"
for name in ["dacapo", "dacapo.store", "dacapo.store.weights_store"]:
    sys.modules[name] = types.ModuleType(name)
sys.modules["dacapo.store.weights_store"].Weights = Weights

for name in ["runs_base_dir", "data"]:
    shutil.rmtree(TARGET / name, ignore_errors=True)
for path in sorted(SOURCE.rglob("*")):
    below = path.relative_to(SOURCE)
    if not path.is_file() or "checkpoints" in below.parts or below.parts[0] not in ("runs_base_dir", "instance.zarr"):
        continue
    is_chunk = any(part.endswith(".zarr") for part in below.parts) and not below.name.startswith(".z")
    if is_chunk and path.stat().st_size > LARGEST_CHUNK:
        continue
    to = TARGET / ("data" if below.parts[0] == "instance.zarr" else ".") / below
    to.parent.mkdir(parents=True, exist_ok=True)
    data = path.read_bytes()
    if below.suffix == ".yaml":
        data = data.replace(b"fmaps_out: 8", b"fmaps_out: 1").replace(b"num_fmaps: 8", b"num_fmaps: 1")
    to.write_bytes(data)

# Widths of 8, 16 and 32 become 1, 2 and 4; the head's 3 and the raw's 1 stay.
kept = {}


def reduce(value):
    if isinstance(value, torch.Tensor):
        if value.data_ptr() not in kept:
            lengths = [n // 8 if n % 8 == 0 else n for n in value.shape]
            kept[value.data_ptr()] = value[tuple(slice(n) for n in lengths)].clone()
        return kept[value.data_ptr()]
    if isinstance(value, dict):
        for key in value:
            value[key] = reduce(value[key])
    return value


# PyTorch's own file of one iteration.
iteration = Path("runs_base_dir/run_affs_none/checkpoints/iterations/10")
weights = torch.load(SOURCE / iteration, weights_only=False)
reduce(weights.__dict__)
(TARGET / iteration).parent.mkdir(parents=True)
torch.save(weights, TARGET / iteration)
