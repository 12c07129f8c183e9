"""Measures distances beside edt and SciPy in one interleaved run; writes a table.

    pip install -r ../crates/dacapo-kernels/tests/data/peers.txt
    cargo build --release --bin kernels_distance
    python kernels_distance.py LABELS.npy [--edge 500] [--rounds 3] [--out results/NAME.md]

LABELS.npy holds labels (z, y, x). They are measured as they are, and mirrored to a cube of `--edge`. Each round runs
every program once on every row, in turn, each in a process of its own, on as many threads as `--threads`; SciPy
knows one only. Shown are medians: CPU time in ns a voxel, wall time in ns a voxel, memory beyond the input in bytes
a voxel, and how many times as much CPU time each peer takes as ours. Peers are `edt.edt` for labels and masks, and
`distance_transform_edt` for masks; beside the signed distances stands SciPy on the doubled grid, as DaCapo does it.
"""

import sys

import numpy as np

import kernels_common as common

parser = common.arguments(__doc__)
parser.add_argument("--edge", type=int, default=500)
options = parser.parse_args()
PEERS = {
    "labels": ["edt"],
    "mask": ["edt", "scipy"],
    "far": ["edt", "scipy"],
    "anisotropic": ["edt"],
    "border": ["edt"],
    "signed": ["doubled"],
}


def peer(program, case):
    import edt
    from peers import signed_distances
    from scipy import ndimage

    labels = np.load(options.labels)
    mask = labels > 0
    for axis in range(3 if case == "mask" else 0):
        place = tuple(slice(-1) if a == axis else slice(None) for a in range(3))
        mask[place] &= np.diff(labels.view(np.int64), axis=axis) == 0
    spacing = (4, 1, 1) if case == "anisotropic" else (1, 1, 1)
    of_edt = lambda: edt.edt(
        mask if case in ["mask", "far"] else labels, spacing, case == "border", parallel=options.threads
    )
    work = {
        "edt": of_edt,
        "scipy": lambda: ndimage.distance_transform_edt(mask),
        "doubled": lambda: signed_distances(labels, spacing),
    }
    common.measured(work[program])


if options.peer:
    peer(*options.peer)
    sys.exit()


def volumes():
    labels = np.load(options.labels).astype(np.uint64)
    yield "as it is", labels, PEERS
    for axis in range(3):
        times = -(-options.edge // labels.shape[axis])
        parts = [np.flip(labels, axis) if i % 2 else labels for i in range(times)]
        labels = np.concatenate(parts, axis).take(range(options.edge), axis)
    # Eight times as many voxels as the cube are more than DaCapo's way has memory for.
    yield f"{options.edge}³", labels, {case: peers for case, peers in PEERS.items() if case != "signed"}


lines = common.heading("Distances", options, ["volume", "case"])
common.folder.mkdir(exist_ok=True)
for name, labels, cases in volumes():
    raw, npy = common.folder / "labels.bin", common.folder / "labels.npy"
    labels.tofile(raw)
    np.save(npy, labels)
    voxels, shape = labels.size, labels.shape
    del labels
    commands = {}
    for case, peers in cases.items():
        commands[case, "ours"] = [common.binary("kernels_distance"), case, raw, *shape, options.threads]
        for program in peers:
            commands[case, program] = common.peer(__file__, npy, options, program, case)
    medians = common.in_turn(options.rounds, commands)
    lines += common.rows(medians, lambda case: voxels, f"{name} {'×'.join(map(str, shape))}")
if options.out:
    options.out.write_text("\n".join(lines) + "\n")
