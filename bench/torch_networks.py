"""The networks of `src/lib.rs` in PyTorch."""

import torch
import torch.nn as nn
import torch.nn.functional as F


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
