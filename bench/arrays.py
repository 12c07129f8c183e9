"""Measures arrays beside TensorStore and zarr-python in one interleaved run; writes a table.

    pip install tensorstore==0.1.86 zarr==3.1.6
    cargo build --release --bin arrays
    python arrays.py [--rounds 5] [--out results/NAME.md]

Each round runs every program once on every row, in turn, each in a process of its own. What is read is in the page
cache; two threads. Ours and TensorStore sync what they write to disk, zarr-python does not. Shown are medians
over the rounds: GB of decoded values a second (for `remove`, `rename`, `open` and `list` items a second), and how many times
as fast as each peer ours is.

`× plain files` is how many times as fast as a program that encodes the same chunks into plain files of its own (or reads
and decodes them into an array): no metadata, no checksums, nothing that survives a kill.

The floor of writing is the slower of the codec alone, on two threads over chunks in memory, and of plain files of what
is stored, written and synced: one for each chunk, or a single one where there are shards; of reading the codec, or a
plain file read; of windows a copy in memory. `of floor` is the floor's time by ours: 1 is as fast as can be. A floor of `remove` is not known; `rename` is
what a user waits for before nobody finds the array any more.

Rows can be measured in pieces: results are added to what is in --out.json, and the table is made of all.
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
parser.add_argument("--volumes", nargs="*", default=["em", "prediction"])
parser.add_argument("--codecs", nargs="*", default=["raw", "zstd", "blosc-lz4", "shard"])
parser.add_argument("--ops", nargs="*", default=["write", "blocks", "read", "windows"])
parser.add_argument("--items", nargs="*", default=["remove", "rename", "open", "list"])
parser.add_argument("--out", type=Path, help="NAME.md; NAME.md.json keeps what was measured")
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

kept = Path(f"{options.out}.json") if options.out else None
measured = json.loads(kept.read_text()) if kept and kept.exists() else {}
rows = [(f"{v}-{c}", op) for v in options.volumes for c in options.codecs for op in options.ops]
rows += [("em-zstd", op) for op in options.items]
PLAIN = {"write": "plain-write", "blocks": "plain-write", "read": "plain-read"}
FLOORS = {"write": ["encode", "files"], "blocks": ["encode", "files"], "read": ["decode"], "windows": ["copy"]}


def floors(case, op):
    """What no program can beat."""
    if op == "read" and case.endswith("raw"):
        return ["file-read"]
    names = FLOORS.get(op, [])
    return [name.replace("files", "file") for name in names] if case.endswith("shard") else names


results = {}


def keep():
    """What is interrupted has what was measured before."""
    if kept:
        kept.write_text(json.dumps(measured | results))


for _ in range(options.rounds):
    for case, op in rows:
        programs = {"ours": ours(op, case)}
        if op != "rename":
            programs |= {name: peer(name, op, case) for name in PEERS}
        for name, command in programs.items():
            results.setdefault(f"{case} {op} {name}", []).append(run(command))
        keep()
    for case in sorted({case for case, op in rows if op in FLOORS}):
        names = {name for row, op in rows if row == case for name in floors(case, op)}
        names |= {PLAIN[op] for row, op in rows if row == case and op in PLAIN}
        # The file is written before it is read.
        names |= {"file"} if "file-read" in names else set()
        for floor in sorted(names):
            results.setdefault(f"{case} {floor} floor", []).append(run(ours(floor, case)))
    keep()
shutil.rmtree(options.dir / "base", ignore_errors=True)
measured |= results


def rate(key, kind="wall"):
    return statistics.median(r["bytes"] / max(r[kind], 1e-9) for r in measured[key])


def memory(key):
    return statistics.median(r["memory"] for r in measured[key])


def floor(case, op):
    """Values a second that no program can beat."""
    found = []
    for name in floors(case, op):
        key = f"{case} {name} floor"
        if key in measured:
            # A file of what is stored stands for all the values.
            values = measured[f"{case} {op} ours"][0]["bytes"]
            if op == "windows":
                values = measured[key][0]["bytes"]
            found.append(values / statistics.median(r["wall"] for r in measured[key]))
    return min(found, default=None)


cpu = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), platform.machine())
lines = [
    f"# {datetime.date.today()}, {cpu}, {os.cpu_count()} cores",
    "",
    "Medians of interleaved rounds, two threads, GB of decoded values a second of wall time"
    " (`remove`, `rename`: chunks, `open`, `list`: arrays a second). Made by `python arrays.py`, which says what is measured.",
    "",
    "| array | work | ours | TensorStore | zarr-python | × TensorStore | × zarr-python | × plain files | floor | of floor |"
    " CPU s: ours, TensorStore, zarr-python | extra MiB: ours, TensorStore, zarr-python | rounds |",
    "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
]
for case, op, name in sorted((tuple(key.split()) for key in measured), key=lambda key: list(measured).index(" ".join(key))):
    if name != "ours":
        continue
    names = [name for name in ["ours", *PEERS] if f"{case} {op} {name}" in measured]
    keys = [f"{case} {op} {name}" for name in names]
    rates = [rate(key) for key in keys]
    scale = 1 if op in ("remove", "rename", "open", "list") else 1e9
    blank = [""] * (3 - len(rates))
    shown = [f"{r / scale:.2f}" if scale > 1 else f"{r:,.0f}" for r in rates] + blank
    times = [f"{rates[0] / r:.2f}" for r in rates[1:]] + blank
    most = floor(case, op)
    best = [f"{most / scale:.2f}", f"{rates[0] / most:.2f}"] if most else ["", ""]
    plain = f"{case} {PLAIN.get(op)} floor"
    best.insert(0, f"{rates[0] / rate(plain):.2f}" if plain in measured else "")
    spent = ", ".join(f"{statistics.median(r['cpu'] for r in measured[key]):.2f}" for key in keys)
    used = ", ".join(f"{memory(key):.0f}" for key in keys)
    lines.append(f"| {case} | {op} | " + " | ".join(shown + times + best) + f" | {spent} | {used} | {len(measured[keys[0]])} |")
text = "\n".join(lines) + "\n"
if options.out:
    options.out.write_text(text)
print(text)
