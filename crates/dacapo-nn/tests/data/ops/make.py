"""Writes ops.json: single operations as PyTorch does them, in float64, rounded to float32 at the end.

    pip install torch==2.13.0 && python make.py
"""

import json

import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(7)


def rounded(tensor):
    values = tensor.detach().to(torch.float32)
    return {"shape": list(values.shape), "data": [float(f"{v:.9g}") for v in values.flatten()]}


def case(function, shape, parameters=()):
    # Inputs are exact in float32.
    x = (3 * torch.randn(shape)).to(torch.float64).requires_grad_()
    y = function(x)
    gy = torch.randn(y.shape).to(torch.float64)
    parameters = list(parameters)
    gx, *gradients = torch.autograd.grad(y, [x, *parameters], gy)
    return {
        "x": rounded(x),
        "gy": rounded(gy),
        "y": rounded(y),
        "gx": rounded(gx),
        "parameters": [rounded(p) for p in parameters],
        "gradients": [rounded(g) for g in gradients],
    }


def norm(module, shape):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape))
    module = module.to(torch.float64)
    return case(module, shape, module.parameters())


def linear(shape, factor, corners):
    if shape[2] == 1:
        # Planes: PyTorch has them without the z axis.
        def planes(x):
            return F.interpolate(
                x[:, :, 0], scale_factor=factor[1:], mode="bilinear", align_corners=corners
            ).unsqueeze(2)

        return case(planes, shape)
    return case(
        lambda x: F.interpolate(x, scale_factor=factor, mode="trilinear", align_corners=corners), shape
    )


cases = {
    "relu": case(F.relu, (1, 2, 2, 3, 4)),
    "leaky_relu": case(F.leaky_relu, (1, 2, 2, 3, 4)),
    "gelu": case(F.gelu, (2, 3, 2, 3, 4)),
    "sigmoid": case(torch.sigmoid, (1, 2, 2, 3, 4)),
    "softmax": case(lambda x: F.softmax(x, dim=1), (2, 5, 1, 3, 4)),
    "group_norm": norm(nn.GroupNorm(2, 4), (2, 4, 2, 3, 4)),
    "instance_norm": norm(nn.InstanceNorm3d(4, affine=True), (2, 4, 2, 3, 4)),
    "trilinear": linear((1, 2, 2, 3, 4), (2, 3, 2), False),
    "trilinear_corners": linear((1, 2, 2, 3, 4), (2, 3, 2), True),
    "bilinear": linear((1, 2, 1, 4, 5), (1, 2, 2), False),
}
with open("ops.json", "w") as file:
    json.dump(cases, file)
