"""The same networks in PyTorch: python torch_unet.py NETWORK THREADS REPETITIONS LAYOUT

LAYOUT is contiguous or channels_last_3d. Prints one JSON object, as the `engine` binary does.
"""

import json
import resource
import sys
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

name, threads, repetitions, layout = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
torch.set_num_threads(threads)
torch.manual_seed(0)


def crop(x, n):
    o = (x.shape[-1] - n) // 2
    return x[..., o : o + n, o : o + n, o : o + n]


class Valid(nn.Module):
    """92³ → 52³, widths 12/36/108, upsampled by repetition and a 1³ convolution."""

    def __init__(self, channels):
        super().__init__()
        both = lambda a, b: nn.Sequential(nn.Conv3d(a, b, 3), nn.ReLU(True), nn.Conv3d(b, b, 3), nn.ReLU(True))
        self.e1, self.e2, self.m = both(1, 12), both(12, 36), both(36, 108)
        self.u2, self.u1 = nn.Conv3d(108, 36, 1), nn.Conv3d(36, 36, 1)
        self.d2, self.d1 = both(72, 36), both(48, 12)
        self.head = nn.Conv3d(12, channels, 1)

    def forward(self, x):
        a = self.e1(x)
        b = self.e2(F.max_pool3d(a, 2))
        c = self.m(F.max_pool3d(b, 2))
        # The convolution before the repetition gives the same with an eighth of the work.
        u = F.interpolate(F.relu(self.u2(c)), scale_factor=2)
        d = self.d2(torch.cat([crop(b, u.shape[-1]), u], 1))
        u = F.interpolate(F.relu(self.u1(d)), scale_factor=2)
        return self.head(self.d1(torch.cat([crop(a, u.shape[-1]), u], 1)))


class Block(nn.Module):
    def __init__(self, a, b):
        super().__init__()
        self.c1, self.n1 = nn.Conv3d(a, b, 3, padding=1), nn.GroupNorm(8, b)
        self.c2, self.n2 = nn.Conv3d(b, b, 3, padding=1), nn.GroupNorm(8, b)
        self.r = nn.Conv3d(a, b, 1) if a != b else nn.Identity()

    def forward(self, x):
        y = self.n2(self.c2(F.relu(self.n1(self.c1(x)))))
        return F.relu(y + self.r(x))


class Stem(nn.Module):
    """Residual, group norm, same padding, trunk 24/48/96 at half resolution."""

    def __init__(self, channels):
        super().__init__()
        self.stem = nn.Conv3d(1, 24, 4, 2, 1)
        self.e1, self.e2, self.m = Block(24, 24), Block(24, 48), Block(48, 96)
        self.u2, self.u1 = nn.Conv3d(96, 48, 1), nn.Conv3d(48, 24, 1)
        self.d2, self.d1 = Block(96, 48), Block(48, 24)
        self.head = nn.ConvTranspose3d(24, channels, 4, 2, 1)

    def forward(self, x):
        a = self.e1(self.stem(x))
        b = self.e2(F.max_pool3d(a, 2))
        c = self.m(F.max_pool3d(b, 2))
        d = self.d2(torch.cat([b, F.interpolate(F.relu(self.u2(c)), scale_factor=2)], 1))
        return self.head(self.d1(torch.cat([a, F.interpolate(F.relu(self.u1(d)), scale_factor=2)], 1)))


network, side, out, channels = {"valid": (Valid, 92, 52, 2), "stem": (Stem, 80, 80, 9)}[name]
model = network(channels)
x = torch.rand(1, 1, side, side, side) - 0.5
if layout == "channels_last_3d":
    model, x = model.to(memory_format=torch.channels_last_3d), x.to(memory_format=torch.channels_last_3d)
target = (torch.rand(1, channels, out, out, out) > 0.5).float()
weight = torch.ones_like(target)
optimizer = torch.optim.AdamW(model.parameters(), 1e-3)


def step():
    optimizer.zero_grad()
    loss = (F.binary_cross_entropy_with_logits(model(x), target, reduction="none") * weight).sum() / weight.sum()
    loss.backward()
    optimizer.step()


def forward():
    with torch.inference_mode():
        torch.sigmoid(model(x))


def measure(work):
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(repetitions):
        work()
    return (time.perf_counter() - wall) / repetitions, (time.process_time() - cpu) / repetitions


peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before = peak()
forward()
forward_memory = peak() - before
step()
step_memory = peak() - before
steps, forwards = measure(step), measure(forward)
print(
    json.dumps(
        dict(
            step_wall=steps[0],
            step_cpu=steps[1],
            forward_wall=forwards[0],
            forward_cpu=forwards[1],
            step_memory=step_memory,
            forward_memory=forward_memory,
        )
    )
)
