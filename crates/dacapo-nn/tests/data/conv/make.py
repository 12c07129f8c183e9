"""Writes errors.json: how exact PyTorch's convolutions are in float32, beside float64, for layers as the examples'
networks have them (smaller). Inputs are uniform in -1..1, as in `src/conv/tests/mod.rs`; the mean of three draws.

    pip install torch==2.13.0 && python make.py
"""

import json

import torch
from torch.nn import functional as F

torch.manual_seed(7)
torch.set_num_threads(1)

LAYERS = [
    # channels, input, kernel, stride, padding, transposed
    ([1, 12], [16, 18, 20], [3, 3, 3], 1, 0, False),
    ([12, 12], [16, 18, 20], [3, 3, 3], 1, 0, False),
    ([12, 36], [14, 14, 14], [3, 3, 3], 1, 0, False),
    ([36, 36], [12, 12, 12], [3, 3, 3], 1, 0, False),
    ([36, 108], [10, 10, 10], [3, 3, 3], 1, 0, False),
    ([108, 108], [8, 8, 8], [3, 3, 3], 1, 0, False),
    ([144, 36], [10, 10, 10], [3, 3, 3], 1, 0, False),
    ([48, 12], [14, 14, 14], [3, 3, 3], 1, 0, False),
    ([24, 24], [14, 14, 14], [3, 3, 3], 1, 1, False),
    ([96, 96], [8, 8, 8], [3, 3, 3], 1, 1, False),
    ([1, 24], [20, 20, 20], [4, 4, 4], 2, 1, False),
    ([24, 9], [12, 12, 12], [4, 4, 4], 2, 1, True),
    ([36, 12], [10, 10, 10], [2, 2, 2], 2, 0, True),
    ([48, 24], [16, 16, 16], [1, 1, 1], 1, 0, False),
    ([16, 16], [8, 24, 24], [1, 3, 3], 1, 0, False),
    ([32, 64], [1, 40, 40], [1, 3, 3], 1, 1, False),
    ([64, 64], [1, 70, 33], [1, 3, 3], 1, 1, False),
    ([36, 108], [6, 20, 20], [1, 3, 3], 1, 0, False),
    ([192, 64], [1, 24, 24], [1, 3, 3], 1, 1, False),
    ([16, 16], [14, 14, 14], [3, 3, 3], 1, 1, False),
    ([96, 32], [12, 12, 12], [3, 3, 3], 1, 1, False),
    ([64, 64], [10, 10, 10], [3, 3, 3], 1, 1, False),
    ([64, 128], [8, 8, 8], [3, 3, 3], 1, 1, False),
    ([24, 24], [6, 24, 24], [1, 3, 3], 1, 0, False),
    ([36, 36], [6, 20, 20], [1, 3, 3], 1, 0, False),
    ([32, 32], [1, 48, 48], [1, 3, 3], 1, 1, False),
    ([128, 128], [1, 32, 32], [1, 3, 3], 1, 1, False),
    ([256, 256], [1, 20, 20], [1, 3, 3], 1, 1, False),
    ([24, 2], [12, 12, 12], [4, 4, 4], 2, 1, True),
    ([12, 1], [12, 12, 12], [4, 4, 4], 2, 1, True),
    ([48, 24], [10, 10, 10], [4, 4, 4], 2, 1, True),
]


def gradients(channels, size, kernel, stride, padding, transposed):
    strides = [1 if k == 1 and n == 1 else stride for k, n in zip(kernel, size)]
    paddings = [0 if k == 1 and n == 1 else padding for k, n in zip(kernel, size)]
    function = F.conv_transpose3d if transposed else F.conv3d
    order = channels if transposed else channels[::-1]

    def run(x, w, b, gy):
        tensors = [t.clone().requires_grad_() for t in (x, w, b)]
        y = function(*tensors, stride=strides, padding=paddings)
        return y, lambda gy: torch.autograd.grad(y, tensors, gy)

    def uniform(*shape):
        return 2 * torch.rand(shape) - 1

    x, w, b = uniform(1, channels[0], *size), uniform(*order, *kernel), uniform(channels[1])
    y, single = run(x, w, b, None)
    gy = uniform(*y.shape)
    _, double = run(x.double(), w.double(), b.double(), None)
    pairs = list(zip(single(gy), double(gy.double())))
    # A sum may be 0 by chance: the bias' is not set beside less than a random sum is.
    sizes = [pairs[0][1].norm(), pairs[1][1].norm(), max(pairs[2][1].norm(), gy.double().norm())]
    return [float((a.double() - b).norm() / size) for (a, b), size in zip(pairs, sizes)]


cases = []
for channels, size, kernel, stride, padding, transposed in LAYERS:
    draws = [gradients(channels, size, kernel, stride, padding, transposed) for _ in range(3)]
    means = [float(f"{sum(values) / 3:.3g}") for values in zip(*draws)]
    cases.append(
        {
            "channels": channels,
            "input": size,
            "kernel": kernel,
            "stride": stride,
            "padding": padding,
            "transposed": transposed,
            "gradients": means,
        }
    )
with open("errors.json", "w") as file:
    file.write("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")
