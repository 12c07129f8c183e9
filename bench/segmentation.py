"""Measures the segmentation kernels beside other programs in one interleaved run; writes a table.

    pip install -r ../crates/dacapo-kernels/tests/data/peers.txt zarr
    cargo build --release
    python segmentation_peers.py data DIR FIB25
    python segmentation_peers.py prediction DIR PREDICTION  (for the rows that are called predicted)
    python segmentation.py DIR [--rounds 3] [--threads 1] [--out results/NAME.md]

Each round runs every program once, in turn, each in a process of its own; medians over the rounds are shown. CPU seconds
are those of all threads and of as many repetitions as the clock needs, memory is the peak beyond what was read, in MiB.
"""

import argparse
import datetime
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

here = Path(__file__).parent
target = Path(os.environ.get("CARGO_TARGET_DIR", here / "target")) / "release"
parser = argparse.ArgumentParser()
parser.add_argument("data", type=Path)
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--only", nargs="+", help="operations of ours")
parser.add_argument("--out", type=Path)
options = parser.parse_args()

# What is measured, ours, the peer's operation and name, and the goal.
ROWS = [
    ("components of labels, 6, 384³", "components-6", "components-6", "cc3d", "2.5x, 1/2 of the memory"),
    ("components of labels, 26, 384³", "components-26", "components-26", "cc3d", "2x, 1/2 of the memory"),
    ("the same in a given volume, 6", "components-into-6", "components-6", "cc3d", "2.5x, 1/2 of the memory"),
    ("the same in a given volume, 26", "components-into-26", "components-26", "cc3d", "2x, 1/2 of the memory"),
    ("affinities of labels, 12 offsets", "affinities", "affinities", "DaCapo's NumPy", "4x"),
    ("and balanced weights", "weights", "weights", "DaCapo's NumPy", "4x"),
    ("signed distances, targets and weights, 104³", "signed", "signed", "DaCapo's, SciPy", "15x"),
    ("inner distances, 104³", "inner", "inner", "DaCapo's, SciPy", "15x"),
    ("classes and signed distances, 104³", "hot", "hot", "DaCapo's, SciPy", "15x"),
    ("one-hot of 4 classes", "one-hot", "one-hot", "DaCapo's NumPy", "15x"),
    ("contingency table", "contingency", "contingency", "numpy", "10x"),
    ("contingency table", "contingency", "contingency-skimage", "scikit-image", ""),
    ("contingency table, 384³", "contingency-large", None, "", ""),
    ("relabel, 384³", "relabel", "relabel", "fastremap", "1.5x"),
    ("unique, 384³", "unique", "unique", "fastremap", "1.5x"),
    ("remap, 384³", "remap", "remap", "fastremap", "1.5x"),
    ("size filter, 384³", "size-filter", "size-filter", "fastremap", "1.5x"),
    ("watershed, u8", "watershed-u8", "watershed-u8", "scikit-image", "8x"),
    ("watershed, f32", "watershed-f32", "watershed-f32", "scikit-image", "8x"),
    ("watershed, f32, saturated", "watershed-saturated", "watershed-saturated", "scikit-image", ""),
    ("watershed, u8, 384³", "watershed-u8-large", None, "", ""),
    ("watershed, f32, 384³", "watershed-f32-large", None, "", ""),
    ("mutex watershed, f32", "mutex-f32", "mutex-f32", "mwatershed", "4x, 1/8 of the memory"),
    ("mutex watershed, u8", "mutex-u8", "mutex-f32", "mwatershed (f64)", "4x, 1/8 of the memory"),
    ("its sort, 12 channels", "mutex-sort", None, "", ""),
    ("mutex watershed, f32, 9 biases", "mutex-9-biases", None, "", ""),
    ("fragments", "fragments", "fragments", "SciPy + scikit-image", "5x"),
    ("contacts of fragments, 6 channels", "contacts", None, "", ""),
    ("agglomeration at one threshold", "agglomerate", "agglomerate", "numpy, a heap in Python", "20x"),
    ("agglomeration at 50 thresholds", "agglomerate-50", None, "", "1.2x of one"),
    ("agglomeration by 3 channels, in place", "merge", "waterz", "waterz", "3x"),
    ("the same at 50 thresholds", "merge-50", "waterz-50", "waterz", "3x"),
    ("components and their VOI at one threshold", "components-1", None, "", ""),
    ("the same at 50 thresholds", "components-50", None, "", "3x of one"),
    ("components and their VOI at one threshold, predicted", "components-1-predicted", None, "", ""),
    ("the same at 50 thresholds, predicted", "components-50-predicted", None, "", "3x of one"),
    ("dice at one threshold", "dice-1", None, "", ""),
    ("dice at 256 thresholds", "dice-256", None, "", ""),
]
ROWS = [row for row in ROWS if not options.only or row[1] in options.only]
if not (options.data / "predicted_u8.bin").exists():
    left_out = [row for row in ROWS if row[1].endswith("-predicted")]
    ROWS = [row for row in ROWS if row not in left_out]
    if left_out:
        print(f"{len(left_out)} rows need a prediction, which {options.data} has not", file=sys.stderr)


def run(command):
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


results = {}
for _ in range(options.rounds):
    seen = set()
    for _, ours, theirs, _, _ in ROWS:
        commands = [("ours", ours, [target / "kernels_segmentation", ours, options.data, str(options.threads)])]
        if theirs:
            commands.append(("peer", theirs, [sys.executable, here / "segmentation_peers.py", theirs, options.data]))
        for who, op, command in commands:
            if (who, op) not in seen:
                seen.add((who, op))
                results.setdefault((who, op), []).append(run(command))
# One thread is measured by its CPU time, which others on the machine change least.
time = "cpu" if options.threads == 1 else "wall"
median = {key: {k: statistics.median(r[k] for r in rs) for k in rs[0]} for key, rs in results.items()}

cpu = next(l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name"))
lines = [
    f"# {datetime.date.today()}, {cpu}, {os.cpu_count()} cores, segmentation",
    "",
    f"Medians of {options.rounds} interleaved rounds, {options.threads} thread{'s' if options.threads > 1 else ''}; load"
    f" average {os.getloadavg()[1]:.1f}. FIB-25, 128³ where nothing else is said. Made by `python segmentation.py`.",
    "",
    f"| kernel | {time} s | ns a voxel | MiB | peer | {time} s | ns a voxel | MiB | ratio | memory | goal |",
    "|---|---|---|---|---|---|---|---|---|---|---|",
]
for name, ours, theirs, peer, goal in ROWS:
    m = median["ours", ours]
    line = f"| {name} | {m[time]:.3f} | {1e9 * m[time] / m['voxels']:.1f} | {m['memory']:.0f} |"
    if theirs:
        p = median["peer", theirs]
        memory = f"1/{p['memory'] / m['memory']:.1f}" if m["memory"] >= 1 else ""
        line += f" {peer} | {p[time]:.3f} | {1e9 * p[time] / p['voxels']:.1f} | {p['memory']:.0f} |"
        ratio = p[time] / p["voxels"] / max(m[time] / m["voxels"], 1e-12)
        line += f" {ratio:.1f}x | {memory} | {goal} |"
    else:
        line += f" | | | | | | {goal} |"
    lines.append(line)
text = "\n".join(lines) + "\n"
if options.out:
    options.out.write_text(text)
print(text)
