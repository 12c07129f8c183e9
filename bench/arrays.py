"""Measures arrays beside TensorStore and zarr-python in one interleaved run; writes a table.

    pip install tensorstore==0.1.86 zarr==3.1.6
    cargo build --release --bin arrays
    python arrays.py [--rounds 5] [--out results/NAME.md]

Each round runs every program once on every row, in turn, each in a process of its own. Everything is in the page
cache; two threads. Ours and TensorStore sync what they write to disk, zarr-python does not. Shown are medians
over the rounds: GB of decoded values a second (for `remove` and `open` items a second), and how many times as fast
as each peer ours is. The floor is a copy in memory, or a plain file written and synced, or read.
"""

import argparse
import datetime
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

here = Path(__file__).parent
binary = Path(os.environ.get("CARGO_TARGET_DIR", here / "target")) / "release" / "arrays"
parser = argparse.ArgumentParser()
parser.add_argument("--rounds", type=int, default=5)
parser.add_argument("--dir", type=Path, default=here / "target" / "arrays", help="where the arrays are made")
parser.add_argument("--volumes", nargs="+", default=["em", "prediction"])
parser.add_argument("--codecs", nargs="+", default=["raw", "zstd", "blosc-lz4", "shard"])
parser.add_argument("--ops", nargs="+", default=["write", "blocks", "read", "windows"])
parser.add_argument("--out", type=Path)
options = parser.parse_args()
PEERS = ["tensorstore", "zarr"]


def run(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{command}\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def ours(op, case):
    return [binary, op, case, options.dir]


def peer(name, op, case):
    return [sys.executable, here / "array_peers.py", name, op, case, options.dir]


options.dir.mkdir(parents=True, exist_ok=True)
if not (options.dir / "prediction.bin").exists():
    subprocess.run([binary, "data", "em-raw", options.dir], check=True)

rows = [(f"{v}-{c}", op) for v in options.volumes for c in options.codecs for op in options.ops]
rows += [("em-zstd", "remove"), ("em-zstd", "open")]
results = {}
for _ in range(options.rounds):
    for case, op in rows:
        programs = {"ours": ours(op, case), **{name: peer(name, op, case) for name in PEERS}}
        for name, command in programs.items():
            results.setdefault((case, op, name), []).append(run(command))
    for volume in options.volumes:
        for floor in ["copy", "file", "file-read"]:
            results.setdefault((volume, floor), []).append(run(ours(floor, f"{volume}-raw")))
shutil.rmtree(options.dir / "base", ignore_errors=True)


def rate(key, kind="wall"):
    return statistics.median(r["bytes"] / max(r[kind], 1e-9) for r in results[key])


def memory(key):
    return statistics.median(r["memory"] for r in results[key])


cpu = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), platform.machine())
lines = [
    f"# {datetime.date.today()}, {cpu}, {os.cpu_count()} cores",
    "",
    f"Medians of {options.rounds} interleaved rounds, two threads, GB of decoded values a second of wall time"
    " (`remove`: chunks, `open`: arrays a second). Made by `python arrays.py`.",
    "",
    "| array | work | ours | TensorStore | zarr-python | × TensorStore | × zarr-python | floor | extra memory, MiB: ours, TensorStore, zarr-python |",
    "|---|---|---|---|---|---|---|---|---|",
]
FLOORS = {"write": "file", "blocks": "file", "read": "file-read", "windows": "copy"}
for case, op in rows:
    rates = [rate((case, op, name)) for name in ["ours", *PEERS]]
    scale = 1 if op in ("remove", "open") else 1e9
    shown = [f"{r / scale:.2f}" if scale > 1 else f"{r:,.0f}" for r in rates]
    floor = f"{rate((case.split('-')[0], FLOORS[op])) / 1e9:.2f}" if op in FLOORS else ""
    used = ", ".join(f"{memory((case, op, name)):.0f}" for name in ["ours", *PEERS])
    lines.append(f"| {case} | {op} | " + " | ".join(shown) + f" | {rates[0] / rates[1]:.2f} | {rates[0] / rates[2]:.2f} | {floor} | {used} |")
text = "\n".join(lines) + "\n"
if options.out:
    options.out.write_text(text)
print(text)
