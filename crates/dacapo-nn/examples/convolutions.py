"""The layers of convolutions.rs in PyTorch and in our engine, in turns; milliseconds, the best of all rounds.

    cargo build --release -p dacapo-nn --example convolutions
    python convolutions.py BINARY [THREADS] [PART OF A NAME] [ROUNDS]

MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=4294967296 spares PyTorch the page faults of large outputs.
"""
import subprocess
import sys
import time

import torch
import torch.nn.functional as F

K3 = (3, 3, 3)
LAYERS = [  # name, in, out, input, kernel, stride, padding, transposed: in step with convolutions.rs
    ("valid 1-12 92", 1, 12, (92,) * 3, K3, 1, 0, False),
    ("valid 12-12 90", 12, 12, (90,) * 3, K3, 1, 0, False),
    ("valid 12-36 44", 12, 36, (44,) * 3, K3, 1, 0, False),
    ("valid 36-36 42", 36, 36, (42,) * 3, K3, 1, 0, False),
    ("valid 36-108 20", 36, 108, (20,) * 3, K3, 1, 0, False),
    ("valid 108-108 18", 108, 108, (18,) * 3, K3, 1, 0, False),
    ("valid 144-36 32", 144, 36, (32,) * 3, K3, 1, 0, False),
    ("valid 36-36 30", 36, 36, (30,) * 3, K3, 1, 0, False),
    ("valid 48-12 56", 48, 12, (56,) * 3, K3, 1, 0, False),
    ("valid 12-12 54", 12, 12, (54,) * 3, K3, 1, 0, False),
    ("same 24-24 40", 24, 24, (40,) * 3, K3, 1, 1, False),
    ("same 48-24 40", 48, 24, (40,) * 3, K3, 1, 1, False),
    ("same 24-48 20", 24, 48, (20,) * 3, K3, 1, 1, False),
    ("same 48-48 20", 48, 48, (20,) * 3, K3, 1, 1, False),
    ("same 96-48 20", 96, 48, (20,) * 3, K3, 1, 1, False),
    ("same 48-96 10", 48, 96, (10,) * 3, K3, 1, 1, False),
    ("same 96-96 10", 96, 96, (10,) * 3, K3, 1, 1, False),
    ("stem 1-24 80", 1, 24, (80,) * 3, (4,) * 3, 2, 1, False),
    ("head 24-9 40 transposed", 24, 9, (40,) * 3, (4,) * 3, 2, 1, True),
    ("head 12-1 40 transposed", 12, 1, (40,) * 3, (4,) * 3, 2, 1, True),
    ("up 48-24 20 transposed", 48, 24, (20,) * 3, (2,) * 3, 2, 0, True),
    ("one 12-2 52", 12, 2, (52,) * 3, (1,) * 3, 1, 0, False),
    ("one 48-24 40", 48, 24, (40,) * 3, (1,) * 3, 1, 0, False),
    ("one 96-48 20", 96, 48, (20,) * 3, (1,) * 3, 1, 0, False),
    ("anisotropic 16-16 32x64x64", 16, 16, (32, 64, 64), (1, 3, 3), 1, 0, False),
    ("plane 32-32 256", 32, 32, (1, 256, 256), (1, 3, 3), 1, 1, False),
    ("plane 128-128 64", 128, 128, (1, 64, 64), (1, 3, 3), 1, 1, False),
    ("five 8-8 32", 8, 8, (32,) * 3, (5,) * 3, 1, 2, False),
]
binary, threads = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1
part = sys.argv[3] if len(sys.argv) > 3 else ""
rounds = int(sys.argv[4]) if len(sys.argv) > 4 else 2
torch.set_num_threads(threads)


def best(f):
    times, begin = [], time.perf_counter()
    while len(times) < 3 or (time.perf_counter() - begin < 0.4 and len(times) < 60):
        start = time.perf_counter()
        f()
        times.append(time.perf_counter() - start)
    return min(times) * 1e3


def peer(ci, co, shape, kernel, stride, padding, transposed, layout):
    plane = shape[0] == 1
    dims = 2 if plane else 3
    shape, kernel = shape[-dims:], kernel[-dims:]
    padding = tuple(padding if k > 1 else 0 for k in kernel)
    convolve = getattr(F, f"conv{'_transpose' if transposed else ''}{dims}d")
    memory = torch.contiguous_format if not layout else (torch.channels_last if plane else torch.channels_last_3d)
    x = torch.rand(1, ci, *shape).to(memory_format=memory).requires_grad_(ci > 1)
    w = (torch.rand(*((ci, co) if transposed else (co, ci)), *kernel) - 0.5).to(memory_format=memory).requires_grad_()
    bias = torch.rand(co, requires_grad=True)

    def run():
        return F.relu(convolve(x, w, bias, stride=stride, padding=padding), inplace=True)

    with torch.no_grad():
        forward = best(run)
    y = run()
    gy = torch.rand_like(y)
    inputs = [t for t in (x, w, bias) if t.requires_grad]
    return forward, best(lambda: torch.autograd.grad(y, inputs, gy, retain_graph=True))


print(f"{threads} threads{'':19} ours: forward backward   PyTorch contiguous   channels last   ratio to the best")
for name, *layer in LAYERS:
    if part not in name:
        continue
    times = []
    for _ in range(rounds):
        ours = subprocess.run([binary, str(threads), name], capture_output=True, text=True, check=True).stdout
        numbers = ours[len(name):].split()
        times.append([float(numbers[0]), float(numbers[1]), *peer(*layer, False), *peer(*layer, True)])
    f, b, pf, pb, cf, cb = (min(t) for t in zip(*times))
    print(f"{name:28} {f:9.2f} {b:9.2f}   {pf:9.2f} {pb:9.2f}   {cf:9.2f} {cb:9.2f}"
          f"   {min(pf, cf) / f:5.2f} {min(pb, cb) / b:5.2f}", flush=True)
