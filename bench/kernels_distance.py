"""Measures distances beside edt and SciPy in one interleaved run; writes a table.

    pip install edt==3.1.2 scipy==1.17.1 numpy==2.4.6
    cargo build --release --bin kernels_distance
    python kernels_distance.py LABELS.npy [--edge 500] [--rounds 3] [--out results/NAME.md]

LABELS.npy holds labels (z, y, x). They are measured as they are, and mirrored to a cube of `--edge`. Each round runs
every program once on every row, in turn, each in a process of its own, on as many threads as `--threads`; SciPy
knows one only. Shown are medians: CPU time in ns a voxel, wall time in ns a voxel, memory beyond the input in bytes
a voxel, and how many times as much CPU time each peer takes as ours. Peers are `edt.edt` for labels and masks, and
`distance_transform_edt` for masks; beside the signed distances stands SciPy on the doubled grid, as DaCapo does it.
"""

import argparse
import datetime
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

here = Path(__file__).parent
binary = Path(os.environ.get("CARGO_TARGET_DIR", here / "target")) / "release" / "kernels_distance"
parser = argparse.ArgumentParser()
parser.add_argument("labels", type=Path)
parser.add_argument("--edge", type=int, default=500)
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--out", type=Path)
parser.add_argument("--peer", nargs=2, help="measures one program on one case: for the runs below")
options = parser.parse_args()
PEERS = {
    "labels": ["edt"],
    "mask": ["edt", "scipy"],
    "far": ["edt", "scipy"],
    "anisotropic": ["edt"],
    "border": ["edt"],
    "signed": ["doubled"],
}


def doubled(labels):
    from scipy import ndimage

    inside = np.ones([2 * n - 1 for n in labels.shape], bool)
    for axis in range(3):
        place = tuple(slice(1 if a == axis else 0, None, 2) for a in range(3))
        inside[place] = np.diff(labels.view(np.int64), axis=axis) == 0
    found = ndimage.distance_transform_edt(inside, sampling=(0.5,) * 3)[::2, ::2, ::2].astype(np.float32)
    found[labels == 0] *= -1
    return found


def peer(program, case):
    import edt
    from scipy import ndimage

    labels = np.load(options.labels)
    mask = labels > 0
    for axis in range(3 if case == "mask" else 0):
        place = tuple(slice(-1) if a == axis else slice(None) for a in range(3))
        mask[place] &= np.diff(labels.view(np.int64), axis=axis) == 0
    spacing = (4, 1, 1) if case == "anisotropic" else (1, 1, 1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    wall, cpu = time.perf_counter(), time.process_time()
    if program == "edt":
        edt.edt(mask if case in ["mask", "far"] else labels, spacing, case == "border", parallel=options.threads)
    elif program == "scipy":
        ndimage.distance_transform_edt(mask)
    else:
        doubled(labels)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(json.dumps({"wall": wall, "cpu": cpu, "memory": memory}))


if options.peer:
    peer(*options.peer)
    sys.exit()


def run(command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{command}\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def volumes(folder):
    labels = np.load(options.labels).astype(np.uint64)
    yield "as it is", labels, PEERS
    for axis in range(3):
        times = -(-options.edge // labels.shape[axis])
        parts = [np.flip(labels, axis) if i % 2 else labels for i in range(times)]
        labels = np.concatenate(parts, axis).take(range(options.edge), axis)
    # Eight times as many voxels as the cube are more than DaCapo's way has memory for.
    yield f"{options.edge}³", labels, {case: peers for case, peers in PEERS.items() if case != "signed"}


cpu = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), platform.machine())
lines = [
    f"# Distances, {datetime.date.today()}, {cpu}, {os.cpu_count()} cores, {options.threads} threads",
    "",
    f"Medians of {options.rounds} interleaved rounds. Made by `python kernels_distance.py`.",
    "",
    "| volume | case | program | CPU ns a voxel | wall ns a voxel | bytes a voxel | CPU time of ours |",
    "|---|---|---|---|---|---|---|",
]
folder = here / "target"
folder.mkdir(exist_ok=True)
for name, labels, rows in volumes(folder):
    raw, npy = folder / "labels.bin", folder / "labels.npy"
    labels.tofile(raw)
    np.save(npy, labels)
    voxels, shape = labels.size, labels.shape
    del labels
    results = {}
    for _ in range(options.rounds):
        for case, peers in rows.items():
            ours = run([binary, case, raw, *shape, options.threads])
            results.setdefault((case, "ours"), []).append(ours)
            for program in peers:
                command = [sys.executable, __file__, npy, "--threads", options.threads, "--peer", program, case]
                results.setdefault((case, program), []).append(run(command))
    for (case, program), found in results.items():
        median = {key: statistics.median(one[key] for one in found) for key in found[0]}
        ratio = median["cpu"] / statistics.median(one["cpu"] for one in results[case, "ours"])
        cells = [f"{median[key] * 1e9 / voxels:.1f}" for key in ["cpu", "wall"]]
        cells += [f"{median['memory'] * 2**20 / voxels:.1f}", f"{ratio:.2f}"]
        lines.append(f"| {name} {'×'.join(map(str, shape))} | {case} | {program} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
if options.out:
    options.out.write_text("\n".join(lines) + "\n")
