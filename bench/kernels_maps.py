"""Measures argmax, thresholds and bytes beside NumPy, and shape descriptors beside lsds, in one interleaved run; writes
a table.

    pip install lsds==0.1.3 numpy==2.4.6
    cargo build --release --bin kernels_maps
    python kernels_maps.py LABELS.npy [--rounds 3] [--out results/NAME.md]

Maps are 4 × 200³ of noise; descriptors are of the first 64³ voxels of LABELS.npy. Each round runs every program once on
every row, in turn, each in a process of its own, on as many threads as `--threads`; the peers know one only. Shown are
medians: CPU and wall time in ns a voxel, and how many times as much CPU time the peer takes as ours.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

here = Path(__file__).parent
binary = Path(os.environ.get("CARGO_TARGET_DIR", here / "target")) / "release" / "kernels_maps"
parser = argparse.ArgumentParser()
parser.add_argument("labels", type=Path)
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--out", type=Path)
parser.add_argument("--peer", help="measures the peer on one case: for the runs below")
options = parser.parse_args()
CASES = {"argmax": "NumPy", "threshold": "NumPy", "quantise": "NumPy", "lsds": "lsds"}


def peer(case):
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
    wall, cpu, times = time.perf_counter(), time.process_time(), 0
    while times == 0 or time.perf_counter() - wall < 1:
        work()
        times += 1
    print(json.dumps({"wall": (time.perf_counter() - wall) / times, "cpu": (time.process_time() - cpu) / times}))


if options.peer:
    peer(options.peer)
    sys.exit()


def run(command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{command}\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


cpu = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), platform.machine())
lines = [
    f"# Maps, {datetime.date.today()}, {cpu}, {os.cpu_count()} cores, {options.threads} threads",
    "",
    f"Medians of {options.rounds} interleaved rounds. Made by `python kernels_maps.py`.",
    "",
    "| case | program | CPU ns a voxel | wall ns a voxel | CPU time of ours |",
    "|---|---|---|---|---|",
]
folder = here / "target"
folder.mkdir(exist_ok=True)
inputs = {
    "maps": np.random.default_rng(1).random((4, 200, 200, 200), np.float32),
    "part": np.ascontiguousarray(np.load(options.labels)[:64, :64, :64].astype(np.uint64)),
}
for name, values in inputs.items():
    values.tofile(folder / f"{name}.bin")
    np.save(folder / f"{name}.npy", values)
results = {}
for _ in range(options.rounds):
    for case, program in CASES.items():
        name = "part" if case == "lsds" else "maps"
        ours = [binary, case, folder / f"{name}.bin", *inputs[name].shape[-3:], options.threads]
        theirs = [sys.executable, __file__, folder / f"{name}.npy", "--peer", case]
        results.setdefault((case, "ours"), []).append(run(ours))
        results.setdefault((case, program), []).append(run(theirs))
for (case, program), found in results.items():
    median = {key: statistics.median(one[key] for one in found) for key in ["cpu", "wall"]}
    voxels = inputs["part" if case == "lsds" else "maps"].size // (1 if case == "lsds" else 4)
    ratio = median["cpu"] / statistics.median(one["cpu"] for one in results[case, "ours"])
    cells = [f"{median[key] * 1e9 / voxels:.2f}" for key in ["cpu", "wall"]]
    lines.append(f"| {case} | {program} | {' | '.join(cells)} | {ratio:.2f} |")
    print(lines[-1], flush=True)
if options.out:
    options.out.write_text("\n".join(lines) + "\n")
