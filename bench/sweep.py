"""What `dacapo sweep` takes for 50 thresholds beside one, reading the arrays included; writes a table.

    python segmentation_peers.py data DIR FIB25
    python segmentation_peers.py prediction DIR PREDICTION
    cargo build --release  (of the project, not of bench)
    python sweep.py DIR [--dacapo ../target/release/dacapo] [--rounds 3]

Predictions and labels are those of `segmentation.py`, mirrored to 256³, as NumPy arrays. Each round runs all commands
once, in turn, on one thread; shown are medians of CPU seconds.
"""

import argparse
import resource
import statistics
import subprocess
import tempfile
from pathlib import Path

import numpy as np

here = Path(__file__).parent
parser = argparse.ArgumentParser()
parser.add_argument("data", type=Path)
parser.add_argument("--dacapo", type=Path, default=here / "../target/release/dacapo")
parser.add_argument("--rounds", type=int, default=3)
options = parser.parse_args()
if not options.dacapo.exists():
    parser.error(f"{options.dacapo} is not there: build it, or say where it is with --dacapo")

EDGE, LARGE = 128, 256
# Boundaries, as bytes, and what they are called.
PREDICTIONS = {
    "of a network (FIB-25)": "predicted_u8.bin",
    "labels with noise": "boundary_u8.bin",
    "the same, sure of itself": "saturated.bin",
}
for file in PREDICTIONS.values():
    if not (options.data / file).exists():
        parser.error(f"{options.data} has no {file}: segmentation_peers.py makes it")
VALUES = {"one": "0.5", "50": ",".join(f"{(5 * i + 2) / 255:.4f}" for i in range(50))}


def cpu_seconds(command):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def save(path, values):
    cube = values.reshape((EDGE,) * 3)
    np.save(path, np.pad(cube, [(0, LARGE - EDGE)] * 3, "symmetric"))


with tempfile.TemporaryDirectory() as folder:
    folder = Path(folder)
    save(folder / "labels.npy", np.fromfile(options.data / "labels.bin", np.uint64))
    commands = {}
    for name, file in PREDICTIONS.items():
        if file == "saturated.bin":
            boundary = np.round(255 * np.fromfile(options.data / file, np.float32)).astype(np.uint8)
        else:
            boundary = np.fromfile(options.data / file, np.uint8)
        prediction = (folder / file).with_suffix(".npy")
        save(prediction, 255 - boundary)
        for count, values in VALUES.items():
            command = [options.dacapo, "--quiet", "--threads", 1, "sweep", prediction, folder / "labels.npy"]
            commands[name, count] = [*command, "--method", "components", "--values", values]
    seconds = {key: [] for key in commands}
    for _ in range(options.rounds):
        for key, command in commands.items():
            seconds[key].append(cpu_seconds(command))

print("| prediction | one threshold, CPU s | 50 thresholds | times |")
print("|---|---|---|---|")
for name in PREDICTIONS:
    one, many = (statistics.median(seconds[name, count]) for count in VALUES)
    print(f"| {name} | {one:.2f} | {many:.2f} | {many / one:.1f} |")
