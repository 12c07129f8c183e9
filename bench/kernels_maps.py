"""Measures argmax, thresholds and bytes beside NumPy, and shape descriptors beside lsds, in one interleaved run; writes
a table.

    pip install lsds==0.1.3 numpy==2.4.6
    cargo build --release --bin kernels_maps
    python kernels_maps.py LABELS.npy [--rounds 3] [--out results/NAME.md]

Maps are 4 × 200³ of noise; descriptors are of the first 64³ voxels of LABELS.npy. Each round runs every program once on
every row, in turn, each in a process of its own, on as many threads as `--threads`; the peers know one only. Shown are
medians: CPU and wall time in ns a voxel, memory beyond the input, and how many times as much CPU time the peer takes as
ours.
"""

import sys

import numpy as np

import kernels_common as common

options = common.arguments(__doc__).parse_args()
CASES = {"argmax": "NumPy", "threshold": "NumPy", "quantise": "NumPy", "lsds": "lsds"}


def peer(_, case):
    data = np.load(options.labels)
    if case == "lsds":
        from lsd.train.local_shape_descriptor import LsdExtractor

        work = lambda: LsdExtractor(sigma=(10.0,) * 3).get_descriptors(data)
    else:
        first = data[0]
        work = {
            "argmax": lambda: data.argmax(0).astype(np.uint8),
            "threshold": lambda: first > 0.5,
            "quantise": lambda: np.clip(first * 255 + 0.5, 0, 255).astype(np.uint8),
        }[case]
    common.measured(work, seconds=1)


if options.peer:
    peer(*options.peer)
    sys.exit()

common.folder.mkdir(exist_ok=True)
inputs = {
    "maps": np.random.default_rng(1).random((4, 200, 200, 200), np.float32),
    "part": np.ascontiguousarray(np.load(options.labels)[:64, :64, :64].astype(np.uint64)),
}
for name, values in inputs.items():
    values.tofile(common.folder / f"{name}.bin")
    np.save(common.folder / f"{name}.npy", values)
commands = {}
for case, program in CASES.items():
    name = "part" if case == "lsds" else "maps"
    shape = inputs[name].shape[-3:]
    raw, npy = common.folder / f"{name}.bin", common.folder / f"{name}.npy"
    commands[case, "ours"] = [common.binary("kernels_maps"), case, raw, *shape, options.threads]
    commands[case, program] = common.peer(__file__, npy, options, program, case)
voxels = lambda case: int(np.prod(inputs["part" if case == "lsds" else "maps"].shape[-3:]))
lines = common.heading("Maps", options, ["case"])
lines += common.rows(common.in_turn(options.rounds, commands), voxels)
if options.out:
    options.out.write_text("\n".join(lines) + "\n")
