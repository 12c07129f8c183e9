"""Measures the engine beside PyTorch in one interleaved run, and the sampler; writes a table.

    pip install torch==2.13.0 onnxruntime numpy
    cargo build --release
    python run.py [--onnx] [--rounds 5] [--out results/NAME.md]

    pip install gunpowder==1.4.4 "zarr==2.18.7" "numcodecs<0.16"
    python run.py --networks --sampler sampler.yaml --gunpowder fib25.zarr

Each round runs every program once, in turn, each in a process of its own; medians over the rounds are shown,
and ratios of medians. PyTorch runs with its default allocator and with one that keeps its memory (`warm`), in
both memory layouts.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

here = Path(__file__).parent
target = Path(os.environ.get("CARGO_TARGET_DIR", here / "target")) / "release"
parser = argparse.ArgumentParser()
parser.add_argument("--rounds", type=int, default=5)
parser.add_argument("--repetitions", type=int, default=3)
parser.add_argument("--networks", nargs="*", default=["valid", "batch", "residual", "stem", "anisotropic", "plane"])
parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
parser.add_argument("--onnx", action="store_true", help="measures onnxruntime too, forward")
parser.add_argument("--volume", type=Path, help="a folder: predicts a volume there too, out of the store and into it")
parser.add_argument("--volume-networks", nargs="*", default=["valid", "stem"], help="of those with three axes")
parser.add_argument("--length", type=int, default=192, help="voxels of the volume along each axis")
parser.add_argument("--sampler", help="a config whose data is there: measures its sampler")
parser.add_argument("--gunpowder", help="fib25.zarr: measures gunpowder beside the sampler, with what sampler.yaml says")
parser.add_argument("--batches", type=int, default=20, help="of the sampler; gunpowder makes a fifth of them")
parser.add_argument("--out", type=Path)
options = parser.parse_args()

WARM = {"MALLOC_MMAP_THRESHOLD_": str(1 << 32), "MALLOC_TRIM_THRESHOLD_": str(1 << 32)}


def run(command, extra=None):
    done = subprocess.run(command, env={**os.environ, **(extra or {})}, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def programs(network, threads):
    count = str(options.repetitions)
    yield "ours", [target / "engine", network, str(threads), count], None
    for layout in ["contiguous", "channels_last"]:
        command = [sys.executable, here / "torch_unet.py", network, str(threads), count, layout]
        yield f"PyTorch, {layout}", command, None
        yield f"PyTorch, {layout}, warm", command, WARM
    if options.onnx:
        with tempfile.TemporaryDirectory() as folder:
            model = Path(folder) / f"{network}.onnx"
            subprocess.run([target / "engine", network, "onnx", model], check=True)
            batch = "4" if network == "batch" else "1"
            yield "onnxruntime", [sys.executable, here / "onnx_unet.py", model, str(threads), count, batch], WARM


def show(value, form):
    return "–" if value is None else format(value, form)


cpu = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), platform.machine())
lines = [
    f"# {datetime.date.today()}, {cpu}, {os.cpu_count()} cores",
    "",
    f"Medians of {options.rounds} interleaved rounds of {options.repetitions} repetitions; seconds; MiB beyond the"
    " built network. Made by `python run.py`.",
]
for network in options.networks:
    for threads in options.threads:
        results = {}
        for _ in range(options.rounds):
            for name, command, extra in programs(network, threads):
                results.setdefault(name, []).append(run(command, extra))
        median = {n: {k: statistics.median(r[k] for r in rs) for k in rs[0]} for n, rs in results.items()}
        keys = ["step_wall", "step_cpu", "forward_wall", "forward_cpu", "step_memory", "forward_memory"]
        ours = median["ours"]
        lines += ["", f"## {network}, {threads} thread{'s' if threads > 1 else ''}", ""]
        lines += ["| program | step wall | step CPU | forward wall | forward CPU | step memory | forward memory | step ratio | forward ratio |"]
        lines += ["|---|---|---|---|---|---|---|---|---|"]
        for name, m in median.items():
            figures = [show(m.get(key), ".0f" if key.endswith("memory") else ".3f") for key in keys]
            ratios = [show(m[key] / ours[key] if key in m else None, ".2f") for key in ["step_wall", "forward_wall"]]
            lines.append(f"| {' | '.join([name, *figures, *ratios])} |")
        print("\n".join(lines[-len(median) - 4 :]), flush=True)
if options.volume:
    command = f"`volume NETWORK THREADS {options.length} DIR`, medians of {options.rounds} interleaved rounds"
    lines += ["", f"## {options.length}³ voxels out of the store and into it", "", command, ""]
    lines += ["| network | threads | pieces | program | Mvoxel/s | CPU s | MiB | ratio |", "|---|---|---|---|---|---|---|---|"]
    for network in options.volume_networks:
        for threads in options.threads:
            begin = [network, str(threads), str(options.length)]
            results = {}
            for _ in range(options.rounds):
                ours = run([target / "volume", *begin, options.volume])
                results.setdefault("ours", []).append(ours)
                piece = [",".join(map(str, ours[key])) for key in ["input", "written"]]
                for layout in ["contiguous", "channels_last"]:
                    command = [sys.executable, here / "torch_volume.py", *begin, layout, options.volume, *piece]
                    for allocator, extra in [("", None), (", warm", WARM)]:
                        results.setdefault(f"PyTorch, {layout}{allocator}", []).append(run(command, extra))
            median = lambda name, key: statistics.median(result[key] for result in results[name])
            for name in results:
                ratio = median(name, "wall") / median("ours", "wall")
                figures = f"{median(name, 'voxels_per_second') / 1e6:.3f} | {median(name, 'cpu'):.2f} | {median(name, 'memory'):.0f}"
                lines.append(f"| {network} | {threads} | {' → '.join(piece)} | {name} | {figures} | {ratio:.2f} |")
                print(lines[-1], flush=True)
if options.sampler:
    lines += ["", "## sampler", "", f"`sampler {options.sampler} {options.batches} WORKERS`, medians of interleaved rounds", ""]
    lines += ["| program | workers | batches a second | CPU ms a batch | ratio |", "|---|---|---|---|---|"]
    for workers in [1, 2]:
        programs = {"ours": [target / "sampler", options.sampler, str(options.batches), str(workers)]}
        if options.gunpowder:
            some = max(options.batches // 5, 1)
            programs["gunpowder"] = [sys.executable, here / "sampler_gunpowder.py", options.gunpowder, str(some), str(workers)]
        rates = {name: [] for name in programs}
        cpu_ms = {}
        for _ in range(options.rounds):
            for name, command in programs.items():
                result = run(command)
                rates[name].append(result["batches_per_second"])
                cpu_ms[name] = result.get("cpu_ms_per_batch")
        ours = statistics.median(rates["ours"])
        for name, each in rates.items():
            rate = statistics.median(each)
            spent = f"{cpu_ms[name]:.0f}" if cpu_ms[name] else "–"
            lines.append(f"| {name} | {workers} | {rate:.2f} | {spent} | {ours / rate:.1f} |")
text = "\n".join(lines) + "\n"
if options.out:
    options.out.write_text(text)
print(text)
