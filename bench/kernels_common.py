"""What the measurements of kernels share: programs that are run in turn, and the table of what they took."""

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

here = Path(__file__).parent
# What the tests ask of the same programs.
sys.path.append(str(here / "../crates/dacapo-kernels/tests/data"))
folder = here / "target"


def arguments(description):
    """The options that all have; more can be added before `parse_args`."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labels", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--peer", nargs=2, metavar=("PROGRAM", "CASE"), help="measures one program on one case, and ends")
    return parser


def binary(name):
    return Path(os.environ.get("CARGO_TARGET_DIR", here / "target")) / "release" / name


def peer(script, data, options, program, case):
    """The command that measures a peer in a process of its own."""
    return [sys.executable, script, data, "--threads", options.threads, "--peer", program, case]


def memory(name):
    """A line of /proc/self/status in MiB: `VmRSS` is now, `VmHWM` the most so far."""
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name)) / 1024


def measured(work, seconds=0):
    """Prints what `work` takes, done once, or for so many seconds."""
    # From here on the peak is that of the kernel.
    Path("/proc/self/clear_refs").write_text("5")
    before, wall, cpu, times = memory("VmRSS"), time.perf_counter(), time.process_time(), 0
    while times == 0 or time.perf_counter() - wall < seconds:
        work()
        times += 1
    wall, cpu = (time.perf_counter() - wall) / times, (time.process_time() - cpu) / times
    print(json.dumps({"wall": wall, "cpu": cpu, "memory": max(0, memory("VmHWM") - before)}))


def run(command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{command}\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def in_turn(rounds, commands):
    """The medians of what each command takes, by its (case, program); every round runs all of them."""
    results = {}
    for _ in range(rounds):
        for key, command in commands.items():
            results.setdefault(key, []).append(run(command))
    return {key: {k: statistics.median(one[k] for one in found) for k in found[0]} for key, found in results.items()}


def heading(title, options, columns):
    cpu = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), platform.machine())
    threads = f"{options.threads} thread{'s' if options.threads > 1 else ''}"
    return [
        f"# {title}, {datetime.date.today()}, {cpu}, {os.cpu_count()} cores, {threads}",
        "",
        f"Medians of {options.rounds} interleaved rounds; load average {os.getloadavg()[1]:.1f}."
        f" Made by `python {Path(sys.argv[0]).name}`.",
        "",
        f"| {' | '.join(columns)} | program | CPU ns a voxel | wall ns a voxel | bytes a voxel | CPU time of ours |",
        "|---" * (len(columns) + 5) + "|",
    ]


def rows(medians, voxels, *columns):
    """A line for each program: `voxels` are those of a case."""
    for (case, program), median in medians.items():
        # Of tiny inputs the clock may not have ticked.
        ratio = median["cpu"] / max(medians[case, "ours"]["cpu"], 1e-9)
        cells = [f"{median[key] * 1e9 / voxels(case):.2f}" for key in ["cpu", "wall"]]
        cells.append(f"{median['memory'] * 2**20 / voxels(case):.1f}")
        line = f"| {' | '.join([*columns, case, program, *cells])} | {ratio:.2f} |"
        print(line, flush=True)
        yield line
