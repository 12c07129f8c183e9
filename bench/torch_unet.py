"""The same networks in PyTorch: python torch_unet.py NETWORK THREADS REPETITIONS LAYOUT

LAYOUT is contiguous or channels_last. Prints one JSON object, as the `engine` binary does.
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


def crop(x, like):
    at = [slice((a - b) // 2, (a - b) // 2 + b) for a, b in zip(x.shape[2:], like.shape[2:])]
    return x[(slice(None), slice(None), *at)]


def plain(dims, a, b, kernels, same):
    conv = nn.Conv2d if dims == 2 else nn.Conv3d
    layers = []
    for kernel in kernels:
        layers += [conv(a, b, kernel, padding=[k // 2 if same else 0 for k in kernel]), nn.ReLU(True)]
        a = b
    return nn.Sequential(*layers)


class Residual(nn.Module):
    def __init__(self, a, b):
        super().__init__()
        self.c1, self.n1 = nn.Conv3d(a, b, 3, padding=1), nn.GroupNorm(8, b)
        self.c2, self.n2 = nn.Conv3d(b, b, 3, padding=1), nn.GroupNorm(8, b)
        self.r = nn.Conv3d(a, b, 1) if a != b else nn.Identity()

    def forward(self, x):
        y = self.n2(self.c2(F.relu(self.n1(self.c1(x)))))
        return F.relu(y + self.r(x))


class UNet(nn.Module):
    """Two convolutions a level; upsampled by repetition behind a convolution of kernel 1, which there gives the same
    with an eighth of the work. `narrow`: the first level's upsampled features are as wide as the level."""

    def __init__(self, widths, channels, factor=(2, 2, 2), kernels=None, same=False, residual=False, stem=False):
        super().__init__()
        dims = len(factor)
        conv = nn.Conv2d if dims == 2 else nn.Conv3d
        kernels = kernels or [[3] * dims] * 2
        block = lambda a, b: Residual(a, b) if residual else plain(dims, a, b, kernels, same)
        self.stem = nn.Conv3d(1, widths[0], 4, 2, 1) if stem else nn.Identity()
        self.down = nn.ModuleList(block(a, b) for a, b in zip([widths[0] if stem else 1, *widths], widths))
        above = [widths[0] if stem else widths[1], *widths[1:-1]]
        self.narrow = nn.ModuleList(conv(below, wide, 1) for below, wide in zip(widths[1:], above))
        self.up = nn.ModuleList(block(a + b, b) for a, b in zip(above, widths))
        self.head = nn.ConvTranspose3d(widths[0], channels, 4, 2, 1) if stem else conv(widths[0], channels, 1)
        self.factor = factor

    def forward(self, x):
        x, skips = self.stem(x), []
        pool = F.max_pool2d if len(self.factor) == 2 else F.max_pool3d
        for i, block in enumerate(self.down):
            x = block(x if i == 0 else pool(x, self.factor))
            skips.append(x)
        skips.pop()
        for skip, narrow, block in zip(skips[::-1], self.narrow[::-1], self.up[::-1]):
            x = F.interpolate(F.relu(narrow(x)), scale_factor=tuple(map(float, self.factor)))
            x = block(torch.cat([crop(skip, x), x], 1))
        return self.head(x)


THIN = [[1, 3, 3], [3, 3, 3]]
NETWORKS = {  # batch, input shape, output channels, the network
    "valid": (1, [92] * 3, 2, lambda c: UNet([12, 36, 108], c)),
    "batch": (4, [60] * 3, 2, lambda c: UNet([12, 36, 108], c)),
    "residual": (1, [64] * 3, 9, lambda c: UNet([16, 32, 64, 128], c, same=True, residual=True)),
    "stem": (1, [80] * 3, 9, lambda c: UNet([24, 48, 96], c, same=True, residual=True, stem=True)),
    "anisotropic": (1, [28, 116, 116], 3, lambda c: UNet([12, 36, 108], c, (1, 2, 2), THIN)),
    "plane": (1, [512] * 2, 2, lambda c: UNet([32, 64, 128, 256], c, (2, 2), same=True)),
}
batch, shape, channels, build = NETWORKS[name]
model = build(channels)
x = torch.rand(batch, 1, *shape) - 0.5
if layout == "channels_last":
    last = torch.channels_last if len(shape) == 2 else torch.channels_last_3d
    model, x = model.to(memory_format=last), x.to(memory_format=last)
target = (torch.rand(build(channels).to("meta")(torch.empty(x.shape, device="meta")).shape) > 0.5).float()
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
